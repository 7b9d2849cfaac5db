#include "fanout.h"
#include "failover.h"
#include <rte_prefetch.h>

#define BATCH PROTECT_BURST // packets sealed together
#define PLANS 8             // packets of a track planned together
#define EXTS_MAX 12         // header extensions per packet
#define EXT_BLOCK_MAX 192   // bytes of header extensions that we carry along
#define AHEAD 32            // viewers whose state is fetched in advance

// A packet and the extension blocks it gets, one per numbering in use among the track's viewers.
struct plan {
    const struct media *meta;
    const uint8_t *payload;
    uint8_t ext[TRACK_MAPS][EXT_BLOCK_MAX];
    uint8_t ext_length[TRACK_MAPS + 1]; // the last is for viewers without a map: 0
};

// Packets on their way through the cipher.
struct batch {
    struct rte_mbuf *mbuf[BATCH];
    struct seal_job job[BATCH];
    const struct sender *sender[BATCH];
    unsigned room; // mbufs allocated
    unsigned used;
    unsigned left; // packets that may still come
};

static void note_key(struct track *track, const struct media *meta)
{
    bool same = track->key_sent && meta->timestamp == track->key_timestamp;
    if (!meta->keyframe || (track->key_sent && same != (meta->index < track->key_index)))
        return; // of an older key frame, or within this one
    track->key_sent = true;
    track->key_timestamp = meta->timestamp;
    track->key_index = meta->index;
}

static void make_plan(struct plan *plan, const struct track *track, const struct media *media)
{
    plan->meta = media;
    plan->payload = media->bytes + media->header;
    memset(plan->ext_length, 0, sizeof(plan->ext_length));
    struct rtp_view view;
    if (rtp_parse_header(media->bytes, media->header, &view) || !view.ext_profile)
        return;
    uint8_t kind_of[16] = {0}; // publisher's id -> kind + 1
    for (unsigned kind = 0; kind < HDREXTS; kind++)
        if (track->config.hdrext[kind])
            kind_of[track->config.hdrext[kind] & 15] = (uint8_t)(kind + 1);
    for (unsigned map = 0; map < TRACK_MAPS; map++) {
        if (!track->maps[map].users)
            continue;
        struct rtp_ext list[EXTS_MAX], ext;
        struct rtp_ext_iter iter;
        size_t count = 0;
        rtp_ext_begin(&iter, &view);
        while (count < EXTS_MAX && rtp_ext_next(&iter, &ext)) {
            uint8_t kind = ext.id < 16 ? kind_of[ext.id] : 0;
            uint8_t id = kind ? track->maps[map].ids[kind - 1] : 0;
            if (id)
                list[count++] = (struct rtp_ext){id, ext.length, ext.data};
        }
        plan->ext_length[map] = (uint8_t)rtp_ext_write(plan->ext[map], EXT_BLOCK_MAX, list, count);
    }
}

static void batch_flush(struct worker *worker, struct batch *batch)
{
    worker_stage(worker, STAGE_seal);
    protect_seal(worker->protect, batch->job, batch->used);
    worker_stage(worker, STAGE_finish);
    for (unsigned i = 0; i < batch->used; i++) {
        const struct sender *sender = batch->sender[i];
        const struct seal_job *job = &batch->job[i];
        size_t length =
            (size_t)job->header_len + job->payload_len + protect_tag_len(job->tx->key.profile);
        worker_end_frame(worker, &sender->frame, batch->mbuf[i], length);
        worker_send(worker, batch->mbuf[i]);
    }
    batch->room = batch->used = 0;
    worker_stage(worker, STAGE_headers);
}

static void batch_end(struct worker *worker, struct batch *batch)
{
    unsigned used = batch->used, room = batch->room;
    batch_flush(worker, batch);
    rte_pktmbuf_free_bulk(batch->mbuf + used, room - used);
}

// Sees to it that there is an mbuf for one more packet. When the pool runs low, fewer at a time.
static bool batch_room(struct worker *worker, struct batch *batch)
{
    if (batch->used < batch->room)
        return true;
    for (unsigned n = RTE_MIN(batch->left, (unsigned)BATCH); n > 0; n /= 2) {
        if (rte_pktmbuf_alloc_bulk(worker->pools.tx, batch->mbuf, n) == 0) {
            batch->room = n;
            batch->left -= n;
            return true;
        }
    }
    return false;
}

static inline size_t write_header(uint8_t *out, const struct plan *plan, const struct sub *sub,
                                  uint8_t pt, uint32_t ssrc, uint64_t index)
{
    const struct media *meta = plan->meta;
    uint8_t ext = plan->ext_length[sub->map];
    rtp_header_write(out, &(struct rtp_header){.pt = pt,
                                               .marker = meta->marker,
                                               .extension = ext != 0,
                                               .padding = meta->padding,
                                               .seq = (uint16_t)index,
                                               .timestamp = meta->timestamp,
                                               .ssrc = ssrc});
    if (ext)
        memcpy(out + RTP_HEADER, plan->ext[sub->map], ext);
    return RTP_HEADER + ext;
}

