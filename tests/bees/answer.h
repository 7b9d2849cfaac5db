// What a server's SDP answer means for the session that made the offer.
//
// Pure; any thread. The text is hostile. RFC 8829 5.8, 8839, 8122, 5576, 8853. Candidates that are
// not UDP, not component 1 or names (mDNS) are left out.
#ifndef HITLESS_BEES_ANSWER_H
#define HITLESS_BEES_ANSWER_H

#include "../../controlplane/dtls.h"
#include "offer.h"

#define ANSWER_CANDIDATES 8
#define ANSWER_FORMATS 8
#define ANSWER_SSRCS 4

struct answer_candidate {
    struct abi_addr addr;
    uint32_t priority;
};

struct answer_format {
    uint8_t codec;      // enum codec
    uint8_t pt, rtx_pt; // rtx_pt MSG_NO_PT: none
    uint8_t feedback;   // bits of enum track_feedback
    uint32_t clock_rate;
};

struct answer_track {
    uint8_t kind; // enum media_kind
    bool reduced_rtcp;
    uint8_t formats; // 0: rejected
    uint8_t twcc;    // header extension id; 0: not agreed
    uint8_t ext_mid, ext_rid, ext_repaired_rid;
    uint8_t ssrcs;
    uint8_t layers; // of the offer's rids, those that the server takes; 0: no simulcast
    uint8_t layer[OFFER_SIMULCAST]; // index of offer_rids
    char mid[MSG_MID_LEN];
    struct answer_format format[ANSWER_FORMATS];
    uint32_t ssrc[ANSWER_SSRCS], rtx_ssrc[ANSWER_SSRCS]; // rtx_ssrc 0: not said
};

struct answer {
    char ufrag[257], pwd[257];
    bool dtls_client; // our role
    bool lite;
    uint8_t fingerprints, candidates, tracks;
    uint16_t skipped; // candidates that we cannot use
    struct dtls_fingerprint fingerprint[DTLS_MAX_FINGERPRINTS];
    struct answer_candidate candidate[ANSWER_CANDIDATES];
    struct answer_track track[2]; // in the offer's order
};

// Returns BEES_FAILURE_none, or why the answer is of no use: bad_answer (with `reason`),
// no_media_agreed, no_candidates, public_address (a candidate is, and `any` is false) or
// out_of_memory.
enum bees_failure answer_read(struct answer *answer, const struct offer *offer, const char *text,
                              size_t size, bool any, char reason[160]);

#endif
