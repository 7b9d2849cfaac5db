// Owns EAL's start and end, the workers' lcores and mempools. Main thread only.
//
// Everything that is often wrong on a fresh machine (privilege, device, cores, hugepages) is looked
// at before rte_eal_init, because EAL's own messages name symptoms, not remedies.
#include "eal.h"
#include "../drivers/port.h"
#include "abi/pools.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BASE_MB 96u           // EAL's own, rings, tables and crypto operations
#define CRYPTO_SESSION 16384u // bytes of one key's sessions in a cryptodev
#define POOL_CACHE 256u
// Opened packets on their way: those of a turn, and for each other worker what its mailbox takes
// and what lies in its core's cache of the pool.
#define MEDIA_MBUFS 1023u
#define MEDIA_ELSEWHERE (1024u + 2 * POOL_CACHE)
#define MB (1024ull * 1024)

static struct eal_pools pools[ABI_MAX_WORKERS];
static uint32_t pool_workers;
static struct cache_store *stores[ABI_MAX_WORKERS]; // made at the start, each for its first taker
static uint32_t cache_blocks;

struct pool_plan {
    uint32_t rx, tx, media; // mbufs of one worker; tx 0: shares rx
    uint16_t room;          // bytes of data room
};

static struct pool_plan plan_pools(const struct abi_config *config)
{
    struct pool_plan plan = {.rx = config->rx_mbufs,
                             .tx = config->tx_mbufs,
                             .media = MEDIA_MBUFS + (config->workers - 1) * MEDIA_ELSEWHERE};
    if (config->port_kind == ABI_PORT_AF_XDP) {
        plan.rx += plan.tx;
        plan.tx = 0;
    }
    uint16_t frame = config->mtu + 64; // link header and the SRTP tag of a full packet
    plan.room = RTE_PKTMBUF_HEADROOM + RTE_MAX(PKT_ROOM_MIN, RTE_ALIGN(frame, 64));
    return plan;
}

static unsigned memory_needed_mb(const struct abi_config *config)
{
    struct pool_plan plan = plan_pools(config);
    uint32_t elt = sizeof(struct rte_mbuf) + plan.room;
    // Four channels of memory at most spread objects by another two cache lines, and the pool's
    // ring holds a pointer per object, rounded up to a power of two.
    uint64_t object = rte_mempool_calc_obj_size(elt, 0, NULL) + 2 * RTE_CACHE_LINE_SIZE;
    // Without hugepages DPDK lets no object cross a page.
    uint64_t page = (uint64_t)getpagesize();
    if (!config->hugepages)
        object = object < page ? page / (page / object) : RTE_ALIGN(object, page);
    object += 16;
    uint64_t mbufs = (uint64_t)plan.rx + plan.tx + plan.media;
    uint64_t bytes = mbufs * object * config->workers;
    if (config->crypto == ABI_CRYPTO_CRYPTODEV)
        bytes += (uint64_t)(config->max_sessions + config->max_streams) * config->workers *
                 CRYPTO_SESSION;
    return BASE_MB + (unsigned)((bytes + MB - 1) / MB);
}

static uint64_t read_number(const char *path)
{
    unsigned long long value = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu", &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

static uint64_t free_hugepages_mb(void)
{
    uint64_t mb = 0;
    DIR *dir = opendir("/sys/kernel/mm/hugepages");
    if (dir == NULL)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        unsigned long kb;
        char path[sizeof(entry->d_name) + 64];
        if (sscanf(entry->d_name, "hugepages-%lukB", &kb) != 1)
            continue;
        snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/free_hugepages", entry->d_name);
        mb += read_number(path) * kb / 1024;
    }
    closedir(dir);
    return mb;
}

static int check_memory(const struct abi_config *config, char *why, size_t why_size)
{
    unsigned need = memory_needed_mb(config);
    if (config->hugepages == 0)
        return 0;
    uint64_t have = free_hugepages_mb();
    if (have >= need)
        return 0;
    unsigned long long pages = read_number("/proc/sys/vm/nr_hugepages") + (need - have + 1) / 2;
    return port_fail(why, why_size, ENOMEM,
                     "no hugepages: %u MB needed, %llu MB free; run 'echo %llu > "
                     "/proc/sys/vm/nr_hugepages', or set 'hugepages: false'",
                     need, (unsigned long long)have, pages);
}

