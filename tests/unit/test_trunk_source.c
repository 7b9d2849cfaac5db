// A publisher that goes from one node of a pair to the other and back, seen from one of them: what
// comes directly, what the partner gives over the trunk, and where the partner says that it stands.
#include "../../dataplane/ingest.h"
#include "../../dataplane/trunk_record.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define TRUNK 0x7777u
#define LOW_SSRC 0x44444444u // of the second simulcast layer
#define OTHER_SPACE (UINT64_C(5) << INDEX_SPACE_BITS | 0x100000)

static struct world world;
static struct client publisher, viewer;
static struct protect_tx partner;
static uint64_t partner_index = 1;
static uint64_t before[DROPS];
static unsigned came;
static const struct abi_addr partner_addr = {.ip = {10, 9, 0, 2}, .port = 7000, .family = 4};

static uint64_t drops(enum drop what)
{
    return world.workers[0].stats->drop[what] - before[what];
}

static struct stream *stream(void)
{
    return tables_stream(&world.workers[0].tables, STREAM_ID);
}

static struct track *track(void)
{
    return &stream()->track[0];
}

static void look(void)
{
    for (unsigned i = 0; i < world.out_count; i++)
        came += world.out[i].parsed.class == CLASS_RTP &&
                memcmp(&world.out[i].parsed.dst, &viewer.addr, sizeof(viewer.addr)) == 0;
    world.out_count = 0;
}

static void pass(uint64_t ms)
{
    for (; ms; ms--) {
        world.now_ns += UINT64_C(1000000);
        world_turn(&world);
        look();
    }
}

static int setup(void **state)
{
    srandom(7);
    if (world_start(&world, &(struct abi_config){.workers = 1,
                                                 .max_sessions = 16,
                                                 .rx_mbufs = 4095,
                                                 .tx_mbufs = 4095,
                                                 .cache_mbufs = 4095,
                                                 .bfd = 1}))
        return -1;
    struct msg_peer peer = world_partner(&partner_addr, 0, 1);
    struct msg_group group = {.head = {.type = MSG_GROUP, .length = sizeof(group), .id = 1},
                              .term = 2,
                              .role = GROUP_ACTIVE,
                              .takeover = 1,
                              .home = 1};
    world_tell(&world, 0, &peer);
    world_tell(&world, 0, &group);
    world_turn(&world);
    atomic_store(&world.dp.peer_mac[0], 0x020000000002u);
    return protect_tx_init(world.crypto, &partner, PROFILE_AEAD_AES_128_GCM, peer.remote);
}

static int teardown(void **state)
{
    protect_tx_clear(world.crypto, &partner);
    world_stop(&world);
    return 0;
}

static int start(unsigned layers)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 2,
        .group = 1,
        .peers = 1,
        .trunk_id = TRUNK,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    open.track[0].layers = (uint8_t)layers;
    open.track[0].layer[1].ssrc = LOW_SSRC;
    world_tell(&world, 0, &open);
    world_turn(&world);
    publisher.group = viewer.group = 1;
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    world_join(&world, &viewer, ROLE_PLAY, STREAM_ID, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    atomic_store(&world.dp.sight_since[1], world.now_ns);
    memcpy(before, world.workers[0].stats->drop, sizeof(before));
    came = 0;
    return 0;
}

static int begin(void **state)
{
    return start(2);
}

static int begin_one_layer(void **state)
{
    return start(1);
}

static int finish(void **state)
{
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    bool left = world_leave(&world, &publisher) && world_leave(&world, &viewer);
    world_tell(&world, 0, &close);
    pass(1);
    return left ? 0 : -1;
}

// ---- the publisher

static size_t seal(uint32_t ssrc, uint64_t index, bool keyframe, uint8_t *wire)
{
    uint8_t payload[60] = {0x10, keyframe ? 0 : 1};
    rtp_header_write(wire, &(struct rtp_header){.pt = 96,
                                                .marker = true,
                                                .seq = (uint16_t)index,
                                                .timestamp = (uint32_t)(index * 3000),
                                                .ssrc = ssrc});
    struct seal_job job = {.tx = &publisher.tx,
                           .src = payload,
                           .dst = wire,
                           .header_len = RTP_HEADER,
                           .payload_len = sizeof(payload),
                           .ssrc = ssrc,
                           .index = index};
    protect_seal(world.crypto, &job, 1);
    return RTP_HEADER + sizeof(payload) + 16;
}

static void inject(const uint8_t *wire, size_t size)
{
    world_inject(&world, 0, &publisher.addr, world.config.media4.port, wire, size);
    pass(1);
}

