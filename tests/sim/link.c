#include "link.h"
#include <math.h>

// xorshift64*, 0 < value < 1.
static double draw(struct link *link)
{
    uint64_t x = link->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    link->random = x;
    return (double)((x * UINT64_C(0x2545f4914f6cdd1d)) >> 12 | 1) * 0x1p-52;
}

void link_init(struct link *link, double loss, bool bursts, uint64_t delay_ns, uint64_t seed)
{
    *link = (struct link){.loss = loss,
                          .bursts = bursts,
                          .delay_ns = delay_ns,
                          .random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15)};
    for (int i = 0; i < 8; i++)
        draw(link);
}

static bool lost(struct link *link, uint64_t now_ns)
{
    if (!link->bursts)
        return draw(link) < link->loss;
    while (link->loss > 0 && now_ns >= link->change_ns) {
        link->bad = link->change_ns != 0 && !link->bad;
        double mean = link->bad ? (double)LINK_BURST_NS
                                : (double)LINK_BURST_NS * (1 - link->loss) / link->loss;
        uint64_t from = link->change_ns ? link->change_ns : now_ns;
        link->change_ns = from + 1 + (uint64_t)(-log(draw(link)) * mean);
    }
    return link->bad;
}

uint64_t link_send(struct link *link, uint64_t now_ns, uint32_t bytes)
{
    uint64_t out_ns = now_ns;
    if (link->bytes_per_ns > 0) {
        uint64_t start = link->free_ns > now_ns ? link->free_ns : now_ns;
        if (start - now_ns > link->queue_ns) {
            link->dropped++;
            return 0;
        }
        out_ns = link->free_ns = start + (uint64_t)(bytes / link->bytes_per_ns);
    }
    return lost(link, now_ns) ? 0 : out_ns + link->delay_ns;
}
