// Every message that crosses the channel, in both directions: the whole contract in one place.
//
// A message is a struct msg_head followed by its body, at most MSG_MAX bytes, in host byte order.
// "down" goes from the control plane to the lane that owns the session (worker w is lane 1 + w),
// "up" comes back on the same lane. The receiver validates every length, count and index.
#ifndef HITLESS_MESSAGES_H
#define HITLESS_MESSAGES_H

#include "abi.h"

#define MSG_MAX 2048
#define MSG_DATAGRAM_MAX 1600 // a DTLS datagram
#define MSG_UFRAG_LEN 8       // our own ICE username fragment is exactly this long (RFC 8445 5.3)
#define MSG_PWD_LEN 24        // our own ICE password is exactly this long
#define MSG_REMOTE_ICE_MAX 256
#define MSG_KEY_MAX 46 // SRTP master key and salt: 30 (AES-CM), 28 (GCM-128) or 44 (GCM-256)
#define MSG_MAX_TRACKS 4
#define MSG_MAX_LAYERS 3
#define MSG_MID_LEN 16
#define MSG_NO_PT 0xff

// X(name, direction, what it is)
#define MSG_LIST(X)                                                                                \
    X(SESSION_OPEN, down, "a session: ICE credentials, role, stream, tracks")                      \
    X(SESSION_KEYS, down, "SRTP keys of a session, after DTLS")                                    \
    X(SESSION_ICE, down, "new ICE credentials of a session (ICE restart)")                         \
    X(SESSION_CLOSE, down, "forget a session; answered by SESSION_CLOSED")                         \
    X(DTLS_SEND, down, "a datagram for a session's validated address")                             \
    X(STREAM_OPEN, down, "a stream that this worker serves: tracks and source")                    \
    X(STREAM_CLOSE, down, "forget a stream on this worker")                                        \
    X(STREAM_FORWARD, down, "which other workers the source worker hands the stream to")           \
    X(MODE, down, "admission: normal, closed, drain (lane 0)")                                     \
    X(PEER, down, "a partner node: addresses, trunk keys, BFD timers (every lane)")                \
    X(GROUP, down, "a protection group: its partner, who sends, the term (every lane)")            \
    X(SESSION_ADOPT, down, "numbers and path of a session that a partner serves")                  \
    X(RIGHT_PASSED, down, "the partner's word on where a viewer's numbers begin")                  \
    X(STALL, down, "hang for a while, to see what happens (operator.kill_test)")                   \
    X(SESSION_PATH, up, "a check validated the session's address, first or new")                   \
    X(SESSION_MEDIA, up, "first authenticated SRTP or SRTCP packet of a session")                  \
    X(SESSION_DEAD, up, "a session without liveness, or refused")                                  \
    X(SESSION_CLOSED, up, "the session's slot is free again")                                      \
    X(DTLS_RECEIVED, up, "a DTLS datagram from the session's validated address")                   \
    X(STREAM_STATE, up, "a stream's packets began, stopped or ended with BYE")                     \
    X(SESSION_NUMBERS, up, "a viewer's numbers, for its partner: new, or a lease extended")        \
    X(RIGHT_PASS, up, "to the partner: who may say where a viewer's numbers begin")                \
    X(PEER_STATE, up, "BFD towards a partner changed")                                             \
    X(GROUP_STATE, up, "a group's active side changed by failure detection")

enum msg_type {
    MSG_NONE,
#define X(name, dir, help) MSG_##name,
    MSG_LIST(X)
#undef X
        MSG_TYPES
};

enum session_role { ROLE_PUBLISH = 1, ROLE_PLAY };
enum media_kind { KIND_AUDIO = 1, KIND_VIDEO };

enum codec {
    CODEC_NONE,
    CODEC_OPUS,
    CODEC_VP8,
    CODEC_VP9,
    CODEC_H264,
    CODEC_H265,
    CODEC_AV1,
    CODEC_PCMU,
    CODEC_PCMA,
    CODECS
};

// Numbers of RFC 5764 and RFC 7714's registry of DTLS-SRTP protection profiles.
enum srtp_profile {
    PROFILE_NONE = 0,
    PROFILE_AES128_CM_SHA1_80 = 0x0001,
    PROFILE_AEAD_AES_128_GCM = 0x0007,
    PROFILE_AEAD_AES_256_GCM = 0x0008,
};

