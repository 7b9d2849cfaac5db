// A partner that floods its trunk: the product's own dataplane, whole, with the keys that its
// control plane agrees on, until SIGUSR1. For FLOOD_S seconds from then on each turn of its workers
// also sends FLOOD_PPS records a second of every kind: validly sealed, of streams and sessions that
// there are and of others, media that the partner has already and media of its own that nobody can
// have so much of. Only what would be a lie about the partner's streams is not among them: a flood
// takes nothing that it is not given, a liar is believed (it holds the keys of every session).
//
// Linked with main.c; housekeep, which each turn calls, is wrapped (meson.build).
#include "../../dataplane/housekeep.h"
#include "../../dataplane/rtcp.h"
#include "../../dataplane/trunk_record.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTNER 0       // a node has one
#define TURN_RECORDS 64 // at most, so that BFD and the like go on
#define AGAIN 64        // of the newest packets, those that are sent again and asked for

void __real_housekeep(struct worker *worker); // NOLINT(bugprone-reserved-identifier): ld's names
void __wrap_housekeep(struct worker *worker); // NOLINT(bugprone-reserved-identifier)

static volatile sig_atomic_t asked;

static struct {
    uint64_t began_ns, end_ns; // 0: it is not on
    uint64_t each_ns, sent;
    uint32_t at; // of streams and sessions
} flood;

static void on_signal(int signal)
{
    asked = 1;
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value = text ? strtoull(text, NULL, 10) : 0;
    return value ? value : otherwise;
}

static void say(struct worker *worker, const struct record *record, size_t size,
                const uint8_t *rest, size_t rest_size)
{
    trunk_send_record(worker, PARTNER, 0, record, size, rest, rest_size);
}

// A key frame of VP8, as far as anybody looks.
static void send_media(struct worker *worker, uint64_t trunk_id, uint64_t index)
{
    uint8_t rtp[RTP_HEADER + 200] = {0};
    rtp_header_write(rtp, &(struct rtp_header){.pt = 96,
                                               .seq = (uint16_t)index,
                                               .timestamp = (uint32_t)index * 90,
                                               .ssrc = 0xf100d});
    rtp[RTP_HEADER] = 0x10;
    struct record record = {.type = RECORD_MEDIA,
                            .flags = MEDIA_KEYFRAME,
                            .header = RTP_HEADER,
                            .payload = sizeof(rtp) - RTP_HEADER,
                            .trunk_id = trunk_id,
                            .media = {.index = index, .timestamp = (uint32_t)index * 90}};
    say(worker, &record, MEDIA_HEAD, rtp, sizeof(rtp));
}

static struct stream *pick_stream(struct worker *worker)
{
    const struct tables *tables = &worker->tables;
    for (uint32_t i = 0; i < tables->max_streams; i++) {
        struct stream *stream = tables->streams[++flood.at % tables->max_streams];
        if (stream && stream->trunk_id && stream->track[0].next_index)
            return stream;
    }
    return NULL;
}

static struct session *pick_viewer(struct worker *worker)
{
    const struct tables *tables = &worker->tables;
    for (uint32_t i = 0; i < tables->session_end; i++) {
        struct session *session = &tables->sessions[++flood.at % tables->session_end];
        if (session->state == SESSION_KEYED && session->role == ROLE_PLAY)
            return session;
    }
    return NULL;
}

// What the partner has already, and of a stream of ours what nobody can have so much of.
static void send_known_media(struct worker *worker, struct stream *stream, bool anew)
{
    struct track *track = &stream->track[0];
    uint64_t index = track->next_index - 1 - flood.sent % AGAIN;
    const struct media *media = cache_get(&track->ring, index);
    if (anew && worker->groups[stream->group].config.home)
        send_media(worker, stream->trunk_id, track->next_index++);
    else if (media)
        trunk_send_media(worker, PARTNER, stream, media);
}

