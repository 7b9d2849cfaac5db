// Parts of the report's page that stand in files of their own.
#ifndef HITLESS_BEES_REPORT_PAGE_H
#define HITLESS_BEES_REPORT_PAGE_H

#include "report_text.h"

extern const char report_css[], report_js[]; // neither holds "</"

// report_tables.c
void report_tiles(FILE *out, const struct report *report);
void report_steps(FILE *out, const struct bees_result *result);
void report_failures(FILE *out, const struct bees_result *result);
void report_sessions(FILE *out, const struct bees_result *result);
void report_counters(FILE *out, const struct bees_result *result);
void report_run(FILE *out, const struct report *report);
// report_time.c
void report_time(FILE *out, const struct timeline *timeline, bool publishing);

bool report_publishes(const struct bees_result *result);
bool report_watches(const struct bees_result *result); // watch-failover

#endif
