// The TLS connection to the partner; see replicate_link.h.
//
// OpenSSL works on memory BIOs: what TCP brought goes into one, what is to be sent is taken out of
// the other. A connection's memory goes when its handle is closed and its last write is done.
#include "replicate_link.h"
#include "log.h"
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_SIZE 65536
#define TICK_MS 50

enum conn_state { CONN_DIALLING, CONN_TLS, CONN_GREETING, CONN_UP, CONN_CLOSED };

struct conn {
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct replink *link;
    SSL *ssl;
    BIO *in, *out; // the SSL's own
    enum conn_state state;
    bool dialled; // by us
    uint64_t since_ms, heard_ms, said_ms;
    uint64_t window_ms; // frames are counted per second
    uint32_t window_frames;
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
    uv_timer_t tick;
    struct conn *conns; // all that are not freed
    struct conn *up;    // the one in use
    uint64_t dial_ms;
    int open_handles;
    bool closing, listening;
    char why[256], logged[256];
    struct replink_counts counts;
    char buffer[READ_SIZE]; // libuv asks and fills in one go
};

struct write {
    uv_write_t request;
    uint8_t bytes[];
};

static uint64_t now_ms(const struct replink *link)
{
    return uv_now(link->loop);
}

static bool lead(const struct replink *link)
{
    return strcmp(link->config.node, link->config.partner) < 0;
}

// ---- ends of a connection

static void link_unref(struct replink *link)
{
    if (!link->closing || link->open_handles > 0 || link->conns != NULL)
        return;
    SSL_CTX_free(link->ctx);
    free(link);
}

static void on_conn_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    struct replink *link = conn->link;
    struct conn **at = &link->conns;
    while (*at != conn)
        at = &(*at)->next;
    *at = conn->next;
    SSL_free(conn->ssl);
    OPENSSL_cleanse(&conn->frame, sizeof(conn->frame));
    free(conn);
    link_unref(link);
}

// Says why, once per reason: a partner that is away is tried again and again.
static void explain(struct replink *link, const char *why)
{
    snprintf(link->why, sizeof(link->why), "%s", why);
    if (strcmp(link->logged, link->why) == 0)
        return;
    snprintf(link->logged, sizeof(link->logged), "%s", link->why);
    log_warning("partner %s: %s", link->config.partner, why);
}

static void conn_close(struct conn *conn, const char *why)
{
    struct replink *link = conn->link;
    if (conn->state == CONN_CLOSED)
        return;
    bool was_up = link->up == conn;
    if (was_up)
        link->up = NULL;
    if (why != NULL && (was_up || link->up == NULL))
        explain(link, why);
    conn->state = CONN_CLOSED;
    uv_close((uv_handle_t *)&conn->tcp, on_conn_closed);
    if (was_up && !link->closing)
        link->handlers->down(link->opaque, link->why);
}

// ---- the way out

static void on_written(uv_write_t *request, int status)
{
    struct conn *conn = request->data;
    free(request);
    if (status < 0) {
        if (conn->state != CONN_CLOSED)
            conn_close(conn, "the connection broke");
        return;
    }
    if (conn->link->up == conn && replink_room(conn->link))
        conn->link->handlers->turn(conn->link->opaque);
}

// Moves what TLS wants to say to TCP.
static void flush(struct conn *conn)
{
    size_t size;
    while (conn->state != CONN_CLOSED && (size = BIO_ctrl_pending(conn->out)) > 0) {
        struct write *write = malloc(sizeof(*write) + size);
        if (write == NULL) {
            conn_close(conn, "out of memory");
            return;
        }
        int n = BIO_read(conn->out, write->bytes, (int)size);
        uv_buf_t buffer = uv_buf_init((char *)write->bytes, (unsigned)(n > 0 ? n : 0));
        write->request.data = conn;
        conn->link->counts.bytes_sent += buffer.len;
        if (n <= 0 ||
            uv_write(&write->request, (uv_stream_t *)&conn->tcp, &buffer, 1, on_written) != 0) {
            free(write);
            conn_close(conn, "the connection broke");
        }
    }
}

