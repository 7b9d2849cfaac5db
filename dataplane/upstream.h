// What we tell a publisher: lost packets, key frames wanted, transport-wide feedback, reception
// reports; and which simulcast layer feeds the viewers. RFC 3550, 4585, 5104. Source worker only.
#ifndef HITLESS_UPSTREAM_H
#define HITLESS_UPSTREAM_H

#include "worker.h"

#define UPSTREAM_TICK_NS 10000000 // how often upstream_tick is called

void upstream_tick(struct worker *worker, struct stream *stream);

#endif
