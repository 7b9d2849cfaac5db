// The invariant of a pair (design.md): no (key, SSRC, index) ever protects two different packets,
// whatever dies, whoever serves, and whatever is asked for. Every packet that leaves a node is
// written down: by tests/sim/pair.c as it stands on the wire, and with -DPROTECT_AUDIT also where
// it is sealed.
//
// These guards were taken out by hand, one by one, and a test here failed each time: awaiting a
// lease; what is stepped over at home; the reserve once, only after a seizure, only for the
// partner, with the lease on its way; moving to what was asked for in a new term; jumping over a
// limit of the other node, serving or standing by; limits that never go down; where a session that
// is protected later has come to without a lease; no numbers of its own for a standby and none of
// the other for who serves; RTX numbers that outlive a restart. Of the right to begin: that it is
// given up when it is left, only by who stands by; that it is taken only by who serves, in the term
// that was meant; that RTX numbers go along. Not noticed here are guards of what this model never
// does: an import that has no numbers yet, a publisher's new source at a standby (ingest.c), and
// SRTCP, whose compounds begin with an SSRC of each node's own.
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

static unsigned rtx_sent(void)
{
    unsigned rtx = 0;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        rtx += pair.viewer[v].rtx;
    return rtx;
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
    for (int n = 0; n < 2; n++)
        pair_hear(&pair, n);
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
    assert_true(rtx_sent() > 300); // requests did make both nodes use RTX numbers
}

// Plays on until each node has used a few leases; that requests are answered with RTX again says
// that what was stepped over did not make receivers lose the rollover count.
static void use_leases(void)
{
    unsigned before = rtx_sent();
    play(2500);
    assert_true(rtx_sent() - before > 300);
}

static void be_home(void)
{
    heal();
    pair_hand_over(&pair, 0);
    use_leases();
}

// The partner serves without a word of ours, and dies before it can tell: the home steps over its
// reserve, whether the partner's process or its whole memory is gone.
static void test_nobody_told_of_the_reserve(void **state)
{
    for (int lost = 0; lost <= 1; lost++) {
        be_home();
        pair.media_cut = pair.control_cut = pair.hub = true;
        play(1500);
        assert_true(pair_serves(&pair, 0) && pair_serves(&pair, 1));
        (lost ? pair_lose : pair_kill)(&pair, 1);
        heal();
        assert_true(pair_serves(&pair, 0) && !pair_serves(&pair, 1));
        use_leases();
        no_conflict("a partner that served unheard");
    }
}

// The same partner takes over twice before it hears from home: one reserve is all that it has.
static void test_a_reserve_is_taken_once(void **state)
{
    be_home();
    for (int i = 0; i < 3; i++) {
        pair.media_cut = pair.control_cut = pair.hub = true;
        play(800);
        assert_true(pair_serves(&pair, 1));
        pair_kill(&pair, 1);
        pair.media_cut = false;
        pair_revive(&pair, 1); // the control planes are still apart
        pair_pass(&pair, 4000);
        assert_false(pair_serves(&pair, 1));
    }
    heal();
    use_leases();
    no_conflict("several takeovers in the dark");
}

// The home's dataplane hears late how far the partner went, at failback or long after.
static void test_numbers_come_late(void **state)
{
    be_home();
    pair.deaf[0] = true;
    assert_true(pair_hand_over(&pair, 1));
    use_leases();
    assert_true(pair_hand_over(&pair, 0));
    play(600);
    pair_hear(&pair, 0);
    use_leases();
    no_conflict("late numbers at home");
    pair.deaf[1] = true;
    use_leases();
    assert_true(pair_hand_over(&pair, 1));
    play(600);
    pair_hear(&pair, 1);
    use_leases();
    no_conflict("late numbers at the partner");
}

// The home dies with everything, and gets its sessions from the partner.
static void test_a_home_without_memory(void **state)
{
    be_home();
    pair_lose(&pair, 0);
    use_leases();
    heal();
    assert_true(pair_hand_over(&pair, 0));
    use_leases();
    no_conflict("a home without memory");
}

// A lease that was on its way when the home died.
static void test_a_takeover_in_the_middle_of_a_lease(void **state)
{
    for (unsigned i = 0; i < 24; i++) {
        be_home();
        pair.deaf[1] = true; // the partner's control plane confirms, its dataplane is a little late
        play(20 + 7 * i);
        pair_kill(&pair, 0);
        play(400);
        pair_hear(&pair, 1);
        play(200);
        no_conflict("a lease on its way");
    }
}

