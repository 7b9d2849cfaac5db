// A look at a run each second; see run_sample.h.
#include "run_sample.h"
#include "metrics.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define SHORT_S 0.5

// What /metrics shows: a copy, because the server has a thread of its own.
static struct {
    pthread_mutex_t lock;
    struct metrics *server;
    struct bees_counters count;
    uint32_t open, failed, left;
    uint64_t join_p50_us, latency_p50_us;
} shown = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int sampler_init(struct sampler *s, const struct options *options, struct timeline *timeline,
                 const struct run_plan *plan, unsigned workers)
{
    *s = (struct sampler){.options = options,
                          .plan = plan,
                          .timeline = timeline,
                          .next_ns = SECOND,
                          .begin_cpu_us = cpu_us(),
                          .terminal = !options->json && isatty(STDERR_FILENO)};
    s->last_cpu_us = s->begin_cpu_us;
    s->gaps = options->json && options->stream && options->per_session ? json_array() : NULL;
    s->worker_cpu_ns = calloc(workers, sizeof(*s->worker_cpu_ns));
    s->worker_starved_ns = calloc(workers, sizeof(*s->worker_starved_ns));
    return s->worker_cpu_ns && s->worker_starved_ns ? 0 : -ENOMEM;
}

void sampler_settle(struct sampler *s, const struct bees_session *session)
{
    s->failed += session->failure != BEES_FAILURE_none;
    s->left += session->failure == BEES_FAILURE_none;
}

void sampler_gap(struct sampler *s, struct bees_session *session)
{
    if (s->gaps != NULL)
        json_array_append_new(s->gaps,
                              json_real((double)atomic_exchange(&session->recent_gap_ns, 0) / 1e6));
}

bool sampler_due(const struct sampler *s, uint64_t now_ns)
{
    return now_ns >= s->next_ns;
}

// Takes over the half of a pair of histograms that workers wrote into until now.
static void merge_half(struct hist *to, struct hist half[2], unsigned was)
{
    hist_merge(to, &half[was]);
    hist_clear(&half[was]);
}

static void show(const struct bees_counters *sum, uint32_t open, const struct sampler *s,
                 const struct timeline_sample *sample)
{
    pthread_mutex_lock(&shown.lock);
    shown.count = *sum;
    shown.open = open;
    shown.failed = s->failed;
    shown.left = s->left;
    shown.join_p50_us = sample->join_p50_us;
    shown.latency_p50_us = sample->latency_p50_us;
    pthread_mutex_unlock(&shown.lock);
}

static void print_line(const struct timeline_sample *t, const struct sampler *s)
{
    double mbits = (double)(t->bytes + t->sent_bytes) * 8 / 1e6 / t->length_s;
    fprintf(stderr,
            "\r%5.0f s  %" PRIu64 "/%u sessions  %u failed  %.0f pkt/s  %.1f Mbit/s  lost %" PRIu64
            "  recovered %" PRIu64 "  gap %.0f ms  CPU %.0f %%\033[K",
            t->at_s, t->sessions, s->plan->sessions, s->failed, (double)t->packets / t->length_s,
            mbits, t->lost, t->recovered, (double)t->gap_max_us / 1000,
            (double)t->cpu_us / 1e4 / t->length_s);
    fflush(stderr);
}

static void print_json(const struct timeline_sample *t, const struct sampler *s)
{
    json_t *o = json_pack(
        "{s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "type", "sample", "at_s",
        t->at_s, "sessions", (json_int_t)t->sessions, "failed", (json_int_t)s->failed, "packets",
        (json_int_t)t->packets, "bytes", (json_int_t)t->bytes, "lost", (json_int_t)t->lost,
        "recovered", (json_int_t)t->recovered, "max_gap_ms", (double)t->gap_max_us / 1000,
        "latency_p50_ms", (double)t->latency_p50_us / 1000, "cpu_s", (double)t->cpu_us / 1e6);
    if (o == NULL)
        return;
    if (s->gaps != NULL)
        json_object_set(o, "gaps_ms", s->gaps);
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    fflush(stdout);
    json_decref(o);
}

static double larger(double share, uint64_t ns, double length_s)
{
    double now = (double)ns / 1e9 / length_s;
    return now > share ? now : share;
}

// Shares of a core since the last look, and everything that workers hand over by halves.
static void look_at_workers(struct sampler *s, struct worker *workers, unsigned count,
                            double length_s, struct timeline_sample *sample)
{
    static struct hist latency, joined; // too large for the stack; main thread only
    hist_clear(&latency);
    hist_clear(&joined);
    for (unsigned i = 0; i < count; i++) {
        struct worker *w = &workers[i];
        unsigned was = atomic_fetch_xor(&w->half, 1) & 1;
        merge_half(&latency, w->latency, was);
        merge_half(&joined, w->joined, was);
        uint64_t gap = atomic_exchange(&w->gap_max_ns, 0) / 1000, cpu = w->cpu_ns;
        sample->gap_max_us = gap > sample->gap_max_us ? gap : sample->gap_max_us;
        sample->sessions += w->open;
        uint64_t starved = w->starved_ns;
        if (length_s >= SHORT_S) { // a short last look would exaggerate
            s->busiest = larger(s->busiest, cpu - s->worker_cpu_ns[i], length_s);
            s->starved = larger(s->starved, starved - s->worker_starved_ns[i], length_s);
        }
        s->worker_cpu_ns[i] = cpu;
        s->worker_starved_ns[i] = starved;
    }
    sample->latency_p50_us = hist_percentile(&latency, 50);
    sample->latency_p99_us = hist_percentile(&latency, 99);
    sample->join_p50_us = hist_percentile(&joined, 50);
    sample->join_max_us = joined.max;
    sample->joins = joined.count;
}

