// Negotiation: which m-line carries which track, with what codec, feedback and extensions.
//
// Pure, any thread. RFC 3264, 8829 5.3, 9143 7.3, 9725 4.4; see sdp_answer.h for limits.
#include "sdp_answer.h"
#include "sdp_attr.h"
#include "sdp_codec.h"
#include "sdp_layers.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

// Extensions whose content changes per packet or per client: towards viewers they would rule out
// identical bytes from two nodes, and a viewer finds its tracks by SSRC.
#define EXT_BIT(name) (1u << HDREXT_##name)
static const uint32_t not_to_viewers = EXT_BIT(MID) | EXT_BIT(RID) | EXT_BIT(REPAIRED_RID) |
                                       EXT_BIT(ABS_SEND_TIME) | EXT_BIT(TRANSPORT_CC);

static int refuse(struct sdp_error *error, int code, unsigned line, const char *reason)
{
    error->line = line;
    snprintf(error->reason, sizeof(error->reason), "%s", reason);
    return code;
}

static bool in_bundle(const struct sdp *offer, struct sdp_view mid)
{
    struct sdp_view rest = offer->bundle, piece;
    while (mid.len && sdp_split(&rest, ' ', &piece))
        if (piece.len == mid.len && !memcmp(piece.at, mid.at, mid.len))
            return true;
    return false;
}

