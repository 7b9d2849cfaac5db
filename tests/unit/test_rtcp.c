// rtcp.c: what is written is read back, what is broken is refused.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "../../dataplane/bytes.h"
#include "../../dataplane/rtcp.h"
#include <errno.h>
#include <stdlib.h>

static const struct rtcp_sender sender = {
    .ssrc = 0x11223344,
    .ntp = UINT64_C(0xe1e2e3e4e5e6e7e8),
    .rtp = 0xa0b0c0d0,
    .packets = 1000,
    .bytes = 1200000,
};
static const struct rtcp_block blocks[2] = {
    {.ssrc = 7,
     .fraction_lost = 255,
     .cumulative_lost = -3,
     .highest_seq = 0x00010005,
     .jitter = 900,
     .lsr = 0xe3e4e5e6,
     .dlsr = 65536},
    {.ssrc = 8, .cumulative_lost = 0x7fffff},
};

// One of everything.
static size_t compound(uint8_t *buf, size_t size)
{
    static const uint16_t lost[] = {10, 11, 26, 27, 65000};
    static const uint32_t ssrcs[] = {7, 8};
    size_t n = rtcp_write_sr(buf, size, 0, &sender, blocks, 2);

    n = rtcp_write_rr(buf, size, n, 5, blocks, 1);
    n = rtcp_write_sdes(buf, size, n, 0x11223344, "hitless");
    n = rtcp_write_nack(buf, size, n, 1, 2, lost, 5);
    n = rtcp_write_pli(buf, size, n, 1, 2);
    n = rtcp_write_fir(buf, size, n, 1, 2, 77);
    n = rtcp_write_remb(buf, size, n, 1, 2500000, ssrcs, 2);
    return rtcp_write_bye(buf, size, n, ssrcs, 2);
}

static void expect_block(const struct rtcp_packet *packet, unsigned i)
{
    struct rtcp_block b;

    assert_true(rtcp_read_block(packet, i, &b));
    assert_int_equal(b.ssrc, blocks[i].ssrc);
    assert_int_equal(b.fraction_lost, blocks[i].fraction_lost);
    assert_int_equal(b.cumulative_lost, blocks[i].cumulative_lost);
    assert_int_equal(b.highest_seq, blocks[i].highest_seq);
    assert_int_equal(b.jitter, blocks[i].jitter);
    assert_int_equal(b.lsr, blocks[i].lsr);
    assert_int_equal(b.dlsr, blocks[i].dlsr);
}

static void test_compound(void **state)
{
    uint8_t buf[512];
    size_t length = compound(buf, sizeof(buf));
    struct rtcp_iter iter;
    struct rtcp_packet p;
    struct rtcp_sender s;
    struct rtcp_block b;
    struct rtcp_remb remb;
    uint32_t ssrc;
    uint8_t seq;

    assert_int_equal(length, 76 + 32 + 20 + 24 + 12 + 20 + 28 + 12);
    assert_int_equal(rtcp_check(buf, length), 0);
    rtcp_begin(&iter, buf, length);

    assert_int_equal(rtcp_next(&iter, &p), 1);
    assert_true(rtcp_read_sr(&p, &s));
    assert_true(s.ssrc == sender.ssrc && s.ntp == sender.ntp && s.rtp == sender.rtp);
    assert_true(s.packets == sender.packets && s.bytes == sender.bytes);
    expect_block(&p, 0);
    expect_block(&p, 1);
    assert_false(rtcp_read_block(&p, 2, &b));
    assert_false(rtcp_is_pli(&p));

    assert_int_equal(rtcp_next(&iter, &p), 1);
    assert_int_equal(p.type, RTCP_RR);
    assert_true(rtcp_read_sender_ssrc(&p, &ssrc));
    assert_int_equal(ssrc, 5);
    assert_false(rtcp_read_sr(&p, &s));
    expect_block(&p, 0);

    assert_int_equal(rtcp_next(&iter, &p), 1);
    struct rtcp_sdes_iter sdes;
    struct rtcp_sdes_item item;
    assert_true(rtcp_sdes_begin(&sdes, &p));
    assert_true(rtcp_sdes_next(&sdes, &item));
    assert_int_equal(item.ssrc, 0x11223344);
    assert_int_equal(item.type, SDES_CNAME);
    assert_int_equal(item.length, 7);
    assert_memory_equal(item.text, "hitless", 7);
    assert_false(rtcp_sdes_next(&sdes, &item));

    assert_int_equal(rtcp_next(&iter, &p), 1);
    struct rtcp_nack_iter nack;
    static const uint16_t lost[] = {10, 11, 26, 27, 65000};
    uint16_t number;
    assert_true(rtcp_nack_begin(&nack, &p));
    for (size_t i = 0; i < 5; i++) {
        assert_true(rtcp_nack_next(&nack, &number));
        assert_int_equal(number, lost[i]);
    }
    assert_false(rtcp_nack_next(&nack, &number));

    assert_int_equal(rtcp_next(&iter, &p), 1);
    struct rtcp_feedback fb;
    assert_true(rtcp_is_pli(&p));
    assert_true(rtcp_read_feedback(&p, &fb));
    assert_true(fb.sender_ssrc == 1 && fb.media_ssrc == 2 && fb.fci_length == 0);
    assert_false(rtcp_nack_begin(&nack, &p));

    assert_int_equal(rtcp_next(&iter, &p), 1);
    assert_true(rtcp_read_fir(&p, 0, &ssrc, &seq));
    assert_true(ssrc == 2 && seq == 77);
    assert_false(rtcp_read_fir(&p, 1, &ssrc, &seq));
    assert_false(rtcp_read_remb(&p, &remb));

    assert_int_equal(rtcp_next(&iter, &p), 1);
    assert_true(rtcp_read_remb(&p, &remb));
    assert_int_equal(remb.bitrate, 2500000 & ~UINT64_C(15));
    assert_int_equal(remb.count, 2);
    assert_int_equal(load_be32(remb.ssrcs + 4), 8);

    assert_int_equal(rtcp_next(&iter, &p), 1);
    assert_true(rtcp_read_bye(&p, 0, &ssrc));
    assert_int_equal(ssrc, 7);
    assert_true(rtcp_read_bye(&p, 1, &ssrc));
    assert_int_equal(ssrc, 8);
    assert_false(rtcp_read_bye(&p, 2, &ssrc));
    assert_int_equal(rtcp_next(&iter, &p), 0);
}

