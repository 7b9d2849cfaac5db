// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// The steering program: on an interface that we share with the kernel, it redirects what is ours
// into the AF_XDP socket of the queue that a frame came in on and leaves everything else alone.
//
// Ours is UDP to our addresses and ports and, where no kernel answers for these addresses (own_l3),
// ARP, ICMP echo, ICMPv6 echo and neighbour discovery (RFC 826, 792, 4443, 4861).
// Runs in the driver's receive path (XDP). Anything that it cannot read is the kernel's.
// Limits: one VLAN tag; no IPv6 extension headers; a tag that the NIC strips is invisible here
// (ethtool -K IFACE rxvlan off). Frames that a local kernel sends over veth carry a partial UDP
// checksum unless transmit offload is off on the sending side (ethtool -K IFACE tx off): XDP cannot
// see that a checksum is partial, so such a frame arrives in the socket with a wrong one.
#include "steer.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#define VLAN_ID_MASK 0x0fff
#define FRAGMENT_MASK 0x3fff // more-fragments flag and offset
#define ICMP_ECHO_REQUEST 8
#define ICMPV6_ECHO_REQUEST 128
#define BFD_PORT 3784          // RFC 5881
#define BFD_MULTIHOP_PORT 4784 // RFC 5883
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, STEER_MAX_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
} xsks_map SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct steer_config);
} steer_config SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STEER_VERDICTS);
    __type(key, __u32);
    __type(value, __u64);
} steer_counts SEC(".maps");

struct vlan_tag {
    __be16 tci;
    __be16 proto;
};

// What ICMP and ICMPv6 have in common. <linux/icmp.h> draws in libc's headers, which a BPF target
// may lack.
struct icmp_head {
    __u8 type;
    __u8 code;
    __u16 checksum;
    __u32 rest;
};

// Ethernet and IPv4 ARP, RFC 826.
struct arp_ipv4 {
    __be16 hardware, protocol;
    __u8 hardware_len, protocol_len;
    __be16 operation;
    __u8 sender_mac[ETH_ALEN];
    __u8 sender_ip[4];
    __u8 target_mac[ETH_ALEN];
    __u8 target_ip[4];
} __attribute__((packed));

static __always_inline void count(__u32 verdict)
{
    __u64 *counter = bpf_map_lookup_elem(&steer_counts, &verdict);
    if (counter)
        ++*counter;
}

static __always_inline int is_ours4(const struct steer_config *config, __be32 ip)
{
    for (__u32 i = 0; i < STEER_MAX_ADDRESSES && i < config->v4_count; i++)
        if (config->v4[i] == ip)
            return 1;
    return 0;
}

static __always_inline int is_ours6(const struct steer_config *config, const struct in6_addr *ip)
{
    for (__u32 i = 0; i < STEER_MAX_ADDRESSES && i < config->v6_count; i++) {
        const __be32 *own = config->v6[i];
        if (own[0] == ip->s6_addr32[0] && own[1] == ip->s6_addr32[1] &&
            own[2] == ip->s6_addr32[2] && own[3] == ip->s6_addr32[3])
            return 1;
    }
    return 0;
}

// ff02::1:ffXX:XXXX of one of our addresses, RFC 4291 section 2.7.1.
static __always_inline int is_solicited_node(const struct steer_config *config,
                                             const struct in6_addr *ip)
{
    if (ip->s6_addr32[0] != bpf_htonl(0xff020000) || ip->s6_addr32[1] != 0 ||
        ip->s6_addr32[2] != bpf_htonl(1))
        return 0;
    for (__u32 i = 0; i < STEER_MAX_ADDRESSES && i < config->v6_count; i++)
        if ((config->v6[i][3] | bpf_htonl(0xff000000)) == ip->s6_addr32[3])
            return 1;
    return 0;
}

static __always_inline int is_all_nodes(const struct in6_addr *ip)
{
    return ip->s6_addr32[0] == bpf_htonl(0xff020000) && ip->s6_addr32[1] == 0 &&
           ip->s6_addr32[2] == 0 && ip->s6_addr32[3] == bpf_htonl(1);
}

static __always_inline enum steer_verdict steer_udp(const struct steer_config *config,
                                                    const struct udphdr *udp, const void *end)
{
    if ((const void *)(udp + 1) > end)
        return STEER_malformed;
    __u16 port = bpf_ntohs(udp->dest);
    if (config->bfd && (port == BFD_PORT || port == BFD_MULTIHOP_PORT))
        return STEER_media;
    return port >= config->port_low && port <= config->port_high ? STEER_media : STEER_pass;
}

