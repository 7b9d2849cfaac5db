// Test media for publishers: encoded video and sound, looped for ever with continuous timestamps
// and cut into real RTP payloads.
//
// media_open() loads files (IVF with VP8, VP9 or AV1; Annex-B H.264; Ogg with Opus) or has ffmpeg
// make a moving test picture once. The result is immutable and shared by any number of readers in
// any thread; a reader belongs to one thread. Payload formats: RFC 7741 (VP8), 9628 (VP9), 6184
// (H.264), 7587 (Opus), AV1's RTP specification.
//
// Latency: each video frame of VP8, H.264 and AV1 carries the time at which it was published, where
// neither a forwarder nor a decoder minds: behind VP8's last partition, in an SEI message of H.264,
// in a metadata OBU of AV1. VP9 has no such place. Audio carries none.
#ifndef HITLESS_BEES_MEDIA_H
#define HITLESS_BEES_MEDIA_H

#include "../../dataplane/abi/messages.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEDIA_LAYERS 3         // of simulcast
#define MEDIA_PAYLOAD_MAX 1200 // bytes of an RTP payload
#define MEDIA_ERROR 200        // bytes of an error text
#define MEDIA_VIDEO_RATE 90000 // RTP clocks
#define MEDIA_AUDIO_RATE 48000
#define MEDIA_KEYFRAME_NS 300000000ull // a forced key frame comes no sooner after another one

struct media;

struct media_config {
    enum codec video;                     // CODEC_VP8, _VP9, _H264, _AV1, or CODEC_NONE
    bool audio;                           // Opus
    unsigned layers;                      // 0 or 1: one encoding; up to MEDIA_LAYERS
    const char *video_file[MEDIA_LAYERS]; // NULL: made by ffmpeg (VP8, H.264). Best layer first
    const char *audio_file;               // NULL: made by ffmpeg
    double frame_rate;                    // of H.264 files, which carry none; 0: 25
    const char *cache;                    // folder for what ffmpeg makes; NULL: the user's
};

struct media_info {
    enum codec video; // CODEC_NONE: no video
    bool audio;
    bool clock; // video frames carry the time
    unsigned layers;
    struct {
        uint16_t width, height; // 0: unknown
        uint32_t bitrate;       // bit/s of payload, mean
    } layer[MEDIA_LAYERS];      // best first, as in the table of tracks
    uint32_t audio_bitrate;
    uint64_t video_ns, audio_ns; // length of one loop
    uint32_t frames, keyframes;  // of a layer
};

// Loads or makes media. `*media` holds one reference. On error, a negative errno, and `error` says
// what and where: -EINVAL for files that are not what they should be, -ENOENT, -ENOEXEC without
// ffmpeg.
int media_open(const struct media_config *config, struct media **media, char error[MEDIA_ERROR]);
struct media *media_ref(struct media *media); // any thread
void media_unref(struct media *media);        // any thread; NULL is fine
const struct media_info *media_info(const struct media *media);

struct media_packet {
    enum media_kind kind;
    uint8_t layer; // of video; 0 is the best
    bool first;    // of its frame
    bool marker;   // RTP's: last of a video frame; first of sound after a pause
    bool keyframe;
    uint32_t timestamp; // RTP clock of the kind, from 0: add the SSRC's random offset
    uint64_t due_ns;    // when it was to be sent, caller's clock
    const uint8_t *payload;
    size_t length; // up to MEDIA_PAYLOAD_MAX
};
// The payload is valid during the call only.
typedef void (*media_emit_fn)(void *opaque, const struct media_packet *packet);

// One publisher's place in the media. All layers show the same picture at the same time, so that a
// forced key frame is one of all layers.
struct media_reader {
    const struct media *media;
    uint64_t start_ns;                  // of the timestamps 0
    uint64_t video_units, audio_units;  // of the next frame, RTP clock since start_ns
    uint32_t video_frame, audio_packet; // next ones
    uint32_t picture_id;                // of the next frame, counts every frame
    uint64_t keyframe_units;            // when the last key frame went out
    bool keyframe_wanted;
    bool keyframe_sent; // keyframe_units is valid
};

// The first frames are due at `now_ns` (any clock). The media must stay referenced.
void media_start(struct media_reader *reader, const struct media *media, uint64_t now_ns);
// When the next frame is due.
uint64_t media_due(const struct media_reader *reader);
// Hands out every packet of every frame due by now, in the order in which they are to be sent. Who
// is over a second late leaves a hole in the timestamps instead of catching up. `clock_ns` is the
// time that the frames carry; CLOCK_REALTIME is what other machines have too. Returns the frames.
unsigned media_next(struct media_reader *reader, uint64_t now_ns, uint64_t clock_ns,
                    media_emit_fn emit, void *opaque);
// The server asked for a key frame (PLI, FIR): the next frame is one, MEDIA_KEYFRAME_NS permitting.
void media_force_keyframe(struct media_reader *reader);
// The RTP timestamp (from 0, as in media_packet) that belongs to a time: for sender reports.
uint32_t media_rtp_time(const struct media_reader *reader, enum media_kind kind, uint64_t now_ns);

// Whether this RTP payload (of any packet of a frame: just try each) carries a frame's clock; then
// *clock_ns is it. One packet of each frame does, VP8's last and H.264's first or second.
bool media_read_clock(enum codec codec, const uint8_t *payload, size_t length, uint64_t *clock_ns);

#endif
