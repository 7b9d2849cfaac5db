// Unit tests of controlplane/replicate_wire.c: what a partner may say, and what it may not.
#include "../../controlplane/replicate_wire.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOKEN "abcdefghijklmnopqrstuvwxyz234567"

static struct msg_track track(void)
{
    return (struct msg_track){.kind = KIND_VIDEO,
                              .codec = CODEC_VP8,
                              .pt = 96,
                              .rtx_pt = MSG_NO_PT,
                              .clock_rate = 90000,
                              .layers = 1,
                              .mid = "0",
                              .layer = {{.ssrc = 1}}};
}

static union wire_frame session_frame(void)
{
    union wire_frame f = {.session = {.head = {.type = WIRE_SESSION, .length = sizeof(f.session)}}};
    struct session_record *r = &f.session.record;
    r->id = 1ull << 32;
    r->state = JOURNAL_OPEN;
    r->phase = PHASE_MEDIA;
    strcpy(r->token, TOKEN);
    strcpy(r->etag, "\"abc\"");
    strcpy(r->client, "192.0.2.1");
    strcpy(r->stream, "demo");
    r->open = (struct msg_session_open){
        .head = {.type = MSG_SESSION_OPEN, .length = sizeof(r->open), .id = r->id},
        .stream = 1ull << 32,
        .role = ROLE_PLAY,
        .tracks = 1,
        .group = 1,
        .track = {track()}};
    memcpy(r->open.ice.ufrag, "abcdefgh", MSG_UFRAG_LEN);
    memcpy(r->open.ice.pwd, "abcdefghijklmnopqrstuvwx", MSG_PWD_LEN);
    r->open.ice.remote_ufrag_len = 4;
    memcpy(r->open.ice.remote_ufrag, "wxyz", 4);
    r->open.ice.remote_pwd_len = 22;
    memcpy(r->open.ice.remote_pwd, "abcdefghijklmnopqrstuv", 22);
    r->keys = (struct msg_session_keys){
        .head = {.type = MSG_SESSION_KEYS, .length = sizeof(r->keys), .id = r->id},
        .profile = PROFILE_AEAD_AES_128_GCM};
    return f;
}

static union wire_frame stream_frame(void)
{
    union wire_frame f = {.stream = {.head = {.type = WIRE_STREAM, .length = sizeof(f.stream)}}};
    struct stream_record *r = &f.stream.record;
    r->id = 1ull << 32;
    r->state = JOURNAL_OPEN;
    r->trunk_id = 7;
    strcpy(r->name, "demo");
    r->tracks.count = 1;
    r->tracks.track[0] = track();
    return f;
}

static union wire_frame hello_frame(void)
{
    union wire_frame f = {
        .hello = {.head = {.type = WIRE_HELLO, .length = sizeof(f.hello)},
                  .magic = WIRE_MAGIC,
                  .version = WIRE_VERSION,
                  .node = "b",
                  .abi_version = ABI_VERSION,
                  .session_size = sizeof(struct wire_session),
                  .stream_size = sizeof(struct wire_stream),
                  .workers = 1,
                  .media4 = {.ip = {10, 0, 0, 1}, .port = 7000, .family = 4},
                  .group = {{.role = GROUP_ACTIVE}, {.role = GROUP_STANDBY, .owner = WIRE_YOURS}}}};
    return f;
}

static void test_good_frames(void **state)
{
    union wire_frame f = session_frame();
    assert_int_equal(wire_check(&f.head), 0);
    f = stream_frame();
    assert_int_equal(wire_check(&f.head), 0);
    f = hello_frame();
    assert_int_equal(wire_check(&f.head), 0);
}

