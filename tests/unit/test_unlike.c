// A pair whose nodes have different numbers of workers: what is at worker w of the node that
// accepted it is at worker w modulo its number on the other, and whatever the one says of it
// reaches that one. Each pair in a process of its own, because EAL starts but once in a process.
#include "../../dataplane/failover.h"
#include "../sim/pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct pair pair;

static const struct unlike {
    unsigned workers[2];
    bool apart;
} pairs[] =
    {
        {{1, 2}, false}, {{2, 1}, false}, {{3, 2}, false},
        {{1, 2}, true},  {{2, 1}, true},  {{3, 2}, true},
},
  *unlike; // of this process

static int setup(void **state)
{
    memcpy(pair.workers, unlike->workers, sizeof(pair.workers));
    if (pair_start(&pair, unlike->apart))
        return -1;
    for (unsigned v = 0; unlike->apart && v <= PAIR_VIEWERS; v++) {
        const struct client *client = v ? &pair.viewer[v - 1].client : &pair.publisher;
        struct client there = pair_client(&pair, 1, client);
        world_check(&pair.node[1], &there, &there.addr, false, &there.key);
        pair_turn(&pair);
    }
    pair_pass(&pair, 10);
    return 0;
}

static int teardown(void **state)
{
    pair_stop(&pair);
    return 0;
}

static struct track *track_at(int node)
{
    uint32_t worker = pair.publisher.home % pair.workers[node];
    return &tables_stream(&pair.node[node].workers[worker].tables, STREAM_ID)->track[0];
}

// Every viewer has every packet, and the other node's ring has them, too.
static void publish(unsigned packets)
{
    unsigned before[PAIR_VIEWERS];
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        before[v] = pair.viewer[v].packets;
    for (unsigned i = 0; i < packets; i++)
        pair_publish(&pair, pair.published % 500 == 0);
    pair_pass(&pair, 2);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        assert_int_equal(pair.viewer[v].packets - before[v], packets);
        assert_int_equal(pair.viewer[v].bad, 0);
    }
    assert_int_equal(track_at(0)->next_index, track_at(1)->next_index);
    assert_int_equal(pair.conflicts, 0);
}

// What the trunk loses is asked for where it is: in `from` of the two.
static void lose_on_the_trunk(int from)
{
    pair.media_cut = true;
    for (unsigned i = 0; i < 5; i++)
        pair_publish(&pair, false);
    pair.media_cut = false;
    publish(10);
    pair_pass(&pair, 100);
    const struct track *there = track_at(1 - from);
    for (unsigned i = 1; i <= 15; i++)
        assert_non_null(cache_get(&there->ring, there->next_index - i));
}

// A wish for a key frame of who stands by reaches the publisher.
static void wish(int from)
{
    uint64_t *asked = &track_at(from)->layers[0].key_asked_ns, before = *asked;
    pair_pass(&pair, 400);
    track_at(1 - from)->key_wanted = true;
    pair_pass(&pair, 20);
    assert_true(*asked > before);
}

static void nothing_is_malformed(void)
{
    for (int n = 0; n < 2; n++) {
        assert_int_equal(pair_drops(&pair, n, DROP_trunk_malformed), 0);
        assert_int_equal(pair_drops(&pair, n, DROP_trunk_auth), 0);
        assert_int_equal(pair_drops(&pair, n, DROP_not_ours), 0);
    }
}

// All that the pair can go through.
static void test_records_find_their_worker(void **state)
{
    publish(100);
    lose_on_the_trunk(0);
    wish(0);
    publish(10);
    assert_true(pair_hand_over(&pair, 1));
    pair.publisher_at = 1;
    pair_pass(&pair, 600); // until a does not take itself for the one that has its packets
    publish(100);
    lose_on_the_trunk(1);
    wish(1);
    publish(10);
    nothing_is_malformed();
}

// What a viewer says to the one that does not serve it.
static void test_feedback_finds_its_worker(void **state)
{
    if (!pair.apart)
        return; // there clients know one address
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        struct pair_viewer *viewer = &pair.viewer[v];
        unsigned again = pair.duplicates + viewer->rtx;
        pair_nack(&pair, v, (uint16_t)(viewer->highest - 5), 0);
        pair_pass(&pair, 5);
        assert_int_equal(pair.duplicates + viewer->rtx, again + 1);
    }
    nothing_is_malformed();
}

// The publisher goes back to the home, which gives its packets to the one that serves.
static void test_the_publisher_is_at_the_other(void **state)
{
    if (!pair.apart)
        return;
    pair.publisher_at = 0;
    publish(100);
    pair.publisher_at = 1;
    pair_pass(&pair, 600);
    publish(100);
    nothing_is_malformed();
}

static void test_a_death_and_a_return(void **state)
{
    assert_true(pair_hand_over(&pair, 0));
    pair.publisher_at = 0;
    publish(50);
    pair_kill(&pair, 0);
    pair.publisher_at = 1;
    for (unsigned i = 0; i < 60; i++) // detection takes 30
        pair_publish(&pair, i == 40);
    assert_true(pair_serves(&pair, 1));
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        assert_int_equal(pair.viewer[v].bad, 0);
    pair_revive(&pair, 0);
    pair_pass(&pair, 4000);
    publish(50);
    assert_true(pair_hand_over(&pair, 0));
    pair.publisher_at = 0;
    publish(50);
    nothing_is_malformed();
}

int main(void)
{
    int failed = 0;
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        unlike = &pairs[i];
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_records_find_their_worker),
            cmocka_unit_test(test_feedback_finds_its_worker),
            cmocka_unit_test(test_the_publisher_is_at_the_other),
            cmocka_unit_test(test_a_death_and_a_return),
        };
        print_message("%u and %u workers, %s\n", unlike->workers[0], unlike->workers[1],
                      unlike->apart ? "apart" : "on one subnet");
        fflush(stdout);
        int status = -1;
        pid_t child = fork();
        if (child == 0)
            exit(cmocka_run_group_tests(tests, setup, teardown));
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            failed++;
    }
    return failed;
}
