// The largest load that a server carries: runs trials as search.h asks for them.
#ifndef HITLESS_BEES_CAPACITY_H
#define HITLESS_BEES_CAPACITY_H

#include "run.h"
#include "search.h"

// Searches. `result` is the trial with the largest load that passed, or the last one; `timeline` is
// of all trials, one after the other. 0 or a negative errno.
int capacity_search(const struct run_environment *environment, struct search *search,
                    struct bees_result *result, struct timeline *timeline);

// The bounds of a trial: lost packets as a fraction, and the 99th percentile of joining, in ms.
double capacity_max_loss(const struct options *options);
double capacity_max_join_ms(const struct options *options);

// What a trial says. Pure.
enum search_verdict capacity_judge(const struct bees_result *result, const struct options *options);

#endif
