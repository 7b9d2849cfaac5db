#include "feedback.h"
#include "failover.h"
#include "fanout.h"
#include "ingest.h"
#include "rtcp.h"

#define RTCP_BUFFER 1200
// Packets that may be resent: per session and per worker, per second and at once.
#define SESSION_NACK_RATE 2000.0
#define SESSION_NACK_BURST 500.0
#define WORKER_NACK_RATE 400000.0
#define WORKER_NACK_BURST 40000.0
#define REPEAT_MIN_MS 10 // a request that comes sooner after the last is the same one
#define REPEAT_MAX_MS 200

int feedback_send(struct worker *worker, struct session *session, uint8_t *packet, size_t length)
{
    size_t size;
    // An index is spent even if the packet is not sent: never twice (RFC 3711 3.4).
    int rc = protect_rtcp_seal(worker->protect, &session->rtcp_tx, packet, length,
                               session->rtcp_index++ & 0x7fffffff, &size);
    if (rc == 0)
        rc = worker_send_payload(worker, session, packet, size);
    if (rc == 0)
        worker_count(worker, COUNT_rtcp_out, 1);
    return rc;
}

// The replay state of the packet's sender, or a free one, or NULL if it speaks as too many.
static struct protect_source *find_source(struct worker *worker, struct session *session,
                                          uint32_t ssrc)
{
    struct protect_source *list = session->rtcp_source;
    unsigned count = SESSION_RTCP_SOURCES;
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    if (session->role == ROLE_PUBLISH) {
        if (!stream)
            return NULL;
        list = stream->rtcp_source;
        count = STREAM_RTCP_SOURCES;
    }
    for (unsigned i = 0; i < count; i++) {
        bool unused = list[i].ssrc == 0 && replay_empty(&list[i].replay);
        if (unused || list[i].ssrc == ssrc)
            return &list[i];
    }
    return NULL;
}

static bool take_token(double *tokens, uint64_t *at_ns, uint64_t now_ns, double rate, double burst)
{
    *tokens += (double)(now_ns - *at_ns) * 1e-9 * rate;
    *at_ns = now_ns;
    if (*tokens > burst)
        *tokens = burst;
    if (*tokens < 1)
        return false;
    *tokens -= 1;
    return true;
}

// Whether this packet was resent to this session within the last round trip; notes it if not.
static bool repeated(struct session *session, uint32_t ssrc, uint16_t seq, uint64_t now_ns)
{
    uint32_t rtt_ms = session->rtt_us / 1000;
    uint32_t window = rtt_ms < REPEAT_MIN_MS   ? REPEAT_MIN_MS
                      : rtt_ms > REPEAT_MAX_MS ? REPEAT_MAX_MS
                                               : rtt_ms;
    uint32_t key = ssrc << 16 | seq;
    uint32_t now_ms = (uint32_t)(now_ns / 1000000);
    uint32_t at = (key ^ key >> 16) % SESSION_RESENT;
    if (session->resent_recently[at].key == key &&
        now_ms - session->resent_recently[at].at_ms < window)
        return true;
    session->resent_recently[at].key = key;
    session->resent_recently[at].at_ms = now_ms;
    return false;
}

static void resend(struct worker *worker, struct session *session, uint8_t number,
                   struct track *track, struct sub *sub, uint16_t seq)
{
    session->nacks++;
    worker_count(worker, COUNT_nack_asked, 1);
    uint64_t highest = (track->next_index + sub->delta) & INDEX_MASK;
    uint64_t index = (rtp_nearest_seq(highest, seq) - sub->delta) & INDEX_MASK;
    struct rte_mbuf *packet = sub->numbered ? cache_get(&track->ring, index) : NULL;
    enum drop why = DROP_nack_missing;
    if (packet) {
        why = DROP_nack_repeated;
        if (repeated(session, sub->ssrc, seq, worker->now_ns))
            packet = NULL;
    }
    if (packet) {
        why = DROP_nack_budget;
        if (!take_token(&session->nack_tokens, &session->nack_tokens_ns, worker->now_ns,
                        SESSION_NACK_RATE, SESSION_NACK_BURST) ||
            !take_token(&worker->nack_tokens, &worker->nack_tokens_ns, worker->now_ns,
                        WORKER_NACK_RATE, WORKER_NACK_BURST))
            packet = NULL;
    }
    if (!packet) {
        worker_drop(worker, why);
        return;
    }
    bool rtx =
        sub->rtx_ssrc && sub->rtx_pt != MSG_NO_PT && failover_lease_rtx(worker, session, number);
    worker_stage(worker, STAGE_resend);
    if (fanout_resend(worker, track, tables_sender(&worker->tables, session), sub, packet, rtx)) {
        session->resent++;
        worker_count(worker, COUNT_nack_answered, 1);
    }
    worker_stage(worker, STAGE_feedback);
}

