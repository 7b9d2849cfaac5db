// Connectivity checks in a whole worker: who is answered what, which addresses are asked, which one
// media goes to, and what keeps a session alive. RFC 8445 7.3, RFC 7675. Under a virtual clock.
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

// Sends a check with any properties; reads the answer to it, which comes first. False: none.
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
    assert_memory_equal(&frame->parsed.dst, source, sizeof(*source));
    assert_int_equal(stun_parse(frame->bytes + frame->parsed.payload, frame->parsed.length, answer),
                     0);
    assert_memory_equal(answer->id, "transaction!", STUN_ID_LEN);
    assert_true(stun_check_fingerprint(answer));
    assert_true(stun_check_integrity(answer, key));
    return true;
}

// What `to` was asked since the last check, or NULL.
static const uint8_t *asked(const struct abi_addr *to)
{
    static struct stun_msg request;
    struct abi_addr at;
    return world_asked(&world, &client, &request, &at) && memcmp(&at, to, sizeof(at)) == 0
               ? request.id
               : NULL;
}

static void answer_from(const struct abi_addr *from, const uint8_t *id)
{
    uint8_t copy[STUN_ID_LEN];
    memcpy(copy, id, sizeof(copy));
    world_answer(&world, &client, from, copy, WORLD_PWD);
}

static const struct stun_check plain = {.role = STUN_ROLE_CONTROLLING};
static const struct stun_check nominating = {.role = STUN_ROLE_CONTROLLING, .use_candidate = true};

static int begin(void **state)
{
    client.group = 0;
    world_connect(&world, &client, ROLE_PLAY, STREAM_ID, 0, 3, true);
    return 0;
}

static int begin_keyed(void **state)
{
    client.group = 0;
    world_join(&world, &client, ROLE_PLAY, STREAM_ID, 0, 3, PROFILE_AEAD_AES_128_GCM, true);
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
    assert_non_null(asked(&other));
    answer_from(&other, asked(&other));
    assert_goes_to(&other);
    assert_true(world_heard(&world, 0, MSG_SESSION_PATH, &told, sizeof(told)));
    assert_memory_equal(&told.remote, &other, sizeof(other));
    // Said again it is no news, and needs no proof.
    world_pass(&world, 200);
    assert_true(check(&other, &nominating, &client.key, &answer));
    assert_null(asked(&other));
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0));
    // Back and forth between two that have answered needs none, either, for as long as consent
    // lasts (RFC 7675 5.1).
    assert_true(check(&client.addr, &nominating, &client.key, &answer));
    assert_goes_to(&client.addr);
    world_pass(&world, 200);
    assert_true(check(&other, &nominating, &client.key, &answer));
    assert_null(asked(&other));
    assert_goes_to(&other);
    assert_true(check(&client.addr, &nominating, &client.key, &answer));
    world_pass(&world, 31000);
    assert_true(check(&other, &nominating, &client.key, &answer));
    assert_goes_to(&client.addr);
    assert_non_null(asked(&other));
}

// ---- addresses that somebody else may have

// Nothing but an answer from there, to what was asked, under the client's password, is one.
static void test_only_the_right_answer_counts(void **state)
{
    struct stun_msg answer;
    struct abi_addr there = from(20), other = from(21);
    uint8_t id[STUN_ID_LEN], wrong[STUN_ID_LEN];
    assert_true(check(&there, &nominating, &client.key, &answer));
    assert_non_null(asked(&there));
    memcpy(id, asked(&there), sizeof(id));
    for (unsigned byte = 0; byte < sizeof(id); byte++) {
        memcpy(wrong, id, sizeof(id));
        wrong[byte] ^= 0x40;
        uint64_t before = drops(DROP_stun_ignored);
        answer_from(&there, wrong);
        assert_int_equal(drops(DROP_stun_ignored), before + 1);
    }
    uint64_t before = drops(DROP_stun_ignored);
    answer_from(&other, id);
    assert_int_equal(drops(DROP_stun_ignored), before + 1);
    before = drops(DROP_stun_bad_integrity);
    world_answer(&world, &client, &there, id, "not the password");
    assert_int_equal(drops(DROP_stun_bad_integrity), before + 1);
    assert_goes_to(&client.addr);
    answer_from(&there, id);
    assert_goes_to(&there);
    before = drops(DROP_stun_ignored);
    answer_from(&there, id); // once
    assert_int_equal(drops(DROP_stun_ignored), before + 1);
}

