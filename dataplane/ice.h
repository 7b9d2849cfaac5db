// ICE-lite: answers connectivity and consent checks, and learns where a session's client is.
// RFC 8445 (lite, controlled), 8489, 7675. The control plane is not involved.
#ifndef HITLESS_ICE_H
#define HITLESS_ICE_H

#include "worker.h"

// Takes a STUN message: `frame` and what parse_frame said of it.
void ice_input(struct worker *worker, const uint8_t *frame, const struct parsed *parsed);

#endif
