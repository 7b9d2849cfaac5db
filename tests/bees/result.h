// What a run ends with: a JSON object, or a few lines for people; and the verdict.
#ifndef HITLESS_BEES_RESULT_H
#define HITLESS_BEES_RESULT_H

#include "bees.h"
#include "options.h"
#include "search.h"
#include <stdio.h>

// Lost packets as a fraction of those that should have come.
double result_loss(const struct bees_result *result);

// The exit status: 0 it did what was asked and is in bounds, 1 not, 3 an index was used twice, 130
// interrupted.
int result_status(const struct bees_result *result, const struct options *options);

// One line with one object. `search` NULL: no capacity search.
void result_json(const struct bees_result *result, const struct options *options,
                 const struct search *search, FILE *out);
void result_text(const struct bees_result *result, const struct options *options,
                 const struct search *search, FILE *out);

#endif
