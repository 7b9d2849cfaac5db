// RTCP compound packets put together; declared in rtcp.h.
#include "bytes.h"
#include "rtcp.h"
#include "rtcp_format.h"

// The head of a packet of `bytes` at `length`, or NULL if it does not fit.
static uint8_t *append(uint8_t *buf, size_t size, size_t length, size_t bytes, unsigned count,
                       enum rtcp_type type)
{
    if (length > size || bytes > size - length || bytes / 4 - 1 > UINT16_MAX)
        return NULL;
    uint8_t *p = buf + length;
    p[0] = (uint8_t)(0x80 | count);
    p[1] = (uint8_t)type;
    store_be16(p + 2, (uint16_t)(bytes / 4 - 1));
    return p;
}

static void write_blocks(uint8_t *p, const struct rtcp_block *block, unsigned blocks)
{
    for (unsigned i = 0; i < blocks; i++, p += BLOCK_LEN) {
        store_be32(p, block[i].ssrc);
        p[4] = block[i].fraction_lost;
        store_be24(p + 5, (uint32_t)block[i].cumulative_lost & 0xffffff);
        store_be32(p + 8, block[i].highest_seq);
        store_be32(p + 12, block[i].jitter);
        store_be32(p + 16, block[i].lsr);
        store_be32(p + 20, block[i].dlsr);
    }
}

// A report's head, with its blocks behind `head` bytes; what stands between is the caller's to
// write.
static uint8_t *append_report(uint8_t *buf, size_t size, size_t length, size_t head,
                              enum rtcp_type type, const struct rtcp_block *block, unsigned blocks)
{
    size_t bytes = head + (size_t)blocks * BLOCK_LEN;
    uint8_t *p = blocks <= RTCP_BLOCKS_MAX ? append(buf, size, length, bytes, blocks, type) : NULL;
    if (p != NULL)
        write_blocks(p + head, block, blocks);
    return p;
}

size_t rtcp_write_sr(uint8_t *buf, size_t size, size_t length, const struct rtcp_sender *sender,
                     const struct rtcp_block *block, unsigned blocks)
{
    uint8_t *p = append_report(buf, size, length, SR_LEN, RTCP_SR, block, blocks);
    if (p == NULL)
        return 0;
    store_be32(p + 4, sender->ssrc);
    store_be64(p + 8, sender->ntp);
    store_be32(p + 16, sender->rtp);
    store_be32(p + 20, sender->packets);
    store_be32(p + 24, sender->bytes);
    return length + SR_LEN + (size_t)blocks * BLOCK_LEN;
}

size_t rtcp_write_rr(uint8_t *buf, size_t size, size_t length, uint32_t ssrc,
                     const struct rtcp_block *block, unsigned blocks)
{
    uint8_t *p = append_report(buf, size, length, RR_LEN, RTCP_RR, block, blocks);
    if (p == NULL)
        return 0;
    store_be32(p + 4, ssrc);
    return length + RR_LEN + (size_t)blocks * BLOCK_LEN;
}

size_t rtcp_write_sdes(uint8_t *buf, size_t size, size_t length, uint32_t ssrc, const char *cname)
{
    size_t text = strlen(cname);
    size_t used = HEAD + 4 + 2 + text + 1; // the item list ends with a zero
    size_t bytes = (used + 3) & ~(size_t)3;
    uint8_t *p = text >= 1 && text <= 255 ? append(buf, size, length, bytes, 1, RTCP_SDES) : NULL;

    if (p == NULL)
        return 0;
    store_be32(p + 4, ssrc);
    p[8] = SDES_CNAME;
    p[9] = (uint8_t)text;
    memcpy(p + 10, cname, text);
    memset(p + 10 + text, 0, bytes - 10 - text);
    return length + bytes;
}

size_t rtcp_write_bye(uint8_t *buf, size_t size, size_t length, const uint32_t *ssrc,
                      unsigned count)
{
    size_t bytes = HEAD + (size_t)count * 4;
    uint8_t *p = count >= 1 && count <= RTCP_BLOCKS_MAX
                     ? append(buf, size, length, bytes, count, RTCP_BYE)
                     : NULL;

    if (p == NULL)
        return 0;
    for (unsigned i = 0; i < count; i++)
        store_be32(p + HEAD + (size_t)i * 4, ssrc[i]);
    return length + bytes;
}

static uint8_t *append_feedback(uint8_t *buf, size_t size, size_t length, size_t fci,
                                enum rtcp_type type, enum rtcp_format format, uint32_t sender_ssrc,
                                uint32_t media_ssrc)
{
    uint8_t *p = append(buf, size, length, FEEDBACK_LEN + fci, format, type);

    if (p == NULL)
        return NULL;
    store_be32(p + 4, sender_ssrc);
    store_be32(p + 8, media_ssrc);
    return p + FEEDBACK_LEN;
}

size_t rtcp_write_nack(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                       uint32_t media_ssrc, const uint16_t *lost, size_t count)
{
    size_t pairs = 0;

    for (size_t i = 0; i < count; pairs++) {
        uint16_t pid = lost[i++];
        while (i < count && (uint16_t)(lost[i] - pid) <= 16)
            i++;
    }
    uint8_t *p = pairs > 0 ? append_feedback(buf, size, length, pairs * 4, RTCP_RTPFB, RTPFB_NACK,
                                             sender_ssrc, media_ssrc)
                           : NULL;
    if (p == NULL)
        return 0;
    for (size_t i = 0; i < count; p += 4) {
        uint16_t pid = lost[i++];
        uint16_t blp = 0;
        for (; i < count && (uint16_t)(lost[i] - pid) <= 16; i++)
            if (lost[i] != pid)
                blp |= (uint16_t)(1u << (uint16_t)(lost[i] - pid - 1));
        store_be16(p, pid);
        store_be16(p + 2, blp);
    }
    return length + FEEDBACK_LEN + pairs * 4;
}

size_t rtcp_write_pli(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                      uint32_t media_ssrc)
{
    if (append_feedback(buf, size, length, 0, RTCP_PSFB, PSFB_PLI, sender_ssrc, media_ssrc) == NULL)
        return 0;
    return length + FEEDBACK_LEN;
}

size_t rtcp_write_fir(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                      uint32_t media_ssrc, uint8_t seq)
{
    uint8_t *p = append_feedback(buf, size, length, FIR_LEN, RTCP_PSFB, PSFB_FIR, sender_ssrc, 0);

    if (p == NULL)
        return 0;
    store_be32(p, media_ssrc);
    store_be32(p + 4, (uint32_t)seq << 24);
    return length + FEEDBACK_LEN + FIR_LEN;
}

size_t rtcp_write_remb(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                       uint64_t bitrate, const uint32_t *ssrc, unsigned count)
{
    size_t fci = 8 + (size_t)count * 4;
    uint8_t *p = count >= 1 && count <= 255
                     ? append_feedback(buf, size, length, fci, RTCP_PSFB, PSFB_AFB, sender_ssrc, 0)
                     : NULL;
    unsigned exponent = 0;

    if (p == NULL)
        return 0;
    while (bitrate >> exponent > 0x3ffff)
        exponent++;
    memcpy(p, "REMB", 4);
    p[4] = (uint8_t)count;
    store_be24(p + 5, exponent << 18 | (uint32_t)(bitrate >> exponent));
    for (unsigned i = 0; i < count; i++)
        store_be32(p + 8 + (size_t)i * 4, ssrc[i]);
    return length + FEEDBACK_LEN + fci;
}
