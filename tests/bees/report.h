// The report of a run: one HTML page for somebody who was not there.
//
// Self-contained: inline CSS, SVG and script, nothing fetched; light and dark; narrow and wide.
// Written to a temporary file next to the target and renamed, so that there is a whole report or
// none. Everything that came from outside is escaped.
#ifndef HITLESS_BEES_REPORT_H
#define HITLESS_BEES_REPORT_H

#include "bees.h"
#include "search.h"
#include "timeline.h"
#include <stdio.h>

struct report_fact {
    const char *name, *value; // "impairment", "1 % loss"
};

struct report {
    const struct bees_result *result;
    const struct timeline *timeline; // NULL: no plots over time
    const struct search *search;     // NULL: no capacity search
    const char *figures_of; // of a search, if not of its best trial (else of its first); or NULL
    const char *load_unit;  // of the search: "sessions"
    double max_loss;        // of the search: what a load had to keep, a fraction
    double max_join_ms;     // the same: 99 % of joins within
    const char *command;    // as it was typed; NULL: left out
    const char *host;       // the load machine; NULL: left out
    int64_t began;          // CLOCK_REALTIME seconds
    const struct report_fact *facts; // more about the run
    unsigned fact_count;
};

// One sentence about the run: the page's headline, and good enough for the last line of a log.
void report_headline(const struct report *report, char *text, size_t size);

// Writes the page. 0 or a negative errno.
int report_write(const char *file, const struct report *report);
// The same to a stream. 0 or -EIO.
int report_print(FILE *out, const struct report *report);

#endif
