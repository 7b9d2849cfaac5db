#include "pools.h"

#define AFXDP_HELD 6144u // mbufs in the fill, completion and transmit rings of a socket
#define POOL_SPARE 128u  // buffers beside those that are held, at the very least

// Full packets in a block. What we note of a packet is shorter than its IP and UDP headers and tag.
static uint32_t block_packets(const struct abi_config *config)
{
    uint32_t packets = CACHE_BLOCK / ((config->mtu + 64u) & ~63u);
    return packets ? packets : 1;
}

uint32_t pools_cache_blocks(const struct abi_config *config)
{
    uint32_t packets = block_packets(config);
    return config->cache_mbufs / packets + (config->cache_mbufs % packets != 0);
}

bool pools_check(const struct abi_config *config, struct pools_short *missing)
{
    bool afxdp = config->port_kind == ABI_PORT_AF_XDP;
    uint32_t port = config->port_kind == ABI_PORT_PCI ? PORT_DESCRIPTORS : 0;
    // A block for sound and picture of each stream.
    uint64_t rings = (uint64_t)config->max_streams * 2 * block_packets(config);
    const struct pools_short rows[] = {
        {"cache_mbufs", "the streams' rings", config->cache_mbufs, rings, 0},
        {"rx_mbufs", "the port's descriptors", config->rx_mbufs, port, 0},
        {"tx_mbufs", "the port's descriptors", config->tx_mbufs, port, 0},
    };
    const struct pools_short socket = {"rx_mbufs and tx_mbufs", "the socket's rings",
                                       config->rx_mbufs + config->tx_mbufs, AFXDP_HELD, 0};
    for (unsigned i = 0; i < (afxdp ? 2 : 3); i++) {
        *missing = i && afxdp ? socket : rows[i];
        missing->least = (missing->held + POOL_SPARE) * 5 / 4;
        if (missing->given < missing->least)
            return false;
    }
    return true;
}
