// One worker's sessions and streams. Only that worker's thread reads and writes them: commands
// arrive over its own channel lane, so there is no lock and no RCU.
// A struct session holds no pointers, so that the array can lie in memory that outlives the
// process.
#ifndef HITLESS_TABLES_H
#define HITLESS_TABLES_H

#include "abi/messages.h"
#include "abi/stats.h"
#include "cache.h"
#include "gaps.h"
#include "map.h"
#include "nack_policy.h"
#include "parse.h"
#include "protect.h"
#include "rtp.h"
#include "stun.h"
#include "twcc.h"

#define SESSION_PATHS 4 // validated remote addresses that a session may have
#define PATH_NONE UINT8_MAX
#define SESSION_RTCP_SOURCES 4 // SSRCs that a viewer's RTCP may come from
#define STREAM_RTCP_SOURCES 16 // and a publisher's
#define STREAM_RETIRED 8       // SSRCs that a publisher gave up, remembered
#define SUB_NONE UINT32_MAX
#define GAPS_TRUNK MSG_MAX_LAYERS
// Different header-extension numberings among a track's viewers. Twice what one node's control
// plane admits (session_offer.c), since two nodes of a pair may admit at the same moment.
#define TRACK_MAPS 16
#define INDEX_MASK ((UINT64_C(1) << 48) - 1) // SRTP's packet index, RFC 3711 3.3.1
// Indexes left free below a viewer's first, for packets before its time, and above those that the
// partner may have used; below 2^15, or receivers lose the rollover count.
#define INDEX_SPARE 0x4000

enum session_state { SESSION_FREE, SESSION_OPEN, SESSION_KEYED };

// What a viewer reported of one of its tracks.
struct session_track {
    uint32_t loss_permille, jitter; // of the last report; jitter in clock units
    uint64_t lost;
    struct nack_budget budget;
    struct nack_gate gate;
    uint64_t earned;             // packets sent for which the budget has been given its share
    uint64_t reported;           // packets sent until the last report
    uint32_t asked_since_report; // packets
};

struct session_path {
    struct abi_addr remote; // family 0: unused
    uint64_t heard_ns;
    uint64_t proven_ns; // when it last answered us, see ice.h; 0: never
};

// One track towards a viewer: what changes or is read when a packet is written for it. Its numbers
// outlive the stream and the process, because none may be used twice with one key.
struct sub {
    _Alignas(ABI_CACHE_LINE) uint64_t delta; // our index = the track's index + delta, mod 2^48;
                                             // while not numbered, the first index to use. Above
                                             // the 48 bits what must change with it, see sub_number
    uint64_t packets;
    uint64_t bytes;     // of whole RTP packets
    uint64_t octets;    // of their payloads
    uint64_t rtx_index; // next index of the RTX stream
    uint32_t ssrc, rtx_ssrc;
    uint32_t last_timestamp;
    uint32_t place; // in the track's viewers; SUB_NONE: not joined
    uint8_t pt, rtx_pt;
    uint8_t map;      // of the track's maps
    bool keyed;       // video: a key frame has been sent
    bool catching_up; // it gets the ring's packets first, see catchup.h; never true while keyed
    bool foreign;     // its numbers are the partner's to say, which has not done so yet
    uint8_t pad[2];
};
_Static_assert(sizeof(struct sub) == ABI_CACHE_LINE, "one line per viewer and track");

#define SUB_NUMBERED (UINT64_C(1) << 63) // in delta
#define SUB_SPACE_BIT 48                 // where the number of a space begins, 15 bits of it

static inline bool sub_numbered(const struct sub *sub)
{
    return sub->delta & SUB_NUMBERED;
}

// From here on the viewer's numbers are the track's plus `delta`. One store, because the process
// may end at any instant, and what it leaves must say either the one or the other.
static inline void sub_number(struct sub *sub, uint64_t delta)
{
    __atomic_store_n(&sub->delta, (delta & INDEX_MASK) | SUB_NUMBERED, __ATOMIC_RELAXED);
}

// The same where the track goes on in the index space number `space`: noted, so that who is
// interrupted between two viewers does not move the first one twice.
static inline void sub_move(struct sub *sub, uint64_t delta, uint64_t space)
{
    uint64_t note = (space << SUB_SPACE_BIT) & ~(SUB_NUMBERED | INDEX_MASK);
    __atomic_store_n(&sub->delta, (delta & INDEX_MASK) | note | SUB_NUMBERED, __ATOMIC_RELAXED);
}

// Whether it has been moved to that space already, while its track is still in another one. Spaces
// that are noted alike are not told apart, nor is one noted as 0 from none: then it has not.
static inline bool sub_moved(const struct sub *sub, uint64_t from, uint64_t to)
{
    const uint64_t bits = 0x7fff;
    return (to & bits) && ((from ^ to) & bits) && ((sub->delta >> SUB_SPACE_BIT ^ to) & bits) == 0;
}

