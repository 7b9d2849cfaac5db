// What a server's SDP answer means; see answer.h. sdp.c checks the form; here is what it says to
// the one who offered.
#include "answer.h"
#include "../../controlplane/sdp_attr.h"
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool copy_view(char *to, size_t size, struct sdp_view view)
{
    if (view.len >= size)
        return false;
    memcpy(to, view.at, view.len);
    to[view.len] = '\0';
    return true;
}

// "foundation component transport priority address port typ type …" (RFC 8839 5.1).
static bool read_candidate(struct sdp_view value, struct answer_candidate *candidate)
{
    struct sdp_view field[8];
    uint32_t component, port;
    char ip[64];
    for (int i = 0; i < 8; i++)
        if (!sdp_split(&value, ' ', &field[i]))
            return false;
    return sdp_number(field[1], 256, &component) && component == 1 &&
           sdp_view_is_nocase(field[2], "udp") &&
           sdp_number(field[3], UINT32_MAX, &candidate->priority) &&
           copy_view(ip, sizeof(ip), field[4]) && sdp_number(field[5], 65535, &port) && port > 0 &&
           sdp_view_is(field[6], "typ") && net_parse(&candidate->addr, ip, (uint16_t)port);
}

static void add_candidate(struct answer *answer, const struct answer_candidate *candidate)
{
    for (int i = 0; i < answer->candidates; i++)
        if (net_same(&answer->candidate[i].addr, &candidate->addr))
            return;
    if (answer->candidates < ANSWER_CANDIDATES)
        answer->candidate[answer->candidates++] = *candidate;
    else
        answer->skipped++;
}

// What sdp_parse() has no use for: candidates' content, and rids of the receiving direction.
static enum bees_failure read_lines(struct answer *answer, const char *text, size_t size, bool any)
{
    struct sdp_error unused;
    struct sdp_reader reader;
    struct sdp_view value;
    struct answer_candidate candidate;
    enum bees_failure failure = BEES_FAILURE_none;
    int media = -1;
    char type;
    if (sdp_reader_init(&reader, text, size, &unused) != 0)
        return BEES_FAILURE_bad_answer;
    while (sdp_read_line(&reader, &type, &value) > 0) {
        media += type == 'm';
        if (type != 'a' || value.len < 10)
            continue;
        if (memcmp(value.at, "candidate:", 10) == 0) {
            if (!read_candidate((struct sdp_view){value.at + 10, value.len - 10}, &candidate))
                answer->skipped++;
            else if (!any && !net_is_own(&candidate.addr))
                failure = BEES_FAILURE_public_address;
            else
                add_candidate(answer, &candidate);
        }
        for (int i = 0; i < OFFER_SIMULCAST && media >= 0 && media < answer->tracks; i++) {
            char rid[16];
            snprintf(rid, sizeof(rid), "rid:%s recv", offer_rids[i]);
            struct answer_track *track = &answer->track[media];
            if (sdp_view_is(value, rid) && track->layers < OFFER_SIMULCAST)
                track->layer[track->layers++] = (uint8_t)i;
        }
    }
    return answer->candidates ? BEES_FAILURE_none : failure ? failure : BEES_FAILURE_no_candidates;
}

static uint8_t rtx_of(const struct sdp_media *media, uint8_t pt)
{
    for (int i = 0; i < media->formats; i++) {
        struct sdp_view apt;
        uint32_t number;
        if (sdp_view_is_nocase(media->format[i].encoding, "rtx") &&
            sdp_fmtp_get(media->format[i].fmtp, "apt", &apt) && sdp_number(apt, 127, &number) &&
            number == pt)
            return media->format[i].pt;
    }
    return MSG_NO_PT;
}

static void read_formats(struct answer_track *track, const struct offer_track *offered,
                         const struct sdp_media *media)
{
    for (int i = 0; i < media->formats && track->formats < ANSWER_FORMATS; i++) {
        const struct sdp_format *format = &media->format[i];
        char name[16];
        if (!copy_view(name, sizeof(name), format->encoding))
            continue;
        enum codec codec = offer_codec_named(name);
        if (codec == CODEC_NONE || memchr(offered->codec, codec, offered->codecs) == NULL)
            continue;
        track->format[track->formats++] =
            (struct answer_format){.codec = (uint8_t)codec,
                                   .pt = format->pt,
                                   .rtx_pt = rtx_of(media, format->pt),
                                   .feedback = format->feedback,
                                   .clock_rate = format->clock_rate ? format->clock_rate : 90000};
    }
}

