// What the partner is told, in which order, and what it has acknowledged; see replicate.h.
//
// Nothing waits in memory but marks: a session that changed stands in a queue once, and its record
// is read from the journal when its turn comes. So a slow partner costs time, never memory.
#include "log.h"
#include "replicate_private.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

int replicate_send(struct replicate *r, void *frame)
{
    const struct wire_head *head = frame;
    int rc = replink_send(r->link, frame);
    if (rc == 0 && wire_counted(head->type)) {
        if (r->sent == r->acked)
            r->unacked_ms = uv_now(r->loop);
        r->sent++;
    }
    return rc;
}

static uint8_t owner_of(unsigned group)
{
    return group == 0 ? WIRE_MINE : WIRE_YOURS;
}

// ---- what is owed

static void on_soon(uv_idle_t *idle);

void replicate_soon(struct replicate *r)
{
    if (replink_up(r->link) && replink_room(r->link))
        uv_idle_start(r->soon, on_soon);
}

static bool is_protected(const struct session *s)
{
    return s->open.group == REPLICATE_OWN || s->open.group == REPLICATE_PARTNER;
}

// A change is told by the holder. One that is not the holder tells only what it alone knows: a
// session that it accepted while it took itself for the holder.
static bool is_ours_to_tell(const struct replicate *r, const struct session *s)
{
    return is_protected(s) && (group_held(r, s->open.group - 1u) || !s->replica.told);
}

void replicate_session(struct replicate *r, struct session *s)
{
    if (r == NULL || s->replica.queued || !is_ours_to_tell(r, s) || !replink_up(r->link))
        return;
    s->replica.queued = true;
    TAILQ_INSERT_TAIL(&r->queue, s, replica.queue);
    replicate_soon(r);
}

static void stop_waiting(struct replicate *r, struct session *s)
{
    if (s->replica.waiting)
        TAILQ_REMOVE(&r->unacked, s, replica.unacked);
    s->replica.waiting = false;
}

void replicate_settled(struct replicate *r, struct session *s)
{
    stop_waiting(r, s);
    if (s->replica.refused)
        TAILQ_REMOVE(&r->refused, s, replica.refusals);
    s->replica.refused = WIRE_REFUSAL_NONE;
}

void replicate_session_gone(struct replicate *r, struct session *s)
{
    if (r == NULL)
        return;
    if (s->replica.queued)
        TAILQ_REMOVE(&r->queue, s, replica.queue);
    s->replica.queued = false;
    replicate_settled(r, s);
    waits_end(r, s, false);
    if (!s->replica.told || !replink_up(r->link))
        return;
    if (r->gone_count == REPLICATE_GONE) {
        replink_drop(r->link, "is too slow to hear of sessions that ended");
        return;
    }
    struct wire_token *token = &r->gone[(r->gone_first + r->gone_count++) % REPLICATE_GONE];
    memset(token, 0, sizeof(*token));
    memcpy(token->text, s->token, SESSION_TOKEN_LEN);
    replicate_soon(r);
}

// ---- telling

static int tell_gone(struct replicate *r)
{
    struct wire_session_gone m = {.head = {.type = WIRE_SESSION_GONE, .length = sizeof(m)},
                                  .token = r->gone[r->gone_first]};
    int rc = replicate_send(r, &m);
    if (rc == 0) {
        r->gone_first = (r->gone_first + 1) % REPLICATE_GONE;
        r->gone_count--;
    }
    return rc;
}

static int tell_session(struct replicate *r, struct session *s)
{
    struct wire_session *m = &r->frame.session;
    const struct session_record *record =
        journal_session(r->set->journal, s->worker, MSG_SLOT(s->id));
    memset(m, 0, sizeof(*m));
    m->head = (struct wire_head){.type = WIRE_SESSION, .length = sizeof(*m)};
    m->owner = owner_of(s->open.group - 1u);
    m->record = *record;
    int rc = replicate_send(r, m);
    dtls_wipe(m, sizeof(*m));
    if (rc != 0)
        return rc;
    TAILQ_REMOVE(&r->queue, s, replica.queue);
    s->replica.queued = false;
    s->replica.told = true;
    stop_waiting(r, s); // one that was refused stays so until this frame is acknowledged
    s->replica.waiting = true;
    s->replica.sequence = r->sent;
    s->replica.sent = s->numbers;
    TAILQ_INSERT_TAIL(&r->unacked, s, replica.unacked);
    return 0;
}

