// Two nodes, a and b, that protect one session group whose home is a: both dataplanes in one
// process on one wire, a model of their control planes, a publisher and a few viewers that know a's
// address only. Every packet that a node seals is written down: no (key, SSRC, index) may ever
// stand for two different packets (design.md, invariants). Virtual clock.
#ifndef HITLESS_PAIR_H
#define HITLESS_PAIR_H

#include "world.h"

#define PAIR_VIEWERS 3
#define PAIR_GROUP 1
#define PAIR_TRUNK 0x7777u

// What one node's control plane knows of the group.
struct pair_control {
    uint32_t term;
    enum group_role role;
    uint32_t claim;                           // a term in which the other serves it, too
    struct msg_numbers numbers[PAIR_VIEWERS]; // as last heard
    struct msg_session_path path[PAIR_VIEWERS];
};

struct pair_viewer {
    struct client client;
    unsigned packets, sound, bad, rtx;
    uint64_t highest;                   // index of its video
    uint8_t last_mac[6];                // of the sender of its last packet
    struct abi_addr last_from, last_at; // where that came from, and went to
    struct abi_addr gone;               // an address where nobody is any more
    unsigned asked[2];                  // binding requests, of each node
    uint8_t seen[65536];                // video packets, by sequence number
    uint8_t joins;                      // sessions before this one: each has keys of its own
    uint64_t first_rtx;                 // where its RTX numbers began
    unsigned ended[2];                  // how often each node said that it had to end,
    uint64_t ended_ns;                  // last then,
    uint32_t why;                       // for this reason
};

struct pair {
    unsigned workers[2]; // set before pair_start; 0: one
    struct world node[2];
    struct pair_control control[2];
    bool alive[2];
    bool media_cut;   // nothing passes between the nodes' ports; clients reach both
    bool control_cut; // nor between their control planes
    bool connected;   // the control planes have greeted each other
    bool lost[2];     // the node knows no session: its table died with it
    bool deaf[2];     // its dataplane reads no SESSION_ADOPT for the time being
    bool unheard[2];  // what the node sends to clients is lost
    bool right_lost;  // who is asked for the right to begin answers in vain
    bool hub;         // the publisher's packets reach both nodes, whoever has the address
    bool apart;       // no subnet is shared: neither node can take the other's address
    int publisher_at; // then: the node that the publisher sends to
    uint64_t now;
    struct client publisher;
    struct pair_viewer viewer[PAIR_VIEWERS];
    uint64_t published, spoken;                         // index of the last packet, of its sound
    uint32_t round;                                     // of trunk keys
    unsigned duplicates, conflicts;                     // of what was written down
    char first[200];                                    // of the conflicts
    struct msg_session_adopt owed[2][PAIR_VIEWERS + 1]; // to deaf ones; the last is the publisher's
    unsigned publisher_nacks;       // packets that the nodes asked the publisher for
    uint8_t publisher_asked[65536]; // how often, by sequence number
};

// Starts both nodes, on one subnet or apart, has BFD come up, and joins the clients: the one of
// slot s at worker s of a, modulo their number. 0, or -1. All but `workers` need not be set.
int pair_start(struct pair *pair, bool apart);
void pair_stop(struct pair *pair);

// Half a millisecond after half a millisecond, without media.
void pair_pass(struct pair *pair, uint64_t ms);
// One turn of every living node and of the control planes.
void pair_turn(struct pair *pair);
// The next packet of the publisher, and a millisecond.
void pair_publish(struct pair *pair, bool keyframe);
// The same of its sound, which it has not sent a packet of at first.
void pair_speak(struct pair *pair);
// A request of a viewer for one of its packets, to one node or to whoever has the address (-1).
void pair_nack(struct pair *pair, unsigned viewer, uint16_t seq, int node);

// The client as that node has it.
struct client pair_client(const struct pair *pair, int node, const struct client *client);
struct session *pair_session(const struct pair *pair, int node, const struct client *client);
// Packets that the node's workers have dropped for that reason.
uint64_t pair_drops(const struct pair *pair, int node, enum drop what);

bool pair_serves(const struct pair *pair, int node);
// The node dies with its table; a `crash` is over at once, else pair_revive ends it.
void pair_kill(struct pair *pair, int node);
void pair_crash(struct pair *pair, int node);
void pair_revive(struct pair *pair, int node);
// The node dies, and its table with it: when it is back it gets its sessions from the other.
void pair_lose(struct pair *pair, int node);
// A deaf dataplane reads what it was told meanwhile.
void pair_hear(struct pair *pair, int node);
// A viewer leaves, and joins node a alone, in no group; and then is protected after all.
void pair_join_alone(struct pair *pair, unsigned viewer);
void pair_protect(struct pair *pair, unsigned viewer);
// As drain and failback do. False: the control planes cannot agree on it now.
bool pair_hand_over(struct pair *pair, int to);

#endif
