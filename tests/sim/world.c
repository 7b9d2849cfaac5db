#include "world.h"
#include "scratch.h"
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int give_up(const char *what)
{
    fprintf(stderr, "world: %s\n", what);
    return -1;
}

void world_must(bool ok, const char *what)
{
    if (ok)
        return;
    give_up(what);
    abort();
}

static void set_defaults(struct abi_config *config)
{
    snprintf(config->node, sizeof(config->node), "world");
    config->main_core = -1;
    for (int i = 0; i < ABI_MAX_WORKERS; i++)
        config->cores[i] = -1;
    config->mtu = 1500;
    if (!config->media4.family)
        config->media4 = (struct abi_addr){.ip = {10, 9, 0, 1}, .port = 7000, .family = 4};
    config->prefix4 = 16;
    config->crypto = ABI_CRYPTO_IPSEC_MB;
    config->idle = ABI_IDLE_ADAPTIVE;
    config->session_timeout_ms = 30000;
    if (!config->port_kind)
        config->port_kind = ABI_PORT_RING;
    if (!config->nack_policy)
        config->nack_policy = ABI_NACK_ALWAYS;
    if (!config->max_streams)
        config->max_streams = 8;
    if (!config->cache_ms)
        config->cache_ms = 1000;
}

int world_start_eal(const struct abi_config *config)
{
    struct abi_config filled = *config;
    char why[256];
    set_defaults(&filled);
    return eal_start(&filled, why, sizeof(why)) ? give_up(why) : 0;
}

int world_start(struct world *world, const struct abi_config *config)
{
    return world_start_eal(config) ? -1 : world_start_node(world, config);
}

int world_start_node(struct world *world, const struct abi_config *config)
{
    char why[256] = "out of memory";
    bool changed;
    *world = (struct world){.config = *config, .now_ns = 1000 * MS, .out_max = 4096};
    set_defaults(&world->config);
    world->out = calloc(world->out_max, sizeof(*world->out));
    if (!world->out || scratch_make(world->dir, sizeof(world->dir), "world") ||
        channel_create(&world->control, world->dir, &world->config, &changed, why, sizeof(why)) ||
        channel_open(&world->dataplane, world->dir, why, sizeof(why)))
        return give_up(why);
    world->dp.config = &world->config;
    world->dp.channel = &world->dataplane;
    world->dp.dir = world->dir;
    world->dp.workers = world->config.workers;
    struct rte_mempool *rx[ABI_MAX_WORKERS];
    for (uint32_t w = 0; w < world->dp.workers; w++)
        rx[w] = eal_worker_pools(w)->rx;
    if (port_open(&world->dp.port, &world->config, rx, why, sizeof(why)))
        return give_up(why);
    for (uint32_t w = 0; w < world->dp.workers; w++) {
        if (worker_init(&world->workers[w], &world->dp, w, why, sizeof(why)))
            return give_up(why);
        world->workers[w].now_ns = world->now_ns;
    }
    return protect_new(&world->crypto);
}

void world_stop(struct world *world)
{
    world_stop_node(world);
    eal_stop();
}

void world_stop_node(struct world *world)
{
    for (uint32_t w = 0; w < world->dp.workers; w++)
        worker_free(&world->workers[w]);
    worker_free_posts(&world->dp);
    port_close(&world->dp.port);
    channel_close(&world->dataplane);
    channel_close(&world->control);
    protect_free(world->crypto);
    free(world->out);
    if (scratch_remove(world->dir))
        give_up("cannot remove its folder");
}

unsigned world_packets_out(const struct world *world)
{
    unsigned count = 0;
    for (uint32_t w = 0; w < world->dp.workers; w++) {
        const struct eal_pools *pools = eal_worker_pools(w);
        count += rte_mempool_in_use_count(pools->rx) + rte_mempool_in_use_count(pools->tx) +
                 rte_mempool_in_use_count(pools->media) + world->workers[w].store->blocks -
                 world->workers[w].store->free;
    }
    return count;
}

void world_restart(struct world *world)
{
    char why[256] = "";
    for (uint32_t w = 0; w < world->dp.workers; w++)
        worker_free(&world->workers[w]);
    for (uint32_t w = 0; w < world->dp.workers; w++) {
        world_must(worker_init(&world->workers[w], &world->dp, w, why, sizeof(why)) == 0, why);
        world->workers[w].now_ns = world->now_ns;
    }
}

struct worker *world_move(struct world *world, uint32_t w)
{
    char why[256] = "";
    struct worker *ghost = aligned_alloc(ABI_CACHE_LINE, sizeof(*ghost));
    world_must(ghost != NULL, "no memory");
    memcpy(ghost, &world->workers[w], sizeof(*ghost));
    atomic_store(&world->dp.worker[w], ghost);
    atomic_store(&ghost->revoked, true);
    world_must(roster_replace(&world->dp, ghost, why, sizeof(why)) == 0, why);
    struct worker *fresh = atomic_load(&world->dp.worker[w]);
    memcpy(&world->workers[w], fresh, sizeof(*fresh));
    atomic_store(&world->dp.worker[w], NULL);
    free(fresh);
    world->workers[w].now_ns = world->now_ns;
    return ghost;
}

