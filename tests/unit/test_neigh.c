// neigh.c: questions in, answers out, as frames written down by hand (checksums by another
// program), then learning and resolution under virtual time.
#include "../../dataplane/neigh.h"
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000000000ull

// 02:00:00:00:00:02 is us, 10.77.0.2 and fd77::2; ...:01 is the peer, 10.77.0.1 and fd77::1.
static const char arp_request[] =
    "ffffffffffff020000000001080600010800060400010200000000010a4d00010000000000000a4d"
    "0002";
static const char arp_reply[] =
    "020000000001020000000002080600010800060400020200000000020a4d00020200000000010a4d"
    "0001";
static const char arp_request_vlan[] =
    "ffffffffffff02000000000181000005080600010800060400010200000000010a4d000100000000"
    "00000a4d0002";
static const char arp_reply_vlan[] =
    "02000000000102000000000281000005080600010800060400020200000000020a4d000202000000"
    "00010a4d0001";
static const char arp_probe[] =
    "ffffffffffff02000000000108060001080006040001020000000001000000000000000000000a4d"
    "0002";
static const char arp_probe_reply[] =
    "020000000001020000000002080600010800060400020200000000020a4d00020200000000010000"
    "0000";
static const char arp_answer[] =
    "020000000002020000000001080600010800060400020200000000010a4d00010200000000020a4d"
    "0002";
static const char gratuitous_moved[] =
    "ffffffffffff020000000009080600010800060400010200000000090a4d00010000000000000a4d"
    "0001";
static const char arp_question[] =
    "ffffffffffff020000000002080600010800060400010200000000020a4d00020000000000000a4d"
    "0001";
static const char arp_announcement[] =
    "ffffffffffff020000000002080600010800060400010200000000020a4d00020000000000000a4d"
    "0002";
static const char echo4[] =
    "020000000002020000000001080045000023123400004001540a0a4d00010a4d0002080066ca0007"
    "000161626364656667";
static const char echo4_reply[] =
    "020000000001020000000002080045000023123440004001140a0a4d00020a4d000100006eca0007"
    "000161626364656667";
static const char echo4_options[] =
    "02000000000202000000000108004700002b12340000400146fb0a4d00010a4d0002070704000000"
    "0000080066ca0007000161626364656667";
static const char echo6[] =
    "02000000000202000000000186dd60000000000f3a40fd770000000000000000000000000001fd77"
    "00000000000000000000000000028000f38d0007000161626364656667";
static const char echo6_reply[] =
    "02000000000102000000000286dd60000000000f3a40fd770000000000000000000000000002fd77"
    "00000000000000000000000000018100f28d0007000161626364656667";
static const char ns_group[] =
    "3333ff00000202000000000186dd6000000000203afffd770000000000000000000000000001ff02"
    "00000000000000000001ff00000287007ca900000000fd7700000000000000000000000000020101"
    "020000000001";
static const char na_group[] =
    "02000000000102000000000286dd6000000000203afffd770000000000000000000000000002fd77"
    "000000000000000000000000000188001b3560000000fd7700000000000000000000000000020201"
    "020000000002";
static const char ns_unicast[] =
    "02000000000202000000000186dd6000000000183afffd770000000000000000000000000001fd77"
    "00000000000000000000000000028700804000000000fd770000000000000000000000000002";
static const char na_unicast[] =
    "02000000000102000000000286dd6000000000183afffd770000000000000000000000000002fd77"
    "000000000000000000000000000188001f4060000000fd770000000000000000000000000002";
static const char ns_dad[] =
    "3333ff00000202000000000186dd6000000000183aff00000000000000000000000000000000ff02"
    "00000000000000000001ff00000287007d2c00000000fd770000000000000000000000000002";
static const char na_dad[] =
    "33330000000102000000000286dd6000000000203afffd770000000000000000000000000002ff02"
    "0000000000000000000000000001880059aa20000000fd7700000000000000000000000000020201"
    "020000000002";
