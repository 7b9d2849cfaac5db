// Unit tests of replication: two nodes in one process, each with its sessions, its channel and a
// dataplane that only writes down what it is told, joined by TLS over loopback.
#include "../../controlplane/config.h"
#include "../../controlplane/dtls.h"
#include "../../controlplane/replicate_private.h"
#include "../sim/scratch.h"
#include "replicate_pair.h"
#include <errno.h>
#include <signal.h>

#define LOG 4096
#define SLOTS 8

struct logged {
    uint32_t lane;
    union {
        struct msg_head head;
        struct msg_session_open open;
        struct msg_session_keys keys;
        struct msg_session_adopt adopt;
        struct msg_session_ice ice;
        struct msg_stream_open stream;
        struct msg_peer peer;
        struct msg_group group;
        uint8_t bytes[MSG_MAX];
    };
};

struct node {
    char dir[64];
    struct config *config;
    struct channel cp, dp;
    struct sessions *set;
    struct replicate *r;
    struct logged *log;
    unsigned count;
    bool alone; // its dataplane is not served
};

static uv_loop_t loop;
static struct node a, b;
static bool apart; // the nodes share no subnet
static uint32_t a_workers = 1;
static uint32_t b_sessions = SLOTS, b_streams = 4;

static void report(void *opaque, int line, const char *key, const char *reason)
{
    fail_msg("%s: %s", key, reason);
}

static void set_text(char **at, const char *text)
{
    free(*at);
    *at = strdup(text);
}

static void set_file(char **at, const char *name, const char *kind)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s.%s", certs, name, kind);
    set_text(at, path);
}

static struct abi_addr address(uint8_t last, uint16_t port)
{
    return (struct abi_addr){.ip = {127, 0, 0, last}, .family = 4, .port = port};
}

static void configure(struct node *n, const char *name, const char *partner, uint16_t listen,
                      uint16_t dial)
{
    assert_int_equal(config_load(NULL, &n->config, report, NULL), 0);
    struct config *c = n->config;
    bool first = *name == 'a';
    c->limits.sessions = first ? SLOTS : b_sessions;
    c->limits.streams = first ? 4 : b_streams;
    set_text(&c->node, name);
    set_text(&c->protection.partner.name, partner);
    set_text(&c->runtime_dir, n->dir);
    set_file(&c->protection.certificate, name, "pem");
    set_file(&c->protection.key, name, "key");
    set_file(&c->protection.ca, "ca", "pem");
    c->parsed.media4 =
        (struct abi_addr){.ip = {10, 0, 0, first ? 1 : 2}, .family = 4, .port = 7000};
    c->parsed.media6.family = 0;
    c->parsed.partner.media4 =
        (struct abi_addr){.ip = {10, 0, 0, first ? 2 : 1}, .family = 4, .port = 7000};
    c->parsed.partner.listen = address(1, listen);
    c->parsed.partner.address = address(1, dial);
    c->dataplane.workers = first ? a_workers : 1;
    c->protection.partner.workers = first ? 1 : a_workers;
    c->protection.takeover_address = !apart;
}

static void start_control(struct node *n)
{
    char why[256] = "";
    if (sessions_new(&n->set, &loop, n->config, &n->cp, why, sizeof(why)) != 0 ||
        replicate_new(&n->r, &loop, n->config, n->set, why, sizeof(why)) != 0)
        fail_msg("%s", why);
}

static void open_node(struct node *n, const char *name, const char *partner, uint16_t listen,
                      uint16_t dial)
{
    struct abi_config abi;
    char why[256] = "";
    bool changed;
    memset(n, 0, sizeof(*n));
    assert_int_equal(scratch_make(n->dir, sizeof(n->dir), "replicate"), 0);
    configure(n, name, partner, listen, dial);
    n->log = calloc(LOG, sizeof(n->log[0]));
    config_to_abi(n->config, &abi);
    if (channel_create(&n->cp, n->dir, &abi, &changed, why, sizeof(why)) != 0 ||
        channel_open(&n->dp, n->dir, why, sizeof(why)) != 0)
        fail_msg("%s", why);
    channel_beat(&n->dp, uv_hrtime(), true);
    start_control(n);
}

static void close_node(struct node *n)
{
    char command[128];
    replicate_free(n->r);
    sessions_free(n->set);
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_run(&loop, UV_RUN_NOWAIT);
    channel_close(&n->cp);
    channel_close(&n->dp);
    snprintf(command, sizeof(command), "rm -rf %s", n->dir);
    assert_int_equal(system(command), 0); // NOLINT(concurrency-mt-unsafe, cert-env33-c)
    config_free(n->config);
    free(n->log);
}

// What a dataplane does at once.
static void serve(struct node *n)
{
    uint64_t invalid = 0;
    channel_beat(&n->dp, uv_hrtime(), true);
    for (uint32_t lane = 0; lane <= n->config->dataplane.workers; lane++)
        for (const struct msg_head *m; (m = channel_peek(&n->dp, lane, &invalid)) != NULL;) {
            assert_int_equal(msg_check(m), 0);
            assert_true(n->count < LOG);
            struct logged *l = &n->log[n->count++];
            l->lane = lane;
            memcpy(l->bytes, m, m->length);
            channel_release(&n->dp, lane);
            struct msg_head closed = {
                .type = MSG_SESSION_CLOSED, .length = sizeof(closed), .id = l->head.id};
            if (l->head.type == MSG_SESSION_CLOSE)
                channel_send(&n->dp, lane, &closed);
        }
}

typedef bool (*condition)(void *opaque);
static condition awaited;

static bool serve_and_look(void *opaque)
{
    if (!a.alone)
        serve(&a);
    if (!b.alone)
        serve(&b);
    return awaited(opaque);
}

static void await(condition holds, void *opaque)
{
    awaited = holds;
    if (!run_until(&loop, serve_and_look, opaque, 5000))
        fail_msg("did not come about within 5 s");
}

static bool connected(void *opaque)
{
    return replink_up(a.r->link) && replink_up(b.r->link) && a.r->partner_synced[0] &&
           a.r->partner_synced[1] && b.r->partner_synced[0] && b.r->partner_synced[1];
}

static bool never(void *opaque)
{
    return false;
}

static void pass(uint64_t ms)
{
    awaited = never;
    run_until(&loop, serve_and_look, NULL, ms);
}

static int setup(void **state)
{
    uv_loop_init(&loop);
    memset(&b, 0, sizeof(b));
    b.alone = true;
    open_node(&a, "a", "b", 0, 0);
    open_node(&b, "b", "a", 0, replink_port(a.r->link));
    await(connected, NULL);
    return 0;
}

static int setup_apart(void **state)
{
    apart = true;
    int rc = setup(state);
    apart = false;
    return rc;
}

// a has a worker more than b.
static int setup_unlike(void **state)
{
    a_workers = 2;
    int rc = setup(state);
    a_workers = 1;
    return rc;
}

// b has room for a publisher and one viewer.
static int setup_few_sessions(void **state)
{
    b_sessions = 2;
    int rc = setup(state);
    b_sessions = SLOTS;
    return rc;
}

static int setup_few_streams(void **state)
{
    b_streams = 1;
    int rc = setup(state);
    b_streams = 4;
    return rc;
}

