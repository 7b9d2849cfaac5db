// HTTP and HTTPS on the control plane's own loop: libmicrohttpd without threads, its epoll
// descriptor polled by libuv.
//
// Everything runs on the loop's thread; handlers do not block, and answer at once or wait. Modules
// hand in tables of routes. Limits: HTTP_BODY_MAX bytes of body (413), 16 KiB of header (431),
// connections per listener and per address (configuration), HTTP_IDLE_S without a byte,
// HTTP_REQUEST_S for one whole request, however slowly its bytes come.
#ifndef HITLESS_HTTP_H
#define HITLESS_HTTP_H

#include "config.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define HTTP_BODY_MAX (128 * 1024)
#define HTTP_IDLE_S 10
#define HTTP_REQUEST_S 30
#define HTTP_URL_MAX 512

struct http;
struct http_request; // valid until its handler has returned, or until its answer if it waits

typedef void (*http_handler)(struct http_request *request, void *opaque);

// A route. `pattern` is a path; "{}" stands for one whole segment, which http_param then gives.
// HEAD is answered through GET, OPTIONS by http.c itself unless a route says otherwise.
struct http_route {
    const char *method, *pattern;
    http_handler handle;
    bool cors; // pages of http.cors_origins may use it
};

// Opens every listener of the configuration, which outlives it. Addresses of a family that this
// machine lacks are skipped with a warning as long as one listener remains. Returns 0 or a negative
// errno with a line in `why`.
int http_new(struct http **out, uv_loop_t *loop, const struct config *config, char *why,
             size_t why_size);
// Closes listeners and connections. Memory is freed after the loop has turned once more.
void http_free(struct http *http);

// Adds `count` routes; the table outlives `http`. -ENOSPC after HTTP_TABLES tables.
#define HTTP_TABLES 8
int http_add(struct http *http, const struct http_route *routes, size_t count, void *opaque);

// Reads certificate and key again. On failure the old ones stay in use. Done by itself within 5 s
// of a change of either file. Returns 0 or a negative errno.
int http_reload(struct http *http);

// The port that listener `index` (in the configuration's order) has; 0: not open.
uint16_t http_port(const struct http *http, uint32_t index);
// Connections open now, for metrics.
uint32_t http_connections(const struct http *http);

// The request.
const char *http_method(const struct http_request *request);
const char *http_param(const struct http_request *request); // "" without "{}"
const char *http_path(const struct http_request *request);  // as sent, without the query
const char *http_header(const struct http_request *request, const char *name); // or NULL
const char *http_body(const struct http_request *request, size_t *size);       // NUL-terminated
const char *http_client(const struct http_request *request); // the peer's address as text
bool http_allowed(const struct http_request *request, enum config_access access);
// "https://host:port/prefix", from http.external_url, else the request's own Host.
// -EINVAL: the Host field is not a host.
int http_base_url(const struct http_request *request, char *url, size_t size);
// Whether the media type of Content-Type is `type`; parameters and case do not matter.
bool http_type_is(const struct http_request *request, const char *type);
bool http_media_type_is(const char *content_type, const char *type);

// The answer. http_set adds a header field (its value is copied), then exactly one of the others
// finishes the request. Bodies are copied; `type` NULL: no body.
void http_set(struct http_request *request, const char *name, const char *value);
void http_reply(struct http_request *request, unsigned status, const char *type, const void *body,
                size_t size);
// The same for bodies that live as long as the program.
void http_reply_static(struct http_request *request, unsigned status, const char *type,
                       const void *body, size_t size);
// Lets the request wait: its handler may return without an answer, and gives one later. Keeps
// nobody else waiting. The client may be gone by then; its answer goes nowhere.
void http_wait(struct http_request *request);
// A refusal: `reason` as plain text in the body.
void http_refuse(struct http_request *request, unsigned status, const char *reason);

#endif
