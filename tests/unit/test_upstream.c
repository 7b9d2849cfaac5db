// What a publisher is asked and told: lost packets, key frames, reports. When, and how often at
// most. Under a virtual clock.
#include "../../dataplane/eal.h"
#include "../../dataplane/rtcp.h"
#include "../../dataplane/upstream.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct world world;
static struct client publisher;

static void publish(uint64_t index, bool keyframe)
{
    world_publish(&world, &publisher, 0, index, keyframe, 100);
    world_turn(&world);
}

// What the publisher was sent since the last look.
struct asked {
    unsigned nacks, plis, reports;
    uint16_t seq[64];
    struct rtcp_block block; // of the last report
};

static void read_packet(const struct rtcp_packet *packet, struct asked *asked)
{
    struct rtcp_feedback head;
    struct rtcp_nack_iter nack;
    uint16_t seq;
    if (rtcp_nack_begin(&nack, packet)) {
        assert_true(rtcp_read_feedback(packet, &head));
        assert_int_equal(head.media_ssrc, VIDEO_SSRC);
        while (rtcp_nack_next(&nack, &seq))
            asked->seq[asked->nacks++ % 64] = seq;
    }
    asked->plis += rtcp_is_pli(packet);
    if (packet->type == RTCP_RR && packet->count > 0) {
        asked->reports++;
        assert_true(rtcp_read_block(packet, 0, &asked->block));
    }
}

static struct asked take(void)
{
    struct asked asked = {0};
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        const uint8_t *data = world.out[i].bytes + parsed->payload;
        uint8_t plain[2048];
        size_t size;
        uint32_t index;
        struct rtcp_iter iter;
        struct rtcp_packet packet;
        if (parsed->class != CLASS_RTCP ||
            memcmp(&parsed->dst, &publisher.addr, sizeof(publisher.addr)) != 0)
            continue;
        publisher.rtcp.ssrc = load_be32(data + 4);
        assert_int_equal(protect_rtcp_open(world.crypto, &publisher.rtcp_rx, &publisher.rtcp, data,
                                           parsed->length, plain, &size, &index),
                         0);
        rtcp_begin(&iter, plain, size);
        while (rtcp_next(&iter, &packet) == 1)
            read_packet(&packet, &asked);
    }
    world.out_count = 0;
    return asked;
}

// Milliseconds until something is asked for, at most `limit`.
static unsigned until_asked(struct asked *asked, unsigned limit)
{
    for (unsigned ms = 1; ms <= limit; ms++) {
        world_pass(&world, 1);
        *asked = take();
        if (asked->nacks)
            return ms;
    }
    return limit + 1;
}

static int begin(void **state)
{
    publisher.group = 0;
    world_open_stream(&world, STREAM_ID, 0, 0);
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    return 0;
}

static int finish(void **state)
{
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    bool left = world_leave(&world, &publisher);
    world_tell(&world, 0, &close);
    world_turn(&world);
    world.out_count = 0;
    return left ? 0 : -1;
}

// Without a viewer's word: it would come late.
static void test_what_is_given_up_needs_a_key_frame(void **state)
{
    unsigned plis = 0, until = 0;
    publish(1000, true);
    publish(1001, false);
    publish(1003, false);
    take();
    for (uint64_t index = 1004; index < 1200; index++) {
        world_pass(&world, 10);
        publish(index, false);
        plis += take().plis;
        until += plis == 0;
    }
    assert_in_range(until, 80, 105); // hundredths of a second, in which it was asked for in vain
    assert_in_range(plis, 3, 4);     // in the second since then
    publish(1200, true);
    publish(1202, false);
    publish(1201, false);
    for (uint64_t index = 1203; index < 1400; index++) {
        world_pass(&world, 10);
        publish(index, false);
        assert_int_equal(take().plis, 0);
    }
    // One of a long silence is not even waited for.
    world_pass(&world, 1100);
    take();
    publish(1410, false);
    world_pass(&world, 15);
    assert_int_equal(take().plis, 1);
}

static void test_lost_packets_are_asked_for(void **state)
{
    struct asked asked;
    publish(1000, true);
    publish(1001, false);
    publish(1004, false);
    take();
    assert_in_range(until_asked(&asked, 100), 10, 20); // after the time for reordering
    assert_int_equal(asked.nacks, 2);
    assert_int_equal(asked.seq[0], 1002);
    assert_int_equal(asked.seq[1], 1003);
    // Again only after a round trip's time, for what is still missing.
    publish(1003, false);
    assert_in_range(until_asked(&asked, 100), 20, 35);
    assert_int_equal(asked.nacks, 1);
    assert_int_equal(asked.seq[0], 1002);
    publish(1002, false);
    world_pass(&world, 200);
    assert_int_equal(take().nacks, 0);
}

static void test_reordering_is_no_loss(void **state)
{
    publish(500, true);
    publish(502, false);
    world_pass(&world, 8);
    publish(501, false);
    world_pass(&world, 200);
    assert_int_equal(take().nacks, 0);
}

// Nobody is asked for ever: ten times, then the packet counts as lost.
static void test_asking_is_bounded(void **state)
{
    struct stream *stream = tables_stream(&world.workers[0].tables, STREAM_ID);
    publish(2000, true);
    publish(2002, false);
    unsigned nacks = 0;
    for (int i = 0; i < 2000; i++) {
        world_pass(&world, 1);
        nacks += take().nacks;
    }
    assert_int_equal(nacks, GAPS_TRIES);
    assert_int_equal(stream->track[0].layers[0].lost, 1);
}

