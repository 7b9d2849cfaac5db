#include "report_page.h"
#include "report_plot.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct distribution {
    enum bees_distribution which;
    const char *title, *caption;
} distributions[] = {
    {BEES_DIST_join, "Time to join",
     "From the POST to the first packet (of a publisher: to the end of DTLS), one value per "
     "session."},
    {BEES_DIST_keyframe, "Time to the first picture",
     "From the POST to the first complete key frame, one value per session."},
    {BEES_DIST_away, "Media away",
     "Each time that media stopped and came back, as the viewer saw it."},
    {BEES_DIST_max_gap, "Largest gap between packets",
     "The longest silence of each session. A player's buffer hides what is shorter than itself."},
    {BEES_DIST_latency, "Latency of frames",
     "From the publisher's packetizer to the viewer, by the clock inside the frames; one value per "
     "frame."},
    {BEES_DIST_recovery, "Recovery of lost packets",
     "From noticing that a packet is missing to having it, for those that came on request."},
    {BEES_DIST_jitter, "Jitter",
     "Unevenness of arrival (RFC 3550), one value per session and track."},
    {BEES_DIST_rtt, "Round trip", "Of the connectivity checks, one value per check."},
};

static void write_time(FILE *out, int64_t seconds)
{
    time_t time = (time_t)seconds;
    struct tm parts;
    char text[64];
    if (gmtime_r(&time, &parts) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &parts))
        fputs(text, out);
}

static void write_head(FILE *out, const struct report *report, const char *headline)
{
    static const char *const class[] = {"good", "warn", "bad"};
    static const char *const badge[] = {"✓ as it should be", "! with flaws", "✗ failed"};
    const struct bees_result *result = report->result;
    enum report_state state = report_judge(report);
    fputs("<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
          "content='width=device-width,initial-scale=1'><meta name=referrer content=no-referrer>"
          "<title>",
          out);
    html(out, headline);
    fprintf(out,
            "</title><style>%s</style></head>\n<body><main><header class=%s><p class=badge>%s</p>"
            "<h1>",
            report_css, class[state],
            report -> search &&state == REPORT_GOOD ? "✓ found" : badge[state]);
    html(out, headline);
    fputs("</h1><p>hitless-bees ", out);
    html(out, result->protocol ? result->protocol : "");
    fputs(", ", out);
    html(out, result->mode ? result->mode : "");
    fputs(", against <code>", out);
    html(out, result->url);
    fputs("</code>, ", out);
    write_time(out, report->began);
    // A search lasts longer than the trial that its figures are of.
    const struct timeline *timeline = report->search ? report->timeline : NULL;
    double length_s = timeline && timeline->count ? timeline->sample[timeline->count - 1].at_s
                                                  : result->duration_s;
    fprintf(out, ", for %s</p></header>\n", text_us(length_s * 1e6).at);
}

static void write_search(FILE *out, const struct report *report)
{
    const char *unit = report->load_unit ? report->load_unit : "sessions";
    char text[240];
    fputs("<h2>The search</h2><p>Each trial runs the server at one load. It carries the load if ",
          out);
    snprintf(text, sizeof(text),
             "no session fails, at most %s of the packets are lost and 99 %% of the sessions join "
             "within %s",
             text_fraction(report->max_loss).at, text_us(report->max_join_ms * 1e3).at);
    html(out, text);
    fputs(". The search ended because ", out);
    html(out, search_reason_text(report->search->result.reason));
    fputs(".</p>\n", out);
    plot_search(out, report->search, unit);
    const char *of = report->figures_of            ? report->figures_of
                     : report->search->result.best ? "the largest trial that passed"
                                                   : "the first trial";
    fputs(
        "<p class=notes>The plots over time below show the whole search. All other figures are of ",
        out);
    html(out, of);
    fputs(".</p>\n", out);
}

static void write_distributions(FILE *out, const struct bees_result *result)
{
    bool any = false;
    for (unsigned i = 0; i < BEES_DIST_COUNT; i++)
        any |= result->hist[i].count > 0;
    if (!any)
        return;
    fputs("<h2>Distributions</h2><p>How many had which value. The scale is logarithmic; dashed "
          "lines mark "
          "the median and the 99th percentile.</p><div class=plots>\n",
          out);
    for (unsigned i = 0; i < sizeof(distributions) / sizeof(distributions[0]); i++)
        plot_hist(out, distributions[i].title, distributions[i].caption,
                  &result->hist[distributions[i].which]);
    fputs("</div>\n", out);
}

int report_print(FILE *out, const struct report *report)
{
    const struct bees_result *result = report->result;
    char headline[400];
    report_headline(report, headline, sizeof(headline));
    write_head(out, report, headline);
    if (report->search)
        write_search(out, report);
    report_tiles(out, report);
    report_time(out, report->timeline, report_publishes(result));
    if (result->hist[BEES_DIST_post].count > 0) {
        fputs("<h2>Joining, step by step</h2><p>Time since the POST was sent.</p>\n", out);
        report_steps(out, result);
    }
    write_distributions(out, result);
    report_failures(out, result);
    report_sessions(out, result);
    report_run(out, report);
    report_counters(out, result);
    fprintf(out, "<script>%s</script></main></body></html>\n", report_js);
    return ferror(out) ? -EIO : 0;
}

int report_write(const char *file, const struct report *report)
{
    size_t size = strlen(file) + sizeof(".XXXXXX");
    char *path = malloc(size);
    if (!path)
        return -ENOMEM;
    snprintf(path, size, "%s.XXXXXX", file);
    int fd = mkostemp(path, O_CLOEXEC);
    int rc = fd < 0 ? -errno : 0;
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (fd >= 0 && !out) {
        rc = -errno;
        close(fd);
    }
    if (out) {
        mode_t mask = umask(0);
        umask(mask);
        rc = report_print(out, report);
        if (fchmod(fileno(out), 0666 & ~mask) != 0 && rc == 0)
            rc = -errno;
        if (fclose(out) != 0 && rc == 0)
            rc = -errno;
    }
    if (rc == 0 && rename(path, file) != 0)
        rc = -errno;
    if (rc < 0 && fd >= 0)
        unlink(path);
    free(path);
    return rc;
}
