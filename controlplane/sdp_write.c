// Bounded writer of SDP text, and the lines that answers and fragments share. Any thread.
//
// What does not fit is left out and remembered, so that callers check once, at the end.
#include "sdp_codec.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// The two arguments of "%.*s".
#define SDP_VIEW(view) (int)(view).len, (view).at

void sdp_writer_init(struct sdp_writer *writer, char *buffer, size_t size)
{
    *writer = (struct sdp_writer){.buffer = buffer, .size = size};
    buffer[0] = '\0';
}

static void append(struct sdp_writer *writer, const char *format, va_list arguments)
{
    size_t left = writer->size - writer->used;
    if (writer->full)
        return;
    int n = vsnprintf(writer->buffer + writer->used, left, format, arguments);
    if (n < 0 || (size_t)n >= left) {
        writer->buffer[writer->used] = '\0';
        writer->full = true;
        return;
    }
    writer->used += (size_t)n;
}

void sdp_text(struct sdp_writer *writer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    append(writer, format, arguments);
    va_end(arguments);
}

void sdp_line(struct sdp_writer *writer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    append(writer, format, arguments);
    va_end(arguments);
    sdp_text(writer, "\r\n");
}

static int writer_end(const struct sdp_writer *writer)
{
    return writer->full ? -ENOSPC : (int)writer->used;
}

static void write_credentials(struct sdp_writer *writer, const struct msg_ice *ice)
{
    sdp_line(writer, "a=ice-ufrag:%.*s", MSG_UFRAG_LEN, ice->ufrag);
    sdp_line(writer, "a=ice-pwd:%.*s", MSG_PWD_LEN, ice->pwd);
}

// RFC 8445 5.1.2.1: type preference 126 (host), component 1.
static uint32_t default_priority(unsigned place)
{
    return 126u << 24 | (65535u - (place & 0xffff)) << 8 | 255u;
}

static void write_candidates(struct sdp_writer *writer, const struct sdp_local *local)
{
    for (unsigned i = 0; i < local->candidates; i++) {
        const struct sdp_candidate *candidate = &local->candidate[i];
        char text[INET6_ADDRSTRLEN];
        int family = candidate->addr.family == 6 ? AF_INET6 : AF_INET;
        if (!inet_ntop(family, candidate->addr.ip, text, sizeof(text)))
            continue;
        // "udp" in lower case: FFmpeg compares it so.
        sdp_line(writer, "a=candidate:%u 1 udp %u %s %u typ host", i + 1,
                 candidate->priority ? candidate->priority : default_priority(i), text,
                 candidate->addr.port);
    }
    sdp_line(writer, "a=end-of-candidates");
}

static void write_bundle(struct sdp_writer *writer, const struct sdp_answer *answer,
                         const struct sdp *offer)
{
    sdp_text(writer, "a=group:BUNDLE");
    for (int i = 0; i < offer->medias; i++)
        if (answer->media_track[i] != SDP_REJECTED)
            sdp_text(writer, " %.*s", SDP_VIEW(offer->media[i].mid));
    sdp_line(writer, "%s", "");
}

static void write_session(struct sdp_writer *writer, const struct sdp_answer *answer,
                          const struct sdp *offer, const struct sdp_local *local)
{
    sdp_line(writer, "v=0");
    sdp_line(writer, "o=hitless %llu 1 IN IP4 127.0.0.1", (unsigned long long)local->id);
    sdp_line(writer, "s=-");
    sdp_line(writer, "t=0 0");
    sdp_line(writer, "a=ice-lite");
    if (offer->bundle.len)
        write_bundle(writer, answer, offer);
    if (offer->common.extmap_allow_mixed)
        sdp_line(writer, "a=extmap-allow-mixed");
}

static void write_fingerprint(struct sdp_writer *writer, const uint8_t digest[32])
{
    sdp_text(writer, "a=fingerprint:sha-256 %02X", digest[0]);
    for (int i = 1; i < 32; i++)
        sdp_text(writer, ":%02X", digest[i]);
    sdp_line(writer, "%s", "");
}

