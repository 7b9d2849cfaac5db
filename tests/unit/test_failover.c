// Two nodes, one session: both dataplanes in one process under a virtual clock, a shared wire, a
// publisher and a viewer that know one address only. Every packet that leaves is recorded: no
// (key, SSRC, index) may ever stand for two different packets (design.md, invariants).
#include "../../dataplane/failover.h"
#include "../../dataplane/ingest.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define RECORDS 65536
#define TRUNK_ID 0x7777

static struct world node[2]; // a, b
static bool alive[2], cut;   // cut: the path between the nodes only
static bool deaf;            // nothing reaches the viewer
static uint64_t now = 1000 * MS;
static struct client publisher, viewer;

// What clients have received.
static unsigned video, video_bad, duplicates, conflicts, rtx;
static uint16_t last_seq;
static uint64_t last_published;
static unsigned announced[2]; // addresses that b said are its own now, IPv4 and IPv6
static uint8_t last_mac[6];   // of the sender of the viewer's last packet
static struct {
    uint64_t index;
    uint32_t ssrc, hash;
    uint8_t node;
} records[RECORDS];
static unsigned record_count;

static uint32_t hash_of(const uint8_t *data, size_t size)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * 16777619u;
    return hash;
}

// The audit: same index, other bytes, is a conflict whoever sent it.
static void audit(uint32_t ssrc, uint64_t index, const uint8_t *data, size_t size, uint8_t from)
{
    uint32_t hash = hash_of(data, size);
    for (unsigned i = 0; i < record_count; i++) {
        if (records[i].ssrc != ssrc || records[i].index != index)
            continue;
        duplicates++;
        conflicts += records[i].hash != hash;
        return;
    }
    assert_in_range(record_count, 0, RECORDS - 1);
    records[record_count].index = index;
    records[record_count].ssrc = ssrc;
    records[record_count].hash = hash;
    records[record_count++].node = from;
}

static void viewer_takes(const struct world_frame *frame, uint8_t from)
{
    const uint8_t *data = frame->bytes + frame->parsed.payload;
    uint8_t plain[2048];
    size_t size;
    uint64_t index;
    uint32_t rtcp_index;
    memcpy(last_mac, frame->bytes + 6, 6);
    if (frame->parsed.class == CLASS_RTCP) {
        struct protect_rtcp_source source = {.ssrc = load_be32(data + 4)};
        int rc = protect_rtcp_open(node[0].crypto, &viewer.rtcp_rx, &source, data,
                                   frame->parsed.length, plain, &size, &rtcp_index);
        assert_int_equal(rc, 0);
        audit(source.ssrc ^ 0x80000000, rtcp_index, data, frame->parsed.length, from);
        return;
    }
    if (frame->parsed.class != CLASS_RTP)
        return;
    uint32_t ssrc = load_be32(data + 8);
    unsigned which = ssrc == viewer.rtp[0].ssrc ? 0 : ssrc == viewer.rtp[1].ssrc ? 1 : 2;
    int rc = protect_open(node[0].crypto, &viewer.rx, &viewer.rtp[which], data,
                          frame->parsed.length, plain, &size, &index);
    if (rc == -EALREADY) { // the same packet again is no news; another one under its index is
        uint16_t seq = load_be16(data + 2);
        index = rtp_nearest_seq(replay_top(&viewer.rtp[which].replay), seq);
        audit(ssrc, index, data, frame->parsed.length, from);
        return;
    }
    audit(ssrc, index, data, frame->parsed.length, from);
    video_bad += rc != 0;
    if (rc || which == 1)
        return;
    if (which == 2) {
        rtx++;
        return;
    }
    video++;
    last_seq = load_be16(data + 2);
}

// Whether the viewer's source has received it.
static bool came(uint64_t seq)
{
    struct replay copy = viewer.rtp[0].replay;
    return replay_check(&copy, rtp_nearest_seq(replay_top(&copy), (uint16_t)seq)) == -EALREADY;
}

