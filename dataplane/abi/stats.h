// Counters in the channel file: each is written by one thread and read by anyone, with relaxed
// atomics. The control plane turns them into JSON and Prometheus text; the lists below are the
// only place where a counter gets its name and its help.
#ifndef HITLESS_STATS_H
#define HITLESS_STATS_H

#include "abi.h"
#include <stdbool.h>
#include <stddef.h>

// X(name, help) Packets thrown away, by reason.
#define DROP_LIST(X)                                                                               \
    X(l2_unknown, "frame that is not IPv4, IPv6, ARP or ours")                                     \
    X(ip_truncated, "IP or UDP header that ends early or lies about its length")                   \
    X(ip_fragment, "IP fragment")                                                                  \
    X(ip_checksum, "wrong IPv4 header checksum")                                                   \
    X(not_ours, "address or UDP port that is not ours")                                            \
    X(class_unknown, "first byte outside RFC 7983's ranges")                                       \
    X(stun_malformed, "STUN message that breaks RFC 8489's format")                                \
    X(stun_unknown_user, "STUN check for a username fragment that we do not know")                 \
    X(stun_bad_integrity, "STUN check with a wrong MESSAGE-INTEGRITY or FINGERPRINT")              \
    X(stun_ignored, "STUN message that neither asks for a binding nor answers us")                 \
    X(dtls_no_path, "DTLS from an address that passed no check")                                   \
    X(dtls_oversize, "DTLS datagram larger than the channel takes")                                \
    X(dtls_budget, "DTLS over the session's budget")                                               \
    X(dtls_channel_full, "DTLS that found the channel full")                                       \
    X(rtp_no_path, "RTP or RTCP from an address that passed no check")                             \
    X(rtp_malformed, "RTP or RTCP packet that breaks RFC 3550's format")                           \
    X(rtp_no_keys, "RTP or RTCP before DTLS was done")                                             \
    X(rtp_unknown_ssrc, "RTP of an SSRC or payload type that was not negotiated")                  \
    X(rtp_from_viewer, "RTP sent by a viewer")                                                     \
    X(rtp_advance, "media packet of a publisher whose numbers go on too fast")                     \
    X(srtp_auth, "SRTP packet with a wrong authentication tag")                                    \
    X(srtp_replay, "SRTP packet seen before, or older than the replay window")                     \
    X(srtcp_auth, "SRTCP packet with a wrong authentication tag")                                  \
    X(srtcp_replay, "SRTCP packet seen before, or older than the replay window")                   \
    X(cache_duplicate, "media packet that the stream's ring already holds")                        \
    X(cache_old, "media packet older than the stream's ring")                                      \
    X(nack_missing, "packet asked for that the ring no longer holds")                              \
    X(nack_repeated, "packet asked for again within one round trip")                               \
    X(nack_budget, "packet asked for over the subscriber's or worker's budget")                    \
    X(nack_policy, "packet asked for that the adaptive policy does not resend")                    \
    X(feedback_flood, "more RTCP from node to node than any client has reason to send")            \
    X(nack_flood, "packet asked for faster than any viewer has reason to; not looked up")          \
    X(no_mbuf, "packet that found no free buffer")                                                 \
    X(tx_full, "packet that the port did not take")                                                \
    X(handover_full, "packet for another worker whose mailbox was full")                           \
    X(worker_moved, "packet of a worker that had stalled, and whose sessions had moved on")        \
    X(too_big, "packet larger than the MTU after our headers")                                     \
    X(no_neighbor, "packet whose next hop's link address is unknown")                              \
    X(message_invalid, "channel message that failed validation")                                   \
    X(bfd_unknown, "BFD packet from nobody we know")                                               \
    X(bfd_malformed, "BFD packet that breaks RFC 5880, or of another session")                     \
    X(bfd_ttl, "BFD packet that came from farther than it may (RFC 5881 5)")                       \
    X(bfd_auth, "BFD packet whose authentication is wrong, missing or replayed")                   \
    X(trunk_auth, "trunk packet with a wrong authentication tag")                                  \
    X(trunk_replay, "trunk packet seen before")                                                    \
    X(trunk_malformed, "trunk record that makes no sense, or of a stream that we do not serve")    \
    X(trunk_budget, "trunk packet over the partner's budget, or media over the track's")

enum drop {
#define X(name, help) DROP_##name,
    DROP_LIST(X)
#undef X
        DROPS
};

// X(name, help) What a worker did.
#define COUNT_LIST(X)                                                                              \
    X(rx_packets, "packets received")                                                              \
    X(rx_bytes, "bytes received, link header included")                                            \
    X(tx_packets, "packets sent")                                                                  \
    X(tx_bytes, "bytes sent, link header included")                                                \
    X(stun_checks, "authenticated STUN checks answered")                                           \
    X(dtls_up, "DTLS datagrams passed up")                                                         \
    X(dtls_down, "DTLS datagrams sent for the control plane")                                      \
    X(rtp_in, "media packets accepted from publishers")                                            \
    X(rtp_out, "media packets sealed for viewers")                                                 \
    X(rtp_out_bytes, "bytes of those, IP header included")                                         \
    X(rtcp_in, "RTCP packets accepted")                                                            \
    X(rtcp_out, "RTCP packets sent")                                                               \
    X(nack_asked, "packets that viewers asked for again")                                          \
    X(nack_answered, "packets sent again to viewers")                                              \
    X(nack_up, "packets that we asked publishers for again")                                       \
    X(nack_up_recovered, "packets that publishers sent again")                                     \
    X(pli_in, "key-frame requests from viewers")                                                   \
    X(pli_out, "key-frame requests to publishers")                                                 \
    X(handed_over, "packets passed to the worker that owns them")                                  \
    X(loops, "turns of the worker's loop")                                                         \
    X(loops_idle, "turns that found nothing to do")                                                \
    X(cycles_busy, "cycles of turns that did something")                                           \
    X(cycles_idle, "cycles of turns that found nothing")                                           \
    X(messages, "channel messages handled")

