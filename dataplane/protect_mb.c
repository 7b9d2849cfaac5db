// The default backend: intel-ipsec-mb 1.3 called directly, without cryptodev's cost per operation.
//
// AES-GCM runs inside one packet as wide as the CPU is, so packets are sealed one after the other
// while the next key is fetched. SHA-1 does not, so AES-CM packets are gathered: one burst of
// ciphers, then one burst of HMACs, 16 of which share the vector registers.
//
// One state per thread. The library's global error number is no bottleneck: two threads seal as
// fast as two processes.
#define NO_COMPAT_IMB_API_053
#include "protect.h"
#include <intel-ipsec-mb.h>
#include <stdlib.h>

#define CM_TAG_WRITTEN                                                                             \
    12 // bytes that the library writes of an HMAC-SHA1 tag, of which SRTP sends 10
#define SHA1_BLOCK 64
#define WIDE_HASHES 9 // HMACs from which the wide code pays
#define CACHE_LINE 64

struct mb {
    struct protect protect, brief;
    IMB_MGR *wide;               // the best code of this CPU
    IMB_MGR *single;             // SSE code: with SHA-NI the fastest for one HMAC alone; prepares
                                 // 8 powers of a GCM key, where the wide code prepares 48
    struct gcm_context_data gcm; // scratch
    uint8_t gcm_iv[2][16];       // of this job and the next
    unsigned waiting;            // AES-CM jobs gathered
    uint8_t iv[PROTECT_BURST][16];
    IMB_JOB job[PROTECT_BURST];
    IMB_JOB one;
};

_Static_assert(sizeof(struct gcm_key_data) <= sizeof(((struct protect_key *)0)->gcm),
               "GCM's expanded key has its place");
_Static_assert(CM_TAG_WRITTEN <= PROTECT_TAG_ROOM, "the tag's surplus bytes have their place");

static struct mb *mb_of(struct protect *p)
{
    return p->state;
}

// The code for a GCM key: what one prepared, only the same can use.
static IMB_MGR *gcm_code(struct protect *p)
{
    struct mb *mb = mb_of(p);
    return p == &mb->brief ? mb->single : mb->wide;
}

static const struct gcm_key_data *gcm_key(const struct protect_key *key)
{
    return (const struct gcm_key_data *)key->gcm;
}

// HMAC's two pads, hashed once per key (RFC 2104 4).
static void expand_hmac(struct mb *mb, struct protect_key *key, const uint8_t auth[20])
{
    uint8_t inner[SHA1_BLOCK], outer[SHA1_BLOCK];
    memset(inner, 0x36, sizeof(inner));
    memset(outer, 0x5c, sizeof(outer));
    for (int i = 0; i < 20; i++) {
        inner[i] ^= auth[i];
        outer[i] ^= auth[i];
    }
    IMB_SHA1_ONE_BLOCK(mb->single, inner, key->cm.inner);
    IMB_SHA1_ONE_BLOCK(mb->single, outer, key->cm.outer);
    explicit_bzero(inner, sizeof(inner));
    explicit_bzero(outer, sizeof(outer));
}

static void expand_cipher(IMB_MGR *mgr, struct protect_key *key, const uint8_t *cipher)
{
    struct gcm_key_data *gcm = (struct gcm_key_data *)key->gcm;
    _Alignas(16) uint8_t decrypt[11 * 16]; // the library insists on making it
    switch (key->profile) {
    case PROFILE_AEAD_AES_128_GCM:
        IMB_AES128_GCM_PRE(mgr, cipher, gcm);
        break;
    case PROFILE_AEAD_AES_256_GCM:
        IMB_AES256_GCM_PRE(mgr, cipher, gcm);
        break;
    default:
        IMB_AES_KEYEXP_128(mgr, cipher, key->cm.round_keys, decrypt);
        explicit_bzero(decrypt, sizeof(decrypt));
    }
}

static int mb_expand(struct protect *p, struct protect_key *key, const uint8_t *cipher,
                     const uint8_t *auth)
{
    expand_cipher(gcm_code(p), key, cipher);
    if (key->profile == PROFILE_AES128_CM_SHA1_80)
        expand_hmac(mb_of(p), key, auth);
    return 0;
}

// Every expanded form begins with the session key itself; the HMAC's states do not depend on the
// library.
static int mb_adopt(struct protect *p, struct protect_key *key)
{
    uint8_t cipher[32];
    memcpy(cipher, key->gcm, sizeof(cipher));
    expand_cipher(gcm_code(p), key, cipher);
    explicit_bzero(cipher, sizeof(cipher));
    return 0;
}

static void mb_release(struct protect *p, struct protect_key *key)
{
}

