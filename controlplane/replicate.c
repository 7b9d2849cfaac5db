// What the partner is told, in which order, and what it has acknowledged; see replicate.h.
//
// Nothing waits in memory but marks: a session that changed stands in a queue once, and its record
// is read from the journal when its turn comes. So a slow partner costs time, never memory.
#include "log.h"
#include "replicate_private.h"
#include "secret.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

static void acknowledged(struct replicate *r, struct session *s)
{
    if (s->replica.waiting)
        TAILQ_REMOVE(&r->unacked, s, replica.unacked);
    s->replica.waiting = false;
}

static void end_wait(struct replicate *r, struct wait *wait, bool confirmed)
{
    struct wait copy = *wait;
    wait->session = NULL;
    r->wait_count--;
    r->counts.unconfirmed += !confirmed;
    copy.done(copy.opaque, confirmed || !r->config->protection.strict);
}

static void end_waits_of(struct replicate *r, const struct session *s, bool confirmed)
{
    for (unsigned i = 0; r->wait_count > 0 && i < REPLICATE_WAITS; i++)
        if (r->waits[i].session != NULL && r->waits[i].session == s)
            end_wait(r, &r->waits[i], confirmed);
}

void replicate_session_gone(struct replicate *r, struct session *s)
{
    if (r == NULL)
        return;
    if (s->replica.queued)
        TAILQ_REMOVE(&r->queue, s, replica.queue);
    s->replica.queued = false;
    acknowledged(r, s);
    end_waits_of(r, s, false);
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
    acknowledged(r, s);
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

static void acknowledge(struct replicate *r)
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

static int on_ack(struct replicate *r, const struct wire_ack *m, char *why, size_t why_size)
{
    struct session *s;
    if (m->count < r->acked || m->count > r->sent) {
        snprintf(why, why_size, "acknowledges what was not sent");
        return -EPROTO;
    }
    r->acked = m->count;
    r->unacked_ms = uv_now(r->loop);
    while ((s = TAILQ_FIRST(&r->unacked)) != NULL && s->replica.sequence <= m->count) {
        acknowledged(r, s);
        confirm_numbers(r, s);
        end_waits_of(r, s, true);
    }
    return 0;
}

bool replicate_wait(struct replicate *r, struct session *s, session_await_fn done, void *opaque)
{
    if (r == NULL || r->config->protection.protect != PROTECT_SYNC || s->open.group == 0 ||
        !replink_up(r->link) || r->wait_count == REPLICATE_WAITS)
        return false;
    struct wait *wait = r->waits;
    while (wait->session != NULL)
        wait++;
    *wait = (struct wait){.session = s,
                          .until_ms = uv_now(r->loop) + REPLICATE_SYNC_MS,
                          .done = done,
                          .opaque = opaque};
    r->wait_count++;
    return true;
}

// ---- the connection

static void on_hello(void *opaque, struct wire_hello *hello)
{
    const struct replicate *r = opaque;
    hello->workers = r->set->abi->workers;
    hello->boot = r->boot;
    hello->media4 = r->set->abi->media4;
    hello->media6 = r->set->abi->media6;
    groups_hello(r, hello);
}

static void on_up(void *opaque, const struct wire_hello *hello, bool leader)
{
    struct replicate *r = opaque;
    r->leader = leader;
    r->partner_workers = hello->workers;
    r->up_ms = uv_now(r->loop);
    r->sent = r->acked = r->taken = r->ack_owed = 0;
    groups_up(r, hello);
    keys_begin(r);
}

static void on_down(void *opaque, const char *why)
{
    struct replicate *r = opaque;
    struct session *s;
    while ((s = TAILQ_FIRST(&r->queue)) != NULL) {
        TAILQ_REMOVE(&r->queue, s, replica.queue);
        s->replica.queued = false;
    }
    while ((s = TAILQ_FIRST(&r->unacked)) != NULL) {
        acknowledged(r, s);
        end_waits_of(r, s, false);
    }
    for (unsigned i = 0; i < REPLICATE_WAITS; i++)
        if (r->waits[i].session != NULL)
            end_wait(r, &r->waits[i], false);
    patches_down(r);
    r->gone_count = 0;
    memset(r->streams, 0, stream_slots(r) * sizeof(r->streams[0]));
    groups_down(r);
}

static void on_synced(struct replicate *r, const struct wire_synced *m)
{
    unsigned group = group_index(m->owner);
    bool held = group_held(r, group);
    if (held && !m->all)
        replicate_synchronise(r, group); // the partner has named what only it knew
    else if (!held && m->all)
        import_sweep(r, group);
    r->partner_synced[group] = true;
}

static int on_frame(void *opaque, const union wire_frame *frame, char *why, size_t why_size)
{
    struct replicate *r = opaque;
    int rc = 0;
    switch ((enum wire_type)frame->head.type) {
    case WIRE_ACK:
        rc = on_ack(r, &frame->ack, why, why_size);
        break;
    case WIRE_KEYS:
        keys_frame(r, &frame->keys);
        break;
    case WIRE_REKEY:
        keys_begin(r);
        break;
    case WIRE_GROUP:
        rc = groups_frame(r, &frame->group, why, why_size);
        break;
    case WIRE_STREAM:
        import_stream(r, &frame->stream);
        break;
    case WIRE_STREAM_GONE:
        import_stream_gone(r, &frame->stream_gone);
        break;
    case WIRE_SESSION:
        import_session(r, &frame->session);
        break;
    case WIRE_SESSION_GONE:
        import_session_gone(r, &frame->session_gone);
        break;
    case WIRE_SYNCED:
        on_synced(r, &frame->synced);
        break;
    case WIRE_DTLS:
        import_dtls(r, &frame->dtls);
        break;
    case WIRE_PATCH:
        patch_frame(r, &frame->patch);
        break;
    case WIRE_PATCHED:
        patched_frame(r, &frame->patched);
        break;
    case WIRE_NONE:
    case WIRE_HELLO:
    case WIRE_REFUSE:
    case WIRE_PING:
    case WIRE_TYPES:
        break;
    }
    r->taken += wire_counted(frame->head.type);
    return rc;
}

static void on_turn(void *opaque)
{
    struct replicate *r = opaque;
    acknowledge(r);
    if (replink_up(r->link))
        replicate_tell(r);
}

// ---- time, start and end

static void on_tick(uv_timer_t *timer)
{
    struct replicate *r = timer->data;
    uint64_t now = uv_now(r->loop);
    for (unsigned i = 0; r->wait_count > 0 && i < REPLICATE_WAITS; i++)
        if (r->waits[i].session != NULL && now >= r->waits[i].until_ms) {
            LOG_OFTEN(LEVEL_WARNING, "partner %s did not confirm a session within %u ms",
                      r->config->protection.partner.name, REPLICATE_SYNC_MS);
            end_wait(r, &r->waits[i], false);
        }
    patches_tick(r, now);
    groups_tick(r, now);
    if (replink_up(r->link))
        replicate_tell(r);
}

void replicate_dtls(struct replicate *r, const struct session *s, const uint8_t *data, size_t size)
{
    struct wire_dtls m = {
        .head = {.type = WIRE_DTLS, .length = (uint32_t)(offsetof(struct wire_dtls, data) + size)},
        .size = (uint32_t)size};
    if (r == NULL || size == 0 || size > sizeof(m.data) || !replink_room(r->link))
        return;
    memcpy(m.token.text, s->token, SESSION_TOKEN_LEN);
    memcpy(m.data, data, size);
    replicate_send(r, &m);
}

void replicate_reload(struct replicate *r)
{
    char why[256] = "";
    if (r != NULL && replink_reload(r->link, why, sizeof(why)) != 0)
        log_warning("%s; the old certificate stays in use", why);
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void replicate_free(struct replicate *r)
{
    if (r == NULL)
        return;
    r->set->replicate = NULL;
    for (unsigned i = 0; i < REPLICATE_WAITS; i++)
        if (r->waits[i].session != NULL)
            end_wait(r, &r->waits[i], false);
    patches_down(r);
    replink_free(r->link);
    if (r->tick != NULL)
        uv_close((uv_handle_t *)r->tick, free_handle);
    if (r->soon != NULL)
        uv_close((uv_handle_t *)r->soon, free_handle);
    secret_free(r->keys, 2 * sizeof(r->keys[0]));
    free(r->gone);
    free(r->streams);
    dtls_wipe(&r->frame, sizeof(r->frame));
    free(r);
}

static int make_tables(struct replicate *r)
{
    bool locked;
    r->tick = calloc(1, sizeof(*r->tick));
    r->soon = calloc(1, sizeof(*r->soon));
    if (r->tick != NULL) {
        uv_timer_init(r->loop, r->tick);
        r->tick->data = r;
    }
    if (r->soon != NULL) {
        uv_idle_init(r->loop, r->soon);
        r->soon->data = r;
    }
    r->gone = calloc(REPLICATE_GONE, sizeof(r->gone[0]));
    r->streams = calloc(stream_slots(r), sizeof(r->streams[0]));
    r->keys = secret_alloc(2 * sizeof(r->keys[0]), &locked);
    if (r->tick == NULL || r->soon == NULL || r->gone == NULL || r->streams == NULL ||
        r->keys == NULL)
        return -ENOMEM;
    return secret_random(&r->boot, sizeof(r->boot));
}

int replicate_new(struct replicate **out, uv_loop_t *loop, const struct config *config,
                  struct sessions *sessions, char *why, size_t why_size)
{
    static const struct replink_handlers handlers = {
        .hello = on_hello, .up = on_up, .frame = on_frame, .turn = on_turn, .down = on_down};
    *out = NULL;
    if (*config->protection.partner.name == 0)
        return 0;
    struct replicate *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    r->config = config;
    r->set = sessions;
    r->loop = loop;
    r->start_ms = uv_now(loop);
    TAILQ_INIT(&r->queue);
    TAILQ_INIT(&r->unacked);
    struct replink_config link = {.node = config->node,
                                  .partner = config->protection.partner.name,
                                  .certificate = config->protection.certificate,
                                  .key = config->protection.key,
                                  .ca = config->protection.ca,
                                  .listen = config->parsed.partner.listen,
                                  .address = config->parsed.partner.address};
    int rc = make_tables(r);
    if (rc == 0) {
        groups_load(r);
        rc = replink_new(&r->link, loop, &link, &handlers, r, why, why_size);
    }
    if (rc == 0)
        rc = uv_timer_start(r->tick, on_tick, REPLICATE_TICK_MS, REPLICATE_TICK_MS);
    sessions->replicate = r;
    if (config->protection.takeover_address && !sessions->abi->take4.family &&
        !sessions->abi->take6.family)
        log_warning("the kernel holds our media address (port.own_l3), so neither node can take "
                    "over the other's: only clients that know both go on");
    for (unsigned g = 0; rc == 0 && g < 2; g++)
        if (!group_held(r, g)) // what a predecessor of ours may have held
            import_left(r, g);
    if (rc != 0) {
        replicate_free(r);
        return rc;
    }
    *out = r;
    return 0;
}
