// The steering program under BPF_PROG_TEST_RUN: frames in, verdicts out, as the program counts
// them. Without a socket in the map a redirect falls back to XDP_PASS, so the counters are what
// tells. Attaching and detaching are tried on a veth pair in a network namespace of the test's own.
#include "../../drivers/xdp/loader.h"
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIPPED 77
#define PORT_LOW 7000
#define PORT_HIGH 7003

enum { UDP = 17, ICMP = 1, ICMP6 = 58, TCP = 6, FRAGMENT = 44, HOP_BY_HOP = 0 };

static struct bpf_object *object;
static int program;
static uint32_t program_id;

struct frame {
    uint8_t data[256];
    size_t size;
    size_t needed; // bytes without which the frame cannot be ours
};

static void put(struct frame *frame, const void *data, size_t size)
{
    assert_true(frame->size + size <= sizeof(frame->data));
    memcpy(frame->data + frame->size, data, size);
    frame->size += size;
}

static void put16(struct frame *frame, uint16_t value)
{
    value = htons(value);
    put(frame, &value, 2);
}

static void put_ip(struct frame *frame, const char *text)
{
    uint8_t ip[16];
    int family = strchr(text, ':') ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(family, text, ip), 1);
    put(frame, ip, family == AF_INET ? 4 : 16);
}

// `tags` holds VLAN ids, 0-terminated; 0xf000 and above stand for a priority tag of VLAN 0.
static void ethernet(struct frame *frame, uint16_t proto, const uint16_t *tags)
{
    static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
    memset(frame, 0, sizeof(*frame));
    put(frame, macs, sizeof(macs));
    for (; tags && *tags; tags++) {
        put16(frame, 0x8100);
        put16(frame, *tags >= 0xf000 ? 0xe000 : *tags);
    }
    put16(frame, proto);
}

struct packet {
    const char *name;
    const char *to;
    uint8_t proto;              // the IP header's
    uint16_t port_or_type;      // UDP destination port or ICMP type
    enum steer_verdict verdict; // with own_l3
    enum steer_verdict without_own_l3;
    const uint16_t *tags;
    uint8_t options;   // IPv4: 32-bit words of options
    uint16_t fragment; // IPv4: the flags and offset field
    uint8_t ihl;       // 0: right
};

static void build(struct frame *frame, const struct packet *p)
{
    bool v6 = strchr(p->to, ':') != NULL;
    ethernet(frame, v6 ? 0x86dd : 0x0800, p->tags);
    if (v6) {
        put(frame, "\x60\0\0\0\0\x10", 6);
        put(frame, &p->proto, 1);
        put(frame, "\xff", 1);
        put_ip(frame, "fd77::1");
        put_ip(frame, p->to);
    } else {
        uint8_t first = 0x40 | (p->ihl ? p->ihl : 5 + p->options);
        put(frame, &first, 1);
        put(frame, "\0\0\x30\0\0", 5);
        put16(frame, p->fragment);
        put(frame, "\x40", 1);
        put(frame, &p->proto, 1);
        put(frame, "\0\0", 2);
        put_ip(frame, "10.77.0.1");
        put_ip(frame, p->to);
        for (int i = 0; i < p->options; i++)
            put(frame, "\1\1\1\1", 4);
    }
    if (p->proto == UDP) {
        put16(frame, 40000);
        put16(frame, p->port_or_type);
        put(frame, "\0\x10\0\0", 4);
    } else {
        uint8_t type = (uint8_t)p->port_or_type;
        put(frame, &type, 1);
        put(frame, "\0\0\0\0\0\0\0", 7);
    }
    frame->needed = frame->size;
    put(frame, "payload!", 8);
}

static const uint16_t vlan5[] = {5, 0}, vlan7[] = {7, 0}, stacked[] = {5, 5, 0},
                      priority[] = {0xf000, 0};

