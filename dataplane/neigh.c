// What to do about neighbours: answer, learn, resolve. Frames' layout is in neigh_frame.c. Pure;
// one thread per table.
//
// Learning is unauthenticated, as ARP and ND are, so it is narrow: only addresses on our own
// prefixes or the gateways, only from a unicast link address that is not ours, and a full table
// evicts whom nobody sent to for longest, never a gateway.
#include "neigh.h"
#include "bytes.h"
#include "neigh_frame.h"
#include <errno.h>
#include <string.h>

#define MAC_LEN 6
#define ECHO_LEN 8
#define IPV4_HEADER 20
#define TTL 64

static size_t ip_len(uint8_t family)
{
    return family == 4 ? 4 : 16;
}

static struct abi_addr make_addr(const uint8_t *ip, uint8_t family)
{
    struct abi_addr addr = {.family = family};
    memcpy(addr.ip, ip, ip_len(family));
    return addr;
}

void neigh_self_init(struct neigh_self *self, const struct abi_config *config, const uint8_t mac[6])
{
    memset(self, 0, sizeof(*self));
    memcpy(self->mac, mac, MAC_LEN);
    self->vlan = config->vlan;
    self->ip4 = config->media4;
    self->ip6 = config->media6;
    self->gateway4 = config->gateway4;
    self->gateway6 = config->gateway6;
    self->prefix4 = config->prefix4;
    self->prefix6 = config->prefix6;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8)) == 0;
}

static bool is_ours(const struct neigh_self *self, const uint8_t *ip, uint8_t family)
{
    return neigh_ip_equal(family == 4 ? &self->ip4 : &self->ip6, ip, family);
}

static bool is_gateway(const struct neigh_self *self, const uint8_t *ip, uint8_t family)
{
    return neigh_ip_equal(family == 4 ? &self->gateway4 : &self->gateway6, ip, family);
}

bool neigh_on_link(const struct neigh_self *self, const uint8_t *ip, uint8_t family)
{
    const struct abi_addr *own = family == 4 ? &self->ip4 : &self->ip6;
    unsigned bits = family == 4 ? self->prefix4 : self->prefix6;
    if (own->family != family || bits > ip_len(family) * 8)
        return false;
    if (family == 6 && ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80)
        return true; // link-local
    return same_prefix(own->ip, ip, bits);
}

// The highest address of our IPv4 prefix, where it has one to spare (RFC 3021).
static bool is_broadcast(const struct neigh_self *self, const uint8_t *ip, uint8_t family)
{
    if (family != 4 || self->prefix4 > 30 || !neigh_on_link(self, ip, 4))
        return false;
    uint32_t host = 0xffffffffu >> self->prefix4;
    return (load_be32(ip) & host) == host;
}

static bool may_be_neighbor(const struct neigh_self *self, const uint8_t *ip, uint8_t family)
{
    return neigh_ip_unicast(ip, family) && !is_ours(self, ip, family) &&
           !is_broadcast(self, ip, family);
}

static struct neigh_entry *find(struct neigh_table *table, const uint8_t *ip, uint8_t family)
{
    for (size_t i = 0; i < NEIGH_ENTRIES; i++) {
        struct neigh_entry *entry = &table->entry[i];
        if (entry->state != NEIGH_FREE && neigh_ip_equal(&entry->addr, ip, family))
            return entry;
    }
    return NULL;
}

const struct neigh_entry *neigh_lookup(const struct neigh_table *table, const uint8_t *ip,
                                       uint8_t family)
{
    return find((struct neigh_table *)table, ip, family);
}

// The address's entry, or a fresh one in place of the one unused for longest if the table is full.
static struct neigh_entry *add(const struct neigh_self *self, struct neigh_table *table,
                               const uint8_t *ip, uint8_t family)
{
    struct neigh_entry *victim = find(table, ip, family);
    if (victim != NULL)
        return victim;
    for (size_t i = 0; i < NEIGH_ENTRIES; i++) {
        struct neigh_entry *entry = &table->entry[i];
        if (entry->state == NEIGH_FREE) {
            victim = entry;
            break;
        }
        if (is_gateway(self, entry->addr.ip, entry->addr.family))
            continue;
        if (victim == NULL || entry->used_ns < victim->used_ns)
            victim = entry;
    }
    // At most two entries are gateways, so there is a victim.
    *victim = (struct neigh_entry){.addr = make_addr(ip, family), .state = NEIGH_ASKING};
    return victim;
}

