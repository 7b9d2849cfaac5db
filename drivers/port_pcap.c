// The ports that are no hardware, for tests and benchmarks: packet files, in-memory rings, and a
// sink. Main thread only.
#include "port.h"
#include <errno.h>
#include <fcntl.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_SIZE 4096

static int add_vdev(struct port *port, const char *name, const char *args, char *why,
                    size_t why_size)
{
    int error = rte_eal_hotplug_add("vdev", name, args);
    if (error == 0)
        error = rte_eth_dev_get_port_by_name(name, &port->id);
    if (error)
        return port_fail(why, why_size, error, "DPDK's %s driver does not take '%s': %s",
                         port->ops->name, port->config->device, strerror(-error));
    port->state = strdup(name);
    return port->state ? 0 : port_fail(why, why_size, ENOMEM, "out of memory");
}

static void remove_vdev(struct port *port)
{
    if (port->state != NULL)
        rte_eal_hotplug_remove("vdev", port->state);
    free(port->state);
    port->state = NULL;
}

// "rx.pcap,tx.pcap" into its two names.
static int split_files(const char *device, char rx[128], char tx[128])
{
    const char *comma = strchr(device, ',');
    if (comma == NULL || comma == device || comma[1] == '\0' || strchr(comma + 1, ','))
        return -EINVAL;
    snprintf(rx, 128, "%.*s", (int)(comma - device), device);
    snprintf(tx, 128, "%s", comma + 1);
    return 0;
}

static int pcap_check(const struct abi_config *config, char *why, size_t why_size)
{
    char rx[128], tx[128];
    if (split_files(config->device, rx, tx) != 0)
        return port_fail(why, why_size, EINVAL,
                         "a pcap port's device is 'rx.pcap,tx.pcap', not '%s'", config->device);
    if (config->workers != 1)
        return port_fail(why, why_size, EINVAL, "a pcap port serves one worker, not %u",
                         config->workers);
    if (access(rx, R_OK) != 0)
        return port_fail(why, why_size, errno, "%s cannot be read: %s", rx, strerror(errno));
    int fd = open(tx, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return port_fail(why, why_size, errno, "%s cannot be written: %s", tx, strerror(errno));
    close(fd);
    return 0;
}

static int pcap_open(struct port *port, char *why, size_t why_size)
{
    char rx[128], tx[128], args[300];
    if (split_files(port->config->device, rx, tx) != 0)
        return port_fail(why, why_size, EINVAL, "not 'rx.pcap,tx.pcap'");
    snprintf(args, sizeof(args), "rx_pcap=%s,tx_pcap=%s", rx, tx);
    return add_vdev(port, "net_pcap0", args, why, why_size);
}

const struct port_ops port_pcap_ops = {
    .name = "pcap",
    .check = pcap_check,
    .open = pcap_open,
    .close = remove_vdev,
};

static int null_open(struct port *port, char *why, size_t why_size)
{
    return add_vdev(port, "net_null0", "no-rx=1,copy=0", why, why_size);
}

const struct port_ops port_null_ops = {
    .name = "null",
    .open = null_open,
    .close = remove_vdev,
};

struct rings {
    struct rte_ring *rx[ABI_MAX_WORKERS], *tx[ABI_MAX_WORKERS];
};

// "loop" sends to itself; another device is the first part of the rings' names ("port" if empty).
static const char *ring_name(const struct port *port)
{
    return port->config->device[0] ? port->config->device : "port";
}

static struct rte_ring *make_ring(const struct port *port, const char *direction, unsigned queue)
{
    char name[RTE_RING_NAMESIZE];
    snprintf(name, sizeof(name), "%.8s_%s_%u", ring_name(port), direction, queue);
    return rte_ring_create(name, RING_SIZE, SOCKET_ID_ANY, 0);
}

static int ring_open(struct port *port, char *why, size_t why_size)
{
    bool loop = strcmp(port->config->device, "loop") == 0;
    struct rings *rings = calloc(1, sizeof(*rings));
    if (rings == NULL)
        return port_fail(why, why_size, ENOMEM, "out of memory");
    port->state = rings;
    for (unsigned q = 0; q < port->queues; q++) {
        rings->rx[q] = make_ring(port, "rx", q);
        rings->tx[q] = loop ? rings->rx[q] : make_ring(port, "tx", q);
        if (rings->rx[q] == NULL || rings->tx[q] == NULL)
            return port_fail(why, why_size, rte_errno, "no memory for the port's rings: %s",
                             rte_strerror(rte_errno));
    }
    int id =
        rte_eth_from_rings(ring_name(port), rings->rx, port->queues, rings->tx, port->queues, 0);
    if (id < 0)
        return port_fail(why, why_size, rte_errno, "DPDK's ring driver: %s",
                         rte_strerror(rte_errno));
    port->id = (uint16_t)id;
    return 0;
}

static void ring_close(struct port *port)
{
    struct rings *rings = port->state;
    if (port->id != RTE_MAX_ETHPORTS) {
        char name[64];
        snprintf(name, sizeof(name), "net_ring_%.32s", ring_name(port));
        rte_eal_hotplug_remove("vdev", name);
    }
    for (unsigned q = 0; rings && q < ABI_MAX_WORKERS; q++) {
        if (rings->tx[q] != rings->rx[q])
            rte_ring_free(rings->tx[q]);
        rte_ring_free(rings->rx[q]);
    }
    free(rings);
    port->state = NULL;
}

const struct port_ops port_ring_ops = {
    .name = "ring",
    .open = ring_open,
    .close = ring_close,
};
