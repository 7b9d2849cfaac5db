// Parsing and writing of Ethernet, IP and UDP headers; see parse.h.
#include "parse.h"
#include "bytes.h"

enum {
    ETH_LEN = 14,
    VLAN_LEN = 4,
    IPV4_LEN = 20,
    IPV6_LEN = 40,
    UDP_LEN = 8,
    ARP_LEN = 28,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_ARP = 0x0806,
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_IPV6 = 0x86dd,
    PROTO_ICMP = 1,
    PROTO_UDP = 17,
    PROTO_FRAGMENT = 44,
    PROTO_ICMPV6 = 58,
};

// Built for each width of vectors that CPUs have; the loader picks, too early for ThreadSanitizer.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) &&                        \
    !defined(__SANITIZE_THREAD__)
#define EACH_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EACH_WIDTH
#endif

// Halves of 64-bit words summed apart: carries need no handling below 2^32 words, and a step is
// four vector instructions without a shuffle.
EACH_WIDTH uint64_t checksum_add(const void *data, size_t length, uint64_t sum)
{
    typedef uint64_t lanes __attribute__((vector_size(64)));
    const uint8_t *p = data;
    lanes low = {0}, high = {0};
    uint64_t mine = 0;

    for (; length >= sizeof(lanes); length -= sizeof(lanes), p += sizeof(lanes)) {
        lanes words;
        memcpy(&words, p, sizeof(lanes));
        low += words & UINT32_MAX;
        high += words >> 32;
    }
    low += high;
    for (size_t i = 0; i < sizeof(lanes) / sizeof(low[0]); i++)
        mine += low[i];
    for (; length >= 8; length -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        mine += (word & UINT32_MAX) + (word >> 32);
    }
    if (length >= 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        mine += word;
        length -= 4;
        p += 4;
    }
    if (length > 0) {
        uint32_t word = 0;
        memcpy(&word, p, length);
        mine += word;
    }
    sum += mine;
    return sum + (sum < mine);
}

static uint16_t fold(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)sum;
}

uint16_t checksum_fold(uint64_t sum)
{
    return (uint16_t)~fold(sum);
}

uint16_t checksum_udp(uint64_t sum)
{
    uint16_t v = checksum_fold(sum);
    return v == 0 ? 0xffff : v;
}

static size_t address_len(uint8_t family)
{
    return family == 4 ? 4 : 16;
}

uint16_t checksum_l4(const struct abi_addr *src, const struct abi_addr *dst, uint8_t protocol,
                     const uint8_t *l4, size_t length)
{
    uint64_t sum = checksum_add(src->ip, address_len(src->family), 0);
    sum = checksum_add(dst->ip, address_len(dst->family), sum);
    sum += (uint64_t)__builtin_bswap16(protocol) + __builtin_bswap32((uint32_t)length);
    return checksum_fold(checksum_add(l4, length, sum));
}

bool parse_udp_checksum_ok(const uint8_t *frame, const struct parsed *parsed)
{
    const uint8_t *udp = frame + parsed->payload - UDP_LEN;

    if (load_be16(udp + 6) == 0)
        return parsed->family == 4;
    return checksum_l4(&parsed->src, &parsed->dst, PROTO_UDP, udp,
                       (size_t)parsed->length + UDP_LEN) == 0;
}

enum parse_class parse_classify(const uint8_t *payload, size_t length)
{
    if (length < 2)
        return CLASS_OTHER;
    uint8_t first = payload[0];
    if (first <= 3)
        return CLASS_STUN;
    if (first >= 20 && first <= 63)
        return CLASS_DTLS;
    if (first >= 128 && first <= 191)
        return payload[1] >= 192 && payload[1] <= 223 ? CLASS_RTCP : CLASS_RTP;
    return CLASS_OTHER;
}

static void read_address(struct abi_addr *addr, uint8_t family, const uint8_t *ip)
{
    memset(addr, 0, sizeof(*addr));
    memcpy(addr->ip, ip, address_len(family));
    addr->family = family;
}

// `out->payload` and `out->length` describe the IP payload on entry and the message on return.
static enum drop parse_l4(const uint8_t *frame, uint8_t protocol, struct parsed *out)
{
    const uint8_t *l4 = frame + out->payload;