static void learn(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                  const uint8_t *ip, uint8_t family, const uint8_t *mac, bool may_create)
{
    if (!neigh_mac_unicast(mac) || memcmp(mac, self->mac, MAC_LEN) == 0 ||
        !may_be_neighbor(self, ip, family) ||
        !(neigh_on_link(self, ip, family) || is_gateway(self, ip, family)))
        return;
    struct neigh_entry *entry = find(table, ip, family);
    if (entry == NULL && may_create)
        entry = add(self, table, ip, family);
    if (entry == NULL)
        return;
    memcpy(entry->mac, mac, MAC_LEN);
    entry->state = NEIGH_KNOWN;
    entry->questions = 0;
    entry->confirmed_ns = now_ns;
    entry->ask_ns = now_ns + NEIGH_REACHABLE_NS;
}

// RFC 826's reception: merge the sender, then answer a request for us.
static bool input_arp(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                      uint8_t *frame, const struct parsed *p, size_t *length)
{
    static const uint8_t head[ARP_OP] = {0, 1, 8, 0, 6, 4};
    uint8_t *arp = frame + p->payload;
    uint16_t operation = load_be16(arp + ARP_OP);
    if (p->length < ARP_LEN || memcmp(arp, head, sizeof(head)) != 0 || self->ip4.family != 4 ||
        !neigh_mac_unicast(arp + ARP_SENDER_MAC) ||
        (operation != ARP_REQUEST && operation != ARP_REPLY))
        return false;
    bool for_us = is_ours(self, arp + ARP_TARGET_IP, 4);
    learn(self, table, now_ns, arp + ARP_SENDER_IP, 4, arp + ARP_SENDER_MAC,
          for_us && operation == ARP_REQUEST);
    // A probe (RFC 5227 section 2.1) has no sender address; it is answered all the same.
    static const uint8_t none[4];
    if (operation != ARP_REQUEST || !for_us || is_ours(self, arp + ARP_SENDER_IP, 4) ||
        !(memcmp(arp + ARP_SENDER_IP, none, 4) == 0 || neigh_ip_unicast(arp + ARP_SENDER_IP, 4)))
        return false;
    uint8_t asker_mac[MAC_LEN], asker_ip[4];
    memcpy(asker_mac, arp + ARP_SENDER_MAC, MAC_LEN);
    memcpy(asker_ip, arp + ARP_SENDER_IP, 4);
    memcpy(frame, asker_mac, MAC_LEN);
    memcpy(frame + MAC_LEN, self->mac, MAC_LEN);
    neigh_write_arp(arp, ARP_REPLY, self->mac, self->ip4.ip, asker_mac, asker_ip);
    // The question's padding goes out zeroed, at most to Ethernet's minimum.
    size_t end = p->payload + ARP_LEN;
    size_t padded = *length < ETHERNET_MIN ? *length : ETHERNET_MIN;
    if (padded > end)
        memset(frame + end, 0, padded - end);
    *length = padded > end ? padded : end;
    return true;
}

// Addresses of an echo are turned round; the rest of the frame stays, padding aside.
static void turn_round(const struct neigh_self *self, uint8_t *frame, const struct parsed *p,
                       size_t *length)
{
    uint8_t *ip = frame + p->l2_len;
    size_t end = p->payload + p->length;
    memcpy(frame, frame + MAC_LEN, MAC_LEN);
    memcpy(frame + MAC_LEN, self->mac, MAC_LEN);
    if (p->family == 4) {
        memcpy(ip + 12, p->dst.ip, 4);
        memcpy(ip + 16, p->src.ip, 4);
        ip[8] = TTL;
        store_be16(ip + 6, 0x4000); // don't fragment
        memset(ip + 10, 0, 2);
        uint16_t sum = checksum_fold(checksum_add(ip, IPV4_HEADER, 0));
        memcpy(ip + 10, &sum, 2);
    } else {
        memcpy(ip + 8, p->dst.ip, 16);
        memcpy(ip + 24, p->src.ip, 16);
        ip[7] = TTL;
    }
    if (*length > end)
        memset(frame + end, 0, *length - end);
}

