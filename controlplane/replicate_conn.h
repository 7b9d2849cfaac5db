// Inside the link to the partner, shared by replicate_conn.c (one connection: TLS, greeting,
// frames, its end) and replicate_link.c (which connections there are). Loop thread.
#ifndef HITLESS_REPLICATE_CONN_H
#define HITLESS_REPLICATE_CONN_H

#include "replicate_link.h"
#include <openssl/ssl.h>
#include <string.h>

#define REPLINK_READ_SIZE 65536

enum conn_state { CONN_DIALLING, CONN_TLS, CONN_GREETING, CONN_UP, CONN_CLOSED };

struct conn {
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct replink *link;
    SSL *ssl;
    BIO *in, *out; // the SSL's own
    enum conn_state state;
    bool dialled;      // by us
    bool from_partner; // accepted from the partner's address
    bool resting;      // is not read from for a moment
    uint64_t since_ms, heard_ms, said_ms;
    size_t have; // bytes of a frame not complete yet
    union wire_frame frame;
    struct conn *next;
};

struct replink {
    uv_loop_t *loop;
    struct replink_config config;
    const struct replink_handlers *handlers;
    void *opaque;
    SSL_CTX *ctx;
    uv_tcp_t server;
    uv_timer_t tick, rest;
    struct conn *conns; // all that are not freed
    struct conn *up;    // the one in use
    uint64_t dial_ms;
    uint64_t used_ns;   // of uv_hrtime: until when the partner has had its share of our time
    uint64_t window_ms; // frames are counted per second, over all connections
    uint32_t window_frames;
    uint64_t shun_until_ms; // after a flood
    int open_handles;
    bool closing;
    char why[256], logged[256];
    struct replink_counts counts;
    char buffer[REPLINK_READ_SIZE]; // libuv asks and fills in one go
};

// A TCP handle and its TLS, which is to be dialled or was just accepted. The link owns it until its
// handle is closed. NULL without memory.
struct conn *conn_new(struct replink *link, bool dialled);
// TCP is there: TLS and the greeting follow.
void conn_begin(struct conn *conn);
// Goes on with what a connection that rests has brought.
void conn_resume(struct conn *conn);
// Sends a frame. 0, -ENOTCONN, or -ENOBUFS after closing.
int conn_send(struct conn *conn, const void *frame);
// Closes, once. `why` is for the log and replink_why; NULL: for neither.
void conn_close(struct conn *conn, const char *why);
// Tells the partner why before hanging up.
void conn_refuse(struct conn *conn, const char *why);

// Has those that rest resumed a moment later (replicate_link.c).
void replink_rest(struct replink *link);
// Frees a link that is closing when nothing of it is left (replicate_link.c).
void replink_unref(struct replink *link);

static inline uint64_t replink_now_ms(const struct replink *link)
{
    return uv_now(link->loop);
}

static inline bool replink_shuns(const struct replink *link)
{
    return replink_now_ms(link) < link->shun_until_ms;
}

// Whether ours is the smaller name: of two connections the one that we dialled stays.
static inline bool replink_leads(const struct replink *link)
{
    return strcmp(link->config.node, link->config.partner) < 0;
}

#endif
