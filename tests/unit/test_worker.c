// A whole worker, frame in to frame out: the test is the network, the publisher, the viewers and
// the control plane, under a virtual clock. Two workers run in turn on this one thread.
#include "../../dataplane/eal.h"
#include "../../dataplane/rtcp.h"
#include "../../dataplane/worker.h"
#include <rte_ethdev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000000ull
#define FRAMES 4096
#define STREAM_ID ((1ull << 32) | 3)
#define VIDEO_SSRC 0x11111111u
#define AUDIO_SSRC 0x22222222u
#define RTX_SSRC 0x33333333u

static struct abi_config config;
static struct channel control, dataplane;
static struct dataplane dp;
static struct worker workers[2];
static struct protect *crypto; // of the clients
static char dir[64];
static uint64_t now_ns = 1000 * MS;

// What the appliance sent, since the last look.
static struct {
    uint8_t bytes[2048];
    uint16_t length;
    struct parsed parsed;
} out[FRAMES];
static unsigned out_count;

struct client {
    uint64_t id;
    uint32_t worker;
    struct abi_addr addr;
    char ufrag[9], pwd[25];
    struct stun_key key;
    struct protect_tx tx;
    struct protect_rx rx;
    struct protect_rtcp_tx rtcp_tx;
    struct protect_rtcp_rx rtcp_rx;
    struct protect_source rtp[3]; // video, audio, rtx
    struct protect_source rtcp;
    uint32_t rtcp_index;
    uint64_t seq, osn_fixed; // publisher
};

static struct abi_addr ip4(uint8_t last, uint16_t port)
{
    return (struct abi_addr){.ip = {10, 9, 0, last}, .port = port, .family = 4};
}

static void collect(void)
{
    for (unsigned w = 0; w < 2; w++) {
        char name[32];
        void *m;
        snprintf(name, sizeof(name), "port_tx_%u", w);
        struct rte_ring *ring = rte_ring_lookup(name);
        while (rte_ring_dequeue(ring, &m) == 0) {
            assert_in_range(out_count, 0, FRAMES - 1);
            out[out_count].length = rte_pktmbuf_data_len((struct rte_mbuf *)m);
            memcpy(out[out_count].bytes, rte_pktmbuf_mtod((struct rte_mbuf *)m, void *),
                   out[out_count].length);
            assert_int_equal(
                parse_frame(out[out_count].bytes, out[out_count].length, 0, &out[out_count].parsed),
                PARSE_OK);
            assert_true(parse_udp_checksum_ok(out[out_count].bytes, &out[out_count].parsed));
            out_count++;
            rte_pktmbuf_free(m);
        }
    }
}

static void turn(void)
{
    for (int i = 0; i < 3; i++) {
        for (unsigned w = 0; w < 2; w++) {
            workers[w].now_ns = now_ns;
            worker_turn(&workers[w]);
        }
    }
    collect();
}

static void pass_time(uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        now_ns += MS;
        turn();
    }
}

// Puts a UDP datagram on the wire of worker `queue`.
static void inject(unsigned queue, const struct abi_addr *from, uint16_t to_port, const void *data,
                   size_t size)
{
    char name[32];
    snprintf(name, sizeof(name), "port_rx_%u", queue);
    struct rte_mbuf *m = rte_pktmbuf_alloc(eal_worker_pools(queue)->rx);
    assert_non_null(m);
    struct frame_path path = {.src_mac = {2, 0, 0, 0, 0, 9}, .ttl = 64, .src = *from};
    path.dst = config.media4;
    path.dst.port = to_port;
    struct frame_template t;
    frame_template_init(&t, &path);
    uint8_t *frame = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(t.length + size));
    memcpy(frame + t.length, data, size);
    frame_write(&t, frame, size, 0);
    assert_int_equal(rte_ring_enqueue(rte_ring_lookup(name), m), 0);
}

static void tell(uint32_t worker, const void *message)
{
    assert_int_equal(msg_check(message), 0);
    assert_int_equal(channel_send(&control, worker + 1, message), 0);
}

