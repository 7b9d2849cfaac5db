// Streams: what is published under which name, who watches it, and what the workers know of it.
//
// Pure bookkeeping for the control plane's loop: messages leave through a callback, time comes in.
// It holds what each worker should know against what it was told, and sends the difference
// (streams_sync), so a full channel or a restarted dataplane only means "later".
// A stream whose publisher has gone stays for a while, so that its viewers live through a
// re-publish. Every change is put into the journal.
#ifndef HITLESS_STREAMS_H
#define HITLESS_STREAMS_H

#include "sdp_answer.h"
#include "session.h"
#include <sys/queue.h>

struct streams;
struct journal;
struct stream_record;
LIST_HEAD(viewers, session); // linked through session.viewer; owned by session.c

struct stream {
    char name[STREAM_NAME_MAX + 1];
    uint64_t id;
    struct session *publisher; // NULL: gone, since `gone_ms`
    uint64_t gone_ms;
    struct sdp_tracks tracks; // as negotiated with the publisher
    struct viewers viewers;
    uint32_t viewer_count;
    uint32_t worker_viewers[ABI_MAX_WORKERS];
    uint32_t source_worker;
    uint8_t home;      // of the publisher, see msg_session_open
    bool live;         // packets flow
    bool stalled;      // packets flowed, and stopped or ended with BYE
    uint64_t since_ms; // live since, since the epoch
    uint64_t trunk_id; // the same on both nodes of a pair
    uint8_t group;     // protection group of its publisher
    bool seen;         // named by the partner in this synchronisation
    bool remote;       // the partner has its publisher, and feeds us over the trunk

    // streams.c's own.
    uint32_t told;    // bit w: worker w was sent a STREAM_OPEN and no STREAM_CLOSE since
    uint32_t current; // bit w: and it was the newest one
    uint32_t forward; // workers of the last STREAM_FORWARD, or FORWARD_UNKNOWN
    bool removed;     // only waits for its STREAM_CLOSEs to be sent
    struct stream *next;
    LIST_ENTRY(stream) all;
};

// Sends a message to a lane; 0 or a negative errno (then it is tried again at the next sync).
typedef int (*streams_send_fn)(void *opaque, uint32_t lane, const void *message);

// A table for up to `max` streams on `workers` workers. Generations begin at `first_generation`.
// `journal` outlives it; NULL: nothing is kept.
int streams_new(struct streams **out, uint32_t max, uint32_t workers, uint32_t first_generation,
                struct journal *journal, streams_send_fn send, void *opaque);
// The journal stays as it is.
void streams_free(struct streams *streams);

// Whether `name` is one: 1..STREAM_NAME_MAX of [A-Za-z0-9._-].
bool stream_name_valid(const char *name);

struct stream *streams_find(struct streams *streams, const char *name);
struct stream *streams_by_id(struct streams *streams, uint64_t id);

// Whether viewers of `stream` can go on with what another publisher would send.
bool stream_compatible(const struct stream *stream, const struct sdp_tracks *tracks);

// Gives `name` a publisher on `worker`: makes the stream, or revives one that has none and is
// stream_compatible. 0 and the stream; -EBUSY: it has a publisher; -EPROTO: not compatible;
// -ENOSPC: the table is full; -ENOMEM.
int stream_publish(struct streams *streams, const char *name, struct session *publisher,
                   uint32_t worker, const struct sdp_tracks *tracks, struct stream **out);
// Says which protection group the stream belongs to, and whether the partner feeds it.
void stream_protect(struct streams *streams, struct stream *stream, uint8_t group, bool remote,
                    uint64_t trunk_id);
// Its publisher is at worker `home` of the node that accepted it; at first that is taken to be us.
void stream_at_home(struct streams *streams, struct stream *stream, uint8_t home);
// Whether somebody publishes it, here or at the partner.
bool stream_fed(const struct stream *stream);
// A number that changes with every change of a stream.
uint64_t streams_version(const struct streams *streams);

// The publisher is gone. Without viewers the stream goes at once.
void stream_unpublish(struct streams *streams, struct stream *stream, uint64_t now_ms);

// Counts a viewer on `worker` in and out. The caller links the session into `viewers`. A stream
// without publisher goes with its last viewer.
void stream_view(struct streams *streams, struct stream *stream, uint32_t worker);
void stream_unview(struct streams *streams, struct stream *stream, uint32_t worker);

// Forgets a stream: its name is free from now on. No viewer and no publisher may be left.
void stream_remove(struct streams *streams, struct stream *stream);

// MSG_STREAM_STATE. `clock_ms` is since the epoch.
void stream_state(struct streams *streams, struct stream *stream, enum stream_state state,
                  uint64_t clock_ms);

// A stream whose publisher left `grace_ms` ago or earlier, or NULL.
struct stream *streams_expired(struct streams *streams, uint64_t now_ms, uint64_t grace_ms);

// Knows a stream of the journal again, without publisher and viewers. Its table is new. 0, -EBUSY,
// -EINVAL or -ENOMEM.
int streams_restore(struct streams *streams, const struct stream_record *record, uint64_t now_ms);
// Gives a restored stream its publisher back. False if it has another, or was fed elsewhere.
bool stream_rejoin(struct stream *stream, struct session *publisher, uint32_t worker);
// Removes what nobody publishes or watches. To be called once all sessions are back.
void streams_restored(struct streams *streams);
// A stream that the dataplane serves: if its slot is unknown here, every worker forgets it, then
// its number is free. 0, -EBUSY where the slot is in use, or as streams_restore.
int streams_disown(struct streams *streams, uint64_t id);

// Sends what the workers do not know yet. 0, or a negative errno if something could not be sent.
int streams_sync(struct streams *streams);
// One side of the channel has started anew: whatever was said may be lost, and is said again.
void streams_repeat(struct streams *streams);

// Visits every stream; `visit` may not add or remove any.
void streams_visit(struct streams *streams, void (*visit)(struct stream *, void *), void *opaque);

#endif
