// dpclient on a real loop and a real channel; the dataplane is this process's other end of it, or a
// child that dies. Every wait ends at a condition or fails at a deadline.
#include "../../controlplane/dpclient.h"
#include "../../dataplane/abi/channel_layout.h"
#include "../sim/scratch.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 5000

struct fixture {
    char dir[64];
    struct channel cp, dp;
    uv_loop_t loop;
    uv_timer_t deadline;
    struct dpclient *client;
    uint64_t got[ABI_MAX_LANES]; // messages, whose ids count from 1
    uint64_t total;
    enum channel_peer peer;
    uint64_t epoch;
    bool ready, free_in_handler;
    int peers; // calls of on_peer
};

static void on_message(void *opaque, uint32_t lane, const struct msg_head *m)
{
    struct fixture *f = opaque;
    assert_int_equal(m->id, ++f->got[lane]);
    f->total++;
    if (f->free_in_handler) {
        dpclient_free(f->client);
        f->client = NULL;
    }
}

static void on_peer(void *opaque, enum channel_peer peer, uint64_t epoch, bool ready)
{
    struct fixture *f = opaque;
    f->peer = peer;
    f->epoch = epoch;
    f->ready = ready;
    f->peers++;
}

static const struct dpclient_handlers handlers = {on_message, on_peer};

static void on_deadline(uv_timer_t *timer)
{
    fail_msg("nothing happened in time");
}

static void open_dp(struct fixture *f)
{
    char why[256];
    assert_int_equal(channel_open(&f->dp, f->dir, why, sizeof(why)), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct abi_config config = {.workers = 2, .max_sessions = 3, .max_streams = 2};
    char why[256];
    bool changed;
    assert_int_equal(scratch_make(f->dir, sizeof(f->dir), "dpclient"), 0);
    assert_int_equal(channel_create(&f->cp, f->dir, &config, &changed, why, sizeof(why)), 0);
    f->dp.fd = f->dp.my_bell = f->dp.peer_bell = -1;
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->deadline);
    uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0);
    assert_int_equal(dpclient_new(&f->client, &f->loop, &f->cp, &handlers, f), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    dpclient_free(f->client);
    uv_close((uv_handle_t *)&f->deadline, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0); // every handle was closed
    channel_close(&f->cp);
    channel_close(&f->dp);
    assert_int_equal(scratch_remove(f->dir), 0);
    free(f);
    return 0;
}

#define RUN_UNTIL(f, condition)                                                                    \
    while (!(condition))                                                                           \
    uv_run(&(f)->loop, UV_RUN_ONCE)

static void make_ready(struct fixture *f)
{
    open_dp(f);
    channel_beat(&f->dp, uv_hrtime(), true);
    RUN_UNTIL(f, f->ready);
}

static int say(struct fixture *f, uint32_t lane, uint16_t type, uint64_t id)
{
    struct msg_head m = {.type = type, .length = sizeof(m), .id = id};
    return channel_send(&f->dp, lane, &m);
}

static int send_down(struct fixture *f, uint32_t lane, uint64_t id)
{
    struct msg_head m = {.type = MSG_SESSION_CLOSE, .length = sizeof(m), .id = id};
    return dpclient_send(f->client, lane, &m);
}

static uint64_t hear(struct fixture *f, uint32_t lane)
{
    uint64_t invalid = 0;
    const struct msg_head *m = channel_peek(&f->dp, lane, &invalid);
    uint64_t id = m == NULL ? 0 : m->id;
    if (m != NULL)
        channel_release(&f->dp, lane);
    return id;
}

