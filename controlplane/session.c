// What requests do to sessions: create, patch, close; see session.h. The tables are in
// session_set.c, the channel and the clock in session_link.c, SDP in session_offer.c, admission in
// session_admit.c. Runs on the loop.
#include "config.h"
#include "session_set.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const end_names[] = {
    [END_DELETED] = "deleted by the client",   [END_TIMEOUT] = "no sign of life in time",
    [END_REPLACED] = "another publisher",      [END_STREAM_GONE] = "its publisher is gone",
    [END_ADMIN] = "ended by the operator",     [END_DTLS] = "DTLS ended",
    [END_SHUTDOWN] = "shutting down",          [END_REFUSED] = "refused by the dataplane",
    [END_PARTNER] = "its other node ended it",
};

int session_refuse(struct session_reply *reply, int status, int retry_after_s, const char *reason,
                   ...)
{
    va_list args;
    va_start(args, reason);
    vsnprintf(reply->reason, sizeof(reply->reason), reason, args);
    va_end(args);
    reply->status = status;
    reply->retry_after_s = retry_after_s;
    return status;
}

const char *session_token(const struct session *s)
{
    return s->token;
}

const char *session_etag(const struct session *s)
{
    return s->etag;
}

enum session_role session_role(const struct session *s)
{
    return s->role;
}

const char *session_stream(const struct session *s)
{
    return s->stream->name;
}

// Whether a publisher of this name could come now. One whose packets stopped is replaced: that is
// a client that crashed and is back before we could tell that it had gone.
static bool name_is_free(const struct stream *stream)
{
    return stream == NULL || !stream_fed(stream) || stream->stalled;
}

static int check_stream(enum session_role role, const char *name, const struct stream *stream,
                        struct session_reply *reply)
{
    if (!stream_name_valid(name))
        return session_refuse(reply, 400, 0, "a stream's name is 1 to %d of A-Z a-z 0-9 . _ and -",
                              STREAM_NAME_MAX);
    if (role == ROLE_PUBLISH && !name_is_free(stream))
        return session_refuse(reply, 409, SESSION_RETRY_AFTER_S, "someone else publishes \"%s\"",
                              name);
    if (role == ROLE_PLAY && (stream == NULL || !stream->live))
        return session_refuse(reply, 409, SESSION_RETRY_AFTER_S, "\"%s\" is not live", name);
    return 0;
}

static int make_dtls(struct session *s)
{
    const struct sdp_answer *answer = &s->set->answer;
    struct dtls_fingerprint peers[DTLS_MAX_FINGERPRINTS];
    size_t count = 0;
    for (unsigned i = 0; i < answer->fingerprints && count < DTLS_MAX_FINGERPRINTS; i++, count++) {
        peers[count].size = answer->fingerprint[i].size;
        memcpy(peers[count].digest, answer->fingerprint[i].digest, sizeof(peers[count].digest));
    }
    return dtls_new(&s->dtls, &s->set->identity, answer->dtls_client ? DTLS_CLIENT : DTLS_SERVER,
                    peers, count, session_dtls_send, s);
}

// Makes room for a publisher whose offer is good: ends the silent one before it, and viewers who
// could not decode what it sends.
static void clear_name(struct sessions *set, const char *name)
{
    struct stream *stream = streams_find(set->streams, name);
    if (stream != NULL && stream->publisher != NULL)
        session_close(stream->publisher, END_REPLACED);
    stream = streams_find(set->streams, name);
    if (stream != NULL && !stream_compatible(stream, &set->answer.tracks))
        session_end_viewers(stream, END_STREAM_GONE);
}

static int join_stream(struct session *s, const char *name)
{
    struct sessions *set = s->set;
    int rc = 0;
    if (s->role == ROLE_PUBLISH) {
        rc = stream_publish(set->streams, name, s, s->worker, &set->answer.tracks, &s->stream);
        if (rc == 0)
            stream_protect(set->streams, s->stream, s->open.group, false, s->stream->trunk_id);
    } else {
        s->stream = streams_find(set->streams, name);
        stream_view(set->streams, s->stream, s->worker);
        LIST_INSERT_HEAD(&s->stream->viewers, s, viewer);
    }
    if (rc == 0)
        s->open.stream = s->stream->id;
    return rc;
}