static void test_lengths(void **state)
{
    union wire_frame f = session_frame();
    assert_int_equal(wire_length(f.bytes, sizeof(struct wire_head) - 1), 0);
    assert_int_equal(wire_length(f.bytes, sizeof(struct wire_head)), sizeof(f.session));
    f.head.length = sizeof(struct wire_head) - 1;
    assert_int_equal(wire_length(f.bytes, sizeof(f)), -EBADMSG);
    f.head.length = WIRE_FRAME_MAX + 1;
    assert_int_equal(wire_length(f.bytes, sizeof(f)), -EBADMSG);
    for (unsigned type = 0; type <= WIRE_TYPES; type++) { // a head alone is only a PING or a REKEY
        struct wire_head head = {.type = (uint16_t)type, .length = sizeof(head)};
        assert_int_equal(wire_check(&head), type == WIRE_PING || type == WIRE_REKEY ? 0 : -EBADMSG);
    }
}

// Each change makes a session that must be refused.
static void test_bad_sessions(void **state)
{
    for (int i = 0; i < 16; i++) {
        union wire_frame f = session_frame();
        struct wire_session *m = &f.session;
        struct session_record *r = &m->record;
        void *const holes[] = {&m->head.length,   &m->owner,
                               &r->state,         &r->phase,
                               r->token,          r->etag,
                               r->client,         r->stream,
                               &r->open.role,     &r->open.tracks,
                               &r->open.group,    &r->open.head.id,
                               &r->keys.profile,  &r->numbers.numbered,
                               r->open.ice.ufrag, &r->remote.family};
        *(uint8_t *)holes[i] = 0xfe;
        if (wire_check(&f.head) != -EBADMSG)
            fail_msg("change %d was taken", i);
    }
}

static void test_bad_texts(void **state)
{
    union wire_frame f = session_frame();
    memset(f.session.record.client, 'x', sizeof(f.session.record.client)); // no end
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f = session_frame();
    strcpy(f.session.record.etag, "\"a\r\nCookie:\"");
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f = session_frame();
    f.session.record.token[31] = 0;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f = session_frame();
    f.session.record.token[0] = '/';
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f = stream_frame();
    strcpy(f.stream.record.tracks.fmtp[0].text, "a=1\r\na=candidate:evil");
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f = stream_frame();
    strcpy(f.stream.record.name, "../demo");
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f = stream_frame();
    f.stream.record.trunk_id = 0;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f = stream_frame();
    f.stream.record.tracks.count = MSG_MAX_TRACKS + 1;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
}

static void test_hello_says_who_is_wrong(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
        const char *why;
    } cases[] = {
        {offsetof(struct wire_hello, magic), 0x686c7270, "does not speak this protocol"},
        {offsetof(struct wire_hello, version), 99, "it speaks version 99 of"},
        {offsetof(struct wire_hello, node), 'c', "it calls itself 'c', not 'b'"},
        {offsetof(struct wire_hello, abi_version), ABI_VERSION + 1, "another layout"},
        {offsetof(struct wire_hello, session_size), 8, "another layout"},
        {offsetof(struct wire_hello, workers), 0, "it has 0 workers"},
        {offsetof(struct wire_hello, group) + offsetof(struct wire_group, term) + 4, 0x00ff00ff,
         "makes no sense"},
    };
    char why[200];
    union wire_frame f = hello_frame();
    assert_int_equal(wire_check_hello(&f.hello, "b", why, sizeof(why)), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        f = hello_frame();
        memcpy(f.bytes + cases[i].at, &cases[i].value, 4);
        assert_int_equal(wire_check_hello(&f.hello, "b", why, sizeof(why)), -EPROTO);
        if (strstr(why, cases[i].why) == NULL)
            fail_msg("'%s' instead of '%s'", why, cases[i].why);
    }
    // A HELLO of another version may be shorter or longer than ours.
    f = hello_frame();
    f.hello.version = 9;
    f.head.length = offsetof(struct wire_hello, abi_version);
    assert_int_equal(wire_check(&f.head), 0);
    assert_int_equal(wire_check_hello(&f.hello, "b", why, sizeof(why)), -EPROTO);
    f.head.length--;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
}

