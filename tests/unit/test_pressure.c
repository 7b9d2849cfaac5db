// Real workers that run out of buffers: everything that does not happen has a name, nothing
// crashes, nothing leaks, and all goes on by itself when there are buffers again.
#include "../sim/world.h"
#include <rte_mempool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WORKERS 3
#define VIEWERS 5
#define OTHER_STREAM (STREAM_ID + 1)

static struct world world;
static struct client publisher, viewer[VIEWERS];

static uint64_t drops(enum drop what)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < WORKERS; w++)
        sum += world.workers[w].stats->drop[what];
    return sum;
}

static uint64_t counted(enum count what)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < WORKERS; w++)
        sum += world.workers[w].stats->count[what];
    return sum;
}

// ---- buffers that are taken away

static struct rte_mbuf *taken[4096];
static unsigned taken_count;

// Takes mbufs until the pool has `left`.
static void take_away(struct rte_mempool *pool, unsigned left)
{
    while (eal_pool_free(pool) > left) {
        struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
        if (!m)
            break;
        assert_true(taken_count < RTE_DIM(taken));
        taken[taken_count++] = m;
    }
}

static void give_back(void)
{
    while (taken_count)
        rte_pktmbuf_free(taken[--taken_count]);
}

// ---- buffers that fail by count: allocations go to this instead of the pool's own ring

static const struct rte_mempool_ops *real_ops;
static long fail_at = -1; // calls until one fails; negative: none does
static bool fail_on;      // so do all after it
static unsigned failures;

static int failing_dequeue(struct rte_mempool *pool, void **objects, unsigned n)
{
    if (fail_at == 0 || (fail_on && fail_at < 0 && failures)) {
        fail_at = -1;
        failures++;
        return -ENOBUFS;
    }
    if (fail_at > 0)
        fail_at--;
    return real_ops->dequeue(pool, objects, n);
}

static int failing_enqueue(struct rte_mempool *pool, void *const *objects, unsigned n)
{
    return real_ops->enqueue(pool, objects, n);
}

static unsigned failing_count(const struct rte_mempool *pool)
{
    return real_ops->get_count(pool);
}

static void failing_free(struct rte_mempool *pool)
{
    real_ops->free(pool);
}

static int failing_alloc(struct rte_mempool *pool)
{
    return real_ops->alloc(pool);
}

static void make_fallible(struct rte_mempool *pool, int ops)
{
    struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id());
    if (cache)
        rte_mempool_cache_flush(cache, pool);
    pool->cache_size = 0; // so that every allocation asks
    pool->ops_index = ops;
}

// ---- the world

static void publish_on(struct client *client, uint64_t index, bool keyframe)
{
    world_publish(&world, client, 0, index, keyframe, 300);
    world_turn(&world);
}

static uint64_t next_index = 100;

static void publish(unsigned count)
{
    for (unsigned i = 0; i < count; i++, next_index++)
        publish_on(&publisher, next_index, next_index == 100);
}

static unsigned frames_to(const struct client *client, enum parse_class class)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world.out_count; i++)
        count += world.out[i].parsed.class == class &&
                 memcmp(&world.out[i].parsed.dst, &client->addr, sizeof(client->addr)) == 0;
    return count;
}

static unsigned media_out(void)
{
    unsigned count = 0;
    for (unsigned v = 0; v < VIEWERS; v++)
        count += frames_to(&viewer[v], CLASS_RTP);
    return count;
}

static void close_stream(uint64_t stream)
{
    struct msg_stream_close close = {
        .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = stream}};
    for (uint32_t w = 0; w < WORKERS; w++)
        world_tell(&world, w, &close);
    world_turn(&world);
}

