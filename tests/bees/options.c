// The command line; see options.h. One table says what there is, what it means and what it may be.
#include "options_inside.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct protocol protocols[] = {
    {"whep", BEES_WHEP, "viewers (WebRTC out)"},
    {"whip", BEES_WHIP, "publishers (WebRTC in)"},
};

const struct protocol *protocol_named(const char *name)
{
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
        if (strcmp(protocols[i].name, name) == 0)
            return &protocols[i];
    return NULL;
}

enum kind { FLAG, COUNT, NUMBER, FRACTION, TEXT, HEADING };

struct spec {
    const char *name, *value, *help;
    enum kind kind;
    size_t offset;
    double min, max;
};
#define AT(field) offsetof(struct options, field)

static const struct spec specs[] = {
    {"How many, how fast, how long", NULL, NULL, HEADING, 0, 0, 0},
    {"sessions", "N", "sessions (1)", COUNT, AT(sessions), 1, OPTIONS_SESSIONS_MAX},
    {"rate", "R/s", "sessions begun each second (20, or more if all would not begin in time)",
     NUMBER, AT(rate), 0.01, 10000},
    {"duration", "S", "seconds until it stops by itself, joining included (30)", NUMBER,
     AT(duration), 1, OPTIONS_DURATION_MAX},
    {"mode", "NAME",
     "steady, ramp (evenly over time), churn (each leaves after --stay), "
     "storm (all at once)",
     TEXT, AT(mode_text), 0, 0},
    {"stay", "S", "churn: seconds that a session stays (10)", NUMBER, AT(stay), 0.5, 86400},
    {"streams", "M", "numbers that %d runs through (viewers 1, publishers one each)", COUNT,
     AT(streams), 1, OPTIONS_SESSIONS_MAX},
    {"first-stream", "K", "the first of them (0)", COUNT, AT(first_stream), 0, 1e9},
    {"concurrency", "N", "HTTP requests at a time (64)", COUNT, AT(concurrency), 1, 4096},
    {"threads", "T", "worker threads (one for each core)", COUNT, AT(threads), 1, 256},
    {"max-loss", "F", "fail if more than this fraction of packets is lost, e.g. 0.001 or 0.1%",
     FRACTION, AT(max_loss), 0, 1},
    {"max-join", "MS", "fail if the 99th percentile of joining takes longer", NUMBER,
     AT(max_join_ms), 1, 60000},

    {"The server", NULL, NULL, HEADING, 0, 0, 0},
    {"token", "TOKEN", "bearer token (or the environment's HITLESS_BEES_TOKEN)", TEXT, AT(token), 0,
     0},
    {"token-file", "FILE", "the same from the first line of a file", TEXT, AT(token_file), 0, 0},
    {"ca", "FILE", "certificates to trust in place of the system's (PEM)", TEXT, AT(ca), 0, 0},
    {"insecure", NULL, "take any TLS certificate", FLAG, AT(insecure), 0, 0},
    {"i-own-this-server", NULL, "allow public addresses: only for servers of your own", FLAG,
     AT(own_server), 0, 0},
    {"timeout", "S",
     "time for a session to join, and to come again where the server says Retry-After (15)", NUMBER,
     AT(join_s), 0.5, 300},
    {"http-timeout", "S", "time for an HTTP answer (10)", NUMBER, AT(http_s), 0.1, 300},
    {"trickle", NULL, "send our candidates by PATCH, after the answer", FLAG, AT(trickle), 0, 0},
    {"srtp", "LIST", "profiles, best first: gcm128, gcm256, sha1", TEXT, AT(srtp), 0, 0},
    {"no-twcc", NULL, "do not offer transport-wide congestion control", FLAG, AT(no_twcc), 0, 0},

    {"Viewers", NULL, NULL, HEADING, 0, 0, 0},
    {"headers-only", NULL, "open the packets of one session in 64, count the rest by header", FLAG,
     AT(headers_only), 0, 0},
    {"codecs", "LIST", "codecs offered, best first (opus,vp8,h264,vp9,av1,h265)", TEXT, AT(codecs),
     0, 0},
    {"no-audio", NULL, "no sound", FLAG, AT(no_audio), 0, 0},
    {"no-video", NULL, "no picture", FLAG, AT(no_video), 0, 0},
    {"stopped", "S", "no packet for so long at the end means that media stopped (3)", NUMBER,
     AT(stop_gap_s), 0.1, 3600},
    {"away", "MS", "watch-failover: gaps from here on count (100)", NUMBER, AT(away_ms), 1, 60000},

    {"A bad network in front of viewers", NULL, NULL, HEADING, 0, 0, 0},
    {"drop", "F", "fraction of received packets to drop, e.g. 0.05 or 5%", FRACTION, AT(drop), 0,
     1},
    {"burst", "F", "chance for a burst of losses to begin with a packet", FRACTION, AT(burst), 0,
     1},
    {"burst-length", "N", "its mean length in packets (4)", NUMBER, AT(burst_packets), 1, 1000},
    {"delay", "MS", "delay of every packet", NUMBER, AT(delay_ms), 0, 10000},
    {"jitter", "MS", "more delay, evenly distributed", NUMBER, AT(jitter_ms), 0, 10000},
    {"reorder", "F", "fraction held back by --reorder-delay more", FRACTION, AT(reorder), 0, 1},
    {"reorder-delay", "MS", "(15)", NUMBER, AT(reorder_ms), 0.1, 10000},
    {"duplicate", "F", "fraction that comes twice", FRACTION, AT(duplicate), 0, 1},
    {"seed", "N", "of all that is random here (1)", COUNT, AT(seed), 0, 4294967295.0},

    {"Publishers", NULL, NULL, HEADING, 0, 0, 0},
    {"video", "FILE,…", "IVF or H.264 file, one for each layer; or vp8, h264: made by ffmpeg (vp8)",
     TEXT, AT(video), 0, 0},
    {"audio", "FILE", "Ogg file with Opus (made by ffmpeg)", TEXT, AT(audio), 0, 0},
    {"layers", "N", "simulcast layers, if the answer takes them (1)", COUNT, AT(layers), 1, 3},
    {"frame-rate", "F", "of H.264 files (25)", NUMBER, AT(frame_rate), 1, 240},
    {"cache", "DIR", "where made media is kept", TEXT, AT(cache), 0, 0},

    {"capacity", NULL, NULL, HEADING, 0, 0, 0},
    {"protocol", "NAME", "whep or whip (whep)", TEXT, AT(protocol_text), 0, 0},
    {"by-rate", NULL, "search sessions begun each second, each for --stay, not sessions", FLAG,
     AT(by_rate), 0, 0},
    {"min", "N", "smallest load (1)", COUNT, AT(min_load), 1, OPTIONS_SESSIONS_MAX},
    {"max", "N", "largest load (10000)", COUNT, AT(max_load), 1, OPTIONS_SESSIONS_MAX},
    {"width", "F", "how close the two bounds are to come (0.05)", FRACTION, AT(width), 0.001, 1},
    {"trial", "S", "seconds of a trial that decides, once all have joined (10)", NUMBER,
     AT(trial_s), 1, 3600},

    {"What it tells", NULL, NULL, HEADING, 0, 0, 0},
    {"json", NULL, "one JSON object at the end on standard output, and no progress line", FLAG,
     AT(json), 0, 0},
    {"stream", NULL, "with --json: one object each second, too", FLAG, AT(stream), 0, 0},
    {"per-session", NULL, "with --json: every session by itself, too", FLAG, AT(per_session), 0, 0},
    {"report", "FILE.html", "write a page about the run", TEXT, AT(report), 0, 0},
    {"metrics", "PORT", "Prometheus text on this port while it runs", COUNT, AT(metrics_port), 1,
     65535},
    {"metrics-address", "IP", "and on this address (127.0.0.1)", TEXT, AT(metrics_address), 0, 0},
    {"verbose", NULL, "a line for each session that fails", FLAG, AT(verbose), 0, 0},
};
#define SPECS (sizeof(specs) / sizeof(specs[0]))

