#include "ice.h"
#include "failover.h"

#define ASK_PACE_NS UINT64_C(100000000)  // between two requests of ours to one session
#define ASK_LIFE_NS UINT64_C(2000000000) // a repetition keeps its transaction id for that long
#define PROOF_NS UINT64_C(30000000000)   // consent lasts so long, RFC 7675 5.1
#define MEASURE_NS UINT64_C(5000000000)  // between two looks at a publisher's round trip
#define SILENT_NS UINT64_C(10000000000)  // two of a standby's questions have not been answered
#define HOLD_NS UINT64_C(75000000)       // libwebrtc checks a pair every 48 ms

// The way back is the way it came: no neighbour table to consult or to poison, since the address
// is taken only from an authenticated check.
static void reverse_path(struct worker *worker, const uint8_t *frame, const struct parsed *parsed,
                         struct frame_template *back)
{
    struct frame_path path = {
        .vlan = worker->dp->config->vlan, .ttl = 64, .src = parsed->dst, .dst = parsed->src};
    memcpy(path.src_mac, &worker->dp->port.mac, sizeof(path.src_mac));
    memcpy(path.dst_mac, frame + 6, sizeof(path.dst_mac));
    frame_template_init(back, &path);
}

// Room for a message to the client behind its headers. NULL (counted): none.
static struct rte_mbuf *begin(struct worker *worker, const struct frame_template *to, uint8_t **out,
                              size_t *room)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.tx);
    if (!m) {
        worker_drop(worker, DROP_no_mbuf);
        return NULL;
    }
    *out = rte_pktmbuf_mtod(m, uint8_t *) + to->length;
    *room = rte_pktmbuf_tailroom(m) - to->length;
    return m;
}

static void end(struct worker *worker, const struct frame_template *to, struct rte_mbuf *m,
                size_t length)
{
    worker_finish_frame(worker, to, m, length);
    worker_send(worker, m);
}

static void refuse(struct worker *worker, const struct frame_template *back,
                   const struct stun_msg *request, const struct stun_key *key,
                   enum stun_error error)
{
    uint8_t *out;
    size_t room;
    struct rte_mbuf *m = begin(worker, back, &out, &room);
    if (m)
        end(worker, back, m, stun_write_error(out, room, request, error, key));
}

static void respond(struct worker *worker, const struct frame_template *back,
                    const uint8_t id[STUN_ID_LEN], const struct abi_addr *mapped,
                    const struct stun_key *key)
{
    uint8_t *out;
    size_t room;
    struct rte_mbuf *m = begin(worker, back, &out, &room);
    if (m)
        end(worker, back, m, stun_write_success(out, room, id, mapped, key));
}

// ---- the partner's turn

// Whether the client has to check the partner's candidate, too, because we cannot take each other's
// address; and the partner is there to be checked.
static bool needs_two_ways(const struct worker *worker, uint8_t group, uint8_t family)
{
    const struct dataplane *dp = worker->dp;
    const struct abi_addr *take = family == 4 ? &dp->config->take4 : &dp->config->take6;
    return group && !take->family &&
           atomic_load_explicit(&dp->sight_since[group], memory_order_relaxed);
}

// False: it has to be answered now.
static bool hold(struct worker *worker, const struct session *session, const struct stun_msg *msg,
                 const struct frame_template *back, const struct abi_addr *mapped)
{
    if (worker->held_count == RTE_DIM(worker->held))
        return false;
    struct held_check *held =
        &worker->held[(worker->held_at + worker->held_count++) % RTE_DIM(worker->held)];
    *held = (struct held_check){.session = session->id,
                                .due_ns = worker->now_ns + HOLD_NS,
                                .back = *back,
                                .mapped = *mapped};
    memcpy(held->id, msg->id, sizeof(held->id));
    return true;
}

void ice_answer_held(struct worker *worker)
{
    while (worker->held_count && worker->held[worker->held_at].due_ns <= worker->now_ns) {
        const struct held_check *held = &worker->held[worker->held_at];
        const struct session *session = tables_session(&worker->tables, held->session);
        if (session)
            respond(worker, &held->back, held->id, &held->mapped, &session->ice.local);
        worker->held_at = (worker->held_at + 1) % RTE_DIM(worker->held);
        worker->held_count--;
    }
}

// ---- paths

void ice_tell_path(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    struct msg_session_path message = {
        .head = {.type = MSG_SESSION_PATH, .length = sizeof(message), .id = session->id},
        .remote = session->paths[session->path].remote};
    frame_template_source(&sender->frame, &message.local);
    // The template begins with the next hop's link address.
    memcpy(message.mac, sender->frame.bytes, sizeof(message.mac));
    // Of a session that we stand by for, the control plane keeps the partner's path.
    session->path_owed =
        !failover_active(worker, sender->group) || worker_tell(worker, &message) != 0;
}

// ---- what we ask

