// Unit tests of controlplane/whip.c: statuses and header fields over loopback, with a fake in place
// of session.c that says what the rows want.
#include "../../controlplane/whip.h"
#include "http_client.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TOKEN "abcdefghijklmnopqrstuvwxyz234567"

// The fake.

struct session {
    bool open;
    enum session_role role;
    char stream[STREAM_NAME_MAX + 1];
    char etag[16];
};

static struct {
    struct session session;
    struct session_reply create, patch; // what to answer
    struct session_reply forward;       // what the partner does
    session_patched_fn patched;
    struct session_place place;
    bool at_once; // it refuses before it has asked
    char offer[1024], fragment[1024], if_match[64], client[64];
    int created, closed;
    bool wait, go_on;    // the 201 waits, and then …
    int refused_at_once; // or may not be given: a negative errno
    session_await_fn awaited;
    void *waiter;
    uv_timer_t timer;
} fake;

static void on_partner(uv_timer_t *timer)
{
    fake.awaited(fake.waiter, fake.go_on);
    uv_close((uv_handle_t *)timer, NULL);
}

static void on_other_node(uv_timer_t *timer)
{
    struct session_reply reply = fake.forward;
    reply.body = reply.status == 200 ? strdup("a=ice-ufrag:y\r\n") : NULL;
    fake.patched(fake.waiter, &reply, "\"three\"");
    uv_close((uv_handle_t *)timer, NULL);
}

int session_await(struct session *session, session_await_fn done, void *opaque)
{
    if (!fake.wait)
        return fake.refused_at_once;
    fake.awaited = done;
    fake.waiter = opaque;
    uv_timer_start(&fake.timer, on_partner, 30, 0);
    return 1;
}

void session_create(struct sessions *sessions, enum session_role role, const char *stream,
                    const char *offer, size_t size, const char *client, struct session_reply *reply)
{
    fake.created++;
    snprintf(fake.offer, sizeof(fake.offer), "%.*s", (int)size, offer);
    snprintf(fake.client, sizeof(fake.client), "%s", client);
    *reply = fake.create;
    if (reply->status != 201)
        return;
    fake.session = (struct session){.open = true, .role = role, .etag = "\"one\""};
    snprintf(fake.session.stream, sizeof(fake.session.stream), "%s", stream);
    reply->session = &fake.session;
    reply->body = strdup("v=0\r\nanswer\r\n");
}

struct session *session_find(struct sessions *sessions, const char *token)
{
    return fake.session.open && strcmp(token, TOKEN) == 0 ? &fake.session : NULL;
}

const char *session_token(const struct session *session)
{
    return TOKEN;
}

const char *session_etag(const struct session *session)
{
    return session->etag;
}

void session_where(const struct session *session, struct session_place *place)
{
    *place = fake.place;
}

enum session_role session_role(const struct session *session)
{
    return session->role;
}

const char *session_stream(const struct session *session)
{
    return session->stream;
}

void session_patch(struct session *session, const char *fragment, size_t size, const char *if_match,
                   struct session_reply *reply)
{
    snprintf(fake.fragment, sizeof(fake.fragment), "%.*s", (int)size, fragment);
    snprintf(fake.if_match, sizeof(fake.if_match), "%s", if_match ? if_match : "none");
    *reply = fake.patch;
    if (reply->status == 200) {
        strcpy(session->etag, "\"two\"");
        reply->body = strdup("a=ice-ufrag:x\r\n");
    }
}

bool session_forward(struct session *session, const char *fragment, size_t size,
                     const char *if_match, session_patched_fn done, void *opaque,
                     struct session_reply *reply)
{
    *reply = fake.forward;
    if (fake.at_once)
        return false;
    fake.patched = done;
    fake.waiter = opaque;
    uv_timer_start(&fake.timer, on_other_node, 30, 0);
    return true;
}

void session_close(struct session *session, enum session_end why)
{
    assert_int_equal(why, fake.wait || fake.refused_at_once ? END_REFUSED : END_DELETED);
    session->open = false;
    fake.closed++;
}

// The bench.

static struct {
    uv_loop_t loop;
    struct config *config;
    struct http *http;
    struct auth *auth;
    struct whip *whip;
    struct exchange exchange;
} t;