static void ask_again(struct client *client, uint64_t back)
{
    uint8_t packet[256];
    struct session *session = tables_session(&world.workers[client->worker].tables, client->id);
    struct sub *sub = tables_sub(&world.workers[client->worker].tables, session, 0);
    struct track *track =
        &tables_stream(&world.workers[client->worker].tables, STREAM_ID)->track[0];
    uint16_t seq = (uint16_t)(track->next_index - back + sub->delta);
    size_t length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 200, length, 1, client->rtp[0].ssrc, &seq, 1);
    world_rtcp(&world, client, packet, length);
}

static int setup(void **state)
{
    srandom(1);
    if (world_start(&world, &(struct abi_config){.workers = WORKERS,
                                                 .max_sessions = 32,
                                                 .max_streams = 8,
                                                 .rx_mbufs = 1023,
                                                 .tx_mbufs = 511,
                                                 .cache_mbufs = 1023}))
        return -1;
    static struct rte_mempool_ops failing = {.name = "failing",
                                             .alloc = failing_alloc,
                                             .free = failing_free,
                                             .enqueue = failing_enqueue,
                                             .dequeue = failing_dequeue,
                                             .get_count = failing_count};
    real_ops = rte_mempool_get_ops(eal_worker_pools(0)->tx->ops_index);
    int ops = rte_mempool_register_ops(&failing);
    if (ops < 0)
        return -1;
    for (uint32_t w = 0; w < WORKERS; w++) {
        make_fallible(eal_worker_pools(w)->tx, ops);
        make_fallible(eal_worker_pools(w)->media, ops);
    }
    for (uint32_t w = 0; w < WORKERS; w++)
        world_open_stream(&world, STREAM_ID, w, 0);
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    for (uint32_t v = 0; v < VIEWERS; v++)
        world_join(&world, &viewer[v], ROLE_PLAY, STREAM_ID, 0, 2 + v,
                   v % 2 ? PROFILE_AES128_CM_SHA1_80 : PROFILE_AEAD_AES_128_GCM, v % 3 != 0);
    publish(1);
    world.out_count = 0;
    return 0;
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

static void test_nothing_left_to_send_with(void **state)
{
    struct rte_mempool *pool = eal_worker_pools(0)->tx;
    uint64_t before = drops(DROP_no_mbuf);
    take_away(pool, 0);
    publish(1);
    assert_int_equal(world.out_count, 0);
    assert_int_equal(drops(DROP_no_mbuf), before + VIEWERS);
    world_check(&world, &viewer[0], &viewer[0].addr, false, &viewer[0].key);
    ask_again(&viewer[1], 1);
    assert_int_equal(world.out_count, 0);
    assert_int_equal(drops(DROP_no_mbuf), before + VIEWERS + 2);
    world_pass(&world, 1500); // reports, questions to the publisher
    assert_int_equal(world.out_count, 0);
    // One buffer comes back: the packet, to one viewer after the other, needs no more.
    uint64_t now = drops(DROP_no_mbuf);
    rte_pktmbuf_free(taken[--taken_count]);
    publish(1);
    assert_true(media_out() >= 1);
    assert_int_equal(media_out() + drops(DROP_no_mbuf) - now, VIEWERS);
    give_back();
    // All of them: at once, and what was lost can be had.
    now = drops(DROP_no_mbuf);
    world.out_count = 0;
    publish(1);
    assert_int_equal(media_out(), VIEWERS);
    world.out_count = 0;
    ask_again(&viewer[1], 3);
    assert_int_equal(frames_to(&viewer[1], CLASS_RTP), 1);
    assert_int_equal(drops(DROP_no_mbuf), now);
    world.out_count = 0;
}

static void test_nothing_left_to_open_with(void **state)
{
    struct rte_mempool *pool = eal_worker_pools(0)->media;
    take_away(pool, 0);
    uint64_t before = drops(DROP_no_mbuf);
    publish(5);
    assert_int_equal(drops(DROP_no_mbuf), before + 5);
    assert_int_equal(media_out(), 0);
    // What is in the ring is resent all the same.
    ask_again(&viewer[2], 1);
    assert_int_equal(frames_to(&viewer[2], CLASS_RTP), 1);
    give_back();
    world.out_count = 0;
    publish(1);
    assert_int_equal(media_out(), VIEWERS);
    assert_int_equal(drops(DROP_no_mbuf), before + 5);
    world.out_count = 0;
}

// ---- blocks of the rings' memory that are taken away

static const uint8_t *blocks[256];
static unsigned block_count;
static struct cache_pen pen = {.block = CACHE_NO_BLOCK};

static void take_blocks(uint32_t left)
{
    struct cache_store *store = world.workers[0].store;
    while (store->free > left) {
        assert_true(block_count < RTE_DIM(blocks));
        blocks[block_count] = cache_store_take(store, &pen, CACHE_BLOCK);
        assert_non_null(blocks[block_count++]);
    }
}

static void give_blocks_back(void)
{
    struct cache_store *store = world.workers[0].store;
    while (block_count)
        cache_store_give(store, &pen, blocks[--block_count]);
    cache_store_lift(store, &pen);
}

// A ring without memory goes on with what it has; one that has none takes nothing, by name.
static void test_nothing_left_to_keep(void **state)
{
    uint64_t before = drops(DROP_no_mbuf);
    take_blocks(0);
    publish(200);
    assert_int_equal(media_out(), 200 * VIEWERS);
    assert_int_equal(drops(DROP_no_mbuf), before);
    world.out_count = 0;
    ask_again(&viewer[2], 1);
    assert_int_equal(frames_to(&viewer[2], CLASS_RTP), 1);
    struct client other = {0};
    world_open_stream(&world, OTHER_STREAM, 0, 0);
    world_join(&world, &other, ROLE_PUBLISH, OTHER_STREAM, 0, 20, PROFILE_AEAD_AES_128_GCM, true);
    world.out_count = 0;
    publish_on(&other, 1, true);
    assert_int_equal(drops(DROP_no_mbuf), before + 1);
    give_blocks_back();
    publish_on(&other, 2, true);
    assert_int_equal(drops(DROP_no_mbuf), before + 1);
    assert_true(world_leave(&world, &other));
    close_stream(OTHER_STREAM);
    world.out_count = 0;
}

// The control plane's admission looks at these figures (session_admit.c).
static void test_pressure_is_told(void **state)
{
    const struct stats_worker *stats = world.workers[0].stats;
    const struct eal_pools *pools = eal_worker_pools(0);
    const struct {
        struct rte_mempool *pool; // NULL: the rings' memory
        const uint32_t *free, *size;
    } rows[] = {{pools->rx, &stats->rx_free, &stats->rx_size},
                {pools->tx, &stats->tx_free, &stats->tx_size},
                {NULL, &stats->cache_free, &stats->cache_size}};
    for (unsigned i = 0; i < RTE_DIM(rows); i++) {
        struct rte_mempool *pool = rows[i].pool;
        uint32_t size = pool ? pool->size : world.workers[0].store->blocks, fifth = size / 5;
        world_pass(&world, 250);
        assert_int_equal(*rows[i].size, size);
        assert_int_equal(*rows[i].free, pool ? eal_pool_free(pool) : world.workers[0].store->free);
        assert_false(stats_pool_tight(*rows[i].free, *rows[i].size));
        pool ? take_away(pool, fifth + 2) : take_blocks(fifth + 2);
        world_pass(&world, 250);
        assert_false(stats_pool_tight(*rows[i].free, *rows[i].size));
        pool ? take_away(pool, fifth - 2) : take_blocks(fifth - 2);
        world_pass(&world, 250);
        assert_true(stats_pool_tight(*rows[i].free, *rows[i].size));
        give_back();
        give_blocks_back();
        world_pass(&world, 250);
        assert_false(stats_pool_tight(*rows[i].free, *rows[i].size));
    }
    world.out_count = 0;
}

// The rings' memory runs out: they give way, nothing is lost for it, and all comes back by itself.
static void test_rings_give_way(void **state)
{
    const struct track *track = &tables_stream(&world.workers[0].tables, STREAM_ID)->track[0];
    const struct cache_store *store = world.workers[0].store;
    for (unsigned ms = 0; ms < 2000; ms++) {
        publish(ms % 5 < 2); // 400 a second: 512 slots
        world.now_ns += MS;
        world.out_count = 0;
    }
    assert_int_equal(track->ring.used, 512);
    uint64_t before = drops(DROP_no_mbuf);
    uint32_t had = track->ring.pen.held;
    take_blocks(1); // less than a sixteenth
    world_pass(&world, 20);
    assert_true(store->free >= store->blocks / 16);
    assert_in_range(track->ring.pen.held, 1, had / 2);
    for (unsigned ms = 0; ms < 1000; ms++) {
        publish(ms % 5 < 2);
        world.now_ns += MS;
        world.out_count = 0;
    }
    assert_int_equal(drops(DROP_no_mbuf), before);
    assert_true(track->ring.used < 512);
    give_blocks_back();
    for (unsigned ms = 0; ms < 1300; ms++) {
        publish(ms % 5 < 2);
        world.now_ns += MS;
        world.out_count = 0;
    }
    assert_int_equal(track->ring.used, 512); // as soon as so many have come
}

// ---- one allocation after the other

// What a worker does for clients in a second, by everything that allocates.
static void one_second_of_everything(void)
{
    struct msg_dtls dtls = {.head = {.type = MSG_DTLS_SEND, .id = viewer[0].id}, .size = 100};
    dtls.head.length = offsetof(struct msg_dtls, data) + 100;
    publish(2);
    next_index++; // a gap, to be asked for
    publish(1);
    world_check(&world, &viewer[3], &viewer[3].addr, false, &viewer[3].key);
    ask_again(&viewer[0], 1); // plain
    ask_again(&viewer[1], 1); // RTX
    world_tell(&world, 0, &dtls);
    world_turn(&world);
    world_pass(&world, 1100);
}

static void test_each_allocation_may_fail(void **state)
{
    one_second_of_everything();
    world.out_count = 0;
    uint64_t dropped = drops(DROP_no_mbuf), resent = counted(COUNT_nack_answered);
    one_second_of_everything();
    unsigned all = world.out_count;
    assert_int_equal(drops(DROP_no_mbuf), dropped);
    assert_int_equal(counted(COUNT_nack_answered), resent + 2);
    assert_true(all > 3 * VIEWERS + 4);
    for (int then = 0; then < 2; then++) {
        fail_on = then;
        unsigned n = 0;
        do {
            failures = 0;
            fail_at = n++;
            world.out_count = 0;
            dropped = drops(DROP_no_mbuf);
            one_second_of_everything();
            // Once: a burst is tried again by halves, so that nothing or one thing is missing. A
            // packet that cannot be kept is missing for everybody.
            if (failures == 1 && !fail_on)
                assert_in_range(drops(DROP_no_mbuf) - dropped, 0, 1);
            if (failures && fail_on)
                assert_true(drops(DROP_no_mbuf) > dropped);
            bool failed = failures > 0;
            fail_at = -1;
            failures = 0;
            world.out_count = 0;
            publish(1);
            assert_int_equal(media_out(), VIEWERS);
            if (!failed)
                break;
        } while (n < 200);
        assert_in_range(n, 10, 199);
    }
}

static void test_all_come_back(void **state)
{
    for (unsigned v = 0; v < VIEWERS; v++)
        assert_true(world_leave(&world, &viewer[v]));
    assert_true(world_leave(&world, &publisher));
    close_stream(STREAM_ID);
    assert_int_equal(world_packets_out(&world), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_left_to_send_with),
        cmocka_unit_test(test_nothing_left_to_open_with),
        cmocka_unit_test(test_nothing_left_to_keep),
        cmocka_unit_test(test_pressure_is_told),
        cmocka_unit_test(test_rings_give_way),
        cmocka_unit_test(test_each_allocation_may_fail),
        cmocka_unit_test(test_all_come_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
