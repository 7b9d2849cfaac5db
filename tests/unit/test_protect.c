// SRTP and SRTCP against the RFCs' vectors, against libsrtp2 both ways, and against tampering.
#include "../../dataplane/protect.h"
#include "../../dataplane/protect_audit.h"
#include <openssl/hmac.h>
#include <setjmp.h>
#include <signal.h>
#include <srtp2/srtp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "protect_vectors.h"

#define PACKET_MAX 2048

static const unsigned profiles[] = {PROFILE_AES128_CM_SHA1_80, PROFILE_AEAD_AES_128_GCM,
                                    PROFILE_AEAD_AES_256_GCM};
#define EACH_PROFILE(name)                                                                         \
    for (const unsigned *name = profiles; name < profiles + sizeof(profiles) / sizeof(*profiles);  \
         name++)

static struct protect *engine;

static int setup(void **state)
{
    srandom(20260);
    srtp_init();
    return protect_new(&engine);
}

static int teardown(void **state)
{
    protect_free(engine);
    srtp_shutdown();
    return 0;
}

static void fill_random(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)random();
}

static void put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value >> 16);
    put16(p + 2, value & 0xffff);
}

// A key made of given session keys, as the RFCs' vectors have them.
static void session_key(struct protect_key *key, unsigned profile, const char *cipher,
                        const char *salt)
{
    uint8_t raw[32], auth[20] = {0};
    memset(key, 0, sizeof(*key));
    unhex(raw, cipher);
    unhex(key->salt, salt);
    key->profile = (uint8_t)profile;
    key->backend = engine->ops->backend;
    assert_int_equal(engine->ops->expand(engine, key, raw, auth), 0);
}

static void seal_one(const struct protect_tx *tx, uint8_t *dst, const uint8_t *src, unsigned head,
                     unsigned body, uint32_t ssrc, uint64_t index)
{
    struct seal_job job = {.tx = tx,
                           .src = src,
                           .dst = dst,
                           .header_len = (uint16_t)head,
                           .payload_len = (uint16_t)body,
                           .ssrc = ssrc,
                           .index = index};
    protect_seal(engine, &job, 1);
}

// ---- vectors ----

static void test_rfc3711_b2_keystream(void **state)
{
    struct protect_tx tx;
    uint8_t want[48], got[12 + 48 + PROTECT_TAG_ROOM] = {0x80}, zero[48] = {0};
    session_key(&tx.key, PROFILE_AES128_CM_SHA1_80, "2b7e151628aed2a6abf7158809cf4f3c",
                "f0f1f2f3f4f5f6f7f8f9fafbfcfd");
    unhex(want, "e03ead0935c95e80e166b16dd92b4eb4 d23513162b02d0f72a43a2fe4a5f97ab "
                "41e95b3bb0a2e8dd477901e4fca894c0");
    seal_one(&tx, got, zero, 12, sizeof(zero), 0, 0);
    assert_memory_equal(got + 12, want, sizeof(want));
}

