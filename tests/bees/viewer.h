// What a viewer does with the packets that it receives: authenticates them, tells streams apart,
// keeps their statistics and reports back. Runs on the session's worker. RFC 3550, 3711, 4585,
// 4588, and transport-wide congestion control feedback.
#ifndef HITLESS_BEES_VIEWER_H
#define HITLESS_BEES_VIEWER_H

#include "session.h"

struct rtcp_packet;

// Returns 0 or -ENOMEM.
int viewer_open(struct session *session, uint64_t now_ns);
// An RTP packet, SRTP still on it, that came at now_ns.
void viewer_packet(struct session *session, const struct abi_addr *from, uint8_t *data, size_t size,
                   uint64_t now_ns);
// One packet of an authentic RTCP compound.
void viewer_rtcp(struct session *session, const struct rtcp_packet *packet, uint64_t now_ns);
uint64_t viewer_tick(struct session *session, uint64_t now_ns);
void viewer_close(struct session *session, uint64_t now_ns);

#endif
