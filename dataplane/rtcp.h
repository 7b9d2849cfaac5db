// RTCP: compound packets in and out.
//
// Pure: bytes and values in, values out; any thread. RFC 3550 section 6, 4585 (feedback), 5104
// (FIR), 5506 (reduced size), draft-alvestrand-rmcat-remb-03. Transport-wide feedback is twcc.h's.
// Nothing here decrypts: SRTCP's index and tag are already off.
#ifndef HITLESS_RTCP_H
#define HITLESS_RTCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rtcp_type {
    RTCP_SR = 200,
    RTCP_RR = 201,
    RTCP_SDES = 202,
    RTCP_BYE = 203,
    RTCP_APP = 204,
    RTCP_RTPFB = 205,
    RTCP_PSFB = 206,
    RTCP_XR = 207,
};

enum rtcp_format {
    RTPFB_NACK = 1,
    RTPFB_TRANSPORT_CC = 15,
    PSFB_PLI = 1,
    PSFB_FIR = 4,
    PSFB_AFB = 15, // application layer feedback: REMB
};

#define RTCP_BLOCKS_MAX 31 // report blocks, SDES chunks or BYE sources of one packet

// One packet of a compound. `data` is the whole of it with its 4-byte head, padding taken off.
struct rtcp_packet {
    const uint8_t *data;
    uint32_t length;
    uint8_t type;  // enum rtcp_type
    uint8_t count; // the five bits: report blocks, chunks, sources or enum rtcp_format
};

struct rtcp_iter {
    const uint8_t *at, *end;
};
void rtcp_begin(struct rtcp_iter *iter, const uint8_t *data, size_t length);
// 1: `packet` is the next one; 0: the end; -EBADMSG: the rest breaks RFC 3550's format.
int rtcp_next(struct rtcp_iter *iter, struct rtcp_packet *packet);
// Whether `length` bytes are one or more whole RTCP packets. 0 or -EBADMSG.
int rtcp_check(const uint8_t *data, size_t length);

// Views. Each returns false if the packet is not of its kind or too short for what it claims.

struct rtcp_sender {
    uint32_t ssrc;
    uint64_t ntp; // RFC 3550 section 4, 32.32 bits
    uint32_t rtp;
    uint32_t packets;
    uint32_t bytes; // of payload, without headers and tags
};
bool rtcp_read_sr(const struct rtcp_packet *packet, struct rtcp_sender *sender);

struct rtcp_block {
    uint32_t ssrc; // of the source reported on
    uint8_t fraction_lost;
    int32_t cumulative_lost; // 24 bits
    uint32_t highest_seq;
    uint32_t jitter; // RTP clock units
    uint32_t lsr;    // middle 32 bits of the last SR's NTP time; 0: none
    uint32_t dlsr;   // since then, 1/65536 s
};
// Report block `index` (0 .. packet->count - 1) of an SR or RR.
bool rtcp_read_block(const struct rtcp_packet *packet, unsigned index, struct rtcp_block *block);

// SSRC of the sender, for every type but SDES and BYE without sources.
bool rtcp_read_sender_ssrc(const struct rtcp_packet *packet, uint32_t *ssrc);

enum { SDES_CNAME = 1 };
struct rtcp_sdes_item {
    uint32_t ssrc;
    uint8_t type;
    uint8_t length;
    const uint8_t *text; // not NUL-terminated
};
struct rtcp_sdes_iter {
    const uint8_t *start, *at, *end;
    uint32_t ssrc;
    unsigned chunks; // not begun yet
    bool inside;
};
bool rtcp_sdes_begin(struct rtcp_sdes_iter *iter, const struct rtcp_packet *packet);
bool rtcp_sdes_next(struct rtcp_sdes_iter *iter, struct rtcp_sdes_item *item);

// Source `index` (0 .. packet->count - 1) that leaves.
bool rtcp_read_bye(const struct rtcp_packet *packet, unsigned index, uint32_t *ssrc);

