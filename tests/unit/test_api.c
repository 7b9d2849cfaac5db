// What operators and Prometheus see, against a fake set of sessions and counters in a real channel.
#include "../../controlplane/api.h"
#include "../../controlplane/commands.h"
#include "../../controlplane/metrics.h"
#include "fake_sessions.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define S 1000000000ull

struct fixture {
    struct fake_node node;
    struct api *api;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_int_equal(fake_setup(&f->node), 0);
    channel_beat(&f->node.dp, S, true);
    assert_int_equal(api_new(&f->api, &f->node.cp, NULL, S), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    api_free(f->api);
    fake_teardown(&f->node);
    free(f);
    return 0;
}

static const char *text(const json_t *o, const char *key)
{
    const char *value = json_string_value(json_object_get(o, key));
    return value != NULL ? value : "(none)";
}

static long long number(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static json_t *row(const json_t *answer, const char *key, size_t index)
{
    return json_array_get(json_object_get(answer, key), index);
}

static void status_sums_up(void **state)
{
    struct fixture *f = *state;
    json_t *o = api_status(f->api, S + 10);
    assert_string_equal(text(o, "node"), "a");
    assert_string_equal(text(o, "state"), "ready");
    assert_true(json_is_true(json_object_get(o, "ready")));
    assert_string_equal(text(json_object_get(o, "dataplane"), "state"), "alive");
    assert_int_equal(number(json_object_get(o, "dataplane"), "pid"), getpid());
    assert_int_equal(number(json_object_get(o, "controlplane"), "pid"), getpid());
    assert_int_equal(number(o, "publishers"), 1);
    assert_int_equal(number(o, "viewers"), 1);
    assert_int_equal(number(o, "sessions"), 2);
    assert_int_equal(number(o, "max_sessions"), 6);
    assert_int_equal(number(o, "streams"), 2);
    assert_int_equal(number(o, "streams_live"), 1);
    json_decref(o);
}

static void status_follows_the_dataplane(void **state)
{
    struct fixture *f = *state;
    json_t *o = api_status(f->api, S + S);
    assert_string_equal(text(o, "state"), "stalled");
    json_decref(o);
    channel_beat(&f->node.dp, S, false);
    o = api_status(f->api, S);
    assert_string_equal(text(o, "state"), "starting");
    assert_true(json_is_false(json_object_get(o, "ready")));
    json_decref(o);
    channel_beat(&f->node.dp, S, true);
    channel_set_mode(&f->node.cp, ABI_MODE_DRAIN);
    o = api_status(f->api, S);
    assert_string_equal(text(o, "state"), "drain");
    json_decref(o);
    channel_close(&f->node.dp);
    o = api_status(f->api, S);
    assert_string_equal(text(o, "state"), "down");
    json_decref(o);
}

static void rates_are_differences_of_samples(void **state)
{
    struct fixture *f = *state;
    struct stats_worker *worker = channel_worker_stats(&f->node.dp, 1);
    worker->count[COUNT_tx_packets] = 5000;
    worker->count[COUNT_tx_bytes] = 1000000;
    worker->count[COUNT_cycles_busy] = 3000000;
    worker->count[COUNT_cycles_idle] = 1000000;
    worker->drop[DROP_tx_full] = 20;
    worker->frames_waiting = 5;
    worker->media_waiting = 6;
    worker->ring_packets = 700;
    json_t *o = api_workers(f->api, S + S / 2); // too early for a sample
    assert_int_equal(number(row(o, "workers", 1), "tx_packets_rate"), 0);
    json_decref(o);
    o = api_workers(f->api, 3 * S); // two seconds after the first
    assert_int_equal(number(row(o, "workers", 1), "tx_packets_rate"), 2500);
    assert_int_equal(number(row(o, "workers", 1), "tx_bitrate"), 4000000);
    assert_int_equal(number(row(o, "workers", 1), "cycles_per_packet"), 600);
    assert_int_equal(number(row(o, "workers", 1), "dropped"), 20);
    assert_true(json_real_value(json_object_get(row(o, "workers", 1), "busy_percent")) == 75.0);
    assert_true(json_real_value(json_object_get(row(o, "workers", 1), "idle_percent")) == 25.0);
    assert_int_equal(number(row(o, "workers", 1), "frames_waiting"), 5);
    assert_int_equal(number(row(o, "workers", 1), "media_waiting"), 6);
    assert_int_equal(number(row(o, "workers", 1), "ring_packets"), 700);
    assert_int_equal(number(json_object_get(row(o, "workers", 1), "counts"), "tx_packets"), 5000);
    assert_int_equal(number(row(o, "workers", 0), "tx_packets_rate"), 0);
    json_decref(o);
    o = api_status(f->api, 3 * S + 1); // everyone gets the same window
    assert_int_equal(number(o, "tx_packets_rate"), 2500);
    json_decref(o);
    o = api_drops(f->api, 3 * S + 1);
    assert_string_equal(text(row(o, "drops", 0), "name"), "tx_full");
    assert_int_equal(number(row(o, "drops", 0), "packets"), 20);
    assert_int_equal(number(row(o, "drops", 0), "packets_rate"), 10);
    assert_int_equal(json_array_size(json_object_get(o, "drops")), DROPS);
    json_decref(o);
    worker->count[COUNT_tx_packets] = 10; // another dataplane
    o = api_workers(f->api, 4 * S);
    assert_int_equal(number(row(o, "workers", 1), "tx_packets_rate"), 0);
    json_decref(o);
}

// A column without its field would be shown empty.
static void columns_are_fields(void **state)
{
    static const char *const views[] = {"workers", "stages", "drops", "ports", "streams"};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        char request[64];
        int n = snprintf(request, sizeof(request), "{\"command\":\"show %s\",\"columns\":true}",
                         views[i]);
        json_t *o = command_answer(f->api, request, (size_t)n, S);
        const json_t *columns = json_object_get(o, "columns");
        assert_true(json_array_size(columns) > 3);
        for (size_t c = 0; c < json_array_size(columns); c++) {
            const char *field = text(json_array_get(columns, c), "field");
            if (json_object_get(row(o, views[i], 0), field) == NULL)
                fail_msg("show %s: no %s", views[i], field);
        }
        json_decref(o);
    }
}

static void asking_for_stages_has_them_counted(void **state)
{
    struct fixture *f = *state;
    struct stats_worker *worker = channel_worker_stats(&f->node.dp, 1);
    assert_int_equal(channel_stages_until(&f->node.dp), 0);
    json_t *first = api_stages(f->api, S);
    assert_int_equal(number(first, "ask_again_ms"), 2000);
    json_decref(first);
    assert_int_equal(channel_stages_until(&f->node.dp), S + API_STAGES_NS);
    worker->count[COUNT_rtp_out] = 1000;
    worker->stage_cycles[STAGE_seal] = 300000;
    worker->stage_cycles[STAGE_finish] = 100000;
    json_t *o = api_stages(f->api, 2 * S);
    assert_null(json_object_get(o, "ask_again_ms"));
    const json_t *seal = row(o, "stages", STAGE_seal);
    assert_string_equal(text(seal, "stage"), "seal");
    assert_int_equal(number(seal, "cycles_per_packet"), 300);
    assert_true(json_real_value(json_object_get(seal, "share_percent")) == 75.0);
    assert_int_equal(number(row(o, "stages", STAGE_stun), "cycles_per_packet"), 0);
    json_decref(o);
}

static void workers_tell_their_state(void **state)
{
    struct fixture *f = *state;
    channel_worker_stats(&f->node.dp, 0)->progress_ns = S;
    channel_worker_stats(&f->node.dp, 1)->progress_ns = S - 200000000;
    json_t *o = api_workers(f->api, S + 5000000);
    assert_string_equal(text(row(o, "workers", 0), "state"), "running");
    assert_int_equal(number(row(o, "workers", 0), "progress_age_ms"), 5);
    assert_string_equal(text(row(o, "workers", 1), "state"), "stalled");
    json_decref(o);
    channel_close(&f->node.dp);
    o = api_workers(f->api, S + 5000000);
    assert_string_equal(text(row(o, "workers", 0), "state"), "down");
    json_decref(o);
}

static void streams_come_by_name(void **state)
{
    struct fixture *f = *state;
    json_t *o = api_streams(f->api, S);
    assert_int_equal(json_array_size(json_object_get(o, "streams")), 2);
    const json_t *demo = row(o, "streams", 0), *zoo = row(o, "streams", 1);
    assert_string_equal(text(demo, "name"), "demo");
    assert_true(json_is_true(json_object_get(demo, "live")));
    assert_string_equal(text(demo, "video"), "VP8");
    assert_int_equal(number(demo, "viewers"), 1);
    assert_int_equal(number(demo, "keyframes"), 9);
    assert_string_equal(text(zoo, "name"), "zoo");
    assert_true(json_is_null(json_object_get(zoo, "video")));
    assert_null(json_object_get(zoo, "packets")); // unknown, not 0
    json_decref(o);
}

static void sessions_are_sorted_and_keep_their_secret(void **state)
{
    struct fixture *f = *state;
    json_t *o = api_sessions(f->api, NULL, S);
    const json_t *publisher = row(o, "sessions", 0), *viewer = row(o, "sessions", 1);
    assert_string_equal(text(publisher, "role"), "publish");
    assert_string_equal(text(publisher, "phase"), "new");
    assert_null(json_object_get(publisher, "bitrate"));
    assert_string_equal(text(viewer, "session"), "aaaabbbbcc");
    assert_string_equal(text(viewer, "profile"), "AEAD_AES_128_GCM");
    assert_string_equal(text(viewer, "remote"), "192.0.2.7:50000");
    assert_int_equal(number(viewer, "bitrate"), 1200000);
    assert_int_equal(number(viewer, "silent_ms"), 1);
    char *all = json_dumps(o, 0);
    assert_null(strstr(all, "aaaabbbbccc"));
    free(all);
    json_decref(o);
    o = api_sessions(f->api, "other", S);
    assert_int_equal(json_array_size(json_object_get(o, "sessions")), 0);
    json_decref(o);
}

static void many_sessions_are_cut_and_counted(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < API_SESSIONS_MAX + 7; i++)
        fake_session[i] = fake_session[0];
    fake_sessions = API_SESSIONS_MAX + 7;
    json_t *o = api_sessions(f->api, NULL, S);
    assert_int_equal(json_array_size(json_object_get(o, "sessions")), API_SESSIONS_MAX);
    assert_int_equal(number(o, "left_out"), 7);
    json_decref(o);
}