// A session that came from the partner has its numbers, and none are made up while they are not
// there; once they come, who serves it goes on with them.
static void test_numbers_of_an_import_come_late(void **state)
{
    be_home();
    pair_lose(&pair, 1);
    pair.deaf[1] = true;
    play(50);
    pair_revive(&pair, 1);
    pair_pass(&pair, 4000);
    play(200); // the partner has the media, and knows not under which numbers it went out
    pair_kill(&pair, 0);
    unsigned before = pair.viewer[0].packets;
    play(300);
    assert_true(pair_serves(&pair, 1));
    assert_int_equal(pair.viewer[0].packets, before);
    pair_hear(&pair, 1);
    play(5);
    everybody_gets(300);
    no_conflict("an import without numbers");
}

// What another node says where a viewer's numbers stand is not for the one that is sending.
static void test_who_serves_keeps_its_numbers(void **state)
{
    be_home();
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        struct msg_session_adopt m = {.head = {.type = MSG_SESSION_ADOPT,
                                               .length = sizeof(m),
                                               .id = pair.viewer[v].client.id},
                                      .numbers = pair.control[0].numbers[v]};
        m.numbers.delta[0] = (m.numbers.delta[0] - 50) & INDEX_MASK;
        world_tell(&pair.node[0], 0, &m);
    }
    everybody_gets(300);
    no_conflict("another node's numbers");
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

static const struct sub *sound_of(int node, unsigned viewer)
{
    const struct tables *tables = &pair.node[node].workers[0].tables;
    const struct session *session = tables_session(tables, pair.viewer[viewer].client.id);
    return &tables_sender(tables, session)->sub[1];
}

static bool may_begin(int node)
{
    return !sub_numbered(sound_of(node, 0)) && !sound_of(node, 0)->foreign;
}

// The partner's word, as if it had been said to this node in that term.
static void say_right(int node, uint32_t term, uint8_t asked, uint8_t left)
{
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        struct msg_right m = {
            .head = {.type = MSG_RIGHT_PASSED, .length = sizeof(m), .id = pair.viewer[v].client.id},
            .term = term,
            .asked = asked,
            .left = left,
            .first = {0, 0x4000}};
        world_tell(&pair.node[node], 0, &m);
    }
    pair_turn(&pair);
}

// Nobody has heard the publisher yet, and its node dies. The other has no right to begin, until the
// dead one is back and leaves it; then that one has none any more, whatever happens.
static void test_one_node_begins(void **state)
{
    be_home();
    uint32_t term = pair.control[0].term;
    assert_true(may_begin(0) && !may_begin(1));
    say_right(0, term, 2, 0); // nobody takes it from who serves,
    say_right(1, term - 1, 2, 0);
    say_right(1, term, 0, 2); // and who stands by takes none
    assert_true(may_begin(0) && !may_begin(1));

    pair_kill(&pair, 0);
    play(300);
    term = pair.control[1].term;
    assert_true(pair_serves(&pair, 1));
    say_right(1, term - 1, 0, 2); // of terms that are past, and of none that there was
    say_right(1, term + 1, 0, 2);
    assert_int_equal(speak(100), 0);
    heal();
    pair_pass(&pair, 6000);
    assert_true(may_begin(1) && !may_begin(0));
    no_conflict("a right that was left to the partner");

    // Both serve, and the one that gave it up hears the publisher later than the other.
    pair.media_cut = pair.control_cut = true;
    play(300);
    assert_true(pair_serves(&pair, 0) && pair_serves(&pair, 1));
    assert_int_equal(speak(20), 20 * PAIR_VIEWERS);
    pair.hub = true;
    play(50);
    assert_int_equal(speak(100), 100 * PAIR_VIEWERS);
    assert_false(may_begin(0));
    no_conflict("a split before anything was heard");

    // Whoever serves when they meet again has the other's numbers soon.
    heal();
    pair_pass(&pair, 6000);
    assert_int_equal(speak(100), 100 * PAIR_VIEWERS);
    pair_hand_over(&pair, 0);
    assert_int_equal(speak(100), 100 * PAIR_VIEWERS);
    pair_kill(&pair, 0);
    play(300);
    assert_int_equal(speak(100), 100 * PAIR_VIEWERS);
    heal();
    no_conflict("numbers that the standby had");
}

