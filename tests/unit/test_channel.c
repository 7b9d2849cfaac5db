// The channel: rings, bells, health and what happens when either side dies or brings another
// version. Ends are forked where a crash matters: a child that calls _exit() leaves the file as a
// crash would.
#include "../../dataplane/abi/channel_layout.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char dir[64];
    struct abi_config config;
    struct channel cp, dp;
    char why[256];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/hitless-channel-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->config = (struct abi_config){.workers = 2, .max_sessions = 3, .max_streams = 2};
    f->cp.fd = f->cp.my_bell = f->cp.peer_bell = -1;
    f->dp = f->cp;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    static const char *const files[] = {"channel", "bell.controlplane", "bell.dataplane"};
    channel_close(&f->cp);
    channel_close(&f->dp);
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", f->dir, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(f->dir), 0); // nothing else is left behind
    free(f);
    return 0;
}

static int create(struct fixture *f, bool *changed)
{
    return channel_create(&f->cp, f->dir, &f->config, changed, f->why, sizeof(f->why));
}

static int open_dp(struct fixture *f)
{
    return channel_open(&f->dp, f->dir, f->why, sizeof(f->why));
}

static void both(struct fixture *f)
{
    bool changed;
    assert_int_equal(create(f, &changed), 0);
    assert_int_equal(open_dp(f), 0);
}

static int say(struct channel *channel, uint32_t lane, uint64_t id)
{
    struct msg_head m = {.type = MSG_SESSION_CLOSE, .length = sizeof(m), .id = id};
    return channel_send(channel, lane, &m);
}

// The id of the next message, taken; 0 when there is none.
static uint64_t hear(struct channel *channel, uint32_t lane)
{
    uint64_t invalid = 0;
    const struct msg_head *m = channel_peek(channel, lane, &invalid);
    if (m == NULL)
        return 0;
    uint64_t id = m->id;
    channel_release(channel, lane);
    return id;
}