static void port_names_are_cleaned(void **state)
{
    struct fixture *f = *state;
    struct stats_port *port = channel_port_stats(&f->node.dp);
    memset(port->device, 'd', sizeof(port->device)); // no NUL anywhere
    port->device[1] = '\x1b';
    port->device[2] = (char)0xff;
    snprintf(port->driver, sizeof(port->driver), "net_af_xdp");
    port->mac[5] = 0xab;
    port->link_up = 1;
    port->rx_missed = 3;
    json_t *o = api_ports(f->api, S);
    const json_t *p = row(o, "ports", 0);
    assert_int_equal(strlen(text(p, "device")), sizeof(port->device));
    assert_memory_equal(text(p, "device"), "d??d", 4);
    assert_string_equal(text(p, "driver"), "net_af_xdp");
    assert_string_equal(text(p, "mac"), "00:00:00:00:00:ab");
    assert_true(json_is_true(json_object_get(p, "link_up")));
    assert_int_equal(number(p, "rx_missed"), 3);
    json_decref(o);
}

static void peers_name_the_dataplane(void **state)
{
    struct fixture *f = *state;
    json_t *o = api_peers(f->api, S);
    assert_string_equal(text(row(o, "peers", 0), "peer"), "dataplane");
    assert_string_equal(text(row(o, "peers", 0), "state"), "alive");
    json_decref(o);
}

