// Unit tests of controlplane/http.c and http_tls.c, over loopback, on a real loop.
#include "../../controlplane/config_check.h"
#include "../../controlplane/http.h"
#include "http_client.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>

#include <cmocka.h>

static struct {
    uv_loop_t loop;
    struct config *config;
    struct http *http;
    struct exchange exchange;
} t;

static void on_echo(struct http_request *request, void *opaque)
{
    size_t size;
    const char *body = http_body(request, &size);
    http_set(request, "X-Param", http_param(request));
    http_reply(request, 200, "text/plain", body, size);
}

static void on_base(struct http_request *request, void *opaque)
{
    char url[HTTP_URL_MAX];
    if (http_base_url(request, url, sizeof(url)) < 0)
        http_refuse(request, 400, "bad host");
    else
        http_reply(request, 200, "text/plain", url, strlen(url));
}

static void on_local(struct http_request *request, void *opaque)
{
    http_refuse(request, http_allowed(request, ACCESS_LOCAL) ? 200 : 403, http_client(request));
}

static void on_nothing(struct http_request *request, void *opaque)
{
}

static const struct http_route routes[] = {
    {"POST", "/echo", on_echo, .cors = true},
    {"GET", "/echo", on_echo, .cors = true},
    {"PATCH", "/echo/{}/x", on_echo, .cors = true},
    {"GET", "/base", on_base, false},
    {"GET", "/local", on_local, false},
    {"GET", "/nothing", on_nothing, false},
};

static void no_report(void *opaque, int line, const char *key, const char *reason)
{
    fail_msg("configuration: %s: %s", key, reason);
}

