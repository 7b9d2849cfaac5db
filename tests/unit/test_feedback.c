// RTCP from clients against a whole worker: every packet that is asked for again is sent or has a
// name for why not, as a naive model says; floods cost nobody else; reports, key-frame wishes and
// what is hostile.
#include "../../dataplane/feedback.h"
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define RING 64 // packets that a track's ring holds

static struct world world;
static struct client publisher, viewer, other;

// What became of requests.
struct fate {
    uint64_t asked, answered, missing, policy, repeated, budget;
};

static struct fate fate_now(void)
{
    const struct stats_worker *s = world.workers[0].stats;
    return (struct fate){.asked = s->count[COUNT_nack_asked],
                         .answered = s->count[COUNT_nack_answered],
                         .missing = s->drop[DROP_nack_missing],
                         .policy = s->drop[DROP_nack_policy],
                         .repeated = s->drop[DROP_nack_repeated],
                         .budget = s->drop[DROP_nack_budget]};
}

static uint64_t drops(enum drop what)
{
    return world.workers[0].stats->drop[what];
}

static struct session *session_of(const struct client *client)
{
    return tables_session(&world.workers[0].tables, client->id);
}

static struct track *video(void)
{
    return &tables_stream(&world.workers[0].tables, STREAM_ID)->track[0];
}

// The viewer's sequence number of the packet `back` before the next one.
static uint16_t seq_of(const struct client *client, uint64_t back)
{
    const struct sub *sub = tables_sub(&world.workers[0].tables, session_of(client), 0);
    return (uint16_t)(video()->next_index - back + sub->delta);
}

static uint64_t next_index;

// A VP8 packet of a frame: RFC 7741 with TID.
static void publish(uint32_t timestamp, bool key, uint8_t layer)
{
    uint8_t wire[1600], payload[200] = {0x90, 0x20, (uint8_t)(layer << 6), key ? 0 : 1};
    struct rtp_header header = {.pt = 96,
                                .marker = true,
                                .seq = (uint16_t)++next_index,
                                .timestamp = timestamp,
                                .ssrc = VIDEO_SSRC};
    rtp_header_write(wire, &header);
    struct seal_job job = {.tx = &publisher.tx,
                           .src = payload,
                           .dst = wire,
                           .header_len = RTP_HEADER,
                           .payload_len = sizeof(payload),
                           .ssrc = VIDEO_SSRC,
                           .index = next_index};
    protect_seal(world.crypto, &job, 1);
    world_inject(&world, 0, &publisher.addr, world.config.media4.port, wire,
                 RTP_HEADER + sizeof(payload) + protect_tag_len(publisher.tx.key.profile));
    world_turn(&world);
    world.out_count = 0;
}

static void ask(struct client *client, const uint16_t *seqs, size_t count)
{
    uint8_t packet[512];
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, sizeof(packet) - PROTECT_RTCP_ROOM, length, 1,
                             client->rtp[0].ssrc, seqs, count);
    assert_int_not_equal(length, 0);
    world_rtcp(&world, client, packet, length);
    world.out_count = 0;
}

static void report(struct client *client, const struct rtcp_block *block)
{
    uint8_t packet[128];
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, block, 1);
    world_rtcp(&world, client, packet, length);
    world.out_count = 0;
}

