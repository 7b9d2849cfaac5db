// One worker: a core, its queue pair, its sessions and streams, its counters. Everything in struct
// worker belongs to the worker's thread unless it says otherwise.
#ifndef HITLESS_WORKER_H
#define HITLESS_WORKER_H

#include "../drivers/port.h"
#include "abi/channel.h"
#include "bfd.h"
#include "burst.h"
#include "bytes.h"
#include "neigh.h"
#include "tables.h"
#include <rte_cycles.h>
#include <rte_ring.h>
#include <stdatomic.h>

#define TX_BATCH 64
#define MAILBOX_SIZE 1024

// A partner node, as one worker talks to it.
struct peer {
    bool present;
    struct abi_addr remote4, remote6; // of the partner's worker 0
    uint16_t workers;
    struct protect_tx tx;
    struct protect_rx rx;
    struct protect_source sources[ABI_MAX_WORKERS]; // one for each of the partner's workers
    uint64_t index;                                 // next SRTP index that we send
    uint8_t master[MSG_TRUNK_KEY]; // that tx was made of: said again, it must not start over
    uint64_t taken_used_ns, asked_used_ns; // of the budgets for what it sends, and asks for again
};

// A protection group. Worker 0: wo, but for what `shared` holds.
struct group {
    struct msg_group config;
    uint64_t announced_ns; // of an address that we took over
    uint8_t announcements;
    bool owed;          // the control plane has not been told that we took over,
    uint64_t switch_ns; // which took so long
};

// BFD and liveness of one partner. Worker 0 only.
struct watch {
    struct bfd bfd;
    bool present, multihop;
    enum bfd_state told;
    bool owed;          // the control plane has not been told,
    uint64_t detect_ns; // nor how long the verdict took
    uint64_t fell_ns;   // when it ceased to be up, until it is known what that means; else 0
};

// What others leave for a worker. Stays in place when its sessions move to another core.
struct post {
    // Mailboxes, one per sender: single producer, single consumer.
    struct rte_ring *frames_from[ABI_MAX_WORKERS]; // packets that arrived at the wrong worker
    struct rte_ring *media_from[ABI_MAX_WORKERS];  // opened packets of streams served here too
    // Set by other workers, taken by the source worker: viewers there wait for a key frame.
    // One bit per track. Indexed by stream slot.
    _Atomic uint8_t *key_wanted;
};

// What all workers share: written by the main core before they start, or atomically.
struct dataplane {
    const struct abi_config *config;
    struct channel *channel;
    const char *dir; // where tables outlive the process; NULL: nowhere
    struct port port;
    struct protect_device *crypto; // NULL: workers call ipsec-mb directly
    uint32_t workers;
    _Atomic bool stop;
    _Atomic uint32_t mode; // enum abi_mode. main core: wo
    // Protection. Worker 0: wo.
    _Atomic uint32_t active_groups;              // bit g: group g is ours to serve
    _Atomic uint32_t term[MSG_GROUPS];           // of each group
    _Atomic uint32_t seized[MSG_GROUPS];         // the term in which failure detection made it ours
    _Atomic uint64_t unserved_since[MSG_GROUPS]; // when its partner was last heard then
    _Atomic uint64_t active_since[MSG_GROUPS];   // CLOCK_MONOTONIC
    _Atomic uint64_t sight_since[MSG_GROUPS]; // from when on its partner is in sight, by BFD that
                                              // is fast enough; 0: it is not
    _Atomic uint32_t taken;                   // bit g: the group's addresses are ours
    _Atomic bool
        given; // our own addresses are the partner's now: we say nothing of them on the link
    _Atomic uint64_t peer_mac[MSG_PEERS];             // next hop towards the partner; 0: unknown
    _Atomic(struct worker *) worker[ABI_MAX_WORKERS]; // main core: wo
    struct post post[ABI_MAX_WORKERS];
    // Where each track's timestamps are, for a worker that the publisher comes to next: the
    // stream's generation, and what the timestamp was at time 0. By stream slot and track. Source
    // worker: wo.
    _Atomic uint64_t *clocks;
};

// A packet to be sent again. Its index is taken already.
struct resend {
    struct session *session;
    struct track *track;
    struct sub *sub;
    const struct media *packet; // of the ring, which takes nothing before this is sent
    uint64_t index;
    bool rtx;
};

// A packet that a viewer asked for in this turn.
struct nack_asked {
    struct session *session;
    uint64_t index; // the track's
    uint8_t track;  // of the session
};

// A viewer's track on its way through the ring, see catchup.h.
struct catchup {
    uint64_t session;
    uint64_t next;              // track index
    uint64_t began_ns, from_ns; // what arrived at from_ns was due at began_ns
    uint8_t track;              // of the session
};

// The first check of a session, to be answered later, see ice.h.
struct held_check {
    uint64_t session;
    uint64_t due_ns;
    struct frame_template back;
    struct abi_addr mapped;
    uint8_t id[STUN_ID_LEN];
};

struct worker {
    // Guard what a worker holds alone and cannot leave half-changed to its successor: queues, lane,
    // mailboxes. See worker_enter.
    _Alignas(ABI_CACHE_LINE) _Atomic uint32_t inside;
    _Atomic bool revoked; // another struct worker holds them now. main core: wo
    struct dataplane *dp;
    uint32_t id;
    uint32_t lane;
    struct eal_pools pools;
    struct cache_store *store; // of the packet rings
    struct protect *protect;
    struct tables tables;
    struct neigh_table *neigh; // our own ARP and ND, when no kernel does it
    struct neigh_self self;
    struct stats_worker *stats;
    struct stun_key ask_secret; // that our binding requests' transaction ids are made of
    uint64_t now_ns;            // CLOCK_MONOTONIC at the start of this turn
    uint64_t now_tsc;
    bool staged;      // cycles per stage are counted
    enum stage stage; // that this worker is in
    uint64_t stage_tsc;

