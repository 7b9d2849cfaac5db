// The Prometheus server of the load tester, over loopback.
#include "../bees/metrics.h"
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void text(FILE *out, void *opaque)
{
    metrics_family(out, "bees_sessions", "gauge", "back\\slash\nline");
    fputs("bees_sessions{url=\"", out);
    metrics_label(out, "a\"b\\c\nd");
    fprintf(out, "\"} %d\n", *(int *)opaque);
}

static char answer[4096];

static void ask(uint16_t port, const char *request)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    size_t length = 0;
    for (ssize_t got; (got = read(fd, answer + length, sizeof(answer) - 1 - length)) > 0;)
        length += (size_t)got;
    answer[length] = '\0';
    close(fd);
}

static void test_serves_and_escapes(void **state)
{
    struct metrics *metrics = NULL, *second = NULL;
    int value = 17;
    assert_int_equal(metrics_start(&metrics, NULL, 0, text, &value), 0);
    uint16_t port = metrics_port(metrics);
    assert_int_not_equal(port, 0);
    ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(answer, "HTTP/1.1 200"));
    assert_non_null(strstr(answer, "version=0.0.4"));
    assert_non_null(strstr(answer, "\r\n\r\n# HELP bees_sessions back\\\\slash\\nline\n"
                                   "# TYPE bees_sessions gauge\n"
                                   "bees_sessions{url=\"a\\\"b\\\\c\\nd\"} 17\n"));
    ask(port, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(answer, " 404 "));
    ask(port,
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(answer, " 404 "));
    assert_int_equal(metrics_start(&second, "127.0.0.1", port, text, &value), -EADDRINUSE);
    assert_int_equal(metrics_start(&second, "nowhere", 0, text, &value), -EADDRNOTAVAIL);
    metrics_stop(metrics);
    metrics_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_serves_and_escapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
