// A whole worker, frame in to frame out: the test is the network, the publisher, the viewers and
// the control plane, under a virtual clock. Two workers run in turn on this one thread.
#include "../../dataplane/eal.h"
#include "../../dataplane/fanout.h"
#include "../../dataplane/feedback.h"
#include "../../dataplane/ingest.h"
#include "../../dataplane/rtcp.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct world world;

static struct abi_addr ip4(uint8_t last, uint16_t port)
{
    return (struct abi_addr){.ip = {10, 9, 0, last}, .port = port, .family = 4};
}

static void join(struct client *client, enum session_role role, uint32_t worker, uint32_t slot,
                 enum srtp_profile profile, bool rtx)
{
    client->group = 0;
    world_join(&world, client, role, STREAM_ID, worker, slot, profile, rtx);
}

static void leave(struct client *client)
{
    assert_true(world_leave(&world, client));
}

static void inject(unsigned queue, const struct abi_addr *from, uint16_t to_port, const void *data,
                   size_t size)
{
    world_inject(&world, queue, from, to_port, data, size);
}

static size_t seal(struct client *client, uint32_t ssrc, uint64_t index, bool keyframe,
                   const uint8_t *body, size_t size, uint8_t *wire)
{
    return world_seal(&world, client, ssrc, index, keyframe, body, size, wire);
}

static void publish(struct client *client, uint32_t ssrc, uint64_t index, bool keyframe)
{
    uint8_t wire[1600], body[1000];
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(index + i);
    size_t size = seal(client, ssrc, index, keyframe, body, ssrc == AUDIO_SSRC ? 80 : 1000, wire);
    inject(client->worker, &client->addr, world.config.media4.port, wire, size);
    world_turn(&world);
}

// Opens what went to this client: media packets' (kind, payload byte 20) into lists.
struct got {
    unsigned video, audio, rtx, rtcp, bad;
    uint16_t video_seq[512];
    uint8_t video_mark[512]; // distinguishes packets
    uint16_t rtx_osn[512];
    uint8_t audio_level;
    uint8_t rtcp_data[16][1500];
    size_t rtcp_size[16];
};

static void take(struct client *client, struct got *got)
{
    memset(got, 0, sizeof(*got));
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        if (memcmp(&parsed->dst, &client->addr, sizeof(client->addr)) != 0)
            continue;
        const uint8_t *data = world.out[i].bytes + parsed->payload;
        uint8_t plain[2048];
        size_t size;
        uint64_t index;
        uint32_t rtcp_index;
        if (parsed->class == CLASS_RTCP) {
            client->rtcp.ssrc = load_be32(data + 4);
            if (protect_rtcp_open(world.crypto, &client->rtcp_rx, &client->rtcp, data,
                                  parsed->length, plain, &size, &rtcp_index)) {
                got->bad++;
                continue;
            }
            assert_int_equal(rtcp_check(plain, size), 0);
            memcpy(got->rtcp_data[got->rtcp % 16], plain, size);
            got->rtcp_size[got->rtcp++ % 16] = size;
        } else if (parsed->class == CLASS_RTP) {
            uint32_t ssrc = load_be32(data + 8);
            unsigned which = ssrc == client->rtp[0].ssrc ? 0 : ssrc == client->rtp[1].ssrc ? 1 : 2;
            if (protect_open(world.crypto, &client->rx, &client->rtp[which], data, parsed->length,
                             plain, &size, &index)) {
                got->bad++;
                continue;
            }
            struct rtp_view view;
            assert_int_equal(rtp_parse(plain, size, &view), 0);
            struct rtp_ext ext;
            if (which == 0) {
                got->video_seq[got->video] = view.seq;
                got->video_mark[got->video++] = plain[view.header + 10];
            } else if (which == 1) {
                got->audio++;
                if (rtp_ext_find(&view, 1, &ext))
                    got->audio_level = ext.data[0];
            } else {
                rtp_rtx_osn(&view, &got->rtx_osn[got->rtx++]);
            }
        }
    }
}

static void send_nack(struct client *client, const uint16_t *seqs, size_t count)
{
    uint8_t packet[512];
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 400, length, 1, client->rtp[0].ssrc, seqs, count);
    world_rtcp(&world, client, packet, length);
}