static const struct packet packets[] = {
    {.name = "IPv4 media", "10.77.0.2", UDP, 7000, STEER_media, STEER_media},
    {.name = "IPv4 media, last port", "10.77.0.2", UDP, 7003, STEER_media, STEER_media},
    {.name = "IPv4 media, second address", "192.0.2.9", UDP, 7001, STEER_media, STEER_media},
    {.name = "IPv4 media behind options",
     "10.77.0.2",
     UDP,
     7000,
     STEER_media,
     STEER_media,
     .options = 10},
    {.name = "IPv4 media, don't fragment",
     "10.77.0.2",
     UDP,
     7000,
     STEER_media,
     STEER_media,
     .fragment = 0x4000},
    {.name = "IPv6 media", "fd77::2", UDP, 7000, STEER_media, STEER_media},
    {.name = "priority-tagged media",
     "10.77.0.2",
     UDP,
     7000,
     STEER_media,
     STEER_media,
     .tags = priority},
    {.name = "IPv4 port below", "10.77.0.2", UDP, 6999, STEER_pass, STEER_pass},
    {.name = "IPv4 port above", "10.77.0.2", UDP, 7004, STEER_pass, STEER_pass},
    {.name = "IPv6 port above", "fd77::2", UDP, 7004, STEER_pass, STEER_pass},
    {.name = "IPv4 other address", "10.77.0.3", UDP, 7000, STEER_pass, STEER_pass},
    {.name = "IPv6 other address", "fd77::3", UDP, 7000, STEER_pass, STEER_pass},
    {.name = "IPv6 address that differs at its start",
     "fd78::2",
     UDP,
     7000,
     STEER_pass,
     STEER_pass},
    {.name = "IPv4 TCP", "10.77.0.2", TCP, 7000, STEER_pass, STEER_pass},
    {.name = "IPv6 TCP", "fd77::2", TCP, 7000, STEER_pass, STEER_pass},
    {.name = "IPv6 hop-by-hop", "fd77::2", HOP_BY_HOP, 17, STEER_pass, STEER_pass},
    {.name = "media on a VLAN that is not ours",
     "10.77.0.2",
     UDP,
     7000,
     STEER_pass,
     STEER_pass,
     .tags = vlan5},
    {.name = "IPv4 first fragment",
     "10.77.0.2",
     UDP,
     7000,
     STEER_fragment,
     STEER_fragment,
     .fragment = 0x2000},
    {.name = "IPv4 later fragment",
     "10.77.0.2",
     UDP,
     7000,
     STEER_fragment,
     STEER_fragment,
     .fragment = 0x0010},
    {.name = "IPv4 fragment for another",
     "10.77.0.3",
     UDP,
     7000,
     STEER_pass,
     STEER_pass,
     .fragment = 0x2000},
    {.name = "IPv6 fragment", "fd77::2", FRAGMENT, 17, STEER_fragment, STEER_fragment},
    {.name = "IPv4 header of 16 bytes",
     "10.77.0.2",
     UDP,
     7000,
     STEER_malformed,
     STEER_malformed,
     .ihl = 4},
    {.name = "IPv4 header past the end",
     "10.77.0.2",
     UDP,
     7000,
     STEER_malformed,
     STEER_malformed,
     .ihl = 15},
    {.name = "echo", "10.77.0.2", ICMP, 8, STEER_echo, STEER_pass},
    {.name = "echo reply", "10.77.0.2", ICMP, 0, STEER_pass, STEER_pass},
    {.name = "echo to another", "10.77.0.3", ICMP, 8, STEER_pass, STEER_pass},
    {.name = "ICMPv6 echo", "fd77::2", ICMP6, 128, STEER_echo, STEER_pass},
    {.name = "ICMPv6 echo to all nodes", "ff02::1", ICMP6, 128, STEER_pass, STEER_pass},
    {.name = "solicitation to our group", "ff02::1:ff00:2", ICMP6, 135, STEER_neighbor, STEER_pass},
    {.name = "solicitation to us", "fd77::2", ICMP6, 135, STEER_neighbor, STEER_pass},
    {.name = "solicitation to another group", "ff02::1:ff00:3", ICMP6, 135, STEER_pass, STEER_pass},
    {.name = "solicitation to ff05", "ff05::1:ff00:2", ICMP6, 135, STEER_pass, STEER_pass},
    {.name = "advertisement to us", "fd77::2", ICMP6, 136, STEER_neighbor, STEER_pass},
    {.name = "advertisement to all nodes", "ff02::1", ICMP6, 136, STEER_neighbor, STEER_pass},
    {.name = "advertisement to another", "fd77::3", ICMP6, 136, STEER_pass, STEER_pass},
    {.name = "router advertisement", "ff02::1", ICMP6, 134, STEER_pass, STEER_pass},
};

