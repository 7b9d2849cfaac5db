// The connection to the partner node: TLS 1.3 with both certificates, frames in order, bounds on
// everything, on the control plane's libuv loop.
//
// Both nodes listen and dial. Of two connections the one that the node with the smaller name
// dialled stays. A connection is up when certificates and HELLO have been accepted; nothing of a
// frame reaches the handlers before. A partner that is slow to greet, silent, floods or does not
// read is hung up on, with the reason in the log and in replink_why. One that says more than we can
// deal with has at most half of the loop's time. Nothing here blocks or keeps state of sessions, so
// a lost connection costs nothing but the next synchronisation.
#ifndef HITLESS_REPLICATE_LINK_H
#define HITLESS_REPLICATE_LINK_H

#include "replicate_wire.h"
#include <uv.h>

#define REPLINK_GREET_MS 3000      // from TCP to HELLO
#define REPLINK_PING_MS 250        // how often we say that we live
#define REPLINK_SILENCE_MS 2000    // of the partner, then it has stalled
#define REPLINK_DIAL_MS 250        // between attempts
#define REPLINK_PENDING 4          // connections that have not greeted yet, beside the partner's
#define REPLINK_ROOM (256 << 10)   // bytes on their way up to which replink_room is true
#define REPLINK_QUEUE (4 << 20)    // and at which a partner that does not read is hung up on
#define REPLINK_FRAMES_PER_S 50000 // more is a flood,
#define REPLINK_UP_FRAMES 5000     // and a new connection weighs as much as so many;
#define REPLINK_SHUN_MS 5000       // who floods us may come again after so long
#define REPLINK_STRETCH_MS 5       // of the loop's time, for what the partner says, at a stretch,
#define REPLINK_REST_MS 5          // and then so much for everybody else

struct replink;

struct replink_config {
    const char *node, *partner; // names
    const char *certificate, *key, *ca;
    struct abi_addr listen, address; // port 0 of `listen`: any; of `address`: do not dial
};

struct replink_handlers {
    // Fills in what a HELLO says beyond version, sizes and name.
    void (*hello)(void *opaque, struct wire_hello *hello);
    // The connection is up; `leader`: ours is the smaller name.
    void (*up)(void *opaque, const struct wire_hello *hello, bool leader);
    // A frame that passed wire_check. Not HELLO, REFUSE or PING. 0, or a negative errno with a
    // reason in `why`: then the connection is closed.
    int (*frame)(void *opaque, const union wire_frame *frame, char *why, size_t why_size);
    // After the last frame that came at once, and when there is room again.
    void (*turn)(void *opaque);
    void (*down)(void *opaque, const char *why);
};

// Listens and begins to dial. Strings of `config` outlive it. 0 or a negative errno with a line for
// a person in `why`.
int replink_new(struct replink **out, uv_loop_t *loop, const struct replink_config *config,
                const struct replink_handlers *handlers, void *opaque, char *why, size_t why_size);
// Closes everything without calling a handler; the memory goes in the loop's next turns.
void replink_free(struct replink *link);

// Reads certificate, key and authority again, for the connections to come. 0, or a negative errno
// with a line in `why`: then the old ones stay.
int replink_reload(struct replink *link, char *why, size_t why_size);

bool replink_up(const struct replink *link);
// Whether what waits to be sent is short; senders of much look before each frame.
bool replink_room(const struct replink *link);
// Sends a frame; head.length and type are the caller's. 0, -ENOTCONN, or -ENOBUFS after hanging up.
int replink_send(struct replink *link, const void *frame);
// Hangs up and dials anew; the partner is told `why`.
void replink_drop(struct replink *link, const char *why);

uint16_t replink_port(const struct replink *link);   // that it listens on
const char *replink_why(const struct replink *link); // why there is no connection; "" if there is

struct replink_counts {
    uint64_t sent, received, bytes_sent, bytes_received;
    uint64_t connections, refused; // refused: certificate, version or name, or too soon after
    uint64_t floods;               // for which we hung up
    uint64_t rests;                // of the partner, whose words had taken a stretch of our time
};
const struct replink_counts *replink_counts(const struct replink *link);

#endif
