// Viewers whose numbers are the partner's to say: they get nothing rather than what they cannot
// open, until the partner says them; and when it does not, they are ended, to come again. Both
// nodes and their control planes as tests/sim/pair.c has them, under a virtual clock.
#include "../../dataplane/failover.h"
#include "../../dataplane/ingest.h"
#include "../sim/pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

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

static void play(unsigned packets)
{
    for (unsigned i = 0; i < packets; i++)
        pair_publish(&pair, pair.published % 500 == 0);
}

static unsigned speak(unsigned packets)
{
    unsigned before = 0, after = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        before += pair.viewer[v].sound;
    for (unsigned i = 0; i < packets; i++)
        pair_speak(&pair);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        after += pair.viewer[v].sound;
    return after - before;
}

static unsigned ended(int node)
{
    unsigned sum = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        sum += pair.viewer[v].ended[node];
    return sum;
}

// All that the viewers got so far: whole, and each number once.
static unsigned got(void)
{
    unsigned sum = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        assert_int_equal(pair.viewer[v].bad, 0);
        sum += pair.viewer[v].packets;
    }
    assert_int_equal(pair.conflicts, 0);
    return sum;
}

static void everybody_gets(unsigned packets)
{
    unsigned before = got();
    play(packets);
    assert_in_range(got() - before, packets * PAIR_VIEWERS, 2 * packets * PAIR_VIEWERS);
}

static struct track *track_at(int node, unsigned number)
{
    return &tables_stream(&pair.node[node].workers[0].tables, STREAM_ID)->track[number];
}

static struct sub *sub_at(int node, unsigned viewer, unsigned track)
{
    const struct tables *tables = &pair.node[node].workers[0].tables;
    return &tables_sender(tables, tables_session(tables, pair.viewer[viewer].client.id))
                ->sub[track];
}

static bool may_begin(int node)
{
    return !sub_numbered(sub_at(node, 0, 1)) && !sub_at(node, 0, 1)->foreign;
}

static void hand_over(int to, bool right_arrives)
{
    pair.right_lost = !right_arrives;
    assert_true(pair_hand_over(&pair, to));
    pair_pass(&pair, 4000);
    pair.right_lost = false;
}

// The right to begin is left, and the answer does not arrive before the term ends.
static void test_a_right_that_was_lost_comes_back(void **state)
{
    assert_true(may_begin(0) && !may_begin(1));
    hand_over(1, false);
    assert_true(!may_begin(0) && !may_begin(1));
    hand_over(0, true); // who left it serves again, and has it again
    assert_true(may_begin(0) && !may_begin(1));
    hand_over(1, false);
    hand_over(0, false);
    assert_true(!may_begin(0) && !may_begin(1));
    hand_over(1, true); // it is left again
    assert_true(!may_begin(0) && may_begin(1));
    hand_over(0, false);
    pair_kill(&pair, 1); // with its memory
    pair_pass(&pair, 200);
    pair_revive(&pair, 1);
    pair_pass(&pair, 4000);
    hand_over(1, true);
    assert_true(!may_begin(0) && may_begin(1));
    // A node without memory may have taken what was left to it.
    hand_over(0, true);
    hand_over(1, false);
    assert_true(!may_begin(0) && !may_begin(1));
    pair_lose(&pair, 1);
    pair_pass(&pair, 200);
    pair_revive(&pair, 1);
    pair_pass(&pair, 4000);
    hand_over(1, true);
    hand_over(0, true);
    assert_true(!may_begin(0) && !may_begin(1));
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) { // they come again
        pair_join_alone(&pair, v);
        pair_protect(&pair, v);
    }
    assert_true(may_begin(0) && !may_begin(1));
}

// The publisher is heard for the first time when the viewers' node is dead. It may be silent for as
// long as it likes; when it speaks they wait a little, and their node is back.
static void test_a_first_word_without_the_partner(void **state)
{
    everybody_gets(300);
    pair_kill(&pair, 0);
    play(300);
    assert_true(pair_serves(&pair, 1));
    for (int i = 0; i < 10; i++)
        everybody_gets(1000);
    assert_int_equal(speak(2500), 0);
    pair_revive(&pair, 0);
    speak(4000);
    assert_true(pair_serves(&pair, 1));
    assert_int_equal(speak(100), 100 * PAIR_VIEWERS);
    assert_int_equal(ended(0) + ended(1), 0);
    got();
}

