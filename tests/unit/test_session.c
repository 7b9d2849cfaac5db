// Sessions from offer to end on a real channel and loop: the test is the dataplane at the channel's
// other end, and the client behind it, with a DTLS stack of its own. Time is virtual, but for the
// channel's heartbeats.
#include "../../controlplane/config.h"
#include "../../controlplane/session_set.h"
#include "../sim/scratch.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t clock_ms = 1000000;
static uint64_t virtual_ms(void)
{
    return clock_ms;
}
// OpenSSL's DTLS timer asks this function; ours stands before libc's.
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    tv->tv_sec = (time_t)(clock_ms / 1000);
    tv->tv_usec = (suseconds_t)(clock_ms % 1000 * 1000);
    return 0;
}

#define LOG 256
#define WORKERS 2
#define SLOTS 6

struct logged {
    uint32_t lane;
    union {
        struct msg_head head;
        struct msg_session_open open;
        struct msg_session_keys keys;
        struct msg_session_ice ice;
        struct msg_stream_open stream;
        struct msg_dtls dtls;
        uint8_t bytes[MSG_MAX];
    };
};

struct client {
    struct fixture *f;
    struct dtls *dtls;
    uint64_t id; // of its session
    uint32_t lane;
    bool deaf;
};

struct fixture {
    char dir[64];
    struct config *config;
    struct channel cp, dp;
    uv_loop_t loop;
    struct sessions *set;
    struct dtls_identity identity; // of all clients
    struct logged log[LOG];
    unsigned count; // messages in log
    bool silent;    // SESSION_CLOSE gets no answer
    struct client client[8];
    unsigned clients;
};

static void copy(char *out, size_t size, const char *text)
{
    assert_true((size_t)snprintf(out, size, "%s", text) < size);
}

static void report(void *opaque, int line, const char *key, const char *reason)
{
}

static void up(struct fixture *f, uint32_t lane, const void *message)
{
    assert_int_equal(msg_check(message), 0);
    assert_int_equal(channel_send(&f->dp, lane, message), 0);
}

static void up_head(struct fixture *f, uint32_t lane, enum msg_type type, uint64_t id)
{
    struct msg_head m = {.type = (uint16_t)type, .length = sizeof(m), .id = id};
    up(f, lane, &m);
}

// What a dataplane does at once with a message from above.
static void serve(struct fixture *f, const struct logged *m)
{
    if (m->head.type == MSG_SESSION_CLOSE && !f->silent)
        up_head(f, m->lane, MSG_SESSION_CLOSED, m->head.id);
    for (unsigned i = 0; m->head.type == MSG_DTLS_SEND && i < f->clients; i++)
        if (f->client[i].id == m->head.id && f->client[i].lane == m->lane &&
            f->client[i].dtls != NULL && !f->client[i].deaf)
            dtls_input(f->client[i].dtls, m->dtls.data, m->dtls.size);
}

// Lets the loop go round until neither side has anything more to say.
static void settle(struct fixture *f)
{
    for (unsigned quiet = 0; quiet < 3; quiet++) {
        channel_beat(&f->dp, uv_hrtime(), true);
        uv_run(&f->loop, UV_RUN_NOWAIT);
        uint64_t invalid = 0;
        for (uint32_t lane = 0; lane <= WORKERS; lane++)
            for (const struct msg_head *m; (m = channel_peek(&f->dp, lane, &invalid)) != NULL;) {
                assert_true(f->count < LOG);
                assert_int_equal(msg_check(m), 0);
                struct logged *l = &f->log[f->count++];
                l->lane = lane;
                memcpy(l->bytes, m, m->length);
                channel_release(&f->dp, lane);
                serve(f, l);
                quiet = 0;
            }
        assert_int_equal(invalid, 0);
    }
}

// Waits for heartbeats until the control plane sees the dataplane as `peer`.
static void await_peer(struct fixture *f, enum channel_peer peer)
{
    uint64_t deadline = uv_hrtime() + 5000000000ull, epoch = 0;
    bool ready = false;
    do {
        if (peer == PEER_ALIVE)
            channel_beat(&f->dp, uv_hrtime(), true);
        uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(uv_hrtime() < deadline);
    } while (dpclient_peer(f->set->dataplane, &epoch, &ready) != peer ||
             (peer == PEER_ALIVE && (!ready || epoch != f->set->epoch)));
}

static void restart_dataplane(struct fixture *f)
{
    char why[256];
    uint64_t old = f->set->epoch;
    if (f->dp.file != NULL)
        channel_close(&f->dp);
    assert_int_equal(channel_open(&f->dp, f->dir, why, sizeof(why)), 0);
    f->count = 0;
    while (f->set->epoch == old)
        await_peer(f, PEER_ALIVE);
}

// The first message of `type` in the log from `from` on; NULL if there is none.
static const struct logged *find_from(struct fixture *f, unsigned from, enum msg_type type)
{
    for (unsigned i = from; i < f->count; i++)
        if (f->log[i].head.type == type)
            return &f->log[i];
    return NULL;
}
static const struct logged *find(struct fixture *f, enum msg_type type)
{
    return find_from(f, 0, type);
}

static void pass(struct fixture *f, uint64_t ms)
{
    for (uint64_t end = clock_ms + ms; clock_ms < end;) {
        clock_ms += end - clock_ms < 500 ? end - clock_ms : 500;
        sessions_sweep(f->set);
        settle(f);
    }
}

// The same while there is no dataplane.
static void pass_alone(struct fixture *f, uint64_t ms)
{
    for (uint64_t end = clock_ms + ms; clock_ms < end; clock_ms += 500) {
        sessions_sweep(f->set);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct abi_config abi;
    char why[256] = "";
    bool changed;
    assert_int_equal(config_load(NULL, &f->config, report, NULL), 0);
    f->config->dataplane.workers = WORKERS;
    f->config->limits.sessions = SLOTS;
    f->config->limits.streams = 3;
    f->config->media.udp_port = 5000;
    f->config->parsed.media4 = (struct abi_addr){.ip = {192, 0, 2, 1}, .family = 4, .port = 5000};
    config_to_abi(f->config, &abi);
    assert_int_equal(scratch_make(f->dir, sizeof(f->dir), "session"), 0);
    free(f->config->runtime_dir);
    f->config->runtime_dir = strdup(f->dir);
    if (channel_create(&f->cp, f->dir, &abi, &changed, why, sizeof(why)) != 0 ||
        channel_open(&f->dp, f->dir, why, sizeof(why)) != 0)
        fail_msg("%s", why);
    uv_loop_init(&f->loop);
    assert_int_equal(sessions_new(&f->set, &f->loop, f->config, &f->cp, why, sizeof(why)), 0);
    f->set->now_ms = virtual_ms;
    uv_timer_stop(f->set->sweep); // the test says when time passes
    assert_int_equal(dtls_identity_init(&f->identity, NULL, 0), 0);
    await_peer(f, PEER_ALIVE);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    static const char *const files[] = {"channel", "bell.controlplane", "bell.dataplane",
                                        JOURNAL_FILE};
    sessions_free(f->set);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0); // every handle was closed
    for (unsigned i = 0; i < f->clients; i++)
        dtls_free(f->client[i].dtls);
    dtls_identity_free(&f->identity);
    channel_close(&f->cp);
    channel_close(&f->dp);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", f->dir, files[i]);
        unlink(path);
    }
    rmdir(f->dir);
    config_free(f->config);
    free(f);
    return 0;
}

#define CLIENT_UFRAG "cufr"
#define CLIENT_PWD "clientpasswordof24chars1"

