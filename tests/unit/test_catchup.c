// A viewer's first pictures out of the ring: what it gets, in what order, how fast, and when the
// publisher is asked instead. Under a virtual clock; a packet is published every 10 ms.
#include "../../dataplane/catchup.h"
#include "../../dataplane/eal.h"
#include "../../dataplane/ingest.h"
#include "../../dataplane/rtcp.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define STEP_MS 10

static struct world world;
static struct client publisher;
static uint64_t next; // index of the publisher's next packet

static void join(struct client *client, enum session_role role, uint32_t slot)
{
    client->group = 0;
    world_connect(&world, client, role, STREAM_ID, 0, slot, true);
    world_key(&world, client, PROFILE_AEAD_AES_128_GCM);
}

static void publish(bool keyframe)
{
    world_publish(&world, &publisher, 0, next, keyframe, 200);
    world_turn(&world);
    next++;
}

static void publish_for(unsigned packets)
{
    for (unsigned i = 0; i < packets; i++) {
        world_pass(&world, STEP_MS);
        publish(false);
    }
}

// What a client was sent since the last look.
struct got {
    unsigned count, asked; // video packets; requests for a key frame
    uint16_t seq[1024];
    uint8_t mark[1024]; // which packet of the publisher it is
};

static void count_requests(struct client *client, const uint8_t *data, size_t length,
                           struct got *got)
{
    uint8_t plain[2048];
    size_t size;
    uint32_t index;
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    client->rtcp.ssrc = load_be32(data + 4);
    assert_int_equal(protect_rtcp_open(world.crypto, &client->rtcp_rx, &client->rtcp, data, length,
                                       plain, &size, &index),
                     0);
    rtcp_begin(&iter, plain, size);
    while (rtcp_next(&iter, &packet) == 1)
        got->asked += rtcp_is_pli(&packet);
}

static void take(struct client *client, struct got *got)
{
    memset(got, 0, sizeof(*got));
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        const uint8_t *data = world.out[i].bytes + parsed->payload;
        uint8_t plain[2048];
        size_t size;
        uint64_t index;
        struct rtp_view view;
        if (memcmp(&parsed->dst, &client->addr, sizeof(client->addr)) != 0)
            continue;
        if (parsed->class == CLASS_RTCP)
            count_requests(client, data, parsed->length, got);
        if (parsed->class != CLASS_RTP || load_be32(data + 8) != client->rtp[0].ssrc)
            continue;
        // Refuses what was there before: no index comes twice.
        assert_int_equal(protect_open(world.crypto, &client->rx, &client->rtp[0], data,
                                      parsed->length, plain, &size, &index),
                         0);
        assert_int_equal(rtp_parse(plain, size, &view), 0);
        got->seq[got->count] = view.seq;
        got->mark[got->count++] = plain[view.header + 10];
    }
    world.out_count = 0;
}

// In order without a gap, from the publisher's packet `first` on.
static void assert_run(const struct got *got, unsigned from, uint64_t first)
{
    for (unsigned i = from; i < got->count; i++) {
        assert_int_equal(got->seq[i], (uint16_t)(got->seq[0] + i));
        assert_int_equal(got->mark[i], (uint8_t)(first + i));
    }
}

static void start_stream(void)
{
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&publisher, ROLE_PUBLISH, 2);
    next = 100;
}

static void end_stream(void)
{
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    assert_true(world_leave(&world, &publisher));
    world_tell(&world, 0, &close);
    world_turn(&world);
    world.out_count = 0;
}

static unsigned asked_of_publisher(void)
{
    struct got got;
    take(&publisher, &got);
    return got.asked;
}

static void test_a_viewer_begins_with_the_last_key_frame(void **state)
{
    struct client viewer;
    struct got got;
    start_stream();
    publish(true);
    publish_for(20);
    uint64_t key = next;
    publish(true);
    publish_for(40); // 400 ms
    world_pass(&world, 10);
    asked_of_publisher();
    join(&viewer, ROLE_PLAY, 3);
    take(&viewer, &got);
    assert_in_range(got.count, 1, 2); // at once: the key frame
    assert_run(&got, 0, key);
    // The rest four times as fast as it came, never in one burst.
    for (unsigned at = got.count; at < 41; at += got.count) {
        world_pass(&world, STEP_MS);
        take(&viewer, &got);
        assert_in_range(got.count, 1, 5);
        assert_run(&got, 0, key + at);
        assert_true(world.now_ns < 3000000000ull);
    }
    // Level: what comes now comes at once, in its place.
    unsigned waiting = world.workers[0].catchup_count;
    assert_int_equal(waiting, 0);
    publish(false);
    take(&viewer, &got);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.mark[0], (uint8_t)(next - 1));
    world_pass(&world, 1500);
    assert_int_equal(asked_of_publisher(), 0);
    assert_true(world_leave(&world, &viewer));
    end_stream();
}

