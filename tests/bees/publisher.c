// What a publisher does; see publisher.h.
//
// A packet is kept as it was written, header and payload, for retransmission: on RTX if that was
// agreed, else as the very same packet, sealed again from the same bytes under the same index.
#include "publisher.h"
#include "../../dataplane/bytes.h"
#include "../../dataplane/rtcp.h"
#include "../../dataplane/rtp.h"
#include "media.h"
#include "net.h"
#include "worker.h"
#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define OUTPUTS 4     // SSRCs with media: sound and three layers
#define HISTORY 512u  // packets kept of each, a power of two
#define HEADER_MAX 64 // RTP header with our extensions
#define PACKET_MAX (HEADER_MAX + MEDIA_PAYLOAD_MAX + RTP_RTX_OSN + PROTECT_TAG_ROOM)
#define REPORT_NS 1000000000ull
#define LATE_NS 20000000ull
#define RESEND_MAX 256 // packets resent for one NACK packet

struct kept {
    uint64_t index;          // extended sequence number; 0: none
    uint16_t header, length; // bytes
    uint8_t data[HEADER_MAX + MEDIA_PAYLOAD_MAX];
};

struct output {
    bool used;
    uint8_t kind, pt, rtx_pt; // rtx_pt MSG_NO_PT: none
    const struct answer_track *track;
    int layer;                       // of offer_rids; -1: no simulcast
    uint32_t ssrc, rtx_ssrc, offset; // offset: of the timestamps
    uint64_t next, rtx_next;         // extended sequence numbers
    uint32_t packets, bytes;         // for SR: payload bytes
    int32_t remote_lost;
    struct kept *kept; // HISTORY
};

struct publisher {
    struct media_reader reader;
    struct output output[OUTPUTS]; // sound, then layers, best first
    uint64_t twcc;                 // next transport-wide number
    uint64_t now_ns;
    unsigned waiting; // jobs gathered
    struct seal_job job[PROTECT_BURST];
    struct mmsghdr message[PROTECT_BURST];
    struct iovec iov[PROTECT_BURST];
    uint8_t data[PROTECT_BURST][PACKET_MAX];
};

// Picks the payload type that the answer allows for what we have. False: not this codec.
static bool choose_format(struct output *o, const struct answer_track *track, enum codec codec)
{
    for (int f = 0; f < track->formats; f++) {
        if (track->format[f].codec != codec)
            continue;
        o->pt = track->format[f].pt;
        o->rtx_pt = track->format[f].rtx_pt;
        return true;
    }
    return false;
}

static int open_output(struct output *o, const struct session *s, int t, int layer, int rid,
                       enum codec codec)
{
    uint32_t random[2];
    const struct offer_track *offered = &s->offer.track[t];
    if (!choose_format(o, &s->answer.track[t], codec))
        return 0;
    o->kept = calloc(HISTORY, sizeof(*o->kept));
    if (o->kept == NULL || RAND_bytes((uint8_t *)random, sizeof(random)) != 1)
        return -ENOMEM;
    o->used = true;
    o->kind = offered->kind;
    o->track = &s->answer.track[t];
    o->layer = rid;
    o->ssrc = offered->ssrc[layer];
    o->rtx_ssrc = offered->rtx_ssrc[layer];
    o->offset = random[0];
    o->next = 1 + (random[1] & 0x7fff); // RFC 3711 3.3.1: below 2^15, so that all agree on the ROC
    o->rtx_next = 1 + (random[1] >> 16 & 0x7fff);
    return 0;
}

static int open_outputs(struct publisher *p, const struct session *s)
{
    const struct media_info *info = media_info(s->worker->config->media);
    int rc = 0;
    for (int t = 0; t < s->answer.tracks && rc == 0; t++) {
        const struct answer_track *track = &s->answer.track[t];
        if (track->formats == 0)
            continue;
        if (track->kind == KIND_AUDIO) {
            rc = open_output(&p->output[0], s, t, 0, -1, CODEC_OPUS);
            continue;
        }
        if (s->offer.track[t].layers < 2 || track->layers == 0)
            rc = open_output(&p->output[1], s, t, 0, s->offer.track[t].layers < 2 ? -1 : 0,
                             info->video);
        else
            for (int l = 0; l < track->layers && rc == 0; l++)
                rc = open_output(&p->output[1 + track->layer[l]], s, t, track->layer[l],
                                 track->layer[l], info->video);
    }
    return rc;
}

int publisher_open(struct session *s, uint64_t now_ns)
{
    struct publisher *p = aligned_alloc(64, (sizeof(*p) + 63) & ~63ul);
    if (p == NULL)
        return -ENOMEM;
    memset(p, 0, sizeof(*p));
    s->publisher = p;
    for (unsigned i = 0; i < PROTECT_BURST; i++)
        p->message[i].msg_hdr.msg_iovlen = 1;
    media_start(&p->reader, s->worker->config->media, now_ns);
    return open_outputs(p, s);
}

