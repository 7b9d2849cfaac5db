// Where packets get their numbers: publishers that come, go and come back elsewhere, against a
// record of everything that viewers were sent. No index may ever stand for two different packets
// (design.md, invariants).
#include "../../dataplane/ingest.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define RECORDS 4096

static struct world world;
static struct {
    uint64_t index;
    uint32_t ssrc, hash;
} records[RECORDS];
static unsigned record_count, conflicts, bad;
static uint32_t first_timestamp, last_timestamp; // of the video packets last taken

static int setup(void **state)
{
    srandom(1);
    return world_start(&world, &(struct abi_config){.workers = 2,
                                                    .max_sessions = 64,
                                                    .rx_mbufs = 2048,
                                                    .tx_mbufs = 2048,
                                                    .cache_mbufs = 1024});
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

static void join(struct client *client, enum session_role role, uint32_t worker, uint32_t slot)
{
    client->group = 0;
    world_join(&world, client, role, STREAM_ID, worker, slot, PROFILE_AES128_CM_SHA1_80, false);
}

static void note(uint32_t ssrc, uint64_t index, const uint8_t *data, size_t size)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * 16777619u;
    for (unsigned i = 0; i < record_count; i++)
        if (records[i].ssrc == ssrc && records[i].index == index) {
            conflicts += records[i].hash != hash;
            return;
        }
    assert_in_range(record_count, 0, RECORDS - 1);
    records[record_count].index = index;
    records[record_count].ssrc = ssrc;
    records[record_count++].hash = hash;
}

// What went to the viewer: media packets opened, all of them on record.
static unsigned take(struct client *viewer)
{
    unsigned fresh = 0;
    first_timestamp = last_timestamp = 0;
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        if (memcmp(&parsed->dst, &viewer->addr, sizeof(viewer->addr)) != 0 ||
            parsed->class != CLASS_RTP)
            continue;
        const uint8_t *data = world.out[i].bytes + parsed->payload;
        uint32_t ssrc = load_be32(data + 8);
        struct protect_source *source = &viewer->rtp[ssrc == viewer->rtp[0].ssrc ? 0 : 1];
        uint8_t plain[2048];
        size_t size;
        uint64_t index;
        int rc = protect_open(world.crypto, &viewer->rx, source, data, parsed->length, plain, &size,
                              &index);
        if (rc == -EALREADY) // which it is not if other bytes were meant
            index = rtp_nearest_seq(replay_top(&source->replay), load_be16(data + 2));
        if (rc == 0 && ssrc == viewer->rtp[0].ssrc) {
            last_timestamp = load_be32(data + 4);
            first_timestamp = first_timestamp ? first_timestamp : last_timestamp;
        }
        if (rc == 0 || rc == -EALREADY)
            note(ssrc, index, data, parsed->length);
        fresh += rc == 0;
        bad += rc != 0;
    }
    world.out_count = 0;
    return fresh;
}

static void send(struct client *publisher, uint32_t ssrc, uint64_t index, bool keyframe,
                 const uint8_t *body, size_t size)
{
    uint8_t wire[1600];
    size = world_seal(&world, publisher, ssrc, index, keyframe, body, size, wire);
    world_inject(&world, publisher->worker, &publisher->addr,
                 (uint16_t)(world.config.media4.port + publisher->worker), wire, size);
    world_turn(&world);
}

// Under any SSRC and payload type; returns the packet for a second use.
static size_t seal_as(struct client *publisher, uint8_t pt, uint32_t ssrc, uint64_t index,
                      uint8_t *wire)
{
    uint8_t body[80];
    memset(body, (int)(index + ssrc), sizeof(body));
    rtp_header_write(wire, &(struct rtp_header){.pt = pt,
                                                .seq = (uint16_t)index,
                                                .timestamp = (uint32_t)index * 960,
                                                .ssrc = ssrc});
    struct seal_job job = {.tx = &publisher->tx,
                           .src = body,
                           .dst = wire,
                           .header_len = RTP_HEADER,
                           .payload_len = sizeof(body),
                           .ssrc = ssrc,
                           .index = index};
    protect_seal(world.crypto, &job, 1);
    return RTP_HEADER + sizeof(body) + protect_tag_len(publisher->tx.key.profile);
}

