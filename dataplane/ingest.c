#include "ingest.h"
#include "failover.h"
#include "ingest_source.h"
#include "ingest_space.h"

static _Atomic uint64_t *clock_of(const struct worker *worker, const struct stream *stream,
                                  const struct track *track)
{
    return &worker->dp->clocks[MSG_SLOT(stream->id) * MSG_MAX_TRACKS + (track - stream->track)];
}

void ingest_note_clocks(const struct worker *worker, const struct stream *stream)
{
    for (const struct track *track = stream->track; track < stream->track + stream->tracks; track++)
        if (track->last_ns)
            atomic_store_explicit(
                clock_of(worker, stream, track),
                (uint64_t)MSG_GENERATION(stream->id) << 32 |
                    (track->last_timestamp - rtp_clock(track->last_ns, track->config.clock_rate)),
                memory_order_relaxed);
}

// What to add to the next source's timestamps, so that viewers' go on where the last one, here or
// at another worker, left them.
static uint32_t continue_clock(const struct worker *worker, const struct stream *stream,
                               const struct track *track, uint32_t timestamp)
{
    uint32_t rate = track->config.clock_rate;
    uint64_t told = atomic_load_explicit(clock_of(worker, stream, track), memory_order_relaxed);
    if (track->last_ns) {
        uint32_t elapsed = rtp_clock(worker->now_ns - track->last_ns, rate);
        return track->last_timestamp + (elapsed ? elapsed : 1) - timestamp;
    }
    if (told >> 32 == MSG_GENERATION(stream->id))
        return (uint32_t)told + rtp_clock(worker->now_ns, rate) - timestamp;
    return 0;
}

// Continues the track's numbers and clock where the last source left them.
static void map_layer(const struct worker *worker, const struct stream *stream, struct track *track,
                      struct layer *layer, uint64_t index, uint32_t timestamp)
{
    if (!track->next_index) {
        track->next_index = ingest_first_index();
        cache_clear(&track->ring, track->next_index);
    }
    // A track that another node gave us so far has gone on there by we do not know how much.
    layer->delta = (track->trunk_fed ? ingest_first_index() : track->next_index) - index;
    track->trunk_fed = false;
    layer->timestamp_delta = continue_clock(worker, stream, track, timestamp);
    layer->mapped = true;
    track->clock = (struct track_clock){.ntp = layer->sr_ntp,
                                        .at_ns = layer->sr_ns,
                                        .timestamp = layer->sr_timestamp + layer->timestamp_delta};
}

// Turns the RTX packet in `media` into the packet that it repeats (RFC 4588 section 4).
static bool unwrap_rtx(struct media *media, struct rtp_view *view, const struct place *place,
                       uint64_t *index)
{
    uint16_t osn;
    if (!place->layer->media.ssrc || rtp_rtx_osn(view, &osn))
        return false; // padding that probes for bandwidth
    uint8_t *head = media->bytes, *payload = head + view->header;
    size_t length = view->length - RTP_RTX_OSN;
    memmove(payload, payload + RTP_RTX_OSN, length - view->header);
    store_be16(head + 2, osn);
    head[1] = (head[1] & 0x80) | place->track->config.pt;
    store_be32(head + 8, place->layer->media.ssrc);
    *index = rtp_nearest_seq(replay_top(&place->layer->media.replay), osn);
    return rtp_parse(head, length, view) == 0;
}

static void account(struct worker *worker, struct stream *stream, const struct place *place,
                    const struct rtp_view *view, uint64_t index, size_t length)
{
    struct layer *layer = place->layer;
    enum gaps_arrival arrival =
        gaps_received(&place->track->gaps[place->number], index, worker->now_ns);
    if (place->rtx || arrival == GAPS_RECOVERED) {
        rtp_rx_recovered(&layer->stats);
        if (arrival == GAPS_RECOVERED) {
            layer->recovered++;
            worker_count(worker, COUNT_nack_up_recovered, 1);
        }
    } else {
        rtp_rx_update(&layer->stats, view->seq, view->timestamp,
                      rtp_clock(worker->now_ns, place->track->config.clock_rate));
    }
    layer->packets++;
    layer->bytes += length;
    layer->rate_bytes += length;
    layer->heard_ns = stream->direct_ns = worker->now_ns;
    stream->packets++;
    stream->bytes += length;
    stream->rate_bytes += length;
    worker_count(worker, COUNT_rtp_in, 1);
}

