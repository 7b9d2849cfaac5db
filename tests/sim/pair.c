#include "pair.h"
#include "../../dataplane/failover.h"
#include "../../dataplane/protect_audit.h"
#include <stdio.h>
#include <stdlib.h>

#define OTHER(node) (1 - (node))
#define CLIENT_MAC_LAST 9

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
    uint8_t key[32] = {flow};
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
                pair->publisher_nacks++;
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
    world_answer(&pair->node[node], client, &frame->parsed.dst, msg.id, WORLD_PWD);
    return true;
}

// ---- the wire: a switch that knows link addresses

static void deliver(struct pair *pair, int from, const struct world_frame *frame)
{
    for (int to = 0; to < 2; to++) {
        bool mine = memcmp(frame->bytes, &pair->node[to].dp.port.mac, 6) == 0;
        if (to != from && pair->alive[to] && (mine || (frame->bytes[0] & 1)) && !pair->media_cut)
            world_inject_frame(&pair->node[to], 0, frame->bytes, frame->length);
    }
    if (frame->parsed.class >= CLASS_ARP)
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

// Whether what is sent to a's address, or to the one that the publisher prefers, comes to this
// node.
static bool has_address(const struct pair *pair, int node)
{
    bool taken = atomic_load(&pair->node[1].dp.taken);
    if (pair->apart)
        return pair->alive[node] && pair->publisher_at == node;
    return pair->alive[node] && (pair->hub || (node == 1 ? taken : !taken || !pair->alive[1]));
}

// ---- the control planes

static void tell(struct pair *pair, int node, const void *message)
{
    if (pair->alive[node])
        world_tell(&pair->node[node], 0, message);
}

bool pair_serves(const struct pair *pair, int node)
{
    return failover_active(&pair->node[node].workers[0], PAIR_GROUP);
}

static void tell_group(struct pair *pair, int node)
{
    struct msg_group group = {
        .head = {.type = MSG_GROUP, .length = sizeof(group), .id = PAIR_GROUP},
        .term = pair->control[node].term,
        .role = (uint8_t)pair->control[node].role,
        .takeover = 1,
        .home = node == 0};
    if (!pair->apart)
        group.take4 = pair->node[0].config.media4;
    tell(pair, node, &group);
}

static void adopt(struct pair *pair, int node, unsigned viewer, const struct msg_numbers *numbers)
{
    struct msg_session_adopt m = {.head = {.type = MSG_SESSION_ADOPT, .length = sizeof(m)},
                                  .local = pair->node[0].config.media4,
                                  .mac = {2, 0, 0, 0, 0, CLIENT_MAC_LAST}};
    const struct client *client =
        viewer < PAIR_VIEWERS ? &pair->viewer[viewer].client : &pair->publisher;
    m.head.id = client->id;
    m.remote = client->addr;
    if (numbers)
        m.numbers = *numbers;
    if (pair->deaf[node])
        pair->owed[node][viewer] = m;
    else if (client->id && !pair->lost[node]) // it has joined
        tell(pair, node, &m);
}

void pair_hear(struct pair *pair, int node)
{
    pair->deaf[node] = false;
    for (unsigned v = 0; v <= PAIR_VIEWERS; v++) {
        if (pair->owed[node][v].head.id && !pair->lost[node])
            tell(pair, node, &pair->owed[node][v]);
        pair->owed[node][v].head.id = 0;
    }
}

static void copy_session(struct pair *pair, int node, const struct client *client,
                         enum session_role role)
{
    struct client copy = *client; // what it received so far is not forgotten
    srandom(MSG_SLOT(client->id));
    copy.imported = true;
    world_copy(&pair->node[node], &copy, role, STREAM_ID, MSG_SLOT(client->id),
               PROFILE_AEAD_AES_128_GCM, true);
}

// What only the other knows, keys included.
static void import(struct pair *pair, int node)
{
    if (!pair->lost[node] || !pair->publisher.id)
        return;
    pair->lost[node] = false;
    copy_session(pair, node, &pair->publisher, ROLE_PUBLISH);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        copy_session(pair, node, &pair->viewer[v].client, ROLE_PLAY);
    srandom((unsigned)pair->now);
    struct pair_control *c = pair->control;
    memcpy(c[node].numbers, c[OTHER(node)].numbers, sizeof(c[node].numbers));
}

// What the holder says of all sessions, once the two agree who it is.
static void synchronise(struct pair *pair)
{
    int holder = pair->control[0].role == GROUP_ACTIVE ? 0 : 1;
    struct pair_control *from = &pair->control[holder], *to = &pair->control[OTHER(holder)];
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        msg_numbers_merge(&to->numbers[v], &from->numbers[v]);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        adopt(pair, OTHER(holder), v, &to->numbers[v]);
        adopt(pair, holder, v, &from->numbers[v]); // it is known there
    }
    adopt(pair, OTHER(holder), PAIR_VIEWERS, NULL);
}

