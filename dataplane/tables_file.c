// The memory of a worker's tables: the file that outlives the process, and its adoption.
#include "abi/channel.h"
#include "tables.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// The head of the file; sessions, senders and streams follow, each on a page of its own.
struct table_file {
    uint32_t magic;
    uint32_t version;                    // ABI_VERSION
    uint64_t layout;                     // what else must agree, see layout_of
    uint64_t sessions, senders, streams; // offsets
    uint64_t size;
};

#define PAGE 4096u
#define LAYOUT 4 // one more whenever a field changes what it means, so that no size tells

// What of the file's layout does not depend on the configuration, for who wants to know before this
// program is started (controlplane/installed.c).
__attribute__((used)) static const struct {
    char begin[sizeof(ABI_LAYOUT_BEGIN) - 1];
    char version[ABI_LAYOUT_SIZE - 5 * sizeof(uint32_t)];
    uint32_t parts[5];
} __attribute__((packed)) mark = {ABI_LAYOUT_BEGIN,
                                  HITLESS_VERSION,
                                  {LAYOUT, sizeof(struct session), sizeof(struct sender),
                                   sizeof(struct stream), sizeof(struct protect_tx)}};
_Static_assert(sizeof(mark) == sizeof(mark.begin) + ABI_LAYOUT_SIZE, "as the reader expects");

