// JSON for operators and pages; api.h has the contract. Everything is read where it lies at the
// moment of asking, but for the two samples that rates come from.
#include "api_private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const struct api_name api_count_names[COUNTS] = {
#define X(name, help) [COUNT_##name] = {#name, help},
    COUNT_LIST(X)
#undef X
};

const struct api_name api_drop_names[DROPS] = {
#define X(name, help) [DROP_##name] = {#name, help},
    DROP_LIST(X)
#undef X
};

static const char *const mode_names[] = {
    [ABI_MODE_NORMAL] = "normal",
    [ABI_MODE_CLOSED] = "closed",
    [ABI_MODE_DRAIN] = "drain",
};

const char *api_peer_name(enum channel_peer peer)
{
    static const char *const names[] = {[PEER_ABSENT] = "absent",
                                        [PEER_ALIVE] = "alive",
                                        [PEER_STALLED] = "stalled",
                                        [PEER_DEAD] = "dead"};
    return names[peer];
}

const char *api_phase_name(enum session_phase phase)
{
    static const char *const names[] = {[PHASE_NEW] = "new",
                                        [PHASE_CHECKED] = "checked",
                                        [PHASE_DTLS] = "dtls",
                                        [PHASE_MEDIA] = "media"};
    return (unsigned)phase <= PHASE_MEDIA ? names[phase] : "unknown";
}

const char *api_role_name(enum session_role role)
{
    return role == ROLE_PUBLISH ? "publish" : "play";
}

struct channel *api_channel(struct api *api)
{
    return api->channel;
}

struct sessions *api_sessions_set(struct api *api)
{
    return api->sessions;
}

// ---- values

json_t *api_file_text(const char *text, size_t size)
{
    char clean[256];
    size_t i = 0;
    for (; i < size && i < sizeof(clean) - 1 && text[i] != 0; i++)
        clean[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    clean[i] = 0;
    return json_string(clean);
}

static uint64_t wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t api_seconds_since(uint64_t then_ms)
{
    uint64_t now = wall_ms();
    return then_ms == 0 || now < then_ms ? 0 : (now - then_ms) / 1000;
}

// ---- samples and rates

static void take_sample(struct api *api, uint64_t now_ns, struct sample *sample)
{
    const struct stats_port *port = channel_port_stats(api->channel);
    sample->at_ns = now_ns;
    for (uint32_t w = 0; w < api_worker_count(api); w++) {
        const struct stats_worker *worker = channel_worker_stats(api->channel, w);
        for (int i = 0; i < COUNTS; i++)
            sample->count[w][i] = API_LOAD(worker->count[i]);
        for (int i = 0; i < DROPS; i++)
            sample->drop[w][i] = API_LOAD(worker->drop[i]);
        for (int i = 0; i < STAGES; i++)
            sample->stage[w][i] = API_LOAD(worker->stage_cycles[i]);
    }
    sample->rx_packets = API_LOAD(port->rx_packets);
    sample->rx_bytes = API_LOAD(port->rx_bytes);
    sample->tx_packets = API_LOAD(port->tx_packets);
    sample->tx_bytes = API_LOAD(port->tx_bytes);
}

void api_sample(struct api *api, uint64_t now_ns)
{
    if (now_ns < api->last.at_ns + API_SAMPLE_NS)
        return;
    api->before = api->last;
    take_sample(api, now_ns, &api->last);
}

uint64_t api_rate(const struct api *api, uint64_t before, uint64_t last)
{
    uint64_t ns = api->last.at_ns - api->before.at_ns;
    if (ns == 0 || last < before)
        return 0;
    return (uint64_t)((double)(last - before) * 1e9 / (double)ns + 0.5);
}

uint64_t api_count_rate(const struct api *api, uint32_t w, enum count count)
{
    return api_rate(api, api->before.count[w][count], api->last.count[w][count]);
}

static uint64_t count_rates(const struct api *api, enum count count)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < api_worker_count(api); w++)
        sum += api_count_rate(api, w, count);
    return sum;
}

int api_new(struct api **out, struct channel *channel, struct sessions *sessions, uint64_t now_ns)
{
    struct api *api = calloc(1, sizeof(*api));
    if (api == NULL)
        return -ENOMEM;
    api->channel = channel;
    api->sessions = sessions;
    api->started_ns = now_ns;
    take_sample(api, now_ns, &api->last);
    api->before = api->last;
    *out = api;
    return 0;
}

void api_free(struct api *api)
{
    free(api);
}

// ---- status

struct tally {
    uint64_t publishers, viewers, live, streams;
};

static void tally_session(const struct session_info *info, void *opaque)
{
    struct tally *tally = opaque;
    if (info->role == ROLE_PUBLISH)
        tally->publishers++;
    else
        tally->viewers++;
}

static void tally_stream(const struct stream_info *info, void *opaque)
{
    struct tally *tally = opaque;
    tally->streams++;
    tally->live += info->live;
}

