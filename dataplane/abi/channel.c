// The rings, bells, sections and health of the channel; channel.h has the contract,
// channel_layout.h the file, channel_file.c its making.
//
// Used by the control plane's loop thread and by every thread of the dataplane. struct channel is
// read-only after opening; what threads share is in the file and atomic.
//
// Sleep and wake-up. A consumer stores armed = 1 and then loads the heads; a producer stores head
// and then loads armed. All four are sequentially consistent, so at least one of the two sees the
// other's store: either the consumer finds the message or the producer finds the bell armed. Only
// the producer that changes armed from 1 to 0 writes to the FIFO. A producer that dies between the
// two leaves its message unannounced; the consumer's 20 ms heartbeat timer looks at the rings, too.
// tests/sim/ring.pml is the model.
#include "channel_layout.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BELL_READ 512

__attribute__((used)) static const char mark[] = ABI_MARK;

// ---- sections

static void *at(const struct channel *channel, size_t offset)
{
    return (uint8_t *)channel->file + offset;
}

const struct abi_config *channel_config(const struct channel *channel)
{
    return &channel->file->config;
}

struct stats_worker *channel_worker_stats(struct channel *channel, uint32_t worker)
{
    if (worker >= channel->lanes - 1)
        return NULL;
    return (struct stats_worker *)at(channel, channel->at.workers) + worker;
}

struct stats_port *channel_port_stats(struct channel *channel)
{
    return at(channel, channel->at.port);
}

struct stats_session *channel_session_stats(struct channel *channel, uint32_t worker, uint32_t slot)
{
    uint32_t per_worker = channel->file->config.max_sessions;
    if (worker >= channel->lanes - 1 || slot >= per_worker)
        return NULL;
    return (struct stats_session *)at(channel, channel->at.sessions) + (size_t)worker * per_worker +
           slot;
}

struct stats_stream *channel_stream_stats(struct channel *channel, uint32_t slot)
{
    if (slot >= channel->file->config.max_streams)
        return NULL;
    return (struct stats_stream *)at(channel, channel->at.streams) + slot;
}

// ---- rings

static void ring_bell(struct channel *channel)
{
    if (atomic_exchange(&peers(channel)->armed, 0) == 0)
        return; // another thread rings
    // A full FIFO is readable, so a write that does not fit is not needed.
    ssize_t ignored = write(channel->peer_bell, "!", 1);
    (void)ignored;
}

int channel_send(struct channel *channel, uint32_t lane, const void *message)
{
    const struct msg_head *m = message;
    if (m->length < sizeof(*m) || m->length > MSG_MAX)
        return -EMSGSIZE;
    if (lane >= channel->lanes)
        return -EINVAL;
    struct channel_ring *ring = ring_out(channel, lane);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head - ring->seen_tail >= CHANNEL_SLOTS) {
        ring->seen_tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head - ring->seen_tail >= CHANNEL_SLOTS)
            return -EAGAIN; // full, or a tail that the consumer will mend
    }
    memcpy(ring->slot[head & (CHANNEL_SLOTS - 1)].bytes, message, m->length);
    atomic_store_explicit(&ring->head, head + 1, memory_order_seq_cst);
    bool bell = lane == 0 || channel->end == CHANNEL_DATAPLANE;
    if (bell && atomic_load_explicit(&peers(channel)->armed, memory_order_seq_cst) != 0)
        ring_bell(channel);
    return 0;
}

const struct msg_head *channel_peek(struct channel *channel, uint32_t lane, uint64_t *invalid)
{
    if (lane >= channel->lanes)
        return NULL;
    struct channel_ring *ring = ring_in(channel, lane);
    for (uint32_t skipped = 0; skipped <= CHANNEL_SLOTS; skipped++) {
        uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
        if (ring->seen_head == tail) {
            ring->seen_head = atomic_load_explicit(&ring->head, memory_order_acquire);
            if (ring->seen_head == tail)
                return NULL;
        }
        if (ring->seen_head - tail > CHANNEL_SLOTS) { // damage; what the ring held is lost
            ring->seen_head = atomic_load_explicit(&ring->head, memory_order_acquire);
            atomic_store_explicit(&ring->tail, ring->seen_head, memory_order_release);
            ++*invalid;
            return NULL;
        }
        const struct msg_head *m = &ring->slot[tail & (CHANNEL_SLOTS - 1)].head;
        uint16_t length = __atomic_load_n(&m->length, __ATOMIC_RELAXED);
        if (length >= sizeof(*m) && length <= MSG_MAX)
            return m;
        ++*invalid;
        atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    }
    return NULL;
}

void channel_release(struct channel *channel, uint32_t lane)
{
    struct channel_ring *ring = ring_in(channel, lane);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail != ring->seen_head)
        atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
}