static int teardown(void **state)
{
    close_node(&a);
    close_node(&b);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

// Of the client's certificate.
static const char no_print[] = "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:"
                               "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";
static const char *client_print = no_print;

static const char *offer(enum session_role role)
{
    static char text[2048];
    snprintf(text, sizeof(text),
             "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
             "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n"
             "a=ice-ufrag:cufr\r\na=ice-pwd:clientpasswordof24chars1\r\na=fingerprint:sha-256 "
             "%s\r\na=setup:actpass\r\na=rtcp-mux\r\na=%s\r\na=rtpmap:96 VP8/90000\r\n",
             client_print, role == ROLE_PUBLISH ? "sendonly" : "recvonly");
    return text;
}

// On a busy machine this process may have stood still for longer than a dataplane may.
static bool dataplane_lives(void *opaque)
{
    struct node *n = opaque;
    bool ready = false;
    channel_beat(&n->dp, uv_hrtime(), true);
    return dpclient_peer(n->set->dataplane, NULL, &ready) == PEER_ALIVE && ready;
}

static struct session *post(struct node *n, enum session_role role, const char *stream, char *body,
                            size_t size)
{
    struct session_reply reply;
    assert_true(run_until(&loop, dataplane_lives, n, 5000));
    session_create(n->set, role, stream, offer(role), strlen(offer(role)), "192.0.2.9", &reply);
    if (reply.status != 201)
        fail_msg("%d %s", reply.status, reply.reason);
    if (body != NULL)
        snprintf(body, size, "%s", reply.body);
    free(reply.body);
    return reply.session;
}

static void make_live(struct node *n, const struct session *publisher)
{
    struct msg_stream_state m = {
        .head = {.type = MSG_STREAM_STATE, .length = sizeof(m), .id = publisher->stream->id},
        .state = STREAM_LIVE};
    channel_send(&n->dp, 1, &m);
}

// As if DTLS were done.
static void give_keys(struct session *s)
{
    struct msg_session_keys m = {
        .head = {.type = MSG_SESSION_KEYS, .length = sizeof(m), .id = s->id},
        .profile = PROFILE_AEAD_AES_128_GCM};
    memset(m.local, 0x11, 28);
    memset(m.remote, 0x22, 28);
    s->phase = PHASE_DTLS;
    session_save(s, &m);
    s->tell_keys = true;
    TAILQ_REMOVE(&s->set->young, s, young);
    session_tell(s);
}

static struct session *at(struct node *n, const char *token)
{
    return session_find(n->set, token);
}

static bool b_has(void *token)
{
    return at(&b, token) != NULL;
}

static bool b_has_not(void *token)
{
    return at(&b, token) == NULL;
}

static bool b_has_keys(void *token)
{
    return at(&b, token) != NULL && at(&b, token)->keys->head.length != 0;
}

static bool b_sees_live(void *name)
{
    struct stream *stream = streams_find(b.set->streams, name);
    return stream != NULL && stream->live;
}

// A session at a that b knows whole, keys and all; its token is copied.
static struct session *share(enum session_role role, char token[40])
{
    struct session *session = post(&a, role, "demo", NULL, 0);
    snprintf(token, 40, "%s", session_token(session));
    give_keys(session);
    await(b_has_keys, token);
    return session;
}

// The stream that viewers on both nodes can have.
static void go_live(void)
{
    struct session *publisher = post(&a, ROLE_PUBLISH, "demo", NULL, 0);
    give_keys(publisher);
    make_live(&a, publisher);
    await(b_sees_live, "demo");
}

// The last message of a type that the node's dataplane was sent for `id`; NULL: none.
static const struct logged *last(const struct node *n, enum msg_type type, uint64_t id)
{
    for (unsigned i = n->count; i-- > 0;)
        if (n->log[i].head.type == type && (id == 0 || n->log[i].head.id == id))
            return &n->log[i];
    return NULL;
}

static void test_dataplanes_learn_of_each_other(void **state)
{
    pass(100);
    const struct logged *pa = last(&a, MSG_PEER, 1), *pb = last(&b, MSG_PEER, 1);
    assert_non_null(pa);
    assert_non_null(pb);
    assert_memory_equal(pa->peer.local, pb->peer.remote, MSG_TRUNK_KEY);
    assert_memory_equal(pa->peer.remote, pb->peer.local, MSG_TRUNK_KEY);
    assert_memory_not_equal(pa->peer.local, pa->peer.remote, MSG_TRUNK_KEY);
    assert_int_equal(pa->peer.remote4.ip[3], 2);
    assert_int_equal(pa->peer.bfd_tx_us, 10000);
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.role, GROUP_ACTIVE);
    assert_int_equal(last(&a, MSG_GROUP, 2)->group.role, GROUP_STANDBY);
    assert_int_equal(last(&a, MSG_GROUP, 2)->group.takeover, 1);
    assert_int_equal(last(&a, MSG_GROUP, 2)->group.take4.ip[3], 2);
    assert_int_equal(last(&a, MSG_GROUP, 2)->group.home, 0);
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.take4.ip[3], 1);
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.home, 1);
    // A node that came back takes its own over, too, should the partner die then.
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.takeover, 1);
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.term % 2, 0);
}

static void test_keys_are_fresh_for_a_new_dataplane(void **state)
{
    char why[256];
    pass(50);
    struct msg_peer before_a = last(&a, MSG_PEER, 1)->peer, before_b = last(&b, MSG_PEER, 1)->peer;
    channel_close(&b.dp);
    assert_int_equal(channel_open(&b.dp, b.dir, why, sizeof(why)), 0);
    b.count = 0;
    pass(200);
    const struct msg_peer *pa = &last(&a, MSG_PEER, 1)->peer, *pb = &last(&b, MSG_PEER, 1)->peer;
    assert_memory_not_equal(pa->local, before_a.local, MSG_TRUNK_KEY);
    assert_memory_not_equal(pb->local, before_b.local, MSG_TRUNK_KEY);
    assert_memory_equal(pa->local, pb->remote, MSG_TRUNK_KEY);
    assert_non_null(last(&b, MSG_GROUP, 2));
}

static void test_a_session_stands_by(void **state)
{
    char answer[8192], token[40], viewer[40];
    struct session *p = post(&a, ROLE_PUBLISH, "demo", answer, sizeof(answer));
    snprintf(token, sizeof(token), "%s", session_token(p));
    assert_non_null(strstr(answer, " 10.0.0.1 7000 typ host")); // ours comes first
    assert_non_null(strstr(strstr(answer, " 10.0.0.1 7000"), " 10.0.0.2 7000 typ host"));
    await(b_has, token);
    give_keys(p);
    await(b_has_keys, token);
    pass(30);
    struct session *s = at(&b, token);
    const struct logged *open = last(&b, MSG_SESSION_OPEN, s->id);
    assert_int_equal(open->open.group, REPLICATE_PARTNER);
    assert_memory_equal(open->open.ice.pwd, p->open.ice.pwd, MSG_PWD_LEN);
    assert_memory_equal(last(&b, MSG_SESSION_KEYS, s->id)->keys.local, p->keys->local, 28);
    assert_non_null(last(&b, MSG_SESSION_ADOPT, s->id));
    assert_int_equal(last(&b, MSG_STREAM_OPEN, s->stream->id)->stream.trunk_id,
                     last(&a, MSG_STREAM_OPEN, p->stream->id)->stream.trunk_id);
    assert_int_equal(last(&a, MSG_STREAM_OPEN, p->stream->id)->stream.peers, 1);
    assert_false(replicate_serves(b.r, s->open.group));
    struct session_place place;
    session_where(s, &place);
    assert_string_equal(place.here, "b");
    assert_string_equal(place.serves, "a");
    session_where(p, &place);
    assert_string_equal(place.serves, "a");

    // b's own viewer of a's stream; a stands by for it.
    make_live(&a, p);
    await(b_sees_live, "demo");
    struct session *v = post(&b, ROLE_PLAY, "demo", NULL, 0);
    snprintf(viewer, sizeof(viewer), "%s", session_token(v));
    assert_int_equal(v->open.group, REPLICATE_OWN);
    give_keys(v);
    pass(100);
    assert_non_null(at(&a, viewer));
    assert_int_equal(at(&a, viewer)->open.group, REPLICATE_PARTNER);

    // The name is taken on both nodes.
    struct session_reply reply;
    session_create(b.set, ROLE_PUBLISH, "demo", offer(ROLE_PUBLISH), strlen(offer(ROLE_PUBLISH)),
                   "192.0.2.9", &reply);
    assert_int_equal(reply.status, 409);

    // Over at one, over at the other, whichever is asked.
    session_close(at(&a, viewer), END_DELETED);
    await(b_has_not, viewer);
    session_close(p, END_DELETED);
    await(b_has_not, token);
    pass(30);
    assert_null(streams_find(b.set->streams, "demo"));
}

struct shown {
    const char *token, *protection, *refusal;
};

static void note_protection(const struct session_info *info, void *opaque)
{
    struct shown *shown = opaque;
    if (strcmp(info->token, shown->token) == 0)
        *shown = (struct shown){info->token, info->protection, info->refusal};
}

// What operators are told of a session.
static const char *protection(const struct node *n, const char *token)
{
    struct shown shown = {.token = token};
    sessions_each(n->set, note_protection, &shown);
    return shown.protection;
}

static const char *refusal(const struct node *n, const char *token)
{
    struct shown shown = {.token = token};
    sessions_each(n->set, note_protection, &shown);
    return shown.refusal;
}

static bool shows_refused(void *token)
{
    return strcmp(protection(&a, token), "refused") == 0;
}

static bool shows_active(void *token)
{
    return strcmp(protection(&a, token), "active") == 0;
}

static void send_numbers(struct node *n, const struct session *s, uint64_t delta, uint64_t limit)
{
    struct msg_session_numbers m = {
        .head = {.type = MSG_SESSION_NUMBERS, .length = sizeof(m), .id = s->id},
        .numbers = {.delta = {delta}, .rtx_limit = {limit}, .numbered = 1}};
    channel_send(&n->dp, 1, &m);
}

static bool b_knows_limit(void *token)
{
    return at(&b, token) != NULL && at(&b, token)->numbers.rtx_limit[0] == 5000;
}

static bool a_is_confirmed(void *token)
{
    const struct logged *l = last(&a, MSG_SESSION_ADOPT, at(&a, token)->id);
    return l != NULL && l->adopt.numbers.rtx_limit[0] == 5000;
}

static void refuse(struct node *n, uint64_t id, enum msg_dead_reason reason)
{
    struct msg_session_dead m = {.head = {.type = MSG_SESSION_DEAD, .length = sizeof(m), .id = id},
                                 .reason = reason};
    assert_int_equal(msg_check(&m.head), 0);
    assert_int_equal(channel_send(&n->dp, 1, &m), 0);
}

static bool b_is_told_again(void *opaque)
{
    uint64_t id = *(const uint64_t *)opaque;
    return last(&b, MSG_SESSION_OPEN, id) && last(&b, MSG_SESSION_ICE, id) &&
           last(&b, MSG_SESSION_KEYS, id) && last(&b, MSG_SESSION_ADOPT, id);
}

