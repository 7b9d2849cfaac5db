// Numbers for sessions and streams: a slot of a worker (or of the node) and a generation that
// changes with each use, so that a late message can never hit a newcomer (messages.h, MSG_SLOT).
//
// Pure and bounded; one thread. A slot given back waits behind all others before it is used again.
#ifndef HITLESS_SLOTS_H
#define HITLESS_SLOTS_H

#include <stdint.h>

struct slots;

// `groups` × `per_group` free slots. `first_generation` (> 0) is what the first use of each gets;
// a random one keeps a restarted control plane's numbers apart from its predecessor's. 0, -ENOMEM.
int slots_new(struct slots **out, uint32_t groups, uint32_t per_group, uint32_t first_generation);
void slots_free(struct slots *slots);

// Takes the slot of `group` that has been free longest. Returns its id, never 0; 0 when none is
// free.
uint64_t slots_take(struct slots *slots, uint32_t group);
// Gives a taken slot back. Anything but the id of a taken slot is ignored.
void slots_give(struct slots *slots, uint32_t group, uint64_t id);

// Takes a slot under an id that someone gave out earlier. 0, or -EBUSY if it is taken, or -EINVAL.
// Walks the free slots: for the start of a program.
int slots_reserve(struct slots *slots, uint32_t group, uint64_t id);

// Says under which id a free slot was used last: its next use gets another one. Anything else is
// ignored.
void slots_last(struct slots *slots, uint32_t group, uint64_t id);

uint32_t slots_used(const struct slots *slots, uint32_t group);
uint32_t slots_size(const struct slots *slots); // per group

#endif
