// A blocking HTTP client for tests of things that run on a libuv loop: a thread sends one request
// as it stands and collects the answer, while the caller turns the loop.
#ifndef HITLESS_TEST_HTTP_CLIENT_H
#define HITLESS_TEST_HTTP_CLIENT_H

#include <arpa/inet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

struct exchange {
    uint16_t port;
    const char *request;
    size_t size;
    char answer[262144];
    size_t answered;
    int status;                      // 0: no answer
    void (*work)(struct exchange *); // what the thread does; NULL: exchange_plain
    void *opaque;
    uv_async_t done;
};

static inline int exchange_connect(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 15};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline void exchange_plain(struct exchange *e)
{
    int fd = exchange_connect(e->port);
    size_t sent = 0;
    while (fd >= 0 && sent < e->size) {
        ssize_t n = send(fd, e->request + sent, e->size - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    while (fd >= 0 && e->answered < sizeof(e->answer) - 1) {
        ssize_t n = recv(fd, e->answer + e->answered, sizeof(e->answer) - 1 - e->answered, 0);
        if (n <= 0)
            break;
        e->answered += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
}

static inline void *exchange_thread(void *opaque)
{
    struct exchange *e = opaque;
    if (e->work)
        e->work(e);
    else
        exchange_plain(e);
    uv_async_send(&e->done);
    return NULL;
}

static inline void exchange_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

static inline void exchange_done(uv_async_t *async)
{
    uv_close((uv_handle_t *)async, exchange_closed);
}

// Runs the exchange to its end, turning `loop` meanwhile. The answer is NUL-terminated.
static inline void exchange_run(uv_loop_t *loop, struct exchange *e)
{
    pthread_t thread;
    bool closed = false;
    e->answered = 0;
    e->status = 0;
    uv_async_init(loop, &e->done, exchange_done);
    e->done.data = &closed;
    pthread_create(&thread, NULL, exchange_thread, e);
    while (!closed)
        uv_run(loop, UV_RUN_ONCE);
    pthread_join(thread, NULL);
    e->answer[e->answered] = '\0';
    if (sscanf(e->answer, "HTTP/1.%*c %d", &e->status) != 1)
        e->status = 0;
}

// The value of a header field of the answer, up to its line's end, or NULL. Valid until next call.
static inline const char *exchange_header(const struct exchange *e, const char *name)
{
    static char value[1024];
    const char *end = strstr(e->answer, "\r\n\r\n");
    size_t n = strlen(name);
    for (const char *p = strstr(e->answer, "\r\n"); p && p < end; p = strstr(p + 2, "\r\n")) {
        if (strncasecmp(p + 2, name, n) != 0 || p[2 + n] != ':')
            continue;
        const char *v = p + 3 + n + strspn(p + 3 + n, " ");
        snprintf(value, sizeof(value), "%.*s", (int)strcspn(v, "\r"), v);
        return value;
    }
    return NULL;
}

static inline const char *exchange_body(const struct exchange *e)
{
    const char *end = strstr(e->answer, "\r\n\r\n");
    return end ? end + 4 : "";
}

#endif
