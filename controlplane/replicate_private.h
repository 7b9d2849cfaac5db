// Inside replication, shared by replicate.c (the connection's life, start and end),
// replicate_tell.c (what is told, and what was acknowledged), replicate_wait.c (answers that wait
// for that), replicate_groups.c (who holds what), replicate_state.c (the same over restarts),
// replicate_peer.c (what the dataplane is told), replicate_import.c (what the partner tells),
// replicate_turn.c (whole groups), replicate_patch.c (requests passed on) and replicate_show.c.
// Loop thread.
#ifndef HITLESS_REPLICATE_PRIVATE_H
#define HITLESS_REPLICATE_PRIVATE_H

#include "config.h"
#include "replicate.h"
#include "replicate_link.h"
#include "session_set.h"
#include "streams.h"

#define REPLICATE_GONE 4096 // ends that wait to be told; more: everything is told anew
#define REPLICATE_TICK_MS 50
#define REPLICATE_CONTACT_MS 1500 // without the partner's word, before we serve what nobody does
#define REPLICATE_WAITS 1024
#define REPLICATE_AGAIN_MS 1000 // until what the partner refused is told again
#define REPLICATE_AGAIN 64      // so many in a tick
#define REPLICATE_PATCHES 64    // requests at the partner
#define REPLICATE_PATCH_MS 1500 // how long each may take
#define REPLICATE_CALM_MS 1000  // of BFD being up, before we ask back what a false alarm took
#define REPLICATE_AUTO_MS 10000 // of a sound connection before sessions are handed back

// One group as this node sees it.
struct held_group {
    uint32_t term;
    uint32_t claim;     // not 0: the partner serves it, too, because we cannot see each other
    uint8_t role;       // enum group_role
    bool syncing;       // we hold it, and are telling everything
    bool handing;       // the partner was asked to take it
    uint64_t switch_ns; // of the last flip in the dataplane
};

struct wait {
    struct session *session; // NULL: free
    uint64_t until_ms;
    session_await_fn done;
    void *opaque;
};

// A client's request that the partner was asked to serve.
struct errand {
    uint32_t number; // 0: free
    uint64_t until_ms;
    session_patched_fn done;
    void *opaque;
};

// A stream that the partner was told of.
struct told_stream {
    uint64_t trunk_id;
    uint8_t owner;
    char name[STREAM_NAME_MAX + 1];
};

// As on the channel (RFC 5880 4.1), and one more: the dataplane has not said yet.
enum { BFD_DOWN = 1, BFD_INIT, BFD_UP, BFD_UNKNOWN };

struct replicate {
    const struct config *config;
    struct sessions *set;
    uv_loop_t *loop;
    struct replink *link;
    uv_timer_t *tick; // frees itself
    uv_idle_t *soon;  // frees itself; runs while there is something to tell

    struct held_group group[2]; // [0] ours, [1] the partner's: channel numbers 1 and 2
    char state_path[128];       // the file that outlives this process
    uint64_t start_ms;
    bool contact; // we have heard the partner since our start, or need not
    bool drained; // by the operator: no new sessions
    bool lent;    // the partner had us take its group: it does not go back by itself
    uint64_t boot, partner_boot;

    // The connection.
    bool leader;
    uint32_t partner_workers;
    uint64_t up_ms, sent, acked, taken; // counted frames; taken: of the partner, dealt with
    uint64_t ack_owed;
    uint64_t unacked_ms;    // since when `acked` lags behind `sent`
    uint32_t round;         // of trunk keys
    struct wire_keys *keys; // locked pages: [0] ours of this round, [1] the partner's
    struct session_list queue, unacked, refused;
    struct wire_token *gone; // ring of ends to be told
    uint32_t gone_first, gone_count;
    struct told_stream *streams; // as many as there are slots
    uint64_t streams_version;    // of what was told
    bool partner_synced[2];      // the partner has named all that it alone had of a group
    bool sync_owed[2];           // SYNCED waits for the queue to be empty

    // The dataplane's word.
    uint32_t bfd_state, bfd_diag;
    uint64_t detect_ns;
    uint64_t bfd_since_ms; // of bfd_state
    uint64_t robbed_ms;    // when the partner took our group although nobody here had died; 0: no
    uint64_t alone_ms;     // since when a connection that there was is gone; 0: there was none
    uint64_t home_ms; // when our own group came to us; 0: it has not, or nothing is left to be done
    uint32_t groups_owed, peer_owed; // bit w: worker w's lane had no room for GROUP, or PEER

