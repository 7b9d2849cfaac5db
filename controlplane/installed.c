// See installed.h.
#include "installed.h"
#include "../dataplane/abi/channel.h"
#include "journal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int find_mark(const char *data, size_t size)
{
    // Written apart, or this program would hold the mark's beginning twice.
    static const char parts[2][sizeof(ABI_MARK_BEGIN)] = {"hitless-", "channel-version:"};
    char wanted[sizeof(ABI_MARK_BEGIN)];
    snprintf(wanted, sizeof(wanted), "%s%s", parts[0], parts[1]);
    const char *mark = memmem(data, size, wanted, strlen(wanted));
    size_t left = mark ? size - (size_t)(mark - data) : 0;
    int version = 0, digits = 0;
    for (size_t i = strlen(wanted); i < left && mark[i] >= '0' && mark[i] <= '9' && digits < 6;
         i++) {
        version = version * 10 + (mark[i] - '0');
        digits++;
    }
    return digits ? version : -EBADMSG;
}

// The layout follows its mark: ABI_LAYOUT_SIZE bytes.
static const char *find_layout(const char *data, size_t size)
{
    const char *mark = memmem(data, size, ABI_LAYOUT_BEGIN, strlen(ABI_LAYOUT_BEGIN));
    size_t used = mark ? (size_t)(mark - data) + strlen(ABI_LAYOUT_BEGIN) : size;
    return size - used >= ABI_LAYOUT_SIZE ? data + used : NULL;
}

// Maps a whole file. 0 or a negative errno.
static int map_program(const char *path, const char **data, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size == 0 ? -EBADMSG : 0;
    void *map = rc ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return rc ? rc : -ENOMEM;
    *data = map;
    *size = (size_t)st.st_size;
    return 0;
}

int installed_version(const char *path)
{
    const char *data = NULL;
    size_t size = 0;
    int rc = map_program(path, &data, &size);
    if (rc || !data)
        return rc;
    rc = find_mark(data, size);
    munmap((void *)data, size);
    return rc;
}

// What the program file at `path` says about what it keeps its sessions in: 0; -EPROTO: not what
// `agrees` wants to see; or another negative errno.
static int ask_program(const char *path, bool (*agrees)(const char *data, size_t size, uint64_t id),
                       uint64_t id)
{
    const char *data = NULL;
    size_t size = 0;
    int rc = map_program(path, &data, &size);
    if (rc || !data)
        return rc;
    bool good = agrees(data, size, id);
    munmap((void *)data, size);
    return good ? 0 : -EPROTO;
}

static bool same_tables(const char *data, size_t size, uint64_t id)
{
    const char *layout = find_layout(data, size);
    return layout && channel_layout_id(layout) == id;
}

static bool same_journal(const char *data, size_t size, uint64_t id)
{
    return memmem(data, size, journal_mark, journal_mark_size) != NULL;
}

static int check_form(const char *process,
                      bool (*agrees)(const char *data, size_t size, uint64_t id), uint64_t id,
                      char *why, size_t why_size)
{
    char path[PATH_MAX + 64];
    int rc = installed_path(process, path, sizeof(path));
    if (rc == 0)
        rc = ask_program(path, agrees, id);
    if (rc == 0)
        return 0;
    snprintf(why, why_size,
             "nothing stopped: %s keeps its sessions in another form than the %s that runs, and "
             "could not go on with them; to change it, stop both, which ends all sessions",
             path, process);
    return -EPROTO;
}

int installed_tables(uint64_t running, char *why, size_t why_size)
{
    return check_form("dataplane", same_tables, running, why, why_size);
}

int installed_journal(char *why, size_t why_size)
{
    return check_form("controlplane", same_journal, 0, why, why_size);
}

int installed_path(const char *process, char *path, size_t size)
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[length > 0 ? length : 0] = 0;
    char *deleted = strstr(self, " (deleted)"); // the running file's name, now another file's
    if (deleted)
        *deleted = 0;
    char *name = strrchr(self, '/');
    if (name)
        *name = 0;
    snprintf(path, size, "%s/../%s/hitless-%s", self, process, process);
    if (access(path, F_OK))
        snprintf(path, size, "%s/hitless-%s", self, process);
    return access(path, F_OK) ? -ENOENT : 0;
}

int installed_check(const char *process, char *why, size_t why_size)
{
    char path[PATH_MAX + 64];
    int version = installed_path(process, path, sizeof(path));
    if (version == 0)
        version = installed_version(path);
    if (version == (int)ABI_VERSION)
        return 0;
    if (version < 0)
        snprintf(why, why_size, "nothing stopped: %s is no hitless-%s that could start (%s)", path,
                 process, version == -EBADMSG ? "no channel version in it" : strerror(-version));
    else
        snprintf(why, why_size,
                 "nothing stopped: %s speaks channel version %d, what runs speaks %u; to change "
                 "both, stop both, which ends all sessions",
                 path, version, ABI_VERSION);
    return -EPROTO;
}
