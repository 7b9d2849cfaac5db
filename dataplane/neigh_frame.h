// Layout and checks shared by neigh.c (what to do) and neigh_frame.c (how frames look).
#ifndef HITLESS_NEIGH_FRAME_H
#define HITLESS_NEIGH_FRAME_H

#include "neigh.h"
#include "parse.h"

#define ETHERNET_MIN 60 // without frame check sequence
#define ARP_LEN 28      // Ethernet and IPv4
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_LEN 24       // solicitation or advertisement without options
#define ND_OPTION_LEN 8 // a link-layer address option
#define ND_SOURCE_LINK 1
#define ND_TARGET_LINK 2
#define ND_SOLICITED 0x40
#define ND_OVERRIDE 0x20
#define ND_HOP_LIMIT 255
#define IP_PROTO_ICMPV6 58

// Byte offsets in an ARP packet.
enum {
    ARP_OP = 6,
    ARP_SENDER_MAC = 8,
    ARP_SENDER_IP = 14,
    ARP_TARGET_MAC = 18,
    ARP_TARGET_IP = 24
};

bool neigh_mac_unicast(const uint8_t mac[6]);
bool neigh_ip_unicast(const uint8_t *ip, uint8_t family); // a host may have it as its source
bool neigh_ip_equal(const struct abi_addr *addr, const uint8_t *ip, uint8_t family);

// Ethernet header with our VLAN tag; returns its length.
size_t neigh_write_ethernet(const struct neigh_self *self, const uint8_t to[6], uint16_t proto,
                            uint8_t *frame);
// ARP packet at `arp`.
void neigh_write_arp(uint8_t *arp, uint16_t operation, const uint8_t sender_mac[6],
                     const uint8_t sender_ip[4], const uint8_t target_mac[6],
                     const uint8_t target_ip[4]);

struct nd_message {
    uint8_t type;
    uint8_t flags;  // advertisement: ND_SOLICITED, ND_OVERRIDE
    uint8_t option; // ND_SOURCE_LINK, ND_TARGET_LINK or 0: none
    struct abi_addr src, dst;
    uint8_t target[16];
};
// Whole frame of a neighbour discovery message to link address `to`. `frame` has NEIGH_FRAME_MAX.
size_t neigh_write_nd(const struct neigh_self *self, const uint8_t to[6],
                      const struct nd_message *message, uint8_t *frame);

// Zeroes from `length` to Ethernet's minimum and returns the padded length.
size_t neigh_pad(uint8_t *frame, size_t length);

// The link-layer address in option `wanted` behind an ND message, NULL if it has none. False: an
// option is malformed and the message is to be ignored (RFC 4861 section 6.1).
bool neigh_nd_option(const uint8_t *nd, size_t length, uint8_t wanted, const uint8_t **mac);

#endif
