#include "trunk.h"
#include "failover.h"
#include "ingest.h"

// A trunk packet is SRTP whose timestamp says the rollover count: a partner that has heard nothing
// for longer than half a round of sequence numbers (the path was cut for a minute) is at once with
// us again.
#define TRUNK_SSRC 0x74720000u // "tr" and the sending worker
#define SOURCE_NS 100000000    // how often a partner is told where the publisher stands
#define KEY_AGAIN_NS 300000000
#define NACK_MAX 32

enum record_type { RECORD_MEDIA = 1, RECORD_SOURCE, RECORD_NACK, RECORD_KEY };
enum media_flags { MEDIA_MARKER = 1, MEDIA_PADDING = 2, MEDIA_KEYFRAME = 4 };

// Records are in host byte order of x86 and arm64 alike: little-endian, no padding left over.
struct record {
    uint8_t type; // enum record_type
    uint8_t track;
    uint8_t flags;            // MEDIA: enum media_flags; SOURCE: layer
    uint8_t count;            // NACK
    uint16_t header, payload; // MEDIA: bytes of the RTP packet that follows
    uint64_t trunk_id;
    union {
        struct {
            uint64_t index;
            uint32_t timestamp;
            uint32_t pad;
        } media;
        struct {
            uint32_t ssrc, rtx_ssrc;
            uint64_t top, rtx_top; // highest SRTP indexes seen
            uint64_t delta;
            uint32_t timestamp_delta;
            uint32_t clock_timestamp;
            uint64_t clock_ntp, clock_age_ns; // 0: no sender report yet
        } source;
        uint64_t nack[NACK_MAX];
    };
};
#define HEAD offsetof(struct record, media)
#define MEDIA_HEAD (HEAD + sizeof(((struct record *)0)->media))
#define SOURCE_HEAD (HEAD + sizeof(((struct record *)0)->source))
_Static_assert(HEAD == 16 && MEDIA_HEAD == 32, "the record's layout is the wire's");

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

static void fill_path(const struct worker *worker, const struct peer *peer, uint8_t number,
                      struct frame_path *path)
{
    const struct abi_config *config = worker->dp->config;
    bool ip4 = peer->remote4.family != 0;
    *path = (struct frame_path){.vlan = config->vlan,
                                .ttl = 64,
                                .dscp = 34, // AF41: interactive video, RFC 4594
                                .src = ip4 ? config->media4 : config->media6,
                                .dst = ip4 ? peer->remote4 : peer->remote6};
    path->src.port = (uint16_t)(path->src.port + worker->id);
    path->dst.port = (uint16_t)(path->dst.port + worker->id % peer->workers);
    memcpy(path->src_mac, &worker->dp->port.mac, sizeof(path->src_mac));
    uint64_t mac = atomic_load_explicit(&worker->dp->peer_mac[number], memory_order_relaxed);
    memcpy(path->dst_mac, &mac, sizeof(path->dst_mac));
}

// Seals a record, and the RTP packet that follows it, and sends them to one partner.
static void send_record(struct worker *worker, uint8_t number, const struct record *record,
                        size_t record_size, const uint8_t *rtp, size_t rtp_size)
{
    struct peer *peer = &worker->peers[number];
    if (!peer->present ||
        !atomic_load_explicit(&worker->dp->peer_mac[number], memory_order_relaxed)) {
        worker_drop(worker, DROP_no_neighbor);
        return;
    }
    struct frame_path path;
    struct frame_template frame;
    fill_path(worker, peer, number, &path);
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

static void send_media(struct worker *worker, uint8_t peer, const struct stream *stream,
                       struct rte_mbuf *m)
{
    const struct media_meta *meta = media_meta(m);
    struct record record = {.type = RECORD_MEDIA,
                            .track = meta->track,
                            .flags = (uint8_t)(meta->marker * MEDIA_MARKER +
                                               meta->padding * MEDIA_PADDING +
                                               meta->keyframe * MEDIA_KEYFRAME),
                            .header = meta->header,
                            .payload = meta->payload,
                            .trunk_id = stream->trunk_id,
                            .media = {.index = meta->index, .timestamp = meta->timestamp}};
    send_record(worker, peer, &record, MEDIA_HEAD, rte_pktmbuf_mtod(m, const uint8_t *),
                (size_t)meta->header + meta->payload);
}

void trunk_send(struct worker *worker, const struct stream *stream, struct rte_mbuf *m)
{
    for (uint8_t p = 0; p < MSG_PEERS; p++)
        if (stream->peers >> p & 1)
            send_media(worker, p, stream, m);
}

static struct stream *find_stream(const struct worker *worker, uint64_t trunk_id)
{
    const struct tables *tables = &worker->tables;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < tables->max_streams && seen < tables->stream_count; i++) {
        if (!tables->streams[i])
            continue;
        seen++;
        if (trunk_id && tables->streams[i]->trunk_id == trunk_id)
            return tables->streams[i];
    }
    return NULL;
}

