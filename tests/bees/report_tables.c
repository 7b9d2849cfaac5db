// The report's figures and tables.
#include "report_page.h"
#include "report_plot.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORST 12   // sessions in the table
#define WATCHED 50 // of watch-failover

bool report_publishes(const struct bees_result *result)
{
    return result->protocol && strcmp(result->protocol, "whip") == 0;
}

bool report_watches(const struct bees_result *result)
{
    return result->mode && strcmp(result->mode, "watch-failover") == 0;
}

static void tile(FILE *out, const char *name, struct text value, const char *help)
{
    fprintf(out, "<div class=tile><span class=name>%s</span><b>%s</b><span>", name, value.at);
    html(out, help);
    fputs("</span></div>\n", out);
}

static void viewer_tiles(FILE *out, const struct bees_result *result)
{
    const struct bees_counters *count = &result->count;
    const struct hist *gap = &result->hist[BEES_DIST_max_gap];
    const struct hist *latency = &result->hist[BEES_DIST_latency];
    uint64_t all = count->packets + count->lost;
    char help[160];
    snprintf(help, sizeof(help), "of %s packets never came; %s came on request",
             text_count((double)all).at, text_count((double)count->recovered).at);
    tile(out, "Lost", text_fraction(all ? (double)count->lost / (double)all : 0), help);
    if (!result->headers_only) {
        snprintf(help, sizeof(help), "times a picture would have frozen, %s in sum",
                 text_us((double)count->frozen_ms * 1e3).at);
        tile(out, "Freezes", text_count((double)count->freezes), help);
    }
    if (gap->count > 0) {
        snprintf(help, sizeof(help), "longest silence of any viewer; half had none over %s",
                 text_us((double)hist_percentile(gap, 50)).at);
        tile(out, "Largest gap", text_us((double)gap->max), help);
    }
    tile(out, "Received",
         text_bits(result->duration_s > 0 ? (double)count->bytes * 8 / result->duration_s : 0),
         "all viewers together, on average over the run");
    if (latency->count > 0) {
        snprintf(help, sizeof(help), "half of all frames were faster; 99 %% within %s",
                 text_us((double)hist_percentile(latency, 99)).at);
        tile(out, "Latency", text_us((double)hist_percentile(latency, 50)), help);
    }
}

static void publisher_tiles(FILE *out, const struct bees_result *result)
{
    const struct bees_counters *count = &result->count;
    char help[160];
    tile(out, "Published",
         text_bits(result->duration_s > 0 ? (double)count->sent_bytes * 8 / result->duration_s : 0),
         "all publishers together, on average over the run");
    snprintf(help, sizeof(help), "packets that the server reported missing, of %s",
             text_count((double)count->sent_packets).at);
    tile(out, "Missed by server", text_count((double)count->remote_lost), help);
    snprintf(help, sizeof(help), "packets that the server asked for again; %s were sent again",
             text_count((double)count->resent).at);
    tile(out, "Asked for", text_count((double)count->nacked), help);
    tile(out, "Sent late", text_count((double)count->late_sends),
         "packets that left over 20 ms after their time: the load tester's fault");
}

void report_tiles(FILE *out, const struct report *report)
{
    const struct bees_result *result = report->result;
    const struct hist *join = &result->hist[BEES_DIST_join];
    char help[160];
    fputs("<div class=tiles>\n", out);
    snprintf(help, sizeof(help), "of %s sessions; %s failed", text_count(result->sessions).at,
             text_count(result->failed).at);
    tile(out, "Connected", text_count(result->connected), help);
    if (join->count > 0) {
        snprintf(help, sizeof(help), "half joined faster; 99 %% within %s, all within %s",
                 text_us((double)hist_percentile(join, 99)).at, text_us((double)join->max).at);
        tile(out, "Time to join", text_us((double)hist_percentile(join, 50)), help);
    }
    if (report_publishes(result))
        publisher_tiles(out, result);
    else
        viewer_tiles(out, result);
    fputs("</div>\n", out);
}