// What is lost is asked for again with the client's next check, as the same transaction; later it
// is another one.
static void test_asks_again(void **state)
{
    struct stun_msg answer;
    struct abi_addr there = from(22);
    uint8_t id[STUN_ID_LEN];
    assert_true(check(&there, &nominating, &client.key, &answer));
    assert_non_null(asked(&there));
    memcpy(id, asked(&there), sizeof(id));
    world_pass(&world, 20);
    assert_true(check(&there, &nominating, &client.key, &answer));
    assert_null(asked(&there)); // too soon
    world_pass(&world, 100);
    assert_true(check(&there, &nominating, &client.key, &answer));
    assert_memory_equal(asked(&there), id, sizeof(id));
    world_pass(&world, 2000);
    assert_true(check(&there, &nominating, &client.key, &answer));
    assert_memory_not_equal(asked(&there), id, sizeof(id));
    answer_from(&there, asked(&there));
    assert_goes_to(&there);
    // One that goes back to what it had is not moved by a late answer.
    there = from(23);
    world_pass(&world, 200);
    assert_true(check(&there, &nominating, &client.key, &answer));
    memcpy(id, asked(&there), sizeof(id));
    struct abi_addr here = destination();
    assert_true(check(&here, &nominating, &client.key, &answer));
    answer_from(&there, id);
    assert_goes_to(&here);
}

static void publish(struct client *publisher, uint64_t index)
{
    world_publish(&world, publisher, 0, index, index % 10 == 0, 1000);
    world_turn(&world);
}

// Frames that went to an address, of a class; and all their bytes.
static unsigned sent_to(const struct abi_addr *address, enum parse_class class, uint64_t *bytes)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world.out_count; i++) {
        if (memcmp(&world.out[i].parsed.dst, address, sizeof(*address)) != 0)
            continue;
        count += world.out[i].parsed.class == class;
        *bytes += world.out[i].parsed.length;
    }
    return count;
}

// A client that has a session and writes a victim's address into its checks: the victim gets less
// than twice what the client sent, and no media; the client gets its media where it had its DTLS.
static void test_a_victim_gets_no_media(void **state)
{
    struct client publisher = {0};
    struct stun_msg answer;
    struct abi_addr victim = from(30);
    uint64_t to_victim = 0, ignored = 0;
    unsigned media = 0, checks = 0;
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 4, PROFILE_AEAD_AES_128_GCM, true);
    for (uint64_t i = 0; i < 500; i++) {
        world_pass(&world, 20);
        world.out_count = 0;
        publish(&publisher, 100 + i);
        media += sent_to(&client.addr, CLASS_RTP, &ignored);
        assert_int_equal(sent_to(&victim, CLASS_RTP, &to_victim), 0);
        assert_int_equal(sent_to(&victim, CLASS_RTCP, &to_victim), 0);
        if (i % 3)
            continue;
        assert_true(check(&victim, &nominating, &client.key, &answer));
        checks++;
        sent_to(&victim, CLASS_STUN, &to_victim);
    }
    assert_true(media > 450);
    assert_goes_to(&client.addr);
    assert_true(to_victim < 2 * checks * UINT64_C(88)); // bytes of one check
    assert_true(world_leave(&world, &publisher));
}