// While it catches up the stream goes on; another viewer that was there all the time sees the same
// packets, each once, and both get the same bytes again on request.
static void test_catching_up_with_a_live_stream(void **state)
{
    struct client early, late;
    struct got all, part, got;
    start_stream();
    join(&early, ROLE_PLAY, 3);
    uint64_t key = next;
    publish(true);
    publish_for(30);
    take(&early, &all);
    assert_int_equal(all.count, 31);
    join(&late, ROLE_PLAY, 4);
    unsigned count = 0;
    uint16_t first = 0;
    for (unsigned i = 0; i < 30; i++) {
        world_pass(&world, STEP_MS);
        publish(i == 3); // a key frame on the way is a packet like the others
        take(&late, &part);
        for (unsigned p = 0; p < part.count; p++, count++) {
            if (count == 0)
                first = part.seq[0];
            assert_int_equal(part.seq[p], (uint16_t)(first + count));
            assert_int_equal(part.mark[p], (uint8_t)(key + count));
        }
        if (i > 12)
            assert_int_equal(part.count, 1);
    }
    assert_int_equal(count, next - key);
    // Sent again without RTX a packet is what it was: the receiver's replay window refuses it.
    struct session *session = tables_session(&world.workers[0].tables, late.id);
    struct sub *sub = tables_sub(&world.workers[0].tables, session, 0);
    sub->rtx_ssrc = 0;
    uint8_t packet[256], plain[2048];
    size_t size, length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    uint64_t index;
    length = rtcp_write_nack(packet, 200, length, 1, sub->ssrc, &(uint16_t){first}, 1);
    world_rtcp(&world, &late, packet, length);
    assert_int_equal(world.out_count, 1);
    const struct world_frame *again = &world.out[0];
    const uint8_t *data = again->bytes + again->parsed.payload;
    assert_int_equal(protect_open(world.crypto, &late.rx, &late.rtp[0], data, again->parsed.length,
                                  plain, &size, &index),
                     -EALREADY);
    memset(&late.rtp[0].replay, 0, sizeof(late.rtp[0].replay));
    assert_int_equal(protect_open(world.crypto, &late.rx, &late.rtp[0], data, again->parsed.length,
                                  plain, &size, &index),
                     0);
    assert_int_equal(plain[RTP_HEADER + 10], (uint8_t)key);
    world.out_count = 0;
    take(&early, &got);
    assert_true(world_leave(&world, &early));
    assert_true(world_leave(&world, &late));
    end_stream();
}

// An old key frame serves nobody: the publisher is asked when the session is opened, before keys.
static void test_a_fresh_key_frame_is_asked_for_early(void **state)
{
    struct client viewer = {0}; // of no group
    struct got got;
    start_stream();
    publish(true);
    publish_for(CATCHUP_FRESH_NS / MS / STEP_MS + 10);
    world_pass(&world, 10);
    assert_int_equal(asked_of_publisher(), 0);
    world_connect(&world, &viewer, ROLE_PLAY, STREAM_ID, 0, 5, true);
    world_pass(&world, 10);
    assert_int_equal(asked_of_publisher(), 1);
    // The key frame is there before the keys are: nobody is asked again.
    uint64_t key = next;
    publish(true);
    publish_for(5);
    world_key(&world, &viewer, PROFILE_AEAD_AES_128_GCM);
    world_pass(&world, 50);
    take(&viewer, &got);
    assert_int_equal(got.count, 6);
    assert_run(&got, 0, key);
    assert_int_equal(asked_of_publisher(), 0);
    assert_true(world_leave(&world, &viewer));
    end_stream();
}

// Too long a way back, or none at all: as ever, the viewer waits for the next key frame.
static void test_too_old_a_key_frame_is_no_beginning(void **state)
{
    struct client viewer;
    struct got got;
    start_stream();
    publish(true);
    publish_for(CATCHUP_BACK_NS / MS / STEP_MS + 10);
    asked_of_publisher();
    join(&viewer, ROLE_PLAY, 6);
    world_pass(&world, 400);
    assert_int_equal(asked_of_publisher() > 0, true);
    publish_for(3);
    take(&viewer, &got);
    assert_int_equal(got.count, 0);
    publish(true);
    publish_for(3);
    take(&viewer, &got);
    assert_int_equal(got.count, 4);
    assert_run(&got, 0, next - 4);
    assert_true(world_leave(&world, &viewer));
    end_stream();
}

// What the ring misses is left out and keeps its number, so that the viewer can ask for it.
static void test_holes_stay_holes(void **state)
{
    struct client viewer;
    struct got got;
    start_stream();
    uint64_t key = next;
    publish(true);
    publish_for(4);
    next++; // lost on the way to us
    publish_for(4);
    join(&viewer, ROLE_PLAY, 7);
    world_pass(&world, 60);
    take(&viewer, &got);
    assert_int_equal(got.count, 9);
    assert_int_equal(got.mark[4], (uint8_t)(key + 4));
    assert_int_equal(got.mark[5], (uint8_t)(key + 6));
    assert_int_equal(got.seq[5], (uint16_t)(got.seq[0] + 6));
    assert_true(world_leave(&world, &viewer));
    end_stream();
}

