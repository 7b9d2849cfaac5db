// rtp.c: headers, extensions, numbers, key frames and reception figures.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "../../dataplane/bytes.h"
#include "../../dataplane/rtp.h"
#include <errno.h>
#include <stdlib.h>

static void test_header(void **state)
{
    // Two CSRCs, an extension of two words, five bytes of payload, three of padding.
    static const uint8_t packet[] = {
        0xb2, 0xe0, 0x12, 0x34, 1,   2,   3,    4,    0xde, 0xad, 0xbe, 0xef, 1,    1,
        1,    1,    2,    2,    2,   2,   0xbe, 0xde, 0,    2,    0x10, 7,    0x21, 8,
        9,    0,    0,    0,    'h', 'e', 'l',  'l',  'o',  0,    0,    3,
    };
    struct rtp_view v;

    assert_int_equal(rtp_parse(packet, sizeof(packet), &v), 0);
    assert_ptr_equal(v.packet, packet);
    assert_int_equal(v.seq, 0x1234);
    assert_int_equal(v.timestamp, 0x01020304);
    assert_int_equal(v.ssrc, 0xdeadbeef);
    assert_int_equal(v.pt, 96);
    assert_true(v.marker);
    assert_int_equal(v.csrc_count, 2);
    assert_int_equal(v.ext_profile, RTP_EXT_ONE);
    assert_int_equal(v.ext, 24);
    assert_int_equal(v.ext_length, 8);
    assert_int_equal(v.header, 32);
    assert_int_equal(v.payload_length, 5);
    assert_int_equal(v.padding, 3);
    assert_int_equal(rtp_parse_header(packet, sizeof(packet), &v), 0);
    assert_int_equal(v.payload_length, 8);

    for (size_t n = 0; n < 32; n++) {
        uint8_t *copy = malloc(n + (n == 0));
        assert_non_null(copy);
        memcpy(copy, packet, n);
        assert_int_equal(rtp_parse_header(copy, n, &v), -EBADMSG);
        free(copy);
    }
}

static void test_header_bounds(void **state)
{
    uint8_t p[16] = {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4};
    struct rtp_view v;

    assert_int_equal(rtp_parse(p, 16, &v), 0); // nothing but padding
    assert_int_equal(v.payload_length, 0);
    p[15] = 5;
    assert_int_equal(rtp_parse(p, 16, &v), -EBADMSG);
    p[15] = 0;
    assert_int_equal(rtp_parse(p, 16, &v), -EBADMSG);
    assert_int_equal(rtp_parse_header(p, 16, &v), 0);
    assert_int_equal(rtp_parse(p, 12, &v), -EBADMSG);
    p[0] = 0x60;
    assert_int_equal(rtp_parse_header(p, 16, &v), -EBADMSG);
    p[0] = 0x90;
    p[14] = 0xff; // an extension of 262,000 bytes
    assert_int_equal(rtp_parse_header(p, 16, &v), -EBADMSG);
    assert_int_equal(rtp_parse_header(p, 70000, &v), -EBADMSG);
}

// Writes `bytes` as the extension of a packet and walks it; returns the ids seen, as digits.
static uint64_t walk(uint16_t profile, const char *bytes, size_t length)
{
    uint8_t *packet = malloc(RTP_HEADER + 4 + length);
    struct rtp_view v;
    struct rtp_ext_iter iter;
    struct rtp_ext ext;
    uint64_t seen = 0;

    assert_non_null(packet);
    rtp_header_write(packet, &(struct rtp_header){.pt = 96, .extension = true});
    store_be16(packet + 12, profile);
    store_be16(packet + 14, (uint16_t)(length / 4));
    memcpy(packet + 16, bytes, length);
    assert_int_equal(rtp_parse(packet, RTP_HEADER + 4 + length, &v), 0);
    rtp_ext_begin(&iter, &v);
    while (rtp_ext_next(&iter, &ext)) {
        seen = seen * 100 + ext.id;
        for (int i = 0; i < ext.length; i++)
            assert_true(ext.data[i] != 0xee); // never past the element
    }
    assert_false(rtp_ext_next(&iter, &ext));
    free(packet);
    return seen;
}