static void inject(struct client *publisher, const uint8_t *wire, size_t size)
{
    world_inject(&world, 0, &publisher->addr, world.config.media4.port, wire, size);
    world_turn(&world);
}

static uint64_t drops(enum drop what)
{
    return world.workers[0].stats->drop[what];
}

static void publish(struct client *publisher, uint64_t index, bool keyframe)
{
    uint8_t body[100];
    memset(body, (int)(index * 7 + publisher->id), sizeof(body));
    send(publisher, VIDEO_SSRC, index, keyframe, body, sizeof(body));
}

static void forward(uint32_t from, uint32_t workers)
{
    struct msg_stream_forward message = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(message), .id = STREAM_ID},
        .workers = workers};
    world_tell(&world, from, &message);
}

static void close_streams(void)
{
    for (uint32_t w = 0; w < 2; w++) {
        struct msg_stream_close close = {
            .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
        world_tell(&world, w, &close);
    }
    world_turn(&world);
    record_count = conflicts = bad = 0;
    world.out_count = 0;
}

// The next publisher comes to the other worker.
static void publish_elsewhere(struct client *second)
{
    world_open_stream(&world, STREAM_ID, 1, 1);
    world_open_stream(&world, STREAM_ID, 0, 1);
    forward(1, 1);
    join(second, ROLE_PUBLISH, 1, 4);
}

// A new publisher's first packets come out of order: the earlier one must not go where the last
// one's packet stood.
static void test_a_late_first_packet_takes_no_used_index(void **state)
{
    struct client first, second, viewer;
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&first, ROLE_PUBLISH, 0, 2);
    join(&viewer, ROLE_PLAY, 0, 3);
    for (uint64_t i = 1; i <= 20; i++)
        publish(&first, i, i == 1);
    assert_int_equal(take(&viewer), 20);
    assert_true(world_leave(&world, &first));
    join(&second, ROLE_PUBLISH, 0, 4);
    publish(&second, 1001, true);
    publish(&second, 1000, false);
    publish(&second, 999, false);
    publish(&second, 1002, false);
    assert_int_equal(take(&viewer), 2);
    assert_int_equal(conflicts, 0);
    assert_int_equal(bad, 0);
    assert_true(world_leave(&world, &viewer));
    assert_true(world_leave(&world, &second));
    close_streams();
}

// The next publisher comes to another worker, which has not served the stream before.
static void test_viewers_elsewhere_go_on_with_new_numbers(void **state)
{
    struct client first, second, viewer;
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&first, ROLE_PUBLISH, 0, 2);
    join(&viewer, ROLE_PLAY, 0, 3);
    for (uint64_t i = 1; i <= 20; i++)
        publish(&first, i, i == 1);
    assert_int_equal(take(&viewer), 20);
    uint64_t last = replay_top(&viewer.rtp[0].replay);
    uint32_t stopped_at = last_timestamp;
    world_pass(&world, 700);
    assert_true(world_leave(&world, &first));
    publish_elsewhere(&second);
    world_pass(&world, 300);
    world.out_count = 0;
    for (uint64_t i = 1; i <= 20; i++)
        publish(&second, i, i == 1);
    assert_int_equal(take(&viewer), 20);
    assert_in_range(first_timestamp - stopped_at, 89000, 92000); // a second of the video's clock
    assert_int_equal(last_timestamp - first_timestamp, 19 * 3000);
    assert_int_equal(conflicts, 0);
    assert_int_equal(bad, 0);
    assert_int_equal(replay_top(&viewer.rtp[0].replay), last + 20); // without a step
    // What was lost is still found under the new numbers.
    uint8_t packet[512];
    uint16_t lost = (uint16_t)(last + 10);
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 400, length, 1, viewer.rtp[0].ssrc, &lost, 1);
    memset(&viewer.rtp[0].replay.seen, 0, sizeof(viewer.rtp[0].replay.seen));
    world_rtcp(&world, &viewer, packet, length);
    assert_int_equal(take(&viewer), 1);
    assert_int_equal(conflicts, 0);
    assert_true(world_leave(&world, &viewer));
    assert_true(world_leave(&world, &second));
    close_streams();
}

