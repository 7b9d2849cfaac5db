// Test media shared by publishers, and each publisher's place in it.
#include "media_parts.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LATE_NS 1000000000ull // beyond that a reader does not catch up

// Units of an RTP clock in ns and back, without overflow for decades.
static uint64_t video_ns(uint64_t units)
{
    return units * 100000 / 9;
}

static uint64_t audio_ns(uint64_t units)
{
    return units * 62500 / 3;
}

static int read_file(struct media_track *track, enum codec codec, double frame_rate,
                     const uint8_t *data, size_t size, char error[MEDIA_ERROR])
{
    if (codec == CODEC_OPUS)
        return media_read_ogg(track, data, size, error);
    if (codec == CODEC_H264)
        return media_read_h264(track, frame_rate > 0 ? frame_rate : 25, data, size, error);
    return media_read_ivf(track, codec, data, size, error);
}

// Whether a file is of the kind that is read here; others are for ffmpeg to repack.
static bool is_plain(enum codec codec, const uint8_t *data, size_t size)
{
    static const uint8_t start[4] = {0, 0, 0, 1};
    if (codec == CODEC_OPUS)
        return size >= 4 && memcmp(data, "OggS", 4) == 0;
    if (codec == CODEC_H264)
        return size >= 4 && (memcmp(data, start, 4) == 0 || memcmp(data, start + 1, 3) == 0);
    return size >= 4 && memcmp(data, "DKIF", 4) == 0;
}

static int open_track(struct media_track *track, enum codec codec, const char *file, unsigned layer,
                      const struct media_config *config, char error[MEDIA_ERROR])
{
    char path[MEDIA_PATH], why[MEDIA_ERROR];
    uint8_t *data = NULL;
    size_t size = 0;
    int rc = file ? 0 : media_make(path, config->cache, codec, layer, error);
    if (rc == 0)
        rc = media_load(file ? file : path, &data, &size, error);
    if (rc < 0)
        return rc;
    if (file && !is_plain(codec, data, size)) {
        free(data);
        rc = media_convert(path, config->cache, codec, file, error);
        if (rc < 0)
            return rc;
        rc = media_load(path, &data, &size, error);
        unlink(path);
        if (rc < 0)
            return rc;
    }
    why[0] = '\0';
    rc = read_file(track, codec, config->frame_rate, data, size, why);
    free(data);
    if (rc < 0)
        snprintf(error, MEDIA_ERROR, "%.120s: %.70s", file ? file : path,
                 why[0] ? why : strerror(-rc));
    return rc;
}

// Layers are one content: the same times and the same key frames.
static bool same_times(const struct media_track *a, const struct media_track *b)
{
    if (a->frames != b->frames)
        return false;
    for (uint32_t i = 0; i < a->frames; i++)
        if (a->frame[i].units != b->frame[i].units || a->frame[i].keyframe != b->frame[i].keyframe)
            return false;
    return true;
}

// The sound loops with the picture: what goes beyond its end is cut off.
static void cut_sound(struct media_track *sound, uint64_t length_ns)
{
    while (sound->frames > 1 && audio_ns(sound->units) > length_ns)
        sound->units -= sound->frame[--sound->frames].units;
}

static uint32_t bitrate(size_t bytes, uint64_t length_ns)
{
    return (uint32_t)((double)bytes * 8e9 / (double)length_ns);
}

static void fill_info(struct media *media)
{
    struct media_info *info = &media->info;
    if (info->video != CODEC_NONE) {
        info->clock = info->video != CODEC_VP9;
        info->video_ns = video_ns(media->video[0].units);
        info->frames = media->video[0].frames;
        info->keyframes = media->video[0].keyframes;
    }
    for (unsigned i = 0; i < info->layers; i++) {
        info->layer[i].width = media->video[i].width;
        info->layer[i].height = media->video[i].height;
        info->layer[i].bitrate = bitrate(media->video[i].length, info->video_ns);
    }
    if (info->audio) {
        if (info->video != CODEC_NONE)
            cut_sound(&media->sound, info->video_ns);
        const struct media_frame *last = &media->sound.frame[media->sound.frames - 1];
        info->audio_ns = audio_ns(media->sound.units);
        info->audio_bitrate = bitrate(last->offset + last->length, info->audio_ns);
    }
}

static int open_tracks(struct media *media, const struct media_config *config,
                       char error[MEDIA_ERROR])
{
    struct media_info *info = &media->info;
    for (unsigned i = 0; i < info->layers; i++) {
        int rc = open_track(&media->video[i], info->video, config->video_file[i], i, config, error);
        if (rc < 0)
            return rc;
        if (!same_times(&media->video[0], &media->video[i])) {
            snprintf(error, MEDIA_ERROR, "layer %u differs from the first in times or key frames",
                     i);
            return -EINVAL;
        }
    }
    if (!info->audio)
        return 0;
    return open_track(&media->sound, CODEC_OPUS, config->audio_file, 0, config, error);
}

int media_open(const struct media_config *config, struct media **media, char error[MEDIA_ERROR])
{
    bool video = config->video == CODEC_VP8 || config->video == CODEC_VP9 ||
                 config->video == CODEC_H264 || config->video == CODEC_AV1;
    error[0] = '\0';
    if ((!video && config->video != CODEC_NONE) || (!video && !config->audio) ||
        config->layers > MEDIA_LAYERS) {
        snprintf(error, MEDIA_ERROR, "no media that can be published");
        return -EINVAL;
    }
    struct media *new = calloc(1, sizeof(*new));
    if (!new)
        return -ENOMEM;
    atomic_init(&new->references, 1);
    new->info.video = config->video;
    new->info.audio = config->audio;
    new->info.layers = !video ? 0 : config->layers ? config->layers : 1;
    int rc = open_tracks(new, config, error);
    if (rc < 0) {
        media_unref(new);
        return rc;
    }
    fill_info(new);
    *media = new;
    return 0;
}