void report_steps(FILE *out, const struct bees_result *result)
{
    static const struct {
        enum bees_distribution distribution;
        const char *label, *help;
    } steps[] = {
        {BEES_DIST_post, "POST answered", "the server took the offer over HTTP"},
        {BEES_DIST_ice, "ICE connected", "a path over UDP was found"},
        {BEES_DIST_dtls, "DTLS done", "keys were agreed on"},
        {BEES_DIST_packet, "First packet", "media began to come"},
        {BEES_DIST_keyframe, "First key frame", "a picture could be shown"},
    };
    double top = 0;
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        top = fmax(top, (double)hist_percentile(&result->hist[steps[i].distribution], 99));
    if (top == 0)
        return;
    fputs("<div class=card><table><thead><tr><th>Reached after</th><th class='wide thin'>5 % to 99 "
          "% of "
          "sessions</th><th class=n>half</th><th class=n>99 %</th><th class='n "
          "thin'>all</th></tr></thead>"
          "<tbody>\n",
          out);
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const struct hist *hist = &result->hist[steps[i].distribution];
        bool receiving = i >= 3; // a publisher is done when it has keys
        if (hist->count == 0 || (receiving && report_publishes(result)))
            continue;
        fprintf(out, "<tr><th>%s<small>%s</small></th><td class='wide thin'>", steps[i].label,
                steps[i].help);
        plot_strip(out, hist, top);
        fprintf(out, "</td><td class=n>%s</td><td class=n>%s</td><td class='n thin'>%s</td></tr>\n",
                text_us((double)hist_percentile(hist, 50)).at,
                text_us((double)hist_percentile(hist, 99)).at, text_us((double)hist->max).at);
    }
    fputs("</tbody></table></div>\n", out);
}

void report_failures(FILE *out, const struct bees_result *result)
{
    static const struct {
        const char *name, *help;
    } failure[] = {
#define X(name, help) [BEES_FAILURE_##name] = {#name, help},
        BEES_FAILURES(X)
#undef X
    };
    fputs("<h2>Sessions that failed</h2>", out);
    if (result->failed == 0) {
        fputs("<p>None.</p>\n", out);
        return;
    }
    fputs("<p>Each under the one thing that ended it.</p><div class=card><table><tbody>\n", out);
    for (unsigned i = BEES_FAILURE_none + 1; i < BEES_FAILURE_COUNT; i++) {
        if (result->failures[i] == 0)
            continue;
        fprintf(out, "<tr><th>%s<small>", failure[i].name);
        html(out, failure[i].help);
        fprintf(out, "</small></th><td class=n>%s</td></tr>\n", text_count(result->failures[i]).at);
    }
    fputs("</tbody></table></div>\n", out);
}

