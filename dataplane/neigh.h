// Link-layer neighbours where no kernel keeps them: answers to ARP, ICMP echo, neighbour
// solicitation and ICMPv6 echo for our addresses, and the link address of whom we send to.
//
// Pure: bytes and `now_ns` in, bytes and values out. A table belongs to one thread; on a port with
// several queues, whoever receives ARP or ND passes it to every thread that keeps a table.
// RFC 826, 5227 (ARP), 792, 1122 (echo), 4443 (ICMPv6), 4861 (neighbour discovery).
// Limits: one address of each family; no redirects, router advertisements, proxies or DAD of our
// own; an answer that does not come leaves the old link address in use, because sending there
// loses no more than not sending.
#ifndef HITLESS_NEIGH_H
#define HITLESS_NEIGH_H

#include "abi/abi.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEIGH_ENTRIES 128
#define NEIGH_FRAME_MAX 96                // room for every frame built here
#define NEIGH_RETRY_NS 1000000000ull      // between two questions, RFC 4861's RetransTimer
#define NEIGH_QUESTIONS 3                 // before a neighbour that never answered is forgotten
#define NEIGH_REACHABLE_NS 30000000000ull // a used link address older than this is asked again

// Who we are on this link. main thread: wo before workers start; then ro.
struct neigh_self {
    uint8_t mac[6];
    uint16_t vlan;                      // 0: untagged
    struct abi_addr ip4, ip6;           // family 0: none
    struct abi_addr gateway4, gateway6; // family 0: none
    uint8_t prefix4, prefix6;           // lengths of the on-link prefixes
};

enum neigh_state { NEIGH_FREE, NEIGH_ASKING, NEIGH_KNOWN };

struct neigh_entry {
    struct abi_addr addr; // port 0
    uint8_t mac[6];
    uint8_t state;         // enum neigh_state
    uint8_t questions;     // unanswered
    uint64_t confirmed_ns; // last answer
    uint64_t used_ns;      // last look-up
    uint64_t ask_ns;       // earliest time of the next question; 0: now
};

// All zero is empty. The gateways are entries like others, but never evicted.
struct neigh_table {
    struct neigh_entry entry[NEIGH_ENTRIES];
};

void neigh_self_init(struct neigh_self *self, const struct abi_config *config,
                     const uint8_t mac[6]);

// Takes in a frame that parse_frame called ARP, ICMP or ICMPv6 (any other is refused): learns
// from it and, if it asks for one of our addresses, turns it into the answer in place, for the
// port that it came from. `*length` may grow to at most `capacity`: an answer is as long as its
// question, but for 8 bytes in reply to a duplicate-address probe. True: send the frame.
bool neigh_input(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                 uint8_t *frame, size_t *length, size_t capacity);

// Whether the address is of a subnet of ours.
bool neigh_on_link(const struct neigh_self *self, const uint8_t *ip, uint8_t family);

// The link address for an IP packet to `ip` (4 or 16 bytes, network order, by `family`): the
// neighbour's own if it is on-link, else the gateway's. 0, -EAGAIN (asking; see neigh_question),
// -ENETUNREACH (off-link and no gateway) or -EINVAL (not a unicast address, no address of ours).
int neigh_next_hop(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                   const uint8_t *ip, uint8_t family, uint8_t mac[6]);

// What the table holds for this very address, without asking. NULL: nothing.
const struct neigh_entry *neigh_lookup(const struct neigh_table *table, const uint8_t *ip,
                                       uint8_t family);

// Writes the next question that is due (gateways first) and returns its length, 0 if none is.
// Call until 0, about every 100 ms. `capacity` is at least NEIGH_FRAME_MAX.
size_t neigh_question(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                      uint8_t *frame, size_t capacity);

// Builders; each returns the frame's length, padded to Ethernet's minimum, or 0 if it does not fit.
// Who has `target`? ARP request or neighbour solicitation.
size_t neigh_build_request(const struct neigh_self *self, const struct abi_addr *target,
                           uint8_t *frame, size_t capacity);
// `own` is at our link address now: gratuitous ARP (RFC 5227 section 3) or unsolicited neighbour
// advertisement with the override flag (RFC 4861 section 7.2.6). `own` need not be in `self`.
size_t neigh_build_announcement(const struct neigh_self *self, const struct abi_addr *own,
                                uint8_t *frame, size_t capacity);

#endif