// The next message of this type from a worker; earlier ones are skipped.
static bool heard(uint32_t worker, enum msg_type type, void *copy, size_t size)
{
    const struct msg_head *head;
    bool found = false;
    uint64_t invalid = 0;
    while (!found && (head = channel_peek(&control, worker + 1, &invalid))) {
        assert_int_equal(msg_check(head), 0);
        found = head->type == type;
        if (found && copy)
            memcpy(copy, head, size < head->length ? size : head->length);
        channel_release(&control, worker + 1);
    }
    return found;
}

static void fill_ice(struct client *client, struct msg_ice *ice, const char *name)
{
    snprintf(client->ufrag, sizeof(client->ufrag), "%-8.8s", name);
    snprintf(client->pwd, sizeof(client->pwd), "%.8s0123456789abcdef", name);
    memcpy(ice->ufrag, client->ufrag, 8);
    memcpy(ice->pwd, client->pwd, 24);
    stun_key_init(&client->key, client->pwd, 24);
    ice->remote_ufrag_len = 4;
    ice->remote_pwd_len = 22;
    memcpy(ice->remote_ufrag, "abcd", 4);
    memcpy(ice->remote_pwd, "0123456789012345678901", 22);
}

static struct msg_track video_track(uint32_t ssrc, uint32_t rtx_ssrc)
{
    return (struct msg_track){.kind = KIND_VIDEO,
                              .codec = CODEC_VP8,
                              .pt = 96,
                              .rtx_pt = rtx_ssrc ? 97 : MSG_NO_PT,
                              .clock_rate = 90000,
                              .feedback = FB_NACK | FB_PLI,
                              .layers = 1,
                              .mid = "0",
                              .layer = {{.ssrc = ssrc, .rtx_ssrc = rtx_ssrc}}};
}

static struct msg_track audio_track(uint32_t ssrc)
{
    return (struct msg_track){.kind = KIND_AUDIO,
                              .codec = CODEC_OPUS,
                              .pt = 111,
                              .rtx_pt = MSG_NO_PT,
                              .clock_rate = 48000,
                              .layers = 1,
                              .source = 1,
                              .mid = "1",
                              .hdrext = {[HDREXT_AUDIO_LEVEL] = 1},
                              .layer = {{.ssrc = ssrc}}};
}

static void check_from(struct client *client, const struct abi_addr *from, bool nominate,
                       const struct stun_key *key)
{
    char username[32];
    snprintf(username, sizeof(username), "%.8s:abcd", client->ufrag);
    struct stun_check check = {.username = username,
                               .username_length = strlen(username),
                               .priority = 1,
                               .role = STUN_ROLE_CONTROLLING,
                               .tiebreaker = 7,
                               .use_candidate = nominate};
    uint8_t buffer[256];
    size_t size = stun_write_request(buffer, sizeof(buffer), &check, key);
    inject(client->worker, from, (uint16_t)(config.media4.port + client->worker), buffer, size);
    turn();
}

static void open_stream(uint32_t worker)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .source_worker = 0,
        .tracks = 2,
        .track = {video_track(VIDEO_SSRC, RTX_SSRC), audio_track(AUDIO_SSRC)}};
    open.track[1].source = 0;
    open.track[1].hdrext[HDREXT_AUDIO_LEVEL] = 10;
    tell(worker, &open);
}