// Its numbers stay with it: they go on at `first` when it is numbered again.
static inline void sub_unnumber(struct sub *sub, uint64_t first)
{
    __atomic_store_n(&sub->delta, first & INDEX_MASK, __ATOMIC_RELAXED);
}

// What the fan-out reads and writes of a viewer's session, apart from the rest so that thousands of
// them fit the caches: an odd number of lines, or all would compete for the same cache sets.
struct sender {
    _Alignas(ABI_CACHE_LINE) struct frame_template frame; // length 0: no path yet
    bool keyed;                                           // tx holds keys
    bool proven;   // frame leads to an address that has answered us: media may go there
    uint8_t group; // protection group; 0: none
    struct sub sub[MSG_MAX_TRACKS];
    struct protect_tx tx;
    uint8_t pad[ABI_CACHE_LINE];
};
_Static_assert(sizeof(struct sender) / ABI_CACHE_LINE % 2 == 1, "an odd number of cache lines");

struct session_ice {
    char ufrag[MSG_UFRAG_LEN]; // ours
    uint16_t remote_ufrag_len;
    char remote_ufrag[MSG_REMOTE_ICE_MAX];
    struct stun_key local, remote; // of the passwords
};

// The rest of a session, for feedback, checks and housekeeping. What an RTCP packet needs comes
// first.
struct session {
    _Alignas(ABI_CACHE_LINE) uint64_t id;
    uint64_t stream;
    uint8_t state; // enum session_state
    uint8_t role;  // enum session_role
    uint8_t tracks;
    uint8_t path; // of paths[], the one that we send to
    bool media_told, dead_told;
    bool unsafe;          // the partner may use its numbers for other packets: it has to end
    bool adopted;         // the path is the one that the partner told us
    uint8_t numbers_told; // bit t: the partner was told of track t's numbers
    uint8_t home;         // as SESSION_OPEN says
    bool sought;          // paths[path] is where the partner has it; no check has come here yet
    uint64_t heard_ns, opened_ns;
    uint32_t rtcp_index; // next SRTCP index
    uint32_t ssrc;       // of our RTCP towards a publisher; random
    struct protect_rtcp_rx rtcp_rx;
    struct protect_rtcp_source rtcp_source[SESSION_RTCP_SOURCES];
    uint64_t nacks, resent, plis;
    uint64_t asks_ns; // until when it has used up its share of requests, see nack_policy.h
    uint32_t rtt_us;
    bool numbers_owed;     // what the partner is to be told found the channel full
    bool path_owed;        // the control plane is to be told of the path once it is ours to use
    uint8_t fir_seq;       // last FIR command seen
    uint8_t wanted;        // of paths[], nominated but not proven; PATH_NONE: none
    uint8_t asked;         // of paths[], where our last binding request went
    bool asked_again;      // it was a repetition
    bool dtls_sent;        // to the path in use, which DTLS will prove
    uint64_t dtls_used_ns; // until when its DTLS has used up its share, see worker.c
    uint64_t passed_ns;    // and its RTCP that goes from one node to the other, see feedback.c
    uint64_t asked_ns;     // when that request first went out; 0: it is answered, or there is none
    uint64_t asking_ns;    // when we last sent one
    uint64_t next_hop;     // link address towards who is sought; 0: the one towards the partner
    struct session_track feedback[MSG_MAX_TRACKS];
    struct msg_track track[MSG_MAX_TRACKS];
    struct protect_rtcp_tx rtcp_tx;
    struct session_path paths[SESSION_PATHS];
    struct session_ice ice;
    uint32_t term;                      // of the group, when the numbers below were last moved
    uint64_t rtx_limit[MSG_MAX_TRACKS]; // RTX indexes below it are ours to use; group 0: no limit
    uint64_t rtx_asked[MSG_MAX_TRACKS]; // limit that the partner was told and has not confirmed
    bool reserved[MSG_MAX_TRACKS];      // the reserve behind the limit has been taken
    uint8_t silent;      // sweeps for which it has waited for numbers, see failover_silent
    uint8_t left;        // bit t: track t's numbers were left to the partner to begin
    uint32_t left_term;  // in this term
    uint32_t taken_term; // what the partner left in a later one, we have not taken; UINT32_MAX: may
                         // have, with a table that is gone
    uint64_t right_ns;   // when the partner was last asked for that
    uint64_t packets_in, bytes_in, packets_out, bytes_out;
    uint64_t bitrate_bytes, bitrate_ns;
    uint32_t bitrate;
};
// With what the address table and the statistics hold of it, a viewer takes 4 KiB.
_Static_assert(sizeof(struct session) + sizeof(struct sender) <= 3520, "per-viewer memory budget");

