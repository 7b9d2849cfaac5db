#include "upstream.h"
#include "failover.h"
#include "feedback.h"
#include "ingest.h"
#include "rtcp.h"

#define RTCP_BUFFER 1400
#define ROOM (RTCP_BUFFER - PROTECT_RTCP_ROOM)
#define NACK_MAX 64                   // sequence numbers in one request
#define ASKS_AHEAD 3                  // after a takeover, while nothing comes
#define KEY_INTERVAL_NS 300000000     // key frames are asked for at most this often
#define FEEDBACK_INTERVAL_NS 50000000 // transport-wide feedback
#define REPORT_INTERVAL_NS 500000000
#define IDLE_NS 2000000000    // without a packet for that long a stream is not live
#define REMB_BITRATE 10000000 // bit/s allowed to publishers that know only REMB

static size_t write_nacks(struct worker *worker, const struct session *session,
                          const struct layer *layer, const uint16_t *seqs, uint32_t count,
                          uint8_t *buffer, size_t length)
{
    size_t longer =
        rtcp_write_nack(buffer, ROOM, length, session->ssrc, layer->media.ssrc, seqs, count);
    if (!longer)
        return length;
    worker_count(worker, COUNT_nack_up, count);
    return longer;
}

// Adds requests for lost packets of one layer; starts the compound with an empty report.
static size_t add_nacks(struct worker *worker, struct session *session, struct track *track, int l,
                        uint8_t *buffer, size_t length)
{
    struct layer *layer = &track->layers[l];
    struct gaps *gaps = &track->gaps[l];
    uint16_t seqs[NACK_MAX];
    uint64_t rtt_ns = (uint64_t)session->rtt_us * 1000;
    uint32_t count = gaps_due(gaps, worker->now_ns, rtt_ns, seqs, NACK_MAX, &layer->lost);
    if (gaps->lost_at && l == track->layer && layer->mapped)
        ingest_lost(track, (gaps->lost_at + layer->delta) & INDEX_MASK);
    return count ? write_nacks(worker, session, layer, seqs, count, buffer, length) : length;
}

// Numbers from the first on that we have not seen.
static size_t add_nacks_ahead(struct worker *worker, struct session *session,
                              const struct track *track, uint8_t *buffer, size_t length)
{
    const struct gaps *gaps = &track->gaps[track->layer];
    const struct layer *layer = &track->layers[track->layer];
    uint16_t seqs[NACK_MAX];
    if (!gaps->started || !layer->media.ssrc)
        return length;
    for (unsigned i = 0; i < NACK_MAX; i++)
        seqs[i] = (uint16_t)(gaps->highest + 1 + i);
    return write_nacks(worker, session, layer, seqs, NACK_MAX, buffer, length);
}

static size_t add_key_request(struct worker *worker, struct session *session, struct track *track,
                              struct layer *layer, uint8_t *buffer, size_t length)
{
    uint8_t feedback = track->config.feedback;
    if (!layer->media.ssrc || worker->now_ns - layer->key_asked_ns < KEY_INTERVAL_NS ||
        !(feedback & (FB_PLI | FB_FIR)))
        return length;
    size_t longer = feedback & FB_PLI
                        ? rtcp_write_pli(buffer, ROOM, length, session->ssrc, layer->media.ssrc)
                        : rtcp_write_fir(buffer, ROOM, length, session->ssrc, layer->media.ssrc,
                                         ++layer->fir_seq);
    if (!longer)
        return length;
    layer->key_asked_ns = worker->now_ns;
    worker_count(worker, COUNT_pli_out, 1);
    return longer;
}

static size_t add_blocks(struct worker *worker, struct stream *stream, struct session *session,
                         uint8_t *buffer)
{
    struct rtcp_block blocks[MSG_MAX_TRACKS * MSG_MAX_LAYERS];
    unsigned count = 0;
    for (int t = 0; t < stream->tracks; t++) {
        for (int l = 0; l < stream->track[t].config.layers; l++) {
            struct layer *layer = &stream->track[t].layers[l];
            if (!layer->stats.started)
                continue;
            struct rtp_report_fields fields;
            rtp_rx_report(&layer->stats, &fields);
            blocks[count++] = (struct rtcp_block){
                .ssrc = layer->media.ssrc,
                .fraction_lost = fields.fraction_lost,
                .cumulative_lost = fields.cumulative_lost,
                .highest_seq = fields.highest_seq,
                .jitter = fields.jitter,
                .lsr = layer->sr_ntp ? rtcp_ntp_middle(layer->sr_ntp) : 0,
                .dlsr = layer->sr_ntp ? rtcp_dlsr_from_ns(worker->now_ns - layer->sr_ns) : 0};
        }
    }
    size_t length = rtcp_write_rr(buffer, ROOM, 0, session->ssrc, blocks, count);
    return rtcp_write_sdes(buffer, ROOM, length, session->ssrc, "hitless");
}

static size_t add_remb(struct stream *stream, struct session *session, uint8_t *buffer,
                       size_t length)
{
    for (int t = 0; t < stream->tracks; t++) {
        const struct track *track = &stream->track[t];
        if (!(track->config.feedback & FB_REMB) || !track->layers[track->layer].media.ssrc)
            continue;
        size_t longer = rtcp_write_remb(buffer, ROOM, length, session->ssrc, REMB_BITRATE,
                                        &track->layers[track->layer].media.ssrc, 1);
        return longer ? longer : length;
    }
    return length;
}

