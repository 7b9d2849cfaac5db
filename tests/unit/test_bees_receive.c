// What the load tester makes of the packets that it gets: loss and repair, key frames and freezes,
// duplicates, indexes used twice. Virtual time.
#include "../bees/receive.h"
#include "../bees/reuse.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000ull

static struct bees_counters count;
static struct hist recovery;
static struct receive receive;
static uint64_t now_ns;

static const uint8_t vp8_key[] = {0x10, 0x00, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0, 0};
static const uint8_t vp8_delta[] = {0x10, 0x01, 0x00, 0x00, 0, 0, 0, 0, 0};

static void begin(bool ask)
{
    memset(&count, 0, sizeof(count));
    memset(&recovery, 0, sizeof(recovery));
    receive = (struct receive){.ssrc = 7,
                               .codec = CODEC_VP8,
                               .video = true,
                               .ask = ask,
                               .pli = true,
                               .clock_rate = 90000,
                               .count = &count,
                               .recovery = &recovery};
    now_ns = 1000 * MS;
}

static int setup(void **state)
{
    begin(true);
    return 0;
}

static int teardown(void **state)
{
    receive_end(&receive, now_ns);
    return 0;
}

// One packet of a frame: `key` says of which kind.
static unsigned packet(uint16_t seq, uint32_t timestamp, bool marker, bool key, bool first,
                       bool rtx)
{
    uint8_t payload[sizeof(vp8_key)];
    memcpy(payload, key ? vp8_key : vp8_delta, sizeof(payload));
    payload[0] = first ? 0x10 : 0x00;
    struct rtp_view view = {.length = 1000, .timestamp = timestamp, .marker = marker, .seq = seq};
    return receive_packet(&receive, &view, seq, payload, sizeof(payload), rtx, now_ns);
}

// A frame of one packet each 40 ms.
static void frames(uint16_t from, uint16_t to)
{
    for (uint16_t seq = from; seq != (uint16_t)(to + 1); seq++) {
        packet(seq, seq * 3600u, true, seq == from && receive.highest == 0, true, false);
        now_ns += 40 * MS;
    }
}

static size_t feedback(uint8_t *buf)
{
    return receive_feedback(&receive, buf, 1200, 0, 1, 10 * MS, now_ns);
}

static void test_all_is_well(void **state)
{
    uint8_t buf[1200];
    frames(65500, 99); // across the wrap
    assert_int_equal(count.packets, 136);
    assert_int_equal(count.frames, 136);
    assert_int_equal(count.keyframes, 1);
    assert_int_equal(count.lost + count.missing + count.reordered + count.duplicates, 0);
    assert_int_equal(count.freezes, 0);
    assert_int_equal(feedback(buf), 0);
    assert_int_equal(receive_next(&receive, now_ns), UINT64_MAX);
}

static void test_lost_packet_is_asked_for_and_comes(void **state)
{
    uint8_t buf[1200];
    struct rtcp_iter iter;
    struct rtcp_packet rtcp;
    struct rtcp_nack_iter nack;
    uint16_t seq;
    frames(100, 109);
    now_ns += 40 * MS;
    packet(111, 111 * 3600, true, false, true, false); // 110 is missing
    assert_int_equal(count.missing, 1);
    assert_int_equal(receive_next(&receive, now_ns), now_ns);
    size_t size = feedback(buf);
    rtcp_begin(&iter, buf, size);
    assert_int_equal(rtcp_next(&iter, &rtcp), 1);
    assert_true(rtcp_nack_begin(&nack, &rtcp));
    assert_true(rtcp_nack_next(&nack, &seq));
    assert_int_equal(seq, 110);
    assert_false(rtcp_nack_next(&nack, &seq));
    assert_int_equal(feedback(buf), 0); // not twice at once
    now_ns += 12 * MS;
    assert_int_equal(packet(110, 110 * 3600, true, false, true, true), FRAMES_DONE);
    assert_int_equal(count.recovered, 1);
    assert_int_equal(count.frames, 12);
    assert_int_equal(recovery.count, 1);
    assert_in_range(recovery.max, 12000, 12000);
    packet(110, 110 * 3600, true, false, true, true);
    assert_int_equal(count.duplicates, 1);
    receive_end(&receive, now_ns);
    assert_int_equal(count.lost, 0);
}

