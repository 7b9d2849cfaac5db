// SRTP over a DPDK crypto device: sessions per key, operations in bursts, no copy when sealing.
//
// An engine belongs to one thread and one queue pair. It waits for what it has enqueued, so it
// suits devices that answer within a burst's time (software PMDs, lookaside hardware under load).
// GCM is one AEAD operation, source and destination apart. AES-CM is a cipher burst and then an
// HMAC burst, because the HMAC covers the header and the ROC, which the cipher does not.
#include "protect_device.h"
#include <rte_cycles.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <stdio.h>

#define DEVICE_TIMEOUT_MS 100
#define SINGLE_MAX 65536u // bytes of one packet's header, payload and tag
#define DIGEST_OFFSET (PROTECT_IV_OFFSET + 16)
#define OP_PRIVATE (16 + 32) // IV, digest

struct engine {
    struct protect protect;
    struct protect_device *device;
    uint16_t queue;
    bool stuck; // the device did not give operations back
    struct session_table sessions;
    struct rte_mempool *pool; // of op[]
    struct rte_crypto_op *op[PROTECT_BURST];
    struct rte_mbuf *from, *to; // PROTECT_BURST shells around the callers' memory
    uint8_t *single;            // DMA-able room for one packet: data, AAD, tag
};

static struct engine *engine_of(struct protect *p)
{
    return p->state;
}

static int cd_expand(struct protect *p, struct protect_key *key, const uint8_t *cipher,
                     const uint8_t *auth)
{
    struct engine *e = engine_of(p);
    bool can = key->profile == PROFILE_AEAD_AES_128_GCM   ? e->device->gcm128
               : key->profile == PROFILE_AEAD_AES_256_GCM ? e->device->gcm256
                                                          : e->device->cm;
    if (!can)
        return -ENOTSUP;
    memset(&key->device, 0, sizeof(key->device));
    memcpy(key->device.cipher, cipher, protect_master_key_len(key->profile));
    if (key->profile == PROFILE_AES128_CM_SHA1_80)
        memcpy(key->device.auth, auth, sizeof(key->device.auth));
    return session_take(&e->sessions, key);
}

static int cd_adopt(struct protect *p, struct protect_key *key)
{
    struct session_table *sessions = &engine_of(p)->sessions;
    return session_known(sessions, key) ? 0 : session_take(sessions, key);
}

static void cd_release(struct protect *p, struct protect_key *key)
{
    session_release(&engine_of(p)->sessions, key);
}

// ---- operations ----

static rte_iova_t iova(const void *at)
{
    return rte_eal_iova_mode() == RTE_IOVA_VA ? (rte_iova_t)(uintptr_t)at : rte_mem_virt2iova(at);
}

// Makes `m` cover the caller's bytes.
static void cover(struct rte_mbuf *m, const uint8_t *at, size_t len)
{
    m->buf_addr = (void *)(uintptr_t)at;
    m->buf_iova = iova(at);
    m->buf_len = m->data_len = (uint16_t)len;
    m->pkt_len = (uint32_t)len;
}

// Sends the first n operations through the device and waits for them. Returns 0 when the device
// gave all of them back, each with its status.
static int process(struct engine *e, unsigned n)
{
    struct rte_crypto_op *done[PROTECT_BURST];
    unsigned sent = 0, got = 0;
    uint64_t deadline = rte_get_tsc_cycles() + rte_get_tsc_hz() / 1000 * DEVICE_TIMEOUT_MS;
    while (got < n && !e->stuck) {
        if (sent < n)
            sent += rte_cryptodev_enqueue_burst(e->device->id, e->queue, e->op + sent,
                                                (uint16_t)(n - sent));
        if (sent == got) // refused, and nothing is under way that could make room
            return -EIO;
        got += rte_cryptodev_dequeue_burst(e->device->id, e->queue, done, (uint16_t)(sent - got));
        if (got < n && rte_get_tsc_cycles() > deadline)
            e->stuck = true;
    }
    if (!e->stuck)
        session_sweep(&e->sessions);
    return e->stuck ? -EIO : 0;
}