// Leaves worker 0 a packet of the video that worker 1 opened.
static void hand_over(uint64_t index, bool keyframe)
{
    struct media known = {.index = index,
                          .arrival_ns = world.now_ns,
                          .stream = STREAM_ID,
                          .timestamp = (uint32_t)index * 3000,
                          .header = RTP_HEADER,
                          .payload = 20,
                          .keyframe = keyframe};
    struct rte_mbuf *m = rte_pktmbuf_alloc(world.workers[1].pools.media);
    assert_non_null(m);
    media_note(media_of(m), &known);
    memset(media_of(m)->bytes, 0, RTP_HEADER + 20);
    rtp_header_write(media_of(m)->bytes,
                     &(struct rtp_header){.pt = 96, .seq = (uint16_t)index, .ssrc = VIDEO_SSRC});
    assert_int_equal(rte_ring_sp_enqueue(world.dp.post[0].media_from[1], m), 0);
}

// The last packet of one publisher and the first ones of the next come within one turn: the former
// has no number any more by the time that they are sent.
static void test_two_publishers_in_one_turn(void **state)
{
    struct client viewer;
    const uint64_t before = UINT64_C(9) << INDEX_SPACE_BITS, after = before / 3;
    const struct tables *tables = &world.workers[0].tables;
    world_open_stream(&world, STREAM_ID, 0, 1);
    join(&viewer, ROLE_PLAY, 0, 3);
    for (uint64_t i = 1; i <= 10; i++)
        hand_over(before + i, i == 1);
    world_turn(&world);
    assert_int_equal(take(&viewer), 10);
    uint64_t last = replay_top(&viewer.rtp[0].replay);
    uint64_t old = world.workers[0].stats->drop[DROP_cache_old];
    hand_over(before + 11, true);
    hand_over(after + 1, true);
    hand_over(after + 2, false);
    world_turn(&world);
    assert_int_equal(take(&viewer), 2);
    assert_int_equal(bad + conflicts, 0);
    assert_int_equal(replay_top(&viewer.rtp[0].replay), last + 3);
    assert_int_equal(world.workers[0].stats->drop[DROP_cache_old], old + 1);
    // Nor is it the key frame that viewers begin with.
    const struct track *track = &tables_stream(tables, STREAM_ID)->track[0];
    assert_true(track->key_sent && track->key_index == after + 1);
    assert_true(world_leave(&world, &viewer));
    close_streams();
}

// A viewer of a protected group when its publisher changes after a silence. While the partner is in
// sight, what it sends comes here, too; else nobody knows how far it has gone, and the viewer ends
// rather than have a number stand for two packets.
static void change_publisher(bool in_sight, uint64_t silence_ms, bool goes_on)
{
    struct client first, second, viewer = {.group = 1};
    struct msg_session_dead dead;
    atomic_store(&world.dp.active_groups, 1u << 1);
    atomic_store(&world.dp.active_since[1], world.now_ns);
    atomic_store(&world.dp.sight_since[1], in_sight ? world.now_ns : 0);
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&first, ROLE_PUBLISH, 0, 2);
    world_join(&world, &viewer, ROLE_PLAY, STREAM_ID, 0, 3, PROFILE_AES128_CM_SHA1_80, false);
    for (uint64_t i = 1; i <= 20; i++)
        publish(&first, i, i == 1);
    assert_int_equal(take(&viewer), 20);
    uint64_t last = replay_top(&viewer.rtp[0].replay);
    assert_true(world_leave(&world, &first));
    publish_elsewhere(&second);
    world_pass(&world, silence_ms);
    world.out_count = 0;
    while (world_heard(&world, 0, MSG_SESSION_DEAD, NULL, 0)) // of others
        ;
    for (uint64_t i = 1; i <= 20; i++)
        publish(&second, i, i == 1);
    assert_int_equal(take(&viewer), goes_on ? 20 : 0);
    if (goes_on)
        assert_int_equal(replay_top(&viewer.rtp[0].replay), last + INDEX_SPARE + 20);
    world_pass(&world, 1100);
    assert_int_equal(world_heard(&world, 0, MSG_SESSION_DEAD, &dead, sizeof(dead)), !goes_on);
    if (!goes_on)
        assert_int_equal(dead.reason, DEAD_NUMBERS);
    assert_int_equal(conflicts + bad, 0);
    assert_true(world_leave(&world, &viewer));
    assert_true(world_leave(&world, &second));
    close_streams();
    atomic_store(&world.dp.active_groups, 0);
}

