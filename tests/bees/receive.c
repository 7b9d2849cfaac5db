// One media stream as a viewer gets it; see receive.h.
#include "receive.h"

#define KEY_FIRST_NS 200000000ull // until a key frame is asked for that may come by itself
#define KEY_AGAIN_NS 500000000ull // between two requests
#define PENDING_NS 500000000ull
#define NACK_BATCH 256

static bool is_seen(const struct receive *r, uint64_t seq)
{
    return r->seen[seq / 64 % (RECEIVE_WINDOW / 64)] >> (seq % 64) & 1;
}

static void set_seen(struct receive *r, uint64_t seq)
{
    r->seen[seq / 64 % (RECEIVE_WINDOW / 64)] |= 1ull << (seq % 64);
}

static void want_key(struct receive *r, uint64_t now_ns)
{
    if (!r->video || r->want_key)
        return;
    r->want_key = true;
    r->key_wanted_ns = now_ns;
}

static void lose(struct receive *r, uint64_t seq, uint64_t count, uint64_t now_ns)
{
    r->count->lost += count;
    if (r->video && r->highest && frames_lost(&r->frames, seq)) {
        want_key(r, now_ns);
        r->key_wanted_ns = now_ns - KEY_FIRST_NS; // it will not come by itself
    }
}

// Moves the window up to `seq`; what was skipped is missing.
static void advance(struct receive *r, uint64_t seq, uint64_t now_ns)
{
    uint64_t gap = seq - r->highest - 1;
    unsigned dropped = 0;
    for (uint64_t s = r->highest + 1; s <= seq && s - r->highest <= RECEIVE_WINDOW; s++)
        r->seen[s / 64 % (RECEIVE_WINDOW / 64)] &= ~(1ull << (s % 64));
    if (gap >= RECEIVE_JUMP) {
        r->count->jumps++;
        frames_lost(&r->frames, seq);
        want_key(r, now_ns);
    } else if (gap > 0) {
        r->count->missing += gap;
        if (!nack_add(&r->nack, r->highest + 1, (unsigned)gap, now_ns, &dropped))
            lose(r, r->highest + 1, gap + dropped, now_ns);
    }
    r->highest = seq;
}

// Takes a packet that is not the newest. False if it is a duplicate.
static bool fill(struct receive *r, uint64_t seq, bool rtx, uint64_t now_ns)
{
    struct nack_entry entry;
    if (r->highest - seq >= RECEIVE_WINDOW || is_seen(r, seq)) {
        r->count->duplicates++;
        return false;
    }
    if (nack_remove(&r->nack, seq, &entry)) {
        if (rtx || (r->ask && !r->rtx && entry.tries > 0)) {
            r->count->recovered++;
            hist_add(r->recovery, (now_ns - entry.noticed_ns) / 1000);
        } else {
            r->count->reordered++;
        }
    } else if (seq >= r->stats.base) { // given up too early
        if (r->count->lost > 0)
            r->count->lost--;
        r->count->recovered++;
    }
    return true;
}

static void note_freezes(struct receive *r, uint64_t freezes, uint64_t frozen_ns)
{
    r->count->freezes += r->frames.freezes - freezes;
    r->count->frozen_ms += (r->frames.frozen_ns - frozen_ns) / 1000000;
}

