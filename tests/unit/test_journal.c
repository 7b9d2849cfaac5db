// The journal's file: what is read back, what is refused, and what a process leaves that is killed
// in the middle of a write. For the last a child is stepped through the write by single
// instructions, and at each of them the file is taken as a crash would leave it.
#include "../../controlplane/journal.h"
#include "../../controlplane/log.h"
#include "../sim/scratch.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WORKERS 2
#define SESSIONS 2
#define STREAMS 2

struct fixture {
    char dir[64], copy[64], path[96], copy_path[96];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_int_equal(scratch_make(f->dir, sizeof(f->dir), "journal"), 0);
    assert_int_equal(scratch_make(f->copy, sizeof(f->copy), "journal"), 0);
    snprintf(f->path, sizeof(f->path), "%s/" JOURNAL_FILE, f->dir);
    snprintf(f->copy_path, sizeof(f->copy_path), "%s/" JOURNAL_FILE, f->copy);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    unlink(f->path);
    unlink(f->copy_path);
    assert_int_equal(rmdir(f->dir), 0); // nothing else was left
    assert_int_equal(rmdir(f->copy), 0);
    free(f);
    return 0;
}

static int try_open(struct journal **out, const char *dir)
{
    char why[256] = "";
    int rc = journal_open(out, dir, WORKERS, SESSIONS, STREAMS, why, sizeof(why));
    assert_true((rc != 0) == (why[0] != 0));
    return rc;
}

static struct journal *opened(const char *dir)
{
    struct journal *j = NULL;
    assert_int_equal(try_open(&j, dir), 0);
    return j;
}

static struct msg_track track(enum media_kind kind, enum codec codec, uint8_t pt)
{
    struct msg_track t = {.kind = (uint8_t)kind,
                          .codec = (uint8_t)codec,
                          .pt = pt,
                          .rtx_pt = MSG_NO_PT,
                          .clock_rate = kind == KIND_AUDIO ? 48000 : 90000,
                          .layers = 1};
    t.layer[0].ssrc = 1000u + pt;
    return t;
}

// Different in every part from one with another `salt`.
static struct session_record session(uint32_t worker, uint32_t slot, uint8_t salt)
{
    struct session_record r = {
        .id = (uint64_t)(10 + salt) << 32 | slot,
        .created_ms = 1000u + salt,
        .worker = worker,
        .state = JOURNAL_OPEN,
        .phase = PHASE_MEDIA,
    };
    memset(r.token, 'a' + salt, SESSION_TOKEN_LEN);
    snprintf(r.etag, sizeof(r.etag), "\"etag%u\"", salt);
    snprintf(r.client, sizeof(r.client), "192.0.2.%u", salt);
    snprintf(r.stream, sizeof(r.stream), "stream-%u", salt);
    r.open = (struct msg_session_open){
        .head = {.type = MSG_SESSION_OPEN, .length = sizeof(r.open), .id = r.id},
        .stream = 7ull << 32 | 1,
        .role = ROLE_PLAY,
        .tracks = 2,
        .ice = {.remote_ufrag_len = 4, .remote_pwd_len = 22}};
    memset(r.open.ice.ufrag, 'A' + salt, MSG_UFRAG_LEN);
    memset(r.open.ice.pwd, 'B' + salt, MSG_PWD_LEN);
    memset(r.open.ice.remote_ufrag, 'c', 4);
    memset(r.open.ice.remote_pwd, 'd' + salt, 22);
    r.open.track[0] = track(KIND_AUDIO, CODEC_OPUS, 111);
    r.open.track[1] = track(KIND_VIDEO, CODEC_VP8, (uint8_t)(96 + salt));
    r.keys = (struct msg_session_keys){
        .head = {.type = MSG_SESSION_KEYS, .length = sizeof(r.keys), .id = r.id},
        .profile = PROFILE_AEAD_AES_128_GCM};
    memset(r.keys.local, 0x10 + salt, 28);
    memset(r.keys.remote, 0x20 + salt, 28);
    assert_true(session_record_valid(&r));
    return r;
}

static struct stream_record stream(uint32_t slot, uint8_t salt)
{
    struct stream_record r = {.id = (uint64_t)(20 + salt) << 32 | slot,
                              .since_ms = 2000u + salt,
                              .source_worker = salt & 1,
                              .told = 1u + salt,
                              .state = JOURNAL_OPEN,
                              .live = 1};
    snprintf(r.name, sizeof(r.name), "stream-%u", salt);
    r.tracks.count = 1;
    r.tracks.track[0] = track(KIND_VIDEO, CODEC_H264, (uint8_t)(100 + salt));
    memset(r.tracks.fmtp[0].text, 'f' + salt, SDP_FMTP_MAX - 1);
    assert_true(stream_record_valid(&r));
    return r;
}

