#include "takeover.h"
#include "failover.h"
#include "fanout.h"
#include "upstream.h"

#define PACKETS_MAX 64 // of a track: the newest; viewers ask for what is missing before
// What came this long before we last heard the partner, it may not have got out: it says that it is
// alive between two turns, but another of its workers may be in the middle of one. Should that take
// longer, its packets are like any that were lost: viewers ask for them when the next ones come,
// and the ring has them. Repeated now they come a round trip sooner; that is all that hangs on it,
// since what some have already is the same bytes.
#define MARGIN_NS 2000000
// Publishers nearby have answered by then: what is new to all viewers goes before what many have.
#define ANSWER_NS 1000000

// The track's packets from then on to the takeover that the ring holds, oldest first.
static unsigned recent(const struct track *track, uint64_t since_ns, uint64_t until_ns,
                       const struct media *packets[])
{
    unsigned count = 0;
    uint64_t first = track->next_index > PACKETS_MAX ? track->next_index - PACKETS_MAX : 0;
    for (uint64_t index = first; index < track->next_index; index++) {
        const struct media *m = cache_get(&track->ring, index);
        if (m && m->arrival_ns >= since_ns && m->arrival_ns < until_ns)
            packets[count++] = m;
    }
    return count;
}

// Of all tracks, oldest first, and each packet to all viewers before the next: who comes last in
// the round waits for one packet's copies, not for all.
static unsigned send_recent(struct worker *worker, struct stream *stream, uint64_t since_ns)
{
    const struct media *packets[MSG_MAX_TRACKS][PACKETS_MAX];
    unsigned count[MSG_MAX_TRACKS] = {0}, next[MSG_MAX_TRACKS] = {0}, sent = 0;
    for (int t = 0; t < stream->tracks; t++)
        count[t] = recent(&stream->track[t], since_ns, worker->seized_ns, packets[t]);
    for (;;) {
        int oldest = -1;
        for (int t = 0; t < stream->tracks; t++)
            if (next[t] < count[t] && (oldest < 0 || packets[t][next[t]]->arrival_ns <
                                                         packets[oldest][next[oldest]]->arrival_ns))
                oldest = t;
        if (oldest < 0)
            return sent;
        struct fan_group one = {.track = &stream->track[oldest],
                                .packets = &packets[oldest][next[oldest]++],
                                .count = 1};
        sent += fanout_run(worker, &one, 1);
    }
}

static void ask_publishers(struct worker *worker, uint8_t group)
{
    const struct tables *tables = &worker->tables;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < tables->max_streams && seen < tables->stream_count; i++) {
        if (!tables->streams[i])
            continue;
        seen++;
        if (tables->streams[i]->group == group)
            upstream_seized(worker, tables->streams[i]);
    }
    worker_flush(worker);
}

static unsigned serve_since(struct worker *worker, uint8_t group, uint64_t since_ns)
{
    const struct tables *tables = &worker->tables;
    uint32_t all = worker->active_groups, seen = 0;
    unsigned sent = 0;
    worker->active_groups = 1u << group; // nobody else needs it
    for (uint32_t i = 0; i < tables->max_streams && seen < tables->stream_count; i++) {
        if (!tables->streams[i])
            continue;
        seen++;
        sent += send_recent(worker, tables->streams[i], since_ns);
    }
    worker->active_groups = all;
    return sent;
}

static unsigned repeat(struct worker *worker)
{
    unsigned sent = 0;
    if (!worker->repeat_groups || worker->now_ns - worker->seized_ns < ANSWER_NS)
        return 0;
    uint32_t groups = worker->repeat_groups & worker->active_groups;
    for (worker->repeat_groups = 0; groups; groups &= groups - 1) {
        uint8_t g = (uint8_t)__builtin_ctz(groups);
        sent += serve_since(worker, g, worker->repeat_since[g]);
    }
    return sent;
}

// A publisher may have gone on elsewhere, and what that did to viewers' numbers not have come here.
static void find_strays(struct worker *worker)
{
    const struct tables *tables = &worker->tables;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < tables->max_streams && seen < tables->stream_count; i++) {
        struct stream *stream = tables->streams[i];
        seen += stream != NULL;
        for (int t = 0; stream && t < stream->tracks; t++)
            if (stream->track[t].strays)
                failover_find_strays(worker, &stream->track[t]);
    }
}

unsigned takeover_turn(struct worker *worker)
{
    struct dataplane *dp = worker->dp;
    uint32_t gained = worker->active_groups & ~worker->served_groups;
    worker->served_groups = worker->active_groups;
    if (gained)
        find_strays(worker);
    for (; gained; gained &= gained - 1) {
        uint8_t g = (uint8_t)__builtin_ctz(gained);
        uint32_t term = atomic_load_explicit(&dp->term[g], memory_order_relaxed);
        if (!term || atomic_load_explicit(&dp->seized[g], memory_order_relaxed) != term)
            continue; // handed over: nothing is lost
        uint64_t since = atomic_load_explicit(&dp->unserved_since[g], memory_order_relaxed);
        worker->seized_ns = worker->now_ns;
        worker->repeat_since[g] = since - MARGIN_NS;
        worker->repeat_groups |= 1u << g;
        ask_publishers(worker, g);
    }
    return repeat(worker);
}
