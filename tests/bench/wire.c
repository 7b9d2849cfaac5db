#include "wire.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define XDP_FLAGS_NATIVE (1u << 2) // XDP_FLAGS_DRV_MODE
#define CPUS_MAX 1024

struct wire {
    struct bpf_object *object;
    int counts, latency, slices, measure;
    uint64_t *sent;
    int ifindex, socket, cpus;
    struct sockaddr_ll to;
};

static void die(const char *what)
{
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int map_fd(const struct wire *wire, const char *name)
{
    int fd = bpf_object__find_map_fd_by_name(wire->object, name);
    if (fd < 0)
        die(name);
    return fd;
}

static void attach(struct wire *wire)
{
    const char *file = getenv("HITLESS_BENCH_FAR");
    wire->object = bpf_object__open_file(file ? file : "build/tests/bench/far.bpf.o", NULL);
    if (!wire->object || bpf_object__load(wire->object))
        die("the far end's XDP program does not load");
    struct bpf_program *program = bpf_object__find_program_by_name(wire->object, "hitless_far");
    if (!program || bpf_xdp_attach(wire->ifindex, bpf_program__fd(program), XDP_FLAGS_NATIVE, NULL))
        die("the far end's XDP program cannot be attached");
    wire->counts = map_fd(wire, "counts");
    wire->latency = map_fd(wire, "latency");
    wire->slices = map_fd(wire, "slices");
    wire->measure = map_fd(wire, "measure");
    wire->sent = mmap(NULL, FAR_SENT * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED,
                      map_fd(wire, "sent"), 0);
    if (wire->sent == MAP_FAILED)
        die("the far end's times cannot be mapped");
}

struct wire *wire_open(void)
{
    struct wire *wire = calloc(1, sizeof(*wire));
    if (!wire)
        die("out of memory");
    wire->ifindex = (int)if_nametoindex(WIRE_FAR);
    if (!wire->ifindex)
        die("no " WIRE_FAR " here; scripts/bench makes it");
    wire->cpus = libbpf_num_possible_cpus();
    if (wire->cpus < 1 || wire->cpus > CPUS_MAX)
        die("number of CPUs");
    attach(wire);
    wire->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); // protocol 0: receives nothing
    if (wire->socket < 0)
        die("raw socket");
    wire->to = (struct sockaddr_ll){
        .sll_family = AF_PACKET, .sll_ifindex = wire->ifindex, .sll_halen = ETH_ALEN};
    int one = 1;
    setsockopt(wire->socket, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
    return wire;
}

void wire_close(struct wire *wire)
{
    bpf_xdp_detach(wire->ifindex, XDP_FLAGS_NATIVE, NULL);
    bpf_object__close(wire->object);
    munmap(wire->sent, FAR_SENT * sizeof(uint64_t));
    close(wire->socket);
    free(wire);
}

bool wire_send(struct wire *wire, const void *frame, size_t length)
{
    return sendto(wire->socket, frame, length, MSG_DONTWAIT, (const struct sockaddr *)&wire->to,
                  sizeof(wire->to)) == (ssize_t)length;
}

static uint64_t sum(const struct wire *wire, int map, uint32_t key)
{
    uint64_t values[CPUS_MAX], total = 0;
    if (bpf_map_lookup_elem(map, &key, values))
        return 0;
    for (int i = 0; i < wire->cpus; i++)
        total += values[i];
    return total;
}

uint64_t wire_seen(const struct wire *wire, enum far_count what)
{
    return sum(wire, wire->counts, what);
}

uint64_t wire_settled(const struct wire *wire, enum far_count what)
{
    uint64_t before, now = wire_seen(wire, what);
    do {
        before = now;
        usleep(300);
        now = wire_seen(wire, what);
    } while (now != before);
    return now;
}

void wire_measure(struct wire *wire, bool on)
{
    uint32_t key = 0, value = on;
    if (on) {
        uint64_t zero[CPUS_MAX] = {0};
        memset(wire->sent, 0, FAR_SENT * sizeof(uint64_t));
        for (uint32_t i = 0; i < FAR_BUCKETS; i++)
            bpf_map_update_elem(wire->latency, &i, zero, 0);
        for (uint32_t i = 0; i < FAR_SLICES * FAR_FINE; i++)
            bpf_map_update_elem(wire->slices, &i, zero, 0);
    }
    bpf_map_update_elem(wire->measure, &key, &value, 0);
}

void wire_slice(struct wire *wire, uint32_t slice)
{
    uint32_t key = 0, value = slice + 1;
    bpf_map_update_elem(wire->measure, &key, &value, 0);
}

uint64_t *wire_sent(struct wire *wire)
{
    return wire->sent;
}

// The microseconds below which the share `q` is of what stands in `buckets` of the map from
// `first`.
static double quantile(const struct wire *wire, int map, uint32_t first, uint32_t buckets, double q)
{
    uint64_t total = 0, below = 0;
    for (uint32_t i = 0; i < buckets; i++)
        total += sum(wire, map, first + i);
    for (uint32_t i = 0; i < buckets && total; i++) {
        below += sum(wire, map, first + i);
        if ((double)below >= q * (double)total)
            return i + 1;
    }
    return total ? buckets : 0;
}

double wire_quantile(const struct wire *wire, double q)
{
    return quantile(wire, wire->latency, 0, FAR_BUCKETS, q);
}

double wire_slice_quantile(const struct wire *wire, uint32_t slice, double q)
{
    return quantile(wire, wire->slices, slice * FAR_FINE, FAR_FINE, q);
}
