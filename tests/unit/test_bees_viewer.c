// A viewer's way from SRTP to counters, without a network: another end seals packets with the real
// cipher, good ones and such as must be noticed. Both AES-GCM and AES-CM.
#include "../../dataplane/rtcp.h"
#include "../../dataplane/rtp.h"
#include "../bees/net.h"
#include "../bees/viewer.h"
#include "../bees/worker.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000ull
#define VIDEO 0x1111u
#define RTX 0x2222u
#define ROOM 2048

static struct worker worker;
static struct worker_config config;
static struct bees_session result;
static struct session *session;
static struct protect_tx tx; // the server's
static struct protect_rtcp_tx rtcp_tx;
static struct abi_addr server;
static uint64_t due[1], now_ns;

static void open_session(unsigned profile)
{
    static const uint8_t master[MSG_KEY_MAX] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    memset(&result, 0, sizeof(result));
    memset(worker.hist, 0, sizeof(worker.hist));
    config = (struct worker_config){.away_ns = 500 * MS};
    worker.config = &config;
    worker.due = due;
    due[0] = UINT64_MAX;
    now_ns = 10000 * MS;
    session = aligned_alloc(64, (sizeof(*session) + 63) & ~63ul);
    memset(session, 0, sizeof(*session));
    session->result = &result;
    session->worker = &worker;
    session->fd = -1; // what it sends goes nowhere
    session->sampled = true;
    session->phase = SESSION_OPEN;
    session->answer.tracks = 1;
    session->answer.track[0] = (struct answer_track){.kind = KIND_VIDEO,
                                                     .formats = 1,
                                                     .ssrcs = 1,
                                                     .ssrc = {VIDEO},
                                                     .rtx_ssrc = {RTX},
                                                     .format = {{.codec = CODEC_VP8,
                                                                 .pt = 96,
                                                                 .rtx_pt = 97,
                                                                 .feedback = FB_NACK | FB_PLI,
                                                                 .clock_rate = 90000}}};
    net_parse(&server, "10.0.0.1", 7000);
    session->agent.pairs = 1;
    session->agent.pair[0] = (struct agent_pair){.remote = server, .state = PAIR_VALID};
    assert_int_equal(protect_rx_init(worker.protect, &session->rx, profile, master), 0);
    assert_int_equal(protect_rtcp_rx_init(&session->rtcp_rx, profile, master), 0);
    assert_int_equal(protect_rtcp_tx_init(&session->rtcp_tx, profile, master), 0);
    assert_int_equal(protect_tx_init(worker.protect, &tx, profile, master), 0);
    assert_int_equal(protect_rtcp_tx_init(&rtcp_tx, profile, master), 0);
    assert_int_equal(viewer_open(session, now_ns), 0);
}

static void close_session(void)
{
    viewer_close(session, now_ns);
    session_rtcp_free(&session->rtcp);
    free(session);
}

static int setup(void **state)
{
    return protect_new(&worker.protect);
}

static int teardown(void **state)
{
    protect_free(worker.protect);
    return 0;
}

// Seals a VP8 packet of a frame of its own; `osn` >= 0: a retransmission of that number.
static size_t make(uint8_t *out, uint32_t ssrc, uint16_t seq, uint8_t fill, int osn)
{
    struct rtp_header header = {.pt = osn < 0 ? 96 : 97,
                                .marker = true,
                                .seq = seq,
                                .timestamp = (osn < 0 ? seq : (uint32_t)osn) * 3600u,
                                .ssrc = ssrc};
    uint8_t *payload = out + RTP_HEADER;
    size_t at = 0;
    rtp_header_write(out, &header);
    if (osn >= 0) {
        rtp_rtx_write_osn(payload, (uint16_t)osn);
        at = RTP_RTX_OSN;
    }
    memset(payload + at, fill, 100);
    payload[at] = 0x10;
    payload[at + 1] = seq == 1 ? 0x00 : 0x01; // the first is a key frame
    struct seal_job job = {.tx = &tx,
                           .src = payload,
                           .dst = out,
                           .header_len = RTP_HEADER,
                           .payload_len = (uint16_t)(at + 100),
                           .ssrc = ssrc,
                           .index = seq};
    protect_seal(worker.protect, &job, 1);
    return RTP_HEADER + at + 100 + protect_tag_len(tx.key.profile);
}