static bool rung(const struct channel *channel)
{
    struct pollfd p = {.fd = channel->my_bell, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

// Runs `body` in a child that then dies without closing anything.
static void in_dying_child(struct fixture *f, void (*body)(struct fixture *))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        body(f);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void must(bool ok, int code)
{
    if (!ok)
        _exit(code);
}

static void file_is_private_and_complete(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct stat st;
    bool changed = true;
    f->config.node[0] = 'a';
    assert_int_equal(create(f, &changed), 0);
    assert_false(changed);
    snprintf(path, sizeof(path), "%s/channel", f->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, f->cp.size);
    assert_int_equal(open_dp(f), 0);
    assert_memory_equal(channel_config(&f->dp), &f->config, sizeof(f->config));
    assert_int_equal(f->dp.lanes, 3);
}

static void messages_travel_both_ways_on_their_lanes(void **state)
{
    struct fixture *f = *state;
    both(f);
    for (uint32_t lane = 0; lane < 3; lane++) {
        assert_int_equal(say(&f->cp, lane, 100 + lane), 0);
        assert_int_equal(say(&f->dp, lane, 200 + lane), 0);
    }
    for (uint32_t lane = 0; lane < 3; lane++) {
        assert_int_equal(hear(&f->dp, lane), 100 + lane);
        assert_int_equal(hear(&f->dp, lane), 0);
        assert_int_equal(hear(&f->cp, lane), 200 + lane);
        assert_int_equal(hear(&f->cp, lane), 0);
    }
}

static void whole_message_arrives(void **state)
{
    struct fixture *f = *state;
    uint8_t sent[MSG_MAX];
    uint64_t invalid = 0;
    both(f);
    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i * 7);
    struct msg_head *m = (struct msg_head *)sent;
    m->length = MSG_MAX;
    assert_int_equal(channel_send(&f->cp, 1, sent), 0);
    const struct msg_head *got = channel_peek(&f->dp, 1, &invalid);
    assert_non_null(got);
    assert_ptr_equal(channel_peek(&f->dp, 1, &invalid), got); // peeking again changes nothing
    assert_memory_equal(got, sent, sizeof(sent));
    m->length = MSG_MAX + 1;
    assert_int_equal(channel_send(&f->cp, 1, sent), -EMSGSIZE);
    m->length = sizeof(*m) - 1;
    assert_int_equal(channel_send(&f->cp, 1, sent), -EMSGSIZE);
    assert_int_equal(say(&f->cp, 3, 1), -EINVAL);
    assert_null(channel_peek(&f->dp, 3, &invalid));
    assert_int_equal(invalid, 0);
}

static void full_ring_refuses_and_keeps_order(void **state)
{
    struct fixture *f = *state;
    both(f);
    for (uint64_t i = 1; i <= CHANNEL_SLOTS; i++)
        assert_int_equal(say(&f->cp, 1, i), 0);
    assert_int_equal(say(&f->cp, 1, 9999), -EAGAIN);
    assert_int_equal(say(&f->cp, 2, 7), 0); // other lanes have room
    assert_int_equal(hear(&f->dp, 1), 1);
    assert_int_equal(say(&f->cp, 1, CHANNEL_SLOTS + 1), 0);
    assert_int_equal(say(&f->cp, 1, 9999), -EAGAIN);
    for (uint64_t i = 2; i <= CHANNEL_SLOTS + 1; i++)
        assert_int_equal(hear(&f->dp, 1), i);
    assert_int_equal(hear(&f->dp, 1), 0);
    channel_release(&f->dp, 1); // of nothing: harmless
    assert_int_equal(say(&f->cp, 1, 5), 0);
    assert_int_equal(hear(&f->dp, 1), 5);
}

// Indices near 2^32, as after four billion messages.
static void indices_wrap(void **state)
{
    struct fixture *f = *state;
    both(f);
    struct channel_ring *ring = ring_out(&f->cp, 1);
    atomic_store(&ring->head, UINT32_MAX - 2);
    atomic_store(&ring->tail, UINT32_MAX - 2);
    ring->seen_tail = ring->seen_head = UINT32_MAX - 2;
    for (uint64_t i = 1; i <= CHANNEL_SLOTS; i++)
        assert_int_equal(say(&f->cp, 1, i), 0);
    assert_int_equal(say(&f->cp, 1, 1), -EAGAIN);
    for (uint64_t i = 1; i <= CHANNEL_SLOTS; i++)
        assert_int_equal(hear(&f->dp, 1), i);
    assert_int_equal(hear(&f->dp, 1), 0);
}

static void damaged_length_is_skipped(void **state)
{
    static const uint16_t lengths[] = {0, sizeof(struct msg_head) - 1, MSG_MAX + 1, UINT16_MAX};
    struct fixture *f = *state;
    uint64_t invalid = 0;
    both(f);
    struct channel_ring *ring = ring_out(&f->cp, 1);
    for (uint32_t i = 0; i < 4; i++) {
        say(&f->cp, 1, 1 + i);
        ring->slot[i].head.length = lengths[i];
    }
    say(&f->cp, 1, 42);
    const struct msg_head *m = channel_peek(&f->dp, 1, &invalid);
    assert_int_equal(invalid, 4);
    assert_non_null(m);
    assert_int_equal(m->id, 42);
}

static void damaged_index_is_mended_by_its_owner(void **state)
{
    struct fixture *f = *state;
    uint64_t invalid = 0;
    both(f);
    struct channel_ring *ring = ring_out(&f->cp, 1);
    say(&f->cp, 1, 1);
    atomic_fetch_add(&ring->head, 5 * CHANNEL_SLOTS);
    assert_null(channel_peek(&f->dp, 1, &invalid));
    assert_int_equal(invalid, 1);
    assert_null(channel_peek(&f->dp, 1, &invalid));
    assert_int_equal(invalid, 1);
    assert_int_equal(say(&f->cp, 1, 2), 0);
    assert_int_equal(hear(&f->dp, 1), 2);

    atomic_fetch_add(&ring->tail, 77); // a consumer that ran ahead looks full, never overwritten
    ring->seen_tail = atomic_load(&ring->tail);
    assert_int_equal(say(&f->cp, 1, 3), -EAGAIN);
    assert_null(channel_peek(&f->dp, 1, &invalid));
    assert_int_equal(say(&f->cp, 1, 4), 0);
    assert_int_equal(hear(&f->dp, 1), 4);
}

static void producer_child(struct fixture *f)
{
    must(open_dp(f) == 0, 1);
    for (uint64_t i = 1; i <= 5; i++)
        must(say(&f->dp, 1, i) == 0, 2);
}

static void consumer_child(struct fixture *f)
{
    must(open_dp(f) == 0, 1);
    must(hear(&f->dp, 1) == 1 && hear(&f->dp, 1) == 2, 2);
    uint64_t invalid = 0;
    must(channel_peek(&f->dp, 1, &invalid)->id == 3, 3); // dies before releasing it
}

static void restarted_sides_resume_at_the_indices(void **state)
{
    struct fixture *f = *state;
    bool changed;
    assert_int_equal(create(f, &changed), 0);
    for (uint64_t i = 1; i <= 4; i++)
        say(&f->cp, 1, i);
    in_dying_child(f, consumer_child);
    in_dying_child(f, producer_child);
    channel_close(&f->cp); // the control plane restarts, too
    assert_int_equal(create(f, &changed), 0);
    assert_false(changed);
    assert_int_equal(open_dp(f), 0);
    assert_int_equal(say(&f->dp, 1, 6), 0);
    for (uint64_t i = 1; i <= 6; i++)
        assert_int_equal(hear(&f->cp, 1), i);
    assert_int_equal(hear(&f->dp, 1), 3); // not released, so seen again
    assert_int_equal(hear(&f->dp, 1), 4);
    assert_int_equal(hear(&f->dp, 1), 0);
}

static void predecessors_messages_can_be_discarded(void **state)
{
    struct fixture *f = *state;
    both(f);
    for (uint32_t lane = 0; lane < 3; lane++)
        for (uint64_t i = 0; i < CHANNEL_SLOTS; i++)
            say(&f->cp, lane, 1);
    channel_discard(&f->dp);
    for (uint32_t lane = 0; lane < 3; lane++) {
        assert_int_equal(hear(&f->dp, lane), 0);
        assert_int_equal(say(&f->cp, lane, 2), 0);
        assert_int_equal(hear(&f->dp, lane), 2);
    }
}

static void other_version_is_refused(void **state)
{
    struct fixture *f = *state;
    bool changed;
    assert_int_equal(create(f, &changed), 0);
    f->cp.file->version = ABI_VERSION + 1;
    assert_int_equal(open_dp(f), -EPROTO);
    char expected[64];
    snprintf(expected, sizeof(expected), "version %u, this program speaks %u", ABI_VERSION + 1,
             ABI_VERSION);
    assert_non_null(strstr(f->why, expected));
}

static void other_size_is_refused(void **state)
{
    struct fixture *f = *state;
    bool changed;
    char number[32];
    assert_int_equal(create(f, &changed), 0);
    f->cp.file->size += 64;
    assert_int_equal(open_dp(f), -EPROTO);
    snprintf(number, sizeof(number), "says %zu", f->cp.size + 64);
    assert_non_null(strstr(f->why, number));
    snprintf(number, sizeof(number), "expects %zu", f->cp.size);
    assert_non_null(strstr(f->why, number));
    f->cp.file->size -= 64;
    f->cp.file->config.workers = 1u << 30; // would be an enormous map
    assert_int_equal(open_dp(f), -EPROTO);
    f->cp.file->config.workers = 2;
    assert_int_equal(ftruncate(f->cp.fd, 4096), 0);
    assert_int_equal(open_dp(f), -EPROTO);
    assert_int_equal(ftruncate(f->cp.fd, (off_t)f->cp.size), 0); // closing writes to the map
}

static void missing_file_and_range(void **state)
{
    struct fixture *f = *state;
    bool changed;
    assert_int_equal(open_dp(f), -ENOENT);
    f->config.workers = ABI_MAX_WORKERS + 1;
    assert_int_equal(create(f, &changed), -EINVAL);
    f->config.workers = 0;
    assert_int_equal(create(f, &changed), -EINVAL);
    char dir[64];
    memcpy(dir, f->dir, sizeof(dir));
    snprintf(f->dir, sizeof(f->dir), "/nonexistent");
    f->config.workers = 1;
    assert_int_equal(create(f, &changed), -ENOENT);
    assert_non_null(strstr(f->why, "/nonexistent"));
    memcpy(f->dir, dir, sizeof(dir));
}

static void config_changes_only_without_a_dataplane(void **state)
{
    struct fixture *f = *state;
    bool changed;
    both(f);
    channel_worker_stats(&f->dp, 1)->count[COUNT_rtp_in] = 7;
    channel_close(&f->cp);
    f->config.mtu = 1400;
    assert_int_equal(create(f, &changed), 0);
    assert_true(changed);
    assert_int_equal(channel_config(&f->cp)->mtu, 0); // the dataplane lives by the old one
    channel_close(&f->cp);
    f->config.max_sessions = 5; // another size
    assert_int_equal(create(f, &changed), -EPROTO);
    assert_non_null(strstr(f->why, "stop the dataplane"));
    f->config.max_sessions = 3;
    channel_close(&f->dp);
    assert_int_equal(create(f, &changed), 0);
    assert_true(changed);
    assert_int_equal(channel_config(&f->cp)->mtu, 1400);
    assert_int_equal(channel_worker_stats(&f->cp, 1)->count[COUNT_rtp_in], 7); // kept
    channel_close(&f->cp);
    f->config.max_sessions = 5;
    assert_int_equal(create(f, &changed), 0);
    assert_true(changed);
    assert_int_equal(open_dp(f), 0);
    assert_int_equal(channel_config(&f->dp)->max_sessions, 5);
}

static void foreign_version_is_replaced_only_without_a_dataplane(void **state)
{
    struct fixture *f = *state;
    bool changed;
    both(f);
    f->cp.file->version = ABI_VERSION + 1;
    channel_close(&f->cp);
    assert_int_equal(create(f, &changed), -EPROTO);
    assert_non_null(strstr(f->why, "version"));
    channel_close(&f->dp);
    assert_int_equal(create(f, &changed), 0);
    assert_true(changed);
    assert_int_equal(open_dp(f), 0);
}

static void one_process_per_end(void **state)
{
    struct fixture *f = *state;
    struct channel second;
    bool changed;
    both(f);
    assert_int_equal(channel_create(&second, f->dir, &f->config, &changed, f->why, sizeof(f->why)),
                     -EBUSY);
    assert_int_equal(channel_open(&second, f->dir, f->why, sizeof(f->why)), -EBUSY);
    assert_non_null(strstr(f->why, "another dataplane"));
}

#define MS 1000000ull

static void peer_states(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch, first;
    bool ready, changed;
    assert_int_equal(create(f, &changed), 0);
    assert_int_equal(channel_peer(&f->cp, 0, &epoch, &ready), PEER_ABSENT);
    assert_int_equal(channel_peer_pid(&f->cp), 0);
    assert_int_equal(open_dp(f), 0);
    assert_int_equal(channel_peer_pid(&f->cp), getpid());
    channel_beat(&f->dp, 1000 * MS, false);
    assert_int_equal(channel_peer(&f->cp, 1001 * MS, &first, &ready), PEER_ALIVE);
    assert_false(ready);
    channel_beat(&f->dp, 1020 * MS, true);
    assert_int_equal(channel_peer(&f->cp, 1120 * MS, &epoch, &ready), PEER_ALIVE);
    assert_true(ready);
    assert_int_equal(channel_peer(&f->cp, 1121 * MS, &epoch, &ready), PEER_STALLED);
    channel_beat(&f->dp, 1130 * MS, true);
    assert_int_equal(channel_peer(&f->cp, 1125 * MS, &epoch, &ready), PEER_ALIVE); // beat is newer
    assert_int_equal(epoch, first);
    channel_close(&f->dp);
    assert_int_equal(channel_peer(&f->cp, 1140 * MS, &epoch, &ready), PEER_ABSENT);
    assert_false(ready);
    assert_int_equal(open_dp(f), 0);
    channel_peer(&f->cp, 1140 * MS, &epoch, &ready);
    assert_true(epoch != first);
}

static void beating_child(struct fixture *f)
{
    must(open_dp(f) == 0, 1);
    channel_beat(&f->dp, 1000 * MS, true);
}

static void dead_peer_and_reused_pid(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch;
    bool ready = true, changed;
    assert_int_equal(create(f, &changed), 0);
    in_dying_child(f, beating_child);
    assert_int_equal(channel_peer(&f->cp, 1050 * MS, &epoch, &ready), PEER_DEAD);
    assert_false(ready);
    // A living process with that number that started at another time is not the dataplane.
    struct channel_side *peer = peers(&f->cp);
    peer->side.pid = (uint32_t)getpid();
    assert_int_equal(channel_peer(&f->cp, 1050 * MS, &epoch, &ready), PEER_DEAD);
    atomic_store(&peer->start_ticks, channel_process_start((uint32_t)getpid()));
    assert_int_equal(channel_peer(&f->cp, 1050 * MS, &epoch, &ready), PEER_ALIVE);
}

static void zombie_is_dead(void **state)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(channel_process_start((uint32_t)pid), 0);
    waitpid(pid, NULL, 0);
    assert_true(channel_process_start((uint32_t)getpid()) > 0);
}

