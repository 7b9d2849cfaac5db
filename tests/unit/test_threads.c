// Workers on threads of their own, and all that passes between them: frames of the wrong queue and
// a stream's packets in mailboxes, key-frame wishes, messages, counters that are read meanwhile. A
// unit test, and the one that scripts/test tsan runs under ThreadSanitizer.
//
// What ThreadSanitizer does not see there, and what stands for it: DPDK's rings have compiler
// barriers on x86, so that build defines RTE_USE_C11_MEM_MODEL, which makes them atomics, in the
// code that is inlined into ours. Code in DPDK's own libraries is not instrumented: a pool is
// wrapped in functions that say what it guarantees, and a function that lets go of packets is
// replaced by its definition. Not covered: payloads, which only ipsec-mb's assembler touches.
#include "../sim/world.h"
#include <rte_lcore.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WORKERS 3
#define PACKETS 10000
#define GATE 1        // whose queue the publisher's frames come to; they are worker 0's
#define AHEAD 16      // packets on their way at most
#define ASK_EVERY 16  // packets between two requests of a viewer
#define ASK_BACK 24   // how far back it asks, where the answer is in the ring
#define LIMIT_S 100   // ThreadSanitizer on a busy machine
#define STAGES_S 3600 // for which cycles per stage are counted

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>

// How full a mailbox is: DPDK reads the other side's position as a plain volatile.
const char *__tsan_default_suppressions(void);
__attribute__((no_sanitize("thread"))) const char *__tsan_default_suppressions(void)
{
    return "race:rte_ring_count\nrace:rte_ring_empty\n";
}

static struct rte_mempool_ops real_pool, seen_pool = {.name = "seen"};

// Who reads a reference count of 1 comes after all who let go: DPDK reads it relaxed, and x86 has
// no other loads than those that acquire.
static int give(struct rte_mempool *pool, void *const *packets, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        __tsan_acquire(&((struct rte_mbuf *)packets[i])->refcnt);
        __tsan_release(packets[i]);
    }
    return real_pool.enqueue(pool, packets, count);
}

static int take(struct rte_mempool *pool, void **packets, unsigned count)
{
    int rc = real_pool.dequeue(pool, packets, count);
    for (unsigned i = 0; rc == 0 && i < count; i++)
        __tsan_acquire(packets[i]);
    return rc;
}

void rte_pktmbuf_free_bulk(struct rte_mbuf **packets, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        rte_pktmbuf_free(packets[i]);
}

static void show_pool(struct rte_mempool *pool)
{
    if (!seen_pool.enqueue) {
        real_pool = *rte_mempool_get_ops(pool->ops_index);
        seen_pool = real_pool;
        snprintf(seen_pool.name, sizeof(seen_pool.name), "seen");
        seen_pool.enqueue = give;
        seen_pool.dequeue = take;
    }
    static int index = -1;
    if (index < 0)
        index = rte_mempool_register_ops(&seen_pool);
    assert_in_range(index, 0, RTE_MEMPOOL_MAX_OPS_IDX - 1);
    pool->ops_index = index;
    pool->cache_size = 0; // the pool itself, every time
}
#else
static void show_pool(struct rte_mempool *pool)
{
}
#endif

static struct world world;
static struct client publisher, viewer[WORKERS]; // viewer w is worker w's
static uint64_t next_index;
static uint16_t first_seq[WORKERS]; // of the first packet that counts, as viewer w knows it
static uint64_t seen[WORKERS][COUNTS + DROPS + STAGES];

static uint64_t look(const uint64_t *figure)
{
    return __atomic_load_n(figure, __ATOMIC_RELAXED);
}

static uint64_t count_of(uint32_t worker, enum count what)
{
    return look(&channel_worker_stats(&world.dataplane, worker)->count[what]);
}

// As the control plane reads them, but where the workers see them too: ThreadSanitizer knows
// nothing of a second mapping. No counter ever goes back.
static void read_figures(void)
{
    for (uint32_t w = 0; w < WORKERS; w++) {
        const struct stats_worker *stats = channel_worker_stats(&world.dataplane, w);
        for (unsigned i = 0; i < COUNTS + DROPS + STAGES; i++) {
            uint64_t now = look(i < COUNTS           ? &stats->count[i]
                                : i < COUNTS + DROPS ? &stats->drop[i - COUNTS]
                                                     : &stats->stage_cycles[i - COUNTS - DROPS]);
            if (now < seen[w][i])
                fail_msg("worker %u, figure %u: from %lu to %lu", w, i, seen[w][i], now);
            seen[w][i] = now;
        }
        const struct stats_session *session =
            channel_session_stats(&world.dataplane, w, MSG_SLOT(viewer[w].id));
        if (stats_holder(&session->id) == viewer[w].id)
            assert_in_range(look(&session->resent), 0, look(&session->packets_out) + PACKETS);
        assert_in_range(__atomic_load_n(&stats->sessions, __ATOMIC_RELAXED), 0, 2);
    }
    const struct stats_stream *stream = channel_stream_stats(&world.dataplane, MSG_SLOT(STREAM_ID));
    if (stats_holder(&stream->id))
        assert_true(look(&stream->id) == STREAM_ID);
}

static void put(void)
{
    bool key = next_index % 50 == 0;
    world_publish(&world, &publisher, GATE, ++next_index, key, 500);
}

