// HTTP on the control plane's loop; see http.h. One libmicrohttpd daemon per listen address, all
// driven from libuv: its epoll descriptor by uv_poll, its own deadlines by uv_timer.
//
// A request whose fate is known early (no route, too large) is still read to its end, up to
// SWALLOW_MAX, because closing before the client has finished sending would lose our answer.
#include "http.h"
#include "http_tls.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWALLOW_MAX (8 * 1024 * 1024)
#define HEADER_MEMORY (16 * 1024)
#define SWEEP_MS 5000
#define HEADERS_MAX 12
#define PARAM_MAX 128

struct listener {
    struct http *http;
    struct MHD_Daemon *daemon; // NULL: not open
    uv_poll_t poll;
    uv_timer_t timer;
    bool tls;
    uint16_t port;
};

struct connection {
    struct connection *next, *prev;
    struct http *http;
    int fd;
    uint64_t since_ms; // accepted, or last request finished
};

struct http {
    uv_loop_t *loop;
    const struct config *config;
    uv_timer_t sweep;
    struct listener listeners[2 * CONFIG_MAX_LISTEN];
    uint32_t listener_count;
    struct {
        const struct http_route *routes;
        size_t count;
        void *opaque;
    } tables[HTTP_TABLES];
    uint32_t table_count;
    struct connection connections; // list head
    uint32_t connection_count;
    int closing; // handles that have not closed yet
};

struct http_request {
    struct listener *listener;
    struct MHD_Connection *connection;
    const char *method, *path;
    const struct http_route *route;
    void *opaque;
    char param[PARAM_MAX];
    char client[INET6_ADDRSTRLEN];
    bool local, replied, cors;
    unsigned refused; // status decided before the body was read
    const char *refusal;
    char allow[64];
    char *body;
    size_t body_size, body_room, swallowed;
    struct {
        const char *name;
        char *value;
    } headers[HEADERS_MAX];
    uint32_t header_count;
    enum MHD_Result result;
};

// Routes.

