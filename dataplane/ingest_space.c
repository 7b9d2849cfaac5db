// Which index space a track is in, and its viewers' way from one to the next; see ingest_space.h.
#include "ingest_space.h"
#include "budget.h"
#include "failover.h"
#include <rte_random.h>

// How fast the numbers of a track may go on that a partner follows: what we have not seen of it
// when its publisher changes stays within INDEX_SPARE. 115 Mbit/s of 1,200 bytes; and so many at
// once, be it a key frame or, at 1,000 a second, 11 s in which the publisher's packets were lost.
#define ADVANCE_EACH_NS UINT64_C(83333)
#define ADVANCE_BURST 11500u
_Static_assert(ADVANCE_BURST + INGEST_UNSEEN_NS / ADVANCE_EACH_NS < INDEX_SPARE,
               "a partner's unseen packets fit what is left free");

// Where a track's index space starts: high enough that older packets never leave it.
#define FIRST_INDEX UINT64_C(0x100000)

// At random, because whoever served the track before may not be there to ask.
uint64_t ingest_first_index(void)
{
    uint64_t spaces = INDEX_MASK >> INDEX_SPACE_BITS;
    return (1 + rte_rand() % spaces) << INDEX_SPACE_BITS | FIRST_INDEX;
}

// Whether the partner can have sent at most INDEX_SPARE packets of the track that we have not seen:
// its packets come here, too, while it is in sight. Out of sight it may go on under the old
// numbers, however long ago the last packet came: its publisher may be back, or another.
static bool is_bounded(const struct worker *worker, uint8_t group, const struct track *track)
{
    uint64_t sight = atomic_load_explicit(&worker->dp->sight_since[group], memory_order_relaxed);
    return sight && sight <= track->last_ns;
}

void ingest_next_publisher(const struct worker *worker, struct stream *stream)
{
    // The last one may have gone over to the partner, which then goes on with the same numbers.
    for (struct track *track = stream->track; track < stream->track + stream->tracks; track++)
        if (stream->group && track->next_index && !is_bounded(worker, stream->group, track))
            track->trunk_fed = true;
}

// The track began anew elsewhere: its viewers' own numbers go on behind the last ones. Those of a
// session that the partner serves are the partner's to move. Where nobody knows how far the partner
// has gone, no number is safe: the session ends, and its client comes again with other keys.
static void enter_space(struct worker *worker, struct track *track, uint64_t index)
{
    uint64_t from = (track->next_index - 1) >> INDEX_SPACE_BITS, to = index >> INDEX_SPACE_BITS;
    for (uint32_t v = 0; track->next_index && v < track->viewer_count; v++) {
        const struct viewer_ref *viewer = &track->viewers[v];
        struct sender *sender = &worker->tables.senders[viewer->session];
        struct sub *sub = &sender->sub[viewer->track];
        if (!sub_numbered(sub) || sub->foreign || sub_moved(sub, from, to) ||
            !failover_active(worker, sender->group))
            continue;
        if (sender->group && !is_bounded(worker, sender->group, track)) {
            sub->foreign = true;
            worker->tables.sessions[viewer->session].unsafe = true;
            continue;
        }
        // Whoever had the track before may have sent some that never came here.
        uint64_t spare = sender->group ? INDEX_SPARE : 0;
        worker->tables.sessions[viewer->session].numbers_told = 0;
        worker_untold(worker);
        sub_move(sub, sub->delta + track->next_index + spare - index, to);
    }
    cache_clear(&track->ring, index);
    track->next_index = index;
    failover_find_strays(worker, track); // those of a standby; those that came before any packet
    track->key_sent = false;             // or a lower space's key frames would count as older ones
}

bool ingest_may_advance(const struct worker *worker, struct session *session,
                        const struct stream *stream, struct track *track, uint64_t index)
{
    if (!stream->trunk_id || !ingest_same_space(track, index) || index < track->next_index)
        return true;
    uint64_t step = index + 1 - track->next_index;
    if (step > ADVANCE_BURST)
        session->unsafe = true;
    return !session->unsafe && budget_take_all(&track->advance_ns, worker->now_ns, ADVANCE_EACH_NS,
                                               ADVANCE_BURST, (uint32_t)step);
}

bool ingest_keep(struct worker *worker, struct track *track, struct rte_mbuf *m)
{
    const struct media *media = media_of(m);
    if (!ingest_same_space(track, media->index))
        enter_space(worker, track, media->index);
    int rc = cache_put(&track->ring, media->index, media, media_size(media));
    if (rc) {
        worker_drop(worker, rc == -EEXIST   ? DROP_cache_duplicate
                            : rc == -ESTALE ? DROP_cache_old
                                            : DROP_no_mbuf);
        rte_pktmbuf_free(m);
        return false;
    }
    if (media->index >= track->next_index) {
        track->next_index = media->index + 1;
        track->last_timestamp = media->timestamp;
        track->last_ns = media->arrival_ns;
    }
    return true;
}

bool ingest_is_alone(const struct worker *worker, const struct stream *stream)
{
    return worker->now_ns - stream->trunk_ns >= NEAR_NS &&
           atomic_load_explicit(&worker->dp->sight_since[stream->group], memory_order_relaxed);
}
