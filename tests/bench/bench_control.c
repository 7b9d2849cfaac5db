// Control traffic beside the fan-out: STUN checks and SRTCP reports of viewers at fixed rates while
// a packet of the publisher is always there; against the same without them. Rounds of the two
// alternate within one run; medians.
//
// Events are simulated, but time is what the worker's turns really take: what falls due while a
// turn runs waits on the wire, and comes before the publisher's next packet.
#include "bench.h"
#include <inttypes.h>
#include <rte_cycles.h>
#include <stdio.h>
#include <stdlib.h>

#define STUN_RATE 40000
#define SRTCP_RATE 100000
#define ROUND_NS 300000000ull
#define ROUNDS 9
#define GENERATED 20000 // of each kind, to see what the generator alone can do

struct source {
    uint64_t interval_ns, due_ns;
    unsigned next; // viewer
    uint64_t made;
    void (*make)(struct client *);
};

struct tally {
    uint64_t packets, cycles;
};

static struct world world;
static struct bench_crowd crowd;
static uint64_t overhead;
static double ns_per_cycle;

static uint16_t port_of_worker(void)
{
    return world.config.media4.port;
}

// A consent check, as libwebrtc sends it.
static void make_check(struct client *viewer)
{
    char username[32];
    uint8_t buffer[256];
    snprintf(username, sizeof(username), "%s:abcd", viewer->ufrag);
    struct stun_check check = {.username = username,
                               .username_length = strlen(username),
                               .priority = 1,
                               .role = STUN_ROLE_CONTROLLING,
                               .tiebreaker = 7,
                               .use_candidate = true};
    size_t size = stun_write_request(buffer, sizeof(buffer), &check, &viewer->key);
    world_inject(&world, 0, &viewer->addr, port_of_worker(), buffer, size);
}

// A receiver report on both tracks.
static void make_report(struct client *viewer)
{
    uint8_t packet[256];
    struct rtcp_block blocks[2] = {{.ssrc = viewer->rtp[0].ssrc, .jitter = 100},
                                   {.ssrc = viewer->rtp[1].ssrc, .jitter = 10}};
    size_t size,
        length = rtcp_write_rr(packet, sizeof(packet) - PROTECT_RTCP_ROOM, 0, 1, blocks, 2);
    protect_rtcp_seal(world.crypto, &viewer->rtcp_tx, packet, length, ++viewer->rtcp_index, &size);
    world_inject(&world, 0, &viewer->addr, port_of_worker(), packet, size);
}

static struct source sources[] = {
    {.interval_ns = 1000000000 / STUN_RATE, .make = make_check},
    {.interval_ns = 1000000000 / SRTCP_RATE, .make = make_report},
};

static void make_one(struct source *s)
{
    s->make(&crowd.viewer[s->next]);
    // Not in the order of their slots: what is next to each other is fetched together.
    s->next = (s->next + 7919) % crowd.options->subscribers;
    s->made++;
}

// Puts on the wire what is due, as much as a burst takes. Returns the frames.
static unsigned make_due(void)
{
    unsigned frames = 0;
    for (;;) {
        struct source *s = &sources[sources[1].due_ns < sources[0].due_ns];
        if (s->due_ns > world.now_ns || frames == BURST)
            return frames;
        make_one(s);
        s->due_ns += s->interval_ns;
        frames++;
    }
}

static struct tally round_of(bool control)
{
    struct tally t = {0};
    uint64_t end = world.now_ns + ROUND_NS, before = bench_count(&world, COUNT_rtp_out);
    static uint64_t left_ns; // the time at which the last round with control traffic ended
    for (unsigned i = 0; control && i < RTE_DIM(sources); i++)
        sources[i].due_ns += world.now_ns - left_ns;
    while (world.now_ns < end) {
        if (!control || make_due() < BURST)
            bench_publish(&crowd, 0, 1);
        uint64_t cycles = bench_turn(&world, 0) - overhead;
        t.cycles += cycles;
        world.now_ns += (uint64_t)((double)cycles * ns_per_cycle);
    }
    if (control)
        left_ns = world.now_ns;
    t.packets = bench_count(&world, COUNT_rtp_out) - before;
    return t;
}

