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

// All of `wanted` times, or none: false.
static inline bool budget_take_all(uint64_t *used_ns, uint64_t now_ns, uint64_t each_ns,
                                   uint32_t burst, uint32_t wanted)
{
    uint64_t used = *used_ns > now_ns ? *used_ns : now_ns;
    if (wanted > burst || used - now_ns > (burst - wanted) * each_ns)
        return false;
    *used_ns = used + wanted * each_ns;
    return true;
}

// How many of `wanted` times are left; spends them.
static inline uint32_t budget_take(uint64_t *used_ns, uint64_t now_ns, uint64_t each_ns,
                                   uint32_t burst, uint32_t wanted)
{
    uint64_t used = *used_ns > now_ns ? *used_ns : now_ns;
    uint64_t gone = (used - now_ns + each_ns - 1) / each_ns, left = gone < burst ? burst - gone : 0;
    uint32_t taken = left < wanted ? (uint32_t)left : wanted;
    *used_ns = used + taken * each_ns;
    return taken;
}

#endif
