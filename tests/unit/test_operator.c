// The operator's protocol: requests as text, then over a real socket on a real loop.
#include "../../controlplane/commands.h"
#include "../../controlplane/operator.h"
#include "fake_sessions.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

struct fixture {
    struct fake_node node;
    struct api *api;
    uv_loop_t loop;
    struct operator_server *server;
    char path[128], why[256];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_int_equal(fake_setup(&f->node), 0);
    assert_int_equal(api_new(&f->api, &f->node.cp, NULL, uv_hrtime()), 0);
    uv_loop_init(&f->loop);
    snprintf(f->path, sizeof(f->path), "%s/operator.sock", f->node.dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    operator_free(f->server);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(lstat(f->path, &st), -1); // the socket's file is gone
    api_free(f->api);
    fake_teardown(&f->node);
    free(f);
    return 0;
}

static int start(struct fixture *f)
{
    return operator_new(&f->server, &f->loop, f->path, "", f->api, f->why, sizeof(f->why));
}

// ---- requests

static const struct {
    const char *request, *key; // of the answer
} requests[] = {
    {"{\"command\":\"status\"}", "node"},
    {"{\"command\":\"show streams\"}", "streams"},
    {"  {\"command\":\"  show   streams \"}\r", "streams"},
    {"{\"command\":\"show sessions\"}", "sessions"},
    {"{\"command\":\"show sessions demo\"}", "sessions"},
    {"{\"command\":\"show workers\"}", "workers"},
    {"{\"command\":\"show stages\"}", "stages"},
    {"{\"command\":\"top\"}", "load"},
    {"{\"command\":\"show ports\"}", "ports"},
    {"{\"command\":\"show drops\"}", "drops"},
    {"{\"command\":\"show peers\"}", "peers"},
    {"{\"command\":\"help\"}", "commands"},
    {"{\"command\":\"kick aaaabbbbcc\"}", "kicked"},
    {"{\"command\":\"kick aaaa\"}", "error"}, // two of them
    {"{\"command\":\"kick aaa\"}", "error"},  // too short
    {"{\"command\":\"kick zzzzzz\"}", "error"},
    {"{\"command\":\"kick\"}", "error"},
    {"{\"command\":\"kick aaaab aaaaz\"}", "error"},
    {"{\"command\":\"status now\"}", "error"},
    {"{\"command\":\"statusquo\"}", "error"},
    {"{\"command\":\"show\"}", "error"},
    {"{\"command\":\"\"}", "error"},
    {"{\"command\":\"   \"}", "error"},
    {"{\"command\":1}", "error"},
    {"{\"command\":\"status\",\"command\":\"status\"}", "error"},
    {"{\"command\":\"status\"} trailing", "error"},
    {"{\"order\":\"status\"}", "error"},
    {"[\"status\"]", "error"},
    {"status", "error"},
    {"", "error"},
    {"{\"command\":\"stat\\u0000us\"}", "error"},
    {"{\"command\":\"\xff\xfe\"}", "error"},
};

static void every_request_has_its_answer(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        const char *request = requests[i].request;
        json_t *answer = command_answer(f->api, request, strlen(request), uv_hrtime());
        if (json_object_get(answer, requests[i].key) == NULL)
            fail_msg("%s has no %s", request, requests[i].key);
        assert_null(json_object_get(answer, "columns"));
        json_decref(answer);
    }
    assert_ptr_equal(fake_closed, fake_session[0].token);
}

static void deep_nesting_and_length_are_refused(void **state)
{
    struct fixture *f = *state;
    char *text = malloc(COMMAND_LINE_MAX + 1);
    memset(text, '[', COMMAND_LINE_MAX + 1);
    for (size_t size = COMMAND_LINE_MAX; size <= COMMAND_LINE_MAX + 1; size++) {
        json_t *answer = command_answer(f->api, text, size, 0);
        assert_non_null(json_object_get(answer, "error"));
        json_decref(answer);
    }
    free(text);
}

// The table feeds hitlessctl: each command shows fields that its answer really has.
static bool fake_handing;
static const char *fake_role = "active";