// RFC 1122 section 3.2.2.6 and RFC 4443 section 4.2. Only what was sent to us alone is answered.
static bool input_echo(const struct neigh_self *self, uint8_t *frame, const struct parsed *p,
                       size_t *length)
{
    uint8_t *icmp = frame + p->payload;
    uint8_t request = p->family == 4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST;
    if (p->length < ECHO_LEN || icmp[0] != request || icmp[1] != 0 ||
        memcmp(frame, self->mac, MAC_LEN) != 0 || !neigh_mac_unicast(frame + MAC_LEN) ||
        !is_ours(self, p->dst.ip, p->family) || !may_be_neighbor(self, p->src.ip, p->family))
        return false;
    uint16_t sum = p->family == 4 ? checksum_fold(checksum_add(icmp, p->length, 0))
                                  : checksum_l4(&p->src, &p->dst, IP_PROTO_ICMPV6, icmp, p->length);
    // An echo with IPv4 options (record route and the like) is not worth code of its own.
    if (sum != 0 || (p->family == 4 && p->l3_len != IPV4_HEADER))
        return false;
    icmp[0] = p->family == 4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
    memset(icmp + 2, 0, 2);
    sum = p->family == 4 ? checksum_fold(checksum_add(icmp, p->length, 0))
                         : checksum_l4(&p->dst, &p->src, IP_PROTO_ICMPV6, icmp, p->length);
    memcpy(icmp + 2, &sum, 2);
    turn_round(self, frame, p, length);
    return true;
}

// RFC 4861 sections 7.1.1 and 7.2.3.
static bool input_solicitation(const struct neigh_self *self, struct neigh_table *table,
                               uint64_t now_ns, uint8_t *frame, const struct parsed *p,
                               size_t *length, size_t capacity)
{
    static const uint8_t any[16], all_nodes[16] = {0xff, 0x02, [15] = 1};
    static const uint8_t all_nodes_mac[MAC_LEN] = {0x33, 0x33, 0, 0, 0, 1};
    const uint8_t *nd = frame + p->payload, *mac;
    bool probe = memcmp(p->src.ip, any, 16) == 0; // duplicate address detection, RFC 4862
    bool to_group = p->dst.ip[0] == 0xff;
    if (!neigh_nd_option(nd, p->length, ND_SOURCE_LINK, &mac) || !is_ours(self, nd + 8, 6) ||
        !neigh_mac_unicast(frame + MAC_LEN) || !(to_group || is_ours(self, p->dst.ip, 6)))
        return false;
    // A group solicitation names its sender's link address, a probe cannot: what does otherwise is
    // malformed.
    if (probe ? mac != NULL || !to_group : to_group && mac == NULL)
        return false;
    if (!probe && !may_be_neighbor(self, p->src.ip, 6))
        return false;
    if (mac != NULL)
        learn(self, table, now_ns, p->src.ip, 6, mac, true);

    struct nd_message answer = {.type = ND_ADVERTISEMENT,
                                .flags = ND_OVERRIDE | (probe ? 0 : ND_SOLICITED),
                                // Leaving it out keeps the answer as short as a bare question.
                                .option = mac || probe ? ND_TARGET_LINK : 0,
                                .src = make_addr(self->ip6.ip, 6),
                                .dst = make_addr(probe ? all_nodes : p->src.ip, 6)};
    uint8_t to[MAC_LEN], built[NEIGH_FRAME_MAX];
    memcpy(to, probe ? all_nodes_mac : frame + MAC_LEN, MAC_LEN);
    memcpy(answer.target, self->ip6.ip, 16);
    size_t n = neigh_write_nd(self, to, &answer, built);
    if (n > capacity)
        return false;
    memcpy(frame, built, n);
    *length = n;
    return true;
}

// RFC 4861 sections 7.1.2 and 7.2.5.
static void input_advertisement(const struct neigh_self *self, struct neigh_table *table,
                                uint64_t now_ns, const uint8_t *frame, const struct parsed *p)
{
    const uint8_t *nd = frame + p->payload, *mac;
    bool to_group = p->dst.ip[0] == 0xff;
    if (!neigh_nd_option(nd, p->length, ND_TARGET_LINK, &mac) || nd[8] == 0xff ||
        (to_group && (nd[4] & ND_SOLICITED)))
        return;
    struct neigh_entry *entry = find(table, nd + 8, 6);
    if (entry == NULL)
        return;
    if (mac == NULL)
        mac = entry->state == NEIGH_KNOWN ? entry->mac : NULL; // confirms what we hold
    if (mac == NULL)
        return;
    bool differs = entry->state == NEIGH_KNOWN && memcmp(mac, entry->mac, MAC_LEN) != 0;
    if (differs && !(nd[4] & ND_OVERRIDE))
        return;
    learn(self, table, now_ns, nd + 8, 6, mac, false);
}

