// ICE-lite: answers connectivity and consent checks, and learns where a session's client is.
// RFC 8445 (lite, controlled), 8489, 7675. The control plane is not involved.
//
// A check shows who sent it, not from where: whoever has a session can write any source address. So
// media goes only to an address that is proven, which is one that DTLS was done with, one that the
// partner serves, or one that has answered a binding request of ours (as in RFC 7675). A nominated
// address that is not is asked, and media stays where it is until the answer comes; a client that
// does not answer stays at the address of its DTLS.
//
// A standby that cannot take over the partner's address keeps a way of its own: to where the client
// last came from and answered. Nominations it need not see, since the client makes them at its
// home.
//
// For that the client has to check the standby's candidate once, which lets the standby's packets
// through the client's NAT. libwebrtc checks pairs one by one and leaves out those that are left of
// a network once one of it is answered. So where addresses do not move, the first check of a
// session waits for its answer until the partner's candidate has had its turn.
#ifndef HITLESS_ICE_H
#define HITLESS_ICE_H

#include "worker.h"

// Takes a STUN message: `frame` and what parse_frame said of it.
void ice_input(struct worker *worker, const uint8_t *frame, const struct parsed *parsed);

// Answers the checks that have waited long enough. To be called every millisecond or so.
void ice_answer_held(struct worker *worker);

// Sends a binding request to one of the session's paths, by the way `to`; the answer proves it. No
// more often than every 100 ms; within two seconds it is the same transaction again.
void ice_ask(struct worker *worker, struct session *session, uint8_t path,
             const struct frame_template *to);

// Asks a publisher again whose round trip was last looked at five seconds ago: nothing that we send
// it is answered otherwise, and how often a lost packet is asked for depends on it.
void ice_measure(struct worker *worker, struct session *session);

// Tells the control plane, which keeps it for the partner, of a path that is in use and that it was
// not told of: the channel was full, or the session was not ours to serve then.
void ice_tell_path(struct worker *worker, struct session *session);

// The session has got its keys, by a DTLS handshake unless the partner sent them.
void ice_keyed(struct worker *worker, struct session *session);

#endif
