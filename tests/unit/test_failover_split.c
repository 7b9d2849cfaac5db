// A split before a track was ever heard: each node hears it for the first time, in an index space
// of its own, and one alone may begin. When the split heals, who serves may find that the viewers'
// numbers are for the other's space: they get nothing that they cannot open, and are ended, to come
// again. Both nodes as tests/sim/pair.c has them, under a virtual clock.
#include "../../dataplane/failover.h"
#include "../../dataplane/ingest.h"
#include "../sim/pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct pair pair;

static int setup(void **state)
{
    return pair_start(&pair, false);
}

static int teardown(void **state)
{
    pair_stop(&pair);
    return 0;
}

// Sound packets that viewers could open; nothing else came, and no number stood for two packets.
static unsigned speak(unsigned packets)
{
    unsigned before = 0, after = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        before += pair.viewer[v].sound;
    for (unsigned i = 0; i < packets; i++)
        pair_speak(&pair);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        after += pair.viewer[v].sound;
        assert_int_equal(pair.viewer[v].bad, 0);
    }
    assert_int_equal(pair.conflicts, 0);
    return after - before;
}

static uint64_t space(int node)
{
    return tables_stream(&pair.node[node].workers[0].tables, STREAM_ID)->track[1].next_index >>
           INDEX_SPACE_BITS;
}

static void test_a_track_that_began_in_two_spaces(void **state)
{
    pair.media_cut = pair.control_cut = true;
    pair_pass(&pair, 200);
    assert_true(pair_serves(&pair, 0) && pair_serves(&pair, 1));
    assert_int_equal(speak(50), 0); // to b, which may not begin
    pair.hub = true;
    assert_int_equal(speak(500), 500 * PAIR_VIEWERS); // and to a, which may
    assert_true(space(0) && space(1) && space(0) != space(1));

    pair.media_cut = pair.control_cut = pair.hub = false;
    for (int i = 0; i < 6; i++) // b stays, and cannot go on with a's numbers
        speak(1000);
    assert_true(pair_serves(&pair, 1) && !pair_serves(&pair, 0));
    assert_int_equal(speak(100), 0);
    speak(3000);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        assert_int_equal(pair.viewer[v].ended[0], 0);
        assert_int_equal(pair.viewer[v].ended[1], 1);
        assert_int_equal(pair.viewer[v].why, DEAD_NUMBERS);
    }
    // Nor is there a way back, should it not have ended.
    assert_true(pair_hand_over(&pair, 0));
    speak(3000);
    assert_true(pair_hand_over(&pair, 1));
    assert_int_equal(speak(1000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_track_that_began_in_two_spaces),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
