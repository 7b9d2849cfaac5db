// What comes in on trunks; declared in trunk.h.
//
// A partner with the right keys may still flood us. So that this costs nobody else anything there
// are three budgets: for all that it sends to a worker, for the media of one track, which is
// multiplied by its viewers, and for what it asks for again. Only what is authentic spends of them,
// or anybody could spend a partner's; what is over the first is not even opened.
#include "budget.h"
#include "feedback.h"
#include "ingest.h"
#include "ingest_source.h"
#include "trunk.h"
#include "trunk_record.h"

#define TAKEN_EACH_NS 5000 // 200,000 packets/s: a fifth of what a core receives at best,
#define TAKEN_BURST 20000
#define TRACK_EACH_NS 100000 // 10,000/s, 100 Mbit/s: more than any encoder makes for a browser,
#define TRACK_BURST 2000     // and the largest key frames
#define ASKED_EACH_NS 20000  // 50,000/s
#define ASKED_BURST 5000

// What the partner has received need not be asked of the publisher, should we become its node. A
// packet that is not of the mapping that the partner told last says nothing: the next SOURCE will.
static void follow_source(struct worker *worker, const struct stream *stream, struct track *track,
                          uint64_t index)
{
    struct layer *layer = &track->layers[track->layer];
    uint64_t top = replay_top(&layer->media.replay), srtp = (index - layer->delta) & INDEX_MASK;
    if (ingest_leads(worker, stream) || !layer->mapped || replay_empty(&layer->media.replay) ||
        srtp <= top || srtp - top > INDEX_SPARE)
        return;
    replay_commit(&layer->media.replay, srtp);
    gaps_start(&track->gaps[track->layer], srtp, worker->now_ns);
}

// The partner has gone over to another layer, and its word of that was lost: with the mapping that
// we know the last layer's packets, should they come here now, would have the other's numbers.
static void doubt_source(const struct worker *worker, const struct stream *stream,
                         struct track *track, const struct media *media)
{
    if (media->layer != track->layer && media->index >= track->next_index &&
        !ingest_leads(worker, stream))
        track->layers[track->layer].mapped = false;
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
    struct track *track = &stream->track[record->track];
    if (!budget_left(track->trunk_used_ns, worker->now_ns, TRACK_EACH_NS, TRACK_BURST)) {
        worker_drop(worker, DROP_trunk_budget);
        return NULL;
    }
    budget_spend(&track->trunk_used_ns, worker->now_ns, TRACK_EACH_NS);
    struct media meta = {.index = record->media.index,
                         .arrival_ns = worker->now_ns,
                         .stream = stream->id,
                         .timestamp = record->media.timestamp,
                         .header = record->header,
                         .payload = record->payload,
                         .track = record->track,
                         .layer = record->flags >> MEDIA_LAYER_BIT,
                         .marker = record->flags & MEDIA_MARKER,
                         .padding = record->flags & MEDIA_PADDING,
                         .keyframe = record->flags & MEDIA_KEYFRAME,
                         .essential = nack_essential(track->config.codec, view.packet + view.header,
                                                     view.payload_length)};
    stream->trunk_ns = worker->now_ns;
    if (ingest_same_space(track, meta.index))
        gaps_received(&track->gaps[GAPS_TRUNK], meta.index, worker->now_ns);
    else
        gaps_start(&track->gaps[GAPS_TRUNK], meta.index, worker->now_ns);
    doubt_source(worker, stream, track, &meta);
    follow_source(worker, stream, track, meta.index);
    rte_pktmbuf_adj(m, MEDIA_AT);
    media_note(media_of(m), &meta);
    rte_mbuf_refcnt_update(m, 1); // of the two, one is the fan-out's; the caller frees the other
    if (!ingest_shared(worker, m))
        return NULL;
    track->trunk_fed = true;
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
    if (ingest_leads(worker, stream))
        return;
    struct layer *layer = &track->layers[record->flags];
    if (ingest_rename_source(stream, &layer->media, record->source.ssrc))
        track->gaps[record->flags] = (struct gaps){0};
    ingest_rename_source(stream, &layer->rtx, record->source.rtx_ssrc);
    if (record->source.top > replay_top(&layer->media.replay))
        replay_commit(&layer->media.replay, record->source.top);
    if (record->source.rtx_top > replay_top(&layer->rtx.replay))
        replay_commit(&layer->rtx.replay, record->source.rtx_top);
    if (track->gaps[record->flags].highest < replay_top(&layer->media.replay))
        gaps_start(&track->gaps[record->flags], replay_top(&layer->media.replay), worker->now_ns);
    layer->delta = record->source.delta;
    layer->timestamp_delta = record->source.timestamp_delta;
    for (int l = 0; l < track->config.layers; l++)
        track->layers[l].mapped = l == record->flags;
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
    uint64_t *used_ns = &worker->peers[peer].asked_used_ns;
    for (uint8_t i = 0; i < record->count; i++) {
        if (!budget_left(*used_ns, worker->now_ns, ASKED_EACH_NS, ASKED_BURST)) {
            worker_drop(worker, DROP_nack_budget);
            continue;
        }
        budget_spend(used_ns, worker->now_ns, ASKED_EACH_NS);
        const struct media *media = cache_get(&stream->track[record->track].ring, record->nack[i]);
        if (media)
            trunk_send_media(worker, peer, stream, media);
        else
            worker_drop(worker, DROP_nack_missing);
    }
}

// A client of ours has sent it to the partner, which its browser takes for the nearer.
static void take_feedback(struct worker *worker, const struct record *record, size_t size)
{
    struct session *session =
        size > FEEDBACK_HEAD ? tables_by_ufrag(&worker->tables, record->ufrag) : NULL;
    if (!session || !tables_sender(&worker->tables, session)->group)
        worker_drop(worker, DROP_trunk_malformed);
    else
        feedback_passed(worker, session, (const uint8_t *)record + FEEDBACK_HEAD,
                        size - FEEDBACK_HEAD);
}

static struct rte_mbuf *take_record(struct worker *worker, uint8_t peer, struct rte_mbuf *m)
{
    const struct record *record =
        (const struct record *)(rte_pktmbuf_mtod(m, const uint8_t *) + RTP_HEADER);
    size_t size = rte_pktmbuf_data_len(m) - RTP_HEADER;
    struct stream *stream =
        size >= HEAD ? tables_by_trunk(&worker->tables, record->trunk_id) : NULL;
    if (!stream || record->track >= stream->tracks ||
        (record->type != RECORD_FEEDBACK && stream->source_worker != worker->id)) {
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
    case RECORD_FEEDBACK:
        take_feedback(worker, record, size);
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
    if (!budget_left(peer->taken_used_ns, worker->now_ns, TAKEN_EACH_NS, TAKEN_BURST)) {
        worker_drop(worker, DROP_trunk_budget);
        return true;
    }
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.media);
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
    budget_spend(&peer->taken_used_ns, worker->now_ns, TAKEN_EACH_NS);
    rte_pktmbuf_append(m, (uint16_t)size);
    *media = take_record(worker, number, m);
    rte_pktmbuf_free(m);
    return true;
}
