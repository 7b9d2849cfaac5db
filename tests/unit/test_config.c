// Unit tests of controlplane/config.c, config_check.c and the rate limit of log.c.
#include "../../controlplane/config.h"
#include "../../controlplane/config_check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char source_dir[512]; // of the checkout, from this file's own path

struct problems {
    int count;
    int line[32];
    char key[32][96];
    char reason[32][256];
};

static void collect(void *opaque, int line, const char *key, const char *reason)
{
    struct problems *problems = opaque;
    assert_true(problems->count < 32);
    problems->line[problems->count] = line;
    snprintf(problems->key[problems->count], 96, "%s", key);
    snprintf(problems->reason[problems->count++], 256, "%s", reason);
}

static int load(const char *text, struct config **config, struct problems *problems)
{
    char path[] = "/tmp/hitless-test-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    memset(problems, 0, sizeof(*problems));
    int rc = config_load(path, config, collect, problems);
    unlink(path);
    return rc;
}

static void assert_same(const struct config *a, const struct config *b)
{
    struct abi_config x, y;
    config_to_abi(a, &x);
    config_to_abi(b, &y);
    assert_memory_equal(&x, &y, sizeof(x));
    assert_memory_equal(&a->parsed, &b->parsed, sizeof(a->parsed));
    assert_memory_equal(&a->limits, &b->limits, sizeof(a->limits));
    assert_memory_equal(&a->session, &b->session, sizeof(a->session));
    assert_int_equal(a->codecs_count, b->codecs_count);
    assert_memory_equal(a->codecs, b->codecs, a->codecs_count * sizeof(*a->codecs));
    assert_string_equal(a->runtime_dir, b->runtime_dir);
    assert_int_equal(a->log, b->log);
    assert_int_equal(a->http.streams, b->http.streams);
    assert_int_equal(a->http.status, b->http.status);
    assert_int_equal(a->http.metrics, b->http.metrics);
    assert_int_equal(a->http.cors_origins_count, b->http.cors_origins_count);
    assert_string_equal(a->auth.play.jwt.stream_claim, b->auth.play.jwt.stream_claim);
    assert_int_equal(a->auth.publish.jwt.leeway_s, b->auth.publish.jwt.leeway_s);
}

static void test_documented_file_equals_the_defaults(void **state)
{
    struct config *defaults, *file;
    struct problems problems = {0};
    char path[600];
    snprintf(path, sizeof(path), "%s/configs/hitless.yaml", source_dir);
    assert_int_equal(config_load(NULL, &defaults, collect, &problems), 0);
    assert_int_equal(config_load(path, &file, collect, &problems), 0);
    assert_int_equal(problems.count, 0);
    assert_same(defaults, file);
    assert_int_equal(file->parsed.listen_count, 2);
    assert_int_equal(file->parsed.listen[1].addr.family, 6);
    assert_int_equal(file->parsed.listen[1].addr.port, 8080);
    assert_string_equal(file->parsed.operator_path, "/run/hitless/operator.sock");
    config_free(defaults);
    config_free(file);
}

// The documented file with one line left out differs from the whole file only by that default, so
// each key must stand there, in its section, exactly once.
struct key_search {
    char *text;
    int keys;
};

static void find_key(void *opaque, const char *key, const char *def)
{
    struct key_search *search = opaque;
    char copy[128], *rest = copy, *part;
    const char *at = search->text;
    int depth = 0;
    if (!def) {
        fail_msg("%s has no default", key);
        return;
    }
    snprintf(copy, sizeof(copy), "%s", key);
    while ((part = strsep(&rest, "."))) {
        char line[96];
        snprintf(line, sizeof(line), "\n%*s%s:", 2 * depth++, "", part);
        at = strstr(at, line);
        if (!at) {
            fail_msg("configs/hitless.yaml does not document %s", key);
            return;
        }
        at += strlen(line) - 1;
    }
    search->keys++;
}

static void test_every_key_is_documented(void **state)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/configs/hitless.yaml", source_dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    static char text[65536];
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    struct key_search search = {.text = text};
    config_each_key(find_key, &search);
    assert_true(search.keys > 50);
}

