// A session's numbers and path between the two nodes: RTX leases, deltas, what a standby adopts
// from the partner and keeps alive; see failover.h.
#include "failover.h"
#include "ice.h"
#include "ingest.h"

#define KEEP_ALIVE_NS 4000000000 // browsers forget a pair after 30 s; measured: 5 s is enough
#ifndef RTX_LEASE                // a test makes them small, to come to their ends
#define RTX_LEASE 4096u          // RTX numbers that are asked for at a time
#define RTX_MARGIN 1024u
#define RTX_RESERVE 8192u // steps over it stay far below 2^15, or receivers lose the rollover count
#endif

void failover_enter_term(struct worker *worker, struct session *session)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    uint32_t term = atomic_load_explicit(&worker->dp->term[sender->group], memory_order_relaxed);
    if (sender->group == 0 || session->term == term)
        return;
    // Home again: the partner may have used its reserve and not told.
    bool back = session->term && !(term & 1);
    session->term = term;
    for (int t = 0; t < session->tracks; t++) {
        uint64_t *limit = &session->rtx_limit[t], *asked = &session->rtx_asked[t];
        uint64_t known = *limit > *asked ? *limit : *asked;
        if (!known)
            continue;
        *limit = *asked = known + (back ? RTX_LEASE + RTX_RESERVE : 0);
        if (sender->sub[t].rtx_index < *limit)
            sender->sub[t].rtx_index = *limit;
    }
}

void failover_regroup(struct worker *worker, struct session *session, uint8_t group)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    if (sender->group == group)
        return;
    bool alone = sender->group == 0;
    sender->group = group;
    session->numbers_told = 0;
    failover_begin_right(worker, session, !alone);
    failover_enter_term(worker, session);
    // No lease bounded its RTX numbers so far, and the partner must not begin below them.
    for (int t = 0; alone && t < session->tracks; t++)
        session->rtx_limit[t] = session->rtx_asked[t] = sender->sub[t].rtx_index;
    if (session->role == ROLE_PLAY && failover_active(worker, group))
        failover_tell_numbers(worker, session);
}

void failover_tell_numbers(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    struct msg_session_numbers message = {
        .head = {.type = MSG_SESSION_NUMBERS, .length = sizeof(message), .id = session->id}};
    for (int t = 0; t < session->tracks; t++) {
        const struct sub *sub = &sender->sub[t];
        if (!sub_numbered(sub) || sub->foreign)
            continue;
        message.numbers.numbered |= (uint8_t)(1u << t);
        message.numbers.delta[t] = sub->delta & INDEX_MASK;
        message.numbers.rtx_limit[t] = session->rtx_asked[t] & INDEX_MASK;
    }
    session->numbers_owed = worker_tell(worker, &message) != 0;
    if (!session->numbers_owed)
        session->numbers_told = message.numbers.numbered;
}

// ---- housekeeping

// A client that has forgotten us (browsers do after 30 s without a packet, and we have booted)
// checks our candidate again once we ask something of it. Whether that comes through is for its
// firewall to say, which lets it if it has not forgotten us, too; and its address is the one that
// the partner sees.
static void seek(struct worker *worker, struct session *session)
{
    const struct abi_addr *remote = &session->paths[session->path].remote;
    uint8_t group = tables_sender(&worker->tables, session)->group;
    uint8_t peer = worker->groups[group].config.peer;
    uint64_t mac = session->next_hop
                       ? session->next_hop
                       : atomic_load_explicit(&worker->dp->peer_mac[peer], memory_order_relaxed);
    if (!session->sought || !mac || worker->now_ns - session->asking_ns < KEEP_ALIVE_NS)
        return;
    struct frame_path path = {.vlan = worker->dp->config->vlan,
                              .ttl = 64,
                              .src = *failover_local(worker, remote),
                              .dst = *remote};
    path.src.port = (uint16_t)(path.src.port + worker->id);
    memcpy(path.src_mac, &worker->dp->port.mac, sizeof(path.src_mac));
    memcpy(path.dst_mac, &mac, sizeof(path.dst_mac));
    struct frame_template frame;
    frame_template_init(&frame, &path);
    ice_ask(worker, session, session->path, &frame);
}

// Shows a standby's address to a client, since browsers forget a silent pair; and the answer proves
// the client's to us before we have to send there.
static void keep_alive(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    if (!sender->frame.length)
        seek(worker, session);
    // An adopted path is the partner's to keep.
    if (session->adopted || !sender->frame.length)
        return;
    session->path_owed = true; // the control plane knows the partner's
    if (session->asked != session->path || worker->now_ns - session->asking_ns >= KEEP_ALIVE_NS)
        ice_ask(worker, session, session->path, &sender->frame);
}

bool failover_tell_owed(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    uint8_t numbered = 0;
    if (sender->group == 0 || !failover_active(worker, sender->group))
        return false;
    for (int t = 0; t < session->tracks; t++)
        numbered |= (uint8_t)((sub_numbered(&sender->sub[t]) && !sender->sub[t].foreign) << t);
    if (!session->numbers_owed && numbered == session->numbers_told)
        return false;
    failover_tell_numbers(worker, session);
    return true;
}