static void give(const uint8_t *data, size_t size)
{
    uint8_t copy[ROOM];
    memcpy(copy, data, size);
    session_input(session, &server, copy, size, now_ns, now_ns);
}

static void packet(uint16_t seq)
{
    uint8_t data[ROOM];
    give(data, make(data, VIDEO, seq, 7, -1));
    now_ns += 40 * MS;
}

static void each_profile(void (*test)(void))
{
    static const unsigned profiles[] = {PROFILE_AEAD_AES_128_GCM, PROFILE_AES128_CM_SHA1_80,
                                        PROFILE_AEAD_AES_256_GCM};
    for (int i = 0; i < 3; i++) {
        open_session(profiles[i]);
        test();
        close_session();
    }
}

static void plain(void)
{
    for (uint16_t seq = 1; seq <= 50; seq++)
        packet(seq);
    assert_int_equal(result.count.packets, 50);
    assert_int_equal(result.count.frames, 50);
    assert_int_equal(result.count.keyframes, 1);
    assert_true(result.connected);
    assert_true(result.step_ns[BEES_STEP_packet] > 0);
    assert_true(result.step_ns[BEES_STEP_keyframe] > 0);
    assert_int_equal(result.count.auth_failures, 0);
    assert_int_equal(result.paths, 1);
    assert_string_equal(result.path[0], "10.0.0.1:7000");
}

static void test_packets(void **state)
{
    each_profile(plain);
}

static void index_used_twice(void)
{
    uint8_t data[ROOM];
    for (uint16_t seq = 1; seq <= 20; seq++)
        packet(seq);
    size_t size = make(data, VIDEO, 15, 7, -1); // the very same bytes
    give(data, size);
    assert_int_equal(result.count.duplicates, 1);
    assert_int_equal(result.count.index_reuse, 0);
    size = make(data, VIDEO, 15, 8, -1); // other bytes under the same index, authentic
    give(data, size);
    assert_int_equal(result.count.index_reuse, 1);
    data[size - 1] ^= 1; // not authentic: an attacker cannot fail a run
    data[RTP_HEADER + 3] ^= 1;
    data[size - protect_tag_len(tx.key.profile)] ^= 1;
    give(data, size);
    assert_int_equal(result.count.index_reuse, 1);
    assert_int_equal(result.count.auth_failures, 1);
    assert_int_equal(result.count.packets, 20);
}

static void test_index_used_twice(void **state)
{
    each_profile(index_used_twice);
}

static void forgeries(void)
{
    uint8_t data[ROOM];
    struct abi_addr stranger;
    packet(1);
    size_t size = make(data, VIDEO, 2, 7, -1);
    for (size_t at = 0; at < size; at += 5) {
        data[at] ^= 0x40;
        give(data, size);
        data[at] ^= 0x40;
    }
    for (size_t cut = 0; cut < size; cut += 3)
        give(data, cut);
    assert_int_equal(result.count.packets, 1);
    assert_int_equal(result.count.index_reuse, 0);
    net_parse(&stranger, "10.0.0.9", 7000);
    session_input(session, &stranger, data, size, now_ns, now_ns); // never passed a check
    assert_int_equal(result.count.packets, 1);
    size = make(data, VIDEO, 2, 7, -1);
    give(data, size);
    assert_int_equal(result.count.packets, 2); // and it is still welcome
}

static void test_forgeries(void **state)
{
    each_profile(forgeries);
}

static void repaired(void)
{
    uint8_t data[ROOM];
    packet(1);
    packet(2);
    packet(4);
    assert_int_equal(result.count.missing, 1);
    assert_true(due[0] <= now_ns);
    viewer_tick(session, now_ns);
    assert_int_equal(result.count.nacks, 1);
    assert_int_equal(result.count.rtcp_sent, 2); // NACK and, by now, a report
    now_ns += 5 * MS;
    give(data, make(data, RTX, 1, 7, 3));
    assert_int_equal(result.count.recovered, 1);
    assert_int_equal(result.count.rtx_packets, 1);
    assert_int_equal(result.count.frames, 4);
    give(data, make(data, VIDEO, 3, 7, -1)); // late, by itself
    assert_int_equal(result.count.duplicates, 1);
    assert_int_equal(result.count.new_ssrcs, 0);
    assert_int_equal(worker.hist[BEES_DIST_recovery].count, 1);
}