// A dataplane that has no place for a copy of a session is no reason to end the session: the copy
// is tried again, behind whatever held its slot.
static void test_a_refused_copy(void **state)
{
    const enum msg_dead_reason reasons[] = {DEAD_REFUSED_SLOT, DEAD_REFUSED_INVALID};
    char token[40];
    struct session *p = share(ROLE_PUBLISH, token);
    pass(30);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t id = at(&b, token)->id;
        uint64_t *holder = &channel_session_stats(&b.dp, 0, MSG_SLOT(id))->id;
        *holder = id + (1ull << 32); // of a control plane before this one
        b.count = 0;
        refuse(&b, id, reasons[i]);
        await(shows_refused, token);
        await(b_is_told_again, &id);
        assert_ptr_equal(at(&a, token), p);
        await(shows_active, token);
        assert_int_equal(at(&b, token)->id, id);
        assert_int_equal(last(&b, MSG_SESSION_OPEN, id)->open.again, 0);
        unsigned closed = 0, opened = 0;
        for (unsigned k = 0; k < b.count; k++) {
            if (b.log[k].head.type == MSG_SESSION_CLOSE && b.log[k].head.id == *holder)
                closed = closed ? closed : k + 1;
            if (b.log[k].head.type == MSG_SESSION_OPEN && b.log[k].head.id == id)
                opened = opened ? opened : k + 1;
        }
        assert_true(closed != 0 && closed < opened);
        *holder = 0;
    }
    // Where it is served, it is over when it is refused.
    refuse(&a, p->id, DEAD_REFUSED_SLOT);
    await(b_has_not, token);

    // b has the copy all the same, and is told of its end, also after refusing it twice.
    p = share(ROLE_PUBLISH, token);
    pass(30);
    refuse(&b, at(&b, token)->id, DEAD_REFUSED_SLOT);
    await(shows_refused, token);
    session_save(p, NULL);
    pass(30);
    assert_true(shows_refused(token));
    assert_string_equal(refusal(&a, token), "the dataplane there refuses it");
    session_close(p, END_DELETED);
    await(b_has_not, token);
}

// A lease of numbers counts at home only once the partner has it.
static void test_numbers_are_confirmed(void **state)
{
    char token[40];
    go_live();
    struct session *v = share(ROLE_PLAY, token);
    assert_null(last(&a, MSG_SESSION_ADOPT, v->id));
    send_numbers(&a, v, 77, 5000);
    await(b_knows_limit, token);
    await(a_is_confirmed, token);
    pass(30);
    const struct logged *adopted = last(&b, MSG_SESSION_ADOPT, at(&b, token)->id);
    assert_int_equal(adopted->adopt.numbers.delta[0], 77);
    assert_int_equal(adopted->adopt.numbers.rtx_limit[0], 5000);
}

static bool a_was_told_5000(void *token)
{
    const struct logged *l = last(&a, MSG_SESSION_ADOPT, at(&a, token)->id);
    return l != NULL && l->adopt.numbers.rtx_limit[0] == 5000 && l->adopt.numbers.delta[0] == 78;
}

static bool b_was_passed_a_right(void *token)
{
    return at(&b, token) != NULL && last(&b, MSG_RIGHT_PASSED, at(&b, token)->id) != NULL;
}

// What dataplanes say to each other about a session goes to the other's session.
static void test_a_right_is_passed_on(void **state)
{
    char token[40];
    struct session *p = post(&a, ROLE_PUBLISH, "demo", NULL, 0);
    snprintf(token, sizeof(token), "%s", session_token(p));
    await(b_has, token);
    struct msg_right m = {.head = {.type = MSG_RIGHT_PASS, .length = sizeof(m), .id = p->id},
                          .term = 12,
                          .asked = 3,
                          .left = 4,
                          .numbered = 8,
                          .first = {[2] = 77}};
    channel_send(&a.dp, 1, &m);
    await(b_was_passed_a_right, token);
    const struct msg_right *passed =
        (const void *)last(&b, MSG_RIGHT_PASSED, at(&b, token)->id)->bytes;
    assert_memory_equal(&passed->term, &m.term, sizeof(m) - offsetof(struct msg_right, term));
}

// A dataplane that says less than we know has not heard of the partner's: it is told again.
static void test_limits_never_go_down(void **state)
{
    char token[40];
    go_live();
    struct session *v = post(&a, ROLE_PLAY, "demo", NULL, 0);
    snprintf(token, sizeof(token), "%s", session_token(v));
    give_keys(v);
    send_numbers(&a, v, 77, 5000);
    await(b_knows_limit, token);
    send_numbers(&a, v, 78, 4000);
    await(a_was_told_5000, token);
    pass(50);
    assert_true(b_knows_limit(token));
    assert_int_equal(at(&b, token)->numbers.delta[0], 78);
}

// Home has another even term whenever it meets the partner, who may have served unheard.
static void test_terms_follow_the_holder(void **state)
{
    uint32_t term = a.r->group[0].term;
    assert_int_equal(term % 2, 0);
    replink_drop(a.r->link, "the test cuts the path");
    pass(50);
    await(connected, NULL);
    assert_true(a.r->group[0].term > term && a.r->group[0].term % 2 == 0);
    assert_int_equal(b.r->group[1].term, a.r->group[0].term);
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.term, a.r->group[0].term);

    // One that served, died and is back has a higher one, and it is home that serves.
    replink_drop(a.r->link, "the test cuts the path");
    b.r->group[1].term = term + 11;
    pass(50);
    await(connected, NULL);
    assert_true(a.r->group[0].term > term + 11 && a.r->group[0].term % 2 == 0);
    assert_true(group_held(a.r, 0) && !group_held(b.r, 1));
    assert_int_equal(b.r->group[1].term, a.r->group[0].term);
}

static void take_over(struct node *n, uint32_t term)
{
    struct msg_group_state m = {.head = {.type = MSG_GROUP_STATE, .length = sizeof(m), .id = 2},
                                .term = term,
                                .role = GROUP_ACTIVE};
    channel_send(&n->dp, 1, &m);
}

static bool b_holds_both(void *opaque)
{
    return group_held(b.r, 1) && group_held(b.r, 0) && (opaque != NULL || !group_held(a.r, 0));
}

static bool a_holds_its_own(void *opaque)
{
    return group_held(a.r, 0) && !group_held(b.r, 1);
}

static void test_takeover_and_failback(void **state)
{
    char token[40], why[200];
    struct session *p = share(ROLE_PUBLISH, token);
    uint32_t term = a.r->group[0].term;
    take_over(&b, term + 1);
    await(b_holds_both, NULL);
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.role, GROUP_STANDBY);
    assert_int_equal(last(&a, MSG_GROUP, 1)->group.term, term + 1);
    assert_false(replicate_serves(a.r, p->open.group));
    assert_true(streams_find(a.set->streams, "demo")->remote);
    assert_false(streams_find(b.set->streams, "demo")->remote);
    assert_non_null(replicate_refusal(a.r)); // its address is the partner's now
    struct session_reply reply = {0};
    assert_true(replicate_elsewhere(a.r) && !replicate_elsewhere(b.r));
    assert_int_equal(session_admit(a.set, &reply), 503);
    assert_null(reply.elsewhere); // nobody has said where the partner's HTTP is
    char *none = a.config->protection.partner.url, url[] = "http://b";
    a.config->protection.partner.url = url;
    assert_int_equal(session_admit(a.set, &reply), 503);
    assert_string_equal(reply.elsewhere, "http://b");
    a.config->protection.partner.url = none;

    // An ICE restart and the end of it are b's business; failback gives it all back.
    assert_int_equal(replicate_failback(b.r, why, sizeof(why)), 0);
    await(a_holds_its_own, NULL);
    assert_int_equal(a.r->group[0].term, term + 2);
    assert_ptr_equal(at(&a, token), p);
    assert_non_null(at(&b, token));
    assert_int_equal(last(&b, MSG_GROUP, 2)->group.role, GROUP_STANDBY);
    assert_null(replicate_refusal(a.r));
}

// The partner takes over for a moment in which neither has died, or because our dataplane has.
static void false_alarm(bool dead)
{
    struct msg_peer_state up = {.head = {.type = MSG_PEER_STATE, .length = sizeof(up), .id = 1},
                                .state = 3};
    channel_port_stats(&a.dp)->link_up = 1;
    channel_send(&a.dp, 1, &up);
    pass(REPLICATE_CALM_MS); // long since up
    a.alone = dead;
    take_over(&b, a.r->group[0].term + 1);
    await(b_holds_both, NULL);
    pass(REPLICATE_CALM_MS / 2);
    assert_true(group_held(b.r, 1) && !group_held(a.r, 0));
}

static void test_a_false_alarm_is_undone(void **state)
{
    false_alarm(false);
    await(a_holds_its_own, NULL);
    assert_int_equal(a.r->counts.false_alarms, 1);
}

static void test_a_dead_dataplane_gets_nothing_back(void **state)
{
    char why[200];
    false_alarm(true);
    assert_int_equal(replicate_failback(b.r, why, sizeof(why)), 0);
    pass(REPLICATE_CALM_MS);
    assert_true(group_held(b.r, 1) && !group_held(a.r, 0));
    a.alone = false;
    await(a_holds_its_own, NULL);
}

// More than lane and queue take, so that nothing else finds room.
static void fill_lane(struct node *n)
{
    struct msg_session_close m = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(m), .id = 1ull << 32}};
    n->alone = true;
    while (session_send(n->set, 1, &m) == 0)
        continue;
}

static bool b_holds_partners(void *opaque)
{
    return group_held(b.r, 1);
}