// A session with a validated address and keys, as after DTLS.
static void join(struct client *client, enum session_role role, uint32_t worker, uint32_t slot,
                 enum srtp_profile profile, bool rtx)
{
    *client = (struct client){.id = (uint64_t)7 << 32 | slot, .worker = worker};
    client->addr = ip4((uint8_t)(slot + 10), (uint16_t)(40000 + slot + worker * 1000));
    char name[32];
    snprintf(name, sizeof(name), "u%uw%ur%dxxxxx", slot % 10, worker, role);
    struct msg_session_open open = {
        .head = {.type = MSG_SESSION_OPEN, .length = sizeof(open), .id = client->id},
        .stream = STREAM_ID,
        .role = (uint8_t)role,
        .tracks = 2,
        .track = {video_track(role == ROLE_PLAY ? 0x5000 + slot : VIDEO_SSRC, !rtx ? 0
                                                                              : role == ROLE_PLAY
                                                                                  ? 0x6000 + slot
                                                                                  : RTX_SSRC),
                  audio_track(role == ROLE_PLAY ? 0x7000 + slot : AUDIO_SSRC)}};
    if (role == ROLE_PUBLISH)
        open.track[1].source = 0;
    fill_ice(client, &open.ice, name);
    tell(worker, &open);
    turn();
    check_from(client, &client->addr, true, &client->key);
    assert_true(heard(worker, MSG_SESSION_PATH, NULL, 0));
    struct msg_session_keys keys = {
        .head = {.type = MSG_SESSION_KEYS, .length = sizeof(keys), .id = client->id},
        .profile = profile};
    for (size_t i = 0; i < MSG_KEY_MAX; i++) {
        keys.local[i] = (uint8_t)random();
        keys.remote[i] = (uint8_t)random();
    }
    tell(worker, &keys);
    turn();
    protect_tx_init(crypto, &client->tx, profile, keys.remote);
    protect_rx_init(crypto, &client->rx, profile, keys.local);
    protect_rtcp_tx_init(&client->rtcp_tx, profile, keys.remote);
    protect_rtcp_rx_init(&client->rtcp_rx, profile, keys.local);
    client->rtp[0].ssrc = 0x5000 + slot;
    client->rtp[1].ssrc = 0x7000 + slot;
    client->rtp[2].ssrc = 0x6000 + slot;
    out_count = 0;
}

static void leave(struct client *client)
{
    struct msg_session_close close = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(close), .id = client->id}};
    tell(client->worker, &close);
    turn();
    assert_true(heard(client->worker, MSG_SESSION_CLOSED, NULL, 0));
}

// Seals and sends one packet of the publisher; returns the bytes on the wire in `wire`.
static size_t seal(struct client *client, uint32_t ssrc, uint64_t index, bool keyframe,
                   const uint8_t *body, size_t size, uint8_t *wire)
{
    bool video = ssrc == VIDEO_SSRC;
    uint8_t payload[1500] = {0};
    size_t head = 0;
    if (ssrc == RTX_SSRC) {
        memcpy(payload, body, size);
    } else if (video) { // VP8 descriptor: start of partition 0, then the frame header's P bit
        payload[0] = 0x10;
        payload[1] = keyframe ? 0 : 1;
        head = 10;
    }
    if (ssrc != RTX_SSRC)
        memcpy(payload + head, body, size);
    struct rtp_header header = {.pt = ssrc == RTX_SSRC ? 97
                                      : video          ? 96
                                                       : 111,
                                .marker = true,
                                .seq = (uint16_t)index,
                                .timestamp = (uint32_t)(index * 3000),
                                .ssrc = ssrc,
                                .extension = ssrc == AUDIO_SSRC};
    rtp_header_write(wire, &header);
    size_t header_len = RTP_HEADER;
    if (header.extension)
        header_len += rtp_ext_write(wire + RTP_HEADER, 64,
                                    &(struct rtp_ext){10, 1, (const uint8_t *)"\x2a"}, 1);
    struct seal_job job = {.tx = &client->tx,
                           .src = payload,
                           .dst = wire,
                           .header_len = (uint16_t)header_len,
                           .payload_len = (uint16_t)(head + size),
                           .ssrc = ssrc,
                           .index = index};
    protect_seal(crypto, &job, 1);
    return header_len + head + size + protect_tag_len(client->tx.key.profile);
}

