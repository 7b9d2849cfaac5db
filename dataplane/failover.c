#include "failover.h"
#include "ingest.h"
#include "trunk.h"
#include <rte_random.h>

#define QUESTION_NS 100000000 // how often neighbours are asked, where no kernel does it
#define ANNOUNCEMENTS 3       // of an address taken over
#define ANNOUNCEMENT_NS 100000000
#define BACKLOG_BURSTS 64 // as much as a port's ring holds may have come before a partner's silence
#define BFD_SOURCE_PORT 49152 // RFC 5881 section 4
#define BROADCAST UINT64_C(0xffffffffffff)

static uint64_t mac_word(const uint8_t mac[6])
{
    uint64_t word = 0;
    memcpy(&word, mac, 6);
    return word;
}

// A full channel takes it later: failover_judge sees to that.
static void tell_peer(struct worker *worker, uint8_t number, uint64_t detect_ns)
{
    struct watch *watch = &worker->watches[number];
    struct msg_peer_state message = {
        .head = {.type = MSG_PEER_STATE, .length = sizeof(message), .id = number + 1u},
        .state = watch->bfd.state,
        .diag = watch->bfd.diag,
        .detect_ns = detect_ns};
    watch->detect_ns = detect_ns;
    watch->owed = worker_tell(worker, &message) != 0;
}

static void tell_group(struct worker *worker, uint8_t number)
{
    struct group *group = &worker->groups[number];
    struct msg_group_state message = {
        .head = {.type = MSG_GROUP_STATE, .length = sizeof(message), .id = number},
        .term = atomic_load_explicit(&worker->dp->term[number], memory_order_relaxed),
        .role = GROUP_ACTIVE,
        .switch_ns = group->switch_ns};
    group->owed = worker_tell(worker, &message) != 0;
}

static void set_active(struct dataplane *dp, uint8_t group, uint32_t term, bool active,
                       uint64_t now_ns)
{
    uint32_t bit = 1u << group;
    atomic_store_explicit(&dp->term[group], term, memory_order_relaxed);
    atomic_store_explicit(&dp->active_since[group], now_ns, memory_order_relaxed);
    if (active)
        atomic_fetch_or_explicit(&dp->active_groups, bit, memory_order_release);
    else
        atomic_fetch_and_explicit(&dp->active_groups, ~bit, memory_order_release);
}

static bool has_addresses(const struct msg_group *config)
{
    return config->take4.family || config->take6.family;
}

// The home's addresses go with its group: whoever serves it says on the link that they are here.
static void set_addresses(struct dataplane *dp, struct group *group, bool active)
{
    const struct msg_group *config = &group->config;
    uint32_t bit = 1u << config->head.id;
    bool ours = active && has_addresses(config);
    group->announcements = ours ? ANNOUNCEMENTS : 0;
    group->announced_ns = 0;
    if (ours && !config->home)
        atomic_fetch_or(&dp->taken, bit);
    else
        atomic_fetch_and(&dp->taken, ~bit);
    if (config->home)
        atomic_store(&dp->given, has_addresses(config) && !active);
}

static void note_sight(struct worker *worker, uint8_t group)
{
    const struct msg_group *config = &worker->groups[group].config;
    const struct watch *watch = &worker->watches[config->peer];
    _Atomic uint64_t *since = &worker->dp->sight_since[group];
    const struct bfd_config *bfd = &watch->bfd.config;
    uint64_t blind_ns = UINT64_C(1000) * bfd->multiplier * RTE_MAX(bfd->min_rx_us, bfd->min_tx_us);
    if (!watch->present || watch->told != BFD_UP || blind_ns > INGEST_UNSEEN_NS)
        atomic_store_explicit(since, 0, memory_order_relaxed);
    else if (!atomic_load_explicit(since, memory_order_relaxed))
        atomic_store_explicit(since, worker->now_ns, memory_order_relaxed);
}

