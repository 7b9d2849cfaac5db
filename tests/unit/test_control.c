// The control plane's messages at a worker, against a naive model of its slots: what is opened,
// keyed and closed, what is refused and how it is said.
#include "../../dataplane/failover.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define SLOTS 8

static struct world world;

static struct worker *worker(void)
{
    return &world.workers[0];
}

static int setup(void **state)
{
    srandom(4);
    return world_start(&world, &(struct abi_config){.workers = 1,
                                                    .max_sessions = SLOTS,
                                                    .max_streams = 2,
                                                    .rx_mbufs = 511,
                                                    .tx_mbufs = 511,
                                                    .cache_mbufs = 511});
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

static struct msg_session_open opening(uint64_t id, enum session_role role)
{
    struct msg_session_open open = {
        .head = {.type = MSG_SESSION_OPEN, .length = sizeof(open), .id = id},
        .stream = STREAM_ID,
        .role = (uint8_t)role,
        .tracks = 2,
        .track = {world_video(100 + (uint32_t)id, 200 + (uint32_t)id),
                  world_audio(300 + (uint32_t)id)},
        .ice = {.remote_ufrag_len = 4, .remote_pwd_len = 22}};
    char ufrag[MSG_UFRAG_LEN + 1];
    open.track[1].source = role == ROLE_PLAY;
    snprintf(ufrag, sizeof(ufrag), "%08x", (unsigned)(id ^ id >> 20));
    memcpy(open.ice.ufrag, ufrag, MSG_UFRAG_LEN);
    memset(open.ice.pwd, 'p', MSG_PWD_LEN);
    memcpy(open.ice.remote_ufrag, "abcd", 4);
    memset(open.ice.remote_pwd, 'q', 22);
    return open;
}

static struct msg_session_keys keys_of(uint64_t id, uint8_t fill)
{
    struct msg_session_keys keys = {
        .head = {.type = MSG_SESSION_KEYS, .length = sizeof(keys), .id = id},
        .profile = PROFILE_AEAD_AES_128_GCM};
    memset(keys.local, fill, sizeof(keys.local));
    memset(keys.remote, fill + 1, sizeof(keys.remote));
    return keys;
}

static void tell_close(uint64_t id)
{
    struct msg_session_close close = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(close), .id = id}};
    world_tell(&world, 0, &close);
}

// What the worker says next. False: nothing.
static bool heard(struct msg_session_dead *message)
{
    uint64_t invalid = 0;
    const struct msg_head *head = channel_peek(&world.control, 1, &invalid);
    assert_int_equal(invalid, 0);
    if (!head)
        return false;
    assert_int_equal(msg_check(head), 0);
    memcpy(message, head, head->length < sizeof(*message) ? head->length : sizeof(*message));
    channel_release(&world.control, 1);
    return true;
}

static void expect_silence(void)
{
    struct msg_session_dead message;
    assert_false(heard(&message));
}

// Type 0: nothing.
static void expect_said(enum msg_type type, uint64_t id, uint32_t reason)
{
    struct msg_session_dead message;
    world_turn(&world);
    if (type) {
        assert_true(heard(&message));
        assert_int_equal(message.head.type, type);
        assert_true(message.head.id == id);
        if (type == MSG_SESSION_DEAD)
            assert_int_equal(message.reason, reason);
    }
    expect_silence();
}

// ---- sessions, against a model

static struct {
    uint64_t id; // 0: free
    bool keyed;
} model[SLOTS];

static void expect_model(void)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const struct session *session = &worker()->tables.sessions[slot];
        count += model[slot].id != 0;
        assert_int_equal(session->id, model[slot].id);
        assert_int_equal(session->state, !model[slot].id     ? SESSION_FREE
                                         : model[slot].keyed ? SESSION_KEYED
                                                             : SESSION_OPEN);
        if (model[slot].id)
            assert_ptr_equal(tables_session(&worker()->tables, model[slot].id), session);
    }
    assert_int_equal(worker()->tables.session_count, count);
}

// `again`: it had keys. If it is not there any more, its numbers are lost.
static void open_step(uint64_t id, bool again)
{
    uint32_t slot = MSG_SLOT(id);
    struct msg_session_open open = opening(id, ROLE_PLAY);
    open.again = again;
    world_tell(&world, 0, &open);
    bool there = slot < SLOTS && model[slot].id == id;
    bool refused = slot >= SLOTS || (model[slot].id && !there) || (again && !there);
    expect_said(refused ? MSG_SESSION_DEAD : 0, id,
                again ? DEAD_REFUSED_INVALID : DEAD_REFUSED_SLOT);
    if (!refused)
        model[slot].id = id;
}

static void keys_step(uint64_t id)
{
    uint32_t slot = MSG_SLOT(id);
    struct msg_session_keys keys = keys_of(id, 7);
    world_tell(&world, 0, &keys);
    expect_said(0, id, 0);
    if (slot < SLOTS && model[slot].id == id)
        model[slot].keyed = true;
}

