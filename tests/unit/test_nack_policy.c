// nack_policy.c: budgets, the adaptive policy's gate, and what payloads say of
// themselves; and what was answered lately.
#include "../../dataplane/budget.h"
#include "../../dataplane/nack_policy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_a_budget_is_spent_and_earned_back(void **state)
{
    struct nack_budget budget = {0};
    unsigned sent = 0;
    for (; nack_budget_has(&budget, 80, false); sent++)
        nack_budget_spend(&budget);
    assert_int_equal(sent, 70); // an eighth is kept for key frames
    for (; nack_budget_has(&budget, 80, true); sent++)
        nack_budget_spend(&budget);
    assert_int_equal(sent, 80);
    nack_budget_earn(&budget, 12);
    assert_true(nack_budget_has(&budget, 80, true));
    assert_true(nack_budget_has(&budget, 80, false));
    for (sent = 0; nack_budget_has(&budget, 80, false); sent++)
        nack_budget_spend(&budget);
    assert_int_equal(sent, 2);
    nack_budget_earn(&budget, 1e9);
    assert_true(budget.spent == 0);
}

// Whatever is asked for, no more is sent than the burst and what was earned.
static void test_a_budget_is_never_overdrawn(void **state)
{
    struct nack_budget budget = {0};
    double earned = 0, sent = 0;
    srandom(3);
    for (int i = 0; i < 100000; i++) {
        double amount = (double)(random() % 100) / 50;
        nack_budget_earn(&budget, amount);
        earned += amount;
        for (long asked = random() % 8; asked > 0; asked--) {
            if (!nack_budget_has(&budget, 100, random() % 2))
                continue;
            nack_budget_spend(&budget);
            sent++;
        }
        assert_true(sent <= 100 + earned);
    }
    assert_true(sent > 0.9 * earned);
}

// Reports as they come in; open after each.
static const struct {
    uint32_t loss;
    bool open;
} reports[] = {{0, false},  {5, false}, {5, false},  {30, false}, {30, false}, {30, false},
               {30, true},  {10, true}, {10, true},  {10, true},  {10, true},  {10, true},
               {0, true},   {0, false}, {15, false}, {15, false}, {15, false}, {15, false},
               {200, true}, {0, true},  {0, true},   {0, true},   {0, true},   {0, true},
               {0, true},   {0, false}};

static void test_the_gate_opens_and_shuts_with_hysteresis(void **state)
{
    struct nack_gate gate = {0};
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
        nack_gate_report(&gate, reports[i].loss);
        if (gate.open != reports[i].open)
            fail_msg("report %zu: smoothed %u", i, gate.loss_permille);
    }
    // Between the thresholds it stays as it is.
    struct nack_gate open = {.open = true}, shut = {0};
    for (int i = 0; i < 50; i++) {
        nack_gate_report(&open, 15);
        nack_gate_report(&shut, 15);
    }
    assert_false(shut.open);
    assert_true(open.loss_permille < NACK_OPEN_PERMILLE);
}

static void test_what_passes(void **state)
{
    const struct nack_gate open = {.open = true}, shut = {0};
    assert_true(nack_gate_passes(&shut, true));
    assert_false(nack_gate_passes(&shut, false));
    assert_true(nack_gate_passes(&open, true));
    assert_true(nack_gate_passes(&open, false));
}

static const struct {
    enum codec codec;
    uint8_t payload[6];
    size_t length;
    bool essential;
    const char *what;
} payloads[] = {
    {CODEC_OPUS, {0}, 1, true, "audio"},
    {CODEC_VP8, {0x10, 0}, 2, true, "VP8 without extension"},
    {CODEC_VP8, {0x30, 0}, 2, false, "VP8, N bit"},
    {CODEC_VP8, {0x90, 0xe0, 0x05, 0x11, 0x00}, 5, true, "VP8, short picture id, TID 0"},
    {CODEC_VP8, {0x90, 0xe0, 0x05, 0x11, 0x40}, 5, false, "VP8, short picture id, TID 1"},
    {CODEC_VP8, {0x90, 0xe0, 0x85, 0x01, 0x11, 0x80}, 6, false, "VP8, long picture id, TID 2"},
    {CODEC_VP8, {0x90, 0xe0, 0x85, 0x01, 0x11, 0x20}, 6, true, "VP8, long picture id, TID 0, Y"},
    {CODEC_VP8, {0x90, 0x20, 0x40}, 3, false, "VP8, TID alone"},
    {CODEC_VP8, {0x90, 0x10, 0x40}, 3, true, "VP8, key index alone"},
    {CODEC_VP8, {0x90, 0xe0, 0x85}, 3, true, "VP8 that ends early"},
    {CODEC_VP8, {0x90}, 1, true, "VP8 that ends earlier"},
    {CODEC_VP9, {0xac, 0x05, 0x00}, 3, true, "VP9, TID 0"},
    {CODEC_VP9, {0xac, 0x05, 0x20}, 3, false, "VP9, TID 1"},
    {CODEC_VP9, {0xac, 0x85, 0x01, 0x40}, 4, false, "VP9, long picture id, TID 2"},
    {CODEC_VP9, {0x8c, 0x05, 0x40}, 3, true, "VP9 without layers"},
    {CODEC_VP9, {0xac, 0x85}, 2, true, "VP9 that ends early"},
    {CODEC_H264, {0x41}, 1, true, "H.264 reference"},
    {CODEC_H264, {0x01}, 1, false, "H.264 non-reference"},
    {CODEC_H264, {0x78, 0}, 2, true, "H.264 aggregate"},
    {CODEC_H264, {0x1c, 0x81}, 2, false, "H.264 fragment of a non-reference"},
    {CODEC_H265, {0x02, 0x01}, 2, true, "H.265"},
    {CODEC_AV1, {0x10}, 1, true, "AV1"},
    {CODEC_VP8, {0}, 0, true, "nothing"},
};