static void bell_rings_only_when_armed(void **state)
{
    struct fixture *f = *state;
    both(f);
    say(&f->dp, 2, 1);
    assert_false(rung(&f->cp));
    assert_true(channel_arm(&f->cp)); // something waits: do not sleep
    channel_disarm(&f->cp);
    assert_int_equal(hear(&f->cp, 2), 1);
    assert_false(channel_arm(&f->cp));
    assert_false(rung(&f->cp));
    say(&f->dp, 2, 2);
    assert_true(rung(&f->cp));
    channel_disarm(&f->cp);
    assert_false(rung(&f->cp));
    say(&f->dp, 1, 3); // not armed
    assert_false(rung(&f->cp));
}

static void dataplane_bell_is_the_main_cores(void **state)
{
    struct fixture *f = *state;
    both(f);
    say(&f->cp, 1, 1);
    assert_false(channel_arm(&f->dp));
    say(&f->cp, 1, 2);
    assert_false(rung(&f->dp));
    say(&f->cp, 0, 3);
    assert_true(rung(&f->dp));
    channel_disarm(&f->dp);
    assert_true(channel_arm(&f->dp));
}

static void mode_is_the_control_planes(void **state)
{
    struct fixture *f = *state;
    both(f);
    assert_int_equal(channel_mode(&f->dp), ABI_MODE_NORMAL);
    channel_set_mode(&f->cp, ABI_MODE_DRAIN);
    assert_int_equal(channel_mode(&f->dp), ABI_MODE_DRAIN);
}

