// The order of the stages, and nothing else. A packet's way is one read downward from worker_turn.
#include "worker.h"
#include "catchup.h"
#include "control.h"
#include "failover.h"
#include "fanout.h"
#include "feedback.h"
#include "housekeep.h"
#include "ice.h"
#include "ingest.h"
#include "takeover.h"
#include "trunk.h"
#include "uplink.h"
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <time.h>

#define CONTROL_BUDGET 32 // channel messages per turn

uint64_t worker_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// Into a mailbox of which this worker is the only sender. False: dropped, the mbuf is the caller's.
static bool hand_over(struct worker *worker, struct rte_ring *mailbox, struct rte_mbuf *m)
{
    if (!worker_enter(worker)) {
        worker_drop(worker, DROP_worker_moved);
        return false;
    }
    int rc = rte_ring_sp_enqueue(mailbox, m);
    worker_leave(worker);
    if (rc)
        worker_drop(worker, DROP_handover_full);
    return rc == 0;
}

static unsigned collect(struct worker *worker, struct rte_ring *mailbox, struct rte_mbuf *mail[])
{
    if (rte_ring_empty(mailbox) || !worker_enter(worker))
        return 0;
    unsigned n = rte_ring_sc_dequeue_burst(mailbox, (void **)mail, BURST, NULL);
    worker_leave(worker);
    return n;
}

// Gives an opened packet to the other workers that serve its stream, by reference.
static void forward(struct worker *worker, const struct stream *stream, struct rte_mbuf *m)
{
    for (uint32_t mask = stream->forward & ~(1u << worker->id); mask; mask &= mask - 1) {
        uint32_t to = (uint32_t)__builtin_ctz(mask);
        if (to >= worker->dp->workers)
            break;
        rte_mbuf_refcnt_update(m, 1);
        if (!hand_over(worker, worker->dp->post[to].media_from[worker->id], m))
            rte_pktmbuf_free(m);
    }
}

// What came before its track went on in another index space: viewers have no numbers for it now.
static unsigned leave_out_stale(struct worker *worker, const struct track *track,
                                const struct media *packets[], unsigned count)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        if (ingest_same_space(track, packets[i]->index))
            packets[kept++] = packets[i];
        else
            worker_drop(worker, DROP_cache_old);
    }
    return kept;
}

// Sends what was opened in this turn, track by track, so that a viewer's keys are fetched once for
// all its packets of the turn. Order within a track is kept.
static void fan_out_waiting(struct worker *worker)
{
    struct rte_mbuf *sorted[RTE_DIM(worker->media)];
    const struct media *packets[RTE_DIM(worker->media)];
    struct fan_group groups[RTE_DIM(worker->media)];
    unsigned done = 0, count = 0;
    while (worker->media_count) {
        const struct media *first = media_of(worker->media[0]);
        unsigned start = done, rest = 0;
        for (unsigned i = 0; i < worker->media_count; i++) {
            const struct media *media = media_of(worker->media[i]);
            if (media->stream == first->stream && media->track == first->track) {
                packets[done] = media;
                sorted[done++] = worker->media[i];
            } else {
                worker->media[rest++] = worker->media[i];
            }
        }
        worker->media_count = (uint16_t)rest;
        struct stream *stream = tables_stream(&worker->tables, first->stream);
        if (!stream)
            continue;
        struct track *track = &stream->track[first->track];
        unsigned kept = leave_out_stale(worker, track, &packets[start], done - start);
        groups[count] =
            (struct fan_group){.track = track, .packets = &packets[start], .count = kept};
        count++;
    }
    if (count)
        fanout_run(worker, groups, count);
    rte_pktmbuf_free_bulk(sorted, done);
}

static void queue_media(struct worker *worker, struct rte_mbuf *m)
{
    worker->media[worker->media_count++] = m;
    if (worker->media_count == RTE_DIM(worker->media) || takeover_hurries(worker))
        fan_out_waiting(worker);
}

static void take_media(struct worker *worker, struct session *session, const uint8_t *payload,
                       const struct parsed *parsed)
{
    uint64_t heard = session->heard_ns;
    if (parsed->class == CLASS_RTCP) {
        worker_stage(worker, STAGE_feedback);
        feedback_rtcp(worker, session, payload, parsed->length);
    } else if (session->state != SESSION_KEYED) {
        worker_drop(worker, DROP_rtp_no_keys);
    } else if (session->role != ROLE_PUBLISH) {
        worker_drop(worker, DROP_rtp_from_viewer);
    } else {
        worker_stage(worker, STAGE_open);
        struct rte_mbuf *m = ingest_rtp(worker, session, payload, parsed->length);
        if (m) {
            struct stream *stream = tables_stream(&worker->tables, session->stream);
            forward(worker, stream, m);
            if (stream->peers)
                trunk_send(worker, stream, media_of(m));
            queue_media(worker, m);
        }
    }
    if (!session->media_told && session->heard_ns != heard)
        tell_media(worker, session);
}

