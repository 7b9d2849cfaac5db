// The shared-memory channel: SPSC rings of fixed slots both ways for each lane, doorbells,
// statistics and the health exchange. No DPDK, no pointers in the file, no lock.
//
// Lane 0 belongs to the dataplane's main core, lane 1 + w to worker w. On every ring exactly one
// thread produces and one consumes; the control plane's single loop is the other end of them all.
// A producer never waits: a full ring is -EAGAIN, and the caller counts or queues.
// Doorbells are FIFOs beside the file, so they outlive both processes: a consumer that is about to
// sleep arms its bell, looks once more, and sleeps; a producer that finds it armed rings.
#ifndef HITLESS_CHANNEL_H
#define HITLESS_CHANNEL_H

#include "abi.h"
#include "messages.h"
#include "stats.h"
#include <stdbool.h>
#include <stddef.h>

#define CHANNEL_SLOTS 1024 // per ring, a power of two

enum channel_end { CHANNEL_CONTROLPLANE, CHANNEL_DATAPLANE };

struct channel_file; // the layout of the mapped file, in channel.c

// One process's view of the channel. Owns the mapping and its descriptors.
struct channel {
    struct channel_file *file;
    size_t size;
    struct channel_offsets {
        size_t workers, port, sessions, streams; // of the statistics in the file
    } at;
    enum channel_end end;
    uint32_t lanes;
    int fd;        // also holds this end's lock on the file
    int my_bell;   // readable when the other side rang
    int peer_bell; // several threads of the dataplane may ring it
};

// Opens or creates DIR/channel as the control plane and puts `config` into it. DIR exists and is
// root-only. An existing file of the same version and size is kept with its rings and statistics
// (the dataplane may be running); `*config_changed` says whether it held another configuration, in
// which case the old one stays while a dataplane is alive. Any other file is replaced only when no
// dataplane is alive, else -EPROTO. -EBUSY: another control plane has it; -EINVAL: workers,
// max_sessions or max_streams out of range. Returns 0 or a negative errno, with one line for a
// person in `why`.
int channel_create(struct channel *channel, const char *dir, const struct abi_config *config,
                   bool *config_changed, char *why, size_t why_size);

// Opens DIR/channel as the dataplane. -ENOENT: the control plane has not made it yet; -EPROTO: the
// version or size is not ours (`why` names both); -EBUSY: another dataplane has it.
int channel_open(struct channel *channel, const char *dir, char *why, size_t why_size);

// Looks at DIR/channel without taking part: `config` is what is in it. 1 while a dataplane has it,
// 0 if none has; errors as channel_open.
int channel_look(const char *dir, struct abi_config *config, char *why, size_t why_size);
// Waits until the dataplane that has DIR/channel now is gone with all that it held. 0, -EINTR, or
// -ENOENT.
int channel_await(const char *dir);

// Unmaps and closes; the file stays. Clears our pid, so that the other side sees an orderly end.
void channel_close(struct channel *channel);

// Pointers into the map, valid until channel_close; NULL when the index is out of range.
const struct abi_config *channel_config(const struct channel *channel);
struct stats_worker *channel_worker_stats(struct channel *channel, uint32_t worker);
struct stats_port *channel_port_stats(struct channel *channel);
struct stats_session *channel_session_stats(struct channel *channel, uint32_t worker,
                                            uint32_t slot);
struct stats_stream *channel_stream_stats(struct channel *channel, uint32_t slot);

// Puts a message (head.length bytes at `message`) into our outgoing ring of `lane` and rings the
// other side's bell if it is armed. Returns 0, -EAGAIN (full), -EMSGSIZE or -EINVAL (no such lane).
// Worker threads only load and store here, except for the one write() that rings an armed bell.
int channel_send(struct channel *channel, uint32_t lane, const void *message);

// The next message of our incoming ring of `lane`, or NULL. It stays valid until channel_release.
// A slot whose length field is out of range is skipped and counted in `*invalid`.
const struct msg_head *channel_peek(struct channel *channel, uint32_t lane, uint64_t *invalid);
void channel_release(struct channel *channel, uint32_t lane);
// Throws away what waits in all of our incoming rings: for a side that starts without what its
// predecessor knew. A dataplane does so before its first ready beat, until which the control plane
// sends nothing.
void channel_discard(struct channel *channel);

// The control plane's bell covers every lane. The dataplane's covers lane 0 only, for its main
// core; workers look at their own lanes in their turns.
// Arms our bell. Returns true if something is waiting already (then do not sleep).
bool channel_arm(struct channel *channel);
// Empties our bell after a wake-up and disarms it.
void channel_disarm(struct channel *channel);

// Health. `now_ns` is CLOCK_MONOTONIC.
enum channel_peer { PEER_ABSENT, PEER_ALIVE, PEER_STALLED, PEER_DEAD };
void channel_beat(struct channel *channel, uint64_t now_ns, bool ready);
// ABSENT: never started or ended in order. DEAD: its process is gone. STALLED: it lives, but its
// last beat is older than ABI_STALLED_NS. `*epoch` changes whenever the other side restarted.
enum channel_peer channel_peer(struct channel *channel, uint64_t now_ns, uint64_t *epoch,
                               bool *ready);
// What was on its way to us may be lost, as if we had started anew: our epoch changes.
void channel_renew(struct channel *channel);
// What the dataplane keeps its sessions in, for who would put another one in its place:
// ABI_LAYOUT_SIZE bytes as they follow ABI_LAYOUT_BEGIN in its program, as a number.
uint64_t channel_layout_id(const char *layout);
void channel_set_tables(struct channel *channel, uint64_t layout_id); // dataplane
uint64_t channel_peer_tables(const struct channel *channel);          // controlplane
// Process id of the other side, 0 when it is absent. For pidfd_open(2).
uint32_t channel_peer_pid(const struct channel *channel);
uint64_t channel_peer_epoch(const struct channel *channel);         // a load, for before each send
void channel_set_mode(struct channel *channel, enum abi_mode mode); // controlplane
enum abi_mode channel_mode(const struct channel *channel);
// Has the workers count the cycles of each of their stages until then (CLOCK_MONOTONIC).
void channel_ask_stages(struct channel *channel, uint64_t until_ns); // controlplane
uint64_t channel_stages_until(const struct channel *channel);

#endif
