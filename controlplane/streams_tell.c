// What the workers are told of the streams: opens, forwards, closes; see streams.h. Loop thread. A
// message that finds no room is sent with the next streams_sync.
#include "streams_private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int tell_open(struct streams *s, struct stream *st, uint32_t worker)
{
    struct msg_stream_open m = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(m), .id = st->id},
        .source_worker = (uint8_t)st->source_worker,
        .tracks = st->tracks.count,
        .group = st->group,
        .home = st->home,
        .peers = st->group != 0, // partner 0, if we are the source then
        .trunk_id = st->group != 0 ? st->trunk_id : 0,
    };
    memcpy(m.track, st->tracks.track, sizeof(m.track));
    uint32_t told = st->told;
    st->told |= 1u << worker;
    if (st->told != told) // beforehand: what a worker knows, the journal knows
        streams_save_as_it_is(s, st);
    int rc = s->send(s->opaque, 1 + worker, &m);
    if (rc == 0)
        st->current |= 1u << worker;
    return rc;
}

static int tell_close(struct streams *s, struct stream *st, uint32_t worker)
{
    struct msg_stream_close m = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(m), .id = st->id}};
    int rc = s->send(s->opaque, 1 + worker, &m);
    if (rc != 0)
        return rc;
    st->told &= ~(1u << worker);
    st->current &= ~(1u << worker);
    streams_save_as_it_is(s, st);
    return 0;
}

static int tell_forward(struct streams *s, struct stream *st, uint32_t workers)
{
    struct msg_stream_forward m = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(m), .id = st->id},
        .workers = workers,
    };
    int rc = s->send(s->opaque, 1 + st->source_worker, &m);
    if (rc == 0)
        st->forward = workers;
    return rc;
}

// Opens before forwards before closes: the source never forwards to a worker that does not know
// the stream.
static int sync_stream(struct streams *s, struct stream *st)
{
    uint32_t want = 0, forward = 0;
    for (uint32_t w = 0; !st->removed && w < s->workers; w++)
        if (st->worker_viewers[w] > 0)
            want |= 1u << w;
    if (!st->removed) {
        forward = want & ~(1u << st->source_worker);
        want |= 1u << st->source_worker;
    }
    int failed = 0;
    for (uint32_t w = 0; w < s->workers; w++)
        if ((want & ~st->current) >> w & 1)
            failed |= tell_open(s, st, w);
    forward &= st->current;
    if (!st->removed && forward != st->forward && (st->current >> st->source_worker & 1))
        failed |= tell_forward(s, st, forward);
    for (uint32_t w = 0; w < s->workers; w++)
        if ((st->told & ~want) >> w & 1)
            failed |= tell_close(s, st, w);
    return failed;
}

int streams_sync(struct streams *s)
{
    if (!s->dirty)
        return 0;
    s->dirty = false;
    struct stream *st = LIST_FIRST(&s->all), *next;
    for (; st != NULL; st = next) {
        next = LIST_NEXT(st, all);
        if (sync_stream(s, st) != 0)
            s->dirty = true;
        if (st->removed && st->told == 0) {
            LIST_REMOVE(st, all);
            s->by_slot[MSG_SLOT(st->id)] = NULL;
            slots_give(s->slots, 0, st->id);
            streams_save(s, st, JOURNAL_FREE);
            free(st);
        }
    }
    return s->dirty ? -EAGAIN : 0;
}

void streams_repeat(struct streams *s)
{
    struct stream *st;
    for (st = LIST_FIRST(&s->all); st != NULL; st = LIST_NEXT(st, all)) {
        st->current = 0;
        st->forward = FORWARD_UNKNOWN;
    }
    s->dirty = true;
}
