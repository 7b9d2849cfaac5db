// A full ICE agent for one session: one socket, one component, checks towards the server's
// candidates, consent. RFC 8445, 7675, 8839; regular nomination.
//
// Pure: datagrams and times in, datagrams out through a callback. Owned by the session's worker.
// We control, unless the server insists (7.3.1.1). Every pair that ever passed a check is kept
// alive, so that a server which answers from another of its addresses is heard at once. Limits: no
// restart, no relayed candidates, AGENT_PAIRS remote addresses.
#ifndef HITLESS_BEES_AGENT_H
#define HITLESS_BEES_AGENT_H

#include "../../dataplane/stun.h"

#define AGENT_PAIRS 8
#define AGENT_UFRAG 8 // of our own credentials, no NUL
#define AGENT_PWD 24
#define AGENT_CONSENT_NS 30000000000ull // without an answer for so long, consent is gone

#define AGENT_SILENT_NS 2500000000ull // the selected pair, before another is nominated

enum agent_pair_state { PAIR_WAITING, PAIR_CHECKING, PAIR_VALID, PAIR_FAILED };

struct agent_pair {
    struct abi_addr remote;
    uint32_t priority; // of the remote candidate
    uint8_t state;     // enum agent_pair_state
    uint8_t tries;     // of the check under way
    bool pending;      // a check is under way
    bool nominating;   // and it nominates
    bool nominated;    // by the server, when we are controlled
    uint8_t id[STUN_ID_LEN];
    uint64_t sent_ns;   // the check's first transmission
    uint64_t next_ns;   // when to send again or anew
    uint64_t answer_ns; // last answer; 0: none
    uint64_t media_ns;  // last media, as the owner tells; 0: none
    uint64_t rtt_ns;    // smoothed; 0: unknown
};

struct agent {
    char ufrag[AGENT_UFRAG], pwd[AGENT_PWD];
    struct stun_key local;  // of requests that we receive
    struct stun_key remote; // of requests that we send
    char username[STUN_USERNAME_MAX + 1];
    uint64_t tiebreaker;
    uint64_t random; // of consent's jitter
    uint64_t first_valid_ns;
    bool started;
    bool controlled; // a role conflict went against us
    bool connected;  // a pair has been nominated
    uint8_t pairs;
    uint8_t selected; // of `pair`, once connected
    struct agent_pair pair[AGENT_PAIRS];
    uint64_t checks_sent, checks_received; // counters for the owner
};

// Sends `size` bytes to `to`.
typedef void (*agent_send_fn)(void *opaque, const struct abi_addr *to, const uint8_t *data,
                              size_t size);

// Makes up credentials. 0 or -EIO when there is no randomness.
int agent_init(struct agent *agent);

// The answer's credentials, each within RFC 8839's length; then checks may begin. 0 or -EINVAL.
int agent_remote(struct agent *agent, const char *ufrag, const char *pwd);
// Adds a remote candidate; repeated ones and those beyond AGENT_PAIRS are left out.
void agent_add(struct agent *agent, const struct abi_addr *remote, uint32_t priority,
               uint64_t now_ns);

// Takes a datagram whose first byte says STUN. What is broken or not authentic is ignored.
void agent_input(struct agent *agent, const struct abi_addr *from, const uint8_t *data, size_t size,
                 uint64_t now_ns, agent_send_fn send, void *opaque);

// Does what is due and returns when it wants to be called again.
uint64_t agent_tick(struct agent *agent, uint64_t now_ns, agent_send_fn send, void *opaque);

// Whether every pair failed or, once connected, none has answered for AGENT_CONSENT_NS.
bool agent_dead(const struct agent *agent, uint64_t now_ns);

// Where to send to. NULL before the agent is connected.
const struct abi_addr *agent_path(const struct agent *agent);
// Whether media from there belongs to a pair that passed a check.
bool agent_knows(const struct agent *agent, const struct abi_addr *from);
// Media came from there. When nothing has come from the selected pair for AGENT_SILENT_NS, the one
// that media comes from is nominated instead, as browsers do.
void agent_heard(struct agent *agent, const struct abi_addr *from, uint64_t now_ns);

#endif
