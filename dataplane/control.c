#include "control.h"
#include "catchup.h"
#include "failover.h"
#include "feedback.h"
#include "ice.h"
#include "ingest_space.h"
#include <time.h>

union message {
    struct msg_head head;
    uint8_t bytes[MSG_MAX];
};

static void tell_dead(struct worker *worker, uint64_t id, enum msg_dead_reason reason)
{
    struct msg_session_dead message = {
        .head = {.type = MSG_SESSION_DEAD, .length = sizeof(message), .id = id}, .reason = reason};
    worker_tell(worker, &message);
}

static void join(struct worker *worker, struct session *session, bool imported)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    bool foreign = imported || !failover_active(worker, sender->group);
    failover_enter_term(worker, session);
    failover_begin_right(worker, session, foreign);
    for (int t = 0; t < session->tracks; t++)
        sender->sub[t].foreign = foreign;
    tables_join(&worker->tables, session);
    if (sender->group && session->role == ROLE_PLAY && failover_active(worker, sender->group))
        failover_tell_numbers(worker, session);
}

static void session_open(struct worker *worker, const struct msg_session_open *open)
{
    int error;
    if (open->again && !tables_session(&worker->tables, open->head.id)) {
        tell_dead(worker, open->head.id, DEAD_REFUSED_INVALID);
        return;
    }
    struct session *session = tables_open_session(&worker->tables, open, worker->now_ns, &error);
    if (session) {
        tables_sender(&worker->tables, session)->group = open->group;
        join(worker, session, open->imported);
        catchup_prepare(worker, session);
    } else if (error == EEXIST) {
        session = tables_session(&worker->tables, open->head.id);
        failover_regroup(worker, session, open->group);
        session->numbers_told = 0; // who says it again may have missed what it was told
        worker_untold(worker);
    } else
        tell_dead(worker, open->head.id, DEAD_REFUSED_SLOT);
}

static int key_publisher(struct worker *worker, struct session *session,
                         const struct msg_session_keys *keys)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    if (!stream || stream->source_worker != worker->id)
        return -ENOENT;
    if (stream->keyed_by)
        tables_reset_source(&worker->tables, stream);
    ingest_next_publisher(worker, stream);
    stream->publisher = tables_slot(&worker->tables, session);
    int rc = protect_rx_init(worker->protect, &stream->rx, keys->profile, keys->remote);
    if (rc == 0)
        rc = tables_make_twcc(stream);
    if (rc == 0)
        stream->keyed_by = session->id;
    return rc;
}

static void session_keys(struct worker *worker, const struct msg_session_keys *keys)
{
    struct session *session = tables_session(&worker->tables, keys->head.id);
    // A second set would restart the packet indexes under a key that may be the same.
    if (!session || session->state == SESSION_KEYED)
        return;
    int rc = session->role == ROLE_PUBLISH
                 ? key_publisher(worker, session, keys)
                 : protect_tx_init(worker->protect, &tables_sender(&worker->tables, session)->tx,
                                   keys->profile, keys->local);
    if (rc == 0)
        rc = protect_rtcp_tx_init(&session->rtcp_tx, keys->profile, keys->local);
    if (rc == 0)
        rc = protect_rtcp_rx_init(&session->rtcp_rx, keys->profile, keys->remote);
    if (rc) {
        tell_dead(worker, keys->head.id, DEAD_REFUSED_INVALID);
        return;
    }
    session->state = SESSION_KEYED;
    ice_keyed(worker, session);
    tables_sender(&worker->tables, session)->keyed = session->role == ROLE_PLAY;
    if (session->role == ROLE_PLAY)
        catchup_begin(worker, session);
}

static void session_ice(struct worker *worker, const struct msg_session_ice *ice)
{
    struct session *session = tables_session(&worker->tables, ice->head.id);
    if (session)
        tables_set_ice(&worker->tables, session, &ice->ice);
}

static void session_close(struct worker *worker, const struct msg_head *head)
{
    struct session *session = tables_session(&worker->tables, head->id);
    if (session) {
        uint32_t slot = tables_slot(&worker->tables, session);
        feedback_bye(worker, session);
        tables_close_session(&worker->tables, worker->protect, session);
        stats_publish(channel_session_stats(worker->dp->channel, worker->id, slot), NULL,
                      sizeof(struct stats_session));
    }
    struct msg_session_closed message = {
        .head = {.type = MSG_SESSION_CLOSED, .length = sizeof(message), .id = head->id}};
    worker_tell(worker, &message);
}