static void note_transport_cc(struct stream *stream, const struct place *place,
                              const struct rtp_view *view, uint64_t now_ns)
{
    struct rtp_ext ext;
    uint8_t id = place->track->config.hdrext[HDREXT_TRANSPORT_CC];
    if (stream->twcc && id && rtp_ext_find(view, id, &ext) && ext.length == 2)
        twcc_receive(stream->twcc, load_be16(ext.data), now_ns);
}

// What else a publisher sends under an SSRC (comfort noise, RED) is not what viewers were promised.
static bool is_negotiated(const struct place *place, const struct rtp_view *view)
{
    const struct msg_track *config = &place->track->config;
    return view->pt == (place->rtx ? config->rtx_pt : config->pt);
}

// Opens the packet into a fresh mbuf and finds or learns its place. NULL: dropped and counted.
static struct rte_mbuf *open_packet(struct worker *worker, struct stream *stream,
                                    const uint8_t *packet, size_t length, struct place *place,
                                    struct rtp_view *view, uint64_t *index)
{
    if (rtp_parse_header(packet, length, view)) {
        worker_drop(worker, DROP_rtp_malformed);
        return NULL;
    }
    struct protect_source fresh = {.ssrc = view->ssrc};
    bool known = ingest_find_ssrc(stream, view->ssrc, place);
    struct protect_source *source = known && place->rtx ? &place->layer->rtx
                                    : known             ? &place->layer->media
                                                        : ingest_find_retired(stream, view->ssrc);
    if (!source)
        source = &fresh;
    uint64_t top = replay_top(&source->replay);
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.media);
    if (!m || rte_pktmbuf_tailroom(m) < MEDIA_KNOWN + length) {
        worker_drop(worker, m ? DROP_too_big : DROP_no_mbuf);
        rte_pktmbuf_free(m);
        return NULL;
    }
    uint8_t *out = media_of(m)->bytes;
    size_t size;
    int rc = protect_open(worker->protect, &stream->rx, source, packet, length, out, &size, index);
    enum drop why = rc == -EALREADY  ? DROP_srtp_replay
                    : rc == -EBADMSG ? DROP_srtp_auth
                                     : DROP_rtp_malformed;
    if (rc == 0) {
        why = DROP_rtp_malformed;
        rc = rtp_parse(out, size, view);
    }
    if (rc == 0) {
        why = DROP_rtp_unknown_ssrc;
        rc = (known ? is_negotiated(place, view) : ingest_learn_ssrc(stream, view, place))
                 ? 0
                 : -ENOENT;
        if (rc == 0 && !known && *index < top) { // a straggler of an SSRC that was given up
            why = DROP_cache_old;
            rc = -ESTALE;
        }
        if (rc == 0 && !known)
            ingest_adopt_source(stream, place, source);
    }
    if (rc == 0)
        return m;
    worker_drop(worker, why);
    rte_pktmbuf_free(m);
    return NULL;
}

// Whether this packet of that layer goes into the ring; switches layers at key frames.
static bool choose(struct worker *worker, const struct place *place, bool keyframe)
{
    struct track *track = place->track;
    if (place->number == track->layer)
        return true;
    bool silent = worker->now_ns - track->layers[track->layer].heard_ns > 500000000;
    if (!keyframe || place->rtx || (place->number != track->next_layer && !silent))
        return false;
    track->layers[track->layer].mapped = false;
    track->layer = track->next_layer = place->number;
    return true;
}

static void describe(struct media *media, const struct stream *stream, const struct place *place,
                     const struct rtp_view *view, uint64_t index, uint64_t now_ns, bool keyframe)
{
    struct media known = {
        .index = index + place->layer->delta,
        .arrival_ns = now_ns,
        .stream = stream->id,
        .timestamp = view->timestamp + place->layer->timestamp_delta,
        .header = view->header,
        .payload = (uint16_t)(view->length - view->header),
        .track = (uint8_t)(place->track - stream->track),
        .layer = place->number,
        .marker = view->marker,
        .padding = view->padding != 0,
        .keyframe = keyframe,
        .essential = nack_essential(place->track->config.codec, view->packet + view->header,
                                    view->payload_length),
    };
    media_note(media, &known);
}

