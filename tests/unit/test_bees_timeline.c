// Samples over time in bounded space.
#include "../bees/timeline.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct timeline timeline;

static void add(unsigned i)
{
    struct timeline_sample sample = {.at_s = i + 1,
                                     .length_s = 1,
                                     .sessions = i,
                                     .packets = 10,
                                     .gap_max_us = i % 7,
                                     .latency_p50_us = 5};
    timeline_add(&timeline, &sample);
}

// Whatever the length: nothing is lost from sums, the last value stays the last, time is gapless.
static void test_merges_when_full(void **state)
{
    static const unsigned lengths[] = {
        1, 2, TIMELINE_MAX, TIMELINE_MAX + 1, 3 * TIMELINE_MAX + 5, 100001};
    for (unsigned c = 0; c < sizeof(lengths) / sizeof(lengths[0]); c++) {
        memset(&timeline, 0, sizeof(timeline));
        for (unsigned i = 0; i < lengths[c]; i++)
            add(i);
        uint64_t packets = 0;
        double end = 0;
        assert_in_range(timeline.count, lengths[c] < TIMELINE_MAX / 2 ? 1 : TIMELINE_MAX / 2,
                        TIMELINE_MAX);
        for (unsigned i = 0; i < timeline.count; i++) {
            const struct timeline_sample *sample = &timeline.sample[i];
            packets += sample->packets;
            end += sample->length_s;
            assert_true(sample->at_s == end);
            assert_int_equal(sample->sessions, (unsigned)end - 1);
            assert_int_equal(sample->latency_p50_us, 5);
            assert_true(sample->gap_max_us <= 6);
            assert_true(timeline.merge < 8 || i + 1 == timeline.count || sample->gap_max_us == 6);
        }
        assert_int_equal(packets, 10ull * lengths[c]);
        assert_true(end == lengths[c]);
    }
}

static void test_short_last_interval(void **state)
{
    struct timeline_sample sample = {.at_s = 2.25, .length_s = 0.25, .packets = 3, .sessions = 9};
    memset(&timeline, 0, sizeof(timeline));
    timeline_extend(&timeline, &sample); // nothing to add it to
    assert_int_equal(timeline.count, 1);
    memset(&timeline, 0, sizeof(timeline));
    add(0);
    add(1);
    timeline_extend(&timeline, &sample);
    assert_int_equal(timeline.count, 2);
    assert_int_equal(timeline.sample[1].packets, 13);
    assert_int_equal(timeline.sample[1].sessions, 9);
    assert_true(timeline.sample[1].at_s == 2.25 && timeline.sample[1].length_s == 1.25);
}

static void test_notes_are_bounded(void **state)
{
    char text[300];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    memset(&timeline, 0, sizeof(timeline));
    for (unsigned i = 0; i < TIMELINE_NOTES + 5; i++)
        timeline_mark(&timeline, i, text);
    assert_int_equal(timeline.notes, TIMELINE_NOTES);
    assert_int_equal(strlen(timeline.note[0].text), TIMELINE_NOTE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_when_full),
        cmocka_unit_test(test_short_last_interval),
        cmocka_unit_test(test_notes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
