// One worker's sessions and streams: slots and generations, paths, viewers, numbers that never
// start over, and a file that a successor adopts only if it is of the same build.
#include "../../dataplane/tables.h"
#include "../sim/scratch.h"
#include "../sim/world.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

// Which of the allocations to come fails; 0: none. The linker leads calloc here.
static unsigned failing;
void *__wrap_calloc(size_t count, size_t size); // NOLINT(bugprone-reserved-identifier)
void *__real_calloc(size_t count, size_t size); // NOLINT(bugprone-reserved-identifier)

void *__wrap_calloc(size_t count, size_t size) // NOLINT(bugprone-reserved-identifier)
{
    return failing && --failing == 0 ? NULL : __real_calloc(count, size);
}

static struct protect *protect;
static struct tables tables;
static struct cache_store *store;
static char dir[64];
static const struct abi_config config = {.workers = 1,
                                         .max_sessions = 8,
                                         .max_streams = 4,
                                         .cache_mbufs = 64,
                                         .cache_ms = 1000,
                                         .crypto = ABI_CRYPTO_IPSEC_MB};

static int start(void **state)
{
    return scratch_make(dir, sizeof(dir), "tables") || protect_new(&protect) ||
           !(store = cache_store_new(16, false)) ||
           tables_init(&tables, &config, dir, 0, protect, store);
}

static int stop(void **state)
{
    char path[128];
    tables_free(&tables);
    protect_free(protect);
    cache_store_free(store);
    snprintf(path, sizeof(path), "%s/table.0", dir);
    return unlink(path) || rmdir(dir);
}

static struct msg_session_open opening(uint32_t generation, uint32_t slot, enum session_role role)
{
    struct msg_session_open open = {
        .head = {.type = MSG_SESSION_OPEN,
                 .length = sizeof(open),
                 .id = (uint64_t)generation << 32 | slot},
        .stream = STREAM_ID,
        .role = (uint8_t)role,
        .tracks = 2,
        .track = {world_video(100 + slot, 200 + slot), world_audio(300 + slot)}};
    open.track[1].source = role == ROLE_PLAY;
    snprintf(open.ice.ufrag, sizeof(open.ice.ufrag), "u%06u", slot);
    open.ice.ufrag[7] = 'x';
    memset(open.ice.pwd, 'p', sizeof(open.ice.pwd));
    return open;
}

static struct session *open_session(uint32_t generation, uint32_t slot, enum session_role role)
{
    int error = 0;
    struct msg_session_open open = opening(generation, slot, role);
    struct session *session = tables_open_session(&tables, &open, 1, &error);
    assert_non_null(session);
    tables_join(&tables, session);
    return session;
}

static struct stream *open_stream(void)
{
    int error = 0;
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 2,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    struct stream *stream = tables_open_stream(&tables, &open, &error);
    assert_non_null(stream);
    return stream;
}

static void test_slots_and_generations(void **state)
{
    int error = 0;
    struct session *session = open_session(1, 3, ROLE_PLAY);
    assert_ptr_equal(tables_session(&tables, (1ull << 32) | 3), session);
    assert_null(tables_session(&tables, (2ull << 32) | 3));
    assert_null(tables_session(&tables, (1ull << 32) | 4));
    assert_null(tables_session(&tables, (1ull << 32) | 8));
    struct msg_session_open again = opening(1, 3, ROLE_PLAY);
    assert_null(tables_open_session(&tables, &again, 1, &error));
    assert_int_equal(error, EEXIST);
    again = opening(2, 3, ROLE_PLAY);
    assert_null(tables_open_session(&tables, &again, 1, &error));
    assert_int_equal(error, EBUSY);
    again = opening(1, 8, ROLE_PLAY);
    assert_null(tables_open_session(&tables, &again, 1, &error));
    assert_int_equal(error, ENOSPC);
    assert_ptr_equal(tables_by_ufrag(&tables, "u000003x"), session);
    tables_close_session(&tables, protect, session);
    assert_null(tables_by_ufrag(&tables, "u000003x"));
    assert_int_equal(tables.session_count, 0);
    open_session(2, 3, ROLE_PLAY);
}

