// Partners and protection groups: who is alive, who sends, and what happens when that changes.
// BFD (RFC 5880) runs on worker 0 for the whole node. A flip is one store that every worker sees at
// its next turn, however many sessions hang off the group.
#ifndef HITLESS_FAILOVER_H
#define HITLESS_FAILOVER_H

#include "worker.h"

// Messages of the control plane. Every worker gets PEER; worker 0 alone acts on GROUP.
void failover_peer(struct worker *worker, const struct msg_peer *message);
void failover_group(struct worker *worker, const struct msg_group *message);
void failover_adopt(struct worker *worker, const struct msg_session_adopt *message);
void failover_right(struct worker *worker, const struct msg_right *message);

// A BFD packet (worker 0). `payload` as parse_frame said.
void failover_bfd(struct worker *worker, const uint8_t *frame, const struct parsed *parsed);

// Every turn, first: takes the groups' state; on worker 0 also sends BFD, and the neighbours'
// questions.
void failover_turn(struct worker *worker);

// Every turn, after what came in: worker 0 decides whether a partner is gone. A worker that had no
// core for a while finds the partner's packets waiting, so unless all has been taken in (`drained`)
// nobody is declared dead yet.
void failover_judge(struct worker *worker, bool drained);

// Whether the session's group is ours to serve; group 0 always is.
static inline bool failover_active(const struct worker *worker, uint8_t group)
{
    return worker->active_groups >> group & 1;
}

// Brings a session's RTX numbers beyond what its partner may have used. (SRTCP needs no such care:
// each node's compounds begin with an SSRC of its own.)
void failover_enter_term(struct worker *worker, struct session *session);

// Puts a session into another protection group, which whoever serves it has agreed on: the new
// partner is told its numbers, and confirms how far its RTX numbers may go.
void failover_regroup(struct worker *worker, struct session *session, uint8_t group);

// Whether the track's next RTX number is ours to use. A partner must know how far we may go before
// we go there; until it does, plain resending serves (the same bytes as before).
bool failover_lease_rtx(struct worker *worker, struct session *session, uint8_t track);

// Tells the partner's side the session's numbers, through the control plane.
void failover_tell_numbers(struct worker *worker, struct session *session);
// The same if they are ours to say and it does not know them. True if something was said.
bool failover_tell_owed(struct worker *worker, struct session *session);

// What a session that is new here knows of its past: one that the partner accepted may have been
// here before (`foreign`).
void failover_begin_right(const struct worker *worker, struct session *session, bool foreign);

// The session's stream is about to be closed: where its numbers go on is the partner's to say,
// unless we alone serve it.
void failover_pause(const struct worker *worker, const struct session *session);

// Asks the partner for the numbers that a session which we serve lacks, now and then.
void failover_ask_right(struct worker *worker, struct session *session);

// Whether numbers of the session's track `t` are for the index space that it is in here, as far as
// is known; if not, the track is looked at again when its viewers become ours.
bool failover_fits(const struct worker *worker, const struct session *session, int t,
                   uint64_t delta);
// Viewers of ours whose numbers are not for the track's index space have none: they are the
// partner's to say.
void failover_find_strays(struct worker *worker, struct track *track);

// Once a second for each session. Whether a viewer has had nothing of a live track for so long,
// because its numbers are the partner's to say, that it had better come again with other keys.
bool failover_silent(const struct worker *worker, struct session *session);

// About once a second for each session: keeps a standby's pair alive in the browser, and tells
// numbers that have come to be.
void failover_sweep(struct worker *worker, struct session *session);

// The node's own media address of the other's family.
static inline const struct abi_addr *failover_local(const struct worker *worker,
                                                    const struct abi_addr *remote)
{
    return remote->family == 4 ? &worker->dp->config->media4 : &worker->dp->config->media6;
}

static inline bool failover_same_host(const struct abi_addr *a, const struct abi_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

// Whether frames to this address are ours now: a partner's, taken over.
bool failover_taken(const struct worker *worker, const struct abi_addr *local);

// Answers for addresses taken over (ARP, ND, echo). As neigh_input.
bool failover_neighbor(struct worker *worker, uint8_t *frame, size_t *length, size_t room);

#endif
