// What a client's packets have a worker tell the control plane; see uplink.h.
#include "uplink.h"
#include "budget.h"

#define DTLS_BURST 64                   // datagrams of one session that are passed up at once,
#define DTLS_EACH_NS UINT64_C(50000000) // and then one in so many nanoseconds

void pass_dtls(struct worker *worker, const uint8_t *payload, const struct parsed *parsed)
{
    struct session *session = tables_by_remote(&worker->tables, &parsed->src);
    if (!session || parsed->length > MSG_DATAGRAM_MAX) {
        worker_drop(worker, session ? DROP_dtls_oversize : DROP_dtls_no_path);
        return;
    }
    // A handshake takes some tens of datagrams, repetitions and all. What is beyond that would fill
    // the channel for everybody.
    if (!budget_left(session->dtls_used_ns, worker->now_ns, DTLS_EACH_NS, DTLS_BURST)) {
        worker_drop(worker, DROP_dtls_budget);
        return;
    }
    budget_spend(&session->dtls_used_ns, worker->now_ns, DTLS_EACH_NS);
    struct msg_dtls message;
    message.head = (struct msg_head){.type = MSG_DTLS_RECEIVED, .id = session->id};
    message.head.length = (uint16_t)(offsetof(struct msg_dtls, data) + parsed->length);
    message.remote = parsed->src;
    message.size = parsed->length;
    message.pad = 0;
    memcpy(message.data, payload, parsed->length);
    if (worker_tell(worker, &message))
        worker_drop(worker, DROP_dtls_channel_full);
    else
        worker_count(worker, COUNT_dtls_up, 1);
}

void tell_media(struct worker *worker, struct session *session)
{
    struct msg_session_media message = {
        .head = {.type = MSG_SESSION_MEDIA, .length = sizeof(message), .id = session->id}};
    session->media_told = worker_tell(worker, &message) == 0;
}
