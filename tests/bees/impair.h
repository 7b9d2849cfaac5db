// A bad network between the server and a client: drops, delays, reorders and duplicates what was
// received, before the client's stack sees it. One for each worker thread, for all its sessions.
//
// Pure: the caller's clock, a seeded generator for each path, so that a run can be repeated. Losses
// may come in bursts (Gilbert-Elliott: two states, each with its own loss). The queue is bounded:
// what does not fit is dropped and counted.
#ifndef HITLESS_BEES_IMPAIR_H
#define HITLESS_BEES_IMPAIR_H

#include "../../dataplane/abi/abi.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMPAIR_PACKET_MAX 2048 // larger datagrams are dropped

// Fractions are 0..1.
struct impair_config {
    double loss;         // of packets, in the good state
    double duplicate;    // of packets that are not lost
    double reorder;      // of packets that are held back by reorder_ns more than the rest
    uint64_t delay_ns;   // of every packet
    uint64_t jitter_ns;  // added to it, evenly distributed; does not reorder by itself
    uint64_t reorder_ns; // 0: 15 ms
    double burst_begin;  // chance for each packet to enter the bad state; 0: there is none
    double burst_end;    // chance for each packet to leave it; 0: 0.25
    double burst_loss;   // of packets in the bad state; 0: 1
    uint32_t queue;      // packets held at most; 0: 65536
    uint32_t bytes;      // bytes held at most; 0: 64 MiB
};

// One session's way through the network: embed it in the session.
struct impair_path {
    uint64_t random;
    uint64_t last_ns; // when the last packet in order comes out
    bool bad;         // Gilbert-Elliott's state
    uint32_t held;    // packets in the queue
};

struct impair_counters {
    uint64_t seen, dropped, duplicated, reordered, delayed;
    uint64_t overflow; // dropped because the queue was full
};

struct impair_packet {
    struct impair_path *path;
    struct abi_addr from;
    uint64_t arrival_ns; // when it would have come in
    const uint8_t *data; // until the next call
    size_t size;
};

enum impair_fate {
    IMPAIR_PASS, // hand it to the client now
    IMPAIR_DROP, // never
    IMPAIR_HELD  // impair_take() gives it later
};

struct impair;

// Checks the fractions. Returns 0, -EINVAL or -ENOMEM.
int impair_create(struct impair **impair, const struct impair_config *config);
void impair_free(struct impair *impair);
// Whether the configuration changes anything at all.
bool impair_active(const struct impair_config *config);

void impair_path_init(struct impair_path *path, uint64_t seed);
// Drops what is held for a path, before its session goes.
void impair_path_drop(struct impair *impair, struct impair_path *path);

// A datagram came in. It is copied if it is held (or for its duplicate).
enum impair_fate impair_offer(struct impair *impair, struct impair_path *path,
                              const struct abi_addr *from, const uint8_t *data, size_t size,
                              uint64_t now_ns);
// The next one that is due. False: none.
bool impair_take(struct impair *impair, uint64_t now_ns, struct impair_packet *packet);
// When the next one is due; UINT64_MAX if nothing is held.
uint64_t impair_due(const struct impair *impair);
const struct impair_counters *impair_counters(const struct impair *impair);

#endif
