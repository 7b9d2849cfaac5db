// The figures that hitlessctl, the pages and Prometheus show, against a simulated load whose
// figures are known. (Mailboxes' depths: test_handover.c; pools under pressure: test_pressure.c.)
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define VIEWERS 3
#define SECONDS 5
#define VIDEO_BODY 900
#define AUDIO_BODY 80

static struct world world;
static struct client publisher, viewer[VIEWERS];

static int setup(void **state)
{
    srandom(6);
    return world_start(&world, &(struct abi_config){.workers = 1,
                                                    .max_sessions = 16,
                                                    .rx_mbufs = 1023,
                                                    .tx_mbufs = 1023,
                                                    .cache_mbufs = 2047});
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

static const struct stats_session *figures_of(const struct client *client)
{
    return channel_session_stats(&world.control, 0, MSG_SLOT(client->id));
}

// What went over the wire.
struct load {
    uint64_t packets, bytes, keyframes;
    uint64_t video_out, bytes_out; // to one viewer, SRTP
};

static void publish(struct load *load, uint32_t ssrc, uint64_t index, bool key)
{
    static const uint8_t body[VIDEO_BODY];
    uint8_t wire[1600];
    size_t size = world_seal(&world, &publisher, ssrc, index, key, body,
                             ssrc == VIDEO_SSRC ? VIDEO_BODY : AUDIO_BODY, wire);
    world_inject(&world, 0, &publisher.addr, world.config.media4.port, wire, size);
    load->packets++;
    load->bytes += size;
    load->keyframes += key;
}

// A second of 100 video and 50 audio packets, a key frame first.
static void one_second(struct load *load, unsigned second)
{
    for (unsigned ms = 0; ms < 1000; ms += 10) {
        publish(load, VIDEO_SSRC, second * 100 + ms / 10 + 1, ms == 0);
        if (ms % 20 == 0)
            publish(load, AUDIO_SSRC, second * 50 + ms / 20 + 1, false);
        world_pass(&world, 10);
        for (unsigned i = 0; i < world.out_count; i++) {
            const struct parsed *parsed = &world.out[i].parsed;
            if (parsed->class != CLASS_RTP ||
                memcmp(&parsed->dst, &viewer[0].addr, sizeof(parsed->dst)) != 0)
                continue;
            load->video_out++;
            load->bytes_out += parsed->length;
        }
        world.out_count = 0;
    }
}

static void feedback(struct client *client)
{
    uint8_t packet[256];
    size_t room = sizeof(packet) - PROTECT_RTCP_ROOM;
    struct session *session = tables_session(&world.workers[0].tables, client->id);
    const struct track *track = &tables_stream(&world.workers[0].tables, STREAM_ID)->track[0];
    uint16_t newest =
        (uint16_t)(track->next_index + tables_sub(&world.workers[0].tables, session, 0)->delta);
    uint16_t seqs[3] = {(uint16_t)(newest - 3), (uint16_t)(newest - 2), (uint16_t)(newest - 1)};
    struct rtcp_block block = {
        .ssrc = client->rtp[0].ssrc, .fraction_lost = 26, .cumulative_lost = 12, .jitter = 900};
    size_t length = rtcp_write_rr(packet, room, 0, 1, &block, 1);
    length = rtcp_write_nack(packet, room, length, 1, client->rtp[0].ssrc, seqs, 3);
    length = rtcp_write_pli(packet, room, length, 1, client->rtp[0].ssrc);
    world_rtcp(&world, client, packet, length);
}

static void assert_near(uint64_t value, uint64_t wanted, unsigned percent)
{
    if (value * 100 < wanted * (100 - percent) || value * 100 > wanted * (100 + percent))
        fail_msg("%llu instead of %llu", (unsigned long long)value, (unsigned long long)wanted);
}

static void test_figures_are_those_of_the_load(void **state)
{
    struct load load = {0};
    struct worker *worker = &world.workers[0];
    const struct stats_worker *stats = channel_worker_stats(&world.control, 0);
    world.now_ns += 3600 * 1000 * MS; // a machine that has been up for a while
    world_open_stream(&world, STREAM_ID, 0, 0);
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    for (uint32_t v = 0; v < VIEWERS; v++)
        world_join(&world, &viewer[v], ROLE_PLAY, STREAM_ID, 0, 2 + v, PROFILE_AEAD_AES_128_GCM,
                   true);
    uint64_t in = stats->count[COUNT_rtp_in], out = stats->count[COUNT_rtp_out];
    for (unsigned second = 0; second < SECONDS; second++) {
        one_second(&load, second);
        uint64_t half = load.bytes / (second + 1) * 8 / 2;
        uint32_t rates[] = {figures_of(&publisher)->bitrate, figures_of(&viewer[0])->bitrate,
                            channel_stream_stats(&world.control, MSG_SLOT(STREAM_ID))->bitrate};
        for (unsigned i = 0; i < 3; i++) // not known yet, or true
            assert_true(rates[i] == 0 || rates[i] > half);
    }
    feedback(&viewer[1]);
    assert_int_equal(stats->count[COUNT_rtp_in] - in, load.packets);
    assert_int_equal(stats->count[COUNT_rtp_out] - out, load.packets * VIEWERS);
    uint64_t bitrate = (load.bytes / SECONDS) * 8;
    assert_near(figures_of(&publisher)->bitrate, bitrate, 3);
    assert_near(figures_of(&viewer[0])->bitrate, load.bytes_out / SECONDS * 8, 3);
    assert_near(channel_stream_stats(&world.control, MSG_SLOT(STREAM_ID))->bitrate, bitrate, 3);

    world_pass(&world, 1100); // everybody's turn comes
    const struct stats_session *s = figures_of(&publisher);
    assert_int_equal(s->id, publisher.id);
    assert_int_equal(s->packets_in, load.packets);
    assert_int_equal(s->bytes_in, load.bytes);
    assert_int_equal(s->packets_out, 0);
    assert_int_equal(s->bitrate, 0); // of the last second
    assert_memory_equal(&s->remote, &publisher.addr, sizeof(s->remote));
    for (unsigned v = 0; v < VIEWERS; v++) {
        s = figures_of(&viewer[v]);
        assert_int_equal(s->id, viewer[v].id);
        assert_int_equal(s->packets_out, load.packets);
        assert_int_equal(s->bytes_out, load.bytes_out);
        assert_int_equal(s->nacks, v == 1 ? 3 : 0);
        assert_int_equal(s->resent, v == 1 ? 3 : 0);
        assert_int_equal(s->plis, v == 1);
        assert_int_equal(s->lost, v == 1 ? 12 : 0);
        assert_int_equal(s->loss_permille, v == 1 ? 26 * 1000 / 256 : 0);
        assert_near(s->jitter_us, v == 1 ? 10000 : 0, 1); // 900 of 90,000 a second
        assert_memory_equal(&s->remote, &viewer[v].addr, sizeof(s->remote));
    }
    assert_true(figures_of(&viewer[1])->last_heard_ns > figures_of(&viewer[0])->last_heard_ns);

    const struct stats_stream *stream = channel_stream_stats(&world.control, MSG_SLOT(STREAM_ID));
    const struct track *track = tables_stream(&worker->tables, STREAM_ID)->track;
    assert_int_equal(stream->id, STREAM_ID);
    assert_int_equal(stream->packets, load.packets);
    assert_int_equal(stream->bytes, load.bytes);
    assert_int_equal(stream->keyframes, load.keyframes);
    assert_int_equal(stream->viewers, VIEWERS);
    assert_int_equal(stream->ring_packets, track[0].ring.used + track[1].ring.used);
    assert_int_equal(stream->ring_size, cache_slots(&track[0].ring) + cache_slots(&track[1].ring));
    assert_true(stream->ring_packets >= 150); // a second of it

    assert_int_equal(stats->sessions, 1 + VIEWERS);
    assert_int_equal(stats->streams, 1);
    assert_int_equal(stats->ring_packets, stream->ring_packets);
    assert_int_equal(stats->ring_size, stream->ring_size);
    assert_int_equal(stats->cache_size, 205); // of ten packets each
    assert_int_equal(stats->cache_free, 205 - track[0].ring.pen.held - track[1].ring.pen.held);
    assert_int_equal(stats->rx_free, stats->rx_size);
    assert_int_equal(stats->tx_free, stats->tx_size);
}

// Stages are counted while somebody asks; together they are no more than the time that passed.
static void test_stages_are_those_of_the_load(void **state)
{
    static const enum stage busy[] = {STAGE_port_rx, STAGE_parse,       STAGE_open,
                                      STAGE_headers, STAGE_seal,        STAGE_finish,
                                      STAGE_port_tx, STAGE_housekeeping};
    const struct stats_worker *stats = channel_worker_stats(&world.control, 0);
    struct load load = {0};
    for (int i = 0; i < STAGES; i++)
        assert_int_equal(stats->stage_cycles[i], 0);
    channel_ask_stages(&world.control, world.now_ns + 1000 * MS);
    uint64_t start = rte_rdtsc(), sum = 0;
    one_second(&load, SECONDS);
    uint64_t elapsed = rte_rdtsc() - start;
    for (unsigned i = 0; i < RTE_DIM(busy); i++)
        assert_true(stats->stage_cycles[busy[i]] > 0);
    for (int i = 0; i < STAGES; i++)
        sum += stats->stage_cycles[i];
    assert_true(sum > 0 && sum < elapsed);
    world_pass(&world, 10);
    uint64_t after = stats->stage_cycles[STAGE_seal];
    one_second(&load, SECONDS + 1); // nobody asks any more
    assert_int_equal(stats->stage_cycles[STAGE_seal], after);
}

static void test_figures_go_with_what_they_are_of(void **state)
{
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    assert_true(world_leave(&world, &viewer[2]));
    assert_int_equal(figures_of(&viewer[2])->id, 0);
    assert_int_equal(figures_of(&viewer[1])->id, viewer[1].id);
    world_tell(&world, 0, &close);
    world_pass(&world, 1200);
    assert_int_equal(channel_stream_stats(&world.control, MSG_SLOT(STREAM_ID))->id, 0);
    const struct stats_worker *stats = channel_worker_stats(&world.control, 0);
    assert_int_equal(stats->streams, 0);
    assert_int_equal(stats->sessions, VIEWERS);
    assert_int_equal(stats->ring_packets, 0);
    assert_int_equal(stats->cache_free, stats->cache_size);
    assert_true(world_leave(&world, &viewer[0]) && world_leave(&world, &viewer[1]) &&
                world_leave(&world, &publisher));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_are_those_of_the_load),
        cmocka_unit_test(test_stages_are_those_of_the_load),
        cmocka_unit_test(test_figures_go_with_what_they_are_of),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
