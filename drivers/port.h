// One NIC port: how it is opened and closed. Packets themselves go through rte_eth_rx_burst and
// rte_eth_tx_burst on `id`, one queue pair per worker, so that the fast path has no indirection.
#ifndef HITLESS_PORT_H
#define HITLESS_PORT_H

#include "../dataplane/abi/abi.h"
#include "../dataplane/abi/stats.h"
#include <rte_ether.h>
#include <rte_mempool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct port;

// A kind of port. Small, because all of them end up as an ethdev.
struct port_ops {
    const char *name;
    // Finds or makes the ethdev. Returns 0 or a negative errno, with one line in `why` that says
    // what is wrong and what to do.
    int (*open)(struct port *port, char *why, size_t why_size);
    void (*close)(struct port *port); // undoes open, also after a half-done start
};

struct port {
    const struct port_ops *ops;
    const struct abi_config *config;
    uint16_t id; // ethdev
    uint16_t queues;
    bool tx_ipv4_cksum, tx_udp_cksum; // the port fills them in; else the caller writes them
    struct rte_ether_addr mac;
    void *state; // the kind's own
};

// Adds this kind's EAL arguments (e.g. "--no-pci") to argv. Called before rte_eal_init.
int port_eal_args(const struct abi_config *config, char *args[], int max);

// Opens and starts the port of the configuration: `config->workers` queue pairs, queue w receiving
// into rx_pools[w]. `config` outlives it. Privileges, drivers and hugepages are checked first.
int port_open(struct port *port, const struct abi_config *config, struct rte_mempool *rx_pools[],
              char *why, size_t why_size);
void port_close(struct port *port);

// Copies counters and link state. Main core only.
void port_stats(struct port *port, struct stats_port *stats);

#endif