static void test_extensions(void **state)
{
    static const struct {
        uint16_t profile;
        uint8_t length;
        const char *bytes;
        uint64_t seen;
    } table[] = {
        {0xbede, 8, "\x10\x07\x21\x08\x09\x00\x30\x01", 10203},
        {0xbede, 4, "\x00\x00\x00\x00", 0},
        {0xbede, 4, "\x10\x01\x00\x50", 1},                 // no data behind the last
        {0xbede, 8, "\x10\x01\x2f\x01\x01\x01\x01\x01", 1}, // 16 bytes, 5 there
        {0xbede, 8, "\x10\x01\xf0\x01\x20\x01\x00\x00", 1}, // id 15 ends it
        {0xbede, 8, "\x10\x01\x02\x01\x01\x01\x20\x01", 1}, // so does id 0 with a length
        {0x1000, 8, "\x01\x00\x02\x01\x05\x00\x03\x00", 10203},
        {0x100f, 4, "\x10\x02\x01\x01", 16},
        {0x1000, 4, "\x01\x00\x02\x01", 1},
        {0x1000, 4, "\x01\x01\x02\x03", 1}, // an id without a length
        {0x1234, 4, "\x10\x01\x20\x01", 0}, // a profile that is not RFC 8285's
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_int_equal(walk(table[i].profile, table[i].bytes, table[i].length), table[i].seen);
}

static void test_extension_writer(void **state)
{
    static const uint8_t data[300] = {9, 8, 7, 6};
    static const struct {
        struct rtp_ext list[3];
        size_t count, length;
        uint16_t profile;
    } table[] = {
        {{{1, 1, data}, {14, 16, data}}, 2, 24, RTP_EXT_ONE},
        {{{1, 3, data}}, 1, 8, RTP_EXT_ONE},
        {{{1, 4, data}}, 1, 12, RTP_EXT_ONE},
        {{{15, 1, data}}, 1, 8, RTP_EXT_TWO},
        {{{1, 17, data}, {2, 0, data}}, 2, 28, RTP_EXT_TWO},
        {{{1, 255, data}, {255, 1, data}, {3, 2, data}}, 3, 268, RTP_EXT_TWO},
        {{{0, 1, data}}, 1, 0, 0},
        {{{1, 1, data}}, 0, 0, 0},
    };
    uint8_t packet[400];
    struct rtp_view v;
    struct rtp_ext ext;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        rtp_header_write(packet, &(struct rtp_header){.pt = 96, .extension = true});
        size_t n = rtp_ext_write(packet + 12, sizeof(packet) - 12, table[i].list, table[i].count);
        assert_int_equal(n, table[i].length);
        if (n == 0)
            continue;
        assert_int_equal(rtp_parse(packet, 12 + n, &v), 0);
        assert_int_equal(v.payload_length, 0);
        assert_int_equal(v.ext_profile, table[i].profile);
        for (size_t e = 0; e < table[i].count; e++) {
            assert_true(rtp_ext_find(&v, table[i].list[e].id, &ext));
            assert_int_equal(ext.length, table[i].list[e].length);
            assert_memory_equal(ext.data, data, ext.length);
        }
        assert_false(rtp_ext_find(&v, 77, &ext));
        assert_int_equal(rtp_ext_write(packet + 12, n - 1, table[i].list, table[i].count), 0);
    }
}

static void test_header_writer(void **state)
{
    const struct rtp_header h = {.pt = 111,
                                 .marker = true,
                                 .padding = true,
                                 .seq = 65535,
                                 .timestamp = 0xfffffffe,
                                 .ssrc = 0x80000001};
    uint8_t packet[13] = {[12] = 1};
    struct rtp_view v;

    rtp_header_write(packet, &h);
    assert_int_equal(rtp_parse(packet, sizeof(packet), &v), 0);
    assert_true(v.pt == h.pt && v.marker && v.seq == h.seq && v.padding == 1);
    assert_true(v.timestamp == h.timestamp && v.ssrc == h.ssrc && v.csrc_count == 0);
}

static void test_sequence_numbers(void **state)
{
    static const struct {
        uint64_t highest;
        uint16_t seq;
        uint64_t nearest;
    } table[] = {
        {100, 101, 101},
        {100, 99, 99},
        {65535, 0, 65536},
        {65536, 65535, 65535},
        {65536 + 32767, 65535, 65535},
        {65536 + 32768, 65535, 131071},
        {65536, 32768, 32768},
        {65536, 32767, 65536 + 32767},
        {5, 65530, 65530}, // nothing below 0
        {0, 32768, 32768},
        {UINT64_C(0xffffffff0000), 0xffff, UINT64_C(0xfffffffeffff)},
        {UINT64_C(0xfffffffeffff), 3, UINT64_C(0xffffffff0003)},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint64_t highest = table[i].highest;
        assert_int_equal(rtp_nearest_seq(highest, table[i].seq), table[i].nearest);
        assert_int_equal(rtp_unwrap_seq(&highest, table[i].seq), table[i].nearest);
        assert_int_equal(highest,
                         table[i].nearest > table[i].highest ? table[i].nearest : table[i].highest);
    }
    // A million packets, reordered by up to 7, with jumps: every number comes back.
    uint64_t highest = RTP_SEQ_START(65000);
    for (uint64_t n = 0; n < 1000000; n++) {
        uint64_t sent = RTP_SEQ_START(65000) + (n ^ 5) + n / 1000 * 900;
        assert_int_equal(rtp_unwrap_seq(&highest, (uint16_t)sent), sent);
    }
}

