#include "feedback.h"
#include "failover.h"
#include "fanout.h"
#include "ingest.h"
#include "rtcp.h"

#define RTCP_BUFFER 1200
#define REPEAT_MIN_MS 10 // a request that comes sooner after the last is the same one
#define REPEAT_MAX_MS 200
#define RESENT_MS_BITS 13 // of struct resent

int feedback_send(struct worker *worker, struct session *session, uint8_t *packet, size_t length)
{
    size_t size;
    if (!tables_sender(&worker->tables, session)->proven)
        return -ENOTCONN;
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
static struct protect_rtcp_source *find_source(struct worker *worker, struct session *session,
                                               uint32_t ssrc)
{
    struct protect_rtcp_source *list = session->rtcp_source;
    unsigned count = SESSION_RTCP_SOURCES;
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    if (session->role == ROLE_PUBLISH) {
        if (!stream)
            return NULL;
        list = stream->rtcp_source;
        count = STREAM_RTCP_SOURCES;
    }
    for (unsigned i = 0; i < count; i++) {
        bool unused = list[i].ssrc == 0 && replay_short_empty(&list[i].replay);
        if (unused || list[i].ssrc == ssrc)
            return &list[i];
    }
    return NULL;
}

// Where it is noted that this packet was sent again to this session.
static struct resent *resent_slot(struct session *session, uint8_t track, uint16_t seq)
{
    return &session
                ->resent_recently[(seq + track * SESSION_RESENT / MSG_MAX_TRACKS) % SESSION_RESENT];
}

static uint16_t resent_at(const struct worker *worker, uint8_t track)
{
    return (uint16_t)((track + 1) << RESENT_MS_BITS |
                      (worker->now_ns / 1000000 & ((1 << RESENT_MS_BITS) - 1)));
}

// Whether this packet was sent again to this session within the last round trip.
static bool repeated(const struct worker *worker, struct session *session, uint8_t track,
                     uint16_t seq)
{
    uint32_t rtt_ms = session->rtt_us / 1000;
    uint32_t window = rtt_ms < REPEAT_MIN_MS   ? REPEAT_MIN_MS
                      : rtt_ms > REPEAT_MAX_MS ? REPEAT_MAX_MS
                                               : rtt_ms;
    const struct resent *last = resent_slot(session, track, seq);
    uint16_t now = resent_at(worker, track);
    return last->seq == seq && last->at >> RESENT_MS_BITS == track + 1 &&
           ((unsigned)(now - last->at) & ((1 << RESENT_MS_BITS) - 1)) < window;
}

// What a request is about.
struct request {
    struct session *session;
    struct track *track;
    struct sub *sub;
    uint8_t number; // of the session's track
};

static void earn(struct worker *worker, const struct request *r)
{
    struct session_track *state = &r->session->feedback[r->number];
    double elapsed = (double)(worker->now_ns - worker->nack_earned_ns) * 1e-9;
    nack_budget_earn(&worker->nack_budget, elapsed * NACK_WORKER_RATE);
    worker->nack_earned_ns = worker->now_ns;
    nack_budget_earn(&state->budget, (double)(r->sub->packets - state->earned) * NACK_VIEWER_SHARE);
    state->earned = r->sub->packets;
}

// The packet to send again, or NULL and why not.
static struct rte_mbuf *find_packet(struct worker *worker, const struct request *r, uint16_t seq,
                                    bool *key_frame, enum drop *why)
{
    struct track *track = r->track;
    struct session_track *state = &r->session->feedback[r->number];
    uint64_t highest = (track->next_index + r->sub->delta) & INDEX_MASK;
    uint64_t index = (rtp_nearest_seq(highest, seq) - r->sub->delta) & INDEX_MASK;
    struct rte_mbuf *packet = r->sub->numbered ? cache_get(&track->ring, index) : NULL;
    *why = DROP_nack_missing;
    if (!packet)
        return NULL;
    const struct media_meta *meta = media_meta(packet);
    const uint8_t *payload = rte_pktmbuf_mtod(packet, const uint8_t *) + meta->header;
    *key_frame = track->key_sent && meta->timestamp == track->key_timestamp;
    *why = DROP_nack_policy;
    if (worker->dp->config->nack_policy == ABI_NACK_ADAPTIVE && !*key_frame &&
        !nack_gate_passes(&state->gate,
                          nack_essential(track->config.codec, payload, meta->payload)))
        return NULL;
    *why = DROP_nack_repeated;
    if (repeated(worker, r->session, r->number, seq))
        return NULL;
    *why = DROP_nack_budget;
    return nack_budget_has(&state->budget, NACK_VIEWER_BURST, *key_frame) &&
                   nack_budget_has(&worker->nack_budget, NACK_WORKER_BURST, *key_frame)
               ? packet
               : NULL;
}

static void resend(struct worker *worker, const struct request *r, uint16_t seq)
{
    struct session *session = r->session;
    enum drop why;
    bool key_frame = false;
    session->nacks++;
    session->feedback[r->number].asked_since_report++;
    worker_count(worker, COUNT_nack_asked, 1);
    struct rte_mbuf *packet = find_packet(worker, r, seq, &key_frame, &why);
    if (!packet) {
        worker_drop(worker, why);
        return;
    }
    bool rtx = r->sub->rtx_ssrc && r->sub->rtx_pt != MSG_NO_PT &&
               failover_lease_rtx(worker, session, r->number);
    *resent_slot(session, r->number, seq) =
        (struct resent){.seq = seq, .at = resent_at(worker, r->number)};
    nack_budget_spend(&session->feedback[r->number].budget);
    nack_budget_spend(&worker->nack_budget);
    fanout_resend(worker, session, r->track, r->sub, packet, rtx);
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

// Resent packets may count as received, so what was asked for is looked at, too.
static void report_loss(struct session_track *state, const struct sub *sub)
{
    uint64_t sent = sub->packets - state->reported;
    uint64_t asked = sent ? (uint64_t)state->asked_since_report * 1000 / sent : 0;
    uint32_t loss = state->loss_permille;
    if (asked > loss)
        loss = asked < 1000 ? (uint32_t)asked : 1000;
    nack_gate_report(&state->gate, loss);
    state->reported = sub->packets;
    state->asked_since_report = 0;
}

static void on_block(struct worker *worker, struct session *session, const struct rtcp_block *block)
{
    struct track *track;
    uint8_t number;
    if (session->role != ROLE_PLAY)
        return;
    const struct sub *sub = find_sub(worker, session, block->ssrc, &track, &number);
    if (!sub)
        return;
    struct session_track *feedback = &session->feedback[number];
    feedback->loss_permille = block->fraction_lost * 1000u / 256;
    feedback->jitter = block->jitter;
    feedback->lost = block->cumulative_lost > 0 ? (uint64_t)block->cumulative_lost : 0;
    report_loss(feedback, sub);
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
    if (!sub)
        return;
    struct request request = {session, track, sub, number};
    earn(worker, &request);
    while (rtcp_nack_next(&iter, &seq))
        resend(worker, &request, seq);
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
    struct protect_rtcp_source *found = find_source(worker, session, ssrc);
    if (!found) {
        worker_drop(worker, DROP_rtp_unknown_ssrc);
        return;
    }
    struct protect_rtcp_source source = *found;
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
            .bytes = (uint32_t)sub->octets};
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
