// BFD: two sessions talk under a virtual clock; packets by hand; RFC 5880's rules one by one.
#include "../../dataplane/bfd.h"
#include "../../dataplane/bytes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

static const struct bfd_config config_a = {.my_discriminator = 11,
                                           .min_tx_us = 10000,
                                           .min_rx_us = 10000,
                                           .multiplier = 3,
                                           .min_ttl = 255};

static struct bfd a, b;
static uint64_t now;
static unsigned sent_by_a;
static double loss; // of either direction

static void start(const struct bfd_config *one, const struct bfd_config *two)
{
    now = 5000 * MS;
    sent_by_a = 0;
    loss = 0;
    bfd_init(&a, one, 1, now);
    bfd_init(&b, two, 2, now);
}

static void pass(uint64_t ns, bool from_b)
{
    uint8_t packet[BFD_PACKET_MAX];
    for (uint64_t end = now + ns; now < end; now += 100 * US) {
        size_t size = bfd_transmit(&a, now, packet);
        if (size) {
            sent_by_a++;
            if (drand48() >= loss)
                assert_int_equal(bfd_receive(&b, packet, size, 255, now), BFD_TAKEN);
        }
        size = bfd_transmit(&b, now, packet);
        if (size && from_b && drand48() >= loss)
            assert_int_equal(bfd_receive(&a, packet, size, 255, now), BFD_TAKEN);
        bfd_expire(&a, now);
        bfd_expire(&b, now);
    }
}

static struct bfd_config other(void)
{
    struct bfd_config config = config_a;
    config.my_discriminator = 22;
    return config;
}

static void test_comes_up_and_speeds_up(void **state)
{
    struct bfd_config config_b = other();
    start(&config_a, &config_b);
    pass(3000 * MS, true);
    assert_int_equal(a.state, BFD_UP);
    assert_int_equal(b.state, BFD_UP);
    assert_int_equal(a.your_discriminator, 22);
    assert_false(a.poll);
    sent_by_a = 0;
    pass(1000 * MS, true);
    assert_in_range(sent_by_a, 100, 135); // every 7.5 to 10 ms
    assert_true(bfd_detection_ns(&a) == 30 * MS);
}

static void test_notices_silence_in_time(void **state)
{
    struct bfd_config config_b = other();
    start(&config_a, &config_b);
    pass(3000 * MS, true);
    uint64_t silent = a.heard_ns;
    while (a.state == BFD_UP)
        pass(100 * US, false);
    assert_in_range(now - silent, 30 * MS, 31 * MS);
    assert_int_equal(a.diag, BFD_DIAG_EXPIRED);
    assert_int_equal(a.downs, 1);
    pass(20 * MS, false);
    assert_int_equal(b.state, BFD_DOWN); // was told
    assert_int_equal(b.diag, BFD_DIAG_NEIGHBOR_DOWN);
    pass(4000 * MS, true);
    assert_int_equal(a.state, BFD_UP);
}

static void test_survives_loss_below_the_multiplier(void **state)
{
    struct bfd_config one = config_a, two = other();
    one.multiplier = two.multiplier = 20;
    start(&one, &two);
    pass(6000 * MS, true);
    srand48(4);
    loss = 0.2;
    pass(20000 * MS, true);
    assert_int_equal(a.downs + b.downs, 0);
}

static void test_slower_side_sets_the_pace(void **state)
{
    struct bfd_config config_b = other();
    config_b.min_rx_us = 100000;
    start(&config_a, &config_b);
    pass(3000 * MS, true);
    sent_by_a = 0;
    pass(1000 * MS, true);
    assert_in_range(sent_by_a, 10, 14);
    assert_true(bfd_detection_ns(&b) == 300 * MS);
}

static void test_admin_down_is_told(void **state)
{
    struct bfd_config config_b = other();
    start(&config_a, &config_b);
    pass(3000 * MS, true);
    bfd_admin(&a, true, now);
    pass(50 * MS, true);
    assert_int_equal(b.state, BFD_DOWN);
    pass(3000 * MS, true);
    assert_int_equal(a.state, BFD_ADMIN_DOWN);
    bfd_admin(&a, false, now);
    pass(4000 * MS, true);
    assert_int_equal(a.state, BFD_UP);
    assert_int_equal(b.state, BFD_UP);
}