static void tells_the_peer_at_once_and_then_its_changes(void **state)
{
    struct fixture *f = *state;
    RUN_UNTIL(f, f->peers > 0);
    assert_int_equal(f->peer, PEER_ABSENT);
    open_dp(f);
    RUN_UNTIL(f, f->peer == PEER_ALIVE);
    assert_false(f->ready);
    uint64_t epoch = f->epoch;
    channel_beat(&f->dp, uv_hrtime(), true);
    RUN_UNTIL(f, f->ready);
    assert_int_equal(f->peers, 3);
    assert_int_equal(f->epoch, epoch);
    uint64_t last = uv_hrtime();
    channel_beat(&f->dp, last, true);
    RUN_UNTIL(f, f->peer == PEER_STALLED); // it does not beat any more
    uint64_t took = uv_hrtime() - last;
    assert_true(took > ABI_STALLED_NS && took < 10 * ABI_STALLED_NS);
    channel_close(&f->dp);
    RUN_UNTIL(f, f->peer == PEER_ABSENT);
    open_dp(f);
    RUN_UNTIL(f, f->epoch != epoch);
}

static void beats_and_says_whether_it_is_ready(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch;
    bool ready;
    make_ready(f);
    assert_int_equal(channel_peer(&f->dp, uv_hrtime(), &epoch, &ready), PEER_ALIVE);
    assert_false(ready);
    dpclient_set_ready(f->client, true);
    channel_peer(&f->dp, uv_hrtime(), &epoch, &ready);
    assert_true(ready);
    const struct channel_side *me = &f->dp.file->side[CHANNEL_CONTROLPLANE];
    uint64_t beat = me->side.heartbeat_ns;
    RUN_UNTIL(f, CHANNEL_LOAD(me->side.heartbeat_ns) != beat);
    channel_peer(&f->dp, uv_hrtime(), &epoch, &ready);
    assert_true(ready);
}

static void death_is_seen_at_once(void **state)
{
    struct fixture *f = *state;
    int pipes[2];
    char byte, why[256];
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct channel dp;
        if (channel_open(&dp, f->dir, why, sizeof(why)) != 0)
            _exit(1);
        channel_beat(&dp, uv_hrtime(), true);
        if (write(pipes[1], "x", 1) != 1)
            _exit(2);
        pause();
        _exit(0);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    RUN_UNTIL(f, f->peer == PEER_ALIVE);
    // A beat that stays fresh: the pidfd alone can tell.
    CHANNEL_STORE(peers(&f->cp)->side.heartbeat_ns, uv_hrtime() + 3600ull * 1000000000u);
    RUN_UNTIL(f, f->ready);
    uint64_t killed = uv_hrtime();
    kill(pid, SIGKILL);
    RUN_UNTIL(f, f->peer == PEER_DEAD);
    assert_true(uv_hrtime() - killed < 100000000u);
    assert_false(f->ready);
    assert_int_equal(dpclient_peer(f->client, NULL, NULL), PEER_DEAD);
    uint64_t epoch = f->epoch;
    waitpid(pid, NULL, 0);
    close(pipes[0]);
    close(pipes[1]);
    open_dp(f); // the next one
    RUN_UNTIL(f, f->peer == PEER_ALIVE);
    assert_true(f->epoch != epoch);
}

static void bell_brings_messages(void **state)
{
    struct fixture *f = *state;
    make_ready(f);
    say(f, 2, MSG_SESSION_MEDIA, 1);
    RUN_UNTIL(f, f->got[2] == 1);
    say(f, 1, MSG_SESSION_CLOSED, 1);
    say(f, 0, MSG_SESSION_MEDIA, 1);
    RUN_UNTIL(f, f->total == 3);
    assert_int_equal(dpclient_counts(f->client)->received, 3);
}

static void everything_arrives_in_order(void **state)
{
    struct fixture *f = *state;
    make_ready(f);
    for (uint64_t i = 1; i <= CHANNEL_SLOTS; i++)
        for (uint32_t lane = 0; lane < 3; lane++)
            assert_int_equal(say(f, lane, MSG_SESSION_MEDIA, i), 0);
    uv_run(&f->loop, UV_RUN_ONCE);
    assert_true(f->total < 3 * CHANNEL_SLOTS); // a turn is bounded
    RUN_UNTIL(f, f->total == 3 * CHANNEL_SLOTS);
}