static void test_a_stream_is_found_by_its_name_on_trunks(void **state)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 2,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    struct stream *stream = open_stream();
    assert_null(tables_by_trunk(&tables, 0));
    for (uint64_t name = 7; name < 9; name++) {
        open.trunk_id = name;
        tables_update_stream(&tables, stream, &open);
        assert_ptr_equal(tables_by_trunk(&tables, name), stream);
        assert_null(tables_by_trunk(&tables, name - 1));
        assert_null(tables_by_trunk(&tables, 0));
    }
    tables_free(&tables);
    assert_int_equal(tables_init(&tables, &config, dir, 0, protect, store), 0); // a successor
    stream = tables_stream(&tables, STREAM_ID);
    assert_non_null(stream);
    assert_ptr_equal(tables_by_trunk(&tables, 8), stream);
    tables_close_stream(&tables, stream);
    assert_null(tables_by_trunk(&tables, 8));
}

static void test_paths_are_few_and_the_oldest_goes(void **state)
{
    struct session *session = open_session(1, 0, ROLE_PLAY);
    struct abi_addr remote = {.ip = {192, 0, 2, 1}, .family = 4};
    for (uint16_t i = 0; i < 6; i++) {
        remote.port = (uint16_t)(1000 + i);
        uint8_t path = tables_validate_path(&tables, session, &remote, 10 + i);
        if (i == 0)
            session->path = path;
        assert_ptr_equal(tables_by_remote(&tables, &remote), session);
    }
    unsigned known = 0;
    for (uint16_t i = 0; i < 6; i++) {
        remote.port = (uint16_t)(1000 + i);
        known += tables_by_remote(&tables, &remote) != NULL;
        // Never the one in use, and the latest ones stay.
        if (i == 0 || i > 2)
            assert_non_null(tables_by_remote(&tables, &remote));
    }
    assert_int_equal(known, SESSION_PATHS);
    // The same address of a newer session belongs to that.
    struct session *other = open_session(1, 1, ROLE_PLAY);
    tables_validate_path(&tables, other, &remote, 50);
    tables_close_session(&tables, protect, session);
    assert_ptr_equal(tables_by_remote(&tables, &remote), other);
}

static void test_a_partner_takes_no_address_away(void **state)
{
    const uint64_t second = 1000000000;
    struct abi_addr remote = {.ip = {192, 0, 2, 1}, .port = 1000, .family = 4};
    struct session *here = open_session(1, 0, ROLE_PLAY), *copy = open_session(1, 1, ROLE_PLAY);
    uint8_t path = tables_validate_path(&tables, here, &remote, second);
    tables_prove_path(&tables, here, path, second);
    here->heard_ns = second;
    path = tables_adopt_path(&tables, copy, &remote, 2 * second);
    assert_int_equal(copy->paths[path].proven_ns, 2 * second);
    assert_ptr_equal(tables_by_remote(&tables, &remote), here);
    tables_adopt_path(&tables, copy, &remote, 60 * second); // it has gone
    assert_ptr_equal(tables_by_remote(&tables, &remote), copy);
}

static void test_viewers_come_and_go(void **state)
{
    struct stream *stream = open_stream();
    struct session *viewer[4];
    for (uint32_t i = 0; i < 4; i++)
        viewer[i] = open_session(1, i, ROLE_PLAY);
    assert_int_equal(stream->track[0].viewer_count, 4);
    assert_int_equal(tables_join(&tables, viewer[0]), 0); // twice is once
    assert_int_equal(stream->track[0].viewer_count, 4);
    tables_close_session(&tables, protect, viewer[1]);
    assert_int_equal(stream->track[0].viewer_count, 3);
    for (uint32_t v = 0; v < 3; v++) {
        const struct viewer_ref *ref = &stream->track[0].viewers[v];
        assert_int_not_equal(ref->session, 1);
        assert_int_equal(tables.senders[ref->session].sub[ref->track].place, v);
    }
    // Viewers who come before their stream join it when it opens.
    tables_close_stream(&tables, stream);
    assert_null(tables_sub(&tables, viewer[2], 0));
    stream = open_stream();
    assert_int_equal(stream->track[1].viewer_count, 3);
    assert_non_null(tables_sub(&tables, viewer[2], 0));
}

// Leaving and joining again must not lead back to numbers that were used, also not for packets from
// before the second joining.
static void test_numbers_go_on(void **state)
{
    struct stream *stream = open_stream();
    struct session *viewer = open_session(1, 0, ROLE_PLAY);
    struct sub *sub = tables_sub(&tables, viewer, 0);
    // The first index, until there is a track index: with room below it.
    assert_in_range(sub->delta, INDEX_SPARE, 0x7fff);
    stream->track[0].next_index = 0x100000;
    sub_number(sub, sub->delta - 0x100000);
    stream->track[0].next_index += 50; // packets sent
    uint64_t next = (stream->track[0].next_index + sub->delta) & INDEX_MASK;
    tables_leave(&tables, viewer);
    stream->track[0].next_index += 1000; // while it was away
    tables_join(&tables, viewer);
    sub = tables_sub(&tables, viewer, 0);
    assert_true(((stream->track[0].next_index + sub->delta) & INDEX_MASK) == next + INDEX_SPARE);
}