static struct steer_config configuration(bool own_l3, uint16_t vlan)
{
    struct steer_config config = {.v4_count = 2,
                                  .v6_count = 1,
                                  .port_low = PORT_LOW,
                                  .port_high = PORT_HIGH,
                                  .vlan = vlan,
                                  .own_l3 = own_l3};
    inet_pton(AF_INET, "10.77.0.2", &config.v4[0]);
    inet_pton(AF_INET, "192.0.2.9", &config.v4[1]);
    inet_pton(AF_INET6, "fd77::2", &config.v6[0]);
    return config;
}

// Runs the program on the frame and returns the one verdict that it counted; `*no_socket` says
// whether it tried to redirect.
static enum steer_verdict run(const struct frame *frame, size_t size, bool *no_socket)
{
    uint64_t before[STEER_VERDICTS], after[STEER_VERDICTS];
    uint8_t out[sizeof(frame->data)];
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->data, .data_size_in = (uint32_t)size,
                .data_out = out, .data_size_out = sizeof(out), .repeat = 1);
    assert_int_equal(loader_counts(program_id, before), 0);
    assert_int_equal(bpf_prog_test_run_opts(program, &opts), 0);
    assert_int_equal(opts.retval, XDP_PASS);
    assert_int_equal(opts.data_size_out, size);
    assert_memory_equal(out, frame->data, size);
    assert_int_equal(loader_counts(program_id, after), 0);

    int verdict = -1;
    for (int i = 0; i < STEER_VERDICTS; i++) {
        uint64_t counted = after[i] - before[i];
        assert_true(counted <= 1);
        if (i == STEER_no_socket)
            *no_socket = counted == 1;
        else if (counted) {
            assert_int_equal(verdict, -1);
            verdict = i;
        }
    }
    assert_int_not_equal(verdict, -1);
    assert_int_equal(*no_socket, verdict <= STEER_neighbor);
    return (enum steer_verdict)verdict;
}

static void expect(const struct frame *frame, enum steer_verdict verdict, const char *name)
{
    static const char *const names[] = {
#define X(verdict_name, help) #verdict_name,
        STEER_LIST(X)
#undef X
    };
    bool no_socket;
    enum steer_verdict got = run(frame, frame->size, &no_socket);
    if (got != verdict)
        fail_msg("%s: %s, not %s", name, names[got], names[verdict]);
}

static void configure(const struct steer_config *config)
{
    assert_int_equal(loader_configure(program_id, config), 0);
}

static void test_packets(void **state)
{
    struct frame frame;
    for (int own_l3 = 0; own_l3 < 2; own_l3++) {
        struct steer_config config = configuration(own_l3, 0);
        configure(&config);
        for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
            build(&frame, &packets[i]);
            expect(&frame, own_l3 ? packets[i].verdict : packets[i].without_own_l3,
                   packets[i].name);
        }
    }
}

static void test_truncated(void **state)
{
    struct frame frame;
    bool no_socket;
    struct steer_config config = configuration(true, 0);
    configure(&config);
    for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
        build(&frame, &packets[i]);
        if (packets[i].verdict > STEER_neighbor)
            continue;
        for (size_t size = 14; size < frame.needed; size++)
            assert_int_equal(run(&frame, size, &no_socket), STEER_malformed);
    }
}

static void test_vlan(void **state)
{
    struct frame frame;
    struct packet packet = packets[0];
    struct steer_config config = configuration(true, 5);
    configure(&config);
    build(&frame, &packet);
    expect(&frame, STEER_pass, "untagged");
    packet.tags = vlan5;
    build(&frame, &packet);
    expect(&frame, STEER_media, "our VLAN");
    packet.tags = vlan7;
    build(&frame, &packet);
    expect(&frame, STEER_pass, "another VLAN");
    packet.tags = stacked;
    build(&frame, &packet);
    expect(&frame, STEER_pass, "two tags");
}

static void arp(struct frame *frame, const char *sender, const char *target)
{
    ethernet(frame, 0x0806, NULL);
    put(frame, "\0\1\x08\0\6\4\0\1\2\0\0\0\0\1", 14);
    put_ip(frame, sender);
    put(frame, "\0\0\0\0\0\0", 6);
    put_ip(frame, target);
    frame->needed = frame->size;
}

static void test_arp(void **state)
{
    struct frame frame;
    bool no_socket;
    struct steer_config config = configuration(true, 0);
    configure(&config);
    arp(&frame, "10.77.0.1", "10.77.0.2");
    expect(&frame, STEER_arp, "for us");
    for (size_t size = 14; size < frame.needed; size++)
        assert_int_equal(run(&frame, size, &no_socket), STEER_malformed);
    arp(&frame, "10.77.0.1", "10.77.0.3");
    expect(&frame, STEER_pass, "for another");
    arp(&frame, "10.77.0.1", "10.77.0.1");
    expect(&frame, STEER_arp, "gratuitous");
    config.own_l3 = 0;
    configure(&config);
    arp(&frame, "10.77.0.1", "10.77.0.2");
    expect(&frame, STEER_pass, "the kernel's");
}