static void no_report(void *opaque, int line, const char *key, const char *reason)
{
    fail_msg("configuration: %s: %s", key, reason);
}

static void start(const char *more)
{
    char path[] = "/tmp/hitless-test-whip-XXXXXX", why[256] = "", yaml[1024];
    int fd = mkstemp(path);
    int n = snprintf(yaml, sizeof(yaml), "http:\n  listen: ['127.0.0.1:0']\n%s", more);
    assert_int_equal(write(fd, yaml, (size_t)n), n);
    close(fd);
    assert_int_equal(config_load(path, &t.config, no_report, NULL), 0);
    unlink(path);
    uv_loop_init(&t.loop);
    assert_int_equal(http_new(&t.http, &t.loop, t.config, why, sizeof(why)), 0);
    assert_int_equal(auth_new(&t.auth, t.config, why, sizeof(why)), 0);
    assert_int_equal(whip_new(&t.whip, t.http, NULL, &t.auth), 0);
    memset(&fake, 0, sizeof(fake));
    fake.create.status = 201;
    fake.patch.status = 204;
}

static void stop(void)
{
    http_free(t.http);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    uv_loop_close(&t.loop);
    whip_free(t.whip);
    auth_free(t.auth);
    config_free(t.config);
}

// `fields`: header fields, each with its CRLF.
static struct exchange *ask(const char *method, const char *path, const char *fields,
                            const char *body)
{
    static char request[8192];
    int n = snprintf(request, sizeof(request),
                     "%s %s HTTP/1.1\r\nHost: edge.example:8080\r\nConnection: close\r\n"
                     "Content-Length: %zu\r\n%s\r\n%s",
                     method, path, strlen(body), fields, body);
    t.exchange =
        (struct exchange){.port = http_port(t.http, 0), .request = request, .size = (size_t)n};
    exchange_run(&t.loop, &t.exchange);
    return &t.exchange;
}

#define SDP "Content-Type: application/sdp\r\n"
#define FRAGMENT "Content-Type: application/trickle-ice-sdpfrag\r\n"
#define OFFER "v=0\r\noffer\r\n"

static void test_who_serves(void **state)
{
    start("");
    ask("POST", "/whep/demo", SDP, OFFER);
    fake.place = (struct session_place){"a", "b", "http://b.example:8080"};
    struct exchange *e = ask("GET", "/whep/session/" TOKEN, "Origin: http://x\r\n", "");
    assert_int_equal(e->status, 200);
    assert_string_equal(exchange_body(e), "{\"node\":\"a\",\"serves\":\"b\",\"other\":"
                                          "\"http://b.example:8080/whep/session/" TOKEN "\"}");
    assert_non_null(exchange_header(e, "Access-Control-Allow-Origin"));
    assert_string_equal(exchange_header(e, "Cache-Control"), "no-store");
    fake.place = (struct session_place){"a", "a", ""};
    e = ask("GET", "/whep/session/" TOKEN, "", "");
    assert_string_equal(exchange_body(e), "{\"node\":\"a\",\"serves\":\"a\",\"other\":null}");
    assert_int_equal(ask("GET", "/whip/session/" TOKEN, "", "")->status, 405);
    assert_int_equal(ask("GET", "/whep/session/other", "", "")->status, 404);
    stop();
}

static void test_an_answer_may_wait_for_the_partner(void **state)
{
    for (int go_on = 0; go_on <= 1; go_on++) {
        start("");
        uv_timer_init(&t.loop, &fake.timer);
        fake.wait = true;
        fake.go_on = go_on;
        struct exchange *e = ask("POST", "/whip/demo", SDP, OFFER);
        assert_int_equal(e->status, go_on ? 201 : 503);
        if (go_on) {
            assert_string_equal(exchange_body(e), "v=0\r\nanswer\r\n");
            assert_non_null(exchange_header(e, "Location"));
            assert_int_equal(fake.closed, 0);
        } else {
            assert_string_equal(exchange_body(e), "the session could not be protected\n");
            assert_non_null(exchange_header(e, "Retry-After"));
            assert_int_equal(fake.closed, 1);
        }
        stop();
    }
    start("");
    fake.refused_at_once = -EAGAIN;
    struct exchange *e = ask("POST", "/whip/demo", SDP, OFFER);
    assert_int_equal(e->status, 503);
    assert_non_null(exchange_header(e, "Retry-After"));
    assert_int_equal(fake.closed, 1);
    stop();
}

