// Which packets are missing and when they are asked for, under a virtual clock.
#include "../../dataplane/gaps.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000ull

static void test_asks_after_reordering_time_and_backs_off(void **state)
{
    struct gaps gaps = {0};
    uint16_t seqs[8];
    uint64_t lost = 0;
    gaps_received(&gaps, 65534, 0);
    assert_int_equal(gaps_received(&gaps, 65537, 1 * MS), GAPS_NEW);
    assert_int_equal(gaps_due(&gaps, 5 * MS, 0, seqs, 8, &lost), 0);
    assert_int_equal(gaps_due(&gaps, 11 * MS, 0, seqs, 8, &lost), 2);
    assert_int_equal(seqs[0], 65535);
    assert_int_equal(seqs[1], 0);
    assert_int_equal(gaps_due(&gaps, 20 * MS, 0, seqs, 8, &lost), 0);
    assert_int_equal(gaps_received(&gaps, 65535, 30 * MS), GAPS_RECOVERED);
    assert_int_equal(gaps_received(&gaps, 65535, 31 * MS), GAPS_OLD);
    assert_int_equal(gaps_due(&gaps, 37 * MS, 0, seqs, 8, &lost), 1);
    assert_int_equal(seqs[0], 0);
    // Each wait is longer than the one before. With a longer round trip the next request waits for
    // that.
    assert_int_equal(gaps_due(&gaps, 67 * MS, 0, seqs, 8, &lost), 0);
    assert_int_equal(gaps_due(&gaps, 69 * MS, 200 * MS, seqs, 8, &lost), 1);
    assert_int_equal(gaps_due(&gaps, 260 * MS, 200 * MS, seqs, 8, &lost), 0);
    assert_int_equal(gaps_due(&gaps, 269 * MS, 200 * MS, seqs, 8, &lost), 1);
    assert_int_equal(gaps_due(&gaps, 510 * MS, 200 * MS, seqs, 8, &lost), 0);
    assert_int_equal(gaps_due(&gaps, 520 * MS, 200 * MS, seqs, 8, &lost), 1);
    assert_int_equal(lost, 0);
    // After a second it is given up.
    assert_int_equal(gaps_due(&gaps, 1500 * MS, 200 * MS, seqs, 8, &lost), 0);
    assert_int_equal(lost, 1);
    assert_int_equal(gaps.count, 0);
}

static void test_tries_are_bounded(void **state)
{
    struct gaps gaps = {0};
    uint16_t seqs[8];
    uint64_t lost = 0;
    unsigned asked = 0;
    gaps_received(&gaps, 1, 0);
    gaps_received(&gaps, 3, 0);
    for (uint64_t now = 0; now < 900 * MS; now += MS)
        asked += gaps_due(&gaps, now, 0, seqs, 8, &lost);
    assert_int_equal(asked, GAPS_TRIES);
    assert_int_equal(lost, 1);
}

// The list equals the set of numbers missing among the last GAPS_MAX of them.
static void test_random_against_model(void **state)
{
    static uint8_t seen[400000];
    struct gaps gaps = {0};
    srandom(3);
    uint64_t head = 1000;
    gaps_received(&gaps, head, 0);
    seen[head] = 1;
    for (int step = 0; step < 20000; step++) {
        uint64_t index = head + 1 + (uint64_t)(random() % 20 == 0 ? random() % 20 : 0);
        if (random() % 3 == 0 && gaps.count)
            index = gaps.list[(uint64_t)random() % gaps.count].index;
        else
            head = index;
        enum gaps_arrival arrival = gaps_received(&gaps, index, 0);
        assert_int_equal(arrival, index == head ? GAPS_NEW : GAPS_RECOVERED);
        seen[index] = 1;
        assert_in_range(gaps.count, 0, GAPS_MAX);
        uint32_t at = gaps.count;
        for (uint64_t i = head; at > 0 && i > 1000; i--)
            if (!seen[i])
                assert_int_equal(gaps.list[--at].index, i);
        assert_int_equal(at, 0);
    }
}

static void test_a_huge_jump_is_bounded(void **state)
{
    struct gaps gaps = {0};
    gaps_received(&gaps, 10, 0);
    gaps_received(&gaps, 1000000, 0);
    assert_int_equal(gaps.count, GAPS_MAX);
    assert_int_equal(gaps.list[GAPS_MAX - 1].index, 999999);
    gaps_received(&gaps, 1000101, 0);
    assert_int_equal(gaps.count, GAPS_MAX);
    assert_int_equal(gaps.list[GAPS_MAX - 1].index, 1000100);
}

// Until when pictures stand still: the highest that will not come any more.
static void test_what_is_lost_for_good(void **state)
{
    struct gaps gaps = {0};
    uint16_t seqs[GAPS_MAX];
    uint64_t lost = 0;
    gaps_received(&gaps, 10, 0);
    gaps_received(&gaps, 13, 900 * MS);
    gaps_received(&gaps, 12, 910 * MS);
    assert_int_equal(gaps.lost_at, 0);
    for (unsigned ms = 911; ms < 2200; ms++)
        gaps_due(&gaps, ms * MS, 0, seqs, GAPS_MAX, &lost);
    assert_int_equal(gaps.lost_at, 11); // it was asked for in vain
    gaps_received(&gaps, 20, 1800 * MS);
    assert_int_equal(gaps.lost_at, 11);
    // After a long silence nobody has them any more; they may be asked for nevertheless.
    gaps_received(&gaps, 30, 2900 * MS);
    assert_int_equal(gaps.lost_at, 29);
    assert_int_equal(gaps_due(&gaps, 2911 * MS, 0, seqs, GAPS_MAX, &lost), 9);
    // Too many to be asked for.
    gaps_received(&gaps, 1031, 2950 * MS);
    assert_int_equal(gaps.lost_at, 1030 - GAPS_MAX);
    gaps_received(&gaps, 1042, 2960 * MS);
    assert_int_equal(gaps.lost_at, 1030 - GAPS_MAX + 10);
    // Somebody else was there, a moment ago.
    gaps_start(&gaps, 2000, 5000 * MS);
    gaps_received(&gaps, 2003, 5100 * MS);
    assert_int_equal(gaps.lost_at, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asks_after_reordering_time_and_backs_off),
        cmocka_unit_test(test_tries_are_bounded),
        cmocka_unit_test(test_random_against_model),
        cmocka_unit_test(test_a_huge_jump_is_bounded),
        cmocka_unit_test(test_what_is_lost_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