// The viewer's track that sends this SSRC; its stream track in `*track`.
static struct sub *find_sub(struct worker *worker, struct session *session, uint32_t ssrc,
                            struct track **track, uint8_t *number)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    for (uint8_t i = 0; stream && i < session->tracks; i++) {
        struct sub *sub = tables_sub(&worker->tables, session, i);
        if (!sub || sub->ssrc != ssrc)
            continue;
        *track = &stream->track[session->track[i].source];
        *number = i;
        return sub;
    }
    return NULL;
}

static void want_keyframe(struct worker *worker, struct session *session, uint32_t ssrc)
{
    struct track *track;
    uint8_t number;
    session->plis++;
    worker_count(worker, COUNT_pli_in, 1);
    if (find_sub(worker, session, ssrc, &track, &number))
        track->key_wanted = true;
}

static void on_block(struct worker *worker, struct session *session, const struct rtcp_block *block)
{
    struct track *track;
    uint8_t number;
    if (session->role != ROLE_PLAY || !find_sub(worker, session, block->ssrc, &track, &number))
        return;
    struct session_track *feedback = &session->feedback[number];
    feedback->loss_permille = block->fraction_lost * 1000u / 256;
    feedback->jitter = block->jitter;
    feedback->lost = block->cumulative_lost > 0 ? (uint64_t)block->cumulative_lost : 0;
    uint64_t rtt_ns;
    uint64_t now_ntp = track->clock.ntp + rtcp_ntp_from_ns(worker->now_ns - track->clock.at_ns) -
                       rtcp_ntp_from_ns(0);
    if (track->clock.ntp && rtcp_rtt_ns(rtcp_ntp_middle(now_ntp), block->lsr, block->dlsr, &rtt_ns))
        session->rtt_us = (uint32_t)(rtt_ns / 1000);
}

static void on_nack(struct worker *worker, struct session *session,
                    const struct rtcp_packet *packet)
{
    struct rtcp_feedback head;
    struct rtcp_nack_iter iter;
    struct track *track;
    uint8_t number;
    uint16_t seq;
    if (!rtcp_read_feedback(packet, &head) || !rtcp_nack_begin(&iter, packet))
        return;
    struct sub *sub = find_sub(worker, session, head.media_ssrc, &track, &number);
    while (sub && rtcp_nack_next(&iter, &seq))
        resend(worker, session, number, track, sub, seq);
}

static void on_viewer_feedback(struct worker *worker, struct session *session,
                               const struct rtcp_packet *packet)
{
    struct rtcp_feedback head;
    uint32_t ssrc;
    uint8_t seq;
    if (packet->type == RTCP_RTPFB && packet->count == RTPFB_NACK) {
        on_nack(worker, session, packet);
    } else if (rtcp_is_pli(packet) && rtcp_read_feedback(packet, &head)) {
        want_keyframe(worker, session, head.media_ssrc);
    } else if (packet->type == RTCP_PSFB && packet->count == PSFB_FIR) {
        // The same command number is the same request, repeated (RFC 5104 4.3.1.2).
        for (unsigned i = 0; rtcp_read_fir(packet, i, &ssrc, &seq); i++) {
            if (seq == session->fir_seq && session->plis)
                continue;
            session->fir_seq = seq;
            want_keyframe(worker, session, ssrc);
        }
    }
}

static void on_publisher_packet(struct worker *worker, struct stream *stream,
                                const struct rtcp_packet *packet)
{
    struct rtcp_sender sender;
    uint32_t ssrc;
    if (packet->type == RTCP_SR && rtcp_read_sr(packet, &sender))
        ingest_sender_report(worker, stream, &sender);
    for (unsigned i = 0; packet->type == RTCP_BYE && rtcp_read_bye(packet, i, &ssrc); i++)
        ingest_bye(worker, stream, ssrc);
}

