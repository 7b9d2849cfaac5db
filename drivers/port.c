// Opens, starts, closes and reads a port of any kind: the part that is the same for every ethdev.
// Main thread only.
#include "port.h"
#include <errno.h>
#include <rte_ethdev.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct port_ops *const kinds[] = {
    [ABI_PORT_AF_XDP] = &port_afxdp_ops, [ABI_PORT_PCI] = &port_ethdev_ops,
    [ABI_PORT_PCAP] = &port_pcap_ops,    [ABI_PORT_RING] = &port_ring_ops,
    [ABI_PORT_NULL] = &port_null_ops,
};

int port_fail(char *why, size_t why_size, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return error < 0 ? error : -error;
}

static const struct port_ops *find_ops(const struct abi_config *config)
{
    return config->port_kind < RTE_DIM(kinds) ? kinds[config->port_kind] : NULL;
}

int port_eal_args(const struct abi_config *config, char *args[], int max)
{
    int n = 0;
    if (config->port_kind == ABI_PORT_PCI) {
        if (n + 2 <= max) {
            args[n++] = "-a";
            args[n++] = (char *)config->device;
        }
    } else if (n + 2 <= max) {
        args[n++] = "--no-pci";
        // Virtual addresses keep a mempool in one piece, which an AF_XDP socket's memory must be.
        args[n++] = "--iova-mode=va";
    }
    return n;
}

int port_check(const struct abi_config *config, char *why, size_t why_size)
{
    const struct port_ops *ops = find_ops(config);
    if (ops == NULL)
        return port_fail(why, why_size, EINVAL, "port kind %u is unknown", config->port_kind);
    if (memchr(config->device, '\0', sizeof(config->device)) == NULL)
        return port_fail(why, why_size, EINVAL, "the port's device name is too long");
    return ops->check ? ops->check(config, why, why_size) : 0;
}

static int configure(struct port *port, const struct rte_eth_dev_info *info, char *why,
                     size_t why_size)
{
    const struct abi_config *config = port->config;
    struct rte_eth_conf conf = {.rxmode.mtu = config->mtu};
    if (port->queues > info->max_rx_queues || port->queues > info->max_tx_queues)
        return port_fail(why, why_size, EINVAL,
                         "%s has %u queue pairs, %u workers need one each: lower 'workers'",
                         config->device, RTE_MIN(info->max_rx_queues, info->max_tx_queues),
                         port->queues);
    if (info->max_mtu && config->mtu > info->max_mtu)
        return port_fail(why, why_size, EINVAL, "%s takes an MTU of %u at most: lower 'mtu'",
                         config->device, info->max_mtu);
    uint64_t wanted = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    conf.txmode.offloads = info->tx_offload_capa & wanted;
    port->tx_ipv4_cksum = (conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
    port->tx_udp_cksum = (conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0;
    uint64_t spread = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP;
    if (port->queues > 1 && (info->flow_type_rss_offloads & spread)) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = info->flow_type_rss_offloads & spread;
    }
    int error = rte_eth_dev_configure(port->id, port->queues, port->queues, &conf);
    if (error)
        return port_fail(why, why_size, error, "%s cannot be configured: %s", config->device,
                         rte_strerror(-error));
    return 0;
}

static int setup_queues(struct port *port, struct rte_mempool *rx_pools[], char *why,
                        size_t why_size)
{
    uint16_t rx = PORT_DESCRIPTORS, tx = PORT_DESCRIPTORS;
    int socket = rte_eth_dev_socket_id(port->id);
    int error = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &rx, &tx);
    for (uint16_t q = 0; q < port->queues && error == 0; q++) {
        error = rte_eth_rx_queue_setup(port->id, q, rx, (unsigned)socket, NULL, rx_pools[q]);
        if (error == 0)
            error = rte_eth_tx_queue_setup(port->id, q, tx, (unsigned)socket, NULL);
    }
    if (error)
        return port_fail(why, why_size, error,
                         "%s: its queues cannot be set up (%s): does another process hold them?",
                         port->config->device, rte_strerror(-error));
    return 0;
}