// A session that was in no group used as many RTX numbers as it liked, and no partner knows. It is
// taken into the group, and home dies now, a little later, or when the partner knows.
static void test_a_session_is_protected_later(void **state)
{
    for (unsigned i = 0; i < 12; i++) {
        be_home();
        pair_join_alone(&pair, 0);
        play(700);
        assert_true(pair.viewer[0].rtx > 100);
        pair_protect(&pair, 0);
        for (unsigned n = 0; n < i; n++)
            pair_publish(&pair, false);
        if (i % 2)
            play(i * i);
        pair_kill(&pair, 0);
        play(400);
        assert_true(pair_serves(&pair, 1));
        if (i > 0)
            everybody_gets(300);
        heal();
        use_leases();
        assert_true(pair_hand_over(&pair, 0));
        everybody_gets(300);
        use_leases();
        no_conflict("a session that was protected later");
    }
}

// Whether the node's session had to end.
static bool ended(int node, unsigned viewer)
{
    const struct tables *tables = &pair.node[node].workers[0].tables;
    return tables_session(tables, pair.viewer[viewer].client.id)->unsafe;
}

// While the nodes are apart, and both serve, a viewer comes that only one of them knows. When the
// publisher changes there it goes on, unlike those that the other may carry on; and then it is
// protected, whichever node stays.
static void test_a_viewer_of_one_node(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        be_home();
        everybody_gets(300);
        pair.media_cut = pair.control_cut = pair.hub = true;
        pair_join_alone(&pair, 0);
        play(300);
        assert_true(pair_serves(&pair, 0) && pair_serves(&pair, 1));
        // As for another publisher, see ingest_next_publisher.
        struct stream *stream = tables_stream(&pair.node[0].workers[0].tables, STREAM_ID);
        for (int t = 0; t < stream->tracks; t++) {
            stream->track[t].trunk_fed = true;
            stream->track[t].layers[0].mapped = false;
        }
        unsigned before = pair.viewer[0].packets;
        play(300);
        assert_true(pair.viewer[0].packets - before >= 300);
        assert_false(ended(0, 0));
        assert_true(ended(0, 1) && ended(0, 2));
        if (i % 2)
            pair_protect(&pair, 0);
        no_conflict("a viewer that one node knows");
        heal();
        if (i % 2 == 0)
            pair_protect(&pair, 0);
        play(300);
        no_conflict("a viewer that one node knew");
        for (unsigned v = 0; v < PAIR_VIEWERS; v++) { // as clients do whose session has ended
            be_home();
            pair_join_alone(&pair, v);
            pair_protect(&pair, v);
        }
        play(1500);
        everybody_gets(300);
        if (i > 1)
            pair_crash(&pair, 0);
        no_conflict("after it");
    }
}

static void random_event(void)
{
    int node = (int)(random() & 1);
    switch (random() % 11) {
    case 0:
        if (pair.alive[1 - node] && pair.alive[node])
            pair_kill(&pair, node);
        break;
    case 8:
        if (pair.alive[1 - node] && pair.alive[node] && !pair.lost[1 - node])
            pair_lose(&pair, node);
        break;
    case 9:
        pair.deaf[node] = true;
        break;
    case 10:
        pair_hear(&pair, node);
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
        cmocka_unit_test(test_one_node_begins), // first: nobody has heard the sound yet
        cmocka_unit_test(test_a_day_of_failures),
        cmocka_unit_test(test_nobody_told_of_the_reserve),
        cmocka_unit_test(test_a_reserve_is_taken_once),
        cmocka_unit_test(test_numbers_come_late),
        cmocka_unit_test(test_a_home_without_memory),
        cmocka_unit_test(test_a_takeover_in_the_middle_of_a_lease),
        cmocka_unit_test(test_numbers_of_an_import_come_late),
        cmocka_unit_test(test_who_serves_keeps_its_numbers),
        cmocka_unit_test(test_a_session_is_protected_later),
        cmocka_unit_test(test_a_viewer_of_one_node),
        cmocka_unit_test(test_failures_in_any_order),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