static void publish(struct client *client, uint32_t ssrc, uint64_t index, bool keyframe)
{
    uint8_t wire[1600], body[1000];
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(index + i);
    size_t size = seal(client, ssrc, index, keyframe, body, ssrc == AUDIO_SSRC ? 80 : 1000, wire);
    inject(client->worker, &client->addr, config.media4.port, wire, size);
    turn();
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
    for (unsigned i = 0; i < out_count; i++) {
        const struct parsed *parsed = &out[i].parsed;
        if (memcmp(&parsed->dst, &client->addr, sizeof(client->addr)) != 0)
            continue;
        const uint8_t *data = out[i].bytes + parsed->payload;
        uint8_t plain[2048];
        size_t size;
        uint64_t index;
        uint32_t rtcp_index;
        if (parsed->class == CLASS_RTCP) {
            client->rtcp.ssrc = load_be32(data + 4);
            if (protect_rtcp_open(crypto, &client->rtcp_rx, &client->rtcp, data, parsed->length,
                                  plain, &size, &rtcp_index)) {
                got->bad++;
                continue;
            }
            assert_int_equal(rtcp_check(plain, size), 0);
            memcpy(got->rtcp_data[got->rtcp % 16], plain, size);
            got->rtcp_size[got->rtcp++ % 16] = size;
        } else if (parsed->class == CLASS_RTP) {
            uint32_t ssrc = load_be32(data + 8);
            unsigned which = ssrc == client->rtp[0].ssrc ? 0 : ssrc == client->rtp[1].ssrc ? 1 : 2;
            if (protect_open(crypto, &client->rx, &client->rtp[which], data, parsed->length, plain,
                             &size, &index)) {
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

static void send_rtcp(struct client *client, uint8_t *packet, size_t length)
{
    size_t size;
    assert_int_equal(
        protect_rtcp_seal(crypto, &client->rtcp_tx, packet, length, ++client->rtcp_index, &size),
        0);
    inject(client->worker, &client->addr, (uint16_t)(config.media4.port + client->worker), packet,
           size);
    turn();
}

static void send_nack(struct client *client, const uint16_t *seqs, size_t count)
{
    uint8_t packet[512];
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 400, length, 1, client->rtp[0].ssrc, seqs, count);
    send_rtcp(client, packet, length);
}

static uint64_t drops(enum drop what)
{
    return workers[0].stats->drop[what] + workers[1].stats->drop[what];
}

static int setup(void **state)
{
    config = (struct abi_config){.node = "test",
                                 .workers = 2,
                                 .max_sessions = 64,
                                 .max_streams = 8,
                                 .idle = ABI_IDLE_ADAPTIVE,
                                 .crypto = ABI_CRYPTO_IPSEC_MB,
                                 .main_core = -1,
                                 .cores = {-1, -1},
                                 .port_kind = ABI_PORT_RING,
                                 .device = "",
                                 .mtu = 1500,
                                 .media4 = {.ip = {10, 9, 0, 1}, .port = 7000, .family = 4},
                                 .prefix4 = 24,
                                 .rx_mbufs = 2048,
                                 .tx_mbufs = 2048,
                                 .cache_mbufs = 1024,
                                 .nack_policy = ABI_NACK_ALWAYS,
                                 .cache_ms = 1000,
                                 .session_timeout_ms = 30000};
    char why[256] = "";
    bool changed;
    snprintf(dir, sizeof(dir), "/dev/shm/hitless-test-XXXXXX");
    if (!mkdtemp(dir) || channel_create(&control, dir, &config, &changed, why, sizeof(why)) ||
        channel_open(&dataplane, dir, why, sizeof(why)) || eal_start(&config, why, sizeof(why)))
        fail_msg("setup: %s", why);
    dp.config = channel_config(&dataplane);
    dp.channel = &dataplane;
    dp.workers = 2;
    struct rte_mempool *rx[2] = {eal_worker_pools(0)->rx, eal_worker_pools(1)->rx};
    if (port_open(&dp.port, dp.config, rx, why, sizeof(why)) ||
        worker_init(&workers[0], &dp, 0, why, sizeof(why)) ||
        worker_init(&workers[1], &dp, 1, why, sizeof(why)))
        fail_msg("setup: %s", why);
    workers[0].now_ns = workers[1].now_ns = now_ns;
    srandom(1);
    return protect_new(&crypto);
}

static int teardown(void **state)
{
    char command[128];
    for (unsigned w = 0; w < 2; w++)
        worker_free(&workers[w]);
    port_close(&dp.port);
    eal_stop();
    channel_close(&dataplane);
    channel_close(&control);
    protect_free(crypto);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command) == 0 ? 0 : -1;
}

static void test_only_an_authenticated_check_moves_the_path(void **state)
{
    struct client client;
    struct msg_session_path path;
    open_stream(0);
    join(&client, ROLE_PLAY, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    struct abi_addr other = ip4(99, 50000);
    struct stun_key wrong;
    stun_key_init(&wrong, "wrong", 5);
    uint64_t before = drops(DROP_stun_bad_integrity);
    check_from(&client, &other, true, &wrong);
    assert_int_equal(out_count, 0);
    assert_int_equal(drops(DROP_stun_bad_integrity), before + 1);
    assert_false(heard(0, MSG_SESSION_PATH, NULL, 0));
    // Valid but not nominated: answered, media stays where it was.
    check_from(&client, &other, false, &client.key);
    assert_int_equal(out_count, 1);
    assert_int_equal(out[0].parsed.class, CLASS_STUN);
    assert_int_equal(out[0].parsed.dst.port, 50000);
    struct stun_msg answer;
    assert_int_equal(
        stun_parse(out[0].bytes + out[0].parsed.payload, out[0].parsed.length, &answer), 0);
    assert_int_equal(answer.type, STUN_BINDING_SUCCESS);
    assert_true(stun_check_integrity(&answer, &client.key));
    assert_memory_equal(&answer.mapped, &other, sizeof(other));
    assert_false(heard(0, MSG_SESSION_PATH, NULL, 0));
    check_from(&client, &other, true, &client.key);
    assert_true(heard(0, MSG_SESSION_PATH, &path, sizeof(path)));
    assert_memory_equal(&path.remote, &other, sizeof(other));
    leave(&client);
    uint64_t unknown = drops(DROP_stun_unknown_user);
    out_count = 0;
    check_from(&client, &other, true, &client.key);
    assert_int_equal(drops(DROP_stun_unknown_user), unknown + 1);
    assert_int_equal(out_count, 0);
}

static void test_media_reaches_every_viewer(void **state)
{
    struct client publisher, viewer[4];
    struct got got;
    static const enum srtp_profile profiles[] = {
        PROFILE_AEAD_AES_128_GCM, PROFILE_AES128_CM_SHA1_80, PROFILE_AEAD_AES_256_GCM,
        PROFILE_AEAD_AES_128_GCM};
    open_stream(1);
    struct msg_stream_forward forward = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(forward), .id = STREAM_ID},
        .workers = 2};
    tell(0, &forward);
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AES128_CM_SHA1_80, true);
    for (uint32_t v = 0; v < 4; v++) // two on each worker
        join(&viewer[v], ROLE_PLAY, v / 2, 3 + v, profiles[v], v % 2 == 0);
    pass_time(20);
    // Viewers wait: the publisher is asked for a key frame, and gets the question once.
    take(&publisher, &got);
    unsigned asked = 0;
    for (unsigned i = 0; i < got.rtcp; i++)
        for (size_t at = 0; at + 12 <= got.rtcp_size[i]; at += 4)
            asked += got.rtcp_data[i][at] == 0x81 && got.rtcp_data[i][at + 1] == RTCP_PSFB;
    assert_int_equal(asked, 1);
    out_count = 0;

    uint64_t first = 0xfff0; // wraps on the way
    publish(&publisher, VIDEO_SSRC, first, false);
    publish(&publisher, AUDIO_SSRC, 500, false);
    for (unsigned i = 1; i <= 40; i++)
        publish(&publisher, VIDEO_SSRC, first + i, i == 3);
    assert_true(heard(0, MSG_STREAM_STATE, NULL, 0));
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
        out_count = 0;
        memset(&viewer[v].rtp[0].replay, 0, sizeof(viewer[v].rtp[0].replay));
        uint16_t base = (uint16_t)(workers[v / 2].tables.sessions[3 + v].id ? 0 : 0);
        struct sub *sub =
            tables_sub(&workers[v / 2].tables, &workers[v / 2].tables.sessions[3 + v], 0);
        base = (uint16_t)(workers[v / 2].tables.streams[3]->track[0].next_index + sub->delta);
        uint16_t lost[3] = {(uint16_t)(base - 20), (uint16_t)(base - 10), (uint16_t)(base - 9)};
        send_nack(&viewer[v], lost, 3);
        take(&viewer[v], &again);
        assert_int_equal(v % 2 == 0 ? again.rtx : again.video, 3);
        for (int i = 0; i < 3; i++)
            assert_int_equal(v % 2 == 0 ? again.rtx_osn[i] : again.video_seq[i], lost[i]);
        // Asked twice within a round trip: answered once.
        out_count = 0;
        uint64_t repeated = drops(DROP_nack_repeated);
        send_nack(&viewer[v], lost, 3);
        assert_int_equal(drops(DROP_nack_repeated), repeated + 3);
        assert_int_equal(out_count, 0);
    }
    // What no longer exists is counted.
    uint64_t missing = drops(DROP_nack_missing);
    send_nack(&viewer[0], &(uint16_t){30000}, 1);
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
    open_stream(0);
    turn();
    struct msg_session_close close = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(close), .id = publisher.id}};
    tell(0, &close);
    turn();
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    join(&viewer, ROLE_PLAY, 0, 3, PROFILE_AEAD_AES_128_GCM, true);
    for (uint64_t i = 1; i <= 20; i++)
        if (i != 10 && i != 11)
            publish(&publisher, VIDEO_SSRC, i, i == 1);
    take(&viewer, &got);
    assert_int_equal(got.video, 18);
    out_count = 0;
    pass_time(25);
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
    out_count = 0;
    // One comes back as itself, the other by RTX: the viewer gets both in their places.
    publish(&publisher, VIDEO_SSRC, 10, false);
    uint8_t wire[1600], body[1012] = {0, 11, 0x10, 1};
    memset(body + 4, 0x77, sizeof(body) - 4);
    size_t size = seal(&publisher, RTX_SSRC, 1, false, body, sizeof(body), wire);
    inject(0, &publisher.addr, config.media4.port, wire, size);
    turn();
    struct got late;
    take(&viewer, &late);
    assert_int_equal(late.video, 2);
    assert_int_equal(late.bad, 0);
    assert_int_equal((uint16_t)(late.video_seq[1] - late.video_seq[0]), 1);
    assert_int_equal(late.video_mark[1], 0x77);
    assert_int_equal(workers[0].stats->count[COUNT_nack_up_recovered] >= 2, 1);
    // The same again is a duplicate.
    out_count = 0;
    uint64_t before = drops(DROP_cache_duplicate);
    size = seal(&publisher, RTX_SSRC, 2, false, body, sizeof(body), wire);
    inject(0, &publisher.addr, config.media4.port, wire, size);
    turn();
    assert_int_equal(drops(DROP_cache_duplicate), before + 1);
    assert_int_equal(out_count, 0);
    leave(&viewer);
    leave(&publisher);
}

