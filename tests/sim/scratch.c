#include "scratch.h"
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOT "/dev/shm"
#define PREFIX "hitless-"

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    return remove(path);
}

int scratch_remove(const char *dir)
{
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : -errno;
}

static void sweep(const char *kind)
{
    char wanted[128];
    int length = snprintf(wanted, sizeof(wanted), PREFIX "%s-", kind);
    DIR *root = opendir(ROOT);
    struct dirent *entry;
    while (root && (entry = readdir(root))) {
        char path[sizeof(ROOT) + sizeof(entry->d_name)], *end;
        if (strncmp(entry->d_name, wanted, (size_t)length) != 0)
            continue;
        long pid = strtol(entry->d_name + length, &end, 10);
        if (*end != '-' || pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
            continue;
        snprintf(path, sizeof(path), ROOT "/%s", entry->d_name);
        scratch_remove(path); // another one may have been faster
    }
    if (root)
        closedir(root);
}

int scratch_make(char *dir, size_t size, const char *kind)
{
    sweep(kind);
    int length = snprintf(dir, size, ROOT "/" PREFIX "%s-%d-XXXXXX", kind, (int)getpid());
    if (length < 0 || (size_t)length >= size)
        return -ENAMETOOLONG;
    return mkdtemp(dir) ? 0 : -errno;
}
