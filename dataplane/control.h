// Commands from the control plane, carried out by the worker that owns the session or stream.
#ifndef HITLESS_CONTROL_H
#define HITLESS_CONTROL_H

#include "worker.h"

// Handles at most `max` messages of the worker's lane. Returns how many there were.
unsigned control_poll(struct worker *worker, unsigned max);

// One checked message. Exposed for tests.
void control_handle(struct worker *worker, const struct msg_head *head);

#endif