    struct rte_mbuf *tx[TX_BATCH];
    uint16_t tx_count;
    struct rte_mbuf *media[BURST * 2]; // opened in this turn, waiting for the fan-out
    uint16_t media_count;

    struct post *post; // of dp

    struct peer *peers;                // MSG_PEERS
    uint32_t active_groups;            // of this turn; bit 0 always
    uint32_t served_groups;            // of the turn before
    uint64_t seized_ns;                // when failure detection last made a group ours
    uint32_t repeat_groups;            // to whose viewers the last packets are to be sent again,
    uint64_t repeat_since[MSG_GROUPS]; // those that came from then on
    struct group groups[MSG_GROUPS];
    uint32_t told_term[MSG_GROUPS]; // of the last GROUP on this worker's lane
    bool told_active[MSG_GROUPS];
    struct watch watches[MSG_PEERS];
    uint64_t question_ns;
    uint32_t undrained; // turns in a row that left packets waiting

    uint32_t sweep;     // next session slot of the housekeeping
    uint32_t untold_at; // the next to be looked at for numbers that the partner does not
    uint32_t untold;    // know; so many slots are left
    uint64_t sweep_ns, sweep_round_ns;
    uint64_t stream_tick_ns;
    struct nack_asked asked[NACK_RANKS][NACK_WAITING]; // in this turn
    uint32_t asked_count[NACK_RANKS];
    struct nack_recent recent;
    struct resend resend[BURST * 2];
    uint16_t resend_count;
    struct nack_budget nack_budget;
    uint64_t nack_earned_ns;
    struct catchup catchup[512]; // viewers beyond that wait for a key frame
    uint32_t catchup_count;
    uint32_t catchup_at;         // whose turn it is
    struct held_check held[256]; // in the order of their time; what comes beyond is not held
    uint32_t held_at, held_count;
    uint64_t passed_ns; // until when the budget for what is passed to the partner is used up
    uint64_t stats_ns;
    uint32_t frames_waiting, media_waiting; // see stats.h
};

// Prepares a worker on the calling thread's behalf; its pools and port exist. Takes up the tables
// that an earlier one of this number left. The caller puts it into dp->worker. 0 or negative errno
// with a line in `why`.
int worker_init(struct worker *worker, struct dataplane *dp, uint32_t id, char *why,
                size_t why_size);
// Lets go of all but the mailboxes.
void worker_free(struct worker *worker);
// Frees all workers' mailboxes with what is in them; nobody runs any more.
void worker_free_posts(struct dataplane *dp);

// CLOCK_MONOTONIC, in nanoseconds.
uint64_t worker_clock(void);

// A turn with the clock's time and its cycles counted. True if there was work.
bool worker_timed_turn(struct worker *worker);

// One turn: receive, handle, send, and a share of the housekeeping. True if there was work.
// Exposed for tests and benchmarks, which set now_ns themselves.
bool worker_turn(struct worker *worker);

// Queues a finished frame; sends when a batch is full. Takes the mbuf.
void worker_send(struct worker *worker, struct rte_mbuf *m);
// Sends what is queued; what the port does not take within a bounded time is dropped by name.
void worker_flush(struct worker *worker);

// Around every use of the port's queues, the channel's lane and the mailboxes. False when they are
// another's by now: a worker that stalled and wakes up throws away what it was about to send. The
// exclusive store comes before the load, and whoever revokes stores before it looks at `inside`: so
// either the worker sees that it was revoked or the other sees that it is inside.
static inline bool worker_enter(struct worker *worker)
{
    atomic_store_explicit(&worker->inside, 1, memory_order_seq_cst);
    if (!atomic_load_explicit(&worker->revoked, memory_order_seq_cst))
        return true;
    atomic_store_explicit(&worker->inside, 0, memory_order_release);
    return false;
}
static inline void worker_leave(struct worker *worker)
{
    atomic_store_explicit(&worker->inside, 0, memory_order_release);
}

// Sends a message up the worker's lane. As channel_send, or -EPERM when the lane is another's.
int worker_tell(struct worker *worker, const void *message);

static inline void worker_drop(struct worker *worker, enum drop reason)
{
    stats_add(&worker->stats->drop[reason], 1);
}
static inline void worker_count(struct worker *worker, enum count what, uint64_t n)
{
    stats_add(&worker->stats->count[what], n);
}

// A viewer has new or moved numbers, which the partner is to know soon. All slots are looked at
// from where that look has come to, so that those who come all the time keep nobody waiting.
static inline void worker_untold(struct worker *worker)
{
    worker->untold = worker->tables.session_end;
}

// Enters a stage; the cycles since the last change were the stage's before, which is returned.
static inline enum stage worker_stage(struct worker *worker, enum stage stage)
{
    enum stage before = worker->stage;
    worker->stage = stage;
    if (worker->staged) {
        uint64_t now = rte_rdtsc();
        stats_add(&worker->stats->stage_cycles[before], now - worker->stage_tsc);
        worker->stage_tsc = now;
    }
    return before;
}

// Sends `length` bytes of payload to the session's current path. 0, -ENOTCONN (no path yet) or
// -ENOBUFS.
int worker_send_payload(struct worker *worker, const struct session *session, const void *payload,
                        size_t length);

// Writes the headers around the payload of `length` bytes that stands in `m` at `frame`'s length.
void worker_finish_frame(struct worker *worker, const struct frame_template *frame,
                         struct rte_mbuf *m, size_t length);
// The same when frame_begin has been called on the mbuf's data.
void worker_end_frame(struct worker *worker, const struct frame_template *frame, struct rte_mbuf *m,
                      size_t length);

#endif