static uint8_t *op_iv(struct rte_crypto_op *op)
{
    return rte_crypto_op_ctod_offset(op, uint8_t *, PROTECT_IV_OFFSET);
}

// Clears what the last use left: aesni_mb reads an authentication range even of a cipher alone.
static void begin(struct rte_crypto_op *op, void *session, struct rte_mbuf *from,
                  struct rte_mbuf *to)
{
    op->status = RTE_CRYPTO_OP_STATUS_NOT_PROCESSED;
    memset(op->sym, 0, sizeof(*op->sym));
    op->sym->session = session;
    op->sym->m_src = from;
    op->sym->m_dst = to;
}

static int gcm_op(struct engine *e, unsigned i, void *session, const uint8_t *aad,
                  const uint8_t *src, uint8_t *dst, size_t len, uint8_t *tag)
{
    struct rte_crypto_op *op = e->op[i];
    if (!session)
        return -ENOMEM;
    cover(&e->from[i], src, len);
    cover(&e->to[i], dst, len + 16);
    begin(op, session, &e->from[i], src == dst ? NULL : &e->to[i]);
    op->sym->aead.data.length = (uint32_t)len;
    op->sym->aead.digest.data = tag;
    op->sym->aead.digest.phys_addr = iova(tag);
    op->sym->aead.aad.data = (uint8_t *)(uintptr_t)aad;
    op->sym->aead.aad.phys_addr = iova(aad);
    return 0;
}

static int ctr_op(struct engine *e, unsigned i, void *session, const uint8_t *src, uint8_t *dst,
                  size_t len)
{
    struct rte_crypto_op *op = e->op[i];
    if (!session)
        return -ENOMEM;
    cover(&e->from[i], src, len);
    cover(&e->to[i], dst, len);
    begin(op, session, &e->from[i], src == dst ? NULL : &e->to[i]);
    op->sym->cipher.data.length = (uint32_t)len;
    return 0;
}

// The digest goes beside the operation: where the packet's tag belongs stands the ROC.
static int hmac_op(struct engine *e, unsigned i, void *session, const uint8_t *data, size_t len)
{
    struct rte_crypto_op *op = e->op[i];
    if (!session)
        return -ENOMEM;
    cover(&e->from[i], data, len);
    begin(op, session, &e->from[i], NULL);
    op->sym->auth.data.length = (uint32_t)len;
    op->sym->auth.digest.data = rte_crypto_op_ctod_offset(op, uint8_t *, DIGEST_OFFSET);
    op->sym->auth.digest.phys_addr = rte_crypto_op_ctophys_offset(op, DIGEST_OFFSET);
    return 0;
}

static bool op_done(const struct rte_crypto_op *op)
{
    return op->status == RTE_CRYPTO_OP_STATUS_SUCCESS;
}

// ---- sealing in bulk ----

static void withhold(const struct seal_job *job)
{
    memset(job->dst + job->header_len, 0, job->payload_len + PROTECT_TAG_ROOM);
}

// Ciphers of one burst, GCM's tags included.
static void seal_ciphers(struct engine *e, const struct seal_job *jobs, unsigned n, bool failed[])
{
    unsigned used = 0, owner[PROTECT_BURST];
    for (unsigned i = 0; i < n; i++) {
        const struct seal_job *job = &jobs[i];
        const struct protect_key *key = &job->tx->key;
        uint8_t *body = job->dst + job->header_len;
        int rc = -EINVAL;
        if (key->profile == PROFILE_AES128_CM_SHA1_80) {
            if (!job->payload_len) {
                failed[i] = false;
                continue;
            }
            protect_cm_iv(op_iv(e->op[used]), key->salt, job->ssrc, job->index);
            rc = ctr_op(e, used, session_get(&e->sessions, key, KIND_CTR, 0), job->src, body,
                        job->payload_len);
        } else if (protect_tag_len(key->profile)) {
            protect_gcm_iv(op_iv(e->op[used]), key->salt, job->ssrc, job->index);
            rc = gcm_op(e, used, session_get(&e->sessions, key, KIND_GCM_SEAL, job->header_len),
                        job->dst, job->src, body, job->payload_len, body + job->payload_len);
        }
        failed[i] = rc != 0;
        if (!rc)
            owner[used++] = i;
    }
    int rc = process(e, used);
    for (unsigned i = 0; i < used; i++)
        failed[owner[i]] = rc || !op_done(e->op[i]);
}

