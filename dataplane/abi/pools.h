// How many packet buffers a worker needs, from the configuration: the dataplane's start and the
// check of a configuration file must say the same.
#ifndef HITLESS_POOLS_H
#define HITLESS_POOLS_H

#include "abi.h"
#include <stdbool.h>

#define CACHE_BLOCK 16384u    // bytes of the packet rings' memory that are handed out together
#define PORT_DESCRIPTORS 2048 // of each queue of a PCI device, where it takes so many

// A pool that is too small.
struct pools_short {
    const char *key, *whose; // what to raise, and for whom
    uint32_t given;
    uint64_t held, least; // buffers that are always in use; buffers that it takes
};

// Whether a pool would be four fifths full, from where on nobody new is let in, before the first
// packet is there; the first such one.
bool pools_check(const struct abi_config *config, struct pools_short *missing);

// Blocks that hold cache_mbufs packets as large as the MTU.
uint32_t pools_cache_blocks(const struct abi_config *config);

#endif