static uint64_t drops(enum drop what)
{
    return world.workers[0].stats->drop[what] + world.workers[1].stats->drop[what];
}

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

static void test_only_an_authenticated_check_moves_the_path(void **state)
{
    struct client client;
    struct msg_session_path path;
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&client, ROLE_PLAY, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    struct abi_addr other = ip4(99, 50000);
    struct stun_key wrong;
    stun_key_init(&wrong, "wrong", 5);
    uint64_t before = drops(DROP_stun_bad_integrity);
    world_check(&world, &client, &other, true, &wrong);
    assert_int_equal(world.out_count, 0);
    assert_int_equal(drops(DROP_stun_bad_integrity), before + 1);
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0));
    // Valid but not nominated: answered, media stays where it was.
    world_check(&world, &client, &other, false, &client.key);
    assert_int_equal(world.out_count, 1);
    assert_int_equal(world.out[0].parsed.class, CLASS_STUN);
    assert_int_equal(world.out[0].parsed.dst.port, 50000);
    struct stun_msg answer;
    assert_int_equal(stun_parse(world.out[0].bytes + world.out[0].parsed.payload,
                                world.out[0].parsed.length, &answer),
                     0);
    assert_int_equal(answer.type, STUN_BINDING_SUCCESS);
    assert_true(stun_check_integrity(&answer, &client.key));
    assert_memory_equal(&answer.mapped, &other, sizeof(other));
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0));
    // Nominated: it has to answer first.
    struct abi_addr asked;
    world_check(&world, &client, &other, true, &client.key);
    assert_false(world_heard(&world, 0, MSG_SESSION_PATH, NULL, 0));
    assert_true(world_asked(&world, &client, &answer, &asked));
    assert_memory_equal(&asked, &other, sizeof(other));
    world_answer(&world, &client, &other, answer.id, WORLD_PWD);
    assert_true(world_heard(&world, 0, MSG_SESSION_PATH, &path, sizeof(path)));
    assert_memory_equal(&path.remote, &other, sizeof(other));
    leave(&client);
    uint64_t unknown = drops(DROP_stun_unknown_user);
    world.out_count = 0;
    world_check(&world, &client, &other, true, &client.key);
    assert_int_equal(drops(DROP_stun_unknown_user), unknown + 1);
    assert_int_equal(world.out_count, 0);
}

