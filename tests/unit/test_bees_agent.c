// The load tester's ICE agent in virtual time: against an ICE-lite server, against another full
// agent that insists on controlling, over a network that loses and delays, and with dead
// candidates.
#include "../bees/agent.h"
#include "../bees/net.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000ull
#define QUEUE 256

struct datagram {
    struct abi_addr from, to;
    uint8_t data[700];
    size_t size;
    uint64_t at_ns;
    bool taken;
};

static struct {
    struct datagram queue[QUEUE];
    unsigned count;
    uint64_t now_ns, delay_ns;
    unsigned lose; // every n-th; 0: none
    unsigned sent;
    unsigned nominations, dead_answers;
    struct abi_addr dead; // answers nothing
} net;

static struct abi_addr client_addr, server_addr[2];

static void put(const struct abi_addr *from, const struct abi_addr *to, const uint8_t *data,
                size_t size)
{
    net.sent++;
    if ((net.lose && net.sent % net.lose == 0) || net_same(to, &net.dead))
        return;
    assert_true(net.count < QUEUE && size <= sizeof(net.queue[0].data));
    struct datagram *d = &net.queue[net.count++];
    *d = (struct datagram){
        .from = *from, .to = *to, .size = size, .at_ns = net.now_ns + net.delay_ns};
    memcpy(d->data, data, size);
}

static void client_send(void *opaque, const struct abi_addr *to, const uint8_t *data, size_t size)
{
    put(&client_addr, to, data, size);
}

static void server_send(void *opaque, const struct abi_addr *to, const uint8_t *data, size_t size)
{
    put(&server_addr[0], to, data, size);
}

// An ICE-lite server: answers what authenticates.
static void lite_input(const struct agent *credentials, const struct datagram *d)
{
    struct stun_msg msg;
    uint8_t answer[STUN_SUCCESS_MAX];
    assert_int_equal(stun_parse(d->data, d->size, &msg), 0);
    assert_true(stun_check_fingerprint(&msg));
    if (msg.type != STUN_BINDING_REQUEST)
        return;
    assert_true(stun_check_integrity(&msg, &credentials->local));
    assert_int_equal(msg.role, STUN_ROLE_CONTROLLING);
    assert_true(msg.has_priority);
    net.nominations += msg.use_candidate;
    size_t size = stun_write_success(answer, sizeof(answer), msg.id, &d->from, &credentials->local);
    put(&d->to, &d->from, answer, size);
}

static int setup(void **state)
{
    memset(&net, 0, sizeof(net));
    net.now_ns = 1000 * MS;
    net.delay_ns = 5 * MS;
    net_parse(&client_addr, "10.0.0.2", 40000);
    net_parse(&server_addr[0], "10.0.0.1", 7000);
    net_parse(&server_addr[1], "fd00::1", 7000);
    return 0;
}

// Lets time pass. `full`: the server is an agent, else it is lite and has `server`'s credentials.
static void run_for(struct agent *client, struct agent *server, bool full, uint64_t ns)
{
    for (uint64_t end = net.now_ns + ns; net.now_ns < end; net.now_ns += MS) {
        for (unsigned i = 0; i < net.count; i++) {
            struct datagram *d = &net.queue[i];
            if (d->taken || d->at_ns > net.now_ns)
                continue;
            d->taken = true;
            struct datagram copy = *d;
            if (net_same(&copy.to, &client_addr))
                agent_input(client, &copy.from, copy.data, copy.size, net.now_ns, client_send,
                            NULL);
            else if (full)
                agent_input(server, &copy.from, copy.data, copy.size, net.now_ns, server_send,
                            NULL);
            else
                lite_input(server, &copy);
        }
        while (net.count > 0 && net.queue[net.count - 1].taken)
            net.count--;
        agent_tick(client, net.now_ns, client_send, NULL);
        if (full)
            agent_tick(server, net.now_ns, server_send, NULL);
    }
}

