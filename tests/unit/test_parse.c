// parse.c: frames built here byte by byte, frames built by frame_write, and what is wrong with
// both.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "../../dataplane/bytes.h"
#include "../../dataplane/parse.h"
#include <stdlib.h>

static const struct frame_path path4 = {
    .src_mac = {2, 0, 0, 0, 0, 1},
    .dst_mac = {2, 0, 0, 0, 0, 2},
    .ttl = 64,
    .dscp = 34,
    .src = {.ip = {192, 0, 2, 1}, .port = 40000, .family = 4},
    .dst = {.ip = {198, 51, 100, 7}, .port = 50001, .family = 4},
};
static const struct frame_path path6 = {
    .src_mac = {2, 0, 0, 0, 0, 1},
    .dst_mac = {2, 0, 0, 0, 0, 2},
    .ttl = 255,
    .dscp = 46,
    .vlan = 42,
    .src = {.ip = {0x20, 1, 0xd, 0xb8, [15] = 1}, .port = 3478, .family = 6},
    .dst = {.ip = {0x20, 1, 0xd, 0xb8, [14] = 9, [15] = 2}, .port = 4784, .family = 6},
};

// One's complement sum over 16-bit words as RFC 1071 says it, the oracle.
static uint16_t naive_sum(const uint8_t *p, size_t length, uint32_t sum)
{
    for (size_t i = 0; i < length; i++)
        sum += (uint32_t)p[i] << (i % 2 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

// A frame of `path` with `length` bytes of payload that starts with `first`, `second`.
static size_t build(uint8_t *frame, const struct frame_path *path, size_t length, uint8_t first,
                    uint8_t second, unsigned offload)
{
    struct frame_template template;

    frame_template_init(&template, path);
    for (size_t i = 0; i < length; i++)
        frame[template.length + i] = (uint8_t)(i * 31 + 5);
    if (length > 0)
        frame[template.length] = first;
    if (length > 1)
        frame[template.length + 1] = second;
    frame_write(&template, frame, length, offload);
    return template.length + length;
}

static void test_checksum_against_naive(void **state)
{
    static uint8_t data[3000];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i % 5 == 0 ? 0xff : i * 73);
    for (size_t n = 0; n < 300; n++) {
        uint16_t sum = checksum_fold(checksum_add(data + n % 7, n, 0));
        assert_int_equal(__builtin_bswap16((uint16_t)~sum), naive_sum(data + n % 7, n, 0));
    }
    // In pieces, and on top of a sum that is about to wrap.
    uint64_t whole = checksum_add(data, sizeof(data), UINT64_MAX - 3);
    uint64_t pieces = UINT64_MAX - 3;
    for (size_t at = 0, n = 2; at < sizeof(data); at += n, n += 14) {
        if (n > sizeof(data) - at)
            n = sizeof(data) - at;
        pieces = checksum_add(data + at, n, pieces);
    }
    assert_int_equal(checksum_fold(whole), checksum_fold(pieces));
    memset(data, 0xff, sizeof(data));
    assert_int_equal(checksum_fold(checksum_add(data, sizeof(data), 0)), 0);
    assert_int_equal(checksum_udp(checksum_add(data, sizeof(data), 0)), 0xffff);
    // RFC 1071 section 3.
    static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    assert_int_equal(checksum_fold(checksum_add(example, 8, 0)),
                     (uint16_t)~__builtin_bswap16(0xddf2));
}

static void test_round_trip(void **state)
{
    uint8_t frame[2000];
    struct parsed p;

    for (size_t n = 0; n < 1500; n += n < 80 ? 1 : 97) {
        size_t length = build(frame, &path4, n, 0x80, 96, FRAME_OFFLOAD_NONE);
        assert_int_equal(length, 42 + n);
        assert_int_equal(parse_frame(frame, length, 0, &p), PARSE_OK);
        assert_int_equal(p.class, n < 2 ? CLASS_OTHER : CLASS_RTP);
        assert_int_equal(p.family, 4);
        assert_int_equal(p.ttl, 64);
        assert_int_equal(p.l2_len, 14);
        assert_int_equal(p.l3_len, 20);
        assert_int_equal(p.payload, 42);
        assert_int_equal(p.length, n);
        assert_memory_equal(&p.src, &path4.src, sizeof(p.src));
        assert_memory_equal(&p.dst, &path4.dst, sizeof(p.dst));
        assert_true(parse_udp_checksum_ok(frame, &p));
        assert_int_equal(frame[15], 34 << 2);
        assert_int_equal(naive_sum(frame + 14, 20, 0), 0xffff);
        uint32_t pseudo = 17 + (uint32_t)n + 8;
        assert_int_equal(naive_sum(frame + 26, n + 16, pseudo), 0xffff);

        length = build(frame, &path6, n, 0x20, 0, FRAME_OFFLOAD_NONE);
        assert_int_equal(length, 66 + n);
        assert_int_equal(parse_frame(frame, length, 42, &p), PARSE_OK);
        assert_int_equal(p.class, CLASS_BFD);
        assert_int_equal(p.family, 6);
        assert_int_equal(p.ttl, 255);
        assert_int_equal(p.l2_len, 18);
        assert_int_equal(p.payload, 66);
        assert_int_equal(p.length, n);
        assert_memory_equal(&p.src, &path6.src, sizeof(p.src));
        assert_memory_equal(&p.dst, &path6.dst, sizeof(p.dst));
        assert_true(parse_udp_checksum_ok(frame, &p));
        assert_int_equal(load_be32(frame + 18), 6u << 28 | 46u << 22);
        assert_int_equal(naive_sum(frame + 26, n + 40, pseudo), 0xffff);
    }
}

// An offloading port adds the datagram to what we leave in the field.
static void test_offload(void **state)
{
    static const struct frame_path *const paths[] = {&path4, &path6};
    uint8_t mine[300], ports[300];

    for (size_t i = 0; i < 2; i++) {
        size_t length = build(mine, paths[i], 101, 1, 1, FRAME_OFFLOAD_NONE);
        build(ports, paths[i], 101, 1, 1, FRAME_OFFLOAD_IPV4 | FRAME_OFFLOAD_UDP);
        size_t udp = length - 109;
        uint16_t sum = checksum_udp(checksum_add(ports + udp, 109, 0));
        memcpy(ports + udp + 6, &sum, 2);
        if (i == 0) {
            assert_int_equal(load_be16(ports + 24), 0);
            sum = checksum_fold(checksum_add(ports + 14, 20, 0));
            memcpy(ports + 24, &sum, 2);
        }
        assert_memory_equal(mine, ports, length);
    }
}

// A datagram whose sum comes out as 0 goes out with 0xffff (RFC 768).
static void test_zero_checksum(void **state)
{
    uint8_t frame[100];
    struct parsed p;
    size_t length = build(frame, &path4, 2, 0, 0, FRAME_OFFLOAD_NONE);

    memcpy(frame + 42, frame + 40, 2); // payload = checksum: now they cancel out
    struct frame_template template;
    frame_template_init(&template, &path4);
    frame_write(&template, frame, 2, FRAME_OFFLOAD_NONE);
    assert_int_equal(load_be16(frame + 40), 0xffff);
    assert_int_equal(parse_frame(frame, length, 0, &p), PARSE_OK);
    assert_true(parse_udp_checksum_ok(frame, &p));
    frame[43] ^= 4;
    assert_false(parse_udp_checksum_ok(frame, &p));
    store_be16(frame + 40, 0); // none
    assert_true(parse_udp_checksum_ok(frame, &p));

    length = build(frame, &path6, 2, 0, 0, FRAME_OFFLOAD_NONE);
    assert_int_equal(parse_frame(frame, length, 42, &p), PARSE_OK);
    store_be16(frame + 64, 0);
    assert_false(parse_udp_checksum_ok(frame, &p));
}

static void test_classes(void **state)
{
    static const struct {
        uint8_t first, second;
        enum parse_class class;
    } table[] = {
        {0, 1, CLASS_STUN},      {3, 0, CLASS_STUN},     {4, 0, CLASS_OTHER},
        {19, 0, CLASS_OTHER},    {20, 254, CLASS_DTLS},  {63, 0, CLASS_DTLS},
        {64, 0, CLASS_OTHER},    {127, 0, CLASS_OTHER},  {128, 0, CLASS_RTP},
        {191, 191, CLASS_RTP},   {128, 192, CLASS_RTCP}, {191, 223, CLASS_RTCP},
        {128, 224, CLASS_RTP},   {128, 200, CLASS_RTCP}, {192, 200, CLASS_OTHER},
        {255, 255, CLASS_OTHER},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint8_t payload[2] = {table[i].first, table[i].second};
        assert_int_equal(parse_classify(payload, 2), table[i].class);
        assert_int_equal(parse_classify(payload, 1), CLASS_OTHER);
    }
}

static void put_checksum(uint8_t *frame)
{
    store_be16(frame + 24, 0);
    uint16_t sum = checksum_fold(checksum_add(frame + 14, (frame[14] & 15u) * 4, 0));
    memcpy(frame + 24, &sum, 2);
}

// One field wrong at a time, the IPv4 checksum repaired.
static void test_drops_ipv4(void **state)
{
    static const struct {
        uint8_t at, value;
        enum drop drop;
    } table[] = {
        {12, 0x09, DROP_l2_unknown},   // EtherType
        {14, 0x65, DROP_ip_truncated}, // version
        {14, 0x44, DROP_ip_truncated}, // header of 16 bytes
        {14, 0x4f, DROP_ip_truncated}, // header longer than the packet
        {16, 0x01, DROP_ip_truncated}, // total length past the end
        {17, 19, DROP_ip_truncated},   // total length within the header
        {17, 27, DROP_ip_truncated},   // no room for UDP's header
        {17, 28, DROP_ip_truncated},   // UDP length past IP's
        {20, 0x20, DROP_ip_fragment},  // MF
        {21, 0x01, DROP_ip_fragment},  // an offset
        {23, 6, DROP_not_ours},        // TCP
        {23, 58, DROP_not_ours},       // ICMPv6 over IPv4
        {38, 0xff, DROP_ip_truncated}, // UDP length past the end
        {39, 7, DROP_ip_truncated},    // UDP length within its header
        {15, 0, PARSE_OK},
        {20, 0, PARSE_OK}, // without DF
        {39, 8, PARSE_OK}, // UDP shorter than IP's payload
    };
    uint8_t frame[100];
    struct parsed p;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t length = build(frame, &path4, 12, 0x80, 0, FRAME_OFFLOAD_NONE);
        frame[table[i].at] = table[i].value;
        put_checksum(frame);
        if (parse_frame(frame, length, 0, &p) != table[i].drop)
            fail_msg("byte %u = %u", table[i].at, table[i].value);
    }
    size_t length = build(frame, &path4, 12, 0x80, 0, FRAME_OFFLOAD_NONE);
    frame[25] ^= 1;
    assert_int_equal(parse_frame(frame, length, 0, &p), DROP_ip_checksum);
    assert_int_equal(parse_frame(frame, length, 7, &p), DROP_l2_unknown);
    assert_int_equal(parse_frame(frame, 65536, 0, &p), DROP_l2_unknown);
}

