// What a run of hitless-bees knows about its sessions, one by one and in sum: the structs that the
// engine fills in and that the progress line, JSON, report and metrics read.
//
// Counters are written by the one worker thread that owns the session or the sum, and read by
// others while the run goes on through bees_counters_add() (relaxed loads: each is right by
// itself). Everything else is read only after the workers have ended. Times are ns of
// CLOCK_MONOTONIC since the run began unless said otherwise.
#ifndef HITLESS_BEES_H
#define HITLESS_BEES_H

#include "hist.h"
#include <stdbool.h>
#include <stdint.h>

#define BEES_URL_MAX 1024
#define BEES_PATHS_MAX 4 // addresses of the server that one session took media from

// X(name, what it counts). Receiving sessions first, then publishing ones, then both.
#define BEES_COUNTERS(X)                                                                           \
    X(packets, "RTP packets received, duplicates and retransmissions left out")                    \
    X(bytes, "their bytes, RTP header to authentication tag")                                      \
    X(missing, "packets that were not there when a later one came")                                \
    X(lost, "packets that never came, not even on request")                                        \
    X(reordered, "packets that came late, but by themselves")                                      \
    X(recovered, "packets that came after they were asked for")                                    \
    X(jumps, "sequence numbers that began anew, over 3,000 away")                                  \
    X(duplicates, "packets that came again with the same bytes")                                   \
    X(nacks, "packets asked for, each request counted")                                            \
    X(plis, "key frames asked for")                                                                \
    X(rtx_packets, "packets that came on a retransmission stream")                                 \
    X(frames, "complete video frames")                                                             \
    X(keyframes, "complete key frames")                                                            \
    X(freezes, "times that the picture would have stood still")                                    \
    X(frozen_ms, "milliseconds that it stood still in sum")                                        \
    X(auth_failures, "packets whose tag was wrong")                                                \
    X(replays, "packets older than the replay window")                                             \
    X(index_reuse, "indexes used twice with different bytes: fails the run")                       \
    X(malformed, "packets that are not what their first byte says")                                \
    X(unexpected, "authentic packets of a payload type that was not agreed on")                    \
    X(impaired, "packets dropped on purpose before the client saw them")                           \
    X(socket_drops, "packets that this machine's own socket buffers dropped")                      \
    X(sent_packets, "RTP packets published, retransmissions left out")                             \
    X(sent_bytes, "their bytes, RTP header to authentication tag")                                 \
    X(nacked, "packets that the server asked us for")                                              \
    X(resent, "of them, resent")                                                                   \
    X(keyframe_requests, "PLI and FIR that the server sent")                                       \
    X(remote_lost, "packets that the server reported as lost from us")                             \
    X(late_sends, "packets that were sent over 20 ms after their time")                            \
    X(send_errors, "datagrams that the kernel did not take")                                       \
    X(rtcp_sent, "RTCP packets sent")                                                              \
    X(rtcp_received, "RTCP packets received and authenticated")                                    \
    X(checks_sent, "STUN requests sent")                                                           \
    X(checks_received, "STUN requests answered")                                                   \
    X(handshakes, "DTLS handshakes completed")                                                     \
    X(new_ssrcs, "SSRCs that a media section changed to in mid-stream")                            \
    X(path_changes, "times that media began to come from another address")

struct bees_counters {
#define X(name, help) uint64_t name;
    BEES_COUNTERS(X)
#undef X
};

// X(name, what went wrong, as the last line of a run says it). A session has at most one.
#define BEES_FAILURES(X)                                                                           \
    X(none, "nothing")                                                                             \
    X(server_absent, "no connection to the server: refused, unreachable or no such host")          \
    X(http_timeout, "the server did not answer in time")                                           \
    X(http_broken, "the connection broke before the answer was complete")                          \
    X(tls, "TLS with the server failed")                                                           \
    X(unauthorized, "the token is missing or wrong (401, 403)")                                    \
    X(not_found, "no such endpoint or stream (404, 405, 409, 410)")                                \
    X(busy, "the server takes no more (429, 503)")                                                 \
    X(http_refused, "another HTTP status than 201")                                                \
    X(redirects, "too many redirects, or one that leads nowhere")                                  \
    X(bad_answer, "the answer is no usable SDP")                                                   \
    X(no_media_agreed, "the answer rejects all that was offered")                                  \
    X(no_candidates, "the answer has no address that can be used")                                 \
    X(public_address, "the address is public and --i-own-this-server was not given")               \
    X(fd_limit, "this process may not open more files")                                            \
    X(port_exhaustion, "this machine has no more UDP ports")                                       \
    X(out_of_memory, "no memory")                                                                  \
    X(ice_timeout, "no candidate pair answered a connectivity check")                              \
    X(dtls_timeout, "the DTLS handshake was not answered")                                         \
    X(dtls_fingerprint, "the server's certificate is not the one of its answer")                   \
    X(dtls_failed, "the DTLS handshake failed")                                                    \
    X(no_media, "connected, but no media came")                                                    \
    X(media_stopped, "media stopped and did not come back")                                        \
    X(consent_lost, "the server stopped answering checks")                                         \
    X(closed_by_server, "the server closed the session")                                           \
    X(interrupted, "the run ended while the session was joining")