static bool b_is_told(void *opaque)
{
    const struct logged *group = last(&b, MSG_GROUP, 2), *peer = last(&b, MSG_PEER, 1);
    return group != NULL && group->group.term == b.r->group[1].term && peer != NULL &&
           memcmp(peer->peer.local, b.r->keys[0].key, MSG_TRUNK_KEY) == 0;
}

// Right after a start everything is said again, and the lanes are full for a moment. Without these
// two the dataplane would not serve, or know its partner.
static void test_groups_and_keys_wait_for_room(void **state)
{
    pass(50);
    uint32_t round = b.r->round;
    fill_lane(&b);
    keys_begin(b.r); // it asks the leader for another round
    take_over(&b, b.r->group[1].term + 1);
    await(b_holds_partners, NULL);
    for (int i = 0; i < 100 && b.r->round == round; i++)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_not_equal(b.r->round, round);
    b.alone = false;
    await(b_is_told, NULL);

    // Nor is it said again to who knows it.
    unsigned told = 0;
    pass(4 * REPLICATE_TICK_MS);
    for (unsigned i = 0; i < b.count; i++)
        told += b.log[i].head.type == MSG_PEER &&
                memcmp(b.log[i].peer.local, b.r->keys[0].key, MSG_TRUNK_KEY) == 0;
    assert_int_equal(told, 1);
}

static bool b_is_alone(void *opaque)
{
    return !replink_up(b.r->link);
}

// The partner dies while BFD is down: nobody can see it go, but the connection is gone, too.
static void test_a_partner_dies_unseen(void **state)
{
    struct msg_peer_state m = {.head = {.type = MSG_PEER_STATE, .length = sizeof(m), .id = 1},
                               .state = BFD_UP};
    channel_port_stats(&b.dp)->link_up = 1;
    channel_send(&b.dp, 1, &m);
    pass(50);
    uint32_t term = b.r->group[1].term;
    uint16_t port = replink_port(a.r->link);
    replicate_free(a.r);
    sessions_free(a.set);
    a.alone = true;
    await(b_is_alone, NULL);
    pass(REPLICATE_CONTACT_MS + 4 * REPLICATE_TICK_MS);
    assert_false(group_held(b.r, 1)); // its dataplane lives, and serves
    m.state = BFD_DOWN;
    channel_send(&b.dp, 1, &m);
    await(b_holds_both, &b);
    assert_int_equal(b.r->group[1].term, term + 1);
    assert_int_equal(last(&b, MSG_GROUP, 2)->group.role, GROUP_ACTIVE);
    a.config->parsed.partner.listen = address(1, port);
    start_control(&a);
    a.alone = false;
    await(connected, NULL);
    assert_true(group_held(b.r, 1) && !group_held(a.r, 0));
}

static void test_drain(void **state)
{
    char token[40], why[200];
    share(ROLE_PUBLISH, token);
    assert_int_equal(replicate_drain(a.r, why, sizeof(why)), 0);
    await(b_holds_both, NULL);
    struct session_reply reply;
    session_create(a.set, ROLE_PLAY, "demo", offer(ROLE_PLAY), strlen(offer(ROLE_PLAY)),
                   "192.0.2.9", &reply);
    assert_true(reply.status == 503 || reply.status == 409);
    assert_int_equal(replicate_failback(a.r, why, sizeof(why)), 0); // asks b for it
    await(a_holds_its_own, NULL);
}

// What a partner took because the other died goes back by itself, if so configured. What the other
// had it take stays until somebody wants it back, which ends the drain, wherever it is said.
static void test_a_drain_lasts(void **state)
{
    struct msg_peer_state up = {.head = {.type = MSG_PEER_STATE, .length = sizeof(up), .id = 1},
                                .state = BFD_UP};
    char token[40], why[200];
    share(ROLE_PUBLISH, token);
    b.config->protection.failback = FAILBACK_AUTO;
    channel_send(&b.dp, 1, &up);
    pass(300);
    b.r->up_ms -= REPLICATE_AUTO_MS;
    take_over(&b, a.r->group[0].term + 1);
    await(b_holds_both, NULL);
    await(a_holds_its_own, NULL);

    assert_int_equal(replicate_drain(a.r, why, sizeof(why)), 0);
    await(b_holds_both, NULL);
    pass(6 * REPLICATE_TICK_MS);
    assert_true(group_held(b.r, 1) && !group_held(a.r, 0));
    assert_int_equal(replicate_failback(b.r, why, sizeof(why)), 0);
    await(a_holds_its_own, NULL);
    assert_null(replicate_refusal(a.r));

    // It was stopped, and is back.
    assert_int_equal(replicate_drain(a.r, why, sizeof(why)), 0);
    await(b_holds_both, NULL);
    a.r->boot++;
    replink_drop(a.r->link, "the test starts it anew");
    pass(50);
    await(connected, NULL);
    b.r->up_ms -= REPLICATE_AUTO_MS;
    await(a_holds_its_own, NULL);
}

// While the partner has not answered it is asked again, and may hear it twice.
static void test_a_hand_over_said_twice(void **state)
{
    char token[40], why[200];
    share(ROLE_PUBLISH, token);
    pass(300); // nothing is in the way any more
    assert_int_equal(replicate_drain(a.r, why, sizeof(why)), 0);
    assert_true(a.r->group[0].handing);
    groups_tick(a.r, uv_now(&loop));
    await(b_holds_both, NULL);
    pass(300);
    assert_true(group_held(b.r, 1) && !group_held(a.r, 0));
    assert_int_equal(replicate_failback(b.r, why, sizeof(why)), 0);
    groups_tick(b.r, uv_now(&loop));
    await(a_holds_its_own, NULL);
    pass(300);
    assert_true(group_held(a.r, 0) && !group_held(b.r, 1));
}

// A split: both hold a's group. The higher term stays when they meet again.
static void test_split_brain(void **state)
{
    char token[40];
    share(ROLE_PUBLISH, token);
    uint32_t term = a.r->group[0].term;
    replink_drop(a.r->link, "the test cuts the path");
    take_over(&b, term + 1);
    serve(&b);
    void *either = &b;
    await(b_holds_both, either);
    await(connected, NULL);
    await(b_holds_both, NULL);
    assert_int_equal(a.r->group[0].term, term + 1);
    assert_non_null(at(&a, token));
    assert_non_null(at(&b, token));
}

// What changed while the path was cut is made up for, and what ended is swept.
static void test_resynchronisation(void **state)
{
    char kept[40], ended[40], fresh[40];
    struct session *p = post(&a, ROLE_PUBLISH, "one", NULL, 0);
    struct session *q = post(&a, ROLE_PUBLISH, "two", NULL, 0);
    snprintf(kept, sizeof(kept), "%s", session_token(p));
    snprintf(ended, sizeof(ended), "%s", session_token(q));
    give_keys(p);
    give_keys(q);
    await(b_has_keys, kept);
    await(b_has_keys, ended);
    replink_drop(a.r->link, "the test cuts the path");
    session_close(q, END_DELETED);
    struct session *f = post(&a, ROLE_PUBLISH, "three", NULL, 0);
    snprintf(fresh, sizeof(fresh), "%s", session_token(f));
    assert_non_null(at(&b, ended));
    await(connected, NULL);
    await(b_has, fresh);
    await(b_has_not, ended);
    pass(50);
    assert_non_null(at(&b, kept));
    assert_null(streams_find(b.set->streams, "two"));
}

// What a PATCH came to.
struct patched {
    int calls, status, retry_after_s;
    char etag[32], reason[256], body[4096];
};

static void on_patched(void *opaque, struct session_reply *reply, const char *etag)
{
    struct patched *p = opaque;
    p->calls++;
    p->status = reply->status;
    p->retry_after_s = reply->retry_after_s;
    snprintf(p->etag, sizeof(p->etag), "%s", etag);
    snprintf(p->reason, sizeof(p->reason), "%s", reply->reason);
    snprintf(p->body, sizeof(p->body), "%s", reply->body != NULL ? reply->body : "");
    free(reply->body);
}

static bool is_patched(void *opaque)
{
    return ((struct patched *)opaque)->calls > 0;
}

// A fragment of a client with as many candidates as a machine of many interfaces has.
static const char *fragment(const char *ufrag)
{
    static char text[8192];
    int n = snprintf(text, sizeof(text), "a=ice-ufrag:%s\r\na=ice-pwd:clientpasswordof24chars2\r\n",
                     ufrag);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "m=video 9 RTP/AVP 0\r\na=mid:0\r\n");
    for (int i = 0; i < 60; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n,
                      "a=candidate:%d 1 udp 2122260223 192.0.2.%d 50000 typ host generation 0\r\n",
                      i, i);
    return text;
}

// As whip.c does; whether the partner was asked.
static bool patch(struct session *s, const char *ufrag, const char *if_match, struct patched *out)
{
    const char *text = fragment(ufrag);
    struct session_reply reply;
    *out = (struct patched){0};
    session_patch(s, text, strlen(text), if_match, &reply);
    if (reply.status == 0 &&
        session_forward(s, text, strlen(text), if_match, on_patched, out, &reply))
        return true;
    on_patched(out, &reply, session_etag(s));
    return false;
}

static bool on_both(void *token)
{
    return strcmp(protection(&a, token), "active") == 0 && at(&b, token) != NULL;
}

