// What a run ends with; see result.h. The JSON's first fields are the ones that contracts name.
#include "result.h"
#include "capacity.h"
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#define SESSIONS_TOLD 100 // sessions of watch-failover listed one by one, unless all are asked for

double result_loss(const struct bees_result *r)
{
    uint64_t expected = r->count.packets + r->count.lost;
    return expected ? (double)r->count.lost / (double)expected : 0;
}

int result_status(const struct bees_result *r, const struct options *o)
{
    if (r->count.index_reuse > 0)
        return 3;
    if (r->interrupted)
        return 130;
    bool late = o->max_join_ms > 0 &&
                (double)hist_percentile(&r->hist[BEES_DIST_join], 99) > o->max_join_ms * 1000;
    bool lossy = o->max_loss >= 0 && result_loss(r) > o->max_loss;
    bool short_of = r->sessions < r->wanted;
    return r->failed > 0 || r->sessions == 0 || short_of || late || lossy ? 1 : 0;
}

static json_t *ms(const struct hist *hist, bool tails)
{
    json_t *o = json_pack("{s:f, s:f}", "p50", (double)hist_percentile(hist, 50) / 1000, "p99",
                          (double)hist_percentile(hist, 99) / 1000);
    if (tails && o != NULL) {
        json_object_set_new(o, "p999", json_real((double)hist_percentile(hist, 99.9) / 1000));
        json_object_set_new(o, "max", json_real((double)hist->max / 1000));
        json_object_set_new(o, "count", json_integer((json_int_t)hist->count));
    }
    return o;
}

static void set_count(json_t *o, const char *name, uint64_t value)
{
    json_object_set_new(o, name, json_integer((json_int_t)value));
}

static json_t *failures(const struct bees_result *r)
{
    json_t *o = json_object();
    for (int f = BEES_FAILURE_none + 1; f < BEES_FAILURE_COUNT; f++)
        if (r->failures[f])
            set_count(o, bees_failure_name(f), r->failures[f]);
    return o;
}

// Bits per second of media from the first packet (of a publisher: from the keys) to the end.
static double bit_rate(const struct bees_session *s)
{
    uint64_t since_ns = s->step_ns[s->role == BEES_WHEP ? BEES_STEP_packet : BEES_STEP_dtls];
    uint64_t length_ns = s->end_ns - s->begin_ns;
    if (since_ns == 0 || length_ns <= since_ns)
        return 0;
    return (double)(s->count.bytes + s->count.sent_bytes) * 8e9 / (double)(length_ns - since_ns);
}

static json_t *one_session(const struct bees_session *s)
{
    json_t *o = json_pack(
        "{s:i, s:i, s:s, s:b, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:b}", "session",
        (int)s->number, "stream", (int)s->stream, "failure", bees_failure_name(s->failure),
        "connected", s->connected, "begin_s", (double)s->begin_ns / 1e9, "end_s",
        (double)s->end_ns / 1e9, "bits_per_s", bit_rate(s), "gaps", (int)s->gaps, "away_ms",
        (double)s->away_ns / 1e6, "max_gap_ms", (double)s->max_gap_ns / 1e6, "max_gap_at_s",
        (double)s->max_gap_at_ns / 1e9, "jitter_ms", s->jitter_us / 1e3, "rtt_ms", s->rtt_us / 1e3,
        "renegotiated", s->count.handshakes > 1 || s->count.new_ssrcs > 0);
    for (int step = 0; step < BEES_STEP_COUNT; step++) {
        char name[32];
        snprintf(name, sizeof(name), "%s_ms", bees_step_name(step));
        if (s->step_ns[step])
            json_object_set_new(o, name, json_real((double)s->step_ns[step] / 1e6));
    }
#define X(name, help) set_count(o, #name, s->count.name);
    BEES_COUNTERS(X)
#undef X
    json_t *paths = json_array();
    for (int p = 0; p < s->paths; p++)
        json_array_append_new(paths, json_string(s->path[p]));
    json_object_set_new(o, "paths", paths);
    set_count(o, "refusals", s->refusals);
    return o;
}

static json_t *each_session(const struct bees_result *r, uint32_t limit)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->sessions && i < limit; i++)
        json_array_append_new(list, one_session(&r->session[i]));
    return list;
}

