// Unit tests of controlplane/replicate_link.c: two ends in one process over loopback TLS.
#include "../../controlplane/log.h"
#include "../../controlplane/replicate_link.h"
#include "replicate_pair.h"
#include <errno.h>

struct end {
    struct replink *link;
    bool up, leader;
    int ups, downs, acks;
    uint64_t last_ack;
    uint32_t workers;
    char why[256];
    char certificate[96], key[96], ca[96];
    int refuse_frames;
    uint64_t frame_ns; // that each takes to deal with
};

static uv_loop_t loop;

static void on_hello(void *opaque, struct wire_hello *hello)
{
    struct end *end = opaque;
    hello->workers = end->workers;
    for (int i = 0; i < 2; i++)
        hello->group[i] = (struct wire_group){.owner = (uint8_t)i, .role = GROUP_ACTIVE};
}

static void on_up(void *opaque, const struct wire_hello *hello, bool leader)
{
    struct end *end = opaque;
    end->up = true;
    end->ups++;
    end->leader = leader;
    assert_int_equal(hello->version, WIRE_VERSION);
}

static int on_frame(void *opaque, const union wire_frame *frame, char *why, size_t why_size)
{
    struct end *end = opaque;
    assert_int_equal(frame->head.type, WIRE_ACK);
    end->acks++;
    end->last_ack = frame->ack.count;
    for (uint64_t until = uv_hrtime() + end->frame_ns; uv_hrtime() < until;)
        continue;
    if (end->refuse_frames == 0)
        return 0;
    snprintf(why, why_size, "sent what I do not like");
    return -EPROTO;
}

static void on_turn(void *opaque)
{
}

static void on_down(void *opaque, const char *why)
{
    struct end *end = opaque;
    end->up = false;
    end->downs++;
    snprintf(end->why, sizeof(end->why), "%s", why);
}

static const struct replink_handlers handlers = {
    .hello = on_hello, .up = on_up, .frame = on_frame, .turn = on_turn, .down = on_down};

static struct abi_addr loopback(uint16_t port)
{
    return (struct abi_addr){.ip = {127, 0, 0, 1}, .port = port, .family = 4};
}

// Opens an end named `node` that expects `partner` and dials `port` (0: only listens).
static void open_end_on(uv_loop_t *where, struct end *end, const char *node, const char *partner,
                        const char *file, uint16_t port)
{
    char why[256] = "";
    *end = (struct end){.workers = 1};
    snprintf(end->certificate, sizeof(end->certificate), "%s/%s.pem", certs, file);
    snprintf(end->key, sizeof(end->key), "%s/%s.key", certs, file);
    snprintf(end->ca, sizeof(end->ca), "%s/ca.pem", certs);
    struct replink_config config = {.node = node,
                                    .partner = partner,
                                    .certificate = end->certificate,
                                    .key = end->key,
                                    .ca = end->ca,
                                    .listen = loopback(0),
                                    .address = loopback(port)};
    int rc = replink_new(&end->link, where, &config, &handlers, end, why, sizeof(why));
    if (rc != 0)
        fail_msg("%s", why);
}

static void open_end(struct end *end, const char *node, const char *partner, const char *file,
                     uint16_t port)
{
    open_end_on(&loop, end, node, partner, file, port);
}

static int loop_open(void **state)
{
    return uv_loop_init(&loop);
}

static struct end a, b;

static void open_pair(void)
{
    open_end(&a, "a", "b", "a", 0);
    open_end(&b, "b", "a", "b", replink_port(a.link));
}

static void close_pair(void)
{
    replink_free(a.link);
    replink_free(b.link);
    a.link = b.link = NULL;
}