static int conn_send(struct conn *conn, const void *frame)
{
    const struct wire_head *head = frame;
    if (uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp) > REPLINK_QUEUE) {
        conn_close(conn, "it does not read what we send");
        return -ENOBUFS;
    }
    if (SSL_write(conn->ssl, frame, (int)head->length) <= 0) {
        conn_close(conn, "TLS does not take what we send");
        return -ENOTCONN;
    }
    conn->said_ms = now_ms(conn->link);
    conn->link->counts.sent++;
    flush(conn);
    return conn->state == CONN_CLOSED ? -ENOTCONN : 0;
}

// Tells the partner why before hanging up.
static void refuse(struct conn *conn, const char *why)
{
    struct wire_refuse m = {.head = {.type = WIRE_REFUSE, .length = sizeof(m)}};
    snprintf(m.reason, sizeof(m.reason), "%s", why);
    if (conn->state == CONN_GREETING || conn->state == CONN_UP)
        conn_send(conn, &m);
    conn_close(conn, why);
}

static void greet(struct conn *conn)
{
    struct replink *link = conn->link;
    struct wire_hello m = {.head = {.type = WIRE_HELLO, .length = sizeof(m)},
                           .magic = WIRE_MAGIC,
                           .version = WIRE_VERSION,
                           .abi_version = ABI_VERSION,
                           .session_size = sizeof(struct wire_session),
                           .stream_size = sizeof(struct wire_stream)};
    link->handlers->hello(link->opaque, &m);
    snprintf(m.node, sizeof(m.node), "%s", link->config.node);
    conn_send(conn, &m);
}

// ---- the way in

// A connection greeted us. Which one stays, both ends decide alike.
static void rise(struct conn *conn)
{
    struct replink *link = conn->link;
    struct conn *old = link->up;
    if (old != NULL && old->dialled == lead(link) && conn->dialled != lead(link)) {
        conn_close(conn, NULL);
        return;
    }
    if (old != NULL)
        conn_close(old, "it has connected anew");
    conn->state = CONN_UP;
    link->up = conn;
    link->why[0] = link->logged[0] = 0;
    link->counts.connections++;
    log_info("partner %s: connected", link->config.partner);
    link->handlers->up(link->opaque, &conn->frame.hello, lead(link));
}

static void on_hello(struct conn *conn)
{
    char why[200], line[256];
    if (conn->state != CONN_GREETING) {
        refuse(conn, "it greets twice");
        return;
    }
    if (wire_check_hello(&conn->frame.hello, conn->link->config.partner, why, sizeof(why)) != 0) {
        conn->link->counts.refused++;
        snprintf(line, sizeof(line), "refused: %s", why);
        refuse(conn, line);
        return;
    }
    rise(conn);
}

static bool flooded(struct conn *conn)
{
    uint64_t now = now_ms(conn->link);
    if (now - conn->window_ms >= 1000) {
        conn->window_ms = now;
        conn->window_frames = 0;
    }
    return ++conn->window_frames > REPLINK_FRAMES_PER_S;
}

static void on_frame(struct conn *conn)
{
    const struct wire_head *head = &conn->frame.head;
    struct replink *link = conn->link;
    char why[200] = "", line[256];
    link->counts.received++;
    if (wire_check(head) != 0) {
        snprintf(line, sizeof(line), "sent a malformed %s", wire_name(head->type));
        refuse(conn, line);
    } else if (flooded(conn)) {
        refuse(conn, "floods us");
    } else if (head->type == WIRE_HELLO) {
        on_hello(conn);
    } else if (head->type == WIRE_REFUSE) {
        snprintf(line, sizeof(line), "hung up: %s", conn->frame.refuse.reason);
        conn_close(conn, line);
    } else if (conn->state != CONN_UP) {
        refuse(conn, "did not greet");
    } else if (head->type != WIRE_PING &&
               link->handlers->frame(link->opaque, &conn->frame, why, sizeof(why)) != 0) {
        refuse(conn, why);
    }
}

