// A thread that runs its share of the sessions: one epoll loop, one crypto engine, one clock read
// for each batch of packets.
#ifndef HITLESS_BEES_WORKER_H
#define HITLESS_BEES_WORKER_H

#include "bees.h"
#include "impair.h"
#include "session.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#define WORKER_BATCH 32   // messages read from a socket at a time
#define WORKER_READS 8    // batches read from one before others have their turn
#define WORKER_ROOM 65536 // bytes of a message: a datagram, or several that GRO put together

struct media;

// What all workers of a run share; read-only.
struct worker_config {
    const struct dtls_identity *identity;
    struct media *media; // publishers'; NULL: none
    struct impair_config impair;
    uint64_t run_ns;      // when the run began, absolute
    uint64_t join_ns;     // time to join before a session fails
    uint64_t stop_gap_ns; // no packet for so long at the end: media stopped
    uint64_t away_ns;     // a gap from here on counts as away (watch-failover)
    uint64_t seed;
    bool headers_only;
    bool anywhere; // public addresses are allowed
    // Called on the worker's thread when a session has ended; takes it over.
    void (*ended)(void *opaque, struct session *session);
    void *opaque;
};

// Receive buffers, one set for each worker.
struct worker_batch {
    struct mmsghdr message[WORKER_BATCH];
    struct iovec iov[WORKER_BATCH];
    struct sockaddr_in6 from[WORKER_BATCH];
    union {
        struct cmsghdr head;
        uint8_t room[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
    } control[WORKER_BATCH]; // UDP_GRO and SO_TIMESTAMPNS
    _Alignas(64) uint8_t data[WORKER_BATCH][WORKER_ROOM];
};

struct worker {
    const struct worker_config *config;
    unsigned number;
    pthread_t thread;
    int epoll, wake; // wake: eventfd
    int schedstat;   // of the thread; -1: the kernel does not tell
    struct protect *protect;
    struct impair *impair; // NULL: none
    uint64_t real_offset;  // CLOCK_REALTIME - CLOCK_MONOTONIC
    uint64_t now_ns;       // of the batch at hand
    struct worker_batch *batch;

    struct session **session; // by slot; NULL: free
    uint64_t *due;            // by slot; UINT64_MAX: nothing
    uint32_t slots, used;     // room, and one more than the highest in use
    uint32_t live;

    struct hist hist[BEES_DIST_COUNT];
    struct hist latency[2];      // of this second and the one before, see worker_latency
    struct hist joined[2];       // the same for times to join
    _Atomic unsigned half;       // which one is being written
    _Atomic uint64_t gap_max_ns; // largest since it was last read
    _Atomic uint64_t cpu_ns;     // of the thread
    _Atomic uint64_t starved_ns; // that it was ready to run and had no core
    _Atomic uint32_t open;       // sessions that are connected
    _Atomic bool stop;

    pthread_mutex_t lock; // of the inbox
    struct worker_order *inbox;
    unsigned orders, room;
};

// Starts the thread. Returns 0 or a negative errno.
int worker_start(struct worker *worker, unsigned number, const struct worker_config *config);
// Hands it a session whose answer has come. Returns 0 or -ENOMEM.
int worker_add(struct worker *worker, struct session *session);
// Tells it to end a session, if it still has it. Returns 0 or -ENOMEM.
int worker_leave(struct worker *worker, uint32_t number);
// Tells it to end them all and then itself; waits for it and frees what it has.
void worker_stop(struct worker *worker);
void worker_join(struct worker *worker);

// For sessions, on the worker's thread.
void worker_gap(struct worker *worker, uint64_t gap_ns);
static inline void worker_note(struct worker *worker, enum bees_distribution distribution,
                               uint64_t ns)
{
    hist_add(&worker->hist[distribution], ns / 1000);
}

#endif
