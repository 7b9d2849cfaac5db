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

static void must(bool ok, const char *what)
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

int world_start(struct world *world, const struct abi_config *config)
{
    struct abi_config filled = *config;
    char why[256];
    set_defaults(&filled);
    if (eal_start(&filled, why, sizeof(why)))
        return give_up(why);
    return world_start_node(world, config);
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
        must(worker_init(&world->workers[w], &world->dp, w, why, sizeof(why)) == 0, why);
        world->workers[w].now_ns = world->now_ns;
    }
}

struct worker *world_move(struct world *world, uint32_t w)
{
    char why[256] = "";
    struct worker *ghost = aligned_alloc(ABI_CACHE_LINE, sizeof(*ghost));
    must(ghost != NULL, "no memory");
    memcpy(ghost, &world->workers[w], sizeof(*ghost));
    atomic_store(&world->dp.worker[w], ghost);
    atomic_store(&ghost->revoked, true);
    must(roster_replace(&world->dp, ghost, why, sizeof(why)) == 0, why);
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
            must(world->out_count < world->out_max, "too many frames");
            struct world_frame *frame = &world->out[world->out_count++];
            frame->length = rte_pktmbuf_data_len((struct rte_mbuf *)m);
            memcpy(frame->bytes, rte_pktmbuf_mtod((struct rte_mbuf *)m, void *), frame->length);
            must(parse_frame(frame->bytes, frame->length, 0, &frame->parsed) == PARSE_OK,
                 "a frame came out broken");
            bool link = frame->parsed.class >= CLASS_ARP;
            must(link || parse_udp_checksum_ok(frame->bytes, &frame->parsed),
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
    struct frame_path path = {.src_mac = {2, 0, 0, 0, 0, 9}, .ttl = 64, .src = *from};
    memcpy(path.dst_mac, world->dp.port.mac.addr_bytes, sizeof(path.dst_mac));
    path.dst = world->config.media4;
    path.dst.port = to_port;
    struct frame_template t;
    frame_template_init(&t, &path);
    uint8_t bytes[2048];
    must(t.length + size <= sizeof(bytes), "a datagram too large to inject");
    memcpy(bytes + t.length, data, size);
    frame_write(&t, bytes, size, 0);
    if (world->inject) {
        world->inject(world, queue, bytes, t.length + size);
        return;
    }
    struct rte_mbuf *m = rte_pktmbuf_alloc(eal_worker_pools(queue)->rx);
    must(m != NULL, "no mbuf to inject");
    memcpy(rte_pktmbuf_append(m, (uint16_t)(t.length + size)), bytes, t.length + size);
    // A null port receives nothing; another worker's mailbox leads to the same place.
    struct rte_ring *ring = wire(world, "rx", queue);
    int rc = ring ? rte_ring_enqueue(ring, m)
                  : rte_ring_enqueue(
                        world->dp.post[queue].frames_from[(queue + 1) % world->dp.workers], m);
    must(rc == 0, "the wire is full");
}

void world_inject_frame(struct world *world, unsigned queue, const uint8_t *frame, size_t length)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(eal_worker_pools(queue)->rx);
    must(m != NULL, "no mbuf to inject");
    memcpy(rte_pktmbuf_append(m, (uint16_t)length), frame, length);
    must(rte_ring_enqueue(wire(world, "rx", queue), m) == 0, "the wire is full");
}

void world_tell(struct world *world, uint32_t worker, const void *message)
{
    must(msg_check(message) == 0, "a message of ours is not valid");
    must(channel_send(&world->control, worker + 1, message) == 0, "the channel is full");
}

bool world_heard(struct world *world, uint32_t worker, enum msg_type type, void *copy, size_t size)
{
    const struct msg_head *head;
    bool found = false;
    uint64_t invalid = 0;
    while (!found && (head = channel_peek(&world->control, worker + 1, &invalid))) {
        must(msg_check(head) == 0, "a message from a worker is not valid");
        found = head->type == type;
        if (found && copy)
            memcpy(copy, head, size < head->length ? size : head->length);
        channel_release(&world->control, worker + 1);
    }
    return found;
}

struct msg_track world_video(uint32_t ssrc, uint32_t rtx_ssrc)
{
    return (struct msg_track){.kind = KIND_VIDEO,
                              .codec = CODEC_VP8,
                              .pt = 96,
                              .rtx_pt = rtx_ssrc ? 97 : MSG_NO_PT,
                              .clock_rate = 90000,
                              .feedback = FB_NACK | FB_PLI,
                              .layers = 1,
                              .mid = "0",
                              .layer = {{.ssrc = ssrc, .rtx_ssrc = rtx_ssrc}}};
}

