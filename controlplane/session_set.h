// Inside the session code, shared by session.c (requests), session_link.c (the channel, DTLS and
// time), session_offer.c (negotiation), session_admit.c (who may come in, and where) and
// session_resume.c (the journal, and what a predecessor left).
// Everything belongs to the loop's thread.
#ifndef HITLESS_SESSION_SET_H
#define HITLESS_SESSION_SET_H

#include "dpclient.h"
#include "dtls.h"
#include "journal.h"
#include "replicate.h"
#include "sdp_answer.h"
#include "session.h"
#include "slots.h"
#include "streams.h"
#include <sys/queue.h>

#define SESSION_SWEEP_MS 50
#define SESSION_CLOSE_AGAIN_MS 2000 // after which a SESSION_CLOSE without answer is sent again
#define SESSION_RETRY_AFTER_S 2     // what a client is told to wait
#define SESSION_RETRY_SOON_S 1      // the same while a process is being started again
#define SESSION_MAX_CANDIDATES 16

struct session {
    struct sessions *set;
    char token[SESSION_TOKEN_LEN + 1];
    char etag[JOURNAL_ETAG_MAX];
    char client[JOURNAL_CLIENT_MAX];
    uint64_t id;
    uint32_t worker;
    enum session_role role;
    enum session_phase phase;
    enum srtp_profile profile;
    struct stream *stream;        // valid while the session is open
    struct dtls *dtls;            // NULL: its handshake was with a predecessor of this process
    struct msg_session_open open; // as the dataplane should know it
    const struct msg_session_keys *keys;             // in the journal; head.length 0: none yet
    bool tell_open, tell_ice, tell_keys, tell_adopt; // to be sent (again)
    bool was_keyed; // the dataplane was told the keys before: it must not start them over
    bool was_away;  // the partner has served it: nor those that the dataplane was never told
    bool foreign;   // the partner served it since SESSION_OPEN is owed: its numbers go on
    bool refused;   // by our dataplane, as a copy of the partner's: the audit tries it again
    bool closed;    // only waits for SESSION_CLOSED; in sessions.closing
    uint64_t created_clock_ms;     // since the epoch
    uint64_t since_ms;             // of the set's clock: when its setup, or its closing, began
    struct msg_numbers numbers;    // as the dataplane, or the partner's, last said
    struct abi_addr remote, local; // of its path; family 0: none yet
    uint8_t mac[6];
    struct replica replica;
    struct session *next;       // in its hash bucket
    LIST_ENTRY(session) viewer; // of its stream
    TAILQ_ENTRY(session) all;   // sessions.open or sessions.closing
    TAILQ_ENTRY(session) young; // sessions.young, until its keys are there
};

TAILQ_HEAD(session_list, session);

struct sessions {
    const struct config *config;
    const struct abi_config *abi; // what the dataplane goes by, which may be older than `config`
    struct channel *channel;
    struct dpclient *dataplane;
    struct replicate *replicate; // NULL without a partner
    uv_timer_t *sweep;           // frees itself
    uint64_t (*now_ms)(void);
    uint64_t epoch; // of the dataplane that our sessions are on; 0: none seen yet
    bool behind;    // some session has something to tell
    bool ending;    // no new sessions

    struct dtls_identity identity;
    struct dtls_fingerprint fingerprint; // the identity's
    struct streams *streams;
    struct slots *slots; // groups are workers
    struct session **by_slot;
    struct journal *journal;

    uint32_t buckets; // of the token hash, a power of two
    uint32_t hash_seed;
    struct session **bucket;
    struct session_list open, closing, young;
    uint64_t audit_ms;  // when the dataplane's statistics were last held against ours
    bool audit_streams; // not yet since either process started

    // Scratch of one negotiation; large, so not on the stack.
    struct sdp offer;
    struct sdp_answer answer;
    char text[SDP_ANSWER_MAX];
};

// session_admit.c
// Whether another session may come in: 0, or 503 after filling in `reply`.
int session_admit(struct sessions *set, struct session_reply *reply);
// The worker for a session, or -1 when none has room: `full` then says what one of them has run
// short of. A viewer goes to a worker that serves its
// stream already, as long as that one is not far ahead of the least loaded one in sessions: so a
// small stream stays on one core, and a large one spreads. A publisher of a known stream likewise;
// all others go to the least loaded.
int session_place(const struct sessions *set, const struct stream *stream, const char **full);

