// One session: a WebRTC client from its socket to its statistics.
//
// Made by the signalling thread, which needs its port and ICE credentials for the offer; handed to
// a worker with the answer and from then on owned by that thread, until it ends. What a viewer does
// is in viewer.c, what a publisher does in publisher.c; everything both do is in session.c.
#ifndef HITLESS_BEES_SESSION_H
#define HITLESS_BEES_SESSION_H

#include "../../controlplane/dtls.h"
#include "../../dataplane/protect.h"
#include "agent.h"
#include "answer.h"
#include "bees.h"
#include "impair.h"
#include "offer.h"
#include "session_rtcp.h"
#include <netinet/in.h>

#define SESSION_RTCP_MAX 1200

enum session_phase { SESSION_ICE, SESSION_DTLS, SESSION_OPEN, SESSION_ENDED };

struct worker;
struct viewer;
struct publisher;

struct session {
    struct protect_rx rx;
    struct protect_tx tx;
    struct protect_rtcp_rx rtcp_rx;
    struct protect_rtcp_tx rtcp_tx;
    struct bees_session *result; // the run's; outlives the session
    struct worker *worker;
    uint32_t slot; // of the worker
    uint8_t phase; // enum session_phase
    bool sampled;  // packets are opened; false only with --headers-only
    bool leaving;  // told to leave
    int fd, family;
    uint64_t begin_ns;    // absolute
    uint64_t asked_ns;    // when the POST was begun that was answered so
    uint64_t posted_ns;   // when the answer came
    uint64_t deadline_ns; // of joining
    uint64_t open_ns;     // when DTLS was done
    uint64_t last_packet_ns;
    uint64_t arrived_ns;         // of the latest datagram
    uint64_t report_ns;          // when the next RTCP report is due
    uint32_t ssrc;               // of our RTCP
    uint32_t rtcp_index;         // of the next SRTCP packet
    bool reduced_rtcp;           // feedback may stand alone (RFC 5506)
    struct abi_addr from;        // where media came from last
    struct viewer *viewer;       // role whep, once open
    struct publisher *publisher; // role whip, once open
    struct dtls *dtls;
    struct session_rtcp rtcp;
    struct impair_path path;
    struct agent agent;
    struct offer offer;
    struct answer answer;
    void *signal; // signalling's own, not touched by the worker
};

// Opens the socket and makes up the credentials and SSRCs; `offer` is completed with them.
// Returns BEES_FAILURE_none, fd_limit, port_exhaustion or out_of_memory.
enum bees_failure session_new(struct session **session, struct bees_session *result,
                              const struct offer *offer);
// Frees a session that no worker got.
void session_free(struct session *session);

// Everything below runs on the worker's thread.

// The answer is in: checks begin.
void session_start(struct session *session, uint64_t now_ns);
// One datagram, and when it came (arrived_ns <= now_ns); before the one before it none did.
void session_input(struct session *session, const struct abi_addr *from, uint8_t *data, size_t size,
                   uint64_t arrived_ns, uint64_t now_ns);
// Does what is due; returns when it wants to be called again.
uint64_t session_tick(struct session *session, uint64_t now_ns);
// Ends it with or without a failure: says goodbye, closes the books and the socket.
void session_end(struct session *session, enum bees_failure failure, uint64_t now_ns);

// For viewer.c and publisher.c.

// Sends a datagram to where the agent says.
void session_send(struct session *session, const uint8_t *data, size_t size);
// Seals a compound RTCP packet (SESSION_RTCP_MAX + PROTECT_RTCP_ROOM bytes of room) and sends it.
void session_send_rtcp(struct session *session, uint8_t *packet, size_t size);
// Notes a step of joining, the first time.
void session_step(struct session *session, enum bees_step step, uint64_t now_ns);
// Wants session_tick soon.
void session_hurry(struct session *session, uint64_t due_ns);

#endif