static json_t *fake_list(struct replicate *r)
{
    return json_pack("[{s:i, s:s, s:s, s:i, s:i, s:i, s:i, s:b, s:b, s:i}, {s:s, s:i}]", "group", 1,
                     "home", "a", "role", fake_role, "term", 2, "sessions", 3, "unconfirmed", 2,
                     "refused", 1, "syncing", 0, "handing", fake_handing, "switch_us", 4, "role",
                     "standby", "sessions", 5);
}

static int fake_order(struct replicate *r, char *why, size_t why_size)
{
    return 0;
}

static void pair_with(struct fixture *f, int (*order)(struct replicate *, char *, size_t))
{
    api_set_pair(f->api, &(struct api_pair){.replicate = (void *)f, // only its presence counts
                                            .peers = fake_list,
                                            .groups = fake_list,
                                            .drain = order,
                                            .failback = order});
}

static int fake_refusal(struct replicate *r, char *why, size_t why_size)
{
    snprintf(why, why_size, "the partner is away");
    return -ENOTCONN;
}

static const char *error_of(struct fixture *f, const char *request)
{
    static char error[256];
    json_t *answer = command_answer(f->api, request, strlen(request), uv_hrtime());
    const char *text = json_string_value(json_object_get(answer, "error"));
    snprintf(error, sizeof(error), "%s", text != NULL ? text : "");
    json_decref(answer);
    return error;
}

static void orders_to_a_pair_may_be_refused(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(error_of(f, "{\"command\":\"drain\"}"), "no partner is configured");
    pair_with(f, fake_refusal);
    assert_string_equal(error_of(f, "{\"command\":\"drain\"}"), "the partner is away");
    assert_string_equal(error_of(f, "{\"command\":\"failback\"}"), "the partner is away");
    pair_with(f, fake_order);
    assert_string_equal(error_of(f, "{\"command\":\"failback\"}"), "");
    assert_string_equal(error_of(f, "{\"command\":\"kill-test node\"}"),
                        "operator.kill_test is not set in the configuration");
    assert_string_equal(error_of(f, "{\"command\":\"kill-test worker\"}"),
                        "operator.kill_test is not set in the configuration");
    assert_int_equal(fake_stall_ms, 0);
    api_set_pair(f->api, &(struct api_pair){.kill_test = true});
    assert_string_equal(error_of(f, "{\"command\":\"kill-test worker\"}"), "");
    assert_in_range(fake_stall_ms, 1, MSG_STALL_MAX_MS);
    assert_string_equal(error_of(f, "{\"command\":\"kill-test nobody\"}"),
                        "one of node, dataplane, controlplane and worker");
    // There is no dataplane's program beside this test.
    assert_non_null(strstr(error_of(f, "{\"command\":\"restart dataplane\"}"), "nothing stopped"));
    assert_string_equal(error_of(f, "{\"command\":\"restart node\"}"),
                        "one of dataplane and controlplane");
    assert_string_equal(error_of(f, "{\"command\":\"restart\"}"),
                        "this command needs an argument; try help");
}

// A drain says how far it is until it is over, and whether it is stuck.
static void a_drain_has_progress(void **state)
{
    static const char drain[] = "{\"command\":\"drain\"}", look[] = "{\"command\":\"show drain\"}";
    struct fixture *f = *state;
    pair_with(f, fake_order);
    fake_handing = true;
    json_t *answer = command_answer(f->api, drain, strlen(drain), uv_hrtime());
    assert_int_equal(json_array_size(json_object_get(answer, "groups")), 2);
    assert_int_equal(json_integer_value(json_object_get(answer, "left")), 3);
    assert_int_equal(json_integer_value(json_object_get(answer, "unprotected")), 1);
    assert_string_equal(json_string_value(json_object_get(answer, "progress")),
                        "3 sessions left; the partner has yet to confirm 2, and refuses 1 of them");
    assert_string_equal(json_string_value(json_object_get(answer, "ask")), "show drain");
    assert_in_range(json_integer_value(json_object_get(answer, "ask_again_ms")), 1, 1000);
    json_decref(answer);
    fake_handing = false; // the connection is gone, or somebody ended the drain
    assert_non_null(strstr(error_of(f, look), "3 sessions are left"));
    fake_role = "standby";
    assert_string_equal(error_of(f, look), "1 sessions have no partner, and end with this node");
    fake_session[1].protection = "standby";
    answer = command_answer(f->api, look, strlen(look), uv_hrtime());
    assert_int_equal(json_integer_value(json_object_get(answer, "left")), 0);
    assert_null(json_object_get(answer, "progress"));
    assert_null(json_object_get(answer, "error"));
    json_decref(answer);
    fake_role = "active";
}