static void test_drops_ipv6(void **state)
{
    static const struct {
        uint8_t at, value;
        enum drop drop;
    } table[] = {
        {15, 41, DROP_l2_unknown},     // another VLAN
        {18, 0x45, DROP_ip_truncated}, // version
        {22, 1, DROP_ip_truncated},    // payload past the end
        {23, 7, DROP_ip_truncated},    // no room for UDP's header
        {24, 44, DROP_ip_fragment},    // fragment header
        {24, 0, DROP_not_ours},        // hop-by-hop options
        {24, 59, DROP_not_ours},       // no next header
        {24, 1, DROP_not_ours},        // ICMP over IPv6
        {62, 1, DROP_ip_truncated},    // UDP length past the end
    };
    uint8_t frame[100];
    struct parsed p;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t length = build(frame, &path6, 12, 0x80, 0, FRAME_OFFLOAD_NONE);
        frame[table[i].at] = table[i].value;
        if (parse_frame(frame, length, 42, &p) != table[i].drop)
            fail_msg("byte %u = %u", table[i].at, table[i].value);
    }
    size_t length = build(frame, &path6, 12, 0x80, 0, FRAME_OFFLOAD_NONE);
    assert_int_equal(parse_frame(frame, length, 0, &p), DROP_l2_unknown);
}