static const char *offer_text(const struct fixture *f, enum session_role role, const char *setup,
                              const char *codec, const char *fingerprint)
{
    static char text[4096];
    const char *direction = role == ROLE_PUBLISH ? "sendonly" : "recvonly";
    char common[512];
    snprintf(common, sizeof(common),
             "c=IN IP4 0.0.0.0\r\na=ice-ufrag:" CLIENT_UFRAG "\r\na=ice-pwd:" CLIENT_PWD
             "\r\na=fingerprint:sha-256 %s\r\na=setup:%s\r\na=rtcp-mux\r\na=%s\r\n",
             fingerprint != NULL ? fingerprint : f->identity.fingerprint, setup, direction);
    snprintf(text, sizeof(text),
             "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
             "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n%sa=mid:0\r\na=rtpmap:111 opus/48000/2\r\n"
             "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n%sa=mid:1\r\na=rtpmap:96 %s/90000\r\n"
             "a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n"
             "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n",
             common, common, codec);
    return text;
}

static void post(struct fixture *f, enum session_role role, const char *stream, const char *offer,
                 struct session_reply *reply)
{
    session_create(f->set, role, stream, offer, strlen(offer), "192.0.2.77", reply);
    settle(f);
}

static int status_of(struct fixture *f, enum session_role role, const char *stream,
                     const char *offer)
{
    struct session_reply reply;
    post(f, role, stream, offer, &reply);
    if (reply.status != 201) {
        assert_null(reply.body);
        assert_null(reply.session);
        assert_string_not_equal(reply.reason, "");
    }
    free(reply.body);
    return reply.status;
}

static void client_sends(void *opaque, const uint8_t *data, size_t size)
{
    struct client *c = opaque;
    struct msg_dtls m = {.head = {.type = MSG_DTLS_RECEIVED, .length = sizeof(m), .id = c->id},
                         .remote = {.ip = {192, 0, 2, 77}, .family = 4, .port = 40000},
                         .size = (uint16_t)size};
    memcpy(m.data, data, size);
    if (!c->deaf)
        up(c->f, c->lane, &m);
}

static void path(struct fixture *f, const struct session *s)
{
    struct msg_session_path m = {
        .head = {.type = MSG_SESSION_PATH, .length = sizeof(m), .id = s->id},
        .remote = {.ip = {192, 0, 2, 77}, .family = 4, .port = 40000},
        .local = {.ip = {192, 0, 2, 1}, .family = 4, .port = 5000}};
    up(f, 1 + s->worker, &m);
}

static struct client *client_of(struct fixture *f, const struct session *s, enum dtls_role role)
{
    struct client *c = &f->client[f->clients++];
    assert_true(f->clients <= 8);
    *c = (struct client){.f = f, .id = s->id, .lane = 1 + s->worker};
    assert_int_equal(
        dtls_new(&c->dtls, &f->identity, role, &f->set->fingerprint, 1, client_sends, c), 0);
    return c;
}

// A new session, 201; with its client's checks and DTLS done if `connect`.
static struct session *join(struct fixture *f, enum session_role role, const char *stream,
                            bool connect)
{
    struct session_reply reply;
    post(f, role, stream, offer_text(f, role, "actpass", "VP8", NULL), &reply);
    if (reply.status != 201)
        fail_msg("%d %s", reply.status, reply.reason);
    free(reply.body);
    if (connect) {
        struct client *c = client_of(f, reply.session, DTLS_CLIENT);
        path(f, reply.session);
        dtls_start(c->dtls);
        settle(f);
        assert_int_equal(reply.session->phase, PHASE_DTLS);
    }
    return reply.session;
}

static void stream_is(struct fixture *f, const struct session *publisher, enum stream_state state)
{
    struct msg_stream_state m = {
        .head = {.type = MSG_STREAM_STATE, .length = sizeof(m), .id = publisher->stream->id},
        .state = state};
    up(f, 1 + publisher->worker, &m);
    settle(f);
}

static unsigned open_sessions(struct fixture *f)
{
    unsigned n = 0;
    struct session *s;
    for (s = TAILQ_FIRST(&f->set->open); s != NULL; s = TAILQ_NEXT(s, all))
        n++;
    return n;
}

static void assert_keys_match(struct fixture *f, struct client *c)
{
    struct dtls_keys keys;
    const struct logged *m = find(f, MSG_SESSION_KEYS);
    assert_non_null(m);
    assert_int_equal(m->head.id, c->id);
    assert_int_equal(m->lane, c->lane);
    assert_int_equal(dtls_export(c->dtls, &keys), 0);
    assert_int_equal(m->keys.profile, PROFILE_AEAD_AES_128_GCM);
    assert_memory_equal(m->keys.local, keys.remote, MSG_KEY_MAX);
    assert_memory_equal(m->keys.remote, keys.local, MSG_KEY_MAX);
}

static void count_stream(const struct stream_info *info, void *opaque)
{
    *(struct stream_info *)opaque = *info;
}
static void keep_session(const struct session_info *info, void *opaque)
{
    *(struct session_info *)opaque = *info;
}

static void life_of_a_publisher(void **state)
{
    struct fixture *f = *state;
    struct session_reply reply;
    struct stream_info info = {0};
    struct session_info session = {0};
    post(f, ROLE_PUBLISH, "demo", offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL), &reply);
    assert_int_equal(reply.status, 201);
    struct session *s = reply.session;
    assert_int_equal(strlen(session_token(s)), SESSION_TOKEN_LEN);
    assert_ptr_equal(session_find(f->set, session_token(s)), s);
    assert_string_equal(session_stream(s), "demo");

    // The dataplane hears of the stream first; the answer has its port, and our credentials.
    assert_int_equal(f->log[0].head.type, MSG_STREAM_OPEN);
    assert_int_equal(f->log[1].head.type, MSG_STREAM_FORWARD);
    const struct logged *open = &f->log[2];
    assert_int_equal(open->head.type, MSG_SESSION_OPEN);
    assert_int_equal(open->lane, 1);
    assert_int_equal(open->open.role, ROLE_PUBLISH);
    assert_int_equal(open->open.stream, f->log[0].head.id);
    assert_int_equal(open->open.tracks, 2);
    assert_int_equal(open->open.ice.remote_ufrag_len, strlen(CLIENT_UFRAG));
    assert_memory_equal(open->open.ice.remote_pwd, CLIENT_PWD, strlen(CLIENT_PWD));
    char line[64];
    snprintf(line, sizeof(line), "a=ice-ufrag:%.*s\r\n", MSG_UFRAG_LEN, open->open.ice.ufrag);
    assert_non_null(strstr(reply.body, line));
    snprintf(line, sizeof(line), "a=ice-pwd:%.*s\r\n", MSG_PWD_LEN, open->open.ice.pwd);
    assert_non_null(strstr(reply.body, line));
    assert_non_null(strstr(reply.body, f->set->identity.fingerprint));
    assert_non_null(strstr(reply.body, "192.0.2.1 5000 typ host"));
    assert_non_null(strstr(reply.body, "a=setup:passive"));
    free(reply.body);

    struct client *c = client_of(f, s, DTLS_CLIENT);
    assert_int_equal(s->phase, PHASE_NEW);
    path(f, s);
    settle(f);
    assert_int_equal(s->phase, PHASE_CHECKED);
    assert_null(find(f, MSG_DTLS_SEND));
    dtls_start(c->dtls);
    settle(f);
    assert_keys_match(f, c);
    up_head(f, 1, MSG_SESSION_MEDIA, s->id);
    stream_is(f, s, STREAM_LIVE);
    streams_each(f->set, count_stream, &info);
    assert_true(info.live);
    assert_string_equal(info.name, "demo");
    assert_string_equal(info.audio, "Opus");
    assert_string_equal(info.video, "VP8");
    sessions_each(f->set, keep_session, &session);
    assert_int_equal(session.phase, PHASE_MEDIA);
    assert_int_equal(session.profile, PROFILE_AEAD_AES_128_GCM);
    assert_string_equal(session.client, "192.0.2.77");
    assert_null(session.stats);

    char token[SESSION_TOKEN_LEN + 1];
    copy(token, sizeof(token), session_token(s));
    unsigned from = f->count;
    session_close(s, END_DELETED);
    assert_null(session_find(f->set, token));
    settle(f);
    assert_int_equal(dtls_state(c->dtls), DTLS_CLOSED); // close_notify came
    assert_int_equal(f->log[from].head.type, MSG_DTLS_SEND);
    assert_int_equal(f->log[from + 1].head.type, MSG_SESSION_CLOSE);
    assert_int_equal(f->log[from + 2].head.type, MSG_STREAM_CLOSE);
    assert_int_equal(slots_used(f->set->slots, 0), 0);
}