static void test_rfc3711_b3_key_derivation(void **state)
{
    uint8_t master[30], want[20], tag[10], hmac[20];
    unhex(master, "e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    struct protect_tx tx;
    assert_int_equal(protect_tx_init(engine, &tx, PROFILE_AES128_CM_SHA1_80, master), 0);
    unhex(want, "c61e7a93744f39ee10734afe3ff7a087");
    assert_memory_equal(tx.key.cm.round_keys, want, 16);
    unhex(want, "30cbbc08863d8c85d49db34a9ae1");
    assert_memory_equal(tx.key.salt, want, 14);
    unhex(want, "cebe321f6ff7716b6fd4ab49af256a156d38baa4");
    HMAC(EVP_sha1(), want, 20, master, sizeof(master), hmac, NULL);
    assert_int_equal(engine->ops->hmac(engine, &tx.key, master, sizeof(master), tag), 0);
    assert_memory_equal(tag, hmac, sizeof(tag));
}

static void test_rfc7714_rtp(void **state)
{
    for (size_t i = 0; i < sizeof(rtp_vectors) / sizeof(rtp_vectors[0]); i++) {
        const struct gcm_vector *v = &rtp_vectors[i];
        uint8_t plain[128], want[128], got[256];
        size_t n = unhex(plain, v->plain), m = unhex(want, v->sealed);
        struct protect_tx tx;
        session_key(&tx.key, v->profile, v->key, GCM_SALT);
        memcpy(got, plain, 12);
        seal_one(&tx, got, plain + 12, 12, (unsigned)n - 12, 0x5501a0b2, 0xf17b);
        assert_memory_equal(got, want, m);

        struct protect_rx rx = {.key = tx.key};
        struct protect_source source = {.ssrc = 0x5501a0b2};
        size_t size;
        uint64_t index;
        assert_int_equal(protect_open(engine, &rx, &source, want, m, got, &size, &index), 0);
        assert_int_equal(size, n);
        assert_int_equal(index, 0xf17b);
        assert_memory_equal(got, plain, n);
    }
}

static void test_rfc7714_rtcp(void **state)
{
    check_rtcp_vectors(engine);
}

// ---- libsrtp2 as the oracle ----

static srtp_t oracle_new(unsigned profile, uint8_t *master, bool sends)
{
    srtp_policy_t policy = {.ssrc.type = sends ? ssrc_any_outbound : ssrc_any_inbound,
                            .key = master,
                            .window_size = 1024,
                            .allow_repeat_tx = 1};
    if (profile == PROFILE_AES128_CM_SHA1_80) {
        srtp_crypto_policy_set_rtp_default(&policy.rtp);
        srtp_crypto_policy_set_rtcp_default(&policy.rtcp);
    } else if (profile == PROFILE_AEAD_AES_128_GCM) {
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp);
    } else {
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtcp);
    }
    srtp_t oracle;
    assert_int_equal(srtp_create(&oracle, &policy), srtp_err_status_ok);
    return oracle;
}

// A random header with CSRCs and an extension; returns its length.
static unsigned random_header(uint8_t *p, uint32_t ssrc, uint16_t seq)
{
    unsigned csrcs = random() % 4 ? 0 : (unsigned)random() % 16, len = 12 + 4 * csrcs;
    bool extended = random() % 2;
    fill_random(p, 12 + 4 * 15);
    p[0] = (uint8_t)(0x80 | (extended ? 0x10 : 0) | csrcs);
    put16(p + 2, seq);
    put32(p + 8, ssrc);
    if (extended) {
        unsigned words = (unsigned)random() % 6;
        put16(p + len, 0xbede);
        put16(p + len + 2, words);
        fill_random(p + len + 4, 4 * words);
        len += 4 + 4 * words;
    }
    return len;
}

static unsigned random_payload_len(void)
{
    static const unsigned odd[] = {0, 1, 15, 16, 17, 63, 64, 65, 1172};
    return random() % 3 ? (unsigned)random() % 1300
                        : odd[random() % (long)(sizeof(odd) / sizeof(odd[0]))];
}

#define KEYS 7

// Bursts of any size over several keys and random lengths of one profile, then of all profiles
// mixed.
static void check_bursts(const unsigned *profile, unsigned many)
{
    static uint8_t plain[PROTECT_BURST + 9][PACKET_MAX], sealed[PROTECT_BURST + 9][PACKET_MAX];
    struct seal_job jobs[PROTECT_BURST + 9];
    struct protect_tx tx[KEYS];
    srtp_t oracle[KEYS];
    uint8_t master[KEYS][48];
    uint64_t index = 65000;
    for (unsigned k = 0; k < KEYS; k++) {
        fill_random(master[k], sizeof(master[k]));
        assert_int_equal(protect_tx_init(engine, &tx[k], profile[k % many], master[k]), 0);
        oracle[k] = oracle_new(profile[k % many], master[k], false);
    }
    for (int burst = 0; burst < 60; burst++) {
        unsigned n = 1 + (unsigned)random() % (PROTECT_BURST + 9);
        unsigned same = random() % 2 ? random_payload_len() : 0;
        for (unsigned i = 0; i < n; i++) {
            unsigned k = (unsigned)random() % KEYS, head;
            unsigned body = same ? same : random_payload_len();
            head = random_header(plain[i], 1000 + k, (uint16_t)index);
            fill_random(plain[i] + head, body);
            memcpy(sealed[i], plain[i], head);
            memset(sealed[i] + head, 0xaa, PACKET_MAX - head);
            jobs[i] = (struct seal_job){&tx[k],         plain[i] + head, sealed[i], (uint16_t)head,
                                        (uint16_t)body, 1000 + k,        index++};
        }
        protect_seal(engine, jobs, n);
        for (unsigned i = 0; i < n; i++) {
            unsigned k = jobs[i].ssrc - 1000, len = jobs[i].header_len + jobs[i].payload_len;
            unsigned tag_len = protect_tag_len(tx[k].key.profile);
            int size = (int)(len + tag_len);
            for (unsigned at = len + PROTECT_TAG_ROOM; at < len + 64; at++)
                assert_int_equal(sealed[i][at], 0xaa);
            assert_int_equal(srtp_unprotect(oracle[k], sealed[i], &size), srtp_err_status_ok);
            assert_int_equal(size, len);
            assert_memory_equal(sealed[i], plain[i], len);
        }
    }
    for (unsigned k = 0; k < KEYS; k++) {
        protect_tx_clear(engine, &tx[k]);
        srtp_dealloc(oracle[k]);
    }
}