static bool joined(const struct pair *pair)
{
    return !pair->control_cut && pair->alive[0] && pair->alive[1];
}

static void become(struct pair *pair, int node, enum group_role role, uint32_t term)
{
    struct pair_control *c = &pair->control[node];
    c->role = role;
    c->term = term;
    c->claim = 0;
    tell_group(pair, node);
}

// Of two that serve, the one with the higher term stays; of none, the home begins.
static void agree(struct pair *pair)
{
    struct pair_control *c = pair->control;
    uint32_t term = c[0].term > c[1].term ? c[0].term : c[1].term;
    bool home = c[0].role == c[1].role ? c[0].role == GROUP_STANDBY || c[0].term > c[1].term
                                       : c[0].role == GROUP_ACTIVE;
    if (home || !(term & 1)) // as controlplane/replicate_groups.c
        term = msg_next_term(term, home);
    become(pair, 0, home ? GROUP_ACTIVE : GROUP_STANDBY, term);
    become(pair, 1, home ? GROUP_STANDBY : GROUP_ACTIVE, term);
    import(pair, 0);
    import(pair, 1);
    synchronise(pair);
}

// New numbers of a viewer: the holder waits for the other's word before it uses them.
static void on_numbers(struct pair *pair, int node, const struct msg_session_numbers *m)
{
    struct pair_control *c = &pair->control[node], *other = &pair->control[OTHER(node)];
    unsigned viewer = 0;
    while (viewer < PAIR_VIEWERS && pair->viewer[viewer].client.id != m->head.id)
        viewer++;
    if (viewer == PAIR_VIEWERS)
        return;
    if (msg_numbers_merge(&c->numbers[viewer], &m->numbers))
        adopt(pair, node, viewer, &c->numbers[viewer]);
    if (!joined(pair) || c->role != GROUP_ACTIVE)
        return;
    if (other->role == GROUP_STANDBY) {
        msg_numbers_merge(&other->numbers[viewer], &c->numbers[viewer]);
        adopt(pair, OTHER(node), viewer, &other->numbers[viewer]);
    }
    if (!c->claim)
        adopt(pair, node, viewer, &c->numbers[viewer]);
}

static void on_seized(struct pair *pair, int node, const struct msg_group_state *m)
{
    struct pair_control *c = &pair->control[node], *other = &pair->control[OTHER(node)];
    if (m->term <= c->term)
        return;
    c->term = m->term;
    c->role = GROUP_ACTIVE;
    if (joined(pair) && other->role == GROUP_ACTIVE)
        other->claim = c->claim = m->term;
}

// The path of a session that the other serves is the other's.
static void on_path(struct pair *pair, int node, const struct msg_session_path *m)
{
    if (pair->control[node].role != GROUP_ACTIVE)
        return;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        if (pair->viewer[v].client.id == m->head.id)
            pair->control[node].path[v] = *m;
}

static void serve_control(struct pair *pair, int node)
{
    const struct msg_head *head;
    uint64_t invalid = 0;
    struct world *world = &pair->node[node];
    while ((head = channel_peek(&world->control, 1, &invalid))) {
        if (head->type == MSG_SESSION_NUMBERS)
            on_numbers(pair, node, (const struct msg_session_numbers *)head);
        else if (head->type == MSG_GROUP_STATE)
            on_seized(pair, node, (const struct msg_group_state *)head);
        else if (head->type == MSG_SESSION_PATH)
            on_path(pair, node, (const struct msg_session_path *)head);
        channel_release(&world->control, 1);
    }
}

static bool sees(const struct pair *pair, int node)
{
    return pair->node[node].workers[0].watches[0].bfd.state == BFD_UP;
}

bool pair_hand_over(struct pair *pair, int to)
{
    struct pair_control *c = pair->control;
    if (!joined(pair) || !sees(pair, OTHER(to)) || c[to].role == GROUP_ACTIVE ||
        c[OTHER(to)].role != GROUP_ACTIVE)
        return false;
    uint32_t term = msg_next_term(c[OTHER(to)].term, to == 0);
    synchronise(pair);
    pair_turn(pair);
    become(pair, to, GROUP_ACTIVE, term); // first the one, then the other: nothing is lost
    pair_turn(pair);
    become(pair, OTHER(to), GROUP_STANDBY, term);
    synchronise(pair);
    pair_turn(pair);
    return true;
}