static void test_media_reaches_every_viewer(void **state)
{
    struct client publisher, viewer[4];
    struct got got;
    static const enum srtp_profile profiles[] = {
        PROFILE_AEAD_AES_128_GCM, PROFILE_AES128_CM_SHA1_80, PROFILE_AEAD_AES_256_GCM,
        PROFILE_AEAD_AES_128_GCM};
    world_open_stream(&world, STREAM_ID, 1, 0);
    struct msg_stream_forward forward = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(forward), .id = STREAM_ID},
        .workers = 2};
    world_tell(&world, 0, &forward);
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AES128_CM_SHA1_80, true);
    for (uint32_t v = 0; v < 4; v++) // two on each worker
        join(&viewer[v], ROLE_PLAY, v / 2, 3 + v, profiles[v], v % 2 == 0);
    world_pass(&world, 20);
    // Viewers wait: the publisher is asked for a key frame, and gets the question once.
    take(&publisher, &got);
    unsigned asked = 0;
    for (unsigned i = 0; i < got.rtcp; i++)
        for (size_t at = 0; at + 12 <= got.rtcp_size[i]; at += 4)
            asked += got.rtcp_data[i][at] == 0x81 && got.rtcp_data[i][at + 1] == RTCP_PSFB;
    assert_int_equal(asked, 1);
    world.out_count = 0;

    uint64_t first = 0xfff0; // wraps on the way
    publish(&publisher, VIDEO_SSRC, first, false);
    publish(&publisher, AUDIO_SSRC, 500, false);
    for (unsigned i = 1; i <= 40; i++)
        publish(&publisher, VIDEO_SSRC, first + i, i == 3);
    assert_true(world_heard(&world, 0, MSG_STREAM_STATE, NULL, 0));
    for (uint32_t v = 0; v < 4; v++) {
        take(&viewer[v], &got);
        assert_int_equal(got.bad, 0);
        assert_int_equal(got.video, 38); // from the key frame on
        assert_int_equal(got.audio, 1);
        assert_int_equal(got.audio_level, 0x2a); // under the viewer's id
        for (unsigned i = 0; i < got.video; i++) {
            assert_int_equal(got.video_seq[i], (uint16_t)(got.video_seq[0] + i));
            assert_int_equal(got.video_mark[i], (uint8_t)(first + 3 + i));
        }
        assert_in_range(got.video_seq[0], 0, 0x7fff);
    }
    // A viewer asks again: RTX where negotiated, else the same packet; both carry what was lost.
    for (uint32_t v = 0; v < 4; v++) {
        struct got again;
        take(&viewer[v], &got); // replays: all refused, so nothing new is learnt
        world.out_count = 0;
        memset(&viewer[v].rtp[0].replay, 0, sizeof(viewer[v].rtp[0].replay));
        struct sub *sub = tables_sub(&world.workers[v / 2].tables,
                                     &world.workers[v / 2].tables.sessions[3 + v], 0);
        uint16_t base =
            (uint16_t)(world.workers[v / 2].tables.streams[3]->track[0].next_index + sub->delta);
        uint16_t lost[3] = {(uint16_t)(base - 20), (uint16_t)(base - 10), (uint16_t)(base - 9)};
        send_nack(&viewer[v], lost, 3);
        take(&viewer[v], &again);
        assert_int_equal(v % 2 == 0 ? again.rtx : again.video, 3);
        for (int i = 0; i < 3; i++)
            assert_int_equal(v % 2 == 0 ? again.rtx_osn[i] : again.video_seq[i], lost[i]);
        // Asked twice within a round trip: answered once.
        world.out_count = 0;
        uint64_t repeated = drops(DROP_nack_repeated);
        send_nack(&viewer[v], lost, 3);
        assert_int_equal(drops(DROP_nack_repeated), repeated + 3);
        assert_int_equal(world.out_count, 0);
    }
    // What does not exist is counted. (A fixed number would now and then be one that does.)
    uint64_t missing = drops(DROP_nack_missing);
    const struct tables *tables = &world.workers[0].tables;
    uint64_t next = tables->streams[3]->track[0].next_index;
    uint16_t none = (uint16_t)(next + tables_sub(tables, &tables->sessions[3], 0)->delta + 20000);
    send_nack(&viewer[0], &none, 1);
    assert_int_equal(drops(DROP_nack_missing), missing + 1);
    for (uint32_t v = 0; v < 4; v++)
        leave(&viewer[v]);
    leave(&publisher);
}

static void test_gaps_are_asked_for_and_filled(void **state)
{
    struct client publisher, viewer;
    struct got got;
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    // The stream of the earlier test goes on with a new publisher: same id, new numbers.
    world_open_stream(&world, STREAM_ID, 0, 0);
    world_turn(&world);
    struct msg_session_close close = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(close), .id = publisher.id}};
    world_tell(&world, 0, &close);
    world_turn(&world);
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    join(&viewer, ROLE_PLAY, 0, 3, PROFILE_AEAD_AES_128_GCM, true);
    for (uint64_t i = 1; i <= 20; i++)
        if (i != 10 && i != 11)
            publish(&publisher, VIDEO_SSRC, i, i == 1);
    take(&viewer, &got);
    assert_int_equal(got.video, 18);
    world.out_count = 0;
    world_pass(&world, 25);
    take(&publisher, &got);
    unsigned nacked = 0;
    for (unsigned i = 0; i < got.rtcp; i++) {
        struct rtcp_iter iter;
        struct rtcp_packet packet;
        struct rtcp_nack_iter nack;
        uint16_t seq;
        rtcp_begin(&iter, got.rtcp_data[i], got.rtcp_size[i]);
        while (rtcp_next(&iter, &packet) == 1)
            if (rtcp_nack_begin(&nack, &packet))
                while (rtcp_nack_next(&nack, &seq)) {
                    assert_in_range(seq, 10, 11);
                    nacked++;
                }
    }
    assert_int_equal(nacked, 2);
    world.out_count = 0;
    // One comes back as itself, the other by RTX: the viewer gets both in their places.
    publish(&publisher, VIDEO_SSRC, 10, false);
    uint8_t wire[1600], body[1012] = {0, 11, 0x10, 1};
    memset(body + 4, 0x77, sizeof(body) - 4);
    size_t size = seal(&publisher, RTX_SSRC, 1, false, body, sizeof(body), wire);
    inject(0, &publisher.addr, world.config.media4.port, wire, size);
    world_turn(&world);
    struct got late;
    take(&viewer, &late);
    assert_int_equal(late.video, 2);
    assert_int_equal(late.bad, 0);
    assert_int_equal((uint16_t)(late.video_seq[1] - late.video_seq[0]), 1);
    assert_int_equal(late.video_mark[1], 0x77);
    assert_int_equal(world.workers[0].stats->count[COUNT_nack_up_recovered] >= 2, 1);
    // The same again is a duplicate.
    world.out_count = 0;
    uint64_t before = drops(DROP_cache_duplicate);
    size = seal(&publisher, RTX_SSRC, 2, false, body, sizeof(body), wire);
    inject(0, &publisher.addr, world.config.media4.port, wire, size);
    world_turn(&world);
    assert_int_equal(drops(DROP_cache_duplicate), before + 1);
    assert_int_equal(world.out_count, 0);
    leave(&viewer);
    leave(&publisher);
}

