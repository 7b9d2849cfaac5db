// Latency, wire to wire: from the moment that a publisher's packet is given to the far end of a
// veth pair to the moment that a viewer's copy comes out there, for every copy. The worker has a
// core, the generator another; streams are small, so that a packet does not wait behind a thousand
// copies. First the rate at which nothing is lost is searched by bisection (RFC 2544), then half of
// it is offered, at even intervals, to a worker that spins and to one that sleeps when it may.
//
// A slice of 50 ms by itself shows what holds while nobody takes a CPU away: the median over the
// slices of their p99 stands beside the p99 of all.
//
// What the machine itself takes away is measured in the same run: threads in the worker's and the
// generator's place that do nothing but look at the clock, with nothing sent, note for how long
// they were not running. From that follows how long a packet would wait for them alone.
#include "../../dataplane/roster.h"
#include "bench.h"
#include "wire.h"
#include <rte_launch.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TRIAL_NS 300000000ull
#define MEASURE_NS 3000000000ull
#define SLICE_NS 50000000ull
#define SLICES (MEASURE_NS / SLICE_NS)
#define STEPS 10
#define RATE_MAX 400000.0 // publishers' packets per second

#define AWAY_NS 20000 // later than that, the generator's CPU was away
#define GAP_NS 1000   // what a thread that looks at the clock misses
#define MISSED_MAX 200000

// When a thread was not running.
struct gaps_seen {
    double ns[MISSED_MAX];
    unsigned count;
    double total_ns; // of the watch
};

struct figures {
    double p50, p99, p999;
    double calm_p99; // median of the slices'
    double loss, sent_pps;
};

static struct world world;
static struct wire *wire;

static void inject(struct world *to, unsigned queue, const uint8_t *frame, size_t length)
{
    wire_send(wire, frame, length);
}

// On a CPU of its own as far as that goes. Not before others: the kernel's own threads, which
// finish what the pair carries, would wait.
static void take_cpu(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static struct gaps_seen machine[2];

static void watch_clock(struct gaps_seen *seen)
{
    uint64_t start = bench_now_ns(), last = start;
    seen->count = 0;
    while (last - start < MEASURE_NS) {
        uint64_t now = bench_now_ns();
        if (now - last > GAP_NS && seen->count < MISSED_MAX)
            seen->ns[seen->count++] = (double)(now - last);
        last = now;
    }
    seen->total_ns = (double)(last - start);
}

static int watch_worker_cpu(void *unused)
{
    take_cpu(1);
    watch_clock(&machine[1]);
    return 0;
}

static void watch_machine(void)
{
    rte_eal_remote_launch(watch_worker_cpu, NULL, eal_worker_lcore(0));
    watch_clock(&machine[0]);
    rte_eal_wait_lcore(eal_worker_lcore(0));
}

// The share of moments from which it takes longer than `ns` until a thread runs, on either CPU.
static double share_beyond(double ns)
{
    double share = 0;
    for (unsigned cpu = 0; cpu < RTE_DIM(machine); cpu++)
        for (unsigned i = 0; i < machine[cpu].count; i++)
            if (machine[cpu].ns[i] > ns)
                share += (machine[cpu].ns[i] - ns) / machine[cpu].total_ns;
    return share;
}

// The microseconds below which the share `q` of packets waits for the machine.
static double machine_quantile(double q)
{
    double low = 0, high = 1e9;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        *(share_beyond(middle) > 1 - q ? &low : &high) = middle;
    }
    return high / 1000;
}

static int run_worker(void *worker)
{
    static struct roster roster;
    struct dataplane *dp = ((struct worker *)worker)->dp;
    roster.dp = dp;
    roster.seat[0].roster = &roster;
    atomic_store(&dp->worker[0], worker);
    atomic_store(&roster.seat[0].wanted, 1);
    take_cpu(1);
    return roster_run(&roster.seat[0]);
}

// Publishes at `rate` packets per second, round robin, for `ns`. A moment that the generator's CPU
// was away is not made up for: the load never exceeds what it is said to be. Returns the rate that
// it reached.
static double generate(struct bench_crowd *crowd, double rate, uint64_t ns, bool measure)
{
    static uint32_t number;
    static unsigned s;
    uint64_t *sent = wire_sent(wire), start = bench_now_ns(), now = start, n = 0, missed_ns = 0;
    uint32_t slice = 0;
    for (; now - start < ns; n++) {
        uint64_t due = start + missed_ns + (uint64_t)((double)n * 1e9 / rate);
        while ((now = bench_now_ns()) < due)
            __builtin_ia32_pause();
        if (now - due > AWAY_NS)
            missed_ns += now - due;
        if (measure && now - start >= (slice + 1) * SLICE_NS)
            wire_slice(wire, ++slice % SLICES);
        number++;
        sent[number % FAR_SENT] = now;
        bench_publish_at(crowd, s, number);
        s = (s + 1) % crowd->options->streams;
    }
    return (double)n * 1e9 / (double)(now - start);
}

static void start_worker(enum abi_idle idle)
{
    world.config.idle = idle;
    atomic_store(&world.dp.stop, false);
    rte_eal_remote_launch(run_worker, &world.workers[0], eal_worker_lcore(0));
}

