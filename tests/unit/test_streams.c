// The table of streams, and the messages that it sends to workers; slots as well, which it stands
// on.
#include "../../controlplane/journal.h"
#include "../../controlplane/slots.h"
#include "../../controlplane/streams.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WORKERS 3
#define LOG 64

static struct {
    char type; // O, C, F
    uint32_t lane;
    uint64_t id;
    uint32_t value; // O: source worker, F: mask
} sent[LOG];
static unsigned sent_count;
static uint32_t full; // lanes that take nothing

static int record(void *opaque, uint32_t lane, const void *message)
{
    const struct msg_head *m = message;
    assert_int_equal(msg_check(m), 0);
    assert_true(lane >= 1 && lane <= WORKERS && sent_count < LOG);
    if (full >> lane & 1)
        return -ENOBUFS;
    char type = m->type == MSG_STREAM_OPEN ? 'O' : m->type == MSG_STREAM_CLOSE ? 'C' : 'F';
    uint32_t value = type == 'O'   ? ((const struct msg_stream_open *)m)->source_worker
                     : type == 'F' ? ((const struct msg_stream_forward *)m)->workers
                                   : 0;
    sent[sent_count].type = type;
    sent[sent_count].lane = lane;
    sent[sent_count].id = m->id;
    sent[sent_count++].value = value;
    return 0;
}

// Compares what was sent since the last call with "O1:0 F1:2": type, lane, value.
static void assert_sent(const char *want)
{
    char got[512] = "";
    for (unsigned i = 0; i < sent_count; i++)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%c%u:%u", i > 0 ? " " : "",
                 sent[i].type, sent[i].lane, sent[i].value);
    assert_string_equal(got, want);
    sent_count = 0;
}

static struct streams *table(uint32_t max)
{
    struct streams *s;
    sent_count = 0;
    full = 0;
    assert_int_equal(streams_new(&s, max, WORKERS, 7, NULL, record, NULL), 0);
    return s;
}

static struct sdp_tracks vp8(void)
{
    struct sdp_tracks t = {.count = 1};
    t.track[0] = (struct msg_track){.kind = KIND_VIDEO,
                                    .codec = CODEC_VP8,
                                    .pt = 96,
                                    .rtx_pt = MSG_NO_PT,
                                    .clock_rate = 90000,
                                    .layers = 1};
    return t;
}

static struct session *const somebody = (struct session *)&sent_count; // only ever compared

