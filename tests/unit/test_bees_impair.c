// The bad network in the client, under a virtual clock: what is dropped, when the rest comes out,
// in which order.
#include "../bees/impair.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000ull

static struct impair *make(const struct impair_config *config)
{
    struct impair *impair = NULL;
    assert_int_equal(impair_create(&impair, config), 0);
    return impair;
}

static const struct abi_addr from = {.port = 5, .family = 4};

static enum impair_fate offer(struct impair *impair, struct impair_path *path, uint32_t number,
                              uint64_t now_ns)
{
    return impair_offer(impair, path, &from, (const uint8_t *)&number, sizeof(number), now_ns);
}

static uint32_t number_of(const struct impair_packet *packet)
{
    uint32_t number;
    assert_int_equal(packet->size, sizeof(number));
    assert_memory_equal(&packet->from, &from, sizeof(from));
    memcpy(&number, packet->data, sizeof(number));
    return number;
}

static void test_nothing_to_do(void **state)
{
    struct impair_config config = {0};
    struct impair *impair = make(&config);
    struct impair_path path;
    struct impair_packet packet;
    impair_path_init(&path, 1);
    assert_false(impair_active(&config));
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(offer(impair, &path, i, i), IMPAIR_PASS);
    assert_false(impair_take(impair, UINT64_MAX, &packet));
    assert_true(impair_due(impair) == UINT64_MAX);
    static uint8_t large[IMPAIR_PACKET_MAX + 1];
    assert_int_equal(impair_offer(impair, &path, &from, large, sizeof(large), 0), IMPAIR_DROP);
    impair_free(impair);
}

// Loss, duplicates and reordering each come at the rate that was asked for, the same in every run.
static void test_rates(void **state)
{
    enum { N = 100000 };
    struct impair_config config = {.loss = 0.03, .duplicate = 0.01, .reorder = 0.05};
    uint64_t dropped[2];
    for (unsigned round = 0; round < 2; round++) {
        struct impair *impair = make(&config);
        struct impair_path path;
        struct impair_packet packet;
        unsigned passed = 0, late = 0, taken = 0;
        uint32_t highest = 0;
        impair_path_init(&path, 42);
        for (uint32_t i = 1; i <= N; i++) {
            uint64_t now = i * 5 * MS;
            while (impair_take(impair, now, &packet)) {
                uint32_t number = number_of(&packet);
                late += number < highest;
                taken++;
                assert_true(now - packet.arrival_ns <= 15 * MS);
            }
            if (offer(impair, &path, i, now) == IMPAIR_PASS) {
                passed++;
                highest = i;
            }
        }
        while (impair_take(impair, UINT64_MAX, &packet))
            taken++;
        const struct impair_counters *count = impair_counters(impair);
        dropped[round] = count->dropped;
        assert_int_equal(count->seen, N);
        assert_int_equal(passed + taken, N - count->dropped + count->duplicated);
        assert_true(fabs((double)count->dropped - 0.03 * N) < 200);
        assert_true(fabs((double)count->duplicated - 0.97 * 0.01 * N) < 120);
        assert_true(fabs((double)count->reordered - 0.97 * 0.05 * N) < 300);
        assert_true(late >= count->reordered * 9 / 10);
        assert_int_equal(path.held, 0);
        impair_free(impair);
    }
    assert_int_equal(dropped[0], dropped[1]);
}

