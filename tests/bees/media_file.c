// Reads IVF (VP8, VP9, AV1) and Ogg with Opus (RFC 3533, 7845) into tracks. Files are untrusted.
#include "media_parts.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int media_load(const char *file, uint8_t **data, size_t *size, char error[MEDIA_ERROR])
{
    FILE *in = fopen(file, "rbe");
    int rc = in ? 0 : -errno;
    *data = NULL;
    if (in && (fseek(in, 0, SEEK_END) != 0 || ftell(in) < 0))
        rc = -EINVAL; // a pipe or folder
    long length = rc == 0 ? ftell(in) : 0;
    if (rc == 0 && (length == 0 || (unsigned long)length > MEDIA_FILE_MAX))
        rc = length == 0 ? -EINVAL : -EFBIG;
    if (rc == 0 && !(*data = malloc((size_t)length)))
        rc = -ENOMEM;
    if (rc == 0) {
        rewind(in);
        *size = fread(*data, 1, (size_t)length, in);
        rc = *size == (size_t)length ? 0 : -EIO;
    }
    if (in)
        fclose(in);
    if (rc < 0) {
        snprintf(error, MEDIA_ERROR, "%s: %s", file,
                 rc == -EINVAL ? "not a media file" : strerror(-rc));
        free(*data);
        *data = NULL;
    }
    return rc;
}

void media_track_free(struct media_track *track)
{
    free(track->bytes);
    free(track->frame);
    memset(track, 0, sizeof(*track));
}

bool media_track_frame(struct media_track *track, uint32_t units, bool keyframe)
{
    if (track->frames == track->room) {
        uint32_t room = track->room ? track->room * 2 : 512;
        struct media_frame *frame = realloc(track->frame, room * sizeof(*frame));
        if (!frame)
            return false;
        track->frame = frame;
        track->room = room;
    }
    track->frame[track->frames++] = (struct media_frame){
        .offset = (uint32_t)track->length, .units = units, .keyframe = keyframe};
    track->keyframes += keyframe;
    return true;
}

// The tracks are a little larger than their files (lengths instead of start codes), so the space is
// doubled as needed.
bool media_track_append(struct media_track *track, const void *data, size_t size)
{
    size_t have = track->length == 0 ? 0 : (size_t)1 << (64 - __builtin_clzll(track->length));
    if (track->length + size >= have || !track->bytes) {
        size_t want = (size_t)1 << (64 - __builtin_clzll(track->length + size));
        uint8_t *bytes = realloc(track->bytes, want);
        if (!bytes)
            return false;
        track->bytes = bytes;
    }
    memcpy(track->bytes + track->length, data, size);
    track->length += size;
    track->frame[track->frames - 1].length += (uint32_t)size;
    return true;
}

bool media_track_unit(struct media_track *track, const uint8_t *data, size_t size)
{
    uint32_t length = (uint32_t)size;
    return media_track_append(track, &length, 4) && media_track_append(track, data, size);
}

static uint32_t le32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t le64(const uint8_t *at)
{
    return le32(at) | (uint64_t)le32(at + 4) << 32;
}