static void test_oracle_opens_ours(void **state)
{
    EACH_PROFILE(profile)
    check_bursts(profile, 1);
    check_bursts(profiles, 3);
}

// libsrtp2 seals, we open: reordered within a few packets, across the wrap of the sequence number.
static void test_we_open_oracles(void **state)
{
    EACH_PROFILE(profile)
    {
        uint8_t master[48], plain[16][PACKET_MAX], sealed[16][PACKET_MAX], out[PACKET_MAX];
        int sizes[16];
        unsigned lens[16];
        fill_random(master, sizeof(master));
        srtp_t oracle = oracle_new(*profile, master, true);
        struct protect_rx rx;
        struct protect_source source = {.ssrc = 77};
        assert_int_equal(protect_rx_init(engine, &rx, *profile, master), 0);
        uint64_t index = 65400;
        for (int group = 0; group < 40; group++) {
            for (unsigned i = 0; i < 16; i++, index++) {
                unsigned head = random_header(plain[i], 77, (uint16_t)index);
                lens[i] = head + random_payload_len();
                fill_random(plain[i] + head, lens[i] - head);
                memcpy(sealed[i], plain[i], lens[i]);
                sizes[i] = (int)lens[i];
                assert_int_equal(srtp_protect(oracle, sealed[i], &sizes[i]), srtp_err_status_ok);
            }
            for (unsigned step = 0, i = group ? 9 : 0; step < 16; step++, i = (i + 7) % 16) {
                uint8_t *to = random() % 2 ? sealed[i] : out;
                uint8_t again[PACKET_MAX];
                size_t size;
                uint64_t got;
                memcpy(again, sealed[i], (size_t)sizes[i]);
                assert_int_equal(protect_open(engine, &rx, &source, sealed[i], (size_t)sizes[i], to,
                                              &size, &got),
                                 0);
                assert_int_equal(got, index - 16 + i);
                assert_int_equal(size, lens[i]);
                assert_memory_equal(to, plain[i], lens[i]);
                assert_int_equal(
                    protect_open(engine, &rx, &source, again, (size_t)sizes[i], out, &size, &got),
                    -EALREADY);
            }
        }
        protect_rx_clear(engine, &rx);
        srtp_dealloc(oracle);
    }
}

static unsigned random_rtcp(uint8_t *p, uint32_t ssrc)
{
    unsigned words = 1 + (unsigned)random() % 60;
    fill_random(p, 4 + 4 * words);
    p[0] = 0x80;
    p[1] = 200;
    put16(p + 2, words);
    put32(p + 4, ssrc);
    return 4 + 4 * words;
}