// Reads all that there is to read: for inputs that need only not break us.
static void read_everything(const uint8_t *data, size_t length)
{
    struct rtcp_iter iter;
    struct rtcp_packet p;

    rtcp_begin(&iter, data, length);
    while (rtcp_next(&iter, &p) > 0) {
        struct rtcp_sender s;
        struct rtcp_block b;
        struct rtcp_sdes_iter sdes;
        struct rtcp_sdes_item item;
        struct rtcp_feedback fb;
        struct rtcp_nack_iter nack;
        struct rtcp_remb remb;
        uint32_t ssrc, sum = 0;
        uint16_t number;
        uint8_t seq;
        rtcp_read_sr(&p, &s);
        rtcp_read_sender_ssrc(&p, &ssrc);
        for (unsigned i = 0; i < 32; i++) {
            rtcp_read_block(&p, i, &b);
            rtcp_read_bye(&p, i, &ssrc);
            rtcp_read_fir(&p, i, &ssrc, &seq);
        }
        if (rtcp_sdes_begin(&sdes, &p))
            while (rtcp_sdes_next(&sdes, &item))
                for (int i = 0; i < item.length; i++)
                    sum += item.text[i];
        if (rtcp_read_feedback(&p, &fb))
            for (uint32_t i = 0; i < fb.fci_length; i++)
                sum += fb.fci[i];
        if (rtcp_nack_begin(&nack, &p))
            while (rtcp_nack_next(&nack, &number))
                sum += number;
        if (rtcp_read_remb(&p, &remb))
            for (unsigned i = 0; i < remb.count; i++)
                sum += load_be32(remb.ssrcs + (size_t)i * 4);
        assert_true(sum != 1u << 31);
    }
}

static void test_truncated_and_flipped(void **state)
{
    uint8_t buf[512];
    size_t length = compound(buf, sizeof(buf));

    assert_true(length > 0);
    for (size_t n = 0; n < length; n++) {
        uint8_t *copy = malloc(n + (n == 0));
        assert_non_null(copy);
        memcpy(copy, buf, n);
        if (n % 4 != 0 || n == 0)
            assert_int_equal(rtcp_check(copy, n), -EBADMSG);
        read_everything(copy, n);
        free(copy);
    }
    uint8_t *copy = malloc(length + (length == 0));
    assert_non_null(copy);
    memcpy(copy, buf, length);
    for (size_t n = 0; n < length; n++)
        for (int v = 0; v < 256; v++) {
            copy[n] = (uint8_t)v;
            read_everything(copy, length);
            copy[n] = buf[n];
        }
    free(copy);
}

