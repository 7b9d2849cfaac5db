// msg_check: a valid message of every type, then every field that it must refuse, one at a time.
#include "../../dataplane/abi/messages.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

union any {
    struct msg_head head;
    struct msg_session_open session_open;
    struct msg_session_keys session_keys;
    struct msg_session_ice session_ice;
    struct msg_session_close session_close;
    struct msg_dtls dtls;
    struct msg_stream_open stream_open;
    struct msg_stream_close stream_close;
    struct msg_stream_forward stream_forward;
    struct msg_mode mode;
    struct msg_session_path session_path;
    struct msg_session_media session_media;
    struct msg_session_dead session_dead;
    struct msg_session_closed session_closed;
    struct msg_stream_state stream_state;
    uint8_t bytes[MSG_MAX];
    struct msg_peer peer;
    struct msg_group group;
    struct msg_session_adopt session_adopt;
    struct msg_session_numbers session_numbers;
    struct msg_peer_state peer_state;
    struct msg_stall stall;
    struct msg_right right;
    struct msg_group_state group_state;
};

static const uint16_t length_of[MSG_TYPES] = {
    [MSG_SESSION_OPEN] = sizeof(struct msg_session_open),
    [MSG_SESSION_KEYS] = sizeof(struct msg_session_keys),
    [MSG_SESSION_ICE] = sizeof(struct msg_session_ice),
    [MSG_SESSION_CLOSE] = sizeof(struct msg_session_close),
    [MSG_DTLS_SEND] = offsetof(struct msg_dtls, data) + 100,
    [MSG_STREAM_OPEN] = sizeof(struct msg_stream_open),
    [MSG_STREAM_CLOSE] = sizeof(struct msg_stream_close),
    [MSG_STREAM_FORWARD] = sizeof(struct msg_stream_forward),
    [MSG_MODE] = sizeof(struct msg_mode),
    [MSG_SESSION_PATH] = sizeof(struct msg_session_path),
    [MSG_SESSION_MEDIA] = sizeof(struct msg_session_media),
    [MSG_SESSION_DEAD] = sizeof(struct msg_session_dead),
    [MSG_SESSION_CLOSED] = sizeof(struct msg_session_closed),
    [MSG_DTLS_RECEIVED] = offsetof(struct msg_dtls, data) + 100,
    [MSG_STREAM_STATE] = sizeof(struct msg_stream_state),
    [MSG_PEER] = sizeof(struct msg_peer),
    [MSG_GROUP] = sizeof(struct msg_group),
    [MSG_SESSION_ADOPT] = sizeof(struct msg_session_adopt),
    [MSG_SESSION_NUMBERS] = sizeof(struct msg_session_numbers),
    [MSG_PEER_STATE] = sizeof(struct msg_peer_state),
    [MSG_STALL] = sizeof(struct msg_stall),
    [MSG_RIGHT_PASS] = sizeof(struct msg_right),
    [MSG_RIGHT_PASSED] = sizeof(struct msg_right),
    [MSG_GROUP_STATE] = sizeof(struct msg_group_state),
};

static const struct abi_addr addr4 = {.ip = {192, 0, 2, 1}, .port = 4000, .family = 4};

static void fill_ice(struct msg_ice *ice)
{
    memcpy(ice->ufrag, "aZ09+/bc", MSG_UFRAG_LEN);
    memset(ice->pwd, 'p', MSG_PWD_LEN);
    ice->remote_ufrag_len = 4;
    ice->remote_pwd_len = 22;
    memset(ice->remote_ufrag, 'u', 4);
    memset(ice->remote_pwd, '/', 22);
}

static void fill_tracks(struct msg_track *track)
{
    for (int i = 0; i < MSG_MAX_TRACKS; i++) {
        track[i] = (struct msg_track){.kind = KIND_VIDEO,
                                      .codec = CODEC_VP8,
                                      .pt = (uint8_t)(96 + i),
                                      .rtx_pt = MSG_NO_PT,
                                      .clock_rate = 90000,
                                      .feedback = FB_NACK | FB_PLI,
                                      .layers = 1,
                                      .hdrext = {[HDREXT_MID] = 14}};
        snprintf(track[i].mid, sizeof(track[i].mid), "video0");
    }
}