static json_t *found(const struct search *search, const struct options *options)
{
    const struct search_result *r = &search->result;
    json_t *trials = json_array();
    for (unsigned i = 0; i < search->result.trials; i++) {
        const struct search_trial *t = &search->trial[i];
        json_array_append_new(trials, json_pack("{s:I, s:f, s:s}", "load", (json_int_t)t->load,
                                                "duration_s", t->duration_s, "verdict",
                                                search_verdict_name(t->verdict)));
    }
    return json_pack("{s:s, s:f, s:f, s:I, s:I, s:I, s:s, s:s, s:o}", "unit",
                     options->by_rate ? "joins_per_s" : "sessions", "max_loss",
                     capacity_max_loss(options), "max_join_ms", capacity_max_join_ms(options),
                     "capacity", (json_int_t)r->best, "failing", (json_int_t)r->failing,
                     "generator_limit", (json_int_t)r->limited, "limited_by",
                     r->failing                            ? "server"
                     : r->reason == SEARCH_GENERATOR_LIMIT ? "load_tester"
                                                           : "nothing",
                     "reason", search_reason_text(r->reason), "trials", trials);
}

// Each session's largest gap; of the largest of all also the moment and the session.
static json_t *largest_gap(const struct bees_result *r)
{
    const struct hist *gap = &r->hist[BEES_DIST_max_gap];
    const struct bees_session *worst = NULL;
    for (uint32_t i = 0; i < r->sessions; i++)
        if (worst == NULL || r->session[i].max_gap_ns > worst->max_gap_ns)
            worst = &r->session[i];
    json_t *o = ms(gap, false);
    json_object_set_new(o, "max", json_real((double)gap->max / 1000));
    if (worst != NULL && worst->max_gap_ns > 0) {
        json_object_set_new(o, "at_s", json_real((double)worst->max_gap_at_ns / 1e9));
        set_count(o, "session", worst->number);
    }
    return o;
}