void options_help(FILE *out)
{
    fputs("Usage: hitless-bees whep|whip URL [OPTION…]\n"
          "       hitless-bees capacity URL --max-loss 0.001 [OPTION…]\n"
          "       hitless-bees watch-failover URL [OPTION…]\n"
          "Loads a WHIP or WHEP server with real WebRTC sessions and says what each would have\n"
          "seen. %d in the URL becomes the stream's number.\n",
          out);
    for (size_t i = 0; i < SPECS; i++) {
        char left[64];
        if (specs[i].kind == HEADING) {
            fprintf(out, "\n%s\n", specs[i].name);
            continue;
        }
        snprintf(left, sizeof(left), "--%s %s", specs[i].name,
                 specs[i].value ? specs[i].value : "");
        fprintf(out, "  %-22s %s\n", left, specs[i].help);
    }
    fputs(
        "\nExit status: 0 it did what was asked and all is in bounds, 1 something failed, 2 wrong\n"
        "command line, 3 an SRTP index was used twice, 130 interrupted.\n",
        out);
}

int options_wrong(FILE *err, const char *what, const char *name)
{
    fprintf(err, "hitless-bees: %s%s (--help says more)\n", what, name);
    return -EINVAL;
}

static int set_number(struct options *o, const struct spec *spec, const char *text, FILE *err)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || errno)
        return options_wrong(err, "no number: --", spec->name);
    if (spec->kind == FRACTION && *end == '%') {
        value /= 100;
        end++;
    }
    if (spec->kind == NUMBER && strcmp(end, "/s") == 0)
        end += 2;
    if (*end != '\0' || !(value >= spec->min && value <= spec->max) ||
        (spec->kind == COUNT && value != (double)(uint32_t)value)) {
        fprintf(err, "hitless-bees: --%s takes %s from %g to %g, not '%s'\n", spec->name,
                spec->kind == COUNT ? "a whole number" : "a number", spec->min, spec->max, text);
        return -EINVAL;
    }
    uint32_t count = (uint32_t)value;
    if (spec->kind == COUNT)
        memcpy((char *)o + spec->offset, &count, sizeof(count));
    else
        memcpy((char *)o + spec->offset, &value, sizeof(value));
    return 0;
}