// Byte by byte, padding too: that is how records are copied.
static bool same(const void *a, const void *b, size_t size)
{
    return memcmp(a, b, size) == 0;
}

static void assert_session(const struct journal *j, const struct session_record *want)
{
    assert_memory_equal(journal_session(j, want->worker, MSG_SLOT(want->id)), want, sizeof(*want));
}
static void assert_stream(const struct journal *j, const struct stream_record *want)
{
    assert_memory_equal(journal_stream(j, MSG_SLOT(want->id)), want, sizeof(*want));
}

static void round_trip(void **state)
{
    struct fixture *f = *state;
    struct journal *j = opened(f->dir);
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true((uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size); // no page is missing later
    struct session_record a = session(0, 1, 1), b = session(1, 0, 2), zero = {0};
    struct stream_record s = stream(1, 3), no_stream = {0};
    assert_memory_equal(journal_session(j, 0, 1), &zero, sizeof(zero));
    journal_put_session(j, &a);
    journal_put_session(j, &b);
    journal_put_stream(j, &s);
    journal_close(j);

    j = opened(f->dir);
    assert_session(j, &a);
    assert_session(j, &b);
    assert_stream(j, &s);
    assert_memory_equal(journal_session(j, 0, 0), &zero, sizeof(zero));
    assert_memory_equal(journal_session(j, 1, 1), &zero, sizeof(zero));
    assert_memory_equal(journal_stream(j, 0), &no_stream, sizeof(no_stream));

    // What is freed takes its secrets along.
    const struct session_record gone = {.id = a.id, .worker = 0};
    journal_put_session(j, &gone);
    journal_close(j);
    j = opened(f->dir);
    assert_session(j, &gone);
    assert_session(j, &b);
    journal_close(j);
    char *text = malloc((size_t)st.st_size);
    int fd = open(f->path, O_RDONLY);
    assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
    assert_null(memmem(text, (size_t)st.st_size, a.keys.local, 28));
    assert_non_null(memmem(text, (size_t)st.st_size, b.keys.local, 28));
    close(fd);
    free(text);
}

static void full(void **state)
{
    struct fixture *f = *state;
    struct journal *j = opened(f->dir);
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < WORKERS * SESSIONS; i++) {
            struct session_record r = session(i / SESSIONS, i % SESSIONS, (uint8_t)i);
            if (round == 0)
                journal_put_session(j, &r);
            assert_session(j, &r);
        }
        for (uint32_t i = 0; i < STREAMS; i++) {
            struct stream_record r = stream(i, (uint8_t)i);
            if (round == 0)
                journal_put_stream(j, &r);
            assert_stream(j, &r);
        }
        // One more has no place, and takes nobody's.
        struct session_record r = session(WORKERS - 1, SESSIONS, 9);
        journal_put_session(j, &r);
        r = session(WORKERS, 0, 9);
        journal_put_session(j, &r);
        struct stream_record s = stream(STREAMS, 9);
        journal_put_stream(j, &s);
        assert_null(journal_session(j, 0, SESSIONS));
        assert_null(journal_session(j, WORKERS, 0));
        assert_null(journal_stream(j, STREAMS));
        journal_close(j);
        j = opened(f->dir);
    }
    journal_close(j);
}

// ---- killed in the middle

static void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

// What one step of a child's life may be.
struct crash {
    void (*before)(struct journal *j); // what the file holds
    void (*during)(struct journal *j); // in the child; NULL: opening alone
    void (*check)(const struct journal *j, bool *done);
};

static pid_t start_child(struct fixture *f, const struct crash *c)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct journal *j = NULL;
        char why[256];
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        if (c->during != NULL &&
            journal_open(&j, f->dir, WORKERS, SESSIONS, STREAMS, why, sizeof(why)) != 0)
            _exit(2);
        raise(SIGSTOP);
        if (c->during != NULL)
            c->during(j);
        else if (journal_open(&j, f->dir, WORKERS, SESSIONS, STREAMS, why, sizeof(why)) != 0)
            _exit(2);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

// Steps through the child; at each change of the file opens a copy of it and looks at that. Returns
// how many different states of the file there were.
static unsigned step_through(struct fixture *f, const struct crash *c, uint8_t *image, size_t size)
{
    int fd = open(f->path, O_RDONLY), status;
    const uint8_t *now = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(now != MAP_FAILED);
    close(fd);
    unsigned states = 0;
    bool done = false;
    for (pid_t pid = start_child(f, c);;) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status))
            break;
        if (memcmp(now, image, size) == 0)
            continue;
        memcpy(image, now, size);
        states++;
        bool was_done = done;
        write_file(f->copy_path, image, size);
        struct journal *j = opened(f->copy);
        c->check(j, &done);
        journal_close(j);
        assert_true(done || !was_done); // no way back
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(done || states == 0);
    munmap((void *)now, size);
    return states;
}