static void test_keyframes(void **state)
{
    static const struct {
        enum codec codec;
        bool key;
        uint8_t length;
        const char *payload;
    } table[] = {
        {CODEC_VP8, true, 2, "\x10\x00"},
        {CODEC_VP8, false, 2, "\x10\x01"},             // P
        {CODEC_VP8, false, 2, "\x00\x00"},             // S clear
        {CODEC_VP8, false, 2, "\x11\x00"},             // partition 1
        {CODEC_VP8, false, 1, "\x10"},                 // nothing behind the descriptor
        {CODEC_VP8, true, 4, "\x90\x80\x05\x00"},      // 7-bit picture id
        {CODEC_VP8, true, 5, "\x90\x80\x85\x05\x00"},  // 15-bit
        {CODEC_VP8, false, 5, "\x90\x80\x85\x05\x01"}, //
        {CODEC_VP8, true, 7, "\x90\xf0\x85\x01\x01\x01\x00"},
        {CODEC_VP8, true, 4, "\x90\x10\x01\x00"},
        {CODEC_VP8, false, 1, "\x90"},
        {CODEC_VP8, false, 2, "\x90\x80"},
        {CODEC_VP8, false, 0, ""},
        {CODEC_VP9, true, 2, "\x08\x00"},
        {CODEC_VP9, false, 2, "\x48\x00"},            // inter-picture
        {CODEC_VP9, false, 2, "\x00\x00"},            // not the beginning
        {CODEC_VP9, true, 4, "\xa8\x05\x00\x00"},     // layer 0
        {CODEC_VP9, false, 4, "\xa8\x05\x02\x00"},    // layer 1 of a key superframe
        {CODEC_VP9, true, 5, "\xa8\x85\x05\x01\x00"}, // 15-bit picture id, D
        {CODEC_VP9, false, 3, "\xa8\x85\x05"},        // ends early
        {CODEC_VP9, false, 1, "\xa8"},                //
        {CODEC_VP9, false, 0, ""},                    //
        {CODEC_H264, true, 2, "\x65\x88"},            // IDR
        {CODEC_H264, true, 2, "\x67\x42"},            // SPS
        {CODEC_H264, false, 2, "\x68\x42"},           // PPS
        {CODEC_H264, false, 2, "\x61\x42"},           //
        {CODEC_H264, true, 2, "\x7c\x85"},            // FU-A, first of an IDR
        {CODEC_H264, false, 2, "\x7c\x05"},           // FU-A, middle
        {CODEC_H264, false, 2, "\x7c\x81"},           //
        {CODEC_H264, false, 1, "\x7c"},               //
        {CODEC_H264, true, 7, "\x78\x00\x01\x68\x00\x01\x65"},
        {CODEC_H264, false, 7, "\x78\x00\x01\x68\x00\x01\x61"},
        {CODEC_H264, false, 7, "\x78\x00\x01\x68\x00\x02\x65"}, // past the end
        {CODEC_H264, false, 7, "\x78\x00\x00\x65\x00\x01\x65"}, // empty unit
        {CODEC_H264, false, 3, "\x78\x00\x01"},
        {CODEC_H264, false, 0, ""},
        {CODEC_H265, true, 2, "\x26\x01"},      // IDR_W_RADL
        {CODEC_H265, true, 2, "\x2a\x01"},      // CRA
        {CODEC_H265, true, 2, "\x40\x01"},      // VPS
        {CODEC_H265, false, 2, "\x02\x01"},     // TRAIL_R
        {CODEC_H265, false, 2, "\x44\x01"},     // PPS
        {CODEC_H265, true, 3, "\x62\x01\x93"},  // FU, first of an IDR
        {CODEC_H265, false, 3, "\x62\x01\x13"}, //
        {CODEC_H265, false, 2, "\x62\x01"},     //
        {CODEC_H265, true, 10, "\x60\x01\x00\x02\x44\x01\x00\x02\x26\x01"},
        {CODEC_H265, false, 10, "\x60\x01\x00\x02\x44\x01\x00\x02\x02\x01"},
        {CODEC_H265, false, 6, "\x60\x01\x00\x03\x26\x01"},
        {CODEC_H265, false, 1, "\x26"},
        {CODEC_AV1, true, 2, "\x18\x0a"},
        {CODEC_AV1, false, 2, "\x10\x0a"},
        {CODEC_AV1, false, 2, "\x98\x0a"},
        {CODEC_AV1, false, 1, "\x18"},
        {CODEC_OPUS, true, 1, "\x00"},
        {CODEC_PCMU, true, 0, ""},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t n = table[i].length;
        uint8_t *copy = malloc(n + (n == 0));
        assert_non_null(copy);
        memcpy(copy, table[i].payload, n);
        if (rtp_is_keyframe(table[i].codec, copy, n) != table[i].key)
            fail_msg("row %zu", i);
        free(copy);
    }
}