static void dtls_client_retransmits(void **state)
{
    struct fixture *f = *state;
    struct session_reply reply; // FFmpeg offers setup:passive
    post(f, ROLE_PUBLISH, "a", offer_text(f, ROLE_PUBLISH, "passive", "VP8", NULL), &reply);
    assert_int_equal(reply.status, 201);
    assert_non_null(strstr(reply.body, "a=setup:active"));
    free(reply.body);
    struct client *c = client_of(f, reply.session, DTLS_SERVER);
    pass(f, 1000);
    assert_null(find(f, MSG_DTLS_SEND)); // no address yet
    c->deaf = true;
    path(f, reply.session);
    settle(f);
    assert_non_null(find(f, MSG_DTLS_SEND));
    unsigned from = f->count;
    c->deaf = false;
    pass(f, 500); // the first ClientHello was lost, the second comes through
    assert_non_null(find_from(f, from, MSG_DTLS_SEND));
    assert_keys_match(f, c);
}

// An offer whose audio carries the audio level as header extension `id`.
static const char *offer_with_level(struct fixture *f, enum session_role role, unsigned id)
{
    static char text[4608];
    const char *offer = offer_text(f, role, "actpass", "VP8", NULL);
    const char *video = strstr(offer, "m=video");
    snprintf(text, sizeof(text),
             "%.*sa=extmap:%u urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n%s",
             (int)(video - offer), offer, id, video);
    return text;
}

// The number under which a new viewer that offers `id` gets the audio level; 0: not at all.
static unsigned level_of(struct fixture *f, unsigned id)
{
    struct session_reply reply;
    post(f, ROLE_PLAY, "demo", offer_with_level(f, ROLE_PLAY, id), &reply);
    assert_int_equal(reply.status, 201);
    unsigned given = reply.session->open.track[0].hdrext[HDREXT_AUDIO_LEVEL];
    char line[64];
    snprintf(line, sizeof(line), "a=extmap:%u ", given);
    assert_true((strstr(reply.body, given ? line : "a=extmap:") != NULL) == (given != 0));
    free(reply.body);
    return given;
}

static void numberings(void **state)
{
    struct fixture *f = *state;
    struct session_reply reply;
    post(f, ROLE_PUBLISH, "demo", offer_with_level(f, ROLE_PUBLISH, 3), &reply);
    assert_int_equal(reply.status, 201);
    free(reply.body);
    struct session *p = reply.session;
    struct client *c = client_of(f, p, DTLS_CLIENT);
    path(f, p);
    dtls_start(c->dtls);
    settle(f);
    stream_is(f, p, STREAM_LIVE);
    for (unsigned id = 1; id <= 8; id++)
        assert_int_equal(level_of(f, id), id);
    assert_int_equal(level_of(f, 9), 0);
    assert_int_equal(level_of(f, 4), 4);
}

static void viewers(void **state)
{
    struct fixture *f = *state;
    struct session_reply reply;
    const char *offer = offer_text(f, ROLE_PLAY, "actpass", "VP8", NULL);
    post(f, ROLE_PLAY, "demo", offer, &reply);
    assert_int_equal(reply.status, 409);
    assert_true(reply.retry_after_s > 0);
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    assert_int_equal(
        status_of(f, ROLE_PLAY, "demo", offer_text(f, ROLE_PLAY, "actpass", "VP8", NULL)),
        409); // connected, but no packets yet
    stream_is(f, p, STREAM_LIVE);

    unsigned from = f->count;
    struct session *v = join(f, ROLE_PLAY, "demo", true);
    const struct logged *open = find_from(f, from, MSG_SESSION_OPEN);
    assert_int_equal(open->lane, 1 + p->worker); // beside its publisher
    assert_int_equal(open->open.role, ROLE_PLAY);
    assert_int_equal(open->open.stream, p->stream->id);
    const struct msg_track *t = open->open.track;
    assert_int_equal(open->open.tracks, 2);
    assert_true(t[0].layer[0].ssrc != 0 && t[1].layer[0].ssrc != 0 && t[1].layer[0].rtx_ssrc != 0);
    assert_true(t[0].layer[0].ssrc != t[1].layer[0].ssrc);
    assert_int_equal(
        status_of(f, ROLE_PLAY, "demo", offer_text(f, ROLE_PLAY, "actpass", "H264", NULL)),
        201); // audio alone is better than nothing
    assert_int_equal(p->stream->viewer_count, 2);

    for (unsigned i = 3; i < SLOTS; i++)
        join(f, ROLE_PLAY, "demo", false);
    // Worker 0 is full: the next viewer goes elsewhere, and the stream with it.
    from = f->count;
    struct session *far = join(f, ROLE_PLAY, "demo", false);
    assert_int_equal(far->worker, 1);
    assert_int_equal(f->log[from].head.type, MSG_STREAM_FORWARD); // lane 1 is read before lane 2
    assert_int_equal(f->log[from].lane, 1);
    assert_int_equal(f->log[from + 1].head.type, MSG_STREAM_OPEN);
    assert_int_equal(f->log[from + 1].lane, 2);
    assert_int_equal(f->log[from + 2].head.type, MSG_SESSION_OPEN);
    assert_int_equal(v->worker, 0);
}

static void publisher_returns(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    stream_is(f, p, STREAM_LIVE);
    struct session *v = join(f, ROLE_PLAY, "demo", true);
    uint64_t stream = p->stream->id;
    session_close(p, END_DELETED);
    pass(f, f->config->session.stream_linger_ms - 1000);
    assert_int_equal(open_sessions(f), 1);
    assert_int_equal(
        status_of(f, ROLE_PLAY, "demo", offer_text(f, ROLE_PLAY, "actpass", "VP8", NULL)), 409);
    unsigned from = f->count;
    p = join(f, ROLE_PUBLISH, "demo", true);
    assert_int_equal(p->stream->id, stream);
    assert_int_equal(find_from(f, from, MSG_STREAM_OPEN)->head.id, stream);
    assert_ptr_equal(v->stream, p->stream);
    stream_is(f, p, STREAM_LIVE);
    pass(f, 2 * f->config->session.stream_linger_ms);
    assert_int_equal(open_sessions(f), 2);

    // Gone for good: the viewer is told, and the name is free.
    session_close(p, END_DELETED);
    pass(f, f->config->session.stream_linger_ms + 500);
    assert_int_equal(open_sessions(f), 0);
    assert_int_equal(dtls_state(f->client[1].dtls), DTLS_CLOSED);
    assert_null(streams_find(f->set->streams, "demo"));
}