    struct wait waits[REPLICATE_WAITS];
    uint32_t wait_count;
    struct errand errands[REPLICATE_PATCHES];
    uint32_t errand_number; // of the last one
    struct {
        uint64_t imported, refused, taken_over, unconfirmed, conflicts, false_alarms;
    } counts;
    union wire_frame frame; // scratch
};

// replicate_tell.c
int replicate_send(struct replicate *r, void *frame); // counts it if it is to be
void replicate_soon(struct replicate *r);             // have the queue told in the next turn
// Tells the partner what is owed to it, as far as there is room.
void replicate_tell(struct replicate *r);
// Tells the partner everything of a group that we hold.
void replicate_synchronise(struct replicate *r, unsigned group);
// The partner's ACK: 0, or -EPROTO with a reason in `why`. And ours, if one is owed.
int replicate_acknowledged(struct replicate *r, const struct wire_ack *m, char *why,
                           size_t why_size);
void replicate_acknowledge(struct replicate *r);
// The partner has no copy of a session: it is not protected, and told again later.
void replicate_refused(struct replicate *r, const union wire_frame *frame);
void refused_tick(struct replicate *r, uint64_t now_ms);
// Whether the partner has a copy of every session of the group that it was told of: none that it
// refuses, or has yet to answer for.
bool replicate_has_all(const struct replicate *r, unsigned group);
// Nothing that was told of it is open any more.
void replicate_settled(struct replicate *r, struct session *session);
void tell_down(struct replicate *r); // the connection is gone: nothing waits to be told any more

// replicate_wait.c
void waits_tick(struct replicate *r, uint64_t now_ms);
void waits_end(struct replicate *r, const struct session *session, bool confirmed); // its own
void waits_down(struct replicate *r); // ends them all, unconfirmed

// replicate_state.c
void groups_load(struct replicate *r); // from the file that outlives us
void groups_save(const struct replicate *r);

// replicate_groups.c
void groups_hello(const struct replicate *r, struct wire_hello *hello);
void groups_up(struct replicate *r, const struct wire_hello *hello);
void groups_down(struct replicate *r);
void groups_frame(struct replicate *r, const union wire_frame *frame);
// Asks the partner to take a group that we hold. Again and again until it does.
void replicate_hand_over(struct replicate *r, unsigned group);
void groups_tick(struct replicate *r, uint64_t now_ms);

// replicate_peer.c
bool replicate_takes_address(const struct replicate *r); // the media addresses go with sessions
void groups_tell_dataplane(struct replicate *r);         // GROUP of both, to every lane
void keys_begin(struct replicate *r);                    // a round, if it is ours to begin
void keys_frame(struct replicate *r, const union wire_frame *frame);
void peer_tell_dataplane(struct replicate *r); // PEER, with this round's keys
void peer_tick(struct replicate *r);           // what found no room of either

// replicate_patch.c
void patch_frame(struct replicate *r, const union wire_frame *frame);
void patched_frame(struct replicate *r, const union wire_frame *frame);
void patches_tick(struct replicate *r, uint64_t now_ms);
void patches_down(struct replicate *r); // the connection is gone, and what waits with it

// replicate_import.c
void import_stream(struct replicate *r, const union wire_frame *frame);
void import_stream_gone(struct replicate *r, const union wire_frame *frame);
void import_session(struct replicate *r, const union wire_frame *frame);
// Says why we have no copy of the session that frame `count` told us of.
void import_refuse(struct replicate *r, const char *token, uint64_t count, enum wire_refusal why);
void import_session_gone(struct replicate *r, const union wire_frame *frame);
void import_dtls(struct replicate *r, const union wire_frame *frame);
void import_dtls_send(struct replicate *r, const union wire_frame *frame);
void import_end(struct replicate *r, struct session *session); // without telling the partner
// The partner no longer has it: its viewers wait for a publisher for a while.
void import_drop_stream(struct replicate *r, struct stream *stream);

// replicate_turn.c
void import_begin(struct replicate *r, unsigned group);      // a synchronisation: nothing seen yet
void import_sweep(struct replicate *r, unsigned group);      // forget what was not named
void import_taken_over(struct replicate *r, unsigned group); // it is ours now
void import_left(struct replicate *r, unsigned group);       // it is the partner's now
// Takes what was accepted while our group was the partner's, or viewers while the partner was away,
// and so is in none, into our group.
void import_unprotected(struct replicate *r);

static inline unsigned group_index(uint8_t owner) // of a frame that we received
{
    return owner == WIRE_MINE ? 1 : 0;
}

static inline bool group_held(const struct replicate *r, unsigned group)
{
    return r->group[group].role == GROUP_ACTIVE;
}

#endif