// Gratuitous ARP (RFC 5227 3) and unsolicited neighbour advertisement (RFC 4861 7.2.6).
static void note_announcement(const struct world_frame *frame)
{
    static const uint8_t arp[] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1}, nd[] = {0x86, 0xdd};
    static const uint8_t all_nodes[6] = {0x33, 0x33, 0, 0, 0, 1};
    const uint8_t *b = frame->bytes, *mac = node[1].dp.port.mac.addr_bytes;
    const uint8_t *ip4 = node[0].config.media4.ip, *ip6 = node[0].config.media6.ip;
    if (memcmp(b + 12, arp, sizeof(arp)) == 0 && memcmp(b + 28, ip4, 4) == 0 &&
        memcmp(b + 38, ip4, 4) == 0 && memcmp(b + 22, mac, 6) == 0)
        announced[0]++;
    // ICMPv6 136 to all nodes, not solicited, overriding, with the target and its new link address.
    if (memcmp(b + 12, nd, 2) == 0 && memcmp(b, all_nodes, 6) == 0 && b[20] == 58 && b[54] == 136 &&
        b[58] == 0x20 && memcmp(b + 22, ip6, 16) == 0 && memcmp(b + 62, ip6, 16) == 0 &&
        b[78] == 2 && memcmp(b + 80, mac, 6) == 0)
        announced[1]++;
}

// A switch that knows MAC addresses: unicast to its owner, the rest to everybody.
static void deliver(uint8_t from, const struct world_frame *frame)
{
    if (from == 1)
        note_announcement(frame);
    for (uint8_t to = 0; to < 2; to++) {
        bool mine = memcmp(frame->bytes, &node[to].dp.port.mac, 6) == 0 || (frame->bytes[0] & 1);
        if (to != from && alive[to] && mine && !cut)
            world_inject_frame(&node[to], 0, frame->bytes, frame->length);
    }
    if (!deaf && memcmp(&frame->parsed.dst, &viewer.addr, sizeof(viewer.addr)) == 0)
        viewer_takes(frame, from);
}

static void turn(void)
{
    for (uint8_t n = 0; n < 2; n++) {
        if (!alive[n])
            continue;
        node[n].now_ns = now;
        world_turn(&node[n]);
        for (unsigned i = 0; i < node[n].out_count; i++)
            deliver(n, &node[n].out[i]);
        node[n].out_count = 0;
    }
}

static void pass(uint64_t ms)
{
    for (uint64_t i = 0; i < ms * 2; i++) {
        now += MS / 2;
        turn();
    }
}

// The publisher knows only a's address; whoever has taken it gets the packets.
static void publish(uint64_t index, bool keyframe)
{
    uint8_t wire[1600], body[600];
    memset(body, (int)index, sizeof(body));
    size_t size =
        world_seal(&node[0], &publisher, VIDEO_SSRC, index, keyframe, body, sizeof(body), wire);
    for (uint8_t n = 0; n < 2; n++)
        if (alive[n] && (n == 0 || atomic_load(&node[1].dp.taken)) &&
            !(n == 0 && alive[1] && atomic_load(&node[1].dp.taken)))
            world_inject(&node[n], 0, &publisher.addr, 7000, wire, size);
    last_published = index;
    now += MS;
    turn();
}

static void tell(uint8_t n, void *message)
{
    world_tell(&node[n], 0, message);
}

// What the control planes do: keys for the trunk, groups, and news of numbers and paths.
static void introduce(uint8_t n)
{
    uint8_t other = 1 - n;
    struct msg_peer peer = world_partner(&node[other].config.media4, n, other);
    tell(n, &peer);
}

static void set_group(uint8_t n, uint32_t term, enum group_role role, bool home)
{
    struct msg_group group = {.head = {.type = MSG_GROUP, .length = sizeof(group), .id = 1},
                              .term = term,
                              .role = (uint8_t)role,
                              .takeover = 1,
                              .home = home,
                              .take4 = node[0].config.media4,
                              .take6 = node[0].config.media6};
    tell(n, &group);
}