// Whether this viewer takes the packet; decides where its numbers start with the first one. The
// partner is told of that soon: were we to die before, it could not go on with them.
static inline bool takes(struct worker *worker, struct sub *sub, const struct media *meta,
                         bool video)
{
    // Made up here, they might be the partner's for other packets.
    if (sub->foreign)
        return false;
    if (video && !sub->keyed) {
        if (!meta->keyframe || sub->catching_up)
            return false;
        sub->keyed = true;
    }
    if (!sub_numbered(sub)) {
        sub_number(sub, sub->delta - meta->index);
        worker_untold(worker);
    }
    // Older than the viewer's first packet.
    return ((meta->index + sub->delta) & INDEX_MASK) < INDEX_MASK / 2;
}

static inline bool fits(const struct worker *worker, const struct sender *sender, size_t length)
{
    return sender->frame.length - sender->frame.l2_len + length <= worker->dp->config->mtu;
}

// Walks over the viewers of all groups, AHEAD of the one whose packets are written, and fetches
// what headers are made of. The cipher sees to the keys itself.
struct ahead {
    const struct fan_group *group, *end;
    uint32_t viewer;
};

static inline void look_ahead(struct ahead *ahead, const struct sender *senders)
{
    while (ahead->group < ahead->end && ahead->viewer == ahead->group->track->viewer_count) {
        ahead->group++;
        ahead->viewer = 0;
    }
    if (ahead->group == ahead->end)
        return;
    const struct viewer_ref *viewer = &ahead->group->track->viewers[ahead->viewer++];
    const struct sender *sender = &senders[viewer->session];
    rte_prefetch0(&sender->frame);
    rte_prefetch0((const uint8_t *)&sender->frame + ABI_CACHE_LINE);
    rte_prefetch0(&sender->sub[viewer->track]);
}

// Writes the headers of one packet to one viewer and puts it into the batch. False: dropped.
static inline bool add_packet(struct worker *worker, struct batch *batch, const struct plan *plan,
                              struct sender *sender, struct sub *sub)
{
    const struct media *meta = plan->meta;
    if (!batch_room(worker, batch)) {
        worker_drop(worker, DROP_no_mbuf);
        return false;
    }
    uint64_t index = (meta->index + sub->delta) & INDEX_MASK;
    uint8_t *frame = rte_pktmbuf_mtod(batch->mbuf[batch->used], uint8_t *);
    uint8_t *out = frame + sender->frame.length;
    frame_begin(&sender->frame, frame);
    size_t header = write_header(out, plan, sub, sub->pt, sub->ssrc, index);
    size_t length = header + meta->payload + protect_tag_len(sender->tx.key.profile);
    if (!fits(worker, sender, length)) {
        worker_drop(worker, DROP_too_big);
        return false;
    }
    batch->sender[batch->used] = sender;
    batch->job[batch->used++] = (struct seal_job){.tx = &sender->tx,
                                                  .src = plan->payload,
                                                  .dst = out,
                                                  .header_len = (uint16_t)header,
                                                  .payload_len = meta->payload,
                                                  .ssrc = sub->ssrc,
                                                  .index = index};
    sub->packets++;
    sub->bytes += length;
    sub->octets += meta->payload;
    sub->last_timestamp = meta->timestamp;
    if (batch->used == batch->room)
        batch_flush(worker, batch);
    return true;
}

static unsigned fan_plans(struct worker *worker, struct track *track, const struct plan *plans,
                          unsigned count, struct batch *batch, struct ahead *ahead)
{
    bool video = track->config.kind == KIND_VIDEO;
    struct sender *senders = worker->tables.senders;
    unsigned sealed = 0;
    for (uint32_t v = 0; v < track->viewer_count; v++) {
        const struct viewer_ref *viewer = &track->viewers[v];
        struct sender *sender = &senders[viewer->session];
        struct sub *sub = &sender->sub[viewer->track];
        look_ahead(ahead, senders);
        if (!sender->keyed || !sender->proven || !failover_active(worker, sender->group))
            continue;
        for (unsigned p = 0; p < count; p++)
            if (takes(worker, sub, plans[p].meta, video))
                sealed += add_packet(worker, batch, &plans[p], sender, sub);
    }
    return sealed;
}

unsigned fanout_run(struct worker *worker, const struct fan_group *groups, unsigned count)
{
    struct plan plans[PLANS];
    struct batch batch;
    struct ahead ahead = {.group = groups, .end = groups + count};
    unsigned sealed = 0;
    worker_stage(worker, STAGE_headers);
    batch.room = batch.used = batch.left = 0;
    for (unsigned i = 0; i < count; i++)
        batch.left += groups[i].count * groups[i].track->viewer_count;
    for (unsigned i = 0; i < AHEAD; i++)
        look_ahead(&ahead, worker->tables.senders);
    for (const struct fan_group *group = groups; group < groups + count; group++) {
        for (unsigned done = 0; done < group->count; done += PLANS) {
            unsigned n = RTE_MIN(group->count - done, (unsigned)PLANS);
            for (unsigned i = 0; i < n; i++)
                note_key(group->track, group->packets[done + i]);
            for (unsigned i = 0; i < n; i++)
                make_plan(&plans[i], group->track, group->packets[done + i]);
            sealed += fan_plans(worker, group->track, plans, n, &batch, &ahead);
        }
    }
    if (batch.room)
        batch_end(worker, &batch);
    worker_count(worker, COUNT_rtp_out, sealed);
    return sealed;
}

