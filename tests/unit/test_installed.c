// What a program file says of its channel version without being run. A copy of this very test plays
// the running program, in a folder of its own with the others beside it.
#include "../../controlplane/installed.h"
#include "../../controlplane/journal.h"
#include "../../dataplane/abi/channel.h"
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
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

// What the copy answers to `question` about the program `name` beside it, which holds `bytes`.
static void check_form(const char *question, const char *name, const void *bytes, size_t size,
                       bool same)
{
    char line[512] = "", command[512];
    write_file(name, bytes, size);
    snprintf(command, sizeof(command), "%s/copy %s", dir, question);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    line[fread(line, 1, sizeof(line) - 1, pipe)] = 0;
    assert_int_equal(WEXITSTATUS(pclose(pipe)), !same);
    assert_int_equal(strstr(line, "in another form than the") == NULL, same);
}

static void compares_the_tables(void **state)
{
    char question[64];
    static const struct {
        const char *bytes;
        size_t size;
        bool same;
    } rows[] = {
        {ABI_LAYOUT_BEGIN LAYOUT, sizeof(ABI_LAYOUT_BEGIN LAYOUT) - 1, true},
        {"before" ABI_LAYOUT_BEGIN LAYOUT "behind", sizeof(ABI_LAYOUT_BEGIN LAYOUT) + 11, true},
        {ABI_LAYOUT_BEGIN OTHER, sizeof(ABI_LAYOUT_BEGIN OTHER) - 1, false},
        {ABI_LAYOUT_BEGIN LAYOUT, sizeof(ABI_LAYOUT_BEGIN LAYOUT) - 2, false},
        {"none", 4, false}};
    snprintf(question, sizeof(question), "tables %llu",
             (unsigned long long)channel_layout_id(LAYOUT));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_form(question, "hitless-dataplane", rows[i].bytes, rows[i].size, rows[i].same);
    // One that does not say what it has may have anything.
    check_form("tables 0", "hitless-dataplane", rows[0].bytes, rows[0].size, false);
}

static void compares_the_journal(void **state)
{
    uint8_t bytes[256] = "before ";
    size_t end = 7 + journal_mark_size;
    assert_true(end < sizeof(bytes));
    memcpy(bytes + 7, journal_mark, journal_mark_size);
    check_form("journal 0", "hitless-controlplane", bytes, end, true);
    check_form("journal 0", "hitless-controlplane", bytes, sizeof(bytes), true);
    check_form("journal 0", "hitless-controlplane", bytes, end - 1, false);
    for (size_t i = 1; i <= 5; i++) { // version, and what sizes there are
        bytes[end - 4 * i] ^= 1;
        check_form("journal 0", "hitless-controlplane", bytes, end, false);
        bytes[end - 4 * i] ^= 1;
    }
    check_form("journal 0", "hitless-controlplane", "none", 4, false);
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
        int rc = strcmp(argv[1], "journal") == 0
                     ? installed_journal(why, sizeof(why))
                     : installed_tables(strtoull(argv[2], NULL, 10), why, sizeof(why));
        puts(why);
        return rc != 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_mark),
        cmocka_unit_test(refuses_before_anything_stops),
        cmocka_unit_test(compares_the_tables),
        cmocka_unit_test(compares_the_journal),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