static int setup(void **state)
{
    srandom(11);
    int rc = world_start(&world, &(struct abi_config){.workers = 1,
                                                      .max_sessions = 16,
                                                      .rx_mbufs = 1023,
                                                      .tx_mbufs = 1023,
                                                      .cache_mbufs = 4095});
    world.workers[0].tables.cache_max = RING; // so that rings stay as they are
    return rc;
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

// A fresh stream, publisher and two viewers for each test.
static int begin(void **state)
{
    next_index = 0;
    world.config.nack_policy = ABI_NACK_ALWAYS;
    world.workers[0].nack_budget.spent = 0;
    world_open_stream(&world, STREAM_ID, 0, 0);
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    world_join(&world, &viewer, ROLE_PLAY, STREAM_ID, 0, 2, PROFILE_AEAD_AES_128_GCM, true);
    world_join(&world, &other, ROLE_PLAY, STREAM_ID, 0, 3, PROFILE_AES128_CM_SHA1_80, false);
    publish(0, true, 0);
    return 0;
}

static int end(void **state)
{
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    bool left = world_leave(&world, &publisher) && world_leave(&world, &viewer) &&
                world_leave(&world, &other);
    world_tell(&world, 0, &close);
    world_turn(&world);
    world.out_count = 0;
    return left && world.workers[0].store->free == world.workers[0].store->blocks ? 0 : -1;
}

// ---- requests, against a model

#define HISTORY 70000

struct model {
    bool essential[HISTORY];
    uint64_t sent_again_ms[HISTORY]; // 0: never
    uint64_t last;                   // number of the newest packet, from 1
    uint64_t last_key;               // of the newest key frame
    double spent, earned_for;
};

// What one request for packet `n` leads to.
static uint64_t *judge(struct model *model, struct fate *fate, uint64_t n, uint64_t now_ms,
                       bool adaptive, bool open)
{
    if (n == 0 || n > model->last || n + RING <= model->last)
        return &fate->missing;
    bool key = n == model->last_key;
    if (adaptive && !open && !key && !model->essential[n])
        return &fate->policy;
    if (model->sent_again_ms[n] && now_ms - model->sent_again_ms[n] < 10)
        return &fate->repeated;
    if (model->spent + 1 > (key ? 512 : 448))
        return &fate->budget;
    model->spent += 1;
    model->sent_again_ms[n] = now_ms;
    return &fate->answered;
}

static unsigned rank_of(const struct model *model, uint64_t n)
{
    return n == model->last_key ? 0 : model->essential[n] ? 1 : 2;
}

static void expect_fate(const struct fate *before, const struct fate *expected)
{
    struct fate now = fate_now();
    assert_int_equal(now.asked - before->asked, expected->asked);
    assert_int_equal(now.missing - before->missing, expected->missing);
    assert_int_equal(now.policy - before->policy, expected->policy);
    assert_int_equal(now.repeated - before->repeated, expected->repeated);
    assert_int_equal(now.budget - before->budget, expected->budget);
    assert_int_equal(now.answered - before->answered, expected->answered);
}

static void test_every_request_has_the_fate_of_the_model(void **state)
{
    static struct model model;
    struct fate total = {0};
    memset(&model, 0, sizeof(model));
    model.last = model.last_key = 1;
    model.essential[1] = true;
    world.config.nack_policy = ABI_NACK_ADAPTIVE;
    for (int step = 0; step < 6000; step++) {
        world.now_ns += (uint64_t)(random() % 12) * MS;
        if (random() % 4 == 0) {
            uint8_t layer = (uint8_t)(random() % 3);
            bool key = layer == 0 && random() % 8 == 0;
            model.essential[++model.last] = layer == 0;
            if (key)
                model.last_key = model.last;
            publish((uint32_t)(model.last * 3000), key, layer);
            continue;
        }
        bool burst = step / 1000 % 2; // asks for much, and soon again
        uint64_t from = model.last + 3 - (uint64_t)(random() % (RING + 20));
        uint16_t seqs[17];
        uint64_t asked[17];
        size_t count = 0;
        struct fate before = fate_now(), expected = {0};
        double earned = (double)model.last - model.earned_for;
        model.spent = model.spent > earned / 2 ? model.spent - earned / 2 : 0;
        model.earned_for += earned;
        for (uint64_t n = from; n < from + 17; n++) {
            if (!burst && random() % 4)
                continue;
            asked[count] = n < model.last + 40 ? n : 0;
            seqs[count++] = seq_of(&viewer, model.last + 1 - n);
        }
        if (count == 0)
            continue;
        expected.asked = count;
        // First what matters most, and of the same kind what was asked for first.
        for (unsigned rank = 0; rank < 3; rank++)
            for (size_t i = 0; i < count; i++)
                if (rank_of(&model, asked[i]) == rank)
                    (*judge(&model, &expected, asked[i], world.now_ns / MS, true, false))++;
        ask(&viewer, seqs, count);
        expect_fate(&before, &expected);
        total.answered += expected.answered;
        total.missing += expected.missing;
        total.policy += expected.policy;
        total.repeated += expected.repeated;
        total.budget += expected.budget;
    }
    // The course of events had all of them.
    assert_true(total.answered > 1000 && total.missing > 1000 && total.policy > 1000);
    assert_true(total.repeated > 100 && total.budget > 100);
}

static void test_repeats_within_a_round_trip(void **state)
{
    static const struct {
        uint32_t rtt_us;
        unsigned after_ms;
        bool answered;
    } rows[] = {{0, 9, false},        {0, 10, true},      {5000, 9, false},     {5000, 10, true},
                {50000, 49, false},   {50000, 50, true},  {190000, 189, false}, {190000, 190, true},
                {900000, 199, false}, {900000, 200, true}}; // no longer than 200 ms
    for (size_t i = 0; i < RTE_DIM(rows); i++) {
        for (unsigned n = 0; n < 10; n++)
            publish((uint32_t)next_index * 3000, false, 0);
        session_of(&viewer)->rtt_us = rows[i].rtt_us;
        uint16_t seq = seq_of(&viewer, 3), neighbour = seq_of(&viewer, 4);
        struct fate before = fate_now();
        ask(&viewer, &seq, 1);
        world.now_ns += rows[i].after_ms * MS;
        ask(&viewer, &seq, 1);
        uint64_t answered = 1 + rows[i].answered;
        expect_fate(&before,
                    &(struct fate){.asked = 2, .answered = answered, .repeated = 2 - answered});
        ask(&viewer, &neighbour, 1); // another one is not affected, nor is another viewer
        seq = seq_of(&other, 3);
        ask(&other, &seq, 1);
        assert_int_equal(fate_now().answered - before.answered, answered + 2);
        world.now_ns += 300 * MS;
    }
}

static void ask_all(struct client *client)
{
    uint16_t seqs[RING];
    for (unsigned i = 0; i < RING; i++)
        seqs[i] = seq_of(client, RING - i);
    ask(client, seqs, RING);
}

static void test_a_flood_costs_nobody_else(void **state)
{
    for (unsigned i = 0; i < 100; i++)
        publish((uint32_t)(3000 + i * 3000), false, 0);
    struct fate start = fate_now();
    for (unsigned i = 0; i < 200; i++) {
        world.now_ns += 10 * MS;
        publish((uint32_t)(303000 + i * 3000), false, 0);
        ask_all(&viewer);
    }
    struct fate flood = fate_now();
    // Half of the 199 packets that it was sent meanwhile, on top of its burst.
    uint64_t answered = 448 + 199 / 2;
    assert_int_equal(flood.answered - start.answered, answered);
    assert_int_equal(flood.budget - start.budget, 200 * RING - answered);
    ask_all(&other);
    assert_int_equal(fate_now().answered - flood.answered, RING);
    assert_int_equal(session_of(&viewer)->resent, answered);
    assert_int_equal(session_of(&viewer)->nacks, 200 * RING);
}

// A viewer that names what never was, and what it has had, in datagrams of 5,984 numbers each: all
// are counted, and beyond its burst none is looked up. Nobody else is affected, nor is it once it
// has calmed down.
static void test_a_flood_of_numbers_is_not_looked_up(void **state)
{
    const unsigned entries = 352, numbers = entries * 17;
    uint8_t packet[1500];
    uint64_t flood = drops(DROP_nack_flood);
    for (unsigned i = 0; i < 40; i++)
        publish((uint32_t)(3000 + i * 3000), false, 0);
    struct fate before = fate_now();
    for (unsigned i = 0; i < 20; i++) {
        size_t length = 12 + entries * 4;
        store_be32(packet, 0x81cd0000 | (uint32_t)(length / 4 - 1));
        store_be32(packet + 4, 1);
        store_be32(packet + 8, viewer.rtp[0].ssrc);
        for (unsigned e = 0; e < entries; e++)
            store_be32(packet + 12 + (size_t)e * 4, (uint32_t)seq_of(&viewer, 20) << 16 | 0xffff);
        world_rtcp(&world, &viewer, packet, length);
        world.out_count = 0;
    }
    struct fate now = fate_now();
    assert_int_equal(now.asked - before.asked, 20 * numbers);
    assert_int_equal(drops(DROP_nack_flood) - flood, 20 * numbers - NACK_ASK_BURST);
    assert_int_equal(now.answered - before.answered, 17);
    assert_int_equal(now.repeated - before.repeated, NACK_ASK_BURST - 17);
    assert_int_equal(session_of(&viewer)->nacks, 20 * numbers);
    uint16_t seq = seq_of(&viewer, 1);
    ask(&viewer, &seq, 1);
    assert_int_equal(drops(DROP_nack_flood) - flood, 20 * numbers + 1 - NACK_ASK_BURST);
    seq = seq_of(&other, 1);
    ask(&other, &seq, 1);
    assert_int_equal(fate_now().answered - now.answered, 1);
    world.now_ns += NACK_ASK_NS;
    seq = seq_of(&viewer, 1);
    ask(&viewer, &seq, 1);
    assert_int_equal(fate_now().answered - now.answered, 2);
    assert_int_equal(drops(DROP_nack_flood) - flood, 20 * numbers + 1 - NACK_ASK_BURST);
}

static void test_key_frames_come_first(void **state)
{
    for (unsigned i = 0; i < 40; i++)
        publish((uint32_t)(3000 + i * 3000), false, 0);
    for (unsigned i = 0; i < 10; i++)
        publish(200000, true, 0); // one frame of ten packets
    for (unsigned i = 0; i < 10; i++)
        publish((uint32_t)(203000 + i * 3000), false, 0);
    session_of(&viewer)->feedback[0].budget.spent = NACK_VIEWER_BURST * (1 - NACK_KEY_RESERVE);
    session_of(&viewer)->feedback[0].earned =
        tables_sub(&world.workers[0].tables, session_of(&viewer), 0)->packets;
    struct fate before = fate_now();
    world.now_ns += MS;
    ask_all(&viewer);
    expect_fate(
        &before,
        &(struct fate){.asked = RING, .answered = 10, .budget = 61 - 10, .missing = RING - 61});
    // The same of the worker's budget, which is earned back by time.
    struct worker *worker = &world.workers[0];
    before = fate_now();
    worker->nack_budget.spent = NACK_WORKER_BURST * (1 - NACK_KEY_RESERVE);
    worker->nack_earned_ns = world.now_ns;
    ask_all(&other);
    expect_fate(
        &before,
        &(struct fate){.asked = RING, .answered = 10, .budget = 61 - 10, .missing = RING - 61});
    before = fate_now();
    world.now_ns += 20 * MS; // 8,000 packets
    ask_all(&other);
    assert_int_equal(fate_now().answered - before.answered, 61);
}

// A NACK without the turn that takes it.
static void leave_nack(struct client *client, const uint16_t *seqs, size_t count)
{
    uint8_t packet[512];
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0), size;
    length = rtcp_write_nack(packet, sizeof(packet) - PROTECT_RTCP_ROOM, length, 1,
                             client->rtp[0].ssrc, seqs, count);
    assert_int_equal(protect_rtcp_seal(world.crypto, &client->rtcp_tx, packet, length,
                                       ++client->rtcp_index, &size),
                     0);
    world_inject(&world, 0, &client->addr, world.config.media4.port, packet, size);
}

