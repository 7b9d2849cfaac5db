// Fuzz target: whatever stands in a request's header fields and body, the control plane answers
// with one of its documented statuses, and memory stays sound. The first byte says what the rest
// is: an offer to publish or to play, a trickle fragment, or a header field's value.
//
// Sessions run on a real channel; this file is the dataplane at its other end.
#include "../../controlplane/auth.h"
#include "../../controlplane/http.h"
#include "../../controlplane/session.h"
#include "../../controlplane/whip.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char offer[] =
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n"
    "a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:"
    "18:19:1A:1B:1C:1D:1E:1F\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\n"
    "a=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";

static struct {
    uv_loop_t loop;
    struct config *config;
    struct channel cp, dp;
    struct sessions *sessions;
    struct auth *auth;
    char publisher[SESSION_TOKEN_LEN + 1];
} t;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void report(void *opaque, int line, const char *key, const char *reason)
{
    abort();
}

static void send_up(uint32_t lane, enum msg_type type, uint64_t id)
{
    struct msg_stream_state m = {.head = {.type = type, .id = id}, .state = STREAM_LIVE};
    m.head.length = type == MSG_STREAM_STATE ? sizeof(m) : sizeof(m.head);
    must(channel_send(&t.dp, lane, &m) == 0);
}

// One turn of both sides. The dataplane says what makes streams live and slots free again.
static void turn(void)
{
    uint64_t invalid = 0;
    channel_beat(&t.dp, uv_hrtime(), true);
    uv_run(&t.loop, UV_RUN_NOWAIT);
    for (uint32_t lane = 0; lane <= 1; lane++)
        for (const struct msg_head *m; (m = channel_peek(&t.dp, lane, &invalid));) {
            if (m->type == MSG_SESSION_CLOSE)
                send_up(lane, MSG_SESSION_CLOSED, m->id);
            else if (m->type == MSG_STREAM_OPEN)
                send_up(lane, MSG_STREAM_STATE, m->id);
            channel_release(&t.dp, lane);
        }
    must(invalid == 0);
    uv_run(&t.loop, UV_RUN_NOWAIT);
}

static void check_reply(struct session_reply *reply)
{
    static const int statuses[] = {200, 201, 204, 400, 404, 406, 409, 412, 413, 415, 422, 428, 503};
    bool known = false;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(*statuses); i++)
        known |= reply->status == statuses[i];
    must(known);
    must(reply->status < 400 || reply->reason[0]);
    must((reply->status == 200 || reply->status == 201) == (reply->body != NULL));
    free(reply->body);
}

static void keep_a_publisher(void)
{
    struct session_reply reply = {0};
    if (session_find(t.sessions, t.publisher))
        return;
    session_create(t.sessions, ROLE_PUBLISH, "live", offer, sizeof(offer) - 1, "fuzz", &reply);
    must(reply.status == 201);
    snprintf(t.publisher, sizeof(t.publisher), "%s", session_token(reply.session));
    free(reply.body);
    turn();
    turn();
}

static void set_up(void)
{
    char dir[] = "/dev/shm/hitless-fuzz-XXXXXX", path[64], why[256];
    static const char *const files[] = {"channel", "bell.controlplane", "bell.dataplane",
                                        "sessions", "secret"};
    struct abi_config abi;
    bool changed;
    log_level(LEVEL_ERROR);
    must(mkdtemp(dir) && config_load(NULL, &t.config, report, NULL) == 0);
    t.config->limits.sessions = t.config->limits.streams = 8;
    free(t.config->runtime_dir);
    t.config->runtime_dir = strdup(dir);
    t.config->session.setup_timeout_ms = UINT32_MAX / 2;
    snprintf(path, sizeof(path), "%s/secret", dir);
    FILE *f = fopen(path, "w");
    must(f && fputs("0123456789abcdef0123456789abcdef", f) > 0 && fclose(f) == 0);
    t.config->auth.play.jwt.algorithm = JWT_HS256;
    free(t.config->auth.play.jwt.key_file);
    t.config->auth.play.jwt.key_file = strdup(path);
    config_to_abi(t.config, &abi);
    must(channel_create(&t.cp, dir, &abi, &changed, why, sizeof(why)) == 0);
    must(channel_open(&t.dp, dir, why, sizeof(why)) == 0);
    must(auth_new(&t.auth, t.config, why, sizeof(why)) == 0);
    uv_loop_init(&t.loop);
    must(sessions_new(&t.sessions, &t.loop, t.config, &t.cp, why, sizeof(why)) == 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) { // the mappings stay
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    struct session_reply reply = {0};
    do { // until the control plane has seen our first beats
        free(reply.body);
        turn();
        usleep(1000);
        session_create(t.sessions, ROLE_PUBLISH, "live", offer, sizeof(offer) - 1, "fuzz", &reply);
    } while (reply.status == 503);
    check_reply(&reply);
    snprintf(t.publisher, sizeof(t.publisher), "%s", session_token(reply.session));
    turn();
    turn();
}

static void post(enum session_role role, const char *body, size_t size)
{
    struct session_reply reply = {0};
    session_create(t.sessions, role, role == ROLE_PUBLISH ? "new" : "live", body, size, "fuzz",
                   &reply);
    struct session *session = reply.session;
    must((reply.status == 201) == (session != NULL));
    check_reply(&reply);
    turn();
    if (session)
        session_close(session, END_DELETED);
    turn();
}

static void patch(const char *body, size_t size, const char *if_match)
{
    struct session_reply reply = {0};
    session_patch(session_find(t.sessions, t.publisher), body, size, if_match, &reply);
    check_reply(&reply);
    turn();
}

static void fields(const char *value)
{
    const char *reason;
    bool sdp = http_media_type_is(value, "application/sdp");
    must(!sdp || strncasecmp(value + strspn(value, " \t"), "application/sdp", 15) == 0);
    must(!whip_stream_name(value) || strlen(value) <= STREAM_NAME_MAX);
    must(auth_check(t.auth, ROLE_PLAY, "live", value, 1700000000, &reason) != AUTH_OK);
    must(*reason);
    session_find(t.sessions, value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!t.sessions)
        set_up();
    if (size == 0 || size > HTTP_BODY_MAX)
        return 0;
    char *body = malloc(size); // exactly as long as it is, so that a byte too far is seen
    memcpy(body, data + 1, size - 1);
    body[size - 1] = '\0';
    keep_a_publisher();
    switch (data[0] % 5) {
    case 0:
        post(ROLE_PUBLISH, body, size - 1);
        break;
    case 1:
        post(ROLE_PLAY, body, size - 1);
        break;
    case 2:
        patch(body, size - 1, NULL);
        break;
    case 3:
        patch(body, size - 1, "*");
        break;
    default:
        fields(body);
    }
    free(body);
    return 0;
}
