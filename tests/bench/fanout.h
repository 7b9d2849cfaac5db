// The fan-out benchmark's ways.
#ifndef HITLESS_BENCH_FANOUT_H
#define HITLESS_BENCH_FANOUT_H

#include "bench.h"

void fanout_memory(struct bench_options *options);
void fanout_workers(struct bench_options *options); // several, in memory
void fanout_afxdp(struct bench_options *options);

// What one worker did: a line, or the object of ../../scripts/bench. `bare` is what it is held
// against ("cipher", "port"), `loss` a share of the packets sent, `generator` what the source could
// do, in cycles per packet.
void fanout_report(const struct bench_crowd *crowd, const struct bench_pair *typical,
                   const char *bare, double loss, double generator);

#endif
