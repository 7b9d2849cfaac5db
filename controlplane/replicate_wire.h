// What two partner nodes say to each other: every frame of the replication connection.
//
// A frame is a struct wire_head and its body, in the byte order and with the channel messages of
// the ABI version that HELLO names; nodes that differ in either part before anything else is said.
// Pure: bytes in, verdict out. Everything that a frame holds is checked here, but what it refers to
// (a token, a name) is the receiver's to look up.
#ifndef HITLESS_REPLICATE_WIRE_H
#define HITLESS_REPLICATE_WIRE_H

#include "../dataplane/abi/messages.h"
#include "journal.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC 0x70726c68u // "hlrp"; another byte order reads as another magic
#define WIRE_VERSION 6u
#define WIRE_FRAME_MAX 4096 // bytes, head included
#define WIRE_REASON_MAX 128
#define WIRE_MATCH_MAX 256 // If-Match of a forwarded request, NUL included
#define WIRE_TEXT_MAX 3072 // SDP fragment of a forwarded request, or of its answer

// X(name, state, what it is); frames with state 1 are counted and acknowledged.
#define WIRE_LIST(X)                                                                               \
    X(HELLO, 0, "first of all: version, who we are, where our media is, what we hold")             \
    X(REFUSE, 0, "why we hang up")                                                                 \
    X(PING, 0, "we live")                                                                          \
    X(ACK, 0, "how many counted frames we have dealt with")                                        \
    X(KEYS, 0, "a fresh key that we send trunk packets with")                                      \
    X(REKEY, 0, "our dataplane is new: begin another round of KEYS")                               \
    X(GROUP, 1, "who sends for a group from now on, and the term")                                 \
    X(STREAM, 1, "a stream of the group: tracks and codecs")                                       \
    X(STREAM_GONE, 1, "its stream is gone")                                                        \
    X(SESSION, 1, "a session of the group, whole, new or changed")                                 \
    X(REFUSED, 0, "why we have no copy of a session that we were told of")                         \
    X(SESSION_GONE, 1, "its session is over")                                                      \
    X(SYNCED, 1, "that was everything: forget what was not named")                                 \
    X(DTLS, 0, "a DTLS datagram that came to the node without the session's handshake")            \
    X(DTLS_SEND, 0, "one of the node with the handshake, for the client of who serves it")         \
    X(RIGHT, 0, "of a viewer: who may say where its numbers begin")                                \
    X(PATCH, 0, "an ICE restart that a client asked the standby of its session for")               \
    X(PATCHED, 0, "what it came to")

enum wire_type {
    WIRE_NONE,
#define X(name, state, help) WIRE_##name,
    WIRE_LIST(X)
#undef X
        WIRE_TYPES
};

struct wire_head {
    uint32_t length; // of the whole frame
    uint16_t type;   // enum wire_type
    uint16_t pad;
};

// A pair has two groups, each named after the node whose sessions they were first: on the wire
// the sender's own and the receiver's own.
enum wire_owner { WIRE_MINE, WIRE_YOURS };

struct wire_group {
    struct wire_head head; // zero inside HELLO
    uint32_t term;
    uint8_t owner; // enum wire_owner
    uint8_t role;  // enum group_role of the sender
    uint8_t wish;  // enum group_role that the receiver is to take; 0: only telling
    uint8_t pad;
};

// The first 48 bytes never change, so that any version can say which one it met.
struct wire_hello {
    struct wire_head head;
    uint32_t magic, version;
    char node[ABI_NAME_LEN];
    uint32_t abi_version;
    uint32_t session_size, stream_size; // of struct wire_session and wire_stream
    uint32_t workers;
    uint64_t boot; // of this control plane
    struct abi_addr media4, media6;
    struct wire_group group[2]; // by owner
};

struct wire_refuse {
    struct wire_head head;
    char reason[WIRE_REASON_MAX];
};

struct wire_ack {
    struct wire_head head;
    uint64_t count; // counted frames since the connection began
};

struct wire_keys {
    struct wire_head head;
    uint32_t round; // the leader counts; an answer repeats it
    uint8_t key[MSG_TRUNK_KEY];
};

struct wire_stream {
    struct wire_head head;
    uint8_t owner, pad[7];
    struct stream_record record; // id, source worker, told and group are the sender's
};

