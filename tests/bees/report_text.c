#include "report_text.h"
#include <math.h>
#include <string.h>

struct text text_count(double value)
{
    struct text text;
    char digits[32];
    size_t used = 0;
    if (!(fabs(value) < 1e15)) {
        snprintf(text.at, sizeof(text.at), "%.3g", value);
        return text;
    }
    if (value != floor(value) && fabs(value) < 100) {
        snprintf(text.at, sizeof(text.at), "%.*f", fabs(value) < 10 ? 2 : 1, value);
        return text;
    }
    int length = snprintf(digits, sizeof(digits), "%.0f", value);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
            text.at[used++] = ',';
        text.at[used++] = digits[i];
    }
    text.at[used] = '\0';
    return text;
}

// Three significant digits, no more than needed.
static struct text scaled(double value, const char *unit)
{
    struct text text;
    int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    int length = snprintf(text.at, sizeof(text.at), "%.*f", decimals, value);
    while (decimals > 0 && (text.at[length - 1] == '0' || text.at[length - 1] == '.'))
        if (text.at[--length] == '.')
            decimals = 0;
    snprintf(text.at + length, sizeof(text.at) - (size_t)length, "%s", unit);
    return text;
}

struct text text_bits(double per_second)
{
    if (per_second >= 999.5e6)
        return scaled(per_second / 1e9, " Gbit/s");
    if (per_second >= 999.5e3)
        return scaled(per_second / 1e6, " Mbit/s");
    if (per_second >= 999.5)
        return scaled(per_second / 1e3, " kbit/s");
    return scaled(per_second, " bit/s");
}

// Small ones keep two digits: the difference between none and few matters.
struct text text_fraction(double fraction)
{
    struct text text;
    double percent = fraction * 100;
    if (percent > 0 && percent < 0.1)
        snprintf(text.at, sizeof(text.at), "%.2g %%", percent < 0.0001 ? 0.0001 : percent);
    else
        text = scaled(percent, " %");
    return text;
}

struct text text_us(double us)
{
    struct text text;
    if (us < 999.5)
        return scaled(us, " µs");
    if (us < 999.5e3)
        return scaled(us / 1e3, " ms");
    if (us < 120e6)
        return scaled(us / 1e6, " s");
    snprintf(text.at, sizeof(text.at), "%.0f min %.0f s", floor(us / 60e6),
             floor(fmod(us / 1e6, 60)));
    return text;
}

struct text text_unit(enum unit unit, double value)
{
    switch (unit) {
    case UNIT_BITS:
        return text_bits(value);
    case UNIT_FRACTION:
        return text_fraction(value);
    case UNIT_US:
        return text_us(value);
    default:
        return text_count(value);
    }
}

struct text text_clock(double seconds)
{
    struct text text;
    unsigned whole = seconds > 0 && seconds < 4e9 ? (unsigned)(seconds + 0.5) : 0;
    if (whole < 120)
        snprintf(text.at, sizeof(text.at), "%u s", whole);
    else if (whole < 7200)
        snprintf(text.at, sizeof(text.at), "%u:%02u", whole / 60, whole % 60);
    else
        snprintf(text.at, sizeof(text.at), "%u:%02u:%02u", whole / 3600, whole / 60 % 60,
                 whole % 60);
    return text;
}

// Whether the space stands between a figure and its unit, which belong on one line.
static bool is_tied(const char *start, const char *space)
{
    return space > start && space[-1] >= '0' && space[-1] <= '9' && space[1] &&
           (strchr("%skmMG", space[1]) || !strncmp(space + 1, "µs", sizeof("µs") - 1));
}

