#include "bench.h"
#include <getopt.h>
#include <inttypes.h>
#include <rte_cycles.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

static const struct bench_profile profiles[] = {
    {"gcm128", PROFILE_AEAD_AES_128_GCM},
    {"cm_sha1", PROFILE_AES128_CM_SHA1_80},
    {"gcm256", PROFILE_AEAD_AES_256_GCM},
    {"gcm", PROFILE_AEAD_AES_128_GCM},
    {"cm", PROFILE_AES128_CM_SHA1_80},
    {"AEAD_AES_128_GCM", PROFILE_AEAD_AES_128_GCM},
    {"cm-sha1", PROFILE_AES128_CM_SHA1_80},
    {"AEAD_AES_256_GCM", PROFILE_AEAD_AES_256_GCM},
    {"AES_CM_128_HMAC_SHA1_80", PROFILE_AES128_CM_SHA1_80}};

const struct bench_profile *bench_profile(const char *name)
{
    for (unsigned i = 0; i < RTE_DIM(profiles); i++)
        if (strcasecmp(name, profiles[i].name) == 0)
            return &profiles[i];
    return NULL;
}

static unsigned number(const char *text, unsigned min, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text && !*end && value >= min && value <= max)
        return (unsigned)value;
    fprintf(stderr, "bench: %s is not a number from %u to %u\n", text, min, max);
    exit(2);
}

static void set(struct bench_options *o, int option)
{
    switch (option) {
    case 'j':
        o->json = true;
        return;
    case 'g':
        o->stages = true;
        return;
    case 'a':
        o->path = optarg;
        return;
    case 'l':
        o->payload = number(optarg, 20, 1200);
        return;
    case 's':
        o->subscribers = number(optarg, 1, 50000);
        return;
    case 't':
        o->streams = number(optarg, 1, 1000);
        return;
    case 'b':
        o->burst = number(optarg, 1, BURST);
        return;
    case 'w':
        o->workers = number(optarg, 1, ABI_MAX_WORKERS);
        return;
    case 'n':
        o->sessions = number(optarg, 1, 50000);
        return;
    case 'o':
        o->loss = strtod(optarg, NULL);
        return;
    case 'p':
        o->profile = bench_profile(optarg);
        if (o->profile)
            return;
    }
    fputs("bench: bad option; see scripts/bench --help\n", stderr);
    exit(2);
}

void bench_parse(struct bench_options *options, int argc, char **argv)
{
    static const struct option longs[] = {
        {"json", no_argument, NULL, 'j'},          {"stages", no_argument, NULL, 'g'},
        {"path", required_argument, NULL, 'a'},    {"profile", required_argument, NULL, 'p'},
        {"payload", required_argument, NULL, 'l'}, {"subscribers", required_argument, NULL, 's'},
        {"streams", required_argument, NULL, 't'}, {"burst", required_argument, NULL, 'b'},
        {"workers", required_argument, NULL, 'w'}, {"sessions", required_argument, NULL, 'n'},
        {"loss", required_argument, NULL, 'o'},    {0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;)
        set(options, c);
}

uint64_t bench_cycles(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    uint64_t ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    return (uint64_t)((double)ns * (double)rte_get_tsc_hz() * 1e-9);
}

uint64_t bench_cycles_overhead(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 100; i++) {
        uint64_t start = bench_cycles(), took = bench_cycles() - start;
        if (took < least)
            least = took;
    }
    return least;
}

int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_quantile(const double *values, unsigned n, double q)
{
    unsigned at = (unsigned)(q * n);
    return values[at < n ? at : n - 1];
}

double bench_median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), bench_compare);
    return bench_quantile(values, n, 0.5);
}

static int by_ratio(const void *a, const void *b)
{
    return bench_compare(&((const struct bench_pair *)a)->ratio,
                         &((const struct bench_pair *)b)->ratio);
}

const struct bench_pair *bench_typical(struct bench_pair *pairs, unsigned n)
{
    qsort(pairs, n, sizeof(*pairs), by_ratio);
    return &pairs[n / 2];
}

void *bench_memory(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) & ~(size_t)63);
    if (!memory) {
        fputs("bench: out of memory\n", stderr);
        exit(1);
    }
    return memset(memory, 0, size);
}

uint64_t bench_stream_id(unsigned stream)
{
    return (UINT64_C(1) << 32) | stream;
}

static void populate(struct bench_crowd *crowd, bool keep)
{
    const struct bench_options *o = crowd->options;
    struct world *world = crowd->world;
    uint32_t slot[ABI_MAX_WORKERS] = {0};
    struct client *viewer = bench_memory(sizeof(*viewer));
    for (unsigned s = 0; s < o->streams; s++) {
        uint32_t w = s % o->workers;
        world_open_stream(world, bench_stream_id(s), w, w);
        world_join(world, &crowd->publisher[s], ROLE_PUBLISH, bench_stream_id(s), w, slot[w]++,
                   o->profile->id, true);
        for (unsigned v = 0; v < crowd->per_stream; v++) {
            world_join(world, viewer, ROLE_PLAY, bench_stream_id(s), w, slot[w]++, o->profile->id,
                       true);
            if (keep)
                crowd->viewer[s * crowd->per_stream + v] = *viewer;
        }
    }
    free(viewer);
}