static void invalid_messages_are_counted_not_handled(void **state)
{
    struct fixture *f = *state;
    make_ready(f);
    say(f, 1, MSG_SESSION_CLOSE, 1);  // wrong direction
    say(f, 1, MSG_SESSION_DEAD, 1);   // too short
    say(f, 1, MSG_TYPES, 1);          // no such type
    say(f, 1, MSG_SESSION_CLOSED, 0); // no session
    say(f, 1, MSG_SESSION_CLOSED, 1);
    RUN_UNTIL(f, f->got[1] == 1);
    assert_int_equal(dpclient_counts(f->client)->invalid, 4);
}

static void sends_wait_until_ready(void **state)
{
    struct fixture *f = *state;
    open_dp(f);
    RUN_UNTIL(f, f->peer == PEER_ALIVE);
    assert_int_equal(send_down(f, 1, 1), 0);
    assert_int_equal(hear(f, 1), 0);
    channel_beat(&f->dp, uv_hrtime(), true);
    RUN_UNTIL(f, f->ready);
    assert_int_equal(send_down(f, 1, 2), 0);
    assert_int_equal(hear(f, 1), 1);
    assert_int_equal(hear(f, 1), 2);
    assert_int_equal(send_down(f, 3, 1), -EINVAL);
    uint8_t big[MSG_MAX] = {0};
    ((struct msg_head *)big)->length = MSG_MAX + 1;
    assert_int_equal(dpclient_send(f->client, 1, big), -EMSGSIZE);
}

static void full_ring_overflows_in_order_and_within_bounds(void **state)
{
    struct fixture *f = *state;
    uint64_t sent = 0;
    make_ready(f);
    while (send_down(f, 1, sent + 1) == 0)
        sent++;
    assert_int_equal(sent, 2 * CHANNEL_SLOTS); // the ring's and the queue's
    assert_int_equal(send_down(f, 1, 1), -ENOBUFS);
    assert_int_equal(send_down(f, 2, 7), 0); // other lanes are free
    assert_int_equal(hear(f, 2), 7);
    assert_int_equal(dpclient_counts(f->client)->overflowed, 2);
    assert_int_equal(hear(f, 1), 1);
    assert_int_equal(send_down(f, 1, ++sent) == 0, false); // still behind the queue: full
    sent--;
    for (uint64_t next = 2; next <= sent; next++) {
        uint64_t id;
        RUN_UNTIL(f, (id = hear(f, 1)) != 0);
        assert_int_equal(id, next);
    }
    assert_int_equal(send_down(f, 1, 99), 0);
    assert_int_equal(hear(f, 1), 99); // straight to the ring again
}

static void restart_forgets_what_waited(void **state)
{
    struct fixture *f = *state;
    make_ready(f);
    for (uint64_t i = 1; i <= CHANNEL_SLOTS + 10; i++)
        assert_int_equal(send_down(f, 1, i), 0);
    uint64_t epoch = f->epoch;
    channel_close(&f->dp);
    open_dp(f);
    channel_discard(&f->dp);
    channel_beat(&f->dp, uv_hrtime(), true);
    RUN_UNTIL(f, f->epoch != epoch && f->ready);
    assert_int_equal(send_down(f, 1, 5000), 0);
    assert_int_equal(hear(f, 1), 5000);
    assert_int_equal(hear(f, 1), 0);
}

static void can_be_freed_by_a_handler(void **state)
{
    struct fixture *f = *state;
    make_ready(f);
    f->free_in_handler = true;
    for (uint64_t i = 1; i <= 10; i++)
        say(f, 1, MSG_SESSION_MEDIA, i);
    RUN_UNTIL(f, f->client == NULL);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_int_equal(f->total, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tells_the_peer_at_once_and_then_its_changes),
        TEST(beats_and_says_whether_it_is_ready),
        TEST(death_is_seen_at_once),
        TEST(bell_brings_messages),
        TEST(everything_arrives_in_order),
        TEST(invalid_messages_are_counted_not_handled),
        TEST(sends_wait_until_ready),
        TEST(full_ring_overflows_in_order_and_within_bounds),
        TEST(restart_forgets_what_waited),
        TEST(can_be_freed_by_a_handler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