void html(FILE *out, const char *text)
{
    for (const char *start = text; *text; text++) {
        switch (*text) {
        case ' ':
            fputs(is_tied(start, text) ? "&nbsp;" : " ", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            fputc((unsigned char)*text < ' ' || *text == 127 ? ' ' : *text, out);
        }
    }
}

static const char *const failure_help[] = {
#define X(name, help) [BEES_FAILURE_##name] = help,
    BEES_FAILURES(X)
#undef X
};

static enum bees_failure most_frequent(const struct bees_result *result)
{
    unsigned most = BEES_FAILURE_none;
    for (unsigned i = BEES_FAILURE_none + 1; i < BEES_FAILURE_COUNT; i++)
        if (most == BEES_FAILURE_none || result->failures[i] > result->failures[most])
            most = i;
    return (enum bees_failure)most;
}

static bool is_publishing(const struct bees_result *result)
{
    return result->protocol && strcmp(result->protocol, "whip") == 0;
}

enum report_state report_judge(const struct report *report)
{
    const struct bees_result *result = report->result;
    const struct bees_counters *count = &result->count;
    if (count->index_reuse > 0 || result->connected == 0)
        return REPORT_BAD;
    if (report->search)
        return report->search->result.best == 0 ? REPORT_BAD : REPORT_GOOD;
    if (result->failed * 20 > result->sessions)
        return REPORT_BAD;
    return result->failed > 0 || count->lost > 0 || count->freezes > 0 || result->interrupted ||
                   count->remote_lost > 0 || count->auth_failures > 0
               ? REPORT_WARN
               : REPORT_GOOD;
}

static void search_headline(const struct report *report, char *text, size_t size)
{
    const struct search_result *found = &report->search->result;
    const char *unit = report->load_unit ? report->load_unit : "sessions";
    struct text best = text_count((double)found->best),
                failing = text_count((double)found->failing),
                limited = text_count((double)found->limited);
    if (found->best == 0 && found->reason == SEARCH_GENERATOR_LIMIT)
        snprintf(text, size,
                 "This machine could not produce even %s %s: nothing is said of the server.",
                 limited.at, unit);
    else if (found->best == 0 && found->failing > 0)
        snprintf(text, size, "The server did not carry even %s %s.", failing.at, unit);
    else if (found->best == 0)
        snprintf(text, size, "The search ended before it found anything: %s.",
                 search_reason_text(found->reason));
    else if (found->reason == SEARCH_GENERATOR_LIMIT)
        snprintf(
            text, size,
            "The server carries at least %s %s; at %s this machine, not the server, was the limit.",
            best.at, unit, limited.at);
    else if (found->failing > 0)
        snprintf(text, size,
                 "The server’s capacity is between %s %s, which it carried, and %s, which were too "
                 "many.",
                 best.at, unit, failing.at);
    else
        snprintf(text, size, "The server carries at least %s %s; more was not tried.", best.at,
                 unit);
}

// What became of the sessions: "All 100 sessions joined", "3 of 100 sessions failed, most often
// because …".
static int sessions_headline(const struct bees_result *result, char *text, size_t size)
{
    struct text sessions = text_count(result->sessions), failed = text_count(result->failed);
    const char *why = failure_help[most_frequent(result)];
    int whole = (int)strcspn(why, ":("); // what goes before the details
    while (whole > 0 && why[whole - 1] == ' ')
        whole--;
    if (result->failed == 0 && result->connected < result->sessions)
        return snprintf(text, size, "%s of %s sessions joined", text_count(result->connected).at,
                        sessions.at);
    if (result->failed == 0)
        return snprintf(text, size, "%s %s %s joined",
                        result->sessions == 1   ? "The"
                        : result->sessions == 2 ? "Both"
                                                : "All",
                        result->sessions <= 2 ? "" : sessions.at,
                        result->sessions == 1 ? "session" : "sessions");
    if (result->sessions == 1)
        return snprintf(text, size, "The session failed: %.*s", whole, why);
    return snprintf(
        text, size, "%s of %s sessions failed, %s%.*s", failed.at, sessions.at,
        result->failures[most_frequent(result)] == result->failed ? "" : "mostly: ", whole, why);
}

// Sessions of watch-failover that had to agree on something anew.
static uint32_t renegotiated(const struct bees_result *result)
{
    uint32_t count = 0;
    for (uint32_t i = 0; result->session && i < result->sessions; i++)
        count += result->session[i].count.handshakes > 1 || result->session[i].count.new_ssrcs > 0;
    return count;
}

static void watch_headline(const struct bees_result *result, char *text, size_t size)
{
    const struct hist *away = &result->hist[BEES_DIST_away];
    uint32_t sessions = 0, again = renegotiated(result);
    for (uint32_t i = 0; result->session && i < result->sessions; i++)
        sessions += result->session[i].gaps > 0;
    if (away->count == 0) {
        snprintf(text, size, "media never stopped.");
        return;
    }
    int used =
        snprintf(text, size,
                 "media stopped for %s of them, half of the times for up to %s, at most for %s; ",
                 text_count(sessions).at, text_us((double)hist_percentile(away, 50)).at,
                 text_us((double)away->max).at);
    if (used >= 0 && (size_t)used < size)
        snprintf(text + used, size - (size_t)used, "%s%s", again ? text_count(again).at : "nothing",
                 again ? " had to negotiate anew." : " was renegotiated.");
}

static void media_headline(const struct bees_result *result, char *text, size_t size)
{
    const struct bees_counters *count = &result->count;
    double lost =
        count->lost == 0 ? 0 : (double)count->lost / (double)(count->packets + count->lost);
    struct text share = text_fraction(lost), freezes = text_count((double)count->freezes),
                frozen = text_us((double)count->frozen_ms * 1e3);
    if (is_publishing(result)) {
        struct text rate = text_bits(
            result->duration_s > 0 ? (double)count->sent_bytes * 8 / result->duration_s : 0);
        if (count->remote_lost > 0)
            snprintf(text, size, "%s were published on average, and the server missed %s packets.",
                     rate.at, text_count((double)count->remote_lost).at);
        else
            snprintf(text, size, "%s were published on average, and the server missed nothing.",
                     rate.at);
        return;
    }
    if (result->mode && strcmp(result->mode, "watch-failover") == 0) {
        watch_headline(result, text, size);
        return;
    }
    int used;
    if (lost > 0)
        used = snprintf(text, size, "%s of the packets never came", share.at);
    else if (count->recovered > 0)
        used = snprintf(text, size, "every packet arrived, %s of them on request",
                        text_count((double)count->recovered).at);
    else
        used = snprintf(text, size, "every packet arrived");
    if (used < 0 || (size_t)used >= size)
        return;
    if (result->headers_only)
        snprintf(text + used, size - (size_t)used, ".");
    else if (count->freezes > 0)
        snprintf(text + used, size - (size_t)used, "%s pictures stood still %s %s, for %s in sum.",
                 lost > 0 ? ", and" : ", but", freezes.at, count->freezes == 1 ? "time" : "times",
                 frozen.at);
    else
        snprintf(text + used, size - (size_t)used, "%s no picture ever stood still.",
                 lost > 0 ? ", but" : ", and");
}

void report_headline(const struct report *report, char *text, size_t size)
{
    const struct bees_result *result = report->result;
    if (result->count.index_reuse > 0) {
        snprintf(text, size,
                 "Security failure: %s packet%s sealed with a key and index that had protected "
                 "other bytes before.",
                 text_count((double)result->count.index_reuse).at,
                 result->count.index_reuse == 1 ? " was" : "s were");
        return;
    }
    if (report->search) {
        search_headline(report, text, size);
        return;
    }
    if (result->connected == 0) {
        snprintf(text, size, "Not one of %s sessions got through%s%s.",
                 text_count(result->sessions).at, result->failed ? ": " : "",
                 result->failed ? failure_help[most_frequent(result)] : "");
        return;
    }
    int used = sessions_headline(result, text, size);
    if (used < 0 || (size_t)used + 3 >= size)
        return;
    // "The  session": where the number is left out there is one space too many.
    char *twice = strstr(text, "  ");
    if (twice) {
        memmove(twice, twice + 1, strlen(twice));
        used--;
    }
    const char *glue = result->failed == 0                 ? "; "
                       : result->failed < result->sessions ? "; of the others, "
                                                           : "; until then, ";
    used += snprintf(text + used, size - (size_t)used, "%s", glue);
    if ((size_t)used < size)
        media_headline(result, text + used, size - (size_t)used);
}
