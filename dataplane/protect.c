// SRTP and SRTCP as RFC 3711 and RFC 7714 write them: index estimation, packet layout, replay. Keys
// are protect_keys.c's, the ciphers a backend's (protect_mb.c, protect_cryptodev.c).
//
// Runs on whatever thread owns the struct protect. Knows no clock, socket or DPDK.
#include "protect.h"
#include "bytes.h"
#include "protect_audit.h"
#include "protect_keys.h"
#include <string.h>

#define RTP_HEAD 12u
#define RTCP_HEAD 8u
#define RTCP_INDEX 4u
#define RTCP_E_BIT 0x80000000u

static bool is_gcm(unsigned profile)
{
    return profile != PROFILE_AES128_CM_SHA1_80;
}

void protect_free(struct protect *p)
{
    if (p)
        p->ops->free(p);
}

void protect_seal(struct protect *p, const struct seal_job *jobs, unsigned n)
{
    p->ops->seal(p, jobs, n);
#ifdef PROTECT_AUDIT
    for (unsigned i = 0; i < n; i++)
        protect_audit_rtp(&jobs[i]);
#endif
}

// Bytes of an RTP header with CSRCs and extension (RFC 3550 5.1, 5.3.1); 0 when the packet is not
// RTP or ends before it.
static size_t rtp_header_len(const uint8_t *packet, size_t size)
{
    if (size < RTP_HEAD || packet[0] >> 6 != 2)
        return 0;
    size_t len = RTP_HEAD + 4u * (packet[0] & 15);
    if (packet[0] & 0x10) {
        if (size < len + 4)
            return 0;
        len += 4 + 4u * load_be16(packet + len + 2);
    }
    return len <= size ? len : 0;
}

// RFC 3711 3.3.1 and appendix A. A sequence number that would belong to the round before the first
// can only be a long jump ahead in the first.
static uint64_t estimate_index(const struct replay *replay, uint16_t seq)
{
    if (replay_empty(replay))
        return seq;
    uint64_t top = replay_top(replay);
    uint64_t roc = top >> 16;
    uint16_t highest = (uint16_t)top;
    if (highest < 0x8000) {
        if (seq - highest > 0x8000 && roc > 0)
            roc--;
    } else if (highest - 0x8000 > seq) {
        roc++;
    }
    return roc << 16 | seq;
}

// Everything of one packet that both ways of opening need.
struct opening {
    const struct protect_key *key;
    uint32_t ssrc;
    uint64_t index;
    const uint8_t *in;
    uint8_t *out;
    size_t head, body; // bytes of clear header and of ciphertext
};

static int open_gcm(struct protect *p, const struct opening *o)
{
    uint8_t iv[12], tag[16];
    protect_gcm_iv(iv, o->key->salt, o->ssrc, o->index);
    if (o->out != o->in)
        memcpy(o->out, o->in, o->head);
    memcpy(tag, o->in + o->head + o->body, sizeof(tag));
    int rc = p->ops->gcm(p, o->key, false, iv, o->out, o->head, o->in + o->head, o->out + o->head,
                         o->body, tag);
    if (rc) // unauthenticated plaintext goes nowhere (RFC 5116 2.2)
        explicit_bzero(o->out + o->head, o->body);
    return rc;
}

// The HMAC covers the packet and, behind it, four bytes that are not sent (the ROC), which take the
// tag's place while it is computed.
static int open_cm(struct protect *p, const struct opening *o)
{
    size_t sealed = o->head + o->body;
    uint8_t sent[10], tag[10], iv[16];
    memcpy(sent, o->in + sealed, sizeof(sent));
    if (o->out != o->in)
        memcpy(o->out, o->in, sealed);
    store_be32(o->out + sealed, (uint32_t)(o->index >> 16));
    int rc = p->ops->hmac(p, o->key, o->out, sealed + 4, tag);
    memcpy(o->out + sealed, sent, sizeof(sent));
    if (!rc && !protect_same_tag(tag, sent, sizeof(tag)))
        rc = -EBADMSG;
    if (rc)
        return rc;
    protect_cm_iv(iv, o->key->salt, o->ssrc, o->index);
    return p->ops->ctr(p, o->key, iv, o->out + o->head, o->out + o->head, o->body);
}

