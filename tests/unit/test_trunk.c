// A partner that has the right keys and uses them to flood: what it costs is bounded by name, and
// viewers of a stream that is not its own lose nothing. And clients that flood the partner by way
// of us. (How a trunk serves a pair is in test_failover.c and test_keystream.c.)
#include "../../dataplane/rtcp.h"
#include "../../dataplane/trunk_record.h"
#include "../sim/world.h"
#include <rte_mempool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define OWN STREAM_ID // published here
#define SHARED (STREAM_ID + 1)
#define OWN_TRUNK 0x1111u
#define SHARED_TRUNK 0x7777u
#define TURN_US 50
#define GUESTS 40 // viewers of a group

static struct world world;
static struct client publisher, own_viewer, shared_viewer, guests[GUESTS];
static struct protect_tx partner;
static uint64_t partner_index = 1, own_index = 100, shared_index = UINT64_C(0x700000000);
static uint64_t before[DROPS];
static unsigned own_sent, own_came, shared_came, answers;
static const struct abi_addr partner_addr = {.ip = {10, 9, 0, 2}, .port = 7000, .family = 4};

static uint64_t drops(enum drop what)
{
    return world.workers[0].stats->drop[what] - before[what];
}

static void open_stream(uint64_t id, uint64_t trunk_id)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = id},
        .tracks = 2,
        .trunk_id = trunk_id,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    world_tell(&world, 0, &open);
}

static void set_group(enum group_role role)
{
    static uint32_t term = 2;
    term += 2;
    struct msg_group group = {.head = {.type = MSG_GROUP, .length = sizeof(group), .id = 1},
                              .term = term,
                              .role = (uint8_t)role};
    world_tell(&world, 0, &group);
    world_turn(&world);
}