// Two NACKs of a turn that ask for more than there is budget for: what is sent, and in what order,
// is what matters most, whichever asked for it and when.
static void test_what_matters_most_is_sent_first(void **state)
{
    uint16_t seqs[2][RING], expected[RING];
    unsigned cut = 0, firsts = 0;
    for (unsigned round = 0; round < 300; round++) {
        enum nack_rank rank_at[RING + 1]; // of the packet so far back
        unsigned key_at = 5 + (unsigned)random() % (RING - 10), key_size = (unsigned)random() % 5;
        for (unsigned back = RING; back >= 1; back--) {
            uint8_t layer = (uint8_t)(random() % 3);
            bool key = back <= key_at && back > key_at - key_size;
            publish((uint32_t)(round * 1000 + (key ? key_at : back)) * 3000, key, key ? 0 : layer);
            rank_at[back] = key ? NACK_FIRST : layer == 0 ? NACK_BASE : NACK_REST;
        }
        if (!key_size) // an older one is the last, but the ring has let go of it
            key_at = 0;
        struct session *session = session_of(&other);
        double left = (double)(random() % 40);
        session->feedback[0].budget.spent = NACK_VIEWER_BURST * (1 - NACK_KEY_RESERVE) - left;
        session->feedback[0].earned = tables_sub(&world.workers[0].tables, session, 0)->packets;
        world.now_ns += 300 * MS;
        size_t count[2] = {0}, total = 0;
        unsigned asked[2][RING];
        for (unsigned back = RING; back >= 1; back--) {
            unsigned nack = (unsigned)random() % 3;
            if (nack == 2)
                continue;
            asked[nack][count[nack]] = back;
            seqs[nack][count[nack]++] = seq_of(&other, back);
        }
        for (enum nack_rank rank = 0; rank < NACK_RANKS; rank++)
            for (unsigned n = 0; n < 2; n++)
                for (size_t i = 0; i < count[n]; i++)
                    if (rank_at[asked[n][i]] == rank && (rank == NACK_FIRST || left >= 1)) {
                        expected[total++] = seqs[n][i];
                        left--;
                        firsts += rank == NACK_FIRST;
                    }
        cut += total < count[0] + count[1];
        for (unsigned n = 0; n < 2; n++)
            if (count[n])
                leave_nack(&other, seqs[n], count[n]);
        world_turn(&world);
        size_t sent = 0;
        for (unsigned i = 0; i < world.out_count; i++) {
            const struct world_frame *frame = &world.out[i];
            if (frame->parsed.class != CLASS_RTP)
                continue;
            assert_true(sent < total);
            assert_int_equal(load_be16(frame->bytes + frame->parsed.payload + 2), expected[sent]);
            sent++;
        }
        assert_int_equal(sent, total);
        world.out_count = 0;
    }
    assert_true(cut > 150 && firsts > 100); // so it was about something
}