static void test_oracle_rtcp(void **state)
{
    EACH_PROFILE(profile)
    {
        uint8_t master[48], plain[512], packet[512], out[512];
        fill_random(master, sizeof(master));
        srtp_t opens = oracle_new(*profile, master, false);
        srtp_t seals = oracle_new(*profile, master, true);
        struct protect_rtcp_tx tx;
        struct protect_rtcp_rx rx;
        struct protect_rtcp_source source = {.ssrc = 99};
        assert_int_equal(protect_rtcp_tx_init(&tx, *profile, master), 0);
        assert_int_equal(protect_rtcp_rx_init(&rx, *profile, master), 0);
        for (uint32_t i = 0; i < 200; i++) {
            unsigned len = random_rtcp(plain, 99);
            size_t size;
            uint32_t index;
            memcpy(packet, plain, len);
            assert_int_equal(protect_rtcp_seal(engine, &tx, packet, len, 3 * i, &size), 0);
            int n = (int)size;
            assert_int_equal(srtp_unprotect_rtcp(opens, packet, &n), srtp_err_status_ok);
            assert_int_equal(n, len);
            assert_memory_equal(packet, plain, len);

            n = (int)len;
            assert_int_equal(srtp_protect_rtcp(seals, packet, &n), srtp_err_status_ok);
            uint8_t *to = i % 2 ? packet : out, again[512];
            memcpy(again, packet, (size_t)n);
            assert_int_equal(
                protect_rtcp_open(engine, &rx, &source, packet, (size_t)n, to, &size, &index), 0);
            assert_int_equal(size, len);
            assert_memory_equal(to, plain, len);
            assert_int_equal(index, i + 1); // libsrtp2 counts from 1
            assert_int_equal(
                protect_rtcp_open(engine, &rx, &source, again, (size_t)n, out, &size, &index),
                -EALREADY);
        }
        srtp_dealloc(opens);
        srtp_dealloc(seals);
    }
}

// ---- hostile input ----

struct pair {
    struct protect_tx tx;
    struct protect_rx rx;
    struct protect_rtcp_tx rtcp_tx;
    struct protect_rtcp_rx rtcp_rx;
};

static void pair_init(struct pair *pair, unsigned profile)
{
    uint8_t master[48];
    fill_random(master, sizeof(master));
    assert_int_equal(protect_tx_init(engine, &pair->tx, profile, master), 0);
    assert_int_equal(protect_rx_init(engine, &pair->rx, profile, master), 0);
    assert_int_equal(protect_rtcp_tx_init(&pair->rtcp_tx, profile, master), 0);
    assert_int_equal(protect_rtcp_rx_init(&pair->rtcp_rx, profile, master), 0);
}

static size_t make(const struct pair *pair, uint8_t *packet, unsigned body, uint64_t index)
{
    static const uint8_t plain[1500];
    memset(packet, 0, 12);
    packet[0] = 0x80;
    put16(packet + 2, (unsigned)index & 0xffff);
    put32(packet + 8, 5);
    seal_one(&pair->tx, packet, plain, 12, body, 5, index);
    return 12 + body + protect_tag_len(pair->tx.key.profile);
}

static int open_copy(const struct pair *pair, struct protect_source *source, const uint8_t *packet,
                     size_t size)
{
    uint8_t copy[PACKET_MAX];
    size_t out_size;
    uint64_t index;
    memcpy(copy, packet, size);
    return protect_open(engine, &pair->rx, source, copy, size, copy, &out_size, &index);
}

static void test_every_bit_counts(void **state)
{
    EACH_PROFILE(profile)
    {
        struct pair pair;
        struct protect_source source = {.ssrc = 5}, before;
        uint8_t packet[PACKET_MAX];
        pair_init(&pair, *profile);
        assert_int_equal(open_copy(&pair, &source, packet, make(&pair, packet, 20, 100)), 0);
        size_t size = make(&pair, packet, 40, 101);
        before = source;
        for (size_t bit = 0; bit < 8 * size; bit++) {
            packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_true(open_copy(&pair, &source, packet, size) < 0);
            if (bit / 8 >= 12)
                assert_int_equal(open_copy(&pair, &source, packet, size), -EBADMSG);
            packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_memory_equal(&source, &before, sizeof(before));
        }
        for (size_t cut = 0; cut < size; cut++)
            assert_true(open_copy(&pair, &source, packet, cut) < 0);
        assert_memory_equal(&source, &before, sizeof(before));
        assert_int_equal(open_copy(&pair, &source, packet, size), 0);
        assert_int_equal(open_copy(&pair, &source, packet, size), -EALREADY);
    }
}

