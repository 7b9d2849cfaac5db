// The load tester's command line, its guard of addresses, and how it judges a run.
#include "../bees/capacity.h"
#include "../bees/net.h"
#include "../bees/options.h"
#include "../bees/result.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct options options;
static char out_text[16384], err_text[1024];

// Reads a command line written as one string.
static int read_line(const char *line)
{
    static char copy[1024];
    char *argv[64] = {"hitless-bees"}, *save = NULL;
    int argc = 1;
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    FILE *out = fmemopen(out_text, sizeof(out_text), "w");
    FILE *err = fmemopen(err_text, sizeof(err_text), "w");
    int rc = options_read(&options, argc, argv, out, err);
    fclose(out);
    fclose(err);
    return rc;
}

static void test_good_lines(void **state)
{
    char url[BEES_URL_MAX];
    unsetenv("HITLESS_BEES_TOKEN");
    assert_int_equal(read_line("whep http://h/whep/s --sessions 50 --rate 20/s --duration 9.5 "
                               "--json --report r.html"),
                     0);
    assert_int_equal(options.sessions, 50);
    assert_true(options.rate == 20 && options.duration == 9.5);
    assert_true(options.json);
    assert_string_equal(options.report, "r.html");
    assert_int_equal(options.protocol->role, BEES_WHEP);
    assert_int_equal(options.streams, 1);

    assert_int_equal(read_line("whip https://h/whip/%d --sessions=3 --first-stream 7"), 0);
    assert_int_equal(options.protocol->role, BEES_WHIP);
    assert_int_equal(options_url(&options, 2, url), 0);
    assert_string_equal(url, "https://h/whip/9");

    assert_int_equal(read_line("capacity http://h/s --max-loss 0.1% --drop 5% --burst-length 2"),
                     0);
    assert_int_equal(options.command, COMMAND_CAPACITY);
    assert_true(options.max_loss > 0.00099 && options.max_loss < 0.00101);
    assert_true(options.impair.loss == 0.05 && options.impair.burst_end == 0.5);

    assert_int_equal(read_line("watch-failover http://h/s --away 20"), 0);
    assert_int_equal(options.mode, MODE_WATCH);
    assert_int_equal(read_line("whep http://h/s --mode churn --stay 3"), 0);
    assert_int_equal(options.mode, MODE_CHURN);
    assert_int_equal(read_line("whep http://h/s --srtp sha1,gcm128 --codecs h264"), 0);
    assert_int_equal(options.profiles, 2);
    assert_int_equal(options.profile[0], PROFILE_AES128_CM_SHA1_80);
    assert_int_equal(options.codec_count, 1);
    assert_int_equal(read_line("whep http://h/s --sessions 2000 --duration 30"), 0);
    assert_true(options.rate == 200); // all have begun after a third of the time
    assert_int_equal(read_line("whep http://h/s"), 0);
    assert_true(options.rate == 20);
    assert_int_equal(read_line("--help"), 1);
    assert_non_null(strstr(out_text, "--max-loss"));
}

static void test_bad_lines(void **state)
{
    static const char *lines[] = {
        "",
        "whep",
        "fly http://h/s",
        "whep ftp://h/s",
        "whep http://h/s http://h/t",
        "whep http://h/s --sessions",
        "whep http://h/s --sessions 0",
        "whep http://h/s --sessions 1e9",
        "whep http://h/s --sessions 2.5",
        "whep http://h/s --sessions x",
        "whep http://h/s --duration 1e99",
        "whep http://h/s --duration nan",
        "whep http://h/s --drop 2",
        "whep http://h/s --drop 5%%",
        "whep http://h/s --json=1",
        "whep http://h/s --nosuch",
        "whep http://h/s --mode fast",
        "whep http://h/s --codecs opus,mp3",
        "whep http://h/s --srtp null",
        "whep http://h/s --no-audio --no-video",
        "whep http://h/s --token \xff\xff",
        "whep http://h/s --token-file /nonexistent",
        "whep http://h/s --protocol whip",
        "capacity http://h/s --min 5 --max 4",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_int_equal(read_line(lines[i]), -EINVAL);
        assert_non_null(strstr(err_text, "hitless-bees: "));
    }
}

