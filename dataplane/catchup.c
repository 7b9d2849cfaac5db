#include "catchup.h"
#include "failover.h"
#include "fanout.h"

#define BUDGET 256 // packets per turn, of all viewers
#define SHARE 16   // of one viewer

// The first packet of the last key frame, if the ring still has it.
static const struct media *last_key(const struct track *track)
{
    return track->key_sent ? cache_get(&track->ring, track->key_index) : NULL;
}

static bool is_video(const struct track *track)
{
    return track->config.kind == KIND_VIDEO;
}

void catchup_prepare(struct worker *worker, const struct session *session)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    if (session->role != ROLE_PLAY || !stream)
        return;
    for (uint8_t i = 0; i < session->tracks; i++) {
        if (!tables_sub(&worker->tables, session, i))
            continue;
        struct track *track = &stream->track[session->track[i].source];
        const struct media *key = last_key(track);
        if (is_video(track) && (!key || worker->now_ns - key->arrival_ns > CATCHUP_FRESH_NS))
            track->key_wanted = true;
    }
}

// False: there is nothing to begin with.
static bool begin(struct worker *worker, const struct session *session, uint8_t number,
                  const struct track *track, struct sub *sub)
{
    const struct media *key = last_key(track);
    if (!key || sub->foreign || worker->catchup_count == RTE_DIM(worker->catchup) ||
        track->next_index - track->key_index > CATCHUP_BACK)
        return false;
    uint64_t arrival_ns = key->arrival_ns;
    if (worker->now_ns - arrival_ns > CATCHUP_BACK_NS)
        return false;
    if (!sub_numbered(sub)) {
        sub_number(sub, sub->delta - track->key_index);
        worker_untold(worker);
    }
    sub->catching_up = true;
    worker->catchup[worker->catchup_count++] = (struct catchup){.session = session->id,
                                                                .next = track->key_index,
                                                                .began_ns = worker->now_ns,
                                                                .from_ns = arrival_ns,
                                                                .track = number};
    return true;
}

void catchup_begin(struct worker *worker, struct session *session)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    bool ours = failover_active(worker, tables_sender(&worker->tables, session)->group);
    for (uint8_t i = 0; stream && i < session->tracks; i++) {
        struct sub *sub = tables_sub(&worker->tables, session, i);
        struct track *track = &stream->track[session->track[i].source];
        if (!sub || sub->keyed || !is_video(track))
            continue;
        if (!ours || !begin(worker, session, i, track, sub))
            track->key_wanted = true;
    }
}

// Takes up to `room` packets that are due from the ring. What it misses is left out: the viewer
// asks for it, as for any loss.
static unsigned take_due(const struct worker *worker, struct catchup *c, const struct track *track,
                         const struct media **packets, unsigned room)
{
    const struct cache *ring = &track->ring;
    uint64_t due_ns = c->from_ns + (worker->now_ns - c->began_ns) * CATCHUP_SPEED;
    unsigned count = 0;
    if (track->next_index - c->next > cache_slots(ring))
        c->next = track->next_index - cache_slots(ring);
    for (; count < room && c->next < track->next_index; c->next++) {
        const struct media *m = cache_get(ring, c->next);
        if (m && m->arrival_ns > due_ns)
            break;
        if (m)
            packets[count++] = m;
    }
    return count;
}

// True while this viewer has a way to go.
static bool go_on(struct worker *worker, struct catchup *c, unsigned room, unsigned *sent)
{
    struct session *session = tables_session(&worker->tables, c->session);
    struct stream *stream = session ? tables_stream(&worker->tables, session->stream) : NULL;
    struct sub *sub = stream ? tables_sub(&worker->tables, session, c->track) : NULL;
    if (!sub || !sub->catching_up)
        return false;
    struct sender *sender = tables_sender(&worker->tables, session);
    if (!failover_active(worker, sender->group)) {
        sub->catching_up = false; // the partner's now, which gives it a key frame
        return false;
    }
    struct track *track = &stream->track[session->track[c->track].source];
    const struct media *packets[SHARE];
    unsigned count = take_due(worker, c, track, packets, RTE_MIN(room, (unsigned)SHARE));
    *sent += fanout_one(worker, track, sender, sub, packets, count);
    if (c->next < track->next_index)
        return true;
    sub->catching_up = false;
    sub->keyed = true;
    return false;
}

unsigned catchup_turn(struct worker *worker)
{
    unsigned sent = 0;
    for (unsigned left = worker->catchup_count; left && sent < BUDGET; left--) {
        if (worker->catchup_at >= worker->catchup_count)
            worker->catchup_at = 0;
        struct catchup *c = &worker->catchup[worker->catchup_at];
        if (go_on(worker, c, BUDGET - sent, &sent))
            worker->catchup_at++;
        else
            *c = worker->catchup[--worker->catchup_count];
    }
    return sent;
}