// RFC 8829 5.1.2's profiles of RTP over DTLS.
static bool is_dtls_rtp(struct sdp_view proto)
{
    static const char *const names[] = {"UDP/TLS/RTP/SAVPF",  "UDP/TLS/RTP/SAVP",
                                        "TCP/DTLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVP",
                                        "RTP/SAVPF",          "RTP/SAVP"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (sdp_view_is(proto, names[i]))
            return true;
    return false;
}

static enum media_kind kind_of(const struct sdp_media *media)
{
    if (sdp_view_is(media->type, "audio"))
        return KIND_AUDIO;
    return sdp_view_is(media->type, "video") ? KIND_VIDEO : 0;
}

// An offer of one m-line needs no bundle: GStreamer makes such.
static bool is_alone(const struct sdp *offer)
{
    return offer->medias == 1 && !offer->bundle.len;
}

// Whether the m-line is live, on the one transport, and open in the direction that `role` needs.
static bool is_open(const struct sdp *offer, const struct sdp_media *media, enum session_role role)
{
    uint8_t wanted = role == ROLE_PUBLISH ? SDP_SENDONLY : SDP_RECVONLY;
    uint8_t direction = media->common.direction;
    return kind_of(media) && media->rtp && is_dtls_rtp(media->proto) &&
           (media->port || media->bundle_only) &&
           (is_alone(offer) || in_bundle(offer, media->mid)) &&
           (direction == wanted || direction == SDP_SENDRECV);
}

static bool has_credentials(const struct sdp_common *common)
{
    return common->ufrag.len && common->pwd.len;
}

// The section that speaks for the bundle's transport: the first in the group that has credentials.
static const struct sdp_common *find_transport(const struct sdp *offer)
{
    struct sdp_view rest = offer->bundle, mid;
    if (is_alone(offer))
        return has_credentials(&offer->media[0].common) ? &offer->media[0].common : NULL;
    while (sdp_split(&rest, ' ', &mid)) {
        for (int i = 0; i < offer->medias; i++) {
            const struct sdp_media *media = &offer->media[i];
            if (media->mid.len == mid.len && !memcmp(media->mid.at, mid.at, mid.len) &&
                has_credentials(&media->common))
                return &media->common;
        }
    }
    return NULL;
}

static int read_transport(const struct sdp *offer, struct sdp_answer *answer,
                          struct sdp_error *error)
{
    if (!offer->bundle.len && !is_alone(offer))
        return refuse(error, -ENOTSUP, 0, "offer has no a=group:BUNDLE");
    if (offer->ice_lite)
        return refuse(error, -ENOTSUP, 0, "both ends are ICE-lite: neither would send checks");
    const struct sdp_common *transport = find_transport(offer);
    if (!transport)
        return refuse(error, -ENOTSUP, 0, "offer has no ice-ufrag and ice-pwd in its bundle");
    if (!transport->fingerprints)
        return refuse(error, -ENOTSUP, 0,
                      transport->foreign_fingerprint
                          ? "no fingerprint of sha-256, sha-384 or sha-512"
                          : "offer has no fingerprint");
    if (transport->setup == SDP_HOLDCONN)
        return refuse(error, -ENOTSUP, 0, "setup is holdconn");
    answer->dtls_client = transport->setup == SDP_PASSIVE;
    answer->remote_ufrag = transport->ufrag;
    answer->remote_pwd = transport->pwd;
    answer->fingerprints = transport->fingerprints;
    memcpy(answer->fingerprint, transport->fingerprint, sizeof(answer->fingerprint));
    return 0;
}

static uint8_t find_rtx(const struct sdp_media *media, const struct sdp_format *format)
{
    for (int i = 0; i < media->formats; i++) {
        const struct sdp_format *rtx = &media->format[i];
        struct sdp_view apt;
        uint32_t pt;
        if (sdp_codec_pt(rtx->pt) && sdp_view_is_nocase(rtx->encoding, "rtx") &&
            rtx->clock_rate == format->clock_rate && sdp_fmtp_get(rtx->fmtp, "apt", &apt) &&
            sdp_number(apt, 127, &pt) && pt == format->pt)
            return rtx->pt;
    }
    return MSG_NO_PT;
}

// Adds the track of m-line `m`, with what both roles have in common. NULL with `error` filled in
// if the m-line cannot be served.
static struct msg_track *add_track(struct sdp_answer *answer, const struct sdp *offer, int m,
                                   const struct sdp_format *format, struct sdp_error *error)
{
    const struct sdp_media *media = &offer->media[m];
    struct msg_track *track = &answer->tracks.track[answer->tracks.count];
    if (!media->rtcp_mux) {
        refuse(error, -ENOTSUP, media->line, "m-line has no a=rtcp-mux");
        return NULL;
    }
    if (media->mid.len >= sizeof(track->mid)) {
        refuse(error, -ENOTSUP, media->line, "mid is longer than 15 characters");
        return NULL;
    }
    enum codec codec = sdp_codec_of(format);
    track->kind = (uint8_t)sdp_codec_kind(codec);
    track->codec = (uint8_t)codec;
    track->pt = format->pt;
    track->rtx_pt = find_rtx(media, format);
    track->clock_rate = format->clock_rate;
    track->layers = 1;
    if (media->mid.len) // else there may be nothing to point at
        memcpy(track->mid, media->mid.at, media->mid.len);
    sdp_codec_fmtp(codec, format->fmtp, &answer->tracks.fmtp[answer->tracks.count]);
    answer->media_track[m] = answer->tracks.count++;
    return track;
}

static void begin_answer(struct sdp_answer *answer, enum session_role role)
{
    memset(answer, 0, sizeof(*answer));
    memset(answer->media_track, SDP_REJECTED, sizeof(answer->media_track));
    answer->role = role;
}

static int finish_answer(const struct sdp_answer *answer, bool any_open, struct sdp_error *error)
{
    if (answer->tracks.count)
        return 0;
    if (any_open)
        return refuse(error, -ENOMSG, 0, "no common codec");
    return refuse(error, -ENOTSUP, 0,
                  answer->role == ROLE_PUBLISH
                      ? "offer has no bundled audio or video that it would send"
                      : "offer has no bundled audio or video that it would receive");
}

// A browser's Baseline encoder makes Constrained Baseline, and that is what every WebRTC decoder
// takes (RFC 7742 6.2): where both are offered, the stream had better be called that.
static const struct sdp_format *constrained_twin(const struct sdp_media *media,
                                                 const struct sdp_format *format)
{
    if (!sdp_codec_is_baseline(sdp_codec_of(format), format->fmtp))
        return format;
    for (int i = 0; i < media->formats; i++) {
        const struct sdp_format *other = &media->format[i];
        if (sdp_codec_of(other) == CODEC_H264 &&
            sdp_codec_fit(CODEC_H264, other->fmtp, format->fmtp) == SDP_FIT_DECODES)
            return other;
    }
    return format;
}

static const struct sdp_format *first_allowed(const struct sdp_media *media, uint32_t codecs)
{
    for (int i = 0; i < media->formats; i++) {
        enum codec codec = sdp_codec_of(&media->format[i]);
        if (codec && (codecs >> codec & 1) && sdp_codec_kind(codec) == kind_of(media))
            return constrained_twin(media, &media->format[i]);
    }
    return NULL;
}

// The first in the offer's order; G.711 only if there is no Opus, wherever it stands.
static const struct sdp_format *choose_format(const struct sdp_media *media, uint32_t codecs)
{
    const uint32_t g711 = 1u << CODEC_PCMU | 1u << CODEC_PCMA;
    const struct sdp_format *format = first_allowed(media, codecs & ~g711);
    return format ? format : first_allowed(media, codecs);
}

static void agree_publish(const struct sdp_media *media, const struct sdp_format *format,
                          struct msg_track *track)
{
    for (int e = 0; e < HDREXTS; e++) {
        uint8_t way = media->common.ext_direction[e];
        if (way == SDP_UNSET || way == SDP_SENDRECV || way == SDP_SENDONLY)
            track->hdrext[e] = media->common.ext_id[e];
    }
    // Of the two ways of congestion control one; transport-cc needs its extension.
    track->feedback = format->feedback;
    if (!track->hdrext[HDREXT_TRANSPORT_CC])
        track->feedback &= (uint8_t)~FB_TRANSPORT_CC;
    if (track->feedback & FB_TRANSPORT_CC)
        track->feedback &= (uint8_t)~FB_REMB;
    sdp_layers_read(media, track);
}

int sdp_answer_publish(const struct sdp *offer, uint32_t codecs, struct sdp_answer *answer,
                       struct sdp_error *error)
{
    bool any_open = false, taken[KIND_VIDEO + 1] = {false};
    *error = (struct sdp_error){0};
    begin_answer(answer, ROLE_PUBLISH);
    int rc = read_transport(offer, answer, error);
    for (int m = 0; m < offer->medias && rc == 0; m++) {
        const struct sdp_media *media = &offer->media[m];
        if (!is_open(offer, media, ROLE_PUBLISH) || taken[kind_of(media)])
            continue;
        any_open = true;
        const struct sdp_format *format = choose_format(media, codecs);
        if (!format)
            continue;
        struct msg_track *track = add_track(answer, offer, m, format, error);
        if (!track)
            return -ENOTSUP;
        agree_publish(media, format, track);
        taken[kind_of(media)] = true;
    }
    return rc ? rc : finish_answer(answer, any_open, error);
}

static struct sdp_view fmtp_view(const struct sdp_fmtp *fmtp)
{
    return (struct sdp_view){fmtp->text, (uint32_t)strnlen(fmtp->text, sizeof(fmtp->text))};
}

// The format of `media` that fits best what the stream's track `t` carries; NULL if none does.
static const struct sdp_format *fitting_format(const struct sdp_media *media,
                                               const struct sdp_tracks *stream, int t)
{
    const struct sdp_format *best = NULL;
    enum sdp_fit best_fit = SDP_FIT_NONE;
    enum codec codec = (enum codec)stream->track[t].codec;
    for (int i = 0; i < media->formats; i++) {
        const struct sdp_format *format = &media->format[i];
        if (sdp_codec_of(format) != codec || stream->track[t].kind != kind_of(media))
            continue;
        enum sdp_fit fit = sdp_codec_fit(codec, fmtp_view(&stream->fmtp[t]), format->fmtp);
        if (fit > best_fit) {
            best = format;
            best_fit = fit;
        }
    }
    return best;
}

static void agree_play(const struct sdp_media *media, const struct sdp_format *format,
                       const struct msg_track *source, struct msg_track *track)
{
    for (int e = 0; e < HDREXTS; e++) {
        uint8_t way = media->common.ext_direction[e];
        if (source->hdrext[e] && !(not_to_viewers >> e & 1) &&
            (way == SDP_UNSET || way == SDP_SENDRECV || way == SDP_RECVONLY))
            track->hdrext[e] = media->common.ext_id[e];
    }
    track->feedback = format->feedback & (FB_NACK | FB_PLI | FB_FIR);
}

static bool is_tagged(const struct sdp *offer, const struct sdp_media *media)
{
    struct sdp_view rest = offer->bundle, mid;
    return sdp_split(&rest, ' ', &mid) && media->mid.len == mid.len &&
           memcmp(media->mid.at, mid.at, mid.len) == 0;
}

// GStreamer's webrtcbin hangs the bundle's transport on the m-line that its offer names first, and
// receives nothing if that one is rejected (RFC 9143 7.3.3 would have another take its place). So
// where the stream has nothing for it, it is kept and idle.
static void keep_tagged(const struct sdp *offer, struct sdp_answer *answer)
{
    for (int m = 0; m < offer->medias && answer->tracks.count; m++) {
        const struct sdp_media *media = &offer->media[m];
        if (answer->media_track[m] != SDP_REJECTED || !is_tagged(offer, media) ||
            !is_open(offer, media, ROLE_PLAY) || !media->rtcp_mux)
            continue;
        const struct sdp_format *format = first_allowed(media, SDP_ALL_CODECS);
        if (!format)
            return;
        answer->idle = (struct msg_track){.kind = (uint8_t)kind_of(media),
                                          .codec = (uint8_t)sdp_codec_of(format),
                                          .pt = format->pt,
                                          .rtx_pt = MSG_NO_PT,
                                          .clock_rate = format->clock_rate};
        answer->media_track[m] = SDP_IDLE;
    }
}

int sdp_answer_play(const struct sdp *offer, const struct sdp_tracks *stream,
                    struct sdp_answer *answer, struct sdp_error *error)
{
    bool any_open = false;
    *error = (struct sdp_error){0};
    begin_answer(answer, ROLE_PLAY);
    int rc = read_transport(offer, answer, error);
    for (int t = 0; t < stream->count && rc == 0; t++) {
        for (int m = 0; m < offer->medias; m++) {
            const struct sdp_media *media = &offer->media[m];
            if (answer->media_track[m] != SDP_REJECTED || !is_open(offer, media, ROLE_PLAY))
                continue;
            any_open = true;
            const struct sdp_format *format = fitting_format(media, stream, t);
            if (!format)
                continue;
            struct msg_track *track = add_track(answer, offer, m, format, error);
            if (!track)
                return -ENOTSUP;
            track->source = (uint8_t)t;
            agree_play(media, format, &stream->track[t], track);
            break;
        }
    }
    keep_tagged(offer, answer);
    return rc ? rc : finish_answer(answer, any_open, error);
}
