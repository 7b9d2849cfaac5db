// What a trunk packet carries, for trunk.c and trunk_receive.c.
#ifndef HITLESS_TRUNK_RECORD_H
#define HITLESS_TRUNK_RECORD_H

#include "worker.h"

// A trunk packet is SRTP whose timestamp says the rollover count: a partner that has heard nothing
// for longer than half a round of sequence numbers (the path was cut for a minute) is at once with
// us again.
#define TRUNK_SSRC 0x74720000u // "tr" and the sending worker
#define NACK_MAX 32

enum record_type { RECORD_MEDIA = 1, RECORD_SOURCE, RECORD_NACK, RECORD_KEY, RECORD_FEEDBACK };
enum media_flags { MEDIA_MARKER = 1, MEDIA_PADDING = 2, MEDIA_KEYFRAME = 4 };
#define MEDIA_LAYER_BIT 4 // from there on: the layer

// Records are in host byte order of x86 and arm64 alike: little-endian, no padding left over.
struct record {
    uint8_t type; // enum record_type
    uint8_t track;
    uint8_t flags;            // MEDIA: enum media_flags, layer; SOURCE: layer
    uint8_t count;            // NACK
    uint16_t header, payload; // MEDIA: bytes of the RTP packet that follows
    uint64_t trunk_id;
    union {
        struct {
            uint64_t index;
            uint32_t timestamp;
            uint32_t pad;
        } media;
        struct {
            uint32_t ssrc, rtx_ssrc;
            uint64_t top, rtx_top; // highest SRTP indexes seen
            uint64_t delta;
            uint32_t timestamp_delta;
            uint32_t clock_timestamp;
            uint64_t clock_ntp, clock_age_ns; // 0: no sender report yet
        } source;
        uint64_t nack[NACK_MAX];
        char ufrag[MSG_UFRAG_LEN]; // FEEDBACK: our ICE name for the session, both nodes'; RTCP
                                   // follows
    };
};
#define HEAD offsetof(struct record, media)
#define MEDIA_HEAD (HEAD + sizeof(((struct record *)0)->media))
#define SOURCE_HEAD (HEAD + sizeof(((struct record *)0)->source))
#define FEEDBACK_HEAD (HEAD + MSG_UFRAG_LEN)
_Static_assert(HEAD == 16 && MEDIA_HEAD == 32, "the record's layout is the wire's");
// What stands before the RTP packet gives way to what is known of it.
#define MEDIA_AT (RTP_HEADER + MEDIA_HEAD - MEDIA_KNOWN)
_Static_assert(MEDIA_AT % _Alignof(struct media) == 0, "lies as any struct media");

// Seals a record, and what follows it (an RTP packet, RTCP), and sends them to one partner; `home`
// as the stream or session says that it is about. Borrows both. What cannot be sent is dropped by
// name.
void trunk_send_record(struct worker *worker, uint8_t number, uint8_t home,
                       const struct record *record, size_t record_size, const uint8_t *rtp,
                       size_t rtp_size);

// Tells one partner of which layers the stream's tracks are, and under which numbers.
void trunk_tell_source(struct worker *worker, struct stream *stream, uint8_t peer);

// Sends a packet of the stream to one partner. Borrows it.
void trunk_send_media(struct worker *worker, uint8_t peer, const struct stream *stream,
                      const struct media *media);

#endif
