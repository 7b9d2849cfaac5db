#include "gaps.h"
#include <string.h>

static void forget_first(struct gaps *gaps, uint32_t n)
{
    if (n && gaps->lost_at < gaps->list[n - 1].index)
        gaps->lost_at = gaps->list[n - 1].index;
    gaps->count -= n;
    memmove(gaps->list, gaps->list + n, gaps->count * sizeof(gaps->list[0]));
}

static void add_missing(struct gaps *gaps, uint64_t from, uint64_t to, uint64_t now_ns)
{
    uint64_t begin = to - from > GAPS_MAX ? to - GAPS_MAX : from;
    uint32_t n = (uint32_t)(to - begin);
    if (gaps->count + n > GAPS_MAX)
        forget_first(gaps, gaps->count + n - GAPS_MAX);
    if (begin > from)
        gaps->lost_at = begin - 1;
    if (n && now_ns - gaps->newest_ns > GAPS_GIVE_UP_NS)
        gaps->lost_at = to - 1; // as old as senders keep packets, but asked for all the same
    for (uint64_t i = begin; i < to; i++)
        gaps->list[gaps->count++] =
            (struct gap){.index = i, .since_ns = now_ns, .due_ns = now_ns + GAPS_FIRST_NS};
}

enum gaps_arrival gaps_received(struct gaps *gaps, uint64_t index, uint64_t now_ns)
{
    if (!gaps->started) {
        gaps->started = 1;
        gaps->highest = index;
        gaps->newest_ns = now_ns;
        return GAPS_NEW;
    }
    if (index > gaps->highest) {
        add_missing(gaps, gaps->highest + 1, index, now_ns);
        gaps->highest = index;
        gaps->newest_ns = now_ns;
        return GAPS_NEW;
    }
    for (uint32_t i = 0; i < gaps->count; i++) {
        if (gaps->list[i].index != index)
            continue;
        gaps->count--;
        memmove(&gaps->list[i], &gaps->list[i + 1], (gaps->count - i) * sizeof(gaps->list[0]));
        return GAPS_RECOVERED;
    }
    return GAPS_OLD;
}

void gaps_start(struct gaps *gaps, uint64_t highest, uint64_t at_ns)
{
    gaps->newest_ns = at_ns;
    gaps->started = 1;
    gaps->highest = highest;
    gaps->count = 0;
    gaps->lost_at = 0;
}

uint32_t gaps_due(struct gaps *gaps, uint64_t now_ns, uint64_t rtt_ns, uint16_t *seqs, uint32_t max,
                  uint64_t *lost)
{
    uint64_t retry = rtt_ns > GAPS_RETRY_NS ? rtt_ns : GAPS_RETRY_NS;
    uint32_t due = 0, kept = 0;
    for (uint32_t i = 0; i < gaps->count; i++) {
        struct gap *gap = &gaps->list[i];
        if (gap->due_ns <= now_ns &&
            (gap->tries == GAPS_TRIES || now_ns - gap->since_ns > GAPS_GIVE_UP_NS)) {
            (*lost)++;
            if (gaps->lost_at < gap->index)
                gaps->lost_at = gap->index;
            continue;
        }
        if (gap->due_ns <= now_ns && due < max) {
            seqs[due++] = (uint16_t)gap->index;
            gap->wait_ns += gap->wait_ns / 4;
            if (gap->wait_ns < retry)
                gap->wait_ns = retry;
            gap->due_ns = now_ns + gap->wait_ns;
            gap->tries++;
        }
        gaps->list[kept++] = *gap;
    }
    gaps->count = kept;
    return due;
}