static void other_codecs_end_viewers(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    stream_is(f, p, STREAM_LIVE);
    join(f, ROLE_PLAY, "demo", true);
    uint64_t stream = p->stream->id;
    session_close(p, END_DELETED);
    settle(f);
    struct session_reply reply;
    post(f, ROLE_PUBLISH, "demo", offer_text(f, ROLE_PUBLISH, "actpass", "VP9", NULL), &reply);
    assert_int_equal(reply.status, 201);
    free(reply.body);
    assert_int_equal(open_sessions(f), 1);
    assert_int_not_equal(reply.session->stream->id, stream);
}

static void busy_name(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    const char *offer = offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL);
    assert_int_equal(status_of(f, ROLE_PUBLISH, "demo", offer), 409);
    stream_is(f, p, STREAM_LIVE);
    assert_int_equal(status_of(f, ROLE_PUBLISH, "demo", offer), 409);
    stream_is(f, p, STREAM_IDLE); // it fell silent: its successor need not wait
    assert_int_equal(status_of(f, ROLE_PUBLISH, "demo", "nonsense"), 400);
    assert_int_equal(open_sessions(f), 1);
    struct session *next = join(f, ROLE_PUBLISH, "demo", false);
    assert_int_equal(open_sessions(f), 1);
    assert_ptr_equal(next->stream->publisher, next);
    assert_int_equal(
        status_of(f, ROLE_PUBLISH, "demo", offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL)),
        409);
}

static void bad_requests(void **state)
{
    struct fixture *f = *state;
    char good[4096];
    copy(good, sizeof(good), offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL));
    struct session *p = join(f, ROLE_PUBLISH, "live", true);
    stream_is(f, p, STREAM_LIVE);
    const struct {
        const char *stream, *offer;
        enum session_role role;
        int status;
    } rows[] = {
        {"a", "", ROLE_PUBLISH, 400},
        {"a", "\x16\xfe\xfd", ROLE_PUBLISH, 400},
        {"a b", good, ROLE_PUBLISH, 400},
        {"", good, ROLE_PUBLISH, 400},
        {"a", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", ROLE_PUBLISH, 422},
        {"nobody", "", ROLE_PLAY, 409},
        {"live", "v=0\r\n", ROLE_PLAY, 400},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(status_of(f, rows[i].role, rows[i].stream, rows[i].offer), rows[i].status);
    assert_int_equal(open_sessions(f), 1);
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 1);
    assert_null(streams_find(f->set->streams, "a"));
}

static void admission(void **state)
{
    struct fixture *f = *state;
    char offer[4096];
    copy(offer, sizeof(offer), offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL));
    struct session_reply reply;

    for (int mode = ABI_MODE_CLOSED; mode <= ABI_MODE_DRAIN; mode++) {
        channel_set_mode(&f->cp, (enum abi_mode)mode);
        post(f, ROLE_PUBLISH, "a", offer, &reply);
        assert_int_equal(reply.status, 503);
        assert_true(reply.retry_after_s > 0);
    }
    channel_set_mode(&f->cp, ABI_MODE_NORMAL);

    struct stats_worker *w[WORKERS];
    for (uint32_t i = 0; i < WORKERS; i++) {
        w[i] = channel_worker_stats(&f->dp, i);
        w[i]->tx_size = 1000;
        w[i]->tx_free = 199;
    }
    assert_int_equal(status_of(f, ROLE_PUBLISH, "a", offer), 503);
    w[1]->tx_free = 200;
    struct session *s = join(f, ROLE_PUBLISH, "a", false);
    assert_int_equal(s->worker, 1);
    w[0]->tx_free = 1000;

    struct session *b = join(f, ROLE_PUBLISH, "b", false);
    assert_int_equal(b->worker, 0);
    join(f, ROLE_PUBLISH, "c", false);
    assert_int_equal(status_of(f, ROLE_PUBLISH, "d", offer), 503); // limits.streams
    stream_is(f, b, STREAM_LIVE);
    for (unsigned i = 3; i < SLOTS * WORKERS; i++)
        join(f, ROLE_PLAY, "b", false);
    post(f, ROLE_PLAY, "b", offer_text(f, ROLE_PLAY, "actpass", "VP8", NULL), &reply);
    assert_int_equal(reply.status, 503); // limits.sessions
    assert_true(reply.retry_after_s > 0);

    // A dataplane that has ended, or has not said that it is ready, takes nobody.
    channel_close(&f->dp);
    await_peer(f, PEER_ABSENT);
    session_create(f->set, ROLE_PUBLISH, "z", offer, strlen(offer), "", &reply);
    assert_int_equal(reply.status, 503);
}

static const char *fragment(const char *ufrag, const char *pwd)
{
    static char text[512];
    snprintf(text, sizeof(text),
             "a=ice-ufrag:%s\r\na=ice-pwd:%s\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
             "a=candidate:1 1 udp 2113937151 192.0.2.77 40000 typ host\r\n"
             "a=end-of-candidates\r\n",
             ufrag, pwd);
    return text;
}

static int patch(struct session *s, const char *text, const char *if_match)
{
    struct session_reply reply;
    session_patch(s, text, strlen(text), if_match, &reply);
    assert_true((reply.body != NULL) == (reply.status == 200));
    free(reply.body);
    return reply.status;
}

static void trickle_and_restart(void **state)
{
    struct fixture *f = *state;
    struct session *s = join(f, ROLE_PUBLISH, "demo", true);
    char old[32], list[64];
    copy(old, sizeof(old), session_etag(s));
    snprintf(list, sizeof(list), "\"other\", %s", old);

    assert_int_equal(patch(s, fragment(CLIENT_UFRAG, CLIENT_PWD), NULL), 204);
    assert_int_equal(patch(s, fragment(CLIENT_UFRAG, CLIENT_PWD), old), 204);
    assert_int_equal(patch(s, fragment(CLIENT_UFRAG, CLIENT_PWD), list), 204);
    assert_int_equal(patch(s, fragment(CLIENT_UFRAG, CLIENT_PWD), "\"other\""), 412);
    assert_int_equal(patch(s, "\x01\x02", NULL), 400);

    const char *pwd2 = "anotherpasswordofclient2";
    assert_int_equal(patch(s, fragment("newufrag", pwd2), NULL), 428);
    assert_int_equal(patch(s, fragment("newufrag", pwd2), ""), 428);
    assert_int_equal(patch(s, fragment("newufrag", pwd2), "W/\"x\""), 412);
    assert_string_equal(session_etag(s), old);
    settle(f);
    assert_null(find(f, MSG_SESSION_ICE));

    struct session_reply reply;
    struct msg_ice before = s->open.ice;
    session_patch(s, fragment("newufrag", pwd2), strlen(fragment("newufrag", pwd2)), old, &reply);
    assert_int_equal(reply.status, 200);
    settle(f);
    const struct logged *m = find(f, MSG_SESSION_ICE);
    assert_non_null(m);
    assert_int_equal(m->head.id, s->id);
    assert_memory_equal(m->ice.ice.remote_ufrag, "newufrag", 8);
    assert_memory_not_equal(m->ice.ice.ufrag, before.ufrag, MSG_UFRAG_LEN);
    assert_memory_not_equal(m->ice.ice.pwd, before.pwd, MSG_PWD_LEN);
    char line[64];
    snprintf(line, sizeof(line), "a=ice-pwd:%.*s\r\n", MSG_PWD_LEN, m->ice.ice.pwd);
    assert_non_null(strstr(reply.body, line));
    free(reply.body);
    assert_string_not_equal(session_etag(s), old);
    assert_int_equal(s->phase, PHASE_DTLS); // DTLS and media go on

    assert_int_equal(patch(s, fragment("newufrag", pwd2), old), 412);
    assert_int_equal(patch(s, fragment("newufrag", pwd2), NULL), 204);
    assert_int_equal(patch(s, fragment("third", pwd2), "*"), 200);
    assert_int_equal(patch(s, fragment("fourth", pwd2), "\"*\""), 200);
}

