// What both processes agree on: version, limits and the layout of the channel file.
//
// The channel is one root-only file on tmpfs, mapped by both processes. It holds offsets and
// values, never pointers, and outlives either process. The control plane creates it and owns the
// configuration in it; the dataplane refuses a file whose version or size is not its own.
#ifndef HITLESS_ABI_H
#define HITLESS_ABI_H

#include <stdint.h>

#define ABI_MAGIC 0x68746c73u // "htls"
#define ABI_VERSION_NUMBER 11
#define ABI_VERSION ((uint32_t)ABI_VERSION_NUMBER)

// Stands in both programs, so that a file can be asked for its version without being run.
#define ABI_MARK_BEGIN "hitless-channel-version:"
#define ABI_STRING_(x) #x
#define ABI_STRING(x) ABI_STRING_(x)
#define ABI_MARK ABI_MARK_BEGIN ABI_STRING(ABI_VERSION_NUMBER)
// In the dataplane, followed by ABI_LAYOUT_SIZE bytes that differ when its tables do
// (tables_file.c).
#define ABI_LAYOUT_BEGIN "hitless-table-layout:"
#define ABI_LAYOUT_SIZE 48

#define ABI_CACHE_LINE 64
#define ABI_MAX_WORKERS 16
#define ABI_MAX_LANES (ABI_MAX_WORKERS + 1) // lane 0 is the main core, lane 1 + w is worker w
#define ABI_NAME_LEN 32                     // node and interface names, NUL included
#define ABI_HEARTBEAT_NS 20000000ull        // how often each side beats
#define ABI_STALLED_NS 100000000ull         // a side whose beat is older is stalled

// An address as it stands on the wire: IPv4 in the first 4 bytes, the rest zero.
struct abi_addr {
    uint8_t ip[16]; // network byte order
    uint16_t port;  // host byte order
    uint8_t family; // 4 or 6; 0 is "none"
    uint8_t pad;
};
_Static_assert(sizeof(struct abi_addr) == 20, "abi_addr is part of the ABI");

enum abi_port_kind {
    ABI_PORT_AF_XDP = 1, // a kernel interface, shared through our XDP program
    ABI_PORT_PCI,        // a VF or NIC bound to vfio-pci; no kernel behind it
    ABI_PORT_PCAP,       // files: device is "rx.pcap,tx.pcap"
    ABI_PORT_RING,       // in-memory loop, for tests
    ABI_PORT_NULL,       // sends to nowhere, receives nothing
};

enum abi_idle { ABI_IDLE_ADAPTIVE = 1, ABI_IDLE_SPIN };
enum abi_crypto { ABI_CRYPTO_IPSEC_MB = 1, ABI_CRYPTO_CRYPTODEV };
enum abi_nack_policy { ABI_NACK_ALWAYS = 1, ABI_NACK_ADAPTIVE };

// What the dataplane needs to start. controlplane: wo, dataplane: ro.
struct abi_config {
    char node[ABI_NAME_LEN];
    uint32_t workers;               // 1..ABI_MAX_WORKERS
    uint32_t max_sessions;          // per worker, publishers and viewers together
    uint32_t max_streams;           // per node
    uint32_t idle;                  // enum abi_idle
    uint32_t crypto;                // enum abi_crypto
    uint32_t hugepages;             // 0: run without (--no-huge)
    int32_t main_core;              // CPU of the main core; -1: not pinned
    int32_t cores[ABI_MAX_WORKERS]; // CPU of each worker; -1: not pinned

    uint32_t port_kind;       // enum abi_port_kind
    char device[128];         // interface, PCI address or file names
    uint8_t mac[6];           // all zero: the device's own
    uint16_t vlan;            // 0: untagged
    uint16_t mtu;             // bytes of IP packet, 1280..9000
    uint16_t own_l3;          // 1: no kernel answers ARP, ND and echo for our addresses, so we do
    struct abi_addr media4;   // local address; port is worker 0's UDP port, worker w adds w
    struct abi_addr media6;   // family 0: none
    uint8_t prefix4, prefix6; // prefix lengths of the on-link subnets
    uint8_t pad[2];
    struct abi_addr gateway4, gateway6; // family 0: none

    uint32_t rx_mbufs;           // mbufs per worker for what arrives
    uint32_t tx_mbufs;           // mbufs per worker for what leaves
    uint32_t cache_mbufs;        // packets of the MTU's size per worker that the rings hold
    uint32_t nack_policy;        // enum abi_nack_policy
    uint32_t cache_ms;           // milliseconds of a stream that its ring holds, 200..5000
    uint32_t session_timeout_ms; // without a check, SRTP or SRTCP from the client: RFC 7675, 30000
    uint32_t bfd;                // 1: UDP ports 3784 and 4784 of our addresses are ours too
    // A partner's media addresses, which we may take over; family 0: none.
    struct abi_addr take4, take6;
    uint32_t kill_test; // 1: STALL is obeyed
    int32_t nice;       // of the dataplane's threads, -20..19
    uint32_t reserved[3];
};

// One process's side of the health exchange. Written only by that process.
struct abi_side {
    _Alignas(ABI_CACHE_LINE) uint64_t heartbeat_ns; // CLOCK_MONOTONIC, every ABI_HEARTBEAT_NS
    uint64_t epoch;           // counts starts of this side, and losses of what was on its way to it
    uint32_t pid;             // 0: never started or stopped on purpose
    uint32_t version;         // ABI_VERSION this side was built with
    uint32_t ready;           // 1: does its work
    uint32_t mode;            // enum abi_mode, controlplane side only
    uint64_t stages_until_ns; // count cycles per stage until then, controlplane side only
    uint64_t tables;          // channel_layout_id of its tables, dataplane side only
};

enum abi_mode { ABI_MODE_NORMAL = 0, ABI_MODE_CLOSED, ABI_MODE_DRAIN };

#endif