// Primary SSRCs with their RTX; without groups every SSRC is a primary one.
static void read_ssrcs(struct answer_track *track, const struct sdp_media *media)
{
    for (int i = 0; i < media->ssrcs && track->ssrcs < ANSWER_SSRCS; i++) {
        uint32_t rtx = 0;
        bool is_rtx = false;
        for (int g = 0; g < media->groups; g++) {
            const struct sdp_group *group = &media->group[g];
            if (group->semantics != SDP_GROUP_FID || group->ssrcs < 2)
                continue;
            is_rtx |= group->ssrc[1] == media->ssrc[i];
            rtx = group->ssrc[0] == media->ssrc[i] ? group->ssrc[1] : rtx;
        }
        if (is_rtx)
            continue;
        track->ssrc[track->ssrcs] = media->ssrc[i];
        track->rtx_ssrc[track->ssrcs++] = rtx;
    }
}

static void read_track(struct answer_track *track, const struct offer *offer, int m,
                       const struct sdp_media *media)
{
    const struct offer_track *offered = &offer->track[m];
    track->kind = offered->kind;
    enum sdp_direction theirs = offer->role == BEES_WHEP ? SDP_SENDONLY : SDP_RECVONLY;
    bool flows = media->common.direction == theirs || media->common.direction == SDP_SENDRECV;
    if ((media->port == 0 && !media->bundle_only) || !media->rtp || !flows)
        return;
    track->reduced_rtcp = media->rtcp_rsize;
    track->twcc = offer->twcc ? media->common.ext_id[HDREXT_TRANSPORT_CC] : 0;
    track->ext_mid = media->common.ext_id[HDREXT_MID];
    track->ext_rid = media->common.ext_id[HDREXT_RID];
    track->ext_repaired_rid = media->common.ext_id[HDREXT_REPAIRED_RID];
    if (!copy_view(track->mid, sizeof(track->mid), media->mid))
        track->ext_mid = 0;
    read_formats(track, offered, media);
    read_ssrcs(track, media);
}

// The bundle's transport: that of the first m-line in use.
static bool read_transport(struct answer *answer, const struct sdp_common *common, char *reason)
{
    if (!common->ufrag.len || !copy_view(answer->ufrag, sizeof(answer->ufrag), common->ufrag) ||
        !copy_view(answer->pwd, sizeof(answer->pwd), common->pwd)) {
        snprintf(reason, 160, "no ICE credentials");
        return false;
    }
    for (int i = 0; i < common->fingerprints && i < DTLS_MAX_FINGERPRINTS; i++) {
        struct dtls_fingerprint *to = &answer->fingerprint[answer->fingerprints++];
        to->size = common->fingerprint[i].size;
        memcpy(to->digest, common->fingerprint[i].digest, to->size);
    }
    if (answer->fingerprints == 0) {
        snprintf(reason, 160, "no certificate fingerprint that can be checked");
        return false;
    }
    answer->dtls_client = common->setup != SDP_ACTIVE;
    return true;
}

static enum bees_failure read_all(struct answer *answer, const struct offer *offer,
                                  const struct sdp *sdp, char *reason)
{
    const struct sdp_media *used = NULL;
    if (sdp->medias != offer->tracks) {
        snprintf(reason, 160, "%u m-lines answer %u", sdp->medias, offer->tracks);
        return BEES_FAILURE_bad_answer;
    }
    answer->tracks = offer->tracks;
    answer->lite = sdp->ice_lite;
    for (int m = 0; m < sdp->medias; m++) {
        read_track(&answer->track[m], offer, m, &sdp->media[m]);
        if (answer->track[m].formats && used == NULL)
            used = &sdp->media[m];
    }
    if (used == NULL)
        return BEES_FAILURE_no_media_agreed;
    return read_transport(answer, &used->common, reason) ? BEES_FAILURE_none
                                                         : BEES_FAILURE_bad_answer;
}

enum bees_failure answer_read(struct answer *answer, const struct offer *offer, const char *text,
                              size_t size, bool any, char reason[160])
{
    struct sdp_error error;
    memset(answer, 0, sizeof(*answer));
    reason[0] = '\0';
    struct sdp *sdp = malloc(sizeof(*sdp));
    if (sdp == NULL)
        return BEES_FAILURE_out_of_memory;
    enum bees_failure failure = BEES_FAILURE_bad_answer;
    if (sdp_parse(sdp, text, size, &error) == 0)
        failure = read_all(answer, offer, sdp, reason);
    else
        snprintf(reason, 160, "line %u: %.130s", error.line, error.reason);
    if (failure == BEES_FAILURE_none)
        failure = read_lines(answer, text, size, any);
    free(sdp);
    return failure;
}
