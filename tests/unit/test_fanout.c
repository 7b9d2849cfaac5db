// What each viewer gets of a stream, byte for byte: headers, numbers and addresses against a naive
// model, over rollovers, loss, reordering and repeats; and what is sent again.
#include "../../dataplane/eal.h"
#include "../../dataplane/fanout.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define VIEWERS 6
#define BODY 300

static struct world world;
static struct client publisher, viewer[VIEWERS];

// The model of one viewer: everything follows from its first packet.
static struct model {
    bool started;
    uint64_t first_index; // the publisher's
    uint64_t first_number;
    unsigned got;
    uint8_t sealed[2048]; // the last packet as it came
    size_t sealed_size;
} model[VIEWERS];

static const enum srtp_profile profiles[VIEWERS] = {
    PROFILE_AEAD_AES_128_GCM, PROFILE_AES128_CM_SHA1_80, PROFILE_AEAD_AES_256_GCM,
    PROFILE_AEAD_AES_128_GCM, PROFILE_AES128_CM_SHA1_80, PROFILE_AEAD_AES_128_GCM};

static void start(uint32_t viewers)
{
    world_open_stream(&world, STREAM_ID, 0, 0);
    memset(model, 0, sizeof(model));
    memset(&publisher, 0, sizeof(publisher));
    memset(viewer, 0, sizeof(viewer));
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 0, PROFILE_AEAD_AES_128_GCM, true);
    for (uint32_t v = 0; v < viewers; v++)
        world_join(&world, &viewer[v], ROLE_PLAY, STREAM_ID, 0, 1 + v, profiles[v], v % 3 != 2);
    world.out_count = 0;
}

static void stop(uint32_t viewers)
{
    for (uint32_t v = 0; v < viewers; v++)
        assert_true(world_leave(&world, &viewer[v]));
    assert_true(world_leave(&world, &publisher));
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    world_tell(&world, 0, &close);
    world_turn(&world);
    world.out_count = 0;
}

static void fill(uint8_t *body, uint64_t index)
{
    for (size_t i = 0; i < BODY; i++)
        body[i] = (uint8_t)(index * 7 + i);
}

static void publish(uint32_t ssrc, uint64_t index, bool keyframe)
{
    uint8_t wire[1600], body[BODY];
    fill(body, index);
    size_t size = world_seal(&world, &publisher, ssrc, index, keyframe, body, BODY, wire);
    world_inject(&world, 0, &publisher.addr, world.config.media4.port, wire, size);
    world_turn(&world);
}

// Opens a viewer's packet; its 48-bit index, or UINT64_MAX if it does not open.
static uint64_t open_frame(struct client *client, unsigned source, const struct world_frame *frame,
                           uint8_t *plain, struct rtp_view *view)
{
    size_t size;
    uint64_t index;
    if (protect_open(world.crypto, &client->rx, &client->rtp[source],
                     frame->bytes + frame->parsed.payload, frame->parsed.length, plain, &size,
                     &index))
        return UINT64_MAX;
    assert_int_equal(rtp_parse(plain, size, view), 0);
    return index;
}

// The only frame that went to this client, or NULL.
static const struct world_frame *frame_to(const struct client *client)
{
    const struct world_frame *found = NULL;
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        if (parsed->class != CLASS_RTP || memcmp(&parsed->dst, &client->addr, sizeof(client->addr)))
            continue;
        assert_null(found);
        found = &world.out[i];
    }
    return found;
}

// A video packet that a viewer got, against the publisher's.
static void check_video(unsigned v, const struct world_frame *frame, uint64_t published)
{
    struct client *client = &viewer[v];
    struct model *m = &model[v];
    uint8_t plain[2048], body[BODY];
    struct rtp_view view;
    uint64_t index = open_frame(client, 0, frame, plain, &view);
    assert_true(index != UINT64_MAX);
    if (!m->started) {
        *m = (struct model){.started = true, .first_index = published, .first_number = index};
        assert_true(index < 0x8000); // early loss cannot shift the receiver's rollover counter
    }
    assert_int_equal(index, m->first_number + (published - m->first_index));
    assert_int_equal(view.seq, index & 0xffff);
    assert_int_equal(view.ssrc, client->rtp[0].ssrc);
    assert_int_equal(view.timestamp, (uint32_t)(published * 3000));
    assert_int_equal(view.pt, 96);
    assert_true(view.marker);
    assert_int_equal(view.header, RTP_HEADER);
    fill(body, published);
    assert_memory_equal(plain + view.header + 10, body, BODY);
    assert_memory_equal(&frame->parsed.src.ip, &world.config.media4.ip, 16);
    assert_int_equal(frame->parsed.src.port, world.config.media4.port);
    m->got++;
    m->sealed_size = frame->parsed.length;
    memcpy(m->sealed, frame->bytes + frame->parsed.payload, m->sealed_size);
}