static void setup_deadlines(void **state)
{
    struct fixture *f = *state;
    uint32_t limit = f->config->session.setup_timeout_ms;
    join(f, ROLE_PUBLISH, "unchecked", false);
    struct session *checked = join(f, ROLE_PUBLISH, "checked", false);
    struct session *done = join(f, ROLE_PUBLISH, "done", true);
    path(f, checked);
    settle(f);
    pass(f, limit / 2 - 500);
    assert_int_equal(open_sessions(f), 3);
    pass(f, 500);
    assert_int_equal(open_sessions(f), 2);
    pass(f, limit / 2 - 500);
    assert_int_equal(open_sessions(f), 2);
    pass(f, 500);
    assert_int_equal(open_sessions(f), 1);
    pass(f, 10 * limit);
    assert_ptr_equal(TAILQ_FIRST(&f->set->open), done);
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 1);
}

static void slots_wait_for_the_dataplane(void **state)
{
    struct fixture *f = *state;
    struct session *s[SLOTS * WORKERS];
    struct session *p = s[0] = join(f, ROLE_PUBLISH, "a", false);
    stream_is(f, p, STREAM_LIVE);
    for (unsigned i = 1; i < SLOTS * WORKERS; i++)
        s[i] = join(f, ROLE_PLAY, "a", false);
    uint64_t id = s[1]->id;
    f->silent = true;
    session_close(s[1], END_DELETED);
    settle(f);
    char *offer = strdup(offer_text(f, ROLE_PLAY, "actpass", "VP8", NULL));
    assert_int_equal(status_of(f, ROLE_PLAY, "a", offer), 503);
    unsigned from = f->count;
    pass(f, SESSION_CLOSE_AGAIN_MS + 500);
    assert_int_equal(find_from(f, from, MSG_SESSION_CLOSE)->head.id, id);
    assert_int_equal(status_of(f, ROLE_PLAY, "a", offer), 503);
    up_head(f, 1, MSG_SESSION_CLOSED, id + (1ull << 32)); // not that one
    up_head(f, 2, MSG_SESSION_CLOSED, id);                // nor from there
    settle(f);
    assert_int_equal(status_of(f, ROLE_PLAY, "a", offer), 503);
    up_head(f, 1, MSG_SESSION_CLOSED, id);
    settle(f);
    struct session *again = join(f, ROLE_PLAY, "a", false);
    assert_int_equal(MSG_SLOT(again->id), MSG_SLOT(id));
    assert_int_not_equal(MSG_GENERATION(again->id), MSG_GENERATION(id));
    free(offer);
}

static void wrong_fingerprint(void **state)
{
    struct fixture *f = *state;
    struct session_reply reply;
    post(f, ROLE_PUBLISH, "a",
         offer_text(f, ROLE_PUBLISH, "actpass", "VP8", f->set->identity.fingerprint), &reply);
    assert_int_equal(reply.status, 201);
    free(reply.body);
    struct client *c = client_of(f, reply.session, DTLS_CLIENT);
    path(f, reply.session);
    dtls_start(c->dtls);
    settle(f);
    assert_int_equal(open_sessions(f), 0);
    assert_int_equal(dtls_failure(c->dtls), DTLS_FAILURE_ALERT);
    assert_null(find(f, MSG_SESSION_KEYS));
    assert_non_null(find(f, MSG_SESSION_CLOSE));
}

static void client_leaves(void **state)
{
    struct fixture *f = *state;
    join(f, ROLE_PUBLISH, "a", true);
    dtls_close(f->client[0].dtls);
    settle(f);
    assert_int_equal(open_sessions(f), 0);
    assert_non_null(find(f, MSG_SESSION_CLOSE));
    assert_int_equal(slots_used(f->set->slots, 0), 0);
}

static void dataplane_ends_sessions(void **state)
{
    struct fixture *f = *state;
    for (uint32_t reason = DEAD_TIMEOUT; reason <= DEAD_JUMP; reason++) {
        struct session *s = join(f, ROLE_PUBLISH, "a", false);
        struct msg_session_dead m = {
            .head = {.type = MSG_SESSION_DEAD, .length = sizeof(m), .id = s->id}, .reason = reason};
        up(f, 1 + s->worker, &m);
        up(f, 1 + s->worker, &m);
        settle(f);
        assert_int_equal(open_sessions(f), 0);
        assert_int_equal(slots_used(f->set->slots, 0), 0);
    }
}

static void stray_messages(void **state)
{
    struct fixture *f = *state;
    struct session *s = join(f, ROLE_PUBLISH, "a", false);
    const uint64_t ids[] = {s->id + (1ull << 32), s->id + 1, s->id | 0xffff, 1};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        for (uint32_t lane = 0; lane <= WORKERS; lane++) {
            struct msg_session_dead dead = {
                .head = {.type = MSG_SESSION_DEAD, .length = sizeof(dead), .id = ids[i]},
                .reason = DEAD_TIMEOUT};
            struct msg_stream_state live = {
                .head = {.type = MSG_STREAM_STATE, .length = sizeof(live), .id = ids[i]},
                .state = STREAM_LIVE};
            up(f, lane, &dead);
            up(f, lane, &live);
            up_head(f, lane, MSG_SESSION_CLOSED, ids[i]);
            up_head(f, lane, MSG_SESSION_MEDIA, ids[i]);
            settle(f);
        }
    up_head(f, 1, MSG_SESSION_CLOSED, s->id); // open: nobody asked
    up_head(f, 1, MSG_SESSION_MEDIA, s->id);  // and it has no keys yet
    settle(f);
    assert_int_equal(open_sessions(f), 1);
    assert_int_equal(s->phase, PHASE_NEW);
    assert_false(s->stream->live && s->stream->id != ids[3]);
}

static void tokens(void **state)
{
    struct fixture *f = *state;
    struct session *s = join(f, ROLE_PUBLISH, "a", false);
    char token[SESSION_TOKEN_LEN + 8];
    copy(token, sizeof(token), session_token(s));
    assert_null(session_find(f->set, ""));
    for (unsigned i = 0; i < SESSION_TOKEN_LEN; i++) {
        token[i] ^= 1;
        assert_null(session_find(f->set, token));
        token[i] ^= 1;
    }
    copy(token + SESSION_TOKEN_LEN, sizeof(token) - SESSION_TOKEN_LEN, "a");
    assert_null(session_find(f->set, token));
    token[SESSION_TOKEN_LEN - 1] = 0;
    assert_null(session_find(f->set, token));
}

// The same session, marked as one that had keys.
static void assert_same_open_again(const void *message, const void *before)
{
    struct msg_session_open expected;
    memcpy(&expected, before, sizeof(expected));
    expected.again = 1;
    assert_memory_equal(message, &expected, sizeof(expected));
}

