// A small open-addressing hash map from a 20-byte key to a slot number: remote addresses and ICE
// username fragments to sessions. Fixed capacity, one thread, no allocation after map_init.
// Keyed with a random seed, because the keys are chosen by whoever talks to us.
#ifndef HITLESS_MAP_H
#define HITLESS_MAP_H

#include "abi/abi.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAP_NONE UINT32_MAX

struct map_entry {
    struct abi_addr key;
    uint32_t value; // MAP_NONE: empty
};

struct map {
    struct map_entry *entries;
    uint32_t mask;
    uint32_t used;
    uint64_t seed;
};

static inline uint32_t map_hash(const struct map *map, const struct abi_addr *key)
{
    uint64_t a, b;
    uint32_t c;
    memcpy(&a, key, 8);
    memcpy(&b, (const uint8_t *)key + 8, 8);
    memcpy(&c, (const uint8_t *)key + 16, 4);
    uint64_t h = (a ^ map->seed) * 0x9e3779b97f4a7c15ull;
    h = (h ^ (h >> 29) ^ b) * 0xbf58476d1ce4e5b9ull;
    h = (h ^ (h >> 32) ^ c) * 0x94d049bb133111ebull;
    return (uint32_t)(h >> 32);
}

// Room for `capacity` keys. 0 or -ENOMEM.
static inline int map_init(struct map *map, uint32_t capacity, uint64_t seed)
{
    uint32_t size = 16;
    while (size < capacity * 2)
        size <<= 1;
    map->entries = malloc(size * sizeof(*map->entries));
    if (!map->entries)
        return -ENOMEM;
    for (uint32_t i = 0; i < size; i++)
        map->entries[i].value = MAP_NONE;
    map->mask = size - 1;
    map->used = 0;
    map->seed = seed;
    return 0;
}

static inline void map_free(struct map *map)
{
    free(map->entries);
    map->entries = NULL;
}

static inline uint32_t map_find_entry(const struct map *map, const struct abi_addr *key)
{
    uint32_t i = map_hash(map, key) & map->mask;
    while (map->entries[i].value != MAP_NONE &&
           memcmp(&map->entries[i].key, key, sizeof(*key)) != 0)
        i = (i + 1) & map->mask;
    return i;
}

// Fetches what map_get is going to read first.
static inline void map_prefetch(const struct map *map, const struct abi_addr *key)
{
    __builtin_prefetch(&map->entries[map_hash(map, key) & map->mask]);
}

// The key's value or MAP_NONE.
static inline uint32_t map_get(const struct map *map, const struct abi_addr *key)
{
    return map->entries[map_find_entry(map, key)].value;
}

// Puts or replaces. 0, or -ENOSPC when half of the table is used.
static inline int map_put(struct map *map, const struct abi_addr *key, uint32_t value)
{
    struct map_entry *entry = &map->entries[map_find_entry(map, key)];
    if (entry->value == MAP_NONE) {
        if (map->used > map->mask / 2)
            return -ENOSPC;
        map->used++;
    }
    *entry = (struct map_entry){.key = *key, .value = value};
    return 0;
}

// Removes the key if it maps to `value`; closes the hole by moving later entries back.
static inline void map_remove(struct map *map, const struct abi_addr *key, uint32_t value)
{
    uint32_t hole = map_find_entry(map, key);
    if (map->entries[hole].value == MAP_NONE || map->entries[hole].value != value)
        return;
    map->used--;
    for (uint32_t i = (hole + 1) & map->mask; map->entries[i].value != MAP_NONE;
         i = (i + 1) & map->mask) {
        uint32_t home = map_hash(map, &map->entries[i].key) & map->mask;
        if (((i - home) & map->mask) < ((i - hole) & map->mask))
            continue;
        map->entries[hole] = map->entries[i];
        hole = i;
    }
    map->entries[hole].value = MAP_NONE;
}

#endif