static void handle(struct worker *worker, struct session *session, const uint8_t *data,
                   size_t length)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    rtcp_begin(&iter, data, length);
    while (rtcp_next(&iter, &packet) == 1) {
        if (packet.type == RTCP_SR || packet.type == RTCP_RR) {
            struct rtcp_block block;
            for (unsigned i = 0; i < packet.count && rtcp_read_block(&packet, i, &block); i++)
                on_block(worker, session, &block);
        }
        if (session->role == ROLE_PLAY)
            on_viewer_feedback(worker, session, &packet);
        else if (stream)
            on_publisher_packet(worker, stream, &packet);
    }
}

void feedback_rtcp(struct worker *worker, struct session *session, const uint8_t *packet,
                   size_t length)
{
    uint8_t plain[2048];
    size_t size;
    uint32_t index;
    if (session->state != SESSION_KEYED) {
        worker_drop(worker, DROP_rtp_no_keys);
        return;
    }
    if (length < 8 || length > sizeof(plain)) {
        worker_drop(worker, DROP_rtp_malformed);
        return;
    }
    uint32_t ssrc = load_be32(packet + 4);
    struct protect_source *found = find_source(worker, session, ssrc);
    if (!found) {
        worker_drop(worker, DROP_rtp_unknown_ssrc);
        return;
    }
    struct protect_source source = *found;
    source.ssrc = ssrc;
    int rc = protect_rtcp_open(worker->protect, &session->rtcp_rx, &source, packet, length, plain,
                               &size, &index);
    if (rc) {
        worker_drop(worker, rc == -EALREADY  ? DROP_srtcp_replay
                            : rc == -EBADMSG ? DROP_srtcp_auth
                                             : DROP_rtp_malformed);
        return;
    }
    *found = source;
    session->heard_ns = worker->now_ns;
    worker_count(worker, COUNT_rtcp_in, 1);
    if (rtcp_check(plain, size)) {
        worker_drop(worker, DROP_rtp_malformed);
        return;
    }
    if (!failover_active(worker, tables_sender(&worker->tables, session)->group))
        return; // the partner answers
    handle(worker, session, plain, size);
}

// A compound's first SSRC names the SRTCP stream. Two nodes that serve one session must not count
// the same one, so a protected session's compounds begin with a report of the node's own.
static size_t begin(struct worker *worker, const struct session *session, uint8_t *buffer,
                    size_t room)
{
    bool alone = tables_sender(&worker->tables, session)->group == 0;
    return alone ? 0 : rtcp_write_rr(buffer, room, 0, session->ssrc, NULL, 0);
}

// Continues the publisher's clock to now, so that LSR tells us when we sent the report.
void feedback_report(struct worker *worker, struct session *session)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    for (uint8_t i = 0; stream && i < session->tracks; i++) {
        const struct sub *sub = tables_sub(&worker->tables, session, i);
        const struct track *track = &stream->track[session->track[i].source];
        if (!sub || !sub->packets || !track->clock.ntp)
            continue;
        uint64_t elapsed = worker->now_ns - track->clock.at_ns;
        struct rtcp_sender sender = {
            .ssrc = sub->ssrc,
            .ntp = track->clock.ntp + rtcp_ntp_from_ns(elapsed) - rtcp_ntp_from_ns(0),
            .rtp = track->clock.timestamp + rtp_clock(elapsed, track->config.clock_rate),
            .packets = (uint32_t)sub->packets,
            .bytes = (uint32_t)sub->bytes};
        uint8_t buffer[RTCP_BUFFER];
        size_t room = sizeof(buffer) - PROTECT_RTCP_ROOM;
        size_t length = begin(worker, session, buffer, room);
        length = rtcp_write_sr(buffer, room, length, &sender, NULL, 0);
        length = rtcp_write_sdes(buffer, room, length, sub->ssrc, "hitless");
        feedback_send(worker, session, buffer, length);
    }
}

void feedback_bye(struct worker *worker, struct session *session)
{
    uint32_t ssrcs[MSG_MAX_TRACKS];
    unsigned count = 0;
    if (session->state != SESSION_KEYED || session->role != ROLE_PLAY)
        return;
    for (uint8_t i = 0; i < session->tracks; i++)
        ssrcs[count++] = session->track[i].layer[0].ssrc;
    if (count == 0)
        return;
    uint8_t buffer[RTCP_BUFFER];
    size_t room = sizeof(buffer) - PROTECT_RTCP_ROOM;
    size_t length = begin(worker, session, buffer, room);
    if (length == 0)
        length = rtcp_write_rr(buffer, room, 0, ssrcs[0], NULL, 0);
    length = rtcp_write_bye(buffer, room, length, ssrcs, count);
    feedback_send(worker, session, buffer, length);
}