// Writes an RTP header with the extensions that were agreed on; returns its length.
static size_t write_header(struct publisher *p, const struct output *o, uint8_t *out,
                           uint64_t index, uint32_t timestamp, bool marker, bool rtx)
{
    const struct answer_track *track = o->track;
    uint8_t number[2];
    struct rtp_ext ext[4];
    size_t count = 0;
    if (track->ext_mid && track->mid[0])
        ext[count++] = (struct rtp_ext){track->ext_mid, (uint8_t)strlen(track->mid),
                                        (const uint8_t *)track->mid};
    uint8_t rid = rtx ? track->ext_repaired_rid : track->ext_rid;
    if (o->layer >= 0 && rid)
        ext[count++] = (struct rtp_ext){rid, (uint8_t)strlen(offer_rids[o->layer]),
                                        (const uint8_t *)offer_rids[o->layer]};
    if (track->twcc) {
        store_be16(number, (uint16_t)p->twcc++);
        ext[count++] = (struct rtp_ext){track->twcc, sizeof(number), number};
    }
    size_t length = rtp_ext_write(out + RTP_HEADER, HEADER_MAX - RTP_HEADER, ext, count);
    struct rtp_header header = {.pt = rtx ? o->rtx_pt : o->pt,
                                .marker = marker,
                                .extension = length > 0,
                                .seq = (uint16_t)index,
                                .timestamp = timestamp,
                                .ssrc = rtx ? o->rtx_ssrc : o->ssrc};
    rtp_header_write(out, &header);
    return RTP_HEADER + length;
}

// Seals what has been gathered and gives it to the kernel in one call.
static void flush(struct session *s)
{
    struct publisher *p = s->publisher;
    struct sockaddr_storage addr;
    const struct abi_addr *to = agent_path(&s->agent);
    socklen_t length = to ? net_to_sockaddr(&addr, to, s->family) : 0;
    unsigned tag = protect_tag_len(s->tx.key.profile), sent = 0;
    protect_seal(s->worker->protect, p->job, p->waiting);
    for (unsigned i = 0; i < p->waiting; i++) {
        p->iov[i] = (struct iovec){p->data[i], p->job[i].header_len + p->job[i].payload_len + tag};
        p->message[i].msg_hdr.msg_name = &addr;
        p->message[i].msg_hdr.msg_namelen = length;
        p->message[i].msg_hdr.msg_iov = &p->iov[i];
    }
    while (sent < p->waiting && length) {
        int n = sendmmsg(s->fd, p->message + sent, p->waiting - sent, 0);
        s->result->count.send_errors += n < 0;
        sent += n > 0 ? (unsigned)n : 1; // what the kernel refuses is lost, as on a network
    }
    p->waiting = 0;
}

// Adds a job whose header and payload stand in the next buffer.
static void gather(struct session *s, size_t header, size_t payload, uint32_t ssrc, uint64_t index)
{
    struct publisher *p = s->publisher;
    uint8_t *data = p->data[p->waiting];
    p->job[p->waiting++] = (struct seal_job){.tx = &s->tx,
                                             .src = data + header,
                                             .dst = data,
                                             .header_len = (uint16_t)header,
                                             .payload_len = (uint16_t)payload,
                                             .ssrc = ssrc,
                                             .index = index};
    if (p->waiting == PROTECT_BURST)
        flush(s);
}

static void emit(void *opaque, const struct media_packet *packet)
{
    struct session *s = opaque;
    struct publisher *p = s->publisher;
    struct output *o = &p->output[packet->kind == KIND_AUDIO ? 0 : 1 + packet->layer];
    if (!o->used)
        return;
    uint64_t index = o->next++;
    uint8_t *data = p->data[p->waiting];
    size_t header =
        write_header(p, o, data, index, o->offset + packet->timestamp, packet->marker, false);
    memcpy(data + header, packet->payload, packet->length);

    struct kept *kept = &o->kept[index % HISTORY];
    kept->index = index;
    kept->header = (uint16_t)header;
    kept->length = (uint16_t)(header + packet->length);
    memcpy(kept->data, data, kept->length);

    o->packets++;
    o->bytes += (uint32_t)packet->length;
    s->result->count.sent_packets++;
    s->result->count.sent_bytes += header + packet->length + protect_tag_len(s->tx.key.profile);
    s->result->count.late_sends += p->now_ns > packet->due_ns + LATE_NS;
    gather(s, header, packet->length, o->ssrc, index);
}

