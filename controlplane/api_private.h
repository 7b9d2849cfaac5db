// Between api.c, api_node.c and api_sessions.c: the samples and small helpers.
#ifndef HITLESS_API_PRIVATE_H
#define HITLESS_API_PRIVATE_H

#include "api.h"
#include <stdbool.h>

struct sample {
    uint64_t at_ns;
    uint64_t count[ABI_MAX_WORKERS][COUNTS];
    uint64_t drop[ABI_MAX_WORKERS][DROPS];
    uint64_t stage[ABI_MAX_WORKERS][STAGES];
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes; // of the port
};

struct api {
    struct channel *channel;
    struct sessions *sessions;
    uint64_t started_ns;
    struct api_pair pair;
    struct sample before, last;
};

static inline uint32_t api_worker_count(const struct api *api)
{
    return channel_config(api->channel)->workers;
}

static inline json_t *api_number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

// Milliseconds; 0 for "never" and for what lies ahead.
static inline uint64_t api_age_ms(uint64_t then_ns, uint64_t now_ns)
{
    return then_ns == 0 || now_ns < then_ns ? 0 : (now_ns - then_ns) / 1000000;
}

// Whole seconds since a time of the wall clock in ms; 0 for what lies ahead.
uint64_t api_seconds_since(uint64_t then_ms);

// A string of the channel file: bounded, and anything but printable ASCII replaced.
json_t *api_file_text(const char *text, size_t size);

// Of two counters of api->before and api->last; per second. A counter that went back belongs to a
// dataplane that began again: 0.
uint64_t api_rate(const struct api *api, uint64_t before, uint64_t last);
uint64_t api_count_rate(const struct api *api, uint32_t worker, enum count count);

// {"KEY":[…]}; takes `list`.
json_t *api_listed(const char *key, json_t *list);
// Sorts in place by `compare`, which gets two json_t *const *.
void api_sort(json_t *list, int (*compare)(const void *, const void *));
const char *api_text_of(json_t *const *item, const char *key);
json_int_t api_number_of(json_t *const *item, const char *key);

const char *api_peer_name(enum channel_peer peer);

#endif