static void test_bad_media_is_dropped_by_name(void **state)
{
    struct client publisher, viewer;
    uint8_t wire[1600], body[100] = {0};
    open_stream(0);
    join(&publisher, ROLE_PUBLISH, 0, 2, PROFILE_AES128_CM_SHA1_80, true);
    join(&viewer, ROLE_PLAY, 0, 3, PROFILE_AES128_CM_SHA1_80, true);
    size_t size = seal(&publisher, VIDEO_SSRC, 100, true, body, sizeof(body), wire);
    inject(0, &publisher.addr, config.media4.port, wire, size);
    turn();
    uint64_t replay = drops(DROP_srtp_replay), auth = drops(DROP_srtp_auth);
    uint64_t path = drops(DROP_rtp_no_path), from_viewer = drops(DROP_rtp_from_viewer);
    uint64_t dtls = drops(DROP_dtls_no_path), ours = drops(DROP_not_ours);
    uint64_t class = drops(DROP_class_unknown), unknown = drops(DROP_rtp_unknown_ssrc);
    out_count = 0;
    inject(0, &publisher.addr, config.media4.port, wire, size);
    turn();
    assert_int_equal(drops(DROP_srtp_replay), replay + 1);
    size = seal(&publisher, VIDEO_SSRC, 101, true, body, sizeof(body), wire);
    wire[40] ^= 1;
    inject(0, &publisher.addr, config.media4.port, wire, size);
    turn();
    assert_int_equal(drops(DROP_srtp_auth), auth + 1);
    struct abi_addr stranger = ip4(200, 1);
    inject(0, &stranger, config.media4.port, wire, size);
    inject(0, &stranger, config.media4.port, "\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\x01\0", 14);
    inject(0, &stranger, config.media4.port, "\x50 is nothing", 12);
    inject(0, &stranger, 9, wire, size);
    inject(0, &viewer.addr, config.media4.port, wire, size);
    turn();
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
    protect_seal(crypto, &job, 1);
    inject(0, &publisher.addr, config.media4.port, wire, 72);
    turn();
    assert_int_equal(drops(DROP_rtp_unknown_ssrc), unknown + 1);
    assert_int_equal(out_count, 0);
    // Media at the wrong worker's queue reaches its owner.
    uint64_t handed = workers[1].stats->count[COUNT_handed_over];
    size = seal(&publisher, VIDEO_SSRC, 102, true, body, sizeof(body), wire);
    inject(1, &publisher.addr, config.media4.port, wire, size);
    turn();
    assert_int_equal(workers[1].stats->count[COUNT_handed_over], handed + 1);
    assert_int_equal(out_count, 1);
    leave(&viewer);
    leave(&publisher);
}

