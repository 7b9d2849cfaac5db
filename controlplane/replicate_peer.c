// What the dataplane is told of the partner: groups, addresses and BFD, trunk keys and their
// rounds; see replicate.h.
#include "replicate_private.h"
#include "secret.h"
#include <string.h>

// Only workers have lanes that such messages mean something to. Returns those of `workers` (bit w)
// whose lane had no room.
static uint32_t to_workers(struct replicate *r, uint32_t workers, const void *message)
{
    uint32_t left = 0;
    for (uint32_t w = 0; w < r->set->abi->workers; w++)
        if (workers >> w & 1 && session_send(r->set, 1 + w, message) != 0)
            left |= 1u << w;
    return left;
}

// The media addresses go with their sessions. (config_to_abi says when; where the kernel holds them
// they cannot.)
bool replicate_takes_address(const struct replicate *r)
{
    return r->set->abi->take4.family != 0 || r->set->abi->take6.family != 0;
}

static void tell_groups(struct replicate *r, uint32_t workers)
{
    r->groups_owed = 0;
    for (unsigned g = 0; g < 2; g++) {
        struct msg_group m = {.head = {.type = MSG_GROUP, .length = sizeof(m), .id = g + 1},
                              .term = r->group[g].term,
                              .role = r->group[g].role,
                              .takeover = 1,
                              .home = g == 0};
        if (replicate_takes_address(r)) {
            m.take4 = g == 0 ? r->set->abi->media4 : r->set->abi->take4;
            m.take6 = g == 0 ? r->set->abi->media6 : r->set->abi->take6;
        }
        r->groups_owed |= to_workers(r, workers, &m);
    }
}

void groups_tell_dataplane(struct replicate *r)
{
    tell_groups(r, UINT32_MAX);
}

static void tell_peer(struct replicate *r, uint32_t workers)
{
    const struct config *config = r->config;
    struct msg_peer m = {.head = {.type = MSG_PEER, .length = sizeof(m), .id = 1},
                         .remote4 = config->parsed.partner.media4,
                         .remote6 = config->parsed.partner.media6,
                         .workers = (uint16_t)r->partner_workers,
                         .present = 1,
                         .multihop = config->protection.bfd.multihop,
                         .bfd_tx_us = config->protection.bfd.interval_ms * 1000,
                         .bfd_rx_us = config->protection.bfd.interval_ms * 1000,
                         .bfd_multiplier = (uint8_t)config->protection.bfd.multiplier,
                         .bfd_key_length = (uint8_t)strlen(config->protection.bfd.key)};
    memcpy(m.bfd_key, config->protection.bfd.key, m.bfd_key_length);
    memcpy(m.local, r->keys[0].key, sizeof(m.local));
    memcpy(m.remote, r->keys[1].key, sizeof(m.remote));
    r->peer_owed = to_workers(r, workers, &m);
    dtls_wipe(&m, sizeof(m));
}

void peer_tell_dataplane(struct replicate *r)
{
    tell_peer(r, UINT32_MAX);
    groups_tell_dataplane(r); // a group needs its partner
}

// Never to a worker that has taken it: its successor may be the one to read it, and would begin
// again with keys that were used.
void peer_tick(struct replicate *r)
{
    uint32_t workers = r->groups_owed | r->peer_owed;
    if (r->peer_owed != 0)
        tell_peer(r, r->peer_owed);
    if (workers != 0)
        tell_groups(r, workers);
}

// Without a connection the dataplanes can still watch each other. The trunk gets keys that nobody
// else has, so nothing passes until a round of both.
static void watch_alone(struct replicate *r)
{
    if (secret_random(r->keys[0].key, sizeof(r->keys[0].key)) != 0 ||
        secret_random(r->keys[1].key, sizeof(r->keys[1].key)) != 0)
        return;
    peer_tell_dataplane(r);
}

void replicate_dataplane(struct replicate *r)
{
    if (r == NULL)
        return;
    r->robbed_ms = 0;
    r->bfd_state = BFD_UNKNOWN; // what its predecessor saw is past
    r->peer_owed = 0;           // and had keys for is its own
    groups_save(r);
    groups_tell_dataplane(r);
    if (replink_up(r->link))
        keys_begin(r); // PEER follows with the round's keys
    else
        watch_alone(r);
}

// ---- trunk keys: the leader begins a round, the other answers and installs, the leader installs

static int fresh_key(struct replicate *r)
{
    r->keys[0].head = (struct wire_head){.type = WIRE_KEYS, .length = sizeof(r->keys[0])};
    r->keys[0].round = r->round;
    r->peer_owed = 0; // of a round that is past; one half of two rounds would be worse than neither
    return secret_random(r->keys[0].key, sizeof(r->keys[0].key));
}

void keys_begin(struct replicate *r)
{
    struct wire_head rekey = {.type = WIRE_REKEY, .length = sizeof(rekey)};
    if (!replink_up(r->link))
        return;
    if (!r->leader) {
        replicate_send(r, &rekey);
        return;
    }
    r->round++;
    if (fresh_key(r) == 0)
        replicate_send(r, &r->keys[0]);
}

void keys_frame(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_keys *m = &frame->keys;
    if (r->leader && m->round != r->round)
        return; // the answer to a round that is past
    memcpy(r->keys[1].key, m->key, sizeof(m->key));
    if (!r->leader) {
        r->round = m->round;
        if (fresh_key(r) != 0 || replicate_send(r, &r->keys[0]) != 0)
            return;
    }
    peer_tell_dataplane(r);
}
