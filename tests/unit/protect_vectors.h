// RFC 7714's test vectors (16, 17), for every backend. After cmocka's headers.
#ifndef HITLESS_TEST_PROTECT_VECTORS_H
#define HITLESS_TEST_PROTECT_VECTORS_H

#include "../../dataplane/protect.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define GCM_SALT "517569642070726f2071756f"
#define KEY_128 "000102030405060708090a0b0c0d0e0f"
#define KEY_256 KEY_128 "101112131415161718191a1b1c1d1e1f"

static const struct gcm_vector {
    unsigned profile;
    const char *key, *plain, *sealed;
    bool tagged_only; // SRTCP without encryption
} rtp_vectors[] = {
    // RFC 7714 16.1
    {PROFILE_AEAD_AES_128_GCM, KEY_128,
     "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465"
     "732074726573",
     "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b"
     "36de3adf8833899d7f27beb16a9152cf765ee4390cce",
     false},
    // RFC 7714 16.2
    {PROFILE_AEAD_AES_256_GCM, KEY_256,
     "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465"
     "732074726573",
     "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f"
     "1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
     false},
};

#define RTCP_PLAIN                                                                                 \
    "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61"                             \
    "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"

static const struct gcm_vector rtcp_vectors[] = {
    // RFC 7714 17.1
    {PROFILE_AEAD_AES_128_GCM, KEY_128, RTCP_PLAIN,
     "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b46"
     "86303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
     false},
    // RFC 7714 17.2
    {PROFILE_AEAD_AES_256_GCM, KEY_256, RTCP_PLAIN,
     "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658"
     "c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
     false},
    // RFC 7714 17.3: tagged only
    {PROFILE_AEAD_AES_128_GCM, KEY_128, RTCP_PLAIN,
     RTCP_PLAIN "841dd9683dd78ec92ae58790125f62b3000005d4", true},
};

static size_t unhex(uint8_t *out, const char *hex)
{
    size_t n = 0;
    for (unsigned byte; *hex; hex += 2) {
        while (*hex == ' ')
            hex++;
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        out[n++] = (uint8_t)byte;
    }
    return n;
}

static void check_rtcp_vectors(struct protect *engine)
{
    for (size_t i = 0; i < sizeof(rtcp_vectors) / sizeof(rtcp_vectors[0]); i++) {
        const struct gcm_vector *v = &rtcp_vectors[i];
        uint8_t plain[128], want[128], got[256];
        size_t n = unhex(plain, v->plain), m = unhex(want, v->sealed), size;
        struct protect_rtcp_tx tx = {.key.profile = (uint8_t)v->profile};
        unhex(tx.key.cipher, v->key);
        unhex(tx.key.salt, GCM_SALT);
        memcpy(got, plain, n);
        if (!v->tagged_only) {
            assert_int_equal(protect_rtcp_seal(engine, &tx, got, n, 0x5d4, &size), 0);
            assert_int_equal(size, m);
            assert_memory_equal(got, want, m);
        }
        for (int in_place = 0; in_place < 2; in_place++) {
            struct protect_rtcp_rx rx = {.key = tx.key};
            struct protect_rtcp_source source = {.ssrc = 0x4d617273};
            uint32_t index;
            uint8_t *in = in_place ? got : want;
            memcpy(in, want, m);
            assert_int_equal(protect_rtcp_open(engine, &rx, &source, in, m, got, &size, &index), 0);
            assert_int_equal(size, n);
            assert_int_equal(index, 0x5d4);
            assert_memory_equal(got, plain, n);
        }
    }
}

#endif
