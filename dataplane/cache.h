// The packet ring of one media track on one worker: the last packets by extended sequence number,
// for retransmission. Constant-time insert and lookup; grows and shrinks by itself so that it holds
// the configured time. Pure: packets are bytes, copied into the worker's store.
// One thread.
#ifndef HITLESS_CACHE_H
#define HITLESS_CACHE_H

#include "cache_store.h"

// Most slots that one packet looks at, however many numbers were left out before it. What has
// fallen out of the ring by such a jump is let go of with the packets that follow.
#define CACHE_SWEEP 64

struct cache_slot {
    uint64_t index;        // extended sequence number (48 bits)
    const uint8_t *packet; // in the store; NULL: empty
};

struct cache {
    struct cache_slot *slots;
    struct cache_store *store;
    struct cache_pen pen;
    uint32_t mask;       // slots - 1
    uint32_t used;       // packets held
    uint32_t min, max;   // bounds of the number of slots, powers of two
    uint64_t highest;    // highest index ever put; meaningful once `started`
    uint64_t swept;      // no slot of an index up to it holds an older packet
    uint64_t floor;      // no index below it is taken: another packet may have stood there
    uint64_t span_ns;    // time that the ring should hold
    uint64_t checked_ns; // when the size was last looked at
    uint64_t checked_highest;
    uint32_t received; // packets since then
    uint32_t started;
};

// Makes an empty ring that holds `span_ns` of a track within min..max packets (rounded up to powers
// of two), their bytes in `store`. 0 or -ENOMEM.
int cache_init(struct cache *cache, struct cache_store *store, uint32_t min, uint32_t max,
               uint64_t span_ns);
// Lets go of every packet and of the ring.
void cache_free(struct cache *cache);
// Lets go of every packet and starts over, as for a track that has a new source. From then on no
// index below `floor` is taken, not even a late one: viewers may have had another packet under it.
void cache_clear(struct cache *cache, uint64_t floor);

// Keeps a copy of a packet of `size` bytes, 1..CACHE_BLOCK. Where the store is short of memory the
// ring's oldest packets make room.
// Returns 0, -EEXIST (the index is there already), -ESTALE (older than the ring, or than what it
// had to let go of) or -ENOBUFS (no memory at all).
int cache_put(struct cache *cache, uint64_t index, const void *packet, size_t size);

// The packet with this index, aligned to 8, or NULL. Valid until the next call with this cache that
// is not const.
static inline const void *cache_get(const struct cache *cache, uint64_t index)
{
    const struct cache_slot *slot = &cache->slots[index & cache->mask];
    return slot->packet && slot->index == index ? slot->packet : NULL;
}

// Adapts the size to the track's rate, at most twice a second, for twice the packets that came at
// most, however many numbers lie between them; call it as time goes by. Growing is
// immediate, shrinking only by half when three quarters are unneeded. Keeps the packets that fit.
// Returns true if the size changed. An allocation that fails leaves the ring as it was.
int cache_resize(struct cache *cache, uint64_t now_ns);

static inline uint32_t cache_slots(const struct cache *cache)
{
    return cache->mask + 1;
}

// Gives the older half of its memory back: others need it more.
void cache_relieve(struct cache *cache);

#endif