// One "--name value", "--name=value" or "--flag"; returns the arguments used, or -EINVAL.
static int set_option(struct options *o, char **argv, FILE *err)
{
    const char *name = argv[0] + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    for (size_t i = 0; i < SPECS; i++) {
        const struct spec *spec = &specs[i];
        if (spec->kind == HEADING || strlen(spec->name) != length ||
            strncmp(spec->name, name, length) != 0)
            continue;
        if (spec->kind == FLAG) {
            if (equals)
                return options_wrong(err, "takes no value: --", spec->name);
            *(bool *)((char *)o + spec->offset) = true;
            return 1;
        }
        const char *value = equals ? equals + 1 : argv[1];
        if (value == NULL)
            return options_wrong(err, "needs a value: --", spec->name);
        if (spec->kind == TEXT)
            *(const char **)((char *)o + spec->offset) = value;
        else if (set_number(o, spec, value, err) != 0)
            return -EINVAL;
        return equals ? 1 : 2;
    }
    return options_wrong(err, "unknown option ", argv[0]);
}

// What the report shows: the command line without secrets.
static void copy_line(struct options *o, int argc, char **argv)
{
    size_t used = (size_t)snprintf(o->line, sizeof(o->line), "hitless-bees");
    for (int i = 1; i < argc && used < sizeof(o->line); i++) {
        bool joined = strncmp(argv[i], "--token=", 8) == 0;
        used += (size_t)snprintf(o->line + used, sizeof(o->line) - used, " %s",
                                 joined ? "--token=…" : argv[i]);
        if (strcmp(argv[i], "--token") == 0 && used < sizeof(o->line)) {
            used += (size_t)snprintf(o->line + used, sizeof(o->line) - used, " …");
            i++;
        }
    }
}

static int read_command(struct options *o, const char *name, FILE *err)
{
    if (strcmp(name, "capacity") == 0)
        o->command = COMMAND_CAPACITY;
    else if (strcmp(name, "watch-failover") == 0)
        o->command = COMMAND_WATCH;
    else if ((o->protocol = protocol_named(name)) != NULL)
        return 0;
    else
        return options_wrong(err, "unknown command ", name);
    o->protocol = protocol_named("whep");
    return 0;
}

int options_read(struct options *o, int argc, char **argv, FILE *out, FILE *err)
{
    *o = (struct options){.sessions = 1,
                          .concurrency = 64,
                          .duration = 30,
                          .stay = 10,
                          .join_s = 15,
                          .http_s = 10,
                          .stop_gap_s = 3,
                          .away_ms = 100,
                          .seed = 1,
                          .burst_packets = 4,
                          .layers = 1,
                          .max_loss = -1,
                          .min_load = 1,
                          .max_load = 10000,
                          .width = 0.05,
                          .trial_s = 10};
    int words = 0;
    copy_line(o, argc, argv);
    for (int i = 1; i < argc;) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            options_help(out);
            return 1;
        }
        if (strcmp(argv[i], "--version") == 0) {
            fputs("hitless-bees " HITLESS_VERSION "\n", out);
            return 1;
        }
        if (strncmp(argv[i], "--", 2) == 0) {
            int used = set_option(o, argv + i, err);
            if (used < 0)
                return used;
            i += used;
            continue;
        }
        if (words == 0 && read_command(o, argv[i], err) != 0)
            return -EINVAL;
        if (words == 1)
            o->url = argv[i];
        if (++words > 2)
            return options_wrong(err, "one URL is enough: ", argv[i]);
        i++;
    }
    if (words < 2)
        return options_wrong(err, "a command and a URL are needed", "");
    return options_settle(o, err);
}

int options_url(const struct options *o, uint32_t stream, char url[BEES_URL_MAX])
{
    const char *mark = strstr(o->url, "%d");
    int n = mark == NULL ? snprintf(url, BEES_URL_MAX, "%s", o->url)
                         : snprintf(url, BEES_URL_MAX, "%.*s%u%s", (int)(mark - o->url), o->url,
                                    o->first_stream + stream, mark + 2);
    return n < 0 || n >= BEES_URL_MAX ? -E2BIG : 0;
}