static void columns_exist(void **state)
{
    struct fixture *f = *state;
    fake_handing = true; // a drain's answer is of one that goes on
    pair_with(f, fake_order);
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = &command_table[i];
        char request[128];
        if (strcmp(command->name, "restart") == 0 || strcmp(command->name, "kill-test") == 0)
            continue; // would end this test
        snprintf(request, sizeof(request), "{\"command\":\"%s%s\",\"columns\":true}", command->name,
                 strcmp(command->name, "kick") == 0 ? " aaaabbbb" : "");
        json_t *answer = command_answer(f->api, request, strlen(request), uv_hrtime());
        assert_true(json_array_size(json_object_get(answer, "columns")) > 0);
        const json_t *row = answer;
        const char *key;
        json_t *value;
        json_object_foreach(answer, key, value)
        {
            if (json_is_array(value) && strcmp(key, "columns") != 0) // the fullest row
                row = json_array_get(value, strcmp(key, "sessions") == 0 ? 1 : 0);
        }
        for (const struct command_column *c = command->columns; c->field != NULL; c++) {
            char field[64];
            snprintf(field, sizeof(field), "%s", c->field);
            char *dot = strchr(field, '.');
            const json_t *from = row;
            if (dot != NULL) {
                *dot = 0;
                from = json_object_get(row, field);
            }
            if (json_object_get(from, dot != NULL ? dot + 1 : field) == NULL)
                fail_msg("%s has no field %s", command->name, c->field);
        }
        json_decref(answer);
    }
}

// ---- the socket

static int dial(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, f->path, strlen(f->path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void say(int fd, const char *text, size_t size)
{
    assert_int_equal(send(fd, text, size, MSG_NOSIGNAL), size);
}

// Turns the loop until a whole line or the end has come. NULL at the end.
static const char *hear(struct fixture *f, int fd)
{
    static char line[1 << 20];
    size_t size = 0;
    for (uint64_t until = uv_hrtime() + 5000000000ull; uv_hrtime() < until;) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        ssize_t got = recv(fd, line + size, 1, 0);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            return NULL;
        if (got == 1 && line[size] == '\n') {
            line[size] = 0;
            return line;
        }
        size += got == 1;
    }
    fail_msg("no answer");
    return NULL;
}

#define STATUS "{\"command\":\"status\"}\n"

static void answers_line_by_line(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    assert_int_equal(start(f), 0);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    int fd = dial(f);
    say(fd, STATUS "nonsense\n" STATUS, 2 * strlen(STATUS) + 9); // three at once
    assert_memory_equal(hear(f, fd), "{\"node\":\"a\"", 11);
    assert_memory_equal(hear(f, fd), "{\"error\":", 9);
    assert_memory_equal(hear(f, fd), "{\"node\":\"a\"", 11);
    for (const char *c = STATUS; *c != 0; c++) { // byte by byte
        say(fd, c, 1);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_memory_equal(hear(f, fd), "{\"node\":\"a\"", 11);
    close(fd);
}

static void endless_line_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    char text[COMMAND_LINE_MAX];
    assert_int_equal(start(f), 0);
    int fd = dial(f);
    memset(text, 'x', sizeof(text));
    say(fd, text, sizeof(text));
    assert_null(hear(f, fd));
    close(fd);
}

static void too_many_clients_are_told(void **state)
{
    struct fixture *f = *state;
    int fd[OPERATOR_CLIENTS + 1];
    assert_int_equal(start(f), 0);
    for (int i = 0; i < OPERATOR_CLIENTS; i++) {
        fd[i] = dial(f);
        say(fd[i], STATUS, strlen(STATUS));
        assert_memory_equal(hear(f, fd[i]), "{\"node\"", 7);
    }
    fd[OPERATOR_CLIENTS] = dial(f);
    assert_memory_equal(hear(f, fd[OPERATOR_CLIENTS]), "{\"error\":", 9);
    assert_null(hear(f, fd[OPERATOR_CLIENTS]));
    close(fd[0]);
    close(fd[OPERATOR_CLIENTS]);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    fd[0] = dial(f); // there is room again
    say(fd[0], STATUS, strlen(STATUS));
    assert_memory_equal(hear(f, fd[0]), "{\"node\"", 7);
    for (int i = 0; i < OPERATOR_CLIENTS; i++)
        close(fd[i]);
}

static void client_that_does_not_read_stops_nobody(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start(f), 0);
    int deaf = dial(f), fd = dial(f);
    for (int i = 0; i < 3000; i++)
        if (send(deaf, STATUS, strlen(STATUS), MSG_NOSIGNAL) < 0)
            break; // the socket is full: the server reads no more from it
    for (int i = 0; i < 200; i++)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    say(fd, STATUS, strlen(STATUS));
    assert_memory_equal(hear(f, fd), "{\"node\"", 7);
    close(deaf);
    close(fd);
}