// `count` packets straight to us, the first of them a key frame if so wanted.
static void direct(uint32_t ssrc, uint64_t index, unsigned count, bool keyframe)
{
    for (unsigned i = 0; i < count; i++) {
        uint8_t wire[200];
        inject(wire, seal(ssrc, index + i, keyframe && i == 0, wire));
    }
}

// ---- the partner

static void send_record(const struct record *record, size_t size, const uint8_t *rtp,
                        size_t rtp_size)
{
    world_trunk(&world, &partner_addr, &partner, partner_index++, record, size, rtp, rtp_size);
    pass(1);
}

// `count` packets that came to the partner.
static void given_of(uint8_t layer, uint64_t index, unsigned count, bool keyframe)
{
    for (unsigned i = 0; i < count; i++, index++) {
        bool key = keyframe && i == 0;
        uint8_t rtp[RTP_HEADER + 60] = {0};
        rtp_header_write(rtp, &(struct rtp_header){.pt = 96,
                                                   .seq = (uint16_t)index,
                                                   .timestamp = (uint32_t)index * 3000,
                                                   .ssrc = VIDEO_SSRC});
        rtp[RTP_HEADER] = 0x10;
        rtp[RTP_HEADER + 1] = key ? 0 : 1;
        struct record record = {
            .type = RECORD_MEDIA,
            .flags = (uint8_t)((key ? MEDIA_KEYFRAME : 0) | layer << MEDIA_LAYER_BIT),
            .header = RTP_HEADER,
            .payload = 60,
            .trunk_id = TRUNK,
            .media = {.index = index, .timestamp = (uint32_t)index * 3000}};
        send_record(&record, MEDIA_HEAD, rtp, sizeof(rtp));
    }
}

static void given(uint64_t index, unsigned count, bool keyframe)
{
    given_of(0, index, count, keyframe);
}

// The partner has the publisher's packets up to `top` of that layer, which is `index` of the track.
static void stands(uint8_t layer, uint32_t ssrc, uint64_t top, uint64_t index)
{
    struct record record = {.type = RECORD_SOURCE,
                            .flags = layer,
                            .trunk_id = TRUNK,
                            .source = {.ssrc = ssrc,
                                       .rtx_ssrc = layer ? 0 : RTX_SSRC,
                                       .top = top,
                                       .delta = (index - top) & INDEX_MASK}};
    send_record(&record, SOURCE_HEAD, NULL, 0);
}

// Until neither is taken for the one that the publisher sends to.
static void silence(void)
{
    pass(600);
    came = 0;
}

// ---- tests

// A packet of the partner's before it has said what it is of.
static void test_media_before_their_source(void **state)
{
    direct(VIDEO_SSRC, 100, 50, true);
    assert_int_equal(came, 50);
    silence();
    given(OTHER_SPACE, 5, true);
    stands(1, LOW_SSRC, 1004, OTHER_SPACE + 4);
    given(OTHER_SPACE + 5, 5, false);
    assert_int_equal(replay_top(&track()->layers[0].media.replay), 149);
    silence();
    direct(VIDEO_SSRC, 200, 100, true);
    assert_int_equal(drops(DROP_srtp_auth), 0);
    assert_int_equal(came, 100);
}

// The publisher comes over, and stays: the track's numbers go on, whichever layer comes next.
static void test_numbers_become_ours(void **state)
{
    given(OTHER_SPACE, 20, true);
    stands(0, VIDEO_SSRC, 519, OTHER_SPACE + 19);
    silence();
    direct(VIDEO_SSRC, 520, 1000, true);
    uint64_t at = track()->next_index;
    assert_int_equal(at, OTHER_SPACE + 1020);
    silence();
    direct(LOW_SSRC, 1000, 10, true);
    assert_int_equal(track()->next_index, at + 10);
    assert_false(tables_session(&world.workers[0].tables, viewer.id)->unsafe);
}

// But not while the partner cannot be seen: it may go on with the same ones.
static void test_numbers_of_an_unseen_partner(void **state)
{
    given(OTHER_SPACE, 20, true);
    stands(0, VIDEO_SSRC, 519, OTHER_SPACE + 19);
    atomic_store(&world.dp.sight_since[1], 0);
    silence();
    direct(VIDEO_SSRC, 520, 1000, true);
    silence();
    direct(LOW_SSRC, 1000, 10, true);
    assert_int_not_equal(track()->next_index >> INDEX_SPACE_BITS, OTHER_SPACE >> INDEX_SPACE_BITS);
}

