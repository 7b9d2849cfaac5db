#include "../../dataplane/protect_audit.h"
#include "pair_inside.h"
#include <stdio.h>
#include <stdlib.h>

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
            pair_deliver(pair, n, &world->out[i]);
        world->out_count = 0;
    }
    for (int n = 0; n < 2; n++)
        if (pair->alive[n])
            pair_serve_control(pair, n);
    bool claimed = pair->control[0].claim || pair->control[1].claim;
    bool both = pair->control[0].role == GROUP_ACTIVE && pair->control[1].role == GROUP_ACTIVE;
    bool seen = pair_sees(pair, 0) && pair_sees(pair, 1),
         again = pair_joined(pair) && !pair->connected;
    pair->connected = pair_joined(pair);
    if (again && both && !seen)
        pair->control[0].claim = pair->control[1].claim =
            RTE_MAX(pair->control[0].term, pair->control[1].term);
    else if (again || (pair_joined(pair) && (claimed || both) && seen))
        pair_meet(pair);
}

void pair_pass(struct pair *pair, uint64_t ms)
{
    for (uint64_t i = 0; i < ms * 2; i++) {
        pair->now += MS / 2;
        pair_turn(pair);
    }
}

static void publish(struct pair *pair, uint32_t ssrc, uint64_t index, bool keyframe)
{
    uint8_t wire[1600], body[300];
    memset(body, (int)index, sizeof(body));
    size_t size = world_seal(&pair->node[0], &pair->publisher, ssrc, index, keyframe, body,
                             sizeof(body), wire);
    for (int n = 0; n < 2; n++)
        if (pair_has_address(pair, n))
            world_inject(&pair->node[n], 0, &pair->publisher.addr, 7000, wire, size);
    pair->now += MS;
    pair_turn(pair);
}

void pair_publish(struct pair *pair, bool keyframe)
{
    publish(pair, VIDEO_SSRC, ++pair->published, keyframe);
}

void pair_speak(struct pair *pair)
{
    publish(pair, AUDIO_SSRC, ++pair->spoken, false);
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
        if (node == n ? pair->alive[n] : node < 0 && pair_has_address(pair, n))
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
    pair_tell(pair, node, &close);
    world_turn(&pair->node[node]);
    pair->node[node].out_count = 0;
    memset(pair->control[node].numbers, 0, sizeof(pair->control[node].numbers));
    pair->control[node].term = 1;
}

void pair_crash(struct pair *pair, int node)
{
    start_anew(pair, node);
    pair_tell_group(pair, node); // its control plane lives
    pair_open_stream(pair, node);
    pair->round++;
    pair_introduce(pair, node);
    if (pair_joined(pair))
        pair_introduce(pair, OTHER(node));
}

void pair_revive(struct pair *pair, int node)
{
    pair->control[node].role = GROUP_STANDBY; // until it has heard the other
    pair->connected = false;
    start_anew(pair, node);
    if (pair->lost[node])
        forget(pair, node);
    pair_open_stream(pair, node);
    if (pair_joined(pair))
        return; // they meet at the next turn
    pair_tell_group(pair, node);
    pair->round++; // keys of its own that the other has not got; BFD needs none
    pair_introduce(pair, node);
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
    srandom(pair_seed(pair, slot));
    world_join(&pair->node[0], client, role, STREAM_ID, 0, slot, PROFILE_AEAD_AES_128_GCM, true);
    srandom(pair_seed(pair, slot));
    world_copy(&pair->node[1], client, role, STREAM_ID, slot, PROFILE_AEAD_AES_128_GCM, true);
}

static uint64_t *rtx_index(struct pair *pair, int node, const struct client *client)
{
    struct tables *tables = &pair->node[node].workers[0].tables;
    struct session *session = tables_session(tables, client->id);
    return &tables_sender(tables, session)->sub[0].rtx_index;
}

void pair_join_alone(struct pair *pair, unsigned viewer)
{
    struct pair_viewer *v = &pair->viewer[viewer];
    uint32_t slot = 2 + viewer;
    for (int n = 0; n < 2; n++) {
        world_leave(&pair->node[n], &v->client);
        memset(&pair->control[n].numbers[viewer], 0, sizeof(pair->control[n].numbers[viewer]));
    }
    *v = (struct pair_viewer){.joins = (uint8_t)(v->joins + 1)};
    srandom(pair_seed(pair, slot));
    world_join(&pair->node[0], &v->client, ROLE_PLAY, STREAM_ID, 0, slot, PROFILE_AEAD_AES_128_GCM,
               true);
    v->first_rtx = *rtx_index(pair, 0, &v->client);
}

void pair_protect(struct pair *pair, unsigned viewer)
{
    struct pair_viewer *v = &pair->viewer[viewer];
    v->client.group = PAIR_GROUP;
    for (int n = 0; n < 2; n++)
        pair_copy_session(pair, n, &v->client, ROLE_PLAY); // keys that are there stay as they are
    // Each node draws lots where to begin: the worst that may come of it.
    *rtx_index(pair, 1, &v->client) = v->first_rtx;
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
        pair_open_stream(pair, n);
    pair_meet(pair);
    pair_pass(pair, 3000);
    join(pair, &pair->publisher, ROLE_PUBLISH, 1);
    for (uint32_t v = 0; v < PAIR_VIEWERS; v++)
        join(pair, &pair->viewer[v].client, ROLE_PLAY, 2 + v);
    pair_pass(pair, 10);
    pair_synchronise(pair);
    pair_turn(pair);
    return pair_sees(pair, 0) && pair_sees(pair, 1) && pair_serves(pair, 0) ? 0 : -1;
}

void pair_stop(struct pair *pair)
{
    world_stop_node(&pair->node[1]);
    world_stop(&pair->node[0]);
    protect_audit_reset();
}
