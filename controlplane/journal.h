// The journal: what the control plane knows of its sessions and streams, in a file that outlives
// it.
//
// RUNTIME_DIR/sessions lies on tmpfs, for root only: one record for each slot of each worker and
// for each stream, values only. A record is changed as a whole. Wherever the process is killed, the
// next one finds the old record or the new one: a change is first written to a place of its own and
// announced by one word, then copied to where it belongs; opening the journal finishes what was
// announced. The records stand by themselves, so that a partner node can take them, too.
// Keys and tokens are in it: locked in memory, left out of core dumps.
// Loop thread; one process at a time has it (loop.c's lock). Limit: it does not outlive a reboot,
// nor a version with other records.
#ifndef HITLESS_JOURNAL_H
#define HITLESS_JOURNAL_H

#include "sdp_answer.h"
#include "session.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_VERSION 3u
#define JOURNAL_FILE "sessions"
#define JOURNAL_ETAG_MAX 16
#define JOURNAL_CLIENT_MAX 64

// FREE: `id` is the one that the slot was last used under, 0 for none; nothing else is kept.
// CLOSING: the dataplane was told to forget it and has not confirmed; only its id is kept, and a
// stream's `told`.
enum journal_state { JOURNAL_FREE, JOURNAL_OPEN, JOURNAL_CLOSING };

// Texts end with NUL.
struct session_record {
    uint64_t id;
    uint64_t created_ms; // since the epoch
    uint32_t worker;
    uint8_t state; // enum journal_state
    uint8_t phase; // enum session_phase
    uint8_t pad[10];
    char token[SESSION_TOKEN_LEN + 8];
    char etag[JOURNAL_ETAG_MAX];
    char client[JOURNAL_CLIENT_MAX];
    char stream[STREAM_NAME_MAX + 8];
    struct msg_session_open open;  // role, ICE credentials, tracks
    struct msg_session_keys keys;  // head.length 0: none, its handshake was not done
    struct msg_numbers numbers;    // protected sessions: as the dataplane last said
    struct abi_addr remote, local; // family 0: no path yet
    uint8_t mac[6], pad2[2];
};

// Its publisher is the open session of role publish that names it.
struct stream_record {
    uint64_t id;
    uint64_t since_ms; // live since, since the epoch
    uint32_t source_worker;
    uint32_t told; // bit w: worker w may know it
    uint8_t state; // enum journal_state
    uint8_t live, stalled;
    uint8_t group;  // protection group
    uint8_t remote; // the partner has its publisher
    uint8_t home;   // worker of its publisher, as msg_session_open has it
    uint8_t pad[2];
    uint64_t trunk_id;
    char name[STREAM_NAME_MAX + 8];
    struct sdp_tracks tracks;
};

// Stands in the program, so that its file can be asked for the journal that it writes: the same
// bytes in another build, and that one goes on with ours.
extern const void *const journal_mark;
extern const size_t journal_mark_size;

struct journal;

// Opens DIR/sessions for so many slots, or makes it; DIR is root-only. A file of another version or
// for other numbers is replaced by an empty one, which is logged. 0, or a negative errno with a
// line for a person in `why`.
int journal_open(struct journal **out, const char *dir, uint32_t workers, uint32_t max_sessions,
                 uint32_t max_streams, char *why, size_t why_size);
// The file stays. NULL is fine.
void journal_close(struct journal *journal);

// The record of a slot. Valid until journal_close; changed by the next put. NULL: no such slot.
const struct session_record *journal_session(const struct journal *journal, uint32_t worker,
                                             uint32_t slot);
const struct stream_record *journal_stream(const struct journal *journal, uint32_t slot);

// Replaces the record of the slot that `record` names. A slot that does not exist is ignored.
void journal_put_session(struct journal *journal, const struct session_record *record);
void journal_put_stream(struct journal *journal, const struct stream_record *record);

// Whether a record, from a file or from another node, is one: state, ids, texts and messages.
bool session_record_valid(const struct session_record *record);
bool stream_record_valid(const struct stream_record *record);

#endif
