// The set of sessions: its tables, a session's way in and out of them, and the operator's view; see
// session_set.h. Runs on the loop.
#include "session_set.h"
#include "config.h"
#include "replicate_wire.h"
#include "secret.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t monotonic_ms(void)
{
    return uv_hrtime() / 1000000;
}

uint64_t session_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int make_tables(struct sessions *set, char *why, size_t why_size)
{
    uint32_t workers = set->abi->workers, each = set->abi->max_sessions;
    uint32_t generation, total = workers * each;
    int rc = secret_random(&generation, sizeof(generation));
    if (rc == 0)
        rc = secret_random(&set->hash_seed, sizeof(set->hash_seed));
    generation = generation >> 1 | 1;
    if (rc == 0)
        rc = slots_new(&set->slots, workers, each, generation);
    if (rc == 0)
        rc = journal_open(&set->journal, set->config->runtime_dir, workers, each,
                          set->abi->max_streams, why, why_size);
    if (rc == 0)
        rc = streams_new(&set->streams, set->abi->max_streams, workers, generation, set->journal,
                         session_send_stream, set);
    if (rc != 0)
        return rc;
    for (set->buckets = 16; set->buckets < total;)
        set->buckets *= 2;
    set->by_slot = calloc(total, sizeof(struct session *));
    set->bucket = calloc(set->buckets, sizeof(struct session *));
    return set->by_slot != NULL && set->bucket != NULL ? 0 : -ENOMEM;
}

int sessions_new(struct sessions **out, uv_loop_t *loop, const struct config *config,
                 struct channel *channel, char *why, size_t why_size)
{
    *out = NULL;
    *why = 0;
    struct sessions *set = calloc(1, sizeof(*set));
    int rc = set == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        set->config = config;
        set->channel = channel;
        set->abi = channel_config(channel);
        set->now_ms = monotonic_ms;
        TAILQ_INIT(&set->open);
        TAILQ_INIT(&set->closing);
        TAILQ_INIT(&set->young);
        rc = make_tables(set, why, why_size);
    }
    if (rc == 0)
        rc = dtls_identity_init(&set->identity, NULL, 0);
    if (rc == 0)
        rc = dtls_fingerprint_parse(&set->fingerprint, "sha-256", set->identity.fingerprint);
    if (rc == 0) {
        sessions_resume(set);
        rc = session_link(set, loop);
    }
    if (rc != 0) {
        if (*why == 0)
            snprintf(why, why_size, "cannot set up sessions: %s", strerror(-rc));
        sessions_free(set);
        return rc;
    }
    *out = set;
    return 0;
}

static void free_session(struct session *s)
{
    dtls_free(s->dtls);
    dtls_wipe(s, sizeof(*s));
    free(s);
}

static void free_list(struct session_list *list)
{
    for (struct session *next, *s = TAILQ_FIRST(list); s != NULL; s = next) {
        next = TAILQ_NEXT(s, all);
        free_session(s);
    }
}

void sessions_free(struct sessions *set)
{
    if (set == NULL)
        return;
    session_unlink(set);
    free_list(&set->open);
    free_list(&set->closing);
    streams_free(set->streams);
    slots_free(set->slots);
    journal_close(set->journal);
    dtls_identity_free(&set->identity);
    free(set->by_slot);
    free(set->bucket);
    free(set);
}

static struct session **bucket_of(struct sessions *set, const char *token)
{
    uint32_t hash = 2166136261u ^ set->hash_seed; // FNV-1a; tokens are random
    for (unsigned i = 0; i < SESSION_TOKEN_LEN; i++)
        hash = (hash ^ (uint8_t)token[i]) * 16777619u;
    return &set->bucket[(hash ^ hash >> 16) & (set->buckets - 1)];
}

struct session *session_find(struct sessions *set, const char *token)
{
    if (strnlen(token, SESSION_TOKEN_LEN + 1) != SESSION_TOKEN_LEN)
        return NULL;
    struct session *s = *bucket_of(set, token);
    while (s != NULL && !secret_equal(s->token, token, SESSION_TOKEN_LEN))
        s = s->next;
    return s;
}

// Without ETag and token; in no table but that of slots.
static struct session *make(struct sessions *set, enum session_role role, uint32_t worker)
{
    struct session *s = calloc(1, sizeof(*s));
    uint64_t id = s != NULL ? slots_take(set->slots, worker) : 0;
    if (id == 0) {
        free(s);
        return NULL;
    }
    *s = (struct session){
        .set = set,
        .id = id,
        .worker = worker,
        .role = role,
        .keys = &journal_session(set->journal, worker, MSG_SLOT(id))->keys,
        .created_clock_ms = session_clock_ms(),
        .since_ms = set->now_ms(),
        .open = {.head = {.type = MSG_SESSION_OPEN, .length = sizeof(s->open), .id = id},
                 .role = (uint8_t)role,
                 .home = (uint8_t)worker},
    };
    return s;
}

struct session *session_new(struct sessions *set, enum session_role role, uint32_t worker,
                            const char *client)
{
    struct session *s = make(set, role, worker);
    if (s == NULL)
        return NULL;
    snprintf(s->client, sizeof(s->client), "%s", client != NULL ? client : "");
    if (session_new_etag(s) != 0 || secret_base32(s->token, SESSION_TOKEN_LEN) != 0) {
        slots_give(set->slots, worker, s->id);
        free(s);
        return NULL;
    }
    session_enter(s);
    TAILQ_INSERT_TAIL(&set->young, s, young);
    return s;
}