// The text of an example, with files that its host would have in place of those it names.
static const char *example(const char *name)
{
    static char text[16384];
    char path[600];
    snprintf(path, sizeof(path), "%s/configs/%s.yaml", source_dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    for (char *at = text; (at = strstr(at, " /etc/hitless/")) != NULL;) {
        size_t length = 1 + strcspn(at + 1, " \n");
        memset(at, ' ', length);
        memcpy(at + 1, "/dev/null", 9);
    }
    return text;
}

static void test_example_files_are_good(void **state)
{
    static const char *names[] = {"bare-metal", "cloud", "pair"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct config *config;
        struct problems problems;
        if (load(example(names[i]), &config, &problems) < 0)
            fail_msg("%s:%d: %s: %s", names[i], problems.line[0], problems.key[0],
                     problems.reason[0]);
        config_free(config);
    }
}

static void test_empty_files_are_defaults(void **state)
{
    static const char *files[] = {"", "# nothing\n", "---\n", "{}\n"};
    struct config *defaults, *config;
    struct problems problems = {0};
    assert_int_equal(config_load(NULL, &defaults, collect, &problems), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        assert_int_equal(load(files[i], &config, &problems), 0);
        assert_same(defaults, config);
        config_free(config);
    }
    config_free(defaults);
}

static void test_values_arrive(void **state)
{
    struct config *config;
    struct problems problems;
    struct abi_config abi;
    assert_int_equal(load("node: edge-1\n"
                          "dataplane: {workers: 2, cores: [2, 3], main_core: 1, idle: spin}\n"
                          "port: {kind: pci, device: '0000:01:00.1', vlan: 7, mtu: 9000,\n"
                          "       mac: '02:00:00:00:00:0a'}\n"
                          "media: {ipv4: 192.0.2.9/28, ipv6: '', gateway4: 192.0.2.1,\n"
                          "        announce: [198.51.100.7, '2001:db8::7']}\n"
                          "codecs: [vp8, opus]\n"
                          "http: {listen: ['127.0.0.1:0'], external_url: 'https://a.example/x'}\n"
                          "auth: {play: {tokens: ['12345678 demo*']}}\n"
                          "operator: {socket: /tmp/x.sock}\n",
                          &config, &problems),
                     0);
    config_to_abi(config, &abi);
    assert_string_equal(abi.node, "edge-1");
    assert_int_equal(abi.workers, 2);
    assert_int_equal(abi.cores[0], 2);
    assert_int_equal(abi.cores[1], 3);
    assert_int_equal(abi.cores[2], -1);
    assert_int_equal(abi.main_core, 1);
    assert_int_equal(abi.idle, ABI_IDLE_SPIN);
    assert_int_equal(abi.port_kind, ABI_PORT_PCI);
    assert_string_equal(abi.device, "0000:01:00.1");
    assert_int_equal(abi.vlan, 7);
    assert_int_equal(abi.own_l3, 1);
    assert_memory_equal(abi.mac, "\x02\0\0\0\0\x0a", 6);
    assert_memory_equal(abi.media4.ip, "\xc0\x00\x02\x09", 4);
    assert_int_equal(abi.media4.port, 7000);
    assert_int_equal(abi.prefix4, 28);
    assert_int_equal(abi.media6.family, 0);
    assert_memory_equal(abi.gateway4.ip, "\xc0\x00\x02\x01", 4);
    assert_int_equal(config->parsed.announce[1].family, 6);
    assert_int_equal(config->parsed.codec_mask, 1u << CODEC_VP8 | 1u << CODEC_OPUS);
    assert_int_equal(config->codecs[0], CODEC_VP8);
    assert_string_equal(config->auth.play.tokens[0], "12345678 demo*");
    assert_string_equal(config->parsed.operator_path, "/tmp/x.sock");
    config_free(config);
}

static const struct bad {
    const char *text;
    int line;
    const char *key, *reason; // reason: part of it
} bad[] = {
    {"nodes: x\n", 1, "nodes", "unknown key"},
    {"\n\nport:\n  kind: xdp\n", 4, "port.kind", "not one of af_xdp, pci"},
    {"port:\n  mtu: 100\n", 2, "port.mtu", "out of range 1280 to 9000"},
    {"port:\n  mtu: 0x600\n", 2, "port.mtu", "not a whole number"},
    {"port:\n  mtu: 99999999999999999999\n", 2, "port.mtu", "not a whole number"},
    {"port:\n  - a\n", 1, "port", "must be a section, not a list"},
    {"node: [a]\n", 1, "node", "must be a plain value, not a list"},
    {"node: a\nnode: b\n", 2, "node", "given twice"},
    {"node: 'a b'\n", 1, "node", "may hold only"},
    {"dataplane:\n  hugepages: yes\n", 2, "dataplane.hugepages", "neither true nor false"},
    {"dataplane:\n  workers: 2\n  cores: [1]\n", 3, "dataplane.cores", "1 CPUs for 2 workers"},
    {"dataplane:\n  cores: [-2]\n", 2, "dataplane.cores", "out of range"},
    {"dataplane:\n  workers: 0\n", 2, "dataplane.workers", "out of range 1 to 16"},
    {"media:\n  ipv4: 10.0.0.1\n", 2, "media.ipv4", "IPv4 address with prefix"},
    {"media:\n  ipv4: 224.0.0.1/24\n", 2, "media.ipv4", "IPv4 address with prefix"},
    {"media:\n  ipv4: fd77::1/64\n", 2, "media.ipv4", "IPv4 address with prefix"},
    {"media:\n  ipv6: fd77::1/129\n", 2, "media.ipv6", "IPv6 address with prefix"},
    {"media:\n  ipv4: ''\n  ipv6: ''\n", 2, "media.ipv4", "neither"},
    {"media:\n  gateway4: 10.78.0.1\n", 2, "media.gateway4", "outside the subnet"},
    {"media:\n  udp_port: 65535\ndataplane: {workers: 2}\n", 2, "media.udp_port", "no port"},
    {"media:\n  announce: [here]\n", 2, "media.announce", "not an IP address"},
    {"http:\n  listen: ['::1:80']\n", 2, "http.listen", "ADDRESS:PORT"},
    {"http:\n  listen: []\n", 2, "http.listen", "no address"},
    {"http:\n  key: /nonexistent\n", 2, "http.key", "cannot be read"},
    {"http:\n  key: /dev/null\n", 2, "http.key", "only one is given"},
    {"http:\n  key: /dev/null\n  certificate: /dev/null\n", 3, "http.certificate", "be used"},
    {"http:\n  external_url: example.com\n", 2, "http.external_url", "https://HOST"},
    {"http:\n  cors_origins: ['https://a/b']\n", 2, "http.cors_origins", "origin"},
    {"auth:\n  play:\n    jwt:\n      algorithm: none\n", 4, "auth.play.jwt.algorithm", "not one"},
    {"auth:\n  play:\n    jwt:\n      algorithm: HS256\n", 4, "auth.play.jwt.key_file", "needed"},
    {"auth:\n  play:\n    tokens: [secret1]\n", 3, "auth.play.tokens", "an item is shorter"},
    {"codecs: [opus, mp3]\n", 1, "codecs", "'mp3' is not one of"},
    {"a: [\n", 2, "", "not YAML"},
    {"port:\n\tkind: pci\n", 2, "", "a tab"},
    {"node: a\n---\nnode: b\n", 3, "", "a second document"},
    {"node: a\nport:\nmedia:\n  udp_port: 7000\n", 2, "port", "is empty: give it a section"},
    {"dataplane: {workers: 2, cores: [3, 3]}\n", 1, "dataplane.cores", "CPU 3 twice"},
    {"http:\n  listen: ['[::]:80', '0.0.0.0:80', '[::]:80']\n", 2, "http.listen", "twice"},
    {"just text\n", 1, "", "not a list of keys"},
    {"port: {device: a-name-much-too-long}\n", 1, "port.device", "1 to 15 characters"},
    {"protection:\n  bfd:\n    multihop: true\n", 3, "protection.bfd.multihop",
     "needs protection.bfd.key"},
    {"memory:\n  rx_mbufs: 4000\n  tx_mbufs: 3839\n", 2, "memory.rx_mbufs", "7839 are too few"},
    {"memory:\n  cache_mbufs: 6559\n", 2, "memory.cache_mbufs", "give 6560"},
    {"port:\n  kind: pci\n  device: 0000:01:00.1\nmemory:\n  tx_mbufs: 2719\n", 5,
     "memory.tx_mbufs", "the port's descriptors, which take 2048: give 2720"},
    {"port: {mtu: 9000}\nlimits: {streams: 65536}\n", 0, "memory.cache_mbufs", "give 164000"},
    {"port: {kind: pci, device: eth0}\n", 1, "port.device", "not a PCI address"},
};

static void test_problems_are_named_with_their_line(void **state)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct config *config = NULL;
        struct problems problems;
        int rc = load(bad[i].text, &config, &problems);
        if (rc == 0 || problems.count != 1 || problems.line[0] != bad[i].line ||
            strcmp(problems.key[0], bad[i].key) != 0 || !strstr(problems.reason[0], bad[i].reason))
            fail_msg("'%s': rc %d, %d problems, first %d: %s: %s", bad[i].text, rc, problems.count,
                     problems.line[0], problems.key[0], problems.reason[0]);
    }
}