static void introduce(struct pair *pair, int node)
{
    int other = OTHER(node);
    struct msg_peer peer = {.head = {.type = MSG_PEER, .length = sizeof(peer), .id = 1},
                            .remote4 = pair->node[other].config.media4,
                            .workers = 1,
                            .present = 1,
                            .bfd_tx_us = 10000,
                            .bfd_rx_us = 10000,
                            .bfd_multiplier = 3};
    for (int i = 0; i < MSG_TRUNK_KEY; i++) {
        peer.local[i] = (uint8_t)(node * 50 + i);
        peer.remote[i] = (uint8_t)(other * 50 + i);
    }
    memcpy(peer.local, &pair->round, sizeof(pair->round));
    memcpy(peer.remote, &pair->round, sizeof(pair->round));
    tell(pair, node, &peer);
}

static void open_stream(struct pair *pair, int node)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 2,
        .group = PAIR_GROUP,
        .peers = 1,
        .trunk_id = PAIR_TRUNK,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    tell(pair, node, &open);
}

// Both are there and can talk: fresh trunk keys, and one of them serves.
static void meet(struct pair *pair)
{
    pair->round++;
    for (int n = 0; n < 2; n++)
        introduce(pair, n);
    agree(pair);
}

// ---- time

void pair_turn(struct pair *pair)
{
    for (int n = 0; n < 2; n++) {
        if (!pair->alive[n])
            continue;
        struct world *world = &pair->node[n];
        world->now_ns = pair->now;
        world_turn(world);
        for (unsigned i = 0; i < world->out_count; i++)
            deliver(pair, n, &world->out[i]);
        world->out_count = 0;
    }
    for (int n = 0; n < 2; n++)
        if (pair->alive[n])
            serve_control(pair, n);
    bool claimed = pair->control[0].claim || pair->control[1].claim;
    bool both = pair->control[0].role == GROUP_ACTIVE && pair->control[1].role == GROUP_ACTIVE;
    bool seen = sees(pair, 0) && sees(pair, 1), again = joined(pair) && !pair->connected;
    pair->connected = joined(pair);
    if (again && both && !seen)
        pair->control[0].claim = pair->control[1].claim =
            RTE_MAX(pair->control[0].term, pair->control[1].term);
    else if (again || (joined(pair) && (claimed || both) && seen))
        meet(pair);
}

void pair_pass(struct pair *pair, uint64_t ms)
{
    for (uint64_t i = 0; i < ms * 2; i++) {
        pair->now += MS / 2;
        pair_turn(pair);
    }
}

void pair_publish(struct pair *pair, bool keyframe)
{
    uint8_t wire[1600], body[300];
    uint64_t index = ++pair->published;
    memset(body, (int)index, sizeof(body));
    size_t size = world_seal(&pair->node[0], &pair->publisher, VIDEO_SSRC, index, keyframe, body,
                             sizeof(body), wire);
    for (int n = 0; n < 2; n++)
        if (has_address(pair, n))
            world_inject(&pair->node[n], 0, &pair->publisher.addr, 7000, wire, size);
    pair->now += MS;
    pair_turn(pair);
}

void pair_nack(struct pair *pair, unsigned viewer, uint16_t seq, int node)
{
    struct client *client = &pair->viewer[viewer].client;
    uint8_t packet[512];
    size_t size, length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 400, length, 1, client->rtp[0].ssrc, &seq, 1);
    if (protect_rtcp_seal(pair->node[0].crypto, &client->rtcp_tx, packet, length,
                          ++client->rtcp_index, &size))
        return;
    for (int n = 0; n < 2; n++)
        if (node == n ? pair->alive[n] : node < 0 && has_address(pair, n))
            world_inject(&pair->node[n], 0, &client->addr, 7000, packet, size);
}

// ---- death and return

void pair_kill(struct pair *pair, int node)
{
    pair->alive[node] = false;
    if (pair->control[OTHER(node)].claim)
        pair->control[OTHER(node)].claim = 0;
}

// Its successor maps the same table, and knows of nobody and serves nothing until it is told.
static void start_anew(struct pair *pair, int node)
{
    struct dataplane *dp = &pair->node[node].dp;
    atomic_store(&dp->active_groups, 0);
    atomic_store(&dp->taken, 0);
    atomic_store(&dp->given, true);
    for (int g = 0; g < MSG_GROUPS; g++) {
        atomic_store(&dp->term[g], 0);
        atomic_store(&dp->seized[g], 0);
    }
    pair->node[node].now_ns = pair->now;
    world_restart(&pair->node[node]);
    // Ring ports have no link addresses of their own.
    memcpy(pair->node[node].workers[0].self.mac, &dp->port.mac, 6);
    pair->alive[node] = true;
    struct rte_mbuf *old; // what came while nobody was there
    char name[16];
    snprintf(name, sizeof(name), "node%c_rx_0", 'a' + node);
    while (rte_ring_dequeue(rte_ring_lookup(name), (void **)&old) == 0)
        rte_pktmbuf_free(old);
}