static void test_token_is_kept_secret(void **state)
{
    assert_int_equal(read_line("whep http://h/s --token geheim --json"), 0);
    assert_string_equal(options.token_text, "geheim");
    assert_null(strstr(options.line, "geheim"));
    assert_non_null(strstr(options.line, "--json"));
    assert_int_equal(read_line("whep http://h/s --token=geheim"), 0);
    assert_string_equal(options.token_text, "geheim");
    assert_null(strstr(options.line, "geheim"));
    setenv("HITLESS_BEES_TOKEN", "environment", 1);
    assert_int_equal(read_line("whep http://h/s"), 0);
    assert_string_equal(options.token_text, "environment");
    unsetenv("HITLESS_BEES_TOKEN");
}

static void test_guard(void **state)
{
    static const struct {
        const char *ip;
        bool own;
    } rows[] = {
        {"127.0.0.1", true},
        {"10.255.255.255", true},
        {"11.0.0.0", false},
        {"172.15.255.255", false},
        {"172.16.0.0", true},
        {"172.31.255.255", true},
        {"172.32.0.0", false},
        {"192.168.1.1", true},
        {"192.169.0.1", false},
        {"169.254.9.9", true},
        {"100.64.0.1", true},
        {"100.128.0.1", false},
        {"198.19.0.1", true},
        {"8.8.8.8", false},
        {"0.0.0.0", false},
        {"224.0.0.1", false},
        {"255.255.255.255", false},
        {"::1", true},
        {"::", false},
        {"fd77::1", true},
        {"fe80::1", true},
        {"fec0::1", false},
        {"2001:2::1", true},
        {"2001:db8::1", false},
        {"2606:4700::1", false},
        {"ff02::1", false},
    };
    struct abi_addr addr;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(net_parse(&addr, rows[i].ip, 1));
        assert_int_equal(net_is_own(&addr), rows[i].own);
    }
    assert_false(net_parse(&addr, "host.local", 1));
}

// IPv4 addresses stay IPv4 on a socket of both families: the guard must see through the mapping.
static void test_addresses_both_ways(void **state)
{
    static const char *texts[] = {"10.1.2.3:80", "[fd00::1]:80"};
    struct sockaddr_storage storage;
    struct abi_addr addr, back;
    char text[NET_TEXT];
    for (int i = 0; i < 2; i++) {
        net_parse(&addr, i == 0 ? "10.1.2.3" : "fd00::1", 80);
        assert_true(net_to_sockaddr(&storage, &addr, AF_INET6) > 0);
        net_from_sockaddr(&back, (struct sockaddr *)&storage);
        assert_true(net_same(&addr, &back));
        net_text(text, &back);
        assert_string_equal(text, texts[i]);
    }
    assert_int_equal(net_to_sockaddr(&storage, &addr, AF_INET), 0); // IPv6 through IPv4
}

static void test_verdicts(void **state)
{
    static struct bees_result r;
    read_line("whep http://h/s --sessions 10");
    r = (struct bees_result){.sessions = 10, .wanted = 10, .connected = 10};
    r.count.packets = 1000;
    assert_int_equal(result_status(&r, &options), 0);
    r.count.lost = 100; // measured, not bounded
    assert_int_equal(result_status(&r, &options), 0);
    read_line("whep http://h/s --sessions 10 --max-loss 5%");
    assert_int_equal(result_status(&r, &options), 1);
    assert_int_equal(capacity_judge(&r, &options), SEARCH_FAIL);
    r.busiest_worker = 0.99; // we, not the server
    assert_int_equal(capacity_judge(&r, &options), SEARCH_LIMITED);
    r.busiest_worker = 0.1;
    r.starved_worker = 0.9;
    assert_int_equal(capacity_judge(&r, &options), SEARCH_LIMITED);
    r.count.lost = 10;
    assert_int_equal(capacity_judge(&r, &options), SEARCH_PASS);
    assert_int_equal(result_status(&r, &options), 0);
    hist_add(&r.hist[BEES_DIST_join], 5000000);
    r.starved_worker = 0;
    assert_int_equal(capacity_judge(&r, &options), SEARCH_FAIL);
    r.failed = 1;
    r.failures[BEES_FAILURE_fd_limit] = 1;
    assert_int_equal(capacity_judge(&r, &options), SEARCH_LIMITED);
    assert_int_equal(result_status(&r, &options), 1);
    r.interrupted = true;
    assert_int_equal(result_status(&r, &options), 130);
    r.count.index_reuse = 1; // says more than anything else
    assert_int_equal(result_status(&r, &options), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_lines),           cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_token_is_kept_secret), cmocka_unit_test(test_guard),
        cmocka_unit_test(test_addresses_both_ways),  cmocka_unit_test(test_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