static int begin_large(void **state)
{
    world.workers[0].tables.cache_min = world.workers[0].tables.cache_max = 512;
    return begin(state);
}

static int end_large(void **state)
{
    world.workers[0].tables.cache_min = world.workers[0].tables.cache_max = RING;
    return end(state);
}

// As much as a viewer's budget allows at one go, and again within the round trip.
static void test_a_large_loss_is_answered_once(void **state)
{
    uint16_t seqs[400];
    for (unsigned n = 0; n < 420; n++)
        publish((uint32_t)next_index * 3000, false, 0);
    session_of(&viewer)->rtt_us = 100000;
    for (unsigned i = 0; i < RTE_DIM(seqs); i++)
        seqs[i] = seq_of(&viewer, RTE_DIM(seqs) - i);
    struct fate before = fate_now();
    for (unsigned i = 0; i < RTE_DIM(seqs); i += 100)
        ask(&viewer, seqs + i, 100);
    expect_fate(&before, &(struct fate){.asked = 400, .answered = 400});
    world.now_ns += 99 * MS;
    for (unsigned i = 0; i < RTE_DIM(seqs); i += 100)
        ask(&viewer, seqs + i, 100);
    expect_fate(&before, &(struct fate){.asked = 800, .answered = 400, .repeated = 400});
}

