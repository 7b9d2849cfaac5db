// The clients around the workers: what they negotiate, check, seal and open; see world.h.
#include "../../dataplane/trunk.h"
#include "../../dataplane/trunk_record.h"
#include "world.h"
#include <stdio.h>
#include <stdlib.h>

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

static void fill_ice(struct client *client, struct msg_ice *ice)
{
    snprintf(client->ufrag, sizeof(client->ufrag), "u%02x%05x", client->home & 0xff,
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
        world_must(stun_check_fingerprint(request) && stun_check_integrity(request, &key),
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
        .home = (uint8_t)client->home,
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
    client->worker = client->home = worker;
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
    world_must(told || group, "a check led to no path"); // a standby keeps it to itself
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

void world_publish(struct world *world, struct client *client, unsigned queue, uint64_t index,
                   bool keyframe, size_t size)
{
    uint8_t wire[1600], body[1400];
    memset(body, (int)index, size);
    size_t length = world_seal(world, client, VIDEO_SSRC, index, keyframe, body, size, wire);
    world_inject(world, queue, &client->addr, world->config.media4.port, wire, length);
}

void world_rtcp(struct world *world, struct client *client, uint8_t *packet, size_t length)
{
    size_t size;
    world_must(protect_rtcp_seal(world->crypto, &client->rtcp_tx, packet, length,
                                 ++client->rtcp_index, &size) == 0,
               "RTCP cannot be sealed");
    world_inject(world, client->worker, &client->addr,
                 (uint16_t)(world->config.media4.port + client->worker), packet, size);
    world_turn(world);
}

void world_trunk(struct world *world, const struct abi_addr *partner, struct protect_tx *tx,
                 uint64_t index, const void *record, size_t size, const void *rtp, size_t rtp_size)
{
    uint8_t wire[1600];
    rtp_header_write(wire, &(struct rtp_header){.pt = TRUNK_PT,
                                                .seq = (uint16_t)index,
                                                .timestamp = (uint32_t)(index >> 16),
                                                .ssrc = TRUNK_SSRC});
    memcpy(wire + RTP_HEADER, record, size);
    if (rtp_size)
        memcpy(wire + RTP_HEADER + size, rtp, rtp_size);
    struct seal_job job = {.tx = tx,
                           .src = wire + RTP_HEADER,
                           .dst = wire,
                           .header_len = RTP_HEADER,
                           .payload_len = (uint16_t)(size + rtp_size),
                           .ssrc = TRUNK_SSRC,
                           .index = index};
    protect_seal(world->crypto, &job, 1);
    world_inject(world, 0, partner, world->config.media4.port, wire,
                 RTP_HEADER + size + rtp_size + PROTECT_TAG_ROOM);
}
