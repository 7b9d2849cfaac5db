// Packets held back stand in a heap by the time at which they are due, in the order of arrival
// where that is the same. Each is one allocation; the bounds are on their number and their bytes.
#include "impair.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE 65536
#define QUEUE_BYTES (64u << 20)
#define REORDER_NS 15000000ull

struct held {
    struct impair_path *path;
    struct abi_addr from;
    uint64_t arrival_ns;
    size_t size;
    uint8_t data[];
};

struct slot {
    uint64_t due_ns, number;
    struct held *held;
};

struct impair {
    struct impair_config config;
    struct impair_counters counters;
    struct slot *heap;
    uint32_t count;
    uint64_t bytes, number;
    struct held *out; // what impair_take gave last
};

static bool is_fraction(double value)
{
    return value >= 0 && value <= 1;
}

int impair_create(struct impair **impair, const struct impair_config *config)
{
    const uint64_t longest = 60000000000ull;
    if (!is_fraction(config->loss) || !is_fraction(config->duplicate) ||
        !is_fraction(config->reorder) || !is_fraction(config->burst_begin) ||
        !is_fraction(config->burst_end) || !is_fraction(config->burst_loss) ||
        config->delay_ns > longest || config->jitter_ns > longest || config->reorder_ns > longest)
        return -EINVAL;
    struct impair *new = calloc(1, sizeof(*new));
    if (!new)
        return -ENOMEM;
    new->config = *config;
    if (new->config.queue == 0)
        new->config.queue = QUEUE;
    if (new->config.bytes == 0)
        new->config.bytes = QUEUE_BYTES;
    if (new->config.reorder_ns == 0)
        new->config.reorder_ns = REORDER_NS;
    if (new->config.burst_end == 0)
        new->config.burst_end = 0.25;
    if (new->config.burst_loss == 0)
        new->config.burst_loss = 1;
    new->heap = calloc(new->config.queue, sizeof(*new->heap));
    if (!new->heap) {
        free(new);
        return -ENOMEM;
    }
    *impair = new;
    return 0;
}

void impair_free(struct impair *impair)
{
    if (!impair)
        return;
    for (uint32_t i = 0; i < impair->count; i++)
        free(impair->heap[i].held);
    free(impair->out);
    free(impair->heap);
    free(impair);
}

bool impair_active(const struct impair_config *config)
{
    return config->loss > 0 || config->duplicate > 0 || config->reorder > 0 ||
           config->delay_ns > 0 || config->jitter_ns > 0 || config->burst_begin > 0;
}

void impair_path_init(struct impair_path *path, uint64_t seed)
{
    *path = (struct impair_path){.random = seed};
}

// SplitMix64.
static uint64_t random_of(struct impair_path *path)
{
    uint64_t value = path->random += 0x9e3779b97f4a7c15ull;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

static bool chance(struct impair_path *path, double fraction)
{
    return fraction > 0 && (double)(random_of(path) >> 11) * 0x1p-53 < fraction;
}

static bool before(const struct slot *a, const struct slot *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void heap_add(struct impair *impair, struct slot slot)
{
    uint32_t at = impair->count++;
    for (; at > 0 && before(&slot, &impair->heap[(at - 1) / 2]); at = (at - 1) / 2)
        impair->heap[at] = impair->heap[(at - 1) / 2];
    impair->heap[at] = slot;
}

static struct held *heap_remove(struct impair *impair)
{
    struct held *first = impair->heap[0].held;
    struct slot slot = impair->heap[--impair->count];
    uint32_t at = 0;
    impair->bytes -= first->size;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= impair->count)
            break;
        if (child + 1 < impair->count && before(&impair->heap[child + 1], &impair->heap[child]))
            child++;
        if (!before(&impair->heap[child], &slot))
            break;
        impair->heap[at] = impair->heap[child];
        at = child;
    }
    impair->heap[at] = slot;
    return first;
}

static bool hold(struct impair *impair, struct impair_path *path, const struct abi_addr *from,
                 const uint8_t *data, size_t size, uint64_t now_ns, uint64_t due_ns)
{
    struct held *held = NULL;
    if (impair->count < impair->config.queue && impair->bytes + size <= impair->config.bytes)
        held = malloc(sizeof(*held) + size);
    if (!held) {
        impair->counters.overflow++;
        return false;
    }
    *held = (struct held){.path = path, .from = *from, .arrival_ns = now_ns, .size = size};
    memcpy(held->data, data, size);
    heap_add(impair, (struct slot){due_ns, impair->number++, held});
    impair->bytes += size;
    path->held++;
    return true;
}

static bool is_lost(const struct impair_config *config, struct impair_path *path)
{
    if (config->burst_begin > 0)
        path->bad =
            path->bad ? !chance(path, config->burst_end) : chance(path, config->burst_begin);
    return chance(path, path->bad ? config->burst_loss : config->loss);
}

// When a packet comes out. Jitter alone keeps the order: nothing overtakes the one before.
static uint64_t due_at(struct impair *impair, struct impair_path *path, uint64_t now_ns)
{
    const struct impair_config *config = &impair->config;
    uint64_t due = now_ns + config->delay_ns;
    if (config->jitter_ns > 0)
        due += random_of(path) % (config->jitter_ns + 1);
    if (due < path->last_ns)
        due = path->last_ns;
    if (chance(path, config->reorder)) {
        impair->counters.reordered++;
        return due + config->reorder_ns;
    }
    path->last_ns = due;
    return due;
}

enum impair_fate impair_offer(struct impair *impair, struct impair_path *path,
                              const struct abi_addr *from, const uint8_t *data, size_t size,
                              uint64_t now_ns)
{
    impair->counters.seen++;
    if (size > IMPAIR_PACKET_MAX || is_lost(&impair->config, path)) {
        impair->counters.dropped++;
        return IMPAIR_DROP;
    }
    uint64_t due = due_at(impair, path, now_ns);
    bool twice = chance(path, impair->config.duplicate);
    enum impair_fate fate = IMPAIR_PASS;
    if (due > now_ns) {
        if (!hold(impair, path, from, data, size, now_ns, due))
            return IMPAIR_DROP;
        impair->counters.delayed++;
        fate = IMPAIR_HELD;
    }
    if (twice && hold(impair, path, from, data, size, now_ns, due))
        impair->counters.duplicated++;
    return fate;
}

bool impair_take(struct impair *impair, uint64_t now_ns, struct impair_packet *packet)
{
    free(impair->out);
    impair->out = NULL;
    if (impair->count == 0 || impair->heap[0].due_ns > now_ns)
        return false;
    struct held *out = heap_remove(impair);
    out->path->held--;
    *packet = (struct impair_packet){.path = out->path,
                                     .from = out->from,
                                     .arrival_ns = out->arrival_ns,
                                     .data = out->data,
                                     .size = out->size};
    impair->out = out;
    return true;
}

uint64_t impair_due(const struct impair *impair)
{
    return impair->count > 0 ? impair->heap[0].due_ns : UINT64_MAX;
}

void impair_path_drop(struct impair *impair, struct impair_path *path)
{
    uint32_t count = impair->count;
    if (path->held == 0)
        return;
    impair->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slot slot = impair->heap[i];
        if (slot.held->path != path) {
            heap_add(impair, slot); // at i or before
            continue;
        }
        impair->bytes -= slot.held->size;
        free(slot.held);
    }
    path->held = 0;
}

const struct impair_counters *impair_counters(const struct impair *impair)
{
    return &impair->counters;
}
