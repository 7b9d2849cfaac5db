// What a viewer tells the server: reports, requests for packets and key frames, arrival times; see
// viewer.h.
#include "viewer_private.h"

#define REPORT_NS 1000000000ull

void viewer_rtcp(struct session *s, const struct rtcp_packet *packet, uint64_t now_ns)
{
    struct rtcp_sender sender;
    if (!rtcp_read_sr(packet, &sender))
        return;
    struct source *source = viewer_find(s->viewer, sender.ssrc);
    if (source == NULL)
        return;
    source->receive.sr_middle = rtcp_ntp_middle(sender.ntp);
    source->receive.sr_ns = now_ns;
}

// A compound begins with a report, unless reduced size was agreed (RFC 5506).
static size_t begin_feedback(const struct session *s, uint8_t *buf)
{
    return s->reduced_rtcp ? 0 : rtcp_write_rr(buf, SESSION_RTCP_MAX, 0, s->ssrc, NULL, 0);
}

static void send_feedback(struct session *s, uint64_t now_ns)
{
    uint8_t buf[SESSION_RTCP_MAX + PROTECT_RTCP_ROOM];
    struct viewer *v = s->viewer;
    size_t begin = begin_feedback(s, buf), length = begin;
    uint64_t rtt = s->agent.connected ? s->agent.pair[s->agent.selected].rtt_ns : 0;
    v->feedback_ns = UINT64_MAX;
    for (uint8_t i = 0; i < v->sources; i++) {
        struct receive *receive = &v->source[i]->receive;
        if (v->source[i]->rtx || (receive->nack.count == 0 && !receive->want_key))
            continue;
        length = receive_feedback(receive, buf, SESSION_RTCP_MAX, length, s->ssrc, rtt, now_ns);
        uint64_t next = receive_next(receive, now_ns);
        v->feedback_ns = next < v->feedback_ns ? next : v->feedback_ns;
    }
    if (length > begin)
        session_send_rtcp(s, buf, length);
    if (v->feedback_ns <= now_ns) // more than fitted
        v->feedback_ns = now_ns + 1000000;
}

static void send_twcc(struct session *s, uint64_t now_ns)
{
    struct viewer *v = s->viewer;
    v->twcc_ns = now_ns + VIEWER_TWCC_NS;
    for (int i = 0; v->twcc && twcc_pending(v->twcc) && i < 8; i++) {
        uint8_t buf[SESSION_RTCP_MAX + PROTECT_RTCP_ROOM];
        uint32_t media = v->sources ? v->source[0]->srtp.ssrc : 0;
        size_t length =
            twcc_write(v->twcc, buf, SESSION_RTCP_MAX, begin_feedback(s, buf), s->ssrc, media);
        if (length == 0)
            return;
        session_send_rtcp(s, buf, length);
    }
}

static void send_report(struct session *s, uint64_t now_ns)
{
    uint8_t buf[SESSION_RTCP_MAX + PROTECT_RTCP_ROOM];
    struct rtcp_block block[VIEWER_SOURCES];
    struct viewer *v = s->viewer;
    unsigned blocks = 0;
    for (uint8_t i = 0; i < v->sources; i++)
        if (!v->source[i]->rtx)
            receive_report(&v->source[i]->receive, &block[blocks++], now_ns);
    size_t length = rtcp_write_rr(buf, SESSION_RTCP_MAX, 0, s->ssrc, block, blocks);
    session_send_rtcp(s, buf, rtcp_write_sdes(buf, SESSION_RTCP_MAX, length, s->ssrc, "bees"));
    s->report_ns = now_ns + REPORT_NS;
}

uint64_t viewer_tick(struct session *s, uint64_t now_ns)
{
    struct viewer *v = s->viewer;
    if (now_ns >= v->feedback_ns)
        send_feedback(s, now_ns);
    if (v->twcc && now_ns >= v->twcc_ns)
        send_twcc(s, now_ns);
    if (now_ns >= s->report_ns)
        send_report(s, now_ns);
    uint64_t next = s->report_ns < v->feedback_ns ? s->report_ns : v->feedback_ns;
    return v->twcc && v->twcc_ns < next ? v->twcc_ns : next;
}
