// From an Ethernet frame to the protocol that it carries, and back: headers of what we send.
//
// Pure: bytes in, values out; any thread. Bounds are checked before anything is read. RFC 894
// and IEEE 802.1Q, 791, 8200, 768; RFC 7983 and 5761 tell the protocols of one UDP port apart.
// Limits: one VLAN tag, no IP fragments, no IPv6 extension headers, frames of 64 KiB at most.
#ifndef HITLESS_PARSE_H
#define HITLESS_PARSE_H

#include "abi/abi.h"
#include "abi/stats.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PARSE_OK DROPS // no reason to drop

#define UDP_PORT_BFD 3784          // RFC 5881, single hop
#define UDP_PORT_BFD_MULTIHOP 4784 // RFC 5883
#define FRAME_HEADERS_MAX 66       // Ethernet, VLAN tag, IPv6, UDP

enum parse_class {
    CLASS_OTHER, // UDP, none of those below: DROP_class_unknown if the port is ours
    CLASS_STUN,
    CLASS_DTLS,
    CLASS_RTP,
    CLASS_RTCP,
    CLASS_BFD, // by UDP port
    CLASS_ARP,
    CLASS_ICMP,
    CLASS_ICMPV6,
};

struct parsed {
    enum parse_class class;
    uint8_t family;      // 4 or 6; 0 for ARP
    uint8_t ttl;         // or hop limit
    uint8_t l2_len;      // Ethernet header with its VLAN tag: 14 or 18
    uint8_t l3_len;      // IP header: 20..60 or 40; 0 for ARP
    uint16_t payload;    // offset in the frame: after UDP, or the ARP or ICMP message itself
    uint16_t length;     // of the payload, without Ethernet's padding
    struct abi_addr src; // family 0 for ARP; port 0 for ICMP
    struct abi_addr dst;
};

// Parses a whole, contiguous frame. `vlan` is the VLAN id that it must carry; 0: none (a priority
// tag with VLAN id 0 is accepted). Verifies the IPv4 header checksum, not UDP's or ICMP's. Returns
// PARSE_OK or the reason to drop: l2_unknown, ip_truncated, ip_fragment, ip_checksum, or not_ours
// (an IP protocol that we do not speak). `out` is valid only with PARSE_OK.
enum drop parse_frame(const uint8_t *frame, size_t length, uint16_t vlan, struct parsed *out);

// RFC 7983 section 7 by the first byte; RFC 5761 section 4 tells RTCP from RTP by the second.
enum parse_class parse_classify(const uint8_t *payload, size_t length);

// Verifies the UDP checksum in software, for ports that do not. `parsed` came from parse_frame on
// this frame and is UDP. No checksum (zero) is right over IPv4, wrong over IPv6 (RFC 8200, 8.1).
bool parse_udp_checksum_ok(const uint8_t *frame, const struct parsed *parsed);

// One's complement sum (RFC 1071) of `length` bytes, added to `sum`. Unfolded, in native order;
// only the last of several pieces may have an odd length. `length` < 2^31.
uint64_t checksum_add(const void *data, size_t length, uint64_t sum);

// Folds to the 16 bits that go into a header, native order, complemented. A UDP checksum of 0
// must be sent as 0xffff: checksum_udp does that.
uint16_t checksum_fold(uint64_t sum);
uint16_t checksum_udp(uint64_t sum);

// Checksum of a UDP datagram or ICMPv6 message with its pseudo-header (RFC 768, RFC 8200 8.1).
// `l4` starts with the UDP or ICMPv6 header, whose checksum field is zero (to compute) or as
// received (the result is then 0 if it is right). `protocol`: 17, 58.
uint16_t checksum_l4(const struct abi_addr *src, const struct abi_addr *dst, uint8_t protocol,
                     const uint8_t *l4, size_t length);

// Headers of every datagram of one path, made once.
struct frame_template {
    uint8_t bytes[FRAME_HEADERS_MAX];
    uint8_t length;         // 42, 46, 62 or 66
    uint8_t l2_len, l3_len; // as in struct parsed
    uint8_t family;
    uint64_t ip_sum;  // IPv4 header but total length and checksum
    uint64_t udp_sum; // pseudo-header and ports, but lengths
};

struct frame_path {
    uint8_t src_mac[6], dst_mac[6];
    uint16_t vlan;       // 0: untagged
    uint8_t ttl;         // 64; BFD and ND need 255
    uint8_t dscp;        // 0..63
    struct abi_addr src; // same family as dst
    struct abi_addr dst;
};

// IPv4 goes out with DF and id 0 (an atomic datagram, RFC 6864); IPv6 with flow label 0.
void frame_template_init(struct frame_template *template, const struct frame_path *path);

// Where such datagrams come from.
void frame_template_source(const struct frame_template *template, struct abi_addr *source);

// What the port does itself (the PKT_TX_*_CKSUM of the mbuf must say the same).
enum frame_offload {
    FRAME_OFFLOAD_NONE = 0,
    FRAME_OFFLOAD_IPV4 = 1, // leaves the IPv4 header checksum zero
    FRAME_OFFLOAD_UDP = 2,  // leaves the pseudo-header's sum in the UDP checksum
};

// Writes the `template->length` bytes of headers at `frame`; the payload of `payload_length` bytes
// (at most 65,000) stands right behind them already, as it will be sent.
void frame_write(const struct frame_template *template, uint8_t *frame, size_t payload_length,
                 unsigned offload);

// The same in two steps, the first before the payload is there: it spoils FRAME_HEADERS_MAX bytes.
static inline void frame_begin(const struct frame_template *template, uint8_t *frame)
{
    memcpy(frame, template->bytes, FRAME_HEADERS_MAX);
}
void frame_end(const struct frame_template *template, uint8_t *frame, size_t payload_length,
               unsigned offload);

#endif
