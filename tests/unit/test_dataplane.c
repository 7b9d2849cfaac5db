// The dataplane's program as a whole, on a port that leads nowhere: it becomes ready with either
// way of encrypting, ends in order, and says in one line why it does not start.
#include "../../dataplane/abi/channel.h"
#include "../sim/scratch.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define READY_MS 60000 // on a machine that does much else

static char dir[64];
static struct channel control;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void end_in_order(pid_t pid)
{
    int status;
    kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static struct abi_config make_config(uint32_t crypto)
{
    struct abi_config config = {.node = "test",
                                .workers = 2,
                                .max_sessions = 64,
                                .max_streams = 16,
                                .idle = ABI_IDLE_ADAPTIVE,
                                .crypto = crypto,
                                .main_core = -1,
                                .port_kind = ABI_PORT_NULL,
                                .mtu = 1500,
                                .media4 = {.ip = {10, 9, 0, 1}, .port = 7000, .family = 4},
                                .prefix4 = 24,
                                .rx_mbufs = 1023,
                                .tx_mbufs = 1023,
                                .cache_mbufs = 1023,
                                .nack_policy = ABI_NACK_ALWAYS,
                                .cache_ms = 1000,
                                .session_timeout_ms = 30000};
    for (int w = 0; w < ABI_MAX_WORKERS; w++)
        config.cores[w] = -1;
    return config;
}

static pid_t run(const char *program, const char *first, const char *second, const char *log)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (freopen(log, "a", stderr))
            execl(program, program, first, second, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void prepare(const struct abi_config *config)
{
    char why[256] = "";
    bool changed;
    assert_int_equal(scratch_make(dir, sizeof(dir), "dataplane"), 0);
    if (channel_create(&control, dir, config, &changed, why, sizeof(why)))
        fail_msg("%s", why);
}

static pid_t start(const struct abi_config *config, const char *log)
{
    prepare(config);
    return run(DATAPLANE, dir, NULL, log);
}

static void clean_up(void)
{
    char command[128];
    channel_close(&control);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static bool wait_ready(pid_t pid)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    uint64_t epoch, end = now_ns() + READY_MS * UINT64_C(1000000);
    bool ready = false;
    while (!ready && now_ns() < end && waitpid(pid, NULL, WNOHANG) == 0) {
        nanosleep(&pause, NULL);
        ready = channel_peer(&control, now_ns(), &epoch, &ready) == PEER_ALIVE && ready;
    }
    return ready;
}

static void test_starts(void **state)
{
    static const uint32_t ways[] = {ABI_CRYPTO_IPSEC_MB, ABI_CRYPTO_CRYPTODEV};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct abi_config config = make_config(ways[i]);
        pid_t pid = start(&config, "/dev/null");
        if (!wait_ready(pid))
            fail_msg("row %zu: not ready", i);
        end_in_order(pid);
        clean_up();
    }
}

static void tell(uint32_t worker, const void *message)
{
    assert_int_equal(channel_send(&control, worker + 1, message), 0);
}

static void have_hang(uint32_t worker, uint32_t ms)
{
    struct msg_stall stall = {.head = {.type = MSG_STALL, .length = sizeof(stall), .id = 1},
                              .ms = ms};
    tell(worker, &stall);
}

static bool find_line(const char *log, const char *wanted)
{
    char line[256];
    bool found = false;
    FILE *file = fopen(log, "r");
    while (file && !found && fgets(line, sizeof(line), file))
        found = strstr(line, wanted) != NULL;
    if (file)
        fclose(file);
    return found;
}

static void have_closed(uint32_t worker, uint32_t generation)
{
    struct msg_session_close close = {.head = {.type = MSG_SESSION_CLOSE,
                                               .length = sizeof(close),
                                               .id = (uint64_t)generation << 32}};
    tell(worker, &close);
}

// The generation of what the worker says first that it closed; 0: it says nothing, or else.
static uint32_t first_closed(uint32_t worker)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t end = now_ns() + READY_MS * UINT64_C(1000000), invalid = 0;
    const struct msg_head *head = NULL;
    while (!head && now_ns() < end) {
        nanosleep(&pause, NULL);
        head = channel_peek(&control, worker + 1, &invalid);
    }
    if (head)
        channel_release(&control, worker + 1);
    return head && head->type == MSG_SESSION_CLOSED ? MSG_GENERATION(head->id) : 0;
}

