// What the benchmarks share: options, clocks, medians, and streams with viewers in a simulated
// world.
//
// Times are those of the calling thread on its CPU, in cycles of the time-stamp counter: what else
// runs on a shared machine costs cache lines, but no time.
#ifndef HITLESS_BENCH_H
#define HITLESS_BENCH_H

#include "../sim/world.h"

struct bench_profile {
    const char *name;
    enum srtp_profile id;
};

struct bench_options {
    const struct bench_profile *profile;
    const char *path;
    unsigned payload, subscribers, streams, burst, workers, sessions;
    double loss; // 0..1; negative: not given
    bool json, stages;
};

// Reads the command line over the defaults in `options`; exits on a bad one. --payload counts RTP
// payload bytes.
void bench_parse(struct bench_options *options, int argc, char **argv);
// A profile by one of its names, or NULL.
const struct bench_profile *bench_profile(const char *name);

// Cycles that this thread has used.
uint64_t bench_cycles(void);
// What two calls of bench_cycles differ by when nothing is between them.
uint64_t bench_cycles_overhead(void);
double bench_median(double *values, unsigned n); // sorts
// The value below which the share `q` lies; `values` are sorted.
double bench_quantile(const double *values, unsigned n, double q);
int bench_compare(const void *a, const void *b); // of doubles
void *bench_memory(size_t size); // aligned and zeroed; ends the program if there is none

// Streams with a publisher each, and viewers spread evenly over them, in a world of workers on a
// port of any kind. Stream s belongs to worker s mod --workers, and so do its viewers.
struct bench_crowd {
    struct world *world;
    const struct bench_options *options;
    unsigned per_stream;
    struct client *publisher; // by stream
    struct client *viewer;    // by stream and number; NULL unless kept
    uint64_t *next_index;     // by stream
    struct protect *crypto;   // of the thread that publishes
};

// Starts the world with pools and tables as large as the options ask for. Viewers are kept (about
// 5 KiB each) if `keep`; `inject` is the world's. Ends the program on failure.
void bench_crowd_start(struct bench_crowd *crowd, struct world *world,
                       const struct bench_options *options, const struct abi_config *config,
                       bool keep,
                       void (*inject)(struct world *, unsigned, const uint8_t *, size_t));
void bench_crowd_free(struct bench_crowd *crowd);
uint64_t bench_stream_id(unsigned stream);

// The clock that a worker on a core of its own goes by.
uint64_t bench_now_ns(void);

// Puts one video packet of a stream with that RTP timestamp on its worker's wire.
void bench_publish_at(struct bench_crowd *crowd, unsigned stream, uint32_t timestamp);
// Puts `count` video packets of a stream on its worker's wire. The first ever is a key frame.
void bench_publish(struct bench_crowd *crowd, unsigned stream, unsigned count);

// Has the workers count the cycles of their stages; prints them, per packet of each stage.
void bench_stages_start(struct world *world);
void bench_stages_print(const struct world *world);

// One turn of a worker at the world's time: the cycles it took.
uint64_t bench_turn(struct world *world, unsigned worker);
// A round of ours and one of the reference, in cycles per packet.
struct bench_pair {
    double ours, bare, ratio; // ratio: bare to ours
};
// The pair of the median ratio: the CPU changes its speed with what its neighbours do, so medians
// of the two sides could have been taken at different speeds. Sorts.
const struct bench_pair *bench_typical(struct bench_pair *pairs, unsigned n);

uint64_t bench_count(const struct world *world, enum count what);
uint64_t bench_drop(const struct world *world, enum drop what);

#endif
