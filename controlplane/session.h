// Sessions: one client's ICE, DTLS and SRTP association with us, from its offer to its end.
//
// Owns the session table, the slots handed to the dataplane's workers, DTLS, and the streams that
// publishers feed. Runs on the control plane's loop; nothing here blocks. whip.c calls it with
// what came over HTTP; dpclient.c calls it with what came over the channel.
#ifndef HITLESS_SESSION_H
#define HITLESS_SESSION_H

#include "../dataplane/abi/channel.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct sessions; // the whole set; one per process
struct session;
struct config;

#define SESSION_TOKEN_LEN 32 // characters of a session's URL: 160 random bits in base32
#define STREAM_NAME_MAX 64   // [A-Za-z0-9._-]+, as it stands in the URL

// What a request comes to: an HTTP status (RFC 9725) and, when it failed, a reason in words.
// `body` is malloc'ed and the caller's to free; NULL when there is none.
struct session_reply {
    int status;              // 201, 204, 200, 400, 404, 406, 409, 412, 415, 422, 428, 503 …
    int retry_after_s;       // 0: no Retry-After
    char reason[256];        // one line for the client
    char *body;              // SDP answer (201) or SDP fragment (200 of an ICE restart)
    struct session *session; // 201: the new session, owned by the set
    const char *elsewhere;   // 503: URL of the node that takes it, as long as the configuration, or
                             // NULL
};

// Creates the set. `channel` may have no live dataplane yet: POSTs get 503 until it does. What a
// predecessor left in the journal of config->runtime_dir (journal.h) is known again: sessions whose
// DTLS was done go on under the same tokens, the others are ended.
int sessions_new(struct sessions **out, uv_loop_t *loop, const struct config *config,
                 struct channel *channel, char *why, size_t why_size);
// Lets go without a word: the dataplane and the journal go on, and so does every session with the
// next process. Handles are closed in the loop's next turn. To end the sessions, call
// sessions_end_all first.
void sessions_free(struct sessions *sessions);

// POST to /whip/{stream} or /whep/{stream}: negotiates the offer (`size` bytes, untrusted).
// `client` is the peer's address for logs.
void session_create(struct sessions *sessions, enum session_role role, const char *stream,
                    const char *offer, size_t size, const char *client,
                    struct session_reply *reply);

// Lets a new session's 201 wait until the partner node has the session, if that is how it is
// configured: 1, and `done` is called once, later, with `go_on` false if the session must not be
// used, since it could not be protected (protection.strict); 0: there is nothing to wait for; or a
// negative errno: it must not be used, which is known at once.
typedef void (*session_await_fn)(void *opaque, bool go_on);
int session_await(struct session *session, session_await_fn done, void *opaque);

// Which node serves a session, by name, and the partner's URL, "" where none is configured. As long
// as the configuration.
struct session_place {
    const char *here, *serves, *partner_url;
};
void session_where(const struct session *session, struct session_place *place);

// By the last part of its URL; NULL if there is none. Constant time in the token.
struct session *session_find(struct sessions *sessions, const char *token);
const char *session_token(const struct session *session);
const char *session_etag(const struct session *session); // with quotes; changes at an ICE restart
enum session_role session_role(const struct session *session);
const char *session_stream(const struct session *session);

// PATCH with an application/trickle-ice-sdpfrag body (RFC 8840, RFC 9725 4.3). A fragment with new
// ufrag and pwd is an ICE restart: it needs `if_match` ("*" or the current ETag); without it 428,
// with another 412. Plain trickle accepts a missing If-Match. Status 0: the partner node serves the
// session and has to decide, see session_forward.
void session_patch(struct session *session, const char *fragment, size_t size, const char *if_match,
                   struct session_reply *reply);

// Passes the request on to the partner node. True: `done` is called once, later, with the reply,
// whose body is then its own, and the session's ETag; false: `reply` says why not.
typedef void (*session_patched_fn)(void *opaque, struct session_reply *reply, const char *etag);
bool session_forward(struct session *session, const char *fragment, size_t size,
                     const char *if_match, session_patched_fn done, void *opaque,
                     struct session_reply *reply);

enum session_end {
    END_DELETED,
    END_TIMEOUT,
    END_REPLACED,
    END_STREAM_GONE,
    END_ADMIN,
    END_DTLS,
    END_SHUTDOWN,
    END_REFUSED,
    END_PARTNER
};
// Sends DTLS close_notify, where this process did the handshake, and has the dataplane forget it.
// The pointer is invalid afterwards.
void session_close(struct session *session, enum session_end why);
// Ends every session; new ones are refused from now on.
void sessions_end_all(struct sessions *sessions, enum session_end why);
// Whether the dataplane has confirmed that it forgot all that were closed.
bool sessions_all_closed(const struct sessions *sessions);

// What the operator sees. Pointers are valid until the next turn of the loop.
enum session_phase { PHASE_NEW, PHASE_CHECKED, PHASE_DTLS, PHASE_MEDIA };
struct session_info {
    const char *token, *stream, *client;
    enum session_role role;
    enum session_phase phase;
    enum srtp_profile profile;
    uint32_t worker;
    // "active" or "standby" here of two nodes; "alone": active, but the partner does not have it
    // now; "refused": active, but the partner does not take it, see `refusal`; "none": it is not
    // to be protected.
    const char *protection;
    const char *refusal;               // of the partner, in words; NULL
    uint64_t created_ms;               // since the epoch
    const struct stats_session *stats; // NULL until the dataplane knows it
};
struct stream_info {
    const char *name;
    bool live;
    const char *audio, *video; // codec names or NULL
    uint32_t viewers;
    uint64_t since_ms; // live since, since the epoch
    const struct stats_stream *stats;
};
// Has the worker with the most sessions hang for a while, as a test (operator.kill_test). 0 or a
// negative errno.
int sessions_stall_worker(struct sessions *sessions, uint32_t ms);
void sessions_each(struct sessions *sessions, void (*visit)(const struct session_info *, void *),
                   void *opaque);
void streams_each(struct sessions *sessions, void (*visit)(const struct stream_info *, void *),
                  void *opaque);

#endif