static struct rte_ring *wire(const struct world *world, const char *direction, unsigned queue)
{
    char name[32];
    const char *device = world->config.device[0] ? world->config.device : "port";
    snprintf(name, sizeof(name), "%.8s_%s_%u", device, direction, queue);
    return rte_ring_lookup(name);
}

static void collect(struct world *world)
{
    for (uint32_t w = 0; w < world->dp.workers; w++) {
        struct rte_ring *ring = wire(world, "tx", w);
        void *m;
        while (ring && rte_ring_dequeue(ring, &m) == 0) {
            world_must(world->out_count < world->out_max, "too many frames");
            struct world_frame *frame = &world->out[world->out_count++];
            frame->length = rte_pktmbuf_data_len((struct rte_mbuf *)m);
            memcpy(frame->bytes, rte_pktmbuf_mtod((struct rte_mbuf *)m, void *), frame->length);
            world_must(parse_frame(frame->bytes, frame->length, 0, &frame->parsed) == PARSE_OK,
                       "a frame came out broken");
            bool link = frame->parsed.class >= CLASS_ARP;
            world_must(link || parse_udp_checksum_ok(frame->bytes, &frame->parsed),
                       "a frame came out with a wrong checksum");
            rte_pktmbuf_free(m);
        }
    }
}

void world_turn(struct world *world)
{
    for (int i = 0; i < 3; i++) {
        for (uint32_t w = 0; w < world->dp.workers; w++) {
            world->workers[w].now_ns = world->now_ns;
            worker_turn(&world->workers[w]);
        }
    }
    collect(world);
}

void world_pass(struct world *world, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        world->now_ns += MS;
        world_turn(world);
    }
}

void world_inject(struct world *world, unsigned queue, const struct abi_addr *from,
                  uint16_t to_port, const void *data, size_t size)
{
    struct abi_addr to = world->config.media4;
    to.port = to_port;
    world_inject_to(world, queue, from, &to, data, size);
}

void world_inject_to(struct world *world, unsigned queue, const struct abi_addr *from,
                     const struct abi_addr *to, const void *data, size_t size)
{
    struct frame_path path = {.src_mac = {2, 0, 0, 0, 0, 9}, .ttl = 64, .src = *from, .dst = *to};
    memcpy(path.dst_mac, world->dp.port.mac.addr_bytes, sizeof(path.dst_mac));
    struct frame_template t;
    frame_template_init(&t, &path);
    uint8_t bytes[2048];
    world_must(t.length + size <= sizeof(bytes), "a datagram too large to inject");
    memcpy(bytes + t.length, data, size);
    frame_write(&t, bytes, size, 0);
    if (world->inject) {
        world->inject(world, queue, bytes, t.length + size);
        return;
    }
    struct rte_mbuf *m = rte_pktmbuf_alloc(eal_worker_pools(queue)->rx);
    world_must(m != NULL, "no mbuf to inject");
    memcpy(rte_pktmbuf_append(m, (uint16_t)(t.length + size)), bytes, t.length + size);
    // A null port receives nothing; another worker's mailbox leads to the same place.
    struct rte_ring *ring = wire(world, "rx", queue);
    int rc = ring ? rte_ring_enqueue(ring, m)
                  : rte_ring_enqueue(
                        world->dp.post[queue].frames_from[(queue + 1) % world->dp.workers], m);
    world_must(rc == 0, "the wire is full");
}

void world_inject_frame(struct world *world, unsigned queue, const uint8_t *frame, size_t length)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(eal_worker_pools(queue)->rx);
    world_must(m != NULL, "no mbuf to inject");
    memcpy(rte_pktmbuf_append(m, (uint16_t)length), frame, length);
    world_must(rte_ring_enqueue(wire(world, "rx", queue), m) == 0, "the wire is full");
}

struct msg_peer world_partner(const struct abi_addr *remote, int own, int other)
{
    struct msg_peer peer = {.head = {.type = MSG_PEER, .length = sizeof(peer), .id = 1},
                            .remote4 = *remote,
                            .workers = 1,
                            .present = 1,
                            .bfd_tx_us = 10000,
                            .bfd_rx_us = 10000,
                            .bfd_multiplier = 3};
    for (int i = 0; i < MSG_TRUNK_KEY; i++) {
        peer.local[i] = (uint8_t)(own * 50 + i);
        peer.remote[i] = (uint8_t)(other * 50 + i);
    }
    return peer;
}

void world_tell(struct world *world, uint32_t worker, const void *message)
{
    world_must(msg_check(message) == 0, "a message of ours is not valid");
    world_must(channel_send(&world->control, worker + 1, message) == 0, "the channel is full");
}

bool world_heard(struct world *world, uint32_t worker, enum msg_type type, void *copy, size_t size)
{
    const struct msg_head *head;
    bool found = false;
    uint64_t invalid = 0;
    while (!found && (head = channel_peek(&world->control, worker + 1, &invalid))) {
        world_must(msg_check(head) == 0, "a message from a worker is not valid");
        found = head->type == type;
        if (found && copy)
            memcpy(copy, head, size < head->length ? size : head->length);
        channel_release(&world->control, worker + 1);
    }
    return found;
}

void world_open_stream(struct world *world, uint64_t id, uint32_t worker, uint32_t source_worker)
{
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = id},
        .source_worker = (uint8_t)source_worker,
        .tracks = 2,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    world_tell(world, worker, &open);
}