static void test_the_adaptive_policy_opens_and_shuts(void **state)
{
    struct rtcp_block block = {.ssrc = viewer.rtp[0].ssrc};
    world.config.nack_policy = ABI_NACK_ADAPTIVE;
    static const struct {
        uint8_t fraction; // of 256
        unsigned times;
        bool all;
    } rows[] = {{0, 1, false}, {2, 8, false}, {10, 1, false}, {10, 3, true},
                {4, 8, true},  {0, 8, false}, {4, 8, false},  {50, 1, true}};
    for (size_t i = 0; i < RTE_DIM(rows); i++) {
        for (unsigned n = 0; n < rows[i].times; n++) {
            for (unsigned k = 0; k < 400; k++)
                publish((uint32_t)next_index * 3000, false, (uint8_t)(k % 2 * 2));
            block.fraction_lost = rows[i].fraction;
            report(&viewer, &block);
        }
        world.now_ns += 300 * MS;
        uint16_t seqs[2] = {seq_of(&viewer, 2), seq_of(&viewer, 1)};
        struct fate before = fate_now();
        ask(&viewer, seqs, 2);
        if (fate_now().answered - before.answered != 1u + rows[i].all)
            fail_msg("row %zu", i);
        expect_fate(&before, &(struct fate){
                                 .asked = 2, .answered = 1u + rows[i].all, .policy = !rows[i].all});
    }
    assert_int_equal(session_of(&viewer)->feedback[0].loss_permille, 50 * 1000 / 256);
}

