// WHIP and WHEP; see whip.h. Every answer leaves through reply_to or http_refuse, so that a status
// always carries the header fields that belong to it.
#include "whip.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SDP "application/sdp"
#define FRAGMENT "application/trickle-ice-sdpfrag"

struct whip {
    struct sessions *sessions;
    struct auth *const *auth;
};

bool whip_stream_name(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return n > 0 && n <= STREAM_NAME_MAX && name[n] == '\0' && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

// Whether the request's bearer may do `role` on `stream`; if not, it has been answered.
static bool authorised(struct whip *whip, struct http_request *request, enum session_role role,
                       const char *stream)
{
    const char *reason;
    char challenge[160];
    enum auth_result result = auth_check(
        *whip->auth, role, stream, http_header(request, "Authorization"), time(NULL), &reason);
    if (result == AUTH_OK)
        return true;
    if (result == AUTH_MISSING) // RFC 6750 3.1: no error code when nothing was presented
        snprintf(challenge, sizeof(challenge), "Bearer realm=\"hitless\"");
    else
        snprintf(challenge, sizeof(challenge),
                 "Bearer realm=\"hitless\", error=\"%s\", error_description=\"%s\"",
                 result == AUTH_SCOPE ? "insufficient_scope" : "invalid_token", reason);
    http_set(request, "WWW-Authenticate", challenge);
    http_refuse(request, result == AUTH_SCOPE ? 403 : 401, reason);
    LOG_OFTEN(LEVEL_INFO, "whip: %s refused for stream %s: %s", http_client(request), stream,
              reason);
    return false;
}

// Answers with what session.c decided. Frees the reply's body.
static void reply_to(struct http_request *request, struct session_reply *reply, const char *type)
{
    char seconds[16];
    if (reply->retry_after_s > 0) {
        snprintf(seconds, sizeof(seconds), "%d", reply->retry_after_s);
        http_set(request, "Retry-After", seconds);
    }
    if (reply->status >= 400)
        http_refuse(request, (unsigned)reply->status, reply->reason);
    else if (reply->body)
        http_reply(request, (unsigned)reply->status, type, reply->body, strlen(reply->body));
    else
        http_reply(request, (unsigned)reply->status, NULL, NULL, 0);
    free(reply->body);
}

// A session whose 201 waits for the partner.
struct waiter {
    struct whip *whip;
    struct http_request *request;
    struct session_reply reply;
    char token[SESSION_TOKEN_LEN + 1];
};

static void answer(struct whip *whip, struct http_request *request, struct session_reply *reply,
                   const char *token, bool go_on)
{
    struct session *session = session_find(whip->sessions, token);
    if (!go_on || !session) {
        free(reply->body);
        *reply = (struct session_reply){.status = 503, .retry_after_s = 2};
        snprintf(reply->reason, sizeof(reply->reason), "%s",
                 session ? "the session could not be protected" : "the session has ended already");
    }
    if (!go_on && session)
        session_close(session, END_REFUSED);
    reply_to(request, reply, SDP);
}

static void on_awaited(void *opaque, bool go_on)
{
    struct waiter *w = opaque;
    answer(w->whip, w->request, &w->reply, w->token, go_on);
    free(w);
}

// Answers now, or when the partner has the session.
static void reply_when_safe(struct whip *whip, struct http_request *request,
                            struct session_reply *reply)
{
    struct waiter *w = calloc(1, sizeof(*w));
    int rc = -ENOMEM;
    if (w) {
        *w = (struct waiter){.whip = whip, .request = request, .reply = *reply};
        snprintf(w->token, sizeof(w->token), "%s", session_token(reply->session));
        rc = session_await(reply->session, on_awaited, w);
    }
    if (rc > 0) {
        http_wait(request);
        return;
    }
    free(w);
    answer(whip, request, reply, session_token(reply->session), rc == 0);
}

static void create(struct whip *whip, struct http_request *request, enum session_role role)
{
    const char *stream = http_param(request);
    char base[HTTP_URL_MAX], url[HTTP_URL_MAX + 64];
    size_t size;
    if (!whip_stream_name(stream)) {
        http_refuse(request, 400, "a stream's name has 1 to 64 letters, digits, '.', '_' or '-'");
        return;
    }
    if (!authorised(whip, request, role, stream))
        return;
    if (!http_type_is(request, SDP)) {
        http_set(request, "Accept-Post", SDP);
        http_refuse(request, 415, "the offer must be " SDP);
        return;
    }
    if (http_base_url(request, base, sizeof(base)) < 0) {
        http_refuse(request, 400, "the Host field is not a host");
        return;
    }
    const char *offer = http_body(request, &size);
    struct session_reply reply = {0};
    session_create(whip->sessions, role, stream, offer, size, http_client(request), &reply);
    if (reply.status == 201) {
        snprintf(url, sizeof(url), "%s/%s/session/%s", base, role == ROLE_PUBLISH ? "whip" : "whep",
                 session_token(reply.session));
        http_set(request, "Location", url);
        http_set(request, "ETag", session_etag(reply.session));
        reply_when_safe(whip, request, &reply);
        return;
    }
    if (reply.elsewhere) { // RFC 9725 4.5
        snprintf(url, sizeof(url), "%s/%s/%s", reply.elsewhere,
                 role == ROLE_PUBLISH ? "whip" : "whep", stream);
        http_set(request, "Location", url);
        http_reply(request, 307, NULL, NULL, 0);
        return;
    }
    reply_to(request, &reply, SDP);
}

static void on_whip_post(struct http_request *request, void *opaque)
{
    create(opaque, request, ROLE_PUBLISH);
}

static void on_whep_post(struct http_request *request, void *opaque)
{
    create(opaque, request, ROLE_PLAY);
}

// RFC 9725 4.2: OPTIONS tells what may be posted. 200, as the RFC has it.
static void on_endpoint_options(struct http_request *request, void *opaque)
{
    http_set(request, "Accept-Post", SDP);
    http_reply(request, 200, NULL, NULL, 0);
}

static void on_session_options(struct http_request *request, void *opaque)
{
    http_set(request, "Accept-Patch", FRAGMENT);
    http_reply(request, 200, NULL, NULL, 0);
}

// The session of the URL, if its role fits the path and the bearer may; else it has been answered.
static struct session *session_of(struct whip *whip, struct http_request *request,
                                  enum session_role role)
{
    struct session *session = session_find(whip->sessions, http_param(request));
    if (!session || session_role(session) != role) {
        http_refuse(request, 404, "no such session; it may have ended");
        return NULL;
    }
    return authorised(whip, request, role, session_stream(session)) ? session : NULL;
}

// A PATCH whose answer comes from the partner.
static void on_patched(void *opaque, struct session_reply *reply, const char *etag)
{
    if (reply->status == 200)
        http_set(opaque, "ETag", etag);
    reply_to(opaque, reply, FRAGMENT);
}

static void patch(struct whip *whip, struct http_request *request, enum session_role role)
{
    struct session *session = session_of(whip, request, role);
    size_t size;
    if (!session)
        return;
    if (!http_type_is(request, FRAGMENT)) {
        http_set(request, "Accept-Patch", FRAGMENT);
        http_refuse(request, 415, "the body must be " FRAGMENT);
        return;
    }
    const char *fragment = http_body(request, &size);
    const char *if_match = http_header(request, "If-Match");
    struct session_reply reply = {0};
    session_patch(session, fragment, size, if_match, &reply);
    if (reply.status == 0 &&
        session_forward(session, fragment, size, if_match, on_patched, request, &reply)) {
        http_wait(request);
        return;
    }
    if (reply.status == 200) // an ICE restart: the session has a new tag (RFC 9725 4.3.3)
        http_set(request, "ETag", session_etag(session));
    reply_to(request, &reply, FRAGMENT);
}

static void on_whip_patch(struct http_request *request, void *opaque)
{
    patch(opaque, request, ROLE_PUBLISH);
}

static void on_whep_patch(struct http_request *request, void *opaque)
{
    patch(opaque, request, ROLE_PLAY);
}

// {"node":"a","serves":"b","other":URL}: us, who serves, and where the partner has the session;
// null where it has not, or nobody said how clients reach it.
static void on_whep_get(struct http_request *request, void *opaque)
{
    struct session *session = session_of(opaque, request, ROLE_PLAY);
    struct session_place place;
    char url[HTTP_URL_MAX + 64];
    if (!session)
        return;
    session_where(session, &place);
    snprintf(url, sizeof(url), "%s/whep/session/%s", place.partner_url, session_token(session));
    json_t *answer = json_pack("{s:s, s:s, s:s?}", "node", place.here, "serves", place.serves,
                               "other", *place.partner_url ? url : NULL);
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    http_set(request, "Cache-Control", "no-store");
    if (text)
        http_reply(request, 200, "application/json", text, strlen(text));
    else
        http_refuse(request, 503, "out of memory");
    free(text);
}

static void finish(struct whip *whip, struct http_request *request, enum session_role role)
{
    struct session *session = session_of(whip, request, role);
    if (!session)
        return;
    session_close(session, END_DELETED);
    http_reply(request, 200, NULL, NULL, 0);
}

static void on_whip_delete(struct http_request *request, void *opaque)
{
    finish(opaque, request, ROLE_PUBLISH);
}

static void on_whep_delete(struct http_request *request, void *opaque)
{
    finish(opaque, request, ROLE_PLAY);
}

static const struct http_route routes[] = {
    {"POST", "/whip/{}", on_whip_post, .cors = true},
    {"OPTIONS", "/whip/{}", on_endpoint_options, .cors = true},
    {"PATCH", "/whip/session/{}", on_whip_patch, .cors = true},
    {"DELETE", "/whip/session/{}", on_whip_delete, .cors = true},
    {"OPTIONS", "/whip/session/{}", on_session_options, .cors = true},
    {"POST", "/whep/{}", on_whep_post, .cors = true},
    {"OPTIONS", "/whep/{}", on_endpoint_options, .cors = true},
    {"GET", "/whep/session/{}", on_whep_get, .cors = true},
    {"PATCH", "/whep/session/{}", on_whep_patch, .cors = true},
    {"DELETE", "/whep/session/{}", on_whep_delete, .cors = true},
    {"OPTIONS", "/whep/session/{}", on_session_options, .cors = true},
};

int whip_new(struct whip **out, struct http *http, struct sessions *sessions,
             struct auth *const *auth)
{
    struct whip *whip = calloc(1, sizeof(*whip));
    if (!whip)
        return -ENOMEM;
    *whip = (struct whip){.sessions = sessions, .auth = auth};
    int rc = http_add(http, routes, sizeof(routes) / sizeof(*routes), whip);
    if (rc < 0) {
        free(whip);
        return rc;
    }
    *out = whip;
    return 0;
}

void whip_free(struct whip *whip)
{
    free(whip);
}