// What the partner has received need not be asked of the publisher, should we become its node.
static void follow_source(struct worker *worker, const struct stream *stream, struct track *track,
                          uint64_t index)
{
    struct layer *layer = &track->layers[track->layer];
    uint64_t srtp = (index - layer->delta) & INDEX_MASK;
    if (failover_active(worker, stream->group) || !layer->mapped || srtp >= INDEX_MASK / 2 ||
        srtp <= replay_top(&layer->media.replay))
        return;
    replay_commit(&layer->media.replay, srtp);
    gaps_start(&track->gaps[track->layer], srtp);
}

// An opened packet from a partner, as if it had been opened here.
static struct rte_mbuf *take_media(struct worker *worker, struct stream *stream,
                                   const struct record *record, struct rte_mbuf *m, size_t size)
{
    struct rtp_view view;
    size_t rtp = (size_t)record->header + record->payload;
    if (size != MEDIA_HEAD + rtp || record->header < RTP_HEADER || record->media.index >> 48 ||
        rtp_parse((const uint8_t *)record + MEDIA_HEAD, rtp, &view) ||
        view.header != record->header) {
        worker_drop(worker, DROP_trunk_malformed);
        return NULL;
    }
    struct media_meta meta = {.index = record->media.index,
                              .arrival_ns = worker->now_ns,
                              .stream = stream->id,
                              .timestamp = record->media.timestamp,
                              .header = record->header,
                              .payload = record->payload,
                              .track = record->track,
                              .marker = record->flags & MEDIA_MARKER,
                              .padding = record->flags & MEDIA_PADDING,
                              .keyframe = record->flags & MEDIA_KEYFRAME};
    struct track *track = &stream->track[record->track];
    if (ingest_same_space(track, meta.index))
        gaps_received(&track->gaps[GAPS_TRUNK], meta.index, worker->now_ns);
    else
        gaps_start(&track->gaps[GAPS_TRUNK], meta.index);
    follow_source(worker, stream, track, meta.index);
    rte_pktmbuf_adj(m, RTP_HEADER + MEDIA_HEAD);
    *media_meta(m) = meta;
    rte_mbuf_refcnt_update(m, 1); // of the two, one is the fan-out's; the caller frees the other
    if (!ingest_shared(worker, m))
        return NULL;
    if (meta.keyframe) {
        track->key_wanted = false;
        stream->keyframes++;
        stream->keyframe_ns = worker->now_ns;
    }
    stream->packets++;
    stream->bytes += rtp;
    stream->rate_bytes += rtp;
    ingest_set_state(worker, stream, STREAM_LIVE);
    return m;
}

// Where the publisher stands, so that we can go on with its packets from the next one.
static void take_source(struct worker *worker, struct stream *stream, const struct record *record,
                        size_t size)
{
    struct track *track = &stream->track[record->track];
    if (size != SOURCE_HEAD || record->flags >= track->config.layers || record->source.top >> 48 ||
        record->source.rtx_top >> 48) {
        worker_drop(worker, DROP_trunk_malformed);
        return;
    }
    // What we receive ourselves is nearer to the truth.
    if (failover_active(worker, stream->group))
        return;
    struct layer *layer = &track->layers[record->flags];
    if (layer->media.ssrc != record->source.ssrc || layer->rtx.ssrc != record->source.rtx_ssrc) {
        layer->media = (struct protect_source){.ssrc = record->source.ssrc};
        layer->rtx = (struct protect_source){.ssrc = record->source.rtx_ssrc};
    }
    if (record->source.top > replay_top(&layer->media.replay))
        replay_commit(&layer->media.replay, record->source.top);
    if (record->source.rtx_top > replay_top(&layer->rtx.replay))
        replay_commit(&layer->rtx.replay, record->source.rtx_top);
    if (track->gaps[record->flags].highest < replay_top(&layer->media.replay))
        gaps_start(&track->gaps[record->flags], replay_top(&layer->media.replay));
    layer->delta = record->source.delta;
    layer->timestamp_delta = record->source.timestamp_delta;
    layer->mapped = true;
    track->layer = track->next_layer = record->flags;
    if (record->source.clock_ntp)
        track->clock = (struct track_clock){.ntp = record->source.clock_ntp,
                                            .at_ns = worker->now_ns - record->source.clock_age_ns,
                                            .timestamp = record->source.clock_timestamp};
}

static void take_nack(struct worker *worker, uint8_t peer, const struct stream *stream,
                      const struct record *record, size_t size)
{
    if (record->count > NACK_MAX || size != HEAD + record->count * sizeof(uint64_t)) {
        worker_drop(worker, DROP_trunk_malformed);
        return;
    }
    for (uint8_t i = 0; i < record->count; i++) {
        struct rte_mbuf *m = cache_get(&stream->track[record->track].ring, record->nack[i]);
        if (m)
            send_media(worker, peer, stream, m);
        else
            worker_drop(worker, DROP_nack_missing);
    }
}

