// Codecs as SDP names them, and which parameters of two ends fit. Pure, any thread.
//
// RFC 6184 8.1 and 8.2.2 (H.264), RFC 7587 (Opus), RFC 9628 (VP9), RFC 7798 (H.265) and the AV1 RTP
// specification. Levels are not compared: every offer of a browser allows them to differ.
#include "sdp_codec.h"
#include "sdp_attr.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum media_kind kind;
    uint32_t clock_rate;
    uint8_t channels;
    const char *parameters[6]; // that an answer repeats
} codecs[CODECS] = {
    [CODEC_OPUS] =
        {"opus", KIND_AUDIO, 48000, 2, {"minptime", "useinbandfec", "stereo", "sprop-stereo"}},
    [CODEC_VP8] = {"VP8", KIND_VIDEO, 90000, 1, {NULL}},
    [CODEC_VP9] = {"VP9", KIND_VIDEO, 90000, 1, {"profile-id"}},
    [CODEC_H264] = {"H264",
                    KIND_VIDEO,
                    90000,
                    1,
                    {"level-asymmetry-allowed", "packetization-mode", "profile-level-id"}},
    [CODEC_H265] =
        {"H265", KIND_VIDEO, 90000, 1, {"level-id", "profile-id", "tier-flag", "tx-mode"}},
    [CODEC_AV1] = {"AV1", KIND_VIDEO, 90000, 1, {"level-idx", "profile", "tier"}},
    [CODEC_PCMU] = {"PCMU", KIND_AUDIO, 8000, 1, {NULL}},
    [CODEC_PCMA] = {"PCMA", KIND_AUDIO, 8000, 1, {NULL}},
};

const char *sdp_codec_name(enum codec codec)
{
    return codecs[codec].name;
}

enum media_kind sdp_codec_kind(enum codec codec)
{
    return codecs[codec].kind;
}

// RFC 6184 table 5, and Constrained High as the H.264 specification has it since 2012.
enum h264_profile { CONSTRAINED_BASELINE = 1, BASELINE, MAIN, EXTENDED, CONSTRAINED_HIGH, HIGH };

static const struct {
    uint8_t idc, mask, bits; // profile_idc, and which bits of profile-iop must be what
    enum h264_profile profile;
} h264_profiles[] = {
    {0x42, 0x4f, 0x40, CONSTRAINED_BASELINE},
    {0x4d, 0x8f, 0x80, CONSTRAINED_BASELINE},
    {0x58, 0xcf, 0xc0, CONSTRAINED_BASELINE},
    {0x42, 0x4f, 0x00, BASELINE},
    {0x58, 0xcf, 0x80, BASELINE},
    {0x4d, 0xaf, 0x00, MAIN},
    {0x58, 0xcf, 0x00, EXTENDED},
    {0x64, 0xff, 0x0c, CONSTRAINED_HIGH},
    {0x64, 0xff, 0x00, HIGH},
};

// The profile, or 0x10000 and the two bytes for one outside the table; 0 if malformed. Without a
// profile-level-id it is Constrained Baseline, as browsers take it: the RFC's default of level 1
// would carry no video that anybody sends.
static unsigned h264_profile(struct sdp_view fmtp)
{
    struct sdp_view value;
    char text[7], *end;
    if (!sdp_fmtp_get(fmtp, "profile-level-id", &value))
        return CONSTRAINED_BASELINE;
    if (value.len != 6)
        return 0;
    memcpy(text, value.at, 6);
    text[6] = '\0';
    if (strspn(text, "0123456789abcdefABCDEF") != 6)
        return 0;
    unsigned id = (unsigned)strtoul(text, &end, 16);
    uint8_t idc = (uint8_t)(id >> 16), iop = (uint8_t)(id >> 8);
    for (unsigned i = 0; i < sizeof(h264_profiles) / sizeof(h264_profiles[0]); i++)
        if (h264_profiles[i].idc == idc && (iop & h264_profiles[i].mask) == h264_profiles[i].bits)
            return h264_profiles[i].profile;
    return 0x10000 | id >> 8;
}

bool sdp_codec_pt(uint8_t pt)
{
    return pt < 64 || pt > 95;
}

enum codec sdp_codec_of(const struct sdp_format *format)
{
    if (!sdp_codec_pt(format->pt))
        return CODEC_NONE;
    for (int c = CODEC_NONE + 1; c < CODECS; c++) {
        if (!sdp_view_is_nocase(format->encoding, codecs[c].name) ||
            format->clock_rate != codecs[c].clock_rate || format->channels != codecs[c].channels)
            continue;
        if (c == CODEC_H264 && !h264_profile(format->fmtp))
            return CODEC_NONE;
        return (enum codec)c;
    }
    return CODEC_NONE;
}

void sdp_codec_fmtp(enum codec codec, struct sdp_view offered, struct sdp_fmtp *fmtp)
{
    struct sdp_writer writer;
    struct sdp_view value;
    sdp_writer_init(&writer, fmtp->text, sizeof(fmtp->text));
    for (const char *const *name = codecs[codec].parameters; *name; name++) {
        if (!sdp_fmtp_get(offered, *name, &value) || !sdp_is_token(value) || value.len > 32)
            continue;
        sdp_text(&writer, "%s%s=%.*s", writer.used ? ";" : "", *name, (int)value.len, value.at);
    }
}

// Parameter of small numbers, as text, so that "01" is not taken for 1.
static bool same_parameter(const char *name, const char *fallback, struct sdp_view a,
                           struct sdp_view b)
{
    struct sdp_view x = {fallback, (uint32_t)strlen(fallback)}, y = x;
    sdp_fmtp_get(a, name, &x);
    sdp_fmtp_get(b, name, &y);
    return x.len == y.len && !memcmp(x.at, y.at, x.len);
}

static enum sdp_fit h264_fit(struct sdp_view sender, struct sdp_view receiver)
{
    unsigned sent = h264_profile(sender), wanted = h264_profile(receiver);
    if (!sent || !wanted || !same_parameter("packetization-mode", "0", sender, receiver))
        return SDP_FIT_NONE;
    if (sent == wanted)
        return SDP_FIT_SAME;
    // Constrained Baseline is part of every profile of the table, High has all of Main.
    bool part = (sent == CONSTRAINED_BASELINE && wanted <= HIGH) ||
                (wanted == HIGH && (sent == MAIN || sent == CONSTRAINED_HIGH));
    return part ? SDP_FIT_DECODES : SDP_FIT_NONE;
}

enum sdp_fit sdp_codec_fit(enum codec codec, struct sdp_view sender, struct sdp_view receiver)
{
    bool same = true;
    if (codec == CODEC_H264)
        return h264_fit(sender, receiver);
    if (codec == CODEC_VP9)
        same = same_parameter("profile-id", "0", sender, receiver);
    else if (codec == CODEC_AV1)
        same = same_parameter("profile", "0", sender, receiver);
    else if (codec == CODEC_H265)
        same = same_parameter("profile-id", "1", sender, receiver);
    return same ? SDP_FIT_SAME : SDP_FIT_NONE;
}

bool sdp_codec_is_baseline(enum codec codec, struct sdp_view fmtp)
{
    return codec == CODEC_H264 && h264_profile(fmtp) == BASELINE;
}