void failover_group(struct worker *worker, const struct msg_group *message)
{
    uint8_t number = (uint8_t)message->head.id;
    struct dataplane *dp = worker->dp;
    worker->told_term[number] = message->term;
    worker->told_active[number] = message->role == GROUP_ACTIVE;
    if (worker->id != 0)
        return;
    struct group *group = &worker->groups[number];
    // Older than what failure detection has decided since.
    if (message->term < atomic_load_explicit(&dp->term[number], memory_order_relaxed))
        return;
    bool active = message->role == GROUP_ACTIVE;
    group->config = *message;
    note_sight(worker, number);
    group->owed = false; // it knows more than we had to tell
    set_addresses(dp, group, active);
    set_active(dp, number, message->term, active, worker->now_ns);
}

// The partner is gone: what it served is ours from the next packet on.
static void take_over(struct worker *worker, uint8_t peer, uint64_t heard_ns)
{
    struct dataplane *dp = worker->dp;
    for (uint8_t g = 1; g < MSG_GROUPS; g++) {
        struct group *group = &worker->groups[g];
        if (!group->config.takeover || group->config.peer != peer ||
            (atomic_load(&dp->active_groups) >> g & 1))
            continue;
        uint64_t start = rte_rdtsc_precise();
        uint32_t term = msg_next_term(atomic_load(&dp->term[g]), group->config.home);
        atomic_store_explicit(&dp->seized[g], term, memory_order_relaxed);
        atomic_store_explicit(&dp->unserved_since[g], heard_ns, memory_order_relaxed);
        set_active(dp, g, term, true, worker->now_ns);
        set_addresses(dp, group, true);
        uint64_t cycles = rte_rdtsc_precise() - start;
        group->switch_ns = cycles * 1000000000 / rte_get_tsc_hz();
        tell_group(worker, g);
    }
}

static void watch_peer(struct worker *worker, uint8_t number, const struct msg_peer *message)
{
    struct watch *watch = &worker->watches[number];
    struct bfd_config config = {.my_discriminator = 0x686c0000u | number,
                                .min_tx_us = message->bfd_tx_us,
                                .min_rx_us = message->bfd_rx_us,
                                .multiplier = message->bfd_multiplier,
                                .min_ttl = message->multihop ? 1 : 255,
                                .key_id = 1,
                                .key_length = message->bfd_key_length};
    memcpy(config.key, message->bfd_key, sizeof(config.key));
    if (!message->present) {
        watch->present = false;
        return;
    }
    // New trunk keys alone must not look like a failure.
    if (watch->present && memcmp(&config, &watch->bfd.config, sizeof(config)) == 0) {
        tell_peer(worker, number, 0); // the control plane may have started anew
        return;
    }
    watch->present = true;
    watch->multihop = message->multihop;
    watch->told = BFD_DOWN;
    bfd_init(&watch->bfd, &config, rte_rand(), worker->now_ns);
}

void failover_peer(struct worker *worker, const struct msg_peer *message)
{
    uint8_t number = (uint8_t)(message->head.id - 1);
    trunk_set_peer(worker, number, message);
    if (worker->id == 0)
        watch_peer(worker, number, message);
}

void failover_bfd(struct worker *worker, const uint8_t *frame, const struct parsed *parsed)
{
    const uint8_t *payload = frame + parsed->payload;
    uint32_t wanted = bfd_your_discriminator(payload, parsed->length);
    for (uint8_t p = 0; p < MSG_PEERS; p++) {
        struct watch *watch = &worker->watches[p];
        const struct peer *peer = &worker->peers[p];
        const struct abi_addr *remote = parsed->src.family == 4 ? &peer->remote4 : &peer->remote6;
        if (!watch->present || remote->family != parsed->src.family ||
            memcmp(remote->ip, parsed->src.ip, sizeof(remote->ip)) != 0 ||
            (wanted && wanted != watch->bfd.config.my_discriminator))
            continue;
        enum bfd_verdict verdict =
            bfd_receive(&watch->bfd, payload, parsed->length, parsed->ttl, worker->now_ns);
        if (verdict != BFD_TAKEN)
            worker_drop(worker, verdict == BFD_WRONG_TTL   ? DROP_bfd_ttl
                                : verdict == BFD_WRONG_KEY ? DROP_bfd_auth
                                                           : DROP_bfd_malformed);
        else if (!worker->dp->config->own_l3 || !atomic_load(&worker->dp->peer_mac[p]))
            atomic_store(&worker->dp->peer_mac[p], mac_word(frame + 6));
        return;
    }
    worker_drop(worker, DROP_bfd_unknown);
}

