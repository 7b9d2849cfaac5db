// The responder to connectivity checks in a whole worker: who is answered what, which address media
// goes to, and what keeps a session alive. RFC 8445 7.3, RFC 7675. Under a virtual clock.
#include "../../dataplane/eal.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct world world;
static struct client client;

static struct abi_addr from(uint8_t last)
{
    return (struct abi_addr){.ip = {10, 9, 7, last}, .port = 50000, .family = 4};
}

static uint64_t drops(enum drop what)
{
    return world.workers[0].stats->drop[what];
}

static struct session *session(void)
{
    return tables_session(&world.workers[0].tables, client.id);
}

// Where media goes; family 0: nowhere.
static struct abi_addr destination(void)
{
    struct abi_addr none = {0};
    return tables_sender(&world.workers[0].tables, session())->frame.length
               ? session()->paths[session()->path].remote
               : none;
}

static void assert_goes_to(const struct abi_addr *address)
{
    struct abi_addr to = destination();
    assert_memory_equal(&to, address, sizeof(to));
}

// Sends a check with any properties; reads the one answer to it. False: none.
static bool check(const struct abi_addr *source, const struct stun_check *properties,
                  const struct stun_key *key, struct stun_msg *answer)
{
    char username[32];
    uint8_t buffer[256];
    struct stun_check request = *properties;
    snprintf(username, sizeof(username), "%s:abcd", client.ufrag);
    request.username = username;
    request.username_length = strlen(username);
    request.priority = 1;
    memcpy(request.id, "transaction!", STUN_ID_LEN);
    size_t size = stun_write_request(buffer, sizeof(buffer), &request, key);
    world.out_count = 0;
    world_inject(&world, 0, source, world.config.media4.port, buffer, size);
    world_turn(&world);
    if (world.out_count == 0)
        return false;
    const struct world_frame *frame = &world.out[0];
    assert_int_equal(world.out_count, 1);
    assert_memory_equal(&frame->parsed.dst, source, sizeof(*source));
    assert_int_equal(stun_parse(frame->bytes + frame->parsed.payload, frame->parsed.length, answer),
                     0);
    assert_memory_equal(answer->id, "transaction!", STUN_ID_LEN);
    assert_true(stun_check_fingerprint(answer));
    assert_true(stun_check_integrity(answer, key));
    return true;
}

static const struct stun_check plain = {.role = STUN_ROLE_CONTROLLING};
static const struct stun_check nominating = {.role = STUN_ROLE_CONTROLLING, .use_candidate = true};

static int begin(void **state)
{
    client.group = 0;
    world_connect(&world, &client, ROLE_PLAY, STREAM_ID, 0, 3, true);
    return 0;
}

static int finish(void **state)
{
    return world_leave(&world, &client) ? 0 : -1;
}

static void test_answers(void **state)
{
    struct stun_msg answer;
    struct abi_addr there = from(1);
    assert_true(check(&there, &plain, &client.key, &answer));
    assert_int_equal(answer.type, STUN_BINDING_SUCCESS);
    assert_memory_equal(&answer.mapped, &there, sizeof(there));
    // FFmpeg says nothing of its role.
    assert_true(check(&there, &(struct stun_check){0}, &client.key, &answer));
    assert_int_equal(answer.type, STUN_BINDING_SUCCESS);
}

// We are ICE-lite, hence controlled: who says so of itself is told, and has proven nothing.
static void test_role_conflict(void **state)
{
    struct stun_msg answer;
    struct abi_addr there = from(2);
    struct stun_check controlled = {.role = STUN_ROLE_CONTROLLED, .use_candidate = true};
    assert_true(check(&there, &controlled, &client.key, &answer));
    assert_int_equal(answer.type, STUN_BINDING_ERROR);
    assert_int_equal(answer.error, STUN_ROLE_CONFLICT);
    assert_goes_to(&client.addr);
    assert_null(tables_by_remote(&world.workers[0].tables, &there));
}

static void test_silence_for_strangers(void **state)
{
    struct stun_msg answer;
    struct stun_key wrong;
    struct abi_addr there = from(3);
    uint64_t heard = session()->heard_ns;
    world_pass(&world, 5);
    stun_key_init(&wrong, "not the password", 16);
    uint64_t before = drops(DROP_stun_bad_integrity);
    assert_false(check(&there, &nominating, &wrong, &answer));
    assert_int_equal(drops(DROP_stun_bad_integrity), before + 1);
    char kept = client.ufrag[0];
    client.ufrag[0] = 'X';
    before = drops(DROP_stun_unknown_user);
    assert_false(check(&there, &nominating, &client.key, &answer));
    assert_int_equal(drops(DROP_stun_unknown_user), before + 1);
    client.ufrag[0] = kept;
    before = drops(DROP_stun_malformed);
    static const uint8_t broken[28] = {0, 1, 0, 9, 0x21, 0x12, 0xa4, 0x42};
    world_inject(&world, 0, &there, world.config.media4.port, broken, sizeof(broken));
    world_turn(&world);
    assert_int_equal(drops(DROP_stun_malformed), before + 1);
    // An indication asks for nothing (RFC 8489 6.3.2).
    before = drops(DROP_stun_ignored);
    static const uint8_t indication[20] = {0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42};
    world_inject(&world, 0, &there, world.config.media4.port, indication, sizeof(indication));
    world_turn(&world);
    assert_int_equal(drops(DROP_stun_ignored), before + 1);
    assert_int_equal(world.out_count, 0);
    assert_true(session()->heard_ns == heard);
    assert_goes_to(&client.addr);
}