// ---- reports and wishes

static void test_reports_give_the_round_trip(void **state)
{
    uint8_t packet[128];
    struct rtcp_sender sender = {
        .ssrc = VIDEO_SSRC, .ntp = rtcp_ntp_from_ns(UINT64_C(1700000000000000000)), .rtp = 1000};
    size_t length = rtcp_write_sr(packet, sizeof(packet) - PROTECT_RTCP_ROOM, 0, &sender, NULL, 0);
    world_rtcp(&world, &publisher, packet, length);
    world_pass(&world, 1100); // a report goes to the viewer meanwhile
    uint64_t sent_ns = world.now_ns;
    uint64_t sent_ntp = sender.ntp + rtcp_ntp_from_ns(1100 * MS) - rtcp_ntp_from_ns(0);
    world.now_ns = sent_ns + 340 * MS; // 90 under way, 250 held
    struct rtcp_block block = {.ssrc = viewer.rtp[0].ssrc,
                               .fraction_lost = 64,
                               .cumulative_lost = 33,
                               .jitter = 450,
                               .lsr = rtcp_ntp_middle(sent_ntp),
                               .dlsr = rtcp_dlsr_from_ns(250 * MS)};
    report(&viewer, &block);
    const struct session *session = session_of(&viewer);
    assert_in_range(session->rtt_us, 89000, 92000);
    assert_int_equal(session->feedback[0].lost, 33);
    assert_int_equal(session->feedback[0].jitter, 450);
    assert_int_equal(session->feedback[0].loss_permille, 250);
    // One that claims to have held it longer than it was away, of another SSRC, or from a
    // publisher.
    uint32_t rtt_us = session->rtt_us;
    block.dlsr = rtcp_dlsr_from_ns(5000 * MS);
    report(&viewer, &block);
    assert_int_equal(session->rtt_us, rtt_us);
    block = (struct rtcp_block){.ssrc = other.rtp[0].ssrc, .cumulative_lost = 99};
    report(&viewer, &block);
    report(&publisher, &block);
    assert_int_equal(session->feedback[0].lost, 33);
    assert_int_equal(session_of(&other)->feedback[0].lost, 0);
}

static void wish(struct client *client, uint32_t ssrc, int fir_seq)
{
    uint8_t packet[128];
    size_t room = sizeof(packet) - PROTECT_RTCP_ROOM;
    size_t length = rtcp_write_rr(packet, room, 0, 1, NULL, 0);
    length = fir_seq < 0 ? rtcp_write_pli(packet, room, length, 1, ssrc)
                         : rtcp_write_fir(packet, room, length, 1, ssrc, (uint8_t)fir_seq);
    video()->key_wanted = false;
    world_rtcp(&world, client, packet, length);
    world.out_count = 0;
}