static void open_stream(uint8_t n)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 2,
        .group = 1,
        .peers = n == 0 ? 1 : 0,
        .trunk_id = TRUNK_ID,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    tell(n, &open);
}

// Copies to b what a's dataplane said of its sessions since, as replication does.
static void replicate(void)
{
    struct msg_session_numbers numbers;
    const struct client *clients[] = {&publisher, &viewer};
    while (world_heard(&node[0], 0, MSG_SESSION_NUMBERS, &numbers, sizeof(numbers))) {
        struct msg_session_adopt adopt = {
            .head = {.type = MSG_SESSION_ADOPT, .length = sizeof(adopt), .id = numbers.head.id},
            .numbers = numbers.numbers};
        tell(1, &adopt);
        tell(0, &adopt); // the partner knows
    }
    for (int i = 0; i < 2; i++) {
        struct msg_session_adopt adopt = {
            .head = {.type = MSG_SESSION_ADOPT, .length = sizeof(adopt), .id = clients[i]->id},
            .remote = clients[i]->addr,
            .local = node[0].config.media4,
            .mac = {2, 0, 0, 0, 0, 9}};
        tell(1, &adopt);
    }
    turn();
}

static int setup(void **state)
{
    struct abi_config config = {.workers = 1,
                                .max_sessions = 128,
                                .rx_mbufs = 4096,
                                .tx_mbufs = 4096,
                                .cache_mbufs = 2048,
                                .own_l3 = 1,
                                .bfd = 1,
                                .media4 = {.ip = {10, 9, 0, 1}, .port = 7000, .family = 4},
                                .media6 = {.ip = {0xfd, [15] = 1}, .port = 7000, .family = 6}};
    snprintf(config.device, sizeof(config.device), "nodea");
    config.take4 = config.media4;
    config.take4.ip[3] = 2;
    if (world_start(&node[0], &config))
        return -1;
    snprintf(config.device, sizeof(config.device), "nodeb");
    config.take4 = config.media4;
    config.take6 = config.media6;
    config.media4.ip[3] = 2;
    config.media6.ip[15] = 2;
    if (world_start_node(&node[1], &config))
        return -1;
    // Ring ports have no addresses of their own.
    for (int n = 0; n < 2; n++) {
        node[n].dp.port.mac.addr_bytes[0] = 2;
        node[n].dp.port.mac.addr_bytes[5] = (uint8_t)(n + 1);
        node[n].workers[0].self.mac[0] = 2;
        node[n].workers[0].self.mac[5] = (uint8_t)(n + 1);
        memset(node[n].workers[0].self.mac + 1, 0, 4);
        memset(node[n].dp.port.mac.addr_bytes + 1, 0, 4);
    }
    return 0;
}

static int teardown(void **state)
{
    world_stop_node(&node[1]);
    world_stop(&node[0]);
    return 0;
}

static void form_pair(void)
{
    alive[0] = alive[1] = true;
    cut = false;
    for (uint8_t n = 0; n < 2; n++)
        introduce(n);
    set_group(0, 2, GROUP_ACTIVE, true);
    set_group(1, 2, GROUP_STANDBY, false);
    for (uint8_t n = 0; n < 2; n++)
        open_stream(n);
    pass(3000);
    assert_int_equal(node[0].workers[0].watches[0].bfd.state, BFD_UP);
    assert_int_equal(node[1].workers[0].watches[0].bfd.state, BFD_UP);
}

// Opens the same session on both nodes, with the same keys.
static void join_both(struct client *client, enum session_role role, uint32_t slot)
{
    client->group = 1;
    srandom(slot);
    world_join(&node[0], client, role, STREAM_ID, 0, slot, PROFILE_AEAD_AES_128_GCM, true);
    srandom(slot);
    world_copy(&node[1], client, role, STREAM_ID, slot, PROFILE_AEAD_AES_128_GCM, true);
    turn();
}

