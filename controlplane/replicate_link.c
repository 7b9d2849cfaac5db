// Which connections to the partner there are: certificates, listening, dialling, time; see
// replicate_link.h.
#include "replicate_link.h"
#include "replicate_conn.h"
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS 50

// ---- listening and dialling

static bool is_pending(const struct conn *conn, bool dialled)
{
    return conn->dialled == dialled && conn->state != CONN_UP && conn->state != CONN_CLOSED;
}

static bool is_dialling(const struct replink *link)
{
    for (const struct conn *conn = link->conns; conn != NULL; conn = conn->next)
        if (is_pending(conn, true))
            return true;
    return false;
}

// Whether it comes from the address that we dial.
static bool comes_from_partner(const struct conn *conn)
{
    struct sockaddr_storage from = {0};
    const struct abi_addr *partner = &conn->link->config.address;
    int size = sizeof(from);
    if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&from, &size) != 0)
        return false;
    if (from.ss_family == AF_INET)
        return partner->family == 4 &&
               memcmp(partner->ip, &((struct sockaddr_in *)&from)->sin_addr, 4) == 0;
    const struct in6_addr *in6 = &((struct sockaddr_in6 *)&from)->sin6_addr;
    if (partner->family == 4) // a listener on [::] names it so
        return IN6_IS_ADDR_V4MAPPED(in6) && memcmp(partner->ip, in6->s6_addr + 12, 4) == 0;
    return memcmp(partner->ip, in6, 16) == 0;
}

// Strangers may hold up neither us nor the partner: when too many have not greeted yet, the one
// that has taken longest goes, and whoever comes from the partner's address does not count among
// them.
static void make_room(struct replink *link, bool from_partner)
{
    struct conn *oldest = NULL;
    unsigned count = 0;
    for (struct conn *conn = link->conns; conn != NULL; conn = conn->next)
        if (is_pending(conn, false) && conn->from_partner == from_partner) {
            oldest = conn; // new ones are put first
            count++;
        }
    if (count > REPLINK_PENDING)
        conn_close(oldest, NULL);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct replink *link = server->data;
    struct conn *conn = status == 0 ? conn_new(link, false) : NULL;
    if (conn == NULL)
        return;
    if (uv_accept(server, (uv_stream_t *)&conn->tcp) != 0) {
        conn_close(conn, NULL);
        return;
    }
    conn->from_partner = comes_from_partner(conn);
    if (conn->from_partner && replink_shuns(link)) {
        link->counts.refused++;
        conn_close(conn, NULL);
        return;
    }
    make_room(link, conn->from_partner);
    conn_begin(conn);
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
        conn_begin(conn);
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
    link->dial_ms = replink_now_ms(link);
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
    uint64_t now = replink_now_ms(link);
    for (struct conn *next, *conn = link->conns; conn != NULL; conn = next) {
        next = conn->next;
        look_at(conn, now);
    }
    uint64_t pause = replink_leads(link) ? REPLINK_DIAL_MS : 3 * REPLINK_DIAL_MS;
    if (link->up == NULL && link->config.address.port != 0 && !is_dialling(link) &&
        !replink_shuns(link) && now - link->dial_ms >= pause)
        dial(link);
}

static void on_rested(uv_timer_t *timer)
{
    struct replink *link = timer->data;
    for (struct conn *conn = link->conns; conn != NULL; conn = conn->next)
        conn_resume(conn); // one that closes stays in the list until the loop's next turn
}

void replink_rest(struct replink *link)
{
    uv_update_time(link->loop); // the stretch is over now, not when the turn began
    if (!uv_is_active((uv_handle_t *)&link->rest))
        uv_timer_start(&link->rest, on_rested, REPLINK_REST_MS, 0);
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
        rc = uv_listen((uv_stream_t *)&link->server, SOMAXCONN, on_connection);
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
    uv_timer_init(loop, &link->rest);
    link->server.data = link->tick.data = link->rest.data = link;
    link->open_handles = 3;
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

void replink_unref(struct replink *link)
{
    if (!link->closing || link->open_handles > 0 || link->conns != NULL)
        return;
    SSL_CTX_free(link->ctx);
    free(link);
}

static void on_closed(uv_handle_t *handle)
{
    struct replink *link = handle->data;
    link->open_handles--;
    replink_unref(link);
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
    uv_close((uv_handle_t *)&link->rest, on_closed);
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
        conn_refuse(link->up, why);
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
