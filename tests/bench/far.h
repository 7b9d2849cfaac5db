// What the far side's XDP program and the benchmarks share.
#ifndef HITLESS_BENCH_FAR_H
#define HITLESS_BENCH_FAR_H

enum far_count { FAR_RTP, FAR_OTHER, FAR_SHORT, FAR_COUNTS };

#define FAR_SENT 65536    // publishers' packets whose time of sending is remembered
#define FAR_BUCKETS 50000 // microseconds; the last is for what took longer
#define FAR_SLICES 64     // parts of a measurement that are looked at by themselves
#define FAR_FINE 512      // microseconds there; the last is for what took longer

#endif