static uint32_t stream_slots(const struct replicate *r)
{
    return r->set->abi->max_streams;
}

static bool still_there(const struct replicate *r, const struct told_stream *told)
{
    const struct stream *stream = streams_find(r->set->streams, told->name);
    return stream != NULL && stream->trunk_id == told->trunk_id && stream->group != 0 &&
           group_held(r, stream->group - 1u);
}

static void tell_streams_gone(struct replicate *r)
{
    for (uint32_t slot = 0; slot < stream_slots(r); slot++) {
        struct told_stream *told = &r->streams[slot];
        if (told->trunk_id == 0 || still_there(r, told))
            continue;
        struct wire_stream_gone m = {.head = {.type = WIRE_STREAM_GONE, .length = sizeof(m)},
                                     .owner = told->owner};
        memcpy(m.name, told->name, sizeof(told->name));
        told->trunk_id = 0;
        if (group_held(r, told->owner == WIRE_MINE ? 0 : 1))
            replicate_send(r, &m);
    }
}

static void tell_stream(struct stream *stream, void *opaque)
{
    struct replicate *r = opaque;
    struct told_stream *told = &r->streams[MSG_SLOT(stream->id)];
    struct wire_stream *m = &r->frame.stream;
    if (stream->group == 0 || stream->remote || !group_held(r, stream->group - 1u))
        return;
    memset(m, 0, sizeof(*m));
    m->head = (struct wire_head){.type = WIRE_STREAM, .length = sizeof(*m)};
    m->owner = owner_of(stream->group - 1u);
    m->record = *journal_stream(r->set->journal, MSG_SLOT(stream->id));
    told->trunk_id = stream->trunk_id;
    told->owner = m->owner;
    memcpy(told->name, stream->name, sizeof(told->name));
    replicate_send(r, m);
}

// Streams are few: when one of them has changed all are told again.
static void tell_streams(struct replicate *r)
{
    uint64_t version = streams_version(r->set->streams);
    if (version == r->streams_version)
        return;
    r->streams_version = version;
    tell_streams_gone(r);
    streams_visit(r->set->streams, tell_stream, r);
}

static void tell_synced(struct replicate *r)
{
    for (unsigned g = 0; g < 2; g++) {
        struct wire_synced m = {.head = {.type = WIRE_SYNCED, .length = sizeof(m)},
                                .owner = owner_of(g),
                                .all = group_held(r, g)};
        if (r->sync_owed[g] && replicate_send(r, &m) == 0) {
            r->sync_owed[g] = false;
            r->group[g].syncing = false;
        }
    }
}

void replicate_acknowledge(struct replicate *r)
{
    struct wire_ack m = {.head = {.type = WIRE_ACK, .length = sizeof(m)}, .count = r->taken};
    if (r->ack_owed != r->taken && replicate_send(r, &m) == 0)
        r->ack_owed = r->taken;
}

// Ends first, then streams, then sessions: a name may be used again by another stream.
void replicate_tell(struct replicate *r)
{
    struct session *s;
    while (r->gone_count > 0 && replink_room(r->link))
        if (tell_gone(r) != 0)
            return;
    if (replink_room(r->link))
        tell_streams(r);
    while ((s = TAILQ_FIRST(&r->queue)) != NULL && replink_room(r->link))
        if (tell_session(r, s) != 0)
            return;
    if (TAILQ_EMPTY(&r->queue) && r->gone_count == 0 && replink_up(r->link))
        tell_synced(r);
}

static void on_soon(uv_idle_t *idle)
{
    struct replicate *r = idle->data;
    uv_idle_stop(idle);
    if (replink_up(r->link))
        replicate_tell(r);
}

void tell_down(struct replicate *r)
{
    struct session *s;
    while ((s = TAILQ_FIRST(&r->queue)) != NULL) {
        TAILQ_REMOVE(&r->queue, s, replica.queue);
        s->replica.queued = false;
    }
    while ((s = TAILQ_FIRST(&r->unacked)) != NULL) {
        replicate_settled(r, s);
        waits_end(r, s, false);
    }
    while ((s = TAILQ_FIRST(&r->refused)) != NULL)
        replicate_settled(r, s);
    TAILQ_FOREACH(s, &r->set->open, all)
    {
        s->replica.confirmed = false;
    }
    waits_down(r);
    r->gone_count = 0;
    memset(r->streams, 0, stream_slots(r) * sizeof(r->streams[0]));
}