struct session *session_adopt(struct sessions *set, enum session_role role, uint32_t worker,
                              const char *token)
{
    struct session *s = make(set, role, worker);
    if (s == NULL)
        return NULL;
    memcpy(s->token, token, SESSION_TOKEN_LEN);
    session_enter(s);
    TAILQ_INSERT_TAIL(&set->young, s, young);
    return s;
}

static void occupy(struct session *s)
{
    s->set->by_slot[s->worker * slots_size(s->set->slots) + MSG_SLOT(s->id)] = s;
}

void session_enter(struct session *s)
{
    struct session **bucket = bucket_of(s->set, s->token);
    s->next = *bucket;
    *bucket = s;
    occupy(s);
    TAILQ_INSERT_TAIL(&s->set->open, s, all);
}

int session_disown(struct sessions *set, uint32_t worker, uint64_t id)
{
    struct session *s = calloc(1, sizeof(*s));
    int rc = s == NULL ? -ENOMEM : slots_reserve(set->slots, worker, id);
    if (rc != 0) {
        free(s);
        return rc;
    }
    *s = (struct session){.set = set, .id = id, .worker = worker, .closed = true};
    occupy(s);
    TAILQ_INSERT_TAIL(&set->closing, s, all);
    session_save_closing(s);
    return 0;
}

int session_new_etag(struct session *s)
{
    char random[13];
    int rc = secret_base32(random, sizeof(random) - 1);
    snprintf(s->etag, sizeof(s->etag), "\"%s\"", random);
    return rc;
}

void session_retire(struct session *s)
{
    struct sessions *set = s->set;
    struct session **at = bucket_of(set, s->token);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (s->keys->head.length == 0)
        TAILQ_REMOVE(&set->young, s, young);
    TAILQ_REMOVE(&set->open, s, all);
    TAILQ_INSERT_TAIL(&set->closing, s, all);
    s->closed = true;
    dtls_free(s->dtls);
    s->dtls = NULL;
    session_save_closing(s); // wipes its keys
    replicate_session_gone(set->replicate, s);
    dtls_wipe(&s->open, sizeof(s->open));
}

void session_destroy(struct session *s)
{
    struct sessions *set = s->set;
    TAILQ_REMOVE(&set->closing, s, all);
    set->by_slot[s->worker * slots_size(set->slots) + MSG_SLOT(s->id)] = NULL;
    slots_give(set->slots, s->worker, s->id);
    session_save_free(s);
    free_session(s);
}

static const char *protection_of(const struct session *s)
{
    if (s->open.group == 0)
        return "none";
    if (!replicate_serves(s->set->replicate, s->open.group))
        return "standby";
    return s->replica.refused ? "refused" : s->replica.confirmed ? "active" : "alone";
}

void sessions_each(struct sessions *set, void (*visit)(const struct session_info *, void *),
                   void *opaque)
{
    struct session *s;
    for (s = TAILQ_FIRST(&set->open); s != NULL; s = TAILQ_NEXT(s, all)) {
        const struct stats_session *stats =
            channel_session_stats(set->channel, s->worker, MSG_SLOT(s->id));
        bool known = stats != NULL && stats_holder(&stats->id) == s->id;
        visit(&(struct session_info){.token = s->token,
                                     .stream = s->stream->name,
                                     .client = s->client,
                                     .role = s->role,
                                     .phase = s->phase,
                                     .profile = s->profile,
                                     .worker = s->worker,
                                     .protection = protection_of(s),
                                     .refusal = wire_refusal_text(s->replica.refused),
                                     .created_ms = s->created_clock_ms,
                                     .stats = known ? stats : NULL},
              opaque);
    }
}

struct stream_visit {
    struct sessions *set;
    void (*visit)(const struct stream_info *, void *);
    void *opaque;
};

static const char *codec_of(const struct stream *stream, enum media_kind kind)
{
    static const char *const names[CODECS] = {
        [CODEC_OPUS] = "Opus",  [CODEC_VP8] = "VP8", [CODEC_VP9] = "VP9",   [CODEC_H264] = "H.264",
        [CODEC_H265] = "H.265", [CODEC_AV1] = "AV1", [CODEC_PCMU] = "PCMU", [CODEC_PCMA] = "PCMA",
    };
    for (unsigned t = 0; t < stream->tracks.count; t++)
        if (stream->tracks.track[t].kind == kind)
            return names[stream->tracks.track[t].codec];
    return NULL;
}

static void visit_stream(struct stream *stream, void *opaque)
{
    const struct stream_visit *v = opaque;
    const struct stats_stream *stats = channel_stream_stats(v->set->channel, MSG_SLOT(stream->id));
    bool known = stats != NULL && stats_holder(&stats->id) == stream->id;
    v->visit(&(struct stream_info){.name = stream->name,
                                   .live = stream->live,
                                   .audio = codec_of(stream, KIND_AUDIO),
                                   .video = codec_of(stream, KIND_VIDEO),
                                   .viewers = stream->viewer_count,
                                   .since_ms = stream->live ? stream->since_ms : 0,
                                   .stats = known ? stats : NULL},
             v->opaque);
}

void streams_each(struct sessions *set, void (*visit)(const struct stream_info *, void *),
                  void *opaque)
{
    struct stream_visit v = {set, visit, opaque};
    streams_visit(set->streams, visit_stream, &v);
}
