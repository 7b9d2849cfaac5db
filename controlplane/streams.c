// Streams by name and number, and what the journal knows of them; see streams.h.
#include "secret.h"
#include "streams_private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int streams_new(struct streams **out, uint32_t max, uint32_t workers, uint32_t first_generation,
                struct journal *journal, streams_send_fn send, void *opaque)
{
    uint32_t buckets = 16;
    while (buckets < max)
        buckets *= 2;
    struct streams *s = calloc(1, sizeof(*s) + buckets * sizeof(struct stream *));
    if (s == NULL)
        return -ENOMEM;
    s->workers = workers;
    s->buckets = buckets;
    s->journal = journal;
    s->send = send;
    s->opaque = opaque;
    s->by_slot = calloc(max, sizeof(struct stream *));
    if (s->by_slot == NULL || slots_new(&s->slots, 1, max, first_generation) != 0) {
        streams_free(s);
        return -ENOMEM;
    }
    *out = s;
    return 0;
}

void streams_free(struct streams *s)
{
    if (s == NULL)
        return;
    for (struct stream *st; (st = LIST_FIRST(&s->all)) != NULL;) {
        LIST_REMOVE(st, all);
        free(st);
    }
    slots_free(s->slots);
    free(s->by_slot);
    free(s);
}

bool stream_name_valid(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return n > 0 && n <= STREAM_NAME_MAX && name[n] == 0;
}

