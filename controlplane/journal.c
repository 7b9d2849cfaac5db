// The file of sessions and streams; see journal.h.
//
//   journal_file | session_record[workers * max_sessions] | stream_record[max_streams]
#include "journal.h"
#include "dtls.h"
#include "log.h"
#include "streams.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_MAGIC 0x68746a6cu // "htjl"

// What must agree for an old file to be read.
struct journal_head {
    uint32_t magic, version;
    uint32_t session_size, stream_size;
    uint32_t workers, max_sessions, max_streams, pad;
    uint64_t size;
};

static const struct {
    char begin[24];
    uint32_t parts[5];
} mark = {"hitless-journal-layout:",
          {JOURNAL_MAGIC, JOURNAL_VERSION, sizeof(struct journal_head),
           sizeof(struct session_record), sizeof(struct stream_record)}};
const void *const journal_mark = &mark;
const size_t journal_mark_size = sizeof(mark);

struct journal_file {
    struct journal_head head;
    _Alignas(ABI_CACHE_LINE) _Atomic uint32_t announced; // 1 + the number of a record; 0: nothing
    union {
        struct session_record session;
        struct stream_record stream;
    } next; // the announced record
    _Alignas(ABI_CACHE_LINE) struct session_record session[];
};

struct journal {
    struct journal_file *file;
    struct stream_record *stream;
    uint32_t sessions; // records of sessions, which come first in the numbering
};

// A killed process has done everything up to some instruction and nothing after it, so it is enough
// that the compiler keeps the order.
#define IN_ORDER() atomic_signal_fence(memory_order_seq_cst)

static void place(struct journal *journal, uint32_t number, const void *record)
{
    struct journal_file *file = journal->file;
    if (number < journal->sessions)
        memcpy(&file->session[number], record, sizeof(file->session[0]));
    else
        memcpy(&journal->stream[number - journal->sessions], record, sizeof(journal->stream[0]));
}

static void withdraw(struct journal_file *file)
{
    IN_ORDER();
    atomic_store_explicit(&file->announced, 0, memory_order_release);
    IN_ORDER();
    dtls_wipe(&file->next, sizeof(file->next));
}

static void put(struct journal *journal, uint32_t number, const void *record, size_t size)
{
    struct journal_file *file = journal->file;
    memcpy(&file->next, record, size);
    IN_ORDER();
    atomic_store_explicit(&file->announced, 1 + number, memory_order_release);
    IN_ORDER();
    place(journal, number, record);
    withdraw(file);
}

static void finish_put(struct journal *journal)
{
    struct journal_file *file = journal->file;
    uint32_t announced = atomic_load(&file->announced);
    if (announced != 0 && announced - 1 < journal->sessions + file->head.max_streams)
        place(journal, announced - 1, &file->next);
    withdraw(file);
}

const struct session_record *journal_session(const struct journal *journal, uint32_t worker,
                                             uint32_t slot)
{
    const struct journal_head *head = &journal->file->head;
    if (worker >= head->workers || slot >= head->max_sessions)
        return NULL;
    return &journal->file->session[worker * head->max_sessions + slot];
}

const struct stream_record *journal_stream(const struct journal *journal, uint32_t slot)
{
    return slot < journal->file->head.max_streams ? &journal->stream[slot] : NULL;
}

void journal_put_session(struct journal *journal, const struct session_record *record)
{
    const struct session_record *at =
        journal_session(journal, record->worker, MSG_SLOT(record->id));
    if (at != NULL)
        put(journal, (uint32_t)(at - journal->file->session), record, sizeof(*record));
}

void journal_put_stream(struct journal *journal, const struct stream_record *record)
{
    if (journal_stream(journal, MSG_SLOT(record->id)) != NULL)
        put(journal, journal->sessions + MSG_SLOT(record->id), record, sizeof(*record));
}

static bool ends(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

// Numbers and path are what SESSION_ADOPT carries.
static bool path_valid(const struct session_record *r)
{
    struct msg_session_adopt m = {
        .head = {.type = MSG_SESSION_ADOPT, .length = sizeof(m), .id = r->id},
        .numbers = r->numbers,
        .remote = r->remote,
        .local = r->local};
    return msg_check(&m.head) == 0;
}

bool session_record_valid(const struct session_record *r)
{
    if (r->state > JOURNAL_CLOSING || MSG_GENERATION(r->id) == 0)
        return false;
    return r->state != JOURNAL_OPEN ||
           (r->phase <= PHASE_MEDIA && strnlen(r->token, sizeof(r->token)) == SESSION_TOKEN_LEN &&
            ends(r->etag, sizeof(r->etag)) && ends(r->client, sizeof(r->client)) &&
            ends(r->stream, sizeof(r->stream)) && stream_name_valid(r->stream) &&
            r->open.head.type == MSG_SESSION_OPEN && r->open.head.id == r->id &&
            msg_check(&r->open.head) == 0 && path_valid(r) &&
            (r->keys.head.length == 0 ||
             (r->keys.head.type == MSG_SESSION_KEYS && r->keys.head.id == r->id &&
              msg_check(&r->keys.head) == 0)));
}

// The tracks, as the message that carries them to the dataplane.
static bool tracks_valid(const struct stream_record *r)
{
    struct msg_stream_open m = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(m), .id = r->id},
        .source_worker = (uint8_t)r->source_worker,
        .tracks = r->tracks.count,
    };
    memcpy(m.track, r->tracks.track, sizeof(m.track));
    bool valid = r->source_worker < ABI_MAX_WORKERS && msg_check(&m.head) == 0;
    for (unsigned t = 0; t < MSG_MAX_TRACKS; t++)
        valid = valid && ends(r->tracks.fmtp[t].text, SDP_FMTP_MAX);
    return valid;
}