static void seal_hmacs(struct engine *e, const struct seal_job *jobs, unsigned n, bool failed[])
{
    unsigned used = 0, owner[PROTECT_BURST];
    for (unsigned i = 0; i < n; i++) {
        const struct seal_job *job = &jobs[i];
        const struct protect_key *key = &job->tx->key;
        if (failed[i] || key->profile != PROFILE_AES128_CM_SHA1_80)
            continue;
        size_t sealed = (size_t)job->header_len + job->payload_len;
        uint32_t roc = rte_cpu_to_be_32((uint32_t)(job->index >> 16));
        memcpy(job->dst + sealed, &roc, sizeof(roc));
        failed[i] = hmac_op(e, used, session_get(&e->sessions, key, KIND_HMAC, 0), job->dst,
                            sealed + sizeof(roc)) != 0;
        if (!failed[i])
            owner[used++] = i;
    }
    int rc = process(e, used);
    for (unsigned i = 0; i < used; i++) {
        const struct seal_job *job = &jobs[owner[i]];
        failed[owner[i]] = rc || !op_done(e->op[i]);
        memcpy(job->dst + job->header_len + job->payload_len, e->op[i]->sym->auth.digest.data,
               PROTECT_HMAC_LEN);
    }
}

static void cd_seal(struct protect *p, const struct seal_job *jobs, unsigned n)
{
    struct engine *e = engine_of(p);
    for (unsigned done = 0; done < n; done += PROTECT_BURST) {
        unsigned burst = RTE_MIN(n - done, (unsigned)PROTECT_BURST);
        bool failed[PROTECT_BURST];
        seal_ciphers(e, jobs + done, burst, failed);
        seal_hmacs(e, jobs + done, burst, failed);
        for (unsigned i = 0; i < burst; i++)
            if (failed[i])
                withhold(&jobs[done + i]);
    }
}

// ---- one packet, by way of our own DMA-able memory ----

static int cd_gcm(struct protect *p, const struct protect_key *key, bool encrypt,
                  const uint8_t iv[12], const uint8_t *aad, size_t aad_len, const uint8_t *src,
                  uint8_t *dst, size_t len, uint8_t tag[16])
{
    struct engine *e = engine_of(p);
    if (aad_len + len + 16 > SINGLE_MAX)
        return -EINVAL;
    uint8_t *at_data = e->single, *at_tag = at_data + len, *at_aad = at_tag + 16;
    memcpy(at_aad, aad, aad_len);
    if (len)
        memcpy(at_data, src, len);
    memcpy(at_tag, tag, encrypt ? 0 : 16);
    memcpy(op_iv(e->op[0]), iv, 12);
    void *session =
        session_get(&e->sessions, key, encrypt ? KIND_GCM_SEAL : KIND_GCM_OPEN, (uint16_t)aad_len);
    int rc = gcm_op(e, 0, session, at_aad, at_data, at_data, len, at_tag);
    if (!rc)
        rc = process(e, 1);
    if (rc)
        return rc;
    if (!op_done(e->op[0]))
        return e->op[0]->status == RTE_CRYPTO_OP_STATUS_AUTH_FAILED ? -EBADMSG : -EIO;
    if (len)
        memcpy(dst, at_data, len);
    memcpy(tag, at_tag, encrypt ? 16 : 0);
    return 0;
}