static void mark_gap(struct sampler *s, const struct timeline_sample *sample)
{
    char text[TIMELINE_NOTE];
    snprintf(text, sizeof(text), "media away for %.0f ms", (double)sample->gap_max_us / 1000);
    timeline_mark(s->timeline, sample->at_s, text);
}

void sampler_look(struct sampler *s, struct worker *workers, unsigned count,
                  const struct bees_counters *sum, uint64_t now_ns)
{
    double length_s = (double)(now_ns - s->last_ns) / 1e9;
    uint64_t cpu = cpu_us();
    struct timeline_sample sample = {.at_s = (double)now_ns / 1e9,
                                     .length_s = length_s,
                                     .leaves = s->left - s->last_left,
                                     .failures = s->failed - s->last_failed,
                                     .packets = sum->packets - s->last.packets,
                                     .bytes = sum->bytes - s->last.bytes,
                                     .sent_bytes = sum->sent_bytes - s->last.sent_bytes,
                                     .missing = sum->missing - s->last.missing,
                                     .nacks = sum->nacks - s->last.nacks,
                                     .recovered = sum->recovered - s->last.recovered,
                                     .freezes = sum->freezes - s->last.freezes,
                                     .cpu_us = cpu - s->last_cpu_us};
    if (length_s <= 0)
        return;
    // Loss can be taken back when a packet comes after it was given up.
    sample.lost = sum->lost > s->last.lost ? sum->lost - s->last.lost : 0;
    look_at_workers(s, workers, count, length_s, &sample);
    s->joins += (uint32_t)sample.joins;
    s->last = *sum;
    s->last_cpu_us = cpu;
    s->last_failed = s->failed;
    s->last_left = s->left;
    s->last_ns = now_ns;
    s->next_ns = now_ns - now_ns % SECOND + SECOND;
    if (s->timeline != NULL) // rates of a short last interval would be noise
        (length_s < SHORT_S ? timeline_extend : timeline_add)(s->timeline, &sample);
    if (s->timeline != NULL && s->plan->mode == MODE_WATCH &&
        (double)sample.gap_max_us >= s->options->away_ms * 1000)
        mark_gap(s, &sample);
    show(sum, (uint32_t)sample.sessions, s, &sample);
    if (s->options->json && s->options->stream && length_s >= SHORT_S)
        print_json(&sample, s);
    json_array_clear(s->gaps);
    if (s->terminal)
        print_line(&sample, s);
}

void sampler_end(struct sampler *s, struct bees_result *result, uint64_t now_ns)
{
    if (s->terminal)
        fputc('\n', stderr);
    result->duration_s = (double)now_ns / 1e9;
    result->cpu_s = (double)(cpu_us() - s->begin_cpu_us) / 1e6;
    result->busiest_worker = s->busiest;
    result->starved_worker = s->starved;
    json_decref(s->gaps);
    free(s->worker_cpu_ns);
    free(s->worker_starved_ns);
    s->worker_cpu_ns = s->worker_starved_ns = NULL;
}

static void print_metrics(FILE *out, void *opaque)
{
    pthread_mutex_lock(&shown.lock);
    metrics_family(out, "bees_sessions", "gauge", "sessions connected");
    fprintf(out, "bees_sessions %u\n", shown.open);
    metrics_family(out, "bees_sessions_failed_total", "counter", "sessions that failed");
    fprintf(out, "bees_sessions_failed_total %u\n", shown.failed);
    metrics_family(out, "bees_sessions_left_total", "counter", "sessions that left on purpose");
    fprintf(out, "bees_sessions_left_total %u\n", shown.left);
    metrics_family(out, "bees_join_p50_seconds", "gauge", "median time to join, last second");
    fprintf(out, "bees_join_p50_seconds %g\n", (double)shown.join_p50_us / 1e6);
    metrics_family(out, "bees_latency_p50_seconds", "gauge", "median one-way latency, last second");
    fprintf(out, "bees_latency_p50_seconds %g\n", (double)shown.latency_p50_us / 1e6);
#define X(name, help)                                                                              \
    metrics_family(out, "bees_" #name "_total", "counter", help);                                  \
    fprintf(out, "bees_" #name "_total %" PRIu64 "\n", shown.count.name);
    BEES_COUNTERS(X)
#undef X
    pthread_mutex_unlock(&shown.lock);
}

int run_serve_metrics(const struct options *options)
{
    if (options->metrics_port == 0)
        return 0;
    return metrics_start(&shown.server, options->metrics_address, (uint16_t)options->metrics_port,
                         print_metrics, NULL);
}

void run_stop_metrics(void)
{
    metrics_stop(shown.server);
    shown.server = NULL;
}