static void test_writers_are_bounded(void **state)
{
    uint8_t whole[512];
    const uint32_t ssrcs[2] = {7, 8};
    const uint16_t lost[2] = {1, 100};

    for (size_t size = 0; size < 120; size++) {
        uint8_t *buf = malloc(size + 1);
        assert_non_null(buf);
        buf[size] = 0x5a;
        assert_int_equal(rtcp_write_sr(buf, size, 0, &sender, blocks, 2), size < 76 ? 0 : 76);
        assert_int_equal(rtcp_write_rr(buf, size, 4, 1, blocks, 2), size < 60 ? 0 : 60);
        assert_int_equal(rtcp_write_sdes(buf, size, 0, 1, "abc"), size < 16 ? 0 : 16);
        assert_int_equal(rtcp_write_bye(buf, size, 0, ssrcs, 2), size < 12 ? 0 : 12);
        assert_int_equal(rtcp_write_nack(buf, size, 0, 1, 2, lost, 2), size < 20 ? 0 : 20);
        assert_int_equal(rtcp_write_pli(buf, size, 0, 1, 2), size < 12 ? 0 : 12);
        assert_int_equal(rtcp_write_fir(buf, size, 0, 1, 2, 3), size < 20 ? 0 : 20);
        assert_int_equal(rtcp_write_remb(buf, size, 0, 1, 9, ssrcs, 2), size < 28 ? 0 : 28);
        assert_int_equal(rtcp_write_pli(buf, size, size + 1, 1, 2), 0);
        assert_int_equal(buf[size], 0x5a);
        free(buf);
    }
    assert_int_equal(rtcp_write_rr(whole, sizeof(whole), 0, 1, NULL, 32), 0);
    assert_int_equal(rtcp_write_rr(whole, sizeof(whole), 0, 1, NULL, 0), 8);
    assert_int_equal(rtcp_write_bye(whole, sizeof(whole), 0, ssrcs, 0), 0);
    assert_int_equal(rtcp_write_nack(whole, sizeof(whole), 0, 1, 2, lost, 0), 0);
    assert_int_equal(rtcp_write_sdes(whole, sizeof(whole), 0, 1, ""), 0);
    assert_int_equal(rtcp_write_remb(whole, sizeof(whole), 0, 1, 1, ssrcs, 0), 0);
}

static void test_heads(void **state)
{
    static const struct {
        uint8_t length;
        int rc;
        const char *bytes;
    } table[] = {
        {4, 0, "\x80\xcb\x00\x00"},                        // BYE of nobody
        {4, -EBADMSG, "\x40\xcb\x00\x00"},                 // version 1
        {4, -EBADMSG, "\x80\xcb\x00\x01"},                 // longer than it is
        {8, 0, "\xa0\xcb\x00\x01\x00\x00\x00\x04"},        // nothing but padding
        {8, -EBADMSG, "\xa0\xcb\x00\x01\x00\x00\x00\x08"}, // padding over the head
        {8, -EBADMSG, "\xa0\xcb\x00\x01\x00\x00\x00\x00"}, // padding of 0
        {8, 0, "\xa0\xcb\x00\x01\x00\x00\x00\x03"},        // not a multiple of 4: let pass
        {4, -EBADMSG, "\xa0\xcb\x00\x00"},                 // no room for padding
        {7, -EBADMSG, "\x80\xcb\x00\x00\x80\xcb\x00"},     // a second one cut short
        {12, 0, "\x81\xce\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02"}, // reduced size, RFC 5506
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (rtcp_check((const uint8_t *)table[i].bytes, table[i].length) != table[i].rc)
            fail_msg("row %zu", i);
}

static void test_sdes_chunks(void **state)
{
    // Two chunks: CNAME "a" and NOTE "xy"; an empty one; then CNAME "bcd".
    static const uint8_t packet[] = {
        0x83, 202, 0, 9, 0, 0, 0, 1, 1, 1, 'a', 7,   2,   'x', 'y', 0, 0, 0, 0, 2,
        0,    0,   0, 0, 0, 0, 0, 3, 1, 3, 'b', 'c', 'd', 0,   0,   0, 0, 0, 0, 0,
    };
    struct rtcp_iter iter;
    struct rtcp_packet p;
    struct rtcp_sdes_iter sdes;
    struct rtcp_sdes_item item;

    rtcp_begin(&iter, packet, sizeof(packet));
    assert_int_equal(rtcp_next(&iter, &p), 1);
    assert_true(rtcp_sdes_begin(&sdes, &p));
    assert_true(rtcp_sdes_next(&sdes, &item));
    assert_true(item.ssrc == 1 && item.type == SDES_CNAME && item.length == 1);
    assert_true(rtcp_sdes_next(&sdes, &item));
    assert_true(item.ssrc == 1 && item.type == 7 && item.length == 2);
    assert_true(rtcp_sdes_next(&sdes, &item));
    assert_true(item.ssrc == 3 && item.length == 3);
    assert_memory_equal(item.text, "bcd", 3);
    assert_false(rtcp_sdes_next(&sdes, &item));
}

// Any ascending list comes back, also over the wrap; 17 consecutive losses need one pair.
static void test_nack_round_trip(void **state)
{
    uint16_t lost[200];
    uint8_t buf[1000];
    uint32_t random = 1;

    for (unsigned round = 0; round < 200; round++) {
        size_t count = 1 + round % 200;
        lost[0] = (uint16_t)(65400 + round);
        for (size_t i = 1; i < count; i++) {
            random = random * 1664525 + 1013904223;
            lost[i] = (uint16_t)(lost[i - 1] + 1 + (random >> 24) % (round % 40 + 1));
        }
        size_t length = rtcp_write_nack(buf, sizeof(buf), 0, 1, 2, lost, count);
        struct rtcp_iter iter;
        struct rtcp_packet p;
        struct rtcp_nack_iter nack;
        uint16_t seq;
        rtcp_begin(&iter, buf, length);
        assert_int_equal(rtcp_next(&iter, &p), 1);
        assert_true(rtcp_nack_begin(&nack, &p));
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(rtcp_nack_count(&nack), count - i);
            assert_true(rtcp_nack_next(&nack, &seq));
            assert_int_equal(seq, lost[i]);
        }
        assert_int_equal(rtcp_nack_count(&nack), 0);
        assert_false(rtcp_nack_next(&nack, &seq));
        if (round % 40 == 0)
            assert_int_equal(length, 12 + (count + 16) / 17 * 4);
    }
}