static void test_a_session_from_post_to_delete(void **state)
{
    static const char *kinds[] = {"whip", "whep"};
    for (int i = 0; i < 2; i++) {
        char path[96], url[160];
        start("");
        snprintf(path, sizeof(path), "/%s/demo", kinds[i]);
        struct exchange *e = ask("POST", path, SDP "Origin: https://player.example\r\n", OFFER);
        assert_int_equal(e->status, 201);
        snprintf(path, sizeof(path), "/%s/session/%s", kinds[i], TOKEN);
        snprintf(url, sizeof(url), "http://edge.example:8080%s", path);
        assert_string_equal(exchange_header(e, "Location"), url);
        assert_string_equal(exchange_header(e, "ETag"), "\"one\"");
        assert_string_equal(exchange_header(e, "Content-Type"), "application/sdp");
        assert_string_equal(exchange_header(e, "Access-Control-Allow-Origin"), "*");
        const char *exposed = exchange_header(e, "Access-Control-Expose-Headers");
        assert_non_null(strstr(exposed, "Location, Link, ETag, Retry-After"));
        assert_string_equal(exchange_body(e), "v=0\r\nanswer\r\n");
        assert_string_equal(fake.offer, OFFER);
        assert_string_equal(fake.client, "127.0.0.1");
        assert_string_equal(fake.session.stream, "demo");
        assert_int_equal(fake.session.role, i == 0 ? ROLE_PUBLISH : ROLE_PLAY);

        e = ask("PATCH", path, FRAGMENT, "a=candidate\r\n"); // trickle: 204, no ETag
        assert_int_equal(e->status, 204);
        assert_null(exchange_header(e, "ETag"));
        assert_string_equal(fake.fragment, "a=candidate\r\n");
        assert_string_equal(fake.if_match, "none");

        fake.patch.status = 200;
        e = ask("PATCH", path, FRAGMENT "If-Match: \"one\"\r\n", "a=ice-ufrag:y\r\n");
        assert_int_equal(e->status, 200);
        assert_string_equal(exchange_header(e, "ETag"), "\"two\"");
        assert_string_equal(exchange_header(e, "Content-Type"), "application/trickle-ice-sdpfrag");
        assert_string_equal(exchange_body(e), "a=ice-ufrag:x\r\n");
        assert_string_equal(fake.if_match, "\"one\"");

        e = ask("DELETE", path, "", "");
        assert_int_equal(e->status, 200);
        assert_int_equal(fake.closed, 1);
        assert_int_equal(ask("DELETE", path, "", "")->status, 404);
        assert_int_equal(ask("PATCH", path, FRAGMENT, "x")->status, 404);
        stop();
    }
}