static unsigned crash_everywhere(struct fixture *f, const struct crash *c)
{
    struct stat st;
    if (c->before != NULL) {
        struct journal *j = opened(f->dir);
        c->before(j);
        journal_close(j);
    }
    assert_int_equal(stat(f->path, &st), 0);
    size_t size = (size_t)st.st_size;
    uint8_t *image = malloc(size);
    int fd = open(f->path, O_RDONLY);
    assert_int_equal(read(fd, image, size), size);
    close(fd);
    unsigned states = step_through(f, c, image, size);
    free(image);
    return states;
}

static void two_of_each(struct journal *j)
{
    struct session_record a = session(0, 0, 1), b = session(0, 1, 2);
    struct stream_record s = stream(0, 3), t = stream(1, 4);
    journal_put_session(j, &a);
    journal_put_session(j, &b);
    journal_put_stream(j, &s);
    journal_put_stream(j, &t);
}

static void change_session(struct journal *j)
{
    struct session_record r = session(0, 1, 5);
    journal_put_session(j, &r);
}

static void check_session(const struct journal *j, bool *done)
{
    struct session_record a = session(0, 0, 1), old = session(0, 1, 2), new = session(0, 1, 5);
    struct stream_record s = stream(0, 3), t = stream(1, 4);
    assert_session(j, &a);
    assert_stream(j, &s);
    assert_stream(j, &t);
    *done = same(journal_session(j, 0, 1), &new, sizeof(new));
    if (!*done)
        assert_session(j, &old);
}

static void change_stream(struct journal *j)
{
    struct stream_record r = stream(0, 6);
    journal_put_stream(j, &r);
}

static void check_stream(const struct journal *j, bool *done)
{
    struct session_record a = session(0, 0, 1), b = session(0, 1, 2);
    struct stream_record old = stream(0, 3), new = stream(0, 6), t = stream(1, 4);
    assert_session(j, &a);
    assert_session(j, &b);
    assert_stream(j, &t);
    *done = same(journal_stream(j, 0), &new, sizeof(new));
    if (!*done)
        assert_stream(j, &old);
}

static void killed_while_writing(void **state)
{
    const struct crash crashes[] = {{two_of_each, change_session, check_session},
                                    {two_of_each, change_stream, check_stream}};
    for (size_t i = 0; i < 2; i++) {
        // The record is written twice, at most 64 bytes at a time, and then wiped once.
        unsigned states = crash_everywhere(*state, &crashes[i]);
        assert_true(states > 2 * sizeof(struct stream_record) / 64);
        unlink(((struct fixture *)*state)->path);
    }
}

// Leaves the file as a process that was killed right after it announced a change to a session.
static void announce_only(struct fixture *f)
{
    struct journal *j = opened(f->dir);
    two_of_each(j);
    journal_close(j);
    const struct crash c = {NULL, change_session, NULL};
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    int fd = open(f->path, O_RDWR), status;
    struct session_record *at, *next = NULL, new = session(0, 1, 5);
    uint8_t *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    pid_t pid = start_child(f, &c);
    at = memmem(map, (size_t)st.st_size, "stream-2", 8); // the old record's place
    assert_non_null(at);
    // When its place changes first, the new record has been announced.
    uint8_t *place = (uint8_t *)at - offsetof(struct session_record, stream);
    struct session_record old = session(0, 1, 2);
    while (same(place, &old, sizeof(old))) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
    }
    next = memmem(map, (size_t)st.st_size, &new, sizeof(new));
    assert_non_null(next); // whole, where it was announced
    assert_true((uint8_t *)next != place);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    munmap(map, (size_t)st.st_size);
}

static void killed_while_recovering(void **state)
{
    struct fixture *f = *state;
    announce_only(f);
    const struct crash c = {NULL, NULL, check_session};
    assert_true(crash_everywhere(f, &c) > 2);
    struct journal *j = opened(f->dir);
    bool done;
    check_session(j, &done);
    assert_true(done);
    journal_close(j);
}

// ---- what is no journal of ours

// Opens with standard error in a file; returns whether the log has `words`.
static bool open_logs(struct fixture *f, struct journal **out, int *rc, const char *words)
{
    char text[4096] = "";
    FILE *log = tmpfile();
    int saved = dup(2);
    dup2(fileno(log), 2);
    *rc = try_open(out, f->dir);
    dup2(saved, 2);
    close(saved);
    rewind(log);
    size_t n = fread(text, 1, sizeof(text) - 1, log);
    text[n] = 0;
    fclose(log);
    return strstr(text, words) != NULL;
}