int protect_open(struct protect *p, const struct protect_rx *rx, struct protect_source *source,
                 const uint8_t *in, size_t size, uint8_t *out, size_t *out_size, uint64_t *index)
{
    unsigned tag_len = protect_tag_len(rx->key.profile);
    size_t head = tag_len ? rtp_header_len(in, size) : 0;
    if (!head || size - head < tag_len || load_be32(in + 8) != source->ssrc)
        return -EINVAL;
    struct opening o = {.key = &rx->key,
                        .ssrc = source->ssrc,
                        .index = estimate_index(&source->replay, load_be16(in + 2)),
                        .in = in,
                        .out = out,
                        .head = head,
                        .body = size - head - tag_len};
    if (o.index >> 48) // the last index of this key has been used
        return -EALREADY;
    int rc = replay_check(&source->replay, o.index);
    if (!rc)
        rc = is_gcm(rx->key.profile) ? open_gcm(p, &o) : open_cm(p, &o);
    if (rc)
        return rc;
    replay_commit(&source->replay, o.index);
    *out_size = o.head + o.body;
    *index = o.index;
    return 0;
}

// Expands SRTCP's compact key into `key`, which the caller gives back with protect_key_clear.
static int rtcp_expand(struct protect *p, struct protect_key *key,
                       const struct protect_rtcp_key *compact)
{
    memcpy(key->salt, compact->salt, sizeof(key->salt));
    key->profile = compact->profile;
    key->backend = p->ops->backend;
    int rc = p->ops->expand(p, key, compact->cipher, compact->auth);
    if (rc)
        explicit_bzero(key, sizeof(*key));
    return rc;
}

static int rtcp_seal_gcm(struct protect *p, const struct protect_key *key, uint8_t *packet,
                         size_t size, uint32_t index)
{
    uint8_t iv[12], aad[RTCP_HEAD + RTCP_INDEX];
    protect_gcm_iv(iv, key->salt, load_be32(packet + 4), index);
    memcpy(aad, packet, RTCP_HEAD);
    store_be32(aad + RTCP_HEAD, RTCP_E_BIT | index);
    store_be32(packet + size + 16, RTCP_E_BIT | index);
    uint8_t *body = packet + RTCP_HEAD;
    return p->ops->gcm(p, key, true, iv, aad, sizeof(aad), body, body, size - RTCP_HEAD,
                       packet + size);
}

static int rtcp_seal_cm(struct protect *p, const struct protect_key *key, uint8_t *packet,
                        size_t size, uint32_t index)
{
    uint8_t iv[16];
    protect_cm_iv(iv, key->salt, load_be32(packet + 4), index);
    uint8_t *body = packet + RTCP_HEAD;
    int rc = p->ops->ctr(p, key, iv, body, body, size - RTCP_HEAD);
    store_be32(packet + size, RTCP_E_BIT | index);
    return rc ? rc : p->ops->hmac(p, key, packet, size + RTCP_INDEX, packet + size + RTCP_INDEX);
}

int protect_rtcp_seal(struct protect *p, const struct protect_rtcp_tx *tx, uint8_t *packet,
                      size_t size, uint32_t index, size_t *out_size)
{
    p = p->brief ? p->brief : p;
    unsigned tag_len = protect_tag_len(tx->key.profile);
    if (!tag_len || size < RTCP_HEAD || index & RTCP_E_BIT)
        return -EINVAL;
    struct protect_key key;
    int rc = rtcp_expand(p, &key, &tx->key);
    if (rc)
        return rc;
    rc = is_gcm(key.profile) ? rtcp_seal_gcm(p, &key, packet, size, index)
                             : rtcp_seal_cm(p, &key, packet, size, index);
    protect_key_clear(p, &key);
    if (rc)
        return rc;
    *out_size = size + RTCP_INDEX + tag_len;
#ifdef PROTECT_AUDIT
    protect_audit_rtcp(tx, load_be32(packet + 4), index, packet, *out_size);
#endif
    return 0;
}

