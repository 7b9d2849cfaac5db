// Fuzz target: frames. What parses lies inside the frame, and a datagram that we write with the
// addresses found parses to the same again.
#include "../../dataplane/parse.h"
#include <stdlib.h>
#include <string.h>

static void must(bool truth)
{
    if (!truth)
        abort();
}

static void rebuild(const uint8_t *frame, const struct parsed *p)
{
    struct frame_path path = {.ttl = p->ttl, .src = p->src, .dst = p->dst};
    struct frame_template template;
    struct parsed again;

    frame_template_init(&template, &path);
    size_t length = template.length + (size_t)p->length;
    uint8_t *copy = malloc(length);
    must(copy != NULL);
    memcpy(copy + template.length, frame + p->payload, p->length);
    frame_write(&template, copy, p->length, FRAME_OFFLOAD_NONE);
    must(parse_frame(copy, length, 0, &again) == PARSE_OK);
    must(again.class == p->class && again.length == p->length && again.ttl == p->ttl);
    must(memcmp(&again.src, &p->src, sizeof(p->src)) == 0);
    must(memcmp(&again.dst, &p->dst, sizeof(p->dst)) == 0);
    must(parse_udp_checksum_ok(copy, &again));
    free(copy);
}

// Two bytes of VLAN id, then the frame.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct parsed p;

    if (size < 2)
        return 0;
    uint16_t vlan = (uint16_t)((data[0] << 8 | data[1]) & 0xfff);
    const uint8_t *frame = data + 2;
    size_t length = size - 2;

    enum drop drop = parse_frame(frame, length, vlan, &p);
    must(drop <= DROPS);
    if (drop != PARSE_OK)
        return 0;
    must((size_t)p.payload + p.length <= length);
    must(p.class == CLASS_ARP || p.payload >= p.l2_len + p.l3_len);
    switch (p.class) {
    case CLASS_ARP:
    case CLASS_ICMP:
        break;
    case CLASS_ICMPV6:
        checksum_l4(&p.src, &p.dst, 58, frame + p.payload, p.length);
        break;
    default:
        parse_udp_checksum_ok(frame, &p);
        if (p.length <= 65000)
            rebuild(frame, &p);
    }
    return 0;
}
