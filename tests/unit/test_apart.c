// A pair whose nodes share no subnet: neither can take the other's address, so each serves a client
// from its own, by the way that the client has shown to it. Under a virtual clock.
#include "../../dataplane/failover.h"
#include "../sim/pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pair pair;

// Behind its NAT a client has another port towards each node, and a third when it has moved.
static struct abi_addr seen_by_b(const struct client *client, bool moved)
{
    struct abi_addr at = client->addr;
    at.port = (uint16_t)(moved ? 52000 : 51000);
    return at;
}

// Clients check both candidates and nominate the first.
static void check_at_b(struct client *client, bool moved)
{
    struct abi_addr from = seen_by_b(client, moved);
    world_check(&pair.node[1], client, &from, false, &client->key);
    pair_turn(&pair);
}

static int setup(void **state)
{
    if (pair_start(&pair, true))
        return -1;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        check_at_b(&pair.viewer[v].client, false);
    check_at_b(&pair.publisher, false);
    pair_pass(&pair, 10);
    return 0;
}

static int teardown(void **state)
{
    pair_stop(&pair);
    return 0;
}

static void publish(unsigned packets)
{
    for (unsigned i = 0; i < packets; i++)
        pair_publish(&pair, pair.published % 500 == 0);
}

static bool same(const struct abi_addr *a, const struct abi_addr *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static void all_from(int node, bool moved)
{
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        const struct pair_viewer *viewer = &pair.viewer[v];
        struct abi_addr at =
            node == 1 ? seen_by_b(&viewer->client, moved && v == 0) : viewer->client.addr;
        assert_true(same(&viewer->last_from, &pair.node[node].config.media4));
        assert_true(same(&viewer->last_at, &at));
        assert_int_equal(viewer->bad, 0);
    }
    assert_int_equal(pair.conflicts, 0);
}

static void fail_over(void)
{
    pair_kill(&pair, 0);
    pair.publisher_at = 1; // its ICE agent has found out, too
    struct abi_addr from = seen_by_b(&pair.publisher, false);
    world_check(&pair.node[1], &pair.publisher, &from, true, &pair.publisher.key);
}

// The publisher as the node sees it.
static void publish_to_b(unsigned packets)
{
    struct abi_addr home = pair.publisher.addr;
    pair.publisher.addr = seen_by_b(&pair.publisher, false);
    publish(packets);
    pair.publisher.addr = home;
}

// The standby shows itself to the clients while nothing else comes from it.
static void test_the_standby_keeps_its_own_pairs(void **state)
{
    publish(100);
    all_from(0, false);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        pair.viewer[v].asked[1] = 0;
    pair_pass(&pair, 21000);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        assert_in_range(pair.viewer[v].asked[1], 4, 6); // every 4 to 5 s
}

// A client that has moved says so to the node that serves it, by nomination; the standby sees only
// that checks come from elsewhere.
static void test_the_standby_follows_a_client(void **state)
{
    struct pair_viewer *viewer = &pair.viewer[0];
    struct session *session = tables_session(&pair.node[1].workers[0].tables, viewer->client.id);
    struct abi_addr old = seen_by_b(&viewer->client, false);
    struct abi_addr fresh = seen_by_b(&viewer->client, true), forged = fresh;
    // Who does not answer there is not there.
    forged.port++;
    viewer->gone = forged;
    world_check(&pair.node[1], &viewer->client, &forged, false, &viewer->client.key);
    pair_pass(&pair, 200);
    assert_true(same(&session->paths[session->path].remote, &old));

    viewer->gone = old;
    check_at_b(&viewer->client, true);
    pair_pass(&pair, 200);
    check_at_b(&viewer->client, true);
    pair_pass(&pair, 200);
    assert_true(same(&session->paths[session->path].remote, &fresh));
    // An address of before is no news, as long as the client is where it went.
    world_check(&pair.node[1], &viewer->client, &old, false, &viewer->client.key);
    viewer->asked[1] = 0;
    pair_pass(&pair, 9000);
    assert_true(same(&session->paths[session->path].remote, &fresh));
    assert_true(viewer->asked[1] >= 1);
    // It moves back, which shows by the silence where it was.
    viewer->gone = fresh;
    for (int i = 0; i < 12; i++) {
        pair_pass(&pair, 1000);
        check_at_b(&viewer->client, false);
    }
    assert_true(same(&session->paths[session->path].remote, &old));
    // And goes again.
    viewer->gone = old;
    for (int i = 0; i < 12; i++) {
        pair_pass(&pair, 1000);
        check_at_b(&viewer->client, true);
    }
    assert_true(same(&session->paths[session->path].remote, &fresh));
}

// From the next packet on, from its own address, to where the client is seen from there.
static void test_the_standby_sends_from_its_own_address(void **state)
{
    publish(200); // numbers and with them the partner's paths are replicated on the way
    all_from(0, true);
    unsigned before[PAIR_VIEWERS];
    fail_over();
    publish_to_b(60); // detection takes 30
    assert_true(pair_serves(&pair, 1));
    all_from(1, true);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        before[v] = pair.viewer[v].packets;
    publish_to_b(100);
    all_from(1, true);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        assert_int_equal(pair.viewer[v].packets - before[v], 100);
    // The control plane, which was told a's path before, is told b's.
    pair_pass(&pair, 1100);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        struct abi_addr at = seen_by_b(&pair.viewer[v].client, v == 0);
        assert_true(same(&pair.control[1].path[v].local, &pair.node[1].config.media4));
        assert_true(same(&pair.control[1].path[v].remote, &at));
    }
}

