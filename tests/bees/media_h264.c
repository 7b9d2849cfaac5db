// Reads an H.264 byte stream (ITU-T H.264 annex B) into a track: one frame per access unit. Access
// unit delimiters, SEI and filler are left out; parameter sets go before each IDR picture, as
// viewers join there. Files are untrusted. Limits: no picture size (the SPS is not read), no B
// frames (RTP times are those of decoding).
#include "media_parts.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NAL_SLICE = 1, NAL_IDR = 5, NAL_SPS = 7, NAL_PPS = 8 };

struct nal {
    const uint8_t *data;
    size_t size;
};

struct h264 {
    struct nal sps, pps; // the last ones
    bool pending[2];     // SPS, PPS stand before the frame that comes next

    double frame_rate;
};

// The next NAL unit after a start code. Trailing zeros belong to the next start code or to none.
static bool next_nal(const uint8_t *data, size_t size, size_t *at, struct nal *nal)
{
    size_t i = *at;
    while (i + 3 <= size && !(data[i] == 0 && data[i + 1] == 0 && data[i + 2] == 1))
        i++;
    if (i + 3 >= size)
        return false;
    size_t start = i + 3, end = start;
    while (end < size &&
           !(end + 3 <= size && data[end] == 0 && data[end + 1] == 0 && data[end + 2] <= 1))
        end++;
    *at = end;
    while (end > start && data[end - 1] == 0)
        end--;
    *nal = (struct nal){data + start, end - start};
    return true;
}

// Time of frame n in units: exact for rates such as 30000/1001 over any length.
static uint32_t frame_units(uint32_t n, double rate)
{
    double unit = MEDIA_VIDEO_RATE / rate;
    return (uint32_t)((uint64_t)(unit * (n + 1) + 0.5) - (uint64_t)(unit * n + 0.5));
}

static int begin_frame(struct h264 *h264, struct media_track *track, bool idr)
{
    uint32_t units = frame_units(track->frames, h264->frame_rate);
    if (!media_track_frame(track, units, idr))
        return -ENOMEM;
    track->units += units;
    if (idr && (!h264->sps.data || !h264->pps.data))
        return -EBADMSG;
    if ((idr || h264->pending[0]) && h264->sps.data &&
        !media_track_unit(track, h264->sps.data, h264->sps.size))
        return -ENOMEM;
    if ((idr || h264->pending[1]) && h264->pps.data &&
        !media_track_unit(track, h264->pps.data, h264->pps.size))
        return -ENOMEM;
    h264->pending[0] = h264->pending[1] = false;
    return 0;
}

static int take_nal(struct h264 *h264, struct media_track *track, struct nal nal)
{
    uint8_t type = nal.size > 0 ? nal.data[0] & 0x1f : 0;
    if (nal.size > MEDIA_FRAME_MAX || (nal.size > 0 && nal.data[0] & 0x80))
        return -EBADMSG;
    switch (type) {
    case NAL_SPS:
        h264->sps = nal;
        h264->pending[0] = true;
        return 0;
    case NAL_PPS:
        h264->pps = nal;
        h264->pending[1] = true;
        return 0;
    case NAL_SLICE:
    case NAL_IDR:
        if (nal.size < 2)
            return -EBADMSG;
        // first_mb_in_slice is 0: a single 1 bit.
        if (nal.data[1] & 0x80 || track->frames == 0) {
            int rc = begin_frame(h264, track, type == NAL_IDR);
            if (rc < 0)
                return rc;
        }
        return media_track_unit(track, nal.data, nal.size) ? 0 : -ENOMEM;
    case 2: // data partitions: extended profile, which no browser has
    case 3:
    case 4:
        return -EBADMSG;
    default:
        return 0;
    }
}

int media_read_h264(struct media_track *track, double frame_rate, const uint8_t *data, size_t size,
                    char error[MEDIA_ERROR])
{
    struct h264 h264 = {.frame_rate = frame_rate};
    struct nal nal;
    size_t at = 0;
    int rc = 0;
    if (!(frame_rate >= 1 && frame_rate <= 240)) {
        snprintf(error, MEDIA_ERROR, "frame rate %g is not within 1 to 240", frame_rate);
        return -EINVAL;
    }
    while (rc == 0 && next_nal(data, size, &at, &nal))
        rc = take_nal(&h264, track, nal);
    if (rc == 0 && (track->frames < 2 || !track->frame[0].keyframe))
        rc = -EBADMSG;
    if (rc == -EBADMSG) {
        snprintf(error, MEDIA_ERROR,
                 "no H.264 byte stream that begins with a key frame, or broken at "
                 "frame %u",
                 track->frames);
        return -EINVAL;
    }
    return rc;
}