static void kick_needs_one_match(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(api_kick(f->api, "aaaa"), -ENOTUNIQ);
    assert_int_equal(api_kick(f->api, "bbbb"), -ENOENT);
    assert_int_equal(api_kick(f->api, "aaaabbbbccccddddeeeeffffgggghhhhi"), -ENOENT);
    assert_null(fake_closed);
    assert_int_equal(api_kick(f->api, "aaaaz"), 0);
    assert_ptr_equal(fake_closed, fake_session[1].token);
}

// ---- metrics

static void has(const char *text_, const char *line)
{
    char with_newline[256];
    snprintf(with_newline, sizeof(with_newline), "\n%s\n", line);
    if (strstr(text_, with_newline) == NULL)
        fail_msg("no line: %s", line);
}

static void metrics_have_every_name(void **state)
{
    struct fixture *f = *state;
    char *out;
    size_t size;
    channel_worker_stats(&f->node.dp, 0)->count[COUNT_rtp_out] = 77;
    channel_worker_stats(&f->node.dp, 1)->drop[DROP_no_mbuf] = 5;
    channel_worker_stats(&f->node.dp, 1)->cache_free = 123;
    channel_worker_stats(&f->node.dp, 1)->progress_ns = S / 2;
    channel_port_stats(&f->node.dp)->tx_bytes = 1ull << 40;
    assert_int_equal(metrics_write(f->api, S, &out, &size), 0);
    assert_int_equal(strlen(out), size);
    has(out, "# TYPE hitless_worker_rtp_out_total counter");
    has(out, "# HELP hitless_worker_rtp_out_total media packets sealed for viewers");
    has(out, "hitless_worker_rtp_out_total{worker=\"0\"} 77");
    has(out, "hitless_dropped_packets_total{worker=\"1\",reason=\"no_mbuf\"} 5");
    has(out, "hitless_worker_cache_blocks_free{worker=\"1\"} 123");
    has(out, "hitless_worker_progress_age_seconds{worker=\"1\"} 0.500");
    has(out, "hitless_port_tx_bytes_total 1099511627776");
    has(out, "hitless_dataplane_ready 1");
    has(out, "hitless_sessions{role=\"play\",phase=\"media\"} 1");
    has(out, "hitless_stream_viewers{stream=\"demo\"} 1");
    has(out, "hitless_stream_bytes_total{stream=\"demo\"} 6000000");
    char name[128];
    for (int i = 0; i < COUNTS; i++) {
        snprintf(name, sizeof(name), "# TYPE hitless_worker_%s_total counter",
                 api_count_names[i].name);
        has(out, name);
    }
    for (int i = 0; i < DROPS; i++) {
        snprintf(name, sizeof(name), "reason=\"%s\"}", api_drop_names[i].name);
        assert_non_null(strstr(out, name));
    }
    assert_null(strstr(out, "aaaa")); // no session's token
    free(out);
}