// RTP header extensions that we know; the rest are dropped on the way (RFC 8285).
#define HDREXT_LIST(X)                                                                             \
    X(MID, "urn:ietf:params:rtp-hdrext:sdes:mid")                                                  \
    X(RID, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id")                                        \
    X(REPAIRED_RID, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id")                      \
    X(ABS_SEND_TIME, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time")                 \
    X(TRANSPORT_CC, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01")   \
    X(AUDIO_LEVEL, "urn:ietf:params:rtp-hdrext:ssrc-audio-level")                                  \
    X(VIDEO_ORIENTATION, "urn:3gpp:video-orientation")                                             \
    X(PLAYOUT_DELAY, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay")                 \
    X(ABS_CAPTURE_TIME, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time")           \
    X(DEPENDENCY_DESCRIPTOR,                                                                       \
      "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension")   \
    X(VIDEO_CONTENT_TYPE, "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type")       \
    X(COLOR_SPACE, "http://www.webrtc.org/experiments/rtp-hdrext/color-space")

enum hdrext {
#define X(name, uri) HDREXT_##name,
    HDREXT_LIST(X)
#undef X
        HDREXTS
};

// RTCP feedback that the two ends agreed on for a track (RFC 4585, 5104).
enum track_feedback { FB_NACK = 1, FB_PLI = 2, FB_FIR = 4, FB_TRANSPORT_CC = 8, FB_REMB = 16 };

struct msg_layer {
    uint32_t ssrc; // publisher: 0 is "learn from mid, rid or payload type"; viewer: ours to send
    uint32_t rtx_ssrc;     // 0: no RTX, or learn
    char rid[MSG_MID_LEN]; // "" without simulcast
};

// One m-line of one session, as negotiated with that client.
struct msg_track {
    uint8_t kind;  // enum media_kind
    uint8_t codec; // enum codec
    uint8_t pt;
    uint8_t rtx_pt; // MSG_NO_PT: no RTX
    uint32_t clock_rate;
    uint8_t feedback; // bits of enum track_feedback
    uint8_t layers;   // 1..MSG_MAX_LAYERS, best first
    uint8_t source;   // viewer: index of the stream's track that feeds this one
    uint8_t pad;
    uint8_t hdrext[16]; // id 1..14 of each enum hdrext in this session, 0: not negotiated
    char mid[MSG_MID_LEN];
    struct msg_layer layer[MSG_MAX_LAYERS];
};
_Static_assert(HDREXTS <= 16, "msg_track.hdrext holds every known extension");

// A session is (generation << 32 | slot); the control plane hands out slots per worker and reuses
// one only after SESSION_CLOSED. The same numbering holds for streams, per node.
#define MSG_SLOT(id) ((uint32_t)(id))
#define MSG_GENERATION(id) ((uint32_t)((id) >> 32))

struct msg_head {
    uint16_t type;   // enum msg_type
    uint16_t length; // of the whole message, this head included
    uint32_t pad;
    uint64_t id; // session, or stream for STREAM_*; 0 for MODE
};

struct msg_ice {
    char ufrag[MSG_UFRAG_LEN]; // not NUL-terminated
    char pwd[MSG_PWD_LEN];     // not NUL-terminated
    uint16_t remote_ufrag_len, remote_pwd_len;
    char remote_ufrag[MSG_REMOTE_ICE_MAX];
    char remote_pwd[MSG_REMOTE_ICE_MAX];
};

struct msg_session_open {
    struct msg_head head;
    uint64_t stream;
    uint8_t role; // enum session_role
    uint8_t tracks;
    uint8_t group;    // protection group, 1..MSG_GROUPS - 1; 0: not protected, always ours
    uint8_t imported; // 1: from the partner, whose numbers SESSION_ADOPT says; none are made up
    uint8_t again;    // 1: it had keys already; one that is not there any more has lost its numbers
                      // and would start over with keys that were used
    uint8_t home;     // the worker, of the node that accepted it, whose port its client was told;
                      // with a partner it is at this one modulo the node's number of workers
    uint8_t pad[2];
    struct msg_ice ice;
    struct msg_track track[MSG_MAX_TRACKS];
};

