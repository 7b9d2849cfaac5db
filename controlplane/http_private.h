// What http.c, http_intake.c and http_request.c share: listeners, connections, requests.
#ifndef HITLESS_HTTP_PRIVATE_H
#define HITLESS_HTTP_PRIVATE_H

#include "http.h"
#include <microhttpd.h>
#include <netinet/in.h>

#define HTTP_HEADERS_MAX 12
#define HTTP_PARAM_MAX 128

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
    char param[HTTP_PARAM_MAX];
    char client[INET6_ADDRSTRLEN];
    bool local, replied, cors, waiting;
    unsigned refused; // status decided before the body was read
    const char *refusal;
    char allow[64];
    char *body;
    size_t body_size, body_room, swallowed;
    struct {
        const char *name;
        char *value;
    } headers[HTTP_HEADERS_MAX];
    uint32_t header_count;
    struct MHD_Response *late; // the answer to a request that waited
    unsigned late_status;
    enum MHD_Result result;
};

// Has libmicrohttpd look at the listener's connections in the loop's next turn; in http.c.
void http_turn_soon(struct listener *listener);

// libmicrohttpd's callbacks, in http_intake.c; `opaque` is the listener.
enum MHD_Result http_on_request(void *opaque, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *size, void **context);
void http_on_completed(void *opaque, struct MHD_Connection *connection, void **context,
                       enum MHD_RequestTerminationCode code);
void http_on_connection(void *opaque, struct MHD_Connection *connection, void **context,
                        enum MHD_ConnectionNotificationCode code);

#endif
