#include "feedback.h"
#include "budget.h"
#include "failover.h"
#include "fanout.h"
#include "ingest.h"
#include "rtcp.h"
#include "trunk.h"

#define RTCP_BUFFER 1200
// What a client sends to the node that does not serve it, at both nodes; and all that a worker
// passes on: a tenth of what the other takes.
#define PASS_NS UINT64_C(10000000)
#define PASS_BURST 100
#define PASS_ALL_NS UINT64_C(50000)
#define PASS_ALL_BURST 2000

int feedback_send(struct worker *worker, struct session *session, uint8_t *packet, size_t length)
{
    size_t size;
    if (!tables_sender(&worker->tables, session)->proven)
        return -ENOTCONN;
    // Where the indexes end, a key ends (RFC 3711 9.2).
    if (session->rtcp_index >> 31)
        return -EOVERFLOW;
    // An index is spent even if the packet is not sent: never twice (RFC 3711 3.4).
    int rc = protect_rtcp_seal(worker->protect, &session->rtcp_tx, packet, length,
                               session->rtcp_index++, &size);
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

// Notes a request for the end of the turn, if there is a packet to answer it with.
static void ask(struct worker *worker, const struct request *r, uint16_t seq)
{
    struct track *track = r->track;
    struct session_track *state = &r->session->feedback[r->number];
    uint64_t highest = (track->next_index + r->sub->delta) & INDEX_MASK;
    uint64_t index = (rtp_nearest_seq(highest, seq) - r->sub->delta) & INDEX_MASK;
    bool ours = sub_numbered(r->sub) && !r->sub->foreign; // its numbers are for this track
    const struct media *media = ours ? cache_get(&track->ring, index) : NULL;
    if (!media) {
        worker_drop(worker, DROP_nack_missing);
        return;
    }
    bool key = track->key_sent && media->timestamp == track->key_timestamp;
    if (worker->dp->config->nack_policy == ABI_NACK_ADAPTIVE &&
        !nack_gate_passes(&state->gate, key || media->essential)) {
        worker_drop(worker, DROP_nack_policy);
        return;
    }
    enum nack_rank rank = nack_rank(track->config.kind, key, media->essential);
    if (worker->asked_count[rank] == RTE_DIM(worker->asked[rank]))
        feedback_answer(worker);
    worker->asked[rank][worker->asked_count[rank]++] =
        (struct nack_asked){.session = r->session, .index = index, .track = r->number};
    nack_recent_fetch(&worker->recent, nack_recent_key(r->session->id, r->number, index));
}

static void answer(struct worker *worker, const struct nack_asked *asked, enum nack_rank rank)
{
    struct session *session = asked->session;
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    struct track *track = &stream->track[session->track[asked->track].source];
    struct sub *sub = tables_sub(&worker->tables, session, asked->track);
    struct nack_budget *budget = &session->feedback[asked->track].budget;
    // Packets that came in meanwhile may have taken its place.
    const struct media *media = cache_get(&track->ring, asked->index);
    uint64_t key = nack_recent_key(session->id, asked->track, asked->index);
    uint64_t now_ms = worker->now_ns / 1000000;
    bool first = rank == NACK_FIRST;
    if (!media) {
        worker_drop(worker, DROP_nack_missing);
    } else if (nack_recent_has(&worker->recent, key, now_ms, session->rtt_us / 1000)) {
        worker_drop(worker, DROP_nack_repeated);
    } else if (!nack_budget_has(budget, NACK_VIEWER_BURST, first) ||
               !nack_budget_has(&worker->nack_budget, NACK_WORKER_BURST, first)) {
        worker_drop(worker, DROP_nack_budget);
    } else {
        bool rtx = sub->rtx_ssrc && sub->rtx_pt != MSG_NO_PT &&
                   failover_lease_rtx(worker, session, asked->track);
        nack_recent_note(&worker->recent, key, now_ms);
        nack_budget_spend(budget);
        nack_budget_spend(&worker->nack_budget);
        fanout_resend(worker, session, track, sub, media, rtx);
    }
}

void feedback_answer(struct worker *worker)
{
    enum stage before = worker_stage(worker, STAGE_feedback);
    for (enum nack_rank rank = 0; rank < NACK_RANKS; rank++) {
        for (uint32_t i = 0; i < worker->asked_count[rank]; i++)
            answer(worker, &worker->asked[rank][i], rank);
        worker->asked_count[rank] = 0;
    }
    fanout_resend_queued(worker);
    worker_stage(worker, before);
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
    uint32_t count = rtcp_nack_count(&iter);
    uint32_t taken =
        budget_take(&session->asks_ns, worker->now_ns, NACK_ASK_NS, NACK_ASK_BURST, count);
    session->nacks += count;
    session->feedback[number].asked_since_report += count;
    worker_count(worker, COUNT_nack_asked, count);
    stats_add(&worker->stats->drop[DROP_nack_flood], count - taken);
    for (uint32_t i = 0; i < taken && rtcp_nack_next(&iter, &seq); i++)
        ask(worker, &request, seq);
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
    for (unsigned i = 0; packet->type == RTCP_BYE && failover_active(worker, stream->group) &&
                         rtcp_read_bye(packet, i, &ssrc);
         i++)
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

// The partner answers. One client's flood is not to be at the others' cost.
static void pass_on(struct worker *worker, struct session *session, const uint8_t *rtcp,
                    size_t size)
{
    if (budget_take(&session->passed_ns, worker->now_ns, PASS_NS, PASS_BURST, 1) &&
        budget_take(&worker->passed_ns, worker->now_ns, PASS_ALL_NS, PASS_ALL_BURST, 1))
        trunk_send_feedback(worker, session, rtcp, size);
    else
        worker_drop(worker, DROP_feedback_flood);
}

static void take(struct worker *worker, struct session *session, const uint8_t *rtcp, size_t size)
{
    session->heard_ns = worker->now_ns;
    if (rtcp_check(rtcp, size))
        worker_drop(worker, DROP_rtp_malformed);
    else if (session->role == ROLE_PUBLISH ||
             failover_active(worker, tables_sender(&worker->tables, session)->group))
        handle(worker, session, rtcp, size);
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
    worker_count(worker, COUNT_rtcp_in, 1);
    if (!failover_active(worker, tables_sender(&worker->tables, session)->group))
        pass_on(worker, session, plain, size);
    take(worker, session, plain, size);
}

void feedback_passed(struct worker *worker, struct session *session, const uint8_t *rtcp,
                     size_t size)
{
    if (budget_take(&session->passed_ns, worker->now_ns, PASS_NS, PASS_BURST, 1))
        take(worker, session, rtcp, size);
    else
        worker_drop(worker, DROP_feedback_flood);
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