static void test_bad_media_is_dropped_by_name(void **state)
{
    struct client publisher, viewer;
    uint8_t wire[1600], body[100] = {0};
    world_open_stream(&world, STREAM_ID, 0, 0);
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AES128_CM_SHA1_80, true);
    join(&viewer, ROLE_PLAY, 0, 3, PROFILE_AES128_CM_SHA1_80, true);
    size_t size = seal(&publisher, VIDEO_SSRC, 100, true, body, sizeof(body), wire);
    inject(0, &publisher.addr, world.config.media4.port, wire, size);
    world_turn(&world);
    uint64_t replay = drops(DROP_srtp_replay), auth = drops(DROP_srtp_auth);
    uint64_t path = drops(DROP_rtp_no_path), from_viewer = drops(DROP_rtp_from_viewer);
    uint64_t dtls = drops(DROP_dtls_no_path), ours = drops(DROP_not_ours);
    uint64_t class = drops(DROP_class_unknown), unknown = drops(DROP_rtp_unknown_ssrc);
    world.out_count = 0;
    inject(0, &publisher.addr, world.config.media4.port, wire, size);
    world_turn(&world);
    assert_int_equal(drops(DROP_srtp_replay), replay + 1);
    size = seal(&publisher, VIDEO_SSRC, 101, true, body, sizeof(body), wire);
    wire[40] ^= 1;
    inject(0, &publisher.addr, world.config.media4.port, wire, size);
    world_turn(&world);
    assert_int_equal(drops(DROP_srtp_auth), auth + 1);
    struct abi_addr stranger = ip4(200, 1);
    inject(0, &stranger, world.config.media4.port, wire, size);
    inject(0, &stranger, world.config.media4.port, "\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\x01\0", 14);
    inject(0, &stranger, world.config.media4.port, "\x50 is nothing", 12);
    inject(0, &stranger, 9, wire, size);
    inject(0, &viewer.addr, world.config.media4.port, wire, size);
    world_turn(&world);
    assert_int_equal(drops(DROP_rtp_no_path), path + 1);
    assert_int_equal(drops(DROP_dtls_no_path), dtls + 1);
    assert_int_equal(drops(DROP_class_unknown), class + 1);
    assert_int_equal(drops(DROP_not_ours), ours + 1);
    assert_int_equal(drops(DROP_rtp_from_viewer), from_viewer + 1);
    // Authentic, but of a payload type that was never negotiated.
    struct rtp_header header = {.pt = 50, .seq = 1, .ssrc = 0x999};
    rtp_header_write(wire, &header);
    struct seal_job job = {.tx = &publisher.tx,
                           .src = body,
                           .dst = wire,
                           .header_len = 12,
                           .payload_len = 50,
                           .ssrc = 0x999,
                           .index = 1};
    protect_seal(world.crypto, &job, 1);
    inject(0, &publisher.addr, world.config.media4.port, wire, 72);
    world_turn(&world);
    assert_int_equal(drops(DROP_rtp_unknown_ssrc), unknown + 1);
    assert_int_equal(world.out_count, 0);
    // Media at the wrong worker's queue reaches its owner.
    uint64_t handed = world.workers[1].stats->count[COUNT_handed_over];
    size = seal(&publisher, VIDEO_SSRC, 102, true, body, sizeof(body), wire);
    inject(1, &publisher.addr, world.config.media4.port, wire, size);
    world_turn(&world);
    assert_int_equal(world.workers[1].stats->count[COUNT_handed_over], handed + 1);
    assert_int_equal(world.out_count, 1);
    leave(&viewer);
    leave(&publisher);
}

