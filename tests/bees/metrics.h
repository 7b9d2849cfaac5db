// Prometheus text for a run that goes on: a tiny HTTP server in a thread of its own
// (libmicrohttpd).
//
// GET /metrics calls back for the text; anything else is 404. The callback runs in the server's
// thread, one call at a time.
#ifndef HITLESS_BEES_METRICS_H
#define HITLESS_BEES_METRICS_H

#include <stdint.h>
#include <stdio.h>

// Writes the metrics in Prometheus' text format.
typedef void (*metrics_fn)(FILE *out, void *opaque);

struct metrics;

// Serves on `address` (NULL: 127.0.0.1; an IPv4 or IPv6 address) and `port` (0: any). Returns 0 or
// a negative errno: -EADDRINUSE, -EADDRNOTAVAIL, -EACCES.
int metrics_start(struct metrics **metrics, const char *address, uint16_t port, metrics_fn fn,
                  void *opaque);
uint16_t metrics_port(const struct metrics *metrics);
// Ends the thread after the request in progress; NULL is fine.
void metrics_stop(struct metrics *metrics);

// Writes one family's HELP and TYPE lines; `type` is "counter" or "gauge".
void metrics_family(FILE *out, const char *name, const char *type, const char *help);
// Writes `value` as a label value's escaped text, without the quotes.
void metrics_label(FILE *out, const char *value);

#endif