static void stop_worker(void)
{
    atomic_store(&world.dp.stop, true);
    rte_eal_wait_lcore(eal_worker_lcore(0));
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of_slices(double q)
{
    double of[SLICES];
    for (uint32_t i = 0; i < SLICES; i++)
        of[i] = wire_slice_quantile(wire, i, q);
    qsort(of, SLICES, sizeof(of[0]), by_size);
    return of[SLICES / 2];
}

static struct figures trial(struct bench_crowd *crowd, double rate, uint64_t ns, bool measure)
{
    struct figures f = {0};
    uint64_t before = wire_settled(wire, FAR_RTP), n = crowd->next_index[0];
    for (unsigned s = 1; s < crowd->options->streams; s++)
        n += crowd->next_index[s];
    wire_measure(wire, measure);
    f.sent_pps = generate(crowd, rate, ns, measure) * crowd->per_stream;
    uint64_t seen = wire_settled(wire, FAR_RTP) - before, after = 0;
    for (unsigned s = 0; s < crowd->options->streams; s++)
        after += crowd->next_index[s];
    f.loss = 1 - (double)seen / ((double)(after - n) * crowd->per_stream);
    if (measure) {
        f.p50 = wire_quantile(wire, 0.5);
        f.p99 = wire_quantile(wire, 0.99);
        f.p999 = wire_quantile(wire, 0.999);
        f.calm_p99 = median_of_slices(0.99);
    }
    return f;
}

// Whether nothing is lost at that rate. Who shares the machine may cost us packets: a second and a
// third try are granted.
static bool holds(struct bench_crowd *crowd, double rate)
{
    for (int i = 0; i < 3; i++) {
        struct figures f = trial(crowd, rate, TRIAL_NS, false);
        // A generator that does not keep up says nothing about what it did not offer.
        if (f.loss <= 0 && f.sent_pps >= 0.98 * rate * crowd->per_stream)
            return true;
    }
    return false;
}

// The highest rate of publishers' packets at which nothing was lost.
static double search(struct bench_crowd *crowd)
{
    double low = 0, high = RATE_MAX;
    for (int i = 0; i < STEPS; i++) {
        double middle = (low + high) / 2;
        *(holds(crowd, middle) ? &low : &high) = middle;
    }
    return low;
}

static void report(const struct bench_crowd *crowd, double ndr, double generator,
                   const struct figures *spin, const struct figures *adaptive)
{
    const struct bench_options *o = crowd->options;
    if (o->json)
        printf("{\"bench\":\"latency\",\"path\":\"af_xdp\",\"profile\":\"%s\",\"payload\":%u,"
               "\"streams\":%u,\"subscribers\":%u,\"no_drop_pps\":%.0f,\"load\":%.0f,"
               "\"idle\":\"spin\",\"p50_us\":%.0f,\"p99_us\":%.0f,\"p999_us\":%.0f,"
               "\"calm_p99_us\":%.0f,\"loss\":%.6f,"
               "\"adaptive\":{\"load\":%.0f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"p999_us\":%.0f,"
               "\"calm_p99_us\":%.0f,"
               "\"loss\":%.6f},\"machine_p99_us\":%.0f,\"machine_p999_us\":%.0f,"
               "\"generator_pps\":%.0f}\n",
               o->profile->name, o->payload, o->streams, o->subscribers, ndr, spin->sent_pps,
               spin->p50, spin->p99, spin->p999, spin->calm_p99, spin->loss, adaptive->sent_pps,
               adaptive->p50, adaptive->p99, adaptive->p999, adaptive->calm_p99, adaptive->loss,
               machine_quantile(0.99), machine_quantile(0.999), generator);
    else
        printf("no-drop rate %.0f/s; at %.0f/s, spinning: p50 %.0f us, p99 %.0f us (in the median "
               "50 ms %.0f us), p99.9 %.0f us; adaptive: p50 %.0f us, p99 %.0f us (%.0f us), p99.9 "
               "%.0f us; the machine alone: p99 %.0f us, p99.9 %.0f us; generator alone %.0f/s\n",
               ndr, spin->sent_pps, spin->p50, spin->p99, spin->calm_p99, spin->p999, adaptive->p50,
               adaptive->p99, adaptive->calm_p99, adaptive->p999, machine_quantile(0.99),
               machine_quantile(0.999), generator);
}

static void run(struct bench_crowd *crowd)
{
    // Without a worker, the socket's ring is soon full; the generator does not notice.
    double generator = generate(crowd, RATE_MAX * 10, TRIAL_NS, false) * crowd->per_stream;
    watch_machine();
    start_worker(ABI_IDLE_SPIN);
    trial(crowd, 1000, TRIAL_NS, false);
    double ndr = search(crowd);
    double rate = ndr / 2 > 100 ? ndr / 2 : 100;
    struct figures spin = trial(crowd, rate, MEASURE_NS, true);
    stop_worker();
    start_worker(ABI_IDLE_ADAPTIVE);
    trial(crowd, rate, TRIAL_NS, false);
    struct figures adaptive = trial(crowd, rate, MEASURE_NS, true);
    stop_worker();
    report(crowd, ndr * crowd->per_stream, generator, &spin, &adaptive);
}

int main(int argc, char **argv)
{
    struct bench_options o = {.profile = bench_profile("gcm128"),
                              .path = "af_xdp",
                              .payload = 1172,
                              .subscribers = 320,
                              .streams = 32,
                              .workers = 1};
    struct bench_crowd crowd;
    bench_parse(&o, argc, argv);
    struct abi_config config = {
        .port_kind = ABI_PORT_AF_XDP, .device = WIRE_NEAR, .rx_mbufs = 8192, .tx_mbufs = 8192};
    wire = wire_open();
    bench_crowd_start(&crowd, &world, &o, &config, false, inject);
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        fputs("bench_latency: one CPU for worker and generator: figures mean little\n", stderr);
    take_cpu(0);
    run(&crowd);
    bench_crowd_free(&crowd);
    world_stop(&world);
    wire_close(wire);
    return 0;
}