static const char ns_dad_with_link[] =
    "3333ff00000202000000000186dd6000000000203aff00000000000000000000000000000000ff02"
    "00000000000000000001ff00000287007a2200000000fd7700000000000000000000000000020101"
    "020000000001";
static const char ns_group_bare[] =
    "3333ff00000202000000000186dd6000000000183afffd770000000000000000000000000001ff02"
    "00000000000000000001ff00000287007fb300000000fd770000000000000000000000000002";
static const char ns_routed[] =
    "3333ff00000202000000000186dd6000000000203a40fd770000000000000000000000000001ff02"
    "00000000000000000001ff00000287007ca900000000fd7700000000000000000000000000020101"
    "020000000001";
static const char ns_zero_option[] =
    "3333ff00000202000000000186dd6000000000203afffd770000000000000000000000000001ff02"
    "00000000000000000001ff00000287007caa00000000fd7700000000000000000000000000020100"
    "020000000001";
static const char ns_other[] =
    "3333ff00000202000000000186dd6000000000203afffd770000000000000000000000000001ff02"
    "00000000000000000001ff00000287007ca800000000fd7700000000000000000000000000030101"
    "020000000001";
static const char na_answer[] =
    "02000000000202000000000186dd6000000000203afffd770000000000000000000000000001fd77"
    "000000000000000000000000000288001b3760000000fd7700000000000000000000000000010201"
    "020000000001";
static const char na_moved[] =
    "33330000000102000000000986dd6000000000203afffd770000000000000000000000000001ff02"
    "0000000000000000000000000001880059a520000000fd7700000000000000000000000000010201"
    "020000000009";
static const char na_no_override[] =
    "33330000000102000000000986dd6000000000203afffd770000000000000000000000000001ff02"
    "0000000000000000000000000001880079a500000000fd7700000000000000000000000000010201"
    "020000000009";
static const char ns_question[] =
    "3333ff00000102000000000286dd6000000000203afffd770000000000000000000000000002ff02"
    "00000000000000000001ff00000187007ca900000000fd7700000000000000000000000000010101"
    "020000000002";
static const char na_announcement[] =
    "33330000000102000000000286dd6000000000203afffd770000000000000000000000000002ff02"
    "0000000000000000000000000001880059aa20000000fd7700000000000000000000000000020201"
    "020000000002";

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 2}, peer_mac[6] = {2, 0, 0, 0, 0, 1},
                     moved_mac[6] = {2, 0, 0, 0, 0, 9};

static struct neigh_self self;
static struct neigh_table table;

static struct abi_addr addr(const char *text)
{
    struct abi_addr a = {.family = strchr(text, ':') ? 6 : 4};
    assert_int_equal(inet_pton(a.family == 4 ? AF_INET : AF_INET6, text, a.ip), 1);
    return a;
}

static int reset(void **state)
{
    struct abi_config config = {.prefix4 = 24, .prefix6 = 64};
    config.media4 = addr("10.77.0.2");
    config.media6 = addr("fd77::2");
    neigh_self_init(&self, &config, our_mac);
    memset(&table, 0, sizeof(table));
    return 0;
}

static size_t from_hex(const char *hex, uint8_t *out, size_t capacity)
{
    size_t n = strlen(hex) / 2;
    assert_true(n <= capacity);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t)byte;
    }
    return n;
}

static size_t padded(const char *hex, uint8_t *out, size_t capacity)
{
    memset(out, 0, capacity);
    size_t n = from_hex(hex, out, capacity);
    return n < 60 ? 60 : n;
}

// Puts a frame in; returns whether it became an answer.
static bool input(const char *hex, uint64_t now_ns)
{
    uint8_t frame[256];
    size_t length = from_hex(hex, frame, sizeof(frame));
    return neigh_input(&self, &table, now_ns, frame, &length, sizeof(frame));
}

static void expect_mac(const char *ip, const uint8_t *mac)
{
    struct abi_addr a = addr(ip);
    const struct neigh_entry *entry = neigh_lookup(&table, a.ip, a.family);
    if (mac == NULL) {
        assert_true(entry == NULL || entry->state != NEIGH_KNOWN);
        return;
    }
    assert_non_null(entry);
    assert_int_equal(entry->state, NEIGH_KNOWN);
    assert_memory_equal(entry->mac, mac, 6);
}

