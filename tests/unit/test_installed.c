// What a program file says of its channel version without being run. A copy of this very test plays
// the running program, in a folder of its own with the others beside it.
#include "../../controlplane/installed.h"
#include "../../dataplane/abi/channel.h"
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LAYOUT "0.1 and so on up to forty-eight bytes..........1"
#define OTHER "0.1 and so on up to forty-eight bytes..........2"
_Static_assert(sizeof(LAYOUT) - 1 == ABI_LAYOUT_SIZE, "a whole layout");

static char dir[] = "/dev/shm/hitless-installed-XXXXXX";

static void write_file(const char *name, const char *bytes, size_t size)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static int version_of(const char *bytes, size_t size)
{
    char path[128];
    write_file("program", bytes, size);
    snprintf(path, sizeof(path), "%s/program", dir);
    return installed_version(path);
}

static void reads_the_mark(void **state)
{
    assert_int_equal(installed_version("/proc/self/exe"), ABI_VERSION);
    assert_int_equal(installed_version("/nowhere/at/all"), -ENOENT);
    assert_int_equal(installed_version(dir), -EBADMSG);
    static const struct {
        const char *bytes;
        int version;
    } rows[] = {
        {ABI_MARK_BEGIN "7", 7},
        {"\x7f"
         "ELF and more " ABI_MARK_BEGIN "12\n3",
         12},
        {ABI_MARK_BEGIN, -EBADMSG},
        {ABI_MARK_BEGIN "x", -EBADMSG},
        {ABI_MARK_BEGIN "99999999999999", 999999},
        {"hitless-channel-version", -EBADMSG},
        {"", -EBADMSG},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (version_of(rows[i].bytes, strlen(rows[i].bytes)) != rows[i].version)
            fail_msg("row %zu: %d", i, version_of(rows[i].bytes, strlen(rows[i].bytes)));
}

// What the copy says about "hitless-dataplane" beside it.
static int check_in_copy(char *line, size_t size)
{
    char command[256];
    snprintf(command, sizeof(command), "%s/copy dataplane", dir);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t got = fread(line, 1, size - 1, pipe);
    line[got] = 0;
    return WEXITSTATUS(pclose(pipe));
}

static void refuses_before_anything_stops(void **state)
{
    char line[512], command[512];
    snprintf(command, sizeof(command), "cp /proc/%d/exe %s/copy", (int)getpid(), dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(check_in_copy(line, sizeof(line)), 1);
    assert_non_null(strstr(line, "hitless-dataplane is no hitless-dataplane that could start"));
    write_file("hitless-dataplane", ABI_MARK, strlen(ABI_MARK));
    assert_int_equal(check_in_copy(line, sizeof(line)), 0);
    static const char other[] = ABI_MARK_BEGIN "77";
    write_file("hitless-dataplane", other, strlen(other));
    assert_int_equal(check_in_copy(line, sizeof(line)), 1);
    assert_non_null(strstr(line, "speaks channel version 77, what runs speaks"));
    write_file("hitless-dataplane", "#!/bin/sh\n", 10);
    assert_int_equal(check_in_copy(line, sizeof(line)), 1);
    assert_non_null(strstr(line, "no channel version in it"));
}

// A program that runs, with a layout behind its end.
static pid_t start_program(void)
{
    char path[128], command[512];
    snprintf(command, sizeof(command), "cp /bin/sleep %s/running && printf %%s '%s' >> %s/running",
             dir, ABI_LAYOUT_BEGIN LAYOUT, dir);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof(path), "%s/running", dir);
    pid_t pid = fork();
    if (pid == 0) {
        execl(path, path, "100", (char *)NULL);
        _exit(1);
    }
    char link[64], exe[128] = "";
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    while (strcmp(exe, path) != 0) {
        ssize_t length = readlink(link, exe, sizeof(exe) - 1);
        assert_true(length > 0);
        exe[length] = 0;
    }
    return pid;
}

static void compares_the_tables(void **state)
{
    char line[512], command[512];
    static const struct {
        const char *bytes;
        size_t size;
        int rc;
    } rows[] = {
        {ABI_LAYOUT_BEGIN LAYOUT, sizeof(ABI_LAYOUT_BEGIN LAYOUT) - 1, 0},
        {"before" ABI_LAYOUT_BEGIN LAYOUT "behind", sizeof(ABI_LAYOUT_BEGIN LAYOUT) + 11, 0},
        {ABI_LAYOUT_BEGIN OTHER, sizeof(ABI_LAYOUT_BEGIN OTHER) - 1, 1},
        {ABI_LAYOUT_BEGIN LAYOUT, sizeof(ABI_LAYOUT_BEGIN LAYOUT) - 2, 1},
        {"none", 4, 1}};
    pid_t running = start_program();
    snprintf(command, sizeof(command), "%s/copy tables %d", dir, (int)running);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        write_file("hitless-dataplane", rows[i].bytes, rows[i].size);
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        line[fread(line, 1, sizeof(line) - 1, pipe)] = 0;
        assert_int_equal(WEXITSTATUS(pclose(pipe)), rows[i].rc);
        assert_int_equal(strstr(line, "another form than the dataplane that runs") != NULL,
                         rows[i].rc);
    }
    assert_int_equal(kill(running, SIGKILL), 0);
    assert_int_equal(waitpid(running, NULL, 0), running);
    assert_int_equal(installed_tables(0, line, sizeof(line)), 0); // nobody runs
}

static int setup(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

int main(int argc, char *argv[])
{
    if (argc == 2) {
        char why[PATH_MAX + 256] = "";
        int rc = installed_check(argv[1], why, sizeof(why));
        puts(why);
        return rc != 0;
    }
    if (argc == 3) {
        char why[PATH_MAX + 256] = "";
        int rc = installed_tables(atoi(argv[2]), why, sizeof(why));
        puts(why);
        return rc != 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_mark),
        cmocka_unit_test(refuses_before_anything_stops),
        cmocka_unit_test(compares_the_tables),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
