// twcc.c: what the receiver noted is what the sender reads, whatever the path did to it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "../../dataplane/bytes.h"
#include "../../dataplane/rtcp.h"
#include "../../dataplane/twcc.h"
#include <errno.h>
#include <stdlib.h>

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % limit;
}

static int64_t rounded(uint64_t ns)
{
    return (int64_t)((ns + TWCC_TICK_NS / 2) / TWCC_TICK_NS * TWCC_TICK_NS % TWCC_WRAP_NS);
}

// What a sender believes: by sequence number, 0 unknown, -1 lost, else 1 + arrival.
struct belief {
    int64_t of[65536];
    unsigned feedbacks, statuses;
    size_t bytes;
};

// Writes all that is pending in packets of at most `size` bytes and reads it back.
static void drain(struct twcc_receiver *receiver, size_t size, struct belief *belief)
{
    uint8_t *buf = malloc(size);

    assert_non_null(buf);
    while (twcc_pending(receiver)) {
        uint8_t count = receiver->feedback_count;
        size_t length = twcc_write(receiver, buf, size, 0, 0xaabbccdd, 0x11223344);
        assert_in_range(length, 24, size);
        assert_int_equal(length % 4, 0);

        struct rtcp_iter iter;
        struct rtcp_packet packet;
        struct rtcp_feedback fb;
        rtcp_begin(&iter, buf, length);
        assert_int_equal(rtcp_next(&iter, &packet), 1);
        assert_true(rtcp_read_feedback(&packet, &fb));
        assert_true(packet.type == RTCP_RTPFB && fb.format == RTPFB_TRANSPORT_CC);
        assert_true(fb.sender_ssrc == 0xaabbccdd && fb.media_ssrc == 0x11223344);
        assert_int_equal(rtcp_next(&iter, &packet), 0);

        struct twcc_reader reader;
        struct twcc_status status;
        assert_int_equal(twcc_read_begin(&reader, fb.fci, fb.fci_length), 0);
        assert_int_equal(reader.feedback_count, count);
        while (twcc_read_next(&reader, &status)) {
            belief->of[status.seq] = status.received ? 1 + status.arrival_ns % TWCC_WRAP_NS : -1;
            belief->statuses++;
        }
        belief->feedbacks++;
        belief->bytes += length;
    }
    assert_int_equal(twcc_write(receiver, buf, size, 0, 1, 2), 0);
    free(buf);
}

// A stream of 20,000 packets over each kind of path, with feedback now and then.
static void test_round_trip(void **state)
{
    static const struct {
        uint32_t loss_permille, burst, reorder, gap_us, stall_ms;
        size_t size;
    } paths[] = {
        {0, 0, 0, 1000, 0, 1200},   {10, 0, 0, 1000, 0, 1200},       {300, 0, 0, 300, 0, 1200},
        {0, 0, 20, 1000, 0, 1200},  {100, 0, 50, 70000, 0, 1200},    {5, 300, 10, 1000, 0, 1200},
        {0, 0, 0, 100, 9000, 1200}, {50, 100, 30, 1000, 20000, 100}, {500, 20, 100, 500000, 0, 60},
        {20, 0, 5, 0, 0, 28},
    };
    enum { PACKETS = 20000, MAX_REORDER = 100 };
    static uint64_t arrival[PACKETS + MAX_REORDER];

    for (size_t p = 0; p < sizeof(paths) / sizeof(paths[0]); p++) {
        struct twcc_receiver receiver = {0};
        struct belief *belief = calloc(1, sizeof(*belief));
        assert_non_null(belief);
        uint64_t now = (uint64_t)TWCC_WRAP_NS * 3 - 1000000000; // over the reference's wrap, too
        uint16_t first = 65000;
        uint32_t burst = 0;
        size_t highest = 0;
        memset(arrival, 0, sizeof(arrival));
        for (size_t i = 0; i < PACKETS; i++) {
            // A permutation that displaces by less than `reorder`.
            size_t sent = i;
            if (paths[p].reorder > 1) {
                size_t block = i / paths[p].reorder * paths[p].reorder;
                sent = block + (paths[p].reorder - 1 - i % paths[p].reorder);
            }
            now += (uint64_t)random_below(paths[p].gap_us * 2 + 1) * 1000;
            if (paths[p].stall_ms > 0 && random_below(5000) == 0)
                now += (uint64_t)paths[p].stall_ms * 1000000;
            if (burst == 0 && random_below(1000) < paths[p].loss_permille)
                burst = 1 + random_below(paths[p].burst + 1);
            arrival[sent] = 0;
            if (burst > 0 && i > 0) {
                burst--;
            } else {
                arrival[sent] = now;
                twcc_receive(&receiver, (uint16_t)(first + sent), now);
                if (sent > highest)
                    highest = sent;
            }
            if (i % 97 == 96)
                drain(&receiver, paths[p].size, belief);
            // What the sender believes about the last few hundred is what happened.
            if (i % 970 == 969)
                for (size_t n = highest > 500 ? highest - 500 : 0; n <= highest; n++) {
                    int64_t told = belief->of[(uint16_t)(first + n)];
                    size_t lowest = paths[p].reorder > 1 ? paths[p].reorder : 0;
                    if (n > i) // not sent yet
                        continue;
                    if (arrival[n] != 0)
                        assert_int_equal(told, 1 + rounded(arrival[n]));
                    else if (n > lowest)
                        assert_int_equal(told, -1);
                }
        }
        free(belief);
    }
}

