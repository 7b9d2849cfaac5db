// What rides with a packet through the stages, in the mbuf's private area.
#ifndef HITLESS_BURST_H
#define HITLESS_BURST_H

#include "eal.h"
#include "parse.h"
#include <rte_mbuf.h>

#define BURST 32

// A media packet that was opened: header and plaintext payload stand contiguously in its mbuf,
// which is immutable from then on and shared by reference count between the ring, the fan-out
// and other workers.
struct media_meta {
    uint64_t index;      // extended sequence number in the track's own space, see ingest.h
    uint64_t arrival_ns; // CLOCK_MONOTONIC
    uint64_t stream;     // stream id
    uint32_t timestamp;  // RTP timestamp in the track's own space
    uint16_t header;     // bytes before the payload
    uint16_t payload;    // bytes of payload, padding included
    uint8_t track;
    bool marker, padding, keyframe;
};
_Static_assert(sizeof(struct media_meta) <= PKT_META_SIZE, "fits the mbuf's private area");

static inline struct media_meta *media_meta(struct rte_mbuf *m)
{
    return rte_mbuf_to_priv(m);
}

// What a mailbox between workers carries, told apart by the mbuf's private area.
enum mail_kind { MAIL_FRAME = 1, MAIL_MEDIA, MAIL_CLOCK };

#endif