struct msg_track world_audio(uint32_t ssrc)
{
    return (struct msg_track){.kind = KIND_AUDIO,
                              .codec = CODEC_OPUS,
                              .pt = 111,
                              .rtx_pt = MSG_NO_PT,
                              .clock_rate = 48000,
                              .layers = 1,
                              .mid = "1",
                              .hdrext = {[HDREXT_AUDIO_LEVEL] = 10},
                              .layer = {{.ssrc = ssrc}}};
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

static void fill_ice(struct client *client, struct msg_ice *ice)
{
    snprintf(client->ufrag, sizeof(client->ufrag), "u%02x%05x", client->worker & 0xff,
             (unsigned)(client->id & 0xfffff));
    snprintf(client->pwd, sizeof(client->pwd), "%.8s0123456789abcdef", client->ufrag);
    memcpy(ice->ufrag, client->ufrag, MSG_UFRAG_LEN);
    memcpy(ice->pwd, client->pwd, MSG_PWD_LEN);
    stun_key_init(&client->key, client->pwd, MSG_PWD_LEN);
    ice->remote_ufrag_len = (uint16_t)strlen(WORLD_UFRAG);
    ice->remote_pwd_len = (uint16_t)strlen(WORLD_PWD);
    memcpy(ice->remote_ufrag, WORLD_UFRAG, strlen(WORLD_UFRAG));
    memcpy(ice->remote_pwd, WORLD_PWD, strlen(WORLD_PWD));
}

void world_check(struct world *world, struct client *client, const struct abi_addr *from,
                 bool nominate, const struct stun_key *key)
{
    char username[32];
    snprintf(username, sizeof(username), "%s:" WORLD_UFRAG, client->ufrag);
    struct stun_check check = {.username = username,
                               .username_length = strlen(username),
                               .priority = 1,
                               .role = STUN_ROLE_CONTROLLING,
                               .tiebreaker = 7,
                               .use_candidate = nominate};
    uint8_t buffer[256];
    size_t size = stun_write_request(buffer, sizeof(buffer), &check, key);
    world_inject(world, client->worker, from,
                 (uint16_t)(world->config.media4.port + client->worker), buffer, size);
    world_turn(world);
}

bool world_asked(const struct world *world, const struct client *client, struct stun_msg *request,
                 struct abi_addr *at)
{
    struct stun_key key;
    stun_key_init(&key, WORLD_PWD, strlen(WORLD_PWD));
    for (unsigned i = world->out_count; i-- > 0;) {
        const struct world_frame *frame = &world->out[i];
        char username[32];
        int length = snprintf(username, sizeof(username), WORLD_UFRAG ":%s", client->ufrag);
        if (frame->parsed.class != CLASS_STUN ||
            stun_parse(frame->bytes + frame->parsed.payload, frame->parsed.length, request) ||
            request->type != STUN_BINDING_REQUEST || request->username_length != length ||
            memcmp(request->username, username, (size_t)length) != 0)
            continue;
        must(stun_check_fingerprint(request) && stun_check_integrity(request, &key),
             "a request of ours that its client would not believe");
        *at = frame->parsed.dst;
        return true;
    }
    return false;
}

void world_answer(struct world *world, const struct client *client, const struct abi_addr *from,
                  const uint8_t *id, const char *pwd)
{
    uint8_t buffer[128];
    struct stun_key key;
    stun_key_init(&key, pwd, strlen(pwd));
    size_t size = stun_write_success(buffer, sizeof(buffer), id, &world->config.media4, &key);
    world_inject(world, client->worker, from,
                 (uint16_t)(world->config.media4.port + client->worker), buffer, size);
    world_turn(world);
}

void world_key(struct world *world, struct client *client, enum srtp_profile profile)
{
    struct msg_session_keys keys = {
        .head = {.type = MSG_SESSION_KEYS, .length = sizeof(keys), .id = client->id},
        .profile = (uint16_t)profile};
    for (size_t i = 0; i < MSG_KEY_MAX; i++) {
        keys.local[i] = (uint8_t)random();
        keys.remote[i] = (uint8_t)random();
    }
    world_tell(world, client->worker, &keys);
    protect_tx_init(world->crypto, &client->tx, profile, keys.remote);
    protect_rx_init(world->crypto, &client->rx, profile, keys.local);
    protect_rtcp_tx_init(&client->rtcp_tx, profile, keys.remote);
    protect_rtcp_rx_init(&client->rtcp_rx, profile, keys.local);
    world_turn(world);
}

static void open_session(struct world *world, struct client *client, enum session_role role,
                         uint64_t stream, bool rtx)
{
    uint32_t slot = MSG_SLOT(client->id);
    bool play = role == ROLE_PLAY;
    struct msg_session_open open = {
        .head = {.type = MSG_SESSION_OPEN, .length = sizeof(open), .id = client->id},
        .stream = stream,
        .role = (uint8_t)role,
        .group = client->group,
        .imported = client->imported,
        .tracks = 2,
        .track = {world_video(play ? 0x1000000 + slot : VIDEO_SSRC, !rtx   ? 0
                                                                    : play ? 0x3000000 + slot
                                                                           : RTX_SSRC),
                  world_audio(play ? 0x2000000 + slot : AUDIO_SSRC)}};
    if (play) {
        open.track[1].source = 1;
        open.track[1].hdrext[HDREXT_AUDIO_LEVEL] = 1;
    }
    fill_ice(client, &open.ice);
    world_tell(world, client->worker, &open);
    world_turn(world);
}

void world_dtls(struct world *world, const struct client *client)
{
    struct msg_dtls dtls = {.head = {.type = MSG_DTLS_SEND,
                                     .length = offsetof(struct msg_dtls, data) + 13,
                                     .id = client->id},
                            .size = 13,
                            .data = {22, 254, 253}};
    world_tell(world, client->worker, &dtls);
    world_turn(world);
}

void world_connect(struct world *world, struct client *client, enum session_role role,
                   uint64_t stream, uint32_t worker, uint32_t slot, bool rtx)
{
    uint8_t group = client->group;
    memset(client, 0, sizeof(*client));
    client->group = group;
    client->id = (uint64_t)7 << 32 | slot;
    client->worker = worker;
    client->addr =
        (struct abi_addr){.ip = {10, 9, (uint8_t)(1 + slot / 250), (uint8_t)(1 + slot % 250)},
                          .port = (uint16_t)(40000 + worker),
                          .family = 4};
    client->rtp[0].ssrc = 0x1000000 + slot;
    client->rtp[1].ssrc = 0x2000000 + slot;
    client->rtp[2].ssrc = 0x3000000 + slot;
    open_session(world, client, role, stream, rtx);
    world_check(world, client, &client->addr, true, &client->key);
    bool told = world_heard(world, worker, MSG_SESSION_PATH, NULL, 0);
    must(told || group, "a check led to no path"); // a standby keeps it to itself
    world_dtls(world, client);
    world->out_count = 0;
}

void world_join(struct world *world, struct client *client, enum session_role role, uint64_t stream,
                uint32_t worker, uint32_t slot, enum srtp_profile profile, bool rtx)
{
    world_connect(world, client, role, stream, worker, slot, rtx);
    world_key(world, client, profile);
    world->out_count = 0;
}

void world_copy(struct world *world, struct client *client, enum session_role role, uint64_t stream,
                uint32_t slot, enum srtp_profile profile, bool rtx)
{
    open_session(world, client, role, stream, rtx);
    world_key(world, client, profile);
    world->out_count = 0;
}

bool world_leave(struct world *world, struct client *client)
{
    struct msg_session_close close = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(close), .id = client->id}};
    world_tell(world, client->worker, &close);
    world_turn(world);
    return world_heard(world, client->worker, MSG_SESSION_CLOSED, NULL, 0);
}