void pair_lose(struct pair *pair, int node)
{
    pair_kill(pair, node);
    pair->lost[node] = true;
}

// As if there had been no table to adopt.
static void forget(struct pair *pair, int node)
{
    struct msg_head close = {
        .type = MSG_STREAM_CLOSE, .length = sizeof(struct msg_stream_close), .id = STREAM_ID};
    world_leave(&pair->node[node], &pair->publisher);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        world_leave(&pair->node[node], &pair->viewer[v].client);
    tell(pair, node, &close);
    world_turn(&pair->node[node]);
    pair->node[node].out_count = 0;
    memset(pair->control[node].numbers, 0, sizeof(pair->control[node].numbers));
    pair->control[node].term = 1;
}

void pair_crash(struct pair *pair, int node)
{
    start_anew(pair, node);
    tell_group(pair, node); // its control plane lives
    open_stream(pair, node);
    pair->round++;
    introduce(pair, node);
    if (joined(pair))
        introduce(pair, OTHER(node));
}

void pair_revive(struct pair *pair, int node)
{
    pair->control[node].role = GROUP_STANDBY; // until it has heard the other
    pair->connected = false;
    start_anew(pair, node);
    if (pair->lost[node])
        forget(pair, node);
    open_stream(pair, node);
    if (joined(pair))
        return; // they meet at the next turn
    tell_group(pair, node);
    pair->round++; // keys of its own that the other has not got; BFD needs none
    introduce(pair, node);
}

// ---- beginning and end

static void name_ports(struct pair *pair)
{
    for (int n = 0; n < 2; n++) {
        uint8_t mac[6] = {2, 0, 0, 0, 0, (uint8_t)(n + 1)};
        memcpy(&pair->node[n].dp.port.mac, mac, 6);
        memcpy(pair->node[n].workers[0].self.mac, mac, 6);
    }
}

static int start_nodes(struct pair *pair)
{
    struct abi_config config = {.workers = 1,
                                .max_sessions = 16,
                                .rx_mbufs = 4096,
                                .tx_mbufs = 4096,
                                .cache_mbufs = 2048,
                                .own_l3 = 1,
                                .bfd = 1,
                                .media4 = {.ip = {10, 9, 0, 1}, .port = 7000, .family = 4}};
    struct abi_addr a = config.media4, b = config.media4;
    b.ip[3] = 2;
    snprintf(config.device, sizeof(config.device), "nodea");
    if (!pair->apart)
        config.take4 = b;
    if (world_start(&pair->node[0], &config))
        return -1;
    snprintf(config.device, sizeof(config.device), "nodeb");
    config.media4 = b;
    if (!pair->apart)
        config.take4 = a;
    if (world_start_node(&pair->node[1], &config))
        return -1;
    name_ports(pair);
    return 0;
}

// The same session on both nodes, with the same keys.
static void join(struct pair *pair, struct client *client, enum session_role role, uint32_t slot)
{
    client->group = PAIR_GROUP;
    srandom(slot);
    world_join(&pair->node[0], client, role, STREAM_ID, 0, slot, PROFILE_AEAD_AES_128_GCM, true);
    srandom(slot);
    world_copy(&pair->node[1], client, role, STREAM_ID, slot, PROFILE_AEAD_AES_128_GCM, true);
}

int pair_start(struct pair *pair, bool apart)
{
    memset(pair, 0, sizeof(*pair));
    pair->apart = apart;
    pair->now = 1000 * MS;
    if (start_nodes(pair))
        return -1;
    pair->alive[0] = pair->alive[1] = true;
    for (int n = 0; n < 2; n++)
        pair->control[n] = (struct pair_control){.term = 1, .role = GROUP_STANDBY};
    for (int n = 0; n < 2; n++)
        open_stream(pair, n);
    meet(pair);
    pair_pass(pair, 3000);
    join(pair, &pair->publisher, ROLE_PUBLISH, 1);
    for (uint32_t v = 0; v < PAIR_VIEWERS; v++)
        join(pair, &pair->viewer[v].client, ROLE_PLAY, 2 + v);
    pair_pass(pair, 10);
    synchronise(pair);
    pair_turn(pair);
    return sees(pair, 0) && sees(pair, 1) && pair_serves(pair, 0) ? 0 : -1;
}

void pair_stop(struct pair *pair)
{
    world_stop_node(&pair->node[1]);
    world_stop(&pair->node[0]);
    protect_audit_reset();
}
