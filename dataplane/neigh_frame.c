// ARP and neighbour discovery frames: their layout, builders and option parser. Pure.
#include "neigh_frame.h"
#include "bytes.h"
#include <string.h>

#define PROTO_ARP 0x0806
#define PROTO_IPV6 0x86dd
#define PROTO_VLAN 0x8100

static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

bool neigh_mac_unicast(const uint8_t mac[6])
{
    static const uint8_t zero[6];
    return !(mac[0] & 1) && memcmp(mac, zero, sizeof(zero)) != 0;
}

bool neigh_ip_unicast(const uint8_t *ip, uint8_t family)
{
    static const uint8_t loopback6[16] = {[15] = 1}, any[16];
    if (family == 4)
        return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
    return family == 6 && ip[0] != 0xff && memcmp(ip, any, 16) != 0 &&
           memcmp(ip, loopback6, 16) != 0;
}

bool neigh_ip_equal(const struct abi_addr *addr, const uint8_t *ip, uint8_t family)
{
    return addr->family == family && family != 0 && memcmp(addr->ip, ip, family == 4 ? 4 : 16) == 0;
}

size_t neigh_write_ethernet(const struct neigh_self *self, const uint8_t to[6], uint16_t proto,
                            uint8_t *frame)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, self->mac, 6);
    if (self->vlan == 0) {
        store_be16(frame + 12, proto);
        return 14;
    }
    store_be16(frame + 12, PROTO_VLAN);
    store_be16(frame + 14, self->vlan);
    store_be16(frame + 16, proto);
    return 18;
}

void neigh_write_arp(uint8_t *arp, uint16_t operation, const uint8_t sender_mac[6],
                     const uint8_t sender_ip[4], const uint8_t target_mac[6],
                     const uint8_t target_ip[4])
{
    static const uint8_t head[6] = {0, 1, 8, 0, 6, 4}; // Ethernet, IPv4 and their lengths
    memcpy(arp, head, sizeof(head));
    store_be16(arp + ARP_OP, operation);
    memcpy(arp + ARP_SENDER_MAC, sender_mac, 6);
    memcpy(arp + ARP_SENDER_IP, sender_ip, 4);
    memcpy(arp + ARP_TARGET_MAC, target_mac, 6);
    memcpy(arp + ARP_TARGET_IP, target_ip, 4);
}

size_t neigh_write_nd(const struct neigh_self *self, const uint8_t to[6],
                      const struct nd_message *message, uint8_t *frame)
{
    uint8_t *ip = frame + neigh_write_ethernet(self, to, PROTO_IPV6, frame);
    uint8_t *nd = ip + 40;
    size_t length = ND_LEN + (message->option ? ND_OPTION_LEN : 0);
    memset(ip, 0, 40 + length);
    ip[0] = 0x60;
    store_be16(ip + 4, (uint16_t)length);
    ip[6] = IP_PROTO_ICMPV6;
    ip[7] = ND_HOP_LIMIT;
    memcpy(ip + 8, message->src.ip, 16);
    memcpy(ip + 24, message->dst.ip, 16);
    nd[0] = message->type;
    nd[4] = message->flags;
    memcpy(nd + 8, message->target, 16);
    if (message->option) {
        nd[ND_LEN] = message->option;
        nd[ND_LEN + 1] = 1; // in units of 8 bytes
        memcpy(nd + ND_LEN + 2, self->mac, 6);
    }
    uint16_t sum = checksum_l4(&message->src, &message->dst, IP_PROTO_ICMPV6, nd, length);
    memcpy(nd + 2, &sum, 2);
    return (size_t)(nd - frame) + length;
}

size_t neigh_pad(uint8_t *frame, size_t length)
{
    if (length >= ETHERNET_MIN)
        return length;
    memset(frame + length, 0, ETHERNET_MIN - length);
    return ETHERNET_MIN;
}

bool neigh_nd_option(const uint8_t *nd, size_t length, uint8_t wanted, const uint8_t **mac)
{
    *mac = NULL;
    for (size_t at = ND_LEN; at < length;) {
        if (length - at < 2 || nd[at + 1] == 0 || length - at < nd[at + 1] * 8u)
            return false;
        if (nd[at] == wanted && nd[at + 1] == 1)
            *mac = nd + at + 2;
        at += nd[at + 1] * 8u;
    }
    return true;
}

// ff02::1:ffXX:XXXX, RFC 4291 section 2.7.1.
static void solicited_node(const uint8_t target[16], uint8_t group[16])
{
    static const uint8_t prefix[13] = {0xff, 0x02, [11] = 1, [12] = 0xff};
    memcpy(group, prefix, sizeof(prefix));
    memcpy(group + 13, target + 13, 3);
}

// RFC 2464 section 7.
static void multicast_mac(const uint8_t group[16], uint8_t mac[6])
{
    mac[0] = mac[1] = 0x33;
    memcpy(mac + 2, group + 12, 4);
}

size_t neigh_build_request(const struct neigh_self *self, const struct abi_addr *target,
                           uint8_t *frame, size_t capacity)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nobody[6];
    if (capacity < NEIGH_FRAME_MAX)
        return 0;
    if (target->family == 4) {
        size_t l2 = neigh_write_ethernet(self, broadcast, PROTO_ARP, frame);
        neigh_write_arp(frame + l2, ARP_REQUEST, self->mac, self->ip4.ip, nobody, target->ip);
        return neigh_pad(frame, l2 + ARP_LEN);
    }
    struct nd_message message = {.type = ND_SOLICITATION, .option = ND_SOURCE_LINK};
    uint8_t mac[6];
    message.src = self->ip6;
    message.dst.family = 6;
    solicited_node(target->ip, message.dst.ip);
    multicast_mac(message.dst.ip, mac);
    memcpy(message.target, target->ip, 16);
    return neigh_write_nd(self, mac, &message, frame);
}

size_t neigh_build_announcement(const struct neigh_self *self, const struct abi_addr *own,
                                uint8_t *frame, size_t capacity)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nobody[6];
    if (capacity < NEIGH_FRAME_MAX)
        return 0;
    if (own->family == 4) {
        size_t l2 = neigh_write_ethernet(self, broadcast, PROTO_ARP, frame);
        neigh_write_arp(frame + l2, ARP_REQUEST, self->mac, own->ip, nobody, own->ip);
        return neigh_pad(frame, l2 + ARP_LEN);
    }
    struct nd_message message = {
        .type = ND_ADVERTISEMENT, .flags = ND_OVERRIDE, .option = ND_TARGET_LINK};
    uint8_t mac[6];
    message.src = *own;
    message.dst.family = 6;
    memcpy(message.dst.ip, all_nodes, 16);
    multicast_mac(all_nodes, mac);
    memcpy(message.target, own->ip, 16);
    return neigh_write_nd(self, mac, &message, frame);
}
