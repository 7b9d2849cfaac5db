// Watches for an index that protects two different packets (design.md: no keystream twice).
//
// Pure; owned by whoever owns the stream. Remembers 32 bits of the authentication tag, which is a
// keyed hash of all of the packet's bytes, for the last REUSE_WINDOW indexes of one SSRC. RFC 3711
// 9.1, RFC 7714 8.1.
#ifndef HITLESS_BEES_REUSE_H
#define HITLESS_BEES_REUSE_H

#include <stdint.h>

#define REUSE_WINDOW 2048u // a power of two

// All zero is empty. 8 KiB.
struct reuse {
    uint64_t next;               // highest index noted, plus one; 0: none
    uint32_t hash[REUSE_WINDOW]; // 0: not seen
};

enum reuse_verdict {
    REUSE_NEW,    // not seen within the window; now noted, if `note` was given
    REUSE_SAME,   // seen with these bytes: a duplicate
    REUSE_OTHER,  // seen with other bytes
    REUSE_TOO_OLD // left of the window
};

// What is known of `index`; changes nothing.
enum reuse_verdict reuse_look(const struct reuse *reuse, uint64_t index, uint32_t hash);
// Notes an authentic packet.
void reuse_note(struct reuse *reuse, uint64_t index, uint32_t hash);

#endif
