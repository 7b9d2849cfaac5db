// The invariant of a pair (design.md): no (key, SSRC, index) ever protects two different packets,
// whatever dies, whoever serves, and whatever is asked for. Every packet that leaves a node is
// written down: by tests/sim/pair.c as it stands on the wire, and with -DPROTECT_AUDIT also where
// it is sealed.
#include "../sim/pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pair pair;

static int setup(void **state)
{
    return pair_start(&pair);
}

static int teardown(void **state)
{
    pair_stop(&pair);
    return 0;
}

// Media for a while; each viewer asks for something again and again, of whoever is there.
static void play(unsigned packets)
{
    for (unsigned i = 0; i < packets; i++) {
        pair_publish(&pair, pair.published % 500 == 0);
        for (unsigned v = 0; i % 3 == 0 && v < PAIR_VIEWERS; v++) {
            uint16_t seq = (uint16_t)(pair.viewer[v].highest - (uint64_t)(random() % 60));
            int to = (int)(random() % 3) - 1;
            pair_nack(&pair, v, seq, to);
        }
    }
}

static void no_conflict(const char *after)
{
    unsigned bad = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        bad += pair.viewer[v].bad;
    if (pair.conflicts || bad)
        fail_msg("after %s: %u indexes used twice (%s), %u packets that no viewer can open", after,
                 pair.conflicts, pair.first, bad);
}

static void everybody_gets(unsigned packets)
{
    unsigned before[PAIR_VIEWERS];
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        before[v] = pair.viewer[v].packets;
    play(packets);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        assert_in_range(pair.viewer[v].packets - before[v], packets, 2 * packets);
}

static void heal(void)
{
    pair.media_cut = pair.control_cut = pair.hub = false;
    for (int n = 0; n < 2; n++)
        if (!pair.alive[n])
            pair_revive(&pair, n);
    pair_pass(&pair, 4000); // BFD comes up slowly
}

// Each thing by itself, in the order of a long day.
static void test_a_day_of_failures(void **state)
{
    play(300);
    no_conflict("a quiet start");
    pair_crash(&pair, 0);
    play(5); // it serves from its control plane's word on
    everybody_gets(300);
    no_conflict("a restart of the dataplane");

    pair_kill(&pair, 0);
    play(300);
    assert_true(pair_serves(&pair, 1));
    everybody_gets(300);
    no_conflict("a takeover");
    heal();
    everybody_gets(100);
    assert_true(pair_hand_over(&pair, 0));
    everybody_gets(300);
    assert_true(pair_serves(&pair, 0) && !pair_serves(&pair, 1));
    no_conflict("a failback");

    assert_true(pair_hand_over(&pair, 1)); // drain
    everybody_gets(300);
    no_conflict("a drain");
    pair_kill(&pair, 1); // the node that was drained takes its own back
    play(300);
    assert_true(pair_serves(&pair, 0));
    everybody_gets(100);
    no_conflict("a takeover by the home");
    heal();

    pair.media_cut = pair.hub = true; // the control planes still talk
    play(300);
    assert_true(pair_serves(&pair, 0) && pair_serves(&pair, 1));
    play(500);
    no_conflict("a split of the media path");
    assert_true(pair.duplicates > 500);
    heal();
    assert_int_equal(pair_serves(&pair, 0) + pair_serves(&pair, 1), 1);
    everybody_gets(300);
    no_conflict("its end");

    pair.media_cut = pair.control_cut = pair.hub = true;
    play(800);
    no_conflict("a whole split");
    heal();
    everybody_gets(300);
    no_conflict("its end");
    unsigned rtx = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        rtx += pair.viewer[v].rtx;
    assert_true(rtx > 300); // requests did make both nodes use RTX numbers
}

static void random_event(void)
{
    int node = (int)(random() & 1);
    switch (random() % 8) {
    case 0:
        if (pair.alive[1 - node] && pair.alive[node])
            pair_kill(&pair, node);
        break;
    case 1:
        if (!pair.alive[node])
            pair_revive(&pair, node);
        break;
    case 2:
        if (pair.alive[node])
            pair_crash(&pair, node);
        break;
    case 3:
        pair_hand_over(&pair, node);
        break;
    case 4:
        pair.media_cut = !pair.media_cut;
        pair.hub = pair.media_cut;
        break;
    case 5:
        pair.control_cut = !pair.control_cut;
        break;
    case 6:
        heal();
        break;
    default:
        pair_pass(&pair, (uint64_t)(random() % 1500));
    }
}

// And all of it in any order.
static void test_failures_in_any_order(void **state)
{
    unsigned rounds = 6;
    for (unsigned seed = 1; seed <= rounds; seed++) {
        char name[64];
        for (unsigned i = 0; i < 40; i++) {
            srandom(seed * 1000 + i);
            random_event();
            play(40 + (unsigned)(random() % 200));
            snprintf(name, sizeof(name), "event %u of seed %u", i, seed);
            no_conflict(name);
        }
        heal();
        play(100);
        everybody_gets(100);
        no_conflict("healing");
        assert_int_equal(pair_serves(&pair, 0) + pair_serves(&pair, 1), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_day_of_failures),
        cmocka_unit_test(test_failures_in_any_order),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
