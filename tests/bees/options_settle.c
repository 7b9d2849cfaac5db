// What the words of a command line come to, once all are read; see options.h.
#include "options_inside.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_RATE 20.0

// Tokens are secrets: not from a report's command line, and not for other users' ps where possible.
static int read_token(struct options *o, FILE *err)
{
    const char *given = o->token ? o->token : getenv("HITLESS_BEES_TOKEN");
    if (o->token_file != NULL) {
        FILE *file = fopen(o->token_file, "re");
        if (file == NULL || fgets(o->token_text, sizeof(o->token_text), file) == NULL) {
            if (file != NULL)
                fclose(file);
            return options_wrong(err, "cannot read a token from ", o->token_file);
        }
        fclose(file);
        o->token_text[strcspn(o->token_text, "\r\n")] = '\0';
    } else if (given != NULL) {
        if (strlen(given) >= sizeof(o->token_text))
            return options_wrong(err, "the token is too long", "");
        strcpy(o->token_text, given);
    }
    for (const char *c = o->token_text; *c; c++)
        if (!isgraph((unsigned char)*c))
            return options_wrong(err, "the token has characters that no bearer token has", "");
    return 0;
}

static int read_codecs(struct options *o, FILE *err)
{
    char list[128];
    const char *given = o->codecs ? o->codecs : "opus,vp8,h264,vp9,av1,h265";
    if (strlen(given) >= sizeof(list))
        return options_wrong(err, "too many codecs", "");
    strcpy(list, given);
    char *save = NULL;
    for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        enum codec codec = offer_codec_named(name);
        if (codec == CODEC_NONE || o->codec_count == sizeof(o->codec))
            return options_wrong(err, "unknown codec ", given);
        o->codec[o->codec_count++] = (uint8_t)codec;
    }
    return 0;
}

static int read_profiles(struct options *o, FILE *err)
{
    static const struct {
        const char *name;
        enum srtp_profile profile;
    } names[] = {{"gcm128", PROFILE_AEAD_AES_128_GCM},
                 {"gcm256", PROFILE_AEAD_AES_256_GCM},
                 {"sha1", PROFILE_AES128_CM_SHA1_80}};
    char list[64] = "", *save = NULL;
    if (o->srtp == NULL)
        return 0;
    snprintf(list, sizeof(list), "%s", o->srtp);
    for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        size_t i = 0;
        while (i < 3 && strcmp(names[i].name, name) != 0)
            i++;
        if (i == 3 || o->profiles == 3)
            return options_wrong(err, "unknown SRTP profile ", o->srtp);
        o->profile[o->profiles++] = names[i].profile;
    }
    return 0;
}

static int read_mode(struct options *o, FILE *err)
{
    static const char *const names[] = {[MODE_STEADY] = "steady",
                                        [MODE_RAMP] = "ramp",
                                        [MODE_CHURN] = "churn",
                                        [MODE_STORM] = "storm",
                                        [MODE_WATCH] = "watch-failover"};
    if (o->mode_text != NULL) {
        int i = 0;
        while (i < MODE_WATCH && strcasecmp(names[i], o->mode_text) != 0)
            i++;
        if (i == MODE_WATCH)
            return options_wrong(err, "unknown mode ", o->mode_text);
        o->mode = (enum mode)i;
    }
    if (o->command == COMMAND_WATCH)
        o->mode = MODE_WATCH;
    o->mode_name = o->command == COMMAND_CAPACITY ? "capacity" : names[o->mode];
    return 0;
}

// A rate that nobody gave lets all sessions begin in time.
static void pace(struct options *o, FILE *err)
{
    if (o->rate == 0) {
        double needed = 3 * o->sessions / o->duration;
        o->rate = needed > DEFAULT_RATE ? needed : DEFAULT_RATE;
    } else if (o->sessions > o->rate * o->duration && o->mode_text == NULL &&
               o->command != COMMAND_CAPACITY) {
        fprintf(err, "hitless-bees: at %g/s not all of %u sessions can begin in %g s\n", o->rate,
                o->sessions, o->duration);
    }
}

int options_settle(struct options *o, FILE *err)
{
    if (strncasecmp(o->url, "http://", 7) != 0 && strncasecmp(o->url, "https://", 8) != 0)
        return options_wrong(err, "no http or https URL: ", o->url);
    if (strlen(o->url) >= BEES_URL_MAX - 16)
        return options_wrong(err, "the URL is too long", "");
    if (o->protocol_text != NULL) {
        if (o->command == COMMAND_RUN || (o->protocol = protocol_named(o->protocol_text)) == NULL)
            return options_wrong(err, "not a protocol here: ", o->protocol_text);
    }
    if (o->no_audio && o->no_video)
        return options_wrong(err, "neither sound nor picture", "");
    if (o->min_load > o->max_load)
        return options_wrong(err, "--min is above --max", "");
    if (o->streams == 0)
        o->streams = o->protocol->role == BEES_WHEP ? 1 : OPTIONS_SESSIONS_MAX;
    pace(o, err);
    o->impair = (struct impair_config){
        .loss = o->drop,
        .duplicate = o->duplicate,
        .reorder = o->reorder,
        .delay_ns = (uint64_t)(o->delay_ms * 1e6),
        .jitter_ns = (uint64_t)(o->jitter_ms * 1e6),
        .reorder_ns = (uint64_t)(o->reorder_ms * 1e6),
        .burst_begin = o->burst,
        .burst_end = 1 / o->burst_packets,
    };
    int rc = read_mode(o, err);
    if (rc == 0)
        rc = read_token(o, err);
    if (rc == 0)
        rc = read_codecs(o, err);
    return rc ? rc : read_profiles(o, err);
}