static struct rte_mbuf *take_record(struct worker *worker, uint8_t peer, struct rte_mbuf *m)
{
    const struct record *record =
        (const struct record *)(rte_pktmbuf_mtod(m, const uint8_t *) + RTP_HEADER);
    size_t size = rte_pktmbuf_data_len(m) - RTP_HEADER;
    struct stream *stream = size >= HEAD ? find_stream(worker, record->trunk_id) : NULL;
    if (!stream || record->track >= stream->tracks) {
        worker_drop(worker, DROP_trunk_malformed);
        return NULL;
    }
    switch (record->type) {
    case RECORD_MEDIA:
        return take_media(worker, stream, record, m, size);
    case RECORD_SOURCE:
        take_source(worker, stream, record, size);
        break;
    case RECORD_NACK:
        take_nack(worker, peer, stream, record, size);
        break;
    case RECORD_KEY:
        stream->track[record->track].key_wanted = true;
        break;
    default:
        worker_drop(worker, DROP_trunk_malformed);
    }
    return NULL;
}

static struct peer *find_peer(struct worker *worker, const struct abi_addr *src, uint8_t *number)
{
    for (*number = 0; *number < MSG_PEERS; (*number)++) {
        struct peer *peer = &worker->peers[*number];
        const struct abi_addr *remote = src->family == 4 ? &peer->remote4 : &peer->remote6;
        if (peer->present && remote->family == src->family &&
            memcmp(remote->ip, src->ip, sizeof(src->ip)) == 0 && src->port >= remote->port &&
            src->port < remote->port + peer->workers)
            return peer;
    }
    return NULL;
}

// Opens at the index that the packet names. `source` moves only if it is authentic.
static int open_trunk(struct worker *worker, const struct peer *peer, struct protect_source *source,
                      const struct rtp_view *view, uint8_t *out, size_t *size)
{
    uint64_t named = (uint64_t)view->timestamp << 16 | view->seq, index;
    struct protect_source trial = *source;
    trial.ssrc = view->ssrc;
    if (named >= 0x8000 && named - 0x8000 > replay_top(&trial.replay))
        replay_commit(&trial.replay, named - 1); // so that its index is estimated right
    int rc = protect_open(worker->protect, &peer->rx, &trial, view->packet, view->length, out, size,
                          &index);
    if (rc == 0)
        *source = trial;
    return rc;
}

bool trunk_input(struct worker *worker, const uint8_t *payload, const struct parsed *parsed,
                 struct rte_mbuf **media)
{
    uint8_t number;
    struct rtp_view view;
    *media = NULL;
    struct peer *peer = find_peer(worker, &parsed->src, &number);
    if (!peer)
        return false;
    if (rtp_parse_header(payload, parsed->length, &view) || view.header != RTP_HEADER ||
        view.pt != TRUNK_PT || (view.ssrc & ~0xfu) != TRUNK_SSRC) {
        worker_drop(worker, DROP_trunk_malformed);
        return true;
    }
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.cache);
    size_t size;
    int rc = m && rte_pktmbuf_tailroom(m) >= parsed->length
                 ? open_trunk(worker, peer, &peer->sources[view.ssrc & 0xf], &view,
                              rte_pktmbuf_mtod(m, uint8_t *), &size)
                 : -ENOMEM;
    if (rc) {
        worker_drop(worker, rc == -ENOMEM     ? DROP_no_mbuf
                            : rc == -EALREADY ? DROP_trunk_replay
                                              : DROP_trunk_auth);
        rte_pktmbuf_free(m);
        return true;
    }
    rte_pktmbuf_append(m, (uint16_t)size);
    *media = take_record(worker, number, m);
    rte_pktmbuf_free(m);
    return true;
}

static void tell_source(struct worker *worker, struct stream *stream, uint8_t peer)
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
        send_record(worker, peer, &record, SOURCE_HEAD, NULL, 0);
    }
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
        for (uint8_t i = 0; i < record.count; i++)
            record.nack[i] = rtp_nearest_seq(gaps->highest, seqs[i]);
        if (record.count)
            send_record(worker, peer, &record, HEAD + record.count * sizeof(uint64_t), NULL, 0);
        if (track->key_wanted && worker->now_ns - track->trunk_key_asked_ns > KEY_AGAIN_NS) {
            track->trunk_key_asked_ns = worker->now_ns;
            record.type = RECORD_KEY;
            send_record(worker, peer, &record, HEAD, NULL, 0);
        }
    }
}

void trunk_tick(struct worker *worker, struct stream *stream)
{
    bool home = failover_active(worker, stream->group);
    bool tell = worker->now_ns - stream->source_ns >= SOURCE_NS;
    if (tell)
        stream->source_ns = worker->now_ns;
    for (uint8_t p = 0; p < MSG_PEERS; p++) {
        if (home && tell && (stream->peers >> p & 1))
            tell_source(worker, stream, p);
        else if (!home && stream->group && worker->peers[p].present &&
                 worker->groups[stream->group].config.peer == p)
            ask(worker, stream, p);
    }
}
