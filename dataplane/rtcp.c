// RTCP compound packets taken apart, and NTP time; rtcp_write.c makes them. See rtcp.h.
#include "rtcp.h"
#include "bytes.h"
#include "rtcp_format.h"
#include <errno.h>

#define NTP_UNIX_EPOCH UINT64_C(2208988800) // seconds from 1900 to 1970

void rtcp_begin(struct rtcp_iter *iter, const uint8_t *data, size_t length)
{
    iter->at = data;
    iter->end = data + length;
}

int rtcp_next(struct rtcp_iter *iter, struct rtcp_packet *packet)
{
    size_t left = (size_t)(iter->end - iter->at);

    if (left == 0)
        return 0;
    if (left < HEAD || iter->at[0] >> 6 != 2)
        return -EBADMSG;
    uint32_t length = ((uint32_t)load_be16(iter->at + 2) + 1) * 4;
    if (length > left)
        return -EBADMSG;
    uint32_t padding = 0;
    if (iter->at[0] & 0x20) {
        // RFC 3550 wants a multiple of four; browsers pad transport-wide feedback with less.
        padding = iter->at[length - 1];
        if (padding == 0 || padding > length - HEAD)
            return -EBADMSG;
    }
    packet->data = iter->at;
    packet->length = length - padding;
    packet->type = iter->at[1];
    packet->count = iter->at[0] & 31;
    iter->at += length;
    return 1;
}

int rtcp_check(const uint8_t *data, size_t length)
{
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    int rc;

    if (length == 0)
        return -EBADMSG;
    rtcp_begin(&iter, data, length);
    do
        rc = rtcp_next(&iter, &packet);
    while (rc > 0);
    return rc;
}

bool rtcp_read_sr(const struct rtcp_packet *packet, struct rtcp_sender *sender)
{
    if (packet->type != RTCP_SR || packet->length < SR_LEN)
        return false;
    sender->ssrc = load_be32(packet->data + 4);
    sender->ntp = load_be64(packet->data + 8);
    sender->rtp = load_be32(packet->data + 16);
    sender->packets = load_be32(packet->data + 20);
    sender->bytes = load_be32(packet->data + 24);
    return true;
}

bool rtcp_read_block(const struct rtcp_packet *packet, unsigned index, struct rtcp_block *block)
{
    if ((packet->type != RTCP_SR && packet->type != RTCP_RR) || index >= packet->count)
        return false;
    size_t at = (packet->type == RTCP_SR ? SR_LEN : RR_LEN) + (size_t)index * BLOCK_LEN;
    if (packet->length < at + BLOCK_LEN)
        return false;
    const uint8_t *p = packet->data + at;
    block->ssrc = load_be32(p);
    block->fraction_lost = p[4];
    block->cumulative_lost = (int32_t)(load_be24(p + 5) << 8) >> 8;
    block->highest_seq = load_be32(p + 8);
    block->jitter = load_be32(p + 12);
    block->lsr = load_be32(p + 16);
    block->dlsr = load_be32(p + 20);
    return true;
}

bool rtcp_read_sender_ssrc(const struct rtcp_packet *packet, uint32_t *ssrc)
{
    bool listed = packet->type == RTCP_SDES || packet->type == RTCP_BYE;

    if (packet->length < 8 || (listed && packet->count == 0))
        return false;
    *ssrc = load_be32(packet->data + 4);
    return true;
}

bool rtcp_sdes_begin(struct rtcp_sdes_iter *iter, const struct rtcp_packet *packet)
{
    if (packet->type != RTCP_SDES)
        return false;
    *iter = (struct rtcp_sdes_iter){
        .start = packet->data,
        .at = packet->data + HEAD,
        .end = packet->data + packet->length,
        .chunks = packet->count,
    };
    return true;
}

// Chunks start on 32-bit boundaries of the packet.
bool rtcp_sdes_next(struct rtcp_sdes_iter *iter, struct rtcp_sdes_item *item)
{
    for (;;) {
        if (!iter->inside) {
            if (iter->chunks == 0 || iter->end - iter->at < 4)
                return false;
            iter->chunks--;
            iter->ssrc = load_be32(iter->at);
            iter->at += 4;
            iter->inside = true;
        }
        if (iter->at >= iter->end)
            return false;
        if (*iter->at != 0)
            break;
        ptrdiff_t next = (iter->at - iter->start) / 4 * 4 + 4;
        iter->at = next < iter->end - iter->start ? iter->start + next : iter->end;
        iter->inside = false;
    }
    if (iter->end - iter->at < 2 || iter->end - iter->at - 2 < iter->at[1])
        return false;
    item->ssrc = iter->ssrc;
    item->type = iter->at[0];
    item->length = iter->at[1];
    item->text = iter->at + 2;
    iter->at += 2 + item->length;
    return true;
}

bool rtcp_read_bye(const struct rtcp_packet *packet, unsigned index, uint32_t *ssrc)
{
    if (packet->type != RTCP_BYE || index >= packet->count ||
        packet->length < HEAD + ((size_t)index + 1) * 4)
        return false;
    *ssrc = load_be32(packet->data + HEAD + (size_t)index * 4);
    return true;
}

