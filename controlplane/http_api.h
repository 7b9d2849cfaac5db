// What machines may ask over HTTP: /api/streams, /api/status, /metrics and /healthz, each as far as
// http.streams, http.status and http.metrics allow. Loop thread.
#ifndef HITLESS_HTTP_API_H
#define HITLESS_HTTP_API_H

#include "api.h"
#include "http.h"

struct http_api {
    const struct config *config;
    struct channel *channel;
    struct api *api;
};

// Adds the routes to `http`. `state` outlives it. 0 or a negative errno.
int http_api_add(struct http *http, struct http_api *state);

#endif
