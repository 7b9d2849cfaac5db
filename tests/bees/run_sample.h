// A look at a run each second: timeline, progress line, JSON stream and Prometheus text.
//
// Main thread; the metrics server's thread reads a copy under a lock.
#ifndef HITLESS_BEES_RUN_SAMPLE_H
#define HITLESS_BEES_RUN_SAMPLE_H

#include "run.h"

struct sampler {
    const struct options *options;
    const struct run_plan *plan;
    struct timeline *timeline; // NULL: none
    uint64_t next_ns, last_ns; // since the run began
    uint64_t last_cpu_us, begin_cpu_us;
    uint64_t *worker_cpu_ns;     // by worker, at the last look
    uint64_t *worker_starved_ns; // the same
    double busiest, starved;     // largest share of a core that a worker used, or wanted in vain
    struct bees_counters last;
    uint32_t joins, failed, left; // so far
    uint32_t last_failed, last_left;
    bool terminal;
    struct json_t *gaps; // of the sessions, milliseconds; NULL: not wanted
};

int sampler_init(struct sampler *sampler, const struct options *options, struct timeline *timeline,
                 const struct run_plan *plan, unsigned workers);
// A session is over.
void sampler_settle(struct sampler *sampler, const struct bees_session *session);
// With --stream --per-session: notes the longest gap of a live session since the last look.
void sampler_gap(struct sampler *sampler, struct bees_session *session);
// Whether a second has passed. `now_ns` since the run began.
bool sampler_due(const struct sampler *sampler, uint64_t now_ns);
// Takes a sample; `sum` is of all sessions, those that are over included.
void sampler_look(struct sampler *sampler, struct worker *workers, unsigned count,
                  const struct bees_counters *sum, uint64_t now_ns);
// Fills in duration and CPU, ends the progress line and frees.
void sampler_end(struct sampler *sampler, struct bees_result *result, uint64_t now_ns);

#endif
