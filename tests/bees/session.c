// One session: a WebRTC client from its socket to its statistics; see session.h.
#include "session.h"
#include "../../dataplane/rtcp.h"
#include "net.h"
#include "publisher.h"
#include "viewer.h"
#include "worker.h"
#include <errno.h>
#include <linux/sock_diag.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DTLS_POLL_NS 50000000ull // how often OpenSSL's own clock is looked at
#define NOBODY_NS 5000000000ull  // connected, but no media: a failure after so long

static enum bees_failure socket_failure(int rc)
{
    switch (rc) {
    case -EMFILE:
    case -ENFILE:
        return BEES_FAILURE_fd_limit;
    case -EADDRINUSE:
    case -EAGAIN:
        return BEES_FAILURE_port_exhaustion;
    default:
        return BEES_FAILURE_out_of_memory;
    }
}

static bool make_up(struct session *s)
{
    struct offer *offer = &s->offer;
    uint32_t ssrc[2][2][OFFER_SIMULCAST];
    if (RAND_bytes((uint8_t *)ssrc, sizeof(ssrc)) != 1 ||
        RAND_bytes((uint8_t *)&offer->id, sizeof(offer->id)) != 1 ||
        RAND_bytes((uint8_t *)&s->ssrc, sizeof(s->ssrc)) != 1 || agent_init(&s->agent) != 0)
        return false;
    offer->id >>= 1;
    s->ssrc |= 1;
    for (int t = 0; t < offer->tracks; t++) {
        for (int l = 0; l < OFFER_SIMULCAST; l++) {
            offer->track[t].ssrc[l] = ssrc[t][0][l] | 1;
            offer->track[t].rtx_ssrc[l] = ssrc[t][1][l] | 1;
        }
    }
    memcpy(offer->ufrag, s->agent.ufrag, AGENT_UFRAG);
    memcpy(offer->pwd, s->agent.pwd, AGENT_PWD);
    return true;
}

enum bees_failure session_new(struct session **session, struct bees_session *result,
                              const struct offer *offer)
{
    uint16_t port = 0;
    struct session *s = aligned_alloc(ABI_CACHE_LINE, (sizeof(*s) + 63) & ~63ul);
    *session = NULL;
    if (s == NULL)
        return BEES_FAILURE_out_of_memory;
    memset(s, 0, sizeof(*s));
    s->result = result;
    s->offer = *offer;
    s->sampled = true;
    s->fd = make_up(s) ? net_open(&s->family, &port) : -ENOMEM;
    if (s->fd < 0) {
        enum bees_failure failure = socket_failure(s->fd);
        free(s);
        return failure;
    }
    for (int i = 0; i < s->offer.locals; i++)
        s->offer.local[i].port = port;
    *session = s;
    return BEES_FAILURE_none;
}

void session_free(struct session *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0)
        close(s->fd);
    explicit_bzero(s, sizeof(*s));
    free(s);
}

static void send_to(void *opaque, const struct abi_addr *to, const uint8_t *data, size_t size)
{
    struct session *s = opaque;
    struct sockaddr_storage addr;
    socklen_t length = net_to_sockaddr(&addr, to, s->family);
    if (length == 0 || sendto(s->fd, data, size, 0, (struct sockaddr *)&addr, length) < 0)
        s->result->count.send_errors++;
}

void session_send(struct session *s, const uint8_t *data, size_t size)
{
    const struct abi_addr *to = agent_path(&s->agent);
    if (to != NULL)
        send_to(s, to, data, size);
}

static void send_dtls(void *opaque, const uint8_t *data, size_t size)
{
    session_send(opaque, data, size);
}

void session_send_rtcp(struct session *s, uint8_t *packet, size_t size)
{
    size_t sealed;
    if (size == 0 || protect_rtcp_seal(s->worker->protect, &s->rtcp_tx, packet, size, s->rtcp_index,
                                       &sealed) != 0)
        return;
    s->rtcp_index++;
    s->result->count.rtcp_sent++;
    session_send(s, packet, sealed);
}

void session_step(struct session *s, enum bees_step step, uint64_t now_ns)
{
    if (s->result->step_ns[step])
        return;
    uint64_t taken = now_ns > s->begin_ns ? now_ns - s->begin_ns : 1;
    s->result->step_ns[step] = taken;
    worker_note(s->worker, BEES_DIST_post + (enum bees_distribution)step, taken);
    bool last = step == (s->result->role == BEES_WHEP ? BEES_STEP_packet : BEES_STEP_dtls);
    if (!last)
        return;
    s->result->connected = true;
    worker_note(s->worker, BEES_DIST_join, taken);
    hist_add(&s->worker->joined[s->worker->half & 1], taken / 1000);
    s->worker->open++;
}

void session_hurry(struct session *s, uint64_t due_ns)
{
    if (due_ns < s->worker->due[s->slot])
        s->worker->due[s->slot] = due_ns;
}

