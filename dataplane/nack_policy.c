#include "nack_policy.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void nack_gate_report(struct nack_gate *gate, uint32_t loss_permille)
{
    gate->loss_permille = (3 * gate->loss_permille + loss_permille + 2) / 4;
    // One report of heavy loss opens at once: frames are freezing now.
    if (gate->loss_permille >= NACK_OPEN_PERMILLE || loss_permille >= 4 * NACK_OPEN_PERMILLE)
        gate->open = true;
    else if (gate->loss_permille < NACK_SHUT_PERMILLE)
        gate->open = false;
}

// RFC 7741 section 4.2: X, N, S, PID; then I, L, T, K; PictureID of one or two bytes; TL0PICIDX;
// TID and Y.
static bool vp8_essential(const uint8_t *p, size_t length)
{
    if (p[0] & 0x20) // N: no other picture refers to it
        return false;
    if (!(p[0] & 0x80) || length < 2)
        return true;
    uint8_t flags = p[1];
    size_t at = 2;
    if (flags & 0x80)
        at += at < length && (p[at] & 0x80) ? 2 : 1;
    if (flags & 0x40)
        at++;
    if (!(flags & 0x20) || at >= length)
        return true;
    return p[at] >> 6 == 0;
}

// RFC 9628 section 4.2: I, P, L, F, B, E, V, Z; PictureID of one or two bytes; then TID, U, SID, D.
static bool vp9_essential(const uint8_t *p, size_t length)
{
    size_t at = 1;
    if (!(p[0] & 0x20))
        return true;
    if (p[0] & 0x80)
        at += at < length && (p[at] & 0x80) ? 2 : 1;
    return at >= length || p[at] >> 5 == 0;
}

// RFC 6184 section 5.3: nal_ref_idc; of aggregates and fragments it is their most important unit's.
static bool h264_essential(const uint8_t *p)
{
    return (p[0] & 0x60) != 0;
}

bool nack_essential(enum codec codec, const uint8_t *payload, size_t length)
{
    if (length == 0)
        return true;
    switch (codec) {
    case CODEC_VP8:
        return vp8_essential(payload, length);
    case CODEC_VP9:
        return vp9_essential(payload, length);
    case CODEC_H264:
        return h264_essential(payload);
    default:
        return true;
    }
}

int nack_recent_init(struct nack_recent *recent, uint32_t sessions)
{
    uint64_t buckets = NACK_RECENT_LEAST / 8, wanted = (uint64_t)sessions * NACK_RECENT / 8;
    while (buckets < wanted)
        buckets <<= 1;
    recent->mask = buckets - 1;
    recent->buckets = aligned_alloc(64, buckets * sizeof(*recent->buckets));
    if (!recent->buckets)
        return -ENOMEM;
    memset(recent->buckets, 0, buckets * sizeof(*recent->buckets));
    return 0;
}

void nack_recent_free(struct nack_recent *recent)
{
    free(recent->buckets);
    recent->buckets = NULL;
}

// splitmix64's finish: the lower bits choose a bucket, the upper ones are the tag.
uint64_t nack_recent_key(uint64_t session, uint8_t track, uint64_t index)
{
    uint64_t x = session * 0x9e3779b97f4a7c15u ^ index << 3 ^ track;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

bool nack_recent_has(const struct nack_recent *recent, uint64_t key, uint64_t now_ms,
                     uint32_t rtt_ms)
{
    const struct nack_bucket *bucket = &recent->buckets[key & recent->mask];
    uint32_t window = rtt_ms < NACK_REPEAT_MIN_MS   ? NACK_REPEAT_MIN_MS
                      : rtt_ms > NACK_REPEAT_MAX_MS ? NACK_REPEAT_MAX_MS
                                                    : rtt_ms;
    for (unsigned i = 0; i < 8; i++)
        if (bucket->entry[i].tag == key >> 32 && (uint32_t)now_ms - bucket->entry[i].at_ms < window)
            return true;
    return false;
}

void nack_recent_note(struct nack_recent *recent, uint64_t key, uint64_t now_ms)
{
    struct nack_bucket *bucket = &recent->buckets[key & recent->mask];
    uint32_t now = (uint32_t)now_ms;
    unsigned place = 0;
    for (unsigned i = 0; i < 8; i++) {
        if (bucket->entry[i].tag == key >> 32) {
            place = i;
            break;
        }
        if (now - bucket->entry[i].at_ms > now - bucket->entry[place].at_ms)
            place = i;
    }
    bucket->entry[place].tag = (uint32_t)(key >> 32);
    bucket->entry[place].at_ms = now;
}