struct exchange {
    const char *name, *question, *answer; // answer NULL: none
    uint16_t vlan;
};

static const struct exchange exchanges[] = {
    {.name = "ARP", .question = arp_request, .answer = arp_reply},
    {.name = "ARP in a VLAN", .question = arp_request_vlan, .answer = arp_reply_vlan, .vlan = 5},
    {.name = "ARP outside our VLAN", .question = arp_request, .vlan = 5},
    {.name = "ARP inside another VLAN", .question = arp_request_vlan},
    {.name = "ARP probe", .question = arp_probe, .answer = arp_probe_reply},
    {.name = "ARP answer", .question = arp_answer},
    {.name = "gratuitous ARP", .question = gratuitous_moved},
    {.name = "echo", .question = echo4, .answer = echo4_reply},
    {.name = "echo with options", .question = echo4_options},
    {.name = "echo reply", .question = echo4_reply},
    {.name = "ICMPv6 echo", .question = echo6, .answer = echo6_reply},
    {.name = "ICMPv6 echo reply", .question = echo6_reply},
    {.name = "solicitation", .question = ns_group, .answer = na_group},
    {.name = "unicast solicitation", .question = ns_unicast, .answer = na_unicast},
    {.name = "duplicate address detection", .question = ns_dad, .answer = na_dad},
    {.name = "the same with a link address", .question = ns_dad_with_link},
    {.name = "group solicitation without one", .question = ns_group_bare},
    {.name = "solicitation over a router", .question = ns_routed},
    {.name = "option of length 0", .question = ns_zero_option},
    {.name = "solicitation for another", .question = ns_other},
    {.name = "advertisement", .question = na_answer},
};

static void test_answers(void **state)
{
    for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
        const struct exchange *x = &exchanges[i];
        uint8_t frame[128], want[128];
        reset(state);
        self.vlan = x->vlan;
        memset(frame, 0xaa, sizeof(frame));
        size_t length = from_hex(x->question, frame, sizeof(frame));
        size_t question = length;
        bool answered = neigh_input(&self, &table, SECOND, frame, &length, sizeof(frame));
        if (answered != (x->answer != NULL))
            fail_msg("%s: %s", x->name, answered ? "answered" : "not answered");
        if (!answered)
            continue;
        size_t n = from_hex(x->answer, want, sizeof(want));
        if (length != n || memcmp(frame, want, n) != 0)
            fail_msg("%s: another answer", x->name);
        assert_true(length <= question + (strcmp(x->question, ns_dad) == 0 ? 8 : 0));
    }
}

static void test_padding_is_zeroed(void **state)
{
    static const char *const questions[] = {arp_request, echo4};
    static const char *const answers[] = {arp_reply, echo4_reply};
    for (int i = 0; i < 2; i++) {
        uint8_t frame[128], want[128];
        memset(frame, 0xaa, sizeof(frame));
        from_hex(questions[i], frame, sizeof(frame));
        size_t length = 60;
        assert_true(neigh_input(&self, &table, SECOND, frame, &length, sizeof(frame)));
        assert_int_equal(length, padded(answers[i], want, sizeof(want)));
        assert_memory_equal(frame, want, length);
    }
}

// Every bit of a frame matters, but for a few that a receiver has to ignore: flipping any other
// must not leave an answer that is the same as the right one.
static void test_damaged(void **state)
{
    static const char *const questions[] = {echo4, echo6, ns_group, ns_unicast, ns_dad};
    for (size_t q = 0; q < sizeof(questions) / sizeof(questions[0]); q++) {
        uint8_t good[128], frame[128];
        size_t size = from_hex(questions[q], good, sizeof(good));
        for (size_t byte = 34; byte < size; byte++) { // beyond Ethernet and IPv4, or IPv6's source
            if (good[12] == 0x86 && byte < 54)
                continue;
            for (int bit = 0; bit < 8; bit++) {
                memcpy(frame, good, size);
                frame[byte] ^= (uint8_t)(1 << bit);
                size_t length = size;
                assert_false(neigh_input(&self, &table, SECOND, frame, &length, sizeof(frame)));
            }
        }
    }
}

