// When a datagram came: by the kernel's time, also if that is later than the batch at hand.
#include "../bees/worker_read.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS 1000000ull
#define OFFSET (1700000000000 * MS) // of the wall's clock

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t arrived(struct worker *worker, uint64_t at_ns)
{
    uint64_t wall = at_ns + OFFSET;
    struct timespec stamp = {.tv_sec = (time_t)(wall / 1000000000ull),
                             .tv_nsec = (long)(wall % 1000000000ull)};
    return worker_arrival(worker, &stamp);
}

static void test_before_the_batch(void **state)
{
    struct worker worker = {.real_offset = OFFSET, .now_ns = clock_ns()};
    uint64_t batch = worker.now_ns;
    (void)state;
    assert_int_equal(arrived(&worker, batch - 3 * MS), batch - 3 * MS);
    assert_int_equal(arrived(&worker, batch), batch);
    assert_int_equal(worker.now_ns, batch);
}

// A batch of a thousand sockets takes milliseconds: what comes in that time is not as old as the
// batch.
static void test_while_the_batch_is_read(void **state)
{
    uint64_t now = clock_ns();
    struct worker worker = {.real_offset = OFFSET, .now_ns = now - 8 * MS};
    (void)state;
    assert_int_equal(arrived(&worker, now - 3 * MS), now - 3 * MS);
    assert_true(worker.now_ns >= now);
}

static void test_cannot_be(void **state)
{
    struct worker worker = {.real_offset = OFFSET, .now_ns = clock_ns()};
    uint64_t batch = worker.now_ns;
    (void)state;
    assert_int_equal(arrived(&worker, batch - 6000 * MS), batch);
    uint64_t later = arrived(&worker, batch + 3600000 * MS);
    assert_true(later >= batch && later < batch + 3600000 * MS);
    assert_int_equal(later, worker.now_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_the_batch),
        cmocka_unit_test(test_while_the_batch_is_read),
        cmocka_unit_test(test_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
