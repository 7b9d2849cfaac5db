// One run against one server: begins sessions at their pace, ends them, samples each second.
//
// The main thread does that and the HTTP; workers do the rest. A capacity search makes several runs
// one after the other with the same environment.
#ifndef HITLESS_BEES_RUN_H
#define HITLESS_BEES_RUN_H

#include "bees.h"
#include "options.h"
#include "timeline.h"
#include "worker.h"

#define RUN_CHURN_LAST_S 1      // before the end of a churning run nobody new joins
#define RUN_SESSIONS_MAX 400000 // of one run, those that left included

// What outlives a single run.
struct run_environment {
    const struct options *options;
    struct dtls_identity identity;
    struct media *media; // NULL: no publishers
    unsigned workers;
    unsigned locals;
    struct abi_addr local[OFFER_LOCALS]; // our addresses towards the server
};

struct run_plan {
    enum mode mode;
    uint32_t sessions;
    double rate;       // begun each second
    double duration_s; // from the first POST on; 0: `hold_s` after the last one joined
    double hold_s;     // with duration_s 0
    double limit_s;    // with duration_s 0: the end, whatever has joined by then
    double stay_s;     // churn
};

// Looks the server up, makes certificate and media, sizes the workers. Returns 0 or a negative
// errno after a line on stderr; -EPERM for a public address.
int run_prepare(struct run_environment *environment, const struct options *options);
void run_release(struct run_environment *environment);

// Does it. `result` (its sessions are to be freed with run_free_result) is filled in whatever
// happens. `timeline` may be NULL. Returns 0 or a negative errno when it could not even begin.
int run_execute(const struct run_environment *environment, const struct run_plan *plan,
                struct bees_result *result, struct timeline *timeline);
void run_free_result(struct bees_result *result);

// Makes every run end in order, from a signal handler, too.
void run_interrupt(void);
bool run_interrupted(void);

// Serves --metrics for as long as the program runs. 0 or a negative errno.
int run_serve_metrics(const struct options *options);
void run_stop_metrics(void);

#endif
