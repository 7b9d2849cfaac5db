// stun.c against RFC 5769's vectors, OpenSSL's HMAC, a bitwise CRC and itself.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "../../dataplane/bytes.h"
#include "../../dataplane/digest.h"
#include "../../dataplane/stun.h"
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#define PASSWORD "VOkJxbRl1RmTxUk/WvJxBt"

static const uint8_t request[] = {
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
    0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
    0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
};
static const uint8_t response4[] = {
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9,
    0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
};
static const uint8_t response6[] = {
    0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa,
    0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9, 0x00, 0x08, 0x00, 0x14,
    0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9, 0x7c, 0x82, 0x92, 0xc2, 0x75,
    0xbf, 0xe3, 0xed, 0x41, 0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb, 0x0b, 0x4c,
};
// Long-term credentials: no FINGERPRINT, and the key is an MD5.
static const uint8_t long_term[] = {
    0x00, 0x01, 0x00, 0x60, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72,
    0xc0, 0x29, 0xda, 0x41, 0x2e, 0x00, 0x06, 0x00, 0x12, 0xe3, 0x83, 0x9e, 0xe3, 0x83, 0x88,
    0xe3, 0x83, 0xaa, 0xe3, 0x83, 0x83, 0xe3, 0x82, 0xaf, 0xe3, 0x82, 0xb9, 0x00, 0x00, 0x00,
    0x15, 0x00, 0x1c, 0x66, 0x2f, 0x2f, 0x34, 0x39, 0x39, 0x6b, 0x39, 0x35, 0x34, 0x64, 0x36,
    0x4f, 0x4c, 0x33, 0x34, 0x6f, 0x4c, 0x39, 0x46, 0x53, 0x54, 0x76, 0x79, 0x36, 0x34, 0x73,
    0x41, 0x00, 0x14, 0x00, 0x0b, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x2e, 0x6f, 0x72,
    0x67, 0x00, 0x00, 0x08, 0x00, 0x14, 0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6, 0x4a, 0x3e, 0x02,
    0xb8, 0xe0, 0x71, 0x2e, 0x85, 0xc9, 0xa2, 0x8c, 0xa8, 0x96, 0x66,
};

static void long_term_key(struct stun_key *key)
{
    static const char text[] = "\u30DE\u30C8\u30EA\u30C3\u30AF\u30B9:example.org:TheMatrIX";
    uint8_t md5[16];
    assert_int_equal(EVP_Digest(text, strlen(text), md5, NULL, EVP_md5(), NULL), 1);
    stun_key_init(key, md5, sizeof(md5));
}

struct vector {
    const uint8_t *data;
    size_t length;
    bool long_term;
    bool fingerprint;
};
static const struct vector vectors[] = {
    {request, sizeof(request), false, true},
    {response4, sizeof(response4), false, true},
    {response6, sizeof(response6), false, true},
    {long_term, sizeof(long_term), true, false},
};
#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static void vector_key(const struct vector *vector, struct stun_key *key)
{
    if (vector->long_term)
        long_term_key(key);
    else
        stun_key_init(key, PASSWORD, strlen(PASSWORD));
}

static void test_rfc5769(void **state)
{
    struct stun_msg msg;
    struct stun_key key, wrong;

    stun_key_init(&wrong, "another", 7);
    for (size_t i = 0; i < VECTORS; i++) {
        vector_key(&vectors[i], &key);
        assert_int_equal(stun_parse(vectors[i].data, vectors[i].length, &msg), 0);
        assert_true(stun_check_integrity(&msg, &key));
        assert_false(stun_check_integrity(&msg, &wrong));
        assert_int_equal(stun_check_fingerprint(&msg), vectors[i].fingerprint);
        assert_int_equal(msg.unknown_count, 0);
        assert_int_equal(msg.error, 0);
    }
    assert_int_equal(stun_parse(request, sizeof(request), &msg), 0);
    assert_int_equal(msg.type, STUN_BINDING_REQUEST);
    assert_int_equal(msg.username_length, 9);
    assert_memory_equal(msg.username, "evtj:h6vY", 9);
    assert_true(msg.has_priority);
    assert_int_equal(msg.priority, 0x6e0001ff);
    assert_int_equal(msg.role, STUN_ROLE_CONTROLLED);
    assert_true(msg.tiebreaker == UINT64_C(0x932ff9b151263b36));
    assert_false(msg.use_candidate);

    assert_int_equal(stun_parse(response4, sizeof(response4), &msg), 0);
    assert_int_equal(msg.type, STUN_BINDING_SUCCESS);
    assert_int_equal(msg.mapped.family, 4);
    assert_int_equal(msg.mapped.port, 32853);
    assert_memory_equal(msg.mapped.ip, "\xc0\x00\x02\x01", 4);

    assert_int_equal(stun_parse(response6, sizeof(response6), &msg), 0);
    assert_int_equal(msg.mapped.family, 6);
    assert_int_equal(msg.mapped.port, 32853);
    assert_memory_equal(msg.mapped.ip,
                        "\x20\x01\x0d\xb8\x12\x34\x56\x78\x00\x11\x22\x33\x44\x55\x66\x77", 16);
}

