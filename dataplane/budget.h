// How often something may be done: `burst` times at once, and from then on once in `each_ns`. All
// that is kept is the time up to which the budget is used; 0, or any time that has passed: all of
// it is there.
#ifndef HITLESS_BUDGET_H
#define HITLESS_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

static inline bool budget_left(uint64_t used_ns, uint64_t now_ns, uint64_t each_ns, uint64_t burst)
{
    return used_ns <= now_ns || used_ns - now_ns <= (burst - 1) * each_ns;
}

static inline void budget_spend(uint64_t *used_ns, uint64_t now_ns, uint64_t each_ns)
{
    *used_ns = (*used_ns > now_ns ? *used_ns : now_ns) + each_ns;
}

#endif
