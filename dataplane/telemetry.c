#include "telemetry.h"

// Sums what the viewer was sent, and what it reported: video if there is any, else audio.
static void add_viewer(struct worker *worker, struct session *session, struct stats_session *out)
{
    session->packets_out = session->bytes_out = 0;
    for (uint8_t i = 0; i < session->tracks; i++) {
        const struct sub *sub = tables_sub(&worker->tables, session, i);
        const struct session_track *feedback = &session->feedback[i];
        if (!sub)
            continue;
        session->packets_out += sub->packets;
        session->bytes_out += sub->bytes;
        out->lost += feedback->lost;
        if (session->track[i].kind == KIND_VIDEO || !out->jitter_us) {
            out->loss_permille = feedback->loss_permille;
            out->jitter_us = (uint32_t)((uint64_t)feedback->jitter * 1000000 /
                                        (session->track[i].clock_rate | 1));
        }
    }
}

static void add_publisher(struct worker *worker, struct session *session, struct stats_session *out)
{
    const struct stream *stream = tables_stream(&worker->tables, session->stream);
    for (int t = 0; stream && t < stream->tracks; t++) {
        const struct track *track = &stream->track[t];
        for (int l = 0; l < track->config.layers; l++) {
            out->lost += track->layers[l].lost;
            if (l == track->layer)
                out->jitter_us = (uint32_t)((uint64_t)(track->layers[l].stats.jitter_q4 >> 4) *
                                            1000000 / (track->config.clock_rate | 1));
        }
    }
}

void telemetry_session(struct worker *worker, struct session *session)
{
    uint32_t slot = tables_slot(&worker->tables, session);
    struct stats_session stats = {.id = session->id};
    if (session->role == ROLE_PLAY)
        add_viewer(worker, session, &stats);
    else
        add_publisher(worker, session, &stats);
    uint64_t bytes = session->role == ROLE_PLAY ? session->bytes_out : session->bytes_in;
    uint64_t elapsed = worker->now_ns - session->bitrate_ns;
    if (session->bitrate_ns && elapsed && bytes >= session->bitrate_bytes)
        session->bitrate = (uint32_t)((bytes - session->bitrate_bytes) * 8 * 1000000000 / elapsed);
    session->bitrate_bytes = bytes;
    session->bitrate_ns = worker->now_ns;
    stats.packets_in = session->packets_in;
    stats.bytes_in = session->bytes_in;
    stats.packets_out = session->packets_out;
    stats.bytes_out = session->bytes_out;
    stats.nacks = session->nacks;
    stats.resent = session->resent;
    stats.plis = session->plis;
    stats.last_heard_ns = session->heard_ns;
    stats.rtt_us = session->rtt_us;
    stats.bitrate = session->bitrate;
    stats.remote = session->paths[session->path].remote;
    stats_publish(channel_session_stats(worker->dp->channel, worker->id, slot), &stats,
                  sizeof(stats));
}

static void stream_stats(struct worker *worker, const struct stream *stream)
{
    struct stats_stream stats = {.id = stream->id,
                                 .packets = stream->packets,
                                 .bytes = stream->bytes,
                                 .keyframes = stream->keyframes,
                                 .last_keyframe_ns = stream->keyframe_ns,
                                 .bitrate = stream->bitrate};
    for (int t = 0; t < stream->tracks; t++) {
        const struct track *track = &stream->track[t];
        for (int l = 0; l < track->config.layers; l++)
            stats.lost += track->layers[l].lost;
        if (track->viewer_count > stats.viewers)
            stats.viewers = track->viewer_count;
        stats.ring_packets += track->ring.used;
        stats.ring_size += track->ring.mask + 1;
    }
    stats_publish(channel_stream_stats(worker->dp->channel, MSG_SLOT(stream->id)), &stats,
                  sizeof(stats));
}

void telemetry_worker(struct worker *worker)
{
    struct stats_worker *stats = worker->stats;
    STATS_SET(stats->sessions, worker->tables.session_count);
    STATS_SET(stats->streams, worker->tables.stream_count);
    STATS_SET(stats->rx_free, eal_pool_free(worker->pools.rx));
    STATS_SET(stats->rx_size, worker->pools.rx->size);
    STATS_SET(stats->tx_free, eal_pool_free(worker->pools.tx));
    STATS_SET(stats->tx_size, worker->pools.tx->size);
    STATS_SET(stats->cache_free, worker->store->free);
    STATS_SET(stats->cache_size, worker->store->blocks);
    STATS_SET(stats->frames_waiting, worker->frames_waiting);
    STATS_SET(stats->media_waiting, worker->media_waiting);
    STATS_SET(stats->mailbox_size, MAILBOX_SIZE);
    worker->frames_waiting = worker->media_waiting = 0;
    uint32_t seen = 0, packets = 0, size = 0;
    for (uint32_t i = 0; i < worker->tables.max_streams && seen < worker->tables.stream_count;
         i++) {
        const struct stream *stream = worker->tables.streams[i];
        if (!stream)
            continue;
        seen++;
        for (int t = 0; t < stream->tracks; t++) {
            packets += stream->track[t].ring.used;
            size += stream->track[t].ring.mask + 1;
        }
        if (stream->source_worker == worker->id)
            stream_stats(worker, stream);
    }
    STATS_SET(stats->ring_packets, packets);
    STATS_SET(stats->ring_size, size);
}