// Fetches what sealing `len` bytes reads of a key: round keys, and as many powers of the hash key,
// the highest first, as the payload has blocks.
static inline void prefetch_key(const struct protect_key *key, unsigned len)
{
    const char *at = (const char *)key;
    const unsigned size = sizeof(*key);
    unsigned powers = len + CACHE_LINE; // header and lengths
    for (unsigned i = 0; i < 4 * CACHE_LINE; i += CACHE_LINE)
        __builtin_prefetch(at + i);
    if (key->profile == PROFILE_AES128_CM_SHA1_80)
        return;
    for (unsigned i = powers < size - 4 * CACHE_LINE ? size - powers : 4 * CACHE_LINE; i < size;
         i += CACHE_LINE)
        __builtin_prefetch(at + i);
}

// Writes a GCM job's IV one job ahead: the library loads it as one vector, which waits for two
// narrow stores of just before to reach the cache.
static inline void prepare_gcm(struct mb *mb, const struct seal_job *job, unsigned i)
{
    protect_gcm_iv(mb->gcm_iv[i % 2], job->tx->key.salt, job->ssrc, job->index);
}

static inline void seal_gcm(struct mb *mb, const struct seal_job *job, unsigned i,
                            aes_gcm_enc_dec_t encrypt)
{
    uint8_t *body = job->dst + job->header_len;
    encrypt(gcm_key(&job->tx->key), &mb->gcm, body, job->src, job->payload_len, mb->gcm_iv[i % 2],
            job->dst, job->header_len, body + job->payload_len, 16);
}

// Gathers one AES-CM job. The library reads both halves from one job: the cipher from `src`, and
// the HMAC from src + offset, which is our dst. The ROC stands where the tag will be written.
static inline void gather_cm(struct mb *mb, const struct seal_job *job)
{
    const struct protect_key *key = &job->tx->key;
    IMB_JOB *j = &mb->job[mb->waiting];
    uint8_t *body = job->dst + job->header_len, *tag = body + job->payload_len;
    uint32_t roc = htobe32((uint32_t)(job->index >> 16));
    memcpy(tag, &roc, sizeof(roc));
    protect_cm_iv(mb->iv[mb->waiting++], key->salt, job->ssrc, job->index);
    j->enc_keys = key->cm.round_keys;
    j->src = job->src;
    j->dst = body;
    j->msg_len_to_cipher_in_bytes = job->payload_len;
    j->hash_start_src_offset_in_bytes = (uintptr_t)job->dst - (uintptr_t)job->src;
    j->msg_len_to_hash_in_bytes = (uint64_t)job->header_len + job->payload_len + sizeof(roc);
    j->auth_tag_output = tag;
    j->u.HMAC._hashed_auth_key_xor_ipad = key->cm.inner;
    j->u.HMAC._hashed_auth_key_xor_opad = key->cm.outer;
}

static void seal_cm(struct mb *mb)
{
    IMB_SUBMIT_CIPHER_BURST_NOCHECK(mb->wide, mb->job, mb->waiting, IMB_CIPHER_CNTR,
                                    IMB_DIR_ENCRYPT, IMB_KEY_128_BYTES);
    // The wide code costs as much for one as for sixteen.
    IMB_SUBMIT_HASH_BURST_NOCHECK(mb->waiting < WIDE_HASHES ? mb->single : mb->wide, mb->job,
                                  mb->waiting, IMB_AUTH_HMAC_SHA_1);
    mb->waiting = 0;
}

static void mb_seal(struct protect *p, const struct seal_job *jobs, unsigned n)
{
    struct mb *mb = mb_of(p);
    if (n > 1)
        prefetch_key(&jobs[1].tx->key, jobs[1].payload_len);
    if (n > 0)
        prepare_gcm(mb, &jobs[0], 0);
    for (unsigned i = 0; i < n; i++) {
        const struct seal_job *job = &jobs[i];
        if (i + 2 < n)
            prefetch_key(&job[2].tx->key, job[2].payload_len);
        if (i + 1 < n)
            prepare_gcm(mb, &job[1], i + 1);
        switch (job->tx->key.profile) {
        case PROFILE_AEAD_AES_128_GCM:
            seal_gcm(mb, job, i, mb->wide->gcm128_enc);
            break;
        case PROFILE_AES128_CM_SHA1_80:
            gather_cm(mb, job);
            if (mb->waiting == PROTECT_BURST)
                seal_cm(mb);
            break;
        case PROFILE_AEAD_AES_256_GCM:
            seal_gcm(mb, job, i, mb->wide->gcm256_enc);
            break;
        default: // no key: nothing readable may leave
            memset(job->dst + job->header_len, 0, job->payload_len + PROTECT_TAG_ROOM);
        }
    }
    if (mb->waiting)
        seal_cm(mb);
}

