// The packet ring of one media track on one worker: the last packets by extended sequence number,
// for retransmission. Constant-time insert and lookup; grows and shrinks by itself so that it holds
// the configured time. Pure: packets are opaque, the caller says how to release them.
// One thread; the packets may be shared with other threads if they are reference-counted.
#ifndef HITLESS_CACHE_H
#define HITLESS_CACHE_H

#include <stdint.h>

struct cache_slot {
    uint64_t index; // extended sequence number (48 bits)
    void *packet;   // NULL: empty
};

struct cache {
    struct cache_slot *slots;
    uint32_t mask;       // slots - 1
    uint32_t used;       // packets held
    uint32_t min, max;   // bounds of the number of slots, powers of two
    uint64_t highest;    // highest index ever put; meaningful once `started`
    uint64_t floor;      // no index below it is taken: another packet may have stood there
    uint64_t span_ns;    // time that the ring should hold
    uint64_t checked_ns; // when the size was last looked at
    uint64_t checked_highest;
    uint32_t started;
    void (*release)(void *packet);
};

// Makes an empty ring that holds `span_ns` of a track within min..max packets (rounded up to powers
// of two). 0 or -ENOMEM.
int cache_init(struct cache *cache, uint32_t min, uint32_t max, uint64_t span_ns,
               void (*release)(void *packet));
// Releases every packet and the ring.
void cache_free(struct cache *cache);
// Releases every packet and starts over, as for a track that has a new source. From then on no
// index below `floor` is taken, not even a late one: viewers may have had another packet under it.
void cache_clear(struct cache *cache, uint64_t floor);

// Puts a packet; the ring owns it from then on and releases what it pushes out.
// Returns 0, -EEXIST (the index is there already) or -ESTALE (older than the ring, or than the ring
// was when it was smaller); on an error the packet stays the caller's.
int cache_put(struct cache *cache, uint64_t index, void *packet);

// The packet with this index, or NULL. Borrowed: valid until the next cache_put.
void *cache_get(const struct cache *cache, uint64_t index);

// Adapts the size to the track's rate, at most twice a second; call it as time goes by. Growing is
// immediate and by at most `spare` slots, shrinking only by half when three quarters are unneeded.
// Keeps the packets that fit. Returns true if the size changed. An allocation that fails leaves the
// ring as it was.
int cache_resize(struct cache *cache, uint64_t now_ns, uint32_t spare);

static inline uint32_t cache_slots(const struct cache *cache)
{
    return cache->mask + 1;
}

// Halves the ring, below its least size if need be, and releases what no longer fits: others need
// the packets more. Returns true if the size changed.
int cache_halve(struct cache *cache);

#endif