// RTPFB or PSFB of any format, transport-wide feedback included.
struct rtcp_feedback {
    uint8_t format; // enum rtcp_format
    uint32_t sender_ssrc;
    uint32_t media_ssrc; // 0 in FIR and REMB
    const uint8_t *fci;
    uint32_t fci_length;
};
bool rtcp_read_feedback(const struct rtcp_packet *packet, struct rtcp_feedback *feedback);

// Sequence numbers of a NACK, one after the other. A hostile compound holds up to 17 per 4 bytes
// and may repeat itself: the caller has a budget.
struct rtcp_nack_iter {
    const uint8_t *at, *end;
    uint16_t pid;
    uint16_t blp; // bits not yet given out
    uint8_t bit;
};
bool rtcp_nack_begin(struct rtcp_nack_iter *iter, const struct rtcp_packet *packet);
bool rtcp_nack_next(struct rtcp_nack_iter *iter, uint16_t *seq);
// How many are still to come.
uint32_t rtcp_nack_count(const struct rtcp_nack_iter *iter);

bool rtcp_is_pli(const struct rtcp_packet *packet);
// FIR entry `index` (0, 1, … until false): its media source and command sequence number.
bool rtcp_read_fir(const struct rtcp_packet *packet, unsigned index, uint32_t *ssrc, uint8_t *seq);

struct rtcp_remb {
    uint64_t bitrate;     // bit/s, saturated
    uint8_t count;        // SSRCs
    const uint8_t *ssrcs; // big-endian
};
bool rtcp_read_remb(const struct rtcp_packet *packet, struct rtcp_remb *remb);

// Writers append a packet at `length` of a buffer of `size` bytes, and return the new length or 0
// if it does not fit or an argument is out of range. `length` is a multiple of 4.

// `blocks` <= RTCP_BLOCKS_MAX.
size_t rtcp_write_sr(uint8_t *buf, size_t size, size_t length, const struct rtcp_sender *sender,
                     const struct rtcp_block *block, unsigned blocks);
size_t rtcp_write_rr(uint8_t *buf, size_t size, size_t length, uint32_t ssrc,
                     const struct rtcp_block *block, unsigned blocks);
// `cname`: 1..255 bytes.
size_t rtcp_write_sdes(uint8_t *buf, size_t size, size_t length, uint32_t ssrc, const char *cname);
// 1..RTCP_BLOCKS_MAX sources.
size_t rtcp_write_bye(uint8_t *buf, size_t size, size_t length, const uint32_t *ssrc,
                      unsigned count);
// `lost`: `count` >= 1 numbers, ascending modulo 2^16.
size_t rtcp_write_nack(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                       uint32_t media_ssrc, const uint16_t *lost, size_t count);
size_t rtcp_write_pli(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                      uint32_t media_ssrc);
// `seq` is the command sequence number: one more for each new request (RFC 5104 4.3.1.1).
size_t rtcp_write_fir(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                      uint32_t media_ssrc, uint8_t seq);
// 1..255 SSRCs.
size_t rtcp_write_remb(uint8_t *buf, size_t size, size_t length, uint32_t sender_ssrc,
                       uint64_t bitrate, const uint32_t *ssrc, unsigned count);

// NTP time of `unix_ns` (CLOCK_REALTIME) and back; eras wrap in 2036 (RFC 5905), back takes the era
// that begins in 2036 for values below 2^63.
uint64_t rtcp_ntp_from_ns(uint64_t unix_ns);
uint64_t rtcp_ntp_to_ns(uint64_t ntp);
static inline uint32_t rtcp_ntp_middle(uint64_t ntp)
{
    return (uint32_t)(ntp >> 16);
}
// 1/65536 s, as in DLSR, saturated.
uint32_t rtcp_dlsr_from_ns(uint64_t ns);

// Round-trip time (RFC 3550 6.4.1): `now` is the middle of the NTP time of arrival. False without
// an SR (lsr 0) or when the peer claims to have held it for longer than it was away.
bool rtcp_rtt_ns(uint32_t now, uint32_t lsr, uint32_t dlsr, uint64_t *rtt_ns);

#endif
