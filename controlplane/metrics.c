// Prometheus text. One family after the other, each with its HELP and TYPE; the tables below and
// the lists of stats.h are all there is.
#include "metrics.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP hitless_%s %s\n# TYPE hitless_%s %s\n", name, help, name, type);
}

static void single(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    fprintf(out, "hitless_%s %llu\n", name, (unsigned long long)value);
}

// ---- workers

static void write_counts(FILE *out, struct channel *channel, uint32_t workers)
{
    for (int i = 0; i < COUNTS; i++) {
        char name[64];
        snprintf(name, sizeof(name), "worker_%s_total", api_count_names[i].name);
        family(out, name, "counter", api_count_names[i].help);
        for (uint32_t w = 0; w < workers; w++)
            fprintf(out, "hitless_%s{worker=\"%u\"} %llu\n", name, w,
                    (unsigned long long)API_LOAD(channel_worker_stats(channel, w)->count[i]));
    }
}

static void write_drops(FILE *out, struct channel *channel, uint32_t workers)
{
    family(out, "dropped_packets_total", "counter", "packets thrown away, by worker and reason");
    for (int i = 0; i < DROPS; i++)
        for (uint32_t w = 0; w < workers; w++)
            fprintf(out, "hitless_dropped_packets_total{worker=\"%u\",reason=\"%s\"} %llu\n", w,
                    api_drop_names[i].name,
                    (unsigned long long)API_LOAD(channel_worker_stats(channel, w)->drop[i]));
}

static const struct gauge {
    const char *name, *help;
    size_t offset; // of a uint32_t in struct stats_worker
} worker_gauges[] = {
    {"worker_sessions", "sessions on a worker", offsetof(struct stats_worker, sessions)},
    {"worker_streams", "streams on a worker", offsetof(struct stats_worker, streams)},
    {"worker_rx_mbufs_free", "free buffers for arriving packets",
     offsetof(struct stats_worker, rx_free)},
    {"worker_rx_mbufs", "buffers for arriving packets", offsetof(struct stats_worker, rx_size)},
    {"worker_tx_mbufs_free", "free buffers for leaving packets",
     offsetof(struct stats_worker, tx_free)},
    {"worker_tx_mbufs", "buffers for leaving packets", offsetof(struct stats_worker, tx_size)},
    {"worker_cache_blocks_free", "free blocks of the packet rings' memory, 16 KiB each",
     offsetof(struct stats_worker, cache_free)},
    {"worker_cache_blocks", "blocks of the packet rings' memory, 16 KiB each",
     offsetof(struct stats_worker, cache_size)},
};

static void write_worker_gauges(FILE *out, struct channel *channel, uint32_t workers)
{
    for (size_t i = 0; i < sizeof(worker_gauges) / sizeof(worker_gauges[0]); i++) {
        const struct gauge *gauge = &worker_gauges[i];
        family(out, gauge->name, "gauge", gauge->help);
        for (uint32_t w = 0; w < workers; w++) {
            const uint8_t *stats = (const uint8_t *)channel_worker_stats(channel, w);
            fprintf(out, "hitless_%s{worker=\"%u\"} %u\n", gauge->name, w,
                    API_LOAD(*(const uint32_t *)(stats + gauge->offset)));
        }
    }
}

static void write_progress(FILE *out, struct channel *channel, uint32_t workers, uint64_t now_ns)
{
    family(out, "worker_progress_age_seconds", "gauge", "time since a worker's last turn");
    for (uint32_t w = 0; w < workers; w++) {
        uint64_t at = API_LOAD(channel_worker_stats(channel, w)->progress_ns);
        if (at != 0) // else it never ran
            fprintf(out, "hitless_worker_progress_age_seconds{worker=\"%u\"} %.3f\n", w,
                    at < now_ns ? (double)(now_ns - at) / 1e9 : 0.0);
    }
}

// ---- port

static const struct counter {
    const char *name, *help;
    size_t offset; // of a uint64_t in struct stats_port
} port_counters[] = {
    {"port_rx_packets_total", "packets that the port received",
     offsetof(struct stats_port, rx_packets)},
    {"port_rx_bytes_total", "bytes that the port received", offsetof(struct stats_port, rx_bytes)},
    {"port_rx_missed_total", "packets that the port had no room for",
     offsetof(struct stats_port, rx_missed)},
    {"port_rx_errors_total", "damaged packets that the port received",
     offsetof(struct stats_port, rx_errors)},
    {"port_rx_nombuf_total", "packets that the driver had no buffer for",
     offsetof(struct stats_port, rx_nombuf)},
    {"port_tx_packets_total", "packets that the port sent",
     offsetof(struct stats_port, tx_packets)},
    {"port_tx_bytes_total", "bytes that the port sent", offsetof(struct stats_port, tx_bytes)},
    {"port_tx_errors_total", "packets that the port failed to send",
     offsetof(struct stats_port, tx_errors)},
};