static void leave_stream(struct session *s)
{
    struct stream *stream = s->stream;
    s->stream = NULL;
    if (stream != NULL && s->role == ROLE_PUBLISH) {
        stream_unpublish(s->set->streams, stream, s->set->now_ms());
    } else if (stream != NULL) {
        LIST_REMOVE(s, viewer);
        stream_unview(s->set->streams, stream, s->worker);
    }
}

static int set_up(struct session *s, const char *name, struct session_reply *reply)
{
    const struct sdp_answer *answer = &s->set->answer;
    int rc = session_credentials(&s->open.ice, answer->remote_ufrag, answer->remote_pwd);
    s->open.group = replicate_group(s->set->replicate, s->role);
    if (rc == 0)
        rc = session_tracks(s);
    if (rc == 0)
        rc = make_dtls(s);
    if (rc == 0)
        rc = join_stream(s, name);
    if (rc == 0)
        rc = session_answer(s, reply);
    if (rc == 0) {
        session_save(s, NULL);
        rc = session_tell_open(s);
    }
    return rc;
}

void session_create(struct sessions *set, enum session_role role, const char *name,
                    const char *offer, size_t size, const char *client, struct session_reply *reply)
{
    memset(reply, 0, sizeof(*reply));
    struct stream *stream = streams_find(set->streams, name);
    if (check_stream(role, name, stream, reply) != 0 || session_admit(set, reply) != 0 ||
        session_negotiate(set, role, stream, offer, size, reply) != 0)
        return;
    if (role == ROLE_PUBLISH)
        clear_name(set, name);
    const char *full = "out of memory";
    int worker = session_place(set, streams_find(set->streams, name), &full);
    struct session *s = worker >= 0 ? session_new(set, role, (uint32_t)worker, client) : NULL;
    if (s == NULL) {
        session_refuse(reply, 503, SESSION_RETRY_AFTER_S, "no worker has room for a session: %s",
                       full);
        return;
    }
    int rc = set_up(s, name, reply);
    if (rc != 0) {
        LOG_OFTEN(LEVEL_WARNING, "cannot set up a session for %s: %s", client, strerror(-rc));
        free(reply->body);
        reply->body = NULL;
        session_refuse(reply, 503, SESSION_RETRY_AFTER_S, "%s",
                       rc == -ENOSPC ? "no room for another stream" : "no room for a session");
        leave_stream(s);
        session_retire(s);
        session_destroy(s);
        streams_sync(set->streams);
        return;
    }
    reply->status = 201;
    reply->session = s;
    log_info("%s %s \"%s\" on worker %u", s->client, role == ROLE_PUBLISH ? "publishes" : "watches",
             name, s->worker);
}

int session_await(struct session *s, session_await_fn done, void *opaque)
{
    return replicate_wait(s->set->replicate, s, done, opaque);
}

void session_where(const struct session *s, struct session_place *place)
{
    const struct config *config = s->set->config;
    bool ours = replicate_serves(s->set->replicate, s->open.group);
    place->here = config->node;
    place->serves = ours ? config->node : config->protection.partner.name;
    place->partner_url = s->open.group != 0 ? config->protection.partner.url : "";
}

// If-Match (RFC 9110 13.1.1): "*" or a list of strong tags.
static bool matches(const char *if_match, const char *etag)
{
    size_t n = strlen(etag);
    while (*if_match != 0) {
        if_match += strspn(if_match, " \t,");
        size_t length = strcspn(if_match, " \t,");
        if (length == n && memcmp(if_match, etag, n) == 0)
            return true;
        if ((length == 1 && *if_match == '*') || (length == 3 && memcmp(if_match, "\"*\"", 3) == 0))
            return true;
        if_match += length;
    }
    return false;
}