static union any valid(uint16_t type)
{
    union any m = {.head = {.type = type, .length = length_of[type], .id = 1ull << 32}};
    switch (type) {
    case MSG_SESSION_OPEN:
        m.session_open.stream = 5;
        m.session_open.role = ROLE_PLAY;
        m.session_open.tracks = MSG_MAX_TRACKS;
        fill_ice(&m.session_open.ice);
        fill_tracks(m.session_open.track);
        break;
    case MSG_SESSION_KEYS:
        m.session_keys.profile = PROFILE_AEAD_AES_128_GCM;
        break;
    case MSG_SESSION_ICE:
        fill_ice(&m.session_ice.ice);
        break;
    case MSG_DTLS_SEND:
        m.dtls.size = 100;
        break;
    case MSG_DTLS_RECEIVED:
        m.dtls.size = 100;
        m.dtls.remote = addr4;
        break;
    case MSG_STREAM_OPEN:
        m.stream_open.source_worker = ABI_MAX_WORKERS - 1;
        m.stream_open.tracks = 2;
        fill_tracks(m.stream_open.track);
        break;
    case MSG_STREAM_FORWARD:
        m.stream_forward.workers = 0xffff;
        break;
    case MSG_MODE:
        m.head.id = 0;
        m.mode.mode = ABI_MODE_DRAIN;
        break;
    case MSG_SESSION_PATH:
        m.session_path.remote = m.session_path.local = addr4;
        break;
    case MSG_SESSION_DEAD:
        m.session_dead.reason = DEAD_TIMEOUT;
        break;
    case MSG_STREAM_STATE:
        m.stream_state.state = STREAM_BYE;
        break;
    case MSG_PEER:
        m.head.id = 1;
        m.peer = (struct msg_peer){.head = m.head,
                                   .remote4 = addr4,
                                   .workers = 1,
                                   .present = 1,
                                   .bfd_tx_us = 10000,
                                   .bfd_rx_us = 10000,
                                   .bfd_multiplier = 3};
        break;
    case MSG_GROUP:
        m.head.id = 1;
        m.group.role = GROUP_STANDBY;
        m.group.take4 = addr4;
        break;
    case MSG_SESSION_ADOPT:
        m.session_adopt.remote = m.session_adopt.local = addr4;
        m.session_adopt.numbers.numbered = 3;
        break;
    case MSG_PEER_STATE:
        m.head.id = 1;
        break;
    case MSG_STALL:
        m.head.id = 1;
        m.stall.ms = MSG_STALL_MAX_MS;
        break;
    case MSG_GROUP_STATE:
        m.head.id = 1;
        m.group_state.role = GROUP_ACTIVE;
        break;
    default:
        break;
    }
    return m;
}

static void every_type_passes(void **state)
{
    for (int type = 1; type < MSG_TYPES; type++) {
        union any m = valid((uint16_t)type);
        if (msg_check(&m.head) != 0)
            fail_msg("type %d is refused", type);
    }
}

static void length_must_be_exact(void **state)
{
    for (int type = 1; type < MSG_TYPES; type++) {
        union any m = valid((uint16_t)type);
        m.head.length--;
        assert_int_equal(msg_check(&m.head), -EBADMSG);
        m.head.length += 2;
        bool datagram = type == MSG_DTLS_SEND || type == MSG_DTLS_RECEIVED;
        assert_int_equal(msg_check(&m.head), datagram ? 0 : -EBADMSG); // padding is fine there
        m.head.length = MSG_MAX;
        assert_int_equal(msg_check(&m.head), -EBADMSG);
    }
}

static void ids(void **state)
{
    for (int type = 1; type < MSG_TYPES; type++) {
        union any m = valid((uint16_t)type);
        m.head.id = type == MSG_MODE;
        assert_int_equal(msg_check(&m.head), -EBADMSG);
    }
}

static void unknown_types(void **state)
{
    static const uint16_t types[] = {MSG_NONE, MSG_TYPES, 0x7fff, 0xffff};
    for (size_t i = 0; i < 4; i++) {
        union any m = {.head = {.type = types[i], .length = sizeof(m.head), .id = 1}};
        assert_int_equal(msg_check(&m.head), -EBADMSG);
        assert_false(msg_is_up(types[i]));
    }
}

static void directions(void **state)
{
    assert_false(msg_is_up(MSG_SESSION_OPEN));
    assert_false(msg_is_up(MSG_MODE));
    assert_true(msg_is_up(MSG_SESSION_PATH));
    assert_true(msg_is_up(MSG_STREAM_STATE));
}

// NOLINTBEGIN(bugprone-macro-parentheses): they are names of fields
#define FIELD(type, message, field, wrong)                                                         \
    {                                                                                              \
        type, #message "." #field, offsetof(union any, message.field),                             \
            sizeof(((union any *)0)->message.field), wrong                                         \
    }
// NOLINTEND(bugprone-macro-parentheses)
#define OPEN(field, wrong) FIELD(MSG_SESSION_OPEN, session_open, field, wrong)