static void test_authenticates(void **state)
{
    struct bfd_config one = config_a, two = other();
    one.key_length = two.key_length = 6;
    one.key_id = two.key_id = 4;
    memcpy(one.key, "secret", 6);
    memcpy(two.key, "secret", 6);
    start(&one, &two);
    pass(3000 * MS, true);
    assert_int_equal(a.state, BFD_UP);
    uint8_t packet[BFD_PACKET_MAX];
    a.next_tx_ns = now;
    size_t size = bfd_transmit(&a, now, packet);
    assert_int_equal(size, BFD_PACKET_MAX);
    packet[20] ^= 1; // echo interval
    assert_int_equal(bfd_receive(&b, packet, size, 255, now), BFD_WRONG_KEY);
    packet[20] ^= 1;
    assert_int_equal(bfd_receive(&b, packet, size, 255, now), BFD_TAKEN);
    assert_int_equal(bfd_receive(&b, packet, size, 255, now), BFD_WRONG_KEY); // replayed
    two.key[0] = 'x';
    bfd_init(&b, &two, 3, now);
    assert_int_equal(bfd_receive(&b, packet, size, 255, now), BFD_WRONG_KEY);
    // A peer without a key is refused.
    bfd_init(&a, &config_a, 3, now);
    size = bfd_transmit(&a, now, packet);
    assert_int_equal(bfd_receive(&b, packet, size, 255, now), BFD_WRONG_KEY);
}

static void test_refuses_what_the_rfc_refuses(void **state)
{
    static const struct {
        const char *what;
        unsigned at;
        uint8_t value;
        size_t size;
        uint8_t ttl;
        enum bfd_verdict verdict;
    } rows[] = {
        {"as it is", 0, 0x20, 24, 255, BFD_TAKEN},
        {"short", 0, 0x20, 23, 255, BFD_MALFORMED},
        {"version 0", 0, 0x00, 24, 255, BFD_MALFORMED},
        {"length below 24", 3, 20, 24, 255, BFD_MALFORMED},
        {"length beyond the datagram", 3, 25, 24, 255, BFD_MALFORMED},
        {"multiplier 0", 2, 0, 24, 255, BFD_MALFORMED},
        {"multipoint", 1, 0x41, 24, 255, BFD_MALFORMED},
        {"my discriminator 0", 7, 0, 24, 255, BFD_MALFORMED},
        {"up without our discriminator", 1, 0xc0, 24, 255, BFD_MALFORMED},
        {"another session", 11, 99, 24, 255, BFD_WRONG_SESSION},
        {"hop limit 254", 0, 0x20, 24, 254, BFD_WRONG_TTL},
        {"authentication that is not ours", 1, 0x44, 24, 255, BFD_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t packet[24] = {0x20, 0x40, 3, 24, 0, 0, 0, 22};
        store_be32(packet + 12, 1000000);
        store_be32(packet + 16, 10000);
        struct bfd_config config_b = other();
        start(&config_a, &config_b);
        packet[rows[i].at] = rows[i].value;
        enum bfd_verdict got = bfd_receive(&a, packet, rows[i].size, rows[i].ttl, now);
        if (got != rows[i].verdict)
            fail_msg("%s: %d", rows[i].what, got);
        assert_int_equal(a.state, got == BFD_TAKEN ? BFD_INIT : BFD_DOWN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_up_and_speeds_up),
        cmocka_unit_test(test_notices_silence_in_time),
        cmocka_unit_test(test_survives_loss_below_the_multiplier),
        cmocka_unit_test(test_slower_side_sets_the_pace),
        cmocka_unit_test(test_admin_down_is_told),
        cmocka_unit_test(test_authenticates),
        cmocka_unit_test(test_refuses_what_the_rfc_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
