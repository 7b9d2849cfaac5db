// From connection to handler: libmicrohttpd's callbacks, bodies, routes; see http.h.
//
// A request whose fate is known early (no route, too large) is still read to its end, up to
// SWALLOW_MAX, because closing before the client has finished sending would lose our answer.
#include "http_private.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWALLOW_MAX (8 * 1024 * 1024)

// Routes.

// Whether `path` fits `pattern`; the segment that "{}" stands for goes into `param`.
static bool matches(const char *pattern, const char *path, char param[HTTP_PARAM_MAX])
{
    param[0] = '\0';
    while (*pattern) {
        if (pattern[0] == '{' && pattern[1] == '}') {
            size_t n = strcspn(path, "/");
            if (n == 0 || n >= HTTP_PARAM_MAX)
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
    char param[HTTP_PARAM_MAX];
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

// The body.

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
    if (!request->replied && !request->waiting) {
        log_error("http: no answer to %s", request->method);
        http_refuse(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "no answer");
    }
}

enum MHD_Result http_on_request(void *opaque, struct MHD_Connection *connection, const char *url,
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
    if (request->late) {
        request->result = MHD_queue_response(connection, request->late_status, request->late);
        MHD_destroy_response(request->late);
        request->late = NULL;
    } else if (!request->replied && !request->waiting) {
        answer(request);
    }
    return request->waiting && !request->replied ? MHD_YES : request->result;
}

void http_on_completed(void *opaque, struct MHD_Connection *connection, void **context,
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
    if (request->late)
        MHD_destroy_response(request->late);
    free(request->body);
    free(request);
    *context = NULL;
}

void http_on_connection(void *opaque, struct MHD_Connection *connection, void **context,
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