// The viewer has lost a packet, and cannot decode.
static void ask(uint32_t w, unsigned packet)
{
    struct client *client = &viewer[w];
    uint8_t wire[256];
    size_t room = sizeof(wire) - PROTECT_RTCP_ROOM, size;
    uint16_t lost = (uint16_t)(first_seq[w] + packet - ASK_BACK);
    size_t length = rtcp_write_rr(wire, room, 0, 1, NULL, 0);
    length = rtcp_write_nack(wire, room, length, 1, client->rtp[0].ssrc, &lost, 1);
    length = rtcp_write_pli(wire, room, length, 1, client->rtp[0].ssrc);
    assert_int_equal(protect_rtcp_seal(world.crypto, &client->rtcp_tx, wire, length,
                                       ++client->rtcp_index, &size),
                     0);
    world_inject(&world, w, &client->addr, (uint16_t)(world.config.media4.port + w), wire, size);
}

static int setup(void **state)
{
    srandom(3);
    int rc = world_start(&world, &(struct abi_config){.workers = WORKERS,
                                                      .port_kind = ABI_PORT_NULL,
                                                      .max_sessions = 16,
                                                      .rx_mbufs = 4095,
                                                      .tx_mbufs = 4095,
                                                      .cache_mbufs = 4095});
    if (rc)
        return rc;
    for (uint32_t w = 0; w < WORKERS; w++) {
        const struct eal_pools *pools = eal_worker_pools(w);
        show_pool(pools->rx);
        show_pool(pools->tx);
        show_pool(pools->media);
        world_open_stream(&world, STREAM_ID, w, 0);
    }
    world.now_ns = worker_clock();
    world_join(&world, &publisher, ROLE_PUBLISH, STREAM_ID, 0, 1, PROFILE_AEAD_AES_128_GCM, true);
    for (uint32_t w = 0; w < WORKERS; w++)
        world_join(&world, &viewer[w], ROLE_PLAY, STREAM_ID, w, 2 + w, PROFILE_AEAD_AES_128_GCM,
                   true);
    struct msg_stream_forward forward = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(forward), .id = STREAM_ID},
        .workers = (1u << WORKERS) - 1 - 1};
    world_tell(&world, 0, &forward);
    channel_ask_stages(&world.control, world.now_ns + STAGES_S * 1000 * MS);
    world_turn(&world);
    put(); // a key frame first, so that each takes all that follows
    world_turn(&world);
    for (uint32_t w = 0; w < WORKERS; w++) {
        struct tables *tables = &world.workers[w].tables;
        const struct sub *sub = tables_sub(tables, tables_session(tables, viewer[w].id), 0);
        const struct track *track = &tables_stream(tables, STREAM_ID)->track[0];
        first_seq[w] = (uint16_t)(track->next_index + sub->delta);
    }
    return 0;
}

static int teardown(void **state)
{
    world_stop(&world);
    return 0;
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    if (rte_thread_register())
        abort();
    while (!atomic_load(&world.dp.stop))
        if (!worker_timed_turn(worker))
            sched_yield();
    rte_thread_unregister();
    return NULL;
}

// Packets that a worker has sealed for its viewer.
static uint64_t sealed(uint32_t worker, const uint64_t before[WORKERS])
{
    return count_of(worker, COUNT_rtp_out) - before[worker];
}

// Until all viewers have them, as fast as the slowest worker goes.
static void publish_all(const uint64_t before[WORKERS])
{
    uint64_t deadline = worker_clock() + LIMIT_S * 1000 * MS, through = 0;
    for (unsigned i = 0; through < PACKETS && worker_clock() < deadline;) {
        through = sealed(0, before);
        for (uint32_t w = 1; w < WORKERS; w++)
            through = RTE_MIN(through, sealed(w, before));
        if (i == PACKETS || i - through >= AHEAD) {
            sched_yield();
            continue;
        }
        put();
        if (++i % ASK_EVERY == 0 && i > ASK_BACK) {
            uint32_t w = 1 + i / ASK_EVERY % (WORKERS - 1);
            ask(w, i);
            read_figures();
            while (world_heard(&world, w, MSG_SESSION_CLOSED, NULL, 0)) // the lane must not fill
                ;
        }
    }
}

// All that is published reaches all viewers, and all references come back, whoever let go last.
static void test_everybody_on_a_thread(void **state)
{
    uint64_t before[WORKERS], handed = count_of(GATE, COUNT_handed_over);
    pthread_t threads[WORKERS];
    for (uint32_t w = 0; w < WORKERS; w++)
        before[w] = count_of(w, COUNT_rtp_out);
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(pthread_create(&threads[w], NULL, run, &world.workers[w]), 0);
    publish_all(before);
    atomic_store(&world.dp.stop, true);
    for (uint32_t w = 0; w < WORKERS; w++)
        pthread_join(threads[w], NULL);

    assert_int_equal(count_of(GATE, COUNT_handed_over) - handed, PACKETS);
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(sealed(w, before), PACKETS);
    for (uint32_t w = 1; w < WORKERS; w++) {
        assert_true(count_of(w, COUNT_nack_asked) > PACKETS / ASK_EVERY / WORKERS);
        assert_int_equal(count_of(w, COUNT_nack_answered), count_of(w, COUNT_nack_asked));
        assert_true(count_of(w, COUNT_pli_in) > 0);
    }
    assert_true(count_of(0, COUNT_pli_out) > 0); // of the others' viewers

    world.now_ns = worker_clock();
    assert_true(world_leave(&world, &publisher));
    for (uint32_t w = 0; w < WORKERS; w++) {
        struct msg_stream_close close = {
            .head = {.type = MSG_STREAM_CLOSE, .length = sizeof(close), .id = STREAM_ID}};
        assert_true(world_leave(&world, &viewer[w]));
        world_tell(&world, w, &close);
    }
    world_turn(&world);
    assert_int_equal(world_packets_out(&world), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_everybody_on_a_thread)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