unsigned receive_packet(struct receive *r, const struct rtp_view *view, uint16_t seq,
                        const uint8_t *payload, size_t length, bool rtx, uint64_t now_ns)
{
    if (r->highest == 0) {
        if (rtx)
            return 0;
        r->highest = RTP_SEQ_START(seq) - 1;
        want_key(r, now_ns);
    }
    uint64_t extended = rtp_nearest_seq(r->highest, seq);
    if (rtx)
        rtp_rx_recovered(&r->stats);
    else
        rtp_rx_update(&r->stats, seq, view->timestamp, rtp_clock(now_ns, r->clock_rate));
    if (extended > r->highest)
        advance(r, extended, now_ns);
    else if (!fill(r, extended, rtx, now_ns))
        return 0;
    set_seen(r, extended);
    r->count->packets++;
    r->count->bytes += view->length;
    if (!r->video || payload == NULL)
        return 0;
    struct frames *f = &r->frames;
    uint64_t frames = f->frames, keyframes = f->keyframes;
    uint64_t freezes = f->freezes, frozen = f->frozen_ns;
    unsigned events = frames_packet(f, extended, view->timestamp, view->marker,
                                    rtp_is_keyframe(r->codec, payload, length), now_ns);
    r->count->frames += f->frames - frames; // one packet may complete several
    r->count->keyframes += f->keyframes - keyframes;
    note_freezes(r, freezes, frozen);
    if (frames_need_key(&r->frames))
        want_key(r, now_ns);
    else
        r->want_key = false;
    return events;
}

static bool key_due(const struct receive *r, uint64_t now_ns)
{
    return r->want_key && r->pli && now_ns >= r->key_wanted_ns + KEY_FIRST_NS &&
           (r->key_asked_ns == 0 || now_ns >= r->key_asked_ns + KEY_AGAIN_NS);
}

size_t receive_feedback(struct receive *r, uint8_t *buf, size_t size, size_t length,
                        uint32_t sender_ssrc, uint64_t rtt_ns, uint64_t now_ns)
{
    uint16_t seqs[NACK_BATCH];
    unsigned given_up = 0;
    uint64_t first = r->nack.count ? r->nack.entry[0].seq : 0;
    unsigned asked =
        r->nack.count ? nack_due(&r->nack, r->ask, rtt_ns, now_ns, seqs, NACK_BATCH, &given_up) : 0;
    if (given_up)
        lose(r, first, given_up, now_ns);
    if (asked) {
        size_t longer = rtcp_write_nack(buf, size, length, sender_ssrc, r->ssrc, seqs, asked);
        if (longer) {
            length = longer;
            r->count->nacks += asked;
        }
    }
    if (key_due(r, now_ns)) {
        size_t longer = rtcp_write_pli(buf, size, length, sender_ssrc, r->ssrc);
        if (longer) {
            length = longer;
            r->key_asked_ns = now_ns;
            r->count->plis++;
        }
    }
    return length;
}

uint64_t receive_next(const struct receive *r, uint64_t now_ns)
{
    uint64_t next = nack_next(&r->nack);
    if (r->want_key && r->pli) {
        uint64_t key = r->key_wanted_ns + KEY_FIRST_NS;
        if (r->key_asked_ns && key < r->key_asked_ns + KEY_AGAIN_NS)
            key = r->key_asked_ns + KEY_AGAIN_NS;
        next = key < next ? key : next;
    }
    return next;
}

void receive_report(struct receive *r, struct rtcp_block *block, uint64_t now_ns)
{
    struct rtp_report_fields fields;
    rtp_rx_report(&r->stats, &fields);
    *block = (struct rtcp_block){.ssrc = r->ssrc,
                                 .fraction_lost = fields.fraction_lost,
                                 .cumulative_lost = fields.cumulative_lost,
                                 .highest_seq = fields.highest_seq,
                                 .jitter = fields.jitter,
                                 .lsr = r->sr_middle,
                                 .dlsr = r->sr_middle ? rtcp_dlsr_from_ns(now_ns - r->sr_ns) : 0};
}

uint32_t receive_jitter_us(const struct receive *r)
{
    return r->clock_rate ? (uint32_t)((uint64_t)(r->stats.jitter_q4 >> 4) * 1000000 / r->clock_rate)
                         : 0;
}

void receive_end(struct receive *r, uint64_t now_ns)
{
    for (unsigned i = 0; i < r->nack.count; i++)
        r->count->lost += now_ns - r->nack.entry[i].noticed_ns >= PENDING_NS;
    nack_free(&r->nack);
    if (!r->video || r->frames.frames == 0)
        return;
    uint64_t freezes = r->frames.freezes, frozen = r->frames.frozen_ns;
    frames_end(&r->frames, now_ns);
    note_freezes(r, freezes, frozen);
}