// Every accepted m-line repeats the bundle's transport: it is what browsers do and all clients
// read.
static void write_transport(struct sdp_writer *writer, const struct sdp_answer *answer,
                            const struct sdp_media *media, const struct sdp_local *local)
{
    write_credentials(writer, local->ice);
    write_fingerprint(writer, local->fingerprint);
    sdp_line(writer, "a=setup:%s", answer->dtls_client ? "active" : "passive");
    sdp_line(writer, "a=rtcp-mux");
    if (media->rtcp_rsize)
        sdp_line(writer, "a=rtcp-rsize");
}

static void write_extensions(struct sdp_writer *writer, const struct sdp_answer *answer,
                             const struct sdp_media *media, const struct msg_track *track)
{
    static const char *const uris[] = {
#define X(name, uri) [HDREXT_##name] = uri,
        HDREXT_LIST(X)
#undef X
    };
    const char *ours = answer->role == ROLE_PLAY ? "/sendonly" : "/recvonly";
    for (int e = 0; e < HDREXTS; e++) {
        uint8_t way = media->common.ext_direction[e];
        if (track->hdrext[e])
            sdp_line(writer, "a=extmap:%u%s %s", track->hdrext[e],
                     way == SDP_SENDONLY || way == SDP_RECVONLY ? ours : "", uris[e]);
    }
}

static void write_feedback(struct sdp_writer *writer, const struct msg_track *track)
{
    static const struct {
        uint8_t bit;
        const char *name;
    } names[] = {{FB_TRANSPORT_CC, "transport-cc"},
                 {FB_REMB, "goog-remb"},
                 {FB_FIR, "ccm fir"},
                 {FB_NACK, "nack"},
                 {FB_PLI, "nack pli"}};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (track->feedback & names[i].bit)
            sdp_line(writer, "a=rtcp-fb:%u %s", track->pt, names[i].name);
}

static void write_codec(struct sdp_writer *writer, const struct msg_track *track, const char *fmtp)
{
    sdp_line(writer, "a=rtpmap:%u %s/%u%s", track->pt, sdp_codec_name(track->codec),
             track->clock_rate, track->codec == CODEC_OPUS ? "/2" : "");
    write_feedback(writer, track);
    if (*fmtp)
        sdp_line(writer, "a=fmtp:%u %s", track->pt, fmtp);
    if (track->rtx_pt == MSG_NO_PT)
        return;
    sdp_line(writer, "a=rtpmap:%u rtx/%u", track->rtx_pt, track->clock_rate);
    sdp_line(writer, "a=fmtp:%u apt=%u", track->rtx_pt, track->pt);
}

// The layers that a publisher may send (RFC 8853 5.3).
static void write_simulcast(struct sdp_writer *writer, const struct msg_track *track)
{
    if (!track->layer[0].rid[0])
        return;
    for (int i = 0; i < track->layers; i++)
        sdp_line(writer, "a=rid:%s recv", track->layer[i].rid);
    sdp_text(writer, "a=simulcast:recv %s", track->layer[0].rid);
    for (int i = 1; i < track->layers; i++)
        sdp_text(writer, ";%s", track->layer[i].rid);
    sdp_line(writer, "%s", "");
}

// What we send to a viewer (RFC 8830, 5576).
static void write_sources(struct sdp_writer *writer, const struct msg_track *track,
                          const char *cname)
{
    const char *kind = track->kind == KIND_AUDIO ? "audio" : "video";
    uint32_t ssrc[2] = {track->layer[0].ssrc, track->layer[0].rtx_ssrc};
    int count = track->rtx_pt == MSG_NO_PT ? 1 : 2;
    sdp_line(writer, "a=msid:%s %s%u", cname, kind, track->source);
    if (count == 2)
        sdp_line(writer, "a=ssrc-group:FID %u %u", ssrc[0], ssrc[1]);
    for (int i = 0; i < count; i++) {
        sdp_line(writer, "a=ssrc:%u cname:%s", ssrc[i], cname);
        sdp_line(writer, "a=ssrc:%u msid:%s %s%u", ssrc[i], cname, kind, track->source);
    }
}