// Tag, then E bit and index (RFC 7714 9.2). Without the E bit everything is AAD (9.3).
static int rtcp_open_gcm(struct protect *p, const struct opening *o, uint32_t trailer)
{
    bool encrypted = trailer & RTCP_E_BIT;
    size_t sealed = o->head + o->body;
    uint8_t iv[12], tag[16];
    protect_gcm_iv(iv, o->key->salt, o->ssrc, o->index);
    memcpy(tag, o->in + sealed, sizeof(tag));
    if (o->out != o->in)
        memcpy(o->out, o->in, sealed);
    uint8_t aad[RTCP_HEAD + RTCP_INDEX];
    memcpy(aad, o->in, RTCP_HEAD);
    store_be32(aad + RTCP_HEAD, trailer);
    uint8_t *body = o->out + RTCP_HEAD;
    int rc;
    if (encrypted) {
        rc = p->ops->gcm(p, o->key, false, iv, aad, sizeof(aad), body, body, o->body, tag);
    } else {
        store_be32(o->out + sealed, trailer); // behind the packet, where the tag stood
        rc = p->ops->gcm(p, o->key, false, iv, o->out, sealed + RTCP_INDEX, NULL, NULL, 0, tag);
    }
    if (rc)
        explicit_bzero(body, o->body);
    return rc;
}

// E bit and index, then tag (RFC 3711 3.4).
static int rtcp_open_cm(struct protect *p, const struct opening *o, uint32_t trailer)
{
    size_t sealed = o->head + o->body;
    uint8_t tag[10], iv[16];
    int rc = p->ops->hmac(p, o->key, o->in, sealed + RTCP_INDEX, tag);
    if (!rc && !protect_same_tag(tag, o->in + sealed + RTCP_INDEX, sizeof(tag)))
        rc = -EBADMSG;
    if (rc)
        return rc;
    if (o->out != o->in)
        memcpy(o->out, o->in, sealed);
    if (!(trailer & RTCP_E_BIT))
        return 0;
    protect_cm_iv(iv, o->key->salt, o->ssrc, o->index);
    return p->ops->ctr(p, o->key, iv, o->out + o->head, o->out + o->head, o->body);
}

int protect_rtcp_open(struct protect *p, const struct protect_rtcp_rx *rx,
                      struct protect_rtcp_source *source, const uint8_t *in, size_t size,
                      uint8_t *out, size_t *out_size, uint32_t *index)
{
    p = p->brief ? p->brief : p;
    unsigned tag_len = protect_tag_len(rx->key.profile);
    if (!tag_len || size < RTCP_HEAD + RTCP_INDEX + tag_len || in[0] >> 6 != 2 ||
        load_be32(in + 4) != source->ssrc)
        return -EINVAL;
    bool gcm = is_gcm(rx->key.profile);
    uint32_t trailer = load_be32(in + size - RTCP_INDEX - (gcm ? 0 : tag_len));
    struct protect_key key;
    struct opening o = {.key = &key,
                        .ssrc = source->ssrc,
                        .index = trailer & ~RTCP_E_BIT,
                        .in = in,
                        .out = out,
                        .head = RTCP_HEAD,
                        .body = size - RTCP_HEAD - RTCP_INDEX - tag_len};
    int rc = replay_short_check(&source->replay, o.index);
    if (!rc)
        rc = rtcp_expand(p, &key, &rx->key);
    if (rc)
        return rc;
    rc = gcm ? rtcp_open_gcm(p, &o, trailer) : rtcp_open_cm(p, &o, trailer);
    protect_key_clear(p, &key);
    if (rc)
        return rc;
    replay_short_commit(&source->replay, o.index);
    *out_size = o.head + o.body;
    *index = (uint32_t)o.index;
    return 0;
}