// Whether the worker's lane answers.
static bool answers(uint32_t worker)
{
    have_closed(worker, 1);
    return first_closed(worker) == 1;
}

// What a predecessor was told and did not take may be long past: that a group is ours, say.
static void test_what_its_predecessor_was_told(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_IPSEC_MB);
    prepare(&config);
    have_closed(0, 7);
    have_closed(1, 8);
    pid_t pid = run(DATAPLANE, dir, NULL, "/dev/null");
    assert_true(wait_ready(pid));
    assert_true(answers(0));
    assert_true(answers(1));
    end_in_order(pid);
    clean_up();
}

// A worker's thread hangs while another lives: the other goes on with its lane; and with its port,
// as the turns that it counts show.
static void test_a_worker_hangs(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_IPSEC_MB);
    char log[64];
    uint64_t before, epoch;
    bool ready;
    int status;
    config.kill_test = 1;
    snprintf(log, sizeof(log), "/dev/shm/hitless-dataplane-%d.log", (int)getpid());
    pid_t pid = start(&config, log);
    assert_true(wait_ready(pid));
    assert_true(answers(0));
    channel_peer(&control, now_ns(), &before, &ready);
    have_hang(0, MSG_STALL_MAX_MS);
    uint64_t start_ns = now_ns();
    assert_true(answers(0));
    assert_in_range(now_ns() - start_ns, 1, (MSG_STALL_MAX_MS - 1) * UINT64_C(1000000));
    assert_true(answers(1));
    assert_true(find_line(log, "worker thread 0 made no progress"));
    assert_true(find_line(log, "worker 0 goes on under thread 1"));
    channel_peer(&control, now_ns(), &epoch, &ready);
    assert_true(epoch == before + 1);
    kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    unlink(log);
    clean_up();
}

// The only one hangs: the process ends by itself, for its supervisor to start it again.
static void test_the_only_worker_hangs(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_IPSEC_MB);
    char log[64];
    int status;
    config.workers = 1;
    config.kill_test = 1;
    snprintf(log, sizeof(log), "/dev/shm/hitless-dataplane-%d.log", (int)getpid());
    pid_t pid = start(&config, log);
    assert_true(wait_ready(pid));
    have_hang(0, MSG_STALL_MAX_MS);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
    assert_true(find_line(log, "worker thread 0 has stalled and there is no other: ending"));
    unlink(log);
    clean_up();
}