// A standby has the same ring and the same numbers, and sends nothing of it.
static void test_a_standby_sends_nothing(void **state)
{
    struct client viewer = {0};
    struct got got;
    struct dataplane *dp = &world.dp;
    start_stream();
    publish(true);
    publish_for(10);
    viewer.group = 1;
    world_join(&world, &viewer, ROLE_PLAY, STREAM_ID, 0, 8, PROFILE_AEAD_AES_128_GCM, true);
    world_pass(&world, 100);
    take(&viewer, &got);
    assert_int_equal(got.count, 0);
    assert_int_equal(world.workers[0].catchup_count, 0);
    // Handed over half-way: it stops at once.
    assert_true(world_leave(&world, &viewer));
    atomic_fetch_or(&dp->active_groups, 2);
    world_join(&world, &viewer, ROLE_PLAY, STREAM_ID, 0, 8, PROFILE_AEAD_AES_128_GCM, true);
    assert_int_equal(world.workers[0].catchup_count, 1);
    atomic_fetch_and(&dp->active_groups, ~2u);
    world_turn(&world);
    take(&viewer, &got);
    world_pass(&world, 100);
    take(&viewer, &got);
    assert_int_equal(got.count, 0);
    assert_int_equal(world.workers[0].catchup_count, 0);
    assert_true(world_leave(&world, &viewer));
    end_stream();
}

// The way through the ring dies with the process: the viewer waits for a key frame, and no index
// comes twice.
static void test_a_successor_does_not_go_on_with_it(void **state)
{
    struct client viewer;
    struct got got;
    start_stream();
    publish(true);
    publish_for(40);
    join(&viewer, ROLE_PLAY, 9);
    world_pass(&world, 20);
    take(&viewer, &got);
    assert_in_range(got.count, 2, 20);
    uint16_t last = got.seq[got.count - 1];
    world_restart(&world);
    publish_for(10);
    world_pass(&world, 1500);
    take(&viewer, &got);
    assert_int_equal(got.count, 0);
    publish(true);
    take(&viewer, &got);
    assert_int_equal(got.count, 1);
    assert_true((uint16_t)(got.seq[0] - last) < 0x8000);
    assert_true(world_leave(&world, &viewer));
    end_stream();
}

// The publisher comes back at another worker, so the track goes on in another space of indexes, be
// it lower or higher: also there a viewer begins with the last key frame.
static void test_a_track_that_began_anew(void **state)
{
    struct client viewer, early;
    struct got got;
    struct stream *stream;
    for (int higher = 0; higher < 2; higher++) {
        start_stream();
        stream = tables_stream(&world.workers[0].tables, STREAM_ID);
        join(&early, ROLE_PLAY, 10);
        publish(true);
        publish_for(3);
        struct rte_mbuf *m = rte_pktmbuf_alloc(world.workers[0].pools.media);
        memset(media_of(m)->bytes, 0, 200);
        rtp_header_write(media_of(m)->bytes, &(struct rtp_header){.pt = 96, .ssrc = VIDEO_SSRC});
        uint64_t index = stream->track[0].next_index;
        index = higher ? index + (UINT64_C(4) << INDEX_SPACE_BITS) : 0x100000;
        struct media known = {.index = index,
                              .arrival_ns = world.now_ns,
                              .stream = STREAM_ID,
                              .timestamp = 77,
                              .header = RTP_HEADER,
                              .payload = 188,
                              .keyframe = true};
        media_note(media_of(m), &known);
        // As from another worker, which found its place.
        assert_true(ingest_shared(&world.workers[0], m));
        world.workers[0].media[world.workers[0].media_count++] = m;
        world_turn(&world);
        take(&early, &got);
        assert_int_equal(got.count, 5);
        assert_int_equal(got.seq[4], (uint16_t)(got.seq[0] + 4));
        join(&viewer, ROLE_PLAY, 11);
        take(&viewer, &got);
        assert_int_equal(got.count, 1);
        assert_true(world_leave(&world, &viewer));
        assert_true(world_leave(&world, &early));
        end_stream();
    }
}

static int setup(void **state)
{
    srandom(1);
    return world_start(&world, &(struct abi_config){.workers = 1,
                                                    .max_sessions = 64,
                                                    .rx_mbufs = 2048,
                                                    .tx_mbufs = 2048,
                                                    .cache_mbufs = 2048});
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_viewer_begins_with_the_last_key_frame),
        cmocka_unit_test(test_catching_up_with_a_live_stream),
        cmocka_unit_test(test_a_fresh_key_frame_is_asked_for_early),
        cmocka_unit_test(test_too_old_a_key_frame_is_no_beginning),
        cmocka_unit_test(test_holes_stay_holes),
        cmocka_unit_test(test_a_standby_sends_nothing),
        cmocka_unit_test(test_a_successor_does_not_go_on_with_it),
        cmocka_unit_test(test_a_track_that_began_anew),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
