// SDP as WebRTC uses it: a bounded parser for offers and trickle fragments, and a bounded writer.
//
// Pure: bytes in, a struct of views into those bytes out; no allocation, clock or socket, any
// thread. What the appliance has no use for is checked for form and left out. RFC 8866 (SDP), 8829
// (JSEP), 8839 (ICE), 9143 (BUNDLE), 5761 (rtcp-mux), 8285 (header extensions), 4588 (RTX),
// 5576 (ssrc), 8851 and 8853 (rid, simulcast), 8842 and 8122 (DTLS), 8840 (trickle fragments).
#ifndef HITLESS_SDP_H
#define HITLESS_SDP_H

#include "../dataplane/abi/messages.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SDP_MAX_BYTES (128 * 1024) // of a description or fragment
#define SDP_MAX_LINE 4096          // bytes of a line, line end excluded
#define SDP_MAX_MEDIA 16           // m-lines
#define SDP_MAX_FORMATS 64         // payload types of an m-line
// Of a description or fragment. A machine with many interfaces offers each of their addresses over
// UDP and TCP, and nothing is kept of any.
#define SDP_MAX_CANDIDATES 512
#define SDP_MAX_SSRCS 32       // of an m-line
#define SDP_MAX_GROUPS 16      // FID and SIM ssrc-groups of an m-line
#define SDP_MAX_RIDS 8         // of an m-line, sending direction
#define SDP_MAX_FINGERPRINTS 4 // usable ones of a section; more are ignored
#define SDP_MAX_TOKEN 64       // bytes of a mid, rid, media type, protocol or format

// Characters of the input, not NUL-terminated; len 0 is "not there".
struct sdp_view {
    const char *at;
    uint32_t len;
};

// Why a description was refused, in words that a client may see.
struct sdp_error {
    unsigned line;    // 1 is the first; 0: not about one line
    char reason[160]; // one line, without the number and without the client's own bytes
};

enum sdp_direction { SDP_UNSET, SDP_SENDRECV, SDP_SENDONLY, SDP_RECVONLY, SDP_INACTIVE };
enum sdp_setup { SDP_SETUP_UNSET, SDP_ACTPASS, SDP_ACTIVE, SDP_PASSIVE, SDP_HOLDCONN };
enum sdp_hash { SDP_SHA256 = 1, SDP_SHA384, SDP_SHA512 };
enum sdp_group_semantics { SDP_GROUP_FID = 1, SDP_GROUP_SIM };

// RFC 8122: the hash of the peer's certificate.
struct sdp_fingerprint {
    uint8_t hash; // enum sdp_hash
    uint8_t size; // bytes of digest: 32, 48 or 64
    uint8_t digest[64];
};

// Attributes that a session or a media section may carry alike.
struct sdp_common {
    struct sdp_view ufrag, pwd; // RFC 8839 5.4, lengths checked
    uint8_t setup;              // enum sdp_setup
    uint8_t direction;          // enum sdp_direction
    uint8_t fingerprints;
    bool foreign_fingerprint; // there was one, with a hash that we do not take
    bool extmap_allow_mixed;
    bool end_of_candidates;
    uint8_t ext_id[HDREXTS];        // 1..14 of each known header extension, 0: not there
    uint8_t ext_direction[HDREXTS]; // enum sdp_direction, SDP_UNSET: that of the media
    struct sdp_fingerprint fingerprint[SDP_MAX_FINGERPRINTS];
};

struct sdp_format {
    struct sdp_view encoding; // of a=rtpmap; filled in for the static types 0 and 8
    struct sdp_view fmtp;     // parameters of a=fmtp
    uint32_t clock_rate;      // Hz
    uint8_t pt;               // 0..127
    uint8_t channels;         // 1 where not said
    uint8_t feedback;         // bits of enum track_feedback, a=rtcp-fb:* included
};

struct sdp_group {
    uint8_t semantics; // enum sdp_group_semantics
    uint8_t ssrcs;
    uint32_t ssrc[4];
};