static void old_socket_is_replaced_a_living_one_is_not(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, f->path, strlen(f->path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(start(f), -EADDRINUSE);
    assert_non_null(strstr(f->why, "another control plane"));
    close(fd); // as a crash would
    assert_int_equal(start(f), 0);
    fd = dial(f);
    say(fd, STATUS, strlen(STATUS));
    assert_non_null(hear(f, fd));
    close(fd);
}

static void other_files_are_left_alone(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    int fd = open(f->path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(start(f), -EEXIST);
    assert_int_equal(stat(f->path, &st), 0);
    unlink(f->path);
    assert_int_equal(symlink("/nonexistent", f->path), 0);
    assert_int_equal(start(f), -EEXIST);
    unlink(f->path);
}

// Asks as uid and gid 65534 with `groups`; exits with 0 when answered, 1 when refused in words.
static void ask_as_nobody(const struct fixture *f, const gid_t *groups, size_t count)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[64] = "";
    memcpy(address.sun_path, f->path, strlen(f->path) + 1);
    if (setgroups(count, groups) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
        _exit(2);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        _exit(3);
    send(fd, STATUS, strlen(STATUS), MSG_NOSIGNAL);
    if (recv(fd, answer, 8, 0) != 8)
        _exit(4);
    _exit(memcmp(answer, "{\"error\"", 8) == 0);
}

static int asked_as_nobody(struct fixture *f, const gid_t *groups, size_t count)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        ask_as_nobody(f, groups, count);
    while (waitpid(pid, &status, WNOHANG) == 0)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void members_may_ask_and_others_may_not(void **state)
{
    struct fixture *f = *state;
    const gid_t member[] = {4242, 1}, stranger[] = {4242};
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(f->node.dir, 0755), 0);
    assert_int_equal(
        operator_new(&f->server, &f->loop, f->path, "daemon", f->api, f->why, sizeof(f->why)), 0);
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_gid, 1); // daemon's, on every Debian
    assert_int_equal(asked_as_nobody(f, member, 2), 0);
    assert_int_equal(asked_as_nobody(f, stranger, 1), 3); // the file's mode
    assert_int_equal(chmod(f->path, 0666), 0);
    assert_int_equal(asked_as_nobody(f, stranger, 1), 1); // the kernel's word
    assert_int_equal(asked_as_nobody(f, member, 2), 0);
}

static void unknown_group_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(operator_new(&f->server, &f->loop, f->path, "no-such-group-here", f->api,
                                  f->why, sizeof(f->why)),
                     -ENOENT);
    assert_non_null(strstr(f->why, "no-such-group-here"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_request_has_its_answer),
        TEST(deep_nesting_and_length_are_refused),
        TEST(orders_to_a_pair_may_be_refused),
        TEST(a_drain_has_progress),
        TEST(columns_exist),
        TEST(answers_line_by_line),
        TEST(endless_line_ends_the_connection),
        TEST(too_many_clients_are_told),
        TEST(client_that_does_not_read_stops_nobody),
        TEST(old_socket_is_replaced_a_living_one_is_not),
        TEST(other_files_are_left_alone),
        TEST(members_may_ask_and_others_may_not),
        TEST(unknown_group_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