static void test_every_rtcp_bit_counts(void **state)
{
    EACH_PROFILE(profile)
    {
        struct pair pair;
        struct protect_rtcp_source source = {.ssrc = 99}, before;
        uint8_t packet[512], copy[512];
        size_t size, out_size;
        uint32_t index;
        pair_init(&pair, *profile);
        unsigned len = random_rtcp(packet, 99);
        assert_int_equal(protect_rtcp_seal(engine, &pair.rtcp_tx, packet, len, 0, &size), 0);
        before = source;
        for (size_t bit = 0; bit < 8 * size; bit++) {
            memcpy(copy, packet, size);
            copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_true(protect_rtcp_open(engine, &pair.rtcp_rx, &source, copy, size, copy,
                                          &out_size, &index) < 0);
            assert_memory_equal(&source, &before, sizeof(before));
        }
        for (size_t cut = 0; cut < size; cut++)
            assert_true(protect_rtcp_open(engine, &pair.rtcp_rx, &source, packet, cut, copy,
                                          &out_size, &index) < 0);
        assert_int_equal(protect_rtcp_open(engine, &pair.rtcp_rx, &source, packet, size, copy,
                                           &out_size, &index),
                         0);
        assert_int_equal(out_size, len);
    }
}

static void test_refused_by_name(void **state)
{
    EACH_PROFILE(profile)
    {
        struct pair pair;
        struct protect_source source = {.ssrc = 5}, other = {.ssrc = 6};
        uint8_t packet[PACKET_MAX];
        size_t size, out;
        pair_init(&pair, *profile);
        size = make(&pair, packet, 0, 2000); // no payload at all is legal
        assert_int_equal(open_copy(&pair, &source, packet, size), 0);
        assert_int_equal(open_copy(&pair, &source, packet, size - 1), -EINVAL);
        assert_int_equal(open_copy(&pair, &other, packet, size), -EINVAL);
        assert_int_equal(open_copy(&pair, &source, packet, make(&pair, packet, 9, 2000 - 1024)),
                         -EALREADY);
        assert_int_equal(open_copy(&pair, &source, packet, make(&pair, packet, 9, 2000 - 1023)), 0);
        packet[0] = 0x90; // an extension that is longer than the packet
        put16(packet + 14, 0xffff);
        assert_int_equal(open_copy(&pair, &source, packet, size), -EINVAL);
        packet[0] = 0x8f; // more CSRCs than bytes
        assert_int_equal(open_copy(&pair, &source, packet, size), -EINVAL);
        assert_int_equal(protect_rtcp_seal(engine, &pair.rtcp_tx, packet, 7, 0, &out), -EINVAL);
        assert_int_equal(protect_rtcp_seal(engine, &pair.rtcp_tx, packet, 8, 1u << 31, &out),
                         -EINVAL);
    }
    struct protect_tx tx;
    uint8_t master[48] = {0};
    assert_int_equal(protect_tx_init(engine, &tx, 0x0002, master), -EINVAL);
}

// ---- index ----

static void test_index_estimate(void **state)
{
    // Each row: what the sender used, in order of arrival; all of it must open with that index.
    static const uint64_t rows[][6] = {
        {0, 1, 2, 3, 4, 5},
        {65534, 65535, 65536, 65537, 65533, 65538}, // late packet of the round before
        {65535, 65537, 65536, 65535 - 900, 65537 + 30000, 65537 + 60000},
        {100, 100 + 32768, 100 + 65535, 100 + 65536, 100 + 65536 + 32767, 131103},
        {10, 60000, 60001, 65536, 65537, 65538}, // a long pause in the first round
        {65000, 65536 + 32000, 65536 + 64000, 131072 + 30000, 131072 + 62000, 196608 + 29000},
    };
    EACH_PROFILE(profile)
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct pair pair;
        struct protect_source source = {.ssrc = 5};
        uint8_t packet[PACKET_MAX];
        pair_init(&pair, *profile);
        for (size_t i = 0; i < 6; i++) {
            size_t size = make(&pair, packet, 30, rows[r][i]), out;
            uint64_t index;
            assert_int_equal(
                protect_open(engine, &pair.rx, &source, packet, size, packet, &out, &index), 0);
            assert_int_equal(index, rows[r][i]);
        }
    }
}