static void test_key_frames_are_wished_for(void **state)
{
    uint32_t ssrc = viewer.rtp[0].ssrc;
    wish(&viewer, ssrc, -1);
    assert_true(video()->key_wanted);
    wish(&viewer, other.rtp[0].ssrc, -1); // not its own
    assert_false(video()->key_wanted);
    wish(&viewer, ssrc, 7);
    assert_true(video()->key_wanted);
    wish(&viewer, ssrc, 7); // the same command, repeated
    assert_false(video()->key_wanted);
    wish(&viewer, ssrc, 8);
    assert_true(video()->key_wanted);
    assert_int_equal(session_of(&viewer)->plis, 4);
    wish(&publisher, ssrc, -1);
    assert_false(video()->key_wanted);
}

// ---- what is hostile

static void inject_from(struct client *client, uint8_t *packet, size_t length, bool spoil)
{
    uint8_t copy[1024];
    size_t size;
    memcpy(copy, packet, length);
    assert_int_equal(protect_rtcp_seal(world.crypto, &client->rtcp_tx, copy, length,
                                       ++client->rtcp_index, &size),
                     0);
    copy[length / 2] ^= spoil;
    for (int twice = 0; twice < 2; twice++) {
        world_inject(&world, 0, &client->addr, world.config.media4.port, copy, size);
        world_turn(&world);
    }
}

static void test_what_is_hostile_is_dropped_by_name(void **state)
{
    uint8_t packet[512];
    struct fate before = fate_now();
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    uint64_t auth = drops(DROP_srtcp_auth), replay = drops(DROP_srtcp_replay);
    inject_from(&viewer, packet, length, true);
    assert_int_equal(drops(DROP_srtcp_auth), auth + 2);
    inject_from(&viewer, packet, length, false);
    assert_int_equal(drops(DROP_srtcp_replay), replay + 1);
    // Authentic, but no RTCP: it claims to be longer than it is.
    uint64_t malformed = drops(DROP_rtp_malformed);
    store_be16(packet + 2, 50);
    inject_from(&viewer, packet, length, false);
    assert_int_equal(drops(DROP_rtp_malformed), malformed + 1);
    // Somebody who speaks under ever new names.
    uint64_t unknown = drops(DROP_rtp_unknown_ssrc);
    for (uint32_t ssrc = 1; ssrc <= 20; ssrc++) {
        length = rtcp_write_rr(packet, sizeof(packet), 0, ssrc, NULL, 0);
        world_rtcp(&world, &viewer, packet, length);
    }
    assert_int_equal(drops(DROP_rtp_unknown_ssrc), unknown + 20 - SESSION_RTCP_SOURCES);
    // Packets of another viewer's numbers are not its to ask for.
    uint16_t seq = seq_of(&viewer, 1);
    length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 400, length, 1, other.rtp[0].ssrc, &seq, 1);
    world_rtcp(&world, &viewer, packet, length);
    expect_fate(&before, &(struct fate){0});
}

static void test_a_viewer_that_goes_is_told_bye(void **state)
{
    uint8_t plain[2048];
    size_t size;
    uint32_t index, ssrc;
    bool bye = false;
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    struct client leaver = {0};
    world_join(&world, &leaver, ROLE_PLAY, STREAM_ID, 0, 9, PROFILE_AEAD_AES_128_GCM, true);
    assert_true(world_leave(&world, &leaver));
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        const uint8_t *data = world.out[i].bytes + parsed->payload;
        leaver.rtcp.ssrc = load_be32(data + 4);
        if (parsed->class != CLASS_RTCP ||
            protect_rtcp_open(world.crypto, &leaver.rtcp_rx, &leaver.rtcp, data, parsed->length,
                              plain, &size, &index))
            continue;
        rtcp_begin(&iter, plain, size);
        while (rtcp_next(&iter, &packet) == 1)
            bye |= packet.type == RTCP_BYE && rtcp_read_bye(&packet, 0, &ssrc) &&
                   ssrc == leaver.rtp[0].ssrc;
    }
    assert_true(bye);
}