static void test_truncated(void **state)
{
    for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
        uint8_t frame[128];
        size_t size = from_hex(exchanges[i].question, frame, sizeof(frame));
        for (size_t length = 0; length < size; length++) {
            uint8_t *exact = malloc(length ? length : 1); // so that a sanitizer sees the end
            size_t n = length;
            memcpy(exact, frame, length);
            assert_false(neigh_input(&self, &table, SECOND, exact, &n, length));
            free(exact);
        }
    }
}

static void test_never_to_group_or_forged(void **state)
{
    uint8_t frame[128];
    size_t length = from_hex(echo4, frame, sizeof(frame));
    memset(frame, 0xff, 6); // broadcast to everybody
    assert_false(neigh_input(&self, &table, SECOND, frame, &length, sizeof(frame)));
    length = from_hex(echo4, frame, sizeof(frame));
    frame[6] |= 1; // from a group
    assert_false(neigh_input(&self, &table, SECOND, frame, &length, sizeof(frame)));
    length = from_hex(arp_request, frame, sizeof(frame));
    frame[6 + 16] |= 1; // sender's link address in ARP is a group
    assert_false(neigh_input(&self, &table, SECOND, frame, &length, sizeof(frame)));
    length = from_hex(arp_request, frame, sizeof(frame));
    memcpy(frame + 28, frame + 38, 4); // sender claims our own address
    assert_false(neigh_input(&self, &table, SECOND, frame, &length, sizeof(frame)));
    expect_mac("10.77.0.2", NULL);
    expect_mac("10.77.0.1", NULL);
}

static void test_no_room(void **state)
{
    uint8_t frame[128];
    size_t size = from_hex(ns_dad, frame, sizeof(frame)), length = size;
    assert_false(neigh_input(&self, &table, SECOND, frame, &length, size));
    assert_int_equal(length, size);
}

static void test_learns_who_asks(void **state)
{
    assert_true(input(arp_request, SECOND));
    expect_mac("10.77.0.1", peer_mac);
    assert_true(input(ns_group, SECOND));
    expect_mac("fd77::1", peer_mac);
    // Who has moved says so.
    input(gratuitous_moved, 2 * SECOND);
    expect_mac("10.77.0.1", moved_mac);
    input(na_no_override, 2 * SECOND);
    expect_mac("fd77::1", peer_mac);
    input(na_moved, 2 * SECOND);
    expect_mac("fd77::1", moved_mac);
}

static void test_learns_nothing_unasked(void **state)
{
    input(arp_answer, SECOND);
    input(gratuitous_moved, SECOND);
    input(na_answer, SECOND);
    input(na_moved, SECOND);
    expect_mac("10.77.0.1", NULL);
    expect_mac("fd77::1", NULL);
    self.prefix4 = 31; // 10.77.0.2 and .3: the asker is off our link
    assert_true(input(arp_request, SECOND));
    expect_mac("10.77.0.1", NULL);
}

static int next_hop(const char *ip, uint64_t now_ns, uint8_t mac[6])
{
    struct abi_addr a = addr(ip);
    return neigh_next_hop(&self, &table, now_ns, a.ip, a.family, mac);
}

// Takes the question that is due and compares it; NULL: none is due.
static void expect_question(uint64_t now_ns, const char *hex)
{
    uint8_t frame[NEIGH_FRAME_MAX], want[NEIGH_FRAME_MAX];
    size_t length = neigh_question(&self, &table, now_ns, frame, sizeof(frame));
    if (hex == NULL) {
        assert_int_equal(length, 0);
        return;
    }
    assert_int_equal(length, padded(hex, want, sizeof(want)));
    assert_memory_equal(frame, want, length);
}