static void send_feedback(struct worker *worker, struct stream *stream, struct session *session)
{
    for (int i = 0; i < 8 && stream->twcc && twcc_pending(stream->twcc); i++) {
        uint8_t buffer[RTCP_BUFFER];
        uint32_t media = stream->track[0].layers[0].media.ssrc;
        for (int t = 0; t < stream->tracks; t++)
            if (stream->track[t].config.kind == KIND_VIDEO)
                media = stream->track[t].layers[stream->track[t].layer].media.ssrc;
        size_t length = rtcp_write_rr(buffer, ROOM, 0, session->ssrc, NULL, 0);
        size_t longer = twcc_write(stream->twcc, buffer, ROOM, length, session->ssrc, media);
        if (!longer)
            break;
        feedback_send(worker, session, buffer, longer);
    }
}

static void choose_layer(struct worker *worker, struct track *track, uint64_t elapsed_ns)
{
    uint8_t best = track->layer;
    for (uint8_t l = 0; l < track->config.layers; l++) {
        struct layer *layer = &track->layers[l];
        layer->bitrate = (uint32_t)(layer->rate_bytes * 8 * 1000000000 / elapsed_ns);
        layer->rate_bytes = 0;
        bool alive = worker->now_ns - layer->heard_ns < 500000000;
        // A quarter more than the present one, so that two alike do not take turns.
        if (alive && layer->bitrate / 5 > track->layers[best].bitrate / 4)
            best = l;
    }
    track->next_layer = best;
}

static void look_at_rates(struct worker *worker, struct stream *stream)
{
    if (!stream->rate_ns)
        stream->rate_ns = worker->now_ns;
    uint64_t elapsed = worker->now_ns - stream->rate_ns;
    if (elapsed < 1000000000)
        return;
    stream->bitrate = (uint32_t)(stream->rate_bytes * 8 * 1000000000 / elapsed);
    stream->rate_bytes = 0;
    stream->rate_ns = worker->now_ns;
    for (int t = 0; t < stream->tracks; t++)
        if (stream->track[t].config.layers > 1)
            choose_layer(worker, &stream->track[t], elapsed);
}

static void collect_key_wishes(struct worker *worker, struct stream *stream)
{
    _Atomic uint8_t *wishes = &worker->post->key_wanted[MSG_SLOT(stream->id)];
    if (!atomic_load_explicit(wishes, memory_order_relaxed))
        return;
    uint8_t bits = atomic_exchange_explicit(wishes, 0, memory_order_relaxed);
    for (int t = 0; t < stream->tracks; t++)
        if (bits & 1u << t)
            stream->track[t].key_wanted = true;
}

static void ask_now(struct worker *worker, struct stream *stream, struct session *session)
{
    uint8_t buffer[RTCP_BUFFER];
    size_t empty = rtcp_write_rr(buffer, ROOM, 0, session->ssrc, NULL, 0);
    size_t length = empty;
    bool ahead = stream->asks_ahead > 0 && worker->now_ns >= stream->ask_ahead_ns;
    if (ahead) {
        stream->asks_ahead--;
        stream->ask_ahead_ns = worker->now_ns + UPSTREAM_TICK_NS;
    }
    for (int t = 0; t < stream->tracks; t++) {
        struct track *track = &stream->track[t];
        if (ahead && track->config.feedback & FB_NACK && track->last_ns < stream->seized_ns)
            length = add_nacks_ahead(worker, session, track, buffer, length);
        if (track->config.feedback & FB_NACK)
            for (int l = 0; l < track->config.layers; l++)
                length = add_nacks(worker, session, track, l, buffer, length);
        if (track->key_wanted)
            length = add_key_request(worker, session, track, &track->layers[track->layer], buffer,
                                     length);
        if (track->next_layer != track->layer)
            length = add_key_request(worker, session, track, &track->layers[track->next_layer],
                                     buffer, length);
    }
    if (length > empty)
        feedback_send(worker, session, buffer, length);
}

void upstream_seized(struct worker *worker, struct stream *stream)
{
    if (stream->publisher == MAP_NONE ||
        worker->tables.sessions[stream->publisher].state != SESSION_KEYED)
        return;
    stream->seized_ns = stream->ask_ahead_ns = worker->now_ns;
    stream->asks_ahead = ASKS_AHEAD;
    ask_now(worker, stream, &worker->tables.sessions[stream->publisher]);
}

void upstream_tick(struct worker *worker, struct stream *stream)
{
    collect_key_wishes(worker, stream);
    ingest_note_clocks(worker, stream);
    look_at_rates(worker, stream);
    uint64_t newest = 0;
    for (int t = 0; t < stream->tracks; t++)
        if (stream->track[t].last_ns > newest)
            newest = stream->track[t].last_ns;
    if (stream->state == STREAM_LIVE && worker->now_ns - newest > IDLE_NS)
        ingest_set_state(worker, stream, STREAM_IDLE);
    if (stream->publisher == MAP_NONE)
        return;
    struct session *session = &worker->tables.sessions[stream->publisher];
    bool leads = ingest_leads(worker, stream);
    if (session->state != SESSION_KEYED || (!leads && !failover_active(worker, stream->group)))
        return;
    ask_now(worker, stream, session);
    if (!leads)
        return; // reports are for whom its packets come to
    if (worker->now_ns - stream->feedback_ns >= FEEDBACK_INTERVAL_NS) {
        stream->feedback_ns = worker->now_ns;
        send_feedback(worker, stream, session);
    }
    if (worker->now_ns - stream->report_ns >= REPORT_INTERVAL_NS) {
        stream->report_ns = worker->now_ns;
        uint8_t buffer[RTCP_BUFFER];
        size_t length = add_blocks(worker, stream, session, buffer);
        feedback_send(worker, session, buffer, add_remb(stream, session, buffer, length));
    }
}
