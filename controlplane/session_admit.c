// Who may come in, and where: admission and placement of sessions; see session_set.h.
#include "config.h"
#include "session_set.h"

// A pool with less than a fifth free would let the next burst drop packets of those already here.
static bool pool_tight(uint32_t free_mbufs, uint32_t size)
{
    return size > 0 && (uint64_t)free_mbufs * 5 < size;
}

static bool has_room(struct sessions *set, uint32_t worker)
{
    const struct stats_worker *w = channel_worker_stats(set->channel, worker);
    return slots_used(set->slots, worker) < slots_size(set->slots) &&
           !pool_tight(__atomic_load_n(&w->rx_free, __ATOMIC_RELAXED), w->rx_size) &&
           !pool_tight(__atomic_load_n(&w->tx_free, __ATOMIC_RELAXED), w->tx_size) &&
           !pool_tight(__atomic_load_n(&w->cache_free, __ATOMIC_RELAXED), w->cache_size);
}

int session_admit(struct sessions *set, struct session_reply *reply)
{
    bool ready = false;
    enum channel_peer peer = dpclient_peer(set->dataplane, NULL, &ready);
    enum abi_mode mode = channel_mode(set->channel);
    if (set->ending)
        return session_refuse(reply, 503, SESSION_RETRY_SOON_S, "this node is stopping");
    if (peer != PEER_ALIVE || !ready)
        return session_refuse(reply, 503, SESSION_RETRY_SOON_S, "the dataplane is not ready");
    if (mode != ABI_MODE_NORMAL)
        return session_refuse(reply, 503, 5 * SESSION_RETRY_AFTER_S, "this node takes no new %s",
                              mode == ABI_MODE_DRAIN ? "sessions: it is being drained"
                                                     : "sessions now");
    const char *why = replicate_refusal(set->replicate);
    if (why != NULL)
        return session_refuse(reply, 503, SESSION_RETRY_AFTER_S, "%s", why);
    return 0;
}

int session_place(struct sessions *set, const struct stream *stream)
{
    if (stream != NULL && has_room(set, stream->source_worker))
        return (int)stream->source_worker;
    int best = -1;
    uint32_t workers = set->abi->workers;
    for (uint32_t w = 0; w < workers; w++)
        if (has_room(set, w) &&
            (best < 0 || slots_used(set->slots, w) < slots_used(set->slots, (uint32_t)best)))
            best = (int)w;
    return best;
}
