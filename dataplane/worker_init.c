// A worker's beginning and end, and the mailboxes between workers. Runs on the main core; declared
// in worker.h.
#include "protect_cryptodev.h"
#include "worker.h"
#include <rte_cycles.h>
#include <stdio.h>

// Names are the process's, and a test has several ports in one.
static struct rte_ring *mailbox(const struct dataplane *dp, const char *kind, uint32_t from,
                                uint32_t to)
{
    char name[RTE_RING_NAMESIZE];
    snprintf(name, sizeof(name), "%s%u_%u_%u", kind, dp->port.id, from, to);
    return rte_ring_create(name, MAILBOX_SIZE, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
}

// Made once; a worker's successor finds what was left for it.
static int make_post(struct dataplane *dp, uint32_t id)
{
    struct post *post = &dp->post[id];
    if (!post->key_wanted)
        post->key_wanted = calloc(dp->config->max_streams, sizeof(*post->key_wanted));
    if (!dp->clocks)
        dp->clocks = calloc((size_t)dp->config->max_streams * MSG_MAX_TRACKS, sizeof(*dp->clocks));
    if (!post->key_wanted || !dp->clocks)
        return -ENOMEM;
    for (uint32_t from = 0; from < dp->workers; from++) {
        if (from == id)
            continue;
        if (!post->frames_from[from])
            post->frames_from[from] = mailbox(dp, "frames", from, id);
        if (!post->media_from[from])
            post->media_from[from] = mailbox(dp, "media", from, id);
        if (!post->frames_from[from] || !post->media_from[from])
            return -ENOMEM;
    }
    return 0;
}

int worker_init(struct worker *worker, struct dataplane *dp, uint32_t id, char *why,
                size_t why_size)
{
    const struct abi_config *config = dp->config;
    *worker = (struct worker){.dp = dp,
                              .id = id,
                              .lane = id + 1,
                              .pools = *eal_worker_pools(id),
                              .post = &dp->post[id],
                              .stats = channel_worker_stats(dp->channel, id)};
    if (!atomic_load(&dp->worker[id]))
        memset(worker->stats, 0, sizeof(*worker->stats));
    for (uint32_t slot = 0; slot < config->max_sessions; slot++)
        channel_session_stats(dp->channel, id, slot)->id = 0;
    worker->stats->tsc_hz = rte_get_tsc_hz();
    worker->now_ns = worker_clock();
    worker->now_tsc = rte_rdtsc();
    int rc = dp->crypto ? protect_cryptodev_new(&worker->protect, dp->crypto, (uint16_t)id)
                        : protect_new(&worker->protect);
    worker->store = eal_take_store(id);
    if (rc == 0 && !worker->store)
        rc = -ENOMEM;
    if (rc == 0)
        rc = tables_init(&worker->tables, config, dp->dir, id, worker->protect, worker->store);
    worker->neigh = calloc(1, sizeof(*worker->neigh));
    worker->peers = aligned_alloc(ABI_CACHE_LINE, MSG_PEERS * sizeof(*worker->peers));
    if (worker->peers)
        memset(worker->peers, 0, MSG_PEERS * sizeof(*worker->peers));
    if (rc == 0)
        rc = nack_recent_init(&worker->recent, config->max_sessions);
    if (rc == 0 && (!worker->neigh || !worker->peers))
        rc = -ENOMEM;
    if (rc == 0)
        rc = make_post(dp, id);
    if (rc) {
        snprintf(why, why_size, "worker %u: no memory for %u sessions and %u streams: lower limits",
                 id, config->max_sessions, config->max_streams);
        worker_free(worker);
        return rc;
    }
    uint64_t secret[] = {tables_random(), tables_random()};
    stun_key_init(&worker->ask_secret, secret, sizeof(secret));
    explicit_bzero(secret, sizeof(secret));
    neigh_self_init(&worker->self, config, dp->port.mac.addr_bytes);
    return 0;
}

void worker_free(struct worker *worker)
{
    tables_free(&worker->tables);
    cache_store_free(worker->store);
    if (worker->protect)
        protect_free(worker->protect);
    nack_recent_free(&worker->recent);
    free(worker->neigh);
    if (worker->peers)
        explicit_bzero(worker->peers, MSG_PEERS * sizeof(*worker->peers));
    free(worker->peers);
    *worker = (struct worker){0};
}

static void drain(struct rte_ring *ring)
{
    void *m;
    while (ring && rte_ring_sc_dequeue(ring, &m) == 0)
        rte_pktmbuf_free(m);
    rte_ring_free(ring);
}

void worker_free_posts(struct dataplane *dp)
{
    for (uint32_t id = 0; id < ABI_MAX_WORKERS; id++) {
        for (uint32_t from = 0; from < ABI_MAX_WORKERS; from++) {
            drain(dp->post[id].frames_from[from]);
            drain(dp->post[id].media_from[from]);
        }
        free((void *)dp->post[id].key_wanted);
        dp->post[id] = (struct post){0};
    }
    free((void *)dp->clocks);
    dp->clocks = NULL;
}
