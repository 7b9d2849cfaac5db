// Sequence numbers that a publisher's packet stream is missing, and when to ask for them again
// (RFC 4585 generic NACK). Pure; bounded; one per received SSRC.
#ifndef HITLESS_GAPS_H
#define HITLESS_GAPS_H

#include <stdint.h>

#define GAPS_MAX 256           // missing packets remembered; beyond that a key frame is cheaper
#define GAPS_FIRST_NS 10000000 // wait for reordering before the first request
#define GAPS_RETRY_NS                                                                              \
    25000000          // to the second request, or the round-trip time if that is longer;
                      // each further wait is a quarter longer than the one before
#define GAPS_TRIES 10 // what libwebrtc does
#define GAPS_GIVE_UP_NS 1000000000

struct gap {
    uint64_t index;
    uint64_t since_ns;
    uint64_t due_ns;
    uint64_t wait_ns; // after the last request
    uint32_t tries;
};

struct gaps {
    uint64_t highest;
    uint64_t lost_at; // the highest that was given up, forgotten, or is too old to be had; 0: none
    uint64_t newest_ns; // when the highest came
    uint32_t started;
    uint32_t count;
    struct gap list[GAPS_MAX]; // ascending by index
};

enum gaps_arrival { GAPS_NEW, GAPS_RECOVERED, GAPS_OLD };

// A packet with this extended sequence number came. RECOVERED: it had been missing.
// A jump that leaves more than GAPS_MAX missing forgets the oldest ones.
enum gaps_arrival gaps_received(struct gaps *gaps, uint64_t index, uint64_t now_ns);

// Begins anew behind `highest`, of `at_ns`: what came before was somebody else's to receive.
void gaps_start(struct gaps *gaps, uint64_t highest, uint64_t at_ns);

// As if nothing had come yet.
static inline void gaps_forget(struct gaps *gaps)
{
    gaps->started = gaps->count = 0;
    gaps->lost_at = 0;
}

// Fills `seqs` with the sequence numbers to ask for now, ascending; drops those given up, whose
// number is added to `*lost`. `rtt_ns`: 0 if unknown.
uint32_t gaps_due(struct gaps *gaps, uint64_t now_ns, uint64_t rtt_ns, uint16_t *seqs, uint32_t max,
                  uint64_t *lost);

#endif
