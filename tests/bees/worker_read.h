// Reads datagrams from the sockets of a worker's sessions, with the times that the kernel gives
// them.
#ifndef HITLESS_BEES_WORKER_READ_H
#define HITLESS_BEES_WORKER_READ_H

#include "worker.h"
#include <time.h>

// Sets up the room for datagrams, once.
void worker_prepare_batch(struct worker_batch *batch);

// Hands a session what has come for it. Edges are told once, so the socket is read until it is
// empty; one that fills as fast as it is read comes again behind the others.
void worker_read(struct worker *worker, struct session *session);

// When a datagram came, in ns on our clock, from when the kernel says that it did on the wall's.
// worker->now_ns goes on where it came later than that. A time that cannot be (the wall's clock was
// set meanwhile) counts as now.
uint64_t worker_arrival(struct worker *worker, const struct timespec *stamp);

#endif