static json_int_t shown_unconfirmed(const struct node *n, size_t group)
{
    json_t *groups = replicate_groups(n->r);
    json_int_t count =
        json_integer_value(json_object_get(json_array_get(groups, group), "unconfirmed"));
    json_decref(groups);
    return count;
}

// A session that comes while the partner is away is the partner's, too, once that is back; its
// client was told of both places at once, and at each ICE restart.
static void test_a_session_comes_while_the_partner_is_away(void **state)
{
    char answer[8192], token[40];
    struct patched p;
    replink_drop(a.r->link, "the test cuts the path");
    struct session *s = post(&a, ROLE_PUBLISH, "demo", answer, sizeof(answer));
    snprintf(token, sizeof(token), "%s", session_token(s));
    assert_non_null(strstr(strstr(answer, " 10.0.0.1 7000"), " 10.0.0.2 7000 typ host"));
    assert_int_equal(s->open.group, REPLICATE_OWN);
    assert_string_equal(protection(&a, token), "alone");
    assert_int_equal(shown_unconfirmed(&a, 0), 1);
    assert_false(patch(s, "first", session_etag(s), &p));
    assert_int_equal(p.status, 200);
    assert_non_null(strstr(p.body, " 10.0.0.2 7000 typ host"));
    give_keys(s);
    await(connected, NULL);
    await(b_has_keys, token);
    await(on_both, token);
    assert_int_equal(shown_unconfirmed(&a, 0), 0);
    assert_string_equal(protection(&b, token), "standby");
    replink_drop(a.r->link, "the test cuts the path");
    assert_string_equal(protection(&a, token), "alone"); // as far as anybody knows
}

static struct session *come_alone(char token[40])
{
    replink_drop(a.r->link, "the test cuts the path");
    struct session *s = post(&a, ROLE_PLAY, "demo", NULL, 0);
    snprintf(token, 40, "%s", session_token(s));
    give_keys(s);
    assert_int_equal(s->open.group, 0);
    assert_string_equal(protection(&a, token), "none");
    return s;
}

static void is_protected(const char *token)
{
    const struct session *s = at(&a, token);
    assert_int_equal(s->open.group, REPLICATE_OWN);
    assert_int_equal(last(&a, MSG_SESSION_OPEN, s->id)->open.group, REPLICATE_OWN);
    assert_int_equal(at(&b, token)->open.group, REPLICATE_PARTNER);
}

// A viewer of then is in no group until the partner is back; then it is the partner's, too, before
// the two agree on one of them, should both have served.
static void test_a_viewer_comes_while_the_partner_is_away(void **state)
{
    char known[40], token[40];
    go_live();
    share(ROLE_PLAY, known);
    come_alone(token);
    assert_int_equal(at(&a, known)->open.group, REPLICATE_OWN);
    await(connected, NULL);
    await(on_both, token);
    is_protected(token);
    assert_string_equal(protection(&b, token), "standby");

    // Over a restart of the process, too.
    come_alone(token);
    a.config->parsed.partner.listen = address(1, replink_port(a.r->link));
    replicate_free(a.r);
    sessions_free(a.set);
    start_control(&a);
    assert_int_equal(at(&a, token)->open.group, 0);
    await(connected, NULL);
    await(on_both, token);
    is_protected(token);

    come_alone(token);
    take_over(&b, a.r->group[0].term + 1);
    serve(&b);
    void *either = &b;
    await(b_holds_both, either);
    await(connected, NULL);
    await(b_holds_both, NULL);
    await(b_has_keys, token);
    pass(50);
    is_protected(token);
    assert_string_equal(protection(&a, token), "standby");
    assert_true(last(&a, MSG_SESSION_OPEN, at(&a, token)->id) < last(&a, MSG_GROUP, 1));
}

// What is accepted while the partner serves our group is in none, until that comes home.
static void test_a_session_of_no_group_is_protected_later(void **state)
{
    char token[40], viewer[40], why[200];
    take_over(&b, a.r->group[0].term + 1);
    await(b_holds_both, NULL);
    struct session *p = post(&a, ROLE_PUBLISH, "demo", NULL, 0);
    snprintf(token, sizeof(token), "%s", session_token(p));
    give_keys(p);
    make_live(&a, p);
    pass(50);
    struct session *v = post(&a, ROLE_PLAY, "demo", NULL, 0);
    snprintf(viewer, sizeof(viewer), "%s", session_token(v));
    give_keys(v);
    pass(4 * REPLICATE_TICK_MS);
    assert_int_equal(p->open.group, 0);
    assert_string_equal(protection(&a, viewer), "none");
    assert_true(at(&b, token) == NULL && at(&b, viewer) == NULL);

    assert_int_equal(replicate_failback(b.r, why, sizeof(why)), 0);
    await(a_holds_its_own, NULL);
    await(b_has_keys, token);
    await(b_has_keys, viewer);
    await(on_both, viewer);
    assert_int_equal(at(&b, viewer)->open.group, REPLICATE_PARTNER);
    assert_true(streams_find(b.set->streams, "demo")->remote);
    // The dataplane knows, and had the group first.
    assert_int_equal(last(&a, MSG_SESSION_OPEN, v->id)->open.group, REPLICATE_OWN);
    assert_int_equal(last(&a, MSG_STREAM_OPEN, v->stream->id)->stream.peers, 1);
    assert_true(last(&a, MSG_SESSION_OPEN, p->id) > last(&a, MSG_GROUP, REPLICATE_OWN));
    assert_int_equal(shown_unconfirmed(&a, 0), 0);
}

// Our own process starts again: the partner is where the sessions go on.
static void test_a_node_comes_back(void **state)
{
    char token[40];
    share(ROLE_PUBLISH, token);
    uint32_t term = a.r->group[0].term;
    uint16_t port = replink_port(a.r->link);
    a.config->parsed.partner.listen = address(1, port);
    replicate_free(a.r);
    sessions_free(a.set);
    channel_close(&a.dp); // it is dead, too
    take_over(&b, term + 1);
    a.count = 0;
    start_control(&a);
    assert_false(group_held(a.r, 0));
    assert_non_null(replicate_refusal(a.r)); // until it has heard the partner
    char why[256];
    assert_int_equal(channel_open(&a.dp, a.dir, why, sizeof(why)), 0);
    await(connected, NULL);
    await(b_holds_both, NULL);
    assert_non_null(at(&a, token));
    assert_true(streams_find(a.set->streams, "demo")->remote);
}

// Both processes start again, and the dataplane is there first: it is not the one that served.
// a starts again, knowing nobody.
static void lose_a(void)
{
    char path[128], why[256];
    a.config->parsed.partner.listen = address(1, replink_port(a.r->link));
    replicate_free(a.r);
    sessions_free(a.set);
    channel_close(&a.dp);
    snprintf(path, sizeof(path), "%s/" JOURNAL_FILE, a.dir);
    assert_int_equal(unlink(path), 0);
    a.count = 0;
    start_control(&a);
    assert_int_equal(channel_open(&a.dp, a.dir, why, sizeof(why)), 0);
    await(connected, NULL);
    await(b_holds_both, NULL);
    pass(100);
}

// Clients of a's worker 1 know its port: that is where their sessions are whenever they are at a,
// be it that a has lost them and has them from b again.
static void test_workers_of_an_unlike_pair(void **state)
{
    char tokens[SLOTS][40], answer[8192];
    unsigned count = 0;
    for (bool second = false; !second; count++) {
        char name[16];
        snprintf(name, sizeof(name), "demo%u", count);
        assert_true(count < 4);
        struct session *s = post(&a, ROLE_PUBLISH, name, answer, sizeof(answer));
        snprintf(tokens[count], sizeof(tokens[count]), "%s", session_token(s));
        second = s->worker == 1;
        give_keys(s);
        await(b_has_keys, tokens[count]);
    }
    char *token = tokens[count - 1];
    assert_non_null(strstr(answer, " 10.0.0.1 7001 typ host"));
    assert_non_null(strstr(answer, " 10.0.0.2 7000 typ host"));
    pass(30);
    const struct session *copy = at(&b, token);
    assert_int_equal(copy->worker, 0);
    assert_int_equal(last(&b, MSG_SESSION_OPEN, copy->id)->open.home, 1);
    assert_int_equal(last(&b, MSG_STREAM_OPEN, copy->stream->id)->stream.home, 1);
    assert_int_equal(last(&b, MSG_STREAM_OPEN, copy->stream->id)->stream.source_worker, 0);
    take_over(&b, a.r->group[0].term + 1);
    await(b_holds_both, NULL);
    pass(100);
    assert_int_equal(at(&a, token)->worker, 1);

    lose_a();
    const struct session *back = at(&a, token);
    assert_int_equal(back->worker, 1);
    const struct logged *open = last(&a, MSG_SESSION_OPEN, back->id);
    assert_int_equal(open->lane, 2);
    assert_int_equal(open->open.home, 1);
    assert_int_equal(last(&a, MSG_STREAM_OPEN, back->stream->id)->stream.source_worker, 1);
    assert_int_equal(last(&a, MSG_STREAM_OPEN, back->stream->id)->stream.home, 1);
}

