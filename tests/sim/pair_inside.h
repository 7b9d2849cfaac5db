// Inside the pair, shared by pair.c (time, death and return), pair_wire.c and pair_control.c.
#ifndef HITLESS_PAIR_INSIDE_H
#define HITLESS_PAIR_INSIDE_H

#include "pair.h"

#define OTHER(node) (1 - (node))
#define CLIENT_MAC_LAST 9
#define PUBLISHER_SLOT 1

// What a client's keys are made of, on both nodes alike.
static inline unsigned pair_seed(const struct pair *pair, uint32_t slot)
{
    return slot + (slot >= 2 ? 100u * pair->viewer[slot - 2].joins : 0);
}

// pair_wire.c
// Takes a frame of node `from` to the other and to the clients that it is for.
void pair_deliver(struct pair *pair, int from, const struct world_frame *frame);
// Whether what is sent to a's address, or to the one that the publisher prefers, comes to this
// node.
bool pair_has_address(const struct pair *pair, int node);

// pair_control.c
// To the node's dataplane, if it lives.
void pair_tell(struct pair *pair, int node, const void *message);
void pair_tell_group(struct pair *pair, int node);
void pair_introduce(struct pair *pair, int node);
void pair_open_stream(struct pair *pair, int node);
// The session on this node, too, with the same keys, as one that came from the other.
void pair_copy_session(struct pair *pair, int node, const struct client *client,
                       enum session_role role);
// Takes what the node's dataplane said.
void pair_serve_control(struct pair *pair, int node);
// Whether both live and their control planes reach each other.
bool pair_joined(const struct pair *pair);
// Whether the node's BFD is up.
bool pair_sees(const struct pair *pair, int node);
// Both are there and can talk: fresh trunk keys, and one of them serves.
void pair_meet(struct pair *pair);
// What the holder says of all sessions, once the two agree who it is.
void pair_synchronise(struct pair *pair);

#endif
