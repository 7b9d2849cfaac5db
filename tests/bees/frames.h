// Which video frames came whole, and when a picture would have stood still.
//
// Pure: packets' positions and times in, frames out. A frame can be shown when all packets up to
// its marker are there and everything since the last key frame is; after a loss that stays, only
// with the next whole key frame. Frames that do not depend on each other (temporal layers) are not
// told apart. The freeze rule is libwebrtc's.
#ifndef HITLESS_BEES_FRAMES_H
#define HITLESS_BEES_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#define FRAMES_WINDOW 1024u             // packets, a power of two
#define FRAMES_PATIENCE_NS 200000000ull // an incomplete frame is late after so long
#define FRAMES_FREEZE_NS 150000000ull   // beyond the mean interval

// All zero is the start. Sequence numbers are extended and never 0.
struct frames {
    uint64_t highest;
    uint64_t next;      // first packet not yet walked over; 0: a key frame is needed first
    uint64_t key_start; // first packet of the newest key frame; 0: none
    uint64_t key_next;  // first packet of it not yet walked over
    uint32_t key_timestamp;
    bool in_key;          // the walk is inside that key frame
    uint64_t last_ns;     // when the last frame was complete; 0: never
    uint64_t interval_ns; // smoothed
    uint64_t stalled_ns;  // since when a packet has been missing; 0: none is
    uint64_t frames, keyframes, freezes, frozen_ns;
    uint64_t here[FRAMES_WINDOW / 64], marker[FRAMES_WINDOW / 64];
};

enum frames_event { FRAMES_DONE = 1, FRAMES_KEY_DONE = 2 };

// Takes a packet; `keyframe`: a decoder can start with it. Returns bits of enum frames_event.
unsigned frames_packet(struct frames *frames, uint64_t seq, uint32_t timestamp, bool marker,
                       bool keyframe, uint64_t now_ns);
// Packet `seq` will never come. True if a key frame is needed now.
bool frames_lost(struct frames *frames, uint64_t seq);
// Whether nothing can be shown before a key frame.
static inline bool frames_need_key(const struct frames *frames)
{
    return frames->next == 0;
}
// Counts a freeze that goes on at the end.
void frames_end(struct frames *frames, uint64_t now_ns);

#endif
