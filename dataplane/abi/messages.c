// Validation of channel messages: one table, by type. Pure; any thread of either process.
// The other side is our own program, but it may have crashed half-way or be another build: nothing
// that it writes is used as a length, count or index before it has passed here.
#include "messages.h"
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define UFRAG_MIN 4 // RFC 8445 5.3, both sides' least
#define PWD_MIN 22
#define FEEDBACK_ALL (FB_NACK | FB_PLI | FB_FIR | FB_TRANSPORT_CC | FB_REMB)

// ice-char of RFC 8839 5.4: ALPHA / DIGIT / "+" / "/".
static bool ice_chars(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}

static bool check_ice(const struct msg_ice *ice)
{
    return ice->remote_ufrag_len >= UFRAG_MIN && ice->remote_ufrag_len <= MSG_REMOTE_ICE_MAX &&
           ice->remote_pwd_len >= PWD_MIN && ice->remote_pwd_len <= MSG_REMOTE_ICE_MAX &&
           ice_chars(ice->ufrag, MSG_UFRAG_LEN) && ice_chars(ice->pwd, MSG_PWD_LEN) &&
           ice_chars(ice->remote_ufrag, ice->remote_ufrag_len) &&
           ice_chars(ice->remote_pwd, ice->remote_pwd_len);
}

static uint8_t codec_kind(uint8_t codec)
{
    switch (codec) {
    case CODEC_OPUS:
    case CODEC_PCMU:
    case CODEC_PCMA:
        return KIND_AUDIO;
    case CODEC_VP8:
    case CODEC_VP9:
    case CODEC_H264:
    case CODEC_H265:
    case CODEC_AV1:
        return KIND_VIDEO;
    default:
        return 0;
    }
}

// 64..95 would be read as RTCP on a port that carries both (RFC 5761 4).
static bool payload_type(uint8_t pt)
{
    return pt < 64 || (pt > 95 && pt < 128);
}

static bool check_track(const struct msg_track *track)
{
    if (track->kind == 0 || track->kind != codec_kind(track->codec))
        return false;
    if (!payload_type(track->pt) || track->clock_rate == 0 || (track->feedback & ~FEEDBACK_ALL))
        return false;
    if (track->rtx_pt != MSG_NO_PT && (!payload_type(track->rtx_pt) || track->rtx_pt == track->pt))
        return false;
    if (track->layers < 1 || track->layers > MSG_MAX_LAYERS || track->source >= MSG_MAX_TRACKS)
        return false;
    for (size_t i = 0; i < sizeof(track->hdrext); i++)
        if (track->hdrext[i] > 14) // one-byte headers, RFC 8285 4.2
            return false;
    if (memchr(track->mid, 0, sizeof(track->mid)) == NULL)
        return false;
    for (size_t i = 0; i < MSG_MAX_LAYERS; i++)
        if (memchr(track->layer[i].rid, 0, sizeof(track->layer[i].rid)) == NULL)
            return false;
    return true;
}

static bool check_tracks(const struct msg_track *track, uint8_t tracks)
{
    if (tracks < 1 || tracks > MSG_MAX_TRACKS)
        return false;
    for (uint8_t i = 0; i < tracks; i++)
        if (!check_track(&track[i]))
            return false;
    return true;
}

static bool check_addr(const struct abi_addr *addr)
{
    return (addr->family == 4 || addr->family == 6) && addr->port != 0;
}

static bool check_session_open(const struct msg_head *head)
{
    const struct msg_session_open *m = (const void *)head;
    return m->stream != 0 && (m->role == ROLE_PUBLISH || m->role == ROLE_PLAY) &&
           m->group < MSG_GROUPS && m->imported <= 1 && m->again <= 1 &&
           m->home < ABI_MAX_WORKERS && check_ice(&m->ice) && check_tracks(m->track, m->tracks);
}

static bool check_session_keys(const struct msg_head *head)
{
    uint16_t profile = ((const struct msg_session_keys *)head)->profile;
    return profile == PROFILE_AES128_CM_SHA1_80 || profile == PROFILE_AEAD_AES_128_GCM ||
           profile == PROFILE_AEAD_AES_256_GCM;
}

