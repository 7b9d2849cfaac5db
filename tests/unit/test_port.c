// The ports that need no hardware, packets through them, and the one line that every other kind
// gives when it cannot open. The AF_XDP kind is opened for real in a network namespace of the
// test's own, if we may make one.
#include "../../drivers/port.h"
#include "../../drivers/xdp/loader.h"
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct rte_mempool *pool;
static bool own_network;
static char why[512];

static struct abi_config make_config(enum abi_port_kind kind, const char *device)
{
    struct abi_config config = {.workers = 1,
                                .port_kind = kind,
                                .mtu = 1500,
                                .own_l3 = 1,
                                .media4 = {.family = 4, .port = 7000},
                                .media6 = {.family = 6, .port = 7000}};
    snprintf(config.device, sizeof(config.device), "%s", device);
    inet_pton(AF_INET, "10.77.0.2", config.media4.ip);
    inet_pton(AF_INET6, "fd77::2", config.media6.ip);
    return config;
}

static int open_port(struct port *port, const struct abi_config *config)
{
    struct rte_mempool *pools[ABI_MAX_WORKERS];
    for (int w = 0; w < ABI_MAX_WORKERS; w++)
        pools[w] = pool;
    snprintf(why, sizeof(why), "%s", "");
    return port_open(port, config, pools, why, sizeof(why));
}

// The port must not open, with this error, and say why in one line that holds `part`.
static void expect_refused(const struct abi_config *config, int error, const char *part)
{
    struct port port;
    int got = open_port(&port, config);
    if (got != error || strstr(why, part) == NULL || strchr(why, '\n') != NULL)
        fail_msg("%d \"%s\" instead of %d \"...%s...\"", got, why, error, part);
    // The same line before EAL starts, where it can be known.
    if (error != -EINVAL || strstr(why, "takes an MTU") == NULL)
        assert_int_equal(port_check(config, why, sizeof(why)), error);
}

static struct rte_mbuf *make_frame(uint8_t fill, uint16_t size)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
    assert_non_null(m);
    memset(rte_pktmbuf_append(m, size), fill, size);
    return m;
}

static void test_ring(void **state)
{
    struct abi_config config = make_config(ABI_PORT_RING, "");
    config.workers = 2;
    struct port port;
    struct rte_mbuf *got[4];
    void *out = NULL;
    assert_int_equal(open_port(&port, &config), 0);
    assert_int_equal(port.queues, 2);
    assert_false(port.tx_udp_cksum);
    struct rte_ring *in = rte_ring_lookup("port_rx_1");
    struct rte_ring *sent = rte_ring_lookup("port_tx_1");
    assert_non_null(in);
    assert_non_null(sent);
    assert_int_equal(rte_ring_enqueue(in, make_frame(7, 100)), 0);
    assert_int_equal(rte_eth_rx_burst(port.id, 0, got, 4), 0);
    assert_int_equal(rte_eth_rx_burst(port.id, 1, got, 4), 1);
    assert_int_equal(rte_eth_tx_burst(port.id, 1, got, 1), 1);
    assert_int_equal(rte_ring_dequeue(sent, &out), 0);
    assert_ptr_equal(out, got[0]);
    rte_pktmbuf_free(out);

    struct stats_port stats = {0};
    port_stats(&port, &stats);
    assert_int_equal(stats.rx_packets, 1);
    assert_int_equal(stats.tx_packets, 1);
    assert_int_equal(stats.link_up, 1);
    assert_string_equal(stats.driver, "net_ring");
    port_close(&port);
    assert_null(rte_ring_lookup("port_rx_1"));
    assert_int_equal(rte_eth_dev_count_avail(), 0);
}

static void test_loop(void **state)
{
    struct abi_config config = make_config(ABI_PORT_RING, "loop");
    struct port port;
    struct rte_mbuf *got[4], *frame;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(open_port(&port, &config), 0);
        frame = make_frame(1, 60);
        assert_int_equal(rte_eth_tx_burst(port.id, 0, &frame, 1), 1);
        assert_int_equal(rte_eth_rx_burst(port.id, 0, got, 4), 1);
        assert_ptr_equal(got[0], frame);
        rte_pktmbuf_free(frame);
        port_close(&port);
    }
}