// The process may end between any two of its writes. Of a viewer's keys the state alone says that
// they are there, so who ended just behind it leaves a viewer that is sent to.
static void test_a_viewer_is_keyed_as_its_state_says(void **state)
{
    static const struct {
        enum session_role role;
        enum session_state state;
        bool written, keyed;
    } rows[] = {{ROLE_PLAY, SESSION_KEYED, false, true},
                {ROLE_PLAY, SESSION_OPEN, true, false},
                {ROLE_PUBLISH, SESSION_KEYED, false, false}};
    uint8_t master[MSG_KEY_MAX] = {1};
    open_stream();
    for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct session *session = open_session(1, i, rows[i].role);
        struct sender *sender = tables_sender(&tables, session);
        assert_int_equal(protect_tx_init(protect, &sender->tx, PROFILE_AEAD_AES_128_GCM, master),
                         0);
        session->state = (uint8_t)rows[i].state;
        sender->keyed = rows[i].written;
    }
    tables_free(&tables);
    assert_int_equal(tables_init(&tables, &config, dir, 0, protect, store), 0);
    assert_int_equal(tables.session_count, sizeof(rows) / sizeof(rows[0]));
    for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(tables.senders[i].keyed, rows[i].keyed);
}

// Where a viewer's numbers stand, whether they do, and for which space: one word.
static void test_numbers_change_in_one_store(void **state)
{
    struct sub sub = {.delta = 0x7000};
    assert_false(sub_numbered(&sub));
    sub_number(&sub, sub.delta - 0x100000);
    assert_true(sub_numbered(&sub) &&
                (sub.delta & INDEX_MASK) == INDEX_MASK + 1 + 0x7000 - 0x100000);
    const uint64_t from = 0x12345, to = 0x1ffff, alike = 0x1a345;
    assert_false(sub_moved(&sub, from, to));
    sub_move(&sub, UINT64_MAX, to);
    assert_true(sub_numbered(&sub) && (sub.delta & INDEX_MASK) == INDEX_MASK);
    assert_true(sub_moved(&sub, from, to));
    assert_false(sub_moved(&sub, to, from)); // it is there, and now goes on
    sub_move(&sub, 5, from);
    assert_false(sub_moved(&sub, from, alike)); // noted alike
    assert_true(sub_moved(&sub, to, from));
    assert_false(sub_moved(&sub, from, 0x8000));
    sub_number(&sub, 7); // said anew: of whatever space
    assert_false(sub_moved(&sub, to, from) || sub_moved(&sub, to, 0x8000));
    sub_unnumber(&sub, INDEX_MASK + 9);
    assert_true(!sub_numbered(&sub) && sub.delta == 8);
}

static void test_a_successor_adopts(void **state)
{
    open_stream();
    struct session *viewer = open_session(1, 2, ROLE_PLAY);
    struct abi_addr remote = {.ip = {192, 0, 2, 1}, .port = 5, .family = 4};
    tables_validate_path(&tables, viewer, &remote, 9);
    uint64_t first = tables_sub(&tables, viewer, 0)->delta;
    tables_free(&tables);
    assert_int_equal(tables_init(&tables, &config, dir, 0, protect, store), 0);
    assert_int_equal(tables.session_count, 1);
    assert_int_equal(tables.stream_count, 1);
    viewer = tables_by_ufrag(&tables, "u000002x");
    assert_non_null(viewer);
    assert_ptr_equal(tables_by_remote(&tables, &remote), viewer);
    assert_non_null(tables_sub(&tables, viewer, 0));
    assert_true(tables_sub(&tables, viewer, 0)->delta == first);
    // Another layout, or a file that was cut off, is made anew.
    struct abi_config other = config;
    other.max_sessions = 9;
    tables_free(&tables);
    assert_int_equal(tables_init(&tables, &other, dir, 0, protect, store), 0);
    assert_int_equal(tables.session_count, 0);
    tables_free(&tables);
    char path[128];
    snprintf(path, sizeof(path), "%s/table.0", dir);
    assert_int_equal(truncate(path, 10000), 0);
    assert_int_equal(tables_init(&tables, &other, dir, 0, protect, store), 0);
    assert_int_equal(tables.session_count, 0);
}