struct media *media_ref(struct media *media)
{
    atomic_fetch_add_explicit(&media->references, 1, memory_order_relaxed);
    return media;
}

void media_unref(struct media *media)
{
    if (!media || atomic_fetch_sub_explicit(&media->references, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < MEDIA_LAYERS; i++)
        media_track_free(&media->video[i]);
    media_track_free(&media->sound);
    free(media);
}

const struct media_info *media_info(const struct media *media)
{
    return &media->info;
}

void media_start(struct media_reader *reader, const struct media *media, uint64_t now_ns)
{
    *reader = (struct media_reader){.media = media, .start_ns = now_ns};
}

static uint64_t video_due(const struct media_reader *reader)
{
    if (reader->media->info.video == CODEC_NONE)
        return UINT64_MAX;
    return reader->start_ns + video_ns(reader->video_units);
}

static uint64_t audio_due(const struct media_reader *reader)
{
    if (!reader->media->info.audio)
        return UINT64_MAX;
    return reader->start_ns + audio_ns(reader->audio_units);
}

uint64_t media_due(const struct media_reader *reader)
{
    uint64_t video = video_due(reader), audio = audio_due(reader);
    return video < audio ? video : audio;
}

// Who could not run for long goes on from now, and both clocks with it.
static void skip_late(struct media_reader *reader, uint64_t now_ns)
{
    uint64_t due = media_due(reader);
    if (now_ns <= due + LATE_NS)
        return;
    uint64_t late = now_ns - due;
    reader->video_units += late * 9 / 100000;
    reader->audio_units += late * 3 / 62500;
}

// A forced key frame: the content jumps ahead to the next one.
static void jump(struct media_reader *reader)
{
    const struct media_track *track = &reader->media->video[0];
    uint64_t wait = reader->video_units - reader->keyframe_units;
    if (!reader->keyframe_wanted || (reader->keyframe_sent && video_ns(wait) < MEDIA_KEYFRAME_NS))
        return;
    while (!track->frame[reader->video_frame].keyframe)
        reader->video_frame = (reader->video_frame + 1) % track->frames;
}

static void video_next(struct media_reader *reader, uint64_t clock_ns, media_emit_fn emit,
                       void *opaque)
{
    const struct media *media = reader->media;
    jump(reader);
    const struct media_frame *now = &media->video[0].frame[reader->video_frame];
    struct media_packet packet = {.kind = KIND_VIDEO,
                                  .keyframe = now->keyframe,
                                  .timestamp = (uint32_t)reader->video_units,
                                  .due_ns = video_due(reader)};
    struct media_state state = {.picture_id = reader->picture_id & 0x7fff,
                                .tl0 = (uint8_t)reader->picture_id,
                                .clock_ns = clock_ns};
    if (now->keyframe) {
        reader->keyframe_wanted = false;
        reader->keyframe_sent = true;
        reader->keyframe_units = reader->video_units;
    }
    for (unsigned i = 0; i < media->info.layers; i++) {
        const struct media_track *track = &media->video[i];
        const struct media_frame *frame = &track->frame[reader->video_frame];
        packet.layer = (uint8_t)i;
        state.width = track->width;
        state.height = track->height;
        media_packets(media->info.video, track->bytes + frame->offset, frame->length, &state,
                      &packet, emit, opaque);
    }
    reader->picture_id++;
    reader->video_units += now->units;
    reader->video_frame = (reader->video_frame + 1) % media->video[0].frames;
}

static void audio_next(struct media_reader *reader, media_emit_fn emit, void *opaque)
{
    const struct media_track *track = &reader->media->sound;
    const struct media_frame *frame = &track->frame[reader->audio_packet];
    struct media_packet packet = {.kind = KIND_AUDIO,
                                  .first = true,
                                  .marker = reader->audio_units == 0,
                                  .keyframe = true,
                                  .timestamp = (uint32_t)reader->audio_units,
                                  .due_ns = audio_due(reader)};
    media_packets(CODEC_OPUS, track->bytes + frame->offset, frame->length, NULL, &packet, emit,
                  opaque);
    reader->audio_units += frame->units;
    reader->audio_packet = (reader->audio_packet + 1) % track->frames;
}

unsigned media_next(struct media_reader *reader, uint64_t now_ns, uint64_t clock_ns,
                    media_emit_fn emit, void *opaque)
{
    unsigned frames = 0;
    skip_late(reader, now_ns);
    for (; media_due(reader) <= now_ns; frames++) {
        if (audio_due(reader) < video_due(reader))
            audio_next(reader, emit, opaque);
        else
            video_next(reader, clock_ns, emit, opaque);
    }
    return frames;
}

void media_force_keyframe(struct media_reader *reader)
{
    reader->keyframe_wanted = true;
}

uint32_t media_rtp_time(const struct media_reader *reader, enum media_kind kind, uint64_t now_ns)
{
    uint64_t past = now_ns > reader->start_ns ? now_ns - reader->start_ns : 0;
    return (uint32_t)(kind == KIND_VIDEO ? past * 9 / 100000 : past * 3 / 62500);
}
