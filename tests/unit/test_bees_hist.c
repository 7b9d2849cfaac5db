// The histogram of the load tester, against sorted values.
#include "../bees/hist.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct hist hist, other;

static void test_empty(void **state)
{
    unsigned at = 0;
    struct hist_bucket bucket;
    hist_clear(&hist);
    assert_int_equal(hist_percentile(&hist, 50), 0);
    assert_int_equal(hist_percentile(&hist, 100), 0);
    assert_true(hist_mean(&hist) == 0);
    assert_false(hist_next(&hist, &at, &bucket));
    hist_merge(&hist, &other);
    assert_int_equal(hist.count, 0);
}

static void test_small_values_are_exact(void **state)
{
    hist_clear(&hist);
    for (uint64_t value = 1; value <= 100; value++)
        hist_add(&hist, value);
    assert_int_equal(hist_percentile(&hist, 0), 1);
    assert_int_equal(hist_percentile(&hist, 1), 1);
    assert_int_equal(hist_percentile(&hist, 50), 50);
    assert_int_equal(hist_percentile(&hist, 50.5), 51);
    assert_int_equal(hist_percentile(&hist, 99), 99);
    assert_int_equal(hist_percentile(&hist, 100), 100);
    assert_true(hist_mean(&hist) == 50.5);
    assert_int_equal(hist.min, 1);
}

// Every bucket begins where the one before ends, and holds the values that it says.
static void test_buckets_are_gapless(void **state)
{
    uint64_t end = 0;
    // The last bucket has no end.
    for (uint64_t value = 0; value < UINT64_C(127) << (HIST_BITS - 7);
         value = value < 4000 ? value + 1 : value + value / 200) {
        unsigned at = 0;
        struct hist_bucket bucket;
        hist_clear(&hist);
        hist_add(&hist, value);
        assert_true(hist_next(&hist, &at, &bucket));
        assert_in_range(value, bucket.from, bucket.to - 1);
        assert_true(bucket.from <= end);
        assert_true((double)(bucket.to - bucket.from) <= fmax(1, (double)bucket.from / 64));
        end = bucket.to;
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_percentiles_against_sorted_values(void **state)
{
    enum { N = 20000 };
    static uint64_t value[N];
    srandom(7);
    hist_clear(&hist);
    hist_clear(&other);
    for (unsigned i = 0; i < N; i++) {
        value[i] = (uint64_t)exp((double)(random() % 28000) / 1000);
        hist_add(i % 3 ? &hist : &other, value[i]);
    }
    hist_merge(&hist, &other);
    qsort(value, N, sizeof(value[0]), compare);
    assert_int_equal(hist.count, N);
    assert_int_equal(hist.min, value[0]);
    assert_int_equal(hist.max, value[N - 1]);
    for (unsigned half = 1; half < 200; half++) {
        double percent = half / 2.0;
        uint64_t want = value[(unsigned)ceil(percent / 100 * N) - 1];
        double error = (double)hist_percentile(&hist, percent) - (double)want;
        assert_true(fabs(error) <= (double)want * 0.01);
    }
}

static void test_beyond_the_last_bucket(void **state)
{
    hist_clear(&hist);
    hist_add_n(&hist, 5, 9);
    hist_add(&hist, UINT64_C(1) << 60);
    assert_int_equal(hist.max, UINT64_C(1) << 60);
    assert_int_equal(hist_percentile(&hist, 90), 5);
    assert_int_equal(hist_percentile(&hist, 91), UINT64_C(1) << 60);
    hist_add_n(&hist, 1, 0);
    assert_int_equal(hist.count, 10);
    assert_int_equal(hist.min, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_small_values_are_exact),
        cmocka_unit_test(test_buckets_are_gapless),
        cmocka_unit_test(test_percentiles_against_sorted_values),
        cmocka_unit_test(test_beyond_the_last_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
