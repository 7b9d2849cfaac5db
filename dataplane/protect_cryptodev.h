// SRTP through DPDK's cryptodev (ABI_CRYPTO_CRYPTODEV): for crypto hardware, and for CPUs that
// intel-ipsec-mb does not serve. Everything of protect.h holds, with three differences:
//  - memory that is sealed from and into must be DMA-able (mbufs), unless the device is software;
//  - a key is usable only with the engine that made or adopted it last;
//  - an operation that the device refuses leaves a zeroed payload, never a readable one.
#ifndef HITLESS_PROTECT_CRYPTODEV_H
#define HITLESS_PROTECT_CRYPTODEV_H

#include "protect.h"

struct protect_device; // one started crypto device; one per process is enough

// Starts a device: `name` is a driver whose virtual device is made ("crypto_aesni_mb",
// "crypto_aesni_gcm", "crypto_openssl") or an existing device's name (a PCI address). It gets
// `queues` queue pairs and room for the sessions of `keys` keys. After rte_eal_init, main core.
// Returns 0, -ENODEV, -ENOMEM or the driver's errno, with one line in `why`.
int protect_device_open(struct protect_device **out, const char *name, uint16_t queues,
                        uint32_t keys, char *why, size_t why_size);
// All engines on it must have been freed.
void protect_device_close(struct protect_device *device);

// Makes the calling thread's engine on queue pair `queue`, its own. Keys of a profile that the
// device does not know are refused with -ENOTSUP when they are made. Returns 0, -EINVAL, -ENOMEM.
int protect_cryptodev_new(struct protect **out, struct protect_device *device, uint16_t queue);

#endif
