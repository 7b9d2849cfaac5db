// A worker thread's side of the roster: its loop, its place on a shared core, and being parked.
#include "roster_thread.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define IDLE_TURNS 200 // turns without work before a thread that shares its core sleeps
#define IDLE_SLEEP_US 50
#define TURN_NS 50000000    // after which its place on a shared core is thought over
#define EMPTY_SLEEP_US 1000 // of a thread without a worker

static _Thread_local struct seat *my_seat;

// Safe wherever it interrupts: it only loads, stores and sleeps.
static void on_park(int number)
{
    int error = errno;
    struct seat *seat = my_seat;
    uint32_t parking;
    while (seat && (parking = atomic_load(&seat->park))) {
        atomic_store(&seat->parked, parking);
        roster_sleep_us(1000);
    }
    errno = error;
}

static void take_orders(struct seat *seat, uint32_t *mine)
{
    uint32_t wanted = atomic_load_explicit(&seat->wanted, memory_order_acquire);
    if (wanted == *mine)
        return;
    for (uint32_t w = 0; w < ABI_MAX_WORKERS; w++) {
        uint32_t bit = 1u << w;
        if (*mine & ~wanted & bit) {
            if (atomic_load(&seat->worker[w]->revoked))
                worker_free(seat->worker[w]);
            seat->worker[w] = NULL;
        } else if (wanted & ~*mine & bit) {
            seat->worker[w] = atomic_load(&seat->roster->dp->worker[w]);
        }
    }
    *mine = wanted;
    atomic_store_explicit(&seat->running, wanted, memory_order_release);
}

// On a shared core a worker that waits behind others for 30 ms is dead to its partner and frozen to
// its viewers, so it goes before all that is not real-time, as long as it leaves an eighth of the
// core to them: from one that takes more the kernel would take the core away for 50 ms in every
// second (sched(7)), which is worse than to queue. Without the privilege it always queues.
struct turn {
    bool first, refused;
    uint64_t since_ns, slept_ns; // of this window
};

static void go(struct turn *turn, bool first)
{
    struct sched_param param = {.sched_priority = first ? sched_get_priority_min(SCHED_RR) : 0};
    turn->first = first;
    if (sched_setscheduler(0, (first ? SCHED_RR : SCHED_OTHER) | SCHED_RESET_ON_FORK, &param) == 0)
        return;
    turn->refused = true;
    fprintf(stderr, "dataplane: no real-time priority (%s): a worker may wait for its core\n",
            strerror(errno));
}

static void take_turns(struct turn *turn, uint64_t now_ns)
{
    uint64_t window = now_ns - turn->since_ns;
    if (turn->refused || window < TURN_NS)
        return;
    if (turn->first && turn->slept_ns < window / 8)
        go(turn, false);
    else if (!turn->first && turn->slept_ns > window / 4)
        go(turn, true);
    turn->since_ns = now_ns;
    turn->slept_ns = 0;
}

int roster_run(void *argument)
{
    struct seat *seat = argument;
    struct dataplane *dp = seat->roster->dp;
    bool adaptive = dp->config->idle == ABI_IDLE_ADAPTIVE;
    uint32_t idle = 0, mine = 0;
    struct turn turn = {.since_ns = worker_clock()};
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    if (adaptive)
        go(&turn, true);
    my_seat = seat;
    seat->thread = pthread_self();
    atomic_store(&seat->alive_ns, worker_clock());
    atomic_store(&seat->tid, gettid());
    while (!atomic_load_explicit(&dp->stop, memory_order_relaxed)) {
        bool busy = false;
        uint64_t now_ns = 0;
        take_orders(seat, &mine);
        for (uint32_t mask = mine; mask; mask &= mask - 1) {
            struct worker *worker = seat->worker[__builtin_ctz(mask)];
            busy |= worker_timed_turn(worker);
            now_ns = worker->now_ns;
        }
        atomic_store_explicit(&seat->alive_ns, mine ? now_ns : worker_clock(),
                              memory_order_relaxed);
        idle = busy ? 0 : idle + 1;
        if (!mine) {
            roster_sleep_us(EMPTY_SLEEP_US);
        } else if (adaptive && idle > IDLE_TURNS) {
            roster_sleep_us(IDLE_SLEEP_US);
            turn.slept_ns += IDLE_SLEEP_US * 1000;
        }
        if (adaptive && mine)
            take_turns(&turn, now_ns);
    }
    atomic_store_explicit(&seat->running, 0, memory_order_release);
    return 0;
}

void roster_prepare_parking(void)
{
    struct sigaction action = {.sa_handler = on_park, .sa_flags = SA_RESTART};
    sigaction(ROSTER_PARK_SIGNAL, &action, NULL);
}
