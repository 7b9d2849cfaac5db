// What a program file says of its channel version without being run. A copy of this very test plays
// the running program, in a folder of its own with the others beside it.
#include "../../controlplane/installed.h"
#include "../../dataplane/abi/channel.h"
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_mark),
        cmocka_unit_test(refuses_before_anything_stops),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