// Layers took turns at the partner: what we knew of the other one's numbers is out of date.
static void layers_take_turns(uint64_t low)
{
    direct(VIDEO_SSRC, 100, 50, true);
    uint64_t at = track()->next_index;
    silence();
    stands(1, LOW_SSRC, 1000, at);
    given(at, 20, true);
    stands(0, VIDEO_SSRC, 500, at + 20);
    given(at + 20, 300, true);
    stands(0, VIDEO_SSRC, 799, at + 319);
    silence();
    direct(VIDEO_SSRC, 800, 300, false);
    assert_int_equal(came, 300);
    silence();
    direct(LOW_SSRC, low, 300, true);
    assert_int_equal(came, 300);
    assert_false(tables_session(&world.workers[0].tables, publisher.id)->unsafe);
    assert_int_equal(drops(DROP_rtp_advance) + drops(DROP_cache_old) + drops(DROP_cache_duplicate),
                     0);
}

// The partner goes over to the other layer, its word of that is lost, and with it some packets;
// then the publisher comes here, still with the first one.
static void test_a_layer_that_nobody_told_of(void **state)
{
    given(OTHER_SPACE, 20, true);
    stands(0, VIDEO_SSRC, 519, OTHER_SPACE + 19);
    given_of(1, OTHER_SPACE + 25, 1, true);
    stands(0, VIDEO_SSRC, 519, OTHER_SPACE + 19); // late
    given_of(1, OTHER_SPACE + 26, 1, false);
    direct(VIDEO_SSRC, 520, 100, false);
    assert_int_not_equal(track()->next_index >> INDEX_SPACE_BITS, OTHER_SPACE >> INDEX_SPACE_BITS);
    assert_null(cache_get(&track()->ring, OTHER_SPACE + 20));
}

static void test_a_layer_that_paused(void **state)
{
    layers_take_turns(1020);
}

static void test_a_layer_that_went_on(void **state)
{
    layers_take_turns(30000);
}

// What came directly was not lost on the trunk.
static void test_a_return_loses_nothing(void **state)
{
    direct(VIDEO_SSRC, 100, 50, true);
    uint64_t at = track()->next_index;
    silence();
    given(at, 10, false);
    stands(0, VIDEO_SSRC, 159, at + 9);
    silence();
    direct(VIDEO_SSRC, 160, 1000, false);
    silence();
    track()->key_wanted = false;
    given(at + 1010, 10, false);
    pass(30);
    assert_int_equal(track()->gaps[GAPS_TRUNK].count, 0);
    assert_false(track()->key_wanted);
}

// Another publisher with the same SSRCs, of which the partner has not heard yet.
static void test_the_publisher_before(void **state)
{
    direct(VIDEO_SSRC, 100, 50, true);
    uint64_t at = track()->next_index;
    silence();
    given(at, 10, false);
    stands(0, VIDEO_SSRC, 70000, at + 9);
    world_leave(&world, &publisher);
    publisher.group = 1;
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 3, PROFILE_AEAD_AES_128_GCM, true);
    stands(0, VIDEO_SSRC, 70000, at + 9);
    came = 0;
    direct(VIDEO_SSRC, 1000, 200, true);
    assert_int_equal(came, 200);
    assert_int_equal(drops(DROP_srtp_replay), 0);
}

// Somebody has kept the packets of an SSRC that the publisher has left at the partner.
static void test_packets_of_an_ssrc_of_before(void **state)
{
    enum { KEPT = 20 };
    uint8_t kept[KEPT][200];
    size_t size = 0;
    for (unsigned i = 0; i < KEPT; i++) {
        size = seal(VIDEO_SSRC, 100 + i, i == 0, kept[i]);
        inject(kept[i], size);
    }
    uint64_t at = track()->next_index;
    silence();
    given(at, 5, true);
    stands(0, 0x55555555, 704, at + 4);
    came = 0;
    for (unsigned i = 0; i < KEPT; i++)
        inject(kept[i], size);
    assert_int_equal(came, 0);
    assert_int_equal(drops(DROP_srtp_replay), KEPT);
    assert_false(stream()->direct_ns > stream()->trunk_ns);
    // And when it goes back to it, what came then is known.
    stands(0, VIDEO_SSRC, 119, at + 4);
    for (unsigned i = 0; i < KEPT; i++)
        inject(kept[i], size);
    assert_int_equal(drops(DROP_srtp_replay), 2 * KEPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_media_before_their_source, begin, finish),
        cmocka_unit_test_setup_teardown(test_numbers_become_ours, begin, finish),
        cmocka_unit_test_setup_teardown(test_numbers_of_an_unseen_partner, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_layer_that_nobody_told_of, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_layer_that_paused, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_layer_that_went_on, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_return_loses_nothing, begin, finish),
        cmocka_unit_test_setup_teardown(test_the_publisher_before, begin, finish),
        cmocka_unit_test_setup_teardown(test_packets_of_an_ssrc_of_before, begin_one_layer, finish),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