static int setup(void **state)
{
    srandom(7);
    if (world_start(&world, &(struct abi_config){.workers = 1,
                                                 .max_sessions = 64,
                                                 .rx_mbufs = 4095,
                                                 .tx_mbufs = 4095,
                                                 .cache_mbufs = 4095,
                                                 .bfd = 1}))
        return -1;
    struct msg_peer peer = world_partner(&partner_addr, 0, 1);
    world_tell(&world, 0, &peer);
    open_stream(OWN, OWN_TRUNK);
    open_stream(SHARED, SHARED_TRUNK);
    world_turn(&world);
    atomic_store(&world.dp.peer_mac[0], 0x020000000002u);
    world_join(&world, &publisher, ROLE_PUBLISH, OWN, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    world_join(&world, &own_viewer, ROLE_PLAY, OWN, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    world_join(&world, &shared_viewer, ROLE_PLAY, SHARED, 0, 3, PROFILE_AEAD_AES_128_GCM, true);
    set_group(GROUP_ACTIVE);
    for (uint32_t i = 0; i < GUESTS; i++) {
        guests[i].group = 1;
        world_join(&world, &guests[i], ROLE_PLAY, OWN, 0, 4 + i, PROFILE_AEAD_AES_128_GCM, true);
    }
    world.out_count = 0;
    return protect_tx_init(world.crypto, &partner, PROFILE_AEAD_AES_128_GCM, peer.remote);
}

static int teardown(void **state)
{
    protect_tx_clear(world.crypto, &partner);
    world_stop(&world);
    return 0;
}

// A second later every budget is there again.
static int begin(void **state)
{
    world.now_ns += 1000 * MS;
    world_turn(&world);
    world.out_count = own_sent = own_came = shared_came = answers = 0;
    memcpy(before, world.workers[0].stats->drop, sizeof(before));
    return 0;
}

static void look_at_what_came(void)
{
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        if (parsed->class != CLASS_RTP)
            continue;
        own_came += memcmp(&parsed->dst, &own_viewer.addr, sizeof(parsed->dst)) == 0;
        shared_came += memcmp(&parsed->dst, &shared_viewer.addr, sizeof(parsed->dst)) == 0;
        answers += memcmp(parsed->dst.ip, partner_addr.ip, sizeof(partner_addr.ip)) == 0;
    }
    world.out_count = 0;
}

static void go_on(void)
{
    world.now_ns += TURN_US * 1000;
    world_turn(&world);
    look_at_what_came();
}

static void publish(void)
{
    world_publish(&world, &publisher, 0, own_index, own_index == 100, 300);
    own_index++;
    own_sent++;
}

static void send_record(const struct record *record, size_t size, const uint8_t *rtp,
                        size_t rtp_size)
{
    world_trunk(&world, &partner_addr, &partner, partner_index++, record, size, rtp, rtp_size);
}

static void send_media(uint64_t trunk_id)
{
    uint8_t rtp[RTP_HEADER + 100] = {0};
    rtp_header_write(rtp, &(struct rtp_header){.pt = 96,
                                               .seq = (uint16_t)shared_index,
                                               .timestamp = (uint32_t)shared_index * 90,
                                               .ssrc = VIDEO_SSRC});
    rtp[RTP_HEADER] = 0x10;  // VP8: the beginning of
    rtp[RTP_HEADER + 1] = 0; // a key frame
    struct record record = {
        .type = RECORD_MEDIA,
        .flags = MEDIA_KEYFRAME,
        .header = RTP_HEADER,
        .payload = 100,
        .trunk_id = trunk_id,
        .media = {.index = shared_index, .timestamp = (uint32_t)shared_index * 90}};
    shared_index++;
    send_record(&record, MEDIA_HEAD, rtp, sizeof(rtp));
}

static void ask(uint64_t trunk_id, uint64_t index)
{
    struct record record = {.type = RECORD_NACK, .count = NACK_MAX, .trunk_id = trunk_id};
    for (int i = 0; i < NACK_MAX; i++)
        record.nack[i] = index;
    send_record(&record, HEAD + NACK_MAX * sizeof(uint64_t), NULL, 0);
}

static void own_stream_lost_nothing(void)
{
    for (int i = 0; i < 4; i++)
        go_on();
    assert_true(own_sent > 0);
    assert_int_equal(own_came, own_sent);
    assert_int_equal(drops(DROP_no_mbuf), 0);
    assert_int_equal(drops(DROP_trunk_auth), 0);
}

static void streams_that_nobody_has(void **state)
{
    const unsigned turns = 5000, each = 25; // 500,000 packets/s for a quarter of a second
    uint64_t last = 0;
    for (unsigned i = 0; i < turns; i++) {
        for (unsigned n = 0; n < each; n++)
            send_media(0x5000000 + i * each + n);
        publish();
        go_on();
        if (i % 1000 == 999) { // the budget is a rate, not an end
            assert_true(drops(DROP_trunk_malformed) >= last + 9999);
            last = drops(DROP_trunk_malformed);
        }
    }
    own_stream_lost_nothing();
    assert_int_equal(drops(DROP_trunk_malformed) + drops(DROP_trunk_budget), turns * each);
    assert_in_range(drops(DROP_trunk_malformed), 69900, 70100); // 20,000 + 200,000/s
    assert_int_equal(shared_came, 0);
}

static void more_than_a_stream_can_have(void **state)
{
    const unsigned turns = 10000, each = 4; // 80,000 packets/s for half a second
    for (unsigned i = 0; i < turns; i++) {
        for (unsigned n = 0; n < each; n++)
            send_media(SHARED_TRUNK);
        publish();
        go_on();
    }
    own_stream_lost_nothing();
    assert_in_range(shared_came, 6990, 7010); // 2,000 + 10,000/s
    assert_int_equal(shared_came + drops(DROP_trunk_budget), turns * each);
    // With the flood its traces end.
    uint64_t refused = drops(DROP_trunk_budget), came = shared_came;
    for (unsigned i = 0; i < 1000; i++) {
        if (i % 20 == 0) // 1,000/s
            send_media(SHARED_TRUNK);
        go_on();
    }
    assert_int_equal(shared_came - came, 50);
    assert_int_equal(drops(DROP_trunk_budget), refused);
}

static void more_asked_than_anybody_lost(void **state)
{
    for (unsigned i = 0; i < 20; i++) {
        publish();
        go_on();
    }
    uint64_t kept = tables_stream(&world.workers[0].tables, OWN)->track[0].next_index - 5;
    const unsigned turns = 2000;
    for (unsigned i = 0; i < turns; i++) { // 640,000 packets/s for a tenth of a second
        ask(OWN_TRUNK, kept);
        publish();
        go_on();
    }
    own_stream_lost_nothing();
    assert_in_range(answers, 9990, 10010); // 5,000 + 50,000/s
    assert_int_equal(answers + drops(DROP_nack_budget), turns * NACK_MAX);
}

// What is not authentic spends nothing of the partner's budget.
static void forged_packets_spend_nothing(void **state)
{
    uint8_t junk[64] = {0x80, 127, 0, 0, 0, 1, 0, 0, 0x74, 0x72, 0, 0}; // ahead of the real ones
    for (unsigned i = 0; i < 30000; i++) {
        store_be16(junk + 2, (uint16_t)i);
        world_inject(&world, 0, &partner_addr, world.config.media4.port, junk, sizeof(junk));
        if (i % 20 == 19)
            world_turn(&world); // all in one instant
    }
    send_media(SHARED_TRUNK);
    go_on();
    assert_int_equal(shared_came, 1);
    assert_int_equal(drops(DROP_trunk_budget), 0);
    assert_int_equal(drops(DROP_trunk_auth), 30000);
}

static uint64_t plis(const struct client *client)
{
    return tables_session(&world.workers[0].tables, client->id)->plis;
}

static size_t write_pli(const struct client *client, uint8_t *rtcp, size_t room)
{
    const struct session *session = tables_session(&world.workers[0].tables, client->id);
    size_t size = rtcp_write_rr(rtcp, room, 0, 1, NULL, 0);
    return rtcp_write_pli(rtcp, room, size, 1, session->track[0].layer[0].ssrc);
}

// What it says in a viewer's name is no more than a viewer may say, and is not at its cost.
static void more_than_a_viewer_says(void **state)
{
    struct record record = {.type = RECORD_FEEDBACK, .trunk_id = OWN_TRUNK};
    uint8_t rtcp[256];
    uint64_t asked = plis(&guests[0]), others = plis(&guests[1]);
    memcpy(record.ufrag, guests[0].ufrag, sizeof(record.ufrag));
    size_t size = write_pli(&guests[0], rtcp, sizeof(rtcp));
    for (unsigned i = 0; i < 10000; i++) { // 20,000/s for half a second
        send_record(&record, FEEDBACK_HEAD, rtcp, size);
        publish();
        go_on();
    }
    own_stream_lost_nothing();
    asked = plis(&guests[0]) - asked;
    assert_in_range(asked, 145, 155); // 100 + 100/s
    assert_int_equal(asked + drops(DROP_feedback_flood), 10000);
    size = write_pli(&guests[0], rtcp, sizeof(rtcp) - 64);
    world_rtcp(&world, &guests[0], rtcp, size); // itself
    assert_int_equal(plis(&guests[0]), others + asked + 1);
    memcpy(record.ufrag, guests[1].ufrag, sizeof(record.ufrag));
    size = write_pli(&guests[1], rtcp, sizeof(rtcp));
    send_record(&record, FEEDBACK_HEAD, rtcp, size); // another one
    go_on();
    assert_int_equal(plis(&guests[1]), others + 1);
}

static void says(struct client *client, unsigned times)
{
    uint8_t rtcp[256];
    for (unsigned i = 0; i < times; i++) {
        size_t size = write_pli(client, rtcp, sizeof(rtcp) - 64);
        world_rtcp(&world, client, rtcp, size);
    }
    look_at_what_came();
}

// What clients say here, who does not serve them, goes to the partner; one that floods has its
// share, and all together no more than the partner takes.
static void more_for_the_partner_than_it_takes(void **state)
{
    set_group(GROUP_STANDBY);
    look_at_what_came();
    answers = 0;
    says(&guests[0], 3000);
    assert_int_equal(answers, 100);
    assert_int_equal(drops(DROP_feedback_flood), 2900);
    says(&guests[1], 1);
    assert_int_equal(answers, 101);
    for (unsigned i = 1; i < GUESTS; i++)
        says(&guests[i], 100);
    assert_int_equal(answers, 2000);
    assert_int_equal(answers + drops(DROP_feedback_flood), 3000 + 1 + 100 * (GUESTS - 1));
    uint64_t refused = drops(DROP_feedback_flood);
    world.now_ns += 500 * MS; // half of each client's share, all of the worker's
    world_turn(&world);
    look_at_what_came();
    answers = 0;
    for (unsigned i = 0; i < GUESTS; i++)
        says(&guests[i], 50);
    assert_int_equal(answers, 2000);
    assert_int_equal(drops(DROP_feedback_flood), refused);
    set_group(GROUP_ACTIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(streams_that_nobody_has, begin),
        cmocka_unit_test_setup(more_than_a_stream_can_have, begin),
        cmocka_unit_test_setup(more_asked_than_anybody_lost, begin),
        cmocka_unit_test_setup(forged_packets_spend_nothing, begin),
        cmocka_unit_test_setup(more_than_a_viewer_says, begin),
        cmocka_unit_test_setup(more_for_the_partner_than_it_takes, begin),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
