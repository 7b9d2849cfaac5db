// Checks of replication frames; see replicate_wire.h. Pure.
#include "replicate_wire.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    bool counted;
} types[WIRE_TYPES] = {
#define X(name_, state_, help_) [WIRE_##name_] = {.name = #name_, .counted = state_},
    WIRE_LIST(X)
#undef X
};

int wire_length(const void *bytes, size_t size)
{
    struct wire_head head;
    if (size < sizeof(head))
        return 0;
    memcpy(&head, bytes, sizeof(head));
    if (head.length < sizeof(head) || head.length > WIRE_FRAME_MAX)
        return -EBADMSG;
    return (int)head.length;
}

static bool check_text(const char *text, size_t size)
{
    size_t n = strnlen(text, size);
    for (size_t i = 0; i < n; i++)
        if (text[i] < ' ' || text[i] > '~')
            return false;
    return n < size;
}

static bool check_token(const struct wire_token *token)
{
    return strnlen(token->text, sizeof(token->text)) == SESSION_TOKEN_LEN &&
           strspn(token->text, "abcdefghijklmnopqrstuvwxyz234567") == SESSION_TOKEN_LEN;
}

static bool check_stream_name(const char *name, size_t size)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strnlen(name, size);
    return n > 0 && n <= STREAM_NAME_MAX && strspn(name, allowed) == n;
}

static bool check_stream(const union wire_frame *frame)
{
    const struct wire_stream *m = &frame->stream;
    if (m->owner > WIRE_YOURS || m->record.trunk_id == 0 || m->record.state != JOURNAL_OPEN ||
        !stream_record_valid(&m->record))
        return false;
    for (unsigned t = 0; t < m->record.tracks.count; t++)
        if (!check_text(m->record.tracks.fmtp[t].text, SDP_FMTP_MAX)) // goes into answers
            return false;
    return true;
}

static bool check_session(const union wire_frame *frame)
{
    const struct wire_session *m = &frame->session;
    const struct session_record *r = &m->record;
    struct wire_token token;
    memcpy(&token, r->token, sizeof(token));
    return m->owner <= WIRE_YOURS && r->state == JOURNAL_OPEN && session_record_valid(r) &&
           check_token(&token) && check_text(r->etag, sizeof(r->etag)) &&
           check_text(r->client, sizeof(r->client));
}

static bool group_valid(const struct wire_group *m)
{
    return m->owner <= WIRE_YOURS && (m->role == GROUP_STANDBY || m->role == GROUP_ACTIVE) &&
           m->wish <= GROUP_ACTIVE;
}

static bool check_media(const struct abi_addr *addr, uint8_t family)
{
    return addr->family == 0 || (addr->family == family && addr->port != 0);
}

static bool check_dtls(const union wire_frame *frame)
{
    const struct wire_dtls *m = &frame->dtls;
    size_t head = offsetof(struct wire_dtls, data);
    return m->head.length > head && m->head.length <= sizeof(*m) &&
           m->size == m->head.length - head && check_token(&m->token);
}

static bool check_right(const union wire_frame *frame)
{
    const struct wire_right *m = &frame->right;
    return check_token(&m->token) && m->right.head.type == MSG_RIGHT_PASS &&
           m->right.head.length == sizeof(m->right) && msg_check(&m->right.head) == 0;
}

static bool check_patch(const union wire_frame *frame)
{
    const struct wire_patch *m = &frame->patch;
    size_t head = offsetof(struct wire_patch, text);
    return m->head.length > head && m->size <= WIRE_TEXT_MAX && m->head.length == head + m->size &&
           check_token(&m->token) && check_text(m->if_match, sizeof(m->if_match));
}

static bool check_patched(const union wire_frame *frame)
{
    const struct wire_patched *m = &frame->patched;
    size_t head = offsetof(struct wire_patched, text);
    return m->head.length >= head && m->size <= WIRE_TEXT_MAX && m->head.length == head + m->size &&
           m->status >= 200 && m->status < 600 && check_text(m->etag, sizeof(m->etag)) &&
           check_text(m->reason, sizeof(m->reason));
}

static bool check_hello(const union wire_frame *m)
{
    return m->head.length >= offsetof(struct wire_hello, abi_version) &&
           check_text(m->hello.node, sizeof(m->hello.node));
}

static bool check_refuse(const union wire_frame *m)
{
    return check_text(m->refuse.reason, sizeof(m->refuse.reason));
}

static bool check_group(const union wire_frame *m)
{
    return group_valid(&m->group);
}

static bool check_stream_gone(const union wire_frame *m)
{
    return m->stream_gone.owner <= WIRE_YOURS &&
           check_stream_name(m->stream_gone.name, sizeof(m->stream_gone.name));
}