static int mb_gcm(struct protect *p, const struct protect_key *key, bool encrypt,
                  const uint8_t iv[12], const uint8_t *aad, size_t aad_len, const uint8_t *src,
                  uint8_t *dst, size_t len, uint8_t tag[16])
{
    struct mb *mb = mb_of(p);
    const IMB_MGR *mgr = gcm_code(p);
    bool wide_key = key->profile == PROFILE_AEAD_AES_256_GCM;
    aes_gcm_enc_dec_t run = encrypt ? (wide_key ? mgr->gcm256_enc : mgr->gcm128_enc)
                                    : (wide_key ? mgr->gcm256_dec : mgr->gcm128_dec);
    uint8_t made[16];
    run(gcm_key(key), &mb->gcm, dst, src, len, iv, aad, aad_len, made, sizeof(made));
    if (encrypt)
        memcpy(tag, made, sizeof(made));
    return encrypt || protect_same_tag(made, tag, sizeof(made)) ? 0 : -EBADMSG;
}

static int mb_ctr(struct protect *p, const struct protect_key *key, const uint8_t iv[16],
                  const uint8_t *src, uint8_t *dst, size_t len)
{
    struct mb *mb = mb_of(p);
    IMB_JOB *j = &mb->one;
    if (!len)
        return 0;
    j->enc_keys = key->cm.round_keys;
    j->iv = iv;
    j->src = src;
    j->dst = dst;
    j->msg_len_to_cipher_in_bytes = len;
    IMB_SUBMIT_CIPHER_BURST_NOCHECK(mb->wide, j, 1, IMB_CIPHER_CNTR, IMB_DIR_ENCRYPT,
                                    IMB_KEY_128_BYTES);
    return 0;
}

static int mb_hmac(struct protect *p, const struct protect_key *key, const uint8_t *data,
                   size_t len, uint8_t tag[10])
{
    struct mb *mb = mb_of(p);
    IMB_JOB *j = &mb->one;
    uint8_t written[CM_TAG_WRITTEN] = {0};
    j->src = data;
    j->hash_start_src_offset_in_bytes = 0;
    j->msg_len_to_hash_in_bytes = len;
    j->auth_tag_output = written;
    j->u.HMAC._hashed_auth_key_xor_ipad = key->cm.inner;
    j->u.HMAC._hashed_auth_key_xor_opad = key->cm.outer;
    IMB_SUBMIT_HASH_BURST_NOCHECK(mb->single, j, 1, IMB_AUTH_HMAC_SHA_1);
    memcpy(tag, written, 10);
    return 0;
}

static void mb_free(struct protect *p)
{
    struct mb *mb = mb_of(p);
    if (mb->wide)
        free_mb_mgr(mb->wide);
    if (mb->single)
        free_mb_mgr(mb->single);
    explicit_bzero(mb, sizeof(*mb));
    free(mb);
}

static const struct protect_ops mb_ops = {
    .name = "ipsec-mb",
    .backend = ABI_CRYPTO_IPSEC_MB,
    .expand = mb_expand,
    .adopt = mb_adopt,
    .release = mb_release,
    .seal = mb_seal,
    .free = mb_free,
    .gcm = mb_gcm,
    .ctr = mb_ctr,
    .hmac = mb_hmac,
};

// What is the same in every AES-CM job.
static void prepare_job(IMB_JOB *j, const uint8_t *iv)
{
    j->cipher_mode = IMB_CIPHER_CNTR;
    j->cipher_direction = IMB_DIR_ENCRYPT;
    j->hash_alg = IMB_AUTH_HMAC_SHA_1;
    j->chain_order = IMB_ORDER_CIPHER_HASH;
    j->key_len_in_bytes = 16;
    j->iv = iv;
    j->iv_len_in_bytes = 16;
    j->auth_tag_output_len_in_bytes = CM_TAG_WRITTEN;
}

int protect_new(struct protect **out)
{
    struct mb *mb = aligned_alloc(CACHE_LINE, (sizeof(*mb) + CACHE_LINE - 1) & ~63ul);
    if (!mb)
        return -ENOMEM;
    memset(mb, 0, sizeof(*mb));
    mb->brief = (struct protect){.ops = &mb_ops, .state = mb};
    mb->protect = (struct protect){.ops = &mb_ops, .state = mb, .brief = &mb->brief};
    mb->wide = alloc_mb_mgr(0);
    mb->single = alloc_mb_mgr(0);
    if (!mb->wide || !mb->single) {
        mb_free(&mb->protect);
        return -ENOMEM;
    }
    init_mb_mgr_auto(mb->wide, NULL);
    init_mb_mgr_sse(mb->single);
    if (imb_get_errno(mb->wide) || imb_get_errno(mb->single)) {
        mb_free(&mb->protect);
        return -ENOTSUP;
    }
    for (unsigned i = 0; i < PROTECT_BURST; i++)
        prepare_job(&mb->job[i], mb->iv[i]);
    prepare_job(&mb->one, NULL);
    *out = &mb->protect;
    return 0;
}
