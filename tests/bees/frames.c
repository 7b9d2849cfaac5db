// Which video frames came whole; see frames.h.
#include "frames.h"
#include <string.h>

static bool get(const uint64_t *bits, uint64_t seq)
{
    return bits[seq / 64 % (FRAMES_WINDOW / 64)] >> (seq % 64) & 1;
}

static void set(uint64_t *bits, uint64_t seq, bool on)
{
    uint64_t mask = 1ull << (seq % 64), *word = &bits[seq / 64 % (FRAMES_WINDOW / 64)];
    *word = on ? *word | mask : *word & ~mask;
}

// Opens the window for `seq`. What falls out of it is forgotten.
static void slide(struct frames *f, uint64_t seq)
{
    if (f->highest == 0 || seq - f->highest >= FRAMES_WINDOW) {
        memset(f->here, 0, sizeof(f->here));
    } else {
        for (uint64_t s = f->highest + 1; s <= seq; s++)
            set(f->here, s, false);
    }
    f->highest = seq;
    if (f->next && seq - f->next >= FRAMES_WINDOW && f->next <= seq)
        f->next = 0;
    if (f->key_start && seq - f->key_start >= FRAMES_WINDOW)
        f->key_start = 0;
}

static void freeze_if_late(struct frames *f, uint64_t now_ns)
{
    uint64_t delta = now_ns - f->last_ns, bound = f->interval_ns + FRAMES_FREEZE_NS;
    if (bound < 3 * f->interval_ns)
        bound = 3 * f->interval_ns;
    bool stalled = f->stalled_ns && now_ns - f->stalled_ns > FRAMES_PATIENCE_NS;
    if (f->interval_ns && (delta > bound || stalled)) {
        f->freezes++;
        f->frozen_ns += delta > f->interval_ns ? delta - f->interval_ns : 0;
    }
}

static unsigned complete(struct frames *f, bool key, uint64_t now_ns)
{
    if (f->last_ns) {
        uint64_t delta = now_ns - f->last_ns;
        freeze_if_late(f, now_ns);
        f->interval_ns = f->interval_ns ? (f->interval_ns * 15 + delta) / 16 : delta;
    }
    f->last_ns = now_ns;
    f->frames++;
    f->keyframes += key;
    return FRAMES_DONE | (key ? FRAMES_KEY_DONE : 0);
}

// Walks over what is there, from `next` on.
static unsigned walk(struct frames *f, uint64_t now_ns)
{
    unsigned events = 0;
    while (f->next && f->next <= f->highest && get(f->here, f->next)) {
        if (f->next == f->key_start)
            f->in_key = true;
        if (get(f->marker, f->next)) {
            events |= complete(f, f->in_key, now_ns);
            f->in_key = false;
            f->stalled_ns = 0;
        }
        f->next++;
    }
    return events;
}

// A whole key frame behind what is missing lets the picture go on from there.
static unsigned walk_key(struct frames *f, uint64_t now_ns)
{
    if (f->key_start == 0 || (f->next && f->key_start <= f->next))
        return 0;
    while (f->key_next <= f->highest && get(f->here, f->key_next)) {
        if (get(f->marker, f->key_next)) {
            f->next = f->key_start;
            return walk(f, now_ns);
        }
        f->key_next++;
    }
    return 0;
}

static void note_key(struct frames *f, uint64_t seq, uint32_t timestamp)
{
    bool same = f->key_start && timestamp == f->key_timestamp;
    if (f->key_start && (same ? seq >= f->key_start : seq < f->key_start))
        return;
    f->key_start = f->key_next = seq;
    f->key_timestamp = timestamp;
}

unsigned frames_packet(struct frames *f, uint64_t seq, uint32_t timestamp, bool marker,
                       bool keyframe, uint64_t now_ns)
{
    if (seq > f->highest)
        slide(f, seq);
    else if (f->highest - seq >= FRAMES_WINDOW)
        return 0;
    set(f->here, seq, true);
    set(f->marker, seq, marker);
    if (keyframe)
        note_key(f, seq, timestamp);
    unsigned events = walk(f, now_ns) | walk_key(f, now_ns);
    if (f->next && f->next < f->highest && f->stalled_ns == 0 && !get(f->here, f->next))
        f->stalled_ns = now_ns;
    return events;
}

bool frames_lost(struct frames *f, uint64_t seq)
{
    if (f->next && seq < f->next)
        return false; // the picture has gone on without it
    f->next = 0;
    f->in_key = false;
    if (f->key_start <= seq) // a key frame before the loss, or with the loss in it
        f->key_start = 0;
    return true;
}

void frames_end(struct frames *f, uint64_t now_ns)
{
    if (f->last_ns)
        freeze_if_late(f, now_ns);
}
