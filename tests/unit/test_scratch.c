// Folders of tests: what a killed process left is gone when the next one makes its own.
#include "../sim/scratch.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static bool exists(const char *path)
{
    struct stat stat;
    return lstat(path, &stat) == 0;
}

// A folder with a file and a folder in it.
static int make(char *dir, size_t size)
{
    char path[128];
    int rc = scratch_make(dir, size, "scratch");
    snprintf(path, sizeof(path), "%s/inner", dir);
    if (rc || mkdir(path, 0700))
        return rc ? rc : -errno;
    snprintf(path, sizeof(path), "%s/inner/file", dir);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : close(fd);
}

static void test_what_the_dead_left(void **state)
{
    char left[64], mine[64], other[64];
    int way[2], status;
    assert_int_equal(pipe2(way, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool told = make(left, sizeof(left)) == 0 && write(way[1], left, sizeof(left)) > 0;
        pause();
        _exit(told ? 0 : 1);
    }
    assert_int_equal(read(way[0], left, sizeof(left)), sizeof(left));
    assert_int_equal(make(mine, sizeof(mine)), 0);
    assert_true(exists(left)); // its process lives
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(make(other, sizeof(other)), 0);
    assert_false(exists(left));
    assert_true(exists(mine));
    assert_int_equal(scratch_remove(mine), 0);
    assert_int_equal(scratch_remove(other), 0);
    assert_false(exists(mine) || exists(other));
    assert_int_equal(scratch_remove(mine), -ENOENT);
    close(way[0]);
    close(way[1]);
}

static void test_no_room_for_the_name(void **state)
{
    char dir[20];
    assert_int_equal(scratch_make(dir, sizeof(dir), "scratch"), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_the_dead_left),
                                       cmocka_unit_test(test_no_room_for_the_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