static void test_asks_ten_times_then_wants_a_key_frame(void **state)
{
    uint8_t buf[1200];
    unsigned asked = 0;
    frames(100, 109);
    packet(111, 111 * 3600, true, false, true, false);
    uint64_t begun = now_ns, last = 0;
    while (receive.nack.count > 0) {
        uint64_t next = receive_next(&receive, now_ns);
        assert_true(asked == 0 || next - now_ns >= last); // longer and longer
        last = asked ? next - now_ns : 0;
        now_ns = next;
        feedback(buf);
        asked++;
        assert_true(asked < 20);
    }
    assert_int_equal(count.nacks, NACK_TRIES);
    assert_int_equal(count.lost, 1);
    assert_int_equal(count.plis, 1); // with the last look
    assert_in_range(now_ns - begun, 200 * MS, 2000 * MS);
    assert_true(frames_need_key(&receive.frames));
    packet(112, 112 * 3600, true, false, true, false); // of no use without the key frame
    assert_int_equal(count.frames, 10);
    now_ns += 40 * MS;
    assert_int_equal(packet(113, 113 * 3600, true, true, true, false),
                     FRAMES_DONE | FRAMES_KEY_DONE);
    assert_int_equal(count.freezes, 1);
    assert_false(receive.want_key);
    packet(110, 110 * 3600, true, false, true, true); // late, after all
    assert_int_equal(count.lost, 0);
}

static void test_without_nack_it_waits_a_second(void **state)
{
    uint8_t buf[1200];
    begin(false);
    frames(100, 102);
    packet(104, 104 * 3600, true, false, true, false);
    feedback(buf);
    assert_int_equal(count.nacks, 0);
    now_ns += 999 * MS;
    feedback(buf);
    assert_int_equal(count.lost, 0);
    now_ns += 2 * MS;
    feedback(buf);
    assert_int_equal(count.lost, 1);
}

static void test_reordering_is_no_recovery(void **state)
{
    frames(100, 104);
    packet(106, 106 * 3600, true, false, true, false);
    packet(105, 105 * 3600, true, false, true, false);
    assert_int_equal(count.reordered, 1);
    assert_int_equal(count.recovered, 0);
    assert_int_equal(count.frames, 7);
}

static void test_long_gaps(void **state)
{
    frames(100, 104);
    packet((uint16_t)(104 + 1500), 1, true, false, true, false); // more than can be asked for
    assert_int_equal(count.missing, 1499);
    assert_int_equal(count.lost, 1499);
    assert_int_equal(receive.nack.count, 0);
    packet((uint16_t)(104 + 1500 + 5000), 2, true, false, true, false); // numbers began anew
    assert_int_equal(count.jumps, 1);
    assert_int_equal(count.lost, 1499);
    assert_true(receive.want_key);
}

static void test_first_frames_without_key_frame(void **state)
{
    uint8_t buf[1200];
    packet(100, 1, true, false, true, false);
    assert_int_equal(count.frames, 0);
    assert_int_equal(feedback(buf), 0); // it may come by itself
    now_ns += 200 * MS;
    assert_true(feedback(buf) > 0);
    assert_int_equal(count.plis, 1);
    now_ns += 100 * MS;
    assert_int_equal(feedback(buf), 0);
    now_ns += 400 * MS;
    assert_true(feedback(buf) > 0); // again, after half a second
}

// A key frame of three packets behind a hole: the picture goes on from there.
static void test_key_frame_behind_a_hole(void **state)
{
    frames(100, 102);
    packet(104, 40, false, true, true, false);
    packet(106, 40, true, true, false, false);
    assert_int_equal(count.keyframes, 1);
    assert_int_equal(packet(105, 40, false, true, false, false) & FRAMES_KEY_DONE, FRAMES_KEY_DONE);
    assert_int_equal(count.keyframes, 2);
    packet(107, 50, true, false, true, false);
    assert_int_equal(count.frames, 5);
    packet(103, 30, true, false, true, true); // comes too late for the picture
    assert_int_equal(count.frames, 5);
}

