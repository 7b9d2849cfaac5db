// Which track and layer a publisher's SSRC feeds: as the SDP named it, or learned from its first
// authentic packet. RFC 8285, 8852. For ingest.c.
#ifndef HITLESS_INGEST_SOURCE_H
#define HITLESS_INGEST_SOURCE_H

#include "worker.h"

struct place {
    struct track *track;
    struct layer *layer;
    uint8_t number; // of the layer
    bool rtx;
};

// False: nobody of the stream's sources has it.
bool ingest_find_ssrc(struct stream *stream, uint32_t ssrc, struct place *place);

// Places an SSRC that the SDP did not name: by MID or payload type, then by RID (RFC 8852). False:
// it has none.
bool ingest_learn_ssrc(struct stream *stream, const struct rtp_view *view, struct place *place);

// A source goes on under another SSRC, as the partner says: with what is known of that, and what
// was known of the one before is kept. False: it has that SSRC already, or `ssrc` is 0, not known.
bool ingest_rename_source(struct stream *stream, struct protect_source *source, uint32_t ssrc);

// What is known of an SSRC that was given up, or NULL.
struct protect_source *ingest_find_retired(struct stream *stream, uint32_t ssrc);

// Takes an authenticated new SSRC in the place of the layer's old one.
void ingest_adopt_source(struct stream *stream, const struct place *place,
                         struct protect_source *source);

#endif