static bool check_session_ice(const struct msg_head *head)
{
    return check_ice(&((const struct msg_session_ice *)head)->ice);
}

static bool check_dtls_send(const struct msg_head *head)
{
    const struct msg_dtls *m = (const void *)head;
    return m->size >= 1 && m->size <= MSG_DATAGRAM_MAX &&
           head->length >= offsetof(struct msg_dtls, data) + m->size;
}

static bool check_dtls_received(const struct msg_head *head)
{
    return check_dtls_send(head) && check_addr(&((const struct msg_dtls *)head)->remote);
}

static bool check_stream_open(const struct msg_head *head)
{
    const struct msg_stream_open *m = (const void *)head;
    return m->source_worker < ABI_MAX_WORKERS && m->home < ABI_MAX_WORKERS &&
           m->group < MSG_GROUPS && m->peers < 1u << MSG_PEERS && (m->trunk_id || !m->peers) &&
           check_tracks(m->track, m->tracks);
}

static bool check_stream_forward(const struct msg_head *head)
{
    return ((const struct msg_stream_forward *)head)->workers < 1u << ABI_MAX_WORKERS;
}

static bool check_mode(const struct msg_head *head)
{
    return ((const struct msg_mode *)head)->mode <= ABI_MODE_DRAIN;
}

static bool check_session_path(const struct msg_head *head)
{
    const struct msg_session_path *m = (const void *)head;
    return check_addr(&m->remote) && check_addr(&m->local) && m->remote.family == m->local.family;
}

static bool check_session_dead(const struct msg_head *head)
{
    uint32_t reason = ((const struct msg_session_dead *)head)->reason;
    return reason >= DEAD_TIMEOUT && reason <= DEAD_JUMP;
}

static bool check_stream_state(const struct msg_head *head)
{
    return ((const struct msg_stream_state *)head)->state <= STREAM_BYE;
}

static bool check_no_addr(const struct abi_addr *addr, uint8_t family)
{
    return addr->family == 0 || (addr->family == family && addr->port != 0);
}

static bool check_peer(const struct msg_head *head)
{
    const struct msg_peer *m = (const void *)head;
    if (head->id > MSG_PEERS || m->present > 1)
        return false;
    return !m->present ||
           (check_no_addr(&m->remote4, 4) && check_no_addr(&m->remote6, 6) &&
            (m->remote4.family || m->remote6.family) && m->workers >= 1 &&
            m->workers <= ABI_MAX_WORKERS && m->bfd_tx_us >= 10000 && m->bfd_rx_us >= 10000 &&
            m->bfd_multiplier >= 1 && m->bfd_key_length <= sizeof(m->bfd_key));
}

static bool check_group(const struct msg_head *head)
{
    const struct msg_group *m = (const void *)head;
    return head->id < MSG_GROUPS && m->peer < MSG_PEERS &&
           (m->role == GROUP_STANDBY || m->role == GROUP_ACTIVE) && m->takeover <= 1 &&
           m->home <= 1 && check_no_addr(&m->take4, 4) && check_no_addr(&m->take6, 6);
}

static bool check_numbers(const struct msg_numbers *numbers)
{
    for (int i = 0; i < MSG_MAX_TRACKS; i++)
        if (numbers->delta[i] >> 48 || numbers->rtx_limit[i] >> 48)
            return false;
    return numbers->numbered < 1u << MSG_MAX_TRACKS;
}

static bool check_session_numbers(const struct msg_head *head)
{
    return check_numbers(&((const struct msg_session_numbers *)head)->numbers);
}

static bool check_session_adopt(const struct msg_head *head)
{
    const struct msg_session_adopt *m = (const void *)head;
    return check_numbers(&m->numbers) &&
           (m->remote.family == 0 || (check_addr(&m->remote) && check_addr(&m->local) &&
                                      m->remote.family == m->local.family));
}

static bool check_right(const struct msg_head *head)
{
    const struct msg_right *m = (const void *)head;
    for (int i = 0; i < MSG_MAX_TRACKS; i++)
        if (m->first[i] >> 48 || m->rtx_limit[i] >> 48)
            return false;
    return (m->asked | m->left | m->numbered | m->given) < 1u << MSG_MAX_TRACKS &&
           !(m->left & m->numbered) && !((m->left | m->numbered) & m->given);
}

