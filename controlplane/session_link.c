// Sessions as the channel and the clock see them: what the dataplane says, DTLS, deadlines, and
// telling a restarted dataplane everything again; see session_set.h. Runs on the loop.
#include "config.h"
#include "session_set.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool served(const struct session *s)
{
    return replicate_serves(s->set->replicate, s->open.group);
}

int session_send(struct sessions *set, uint32_t lane, const void *message)
{
    return dpclient_send(set->dataplane, lane, message);
}

int session_send_stream(void *opaque, uint32_t lane, const void *message)
{
    struct sessions *set = opaque;
    bool ready = false;
    dpclient_peer(set->dataplane, NULL, &ready);
    return ready ? session_send(set, lane, message) : -EAGAIN;
}

void session_dtls_send(void *opaque, const uint8_t *data, size_t size)
{
    struct session *s = opaque;
    if (size == 0 || size > MSG_DATAGRAM_MAX)
        return;
    if (!served(s)) { // its client is at the partner
        replicate_dtls_send(s->set->replicate, s, data, size);
        return;
    }
    struct msg_dtls m = {
        .head = {.type = MSG_DTLS_SEND,
                 .length = (uint16_t)(offsetof(struct msg_dtls, data) + size),
                 .id = s->id},
        .size = (uint16_t)size,
    };
    memcpy(m.data, data, size);
    session_send(s->set, 1 + s->worker,
                 &m); // one that finds no room is as good as lost: sent again
}

int session_tell_open(struct session *s)
{
    int rc = streams_sync(s->set->streams);
    if (rc != 0)
        return rc;
    struct msg_session_open m = s->open;
    bool keyed = s->keys->head.length > 0 && (s->was_keyed || s->was_away);
    bool foreign = s->foreign || !served(s);
    m.imported |= foreign;
    m.again = keyed && !foreign;
    rc = session_send(s->set, 1 + s->worker, &m);
    dtls_wipe(&m, sizeof(m));
    s->foreign &= rc != 0;
    return rc;
}

void session_owe_open(struct session *s)
{
    s->tell_open = true;
    s->foreign |= !served(s);
}

void session_tell_close(struct session *s)
{
    struct msg_session_close m = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(m), .id = s->id}};
    bool sent = session_send(s->set, 1 + s->worker, &m) == 0;
    s->since_ms = s->set->now_ms() - (sent ? 0 : SESSION_CLOSE_AGAIN_MS);
}

int sessions_stall_worker(struct sessions *set, uint32_t ms)
{
    struct msg_stall m = {.head = {.type = MSG_STALL, .length = sizeof(m), .id = 1}, .ms = ms};
    uint32_t most = 0, count[ABI_MAX_WORKERS] = {0};
    const struct session *s;
    for (s = TAILQ_FIRST(&set->open); s != NULL; s = TAILQ_NEXT(s, all))
        count[s->worker]++;
    for (uint32_t w = 0; w < set->abi->workers; w++)
        if (count[w] > count[most])
            most = w;
    return session_send(set, 1 + most, &m);
}

// Sends what is owed to the dataplane of one session. False when there was no room.
static bool catch_up(struct session *s)
{
    if (s->tell_open && session_tell_open(s) != 0)
        return false;
    s->tell_open = false;
    if (s->tell_ice) {
        struct msg_session_ice m = {
            .head = {.type = MSG_SESSION_ICE, .length = sizeof(m), .id = s->id},
            .ice = s->open.ice};
        s->tell_ice = session_send(s->set, 1 + s->worker, &m) != 0;
        dtls_wipe(&m, sizeof(m));
    }
    if (s->tell_ice)
        return false;
    if (s->tell_keys && session_send(s->set, 1 + s->worker, s->keys) != 0)
        return false;
    s->tell_keys = false;
    if (s->tell_adopt) {
        struct msg_session_adopt m = {
            .head = {.type = MSG_SESSION_ADOPT, .length = sizeof(m), .id = s->id},
            .numbers = s->numbers,
            .remote = s->remote,
            .local = s->local};
        memcpy(m.mac, s->mac, sizeof(m.mac));
        s->tell_adopt = session_send(s->set, 1 + s->worker, &m) != 0;
    }
    return !s->tell_adopt;
}

void session_tell(struct session *s)
{
    if (!catch_up(s))
        s->set->behind = true;
}

void session_keyed(struct session *s, const struct msg_session_keys *keys)
{
    s->profile = (enum srtp_profile)keys->profile;
    session_save(s, keys);
    s->tell_keys = true;
    TAILQ_REMOVE(&s->set->young, s, young);
    session_tell(s);
}

static void install_keys(struct session *s)
{
    struct dtls_keys keys;
    if (dtls_export(s->dtls, &keys) != 0) {
        session_close(s, END_DTLS);
        return;
    }
    struct msg_session_keys m = {
        .head = {.type = MSG_SESSION_KEYS, .length = sizeof(m), .id = s->id},
        .profile = (uint16_t)keys.profile,
    };
    memcpy(m.local, keys.local, sizeof(keys.local));
    memcpy(m.remote, keys.remote, sizeof(keys.remote));
    s->phase = PHASE_DTLS;
    if (!served(s))
        s->replica.told = false; // who serves it cannot know them
    session_keyed(s, &m);
    dtls_wipe(&keys, sizeof(keys));
    dtls_wipe(&m, sizeof(m));
}

