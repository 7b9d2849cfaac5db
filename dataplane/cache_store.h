// The bytes of all packet rings of one worker: blocks of memory, each filled by one ring from its
// beginning to its end and free again when the ring has let go of every packet in it. A packet
// takes its bytes, rounded up to 8; what a ring wastes is the rest of the block that it is filling
// and the part of its oldest that it has let go of.
//
// Blocks are given out by need up to three quarters of the store. From then on a ring that holds
// its share goes on in place of its own oldest packets, and one that holds more gives back, while
// smaller ones still get what is left. So no stream's history costs another one its own, and it is
// not for rings that want more that new sessions are refused, which happens at four fifths.
//
// One thread; constant time, no allocation after the start.
#ifndef HITLESS_CACHE_STORE_H
#define HITLESS_CACHE_STORE_H

#include "abi/pools.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CACHE_NO_BLOCK UINT32_MAX

struct cache_store {
    uint8_t *memory;
    uint32_t blocks, free;
    uint32_t rings; // that share it
    uint32_t *list; // of the free ones
    uint16_t *live; // packets in each block, and one more while a ring fills it
};

// Where a ring writes. Begins as {.block = CACHE_NO_BLOCK}.
struct cache_pen {
    uint32_t block; // that is being filled
    uint32_t fill;  // bytes of it
    uint32_t held;  // blocks with packets of this ring
};

// A store of `blocks` blocks, or NULL: no memory. With `touch` the blocks are there at once, else
// as they are used.
struct cache_store *cache_store_new(uint32_t blocks, bool touch);
void cache_store_free(struct cache_store *store); // NULL: nothing

// Room for a packet of `size` bytes (at most CACHE_BLOCK), aligned to 8; NULL if that takes a block
// more and none is free.
uint8_t *cache_store_take(struct cache_store *store, struct cache_pen *pen, size_t size);
// Gives a packet of that ring back.
void cache_store_give(struct cache_store *store, struct cache_pen *pen, const uint8_t *packet);
// Begins the next packet in another block; frees the present one if nothing is in it.
void cache_store_lift(struct cache_store *store, struct cache_pen *pen);

// Whether the next packet takes a block more.
static inline bool cache_store_full(const struct cache_pen *pen, size_t size)
{
    return pen->block == CACHE_NO_BLOCK || pen->fill + size > CACHE_BLOCK;
}

// How many of its own blocks the ring should let go of before it takes another.
uint32_t cache_store_due(const struct cache_store *store, const struct cache_pen *pen);

#endif