// Across routers BFD has a key, or the operator says that it shall do without.
static void test_multihop_bfd_is_authenticated(void **state)
{
    static const char *const good[] = {
        "protection: {bfd: {multihop: true, key: 'a secret'}}\n",
        "protection: {bfd: {multihop: true, allow_unauthenticated: true}}\n",
        "protection: {bfd: {multihop: false}}\n",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct config *config = NULL;
        struct problems problems;
        assert_int_equal(load(good[i], &config, &problems), 0);
        assert_int_equal(config->protection.bfd.multihop, i < 2);
        config_free(config);
    }
}

static void test_all_problems_are_reported_at_once(void **state)
{
    struct config *config;
    struct problems problems;
    assert_true(load("nodes: x\nport: {mtu: 1, kind: y}\nlog: loud\n", &config, &problems) < 0);
    assert_int_equal(problems.count, 4);
}

static void test_secrets_are_not_repeated(void **state)
{
    struct config *config;
    struct problems problems;
    assert_true(load("auth: {publish: {tokens: ['s3cr3t']}}\n", &config, &problems) < 0);
    assert_null(strstr(problems.reason[0], "s3cr3t"));
}

static void test_missing_file(void **state)
{
    struct config *config;
    struct problems problems = {0};
    assert_true(config_load("/nonexistent/x.yaml", &config, collect, &problems) < 0);
    assert_int_equal(problems.count, 1);
}

static void test_log_limit(void **state)
{
    struct log_limit limit = {0};
    uint32_t missed, logged = 0;
    for (int i = 0; i < 100; i++)
        logged += log_limit_take(&limit, 1000 + (uint64_t)i, &missed);
    assert_int_equal(logged, LOG_BURST);
    assert_true(log_limit_take(&limit, 1000 + LOG_WINDOW_MS, &missed));
    assert_int_equal(missed, 100 - LOG_BURST);
}

int main(void)
{
    snprintf(source_dir, sizeof(source_dir), "%s", __FILE__);
    for (int i = 0; i < 3; i++) {
        char *slash = strrchr(source_dir, '/');
        if (slash)
            *slash = '\0';
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documented_file_equals_the_defaults),
        cmocka_unit_test(test_every_key_is_documented),
        cmocka_unit_test(test_example_files_are_good),
        cmocka_unit_test(test_empty_files_are_defaults),
        cmocka_unit_test(test_values_arrive),
        cmocka_unit_test(test_problems_are_named_with_their_line),
        cmocka_unit_test(test_multihop_bfd_is_authenticated),
        cmocka_unit_test(test_all_problems_are_reported_at_once),
        cmocka_unit_test(test_secrets_are_not_repeated),
        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_log_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