static void test_a_new_dataplane_serves_nothing(void **state)
{
    char why[256];
    uint32_t term = a.r->group[0].term;
    assert_true(group_held(a.r, 0));
    uint16_t port = replink_port(a.r->link);
    a.config->parsed.partner.listen = address(1, port);
    pass(50); // the loop has seen the dataplane
    replicate_free(a.r);
    sessions_free(a.set);
    start_control(&a);
    assert_true(group_held(a.r, 0)); // only the control plane did: the other goes on
    pass(50);
    replicate_free(a.r);
    sessions_free(a.set);
    channel_close(&a.dp);
    assert_int_equal(channel_open(&a.dp, a.dir, why, sizeof(why)), 0);
    channel_beat(&a.dp, uv_hrtime(), true);
    take_over(&b, term + 1);
    start_control(&a);
    assert_false(group_held(a.r, 0));
    assert_non_null(replicate_refusal(a.r)); // until it has heard the partner
    await(connected, NULL);
    await(b_holds_both, NULL);
}

// What a busy channel keeps back is told later, whatever else is heard of the session meanwhile.
static void test_keys_that_wait(void **state)
{
    struct msg_session_close filler = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(filler), .id = 1ull << 32 | 99}};
    char token[40];
    struct session *p = post(&a, ROLE_PUBLISH, "demo", NULL, 0);
    snprintf(token, sizeof(token), "%s", session_token(p));
    await(b_has, token);
    pass(50);
    struct session *s = at(&b, token);
    b.alone = true;
    while (session_send(b.set, 1, &filler) == 0)
        ;
    give_keys(p);
    struct patched patched;
    assert_false(patch(p, "another", session_etag(p), &patched));
    assert_int_equal(patched.status, 200);
    await(b_has_keys, token);
    send_numbers(&a, p, 77, 5000);
    await(b_knows_limit, token);
    assert_null(last(&b, MSG_SESSION_KEYS, s->id));
    assert_null(last(&b, MSG_SESSION_ICE, s->id));
    b.alone = false;
    await(b_is_told_again, &s->id);
    assert_memory_equal(last(&b, MSG_SESSION_KEYS, s->id)->keys.local, p->keys->local, 28);
    assert_memory_equal(&last(&b, MSG_SESSION_ICE, s->id)->ice.ice, &p->open.ice,
                        sizeof(p->open.ice));
}

// What a's dataplane says of its own group when it takes it back.
static void take_back(uint32_t term)
{
    struct msg_group_state m = {.head = {.type = MSG_GROUP_STATE, .length = sizeof(m), .id = 1},
                                .term = term,
                                .role = GROUP_ACTIVE};
    channel_send(&a.dp, 1, &m);
    await(a_holds_its_own, NULL);
}

static bool a_is_refused(void *session)
{
    return ((struct session *)session)->refused;
}

static bool a_is_opened(void *session)
{
    return last(&a, MSG_SESSION_OPEN, ((struct session *)session)->id) != NULL;
}

// A dataplane that has lost a session, and is told of it late, must not make up numbers under keys
// that were used while it had none: they go on from the partner's, or it ends.
static void test_an_open_that_waits(void **state)
{
    struct msg_session_close filler = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(filler), .id = 1ull << 32 | 99}};
    char token[40], why[256];
    go_live();
    struct session *v = share(ROLE_PLAY, token);
    uint32_t term = a.r->group[0].term;
    pass(50);
    assert_int_equal(last(&a, MSG_SESSION_OPEN, v->id)->open.imported, 0);
    take_over(&b, term + 1);
    await(b_holds_both, NULL);
    a.set->audit_ms = a.set->now_ms();
    refuse(&a, v->id, DEAD_REFUSED_SLOT);
    await(a_is_refused, v);
    a.count = 0;
    take_back(term + 2);
    await(a_is_opened, v);
    assert_int_equal(last(&a, MSG_SESSION_OPEN, v->id)->open.imported, 1);
    assert_int_equal(last(&a, MSG_SESSION_OPEN, v->id)->open.again, 0);

    take_over(&b, term + 3);
    await(b_holds_both, NULL);
    pass(50);
    a.alone = true;
    while (session_send(a.set, 1, &filler) == 0)
        ;
    session_owe_open(v);
    session_tell(v);
    assert_true(v->tell_open);
    take_back(term + 4);
    assert_true(v->tell_open);
    a.count = 0;
    a.alone = false;
    await(a_is_opened, v);
    assert_int_equal(last(&a, MSG_SESSION_OPEN, v->id)->open.imported, 1);
    assert_int_equal(last(&a, MSG_SESSION_OPEN, v->id)->open.again, 0);

    // It serves: the next one would have to know where it was.
    v->was_keyed = false;
    v->tell_keys = true; // as if there had been no room for them
    channel_close(&a.dp);
    assert_int_equal(channel_open(&a.dp, a.dir, why, sizeof(why)), 0);
    a.count = 0;
    await(a_is_opened, v);
    assert_int_equal(last(&a, MSG_SESSION_OPEN, v->id)->open.again, 1);
}

// An ICE restart at either node is one at both: the client may talk to either.
static void check_restart(struct node *asked, const char *token, const char *ufrag)
{
    struct node *other = asked == &a ? &b : &a;
    struct session *s = at(asked, token), *o = at(other, token);
    struct patched p;
    char old[32], line[64];
    snprintf(old, sizeof(old), "%s", session_etag(s));
    assert_true(run_until(&loop, dataplane_lives, other, 5000));
    bool forwarded = patch(s, ufrag, old, &p);
    assert_int_equal(forwarded, !replicate_serves(asked->r, s->open.group));
    await(is_patched, &p);
    assert_int_equal(p.status, 200);
    assert_string_not_equal(p.etag, old);
    assert_string_equal(p.etag, session_etag(s)); // known here before the client has it
    snprintf(line, sizeof(line), "a=ice-ufrag:%.*s\r\n", MSG_UFRAG_LEN, s->open.ice.ufrag);
    assert_non_null(strstr(p.body, line));
    assert_non_null(strstr(p.body, " 10.0.0.1 7000 typ host"));
    assert_non_null(strstr(p.body, " 10.0.0.2 7000 typ host"));
    pass(50);
    assert_string_equal(session_etag(o), p.etag);
    assert_memory_equal(&o->open.ice, &s->open.ice, sizeof(s->open.ice));
    assert_memory_equal(s->open.ice.remote_ufrag, ufrag, strlen(ufrag));
}

static void test_ice_restarts_at_either_node(void **state)
{
    char token[40];
    struct patched p;
    struct session *s = share(ROLE_PUBLISH, token);
    check_restart(&a, token, "first");
    check_restart(&b, token, "second");
    const struct logged *ta = last(&a, MSG_SESSION_ICE, s->id);
    const struct logged *tb = last(&b, MSG_SESSION_ICE, at(&b, token)->id);
    assert_memory_equal(&ta->ice.ice, &tb->ice.ice, sizeof(ta->ice.ice));

    // The node that serves it refuses as if it had been asked itself.
    assert_true(patch(at(&b, token), "third", NULL, &p));
    await(is_patched, &p);
    assert_int_equal(p.status, 428);
    assert_true(patch(at(&b, token), "third", "\"old\"", &p));
    await(is_patched, &p);
    assert_int_equal(p.status, 412);
    assert_false(patch(at(&b, token), "third", "\"\xff\"", &p));
    assert_int_equal(p.status, 412);
    assert_false(patch(at(&b, token), "second", session_etag(at(&b, token)), &p)); // trickle
    assert_int_equal(p.status, 204);

    // And after a takeover it is the other way round.
    take_over(&b, a.r->group[0].term + 1);
    await(b_holds_both, NULL);
    check_restart(&b, token, "fourth");
    check_restart(&a, token, "fifth");
}

// What cannot be passed on now can be asked for again.
static void test_an_ice_restart_that_has_to_wait(void **state)
{
    char token[40];
    struct patched p;
    share(ROLE_PUBLISH, token);

    a.r->group[0].role = GROUP_STANDBY; // between two words of the partners
    assert_true(patch(at(&b, token), "first", "*", &p));
    await(is_patched, &p);
    assert_int_equal(p.status, 503);
    assert_true(p.retry_after_s > 0);
    a.r->group[0].role = GROUP_ACTIVE;

    assert_true(patch(at(&b, token), "first", "*", &p));
    replink_drop(b.r->link, "the test cuts the path");
    assert_int_equal(p.calls, 1);
    assert_int_equal(p.status, 503);
    assert_true(p.retry_after_s > 0);
    assert_false(patch(at(&b, token), "first", "*", &p));
    assert_int_equal(p.status, 503);
    await(connected, NULL);
    check_restart(&b, token, "second");

    // A partner that says nothing, and one that has more to do than it may have.
    static struct patched many[REPLICATE_PATCHES];
    for (unsigned i = 0; i < REPLICATE_PATCHES; i++)
        assert_true(patch(at(&b, token), "third", "*", &many[i]));
    assert_false(patch(at(&b, token), "third", "*", &p));
    assert_int_equal(p.status, 503);
    patches_tick(b.r, uv_now(&loop) + REPLICATE_PATCH_MS);
    for (unsigned i = 0; i < REPLICATE_PATCHES; i++)
        assert_int_equal(many[i].status, 503);
    pass(100); // the answers come too late for anybody
    for (unsigned i = 0; i < REPLICATE_PATCHES; i++)
        assert_int_equal(many[i].calls, 1);
}