size_t world_seal(struct world *world, struct client *client, uint32_t ssrc, uint64_t index,
                  bool keyframe, const uint8_t *body, size_t size, uint8_t *wire_bytes)
{
    uint8_t payload[1500] = {0};
    size_t head = 0;
    if (ssrc == VIDEO_SSRC) { // VP8 descriptor: start of partition 0, then the P bit
        payload[0] = 0x10;
        payload[1] = keyframe ? 0 : 1;
        head = 10;
    }
    memcpy(payload + head, body, size);
    struct rtp_header header = {.pt = ssrc == RTX_SSRC     ? 97
                                      : ssrc == VIDEO_SSRC ? 96
                                                           : 111,
                                .marker = true,
                                .seq = (uint16_t)index,
                                .timestamp = (uint32_t)(index * 3000),
                                .ssrc = ssrc,
                                .extension = ssrc == AUDIO_SSRC};
    rtp_header_write(wire_bytes, &header);
    size_t header_len = RTP_HEADER;
    if (header.extension)
        header_len += rtp_ext_write(wire_bytes + RTP_HEADER, 64,
                                    &(struct rtp_ext){10, 1, (const uint8_t *)"\x2a"}, 1);
    struct seal_job job = {.tx = &client->tx,
                           .src = payload,
                           .dst = wire_bytes,
                           .header_len = (uint16_t)header_len,
                           .payload_len = (uint16_t)(head + size),
                           .ssrc = ssrc,
                           .index = index};
    protect_seal(world->crypto, &job, 1);
    return header_len + head + size + protect_tag_len(client->tx.key.profile);
}

void world_rtcp(struct world *world, struct client *client, uint8_t *packet, size_t length)
{
    size_t size;
    must(protect_rtcp_seal(world->crypto, &client->rtcp_tx, packet, length, ++client->rtcp_index,
                           &size) == 0,
         "RTCP cannot be sealed");
    world_inject(world, client->worker, &client->addr,
                 (uint16_t)(world->config.media4.port + client->worker), packet, size);
    world_turn(world);
}