static int loop_end(void **state)
{
    close_pair(); // for tests that ended early
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static bool both_up(void *opaque)
{
    return a.up && b.up;
}

static bool both_down(void *opaque)
{
    return !a.up && !b.up;
}

static bool a_explains(void *opaque)
{
    return *replink_why(a.link) != 0 && strstr(replink_why(a.link), opaque) != NULL;
}

static bool b_explains(void *opaque)
{
    return *replink_why(b.link) != 0 && strstr(replink_why(b.link), opaque) != NULL;
}

static struct wire_ack ack_frame(uint64_t count)
{
    return (struct wire_ack){.head = {.type = WIRE_ACK, .length = sizeof(struct wire_ack)},
                             .count = count};
}

static bool all_came(void *opaque)
{
    return a.acks == *(int *)opaque;
}

static void test_frames_pass_in_order(void **state)
{
    int count = 3000;
    open_pair();
    assert_true(run_until(&loop, both_up, NULL, 3000));
    assert_true(a.leader && !b.leader);
    for (int i = 1; i <= count; i++) {
        struct wire_ack m = ack_frame((uint64_t)i);
        assert_int_equal(replink_send(b.link, &m), 0);
    }
    assert_true(run_until(&loop, all_came, &count, 3000));
    assert_int_equal(a.last_ack, count);
    close_pair();
}

// Whoever connects first, the connection that a dialled stays, and only one does.
static void test_both_dial(void **state)
{
    open_end(&b, "b", "a", "b", 0);
    uint16_t port = replink_port(b.link);
    open_end(&a, "a", "b", "a", port);
    struct end c;
    assert_true(run_until(&loop, both_up, NULL, 3000));
    // Another process of the same name takes over from the one before.
    open_end(&c, "a", "b", "a", port);
    int downs = b.downs;
    bool (*again)(void *) = both_up;
    a.up = true;
    for (int i = 0; i < 200 && b.downs == downs; i++)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(b.downs, downs + 1);
    assert_true(again(NULL));
    assert_true(b.ups >= 2);
    replink_free(c.link);
    close_pair();
}

// Connections of somebody who never says a word keep the partner out for no longer than it takes.
static void test_idle_strangers_do_not_keep_the_partner_out(void **state)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int idle[8 * REPLINK_PENDING];
    open_end(&a, "a", "b", "a", 0); // b comes from an address that a does not know
    to.sin_port = htons(replink_port(a.link));
    for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++) {
        idle[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(idle[i], (struct sockaddr *)&to, sizeof(to)), 0);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    open_end(&b, "b", "a", "b", replink_port(a.link));
    assert_true(run_until(&loop, both_up, NULL, REPLINK_GREET_MS / 2));
    unsigned open = 0;
    for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++) {
        char byte;
        open += recv(idle[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
        close(idle[i]);
    }
    assert_in_range(open, 1, REPLINK_PENDING);
    close_pair();
}

// However many come meanwhile: from the partner's address they are not.
static void test_strangers_do_not_displace_the_partner(void **state)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002)};
    char byte;
    open_end(&b, "b", "a", "b", 0);
    open_end(&a, "a", "b", "a", replink_port(b.link)); // from 127.0.0.1, which a dials, too
    to.sin_port = htons(replink_port(a.link));
    int partner = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), stranger[8 * REPLINK_PENDING];
    assert_int_equal(connect(partner, (struct sockaddr *)&to, sizeof(to)), 0);
    for (size_t i = 0; i < sizeof(stranger) / sizeof(stranger[0]); i++) {
        stranger[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(stranger[i], (struct sockaddr *)&from, sizeof(from)), 0);
        assert_int_equal(connect(stranger[i], (struct sockaddr *)&to, sizeof(to)), 0);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(recv(stranger[0], &byte, 1, MSG_DONTWAIT), 0); // hung up on
    assert_int_equal(recv(partner, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    close(partner);
    for (size_t i = 0; i < sizeof(stranger) / sizeof(stranger[0]); i++)
        close(stranger[i]);
    close_pair();
}

static void test_a_stranger_is_refused_by_name(void **state)
{
    open_end(&a, "a", "b", "a", 0);
    open_end(&b, "b", "a", "other", replink_port(a.link));
    assert_true(run_until(&loop, a_explains, "its certificate is not b's", 3000));
    assert_false(a.up);
    assert_true(replink_counts(a.link)->refused > 0);
    close_pair();
}

static void test_a_wrong_name_is_refused(void **state)
{
    open_end(&a, "a", "b", "a", 0);
    open_end(&b, "b", "a", "a", replink_port(a.link)); // a's own certificate
    assert_true(run_until(&loop, a_explains, "its certificate is not b's", 3000));
    assert_false(a.up);
    close_pair();
}

// The name in HELLO must be the certificate's.
static void test_a_false_hello_is_refused(void **state)
{
    open_end(&a, "a", "b", "a", 0);
    open_end(&b, "c", "a", "b", replink_port(a.link));
    assert_true(run_until(&loop, a_explains, "it calls itself 'c', not 'b'", 3000));
    assert_true(run_until(&loop, b_explains, "hung up: refused: it calls itself", 3000));
    assert_false(a.up);
    close_pair();
}

static void test_a_handler_can_refuse(void **state)
{
    open_pair();
    assert_true(run_until(&loop, both_up, NULL, 3000));
    a.refuse_frames = 1;
    struct wire_ack m = ack_frame(1);
    replink_send(b.link, &m);
    assert_true(run_until(&loop, both_down, NULL, 1000));
    assert_string_equal(a.why, "sent what I do not like");
    assert_string_equal(b.why, "hung up: sent what I do not like");
    a.refuse_frames = 0;
    assert_true(run_until(&loop, both_up, NULL, 3000)); // and is back
    close_pair();
}

static void test_nonsense_is_refused(void **state)
{
    open_pair();
    assert_true(run_until(&loop, both_up, NULL, 3000));
    struct wire_group m = {.head = {.type = WIRE_GROUP, .length = sizeof(m)}, .role = 77};
    replink_send(b.link, &m);
    assert_true(run_until(&loop, both_down, NULL, 1000));
    assert_string_equal(a.why, "sent a malformed GROUP");
    close_pair();
}

// Far more than what is allowed, as fast as it goes, however busy the machine.
static bool flooded(void *opaque)
{
    struct wire_ack m = ack_frame(1);
    for (int i = 0; i < REPLINK_FRAMES_PER_S / 4 && replink_up(b.link); i++)
        replink_send(b.link, &m);
    return strcmp(a.why, "floods us") == 0;
}

static bool turned_away(void *opaque)
{
    return replink_counts(a.link)->refused >= 2;
}

static void test_a_flood_is_refused(void **state)
{
    open_pair();
    assert_true(run_until(&loop, both_up, NULL, 3000));
    assert_true(run_until(&loop, flooded, NULL, 20000));
    assert_int_equal(replink_counts(a.link)->floods, 1);
    // And it is not let in again at once, however often it dials.
    assert_true(run_until(&loop, turned_away, NULL, 5000));
    assert_int_equal(a.ups, 1);
    assert_true(run_until(&loop, both_up, NULL, 2 * REPLINK_SHUN_MS));
    assert_int_equal(a.ups, 2);
    close_pair();
}

static bool a_hung_up(void *opaque)
{
    return replink_counts(a.link)->floods > 0;
}

// Each time everything would have to be told anew. These take each other's place all the time.
static void test_coming_and_going_is_a_flood(void **state)
{
    static struct end more[3 * REPLINK_FRAMES_PER_S / REPLINK_UP_FRAMES];
    open_end(&a, "a", "b", "a", 0);
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
        open_end(&more[i], "b", "a", "b", replink_port(a.link));
    assert_true(run_until(&loop, a_hung_up, NULL, 20000));
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
        replink_free(more[i].link);
    replink_free(a.link);
    a.link = b.link = NULL;
}

static bool all_dealt_with(void *opaque)
{
    return a.acks == *(int *)opaque;
}

// A partner that keeps us busy waits its turn, and loses nothing.
static void test_a_busy_partner_leaves_time_to_others(void **state)
{
    int frames = 100;
    open_pair();
    assert_true(run_until(&loop, both_up, NULL, 3000));
    a.frame_ns = 1000000;
    for (int i = 1; i <= frames; i++) {
        struct wire_ack m = ack_frame((uint64_t)i);
        assert_int_equal(replink_send(b.link, &m), 0);
    }
    assert_true(run_until(&loop, all_dealt_with, &frames, 20000));
    assert_int_equal(a.last_ack, frames);
    assert_true(replink_counts(a.link)->rests >= (unsigned)frames / (REPLINK_STRETCH_MS + 1));
    assert_true(a.up && b.up);
    close_pair();
}

static bool both_up_on_two_loops(void *opaque)
{
    uv_run(opaque, UV_RUN_NOWAIT);
    return a.up && b.up;
}

// A partner whose process hangs keeps its connection open and says nothing.
static void test_a_stalled_partner_is_given_up(void **state)
{
    uv_loop_t other;
    uv_loop_init(&other);
    open_end(&a, "a", "b", "a", 0);
    open_end_on(&other, &b, "b", "a", "b", replink_port(a.link));
    assert_true(run_until(&loop, both_up_on_two_loops, &other, 5000));
    assert_true(run_until(&loop, a_explains, "has stalled", 2 * REPLINK_SILENCE_MS));
    assert_int_equal(a.downs, 1);
    close_pair();
    uv_run(&other, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&other), 0);
}

// And what we have for one that does not read does not pile up.
static void test_a_partner_that_does_not_read_is_given_up(void **state)
{
    uv_loop_t other;
    uv_loop_init(&other);
    open_end(&a, "a", "b", "a", 0);
    open_end_on(&other, &b, "b", "a", "b", replink_port(a.link));
    assert_true(run_until(&loop, both_up_on_two_loops, &other, 5000));
    struct wire_ack m = ack_frame(1);
    uint64_t sent = 0;
    int rc = 0;
    while (rc == 0 && sent < 64 * REPLINK_QUEUE) {
        rc = replink_send(a.link, &m);
        sent += sizeof(m);
        if (sent % (1 << 20) < sizeof(m))
            uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(rc, -ENOBUFS);
    assert_string_equal(a.why, "it does not read what we send");
    assert_false(replink_up(a.link));
    close_pair();
    uv_run(&other, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&other), 0);
}

// A peer that connects and says nothing is not held for long, and does not keep the partner away.
static void test_a_silent_stranger_holds_nobody_up(void **state)
{
    open_end(&a, "a", "b", "a", 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(replink_port(a.link)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[2 * REPLINK_PENDING];
    for (int i = 0; i < 2 * REPLINK_PENDING; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&at, sizeof(at)), 0);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    open_end(&b, "b", "a", "b", replink_port(a.link));
    assert_true(run_until(&loop, both_up, NULL, 3 * REPLINK_GREET_MS));
    for (int i = 0; i < 2 * REPLINK_PENDING; i++)
        close(fds[i]);
    close_pair();
}

static void test_files_that_are_no_certificates(void **state)
{
    char why[256] = "", path[96];
    snprintf(path, sizeof(path), "%s/ca.srl", certs);
    struct replink *link;
    struct replink_config config = {.node = "a",
                                    .partner = "b",
                                    .certificate = path,
                                    .key = path,
                                    .ca = path,
                                    .listen = loopback(0)};
    assert_int_equal(replink_new(&link, &loop, &config, &handlers, &a, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "ca.srl cannot be used"));
}

static void copy_file(const char *from, const char *to)
{
    char command[256];
    snprintf(command, sizeof(command), "cp %s/%s %s/%s", certs, from, certs, to);
    assert_int_equal(system(command), 0); // NOLINT(concurrency-mt-unsafe, cert-env33-c)
}

// A renewed certificate is taken up by the next connection; a broken file changes nothing.
static void test_certificates_are_read_again(void **state)
{
    char why[256] = "";
    copy_file("b.pem", "renewed.pem");
    copy_file("b.key", "renewed.key");
    open_end(&a, "a", "b", "a", 0);
    open_end(&b, "b", "a", "renewed", replink_port(a.link));
    assert_true(run_until(&loop, both_up, NULL, 3000));
    copy_file("ca.pem", "renewed.key");
    assert_int_equal(replink_reload(b.link, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "renewed.key cannot be used"));
    replink_drop(b.link, "the test wants another connection");
    assert_true(run_until(&loop, both_down, NULL, 1000));
    assert_true(run_until(&loop, both_up, NULL, 3000));
    copy_file("other.pem", "renewed.pem"); // not what a expects: seen only if it is in use
    copy_file("other.key", "renewed.key");
    assert_int_equal(replink_reload(b.link, why, sizeof(why)), 0);
    assert_true(replink_up(b.link)); // nothing that is up is lost
    replink_drop(b.link, "the test wants another connection");
    assert_true(run_until(&loop, a_explains, "its certificate is not b's", 3000));
    close_pair();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, loop_open, loop_end)
    const struct CMUnitTest tests[] = {
        TEST(test_frames_pass_in_order),
        TEST(test_both_dial),
        TEST(test_idle_strangers_do_not_keep_the_partner_out),
        TEST(test_strangers_do_not_displace_the_partner),
        TEST(test_a_stranger_is_refused_by_name),
        TEST(test_a_wrong_name_is_refused),
        TEST(test_a_false_hello_is_refused),
        TEST(test_a_handler_can_refuse),
        TEST(test_nonsense_is_refused),
        TEST(test_a_flood_is_refused),
        TEST(test_coming_and_going_is_a_flood),
        TEST(test_a_busy_partner_leaves_time_to_others),
        TEST(test_a_stalled_partner_is_given_up),
        TEST(test_a_partner_that_does_not_read_is_given_up),
        TEST(test_a_silent_stranger_holds_nobody_up),
        TEST(test_files_that_are_no_certificates),
        TEST(test_certificates_are_read_again),
    };
    signal(SIGPIPE, SIG_IGN); // as the control plane does
    log_level(LEVEL_ERROR);
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