static const char *node_state(enum channel_peer peer, bool ready, enum abi_mode mode)
{
    if (peer == PEER_ABSENT || peer == PEER_DEAD)
        return "down";
    if (peer == PEER_STALLED)
        return "stalled";
    if (!ready)
        return "starting";
    return mode == ABI_MODE_NORMAL ? "ready" : mode_names[mode];
}

json_t *api_status(struct api *api, uint64_t now_ns)
{
    const struct abi_config *config = channel_config(api->channel);
    struct tally tally = {0};
    uint64_t epoch;
    bool ready;
    enum channel_peer peer = channel_peer(api->channel, now_ns, &epoch, &ready);
    unsigned mode = channel_mode(api->channel);
    if (mode > ABI_MODE_DRAIN)
        mode = ABI_MODE_NORMAL;
    sessions_each(api->sessions, tally_session, &tally);
    streams_each(api->sessions, tally_stream, &tally);
    api_sample(api, now_ns);
    return json_pack(
        "{s:o, s:s, s:b, s:s, s:I, s:{s:i}, s:{s:s, s:b, s:I, s:I}, s:I, s:I, s:I, s:I, s:I, s:I,"
        " s:I, s:I, s:I, s:I, s:I}",
        "node", api_file_text(config->node, sizeof(config->node)), "state",
        node_state(peer, ready, mode), "ready", ready && mode == ABI_MODE_NORMAL, "mode",
        mode_names[mode], "uptime_s", (json_int_t)((now_ns - api->started_ns) / 1000000000u),
        "controlplane", "pid", (int)getpid(), "dataplane", "state", api_peer_name(peer), "ready",
        ready, "pid", (json_int_t)channel_peer_pid(api->channel), "epoch", (json_int_t)epoch,
        "workers", (json_int_t)config->workers, "publishers", (json_int_t)tally.publishers,
        "viewers", (json_int_t)tally.viewers, "sessions",
        (json_int_t)tally.publishers + (json_int_t)tally.viewers, "max_sessions",
        (json_int_t)config->max_sessions * config->workers, "streams", (json_int_t)tally.streams,
        "streams_live", (json_int_t)tally.live, "rx_packets_rate",
        (json_int_t)count_rates(api, COUNT_rx_packets), "rx_bitrate",
        (json_int_t)count_rates(api, COUNT_rx_bytes) * 8, "tx_packets_rate",
        (json_int_t)count_rates(api, COUNT_tx_packets), "tx_bitrate",
        (json_int_t)count_rates(api, COUNT_tx_bytes) * 8);
}

// ---- lists

json_t *api_listed(const char *key, json_t *list)
{
    return json_pack("{s:o}", key, list);
}

void api_sort(json_t *list, int (*compare)(const void *, const void *))
{
    size_t size = json_array_size(list);
    json_t **items = calloc(size + 1, sizeof(json_t *));
    if (items == NULL)
        return; // unsorted is better than nothing
    for (size_t i = 0; i < size; i++)
        items[i] = json_incref(json_array_get(list, i));
    qsort(items, size, sizeof(json_t *), compare);
    for (size_t i = 0; i < size; i++)
        json_array_set_new(list, i, items[i]);
    free(items);
}

const char *api_text_of(json_t *const *item, const char *key)
{
    const char *text = json_string_value(json_object_get(*item, key));
    return text != NULL ? text : "";
}

json_int_t api_number_of(json_t *const *item, const char *key)
{
    return json_integer_value(json_object_get(*item, key));
}

static void add_stream(const struct stream_info *info, void *opaque)
{
    const struct stats_stream *stats = info->stats;
    json_t *o =
        json_pack("{s:s, s:b, s:s?, s:s?, s:I, s:I, s:I}", "name", info->name, "live", info->live,
                  "audio", info->audio, "video", info->video, "viewers", (json_int_t)info->viewers,
                  "since_ms", (json_int_t)info->since_ms, "live_s",
                  (json_int_t)(info->live ? api_seconds_since(info->since_ms) : 0));
    if (o != NULL && stats != NULL) {
        json_object_set_new(o, "bitrate", api_number(API_LOAD(stats->bitrate)));
        json_object_set_new(o, "packets", api_number(API_LOAD(stats->packets)));
        json_object_set_new(o, "bytes", api_number(API_LOAD(stats->bytes)));
        json_object_set_new(o, "lost", api_number(API_LOAD(stats->lost)));
        json_object_set_new(o, "keyframes", api_number(API_LOAD(stats->keyframes)));
        json_object_set_new(o, "ring_packets", api_number(API_LOAD(stats->ring_packets)));
        json_object_set_new(o, "ring_size", api_number(API_LOAD(stats->ring_size)));
    }
    json_array_append_new(opaque, o);
}

static int compare_streams(const void *a, const void *b)
{
    return strcmp(api_text_of(a, "name"), api_text_of(b, "name"));
}

json_t *api_streams(struct api *api, uint64_t now_ns)
{
    json_t *list = json_array();
    streams_each(api->sessions, add_stream, list);
    api_sort(list, compare_streams);
    return api_listed("streams", list);
}
