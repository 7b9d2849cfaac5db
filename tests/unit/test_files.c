// Unit tests of controlplane/files.c and of the table that scripts/embed makes of controlplane/web.
#include "../../controlplane/files.h"
#include "http_client.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct {
    uv_loop_t loop;
    struct config *config;
    struct http *http;
    struct exchange exchange;
} t;

static void no_report(void *opaque, int line, const char *key, const char *reason)
{
    fail_msg("configuration: %s: %s", key, reason);
}

static int set_up(void **state)
{
    char why[256] = "";
    assert_int_equal(config_load(NULL, &t.config, no_report, NULL), 0);
    t.config->parsed.listen_count = 1;
    t.config->parsed.listen[0].addr = (struct abi_addr){.ip = {127, 0, 0, 1}, .family = 4};
    uv_loop_init(&t.loop);
    assert_int_equal(http_new(&t.http, &t.loop, t.config, why, sizeof(why)), 0);
    return files_add(t.http, "https://b.example:8443/edge");
}

static int tear_down(void **state)
{
    http_free(t.http);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    config_free(t.config);
    return uv_loop_close(&t.loop);
}

static struct exchange *get(const char *path, const char *fields)
{
    static char request[1024];
    int n = snprintf(request, sizeof(request),
                     "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", path, fields);
    t.exchange =
        (struct exchange){.port = http_port(t.http, 0), .request = request, .size = (size_t)n};
    exchange_run(&t.loop, &t.exchange);
    return &t.exchange;
}

static void test_pages(void **state)
{
    static const char *paths[] = {"/", "/publish"};
    for (int i = 0; i < 2; i++) {
        struct exchange *e = get(paths[i], "");
        assert_int_equal(e->status, 200);
        assert_string_equal(exchange_header(e, "Content-Type"), "text/html; charset=utf-8");
        assert_non_null(strstr(exchange_header(e, "Content-Security-Policy"), "script-src 'self'"));
        assert_non_null(strstr(exchange_header(e, "Content-Security-Policy"),
                               "connect-src 'self' https://b.example:8443;"));
        assert_string_equal(exchange_header(e, "Cache-Control"), "no-cache");
        assert_non_null(strstr(exchange_body(e), "<!doctype html>"));
    }
}

// Browsers take Cross-Origin-Opener-Policy over HTTPS only; of the page that has the camera.
static void test_isolation_needs_https(void **state)
{
    char *plain = t.config->http.external_url, https[] = "https://live.example";
    assert_null(exchange_header(get("/publish", ""), "Cross-Origin-Opener-Policy"));
    t.config->http.external_url = https;
    assert_string_equal(exchange_header(get("/publish", ""), "Cross-Origin-Opener-Policy"),
                        "same-origin");
    assert_null(exchange_header(get("/", ""), "Cross-Origin-Opener-Policy"));
    t.config->http.external_url = plain;
}

static void test_every_file_is_served_as_it_is(void **state)
{
    int count = 0;
    for (const struct file *file = files; file->name; file++, count++) {
        char path[128], known[128];
        snprintf(path, sizeof(path), "/assets/%s", file->name);
        struct exchange *e = get(path, "");
        assert_int_equal(e->status, 200);
        assert_string_equal(exchange_header(e, "ETag"), file->etag);
        assert_string_equal(exchange_header(e, "Content-Type"), file->type);
        assert_int_equal(e->answered - (size_t)(exchange_body(e) - e->answer), file->size);
        assert_memory_equal(exchange_body(e), file->data, file->size);
        snprintf(known, sizeof(known), "If-None-Match: \"x\", %s\r\n", file->etag);
        e = get(path, known);
        assert_int_equal(e->status, 304);
        assert_string_equal(exchange_body(e), "");
        assert_int_equal(get(path, "If-None-Match: \"x\"\r\n")->status, 200);
    }
    assert_true(count >= 2);
}

static void test_what_is_not_there(void **state)
{
    static const char *paths[] = {"/assets/",   "/assets/none.js",      "/assets/../files.c",
                                  "/index.htm", "/assets/..%2ffiles.c", "/publish/"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        assert_int_equal(get(paths[i], "")->status, 404);
}

// Scripts and styles come from files of ours only: the policy forbids anything else.
static void test_pages_obey_their_policy(void **state)
{
    for (const struct file *file = files; file->name; file++) {
        const char *text = (const char *)file->data;
        if (strncmp(file->type, "text/html", 9) != 0)
            continue;
        for (const char *p = strstr(text, "<script"); p; p = strstr(p + 1, "<script"))
            assert_non_null(memmem(p, strcspn(p, ">"), "src=\"/assets/", 13));
        assert_null(strstr(text, "<style"));
        assert_null(strstr(text, " style=\""));
        assert_null(strstr(text, " onclick="));
    }
}

int main(void)
{
    log_level(LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_isolation_needs_https),
        cmocka_unit_test(test_every_file_is_served_as_it_is),
        cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_pages_obey_their_policy),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
