#include "hist.h"
#include <string.h>

// Buckets of values from HIST_EXACT on: the six bits below the highest one select within the
// octave.
static unsigned hist_index(uint64_t value)
{
    if (value < HIST_EXACT)
        return (unsigned)value;
    if (value >> HIST_BITS)
        return HIST_BUCKETS - 1;
    unsigned top = 63 - (unsigned)__builtin_clzll(value); // 7 ..
    unsigned within = (unsigned)(value >> (top - 6)) & (HIST_HALF - 1);
    return HIST_EXACT + (top - 7) * HIST_HALF + within;
}

static uint64_t hist_from(unsigned index)
{
    if (index < HIST_EXACT)
        return index;
    unsigned top = 7 + (index - HIST_EXACT) / HIST_HALF;
    uint64_t within = (index - HIST_EXACT) % HIST_HALF;
    return (UINT64_C(1) << top) + (within << (top - 6));
}

void hist_add_n(struct hist *hist, uint64_t value, uint64_t times)
{
    if (times == 0)
        return;
    if (hist->count == 0 || value < hist->min)
        hist->min = value;
    if (value > hist->max)
        hist->max = value;
    hist->count += times;
    hist->sum += value * times;
    hist->bucket[hist_index(value)] += times;
}

void hist_add(struct hist *hist, uint64_t value)
{
    hist_add_n(hist, value, 1);
}

void hist_merge(struct hist *to, const struct hist *from)
{
    if (from->count == 0)
        return;
    if (to->count == 0 || from->min < to->min)
        to->min = from->min;
    if (from->max > to->max)
        to->max = from->max;
    to->count += from->count;
    to->sum += from->sum;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        to->bucket[i] += from->bucket[i];
}

void hist_clear(struct hist *hist)
{
    memset(hist, 0, sizeof(*hist));
}

uint64_t hist_percentile(const struct hist *hist, double percent)
{
    if (hist->count == 0 || !(percent > 0))
        return hist->min;
    // The rank of the value: the smallest one with at least this share at or below it.
    double exact = percent / 100 * (double)hist->count;
    uint64_t rank = percent >= 100 ? hist->count : (uint64_t)exact;
    if (rank < hist->count && (double)rank < exact)
        rank++;
    if (rank == hist->count)
        return hist->max;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS - 1; i++) {
        seen += hist->bucket[i];
        if (seen < rank)
            continue;
        uint64_t middle = hist_from(i) + (hist_from(i + 1) - hist_from(i)) / 2;
        if (middle < hist->min)
            return hist->min;
        return middle < hist->max ? middle : hist->max;
    }
    return hist->max;
}

double hist_mean(const struct hist *hist)
{
    return hist->count == 0 ? 0 : (double)hist->sum / (double)hist->count;
}

bool hist_next(const struct hist *hist, unsigned *at, struct hist_bucket *bucket)
{
    for (; *at < HIST_BUCKETS; (*at)++) {
        if (hist->bucket[*at] == 0)
            continue;
        bucket->from = hist_from(*at);
        bucket->to = *at + 1 < HIST_BUCKETS ? hist_from(*at + 1) : UINT64_MAX;
        bucket->count = hist->bucket[*at];
        (*at)++;
        return true;
    }
    return false;
}
