// Which records of a datagram are read: a table of datagrams.
#include "../../controlplane/dtls_record.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define RECORD(type, epoch, size) type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 7, 0, size
#define MESSAGE(type, length, seq, at, part) type, 0, 0, length, 0, seq, 0, 0, at, 0, 0, part
#define CLIENT_HELLO RECORD(22, 0, 14), MESSAGE(1, 2, 0, 0, 2), 9, 9
#define LENGTH(...) sizeof((uint8_t[]){__VA_ARGS__})

static const struct {
    const char *what;
    uint8_t data[80];
    size_t size, kept;
    bool from_server;
} cases[] = {
#define CASE(what, kept, ...)                                                                      \
    {                                                                                              \
        what, {__VA_ARGS__}, LENGTH(__VA_ARGS__), kept, false                                      \
    }
#define SERVER(what, kept, ...)                                                                    \
    {                                                                                              \
        what, {__VA_ARGS__}, LENGTH(__VA_ARGS__), kept, true                                       \
    }
    CASE("a hello", 27, CLIENT_HELLO),
    CASE("a hello under DTLS 1.0's number", 27, 22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14,
         MESSAGE(1, 2, 0, 0, 2), 9, 9),
    CASE("the middle of a message", 27, RECORD(22, 0, 14), MESSAGE(11, 100, 1, 50, 2), 9, 9),
    CASE("two messages in a record", 39, RECORD(22, 0, 26), MESSAGE(11, 2, 1, 0, 2), 9, 9,
         MESSAGE(16, 0, 2, 0, 0)),
    CASE("two records", 41, CLIENT_HELLO, RECORD(20, 0, 1), 1),
    CASE("a good one behind a bad one", 14, RECORD(22, 0, 2), 1, 1, RECORD(20, 0, 1), 1),
    CASE("any record of a later epoch", 17, RECORD(23, 1, 4), 1, 2, 3, 4),
    CASE("an alert", 15, RECORD(21, 0, 2), 2, 40),
    SERVER("a server's hello", 27, RECORD(22, 0, 14), MESSAGE(2, 2, 0, 0, 2), 9, 9),
    SERVER("the end of a server's flight", 25, RECORD(22, 0, 12), MESSAGE(14, 0, 4, 0, 0)),

    CASE("nothing", 0, 22),
    CASE("an empty record", 0, RECORD(22, 0, 0)),
    CASE("TLS", 0, 22, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1),
    CASE("a record longer than the datagram", 0, RECORD(22, 1, 5), 1, 2, 3, 4),
    CASE("a message type that nobody has", 0, RECORD(22, 0, 12), MESSAGE(200, 0, 0, 0, 0)),
    CASE("a server's message from a client", 0, RECORD(22, 0, 12), MESSAGE(14, 0, 0, 0, 0)),
    SERVER("a client's message from a server", 0, CLIENT_HELLO),
    CASE("an unencrypted Finished", 0, RECORD(22, 0, 24), MESSAGE(20, 12, 3, 0, 12), 1, 2, 3, 4, 5,
         6, 7, 8, 9, 10, 11, 12),
    CASE("a part beyond its message", 0, RECORD(22, 0, 14), MESSAGE(1, 2, 0, 1, 2), 9, 9),
    CASE("a part beyond its record", 0, RECORD(22, 0, 14), MESSAGE(1, 20, 0, 0, 20), 9, 9),
    CASE("an empty part of something", 0, RECORD(22, 0, 12), MESSAGE(1, 20, 0, 0, 0)),
    CASE("half a head behind a message", 0, RECORD(22, 0, 16), MESSAGE(1, 2, 0, 0, 2), 9, 9, 1, 0),
    CASE("a message number that no handshake reaches", 0, RECORD(22, 0, 14),
         MESSAGE(1, 2, 200, 0, 2), 9, 9),
    CASE("a long change of cipher", 0, RECORD(20, 0, 2), 1, 1),
    CASE("an alert of no level", 0, RECORD(21, 0, 2), 7, 40),
    CASE("application data in the clear", 0, RECORD(23, 0, 3), 1, 2, 3),
    CASE("a type that nobody has", 0, RECORD(99, 0, 3), 1, 2, 3),
};

static void test_table(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[80];
        size_t kept = dtls_record_sift(cases[i].data, cases[i].size, !cases[i].from_server, out);
        if (kept != cases[i].kept)
            print_error("%s: %zu bytes\n", cases[i].what, kept);
        assert_int_equal(kept, cases[i].kept);
        assert_memory_equal(out, cases[i].data + cases[i].size - kept, kept);
    }
}

// Whatever is cut off: never more than was there, and records stay whole.
static void test_cut_off(void **state)
{
    static const uint8_t whole[] = {CLIENT_HELLO, RECORD(20, 0, 1), 1};
    uint8_t out[sizeof(whole)];
    for (size_t size = 0; size <= sizeof(whole); size++)
        assert_int_equal(dtls_record_sift(whole, size, true, out), size == sizeof(whole)
                                                                       ? sizeof(whole)
                                                                   : size >= 27 ? 27
                                                                                : 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
