// Packets that one media stream misses; see nack.h.
#include "nack.h"
#include <stdlib.h>
#include <string.h>

void nack_free(struct nack *nack)
{
    free(nack->entry);
    *nack = (struct nack){0};
}

bool nack_add(struct nack *nack, uint64_t seq, unsigned count, uint64_t now_ns, unsigned *dropped)
{
    *dropped = nack->count;
    if (nack->entry == NULL)
        nack->entry = calloc(NACK_MAX, sizeof(*nack->entry));
    if (nack->entry == NULL || count > NACK_MAX - nack->count) {
        nack->count = 0;
        return false;
    }
    for (unsigned i = 0; i < count; i++)
        nack->entry[nack->count++] =
            (struct nack_entry){.seq = seq + i, .noticed_ns = now_ns, .next_ns = now_ns};
    *dropped = 0;
    return true;
}

bool nack_remove(struct nack *nack, uint64_t seq, struct nack_entry *entry)
{
    unsigned low = 0, high = nack->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (nack->entry[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == nack->count || nack->entry[low].seq != seq)
        return false;
    *entry = nack->entry[low];
    nack->count--;
    memmove(nack->entry + low, nack->entry + low + 1, (nack->count - low) * sizeof(*nack->entry));
    return true;
}

// After try number `tries` (from 1).
static uint64_t wait_ns(uint64_t rtt_ns, unsigned tries)
{
    uint64_t base = rtt_ns ? rtt_ns : NACK_DEFAULT_RTT_NS;
    if (base > NACK_MAX_RTT_NS)
        base = NACK_MAX_RTT_NS;
    for (unsigned i = 1; i < tries; i++)
        base += base / 4;
    return base > NACK_MIN_NS ? base : NACK_MIN_NS;
}

unsigned nack_due(struct nack *nack, bool ask, uint64_t rtt_ns, uint64_t now_ns, uint16_t *seqs,
                  unsigned max, unsigned *given_up)
{
    unsigned kept = 0, asked = 0;
    for (unsigned i = 0; i < nack->count; i++) {
        struct nack_entry *entry = &nack->entry[i];
        if (entry->next_ns <= now_ns) {
            if (entry->tries >= NACK_TRIES || (!ask && entry->tries > 0)) {
                (*given_up)++;
                continue;
            }
            if (!ask) {
                entry->next_ns = entry->noticed_ns + NACK_PATIENCE_NS;
                entry->tries = 1;
            } else if (asked < max) {
                seqs[asked++] = (uint16_t)entry->seq;
                entry->tries++;
                entry->next_ns = now_ns + wait_ns(rtt_ns, entry->tries);
            }
        }
        nack->entry[kept++] = *entry;
    }
    nack->count = kept;
    return asked;
}

uint64_t nack_next(const struct nack *nack)
{
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < nack->count; i++)
        if (nack->entry[i].next_ns < next)
            next = nack->entry[i].next_ns;
    return next;
}