struct msg_session_keys {
    struct msg_head head;
    uint16_t profile; // enum srtp_profile
    uint8_t pad[2];
    uint8_t local[MSG_KEY_MAX];  // master key, then master salt, of what we send
    uint8_t remote[MSG_KEY_MAX]; // the same of what we receive
};

struct msg_session_ice {
    struct msg_head head;
    struct msg_ice ice;
};

struct msg_session_close {
    struct msg_head head;
};

struct msg_dtls {
    struct msg_head head;   // DTLS_SEND and DTLS_RECEIVED
    struct abi_addr remote; // up: where it came from; down: ignored
    uint16_t size;
    uint16_t pad;
    uint8_t data[MSG_DATAGRAM_MAX];
};

struct msg_stream_open {
    struct msg_head head;
    uint8_t source_worker; // the worker that holds the publisher's session or takes the trunk
    uint8_t tracks;
    uint8_t group; // of the publisher's session; 0: it is ours alone
    uint8_t peers; // bit p: partner p gets the stream over its trunk while we are the source
    uint8_t home;  // as the publisher's session says: a partner's source worker is this one modulo
                   // its number of workers
    uint8_t pad[3];
    uint64_t trunk_id; // names the stream on trunks, the same on every node; 0: not on any
    struct msg_track track[MSG_MAX_TRACKS]; // as negotiated with the publisher
};

struct msg_stream_close {
    struct msg_head head;
};

struct msg_stream_forward {
    struct msg_head head;
    uint32_t
        workers; // bit w: worker w serves viewers of this stream; the source's own bit is ignored
    uint32_t pad;
};

struct msg_mode {
    struct msg_head head;
    uint32_t mode; // enum abi_mode
    uint32_t pad;
};

#define MSG_STALL_MAX_MS 10000

struct msg_stall {
    struct msg_head head; // id: 1
    uint32_t ms;          // 1..MSG_STALL_MAX_MS
    uint32_t pad;
};

struct msg_session_path {
    struct msg_head head;
    struct abi_addr remote;
    struct abi_addr local;
    uint8_t mac[6]; // next hop's link address
    uint8_t pad[2];
};

struct msg_session_media {
    struct msg_head head;
};

enum msg_dead_reason {
    DEAD_TIMEOUT = 1,
    DEAD_REFUSED_MODE,
    DEAD_REFUSED_SLOT,
    DEAD_REFUSED_INVALID,
    DEAD_NUMBERS, // the partner, out of sight, may have used the session's next numbers
    DEAD_JUMP     // a publisher left out more numbers than a partner could follow
};

struct msg_session_dead {
    struct msg_head head;
    uint32_t reason; // enum msg_dead_reason
    uint32_t pad;
};

struct msg_session_closed {
    struct msg_head head;
};

enum stream_state { STREAM_IDLE, STREAM_LIVE, STREAM_BYE };

struct msg_stream_state {
    struct msg_head head;
    uint32_t state; // enum stream_state; IDLE after 2 s without a packet
    uint32_t pad;
};

// Protection. A node has at most MSG_PEERS partners and MSG_GROUPS - 1 groups; a group is the
// sessions of one node that one partner protects, so a pair has two groups, one each way.
#define MSG_PEERS 4
#define MSG_GROUPS 16
#define MSG_TRUNK_KEY 28 // AEAD_AES_128_GCM master key and salt, RFC 7714

struct msg_peer {
    struct msg_head head; // id: partner number + 1; a second message with other keys replaces them
    struct abi_addr remote4, remote6; // its media addresses, port of worker 0; family 0: none
    uint16_t workers;                 // of the partner
    uint8_t present;                  // 0: forget it
    uint8_t multihop;                 // BFD of RFC 5883 on port 4784, else RFC 5881 on 3784
    uint8_t local[MSG_TRUNK_KEY];     // of what we send; fresh for each message: an index is
    uint8_t remote[MSG_TRUNK_KEY];    // never used twice with a key
    uint32_t bfd_tx_us, bfd_rx_us;    // >= 10,000
    uint8_t bfd_multiplier;
    uint8_t bfd_key_length; // 0: BFD without authentication
    uint8_t bfd_key[20];
    uint8_t pad[2];
};

enum group_role { GROUP_STANDBY = 1, GROUP_ACTIVE };

