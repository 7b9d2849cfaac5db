// The cryptodev backend on DPDK's software devices: the RFCs' vectors, and bit for bit what the
// default backend makes, which test_protect.c checks against libsrtp2.
#include "../../dataplane/protect_cryptodev.h"
#include <rte_eal.h>
#include <rte_malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protect_vectors.h"

#define PACKET_MAX 2048
#define BURST (PROTECT_BURST + 9)
#define DEVICE_KEYS 16

static const unsigned profiles[] = {PROFILE_AES128_CM_SHA1_80, PROFILE_AEAD_AES_128_GCM,
                                    PROFILE_AEAD_AES_256_GCM};

static const char *driver; // under test
static struct protect_device *device;
static struct protect *engine, *reference;
static uint8_t (*plain)[PACKET_MAX], (*sealed)[PACKET_MAX];
static uint8_t wanted[BURST][PACKET_MAX];

static int setup(void **state)
{
    char why[128] = "";
    if (protect_device_open(&device, driver, 2, DEVICE_KEYS, why, sizeof(why))) {
        fprintf(stderr, "%s\n", why);
        return -1;
    }
    plain = rte_zmalloc(NULL, BURST * PACKET_MAX, 64);
    sealed = rte_zmalloc(NULL, BURST * PACKET_MAX, 64);
    if (!plain || !sealed || protect_new(&reference))
        return -1;
    return protect_cryptodev_new(&engine, device, 1);
}

static int teardown(void **state)
{
    protect_free(engine);
    protect_free(reference);
    protect_device_close(device);
    rte_free(plain);
    rte_free(sealed);
    return 0;
}

// Whether the device knows the profile at all; crypto_aesni_gcm is for GCM only.
static bool served(unsigned profile)
{
    struct protect_tx tx;
    uint8_t master[48] = {0};
    int rc = protect_tx_init(engine, &tx, profile, master);
    if (rc)
        assert_int_equal(rc, -ENOTSUP);
    protect_tx_clear(engine, &tx);
    return rc == 0;
}

static void fill_random(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)random();
}

static void test_served(void **state)
{
    bool gcm_only = !strcmp(driver, "crypto_aesni_gcm");
    assert_int_equal(served(PROFILE_AES128_CM_SHA1_80), !gcm_only);
    assert_true(served(PROFILE_AEAD_AES_128_GCM));
    assert_true(served(PROFILE_AEAD_AES_256_GCM));
}

static void test_rfc7714_rtp(void **state)
{
    for (size_t i = 0; i < sizeof(rtp_vectors) / sizeof(rtp_vectors[0]); i++) {
        const struct gcm_vector *v = &rtp_vectors[i];
        uint8_t want[128], raw[32];
        size_t n = unhex(plain[0], v->plain), m = unhex(want, v->sealed), size;
        struct protect_tx tx = {.key.profile = (uint8_t)v->profile,
                                .key.backend = ABI_CRYPTO_CRYPTODEV};
        unhex(raw, v->key);
        unhex(tx.key.salt, GCM_SALT);
        assert_int_equal(engine->ops->expand(engine, &tx.key, raw, NULL), 0);
        struct seal_job job = {&tx,        plain[0] + 12, sealed[0], 12, (uint16_t)(n - 12),
                               0x5501a0b2, 0xf17b};
        memcpy(sealed[0], plain[0], 12);
        protect_seal(engine, &job, 1);
        assert_memory_equal(sealed[0], want, m);

        struct protect_rx rx = {.key = tx.key};
        struct protect_source source = {.ssrc = 0x5501a0b2};
        uint64_t index;
        assert_int_equal(protect_open(engine, &rx, &source, want, m, want, &size, &index), 0);
        assert_int_equal(size, n);
        assert_memory_equal(want, plain[0], n);
        protect_tx_clear(engine, &tx);
    }
}

static void test_rfc7714_rtcp(void **state)
{
    check_rtcp_vectors(engine);
}

#define KEYS 5

struct keys {
    struct protect_tx ours[KEYS], wanted[KEYS];
    struct protect_rx rx[KEYS];
};

