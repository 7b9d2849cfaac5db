// JSON of the node's parts: workers, ports, drops and peers. api.h has the contract.
#include "api_private.h"
#include "installed.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#define WORKER_STALLED_NS 100000000ull // workers store their progress every 10 ms
// Of a worker, for kill-test: longer than the dataplane bears without another worker (500 ms), and
// short enough for its thread to be taken for one that recovers.
#define STALL_MS 900
#define DRAIN_AGAIN_MS 200    // until who waits for a drain should ask again
#define END_DELAY_NS 20000000 // of our own end, for the answer to get out

static const char *worker_state(const struct stats_worker *stats, bool alive, uint64_t now_ns)
{
    uint64_t progress = API_LOAD(stats->progress_ns);
    if (!alive || progress == 0)
        return "down";
    return now_ns > progress + WORKER_STALLED_NS ? "stalled" : "running";
}

static json_t *worker_object(struct api *api, uint32_t w, bool alive, uint64_t now_ns)
{
    const struct stats_worker *stats = channel_worker_stats(api->channel, w);
    uint64_t busy = api_count_rate(api, w, COUNT_cycles_busy);
    uint64_t idle = api_count_rate(api, w, COUNT_cycles_idle);
    uint64_t sent = api_count_rate(api, w, COUNT_tx_packets);
    uint64_t dropped = 0;
    json_t *counts = json_object();
    for (int i = 0; i < COUNTS; i++)
        json_object_set_new(counts, api_count_names[i].name, api_number(API_LOAD(stats->count[i])));
    for (int i = 0; i < DROPS; i++)
        dropped += API_LOAD(stats->drop[i]);
    return json_pack(
        "{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I,"
        " s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:o}",
        "worker", (json_int_t)w, "state", worker_state(stats, alive, now_ns), "progress_age_ms",
        (json_int_t)api_age_ms(API_LOAD(stats->progress_ns), now_ns), "sessions",
        (json_int_t)API_LOAD(stats->sessions), "streams", (json_int_t)API_LOAD(stats->streams),
        "rx_packets_rate", (json_int_t)api_count_rate(api, w, COUNT_rx_packets), "rx_bitrate",
        (json_int_t)api_count_rate(api, w, COUNT_rx_bytes) * 8, "tx_packets_rate", (json_int_t)sent,
        "tx_bitrate", (json_int_t)api_count_rate(api, w, COUNT_tx_bytes) * 8, "rtp_out_rate",
        (json_int_t)api_count_rate(api, w, COUNT_rtp_out), "busy_percent",
        busy + idle == 0 ? 0.0 : 100.0 * (double)busy / (double)(busy + idle), "cycles_per_packet",
        (json_int_t)(sent == 0 ? 0 : busy / sent), "tsc_hz", (json_int_t)API_LOAD(stats->tsc_hz),
        "dropped", (json_int_t)dropped, "rx_free", (json_int_t)API_LOAD(stats->rx_free), "rx_size",
        (json_int_t)API_LOAD(stats->rx_size), "tx_free", (json_int_t)API_LOAD(stats->tx_free),
        "tx_size", (json_int_t)API_LOAD(stats->tx_size), "cache_free",
        (json_int_t)API_LOAD(stats->cache_free), "cache_size",
        (json_int_t)API_LOAD(stats->cache_size), "idle_percent",
        busy + idle == 0 ? 0.0 : 100.0 * (double)idle / (double)(busy + idle), "frames_waiting",
        (json_int_t)API_LOAD(stats->frames_waiting), "media_waiting",
        (json_int_t)API_LOAD(stats->media_waiting), "ring_packets",
        (json_int_t)API_LOAD(stats->ring_packets), "ring_size",
        (json_int_t)API_LOAD(stats->ring_size), "counts", counts);
}