static void send_nack(struct worker *worker, const struct stream *stream)
{
    struct record record = {.type = RECORD_NACK, .count = NACK_MAX, .trunk_id = stream->trunk_id};
    for (uint8_t i = 0; i < NACK_MAX; i++)
        record.nack[i] = stream->track[0].next_index - 1 - i;
    say(worker, &record, HEAD + NACK_MAX * sizeof(uint64_t), NULL, 0);
}

// As if the partner's viewer had sent it here: it asks for what it has, and for a key frame.
static void send_feedback(struct worker *worker, const struct stream *stream)
{
    uint8_t rtcp[600];
    struct session *session = pick_viewer(worker);
    struct record record = {.type = RECORD_FEEDBACK, .trunk_id = stream->trunk_id};
    struct sub *sub = session ? tables_sub(&worker->tables, session, 0) : NULL;
    if (!sub)
        return;
    uint16_t seqs[AGAIN];
    for (uint16_t i = 0; i < AGAIN; i++)
        seqs[i] = (uint16_t)(stream->track[0].next_index + sub->delta - 1 - i);
    size_t size = rtcp_write_rr(rtcp, sizeof(rtcp), 0, 1, NULL, 0);
    size = rtcp_write_nack(rtcp, sizeof(rtcp), size, 1, sub->ssrc, seqs, AGAIN);
    size = rtcp_write_pli(rtcp, sizeof(rtcp), size, 1, sub->ssrc);
    memcpy(record.ufrag, session->ice.ufrag, sizeof(record.ufrag));
    say(worker, &record, FEEDBACK_HEAD, rtcp, size);
}

static void send_malformed(struct worker *worker, const struct stream *stream)
{
    struct record record = {.type = (uint8_t)(flood.sent >> 4),
                            .track = (uint8_t)(flood.sent >> 12),
                            .count = UINT8_MAX,
                            .trunk_id = stream->trunk_id};
    say(worker, &record, HEAD, NULL, 0);
}

static void send_one(struct worker *worker)
{
    struct stream *stream = pick_stream(worker);
    uint64_t number = flood.sent++;
    if (!stream) {
        send_media(worker, number, number);
        return;
    }
    struct record key = {.type = RECORD_KEY, .trunk_id = stream->trunk_id};
    switch (number % 16) {
    case 0 ... 2:
        send_media(worker, number << 32 | 0xf100d, number);
        break;
    case 3 ... 5:
        send_known_media(worker, stream, false);
        break;
    case 6 ... 8:
        send_known_media(worker, stream, true);
        break;
    case 9:
        trunk_tell_source(worker, stream, PARTNER);
        break;
    case 10 ... 11:
        send_nack(worker, stream);
        break;
    case 12:
        say(worker, &key, HEAD, NULL, 0);
        break;
    case 13 ... 14:
        send_feedback(worker, stream);
        break;
    default:
        send_malformed(worker, stream);
    }
}

static void begin(const struct worker *worker)
{
    asked = 0;
    flood.each_ns = 1000000000 / setting("FLOOD_PPS", 250000);
    flood.began_ns = worker->now_ns;
    flood.end_ns = worker->now_ns + setting("FLOOD_S", 5) * 1000000000;
    flood.sent = 0;
}

void __wrap_housekeep(struct worker *worker) // NOLINT(bugprone-reserved-identifier)
{
    static bool ready;
    __real_housekeep(worker);
    if (worker->id != 0)
        return;
    if (!ready)
        ready = signal(SIGUSR1, on_signal) != SIG_ERR;
    if (asked)
        begin(worker);
    if (!flood.began_ns || !worker->peers[PARTNER].present)
        return;
    uint64_t due = (worker->now_ns - flood.began_ns) / flood.each_ns;
    for (unsigned i = 0; i < TURN_RECORDS && flood.sent < due; i++)
        send_one(worker);
    if (worker->now_ns < flood.end_ns)
        return;
    fprintf(stderr, "flood: %llu records in %llu ms\n", (unsigned long long)flood.sent,
            (unsigned long long)(worker->now_ns - flood.began_ns) / 1000000);
    flood.began_ns = 0;
}