void replicate_synchronise(struct replicate *r, unsigned group)
{
    struct session *s;
    r->group[group].syncing = true;
    r->streams_version = 0;
    TAILQ_FOREACH(s, &r->set->open, all)
    {
        if (s->open.group == group + 1 && is_ours_to_tell(r, s))
            replicate_session(r, s);
    }
    r->sync_owed[group] = true;
    replicate_soon(r);
}

// ---- what was acknowledged

// At home a viewer's RTX numbers may be used as far as the partner knows of them.
static void confirm_numbers(struct replicate *r, struct session *s)
{
    struct msg_session_adopt m = {
        .head = {.type = MSG_SESSION_ADOPT, .length = sizeof(m), .id = s->id},
        .numbers = s->replica.sent};
    const struct held_group *group = &r->group[s->open.group - 1u];
    // One that serves the session, too, takes no numbers from us.
    if (s->role == ROLE_PLAY && s->replica.sent.numbered != 0 && group->role == GROUP_ACTIVE &&
        group->claim == 0)
        session_send(r->set, 1 + s->worker, &m);
}

int replicate_acknowledged(struct replicate *r, const struct wire_ack *m, char *why,
                           size_t why_size)
{
    struct session *s;
    if (m->count < r->acked || m->count > r->sent) {
        snprintf(why, why_size, "acknowledges what was not sent");
        return -EPROTO;
    }
    r->acked = m->count;
    r->unacked_ms = uv_now(r->loop);
    while ((s = TAILQ_FIRST(&r->unacked)) != NULL && s->replica.sequence <= m->count) {
        replicate_settled(r, s);
        s->replica.confirmed = true;
        confirm_numbers(r, s);
        waits_end(r, s, true);
    }
    return 0;
}

// What we have said since overtakes an answer to what we said before.
void replicate_refused(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_refused *m = &frame->refused;
    struct session *s = session_find(r->set, m->token.text);
    bool first = m->count != 0;
    if (s == NULL || !is_protected(s))
        return;
    if (s->replica.queued || (s->replica.waiting && s->replica.sequence != m->count)) {
        s->replica.confirmed = false; // whether it has one now, the next answer says
        return;
    }
    if (first ? !s->replica.waiting : !replicate_serves(r, s->open.group))
        return;
    replicate_settled(r, s);
    s->replica.confirmed = false;
    s->replica.told = m->why == WIRE_REFUSAL_DATAPLANE; // else nobody there knows it
    s->replica.refused = m->why;
    s->replica.refused_ms = uv_now(r->loop);
    TAILQ_INSERT_TAIL(&r->refused, s, replica.refusals);
    LOG_OFTEN(LEVEL_WARNING, "partner %s does not protect a session: %s",
              r->config->protection.partner.name, wire_refusal_text(m->why));
    waits_end(r, s, false);
}

// With a session that was refused for its stream the streams are told again. Who has yet to answer
// is not asked once more: the answer would never be to the last that was said.
void refused_tick(struct replicate *r, uint64_t now)
{
    struct session *s;
    for (int i = 0; i < REPLICATE_AGAIN && (s = TAILQ_FIRST(&r->refused)) != NULL &&
                    now - s->replica.refused_ms >= REPLICATE_AGAIN_MS;
         i++) {
        TAILQ_REMOVE(&r->refused, s, replica.refusals);
        TAILQ_INSERT_TAIL(&r->refused, s, replica.refusals);
        s->replica.refused_ms = now;
        if (s->replica.waiting)
            continue;
        if (s->replica.refused == WIRE_REFUSAL_STREAM ||
            s->replica.refused == WIRE_REFUSAL_PUBLISHER)
            r->streams_version = 0;
        replicate_session(r, s);
    }
}

bool replicate_has_all(const struct replicate *r, unsigned group)
{
    const struct session *s;
    TAILQ_FOREACH(s, &r->refused, replica.refusals)
    {
        if (s->open.group == group + 1)
            return false;
    }
    TAILQ_FOREACH(s, &r->unacked, replica.unacked)
    {
        if (s->open.group == group + 1 && !s->replica.confirmed)
            return false;
    }
    return true;
}