static void test_null(void **state)
{
    struct abi_config config = make_config(ABI_PORT_NULL, "");
    struct port port;
    struct rte_mbuf *got[4], *frame = make_frame(1, 60);
    assert_int_equal(open_port(&port, &config), 0);
    assert_int_equal(rte_eth_rx_burst(port.id, 0, got, 4), 0);
    assert_int_equal(rte_eth_tx_burst(port.id, 0, &frame, 1), 1);
    port_close(&port);
    assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void test_pcap(void **state)
{
    // One frame of 14 bytes; classic pcap, microseconds, little-endian, Ethernet.
    static const uint8_t file[24 + 16 + 14] = {
        0xd4, 0xc3,          0xb2,           0xa1,          2, 0, 4, 0, [16] = 0xff, 0xff, 0, 0,
        1,    [24 + 8] = 14, [24 + 12] = 14, [24 + 16] = 2,
    };
    char dir[] = "/tmp/test_port.XXXXXX", rx[48], tx[48], device[100];
    assert_non_null(mkdtemp(dir));
    snprintf(rx, sizeof(rx), "%s/rx.pcap", dir);
    snprintf(tx, sizeof(tx), "%s/tx.pcap", dir);
    snprintf(device, sizeof(device), "%s,%s", rx, tx);
    FILE *out = fopen(rx, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(file, sizeof(file), 1, out), 1);
    fclose(out);

    struct abi_config config = make_config(ABI_PORT_PCAP, device);
    struct port port;
    struct rte_mbuf *got[4];
    assert_int_equal(open_port(&port, &config), 0);
    assert_int_equal(rte_eth_rx_burst(port.id, 0, got, 4), 1);
    assert_int_equal(rte_pktmbuf_pkt_len(got[0]), 14);
    assert_int_equal(rte_pktmbuf_mtod(got[0], uint8_t *)[0], 2);
    assert_int_equal(rte_eth_tx_burst(port.id, 0, got, 1), 1);
    port_close(&port);
    struct stat written;
    assert_int_equal(stat(tx, &written), 0);
    assert_int_equal(written.st_size, sizeof(file));
    unlink(rx);
    unlink(tx);
    rmdir(dir);
}

static void test_refusals(void **state)
{
    struct abi_config config = make_config(99, "");
    expect_refused(&config, -EINVAL, "port kind 99");
    config = make_config(ABI_PORT_PCAP, "one.pcap");
    expect_refused(&config, -EINVAL, "rx.pcap,tx.pcap");
    config = make_config(ABI_PORT_PCAP, "/nonexistent/a,/nonexistent/b");
    expect_refused(&config, -ENOENT, "/nonexistent/a cannot be read");
    config = make_config(ABI_PORT_PCAP, "/dev/null,/nonexistent/b");
    expect_refused(&config, -ENOENT, "/nonexistent/b cannot be written");
    config.workers = 2;
    expect_refused(&config, -EINVAL, "one worker");
    config = make_config(ABI_PORT_RING, "");
    memset(config.device, 'x', sizeof(config.device));
    expect_refused(&config, -EINVAL, "too long");
    if (geteuid() != 0)
        return;
    config = make_config(ABI_PORT_PCI, "not-an-address");
    expect_refused(&config, -EINVAL, "not a PCI address");
    config = make_config(ABI_PORT_PCI, "ffff:1f.1");
    expect_refused(&config, -EINVAL, "not a PCI address");
    config = make_config(ABI_PORT_PCI, "00fe:fe:1f.7");
    expect_refused(&config, -ENODEV, "no PCI device 00fe:fe:1f.7");
    config = make_config(ABI_PORT_AF_XDP, "nosuchif0");
    expect_refused(&config, -ENODEV, "no interface 'nosuchif0'");
}

static void run(const char *command)
{
    int status = system(command);
    if (status != 0)
        fail_msg("%s: %d", command, status);
}

static void attach_foreign(const char *name)
{
    static const struct bpf_insn pass[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "someone_elses", "GPL", pass, 2, NULL);
    assert_true(fd >= 0);
    assert_int_equal(bpf_xdp_attach((int)if_nametoindex(name), fd, 0, NULL), 0);
    close(fd);
}

static void test_afxdp_refusals(void **state)
{
    if (!own_network)
        skip();
    struct abi_config config = make_config(ABI_PORT_AF_XDP, "port1");
    run("ip link set port1 down");
    expect_refused(&config, -ENETDOWN, "ip link set port1 up");
    run("ip link set port1 up");
    config.workers = 2;
    expect_refused(&config, -EINVAL, "1 queue pair at most");
    config.workers = 1;
    config.mtu = 1600;
    expect_refused(&config, -EINVAL, "MTU of 1500");
    config.mtu = 1500;
    config.mac[5] = 1;
    expect_refused(&config, -ENOTSUP, "leave 'mac' out");
    config.mac[5] = 0;

    attach_foreign("port1");
    expect_refused(&config, -EBUSY, "another XDP program, 'someone_elses'");
    run("ip link set dev port1 xdp off");

    char object[4096];
    assert_int_equal(loader_find_object(object, sizeof(object)), 0);
    setenv("HITLESS_XDP_OBJECT", "/nonexistent.o", 1);
    expect_refused(&config, -ENOENT, "set HITLESS_XDP_OBJECT");
    setenv("HITLESS_XDP_OBJECT", object, 1);
}

static uint32_t attached(const char *name)
{
    char program[32];
    uint32_t id;
    assert_true(loader_attached(if_nametoindex(name), program, sizeof(program), &id) >= 0);
    return id;
}

// Has the kernel on port0 ask for our address, and get no answer.
static void provoke_arp(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    inet_pton(AF_INET, "10.77.0.2", &to.sin_addr);
    run("ip neigh flush dev port0");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
    close(fd);
}

// One test, because a process can open the interface's queue once. What a crashed instance left
// attached is replaced; packets come and go; our program is off in the end.
static void test_afxdp(void **state)
{
    if (!own_network)
        skip();
    struct abi_config config = make_config(ABI_PORT_AF_XDP, "port1");
    struct port port;
    struct rte_mbuf *got[32];
    uint64_t counts[STEER_VERDICTS];
    char object[4096], command[4200];
    assert_int_equal(loader_find_object(object, sizeof(object)), 0);
    snprintf(command, sizeof(command), "ip link set dev port1 xdp obj %s sec xdp", object);
    run(command);
    uint32_t stale = attached("port1");
    assert_int_not_equal(stale, 0);
    assert_int_equal(open_port(&port, &config), 0);
    assert_true(attached("port1") != 0 && attached("port1") != stale);

    provoke_arp();
    int n = 0; // the frame is on its way through the kernel's softirq
    for (int turn = 0; turn < 1000000 && n == 0; turn++)
        n = rte_eth_rx_burst(port.id, 0, got, 32);
    assert_true(n >= 1);
    const uint8_t *frame = rte_pktmbuf_mtod(got[0], const uint8_t *);
    assert_int_equal(frame[12] << 8 | frame[13], 0x0806);
    assert_int_equal(rte_eth_tx_burst(port.id, 0, got, (uint16_t)n), n);
    assert_int_equal(loader_counts(attached("port1"), counts), 0);
    assert_true(counts[STEER_arp] >= 1);
    assert_int_equal(counts[STEER_no_socket], 0);

    struct stats_port stats = {0};
    port_stats(&port, &stats);
    assert_int_equal(stats.link_up, 1);
    assert_int_equal(stats.tx_packets, n);
    assert_string_equal(stats.device, "port1");
    port_close(&port);
    assert_int_equal(attached("port1"), 0);
}

static int start(void **state)
{
    struct abi_config config = make_config(ABI_PORT_NULL, "");
    char *args[16] = {"test_port", "--no-shconf",    "--no-huge",      "-m",
                      "128",       "--no-telemetry", "--lcores=0@(0)", "--log-level=error"};
    int n = 8;
    n += port_eal_args(&config, args + n, 15 - n);
    // Before EAL makes its threads, so that they are in it, too.
    own_network = geteuid() == 0 && unshare(CLONE_NEWNET) == 0 &&
                  system("ip link add port0 type veth peer name port1 && "
                         "ip addr add 10.77.0.1/24 dev port0 && "
                         "ip link set port0 up && ip link set port1 up") == 0;
    if (rte_eal_init(n, args) < 0)
        return -1;
    pool = rte_pktmbuf_pool_create("test", 8191, 0, 64, RTE_PKTMBUF_HEADROOM + 2048, 0);
    return pool ? 0 : -1;
}

static int stop(void **state)
{
    rte_mempool_free(pool);
    rte_eal_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),     cmocka_unit_test(test_loop),
        cmocka_unit_test(test_null),     cmocka_unit_test(test_pcap),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_afxdp_refusals),
        cmocka_unit_test(test_afxdp),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