enum count {
#define X(name, help) COUNT_##name,
    COUNT_LIST(X)
#undef X
        COUNTS
};

// X(name, count, help) The stages of a worker's turn, and what to divide their cycles by.
#define STAGE_LIST(X)                                                                              \
    X(port_rx, rx_packets, "taking frames from the port")                                          \
    X(parse, rx_packets, "headers, and whose packet it is")                                        \
    X(stun, stun_checks, "connectivity checks and their answers")                                  \
    X(open, rtp_in, "opening publishers' packets, rings, handing them to other workers")           \
    X(feedback, rtcp_in, "RTCP from clients")                                                      \
    X(resend, nack_answered, "packets sent again")                                                 \
    X(headers, rtp_out, "headers of viewers' packets")                                             \
    X(seal, rtp_out, "SRTP of viewers' packets")                                                   \
    X(finish, rtp_out, "lengths and checksums of viewers' packets")                                \
    X(port_tx, tx_packets, "giving frames to the port")                                            \
    X(control, messages, "messages of the control plane")                                          \
    X(housekeeping, loops, "timers, reports and counters")

enum stage {
#define X(name, count, help) STAGE_##name,
    STAGE_LIST(X)
#undef X
        STAGES
};

// Worker w's block. dataplane worker: wo; everyone else: ro.
struct stats_worker {
    _Alignas(ABI_CACHE_LINE) uint64_t count[COUNTS];
    uint64_t drop[DROPS];
    uint64_t stage_cycles[STAGES]; // while somebody asks for them, see channel_ask_stages
    uint64_t progress_ns;          // CLOCK_MONOTONIC of the last turn, stored at least every 10 ms
    uint64_t tsc_hz;               // of the cycle counters
    uint32_t sessions, streams;
    uint32_t rx_free, rx_size, tx_free, tx_size; // mbufs
    uint32_t cache_free, cache_size;             // blocks of the packet rings' memory
    uint32_t frames_waiting, media_waiting;      // most that one mailbox held in the last 200 ms
    uint32_t mailbox_size;
    uint32_t ring_packets, ring_size; // of all streams' packet rings on this worker
};

// How the one that writes a figure writes it. `counter` is not half seen, and no read-modify-write
// is needed, because nobody else writes it.
static inline void stats_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}
#define STATS_SET(figure, value) __atomic_store_n(&(figure), (value), __ATOMIC_RELAXED)

// Whether a pool has so little left that nobody new is to be let in: with less than a fifth free,
// the next burst could drop packets of those already here.
static inline bool stats_pool_tight(uint32_t free, uint32_t size)
{
    return size > 0 && (uint64_t)free * 5 < size;
}

// The port's block. dataplane main core: wo; everyone else: ro.
struct stats_port {
    _Alignas(ABI_CACHE_LINE) uint64_t rx_packets, rx_bytes, rx_missed, rx_errors, rx_nombuf;
    uint64_t tx_packets, tx_bytes, tx_errors;
    uint32_t link_up, speed_mbps;
    uint8_t mac[6];
    uint8_t pad[2];
    char device[128];
    char driver[32];
};

// One session's figures, copied by its worker about once a second. Indexed by worker and slot.
struct stats_session {
    _Alignas(ABI_CACHE_LINE) uint64_t id;                  // 0: slot is free
    uint64_t packets_in, bytes_in, packets_out, bytes_out; // media, on the wire without IP
    uint64_t lost;          // publisher: packets that never came; viewer: its own report (RFC 3550)
    uint64_t nacks;         // packets asked for by this client
    uint64_t resent;        // packets sent again to this client
    uint64_t plis;          // key frames asked for by this client
    uint64_t last_heard_ns; // CLOCK_MONOTONIC
    uint32_t rtt_us;        // 0: unknown
    uint32_t jitter_us;     // as reported or computed for the video track, else audio
    uint32_t loss_permille; // in the last report
    uint32_t bitrate;       // bit/s over the last second, the larger direction
    struct abi_addr remote;
    uint8_t pad[12];
};
_Static_assert(sizeof(struct stats_session) % ABI_CACHE_LINE == 0, "no shared lines");

// One stream's figures. Written by its source worker. Indexed by slot.
struct stats_stream {
    _Alignas(ABI_CACHE_LINE) uint64_t id; // 0: slot is free
    uint64_t packets, bytes, lost, keyframes, last_keyframe_ns;
    uint32_t bitrate, viewers; // viewers: of the source worker's core only
    uint32_t ring_packets, ring_size;
    uint8_t pad[8];
};
_Static_assert(sizeof(struct stats_stream) % ABI_CACHE_LINE == 0, "no shared lines");

// Copies figures into their place (both of `size`, which is a multiple of 8); NULL clears it. They
// begin with an id, which is 0 while they are changed for those of another: whoever reads it with
// stats_holder() and finds it, finds no older one's figures behind it.
static inline void stats_publish(void *place, const void *figures, size_t size)
{
    uint64_t *to = (uint64_t *)place;
    const uint64_t *from = (const uint64_t *)figures;
    uint64_t id = from ? from[0] : 0;
    if (to[0] != id) {
        __atomic_store_n(&to[0], 0, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
    }
    for (size_t i = 1; i < size / sizeof(*to); i++)
        __atomic_store_n(&to[i], from ? from[i] : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&to[0], id, __ATOMIC_RELEASE);
}
static inline uint64_t stats_holder(const uint64_t *id)
{
    return __atomic_load_n(id, __ATOMIC_ACQUIRE);
}

#endif
