// A publisher's media: opened once, placed in the track's own number space, kept in its ring.
// Runs on the stream's source worker. RFC 3711, 3550, 4588, 8285, 8852 (RID).
//
// A track has one continuous space of extended sequence numbers and timestamps, however often its
// source SSRC or simulcast layer changes; viewers only add a constant to it. Where a track begins
// anew (its publisher comes to a worker or node that did not serve it before), it begins in a space
// of its own, told by the upper bits; viewers elsewhere then get another constant, so that their
// own numbers go on.
#ifndef HITLESS_INGEST_H
#define HITLESS_INGEST_H

#include "failover.h"
#include "rtcp.h"

#define INDEX_SPACE_BITS 30 // of the 48: packets of one space, 12 days of 1,000 a second

// How long what a partner sends may not have come here while we take it for being in sight: until
// BFD notices, and a packet's way. Slower BFD does not count as sight.
#define INGEST_UNSEEN_NS UINT64_C(400000000)

// Whether the track's last packet was in the same space.
static inline bool ingest_same_space(const struct track *track, uint64_t index)
{
    return track->next_index && (index ^ (track->next_index - 1)) >> INDEX_SPACE_BITS == 0;
}

#define NEAR_NS UINT64_C(500000000)

// Whether the publisher is ours to answer: who receives its packets does so, whoever serves its
// viewers. Its browser may send them to the partner, which then gives them to us.
static inline bool ingest_leads(const struct worker *worker, const struct stream *stream)
{
    bool direct = stream->direct_ns && worker->now_ns - stream->direct_ns < NEAR_NS;
    bool given = stream->trunk_ns && worker->now_ns - stream->trunk_ns < NEAR_NS;
    return direct || (!given && failover_active(worker, stream->group));
}

// The track's packet `at` will not come any more: pictures stand still until the next key frame,
// which viewers ask for late (libwebrtc after 3 s).
static inline void ingest_lost(struct track *track, uint64_t at)
{
    if (track->config.kind == KIND_VIDEO && (!track->key_sent || at > track->key_index))
        track->key_wanted = true;
}

// Takes an RTP packet of `length` bytes at `packet` from a publisher's session. Returns the opened
// packet to be fanned out (the ring has a copy), or NULL.
struct rte_mbuf *ingest_rtp(struct worker *worker, struct session *session, const uint8_t *packet,
                            size_t length);

// Puts a packet that another worker or node opened into this worker's ring. False: it is there
// already or too old, and was freed.
bool ingest_shared(struct worker *worker, struct rte_mbuf *m);

// A sender report of the publisher.
void ingest_sender_report(struct worker *worker, struct stream *stream,
                          const struct rtcp_sender *sender);
// The publisher said BYE for this SSRC.
void ingest_bye(struct worker *worker, struct stream *stream, uint32_t ssrc);
// Tells the control plane when the stream's state changed.
void ingest_set_state(struct worker *worker, struct stream *stream, enum stream_state state);

// Leaves word of where the stream's timestamps are, for a worker that its publisher comes to next.
void ingest_note_clocks(const struct worker *worker, const struct stream *stream);

#endif