static void dtls_moved(struct session *s, enum dtls_state state)
{
    if (state == DTLS_OPEN && s->keys->head.length == 0) {
        install_keys(s);
    } else if (state == DTLS_FAILED) {
        LOG_OFTEN(LEVEL_WARNING, "DTLS with %s failed: %s", s->client, dtls_error(s->dtls));
        session_close(s, END_DTLS);
    } else if (state == DTLS_CLOSED) {
        session_close(s, END_DTLS);
    }
}

void session_checked(struct session *s)
{
    if (s->phase == PHASE_NEW)
        s->phase = PHASE_CHECKED;
    if (s->dtls != NULL)
        dtls_moved(s, dtls_start(s->dtls));
}

// The path of a session that the partner serves is the partner's: ours is for when we take over.
static void on_path(struct session *s, const struct msg_session_path *m)
{
    if (!served(s))
        return;
    bool moved = memcmp(&s->remote, &m->remote, sizeof(s->remote)) != 0 ||
                 memcmp(&s->local, &m->local, sizeof(s->local)) != 0 ||
                 memcmp(s->mac, m->mac, sizeof(s->mac)) != 0;
    s->remote = m->remote;
    s->local = m->local;
    memcpy(s->mac, m->mac, sizeof(s->mac));
    if (moved && s->open.group != 0)
        session_save(s, NULL);
    session_checked(s);
}

static void on_numbers(struct session *s, const struct msg_session_numbers *m)
{
    if (!served(s))
        return;
    // A limit that our dataplane does not know of yet: what is below it may be the partner's.
    s->tell_adopt |= msg_numbers_merge(&s->numbers, &m->numbers);
    session_save(s, NULL);
    if (s->tell_adopt)
        session_tell(s);
}

void session_dtls(struct session *s, const uint8_t *data, size_t size)
{
    if (s->phase == PHASE_NEW && s->dtls != NULL)
        session_checked(s);
    if (!s->closed && s->dtls != NULL)
        dtls_moved(s, dtls_input(s->dtls, data, size));
}

static void on_dtls(struct session *s, const struct msg_dtls *m)
{
    if (s->dtls != NULL)
        session_dtls(s, m->data, m->size);
    else
        replicate_dtls(s->set->replicate, s, m->data, m->size);
}

static void on_dead(struct session *s, const struct msg_session_dead *m)
{
    static const char *const reasons[] = {
        [DEAD_REFUSED_MODE] = "admission is closed",
        [DEAD_REFUSED_SLOT] = "its slot is taken",
        [DEAD_REFUSED_INVALID] = "its message is invalid",
        [DEAD_NUMBERS] = "the partner, out of reach, may have used its next numbers",
        [DEAD_JUMP] = "it left out more packet numbers at once than a partner could follow",
    };
    if (m->reason == DEAD_TIMEOUT) {
        if (served(s)) // else it is its holder who knows
            session_close(s, END_TIMEOUT);
        return;
    }
    LOG_OFTEN(LEVEL_WARNING, "the dataplane refused a session of %s: %s", s->client,
              m->reason <= DEAD_JUMP ? reasons[m->reason] : "unknown reason");
    s->refused = !served(s); // a copy: its holder has no part in our trouble
    if (s->refused)
        replicate_copy_refused(s->set->replicate, s);
    else
        session_close(s, END_REFUSED);
}

static void on_media(struct session *s)
{
    s->phase = PHASE_MEDIA;
    session_save(s, NULL);
}

static struct session *by_id(struct sessions *set, uint32_t worker, uint64_t id)
{
    if (worker >= set->abi->workers || MSG_SLOT(id) >= slots_size(set->slots))
        return NULL;
    struct session *s = set->by_slot[worker * slots_size(set->slots) + MSG_SLOT(id)];
    return s != NULL && s->id == id ? s : NULL;
}

static void on_message(void *opaque, uint32_t lane, const struct msg_head *m)
{
    struct sessions *set = opaque;
    if (m->type == MSG_STREAM_STATE) {
        struct stream *stream = streams_by_id(set->streams, m->id);
        if (stream != NULL && lane == 1 + stream->source_worker)
            stream_state(set->streams, stream, ((const struct msg_stream_state *)m)->state,
                         session_clock_ms());
        return;
    }
    if (m->type == MSG_PEER_STATE || m->type == MSG_GROUP_STATE) {
        replicate_message(set->replicate, m);
        return;
    }
    if (lane == 0)
        return;
    struct session *s = by_id(set, lane - 1, m->id);
    if (s == NULL)
        return;
    if (m->type == MSG_SESSION_CLOSED && s->closed)
        session_destroy(s);
    else if (s->closed)
        return;
    else if (m->type == MSG_SESSION_PATH)
        on_path(s, (const struct msg_session_path *)m);
    else if (m->type == MSG_SESSION_NUMBERS)
        on_numbers(s, (const struct msg_session_numbers *)m);
    else if (m->type == MSG_RIGHT_PASS)
        replicate_right(set->replicate, s, (const struct msg_right *)m);
    else if (m->type == MSG_DTLS_RECEIVED)
        on_dtls(s, (const struct msg_dtls *)m);
    else if (m->type == MSG_SESSION_MEDIA && s->phase == PHASE_DTLS)
        on_media(s);
    else if (m->type == MSG_SESSION_DEAD)
        on_dead(s, (const struct msg_session_dead *)m);
}