static void test_rtx(void **state)
{
    uint8_t packet[16];
    struct rtp_view v;
    uint16_t osn;

    rtp_header_write(packet, &(struct rtp_header){.pt = 97});
    rtp_rtx_write_osn(packet + 12, 0xabcd);
    assert_int_equal(rtp_parse(packet, 14, &v), 0);
    assert_int_equal(rtp_rtx_osn(&v, &osn), 0);
    assert_int_equal(osn, 0xabcd);
    assert_int_equal(rtp_parse(packet, 13, &v), 0);
    assert_int_equal(rtp_rtx_osn(&v, &osn), -EBADMSG);
}

static void test_rx_loss(void **state)
{
    struct rtp_rx_stats stats = {0};
    struct rtp_report_fields f;

    rtp_rx_report(&stats, &f);
    assert_int_equal(f.highest_seq, 0);
    // 65,500 ... over the wrap, every fourth is lost.
    for (uint32_t i = 0; i < 100; i++)
        if (i % 4 != 3)
            rtp_rx_update(&stats, (uint16_t)(65500 + i), 0, 0);
    rtp_rx_report(&stats, &f);
    assert_int_equal(f.highest_seq, 65500 + 98);
    assert_int_equal(f.cumulative_lost, 24);
    assert_int_equal(f.fraction_lost, 24 * 256 / 99);
    // Those that come late after all count.
    for (uint32_t i = 3; i < 100; i += 4)
        rtp_rx_recovered(&stats);
    rtp_rx_report(&stats, &f);
    assert_int_equal(f.cumulative_lost, -1); // number 99 was not yet expected
    assert_int_equal(f.fraction_lost, 0);
    // Nothing but loss.
    rtp_rx_update(&stats, (uint16_t)(65500 + 1000), 0, 0);
    rtp_rx_report(&stats, &f);
    assert_int_equal(f.cumulative_lost, 1001 - 101);
    assert_int_equal(f.fraction_lost, 901 * 256 / 902);
    // A packet from before the first one moves the base.
    stats = (struct rtp_rx_stats){0};
    rtp_rx_update(&stats, 0, 0, 0);
    rtp_rx_update(&stats, 65535, 0, 0);
    rtp_rx_report(&stats, &f);
    assert_int_equal(f.cumulative_lost, 0);
    assert_int_equal(f.highest_seq, 0);
    // Duplicates beyond 24 bits are clamped.
    stats.received += 1u << 25;
    rtp_rx_report(&stats, &f);
    assert_int_equal(f.cumulative_lost, -0x800000);
    stats.highest += 1u << 27;
    rtp_rx_report(&stats, &f);
    assert_int_equal(f.cumulative_lost, 0x7fffff);
    assert_int_equal(f.fraction_lost, 255);
}

static void test_rx_jitter(void **state)
{
    struct rtp_rx_stats stats = {0};
    struct rtp_report_fields f;

    // RFC 3550's own formula in floating point; transit alternates by 40 units around a wrap.
    double jitter = 0;
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t timestamp = 0xffffff00 + i * 960;
        rtp_rx_update(&stats, (uint16_t)i, timestamp, timestamp + 77 + (i % 2) * 40);
        if (i > 0)
            jitter += (40 - jitter) / 16;
    }
    rtp_rx_report(&stats, &f);
    assert_in_range(f.jitter, (uint32_t)jitter - 1, (uint32_t)jitter + 1);
}

static void test_clock(void **state)
{
    assert_int_equal(rtp_clock(0, 90000), 0);
    assert_int_equal(rtp_clock(1000000000, 90000), 90000);
    assert_int_equal(rtp_clock(20000000, 48000), 960);
    // 100 years do not overflow.
    uint64_t ns = UINT64_C(3155760000) * 1000000000;
    assert_int_equal(rtp_clock(ns + 500000000, 90000),
                     (uint32_t)(UINT64_C(3155760000) * 90000 + 45000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),        cmocka_unit_test(test_header_bounds),
        cmocka_unit_test(test_extensions),    cmocka_unit_test(test_extension_writer),
        cmocka_unit_test(test_header_writer), cmocka_unit_test(test_sequence_numbers),
        cmocka_unit_test(test_keyframes),     cmocka_unit_test(test_rtx),
        cmocka_unit_test(test_rx_loss),       cmocka_unit_test(test_rx_jitter),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