// Nor does a written address take from another client what comes from there.
static void test_an_address_is_not_taken_from_another(void **state)
{
    struct client victim = {0};
    struct stun_msg answer;
    const struct tables *tables = &world.workers[0].tables;
    world_join(&world, &victim, ROLE_PLAY, STREAM_ID, 0, 5, PROFILE_AEAD_AES_128_GCM, true);
    struct session *other = tables_by_remote(tables, &victim.addr);
    assert_non_null(other);
    assert_true(check(&victim.addr, &nominating, &client.key, &answer));
    assert_ptr_equal(tables_by_remote(tables, &victim.addr), other);
    assert_goes_to(&client.addr);
    // Who can answer there has the address now (a client that began anew with the same port).
    assert_non_null(asked(&victim.addr));
    answer_from(&victim.addr, asked(&victim.addr));
    assert_ptr_equal(tables_by_remote(tables, &victim.addr), session());
    assert_goes_to(&victim.addr);
    assert_true(world_leave(&world, &victim));
    assert_ptr_equal(tables_by_remote(tables, &victim.addr), session());
}

// So has one that cannot, once the other has been silent for a while.
static void test_an_address_of_a_silent_session_is_free(void **state)
{
    struct client gone = {0};
    struct stun_msg answer;
    const struct tables *tables = &world.workers[0].tables;
    world_join(&world, &gone, ROLE_PLAY, STREAM_ID, 0, 6, PROFILE_AEAD_AES_128_GCM, true);
    world_pass(&world, 9000);
    assert_true(check(&gone.addr, &plain, &client.key, &answer));
    assert_ptr_not_equal(tables_by_remote(tables, &gone.addr), session());
    world_pass(&world, 1001);
    assert_true(check(&gone.addr, &plain, &client.key, &answer));
    assert_ptr_equal(tables_by_remote(tables, &gone.addr), session());
    assert_true(world_leave(&world, &gone));
    assert_ptr_equal(tables_by_remote(tables, &gone.addr), session());
}

static void fill_channel(void)
{
    struct msg_session_closed filler = {
        .head = {.type = MSG_SESSION_CLOSED, .length = sizeof(filler), .id = 1}};
    while (channel_send(&world.dataplane, 1, &filler) == 0)
        ;
}

// Where a client went while the channel was full is told when there is room.
static void test_a_full_channel_delays_a_path(void **state)
{
    struct stun_msg answer;
    struct msg_session_path told;
    struct abi_addr there = from(31);
    fill_channel();
    assert_true(check(&there, &nominating, &client.key, &answer));
    answer_from(&there, asked(&there));
    assert_goes_to(&there);
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0)); // takes the fillers away
    world_pass(&world, 1100);
    assert_true(world_heard(&world, 0, MSG_SESSION_PATH, &told, sizeof(told)));
    assert_true(told.head.id == client.id);
    assert_memory_equal(&told.remote, &there, sizeof(there));
    assert_memory_equal(&told.local, &world.config.media4, sizeof(told.local));
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9}; // of what world.c injects
    assert_memory_equal(told.mac, mac, sizeof(mac));
    world_pass(&world, 2100);
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0)); // once
}

// Before DTLS an address may change freely: nothing is sent there. Then what we send in the
// handshake is what proves the address, so all of it goes to the same.
static void test_dtls_proves_one_address(void **state)
{
    struct client late = {0};
    struct client kept = client;
    struct stun_msg answer;
    struct abi_addr before = from(40), during = from(41);
    world_connect(&world, &late, ROLE_PLAY, STREAM_ID, 0, 7, true);
    client = late;
    session()->dtls_sent = false;
    assert_true(check(&before, &nominating, &client.key, &answer));
    assert_null(asked(&before));
    assert_goes_to(&before);
    assert_false(tables_sender(&world.workers[0].tables, session())->proven);
    world_dtls(&world, &client);
    assert_true(check(&during, &nominating, &client.key, &answer));
    assert_goes_to(&before);
    world_key(&world, &client, PROFILE_AEAD_AES_128_GCM);
    assert_goes_to(&before);
    assert_true(tables_sender(&world.workers[0].tables, session())->proven);
    world_pass(&world, 200);
    assert_true(check(&during, &nominating, &client.key, &answer));
    answer_from(&during, asked(&during));
    assert_goes_to(&during);
    assert_true(world_leave(&world, &client));
    client = kept;
}

