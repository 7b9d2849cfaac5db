// The crypto device behind protect_cryptodev.c and each engine's sessions on it. Internal to the
// two.
#ifndef HITLESS_PROTECT_DEVICE_H
#define HITLESS_PROTECT_DEVICE_H

#include "protect_cryptodev.h"
#include <rte_cryptodev.h>

#define PROTECT_SESSIONS 6 // per key
#define PROTECT_HMAC_LEN 10
#define PROTECT_IV_OFFSET (sizeof(struct rte_crypto_op) + sizeof(struct rte_crypto_sym_op))

struct protect_device {
    uint8_t id;
    bool made; // the virtual device is ours
    uint16_t queues;
    uint32_t keys;
    bool gcm128, gcm256, cm; // profiles that it can do
    struct rte_mempool *sessions;
    char name[RTE_CRYPTODEV_NAME_MAX_LEN];
};

enum session_kind { KIND_GCM_SEAL = 1, KIND_GCM_OPEN, KIND_CTR, KIND_HMAC };

// One key's sessions.
struct session_slot {
    uint32_t next; // in the list of free slots
    uint32_t made; // sessions ever made, for choosing the oldest
    struct {
        void *session;
        uint16_t kind, aad_len;
    } at[PROTECT_SESSIONS];
};

// One engine's keys. A key names its slot and the epoch of the table that the slot is in.
struct session_table {
    struct protect_device *device;
    uint64_t epoch;
    struct session_slot *slots; // [0] heads the free list
    unsigned retired;
    void *retire[PROTECT_BURST]; // given up, but maybe in the burst that is being made
};

int session_table_init(struct session_table *table, struct protect_device *device);
void session_table_free(struct session_table *table);

// Whether `key` has its slot in this table.
bool session_known(const struct session_table *table, const struct protect_key *key);
// Gives the key a slot. Returns 0 or -ENOMEM.
int session_take(struct session_table *table, struct protect_key *key);
void session_release(struct session_table *table, const struct protect_key *key);

// The session for one kind of operation, made when first needed; NULL when the key is not this
// table's or the device refuses. Valid until session_sweep, which an engine calls between bursts of
// at most PROTECT_BURST sessions.
void *session_get(struct session_table *table, const struct protect_key *key,
                  enum session_kind kind, uint16_t aad_len);
void session_sweep(struct session_table *table);

#endif
