// The fan-out benchmark's ways.
#ifndef HITLESS_BENCH_FANOUT_H
#define HITLESS_BENCH_FANOUT_H

#include "bench.h"

void fanout_memory(struct bench_options *options);
void fanout_workers(struct bench_options *options); // several, in memory
void fanout_afxdp(struct bench_options *options);

#endif
