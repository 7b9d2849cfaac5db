// Histogram of positive numbers with about 1 % precision: log-linear, as HdrHistogram.
//
// Pure, no allocation; a zeroed struct is an empty histogram. One thread writes; merge when it is
// done or when a torn figure does no harm. Values below 128 are exact; each octave above is cut
// into 64 buckets, whose middle is at most 0.8 % off. The unit is the caller's: 1 to 2^42 covers
// nanoseconds up to 73 minutes; larger values count in the last bucket (max stays exact).
#ifndef HITLESS_BEES_HIST_H
#define HITLESS_BEES_HIST_H

#include <stdbool.h>
#include <stdint.h>

#define HIST_EXACT 128 // values below have a bucket each
#define HIST_HALF 64   // buckets of an octave
#define HIST_BITS 42   // values of so many bits
#define HIST_BUCKETS (HIST_EXACT + (HIST_BITS - 7) * HIST_HALF)

struct hist {
    uint64_t count;
    uint64_t sum;
    uint64_t min, max; // exact; 0 while empty
    uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t value);
void hist_add_n(struct hist *hist, uint64_t value, uint64_t times);
void hist_merge(struct hist *to, const struct hist *from);
void hist_clear(struct hist *hist);

// The value that `percent` (0..100) of all values do not exceed, within the precision; 0 if empty.
// 0 gives the smallest, 100 the largest, both exact.
uint64_t hist_percentile(const struct hist *hist, double percent);
double hist_mean(const struct hist *hist); // exact; 0 if empty

struct hist_bucket {
    uint64_t from, to; // from <= value < to
    uint64_t count;
};
// Walks the buckets that are not empty, smallest values first. `*at` is 0 at the start and belongs
// to the walk. False when there is no further one.
bool hist_next(const struct hist *hist, unsigned *at, struct hist_bucket *bucket);

#endif