static const struct {
    uint16_t type;
    const char *what;
    size_t offset, size;
    uint64_t wrong;
} fields[] = {
    OPEN(stream, 0),
    OPEN(role, 0),
    OPEN(role, ROLE_PLAY + 1),
    OPEN(tracks, 0),
    OPEN(tracks, MSG_MAX_TRACKS + 1),
    OPEN(tracks, 255),
    OPEN(ice.ufrag[0], 0),
    OPEN(ice.ufrag[MSG_UFRAG_LEN - 1], ':'),
    OPEN(ice.pwd[MSG_PWD_LEN - 1], ' '),
    OPEN(ice.pwd[0], 0xe9),
    OPEN(ice.remote_ufrag_len, 3),
    OPEN(ice.remote_ufrag_len, MSG_REMOTE_ICE_MAX + 1),
    OPEN(ice.remote_ufrag_len, 5), // reaches a NUL
    OPEN(ice.remote_pwd_len, 21),
    OPEN(ice.remote_pwd_len, 0xffff),
    OPEN(ice.remote_pwd[21], '-'),
    OPEN(track[0].kind, 0),
    OPEN(track[0].kind, KIND_AUDIO), // VP8 is not
    OPEN(track[0].kind, 3),
    OPEN(track[0].codec, CODEC_NONE),
    OPEN(track[0].codec, CODECS),
    OPEN(track[0].codec, CODEC_OPUS),
    OPEN(track[0].pt, 128),
    OPEN(track[0].pt, 64),
    OPEN(track[0].pt, 95),
    OPEN(track[0].rtx_pt, 96), // the same as pt
    OPEN(track[0].rtx_pt, 72),
    OPEN(track[0].rtx_pt, 200),
    OPEN(track[0].clock_rate, 0),
    OPEN(track[0].feedback, 32),
    OPEN(track[0].layers, 0),
    OPEN(track[0].layers, MSG_MAX_LAYERS + 1),
    OPEN(track[0].source, MSG_MAX_TRACKS),
    OPEN(track[0].hdrext[0], 15),
    OPEN(track[0].hdrext[15], 15),
    OPEN(track[3].pt, 128), // the last track is looked at, too
    FIELD(MSG_SESSION_KEYS, session_keys, profile, PROFILE_NONE),
    FIELD(MSG_SESSION_KEYS, session_keys, profile, 2),
    FIELD(MSG_SESSION_ICE, session_ice, ice.ufrag[3], '@'),
    FIELD(MSG_SESSION_ICE, session_ice, ice.remote_pwd_len, 0),
    FIELD(MSG_DTLS_SEND, dtls, size, 0),
    FIELD(MSG_DTLS_SEND, dtls, size, 101), // beyond the message's length
    FIELD(MSG_DTLS_SEND, dtls, size, MSG_DATAGRAM_MAX + 1),
    FIELD(MSG_DTLS_RECEIVED, dtls, size, 0xffff),
    FIELD(MSG_DTLS_RECEIVED, dtls, remote.family, 0),
    FIELD(MSG_DTLS_RECEIVED, dtls, remote.family, 5),
    FIELD(MSG_DTLS_RECEIVED, dtls, remote.port, 0),
    FIELD(MSG_STREAM_OPEN, stream_open, source_worker, ABI_MAX_WORKERS),
    FIELD(MSG_STREAM_OPEN, stream_open, tracks, 0),
    FIELD(MSG_STREAM_OPEN, stream_open, tracks, MSG_MAX_TRACKS + 1),
    FIELD(MSG_STREAM_OPEN, stream_open, track[1].layers, 0),
    FIELD(MSG_STREAM_FORWARD, stream_forward, workers, 0x10000),
    FIELD(MSG_MODE, mode, mode, ABI_MODE_DRAIN + 1),
    FIELD(MSG_SESSION_PATH, session_path, remote.family, 6), // the local one is 4
    FIELD(MSG_SESSION_PATH, session_path, remote.port, 0),
    FIELD(MSG_SESSION_PATH, session_path, local.port, 0),
    FIELD(MSG_SESSION_PATH, session_path, local.family, 0),
    FIELD(MSG_SESSION_DEAD, session_dead, reason, 0),
    FIELD(MSG_SESSION_DEAD, session_dead, reason, DEAD_JUMP + 1),
    FIELD(MSG_STREAM_STATE, stream_state, state, STREAM_BYE + 1),
    OPEN(group, MSG_GROUPS),
    FIELD(MSG_STREAM_OPEN, stream_open, group, MSG_GROUPS),
    FIELD(MSG_STREAM_OPEN, stream_open, peers, 1), // without a trunk id
    FIELD(MSG_PEER, peer, head.id, MSG_PEERS + 1),
    FIELD(MSG_SESSION_OPEN, session_open, again, 2),
    FIELD(MSG_PEER, peer, present, 2),
    FIELD(MSG_PEER, peer, remote4.family, 0), // and no other address
    FIELD(MSG_PEER, peer, remote4.port, 0),
    FIELD(MSG_PEER, peer, remote6.family, 4),
    FIELD(MSG_PEER, peer, workers, 0),
    FIELD(MSG_PEER, peer, workers, ABI_MAX_WORKERS + 1),
    FIELD(MSG_PEER, peer, bfd_tx_us, 9999),
    FIELD(MSG_PEER, peer, bfd_rx_us, 9999),
    FIELD(MSG_PEER, peer, bfd_multiplier, 0),
    FIELD(MSG_PEER, peer, bfd_key_length, 21),
    FIELD(MSG_GROUP, group, head.id, MSG_GROUPS),
    FIELD(MSG_GROUP, group, peer, MSG_PEERS),
    FIELD(MSG_GROUP, group, role, 0),
    FIELD(MSG_GROUP, group, role, GROUP_ACTIVE + 1),
    FIELD(MSG_GROUP, group, takeover, 2),
    FIELD(MSG_GROUP, group, take4.port, 0),
    FIELD(MSG_GROUP, group, take6.family, 4),
    FIELD(MSG_SESSION_ADOPT, session_adopt, numbers.delta[3], 1ull << 48),
    FIELD(MSG_SESSION_ADOPT, session_adopt, numbers.rtx_limit[0], 1ull << 48),
    FIELD(MSG_SESSION_ADOPT, session_adopt, numbers.numbered, 16),
    FIELD(MSG_SESSION_ADOPT, session_adopt, local.family, 6),
    FIELD(MSG_SESSION_ADOPT, session_adopt, remote.port, 0),
    FIELD(MSG_SESSION_NUMBERS, session_numbers, numbers.delta[0], 1ull << 48),
    FIELD(MSG_RIGHT_PASS, right, asked, 16),
    FIELD(MSG_RIGHT_PASSED, right, left, 16),
    FIELD(MSG_RIGHT_PASSED, right, numbered, 16),
    FIELD(MSG_RIGHT_PASSED, right, given, 16),
    FIELD(MSG_RIGHT_PASSED, right, first[3], 1ull << 48),
    FIELD(MSG_RIGHT_PASSED, right, rtx_limit[0], 1ull << 48),
    FIELD(MSG_PEER_STATE, peer_state, state, 4),
    FIELD(MSG_PEER_STATE, peer_state, diag, 32),
    FIELD(MSG_STALL, stall, ms, 0),
    FIELD(MSG_STALL, stall, ms, MSG_STALL_MAX_MS + 1),
    FIELD(MSG_GROUP_STATE, group_state, role, 0),
};