static void introduce(struct agent *to, const struct agent *who)
{
    char ufrag[AGENT_UFRAG + 1] = "", pwd[AGENT_PWD + 1] = "";
    memcpy(ufrag, who->ufrag, AGENT_UFRAG);
    memcpy(pwd, who->pwd, AGENT_PWD);
    assert_int_equal(agent_remote(to, ufrag, pwd), 0);
}

static struct agent client, server;

static void begin(void)
{
    assert_int_equal(agent_init(&client), 0);
    assert_int_equal(agent_init(&server), 0);
    introduce(&client, &server);
    introduce(&server, &client);
}

static void test_lite_server(void **state)
{
    begin();
    agent_add(&client, &server_addr[0], 2000, net.now_ns);
    agent_add(&client, &server_addr[0], 2000, net.now_ns); // said twice
    assert_int_equal(client.pairs, 1);
    assert_null(agent_path(&client));
    run_for(&client, &server, false, 30 * MS);
    assert_non_null(agent_path(&client));
    assert_true(net_same(agent_path(&client), &server_addr[0]));
    assert_true(net.nominations > 0);
    assert_in_range(client.pair[0].rtt_ns, 9 * MS, 12 * MS);
    assert_true(agent_knows(&client, &server_addr[0]));
    assert_false(agent_knows(&client, &server_addr[1]));
}

static void test_best_candidate_wins_and_both_stay_alive(void **state)
{
    begin();
    agent_add(&client, &server_addr[0], 1000, net.now_ns);
    agent_add(&client, &server_addr[1], 2000, net.now_ns);
    run_for(&client, &server, false, 200 * MS);
    assert_true(net_same(agent_path(&client), &server_addr[1]));
    assert_true(agent_knows(&client, &server_addr[0]));
    uint64_t first = client.pair[0].answer_ns, second = client.pair[1].answer_ns;
    run_for(&client, &server, false, 8000 * MS); // consent goes on for both
    assert_true(client.pair[0].answer_ns > first);
    assert_true(client.pair[1].answer_ns > second);
    assert_false(agent_dead(&client, net.now_ns));
}

static void test_dead_candidate_does_not_hold_up(void **state)
{
    begin();
    net.dead = server_addr[1];
    agent_add(&client, &server_addr[1], 2000, net.now_ns);
    agent_add(&client, &server_addr[0], 1000, net.now_ns);
    run_for(&client, &server, false, 200 * MS);
    assert_non_null(agent_path(&client));
    assert_true(net_same(agent_path(&client), &server_addr[0]));
}

static void test_losses_are_made_up_for(void **state)
{
    for (unsigned lose = 3; lose < 8; lose++) {
        setup(NULL);
        begin();
        net.lose = lose;
        agent_add(&client, &server_addr[0], 1000, net.now_ns);
        run_for(&client, &server, false, 8000 * MS);
        assert_non_null(agent_path(&client));
    }
}

static void test_nobody_answers(void **state)
{
    begin();
    net.dead = server_addr[0];
    agent_add(&client, &server_addr[0], 1000, net.now_ns);
    run_for(&client, &server, false, 5000 * MS);
    assert_false(agent_dead(&client, net.now_ns));
    run_for(&client, &server, false, 15000 * MS);
    assert_true(agent_dead(&client, net.now_ns));
    assert_in_range(client.checks_sent, 5, 7); // RFC 8489 6.2.1: it gives up
}

static void test_consent_is_lost(void **state)
{
    begin();
    agent_add(&client, &server_addr[0], 1000, net.now_ns);
    run_for(&client, &server, false, 1000 * MS);
    assert_non_null(agent_path(&client));
    net.dead = server_addr[0];
    run_for(&client, &server, false, 25000 * MS);
    assert_false(agent_dead(&client, net.now_ns)); // RFC 7675 5.1: 30 s
    run_for(&client, &server, false, 10000 * MS);
    assert_true(agent_dead(&client, net.now_ns));
}

