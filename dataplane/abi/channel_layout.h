// The layout of the channel file. For channel.c, channel_file.c and the tests that damage a file on
// purpose; every other file uses channel.h. All of it is offsets and values: the two processes map
// it anywhere.
//
//   channel_file | ring pairs, 2 per lane | stats_worker[] | stats_port | stats_session[] |
//   stats_stream[]
#ifndef HITLESS_CHANNEL_LAYOUT_H
#define HITLESS_CHANNEL_LAYOUT_H

#include "channel.h"
#include <stdatomic.h>

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "shared by processes");
_Static_assert((CHANNEL_SLOTS & (CHANNEL_SLOTS - 1)) == 0, "indices wrap by a mask");

union channel_slot {
    struct msg_head head;
    uint8_t bytes[MSG_MAX];
};

// Indices run freely and wrap at 2^32; head - tail is the number of messages in the ring, and any
// other distance than 0..CHANNEL_SLOTS is damage. Each side keeps its last look at the other's
// index beside its own, so that a ring that is neither full nor empty costs no line of the other.
struct channel_ring {
    _Alignas(ABI_CACHE_LINE) _Atomic uint32_t head; // producer: wo
    uint32_t seen_tail;                             // producer only
    _Alignas(ABI_CACHE_LINE) _Atomic uint32_t tail; // consumer: wo
    uint32_t seen_head;                             // consumer only
    _Alignas(ABI_CACHE_LINE) union channel_slot slot[CHANNEL_SLOTS];
};

struct channel_side {
    struct abi_side side;
    _Atomic uint64_t start_ticks;                    // field 22 of /proc/PID/stat
    _Alignas(ABI_CACHE_LINE) _Atomic uint32_t armed; // set by this side, cleared by either
};

struct channel_file {
    uint32_t magic;   // ABI_MAGIC, set last
    uint32_t version; // ABI_VERSION
    uint64_t size;    // of the whole file
    _Alignas(ABI_CACHE_LINE) struct abi_config config;
    struct channel_side side[2]; // by enum channel_end
    // A multiple of the cache line long, so that what follows is aligned.
    _Alignas(ABI_CACHE_LINE) struct channel_ring ring[]; // [lane * 2 + producer's end]
};

static inline struct channel_side *mine(const struct channel *channel)
{
    return &channel->file->side[channel->end];
}

static inline struct channel_side *peers(const struct channel *channel)
{
    return &channel->file->side[!channel->end];
}

static inline struct channel_ring *ring_out(const struct channel *channel, uint32_t lane)
{
    return &channel->file->ring[lane * 2 + (uint32_t)channel->end];
}

static inline struct channel_ring *ring_in(const struct channel *channel, uint32_t lane)
{
    return &channel->file->ring[lane * 2 + (uint32_t)!channel->end];
}

#define CHANNEL_LOAD(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define CHANNEL_STORE(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)

// The start time of a living process in clock ticks since boot; 0 when there is none or it is a
// zombie.
uint64_t channel_process_start(uint32_t pid);

#endif