// Takes decrypted bytes up to the end of one frame. False when there are no more.
static bool take_bytes(struct conn *conn)
{
    int length = wire_length(conn->frame.bytes, conn->have);
    if (length < 0) {
        refuse(conn, "sent no frame");
        return false;
    }
    size_t want = length > 0 ? (size_t)length : sizeof(conn->frame.head);
    if (conn->have < want) {
        int n = SSL_read(conn->ssl, conn->frame.bytes + conn->have, (int)(want - conn->have));
        if (n <= 0) {
            int error = SSL_get_error(conn->ssl, n);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                conn_close(conn, error == SSL_ERROR_ZERO_RETURN ? "hung up" : "TLS failed");
            return false;
        }
        conn->have += (size_t)n;
        return true;
    }
    conn->have = 0;
    on_frame(conn);
    return true;
}

static void handshake_failed(struct conn *conn)
{
    struct replink *link = conn->link;
    char line[256], text[128];
    long verdict = SSL_get_verify_result(conn->ssl);
    unsigned long error = ERR_peek_last_error();
    link->counts.refused++;
    if (verdict != X509_V_OK) {
        snprintf(line, sizeof(line), "refused, its certificate is not %s's: %s",
                 link->config.partner, X509_verify_cert_error_string(verdict));
    } else {
        const char *reason = ERR_reason_error_string(error);
        snprintf(text, sizeof(text), "%s", reason != NULL ? reason : "it hung up");
        snprintf(line, sizeof(line), "TLS failed: %s", text);
    }
    flush(conn); // the alert
    conn_close(conn, line);
}

static void shake_hands(struct conn *conn)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(conn->ssl);
    if (rc == 1) {
        conn->state = CONN_GREETING;
        greet(conn);
        return;
    }
    int error = SSL_get_error(conn->ssl, rc);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        flush(conn);
    else
        handshake_failed(conn);
}

static void on_bytes(struct conn *conn)
{
    if (conn->state == CONN_TLS)
        shake_hands(conn);
    ERR_clear_error();
    while ((conn->state == CONN_GREETING || conn->state == CONN_UP) && take_bytes(conn))
        continue;
    if (conn->state == CONN_UP)
        conn->link->handlers->turn(conn->link->opaque);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct conn *conn = handle->data;
    *buffer = uv_buf_init(conn->link->buffer, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct conn *conn = stream->data;
    if (conn->state == CONN_CLOSED || size == 0)
        return;
    if (size < 0) {
        conn_close(conn, conn->state == CONN_TLS ? "hung up during the TLS handshake"
                                                 : "the connection ended");
        return;
    }
    conn->link->counts.bytes_received += (size_t)size;
    conn->heard_ms = now_ms(conn->link);
    if (BIO_write(conn->in, buffer->base, (int)size) != size)
        conn_close(conn, "out of memory");
    else
        on_bytes(conn);
}

// ---- beginnings of a connection

static struct conn *conn_new(struct replink *link, bool dialled)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    SSL *ssl = conn != NULL ? SSL_new(link->ctx) : NULL;
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (ssl == NULL || in == NULL || out == NULL || uv_tcp_init(link->loop, &conn->tcp) != 0) {
        BIO_free(in);
        BIO_free(out);
        SSL_free(ssl);
        free(conn);
        return NULL;
    }
    SSL_set_bio(ssl, in, out);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), link->config.partner, 0);
    if (dialled)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    conn->ssl = ssl;
    conn->in = in;
    conn->out = out;
    conn->link = link;
    conn->dialled = dialled;
    conn->state = dialled ? CONN_DIALLING : CONN_TLS;
    conn->since_ms = conn->heard_ms = conn->said_ms = now_ms(link);
    conn->tcp.data = conn->connect.data = conn;
    conn->next = link->conns;
    link->conns = conn;
    return conn;
}

