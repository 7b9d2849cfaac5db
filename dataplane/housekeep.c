// What a worker does by the clock: each session once a second, each stream every few milliseconds,
// figures every fifth of a second. In small shares, so that no packet waits for it.
#include "housekeep.h"
#include "failover.h"
#include "feedback.h"
#include "ice.h"
#include "telemetry.h"
#include "trunk.h"
#include "upstream.h"
#include <rte_cycles.h>

#define SWEEP_NS 1000000 // a share of the sessions; each has its turn every second
#define SWEEPS_PER_SECOND 1000
#define TELLS_PER_SWEEP 64 // so that what is told at one go does not fill the channel
#define TELEMETRY_NS 200000000
#define STORE_LOW(blocks) ((blocks) / 16) // free, from where on rings give back

static void sweep_session(struct worker *worker, struct session *session)
{
    telemetry_session(worker, session);
    uint8_t group = tables_sender(&worker->tables, session)->group;
    failover_sweep(worker, session);
    bool numbers = failover_silent(worker, session) || session->unsafe;
    if (!failover_active(worker, group))
        return;
    if (session->state == SESSION_KEYED && session->role == ROLE_PLAY) {
        feedback_report(worker, session);
        tables_want_keyframes(&worker->tables, session);
    }
    if (session->state == SESSION_KEYED && session->role == ROLE_PUBLISH)
        ice_measure(worker, session);
    uint64_t limit = (uint64_t)worker->dp->config->session_timeout_ms * 1000000;
    uint64_t since = atomic_load_explicit(&worker->dp->active_since[group], memory_order_relaxed);
    if (since < session->heard_ns)
        since = session->heard_ns;
    if ((worker->now_ns - since < limit && !numbers) || session->dead_told)
        return;
    struct msg_session_dead message = {
        .head = {.type = MSG_SESSION_DEAD, .length = sizeof(message), .id = session->id},
        .reason = !numbers                        ? DEAD_TIMEOUT
                  : session->role == ROLE_PUBLISH ? DEAD_JUMP
                                                  : DEAD_NUMBERS};
    session->dead_told = worker_tell(worker, &message) == 0;
}

static void sweep(struct worker *worker)
{
    struct tables *tables = &worker->tables;
    uint32_t share = tables->session_end / SWEEPS_PER_SECOND + 1;
    for (uint32_t i = 0; i < share; i++) {
        // A share that is rounded up must not make a session's second shorter.
        if (worker->sweep == 0 && worker->now_ns - worker->sweep_round_ns < 1000000000)
            return;
        if (worker->sweep == 0)
            worker->sweep_round_ns = worker->now_ns;
        if (worker->sweep < tables->session_end &&
            tables->sessions[worker->sweep].state != SESSION_FREE)
            sweep_session(worker, &tables->sessions[worker->sweep]);
        worker->sweep = worker->sweep + 1 < tables->session_end ? worker->sweep + 1 : 0;
    }
}

// A second is long for a partner that may have to go on with them at any moment: with the old ones
// it would send what no viewer can open.
static void tell_moved_numbers(struct worker *worker)
{
    struct tables *tables = &worker->tables;
    for (unsigned i = 0; i < TELLS_PER_SWEEP && worker->untold; i++, worker->untold--) {
        worker->untold_at = worker->untold_at + 1 < tables->session_end ? worker->untold_at + 1 : 0;
        struct session *session = &tables->sessions[worker->untold_at];
        if (session->state != SESSION_FREE && session->role == ROLE_PLAY)
            failover_tell_owed(worker, session);
    }
}

// Wishes for key frames of viewers here go to the worker where the publisher is.
static void pass_key_wishes(struct worker *worker, struct stream *stream)
{
    uint8_t bits = 0;
    for (int t = 0; t < stream->tracks; t++) {
        bits |= (uint8_t)(stream->track[t].key_wanted << t);
        stream->track[t].key_wanted = false;
    }
    if (bits && stream->source_worker < worker->dp->workers)
        atomic_fetch_or_explicit(
            &worker->dp->post[stream->source_worker].key_wanted[MSG_SLOT(stream->id)], bits,
            memory_order_relaxed);
}

static void tick_streams(struct worker *worker)
{
    struct tables *tables = &worker->tables;
    uint32_t seen = 0;
    struct cache *largest = NULL;
    for (uint32_t i = 0; i < tables->max_streams && seen < tables->stream_count; i++) {
        struct stream *stream = tables->streams[i];
        if (!stream)
            continue;
        seen++;
        if (stream->source_worker == worker->id)
            upstream_tick(worker, stream);
        else
            pass_key_wishes(worker, stream);
        if (stream->trunk_id && stream->source_worker == worker->id)
            trunk_tick(worker, stream);
        for (int t = 0; t < stream->tracks; t++) {
            struct cache *ring = &stream->track[t].ring;
            cache_resize(ring, worker->now_ns);
            if (!largest || ring->pen.held > largest->pen.held)
                largest = ring;
        }
    }
    // A stream that is silent keeps what it has, until others need it.
    if (largest && worker->store->free < STORE_LOW(worker->store->blocks))
        cache_relieve(largest);
}

void housekeep(struct worker *worker)
{
    if (worker->now_ns - worker->sweep_ns >= SWEEP_NS) {
        worker->sweep_ns = worker->now_ns;
        worker->staged = worker->now_ns < channel_stages_until(worker->dp->channel);
        worker->stage_tsc = rte_rdtsc();
        STATS_SET(worker->stats->progress_ns, worker->now_ns);
        ice_answer_held(worker);
        sweep(worker);
        tell_moved_numbers(worker);
    }
    if (worker->now_ns - worker->stream_tick_ns >= UPSTREAM_TICK_NS) {
        worker->stream_tick_ns = worker->now_ns;
        tick_streams(worker);
    }
    if (worker->now_ns - worker->stats_ns >= TELEMETRY_NS) {
        worker->stats_ns = worker->now_ns;
        telemetry_worker(worker);
    }
}
