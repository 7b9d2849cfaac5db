// The store behind PROTECT_AUDIT: an open-addressed table under one lock. Debug builds and tests
// only.
#include "protect_audit.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct entry {
    uint64_t place, bytes; // hashes of (key, SSRC, index) and of what it protected; place 0: free
};

static struct {
    pthread_mutex_t lock;
    struct entry *entries;
    size_t size, used;
} store = {.lock = PTHREAD_MUTEX_INITIALIZER};

// FNV-1a with a final mix.
static uint64_t hash(uint64_t seed, const uint8_t *bytes, size_t size)
{
    uint64_t h = seed ^ 0xcbf29ce484222325ull;
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * 0x100000001b3ull;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdull;
    return h ^ h >> 33;
}

static struct entry *find(struct entry *entries, size_t size, uint64_t place)
{
    size_t i = place & (size - 1);
    while (entries[i].place && entries[i].place != place)
        i = (i + 1) & (size - 1);
    return &entries[i];
}

static int grow(void)
{
    size_t size = store.size ? 2 * store.size : 4096;
    struct entry *entries = calloc(size, sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    for (size_t i = 0; i < store.size; i++)
        if (store.entries[i].place)
            *find(entries, size, store.entries[i].place) = store.entries[i];
    free(store.entries);
    store.entries = entries;
    store.size = size;
    return 0;
}

static int note(uint64_t place, uint64_t bytes)
{
    if (2 * store.used >= store.size && grow())
        return -ENOMEM;
    struct entry *entry = find(store.entries, store.size, place);
    if (entry->place)
        return entry->bytes == bytes ? 0 : -EEXIST;
    *entry = (struct entry){place, bytes};
    store.used++;
    return 0;
}

int protect_audit_note(const uint8_t *cipher, uint32_t ssrc, uint64_t index, const uint8_t *bytes,
                       size_t size)
{
    uint64_t where[2] = {ssrc, index};
    uint64_t place = hash(hash(0, cipher, 32), (const uint8_t *)where, sizeof(where));
    pthread_mutex_lock(&store.lock);
    int rc = note(place ? place : 1, hash(1, bytes, size));
    pthread_mutex_unlock(&store.lock);
    return rc;
}

void protect_audit_reset(void)
{
    pthread_mutex_lock(&store.lock);
    free(store.entries);
    store.entries = NULL;
    store.size = store.used = 0;
    pthread_mutex_unlock(&store.lock);
}

static void demand(int rc, uint32_t ssrc, uint64_t index)
{
    if (!rc)
        return;
    fprintf(stderr, "protect: SSRC %08x index %llu: %s\n", ssrc, (unsigned long long)index,
            rc == -EEXIST ? "keystream used twice" : "audit store is out of memory");
    abort();
}

void protect_audit_rtp(const struct seal_job *job)
{
    // Whatever the profile and backend, the union begins with the session key.
    size_t size = job->header_len + job->payload_len + protect_tag_len(job->tx->key.profile);
    demand(protect_audit_note(job->tx->key.gcm, job->ssrc, job->index, job->dst, size), job->ssrc,
           job->index);
}

void protect_audit_rtcp(const struct protect_rtcp_tx *tx, uint32_t ssrc, uint32_t index,
                        const uint8_t *packet, size_t size)
{
    demand(protect_audit_note(tx->key.cipher, ssrc, index, packet, size), ssrc, index);
}