static bool dataplane_alive(struct api *api, uint64_t now_ns)
{
    uint64_t epoch;
    bool ready;
    enum channel_peer peer = channel_peer(api->channel, now_ns, &epoch, &ready);
    return peer == PEER_ALIVE || peer == PEER_STALLED;
}

json_t *api_workers(struct api *api, uint64_t now_ns)
{
    json_t *list = json_array();
    bool alive = dataplane_alive(api, now_ns);
    api_sample(api, now_ns);
    for (uint32_t w = 0; w < api_worker_count(api); w++)
        json_array_append_new(list, worker_object(api, w, alive, now_ns));
    return api_listed("workers", list);
}

static const struct {
    const char *name, *help;
    enum count per;
} stage_names[STAGES] = {
#define X(name, count, help) [STAGE_##name] = {#name, help, COUNT_##count},
    STAGE_LIST(X)
#undef X
};

json_t *api_stages(struct api *api, uint64_t now_ns)
{
    uint64_t cycles[STAGES] = {0}, packets[STAGES] = {0}, total = 0;
    json_t *list = json_array();
    bool counted = channel_stages_until(api->channel) >= now_ns;
    channel_ask_stages(api->channel, now_ns + API_STAGES_NS);
    api_sample(api, now_ns);
    for (uint32_t w = 0; w < api_worker_count(api); w++)
        for (int i = 0; i < STAGES; i++) {
            cycles[i] += api_rate(api, api->before.stage[w][i], api->last.stage[w][i]);
            packets[i] += api_count_rate(api, w, stage_names[i].per);
        }
    for (int i = 0; i < STAGES; i++)
        total += cycles[i];
    for (int i = 0; i < STAGES; i++)
        json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:I, s:I, s:f, s:s, s:s}", "stage", stage_names[i].name,
                      "cycles_rate", (json_int_t)cycles[i], "packets_rate", (json_int_t)packets[i],
                      "cycles_per_packet",
                      (json_int_t)(packets[i] == 0 ? 0 : cycles[i] / packets[i]), "share_percent",
                      total == 0 ? 0.0 : 100.0 * (double)cycles[i] / (double)total, "per",
                      api_count_names[stage_names[i].per].name, "help", stage_names[i].help));
    json_t *answer = api_listed("stages", list);
    if (!counted)
        json_object_set_new(answer, "ask_again_ms", json_integer(2 * API_SAMPLE_NS / 1000000));
    return answer;
}

json_t *api_ports(struct api *api, uint64_t now_ns)
{
    const struct stats_port *port = channel_port_stats(api->channel);
    const struct sample *a = &api->before, *b = &api->last;
    char mac[18];
    api_sample(api, now_ns);
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", port->mac[0], port->mac[1],
             port->mac[2], port->mac[3], port->mac[4], port->mac[5]);
    json_t *o = json_pack(
        "{s:i, s:o, s:o, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I,"
        " s:I, s:I}",
        "port", 0, "device", api_file_text(port->device, sizeof(port->device)), "driver",
        api_file_text(port->driver, sizeof(port->driver)), "mac", mac, "link_up",
        API_LOAD(port->link_up) != 0, "speed_mbps", (json_int_t)API_LOAD(port->speed_mbps),
        "rx_packets_rate", (json_int_t)api_rate(api, a->rx_packets, b->rx_packets), "rx_bitrate",
        (json_int_t)api_rate(api, a->rx_bytes, b->rx_bytes) * 8, "tx_packets_rate",
        (json_int_t)api_rate(api, a->tx_packets, b->tx_packets), "tx_bitrate",
        (json_int_t)api_rate(api, a->tx_bytes, b->tx_bytes) * 8, "rx_packets",
        (json_int_t)API_LOAD(port->rx_packets), "rx_bytes", (json_int_t)API_LOAD(port->rx_bytes),
        "rx_missed", (json_int_t)API_LOAD(port->rx_missed), "rx_errors",
        (json_int_t)API_LOAD(port->rx_errors), "rx_nombuf", (json_int_t)API_LOAD(port->rx_nombuf),
        "tx_packets", (json_int_t)API_LOAD(port->tx_packets), "tx_bytes",
        (json_int_t)API_LOAD(port->tx_bytes), "tx_errors", (json_int_t)API_LOAD(port->tx_errors));
    json_t *list = json_array();
    json_array_append_new(list, o);
    return api_listed("ports", list);
}