// Waits for a line of the log. False: it did not come.
static bool await_line(const char *log, const char *wanted)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    uint64_t end = now_ns() + READY_MS * UINT64_C(1000000);
    while (!find_line(log, wanted)) {
        if (now_ns() >= end)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

// What the program's file says of the tables that it would make.
static uint64_t tables_of_the_program(void)
{
    static char bytes[64 << 20];
    FILE *file = fopen(DATAPLANE, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    assert_true(size < sizeof(bytes));
    const char *mark = memmem(bytes, size, ABI_LAYOUT_BEGIN, strlen(ABI_LAYOUT_BEGIN));
    assert_non_null(mark);
    return channel_layout_id(mark + strlen(ABI_LAYOUT_BEGIN));
}

// A second one prepares itself while the first serves, and serves when the first is killed.
static void test_a_spare_takes_its_place(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_IPSEC_MB);
    char log[64];
    uint64_t before, epoch;
    bool ready;
    int status;
    snprintf(log, sizeof(log), "/dev/shm/hitless-dataplane-%d.log", (int)getpid());
    pid_t first = start(&config, "/dev/null");
    assert_true(wait_ready(first));
    assert_int_equal(channel_peer_tables(&control), tables_of_the_program());
    pid_t spare = run(DATAPLANE, "--spare", dir, log);
    assert_true(await_line(log, "dataplane: spare, prepared"));
    channel_peer(&control, now_ns(), &before, &ready);
    assert_int_equal(channel_peer_pid(&control), first);
    kill(first, SIGKILL);
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_true(await_line(log, "ready after"));
    assert_true(wait_ready(spare));
    channel_peer(&control, now_ns(), &epoch, &ready);
    assert_true(epoch == before + 1);
    assert_int_equal(channel_peer_pid(&control), spare);
    assert_true(answers(0));
    assert_false(find_line(log, "EAL and packet pools")); // that was done before
    end_in_order(spare);
    unlink(log);
    clean_up();
}

// A spare that is not needed ends in order, too.
static void test_a_spare_ends(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_IPSEC_MB);
    char log[64];
    snprintf(log, sizeof(log), "/dev/shm/hitless-dataplane-%d.log", (int)getpid());
    pid_t first = start(&config, "/dev/null");
    assert_true(wait_ready(first));
    pid_t spare = run(DATAPLANE, "--spare", dir, log);
    assert_true(await_line(log, "dataplane: spare, prepared"));
    end_in_order(spare);
    assert_true(answers(1));
    end_in_order(first);
    unlink(log);
    clean_up();
}

// A process that lives and does nothing is killed by the watchdog; one that works is not.
static void test_the_watchdog_kills_what_hangs(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_IPSEC_MB);
    char log[64];
    int status;
    snprintf(log, sizeof(log), "/dev/shm/hitless-dataplane-%d.log", (int)getpid());
    pid_t pid = start(&config, "/dev/null");
    assert_true(wait_ready(pid));
    pid_t dog = run(WATCHDOG, dir, "2000", log);
    for (int i = 0; i < 30; i++) { // this test is the control plane, which must live as well
        channel_beat(&control, now_ns(), true);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGSTOP);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        channel_beat(&control, now_ns(), true);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(find_line(log, "watchdog: the dataplane (pid"));
    kill(dog, SIGKILL);
    assert_int_equal(waitpid(dog, &status, 0), dog);
    unlink(log);
    clean_up();
}

// Without the configuration's word nobody makes a worker hang.
static void test_no_hanging_in_earnest(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_IPSEC_MB);
    pid_t pid = start(&config, "/dev/null");
    assert_true(wait_ready(pid));
    have_hang(0, MSG_STALL_MAX_MS);
    uint64_t start_ns = now_ns();
    assert_true(answers(0));
    assert_in_range(now_ns() - start_ns, 1, (MSG_STALL_MAX_MS - 1) * UINT64_C(1000000));
    assert_int_equal(channel_worker_stats(&control, 0)->drop[DROP_message_invalid], 1);
    end_in_order(pid);
    clean_up();
}

static void test_refused(void **state)
{
    struct abi_config config = make_config(ABI_CRYPTO_CRYPTODEV);
    char log[64], line[256] = "", more[8];
    int status;
    config.main_core = 1023;
    snprintf(log, sizeof(log), "/dev/shm/hitless-dataplane-%d.log", (int)getpid());
    pid_t pid = start(&config, log);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    FILE *file = fopen(log, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof(line), file));
    assert_non_null(strstr(line, "dataplane: main core 1023"));
    assert_null(fgets(more, sizeof(more), file));
    fclose(file);
    unlink(log);
    clean_up();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts),
        cmocka_unit_test(test_what_its_predecessor_was_told),
        cmocka_unit_test(test_a_worker_hangs),
        cmocka_unit_test(test_the_only_worker_hangs),
        cmocka_unit_test(test_a_spare_takes_its_place),
        cmocka_unit_test(test_a_spare_ends),
        cmocka_unit_test(test_the_watchdog_kills_what_hangs),
        cmocka_unit_test(test_no_hanging_in_earnest),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
