// Copies what a worker knows into the channel's statistics, a little in every turn.
#ifndef HITLESS_TELEMETRY_H
#define HITLESS_TELEMETRY_H

#include "worker.h"

// One session's figures; about once a second.
void telemetry_session(struct worker *worker, struct session *session);
// The worker's gauges and its streams' figures; about five times a second.
void telemetry_worker(struct worker *worker);

#endif
