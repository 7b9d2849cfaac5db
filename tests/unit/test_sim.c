// The instruments of the simulations: links lose what they say, and a viewer asks, decodes and
// freezes as it should.
#include "../sim/link.h"
#include "../sim/viewer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static void test_a_link_loses_its_share(void **state)
{
    static const double losses[] = {0, 0.01, 0.1, 0.2};
    for (unsigned i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        for (int bursts = 0; bursts < 2; bursts++) {
            struct link link;
            unsigned lost = 0, runs = 0, total = 1000000;
            bool before = false;
            link_init(&link, losses[i], bursts, 10 * MS, i);
            for (unsigned t = 0; t < total; t++) {
                uint64_t at = link_send(&link, (t + 1) * MS, 1000);
                assert_true(at == 0 || at == (t + 11) * MS);
                lost += at == 0;
                runs += at == 0 && !before;
                before = at == 0;
            }
            double share = (double)lost / total;
            assert_true(share >= losses[i] * 0.93 && share <= losses[i] * 1.07);
            if (bursts && losses[i] > 0) // of 50 ms; two that touch count as one
                assert_in_range(lost / runs, 45, 65);
        }
    }
}

static void test_a_narrow_link_queues_and_drops(void **state)
{
    struct link link;
    link_init(&link, 0, false, 10 * MS, 1);
    link.bytes_per_ns = 1e-4; // 100 bytes a millisecond
    link.queue_ns = 30 * MS;
    assert_int_equal(link_send(&link, 100 * MS, 1000), 120 * MS);
    assert_int_equal(link_send(&link, 100 * MS, 1000), 130 * MS);
    assert_int_equal(link_send(&link, 100 * MS, 1000), 140 * MS);
    assert_int_equal(link_send(&link, 100 * MS, 1000), 150 * MS);
    assert_int_equal(link_send(&link, 100 * MS, 1000), 0);
    assert_int_equal(link.dropped, 1);
    assert_int_equal(link_send(&link, 135 * MS, 100), 151 * MS);
}

// One packet a frame, 30 ms apart, first due at 1 s; layers 0 2 1 2 as in bench_frozen.c.
static struct viewer_packet packet_of(uint32_t frame)
{
    static const uint32_t back[] = {4, 1, 2, 1};
    return (struct viewer_packet){.index = 70000 + frame,
                                  .frame = frame,
                                  .refers_to = frame - back[frame % 4],
                                  .parts = 1,
                                  .key = frame == 0};
}

// Frames `from` to `to` come in time, but for `missing`.
static void play(struct viewer *viewer, uint32_t from, uint32_t to, uint32_t missing)
{
    for (uint32_t f = from; f < to; f++) {
        struct viewer_packet packet = packet_of(f);
        uint64_t now = 1000 * MS + f * 30 * MS;
        if (f != missing)
            viewer_receive(viewer, &packet, now);
        viewer_turn(viewer, now);
    }
}

static struct viewer fresh(void)
{
    struct viewer viewer;
    viewer_init(&viewer, 1000 * MS, 30 * MS, 0, 5 * MS);
    return viewer;
}

static void test_layers_are_skipped_or_not(void **state)
{
    static const struct {
        uint32_t missing;
        uint64_t still;
    } rows[] = {{9999, 0}, {41, 1}, {43, 1}, {42, 2}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct viewer viewer = fresh();
        play(&viewer, 0, 60, rows[i].missing);
        assert_int_equal(viewer.still, rows[i].still);
        assert_int_equal(viewer.shown, 60 - rows[i].still);
        assert_int_equal(viewer.freezes, 0);
        viewer_free(&viewer);
    }
}

static void test_a_base_layer_freezes_until_it_comes(void **state)
{
    struct viewer viewer = fresh();
    uint16_t seqs[VIEWER_ASK];
    play(&viewer, 0, 50, 40);
    assert_int_equal(viewer.last, 39);
    uint64_t now = 1000 * MS + 50 * 30 * MS;
    assert_int_equal(viewer_ask(&viewer, now, seqs), 1);
    assert_int_equal(seqs[0], (uint16_t)(70000 + 40));
    assert_int_equal(viewer_ask(&viewer, now + 50 * MS, seqs), 0);
    struct viewer_packet late = packet_of(40);
    late.again = true;
    viewer_receive(&viewer, &late, now);
    viewer_turn(&viewer, now);
    assert_int_equal(viewer.last, 49); // the rest hurries after it
    assert_int_equal(viewer.freezes, 1);
    assert_int_equal(viewer.freeze_ns, 330 * MS);
    assert_int_equal(viewer.still, 9 + 1); // 49 is a little late as well
    assert_int_equal(viewer_ask(&viewer, now + 500 * MS, seqs), 0);
    assert_int_equal(viewer_report(&viewer), 1 * 256 / 51);
    viewer_free(&viewer);
}

static void test_it_asks_ten_times_and_then_for_a_key_frame(void **state)
{
    struct viewer viewer = fresh();
    uint16_t seqs[VIEWER_ASK];
    unsigned asked = 0, keys = 0;
    uint64_t now = 1000 * MS;
    assert_true(viewer_wants_key(&viewer, now)); // to begin with, every 200 ms
    assert_false(viewer_wants_key(&viewer, now + 199 * MS));
    assert_true(viewer_wants_key(&viewer, now + 200 * MS));
    play(&viewer, 0, 50, 40);
    for (now = 2500 * MS; now < 20000 * MS; now += 10 * MS) {
        asked += viewer_ask(&viewer, now, seqs);
        viewer_turn(&viewer, now);
        if (viewer_wants_key(&viewer, now) && keys++ == 0)
            assert_in_range(now, (1000 + 39 * 30 + 3000) * MS, (1000 + 39 * 30 + 3020) * MS);
    }
    assert_int_equal(asked, 10);
    assert_int_equal(viewer.given_up, 1);
    assert_true(keys > 10);
    viewer_end(&viewer, now);
    assert_int_equal(viewer.still, (20000 - 1000) / 30 - 40);
    assert_int_equal(viewer.freezes, 1);
    viewer_free(&viewer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_link_loses_its_share),
        cmocka_unit_test(test_a_narrow_link_queues_and_drops),
        cmocka_unit_test(test_layers_are_skipped_or_not),
        cmocka_unit_test(test_a_base_layer_freezes_until_it_comes),
        cmocka_unit_test(test_it_asks_ten_times_and_then_for_a_key_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
