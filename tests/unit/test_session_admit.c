// Placement of sessions on workers against its promises: room is respected, a small stream stays on
// one core, a large one spreads, and no core gets far ahead. (Who is refused, and how, is in
// test_session.c.)
#include "../../controlplane/session_set.h"
#include "../sim/scratch.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define WORKERS 4
#define SLOTS 600
#define AHEAD 256 // as far as a core may be ahead before a stream spreads

struct fixture {
    char dir[64];
    struct abi_config abi;
    struct channel cp, dp;
    struct sessions set;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char why[256];
    bool changed;
    f->abi = (struct abi_config){
        .node = "a", .workers = WORKERS, .max_sessions = SLOTS, .max_streams = 8};
    if (scratch_make(f->dir, sizeof(f->dir), "admit") ||
        channel_create(&f->cp, f->dir, &f->abi, &changed, why, sizeof(why)) ||
        channel_open(&f->dp, f->dir, why, sizeof(why)) ||
        slots_new(&f->set.slots, WORKERS, SLOTS, 1))
        return -1;
    f->set.channel = &f->cp;
    f->set.abi = &f->abi;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    slots_free(f->set.slots);
    channel_close(&f->cp);
    channel_close(&f->dp);
    assert_int_equal(scratch_remove(f->dir), 0);
    free(f);
    return 0;
}

static uint32_t used(const struct fixture *f, uint32_t worker)
{
    return slots_used(f->set.slots, worker);
}

static const char *full; // what there was too little of

// Places one and lets it in. -1: no room.
static int add(struct fixture *f, struct stream *stream)
{
    int worker = session_place(&f->set, stream, &full);
    if (worker < 0)
        return worker;
    assert_int_not_equal(slots_take(f->set.slots, (uint32_t)worker), 0);
    if (stream)
        stream->worker_viewers[worker]++;
    return worker;
}

static void a_small_stream_stays_on_one_core(void **state)
{
    struct fixture *f = *state;
    struct stream stream = {.source_worker = 2};
    for (int i = 0; i < AHEAD; i++)
        assert_int_equal(add(f, &stream), 2);
    for (int i = 0; i < WORKERS - 1; i++) // others go where it is empty
        assert_int_not_equal(add(f, NULL), 2);
}

static void a_large_stream_spreads(void **state)
{
    struct fixture *f = *state;
    struct stream stream = {.source_worker = 1};
    for (int i = 0; i < WORKERS * SLOTS; i++) {
        assert_in_range(add(f, &stream), 0, WORKERS - 1);
        uint32_t least = UINT32_MAX, most = 0;
        for (uint32_t w = 0; w < WORKERS; w++) {
            least = used(f, w) < least ? used(f, w) : least;
            most = used(f, w) > most ? used(f, w) : most;
        }
        assert_true(most - least <= AHEAD);
        // Not before it has to: a worker more is a packet more to hand over.
        unsigned serving = 0;
        for (uint32_t w = 0; w < WORKERS; w++)
            serving += stream.worker_viewers[w] > 0;
        assert_true(serving <= 1u + (unsigned)i / AHEAD);
    }
    assert_int_equal(add(f, &stream), -1);
    assert_int_equal(add(f, NULL), -1);
    assert_string_equal(full, "limits.sessions is reached");
}

static void without_room_nobody_comes(void **state)
{
    struct fixture *f = *state;
    struct stream stream = {.source_worker = 0};
    for (uint32_t w = 0; w < WORKERS; w++) {
        struct stats_worker *stats = channel_worker_stats(&f->dp, w);
        stats->rx_size = stats->tx_size = stats->cache_size = 1000;
        stats->rx_free = stats->tx_free = stats->cache_free = 200;
    }
    uint32_t *left[WORKERS] = {
        &channel_worker_stats(&f->dp, 0)->rx_free, &channel_worker_stats(&f->dp, 1)->tx_free,
        &channel_worker_stats(&f->dp, 2)->cache_free, &channel_worker_stats(&f->dp, 3)->cache_free};
    for (uint32_t w = 0; w < WORKERS; w++) {
        assert_int_equal(add(f, &stream), (int)w); // the next one: none before it has room
        *left[w] = 199;
    }
    assert_int_equal(add(f, &stream), -1);
    *left[3] = 200;
    assert_int_equal(add(f, &stream), 3);
}

static void who_is_refused_is_told_why(void **state)
{
    struct fixture *f = *state;
    struct stats_worker *stats = channel_worker_stats(&f->dp, 0);
    const struct {
        uint32_t *free, *size;
        const char *word;
    } rows[] = {{&stats->rx_free, &stats->rx_size, "arriving"},
                {&stats->tx_free, &stats->tx_size, "leaving"},
                {&stats->cache_free, &stats->cache_size, "rings"}};
    f->abi.workers = 1;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        *rows[i].size = 1000;
        *rows[i].free = 199;
        assert_int_equal(add(f, NULL), -1);
        assert_non_null(strstr(full, rows[i].word));
        *rows[i].free = 200;
        assert_int_equal(add(f, NULL), 0);
    }
}

// Streams and sessions come and go; every choice is held against what is known of all workers.
static void any_course_of_events(void **state)
{
    struct fixture *f = *state;
    static struct stream streams[6];
    static uint64_t ids[WORKERS][WORKERS * SLOTS];
    unsigned count[WORKERS] = {0};
    srandom(5);
    for (unsigned i = 0; i < 6; i++)
        streams[i] = (struct stream){.source_worker = (uint32_t)random() % WORKERS};
    for (int step = 0; step < 30000; step++) {
        struct stream *stream = random() % 8 ? &streams[random() % 6] : NULL;
        uint32_t leave = (uint32_t)random() % WORKERS;
        if (random() % 100 < 45 && count[leave]) {
            slots_give(f->set.slots, leave, ids[leave][--count[leave]]);
            continue;
        }
        uint32_t least = UINT32_MAX;
        for (uint32_t w = 0; w < WORKERS; w++)
            least = used(f, w) < least ? used(f, w) : least;
        int worker = session_place(&f->set, stream, &full);
        if (worker < 0) {
            assert_int_equal(least, SLOTS);
            continue;
        }
        uint32_t w = (uint32_t)worker;
        bool home = stream && (stream->source_worker == w || stream->worker_viewers[w]);
        assert_true(used(f, w) < SLOTS);
        assert_true(used(f, w) == least || (home && used(f, w) < least + AHEAD));
        ids[w][count[w]++] = slots_take(f->set.slots, w);
        if (stream)
            stream->worker_viewers[w]++;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_small_stream_stays_on_one_core, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_stream_spreads, setup, teardown),
        cmocka_unit_test_setup_teardown(without_room_nobody_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_refused_is_told_why, setup, teardown),
        cmocka_unit_test_setup_teardown(any_course_of_events, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