// Whose credentials the client knows, so only the id shows that an answer comes from where the
// request went: it must not be guessed. It says which session it is of, in clear.
static void make_id(const struct worker *worker, const struct session *session,
                    uint8_t id[STUN_ID_LEN])
{
    struct {
        uint64_t session, asked_ns;
        struct abi_addr remote;
        uint32_t pad;
    } about = {.session = session->id,
               .asked_ns = session->asked_ns,
               .remote = session->paths[session->asked].remote};
    _Static_assert(sizeof(about) <= STUN_ID_ABOUT && STUN_ID_SECRET + 4 == STUN_ID_LEN, "it fits");
    store_be32(id, tables_slot(&worker->tables, session));
    stun_make_id(&worker->ask_secret, &about, sizeof(about), id + 4);
}

void ice_ask(struct worker *worker, struct session *session, uint8_t path,
             const struct frame_template *to)
{
    const struct session_ice *ice = &session->ice;
    if (worker->now_ns - session->asking_ns < ASK_PACE_NS)
        return;
    session->asking_ns = worker->now_ns;
    session->asked_again = session->asked_ns && session->asked == path &&
                           worker->now_ns - session->asked_ns < ASK_LIFE_NS;
    if (!session->asked_again) {
        session->asked = path;
        session->asked_ns = worker->now_ns;
    }
    char username[MSG_REMOTE_ICE_MAX + 1 + MSG_UFRAG_LEN];
    memcpy(username, ice->remote_ufrag, ice->remote_ufrag_len);
    username[ice->remote_ufrag_len] = ':';
    memcpy(username + ice->remote_ufrag_len + 1, ice->ufrag, MSG_UFRAG_LEN);
    struct stun_check check = {.username = username,
                               .username_length = ice->remote_ufrag_len + 1u + MSG_UFRAG_LEN,
                               .priority = 1,
                               .role = STUN_ROLE_CONTROLLED,
                               .tiebreaker = session->id};
    make_id(worker, session, check.id);
    uint8_t *out;
    size_t room;
    struct rte_mbuf *m = begin(worker, to, &out, &room);
    if (m)
        end(worker, to, m, stun_write_request(out, room, &check, &ice->remote));
}

// ---- what we are told

static void use_path(struct worker *worker, struct session *session, uint8_t path,
                     const struct frame_template *back)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    session->path = path;
    session->wanted = PATH_NONE;
    sender->frame = *back;
    sender->proven = session->paths[path].proven_ns != 0;
    ice_tell_path(worker, session);
}

void ice_measure(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    bool due = !session->asking_ns || worker->now_ns - session->asking_ns >= MEASURE_NS;
    if (due && sender->proven && session->wanted == PATH_NONE)
        ice_ask(worker, session, session->path, &sender->frame);
}

// Smoothed as RFC 6298 has it. What was asked twice may be the answer to either (Karn).
static void note_round_trip(const struct worker *worker, struct session *session)
{
    uint64_t rtt_us = (worker->now_ns - session->asked_ns) / 1000;
    if (session->role != ROLE_PUBLISH || session->asked != session->path || session->asked_again)
        return;
    session->rtt_us =
        (uint32_t)(session->rtt_us ? (session->rtt_us * UINT64_C(7) + rtt_us) / 8 : rtt_us + 1);
}

void ice_keyed(struct worker *worker, struct session *session)
{
    // Nobody makes keys who has not had what we sent; and since we began to send, media's way has
    // been bound to this address.
    if (!session->dtls_sent)
        return;
    tables_prove_path(&worker->tables, session, session->path, worker->now_ns);
    tables_sender(&worker->tables, session)->proven = true;
    if (session->role == ROLE_PUBLISH)
        ice_measure(worker, session);
}

// Whether it is sealed with that key; else it is counted.
static bool is_intact(struct worker *worker, const struct stun_msg *msg, const struct stun_key *key)
{
    if (stun_check_fingerprint(msg) && stun_check_integrity(msg, key))
        return true;
    worker_drop(worker, DROP_stun_bad_integrity);
    return false;
}

// The session that the check authenticates for, or NULL (counted).
static struct session *authenticate(struct worker *worker, const struct stun_msg *msg)
{
    const char *receiver, *sender;
    size_t receiver_length, sender_length;
    struct session *session = NULL;
    if (stun_split_username(msg, &receiver, &receiver_length, &sender, &sender_length) &&
        receiver_length == MSG_UFRAG_LEN)
        session = tables_by_ufrag(&worker->tables, receiver);
    if (!session) {
        worker_drop(worker, DROP_stun_unknown_user);
        return NULL;
    }
    return is_intact(worker, msg, &session->ice.local) ? session : NULL;
}

// Whether a client that we stand by for may have moved to this path: it was never seen there, or it
// is silent where it was.
static bool may_have_moved(const struct worker *worker, const struct session *session, uint8_t path)
{
    return !session->paths[path].proven_ns ||
           worker->now_ns - session->paths[session->path].proven_ns >= SILENT_NS;
}