// What is proven stays so when the process dies.
static void test_proof_outlives_the_process(void **state)
{
    struct stun_msg answer;
    struct abi_addr there = from(42);
    world_key(&world, &client, PROFILE_AEAD_AES_128_GCM);
    assert_true(check(&there, &nominating, &client.key, &answer));
    uint8_t id[STUN_ID_LEN];
    memcpy(id, asked(&there), sizeof(id));
    world_restart(&world);
    assert_true(tables_sender(&world.workers[0].tables, session())->proven);
    answer_from(&there, id); // to the old process
    assert_goes_to(&client.addr);
    world_pass(&world, 200);
    assert_true(check(&there, &nominating, &client.key, &answer));
    answer_from(&there, asked(&there));
    assert_goes_to(&there);
    world_restart(&world);
    assert_true(tables_sender(&world.workers[0].tables, session())->proven);
    assert_goes_to(&there);
}

static void serve(enum group_role role, uint32_t term)
{
    struct msg_group group = {.head = {.type = MSG_GROUP, .length = sizeof(group), .id = 1},
                              .term = term,
                              .role = (uint8_t)role,
                              .takeover = 1};
    world_tell(&world, 0, &group);
    world_turn(&world);
}

// A standby has not done the DTLS. It asks at the client's first check and with every keep-alive,
// so that what it takes over it may serve at once; and one that never answered it serves nothing.
static void test_a_standby_asks_before_its_time(void **state)
{
    struct client guarded = {.id = (UINT64_C(7) << 32) | 8, .group = 1}, publisher = {0},
                  kept = client;
    struct stun_msg answer;
    struct abi_addr at;
    uint64_t bytes = 0;
    serve(GROUP_STANDBY, 1);
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 4, PROFILE_AEAD_AES_128_GCM, true);
    world_copy(&world, &guarded, ROLE_PLAY, STREAM_ID, 8, PROFILE_AEAD_AES_128_GCM, true);
    client = guarded;
    client.addr = from(50);
    assert_true(check(&client.addr, &plain, &client.key, &answer));
    assert_non_null(asked(&client.addr)); // which is lost
    struct msg_session_adopt adopt = {
        .head = {.type = MSG_SESSION_ADOPT, .length = sizeof(adopt), .id = client.id},
        .numbers = {.numbered = 3}};
    publish(&publisher, 99);
    const struct stream *stream = tables_stream(&world.workers[0].tables, STREAM_ID);
    adopt.numbers.delta[0] = (1000 - stream->track[0].next_index) & INDEX_MASK;
    world_tell(&world, 0, &adopt);
    world_turn(&world);
    serve(GROUP_ACTIVE, 2);
    world.out_count = 0;
    for (uint64_t i = 0; i < 20; i++)
        publish(&publisher, 100 + i);
    assert_int_equal(sent_to(&client.addr, CLASS_RTP, &bytes), 0);
    serve(GROUP_STANDBY, 3);
    world.out_count = 0;
    for (unsigned ms = 0; ms < 6000 && !world_asked(&world, &client, &answer, &at); ms += 50)
        world_pass(&world, 50);
    assert_true(world_asked(&world, &client, &answer, &at));
    assert_memory_equal(&at, &client.addr, sizeof(at));
    answer_from(&client.addr, answer.id);
    serve(GROUP_ACTIVE, 4);
    world.out_count = 0;
    for (uint64_t i = 20; i < 40; i++)
        publish(&publisher, 100 + i);
    assert_true(sent_to(&client.addr, CLASS_RTP, &bytes) >= 10);
    assert_true(world_leave(&world, &client));
    assert_true(world_leave(&world, &publisher));
    client = kept;
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
    answer_from(&there, asked(&there));
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