static void begin(struct conn *conn)
{
    uv_tcp_nodelay(&conn->tcp, 1);
    conn->state = CONN_TLS;
    if (uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) != 0)
        conn_close(conn, "cannot be read from");
    else if (conn->dialled)
        shake_hands(conn);
}

static unsigned pending(const struct replink *link, bool dialled)
{
    unsigned count = 0;
    for (const struct conn *conn = link->conns; conn != NULL; conn = conn->next)
        count += conn->dialled == dialled && conn->state != CONN_UP && conn->state != CONN_CLOSED;
    return count;
}

static void on_connection(uv_stream_t *server, int status)
{
    struct replink *link = server->data;
    struct conn *conn = status == 0 ? conn_new(link, false) : NULL;
    if (conn == NULL)
        return;
    if (uv_accept(server, (uv_stream_t *)&conn->tcp) != 0)
        conn_close(conn, NULL);
    else if (pending(link, false) > REPLINK_PENDING) // a stranger may hold us up, not fill us up
        conn_close(conn, NULL);
    else
        begin(conn);
}

static void to_sockaddr(const struct abi_addr *addr, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (void *)out;
    struct sockaddr_in6 *v6 = (void *)out;
    memset(out, 0, sizeof(*out));
    if (addr->family == 4) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(addr->port);
        memcpy(&v4->sin_addr, addr->ip, 4);
    } else {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(addr->port);
        memcpy(&v6->sin6_addr, addr->ip, 16);
    }
}

static void on_dialled(uv_connect_t *request, int status)
{
    struct conn *conn = request->data;
    char line[128];
    if (conn->state == CONN_CLOSED)
        return;
    if (status == 0) {
        begin(conn);
        return;
    }
    snprintf(line, sizeof(line), "cannot be reached: %s", uv_strerror(status));
    conn_close(conn, line);
}

static void dial(struct replink *link)
{
    struct sockaddr_storage to;
    struct conn *conn = conn_new(link, true);
    if (conn == NULL)
        return;
    link->dial_ms = now_ms(link);
    to_sockaddr(&link->config.address, &to);
    int rc = uv_tcp_connect(&conn->connect, &conn->tcp, (const struct sockaddr *)&to, on_dialled);
    if (rc != 0)
        conn_close(conn, uv_strerror(rc));
}

// ---- time

static void look_at(struct conn *conn, uint64_t now)
{
    static const struct wire_head ping = {.type = WIRE_PING, .length = sizeof(ping)};
    if (conn->state == CONN_CLOSED)
        return;
    if (conn->state != CONN_UP && now - conn->since_ms >= REPLINK_GREET_MS)
        conn_close(conn, conn->dialled ? "does not answer in time" : NULL);
    else if (conn->state == CONN_UP && now - conn->heard_ms >= REPLINK_SILENCE_MS)
        conn_close(conn, "has stalled: nothing came for 2 s");
    else if (conn->state == CONN_UP && now - conn->said_ms >= REPLINK_PING_MS)
        conn_send(conn, &ping);
}

// The node with the larger name dials late, so that its connection is rarely the loser of two.
static void on_tick(uv_timer_t *timer)
{
    struct replink *link = timer->data;
    uint64_t now = now_ms(link);
    for (struct conn *next, *conn = link->conns; conn != NULL; conn = next) {
        next = conn->next;
        look_at(conn, now);
    }
    uint64_t pause = lead(link) ? REPLINK_DIAL_MS : 3 * REPLINK_DIAL_MS;
    if (link->up == NULL && link->config.address.port != 0 && pending(link, true) == 0 &&
        now - link->dial_ms >= pause)
        dial(link);
}

// ---- the link