static void other_version(void *opaque, struct wire_hello *hello)
{
    hello->version = WIRE_VERSION + 96;
    hello->workers = 1;
}

static void ignore_greeting(void *opaque, const struct wire_hello *hello, bool leader)
{
}

static void ignore_down(void *opaque, const char *why)
{
}

static bool is_refused(void *opaque)
{
    return strstr(replink_why(opaque), "refused: it speaks version") != NULL;
}

static bool b_forgot_nothing(const char *token)
{
    return at(&b, token) != NULL && at(&a, token) != NULL && replink_up(a.r->link);
}

// An upgraded process of the partner's name comes while the two that we have serve: it is refused
// by name, and nothing of theirs ends.
static void test_another_version_comes_to_a_living_pair(void **state)
{
    static const struct replink_handlers handlers = {
        .hello = other_version, .up = ignore_greeting, .down = ignore_down};
    char token[40], why[256] = "";
    share(ROLE_PUBLISH, token);
    uint64_t connections = replink_counts(a.r->link)->connections;
    struct replink *other;
    struct replink_config config = {.node = "b",
                                    .partner = "a",
                                    .certificate = b.config->protection.certificate,
                                    .key = b.config->protection.key,
                                    .ca = b.config->protection.ca,
                                    .listen = address(1, 0),
                                    .address = address(1, replink_port(a.r->link))};
    assert_int_equal(replink_new(&other, &loop, &config, &handlers, NULL, why, sizeof(why)), 0);
    await(is_refused, other);
    replink_free(other);
    assert_true(replink_counts(a.r->link)->refused > 0);
    assert_int_equal(replink_counts(a.r->link)->connections, connections);
    assert_true(b_forgot_nothing(token));
    struct session *q = post(&a, ROLE_PUBLISH, "more", NULL, 0);
    snprintf(token, sizeof(token), "%s", session_token(q));
    await(b_has, token);
}

static bool a_hung_up(void *opaque)
{
    struct wire_dtls m = {
        .head = {.type = WIRE_DTLS, .length = offsetof(struct wire_dtls, data) + 9}, .size = 9};
    memcpy(m.token.text, opaque, SESSION_TOKEN_LEN);
    for (int i = 0; i < REPLINK_FRAMES_PER_S / 4 && replink_up(b.r->link); i++)
        replink_send(b.r->link, &m);
    return strstr(replink_why(a.r->link), "floods us") != NULL;
}

// Datagrams for one session, more than anybody may send: the connection goes, the sessions stay,
// and when it has been out for a while the partner is back.
static void test_a_partner_that_floods(void **state)
{
    char token[40];
    struct session *p = share(ROLE_PUBLISH, token);
    awaited = a_hung_up;
    assert_true(run_until(&loop, serve_and_look, token, 20000));
    assert_ptr_equal(at(&a, token), p);
    assert_non_null(at(&b, token));
    awaited = connected;
    assert_true(run_until(&loop, serve_and_look, NULL, 4 * REPLINK_SHUN_MS));
    assert_true(group_held(a.r, 0));
    assert_true(b_forgot_nothing(token));
}

struct outcome {
    int calls;
    bool go_on;
};

static void on_awaited(void *opaque, bool go_on)
{
    struct outcome *o = opaque;
    o->calls++;
    o->go_on = go_on;
}

static bool called(void *opaque)
{
    return ((struct outcome *)opaque)->calls > 0;
}

static void test_an_answer_waits(void **state)
{
    struct outcome o = {0};
    struct session *p = post(&a, ROLE_PUBLISH, "demo", NULL, 0);
    assert_int_equal(session_await(p, on_awaited, &o), 1);
    await(called, &o);
    assert_int_equal(o.calls, 1);
    assert_true(o.go_on);
    assert_int_equal(a.r->counts.unconfirmed, 0);

    // The connection goes: no more waiting, and with strict the session must not be used.
    o = (struct outcome){0};
    a.config->protection.strict = true;
    p = post(&a, ROLE_PUBLISH, "other", NULL, 0);
    assert_int_equal(session_await(p, on_awaited, &o), 1);
    replink_drop(a.r->link, "the test cuts the path");
    assert_int_equal(o.calls, 1);
    assert_false(o.go_on);
    assert_int_equal(a.r->counts.unconfirmed, 1);
    assert_non_null(replicate_refusal(a.r));
    assert_int_equal(session_await(p, on_awaited, &o), -ENOTCONN);
    o = (struct outcome){0};
    a.config->protection.strict = false;
    assert_int_equal(session_await(p, on_awaited, &o), 0); // nothing to wait for
    assert_int_equal(o.calls, 0);
}

// With `strict` one that finds no place to wait is refused, not answered as if it were protected.
static void test_too_many_answers_wait(void **state)
{
    static struct outcome all[REPLICATE_WAITS];
    struct outcome o = {0};
    memset(all, 0, sizeof(all));
    struct session *p = post(&a, ROLE_PUBLISH, "demo", NULL, 0);
    for (unsigned i = 0; i < REPLICATE_WAITS; i++)
        assert_int_equal(session_await(p, on_awaited, &all[i]), 1);
    assert_int_equal(session_await(p, on_awaited, &o), 0);
    a.config->protection.strict = true;
    assert_int_equal(session_await(p, on_awaited, &o), -EAGAIN);
    await(called, &all[REPLICATE_WAITS - 1]);
    for (unsigned i = 0; i < REPLICATE_WAITS; i++)
        assert_true(all[i].calls == 1 && all[i].go_on);
    assert_int_equal(o.calls, 0);
    assert_int_equal(session_await(p, on_awaited, &o), 1);
    await(called, &o);
}

// Sessions that a node stands by for take room like its own.
static void test_a_full_partner(void **state)
{
    go_live();
    for (int i = 0; i < SLOTS - 1; i++)
        post(&b, ROLE_PLAY, "demo", NULL, 0);
    pass(50);
    struct session_reply reply;
    session_create(a.set, ROLE_PLAY, "demo", offer(ROLE_PLAY), strlen(offer(ROLE_PLAY)),
                   "192.0.2.9", &reply);
    assert_int_equal(reply.status, 503); // a is full, too: it stands by for b's
    free(reply.body);
    assert_int_equal(b.r->counts.refused, 0);
}

// What the partner cannot take it refuses by name, and takes later, when it can.
static void test_a_partner_that_refuses(void **state)
{
    char first[40], token[40], why[200];
    struct outcome o = {0};
    go_live();
    struct session *v = share(ROLE_PLAY, first);
    struct session *s = post(&a, ROLE_PLAY, "demo", NULL, 0);
    snprintf(token, sizeof(token), "%s", session_token(s));
    assert_int_equal(session_await(s, on_awaited, &o), 1);
    await(called, &o);
    assert_true(o.go_on); // without `strict`
    assert_int_equal(a.r->counts.unconfirmed, 1);
    assert_string_equal(protection(&a, token), "refused");
    assert_string_equal(refusal(&a, token), "no worker has room for it there");
    assert_null(refusal(&a, first));
    assert_int_equal(shown_unconfirmed(&a, 0), 1);
    give_keys(s); // a change: told, and refused once more
    pass(2 * REPLICATE_AGAIN_MS);
    assert_string_equal(protection(&a, token), "refused");
    assert_true(b.r->counts.refused > 2 && at(&b, token) == NULL);

    // Nobody is handed over to who does not have them all.
    assert_int_equal(replicate_drain(a.r, why, sizeof(why)), 0);
    pass(4 * REPLICATE_TICK_MS);
    assert_true(group_held(a.r, 0) && a.r->group[0].handing);

    // Asked again, it has refused until it says otherwise, however long that takes: a way there and
    // back may take longer than a tick, and than it is until the next time.
    uint64_t now = uv_now(a.r->loop);
    refused_tick(a.r, now + REPLICATE_AGAIN_MS);
    replicate_tell(a.r);
    uint64_t sequence = s->replica.sequence;
    assert_true(s->replica.waiting && TAILQ_EMPTY(&a.r->queue));
    assert_string_equal(protection(&a, token), "refused");
    assert_string_equal(refusal(&a, token), "no worker has room for it there");
    refused_tick(a.r, now + 2 * REPLICATE_AGAIN_MS);
    replicate_tell(a.r);
    assert_int_equal(s->replica.sequence, sequence); // or no answer would ever be to the last word
    groups_tick(a.r, now);
    pass(4 * REPLICATE_TICK_MS);
    assert_true(group_held(a.r, 0) && !group_held(b.r, 1) && a.r->group[0].handing);
    session_close(v, END_DELETED);
    await(b_holds_both, NULL);
    assert_true(at(&b, token) != NULL && at(&b, token)->keys->head.length != 0);
    assert_string_equal(protection(&a, token), "standby");
}

