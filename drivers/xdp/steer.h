// What the steering program and its loader agree on: the names and contents of its maps.
// Included by both the BPF program and user space.
#ifndef HITLESS_STEER_H
#define HITLESS_STEER_H

#include <linux/types.h>

#define STEER_PROGRAM "hitless_steer"
#define STEER_XSKS_MAP "xsks_map" // the name that DPDK's AF_XDP driver looks for
#define STEER_CONFIG_MAP "steer_config"
#define STEER_COUNTS_MAP "steer_counts"
#define STEER_MAX_QUEUES 64
#define STEER_MAX_ADDRESSES 8

// The only entry of the configuration map. All zero, as at load, steers nothing.
// user space: wo, program: ro.
struct steer_config {
    __u32 v4_count, v6_count;          // 0..STEER_MAX_ADDRESSES
    __be32 v4[STEER_MAX_ADDRESSES];    // our IPv4 addresses
    __be32 v6[STEER_MAX_ADDRESSES][4]; // our IPv6 addresses
    __u16 port_low, port_high;         // our UDP ports, inclusive, host byte order
    __u16 vlan;                        // 0: untagged (or priority-tagged) frames only
    __u16 own_l3;                      // 1: ARP, ND and echo of our addresses are ours, too
    __u16 bfd;                         // 1: BFD's UDP ports 3784 and 4784 are ours, too
    __u16 pad;
};

// X(name, help) What became of a frame; each is a per-CPU counter.
#define STEER_LIST(X)                                                                              \
    X(media, "UDP to one of our ports, redirected")                                                \
    X(arp, "ARP for our address, redirected")                                                      \
    X(echo, "ICMP or ICMPv6 echo to our address, redirected")                                      \
    X(neighbor, "neighbour solicitation or advertisement for our address, redirected")             \
    X(pass, "not ours, left to the kernel")                                                        \
    X(fragment, "fragment, left to the kernel")                                                    \
    X(malformed, "header that ends early, left to the kernel")                                     \
    X(no_socket, "of the redirected, those whose queue had no socket; left to the kernel")

enum steer_verdict {
#define X(name, help) STEER_##name,
    STEER_LIST(X)
#undef X
        STEER_VERDICTS
};

#endif