static void nack(uint8_t to, uint16_t seq)
{
    uint8_t packet[512];
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 400, length, 1, viewer.rtp[0].ssrc, &seq, 1);
    size_t size;
    assert_int_equal(protect_rtcp_seal(node[0].crypto, &viewer.rtcp_tx, packet, length,
                                       ++viewer.rtcp_index, &size),
                     0);
    world_inject(&node[to], 0, &viewer.addr, 7000, packet, size);
    pass(250); // past the window in which a repeated request is ignored
}

static void test_the_standby_goes_on_where_the_active_died(void **state)
{
    uint64_t index = 0;
    form_pair();
    publisher.group = viewer.group = 1;
    join_both(&publisher, ROLE_PUBLISH, 1);
    join_both(&viewer, ROLE_PLAY, 2);
    pass(10);
    replicate();
    for (int i = 0; i < 200; i++)
        publish(++index, i == 0);
    replicate();
    assert_int_equal(video, 200);
    assert_int_equal(video_bad, 0);
    assert_int_equal(duplicates, 0); // the standby is silent
    assert_int_equal(last_mac[5], 1);
    for (int i = 0; i < 3; i++) { // the first is answered plainly, until the lease is known
        nack(0, (uint16_t)(last_seq - 5 - i));
        replicate();
    }
    assert_true(rtx >= 1);
    unsigned before = rtx;

    assert_int_equal(announced[0] + announced[1], 0);

    // Node a dies, before its last packets have left it for the viewer; the partner has them. What
    // comes in the next 40 ms nobody takes.
    deaf = true;
    publish(++index, false);
    publish(++index, false);
    turn();
    deaf = false;
    alive[0] = false;
    uint64_t died = now, back = 0;
    uint16_t seq = last_seq;
    for (int i = 0; i < 400; i++) {
        publish(++index, false);
        if (!back && last_seq != seq)
            back = now;
    }
    assert_true(back != 0);
    assert_in_range((back - died) / MS, 1, 35);  // 3 x 10 ms of BFD, and the next packet
    assert_true(came(seq + 1) && came(seq + 2)); // what a took along, without being asked for
    assert_false(came(seq + 3));
    assert_int_equal(last_mac[5], 2);
    assert_int_equal(video_bad, 0);
    // The link is told where both addresses are now, more than once: a frame may be lost.
    assert_true(announced[0] > 1);
    assert_int_equal(announced[0], announced[1]);
    // What was lost in between is asked of the publisher by its new home.
    pass(20);
    assert_true(node[1].workers[0].stats->count[COUNT_nack_up] > 0);
    // The standby answers what the viewer lost before and after, with RTX numbers of its own.
    nack(1, (uint16_t)(seq - 20));
    nack(1, (uint16_t)(last_seq - 3));
    assert_true(rtx > before);
    pass(1500); // sender reports
    assert_int_equal(conflicts, 0);
    struct msg_group_state told;
    assert_true(world_heard(&node[1], 0, MSG_GROUP_STATE, &told, sizeof(told)));
    assert_int_equal(told.term, 3);
    assert_int_equal(told.role, GROUP_ACTIVE);

    // It comes back as standby, catches up over the other's trunk, and gets the group back.
    alive[0] = true;
    set_group(0, 3, GROUP_STANDBY, true);
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 2,
        .group = 1,
        .peers = 1,
        .trunk_id = TRUNK_ID,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    tell(1, &open);
    introduce(0);
    pass(3000);
    for (int i = 0; i < 100; i++)
        publish(++index, false);
    assert_int_equal(last_mac[5], 2);
    unsigned lost_before = video;
    set_group(0, 4, GROUP_ACTIVE, true); // first the one, then the other: nothing is lost
    turn();
    set_group(1, 4, GROUP_STANDBY, false);
    turn();
    for (int i = 0; i < 100; i++)
        publish(++index, false);
    assert_int_equal(last_mac[5], 1);
    assert_int_equal(video, lost_before + 100);
    assert_int_equal(video_bad, 0);
    nack(0, (uint16_t)(last_seq - 3));
    pass(1500);
    assert_int_equal(conflicts, 0);

    // Split brain: both alive, neither hears the other, both send. Same index, same bytes.
    cut = true;
    pass(100);
    assert_true(failover_active(&node[0].workers[0], 1));
    assert_true(failover_active(&node[1].workers[0], 1));
    for (int i = 0; i < 50; i++) {
        uint8_t wire[1600], body[600];
        memset(body, i, sizeof(body));
        size_t size =
            world_seal(&node[0], &publisher, VIDEO_SSRC, ++index, false, body, sizeof(body), wire);
        last_published = index;
        for (uint8_t n = 0; n < 2; n++) // a hub: both get it
            world_inject(&node[n], 0, &publisher.addr, 7000, wire, size);
        now += MS;
        turn();
    }
    assert_true(duplicates >= 50);
    for (int i = 0; i < 5; i++)
        for (uint8_t n = 0; n < 2; n++)
            nack(n, (uint16_t)(last_seq - 2 - i));
    pass(2500);
    assert_int_equal(conflicts, 0);
    assert_int_equal(video_bad, 0);
}