// A packet from a partner's trunk goes the way of one that was opened here. False: from nobody.
static bool take_trunk(struct worker *worker, const uint8_t *payload, const struct parsed *parsed)
{
    struct rte_mbuf *m;
    worker_stage(worker, STAGE_open);
    if (!trunk_input(worker, payload, parsed, &m))
        return false;
    if (m) {
        forward(worker, tables_stream(&worker->tables, media_of(m)->stream), m);
        queue_media(worker, m);
    }
    return true;
}

// Failure detection is worker 0's. True: the mbuf is on its way there.
static bool handle_bfd(struct worker *worker, struct rte_mbuf *m, const struct parsed *parsed)
{
    if (worker->id == 0) {
        failover_bfd(worker, rte_pktmbuf_mtod(m, const uint8_t *), parsed);
        return false;
    }
    return hand_over(worker, worker->dp->post[0].frames_from[worker->id], m);
}

// Whose a UDP port of that address is; dp->workers: nobody's. A partner may have more workers than
// we: what was at those is here as msg_session_open.home says.
static uint32_t owner_of(const struct worker *worker, const struct abi_addr *dst)
{
    const struct abi_config *config = worker->dp->config;
    const struct abi_addr *local = dst->family == 4 ? &config->media4 : &config->media6;
    uint32_t number = (uint32_t)dst->port - local->port, workers = worker->dp->workers;
    if (failover_same_host(local, dst))
        return number < workers ? number : workers;
    return failover_taken(worker, dst) && number < ABI_MAX_WORKERS ? number % workers : workers;
}

// Ours by address, then to the worker that owns the UDP port. True if it is this one.
static bool is_for_me(struct worker *worker, const struct parsed *parsed, struct rte_mbuf *m,
                      bool *taken)
{
    uint32_t owner = owner_of(worker, &parsed->dst);
    *taken = false;
    if (owner == worker->dp->workers) {
        worker_drop(worker, DROP_not_ours);
        return false;
    }
    if (owner == worker->id)
        return true;
    *taken = hand_over(worker, worker->dp->post[owner].frames_from[worker->id], m);
    worker_count(worker, COUNT_handed_over, *taken);
    return false;
}

// ARP, ND and echo: answered in place where no kernel does it. True: the mbuf is on its way.
static bool handle_link(struct worker *worker, struct rte_mbuf *m)
{
    if (!worker->dp->config->own_l3) {
        worker_drop(worker, DROP_not_ours);
        return false;
    }
    size_t length = rte_pktmbuf_data_len(m);
    size_t room = length + rte_pktmbuf_tailroom(m);
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    bool given = atomic_load_explicit(&worker->dp->given, memory_order_relaxed);
    if ((given ||
         !neigh_input(&worker->self, worker->neigh, worker->now_ns, frame, &length, room)) &&
        !failover_neighbor(worker, frame, &length, room))
        return false;
    m->data_len = (uint16_t)length;
    m->pkt_len = m->data_len;
    worker_send(worker, m);
    return true;
}

// What handling a client's packet reads of its session.
static void prefetch_session(const struct tables *tables, const struct session *session)
{
    const struct sender *sender = tables_sender(tables, session);
    const uint8_t *head = (const uint8_t *)session;
    for (unsigned at = 0; at < offsetof(struct session, feedback[1]); at += ABI_CACHE_LINE)
        rte_prefetch0(head + at);
    rte_prefetch0(&session->track);
    rte_prefetch0(&sender->group);
    for (unsigned t = 0; t < 2; t++) // of most sessions
        rte_prefetch0(&sender->sub[t]);
}

// A frame that has arrived, parsed.
struct arrival {
    struct rte_mbuf *m;
    struct parsed parsed;
    enum drop why; // PARSE_OK, or the reason to drop
};

// Takes the mbuf.
static void handle_frame(struct worker *worker, const struct arrival *arrival)
{
    struct rte_mbuf *m = arrival->m;
    const struct parsed *parsed = &arrival->parsed;
    bool taken = false;
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    worker_stage(worker, STAGE_parse);
    if (arrival->why != PARSE_OK) {
        worker_drop(worker, arrival->why);
    } else if (parsed->class == CLASS_ARP || parsed->class == CLASS_ICMP ||
               parsed->class == CLASS_ICMPV6) {
        taken = handle_link(worker, m);
    } else if (parsed->class == CLASS_BFD) {
        taken = handle_bfd(worker, m, parsed);
    } else if (is_for_me(worker, parsed, m, &taken)) {
        const uint8_t *payload = frame + parsed->payload;
        struct session *session;
        switch (parsed->class) {
        case CLASS_STUN:
            worker_stage(worker, STAGE_stun);
            ice_input(worker, frame, parsed);
            break;
        case CLASS_DTLS:
            pass_dtls(worker, payload, parsed);
            break;
        case CLASS_RTP:
        case CLASS_RTCP:
            session = tables_by_remote(&worker->tables, &parsed->src);
            if (session)
                take_media(worker, session, payload, parsed);
            else if (!take_trunk(worker, payload, parsed))
                worker_drop(worker, DROP_rtp_no_path);
            break;
        default:
            worker_drop(worker, DROP_class_unknown);
        }
    }
    if (!taken)
        rte_pktmbuf_free(m);
}