// What found no room in the channel goes out as room comes; a full lane holds up only itself.
static void catch_up_all(struct sessions *set)
{
    uint32_t full = 0;
    struct session *s;
    if (streams_sync(set->streams) != 0 || !set->behind)
        return;
    set->behind = false;
    for (s = TAILQ_FIRST(&set->open); s != NULL; s = TAILQ_NEXT(s, all))
        if ((s->tell_open || s->tell_ice || s->tell_keys || s->tell_adopt) &&
            ((full >> s->worker & 1) || !catch_up(s))) {
            full |= 1u << s->worker;
            set->behind = true;
        }
}

// One of the two processes is another. A dataplane has its tables from its predecessor, but what
// was on its way may be lost: all is said again, and what it knows already does not disturb it.
static void repeat_all(struct sessions *set)
{
    struct session *s;
    unsigned count = 0;
    for (s = TAILQ_FIRST(&set->closing); s != NULL; s = TAILQ_NEXT(s, all))
        session_tell_close(s);
    streams_repeat(set->streams);
    for (s = TAILQ_FIRST(&set->open); s != NULL; s = TAILQ_NEXT(s, all)) {
        session_owe_open(s);
        s->tell_ice = true;
        if (!s->tell_keys) // else they have not been sent yet
            s->was_keyed = s->keys->head.length > 0;
        s->tell_keys = s->keys->head.length > 0;
        s->tell_adopt = !served(s);
        s->since_ms = set->now_ms();
        count++;
    }
    set->behind = set->audit_streams = true;
    set->audit_ms = set->now_ms();
    if (count > 0)
        log_info("telling the dataplane of %u sessions again", count);
    catch_up_all(set);
}

static void on_peer(void *opaque, enum channel_peer state, uint64_t epoch, bool ready)
{
    struct sessions *set = opaque;
    if (epoch == set->epoch)
        return;
    set->epoch = epoch;
    replicate_dataplane(set->replicate);
    repeat_all(set);
}

static void sweep_young(struct sessions *set, uint64_t now)
{
    uint32_t limit = set->config->session.setup_timeout_ms;
    struct session *s = TAILQ_FIRST(&set->young), *next;
    for (; s != NULL; s = next) {
        next = TAILQ_NEXT(s, young);
        uint64_t age = now - s->since_ms;
        if (served(s) && (age >= limit || (s->phase == PHASE_NEW && age >= limit / 2)))
            session_close(s, END_TIMEOUT);
        else if (s->dtls != NULL)
            dtls_moved(s, dtls_tick(s->dtls));
    }
}

void sessions_sweep(struct sessions *set)
{
    uint64_t now = set->now_ms();
    struct stream *gone;
    struct session *s;
    catch_up_all(set);
    sweep_young(set, now);
    sessions_audit(set, now);
    for (s = TAILQ_FIRST(&set->closing); s != NULL; s = TAILQ_NEXT(s, all))
        if (now - s->since_ms >= SESSION_CLOSE_AGAIN_MS)
            session_tell_close(s);
    while ((gone = streams_expired(set->streams, now, set->config->session.stream_linger_ms)))
        session_end_viewers(gone, END_STREAM_GONE);
}

static void on_timer(uv_timer_t *timer)
{
    sessions_sweep(timer->data);
}

int session_link(struct sessions *set, uv_loop_t *loop)
{
    static const struct dpclient_handlers handlers = {.on_message = on_message, .on_peer = on_peer};
    int rc = dpclient_new(&set->dataplane, loop, set->channel, &handlers, set);
    if (rc != 0)
        return rc;
    set->sweep = malloc(sizeof(*set->sweep));
    if (set->sweep == NULL)
        return -ENOMEM;
    uv_timer_init(loop, set->sweep);
    set->sweep->data = set;
    dpclient_set_ready(set->dataplane, true);
    return uv_timer_start(set->sweep, on_timer, SESSION_SWEEP_MS, SESSION_SWEEP_MS);
}

static void free_timer(uv_handle_t *timer)
{
    free(timer);
}

void session_unlink(struct sessions *set)
{
    dpclient_free(set->dataplane);
    set->dataplane = NULL;
    if (set->sweep != NULL)
        uv_close((uv_handle_t *)set->sweep, free_timer);
    set->sweep = NULL;
}