static void test_a_forged_partner_changes_nothing(void **state)
{
    uint64_t auth = node[0].workers[0].stats->drop[DROP_trunk_auth];
    uint64_t unknown = node[0].workers[0].stats->drop[DROP_bfd_unknown];
    uint64_t ttl = node[0].workers[0].stats->drop[DROP_bfd_ttl];
    uint8_t packet[64] = {0x80, 127, 0x40, 1,    0, 0,
                          0,    0,   0x74, 0x72, 0, 0}; // ahead of the real ones
    cut = true;
    world_inject(&node[0], 0, &node[1].config.media4, 7000, packet, sizeof(packet));
    struct abi_addr stranger = {.ip = {10, 9, 0, 77}, .port = 50000, .family = 4};
    uint8_t bfd[24] = {0x20, 0xc0, 3, 24, 0, 0, 0, 9, 0, 0, 0, 0};
    world_inject(&node[0], 0, &stranger, UDP_PORT_BFD, bfd, sizeof(bfd));
    struct abi_addr far = node[1].config.media4; // its hop limit is 64
    far.port = 49152;
    store_be32(bfd + 8, node[0].workers[0].watches[0].bfd.config.my_discriminator);
    world_inject(&node[0], 0, &far, UDP_PORT_BFD, bfd, sizeof(bfd));
    turn();
    assert_int_equal(node[0].workers[0].stats->drop[DROP_trunk_auth], auth + 1);
    assert_int_equal(node[0].workers[0].stats->drop[DROP_bfd_unknown], unknown + 1);
    assert_int_equal(node[0].workers[0].stats->drop[DROP_bfd_ttl], ttl + 1);
}

// A partner, or somebody in its place, sends more than anybody can want: no viewer loses a packet,
// and nothing of it stays.
static void test_a_flooded_trunk(void **state)
{
    const struct worker *b = &node[1].workers[0];
    uint8_t junk[64] = {0x80, 127, 0, 0, 0, 0, 0, 0, 0x74, 0x72, 0, 0};
    cut = false;
    pass(4000);
    unsigned serving = failover_active(&node[0].workers[0], 1) ? 0 : 1;
    assert_true(serving == 0 || failover_active(b, 1));
    struct worker *w = &node[serving].workers[0];
    const uint64_t *drop = w->stats->drop;
    uint64_t refused = drop[DROP_trunk_auth] + drop[DROP_trunk_replay], index = last_published;
    unsigned before = video;
    unsigned free_before = rte_mempool_avail_count(w->pools.media);
    for (int i = 0; i < 100; i++) {
        for (int n = 0; n < BURST; n++) {
            store_be16(junk + 2, (uint16_t)(i * BURST + n));
            store_be32(junk + 4, (uint32_t)i);
            world_inject(&node[serving], 0, &node[1 - serving].config.media4, 7000, junk,
                         sizeof(junk));
        }
        publish(++index, false);
    }
    pass(10);
    assert_int_equal(video - before, 100);
    assert_int_equal(drop[DROP_trunk_auth] + drop[DROP_trunk_replay] - refused, 100 * BURST);
    assert_true(rte_mempool_avail_count(w->pools.media) + 110 > free_before); // what the ring holds
}