static bool check_refused(const union wire_frame *m)
{
    return m->refused.why > WIRE_REFUSAL_NONE && m->refused.why < WIRE_REFUSAL_COUNT &&
           check_token(&m->refused.token);
}

static bool check_session_gone(const union wire_frame *m)
{
    return check_token(&m->session_gone.token);
}

static bool check_synced(const union wire_frame *m)
{
    return m->synced.owner <= WIRE_YOURS && m->synced.all <= 1;
}

static const struct {
    size_t size;                              // 0: anything from a head to the longest
    bool (*check)(const union wire_frame *m); // NULL: any bytes will do
} bodies[WIRE_TYPES] = {
    [WIRE_HELLO] = {0, check_hello},
    [WIRE_REFUSE] = {sizeof(struct wire_refuse), check_refuse},
    [WIRE_PING] = {sizeof(struct wire_head), NULL},
    [WIRE_ACK] = {sizeof(struct wire_ack), NULL},
    [WIRE_KEYS] = {sizeof(struct wire_keys), NULL},
    [WIRE_REKEY] = {sizeof(struct wire_head), NULL},
    [WIRE_GROUP] = {sizeof(struct wire_group), check_group},
    [WIRE_STREAM] = {sizeof(struct wire_stream), check_stream},
    [WIRE_STREAM_GONE] = {sizeof(struct wire_stream_gone), check_stream_gone},
    [WIRE_SESSION] = {sizeof(struct wire_session), check_session},
    [WIRE_REFUSED] = {sizeof(struct wire_refused), check_refused},
    [WIRE_SESSION_GONE] = {sizeof(struct wire_session_gone), check_session_gone},
    [WIRE_SYNCED] = {sizeof(struct wire_synced), check_synced},
    [WIRE_DTLS] = {0, check_dtls},
    [WIRE_DTLS_SEND] = {0, check_dtls},
    [WIRE_RIGHT] = {sizeof(struct wire_right), check_right},
    [WIRE_PATCH] = {0, check_patch},
    [WIRE_PATCHED] = {0, check_patched},
};

int wire_check(const struct wire_head *head)
{
    if (head->type == WIRE_NONE || head->type >= WIRE_TYPES || head->length < sizeof(*head) ||
        head->length > WIRE_FRAME_MAX)
        return -EBADMSG;
    size_t size = bodies[head->type].size;
    if (size != 0 && head->length != size)
        return -EBADMSG;
    return bodies[head->type].check == NULL || bodies[head->type].check((const void *)head)
               ? 0
               : -EBADMSG;
}

int wire_check_hello(const struct wire_hello *m, const char *partner, char *why, size_t why_size)
{
    if (m->magic != WIRE_MAGIC)
        snprintf(why, why_size, "it does not speak this protocol, or in another byte order");
    else if (m->version != WIRE_VERSION)
        snprintf(why, why_size, "it speaks version %u of replication, we speak %u", m->version,
                 WIRE_VERSION);
    else if (strcmp(m->node, partner) != 0)
        snprintf(why, why_size, "it calls itself '%s', not '%s'", m->node, partner);
    else if (m->head.length != sizeof(*m) || m->abi_version != ABI_VERSION ||
             m->session_size != sizeof(struct wire_session) ||
             m->stream_size != sizeof(struct wire_stream))
        snprintf(why, why_size, "its sessions have another layout (channel version %u, ours is %u)",
                 m->head.length == sizeof(*m) ? m->abi_version : 0, ABI_VERSION);
    else if (m->workers == 0 || m->workers > ABI_MAX_WORKERS)
        snprintf(why, why_size, "it has %u workers", m->workers);
    else if (!group_valid(&m->group[WIRE_MINE]) || !group_valid(&m->group[WIRE_YOURS]) ||
             !check_media(&m->media4, 4) || !check_media(&m->media6, 6))
        snprintf(why, why_size, "its greeting makes no sense");
    else
        return 0;
    return -EPROTO;
}

bool wire_counted(uint16_t type)
{
    return type < WIRE_TYPES && types[type].counted;
}

const char *wire_name(uint16_t type)
{
    return type < WIRE_TYPES && types[type].name != NULL ? types[type].name : "unknown";
}

const char *wire_refusal_text(uint8_t why)
{
    static const char *const texts[WIRE_REFUSAL_COUNT] = {
#define X(name_, help_) [WIRE_REFUSAL_##name_] = help_,
        WIRE_REFUSALS(X)
#undef X
    };
    return why < WIRE_REFUSAL_COUNT ? texts[why] : NULL;
}