// Whether `path` fits `pattern`; the segment that "{}" stands for goes into `param`.
static bool matches(const char *pattern, const char *path, char param[PARAM_MAX])
{
    param[0] = '\0';
    while (*pattern) {
        if (pattern[0] == '{' && pattern[1] == '}') {
            size_t n = strcspn(path, "/");
            if (n == 0 || n >= PARAM_MAX)
                return false;
            memcpy(param, path, n);
            param[n] = '\0';
            path += n;
            pattern += 2;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

static void refuse_early(struct http_request *request, unsigned status, const char *reason)
{
    if (!request->refused) {
        request->refused = status;
        request->refusal = reason;
    }
}

// Sets the route, or decides on 404 or 405.
static void find_route(struct http *http, struct http_request *request)
{
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    char param[PARAM_MAX];
    bool path_known = false;
    for (uint32_t t = 0; t < http->table_count; t++) {
        for (size_t i = 0; i < http->tables[t].count; i++) {
            const struct http_route *route = &http->tables[t].routes[i];
            if (!matches(route->pattern, request->path, param))
                continue;
            path_known = true;
            request->cors |= route->cors;
            if (!request->route && strcmp(route->method, method) == 0) {
                request->route = route;
                request->opaque = http->tables[t].opaque;
                memcpy(request->param, param, sizeof(param));
            }
            if (strcmp(route->method, "OPTIONS") == 0)
                continue;
            size_t used = strlen(request->allow);
            snprintf(request->allow + used, sizeof(request->allow) - used, "%s, ", route->method);
        }
    }
    if (path_known)
        strncat(request->allow, "OPTIONS", sizeof(request->allow) - strlen(request->allow) - 1);
    if (!path_known)
        refuse_early(request, MHD_HTTP_NOT_FOUND, "nothing here");
    else if (!request->route && strcmp(method, "OPTIONS") != 0)
        refuse_early(request, MHD_HTTP_METHOD_NOT_ALLOWED, "this method is not for this address");
}

// The request.

const char *http_method(const struct http_request *request)
{
    return request->method;
}

const char *http_param(const struct http_request *request)
{
    return request->param;
}

const char *http_path(const struct http_request *request)
{
    return request->path;
}

const char *http_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_request *request, size_t *size)
{
    *size = request->body_size;
    return request->body ? request->body : "";
}

const char *http_client(const struct http_request *request)
{
    return request->client;
}

bool http_allowed(const struct http_request *request, enum config_access access)
{
    return access == ACCESS_ALL || (access == ACCESS_LOCAL && request->local);
}

static bool is_host(const char *host)
{
    size_t n = strlen(host), name;
    if (n == 0 || n > 255)
        return false;
    if (*host == '[') {
        name = 1 + strspn(host + 1, "0123456789abcdefABCDEF:.");
        if (host[name++] != ']')
            return false;
    } else {
        name = 0;
        while (isalnum((unsigned char)host[name]) || strchr(".-_", host[name] ? host[name] : '/'))
            name++;
    }
    if (name == 0 || host[name] == '\0')
        return name > 0;
    size_t digits = strspn(host + name + 1, "0123456789");
    return host[name] == ':' && digits > 0 && digits < 6 && host[name + 1 + digits] == '\0';
}

// HTTP/1.0 needs no Host; then we call ourselves what the client connected to.
static int own_address(const struct http_request *request, char *host, size_t size)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct sockaddr_storage addr = {0};
    socklen_t length = sizeof(addr);
    char text[INET6_ADDRSTRLEN];
    if (!info || getsockname(info->connect_fd, (struct sockaddr *)&addr, &length) < 0)
        return -EINVAL;
    const struct sockaddr_in6 *v6 = (const void *)&addr;
    const struct sockaddr_in *v4 = (const void *)&addr;
    bool six = addr.ss_family == AF_INET6;
    inet_ntop(addr.ss_family, six ? (const void *)&v6->sin6_addr : &v4->sin_addr, text,
              sizeof(text));
    snprintf(host, size, six ? "[%s]:%u" : "%s:%u", text, ntohs(v4->sin_port));
    return 0;
}

int http_base_url(const struct http_request *request, char *url, size_t size)
{
    const char *external = request->listener->http->config->http.external_url;
    const char *host = http_header(request, "Host");
    char own[INET6_ADDRSTRLEN + 16];
    if (*external) {
        snprintf(url, size, "%s", external);
        return 0;
    }
    if (!host) {
        if (own_address(request, own, sizeof(own)) < 0)
            return -EINVAL;
        host = own;
    }
    if (!is_host(host))
        return -EINVAL;
    snprintf(url, size, "%s://%s", request->listener->tls ? "https" : "http", host);
    return 0;
}

bool http_media_type_is(const char *content_type, const char *type)
{
    size_t n = strlen(type);
    if (!content_type)
        return false;
    content_type += strspn(content_type, " \t");
    if (strncasecmp(content_type, type, n) != 0)
        return false;
    content_type += n + strspn(content_type + n, " \t");
    return *content_type == '\0' || *content_type == ';';
}

bool http_type_is(const struct http_request *request, const char *type)
{
    return http_media_type_is(http_header(request, "Content-Type"), type);
}

// The answer.

void http_set(struct http_request *request, const char *name, const char *value)
{
    if (request->header_count == HEADERS_MAX)
        return;
    char *copy = strdup(value);
    if (!copy)
        return;
    request->headers[request->header_count].name = name;
    request->headers[request->header_count++].value = copy;
}

static void add_cors(struct http_request *request, struct MHD_Response *response)
{
    const struct config *config = request->listener->http->config;
    const char *origin = http_header(request, "Origin");
    if (!request->cors || !origin)
        return;
    for (uint32_t i = 0; i < config->http.cors_origins_count; i++) {
        const char *allowed = config->http.cors_origins[i];
        bool any = strcmp(allowed, "*") == 0;
        if (!any && strcasecmp(allowed, origin) != 0)
            continue;
        MHD_add_response_header(response, "Access-Control-Allow-Origin", allowed);
        MHD_add_response_header(response, "Access-Control-Expose-Headers",
                                "Location, Link, ETag, Retry-After, WWW-Authenticate, Accept-Post");
        if (!any)
            MHD_add_response_header(response, "Vary", "Origin");
        if (strcmp(request->method, "OPTIONS") != 0)
            return;
        MHD_add_response_header(response, "Access-Control-Allow-Methods", request->allow);
        MHD_add_response_header(response, "Access-Control-Allow-Headers",
                                "Authorization, Content-Type, If-Match, If-None-Match");
        MHD_add_response_header(response, "Access-Control-Max-Age", "86400");
        return;
    }
}

static void finish(struct http_request *request, unsigned status, const char *type,
                   const void *body, size_t size, enum MHD_ResponseMemoryMode mode)
{
    if (request->replied)
        return;
    request->replied = true;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        type ? size : 0, (void *)(type ? body : ""), type ? mode : MHD_RESPMEM_PERSISTENT);
    if (!response)
        return; // result stays MHD_NO: the connection is closed
    if (type)
        MHD_add_response_header(response, "Content-Type", type);
    for (uint32_t i = 0; i < request->header_count; i++)
        MHD_add_response_header(response, request->headers[i].name, request->headers[i].value);
    if (!MHD_get_response_header(response, "Cache-Control"))
        MHD_add_response_header(response, "Cache-Control", "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED || strcmp(request->method, "OPTIONS") == 0)
        MHD_add_response_header(response, "Allow", request->allow);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    add_cors(request, response);
    request->result = MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
    // The pattern, not the path: a session's path is the right to change that session.
    log_debug("http: %s %s %s: %u", request->client, request->method,
              request->route ? request->route->pattern : "-", status);
}

void http_reply(struct http_request *request, unsigned status, const char *type, const void *body,
                size_t size)
{
    finish(request, status, type, body, size, MHD_RESPMEM_MUST_COPY);
}

void http_reply_static(struct http_request *request, unsigned status, const char *type,
                       const void *body, size_t size)
{
    finish(request, status, type, body, size, MHD_RESPMEM_PERSISTENT);
}

void http_refuse(struct http_request *request, unsigned status, const char *reason)
{
    char body[512];
    int n = snprintf(body, sizeof(body), "%.500s\n", reason);
    http_reply(request, status, "text/plain; charset=utf-8", body, (size_t)n);
}

// From libmicrohttpd.

struct framing {
    int lengths, encodings;
    uint64_t length;
    bool expect;
};

static enum MHD_Result see_header(void *opaque, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct framing *framing = opaque;
    if (strcasecmp(name, "Content-Length") == 0) {
        framing->lengths++;
        framing->length = strtoull(value ? value : "0", NULL, 10);
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        framing->encodings++;
    } else if (strcasecmp(name, "Expect") == 0) {
        framing->expect = true;
    }
    return MHD_YES;
}

// Two framings in one request is how requests are smuggled past a proxy (RFC 9112 11.2).
static void check_framing(struct http_request *request, struct framing *framing)
{
    bool body = strcmp(request->method, "POST") == 0 || strcmp(request->method, "PATCH") == 0;
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, see_header, framing);
    if (framing->lengths + framing->encodings > 1)
        refuse_early(request, MHD_HTTP_BAD_REQUEST, "more than one length");
    else if (body && framing->lengths + framing->encodings == 0)
        refuse_early(request, MHD_HTTP_LENGTH_REQUIRED, "Content-Length is missing");
    else if (framing->length > HTTP_BODY_MAX)
        refuse_early(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
}

static void note_client(struct http_request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *addr = info ? info->client_addr : NULL;
    snprintf(request->client, sizeof(request->client), "?");
    if (addr && addr->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)addr;
        inet_ntop(AF_INET, &v4->sin_addr, request->client, sizeof(request->client));
        request->local = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    } else if (addr && addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)addr;
        inet_ntop(AF_INET6, &v6->sin6_addr, request->client, sizeof(request->client));
        request->local = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    }
}