// The path was cut for longer than half a round of sequence numbers.
static void test_a_trunk_goes_on_after_a_long_cut(void **state)
{
    const struct worker *b = &node[1].workers[0];
    struct peer *trunk = &node[0].workers[0].peers[0];
    uint64_t refused = b->stats->drop[DROP_trunk_auth] + b->stats->drop[DROP_trunk_replay];
    cut = false;
    pass(500);
    assert_true(replay_top(&b->peers[0].sources[0].replay) + 1 == trunk->index);
    trunk->index += 100000;
    pass(500); // where the publisher stands is told all the time
    assert_true(replay_top(&b->peers[0].sources[0].replay) + 1 == trunk->index);
    assert_int_equal(b->stats->drop[DROP_trunk_auth] + b->stats->drop[DROP_trunk_replay], refused);
}

// Only b runs, and still takes a for alive, while a's worker has no core.
static void only_b(uint64_t ms)
{
    for (uint64_t i = 0; i < ms * 2; i++) {
        now += MS / 2;
        node[1].now_ns = node[1].workers[0].watches[0].bfd.heard_ns = now;
        world_turn(&node[1]);
        for (unsigned f = 0; f < node[1].out_count; f++)
            deliver(1, &node[1].out[f]);
        node[1].out_count = 0;
    }
}

// A worker that was away for longer than the detection time reads what waits before it judges.
static void test_a_late_worker_hears_first(void **state)
{
    const struct bfd *bfd = &node[0].workers[0].watches[0].bfd;
    uint8_t junk[20] = {0x80, 96};
    cut = false;
    pass(4000);
    assert_int_equal(bfd->state, BFD_UP);
    uint32_t downs = bfd->downs;
    for (int i = 0; i < 3 * BURST; i++) // more than one turn takes in
        world_inject(&node[0], 0, &viewer.addr, 7000, junk, sizeof(junk));
    only_b(60);
    turn();
    pass(100);
    assert_int_equal(bfd->state, BFD_UP);
    assert_int_equal(bfd->downs, downs);
    // And it does judge when nothing waits.
    uint64_t heard = bfd->heard_ns;
    alive[1] = false;
    pass(60);
    assert_int_equal(bfd->state, BFD_DOWN);
    assert_int_equal(bfd->downs, downs + 1);
    assert_in_range(now - heard, 30 * MS, 70 * MS);
    alive[1] = true;
}

// Only a runs, while b's worker has no core: a takes b for dead, and tells it so.
static void only_a(uint64_t ms)
{
    for (uint64_t i = 0; i < ms * 2; i++) {
        now += MS / 2;
        node[0].now_ns = now;
        world_turn(&node[0]);
        for (unsigned f = 0; f < node[0].out_count; f++)
            deliver(0, &node[0].out[f]);
        node[0].out_count = 0;
    }
}

