// The first moment after a takeover: what the partner may have died with before it was sent.
#ifndef HITLESS_TAKEOVER_H
#define HITLESS_TAKEOVER_H

#include "worker.h"

#define TAKEOVER_HURRY_NS 100000000

// Every turn, after failover_turn. Viewers of groups that failure detection has just made ours get
// what came since the partner was last heard, without asking: the same bytes under the same
// indexes, should they have some of it already. Before, publishers are asked for what they sent to
// the partner meanwhile. Returns the number of packets sent to viewers.
unsigned takeover_turn(struct worker *worker);

// In the moment after, every viewer waits: a packet goes to all of them before the next is looked
// at, however many have come.
static inline bool takeover_hurries(const struct worker *worker)
{
    return worker->now_ns - worker->seized_ns < TAKEOVER_HURRY_NS;
}

#endif