enum bees_failure {
#define X(name, help) BEES_FAILURE_##name,
    BEES_FAILURES(X)
#undef X
        BEES_FAILURE_COUNT
};
const char *bees_failure_name(enum bees_failure failure); // "server_absent"
const char *bees_failure_help(enum bees_failure failure);

// Steps of joining. X(name, label). Each is the time since the session began, that is since its
// POST was started.
#define BEES_STEPS(X)                                                                              \
    X(post, "POST answered")                                                                       \
    X(ice, "ICE connected")                                                                        \
    X(dtls, "DTLS done")                                                                           \
    X(packet, "first packet")                                                                      \
    X(keyframe, "first complete key frame")

enum bees_step {
#define X(name, label) BEES_STEP_##name,
    BEES_STEPS(X)
#undef X
        BEES_STEP_COUNT
};
const char *bees_step_name(enum bees_step step);

// Distributions of a run, all in microseconds. X(name, label, unit). `join` is the time to the
// first packet of a viewer and to the end of DTLS of a publisher; the steps' own follow it.
#define BEES_DISTRIBUTIONS(X)                                                                      \
    X(join, "time to join")                                                                        \
    X(post, "POST answered")                                                                       \
    X(ice, "ICE connected")                                                                        \
    X(dtls, "DTLS done")                                                                           \
    X(packet, "first packet")                                                                      \
    X(keyframe, "first complete key frame")                                                        \
    X(max_gap, "largest gap between packets, per session")                                         \
    X(jitter, "interarrival jitter, per session and track")                                        \
    X(recovery, "from noticing a loss to its recovery")                                            \
    X(rtt, "round trip of checks")                                                                 \
    X(latency, "one-way latency of frames")                                                        \
    X(away, "media away, per gap of watch-failover")

enum bees_distribution {
#define X(name, label) BEES_DIST_##name,
    BEES_DISTRIBUTIONS(X)
#undef X
        BEES_DIST_COUNT
};
const char *bees_distribution_name(enum bees_distribution distribution);
const char *bees_distribution_label(enum bees_distribution distribution);

enum bees_role { BEES_WHEP, BEES_WHIP };

// What one session lived through.
struct bees_session {
    uint32_t number; // of the run's sessions, from 0
    uint32_t stream; // what %d became
    uint8_t role;    // enum bees_role
    uint8_t failure; // enum bees_failure
    bool connected;  // DTLS done and, for a viewer, a packet came
    bool ended;      // left on purpose (churn) or at the end of the run
    uint16_t status; // last HTTP status; 0: none
    uint16_t redirects;
    uint16_t refusals;                  // answers with Retry-After that it came again after
    uint64_t begin_ns;                  // of the run
    uint64_t end_ns;                    // of the run
    uint64_t step_ns[BEES_STEP_COUNT];  // since begin_ns; 0: not reached
    uint64_t max_gap_ns, max_gap_at_ns; // length, and its end since the run began
    _Atomic uint64_t recent_gap_ns;     // longest since the last look at the run
    uint32_t gaps;                      // watch-failover: gaps over its bound
    uint64_t away_ns;                   // watch-failover: their sum
    uint32_t jitter_us;                 // the largest of its tracks at the end
    uint32_t rtt_us;                    // smoothed, of the pair in use
    uint8_t paths;                      // entries of path
    char path[BEES_PATHS_MAX][56];      // "10.0.0.1:7000", in the order of appearance
    struct bees_counters count;
};

// A run in sum.
struct bees_result {
    char url[BEES_URL_MAX];
    const char *protocol; // "whep"
    const char *mode;     // "steady"
    uint32_t wanted;      // sessions asked for
    uint32_t sessions;    // begun
    uint32_t connected;   // of them, that connected
    uint32_t failed;      // of them, with a failure
    uint32_t failures[BEES_FAILURE_COUNT];
    uint32_t refusals;                // answers that said to come again later, which we did
    uint32_t refused_and_retried;     // sessions that got such answers
    uint32_t deletes, deletes_failed; // goodbyes over HTTP
    double duration_s;                // from the first POST to the end
    double cpu_s;                     // CPU time of this process in it, user and system
    double busiest_worker;            // largest share of a core that one worker thread used, 0..1
    double starved_worker;            // largest share of time that one was ready and had no core
    uint32_t workers;
    bool headers_only;
    bool interrupted;
    struct bees_counters count;
    struct hist hist[BEES_DIST_COUNT];
    struct bees_session *session; // `sessions` of them
};

// Adds every counter of `from`, which another thread may be writing, to `sum`.
void bees_counters_add(struct bees_counters *sum, const struct bees_counters *from);

#endif