struct sdp_media {
    unsigned line;         // of its m=
    struct sdp_view type;  // "audio", "video", "application" ...
    struct sdp_view proto; // "UDP/TLS/RTP/SAVPF" ...
    struct sdp_view fmt;   // the first format as it stands there
    struct sdp_view mid;
    uint16_t port; // 0 without bundle_only: switched off
    bool rtp;      // proto is RTP, so that `format` is filled in
    bool bundle_only, rtcp_mux, rtcp_rsize;
    uint8_t formats, ssrcs, groups, rids, simulcast;
    struct sdp_common common;
    struct sdp_format format[SDP_MAX_FORMATS]; // in the offer's order
    uint32_t ssrc[SDP_MAX_SSRCS];              // in the order of first appearance, no zeros
    struct sdp_group group[SDP_MAX_GROUPS];
    struct sdp_view rid[SDP_MAX_RIDS];           // a=rid with direction send
    struct sdp_view simulcast_rid[SDP_MAX_RIDS]; // a=simulcast:send, first alternative of each
};

// Some 60 KiB: keep it on the heap.
struct sdp {
    struct sdp_view bundle; // mids of the first a=group:BUNDLE, separated by spaces
    bool ice_lite;
    uint8_t medias;
    uint16_t candidates; // well-formed ones; an ICE-lite agent has no use for their content
    struct sdp_common common;
    struct sdp_media media[SDP_MAX_MEDIA];
};

// Parses a session description, LF or CRLF. `sdp` needs no initialisation; its views point into
// `text`, which must outlive it. Returns 0, -EINVAL (malformed) or -E2BIG (over one of the limits
// above), both with `error` filled in; `sdp` is then of no use.
int sdp_parse(struct sdp *sdp, const char *text, size_t size, struct sdp_error *error);

// A trickle ICE fragment (RFC 8840): what a WHIP PATCH carries.
struct sdp_fragment {
    struct sdp_view ufrag, pwd;       // both or neither; len 0: neither
    struct sdp_view type, proto, fmt; // of the first m-line; len 0: there is none
    struct sdp_view mid;              // of the first m-line
    uint16_t candidates;
    bool end_of_candidates;
};

// Same rules and errors as sdp_parse(). Sections must not disagree about ufrag and pwd.
int sdp_parse_fragment(struct sdp_fragment *fragment, const char *text, size_t size,
                       struct sdp_error *error);

bool sdp_view_is(struct sdp_view view, const char *text);        // equal
bool sdp_view_is_nocase(struct sdp_view view, const char *text); // equal but for ASCII case

// Finds parameter `name` (any case) in the parameters of an a=fmtp. False if it is not there.
bool sdp_fmtp_get(struct sdp_view fmtp, const char *name, struct sdp_view *value);

// Text that grows to the end of the caller's buffer and no further; always NUL-terminated.
struct sdp_writer {
    char *buffer;
    size_t size; // of buffer, at least 1
    size_t used; // bytes written, NUL excluded
    bool full;   // something did not fit; what is there is of no use
};
void sdp_writer_init(struct sdp_writer *writer, char *buffer, size_t size);
// Appends formatted text and, for sdp_line(), CRLF.
void sdp_text(struct sdp_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sdp_line(struct sdp_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// One of our addresses, offered to the client as a host candidate over UDP.
struct sdp_candidate {
    struct abi_addr addr;
    uint32_t priority; // RFC 8445 5.1.2; 0: from its place in the list, first is best
};

// What an answer says about this end.
struct sdp_local {
    const struct msg_ice *ice; // its ufrag and pwd
    uint8_t fingerprint[32];   // SHA-256 of our certificate
    uint64_t id;               // o= line's session id; below 2^63
    const char *cname;         // viewers: RTCP CNAME and media stream id, [A-Za-z0-9._-]{1,64}
    const struct sdp_candidate *candidate;
    unsigned candidates;
};

// Writes the answer to an ICE restart: our new ufrag and pwd, and our candidates. Only `ice`,
// `candidate` and `candidates` of `local` count. The m-line and mid are those of the client's
// fragment. Returns the length without the NUL, or -ENOSPC.
int sdp_write_fragment(const struct sdp_fragment *fragment, const struct sdp_local *local,
                       char *buffer, size_t size);

#endif