struct hdrext_map {
    uint8_t ids[HDREXTS]; // towards the viewer; 0: dropped
    uint32_t users;
};

// One SSRC that a publisher sends (a layer), with its RTX companion. Source worker only.
struct layer {
    struct protect_source media, rtx; // ssrc 0: not known yet
    struct rtp_rx_stats stats;
    uint64_t delta;           // the track's index = SRTP index + delta
    uint32_t timestamp_delta; // the track's timestamp = RTP timestamp + this
    bool mapped;              // delta is set
    uint64_t packets, bytes, lost, recovered;
    uint64_t rate_bytes; // since the last look
    uint32_t bitrate;
    uint64_t heard_ns;
    uint64_t sr_ntp, sr_ns; // last sender report
    uint32_t sr_timestamp;
    uint64_t key_asked_ns;
    uint8_t fir_seq;
};

// Where the publisher's clock is: a sender report in the track's own timestamps.
struct track_clock {
    uint64_t ntp; // 0: unknown
    uint64_t at_ns;
    uint32_t timestamp;
};

struct viewer_ref {
    uint32_t session; // slot
    uint32_t track;   // of the session
};

// Pointers in a track and in a stream are this process's own, made anew when it adopts the table.
struct track {
    struct msg_track config; // as negotiated with the publisher
    struct cache ring;
    struct viewer_ref *viewers; // on this worker
    uint32_t viewer_count, viewer_room;
    struct hdrext_map maps[TRACK_MAPS];
    struct track_clock clock;
    uint64_t next_index;     // after the highest put into the ring
    uint32_t last_timestamp; // of the newest packet
    uint64_t last_ns;
    bool trunk_fed;         // its numbers are, or may be, another node's: our own have yet to begin
    bool strays;            // it may have viewers with numbers of another index space
    bool key_wanted;        // a viewer waits for a key frame
    bool key_sent;          // a key frame was fanned out,
    uint32_t key_timestamp; // the last with this timestamp,
    uint64_t key_index;     // which begins here
    uint64_t trunk_key_asked_ns;
    uint64_t trunk_used_ns; // of the budget for what trunks bring
    uint64_t advance_ns;    // of the budget for how far its numbers may go on

    // Source worker only.
    struct layer layers[MSG_MAX_LAYERS];
    struct gaps *gaps;  // one per layer, and GAPS_TRUNK by the track's own index
    uint8_t layer;      // that feeds the ring
    uint8_t next_layer; // wanted; taken over at its next key frame
};

struct stream {
    uint64_t id;
    uint64_t trunk_id;  // its name on trunks; 0: on none
    uint8_t group;      // of the publisher's session
    uint8_t peers;      // bit p: partner p gets it while we are the source
    uint32_t publisher; // session slot on this worker; MAP_NONE: elsewhere or none
    uint8_t source_worker;
    uint8_t home; // as STREAM_OPEN says
    uint8_t tracks;
    uint8_t state;    // enum stream_state, as last told
    uint32_t forward; // other workers that want it
    struct track track[MSG_MAX_TRACKS];
    uint64_t keyed_by;    // publisher's session id whose keys are in rx; 0: none
    struct protect_rx rx; // publisher's keys
    struct protect_rtcp_source rtcp_source[STREAM_RTCP_SOURCES];
    // SSRCs that the publisher sent before others took their place, the oldest at `retired` modulo
    // their number: what has been received of them must not be received again.
    struct protect_source retired_source[STREAM_RETIRED];
    uint32_t retired;
    struct twcc_receiver *twcc; // of the publisher's session; NULL: not negotiated
    uint64_t packets, bytes, keyframes, keyframe_ns;
    uint64_t rate_bytes, rate_ns;
    uint32_t bitrate;
    uint64_t report_ns, feedback_ns, source_ns; // when those were last sent
    uint64_t direct_ns, trunk_ns; // when a packet last came from the publisher, and from a partner
    uint64_t seized_ns;           // when failure detection made it ours
    uint64_t ask_ahead_ns;        // when the next request ahead is due
    uint8_t asks_ahead;           // that are left, see upstream_seized
};

struct tables {
    struct table_file *file;
    size_t file_size;
    struct session *sessions; // max_sessions
    struct sender *senders;   // of the same slots
    struct stream *all_streams;
    struct stream **streams; // max_streams, of those; NULL: not served here
    uint32_t max_sessions, max_streams;
    uint32_t session_count, stream_count;
    uint32_t session_end; // after the last slot that was ever in use: memory beyond is untouched
    uint32_t cache_min, cache_max; // packets per track ring
    uint64_t cache_span_ns;
    struct map by_ufrag, by_remote, by_trunk;
    struct cache_store *store; // of the packet rings
    struct protect *protect;   // that the keys in the tables are of
};

