// Which thread runs which worker. Each worker begins on a thread of its own; when that one stalls,
// the worker's sessions, UDP port, queues and channel lane go on under another thread, and the
// control plane notices nothing but that it has to say everything again.
//
// How: the stalled thread may wake up at any instant, in the midst of a seal. So
// its struct worker is revoked (see worker_enter): from then on it can neither send nor take
// anything. A signal parks the thread before it executes anything more, and its table file is
// replaced by a copy under the same name, so that whatever it still writes goes nowhere. A new
// struct worker takes up the copy as after a crash: the numbers in it are those of the last packet
// that was begun, a viewer's index is a function of the track's, and what was sealed but not sent
// is thrown away. A thread that comes back finds that it has nothing to do, and gets its worker
// again after a while of good behaviour.
//
// Limits. A worker that stalls inside the port's driver, a mailbox or the channel (a microsecond of
// each turn) leaves them half-changed, and a queue of a cryptodev cannot change hands: then, and
// when no other thread is left, the process ends and is started again, which adopts all tables.
// The packets in the stalled worker's rings are lost, as in a crash.
#ifndef HITLESS_ROSTER_H
#define HITLESS_ROSTER_H

#include "worker.h"
#include <pthread.h>

#define ROSTER_STALLED_NS UINT64_C(80000000)   // silence after which a thread has stalled
#define ROSTER_STARVED_NS UINT64_C(1000000000) // the same, if all it lacks is a CPU
#define ROSTER_END_NS UINT64_C(500000000)      // silence that ends the process when nothing helps

// What is known of a thread that has been silent for a while.
struct roster_look {
    uint64_t silent_ns;
    uint64_t cpu_ns; // CPU time that it used meanwhile
    char state;      // of /proc/PID/task/TID/stat
    bool dedicated;  // it spins on a core of its own
};

enum roster_verdict {
    ROSTER_WORKS,
    ROSTER_WAITS,  // the machine gives it no CPU; that another thread would fare better is a guess
    ROSTER_STALLED // it hangs in a loop, is blocked, or its core is gone
};

// A thread that could run and gets no CPU has not stalled: on shared cores that happens under load.
enum roster_verdict roster_judge(const struct roster_look *look);

enum seat_state {
    SEAT_WORKS,
    SEAT_REVOKED, // stalled; its workers are being moved
    SEAT_AWAY,    // moved; it may come back
    SEAT_RETURNS  // its own worker is on its way back
};

// A thread.
struct seat {
    struct roster *roster;
    uint32_t id;
    _Alignas(ABI_CACHE_LINE) _Atomic uint32_t wanted; // bit w: it is to run worker w. main: wo
    _Atomic uint32_t park; // number of a parking to stay in, 0: go on. main: wo
    _Alignas(ABI_CACHE_LINE) _Atomic uint32_t running; // what it runs. The thread: wo
    _Atomic uint32_t parked;                           // number of the last parking. The thread: wo
    _Atomic uint64_t alive_ns;                         // start of its last turn. The thread: wo
    _Atomic int tid;                                   // 0: has not begun. The thread: wo
    pthread_t thread;                                  // valid once tid is set
    struct worker *worker[ABI_MAX_WORKERS];            // the thread's own

    // Main core only.
    enum seat_state state;
    bool waits, lost;
    uint32_t parkings;
    uint64_t looked_ns, cpu_ns; // alive_ns when CPU time was noted last
    uint64_t moved_ns, steady_ns, hold_ns;
    uint64_t excused_ns, excused_at; // of its silence since alive_ns was excused_at
};

// Main core only, but for what the seats hold.
struct roster {
    struct dataplane *dp;
    struct seat seat[ABI_MAX_WORKERS];
    struct worker *ghost[ABI_MAX_WORKERS]; // revoked; freed when its thread has let go of it
    uint64_t turn_ns;                      // of the last turn; 0: there was none
};

// Makes a worker for each of dp's and seats it on the thread of its number. 0, or a negative errno
// with a line in `why`.
int roster_init(struct roster *roster, struct dataplane *dp, char *why, size_t why_size);
// Frees the workers; their threads have ended.
void roster_free(struct roster *roster);

// A thread's loop: runs until dp->stop. Signature of an lcore function; the argument is a seat.
int roster_run(void *seat);

// To be called every few milliseconds: looks at the threads and moves workers. 0, or -ETIMEDOUT
// with a line in `why` when the process should end at once.
int roster_turn(struct roster *roster, uint64_t now_ns, char *why, size_t why_size);

// Waits for all threads to end, a second at most. False: one hangs.
bool roster_join(struct roster *roster);

// A worker in the place of `old`, which is revoked and not inside; for roster_turn and for tests.
// 0 or a negative errno; on success it is in dp->worker.
int roster_replace(struct dataplane *dp, struct worker *old, char *why, size_t why_size);

#endif