static void dataplane_restarts(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    stream_is(f, p, STREAM_LIVE);
    struct session *v = join(f, ROLE_PLAY, "demo", true),
                   *closing = join(f, ROLE_PLAY, "demo", false);
    struct session *young = join(f, ROLE_PUBLISH, "young", false);
    assert_int_equal(patch(v, fragment("newufrag", CLIENT_PWD), "*"), 200);
    settle(f);
    uint64_t closed = closing->id;
    f->silent = true;
    session_close(closing, END_DELETED);
    settle(f);
    struct logged open[2], keys[2];
    const uint64_t ids[] = {p->id, v->id}; // unique on one worker only
    const uint32_t lane = 1 + p->worker;
    assert_int_equal(v->worker, p->worker);
    for (unsigned i = 0; i < f->count; i++)
        for (unsigned k = 0; k < 2; k++) {
            if (f->log[i].lane == lane && f->log[i].head.id == ids[k] &&
                f->log[i].head.type == MSG_SESSION_OPEN)
                open[k] = f->log[i];
            if (f->log[i].lane == lane && f->log[i].head.id == ids[k] &&
                f->log[i].head.type == MSG_SESSION_KEYS)
                keys[k] = f->log[i];
        }
    open[1].open.ice = v->open.ice; // as it is since the ICE restart

    restart_dataplane(f);
    settle(f);
    unsigned opens = 0, again = 0, keyed = 0, streams = 0;
    for (unsigned i = 0; i < f->count; i++) {
        const struct logged *m = &f->log[i];
        if (m->head.type == MSG_SESSION_OPEN)
            again += m->open.again;
        opens += m->head.type == MSG_SESSION_OPEN;
        keyed += m->head.type == MSG_SESSION_KEYS;
        streams += m->head.type == MSG_STREAM_OPEN;
        for (unsigned k = 0; k < 2; k++) {
            if (m->lane == lane && m->head.id == ids[k] && m->head.type == MSG_SESSION_OPEN)
                assert_same_open_again(m->bytes, open[k].bytes);
            if (m->lane == lane && m->head.id == ids[k] && m->head.type == MSG_SESSION_KEYS)
                assert_memory_equal(m->bytes, keys[k].bytes, m->head.length);
        }
        assert_true(m->head.type != MSG_SESSION_CLOSE || m->head.id == closed);
        assert_true(m->head.type != MSG_STREAM_CLOSE && m->head.id != 0);
    }
    assert_int_equal(opens, 3);
    assert_int_equal(again, 2); // the young one has no keys yet
    assert_int_equal(keyed, 2);
    assert_int_equal(streams, 2);
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 4);
    assert_non_null(find(f, MSG_SESSION_CLOSE)); // it may have been on its way
    up_head(f, lane, MSG_SESSION_CLOSED, closed);
    settle(f);
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 3);

    // Nobody has noticed: the young session goes on with its handshake, and its keys are news to
    // the dataplane. The next one is told that it had them.
    struct client *c = client_of(f, young, DTLS_CLIENT);
    unsigned from = f->count;
    path(f, young);
    dtls_start(c->dtls);
    settle(f);
    assert_int_equal(young->phase, PHASE_DTLS);
    assert_int_equal(find_from(f, from, MSG_SESSION_KEYS)->head.id, young->id);
    restart_dataplane(f);
    settle(f);
    for (unsigned i = 0; i < f->count; i++)
        if (f->log[i].head.type == MSG_SESSION_OPEN)
            assert_int_equal(f->log[i].open.again, 1);
}

// Fills worker 0's ring, and the queue before it, with messages of no consequence.
static void fill_lane(struct fixture *f)
{
    struct msg_session_close filler = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(filler), .id = 1ull << 32 | 99}};
    while (session_send(f->set, 1, &filler) == 0)
        ;
}

static void empty_lane(struct fixture *f)
{
    uint64_t invalid = 0, deadline = uv_hrtime() + 5000000000ull;
    for (unsigned quiet = 0; quiet < 5; quiet++) {
        assert_true(uv_hrtime() < deadline);
        while (channel_peek(&f->dp, 1, &invalid) != NULL) {
            channel_release(&f->dp, 1);
            quiet = 0;
        }
        channel_beat(&f->dp, uv_hrtime(), true);
        uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static void full_channel(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "a", false), *q = join(f, ROLE_PUBLISH, "b", false);
    assert_int_equal(p->worker, 0);
    assert_int_equal(q->worker, 1);
    char offer[4096];
    copy(offer, sizeof(offer), offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL));
    struct session_reply reply;
    fill_lane(f);
    session_create(f->set, ROLE_PUBLISH, "c", offer, strlen(offer), "", &reply);
    assert_int_equal(reply.status, 503); // nothing of it is left
    assert_int_equal(open_sessions(f), 2);
    assert_int_equal(slots_used(f->set->slots, 0), 1);
    assert_null(streams_find(f->set->streams, "c"));
    assert_int_equal(patch(p, fragment("newufrag", "anotherpasswordofclient2"), "*"), 503);
    assert_memory_equal(p->open.ice.remote_ufrag, CLIENT_UFRAG, strlen(CLIENT_UFRAG));

    // What an open or closing session owes the dataplane goes out when there is room.
    uint64_t other = q->id, owed = p->id;
    p->tell_open = f->set->behind = true;
    sessions_sweep(f->set);
    assert_true(p->tell_open && f->set->behind);
    empty_lane(f);
    f->count = 0;
    sessions_sweep(f->set);
    assert_false(p->tell_open || f->set->behind);
    settle(f);
    assert_int_equal(find(f, MSG_SESSION_OPEN)->head.id, owed);

    fill_lane(f);
    session_close(p, END_DELETED);
    empty_lane(f);
    f->count = 0;
    pass(f, SESSION_CLOSE_AGAIN_MS + 500);
    assert_int_equal(find(f, MSG_SESSION_CLOSE)->head.id, owed);
    assert_int_equal(streams_sync(f->set->streams), 0);
    assert_int_equal(slots_used(f->set->slots, 0), 0);
    assert_ptr_equal(TAILQ_FIRST(&f->set->open), q);
    assert_int_equal(q->id, other);
}

// The process is killed and the next one starts: nothing is said on the way out.
static void restart_control_plane(struct fixture *f)
{
    char why[256] = "";
    sessions_free(f->set);
    if (sessions_new(&f->set, &f->loop, f->config, &f->cp, why, sizeof(why)) != 0)
        fail_msg("%s", why);
    f->set->now_ms = virtual_ms;
    uv_timer_stop(f->set->sweep);
    f->count = 0;
    await_peer(f, PEER_ALIVE);
    settle(f);
}

static struct session *find_again(struct fixture *f, const char *token)
{
    struct session *s = session_find(f->set, token);
    assert_non_null(s);
    return s;
}

struct remembered {
    char token[SESSION_TOKEN_LEN + 1], etag[16];
    uint64_t id;
    uint32_t worker;
    struct msg_session_open open;
    struct msg_session_keys keys;
};

static struct remembered remember(const struct session *s)
{
    struct remembered r = {.id = s->id, .worker = s->worker, .open = s->open, .keys = *s->keys};
    copy(r.token, sizeof(r.token), session_token(s));
    copy(r.etag, sizeof(r.etag), session_etag(s));
    return r;
}

// Nothing that the dataplane was told from `from` on takes anything away that it has.
static void assert_undisturbed(struct fixture *f, const struct remembered *r)
{
    bool open = false, keys = false, ice = false;
    for (unsigned i = 0; i < f->count; i++) {
        const struct logged *m = &f->log[i];
        assert_true(m->head.type != MSG_SESSION_CLOSE && m->head.type != MSG_STREAM_CLOSE);
        if (m->lane != 1 + r->worker || m->head.id != r->id)
            continue;
        if (m->head.type == MSG_SESSION_OPEN) {
            open = true;
            assert_same_open_again(m->bytes, &r->open);
        } else if (m->head.type == MSG_SESSION_KEYS) {
            keys = true;
            assert_memory_equal(m->bytes, &r->keys, sizeof(r->keys));
        } else if (m->head.type == MSG_SESSION_ICE) {
            ice = true;
            assert_memory_equal(&m->ice.ice, &r->open.ice, sizeof(r->open.ice));
        }
    }
    assert_true(open && keys && ice);
}

