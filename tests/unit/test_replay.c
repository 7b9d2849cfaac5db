// The replay window: a table in the manner of WireGuard's counter self-test, then a naive model.
#include "../../dataplane/replay.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

// Shows one index to the window: check, and commit if it is new.
static int show(struct replay *replay, uint64_t index)
{
    struct replay before = *replay;
    int rc = replay_check(replay, index);
    assert_memory_equal(&before, replay, sizeof(before)); // looking changes nothing
    if (!rc)
        replay_commit(replay, index);
    return rc;
}

#define W REPLAY_WINDOW

static void test_table(void **state)
{
    static const struct {
        uint64_t index;
        int rc;
    } steps[] = {
        {0, 0},
        {1, 0},
        {1, -EALREADY},
        {9, 0},
        {8, 0},
        {7, 0},
        {7, -EALREADY},
        {W, 0},
        {W - 1, 0},
        {W - 1, -EALREADY},
        {2, 0},
        {2, -EALREADY},
        {W + 16, 0},
        {3, -EALREADY},  // has left the window
        {16, -EALREADY}, // just left
        {17, 0},         // the oldest that is left
        {17, -EALREADY},
        {W * 4, 0},
        {W * 4 - (W - 1), 0},
        {10, -EALREADY},
        {W * 4 - W, -EALREADY},
        {W * 4 - (W - 1), -EALREADY},
        {W * 4 - (W - 2), 0},
        {W * 4 + 1, 0},
        {W * 4 - (W - 2), -EALREADY},
        {0, -EALREADY},
        {W * 5 + 1, 0}, // a jump of exactly one window
        {W * 4 + 1, -EALREADY},
        {W * 4 + 2, 0},
        {0xffff, 0},
        {0x10000, 0}, // a rollover is nothing special
        {0xffff, -EALREADY},
        {0xfffe, 0},
        {0xffffffffffffull, 0}, // the last SRTP index
        {0xffffffffffffull, -EALREADY},
        {0xffffffffffffull - W + 1, 0},
        {0xffffffffffffull - W, -EALREADY},
    };
    struct replay replay = {0};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (show(&replay, steps[i].index) != steps[i].rc)
            fail_msg("step %zu: index %llu", i, (unsigned long long)steps[i].index);
}

static void test_empty(void **state)
{
    struct replay replay = {0};
    assert_true(replay_empty(&replay));
    assert_int_equal(replay_top(&replay), 0);
    replay_commit(&replay, 0);
    assert_false(replay_empty(&replay));
    assert_int_equal(replay_top(&replay), 0);
    assert_int_equal(replay_check(&replay, 0), -EALREADY);
}

static void test_downwards_through_a_full_window(void **state)
{
    struct replay replay = {0};
    assert_int_equal(show(&replay, 5 * W), 0);
    for (uint64_t i = 5 * W - 1; i > 4 * W; i--)
        assert_int_equal(show(&replay, i), 0);
    for (uint64_t i = 4 * W + 1; i <= 5 * W; i++)
        assert_int_equal(show(&replay, i), -EALREADY);
    assert_int_equal(show(&replay, 4 * W), -EALREADY);
}

// The model remembers everything ever committed.
#define MODEL 65536

static void test_against_model(void **state)
{
    static uint8_t seen[MODEL];
    srandom(4711);
    for (int round = 0; round < 40; round++) {
        struct replay replay = {0};
        memset(seen, 0, sizeof(seen));
        int64_t top = -1;
        for (int step = 0; step < 20000; step++) {
            long kind = random() % 100;
            uint64_t at;
            if (kind < 60)
                at = (uint64_t)(top + 1);
            else if (kind < 97)
                at = (uint64_t)(top + 1 - random() % 1200 + random() % 40);
            else
                at = (uint64_t)(top + random() % (kind == 99 ? 3000 : 70));
            if ((int64_t)at < 0 || at >= MODEL)
                continue;
            bool fresh = !seen[at] && (int64_t)at > top - (int64_t)W;
            assert_int_equal(show(&replay, at), fresh ? 0 : -EALREADY);
            if (fresh)
                seen[at] = 1;
            if (fresh && (int64_t)at > top)
                top = (int64_t)at;
            assert_int_equal(replay_top(&replay), top < 0 ? 0 : top);
        }
    }
}

static void test_short_table(void **state)
{
    static const struct {
        uint64_t index;
        int rc;
    } steps[] = {
        {0, 0},
        {0, -EALREADY},
        {2, 0},
        {1, 0},
        {1, -EALREADY},
        {65, 0},
        {2, -EALREADY},
        {1, -EALREADY}, // has left the window
        {3, 0},
        {129, 0}, // a jump of exactly one window
        {65, -EALREADY},
        {66, 0},
        {1000, 0},
        {937, 0},
        {936, -EALREADY},
        {0x7fffffff, 0}, // the last SRTCP index
        {0x7fffffff, -EALREADY},
        {0x7fffffff - 63, 0},
        {0x7fffffff - 64, -EALREADY},
    };
    struct replay_short replay = {0};
    assert_true(replay_short_empty(&replay));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int rc = replay_short_check(&replay, steps[i].index);
        if (rc != steps[i].rc)
            fail_msg("step %zu: index %llu", i, (unsigned long long)steps[i].index);
        if (!rc)
            replay_short_commit(&replay, steps[i].index);
        assert_false(replay_short_empty(&replay));
    }
}

static void test_short_against_model(void **state)
{
    static uint8_t seen[MODEL];
    srandom(4712);
    struct replay_short replay = {0};
    int64_t top = -1;
    for (int step = 0; step < 20000; step++) {
        int64_t at =
            random() % 100 < 97 ? top + 1 - random() % 80 + random() % 20 : top + random() % 200;
        if (at < 0 || at >= MODEL)
            continue;
        bool fresh = !seen[at] && at > top - 64;
        assert_int_equal(replay_short_check(&replay, (uint64_t)at), fresh ? 0 : -EALREADY);
        if (!fresh)
            continue;
        replay_short_commit(&replay, (uint64_t)at);
        seen[at] = 1;
        top = at > top ? at : top;
    }
    assert_true(top > 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_downwards_through_a_full_window),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_short_table),
        cmocka_unit_test(test_short_against_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
