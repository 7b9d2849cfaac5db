// Who may come in, and where: admission and placement of sessions; see session_set.h.
#include "config.h"
#include "session_set.h"

// A core may be ahead of the least loaded one by so many sessions before a stream's viewers spread:
// for fewer it does not pay to hand every packet of the stream to another core.
#define SMALL_STREAM 256

// What a worker has too little of for one more session; NULL: it has room.
static const char *shortage(const struct sessions *set, uint32_t worker)
{
    const struct stats_worker *w = channel_worker_stats(set->channel, worker);
    const struct {
        const uint32_t *free;
        uint32_t size;
        const char *full;
    } pools[] = {
        {&w->rx_free, w->rx_size, "four fifths of the buffers for arriving packets are in use"},
        {&w->tx_free, w->tx_size, "four fifths of the buffers for leaving packets are in use"},
        {&w->cache_free, w->cache_size, "four fifths of the packet rings' memory are in use"},
    };
    if (slots_used(set->slots, worker) >= slots_size(set->slots))
        return "limits.sessions is reached";
    for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++)
        if (stats_pool_tight(__atomic_load_n(pools[i].free, __ATOMIC_RELAXED), pools[i].size))
            return pools[i].full;
    return NULL;
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
    if (why == NULL)
        return 0;
    const char *url = set->config->protection.partner.url;
    if (replicate_elsewhere(set->replicate) && *url != '\0')
        reply->elsewhere = url;
    return session_refuse(reply, 503, SESSION_RETRY_AFTER_S, "%s", why);
}

// The less loaded of two workers, of which each may be -1.
static int lighter(const struct sessions *set, int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return slots_used(set->slots, (uint32_t)b) < slots_used(set->slots, (uint32_t)a) ? b : a;
}

int session_place(const struct sessions *set, const struct stream *stream, const char **full)
{
    int best = -1, home = -1;
    for (uint32_t w = 0; w < set->abi->workers; w++) {
        const char *why = shortage(set, w);
        if (why != NULL) {
            *full = why;
            continue;
        }
        best = lighter(set, best, (int)w);
        if (stream != NULL && (w == stream->source_worker || stream->worker_viewers[w] > 0))
            home = lighter(set, home, (int)w);
    }
    if (home < 0)
        return best;
    uint32_t least = slots_used(set->slots, (uint32_t)best);
    return slots_used(set->slots, (uint32_t)home) < least + SMALL_STREAM ? home : best;
}