struct msg_group {
    struct msg_head head;         // id: group number
    uint32_t term;                // grows with every change of side, see msg_next_term
    uint8_t peer;                 // partner number
    uint8_t role;                 // enum group_role: what this node is to do now
    uint8_t takeover;             // 1: a standby takes over when BFD says that the partner is down
    uint8_t home;                 // 1: its sessions were first here, 0: at the partner
    struct abi_addr take4, take6; // media addresses of the group's home that go to whoever serves
                                  // it, on a shared subnet; family 0: they stay
};

// The next term of a group that its home or the other node is to serve: even at home, odd at the
// partner. Two nodes that decide at once never decide on the same one, and RTX numbers follow it.
static inline uint32_t msg_next_term(uint32_t term, _Bool home)
{
    return home ? (term | 1) + 1 : (term + 1) | 1;
}

// One viewer's numbers: with them a partner writes the same bytes under the same index.
struct msg_numbers {
    uint64_t delta[MSG_MAX_TRACKS];     // our index = the track's index + delta, mod 2^48
    uint64_t rtx_limit[MSG_MAX_TRACKS]; // RTX indexes below this may have been used
    uint8_t numbered;                   // bit t: delta[t] is set
    uint8_t pad[7];
};

// Takes newer numbers over, but no limit that is lower: the way back is not known to be free.
// Whether there was one.
static inline _Bool msg_numbers_merge(struct msg_numbers *numbers, const struct msg_numbers *newer)
{
    struct msg_numbers old = *numbers;
    _Bool lower = 0;
    *numbers = *newer;
    for (int t = 0; t < MSG_MAX_TRACKS; t++)
        if (numbers->rtx_limit[t] < old.rtx_limit[t]) {
            numbers->rtx_limit[t] = old.rtx_limit[t];
            lower = 1;
        }
    return lower;
}

struct msg_session_numbers {
    struct msg_head head;
    struct msg_numbers numbers;
};

struct msg_session_adopt {
    struct msg_head head;
    struct msg_numbers numbers;
    struct abi_addr remote, local; // family 0: no path yet
    uint8_t mac[6];
    uint8_t pad[2];
};

// A viewer's track that was never fed has no numbers, and only one of two nodes may give it some,
// see failover_session.c. Who serves asks, who stands by answers; RIGHT_PASS and RIGHT_PASSED.
struct msg_right {
    struct msg_head head;
    uint32_t term;    // of the group; in another one the message is void
    uint8_t asked;    // bits of tracks whose numbers the sender, who serves, lacks
    uint8_t left;     // of those that the receiver may begin from now on, at `first`
    uint8_t numbered; // of those that have numbers: `first` is their delta
    uint8_t given;    // asked: of those that the sender once left to the receiver, in `left_term`;
                      // answered: of those, what was never taken and is the asking one's again
    uint32_t left_term;
    uint32_t taken_term; // what was left in a later term than this, the sender has not taken
    uint64_t first[MSG_MAX_TRACKS];     // mod 2^48
    uint64_t rtx_limit[MSG_MAX_TRACKS]; // of those two: RTX indexes below this may have been used
};

struct msg_peer_state {
    struct msg_head head; // id: partner number + 1
    uint32_t state;       // enum bfd_state: 0 admin down, 1 down, 2 init, 3 up
    uint32_t diag;        // RFC 5880 4.1
    uint64_t detect_ns;   // from the partner's last packet to the verdict; 0 if not down
};

struct msg_group_state {
    struct msg_head head; // id: group number
    uint32_t term;
    uint32_t role;      // enum group_role now
    uint64_t switch_ns; // what the flip itself took
};

_Static_assert(sizeof(struct msg_session_open) <= MSG_MAX, "fits a slot");
_Static_assert(sizeof(struct msg_dtls) <= MSG_MAX, "fits a slot");
_Static_assert(sizeof(struct msg_stream_open) <= MSG_MAX, "fits a slot");

// Whether a message of either direction is what its type demands: length, counts, ranges, alphabets
// and terminators. `m` is at least a head, and head.length bytes can be read at it (channel_peek
// sees to both). Session and stream ids are not 0 and MODE's is; whether a slot exists is for the
// receiver, who knows the configuration. Returns 0, or -EBADMSG.
int msg_check(const struct msg_head *m);

// Whether `type` is one of the messages that travel up.
_Bool msg_is_up(uint16_t type);

#endif
