// The crypto device itself: found or made, asked what it can do, started; and the sessions that an
// engine keeps on it for its keys.
//
// DPDK fixes a session's AAD length, so a key has one session for each RTP header length in use,
// made when first needed; the oldest is given up when there are more than PROTECT_SESSIONS.
#define ALLOW_EXPERIMENTAL_API // the session pool, in DPDK 22.11
#include "protect_device.h"
#include <rte_dev.h>
#include <rte_malloc.h>
#include <stdio.h>
#include <sys/random.h>

#define QUEUE_SIZE 2048

static void fill_gcm(struct rte_crypto_sym_xform *x, const struct protect_key *key, bool seal,
                     uint16_t aad_len)
{
    x->type = RTE_CRYPTO_SYM_XFORM_AEAD;
    x->aead.op = seal ? RTE_CRYPTO_AEAD_OP_ENCRYPT : RTE_CRYPTO_AEAD_OP_DECRYPT;
    x->aead.algo = RTE_CRYPTO_AEAD_AES_GCM;
    x->aead.key.data = key->device.cipher;
    x->aead.key.length = (uint16_t)protect_master_key_len(key->profile);
    x->aead.iv.offset = PROTECT_IV_OFFSET;
    x->aead.iv.length = 12;
    x->aead.digest_length = 16;
    x->aead.aad_length = aad_len;
}

static void fill_cm(struct rte_crypto_sym_xform *x, const struct protect_key *key, bool hmac)
{
    if (hmac) {
        x->type = RTE_CRYPTO_SYM_XFORM_AUTH;
        x->auth.op = RTE_CRYPTO_AUTH_OP_GENERATE;
        x->auth.algo = RTE_CRYPTO_AUTH_SHA1_HMAC;
        x->auth.key.data = key->device.auth;
        x->auth.key.length = sizeof(key->device.auth);
        x->auth.digest_length = PROTECT_HMAC_LEN;
    } else {
        x->type = RTE_CRYPTO_SYM_XFORM_CIPHER;
        x->cipher.op = RTE_CRYPTO_CIPHER_OP_ENCRYPT;
        x->cipher.algo = RTE_CRYPTO_CIPHER_AES_CTR;
        x->cipher.key.data = key->device.cipher;
        x->cipher.key.length = 16;
        x->cipher.iv.offset = PROTECT_IV_OFFSET;
        x->cipher.iv.length = 16;
    }
}

static void *make_session(const struct protect_device *device, const struct protect_key *key,
                          enum session_kind kind, uint16_t aad_len)
{
    struct rte_crypto_sym_xform x = {0};
    if (kind == KIND_GCM_SEAL || kind == KIND_GCM_OPEN)
        fill_gcm(&x, key, kind == KIND_GCM_SEAL, aad_len);
    else
        fill_cm(&x, key, kind == KIND_HMAC);
    return rte_cryptodev_sym_session_create(device->id, &x, device->sessions);
}

bool session_known(const struct session_table *table, const struct protect_key *key)
{
    uint32_t slot = key->device.slot;
    return key->device.epoch == table->epoch && slot > 0 && slot <= table->device->keys;
}

int session_take(struct session_table *table, struct protect_key *key)
{
    uint32_t slot = table->slots[0].next;
    if (!slot)
        return -ENOMEM;
    table->slots[0].next = table->slots[slot].next;
    key->device.slot = slot;
    key->device.epoch = table->epoch;
    return 0;
}

static void free_sessions(struct session_table *table, struct session_slot *slot)
{
    for (unsigned i = 0; i < PROTECT_SESSIONS; i++)
        if (slot->at[i].session)
            rte_cryptodev_sym_session_free(table->device->id, slot->at[i].session);
    *slot = (struct session_slot){0};
}

void session_release(struct session_table *table, const struct protect_key *key)
{
    if (!session_known(table, key))
        return;
    struct session_slot *slot = &table->slots[key->device.slot];
    free_sessions(table, slot);
    slot->next = table->slots[0].next;
    table->slots[0].next = key->device.slot;
}

void *session_get(struct session_table *table, const struct protect_key *key,
                  enum session_kind kind, uint16_t aad_len)
{
    if (!session_known(table, key))
        return NULL;
    struct session_slot *slot = &table->slots[key->device.slot];
    for (unsigned i = 0; i < PROTECT_SESSIONS; i++)
        if (slot->at[i].session && slot->at[i].kind == kind && slot->at[i].aad_len == aad_len)
            return slot->at[i].session;
    unsigned oldest = slot->made % PROTECT_SESSIONS;
    if (slot->at[oldest].session) {
        if (table->retired == PROTECT_BURST)
            return NULL;
        table->retire[table->retired++] = slot->at[oldest].session;
    }
    slot->made++;
    slot->at[oldest].session = make_session(table->device, key, kind, aad_len);
    slot->at[oldest].kind = (uint16_t)kind;
    slot->at[oldest].aad_len = aad_len;
    return slot->at[oldest].session;
}

void session_sweep(struct session_table *table)
{
    while (table->retired)
        rte_cryptodev_sym_session_free(table->device->id, table->retire[--table->retired]);
}

