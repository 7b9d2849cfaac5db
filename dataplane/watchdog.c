// hitless-watchdog: ends a process of a node that lives and does nothing any more, so that its
// supervisor starts it anew. For supervisors that see only deaths, as scripts/run; systemd has a
// watchdog of its own. It reads the channel's head and opens nothing else.
#include "abi/channel_layout.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 100
#define STARTING_MS 30000 // for a process that is not ready yet
#define AWAY_MS 500       // between two looks: this process did not run either, so nobody is judged

static const char *const names[] = {
    [CHANNEL_CONTROLPLANE] = "control plane", [CHANNEL_DATAPLANE] = "dataplane"};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

// The head of the file that has the name now; the last one's map is let go of. NULL: none.
static const struct channel_file *look_up(const char *path, const struct channel_file *last)
{
    static ino_t inode;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool there = fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size >= sizeof(*last);
    if (last && (!there || st.st_ino != inode)) {
        munmap((void *)last, sizeof(*last));
        last = NULL;
    }
    if (there && !last) {
        void *map = mmap(NULL, sizeof(*last), PROT_READ, MAP_SHARED, fd, 0);
        last = map == MAP_FAILED ? NULL : map;
        inode = st.st_ino;
    }
    if (fd >= 0)
        close(fd);
    return last;
}

static void judge(const struct channel_file *file, enum channel_end end, uint64_t since_ms,
                  uint64_t limit_ms)
{
    const struct channel_side *side = &file->side[end];
    uint32_t pid = CHANNEL_LOAD(side->side.pid);
    uint64_t beat_ms = CHANNEL_LOAD(side->side.heartbeat_ns) / 1000000, now = now_ms();
    if (beat_ms < since_ms)
        beat_ms = since_ms;
    uint64_t limit = CHANNEL_LOAD(side->side.ready) ? limit_ms : STARTING_MS;
    if (pid == 0 || now < beat_ms || now - beat_ms < limit ||
        channel_process_start(pid) != atomic_load(&side->start_ticks))
        return;
    fprintf(stderr, "watchdog: the %s (pid %u) has not been heard of for %u ms: killing it\n",
            names[end], pid, (unsigned)(now - beat_ms));
    kill((pid_t)pid, SIGKILL);
}

int main(int argc, char *argv[])
{
    char path[512];
    long limit = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    if (argc != 3 || limit < LOOK_MS || limit > STARTING_MS) {
        fprintf(stderr, "usage: hitless-watchdog RUNTIME_DIR LIMIT_MS\n"
                        "Kills a process of the node that has not been heard of for so long.\n");
        return 2;
    }
    const struct channel_file *file = NULL;
    snprintf(path, sizeof(path), "%s/channel", argv[1]);
    for (uint64_t last = now_ms(), since = last;; last = now_ms()) {
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
        if (now_ms() - last >= AWAY_MS)
            since = now_ms();
        file = look_up(path, file);
        if (!file || file->magic != ABI_MAGIC || file->version != ABI_VERSION)
            continue;
        judge(file, CHANNEL_CONTROLPLANE, since, (uint64_t)limit);
        judge(file, CHANNEL_DATAPLANE, since, (uint64_t)limit);
    }
}