unsigned fanout_one(struct worker *worker, struct track *track, struct sender *sender,
                    struct sub *sub, const struct media *const *packets, unsigned count)
{
    struct batch batch;
    unsigned sealed = 0;
    if (count == 0 || !sender->proven)
        return 0;
    enum stage before = worker_stage(worker, STAGE_headers);
    batch.room = batch.used = 0;
    batch.left = count;
    for (unsigned i = 0; i < count; i++) {
        struct plan plan;
        make_plan(&plan, track, packets[i]);
        sealed += add_packet(worker, &batch, &plan, sender, sub);
    }
    if (batch.room)
        batch_end(worker, &batch);
    worker_count(worker, COUNT_rtp_out, sealed);
    worker_stage(worker, before);
    return sealed;
}

// What sending it again reads, all of it cold: a second ago nobody needed it.
static void prefetch_resend(const struct sender *sender, const struct media *packet)
{
    const uint8_t *data = (const uint8_t *)packet;
    const uint8_t *frame = (const uint8_t *)&sender->frame, *key = (const uint8_t *)&sender->tx;
    for (unsigned at = 0; at < sizeof(sender->frame); at += ABI_CACHE_LINE)
        rte_prefetch0(frame + at);
    for (unsigned at = 0; at < media_size(packet); at += ABI_CACHE_LINE)
        rte_prefetch0(data + at);
    for (unsigned at = 0; at < sizeof(sender->tx); at += ABI_CACHE_LINE)
        rte_prefetch0(key + at);
}

void fanout_resend(struct worker *worker, struct session *session, struct track *track,
                   struct sub *sub, const struct media *packet, bool rtx)
{
    uint64_t original = (packet->index + sub->delta) & INDEX_MASK;
    prefetch_resend(tables_sender(&worker->tables, session), packet);
    worker->resend[worker->resend_count++] =
        (struct resend){.session = session,
                        .track = track,
                        .sub = sub,
                        .packet = packet,
                        .index = rtx ? sub->rtx_index++ & INDEX_MASK : original,
                        .rtx = rtx};
    if (worker->resend_count == RTE_DIM(worker->resend))
        fanout_resend_queued(worker);
}

// Puts a packet into the batch, with its own plaintext: the original sequence number stands in
// front of an RTX payload, so that is sealed in place. False: dropped.
static bool add_resend(struct worker *worker, struct batch *batch, const struct resend *r)
{
    const struct sender *sender = tables_sender(&worker->tables, r->session);
    const struct sub *sub = r->sub;
    struct plan plan;
    make_plan(&plan, r->track, r->packet);
    const struct media *meta = plan.meta;
    if (!sender->keyed || !sender->proven)
        return false;
    if (!batch_room(worker, batch)) {
        worker_drop(worker, DROP_no_mbuf);
        return false;
    }
    struct rte_mbuf *m = batch->mbuf[batch->used];
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *), *out = frame + sender->frame.length;
    uint32_t ssrc = r->rtx ? sub->rtx_ssrc : sub->ssrc;
    frame_begin(&sender->frame, frame);
    size_t header = write_header(out, &plan, sub, r->rtx ? sub->rtx_pt : sub->pt, ssrc, r->index);
    uint16_t payload = (uint16_t)(meta->payload + (r->rtx ? RTP_RTX_OSN : 0));
    size_t length = header + payload + protect_tag_len(sender->tx.key.profile);
    if (!fits(worker, sender, length) ||
        sender->frame.length + length + PROTECT_TAG_ROOM > rte_pktmbuf_tailroom(m)) {
        worker_drop(worker, DROP_too_big);
        return false;
    }
    if (r->rtx) {
        rtp_rtx_write_osn(out + header, (uint16_t)(meta->index + sub->delta));
        memcpy(out + header + RTP_RTX_OSN, plan.payload, meta->payload);
    }
    batch->sender[batch->used] = sender;
    batch->job[batch->used++] = (struct seal_job){.tx = &sender->tx,
                                                  .src = r->rtx ? out + header : plan.payload,
                                                  .dst = out,
                                                  .header_len = (uint16_t)header,
                                                  .payload_len = payload,
                                                  .ssrc = ssrc,
                                                  .index = r->index};
    return true;
}

void fanout_resend_queued(struct worker *worker)
{
    struct batch batch;
    unsigned n = worker->resend_count;
    if (n == 0)
        return;
    enum stage before = worker_stage(worker, STAGE_resend);
    batch.room = batch.used = 0;
    batch.left = n;
    for (unsigned i = 0; i < n; i++) {
        struct resend *r = &worker->resend[i];
        if (!add_resend(worker, &batch, r))
            continue;
        r->session->resent++;
        worker_count(worker, COUNT_nack_answered, 1);
    }
    if (batch.room)
        batch_end(worker, &batch);
    worker->resend_count = 0;
    worker_stage(worker, before);
}