static int compare_drops(const void *a, const void *b)
{
    json_int_t x = api_number_of(a, "packets"), y = api_number_of(b, "packets");
    return x != y ? (x < y) - (x > y) : strcmp(api_text_of(a, "name"), api_text_of(b, "name"));
}

json_t *api_drops(struct api *api, uint64_t now_ns)
{
    json_t *list = json_array();
    api_sample(api, now_ns);
    for (int i = 0; i < DROPS; i++) {
        uint64_t packets = 0, per_s = 0;
        for (uint32_t w = 0; w < api_worker_count(api); w++) {
            packets += API_LOAD(channel_worker_stats(api->channel, w)->drop[i]);
            per_s += api_rate(api, api->before.drop[w][i], api->last.drop[w][i]);
        }
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:s}", "name", api_drop_names[i].name,
                                        "packets", (json_int_t)packets, "packets_rate",
                                        (json_int_t)per_s, "help", api_drop_names[i].help));
    }
    api_sort(list, compare_drops);
    return api_listed("drops", list);
}

json_t *api_peers(struct api *api, uint64_t now_ns)
{
    uint64_t epoch;
    bool ready;
    enum channel_peer peer = channel_peer(api->channel, now_ns, &epoch, &ready);
    json_t *list = json_pack("[{s:s, s:s, s:s, s:b, s:I, s:I, s:s, s:i, s:i, s:s}]", "peer",
                             "dataplane", "kind", "process", "state", api_peer_name(peer), "ready",
                             ready, "pid", (json_int_t)channel_peer_pid(api->channel), "epoch",
                             (json_int_t)epoch, "bfd", "", "lag", 0, "lag_ms", 0, "reason", "");
    if (api->pair.replicate != NULL) {
        json_t *partners = api->pair.peers(api->pair.replicate);
        json_array_extend(list, partners);
        json_decref(partners);
    }
    return api_listed("peers", list);
}

// ---- a pair of nodes

void api_set_pair(struct api *api, const struct api_pair *pair)
{
    api->pair = *pair;
}

static bool is_active(const json_t *group)
{
    const char *role = json_string_value(json_object_get(group, "role"));
    return role != NULL && strcmp(role, "active") == 0;
}

static void count_unprotected(const struct session_info *info, void *opaque)
{
    *(json_int_t *)opaque += strcmp(info->protection, "none") == 0;
}

json_t *api_groups(struct api *api, uint64_t now_ns)
{
    bool paired = api->pair.replicate != NULL;
    json_t *list = paired ? api->pair.groups(api->pair.replicate) : json_array(), *group;
    json_int_t left = 0, unprotected = 0;
    size_t i;
    json_array_foreach(list, i, group)
    {
        if (is_active(group))
            left += json_integer_value(json_object_get(group, "sessions"));
    }
    sessions_each(api->sessions, count_unprotected, &unprotected);
    return json_pack("{s:o, s:I, s:I}", "groups", list, "left", left, "unprotected", unprotected);
}

