// What crosses from worker to worker: a stream's packets by reference, frames that came to the
// wrong queue. No reference is left behind, whatever the mailboxes' state; and with real threads.
#include "../sim/world.h"
#include <rte_launch.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#define WORKERS 3

static struct world world;
static struct client publisher, viewer[WORKERS]; // viewer w is worker w's

static uint64_t drops(uint32_t worker, enum drop what)
{
    return world.workers[worker].stats->drop[what];
}

static uint64_t counted(uint32_t worker, enum count what)
{
    return world.workers[worker].stats->count[what];
}

static void forward_to(uint32_t workers)
{
    struct msg_stream_forward forward = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(forward), .id = STREAM_ID},
        .workers = workers};
    world_tell(&world, 0, &forward);
    world_turn(&world);
}

static uint64_t next_index;

// On the wire of worker `queue`.
static void put(unsigned queue)
{
    uint8_t wire[1600], body[500] = {0};
    bool key = next_index % 50 == 0;
    size_t size =
        world_seal(&world, &publisher, VIDEO_SSRC, ++next_index, key, body, sizeof(body), wire);
    world_inject(&world, queue, &publisher.addr, world.config.media4.port, wire, size);
}

// Turns of one worker alone; the others stand still.
static void turn(uint32_t worker, unsigned turns)
{
    for (unsigned i = 0; i < turns; i++) {
        world.workers[worker].now_ns = world.now_ns;
        worker_turn(&world.workers[worker]);
    }
}

static unsigned frames_to(const struct client *client, enum parse_class class)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world.out_count; i++)
        count += world.out[i].parsed.class == class &&
                 memcmp(&world.out[i].parsed.dst, &client->addr, sizeof(client->addr)) == 0;
    return count;
}

static struct rte_mbuf *ring_packet(uint32_t worker, uint64_t back)
{
    const struct track *track = &tables_stream(&world.workers[worker].tables, STREAM_ID)->track[0];
    return cache_get(&track->ring, track->next_index - back);
}

