// Which of the packets that a viewer asks for again it gets: budgets, and the adaptive policy.
// Pure; values in, decisions out. RFC 4585; payload formats RFC 7741, 9628, 6184.
//
// A budget keeps a flood of requests from costing anybody else: what a viewer is sent again is at
// most a share of what it is sent at all, and what a worker sends again a share of its rate. The
// requests of a turn are answered in the order of their rank, key frames and sound first; and the
// last part of every budget is for those alone, for what is asked for later.
//
// A request that comes again within a round trip was sent before the answer was there: it is
// answered once.
//
// The adaptive policy answers only what is essential until the viewer's loss passes a threshold.
// Essential is whatever others are decoded from: audio, key frames, and all packets but those that
// their own payload header calls discardable (upper temporal layers, non-reference pictures).
#ifndef HITLESS_NACK_POLICY_H
#define HITLESS_NACK_POLICY_H

#include "abi/messages.h"
#include <stdbool.h>
#include <stddef.h>

// With a fifth lost, a quarter is asked for (repeats are lost as well); half leaves room for bursts
// and is the most that a liar can add to what it costs anyway.
#define NACK_VIEWER_SHARE 0.5
#define NACK_VIEWER_BURST 512.0 // a second of a large stream, lost at one go
// A fifth of what one core sends at best: as much as is asked for when it sends at four fifths of
// that and every viewer loses a fifth.
#define NACK_WORKER_RATE 1000000.0 // per second
#define NACK_WORKER_BURST 100000.0
#define NACK_KEY_RESERVE 0.125 // of each burst, for the first rank alone
#define NACK_WAITING 4096      // requests of a rank in one turn; more are answered in two steps

// Numbers that a session may ask for, before any is looked up: the ring and what was answered
// lately cost a cache miss each, and a NACK of one datagram names 6,000. No viewer with a reason to
// ask meets this: of 20 Mbit/s in packets of 1,200 bytes (2,083/s) a fifth lost is 417/s, and asked
// for ten times each (libwebrtc's limit, one a round trip, as if nothing ever came) 4,167/s, a
// quarter of the rate. A whole second of it lost at one go and asked for ten times is 20,830,
// within the burst. What a session can cost is 16,384 look-ups a second, less than a thousandth of
// a core.
#define NACK_ASK_NS UINT64_C(61035) // 16,384/s
#define NACK_ASK_BURST 32768

#define NACK_REPEAT_MIN_MS 10 // a request that comes sooner after the last is the same one
#define NACK_REPEAT_MAX_MS 200
#define NACK_RECENT 16          // answers remembered per session of a worker; all share the memory
#define NACK_RECENT_LEAST 4096u // on a small worker: what some viewers are sent at one go

// Loss in parts per thousand, smoothed over reports: everything from OPEN on, until below SHUT.
#define NACK_OPEN_PERMILLE 20
#define NACK_SHUT_PERMILLE 10

struct nack_budget {
    double spent; // packets; 0: the whole burst may be used
};

// Earns `packets` back.
static inline void nack_budget_earn(struct nack_budget *budget, double packets)
{
    budget->spent = budget->spent > packets ? budget->spent - packets : 0;
}

// Whether there is something left for one more packet.
static inline bool nack_budget_has(const struct nack_budget *budget, double burst, bool first)
{
    return budget->spent + 1 <= (first ? burst : burst * (1 - NACK_KEY_RESERVE));
}

static inline void nack_budget_spend(struct nack_budget *budget)
{
    budget->spent += 1;
}

// The order in which what is asked for is sent.
enum nack_rank {
    NACK_FIRST, // key frames, sound
    NACK_BASE,  // what other pictures are decoded from
    NACK_REST,
    NACK_RANKS
};

static inline enum nack_rank nack_rank(enum media_kind kind, bool key, bool essential)
{
    return key || kind == KIND_AUDIO ? NACK_FIRST : essential ? NACK_BASE : NACK_REST;
}

// Which packets were sent again lately, to all viewers of a worker: buckets of a cache line, of
// which the oldest entry makes room. One that is pushed out early may be answered twice.
struct nack_recent {
    struct nack_bucket *buckets;
    uint64_t mask; // buckets - 1
};

struct nack_bucket {
    struct {
        uint32_t tag, at_ms;
    } entry[8];
};

// Room for NACK_RECENT packets per session. 0 or -ENOMEM.
int nack_recent_init(struct nack_recent *recent, uint32_t sessions);
void nack_recent_free(struct nack_recent *recent);
// Of a session's track and the index of a packet.
uint64_t nack_recent_key(uint64_t session, uint8_t track, uint64_t index);
static inline void nack_recent_fetch(const struct nack_recent *recent, uint64_t key)
{
    __builtin_prefetch(&recent->buckets[key & recent->mask]);
}
// Whether it was noted within the last round trip of `rtt_ms` (0: unknown). Milliseconds of any
// clock that goes on.
bool nack_recent_has(const struct nack_recent *recent, uint64_t key, uint64_t now_ms,
                     uint32_t rtt_ms);
void nack_recent_note(struct nack_recent *recent, uint64_t key, uint64_t now_ms);

// The adaptive policy's state for one viewer's track. All zero: nothing lost so far.
struct nack_gate {
    uint32_t loss_permille; // smoothed
    bool open;              // everything is answered
};

// Takes one report of the viewer: parts per thousand lost since the one before.
void nack_gate_report(struct nack_gate *gate, uint32_t loss_permille);

// Whether the adaptive policy sends a packet that is asked for.
static inline bool nack_gate_passes(const struct nack_gate *gate, bool essential)
{
    return essential || gate->open;
}

// Whether others are decoded from this packet, as far as its payload's own header says. What cannot
// be read is essential.
bool nack_essential(enum codec codec, const uint8_t *payload, size_t length);

#endif
