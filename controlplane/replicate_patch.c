// ICE restarts that a client asks the standby of its session for: the node that serves it decides
// and has the new credentials, so the request goes there and its answer comes back; see
// replicate.h.
#include "log.h"
#include "replicate_private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// ---- at the standby

static bool printable(const char *text)
{
    for (; *text != 0; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

// An ICE-lite agent has no use for candidates, which are most of a fragment. The length of what is
// left, or -EMSGSIZE.
static int strip(char *out, size_t room, const char *text, size_t size)
{
    static const char candidate[] = "a=candidate:";
    size_t length = 0;
    for (const char *at = text, *end = text + size; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line = newline != NULL ? (size_t)(newline + 1 - at) : (size_t)(end - at);
        bool keep =
            line < sizeof(candidate) - 1 || memcmp(at, candidate, sizeof(candidate) - 1) != 0;
        if (keep && line > room - length)
            return -EMSGSIZE;
        if (keep) {
            memcpy(out + length, at, line);
            length += line;
        }
        at += line;
    }
    return length > 0 ? (int)length : -EMSGSIZE;
}

static struct errand *find_errand(struct replicate *r, uint32_t number)
{
    for (unsigned i = 0; i < REPLICATE_PATCHES; i++)
        if (r->errands[i].number == number)
            return &r->errands[i];
    return NULL;
}

int replicate_patch(struct replicate *r, const struct session *s, const char *fragment, size_t size,
                    const char *if_match, session_patched_fn done, void *opaque,
                    struct session_reply *reply)
{
    struct wire_patch *m = &r->frame.patch;
    struct errand *errand = find_errand(r, 0);
    memset(m, 0, sizeof(*m));
    int length = strip(m->text, sizeof(m->text), fragment, size);
    if (if_match != NULL && (strlen(if_match) >= sizeof(m->if_match) || !printable(if_match))) {
        session_refuse(reply, 412, 0, "If-Match is no tag of ours");
        return -EMSGSIZE;
    }
    if (length < 0) {
        session_refuse(reply, 413, 0, "too long for the partner node, which serves this session");
        return length;
    }
    if (!replink_up(r->link)) {
        session_refuse(reply, 503, SESSION_RETRY_AFTER_S,
                       "the partner node serves this session and is not connected");
        return -ENOTCONN;
    }
    if (errand == NULL || !replink_room(r->link)) {
        session_refuse(reply, 503, SESSION_RETRY_SOON_S,
                       "the partner node serves this session and is busy");
        return -EAGAIN;
    }
    r->errand_number += r->errand_number == UINT32_MAX ? 2 : 1;
    m->head = (struct wire_head){
        .type = WIRE_PATCH,
        .length = (uint32_t)(offsetof(struct wire_patch, text) + (unsigned)length)};
    memcpy(m->token.text, s->token, SESSION_TOKEN_LEN);
    m->number = r->errand_number;
    m->size = (uint32_t)length;
    if (if_match != NULL)
        memcpy(m->if_match, if_match, strlen(if_match));
    int rc = replicate_send(r, m);
    dtls_wipe(m, sizeof(*m));
    if (rc != 0) {
        session_refuse(reply, 503, SESSION_RETRY_AFTER_S,
                       "the partner node serves this session and is not connected");
        return -ENOTCONN;
    }
    *errand = (struct errand){.number = r->errand_number,
                              .until_ms = uv_now(r->loop) + REPLICATE_PATCH_MS,
                              .done = done,
                              .opaque = opaque};
    return 0;
}

static void end_errand(struct errand *errand, struct session_reply *reply, const char *etag)
{
    struct errand copy = *errand;
    errand->number = 0;
    copy.done(copy.opaque, reply, etag);
}

static void fail_errand(struct errand *errand, const char *reason)
{
    struct session_reply reply = {0};
    session_refuse(&reply, 503, SESSION_RETRY_AFTER_S, "%s", reason);
    end_errand(errand, &reply, "");
}

void patched_frame(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_patched *m = &frame->patched;
    struct errand *errand = m->number != 0 ? find_errand(r, m->number) : NULL;
    struct session_reply reply = {.status = m->status, .retry_after_s = m->retry_after_s};
    if (errand == NULL)
        return; // too late
    memcpy(reply.reason, m->reason, sizeof(reply.reason));
    if (m->size > 0 && (reply.body = strndup(m->text, m->size)) == NULL) {
        fail_errand(errand, "out of memory");
        return;
    }
    end_errand(errand, &reply, m->etag);
}

void patches_tick(struct replicate *r, uint64_t now)
{
    for (unsigned i = 0; i < REPLICATE_PATCHES; i++)
        if (r->errands[i].number != 0 && now >= r->errands[i].until_ms)
            fail_errand(&r->errands[i], "the partner node serves this session and is silent");
}

void patches_down(struct replicate *r)
{
    for (unsigned i = 0; i < REPLICATE_PATCHES; i++)
        if (r->errands[i].number != 0)
            fail_errand(&r->errands[i], "the partner node, which served this session, is gone");
}

// ---- at the node that serves the session

static void serve_patch(struct replicate *r, const struct wire_patch *m,
                        struct session_reply *reply)
{
    struct session *s = session_find(r->set, m->token.text);
    if (s == NULL)
        session_refuse(reply, 404, 0, "no such session; it may have ended");
    else if (!replicate_serves(r, s->open.group))
        session_refuse(reply, 503, SESSION_RETRY_SOON_S, "the session is changing nodes");
    else
        session_patch(s, m->text, m->size, *m->if_match != 0 ? m->if_match : NULL, reply);
}

void patch_frame(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_patch *m = &frame->patch;
    struct wire_patched answer = {.number = m->number};
    struct session_reply reply = {0};
    serve_patch(r, m, &reply);
    const struct session *s = session_find(r->set, m->token.text);
    size_t size = reply.body != NULL ? strlen(reply.body) : 0;
    if (size > sizeof(answer.text)) {
        size = 0;
        session_refuse(&reply, 503, SESSION_RETRY_AFTER_S,
                       "the answer is too long to be passed on");
    }
    answer.head = (struct wire_head){
        .type = WIRE_PATCHED, .length = (uint32_t)(offsetof(struct wire_patched, text) + size)};
    answer.status = (uint16_t)reply.status;
    answer.retry_after_s = (uint16_t)reply.retry_after_s;
    answer.size = (uint32_t)size;
    if (s != NULL)
        memcpy(answer.etag, s->etag, sizeof(answer.etag));
    for (size_t i = 0; i + 1 < sizeof(answer.reason) && reply.reason[i] != 0; i++)
        answer.reason[i] = reply.reason[i] >= ' ' && reply.reason[i] <= '~' ? reply.reason[i] : '?';
    if (size > 0)
        memcpy(answer.text, reply.body, size);
    free(reply.body);
    if (replink_up(r->link))
        replicate_tell(r); // the credentials first: the client uses them at once
    if (replink_up(r->link))
        replicate_send(r, &answer);
    dtls_wipe(&answer, sizeof(answer));
}