static __always_inline enum steer_verdict steer_arp(const struct steer_config *config,
                                                    const struct arp_ipv4 *arp, const void *end)
{
    if (!config->own_l3)
        return STEER_pass;
    if ((const void *)(arp + 1) > end)
        return STEER_malformed;
    __be32 sender, target;
    __builtin_memcpy(&sender, arp->sender_ip, 4);
    __builtin_memcpy(&target, arp->target_ip, 4);
    // A gratuitous one tells us that a neighbour, such as the gateway, has moved.
    return is_ours4(config, target) || sender == target ? STEER_arp : STEER_pass;
}

static __always_inline enum steer_verdict steer_ipv4(const struct steer_config *config,
                                                     const struct iphdr *ip, const void *end)
{
    if ((const void *)(ip + 1) > end || ip->ihl < 5)
        return STEER_malformed;
    if (!is_ours4(config, ip->daddr))
        return STEER_pass;
    if (ip->frag_off & bpf_htons(FRAGMENT_MASK))
        return STEER_fragment;
    const void *next = (const void *)ip + ip->ihl * 4;
    if (ip->protocol == IPPROTO_UDP)
        return steer_udp(config, next, end);
    if (ip->protocol != IPPROTO_ICMP || !config->own_l3)
        return STEER_pass;
    const struct icmp_head *icmp = next;
    if ((const void *)(icmp + 1) > end)
        return STEER_malformed;
    return icmp->type == ICMP_ECHO_REQUEST ? STEER_echo : STEER_pass;
}

static __always_inline enum steer_verdict steer_icmpv6(const struct steer_config *config,
                                                       const struct ipv6hdr *ip, const void *end)
{
    const struct icmp_head *icmp = (const void *)(ip + 1);
    if ((const void *)(icmp + 1) > end)
        return STEER_malformed;
    int ours = is_ours6(config, &ip->daddr);
    if (icmp->type == ICMPV6_ECHO_REQUEST)
        return ours ? STEER_echo : STEER_pass;
    if (icmp->type == ND_SOLICITATION)
        return ours || is_solicited_node(config, &ip->daddr) ? STEER_neighbor : STEER_pass;
    if (icmp->type == ND_ADVERTISEMENT)
        return ours || is_all_nodes(&ip->daddr) ? STEER_neighbor : STEER_pass;
    return STEER_pass;
}

static __always_inline enum steer_verdict steer_ipv6(const struct steer_config *config,
                                                     const struct ipv6hdr *ip, const void *end)
{
    if ((const void *)(ip + 1) > end)
        return STEER_malformed;
    if (ip->nexthdr == IPPROTO_ICMPV6)
        return config->own_l3 ? steer_icmpv6(config, ip, end) : STEER_pass;
    if (!is_ours6(config, &ip->daddr))
        return STEER_pass;
    if (ip->nexthdr == IPPROTO_FRAGMENT)
        return STEER_fragment;
    if (ip->nexthdr == IPPROTO_UDP)
        return steer_udp(config, (const void *)(ip + 1), end);
    return STEER_pass;
}

static __always_inline enum steer_verdict steer_frame(const struct steer_config *config,
                                                      const struct xdp_md *ctx)
{
    const void *end = (const void *)(long)ctx->data_end;
    const struct ethhdr *eth = (const void *)(long)ctx->data;
    const void *next = eth + 1;
    __u16 vlan = 0;
    if (next > end)
        return STEER_malformed;
    __be16 proto = eth->h_proto;
    if (proto == bpf_htons(ETH_P_8021Q)) {
        const struct vlan_tag *tag = next;
        next = tag + 1;
        if (next > end)
            return STEER_malformed;
        vlan = bpf_ntohs(tag->tci) & VLAN_ID_MASK;
        proto = tag->proto;
    }
    if (vlan != config->vlan)
        return STEER_pass;
    if (proto == bpf_htons(ETH_P_IP))
        return steer_ipv4(config, next, end);
    if (proto == bpf_htons(ETH_P_IPV6))
        return steer_ipv6(config, next, end);
    if (proto == bpf_htons(ETH_P_ARP))
        return steer_arp(config, next, end);
    return STEER_pass;
}

SEC("xdp")
int hitless_steer(struct xdp_md *ctx)
{
    __u32 first = 0;
    const struct steer_config *config = bpf_map_lookup_elem(&steer_config, &first);
    if (!config)
        return XDP_PASS;
    enum steer_verdict verdict = steer_frame(config, ctx);
    count(verdict);
    if (verdict > STEER_neighbor)
        return XDP_PASS;
    int action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
    if (action != XDP_REDIRECT)
        count(STEER_no_socket);
    return action;
}

char steer_license[] SEC("license") = "GPL";