// A clean stream at 1,000 packets per second costs little more than a byte per packet.
static void test_size(void **state)
{
    struct twcc_receiver receiver = {0};
    struct belief *belief = calloc(1, sizeof(*belief));

    assert_non_null(belief);
    for (uint64_t i = 0; i < 1000; i++) {
        twcc_receive(&receiver, (uint16_t)i, 5000000000 + i * 1000000);
        if (i % 100 == 99)
            drain(&receiver, 1200, belief);
    }
    assert_int_equal(belief->feedbacks, 10);
    assert_int_equal(belief->statuses, 1000);
    assert_int_equal(belief->bytes, 10 * (20 + 2 + 100 + 2));
    free(belief);
}

static void test_first_bytes(void **state)
{
    struct twcc_receiver receiver = {0};
    uint8_t buf[64];
    // Chunks: 100 small, 101 lost, 102 small, 103 large, 104 to 106 lost; 107 lost, 108 small.
    // Deltas: 2 ms after 128 ms; 10 ms; -1 ms; 1 ms; padding.
    static const uint8_t expected[] = {
        0x8f, 205, 0, 7, 0,    0,    0,    1,    0, 0,  0,    2,    0, 100, 0, 9,
        0,    0,   2, 0, 0xd1, 0x80, 0x90, 0x00, 8, 40, 0xff, 0xfc, 4, 0,   0, 0,
    };

    assert_false(twcc_pending(&receiver));
    assert_int_equal(twcc_write(&receiver, buf, sizeof(buf), 0, 1, 2), 0);
    twcc_receive(&receiver, 100, 130000000);
    twcc_receive(&receiver, 102, 140000000);
    twcc_receive(&receiver, 103, 139000000);
    twcc_receive(&receiver, 108, 140000000);
    assert_int_equal(twcc_write(&receiver, buf, sizeof(buf), 0, 1, 2), sizeof(expected));
    assert_false(twcc_pending(&receiver));
    assert_memory_equal(buf, expected, sizeof(expected));
}

static void test_window(void **state)
{
    struct twcc_receiver receiver = {0};
    struct belief *belief = calloc(1, sizeof(*belief));

    assert_non_null(belief);
    twcc_receive(&receiver, 10, 1000000);
    twcc_receive(&receiver, 10, 9000000); // a duplicate: the first counts
    drain(&receiver, 1200, belief);
    assert_int_equal(belief->of[10], 1 + 1000000);
    twcc_receive(&receiver, 10, 9000000);
    assert_false(twcc_pending(&receiver));
    // A jump beyond the window: only the window is told.
    twcc_receive(&receiver, 10 + 5000, 2000000);
    belief->statuses = 0;
    drain(&receiver, 1200, belief);
    assert_int_equal(belief->statuses, TWCC_WINDOW);
    assert_int_equal(belief->of[5010], 1 + 2000000);
    assert_int_equal(belief->of[5009], -1);
    assert_int_equal(belief->of[5010 - TWCC_WINDOW], 0);
    // Older than the window: nothing to tell.
    twcc_receive(&receiver, 5010 - TWCC_WINDOW, 3000000);
    assert_false(twcc_pending(&receiver));
    // Late, within it: told again.
    twcc_receive(&receiver, 5000, 3000000);
    belief->statuses = 0;
    drain(&receiver, 1200, belief);
    assert_int_equal(belief->statuses, 11);
    assert_int_equal(belief->of[5000], 1 + 3000000);
    assert_int_equal(belief->of[5010], 1 + 2000000);
    free(belief);
}

static void test_malformed(void **state)
{
    static const struct {
        uint8_t length;
        const char *fci;
    } table[] = {
        {7, "\x00\x01\x00\x01\x00\x00\x00"},                      // short head
        {8, "\x00\x01\x00\x00\x00\x00\x00\x00"},                  // no status
        {8, "\x00\x01\x00\x01\x00\x00\x00\x00"},                  // no chunk
        {10, "\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00"},         // a run of none
        {10, "\x00\x01\x00\x01\x00\x00\x00\x00\x20\x01"},         // no delta
        {11, "\x00\x01\x00\x01\x00\x00\x00\x00\x40\x01\x01"},     // half a delta
        {12, "\x00\x01\x00\x01\x00\x00\x00\x00\x60\x01\x01\x01"}, // reserved symbol
        {10, "\x00\x01\xff\xff\x00\x00\x00\x00\x1f\xff"},         // 65,535 in one chunk
        {10, "\x00\x01\x00\x08\x00\x00\x00\x00\xc0\x00"},         // 8 in a chunk of 7
    };
    struct twcc_reader reader;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint8_t *copy = malloc(table[i].length);
        assert_non_null(copy);
        memcpy(copy, table[i].fci, table[i].length);
        if (twcc_read_begin(&reader, copy, table[i].length) != -EBADMSG)
            fail_msg("row %zu", i);
        free(copy);
    }
    // A run may claim more than there are statuses.
    assert_int_equal(
        twcc_read_begin(&reader, (const uint8_t *)"\x00\x01\x00\x01\x00\x00\x00\x00\x1f\xff", 10),
        0);
}

static void test_bounded_buffer(void **state)
{
    for (size_t size = 0; size < 80; size++) {
        struct twcc_receiver receiver = {0};
        uint8_t *buf = malloc(size + 1);
        assert_non_null(buf);
        buf[size] = 0x5a;
        for (uint16_t i = 0; i < 60; i++)
            twcc_receive(&receiver, (uint16_t)(i * 2), 1000000000u + i * 100000000u);
        size_t length = twcc_write(&receiver, buf, size, 0, 1, 2);
        assert_true(size < 24 ? length == 0 : length >= 24 && length <= size);
        assert_int_equal(twcc_write(&receiver, buf, size, size + 4, 1, 2), 0);
        assert_int_equal(buf[size], 0x5a);
        free(buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_size),
        cmocka_unit_test(test_first_bytes), cmocka_unit_test(test_window),
        cmocka_unit_test(test_malformed),   cmocka_unit_test(test_bounded_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
