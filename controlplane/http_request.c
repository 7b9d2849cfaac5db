// What a handler sees of its request, and how it answers; see http.h.
#include "http_private.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

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
    struct sockaddr_in6 v6 = {0};
    socklen_t length = sizeof(v6);
    char text[INET6_ADDRSTRLEN] = "";
    if (!info || getsockname(info->connect_fd, (struct sockaddr *)&v6, &length) < 0)
        return -EINVAL;
    const struct sockaddr_in *v4 = (const void *)&v6;
    unsigned port = ntohs(v6.sin6_port); // at the same place in both
    if (v6.sin6_family == AF_INET6) {
        inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
        snprintf(host, size, "[%s]:%u", text, port);
    } else {
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
        snprintf(host, size, "%s:%u", text, port);
    }
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
    if (request->header_count == HTTP_HEADERS_MAX)
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
    if (request->waiting) { // http_on_request takes it, the only place that MHD allows
        request->late = response;
        request->late_status = status;
        MHD_resume_connection(request->connection);
        http_turn_soon(request->listener);
    } else {
        request->result = MHD_queue_response(request->connection, status, response);
        MHD_destroy_response(response);
    }
    // The pattern, not the path: a session's path is the right to change that session.
    log_debug("http: %s %s %s: %u", request->client, request->method,
              request->route ? request->route->pattern : "-", status);
}

void http_wait(struct http_request *request)
{
    request->waiting = true;
    MHD_suspend_connection(request->connection);
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
