// From an offer to an answer: what a session's SDP comes to; see session_set.h.
#include "config.h"
#include "secret.h"
#include "session_set.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERINGS 8 // of header extensions, among the viewers of a track

// A publisher's packet carries its header extensions once per numbering that its viewers offered,
// so there is a bound on numberings: past it a viewer is answered without header extensions. That
// is decided here, once, since both nodes of a pair must write the same bytes.
static void settle_numbering(const struct stream *stream, struct msg_track *track)
{
    uint8_t known[NUMBERINGS][sizeof(track->hdrext)];
    static const uint8_t none[sizeof(track->hdrext)];
    unsigned count = 0;
    const struct session *viewer;
    if (memcmp(track->hdrext, none, sizeof(none)) == 0)
        return; // it has none to number, and thousands may watch
    LIST_FOREACH(viewer, &stream->viewers, viewer)
    {
        for (unsigned t = 0; t < viewer->open.tracks; t++) {
            const struct msg_track *other = &viewer->open.track[t];
            if (other->source != track->source || memcmp(other->hdrext, none, sizeof(none)) == 0)
                continue;
            if (memcmp(other->hdrext, track->hdrext, sizeof(none)) == 0)
                return;
            unsigned i = 0;
            while (i < count && memcmp(known[i], other->hdrext, sizeof(none)) != 0)
                i++;
            if (i == count)
                memcpy(known[count++], other->hdrext, sizeof(none));
            if (count == NUMBERINGS) { // all that there are, and this is none of them
                memset(track->hdrext, 0, sizeof(track->hdrext));
                return;
            }
        }
    }
}

int session_negotiate(struct sessions *set, enum session_role role, const struct stream *stream,
                      const char *offer, size_t size, struct session_reply *reply)
{
    struct sdp_error error = {0};
    int rc = sdp_parse(&set->offer, offer, size, &error);
    if (rc != 0 && error.line > 0)
        return session_refuse(reply, 400, 0, "line %u: %s", error.line, error.reason);
    if (rc != 0)
        return session_refuse(reply, 400, 0, "%s", error.reason);
    if (role == ROLE_PUBLISH)
        rc = sdp_answer_publish(&set->offer, set->config->parsed.codec_mask, &set->answer, &error);
    else
        rc = sdp_answer_play(&set->offer, &stream->tracks, &set->answer, &error);
    if (rc == -ENOMSG)
        return session_refuse(reply, role == ROLE_PLAY ? 406 : 422, 0, "%s", error.reason);
    if (rc != 0)
        return session_refuse(reply, 422, 0, "%s", error.reason);
    for (unsigned t = 0; role == ROLE_PLAY && t < set->answer.tracks.count; t++)
        settle_numbering(stream, &set->answer.tracks.track[t]);
    return 0;
}

static int copy_view(char *out, uint16_t *length, struct sdp_view view)
{
    if (view.len > MSG_REMOTE_ICE_MAX)
        return -EINVAL;
    memset(out, 0, MSG_REMOTE_ICE_MAX);
    memcpy(out, view.at, view.len);
    *length = (uint16_t)view.len;
    return 0;
}

int session_credentials(struct msg_ice *ice, struct sdp_view remote_ufrag,
                        struct sdp_view remote_pwd)
{
    char ufrag[MSG_UFRAG_LEN + 1], pwd[MSG_PWD_LEN + 1];
    int rc = copy_view(ice->remote_ufrag, &ice->remote_ufrag_len, remote_ufrag);
    if (rc == 0)
        rc = copy_view(ice->remote_pwd, &ice->remote_pwd_len, remote_pwd);
    if (rc == 0)
        rc = secret_ice(ufrag, MSG_UFRAG_LEN);
    if (rc == 0)
        rc = secret_ice(pwd, MSG_PWD_LEN);
    if (rc != 0)
        return rc;
    memcpy(ice->ufrag, ufrag, MSG_UFRAG_LEN);
    memcpy(ice->pwd, pwd, MSG_PWD_LEN);
    return 0;
}

