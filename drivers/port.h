// One NIC port: how it is opened and closed. Packets themselves go through rte_eth_rx_burst and
// rte_eth_tx_burst on `id`, one queue pair per worker, so that the fast path has no indirection.
// Everything here runs on the main thread.
//
// A ring port's queue w is the pair of rte_rings "port_rx_<w>" and "port_tx_<w>", which a test
// finds with rte_ring_lookup; with the device name "loop" what is sent comes back instead.
#ifndef HITLESS_PORT_H
#define HITLESS_PORT_H

#include "../dataplane/abi/abi.h"
#include "../dataplane/abi/pools.h"
#include "../dataplane/abi/stats.h"
#include <rte_ether.h>
#include <rte_mempool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct port;

// A kind of port. Small, because all of them end up as an ethdev. NULL: nothing to do.
struct port_ops {
    const char *name;
    // Looks at what is there without touching it, before EAL starts: privilege, device, driver.
    int (*check)(const struct abi_config *config, char *why, size_t why_size);
    // Finds or makes the ethdev. Returns 0 or a negative errno, with one line in `why` that says
    // what is wrong and what to do.
    int (*open)(struct port *port, char *why, size_t why_size);
    // After the ethdev started: lets packets in.
    int (*started)(struct port *port, char *why, size_t why_size);
    void (*close)(struct port *port); // undoes open, also after a half-done start
    // Link state and speed, where the ethdev does not know them.
    void (*link)(struct port *port, struct stats_port *stats);
};

struct port {
    const struct port_ops *ops;
    const struct abi_config *config;
    uint16_t id; // ethdev; RTE_MAX_ETHPORTS: none
    uint16_t queues;
    bool tx_ipv4_cksum, tx_udp_cksum; // the port fills them in; else the caller writes them
    struct rte_ether_addr mac;
    void *state; // the kind's own
};

extern const struct port_ops port_afxdp_ops, port_ethdev_ops, port_pcap_ops, port_ring_ops,
    port_null_ops;

// Adds this kind's EAL arguments (e.g. "--no-pci") to args, at most `max`, and returns how many.
// They stay valid as long as `config`. Called before rte_eal_init.
int port_eal_args(const struct abi_config *config, char *args[], int max);

// Whether a port of this configuration can open on this machine, without EAL and without changing
// anything. Returns 0 or a negative errno with one line in `why`.
int port_check(const struct abi_config *config, char *why, size_t why_size);

// Opens and starts the port of the configuration: `config->workers` queue pairs, queue w receiving
// into rx_pools[w]. `config` outlives it. Privileges, drivers and hugepages are checked first.
// After an error everything is undone. Once per process: DPDK's AF_XDP driver does not let go of
// an interface's queues before the process ends.
int port_open(struct port *port, const struct abi_config *config, struct rte_mempool *rx_pools[],
              char *why, size_t why_size);
void port_close(struct port *port);

// Copies counters and link state. Main core only.
void port_stats(struct port *port, struct stats_port *stats);
// Whether the link is up now. Any thread; may make a few system calls.
bool port_link_up(struct port *port);

// Puts one line into `why` and returns -error, for the kinds' own use.
__attribute__((format(printf, 4, 5))) int port_fail(char *why, size_t why_size, int error,
                                                    const char *format, ...);

#endif