static struct http_request *request_new(struct listener *listener,
                                        struct MHD_Connection *connection, const char *url,
                                        const char *method, struct framing *framing)
{
    struct http_request *request = calloc(1, sizeof(*request));
    if (!request)
        return NULL;
    request->listener = listener;
    request->connection = connection;
    request->method = method;
    request->path = url;
    note_client(request);
    check_framing(request, framing);
    find_route(listener->http, request);
    return request;
}

static enum MHD_Result collect(struct http_request *request, const char *data, size_t *size)
{
    size_t need = request->body_size + *size;
    if (need > HTTP_BODY_MAX)
        refuse_early(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    if (request->refused) {
        request->swallowed += *size;
        *size = 0;
        return request->swallowed > SWALLOW_MAX ? MHD_NO : MHD_YES;
    }
    if (need + 1 > request->body_room) {
        size_t room = need + 1 > 8192 ? HTTP_BODY_MAX + 1 : 8192;
        char *body = realloc(request->body, room);
        if (!body)
            return MHD_NO;
        request->body = body;
        request->body_room = room;
    }
    memcpy(request->body + request->body_size, data, *size);
    request->body_size = need;
    request->body[need] = '\0';
    *size = 0;
    return MHD_YES;
}

static void answer(struct http_request *request)
{
    if (request->refused)
        http_refuse(request, request->refused, request->refusal);
    else if (request->route)
        request->route->handle(request, request->opaque);
    else
        http_reply(request, MHD_HTTP_NO_CONTENT, NULL, NULL, 0);
    if (!request->replied) {
        log_error("http: no answer to %s", request->method);
        http_refuse(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "no answer");
    }
}

static enum MHD_Result on_request(void *opaque, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **context)
{
    struct http_request *request = *context;
    if (!request) {
        struct framing framing = {0};
        request = request_new(opaque, connection, url, method, &framing);
        *context = request;
        if (!request)
            return MHD_NO;
        // A client that asks before it sends need not send in vain.
        if (request->refused && (framing.expect || framing.length > SWALLOW_MAX)) {
            answer(request);
            return request->result;
        }
        return MHD_YES;
    }
    if (*size > 0)
        return collect(request, data, size);
    if (!request->replied)
        answer(request);
    return request->result;
}

static void on_completed(void *opaque, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct http_request *request = *context;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct connection *c = info ? info->socket_context : NULL;
    if (c)
        c->since_ms = uv_now(c->http->loop);
    if (!request)
        return;
    for (uint32_t i = 0; i < request->header_count; i++)
        free(request->headers[i].value);
    free(request->body);
    free(request);
    *context = NULL;
}

static void on_connection(void *opaque, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http *http = ((struct listener *)opaque)->http;
    struct connection *c = *context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (c) {
            c->prev->next = c->next;
            c->next->prev = c->prev;
            http->connection_count--;
            free(c);
        }
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    c = calloc(1, sizeof(*c));
    if (!c || !info) {
        free(c);
        return;
    }
    *c = (struct connection){.http = http, .fd = info->connect_fd, .since_ms = uv_now(http->loop)};
    c->next = http->connections.next;
    c->prev = &http->connections;
    c->next->prev = c->prev->next = c;
    http->connection_count++;
    *context = c;
}

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

// Into the loop.

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
        flags, 0, NULL, NULL, on_request, listener, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)http->config->limits.http_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)http->config->limits.http_connections_per_ip, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)HTTP_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MEMORY,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, listener, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, listener, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
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
            snprintf(why, why_size, "cannot listen on %s: %s", text, strerror(-rc));
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