static void test_repair(void **state)
{
    each_profile(repaired);
}

// A session outside of the sample: nothing is opened but what it asked for.
static void headers_only(void)
{
    uint8_t data[ROOM];
    session->sampled = false;
    packet(1);
    size_t size = make(data, VIDEO, 2, 7, -1);
    data[size - 1] ^= 1; // a tag that nobody looks at
    give(data, size);
    packet(4);
    assert_int_equal(result.count.packets, 3);
    assert_int_equal(result.count.auth_failures, 0);
    assert_int_equal(result.count.missing, 1);
    viewer_tick(session, now_ns);
    assert_int_equal(result.count.nacks, 1);
    size = make(data, RTX, 1, 7, 3);
    data[size - 1] ^= 1;
    give(data, size);
    assert_int_equal(result.count.auth_failures, 1);
    assert_int_equal(result.count.recovered, 0);
    give(data, make(data, RTX, 1, 7, 3));
    assert_int_equal(result.count.recovered, 1);
    assert_int_equal(result.count.packets, 4);
    assert_int_equal(result.count.frames, 0); // what is in a packet is not known
}

static void test_headers_only(void **state)
{
    each_profile(headers_only);
}

static void another_ssrc(void)
{
    uint8_t data[ROOM];
    packet(1);
    now_ns += 700 * MS;
    give(data, make(data, 0x3333, 1, 7, -1));
    assert_int_equal(result.count.new_ssrcs, 1);
    assert_int_equal(result.gaps, 1); // over away_ns
    assert_int_equal(result.away_ns, 740 * MS);
    assert_int_equal(result.max_gap_ns, 740 * MS);
    assert_int_equal(result.max_gap_at_ns, now_ns);
}

static void test_another_ssrc_and_a_gap(void **state)
{
    each_profile(another_ssrc);
}

static size_t report(uint8_t *out, uint32_t index, uint32_t packets)
{
    struct rtcp_sender sender = {.ssrc = VIDEO, .ntp = 1, .packets = packets};
    size_t size = rtcp_write_sr(out, ROOM, 0, &sender, NULL, 0), sealed = 0;
    assert_int_equal(protect_rtcp_seal(worker.protect, &rtcp_tx, out, size, index, &sealed), 0);
    return sealed;
}

static void rtcp(void)
{
    uint8_t data[ROOM];
    for (uint32_t index = 0; index < 10; index++)
        give(data, report(data, index, index));
    assert_int_equal(result.count.rtcp_received, 10);
    give(data, report(data, 4, 4));
    assert_int_equal(result.count.index_reuse, 0); // a repetition
    size_t size = report(data, 4, 5);
    give(data, size);
    assert_int_equal(result.count.index_reuse, 1);
    data[size / 2] ^= 1;
    give(data, size); // GCM's tag or the text: either way not authentic, or already known
    assert_int_equal(result.count.index_reuse, 1 + (result.count.auth_failures == 0));
    for (size_t cut = 0; cut < size; cut++)
        give(data, cut);
    assert_int_equal(result.count.rtcp_received, 10);
}

// We look at our sockets late and at uneven times; what came when is what counts.
static void late_looks(void)
{
    for (uint16_t seq = 1; seq <= 20; seq++) {
        uint8_t data[ROOM];
        size_t size = make(data, VIDEO, seq, 7, -1);
        uint64_t arrived_ns = now_ns;
        now_ns += seq % 7 * 5 * MS;
        // A stamp from before the packet before it: the clock was set; no gap may come of it.
        session_input(session, &server, data, size, arrived_ns - (seq == 10 ? 90 * MS : 0), now_ns);
        now_ns = arrived_ns + 40 * MS;
    }
    assert_int_equal(result.count.packets, 20);
    assert_int_equal(result.max_gap_ns, 80 * MS); // to the one after the tenth
}

static void test_late_looks(void **state)
{
    each_profile(late_looks);
}

static void test_rtcp(void **state)
{
    each_profile(rtcp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets),      cmocka_unit_test(test_index_used_twice),
        cmocka_unit_test(test_forgeries),    cmocka_unit_test(test_repair),
        cmocka_unit_test(test_headers_only), cmocka_unit_test(test_another_ssrc_and_a_gap),
        cmocka_unit_test(test_late_looks),   cmocka_unit_test(test_rtcp),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