// An authenticated check says where the client is. The first valid pair serves until the client
// nominates one (RFC 8445 7.3.1.5). What has been asked of an address must come back from there
// before media goes to it: its sender may have written any source address.
static void follow(struct worker *worker, struct session *session, const struct stun_msg *msg,
                   const struct frame_template *back, const struct parsed *parsed)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    uint8_t path = tables_validate_path(&worker->tables, session, &parsed->src, worker->now_ns);
    bool ours = failover_active(worker, sender->group), keyed = session->state == SESSION_KEYED;
    // The partner's way goes with its address.
    if (!ours && session->adopted)
        return;
    uint64_t proven_ns = session->paths[path].proven_ns;
    bool first = sender->frame.length == 0;
    bool may_move = proven_ns ? worker->now_ns - proven_ns < PROOF_NS
                              : !keyed && !session->dtls_sent; // nothing to be sent there yet
    if (first || (path != session->path && msg->use_candidate && may_move)) {
        use_path(worker, session, path, back);
    } else if (path == session->path) {
        sender->frame = *back;
        if (msg->use_candidate)
            session->wanted = PATH_NONE;
    } else if (msg->use_candidate || (!ours && may_have_moved(worker, session, path))) {
        session->wanted = path;
    }
    // DTLS will prove the first address of a session that is ours, if it is ours to answer there.
    bool needed = !sender->proven && (keyed || !ours);
    if (needed || session->wanted == path ||
        tables_by_remote(&worker->tables, &parsed->src) != session)
        ice_ask(worker, session, path, back);
}

static void take_request(struct worker *worker, const struct stun_msg *msg, const uint8_t *frame,
                         const struct parsed *parsed)
{
    struct session *session = authenticate(worker, msg);
    if (!session)
        return;
    struct frame_template back;
    reverse_path(worker, frame, parsed, &back);
    if (msg->unknown_count || msg->role == STUN_ROLE_CONTROLLED) {
        refuse(worker, &back, msg, &session->ice.local,
               msg->unknown_count ? STUN_UNKNOWN_ATTRIBUTE : STUN_ROLE_CONFLICT);
        return;
    }
    session->heard_ns = worker->now_ns;
    const struct sender *sender = tables_sender(&worker->tables, session);
    bool wait = !sender->frame.length && failover_active(worker, sender->group) &&
                needs_two_ways(worker, sender->group, parsed->src.family);
    if (!wait || !hold(worker, session, msg, &back, &parsed->src))
        respond(worker, &back, msg->id, &parsed->src, &session->ice.local);
    follow(worker, session, msg, &back, parsed);
    worker_count(worker, COUNT_stun_checks, 1);
}

// The session that asked what this answers, from where it asked, or NULL (counted).
static struct session *asked_by(struct worker *worker, const struct stun_msg *msg,
                                const struct parsed *parsed)
{
    const struct tables *tables = &worker->tables;
    uint32_t slot = load_be32(msg->id);
    struct session *session = slot < tables->session_end ? &tables->sessions[slot] : NULL;
    uint8_t id[STUN_ID_LEN];
    if (session && session->state != SESSION_FREE && session->asked_ns)
        make_id(worker, session, id);
    else
        session = NULL;
    if (!session || memcmp(id, msg->id, sizeof(id)) != 0 ||
        memcmp(&session->paths[session->asked].remote, &parsed->src, sizeof(parsed->src)) != 0) {
        worker_drop(worker, DROP_stun_ignored);
        return NULL;
    }
    return is_intact(worker, msg, &session->ice.remote) ? session : NULL;
}

static void take_answer(struct worker *worker, const struct stun_msg *msg, const uint8_t *frame,
                        const struct parsed *parsed)
{
    struct session *session = asked_by(worker, msg, parsed);
    if (!session)
        return;
    struct sender *sender = tables_sender(&worker->tables, session);
    uint8_t path = session->asked;
    note_round_trip(worker, session);
    session->asked_ns = 0;
    session->heard_ns = worker->now_ns;
    tables_prove_path(&worker->tables, session, path, worker->now_ns);
    struct frame_template back;
    reverse_path(worker, frame, parsed, &back);
    if (path == session->path && sender->frame.length)
        sender->proven = true;
    else if (path == session->path || session->wanted == path || !sender->proven)
        use_path(worker, session, path, &back);
}

void ice_input(struct worker *worker, const uint8_t *frame, const struct parsed *parsed)
{
    struct stun_msg msg;
    if (stun_parse(frame + parsed->payload, parsed->length, &msg))
        worker_drop(worker, DROP_stun_malformed);
    else if (msg.type == STUN_BINDING_REQUEST)
        take_request(worker, &msg, frame, parsed);
    else if (msg.type == STUN_BINDING_SUCCESS)
        take_answer(worker, &msg, frame, parsed);
    else
        worker_drop(worker, DROP_stun_ignored);
}
