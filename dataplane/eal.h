// The DPDK environment of the dataplane: EAL arguments from the configuration, one lcore per
// worker, and each worker's mempools. Main thread only; workers read their pools.
//
// Limits: once per process, as rte_eal_init is.
#ifndef HITLESS_EAL_H
#define HITLESS_EAL_H

#include "abi/abi.h"
#include "cache_store.h"
#include <rte_mempool.h>
#include <stddef.h>
#include <stdint.h>

#define PKT_ROOM_MIN 2048 // bytes of packet that an mbuf takes, headroom not counted

// One worker's mempools. On an AF_XDP port `tx` is `rx`: what leaves then lies in the socket's own
// memory, and the driver need not copy it.
struct eal_pools {
    struct rte_mempool *rx;    // what arrives
    struct rte_mempool *tx;    // what leaves
    struct rte_mempool *media; // opened packets on their way to viewers and other workers
};

// Checks the port, cores and memory, starts EAL with `config->workers` worker lcores and makes
// their pools. Returns 0 or a negative errno with one line in `why` that says what is wrong and
// what to do. After an error call nothing else of this file.
int eal_start(const struct abi_config *config, char *why, size_t why_size);

// Frees the pools and ends EAL. Workers have returned and the port is closed.
void eal_stop(void);

// How many of a pool's mbufs the calling thread could have at once. What lies in the caches of
// other cores is out of its reach until they free more.
uint32_t eal_pool_free(const struct rte_mempool *pool);
// The same without what lies in its own cache: how many any thread could have.
uint32_t eal_pool_shared(const struct rte_mempool *pool);

// The memory of that worker's packet rings, the caller's to free: what was made at the start, or,
// where an earlier worker of this number has that, as much anew. NULL: no memory.
struct cache_store *eal_take_store(uint32_t worker);

// The pools of worker 0..workers-1.
const struct eal_pools *eal_worker_pools(uint32_t worker);

// The lcore to launch that worker on. The main thread is lcore 0.
unsigned eal_worker_lcore(uint32_t worker);

#endif