static void test_options_padding_and_tag(void **state)
{
    uint8_t frame[120] = {0}, with[120] = {0};
    struct parsed p;
    size_t length = build(frame, &path4, 12, 0, 1, FRAME_OFFLOAD_NONE);

    // Four bytes of IP options.
    memcpy(with, frame, 34);
    with[14] = 0x46;
    store_be16(with + 16, (uint16_t)(length - 14 + 4));
    memcpy(with + 34, "\x01\x01\x01\x00", 4);
    memcpy(with + 38, frame + 34, length - 34);
    put_checksum(with);
    assert_int_equal(parse_frame(with, length + 4, 0, &p), PARSE_OK);
    assert_int_equal(p.class, CLASS_STUN);
    assert_int_equal(p.l3_len, 24);
    assert_int_equal(p.payload, 46);
    assert_int_equal(p.length, 12);
    // Ethernet's padding is not payload.
    assert_int_equal(parse_frame(with, length + 20, 0, &p), PARSE_OK);
    assert_int_equal(p.length, 12);
    assert_true(parse_udp_checksum_ok(with, &p));
    // A priority tag.
    memcpy(with, frame, 12);
    memcpy(with + 12, "\x81\x00\xa0\x00", 4);
    memcpy(with + 16, frame + 12, length - 12);
    assert_int_equal(parse_frame(with, length + 4, 0, &p), PARSE_OK);
    assert_int_equal(p.l2_len, 18);
    assert_int_equal(parse_frame(with, length + 4, 5, &p), DROP_l2_unknown);
}

