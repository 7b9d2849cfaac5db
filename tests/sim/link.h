// One direction of a viewer's network: a constant delay, losses that are even or come in bursts
// (Gilbert-Elliott in time, so that they do not depend on what is sent), and, where it is narrow, a
// queue with a rate and a bound. Pure; virtual time; one seed, one course of events.
#ifndef HITLESS_LINK_H
#define HITLESS_LINK_H

#include <stdbool.h>
#include <stdint.h>

#define LINK_BURST_NS UINT64_C(50000000) // mean length of a burst, in which everything is lost

struct link {
    double loss; // share of the time, or of the packets if they are lost one by one
    bool bursts;
    uint64_t delay_ns;
    double bytes_per_ns; // 0: as wide as can be
    uint64_t queue_ns;   // longest wait of a packet that is not dropped

    uint64_t random; // state of the generator, not 0
    bool bad;
    uint64_t change_ns; // of `bad`
    uint64_t free_ns;   // when the queue will be empty
    uint64_t dropped;   // by the full queue
};

void link_init(struct link *link, double loss, bool bursts, uint64_t delay_ns, uint64_t seed);

// When a packet of `bytes` that is sent now arrives; 0: never. Calls come in order of time.
uint64_t link_send(struct link *link, uint64_t now_ns, uint32_t bytes);

#endif
