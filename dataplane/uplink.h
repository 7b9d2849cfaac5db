// What a client's packets have a worker tell the control plane. Runs on the worker.
#ifndef HITLESS_UPLINK_H
#define HITLESS_UPLINK_H

#include "worker.h"

// Passes a DTLS datagram up, if it came from an address that has passed a check and its session is
// within its budget; else it is dropped by name.
void pass_dtls(struct worker *worker, const uint8_t *payload, const struct parsed *parsed);

// Says that a session's media has begun. If the channel is full, its next packet tries again.
void tell_media(struct worker *worker, struct session *session);

#endif