// Nor while the answer to the first word of a session is on its way, or while what we said last was
// overtaken by a refusal.
static void test_a_group_waits_for_answers(void **state)
{
    char first[40], token[40], why[200];
    go_live();
    struct session *v = share(ROLE_PLAY, first);
    await(shows_active, first);
    session_save(v, NULL);
    replicate_tell(a.r);
    assert_true(v->replica.waiting && replicate_has_all(a.r, 0)); // it has a copy as it was
    union wire_frame frame = {
        .refused = {.head = {.type = WIRE_REFUSED, .length = sizeof(struct wire_refused)},
                    .why = WIRE_REFUSAL_DATAPLANE}};
    memcpy(frame.refused.token.text, first, SESSION_TOKEN_LEN);
    replicate_refused(a.r, &frame);
    assert_false(replicate_has_all(a.r, 0));
    assert_false(shows_active(first));
    await(shows_active, first);
    assert_true(replicate_has_all(a.r, 0));

    struct session *s = post(&a, ROLE_PLAY, "demo", NULL, 0);
    snprintf(token, sizeof(token), "%s", session_token(s));
    replicate_tell(a.r);
    assert_true(s->replica.waiting && TAILQ_EMPTY(&a.r->queue));
    assert_int_equal(replicate_drain(a.r, why, sizeof(why)), 0);
    await(shows_refused, token);
    pass(4 * REPLICATE_TICK_MS);
    assert_true(group_held(a.r, 0) && !group_held(b.r, 1) && at(&b, token) == NULL);
    session_close(v, END_DELETED);
    await(b_holds_both, NULL);
    assert_non_null(at(&b, token));
}

// A dataplane refuses a copy, and the word of it crosses the wish: the wish is not granted.
static void test_a_wish_crosses_a_refusal(void **state)
{
    char token[40];
    share(ROLE_PUBLISH, token);
    pass(30);
    union wire_frame wish = {.group = {.head = {.type = WIRE_GROUP, .length = sizeof(wish.group)},
                                       .term = msg_next_term(b.r->group[1].term, false),
                                       .owner = WIRE_MINE,
                                       .role = GROUP_ACTIVE,
                                       .wish = GROUP_ACTIVE}};
    assert_true(run_until(&loop, dataplane_lives, &b, 5000));
    at(&b, token)->refused = true;
    groups_frame(b.r, &wish);
    assert_false(group_held(b.r, 1));
    at(&b, token)->refused = false;
    groups_frame(b.r, &wish);
    assert_true(group_held(b.r, 1));
}

static void test_strictly_refused(void **state)
{
    char first[40];
    struct outcome o = {0};
    a.config->protection.strict = true;
    go_live();
    share(ROLE_PLAY, first);
    assert_int_equal(session_await(post(&a, ROLE_PLAY, "demo", NULL, 0), on_awaited, &o), 1);
    await(called, &o);
    assert_false(o.go_on);
}

// With a stream go its sessions; it is told again with them.
static void test_a_partner_that_refuses_a_stream(void **state)
{
    char other[40];
    go_live();
    struct session *p = post(&a, ROLE_PUBLISH, "other", NULL, 0);
    snprintf(other, sizeof(other), "%s", session_token(p));
    give_keys(p);
    await(shows_refused, other);
    assert_string_equal(refusal(&a, other), "its stream is not known there");
    session_close(streams_find(a.set->streams, "demo")->publisher, END_DELETED);
    await(shows_active, other);
    assert_non_null(at(&b, other));
    assert_null(refusal(&a, other));
}

// An answer to what was said before says nothing of what was said since, nor does one of who does
// not hold the session.
static void test_refusals_out_of_place(void **state)
{
    char token[40];
    struct session *p = share(ROLE_PUBLISH, token);
    pass(30);
    struct wire_refused m = {.head = {.type = WIRE_REFUSED, .length = sizeof(m)},
                             .count = p->replica.sequence - 1,
                             .why = WIRE_REFUSAL_ROOM};
    memcpy(m.token.text, token, SESSION_TOKEN_LEN);
    assert_int_equal(replink_send(b.r->link, &m), 0);
    pass(30);
    assert_true(shows_active(token));
    m.count = 0;
    assert_int_equal(replink_send(a.r->link, &m), 0); // to the one that stands by
    pass(30);
    assert_true(shows_active(token));
    assert_string_equal(protection(&b, token), "standby");
}

// A client whose packets reach b.
struct client {
    struct dtls *dtls;
    uint64_t session; // b's number of it
    unsigned read;    // of b's log
};

static void client_sends(void *opaque, const uint8_t *data, size_t size)
{
    const struct client *c = opaque;
    struct msg_dtls m = {.head = {.type = MSG_DTLS_RECEIVED,
                                  .length = (uint16_t)(offsetof(struct msg_dtls, data) + size),
                                  .id = c->session},
                         .remote = address(9, 4000),
                         .size = (uint16_t)size};
    memcpy(m.data, data, size);
    assert_int_equal(channel_send(&b.dp, 1, &m), 0);
}

static bool client_is_done(void *opaque)
{
    struct client *c = opaque;
    while (c->read < b.count) {
        const struct msg_dtls *m = (const void *)b.log[c->read++].bytes;
        if (m->head.type == MSG_DTLS_SEND && m->head.id == c->session)
            dtls_input(c->dtls, m->data, m->size);
    }
    return dtls_state(c->dtls) != DTLS_HANDSHAKE;
}

// A group goes over while a client is joining: the handshake is with the node that accepted it,
// and goes on by way of the one that serves, which has the keys from it.
static void test_a_handshake_goes_on(void **state)
{
    char token[40], why[200];
    struct dtls_identity identity;
    struct dtls_fingerprint print;
    struct dtls_keys keys;
    struct client client = {0};
    assert_int_equal(dtls_identity_init(&identity, NULL, 0), 0);
    go_live();
    client_print = identity.fingerprint;
    struct session *s = post(&a, ROLE_PLAY, "demo", NULL, 0);
    client_print = no_print;
    snprintf(token, sizeof(token), "%s", session_token(s));
    await(b_has, token);
    take_over(&b, a.r->group[0].term + 1);
    await(b_holds_both, NULL);

    client.session = at(&b, token)->id;
    client.read = b.count;
    assert_int_equal(dtls_fingerprint_parse(&print, "sha-256", a.set->identity.fingerprint), 0);
    assert_int_equal(
        dtls_new(&client.dtls, &identity, DTLS_CLIENT, &print, 1, client_sends, &client), 0);
    dtls_start(client.dtls);
    await(client_is_done, &client);
    assert_int_equal(dtls_export(client.dtls, &keys), 0);
    await(b_has_keys, token);
    assert_memory_equal(at(&b, token)->keys->local, keys.remote, keys.size);
    assert_memory_equal(at(&b, token)->keys->remote, keys.local, keys.size);
    pass(50);
    assert_memory_equal(last(&b, MSG_SESSION_KEYS, client.session)->keys.local, keys.remote,
                        keys.size);
    assert_null(last(&a, MSG_DTLS_SEND, s->id)); // a sends nothing
    assert_int_equal(at(&b, token)->phase, PHASE_DTLS);

    assert_int_equal(replicate_failback(b.r, why, sizeof(why)), 0);
    await(a_holds_its_own, NULL);
    assert_memory_equal(s->keys->local, keys.remote, keys.size);
    dtls_close(client.dtls); // its goodbye, too, finds the one that can read it
    await(b_has_not, token);
    assert_null(at(&a, token));
    dtls_free(client.dtls);
    dtls_identity_free(&identity);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_dataplanes_learn_of_each_other),
        TEST(test_keys_are_fresh_for_a_new_dataplane),
        TEST(test_groups_and_keys_wait_for_room),
        TEST(test_a_session_stands_by),
        TEST(test_a_refused_copy),
        TEST(test_keys_that_wait),
        TEST(test_an_open_that_waits),
        TEST(test_numbers_are_confirmed),
        TEST(test_a_right_is_passed_on),
        TEST(test_limits_never_go_down),
        TEST(test_terms_follow_the_holder),
        TEST(test_takeover_and_failback),
        TEST(test_a_false_alarm_is_undone),
        TEST(test_a_dead_dataplane_gets_nothing_back),
        TEST(test_a_partner_dies_unseen),
        TEST(test_drain),
        TEST(test_a_drain_lasts),
        TEST(test_a_hand_over_said_twice),
        TEST(test_split_brain),
        TEST(test_resynchronisation),
        TEST(test_a_session_comes_while_the_partner_is_away),
        TEST(test_a_viewer_comes_while_the_partner_is_away),
        cmocka_unit_test_setup_teardown(test_a_session_of_no_group_is_protected_later, setup_apart,
                                        teardown),
        TEST(test_a_node_comes_back),
        cmocka_unit_test_setup_teardown(test_workers_of_an_unlike_pair, setup_unlike, teardown),
        TEST(test_a_new_dataplane_serves_nothing),
        TEST(test_ice_restarts_at_either_node),
        TEST(test_an_ice_restart_that_has_to_wait),
        TEST(test_another_version_comes_to_a_living_pair),
        TEST(test_a_partner_that_floods),
        TEST(test_an_answer_waits),
        TEST(test_too_many_answers_wait),
        TEST(test_a_full_partner),
        cmocka_unit_test_setup_teardown(test_a_partner_that_refuses, setup_few_sessions, teardown),
        cmocka_unit_test_setup_teardown(test_a_group_waits_for_answers, setup_few_sessions,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_strictly_refused, setup_few_sessions, teardown),
        cmocka_unit_test_setup_teardown(test_a_partner_that_refuses_a_stream, setup_few_streams,
                                        teardown),
        TEST(test_refusals_out_of_place),
        TEST(test_a_wish_crosses_a_refusal),
        TEST(test_a_handshake_goes_on),
    };
    log_level(LEVEL_ERROR);
    signal(SIGPIPE, SIG_IGN); // as the program does: a bell may have nobody to hear it
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
