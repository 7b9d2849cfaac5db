// The machines' routes; see http_api.h.
#include "http_api.h"
#include "metrics.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Whether this client may; if not, it has been answered.
static bool allowed(struct http_request *request, enum config_access access)
{
    if (http_allowed(request, access))
        return true;
    if (access == ACCESS_OFF)
        http_refuse(request, 404, "nothing here");
    else
        http_refuse(request, 403, "only for clients on this machine");
    return false;
}

// Answers with `json`, whose reference it takes.
static void reply_json(struct http_request *request, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text)
        http_reply(request, 200, "application/json", text, strlen(text));
    else
        http_refuse(request, 503, "out of memory");
    free(text);
}

static void on_streams(struct http_request *request, void *opaque)
{
    struct http_api *state = opaque;
    if (allowed(request, state->config->http.streams))
        reply_json(request, api_streams(state->api, uv_hrtime()));
}

static void on_status(struct http_request *request, void *opaque)
{
    struct http_api *state = opaque;
    if (allowed(request, state->config->http.status))
        reply_json(request, api_status(state->api, uv_hrtime()));
}

static void on_metrics(struct http_request *request, void *opaque)
{
    struct http_api *state = opaque;
    char *text;
    size_t size;
    if (!allowed(request, state->config->http.metrics))
        return;
    if (metrics_write(state->api, uv_hrtime(), &text, &size) < 0) {
        http_refuse(request, 503, "out of memory");
        return;
    }
    http_reply(request, 200, METRICS_TYPE, text, size);
    free(text);
}

// Healthy means that media can flow: the dataplane lives and is ready.
static void on_healthz(struct http_request *request, void *opaque)
{
    static const char *names[] = {[PEER_ABSENT] = "absent",
                                  [PEER_ALIVE] = "starting",
                                  [PEER_STALLED] = "stalled",
                                  [PEER_DEAD] = "dead"};
    struct http_api *state = opaque;
    uint64_t epoch;
    bool ready = false;
    char body[64];
    enum channel_peer peer = channel_peer(state->channel, uv_hrtime(), &epoch, &ready);
    bool healthy = peer == PEER_ALIVE && ready;
    int n = snprintf(body, sizeof(body), "{\"healthy\":%s,\"dataplane\":\"%s\"}\n",
                     healthy ? "true" : "false", healthy ? "ready" : names[peer]);
    http_reply(request, healthy ? 200 : 503, "application/json", body, (size_t)n);
}

static const struct http_route routes[] = {
    {"GET", "/api/streams", on_streams, .cors = true},
    {"GET", "/api/status", on_status, .cors = false},
    {"GET", "/metrics", on_metrics, .cors = false},
    {"GET", "/healthz", on_healthz, .cors = true},
};

int http_api_add(struct http *http, struct http_api *state)
{
    return http_add(http, routes, sizeof(routes) / sizeof(*routes), state);
}
