// What goes out on trunks: media, where the publisher stands, and what was lost. trunk_receive.c
// takes it.
#include "trunk.h"
#include "ingest.h"
#include "trunk_record.h"

#define SOURCE_NS 100000000 // how often a partner is told where the publisher stands
#define KEY_AGAIN_NS 300000000
void trunk_set_peer(struct worker *worker, uint8_t number, const struct msg_peer *message)
{
    struct peer *peer = &worker->peers[number];
    bool known = peer->present && message->present &&
                 memcmp(peer->master, message->local, sizeof(peer->master)) == 0;
    if (!known) {
        protect_tx_clear(worker->protect, &peer->tx);
        protect_rx_clear(worker->protect, &peer->rx);
        explicit_bzero(peer, sizeof(*peer));
    }
    if (!message->present)
        return;
    peer->remote4 = message->remote4;
    peer->remote6 = message->remote6;
    peer->workers = message->workers;
    if (known)
        return;
    // With fresh keys the indexes start over.
    peer->index = 1;
    memcpy(peer->master, message->local, sizeof(peer->master));
    peer->present =
        protect_tx_init(worker->protect, &peer->tx, PROFILE_AEAD_AES_128_GCM, message->local) ==
            0 &&
        protect_rx_init(worker->protect, &peer->rx, PROFILE_AEAD_AES_128_GCM, message->remote) == 0;
}

// Towards the partner's worker that has what is at worker `home` of the node where it began.
static void fill_path(const struct worker *worker, const struct peer *peer, uint8_t number,
                      uint8_t home, struct frame_path *path)
{
    const struct abi_config *config = worker->dp->config;
    bool ip4 = peer->remote4.family != 0;
    *path = (struct frame_path){.vlan = config->vlan,
                                .ttl = 64,
                                .dscp = 34, // AF41: interactive video, RFC 4594
                                .src = ip4 ? config->media4 : config->media6,
                                .dst = ip4 ? peer->remote4 : peer->remote6};
    path->src.port = (uint16_t)(path->src.port + worker->id);
    path->dst.port = (uint16_t)(path->dst.port + home % peer->workers);
    memcpy(path->src_mac, &worker->dp->port.mac, sizeof(path->src_mac));
    uint64_t mac = atomic_load_explicit(&worker->dp->peer_mac[number], memory_order_relaxed);
    memcpy(path->dst_mac, &mac, sizeof(path->dst_mac));
}

void trunk_send_record(struct worker *worker, uint8_t number, uint8_t home,
                       const struct record *record, size_t record_size, const uint8_t *rtp,
                       size_t rtp_size)
{
    struct peer *peer = &worker->peers[number];
    if (!peer->present ||
        !atomic_load_explicit(&worker->dp->peer_mac[number], memory_order_relaxed)) {
        worker_drop(worker, DROP_no_neighbor);
        return;
    }
    struct frame_path path;
    struct frame_template frame;
    fill_path(worker, peer, number, home, &path);
    frame_template_init(&frame, &path);
    size_t payload = record_size + rtp_size;
    size_t length = RTP_HEADER + payload + PROTECT_TAG_ROOM;
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.tx);
    if (!m || frame.length - frame.l2_len + length > worker->dp->config->mtu) {
        worker_drop(worker, m ? DROP_too_big : DROP_no_mbuf);
        rte_pktmbuf_free(m);
        return;
    }
    uint8_t *out = rte_pktmbuf_mtod(m, uint8_t *) + frame.length;
    uint64_t index = peer->index++;
    uint32_t ssrc = TRUNK_SSRC | worker->id;
    rtp_header_write(out, &(struct rtp_header){.pt = TRUNK_PT,
                                               .seq = (uint16_t)index,
                                               .timestamp = (uint32_t)(index >> 16),
                                               .ssrc = ssrc});
    memcpy(out + RTP_HEADER, record, record_size);
    if (rtp_size)
        memcpy(out + RTP_HEADER + record_size, rtp, rtp_size);
    struct seal_job job = {.tx = &peer->tx,
                           .src = out + RTP_HEADER,
                           .dst = out,
                           .header_len = RTP_HEADER,
                           .payload_len = (uint16_t)payload,
                           .ssrc = ssrc,
                           .index = index & INDEX_MASK};
    protect_seal(worker->protect, &job, 1);
    worker_finish_frame(worker, &frame, m, length);
    worker_send(worker, m);
}