static void sections_do_not_overlap(void **state)
{
    struct fixture *f = *state;
    both(f);
    for (uint32_t w = 0; w < 2; w++) {
        memset(channel_worker_stats(&f->dp, w), 0x10 + (int)w, sizeof(struct stats_worker));
        for (uint32_t s = 0; s < 3; s++)
            memset(channel_session_stats(&f->dp, w, s), 0x20 + (int)(w * 3 + s),
                   sizeof(struct stats_session));
    }
    memset(channel_port_stats(&f->dp), 0x40, sizeof(struct stats_port));
    for (uint32_t s = 0; s < 2; s++)
        memset(channel_stream_stats(&f->dp, s), 0x50 + (int)s, sizeof(struct stats_stream));
    assert_int_equal(*(uint8_t *)channel_worker_stats(&f->cp, 1), 0x11);
    assert_int_equal(((uint8_t *)channel_worker_stats(&f->cp, 0))[sizeof(struct stats_worker) - 1],
                     0x10);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(*(uint8_t *)channel_session_stats(&f->cp, i / 3, i % 3), 0x20 + i);
    assert_int_equal(*(uint8_t *)channel_port_stats(&f->cp), 0x40);
    uint8_t *last = (uint8_t *)(channel_stream_stats(&f->cp, 1) + 1) - 1;
    assert_int_equal(*last, 0x51);
    assert_ptr_equal(last + 1, (uint8_t *)f->cp.file + f->cp.size);
    assert_null(channel_worker_stats(&f->cp, 2));
    assert_null(channel_session_stats(&f->cp, 0, 3));
    assert_null(channel_session_stats(&f->cp, 2, 0));
    assert_null(channel_stream_stats(&f->cp, 2));
}