static void resend(struct session *s, struct output *o, uint16_t seq)
{
    struct publisher *p = s->publisher;
    const struct kept *kept = &o->kept[seq % HISTORY];
    s->result->count.nacked++;
    if (kept->index == 0 || (uint16_t)kept->index != seq)
        return;
    uint8_t *data = p->data[p->waiting];
    size_t payload = (size_t)(kept->length - kept->header);
    s->result->count.resent++;
    if (o->rtx_pt == MSG_NO_PT) {
        memcpy(data, kept->data, kept->length);
        gather(s, kept->header, payload, o->ssrc, kept->index);
        return;
    }
    uint64_t index = o->rtx_next++;
    size_t header = write_header(p, o, data, index, load_be32(kept->data + 4),
                                 (kept->data[1] & 0x80) != 0, true);
    rtp_rtx_write_osn(data + header, seq);
    memcpy(data + header + RTP_RTX_OSN, kept->data + kept->header, payload);
    gather(s, header, payload + RTP_RTX_OSN, o->rtx_ssrc, index);
}

static struct output *find(struct publisher *p, uint32_t ssrc)
{
    for (int i = 0; i < OUTPUTS; i++)
        if (p->output[i].used && p->output[i].ssrc == ssrc)
            return &p->output[i];
    return NULL;
}

static void on_nack(struct session *s, const struct rtcp_packet *packet)
{
    struct rtcp_feedback feedback;
    struct rtcp_nack_iter iter;
    uint16_t seq;
    if (!rtcp_read_feedback(packet, &feedback) || !rtcp_nack_begin(&iter, packet))
        return;
    struct output *o = find(s->publisher, feedback.media_ssrc);
    for (unsigned i = 0; o != NULL && i < RESEND_MAX && rtcp_nack_next(&iter, &seq); i++)
        resend(s, o, seq);
}

static void on_keyframe_request(struct session *s)
{
    s->result->count.keyframe_requests++;
    media_force_keyframe(&s->publisher->reader);
}

static void on_blocks(struct session *s, const struct rtcp_packet *packet)
{
    struct rtcp_block block;
    for (unsigned i = 0; i < packet->count && rtcp_read_block(packet, i, &block); i++) {
        struct output *o = find(s->publisher, block.ssrc);
        if (o == NULL)
            continue;
        if (block.cumulative_lost > o->remote_lost)
            s->result->count.remote_lost += (uint64_t)(block.cumulative_lost - o->remote_lost);
        o->remote_lost = block.cumulative_lost;
    }
}

void publisher_rtcp(struct session *s, const struct rtcp_packet *packet, uint64_t now_ns)
{
    uint32_t ssrc;
    uint8_t seq;
    switch (packet->type) {
    case RTCP_SR:
    case RTCP_RR:
        on_blocks(s, packet);
        break;
    case RTCP_RTPFB:
        if (packet->count == RTPFB_NACK)
            on_nack(s, packet);
        break;
    case RTCP_PSFB:
        if (rtcp_is_pli(packet) || rtcp_read_fir(packet, 0, &ssrc, &seq))
            on_keyframe_request(s);
        break;
    }
    if (s->publisher->waiting)
        flush(s);
}

static void send_reports(struct session *s, uint64_t now_ns)
{
    struct publisher *p = s->publisher;
    uint64_t ntp = rtcp_ntp_from_ns(now_ns + s->worker->real_offset);
    for (int i = 0; i < OUTPUTS; i++) {
        struct output *o = &p->output[i];
        uint8_t buf[SESSION_RTCP_MAX + PROTECT_RTCP_ROOM];
        if (!o->used || o->packets == 0)
            continue;
        struct rtcp_sender sender = {.ssrc = o->ssrc,
                                     .ntp = ntp,
                                     .rtp = o->offset + media_rtp_time(&p->reader, o->kind, now_ns),
                                     .packets = o->packets,
                                     .bytes = o->bytes};
        size_t length = rtcp_write_sr(buf, SESSION_RTCP_MAX, 0, &sender, NULL, 0);
        session_send_rtcp(s, buf, rtcp_write_sdes(buf, SESSION_RTCP_MAX, length, o->ssrc, "bees"));
    }
    s->report_ns = now_ns + REPORT_NS;
}

uint64_t publisher_tick(struct session *s, uint64_t now_ns)
{
    struct publisher *p = s->publisher;
    p->now_ns = now_ns;
    if (media_due(&p->reader) <= now_ns) {
        media_next(&p->reader, now_ns, now_ns + s->worker->real_offset, emit, s);
        if (p->waiting)
            flush(s);
        session_step(s, BEES_STEP_packet, now_ns);
    }
    if (now_ns >= s->report_ns)
        send_reports(s, now_ns);
    uint64_t due = media_due(&p->reader);
    return due < s->report_ns ? due : s->report_ns;
}

void publisher_close(struct session *s, uint64_t now_ns)
{
    struct publisher *p = s->publisher;
    for (int i = 0; i < OUTPUTS; i++)
        free(p->output[i].kept);
    free(p);
    s->publisher = NULL;
}
