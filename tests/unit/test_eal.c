// EAL's start: what is refused before it, in one line each, then the real thing once (EAL starts
// once per process): lcores, and pools of the sizes asked for.
#include "../../dataplane/eal.h"
#include <errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char why[512];

static struct abi_config make_config(void)
{
    struct abi_config config = {.workers = 2,
                                .port_kind = ABI_PORT_RING,
                                .main_core = -1,
                                .mtu = 1500,
                                .max_sessions = 16,
                                .rx_mbufs = 1023,
                                .tx_mbufs = 511,
                                .cache_mbufs = 2047};
    for (int w = 0; w < ABI_MAX_WORKERS; w++)
        config.cores[w] = -1;
    return config;
}

static void expect_refused(const struct abi_config *config, int error, const char *part)
{
    int got = eal_start(config, why, sizeof(why));
    if (got != error || strstr(why, part) == NULL || strchr(why, '\n') != NULL)
        fail_msg("%d \"%s\" instead of %d \"...%s...\"", got, why, error, part);
}

static void test_refusals(void **state)
{
    struct abi_config config = make_config();
    config.workers = 0;
    expect_refused(&config, -EINVAL, "0 workers");
    config.workers = ABI_MAX_WORKERS + 1;
    expect_refused(&config, -EINVAL, "1 to 16");
    config = make_config();
    config.port_kind = 99;
    expect_refused(&config, -EINVAL, "port kind 99");
    config = make_config();
    config.cores[1] = 100000;
    expect_refused(&config, -EINVAL, "worker core 100000");
    config = make_config();
    config.main_core = 1023;
    expect_refused(&config, -EINVAL, "main core 1023");
    config = make_config();
    config.rx_mbufs = 159;
    expect_refused(&config, -EINVAL, "rx_mbufs: 159 are too few");
    config = make_config();
    config.tx_mbufs = 159;
    expect_refused(&config, -EINVAL, "give 160");
    config = make_config();
    config.max_streams = 64; // of two rings of 10 packets each
    config.cache_mbufs = (64 * 2 * 10 + 128) * 5 / 4 - 1;
    expect_refused(&config, -EINVAL, "cache_mbufs: 1759 are too few for the streams' rings");
    config = make_config();
    config.hugepages = 1;
    config.rx_mbufs = 1u << 31; // more than any machine has reserved
    expect_refused(&config, -ENOMEM, "nr_hugepages");
    expect_refused(&config, -ENOMEM, "hugepages: false");
}

static void check_pool(const struct rte_mempool *pool, uint32_t mbufs)
{
    assert_non_null(pool);
    assert_int_equal(pool->size, mbufs);
    struct rte_mbuf *m = rte_pktmbuf_alloc((struct rte_mempool *)pool);
    assert_non_null(m);
    assert_true(rte_pktmbuf_tailroom(m) >= PKT_ROOM_MIN);
    rte_pktmbuf_free(m);
}

// The first is made at the start, others when they are asked for.
static void check_store(uint32_t worker, uint32_t blocks)
{
    struct cache_store *stores[3];
    for (unsigned i = 0; i < 3; i++) {
        stores[i] = eal_take_store(worker);
        assert_non_null(stores[i]);
        assert_int_equal(stores[i]->blocks, blocks);
        assert_int_equal(stores[i]->free, blocks);
        stores[i]->memory[(size_t)blocks * CACHE_BLOCK - 1] = 1;
        assert_ptr_not_equal(stores[i], i ? stores[i - 1] : NULL);
    }
    for (unsigned i = 0; i < 3; i++)
        cache_store_free(stores[i]);
}

static int on_lcore(void *out)
{
    *(unsigned *)out = rte_lcore_id();
    return 0;
}

static void test_start(void **state)
{
    struct abi_config config = make_config();
    config.rx_mbufs = 40000; // 320 MB: what EAL asks the system for must really hold them
    int error = eal_start(&config, why, sizeof(why));
    if (error)
        fail_msg("%d %s", error, why);
    assert_int_equal(rte_lcore_id(), 0);
    assert_int_equal(rte_lcore_count(), 3);
    for (uint32_t w = 0; w < config.workers; w++) {
        const struct eal_pools *pools = eal_worker_pools(w);
        unsigned lcore = RTE_MAX_LCORE;
        check_pool(pools->rx, config.rx_mbufs);
        check_pool(pools->tx, config.tx_mbufs);
        check_pool(pools->media, 1023 + 1 * 1536);
        check_store(w, (config.cache_mbufs + 9) / 10);
        assert_ptr_not_equal(pools->rx, pools->tx);
        assert_int_equal(rte_eal_remote_launch(on_lcore, &lcore, eal_worker_lcore(w)), 0);
        rte_eal_wait_lcore(eal_worker_lcore(w));
        assert_int_equal(lcore, eal_worker_lcore(w));
    }
    assert_ptr_not_equal(eal_worker_pools(0)->rx, eal_worker_pools(1)->rx);
    eal_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