void session_start(struct session *s, uint64_t now_ns)
{
    bool reduced = true;
    s->deadline_ns = s->asked_ns + s->worker->config->join_ns;
    s->sampled = !s->worker->config->headers_only || s->result->number % 64 == 0;
    impair_path_init(&s->path, s->worker->config->seed + s->result->number);
    for (int t = 0; t < s->answer.tracks; t++)
        reduced &= s->answer.track[t].formats == 0 || s->answer.track[t].reduced_rtcp;
    s->reduced_rtcp = reduced;
    if (agent_remote(&s->agent, s->answer.ufrag, s->answer.pwd) != 0) {
        session_end(s, BEES_FAILURE_bad_answer, now_ns);
        return;
    }
    for (int i = 0; i < s->answer.candidates; i++)
        agent_add(&s->agent, &s->answer.candidate[i].addr, s->answer.candidate[i].priority, now_ns);
    if (dtls_new(&s->dtls, s->worker->config->identity,
                 s->answer.dtls_client ? DTLS_CLIENT : DTLS_SERVER, s->answer.fingerprint,
                 s->answer.fingerprints, send_dtls, s) != 0)
        session_end(s, BEES_FAILURE_out_of_memory, now_ns);
}

static void open_media(struct session *s, uint64_t now_ns)
{
    struct dtls_keys keys;
    struct protect *p = s->worker->protect;
    int rc = dtls_export(s->dtls, &keys);
    if (rc == 0)
        rc = protect_rx_init(p, &s->rx, keys.profile, keys.remote);
    if (rc == 0)
        rc = protect_tx_init(p, &s->tx, keys.profile, keys.local);
    if (rc == 0)
        rc = protect_rtcp_rx_init(&s->rtcp_rx, keys.profile, keys.remote);
    if (rc == 0)
        rc = protect_rtcp_tx_init(&s->rtcp_tx, keys.profile, keys.local);
    dtls_wipe(&keys, sizeof(keys));
    s->phase = SESSION_OPEN;
    s->open_ns = now_ns;
    s->report_ns = now_ns + 1000000000ull;
    if (rc == 0)
        rc = s->result->role == BEES_WHEP ? viewer_open(s, now_ns) : publisher_open(s, now_ns);
    if (rc != 0) {
        session_end(s, BEES_FAILURE_out_of_memory, now_ns);
        return;
    }
    s->result->count.handshakes++;
    session_step(s, BEES_STEP_dtls, now_ns);
    session_hurry(s, now_ns);
}

static void on_dtls(struct session *s, enum dtls_state state, uint64_t now_ns)
{
    static const enum bees_failure failures[] = {
        [DTLS_FAILURE_NONE] = BEES_FAILURE_dtls_failed,
        [DTLS_FAILURE_FINGERPRINT] = BEES_FAILURE_dtls_fingerprint,
        [DTLS_FAILURE_PROFILE] = BEES_FAILURE_dtls_failed,
        [DTLS_FAILURE_ALERT] = BEES_FAILURE_dtls_failed,
        [DTLS_FAILURE_TIMEOUT] = BEES_FAILURE_dtls_timeout,
        [DTLS_FAILURE_PROTOCOL] = BEES_FAILURE_dtls_failed,
    };
    if (state == DTLS_OPEN && s->phase != SESSION_OPEN)
        open_media(s, now_ns);
    else if (state == DTLS_FAILED)
        session_end(s, failures[dtls_failure(s->dtls)], now_ns);
    else if (state == DTLS_CLOSED)
        session_end(s, BEES_FAILURE_closed_by_server, now_ns);
}

// What follows once checks have chosen a path.
static void on_path(struct session *s, uint64_t now_ns)
{
    if (s->phase != SESSION_ICE || agent_path(&s->agent) == NULL)
        return;
    s->phase = SESSION_DTLS;
    session_step(s, BEES_STEP_ice, now_ns);
    const struct agent_pair *pair = &s->agent.pair[s->agent.selected];
    if (pair->rtt_ns)
        worker_note(s->worker, BEES_DIST_rtt, pair->rtt_ns);
    on_dtls(s, dtls_start(s->dtls), now_ns);
    if (s->phase != SESSION_ENDED)
        session_hurry(s, now_ns);
}

static void on_rtcp(struct session *s, uint8_t *data, size_t size, uint64_t now_ns)
{
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    size_t plain = session_rtcp_open(s, data, size);
    if (plain == 0)
        return;
    for (rtcp_begin(&iter, data, plain); rtcp_next(&iter, &packet) > 0;) {
        if (s->viewer)
            viewer_rtcp(s, &packet, now_ns);
        else if (s->publisher)
            publisher_rtcp(s, &packet, now_ns);
    }
}