// Sizes from the configuration. With `dir` the tables lie in DIR/table.WORKER (root only, tmpfs),
// which outlives the process: if an earlier process of the same build left one, its sessions and
// streams go on (`protect` makes their keys usable); else it is made anew. NULL: private memory.
// `store` outlives the tables. 0 or a negative errno.
int tables_init(struct tables *tables, const struct abi_config *config, const char *dir,
                uint32_t worker, struct protect *protect, struct cache_store *store);
// What the tables of this build look like, as channel_layout_id says it.
uint64_t tables_layout_id(void);
// Puts a copy of DIR/table.WORKER in its place: who has the old one mapped writes into the void
// from then on. Nobody writes meanwhile. 0 or a negative errno.
int tables_renew(const char *dir, uint32_t worker);
// Lets go of the tables; the file stays as it is.
void tables_free(struct tables *tables);

// The session if the id's slot and generation are right, else NULL.
struct session *tables_session(const struct tables *tables, uint64_t id);
struct stream *tables_stream(const struct tables *tables, uint64_t id);
// The stream of that name on trunks, or NULL.
struct stream *tables_by_trunk(const struct tables *tables, uint64_t trunk_id);
static inline uint32_t tables_slot(const struct tables *tables, const struct session *session)
{
    return (uint32_t)(session - tables->sessions);
}

static inline struct sender *tables_sender(const struct tables *tables,
                                           const struct session *session)
{
    return &tables->senders[session - tables->sessions];
}

// Opens a session from a checked message. Returns it, or NULL with an errno in `*error`:
// ENOSPC (slot out of range), EBUSY (slot taken by another), EEXIST (this very session is there).
struct session *tables_open_session(struct tables *tables, const struct msg_session_open *open,
                                    uint64_t now_ns, int *error);
void tables_close_session(struct tables *tables, struct protect *protect, struct session *session);
// New ICE credentials; addresses validated with the old ones stay until they fall silent.
void tables_set_ice(struct tables *tables, struct session *session, const struct msg_ice *ice);
// By our own username fragment (MSG_UFRAG_LEN characters).
struct session *tables_by_ufrag(const struct tables *tables, const char *ufrag);
// By an address that a check has validated.
struct session *tables_by_remote(const struct tables *tables, const struct abi_addr *remote);
// Notes that an authenticated check came from there; forgets the path silent for longest when there
// are SESSION_PATHS already. An address that is proven to be another session's, which speaks, stays
// that one's: tables_by_remote says whose it is. Returns the path's number.
uint8_t tables_validate_path(struct tables *tables, struct session *session,
                             const struct abi_addr *remote, uint64_t now_ns);
// The partner says that the path has answered to it. Takes no address away from another session
// either: what a partner tells of its own sessions is at nobody else's cost.
uint8_t tables_adopt_path(struct tables *tables, struct session *session,
                          const struct abi_addr *remote, uint64_t now_ns);
// The path has answered: its address is this session's from now on.
void tables_prove_path(struct tables *tables, struct session *session, uint8_t path,
                       uint64_t now_ns);

struct stream *tables_open_stream(struct tables *tables, const struct msg_stream_open *open,
                                  int *error);
// Says again what the stream is, or that it has a new publisher with the same codecs.
void tables_update_stream(struct tables *tables, struct stream *stream,
                          const struct msg_stream_open *open);
// The stream has a new source: forgets the old one's packets, numbers and keys. Viewers stay.
void tables_reset_source(struct tables *tables, struct stream *stream);
// Starts the record for transport-wide feedback if the publisher negotiated it. 0 or -ENOMEM.
int tables_make_twcc(struct stream *stream);
// Names it so on trunks; 0: on none.
void tables_name_trunk(struct tables *tables, struct stream *stream, uint64_t trunk_id);
void tables_close_stream(struct tables *tables, struct stream *stream);

// A track's ring and the records of what is missing; `track` need not be free of old pointers when
// it is made. 0 or -ENOMEM, after which it can be freed all the same.
int tables_make_track(const struct tables *tables, struct track *track);
void tables_free_track(struct track *track);
uint64_t tables_random(void); // the kernel's

// Joins a viewer's session to its stream's tracks, or takes it away. Joining twice is harmless.
int tables_join(struct tables *tables, struct session *session);
void tables_leave(struct tables *tables, struct session *session);
// Asks for a key frame for each of the viewer's video tracks that has not had one.
void tables_want_keyframes(struct tables *tables, const struct session *session);
// The viewer's sending state for one of its tracks, or NULL.
struct sub *tables_sub(const struct tables *tables, const struct session *session, uint8_t track);

#endif