static void control_plane_restarts(void **state)
{
    struct fixture *f = *state;
    struct session_info info = {0};
    struct stream_info stream = {0};
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    up_head(f, 1 + p->worker, MSG_SESSION_MEDIA, p->id);
    stream_is(f, p, STREAM_LIVE);
    struct session *v = join(f, ROLE_PLAY, "demo", true);
    assert_int_equal(patch(v, fragment("newufrag", CLIENT_PWD), "*"), 200);
    settle(f);
    struct remembered publisher = remember(p), viewer = remember(v);
    uint64_t stream_id = p->stream->id;
    struct msg_stream_open tracks = find(f, MSG_STREAM_OPEN)->stream;

    restart_control_plane(f);
    assert_undisturbed(f, &publisher);
    assert_undisturbed(f, &viewer);
    assert_memory_equal(find(f, MSG_STREAM_OPEN)->bytes, &tracks, sizeof(tracks));
    assert_int_equal(f->log[0].head.type, MSG_STREAM_OPEN);
    p = find_again(f, publisher.token);
    v = find_again(f, viewer.token);
    assert_true(p->role == ROLE_PUBLISH && p->phase == PHASE_MEDIA && v->role == ROLE_PLAY);
    assert_ptr_equal(v->stream, p->stream);
    assert_ptr_equal(p->stream->publisher, p);
    assert_int_equal(p->stream->id, stream_id);
    assert_string_equal(session_stream(v), "demo");
    channel_session_stats(&f->dp, v->worker, MSG_SLOT(v->id))->id = v->id;
    channel_session_stats(&f->dp, v->worker, MSG_SLOT(v->id))->last_heard_ns = clock_ms * 1000000;
    sessions_each(f->set, keep_session, &info);
    assert_string_equal(info.client, "192.0.2.77");
    assert_int_equal(info.profile, PROFILE_AEAD_AES_128_GCM);
    assert_non_null(info.stats); // the viewer is the last in the list
    streams_each(f->set, count_stream, &stream);
    assert_true(stream.live && stream.viewers == 1 && stream.since_ms != 0);

    // Signalling goes on: trickle, ICE restart, a new viewer, the end of both old sessions.
    assert_int_equal(patch(v, fragment("newufrag", CLIENT_PWD), viewer.etag), 204);
    assert_int_equal(patch(v, fragment("third", CLIENT_PWD), "\"other\""), 412);
    assert_int_equal(patch(v, fragment("third", CLIENT_PWD), viewer.etag), 200);
    assert_int_equal(
        status_of(f, ROLE_PUBLISH, "demo", offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL)),
        409);
    struct session *fresh = join(f, ROLE_PLAY, "demo", true);
    assert_true(fresh->id != p->id && fresh->id != v->id);
    for (uint64_t ms = 0; ms < 3 * f->config->session.setup_timeout_ms; ms += 1000) {
        channel_session_stats(&f->dp, v->worker, MSG_SLOT(v->id))->last_heard_ns =
            clock_ms * 1000000;
        pass(f, 1000);
    }
    assert_int_equal(open_sessions(f), 3);
    assert_null(find(f, MSG_SESSION_CLOSE));
    channel_session_stats(&f->dp, v->worker, MSG_SLOT(v->id))->id = 0;
    session_close(v, END_DELETED);
    settle(f);
    assert_int_equal(find(f, MSG_SESSION_CLOSE)->head.id, viewer.id);
    session_close(fresh, END_DELETED);
    session_close(p, END_DELETED);
    settle(f);
    assert_int_equal(open_sessions(f), 0);
    assert_int_equal(find(f, MSG_STREAM_CLOSE)->head.id, stream_id);
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 0);

    // And none of them comes back.
    restart_control_plane(f);
    assert_int_equal(f->count, 0);
    assert_int_equal(open_sessions(f), 0);
    assert_null(session_find(f->set, viewer.token));
}

static void restart_ignores_dtls(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "a", true);
    struct remembered old = remember(p);
    restart_control_plane(f);
    p = find_again(f, old.token);
    path(f, p);
    dtls_close(f->client[0].dtls); // close_notify, which nobody can read any more
    settle(f);
    assert_ptr_equal(session_find(f->set, old.token), p);
    assert_null(find(f, MSG_DTLS_SEND));
    assert_int_equal(p->phase, PHASE_DTLS);
    up_head(f, 1 + p->worker, MSG_SESSION_MEDIA, p->id);
    settle(f);
    assert_int_equal(p->phase, PHASE_MEDIA);
    struct msg_session_dead dead = {
        .head = {.type = MSG_SESSION_DEAD, .length = sizeof(dead), .id = p->id},
        .reason = DEAD_TIMEOUT};
    up(f, 1 + p->worker, &dead);
    settle(f);
    assert_null(session_find(f->set, old.token));
}

static void restart_ends_handshakes(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "a", true);
    stream_is(f, p, STREAM_LIVE);
    struct remembered young = remember(join(f, ROLE_PUBLISH, "b", false)),
                      viewer = remember(join(f, ROLE_PLAY, "a", false)),
                      closing = remember(join(f, ROLE_PLAY, "a", true));
    f->silent = true;
    session_close(session_find(f->set, closing.token), END_DELETED);
    settle(f);

    // What was being closed still is, and no slot is used before the dataplane has confirmed.
    restart_control_plane(f);
    assert_int_equal(open_sessions(f), 1);
    assert_null(session_find(f->set, young.token));
    assert_null(session_find(f->set, viewer.token));
    assert_null(streams_find(f->set->streams, "b"));
    unsigned closes = 0;
    for (unsigned i = 0; i < f->count; i++) {
        const struct logged *m = &f->log[i];
        closes += m->head.type == MSG_SESSION_CLOSE;
        assert_true(m->head.type != MSG_SESSION_CLOSE ||
                    (m->lane == 1 + young.worker && m->head.id == young.id) ||
                    (m->lane == 1 + viewer.worker && m->head.id == viewer.id) ||
                    (m->lane == 1 + closing.worker && m->head.id == closing.id));
    }
    assert_int_equal(closes, 3);
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 4);
    f->silent = false;
    pass(f, SESSION_CLOSE_AGAIN_MS + 500);
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 1);

    // A slot's next use has another number, also when it was free while nobody ran.
    restart_control_plane(f);
    for (unsigned i = 1; i < SLOTS * WORKERS; i++) {
        struct session *s = join(f, ROLE_PLAY, "a", false);
        const struct remembered *used[] = {&young, &viewer, &closing};
        for (unsigned k = 0; k < 3; k++)
            if (s->worker == used[k]->worker && MSG_SLOT(s->id) == MSG_SLOT(used[k]->id))
                assert_int_equal(s->id, used[k]->id + (1ull << 32));
    }
}