// Media follows nomination (RFC 8445 7.3.1.5), and nothing else.
static void test_only_nomination_moves_media(void **state)
{
    struct stun_msg answer;
    struct msg_session_path told;
    struct abi_addr other = from(4);
    while (world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0))
        ;
    assert_true(check(&other, &plain, &client.key, &answer));
    assert_goes_to(&client.addr);
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0));
    uint8_t media[40] = {0x80, 96};
    struct abi_addr stranger = from(5);
    world_inject(&world, 0, &stranger, world.config.media4.port, media, sizeof(media));
    world_turn(&world);
    assert_goes_to(&client.addr);
    assert_true(check(&other, &nominating, &client.key, &answer));
    assert_goes_to(&other);
    assert_true(world_heard(&world, 0, MSG_SESSION_PATH, &told, sizeof(told)));
    assert_memory_equal(&told.remote, &other, sizeof(other));
    // Said again it is no news.
    assert_true(check(&other, &nominating, &client.key, &answer));
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0));
}

// Of more addresses than there is room for the one that was silent for longest is forgotten, never
// the one in use.
static void test_addresses_are_bounded(void **state)
{
    struct stun_msg answer;
    const struct tables *tables = &world.workers[0].tables;
    for (unsigned i = 10; i < 10 + 2 * SESSION_PATHS; i++) {
        world_pass(&world, 5);
        struct abi_addr there = from((uint8_t)i);
        assert_true(check(&there, &plain, &client.key, &answer));
        assert_ptr_equal(tables_by_remote(tables, &there), session());
        assert_ptr_equal(tables_by_remote(tables, &client.addr), session());
    }
    for (unsigned i = 10; i < 10 + 2 * SESSION_PATHS; i++) {
        struct abi_addr there = from((uint8_t)i);
        bool recent = i >= 10 + SESSION_PATHS + 1;
        assert_int_equal(tables_by_remote(tables, &there) != NULL, recent);
    }
    assert_goes_to(&client.addr);
}

// New credentials: the old ones open nothing any more, media goes on until a check moves it.
static void test_restart(void **state)
{
    struct stun_msg answer;
    struct abi_addr there = from(6);
    struct client old = client;
    struct msg_session_ice ice = {
        .head = {.type = MSG_SESSION_ICE, .length = sizeof(ice), .id = client.id},
        .ice = {.remote_ufrag_len = 4, .remote_pwd_len = 22}};
    memcpy(ice.ice.remote_ufrag, "abcd", 4);
    memcpy(ice.ice.remote_pwd, "0123456789012345678901", 22);
    memcpy(ice.ice.ufrag, "newufrag", MSG_UFRAG_LEN);
    memcpy(ice.ice.pwd, "anewpassword0123456789ab", MSG_PWD_LEN);
    world_tell(&world, 0, &ice);
    world_turn(&world);
    uint64_t before = drops(DROP_stun_unknown_user);
    assert_false(check(&there, &nominating, &old.key, &answer));
    assert_int_equal(drops(DROP_stun_unknown_user), before + 1);
    assert_goes_to(&client.addr);
    memcpy(client.ufrag, "newufrag", MSG_UFRAG_LEN);
    before = drops(DROP_stun_bad_integrity);
    assert_false(check(&there, &nominating, &old.key, &answer));
    assert_int_equal(drops(DROP_stun_bad_integrity), before + 1);
    stun_key_init(&client.key, ice.ice.pwd, MSG_PWD_LEN);
    assert_true(check(&there, &nominating, &client.key, &answer));
    assert_goes_to(&there);
}

// Consent is given by checks (RFC 7675 5.1): without any the session ends after its time, told
// once.
static void test_consent(void **state)
{
    struct stun_msg answer;
    struct msg_session_dead dead;
    uint64_t limit_ms = world.config.session_timeout_ms;
    for (int i = 0; i < 3; i++) {
        for (uint64_t ms = 0; ms < limit_ms - 2000; ms += 20) {
            world.now_ns += 20 * MS;
            world_turn(&world);
        }
        assert_true(check(&client.addr, &plain, &client.key, &answer));
        assert_false(world_heard(&world, 0, MSG_SESSION_DEAD, NULL, 0));
    }
    uint64_t since = world.now_ns;
    while (!world_heard(&world, 0, MSG_SESSION_DEAD, &dead, sizeof(dead))) {
        world.now_ns += 20 * MS;
        world_turn(&world);
        assert_true(world.now_ns - since < (limit_ms + 1500) * MS);
    }
    assert_true(world.now_ns - since >= limit_ms * MS);
    assert_int_equal(dead.reason, DEAD_TIMEOUT);
    world_pass(&world, 2500);
    assert_false(world_heard(&world, 0, MSG_SESSION_DEAD, NULL, 0));
}

static int setup(void **state)
{
    srandom(1);
    if (world_start(&world, &(struct abi_config){.workers = 1,
                                                 .max_sessions = 16,
                                                 .rx_mbufs = 1024,
                                                 .tx_mbufs = 1024,
                                                 .cache_mbufs = 1024}))
        return -1;
    world_open_stream(&world, STREAM_ID, 0, 0);
    return 0;
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, begin, finish),
        cmocka_unit_test_setup_teardown(test_role_conflict, begin, finish),
        cmocka_unit_test_setup_teardown(test_silence_for_strangers, begin, finish),
        cmocka_unit_test_setup_teardown(test_only_nomination_moves_media, begin, finish),
        cmocka_unit_test_setup_teardown(test_addresses_are_bounded, begin, finish),
        cmocka_unit_test_setup_teardown(test_restart, begin, finish),
        cmocka_unit_test_setup_teardown(test_consent, begin, finish),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