static void test_a_publisher_changes_in_a_split(void **state)
{
    change_publisher(true, 5000, true);
    change_publisher(false, 2500, false);
    change_publisher(false, 100, false); // the partner may go on for as long as it likes
}

static void open_shared(uint8_t group)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 2,
        .group = group,
        .trunk_id = 0x7777,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    world_tell(&world, 0, &open);
}

// The next publisher comes to the node that had the last one. If that may have gone over to the
// partner, out of sight, both would go on with the same numbers.
static void replace_publisher(bool in_sight, uint8_t group, bool goes_on)
{
    struct client first, second, viewer = {.group = group};
    struct msg_session_dead dead;
    atomic_store(&world.dp.active_groups, 1u << 1);
    atomic_store(&world.dp.active_since[1], world.now_ns);
    atomic_store(&world.dp.sight_since[1], in_sight ? world.now_ns : 0);
    open_shared(1);
    join(&first, ROLE_PUBLISH, 0, 2);
    world_join(&world, &viewer, ROLE_PLAY, STREAM_ID, 0, 3, PROFILE_AES128_CM_SHA1_80, false);
    for (uint64_t i = 1; i <= 20; i++)
        publish(&first, i, i == 1);
    assert_int_equal(take(&viewer), 20);
    uint64_t last = replay_top(&viewer.rtp[0].replay);
    assert_true(world_leave(&world, &first));
    world_pass(&world, 500);
    join(&second, ROLE_PUBLISH, 0, 4);
    while (world_heard(&world, 0, MSG_SESSION_DEAD, NULL, 0)) // of others
        ;
    world.out_count = 0;
    for (uint64_t i = 1; i <= 20; i++)
        publish(&second, i, i == 1);
    assert_int_equal(take(&viewer), goes_on ? 20 : 0);
    assert_int_equal(replay_top(&viewer.rtp[0].replay), goes_on ? last + 20 : last);
    world_pass(&world, 1100);
    assert_int_equal(world_heard(&world, 0, MSG_SESSION_DEAD, &dead, sizeof(dead)), !goes_on);
    if (!goes_on)
        assert_int_equal(dead.reason, DEAD_NUMBERS);
    assert_int_equal(conflicts + bad, 0);
    assert_true(world_leave(&world, &viewer));
    assert_true(world_leave(&world, &second));
    close_streams();
    atomic_store(&world.dp.active_groups, 0);
}

static void test_a_publisher_is_replaced_in_a_split(void **state)
{
    replace_publisher(true, 1, true);
    replace_publisher(false, 1, false);
    replace_publisher(false, 0, true); // the partner has never heard of it
}

// `rate` packets a second for `ms`, and so many numbers left out before each. Returns how many
// viewers got, whose numbers in no 400 ms go on farther than what is left free for a partner's.
static unsigned flood(struct client *publisher, uint64_t *index, unsigned rate, unsigned ms,
                      unsigned left_out)
{
    const struct track *track = &tables_stream(&world.workers[0].tables, STREAM_ID)->track[0];
    uint64_t before = world.workers[0].stats->count[COUNT_rtp_out];
    uint64_t marks[16] = {0}, from = world.now_ns;
    for (unsigned i = 0; i < rate / 1000 * ms; i++) {
        world.now_ns = from + (uint64_t)i * 1000000000 / rate;
        *index += left_out + 1;
        publish(publisher, *index, i == 0);
        world.out_count = 0;
        unsigned slice = (unsigned)(world.now_ns / (25 * MS));
        uint64_t *mark = &marks[slice % 16];
        // That of the slice 400 ms before, until the first packet of this one.
        if (*mark >> 32 != slice) {
            if (*mark)
                assert_in_range((uint32_t)track->next_index - (uint32_t)*mark, 0, INDEX_SPARE);
            *mark = (uint64_t)slice << 32 | (uint32_t)track->next_index;
        }
    }
    return (unsigned)(world.workers[0].stats->count[COUNT_rtp_out] - before);
}

