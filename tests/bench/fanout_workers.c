// Fan-out by several workers at once, each on a CPU of its own with a stream and viewers of its
// own: one worker alone, all together, as many independent processes of one worker each, and as
// many threads that only seal, in turns within one run. What processes of their own cannot do on
// this machine, threads of one cannot do either.
//
// Every thread makes its publisher's packets itself, one for a thousand copies or whatever
// --subscribers says. Times are wall clock.
#include "cipher.h"
#include "fanout.h"
#include <rte_launch.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 9
#define ROUND_NS 200000000ull

enum { ONE, ALL, PROCESSES, CIPHERS, KINDS };

// What a process beside ours and we tell each other.
struct beside {
    _Atomic unsigned wanted, done; // rounds
    double pps;
};

struct thread {
    struct bench_crowd crowd;
    struct cipher *cipher;
    unsigned number;
    double pps;
    uint64_t generator_ns, generated;
    _Atomic bool ready;
};

static struct world world;
static struct thread threads[ABI_MAX_WORKERS];
static struct beside *beside;

static void take_cpu(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

// Has worker `w` of the thread's world fan out for a round.
static void drive(struct thread *t, unsigned w)
{
    struct worker *worker = &t->crowd.world->workers[w];
    uint64_t start = bench_now_ns(), now = start, before = worker->stats->count[COUNT_rtp_out];
    while (now - start < ROUND_NS) {
        uint64_t begun = bench_now_ns();
        bench_publish(&t->crowd, w, 1);
        worker->now_ns = bench_now_ns();
        t->generator_ns += worker->now_ns - begun;
        t->generated++;
        worker_turn(worker);
        now = bench_now_ns();
    }
    t->pps = (double)(worker->stats->count[COUNT_rtp_out] - before) * 1e9 / (double)(now - start);
}

static int fan_thread(void *argument)
{
    struct thread *t = argument;
    take_cpu(t->number);
    drive(t, t->number);
    atomic_store(&t->ready, true);
    return 0;
}

static int cipher_thread(void *argument)
{
    struct thread *t = argument;
    take_cpu(t->number);
    uint64_t start = bench_now_ns(), now = start, sealed = 0;
    while (now - start < ROUND_NS) {
        for (int i = 0; i < 100; i++)
            cipher_seal(t->cipher);
        sealed += 100 * CIPHER_KEYS;
        now = bench_now_ns();
    }
    t->pps = (double)sealed * 1e9 / (double)(now - start);
    atomic_store(&t->ready, true);
    return 0;
}

// Runs the first `count` threads. Returns packets per second of all.
static double run_threads(lcore_function_t *function, unsigned count)
{
    double pps = 0;
    for (unsigned w = 0; w < count; w++) {
        atomic_store(&threads[w].ready, false);
        rte_eal_remote_launch(function, &threads[w], eal_worker_lcore(w));
    }
    for (unsigned w = 0; w < count; w++) {
        while (!atomic_load(&threads[w].ready)) // EAL's own waiting spins on a CPU
            usleep(500);
        rte_eal_wait_lcore(eal_worker_lcore(w));
        pps += threads[w].pps;
    }
    return pps;
}

static double run_processes(unsigned count)
{
    double pps = 0;
    for (unsigned p = 0; p < count; p++)
        atomic_fetch_add(&beside[p].wanted, 1);
    for (unsigned p = 0; p < count; p++) {
        while (atomic_load(&beside[p].done) != atomic_load(&beside[p].wanted))
            usleep(500);
        pps += beside[p].pps;
    }
    return pps;
}

static void start_world(struct bench_crowd *crowd, const struct bench_options *o)
{
    // One more than needed may be there: a null port receives nothing, another worker's mailbox
    // leads to the same place.
    struct abi_config config = {.port_kind = ABI_PORT_NULL, .workers = RTE_MAX(o->workers, 2u)};
    bench_crowd_start(crowd, &world, o, &config, false, NULL);
}

static int process_thread(void *argument)
{
    const unsigned number = *(const unsigned *)argument;
    struct beside *b = &beside[number];
    take_cpu(number);
    for (;;) {
        while (atomic_load(&b->done) == atomic_load(&b->wanted))
            usleep(500);
        drive(&threads[0], 0);
        b->pps = threads[0].pps;
        atomic_fetch_add(&b->done, 1);
    }
    return 0;
}

// A process of one worker, which works when it is told to and dies with us.
static void be_process(const struct bench_options *all, unsigned number)
{
    struct bench_options o = *all;
    o.subscribers /= o.workers;
    o.workers = o.streams = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    start_world(&threads[0].crowd, &o);
    atomic_store(&beside[number].done, 0);
    rte_eal_remote_launch(process_thread, &number, eal_worker_lcore(0));
    for (;;)
        pause();
}

static void start_processes(const struct bench_options *o, pid_t *pids)
{
    size_t size = o->workers * sizeof(*beside);
    beside = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (beside == MAP_FAILED)
        exit(1);
    for (unsigned p = 0; p < o->workers; p++) {
        atomic_store(&beside[p].done, 1); // until it is ready
        pids[p] = fork();
        if (pids[p] == 0)
            be_process(o, p);
        while (pids[p] > 0 && atomic_load(&beside[p].done)) {
            if (waitpid(pids[p], NULL, WNOHANG) == pids[p])
                exit(1); // it has said why
            usleep(1000);
        }
    }
}

static void report(const struct bench_options *o, double median[KINDS], double alone, double same)
{
    uint64_t ns = 0, made = 0;
    for (unsigned w = 0; w < o->workers; w++) {
        ns += threads[w].generator_ns;
        made += threads[w].generated;
    }
    unsigned per_stream = o->subscribers / o->streams;
    double generator = (double)made * per_stream * 1e9 / (double)ns * o->workers;
    double lost = (double)(bench_drop(&world, DROP_tx_full) + bench_drop(&world, DROP_no_mbuf)) /
                  (double)bench_count(&world, COUNT_rtp_out);
    printf(o->json
               ? "{\"bench\":\"fanout\",\"path\":\"memory\",\"profile\":\"%s\",\"payload\":%u,"
                 "\"subscribers\":%u,\"streams\":%u,\"workers\":%u,\"pps\":%.0f,"
                 "\"cycles_per_packet\":%.1f,\"one_pps\":%.0f,\"scale\":%.2f,"
                 "\"processes_pps\":%.0f,\"of_processes\":%.2f,\"raw_pps\":%.0f,\"ratio\":%.3f,"
                 "\"loss\":%.6f,\"generator_pps\":%.0f}\n"
               : "%-8s %5u B  %6u viewers of %3u streams  %u workers %.0f packets/s (%.0f cycles), "
                 "one alone %.0f, scale %.2f; as many processes %.0f, ratio %.2f; as many ciphers "
                 "%.0f, ratio %.2f; loss %.6f; generator alone %.0f/s\n",
           o->profile->name, o->payload, o->subscribers, o->streams, o->workers, median[ALL],
           o->workers * (double)rte_get_tsc_hz() / median[ALL], median[ONE], alone,
           median[PROCESSES], same, median[CIPHERS], median[ALL] / median[CIPHERS], lost,
           generator);
}

static void measure(const struct bench_options *o)
{
    double pps[KINDS][ROUNDS], scale[ROUNDS], same[ROUNDS], median[KINDS];
    for (int i = -1; i < ROUNDS; i++) {
        int at = i < 0 ? 0 : i;
        pps[ONE][at] = run_threads(fan_thread, 1);
        pps[ALL][at] = run_threads(fan_thread, o->workers);
        pps[PROCESSES][at] = run_processes(o->workers);
        pps[CIPHERS][at] = run_threads(cipher_thread, o->workers);
        scale[at] = pps[ALL][at] / pps[ONE][at];
        same[at] = pps[ALL][at] / pps[PROCESSES][at];
    }
    for (int k = 0; k < KINDS; k++)
        median[k] = bench_median(pps[k], ROUNDS);
    report(o, median, bench_median(scale, ROUNDS), bench_median(same, ROUNDS));
}

void fanout_workers(struct bench_options *o)
{
    struct bench_crowd crowd;
    pid_t pids[ABI_MAX_WORKERS] = {0};
    o->streams = o->workers;
    o->subscribers *= o->workers;
    if (sysconf(_SC_NPROCESSORS_ONLN) < (long)o->workers)
        fprintf(stderr, "bench_fanout: fewer than %u CPUs: workers take turns\n", o->workers);
    start_processes(o, pids);
    start_world(&crowd, o);
    for (unsigned w = 0; w < o->workers; w++) {
        threads[w].number = w;
        threads[w].crowd = crowd;
        threads[w].cipher = cipher_new(o->profile->id, o->payload);
        if (protect_new(&threads[w].crowd.crypto))
            exit(1);
    }
    measure(o);
    for (unsigned w = 0; w < o->workers; w++) {
        kill(pids[w], SIGKILL);
        waitpid(pids[w], NULL, 0);
        cipher_free(threads[w].cipher);
        protect_free(threads[w].crowd.crypto);
    }
    bench_crowd_free(&crowd);
    world_stop(&world);
}