// Exactly sized heap copies, so that the sanitizers see a read past the end.
static void test_truncated(void **state)
{
    for (size_t i = 0; i < VECTORS; i++)
        for (size_t n = 0; n < vectors[i].length; n++) {
            uint8_t *copy = malloc(n + (n == 0));
            struct stun_msg msg;
            assert_non_null(copy);
            memcpy(copy, vectors[i].data, n);
            assert_int_equal(stun_parse(copy, n, &msg), -EBADMSG);
            // And with a header that agrees with the truncation.
            if (n >= STUN_HEADER) {
                store_be16(copy + 2, (uint16_t)(n - STUN_HEADER));
                if (stun_parse(copy, n, &msg) == 0) {
                    struct stun_key key;
                    vector_key(&vectors[i], &key);
                    bool whole = msg.integrity != 0 && msg.integrity + 24u <= n;
                    assert_int_equal(stun_check_integrity(&msg, &key), whole);
                    assert_false(stun_check_fingerprint(&msg));
                }
            }
            free(copy);
        }
}

static void test_flipped(void **state)
{
    for (size_t i = 0; i < VECTORS; i++) {
        struct stun_key key;
        uint8_t *copy = malloc(vectors[i].length);
        assert_non_null(copy);
        vector_key(&vectors[i], &key);
        memcpy(copy, vectors[i].data, vectors[i].length);
        size_t covered = vectors[i].length - (vectors[i].fingerprint ? 8 : 0);
        for (size_t n = 0; n < vectors[i].length; n++)
            for (int bit = 0; bit < 256; bit++) {
                struct stun_msg msg;
                if ((uint8_t)bit == vectors[i].data[n])
                    continue;
                copy[n] = (uint8_t)bit;
                if (stun_parse(copy, vectors[i].length, &msg) == 0) {
                    if (n < covered)
                        assert_false(stun_check_integrity(&msg, &key));
                    if (vectors[i].fingerprint)
                        assert_false(stun_check_fingerprint(&msg));
                }
                copy[n] = vectors[i].data[n];
            }
        free(copy);
    }
}

// Messages of every length around SHA-1's block boundaries, keys of every length around its block.
static void test_hmac_against_openssl(void **state)
{
    uint8_t secret[150], buf[700];
    char name[STUN_USERNAME_MAX];

    for (size_t i = 0; i < sizeof(secret); i++)
        secret[i] = (uint8_t)(i * 37 + 11);
    memset(name, 'u', sizeof(name));
    for (size_t k = 0; k < sizeof(secret); k += k < 60 || k > 70 ? 7 : 1)
        for (size_t n = 0; n <= sizeof(name); n += 3) {
            struct stun_check check = {.username = name, .username_length = n, .priority = 1};
            struct stun_key key;
            struct stun_msg msg;
            uint8_t mac[20];

            stun_key_init(&key, secret, k);
            size_t length = stun_write_request(buf, sizeof(buf), &check, &key);
            assert_int_equal(stun_parse(buf, length, &msg), 0);
            store_be16(buf + 2, (uint16_t)(msg.integrity + 24 - STUN_HEADER));
            assert_non_null(HMAC(EVP_sha1(), secret, (int)k, buf, msg.integrity, mac, NULL));
            assert_memory_equal(mac, buf + msg.integrity + 4, 20);
            store_be16(buf + 2, (uint16_t)(length - STUN_HEADER));
            assert_true(stun_check_integrity(&msg, &key));
        }
}

// The machine that runs this takes one path by itself; the other is held against OpenSSL here.
static void test_sha1_both_ways(void **state)
{
    uint8_t data[5 * SHA1_BLOCK], ours[SHA1_LEN], digest[SHA1_LEN];
    uint32_t portable[5], fast[5];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * i + 7 * i + 1);
    for (size_t blocks = 0; blocks <= 5; blocks++) {
        digest_sha1_start(portable);
        digest_sha1_start(fast);
        digest_sha1_portable(portable, data, blocks);
        digest_sha1(fast, data, blocks);
        assert_memory_equal(portable, fast, sizeof(fast));
    }
    for (size_t n = 0; n <= sizeof(data); n++) {
        digest_sha1_start(portable);
        digest_sha1_finish(portable, data, n, n, ours);
        assert_int_equal(EVP_Digest(data, n, digest, NULL, EVP_sha1(), NULL), 1);
        assert_memory_equal(ours, digest, SHA1_LEN);
    }
}