static void names(void **state)
{
    char longest[STREAM_NAME_MAX + 2];
    memset(longest, 'a', sizeof(longest));
    longest[STREAM_NAME_MAX + 1] = 0;
    assert_false(stream_name_valid(longest));
    longest[STREAM_NAME_MAX] = 0;
    assert_true(stream_name_valid(longest));
    const char *good[] = {"a", "demo", "A.b_c-9", ".."};
    const char *bad[] = {"", "a/b", "a b", "\xc3\xa9", "a%20", "a\n"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(stream_name_valid(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(stream_name_valid(bad[i]));
}

static void life_of_a_stream(void **state)
{
    struct streams *s = table(4);
    struct sdp_tracks t = vp8();
    struct stream *st, *again;
    assert_int_equal(stream_publish(s, "demo", somebody, 1, &t, &st), 0);
    assert_ptr_equal(streams_find(s, "demo"), st);
    assert_ptr_equal(streams_by_id(s, st->id), st);
    assert_null(streams_by_id(s, st->id + (1ull << 32)));
    assert_null(streams_find(s, "dem"));
    assert_int_equal(stream_publish(s, "demo", somebody, 0, &t, &again), -EBUSY);
    assert_int_equal(streams_sync(s), 0);
    assert_sent("O2:1 F2:0");
    assert_int_equal(streams_sync(s), 0);
    assert_sent("");

    stream_view(s, st, 1); // on the source's own worker: nothing to tell
    streams_sync(s);
    assert_sent("");
    stream_view(s, st, 2);
    stream_view(s, st, 2);
    streams_sync(s);
    assert_sent("O3:1 F2:4");
    stream_view(s, st, 0);
    streams_sync(s);
    assert_sent("O1:1 F2:5");
    stream_unview(s, st, 2);
    streams_sync(s);
    assert_sent("");
    stream_unview(s, st, 2);
    streams_sync(s);
    assert_sent("F2:1 C3:0");
    assert_int_equal(st->viewer_count, 2);

    stream_unview(s, st, 0);
    stream_unview(s, st, 1);
    streams_sync(s);
    assert_sent("F2:0 C1:0");
    stream_unpublish(s, st, 1000); // nobody watches: it goes at once
    assert_null(streams_find(s, "demo"));
    streams_sync(s);
    assert_sent("C2:0");
    streams_free(s);
}

static void live_state(void **state)
{
    struct streams *s = table(4);
    struct sdp_tracks t = vp8();
    struct stream *st;
    stream_publish(s, "a", somebody, 0, &t, &st);
    stream_view(s, st, 0);
    stream_state(s, st, STREAM_IDLE, 5);
    assert_false(st->live || st->stalled);
    stream_state(s, st, STREAM_LIVE, 10);
    stream_state(s, st, STREAM_LIVE, 20);
    assert_true(st->live && !st->stalled);
    assert_int_equal(st->since_ms, 10);
    stream_state(s, st, STREAM_BYE, 30);
    assert_true(!st->live && st->stalled);
    stream_state(s, st, STREAM_LIVE, 40);
    assert_int_equal(st->since_ms, 40);
    stream_unpublish(s, st, 50);
    assert_false(st->live);
    stream_state(s, st, STREAM_LIVE, 60); // a late one
    assert_false(st->live);
    streams_free(s);
}

static void publisher_comes_back(void **state)
{
    struct streams *s = table(4);
    struct sdp_tracks t = vp8();
    struct stream *st, *again;
    stream_publish(s, "a", somebody, 0, &t, &st);
    stream_view(s, st, 2);
    streams_sync(s);
    assert_sent("O1:0 O3:0 F1:4");
    uint64_t id = st->id;
    stream_unpublish(s, st, 1000);
    streams_sync(s);
    assert_sent("");
    assert_null(streams_expired(s, 10999, 10000));

    t.track[0].pt = 100; // numbers may change, codecs may not
    assert_int_equal(stream_publish(s, "a", somebody, 1, &t, &again), 0);
    assert_ptr_equal(again, st);
    assert_int_equal(again->id, id);
    streams_sync(s);
    assert_sent("O2:1 O3:1 F2:4 C1:0"); // its old worker has nobody any more
    assert_null(streams_expired(s, 100000, 10000));

    stream_unpublish(s, st, 20000);
    t.track[0].codec = CODEC_VP9;
    assert_int_equal(stream_publish(s, "a", somebody, 1, &t, &again), -EPROTO);
    assert_ptr_equal(streams_expired(s, 30000, 10000), st);
    stream_unview(s, st, 2); // the last viewer takes it along
    assert_null(streams_expired(s, 30000, 10000));
    assert_int_equal(stream_publish(s, "a", somebody, 1, &t, &again), 0);
    assert_int_not_equal(again->id, id);
    streams_sync(s);
    assert_int_equal(sent_count, 4); // O and F of the new one, two Cs of the old
    streams_free(s);
}

static void compatibility(void **state)
{
    struct streams *s = table(1);
    struct sdp_tracks t = vp8();
    struct stream *st;
    stream_publish(s, "a", somebody, 0, &t, &st);
    struct sdp_tracks same = t, codec = t, count = t, rate = t, fmtp = t;
    same.track[0].pt = 120;
    same.track[0].layer[0].ssrc = 9;
    codec.track[0].codec = CODEC_AV1;
    count.count = 2;
    rate.track[0].clock_rate = 1;
    snprintf(fmtp.fmtp[0].text, SDP_FMTP_MAX, "profile-level-id=42e01f");
    assert_true(stream_compatible(st, &same));
    assert_false(stream_compatible(st, &codec));
    assert_false(stream_compatible(st, &count));
    assert_false(stream_compatible(st, &rate));
    assert_false(stream_compatible(st, &fmtp));
    streams_free(s);
}

static void table_full(void **state)
{
    struct streams *s = table(2);
    struct sdp_tracks t = vp8();
    struct stream *a, *b, *c;
    assert_int_equal(stream_publish(s, "a", somebody, 0, &t, &a), 0);
    assert_int_equal(stream_publish(s, "b", somebody, 0, &t, &b), 0);
    assert_int_equal(stream_publish(s, "c", somebody, 0, &t, &c), -ENOSPC);
    streams_sync(s);
    stream_unpublish(s, a, 0);
    // Its number is free only when the worker has been told.
    assert_int_equal(stream_publish(s, "c", somebody, 0, &t, &c), -ENOSPC);
    full = 1u << 1;
    assert_int_equal(streams_sync(s), -EAGAIN);
    assert_int_equal(stream_publish(s, "c", somebody, 0, &t, &c), -ENOSPC);
    full = 0;
    assert_int_equal(streams_sync(s), 0);
    assert_int_equal(stream_publish(s, "c", somebody, 0, &t, &c), 0);
    streams_free(s);
}

static void full_lanes(void **state)
{
    struct streams *s = table(2);
    struct sdp_tracks t = vp8();
    struct stream *st;
    stream_publish(s, "a", somebody, 0, &t, &st);
    stream_view(s, st, 1);
    stream_view(s, st, 2);
    full = 1u << 2; // worker 1's lane: forwarding to it must wait for its STREAM_OPEN
    assert_int_equal(streams_sync(s), -EAGAIN);
    assert_sent("O1:0 O3:0 F1:4");
    full = 0;
    assert_int_equal(streams_sync(s), 0);
    assert_sent("O2:0 F1:6");
    streams_free(s);
}

// A dataplane goes on where its predecessor was: what was said, closings too, is said again.
static void said_again(void **state)
{
    struct streams *s = table(2);
    struct sdp_tracks t = vp8();
    struct stream *a, *b;
    stream_publish(s, "a", somebody, 0, &t, &a);
    stream_publish(s, "b", somebody, 1, &t, &b);
    stream_view(s, a, 1);
    streams_sync(s);
    sent_count = 0;
    full = 1u << 2;
    stream_unpublish(s, b, 0);
    streams_sync(s);
    full = 0;
    assert_sent("");
    streams_repeat(s);
    streams_sync(s);
    assert_sent("C2:0 O1:0 O2:0 F1:2");
    streams_free(s);
}

static void disowned_numbers(void **state)
{
    struct streams *s = table(3);
    struct sdp_tracks t = vp8();
    struct stream *a, *b;
    const uint64_t other = 5ull << 32 | 1;
    assert_int_equal(streams_disown(s, other), 0);
    assert_int_equal(streams_disown(s, other), -EBUSY);
    assert_int_equal(streams_disown(s, 5ull << 32 | 3), -EINVAL);
    assert_null(streams_by_id(s, other));
    stream_publish(s, "a", somebody, 0, &t, &a);
    stream_publish(s, "b", somebody, 0, &t, &b);
    assert_true(MSG_SLOT(a->id) != 1 && MSG_SLOT(b->id) != 1);
    assert_int_equal(stream_publish(s, "c", somebody, 0, &t, &b), -ENOSPC);
    full = 1u << 3;
    streams_sync(s);
    assert_sent("O1:0 F1:0 O1:0 F1:0 C1:0 C2:0");
    assert_int_equal(stream_publish(s, "c", somebody, 0, &t, &b), -ENOSPC);
    full = 0;
    streams_sync(s);
    assert_sent("C3:0");
    assert_int_equal(stream_publish(s, "c", somebody, 0, &t, &b), 0);
    assert_int_equal(b->id, other + (1ull << 32));
    streams_free(s);
}

static struct stream_record record_of(const char *name, uint64_t id, enum journal_state state)
{
    struct stream_record r = {.id = id,
                              .state = (uint8_t)state,
                              .source_worker = 1,
                              .told = 6,
                              .live = 1,
                              .since_ms = 77,
                              .tracks = vp8()};
    snprintf(r.name, sizeof(r.name), "%s", name);
    return r;
}

static void back_from_the_journal(void **state)
{
    struct streams *s = table(5);
    struct stream_record watched = record_of("watched", 9ull << 32, JOURNAL_OPEN),
                         alone = record_of("alone", 9ull << 32 | 1, JOURNAL_OPEN),
                         ended = record_of("", 9ull << 32 | 2, JOURNAL_CLOSING),
                         unused = record_of("", 9ull << 32 | 3, JOURNAL_FREE),
                         elsewhere = record_of("elsewhere", 9ull << 32 | 4, JOURNAL_OPEN);
    elsewhere.source_worker = WORKERS;
    assert_int_equal(streams_restore(s, &watched, 1000), 0);
    assert_int_equal(streams_restore(s, &watched, 1000), -EBUSY);
    assert_int_equal(streams_restore(s, &alone, 1000), 0);
    assert_int_equal(streams_restore(s, &ended, 1000), 0);
    assert_int_equal(streams_restore(s, &unused, 1000), 0);
    assert_int_equal(streams_restore(s, &elsewhere, 1000), -EINVAL);
    struct stream *st = streams_find(s, "watched");
    assert_ptr_equal(streams_by_id(s, watched.id), st);
    assert_false(stream_rejoin(st, somebody, 0));
    assert_true(stream_rejoin(st, somebody, 1));
    assert_false(stream_rejoin(st, somebody, 1));
    stream_view(s, st, 1);
    streams_restored(s);
    assert_true(st->live && st->since_ms == 77);
    assert_null(streams_find(s, "alone"));
    assert_null(streams_find(s, "elsewhere"));

    // What the workers may know is told to go only where nobody needs it.
    full = 0xff;
    assert_int_equal(streams_sync(s), -EAGAIN);
    full = 0;
    assert_int_equal(streams_sync(s), 0);
    assert_sent("C2:0 C3:0 C2:0 C3:0 O2:1 F2:0 C3:0");
    struct sdp_tracks t = vp8();
    struct stream *fresh;
    stream_publish(s, "x", somebody, 0, &t, &fresh);
    assert_int_equal(fresh->id, unused.id + (1ull << 32));
    stream_publish(s, "y", somebody, 0, &t, &fresh); // slot 4, never used
    assert_int_equal(MSG_GENERATION(fresh->id), 7);
    streams_free(s);
}

static void reserved_slots(void **state)
{
    for (uint32_t slot = 0; slot < 4; slot++) {
        struct slots *s;
        unsigned seen = 0;
        assert_int_equal(slots_new(&s, 1, 4, 1), 0);
        assert_int_equal(slots_reserve(s, 0, 9ull << 32 | slot), 0);
        assert_int_equal(slots_reserve(s, 0, 9ull << 32 | slot), -EBUSY);
        assert_int_equal(slots_reserve(s, 0, slot), -EINVAL);
        for (unsigned i = 0; i < 3; i++)
            seen |= 1u << MSG_SLOT(slots_take(s, 0));
        assert_int_equal(seen, 15 & ~(1u << slot));
        assert_int_equal(slots_take(s, 0), 0);
        slots_give(s, 0, 9ull << 32 | slot);
        assert_int_equal(slots_take(s, 0), 10ull << 32 | slot);
        slots_free(s);
    }
}

static void visit_name(struct stream *st, void *opaque)
{
    size_t used = strlen(opaque);
    snprintf((char *)opaque + used, 8 - used, "%s", st->name);
}

static void visiting_and_many(void **state)
{
    struct streams *s = table(300);
    struct sdp_tracks t = vp8();
    struct stream *st;
    char name[16], all[8] = "";
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        assert_int_equal(stream_publish(s, name, somebody, 0, &t, &st), 0);
    }
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        st = streams_find(s, name);
        assert_non_null(st);
        if (i != 77)
            stream_unpublish(s, st, 0);
    }
    streams_visit(s, visit_name, all);
    assert_string_equal(all, "s77");
    streams_free(s);
}

static void slot_numbers(void **state)
{
    struct slots *s;
    assert_int_equal(slots_new(&s, 2, 3, 0xffffffff), 0);
    uint64_t id[3];
    for (uint32_t i = 0; i < 3; i++) {
        id[i] = slots_take(s, 1);
        assert_int_equal(MSG_SLOT(id[i]), i);
        assert_int_equal(MSG_GENERATION(id[i]), 0xffffffff);
    }
    assert_int_equal(slots_take(s, 1), 0);
    assert_int_equal(slots_used(s, 1), 3);
    assert_int_equal(slots_used(s, 0), 0);
    slots_give(s, 1, id[1] + (1ull << 32)); // another generation
    slots_give(s, 1, 3);                    // no such slot
    assert_int_equal(slots_used(s, 1), 3);
    slots_give(s, 1, id[2]);
    slots_give(s, 1, id[2]); // twice
    slots_give(s, 1, id[0]);
    assert_int_equal(slots_used(s, 1), 1);
    uint64_t next = slots_take(s, 1); // the one that was free longest; generation 0 is skipped
    assert_int_equal(MSG_SLOT(next), 2);
    assert_int_equal(MSG_GENERATION(next), 1);
    assert_int_equal(MSG_SLOT(slots_take(s, 1)), 0);
    assert_int_equal(slots_take(s, 1), 0);
    slots_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(life_of_a_stream),
        cmocka_unit_test(live_state),
        cmocka_unit_test(publisher_comes_back),
        cmocka_unit_test(compatibility),
        cmocka_unit_test(table_full),
        cmocka_unit_test(full_lanes),
        cmocka_unit_test(said_again),
        cmocka_unit_test(disowned_numbers),
        cmocka_unit_test(back_from_the_journal),
        cmocka_unit_test(reserved_slots),
        cmocka_unit_test(visiting_and_many),
        cmocka_unit_test(slot_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