static int start(struct port *port, char *why, size_t why_size)
{
    const struct abi_config *config = port->config;
    struct rte_ether_addr wanted;
    memcpy(wanted.addr_bytes, config->mac, sizeof(wanted.addr_bytes));
    int error = 0;
    if (!rte_is_zero_ether_addr(&wanted)) {
        error = rte_eth_dev_default_mac_addr_set(port->id, &wanted);
        if (error)
            return port_fail(why, why_size, error,
                             "%s does not take the link address of 'mac' (%s): leave 'mac' out",
                             config->device, rte_strerror(-error));
    }
    error = rte_eth_dev_start(port->id);
    if (error == 0)
        error = rte_eth_macaddr_get(port->id, &port->mac);
    if (error)
        return port_fail(why, why_size, error, "%s does not start: %s", config->device,
                         rte_strerror(-error));
    return port->ops->started ? port->ops->started(port, why, why_size) : 0;
}

int port_open(struct port *port, const struct abi_config *config, struct rte_mempool *rx_pools[],
              char *why, size_t why_size)
{
    memset(port, 0, sizeof(*port));
    port->id = RTE_MAX_ETHPORTS;
    int error = port_check(config, why, why_size);
    if (error)
        return error;
    port->ops = find_ops(config);
    port->config = config;
    port->queues = (uint16_t)config->workers;
    struct rte_eth_dev_info info;
    error = port->ops->open(port, why, why_size);
    if (error == 0) {
        error = rte_eth_dev_info_get(port->id, &info);
        if (error)
            port_fail(why, why_size, error, "%s: %s", config->device, rte_strerror(-error));
    }
    if (error == 0)
        error = configure(port, &info, why, why_size);
    if (error == 0)
        error = setup_queues(port, rx_pools, why, why_size);
    if (error == 0)
        error = start(port, why, why_size);
    if (error)
        port_close(port);
    return error;
}

void port_close(struct port *port)
{
    if (port->id != RTE_MAX_ETHPORTS)
        rte_eth_dev_stop(port->id);
    if (port->ops && port->ops->close)
        port->ops->close(port);
    port->id = RTE_MAX_ETHPORTS;
    port->ops = NULL;
}

static void read_link(struct port *port, struct stats_port *stats)
{
    struct rte_eth_link link;
    if (port->ops->link) {
        port->ops->link(port, stats);
    } else if (rte_eth_link_get_nowait(port->id, &link) == 0) {
        STATS_SET(stats->link_up, link.link_status);
        STATS_SET(stats->speed_mbps,
                  link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed);
    }
}

bool port_link_up(struct port *port)
{
    struct stats_port stats = {.link_up = 1}; // unless known better
    read_link(port, &stats);
    return stats.link_up;
}

void port_stats(struct port *port, struct stats_port *stats)
{
    struct rte_eth_stats s;
    struct rte_eth_dev_info info;
    if (rte_eth_stats_get(port->id, &s) == 0) {
        STATS_SET(stats->rx_packets, s.ipackets);
        STATS_SET(stats->rx_bytes, s.ibytes);
        STATS_SET(stats->rx_missed, s.imissed);
        STATS_SET(stats->rx_errors, s.ierrors);
        STATS_SET(stats->rx_nombuf, s.rx_nombuf);
        STATS_SET(stats->tx_packets, s.opackets);
        STATS_SET(stats->tx_bytes, s.obytes);
        STATS_SET(stats->tx_errors, s.oerrors);
    }
    read_link(port, stats);
    memcpy(stats->mac, port->mac.addr_bytes, sizeof(stats->mac));
    snprintf(stats->device, sizeof(stats->device), "%s", port->config->device);
    if (rte_eth_dev_info_get(port->id, &info) == 0)
        snprintf(stats->driver, sizeof(stats->driver), "%s", info.driver_name);
}
