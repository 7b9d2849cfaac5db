// The SDP that a session offers; see offer.h.
#include "offer.h"
#include "../../controlplane/sdp.h"
#include "net.h"
#include <errno.h>
#include <string.h>
#include <strings.h>

#define CNAME "bees"

const char *const offer_rids[OFFER_SIMULCAST] = {"h", "m", "l"};

static const struct offer_codec codecs[] = {
    {CODEC_OPUS, KIND_AUDIO, 111, MSG_NO_PT, 48000, "opus", "/2", "minptime=10;useinbandfec=1"},
    {CODEC_PCMU, KIND_AUDIO, 0, MSG_NO_PT, 8000, "PCMU", "", NULL},
    {CODEC_PCMA, KIND_AUDIO, 8, MSG_NO_PT, 8000, "PCMA", "", NULL},
    {CODEC_VP8, KIND_VIDEO, 96, 97, 90000, "VP8", "", NULL},
    {CODEC_VP9, KIND_VIDEO, 98, 99, 90000, "VP9", "", "profile-id=0"},
    {CODEC_H264, KIND_VIDEO, 102, 103, 90000, "H264", "",
     "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"},
    {CODEC_H265, KIND_VIDEO, 104, 105, 90000, "H265", "", NULL},
    {CODEC_AV1, KIND_VIDEO, 106, 107, 90000, "AV1", "", NULL},
};

const struct offer_codec *offer_codec(enum codec codec)
{
    for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
        if (codecs[i].codec == codec)
            return &codecs[i];
    return NULL;
}

enum codec offer_codec_named(const char *name)
{
    for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
        if (strcasecmp(codecs[i].name, name) == 0)
            return codecs[i].codec;
    return CODEC_NONE;
}

static void write_codec(struct sdp_writer *w, const struct offer *offer,
                        const struct offer_codec *codec)
{
    sdp_line(w, "a=rtpmap:%u %s/%u%s", codec->pt, codec->name, codec->clock_rate, codec->suffix);
    if (codec->fmtp)
        sdp_line(w, "a=fmtp:%u %s", codec->pt, codec->fmtp);
    if (offer->twcc)
        sdp_line(w, "a=rtcp-fb:%u transport-cc", codec->pt);
    sdp_line(w, "a=rtcp-fb:%u nack", codec->pt);
    if (codec->kind == KIND_VIDEO) {
        sdp_line(w, "a=rtcp-fb:%u nack pli", codec->pt);
        sdp_line(w, "a=rtcp-fb:%u ccm fir", codec->pt);
    }
    if (codec->rtx_pt != MSG_NO_PT) {
        sdp_line(w, "a=rtpmap:%u rtx/%u", codec->rtx_pt, codec->clock_rate);
        sdp_line(w, "a=fmtp:%u apt=%u", codec->rtx_pt, codec->pt);
    }
}

// What a publisher sends: SSRCs (RFC 5576), or rids for simulcast (RFC 8853).
static void write_sources(struct sdp_writer *w, const struct offer_track *track)
{
    bool rtx = offer_codec(track->codec[0])->rtx_pt != MSG_NO_PT;
    sdp_line(w, "a=msid:bees %s", track->kind == KIND_AUDIO ? "a" : "v");
    if (track->layers > 1) {
        for (int i = 0; i < track->layers && i < OFFER_SIMULCAST; i++)
            sdp_line(w, "a=rid:%s send", offer_rids[i]);
        sdp_text(w, "a=simulcast:send %s", offer_rids[0]);
        for (int i = 1; i < track->layers && i < OFFER_SIMULCAST; i++)
            sdp_text(w, ";%s", offer_rids[i]);
        sdp_line(w, "%s", "");
        return;
    }
    if (rtx)
        sdp_line(w, "a=ssrc-group:FID %u %u", track->ssrc[0], track->rtx_ssrc[0]);
    sdp_line(w, "a=ssrc:%u cname:" CNAME, track->ssrc[0]);
    if (rtx)
        sdp_line(w, "a=ssrc:%u cname:" CNAME, track->rtx_ssrc[0]);
}

static void write_credentials(struct sdp_writer *w, const struct offer *offer)
{
    sdp_line(w, "a=ice-ufrag:%s", offer->ufrag);
    sdp_line(w, "a=ice-pwd:%s", offer->pwd);
}