static void test_dtls_goes_up_and_down(void **state)
{
    struct client client;
    struct msg_dtls dtls;
    join(&client, ROLE_PLAY, 1, 5, PROFILE_AEAD_AES_128_GCM, true);
    inject(1, &client.addr, (uint16_t)(world.config.media4.port + 1), "\x16\xfe\xfdhello", 8);
    world_turn(&world);
    assert_true(world_heard(&world, 1, MSG_DTLS_RECEIVED, &dtls, sizeof(dtls)));
    assert_int_equal(dtls.size, 8);
    assert_memory_equal(dtls.data, "\x16\xfe\xfdhello", 8);
    assert_true(dtls.head.id == client.id);
    world.out_count = 0;
    dtls.head.type = MSG_DTLS_SEND;
    world_tell(&world, 1, &dtls);
    world_turn(&world);
    assert_int_equal(world.out_count, 1);
    assert_int_equal(world.out[0].parsed.class, CLASS_DTLS);
    assert_memory_equal(&world.out[0].parsed.dst, &client.addr, sizeof(client.addr));
    leave(&client);
}

// Who floods the channel with DTLS is cut off; others are not.
static void test_a_flood_of_dtls_is_bounded(void **state)
{
    struct client flooder, other;
    struct msg_dtls dtls;
    unsigned passed = 0;
    uint16_t port = (uint16_t)(world.config.media4.port + 1);
    join(&flooder, ROLE_PLAY, 1, 5, PROFILE_AEAD_AES_128_GCM, true);
    join(&other, ROLE_PLAY, 1, 6, PROFILE_AEAD_AES_128_GCM, true);
    uint64_t before = drops(DROP_dtls_budget);
    for (unsigned i = 0; i < 200; i++) {
        inject(1, &flooder.addr, port, "\x16\xfe\xfdhello", 8);
        world_turn(&world);
        passed += world_heard(&world, 1, MSG_DTLS_RECEIVED, NULL, 0);
    }
    assert_int_equal(passed, 64);
    assert_int_equal(drops(DROP_dtls_budget), before + 136);
    inject(1, &other.addr, port, "\x16\xfe\xfdhello", 8);
    world_turn(&world);
    assert_true(world_heard(&world, 1, MSG_DTLS_RECEIVED, &dtls, sizeof(dtls)));
    assert_true(dtls.head.id == other.id);
    // Twenty a second come back.
    world_pass(&world, 1001);
    for (passed = 0; passed < 100; passed++) {
        inject(1, &flooder.addr, port, "\x16\xfe\xfdhello", 8);
        world_turn(&world);
        if (!world_heard(&world, 1, MSG_DTLS_RECEIVED, NULL, 0))
            break;
    }
    assert_in_range(passed, 20, 21);
    leave(&flooder);
    leave(&other);
}

