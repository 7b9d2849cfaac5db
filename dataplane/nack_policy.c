#include "nack_policy.h"

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
