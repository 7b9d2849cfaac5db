// The wire between the two nodes and their clients, what those make of a packet, and the audit of
// all that is sent; see pair.h.
#include "../../dataplane/protect_audit.h"
#include "pair_inside.h"
#include <stdio.h>

// What one key protects: everything towards one client. (The trunk's packets are seen only by
// PROTECT_AUDIT, because a wire does not say which round's key one is of.)
enum flow { FLOW_PUBLISHER = PAIR_VIEWERS };

static bool same_host(const struct abi_addr *a, const struct abi_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

// ---- the audit

static void write_down(struct pair *pair, const uint8_t key[32], uint32_t ssrc, uint64_t index,
                       const struct world_frame *frame)
{
    const uint8_t *data = frame->bytes + frame->parsed.payload;
    if (!protect_audit_note(key, ssrc, index, data, frame->parsed.length))
        return;
    if (pair->conflicts++ == 0)
        snprintf(pair->first, sizeof(pair->first),
                 "SSRC %x index %llx of node %c, at terms %u and %u", ssrc,
                 (unsigned long long)index, 'a' + frame->bytes[11] - 1, pair->control[0].term,
                 pair->control[1].term);
}

// The index of an SRTP packet as its receiver finds it, or the one that SRTCP says itself.
static void audit(struct pair *pair, uint8_t flow, uint64_t highest,
                  const struct world_frame *frame)
{
    const uint8_t *data = frame->bytes + frame->parsed.payload;
    uint8_t key[32] = {flow, flow < PAIR_VIEWERS ? pair->viewer[flow].joins : 0};
    if (frame->parsed.class == CLASS_RTCP) {
        key[2] = 1;
        uint32_t index = load_be32(data + frame->parsed.length - 4) & 0x7fffffff;
        write_down(pair, key, load_be32(data + 4), index, frame);
        return;
    }
    write_down(pair, key, load_be32(data + 8), rtp_nearest_seq(highest, load_be16(data + 2)),
               frame);
}

// ---- clients

static void viewer_takes(struct pair *pair, uint8_t number, const struct world_frame *frame)
{
    struct pair_viewer *v = &pair->viewer[number];
    const uint8_t *data = frame->bytes + frame->parsed.payload;
    uint8_t plain[2048];
    size_t size;
    uint64_t index;
    if (frame->parsed.class == CLASS_RTCP)
        audit(pair, number, 0, frame);
    if (frame->parsed.class != CLASS_RTP)
        return;
    uint32_t ssrc = load_be32(data + 8);
    unsigned which = ssrc == v->client.rtp[0].ssrc ? 0 : ssrc == v->client.rtp[1].ssrc ? 1 : 2;
    struct protect_source *source = &v->client.rtp[which];
    audit(pair, number, replay_top(&source->replay), frame);
    memcpy(v->last_mac, frame->bytes + 6, 6);
    v->last_from = frame->parsed.src;
    v->last_at = frame->parsed.dst;
    int rc = protect_open(pair->node[0].crypto, &v->client.rx, source, data, frame->parsed.length,
                          plain, &size, &index);
    if (rc == -EALREADY) {
        pair->duplicates++;
        return;
    }
    v->bad += rc != 0;
    if (rc == 0 && which == 0) {
        v->packets++;
        v->seen[(uint16_t)index] = 1;
        if (index > v->highest)
            v->highest = index;
    }
    v->sound += rc == 0 && which == 1;
    v->rtx += rc == 0 && which == 2;
}

static void publisher_takes(struct pair *pair, const struct world_frame *frame)
{
    uint8_t plain[2048];
    size_t size;
    uint32_t index;
    const uint8_t *data = frame->bytes + frame->parsed.payload;
    if (frame->parsed.class != CLASS_RTCP)
        return;
    audit(pair, FLOW_PUBLISHER, 0, frame);
    struct protect_rtcp_source source = {.ssrc = load_be32(data + 4)};
    if (protect_rtcp_open(pair->node[0].crypto, &pair->publisher.rtcp_rx, &source, data,
                          frame->parsed.length, plain, &size, &index))
        return;
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    struct rtcp_nack_iter nacks;
    uint16_t seq;
    for (rtcp_begin(&iter, plain, size); rtcp_next(&iter, &packet) == 1;)
        if (packet.type == RTCP_RTPFB && packet.count == RTPFB_NACK &&
            rtcp_nack_begin(&nacks, &packet))
            while (rtcp_nack_next(&nacks, &seq))
                pair->publisher_nacks++, pair->publisher_asked[seq]++;
}

// Whoever is checked answers, as every ICE agent does.
static bool answers(struct pair *pair, int node, const struct client *client,
                    const struct world_frame *frame)
{
    struct stun_msg msg;
    if (frame->parsed.class != CLASS_STUN ||
        stun_parse(frame->bytes + frame->parsed.payload, frame->parsed.length, &msg) ||
        msg.type != STUN_BINDING_REQUEST)
        return false;
    struct client there = pair_client(pair, node, client);
    world_answer(&pair->node[node], &there, &frame->parsed.dst, msg.id, WORLD_PWD);
    return true;
}

// ---- the wire: a switch that knows link addresses

void pair_deliver(struct pair *pair, int from, const struct world_frame *frame)
{
    for (int to = 0; to < 2; to++) {
        bool mine = memcmp(frame->bytes, &pair->node[to].dp.port.mac, 6) == 0;
        if (to != from && pair->alive[to] && (mine || (frame->bytes[0] & 1)) && !pair->media_cut)
            world_inject_frame(&pair->node[to], 0, frame->bytes, frame->length);
    }
    if (frame->parsed.class >= CLASS_ARP || pair->unheard[from])
        return;
    for (uint8_t number = 0; number < PAIR_VIEWERS; number++) {
        struct pair_viewer *v = &pair->viewer[number];
        if (!same_host(&frame->parsed.dst, &v->client.addr) ||
            memcmp(&frame->parsed.dst, &v->gone, sizeof(v->gone)) == 0)
            continue;
        v->asked[from] += answers(pair, from, &v->client, frame);
        viewer_takes(pair, number, frame);
    }
    if (same_host(&frame->parsed.dst, &pair->publisher.addr)) {
        answers(pair, from, &pair->publisher, frame);
        publisher_takes(pair, frame);
    }
}

bool pair_has_address(const struct pair *pair, int node)
{
    bool taken = atomic_load(&pair->node[1].dp.taken);
    if (pair->apart)
        return pair->alive[node] && pair->publisher_at == node;
    return pair->alive[node] && (pair->hub || (node == 1 ? taken : !taken || !pair->alive[1]));
}