// Random SSRCs, none 0 and no two alike (RFC 3550 8.1).
static int choose_ssrcs(struct sdp_tracks *tracks)
{
    uint32_t ssrc[2 * MSG_MAX_TRACKS];
    for (unsigned i = 0; i < 2 * MSG_MAX_TRACKS;) {
        int rc = secret_random(&ssrc[i], sizeof(ssrc[i]));
        if (rc != 0)
            return rc;
        bool taken = ssrc[i] == 0;
        for (unsigned j = 0; j < i; j++)
            taken |= ssrc[j] == ssrc[i];
        i += !taken;
    }
    for (unsigned t = 0; t < tracks->count; t++) {
        struct msg_track *track = &tracks->track[t];
        track->layer[0].ssrc = ssrc[2 * t];
        track->layer[0].rtx_ssrc = track->rtx_pt != MSG_NO_PT ? ssrc[2 * t + 1] : 0;
    }
    return 0;
}

int session_tracks(struct session *session)
{
    struct sdp_tracks *tracks = &session->set->answer.tracks;
    int rc = session->role == ROLE_PLAY ? choose_ssrcs(tracks) : 0;
    session->open.tracks = tracks->count;
    memcpy(session->open.track, tracks->track, sizeof(session->open.track));
    return rc;
}

// Announced addresses come first: some clients look at the first candidate only, and behind a
// 1:1 NAT that is the one they can reach. The partner's come last: ours is to be chosen.
static unsigned candidates(const struct session *session,
                           struct sdp_candidate out[static SESSION_MAX_CANDIDATES])
{
    const struct config *config = session->set->config;
    const struct abi_config *abi = session->set->abi;
    uint16_t port = abi->media4.family != 0 ? abi->media4.port : abi->media6.port;
    unsigned n = 0;
    for (uint32_t i = 0; i < config->media.announce_count && i < CONFIG_MAX_ANNOUNCE; i++)
        out[n++].addr = config->parsed.announce[i];
    if (!config->media.announce_only && abi->media4.family != 0)
        out[n++].addr = abi->media4;
    if (!config->media.announce_only && abi->media6.family != 0)
        out[n++].addr = abi->media6;
    for (unsigned i = 0; i < n; i++)
        out[i].addr.port = (uint16_t)(port + session->worker);
    struct abi_addr partner[2];
    unsigned more = replicate_candidates(session->set->replicate, session->open.home, partner);
    for (unsigned i = 0; i < more && n < SESSION_MAX_CANDIDATES; i++)
        out[n++].addr = partner[i];
    for (unsigned i = 0; i < n; i++)
        out[i].priority = 0;
    return n;
}

static int keep_body(struct session_reply *reply, const char *text, int length)
{
    if (length < 0)
        return length;
    reply->body = strndup(text, (size_t)length);
    return reply->body != NULL ? 0 : -ENOMEM;
}

int session_answer(struct session *session, struct session_reply *reply)
{
    struct sessions *set = session->set;
    struct sdp_candidate candidate[SESSION_MAX_CANDIDATES];
    struct sdp_local local = {.ice = &session->open.ice,
                              .cname = session->stream->name,
                              .candidate = candidate,
                              .candidates = candidates(session, candidate)};
    memcpy(local.fingerprint, set->fingerprint.digest, sizeof(local.fingerprint));
    int rc = secret_random(&local.id, sizeof(local.id));
    if (rc != 0)
        return rc;
    local.id >>= 1;
    return keep_body(
        reply, set->text,
        sdp_answer_write(&set->answer, &set->offer, &local, set->text, sizeof(set->text)));
}

int session_answer_restart(struct session *session, const struct sdp_fragment *fragment,
                           struct session_reply *reply)
{
    struct sessions *set = session->set;
    struct sdp_candidate candidate[SESSION_MAX_CANDIDATES];
    struct sdp_local local = {.ice = &session->open.ice,
                              .candidate = candidate,
                              .candidates = candidates(session, candidate)};
    return keep_body(reply, set->text,
                     sdp_write_fragment(fragment, &local, set->text, sizeof(set->text)));
}