static double rate(const struct tally *t)
{
    return (double)t->packets / ((double)t->cycles * ns_per_cycle * 1e-9);
}

// Frames per second that the generator makes. The worker answers them, untimed.
static double generator_alone(void)
{
    uint64_t cycles = 0;
    for (unsigned i = 0; i < GENERATED; i++) {
        uint64_t start = bench_cycles();
        make_one(&sources[i % 2]);
        cycles += bench_cycles() - start - overhead;
        bench_turn(&world, 0);
    }
    return GENERATED / ((double)cycles * ns_per_cycle * 1e-9);
}

// What was put on the wire and what the worker made of it, since the last call of forget.
static uint64_t made_before[2], answered_before, taken_before, round_ns;

static void forget(const struct bench_options *o)
{
    if (o->stages)
        bench_stages_start(&world);
    for (int i = 0; i < 2; i++)
        made_before[i] = sources[i].made;
    answered_before = bench_count(&world, COUNT_stun_checks);
    taken_before = bench_count(&world, COUNT_rtcp_in);
    round_ns = 0;
}

static void report(const struct bench_options *o, double with, double without, double ratio,
                   double generator)
{
    uint64_t checks = bench_count(&world, COUNT_stun_checks) - answered_before;
    uint64_t reports = bench_count(&world, COUNT_rtcp_in) - taken_before;
    double seconds = (double)round_ns * 1e-9;
    printf(o->json ? "{\"bench\":\"control\",\"subscribers\":%u,\"profile\":\"%s\",\"payload\":%u,"
                     "\"stun_per_s\":%.0f,\"srtcp_per_s\":%.0f,\"pps\":%.0f,\"fanout_pps\":%.0f,"
                     "\"ratio\":%.3f,\"unanswered_checks\":%" PRIu64 ",\"refused_srtcp\":%" PRIu64
                     ",\"generator_pps\":%.0f}\n"
                   : "%u viewers, %s, %u B: beside %.0f checks/s and %.0f SRTCP packets/s %.0f "
                     "packets/s, without %.0f, ratio %.3f; checks not answered %" PRIu64
                     ", SRTCP refused %" PRIu64 "; generator alone %.0f/s\n",
           o->subscribers, o->profile->name, o->payload, (double)checks / seconds,
           (double)reports / seconds, with, without, ratio,
           sources[0].made - made_before[0] - checks, sources[1].made - made_before[1] - reports,
           generator);
    if (o->stages)
        bench_stages_print(&world);
}

static void run(const struct bench_options *o)
{
    double ratios[ROUNDS], with[ROUNDS], without[ROUNDS], generator = generator_alone();
    for (int i = -1; i < ROUNDS; i++) {
        if (i == 0)
            forget(o);
        struct tally clean = round_of(false);
        uint64_t start = world.now_ns;
        struct tally t = round_of(true);
        round_ns += world.now_ns - start;
        int at = i < 0 ? 0 : i;
        with[at] = rate(&t);
        without[at] = rate(&clean);
        ratios[at] = with[at] / without[at];
    }
    report(o, bench_median(with, ROUNDS), bench_median(without, ROUNDS),
           bench_median(ratios, ROUNDS), generator);
}

int main(int argc, char **argv)
{
    struct bench_options o = {.profile = bench_profile("gcm128"),
                              .path = "memory",
                              .payload = 1172,
                              .subscribers = 10000,
                              .streams = 1,
                              .workers = 1};
    struct abi_config config = {.port_kind = ABI_PORT_NULL, .workers = 2, .rx_mbufs = 4096};
    bench_parse(&o, argc, argv);
    bench_crowd_start(&crowd, &world, &o, &config, true, NULL);
    ns_per_cycle = 1e9 / (double)rte_get_tsc_hz();
    overhead = bench_cycles_overhead();
    run(&o);
    bench_crowd_free(&crowd);
    world_stop(&world);
    return 0;
}