static int cd_ctr(struct protect *p, const struct protect_key *key, const uint8_t iv[16],
                  const uint8_t *src, uint8_t *dst, size_t len)
{
    struct engine *e = engine_of(p);
    if (!len)
        return 0;
    if (len > SINGLE_MAX)
        return -EINVAL;
    memcpy(e->single, src, len);
    memcpy(op_iv(e->op[0]), iv, 16);
    int rc = ctr_op(e, 0, session_get(&e->sessions, key, KIND_CTR, 0), e->single, e->single, len);
    if (!rc)
        rc = process(e, 1);
    if (rc || !op_done(e->op[0]))
        return -EIO;
    memcpy(dst, e->single, len);
    return 0;
}

static int cd_hmac(struct protect *p, const struct protect_key *key, const uint8_t *data,
                   size_t len, uint8_t tag[10])
{
    struct engine *e = engine_of(p);
    if (len > SINGLE_MAX)
        return -EINVAL;
    memcpy(e->single, data, len);
    int rc = hmac_op(e, 0, session_get(&e->sessions, key, KIND_HMAC, 0), e->single, len);
    if (!rc)
        rc = process(e, 1);
    if (rc || !op_done(e->op[0]))
        return -EIO;
    memcpy(tag, e->op[0]->sym->auth.digest.data, PROTECT_HMAC_LEN);
    return 0;
}

// ---- engines ----

static void cd_free(struct protect *p)
{
    struct engine *e = engine_of(p);
    session_table_free(&e->sessions);
    rte_mempool_free(e->pool);
    rte_free(e->from);
    rte_free(e->to);
    rte_free(e->single);
    rte_free(e);
}

static const struct protect_ops cd_ops = {
    .name = "cryptodev",
    .backend = ABI_CRYPTO_CRYPTODEV,
    .expand = cd_expand,
    .adopt = cd_adopt,
    .release = cd_release,
    .seal = cd_seal,
    .free = cd_free,
    .gcm = cd_gcm,
    .ctr = cd_ctr,
    .hmac = cd_hmac,
};

static int engine_memory(struct engine *e)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    snprintf(name, sizeof(name), "protect_ops_%u_%u", e->device->id, e->queue);
    e->pool = rte_crypto_op_pool_create(name, RTE_CRYPTO_OP_TYPE_SYMMETRIC, PROTECT_BURST, 0,
                                        OP_PRIVATE, SOCKET_ID_ANY);
    e->from = rte_zmalloc(NULL, PROTECT_BURST * sizeof(*e->from), 64);
    e->to = rte_zmalloc(NULL, PROTECT_BURST * sizeof(*e->to), 64);
    e->single = rte_zmalloc(NULL, SINGLE_MAX + 64, 64);
    if (!e->pool || !e->from || !e->to || !e->single)
        return -ENOMEM;
    if (rte_crypto_op_bulk_alloc(e->pool, RTE_CRYPTO_OP_TYPE_SYMMETRIC, e->op, PROTECT_BURST) == 0)
        return -ENOMEM;
    for (unsigned i = 0; i < PROTECT_BURST; i++) {
        e->op[i]->sess_type = RTE_CRYPTO_OP_WITH_SESSION;
        e->from[i].nb_segs = e->to[i].nb_segs = 1;
        e->from[i].refcnt = e->to[i].refcnt = 1;
    }
    return 0;
}

int protect_cryptodev_new(struct protect **out, struct protect_device *device, uint16_t queue)
{
    if (queue >= device->queues)
        return -EINVAL;
    struct engine *e = rte_zmalloc("protect", sizeof(*e), 64);
    if (!e)
        return -ENOMEM;
    e->protect = (struct protect){.ops = &cd_ops, .state = e};
    e->device = device;
    e->queue = queue;
    if (session_table_init(&e->sessions, device) || engine_memory(e)) {
        cd_free(&e->protect);
        return -ENOMEM;
    }
    *out = &e->protect;
    return 0;
}