static int check_pools(const struct abi_config *config, char *why, size_t why_size)
{
    struct pools_short missing;
    if (pools_check(config, &missing))
        return 0;
    return port_fail(why, why_size, EINVAL, "%s: %u are too few for %s, which take %llu: give %llu",
                     missing.key, missing.given, missing.whose, (unsigned long long)missing.held,
                     (unsigned long long)missing.least);
}

static int check_core(const cpu_set_t *allowed, int core, const char *whose, char *why,
                      size_t why_size)
{
    if (core < 0 || (core < CPU_SETSIZE && CPU_ISSET(core, allowed)))
        return 0;
    return port_fail(why, why_size, EINVAL,
                     "%s core %d: this machine gives us no such CPU; 'nproc --all' and 'taskset -p "
                     "$$' tell which there are",
                     whose, core);
}

// "0@(0-1),1@(0,2)": every unpinned lcore may run on all CPUs that we may use.
static int write_lcores(const struct abi_config *config, char *out, size_t size, char *why,
                        size_t why_size)
{
    cpu_set_t allowed;
    char all[512] = "";
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return port_fail(why, why_size, errno, "sched_getaffinity: %s", strerror(errno));
    size_t n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n < sizeof(all) - 16; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            n += snprintf(all + n, sizeof(all) - n, "%s%d", n ? "," : "", cpu);

    n = 0;
    for (uint32_t lcore = 0; lcore <= config->workers; lcore++) {
        int core = lcore == 0 ? config->main_core : config->cores[lcore - 1];
        int error = check_core(&allowed, core, lcore == 0 ? "main" : "worker", why, why_size);
        if (error)
            return error;
        if (core >= 0)
            n += snprintf(out + n, size - n, "%s%u@%d", lcore ? "," : "", lcore, core);
        else
            n += snprintf(out + n, size - n, "%s%u@(%s)", lcore ? "," : "", lcore, all);
        if (n >= size)
            return port_fail(why, why_size, E2BIG,
                             "too many CPUs to name: pin 'main_core' and 'cores'");
    }
    return 0;
}

// Without hugepages, transparent ones save the page walks: the fan-out to 10,000 viewers takes 3 %
// fewer cycles. A kernel that has none changes nothing.
static int want_huge(const struct rte_memseg_list *list, void *arg)
{
    madvise(list->base_va, list->len, MADV_HUGEPAGE);
    return 0;
}

// Without shared files EAL still makes its directory, and leaves it. Somebody else's is not empty.
static void remove_eal_dir(void)
{
    char dir[256]; // PREFIX/dpdk/rte, where PREFIX is /var/run or, under systemd, ours
    snprintf(dir, sizeof(dir), "%s", rte_eal_get_runtime_dir());
    char *slash = strrchr(dir, '/');
    if (rmdir(dir) != 0 || slash == NULL)
        return;
    *slash = '\0';
    rmdir(dir);
}

static int init_eal(const struct abi_config *config, char *why, size_t why_size)
{
    static char lcores[8192], megabytes[16]; // EAL keeps its arguments
    static char *args[24];
    int n = 0;
    int error = write_lcores(config, lcores, sizeof(lcores), why, why_size);
    if (error)
        return error;
    args[n++] = "hitless-dataplane";
    args[n++] = "--no-telemetry";
    args[n++] = "--log-level=notice";
    args[n++] = "--lcores";
    args[n++] = lcores;
    args[n++] = "--main-lcore=0";
    // No files, so any number of dataplanes and nothing to clean up. EAL refuses --in-memory
    // together with --no-huge, for which --no-shconf does the same.
    if (config->hugepages) {
        args[n++] = "--in-memory";
    } else {
        snprintf(megabytes, sizeof(megabytes), "%u", memory_needed_mb(config));
        args[n++] = "--no-shconf";
        args[n++] = "--file-prefix=hitless";
        args[n++] = "--no-huge";
        args[n++] = "-m";
        args[n++] = megabytes;
    }
    n += port_eal_args(config, args + n, (int)RTE_DIM(args) - n - 1);
    args[n] = NULL;
    rte_openlog_stream(stderr);
    if (rte_eal_init(n, args) < 0)
        return port_fail(why, why_size, rte_errno ? rte_errno : EIO,
                         "EAL did not start (%s); its own words are above",
                         rte_strerror(rte_errno));
    if (config->hugepages == 0)
        rte_memseg_list_walk(want_huge, NULL);
    remove_eal_dir();
    return 0;
}