static bool leb128(const uint8_t *data, size_t size, size_t *at, size_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 28 && *at < size; shift += 7) {
        uint8_t byte = data[(*at)++];
        *value |= (size_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

// A temporal unit's OBUs without temporal delimiters, tile lists and padding, and without their
// size fields. `*keyframe`: it begins a coded video sequence. -EBADMSG if broken.
static int av1_units(struct media_track *track, const uint8_t *data, size_t size, bool *keyframe)
{
    *keyframe = false;
    for (size_t at = 0; at < size;) {
        uint8_t head[2] = {data[at] & 0xfd, 0};
        unsigned type = head[0] >> 3 & 0xf, extension = head[0] >> 2 & 1;
        size_t start = at + 1, length;
        bool sized = data[at] & 2;
        if (size - at < 1 + extension)
            return -EBADMSG;
        head[1] = extension ? data[at + 1] : 0;
        start += extension;
        if (!sized)
            length = size - start;
        else if (!leb128(data, size, &start, &length) || length > size - start)
            return -EBADMSG;
        at = start + length;
        if (type == 2 || type == 8 || type == 15)
            continue;
        *keyframe |= type == 1;
        uint32_t whole = (uint32_t)(1 + extension + length);
        if (!media_track_append(track, &whole, 4) ||
            !media_track_append(track, head, 1 + extension) ||
            !media_track_append(track, data + start, length))
            return -ENOMEM;
    }
    return 0;
}

static bool vp8_keyframe(const uint8_t *frame, size_t size)
{
    return size >= 10 && (frame[0] & 1) == 0 && frame[3] == 0x9d && frame[4] == 0x01;
}

// frame_marker, profile, show_existing_frame, frame_type (VP9 bitstream, 6.2).
static bool vp9_keyframe(const uint8_t *frame, size_t size)
{
    bool profile3 = (frame[0] & 0x30) == 0x30;
    uint8_t bits = profile3 ? (uint8_t)(frame[0] << 1) : frame[0];
    return size >= 4 && (frame[0] & 0xc0) == 0x80 && (bits & 0x0c) == 0;
}

static int ivf_frame(struct media_track *track, enum codec codec, const uint8_t *frame, size_t size)
{
    bool keyframe = codec == CODEC_VP8 ? vp8_keyframe(frame, size)
                                       : codec == CODEC_VP9 && vp9_keyframe(frame, size);
    if (!media_track_frame(track, 0, keyframe))
        return -ENOMEM;
    if (codec != CODEC_AV1)
        return media_track_append(track, frame, size) ? 0 : -ENOMEM;
    int rc = av1_units(track, frame, size, &keyframe);
    struct media_frame *last = &track->frame[track->frames - 1];
    last->keyframe = keyframe;
    track->keyframes += keyframe;
    return rc < 0 ? rc : last->length == 0 ? -EBADMSG : 0;
}

// Durations from the frames' times: each lasts until the next, the last as long as the one before.
static int ivf_time(struct media_track *track, const uint64_t pts, uint64_t *before, uint32_t scale,
                    uint32_t rate)
{
    struct media_frame *frame = track->frame + track->frames - 1;
    if (track->frames > 1) {
        // Exact sums: from the start of the file, not from frame to frame.
        uint64_t now = (uint64_t)((__uint128_t)pts * scale * MEDIA_VIDEO_RATE / rate);
        uint64_t then = (uint64_t)((__uint128_t)*before * scale * MEDIA_VIDEO_RATE / rate);
        if (pts <= *before || now - then == 0 || now - then > 10 * MEDIA_VIDEO_RATE)
            return -EBADMSG;
        frame[-1].units = (uint32_t)(now - then);
        frame->units = frame[-1].units;
        track->units += frame[-1].units;
    }
    *before = pts;
    return 0;
}

static int ivf_frames(struct media_track *track, enum codec codec, const uint8_t *data, size_t size)
{
    uint32_t rate = le32(data + 16), scale = le32(data + 20);
    uint64_t before = 0;
    size_t at = data[6] | (size_t)data[7] << 8;
    if (rate == 0 || scale == 0 || at < 32)
        return -EBADMSG;
    while (at < size) {
        if (size - at < 12)
            return -EBADMSG;
        uint32_t length = le32(data + at);
        uint64_t pts = le64(data + at + 4);
        at += 12;
        if (length == 0 || length > size - at || length > MEDIA_FRAME_MAX)
            return -EBADMSG;
        int rc = ivf_frame(track, codec, data + at, length);
        if (rc == 0)
            rc = ivf_time(track, pts, &before, scale, rate);
        if (rc < 0)
            return rc;
        at += length;
    }
    if (track->frames < 2)
        return -EBADMSG;
    track->units += track->frame[track->frames - 1].units;
    return 0;
}

int media_read_ivf(struct media_track *track, enum codec codec, const uint8_t *data, size_t size,
                   char error[MEDIA_ERROR])
{
    const char *name = codec == CODEC_VP8 ? "VP80" : codec == CODEC_VP9 ? "VP90" : "AV01";
    if (size < 32 || memcmp(data, "DKIF", 4) != 0 || memcmp(data + 8, name, 4) != 0) {
        snprintf(error, MEDIA_ERROR, "not an IVF file with %s", name);
        return -EINVAL;
    }
    track->width = (uint16_t)(data[12] | data[13] << 8);
    track->height = (uint16_t)(data[14] | data[15] << 8);
    int rc = ivf_frames(track, codec, data, size);
    if (rc == 0 && !track->frame[0].keyframe)
        rc = -EBADMSG;
    if (rc == -EBADMSG) {
        snprintf(error, MEDIA_ERROR, "broken IVF file at frame %u", track->frames);
        return -EINVAL;
    }
    return rc;
}

// Samples at 48 kHz of an Opus packet (RFC 6716 3.1, 3.2); 0 if it is none.
static uint32_t opus_units(const uint8_t *packet, size_t size)
{
    static const uint16_t silk[4] = {480, 960, 1920, 2880};
    if (size == 0)
        return 0;
    unsigned config = packet[0] >> 3, code = packet[0] & 3;
    uint32_t frame = config < 12   ? silk[config & 3]
                     : config < 16 ? (config & 1 ? 960 : 480)
                                   : 120u << (config & 3);
    uint32_t frames = code == 0 ? 1 : code < 3 ? 2 : size > 1 ? packet[1] & 0x3f : 0;
    return frame * frames <= 5760 ? frame * frames : 0;
}

static uint32_t ogg_crc(const uint8_t *page, size_t size)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= (uint32_t)(i >= 22 && i < 26 ? 0 : page[i]) << 24;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc << 1 ^ (crc & 0x80000000u ? 0x04c11db7u : 0);
    }
    return crc;
}