static int make_ctx(const struct replink_config *c, SSL_CTX **out, char *why, size_t why_size)
{
    const char *what = NULL;
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (ctx == NULL)
        return -ENOMEM;
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_num_tickets(ctx, 0); // a session is never resumed: certificates are seen
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (SSL_CTX_load_verify_locations(ctx, c->ca, NULL) != 1)
        what = c->ca;
    else if (SSL_CTX_use_certificate_chain_file(ctx, c->certificate) != 1)
        what = c->certificate;
    else if (SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(ctx) != 1)
        what = c->key;
    if (what == NULL) {
        *out = ctx;
        return 0;
    }
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    snprintf(why, why_size, "protection: %s cannot be used: %s", what,
             reason != NULL ? reason : "it is no PEM file");
    SSL_CTX_free(ctx);
    return -EINVAL;
}

int replink_reload(struct replink *link, char *why, size_t why_size)
{
    SSL_CTX *fresh = NULL;
    int rc = make_ctx(&link->config, &fresh, why, why_size);
    if (rc != 0)
        return rc;
    SSL_CTX_free(link->ctx); // connections hold it as long as they need it
    link->ctx = fresh;
    return 0;
}

static int start(struct replink *link, char *why, size_t why_size)
{
    struct sockaddr_storage at;
    to_sockaddr(&link->config.listen, &at);
    int rc = uv_tcp_bind(&link->server, (const struct sockaddr *)&at, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&link->server, REPLINK_PENDING, on_connection);
    if (rc != 0)
        snprintf(why, why_size, "protection.listen: %s", uv_strerror(rc));
    return rc;
}

int replink_new(struct replink **out, uv_loop_t *loop, const struct replink_config *config,
                const struct replink_handlers *handlers, void *opaque, char *why, size_t why_size)
{
    *out = NULL;
    struct replink *link = calloc(1, sizeof(*link));
    if (link == NULL)
        return -ENOMEM;
    link->loop = loop;
    link->config = *config;
    link->handlers = handlers;
    link->opaque = opaque;
    snprintf(link->why, sizeof(link->why), "not connected yet");
    int rc = make_ctx(config, &link->ctx, why, why_size);
    if (rc != 0) {
        free(link);
        return rc;
    }
    uv_tcp_init(loop, &link->server);
    uv_timer_init(loop, &link->tick);
    link->server.data = link->tick.data = link;
    link->open_handles = 2;
    rc = start(link, why, why_size);
    if (rc == 0)
        rc = uv_timer_start(&link->tick, on_tick, 0, TICK_MS);
    if (rc != 0) {
        replink_free(link);
        return rc;
    }
    *out = link;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct replink *link = handle->data;
    link->open_handles--;
    link_unref(link);
}

void replink_free(struct replink *link)
{
    if (link == NULL || link->closing)
        return;
    link->closing = true;
    for (struct conn *conn = link->conns; conn != NULL; conn = conn->next)
        conn_close(conn, NULL);
    uv_close((uv_handle_t *)&link->server, on_closed);
    uv_close((uv_handle_t *)&link->tick, on_closed);
}

bool replink_up(const struct replink *link)
{
    return link->up != NULL;
}

bool replink_room(const struct replink *link)
{
    return link->up != NULL &&
           uv_stream_get_write_queue_size((const uv_stream_t *)&link->up->tcp) < REPLINK_ROOM;
}

int replink_send(struct replink *link, const void *frame)
{
    return link->up != NULL ? conn_send(link->up, frame) : -ENOTCONN;
}

void replink_drop(struct replink *link, const char *why)
{
    if (link->up != NULL)
        refuse(link->up, why);
}

uint16_t replink_port(const struct replink *link)
{
    struct sockaddr_storage at;
    int size = sizeof(at);
    if (uv_tcp_getsockname(&link->server, (struct sockaddr *)&at, &size) != 0)
        return 0;
    return ntohs(at.ss_family == AF_INET ? ((struct sockaddr_in *)&at)->sin_port
                                         : ((struct sockaddr_in6 *)&at)->sin6_port);
}

const char *replink_why(const struct replink *link)
{
    return link->up != NULL ? "" : link->why;
}

const struct replink_counts *replink_counts(const struct replink *link)
{
    return &link->counts;
}
