// The SDP that a session offers. Pure; any thread. RFC 8829, 9429; RFC 9725 (WHIP) and
// draft-ietf-wish-whep for what a viewer's and a publisher's m-lines look like.
#ifndef HITLESS_BEES_OFFER_H
#define HITLESS_BEES_OFFER_H

#include "../../dataplane/abi/messages.h"
#include "bees.h"
#include <stddef.h>

#define OFFER_LOCALS 4
#define OFFER_SDP_MAX 16384
#define OFFER_SIMULCAST MSG_MAX_LAYERS

// Ids of header extensions as we offer them.
enum { OFFER_EXT_MID = 1, OFFER_EXT_RID = 2, OFFER_EXT_REPAIRED_RID = 3, OFFER_EXT_TWCC = 5 };

// One codec that we can offer. Payload types are ours throughout.
struct offer_codec {
    uint8_t codec;      // enum codec
    uint8_t kind;       // enum media_kind
    uint8_t pt, rtx_pt; // rtx_pt MSG_NO_PT: none
    uint32_t clock_rate;
    const char *name;   // "VP8"
    const char *suffix; // "/2" for two channels
    const char *fmtp;   // NULL: none
};
const struct offer_codec *offer_codec(enum codec codec); // NULL: not one of ours
enum codec offer_codec_named(const char *name);          // any case; CODEC_NONE: unknown

// One m-line.
struct offer_track {
    uint8_t kind; // enum media_kind
    uint8_t codecs;
    uint8_t codec[8]; // enum codec, best first
    uint8_t layers;   // publisher: SSRCs; more than 1 is simulcast with rids "h", "m", "l"
    uint32_t ssrc[OFFER_SIMULCAST], rtx_ssrc[OFFER_SIMULCAST];
};

struct offer {
    uint8_t role; // enum bees_role
    bool twcc;
    bool trickle;            // candidates follow by PATCH
    const char *fingerprint; // "AB:CD:…", sha-256
    char ufrag[9], pwd[25];  // NUL-terminated
    uint64_t id;             // of the o= line, below 2^63
    uint8_t locals, tracks;
    struct abi_addr local[OFFER_LOCALS]; // our candidates, with ports
    struct offer_track track[2];
};

// Both write NUL-terminated text and return its length, or -ENOSPC.
int offer_write(const struct offer *offer, char *buffer, size_t size);
// A trickle fragment with all our candidates and their end (RFC 8840, RFC 9725 4.3.1).
int offer_write_fragment(const struct offer *offer, char *buffer, size_t size);

extern const char *const offer_rids[OFFER_SIMULCAST];

#endif
