// What the files of the test media share: frames in memory, their readers, ffmpeg, payloads, the
// clock.
#ifndef HITLESS_BEES_MEDIA_PARTS_H
#define HITLESS_BEES_MEDIA_PARTS_H

#include "media.h"
#include <stdatomic.h>

#define MEDIA_CLOCK 31 // bytes of a clock: mark, time, checksum
// Before it in AV1: OBU_METADATA without extension or size field, ITU-T T.35 with a country code
// that is not assigned. dav1d complains about each message of the types meant for private use.
#define MEDIA_OBU_HEAD 4
#define MEDIA_OBU_CLOCK 5 << 3, 4, 0xff, 0x01
#define MEDIA_FILE_MAX (1u << 30)   // bytes of a file
#define MEDIA_FRAME_MAX (16u << 20) // bytes of a frame
#define MEDIA_PATH 4096

// A frame is `length` bytes at `offset`. H.264 and AV1 are kept as units (NAL units, OBUs without
// their size field), each behind its length in 4 bytes, host order.
struct media_frame {
    uint32_t offset, length;
    uint32_t units; // how long it lasts, RTP clock
    bool keyframe;
};

struct media_track {
    uint8_t *bytes;
    size_t length;
    struct media_frame *frame;
    uint32_t frames, room;
    uint32_t keyframes;
    uint64_t units; // of all frames
    uint16_t width, height;
};

struct media {
    atomic_uint references;
    struct media_info info;
    struct media_track video[MEDIA_LAYERS];
    struct media_track sound;
};

// media_file.c and media_h264.c: whole files into tracks. The track owns what it gets, also on
// error. 0 or a negative errno with `error`.
int media_read_ivf(struct media_track *track, enum codec codec, const uint8_t *data, size_t size,
                   char error[MEDIA_ERROR]);
int media_read_h264(struct media_track *track, double frame_rate, const uint8_t *data, size_t size,
                    char error[MEDIA_ERROR]);
int media_read_ogg(struct media_track *track, const uint8_t *data, size_t size,
                   char error[MEDIA_ERROR]);
int media_load(const char *file, uint8_t **data, size_t *size, char error[MEDIA_ERROR]);
void media_track_free(struct media_track *track);
// Begins a frame at the track's end; then append to it. False without memory.
bool media_track_frame(struct media_track *track, uint32_t units, bool keyframe);
bool media_track_append(struct media_track *track, const void *data, size_t size);
bool media_track_unit(struct media_track *track, const uint8_t *data, size_t size);

// media_make.c: has ffmpeg write the test picture (or sound, CODEC_OPUS) into the cache unless it
// is there, and gives its path.
int media_make(char path[MEDIA_PATH], const char *cache, enum codec codec, unsigned layer,
               char error[MEDIA_ERROR]);
// Has ffmpeg repack what is neither IVF, Annex B nor Ogg into a file that the caller unlinks.
int media_convert(char path[MEDIA_PATH], const char *cache, enum codec codec, const char *file,
                  char error[MEDIA_ERROR]);

// media_clock.c
void media_write_clock(uint8_t clock[MEDIA_CLOCK], uint64_t clock_ns);

// media_rtp.c: a frame's packets. `packet` has everything but the payload, first and marker.
struct media_state {
    uint16_t picture_id; // 15 bits
    uint8_t tl0;
    uint64_t clock_ns;
    uint16_t width, height;
};
void media_packets(enum codec codec, const uint8_t *frame, size_t length,
                   const struct media_state *state, struct media_packet *packet, media_emit_fn emit,
                   void *opaque);

#endif