// The node in use dies and its partner goes on with the media: traffic follows after 2.5 s.
static void test_follows_the_media(void **state)
{
    begin();
    agent_add(&client, &server_addr[0], 2000, net.now_ns);
    agent_add(&client, &server_addr[1], 1000, net.now_ns);
    run_for(&client, &server, false, 6000 * MS);
    assert_true(net_same(agent_path(&client), &server_addr[0]));
    net.dead = server_addr[0];
    unsigned nominations = net.nominations;
    uint64_t died_ns = net.now_ns;
    while (net_same(agent_path(&client), &server_addr[0])) {
        agent_heard(&client, &server_addr[1], net.now_ns);
        run_for(&client, &server, false, 20 * MS);
        assert_true(net.now_ns < died_ns + 9000 * MS);
    }
    assert_true(net.now_ns - client.pair[0].answer_ns >= AGENT_SILENT_NS);
    run_for(&client, &server, false, 100 * MS);
    assert_true(net.nominations > nominations); // and the partner is told so
    assert_false(agent_dead(&client, net.now_ns));
}

// Both begin as controlling; the larger tie-breaker keeps the role (RFC 8445 7.3.1.1).
static void test_role_conflict(void **state)
{
    for (int larger = 0; larger < 2; larger++) {
        setup(NULL);
        begin();
        client.tiebreaker = larger ? 2 : 1;
        server.tiebreaker = larger ? 1 : 2;
        agent_add(&client, &server_addr[0], 1000, net.now_ns);
        agent_add(&server, &client_addr, 1000, net.now_ns);
        run_for(&client, &server, true, 3000 * MS);
        assert_int_equal(client.controlled, !larger);
        assert_int_equal(server.controlled, larger);
        assert_non_null(agent_path(&client));
        assert_non_null(agent_path(&server));
    }
}

// A full server that learnt of us only by its candidate: its check makes a pair (7.3.1.4).
static void test_unknown_address_is_learnt(void **state)
{
    begin();
    agent_add(&server, &client_addr, 1000, net.now_ns);
    run_for(&client, &server, true, 3000 * MS);
    assert_int_equal(client.pairs, 1);
    assert_non_null(agent_path(&client));
}

static void test_forgeries_are_ignored(void **state)
{
    struct stun_key wrong;
    uint8_t data[600];
    struct stun_check check = {.username = "x", .username_length = 1, .role = STUN_ROLE_CONTROLLED};
    begin();
    agent_add(&client, &server_addr[0], 1000, net.now_ns);
    agent_tick(&client, net.now_ns, client_send, NULL);
    stun_key_init(&wrong, "wrong", 5);
    size_t size = stun_write_success(data, sizeof(data), client.pair[0].id, &client_addr, &wrong);
    agent_input(&client, &server_addr[0], data, size, net.now_ns, client_send, NULL);
    assert_int_equal(client.pair[0].state, PAIR_CHECKING);
    // Right password, but from elsewhere than where it was sent (7.2.5.2.1).
    size = stun_write_success(data, sizeof(data), client.pair[0].id, &client_addr, &client.remote);
    agent_input(&client, &server_addr[1], data, size, net.now_ns, client_send, NULL);
    assert_int_equal(client.pair[0].state, PAIR_CHECKING);
    unsigned sent = net.sent;
    size = stun_write_request(data, sizeof(data), &check, &client.local);
    agent_input(&client, &server_addr[0], data, size, net.now_ns, client_send, NULL);
    for (size_t cut = 0; cut < size; cut++)
        agent_input(&client, &server_addr[0], data, cut, net.now_ns, client_send, NULL);
    assert_int_equal(net.sent, sent); // not one answer
    assert_int_equal(client.checks_received, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lite_server, setup),
        cmocka_unit_test_setup(test_best_candidate_wins_and_both_stay_alive, setup),
        cmocka_unit_test_setup(test_dead_candidate_does_not_hold_up, setup),
        cmocka_unit_test_setup(test_losses_are_made_up_for, setup),
        cmocka_unit_test_setup(test_nobody_answers, setup),
        cmocka_unit_test_setup(test_consent_is_lost, setup),
        cmocka_unit_test_setup(test_follows_the_media, setup),
        cmocka_unit_test_setup(test_role_conflict, setup),
        cmocka_unit_test_setup(test_unknown_address_is_learnt, setup),
        cmocka_unit_test_setup(test_forgeries_are_ignored, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