// Browsers go back to the better candidate once it answers: what they say there reaches who serves.
static void test_the_standby_hears_for_the_other(void **state)
{
    struct pair_viewer *viewer = &pair.viewer[1];
    pair_revive(&pair, 0);
    pair_pass(&pair, 4000);
    pair.publisher_at = 0;
    publish(50);
    assert_true(pair_serves(&pair, 1) && !pair_serves(&pair, 0));
    all_from(1, true);
    unsigned before = viewer->packets;
    uint64_t lost = pair.published + 1;
    pair.published += 3; // on the way to a
    publish(50);
    for (uint64_t i = lost; i < lost + 3; i++)
        assert_in_range(pair.publisher_asked[(uint16_t)i], 1, 3);
    uint64_t newest = pair.published;
    pair.published = lost - 1;
    publish(3); // again, since asked for
    pair.published = newest;
    publish(10);
    assert_int_equal(viewer->packets - before, 63);
    // A viewer asks there, too.
    unsigned again = pair.duplicates + viewer->rtx;
    pair_nack(&pair, 1, (uint16_t)(viewer->highest - 5), 0);
    pair_pass(&pair, 5);
    assert_int_equal(pair.duplicates + viewer->rtx, again + 1);
    all_from(1, true);
    // But not as often as it likes.
    uint64_t *flood = &pair.node[0].workers[0].stats->drop[DROP_feedback_flood];
    for (unsigned i = 0; i < 200; i++)
        pair_nack(&pair, 1, (uint16_t)(viewer->highest - 5), 0);
    pair_pass(&pair, 5);
    assert_in_range(*flood, 90, 110);
    // Nobody is taken for gone who speaks to a alone.
    for (int i = 0; i < 40; i++) {
        publish(10);
        pair_pass(&pair, 1000);
    }
    const struct tables *tables = &pair.node[1].workers[0].tables;
    assert_false(tables_session(tables, viewer->client.id)->dead_told);
    assert_false(tables_session(tables, pair.publisher.id)->dead_told);
    all_from(1, true);
}

// Should the publisher then come to b after all, b knows where it is, however far it has gone.
static void test_the_publisher_comes_over(void **state)
{
    publish(70000);
    unsigned before = pair.viewer[1].packets;
    pair.publisher_at = 1;
    publish_to_b(100);
    assert_int_equal(pair.viewer[1].packets - before, 100);
    all_from(1, true);
}

// And back, each from its own.
static void test_the_home_sends_from_its_own_again(void **state)
{
    publish_to_b(100);
    all_from(1, true);
    assert_true(pair_hand_over(&pair, 0));
    publish_to_b(100); // whose media a gets over the trunk
    assert_true(pair_serves(&pair, 0) && !pair_serves(&pair, 1));
    all_from(0, true);
}

static const struct sender *sender_at_b(const struct client *client)
{
    const struct tables *tables = &pair.node[1].workers[0].tables;
    const struct session *session = tables_session(tables, client->id);
    return session ? tables_sender(tables, session) : NULL;
}

// b boots: browsers have forgotten it, and what it knew of its ways to them is gone. It asks where
// a has them, and who hears it there is reached when a dies, as before. One is behind a firewall.
static void test_the_standby_finds_its_clients_again(void **state)
{
    struct pair_viewer *walled = &pair.viewer[2];
    pair.publisher_at = 0;
    publish(100);
    pair_lose(&pair, 1);
    pair_pass(&pair, 100);
    pair_revive(&pair, 1);
    walled->gone = walled->client.addr; // as far as b can see
    pair_pass(&pair, 4000);
    walled->asked[1] = 0;
    pair_pass(&pair, 20000);
    memset(&walled->gone, 0, sizeof(walled->gone));
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        const struct sender *sender = sender_at_b(&pair.viewer[v].client);
        assert_non_null(sender);
        assert_int_equal(sender->proven, v != 2);
        assert_int_equal(sender->frame.length != 0, v != 2);
    }
    assert_true(sender_at_b(&pair.publisher)->proven);
    publish(100);
    all_from(0, false);
    check_at_b(&walled->client, false); // an ICE restart, say
    pair_pass(&pair, 200);
    assert_true(sender_at_b(&walled->client)->proven);

    fail_over();
    publish_to_b(60);
    assert_true(pair_serves(&pair, 1));
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        assert_true(same(&pair.viewer[v].last_from, &pair.node[1].config.media4));
    }
    unsigned before[PAIR_VIEWERS];
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        before[v] = pair.viewer[v].packets;
    publish_to_b(100);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        assert_int_equal(pair.viewer[v].packets - before[v], 100);
    assert_int_equal(pair.conflicts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_standby_keeps_its_own_pairs),
        cmocka_unit_test(test_the_standby_follows_a_client),
        cmocka_unit_test(test_the_standby_sends_from_its_own_address),
        cmocka_unit_test(test_the_standby_hears_for_the_other),
        cmocka_unit_test(test_the_publisher_comes_over),
        cmocka_unit_test(test_the_home_sends_from_its_own_again),
        cmocka_unit_test(test_the_standby_finds_its_clients_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
