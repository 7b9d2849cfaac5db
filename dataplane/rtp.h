// RTP: header and extensions, sequence numbers, key frames, RTX and reception statistics.
//
// Pure: bytes and values in, values out; any thread. RFC 3550 sections 5.1, 6.4.1, A.1, A.3, A.8;
// RFC 8285 (header extensions), 4588 (RTX), and the payload formats RFC 7741 (VP8), 9628 (VP9),
// 6184 (H.264), 7798 (H.265) and AV1's RTP specification. Nothing here decrypts.
#ifndef HITLESS_RTP_H
#define HITLESS_RTP_H

#include "abi/messages.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RTP_HEADER 12      // fixed header
#define RTP_EXT_ONE 0xbede // RFC 8285 4.2
#define RTP_EXT_TWO 0x1000 // RFC 8285 4.3; the low four bits are free

// A validated view of a packet. Points into it.
struct rtp_view {
    const uint8_t *packet;
    uint16_t length;
    uint16_t header;         // bytes before the payload: fixed header, CSRCs, extension
    uint16_t payload_length; // without padding
    uint16_t seq;
    uint32_t timestamp;
    uint32_t ssrc;
    uint8_t pt;
    bool marker;
    uint8_t padding; // bytes at the end, RFC 3550 5.1
    uint8_t csrc_count;
    uint16_t ext_profile; // 0: no extension
    uint16_t ext;         // offset of the extension's data
    uint16_t ext_length;  // bytes of it, a multiple of 4
};

// Looks at the header only (version, CSRCs, extension), as far as it stands in the clear in SRTP:
// padding is not looked at and payload_length is what follows the header. 0 or -EBADMSG.
int rtp_parse_header(const uint8_t *packet, size_t length, struct rtp_view *view);

// The same for a decrypted packet: also checks the padding and takes it off payload_length.
int rtp_parse(const uint8_t *packet, size_t length, struct rtp_view *view);

// Header extensions (RFC 8285), one- or two-byte by the profile. An extension block of another
// profile yields nothing; a broken element ends the walk.
struct rtp_ext {
    uint8_t id; // 1..14 (one byte) or 1..255 (two bytes)
    uint8_t length;
    const uint8_t *data;
};
struct rtp_ext_iter {
    const uint8_t *at, *end;
    uint16_t profile;
};
void rtp_ext_begin(struct rtp_ext_iter *iter, const struct rtp_view *view);
bool rtp_ext_next(struct rtp_ext_iter *iter, struct rtp_ext *ext);
bool rtp_ext_find(const struct rtp_view *view, uint8_t id, struct rtp_ext *ext);

// Writes an extension block, 4-byte head and padding included, for `count` elements: one-byte form
// if all fit it (id 1..14, 1..16 bytes), else two-byte. Returns its bytes; 0 if count is 0, an id
// is 0 or the block does not fit `size`. The caller sets the X bit.
size_t rtp_ext_write(uint8_t *out, size_t size, const struct rtp_ext *list, size_t count);

struct rtp_header {
    uint8_t pt;
    bool marker;
    bool extension; // an extension block follows
    bool padding;
    uint16_t seq;
    uint32_t timestamp;
    uint32_t ssrc;
};
// Writes the RTP_HEADER bytes of a packet without CSRCs.
void rtp_header_write(uint8_t *out, const struct rtp_header *header);

// Extended sequence numbers. The 48-bit number nearest to `highest` whose low bits are `seq`
// (RFC 3711 3.3.1); never below 0: what is older than the start of a stream is taken as newer.
uint64_t rtp_nearest_seq(uint64_t highest, uint16_t seq);
// The same and raises `*highest` if the result is above it. Call only for authenticated packets.
uint64_t rtp_unwrap_seq(uint64_t *highest, uint16_t seq);
// The first value for `*highest`: room below for packets that arrive before their predecessors.
#define RTP_SEQ_START(seq) (UINT64_C(0x10000) + (uint16_t)(seq))

// Whether a decoder can start at this packet: for VP8 and VP9 the first packet of a key frame; for
// H.264 SPS or IDR, for H.265 VPS, SPS or IRAP, alone, aggregated or as a first fragment; for AV1
// the start of a coded video sequence (N bit). Several packets of one H.264 or H.265 picture may
// qualify: packets of one timestamp are one key frame. Audio: always.
bool rtp_is_keyframe(enum codec codec, const uint8_t *payload, size_t length);

// RTX (RFC 4588): the original sequence number stands before the original payload.
// Returns 0 or -EBADMSG (no room for it: an empty payload, used as padding or probe).
int rtp_rtx_osn(const struct rtp_view *view, uint16_t *osn);
#define RTP_RTX_OSN 2 // bytes
void rtp_rtx_write_osn(uint8_t *payload, uint16_t osn);

// Reception statistics of one SSRC (RFC 3550 A.1, A.3, A.8).
struct rtp_rx_stats {
    uint64_t highest; // extended sequence number
    uint64_t base;    // first extended sequence number
    uint64_t received;
    uint64_t expected_prior, received_prior; // at the last report
    uint32_t transit;
    uint32_t jitter_q4; // RFC 3550 A.8: jitter * 16, in clock units
    bool started;
};

struct rtp_report_fields {
    uint8_t fraction_lost;   // of 256, since the last call
    int32_t cumulative_lost; // clamped to 24 bits; negative with duplicates
    uint32_t highest_seq;    // low 32 bits of the extended number
    uint32_t jitter;         // clock units
};

// `arrival` is the arrival time in the RTP clock's units (any origin). Returns the packet's
// extended sequence number (from RTP_SEQ_START). Counts duplicates as received, as RFC 3550 does. A
// jump is taken as it is: authentication vouches for the number, so A.1's probation is not needed.
uint64_t rtp_rx_update(struct rtp_rx_stats *stats, uint16_t seq, uint32_t timestamp,
                       uint32_t arrival);
// Retransmissions count as received, but say nothing about jitter or order.
void rtp_rx_recovered(struct rtp_rx_stats *stats);
// Fields of a report block; starts the next interval. All zero before the first packet.
void rtp_rx_report(struct rtp_rx_stats *stats, struct rtp_report_fields *fields);

// `ns` in units of a clock of `rate` Hz, modulo 2^32.
uint32_t rtp_clock(uint64_t ns, uint32_t rate);

#endif
