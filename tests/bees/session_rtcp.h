// SRTCP that a session receives: authentication, replay, and indexes used twice, for each sender.
// Runs on the session's worker. RFC 3711 3.4, RFC 7714 9.
#ifndef HITLESS_BEES_SESSION_RTCP_H
#define HITLESS_BEES_SESSION_RTCP_H

#include "../../dataplane/protect.h"
#include "reuse.h"
#include <stddef.h>

#define SESSION_RTCP_PEERS 8 // senders of one session; of more, repeats are not noticed

struct session;

struct rtcp_peer {
    struct protect_rtcp_source source;
    struct reuse reuse;
};

struct session_rtcp {
    uint8_t peers;
    struct rtcp_peer *peer[SESSION_RTCP_PEERS];
};

// Opens a packet in place. Returns the length of the compound, or 0: it is counted and of no use.
size_t session_rtcp_open(struct session *session, uint8_t *data, size_t size);
void session_rtcp_free(struct session_rtcp *rtcp);

#endif