static struct stream **bucket_of(struct streams *s, const char *name)
{
    uint32_t hash = 2166136261u; // FNV-1a; a poor spread costs time, bounded by the table's size
    for (; *name != 0; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return &s->bucket[(hash ^ hash >> 16) & (s->buckets - 1)];
}

struct stream *streams_find(struct streams *s, const char *name)
{
    struct stream *st = *bucket_of(s, name);
    while (st != NULL && strcmp(st->name, name) != 0)
        st = st->next;
    return st;
}

struct stream *streams_by_id(struct streams *s, uint64_t id)
{
    uint32_t slot = MSG_SLOT(id);
    struct stream *st = slot < slots_size(s->slots) ? s->by_slot[slot] : NULL;
    return st != NULL && st->id == id && !st->removed ? st : NULL;
}

// A viewer was answered with the codecs, their parameters and the order of the tracks; payload
// types, SSRCs and extension numbers are rewritten on the way and may change.
bool stream_compatible(const struct stream *st, const struct sdp_tracks *tracks)
{
    if (st->tracks.count != tracks->count)
        return false;
    for (unsigned t = 0; t < tracks->count; t++) {
        const struct msg_track *a = &st->tracks.track[t], *b = &tracks->track[t];
        if (a->kind != b->kind || a->codec != b->codec || a->clock_rate != b->clock_rate ||
            strcmp(st->tracks.fmtp[t].text, tracks->fmtp[t].text) != 0)
            return false;
    }
    return true;
}

void streams_save(struct streams *s, const struct stream *st, enum journal_state state)
{
    struct stream_record r = {.id = st->id, .state = (uint8_t)state};
    s->version++;
    if (s->journal == NULL)
        return;
    if (state != JOURNAL_FREE)
        r.told = st->told;
    if (state == JOURNAL_OPEN) {
        r.since_ms = st->since_ms;
        r.source_worker = st->source_worker;
        r.home = st->home;
        r.live = st->live;
        r.stalled = st->stalled;
        r.group = st->group;
        r.remote = st->remote;
        r.trunk_id = st->trunk_id;
        memcpy(r.name, st->name, sizeof(st->name));
        r.tracks = st->tracks;
    }
    journal_put_stream(s->journal, &r);
}

void streams_save_as_it_is(struct streams *s, const struct stream *st)
{
    streams_save(s, st, st->removed ? JOURNAL_CLOSING : JOURNAL_OPEN);
}

static struct stream *make(const char *name)
{
    struct stream *st = calloc(1, sizeof(*st));
    if (st == NULL)
        return NULL;
    memcpy(st->name, name, strnlen(name, STREAM_NAME_MAX));
    st->forward = FORWARD_UNKNOWN;
    LIST_INIT(&st->viewers);
    return st;
}

// Puts a stream that has its number into the tables; a removed one has no name any more.
static void enter(struct streams *s, struct stream *st)
{
    if (!st->removed) {
        struct stream **bucket = bucket_of(s, st->name);
        st->next = *bucket;
        *bucket = st;
    }
    s->by_slot[MSG_SLOT(st->id)] = st;
    LIST_INSERT_HEAD(&s->all, st, all);
    s->dirty = true;
}

static int stream_new(struct streams *s, const char *name, struct stream **out)
{
    struct stream *st = make(name);
    if (st == NULL)
        return -ENOMEM;
    int rc = secret_random(&st->trunk_id, sizeof(st->trunk_id));
    st->trunk_id |= 1; // not 0
    st->id = rc == 0 ? slots_take(s->slots, 0) : 0;
    if (st->id == 0) {
        free(st);
        return rc == 0 ? -ENOSPC : rc;
    }
    enter(s, st);
    *out = st;
    return 0;
}

int stream_publish(struct streams *s, const char *name, struct session *publisher, uint32_t worker,
                   const struct sdp_tracks *tracks, struct stream **out)
{
    struct stream *st = streams_find(s, name);
    int rc = 0;
    if (st != NULL && st->publisher != NULL)
        return -EBUSY;
    if (st != NULL && !stream_compatible(st, tracks))
        return -EPROTO;
    if (st == NULL)
        rc = stream_new(s, name, &st);
    if (rc != 0)
        return rc;
    st->publisher = publisher;
    st->source_worker = worker;
    st->home = (uint8_t)worker;
    st->tracks = *tracks;
    st->live = st->stalled = false;
    st->current = 0; // everyone who has it gets the new tracks and source
    st->forward = FORWARD_UNKNOWN;
    s->dirty = true;
    streams_save(s, st, JOURNAL_OPEN);
    *out = st;
    return 0;
}

void stream_protect(struct streams *s, struct stream *st, uint8_t group, bool remote,
                    uint64_t trunk_id)
{
    if (st->group == group && st->remote == remote && st->trunk_id == trunk_id)
        return;
    if (st->group != group || st->trunk_id != trunk_id)
        st->current = 0;
    st->group = group;
    st->remote = remote;
    st->trunk_id = trunk_id;
    s->dirty = true;
    streams_save(s, st, JOURNAL_OPEN);
}

void stream_at_home(struct streams *s, struct stream *st, uint8_t home)
{
    if (st->home == home)
        return;
    st->home = home;
    st->current = 0;
    s->dirty = true;
    streams_save(s, st, JOURNAL_OPEN);
}

bool stream_fed(const struct stream *st)
{
    return st->publisher != NULL || st->remote;
}

uint64_t streams_version(const struct streams *s)
{
    return s->version;
}

void stream_unpublish(struct streams *s, struct stream *st, uint64_t now_ms)
{
    st->publisher = NULL;
    st->gone_ms = now_ms;
    if (!st->remote)
        st->live = false;
    if (st->viewer_count == 0 && !st->remote)
        stream_remove(s, st);
    else
        streams_save(s, st, JOURNAL_OPEN);
}

void stream_view(struct streams *s, struct stream *st, uint32_t worker)
{
    st->viewer_count++;
    st->worker_viewers[worker]++;
    s->dirty = true;
}

void stream_unview(struct streams *s, struct stream *st, uint32_t worker)
{
    st->viewer_count--;
    st->worker_viewers[worker]--;
    s->dirty = true;
    if (st->viewer_count == 0 && !stream_fed(st))
        stream_remove(s, st);
}

void stream_remove(struct streams *s, struct stream *st)
{
    struct stream **at = bucket_of(s, st->name);
    while (*at != st)
        at = &(*at)->next;
    *at = st->next;
    st->removed = true;
    s->dirty = true;
    streams_save(s, st, JOURNAL_CLOSING);
}

void stream_state(struct streams *s, struct stream *st, enum stream_state state, uint64_t clock_ms)
{
    bool live = state == STREAM_LIVE;
    if (!stream_fed(st) || live == st->live)
        return;
    st->live = live;
    st->stalled = !live;
    if (live)
        st->since_ms = clock_ms;
    streams_save(s, st, JOURNAL_OPEN);
}

struct stream *streams_expired(struct streams *s, uint64_t now_ms, uint64_t grace_ms)
{
    struct stream *st;
    for (st = LIST_FIRST(&s->all); st != NULL; st = LIST_NEXT(st, all))
        if (!st->removed && !stream_fed(st) && now_ms - st->gone_ms >= grace_ms)
            return st;
    return NULL;
}

// A stream under a number that was given out earlier.
static int take_back(struct streams *s, uint64_t id, const char *name, struct stream **out)
{
    struct stream *st = make(name);
    int rc = st == NULL ? -ENOMEM : slots_reserve(s->slots, 0, id);
    if (rc != 0) {
        free(st);
        return rc;
    }
    st->id = id;
    *out = st;
    return 0;
}

int streams_restore(struct streams *s, const struct stream_record *r, uint64_t now_ms)
{
    struct stream *st;
    if (r->state == JOURNAL_FREE) {
        slots_last(s->slots, 0, r->id);
        return 0;
    }
    if (r->state == JOURNAL_OPEN && r->source_worker >= s->workers)
        return -EINVAL;
    if (r->state == JOURNAL_OPEN && streams_find(s, r->name) != NULL)
        return -EBUSY;
    int rc = take_back(s, r->id, r->name, &st);
    if (rc != 0)
        return rc;
    st->told = r->told & ((1u << s->workers) - 1);
    st->removed = r->state != JOURNAL_OPEN;
    st->gone_ms = now_ms;
    st->tracks = r->tracks;
    st->source_worker = r->source_worker;
    st->home = r->home;
    st->live = r->live;
    st->stalled = r->stalled;
    st->since_ms = r->since_ms;
    st->group = r->group;
    st->remote = r->remote;
    st->trunk_id = r->trunk_id;
    enter(s, st);
    return 0;
}

bool stream_rejoin(struct stream *st, struct session *publisher, uint32_t worker)
{
    if (st->publisher != NULL || st->source_worker != worker)
        return false;
    st->publisher = publisher;
    return true;
}

void streams_restored(struct streams *s)
{
    struct stream *st;
    for (st = LIST_FIRST(&s->all); st != NULL; st = LIST_NEXT(st, all)) {
        if (!stream_fed(st))
            st->live = false;
        if (!st->removed && !stream_fed(st) && st->viewer_count == 0)
            stream_remove(s, st);
    }
}

int streams_disown(struct streams *s, uint64_t id)
{
    struct stream *st;
    int rc = take_back(s, id, "", &st);
    if (rc != 0)
        return rc;
    st->told = (1u << s->workers) - 1;
    st->removed = true;
    enter(s, st);
    streams_save(s, st, JOURNAL_CLOSING);
    return 0;
}

void streams_visit(struct streams *s, void (*visit)(struct stream *, void *), void *opaque)
{
    struct stream *st;
    for (st = LIST_FIRST(&s->all); st != NULL; st = LIST_NEXT(st, all))
        if (!st->removed)
            visit(st, opaque);
}