static void test_freeze_rule(void **state)
{
    static const struct {
        unsigned pause_ms, freezes;
    } rows[] = {{100, 0}, {180, 0}, {230, 1}, {1000, 1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(true);
        frames(100, 140); // 40 ms apart: the bound is 190 ms
        now_ns += (rows[i].pause_ms - 40) * MS;
        frames(141, 145);
        assert_int_equal(count.freezes, rows[i].freezes);
        if (rows[i].freezes)
            assert_in_range(count.frozen_ms, rows[i].pause_ms - 42, rows[i].pause_ms - 38);
        receive_end(&receive, now_ns);
    }
    begin(true);
    frames(100, 140);
    receive_end(&receive, now_ns + 5000 * MS); // stands still until the end
    assert_int_equal(count.freezes, 1);
    assert_in_range(count.frozen_ms, 4900, 5001);
}

static void test_pending_at_the_end_is_not_lost(void **state)
{
    frames(100, 102);
    packet(104, 104 * 3600, true, false, true, false);
    now_ns += 499 * MS;
    receive_end(&receive, now_ns);
    assert_int_equal(count.lost, 0);
    begin(true);
    frames(100, 102);
    packet(104, 104 * 3600, true, false, true, false);
    now_ns += 501 * MS;
    receive_end(&receive, now_ns);
    assert_int_equal(count.lost, 1);
}

static void test_report_block(void **state)
{
    struct rtcp_block block;
    frames(100, 109);
    packet(115, 115 * 3600, true, false, true, false);
    receive.sr_middle = 0x1234;
    receive.sr_ns = now_ns;
    receive_report(&receive, &block, now_ns + 500 * MS);
    assert_int_equal(block.ssrc, 7);
    assert_int_equal(block.cumulative_lost, 5);
    assert_int_equal(block.highest_seq & 0xffff, 115);
    assert_int_equal(block.lsr, 0x1234);
    assert_int_equal(block.dlsr, 32768);
}

static void test_nack_list(void **state)
{
    struct nack nack = {0};
    struct nack_entry entry;
    uint16_t seqs[8];
    unsigned dropped, given_up = 0;
    assert_true(nack_add(&nack, 1000, 10, 0, &dropped));
    assert_int_equal(nack_due(&nack, true, 0, 0, seqs, 8, &given_up), 8); // no more fit
    assert_int_equal(nack_due(&nack, true, 0, 0, seqs, 8, &given_up), 2); // the rest
    assert_int_equal(seqs[1], 1009);
    assert_false(nack_remove(&nack, 999, &entry));
    assert_false(nack_remove(&nack, 1010, &entry));
    assert_true(nack_remove(&nack, 1000, &entry));
    assert_true(nack_remove(&nack, 1009, &entry));
    assert_true(nack_remove(&nack, 1005, &entry));
    assert_false(nack_remove(&nack, 1005, &entry));
    assert_int_equal(nack.count, 7);
    assert_false(nack_add(&nack, 2000, NACK_MAX - 6, 0, &dropped));
    assert_int_equal(dropped, 7);
    assert_int_equal(nack.count, 0);
    assert_int_equal(nack_next(&nack), UINT64_MAX);
    nack_free(&nack);
}

static void test_index_reuse(void **state)
{
    static struct reuse reuse;
    memset(&reuse, 0, sizeof(reuse));
    assert_int_equal(reuse_look(&reuse, 5, 0), REUSE_NEW);
    for (uint64_t i = 10; i < 10000; i++) {
        assert_int_equal(reuse_look(&reuse, i, (uint32_t)i * 77), REUSE_NEW);
        reuse_note(&reuse, i, (uint32_t)i * 77);
    }
    for (uint64_t i = 10000 - REUSE_WINDOW; i < 10000; i++) {
        assert_int_equal(reuse_look(&reuse, i, (uint32_t)i * 77), REUSE_SAME);
        assert_int_equal(reuse_look(&reuse, i, (uint32_t)i * 77 + 1), REUSE_OTHER);
    }
    assert_int_equal(reuse_look(&reuse, 10000 - REUSE_WINDOW - 1, 1), REUSE_TOO_OLD);
    reuse_note(&reuse, 10003, 0); // a hash of 0 is a hash, too; 10000..10002 are holes
    assert_int_equal(reuse_look(&reuse, 10003, 0), REUSE_SAME);
    assert_int_equal(reuse_look(&reuse, 10001, 9), REUSE_NEW);
    reuse_note(&reuse, 10001, 9);
    assert_int_equal(reuse_look(&reuse, 10001, 9), REUSE_SAME);
    reuse_note(&reuse, 1000000, 3);
    assert_int_equal(reuse_look(&reuse, 1000000 - 1, 3), REUSE_NEW);
    assert_int_equal(reuse_look(&reuse, 1000000, 4), REUSE_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_is_well, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_packet_is_asked_for_and_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_asks_ten_times_then_wants_a_key_frame, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_nack_it_waits_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reordering_is_no_recovery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_gaps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_frames_without_key_frame, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_frame_behind_a_hole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_freeze_rule, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pending_at_the_end_is_not_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_report_block, setup, teardown),
        cmocka_unit_test(test_nack_list),
        cmocka_unit_test(test_index_reuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
