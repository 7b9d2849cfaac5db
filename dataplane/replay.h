// The replay window of one SRTP or SRTCP stream (RFC 3711 3.3.2): which of the last 1,024 indexes
// have been seen.
//
// Pure; whoever owns the stream calls it. Indexes are 64 bits wide and never wrap (48 bits for
// SRTP, 31 for SRTCP). The window slides over a ring of bits, so that moving it by one clears one
// bit (the idea of RFC 6479, without its spare block).
#ifndef HITLESS_REPLAY_H
#define HITLESS_REPLAY_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define REPLAY_WINDOW 1024u
#define REPLAY_WORDS (REPLAY_WINDOW / 64)

// All zero is an empty window. Position-independent.
struct replay {
    uint64_t next; // highest index seen, plus one; 0: nothing seen
    uint64_t seen[REPLAY_WORDS];
};

static inline bool replay_empty(const struct replay *replay)
{
    return replay->next == 0;
}

// Highest index committed; 0 when empty.
static inline uint64_t replay_top(const struct replay *replay)
{
    return replay->next ? replay->next - 1 : 0;
}

// Says whether `index` is new. Changes nothing. Returns 0, or -EALREADY when the index was seen or
// lies left of the window.
static inline int replay_check(const struct replay *replay, uint64_t index)
{
    if (index >= replay->next)
        return 0;
    if (replay->next - index > REPLAY_WINDOW)
        return -EALREADY;
    uint64_t word = replay->seen[index / 64 % REPLAY_WORDS];
    return word >> (index % 64) & 1 ? -EALREADY : 0;
}

// Marks `index` as seen and slides the window if it is the highest yet. Only for an index that
// replay_check let pass and whose packet has been authenticated; index < 2^64 - 1.
static inline void replay_commit(struct replay *replay, uint64_t index)
{
    if (index >= replay->next) {
        if (index - replay->next >= REPLAY_WINDOW)
            memset(replay->seen, 0, sizeof(replay->seen));
        else
            for (uint64_t i = replay->next; i <= index; i++)
                replay->seen[i / 64 % REPLAY_WORDS] &= ~(1ull << (i % 64));
        replay->next = index + 1;
    }
    replay->seen[index / 64 % REPLAY_WORDS] |= 1ull << (index % 64);
}

// The same with the least window that RFC 3711 allows, 64 indexes, for RTCP: a few packets a second
// need no more, and a viewer has several.
struct replay_short {
    uint64_t next; // highest index seen, plus one; 0: nothing seen
    uint64_t seen; // bit i: next - 1 - i was
};

static inline bool replay_short_empty(const struct replay_short *replay)
{
    return replay->next == 0;
}

static inline int replay_short_check(const struct replay_short *replay, uint64_t index)
{
    if (index >= replay->next)
        return 0;
    uint64_t back = replay->next - 1 - index;
    return back >= 64 || replay->seen >> back & 1 ? -EALREADY : 0;
}

static inline void replay_short_commit(struct replay_short *replay, uint64_t index)
{
    if (index >= replay->next) {
        uint64_t shift = index + 1 - replay->next;
        replay->seen = shift < 64 ? replay->seen << shift : 0;
        replay->next = index + 1;
    }
    replay->seen |= 1ull << (replay->next - 1 - index);
}

#endif
