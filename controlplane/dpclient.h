// The control plane's side of the channel, on its libuv loop: takes messages up from the dataplane,
// sends messages down, beats, and tells when the dataplane comes, stalls or dies.
//
// Every function belongs to the loop's thread; nothing here blocks.
#ifndef HITLESS_DPCLIENT_H
#define HITLESS_DPCLIENT_H

#include "../dataplane/abi/channel.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct dpclient;

struct dpclient_handlers {
    // A message from `lane` that passed msg_check and is of direction up. Valid during the call.
    void (*on_message)(void *opaque, uint32_t lane, const struct msg_head *m);
    // The dataplane's state, epoch or readiness changed. The first call comes from the loop's first
    // turn, whatever the state. A new `epoch` is another process: it knows no session. Messages
    // queued for the old one have been thrown away by then; call dpclient_send freely from here.
    void (*on_peer)(void *opaque, enum channel_peer state, uint64_t epoch, bool ready);
};

struct dpclient_counts {
    uint64_t received, sent;
    uint64_t invalid;    // messages that failed validation or came in the wrong direction
    uint64_t queued;     // sends that waited for room in the ring
    uint64_t overflowed; // sends refused with -ENOBUFS
};

// Watches `channel`, which outlives the client. Returns 0 or a negative errno.
int dpclient_new(struct dpclient **out, uv_loop_t *loop, struct channel *channel,
                 const struct dpclient_handlers *handlers, void *opaque);

// Stops. No handler is called any more; the memory goes in the loop's next turns. NULL is fine.
void dpclient_free(struct dpclient *client);

// Sends head.length bytes at `message` to `lane`, in order. While the ring is full or the dataplane
// not ready (as last told to on_peer) the message waits here, up to a bound; -ENOBUFS beyond it,
// -EMSGSIZE and -EINVAL (no such lane) as channel_send. -ENOMEM.
int dpclient_send(struct dpclient *client, uint32_t lane, const void *message);

// What our heartbeat says of us; false until called.
void dpclient_set_ready(struct dpclient *client, bool ready);

// The dataplane's state as last seen, at most one heartbeat old. `epoch` and `ready` may be NULL.
enum channel_peer dpclient_peer(const struct dpclient *client, uint64_t *epoch, bool *ready);

const struct dpclient_counts *dpclient_counts(const struct dpclient *client);

#endif