void channel_discard(struct channel *channel)
{
    uint64_t invalid = 0;
    for (uint32_t lane = 0; lane < channel->lanes; lane++)
        while (channel_peek(channel, lane, &invalid) != NULL)
            channel_release(channel, lane);
}

// ---- bells

bool channel_arm(struct channel *channel)
{
    uint32_t lanes = channel->end == CHANNEL_CONTROLPLANE ? channel->lanes : 1;
    atomic_store_explicit(&mine(channel)->armed, 1, memory_order_seq_cst);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        struct channel_ring *ring = ring_in(channel, lane);
        if (atomic_load_explicit(&ring->head, memory_order_seq_cst) !=
            atomic_load_explicit(&ring->tail, memory_order_relaxed))
            return true;
    }
    return false;
}

void channel_disarm(struct channel *channel)
{
    char bytes[BELL_READ];
    atomic_store_explicit(&mine(channel)->armed, 0, memory_order_seq_cst);
    while (read(channel->my_bell, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
        ;
}

// ---- health

// The name in field 2 may hold blanks and parentheses, so fields count from its end.
uint64_t channel_process_start(uint32_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (size <= 0)
        return 0;
    text[size] = 0;
    char *field = strrchr(text, ')');
    if (field == NULL || field[1] != ' ' || strchr("ZXx", field[2]) != NULL)
        return 0;
    field += 2; // field 3
    for (int i = 3; i < 22; i++) {
        field = strchr(field, ' ');
        if (field == NULL)
            return 0;
        field++;
    }
    return strtoull(field, NULL, 10);
}

void channel_beat(struct channel *channel, uint64_t now_ns, bool ready)
{
    CHANNEL_STORE(mine(channel)->side.ready, ready);
    CHANNEL_STORE(mine(channel)->side.heartbeat_ns, now_ns);
}

void channel_renew(struct channel *channel)
{
    CHANNEL_STORE(mine(channel)->side.epoch, mine(channel)->side.epoch + 1);
}

enum channel_peer channel_peer(struct channel *channel, uint64_t now_ns, uint64_t *epoch,
                               bool *ready)
{
    const struct channel_side *peer = peers(channel);
    uint32_t pid = CHANNEL_LOAD(peer->side.pid);
    uint64_t beat = CHANNEL_LOAD(peer->side.heartbeat_ns);
    *epoch = CHANNEL_LOAD(peer->side.epoch);
    *ready = false;
    if (pid == 0)
        return PEER_ABSENT;
    bool fresh = now_ns < beat || now_ns - beat < 2 * ABI_HEARTBEAT_NS;
    // Looking at /proc only when a beat is missing keeps the healthy case free of system calls.
    if (!fresh && channel_process_start(pid) != atomic_load(&peer->start_ticks))
        return PEER_DEAD;
    *ready = CHANNEL_LOAD(peer->side.ready) != 0;
    return now_ns < beat || now_ns - beat <= ABI_STALLED_NS ? PEER_ALIVE : PEER_STALLED;
}

uint32_t channel_peer_pid(const struct channel *channel)
{
    return CHANNEL_LOAD(peers(channel)->side.pid);
}

uint64_t channel_peer_epoch(const struct channel *channel)
{
    return CHANNEL_LOAD(peers(channel)->side.epoch);
}

// FNV-1a.
uint64_t channel_layout_id(const char *layout)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < ABI_LAYOUT_SIZE; i++)
        hash = (hash ^ (uint8_t)layout[i]) * 0x100000001b3ull;
    return hash;
}

void channel_set_tables(struct channel *channel, uint64_t layout_id)
{
    CHANNEL_STORE(mine(channel)->side.tables, layout_id);
}

uint64_t channel_peer_tables(const struct channel *channel)
{
    return CHANNEL_LOAD(peers(channel)->side.tables);
}

void channel_set_mode(struct channel *channel, enum abi_mode mode)
{
    CHANNEL_STORE(channel->file->side[CHANNEL_CONTROLPLANE].side.mode, (uint32_t)mode);
}

enum abi_mode channel_mode(const struct channel *channel)
{
    return (enum abi_mode)CHANNEL_LOAD(channel->file->side[CHANNEL_CONTROLPLANE].side.mode);
}

void channel_ask_stages(struct channel *channel, uint64_t until_ns)
{
    CHANNEL_STORE(channel->file->side[CHANNEL_CONTROLPLANE].side.stages_until_ns, until_ns);
}

uint64_t channel_stages_until(const struct channel *channel)
{
    return CHANNEL_LOAD(channel->file->side[CHANNEL_CONTROLPLANE].side.stages_until_ns);
}
