// What we tell a publisher: lost packets, key frames wanted, transport-wide feedback, reception
// reports; and which simulcast layer feeds the viewers. RFC 3550, 4585, 5104. Source worker only.
#ifndef HITLESS_UPSTREAM_H
#define HITLESS_UPSTREAM_H

#include "worker.h"

#define UPSTREAM_TICK_NS 10000000 // how often upstream_tick is called

// Failure detection has just made the publisher's group ours. What it sent to the partner since is
// lost, by how much nobody can tell: the next numbers are asked for at once, and thrice if nothing
// comes. A publisher has no answer to numbers that it has not used yet (RFC 4585 section 6.2.1 asks
// for none).
void upstream_seized(struct worker *worker, struct stream *stream);

void upstream_tick(struct worker *worker, struct stream *stream);

#endif