// A partner that lost sight of us for a moment lives, and nothing is taken from it; but one that
// dies in that moment is found out as fast as any.
static void test_a_partner_dies_while_it_looks_for_us(void **state)
{
    cut = false;
    pass(4000);
    set_group(0, 100, GROUP_ACTIVE, true);
    set_group(1, 100, GROUP_STANDBY, false);
    turn();
    const struct bfd *a = &node[0].workers[0].watches[0].bfd;
    const struct bfd *b = &node[1].workers[0].watches[0].bfd;
    uint32_t downs[2] = {a->downs, b->downs};
    only_a(60);
    pass(200);
    assert_int_equal(a->downs, downs[0] + 1);
    assert_int_equal(b->downs, downs[1] + 1);
    assert_int_equal(a->state, BFD_UP);
    assert_int_equal(b->state, BFD_UP);
    assert_true(failover_active(&node[0].workers[0], 1));
    assert_false(failover_active(&node[1].workers[0], 1));

    only_a(60);
    alive[0] = false;
    pass(5);
    assert_int_equal(b->downs, downs[1] + 2);
    assert_false(failover_active(&node[1].workers[0], 1));
    pass(90);
    assert_true(failover_active(&node[1].workers[0], 1));
    alive[0] = true;
}

static void fill_channel(uint8_t n)
{
    struct msg_session_closed filler = {
        .head = {.type = MSG_SESSION_CLOSED, .length = sizeof(filler), .id = 1}};
    world_heard(&node[n], 0, MSG_NONE, NULL, 0); // what was said before is read
    while (channel_send(&node[n].dataplane, 1, &filler) == 0)
        ;
}

// What finds the channel full is told when there is room: the state, not what led to it.
static void test_a_full_channel_delays_but_loses_nothing(void **state)
{
    struct msg_group_state seized;
    struct msg_peer_state peer;
    struct msg_session_numbers numbers;
    cut = false;
    pass(4000);
    set_group(0, 200, GROUP_ACTIVE, true);
    set_group(1, 200, GROUP_STANDBY, false);
    turn();
    fill_channel(1);
    alive[0] = false;
    pass(100);
    assert_true(failover_active(&node[1].workers[0], 1));
    assert_false(world_heard(&node[1], 0, MSG_GROUP_STATE, NULL, 0)); // takes the fillers away
    pass(1);
    assert_true(world_heard(&node[1], 0, MSG_PEER_STATE, &peer, sizeof(peer)));
    assert_int_equal(peer.state, BFD_DOWN);
    assert_in_range(peer.detect_ns, 1 * MS, 100 * MS);
    assert_true(world_heard(&node[1], 0, MSG_GROUP_STATE, &seized, sizeof(seized)));
    assert_int_equal(seized.term, 201);
    assert_int_equal(seized.role, GROUP_ACTIVE);
    pass(100);
    assert_false(world_heard(&node[1], 0, MSG_GROUP_STATE, NULL, 0)); // once

    struct session *session = tables_session(&node[1].workers[0].tables, viewer.id);
    fill_channel(1);
    failover_tell_numbers(&node[1].workers[0], session);
    assert_false(world_heard(&node[1], 0, MSG_SESSION_NUMBERS, NULL, 0));
    pass(1100);
    assert_true(world_heard(&node[1], 0, MSG_SESSION_NUMBERS, &numbers, sizeof(numbers)));
    assert_true(numbers.head.id == viewer.id);
    pass(1100);
    assert_false(world_heard(&node[1], 0, MSG_SESSION_NUMBERS, NULL, 0));
    alive[0] = true;
}