// Takes the mbufs. In three rounds, because every client is somebody else's cache miss: parse and
// fetch the entries of the address table, find the sessions and fetch them, then handle in order.
static void handle_frames(struct worker *worker, struct rte_mbuf *const frames[], unsigned count)
{
    struct arrival arrivals[BURST];
    const struct tables *tables = &worker->tables;
    worker_stage(worker, STAGE_parse);
    for (unsigned i = 0; i < count; i++) {
        struct arrival *a = &arrivals[i];
        a->m = frames[i];
        a->why = a->m->nb_segs == 1
                     ? parse_frame(rte_pktmbuf_mtod(a->m, const uint8_t *),
                                   rte_pktmbuf_data_len(a->m), worker->dp->config->vlan, &a->parsed)
                     : DROP_ip_truncated;
        if (a->why == PARSE_OK)
            map_prefetch(&tables->by_remote, &a->parsed.src);
    }
    for (unsigned i = 0; i < count; i++) {
        const struct arrival *a = &arrivals[i];
        if (a->why != PARSE_OK || (a->parsed.class != CLASS_RTP && a->parsed.class != CLASS_RTCP))
            continue;
        const struct session *session = tables_by_remote(tables, &a->parsed.src);
        if (session)
            prefetch_session(tables, session);
    }
    for (unsigned i = 0; i < count; i++)
        handle_frame(worker, &arrivals[i]);
}

static void note_depth(uint32_t *most, const struct rte_ring *ring)
{
    uint32_t depth = rte_ring_count(ring);
    if (depth > *most)
        *most = depth;
}

static unsigned take_mail(struct worker *worker)
{
    unsigned total = 0;
    struct rte_mbuf *mail[BURST];
    for (uint32_t from = 0; from < worker->dp->workers; from++) {
        if (from == worker->id)
            continue;
        note_depth(&worker->frames_waiting, worker->post->frames_from[from]);
        note_depth(&worker->media_waiting, worker->post->media_from[from]);
        unsigned n = collect(worker, worker->post->frames_from[from], mail);
        handle_frames(worker, mail, n);
        total += n;
        n = collect(worker, worker->post->media_from[from], mail);
        worker_stage(worker, STAGE_open);
        for (unsigned i = 0; i < n; i++) {
            if (!ingest_shared(worker, mail[i]))
                continue;
            queue_media(worker, mail[i]);
        }
        total += n;
    }
    return total;
}

static unsigned receive(struct worker *worker)
{
    struct rte_mbuf *burst[BURST];
    worker->stage = STAGE_port_rx;
    if (worker->staged)
        worker->stage_tsc = rte_rdtsc();
    uint16_t n = 0;
    if (worker_enter(worker)) {
        n = rte_eth_rx_burst(worker->dp->port.id, (uint16_t)worker->id, burst, BURST);
        worker_leave(worker);
    }
    // Polling in vain is no packet's cost.
    if (n == 0 && worker->staged)
        worker->stage_tsc = rte_rdtsc();
    for (uint16_t i = 0; i < n; i++)
        rte_prefetch0(rte_pktmbuf_mtod(burst[i], void *));
    for (uint16_t i = 0; i < n; i++)
        worker_count(worker, COUNT_rx_bytes, rte_pktmbuf_pkt_len(burst[i]));
    handle_frames(worker, burst, n);
    worker_count(worker, COUNT_rx_packets, n);
    return n;
}

bool worker_turn(struct worker *worker)
{
    if (worker->revoked)
        return false;
    failover_turn(worker);
    unsigned work = takeover_turn(worker);
    unsigned received = receive(worker);
    work += received + take_mail(worker);
    failover_judge(worker, received < BURST);
    feedback_answer(worker);
    fan_out_waiting(worker);
    work += catchup_turn(worker);
    worker_stage(worker, STAGE_control);
    work += control_poll(worker, CONTROL_BUDGET);
    worker_stage(worker, STAGE_housekeeping);
    housekeep(worker);
    worker_stage(worker, STAGE_port_tx);
    if (worker->tx_count)
        worker_flush(worker);
    worker_stage(worker, STAGE_port_tx);
    return work != 0;
}

bool worker_timed_turn(struct worker *worker)
{
    worker->now_ns = worker_clock();
    bool busy = worker_turn(worker);
    uint64_t tsc = rte_rdtsc();
    worker_count(worker, COUNT_loops, 1);
    worker_count(worker, busy ? COUNT_cycles_busy : COUNT_cycles_idle, tsc - worker->now_tsc);
    worker->now_tsc = tsc;
    if (!busy)
        worker_count(worker, COUNT_loops_idle, 1);
    return busy;
}
