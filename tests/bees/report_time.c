// The report's plots over time, from the timeline.
#include "report_page.h"
#include "report_plot.h"
#include <math.h>
#include <string.h>

struct columns {
    const struct timeline *timeline;
    double x[TIMELINE_MAX];
    double y[PLOT_SERIES][TIMELINE_MAX];
    double x_max;
};

// What a plot shows of one sample; NaN: nothing.
typedef double (*value_fn)(const struct timeline_sample *sample);

static double per_second(uint64_t value, const struct timeline_sample *sample)
{
    return sample->length_s > 0 ? (double)value / sample->length_s : NAN;
}

static double sessions(const struct timeline_sample *sample)
{
    return (double)sample->sessions;
}

static double joins(const struct timeline_sample *sample)
{
    return per_second(sample->joins, sample);
}

static double leaves(const struct timeline_sample *sample)
{
    return per_second(sample->leaves, sample);
}

static double failures(const struct timeline_sample *sample)
{
    return per_second(sample->failures, sample);
}

static double received(const struct timeline_sample *sample)
{
    return per_second(sample->bytes * 8, sample);
}

static double sent(const struct timeline_sample *sample)
{
    return per_second(sample->sent_bytes * 8, sample);
}

static double share(uint64_t part, const struct timeline_sample *sample)
{
    uint64_t all = sample->packets + part;
    return all > 0 ? (double)part / (double)all : NAN;
}

static double missing(const struct timeline_sample *sample)
{
    return share(sample->missing, sample);
}

static double lost(const struct timeline_sample *sample)
{
    return share(sample->lost, sample);
}

static double gap(const struct timeline_sample *sample)
{
    return sample->gap_max_us ? (double)sample->gap_max_us : NAN;
}

static double latency_p50(const struct timeline_sample *sample)
{
    return sample->latency_p50_us ? (double)sample->latency_p50_us : NAN;
}

static double latency_p99(const struct timeline_sample *sample)
{
    return sample->latency_p99_us ? (double)sample->latency_p99_us : NAN;
}

static double join_p50(const struct timeline_sample *sample)
{
    return sample->join_p50_us ? (double)sample->join_p50_us : NAN;
}

static double join_max(const struct timeline_sample *sample)
{
    return sample->join_max_us ? (double)sample->join_max_us : NAN;
}

static double freezes(const struct timeline_sample *sample)
{
    return per_second(sample->freezes, sample);
}

static double cores(const struct timeline_sample *sample)
{
    return per_second(sample->cpu_us, sample) / 1e6;
}

static const struct row {
    const char *title, *caption;
    enum unit unit;
    double y_min_top;
    bool bars;
    enum { ALWAYS, VIEWING, PUBLISHING } when;
    bool if_any; // left out where everything is 0 or unknown
    struct {
        const char *label;
        value_fn value;
    } series[PLOT_SERIES];
} rows[] = {
    {"Sessions connected",
     "How many were up at the end of each interval.",
     UNIT_COUNT,
     1,
     false,
     ALWAYS,
     false,
     {{"connected", sessions}}},
    {"Bit rate received",
     "All viewers together, RTP headers and tags included.",
     UNIT_BITS,
     1000,
     false,
     VIEWING,
     false,
     {{"received", received}}},
    {"Bit rate published",
     "All publishers together, RTP headers and tags included.",
     UNIT_BITS,
     1000,
     false,
     PUBLISHING,
     false,
     {{"published", sent}}},
    {"Packets that did not come",
     "Share of all packets: those that a later one overtook, and those "
     "that stayed away although they were asked for again.",
     UNIT_FRACTION,
     0.001,
     false,
     VIEWING,
     false,
     {{"not there at first", missing}, {"never came", lost}}},
    {"Joins and departures",
     "Sessions per second that got through, left on purpose, or failed.",
     UNIT_COUNT,
     1,
     false,
     ALWAYS,
     false,
     {{"joined", joins}, {"failed", failures}, {"left", leaves}}},
    {"Time to join",
     "Of the sessions that joined in each interval, from the POST on.",
     UNIT_US,
     1000,
     false,
     ALWAYS,
     true,
     {{"median", join_p50}, {"longest", join_max}}},
    {"Largest gap between packets",
     "The longest silence that any one viewer saw in each interval. "
     "Pictures usually freeze from 200 ms on.",
     UNIT_US,
     50000,
     false,
     VIEWING,
     true,
     {{"largest gap", gap}}},
    {"Latency of frames",
     "From the publisher's packetizer to the viewer's, by the clock inside the "
     "frames.",
     UNIT_US,
     1000,
     false,
     VIEWING,
     true,
     {{"median", latency_p50}, {"99th percentile", latency_p99}}},
    {"Pictures that stood still",
     "Times per second that some viewer's picture would have frozen.",
     UNIT_COUNT,
     1,
     true,
     VIEWING,
     true,
     {{"freezes", freezes}}},
    {"CPU of the load tester",
     "Cores in use by hitless-bees itself. A load tester short of CPU "
     "measures itself, not the server.",
     UNIT_COUNT,
     1,
     false,
     ALWAYS,
     true,
     {{"cores", cores}}},
};

static void draw(FILE *out, struct columns *columns, const struct row *row)
{
    const struct timeline *timeline = columns->timeline;
    struct plot plot = {.title = row->title,
                        .caption = row->caption,
                        .unit = row->unit,
                        .count = timeline->count,
                        .x = columns->x,
                        .x_max = columns->x_max,
                        .y_min_top = row->y_min_top,
                        .notes = timeline};
    bool any = false;
    for (unsigned s = 0; s < PLOT_SERIES && row->series[s].label; s++) {
        for (unsigned i = 0; i < timeline->count; i++) {
            columns->y[s][i] = row->series[s].value(&timeline->sample[i]);
            any |= columns->y[s][i] > 0;
        }
        plot.series[plot.series_count++] = (struct plot_series){
            .label = row->series[s].label, .y = columns->y[s], .bars = row->bars};
    }
    if (any || !row->if_any)
        plot_time(out, &plot);
}

void report_time(FILE *out, const struct timeline *timeline, bool publishing)
{
    static struct columns columns; // too large for the stack; reports are written one at a time
    if (!timeline || timeline->count < 2)
        return;
    columns.timeline = timeline;
    for (unsigned i = 0; i < timeline->count; i++)
        columns.x[i] = timeline->sample[i].at_s;
    columns.x_max = columns.x[timeline->count - 1];
    if (!(columns.x_max > 0))
        return;
    fprintf(out,
            "<h2>Over time</h2><p>Since the first request. %sPoint at a plot to read it.</p>"
            "<div class=plots>\n",
            timeline->notes ? "Dashed lines mark events. " : "");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].when == ALWAYS || (rows[i].when == PUBLISHING) == publishing)
            draw(out, &columns, &rows[i]);
    fputs("</div>", out);
    if (timeline->notes > 0) {
        fputs("<p class=notes>Events:", out);
        for (unsigned i = 0; i < timeline->notes; i++) {
            fprintf(out, "%s at %s ", i ? ";" : "", text_clock(timeline->note[i].at_s).at);
            html(out, timeline->note[i].text);
        }
        fputs(".</p>\n", out);
    }
}
