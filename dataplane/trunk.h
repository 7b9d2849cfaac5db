// Trunks: opened RTP of many streams to a partner node, sealed once per hop. What arrives is merged
// by the track's own index, so that several sources of one stream are as good as the best of them
// (as SMPTE ST 2022-7 does). One trunk per pair of workers; AEAD_AES_128_GCM, RFC 7714.
//
// A trunk packet is SRTP of payload type TRUNK_PT whose payload is one record of trunk_record.h.
// Limits: a packet that does not fit the MTU with its trunk head is dropped by name.
#ifndef HITLESS_TRUNK_H
#define HITLESS_TRUNK_H

#include "worker.h"

#define TRUNK_PT 127

// Keys and addresses of a partner; called by failover_peer.
void trunk_set_peer(struct worker *worker, uint8_t number, const struct msg_peer *message);

// Sends an opened packet to every partner that wants its stream.
void trunk_send(struct worker *worker, struct stream *stream, const struct media *media);

// Passes on what a client of the partner's has sent here: a compound RTCP packet, opened.
void trunk_send_feedback(struct worker *worker, const struct session *session, const uint8_t *rtcp,
                         size_t size);

// Takes a packet of RTP class that came from no session. False: it is not from a partner.
// A stream's packet is in its ring afterwards and returned in `*media`, to be fanned out.
bool trunk_input(struct worker *worker, const uint8_t *payload, const struct parsed *parsed,
                 struct rte_mbuf **media);

// Every 10 ms or so for each stream that is on trunks.
void trunk_tick(struct worker *worker, struct stream *stream);

#endif
