// What a viewer does with the packets that it receives; see viewer.h.
#include "../../dataplane/bytes.h"
#include "media.h"
#include "net.h"
#include "viewer_private.h"
#include "worker.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEARD_NS 100000000ull
#define LATENCY_MAX_NS 60000000000ull // more is another clock

int viewer_open(struct session *s, uint64_t now_ns)
{
    bool twcc = false;
    struct viewer *v = calloc(1, sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    for (uint8_t t = 0; t < s->answer.tracks; t++) {
        const struct answer_track *track = &s->answer.track[t];
        for (int f = 0; f < track->formats; f++) {
            const struct answer_format *format = &track->format[f];
            for (int rtx = 0; rtx < 2; rtx++) {
                uint8_t pt = rtx ? format->rtx_pt : format->pt;
                if (pt > 127)
                    continue;
                v->pt[pt].track = t;
                v->pt[pt].codec = format->codec;
                v->pt[pt].rtx = rtx;
                v->pt[pt].repaired = format->rtx_pt <= 127;
                v->pt[pt].feedback = format->feedback;
                v->pt[pt].clock_rate = format->clock_rate;
            }
        }
        twcc |= track->twcc != 0;
    }
    v->twcc_ns = now_ns + VIEWER_TWCC_NS;
    v->feedback_ns = UINT64_MAX;
    v->twcc = twcc && s->sampled ? calloc(1, sizeof(*v->twcc)) : NULL;
    s->viewer = v;
    return twcc && s->sampled && v->twcc == NULL ? -ENOMEM : 0;
}

struct source *viewer_find(struct viewer *v, uint32_t ssrc)
{
    if (v->last < v->sources && v->ssrc[v->last] == ssrc)
        return v->source[v->last];
    for (uint8_t i = 0; i < v->sources; i++) {
        if (v->ssrc[i] == ssrc) {
            v->last = i;
            return v->source[i];
        }
    }
    return NULL;
}

// A new SSRC whose first packet is authentic (or taken as such).
static struct source *add(struct session *s, const struct protect_source *srtp, uint8_t pt)
{
    struct viewer *v = s->viewer;
    struct source *source = v->sources < VIEWER_SOURCES ? calloc(1, sizeof(*source)) : NULL;
    if (source == NULL)
        return NULL;
    source->srtp = *srtp;
    source->track = v->pt[pt].track;
    source->rtx = v->pt[pt].rtx;
    source->receive = (struct receive){
        .ssrc = srtp->ssrc,
        .codec = v->pt[pt].codec,
        .video = s->answer.track[source->track].kind == KIND_VIDEO && s->sampled,
        .ask = (v->pt[pt].feedback & FB_NACK) != 0,
        .rtx = v->pt[pt].repaired,
        .pli = (v->pt[pt].feedback & FB_PLI) != 0,
        .clock_rate = v->pt[pt].clock_rate,
        .count = &s->result->count,
        .recovery = &s->worker->hist[BEES_DIST_recovery],
    };
    v->last = v->sources;
    v->ssrc[v->sources] = srtp->ssrc;
    v->source[v->sources++] = source;
    if (!source->rtx) {
        s->result->count.new_ssrcs += v->primary[source->track] != NULL;
        v->primary[source->track] = source;
    }
    return source;
}

static void on_path_of_media(struct session *s, const struct abi_addr *from)
{
    struct bees_session *result = s->result;
    char text[NET_TEXT];
    result->count.path_changes += s->from.family != 0;
    s->viewer->heard_ns = 0;
    s->from = *from;
    net_text(text, from);
    for (int i = 0; i < result->paths; i++)
        if (strcmp(result->path[i], text) == 0)
            return;
    if (result->paths < BEES_PATHS_MAX)
        memcpy(result->path[result->paths++], text, sizeof(text));
}

static void note_gap(struct session *s, uint64_t gap, uint64_t now_ns)
{
    if (gap > s->result->max_gap_ns) {
        s->result->max_gap_ns = gap;
        s->result->max_gap_at_ns = now_ns - s->worker->config->run_ns;
    }
    if (gap > atomic_load_explicit(&s->result->recent_gap_ns, memory_order_relaxed))
        atomic_store_explicit(&s->result->recent_gap_ns, gap, memory_order_relaxed);
    worker_gap(s->worker, gap);
    if (gap >= s->worker->config->away_ns) {
        s->result->gaps++;
        s->result->away_ns += gap;
        worker_note(s->worker, BEES_DIST_away, gap);
    }
}

// Every authentic packet: how long nothing came before it.
static void note_arrival(struct session *s, const struct abi_addr *from, uint64_t now_ns)
{
    struct viewer *v = s->viewer;
    if (!net_same(from, &s->from))
        on_path_of_media(s, from);
    if (now_ns >= v->heard_ns) { // often enough for the agent, too dear for each packet
        agent_heard(&s->agent, from, now_ns);
        v->heard_ns = now_ns + HEARD_NS;
    }
    if (s->last_packet_ns == 0) {
        s->last_packet_ns = now_ns;
        session_step(s, BEES_STEP_packet, now_ns);
        return;
    }
    if (now_ns <= s->last_packet_ns) // queues of several CPUs change the order a little
        return;
    uint64_t gap = now_ns - s->last_packet_ns;
    s->last_packet_ns = now_ns;
    note_gap(s, gap, now_ns);
}

// A packet whose index was there before: the same bytes are a repetition. Other bytes that are
// authentic, too, mean that a keystream was used twice.
static void on_repeat(struct session *s, struct source *source, uint64_t index, uint32_t hash,
                      uint8_t *data, size_t size)
{
    struct protect_source alone = {.ssrc = source->srtp.ssrc};
    size_t plain;
    switch (reuse_look(&source->reuse, index, hash)) {
    case REUSE_SAME:
        s->result->count.duplicates++;
        return;
    case REUSE_OTHER:
        if (index > 0)
            replay_commit(&alone.replay, index - 1); // so that the index is estimated as before
        if (protect_open(s->worker->protect, &s->rx, &alone, data, size, data, &plain, &index) == 0)
            s->result->count.index_reuse++;
        else
            s->result->count.auth_failures++;
        return;
    default:
        s->result->count.replays++;
    }
}

// Opens a packet and finds or adds its source. NULL: it is counted and of no use.
static struct source *open_packet(struct session *s, uint8_t *data, size_t *size, uint32_t ssrc,
                                  uint8_t pt)
{
    struct protect_source fresh = {.ssrc = ssrc};
    struct source *source = viewer_find(s->viewer, ssrc);
    struct protect_source *srtp = source ? &source->srtp : &fresh;
    unsigned tag = protect_tag_len(s->rx.key.profile);
    if (*size < RTP_HEADER + tag) {
        s->result->count.malformed++;
        return NULL;
    }
    uint32_t hash;
    memcpy(&hash, data + *size - tag, sizeof(hash));
    uint64_t index;
    size_t plain;
    int rc = protect_open(s->worker->protect, &s->rx, srtp, data, *size, data, &plain, &index);
    if (rc == -EALREADY && source != NULL) {
        index = rtp_nearest_seq(replay_top(&srtp->replay), load_be16(data + 2));
        on_repeat(s, source, index, hash, data, *size);
        return NULL;
    }
    if (rc != 0) {
        s->result->count.auth_failures += rc == -EBADMSG;
        s->result->count.malformed += rc == -EINVAL;
        return NULL;
    }
    *size = plain;
    if (source == NULL)
        source = add(s, &fresh, pt);
    if (source == NULL)
        s->result->count.unexpected++;
    else
        reuse_note(&source->reuse, index, hash);
    return source;
}

static void note_latency(struct session *s, const struct receive *receive, const uint8_t *payload,
                         size_t length, uint64_t now_ns)
{
    uint64_t sent;
    if (!receive->video || !media_read_clock(receive->codec, payload, length, &sent))
        return;
    uint64_t real = now_ns + s->worker->real_offset;
    if (real < sent || real - sent > LATENCY_MAX_NS)
        return;
    worker_note(s->worker, BEES_DIST_latency, real - sent);
    hist_add(&s->worker->latency[s->worker->half & 1], (real - sent) / 1000);
}

static void note_twcc(struct session *s, const struct source *source, const struct rtp_view *view,
                      uint64_t now_ns)
{
    struct rtp_ext ext;
    uint8_t id = s->answer.track[source->track].twcc;
    if (s->viewer->twcc && id && view->ext_profile && rtp_ext_find(view, id, &ext) &&
        ext.length == 2)
        twcc_receive(s->viewer->twcc, load_be16(ext.data), now_ns);
}

// The stream that a retransmission stream repairs: as the answer groups them, else the newest.
static struct source *repaired(struct session *s, const struct source *rtx)
{
    const struct answer_track *track = &s->answer.track[rtx->track];
    for (int i = 0; i < track->ssrcs; i++)
        for (int k = 0; track->rtx_ssrc[i] == rtx->srtp.ssrc && k < s->viewer->sources; k++)
            if (s->viewer->source[k]->srtp.ssrc == track->ssrc[i])
                return s->viewer->source[k];
    return s->viewer->primary[rtx->track];
}

static void hurry_feedback(struct session *s, const struct receive *receive, uint64_t now_ns)
{
    if (receive->nack.count == 0 && !receive->want_key)
        return;
    uint64_t next = receive_next(receive, now_ns);
    if (next < s->viewer->feedback_ns) {
        s->viewer->feedback_ns = next;
        session_hurry(s, next);
    }
}

static void on_media(struct session *s, struct source *source, const struct rtp_view *view,
                     uint64_t now_ns)
{
    const uint8_t *payload = view->packet + view->header;
    size_t length = view->payload_length;
    uint16_t seq = view->seq;
    struct receive *receive = &source->receive;
    if (source->rtx) {
        struct source *primary = repaired(s, source);
        s->result->count.rtx_packets++;
        if (primary == NULL || rtp_rtx_osn(view, &seq) != 0)
            return; // a probe
        payload += RTP_RTX_OSN;
        length -= RTP_RTX_OSN;
        receive = &primary->receive;
    }
    if (length == 0)
        payload = (const uint8_t *)""; // padding: numbered, but not of a frame
    unsigned events = receive_packet(receive, view, seq, payload, length, source->rtx, now_ns);
    if (events & FRAMES_KEY_DONE)
        session_step(s, BEES_STEP_keyframe, now_ns);
    if (!source->rtx)
        note_latency(s, receive, payload, length, now_ns);
    hurry_feedback(s, receive, now_ns);
}

// With --headers-only, of sessions that are not of the sample: order and loss by sequence number,
// nothing else. Retransmissions do not come here: what they repair stands in what is sealed.
static void on_header(struct session *s, const struct rtp_view *view, uint64_t now_ns)
{
    struct protect_source named = {.ssrc = view->ssrc};
    struct source *source = viewer_find(s->viewer, view->ssrc);
    if (source == NULL)
        source = add(s, &named, view->pt);
    if (source == NULL)
        return;
    receive_packet(&source->receive, view, view->seq, NULL, 0, false, now_ns);
    hurry_feedback(s, &source->receive, now_ns);
}

void viewer_packet(struct session *s, const struct abi_addr *from, uint8_t *data, size_t size,
                   uint64_t now_ns)
{
    struct rtp_view view;
    struct viewer *v = s->viewer;
    size_t whole = size;
    if (rtp_parse_header(data, size, &view) != 0) {
        s->result->count.malformed++;
        return;
    }
    if (v->pt[view.pt].codec == CODEC_NONE ||
        (!net_same(from, &s->from) && !agent_knows(&s->agent, from))) {
        s->result->count.unexpected++;
        return;
    }
    if (!s->sampled && !v->pt[view.pt].rtx) {
        note_arrival(s, from, now_ns);
        on_header(s, &view, now_ns);
        return;
    }
    struct source *source = open_packet(s, data, &size, view.ssrc, view.pt);
    if (source == NULL)
        return;
    note_arrival(s, from, now_ns);
    if (rtp_parse(data, size, &view) != 0) {
        s->result->count.malformed++;
        return;
    }
    view.length = (uint16_t)whole; // what was on the wire
    note_twcc(s, source, &view, now_ns);
    on_media(s, source, &view, now_ns);
}

void viewer_close(struct session *s, uint64_t now_ns)
{
    struct viewer *v = s->viewer;
    for (uint8_t i = 0; i < v->sources; i++) {
        struct source *source = v->source[i];
        if (!source->rtx) {
            uint32_t jitter = receive_jitter_us(&source->receive);
            hist_add(&s->worker->hist[BEES_DIST_jitter], jitter);
            if (jitter > s->result->jitter_us)
                s->result->jitter_us = jitter;
        }
        receive_end(&source->receive, now_ns);
        free(source);
    }
    if (s->last_packet_ns) {
        note_gap(s, now_ns - s->last_packet_ns, now_ns); // what is missing at the end counts, too
        worker_note(s->worker, BEES_DIST_max_gap, s->result->max_gap_ns);
    }
    free(v->twcc);
    free(v);
    s->viewer = NULL;
}
