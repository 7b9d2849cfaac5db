// A viewer of one video track as libwebrtc is one: what it asks for again and when, which frames it
// can decode, and when its picture stands still. Pure; virtual time. The NACK list is that of
// hitless-bees (tests/bees/nack.h): again after 1.25 round trips, ten times at most.
//
// A frame is decoded when it is due, whole, and the frame that it refers to was decoded; frames
// that are not ready when a later one is due and can be decoded are skipped, which is what makes
// upper temporal layers dispensable. A frame that comes late is decoded late, and the rest hurries
// after it.
#ifndef HITLESS_VIEWER_H
#define HITLESS_VIEWER_H

#include "../bees/nack.h"

#define VIEWER_FRAMES 512 // remembered, a power of two: 17 s
#define VIEWER_ASK 64     // most that one request names

// What a video packet says of itself.
struct viewer_packet {
    uint64_t index; // extended sequence number
    uint32_t frame; // counts up from 0
    uint32_t refers_to;
    uint8_t part, parts; // of the frame
    bool key;
    bool again; // a retransmission
};

struct viewer_frame {
    uint32_t number;
    uint32_t refers_to;
    uint32_t got; // bit per part
    uint8_t parts;
    bool key, decoded;
    uint64_t last_index; // highest of its packets' that has come
};

struct viewer {
    uint64_t first_ns;    // when frame 0 is due
    uint64_t interval_ns; // between frames
    uint64_t rtt_ns, ask_delay_ns;
    struct viewer_frame frames[VIEWER_FRAMES];
    struct nack nack;
    uint64_t highest; // index; 0: nothing came
    bool started;     // a frame was shown
    bool key_needed;
    uint32_t last; // frame decoded last
    uint64_t last_ns, key_asked_ns;

    uint32_t expected, received;         // since the last report, retransmissions not counted
    uint64_t shown, still, freezes;      // `still`: frame times in which no new frame was shown
    uint64_t freeze_ns, asked, given_up; // freezes as Chromium counts them
};

// `first_ns` is when frame 0 is to be shown.
void viewer_init(struct viewer *viewer, uint64_t first_ns, uint64_t interval_ns, uint64_t rtt_ns,
                 uint64_t ask_delay_ns);
void viewer_free(struct viewer *viewer);
void viewer_receive(struct viewer *viewer, const struct viewer_packet *packet, uint64_t now_ns);
// Decodes and shows what is due.
void viewer_turn(struct viewer *viewer, uint64_t now_ns);
// Sequence numbers to ask for now: how many of VIEWER_ASK.
unsigned viewer_ask(struct viewer *viewer, uint64_t now_ns, uint16_t *seqs);
// Whether a key frame is to be asked for now.
bool viewer_wants_key(struct viewer *viewer, uint64_t now_ns);
// The share lost since the last report, in 1/256 (RFC 3550).
uint8_t viewer_report(struct viewer *viewer);
// Forgets the figures, at the end of a warm-up; counts what stands still, at the end.
void viewer_restart_figures(struct viewer *viewer);
void viewer_end(struct viewer *viewer, uint64_t now_ns);

#endif
