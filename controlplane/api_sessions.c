// Sessions for operators: the list, and ending one; api.h has the contract.
#include "api_private.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *profile_name(enum srtp_profile profile)
{
    switch (profile) {
    case PROFILE_AES128_CM_SHA1_80:
        return "AES_CM_128_HMAC_SHA1_80";
    case PROFILE_AEAD_AES_128_GCM:
        return "AEAD_AES_128_GCM";
    case PROFILE_AEAD_AES_256_GCM:
        return "AEAD_AES_256_GCM";
    default:
        return NULL;
    }
}

static json_t *address(const struct abi_addr *addr)
{
    char ip[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 10];
    if (addr->family != 4 && addr->family != 6)
        return json_null();
    inet_ntop(addr->family == 4 ? AF_INET : AF_INET6, addr->ip, ip, sizeof(ip));
    snprintf(text, sizeof(text), addr->family == 4 ? "%s:%u" : "[%s]:%u", ip, addr->port);
    return json_string(text);
}

struct session_visit {
    json_t *list;
    const char *stream; // NULL: all
    uint64_t now_ns, matched;
};

static void add_session_stats(json_t *o, const struct stats_session *stats, uint64_t now_ns)
{
    struct abi_addr remote = stats->remote;
    json_object_set_new(o, "remote", address(&remote));
    json_object_set_new(o, "bitrate", api_number(API_LOAD(stats->bitrate)));
    json_object_set_new(o, "packets_in", api_number(API_LOAD(stats->packets_in)));
    json_object_set_new(o, "bytes_in", api_number(API_LOAD(stats->bytes_in)));
    json_object_set_new(o, "packets_out", api_number(API_LOAD(stats->packets_out)));
    json_object_set_new(o, "bytes_out", api_number(API_LOAD(stats->bytes_out)));
    json_object_set_new(o, "lost", api_number(API_LOAD(stats->lost)));
    json_object_set_new(o, "loss_permille", api_number(API_LOAD(stats->loss_permille)));
    json_object_set_new(o, "nacks", api_number(API_LOAD(stats->nacks)));
    json_object_set_new(o, "resent", api_number(API_LOAD(stats->resent)));
    json_object_set_new(o, "plis", api_number(API_LOAD(stats->plis)));
    json_object_set_new(o, "rtt_us", api_number(API_LOAD(stats->rtt_us)));
    json_object_set_new(o, "jitter_us", api_number(API_LOAD(stats->jitter_us)));
    json_object_set_new(o, "silent_ms",
                        api_number(api_age_ms(API_LOAD(stats->last_heard_ns), now_ns)));
}

static void add_session(const struct session_info *info, void *opaque)
{
    struct session_visit *visit = opaque;
    char id[API_SESSION_ID_LEN + 1];
    if (visit->stream != NULL && strcmp(visit->stream, info->stream) != 0)
        return;
    if (++visit->matched > API_SESSIONS_MAX)
        return;
    snprintf(id, sizeof(id), "%s", info->token);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s, s:I, s:I, s:I}", "session", id,
                          "stream", info->stream, "role", api_role_name(info->role), "phase",
                          api_phase_name(info->phase), "profile", profile_name(info->profile),
                          "protection", info->protection, "client", info->client, "worker",
                          (json_int_t)info->worker, "created_ms", (json_int_t)info->created_ms,
                          "age_s", (json_int_t)api_seconds_since(info->created_ms));
    if (o != NULL && info->refusal != NULL)
        json_object_set_new(o, "refusal", json_string(info->refusal));
    if (o != NULL && info->stats != NULL)
        add_session_stats(o, info->stats, visit->now_ns);
    json_array_append_new(visit->list, o);
}

static int compare_sessions(const void *a, const void *b)
{
    int by = strcmp(api_text_of(a, "stream"), api_text_of(b, "stream"));
    if (by == 0)
        by = strcmp(api_text_of(b, "role"), api_text_of(a, "role")); // "publish" before "play"
    if (by == 0) {
        json_int_t x = api_number_of(a, "created_ms"), y = api_number_of(b, "created_ms");
        by = (x > y) - (x < y);
    }
    return by != 0 ? by : strcmp(api_text_of(a, "session"), api_text_of(b, "session"));
}

json_t *api_sessions(struct api *api, const char *stream, uint64_t now_ns)
{
    struct session_visit visit = {.list = json_array(), .stream = stream, .now_ns = now_ns};
    sessions_each(api->sessions, add_session, &visit);
    api_sort(visit.list, compare_sessions);
    json_t *o = api_listed("sessions", visit.list);
    if (visit.matched > API_SESSIONS_MAX)
        json_object_set_new(o, "left_out", api_number(visit.matched - API_SESSIONS_MAX));
    return o;
}

// ---- actions

struct match {
    const char *prefix;
    size_t length;
    char token[SESSION_TOKEN_LEN + 1];
    int found;
};

static void match_session(const struct session_info *info, void *opaque)
{
    struct match *match = opaque;
    if (strncmp(info->token, match->prefix, match->length) != 0)
        return;
    match->found++;
    snprintf(match->token, sizeof(match->token), "%s", info->token);
}

int api_kick(struct api *api, const char *prefix)
{
    struct match match = {.prefix = prefix, .length = strlen(prefix)};
    sessions_each(api->sessions, match_session, &match);
    if (match.found > 1)
        return -ENOTUNIQ;
    struct session *session = match.found == 1 ? session_find(api->sessions, match.token) : NULL;
    if (session == NULL)
        return -ENOENT;
    session_close(session, END_ADMIN);
    return 0;
}