// With a long way to the publisher the second request waits for the first one's answer. How long it
// is the publisher's answer to our binding requests tells: one as soon as it has keys, then one in
// five seconds.
static void test_the_round_trip_counts(void **state)
{
    struct asked asked;
    struct client far = {0};
    struct stun_msg request;
    struct abi_addr at;
    assert_true(world_leave(&world, &publisher));
    world_connect(&world, &far, ROLE_PUBLISH, STREAM_ID, 0, 3, true);
    world_key(&world, &far, PROFILE_AEAD_AES_128_GCM);
    publisher = far;
    const struct session *session = tables_session(&world.workers[0].tables, publisher.id);
    assert_int_equal(session->rtt_us, 0);
    assert_true(world_asked(&world, &publisher, &request, &at));
    assert_memory_equal(&at, &publisher.addr, sizeof(at));
    uint8_t id[STUN_ID_LEN];
    memcpy(id, request.id, sizeof(id));
    world_pass(&world, 120);
    world_answer(&world, &publisher, &publisher.addr, id, WORLD_PWD);
    assert_in_range(session->rtt_us, 119000, 121000);
    take();
    publish(100, true);
    publish(102, false);
    assert_in_range(until_asked(&asked, 100), 10, 20);
    assert_in_range(until_asked(&asked, 300), 115, 135);
    assert_in_range(until_asked(&asked, 300), 140, 170);
    // It has become nearer.
    unsigned wait = 0;
    do {
        world.out_count = 0;
        world_pass(&world, 1);
    } while (!world_asked(&world, &publisher, &request, &at) && ++wait < 7000);
    assert_in_range(wait, 4000, 6000);
    memcpy(id, request.id, sizeof(id));
    world_pass(&world, 40);
    world_answer(&world, &publisher, &publisher.addr, id, WORLD_PWD);
    assert_in_range(session->rtt_us, 109000, 111000);
}

// However many want a key frame, and however often: one request in 300 ms.
static void test_key_requests_are_merged(void **state)
{
    struct client viewer[2] = {0};
    publish(10, false);
    for (uint32_t v = 0; v < 2; v++)
        world_join(&world, &viewer[v], ROLE_PLAY, STREAM_ID, 0, 4 + v, PROFILE_AEAD_AES_128_GCM,
                   true);
    unsigned plis = 0;
    for (int i = 0; i < 150; i++) {
        for (uint32_t v = 0; v < 2; v++) {
            uint8_t packet[128];
            size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
            length = rtcp_write_pli(packet, 100, length, 1, viewer[v].rtp[0].ssrc);
            world_rtcp(&world, &viewer[v], packet, length);
        }
        world_pass(&world, 10);
        plis += take().plis;
    }
    assert_in_range(plis, 5, 6); // in 1.5 s
    // Until it comes.
    publish(11, true);
    world_pass(&world, 1000);
    assert_int_equal(take().plis, 0);
    for (uint32_t v = 0; v < 2; v++)
        assert_true(world_leave(&world, &viewer[v]));
}

// RFC 3550 6.4: what has arrived, what has not, twice a second.
static void test_reports(void **state)
{
    struct stream *stream = tables_stream(&world.workers[0].tables, STREAM_ID);
    memset(stream->track[0].gaps, 0, sizeof(*stream->track[0].gaps));
    for (uint64_t i = 65530; i < 65530 + 20; i++)
        if (i != 65535)
            publish(i, i == 65530);
    world_pass(&world, 600);
    take();
    world_pass(&world, 2000);
    struct asked asked = take();
    assert_in_range(asked.reports, 3, 4);
    assert_int_equal(asked.block.ssrc, VIDEO_SSRC);
    assert_int_equal(asked.block.cumulative_lost, 1);
    assert_int_equal((uint16_t)asked.block.highest_seq, (uint16_t)(65530 + 19));
}

// Two seconds without a packet, and the control plane is told that the stream is not live.
static void test_a_silent_stream_is_idle(void **state)
{
    struct msg_stream_state told;
    publish(1, true);
    assert_true(world_heard(&world, 0, MSG_STREAM_STATE, &told, sizeof(told)));
    assert_int_equal(told.state, STREAM_LIVE);
    world_pass(&world, 1900);
    assert_false(world_heard(&world, 0, MSG_STREAM_STATE, NULL, 0));
    world_pass(&world, 200);
    assert_true(world_heard(&world, 0, MSG_STREAM_STATE, &told, sizeof(told)));
    assert_int_equal(told.state, STREAM_IDLE);
    publish(2, false);
    assert_true(world_heard(&world, 0, MSG_STREAM_STATE, &told, sizeof(told)));
    assert_int_equal(told.state, STREAM_LIVE);
}

static int setup(void **state)
{
    srandom(1);
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
        cmocka_unit_test_setup_teardown(test_lost_packets_are_asked_for, begin, finish),
        cmocka_unit_test_setup_teardown(test_what_is_given_up_needs_a_key_frame, begin, finish),
        cmocka_unit_test_setup_teardown(test_reordering_is_no_loss, begin, finish),
        cmocka_unit_test_setup_teardown(test_asking_is_bounded, begin, finish),
        cmocka_unit_test_setup_teardown(test_the_round_trip_counts, begin, finish),
        cmocka_unit_test_setup_teardown(test_key_requests_are_merged, begin, finish),
        cmocka_unit_test_setup_teardown(test_reports, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_silent_stream_is_idle, begin, finish),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