static void test_datagrams(void **state)
{
    union wire_frame f = {.dtls = {.head = {.type = WIRE_DTLS}, .token = {TOKEN}, .size = 3}};
    f.head.length = offsetof(struct wire_dtls, data) + 3;
    assert_int_equal(wire_check(&f.head), 0);
    f.dtls.size = 4;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f.dtls.size = 0;
    f.head.length = offsetof(struct wire_dtls, data);
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f.head.length = sizeof(f.dtls) + 1;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
}

static void test_refusals(void **state)
{
    union wire_frame f = {
        .refused = {.head = {.type = WIRE_REFUSED, .length = sizeof(f.refused)}, .token = {TOKEN}}};
    for (unsigned why = 0; why < 256; why++) {
        f.refused.why = (uint8_t)why;
        bool good = why > WIRE_REFUSAL_NONE && why < WIRE_REFUSAL_COUNT;
        assert_int_equal(wire_check(&f.head), good ? 0 : -EBADMSG);
        assert_int_equal(wire_refusal_text((uint8_t)why) != NULL, good);
    }
    f.refused.why = WIRE_REFUSAL_ROOM;
    f.refused.token.text[3] = ' ';
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    assert_false(wire_counted(WIRE_REFUSED));
}

static void test_requests_passed_on(void **state)
{
    size_t head = offsetof(struct wire_patch, text);
    union wire_frame f = {.patch = {.head = {.type = WIRE_PATCH}, .token = {TOKEN}, .size = 3}};
    f.head.length = (uint32_t)head + 3;
    assert_int_equal(wire_check(&f.head), 0);
    f.patch.size = 2;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f.patch.size = WIRE_TEXT_MAX + 1;
    f.head.length = (uint32_t)head + f.patch.size;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f.patch.size = 3;
    f.head.length = (uint32_t)head + 3;
    memset(f.patch.if_match, 'x', sizeof(f.patch.if_match)); // no end
    assert_int_equal(wire_check(&f.head), -EBADMSG);

    head = offsetof(struct wire_patched, text);
    f = (union wire_frame){.patched = {.head = {.type = WIRE_PATCHED}, .status = 428}};
    f.head.length = (uint32_t)head; // no body
    assert_int_equal(wire_check(&f.head), 0);
    f.patched.size = WIRE_TEXT_MAX;
    f.head.length = (uint32_t)head + WIRE_TEXT_MAX;
    assert_int_equal(wire_check(&f.head), 0);
    f.patched.status = 600;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    f.patched.status = 200;
    strcpy(f.patched.etag, "\"a\r\nX: y\"");
    assert_int_equal(wire_check(&f.head), -EBADMSG);
    strcpy(f.patched.etag, "\"a\"");
    f.head.length++;
    assert_int_equal(wire_check(&f.head), -EBADMSG);
}

static void test_rights(void **state)
{
    const union wire_frame good = {
        .right = {.head = {.type = WIRE_RIGHT, .length = sizeof(good.right)},
                  .token = {TOKEN},
                  .right = {.head = {.type = MSG_RIGHT_PASS,
                                     .length = sizeof(struct msg_right),
                                     .id = 1ull << 32},
                            .asked = 1}}};
    assert_int_equal(wire_check(&good.head), 0);
    for (int i = 0; i < 6; i++) {
        union wire_frame f = good;
        struct wire_right *m = &f.right;
        void *const holes[] = {m->token.text,         &m->right.head.type,
                               &m->right.head.length, &m->right.asked,
                               &m->right.numbered,    (uint8_t *)&m->right.first[3] + 7};
        *(uint8_t *)holes[i] = 0xfe;
        if (wire_check(&f.head) != -EBADMSG)
            fail_msg("change %d was taken", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_frames),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_bad_sessions),
        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_hello_says_who_is_wrong),
        cmocka_unit_test(test_datagrams),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_requests_passed_on),
        cmocka_unit_test(test_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