// An ICE restart of a session that the partner serves.
static void test_a_patch_may_be_the_partners(void **state)
{
    static const struct {
        int status;
        const char *etag, *body;
    } rows[] = {{200, "\"three\"", "a=ice-ufrag:y\r\n"},
                {428, NULL, "because\n"},
                {503, NULL, "because\n"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        start("");
        uv_timer_init(&t.loop, &fake.timer);
        assert_int_equal(ask("POST", "/whep/demo", SDP, OFFER)->status, 201);
        fake.patch.status = 0;
        fake.forward = (struct session_reply){.status = rows[i].status, .reason = "because"};
        fake.at_once = rows[i].status == 503;
        struct exchange *e = ask("PATCH", "/whep/session/" TOKEN, FRAGMENT, "a=ice-ufrag:z\r\n");
        assert_int_equal(e->status, rows[i].status);
        assert_string_equal(exchange_body(e), rows[i].body);
        const char *etag = exchange_header(e, "ETag");
        assert_true(rows[i].etag ? etag && strcmp(etag, rows[i].etag) == 0 : !etag);
        stop();
    }
}

static void test_methods_and_types(void **state)
{
    static const struct {
        const char *method, *path, *fields;
        int status;
        const char *field, *value; // one that must be in the answer
    } rows[] = {
        {"POST", "/whip/demo", "", 415, "Accept-Post", "application/sdp"},
        {"POST", "/whep/demo", "Content-Type: text/plain\r\n", 415, "Accept-Post",
         "application/sdp"},
        {"POST", "/whep/demo", "Content-Type: application/sdp; charset=utf-8\r\n", 201, NULL, NULL},
        {"POST", "/whip/a%20b", SDP, 400, NULL, NULL},
        {"POST", "/whip/..", SDP, 400, NULL, NULL},
        {"POST", "/whip/", SDP, 404, NULL, NULL},
        {"POST", "/whip", SDP, 404, NULL, NULL},
        {"POST", "/whip/demo/x", SDP, 404, NULL, NULL},
        {"GET", "/whip/demo", "", 405, "Allow", "POST, OPTIONS"},
        {"HEAD", "/whip/demo", "", 405, NULL, NULL},
        {"PUT", "/whep/demo", "", 405, "Allow", "POST, OPTIONS"},
        {"OPTIONS", "/whip/demo", "", 200, "Accept-Post", "application/sdp"},
        {"OPTIONS", "/whep/demo", "Origin: https://x.example\r\n", 200,
         "Access-Control-Allow-Methods", "POST, OPTIONS"},
        {"OPTIONS", "/whep/session/" TOKEN, "Origin: https://x.example\r\n", 200,
         "Access-Control-Allow-Methods", "GET, PATCH, DELETE, OPTIONS"},
        {"OPTIONS", "/whep/session/" TOKEN, "Origin: https://x.example\r\n", 200,
         "Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, If-None-Match"},
        {"GET", "/whip/session/" TOKEN, "", 405, "Allow", "PATCH, DELETE, OPTIONS"},
        {"POST", "/whip/session/" TOKEN, SDP, 405, NULL, NULL},
        {"PATCH", "/whip/session/unknown", FRAGMENT, 404, NULL, NULL},
        {"DELETE", "/whip/session/unknown", "", 404, NULL, NULL},
    };
    start("");
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct exchange *e = ask(rows[i].method, rows[i].path, rows[i].fields, "");
        const char *value = rows[i].field ? exchange_header(e, rows[i].field) : NULL;
        if (e->status != rows[i].status ||
            (rows[i].field && (!value || strcmp(value, rows[i].value) != 0)))
            fail_msg("%s %s: %s", rows[i].method, rows[i].path, e->answer);
    }
    stop();
}

static void test_what_the_session_says(void **state)
{
    static const struct {
        int status, retry;
    } rows[] = {{400, 0}, {406, 0}, {409, 2}, {413, 0}, {422, 0}, {503, 5}};
    start("");
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char seconds[8];
        fake.create = (struct session_reply){
            .status = rows[i].status, .retry_after_s = rows[i].retry, .reason = "because"};
        struct exchange *e = ask("POST", "/whep/demo", SDP, OFFER);
        assert_int_equal(e->status, rows[i].status);
        assert_string_equal(exchange_body(e), "because\n");
        assert_null(exchange_header(e, "Location"));
        snprintf(seconds, sizeof(seconds), "%d", rows[i].retry);
        if (rows[i].retry)
            assert_string_equal(exchange_header(e, "Retry-After"), seconds);
        else
            assert_null(exchange_header(e, "Retry-After"));
    }
    // Its partner takes it: the same request goes there.
    fake.create = (struct session_reply){.status = 503,
                                         .retry_after_s = 5,
                                         .elsewhere = "https://b.example:8443",
                                         .reason = "moved"};
    struct exchange *moved = ask("POST", "/whip/demo", SDP, OFFER);
    assert_int_equal(moved->status, 307);
    assert_string_equal(exchange_header(moved, "Location"), "https://b.example:8443/whip/demo");
    assert_string_equal(exchange_body(moved), "");
    static const int patches[] = {400, 412, 422, 428};
    fake.create = (struct session_reply){.status = 201};
    assert_int_equal(ask("POST", "/whep/demo", SDP, OFFER)->status, 201);
    for (size_t i = 0; i < sizeof(patches) / sizeof(*patches); i++) {
        fake.patch = (struct session_reply){.status = patches[i], .reason = "no"};
        struct exchange *e = ask("PATCH", "/whep/session/" TOKEN, FRAGMENT, "x");
        assert_int_equal(e->status, patches[i]);
        assert_null(exchange_header(e, "ETag"));
    }
    struct exchange *e = ask("PATCH", "/whep/session/" TOKEN, SDP, "x");
    assert_int_equal(e->status, 415);
    assert_string_equal(exchange_header(e, "Accept-Patch"), "application/trickle-ice-sdpfrag");
    // A player's URL is not a publisher's.
    assert_int_equal(ask("DELETE", "/whip/session/" TOKEN, "", "")->status, 404);
    assert_int_equal(fake.closed, 0);
    stop();
}