static void another_version(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 6; i++) {
        struct journal *j = opened(f->dir);
        two_of_each(j);
        journal_close(j);
        struct stat st;
        assert_int_equal(stat(f->path, &st), 0);
        int fd = open(f->path, O_RDWR), rc;
        const uint32_t other = 12345;
        if (i < 4) // magic, version, a record's size, a limit
            assert_int_equal(pwrite(fd, &other, 4, (off_t[]){0, 4, 8, 16}[i]), 4);
        else
            assert_int_equal(ftruncate(fd, i == 4 ? st.st_size - 1 : 3), 0);
        close(fd);
        assert_true(open_logs(f, &j, &rc, "another version"));
        assert_int_equal(rc, 0);
        struct session_record zero = {0};
        assert_memory_equal(journal_session(j, 0, 0), &zero, sizeof(zero));
        change_session(j);
        journal_close(j);
        assert_false(open_logs(f, &j, &rc, "another version"));
        assert_memory_equal(journal_session(j, 0, 0), &zero, sizeof(zero));
        assert_int_equal(journal_session(j, 0, 1)->state, JOURNAL_OPEN);
        journal_close(j);
        unlink(f->path);
    }
}

static void other_limits(void **state)
{
    struct fixture *f = *state;
    struct journal *j = opened(f->dir);
    two_of_each(j);
    journal_close(j);
    char why[256];
    struct stream_record zero = {0};
    assert_int_equal(journal_open(&j, f->dir, WORKERS, SESSIONS, STREAMS + 1, why, sizeof(why)), 0);
    assert_memory_equal(journal_stream(j, 0), &zero, sizeof(zero));
    assert_non_null(journal_stream(j, STREAMS));
    journal_close(j);
}

static void no_file(void **state)
{
    struct fixture *f = *state;
    struct journal *j = NULL;
    char target[] = "/dev/shm/hitless-journal-target-XXXXXX";
    close(mkstemp(target));
    assert_int_equal(symlink(target, f->path), 0);
    assert_int_equal(try_open(&j, f->dir), -ELOOP);
    unlink(f->path);
    unlink(target);
    assert_int_equal(try_open(&j, "/dev/shm/hitless-journal-none"), -ENOENT);

    // A full tmpfs shows at the start, and nothing half-made stays.
    struct rlimit old, small = {8192, RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(try_open(&j, f->dir), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(access(f->path, F_OK), -1);
    assert_null(j);
}

static void bad_records(void **state)
{
    const struct session_record good = session(0, 1, 1);
    for (unsigned i = 0; i < 15; i++) {
        struct session_record r = good;
        switch (i) {
        case 0:
            r.id = 1;
            break; // no generation
        case 1:
            r.state = 3;
            break;
        case 2:
            r.phase = PHASE_MEDIA + 1;
            break;
        case 3:
            r.token[5] = 0;
            break;
        case 4:
            memset(r.token, 'a', sizeof(r.token));
            break;
        case 5:
            memset(r.etag, 'a', sizeof(r.etag));
            break;
        case 6:
            memset(r.client, 'a', sizeof(r.client));
            break;
        case 7:
            memset(r.stream, 'a', sizeof(r.stream));
            break;
        case 8:
            r.stream[0] = '/';
            break;
        case 9:
            r.open.head.id++;
            break;
        case 10:
            r.open.tracks = MSG_MAX_TRACKS + 1;
            break;
        case 11:
            r.open.head.type = MSG_STREAM_OPEN;
            break;
        case 12:
            r.keys.head.id++;
            break;
        case 13:
            r.keys.profile = 99;
            break;
        case 14:
            r.keys.head.length--;
            break;
        }
        assert_false(session_record_valid(&r));
    }
    struct session_record no_keys = good, closing = {.id = good.id, .state = JOURNAL_CLOSING};
    memset(&no_keys.keys, 0, sizeof(no_keys.keys));
    assert_true(session_record_valid(&no_keys));
    assert_true(session_record_valid(&closing));
    const struct stream_record fine = stream(0, 1);
    for (unsigned i = 0; i < 8; i++) {
        struct stream_record r = fine;
        switch (i) {
        case 0:
            r.id = 1;
            break;
        case 1:
            r.state = 3;
            break;
        case 2:
            r.live = 2;
            break;
        case 3:
            memset(r.name, 'a', sizeof(r.name));
            break;
        case 4:
            r.name[0] = 0;
            break;
        case 5:
            r.tracks.count = MSG_MAX_TRACKS + 1;
            break;
        case 6:
            memset(r.tracks.fmtp[3].text, 'a', SDP_FMTP_MAX);
            break;
        case 7:
            r.source_worker = 256;
            break;
        }
        assert_false(stream_record_valid(&r));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(round_trip),
        TEST(full),
        TEST(killed_while_writing),
        TEST(killed_while_recovering),
        TEST(another_version),
        TEST(other_limits),
        TEST(no_file),
        TEST(bad_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
