// What crosses from worker to worker: a stream's packets by reference, frames that came to the
// wrong queue. No reference is left behind, whatever the mailboxes' state. test_threads.c has real
// threads.
#include "../sim/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

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
    bool key = next_index % 50 == 0;
    world_publish(&world, &publisher, queue, ++next_index, key, 500);
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

static const struct media *ring_packet(uint32_t worker, uint64_t back)
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
    assert_int_equal(world_packets_out(&world), 0);
    return left ? 0 : -1;
}

static unsigned on_their_way(void)
{
    return rte_mempool_in_use_count(eal_worker_pools(0)->media);
}

// On its way it is one, then each core has its own copy, and nobody the mbuf.
static void test_a_stream_is_handed_over_by_reference(void **state)
{
    for (unsigned i = 0; i < 60; i++) {
        put(0);
        turn(0, 1);
        assert_int_equal(on_their_way(), 1);
        world_turn(&world);
        assert_int_equal(on_their_way(), 0);
    }
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(frames_to(&viewer[w], CLASS_RTP), 60);
    for (uint64_t back = 1; back <= 60; back++) {
        const struct media *m = ring_packet(0, back);
        assert_non_null(m);
        for (uint32_t w = 1; w < WORKERS; w++) {
            assert_ptr_not_equal(ring_packet(w, back), m);
            assert_memory_equal(ring_packet(w, back), m, media_size(m));
        }
    }
    // One core serves it no longer.
    forward_to(1u << 1);
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
    world_tell(&world, 2, &close);
    world_turn(&world);
    assert_int_equal(world.workers[2].store->free, world.workers[2].store->blocks);
    put(0);
    turn(0, 1);
    turn(1, 1);
    assert_int_equal(on_their_way(), 0);
    // A packet on its way to a core that has just closed the stream is let go there.
    forward_to(3u << 1);
    put(0);
    turn(0, 1);
    turn(1, 1);
    assert_int_equal(on_their_way(), 1);
    turn(2, 1);
    assert_int_equal(on_their_way(), 0);
    world_open_stream(&world, STREAM_ID, 2, 0);
    world_turn(&world);
}

static void test_a_full_mailbox_is_a_named_drop(void **state)
{
    const unsigned packets = MAILBOX_SIZE + 100, fit = MAILBOX_SIZE - 1;
    uint64_t dropped = drops(0, DROP_handover_full), no_mbuf = drops(0, DROP_no_mbuf);
    forward_to(1u << 1);
    for (unsigned i = 0; i < packets; i++) {
        put(0);
        turn(0, 1); // worker 1 stands still
    }
    assert_int_equal(drops(0, DROP_handover_full) - dropped, packets - fit);
    assert_int_equal(drops(0, DROP_no_mbuf), no_mbuf); // the pool allows for it
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stream_is_handed_over_by_reference, begin, end),
        cmocka_unit_test_setup_teardown(test_a_full_mailbox_is_a_named_drop, begin, end),
        cmocka_unit_test_setup_teardown(test_frames_at_the_wrong_queue_reach_their_owner, begin,
                                        end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
