// Two nodes, one session: everything that the partner must know to go on with our sessions, and
// what we know of its own.
//
// Two protection groups: REPLICATE_OWN are the sessions that this node accepted, REPLICATE_PARTNER
// those of the partner. Of each group one node is the holder: its dataplane sends, and its control
// plane is where the sessions' truth is. The holder tells the other of every change; the other
// keeps its copies ready in its dataplane. BFD in the dataplane, the operator or a partner's word
// make the holder change; each change raises the group's term, and of two holders the one with the
// higher term stays.
// Runs on the loop; nothing blocks. Without a partner in the configuration there is no struct
// replicate, and every function takes NULL.
#ifndef HITLESS_REPLICATE_H
#define HITLESS_REPLICATE_H

#include "../dataplane/abi/messages.h"
#include "session.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#define REPLICATE_OWN 1 // group numbers on the channel
#define REPLICATE_PARTNER 2
#define REPLICATE_SYNC_MS 300 // how long a new session's answer waits for the partner

struct replicate;
struct stream;

// What a session keeps for us; zero at first.
struct replica {
    bool queued;         // to be told: waits in the queue
    bool told;           // the partner has been told of it, or told us
    bool seen;           // during a synchronisation
    bool waiting;        // told, and not acknowledged yet
    bool confirmed;      // the partner has it, as far as is known while we are connected
    uint8_t refused;     // enum wire_refusal: why it has not, up to the ACK of a later frame; 0: no
    uint64_t refused_ms; // when it said so, or was due to be told again
    uint64_t sequence;   // of its last frame
    struct msg_numbers sent; // as in that frame
    TAILQ_ENTRY(session) queue, unacked, refusals;
};

// Begins, unless no partner is configured: then 0 and NULL. `config` and `sessions` outlive it; it
// makes itself known to `sessions`. 0 or a negative errno with a line for a person in `why`.
int replicate_new(struct replicate **out, uv_loop_t *loop, const struct config *config,
                  struct sessions *sessions, char *why, size_t why_size);
void replicate_free(struct replicate *r);

// For the session code.
// The group for a session that is accepted now; 0: it cannot be protected. A viewer that comes
// while the partner is away is in none until that is back: what it never heard of, it cannot go on
// with, so the viewer need not be ended when its stream's publisher changes meanwhile (enter_space
// in ingest_space.c). A publisher's numbers may be known there, whoever the publisher is: its group
// is ours.
uint8_t replicate_group(const struct replicate *r, enum session_role role);
// Whether sessions of `group` are served here: it is 0, or we hold it.
bool replicate_serves(const struct replicate *r, uint8_t group);
// Whether a new session may come in as far as protection goes; else why not, in words.
const char *replicate_refusal(const struct replicate *r);
// Whether that is because the partner takes this node's clients meanwhile.
bool replicate_elsewhere(const struct replicate *r);
// The session changed, or is over. It is in the journal as it is now.
void replicate_session(struct replicate *r, struct session *session);
void replicate_session_gone(struct replicate *r, struct session *session);
// DTLS of a session is done by the node that has its handshake, which need not be the one that
// serves it and has its client: a group may have gone over while clients were joining. A datagram
// of the client for the partner to take; and one of ours for the partner to send.
void replicate_dtls(struct replicate *r, const struct session *session, const uint8_t *data,
                    size_t size);
void replicate_dtls_send(struct replicate *r, const struct session *session, const uint8_t *data,
                         size_t size);
// Our dataplane has no place for our copy of a session of the partner's.
void replicate_copy_refused(struct replicate *r, const struct session *session);
// RIGHT_PASS, for the partner's dataplane. What is lost is asked for again.
void replicate_right(struct replicate *r, const struct session *session,
                     const struct msg_right *right);
// PEER_STATE or GROUP_STATE.
void replicate_message(struct replicate *r, const struct msg_head *m);
// The dataplane is another process. To be called before anything else is sent to it.
void replicate_dataplane(struct replicate *r);
// Where the partner would serve a session of worker `home` (see msg_session_open): writes up to 2
// addresses. Also while it is away: it comes back to where it was, and a client that knows the
// place need not be told anew.
unsigned replicate_candidates(const struct replicate *r, uint8_t home, struct abi_addr out[2]);

// As session_await. The wait is over when the partner has the session, after REPLICATE_SYNC_MS, or
// when either is gone. -ENOTCONN: the partner is away, or the session not protected; -EAGAIN: too
// many wait; both only with protection.strict.
int replicate_wait(struct replicate *r, struct session *session, session_await_fn done,
                   void *opaque);

// Has the partner, which serves the session, do what session_patch would. `done` is called once,
// later: 0; or a refusal in `reply`: -EMSGSIZE, -ENOTCONN or -EAGAIN.
int replicate_patch(struct replicate *r, const struct session *session, const char *fragment,
                    size_t size, const char *if_match, session_patched_fn done, void *opaque,
                    struct session_reply *reply);

// Reads the files of the connection again; what cannot be read stays as it was, with a warning.
void replicate_reload(struct replicate *r);

// For the operator. 0, or a negative errno with a reason in `why`.
int replicate_drain(struct replicate *r, char *why, size_t why_size);
int replicate_failback(struct replicate *r, char *why, size_t why_size);
json_t *replicate_peers(struct replicate *r);  // array of partners; empty without
json_t *replicate_groups(struct replicate *r); // array of groups; empty without

#endif