static bool is_restart(const struct session *s, const struct sdp_fragment *f)
{
    const struct msg_ice *ice = &s->open.ice;
    return f->ufrag.len > 0 &&
           (f->ufrag.len != ice->remote_ufrag_len || f->pwd.len != ice->remote_pwd_len ||
            memcmp(f->ufrag.at, ice->remote_ufrag, f->ufrag.len) != 0 ||
            memcmp(f->pwd.at, ice->remote_pwd, f->pwd.len) != 0);
}

static int restart_ice(struct session *s, const struct sdp_fragment *fragment,
                       struct session_reply *reply)
{
    struct msg_ice old = s->open.ice;
    struct msg_session_ice m = {
        .head = {.type = MSG_SESSION_ICE, .length = sizeof(m), .id = s->id}};
    int rc = session_credentials(&s->open.ice, fragment->ufrag, fragment->pwd);
    if (rc == 0)
        rc = session_answer_restart(s, fragment, reply);
    if (rc == 0)
        rc = session_new_etag(s);
    if (rc == 0) {
        m.ice = s->open.ice;
        rc = session_send(s->set, 1 + s->worker, &m);
    }
    // Only now: until the answer is out, the client's credentials are the old ones.
    if (rc == 0)
        session_save(s, NULL);
    else
        s->open.ice = old;
    dtls_wipe(&m, sizeof(m));
    dtls_wipe(&old, sizeof(old));
    return rc;
}

void session_patch(struct session *s, const char *text, size_t size, const char *if_match,
                   struct session_reply *reply)
{
    struct sdp_error error = {0};
    struct sdp_fragment fragment;
    memset(reply, 0, sizeof(*reply));
    if (sdp_parse_fragment(&fragment, text, size, &error) != 0) {
        session_refuse(reply, 400, 0, "%s", error.reason);
        return;
    }
    bool restart = is_restart(s, &fragment), given = if_match != NULL && *if_match != 0;
    if ((restart || (given && !matches(if_match, s->etag))) &&
        !replicate_serves(s->set->replicate, s->open.group)) {
        reply->status = 0; // what we know of it may be old
    } else if (restart && !given) {
        session_refuse(reply, 428, 0, "an ICE restart needs If-Match");
    } else if (given && !matches(if_match, s->etag)) {
        session_refuse(reply, 412, 0, "the session's ICE credentials have changed since");
    } else if (!restart) {
        reply->status = 204; // an ICE-lite agent has no use for the client's candidates
    } else if (restart_ice(s, &fragment, reply) != 0) {
        free(reply->body);
        reply->body = NULL;
        session_refuse(reply, 503, SESSION_RETRY_AFTER_S, "cannot restart ICE now");
    } else {
        reply->status = 200;
    }
}

bool session_forward(struct session *s, const char *fragment, size_t size, const char *if_match,
                     session_patched_fn done, void *opaque, struct session_reply *reply)
{
    return replicate_patch(s->set->replicate, s, fragment, size, if_match, done, opaque, reply) ==
           0;
}

void session_close(struct session *s, enum session_end why)
{
    struct sessions *set = s->set;
    log_info("%s of \"%s\" by %s ended: %s", s->role == ROLE_PUBLISH ? "publishing" : "watching",
             s->stream->name, s->client, end_names[why]);
    if (s->dtls != NULL)
        dtls_close(s->dtls);
    leave_stream(s);
    session_retire(s);
    session_tell_close(s);
    streams_sync(set->streams);
}

void session_end_viewers(struct stream *stream, enum session_end why)
{
    // Counted beforehand: the last one may take the stream along.
    for (uint32_t left = stream->viewer_count; left > 0; left--)
        session_close(LIST_FIRST(&stream->viewers), why);
}

void sessions_end_all(struct sessions *set, enum session_end why)
{
    set->ending = true;
    while (!TAILQ_EMPTY(&set->open))
        session_close(TAILQ_FIRST(&set->open), why);
}

bool sessions_all_closed(const struct sessions *set)
{
    return TAILQ_EMPTY(&set->closing);
}