static void test_dtls_goes_up_and_down(void **state)
{
    struct client client;
    struct msg_dtls dtls;
    join(&client, ROLE_PLAY, 1, 5, PROFILE_AEAD_AES_128_GCM, true);
    inject(1, &client.addr, (uint16_t)(config.media4.port + 1), "\x16\xfe\xfdhello", 8);
    turn();
    assert_true(heard(1, MSG_DTLS_RECEIVED, &dtls, sizeof(dtls)));
    assert_int_equal(dtls.size, 8);
    assert_memory_equal(dtls.data, "\x16\xfe\xfdhello", 8);
    assert_true(dtls.head.id == client.id);
    out_count = 0;
    dtls.head.type = MSG_DTLS_SEND;
    tell(1, &dtls);
    turn();
    assert_int_equal(out_count, 1);
    assert_int_equal(out[0].parsed.class, CLASS_DTLS);
    assert_memory_equal(&out[0].parsed.dst, &client.addr, sizeof(client.addr));
    leave(&client);
}

static void test_silence_ends_a_session(void **state)
{
    struct client client;
    struct msg_session_dead dead;
    join(&client, ROLE_PLAY, 0, 6, PROFILE_AEAD_AES_128_GCM, true);
    for (int i = 0; i < 3; i++) {
        for (int step = 0; step < 2800; step++) {
            now_ns += 10 * MS;
            turn();
            out_count = 0;
        }
        check_from(&client, &client.addr, false, &client.key);
        assert_false(heard(0, MSG_SESSION_DEAD, NULL, 0));
    }
    for (int step = 0; step < 3200; step++) {
        now_ns += 10 * MS;
        turn();
    }
    assert_true(heard(0, MSG_SESSION_DEAD, &dead, sizeof(dead)));
    assert_int_equal(dead.reason, DEAD_TIMEOUT);
    leave(&client);
}

static void test_mbufs_all_come_back(void **state)
{
    for (unsigned w = 0; w < 2; w++) {
        struct msg_stream_close close = {
            .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
        tell(w, &close);
    }
    turn();
    for (unsigned w = 0; w < 2; w++) {
        const struct eal_pools *pools = eal_worker_pools(w);
        assert_int_equal(rte_mempool_in_use_count(pools->rx), 0);
        assert_int_equal(rte_mempool_in_use_count(pools->tx), 0);
        assert_int_equal(rte_mempool_in_use_count(pools->cache), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_an_authenticated_check_moves_the_path),
        cmocka_unit_test(test_media_reaches_every_viewer),
        cmocka_unit_test(test_gaps_are_asked_for_and_filled),
        cmocka_unit_test(test_bad_media_is_dropped_by_name),
        cmocka_unit_test(test_dtls_goes_up_and_down),
        cmocka_unit_test(test_silence_ends_a_session),
        cmocka_unit_test(test_mbufs_all_come_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
