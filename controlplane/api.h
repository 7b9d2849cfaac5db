// What operators and pages see, as JSON: node, streams, sessions, workers, ports, drops and peers,
// from the session set and the channel's statistics. Field names are snake_case; rates are per
// second, bits unless the name says packets.
//
// Runs on the control plane's loop; never blocks. `now_ns` is CLOCK_MONOTONIC (uv_hrtime). Rates
// are differences between two samples of the counters at least API_SAMPLE_NS apart; call api_sample
// about once a second, so that the window is one second, whoever asks and however seldom.
#ifndef HITLESS_API_H
#define HITLESS_API_H

#include "../dataplane/abi/channel.h"
#include "session.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define API_SAMPLE_NS 1000000000ull
#define API_SESSIONS_MAX 2000 // listed at once: more would hold the loop up
#define API_SESSION_ID_LEN 10 // characters of a session's token that name it to operators

struct api;

// `channel` and `sessions` outlive it. Returns 0 or -ENOMEM.
int api_new(struct api **out, struct channel *channel, struct sessions *sessions, uint64_t now_ns);
void api_free(struct api *api);
void api_sample(struct api *api, uint64_t now_ns);

// What is asked of replication, which api.c and its tests need not know otherwise.
struct replicate;
struct api_pair {
    struct replicate *replicate; // NULL without a partner
    json_t *(*peers)(struct replicate *);
    json_t *(*groups)(struct replicate *);
    int (*drain)(struct replicate *, char *why, size_t why_size);
    int (*failback)(struct replicate *, char *why, size_t why_size);
    bool kill_test; // operator.kill_test
};
void api_set_pair(struct api *api, const struct api_pair *pair); // copied

// New references; NULL when memory ran out. Session tokens are secrets of their clients: only their
// first API_SESSION_ID_LEN characters appear.
json_t *api_status(struct api *api, uint64_t now_ns);
json_t *api_streams(struct api *api, uint64_t now_ns); // {"streams":[…]}, by name
// {"sessions":[…]}, by stream, role and age; of one stream, or all when NULL. Beyond
// API_SESSIONS_MAX "left_out" says how many more there are.
json_t *api_sessions(struct api *api, const char *stream, uint64_t now_ns);
json_t *api_workers(struct api *api, uint64_t now_ns); // {"workers":[…]}
// {"stages":[…]}, in the order of a worker's turn, all workers together. Asking has the workers
// count for API_STAGES_NS, so the first answer after a pause is empty and says, in "ask_again_ms",
// when the next one is not.
#define API_STAGES_NS (10 * API_SAMPLE_NS)
json_t *api_stages(struct api *api, uint64_t now_ns);
json_t *api_ports(struct api *api, uint64_t now_ns); // {"ports":[…]}
json_t *api_drops(struct api *api, uint64_t now_ns); // {"drops":[…]}, all reasons, largest first
json_t *api_peers(struct api *api, uint64_t now_ns); // {"peers":[…]}: our dataplane, the partner
// {"groups":[…]}, empty without a partner; "left" is how many of their sessions are served here,
// "unprotected" how many others there are.
json_t *api_groups(struct api *api, uint64_t now_ns);
// Hands every session to the partner, or has every group go home. 0, or a negative errno with a
// reason in `why`.
int api_drain(struct api *api, char *why, size_t why_size);
int api_failback(struct api *api, char *why, size_t why_size);
// As api_groups, and while sessions are being handed over, "progress" in words, "ask_again_ms" and
// "ask", the command for that. NULL with a reason in `why` when what is left here stays here.
json_t *api_drain_state(struct api *api, uint64_t now_ns, char *why, size_t why_size);
// Ends our processes for a test (SIGKILL; `what` is node, dataplane or controlplane; only with
// operator.kill_test) or has a worker hang for 0.9 s (worker). Our own end comes a moment
// later, so that the answer gets out. 0, -EINVAL, -EPERM or -ESRCH.
int api_kill(struct api *api, const char *what);
// Ends a process (dataplane or controlplane) by SIGTERM, so that the supervisor starts it anew. As
// api_kill, or -EPROTO with a line in `why` when what is installed could not go on with the
// channel.
int api_restart(struct api *api, const char *what, char *why, size_t why_size);

// Ends the one session whose id begins with `prefix`. 0, -ENOENT, or -ENOTUNIQ.
int api_kick(struct api *api, const char *prefix);

// What metrics.c shares.
struct api_name {
    const char *name, *help;
};
extern const struct api_name api_count_names[COUNTS];
extern const struct api_name api_drop_names[DROPS];
struct channel *api_channel(struct api *api);
struct sessions *api_sessions_set(struct api *api);
const char *api_phase_name(enum session_phase phase);
const char *api_role_name(enum session_role role);
// Relaxed, as the counters are written.
#define API_LOAD(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)

#endif