static bool check_stall(const struct msg_head *head)
{
    const struct msg_stall *m = (const void *)head;
    return head->id == 1 && m->ms > 0 && m->ms <= MSG_STALL_MAX_MS;
}

static bool check_peer_state(const struct msg_head *head)
{
    const struct msg_peer_state *m = (const void *)head;
    return head->id <= MSG_PEERS && m->state <= 3 && m->diag < 32;
}

static bool check_group_state(const struct msg_head *head)
{
    const struct msg_group_state *m = (const void *)head;
    return head->id < MSG_GROUPS && (m->role == GROUP_STANDBY || m->role == GROUP_ACTIVE);
}

enum direction { down = 1, up };

static const uint8_t direction_of[MSG_TYPES] = {
#define X(name, dir, help) [MSG_##name] = (dir),
    MSG_LIST(X)
#undef X
};

static const struct rule {
    uint16_t least, most;                   // length
    bool (*check)(const struct msg_head *); // NULL: the head is all
} rules[MSG_TYPES] = {
#define EXACT(type) sizeof(struct type), sizeof(struct type)
#define DATAGRAM offsetof(struct msg_dtls, data), sizeof(struct msg_dtls)
    [MSG_SESSION_OPEN] = {EXACT(msg_session_open), check_session_open},
    [MSG_SESSION_KEYS] = {EXACT(msg_session_keys), check_session_keys},
    [MSG_SESSION_ICE] = {EXACT(msg_session_ice), check_session_ice},
    [MSG_SESSION_CLOSE] = {EXACT(msg_session_close), NULL},
    [MSG_DTLS_SEND] = {DATAGRAM, check_dtls_send},
    [MSG_STREAM_OPEN] = {EXACT(msg_stream_open), check_stream_open},
    [MSG_STREAM_CLOSE] = {EXACT(msg_stream_close), NULL},
    [MSG_STREAM_FORWARD] = {EXACT(msg_stream_forward), check_stream_forward},
    [MSG_MODE] = {EXACT(msg_mode), check_mode},
    [MSG_SESSION_PATH] = {EXACT(msg_session_path), check_session_path},
    [MSG_SESSION_MEDIA] = {EXACT(msg_session_media), NULL},
    [MSG_SESSION_DEAD] = {EXACT(msg_session_dead), check_session_dead},
    [MSG_SESSION_CLOSED] = {EXACT(msg_session_closed), NULL},
    [MSG_DTLS_RECEIVED] = {DATAGRAM, check_dtls_received},
    [MSG_PEER] = {EXACT(msg_peer), check_peer},
    [MSG_GROUP] = {EXACT(msg_group), check_group},
    [MSG_SESSION_ADOPT] = {EXACT(msg_session_adopt), check_session_adopt},
    [MSG_STALL] = {EXACT(msg_stall), check_stall},
    [MSG_RIGHT_PASS] = {EXACT(msg_right), check_right},
    [MSG_RIGHT_PASSED] = {EXACT(msg_right), check_right},
    [MSG_SESSION_NUMBERS] = {EXACT(msg_session_numbers), check_session_numbers},
    [MSG_PEER_STATE] = {EXACT(msg_peer_state), check_peer_state},
    [MSG_GROUP_STATE] = {EXACT(msg_group_state), check_group_state},
    [MSG_STREAM_STATE] = {EXACT(msg_stream_state), check_stream_state},
};

int msg_check(const struct msg_head *m)
{
    if (m->type == MSG_NONE || m->type >= MSG_TYPES)
        return -EBADMSG;
    const struct rule *rule = &rules[m->type];
    if (m->length < rule->least || m->length > rule->most)
        return -EBADMSG;
    if ((m->id == 0) != (m->type == MSG_MODE))
        return -EBADMSG;
    return rule->check == NULL || rule->check(m) ? 0 : -EBADMSG;
}

_Bool msg_is_up(uint16_t type)
{
    return type < MSG_TYPES && direction_of[type] == up;
}