static void test_what_is_essential(void **state)
{
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        // At the end of its own memory, so that a tool sees a read beyond it.
        uint8_t *copy = malloc(payloads[i].length + 1);
        memcpy(copy + 1, payloads[i].payload, payloads[i].length);
        if (nack_essential(payloads[i].codec, copy + 1, payloads[i].length) !=
            payloads[i].essential)
            fail_msg("%s", payloads[i].what);
        free(copy);
    }
}

static uint32_t take_share(uint64_t *used_ns, uint64_t now_ns, uint32_t wanted)
{
    return budget_take(used_ns, now_ns, NACK_ASK_NS, NACK_ASK_BURST, wanted);
}

// What the worst honest viewer asks for, for a minute: of 20 Mbit/s in packets of 1,200 bytes a
// fifth is lost, and each is asked for ten times, every 20 ms, as if nothing were ever sent again.
// Then a whole second is lost at one go, and asked for as often.
static void test_no_honest_viewer_asks_too_much(void **state)
{
    const unsigned lost_each = 417 * 20 / 1000 + 1; // in 20 ms
    uint64_t used = 0, now = UINT64_C(1) << 50;
    for (unsigned step = 0; step < 3000; step++, now += 20000000)
        assert_int_equal(take_share(&used, now, lost_each * 10), lost_each * 10);
    for (unsigned times = 0; times < 10; times++, now += 20000000)
        for (unsigned left = 2083; left;) {
            unsigned n = left < 17 * 300 ? left : 17 * 300;
            assert_int_equal(take_share(&used, now, n), n);
            left -= n;
        }
    for (unsigned step = 0; step < 3000; step++, now += 20000000)
        assert_int_equal(take_share(&used, now, lost_each * 10), lost_each * 10);
}

// Datagrams of 6,120 numbers, 4,000 a second for ten seconds: a burst, and then the rate to the
// digit.
static void test_a_liar_is_looked_up_at_the_rate(void **state)
{
    uint64_t used = 0, now = 0, taken = 0, wanted = 0;
    for (unsigned step = 0; step < 40000; step++, now += 250000) {
        taken += take_share(&used, now, 6120);
        wanted += 6120;
    }
    uint64_t most = NACK_ASK_BURST + now / NACK_ASK_NS;
    assert_in_range(taken, most - 100, most);
    assert_true(wanted > 1000 * taken);
    assert_int_equal(take_share(&used, now, 0), 0);
    // Once it behaves, it is treated like all.
    now += NACK_ASK_BURST * NACK_ASK_NS;
    assert_int_equal(take_share(&used, now, UINT32_MAX), NACK_ASK_BURST);
    assert_int_equal(take_share(&used, now, 1), 0);
    assert_int_equal(take_share(&used, now + NACK_ASK_NS - 1, 1), 0);
    assert_int_equal(take_share(&used, now + NACK_ASK_NS, 2), 1);
}

// Who was sent what, when, against all that happened: nothing is taken for another, and what is
// forgotten in time is a small part even when all viewers together ask for half of what there is
// room for.
#define VIEWERS 256
#define PACKETS 64

static void test_what_was_sent_again_lately(void **state)
{
    static uint64_t sent_ms[VIEWERS][PACKETS];
    struct nack_recent recent;
    unsigned forgotten = 0, known = 0;
    srandom(8);
    assert_int_equal(nack_recent_init(&recent, VIEWERS), 0);
    uint64_t now = UINT32_MAX - 3000u; // milliseconds wrap
    for (unsigned step = 0; step < 60000; step++) {
        unsigned viewer = (unsigned)random() % VIEWERS, packet = (unsigned)random() % PACKETS;
        uint32_t rtt = (uint32_t)random() % 300;
        uint64_t window = rtt < 10 ? 10 : rtt > 200 ? 200 : rtt;
        uint64_t key = nack_recent_key(7 + viewer, (uint8_t)(packet % 2), 1000 + packet);
        bool has = nack_recent_has(&recent, key, now, rtt);
        bool should = sent_ms[viewer][packet] && now - sent_ms[viewer][packet] < window;
        assert_true(should || !has);
        known += should;
        forgotten += should && !has;
        nack_recent_note(&recent, key, now);
        sent_ms[viewer][packet] = now;
        now += step % 10 == 0; // 2,000 within 200 ms; there is room for 4,096
    }
    assert_true(known > 1000);
    assert_true(forgotten < known / 50);
    nack_recent_free(&recent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_budget_is_spent_and_earned_back),
        cmocka_unit_test(test_a_budget_is_never_overdrawn),
        cmocka_unit_test(test_the_gate_opens_and_shuts_with_hysteresis),
        cmocka_unit_test(test_what_passes),
        cmocka_unit_test(test_no_honest_viewer_asks_too_much),
        cmocka_unit_test(test_a_liar_is_looked_up_at_the_rate),
        cmocka_unit_test(test_what_was_sent_again_lately),
        cmocka_unit_test(test_what_is_essential),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