// Bursts over several keys, profiles, lengths and header lengths: more header lengths than a key
// has sessions, and no payload at all now and then.
static void test_same_as_reference(void **state)
{
    static struct keys keys;
    struct protect_source sources[KEYS] = {0};
    unsigned serving[3], count = 0;
    for (int i = 0; i < 3; i++)
        if (served(profiles[i]))
            serving[count++] = profiles[i];
    if (count == 0) {
        fail_msg("%s serves no profile", driver);
        return;
    }
    for (unsigned k = 0; k < KEYS; k++) {
        uint8_t master[48];
        sources[k].ssrc = 1000 + k;
        fill_random(master, sizeof(master));
        unsigned profile = serving[k % count];
        assert_int_equal(protect_tx_init(engine, &keys.ours[k], profile, master), 0);
        assert_int_equal(protect_rx_init(engine, &keys.rx[k], profile, master), 0);
        assert_int_equal(protect_tx_init(reference, &keys.wanted[k], profile, master), 0);
    }
    uint64_t next = 65000;
    for (int burst = 0; burst < 30; burst++) {
        struct seal_job ours[BURST], theirs[BURST];
        unsigned n = 1 + (unsigned)random() % BURST;
        for (unsigned i = 0; i < n; i++) {
            unsigned k = (unsigned)random() % KEYS, csrcs = (unsigned)random() % 16;
            unsigned head = 12 + 4 * csrcs, body = random() % 9 ? (unsigned)random() % 1300 : 0;
            uint32_t words[3] = {htobe32((0x80u | csrcs) << 24 | (uint32_t)(next & 0xffff)), 0,
                                 htobe32(1000 + k)};
            fill_random(plain[i], head + body);
            memcpy(plain[i], words, sizeof(words));
            memcpy(sealed[i], plain[i], head);
            memcpy(wanted[i], plain[i], head);
            ours[i] = (struct seal_job){&keys.ours[k],  plain[i] + head, sealed[i], (uint16_t)head,
                                        (uint16_t)body, 1000 + k,        next++};
            theirs[i] = ours[i];
            theirs[i].tx = &keys.wanted[k];
            theirs[i].dst = wanted[i];
        }
        protect_seal(engine, ours, n);
        protect_seal(reference, theirs, n);
        for (unsigned i = 0; i < n; i++) {
            unsigned k = ours[i].ssrc - 1000;
            size_t len = ours[i].header_len + ours[i].payload_len, out;
            size_t size = len + protect_tag_len(keys.rx[k].key.profile);
            uint64_t index;
            assert_memory_equal(sealed[i], wanted[i], size);
            wanted[i][size - 1] ^= 1;
            assert_int_equal(protect_open(engine, &keys.rx[k], &sources[k], wanted[i], size,
                                          wanted[i], &out, &index),
                             -EBADMSG);
            assert_int_equal(protect_open(engine, &keys.rx[k], &sources[k], sealed[i], size,
                                          sealed[i], &out, &index),
                             0);
            assert_int_equal(index, ours[i].index);
            assert_int_equal(out, len);
            assert_memory_equal(sealed[i], plain[i], len);
        }
    }
    for (unsigned k = 0; k < KEYS; k++) {
        protect_tx_clear(engine, &keys.ours[k]);
        protect_rx_clear(engine, &keys.rx[k]);
    }
}

static void test_rtcp_same_as_reference(void **state)
{
    for (int p = 0; p < 3; p++) {
        if (!served(profiles[p]))
            continue;
        uint8_t master[48], text[128], got[256], want[256];
        struct protect_rtcp_tx tx;
        struct protect_rtcp_rx rx;
        struct protect_rtcp_source source = {.ssrc = 0x01020304};
        fill_random(master, sizeof(master));
        assert_int_equal(protect_rtcp_tx_init(&tx, profiles[p], master), 0);
        assert_int_equal(protect_rtcp_rx_init(&rx, profiles[p], master), 0);
        for (uint32_t i = 0; i < 100; i++) {
            size_t n = 8 + 4 * ((size_t)random() % 20), a, b;
            uint32_t index;
            fill_random(text, n);
            memcpy(text, "\x80\xc9\x00\x01\x01\x02\x03\x04", 8);
            memcpy(got, text, n);
            memcpy(want, text, n);
            assert_int_equal(protect_rtcp_seal(engine, &tx, got, n, i, &a), 0);
            assert_int_equal(protect_rtcp_seal(reference, &tx, want, n, i, &b), 0);
            assert_int_equal(a, b);
            assert_memory_equal(got, want, a);
            got[a / 2] ^= 4;
            assert_true(protect_rtcp_open(engine, &rx, &source, got, a, got, &b, &index) < 0);
            assert_int_equal(protect_rtcp_open(engine, &rx, &source, want, a, want, &b, &index), 0);
            assert_memory_equal(want, text, n);
            assert_int_equal(index, i);
        }
    }
}

