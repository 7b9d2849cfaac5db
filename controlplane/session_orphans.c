// Sessions that the dataplane still carries for a predecessor of this process: their media goes on,
// nobody here knows their URLs, and their numbers must not be used until they are over; see
// session_set.h. Runs on the loop. What is known of them is what the statistics say.
#include "config.h"
#include "session_set.h"
#include <errno.h>
#include <stdlib.h>

#define LOOK_MS 1000

static uint64_t stats_id(const uint64_t *id)
{
    return __atomic_load_n(id, __ATOMIC_RELAXED);
}

static struct stats_session *stats_of(struct sessions *set, const struct orphan *o)
{
    return channel_session_stats(set->channel, o->worker, MSG_SLOT(o->id));
}

static int adopt(struct sessions *set, uint32_t worker, uint64_t id)
{
    struct orphan *o = calloc(1, sizeof(*o));
    int rc = o == NULL ? -ENOMEM : slots_reserve(set->slots, worker, id);
    if (rc != 0) {
        free(o);
        return rc;
    }
    *o = (struct orphan){.worker = worker, .id = id};
    LIST_INSERT_HEAD(&set->orphans, o, all);
    return 0;
}

void orphans_find(struct sessions *set)
{
    uint32_t sessions = 0;
    for (uint32_t w = 0; w < set->abi->workers; w++)
        for (uint32_t slot = 0; slot < set->abi->max_sessions; slot++) {
            struct stats_session *stats = channel_session_stats(set->channel, w, slot);
            uint64_t id = stats != NULL ? stats_id(&stats->id) : 0;
            sessions += id != 0 && MSG_SLOT(id) == slot && adopt(set, w, id) == 0;
        }
    for (uint32_t slot = 0; slot < set->abi->max_streams; slot++) {
        struct stats_stream *stats = channel_stream_stats(set->channel, slot);
        uint64_t id = stats != NULL ? stats_id(&stats->id) : 0;
        if (id != 0 && MSG_SLOT(id) == slot)
            streams_keep(set->streams, id);
    }
    if (sessions > 0)
        log_info("the dataplane carries %u sessions of an earlier control plane; they go on",
                 sessions);
    else
        streams_let_go(set->streams);
}

static void release(struct sessions *set, struct orphan *o)
{
    slots_give(set->slots, o->worker, o->id);
    LIST_REMOVE(o, all);
    free(o);
    if (LIST_EMPTY(&set->orphans))
        streams_let_go(set->streams);
}

static void end(struct sessions *set, uint32_t worker, uint64_t id)
{
    struct msg_session_close m = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(m), .id = id}};
    session_send(set, 1 + worker, &m);
}

void orphans_message(struct sessions *set, uint32_t worker, const struct msg_head *m)
{
    struct orphan *o = LIST_FIRST(&set->orphans);
    while (o != NULL && (o->worker != worker || o->id != m->id))
        o = LIST_NEXT(o, all);
    if (o != NULL && m->type == MSG_SESSION_CLOSED)
        release(set, o);
    else if (o != NULL && m->type == MSG_SESSION_DEAD)
        end(set, worker, m->id);
}

void orphans_sweep(struct sessions *set, uint64_t now)
{
    if (LIST_EMPTY(&set->orphans) || now - set->orphans_ms < LOOK_MS)
        return;
    set->orphans_ms = now;
    uint64_t silence_ns = 2000000ull * set->config->session.timeout_ms;
    for (struct orphan *o = LIST_FIRST(&set->orphans), *next; o != NULL; o = next) {
        next = LIST_NEXT(o, all);
        struct stats_session *stats = stats_of(set, o);
        uint64_t heard = __atomic_load_n(&stats->last_heard_ns, __ATOMIC_RELAXED);
        if (stats_id(&stats->id) != o->id)
            release(set, o);
        else if (now * 1000000 > heard + silence_ns) // its SESSION_DEAD came while we were away
            end(set, o->worker, o->id);
    }
}

void orphans_forget(struct sessions *set)
{
    for (struct orphan *next, *o = LIST_FIRST(&set->orphans); o != NULL; o = next) {
        next = LIST_NEXT(o, all);
        release(set, o);
    }
}