static void write_port(FILE *out, struct channel *channel)
{
    const uint8_t *stats = (const uint8_t *)channel_port_stats(channel);
    for (size_t i = 0; i < sizeof(port_counters) / sizeof(port_counters[0]); i++)
        single(out, port_counters[i].name, "counter", port_counters[i].help,
               API_LOAD(*(const uint64_t *)(stats + port_counters[i].offset)));
    single(out, "port_link_up", "gauge", "whether the port has a link",
           API_LOAD(channel_port_stats(channel)->link_up) != 0);
}

// ---- sessions and streams

struct session_tally {
    uint64_t by[2][PHASE_MEDIA + 1]; // viewer or publisher, phase
};

static void tally_session(const struct session_info *info, void *opaque)
{
    struct session_tally *tally = opaque;
    if ((unsigned)info->phase <= PHASE_MEDIA)
        tally->by[info->role == ROLE_PUBLISH][info->phase]++;
}

static void write_sessions(FILE *out, struct api *api)
{
    struct session_tally tally = {0};
    sessions_each(api_sessions_set(api), tally_session, &tally);
    family(out, "sessions", "gauge", "sessions by role and phase");
    for (int publisher = 0; publisher < 2; publisher++)
        for (int phase = 0; phase <= PHASE_MEDIA; phase++)
            fprintf(out, "hitless_sessions{role=\"%s\",phase=\"%s\"} %llu\n",
                    api_role_name(publisher ? ROLE_PUBLISH : ROLE_PLAY),
                    api_phase_name((enum session_phase)phase),
                    (unsigned long long)tally.by[publisher][phase]);
}

struct series {
    const char *name, *type, *help;
    uint64_t (*value)(const struct stream_info *info);
};

struct stream_visit {
    FILE *out;
    const struct series *series;
    uint32_t visited;
};

// Stream names are [A-Za-z0-9._-]+, so they need no escapes.
static void write_stream(const struct stream_info *info, void *opaque)
{
    struct stream_visit *visit = opaque;
    if (visit->visited++ < METRICS_STREAMS_MAX)
        fprintf(visit->out, "hitless_%s{stream=\"%s\"} %llu\n", visit->series->name, info->name,
                (unsigned long long)visit->series->value(info));
}

#define STAT(field)                                                                                \
    static uint64_t stream_##field(const struct stream_info *info)                                 \
    {                                                                                              \
        return info->stats == NULL ? 0 : API_LOAD(info->stats->field);                             \
    }
STAT(packets)
STAT(bytes)
STAT(lost)
STAT(keyframes)
#undef STAT

static uint64_t stream_live(const struct stream_info *info)
{
    return info->live;
}

static uint64_t stream_viewers(const struct stream_info *info)
{
    return info->viewers;
}

static const struct series stream_series[] = {
    {"stream_live", "gauge", "whether a stream's packets flow", stream_live},
    {"stream_viewers", "gauge", "sessions that watch a stream", stream_viewers},
    {"stream_packets_total", "counter", "media packets of a stream", stream_packets},
    {"stream_bytes_total", "counter", "bytes of those", stream_bytes},
    {"stream_lost_packets_total", "counter", "packets of a stream that never came", stream_lost},
    {"stream_keyframes_total", "counter", "key frames of a stream", stream_keyframes},
};

static void write_streams(FILE *out, struct api *api)
{
    for (size_t i = 0; i < sizeof(stream_series) / sizeof(stream_series[0]); i++) {
        const struct series *series = &stream_series[i];
        struct stream_visit visit = {.out = out, .series = series};
        family(out, series->name, series->type, series->help);
        streams_each(api_sessions_set(api), write_stream, &visit);
    }
}

// ---- all of it

static void write_health(FILE *out, struct channel *channel, uint64_t now_ns)
{
    uint64_t epoch;
    bool ready;
    enum channel_peer peer = channel_peer(channel, now_ns, &epoch, &ready);
    single(out, "dataplane_up", "gauge", "whether the dataplane beats", peer == PEER_ALIVE);
    single(out, "dataplane_ready", "gauge", "whether the dataplane does its work", ready);
    single(out, "dataplane_starts_total", "counter", "starts of the dataplane", epoch);
    single(out, "admission_mode", "gauge", "0 normal, 1 closed, 2 drain", channel_mode(channel));
}

int metrics_write(struct api *api, uint64_t now_ns, char **text, size_t *size)
{
    struct channel *channel = api_channel(api);
    uint32_t workers = channel_config(channel)->workers;
    FILE *out = open_memstream(text, size);
    if (out == NULL)
        return -ENOMEM;
    write_health(out, channel, now_ns);
    write_sessions(out, api);
    write_streams(out, api);
    write_counts(out, channel, workers);
    write_worker_gauges(out, channel, workers);
    write_progress(out, channel, workers, now_ns);
    write_drops(out, channel, workers);
    write_port(out, channel);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(*text);
        return -ENOMEM;
    }
    return 0;
}
