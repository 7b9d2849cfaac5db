// Negotiation: a client's offer and what we have, to tracks and the text of an answer.
//
// Pure, any thread. Two steps, so that a session needs no slot, key or SSRC before its offer is
// known to be good: sdp_answer_publish() or sdp_answer_play() decide, sdp_answer_write() writes.
// RFC 9725 (WHIP) and draft-ietf-wish-whep: one transport (a bundle or a single m-line), rtcp-mux,
// we are ICE-lite.
//
// Limits: one audio and one video track per publisher; payload type restrictions of a=rid are
// ignored; the first rid offered is the best layer (RFC 8853 5.2 has the list in that order).
#ifndef HITLESS_SDP_ANSWER_H
#define HITLESS_SDP_ANSWER_H

#include "sdp.h"

#define SDP_ANSWER_MAX 24576 // bytes that hold any answer, NUL included
#define SDP_FMTP_MAX 256
#define SDP_REJECTED 0xff
#define SDP_IDLE 0xfe                       // part of the bundle, but nothing flows: a=inactive
#define SDP_ALL_CODECS ((1u << CODECS) - 2) // bit (1 << enum codec) for each

// Format parameters of a track, only those that matter, in the form of a=fmtp; "" for none.
struct sdp_fmtp {
    char text[SDP_FMTP_MAX];
};

// What a publisher and we agreed on; its stream keeps a copy, from which viewers are answered.
struct sdp_tracks {
    uint8_t count; // 1..MSG_MAX_TRACKS
    struct msg_track track[MSG_MAX_TRACKS];
    struct sdp_fmtp fmtp[MSG_MAX_TRACKS];
};

struct sdp_answer {
    enum session_role role;
    struct sdp_tracks tracks;
    uint8_t
        media_track[SDP_MAX_MEDIA]; // by m-line of the offer: index of its track, or one of above
    struct msg_track idle;          // the format of the m-line that is SDP_IDLE
    bool dtls_client;               // we send the ClientHello (a=setup:active)
    struct sdp_view remote_ufrag, remote_pwd; // into the offer's text, ≤ MSG_REMOTE_ICE_MAX each
    uint8_t fingerprints;                     // 1..SDP_MAX_FINGERPRINTS; any of them will do
    struct sdp_fingerprint fingerprint[SDP_MAX_FINGERPRINTS];
};

// WHIP: we receive. Takes the first audio m-line that offers an allowed codec, and likewise video;
// `codecs` has bit (1 << enum codec) of each allowed one. msg_track.layer gets the SSRCs that the
// offer names, else 0.
// Returns 0; -ENOTSUP (no BUNDLE, rtcp-mux, ICE credentials, usable fingerprint …: 422) or -ENOMSG
// (no common codec: 422), both with `error` filled in.
int sdp_answer_publish(const struct sdp *offer, uint32_t codecs, struct sdp_answer *answer,
                       struct sdp_error *error);

// WHEP: we send `stream`. Each of its tracks goes to the first m-line that offers the same codec
// compatibly; msg_track.source says which it was. SSRCs are left 0: set layer[0].ssrc, and
// layer[0].rtx_ssrc where rtx_pt is not MSG_NO_PT, before sdp_answer_write().
// Returns 0; -ENOTSUP (as above: 422) or -ENOMSG (no common codec: 406), with `error` filled in.
int sdp_answer_play(const struct sdp *offer, const struct sdp_tracks *stream,
                    struct sdp_answer *answer, struct sdp_error *error);

// Writes the answer. Returns its length without the NUL, -EINVAL (a viewer's SSRC is 0, or no
// cname) or -ENOSPC (SDP_ANSWER_MAX bytes are always enough for up to 16 candidates).
int sdp_answer_write(const struct sdp_answer *answer, const struct sdp *offer,
                     const struct sdp_local *local, char *buffer, size_t size);

#endif