static void test_bearer_tokens(void **state)
{
    static const struct {
        const char *method, *path, *fields;
        int status;
        const char *challenge;
    } rows[] = {
        {"POST", "/whip/demo", SDP, 401, "Bearer realm=\"hitless\""},
        {"POST", "/whip/demo", SDP "Authorization: Bearer wrong-one\r\n", 401,
         "Bearer realm=\"hitless\", error=\"invalid_token\", error_description=\"the token is "
         "unknown or malformed\""},
        {"POST", "/whip/other", SDP "Authorization: Bearer for-demo\r\n", 403,
         "Bearer realm=\"hitless\", error=\"insufficient_scope\", error_description=\"the token is "
         "for another stream\""},
        {"POST", "/whep/demo", SDP, 201, NULL}, // playing is open
        {"POST", "/whip/demo", SDP "Authorization: Bearer for-demo\r\n", 201, NULL},
        {"PATCH", "/whip/session/" TOKEN, FRAGMENT, 401, "Bearer realm=\"hitless\""},
        {"DELETE", "/whip/session/" TOKEN, "", 401, "Bearer realm=\"hitless\""},
        {"DELETE", "/whip/session/" TOKEN, "Authorization: Bearer for-else\r\n", 403,
         "Bearer realm=\"hitless\", error=\"insufficient_scope\", error_description=\"the token is "
         "for another stream\""},
        {"OPTIONS", "/whip/demo", "Origin: https://x.example\r\n", 200, NULL}, // no credentials
        {"DELETE", "/whip/session/" TOKEN, "Authorization: Bearer for-demo\r\n", 200, NULL},
    };
    start("auth: {publish: {tokens: ['for-demo demo', 'for-else else']}}\n");
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct exchange *e = ask(rows[i].method, rows[i].path, rows[i].fields, OFFER);
        const char *challenge = exchange_header(e, "WWW-Authenticate");
        if (e->status != rows[i].status || !challenge != !rows[i].challenge ||
            (challenge && strcmp(challenge, rows[i].challenge) != 0))
            fail_msg("%s %s %s: %s", rows[i].method, rows[i].path, rows[i].fields, e->answer);
    }
    assert_int_equal(fake.created, 2);
    assert_int_equal(fake.closed, 1);
    stop();
}

static void test_location_behind_a_proxy(void **state)
{
    start("  external_url: https://live.example/edge\n");
    struct exchange *e = ask("POST", "/whip/demo", SDP, OFFER);
    assert_string_equal(exchange_header(e, "Location"),
                        "https://live.example/edge/whip/session/" TOKEN);
    stop();
}

static void test_stream_names(void **state)
{
    static const struct {
        const char *name;
        bool good;
    } rows[] = {
        {"demo", true}, {"A.b_c-9", true}, {"", false},    {".", false},  {"..", false},
        {"...", true},  {"a b", false},    {"a/b", false}, {"a%", false}, {"\xc3\xa4", false},
    };
    char name[STREAM_NAME_MAX + 2];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_int_equal(whip_stream_name(rows[i].name), rows[i].good);
    memset(name, 'x', sizeof(name));
    name[STREAM_NAME_MAX + 1] = '\0';
    assert_false(whip_stream_name(name));
    name[STREAM_NAME_MAX] = '\0';
    assert_true(whip_stream_name(name));
}

int main(void)
{
    log_level(LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_serves),
        cmocka_unit_test(test_an_answer_may_wait_for_the_partner),
        cmocka_unit_test(test_a_session_from_post_to_delete),
        cmocka_unit_test(test_a_patch_may_be_the_partners),
        cmocka_unit_test(test_methods_and_types),
        cmocka_unit_test(test_what_the_session_says),
        cmocka_unit_test(test_bearer_tokens),
        cmocka_unit_test(test_location_behind_a_proxy),
        cmocka_unit_test(test_stream_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