static struct rte_mempool *make_pool(const char *kind, uint32_t worker, uint32_t mbufs,
                                     uint16_t room)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    unsigned cache = RTE_MIN(POOL_CACHE, mbufs / 4);
    snprintf(name, sizeof(name), "%s_%u", kind, worker);
    return rte_pktmbuf_pool_create(name, mbufs, cache, 0, room,
                                   (int)rte_lcore_to_socket_id(eal_worker_lcore(worker)));
}

static int make_pools(const struct abi_config *config, char *why, size_t why_size)
{
    struct pool_plan plan = plan_pools(config);
    for (uint32_t w = 0; w < config->workers; w++) {
        struct eal_pools *p = &pools[w];
        pool_workers = w + 1;
        p->rx = make_pool("rx", w, plan.rx, plan.room);
        p->tx = plan.tx ? make_pool("tx", w, plan.tx, plan.room) : p->rx;
        p->media = make_pool("media", w, plan.media, plan.room);
        if (p->rx == NULL || p->tx == NULL || p->media == NULL)
            return port_fail(why, why_size, ENOMEM,
                             "no memory for worker %u's packets (%s): give more hugepages, or "
                             "lower 'rx_mbufs' and 'tx_mbufs'",
                             w, rte_strerror(rte_errno));
        cache_blocks = pools_cache_blocks(config);
        stores[w] = cache_store_new(cache_blocks, true);
        if (stores[w] == NULL)
            return port_fail(why, why_size, ENOMEM,
                             "no memory for %u MB of worker %u's packet rings: lower 'cache_mbufs'",
                             (unsigned)((uint64_t)cache_blocks * CACHE_BLOCK / MB), w);
    }
    return 0;
}

int eal_start(const struct abi_config *config, char *why, size_t why_size)
{
    if (config->workers < 1 || config->workers > ABI_MAX_WORKERS)
        return port_fail(why, why_size, EINVAL, "%u workers: 1 to %u are possible", config->workers,
                         ABI_MAX_WORKERS);
    int error = port_check(config, why, why_size);
    if (error == 0)
        error = check_pools(config, why, why_size);
    if (error == 0)
        error = check_memory(config, why, why_size);
    if (error == 0)
        error = init_eal(config, why, why_size);
    if (error)
        return error;
    error = make_pools(config, why, why_size);
    if (error)
        eal_stop();
    return error;
}

void eal_stop(void)
{
    for (uint32_t w = 0; w < pool_workers; w++) {
        cache_store_free(stores[w]);
        rte_mempool_free(pools[w].media);
        if (pools[w].tx != pools[w].rx)
            rte_mempool_free(pools[w].tx);
        rte_mempool_free(pools[w].rx);
    }
    memset(pools, 0, sizeof(pools));
    memset((void *)stores, 0, sizeof(stores));
    pool_workers = 0;
    rte_eal_cleanup();
}

uint32_t eal_pool_shared(const struct rte_mempool *pool)
{
    return rte_mempool_get_ops(pool->ops_index)->get_count(pool);
}

uint32_t eal_pool_free(const struct rte_mempool *pool)
{
    const struct rte_mempool_cache *cache =
        rte_mempool_default_cache((struct rte_mempool *)pool, rte_lcore_id());
    return eal_pool_shared(pool) + (cache ? cache->len : 0);
}

struct cache_store *eal_take_store(uint32_t worker)
{
    struct cache_store *store = stores[worker];
    stores[worker] = NULL;
    return store ? store : cache_store_new(cache_blocks, false);
}

const struct eal_pools *eal_worker_pools(uint32_t worker)
{
    return &pools[worker];
}

unsigned eal_worker_lcore(uint32_t worker)
{
    return worker + 1;
}
