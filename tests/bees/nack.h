// Packets that one media stream misses: when to ask for each, and when to give it up.
//
// Pure: extended sequence numbers and times in, decisions out. The rules are libwebrtc's, so that a
// server sees what a browser would send: at once, then again after the round trip times 1.25 for
// each try, at most 10 tries; a list that grows beyond 1,000 is dropped for a key frame.
#ifndef HITLESS_BEES_NACK_H
#define HITLESS_BEES_NACK_H

#include <stdbool.h>
#include <stdint.h>

#define NACK_MAX 1000 // packets missed at a time
#define NACK_TRIES 10
#define NACK_MIN_NS 20000000 // between two requests for a packet: how often libwebrtc looks
#define NACK_MAX_RTT_NS 160000000
#define NACK_DEFAULT_RTT_NS 100000000
#define NACK_PATIENCE_NS 1000000000ull // until a packet that may not be asked for is given up

struct nack_entry {
    uint64_t seq; // extended
    uint64_t noticed_ns;
    uint64_t next_ns; // when to ask, or to give up after the last try
    uint8_t tries;
};

struct nack {
    struct nack_entry *entry; // ascending, NACK_MAX of them; allocated with the first loss
    unsigned count;
};

void nack_free(struct nack *nack);

// Notes `count` missing packets from `seq` on. False if they do not fit (or there is no memory):
// then the list is empty, *dropped tells how many it held, and the caller asks for a key frame.
bool nack_add(struct nack *nack, uint64_t seq, unsigned count, uint64_t now_ns, unsigned *dropped);

// Forgets a packet because it came. False if it was not missed.
bool nack_remove(struct nack *nack, uint64_t seq, struct nack_entry *entry);

// Collects what is to be asked for now (at most `max`, ascending) and gives up what was asked for
// NACK_TRIES times, or, unless `ask`, has been missing for NACK_PATIENCE_NS. Returns how many are
// in `seqs`. `rtt_ns` 0: unknown. *given_up is added to.
unsigned nack_due(struct nack *nack, bool ask, uint64_t rtt_ns, uint64_t now_ns, uint16_t *seqs,
                  unsigned max, unsigned *given_up);

// When nack_due has something to do; UINT64_MAX: nothing is missing.
uint64_t nack_next(const struct nack *nack);

#endif