static void write_candidates(struct sdp_writer *w, const struct offer *offer)
{
    for (int i = 0; i < offer->locals; i++) {
        char ip[NET_TEXT];
        net_ip_text(ip, &offer->local[i]);
        sdp_line(w, "a=candidate:%d 1 udp %u %s %u typ host", i + 1,
                 126u << 24 | (65535u - (unsigned)i) << 8 | 255u, ip, offer->local[i].port);
    }
    sdp_line(w, "a=end-of-candidates");
}

static void write_extensions(struct sdp_writer *w, const struct offer *offer,
                             const struct offer_track *track)
{
    sdp_line(w, "a=extmap:%d urn:ietf:params:rtp-hdrext:sdes:mid", OFFER_EXT_MID);
    if (track->layers > 1) {
        sdp_line(w, "a=extmap:%d urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", OFFER_EXT_RID);
        sdp_line(w, "a=extmap:%d urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
                 OFFER_EXT_REPAIRED_RID);
    }
    if (offer->twcc)
        sdp_line(w,
                 "a=extmap:%d http://www.ietf.org/id/"
                 "draft-holmer-rmcat-transport-wide-cc-extensions-01",
                 OFFER_EXT_TWCC);
}

static void write_track(struct sdp_writer *w, const struct offer *offer, int m)
{
    const struct offer_track *track = &offer->track[m];
    sdp_text(w, "m=%s 9 UDP/TLS/RTP/SAVPF", track->kind == KIND_AUDIO ? "audio" : "video");
    for (int i = 0; i < track->codecs; i++) {
        const struct offer_codec *codec = offer_codec(track->codec[i]);
        sdp_text(w, " %u", codec->pt);
        if (codec->rtx_pt != MSG_NO_PT)
            sdp_text(w, " %u", codec->rtx_pt);
    }
    sdp_line(w, "%s", "");
    sdp_line(w, "c=IN IP4 0.0.0.0");
    sdp_line(w, "a=rtcp:9 IN IP4 0.0.0.0");
    write_credentials(w, offer);
    sdp_line(w, "a=ice-options:trickle");
    sdp_line(w, "a=fingerprint:sha-256 %s", offer->fingerprint);
    sdp_line(w, "a=setup:actpass");
    sdp_line(w, "a=mid:%d", m);
    write_extensions(w, offer, track);
    sdp_line(w, "a=%s", offer->role == BEES_WHEP ? "recvonly" : "sendonly");
    sdp_line(w, "a=rtcp-mux");
    sdp_line(w, "a=rtcp-rsize");
    for (int i = 0; i < track->codecs; i++)
        write_codec(w, offer, offer_codec(track->codec[i]));
    if (offer->role == BEES_WHIP)
        write_sources(w, track);
    if (m == 0 && !offer->trickle)
        write_candidates(w, offer);
}

int offer_write(const struct offer *offer, char *buffer, size_t size)
{
    struct sdp_writer w;
    sdp_writer_init(&w, buffer, size);
    sdp_line(&w, "v=0");
    sdp_line(&w, "o=- %llu 1 IN IP4 127.0.0.1", (unsigned long long)offer->id);
    sdp_line(&w, "s=-");
    sdp_line(&w, "t=0 0");
    sdp_text(&w, "a=group:BUNDLE");
    for (int m = 0; m < offer->tracks; m++)
        sdp_text(&w, " %d", m);
    sdp_line(&w, "%s", "");
    sdp_line(&w, "a=extmap-allow-mixed");
    sdp_line(&w, "a=msid-semantic: WMS *");
    for (int m = 0; m < offer->tracks; m++)
        write_track(&w, offer, m);
    return w.full ? -ENOSPC : (int)w.used;
}

int offer_write_fragment(const struct offer *offer, char *buffer, size_t size)
{
    struct sdp_writer w;
    sdp_writer_init(&w, buffer, size);
    write_credentials(&w, offer);
    sdp_line(&w, "m=%s 9 UDP/TLS/RTP/SAVPF 0",
             offer->track[0].kind == KIND_AUDIO ? "audio" : "video");
    sdp_line(&w, "a=mid:0");
    write_candidates(&w, offer);
    return w.full ? -ENOSPC : (int)w.used;
}