static void test_unconfigured(void **state)
{
    struct frame frame;
    struct steer_config config = {0};
    configure(&config);
    for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
        build(&frame, &packets[i]);
        if (packets[i].verdict <= STEER_neighbor)
            expect(&frame, STEER_pass, packets[i].name);
    }
}

static void test_config_of_appliance(void **state)
{
    struct abi_config config = {.workers = 4, .vlan = 5, .own_l3 = 1};
    struct steer_config steer, want = configuration(true, 5);
    config.media4 = (struct abi_addr){.family = 4, .port = PORT_LOW};
    config.media6 = (struct abi_addr){.family = 6, .port = PORT_LOW};
    inet_pton(AF_INET, "10.77.0.2", config.media4.ip);
    inet_pton(AF_INET6, "fd77::2", config.media6.ip);
    want.v4_count = 1;
    want.v4[1] = 0;
    loader_config(&config, &steer);
    assert_memory_equal(&steer, &want, sizeof(want));

    // What a partner serves may be at more ports than we have.
    config.take4 = (struct abi_addr){.ip = {10, 77, 0, 3}, .family = 4, .port = PORT_LOW};
    loader_config(&config, &steer);
    assert_int_equal(steer.v4_count, 2);
    assert_int_equal(steer.port_high, PORT_LOW + ABI_MAX_WORKERS - 1);
    config.media4.port = config.media6.port = UINT16_MAX - 4;
    loader_config(&config, &steer);
    assert_int_equal(steer.port_high, UINT16_MAX);
}

static void test_attach(void **state)
{
    char name[32];
    uint32_t id;
    if (unshare(CLONE_NEWNET) != 0 || system("ip link add drv0 type veth peer name drv1") != 0)
        skip();
    unsigned ifindex = if_nametoindex("drv0");
    assert_int_equal(loader_attached(ifindex, name, sizeof(name), &id), LOADER_NONE);
    assert_int_equal(loader_detach(ifindex), 0);
    assert_int_equal(bpf_xdp_attach((int)ifindex, program, 0, NULL), 0);
    assert_int_equal(loader_attached(ifindex, name, sizeof(name), &id), LOADER_OURS);
    assert_int_equal(id, program_id);
    assert_string_equal(name, STEER_PROGRAM);
    assert_int_equal(loader_detach(ifindex), 0);
    assert_int_equal(loader_attached(ifindex, name, sizeof(name), &id), LOADER_NONE);

    static const struct bpf_insn pass[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int other = bpf_prog_load(BPF_PROG_TYPE_XDP, "someone_elses", "GPL", pass, 2, NULL);
    assert_true(other >= 0);
    assert_int_equal(bpf_xdp_attach((int)ifindex, other, 0, NULL), 0);
    assert_int_equal(loader_attached(ifindex, name, sizeof(name), &id), LOADER_OTHER);
    assert_string_equal(name, "someone_elses");
    assert_int_equal(loader_detach(ifindex), -EBUSY);
    assert_int_equal(loader_attached(ifindex, name, sizeof(name), &id), LOADER_OTHER);
    close(other);
}

static int load(void **state)
{
    char path[4096];
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof(info);
    assert_int_equal(loader_find_object(path, sizeof(path)), 0);
    object = bpf_object__open_file(path, NULL);
    assert_non_null(object);
    assert_int_equal(bpf_object__load(object), 0);
    program = bpf_program__fd(bpf_object__find_program_by_name(object, STEER_PROGRAM));
    assert_true(program >= 0);
    assert_int_equal(bpf_obj_get_info_by_fd(program, &info, &len), 0);
    program_id = info.id;
    return 0;
}

static int unload(void **state)
{
    bpf_object__close(object);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets),      cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_vlan),         cmocka_unit_test(test_arp),
        cmocka_unit_test(test_unconfigured), cmocka_unit_test(test_config_of_appliance),
        cmocka_unit_test(test_attach),
    };
    if (geteuid() != 0)
        return SKIPPED;
    return cmocka_run_group_tests(tests, load, unload);
}