// The publisher went on elsewhere, and with it the viewers' numbers: a standby that did not know
// the new ones and had to serve now would send what no viewer can open.
static void test_moved_numbers_are_told_at_once(void **state)
{
    struct msg_session_numbers numbers;
    struct tables *tables = &node[0].workers[0].tables;
    cut = false;
    pass(4000);
    set_group(0, 300, GROUP_ACTIVE, true);
    set_group(1, 300, GROUP_STANDBY, false);
    turn();
    publish(last_published + 1, true);
    pass(1100);
    world_heard(&node[0], 0, MSG_NONE, NULL, 0);
    struct track *track = &tables_stream(tables, STREAM_ID)->track[0];
    const struct sub *sub = tables_sub(tables, tables_session(tables, viewer.id), 0);
    uint64_t before = sub->delta & INDEX_MASK;
    track->layers[track->layer].delta += UINT64_C(1) << INDEX_SPACE_BITS;
    publish(last_published + 1, false);
    pass(3);
    assert_true((sub->delta & INDEX_MASK) != before);
    assert_true(world_heard(&node[0], 0, MSG_SESSION_NUMBERS, &numbers, sizeof(numbers)));
    assert_true(numbers.head.id == viewer.id && numbers.numbers.numbered & 1);
    assert_true(numbers.numbers.delta[0] == (sub->delta & INDEX_MASK));
    pass(1100);
    assert_false(world_heard(&node[0], 0, MSG_SESSION_NUMBERS, NULL, 0)); // once
}

// Viewers come all the time: those in higher slots are told of as soon as others.
static void test_many_numbers_are_told(void **state)
{
    static struct client far;
    struct msg_session_numbers numbers = {0};
    set_group(0, 350, GROUP_ACTIVE, true);
    set_group(1, 350, GROUP_STANDBY, false);
    turn();
    join_both(&far, ROLE_PLAY, 127);
    publish(last_published + 1, true);
    pass(1100);
    world_heard(&node[0], 0, MSG_NONE, NULL, 0);
    tables_session(&node[0].workers[0].tables, far.id)->numbers_told = 0;
    for (int ms = 0; ms < 5; ms++) {
        worker_untold(&node[0].workers[0]);
        pass(1);
    }
    assert_true(world_heard(&node[0], 0, MSG_SESSION_NUMBERS, &numbers, sizeof(numbers)));
    assert_true(numbers.head.id == far.id);
}

// A control plane that starts anew may have missed what its predecessor was told.
static void test_numbers_are_told_again(void **state)
{
    struct msg_session_numbers numbers;
    const struct tables *tables = &node[0].workers[0].tables;
    const struct session *session = tables_session(tables, viewer.id);
    struct msg_session_open open = {
        .head = {.type = MSG_SESSION_OPEN, .length = sizeof(open), .id = viewer.id},
        .stream = STREAM_ID,
        .role = ROLE_PLAY,
        .group = tables_sender(tables, session)->group,
        .again = 1,
        .tracks = session->tracks};
    memcpy(open.track, session->track, sizeof(open.track));
    memset(&open.ice, 'a', sizeof(open.ice));
    open.ice.remote_ufrag_len = 4;
    open.ice.remote_pwd_len = 22;
    set_group(0, 400, GROUP_ACTIVE, true);
    set_group(1, 400, GROUP_STANDBY, false);
    pass(1100);
    world_heard(&node[0], 0, MSG_NONE, NULL, 0);
    world_tell(&node[0], 0, &open);
    pass(3);
    assert_true(world_heard(&node[0], 0, MSG_SESSION_NUMBERS, &numbers, sizeof(numbers)));
    assert_true(numbers.head.id == viewer.id && numbers.numbers.numbered & 1);
    pass(1100);
    assert_false(world_heard(&node[0], 0, MSG_SESSION_NUMBERS, NULL, 0)); // once
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_standby_goes_on_where_the_active_died),
        cmocka_unit_test(test_a_forged_partner_changes_nothing),
        cmocka_unit_test(test_a_flooded_trunk),
        cmocka_unit_test(test_a_trunk_goes_on_after_a_long_cut),
        cmocka_unit_test(test_a_late_worker_hears_first),
        cmocka_unit_test(test_a_partner_dies_while_it_looks_for_us),
        cmocka_unit_test(test_a_full_channel_delays_but_loses_nothing),
        cmocka_unit_test(test_moved_numbers_are_told_at_once),
        cmocka_unit_test(test_many_numbers_are_told),
        cmocka_unit_test(test_numbers_are_told_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
