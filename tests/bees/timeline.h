// What went on over the time of a run: one sample a second, in bounded space.
//
// Pure. When the array is full, neighbours are merged and the period doubles, so that a run of days
// keeps at least half of TIMELINE_MAX samples.
#ifndef HITLESS_BEES_TIMELINE_H
#define HITLESS_BEES_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#define TIMELINE_MAX 1200
#define TIMELINE_NOTES 64 // a capacity search marks each trial
#define TIMELINE_NOTE 96

// How two samples become one.
// X(name, how, what it is)
#define TIMELINE_FIELDS(X)                                                                         \
    X(sessions, last, "sessions connected at the end of the interval")                             \
    X(joins, sum, "sessions that connected")                                                       \
    X(leaves, sum, "sessions that left on purpose")                                                \
    X(failures, sum, "sessions that failed")                                                       \
    X(packets, sum, "packets received")                                                            \
    X(bytes, sum, "bytes received")                                                                \
    X(sent_bytes, sum, "bytes published")                                                          \
    X(missing, sum, "packets that were not there when a later one came")                           \
    X(lost, sum, "packets that never came")                                                        \
    X(nacks, sum, "packets asked for again")                                                       \
    X(recovered, sum, "packets that came after they were asked for")                               \
    X(freezes, sum, "times that a picture stood still")                                            \
    X(latency_p50_us, max, "one-way latency, median; 0: none measured")                            \
    X(latency_p99_us, max, "one-way latency, 99th percentile")                                     \
    X(gap_max_us, max, "largest gap between packets of any session")                               \
    X(join_p50_us, max, "time to join of those that joined, median")                               \
    X(join_max_us, max, "time to join of those that joined, longest")                              \
    X(cpu_us, sum, "CPU time of the load tester")

struct timeline_sample {
    double at_s;     // end of the interval, since the run began
    double length_s; // of the interval
#define X(name, how, help) uint64_t name;
    TIMELINE_FIELDS(X)
#undef X
};

// A moment worth marking in the plots: "capacity: 800 sessions", "node a stopped".
struct timeline_note {
    double at_s;
    char text[TIMELINE_NOTE];
};

struct timeline {
    unsigned count;
    unsigned merge; // samples that make up an entry: 1, 2, 4, ... (0 counts as 1)
    unsigned open;  // samples in the last entry, if fewer than merge
    struct timeline_sample sample[TIMELINE_MAX];
    unsigned notes;
    struct timeline_note note[TIMELINE_NOTES];
};

// A zeroed timeline is empty. Samples come in the order of time.
void timeline_add(struct timeline *timeline, const struct timeline_sample *sample);
// Adds a sample to the last entry: for one too short to stand by itself.
void timeline_extend(struct timeline *timeline, const struct timeline_sample *sample);
// Marks a moment; beyond TIMELINE_NOTES they are left out. The text is cut to fit.
void timeline_mark(struct timeline *timeline, double at_s, const char *text);

#endif