struct ogg {
    uint8_t packet[MEDIA_PAYLOAD_MAX];
    size_t length;
    bool large; // the packet is not kept
    unsigned number;
};

static int ogg_packet(struct media_track *track, const struct ogg *ogg)
{
    if (ogg->number == 0)
        return ogg->length >= 19 && memcmp(ogg->packet, "OpusHead", 8) == 0 ? 0 : -EBADMSG;
    if (ogg->number == 1) // OpusTags
        return 0;
    uint32_t units = ogg->large ? 0 : opus_units(ogg->packet, ogg->length);
    if (units == 0)
        return -EBADMSG;
    track->units += units;
    return media_track_frame(track, units, true) &&
                   media_track_append(track, ogg->packet, ogg->length)
               ? 0
               : -ENOMEM;
}

static int ogg_page(struct media_track *track, struct ogg *ogg, const uint8_t *page,
                    const uint8_t *body)
{
    for (unsigned i = 0; i < page[26]; i++) {
        uint8_t lacing = page[27 + i];
        if (ogg->length + lacing > sizeof(ogg->packet))
            ogg->large = true;
        if (!ogg->large) {
            memcpy(ogg->packet + ogg->length, body, lacing);
            ogg->length += lacing;
        }
        body += lacing;
        if (lacing == 255)
            continue;
        int rc = ogg_packet(track, ogg);
        if (rc < 0)
            return rc;
        ogg->number++;
        ogg->length = 0;
        ogg->large = false;
    }
    return 0;
}

int media_read_ogg(struct media_track *track, const uint8_t *data, size_t size,
                   char error[MEDIA_ERROR])
{
    struct ogg ogg = {0};
    int rc = 0;
    size_t at = 0;
    while (rc == 0 && at < size) {
        const uint8_t *page = data + at;
        size_t left = size - at, body = 0;
        rc = -EBADMSG;
        if (left < 27 || memcmp(page, "OggS", 4) != 0 || left < 27u + page[26])
            break;
        for (unsigned i = 0; i < page[26]; i++)
            body += page[27 + i];
        size_t length = 27u + page[26] + body;
        if (left < length || ogg_crc(page, length) != le32(page + 22))
            break;
        rc = ogg_page(track, &ogg, page, page + 27 + page[26]);
        at += length;
    }
    if (rc == 0 && track->frames == 0)
        rc = -EBADMSG;
    if (rc == -EBADMSG) {
        snprintf(error, MEDIA_ERROR, "not an Ogg file with Opus, or broken at byte %zu", at);
        return -EINVAL;
    }
    return rc;
}