static bool input_icmpv6(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                         uint8_t *frame, const struct parsed *p, size_t *length, size_t capacity)
{
    const uint8_t *nd = frame + p->payload;
    if (p->length < ECHO_LEN || self->ip6.family != 6)
        return false;
    if (nd[0] == ICMPV6_ECHO_REQUEST)
        return input_echo(self, frame, p, length);
    // The hop limit proves that no router forwarded it.
    if ((nd[0] != ND_SOLICITATION && nd[0] != ND_ADVERTISEMENT) || p->length < ND_LEN ||
        nd[1] != 0 || p->ttl != ND_HOP_LIMIT ||
        checksum_l4(&p->src, &p->dst, IP_PROTO_ICMPV6, nd, p->length) != 0)
        return false;
    if (nd[0] == ND_SOLICITATION)
        return input_solicitation(self, table, now_ns, frame, p, length, capacity);
    input_advertisement(self, table, now_ns, frame, p);
    return false;
}

bool neigh_input(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                 uint8_t *frame, size_t *length, size_t capacity)
{
    struct parsed parsed;
    if (*length > capacity || parse_frame(frame, *length, self->vlan, &parsed) != PARSE_OK)
        return false;
    switch (parsed.class) {
    case CLASS_ARP:
        return input_arp(self, table, now_ns, frame, &parsed, length);
    case CLASS_ICMP:
        return input_echo(self, frame, &parsed, length);
    case CLASS_ICMPV6:
        return input_icmpv6(self, table, now_ns, frame, &parsed, length, capacity);
    default:
        return false;
    }
}

int neigh_next_hop(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                   const uint8_t *ip, uint8_t family, uint8_t mac[6])
{
    const struct abi_addr *own = family == 4 ? &self->ip4 : &self->ip6;
    const struct abi_addr *gateway = family == 4 ? &self->gateway4 : &self->gateway6;
    if ((family != 4 && family != 6) || own->family != family || !may_be_neighbor(self, ip, family))
        return -EINVAL;
    if (!neigh_on_link(self, ip, family)) {
        if (gateway->family != family)
            return -ENETUNREACH;
        ip = gateway->ip;
    }
    struct neigh_entry *entry = add(self, table, ip, family);
    entry->used_ns = now_ns;
    if (entry->state != NEIGH_KNOWN)
        return -EAGAIN;
    memcpy(mac, entry->mac, MAC_LEN);
    return 0;
}

// Gateways are resolved before anyone needs them, and for as long as we run.
static void want_gateway(const struct neigh_self *self, struct neigh_table *table,
                         const struct abi_addr *own, const struct abi_addr *gateway,
                         uint64_t now_ns)
{
    if (gateway->family == 0 || own->family != gateway->family)
        return;
    struct neigh_entry *entry = add(self, table, gateway->ip, gateway->family);
    entry->used_ns = now_ns;
}

static bool is_due(const struct neigh_self *self, struct neigh_entry *entry, uint64_t now_ns)
{
    if (entry->state == NEIGH_FREE || entry->ask_ns > now_ns)
        return false;
    if (is_gateway(self, entry->addr.ip, entry->addr.family)) {
        entry->questions = 0;
        return true;
    }
    if (entry->state == NEIGH_ASKING && entry->questions >= NEIGH_QUESTIONS) {
        entry->state = NEIGH_FREE; // never answered
        return false;
    }
    // Not worth asking if nobody sent there since it was confirmed.
    return entry->state == NEIGH_ASKING || entry->used_ns > entry->confirmed_ns;
}

size_t neigh_question(const struct neigh_self *self, struct neigh_table *table, uint64_t now_ns,
                      uint8_t *frame, size_t capacity)
{
    struct neigh_entry *due = NULL;
    want_gateway(self, table, &self->ip4, &self->gateway4, now_ns);
    want_gateway(self, table, &self->ip6, &self->gateway6, now_ns);
    for (size_t i = 0; i < NEIGH_ENTRIES; i++) {
        struct neigh_entry *entry = &table->entry[i];
        if (!is_due(self, entry, now_ns))
            continue;
        bool gateway = is_gateway(self, entry->addr.ip, entry->addr.family);
        if (due == NULL || gateway)
            due = entry;
        if (gateway)
            break;
    }
    if (due == NULL)
        return 0;
    due->ask_ns = now_ns + NEIGH_RETRY_NS;
    due->questions++;
    // A neighbour that fell silent is asked in bouts; a gateway without rest.
    if (due->questions == NEIGH_QUESTIONS && due->state == NEIGH_KNOWN) {
        due->questions = 0;
        if (!is_gateway(self, due->addr.ip, due->addr.family))
            due->ask_ns = now_ns + NEIGH_REACHABLE_NS;
    }
    return neigh_build_request(self, &due->addr, frame, capacity);
}