// However fast a publisher sends, or leaves numbers out, a partner's unseen packets fit what is
// left free for them. What is too much is dropped by name, and a publisher that cannot be followed
// ends.
static void test_a_publisher_that_goes_on_too_fast(void **state)
{
    struct client publisher, viewer, calm = {0}, other = {0};
    struct msg_session_dead dead;
    uint64_t index = 0, dropped = drops(DROP_rtp_advance);
    open_shared(0);
    world_open_stream(&world, STREAM_ID + 1, 0, 0);
    join(&publisher, ROLE_PUBLISH, 0, 2);
    join(&viewer, ROLE_PLAY, 0, 3);
    world_join(&world, &calm, ROLE_PUBLISH, STREAM_ID + 1, 0, 4, PROFILE_AES128_CM_SHA1_80, false);
    world_join(&world, &other, ROLE_PLAY, STREAM_ID + 1, 0, 5, PROFILE_AES128_CM_SHA1_80, false);
    assert_int_equal(flood(&publisher, &index, 100000, 50, 0), 5000); // a large key frame
    assert_int_equal(flood(&publisher, &index, 11000, 2000, 0), 22000);
    assert_int_equal(drops(DROP_rtp_advance), dropped);
    unsigned got = flood(&publisher, &index, 40000, 500, 0);
    assert_in_range(got, 12000, 11500 + 12000 / 2);
    assert_int_equal(drops(DROP_rtp_advance) - dropped, 20000 - got);
    // Others lose nothing.
    for (uint64_t i = 1; i <= 20; i++)
        publish(&calm, i, i == 1);
    assert_int_equal(take(&other), 20);
    // It is heard again after a pause; and numbers that it leaves out count as if it had sent them.
    world_pass(&world, 1000);
    dropped = drops(DROP_rtp_advance);
    assert_int_equal(flood(&publisher, &index, 1000, 500, 10), 500);
    assert_int_equal(drops(DROP_rtp_advance), dropped);
    while (world_heard(&world, 0, MSG_SESSION_DEAD, NULL, 0))
        ;
    // As fast as before for long, it can never be followed again.
    got = flood(&publisher, &index, 1000, 1000, 100);
    assert_int_equal(drops(DROP_rtp_advance) - dropped, 1000 - got);
    assert_in_range(got, 20, 400);
    world_pass(&world, 1100);
    assert_true(world_heard(&world, 0, MSG_SESSION_DEAD, &dead, sizeof(dead)));
    assert_true(dead.head.id == publisher.id);
    assert_int_equal(dead.reason, DEAD_JUMP);
    struct client *const all[] = {&viewer, &publisher, &other, &calm};
    for (unsigned i = 0; i < 4; i++)
        assert_true(world_leave(&world, all[i]));
    close_streams();
}

// The process ends while it moves viewers to the next publisher's index space: who takes the tables
// up moves those that had not been, and nobody twice.
static void test_an_interrupted_move_is_finished(void **state)
{
    struct client first, second, viewer[2];
    struct tables *tables = &world.workers[0].tables;
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&first, ROLE_PUBLISH, 0, 2);
    join(&viewer[0], ROLE_PLAY, 0, 3);
    join(&viewer[1], ROLE_PLAY, 0, 5);
    for (uint64_t i = 1; i <= 20; i++)
        publish(&first, i, i == 1);
    // take() empties the frames of both.
    for (unsigned v = 0; v < 2; v++)
        replay_commit(&viewer[v].rtp[0].replay,
                      (tables_stream(tables, STREAM_ID)->track[0].next_index - 1 +
                       tables_sub(tables, tables_session(tables, viewer[v].id), 0)->delta) &
                          INDEX_MASK);
    assert_true(world_leave(&world, &first));
    publish_elsewhere(&second);
    world_pass(&world, 300);
    world.out_count = 0;
    struct track *track = &tables_stream(tables, STREAM_ID)->track[0];
    struct sub *late = tables_sub(tables, tables_session(tables, viewer[1].id), 0);
    uint64_t next = track->next_index, delta = late->delta;
    publish(&second, 1, true);
    assert_true(track->next_index >> INDEX_SPACE_BITS != next >> INDEX_SPACE_BITS);
    // As if it had ended between the two: the ring starts empty where the old one ended.
    track->next_index = next;
    late->delta = delta;
    cache_clear(&track->ring, next);
    world.out_count = 0;
    for (uint64_t i = 2; i <= 10; i++)
        publish(&second, i, false);
    for (unsigned v = 0; v < 2; v++) {
        const struct sub *sub = tables_sub(tables, tables_session(tables, viewer[v].id), 0);
        uint64_t behind = ((track->next_index - 1 + sub->delta) & INDEX_MASK) -
                          replay_top(&viewer[v].rtp[0].replay);
        assert_int_equal(behind, v == 0 ? 10 : 9); // the late one has had no first packet
        assert_true(world_leave(&world, &viewer[v]));
    }
    assert_true(world_leave(&world, &second));
    close_streams();
}

