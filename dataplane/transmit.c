// What a worker sends: frames finished and queued for the port, messages for the control plane.
// Runs on the worker; declared in worker.h.
#include "worker.h"
#include <rte_ethdev.h>

#define SEND_RETRIES 200 // tries to give a full port the rest of a batch

void worker_flush(struct worker *worker)
{
    uint16_t sent = 0;
    enum drop why = DROP_worker_moved;
    enum stage before = worker_stage(worker, STAGE_port_tx);
    if (worker_enter(worker)) {
        why = DROP_tx_full;
        for (int i = 0; i < SEND_RETRIES && sent < worker->tx_count; i++)
            sent += rte_eth_tx_burst(worker->dp->port.id, (uint16_t)worker->id, worker->tx + sent,
                                     worker->tx_count - sent);
        worker_leave(worker);
    }
    if (sent < worker->tx_count) {
        stats_add(&worker->stats->drop[why], worker->tx_count - sent);
        rte_pktmbuf_free_bulk(worker->tx + sent, worker->tx_count - sent);
    }
    worker->tx_count = 0;
    worker_stage(worker, before);
}

void worker_send(struct worker *worker, struct rte_mbuf *m)
{
    worker_count(worker, COUNT_tx_packets, 1);
    worker_count(worker, COUNT_tx_bytes, rte_pktmbuf_pkt_len(m));
    worker->tx[worker->tx_count++] = m;
    if (worker->tx_count == TX_BATCH)
        worker_flush(worker);
}

void worker_end_frame(struct worker *worker, const struct frame_template *frame, struct rte_mbuf *m,
                      size_t length)
{
    const struct port *port = &worker->dp->port;
    unsigned offload = FRAME_OFFLOAD_NONE;
    uint64_t flags = 0;
    if (port->tx_udp_cksum) {
        offload |= FRAME_OFFLOAD_UDP;
        flags |= RTE_MBUF_F_TX_UDP_CKSUM;
    }
    if (port->tx_ipv4_cksum && frame->family == 4) {
        offload |= FRAME_OFFLOAD_IPV4;
        flags |= RTE_MBUF_F_TX_IP_CKSUM;
    }
    if (flags) {
        m->ol_flags |= flags | (frame->family == 4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6);
        m->l2_len = frame->l2_len;
        m->l3_len = frame->l3_len;
    }
    frame_end(frame, rte_pktmbuf_mtod(m, uint8_t *), length, offload);
    m->data_len = (uint16_t)(frame->length + length);
    m->pkt_len = m->data_len;
}

void worker_finish_frame(struct worker *worker, const struct frame_template *frame,
                         struct rte_mbuf *m, size_t length)
{
    memcpy(rte_pktmbuf_mtod(m, uint8_t *), frame->bytes, frame->length);
    worker_end_frame(worker, frame, m, length);
}

int worker_send_payload(struct worker *worker, const struct session *session, const void *payload,
                        size_t length)
{
    const struct frame_template *frame = &tables_sender(&worker->tables, session)->frame;
    if (frame->length == 0)
        return -ENOTCONN;
    struct rte_mbuf *m = rte_pktmbuf_alloc(worker->pools.tx);
    if (!m || frame->length + length > rte_pktmbuf_tailroom(m)) {
        worker_drop(worker, m ? DROP_too_big : DROP_no_mbuf);
        rte_pktmbuf_free(m);
        return -ENOBUFS;
    }
    memcpy(rte_pktmbuf_mtod(m, uint8_t *) + frame->length, payload, length);
    worker_finish_frame(worker, frame, m, length);
    worker_send(worker, m);
    return 0;
}

int worker_tell(struct worker *worker, const void *message)
{
    if (!worker_enter(worker))
        return -EPERM;
    int rc = channel_send(worker->dp->channel, worker->lane, message);
    worker_leave(worker);
    return rc;
}