json_t *api_drain_state(struct api *api, uint64_t now_ns, char *why, size_t why_size)
{
    char text[128];
    json_t *answer = api_groups(api, now_ns), *group;
    long long left = json_integer_value(json_object_get(answer, "left")), unconfirmed = 0,
              refused = 0, alone = json_integer_value(json_object_get(answer, "unprotected"));
    unsigned ours = 0, handing = 0;
    size_t i;
    json_array_foreach(json_object_get(answer, "groups"), i, group)
    {
        ours += is_active(group);
        handing += is_active(group) && json_is_true(json_object_get(group, "handing"));
        unconfirmed += json_integer_value(json_object_get(group, "unconfirmed"));
        refused += json_integer_value(json_object_get(group, "refused"));
    }
    if (handing < ours)
        snprintf(why, why_size,
                 "%lld sessions are left, and the partner is not being asked to take them", left);
    else if (ours == 0 && alone > 0)
        snprintf(why, why_size, "%lld sessions have no partner, and end with this node", alone);
    if (*why != 0) {
        json_decref(answer);
        return NULL;
    }
    if (handing > 0) {
        int n =
            snprintf(text, sizeof(text), "%lld sessions left; the partner has yet to confirm %lld",
                     left, unconfirmed);
        if (refused > 0)
            snprintf(text + n, sizeof(text) - (size_t)n, ", and refuses %lld of them", refused);
        json_object_update_new(answer,
                               json_pack("{s:s, s:i, s:s}", "progress", text, "ask_again_ms",
                                         DRAIN_AGAIN_MS, "ask", "show drain"));
    }
    return answer;
}

static int unpaired(char *why, size_t why_size)
{
    snprintf(why, why_size, "no partner is configured");
    return -ENOENT;
}

int api_drain(struct api *api, char *why, size_t why_size)
{
    return api->pair.replicate != NULL ? api->pair.drain(api->pair.replicate, why, why_size)
                                       : unpaired(why, why_size);
}

int api_failback(struct api *api, char *why, size_t why_size)
{
    return api->pair.replicate != NULL ? api->pair.failback(api->pair.replicate, why, why_size)
                                       : unpaired(why, why_size);
}

// ---- ends of processes

// 0: there is none. The pid of a dead one may be somebody else's by now.
static pid_t dataplane_pid(const struct api *api)
{
    uint64_t epoch;
    bool ready;
    enum channel_peer peer = channel_peer(api->channel, uv_hrtime(), &epoch, &ready);
    return peer == PEER_ALIVE || peer == PEER_STALLED ? (pid_t)channel_peer_pid(api->channel) : 0;
}

static int end_dataplane(struct api *api, int number)
{
    pid_t pid = dataplane_pid(api);
    if (pid == 0)
        return -ESRCH;
    return kill(pid, number) < 0 ? -errno : 0;
}

// The kernel does it, even if our loop hangs.
static int end_ourselves(int number)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
    const struct itimerspec soon = {.it_value.tv_nsec = END_DELAY_NS};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 ||
        timer_settime(timer, 0, &soon, NULL) < 0)
        return -errno;
    return 0;
}

static int end(struct api *api, const char *what, int number)
{
    bool node = strcmp(what, "node") == 0 && number == SIGKILL;
    int rc = -EINVAL;
    if (node || strcmp(what, "controlplane") == 0)
        rc = end_ourselves(number);
    if (node || strcmp(what, "dataplane") == 0)
        rc = end_dataplane(api, number);
    return rc;
}

int api_kill(struct api *api, const char *what)
{
    if (!api->pair.kill_test)
        return -EPERM;
    if (strcmp(what, "worker") == 0)
        return sessions_stall_worker(api->sessions, STALL_MS);
    return end(api, what, SIGKILL);
}

int api_restart(struct api *api, const char *what, char *why, size_t why_size)
{
    if (strcmp(what, "dataplane") != 0 && strcmp(what, "controlplane") != 0)
        return -EINVAL;
    int rc = installed_check(what, why, why_size);
    if (rc == 0 && strcmp(what, "controlplane") == 0)
        rc = installed_journal(why, why_size);
    else if (rc == 0 && dataplane_pid(api) != 0)
        rc = installed_tables(channel_peer_tables(api->channel), why, why_size);
    return rc < 0 ? rc : end(api, what, SIGTERM);
}
