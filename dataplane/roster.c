// The main core's side: who runs what, who has stalled, and where its workers go on.
#include "roster.h"
#include "roster_thread.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PARK_WAIT_US 2000   // for a thread to say that it is parked; one that cannot run need not
#define STEP_US 50          // between two looks meanwhile
#define LOOK_NS 10000000    // silence after which CPU time is noted
#define LATE_NS 40000000    // the main core itself was away
#define OUT_NS 1000000000   // for a thread to come out of its last turn, then it is parked for good
#define HOLD_NS 10000000000 // good behaviour before a thread gets its worker back; doubles
#define HOLD_MAX_NS 600000000000
#define JOIN_MS 1000

enum roster_verdict roster_judge(const struct roster_look *look)
{
    if (look->silent_ns < ROSTER_STALLED_NS)
        return ROSTER_WORKS;
    if (look->dedicated || look->state != 'R' || look->cpu_ns >= ROSTER_STALLED_NS / 2)
        return ROSTER_STALLED;
    return ROSTER_WAITS;
}

// ---- the main core's look at a thread

static uint64_t cpu_time(const struct seat *seat)
{
    clockid_t clock;
    struct timespec t;
    if (pthread_getcpuclockid(seat->thread, &clock) || clock_gettime(clock, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// The state's letter follows the name, which may hold anything but ends with the last ')'.
static char thread_state(const struct seat *seat)
{
    char path[48], text[256];
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&seat->tid));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = 0;
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[1] == ' ' ? name_end[2] : 'R';
}

static uint64_t silence(const struct seat *seat, uint64_t now_ns)
{
    uint64_t alive = atomic_load_explicit(&seat->alive_ns, memory_order_relaxed);
    if (seat->excused_at == alive)
        alive += seat->excused_ns;
    return now_ns > alive ? now_ns - alive : 0;
}

// The whole process was stopped, or we waited for a CPU of our own: for that long nobody was late.
// The rest of a silence counts on, or who hangs would never be late where we often wait.
static void excuse(struct roster *roster, uint64_t away_ns)
{
    for (uint32_t i = 0; i < roster->dp->workers; i++) {
        struct seat *seat = &roster->seat[i];
        uint64_t alive = atomic_load_explicit(&seat->alive_ns, memory_order_relaxed);
        if (seat->excused_at != alive)
            seat->excused_ns = 0;
        seat->excused_at = alive;
        seat->excused_ns += away_ns;
    }
}

static enum roster_verdict look_at(struct roster *roster, struct seat *seat, uint64_t now_ns)
{
    struct roster_look look = {.silent_ns = silence(seat, now_ns)};
    uint64_t alive = atomic_load_explicit(&seat->alive_ns, memory_order_relaxed);
    if (!atomic_load(&seat->tid) || look.silent_ns < LOOK_NS)
        return ROSTER_WORKS;
    if (seat->looked_ns != alive) {
        seat->looked_ns = alive;
        seat->cpu_ns = cpu_time(seat);
    }
    if (look.silent_ns < ROSTER_STALLED_NS)
        return ROSTER_WORKS;
    look.cpu_ns = cpu_time(seat) - seat->cpu_ns;
    look.state = thread_state(seat);
    look.dedicated = roster->dp->config->idle == ABI_IDLE_SPIN;
    return roster_judge(&look);
}

// ---- moving

static struct worker *new_worker(struct dataplane *dp, uint32_t id, char *why, size_t why_size)
{
    struct worker *worker = aligned_alloc(ABI_CACHE_LINE, sizeof(*worker));
    if (worker && worker_init(worker, dp, id, why, why_size)) {
        free(worker);
        worker = NULL;
    }
    return worker;
}

int roster_replace(struct dataplane *dp, struct worker *old, char *why, size_t why_size)
{
    int rc = tables_renew(dp->dir, old->id);
    if (rc) {
        snprintf(why, why_size, "worker %u: its tables cannot be copied: %s", old->id,
                 strerror(-rc));
        return rc;
    }
    struct worker *worker = new_worker(dp, old->id, why, why_size);
    if (!worker)
        return -ENOMEM;
    atomic_store_explicit(&dp->worker[old->id], worker, memory_order_release);
    return 0;
}

static void park(struct seat *seat)
{
    atomic_store(&seat->park, ++seat->parkings);
    pthread_kill(seat->thread, ROSTER_PARK_SIGNAL);
}

static void unpark(struct seat *seat)
{
    atomic_store(&seat->park, 0);
}

// From here on its workers can neither send nor take anything.
static void revoke_all(struct roster *roster, struct seat *seat)
{
    uint32_t held = atomic_load(&seat->wanted) | atomic_load(&seat->running);
    for (uint32_t mask = held; mask; mask &= mask - 1) {
        struct worker *worker = atomic_load(&roster->dp->worker[__builtin_ctz(mask)]);
        atomic_store_explicit(&worker->revoked, true, memory_order_seq_cst);
    }
    atomic_store(&seat->wanted, held);
    seat->state = SEAT_REVOKED;
}

// Whether what its workers held alone is in order, and the thread does not run. One that does not
// say so is off its core, and the signal comes before anything else when it is on it again.
static bool settle(struct roster *roster, struct seat *seat)
{
    park(seat);
    for (unsigned us = 0; us < PARK_WAIT_US && atomic_load(&seat->parked) != seat->parkings;
         us += STEP_US)
        roster_sleep_us(STEP_US);
    for (uint32_t mask = atomic_load(&seat->wanted); mask; mask &= mask - 1) {
        const struct worker *worker = atomic_load(&roster->dp->worker[__builtin_ctz(mask)]);
        if (atomic_load_explicit(&worker->inside, memory_order_seq_cst)) {
            unpark(seat); // to leave it, if it can
            return false;
        }
    }
    return true;
}

static uint32_t load_of(const struct roster *roster, const struct seat *seat)
{
    uint32_t sessions = 0;
    for (uint32_t mask = atomic_load(&seat->wanted); mask; mask &= mask - 1)
        sessions += atomic_load(&roster->dp->worker[__builtin_ctz(mask)])->tables.session_count;
    return sessions;
}

// The thread with the fewest sessions of those that work.
static struct seat *find_heir(struct roster *roster, const struct seat *stalled, uint64_t now_ns)
{
    struct seat *best = NULL;
    for (uint32_t i = 0; i < roster->dp->workers; i++) {
        struct seat *seat = &roster->seat[i];
        if (seat == stalled || seat->state != SEAT_WORKS || !atomic_load(&seat->tid) ||
            silence(seat, now_ns) >= ROSTER_STALLED_NS / 2)
            continue;
        if (!best || load_of(roster, seat) < load_of(roster, best))
            best = seat;
    }
    return best;
}

static int move(struct roster *roster, struct seat *from, struct seat *to, uint64_t now_ns,
                char *why, size_t why_size)
{
    struct dataplane *dp = roster->dp;
    uint32_t moved = atomic_load(&from->wanted);
    for (uint32_t mask = moved; mask; mask &= mask - 1) {
        uint32_t w = (uint32_t)__builtin_ctz(mask);
        struct worker *old = atomic_load(&dp->worker[w]);
        int rc = roster_replace(dp, old, why, why_size);
        if (rc)
            return rc;
        roster->ghost[w] = old;
        fprintf(stderr,
                "dataplane: worker %u goes on under thread %u with %u sessions, %u ms after "
                "it was last heard of\n",
                w, to->id, atomic_load(&dp->worker[w])->tables.session_count,
                (unsigned)((worker_clock() - atomic_load(&from->alive_ns)) / 1000000));
    }
    atomic_store_explicit(&from->wanted, 0, memory_order_release);
    atomic_fetch_or_explicit(&to->wanted, moved, memory_order_release);
    // What was on its way to it may be lost.
    channel_renew(dp->channel);
    from->state = SEAT_AWAY;
    from->moved_ns = now_ns;
    from->steady_ns = 0;
    unpark(from);
    return 0;
}

static int end(const struct seat *seat, const char *because, char *why, size_t why_size)
{
    snprintf(why, why_size, "worker thread %u has stalled and %s: ending, to be started again",
             seat->id, because);
    return -ETIMEDOUT;
}

static int rescue(struct roster *roster, struct seat *seat, uint64_t now_ns, char *why,
                  size_t why_size)
{
    struct seat *heir = find_heir(roster, seat, now_ns);
    bool late = silence(seat, now_ns) >= ROSTER_END_NS;
    if (!heir || roster->dp->crypto)
        return late ? end(seat, heir ? "its crypto queue cannot change hands" : "there is no other",
                          why, why_size)
                    : 0;
    if (seat->state == SEAT_WORKS)
        revoke_all(roster, seat);
    if (settle(roster, seat))
        return move(roster, seat, heir, now_ns, why, why_size);
    return late ? end(seat, "holds a queue half-changed", why, why_size) : 0;
}

static const char *describe(enum roster_verdict verdict)
{
    return verdict == ROSTER_WAITS ? "it waits for a CPU" : "it has stalled";
}

static int watch_seat(struct roster *roster, struct seat *seat, uint64_t now_ns, char *why,
                      size_t why_size)
{
    enum roster_verdict verdict = look_at(roster, seat, now_ns);
    uint64_t silent_ns = silence(seat, now_ns);
    if (seat->state == SEAT_REVOKED)
        return rescue(roster, seat, now_ns, why, why_size);
    if (verdict != ROSTER_WORKS && !seat->waits)
        fprintf(stderr, "dataplane: worker thread %u made no progress for %u ms: %s\n", seat->id,
                (unsigned)(silent_ns / 1000000), describe(verdict));
    seat->waits = verdict != ROSTER_WORKS;
    // With nobody to take over, a thread that only lacks a CPU goes on when it gets one.
    if (verdict == ROSTER_WAITS &&
        (silent_ns < ROSTER_STARVED_NS || !find_heir(roster, seat, now_ns)))
        return 0;
    return verdict == ROSTER_WORKS ? 0 : rescue(roster, seat, now_ns, why, why_size);
}

// ---- coming back

// A thread that is out of its last turn and behaves gets its worker back.
static void watch_away(struct roster *roster, struct seat *seat, uint64_t now_ns)
{
    if (seat->lost)
        return;
    if (atomic_load_explicit(&seat->running, memory_order_acquire)) {
        seat->lost = now_ns - seat->moved_ns >= OUT_NS;
        if (seat->lost) {
            park(seat);
            fprintf(stderr, "dataplane: worker thread %u hangs for good\n", seat->id);
        }
        return;
    }
    if (!seat->steady_ns || silence(seat, now_ns) >= ROSTER_STALLED_NS)
        seat->steady_ns = now_ns;
    if (now_ns - seat->steady_ns >= seat->hold_ns)
        seat->state = SEAT_RETURNS;
}

// Whether a thread that is to run the worker no longer is still at it, perhaps for good.
static bool lingers(const struct roster *roster, uint32_t bit)
{
    for (uint32_t i = 0; i < roster->dp->workers; i++) {
        const struct seat *seat = &roster->seat[i];
        if (atomic_load_explicit(&seat->running, memory_order_acquire) &
            ~atomic_load(&seat->wanted) & bit)
            return true;
    }
    return false;
}

// Nobody is to let go of it before all others have: it would be nobody's.
static void take_back(struct roster *roster, struct seat *seat)
{
    uint32_t bit = 1u << seat->id;
    if (lingers(roster, bit))
        return;
    for (uint32_t i = 0; i < roster->dp->workers; i++)
        atomic_fetch_and(&roster->seat[i].wanted, ~bit);
    for (unsigned us = 0; us < PARK_WAIT_US && lingers(roster, bit); us += STEP_US)
        roster_sleep_us(STEP_US);
    if (lingers(roster, bit))
        return; // at the next turn
    free(roster->ghost[seat->id]);
    roster->ghost[seat->id] = NULL;
    atomic_store_explicit(&seat->wanted, bit, memory_order_release);
    seat->state = SEAT_WORKS;
    seat->waits = false;
    seat->hold_ns = RTE_MIN(seat->hold_ns * 2, (uint64_t)HOLD_MAX_NS);
    fprintf(stderr, "dataplane: worker %u is back on its own thread\n", seat->id);
}

int roster_turn(struct roster *roster, uint64_t now_ns, char *why, size_t why_size)
{
    if (roster->turn_ns && now_ns - roster->turn_ns >= LATE_NS)
        excuse(roster, now_ns - roster->turn_ns);
    roster->turn_ns = now_ns;
    int rc = 0;
    for (uint32_t i = 0; i < roster->dp->workers && rc == 0; i++) {
        struct seat *seat = &roster->seat[i];
        if (seat->state == SEAT_AWAY)
            watch_away(roster, seat, now_ns);
        else if (seat->state == SEAT_RETURNS)
            take_back(roster, seat);
        else
            rc = watch_seat(roster, seat, now_ns, why, why_size);
    }
    return rc;
}

// ---- start and end

int roster_init(struct roster *roster, struct dataplane *dp, char *why, size_t why_size)
{
    roster_prepare_parking();
    memset(roster, 0, sizeof(*roster));
    roster->dp = dp;
    for (uint32_t w = 0; w < dp->workers; w++) {
        struct worker *worker = new_worker(dp, w, why, why_size);
        if (!worker)
            return -ENOMEM;
        atomic_store(&dp->worker[w], worker);
        roster->seat[w].roster = roster;
        roster->seat[w].id = w;
        roster->seat[w].hold_ns = HOLD_NS;
        atomic_store(&roster->seat[w].wanted, 1u << w);
    }
    return 0;
}

void roster_free(struct roster *roster)
{
    struct dataplane *dp = roster->dp;
    for (uint32_t w = 0; w < dp->workers; w++) {
        struct worker *worker = atomic_load(&dp->worker[w]);
        if (worker)
            worker_free(worker);
        free(worker);
        free(roster->ghost[w]);
        atomic_store(&dp->worker[w], NULL);
    }
    worker_free_posts(dp);
}

bool roster_join(struct roster *roster)
{
    bool ended = false;
    for (unsigned ms = 0; ms < JOIN_MS && !ended; ms++) {
        ended = true;
        for (uint32_t i = 0; i < roster->dp->workers; i++)
            ended = ended && !roster->seat[i].lost && !atomic_load(&roster->seat[i].running);
        if (!ended)
            roster_sleep_us(1000);
    }
    return ended;
}