struct wire_stream_gone {
    struct wire_head head;
    uint8_t owner, pad[7];
    char name[STREAM_NAME_MAX + 8];
};

struct wire_token {
    char text[SESSION_TOKEN_LEN + 8]; // NUL-terminated
};

struct wire_session {
    struct wire_head head;
    uint8_t owner, pad[7];
    struct session_record record; // id, stream id, group and worker are the sender's; the
                                  // receiver's worker is open.home modulo its own number
};

// X(name, why a node has no copy of its partner's session, in words for operators of the other).
#define WIRE_REFUSALS(X)                                                                           \
    X(STREAM, "its stream is not known there")                                                     \
    X(PUBLISHER, "another publishes its stream there")                                             \
    X(ROOM, "no worker has room for it there")                                                     \
    X(DATAPLANE, "the dataplane there refuses it")

enum wire_refusal {
    WIRE_REFUSAL_NONE,
#define X(name, help) WIRE_REFUSAL_##name,
    WIRE_REFUSALS(X)
#undef X
        WIRE_REFUSAL_COUNT
};

struct wire_refused {
    struct wire_head head;
    struct wire_token token;
    uint64_t count; // of the counted frame that told us; 0: one that we had taken at first
    uint8_t why;    // enum wire_refusal, not NONE
    uint8_t pad[7];
};

struct wire_session_gone {
    struct wire_head head;
    struct wire_token token;
};

struct wire_synced {
    struct wire_head head;
    uint8_t owner;
    uint8_t all; // 1: of the holder, who has named every session; 0: what it alone knew
    uint8_t pad[6];
};

struct wire_dtls {
    struct wire_head head;
    struct wire_token token;
    uint32_t size;
    uint32_t pad;
    uint8_t data[MSG_DATAGRAM_MAX];
};

struct wire_right {
    struct wire_head head;
    struct wire_token token;
    struct msg_right right; // as RIGHT_PASS; its id is the sender's
};

struct wire_patch {
    struct wire_head head;
    struct wire_token token;
    uint32_t number; // of the sender's request, for the answer
    uint32_t size;   // of `text`
    char if_match[WIRE_MATCH_MAX];
    char text[WIRE_TEXT_MAX];
};

struct wire_patched {
    struct wire_head head;
    uint32_t number;
    uint16_t status, retry_after_s; // of HTTP
    char etag[JOURNAL_ETAG_MAX];
    char reason[256];
    uint32_t size; // of `text`; 0: no body
    uint32_t pad;
    char text[WIRE_TEXT_MAX];
};

union wire_frame {
    struct wire_head head;
    struct wire_hello hello;
    struct wire_refuse refuse;
    struct wire_ack ack;
    struct wire_keys keys;
    struct wire_group group;
    struct wire_stream stream;
    struct wire_stream_gone stream_gone;
    struct wire_session session;
    struct wire_refused refused;
    struct wire_session_gone session_gone;
    struct wire_synced synced;
    struct wire_dtls dtls;
    struct wire_right right;
    struct wire_patch patch;
    struct wire_patched patched;
    uint8_t bytes[WIRE_FRAME_MAX];
};
_Static_assert(sizeof(union wire_frame) == WIRE_FRAME_MAX, "every frame fits");
_Static_assert(offsetof(struct wire_hello, abi_version) == 48, "what every version understands");

// How long the frame at the start of `size` bytes is: 0 when more bytes are needed to know, its
// length, or -EBADMSG when no frame begins so.
int wire_length(const void *bytes, size_t size);

// Whether a whole frame (head.length bytes, 8-byte aligned) is what its type demands. HELLO is
// checked only as far as all versions agree; see wire_check_hello. 0 or -EBADMSG.
int wire_check(const struct wire_head *frame);

// Whether we can talk with who sent this: 0, or -EPROTO with a line for a person in `why`.
// `partner` is the name that we expect.
int wire_check_hello(const struct wire_hello *hello, const char *partner, char *why,
                     size_t why_size);

bool wire_counted(uint16_t type);     // whether it is acknowledged
const char *wire_name(uint16_t type); // "HELLO" …
// In words; NULL for NONE and what is no refusal.
const char *wire_refusal_text(uint8_t why);

#endif