void failover_sweep(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    if (!failover_active(worker, sender->group)) {
        keep_alive(worker, session);
        return;
    }
    if (session->path_owed)
        ice_tell_path(worker, session);
    if (!sender->frame.length)
        seek(worker, session);
    // Its browser may take the partner for nearer, and say nothing more to us.
    if (sender->frame.length && worker->now_ns - session->heard_ns >= KEEP_ALIVE_NS)
        ice_ask(worker, session, session->path, &sender->frame);
    if (session->role == ROLE_PLAY)
        failover_ask_right(worker, session);
    failover_tell_owed(worker, session);
}

bool failover_lease_rtx(struct worker *worker, struct session *session, uint8_t track)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    if (sender->group == 0)
        return true;
    failover_enter_term(worker, session);
    uint64_t next = sender->sub[track].rtx_index;
    uint64_t *limit = &session->rtx_limit[track], *asked = &session->rtx_asked[track];
    uint32_t seized =
        atomic_load_explicit(&worker->dp->seized[sender->group], memory_order_relaxed);
    bool partner = session->term & 1;
    // With nobody to confirm a lease, a partner may use the reserve behind the last limit that both
    // know and the one lease that may have been on its way, once until they know of another: the
    // home node never goes there without its partner's word, and steps over it after that.
    if (partner && seized == session->term && !session->reserved[track] && *limit) {
        session->reserved[track] = true;
        next += RTX_LEASE;
        sender->sub[track].rtx_index = next;
        *limit = *asked = next + RTX_RESERVE;
        failover_tell_numbers(worker, session);
    } else if (next + RTX_MARGIN >= *limit && *asked <= *limit) {
        *asked = next + RTX_LEASE;
        failover_tell_numbers(worker, session);
    }
    return next < *limit;
}

// Whether the group is ours as far as this worker's lane has come: worker 0 may not have read as
// far yet, or failure detection may be further.
static bool is_ours(const struct worker *worker, uint8_t group)
{
    const struct dataplane *dp = worker->dp;
    bool later = atomic_load(&dp->term[group]) > worker->told_term[group];
    return group == 0 ||
           (later ? atomic_load(&dp->active_groups) >> group & 1 : worker->told_active[group]);
}

// Whether a session's local address will be ours when we take the session over: media addresses
// move, and it is one of them. Else the client accepts packets only from the address of ours that
// it has checked.
static bool goes_with_us(const struct worker *worker, const struct abi_addr *local)
{
    const struct abi_config *config = worker->dp->config;
    const struct abi_addr *take = local->family == 4 ? &config->take4 : &config->take6;
    return take->family && (failover_same_host(take, local) ||
                            failover_same_host(failover_local(worker, local), local));
}

// Where the partner has a client that we have no way to. Neighbours of the partner have its next
// hop; else what leads to the partner leads out of our subnet.
static void note_place(struct worker *worker, struct session *session,
                       const struct msg_session_adopt *message)
{
    const struct abi_addr *local = failover_local(worker, &message->remote);
    if (local->family != message->remote.family)
        return;
    session->path =
        tables_validate_path(&worker->tables, session, &message->remote, worker->now_ns);
    session->sought = true;
    session->next_hop = 0;
    if (neigh_on_link(&worker->self, message->local.ip, message->local.family))
        memcpy(&session->next_hop, message->mac, sizeof(message->mac));
}

void failover_adopt(struct worker *worker, const struct msg_session_adopt *message)
{
    struct session *session = tables_session(&worker->tables, message->head.id);
    if (!session)
        return;
    struct sender *sender = tables_sender(&worker->tables, session);
    bool active = is_ours(worker, sender->group);
    for (int t = 0; t < session->tracks; t++) {
        struct sub *sub = &sender->sub[t];
        // The limit that we asked for: the other knows it now. Any other one is how far the other
        // may have gone, be it that we stand by, serve since a moment ago, or both of us serve.
        uint64_t limit = message->numbers.rtx_limit[t];
        if (limit > session->rtx_limit[t]) {
            session->rtx_limit[t] = limit;
            session->reserved[t] = false;
            if (!active || limit != session->rtx_asked[t])
                sub->rtx_index = limit;
        }
        // Who serves has numbers of its own, unless the session is the other's that it never sent.
        if ((active && !sub->foreign) || !(message->numbers.numbered & 1u << t))
            continue;
        // Nor has it a use for those of another space; a standby may only be behind.
        if (!failover_fits(worker, session, t, message->numbers.delta[t]) && active)
            continue;
        sub_number(sub, message->numbers.delta[t]);
        sub->foreign = false;
        sub->keyed = true;
    }
    if ((active && sender->frame.length) || !message->remote.family)
        return;
    if (!goes_with_us(worker, &message->local)) {
        if (!sender->frame.length)
            note_place(worker, session, message);
        return;
    }
    struct frame_path path = {
        .vlan = worker->dp->config->vlan, .ttl = 64, .src = message->local, .dst = message->remote};
    memcpy(path.src_mac, &worker->dp->port.mac, sizeof(path.src_mac));
    memcpy(path.dst_mac, message->mac, sizeof(path.dst_mac));
    frame_template_init(&sender->frame, &path);
    session->path = tables_adopt_path(&worker->tables, session, &message->remote, worker->now_ns);
    sender->proven = true;
    session->wanted = PATH_NONE;
    session->path_owed = false;
    session->adopted = true;
}