void result_json(const struct bees_result *r, const struct options *options,
                 const struct search *search, FILE *out)
{
    json_t *o = json_object();
    set_count(o, "sessions", r->sessions);
    set_count(o, "connected", r->connected);
    set_count(o, "failed", r->failed);
    json_object_set_new(o, "join_ms", ms(&r->hist[BEES_DIST_join], false));
    set_count(o, "packets", r->count.packets);
    set_count(o, "lost", r->count.lost);
    set_count(o, "duplicates", r->count.duplicates);
    set_count(o, "nacks", r->count.nacks);
    set_count(o, "recovered", r->count.recovered);
    json_object_set_new(o, "max_gap_ms", largest_gap(r));
    set_count(o, "bytes", r->count.bytes);
    json_object_set_new(o, "duration_s", json_real(r->duration_s));

    json_object_set_new(o, "protocol", json_string(r->protocol));
    json_object_set_new(o, "mode", json_string(r->mode));
    json_object_set_new(o, "loss", json_real(result_loss(r)));
    double bits = (double)(r->count.bytes + r->count.sent_bytes) * 8;
    json_object_set_new(o, "bits_per_s", json_real(r->duration_s > 0 ? bits / r->duration_s : 0));
    json_object_set_new(o, "failures", failures(r));
    json_object_set_new(o, "ended_in_order", json_boolean(!r->interrupted));
    json_object_set_new(o, "headers_only", json_boolean(r->headers_only));
    set_count(o, "workers", r->workers);
    json_object_set_new(o, "cpu_s", json_real(r->cpu_s));
    json_object_set_new(o, "busiest_worker", json_real(r->busiest_worker));
    json_object_set_new(o, "starved_worker", json_real(r->starved_worker));
    set_count(o, "refusals", r->refusals);
    set_count(o, "refused_and_retried", r->refused_and_retried);
    set_count(o, "deletes", r->deletes);
    set_count(o, "deletes_failed", r->deletes_failed);
    for (int d = BEES_DIST_post; d < BEES_DIST_COUNT; d++) {
        char name[64];
        if (d == BEES_DIST_max_gap || r->hist[d].count == 0)
            continue;
        snprintf(name, sizeof(name), "%s_ms", bees_distribution_name(d));
        json_object_set_new(o, name, ms(&r->hist[d], true));
    }
#define X(name, help)                                                                              \
    if (json_object_get(o, #name) == NULL)                                                         \
        set_count(o, #name, r->count.name);
    BEES_COUNTERS(X)
#undef X
    if (options->per_session || options->mode == MODE_WATCH)
        json_object_set_new(
            o, "per_session",
            each_session(r, options->per_session ? OPTIONS_SESSIONS_MAX : SESSIONS_TOLD));
    if (search != NULL)
        json_object_set_new(o, "search", found(search, options));
    json_dumpf(o, out, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', out);
    fflush(out);
    json_decref(o);
}

static void print_ms(const struct bees_result *r, enum bees_distribution d, FILE *out)
{
    const struct hist *hist = &r->hist[d];
    if (hist->count == 0)
        return;
    fprintf(out, "  %-44s p50 %9.2f  p99 %9.2f  max %9.2f ms\n", bees_distribution_label(d),
            (double)hist_percentile(hist, 50) / 1000, (double)hist_percentile(hist, 99) / 1000,
            (double)hist->max / 1000);
}

static void print_search(const struct search *search, const struct options *o, FILE *out)
{
    const struct search_result *r = &search->result;
    const char *unit = o->by_rate ? "joins/s" : "sessions";
    if (r->best && r->failing)
        fprintf(out,
                "capacity: between %" PRIu64 " %s, which passed, and %" PRIu64 ", which failed",
                r->best, unit, r->failing);
    else if (r->best)
        fprintf(out, "capacity: at least %" PRIu64 " %s", r->best, unit);
    else
        fprintf(out, "capacity: none of the loads tried passed");
    if (r->limited)
        fprintf(out, "; at %" PRIu64 " this load tester was the limit", r->limited);
    fprintf(out, " (loss up to %g %%, 99 %% of joins within %g ms; %u trials: %s)\n",
            capacity_max_loss(o) * 100, capacity_max_join_ms(o), r->trials,
            search_reason_text(r->reason));
}

void result_text(const struct bees_result *r, const struct options *o, const struct search *search,
                 FILE *out)
{
    fprintf(out, "%s: %u of %u sessions connected, %u failed, %.1f s\n", r->mode, r->connected,
            r->sessions, r->failed, r->duration_s);
    for (int f = BEES_FAILURE_none + 1; f < BEES_FAILURE_COUNT; f++)
        if (r->failures[f])
            fprintf(out, "  %u %s: %s\n", r->failures[f], bees_failure_name(f),
                    bees_failure_help(f));
    if (r->refusals)
        fprintf(out, "  %u came again after being refused, %u times in sum\n",
                r->refused_and_retried, r->refusals);
    for (int d = 0; d < BEES_DIST_COUNT; d++)
        print_ms(r, d, out);
#define X(name, help)                                                                              \
    if (r->count.name)                                                                             \
        fprintf(out, "  %14" PRIu64 " %s\n", r->count.name, help);
    BEES_COUNTERS(X)
#undef X
    fprintf(
        out,
        "  loss %.4f %%, CPU %.2f s; busiest worker: %.0f %% of a core, waited for one %.0f %%\n",
        result_loss(r) * 100, r->cpu_s, r->busiest_worker * 100, r->starved_worker * 100);
    if (r->count.index_reuse)
        fprintf(out, "  AN SRTP INDEX PROTECTED TWO DIFFERENT PACKETS: keystream was used twice\n");
    for (uint32_t i = 0; o->mode == MODE_WATCH && i < r->sessions && i < SESSIONS_TOLD; i++) {
        const struct bees_session *s = &r->session[i];
        fprintf(out, "  session %u: away %.1f ms in %u gaps, %s, media from", s->number,
                (double)s->away_ns / 1e6, s->gaps,
                s->count.new_ssrcs || s->count.handshakes > 1 ? "RENEGOTIATED"
                                                              : "nothing renegotiated");
        for (int p = 0; p < s->paths; p++)
            fprintf(out, " %s", s->path[p]);
        fputc('\n', out);
    }
    if (search != NULL)
        print_search(search, o, out);
}