// A publisher may change its SSRC and come back to an old one. Whoever recorded packets of the old
// one may not: neither play them to the viewers nor take the layer from the new one.
static void test_a_given_up_ssrc_keeps_its_window(void **state)
{
    struct client publisher, viewer;
    uint8_t old[1600], last[1600], wire[1600];
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&publisher, ROLE_PUBLISH, 0, 2);
    join(&viewer, ROLE_PLAY, 0, 3);
    size_t size = seal_as(&publisher, 111, AUDIO_SSRC, 1, old);
    inject(&publisher, old, size);
    seal_as(&publisher, 111, AUDIO_SSRC, 2, last);
    seal_as(&publisher, 111, AUDIO_SSRC, 3, wire);
    inject(&publisher, wire, size);
    for (uint64_t i = 1; i <= 3; i++) {
        seal_as(&publisher, 111, 0x999, i, wire);
        inject(&publisher, wire, size);
    }
    assert_int_equal(take(&viewer), 5);
    uint64_t replays = drops(DROP_srtp_replay), late = drops(DROP_cache_old);
    inject(&publisher, old, size);
    assert_int_equal(drops(DROP_srtp_replay), replays + 1);
    inject(&publisher, last, size); // new, but late
    assert_int_equal(drops(DROP_cache_old), late + 1);
    assert_int_equal(take(&viewer), 0);
    seal_as(&publisher, 111, 0x999, 4, wire);
    inject(&publisher, wire, size);
    assert_int_equal(take(&viewer), 1);
    seal_as(&publisher, 111, AUDIO_SSRC, 4, wire); // the old one goes on
    inject(&publisher, wire, size);
    assert_int_equal(take(&viewer), 1);
    inject(&publisher, old, size);
    assert_int_equal(drops(DROP_srtp_replay), replays + 2);
    assert_int_equal(conflicts + bad, 0);
    assert_true(world_leave(&world, &viewer));
    assert_true(world_leave(&world, &publisher));
    close_streams();
}

// Viewers were promised the negotiated payload type, and every packet goes out under it.
static void test_other_payload_types_of_a_known_ssrc_go_nowhere(void **state)
{
    struct client publisher, viewer;
    uint8_t wire[1600];
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&publisher, ROLE_PUBLISH, 0, 2);
    join(&viewer, ROLE_PLAY, 0, 3);
    inject(&publisher, wire, seal_as(&publisher, 111, AUDIO_SSRC, 1, wire));
    assert_int_equal(take(&viewer), 1);
    uint64_t unknown = drops(DROP_rtp_unknown_ssrc);
    inject(&publisher, wire, seal_as(&publisher, 13, AUDIO_SSRC, 2, wire)); // comfort noise
    assert_int_equal(drops(DROP_rtp_unknown_ssrc), unknown + 1);
    assert_int_equal(take(&viewer), 0);
    assert_true(world_leave(&world, &viewer));
    assert_true(world_leave(&world, &publisher));
    close_streams();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_late_first_packet_takes_no_used_index),
        cmocka_unit_test(test_viewers_elsewhere_go_on_with_new_numbers),
        cmocka_unit_test(test_two_publishers_in_one_turn),
        cmocka_unit_test(test_a_publisher_changes_in_a_split),
        cmocka_unit_test(test_a_publisher_is_replaced_in_a_split),
        cmocka_unit_test(test_a_publisher_that_goes_on_too_fast),
        cmocka_unit_test(test_an_interrupted_move_is_finished),
        cmocka_unit_test(test_a_given_up_ssrc_keeps_its_window),
        cmocka_unit_test(test_other_payload_types_of_a_known_ssrc_go_nowhere),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