static int by_gap(const void *a, const void *b)
{
    const struct bees_session *x = *(const struct bees_session *const *)a;
    const struct bees_session *y = *(const struct bees_session *const *)b;
    uint64_t gap_x = x->away_ns ? x->away_ns : x->max_gap_ns;
    uint64_t gap_y = y->away_ns ? y->away_ns : y->max_gap_ns;
    if (gap_x != gap_y)
        return gap_x < gap_y ? 1 : -1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void session_row(FILE *out, const struct bees_session *session, bool watched)
{
    const struct bees_counters *count = &session->count;
    fprintf(out, "<tr><td class=n>%u</td>", session->number);
    if (watched)
        fprintf(out, "<td class=n>%u</td><td class=n>%s</td>", session->gaps,
                text_us((double)session->away_ns / 1e3).at);
    fprintf(out, "<td class=n>%s</td><td class=n>%s</td>",
            text_us((double)session->max_gap_ns / 1e3).at,
            session->max_gap_ns ? text_clock((double)session->max_gap_at_ns / 1e9).at : "");
    fprintf(out, "<td class=n>%s</td><td class=n>%s</td><td class=n>%s</td>",
            text_count((double)count->lost).at, text_count((double)count->recovered).at,
            text_count((double)count->freezes).at);
    if (watched)
        fprintf(out, "<td>%s</td>",
                count->handshakes > 1  ? "new DTLS handshake"
                : count->new_ssrcs > 0 ? "new SSRC"
                                       : "nothing");
    fputs("<td>", out);
    for (unsigned i = 0; i < session->paths && i < BEES_PATHS_MAX; i++) {
        fputs(i ? " → " : "", out);
        html(out, session->path[i]);
    }
    fputs("</td></tr>\n", out);
}

void report_sessions(FILE *out, const struct bees_result *result)
{
    bool watched = report_watches(result);
    uint32_t count = 0, limit = watched ? WATCHED : WORST;
    if (!result->session || result->sessions == 0 || report_publishes(result))
        return;
    const struct bees_session **order = calloc(result->sessions, sizeof(*order));
    for (uint32_t i = 0; order && i < result->sessions; i++)
        if (result->session[i].connected)
            order[count++] = &result->session[i];
    if (count > 0) {
        qsort(order, count, sizeof(*order), by_gap);
        fprintf(out, "<h2>%s</h2><p>%s",
                watched ? "Session by session" : "The sessions that fared worst",
                watched
                    ? "How often and how long media was away, and what had to be negotiated again."
                    : "By their largest gap between two packets.");
        if (count > limit)
            fprintf(out, " %u of %s are shown.", limit, text_count(count).at);
        fprintf(
            out,
            "</p><div class=card><table><thead><tr><th class=n>session</th>%s<th class=n>largest "
            "gap</th><th class=n>at</th><th class=n>lost</th><th class=n>recovered</th><th "
            "class=n>freezes</th>%s<th>media came from</th></tr></thead><tbody>\n",
            watched ? "<th class=n>gaps</th><th class=n>away in sum</th>" : "",
            watched ? "<th>renegotiated</th>" : "");
        for (uint32_t i = 0; i < count && i < limit; i++)
            session_row(out, order[i], watched);
        fputs("</tbody></table></div>\n", out);
    }
    free(order);
}

void report_counters(FILE *out, const struct bees_result *result)
{
    static const struct {
        const char *name, *help;
    } counters[] = {
#define X(name, help) {#name, help},
        BEES_COUNTERS(X)
#undef X
    };
    uint64_t value[] = {
#define X(name, help) result->count.name,
        BEES_COUNTERS(X)
#undef X
    };
    unsigned n = sizeof(value) / sizeof(value[0]), zeros = 0;
    fputs(
        "<h2>Everything that was counted</h2><p>Sums over all sessions.</p><div class=card><table>"
        "<tbody>\n",
        out);
    for (unsigned i = 0; i < n; i++) {
        zeros += value[i] == 0;
        if (value[i] == 0)
            continue;
        fprintf(out, "<tr><th>%s<small>", counters[i].name);
        html(out, counters[i].help);
        fprintf(out, "</small></th><td class=n>%s</td></tr>\n", text_count((double)value[i]).at);
    }
    if (zeros > 0) {
        fputs("<tr><td colspan=2><small>Zero: ", out);
        for (unsigned i = 0, shown = 0; i < n; i++)
            if (value[i] == 0)
                fprintf(out, "%s%s", shown++ ? ", " : "", counters[i].name);
        fputs(".</small></td></tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

static void fact(FILE *out, const char *name, const char *value)
{
    fputs("<tr><th>", out);
    html(out, name);
    fputs("</th><td>", out);
    html(out, value);
    fputs("</td></tr>\n", out);
}

void report_run(FILE *out, const struct report *report)
{
    const struct bees_result *result = report->result;
    char text[320];
    fputs("<h2>The run itself</h2><p>What was done, and how hard the load tester worked for it. A "
          "worker "
          "thread that fills its core says nothing about the server any more.</p><div "
          "class=card><table>"
          "<tbody>\n",
          out);
    if (report->command) {
        fputs("<tr><th>Command</th><td><code>", out);
        html(out, report->command);
        fputs("</code></td></tr>\n", out);
    }
    if (report->host)
        fact(out, "Load machine", report->host);
    snprintf(text, sizeof(text), "%s wanted, %s begun", text_count(result->wanted).at,
             text_count(result->sessions).at);
    fact(out, "Sessions", text);
    if (result->deletes_failed > 0) {
        snprintf(text, sizeof(text), "%s of %s DELETE requests failed",
                 text_count(result->deletes_failed).at, text_count(result->deletes).at);
        fact(out, "Goodbyes", text);
    }
    if (result->refusals > 0) {
        snprintf(text, sizeof(text), "%s sessions were told to come again later, %s times in sum",
                 text_count(result->refused_and_retried).at, text_count(result->refusals).at);
        fact(out, "Refusals", text);
    }
    fact(out, "Duration", text_us(result->duration_s * 1e6).at);
    snprintf(text, sizeof(text),
             "%s cores on average, %u worker thread%s; the busiest used %s of a core, and one "
             "waited for a core for %s of the time",
             text_count(result->duration_s > 0 ? result->cpu_s / result->duration_s : 0).at,
             result->workers, result->workers == 1 ? "" : "s",
             text_fraction(result->busiest_worker).at, text_fraction(result->starved_worker).at);
    fact(out, "CPU", text);
    if (result->headers_only)
        fact(out, "Packets",
             "only a sample was authenticated and decrypted, the rest counted by their "
             "headers (--headers-only)");
    if (result->interrupted)
        fact(out, "Ended", "before its time, by the operator");
    for (unsigned i = 0; i < report->fact_count; i++)
        fact(out, report->facts[i].name, report->facts[i].value);
    fputs("</tbody></table></div>\n", out);
}
