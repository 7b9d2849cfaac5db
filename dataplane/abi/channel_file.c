// Making, opening and closing the channel file and its bells. channel.h has the contract,
// channel_layout.h the file. Called once at the start and end of either process, on its main
// thread.
//
// Ownership. Each end holds an open-file-description lock on one byte of the file for as long as it
// lives. The kernel drops it with the process, whatever version that was, so two dataplanes, or a
// new layout under a living one, cannot happen.
#include "channel_layout.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL_MAX_SESSIONS (1u << 20) // per worker
#define CHANNEL_MAX_STREAMS (1u << 20)
#define LOCK_TRIES 100 // of 2 ms: an ending predecessor, or a control plane writing its config

static const char *const bell_name[] = {
    [CHANNEL_CONTROLPLANE] = "bell.controlplane",
    [CHANNEL_DATAPLANE] = "bell.dataplane",
};

#define FAIL(err, ...)                                                                             \
    ({                                                                                             \
        int fail_ = (err); /* before snprintf touches errno */                                     \
        snprintf(why, why_size, __VA_ARGS__);                                                      \
        fail_;                                                                                     \
    })

// Returns the file's size, 0 when the configuration is out of range.
static size_t layout_of(const struct abi_config *config, struct channel_offsets *at)
{
    if (config->workers < 1 || config->workers > ABI_MAX_WORKERS || config->max_sessions < 1 ||
        config->max_sessions > CHANNEL_MAX_SESSIONS || config->max_streams < 1 ||
        config->max_streams > CHANNEL_MAX_STREAMS)
        return 0;
    size_t workers = config->workers;
    at->workers = sizeof(struct channel_file) + 2 * (1 + workers) * sizeof(struct channel_ring);
    at->port = at->workers + workers * sizeof(struct stats_worker);
    at->sessions = at->port + sizeof(struct stats_port);
    at->streams = at->sessions + workers * config->max_sessions * sizeof(struct stats_session);
    return at->streams + config->max_streams * sizeof(struct stats_stream);
}

static bool same_layout(const struct abi_config *a, const struct abi_config *b)
{
    return a->workers == b->workers && a->max_sessions == b->max_sessions &&
           a->max_streams == b->max_streams;
}