    if (protocol == PROTO_ICMP && out->family == 4) {
        out->class = CLASS_ICMP;
        return out->length < 8 ? DROP_ip_truncated : PARSE_OK;
    }
    if (protocol == PROTO_ICMPV6 && out->family == 6) {
        out->class = CLASS_ICMPV6;
        return out->length < 8 ? DROP_ip_truncated : PARSE_OK;
    }
    if (protocol != PROTO_UDP)
        return DROP_not_ours;
    if (out->length < UDP_LEN)
        return DROP_ip_truncated;
    uint16_t udp_length = load_be16(l4 + 4);
    if (udp_length < UDP_LEN || udp_length > out->length)
        return DROP_ip_truncated;
    out->src.port = load_be16(l4);
    out->dst.port = load_be16(l4 + 2);
    out->payload += UDP_LEN;
    out->length = udp_length - UDP_LEN;
    if (out->dst.port == UDP_PORT_BFD || out->dst.port == UDP_PORT_BFD_MULTIHOP)
        out->class = CLASS_BFD;
    else
        out->class = parse_classify(l4 + UDP_LEN, out->length);
    return PARSE_OK;
}

static enum drop parse_ipv4(const uint8_t *frame, size_t length, struct parsed *out)
{
    const uint8_t *ip = frame + out->l2_len;
    size_t left = length - out->l2_len;

    if (left < IPV4_LEN || ip[0] >> 4 != 4)
        return DROP_ip_truncated;
    size_t header = (size_t)(ip[0] & 15) * 4;
    size_t total = load_be16(ip + 2);
    if (header < IPV4_LEN || header > total || total > left)
        return DROP_ip_truncated;
    if (checksum_fold(checksum_add(ip, header, 0)) != 0)
        return DROP_ip_checksum;
    if ((load_be16(ip + 6) & 0x3fff) != 0) // MF or an offset
        return DROP_ip_fragment;
    out->family = 4;
    out->ttl = ip[8];
    out->l3_len = (uint8_t)header;
    out->payload = (uint16_t)(out->l2_len + header);
    out->length = (uint16_t)(total - header);
    read_address(&out->src, 4, ip + 12);
    read_address(&out->dst, 4, ip + 16);
    return parse_l4(frame, ip[9], out);
}

static enum drop parse_ipv6(const uint8_t *frame, size_t length, struct parsed *out)
{
    const uint8_t *ip = frame + out->l2_len;
    size_t left = length - out->l2_len;

    if (left < IPV6_LEN || ip[0] >> 4 != 6)
        return DROP_ip_truncated;
    size_t payload = load_be16(ip + 4);
    if (payload > left - IPV6_LEN)
        return DROP_ip_truncated;
    if (ip[6] == PROTO_FRAGMENT)
        return DROP_ip_fragment;
    out->family = 6;
    out->ttl = ip[7];
    out->l3_len = IPV6_LEN;
    out->payload = (uint16_t)(out->l2_len + IPV6_LEN);
    out->length = (uint16_t)payload;
    read_address(&out->src, 6, ip + 8);
    read_address(&out->dst, 6, ip + 24);
    return parse_l4(frame, ip[6], out);
}

static enum drop parse_arp(size_t length, struct parsed *out)
{
    if (length - out->l2_len < ARP_LEN)
        return DROP_ip_truncated;
    out->class = CLASS_ARP;
    out->family = 0;
    out->ttl = 0;
    out->l3_len = 0;
    out->payload = out->l2_len;
    out->length = ARP_LEN;
    memset(&out->src, 0, sizeof(out->src));
    memset(&out->dst, 0, sizeof(out->dst));
    return PARSE_OK;
}

enum drop parse_frame(const uint8_t *frame, size_t length, uint16_t vlan, struct parsed *out)
{
    // Offsets are 16 bits wide, and no port gives more.
    if (length < ETH_LEN || length > UINT16_MAX)
        return DROP_l2_unknown;
    uint16_t type = load_be16(frame + 12);
    uint16_t tag = 0;
    out->l2_len = ETH_LEN;
    if (type == ETHERTYPE_VLAN) {
        if (length < ETH_LEN + VLAN_LEN)
            return DROP_l2_unknown;
        tag = load_be16(frame + 14) & 0xfff;
        type = load_be16(frame + 16);
        out->l2_len = ETH_LEN + VLAN_LEN;
    }
    if (tag != vlan)
        return DROP_l2_unknown;
    switch (type) {
    case ETHERTYPE_IPV4:
        return parse_ipv4(frame, length, out);
    case ETHERTYPE_IPV6:
        return parse_ipv6(frame, length, out);
    case ETHERTYPE_ARP:
        return parse_arp(length, out);
    default:
        return DROP_l2_unknown;
    }
}