struct rte_mbuf *ingest_rtp(struct worker *worker, struct session *session, const uint8_t *packet,
                            size_t length)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    if (!stream || !stream->keyed_by || stream->source_worker != worker->id) {
        worker_drop(worker, DROP_rtp_no_keys);
        return NULL;
    }
    struct place place = {0};
    struct rtp_view view;
    uint64_t index = 0;
    struct rte_mbuf *m = open_packet(worker, stream, packet, length, &place, &view, &index);
    if (!m)
        return NULL;
    session->heard_ns = worker->now_ns;
    session->packets_in++;
    session->bytes_in += length;
    note_transport_cc(stream, &place, &view, worker->now_ns);
    if (place.rtx && !unwrap_rtx(media_of(m), &view, &place, &index)) {
        rte_pktmbuf_free(m);
        return NULL;
    }
    account(worker, stream, &place, &view, index, length);
    gaps_forget(&place.track->gaps[GAPS_TRUNK]); // what comes here has no gap on the trunk
    bool keyframe =
        place.track->config.kind == KIND_VIDEO &&
        rtp_is_keyframe(place.track->config.codec, view.packet + view.header, view.payload_length);
    if (keyframe) {
        stream->keyframes++;
        stream->keyframe_ns = worker->now_ns;
    }
    if (!choose(worker, &place, keyframe)) {
        rte_pktmbuf_free(m);
        return NULL;
    }
    if (!place.layer->mapped) {
        if (place.rtx) {
            rte_pktmbuf_free(m);
            return NULL;
        }
        map_layer(worker, stream, place.track, place.layer, index, view.timestamp);
        stream->source_ns = 0; // the partner is told at once
    } else if (ingest_is_alone(worker, stream)) {
        place.track->trunk_fed = false;
    }
    if (!ingest_may_advance(worker, session, stream, place.track, index + place.layer->delta)) {
        worker_drop(worker, DROP_rtp_advance);
        rte_pktmbuf_free(m);
        return NULL;
    }
    if (keyframe)
        place.track->key_wanted = false;
    describe(media_of(m), stream, &place, &view, index, worker->now_ns, keyframe);
    ingest_set_state(worker, stream, STREAM_LIVE);
    return ingest_keep(worker, place.track, m) ? m : NULL;
}

bool ingest_shared(struct worker *worker, struct rte_mbuf *m)
{
    const struct media *media = media_of(m);
    struct stream *stream = tables_stream(&worker->tables, media->stream);
    if (!stream || media->track >= stream->tracks) {
        rte_pktmbuf_free(m);
        return false;
    }
    return ingest_keep(worker, &stream->track[media->track], m);
}

void ingest_set_state(struct worker *worker, struct stream *stream, enum stream_state state)
{
    if (stream->state == state)
        return;
    struct msg_stream_state message = {
        .head = {.type = MSG_STREAM_STATE, .length = sizeof(message), .id = stream->id},
        .state = state};
    if (worker_tell(worker, &message) == 0)
        stream->state = (uint8_t)state;
}

void ingest_sender_report(struct worker *worker, struct stream *stream,
                          const struct rtcp_sender *sender)
{
    struct place place = {0};
    if (!ingest_find_ssrc(stream, sender->ssrc, &place) || place.rtx)
        return;
    struct layer *layer = place.layer;
    layer->sr_ntp = sender->ntp;
    layer->sr_ns = worker->now_ns;
    layer->sr_timestamp = sender->rtp;
    if (layer->mapped && place.number == place.track->layer)
        place.track->clock =
            (struct track_clock){.ntp = sender->ntp,
                                 .at_ns = worker->now_ns,
                                 .timestamp = sender->rtp + layer->timestamp_delta};
}

void ingest_bye(struct worker *worker, struct stream *stream, uint32_t ssrc)
{
    struct place place = {0};
    if (!ingest_find_ssrc(stream, ssrc, &place) || place.rtx)
        return;
    // A later packet of the same SSRC brings it back by itself.
    place.layer->heard_ns = 0;
    for (int t = 0; t < stream->tracks; t++)
        for (int l = 0; l < stream->track[t].config.layers; l++)
            if (stream->track[t].layers[l].heard_ns)
                return;
    ingest_set_state(worker, stream, STREAM_BYE);
}
