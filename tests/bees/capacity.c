// The largest load that a server carries; see capacity.h.
#include "capacity.h"
#include "result.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY 0.92            // of a core: a worker beyond is the limit itself
#define STARVED 0.25         // of the time: so is one that waited for a core for so long
#define DEFAULT_LOSS 0.001   // 0.1 %
#define DEFAULT_JOIN_MS 2000 // 99th percentile
#define JOIN_RATE_MAX 500    // sessions begun each second while a trial loads up

double capacity_max_loss(const struct options *o)
{
    return o->max_loss >= 0 ? o->max_loss : DEFAULT_LOSS;
}

double capacity_max_join_ms(const struct options *o)
{
    return o->max_join_ms > 0 ? o->max_join_ms : DEFAULT_JOIN_MS;
}

enum search_verdict capacity_judge(const struct bees_result *r, const struct options *o)
{
    uint32_t ours = r->failures[BEES_FAILURE_fd_limit] + r->failures[BEES_FAILURE_port_exhaustion] +
                    r->failures[BEES_FAILURE_out_of_memory];
    bool bad =
        r->failed > 0 || r->sessions == 0 || result_loss(r) > capacity_max_loss(o) ||
        (double)hist_percentile(&r->hist[BEES_DIST_join], 99) > capacity_max_join_ms(o) * 1000;
    // Publishing: what left late, or not at all, was not the load that was asked for.
    bool late = r->count.sent_packets > 0 &&
                (double)r->count.late_sends > (double)r->count.sent_packets * 0.01;
    if (ours > 0 || late ||
        (bad &&
         (r->busiest_worker > BUSY || r->starved_worker > STARVED || r->count.socket_drops > 0)))
        return SEARCH_LIMITED;
    return bad ? SEARCH_FAIL : SEARCH_PASS;
}

static struct run_plan plan_of(const struct options *o, const struct search_trial *trial)
{
    if (o->by_rate)
        return (struct run_plan){.mode = MODE_CHURN,
                                 .sessions = RUN_SESSIONS_MAX,
                                 .rate = (double)trial->load,
                                 .duration_s = trial->duration_s + RUN_CHURN_LAST_S,
                                 .stay_s = o->stay};
    double rate = o->rate;
    if (rate < (double)trial->load / 10)
        rate = (double)trial->load / 10 < JOIN_RATE_MAX ? (double)trial->load / 10 : JOIN_RATE_MAX;
    return (struct run_plan){.mode = MODE_STEADY,
                             .sessions = (uint32_t)trial->load,
                             .rate = rate,
                             .hold_s = trial->duration_s,
                             .limit_s = (double)trial->load / rate + o->join_s + trial->duration_s};
}

static void append(struct timeline *all, const struct timeline *one, double offset_s)
{
    for (unsigned i = 0; i < one->count; i++) {
        struct timeline_sample sample = one->sample[i];
        sample.at_s += offset_s;
        timeline_add(all, &sample);
    }
}

static void tell(const struct options *o, const struct search_trial *trial,
                 const struct bees_result *r, enum search_verdict verdict)
{
    if (o->json)
        return;
    fprintf(stderr,
            "  %6llu %s: %s (%u failed, loss %.4f %%, join p99 %.0f ms, busiest worker %.0f %%)\n",
            (unsigned long long)trial->load, o->by_rate ? "joins/s" : "sessions",
            search_verdict_name(verdict), r->failed, result_loss(r) * 100,
            (double)hist_percentile(&r->hist[BEES_DIST_join], 99) / 1000, r->busiest_worker * 100);
}

static enum bees_failure most_frequent(const struct bees_result *r)
{
    int most = BEES_FAILURE_none;
    for (int f = BEES_FAILURE_none + 1; f < BEES_FAILURE_COUNT; f++)
        if (r->failures[f] > r->failures[most])
            most = f;
    return (enum bees_failure)most;
}

int capacity_search(const struct run_environment *environment, struct search *search,
                    struct bees_result *result, struct timeline *timeline)
{
    const struct options *o = environment->options;
    struct search_config config = {.min = o->min_load,
                                   .max = o->max_load,
                                   .start = o->min_load,
                                   .width = o->width,
                                   .short_s = o->trial_s / 2,
                                   .long_s = o->trial_s};
    struct search_trial trial;
    uint64_t best = 0;
    double offset_s = 0;
    struct timeline *one = calloc(1, sizeof(*one));
    struct bees_result *r = calloc(1, sizeof(*r));
    int rc = one && r ? search_init(search, &config) : -ENOMEM;
    bool first = true;
    while (rc == 0 && search_next(search, &trial)) {
        char note[TIMELINE_NOTE];
        struct run_plan plan = plan_of(o, &trial);
        memset(one, 0, sizeof(*one));
        rc = run_execute(environment, &plan, r, one);
        enum search_verdict verdict = capacity_judge(r, o);
        bool gone = rc == 0 && r->connected == 0 && verdict == SEARCH_FAIL;
        if (rc != 0 || run_interrupted() || gone)
            search_stop(search);
        else
            search_report(search, verdict);
        if (gone) // not a matter of load
            fprintf(stderr, "hitless-bees: not one of %u sessions connected: %s\n", r->sessions,
                    bees_failure_help(most_frequent(r)));
        tell(o, &trial, r, verdict);
        append(timeline, one, offset_s);
        snprintf(note, sizeof(note), "%llu: %s", (unsigned long long)trial.load,
                 search_verdict_name(verdict));
        offset_s += r->duration_s;
        timeline_mark(timeline, offset_s, note);
        bool better = first || (verdict == SEARCH_PASS && trial.load >= best);
        best = verdict == SEARCH_PASS && trial.load > best ? trial.load : best;
        if (better) {
            run_free_result(result);
            *result = *r;
        } else {
            run_free_result(r);
        }
        first = false;
        if (result->count.index_reuse == 0)
            result->count.index_reuse = r->count.index_reuse;
    }
    free(one);
    free(r);
    return rc;
}
