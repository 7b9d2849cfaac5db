// Inside of a viewer: what viewer.c and viewer_report.c share.
#ifndef HITLESS_BEES_VIEWER_PRIVATE_H
#define HITLESS_BEES_VIEWER_PRIVATE_H

#include "../../dataplane/twcc.h"
#include "receive.h"
#include "reuse.h"
#include "viewer.h"

#define VIEWER_SOURCES 12           // SSRCs of one session; more are not listened to
#define VIEWER_TWCC_NS 100000000ull // between two transport-wide feedbacks

struct source {
    struct protect_source srtp;
    uint8_t track;
    bool rtx;
    struct receive receive; // not of RTX
    struct reuse reuse;
};

struct viewer {
    uint8_t sources, last;         // last: the one that the packet before came from
    uint32_t ssrc[VIEWER_SOURCES]; // of each source: a miss of the cache less for each packet
    struct source *source[VIEWER_SOURCES];
    struct source *primary[2];  // by track: the newest
    struct twcc_receiver *twcc; // NULL: not agreed
    uint64_t twcc_ns, feedback_ns;
    uint64_t heard_ns; // when the agent is told next that media comes

    struct {
        uint8_t track, codec; // codec CODEC_NONE: not agreed
        bool rtx, repaired;   // is RTX; has RTX
        uint8_t feedback;
        uint32_t clock_rate;
    } pt[128];
};

// The source with that SSRC; NULL: none.
struct source *viewer_find(struct viewer *viewer, uint32_t ssrc);

#endif