bool rtcp_read_feedback(const struct rtcp_packet *packet, struct rtcp_feedback *feedback)
{
    if ((packet->type != RTCP_RTPFB && packet->type != RTCP_PSFB) || packet->length < FEEDBACK_LEN)
        return false;
    feedback->format = packet->count;
    feedback->sender_ssrc = load_be32(packet->data + 4);
    feedback->media_ssrc = load_be32(packet->data + 8);
    feedback->fci = packet->data + FEEDBACK_LEN;
    feedback->fci_length = packet->length - FEEDBACK_LEN;
    return true;
}

bool rtcp_nack_begin(struct rtcp_nack_iter *iter, const struct rtcp_packet *packet)
{
    struct rtcp_feedback fb;

    if (packet->type != RTCP_RTPFB || packet->count != RTPFB_NACK ||
        !rtcp_read_feedback(packet, &fb) || fb.fci_length < 4)
        return false;
    *iter = (struct rtcp_nack_iter){.at = fb.fci, .end = fb.fci + fb.fci_length};
    return true;
}

bool rtcp_nack_next(struct rtcp_nack_iter *iter, uint16_t *seq)
{
    if (iter->blp != 0) {
        unsigned skip = (unsigned)__builtin_ctz(iter->blp);
        iter->bit = (uint8_t)(iter->bit + skip + 1);
        iter->blp = (uint16_t)((uint32_t)iter->blp >> (skip + 1));
        *seq = (uint16_t)(iter->pid + iter->bit);
        return true;
    }
    if (iter->end - iter->at < 4)
        return false;
    iter->pid = load_be16(iter->at);
    iter->blp = load_be16(iter->at + 2);
    iter->bit = 0;
    iter->at += 4;
    *seq = iter->pid;
    return true;
}

uint32_t rtcp_nack_count(const struct rtcp_nack_iter *iter)
{
    uint32_t count = (uint32_t)__builtin_popcount(iter->blp);
    for (const uint8_t *at = iter->at; iter->end - at >= 4; at += 4)
        count += 1 + (uint32_t)__builtin_popcount(load_be16(at + 2));
    return count;
}

bool rtcp_is_pli(const struct rtcp_packet *packet)
{
    return packet->type == RTCP_PSFB && packet->count == PSFB_PLI && packet->length >= FEEDBACK_LEN;
}

bool rtcp_read_fir(const struct rtcp_packet *packet, unsigned index, uint32_t *ssrc, uint8_t *seq)
{
    struct rtcp_feedback fb;

    if (packet->type != RTCP_PSFB || packet->count != PSFB_FIR ||
        !rtcp_read_feedback(packet, &fb) || fb.fci_length < ((size_t)index + 1) * FIR_LEN)
        return false;
    const uint8_t *p = fb.fci + (size_t)index * FIR_LEN;
    *ssrc = load_be32(p);
    *seq = p[4];
    return true;
}

bool rtcp_read_remb(const struct rtcp_packet *packet, struct rtcp_remb *remb)
{
    struct rtcp_feedback fb;

    if (packet->type != RTCP_PSFB || packet->count != PSFB_AFB ||
        !rtcp_read_feedback(packet, &fb) || fb.fci_length < 8 || memcmp(fb.fci, "REMB", 4) != 0)
        return false;
    uint64_t mantissa = load_be24(fb.fci + 5) & 0x3ffff;
    unsigned exponent = fb.fci[5] >> 2;
    remb->count = fb.fci[4];
    remb->ssrcs = fb.fci + 8;
    if (fb.fci_length - 8 < (uint32_t)remb->count * 4)
        return false;
    remb->bitrate =
        mantissa << exponent >> exponent == mantissa ? mantissa << exponent : UINT64_MAX;
    return true;
}

uint64_t rtcp_ntp_from_ns(uint64_t unix_ns)
{
    uint64_t seconds = unix_ns / 1000000000, rest = unix_ns % 1000000000;
    return (seconds + NTP_UNIX_EPOCH) << 32 | ((rest << 32) / 1000000000);
}

uint64_t rtcp_ntp_to_ns(uint64_t ntp)
{
    uint64_t seconds = ntp >> 32;
    if (seconds < UINT64_C(0x80000000))
        seconds += UINT64_C(1) << 32;
    // Rounded, so that a whole number of nanoseconds comes back as it went in.
    uint64_t rest = ((ntp & 0xffffffff) * 1000000000 + 0x80000000) >> 32;
    return (seconds - NTP_UNIX_EPOCH) * 1000000000 + rest;
}

uint32_t rtcp_dlsr_from_ns(uint64_t ns)
{
    if (ns / 1000000000 > UINT16_MAX)
        return UINT32_MAX;
    return (uint32_t)((ns << 16) / 1000000000);
}

bool rtcp_rtt_ns(uint32_t now, uint32_t lsr, uint32_t dlsr, uint64_t *rtt_ns)
{
    int32_t rtt = (int32_t)(now - lsr - dlsr);

    if (lsr == 0 || rtt < 0)
        return false;
    *rtt_ns = (uint64_t)rtt * 1000000000 >> 16;
    return true;
}