static void expect_video(uint32_t viewers, uint64_t index)
{
    for (unsigned v = 0; v < viewers; v++) {
        const struct world_frame *frame = frame_to(&viewer[v]);
        assert_non_null(frame);
        check_video(v, frame, index);
    }
    world.out_count = 0;
}

static void test_numbers_over_rollovers(void **state)
{
    // Jumps stay within what a receiver can tell from reordering (RFC 3711 3.3.1); 2^15 apart,
    // sequence numbers roll over twice.
    uint64_t index = 65000;
    start(VIEWERS);
    publish(VIDEO_SSRC, index, true);
    expect_video(VIEWERS, index);
    while (index < 65000 + 2 * 65536) {
        index += index % 65536 < 64 || index % 65536 > 65472 ? 1 : (uint64_t)random() % 4000;
        publish(VIDEO_SSRC, ++index, false);
        expect_video(VIEWERS, index);
    }
    stop(VIEWERS);
}

static void test_reordered_and_repeated(void **state)
{
    enum { WINDOW = 16, PACKETS = 640 };
    static uint8_t seen[PACKETS];
    memset(seen, 0, sizeof(seen));
    start(VIEWERS);
    publish(VIDEO_SSRC, 65500, true);
    expect_video(VIEWERS, 65500);
    unsigned fresh = 0;
    for (unsigned i = 0; i < 2 * PACKETS; i++) {
        unsigned at = i / 2 + (unsigned)random() % WINDOW;
        if (at >= PACKETS)
            continue;
        publish(VIDEO_SSRC, 65501 + at, false);
        if (seen[at]) {
            for (unsigned v = 0; v < VIEWERS; v++)
                assert_null(frame_to(&viewer[v]));
            world.out_count = 0;
            continue;
        }
        seen[at] = 1;
        fresh++;
        expect_video(VIEWERS, 65501 + at);
    }
    assert_true(fresh > PACKETS / 2);
    for (unsigned v = 0; v < VIEWERS; v++)
        assert_int_equal(model[v].got, fresh + 1);
    stop(VIEWERS);
}

static void test_video_begins_with_a_key_frame(void **state)
{
    start(2);
    publish(VIDEO_SSRC, 10, false);
    assert_null(frame_to(&viewer[0]));
    publish(AUDIO_SSRC, 10, false); // sound need not wait
    assert_non_null(frame_to(&viewer[0]));
    world.out_count = 0;
    publish(VIDEO_SSRC, 11, true);
    expect_video(2, 11);
    // Older than the first: no number is left for it before that, and none is needed.
    publish(VIDEO_SSRC, 9, false);
    assert_null(frame_to(&viewer[0]));
    world.out_count = 0;
    publish(VIDEO_SSRC, 12, false);
    expect_video(2, 12);
    stop(2);
}

static void test_header_extensions_are_renumbered(void **state)
{
    uint8_t plain[2048];
    struct rtp_view view;
    struct rtp_ext ext;
    start(1);
    publish(AUDIO_SSRC, 5, false); // with the publisher's number 10
    const struct world_frame *frame = frame_to(&viewer[0]);
    assert_non_null(frame);
    assert_true(open_frame(&viewer[0], 1, frame, plain, &view) != UINT64_MAX);
    assert_int_equal(view.pt, 111);
    assert_int_equal(view.ssrc, viewer[0].rtp[1].ssrc);
    assert_true(rtp_ext_find(&view, 1, &ext));
    assert_int_equal(ext.length, 1);
    assert_int_equal(ext.data[0], 0x2a);
    assert_false(rtp_ext_find(&view, 10, &ext));
    world.out_count = 0;
    stop(1);
}

