// The first moment after a takeover, at the publisher's side: what it sent to the node that had
// died is asked for at once, not when its next packet shows the hole. Under a virtual clock.
#include "../../dataplane/failover.h"
#include "../sim/pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WAIT_MS 200

static struct pair pair;

static int home; // of the group's sessions just now

static int start(void **state)
{
    return pair_start(&pair, false);
}

static int stop(void **state)
{
    pair_stop(&pair);
    return 0;
}

static int setup(void **state)
{
    home = pair_serves(&pair, 1);
    for (unsigned i = 0; i < 100; i++)
        pair_publish(&pair, i == 0);
    pair_pass(&pair, 50);
    memset(pair.publisher_asked, 0, sizeof(pair.publisher_asked));
    pair.publisher_nacks = 0;
    return pair_serves(&pair, !home) ? -1 : 0;
}

static int teardown(void **state)
{
    if (!pair.alive[home])
        pair_revive(&pair, home);
    pair_pass(&pair, 3000);
    return 0;
}

static void await_takeover(void)
{
    for (unsigned ms = 0; ms < WAIT_MS && !pair_serves(&pair, !home); ms++)
        pair_pass(&pair, 1);
    assert_true(pair_serves(&pair, !home));
}

static unsigned asked_for(uint64_t index)
{
    return pair.publisher_asked[(uint16_t)index];
}

static void test_what_the_dead_node_swallowed_is_asked_for(void **state)
{
    uint64_t seen = pair.published;
    pair_kill(&pair, home);
    for (unsigned i = 0; i < 5; i++)
        pair_publish(&pair, false); // to nobody
    await_takeover();
    pair_pass(&pair, 1);
    assert_int_equal(asked_for(seen), 0);
    for (uint64_t index = seen + 1; index <= pair.published; index++)
        assert_int_equal(asked_for(index), 1);
}

// The request may be lost, too, or overtake the news of who has the address: but a publisher that
// has sent nothing is not asked for ever.
static void test_it_is_asked_for_thrice(void **state)
{
    pair_kill(&pair, home);
    await_takeover();
    pair_pass(&pair, 1000);
    assert_int_equal(asked_for(pair.published + 1), 3);
}

static void test_what_came_ends_the_asking(void **state)
{
    pair_kill(&pair, home);
    pair_publish(&pair, false);
    uint64_t lost = pair.published;
    await_takeover();
    pair_pass(&pair, 1);
    unsigned before = pair.publisher_nacks;
    pair_publish(&pair, false);
    pair_pass(&pair, 22); // the hole is an ordinary one now
    assert_int_equal(pair.publisher_nacks, before + 1);
    assert_int_equal(asked_for(lost), 2);
}

static unsigned received(void)
{
    unsigned sum = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        sum += pair.viewer[v].packets + pair.viewer[v].rtx;
    return sum;
}

// The node that died had passed packets on to the partner, and was long in a turn before it would
// have sent them. Those of the last moment are repeated, the others are asked for, and are there.
static void test_what_a_long_turn_kept_back_is_there(void **state)
{
    uint64_t next[PAIR_VIEWERS];
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        next[v] = pair.viewer[v].highest + 1;
    unsigned before = received();
    pair.unheard[home] = true;
    for (unsigned i = 0; i < 3; i++)
        pair_publish(&pair, false);
    pair_pass(&pair, 20); // in which the partner hears that it is alive
    pair_publish(&pair, false);
    pair_kill(&pair, home);
    await_takeover();
    pair_pass(&pair, 20);
    pair.unheard[home] = false;
    assert_int_equal(received() - before, PAIR_VIEWERS);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        for (uint64_t seq = next[v]; seq < next[v] + 4; seq++)
            assert_int_equal(pair.viewer[v].seen[(uint16_t)seq], seq == next[v] + 3);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        for (uint64_t seq = next[v]; seq < next[v] + 3; seq++)
            pair_nack(&pair, v, (uint16_t)seq, !home);
    pair_pass(&pair, 5);
    assert_int_equal(received() - before, 4 * PAIR_VIEWERS);
    assert_int_equal(pair.conflicts, 0);
}

static void test_a_planned_move_asks_for_nothing(void **state)
{
    assert_true(pair_hand_over(&pair, !home));
    await_takeover();
    pair_pass(&pair, 100);
    assert_int_equal(pair.publisher_nacks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_the_dead_node_swallowed_is_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_it_is_asked_for_thrice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_came_ends_the_asking, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_long_turn_kept_back_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_planned_move_asks_for_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