static uint64_t monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int lock_end(int fd, enum channel_end end, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = end, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

static int lock_end_patiently(int fd, enum channel_end end)
{
    int err = -EAGAIN;
    for (int i = 0; i < LOCK_TRIES && (err == -EAGAIN || err == -EACCES); i++) {
        if (i > 0)
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        err = lock_end(fd, end, F_WRLCK);
    }
    return err == -EAGAIN || err == -EACCES ? -EBUSY : err;
}

static int map_file(struct channel *channel, size_t size)
{
    // Populated now: a worker must not fault pages in.
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, channel->fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    madvise(map, size, MADV_DONTDUMP); // keys pass through here
    channel->file = map;
    channel->size = size;
    return 0;
}

static void release_all(struct channel *channel)
{
    if (channel->file != NULL)
        munmap(channel->file, channel->size);
    int *fds[] = {&channel->fd, &channel->my_bell, &channel->peer_bell};
    for (size_t i = 0; i < 3; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    channel->file = NULL;
    channel->size = 0;
    channel->lanes = 0;
}

// Both ends make both FIFOs, so either may start first. Opened for reading and writing: opening
// never waits, and a FIFO that always has a writer never reads as ended.
static int open_bell(int dir, const char *name, int *bell, char *why, size_t why_size)
{
    if (mkfifoat(dir, name, 0600) != 0 && errno != EEXIST)
        return FAIL(-errno, "cannot make the bell %s: %s", name, strerror(errno));
    *bell = openat(dir, name, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (*bell < 0 || fstat(*bell, &st) != 0)
        return FAIL(-errno, "cannot open the bell %s: %s", name, strerror(errno));
    if (!S_ISFIFO(st.st_mode))
        return FAIL(-EPROTO, "the bell %s is not a FIFO; remove it", name);
    return 0;
}

static int open_bells(struct channel *channel, int dir, char *why, size_t why_size)
{
    int err = open_bell(dir, bell_name[channel->end], &channel->my_bell, why, why_size);
    if (err == 0)
        err = open_bell(dir, bell_name[!channel->end], &channel->peer_bell, why, why_size);
    return err;
}

// Our own indices survive a crash and we resume at them. Only an impossible distance is mended, by
// the one index that is ours: what the ring held is lost then.
static void resume_rings(struct channel *channel)
{
    for (uint32_t lane = 0; lane < channel->lanes; lane++) {
        struct channel_ring *out = ring_out(channel, lane), *in = ring_in(channel, lane);
        uint32_t tail = atomic_load(&out->tail);
        if (atomic_load(&out->head) - tail > CHANNEL_SLOTS)
            atomic_store(&out->head, tail);
        out->seen_tail = tail;
        uint32_t head = atomic_load(&in->head);
        if (head - atomic_load(&in->tail) > CHANNEL_SLOTS)
            atomic_store(&in->tail, head);
        in->seen_head = head;
    }
}

static void enter(struct channel *channel)
{
    assert(channel->file != NULL);
    struct channel_side *me = mine(channel);
    channel->lanes = channel->file->config.workers + 1;
    resume_rings(channel);
    CHANNEL_STORE(me->side.pid, 0);
    CHANNEL_STORE(me->side.ready, 0);
    CHANNEL_STORE(me->side.version, ABI_VERSION);
    CHANNEL_STORE(me->side.epoch, me->side.epoch + 1);
    CHANNEL_STORE(me->side.heartbeat_ns, monotonic_ns());
    atomic_store(&me->start_ticks, channel_process_start((uint32_t)getpid()));
    atomic_store(&me->armed, 0);
    CHANNEL_STORE(me->side.pid, (uint32_t)getpid());
}

// Makes the file under another name, complete and locked, and puts it in place in one step.
static int make_file(struct channel *channel, int dir, const struct abi_config *config, char *why,
                     size_t why_size)
{
    size_t size = layout_of(config, &channel->at);
    if (unlinkat(dir, "channel.new", 0) != 0 && errno != ENOENT)
        return FAIL(-errno, "cannot remove channel.new: %s", strerror(errno));
    channel->fd = openat(dir, "channel.new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (channel->fd < 0)
        return FAIL(-errno, "cannot make channel.new: %s", strerror(errno));
    // Allocated now: a full tmpfs is an error here, and SIGBUS later.
    int err = -posix_fallocate(channel->fd, 0, (off_t)size);
    if (err == 0)
        err = lock_end(channel->fd, CHANNEL_CONTROLPLANE, F_WRLCK);
    if (err == 0)
        err = map_file(channel, size);
    if (err != 0) {
        unlinkat(dir, "channel.new", 0);
        return FAIL(err, "cannot make a channel file of %zu bytes: %s", size, strerror(-err));
    }
    channel->file->version = ABI_VERSION;
    channel->file->size = size;
    channel->file->config = *config;
    CHANNEL_STORE(channel->file->magic, ABI_MAGIC);
    if (renameat(dir, "channel.new", dir, "channel") != 0)
        return FAIL(-errno, "cannot put the channel file in place: %s", strerror(errno));
    return 0;
}

// Maps an existing file if it is of our version and its size agrees with its configuration.
// -EPROTO when not, with both sides of the disagreement in `why`.
static int map_existing(struct channel *channel, char *why, size_t why_size)
{
    struct channel_file head = {0};
    struct stat st;
    if (fstat(channel->fd, &st) != 0)
        return FAIL(-errno, "cannot look at the channel file: %s", strerror(errno));
    ssize_t got = pread(channel->fd, &head, sizeof(head), 0);
    if (got < 16 || head.magic != ABI_MAGIC)
        return FAIL(-EPROTO, "the file is not a channel (%lld bytes)", (long long)st.st_size);
    if (head.version != ABI_VERSION)
        return FAIL(-EPROTO, "the channel file has version %u, this program speaks %u",
                    head.version, ABI_VERSION);
    size_t size = got == sizeof(head) ? layout_of(&head.config, &channel->at) : 0;
    if (size == 0)
        return FAIL(-EPROTO, "the channel file's configuration is out of range");
    if (head.size != size || (uint64_t)st.st_size != size)
        return FAIL(-EPROTO,
                    "the channel file has %lld bytes and says %llu, this program expects %zu",
                    (long long)st.st_size, (unsigned long long)head.size, size);
    int err = map_file(channel, size);
    return err == 0 ? 0 : FAIL(err, "cannot map the channel file: %s", strerror(-err));
}

// Takes the existing file over when it fits `config`; otherwise makes a new one, unless a dataplane
// holds the old. Here channel->fd is the old file, locked by us.
static int keep_or_replace(struct channel *channel, int dir, const struct abi_config *config,
                           bool *config_changed, char *why, size_t why_size)
{
    int err = map_existing(channel, why, why_size);
    if (err != 0 && err != -EPROTO)
        return err;
    bool fits = err == 0 && same_layout(&channel->file->config, config);
    bool same = fits && memcmp(&channel->file->config, config, sizeof(*config)) == 0;
    *config_changed = !same;
    if (same)
        return 0;
    if (lock_end(channel->fd, CHANNEL_DATAPLANE, F_WRLCK) != 0) {
        if (fits)
            return 0; // a dataplane lives by the old configuration
        if (err == 0)
            snprintf(why, why_size,
                     "the channel file is for %u workers, %u sessions and %u streams, not %u, %u "
                     "and %u; stop the dataplane first",
                     channel->file->config.workers, channel->file->config.max_sessions,
                     channel->file->config.max_streams, config->workers, config->max_sessions,
                     config->max_streams);
        return -EPROTO;
    }
    if (fits) {
        channel->file->config = *config;
        lock_end(channel->fd, CHANNEL_DATAPLANE, F_UNLCK);
        return 0;
    }
    // The old file stays locked until the new one is in place: a dataplane that has just opened it
    // waits for the lock and then finds that the name has moved on.
    struct channel old = *channel;
    *channel = (struct channel){
        .end = old.end, .fd = -1, .my_bell = old.my_bell, .peer_bell = old.peer_bell};
    err = make_file(channel, dir, config, why, why_size);
    old.my_bell = old.peer_bell = -1;
    release_all(&old);
    return err;
}

static int create_in(struct channel *channel, int dir, const struct abi_config *config,
                     bool *config_changed, char *why, size_t why_size)
{
    int err = open_bells(channel, dir, why, why_size);
    if (err != 0)
        return err;
    channel->fd = openat(dir, "channel", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (channel->fd < 0 && errno == ENOENT)
        return make_file(channel, dir, config, why, why_size);
    if (channel->fd < 0)
        return FAIL(-errno, "cannot open the channel file: %s", strerror(errno));
    err = lock_end_patiently(channel->fd, CHANNEL_CONTROLPLANE);
    if (err != 0)
        return FAIL(err, "another control plane has the channel file: %s", strerror(-err));
    return keep_or_replace(channel, dir, config, config_changed, why, why_size);
}

static int open_dir(const char *path, char *why, size_t why_size)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir >= 0 ? dir : FAIL(-errno, "cannot open %s: %s", path, strerror(errno));
}

// The end of either way in: the channel is whole, or nothing is held.
static int finish(struct channel *channel, int dir, int err)
{
    close(dir);
    if (err != 0)
        release_all(channel);
    else
        enter(channel);
    return err;
}

int channel_create(struct channel *channel, const char *dir, const struct abi_config *config,
                   bool *config_changed, char *why, size_t why_size)
{
    struct channel_offsets at;
    *channel =
        (struct channel){.end = CHANNEL_CONTROLPLANE, .fd = -1, .my_bell = -1, .peer_bell = -1};
    *config_changed = false;
    if (layout_of(config, &at) == 0)
        return FAIL(-EINVAL, "workers, max_sessions or max_streams is out of range");
    int dir_fd = open_dir(dir, why, why_size);
    if (dir_fd < 0)
        return dir_fd;
    int err = create_in(channel, dir_fd, config, config_changed, why, why_size);
    return finish(channel, dir_fd, err);
}

// -ESTALE: the name now stands for another file.
static int open_in(struct channel *channel, int dir, char *why, size_t why_size)
{
    struct stat ours, named;
    channel->fd = openat(dir, "channel", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (channel->fd < 0)
        return FAIL(-errno, "cannot open the channel file: %s", strerror(errno));
    int err = lock_end_patiently(channel->fd, CHANNEL_DATAPLANE);
    if (fstat(channel->fd, &ours) != 0 || fstatat(dir, "channel", &named, 0) != 0)
        return FAIL(-errno, "cannot look at the channel file: %s", strerror(errno));
    if (ours.st_ino != named.st_ino || ours.st_dev != named.st_dev)
        return FAIL(-ESTALE, "the channel file was replaced while it was being opened");
    if (err != 0)
        return FAIL(err, "another dataplane has the channel file: %s", strerror(-err));
    err = map_existing(channel, why, why_size);
    return err != 0 ? err : open_bells(channel, dir, why, why_size);
}

int channel_open(struct channel *channel, const char *dir, char *why, size_t why_size)
{
    *channel = (struct channel){.end = CHANNEL_DATAPLANE, .fd = -1, .my_bell = -1, .peer_bell = -1};
    int dir_fd = open_dir(dir, why, why_size);
    if (dir_fd < 0)
        return dir_fd;
    int err = -ESTALE;
    for (int i = 0; i < 3 && err == -ESTALE; i++) {
        release_all(channel);
        err = open_in(channel, dir_fd, why, why_size);
    }
    return finish(channel, dir_fd, err);
}

int channel_look(const char *dir, struct abi_config *config, char *why, size_t why_size)
{
    char path[512];
    struct channel channel = {.fd = -1, .my_bell = -1, .peer_bell = -1};
    struct flock lock = {.l_type = F_WRLCK, .l_start = CHANNEL_DATAPLANE, .l_len = 1};
    snprintf(path, sizeof(path), "%s/channel", dir);
    channel.fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (channel.fd < 0)
        return FAIL(-errno, "cannot open the channel file: %s", strerror(errno));
    int rc = map_existing(&channel, why, why_size);
    if (rc == 0 && channel.file)
        *config = channel.file->config;
    if (rc == 0 && fcntl(channel.fd, F_OFD_GETLK, &lock))
        rc = FAIL(-errno, "cannot look at the channel file's locks: %s", strerror(errno));
    release_all(&channel);
    return rc ? rc : lock.l_type != F_UNLCK;
}

// The lock goes as soon as a killed process closes its files; its sockets may take longer.
static void await_end(uint32_t pid, uint64_t start)
{
    for (int i = 0; i < LOCK_TRIES * 5 && pid && channel_process_start(pid) == start; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

int channel_await(const char *dir)
{
    char path[512];
    struct channel_file head;
    struct flock lock = {.l_type = F_WRLCK, .l_start = CHANNEL_DATAPLANE, .l_len = 1};
    snprintf(path, sizeof(path), "%s/channel", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int rc = fcntl(fd, F_OFD_SETLKW, &lock) ? -errno : 0;
    // Who had it last.
    const struct channel_side *last = &head.side[CHANNEL_DATAPLANE];
    if (rc == 0 && pread(fd, &head, sizeof(head), 0) == sizeof(head) && last->side.pid)
        await_end(last->side.pid, last->start_ticks);
    close(fd);
    return rc;
}

void channel_close(struct channel *channel)
{
    if (channel->file != NULL) {
        CHANNEL_STORE(mine(channel)->side.ready, 0);
        CHANNEL_STORE(mine(channel)->side.pid, 0);
    }
    release_all(channel);
}
