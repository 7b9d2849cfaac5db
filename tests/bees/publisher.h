// What a publisher does: sends the media of media.h with real timestamps, answers NACK, PLI and
// FIR, reports. Runs on the session's worker. RFC 3550, 3711, 4585, 4588, 5104, 8852.
#ifndef HITLESS_BEES_PUBLISHER_H
#define HITLESS_BEES_PUBLISHER_H

#include "session.h"

struct rtcp_packet;

// Begins to send. Returns 0 or -ENOMEM.
int publisher_open(struct session *session, uint64_t now_ns);
// One packet of an authentic RTCP compound.
void publisher_rtcp(struct session *session, const struct rtcp_packet *packet, uint64_t now_ns);
uint64_t publisher_tick(struct session *session, uint64_t now_ns);
void publisher_close(struct session *session, uint64_t now_ns);

#endif