void bench_crowd_start(struct bench_crowd *crowd, struct world *world,
                       const struct bench_options *options, const struct abi_config *config,
                       bool keep, void (*inject)(struct world *, unsigned, const uint8_t *, size_t))
{
    unsigned per_stream = options->subscribers / options->streams;
    struct abi_config c = *config;
    c.workers = config->workers ? config->workers : options->workers;
    c.max_streams = options->streams;
    c.max_sessions = (options->streams / options->workers + 1) * (per_stream + 1);
    c.rx_mbufs = c.rx_mbufs ? c.rx_mbufs : 2048;
    c.tx_mbufs = c.tx_mbufs ? c.tx_mbufs : 4096;
    c.cache_mbufs = c.cache_mbufs ? c.cache_mbufs : 4096 + 96 * options->streams;
    if (world_start(world, &c))
        exit(1);
    world->inject = inject;
    if (inject) // real time, too
        world->now_ns = bench_now_ns();
    *crowd = (struct bench_crowd){
        .world = world,
        .options = options,
        .per_stream = per_stream,
        .crypto = world->crypto,
        .publisher = bench_memory(options->streams * sizeof(struct client)),
        .next_index = bench_memory(options->streams * sizeof(uint64_t)),
        .viewer = keep ? bench_memory((size_t)options->streams * per_stream * sizeof(struct client))
                       : NULL};
    populate(crowd, keep);
}

void bench_crowd_free(struct bench_crowd *crowd)
{
    free(crowd->publisher);
    free(crowd->next_index);
    free(crowd->viewer);
}

uint64_t bench_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void bench_publish_at(struct bench_crowd *crowd, unsigned stream, uint32_t timestamp)
{
    struct world *world = crowd->world;
    struct client *from = &crowd->publisher[stream];
    uint64_t index = ++crowd->next_index[stream];
    uint8_t wire[2048];
    // A VP8 descriptor: start of partition 0; then the P bit: only the first is a key frame.
    uint8_t body[1500] = {0x10, index != 1};
    rtp_header_write(wire, &(struct rtp_header){.pt = 96,
                                                .marker = true,
                                                .seq = (uint16_t)index,
                                                .timestamp = timestamp,
                                                .ssrc = VIDEO_SSRC});
    struct seal_job job = {.tx = &from->tx,
                           .src = body,
                           .dst = wire,
                           .header_len = RTP_HEADER,
                           .payload_len = (uint16_t)crowd->options->payload,
                           .ssrc = VIDEO_SSRC,
                           .index = index};
    protect_seal(crowd->crypto, &job, 1);
    world_inject(world, from->worker, &from->addr,
                 (uint16_t)(world->config.media4.port + from->worker), wire,
                 RTP_HEADER + crowd->options->payload + protect_tag_len(from->tx.key.profile));
}

void bench_publish(struct bench_crowd *crowd, unsigned stream, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        bench_publish_at(crowd, stream, (uint32_t)(crowd->next_index[stream] + 1) * 3000);
}

void bench_stages_start(struct world *world)
{
    channel_ask_stages(&world->control, UINT64_MAX);
    for (uint32_t w = 0; w < world->dp.workers; w++) {
        memset(world->workers[w].stats->stage_cycles, 0,
               sizeof(world->workers[w].stats->stage_cycles));
        memset(world->workers[w].stats->count, 0, sizeof(world->workers[w].stats->count));
    }
}

void bench_stages_print(const struct world *world)
{
    static const struct {
        const char *name;
        enum count per;
    } stages[STAGES] = {
#define X(name, count, help) [STAGE_##name] = {#name, COUNT_##count},
        STAGE_LIST(X)
#undef X
    };
    for (unsigned i = 0; i < STAGES; i++) {
        uint64_t cycles = 0, count = bench_count(world, stages[i].per);
        for (uint32_t w = 0; w < world->dp.workers; w++)
            cycles += world->workers[w].stats->stage_cycles[i];
        fprintf(stderr, "%-13s %8.0f cycles of %" PRIu64 ", %6.1f per packet sent\n",
                stages[i].name, (double)cycles / (double)(count ? count : 1), count,
                (double)cycles / (double)bench_count(world, COUNT_rtp_out));
    }
}

uint64_t bench_turn(struct world *world, unsigned worker)
{
    world->workers[worker].now_ns = world->now_ns;
    uint64_t start = bench_cycles();
    worker_turn(&world->workers[worker]);
    return bench_cycles() - start;
}

uint64_t bench_count(const struct world *world, enum count what)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < world->dp.workers; w++)
        sum += world->workers[w].stats->count[what];
    return sum;
}

uint64_t bench_drop(const struct world *world, enum drop what)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < world->dp.workers; w++)
        sum += world->workers[w].stats->drop[what];
    return sum;
}