static int setup(void **state)
{
    srandom(2);
    return world_start(&world, &(struct abi_config){.workers = WORKERS,
                                                    .max_sessions = 16,
                                                    .rx_mbufs = 4095,
                                                    .tx_mbufs = 4095,
                                                    .cache_mbufs = 4095});
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

static int begin(void **state)
{
    next_index = 0;
    for (uint32_t w = 0; w < WORKERS; w++)
        world_open_stream(&world, STREAM_ID, w, 0);
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    for (uint32_t w = 0; w < WORKERS; w++)
        world_join(&world, &viewer[w], ROLE_PLAY, STREAM_ID, w, 2 + w, PROFILE_AEAD_AES_128_GCM,
                   true);
    forward_to((1u << WORKERS) - 1 - 1);
    world_pass(&world, 200); // the figures of the test before are over
    return 0;
}

static int end(void **state)
{
    bool left = world_leave(&world, &publisher);
    for (uint32_t w = 0; w < WORKERS; w++) {
        struct msg_stream_close close = {
            .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
        left = world_leave(&world, &viewer[w]) && left;
        world_tell(&world, w, &close);
    }
    world_turn(&world);
    world.out_count = 0;
    for (uint32_t w = 0; w < WORKERS; w++) {
        const struct eal_pools *pools = eal_worker_pools(w);
        assert_int_equal(rte_mempool_in_use_count(pools->rx), 0);
        assert_int_equal(rte_mempool_in_use_count(pools->tx), 0);
        assert_int_equal(rte_mempool_in_use_count(pools->cache), 0);
    }
    return left ? 0 : -1;
}

static void test_a_stream_is_shared_by_reference(void **state)
{
    for (unsigned i = 0; i < 60; i++) {
        put(0);
        world_turn(&world);
    }
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(frames_to(&viewer[w], CLASS_RTP), 60);
    for (uint64_t back = 1; back <= 60; back++) {
        struct rte_mbuf *m = ring_packet(0, back);
        assert_non_null(m);
        assert_int_equal(rte_mbuf_refcnt_read(m), WORKERS);
        for (uint32_t w = 1; w < WORKERS; w++)
            assert_ptr_equal(ring_packet(w, back), m);
    }
    // One core serves it no longer.
    forward_to(1u << 1);
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    world_tell(&world, 2, &close);
    world_turn(&world);
    assert_int_equal(rte_mbuf_refcnt_read(ring_packet(0, 1)), WORKERS - 1);
    put(0);
    world_turn(&world);
    assert_int_equal(rte_mbuf_refcnt_read(ring_packet(0, 1)), 2);
    // A packet on its way to a core that has just closed the stream is let go there.
    forward_to(3u << 1);
    put(0);
    world_turn(&world);
    assert_int_equal(rte_mbuf_refcnt_read(ring_packet(0, 1)), 2);
    world_open_stream(&world, STREAM_ID, 2, 0);
    world_turn(&world);
}

static void test_a_full_mailbox_is_a_named_drop(void **state)
{
    const unsigned packets = MAILBOX_SIZE + 100, fit = MAILBOX_SIZE - 1;
    uint64_t dropped = drops(0, DROP_handover_full);
    forward_to(1u << 1);
    for (unsigned i = 0; i < packets; i++) {
        put(0);
        turn(0, 1); // worker 1 stands still
    }
    assert_int_equal(drops(0, DROP_handover_full) - dropped, packets - fit);
    world_turn(&world);
    assert_int_equal(frames_to(&viewer[0], CLASS_RTP), packets);
    while (counted(1, COUNT_rtp_out) < fit && world.out_count < 4000)
        world_turn(&world);
    assert_int_equal(frames_to(&viewer[1], CLASS_RTP), fit);
    assert_int_equal(drops(0, DROP_handover_full) - dropped, packets - fit);
    // The figures said so: what waited most in the last period, and what waits now.
    world_pass(&world, 200);
    assert_int_equal(world.workers[1].stats->mailbox_size, MAILBOX_SIZE);
    assert_int_equal(world.workers[1].stats->media_waiting, fit);
    assert_int_equal(world.workers[2].stats->media_waiting, 0);
    world_pass(&world, 200);
    assert_int_equal(world.workers[1].stats->media_waiting, 0);
    // It goes on.
    world.out_count = 0;
    put(0);
    world_turn(&world);
    assert_int_equal(frames_to(&viewer[1], CLASS_RTP), 1);
}

static void test_frames_at_the_wrong_queue_reach_their_owner(void **state)
{
    uint64_t handed = counted(1, COUNT_handed_over), dropped = drops(1, DROP_handover_full);
    for (unsigned i = 0; i < 40; i++) {
        put(i % 2);
        world_turn(&world);
    }
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(frames_to(&viewer[w], CLASS_RTP), 40);
    assert_int_equal(counted(1, COUNT_handed_over) - handed, 20);
    // More than its owner takes: named where it is dropped, and no frame is left.
    for (unsigned i = 0; i < MAILBOX_SIZE + 50; i++) {
        put(1);
        turn(1, 1);
    }
    assert_int_equal(drops(1, DROP_handover_full) - dropped, 51);
    while (rte_mempool_in_use_count(eal_worker_pools(1)->rx)) {
        world_turn(&world);
        world.out_count = 0;
    }
    world_pass(&world, 200);
    assert_int_equal(world.workers[0].stats->frames_waiting, MAILBOX_SIZE - 1);
}

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int run(void *argument)
{
    struct worker *worker = argument;
    while (!atomic_load(&world.dp.stop)) {
        worker->now_ns = clock_ns();
        if (!worker_turn(worker))
            sched_yield();
    }
    return 0;
}

static uint64_t read_stat(const uint64_t *value)
{
    return __atomic_load_n(value, __ATOMIC_RELAXED);
}

// Everybody on a thread of its own: what worker 0 took is sent by the others or named, and all
// references come back (`end`), whoever let go last.
static void test_with_real_threads(void **state)
{
    const unsigned packets = 10000;
    const struct stats_worker *stats[WORKERS];
    uint64_t sent[WORKERS], full = drops(0, DROP_handover_full), in = counted(0, COUNT_rtp_in);
    for (uint32_t w = 0; w < WORKERS; w++) {
        stats[w] = world.workers[w].stats;
        sent[w] = stats[w]->count[COUNT_rtp_out];
    }
    put(0); // a key frame first, so that each takes all that follows
    world_turn(&world);
    atomic_store(&world.dp.stop, false);
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(rte_eal_remote_launch(run, &world.workers[w], eal_worker_lcore(w)), 0);
    uint64_t deadline = clock_ns() + UINT64_C(60000) * MS;
    struct rte_ring *tx[WORKERS];
    for (uint32_t w = 0; w < WORKERS; w++) {
        char name[32];
        snprintf(name, sizeof(name), "port_tx_%u", w);
        tx[w] = rte_ring_lookup(name);
        assert_non_null(tx[w]);
    }
    for (unsigned i = 1, waiting = 0; clock_ns() < deadline;) {
        void *m;
        for (uint32_t w = 0; w < WORKERS; w++)
            while (rte_ring_dequeue(tx[w], &m) == 0)
                rte_pktmbuf_free(m);
        uint64_t taken = read_stat(&stats[0]->count[COUNT_rtp_in]) - in;
        uint64_t lost = read_stat(&stats[0]->drop[DROP_handover_full]) - full, out = 0;
        for (uint32_t w = 1; w < WORKERS; w++)
            out += read_stat(&stats[w]->count[COUNT_rtp_out]) - sent[w];
        waiting = i - (unsigned)taken;
        if (i < packets && waiting < 64) {
            put(0);
            i++;
        } else if (i == packets && out + lost == (uint64_t)packets * (WORKERS - 1)) {
            break;
        } else {
            sched_yield();
        }
    }
    atomic_store(&world.dp.stop, true);
    for (uint32_t w = 0; w < WORKERS; w++)
        rte_eal_wait_lcore(eal_worker_lcore(w));
    uint64_t out = 0;
    for (uint32_t w = 1; w < WORKERS; w++)
        out += counted(w, COUNT_rtp_out) - sent[w];
    assert_int_equal(counted(0, COUNT_rtp_in) - in, packets);
    assert_int_equal(out + drops(0, DROP_handover_full) - full, (uint64_t)packets * (WORKERS - 1));
    world.out_count = 0;
    world.now_ns = clock_ns();
    world_turn(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stream_is_shared_by_reference, begin, end),
        cmocka_unit_test_setup_teardown(test_a_full_mailbox_is_a_named_drop, begin, end),
        cmocka_unit_test_setup_teardown(test_frames_at_the_wrong_queue_reach_their_owner, begin,
                                        end),
        cmocka_unit_test_setup_teardown(test_with_real_threads, begin, end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
