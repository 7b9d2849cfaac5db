// Which of the packets that a viewer asks for again it gets: budgets, and the adaptive policy.
// Pure; values in, decisions out. RFC 4585; payload formats RFC 7741, 9628, 6184.
//
// A budget keeps a flood of requests from costing anybody else: what a viewer is sent again is at
// most a share of what it is sent at all, and what a worker sends again a share of its rate. The
// last part of every budget is for key frames alone, so they are served first when it runs short.
//
// The adaptive policy answers only what is essential until the viewer's loss passes a threshold.
// Essential is whatever others are decoded from: audio, key frames, and all packets but those that
// their own payload header calls discardable (upper temporal layers, non-reference pictures).
#ifndef HITLESS_NACK_POLICY_H
#define HITLESS_NACK_POLICY_H

#include "abi/messages.h"
#include <stdbool.h>
#include <stddef.h>

// With a fifth lost, a quarter is asked for (repeats are lost as well); half leaves room for bursts
// and is the most that a liar can add to what it costs anyway.
#define NACK_VIEWER_SHARE 0.5
#define NACK_VIEWER_BURST 512.0 // a second of a large stream, lost at one go
// A fifth of what one core sends at best: as much as is asked for when it sends at four fifths of
// that and every viewer loses a fifth.
#define NACK_WORKER_RATE 1000000.0 // per second
#define NACK_WORKER_BURST 100000.0
#define NACK_KEY_RESERVE 0.125 // of each burst, for key frames alone

// Loss in parts per thousand, smoothed over reports: everything from OPEN on, until below SHUT.
#define NACK_OPEN_PERMILLE 20
#define NACK_SHUT_PERMILLE 10

struct nack_budget {
    double spent; // packets; 0: the whole burst may be used
};

// Earns `packets` back.
static inline void nack_budget_earn(struct nack_budget *budget, double packets)
{
    budget->spent = budget->spent > packets ? budget->spent - packets : 0;
}

// Whether there is something left for one more packet.
static inline bool nack_budget_has(const struct nack_budget *budget, double burst, bool key)
{
    return budget->spent + 1 <= (key ? burst : burst * (1 - NACK_KEY_RESERVE));
}

static inline void nack_budget_spend(struct nack_budget *budget)
{
    budget->spent += 1;
}

// The adaptive policy's state for one viewer's track. All zero: nothing lost so far.
struct nack_gate {
    uint32_t loss_permille; // smoothed
    bool open;              // everything is answered
};

// Takes one report of the viewer: parts per thousand lost since the one before.
void nack_gate_report(struct nack_gate *gate, uint32_t loss_permille);

// Whether the adaptive policy sends a packet that is asked for.
static inline bool nack_gate_passes(const struct nack_gate *gate, bool essential)
{
    return essential || gate->open;
}

// Whether others are decoded from this packet, as far as its payload's own header says. What cannot
// be read is essential.
bool nack_essential(enum codec codec, const uint8_t *payload, size_t length);

#endif
