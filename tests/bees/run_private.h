// Inside of a run: what run.c and run_sessions.c share. Main thread, but for `ended`.
#ifndef HITLESS_BEES_RUN_PRIVATE_H
#define HITLESS_BEES_RUN_PRIVATE_H

#include "run.h"
#include "run_sample.h"
#include "signalling.h"
#include <pthread.h>
#include <time.h>

#define RUN_BLOCK 1024 // sessions' results allocated at a time

struct run;

// What the main thread keeps of a session while it lives.
struct ticket {
    struct run *run;
    struct bees_session *result;
    struct session *session; // NULL once a worker has it
    char *location, *etag;
    uint64_t leave_ns;         // churn; UINT64_MAX: stays
    uint64_t again_ns;         // when it is posted again; 0: it does not wait for that
    enum bees_failure refusal; // what it was refused for
    uint32_t place;            // in run->live
    bool with_worker, told;
};

struct run {
    const struct run_environment *environment;
    const struct options *options;
    const struct run_plan *plan;
    struct bees_result *result;
    struct signalling *signalling;
    struct worker_config config;
    struct worker *worker;
    unsigned workers; // started
    uint64_t begin_ns, end_ns;
    uint64_t next_ns; // when the next session begins
    struct bees_session **block;
    uint32_t blocks, begun;
    struct ticket **live;
    uint32_t lives, room, successes;
    uint32_t refused;  // of them, that wait to be posted again
    uint64_t again_ns; // when the first of those is due
    bool stopping;
    struct bees_counters settled; // sum of the sessions that are over
    struct sampler sampler;

    pthread_mutex_t lock; // of ended: worker threads add
    struct session **ended;
    uint32_t ends, ends_room;
};

static inline uint64_t run_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline struct bees_session *run_session(const struct run *run, uint32_t number)
{
    return &run->block[number / RUN_BLOCK][number % RUN_BLOCK];
}

// What all sessions of the run offer.
void run_make_offer(const struct run_environment *environment, struct offer *offer);
// Begins one: makes its socket and offer and sends its POST. What fails is counted.
void run_begin_session(struct run *run, const struct offer *offer);
// Posts those again that the server told to come later, as they become due; once the run is
// stopping, lets their refusals stand.
void run_post_again(struct run *run, uint64_t now_ns);
// For workers: a session is over. Any thread; `opaque` is the run.
void run_session_ended(void *opaque, struct session *session);
// Takes back the sessions that workers have ended, and says DELETE for each.
void run_collect_ended(struct run *run);

#endif
