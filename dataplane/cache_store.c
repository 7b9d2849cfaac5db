#include "cache_store.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct cache_store *cache_store_new(uint32_t blocks, bool touch)
{
    struct cache_store *store = calloc(1, sizeof(*store));
    size_t size = (size_t)blocks * CACHE_BLOCK;
    if (!store)
        return NULL;
    store->blocks = store->free = blocks;
    store->list = calloc(blocks, sizeof(*store->list));
    store->live = calloc(blocks, sizeof(*store->live));
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    store->memory = memory == MAP_FAILED ? NULL : memory;
    bool made = store->memory && store->list && store->live;
    // Fewer page walks for packets that nobody has looked at for a second. A kernel that has no
    // huge pages to give changes nothing.
    if (made)
        madvise(memory, size, MADV_HUGEPAGE);
    if (!made || (touch && madvise(memory, size, MADV_POPULATE_WRITE) && errno == ENOMEM)) {
        cache_store_free(store);
        return NULL;
    }
    // The last freed is the first taken: what is in use stays together.
    for (uint32_t i = 0; i < blocks; i++)
        store->list[i] = blocks - 1 - i;
    return store;
}

void cache_store_free(struct cache_store *store)
{
    if (!store)
        return;
    if (store->memory)
        munmap(store->memory, (size_t)store->blocks * CACHE_BLOCK);
    free(store->list);
    free(store->live);
    free(store);
}

static void let_go(struct cache_store *store, struct cache_pen *pen, uint32_t block)
{
    if (--store->live[block])
        return;
    store->list[store->free++] = block;
    pen->held--;
}

void cache_store_lift(struct cache_store *store, struct cache_pen *pen)
{
    if (pen->block != CACHE_NO_BLOCK)
        let_go(store, pen, pen->block);
    pen->block = CACHE_NO_BLOCK;
}

uint8_t *cache_store_take(struct cache_store *store, struct cache_pen *pen, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    if (cache_store_full(pen, size)) {
        cache_store_lift(store, pen);
        if (store->free == 0)
            return NULL;
        pen->block = store->list[--store->free];
        pen->fill = 0;
        pen->held++;
        store->live[pen->block] = 1;
    }
    uint8_t *at = store->memory + (size_t)pen->block * CACHE_BLOCK + pen->fill;
    pen->fill += (uint32_t)size;
    store->live[pen->block]++;
    return at;
}

void cache_store_give(struct cache_store *store, struct cache_pen *pen, const uint8_t *packet)
{
    let_go(store, pen, (uint32_t)((size_t)(packet - store->memory) / CACHE_BLOCK));
}

uint32_t cache_store_due(const struct cache_store *store, const struct cache_pen *pen)
{
    uint32_t limit = store->blocks / 4 * 3, share = limit / (store->rings ? store->rings : 1);
    if (pen->held == 0)
        return 0;
    if (store->blocks - store->free < limit || pen->held < share)
        return store->free == 0;
    // Two for one, but never all that it has.
    return pen->held > share && pen->held > 2 ? 2 : 1;
}