// The next hop towards a partner: by ARP or ND of our own, or learnt from its BFD packets; until
// then everybody on the link is addressed, for a partner that shares it.
static void resolve_peers(struct worker *worker)
{
    for (uint8_t p = 0; p < MSG_PEERS; p++) {
        const struct peer *peer = &worker->peers[p];
        const struct abi_addr *remote = peer->remote4.family ? &peer->remote4 : &peer->remote6;
        uint8_t mac[6];
        if (!peer->present || !worker->dp->config->own_l3)
            continue;
        if (neigh_next_hop(&worker->self, worker->neigh, worker->now_ns, remote->ip, remote->family,
                           mac) == 0)
            atomic_store(&worker->dp->peer_mac[p], mac_word(mac));
    }
}

static void send_frame(struct worker *worker, const uint8_t *frame, size_t length)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.tx);
    if (!m) {
        worker_drop(worker, DROP_no_mbuf);
        return;
    }
    memcpy(rte_pktmbuf_append(m, (uint16_t)length), frame, length);
    worker_send(worker, m);
}

static void ask_neighbors(struct worker *worker)
{
    uint8_t frame[NEIGH_FRAME_MAX];
    size_t length;
    // A question tells the whole link where its sender is, too.
    if (!worker->dp->config->own_l3 || atomic_load(&worker->dp->given) ||
        worker->now_ns - worker->question_ns < QUESTION_NS)
        return;
    worker->question_ns = worker->now_ns;
    resolve_peers(worker);
    while ((length =
                neigh_question(&worker->self, worker->neigh, worker->now_ns, frame, sizeof(frame))))
        send_frame(worker, frame, length);
}

static void send_bfd(struct worker *worker, uint8_t number)
{
    struct watch *watch = &worker->watches[number];
    const struct peer *peer = &worker->peers[number];
    uint8_t packet[BFD_PACKET_MAX], buffer[FRAME_HEADERS_MAX + BFD_PACKET_MAX];
    size_t size = bfd_transmit(&watch->bfd, worker->now_ns, packet);
    if (!size)
        return;
    struct frame_path path = {.vlan = worker->dp->config->vlan, .ttl = 255, .dscp = 48};
    path.dst = peer->remote4.family ? peer->remote4 : peer->remote6;
    path.src = *failover_local(worker, &path.dst);
    path.src.port = BFD_SOURCE_PORT + number;
    path.dst.port = watch->multihop ? UDP_PORT_BFD_MULTIHOP : UDP_PORT_BFD;
    uint64_t mac = atomic_load(&worker->dp->peer_mac[number]);
    if (!mac)
        mac = BROADCAST;
    memcpy(path.dst_mac, &mac, 6);
    memcpy(path.src_mac, &worker->dp->port.mac, 6);
    struct frame_template t;
    frame_template_init(&t, &path);
    memcpy(buffer + t.length, packet, size);
    frame_write(&t, buffer, size, FRAME_OFFLOAD_NONE);
    send_frame(worker, buffer, t.length + size);
    worker_flush(worker); // a turn may be long, and the partner waits for this one
}

// Whether a partner that was up, and is not now, is to be replaced. One that we do not hear is; one
// that goes down on purpose hands over in another way; and without a link it is us who are away.
// One that does not hear us lives: it answers at once, and is up again with its next packet. But if
// it dies before, BFD does not say so, because it is slow while it is down (RFC 5880 6.8.3): so it
// is given three times the detection time.
static bool is_lost(struct worker *worker, struct watch *watch)
{
    const struct bfd *bfd = &watch->bfd;
    uint64_t patience = UINT64_C(3000) * bfd->config.multiplier * bfd->config.min_rx_us;
    if (watch->fell_ns == 0)
        return false;
    if (bfd->state == BFD_UP || bfd->remote_state == BFD_ADMIN_DOWN) {
        watch->fell_ns = 0;
        return false;
    }
    if (bfd->diag != BFD_DIAG_EXPIRED && worker->now_ns - watch->fell_ns < patience)
        return false;
    watch->fell_ns = 0;
    return port_link_up(&worker->dp->port);
}

