#define NO_COMPAT_IMB_API_053
#include "cipher.h"
#include <intel-ipsec-mb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 12
#define ROOM 2048

struct cipher {
    IMB_MGR *mgr;
    enum srtp_profile profile;
    unsigned payload;
    struct gcm_key_data *gcm[CIPHER_KEYS];
    struct gcm_context_data context;
    IMB_JOB *jobs;
    uint8_t *src, *dst[CIPHER_KEYS], iv[CIPHER_KEYS][16], tag[CIPHER_KEYS][16];
    _Alignas(16) uint8_t round_keys[CIPHER_KEYS][16 * 15], dust[16 * 15];
    uint8_t pads[CIPHER_KEYS][2][20];
};

static void *zeroed(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) & ~(size_t)63);
    if (!memory) {
        fputs("bench: out of memory\n", stderr);
        exit(1);
    }
    return memset(memory, 0, size);
}

static void prepare_job(struct cipher *c, unsigned k)
{
    IMB_JOB *job = &c->jobs[k];
    job->cipher_mode = IMB_CIPHER_CNTR;
    job->cipher_direction = IMB_DIR_ENCRYPT;
    job->chain_order = IMB_ORDER_CIPHER_HASH;
    job->hash_alg = IMB_AUTH_HMAC_SHA_1;
    job->enc_keys = job->dec_keys = c->round_keys[k];
    job->key_len_in_bytes = 16;
    job->iv = c->iv[k];
    job->iv_len_in_bytes = 16;
    job->src = c->src;
    job->dst = c->dst[k] + HEADER;
    job->msg_len_to_cipher_in_bytes = c->payload;
    job->hash_start_src_offset_in_bytes = (uintptr_t)c->dst[k] - (uintptr_t)c->src;
    job->msg_len_to_hash_in_bytes = HEADER + c->payload + 4;
    job->auth_tag_output = c->tag[k];
    job->auth_tag_output_len_in_bytes = 12;
    job->u.HMAC._hashed_auth_key_xor_ipad = c->pads[k][0];
    job->u.HMAC._hashed_auth_key_xor_opad = c->pads[k][1];
}

struct cipher *cipher_new(enum srtp_profile profile, unsigned payload)
{
    struct cipher *c = zeroed(sizeof(*c));
    c->mgr = alloc_mb_mgr(0);
    if (!c->mgr) {
        fputs("bench: ipsec-mb does not start on this CPU\n", stderr);
        exit(1);
    }
    init_mb_mgr_auto(c->mgr, NULL);
    c->profile = profile;
    c->payload = payload;
    c->src = zeroed(ROOM);
    c->jobs = zeroed(CIPHER_KEYS * sizeof(*c->jobs));
    for (unsigned k = 0; k < CIPHER_KEYS; k++) {
        uint8_t key[64];
        for (unsigned i = 0; i < sizeof(key); i++)
            key[i] = (uint8_t)random();
        c->dst[k] = zeroed(ROOM);
        c->gcm[k] = zeroed(sizeof(*c->gcm[k]));
        if (profile == PROFILE_AEAD_AES_256_GCM)
            IMB_AES256_GCM_PRE(c->mgr, key, c->gcm[k]);
        else
            IMB_AES128_GCM_PRE(c->mgr, key, c->gcm[k]);
        IMB_AES_KEYEXP_128(c->mgr, key, c->round_keys[k], c->dust);
        IMB_SHA1_ONE_BLOCK(c->mgr, key, c->pads[k][0]);
        IMB_SHA1_ONE_BLOCK(c->mgr, key, c->pads[k][1]);
        prepare_job(c, k);
    }
    return c;
}

void cipher_free(struct cipher *c)
{
    for (unsigned k = 0; k < CIPHER_KEYS; k++) {
        free(c->dst[k]);
        free(c->gcm[k]);
    }
    free(c->src);
    free(c->jobs);
    free_mb_mgr(c->mgr);
    free(c);
}

void cipher_seal(struct cipher *c)
{
    if (c->profile == PROFILE_AES128_CM_SHA1_80) {
        IMB_SUBMIT_CIPHER_BURST_NOCHECK(c->mgr, c->jobs, CIPHER_KEYS, IMB_CIPHER_CNTR,
                                        IMB_DIR_ENCRYPT, IMB_KEY_128_BYTES);
        IMB_SUBMIT_HASH_BURST_NOCHECK(c->mgr, c->jobs, CIPHER_KEYS, IMB_AUTH_HMAC_SHA_1);
        return;
    }
    aes_gcm_enc_dec_t encrypt =
        c->profile == PROFILE_AEAD_AES_256_GCM ? c->mgr->gcm256_enc : c->mgr->gcm128_enc;
    for (unsigned k = 0; k < CIPHER_KEYS; k++)
        encrypt(c->gcm[k], &c->context, c->dst[k] + HEADER, c->src, c->payload, c->iv[k], c->dst[k],
                HEADER, c->dst[k] + HEADER + c->payload, 16);
}
