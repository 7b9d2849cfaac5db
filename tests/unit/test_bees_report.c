// The report: its words, its figures, that it is one well-formed page that fetches nothing, and
// that what comes from outside stays text. BEES_REPORT_OUT=FOLDER keeps the pages, to be looked at.
#include "../bees/report.h"
#include "../bees/report_text.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct bees_result result;
static struct timeline timeline;
static struct search search;
static struct report report;
static char *page;
static size_t page_size;

static double uniform(void)
{
    return (double)random() / (double)RAND_MAX;
}

// Something like the value that half stay below.
static uint64_t around(double median, double spread)
{
    double sum = 0;
    for (unsigned i = 0; i < 6; i++)
        sum += uniform() - 0.5;
    return (uint64_t)(median * exp(sum * spread));
}

static void fresh(const char *protocol, const char *mode)
{
    free(result.session);
    memset(&result, 0, sizeof(result));
    memset(&timeline, 0, sizeof(timeline));
    report =
        (struct report){.result = &result,
                        .command = "hitless-bees whep http://10.0.0.1/whep/s%d --sessions 1000",
                        .host = "edge-test, 2 cores",
                        .began = 1790000000};
    snprintf(result.url, sizeof(result.url), "http://10.0.0.1:8080/whep/s%%d");
    result.protocol = protocol;
    result.mode = mode;
    srandom(1);
}

// A run of viewers; the server takes 980 of 1000 and has a bad moment in the middle.
static void viewers(unsigned seconds)
{
    result.wanted = result.sessions = 1000;
    result.connected = 980;
    result.failed = 20;
    result.failures[BEES_FAILURE_busy] = 17;
    result.failures[BEES_FAILURE_ice_timeout] = 3;
    result.duration_s = seconds;
    result.cpu_s = seconds * 0.83;
    result.busiest_worker = 0.62;
    result.workers = 2;
    result.session = calloc(result.sessions, sizeof(*result.session));
    for (unsigned i = 0; i < result.sessions; i++) {
        struct bees_session *session = &result.session[i];
        session->number = i;
        session->connected = i < 980;
        session->failure = i < 980 ? BEES_FAILURE_none : BEES_FAILURE_busy;
        session->max_gap_ns = around(70e6, 1.0);
        session->max_gap_at_ns = (uint64_t)(uniform() * seconds * 1e9);
        session->count.lost = i % 50 == 0 ? 3 : 0;
        session->count.recovered = i % 7;
        session->paths = 1;
        snprintf(session->path[0], sizeof(session->path[0]), "10.0.0.1:7000");
        if (session->connected)
            hist_add(&result.hist[BEES_DIST_max_gap], session->max_gap_ns / 1000);
    }
    for (unsigned i = 0; i < 980; i++) {
        uint64_t post = around(9000, 0.8), ice = post + around(2000, 0.5),
                 dtls = ice + around(6000, 0.7), packet = dtls + around(4000, 1.2);
        hist_add(&result.hist[BEES_DIST_post], post);
        hist_add(&result.hist[BEES_DIST_ice], ice);
        hist_add(&result.hist[BEES_DIST_dtls], dtls);
        hist_add(&result.hist[BEES_DIST_packet], packet);
        hist_add(&result.hist[BEES_DIST_join], packet);
        hist_add(&result.hist[BEES_DIST_keyframe], packet + around(60000, 1.5));
        hist_add(&result.hist[BEES_DIST_jitter], around(800, 1));
        hist_add(&result.hist[BEES_DIST_rtt], around(180, 0.4));
    }
    for (unsigned i = 0; i < 50000; i++)
        hist_add(&result.hist[BEES_DIST_latency], around(i % 9 ? 450 : 3000, 0.8));
    for (unsigned i = 0; i < 900; i++)
        hist_add(&result.hist[BEES_DIST_recovery], around(12000, 0.9));
    for (unsigned i = 0; i < seconds; i++) {
        bool bad = i > seconds / 2 && i < seconds / 2 + 5;
        unsigned up = i * 50 < 980 ? (i + 1) * 50 : 980;
        struct timeline_sample sample = {.at_s = i + 1,
                                         .length_s = 1,
                                         .sessions = up > 980 ? 980 : up,
                                         .joins = up < 980 ? 50 : 0,
                                         .failures = up < 980 ? 1 : 0,
                                         .packets = up * 100ull,
                                         .bytes = up * around(125000, 0.1),
                                         .missing = bad ? up * 4ull : (uint64_t)random() % 5,
                                         .lost = bad ? up / 10 : 0,
                                         .freezes = bad ? up / 20 : 0,
                                         .gap_max_us = around(bad ? 400000 : 60000, 0.4),
                                         .latency_p50_us = i < 4 ? 0 : around(450, 0.1),
                                         .latency_p99_us = i < 4 ? 0 : around(3500, 0.4),
                                         .join_p50_us = up < 980 ? around(21000, 0.2) : 0,
                                         .join_max_us = up < 980 ? around(60000, 0.4) : 0,
                                         .cpu_us = up * 850ull};
        timeline_add(&timeline, &sample);
        result.count.packets += sample.packets;
        result.count.bytes += sample.bytes;
        result.count.missing += sample.missing;
        result.count.lost += sample.lost;
        result.count.freezes += sample.freezes;
    }
    result.count.recovered = 900;
    result.count.nacks = 1100;
    result.count.frozen_ms = 8200;
    timeline_mark(&timeline, seconds / 2.0, "server reconfigured");
    report.timeline = &timeline;
}

