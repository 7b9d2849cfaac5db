// Finds, configures, reads and detaches the steering program. Main thread only.
#include "loader.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OBJECT "steer.bpf.o"
#define MAX_MAPS 8

static int readable(char *path, size_t size, const char *dir, const char *name)
{
    snprintf(path, size, "%s/%s", dir, name);
    return access(path, R_OK) == 0;
}

int loader_find_object(char *path, size_t size)
{
    const char *chosen = getenv("HITLESS_XDP_OBJECT");
    if (chosen != NULL) {
        snprintf(path, size, "%s", chosen);
        return access(path, R_OK) == 0 ? 0 : -ENOENT;
    }
    char dir[4096];
    ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
    if (n > 0) {
        dir[n] = '\0';
        char *slash = strrchr(dir, '/');
        if (slash != NULL)
            *slash = '\0';
        // build/dataplane/hitless-dataplane, build/tests/*/test_*, or installed in PREFIX/sbin.
        if (readable(path, size, dir, OBJECT) || readable(path, size, dir, "../drivers/" OBJECT) ||
            readable(path, size, dir, "../../drivers/" OBJECT) ||
            readable(path, size, dir, "../lib/hitless/" OBJECT))
            return 0;
    }
    if (readable(path, size, "/usr/local/lib/hitless", OBJECT) ||
        readable(path, size, "/usr/lib/hitless", OBJECT))
        return 0;
    snprintf(path, size,
             "%s/../drivers, %s/../lib/hitless, /usr/local/lib/hitless, "
             "/usr/lib/hitless",
             n > 0 ? dir : "?", n > 0 ? dir : "?");
    return -ENOENT;
}

int loader_attached(unsigned ifindex, char *name, size_t size, uint32_t *id)
{
    *id = 0;
    snprintf(name, size, "%s", "");
    int error = bpf_xdp_query_id((int)ifindex, 0, id);
    if (error)
        return error;
    if (*id == 0)
        return LOADER_NONE;
    int fd = bpf_prog_get_fd_by_id(*id);
    if (fd < 0)
        return fd == -ENOENT ? LOADER_NONE : fd; // detached between the two calls
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof(info);
    error = bpf_obj_get_info_by_fd(fd, &info, &len);
    close(fd);
    if (error)
        return error;
    snprintf(name, size, "%s", info.name);
    return strcmp(info.name, STEER_PROGRAM) == 0 ? LOADER_OURS : LOADER_OTHER;
}

int loader_detach(unsigned ifindex)
{
    char name[BPF_OBJ_NAME_LEN];
    uint32_t id;
    int owner = loader_attached(ifindex, name, sizeof(name), &id);
    if (owner < 0)
        return owner;
    if (owner == LOADER_NONE)
        return 0;
    if (owner == LOADER_OTHER)
        return -EBUSY;
    // Naming the program that we looked at makes the kernel refuse if another took its place.
    int fd = bpf_prog_get_fd_by_id(id);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    LIBBPF_OPTS(bpf_xdp_attach_opts, opts, .old_prog_fd = fd);
    int error = bpf_xdp_detach((int)ifindex, 0, &opts);
    close(fd);
    return error;
}

void loader_config(const struct abi_config *config, struct steer_config *out)
{
    memset(out, 0, sizeof(*out));
    uint16_t port = 0;
    if (config->media4.family == 4) {
        memcpy(&out->v4[out->v4_count++], config->media4.ip, 4);
        port = config->media4.port;
    }
    if (config->media6.family == 6) {
        memcpy(out->v6[out->v6_count++], config->media6.ip, 16);
        port = config->media6.port;
    }
    // What a partner's death may make ours; until then nobody answers for it here.
    if (config->take4.family == 4)
        memcpy(&out->v4[out->v4_count++], config->take4.ip, 4);
    if (config->take6.family == 6)
        memcpy(out->v6[out->v6_count++], config->take6.ip, 16);
    out->bfd = config->bfd != 0;
    out->port_low = port;
    // A partner may have more workers than we.
    bool takes = config->take4.family || config->take6.family;
    uint32_t ports = takes ? ABI_MAX_WORKERS : config->workers;
    out->port_high = (uint16_t)(port + ports - 1 > UINT16_MAX ? UINT16_MAX : port + ports - 1);
    out->vlan = config->vlan;
    out->own_l3 = config->own_l3;
}

// The descriptor of a running program's map, by the map's name; the caller closes it.
static int find_map(uint32_t id, const char *wanted)
{
    int prog = bpf_prog_get_fd_by_id(id);
    if (prog < 0)
        return prog;
    uint32_t ids[MAX_MAPS];
    struct bpf_prog_info info = {.nr_map_ids = MAX_MAPS, .map_ids = (uintptr_t)ids};
    uint32_t len = sizeof(info);
    int error = bpf_obj_get_info_by_fd(prog, &info, &len);
    close(prog);
    if (error)
        return error;
    for (uint32_t i = 0; i < info.nr_map_ids && i < MAX_MAPS; i++) {
        struct bpf_map_info map = {0};
        int fd = bpf_map_get_fd_by_id(ids[i]);
        if (fd < 0)
            continue;
        len = sizeof(map);
        if (bpf_obj_get_info_by_fd(fd, &map, &len) == 0 && strcmp(map.name, wanted) == 0)
            return fd;
        close(fd);
    }
    return -ENOENT;
}

int loader_configure(uint32_t id, const struct steer_config *config)
{
    uint32_t first = 0;
    int map = find_map(id, STEER_CONFIG_MAP);
    if (map < 0)
        return map;
    // An array map's update is a copy, not atomic: with no address counted the program passes
    // everything while the rest is written, then the counts follow.
    struct steer_config hidden = *config;
    hidden.v4_count = 0;
    hidden.v6_count = 0;
    int error = bpf_map_update_elem(map, &first, &hidden, BPF_ANY);
    if (error == 0)
        error = bpf_map_update_elem(map, &first, config, BPF_ANY);
    close(map);
    return error;
}

int loader_counts(uint32_t id, uint64_t counts[STEER_VERDICTS])
{
    int cpus = libbpf_num_possible_cpus();
    if (cpus < 0)
        return cpus;
    int map = find_map(id, STEER_COUNTS_MAP);
    if (map < 0)
        return map;
    uint64_t *each = calloc((size_t)cpus, sizeof(*each));
    int error = each == NULL ? -ENOMEM : 0;
    for (uint32_t verdict = 0; verdict < STEER_VERDICTS && error == 0; verdict++) {
        counts[verdict] = 0;
        error = bpf_map_lookup_elem(map, &verdict, each);
        for (int cpu = 0; cpu < cpus && error == 0; cpu++)
            counts[verdict] += each[cpu];
    }
    free(each);
    close(map);
    return error;
}