static uint64_t round_page(uint64_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

uint64_t tables_layout_id(void)
{
    return channel_layout_id((const char *)&mark + sizeof(mark.begin));
}

// Differs whenever the structures or their numbers do.
static uint64_t layout_of(const struct abi_config *config)
{
    const uint64_t parts[] = {config->max_sessions, config->max_streams, config->crypto};
    uint64_t hash = tables_layout_id();
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        hash = (hash ^ parts[i]) * 0x100000001b3ull;
    return hash;
}

static void plan_file(struct table_file *plan, const struct abi_config *config)
{
    *plan = (struct table_file){.magic = ABI_MAGIC, .version = ABI_VERSION};
    plan->layout = layout_of(config);
    plan->sessions = PAGE;
    plan->senders =
        plan->sessions + round_page((uint64_t)config->max_sessions * sizeof(struct session));
    plan->streams =
        plan->senders + round_page((uint64_t)config->max_sessions * sizeof(struct sender));
    plan->size = plan->streams + round_page((uint64_t)config->max_streams * sizeof(struct stream));
}

// Maps DIR/table.WORKER if it is what `plan` says, else makes it anew; private memory without DIR.
static int map_file(struct tables *tables, const struct table_file *plan, const char *dir,
                    uint32_t worker, bool *found)
{
    int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char path[512];
    *found = false;
    if (dir) {
        flags = MAP_SHARED;
        snprintf(path, sizeof(path), "%s/table.%u", dir, worker);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        struct table_file old = {0};
        struct stat st;
        if (fd < 0 || fstat(fd, &st))
            return -errno;
        *found = pread(fd, &old, sizeof(old), 0) == sizeof(old) &&
                 memcmp(&old, plan, sizeof(old)) == 0 && (uint64_t)st.st_size == plan->size;
        if (!*found && (ftruncate(fd, 0) || ftruncate(fd, (off_t)plan->size))) {
            int error = errno;
            close(fd);
            return -error;
        }
    }
    void *map = mmap(NULL, plan->size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED)
        return -errno;
    // Keys stay out of core dumps; untouched slots cost no memory.
    madvise(map, plan->size, MADV_DONTDUMP);
    tables->file = map;
    tables->file_size = plan->size;
    tables->sessions = (struct session *)((uint8_t *)map + plan->sessions);
    tables->senders = (struct sender *)((uint8_t *)map + plan->senders);
    tables->all_streams = (struct stream *)((uint8_t *)map + plan->streams);
    return 0;
}

// Copies what is there; untouched slots are holes, and stay so.
static int copy_data(int from, int to, off_t size)
{
    off_t start = 0, end;
    if (ftruncate(to, size))
        return -errno;
    while (start < size && (start = lseek(from, start, SEEK_DATA)) >= 0) {
        end = lseek(from, start, SEEK_HOLE);
        if (end < 0)
            return -errno;
        while (start < end) {
            uint8_t bytes[65536];
            size_t want =
                (size_t)(end - start) < sizeof(bytes) ? (size_t)(end - start) : sizeof(bytes);
            ssize_t got = pread(from, bytes, want, start);
            if (got <= 0 || pwrite(to, bytes, (size_t)got, start) != got) {
                int error = errno ? errno : EIO;
                explicit_bzero(bytes, sizeof(bytes));
                return -error;
            }
            start += got;
            explicit_bzero(bytes, sizeof(bytes));
        }
    }
    return start >= 0 || errno == ENXIO ? 0 : -errno;
}

int tables_renew(const char *dir, uint32_t worker)
{
    char path[512], next[520];
    struct stat st;
    snprintf(path, sizeof(path), "%s/table.%u", dir, worker);
    snprintf(next, sizeof(next), "%s.new", path);
    if (unlink(next) && errno != ENOENT)
        return -errno;
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int to = open(next, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = from < 0 || to < 0 || fstat(from, &st) ? -errno : copy_data(from, to, st.st_size);
    if (rc == 0 && rename(next, path))
        rc = -errno;
    if (rc && to >= 0)
        unlink(next);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc;
}

static bool adopt_session(struct tables *tables, struct protect *protect, struct session *session)
{
    struct sender *sender = tables_sender(tables, session);
    if (session->state == SESSION_KEYED && session->role == ROLE_PLAY &&
        protect_tx_adopt(protect, &sender->tx))
        return false;
    // Of the two, the state alone says it: its process may have ended between them.
    sender->keyed = session->state == SESSION_KEYED && session->role == ROLE_PLAY;
    struct abi_addr key = {0};
    memcpy(key.ip, session->ice.ufrag, MSG_UFRAG_LEN);
    map_put(&tables->by_ufrag, &key, tables_slot(tables, session));
    for (int i = 0; i < SESSION_PATHS; i++)
        if (session->paths[i].remote.family)
            map_put(&tables->by_remote, &session->paths[i].remote, tables_slot(tables, session));
    for (int i = 0; i < MSG_MAX_TRACKS; i++) {
        sender->sub[i].place = SUB_NONE;
        sender->sub[i].catching_up = false; // its way led through the ring
    }
    session->media_told = session->dead_told = false;
    tables->session_count++;
    tables->session_end = tables_slot(tables, session) + 1;
    return true;
}

static void forget_session(struct tables *tables, struct session *session)
{
    explicit_bzero(tables_sender(tables, session), sizeof(struct sender));
    explicit_bzero(session, sizeof(*session));
}

// Pointers are another process's: what is made of them anew may fail, and is then freed.
static void forget_pointers(struct stream *stream)
{
    stream->twcc = NULL;
    for (int i = 0; i < MSG_MAX_TRACKS; i++) {
        struct track *track = &stream->track[i];
        track->ring = (struct cache){0};
        track->gaps = NULL;
        track->viewers = NULL;
        track->viewer_count = track->viewer_room = 0;
    }
}

static bool adopt_stream(struct tables *tables, struct protect *protect, struct stream *stream)
{
    forget_pointers(stream);
    stream->state = STREAM_IDLE; // the control plane is told anew
    if (stream->keyed_by && protect_rx_adopt(protect, &stream->rx)) {
        explicit_bzero(&stream->rx, sizeof(stream->rx)); // nothing of it is this process's
        return false;
    }
    if (stream->keyed_by && tables_make_twcc(stream))
        return false;
    for (int i = 0; i < stream->tracks; i++) {
        struct track *track = &stream->track[i];
        if (tables_make_track(tables, track))
            return false;
        cache_clear(&track->ring, track->next_index);
        // What the publisher sent while nobody listened is asked for again.
        for (int l = 0; l < track->config.layers; l++)
            if (!replay_empty(&track->layers[l].media.replay))
                gaps_start(&track->gaps[l], replay_top(&track->layers[l].media.replay),
                           track->last_ns);
    }
    return true;
}

// A stream that could not be adopted takes its sessions along: made anew it would number its
// packets anew, and its viewers' numbers go by those.
static void refuse_stream(struct tables *tables, struct stream *stream)
{
    for (uint32_t i = 0; i < tables->max_sessions; i++)
        if (tables->sessions[i].state != SESSION_FREE && tables->sessions[i].stream == stream->id)
            forget_session(tables, &tables->sessions[i]);
    tables_close_stream(tables, stream);
}

// Takes over what an earlier process left: all but the packets themselves.
static void adopt(struct tables *tables, struct protect *protect)
{
    for (uint32_t i = 0; i < tables->max_streams; i++) {
        struct stream *stream = &tables->all_streams[i];
        if (!stream->id)
            continue;
        tables->streams[i] = stream;
        tables->stream_count++;
        tables_name_trunk(tables, stream, stream->trunk_id);
        if (!adopt_stream(tables, protect, stream))
            refuse_stream(tables, stream);
    }
    for (uint32_t i = 0; i < tables->max_sessions; i++) {
        struct session *session = &tables->sessions[i];
        if (session->state == SESSION_FREE)
            continue;
        if (adopt_session(tables, protect, session))
            tables_join(tables, session);
        else
            forget_session(tables, session);
    }
}

int tables_init(struct tables *tables, const struct abi_config *config, const char *dir,
                uint32_t worker, struct protect *protect, struct cache_store *store)
{
    *tables = (struct tables){.protect = protect,
                              .store = store,
                              .max_sessions = config->max_sessions,
                              .max_streams = config->max_streams,
                              .cache_min = 64,
                              .cache_max = config->cache_mbufs,
                              .cache_span_ns = config->cache_ms * UINT64_C(1000000)};
    struct table_file plan;
    bool found;
    plan_file(&plan, config);
    int rc = map_file(tables, &plan, dir, worker, &found);
    if (rc)
        return rc;
    tables->streams = calloc(config->max_streams, sizeof(*tables->streams));
    if (!tables->streams || map_init(&tables->by_ufrag, config->max_sessions, tables_random()) ||
        map_init(&tables->by_remote, config->max_sessions * SESSION_PATHS, tables_random()) ||
        map_init(&tables->by_trunk, config->max_streams, tables_random())) {
        tables_free(tables);
        return -ENOMEM;
    }
    if (found)
        adopt(tables, protect);
    // Last: a file that was not finished is made anew by the next process.
    *tables->file = plan;
    return 0;
}

void tables_free(struct tables *tables)
{
    for (uint32_t i = 0; tables->streams && i < tables->max_streams; i++) {
        struct stream *stream = tables->streams[i];
        for (int t = 0; stream && t < stream->tracks; t++)
            tables_free_track(&stream->track[t]);
        if (stream)
            free(stream->twcc);
    }
    if (tables->file)
        munmap(tables->file, tables->file_size);
    free(tables->streams);
    map_free(&tables->by_ufrag);
    map_free(&tables->by_remote);
    map_free(&tables->by_trunk);
    *tables = (struct tables){0};
}
