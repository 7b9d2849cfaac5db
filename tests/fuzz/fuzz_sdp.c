// Fuzz target: SDP offers and trickle fragments, all the way to the answer.
//
// Besides what sanitizers see: what was taken respects the limits of messages.h, and our own
// answers and fragments must parse again.
#include "../../controlplane/sdp_answer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth)
{
    if (!truth)
        abort();
}

static const struct msg_ice ice = {.ufrag = "Abcd1234", .pwd = "abcdefghijklmnopqrstuvwx"};
static const struct sdp_candidate candidate = {{.ip = {192, 0, 2, 1}, .port = 1, .family = 4}, 0};
static const struct sdp_local local = {
    .ice = &ice, .id = 1, .cname = "c", .candidate = &candidate, .candidates = 1};

static void check_tracks(const struct sdp_answer *answer)
{
    must(answer->tracks.count >= 1 && answer->tracks.count <= MSG_MAX_TRACKS);
    must(answer->remote_ufrag.len <= MSG_REMOTE_ICE_MAX);
    must(answer->remote_pwd.len <= MSG_REMOTE_ICE_MAX);
    must(answer->fingerprints >= 1 && answer->fingerprints <= SDP_MAX_FINGERPRINTS);
    for (int t = 0; t < answer->tracks.count; t++) {
        const struct msg_track *track = &answer->tracks.track[t];
        must(track->codec > CODEC_NONE && track->codec < CODECS && track->pt < 128);
        must(track->layers >= 1 && track->layers <= MSG_MAX_LAYERS);
        must(memchr(track->mid, 0, sizeof(track->mid)) != NULL);
        for (int i = 0; i < MSG_MAX_LAYERS; i++)
            must(memchr(track->layer[i].rid, 0, sizeof(track->layer[i].rid)) != NULL);
        for (int e = 0; e < HDREXTS; e++)
            must(track->hdrext[e] <= 14);
    }
}

static void write_answer(struct sdp_answer *answer, const struct sdp *offer)
{
    static char text[SDP_ANSWER_MAX];
    static struct sdp ours;
    struct sdp_error error;
    check_tracks(answer);
    for (int t = 0; t < answer->tracks.count && answer->role == ROLE_PLAY; t++) {
        answer->tracks.track[t].layer[0].ssrc = 1;
        answer->tracks.track[t].layer[0].rtx_ssrc = 2;
    }
    int length = sdp_answer_write(answer, offer, &local, text, sizeof(text));
    must(length > 0);
    must(sdp_parse(&ours, text, (size_t)length, &error) == 0);
    must(ours.medias == offer->medias);
}

static void fuzz_offer(const char *text, size_t size)
{
    static struct sdp offer;
    struct sdp_answer published, played;
    struct sdp_error error;
    int rc = sdp_parse(&offer, text, size, &error);
    if (rc) {
        must((rc == -EINVAL || rc == -E2BIG) && error.reason[0]);
        return;
    }
    for (int m = 0; m < offer.medias; m++)
        for (int f = 0; f < offer.media[m].formats; f++)
            must(offer.media[m].format[f].pt < 128);
    rc = sdp_answer_publish(&offer, SDP_ALL_CODECS, &published, &error);
    must(rc == 0 || ((rc == -ENOTSUP || rc == -ENOMSG) && error.reason[0]));
    if (rc)
        return;
    write_answer(&published, &offer);
    if (sdp_answer_play(&offer, &published.tracks, &played, &error) == 0)
        write_answer(&played, &offer);
}

static void fuzz_fragment(const char *text, size_t size)
{
    static char out[4096];
    struct sdp_fragment fragment, ours;
    struct sdp_error error;
    if (sdp_parse_fragment(&fragment, text, size, &error)) {
        must(error.reason[0]);
        return;
    }
    int length = sdp_write_fragment(&fragment, &local, out, sizeof(out));
    must(length > 0);
    must(sdp_parse_fragment(&ours, out, (size_t)length, &error) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_offer((const char *)data, size);
    fuzz_fragment((const char *)data, size);
    return 0;
}
