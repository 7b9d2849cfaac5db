#include "search.h"
#include <errno.h>

#define NEAR 4 // widths from a load that passed: what fails there is tried again

int search_init(struct search *search, const struct search_config *config)
{
    *search = (struct search){.config = *config};
    struct search_config *own = &search->config;
    own->min = own->min ? own->min : 1;
    own->max = own->max ? own->max : 1000000000;
    own->start = own->start ? own->start : own->min;
    own->width = own->width != 0 ? own->width : 0.05;
    own->short_s = own->short_s != 0 ? own->short_s : 5;
    own->long_s = own->long_s != 0 ? own->long_s : 20;
    own->fails = own->fails ? own->fails : 2;
    own->max_trials = own->max_trials ? own->max_trials : SEARCH_TRIALS;
    if (own->min > own->max || own->start < own->min || own->start > own->max ||
        !(own->width > 0 && own->width < 10) || !(own->short_s > 0 && own->long_s > 0) ||
        own->max_trials > SEARCH_TRIALS)
        return -EINVAL;
    return 0;
}

// Whether two loads are as close as `widths` times what is asked for.
static bool are_close(const struct search *search, uint64_t low, uint64_t high, unsigned widths)
{
    return high <= low + 1 || (double)high <= (double)low * (1 + search->config.width * widths);
}

static enum search_reason reason_of(const struct search *search)
{
    if (search->high_limited)
        return SEARCH_GENERATOR_LIMIT;
    return search->low == 0 ? SEARCH_MINIMUM_FAILS : SEARCH_FOUND;
}

static void give(struct search_trial *trial, uint64_t load, bool full)
{
    trial->load = load;
    trial->full = full;
}

// Earlier trials of the load: those of full length that did not pass.
static unsigned full_fails(const struct search *search, uint64_t load)
{
    unsigned fails = 0;
    for (unsigned i = 0; i < search->result.trials; i++) {
        const struct search_trial *trial = &search->trial[i];
        fails += trial->load == load && trial->full && trial->verdict != SEARCH_PASS;
    }
    return fails;
}

// Both bounds are known: narrow them, then make sure of each.
static enum search_reason narrow(const struct search *search, struct search_trial *trial)
{
    if (!are_close(search, search->low, search->high, 1))
        give(trial, search->low + (search->high - search->low) / 2, true);
    else if (search->result.best < search->low)
        give(trial, search->low, true);
    else if (full_fails(search, search->high) < search->config.fails)
        give(trial, search->high, true);
    else
        return reason_of(search);
    return SEARCH_RUNNING;
}

// What to try next, or why there is nothing more to try.
static enum search_reason decide(const struct search *search, struct search_trial *trial)
{
    const struct search_config *config = &search->config;
    if (search->low && search->high)
        return narrow(search, trial);
    if (!search->low && !search->high)
        give(trial, config->start, false);
    else if (!search->low && search->high > config->min)
        give(trial, search->high / 2 > config->min ? search->high / 2 : config->min, false);
    else if (!search->low && full_fails(search, search->high) < config->fails)
        give(trial, search->high, true);
    else if (!search->low)
        return reason_of(search);
    else if (search->low < config->max)
        give(trial, search->low > config->max / 2 ? config->max : search->low * 2, false);
    else if (search->result.best < config->max)
        give(trial, config->max, true);
    else
        return SEARCH_MAXIMUM_PASSES;
    return SEARCH_RUNNING;
}

bool search_next(struct search *search, struct search_trial *trial)
{
    struct search_result *result = &search->result;
    if (result->reason == SEARCH_RUNNING && !search->waiting) {
        if (result->trials >= search->config.max_trials) {
            result->reason = SEARCH_TOO_MANY_TRIALS;
            return false;
        }
        struct search_trial *next = &search->trial[result->trials];
        *next = (struct search_trial){.attempt = 1};
        result->reason = decide(search, next);
        if (result->reason != SEARCH_RUNNING)
            return false;
        for (unsigned i = 0; i < result->trials; i++)
            if (search->trial[i].load == next->load && search->trial[i].full == next->full)
                next->attempt++;
        next->duration_s = next->full ? search->config.long_s : search->config.short_s;
        search->waiting = true;
    }
    if (result->reason != SEARCH_RUNNING)
        return false;
    *trial = search->trial[result->trials];
    return true;
}

// The largest load below `below` that passed, in a full trial only if `full`.
static uint64_t largest_pass(const struct search *search, uint64_t below, bool full)
{
    uint64_t load = 0;
    for (unsigned i = 0; i < search->result.trials; i++) {
        const struct search_trial *trial = &search->trial[i];
        if (trial->verdict == SEARCH_PASS && (trial->full || !full) && trial->load < below &&
            trial->load > load)
            load = trial->load;
    }
    return load;
}

static void passed(struct search *search, const struct search_trial *trial)
{
    if (trial->load > search->low)
        search->low = trial->load;
    if (trial->full && trial->load > search->result.best)
        search->result.best = trial->load;
    if (search->high && search->high <= trial->load) { // what failed there was a hiccup
        search->high = 0;
        search->result.failing = search->result.limited = 0;
    }
}

static void failed(struct search *search, const struct search_trial *trial)
{
    struct search_result *result = &search->result;
    bool near = search->low == 0 || trial->load <= search->low ||
                are_close(search, search->low, trial->load, NEAR);
    if (trial->full && near && full_fails(search, trial->load) < search->config.fails)
        return; // decide() comes to the same trial again
    search->high = trial->load;
    search->high_limited = trial->verdict == SEARCH_LIMITED;
    if (search->high_limited)
        result->limited = trial->load;
    else
        result->failing = trial->load;
    if (trial->load <= search->low)
        search->low = largest_pass(search, trial->load, false);
    if (trial->load <= result->best)
        result->best = largest_pass(search, trial->load, true);
}

void search_report(struct search *search, enum search_verdict verdict)
{
    if (!search->waiting || search->result.reason != SEARCH_RUNNING)
        return;
    struct search_trial *trial = &search->trial[search->result.trials++];
    search->waiting = false;
    trial->verdict = verdict;
    if (verdict == SEARCH_PASS)
        passed(search, trial);
    else
        failed(search, trial);
}

void search_stop(struct search *search)
{
    if (search->result.reason == SEARCH_RUNNING)
        search->result.reason = SEARCH_STOPPED;
    search->waiting = false;
}

const char *search_verdict_name(enum search_verdict verdict)
{
    static const char *const name[] = {
        [SEARCH_PASS] = "pass", [SEARCH_FAIL] = "fail", [SEARCH_LIMITED] = "generator-limited"};
    return name[verdict];
}

const char *search_reason_text(enum search_reason reason)
{
    static const char *const text[] = {
        [SEARCH_RUNNING] = "the search goes on",
        [SEARCH_FOUND] = "the bounds are as close as was asked for",
        [SEARCH_MAXIMUM_PASSES] = "the largest load that may be tried passes",
        [SEARCH_MINIMUM_FAILS] = "even the smallest load that may be tried fails",
        [SEARCH_GENERATOR_LIMIT] = "beyond it the load generator was the limit, not the server",
        [SEARCH_TOO_MANY_TRIALS] = "too many trials",
        [SEARCH_STOPPED] = "the search was stopped"};
    return text[reason];
}