// Padding that leaves less than one entry leaves no NACK.
static void test_nack_cut_by_padding(void **state)
{
    static const uint8_t packet[] = {0xa1, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 10, 0, 1};
    struct rtcp_iter iter;
    struct rtcp_packet p;
    struct rtcp_nack_iter nack;

    rtcp_begin(&iter, packet, sizeof(packet));
    assert_int_equal(rtcp_next(&iter, &p), 1);
    assert_int_equal(p.length, 15);
    assert_false(rtcp_nack_begin(&nack, &p));
}

static void test_remb_range(void **state)
{
    static const uint64_t rates[] = {0, 1, 0x3ffff, 0x40000, 1000000007, UINT64_MAX};
    const uint32_t ssrc = 1;
    uint8_t buf[24];
    struct rtcp_iter iter;
    struct rtcp_packet p;
    struct rtcp_remb remb;

    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        size_t length = rtcp_write_remb(buf, sizeof(buf), 0, 1, rates[i], &ssrc, 1);
        rtcp_begin(&iter, buf, length);
        assert_int_equal(rtcp_next(&iter, &p), 1);
        assert_true(rtcp_read_remb(&p, &remb));
        assert_true(remb.bitrate <= rates[i] && rates[i] - remb.bitrate <= rates[i] >> 17);
    }
    store_be24(buf + 17, 0xffffff); // 2^18 - 1 times 2^63
    assert_true(rtcp_read_remb(&p, &remb));
    assert_true(remb.bitrate == UINT64_MAX);
}

static void test_ntp(void **state)
{
    // 1 January 1970, and a nanosecond before February 2036, when the era wraps.
    assert_true(rtcp_ntp_from_ns(0) == UINT64_C(2208988800) << 32);
    static const uint64_t times[] = {0,
                                     1,
                                     999999999,
                                     UINT64_C(1700000000123456789),
                                     UINT64_C(2085978495999999999),
                                     UINT64_C(2085978496000000000),
                                     UINT64_C(4000000000000000001)};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        assert_true(rtcp_ntp_to_ns(rtcp_ntp_from_ns(times[i])) == times[i]);
    assert_int_equal(rtcp_ntp_middle(UINT64_C(0x1111222233334444)), 0x22223333);
    assert_int_equal(rtcp_dlsr_from_ns(UINT64_C(5250000000)), 0x00054000);
    assert_int_equal(rtcp_dlsr_from_ns(UINT64_MAX), UINT32_MAX);
}

static void test_rtt(void **state)
{
    uint64_t ns;

    // The example of RFC 3550 figure 2: 6.125 s.
    assert_true(rtcp_rtt_ns(0xb7108000, 0xb7052000, 0x00054000, &ns));
    assert_true(ns == UINT64_C(6125000000));
    assert_true(rtcp_rtt_ns(0x00000100, 0xffffff00, 0x100, &ns)); // over the wrap
    assert_true(ns == UINT64_C(256) * 1000000000 / 65536);
    assert_false(rtcp_rtt_ns(1000, 0, 0, &ns));
    assert_false(rtcp_rtt_ns(1000, 900, 101, &ns));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compound),
        cmocka_unit_test(test_truncated_and_flipped),
        cmocka_unit_test(test_writers_are_bounded),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_sdes_chunks),
        cmocka_unit_test(test_nack_round_trip),
        cmocka_unit_test(test_nack_cut_by_padding),
        cmocka_unit_test(test_remb_range),
        cmocka_unit_test(test_ntp),
        cmocka_unit_test(test_rtt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