static void test_known_rollover(void **state)
{
    EACH_PROFILE(profile)
    {
        struct pair pair;
        struct protect_source source = {.ssrc = 5};
        uint8_t packet[PACKET_MAX];
        uint64_t last = 0xffffffffffffull;
        pair_init(&pair, *profile);
        replay_commit(&source.replay, last - 3); // a standby node continues a stream
        assert_int_equal(open_copy(&pair, &source, packet, make(&pair, packet, 30, last - 1)), 0);
        assert_int_equal(open_copy(&pair, &source, packet, make(&pair, packet, 30, last)), 0);
        // The index space is used up: the next round would begin it anew.
        assert_int_equal(open_copy(&pair, &source, packet, make(&pair, packet, 30, 0)), -EALREADY);
    }
}

// ---- keys ----

static void test_adopt_and_clear(void **state)
{
    EACH_PROFILE(profile)
    {
        struct pair pair;
        struct protect_tx copy, zero = {0};
        uint8_t one[PACKET_MAX], two[PACKET_MAX];
        pair_init(&pair, *profile);
        size_t size = make(&pair, one, 333, 7);
        copy = pair.tx;                        // as another process finds it, at another address
        memset(copy.key.gcm + 300, 0x55, 600); // and with tables of another layout
        assert_int_equal(protect_tx_adopt(engine, &copy), 0);
        pair.tx = copy;
        assert_int_equal(make(&pair, two, 333, 7), size);
        assert_memory_equal(one, two, size);
        copy.key.backend = ABI_CRYPTO_CRYPTODEV;
        assert_int_equal(protect_tx_adopt(engine, &copy), -ENOTSUP);
        protect_tx_clear(engine, &copy);
        assert_memory_equal(&copy, &zero, sizeof(zero));
        assert_int_equal(protect_tx_adopt(engine, &copy), -EINVAL);
        // A key that is gone seals nothing readable.
        memset(one, 0x41, 100);
        seal_one(&copy, one, two, 12, 30, 5, 8);
        for (int i = 0; i < 30; i++)
            assert_int_equal(one[12 + i], 0);
    }
}

static void test_audit(void **state)
{
    struct pair pair;
    uint8_t one[PACKET_MAX], two[PACKET_MAX];
    protect_audit_reset();
    pair_init(&pair, PROFILE_AES128_CM_SHA1_80);
    const uint8_t *cipher = pair.tx.key.cm.round_keys;
    for (uint64_t i = 0; i < 10000; i++)
        assert_int_equal(protect_audit_note(cipher, 5, i, (uint8_t *)&i, sizeof(i)), 0);
    uint64_t same = 77, other = 78;
    assert_int_equal(protect_audit_note(cipher, 5, 77, (uint8_t *)&same, sizeof(same)), 0);
    assert_int_equal(protect_audit_note(cipher, 5, 77, (uint8_t *)&other, sizeof(other)), -EEXIST);
    assert_int_equal(protect_audit_note(cipher, 6, 77, (uint8_t *)&other, sizeof(other)), 0);
    protect_audit_reset();
#ifdef PROTECT_AUDIT
    make(&pair, one, 40, 9);
    make(&pair, two, 40, 9); // the same bytes again: a retransmission
    pid_t child = fork();
    if (child == 0) {
        close(STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        make(&pair, two, 41, 9);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    protect_audit_reset();
#else
    (void)one, (void)two;
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc3711_b2_keystream),
        cmocka_unit_test(test_rfc3711_b3_key_derivation),
        cmocka_unit_test(test_rfc7714_rtp),
        cmocka_unit_test(test_rfc7714_rtcp),
        cmocka_unit_test(test_oracle_opens_ours),
        cmocka_unit_test(test_we_open_oracles),
        cmocka_unit_test(test_oracle_rtcp),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_every_rtcp_bit_counts),
        cmocka_unit_test(test_refused_by_name),
        cmocka_unit_test(test_index_estimate),
        cmocka_unit_test(test_known_rollover),
        cmocka_unit_test(test_adopt_and_clear),
        cmocka_unit_test(test_audit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