static void both_restart(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    stream_is(f, p, STREAM_LIVE);
    struct remembered publisher = remember(p), viewer = remember(join(f, ROLE_PLAY, "demo", true));
    char why[256];
    channel_close(&f->dp);
    sessions_free(f->set);
    assert_int_equal(sessions_new(&f->set, &f->loop, f->config, &f->cp, why, sizeof(why)), 0);
    f->set->now_ms = virtual_ms;
    uv_timer_stop(f->set->sweep);
    await_peer(f, PEER_ABSENT);
    struct session_reply reply;
    const char *offer = offer_text(f, ROLE_PLAY, "actpass", "VP8", NULL);
    session_create(f->set, ROLE_PLAY, "demo", offer, strlen(offer), "", &reply);
    assert_int_equal(reply.status, 503);
    assert_int_equal(reply.retry_after_s, 1);
    pass_alone(f, 2 * f->config->session.stream_linger_ms);
    assert_int_equal(open_sessions(f), 2); // nobody is ended while the dataplane is away
    restart_dataplane(f);
    settle(f);
    assert_undisturbed(f, &publisher);
    assert_undisturbed(f, &viewer);
    join(f, ROLE_PLAY, "demo", true);
}

static void damaged_journal(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "demo", true);
    stream_is(f, p, STREAM_LIVE);
    struct remembered publisher = remember(p), viewer = remember(join(f, ROLE_PLAY, "demo", true));
    char why[256];
    log_level(LEVEL_ERROR);
    struct session_record r = *journal_session(f->set->journal, viewer.worker, MSG_SLOT(viewer.id));
    memset(r.token, 'a', sizeof(r.token));
    journal_put_session(f->set->journal, &r);
    sessions_free(f->set);
    assert_int_equal(sessions_new(&f->set, &f->loop, f->config, &f->cp, why, sizeof(why)), 0);
    f->set->now_ms = virtual_ms;
    uv_timer_stop(f->set->sweep);
    f->count = 0;
    await_peer(f, PEER_ALIVE);
    settle(f);
    assert_int_equal(open_sessions(f), 1);
    find_again(f, publisher.token);
    const struct session_record *wiped =
        journal_session(f->set->journal, viewer.worker, MSG_SLOT(viewer.id));
    assert_int_equal(wiped->state, JOURNAL_FREE);
    assert_int_equal(wiped->keys.head.length, 0);
}

// The journal is lost, or the dataplane has what it should not have: that is ended.
static void unknown_to_the_journal(void **state)
{
    struct fixture *f = *state;
    const uint64_t first = 7ull << 32 | 1, second = 8ull << 32 | 2, stream = 9ull << 32;
    channel_session_stats(&f->dp, 0, 1)->id = first;
    channel_session_stats(&f->dp, 1, 2)->id = second;
    channel_session_stats(&f->dp, 1, 0)->id = 5; // neither of these is a number
    channel_session_stats(&f->dp, 0, 2)->id = 7ull << 32 | 1;
    channel_stream_stats(&f->dp, 0)->id = stream;
    restart_control_plane(f);
    assert_int_equal(f->count, 0);
    f->silent = true;
    pass(f, 1500);
    assert_int_equal(slots_used(f->set->slots, 0), 1);
    assert_int_equal(slots_used(f->set->slots, 1), 1);
    assert_int_equal(find(f, MSG_SESSION_CLOSE)->head.id, first);
    assert_int_equal(find(f, MSG_STREAM_CLOSE)->head.id, stream);
    struct session *p = join(f, ROLE_PUBLISH, "a", false);
    assert_true(MSG_SLOT(p->id) != 1 || p->worker != 0);
    f->silent = false;
    pass(f, SESSION_CLOSE_AGAIN_MS);
    channel_session_stats(&f->dp, 0, 1)->id = channel_session_stats(&f->dp, 1, 2)->id = 0;
    assert_int_equal(slots_used(f->set->slots, 0) + slots_used(f->set->slots, 1), 1);

    // One that has our session's slot is ended, and ours is not touched.
    f->count = 0;
    channel_session_stats(&f->dp, p->worker, MSG_SLOT(p->id))->id = p->id + (1ull << 32);
    pass(f, 1000);
    assert_int_equal(find(f, MSG_SESSION_CLOSE)->head.id, p->id + (1ull << 32));
    channel_session_stats(&f->dp, p->worker, MSG_SLOT(p->id))->id = p->id;
    channel_session_stats(&f->dp, p->worker, MSG_SLOT(p->id))->last_heard_ns = clock_ms * 1000000;
    assert_int_equal(open_sessions(f), 1);

    // A SESSION_DEAD that never came.
    struct remembered old = remember(p);
    channel_session_stats(&f->dp, p->worker, MSG_SLOT(p->id))->last_heard_ns =
        (clock_ms - 2 * f->config->session.timeout_ms - 1) * 1000000;
    pass(f, 1500);
    assert_null(session_find(f->set, old.token));
}

// The dataplane lost its tables, and could not say so of all sessions: those that it does not show
// are said again, and end when it refuses them. One that it shows is left in peace.
static void unknown_to_the_dataplane(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "a", true);
    stream_is(f, p, STREAM_LIVE);
    struct session *v = join(f, ROLE_PLAY, "a", true);
    struct remembered viewer = remember(v);
    struct stats_session *shown = channel_session_stats(&f->dp, p->worker, MSG_SLOT(p->id));
    shown->id = p->id;
    shown->last_heard_ns = clock_ms * 1000000;
    pass(f, 5000);
    f->count = 0;
    for (int s = 0; s < 10 && find(f, MSG_SESSION_OPEN) == NULL; s++) {
        shown->last_heard_ns = clock_ms * 1000000;
        pass(f, 1000);
    }
    const struct logged *open = find(f, MSG_SESSION_OPEN);
    assert_non_null(open);
    assert_true(open->head.id == v->id && open->open.again == 1);
    for (unsigned i = 0; i < f->count; i++)
        assert_true(f->log[i].head.id != p->id);
    struct msg_session_dead m = {
        .head = {.type = MSG_SESSION_DEAD, .length = sizeof(m), .id = v->id},
        .reason = DEAD_REFUSED_INVALID};
    up(f, 1 + v->worker, &m);
    settle(f);
    assert_null(session_find(f->set, viewer.token));
    assert_int_equal(open_sessions(f), 1);
}

static void shutting_down(void **state)
{
    struct fixture *f = *state;
    struct session *p = join(f, ROLE_PUBLISH, "a", true);
    stream_is(f, p, STREAM_LIVE);
    join(f, ROLE_PLAY, "a", true);
    sessions_end_all(f->set, END_SHUTDOWN);
    settle(f);
    assert_int_equal(open_sessions(f), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(dtls_state(f->client[i].dtls), DTLS_CLOSED);
    assert_null(streams_find(f->set->streams, "a"));
    assert_true(sessions_all_closed(f->set));
    assert_int_equal(
        status_of(f, ROLE_PUBLISH, "b", offer_text(f, ROLE_PUBLISH, "actpass", "VP8", NULL)), 503);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(life_of_a_publisher),
        TEST(dtls_client_retransmits),
        TEST(viewers),
        TEST(numberings),
        TEST(publisher_returns),
        TEST(other_codecs_end_viewers),
        TEST(busy_name),
        TEST(bad_requests),
        TEST(admission),
        TEST(trickle_and_restart),
        TEST(setup_deadlines),
        TEST(slots_wait_for_the_dataplane),
        TEST(wrong_fingerprint),
        TEST(client_leaves),
        TEST(dataplane_ends_sessions),
        TEST(stray_messages),
        TEST(tokens),
        TEST(dataplane_restarts),
        TEST(full_channel),
        TEST(control_plane_restarts),
        TEST(restart_ignores_dtls),
        TEST(restart_ends_handshakes),
        TEST(both_restart),
        TEST(damaged_journal),
        TEST(unknown_to_the_journal),
        TEST(unknown_to_the_dataplane),
        TEST(shutting_down),
    };
    log_level(LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
