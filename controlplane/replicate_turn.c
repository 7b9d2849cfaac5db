// What becomes of all sessions and streams of a group when the holder has named those that there
// are, and when the group changes hands; see replicate.h.
#include "log.h"
#include "replicate_private.h"

static void unsee(struct stream *stream, void *opaque)
{
    if (stream->group == *(const uint8_t *)opaque)
        stream->seen = false;
}

void import_begin(struct replicate *r, unsigned index)
{
    struct session *s;
    uint8_t group = (uint8_t)(index + 1);
    TAILQ_FOREACH(s, &r->set->open, all)
    {
        if (s->open.group == group)
            s->replica.seen = false;
    }
    streams_visit(r->set->streams, unsee, &group);
}

struct unseen {
    uint8_t group;
    struct stream *stream;
};

static void find_unseen(struct stream *stream, void *opaque)
{
    struct unseen *unseen = opaque;
    if (stream->remote && !stream->seen && stream->group == unseen->group)
        unseen->stream = stream;
}

void import_sweep(struct replicate *r, unsigned index)
{
    struct unseen unseen = {.group = (uint8_t)(index + 1)};
    struct session *next, *s = TAILQ_FIRST(&r->set->open);
    unsigned count = 0;
    for (; s != NULL; s = next) {
        next = TAILQ_NEXT(s, all);
        if (s->open.group != unseen.group || s->replica.seen)
            continue;
        import_end(r, s);
        count++;
    }
    for (;;) {
        unseen.stream = NULL;
        streams_visit(r->set->streams, find_unseen, &unseen);
        if (unseen.stream == NULL)
            break;
        import_drop_stream(r, unseen.stream);
    }
    if (count > 0)
        log_info("%u sessions that the partner no longer has are forgotten", count);
}

struct turn {
    struct replicate *r;
    uint8_t group;
    bool remote;
};

static void turn_stream(struct stream *stream, void *opaque)
{
    const struct turn *turn = opaque;
    if (stream->group != turn->group)
        return;
    stream_protect(turn->r->set->streams, stream, stream->group, turn->remote, stream->trunk_id);
    if (!stream_fed(stream))
        stream->gone_ms = turn->r->set->now_ms(); // its viewers' wait begins
}

static void find_deserted(struct stream *stream, void *opaque)
{
    if (!stream_fed(stream) && stream->viewer_count == 0)
        *(struct stream **)opaque = stream;
}

// A stream that nobody publishes or watches is not one.
static void remove_deserted(struct streams *streams)
{
    for (;;) {
        struct stream *deserted = NULL;
        streams_visit(streams, find_deserted, &deserted);
        if (deserted == NULL)
            return;
        stream_remove(streams, deserted);
    }
}

static void turn_group(struct replicate *r, unsigned index, bool remote)
{
    struct turn turn = {.r = r, .group = (uint8_t)(index + 1), .remote = remote};
    struct session *s;
    streams_visit(r->set->streams, turn_stream, &turn);
    remove_deserted(r->set->streams);
    TAILQ_FOREACH(s, &r->set->open, all)
    {
        if (s->open.group == turn.group) {
            s->since_ms = r->set->now_ms(); // deadlines begin now
            s->was_away |= remote;
        }
    }
}

void import_taken_over(struct replicate *r, unsigned index)
{
    turn_group(r, index, false);
}

void import_left(struct replicate *r, unsigned index)
{
    turn_group(r, index, true);
}

static void take_stream_in(struct stream *stream, void *opaque)
{
    const struct replicate *r = opaque;
    if (stream->group == 0 && !stream->remote)
        stream_protect(r->set->streams, stream, REPLICATE_OWN, false, stream->trunk_id);
}

void import_unprotected(struct replicate *r)
{
    struct session *s;
    unsigned count = 0;
    if (replicate_group(r, ROLE_PLAY) == 0)
        return;
    streams_visit(r->set->streams, take_stream_in, r);
    TAILQ_FOREACH(s, &r->set->open, all)
    {
        if (s->open.group != 0)
            continue;
        s->open.group = REPLICATE_OWN;
        session_owe_open(s);
        session_save(s, NULL); // and told to the partner, as any change is
        session_tell(s);
        count++;
    }
    if (count > 0)
        log_info("%u sessions that were not protected are from now on", count);
}
