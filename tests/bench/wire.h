// A veth pair whose near end is the appliance's AF_XDP port and whose far end is ours: publishers'
// frames go in there by a raw socket, and an XDP program counts and drops what comes out.
// scripts/bench makes the pair, in a network namespace of its own. Root only.
#ifndef HITLESS_BENCH_WIRE_H
#define HITLESS_BENCH_WIRE_H

#include "far.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_NEAR "hitless-near"
#define WIRE_FAR "hitless-far"

struct wire;

// Ends the program with a line on standard error when the pair is not there.
struct wire *wire_open(void);
void wire_close(struct wire *wire);

// Puts a whole frame on the wire, towards the near end. False: it had no room.
bool wire_send(struct wire *wire, const void *frame, size_t length);

// Frames that the far end has seen; wire_settled waits for those that are still under way.
uint64_t wire_settled(const struct wire *wire, enum far_count what);
uint64_t wire_seen(const struct wire *wire, enum far_count what);

// Starts or stops measuring; what was measured before is forgotten when it starts. A packet is
// measured if its RTP timestamp, modulo FAR_SENT, has a time in wire_sent.
void wire_measure(struct wire *wire, bool on);
// From now on the slice with this number, 0..FAR_SLICES - 1, is measured; the first is at the
// start.
void wire_slice(struct wire *wire, uint32_t slice);
// As wire_quantile, of one slice. FAR_FINE: more than that; 0: nothing came in it.
double wire_slice_quantile(const struct wire *wire, uint32_t slice, double q);
uint64_t *wire_sent(struct wire *wire); // [FAR_SENT], CLOCK_MONOTONIC
// The microseconds below which the share `q` of the measured packets took; 0: there were none.
double wire_quantile(const struct wire *wire, double q);

#endif