bool stream_record_valid(const struct stream_record *r)
{
    if (r->state > JOURNAL_CLOSING || MSG_GENERATION(r->id) == 0)
        return false;
    return r->state != JOURNAL_OPEN ||
           (r->live <= 1 && r->stalled <= 1 && r->group < MSG_GROUPS && r->remote <= 1 &&
            r->home < ABI_MAX_WORKERS && ends(r->name, sizeof(r->name)) &&
            stream_name_valid(r->name) && tracks_valid(r));
}

// ---- the file

static size_t streams_at(const struct journal_head *head)
{
    size_t end = sizeof(struct journal_file) +
                 (size_t)head->workers * head->max_sessions * sizeof(struct session_record);
    return (end + ABI_CACHE_LINE - 1) / ABI_CACHE_LINE * ABI_CACHE_LINE;
}

static int map_file(struct journal *journal, int fd, const struct journal_head *head)
{
    void *map = mmap(NULL, head->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    madvise(map, head->size, MADV_DONTDUMP);
    madvise(map, head->size, MADV_DONTFORK);
    if (mlock2(map, head->size, MLOCK_ONFAULT) != 0)
        log_warning("cannot lock media keys in memory (RLIMIT_MEMLOCK); they might be swapped");
    journal->file = map;
    journal->stream = (struct stream_record *)((uint8_t *)map + streams_at(head));
    journal->sessions = head->workers * head->max_sessions;
    return 0;
}

// Made under another name and put in place when it is complete.
static int make_file(struct journal *journal, int dir, const struct journal_head *head)
{
    if (unlinkat(dir, JOURNAL_FILE ".new", 0) != 0 && errno != ENOENT)
        return -errno;
    int fd = openat(dir, JOURNAL_FILE ".new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    // Allocated now: a full tmpfs is an error here, and SIGBUS later.
    int rc = -posix_fallocate(fd, 0, (off_t)head->size);
    if (rc == 0)
        rc = map_file(journal, fd, head);
    close(fd);
    if (journal->file != NULL) {
        journal->file->head = *head;
        rc = renameat(dir, JOURNAL_FILE ".new", dir, JOURNAL_FILE) == 0 ? 0 : -errno;
    }
    if (rc != 0)
        unlinkat(dir, JOURNAL_FILE ".new", 0);
    return rc;
}

// -ENOENT: there is none. -EPROTO: it is not one of ours.
static int map_existing(struct journal *journal, int dir, const struct journal_head *head)
{
    struct journal_head old = {0};
    struct stat st;
    int fd = openat(dir, JOURNAL_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int rc = fstat(fd, &st) == 0 ? 0 : -errno;
    if (rc == 0 && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != head->size ||
                    pread(fd, &old, sizeof(old), 0) != (ssize_t)sizeof(old) ||
                    memcmp(&old, head, sizeof(old)) != 0))
        rc = -EPROTO;
    if (rc == 0)
        rc = map_file(journal, fd, head);
    close(fd);
    return rc;
}

static int open_file(struct journal *journal, const char *path, const struct journal_head *head)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    int rc = map_existing(journal, dir, head);
    if (journal->file != NULL)
        finish_put(journal);
    if (rc == -EPROTO)
        log_warning("journal: %s/" JOURNAL_FILE " is of another version or for other limits; "
                    "sessions of an earlier control plane are not known here",
                    path);
    if (rc == -EPROTO || rc == -ENOENT)
        rc = make_file(journal, dir, head);
    close(dir);
    return rc;
}

int journal_open(struct journal **out, const char *dir, uint32_t workers, uint32_t max_sessions,
                 uint32_t max_streams, char *why, size_t why_size)
{
    struct journal_head head = {
        .magic = JOURNAL_MAGIC,
        .version = JOURNAL_VERSION,
        .session_size = sizeof(struct session_record),
        .stream_size = sizeof(struct stream_record),
        .workers = workers,
        .max_sessions = max_sessions,
        .max_streams = max_streams,
    };
    head.size = streams_at(&head) + (size_t)max_streams * sizeof(struct stream_record);
    struct journal *journal = calloc(1, sizeof(*journal));
    int rc = journal == NULL ? -ENOMEM : open_file(journal, dir, &head);
    if (rc != 0) {
        snprintf(why, why_size, "cannot open %s/" JOURNAL_FILE ": %s", dir, strerror(-rc));
        journal_close(journal);
        return rc;
    }
    *out = journal;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (journal != NULL && journal->file != NULL)
        munmap(journal->file, journal->file->head.size);
    free(journal);
}