// The dataplane dies and comes back: same keys, same numbers, nothing renegotiated.
static void test_a_successor_goes_on(void **state)
{
    struct client publisher, viewer[2];
    struct got before, after;
    world_open_stream(&world, STREAM_ID, 0, 0);
    world_open_stream(&world, STREAM_ID, 1, 0);
    struct msg_stream_forward forward = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(forward), .id = STREAM_ID},
        .workers = 2};
    world_tell(&world, 0, &forward);
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    join(&viewer[0], ROLE_PLAY, 0, 3, PROFILE_AEAD_AES_128_GCM, true);
    join(&viewer[1], ROLE_PLAY, 1, 4, PROFILE_AES128_CM_SHA1_80, false);
    for (uint64_t i = 1; i <= 10; i++)
        publish(&publisher, VIDEO_SSRC, i, i == 1);
    uint16_t last[2];
    for (int v = 0; v < 2; v++) {
        take(&viewer[v], &before);
        assert_int_equal(before.video, 10);
        last[v] = before.video_seq[9];
    }
    uint16_t lost = (uint16_t)(last[0] - 2);
    send_nack(&viewer[0], &lost, 1);
    world_restart(&world);
    world.out_count = 0;
    // Two packets went by unheard; the publisher is asked for them.
    for (uint64_t i = 13; i <= 15; i++)
        publish(&publisher, VIDEO_SSRC, i, false);
    publish(&publisher, VIDEO_SSRC, 11, false);
    for (int v = 0; v < 2; v++) {
        take(&viewer[v], &after);
        assert_int_equal(after.bad, 0);
        assert_int_equal(after.video, 4);
        assert_int_equal(after.video_seq[0], (uint16_t)(last[v] + 3));
        assert_int_equal(after.video_seq[3], (uint16_t)(last[v] + 1));
    }
    world_pass(&world, 30);
    assert_true(world.workers[0].stats->count[COUNT_nack_up] >= 1);
    // Checks, feedback and retransmissions go on too: no RTX index is used twice.
    world.out_count = 0;
    world_check(&world, &viewer[0], &viewer[0].addr, false, &viewer[0].key);
    assert_int_equal(world.out[0].parsed.class, CLASS_STUN);
    world.out_count = 0;
    lost = (uint16_t)(last[0] + 4);
    send_nack(&viewer[0], &lost, 1);
    take(&viewer[0], &after);
    assert_int_equal(after.rtx, 1);
    assert_int_equal(after.bad, 0);
    // What a client sent before cannot be played to the successor.
    uint64_t replays = drops(DROP_srtp_replay);
    publish(&publisher, VIDEO_SSRC, 9, false);
    assert_int_equal(drops(DROP_srtp_replay), replays + 1);
    leave(&viewer[0]);
    leave(&viewer[1]);
    leave(&publisher);
}

// Worker 0 stalls in the midst of a turn: a packet and a repeated one are sealed and not sent.
static struct rte_mbuf *stall_in_mid_turn(struct client *publisher, struct client *viewer,
                                          uint16_t lost)
{
    struct worker *worker = &world.workers[0];
    uint8_t wire[1600], body[1000] = {0}, packet[512];
    size_t size = seal(publisher, VIDEO_SSRC, 11, false, body, sizeof(body), wire);
    struct rte_mbuf *m =
        ingest_rtp(worker, tables_session(&worker->tables, publisher->id), wire, size);
    assert_non_null(m);
    struct stream *stream = tables_stream(&worker->tables, STREAM_ID);
    const struct media *media = media_of(m);
    struct fan_group group = {.track = &stream->track[0], .packets = &media, .count = 1};
    assert_int_equal(fanout_run(worker, &group, 1), 1);
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 400, length, 1, viewer->rtp[0].ssrc, &lost, 1);
    assert_int_equal(protect_rtcp_seal(world.crypto, &viewer->rtcp_tx, packet, length,
                                       ++viewer->rtcp_index, &size),
                     0);
    feedback_rtcp(worker, tables_session(&worker->tables, viewer->id), packet, size);
    assert_int_equal(worker->tx_count, 1);
    feedback_answer(worker);
    assert_int_equal(worker->tx_count, 2);
    return m;
}

// What it does when it wakes up reaches nobody, and changes nothing for its successor.
static void wake(struct worker *ghost, const struct client *viewer)
{
    struct msg_session_media message = {
        .head = {.type = MSG_SESSION_MEDIA, .length = sizeof(message), .id = viewer->id}};
    uint64_t moved = drops(DROP_worker_moved);
    tables_sender(&ghost->tables, tables_session(&ghost->tables, viewer->id))->sub[0].rtx_index = 1;
    assert_int_equal(worker_tell(ghost, &message), -EPERM);
    worker_flush(ghost);
    assert_int_equal(drops(DROP_worker_moved), moved + 2);
    assert_false(worker_turn(ghost));
    world_turn(&world);
    assert_int_equal(world.out_count, 0);
    assert_false(world_heard(&world, 0, MSG_SESSION_MEDIA, NULL, 0));
}