static void print(const char *name)
{
    char path[256];
    const char *folder = getenv("BEES_REPORT_OUT");
    free(page);
    FILE *out = open_memstream(&page, &page_size);
    assert_non_null(out);
    assert_int_equal(report_print(out, &report), 0);
    assert_int_equal(fclose(out), 0);
    if (!folder)
        return;
    snprintf(path, sizeof(path), "%s/%s.html", folder, name);
    assert_int_equal(report_write(path, &report), 0);
}

// Every element that has to be closed is, in the right order; nothing is fetched.
static void check_page(void)
{
    static const char *const single[] = {"meta", "path", "hr", "!doctype"};
    static char stack[64][16];
    unsigned depth = 0;
    for (const char *at = page; (at = strchr(at, '<')); at++) {
        char name[16] = "";
        bool close = at[1] == '/', alone = false;
        size_t length = strcspn(at + 1 + close, " >/");
        assert_in_range(length, 1, sizeof(name) - 1);
        memcpy(name, at + 1 + close, length);
        for (unsigned i = 0; i < sizeof(single) / sizeof(single[0]); i++)
            alone |= strcmp(name, single[i]) == 0;
        const char *end = strchr(at, '>');
        assert_non_null(end);
        alone = strcmp(name, "path") == 0 ? end[-1] == '/' : alone;
        if (strcmp(name, "script") == 0 && !close)
            at = strstr(at, "</script>") - 1; // its own text is not HTML
        if (alone)
            continue;
        if (!close) {
            assert_in_range(depth, 0, 62);
            memcpy(stack[depth++], name, sizeof(name));
            continue;
        }
        assert_true(depth > 0);
        if (strcmp(stack[--depth], name) != 0)
            fail_msg("</%s> closes <%s>: %.80s", name, stack[depth], at);
    }
    assert_int_equal(depth, 0);
    static const char *const never[] = {" src=", " href=", "url(", "@import",
                                        "NaN",   "nan",    "inf,", "(null)"};
    for (unsigned i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        if (strstr(page, never[i]))
            fail_msg("%s in the page: %.60s", never[i], strstr(page, never[i]) - 20);
}

static void assert_headline(const char *wanted)
{
    char headline[400];
    report_headline(&report, headline, sizeof(headline));
    assert_string_equal(headline, wanted);
    // Cut anywhere, it still ends.
    for (size_t size = 1; size < sizeof(headline); size += 7) {
        memset(headline, 'x', sizeof(headline));
        report_headline(&report, headline, size);
        assert_true(strnlen(headline, size) < size);
    }
}

static void test_figures(void **state)
{
    assert_string_equal(text_count(0).at, "0");
    assert_string_equal(text_count(999).at, "999");
    assert_string_equal(text_count(1234567).at, "1,234,567");
    assert_string_equal(text_count(-1234).at, "-1,234");
    assert_string_equal(text_count(0.5).at, "0.50");
    assert_string_equal(text_count(1e300).at, "1e+300");
    assert_string_equal(text_bits(0).at, "0 bit/s");
    assert_string_equal(text_bits(999.9e3).at, "1 Mbit/s");
    assert_string_equal(text_bits(1.25e9).at, "1.25 Gbit/s");
    assert_string_equal(text_fraction(0).at, "0 %");
    assert_string_equal(text_fraction(0.5).at, "50 %");
    assert_string_equal(text_fraction(1).at, "100 %");
    assert_string_equal(text_fraction(0.00012).at, "0.012 %");
    assert_string_equal(text_fraction(1e-12).at, "0.0001 %");
    assert_string_equal(text_us(0).at, "0 µs");
    assert_string_equal(text_us(1500).at, "1.5 ms");
    assert_string_equal(text_us(100e3).at, "100 ms");
    assert_string_equal(text_us(119e6).at, "119 s");
    assert_string_equal(text_us(185e6).at, "3 min 5 s");
    assert_string_equal(text_us(1e18).at, "16666666666 min 40 s");
    assert_string_equal(text_clock(59.4).at, "59 s");
    assert_string_equal(text_clock(185).at, "3:05");
    assert_string_equal(text_clock(7384).at, "2:03:04");
}

static void test_headlines(void **state)
{
    fresh("whep", "steady");
    result.sessions = 100;
    assert_headline("Not one of 100 sessions got through.");
    result.failed = result.failures[BEES_FAILURE_server_absent] = 100;
    assert_headline("Not one of 100 sessions got through: no connection to the server: refused, "
                    "unreachable or no such host.");
    assert_int_equal(report_judge(&report), REPORT_BAD);
    result.connected = 100;
    result.failed = result.failures[BEES_FAILURE_server_absent] = 0;
    result.count.packets = 99990;
    assert_int_equal(report_judge(&report), REPORT_GOOD);
    assert_headline(
        "All 100 sessions joined; every packet arrived, and no picture ever stood still.");
    result.sessions = 1;
    assert_headline("The session joined; every packet arrived, and no picture ever stood still.");
    result.count.recovered = 1500;
    assert_headline(
        "The session joined; every packet arrived, 1,500 of them on request, and no picture "
        "ever stood still.");
    result.failed = result.failures[BEES_FAILURE_media_stopped] = 1;
    result.count.recovered = 0;
    assert_headline("The session failed: media stopped and did not come back; until then, every "
                    "packet arrived, and no picture ever stood still.");
    result.sessions = result.connected = 2;
    result.failed = result.failures[BEES_FAILURE_media_stopped] = 2;
    assert_headline(
        "2 of 2 sessions failed, media stopped and did not come back; until then, every "
        "packet arrived, and no picture ever stood still.");
    result.failed = result.failures[BEES_FAILURE_media_stopped] = 0;
    result.sessions = result.connected = 100;
    result.count.lost = 10;
    result.count.freezes = 1;
    result.count.frozen_ms = 250;
    assert_int_equal(report_judge(&report), REPORT_WARN);
    assert_headline("All 100 sessions joined; 0.01 % of the packets never came, and pictures stood "
                    "still 1 time, for 250 ms in sum.");
    result.failed = result.failures[BEES_FAILURE_unauthorized] = 2;
    result.headers_only = true;
    assert_headline(
        "2 of 100 sessions failed, the token is missing or wrong; of the others, 0.01 % of "
        "the packets never came.");
    result.count.index_reuse = 1;
    assert_int_equal(report_judge(&report), REPORT_BAD);
    assert_headline(
        "Security failure: 1 packet was sealed with a key and index that had protected other "
        "bytes before.");
}

static void test_run_of_viewers(void **state)
{
    fresh("whep", "steady");
    viewers(60);
    static const struct report_fact facts[] = {{"Impairment", "1 % loss, 20 ms delay"}};
    report.facts = facts;
    report.fact_count = 1;
    print("viewers");
    check_page();
    assert_non_null(strstr(page, "20 of 1,000&nbsp;sessions failed"));
    assert_non_null(strstr(page, "the server takes no more (429, 503)"));
    assert_non_null(strstr(page, "server reconfigured"));
    assert_non_null(strstr(page, "1&nbsp;% loss, 20&nbsp;ms delay"));
    assert_non_null(strstr(page, "Latency of frames"));
    assert_true(page_size < 300000);
}

static void test_long_run(void **state)
{
    fresh("whep", "churn");
    viewers(7000);
    print("long");
    check_page();
    assert_true(page_size < 700000);
}

static void test_publishers(void **state)
{
    fresh("whip", "ramp");
    result.wanted = result.sessions = result.connected = 40;
    result.duration_s = 30;
    result.cpu_s = 4;
    result.workers = 1;
    result.count.sent_packets = 120000;
    result.count.sent_bytes = 150000000;
    result.count.keyframe_requests = 80;
    for (unsigned i = 0; i < 40; i++) {
        uint64_t post = around(4000, 0.8);
        hist_add(&result.hist[BEES_DIST_post], post);
        hist_add(&result.hist[BEES_DIST_join], post + 9000);
    }
    for (unsigned i = 0; i < 30; i++) {
        struct timeline_sample sample = {.at_s = i + 1,
                                         .length_s = 1,
                                         .sessions = i < 10 ? i * 4 : 40,
                                         .joins = i < 10 ? 4 : 0,
                                         .sent_bytes = 5000000};
        timeline_add(&timeline, &sample);
    }
    report.timeline = &timeline;
    print("publishers");
    check_page();
    assert_non_null(strstr(page, "Bit rate published"));
    assert_null(strstr(page, "Bit rate received"));
    assert_headline(
        "All 40 sessions joined; 40 Mbit/s were published on average, and the server missed "
        "nothing.");
}

static void test_capacity(void **state)
{
    struct search_trial trial;
    struct search_config config = {.start = 100, .max = 20000};
    fresh("whep", "capacity");
    viewers(40);
    assert_int_equal(search_init(&search, &config), 0);
    while (search_next(&search, &trial))
        search_report(&search, trial.load > 1850 ? SEARCH_FAIL : SEARCH_PASS);
    report.search = &search;
    report.figures_of = "the best trial";
    report.max_loss = 0.001;
    report.max_join_ms = 1500;
    print("capacity");
    check_page();
    assert_non_null(strstr(page, "of the best trial"));
    assert_int_equal(report_judge(&report), REPORT_GOOD);
    assert_non_null(strstr(page, "at most 0.1&nbsp;% of the packets are lost and 99&nbsp;% of the "
                                 "sessions join within 1.5&nbsp;s"));
    assert_headline("The server’s capacity is between 1,850 sessions, which it carried, and 1,900, "
                    "which were too many.");
}

static void test_watch_failover(void **state)
{
    fresh("whep", "watch-failover");
    viewers(30);
    result.failed = 0;
    for (unsigned i = 0; i < 980; i++) {
        struct bees_session *session = &result.session[i];
        session->gaps = 1;
        session->away_ns = session->max_gap_ns = around(31e6, 0.5);
        session->paths = 2;
        snprintf(session->path[1], sizeof(session->path[1]), "10.0.0.2:7000");
        hist_add(&result.hist[BEES_DIST_away], session->away_ns / 1000);
    }
    result.session[3].count.handshakes = 2;
    result.session[3].away_ns = UINT32_MAX;
    print("failover");
    check_page();
    assert_non_null(strstr(page, "10.0.0.1:7000 → 10.0.0.2:7000"));
    assert_non_null(strstr(page, "new DTLS handshake"));
    assert_non_null(strstr(page, "50 of 980 are shown"));
    assert_non_null(
        strstr(page, "980 of 1,000&nbsp;sessions joined; media stopped for 980 of them, half of "));
    assert_non_null(strstr(page, "; 1 had to negotiate anew."));
    result.session[3].count.handshakes = 1;
    hist_clear(&result.hist[BEES_DIST_away]);
    assert_headline("980 of 1,000 sessions joined; media never stopped.");
    hist_add(&result.hist[BEES_DIST_away], 40000);
    assert_headline(
        "980 of 1,000 sessions joined; media stopped for 980 of them, half of the times for up to "
        "40 ms, at most for 40 ms; nothing was renegotiated.");
}

// Nothing measured, nothing begun: still a page.
static void test_empty_run(void **state)
{
    fresh("whep", "storm");
    report.command = report.host = NULL;
    print("empty");
    check_page();
    result.failed = result.sessions = result.wanted = 500;
    result.failures[BEES_FAILURE_server_absent] = 500;
    result.duration_s = 2;
    print("absent");
    check_page();
    struct timeline_sample sample = {0};
    timeline_add(&timeline, &sample);
    timeline_add(&timeline, &sample);
    report.timeline = &timeline;
    hist_add(&result.hist[BEES_DIST_join], 0);
    hist_add(&result.hist[BEES_DIST_away], UINT64_MAX / 2);
    print("zeros");
    check_page();
}

static void test_hostile_texts(void **state)
{
    static const char evil[] = "</title><script>alert('1')</script>\"&\x1b[31m";
    static const struct report_fact facts[] = {{evil, evil}};
    fresh("whep", "steady");
    viewers(10);
    snprintf(result.url, sizeof(result.url), "%s", evil);
    snprintf(result.session[0].path[0], sizeof(result.session[0].path[0]), "%s", evil);
    result.session[0].max_gap_ns = 9000000000;
    timeline_mark(&timeline, 5, evil);
    report.command = report.host = evil;
    report.facts = facts;
    report.fact_count = 1;
    print("hostile");
    check_page();
    assert_null(strstr(page, "<script>alert"));
    assert_null(strchr(page, 0x1b));
    assert_non_null(strstr(
        page, "&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp; [31m"));
}

static void test_writes_whole_files_or_none(void **state)
{
    char folder[] = "/tmp/test-bees-report-XXXXXX", path[64], command[128];
    struct stat before;
    fresh("whep", "steady");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/r.html", folder);
    mode_t mask = umask(027);
    assert_int_equal(report_write(path, &report), 0);
    umask(mask);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_mode & 0777, 0640);
    assert_true(before.st_size > 1000);
    snprintf(path, sizeof(path), "%s/no/r.html", folder);
    assert_int_equal(report_write(path, &report), -ENOENT);
    snprintf(path, sizeof(path), "%s", folder); // a folder cannot be replaced
    assert_true(report_write(path, &report) < 0);
    snprintf(command, sizeof(command), "rm %s/r.html && rmdir %s", folder, folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),        cmocka_unit_test(test_headlines),
        cmocka_unit_test(test_run_of_viewers), cmocka_unit_test(test_long_run),
        cmocka_unit_test(test_publishers),     cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_watch_failover), cmocka_unit_test(test_empty_run),
        cmocka_unit_test(test_hostile_texts),  cmocka_unit_test(test_writes_whole_files_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