static uint32_t bitwise_crc(const uint8_t *p, size_t length)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < length; i++) {
        crc ^= p[i];
        for (int b = 0; b < 8; b++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void test_fingerprint_against_bitwise(void **state)
{
    uint8_t buf[700];
    char name[STUN_USERNAME_MAX];

    for (size_t i = 0; i < sizeof(name); i++)
        name[i] = (char)(i * 101 + 3);
    for (size_t n = 0; n <= sizeof(name); n++) {
        struct stun_check check = {.username = name, .username_length = n};
        size_t length = stun_write_request(buf, sizeof(buf), &check, NULL);
        assert_true(length > 0);
        assert_int_equal(load_be32(buf + length - 4),
                         bitwise_crc(buf, length - 8) ^ UINT32_C(0x5354554e));
    }
}

static void test_success(void **state)
{
    struct stun_msg msg, answer;
    struct stun_key key;
    uint8_t buf[STUN_SUCCESS_MAX];
    struct abi_addr addr[2] = {{.ip = {203, 0, 113, 9}, .port = 61000, .family = 4},
                               {.ip = {0x20, 1, 0xd, 0xb8, [15] = 7}, .port = 1, .family = 6}};

    stun_key_init(&key, PASSWORD, strlen(PASSWORD));
    assert_int_equal(stun_parse(request, sizeof(request), &msg), 0);
    for (int i = 0; i < 2; i++) {
        size_t length = stun_write_success(buf, sizeof(buf), msg.id, &addr[i], &key);
        assert_int_equal(length, i == 0 ? 64 : 76);
        assert_int_equal(stun_parse(buf, length, &answer), 0);
        assert_int_equal(answer.type, STUN_BINDING_SUCCESS);
        assert_memory_equal(answer.id, msg.id, STUN_ID_LEN);
        assert_memory_equal(&answer.mapped, &addr[i], sizeof(addr[i]));
        assert_true(stun_check_integrity(&answer, &key));
        assert_true(stun_check_fingerprint(&answer));
        for (size_t size = 0; size < length; size++)
            assert_int_equal(stun_write_success(buf, size, msg.id, &addr[i], &key), 0);
    }
}

static void test_errors(void **state)
{
    static const enum stun_error codes[] = {STUN_BAD_REQUEST, STUN_UNAUTHENTICATED,
                                            STUN_UNKNOWN_ATTRIBUTE, STUN_ROLE_CONFLICT};
    struct stun_msg msg, answer;
    struct stun_key key;
    uint8_t ask[64], buf[128];
    // Two attributes that we must know and do not, one that we need not know.
    static const uint8_t attributes[] = {0x7f, 0x01, 0,    1,    'a', 0, 0, 0, 0xff, 0x01,
                                         0,    0,    0x00, 0x03, 0,   4, 0, 0, 0,    0};

    memcpy(ask, request, STUN_HEADER);
    memcpy(ask + STUN_HEADER, attributes, sizeof(attributes));
    store_be16(ask + 2, sizeof(attributes));
    assert_int_equal(stun_parse(ask, STUN_HEADER + sizeof(attributes), &msg), 0);
    assert_int_equal(msg.unknown_count, 2);
    stun_key_init(&key, PASSWORD, strlen(PASSWORD));
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        size_t length = stun_write_error(buf, sizeof(buf), &msg, codes[i], &key);
        assert_int_equal(length, codes[i] == STUN_UNKNOWN_ATTRIBUTE ? 68 : 60);
        assert_int_equal(stun_parse(buf, length, &answer), 0);
        assert_int_equal(answer.type, STUN_BINDING_ERROR);
        assert_int_equal(answer.error, codes[i]);
        assert_true(stun_check_integrity(&answer, &key));
        assert_true(stun_check_fingerprint(&answer));
        if (codes[i] == STUN_UNKNOWN_ATTRIBUTE)
            assert_memory_equal(buf + 28, "\x00\x0a\x00\x04\x7f\x01\x00\x03", 8);
    }
}

static void test_request(void **state)
{
    struct stun_check check = {
        .id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
        .username = "abcdefgh:xyzw",
        .username_length = 13,
        .priority = 0x7effffff,
        .role = STUN_ROLE_CONTROLLING,
        .tiebreaker = UINT64_C(0x0123456789abcdef),
        .use_candidate = true,
    };
    struct stun_msg msg;
    struct stun_key key;
    uint8_t buf[128];
    const char *receiver, *sender;
    size_t receiver_length, sender_length;

    stun_key_init(&key, PASSWORD, strlen(PASSWORD));
    size_t length = stun_write_request(buf, sizeof(buf), &check, &key);
    assert_int_equal(stun_parse(buf, length, &msg), 0);
    assert_int_equal(msg.type, STUN_BINDING_REQUEST);
    assert_memory_equal(msg.id, check.id, STUN_ID_LEN);
    assert_int_equal(msg.priority, check.priority);
    assert_int_equal(msg.role, STUN_ROLE_CONTROLLING);
    assert_true(msg.tiebreaker == check.tiebreaker);
    assert_true(msg.use_candidate);
    assert_true(stun_check_integrity(&msg, &key) && stun_check_fingerprint(&msg));
    assert_true(stun_split_username(&msg, &receiver, &receiver_length, &sender, &sender_length));
    assert_int_equal(receiver_length, 8);
    assert_memory_equal(receiver, "abcdefgh", 8);
    assert_int_equal(sender_length, 4);
    assert_memory_equal(sender, "xyzw", 4);

    check.username = "nocolon";
    check.username_length = 7;
    length = stun_write_request(buf, sizeof(buf), &check, &key);
    assert_int_equal(stun_parse(buf, length, &msg), 0);
    assert_false(stun_split_username(&msg, &receiver, &receiver_length, &sender, &sender_length));
    for (size_t size = 0; size < length; size++)
        assert_int_equal(stun_write_request(buf, size, &check, &key), 0);
    check.username_length = STUN_USERNAME_MAX + 1;
    assert_int_equal(stun_write_request(buf, sizeof(buf), &check, &key), 0);
}

// What follows MESSAGE-INTEGRITY is not authenticated and must not be believed (RFC 8489 14.5).
static void test_ignores_after_integrity(void **state)
{
    uint8_t buf[sizeof(long_term) + 20];
    struct stun_msg msg;
    struct stun_key key;

    memcpy(buf, long_term, sizeof(long_term));
    memcpy(buf + sizeof(long_term), "\x00\x24\x00\x04\x7f\xff\xff\xff\x00\x25\x00\x00", 12);
    memcpy(buf + sizeof(long_term) + 12, "\x00\x03\x00\x04\x00\x00\x00\x00", 8);
    store_be16(buf + 2, sizeof(buf) - STUN_HEADER);
    long_term_key(&key);
    assert_int_equal(stun_parse(buf, sizeof(buf), &msg), 0);
    assert_true(stun_check_integrity(&msg, &key));
    assert_false(msg.has_priority);
    assert_false(msg.use_candidate);
    assert_int_equal(msg.unknown_count, 0);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *what;
        uint8_t length;
        uint8_t attributes[32];
    } bad[] = {
        {"PRIORITY of 3 bytes", 8, {0, 0x24, 0, 3, 1, 2, 3}},
        {"USE-CANDIDATE with a value", 8, {0, 0x25, 0, 4}},
        {"ICE-CONTROLLING of 4 bytes", 8, {0x80, 0x2a, 0, 4}},
        {"MESSAGE-INTEGRITY of 16 bytes", 20, {0, 0x08, 0, 16}},
        {"FINGERPRINT of 3 bytes", 8, {0x80, 0x28, 0, 3}},
        {"attribute behind FINGERPRINT", 16, {0x80, 0x28, 0, 4, 0, 0, 0, 0, 0, 0x24, 0, 4}},
        {"XOR-MAPPED-ADDRESS of a third family", 12, {0, 0x20, 0, 8, 0, 3}},
        {"value past the end", 8, {0x80, 0x22, 0, 5}},
        {"length of 65535", 8, {0x80, 0x22, 0xff, 0xff}},
        {"ERROR-CODE of class 7", 8, {0, 9, 0, 4, 0, 0, 7, 0}},
    };
    uint8_t buf[64];
    struct stun_msg msg;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(buf, request, STUN_HEADER);
        memcpy(buf + STUN_HEADER, bad[i].attributes, bad[i].length);
        store_be16(buf + 2, bad[i].length);
        if (stun_parse(buf, STUN_HEADER + (size_t)bad[i].length, &msg) != -EBADMSG)
            fail_msg("accepted: %s", bad[i].what);
    }
    memcpy(buf, request, STUN_HEADER);
    store_be16(buf + 2, 0);
    assert_int_equal(stun_parse(buf, STUN_HEADER, &msg), 0);
    assert_false(stun_check_fingerprint(&msg));
    buf[4] ^= 1; // the cookie
    assert_int_equal(stun_parse(buf, STUN_HEADER, &msg), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc5769),        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped),        cmocka_unit_test(test_hmac_against_openssl),
        cmocka_unit_test(test_sha1_both_ways), cmocka_unit_test(test_fingerprint_against_bitwise),
        cmocka_unit_test(test_success),        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_request),        cmocka_unit_test(test_ignores_after_integrity),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