static void test_a_stalled_worker_is_replaced(void **state)
{
    struct client publisher, viewer[2];
    struct got got;
    uint16_t last[2], lost;
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    join(&viewer[0], ROLE_PLAY, 0, 3, PROFILE_AEAD_AES_128_GCM, true);
    join(&viewer[1], ROLE_PLAY, 1, 4, PROFILE_AES128_CM_SHA1_80, false);
    for (uint64_t i = 1; i <= 10; i++)
        publish(&publisher, VIDEO_SSRC, i, i == 1);
    for (int v = 0; v < 2; v++) {
        take(&viewer[v], &got);
        assert_int_equal(got.video, 10);
        last[v] = got.video_seq[9];
    }
    lost = (uint16_t)(last[0] - 2);
    struct rte_mbuf *m = stall_in_mid_turn(&publisher, &viewer[0], lost);
    uint64_t taken = tables_sender(&world.workers[0].tables,
                                   tables_session(&world.workers[0].tables, viewer[0].id))
                         ->sub[0]
                         .rtx_index;
    world.out_count = 0;
    struct worker *ghost = world_move(&world, 0);
    while (world_heard(&world, 0, MSG_SESSION_MEDIA, NULL, 0))
        ;
    wake(ghost, &viewer[0]);
    // The next packets: everybody's numbers go on behind the one that was never sent.
    for (uint64_t i = 12; i <= 14; i++)
        publish(&publisher, VIDEO_SSRC, i, false);
    for (int v = 0; v < 2; v++) {
        take(&viewer[v], &got);
        assert_int_equal(got.bad, 0);
        assert_int_equal(got.video, 3);
        assert_int_equal(got.video_seq[0], (uint16_t)(last[v] + 2));
    }
    // An RTX index that was taken and never sent is not taken again.
    world.out_count = 0;
    lost = (uint16_t)(last[0] + 3);
    send_nack(&viewer[0], &lost, 1);
    take(&viewer[0], &got);
    assert_int_equal(got.rtx, 1);
    assert_true(replay_top(&viewer[0].rtp[2].replay) == taken);
    // What it had mapped is no longer what the next process finds.
    world_restart(&world);
    world.out_count = 0;
    publish(&publisher, VIDEO_SSRC, 15, false);
    take(&viewer[0], &got);
    assert_int_equal(got.video, 1);
    assert_int_equal(got.video_seq[0], (uint16_t)(last[0] + 5));
    rte_pktmbuf_free(m);
    worker_free(ghost);
    free(ghost);
    leave(&viewer[0]);
    leave(&viewer[1]);
    leave(&publisher);
}

static void test_silence_ends_a_session(void **state)
{
    struct client client;
    struct msg_session_dead dead;
    join(&client, ROLE_PLAY, 0, 6, PROFILE_AEAD_AES_128_GCM, true);
    for (int i = 0; i < 3; i++) {
        for (int step = 0; step < 2800; step++) {
            world.now_ns += 10 * MS;
            world_turn(&world);
            world.out_count = 0;
        }
        world_check(&world, &client, &client.addr, false, &client.key);
        assert_false(world_heard(&world, 0, MSG_SESSION_DEAD, NULL, 0));
    }
    for (int step = 0; step < 3200; step++) {
        world.now_ns += 10 * MS;
        world_turn(&world);
    }
    assert_true(world_heard(&world, 0, MSG_SESSION_DEAD, &dead, sizeof(dead)));
    assert_int_equal(dead.reason, DEAD_TIMEOUT);
    leave(&client);
}

static void test_mbufs_all_come_back(void **state)
{
    for (unsigned w = 0; w < 2; w++) {
        struct msg_stream_close close = {
            .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
        world_tell(&world, w, &close);
    }
    world_turn(&world);
    assert_int_equal(world_packets_out(&world), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_an_authenticated_check_moves_the_path),
        cmocka_unit_test(test_media_reaches_every_viewer),
        cmocka_unit_test(test_gaps_are_asked_for_and_filled),
        cmocka_unit_test(test_bad_media_is_dropped_by_name),
        cmocka_unit_test(test_dtls_goes_up_and_down),
        cmocka_unit_test(test_a_flood_of_dtls_is_bounded),
        cmocka_unit_test(test_a_successor_goes_on),
        cmocka_unit_test(test_a_stalled_worker_is_replaced),
        cmocka_unit_test(test_silence_ends_a_session),
        cmocka_unit_test(test_mbufs_all_come_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