// ---- two threads, with the consumer asleep on its bell whenever it can be

#define STRESS_NS 700000000ull

struct stress {
    struct channel *dp;
    uint32_t lane;
    uint64_t sent;
    _Atomic bool *stop;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *stress_producer(void *opaque)
{
    struct stress *s = opaque;
    uint8_t message[256] = {0};
    struct msg_head *m = (struct msg_head *)message;
    m->length = sizeof(message);
    while (!atomic_load(s->stop)) {
        m->id = s->sent + 1;
        memset(m + 1, (int)m->id, sizeof(message) - sizeof(*m));
        if (channel_send(s->dp, s->lane, message) == 0)
            s->sent++;
        else
            sched_yield();
        if (s->sent % 97 == 0) // lets the consumer fall asleep now and then
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return NULL;
}

static uint64_t drain(struct channel *cp, uint32_t lane, uint64_t *next)
{
    uint64_t invalid = 0, taken = 0;
    const struct msg_head *m;
    while ((m = channel_peek(cp, lane, &invalid)) != NULL) {
        const uint8_t *body = (const uint8_t *)(m + 1);
        assert_int_equal(m->id, *next);
        assert_int_equal(body[0], (uint8_t)m->id);
        assert_int_equal(body[m->length - sizeof(*m) - 1], (uint8_t)m->id);
        channel_release(cp, lane);
        ++*next;
        taken++;
    }
    assert_int_equal(invalid, 0);
    return taken;
}

static void stress_with_sleeping_consumer(void **state)
{
    struct fixture *f = *state;
    _Atomic bool stop = false;
    struct stress s[2];
    pthread_t thread[2];
    uint64_t next[3] = {0, 1, 1}, slept = 0;
    both(f);
    for (uint32_t i = 0; i < 2; i++) {
        s[i] = (struct stress){.dp = &f->dp, .lane = 1 + i, .stop = &stop};
        assert_int_equal(pthread_create(&thread[i], NULL, stress_producer, &s[i]), 0);
    }
    uint64_t end = now_ns() + STRESS_NS;
    while (now_ns() < end) {
        if (drain(&f->cp, 1, &next[1]) + drain(&f->cp, 2, &next[2]) > 0 || channel_arm(&f->cp))
            continue;
        struct pollfd p = {.fd = f->cp.my_bell, .events = POLLIN};
        // Producers never pause for so long: a time-out here is a lost wake-up.
        assert_int_equal(poll(&p, 1, 5000), 1);
        channel_disarm(&f->cp);
        slept++;
    }
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        drain(&f->cp, 1 + i, &next[1 + i]);
        assert_int_equal(next[1 + i], s[i].sent + 1); // nothing lost
        assert_true(s[i].sent > CHANNEL_SLOTS);
    }
    assert_true(slept > 10);
    print_message("%llu messages, %llu sleeps\n", (unsigned long long)s[0].sent + s[1].sent,
                  (unsigned long long)slept);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

// A spare looks at the file without taking part, and waits for the lock; a renewed epoch is as good
// as a restart.
static void a_spare_looks_and_waits(void **state)
{
    struct fixture *f = *state;
    struct abi_config config;
    uint64_t before, after;
    bool ready;
    assert_int_equal(channel_look(f->dir, &config, f->why, sizeof(f->why)), -ENOENT);
    assert_int_equal(channel_await(f->dir), -ENOENT);
    both(f);
    assert_int_equal(channel_look(f->dir, &config, f->why, sizeof(f->why)), 1);
    assert_memory_equal(&config, &f->config, sizeof(config));
    channel_peer(&f->cp, now_ns(), &before, &ready);
    channel_renew(&f->dp);
    channel_peer(&f->cp, now_ns(), &after, &ready);
    assert_true(after == before + 1);
    channel_close(&f->dp);
    assert_int_equal(channel_look(f->dir, &config, f->why, sizeof(f->why)), 0);
    assert_int_equal(channel_await(f->dir), 0);
    assert_int_equal(open_dp(f), 0); // waiting took nothing
    f->cp.file->version = ABI_VERSION + 1;
    assert_int_equal(channel_look(f->dir, &config, f->why, sizeof(f->why)), -EPROTO);
    f->cp.file->version = ABI_VERSION;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(file_is_private_and_complete),
        TEST(messages_travel_both_ways_on_their_lanes),
        TEST(whole_message_arrives),
        TEST(full_ring_refuses_and_keeps_order),
        TEST(indices_wrap),
        TEST(damaged_length_is_skipped),
        TEST(damaged_index_is_mended_by_its_owner),
        TEST(restarted_sides_resume_at_the_indices),
        TEST(a_spare_looks_and_waits),
        TEST(predecessors_messages_can_be_discarded),
        TEST(other_version_is_refused),
        TEST(other_size_is_refused),
        TEST(missing_file_and_range),
        TEST(config_changes_only_without_a_dataplane),
        TEST(foreign_version_is_replaced_only_without_a_dataplane),
        TEST(one_process_per_end),
        TEST(peer_states),
        TEST(dead_peer_and_reused_pid),
        TEST(zombie_is_dead),
        TEST(bell_rings_only_when_armed),
        TEST(dataplane_bell_is_the_main_cores),
        TEST(mode_is_the_control_planes),
        TEST(sections_do_not_overlap),
        TEST(stress_with_sleeping_consumer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