// What a process that died left: its pointers.
static void leave_pointers(struct stream *stream)
{
    void *stale = (void *)0x10; // NOLINT(performance-no-int-to-ptr)
    stream->twcc = stale;
    for (int i = 0; i < MSG_MAX_TRACKS; i++) {
        stream->track[i].ring.slots = stale;
        stream->track[i].gaps = stale;
        stream->track[i].viewers = stale;
        stream->track[i].viewer_count = stream->track[i].viewer_room = 7;
    }
}

// Whichever allocation fails, nothing of the old process is touched, and no viewer keeps numbers
// that a stream made anew could use again.
static void test_adoption_without_memory(void **state)
{
    uint8_t master[MSG_KEY_MAX] = {1};
    unsigned refused = 0;
    int rc = -ENOMEM;
    for (unsigned nth = 1; nth == 1 || failing == 0; nth++) {
        assert_in_range(nth, 1, 20);
        struct stream *stream = open_stream();
        struct session *viewer = open_session(nth, 2, ROLE_PLAY);
        protect_rx_init(protect, &stream->rx, PROFILE_AEAD_AES_128_GCM, master);
        stream->keyed_by = 77;
        stream->track[0].config.feedback |= FB_TRANSPORT_CC;
        stream->track[0].config.hdrext[HDREXT_TRANSPORT_CC] = 5;
        uint64_t id = viewer->id;
        struct stream *kept = tables.all_streams;
        struct table_file *file = tables.file;
        size_t size = tables.file_size;
        tables.file = NULL; // stays mapped, for the pointers below
        tables_free(&tables);
        leave_pointers(&kept[MSG_SLOT(STREAM_ID)]);
        munmap(file, size);
        failing = nth;
        rc = tables_init(&tables, &config, dir, 0, protect, store);
        if (rc) { // the file is as it was
            failing = 0;
            assert_int_equal(tables_init(&tables, &config, dir, 0, protect, store), 0);
            assert_int_equal(tables.session_count, 1);
        } else if (tables.stream_count == 0) {
            refused++;
            assert_null(tables_session(&tables, id));
            assert_int_equal(tables.session_count, 0);
        } else {
            assert_int_equal(tables.session_count, 1);
        }
        viewer = tables_session(&tables, id);
        stream = tables_stream(&tables, STREAM_ID);
        if (viewer)
            tables_close_session(&tables, protect, viewer);
        if (stream)
            tables_close_stream(&tables, stream);
    }
    failing = 0;
    assert_int_equal(rc, 0);
    assert_in_range(refused, 5, 19); // two tracks' rings and gaps, and what feedback needs
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)

static unsigned released;

static void count_release(struct protect *p, struct protect_key *key)
{
    released++;
}

// A crypto device has places for so many keys: each must be given back.
static void test_a_publishers_key_is_given_back(void **state)
{
    int error;
    const struct protect_ops *real = protect->ops;
    struct protect_ops ops = *real;
    ops.release = count_release;
    protect->ops = &ops;
    uint8_t master[MSG_KEY_MAX] = {1};
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .tracks = 1,
        .track = {world_audio(5)}};
    struct stream *stream = tables_open_stream(&tables, &open, &error);
    assert_non_null(stream);
    for (unsigned i = 1; i <= 2; i++) {
        protect_rx_init(protect, &stream->rx, PROFILE_AEAD_AES_128_GCM, master);
        tables_reset_source(&tables, stream);
        assert_int_equal(released, i);
    }
    protect_rx_init(protect, &stream->rx, PROFILE_AEAD_AES_128_GCM, master);
    tables_close_stream(&tables, stream);
    assert_int_equal(released, 3);
    protect->ops = real;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_slots_and_generations),
        CASE(test_a_stream_is_found_by_its_name_on_trunks),
        CASE(test_paths_are_few_and_the_oldest_goes),
        CASE(test_a_partner_takes_no_address_away),
        CASE(test_viewers_come_and_go),
        CASE(test_numbers_go_on),
        CASE(test_a_successor_adopts),
        CASE(test_a_publishers_key_is_given_back),
        CASE(test_adoption_without_memory),
        CASE(test_a_viewer_is_keyed_as_its_state_says),
        CASE(test_numbers_change_in_one_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
