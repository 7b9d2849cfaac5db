// A worker's share of the housekeeping in each turn; see housekeep.c.
#ifndef HITLESS_HOUSEKEEP_H
#define HITLESS_HOUSEKEEP_H

#include "worker.h"

// Does what is due at worker->now_ns.
void housekeep(struct worker *worker);

#endif