static void dtls_send(struct worker *worker, const struct msg_dtls *dtls)
{
    struct session *session = tables_session(&worker->tables, dtls->head.id);
    if (!session || worker_send_payload(worker, session, dtls->data, dtls->size))
        return;
    session->dtls_sent = true;
    worker_count(worker, COUNT_dtls_down, 1);
}

static void close_stream(struct worker *worker, struct stream *stream)
{
    if (stream->source_worker == worker->id)
        stats_publish(channel_stream_stats(worker->dp->channel, MSG_SLOT(stream->id)), NULL,
                      sizeof(struct stats_stream));
    for (uint32_t i = 0; i < worker->tables.session_end; i++)
        if (worker->tables.sessions[i].stream == stream->id)
            failover_pause(worker, &worker->tables.sessions[i]);
    tables_close_stream(&worker->tables, stream);
}

static void stream_open(struct worker *worker, const struct msg_stream_open *open)
{
    int error;
    uint32_t slot = MSG_SLOT(open->head.id);
    struct stream *stream = slot < worker->tables.max_streams ? worker->tables.streams[slot] : NULL;
    // One whose STREAM_CLOSE went down with an earlier process.
    if (stream && stream->id != open->head.id) {
        close_stream(worker, stream);
        stream = NULL;
    }
    if (stream)
        tables_update_stream(&worker->tables, stream, open);
    else if (!tables_open_stream(&worker->tables, open, &error))
        worker_drop(worker, DROP_message_invalid);
}

static void stream_close(struct worker *worker, const struct msg_head *head)
{
    struct stream *stream = tables_stream(&worker->tables, head->id);
    if (stream)
        close_stream(worker, stream);
}

// Turns on the spot, as a worker that hangs does.
static void stall(struct worker *worker, const struct msg_stall *message)
{
    struct timespec t;
    uint64_t now, start = 0;
    if (!worker->dp->config->kill_test) {
        worker_drop(worker, DROP_message_invalid);
        return;
    }
    do {
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
        start = start ? start : now;
    } while (now - start < message->ms * UINT64_C(1000000));
}

void control_handle(struct worker *worker, const struct msg_head *head)
{
    struct stream *stream;
    switch (head->type) {
    case MSG_SESSION_OPEN:
        session_open(worker, (const struct msg_session_open *)head);
        break;
    case MSG_SESSION_KEYS:
        session_keys(worker, (const struct msg_session_keys *)head);
        break;
    case MSG_SESSION_ICE:
        session_ice(worker, (const struct msg_session_ice *)head);
        break;
    case MSG_SESSION_CLOSE:
        session_close(worker, head);
        break;
    case MSG_DTLS_SEND:
        dtls_send(worker, (const struct msg_dtls *)head);
        break;
    case MSG_STREAM_OPEN:
        stream_open(worker, (const struct msg_stream_open *)head);
        break;
    case MSG_STREAM_CLOSE:
        stream_close(worker, head);
        break;
    case MSG_STREAM_FORWARD:
        stream = tables_stream(&worker->tables, head->id);
        if (stream)
            stream->forward = ((const struct msg_stream_forward *)head)->workers;
        break;
    case MSG_PEER:
        failover_peer(worker, (const struct msg_peer *)head);
        break;
    case MSG_GROUP:
        failover_group(worker, (const struct msg_group *)head);
        break;
    case MSG_SESSION_ADOPT:
        failover_adopt(worker, (const struct msg_session_adopt *)head);
        break;
    case MSG_RIGHT_PASSED:
        failover_right(worker, (const struct msg_right *)head);
        break;
    case MSG_STALL:
        stall(worker, (const struct msg_stall *)head);
        break;
    default:
        worker_drop(worker, DROP_message_invalid);
    }
}

// The next message, out of the lane before it is handled: one over which a worker hangs must not be
// its successor's next. False: none, or not ours to take.
static bool take(struct worker *worker, union message *message, uint64_t *invalid)
{
    if (!worker_enter(worker))
        return false;
    const struct msg_head *head = channel_peek(worker->dp->channel, worker->lane, invalid);
    if (head) {
        memcpy(message, head, sizeof(*message));
        channel_release(worker->dp->channel, worker->lane);
    }
    worker_leave(worker);
    return head != NULL;
}

unsigned control_poll(struct worker *worker, unsigned max)
{
    unsigned handled = 0;
    uint64_t invalid = 0;
    union message message;
    while (handled < max && take(worker, &message, &invalid)) {
        if (msg_check(&message.head) == 0)
            control_handle(worker, &message.head);
        else
            invalid++;
        handled++;
    }
    explicit_bzero(&message, handled ? sizeof(message) : 0); // it may hold keys
    stats_add(&worker->stats->drop[DROP_message_invalid], invalid);
    worker_count(worker, COUNT_messages, handled);
    return handled;
}
