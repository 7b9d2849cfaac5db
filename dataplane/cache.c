#include "cache.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RESIZE_INTERVAL_NS 500000000ull
#define SLOTS_LEAST 16u

static uint32_t round_up(uint32_t n)
{
    uint32_t size = SLOTS_LEAST;
    while (size < n && size < 1u << 30)
        size <<= 1;
    return size;
}

int cache_init(struct cache *cache, struct cache_store *store, uint32_t min, uint32_t max,
               uint64_t span_ns)
{
    *cache = (struct cache){.store = store,
                            .pen = {.block = CACHE_NO_BLOCK},
                            .min = round_up(min),
                            .max = round_up(max),
                            .span_ns = span_ns};
    if (cache->max < cache->min)
        cache->max = cache->min;
    cache->slots = calloc(cache->min, sizeof(*cache->slots));
    if (!cache->slots)
        return -ENOMEM;
    cache->mask = cache->min - 1;
    store->rings++;
    return 0;
}

static void drop_slot(struct cache *cache, struct cache_slot *slot)
{
    if (!slot->packet)
        return;
    cache_store_give(cache->store, &cache->pen, slot->packet);
    slot->packet = NULL;
    cache->used--;
}

void cache_clear(struct cache *cache, uint64_t floor)
{
    for (uint32_t i = 0; cache->slots && i <= cache->mask; i++)
        drop_slot(cache, &cache->slots[i]);
    cache_store_lift(cache->store, &cache->pen);
    cache->started = 0;
    cache->floor = floor;
}

void cache_free(struct cache *cache)
{
    if (!cache->slots)
        return;
    cache_clear(cache, 0);
    cache->store->rings--;
    free(cache->slots);
    cache->slots = NULL;
}

// Moves on to a new highest index. The slots of those between, which were never received, are
// emptied CACHE_SWEEP at a time: a jump costs its sender's neighbours no more than a packet does.
static void advance(struct cache *cache, uint64_t index)
{
    cache->highest = index;
    if (index - cache->swept > cache->mask)
        cache->swept = index - cache->mask - 1;
    for (int i = 0; i < CACHE_SWEEP && cache->swept < index; i++) {
        struct cache_slot *slot = &cache->slots[++cache->swept & cache->mask];
        if (slot->index != cache->swept)
            drop_slot(cache, slot);
    }
}

// Lets go of the oldest packets until no more than `blocks` blocks are held. They may not come
// again.
static void shrink_to(struct cache *cache, uint32_t blocks)
{
    uint64_t at = cache->highest > cache->mask ? cache->highest - cache->mask : 0;
    if (at < cache->floor)
        at = cache->floor;
    for (; cache->used && cache->pen.held > blocks && at <= cache->highest; at++) {
        drop_slot(cache, &cache->slots[at & cache->mask]); // its own, or one from before a jump
        cache->floor = at + 1;
    }
}

void cache_relieve(struct cache *cache)
{
    shrink_to(cache, cache->pen.held / 2);
}

// Where memory is short the ring's oldest packets make room.
static uint8_t *make_room(struct cache *cache, size_t size)
{
    if (cache_store_full(&cache->pen, size))
        shrink_to(cache, cache->pen.held - cache_store_due(cache->store, &cache->pen));
    return cache_store_take(cache->store, &cache->pen, size);
}

int cache_put(struct cache *cache, uint64_t index, const void *packet, size_t size)
{
    struct cache_slot *slot = &cache->slots[index & cache->mask];
    if (index < cache->floor)
        return -ESTALE;
    if (cache->started && index <= cache->highest) {
        if (cache->highest - index > cache->mask)
            return -ESTALE;
        if (slot->packet && slot->index == index)
            return -EEXIST;
    }
    uint8_t *copy = make_room(cache, size);
    if (!copy)
        return -ENOBUFS;
    if (index < cache->floor) { // it has just been raised
        cache_store_give(cache->store, &cache->pen, copy);
        return -ESTALE;
    }
    memcpy(copy, packet, size);
    if (!cache->started) {
        cache->started = 1;
        cache->highest = cache->swept = cache->checked_highest = index;
    } else if (index > cache->highest) {
        advance(cache, index);
    }
    drop_slot(cache, slot);
    *slot = (struct cache_slot){.index = index, .packet = copy};
    cache->used++;
    cache->received++;
    return 0;
}

static int resize_to(struct cache *cache, uint32_t size)
{
    struct cache_slot *slots = calloc(size, sizeof(*slots));
    if (!slots)
        return 0;
    uint32_t kept = size - 1 < cache->mask ? size - 1 : cache->mask;
    for (uint32_t i = 0; i <= cache->mask; i++) {
        struct cache_slot *old = &cache->slots[i];
        if (old->packet && cache->highest - old->index <= kept)
            slots[old->index & (size - 1)] = *old;
        else
            drop_slot(cache, old);
    }
    free(cache->slots);
    // What the smaller of the two rings had no place for is gone, and may not come again.
    if (cache->started && cache->highest > kept && cache->highest - kept > cache->floor)
        cache->floor = cache->highest - kept;
    cache->slots = slots;
    cache->mask = size - 1;
    cache->swept = cache->highest;
    return 1;
}

int cache_resize(struct cache *cache, uint64_t now_ns)
{
    uint64_t elapsed = now_ns - cache->checked_ns;
    if (!cache->started || elapsed < RESIZE_INTERVAL_NS)
        return 0;
    uint64_t packets = cache->highest - cache->checked_highest;
    if (packets > UINT64_C(2) * cache->received)
        packets = UINT64_C(2) * cache->received;
    bool first = cache->checked_ns == 0;
    cache->checked_ns = now_ns;
    cache->checked_highest = cache->highest;
    cache->received = 0;
    if (first)
        return 0;
    // A quarter more than the rate of the last interval asks for, against bursts.
    uint64_t need = packets * cache->span_ns / elapsed;
    need += need / 4;
    uint32_t want = need > cache->max ? cache->max : round_up((uint32_t)need);
    if (want < cache->min)
        want = cache->min;
    uint32_t size = cache->mask + 1;
    if (want > size)
        return resize_to(cache, want);
    if (want <= size / 4)
        return resize_to(cache, size / 2);
    return 0;
}