int session_table_init(struct session_table *table, struct protect_device *device)
{
    *table = (struct session_table){.device = device};
    if (getrandom(&table->epoch, sizeof(table->epoch), 0) != sizeof(table->epoch))
        return -EIO;
    table->slots = rte_zmalloc("protect", (device->keys + 1) * sizeof(*table->slots), 64);
    if (!table->slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < device->keys; i++)
        table->slots[i].next = i + 1;
    return 0;
}

void session_table_free(struct session_table *table)
{
    if (!table->slots)
        return;
    session_sweep(table);
    for (uint32_t i = 1; i <= table->device->keys; i++)
        free_sessions(table, &table->slots[i]);
    rte_free(table->slots);
    table->slots = NULL;
}

static bool can_gcm(uint8_t id, uint16_t key_len)
{
    struct rte_cryptodev_sym_capability_idx at = {.type = RTE_CRYPTO_SYM_XFORM_AEAD,
                                                  .algo.aead = RTE_CRYPTO_AEAD_AES_GCM};
    const struct rte_cryptodev_symmetric_capability *c = rte_cryptodev_sym_capability_get(id, &at);
    return c && !rte_cryptodev_sym_capability_check_aead(c, key_len, 16, 12, 12);
}

static bool can_cm(uint8_t id)
{
    struct rte_cryptodev_sym_capability_idx cipher = {.type = RTE_CRYPTO_SYM_XFORM_CIPHER,
                                                      .algo.cipher = RTE_CRYPTO_CIPHER_AES_CTR};
    struct rte_cryptodev_sym_capability_idx auth = {.type = RTE_CRYPTO_SYM_XFORM_AUTH,
                                                    .algo.auth = RTE_CRYPTO_AUTH_SHA1_HMAC};
    const struct rte_cryptodev_symmetric_capability *c =
        rte_cryptodev_sym_capability_get(id, &cipher);
    const struct rte_cryptodev_symmetric_capability *a =
        rte_cryptodev_sym_capability_get(id, &auth);
    return c && a && !rte_cryptodev_sym_capability_check_cipher(c, 16, 16) &&
           !rte_cryptodev_sym_capability_check_auth(a, 20, PROTECT_HMAC_LEN, 0);
}

static int find_device(struct protect_device *device, const char *name, uint16_t queues)
{
    int id = rte_cryptodev_get_dev_id(name);
    snprintf(device->name, sizeof(device->name), "%s", name);
    if (id < 0) {
        char args[64];
        snprintf(args, sizeof(args), "max_nb_queue_pairs=%u", queues);
        int rc = rte_eal_hotplug_add("vdev", name, args);
        if (rc)
            return rc == -EEXIST ? -EBUSY : -ENODEV;
        device->made = true;
        id = rte_cryptodev_get_dev_id(name);
    }
    return id;
}

static int start_device(struct protect_device *device, uint16_t queues)
{
    struct rte_cryptodev_config config = {.socket_id = rte_cryptodev_socket_id(device->id),
                                          .nb_queue_pairs = queues,
                                          .ff_disable = RTE_CRYPTODEV_FF_ASYMMETRIC_CRYPTO};
    struct rte_cryptodev_qp_conf qp = {.nb_descriptors = QUEUE_SIZE,
                                       .mp_session = device->sessions};
    int rc = rte_cryptodev_configure(device->id, &config);
    for (uint16_t q = 0; !rc && q < queues; q++)
        rc = rte_cryptodev_queue_pair_setup(device->id, q, &qp, config.socket_id);
    return rc ? rc : rte_cryptodev_start(device->id);
}

int protect_device_open(struct protect_device **out, const char *name, uint16_t queues,
                        uint32_t keys, char *why, size_t why_size)
{
    struct protect_device *device = rte_zmalloc("protect", sizeof(*device), 64);
    if (!device)
        return -ENOMEM;
    int id = find_device(device, name, queues);
    if (id < 0) {
        snprintf(why, why_size, "no crypto device %s: check the name and DPDK's drivers", name);
        rte_free(device);
        return id;
    }
    device->id = (uint8_t)id;
    device->queues = queues;
    device->keys = keys;
    device->gcm128 = can_gcm(device->id, 16);
    device->gcm256 = can_gcm(device->id, 32);
    device->cm = can_cm(device->id);
    char pool[RTE_MEMPOOL_NAMESIZE];
    snprintf(pool, sizeof(pool), "protect_keys_%u", device->id);
    device->sessions = rte_cryptodev_sym_session_pool_create(
        pool, queues * (keys * PROTECT_SESSIONS + PROTECT_BURST),
        rte_cryptodev_sym_get_private_session_size(device->id), 0, 0, SOCKET_ID_ANY);
    int rc = device->sessions ? start_device(device, queues) : -ENOMEM;
    if (rc) {
        snprintf(why, why_size, "crypto device %s does not start: %s", name, strerror(-rc));
        protect_device_close(device);
        return rc;
    }
    *out = device;
    return 0;
}

void protect_device_close(struct protect_device *device)
{
    if (!device)
        return;
    rte_cryptodev_stop(device->id);
    rte_cryptodev_close(device->id);
    if (device->made)
        rte_eal_hotplug_remove("vdev", device->name);
    rte_mempool_free(device->sessions);
    rte_free(device);
}
