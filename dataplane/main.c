// hitless-dataplane: maps the channel, starts EAL, the port and the workers; then the main core
// beats the heart of the channel, watches the workers and waits for the end.
//
// The configuration comes with the channel, so this process parses nothing and opens no socket.
#include "eal.h"
#include "protect_cryptodev.h"
#include "roster.h"
#include <errno.h>
#include <rte_launch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL_WAIT_MS 10000
#define TURN_MS 5
#define PORT_STATS_MS 200
#define STALLED_STATUS 3 // exit status when a worker hangs and nothing else helps

static volatile sig_atomic_t stopping;
static volatile sig_atomic_t waiting; // as a spare, in a call that only a signal ends

static void on_signal(int signal)
{
    stopping = signal;
    // One that came just before the call began would be lost: there comes another.
    if (waiting)
        alarm(1);
}

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// What a start's time is made of.
static struct {
    const char *name[8];
    uint64_t at_ns[8];
    unsigned count;
} phases;

static void phase(const char *name)
{
    phases.name[phases.count] = name;
    phases.at_ns[phases.count++] = clock_ns();
}

// "channel 2, EAL 180, port 60 ms": each from the one before; the first is where main began.
static void print_phases(const struct dataplane *dp)
{
    char text[256] = "";
    int n = 0;
    for (unsigned i = 1; i < phases.count; i++)
        n +=
            snprintf(text + n, sizeof(text) - (size_t)n, "%s%s %u", i > 1 ? ", " : "",
                     phases.name[i], (unsigned)((phases.at_ns[i] - phases.at_ns[i - 1]) / 1000000));
    fprintf(stderr, "dataplane: %u worker(s) on %s, ready after %u ms (%s)\n", dp->workers,
            dp->config->device,
            (unsigned)((phases.at_ns[phases.count - 1] - phases.at_ns[0]) / 1000000), text);
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

// On shared cores our threads go first; somebody who always wants a core still gets one. The kernel
// weighs sessions of processes against each other first, so ours must go first, too.
static void set_priority(const struct abi_config *config)
{
    FILE *file = fopen("/proc/self/autogroup", "we");
    if (file) {
        fprintf(file, "%d", config->nice);
        fclose(file);
    }
    if (setpriority(PRIO_PROCESS, 0, config->nice))
        fprintf(stderr, "dataplane: no right to run at nice %d: %s\n", config->nice,
                strerror(errno));
}

static int open_channel(struct channel *channel, const char *dir, char *why, size_t why_size)
{
    int rc = -ENOENT;
    for (unsigned waited = 0; waited < CHANNEL_WAIT_MS && !stopping; waited += 10) {
        rc = channel_open(channel, dir, why, why_size);
        if (rc == 0)
            channel_set_tables(channel, tables_layout_id());
        // Busy: our predecessor was killed and is not quite gone.
        if (rc != -ENOENT && rc != -EBUSY)
            return rc;
        sleep_ms(10);
    }
    return rc;
}

// Lane 0: what concerns the whole process.
static void poll_lane(struct dataplane *dp)
{
    const struct msg_head *head;
    uint64_t invalid = 0;
    while ((head = channel_peek(dp->channel, 0, &invalid))) {
        if (msg_check(head) == 0 && head->type == MSG_MODE)
            atomic_store(&dp->mode, ((const struct msg_mode *)head)->mode);
        channel_release(dp->channel, 0);
    }
}

static int run(struct dataplane *dp, struct roster *roster, char *why, size_t why_size)
{
    uint64_t port_stats_ns = 0, alive_ns = 0, watchdog_us = 0;
    int rc = 0;
    sd_watchdog_enabled(0, &watchdog_us);
    sd_notify(0, "READY=1\nSTATUS=serving");
    while (!stopping && rc == 0) {
        uint64_t now_ns = clock_ns();
        channel_beat(dp->channel, now_ns, true);
        poll_lane(dp);
        if (now_ns - port_stats_ns >= PORT_STATS_MS * UINT64_C(1000000)) {
            port_stats_ns = now_ns;
            port_stats(&dp->port, channel_port_stats(dp->channel));
        }
        if (watchdog_us && now_ns - alive_ns >= watchdog_us * 500) {
            alive_ns = now_ns;
            sd_notify(0, "WATCHDOG=1");
        }
        rc = roster_turn(roster, now_ns, why, why_size);
        sleep_ms(TURN_MS);
    }
    return rc;
}

// Of DPDK's software drivers the fastest that is there. Keys: one per session, one per stream that
// comes in, two per partner.
static int open_crypto(struct dataplane *dp, char *why, size_t why_size)
{
    static const char *const drivers[] = {"crypto_aesni_mb", "crypto_openssl"};
    const struct abi_config *config = dp->config;
    uint32_t keys = config->max_sessions + config->max_streams + 2 * MSG_PEERS;
    int rc = 0;
    if (config->crypto != ABI_CRYPTO_CRYPTODEV)
        return 0;
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        rc = protect_device_open(&dp->crypto, drivers[i], (uint16_t)dp->workers, keys, why,
                                 why_size);
        if (rc != -ENODEV)
            break;
    }
    return rc;
}

static int start_workers(struct dataplane *dp, struct roster *roster, char *why, size_t why_size)
{
    int rc = roster_init(roster, dp, why, why_size);
    for (uint32_t w = 0; w < dp->workers && rc == 0; w++)
        if (rte_eal_remote_launch(roster_run, &roster->seat[w], eal_worker_lcore(w))) {
            snprintf(why, why_size, "worker %u: its lcore is busy", w);
            rc = -EBUSY;
        }
    return rc;
}

// With a thread that hangs nothing can be let go of in order: the kernel does it, and the tables
// are taken up by the next process.
static void end_now(const char *why)
{
    fprintf(stderr, "dataplane: %s\n", why);
    _exit(STALLED_STATUS);
}

