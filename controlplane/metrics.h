// The node's statistics in Prometheus' text format 0.0.4. Names begin with hitless_; counters of
// stats.h keep the names and help of their lists there.
//
// Runs on the control plane's loop; never blocks.
#ifndef HITLESS_METRICS_H
#define HITLESS_METRICS_H

#include "api.h"
#include <stddef.h>
#include <stdint.h>

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define METRICS_STREAMS_MAX 1000 // streams with series of their own; the rest is in the sums

// Writes everything to a buffer of the caller's to free. 0 or -ENOMEM.
int metrics_write(struct api *api, uint64_t now_ns, char **text, size_t *size);

#endif
