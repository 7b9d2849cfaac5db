// The capacity search against servers whose capacity is known: how close it comes, how many trials
// it takes, what hiccups and a weak generator do to it.
#include "../bees/search.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct search search;

// Runs a search against a server of `capacity` and a generator of `reach`.
static void run(const struct search_config *config, uint64_t capacity, uint64_t reach)
{
    struct search_trial trial, again;
    assert_int_equal(search_init(&search, config), 0);
    while (search_next(&search, &trial)) {
        assert_true(search_next(&search, &again)); // asking twice changes nothing
        assert_int_equal(again.load, trial.load);
        assert_in_range(trial.load, search.config.min, search.config.max);
        search_report(&search, trial.load > reach      ? SEARCH_LIMITED
                               : trial.load > capacity ? SEARCH_FAIL
                                                       : SEARCH_PASS);
    }
    assert_false(search_next(&search, &trial));
    assert_int_not_equal(search.result.reason, SEARCH_RUNNING);
}

static void test_finds_every_capacity(void **state)
{
    struct search_config config = {.start = 64, .max = 100000, .width = 0.02};
    for (uint64_t capacity = 1; capacity < 100000; capacity += 1 + capacity / 17) {
        run(&config, capacity, UINT64_MAX);
        const struct search_result *result = &search.result;
        assert_int_equal(result->reason, SEARCH_FOUND);
        assert_in_range(result->best, 1, capacity);
        assert_true(result->failing > capacity);
        assert_true(result->failing <= result->best + 1 ||
                    (double)result->failing <= (double)result->best * 1.02);
        assert_in_range(result->trials, 4, 30);
        // Both bounds come from full trials, and the failing one from two.
        unsigned best = 0, failing = 0;
        for (unsigned i = 0; i < result->trials; i++) {
            best += search.trial[i].full && search.trial[i].load == result->best;
            failing += search.trial[i].full && search.trial[i].load == result->failing;
        }
        assert_true(best >= 1 && failing >= 2);
    }
}

static void test_ends_of_the_range(void **state)
{
    struct search_config config = {.min = 10, .max = 500, .start = 100};
    run(&config, 1000, UINT64_MAX);
    assert_int_equal(search.result.reason, SEARCH_MAXIMUM_PASSES);
    assert_int_equal(search.result.best, 500);
    assert_int_equal(search.result.failing, 0);
    run(&config, 9, UINT64_MAX);
    assert_int_equal(search.result.reason, SEARCH_MINIMUM_FAILS);
    assert_int_equal(search.result.best, 0);
    assert_int_equal(search.result.failing, 10);
    config = (struct search_config){.min = 7, .max = 7};
    run(&config, 7, UINT64_MAX);
    assert_int_equal(search.result.best, 7);
    assert_int_equal(search.result.trials, 2); // short and full
}

static void test_generator_is_the_limit(void **state)
{
    struct search_config config = {.start = 100, .max = 100000};
    run(&config, 5000, 3000);
    assert_int_equal(search.result.reason, SEARCH_GENERATOR_LIMIT);
    assert_in_range(search.result.best, 2850, 3000);
    assert_true(search.result.limited > 3000);
    assert_int_equal(search.result.failing, 0);
    // A weak server hides behind no generator.
    run(&config, 2000, 3000);
    assert_int_equal(search.result.reason, SEARCH_FOUND);
    assert_in_range(search.result.best, 1900, 2000);
    run(&config, 0, 0);
    assert_int_equal(search.result.reason, SEARCH_GENERATOR_LIMIT);
    assert_int_equal(search.result.best, 0);
}

// One trial in ten fails for no reason: the answer is seldom far off.
static void test_hiccups(void **state)
{
    struct search_config config = {.start = 50, .max = 100000, .width = 0.05};
    unsigned close = 0;
    srandom(3);
    for (unsigned round = 0; round < 1000; round++) {
        struct search_trial trial;
        assert_int_equal(search_init(&search, &config), 0);
        while (search_next(&search, &trial))
            search_report(&search,
                          trial.load > 1700 || random() % 10 == 0 ? SEARCH_FAIL : SEARCH_PASS);
        assert_true(search.result.best <= 1700);
        close += search.result.best >= 1530;
    }
    assert_in_range(close, 800, 1000);
}

// Verdicts without any sense: it ends, and what it says is what it saw.
static void test_nonsense_ends(void **state)
{
    srandom(4);
    for (unsigned round = 0; round < 3000; round++) {
        struct search_config config = {.start = 1 + (uint64_t)random() % 300, .max = 3000};
        config.fails = 1 + round % 4;
        struct search_trial trial;
        assert_int_equal(search_init(&search, &config), 0);
        unsigned trials = 0;
        while (search_next(&search, &trial)) {
            assert_true(trial.load >= 1 && trial.load <= 3000);
            search_report(&search, (enum search_verdict)(random() % 3));
            trials++;
        }
        const struct search_result *result = &search.result;
        assert_int_equal(result->trials, trials);
        assert_true(trials <= SEARCH_TRIALS);
        bool seen = result->best == 0;
        for (unsigned i = 0; i < trials; i++)
            seen |= search.trial[i].load == result->best && search.trial[i].full &&
                    search.trial[i].verdict == SEARCH_PASS;
        assert_true(seen);
        assert_true(result->failing == 0 || result->failing > result->best);
    }
}

static void test_stops(void **state)
{
    struct search_trial trial;
    struct search_config config = {.start = 4};
    assert_int_equal(search_init(&search, &config), 0);
    search_report(&search, SEARCH_FAIL); // nothing was asked
    assert_true(search_next(&search, &trial));
    assert_int_equal(trial.load, 4);
    search_stop(&search);
    search_report(&search, SEARCH_FAIL);
    assert_false(search_next(&search, &trial));
    assert_int_equal(search.result.reason, SEARCH_STOPPED);
    assert_int_equal(search.result.trials, 0);
    config.max_trials = 3;
    run(&config, 1000, UINT64_MAX);
    assert_int_equal(search.result.reason, SEARCH_TOO_MANY_TRIALS);
}

static void test_contradictory_configurations(void **state)
{
    static const struct search_config bad[] = {
        {.min = 5, .max = 4},    {.min = 5, .max = 9, .start = 4},
        {.max = 9, .start = 10}, {.width = -1},
        {.short_s = -1},         {.max_trials = SEARCH_TRIALS + 1}};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(search_init(&search, &bad[i]), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_every_capacity),
        cmocka_unit_test(test_ends_of_the_range),
        cmocka_unit_test(test_generator_is_the_limit),
        cmocka_unit_test(test_hiccups),
        cmocka_unit_test(test_nonsense_ends),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_contradictory_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
