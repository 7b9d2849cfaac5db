#include "ice.h"
#include "failover.h"

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

static void respond(struct worker *worker, const struct frame_template *back,
                    const struct stun_msg *request, const struct abi_addr *mapped,
                    const struct stun_key *key, enum stun_error error)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.tx);
    if (!m) {
        worker_drop(worker, DROP_no_mbuf);
        return;
    }
    uint8_t *out = rte_pktmbuf_mtod(m, uint8_t *) + back->length;
    size_t room = rte_pktmbuf_tailroom(m) - back->length;
    size_t length = error ? stun_write_error(out, room, request, error, key)
                          : stun_write_success(out, room, request->id, mapped, key);
    worker_finish_frame(worker, back, m, length);
    worker_send(worker, m);
}

static void tell_path(struct worker *worker, const struct session *session,
                      const struct parsed *parsed)
{
    struct msg_session_path message = {
        .head = {.type = MSG_SESSION_PATH, .length = sizeof(message), .id = session->id},
        .remote = parsed->src,
        .local = parsed->dst};
    // The template begins with the next hop's link address.
    memcpy(message.mac, tables_sender(&worker->tables, session)->frame.bytes, sizeof(message.mac));
    worker_tell(worker, &message);
}

// The session that the check authenticates for, or NULL (counted).
static struct session *authenticate(struct worker *worker, const struct stun_msg *msg)
{
    const char *receiver, *sender;
    size_t receiver_length, sender_length;
    if (msg->type != STUN_BINDING_REQUEST) {
        worker_drop(worker, DROP_stun_ignored);
        return NULL;
    }
    struct session *session = NULL;
    if (stun_split_username(msg, &receiver, &receiver_length, &sender, &sender_length) &&
        receiver_length == MSG_UFRAG_LEN)
        session = tables_by_ufrag(&worker->tables, receiver);
    if (!session) {
        worker_drop(worker, DROP_stun_unknown_user);
        return NULL;
    }
    if (!stun_check_fingerprint(msg) || !stun_check_integrity(msg, &session->ice.local)) {
        worker_drop(worker, DROP_stun_bad_integrity);
        return NULL;
    }
    return session;
}

void ice_input(struct worker *worker, const uint8_t *frame, const struct parsed *parsed)
{
    struct stun_msg msg;
    if (stun_parse(frame + parsed->payload, parsed->length, &msg)) {
        worker_drop(worker, DROP_stun_malformed);
        return;
    }
    struct session *session = authenticate(worker, &msg);
    if (!session)
        return;
    struct frame_template back;
    reverse_path(worker, frame, parsed, &back);
    if (msg.unknown_count || msg.role == STUN_ROLE_CONTROLLED) {
        respond(worker, &back, &msg, &parsed->src, &session->ice.local,
                msg.unknown_count ? STUN_UNKNOWN_ATTRIBUTE : STUN_ROLE_CONFLICT);
        return;
    }
    session->heard_ns = worker->now_ns;
    uint8_t path = tables_validate_path(&worker->tables, session, &parsed->src, worker->now_ns);
    // The first valid pair serves until the client nominates one (RFC 8445 7.3.1.5).
    struct sender *sender = tables_sender(&worker->tables, session);
    bool ours = failover_active(worker, sender->group);
    // A standby knows the way that the partner uses, and keeps to it.
    if (!ours && session->adopted) {
        respond(worker, &back, &msg, &parsed->src, &session->ice.local, 0);
        worker_count(worker, COUNT_stun_checks, 1);
        return;
    }
    bool first = sender->frame.length == 0;
    if (first || (msg.use_candidate && path != session->path) || path == session->path) {
        bool moved = first || path != session->path;
        session->path = path;
        sender->frame = back;
        if (moved)
            tell_path(worker, session, parsed);
    }
    respond(worker, &back, &msg, &parsed->src, &session->ice.local, 0);
    worker_count(worker, COUNT_stun_checks, 1);
}
