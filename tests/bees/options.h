// The command line of hitless-bees. Pure but for a token's file and the environment.
#ifndef HITLESS_BEES_OPTIONS_H
#define HITLESS_BEES_OPTIONS_H

#include "bees.h"
#include "impair.h"
#include "offer.h"
#include <stdio.h>

#define OPTIONS_SESSIONS_MAX 100000
#define OPTIONS_DURATION_MAX 86400
#define OPTIONS_TOKEN_MAX 4096

enum command { COMMAND_RUN, COMMAND_CAPACITY, COMMAND_WATCH };
enum mode { MODE_STEADY, MODE_RAMP, MODE_CHURN, MODE_STORM, MODE_WATCH };

// A protocol that bees speak: one row of the table in options.c. RTSP and RTMP will be rows of it,
// with sessions of their own.
struct protocol {
    const char *name;
    enum bees_role role;
    const char *help;
};
const struct protocol *protocol_named(const char *name); // NULL: none

struct options {
    enum command command;
    const struct protocol *protocol;
    enum mode mode;
    const char *mode_name;
    const char *url;
    char line[1024]; // the command line, without the token

    uint32_t sessions, streams, first_stream, threads, concurrency, metrics_port, seed;
    double rate;     // sessions per second
    double duration; // seconds, joining included
    double stay;     // churn: seconds
    double join_s, http_s, stop_gap_s;
    double away_ms; // watch-failover
    bool json, stream, per_session, headers_only, own_server, insecure, trickle, no_twcc, no_audio,
        no_video, verbose;
    const char *report, *token, *token_file, *ca, *codecs, *srtp, *mode_text, *protocol_text;
    const char *metrics_address;

    double drop, duplicate, reorder, burst;                // fractions
    double delay_ms, jitter_ms, reorder_ms, burst_packets; // burst: mean length
    struct impair_config impair;

    const char *video, *audio, *cache; // publisher: files; video: up to three, comma between
    uint32_t layers;
    double frame_rate;

    double max_loss; // fraction; < 0: not asked
    double max_join_ms;
    bool by_rate; // capacity: search joins per second
    uint32_t min_load, max_load;
    double width, trial_s;

    char token_text[OPTIONS_TOKEN_MAX];
    uint8_t codec[8]; // of `codecs`
    uint8_t codec_count;
    enum srtp_profile profile[3];
    uint8_t profiles;
};

// Reads the command line. Returns 0; 1 when --help or --version was asked for and printed to `out`;
// -EINVAL after a line about what is wrong on `err`.
int options_read(struct options *options, int argc, char **argv, FILE *out, FILE *err);
void options_help(FILE *out);

// The URL of a stream: %d becomes its number. 0, or -E2BIG.
int options_url(const struct options *options, uint32_t stream, char url[BEES_URL_MAX]);

#endif