// Has the stream's packet that came `back` before its newest sent again.
static void send_again(unsigned v, unsigned back, bool rtx)
{
    struct worker *worker = &world.workers[0];
    struct session *session = tables_session(&worker->tables, viewer[v].id);
    struct track *track = &tables_stream(&worker->tables, STREAM_ID)->track[0];
    const struct media *packet = cache_get(&track->ring, track->next_index - 1 - back);
    assert_non_null(packet);
    fanout_resend(worker, session, track, tables_sub(&worker->tables, session, 0), packet, rtx);
    fanout_resend_queued(worker);
    world_turn(&world);
}

static void test_plain_resend_is_the_very_packet(void **state)
{
    start(VIEWERS);
    for (uint64_t index = 65530; index < 65545; index++) {
        publish(VIDEO_SSRC, index, index == 65530);
        expect_video(VIEWERS, index);
        for (unsigned v = 0; v < VIEWERS; v++) {
            send_again(v, 0, false);
            const struct world_frame *frame = frame_to(&viewer[v]);
            assert_non_null(frame);
            assert_int_equal(frame->parsed.length, model[v].sealed_size);
            assert_memory_equal(frame->bytes + frame->parsed.payload, model[v].sealed,
                                model[v].sealed_size);
            world.out_count = 0;
        }
    }
    stop(VIEWERS);
}

static void test_rtx_carries_the_original(void **state)
{
    uint8_t plain[2048], body[BODY];
    struct rtp_view view;
    uint16_t osn;
    uint64_t last = 0;
    start(1);
    for (uint64_t index = 65530; index < 65545; index++) {
        publish(VIDEO_SSRC, index, index == 65530);
        expect_video(1, index);
        for (int again = 0; again < 2; again++) { // the same packet twice: two indexes
            send_again(0, 0, true);
            const struct world_frame *frame = frame_to(&viewer[0]);
            assert_non_null(frame);
            uint64_t rtx = open_frame(&viewer[0], 2, frame, plain, &view);
            assert_true(rtx != UINT64_MAX);
            if (last)
                assert_int_equal(rtx, last + 1);
            last = rtx;
            assert_int_equal(view.ssrc, viewer[0].rtp[2].ssrc);
            assert_int_equal(view.pt, 97);
            assert_int_equal(view.timestamp, (uint32_t)(index * 3000));
            assert_int_equal(rtp_rtx_osn(&view, &osn), 0);
            assert_int_equal(osn, (model[0].first_number + index - model[0].first_index) & 0xffff);
            fill(body, index);
            assert_memory_equal(plain + view.header + RTP_RTX_OSN + 10, body, BODY);
            world.out_count = 0;
        }
    }
    stop(1);
}

static void test_no_mbuf_costs_packets_by_name_only(void **state)
{
    struct worker *worker = &world.workers[0];
    static struct rte_mbuf *taken[4096];
    unsigned n = 0;
    start(2);
    publish(VIDEO_SSRC, 100, true);
    expect_video(2, 100);
    uint64_t dropped = worker->stats->drop[DROP_no_mbuf];
    while (n < RTE_DIM(taken) && (taken[n] = rte_pktmbuf_alloc(worker->pools.tx)))
        n++;
    publish(VIDEO_SSRC, 101, false);
    assert_null(frame_to(&viewer[0]));
    assert_int_equal(worker->stats->drop[DROP_no_mbuf], dropped + 2);
    rte_pktmbuf_free_bulk(taken, n);
    publish(VIDEO_SSRC, 102, false);
    expect_video(2, 102); // the numbers go on: the viewer sees a gap of one and asks for it
    send_again(0, 1, false);
    assert_non_null(frame_to(&viewer[0]));
    world.out_count = 0;
    stop(2);
}

static int setup(void **state)
{
    srandom(3);
    return world_start(&world, &(struct abi_config){.workers = 1,
                                                    .max_sessions = 16,
                                                    .rx_mbufs = 1024,
                                                    .tx_mbufs = 1024,
                                                    .cache_mbufs = 1024});
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_over_rollovers),
        cmocka_unit_test(test_reordered_and_repeated),
        cmocka_unit_test(test_video_begins_with_a_key_frame),
        cmocka_unit_test(test_header_extensions_are_renumbered),
        cmocka_unit_test(test_plain_resend_is_the_very_packet),
        cmocka_unit_test(test_rtx_carries_the_original),
        cmocka_unit_test(test_no_mbuf_costs_packets_by_name_only),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