static void test_arp_and_icmp(void **state)
{
    uint8_t frame[120] = {0};
    struct parsed p;

    store_be16(frame + 12, 0x0806);
    assert_int_equal(parse_frame(frame, 60, 0, &p), PARSE_OK);
    assert_int_equal(p.class, CLASS_ARP);
    assert_int_equal(p.family, 0);
    assert_int_equal(p.payload, 14);
    assert_int_equal(p.length, 28);
    assert_int_equal(parse_frame(frame, 41, 0, &p), DROP_ip_truncated);

    size_t length = build(frame, &path4, 12, 0, 0, FRAME_OFFLOAD_NONE);
    frame[23] = 1;
    put_checksum(frame);
    assert_int_equal(parse_frame(frame, length, 0, &p), PARSE_OK);
    assert_int_equal(p.class, CLASS_ICMP);
    assert_int_equal(p.payload, 34);
    assert_int_equal(p.length, 20);
    frame[17] = 27;
    put_checksum(frame);
    assert_int_equal(parse_frame(frame, length, 0, &p), DROP_ip_truncated);

    length = build(frame, &path6, 12, 0, 0, FRAME_OFFLOAD_NONE);
    frame[24] = 58;
    assert_int_equal(parse_frame(frame, length, 42, &p), PARSE_OK);
    assert_int_equal(p.class, CLASS_ICMPV6);
    assert_int_equal(p.payload, 58);
    // An ICMPv6 echo request's checksum, both ways.
    store_be16(frame + 60, 0);
    uint16_t sum = checksum_l4(&p.src, &p.dst, 58, frame + 58, p.length);
    memcpy(frame + 60, &sum, 2);
    assert_int_equal(checksum_l4(&p.src, &p.dst, 58, frame + 58, p.length), 0);
}

// Exactly sized heap copies, so that the sanitizers see a read past the end.
static void test_truncated(void **state)
{
    static const struct frame_path *const paths[] = {&path4, &path6};
    uint8_t frame[200];
    struct parsed p;

    for (size_t i = 0; i < 2; i++) {
        size_t length = build(frame, paths[i], 30, 0x80, 0, FRAME_OFFLOAD_NONE);
        for (size_t n = 0; n < length; n++) {
            uint8_t *copy = malloc(n + (n == 0));
            assert_non_null(copy);
            memcpy(copy, frame, n);
            enum drop drop = parse_frame(copy, n, paths[i]->vlan, &p);
            assert_true(drop == DROP_l2_unknown || drop == DROP_ip_truncated);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum_against_naive),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_offload),
        cmocka_unit_test(test_zero_checksum),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_drops_ipv4),
        cmocka_unit_test(test_drops_ipv6),
        cmocka_unit_test(test_options_padding_and_tag),
        cmocka_unit_test(test_arp_and_icmp),
        cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
