// HTTP on the control plane's loop: listeners, deadlines, certificates; see http.h. One
// libmicrohttpd daemon per listen address, all driven from libuv: its epoll descriptor by uv_poll,
// its own deadlines by uv_timer.
#include "http_private.h"
#include "http_tls.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_MEMORY (16 * 1024)
#define SWEEP_MS 5000

static void on_mhd_log(void *opaque, const char *format, va_list args)
{
    char line[256];
    vsnprintf(line, sizeof(line), format, args);
    line[strcspn(line, "\n")] = '\0';
    LOG_OFTEN(LEVEL_DEBUG, "http: %s", line);
}

// Names and tokens hold nothing that needs escaping; whatever is escaped is not ours.
static size_t keep_escapes(void *opaque, struct MHD_Connection *connection, char *text)
{
    return strlen(text);
}

static void on_timer(uv_timer_t *timer);

static void turn(struct listener *listener)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    MHD_run(listener->daemon);
    if (MHD_get_timeout(listener->daemon, &timeout) == MHD_YES)
        uv_timer_start(&listener->timer, on_timer, timeout, 0);
    else
        uv_timer_stop(&listener->timer);
}

static void on_timer(uv_timer_t *timer)
{
    turn(timer->data);
}

void http_turn_soon(struct listener *listener)
{
    uv_timer_start(&listener->timer, on_timer, 0, 0);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    turn(poll->data);
}

// Every few seconds: ends requests that trickle in for ever, and looks at the certificate.
static void on_sweep(uv_timer_t *timer)
{
    struct http *http = timer->data;
    uint64_t now = uv_now(http->loop);
    for (struct connection *c = http->connections.next; c != &http->connections; c = c->next)
        if (now - c->since_ms > HTTP_REQUEST_S * 1000)
            shutdown(c->fd, SHUT_RDWR); // libmicrohttpd sees the end and closes it
    http_tls_sweep(now);
    if (http_tls_changed())
        http_reload(http);
}

int http_reload(struct http *http)
{
    char why[256] = "";
    if (!*http->config->http.certificate)
        return 0;
    int rc = http_tls_reload(why, sizeof(why));
    if (rc < 0)
        log_warning("http: certificate not replaced: %s", why);
    else
        log_info("http: certificate read again");
    return rc;
}

static int open_socket(const struct abi_addr *addr, uint16_t *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(addr->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(addr->port)};
    bool six = addr->family == 6;
    int on = 1;
    memcpy(six ? (void *)&v6.sin6_addr : &v4.sin_addr, addr->ip, six ? 16 : 4);
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (six)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    struct sockaddr *sa = six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t length = six ? sizeof(v6) : sizeof(v4);
    if (bind(fd, sa, length) < 0 || listen(fd, 1024) < 0 || getsockname(fd, sa, &length) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    *port = ntohs(six ? v6.sin6_port : v4.sin_port);
    return fd;
}

static int open_listener(struct http *http, struct listener *listener,
                         const struct config_listen *config)
{
    const unsigned flags = MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME |
                           (config->tls ? MHD_USE_TLS : 0);
    const struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)http_tls_retrieve},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL}};
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    int fd = open_socket(&config->addr, &listener->port);
    if (fd < 0)
        return fd;
    listener->http = http;
    listener->tls = config->tls;
    listener->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, http_on_request, listener, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log,
        NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)http->config->limits.http_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)http->config->limits.http_connections_per_ip, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)HTTP_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MEMORY,
        MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, listener, MHD_OPTION_NOTIFY_CONNECTION,
        http_on_connection, listener, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, config->tls ? tls : none,
        MHD_OPTION_END);
    if (!listener->daemon) {
        close(fd);
        return -EIO;
    }
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    listener->poll.data = listener->timer.data = listener;
    uv_poll_init(http->loop, &listener->poll, info->epoll_fd);
    uv_timer_init(http->loop, &listener->timer);
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    turn(listener);
    return 0;
}

static int open_listeners(struct http *http, char *why, size_t why_size)
{
    const struct config *config = http->config;
    uint32_t open = 0;
    for (uint32_t i = 0; i < config->parsed.listen_count; i++) {
        const struct config_listen *listen = &config->parsed.listen[i];
        const char *text = i < config->http.listen_count
                               ? config->http.listen[i]
                               : config->http.listen_tls[i - config->http.listen_count];
        http->listener_count = i + 1;
        int rc = open_listener(http, &http->listeners[i], listen);
        if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) {
            log_warning("http: not listening on %s: %s", text, strerror(-rc));
            snprintf(why, why_size, "no address of http.listen exists on this machine");
        } else if (rc < 0) {
            snprintf(why, why_size, "cannot listen on %s: %s%s", text, strerror(-rc),
                     rc == -EADDRINUSE ? "; 'ss -ltnp' tells by whom, http.listen names another"
                                       : "");
            return rc;
        } else {
            open++;
        }
    }
    return open ? 0 : -EADDRNOTAVAIL;
}

int http_new(struct http **out, uv_loop_t *loop, const struct config *config, char *why,
             size_t why_size)
{
    struct http *http = calloc(1, sizeof(*http));
    if (!http)
        return -ENOMEM;
    http->loop = loop;
    http->config = config;
    http->connections.next = http->connections.prev = &http->connections;
    http->sweep.data = http;
    uv_timer_init(loop, &http->sweep);
    uv_timer_start(&http->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    int rc = 0;
    if (*config->http.certificate)
        rc = http_tls_open(config->http.certificate, config->http.key, why, why_size);
    if (rc == 0)
        rc = open_listeners(http, why, why_size);
    if (rc < 0) {
        http_free(http);
        return rc;
    }
    *out = http;
    return 0;
}

static void let_go(struct http *http)
{
    if (--http->closing == 0)
        free(http);
}

static void on_listener_closed(uv_handle_t *handle)
{
    let_go(((struct listener *)handle->data)->http);
}

static void on_sweep_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    http->closing = 1;
    for (uint32_t i = 0; i < http->listener_count; i++) {
        struct listener *listener = &http->listeners[i];
        if (!listener->daemon)
            continue;
        http->closing += 2;
        uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
        uv_close((uv_handle_t *)&listener->timer, on_listener_closed);
        MHD_stop_daemon(listener->daemon);
    }
    uv_close((uv_handle_t *)&http->sweep, on_sweep_closed);
    http_tls_close();
}

int http_add(struct http *http, const struct http_route *routes, size_t count, void *opaque)
{
    if (http->table_count == HTTP_TABLES)
        return -ENOSPC;
    http->tables[http->table_count].routes = routes;
    http->tables[http->table_count].count = count;
    http->tables[http->table_count++].opaque = opaque;
    return 0;
}

uint16_t http_port(const struct http *http, uint32_t index)
{
    return index < http->listener_count && http->listeners[index].daemon
               ? http->listeners[index].port
               : 0;
}

uint32_t http_connections(const struct http *http)
{
    return http->connection_count;
}