static void template_ip(struct frame_template *template, const struct frame_path *path, uint8_t *ip)
{
    if (path->src.family == 4) {
        ip[0] = 0x45;
        ip[1] = (uint8_t)(path->dscp << 2);
        store_be16(ip + 6, 0x4000); // DF
        ip[8] = path->ttl;
        ip[9] = PROTO_UDP;
        memcpy(ip + 12, path->src.ip, 4);
        memcpy(ip + 16, path->dst.ip, 4);
        template->ip_sum = checksum_add(ip, IPV4_LEN, 0);
    } else {
        store_be32(ip, 6u << 28 | (uint32_t)path->dscp << 22);
        ip[6] = PROTO_UDP;
        ip[7] = path->ttl;
        memcpy(ip + 8, path->src.ip, 16);
        memcpy(ip + 24, path->dst.ip, 16);
    }
}

void frame_template_init(struct frame_template *template, const struct frame_path *path)
{
    uint8_t *p = template->bytes;

    memset(template, 0, sizeof(*template));
    template->family = path->src.family;
    template->l2_len = path->vlan != 0 ? ETH_LEN + VLAN_LEN : ETH_LEN;
    template->l3_len = path->src.family == 4 ? IPV4_LEN : IPV6_LEN;
    template->length = (uint8_t)(template->l2_len + template->l3_len + UDP_LEN);

    memcpy(p, path->dst_mac, 6);
    memcpy(p + 6, path->src_mac, 6);
    if (path->vlan != 0) {
        store_be16(p + 12, ETHERTYPE_VLAN);
        store_be16(p + 14, path->vlan);
    }
    store_be16(p + template->l2_len - 2, path->src.family == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    template_ip(template, path, p + template->l2_len);

    uint8_t *udp = p + template->l2_len + template->l3_len;
    store_be16(udp, path->src.port);
    store_be16(udp + 2, path->dst.port);

    size_t address = address_len(path->src.family);
    uint64_t sum = checksum_add(path->src.ip, address, __builtin_bswap16(PROTO_UDP));
    template->udp_sum = checksum_add(path->dst.ip, address, sum);
}

void frame_template_source(const struct frame_template *template, struct abi_addr *source)
{
    const uint8_t *ip = template->bytes + template->l2_len;
    *source = (struct abi_addr){.family = template->family};
    memcpy(source->ip, ip + (template->family == 4 ? 12 : 8), address_len(template->family));
    source->port = load_be16(ip + template->l3_len);
}

void frame_end(const struct frame_template *template, uint8_t *frame, size_t payload_length,
               unsigned offload)
{
    uint8_t *ip = frame + template->l2_len;
    uint8_t *udp = ip + template->l3_len;
    uint16_t udp_length = __builtin_bswap16((uint16_t)(payload_length + UDP_LEN));
    uint64_t sum = template->udp_sum + udp_length;

    memcpy(udp + 4, &udp_length, 2);
    if (template->family == 4) {
        uint16_t total = __builtin_bswap16((uint16_t)(payload_length + UDP_LEN + IPV4_LEN));
        memcpy(ip + 2, &total, 2);
        if (!(offload & FRAME_OFFLOAD_IPV4)) {
            uint16_t ip_sum = checksum_fold(template->ip_sum + total);
            memcpy(ip + 10, &ip_sum, 2);
        }
    } else {
        memcpy(ip + 4, &udp_length, 2);
    }
    uint16_t checksum = fold(sum);
    if (!(offload & FRAME_OFFLOAD_UDP)) {
        // The UDP header's own words come from the template: what was just stored in narrow pieces
        // cannot be loaded in wide ones yet.
        uint32_t ports;
        memcpy(&ports, template->bytes + template->length - UDP_LEN, sizeof(ports));
        sum += (uint64_t)ports + udp_length;
        checksum = checksum_udp(checksum_add(frame + template->length, payload_length, sum));
    }
    memcpy(udp + 6, &checksum, 2);
}

void frame_write(const struct frame_template *template, uint8_t *frame, size_t payload_length,
                 unsigned offload)
{
    memcpy(frame, template->bytes, template->length);
    frame_end(template, frame, payload_length, offload);
}