// Delay with jitter keeps each path's order and its bounds; paths do not wait for each other.
static void test_delay_keeps_order(void **state)
{
    struct impair_config config = {.delay_ns = 30 * MS, .jitter_ns = 20 * MS};
    struct impair *impair = make(&config);
    struct impair_path paths[3];
    uint32_t expect[3] = {0};
    struct impair_packet packet;
    bool early = false, tardy = false;
    for (unsigned p = 0; p < 3; p++)
        impair_path_init(&paths[p], p);
    for (uint64_t now = 0; now < 4000 * MS; now += MS) {
        while (impair_take(impair, now, &packet)) {
            unsigned p = (unsigned)(packet.path - paths);
            assert_int_equal(number_of(&packet), expect[p]++);
            uint64_t delay = now - packet.arrival_ns;
            assert_in_range(delay, 30 * MS, 51 * MS);
            early |= delay < 33 * MS;
            tardy |= delay > 47 * MS;
        }
        assert_true(impair_due(impair) > now);
        if (now < 3000 * MS)
            for (unsigned p = 0; p < 3; p++)
                assert_int_equal(offer(impair, &paths[p], (uint32_t)(now / MS), now), IMPAIR_HELD);
    }
    for (unsigned p = 0; p < 3; p++)
        assert_int_equal(expect[p], 3000);
    assert_true(early && tardy);
    impair_free(impair);
}

// Gilbert-Elliott: losses come in runs of the mean length that leaving the bad state gives.
static void test_bursts(void **state)
{
    struct impair_config config = {.burst_begin = 0.01, .burst_end = 0.2};
    struct impair *impair = make(&config);
    struct impair_path path;
    unsigned lost = 0, runs = 0;
    bool before = false;
    assert_true(impair_active(&config));
    impair_path_init(&path, 9);
    for (uint32_t i = 0; i < 200000; i++) {
        bool drop = offer(impair, &path, i, i) == IMPAIR_DROP;
        lost += drop;
        runs += drop && !before;
        before = drop;
    }
    assert_true(fabs(lost / 200000.0 - 0.01 / 0.21) < 0.004); // share of time in the bad state
    assert_true(fabs((double)lost / runs - 5) < 0.3);
    impair_free(impair);
}

static void test_queue_is_bounded(void **state)
{
    struct impair_config config = {.delay_ns = 1000 * MS, .queue = 10};
    struct impair *impair = make(&config);
    struct impair_path path, other;
    struct impair_packet packet;
    impair_path_init(&path, 1);
    impair_path_init(&other, 2);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(offer(impair, i % 2 ? &path : &other, i, i),
                         i < 10 ? IMPAIR_HELD : IMPAIR_DROP);
    assert_int_equal(impair_counters(impair)->overflow, 10);
    // A session goes: its packets do not come out any more, but the others do.
    assert_int_equal(path.held, 5);
    impair_path_drop(impair, &path);
    assert_int_equal(path.held, 0);
    for (uint32_t i = 0; i < 10; i += 2) {
        assert_true(impair_take(impair, UINT64_MAX, &packet));
        assert_ptr_equal(packet.path, &other);
        assert_int_equal(number_of(&packet), i);
    }
    assert_false(impair_take(impair, UINT64_MAX, &packet));
    impair_free(impair);
    config = (struct impair_config){.delay_ns = MS, .bytes = 11};
    impair = make(&config);
    impair_path_init(&path, 1);
    assert_int_equal(offer(impair, &path, 0, 0), IMPAIR_HELD);
    assert_int_equal(offer(impair, &path, 1, 0), IMPAIR_HELD);
    assert_int_equal(offer(impair, &path, 2, 0), IMPAIR_DROP);
    impair_free(impair);
    impair_free(NULL);
}

static void test_wrong_fractions(void **state)
{
    static const struct impair_config bad[] = {
        {.loss = 1.1},     {.loss = -0.1},        {.duplicate = 2},
        {.reorder = -1},   {.burst_begin = 3},    {.burst_end = -2},
        {.burst_loss = 7}, {.loss = (double)NAN}, {.delay_ns = UINT64_MAX}};
    struct impair *impair;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(impair_create(&impair, &bad[i]), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_do),     cmocka_unit_test(test_rates),
        cmocka_unit_test(test_delay_keeps_order), cmocka_unit_test(test_bursts),
        cmocka_unit_test(test_queue_is_bounded),  cmocka_unit_test(test_wrong_fractions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
