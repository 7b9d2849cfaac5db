// One connection to the partner: TLS, greeting, frames both ways, and its end; see
// replicate_link.h.
//
// OpenSSL works on memory BIOs: what TCP brought goes into one, what is to be sent is taken out of
// the other. A connection's memory goes when its handle is closed and its last write is done.
#include "replicate_conn.h"
#include "log.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

struct write {
    uv_write_t request;
    uint8_t bytes[];
};

// ---- its end

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
    replink_unref(link);
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

void conn_close(struct conn *conn, const char *why)
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

int conn_send(struct conn *conn, const void *frame)
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
    conn->said_ms = replink_now_ms(conn->link);
    conn->link->counts.sent++;
    flush(conn);
    return conn->state == CONN_CLOSED ? -ENOTCONN : 0;
}

void conn_refuse(struct conn *conn, const char *why)
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
    if (old != NULL && old->dialled == replink_leads(link) &&
        conn->dialled != replink_leads(link)) {
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
    link->handlers->up(link->opaque, &conn->frame.hello, replink_leads(link));
}

static bool flooded(struct replink *link, uint32_t frames)
{
    uint64_t now = replink_now_ms(link);
    if (now - link->window_ms >= 1000) {
        link->window_ms = now;
        link->window_frames = 0;
    }
    link->window_frames += frames;
    return link->window_frames > REPLINK_FRAMES_PER_S;
}

// Hung up on alone it would be back at once.
static void shun(struct conn *conn)
{
    conn->link->counts.floods++;
    conn->link->shun_until_ms = replink_now_ms(conn->link) + REPLINK_SHUN_MS;
    conn_refuse(conn, "floods us");
}

static void on_hello(struct conn *conn)
{
    char why[200], line[256];
    if (conn->state != CONN_GREETING) {
        conn_refuse(conn, "it greets twice");
        return;
    }
    if (wire_check_hello(&conn->frame.hello, conn->link->config.partner, why, sizeof(why)) != 0) {
        conn->link->counts.refused++;
        snprintf(line, sizeof(line), "refused: %s", why);
        conn_refuse(conn, line);
    } else if (replink_shuns(conn->link)) {
        conn->link->counts.refused++;
        conn_refuse(conn, "refused: it flooded us a moment ago");
    } else if (flooded(conn->link, REPLINK_UP_FRAMES)) {
        shun(conn);
    } else {
        rise(conn);
    }
}

static void on_frame(struct conn *conn)
{
    const struct wire_head *head = &conn->frame.head;
    struct replink *link = conn->link;
    char why[200] = "", line[256];
    link->counts.received++;
    if (wire_check(head) != 0) {
        snprintf(line, sizeof(line), "sent a malformed %s", wire_name(head->type));
        conn_refuse(conn, line);
    } else if (flooded(link, 1)) {
        shun(conn);
    } else if (head->type == WIRE_HELLO) {
        on_hello(conn);
    } else if (head->type == WIRE_REFUSE) {
        snprintf(line, sizeof(line), "hung up: %s", conn->frame.refuse.reason);
        conn_close(conn, line);
    } else if (conn->state != CONN_UP) {
        conn_refuse(conn, "did not greet");
    } else if (head->type != WIRE_PING &&
               link->handlers->frame(link->opaque, &conn->frame, why, sizeof(why)) != 0) {
        conn_refuse(conn, why);
    }
}

// Takes decrypted bytes up to the end of one frame. False when there are no more.
static bool take_bytes(struct conn *conn)
{
    int length = wire_length(conn->frame.bytes, conn->have);
    if (length < 0) {
        conn_refuse(conn, "sent no frame");
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

// What we do for the partner costs it twice the time. True: it is a stretch ahead.
static bool overdrawn(struct replink *link, uint64_t *since_ns)
{
    uint64_t now = uv_hrtime(), used = link->used_ns > *since_ns ? link->used_ns : *since_ns;
    link->used_ns = used + 2 * (now - *since_ns);
    *since_ns = now;
    return link->used_ns > now + REPLINK_STRETCH_MS * UINT64_C(1000000);
}

// TCP makes the partner wait.
static void rest(struct conn *conn)
{
    if (conn->state == CONN_CLOSED)
        return;
    conn->resting = true;
    conn->link->counts.rests++;
    uv_read_stop((uv_stream_t *)&conn->tcp);
    replink_rest(conn->link);
}

static void on_bytes(struct conn *conn)
{
    uint64_t since = uv_hrtime();
    if (conn->state == CONN_TLS)
        shake_hands(conn);
    ERR_clear_error();
    while ((conn->state == CONN_GREETING || conn->state == CONN_UP) && take_bytes(conn))
        if (overdrawn(conn->link, &since)) {
            rest(conn);
            break;
        }
    if (conn->state == CONN_UP)
        conn->link->handlers->turn(conn->link->opaque);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct conn *conn = handle->data;
    *buffer = uv_buf_init(conn->link->buffer, REPLINK_READ_SIZE);
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
    conn->heard_ms = replink_now_ms(conn->link);
    if (BIO_write(conn->in, buffer->base, (int)size) != size)
        conn_close(conn, "out of memory");
    else
        on_bytes(conn);
}

static void read_on(struct conn *conn)
{
    if (uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) != 0)
        conn_close(conn, "cannot be read from");
}

void conn_resume(struct conn *conn)
{
    if (!conn->resting || conn->state == CONN_CLOSED)
        return;
    conn->resting = false;
    on_bytes(conn);
    if (!conn->resting && conn->state != CONN_CLOSED)
        read_on(conn);
}

// ---- its beginning

struct conn *conn_new(struct replink *link, bool dialled)
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
    conn->since_ms = conn->heard_ms = conn->said_ms = replink_now_ms(link);
    conn->tcp.data = conn->connect.data = conn;
    conn->next = link->conns;
    link->conns = conn;
    return conn;
}

void conn_begin(struct conn *conn)
{
    uv_tcp_nodelay(&conn->tcp, 1);
    conn->state = CONN_TLS;
    read_on(conn);
    if (conn->dialled && conn->state != CONN_CLOSED)
        shake_hands(conn);
}