static void stop_workers(struct dataplane *dp, struct roster *roster)
{
    atomic_store(&dp->stop, true);
    if (!roster_join(roster))
        end_now("a worker thread hangs, ending without it");
    for (uint32_t w = 0; w < dp->workers; w++)
        rte_eal_wait_lcore(eal_worker_lcore(w));
    roster_free(roster);
}

static int with_port(struct dataplane *dp, char *why, size_t why_size)
{
    struct rte_mempool *rx[ABI_MAX_WORKERS];
    for (uint32_t w = 0; w < dp->workers; w++)
        rx[w] = eal_worker_pools(w)->rx;
    int rc = port_open(&dp->port, dp->config, rx, why, why_size);
    if (rc)
        return rc;
    phase("port");
    struct roster *roster = aligned_alloc(ABI_CACHE_LINE, sizeof(*roster));
    rc = roster ? open_crypto(dp, why, why_size) : -ENOMEM;
    if (rc == 0) {
        rc = start_workers(dp, roster, why, why_size);
        if (rc == 0) {
            phase("tables");
            print_phases(dp);
            rc = run(dp, roster, why, why_size);
            if (rc)
                end_now(why);
        }
        stop_workers(dp, roster);
        protect_device_close(dp->crypto);
    }
    port_close(&dp->port);
    free(roster);
    return rc;
}

// `prepared`: what EAL was started with already, or NULL.
static int with_channel(struct channel *channel, const char *dir, const struct abi_config *prepared,
                        char *why, size_t why_size)
{
    static struct abi_config config;
    config = *channel_config(channel);
    if (prepared && memcmp(prepared, &config, sizeof(config)) != 0) {
        snprintf(why, why_size, "the configuration has changed since this spare was prepared");
        return -ESTALE;
    }
    struct dataplane *dp = aligned_alloc(ABI_CACHE_LINE, (sizeof(*dp) + 63) / 64 * 64);
    if (!dp)
        return -ENOMEM;
    memset(dp, 0, sizeof(*dp));
    dp->config = &config;
    dp->channel = channel;
    dp->dir = dir;
    dp->workers = config.workers;
    // With a partner, the addresses may be its own by now: silent until we are told.
    dp->given = config.bfd != 0;
    set_priority(&config);
    int rc = prepared ? 0 : eal_start(&config, why, why_size);
    if (rc == 0) {
        if (!prepared)
            phase("EAL and packet pools");
        rc = with_port(dp, why, why_size);
        eal_stop();
    }
    free(dp);
    return rc;
}

// Whether the program's file is another one by now.
static bool was_replaced(void)
{
    static const char mark[] = " (deleted)";
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
    return length >= (ssize_t)sizeof(mark) &&
           memcmp(path + length - (sizeof(mark) - 1), mark, sizeof(mark) - 1) == 0;
}

// While another dataplane serves: does all that takes time and touches nothing of the port, and
// waits. Sets *prepared when EAL is up. A PCI device would be the other's, so there it only waits.
static int be_spare(const char *dir, struct abi_config *config, bool *prepared, char *why,
                    size_t why_size)
{
    int rc = channel_look(dir, config, why, why_size);
    if (rc <= 0)
        return 0; // it is for channel_open to say what is wrong
    if (config->port_kind != ABI_PORT_PCI) {
        set_priority(config);
        rc = eal_start(config, why, why_size);
        if (rc)
            return rc;
        *prepared = true;
    }
    waiting = 1;
    fprintf(stderr, "dataplane: spare, %s\n", *prepared ? "prepared" : "waiting");
    sd_notify(0, "READY=1\nSTATUS=spare");
    do {
        rc = stopping ? -EINTR : channel_await(dir);
    } while (rc == -EINTR && !stopping);
    waiting = 0;
    alarm(0);
    if (!stopping && was_replaced()) {
        snprintf(why, why_size, "this spare's program was replaced by an upgrade");
        return -ESTALE;
    }
    phases.count = 0;
    phase("start");
    return 0;
}

static int run_in(const char *dir, bool spare, char *why, size_t why_size)
{
    static struct abi_config config;
    struct channel channel;
    bool prepared = false;
    phase("start");
    int rc = spare ? be_spare(dir, &config, &prepared, why, why_size) : 0;
    if (rc == 0)
        rc = open_channel(&channel, dir, why, why_size);
    if (rc == 0) {
        phase("channel");
        channel_discard(&channel);
        rc = with_channel(&channel, dir, prepared ? &config : NULL, why, why_size);
        channel_close(&channel);
    }
    return stopping ? 0 : rc;
}

static int usage(FILE *to)
{
    fprintf(to, "usage: hitless-dataplane [--spare] RUNTIME_DIR\n"
                "Forwards media as the control plane says through RUNTIME_DIR/channel.\n"
                "  --spare  while another one does, be prepared to take its place\n");
    return to == stderr ? 2 : 0;
}

int main(int argc, char *argv[])
{
    if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
        return usage(stdout);
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        printf("hitless-dataplane %s, channel version %u\n", HITLESS_VERSION, ABI_VERSION);
        return 0;
    }
    bool spare = argc == 3 && !strcmp(argv[1], "--spare");
    if (argc != 2 + spare || argv[argc - 1][0] == '-')
        return usage(stderr);
    // Keys live in this process: no core dumps, no ptrace by others.
    prctl(PR_SET_DUMPABLE, 0);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0});
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    char why[256] = "out of memory";
    int rc = run_in(argv[argc - 1], spare, why, sizeof(why));
    if (rc)
        fprintf(stderr, "dataplane: %s\n", why);
    return rc ? 1 : 0;
}