static void close_step(uint64_t id)
{
    uint32_t slot = MSG_SLOT(id);
    tell_close(id);
    expect_said(MSG_SESSION_CLOSED, id, 0); // whether there is one or not
    if (slot >= SLOTS || model[slot].id != id)
        return;
    model[slot].id = 0;
    model[slot].keyed = false;
    // No key stays behind.
    static const uint8_t zero[sizeof(struct session) + sizeof(struct sender)];
    struct session *session = &worker()->tables.sessions[slot];
    assert_memory_equal(session, zero, sizeof(*session));
    assert_memory_equal(tables_sender(&worker()->tables, session), zero, sizeof(struct sender));
    assert_int_equal(channel_session_stats(&world.dataplane, 0, slot)->id, 0);
}

static void test_sessions_follow_the_model(void **state)
{
    for (int step = 0; step < 5000; step++) {
        uint64_t id = (uint64_t)(1 + random() % 3) << 32 | (uint32_t)(random() % (SLOTS + 1));
        switch (random() % 5) {
        case 0:
        case 1:
            open_step(id, random() % 4 == 0);
            break;
        case 2:
        case 3:
            keys_step(id);
            break;
        default:
            close_step(id);
        }
        expect_model();
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (model[slot].id)
            close_step(model[slot].id);
    expect_model();
}

// ---- single messages

static void test_a_publisher_needs_its_stream(void **state)
{
    uint64_t id = (UINT64_C(1) << 32) | 1;
    struct msg_session_open open = opening(id, ROLE_PUBLISH);
    struct msg_session_keys keys = keys_of(id, 1);
    world_tell(&world, 0, &open);
    world_tell(&world, 0, &keys);
    expect_said(MSG_SESSION_DEAD, id, DEAD_REFUSED_INVALID);
    world_open_stream(&world, STREAM_ID, 0, 0);
    world_turn(&world);
    assert_null(tables_stream(&worker()->tables, STREAM_ID)); // slot 3 of 2
    assert_int_equal(worker()->stats->drop[DROP_message_invalid], 1);
    tell_close(id);
    expect_said(MSG_SESSION_CLOSED, id, 0);
}

static void test_streams_open_and_close(void **state)
{
    uint64_t id = (UINT64_C(5) << 32) | 1, later = (UINT64_C(6) << 32) | 1;
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = id}};
    struct msg_stream_forward forward = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(forward), .id = later}, .workers = 6};
    world_open_stream(&world, id, 0, 0);
    world_tell(&world, 0, &forward);
    world_turn(&world);
    const struct stream *stream = tables_stream(&worker()->tables, id);
    assert_non_null(stream);
    assert_int_equal(stream->forward, 0);
    assert_null(tables_stream(&worker()->tables, later));
    assert_int_equal(worker()->tables.stream_count, 1);
    forward.head.id = id;
    world_tell(&world, 0, &forward);
    world_turn(&world);
    assert_int_equal(stream->forward, 6);
    close.head.id = later;
    world_tell(&world, 0, &close);
    world_turn(&world);
    assert_int_equal(worker()->tables.stream_count, 1);
    close.head.id = id;
    world_tell(&world, 0, &close);
    world_tell(&world, 0, &close);
    world_turn(&world);
    assert_int_equal(worker()->tables.stream_count, 0);
    expect_silence();
}

// What closed the one before was lost with an earlier process.
static void test_a_stream_takes_its_slot(void **state)
{
    uint64_t id = (UINT64_C(7) << 32) | 1, later = (UINT64_C(8) << 32) | 1;
    uint64_t viewer = (UINT64_C(1) << 32) | 2;
    struct msg_session_open open = opening(viewer, ROLE_PLAY);
    open.stream = id;
    world_open_stream(&world, id, 0, 0);
    world_tell(&world, 0, &open);
    world_turn(&world);
    const struct tables *tables = &worker()->tables;
    const struct session *session = tables_session(tables, viewer);
    assert_non_null(tables_sub(tables, session, 0));
    uint64_t invalid = worker()->stats->drop[DROP_message_invalid];
    world_open_stream(&world, later, 0, 0);
    world_turn(&world);
    assert_null(tables_stream(tables, id));
    assert_non_null(tables_stream(tables, later));
    assert_int_equal(tables->stream_count, 1);
    assert_null(tables_sub(tables, session, 0));
    assert_int_equal(worker()->stats->drop[DROP_message_invalid], invalid);
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = later}};
    world_tell(&world, 0, &close);
    tell_close(viewer);
    expect_said(MSG_SESSION_CLOSED, viewer, 0);
}

