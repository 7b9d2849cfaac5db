// What rides with a packet through the stages.
#ifndef HITLESS_BURST_H
#define HITLESS_BURST_H

#include "eal.h"
#include "parse.h"
#include <rte_mbuf.h>

#define BURST 32

// A media packet that was opened: what is known of it, then its header and plaintext payload.
// Immutable from then on. On its way to the fan-out and to other workers it is the data of an mbuf,
// shared by reference count; each worker's ring keeps a copy.
struct media {
    uint64_t index;      // extended sequence number in the track's own space, see ingest.h
    uint64_t arrival_ns; // CLOCK_MONOTONIC
    uint64_t stream;     // stream id
    uint32_t timestamp;  // RTP timestamp in the track's own space
    uint16_t header;     // bytes before the payload
    uint16_t payload;    // bytes of payload, padding included
    uint8_t track;
    bool marker : 1, padding : 1, keyframe : 1;
    bool essential : 1; // others are decoded from it, see nack_policy.h
    uint8_t layer;      // of the publisher's that it came in
    uint8_t pad;
    uint8_t bytes[];
};
#define MEDIA_KNOWN offsetof(struct media, bytes)
_Static_assert(MEDIA_KNOWN == 36, "every packet of every ring has it");

static inline size_t media_size(const struct media *media)
{
    return MEDIA_KNOWN + media->header + media->payload;
}

// Writes what is known of a packet in front of its bytes. (An assignment would take the first of
// them along: the structure's size is a multiple of 8.)
static inline void media_note(struct media *media, const struct media *known)
{
    memcpy(media, known, MEDIA_KNOWN);
}

static inline struct media *media_of(const struct rte_mbuf *m)
{
    return rte_pktmbuf_mtod(m, struct media *);
}

#endif