static void judge(struct worker *worker, uint8_t number)
{
    struct watch *watch = &worker->watches[number];
    uint64_t heard = watch->bfd.heard_ns;
    bfd_expire(&watch->bfd, worker->now_ns);
    bool down = watch->told == BFD_UP && watch->bfd.state != BFD_UP;
    if (down)
        watch->fell_ns = worker->now_ns;
    if (is_lost(worker, watch))
        take_over(worker, number, heard);
    if (watch->bfd.state == watch->told)
        return;
    watch->told = watch->bfd.state;
    for (uint8_t g = 1; g < MSG_GROUPS; g++)
        if (worker->groups[g].config.head.id && worker->groups[g].config.peer == number)
            note_sight(worker, g);
    tell_peer(worker, number, down ? worker->now_ns - heard : 0);
}

// What found the channel full, as it is now.
static void tell_owed(struct worker *worker)
{
    for (uint8_t p = 0; p < MSG_PEERS; p++)
        if (worker->watches[p].owed)
            tell_peer(worker, p, worker->watches[p].detect_ns);
    for (uint8_t g = 1; g < MSG_GROUPS; g++)
        if (worker->groups[g].owed)
            tell_group(worker, g);
}

void failover_judge(struct worker *worker, bool drained)
{
    worker->undrained = drained ? 0 : worker->undrained + 1;
    if (worker->id != 0 || (worker->undrained && worker->undrained < BACKLOG_BURSTS))
        return;
    for (uint8_t p = 0; p < MSG_PEERS; p++)
        if (worker->watches[p].present)
            judge(worker, p);
    tell_owed(worker);
}

// Makes the neighbourhood send to us what it sent to the partner.
static void announce(struct worker *worker, struct group *group)
{
    const struct abi_addr *addresses[] = {&group->config.take4, &group->config.take6};
    uint8_t frame[NEIGH_FRAME_MAX];
    if (worker->now_ns - group->announced_ns < ANNOUNCEMENT_NS)
        return;
    group->announced_ns = worker->now_ns;
    group->announcements--;
    for (int i = 0; i < 2; i++) {
        size_t length = addresses[i]->family ? neigh_build_announcement(&worker->self, addresses[i],
                                                                        frame, sizeof(frame))
                                             : 0;
        if (length)
            send_frame(worker, frame, length);
    }
}

void failover_turn(struct worker *worker)
{
    worker->active_groups =
        atomic_load_explicit(&worker->dp->active_groups, memory_order_acquire) | 1;
    if (worker->id != 0)
        return;
    ask_neighbors(worker);
    for (uint8_t p = 0; p < MSG_PEERS; p++)
        if (worker->watches[p].present)
            send_bfd(worker, p);
    for (uint8_t g = 1; g < MSG_GROUPS; g++)
        if (worker->groups[g].announcements)
            announce(worker, &worker->groups[g]);
}

bool failover_taken(const struct worker *worker, const struct abi_addr *local)
{
    const struct abi_config *config = worker->dp->config;
    const struct abi_addr *take = local->family == 4 ? &config->take4 : &config->take6;
    return atomic_load_explicit(&worker->dp->taken, memory_order_relaxed) &&
           failover_same_host(take, local);
}

bool failover_neighbor(struct worker *worker, uint8_t *frame, size_t *length, size_t room)
{
    if (!atomic_load_explicit(&worker->dp->taken, memory_order_relaxed))
        return false;
    struct neigh_self taken = worker->self;
    taken.ip4 = worker->dp->config->take4;
    taken.ip6 = worker->dp->config->take6;
    return neigh_input(&taken, worker->neigh, worker->now_ns, frame, length, room);
}