void trunk_send_media(struct worker *worker, uint8_t peer, const struct stream *stream,
                      const struct media *media)
{
    struct record record = {
        .type = RECORD_MEDIA,
        .track = media->track,
        .flags = (uint8_t)(media->marker * MEDIA_MARKER + media->padding * MEDIA_PADDING +
                           media->keyframe * MEDIA_KEYFRAME + (media->layer << MEDIA_LAYER_BIT)),
        .header = media->header,
        .payload = media->payload,
        .trunk_id = stream->trunk_id,
        .media = {.index = media->index, .timestamp = media->timestamp}};
    trunk_send_record(worker, peer, stream->home, &record, MEDIA_HEAD, media->bytes,
                      (size_t)media->header + media->payload);
}

void trunk_send_feedback(struct worker *worker, const struct session *session, const uint8_t *rtcp,
                         size_t size)
{
    const struct stream *stream = tables_stream(&worker->tables, session->stream);
    uint8_t group = tables_sender(&worker->tables, session)->group;
    if (!stream || !stream->trunk_id)
        return;
    struct record record = {.type = RECORD_FEEDBACK, .trunk_id = stream->trunk_id};
    memcpy(record.ufrag, session->ice.ufrag, sizeof(record.ufrag));
    trunk_send_record(worker, worker->groups[group].config.peer, session->home, &record,
                      FEEDBACK_HEAD, rtcp, size);
}

void trunk_tell_source(struct worker *worker, struct stream *stream, uint8_t peer)
{
    for (uint8_t t = 0; t < stream->tracks; t++) {
        const struct track *track = &stream->track[t];
        const struct layer *layer = &track->layers[track->layer];
        if (!layer->mapped)
            continue;
        struct record record = {
            .type = RECORD_SOURCE,
            .track = t,
            .flags = track->layer,
            .trunk_id = stream->trunk_id,
            .source = {.ssrc = layer->media.ssrc,
                       .rtx_ssrc = layer->rtx.ssrc,
                       .top = replay_top(&layer->media.replay),
                       .rtx_top = replay_top(&layer->rtx.replay),
                       .delta = layer->delta,
                       .timestamp_delta = layer->timestamp_delta,
                       .clock_timestamp = track->clock.timestamp,
                       .clock_ntp = track->clock.ntp,
                       .clock_age_ns = track->clock.ntp ? worker->now_ns - track->clock.at_ns : 0}};
        trunk_send_record(worker, peer, stream->home, &record, SOURCE_HEAD, NULL, 0);
    }
}

static void tell_all(struct worker *worker, struct stream *stream)
{
    stream->source_ns = worker->now_ns;
    for (uint8_t p = 0; p < MSG_PEERS; p++)
        if (stream->peers >> p & 1)
            trunk_tell_source(worker, stream, p);
}

void trunk_send(struct worker *worker, struct stream *stream, const struct media *media)
{
    if (!stream->source_ns && ingest_leads(worker, stream))
        tell_all(worker, stream); // before what it is of
    for (uint8_t p = 0; p < MSG_PEERS; p++)
        if (stream->peers >> p & 1)
            trunk_send_media(worker, p, stream, media);
}

// What the trunk lost is asked for by the track's own index, from whoever sent us the stream.
static void ask(struct worker *worker, struct stream *stream, uint8_t peer)
{
    for (uint8_t t = 0; t < stream->tracks; t++) {
        struct track *track = &stream->track[t];
        struct gaps *gaps = &track->gaps[GAPS_TRUNK];
        uint16_t seqs[NACK_MAX];
        uint64_t lost = 0;
        struct record record = {.type = RECORD_NACK, .track = t, .trunk_id = stream->trunk_id};
        record.count = (uint8_t)gaps_due(gaps, worker->now_ns, 0, seqs, NACK_MAX, &lost);
        if (gaps->lost_at)
            ingest_lost(track, gaps->lost_at);
        for (uint8_t i = 0; i < record.count; i++)
            record.nack[i] = rtp_nearest_seq(gaps->highest, seqs[i]);
        if (record.count)
            trunk_send_record(worker, peer, stream->home, &record,
                              HEAD + record.count * sizeof(uint64_t), NULL, 0);
        if (track->key_wanted && worker->now_ns - track->trunk_key_asked_ns > KEY_AGAIN_NS) {
            track->trunk_key_asked_ns = worker->now_ns;
            record.type = RECORD_KEY;
            trunk_send_record(worker, peer, stream->home, &record, HEAD, NULL, 0);
        }
    }
}

void trunk_tick(struct worker *worker, struct stream *stream)
{
    bool leads = ingest_leads(worker, stream);
    if (leads && worker->now_ns - stream->source_ns >= SOURCE_NS)
        tell_all(worker, stream);
    for (uint8_t p = 0; p < MSG_PEERS && !leads; p++)
        if (stream->group && worker->peers[p].present &&
            worker->groups[stream->group].config.peer == p)
            ask(worker, stream, p);
}