static void every_wrong_field_is_refused(void **state)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        union any m = valid(fields[i].type);
        memcpy(m.bytes + fields[i].offset, &fields[i].wrong, fields[i].size);
        if (msg_check(&m.head) != -EBADMSG)
            fail_msg("%s = %llu passes", fields[i].what, (unsigned long long)fields[i].wrong);
    }
}

static void names_must_end(void **state)
{
    union any m = valid(MSG_SESSION_OPEN);
    memset(m.session_open.track[2].mid, 'm', MSG_MID_LEN);
    assert_int_equal(msg_check(&m.head), -EBADMSG);
    m = valid(MSG_SESSION_OPEN);
    memset(m.session_open.track[2].layer[2].rid, 'r', MSG_MID_LEN);
    assert_int_equal(msg_check(&m.head), -EBADMSG);
}

static void limits_pass(void **state)
{
    union any m = valid(MSG_DTLS_RECEIVED);
    m.dtls.size = MSG_DATAGRAM_MAX;
    m.head.length = offsetof(struct msg_dtls, data) + MSG_DATAGRAM_MAX;
    assert_int_equal(msg_check(&m.head), 0);
    m = valid(MSG_SESSION_OPEN);
    m.session_open.ice.remote_pwd_len = m.session_open.ice.remote_ufrag_len = MSG_REMOTE_ICE_MAX;
    memset(m.session_open.ice.remote_ufrag, 'x', MSG_REMOTE_ICE_MAX);
    memset(m.session_open.ice.remote_pwd, 'x', MSG_REMOTE_ICE_MAX);
    m.session_open.tracks = 1;
    m.session_open.track[1].layers = 99; // beyond `tracks`: not looked at
    m.session_open.track[0].rtx_pt = 35;
    assert_int_equal(msg_check(&m.head), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_passes),
        cmocka_unit_test(length_must_be_exact),
        cmocka_unit_test(ids),
        cmocka_unit_test(unknown_types),
        cmocka_unit_test(directions),
        cmocka_unit_test(every_wrong_field_is_refused),
        cmocka_unit_test(names_must_end),
        cmocka_unit_test(limits_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