static void write_rejected(struct sdp_writer *writer, const struct sdp_media *media)
{
    sdp_line(writer, "m=%.*s 0 %.*s %.*s", SDP_VIEW(media->type), SDP_VIEW(media->proto),
             SDP_VIEW(media->fmt));
    sdp_line(writer, "c=IN IP4 0.0.0.0");
    if (media->mid.len)
        sdp_line(writer, "a=mid:%.*s", SDP_VIEW(media->mid));
    sdp_line(writer, "a=inactive");
}

static void write_accepted(struct sdp_writer *writer, const struct sdp_answer *answer,
                           const struct sdp *offer, int m, const struct sdp_local *local)
{
    const struct sdp_media *media = &offer->media[m];
    bool idle = answer->media_track[m] == SDP_IDLE;
    const struct msg_track *track =
        idle ? &answer->idle : &answer->tracks.track[answer->media_track[m]];
    sdp_text(writer, "m=%.*s 9 %.*s %u", SDP_VIEW(media->type), SDP_VIEW(media->proto), track->pt);
    if (track->rtx_pt != MSG_NO_PT)
        sdp_text(writer, " %u", track->rtx_pt);
    sdp_line(writer, "%s", "");
    sdp_line(writer, "c=IN IP4 0.0.0.0");
    if (media->mid.len)
        sdp_line(writer, "a=mid:%.*s", SDP_VIEW(media->mid));
    sdp_line(writer, "a=%s",
             idle                        ? "inactive"
             : answer->role == ROLE_PLAY ? "sendonly"
                                         : "recvonly");
    write_transport(writer, answer, media, local);
    if (media->common.extmap_allow_mixed && !offer->common.extmap_allow_mixed)
        sdp_line(writer, "a=extmap-allow-mixed");
    write_extensions(writer, answer, media, track);
    write_codec(writer, track, idle ? "" : answer->tracks.fmtp[answer->media_track[m]].text);
    if (idle)
        return;
    if (answer->role == ROLE_PLAY)
        write_sources(writer, track, local->cname);
    else
        write_simulcast(writer, track);
}

static bool is_complete(const struct sdp_answer *answer, const struct sdp_local *local)
{
    if (answer->role != ROLE_PLAY)
        return true;
    for (int i = 0; i < answer->tracks.count; i++) {
        const struct msg_track *track = &answer->tracks.track[i];
        if (!track->layer[0].ssrc || (track->rtx_pt != MSG_NO_PT && !track->layer[0].rtx_ssrc))
            return false;
    }
    return local->cname && *local->cname && strlen(local->cname) <= SDP_MAX_TOKEN;
}

int sdp_answer_write(const struct sdp_answer *answer, const struct sdp *offer,
                     const struct sdp_local *local, char *buffer, size_t size)
{
    struct sdp_writer writer;
    bool first = true;
    if (!is_complete(answer, local))
        return -EINVAL;
    sdp_writer_init(&writer, buffer, size);
    write_session(&writer, answer, offer, local);
    for (int m = 0; m < offer->medias; m++) {
        if (answer->media_track[m] == SDP_REJECTED) {
            write_rejected(&writer, &offer->media[m]);
            continue;
        }
        write_accepted(&writer, answer, offer, m, local);
        if (first)
            write_candidates(&writer, local);
        first = false;
    }
    return writer_end(&writer);
}

int sdp_write_fragment(const struct sdp_fragment *fragment, const struct sdp_local *local,
                       char *buffer, size_t size)
{
    struct sdp_writer writer;
    sdp_writer_init(&writer, buffer, size);
    sdp_line(&writer, "a=ice-lite");
    if (fragment->type.len) {
        sdp_line(&writer, "m=%.*s 9 %.*s %.*s", SDP_VIEW(fragment->type), SDP_VIEW(fragment->proto),
                 SDP_VIEW(fragment->fmt));
        if (fragment->mid.len)
            sdp_line(&writer, "a=mid:%.*s", SDP_VIEW(fragment->mid));
    }
    write_credentials(&writer, local->ice);
    write_candidates(&writer, local);
    return writer_end(&writer);
}
