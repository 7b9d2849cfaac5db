// One media stream as a viewer gets it: order, loss, repair, jitter, frames.
//
// Pure: authentic packets and times in, counters and requests out. Owned by the session's worker.
// RFC 3550 (statistics), 4585 (NACK, PLI).
#ifndef HITLESS_BEES_RECEIVE_H
#define HITLESS_BEES_RECEIVE_H

#include "../../dataplane/rtcp.h"
#include "../../dataplane/rtp.h"
#include "bees.h"
#include "frames.h"
#include "nack.h"

#define RECEIVE_WINDOW 2048u // packets behind the newest that we tell duplicates of
#define RECEIVE_JUMP 3000u // a longer gap is a new start of the numbers (RFC 3550 A.1, MAX_DROPOUT)

// All zero but the first block.
struct receive {
    uint32_t ssrc;
    uint8_t codec;        // enum codec
    bool video, ask, pli; // ask, pli: the answer lets us send NACK, PLI
    bool rtx;             // retransmissions come on a stream of their own
    uint32_t clock_rate;
    struct bees_counters *count; // the session's
    struct hist *recovery;       // the worker's

    uint64_t highest; // extended sequence number; 0: nothing came yet
    struct rtp_rx_stats stats;
    struct nack nack;
    struct frames frames; // video only
    bool want_key;
    uint64_t key_wanted_ns, key_asked_ns;
    uint32_t sr_middle; // of the last SR's NTP time; 0: none
    uint64_t sr_ns;     // when it came
    uint64_t seen[RECEIVE_WINDOW / 64];
};

// A packet of the stream: as it came (`rtx` false), or what a retransmission carried. `payload`
// NULL when only the header is known; frames are then not looked at. Returns bits of enum
// frames_event.
unsigned receive_packet(struct receive *receive, const struct rtp_view *view, uint16_t seq,
                        const uint8_t *payload, size_t length, bool rtx, uint64_t now_ns);

// Appends the NACK and PLI that are due to a compound at `length`; returns the new length.
// `rtt_ns`: 0 if unknown.
size_t receive_feedback(struct receive *receive, uint8_t *buf, size_t size, size_t length,
                        uint32_t sender_ssrc, uint64_t rtt_ns, uint64_t now_ns);
// When receive_feedback has something to do.
uint64_t receive_next(const struct receive *receive, uint64_t now_ns);

// A report block for the stream.
void receive_report(struct receive *receive, struct rtcp_block *block, uint64_t now_ns);

uint32_t receive_jitter_us(const struct receive *receive);

// Closes the books: what is still missing is lost, unless it was noticed in the last half second
// and may be on its way. Frees.
void receive_end(struct receive *receive, uint64_t now_ns);

#endif
