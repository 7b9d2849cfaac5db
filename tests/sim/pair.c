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

struct client pair_client(const struct pair *pair, int node, const struct client *client)
{
    struct client there = *client;
    there.worker = client->home % pair->workers[node];
    return there;
}

struct session *pair_session(const struct pair *pair, int node, const struct client *client)
{
    uint32_t worker = client->home % pair->workers[node];
    return tables_session(&pair->node[node].workers[worker].tables, client->id);
}

uint64_t pair_drops(const struct pair *pair, int node, enum drop what)
{
    uint64_t drops = 0;
    for (unsigned w = 0; w < pair->workers[node]; w++)
        drops += pair->node[node].workers[w].stats->drop[what];
    return drops;
}

// From a client to the address of a's that it knows, or to the node's own. Another worker than its
// own may be the one to find it.
static void inject(struct pair *pair, int node, const struct client *client, const void *data,
                   size_t size)
{
    bool taken = atomic_load(&pair->node[node].dp.taken);
    struct abi_addr to = pair->node[taken ? 0 : node].config.media4;
    to.port = (uint16_t)(to.port + client->home % pair->workers[taken ? 0 : node]);
    world_inject_to(&pair->node[node], 0, &client->addr, &to, data, size);
}

static void publish(struct pair *pair, uint32_t ssrc, uint64_t index, bool keyframe)
{
    uint8_t wire[1600], body[300];
    memset(body, (int)index, sizeof(body));
    size_t size = world_seal(&pair->node[0], &pair->publisher, ssrc, index, keyframe, body,
                             sizeof(body), wire);
    for (int n = 0; n < 2; n++)
        if (pair_has_address(pair, n))
            inject(pair, n, &pair->publisher, wire, size);
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
            inject(pair, n, client, packet, size);
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
    pair->alive[node] = true;
    for (unsigned w = 0; w < pair->workers[node]; w++) {
        // Ring ports have no link addresses of their own.
        memcpy(pair->node[node].workers[w].self.mac, &dp->port.mac, 6);
        struct rte_mbuf *old; // what came while nobody was there
        char name[32];
        snprintf(name, sizeof(name), "node%c_rx_%u", 'a' + node, w);
        while (rte_ring_dequeue(rte_ring_lookup(name), (void **)&old) == 0)
            rte_pktmbuf_free(old);
    }
}

void pair_lose(struct pair *pair, int node)
{
    pair_kill(pair, node);
    pair->lost[node] = true;
}

static void leave(struct pair *pair, int node, const struct client *client)
{
    struct client there = pair_client(pair, node, client);
    world_leave(&pair->node[node], &there);
}

// As if there had been no table to adopt.
static void forget(struct pair *pair, int node)
{
    struct msg_head close = {
        .type = MSG_STREAM_CLOSE, .length = sizeof(struct msg_stream_close), .id = STREAM_ID};
    leave(pair, node, &pair->publisher);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        leave(pair, node, &pair->viewer[v].client);
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
        for (unsigned w = 0; w < pair->workers[n]; w++)
            memcpy(pair->node[n].workers[w].self.mac, mac, 6);
    }
}

static int start_nodes(struct pair *pair)
{
    uint32_t workers = RTE_MAX(pair->workers[0], pair->workers[1]);
    struct abi_config config = {.workers = workers,
                                .max_sessions = 16,
                                .rx_mbufs = 4096 / workers,
                                .tx_mbufs = 4096 / workers,
                                .cache_mbufs = 2048,
                                .own_l3 = 1,
                                .bfd = 1,
                                .media4 = {.ip = {10, 9, 0, 1}, .port = 7000, .family = 4}};
    struct abi_addr a = config.media4, b = config.media4;
    b.ip[3] = 2;
    if (world_start_eal(&config))
        return -1;
    config.workers = pair->workers[0];
    snprintf(config.device, sizeof(config.device), "nodea");
    if (!pair->apart)
        config.take4 = b;
    if (world_start_node(&pair->node[0], &config))
        return -1;
    config.workers = pair->workers[1];
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
    world_join(&pair->node[0], client, role, STREAM_ID, slot % pair->workers[0], slot,
               PROFILE_AEAD_AES_128_GCM, true);
    struct client copy = pair_client(pair, 1, client);
    srandom(pair_seed(pair, slot));
    world_copy(&pair->node[1], &copy, role, STREAM_ID, slot, PROFILE_AEAD_AES_128_GCM, true);
}

static uint64_t *rtx_index(struct pair *pair, int node, const struct client *client)
{
    struct tables *tables = &pair->node[node].workers[client->home % pair->workers[node]].tables;
    return &tables_sender(tables, pair_session(pair, node, client))->sub[0].rtx_index;
}

void pair_join_alone(struct pair *pair, unsigned viewer)
{
    struct pair_viewer *v = &pair->viewer[viewer];
    uint32_t slot = 2 + viewer;
    for (int n = 0; n < 2; n++) {
        leave(pair, n, &v->client);
        memset(&pair->control[n].numbers[viewer], 0, sizeof(pair->control[n].numbers[viewer]));
    }
    *v = (struct pair_viewer){.joins = (uint8_t)(v->joins + 1)};
    srandom(pair_seed(pair, slot));
    world_join(&pair->node[0], &v->client, ROLE_PLAY, STREAM_ID, slot % pair->workers[0], slot,
               PROFILE_AEAD_AES_128_GCM, true);
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
    unsigned a = pair->workers[0], b = pair->workers[1];
    memset(pair, 0, sizeof(*pair));
    pair->workers[0] = RTE_MAX(a, 1u);
    pair->workers[1] = RTE_MAX(b, 1u);
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
    join(pair, &pair->publisher, ROLE_PUBLISH, PUBLISHER_SLOT);
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