static void test_resolves_on_link(void **state)
{
    uint8_t mac[6];
    uint64_t now = 5 * SECOND;
    expect_question(now, NULL);
    assert_int_equal(next_hop("10.77.0.1", now, mac), -EAGAIN);
    expect_question(now, arp_question);
    expect_question(now, NULL);
    expect_question(now + SECOND - 1, NULL);
    expect_question(now + SECOND, arp_question);
    assert_false(input(arp_answer, now + SECOND + 5));
    assert_int_equal(next_hop("10.77.0.1", now + SECOND + 6, mac), 0);
    assert_memory_equal(mac, peer_mac, 6);

    assert_int_equal(next_hop("fd77::1", now, mac), -EAGAIN);
    expect_question(now + SECOND, ns_question);
    assert_false(input(na_answer, now + SECOND + 5));
    assert_int_equal(next_hop("fd77::1", now + SECOND + 6, mac), 0);
    assert_memory_equal(mac, peer_mac, 6);
}

static void test_gives_up(void **state)
{
    uint8_t mac[6];
    uint64_t now = SECOND;
    struct abi_addr peer = addr("10.77.0.1");
    assert_int_equal(next_hop("10.77.0.1", now, mac), -EAGAIN);
    for (int i = 0; i < NEIGH_QUESTIONS; i++, now += SECOND)
        expect_question(now, arp_question);
    expect_question(now, NULL);
    assert_null(neigh_lookup(&table, peer.ip, 4));
    assert_int_equal(next_hop("10.77.0.1", now, mac), -EAGAIN); // and begins anew
    expect_question(now, arp_question);
}

static void test_refreshes_what_is_used(void **state)
{
    uint8_t mac[6];
    uint64_t learnt = SECOND, old = learnt + NEIGH_REACHABLE_NS;
    assert_true(input(arp_request, learnt));
    expect_question(old, NULL); // nobody used it
    assert_int_equal(next_hop("10.77.0.1", old - 1, mac), 0);
    expect_question(old - 1, NULL);
    for (int i = 0; i < NEIGH_QUESTIONS; i++)
        expect_question(old + i * SECOND, arp_question);
    expect_question(old + NEIGH_QUESTIONS * SECOND, NULL);
    // Silence does not cost us the address that we have, and we ask again later.
    assert_int_equal(next_hop("10.77.0.1", old + 10 * SECOND, mac), 0);
    expect_question(old + NEIGH_QUESTIONS * SECOND + NEIGH_REACHABLE_NS, arp_question);
}

static void test_gateway(void **state)
{
    uint8_t mac[6];
    assert_int_equal(next_hop("192.0.2.1", SECOND, mac), -ENETUNREACH);
    assert_int_equal(next_hop("2001:db8::1", SECOND, mac), -ENETUNREACH);
    self.gateway4 = addr("10.77.0.1");
    self.gateway6 = addr("fd77::1");
    // Resolved without being needed, and asked without rest.
    expect_question(SECOND, arp_question);
    expect_question(SECOND, ns_question);
    expect_question(SECOND, NULL);
    assert_int_equal(next_hop("192.0.2.1", SECOND, mac), -EAGAIN);
    for (uint64_t s = 2; s < 100; s++) {
        expect_question(s * SECOND, arp_question);
        expect_question(s * SECOND, ns_question);
        expect_question(s * SECOND, NULL);
    }
    input(arp_answer, 100 * SECOND);
    input(na_answer, 100 * SECOND);
    assert_int_equal(next_hop("192.0.2.1", 101 * SECOND, mac), 0);
    assert_memory_equal(mac, peer_mac, 6);
    assert_int_equal(next_hop("2001:db8::1", 101 * SECOND, mac), 0);
    assert_memory_equal(mac, peer_mac, 6);
    expect_question(100 * SECOND + NEIGH_REACHABLE_NS - 1, NULL);
    expect_question(100 * SECOND + NEIGH_REACHABLE_NS, arp_question);
}