void session_input(struct session *s, const struct abi_addr *from, uint8_t *data, size_t size,
                   uint64_t arrived_ns, uint64_t now_ns)
{
    uint8_t first = size ? data[0] : 255; // RFC 7983
    if (arrived_ns > s->arrived_ns)
        s->arrived_ns = arrived_ns;
    if (first >= 128 && first <= 191) {
        if (s->phase != SESSION_OPEN)
            return; // keys are not there yet: as a browser does
        if (size >= 2 && data[1] >= 192 && data[1] <= 223) {
            on_rtcp(s, data, size, now_ns);
        } else if (s->viewer) {
            viewer_packet(s, from, data, size, s->arrived_ns);
        }
    } else if (first <= 3) {
        uint64_t sent = s->agent.checks_sent, received = s->agent.checks_received;
        agent_input(&s->agent, from, data, size, now_ns, send_to, s);
        s->result->count.checks_sent += s->agent.checks_sent - sent;
        s->result->count.checks_received += s->agent.checks_received - received;
        if (!s->agent.connected)
            session_hurry(s, now_ns);
        on_path(s, now_ns);
    } else if (first >= 20 && first <= 63) {
        if (s->dtls != NULL && agent_knows(&s->agent, from))
            on_dtls(s, dtls_input(s->dtls, data, size), now_ns);
    } else {
        s->result->count.malformed++;
    }
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// Time-outs of joining, and consent. True if the session ended.
static bool overdue(struct session *s, uint64_t now_ns)
{
    if (agent_dead(&s->agent, now_ns)) {
        session_end(s, s->agent.connected ? BEES_FAILURE_consent_lost : BEES_FAILURE_ice_timeout,
                    now_ns);
        return true;
    }
    if (s->phase == SESSION_OPEN || now_ns < s->deadline_ns)
        return false;
    session_end(s, s->phase == SESSION_ICE ? BEES_FAILURE_ice_timeout : BEES_FAILURE_dtls_timeout,
                now_ns);
    return true;
}

uint64_t session_tick(struct session *s, uint64_t now_ns)
{
    uint64_t sent = s->agent.checks_sent;
    uint64_t next = agent_tick(&s->agent, now_ns, send_to, s);
    s->result->count.checks_sent += s->agent.checks_sent - sent;
    on_path(s, now_ns);
    if (s->phase == SESSION_ENDED || overdue(s, now_ns))
        return UINT64_MAX;
    if (s->phase == SESSION_DTLS) {
        if (dtls_timeout_ms(s->dtls) == 0)
            on_dtls(s, dtls_tick(s->dtls), now_ns);
        next = min64(next, now_ns + DTLS_POLL_NS);
    }
    if (s->phase == SESSION_OPEN)
        next = min64(next, s->viewer ? viewer_tick(s, now_ns) : publisher_tick(s, now_ns));
    else if (s->phase != SESSION_ENDED)
        next = min64(next, s->deadline_ns);
    return s->phase == SESSION_ENDED ? UINT64_MAX : next;
}

// What only the end shows.
static enum bees_failure final_failure(const struct session *s, uint64_t now_ns)
{
    if (s->phase == SESSION_ICE || s->phase == SESSION_DTLS)
        return BEES_FAILURE_interrupted;
    if (s->result->role != BEES_WHEP)
        return BEES_FAILURE_none;
    if (s->last_packet_ns == 0)
        return now_ns - s->open_ns >= NOBODY_NS ? BEES_FAILURE_no_media : BEES_FAILURE_interrupted;
    return now_ns - s->last_packet_ns > s->worker->config->stop_gap_ns ? BEES_FAILURE_media_stopped
                                                                       : BEES_FAILURE_none;
}

static void say_goodbye(struct session *s)
{
    uint8_t packet[SESSION_RTCP_MAX + PROTECT_RTCP_ROOM];
    if (s->phase != SESSION_OPEN)
        return;
    size_t size = rtcp_write_rr(packet, SESSION_RTCP_MAX, 0, s->ssrc, NULL, 0);
    session_send_rtcp(s, packet, rtcp_write_bye(packet, SESSION_RTCP_MAX, size, &s->ssrc, 1));
    dtls_close(s->dtls);
}

static void count_socket_drops(struct session *s)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof(info);
    if (getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, info, &size) == 0)
        s->result->count.socket_drops += info[SK_MEMINFO_DROPS];
}

void session_end(struct session *s, enum bees_failure failure, uint64_t now_ns)
{
    if (s->phase == SESSION_ENDED)
        return;
    struct protect *p = s->worker->protect;
    if (failure == BEES_FAILURE_none) {
        failure = final_failure(s, now_ns);
        s->result->ended = true;
        say_goodbye(s);
    }
    s->result->failure = (uint8_t)failure;
    s->result->end_ns = now_ns - s->worker->config->run_ns;
    if (s->agent.connected)
        s->result->rtt_us = (uint32_t)(s->agent.pair[s->agent.selected].rtt_ns / 1000);
    if (s->viewer)
        viewer_close(s, now_ns);
    if (s->publisher)
        publisher_close(s, now_ns);
    if (s->result->connected)
        s->worker->open--;
    s->phase = SESSION_ENDED;
    count_socket_drops(s);
    dtls_free(s->dtls);
    s->dtls = NULL;
    protect_rx_clear(p, &s->rx);
    protect_tx_clear(p, &s->tx);
    session_rtcp_free(&s->rtcp);
    protect_rtcp_rx_clear(&s->rtcp_rx);
    protect_rtcp_tx_clear(&s->rtcp_tx);
    session_hurry(s, now_ns); // the worker takes it off its table
}
