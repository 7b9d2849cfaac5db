// Who runs which worker: what counts as a stall, and the guard that a worker cannot pass any more
// once it is revoked. What moves with it is in test_worker.c, real threads are in test_dataplane.c.
#include "../../dataplane/roster.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static void test_judge(void **state)
{
    static const struct {
        const char *what;
        struct roster_look look;
        enum roster_verdict verdict;
    } rows[] = {
        {"a turn that takes long", {79 * MS, 79 * MS, 'R', false}, ROSTER_WORKS},
        {"a loop without end", {80 * MS, 80 * MS, 'R', false}, ROSTER_STALLED},
        {"the same on a busy machine", {300 * MS, 40 * MS, 'R', false}, ROSTER_STALLED},
        {"others have its CPU", {500 * MS, 10 * MS, 'R', false}, ROSTER_WAITS},
        {"others have it for long", {5000 * MS, 39 * MS, 'R', false}, ROSTER_WAITS},
        {"a lock that nobody lets go of", {80 * MS, 0, 'S', false}, ROSTER_STALLED},
        {"a disk", {80 * MS, 0, 'D', false}, ROSTER_STALLED},
        {"its own core is gone", {80 * MS, 0, 'R', true}, ROSTER_STALLED},
        {"its own core is back in time", {79 * MS, 0, 'R', true}, ROSTER_WORKS},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (roster_judge(&rows[i].look) != rows[i].verdict)
            fail_msg("%s: %d", rows[i].what, roster_judge(&rows[i].look));
}

static void test_guard(void **state)
{
    static struct worker worker;
    assert_true(worker_enter(&worker));
    assert_int_equal(atomic_load(&worker.inside), 1);
    worker_leave(&worker);
    assert_int_equal(atomic_load(&worker.inside), 0);
    // Whoever is inside already may finish; nobody comes in any more.
    assert_true(worker_enter(&worker));
    atomic_store(&worker.revoked, true);
    assert_int_equal(atomic_load(&worker.inside), 1);
    worker_leave(&worker);
    assert_false(worker_enter(&worker));
    assert_int_equal(atomic_load(&worker.inside), 0);
}

// Worker 1 went from its own thread, 1, to thread 2, which hangs for good in one of its turns, and
// on to thread 0. Thread 1 behaves, but cannot have it back while 2 may wake up in the midst of it:
// until then 0 goes on with it.
static void test_a_worker_stays_with_somebody(void **state)
{
    static struct dataplane dp = {.workers = 3};
    static struct roster roster;
    char why[200];
    roster.dp = &dp;
    for (uint32_t i = 0; i < dp.workers; i++)
        roster.seat[i] = (struct seat){.roster = &roster, .id = i};
    atomic_store(&roster.seat[0].wanted, 7);
    atomic_store(&roster.seat[0].running, 7);
    roster.seat[1].state = SEAT_RETURNS;
    roster.seat[2].state = SEAT_AWAY;
    roster.seat[2].lost = true;
    atomic_store(&roster.seat[2].running, 6);
    assert_int_equal(roster_turn(&roster, 1000 * MS, why, sizeof(why)), 0);
    assert_int_equal(atomic_load(&roster.seat[0].wanted), 7);
    assert_int_equal(atomic_load(&roster.seat[1].wanted), 0);

    // It has come out of that turn.
    atomic_store(&roster.seat[2].running, 0);
    roster_turn(&roster, 1010 * MS, why, sizeof(why));
    assert_int_equal(atomic_load(&roster.seat[0].wanted), 5);
    assert_int_equal(atomic_load(&roster.seat[1].wanted), 0); // 0 has not let go of it yet
    atomic_store(&roster.seat[0].running, 5);
    roster_turn(&roster, 1020 * MS, why, sizeof(why));
    assert_int_equal(atomic_load(&roster.seat[1].wanted), 2);
    assert_int_equal(roster.seat[1].state, SEAT_WORKS);
}

// The only thread hangs, and the main core is away now and then: after how long the process ends,
// in ms.
static unsigned ends_after(unsigned away_each_ms, unsigned away_ms)
{
    static struct abi_config config = {.idle = ABI_IDLE_SPIN};
    static struct dataplane dp = {.config = &config, .workers = 1};
    static struct roster roster;
    char why[200];
    roster = (struct roster){.dp = &dp, .turn_ns = 1000 * MS};
    roster.seat[0].roster = &roster;
    roster.seat[0].thread = pthread_self();
    atomic_store(&roster.seat[0].tid, 1);
    atomic_store(&roster.seat[0].alive_ns, 1000 * MS);
    for (unsigned ms = 10, last = 0; ms < 10000; ms += 10) {
        if (roster_turn(&roster, (1000 + ms) * MS, why, sizeof(why)))
            return ms;
        if (ms - last >= away_each_ms) {
            ms += away_ms;
            last = ms;
        }
    }
    return 0;
}

static void test_a_main_core_that_is_away(void **state)
{
    assert_int_equal(ends_after(UINT32_MAX, 0), 500);
    assert_in_range(ends_after(300, 60), 560, 580);
    assert_in_range(ends_after(100, 60), 800, 900);
    assert_in_range(ends_after(200, 3000), 6500, 6700); // stopped, twice
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_guard),
        cmocka_unit_test(test_a_worker_stays_with_somebody),
        cmocka_unit_test(test_a_main_core_that_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