// The answers sent to the client since the frames were last forgotten.
static unsigned answers_to(const struct client *to)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct world_frame *frame = &world.out[i];
        struct stun_msg msg;
        count += frame->parsed.class == CLASS_STUN &&
                 memcmp(&frame->parsed.dst, &to->addr, sizeof(to->addr)) == 0 &&
                 !stun_parse(frame->bytes + frame->parsed.payload, frame->parsed.length, &msg) &&
                 msg.type == STUN_BINDING_SUCCESS;
    }
    return count;
}

// The client's first check waits while the partner's candidate may be checked; any other does not,
// nor one that the partner is not there for.
static void test_the_partner_is_checked_too(void **state)
{
    struct client early = {.group = 1}, late = {.group = 1};
    uint32_t term = atomic_load(&world.dp.term[1]);
    serve(GROUP_ACTIVE, term + 2 - term % 2);
    world_connect(&world, &late, ROLE_PLAY, STREAM_ID, 0, 11, true);
    assert_int_equal(world.workers[0].held_count, 0);
    world_leave(&world, &late);

    atomic_store(&world.dp.sight_since[1], world.now_ns);
    world_connect(&world, &early, ROLE_PLAY, STREAM_ID, 0, 10, true);
    world_pass(&world, 40);
    late.group = 1;
    world_connect(&world, &late, ROLE_PLAY, STREAM_ID, 0, 11, true);
    assert_int_equal(world.workers[0].held_count, 2);
    world.out_count = 0;
    world_pass(&world, 34);
    assert_int_equal(answers_to(&early), 0);
    world_pass(&world, 2);
    assert_int_equal(answers_to(&early), 1);
    assert_int_equal(answers_to(&late), 0);
    world_check(&world, &late, &late.addr, true, &late.key);
    assert_int_equal(answers_to(&late), 1);
    // Whose session has ended meanwhile is answered nothing.
    world_leave(&world, &late);
    world_pass(&world, 60);
    assert_int_equal(answers_to(&late), 1);
    assert_int_equal(world.workers[0].held_count, 0);
    // More than are held are answered at once.
    world.workers[0].held_count = RTE_DIM(world.workers[0].held);
    for (unsigned i = 0; i < RTE_DIM(world.workers[0].held); i++)
        world.workers[0].held[i].due_ns = UINT64_MAX;
    late.group = 1;
    world_connect(&world, &late, ROLE_PLAY, STREAM_ID, 0, 11, true);
    assert_int_equal(world.workers[0].held_count, RTE_DIM(world.workers[0].held));
    world.workers[0].held_count = 0;
    world_leave(&world, &late);
    world_leave(&world, &early);
    atomic_store(&world.dp.sight_since[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, begin, finish),
        cmocka_unit_test_setup_teardown(test_role_conflict, begin, finish),
        cmocka_unit_test_setup_teardown(test_silence_for_strangers, begin, finish),
        cmocka_unit_test_setup_teardown(test_only_nomination_moves_media, begin_keyed, finish),
        cmocka_unit_test_setup_teardown(test_only_the_right_answer_counts, begin, finish),
        cmocka_unit_test_setup_teardown(test_asks_again, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_victim_gets_no_media, begin_keyed, finish),
        cmocka_unit_test_setup_teardown(test_an_address_is_not_taken_from_another, begin, finish),
        cmocka_unit_test_setup_teardown(test_an_address_of_a_silent_session_is_free, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_full_channel_delays_a_path, begin_keyed, finish),
        cmocka_unit_test_setup_teardown(test_dtls_proves_one_address, begin, finish),
        cmocka_unit_test_setup_teardown(test_proof_outlives_the_process, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_standby_asks_before_its_time, begin, finish),
        cmocka_unit_test_setup_teardown(test_addresses_are_bounded, begin, finish),
        cmocka_unit_test_setup_teardown(test_restart, begin, finish),
        cmocka_unit_test_setup_teardown(test_consent, begin, finish),
        cmocka_unit_test_setup_teardown(test_the_partner_is_checked_too, begin, finish),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
