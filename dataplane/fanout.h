// One opened packet to many viewers: header from the viewer's numbers, payload sealed out of place
// from the shared plaintext straight into the viewer's mbuf. RFC 3550, 3711, 4588, 8285.
#ifndef HITLESS_FANOUT_H
#define HITLESS_FANOUT_H

#include "worker.h"

// Packets of one track, in order.
struct fan_group {
    struct track *track;
    const struct media *const *packets;
    unsigned count;
};

// Sends each group's packets to every viewer that its track has on this worker. Borrows the
// packets. Returns the number of packets sealed.
unsigned fanout_run(struct worker *worker, const struct fan_group *groups, unsigned count);

// Sends packets of the track, in order, to one viewer as what they are to it: its first sight of
// them. Borrows the packets. Returns the number of packets sealed.
unsigned fanout_one(struct worker *worker, struct track *track, struct sender *sender,
                    struct sub *sub, const struct media *const *packets, unsigned count);

// Has one packet of the ring sent to one viewer again when fanout_resend_queued is called, or
// before; until then nothing is put into the ring. As RTX, with that viewer's next RTX index, or
// the very same packet (same index, same bytes).
void fanout_resend(struct worker *worker, struct session *session, struct track *track,
                   struct sub *sub, const struct media *packet, bool rtx);

// Sends what fanout_resend was given.
void fanout_resend_queued(struct worker *worker);

#endif