static void test_new_credentials_replace_the_old(void **state)
{
    struct client client = {0};
    world_join(&world, &client, ROLE_PLAY, STREAM_ID, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    struct msg_session_ice ice = {
        .head = {.type = MSG_SESSION_ICE, .length = sizeof(ice), .id = client.id},
        .ice = opening(client.id, ROLE_PLAY).ice};
    world_tell(&world, 0, &ice);
    world_turn(&world);
    world.out_count = 0;
    uint64_t unknown = worker()->stats->drop[DROP_stun_unknown_user];
    world_check(&world, &client, &client.addr, true, &client.key);
    assert_int_equal(worker()->stats->drop[DROP_stun_unknown_user], unknown + 1);
    memcpy(client.ufrag, ice.ice.ufrag, MSG_UFRAG_LEN);
    stun_key_init(&client.key, ice.ice.pwd, MSG_PWD_LEN);
    world_check(&world, &client, &client.addr, true, &client.key);
    assert_int_equal(world.out_count, 1);
    assert_int_equal(world.out[0].parsed.class, CLASS_STUN);
    // For a session that is not there: nothing happens.
    ice.head.id += UINT64_C(1) << 32;
    world_tell(&world, 0, &ice);
    world_turn(&world);
    assert_true(world_leave(&world, &client));
}

// A session that is there already and is said again may be in another group by now.
static void test_a_session_changes_its_group(void **state)
{
    uint64_t id = (UINT64_C(9) << 32) | 4;
    struct msg_session_open open = opening(id, ROLE_PLAY);
    world_tell(&world, 0, &open);
    world_turn(&world);
    const struct session *session = tables_session(&worker()->tables, id);
    const struct sender *sender = tables_sender(&worker()->tables, session);
    assert_int_equal(sender->group, 0);
    assert_true(failover_active(worker(), sender->group));
    uint64_t delta = sender->sub[0].delta;
    open.group = 2;
    world_tell(&world, 0, &open);
    world_turn(&world);
    assert_int_equal(sender->group, 2);
    assert_false(failover_active(worker(), sender->group)); // the partner's to serve
    assert_true(sender->sub[0].delta == delta);
    assert_int_equal(worker()->tables.session_count, 1);
    expect_silence();
    tell_close(id);
    expect_said(MSG_SESSION_CLOSED, id, 0);
}

static void test_dtls_needs_a_path(void **state)
{
    uint64_t id = (UINT64_C(1) << 32) | 1;
    struct msg_session_open open = opening(id, ROLE_PLAY);
    struct msg_dtls dtls = {.head = {.type = MSG_DTLS_SEND, .id = id}, .size = 20};
    dtls.head.length = offsetof(struct msg_dtls, data) + 20;
    world_tell(&world, 0, &open);
    world.out_count = 0;
    uint64_t down = worker()->stats->count[COUNT_dtls_down];
    world_tell(&world, 0, &dtls);
    dtls.head.id++; // nobody
    world_tell(&world, 0, &dtls);
    world_turn(&world);
    assert_int_equal(world.out_count, 0);
    assert_int_equal(worker()->stats->count[COUNT_dtls_down], down);
    tell_close(id);
    expect_said(MSG_SESSION_CLOSED, id, 0);
}

static void test_a_flood_of_messages_leaves_time_for_packets(void **state)
{
    struct msg_session_close nobody = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(nobody), .id = 7}};
    for (unsigned i = 0; i < 70; i++)
        world_tell(&world, 0, &nobody);
    uint64_t before = worker()->stats->count[COUNT_messages];
    static const uint64_t after[] = {32, 64, 70, 70};
    for (unsigned i = 0; i < RTE_DIM(after); i++) {
        worker_turn(worker());
        assert_int_equal(worker()->stats->count[COUNT_messages] - before, after[i]);
    }
    struct msg_session_dead message;
    for (unsigned i = 0; i < 70; i++)
        assert_true(heard(&message));
    expect_silence();
}

static void test_what_is_no_message_is_dropped_by_name(void **state)
{
    struct msg_session_open broken = opening((UINT64_C(1) << 32) | 1, ROLE_PLAY);
    struct msg_session_media upward = {
        .head = {.type = MSG_SESSION_MEDIA, .length = sizeof(upward), .id = 1}};
    uint64_t before = worker()->stats->drop[DROP_message_invalid];
    broken.role = 9;
    assert_int_equal(channel_send(&world.control, 1, &broken), 0);
    assert_int_equal(channel_send(&world.control, 1, &upward), 0); // ours to say
    world_turn(&world);
    assert_int_equal(worker()->stats->drop[DROP_message_invalid], before + 2);
    assert_int_equal(worker()->tables.session_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_follow_the_model),
        cmocka_unit_test(test_a_publisher_needs_its_stream),
        cmocka_unit_test(test_streams_open_and_close),
        cmocka_unit_test(test_a_stream_takes_its_slot),
        cmocka_unit_test(test_new_credentials_replace_the_old),
        cmocka_unit_test(test_a_session_changes_its_group),
        cmocka_unit_test(test_dtls_needs_a_path),
        cmocka_unit_test(test_a_flood_of_messages_leaves_time_for_packets),
        cmocka_unit_test(test_what_is_no_message_is_dropped_by_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
