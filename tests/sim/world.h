// The world around workers, in one thread: control plane, clients and wires, under a virtual clock.
// For unit tests and benchmarks of the dataplane. The port is of kind "ring" (frames can be
// collected) or "null" (they vanish).
#ifndef HITLESS_WORLD_H
#define HITLESS_WORLD_H

#include "../../dataplane/eal.h"
#include "../../dataplane/roster.h"
#include "../../dataplane/rtcp.h"

#define MS UINT64_C(1000000)
#define STREAM_ID ((UINT64_C(1) << 32) | 3)
#define VIDEO_SSRC 0x11111111u
#define AUDIO_SSRC 0x22222222u
#define RTX_SSRC 0x33333333u

// ICE credentials of all clients, which what we ask of them is sealed with.
#define WORLD_UFRAG "abcd"
#define WORLD_PWD "0123456789012345678901"

// A frame that the appliance sent.
struct world_frame {
    uint8_t bytes[2048];
    uint16_t length;
    struct parsed parsed;
};

struct world {
    struct abi_config config;
    struct channel control, dataplane;
    struct dataplane dp;
    struct worker workers[ABI_MAX_WORKERS];
    struct protect *crypto; // of the clients
    char dir[64];
    uint64_t now_ns;
    // The way in of a port that is real; NULL: the world sees to it itself.
    void (*inject)(struct world *world, unsigned queue, const uint8_t *frame, size_t length);
    struct world_frame *out; // since out_count was last set to 0; ring ports only
    unsigned out_count, out_max;
};

struct client {
    uint64_t id;
    uint32_t worker; // on the node that is spoken to
    uint32_t home;   // on the one that it joined
    struct abi_addr addr;
    char ufrag[MSG_UFRAG_LEN + 1], pwd[MSG_PWD_LEN + 1];
    struct stun_key key;
    struct protect_tx tx;
    struct protect_rx rx;
    struct protect_rtcp_tx rtcp_tx;
    struct protect_rtcp_rx rtcp_rx;
    struct protect_source rtp[3]; // video, audio, RTX
    struct protect_rtcp_source rtcp;
    uint32_t rtcp_index;
    uint8_t group; // protection group, to be set before joining
    bool imported; // world_copy: its numbers come with SESSION_ADOPT
};

// Starts EAL, a port and the workers of `config` (media addresses and sizes filled in where zero).
// 0, or negative with a line on standard error.
int world_start(struct world *world, const struct abi_config *config);
// EAL and pools for the workers of `config`; world_start has it done.
int world_start_eal(const struct abi_config *config);
// A second node in the same process, on ring ports of its own name (config->device).
int world_start_node(struct world *world, const struct abi_config *config);
void world_stop_node(struct world *world);
// Puts a whole frame on the wire of worker `queue`.
void world_inject_frame(struct world *world, unsigned queue, const uint8_t *frame, size_t length);
void world_stop(struct world *world);
// Packets that are not in the workers' pools.
unsigned world_packets_out(const struct world *world);
// The process dies and its successor adopts what it left.
void world_restart(struct world *world);

// The worker's thread has stalled, and its sessions go on under another. Returns the old worker, as
// its thread finds it when it wakes up; the caller frees it.
struct worker *world_move(struct world *world, uint32_t worker);

// Three turns of every worker, then collects what they sent.
void world_turn(struct world *world);
void world_pass(struct world *world, uint64_t ms);

// What a world takes for granted: without it, it ends the program with a line on standard error.
void world_must(bool ok, const char *what);

// Puts a UDP datagram on the wire of worker `queue`.
void world_inject(struct world *world, unsigned queue, const struct abi_addr *from,
                  uint16_t to_port, const void *data, size_t size);

// The same to any address.
void world_inject_to(struct world *world, unsigned queue, const struct abi_addr *from,
                     const struct abi_addr *to, const void *data, size_t size);

// What makes a node at `remote` a partner, before it has been told: each of the two has a number,
// and so its keys.
struct msg_peer world_partner(const struct abi_addr *remote, int own, int other);

// Seals a trunk record as such a partner does, with what follows it, and has it arrive at worker 0.
void world_trunk(struct world *world, const struct abi_addr *partner, struct protect_tx *tx,
                 uint64_t index, const void *record, size_t size, const void *rtp, size_t rtp_size);

// To a worker's lane; and the next message of that type from it (earlier ones are skipped).
void world_tell(struct world *world, uint32_t worker, const void *message);
bool world_heard(struct world *world, uint32_t worker, enum msg_type type, void *copy, size_t size);

// VP8 with RTX (unless rtx_ssrc is 0) and Opus.
struct msg_track world_video(uint32_t ssrc, uint32_t rtx_ssrc);
struct msg_track world_audio(uint32_t ssrc);
void world_open_stream(struct world *world, uint64_t id, uint32_t worker, uint32_t source_worker);

// A session with a validated address and keys, as after DTLS. Viewers get SSRCs 0x1000000 + slot
// (video), 0x2000000 + slot (audio), 0x3000000 + slot (RTX).
// In two steps: the address, then the keys; what the keys set off is in world.out.
void world_connect(struct world *world, struct client *client, enum session_role role,
                   uint64_t stream, uint32_t worker, uint32_t slot, bool rtx);
void world_key(struct world *world, struct client *client, enum srtp_profile profile);
void world_join(struct world *world, struct client *client, enum session_role role, uint64_t stream,
                uint32_t worker, uint32_t slot, enum srtp_profile profile, bool rtx);
// A datagram of the handshake to the client: that it has keys then proves its address.
void world_dtls(struct world *world, const struct client *client);
// The same session on another node, as replication brings it there: keys, but no check. The same
// srandom() before each gives both nodes the same keys.
void world_copy(struct world *world, struct client *client, enum session_role role, uint64_t stream,
                uint32_t slot, enum srtp_profile profile, bool rtx);
bool world_leave(struct world *world, struct client *client);
// A check of the client from an address.
void world_check(struct world *world, struct client *client, const struct abi_addr *from,
                 bool nominate, const struct stun_key *key);
// The last binding request to the client among what was sent, and where it went. `request` points
// into world.out. False: none.
bool world_asked(const struct world *world, const struct client *client, struct stun_msg *request,
                 struct abi_addr *at);
// An answer to transaction `id`, sealed with `pwd`.
void world_answer(struct world *world, const struct client *client, const struct abi_addr *from,
                  const uint8_t *id, const char *pwd);

// Seals a packet of the publisher with the given index; returns its bytes.
size_t world_seal(struct world *world, struct client *client, uint32_t ssrc, uint64_t index,
                  bool keyframe, const uint8_t *body, size_t size, uint8_t *wire);
// The same with `size` bytes of `index`, at most 1,400, of the video, put on the wire of worker
// `queue`.
void world_publish(struct world *world, struct client *client, unsigned queue, uint64_t index,
                   bool keyframe, size_t size);
// Seals a compound of the client in place and injects it.
void world_rtcp(struct world *world, struct client *client, uint8_t *packet, size_t length);

#endif