// As when a's publisher comes again, to a worker that did not serve it.
static void go_on_in_another_space(void)
{
    struct track *a = track_at(0, 0), *b = track_at(1, 0);
    uint64_t step = UINT64_C(0x1234) << INDEX_SPACE_BITS;
    bool beyond = (a->next_index + step) >> 48; // spaces are taken at random
    a->layers[a->layer].delta += beyond ? -step : step;
    b->layers[b->layer].mapped = false;
}

// The publisher went on elsewhere and its viewers' numbers with it, and the node dies before the
// partner has been told of them.
static void lose_the_news(void)
{
    pair_hear(&pair, 1);
    if (!pair.alive[0])
        pair_revive(&pair, 0);
    pair_pass(&pair, 4000);
    assert_true(pair_serves(&pair, 0) || pair_hand_over(&pair, 0));
    everybody_gets(100);
    pair.deaf[1] = true;
    go_on_in_another_space();
    everybody_gets(100);
    assert_true(ingest_same_space(track_at(1, 0), track_at(0, 0)->next_index));
    pair_kill(&pair, 0);
    play(60);
    unsigned before = got();
    play(300);
    assert_true(pair_serves(&pair, 1));
    assert_int_equal(got(), before);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        assert_true(sub_at(1, v, 0)->foreign);
}

static void test_numbers_that_are_behind_are_not_used(void **state)
{
    struct msg_numbers old = pair.control[0].numbers[0];
    lose_the_news();
    // Nor are old ones, however late they come.
    old.numbered = 1;
    old.delta[0] = sub_at(1, 0, 0)->delta & INDEX_MASK;
    struct msg_session_adopt late = {
        .head = {.type = MSG_SESSION_ADOPT, .length = sizeof(late), .id = pair.viewer[0].client.id},
        .numbers = old};
    world_tell(&pair.node[1], 0, &late);
    unsigned before = got();
    play(100);
    assert_int_equal(got(), before);
    // The news was on its way.
    pair_hear(&pair, 1);
    play(5);
    everybody_gets(100);
    assert_int_equal(ended(0) + ended(1), 0);
}

// It was not, but the node comes back with its memory, and says what it knows when it is asked.
static void test_who_comes_back_says_the_numbers(void **state)
{
    lose_the_news();
    memset(pair.owed, 0, sizeof(pair.owed));
    memset(pair.control[0].numbers, 0, sizeof(pair.control[0].numbers));
    memset(pair.control[1].numbers, 0, sizeof(pair.control[1].numbers));
    pair.deaf[1] = false;
    pair_revive(&pair, 0);
    for (int i = 0; i < 4; i++)
        play(1000);
    assert_true(pair_serves(&pair, 1));
    everybody_gets(100);
    assert_int_equal(ended(0) + ended(1), 0);
    // Its own are still what they were, too.
    assert_true(pair_hand_over(&pair, 0));
    everybody_gets(100);
}

// Nobody comes back.
static void test_who_waits_in_vain_is_ended(void **state)
{
    lose_the_news();
    uint64_t since = pair.now;
    for (int i = 0; i < 3; i++)
        play(1000);
    assert_int_equal(ended(1), 0);
    for (int i = 0; i < 3; i++)
        play(1000);
    assert_int_equal(ended(1), PAIR_VIEWERS); // once
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        assert_int_equal(pair.viewer[v].why, DEAD_NUMBERS);
        assert_in_range((pair.viewer[v].ended_ns - since) / MS, 3500, 5500);
    }
    got();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_right_that_was_lost_comes_back),
        cmocka_unit_test(test_a_first_word_without_the_partner), // first: nobody has heard it yet
        cmocka_unit_test(test_numbers_that_are_behind_are_not_used),
        cmocka_unit_test(test_who_comes_back_says_the_numbers),
        cmocka_unit_test(test_who_waits_in_vain_is_ended),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