// A restarted process, or another worker, finds the key in shared memory.
static void test_adopted_by_another_engine(void **state)
{
    struct protect *other;
    struct protect_tx tx;
    uint8_t master[48] = {7}, zero[64] = {0};
    assert_int_equal(protect_cryptodev_new(&other, device, 0), 0);
    assert_int_equal(protect_tx_init(other, &tx, PROFILE_AEAD_AES_128_GCM, master), 0);
    struct seal_job job = {&tx, plain[0], sealed[0], 12, 48, 9, 1};
    fill_random(plain[0], 48);
    memset(sealed[0], 0x41, PACKET_MAX);
    protect_seal(engine, &job, 1); // not its key yet: nothing readable may leave
    assert_memory_equal(sealed[0] + 12, zero, 64);
    assert_int_equal(protect_tx_adopt(engine, &tx), 0);
    protect_seal(engine, &job, 1);
    assert_true(memcmp(sealed[0] + 12, zero, 16) && memcmp(sealed[0] + 12, plain[0], 16));
    protect_tx_clear(engine, &tx);
    protect_free(other);
}

static void test_slots_are_bounded_and_reused(void **state)
{
    struct protect_tx tx[DEVICE_KEYS + 1];
    uint8_t master[48] = {9};
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < DEVICE_KEYS; i++)
            assert_int_equal(protect_tx_init(engine, &tx[i], PROFILE_AEAD_AES_128_GCM, master), 0);
        assert_int_equal(
            protect_tx_init(engine, &tx[DEVICE_KEYS], PROFILE_AEAD_AES_128_GCM, master), -ENOMEM);
        for (unsigned i = 0; i < DEVICE_KEYS; i++) {
            struct seal_job job = {&tx[i], plain[0], sealed[0], 12, 48, 9, 1};
            protect_seal(engine, &job, 1);
            protect_tx_clear(engine, &tx[i]);
            protect_tx_clear(engine, &tx[i]); // harmless
        }
    }
}

static void test_refusals(void **state)
{
    struct protect *other;
    struct protect_device *none;
    char why[128] = "";
    assert_int_equal(protect_cryptodev_new(&other, device, 2), -EINVAL);
    assert_int_equal(protect_device_open(&none, "crypto_nonesuch", 1, 1, why, sizeof(why)),
                     -ENODEV);
    assert_non_null(strstr(why, "crypto_nonesuch"));
}

int main(void)
{
    static const char *drivers[] = {"crypto_aesni_mb", "crypto_aesni_gcm", "crypto_openssl"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_served),
        cmocka_unit_test(test_rfc7714_rtp),
        cmocka_unit_test(test_rfc7714_rtcp),
        cmocka_unit_test(test_same_as_reference),
        cmocka_unit_test(test_rtcp_same_as_reference),
        cmocka_unit_test(test_adopted_by_another_engine),
        cmocka_unit_test(test_slots_are_bounded_and_reused),
        cmocka_unit_test(test_refusals),
    };
    char *args[] = {"test",           "--no-huge", "--no-pci", "--no-shconf",
                    "--no-telemetry", "-m",        "128",      "--log-level=critical"};
    int failed = 0;
    if (rte_eal_init(sizeof(args) / sizeof(args[0]), args) < 0)
        return 1;
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        driver = drivers[i];
        failed += cmocka_run_group_tests_name(driver, tests, setup, teardown);
    }
    rte_eal_cleanup();
    return failed;
}