// session_offer.c
// Parses the offer and negotiates it into set->offer and set->answer: 0, or the HTTP status after
// filling in `reply`. `stream` is what a viewer wants to see, NULL for a publisher.
int session_negotiate(struct sessions *set, enum session_role role, const struct stream *stream,
                      const char *offer, size_t size, struct session_reply *reply);
// New ICE credentials of ours, and these of the client. 0 or a negative errno.
int session_credentials(struct msg_ice *ice, struct sdp_view remote_ufrag,
                        struct sdp_view remote_pwd);
// Puts the negotiated tracks into session->open, with SSRCs for a viewer. 0 or a negative errno.
int session_tracks(struct session *session);
// Writes the answer to set->offer into reply->body. 0 or a negative errno.
int session_answer(struct session *session, struct session_reply *reply);
// Writes the answer to an ICE restart into reply->body. 0 or a negative errno.
int session_answer_restart(struct session *session, const struct sdp_fragment *fragment,
                           struct session_reply *reply);

// session_link.c
int session_link(struct sessions *set, uv_loop_t *loop); // begins to listen; 0 or a negative errno
void session_unlink(struct sessions *set);
int session_send(struct sessions *set, uint32_t lane, const void *message);
// The same for streams, whose messages must not be lost with a dataplane: -EAGAIN while there is
// none.
int session_send_stream(void *set, uint32_t lane, const void *message); // a streams_send_fn
// Sends SESSION_OPEN, streams first. 0 or a negative errno.
int session_tell_open(struct session *session);
// Has session_tell send it, now or once there is room: the group may be somewhere else by then.
void session_owe_open(struct session *session);
// Sends what the session's tell_… ask for, or remembers to. Its tables are as they should be.
void session_tell(struct session *session);
// DTLS is done: `keys`, ours by number, go into the journal and to the dataplane.
void session_keyed(struct session *session, const struct msg_session_keys *keys);
// Its client's address has been checked: DTLS may begin.
void session_checked(struct session *session);
// A DTLS datagram of its client, ignored by a node without its handshake.
void session_dtls(struct session *session, const uint8_t *data, size_t size);
// Sends SESSION_CLOSE; the sweep sends it again if no answer comes.
void session_tell_close(struct session *session);
void session_dtls_send(void *session, const uint8_t *data, size_t size); // a dtls_send_fn
// All that time brings about: retransmissions, deadlines, messages that found no room.
void sessions_sweep(struct sessions *set);

// session_resume.c
// Puts the session into the journal as it is now; `keys` NULL: with those that it has there.
void session_save(struct session *session, const struct msg_session_keys *keys);
void session_save_closing(const struct session *session);
void session_save_free(const struct session *session);
// Enters a session of a predecessor or the partner into its stream; false: it cannot be.
bool session_rejoin(struct session *session, struct stream *stream);
// Knows again what the journal holds. The set is new.
void sessions_resume(struct sessions *set);
// About once a second: has the dataplane forget what is none of ours, ends sessions whose
// SESSION_DEAD must have been lost, and tells of copies again that it refused.
void sessions_audit(struct sessions *set, uint64_t now);

// session_set.c
// A session with an id, token and ETag, in all tables, without stream and DTLS. NULL: no room.
struct session *session_new(struct sessions *set, enum session_role role, uint32_t worker,
                            const char *client);
// The same for one that comes from another node, under its own token.
struct session *session_adopt(struct sessions *set, enum session_role role, uint32_t worker,
                              const char *token);
int session_new_etag(struct session *session); // 0 or a negative errno
// Puts a session that has its slot, token and role into the tables of open ones.
void session_enter(struct session *session);
// One of which only the id is known and that the dataplane should forget: takes its slot, and waits
// for SESSION_CLOSED. 0, -EBUSY, -EINVAL or -ENOMEM.
int session_disown(struct sessions *set, uint32_t worker, uint64_t id);
// Takes it out of all tables but the one of those that wait for SESSION_CLOSED; wipes its secrets.
void session_retire(struct session *session);
// Frees a retired session and its slot.
void session_destroy(struct session *session);
uint64_t session_clock_ms(void); // milliseconds since the epoch

// session.c
// Fills in a refusal; returns `status`.
__attribute__((format(printf, 4, 5))) int
session_refuse(struct session_reply *reply, int status, int retry_after_s, const char *reason, ...);
// Ends every viewer of a stream; a stream without publisher is gone afterwards.
void session_end_viewers(struct stream *stream, enum session_end why);

#endif