// A sender report counts payload octets, not headers and tags (RFC 3550 6.4.1).
static void test_a_report_counts_payload(void **state)
{
    uint8_t packet[128], plain[2048];
    size_t size;
    uint32_t index;
    struct rtcp_iter iter;
    struct rtcp_packet part;
    struct rtcp_sender clock = {.ssrc = VIDEO_SSRC, .ntp = UINT64_C(1) << 40}, sender = {0};
    const struct sub *sub = tables_sub(&world.workers[0].tables, session_of(&viewer), 0);
    world_rtcp(&world, &publisher, packet,
               rtcp_write_sr(packet, sizeof(packet) - PROTECT_RTCP_ROOM, 0, &clock, NULL, 0));
    uint64_t before = sub->packets;
    for (uint32_t i = 0; i < 7; i++)
        publish(i, i == 0, 0);
    assert_int_equal(sub->packets, before + 7);
    world_pass(&world, 1100);
    for (unsigned i = 0; i < world.out_count; i++) {
        const struct parsed *parsed = &world.out[i].parsed;
        const uint8_t *data = world.out[i].bytes + parsed->payload;
        viewer.rtcp.ssrc = load_be32(data + 4);
        if (parsed->class != CLASS_RTCP ||
            memcmp(&parsed->dst, &viewer.addr, sizeof(viewer.addr)) != 0 ||
            protect_rtcp_open(world.crypto, &viewer.rtcp_rx, &viewer.rtcp, data, parsed->length,
                              plain, &size, &index))
            continue;
        rtcp_begin(&iter, plain, size);
        while (rtcp_next(&iter, &part) == 1)
            if (part.type == RTCP_SR && load_be32(part.data + 4) == viewer.rtp[0].ssrc)
                assert_true(rtcp_read_sr(&part, &sender));
    }
    assert_int_equal(sender.packets, sub->packets);
    assert_int_equal(sender.bytes, 200 * sub->packets);
}

// After 2^31 SRTCP packets a key has no index left: nothing is sent then, least of all the first
// ones again.
static void test_no_index_comes_twice(void **state)
{
    uint8_t packet[128];
    size_t size = sizeof(packet) - PROTECT_RTCP_ROOM;
    struct worker *worker = &world.workers[0];
    struct session *session = session_of(&viewer);
    uint64_t sent = worker->stats->count[COUNT_rtcp_out];
    session->rtcp_index = 0x7ffffffe;
    for (unsigned i = 0; i < 5; i++) {
        size_t length = rtcp_write_rr(packet, size, 0, 1, NULL, 0);
        assert_int_equal(feedback_send(worker, session, packet, length), i < 2 ? 0 : -EOVERFLOW);
    }
    assert_int_equal(worker->stats->count[COUNT_rtcp_out] - sent, 2);
    assert_true(session->rtcp_index == UINT32_C(1) << 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_request_has_the_fate_of_the_model, begin, end),
        cmocka_unit_test_setup_teardown(test_repeats_within_a_round_trip, begin, end),
        cmocka_unit_test_setup_teardown(test_a_flood_costs_nobody_else, begin, end),
        cmocka_unit_test_setup_teardown(test_a_flood_of_numbers_is_not_looked_up, begin, end),
        cmocka_unit_test_setup_teardown(test_key_frames_come_first, begin, end),
        cmocka_unit_test_setup_teardown(test_what_matters_most_is_sent_first, begin, end),
        cmocka_unit_test_setup_teardown(test_a_large_loss_is_answered_once, begin_large, end_large),
        cmocka_unit_test_setup_teardown(test_the_adaptive_policy_opens_and_shuts, begin, end),
        cmocka_unit_test_setup_teardown(test_reports_give_the_round_trip, begin, end),
        cmocka_unit_test_setup_teardown(test_a_report_counts_payload, begin, end),
        cmocka_unit_test_setup_teardown(test_key_frames_are_wished_for, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_hostile_is_dropped_by_name, begin, end),
        cmocka_unit_test_setup_teardown(test_a_viewer_that_goes_is_told_bye, begin, end),
        cmocka_unit_test_setup_teardown(test_no_index_comes_twice, begin, end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