static void test_off_link_gateway(void **state)
{
    uint8_t mac[6];
    self.prefix4 = 32; // as some clouds do it
    self.gateway4 = addr("10.77.0.1");
    assert_int_equal(next_hop("10.77.0.7", SECOND, mac), -EAGAIN);
    input(arp_answer, SECOND);
    assert_int_equal(next_hop("10.77.0.7", SECOND, mac), 0);
    assert_memory_equal(mac, peer_mac, 6);
}

static void test_no_such_destination(void **state)
{
    static const char *const not_unicast[] = {
        "0.0.0.0",         "127.0.0.1", "224.0.0.1", "10.77.0.2", "10.77.0.255",
        "255.255.255.255", "::",        "::1",       "ff02::1",   "fd77::2"};
    uint8_t mac[6];
    for (size_t i = 0; i < sizeof(not_unicast) / sizeof(not_unicast[0]); i++)
        assert_int_equal(next_hop(not_unicast[i], SECOND, mac), -EINVAL);
    self.ip6.family = 0;
    assert_int_equal(next_hop("fd77::1", SECOND, mac), -EINVAL);
    assert_false(input(ns_group, SECOND));
    assert_false(input(echo6, SECOND));
}

// A neighbour that floods us with addresses displaces neither the gateway nor whom we talk to.
static void test_flood(void **state)
{
    uint8_t mac[6], frame[128];
    self.gateway6 = addr("fd77::1");
    assert_true(input(arp_request, SECOND));
    assert_int_equal(next_hop("10.77.0.1", SECOND, mac), 0);
    expect_question(SECOND, ns_question);
    input(na_answer, SECOND);
    for (int i = 0; i < 3 * NEIGH_ENTRIES; i++) {
        size_t length = from_hex(arp_request, frame, sizeof(frame));
        frame[31] = (uint8_t)(3 + i % 250); // 10.77.0.x
        frame[27] = (uint8_t)i;
        assert_true(neigh_input(&self, &table, 2 * SECOND, frame, &length, sizeof(frame)));
    }
    expect_mac("10.77.0.1", peer_mac);
    expect_mac("fd77::1", peer_mac);
}

static void test_announcements(void **state)
{
    uint8_t frame[NEIGH_FRAME_MAX], want[NEIGH_FRAME_MAX];
    struct abi_addr own4 = addr("10.77.0.2"), own6 = addr("fd77::2");
    size_t length = neigh_build_announcement(&self, &own4, frame, sizeof(frame));
    assert_int_equal(length, padded(arp_announcement, want, sizeof(want)));
    assert_memory_equal(frame, want, length);
    length = neigh_build_announcement(&self, &own6, frame, sizeof(frame));
    assert_int_equal(length, padded(na_announcement, want, sizeof(want)));
    assert_memory_equal(frame, want, length);
    assert_int_equal(neigh_build_announcement(&self, &own6, frame, NEIGH_FRAME_MAX - 1), 0);
    assert_int_equal(neigh_build_request(&self, &own6, frame, NEIGH_FRAME_MAX - 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_answers, reset),
        cmocka_unit_test_setup(test_padding_is_zeroed, reset),
        cmocka_unit_test_setup(test_damaged, reset),
        cmocka_unit_test_setup(test_truncated, reset),
        cmocka_unit_test_setup(test_never_to_group_or_forged, reset),
        cmocka_unit_test_setup(test_no_room, reset),
        cmocka_unit_test_setup(test_learns_who_asks, reset),
        cmocka_unit_test_setup(test_learns_nothing_unasked, reset),
        cmocka_unit_test_setup(test_resolves_on_link, reset),
        cmocka_unit_test_setup(test_gives_up, reset),
        cmocka_unit_test_setup(test_refreshes_what_is_used, reset),
        cmocka_unit_test_setup(test_gateway, reset),
        cmocka_unit_test_setup(test_off_link_gateway, reset),
        cmocka_unit_test_setup(test_no_such_destination, reset),
        cmocka_unit_test_setup(test_flood, reset),
        cmocka_unit_test_setup(test_announcements, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