static void start(const char *yaml)
{
    char path[] = "/tmp/hitless-test-http-XXXXXX", why[256] = "";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, yaml, strlen(yaml)), (ssize_t)strlen(yaml));
    close(fd);
    assert_int_equal(config_load(path, &t.config, no_report, NULL), 0);
    unlink(path);
    uv_loop_init(&t.loop);
    if (http_new(&t.http, &t.loop, t.config, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    assert_int_equal(http_add(t.http, routes, sizeof(routes) / sizeof(*routes), NULL), 0);
}

static void stop(void)
{
    http_free(t.http);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    config_free(t.config);
}

static int set_up(void **state)
{
    start("http: {listen: ['127.0.0.1:0'], cors_origins: ['https://a.example']}\n");
    return 0;
}

static int tear_down(void **state)
{
    stop();
    return 0;
}

static struct exchange *ask_bytes(const char *request, size_t size)
{
    t.exchange = (struct exchange){.port = http_port(t.http, 0), .request = request, .size = size};
    exchange_run(&t.loop, &t.exchange);
    return &t.exchange;
}

static struct exchange *ask(const char *request)
{
    return ask_bytes(request, strlen(request));
}

#define END "Host: x\r\nConnection: close\r\n\r\n"

static void test_statuses(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *body; // NULL: any
    } rows[] = {
        {"GET /echo HTTP/1.1\r\n" END, 200, ""},
        {"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n" END "hello", 200, "hello"},
        {"POST /echo HTTP/1.1\r\nContent-Length: 0\r\n" END, 200, ""},
        {"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END
         "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
         200, "abcde"},
        {"PATCH /echo/name/x HTTP/1.1\r\nContent-Length: 2\r\n" END "hi", 200, "hi"},
        {"GET /none HTTP/1.1\r\n" END, 404, "nothing here\n"},
        {"GET / HTTP/1.1\r\n" END, 404, NULL},
        {"GET /echo/ HTTP/1.1\r\n" END, 404, NULL},
        {"PATCH /echo//x HTTP/1.1\r\nContent-Length: 0\r\n" END, 404, NULL},
        {"PATCH /echo/a/b/x HTTP/1.1\r\nContent-Length: 0\r\n" END, 404, NULL},
        {"PATCH /echo/a%2fb/x HTTP/1.1\r\nContent-Length: 0\r\n" END, 200, NULL},
        {"PUT /echo HTTP/1.1\r\nContent-Length: 1\r\n" END "x", 405, NULL},
        {"BREW /echo HTTP/1.1\r\n" END, 405, NULL},
        {"POST /echo HTTP/1.1\r\n" END, 411, NULL},
        {"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n" END "abc", 400, NULL},
        {"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n" END
         "0\r\n\r\n",
         400, NULL},
        {"POST /echo HTTP/1.1\r\nContent-Length: x\r\n" END, 400, NULL},
        {"POST /echo HTTP/1.1\r\nContent-Length: 131073\r\nExpect: 100-continue\r\n" END, 413,
         NULL},
        {"POST /echo HTTP/1.1\r\nContent-Length: 999999999999\r\n" END, 413, NULL},
        {"GET /base HTTP/1.1\r\nHost: example.com:81\r\nConnection: close\r\n\r\n", 200,
         "http://example.com:81"},
        {"GET /base HTTP/1.1\r\nHost: [fd00::1]:81\r\nConnection: close\r\n\r\n", 200,
         "http://[fd00::1]:81"},
        {"GET /base HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n", 400, NULL},
        {"GET /base HTTP/1.1\r\nHost: a:\r\nConnection: close\r\n\r\n", 400, NULL},
        {"GET /base HTTP/1.1\r\nHost: a:1:2\r\nConnection: close\r\n\r\n", 400, NULL},
        {"GET /base HTTP/1.1\r\nHost: a\"<x>\r\nConnection: close\r\n\r\n", 400, NULL},
        {"GET /base HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", 400, NULL},
        {"GET /base HTTP/1.0\r\n\r\n", 200, NULL},
        {"GET /local HTTP/1.1\r\n" END, 200, "127.0.0.1\n"},
        {"GET /nothing HTTP/1.1\r\n" END, 500, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct exchange *e = ask(rows[i].request);
        if (e->status != rows[i].status ||
            (rows[i].body && strcmp(exchange_body(e), rows[i].body) != 0))
            fail_msg("%s: %s", rows[i].request, e->answer);
    }
}

static void test_broken_requests_get_an_error_or_nothing(void **state)
{
    static const char *rows[] = {"\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01",
                                 "GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n",
                                 "GET /echo HTTP/9.9\r\nHost: x\r\n\r\n"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        static char padded[HTTP_BODY_MAX];
        size_t n = strlen(rows[i]);
        memset(padded, 0xf7, sizeof(padded)); // more than a header may be, so that an end comes
        memcpy(padded, rows[i], n);
        struct exchange *e = ask_bytes(padded, sizeof(padded));
        assert_true(e->status == 0 || (e->status >= 400 && e->status < 600));
    }
    assert_int_equal(ask("GET /echo HTTP/1.1\r\n" END)->status, 200);
}

static void test_header_fields(void **state)
{
    struct exchange *e = ask("GET /echo HTTP/1.1\r\n" END);
    assert_string_equal(exchange_header(e, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(exchange_header(e, "Cache-Control"), "no-store");
    assert_null(exchange_header(e, "Server"));
    assert_null(exchange_header(e, "Access-Control-Allow-Origin"));
    e = ask("PUT /echo HTTP/1.1\r\nContent-Length: 0\r\n" END);
    assert_string_equal(exchange_header(e, "Allow"), "POST, GET, OPTIONS");
    e = ask("HEAD /echo HTTP/1.1\r\n" END);
    assert_int_equal(e->status, 200);
    assert_string_equal(exchange_body(e), "");
    e = ask("PATCH /echo/some.name/x HTTP/1.1\r\nContent-Length: 0\r\n" END);
    assert_string_equal(exchange_header(e, "X-Param"), "some.name");
}

static void test_cors(void **state)
{
    struct exchange *e = ask("OPTIONS /echo HTTP/1.1\r\nOrigin: https://a.example\r\n"
                             "Access-Control-Request-Method: POST\r\n" END);
    assert_int_equal(e->status, 204);
    assert_string_equal(exchange_header(e, "Access-Control-Allow-Origin"), "https://a.example");
    assert_string_equal(exchange_header(e, "Access-Control-Allow-Methods"), "POST, GET, OPTIONS");
    assert_string_equal(exchange_header(e, "Vary"), "Origin");
    e = ask("OPTIONS /echo HTTP/1.1\r\nOrigin: https://b.example\r\n" END);
    assert_null(exchange_header(e, "Access-Control-Allow-Origin"));
    e = ask("GET /base HTTP/1.1\r\nOrigin: https://a.example\r\n" END);
    assert_null(exchange_header(e, "Access-Control-Allow-Origin")); // that route is not for pages
    e = ask("PUT /echo HTTP/1.1\r\nContent-Length: 0\r\nOrigin: https://a.example\r\n" END);
    assert_non_null(strstr(exchange_header(e, "Access-Control-Expose-Headers"), "Location"));
}

static void body_of(size_t size, bool chunked, int status)
{
    char head[256];
    size_t n;
    if (chunked)
        n = (size_t)snprintf(head, sizeof(head),
                             "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END "%zx\r\n",
                             size);
    else
        n = (size_t)snprintf(head, sizeof(head),
                             "POST /echo HTTP/1.1\r\nContent-Length: %zu\r\n" END, size);
    char *request = malloc(n + size + 16);
    memcpy(request, head, n);
    memset(request + n, 'x', size);
    int end = snprintf(request + n + size, 16, "%s", chunked ? "\r\n0\r\n\r\n" : "");
    struct exchange *e = ask_bytes(request, n + size + (size_t)end);
    assert_int_equal(e->status, status);
    if (status == 200)
        assert_int_equal(strlen(exchange_body(e)), size);
    free(request);
}

static void test_body_limits(void **state)
{
    for (int chunked = 0; chunked < 2; chunked++) {
        body_of(1, chunked, 200);
        body_of(8192, chunked, 200);
        body_of(HTTP_BODY_MAX, chunked, 200);
        body_of(HTTP_BODY_MAX + 1, chunked, 413);
        body_of(1 << 20, chunked, 413);
    }
}

static void test_header_limit(void **state)
{
    static char request[40000];
    int n = snprintf(request, sizeof(request), "GET /echo HTTP/1.1\r\nX: ");
    memset(request + n, 'y', 35000);
    snprintf(request + n + 35000, 100, "\r\n" END);
    int status = ask(request)->status;
    assert_true(status == 431 || status == 413 || status == 414);
}

static void test_half_open_connections_stop_nobody(void **state)
{
    static int fds[1000];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < 1000; i++) {
        fds[i] = exchange_connect(http_port(t.http, 0));
        assert_true(fds[i] >= 0);
        if (i % 2)
            assert_int_equal(send(fds[i], "POST /echo HT", 13, 0), 13);
        uv_run(&t.loop, UV_RUN_NOWAIT);
    }
    assert_true(http_connections(t.http) > 900);
    struct exchange *e = ask("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n" END "ok");
    assert_int_equal(e->status, 200);
    for (int i = 0; i < 1000; i++)
        close(fds[i]);
    e = ask("GET /echo HTTP/1.1\r\n" END);
    assert_int_equal(e->status, 200);
    assert_true(http_connections(t.http) < 10);
}

static void test_limit_per_address(void **state)
{
    start("http: {listen: ['127.0.0.1:0']}\nlimits: {http_connections_per_ip: 4}\n");
    int fds[8];
    for (int i = 0; i < 8; i++) {
        fds[i] = exchange_connect(http_port(t.http, 0));
        uv_run(&t.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(http_connections(t.http), 4);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    stop();
}

static void test_media_types(void **state)
{
    static const struct {
        const char *value;
        bool same;
    } rows[] = {
        {"application/sdp", true},       {"Application/SDP", true},
        {"application/sdp;x=y", true},   {" application/sdp ; x=y", true},
        {"application/sdpx", false},     {"application/sd", false},
        {"application/sdp, a/b", false}, {"", false},
        {"text/plain", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_int_equal(http_media_type_is(rows[i].value, "application/sdp"), rows[i].same);
    assert_false(http_media_type_is(NULL, "application/sdp"));
}

// HTTPS.

static void make_certificate(const char *certificate, const char *key_path, long serial)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    FILE *f = fopen(certificate, "w");
    PEM_write_X509(f, x);
    fclose(f);
    f = fopen(key_path, "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
}

// One request over TLS; leaves the certificate's serial number in *opaque.
static void exchange_tls(struct exchange *e)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    int fd = exchange_connect(e->port), n;
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) == 1) {
        X509 *x = SSL_get1_peer_certificate(ssl);
        *(long *)e->opaque = ASN1_INTEGER_get(X509_get_serialNumber(x));
        X509_free(x);
        SSL_write(ssl, e->request, (int)e->size);
        while ((n = SSL_read(ssl, e->answer + e->answered,
                             (int)(sizeof(e->answer) - 1 - e->answered))) > 0)
            e->answered += (size_t)n;
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
}

static long serial_seen(uint32_t listener, const char *request)
{
    long serial = 0;
    t.exchange = (struct exchange){.port = http_port(t.http, listener),
                                   .request = request,
                                   .size = strlen(request),
                                   .work = exchange_tls,
                                   .opaque = &serial};
    exchange_run(&t.loop, &t.exchange);
    return serial;
}

static void test_https_and_a_new_certificate(void **state)
{
    char dir[] = "/tmp/hitless-test-tls-XXXXXX", certificate[64], key[64], yaml[512];
    assert_non_null(mkdtemp(dir));
    snprintf(certificate, sizeof(certificate), "%s/cert.pem", dir);
    snprintf(key, sizeof(key), "%s/key.pem", dir);
    make_certificate(certificate, key, 11);
    snprintf(yaml, sizeof(yaml),
             "http: {listen: ['127.0.0.1:0'], listen_tls: ['127.0.0.1:0'], certificate: %s,"
             " key: %s}\n",
             certificate, key);
    start(yaml);
    const char *request = "GET /base HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert_int_equal(serial_seen(1, request), 11);
    assert_string_equal(exchange_body(&t.exchange), "https://h");
    assert_int_equal(ask("GET /echo HTTP/1.1\r\n" END)->status, 200); // HTTP beside it

    make_certificate(certificate, key, 12);
    assert_int_equal(http_reload(t.http), 0);
    assert_int_equal(serial_seen(1, request), 12);

    make_certificate(certificate, "/dev/null", 13); // a certificate without its key
    assert_true(http_reload(t.http) < 0);
    assert_int_equal(serial_seen(1, request), 12);
    // A client that speaks plain HTTP to the HTTPS port, or nothing, does no harm.
    t.exchange = (struct exchange){
        .port = http_port(t.http, 1), .request = request, .size = strlen(request)};
    exchange_run(&t.loop, &t.exchange);
    assert_int_equal(t.exchange.status, 0);
    assert_int_equal(serial_seen(1, request), 12);
    stop();
    unlink(certificate);
    unlink(key);
    rmdir(dir);
}

int main(void)
{
    log_level(LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_statuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_requests_get_an_error_or_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_header_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_body_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_header_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half_open_connections_stop_nobody, set_up, tear_down),
        cmocka_unit_test(test_limit_per_address),
        cmocka_unit_test(test_media_types),
        cmocka_unit_test(test_https_and_a_new_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