// Every line is a comment or "name{labels} number", and every name has had its TYPE.
static void metrics_are_well_formed(void **state)
{
    struct fixture *f = *state;
    char *out, *save = NULL, type[128] = "";
    size_t size;
    assert_int_equal(metrics_write(f->api, S, &out, &size), 0);
    assert_int_equal(out[size - 1], '\n');
    for (char *line = strtok_r(out, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "# TYPE %127s", type) == 1 || strncmp(line, "# HELP ", 7) == 0)
            continue;
        size_t length = strcspn(line, "{ ");
        assert_int_equal(length, strlen(type));
        assert_memory_equal(line, type, length);
        char *value = strrchr(line, ' '), *end;
        assert_non_null(value);
        strtod(value + 1, &end);
        assert_int_equal(*end, 0);
    }
    free(out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(status_sums_up),
        TEST(status_follows_the_dataplane),
        TEST(rates_are_differences_of_samples),
        TEST(columns_are_fields),
        TEST(asking_for_stages_has_them_counted),
        TEST(workers_tell_their_state),
        TEST(streams_come_by_name),
        TEST(sessions_are_sorted_and_keep_their_secret),
        TEST(many_sessions_are_cut_and_counted),
        TEST(port_names_are_cleaned),
        TEST(peers_name_the_dataplane),
        TEST(kick_needs_one_match),
        TEST(metrics_have_every_name),
        TEST(metrics_are_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
