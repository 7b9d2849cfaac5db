// What a viewer sees of loss under each NACK policy: whole workers under a virtual clock, a
// publisher and a viewer per network, every policy with the same losses.
//
// Publishers send 30 frames a second of VP8 in three temporal layers (a key frame of 12 packets
// every ten seconds and when asked, else 4, 2, 3 and 2 packets of 1,000 bytes) and Opus at 50
// packets a second. Viewers are tests/sim/viewer.h's: they hold a picture back for 40 ms, one round
// trip and the narrow link's queue, and ask again after 100 ms, which is what Chromium takes for
// the round trip where it only receives. Losses hit both directions alike. A narrow link carries
// 15 % more than the stream.
#include "../sim/link.h"
#include "../sim/viewer.h"
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>

#define FRAME_NS (33 * MS)
#define AUDIO_NS (20 * MS)
#define REPORT_NS (1000 * MS)
#define KEY_FRAMES 300 // frames from one key frame to the next
#define WARM_UP_MS 3000
#define SECONDS 60
#define HOLD_NS (40 * MS)
#define QUEUE_NS (100 * MS)
#define NARROW (1.15 * 96500 / 1e9) // bytes per ns; the stream's share of it is 96,500 bytes/s
#define BODY 1000
#define PUSH_MAX 24 // packets per turn: less than one burst
#define FLIGHT 1024 // packets on their way, per viewer; a power of two
#define UP_MAX 16
#define UP_BYTES 320
#define SEQ_TOP UINT64_C(0x10000) // viewers' extended numbers begin above it

static const double losses[] = {0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2};
static const unsigned rtts_ms[] = {20, 100};
#define LOSSES RTE_DIM(losses)
#define RTTS RTE_DIM(rtts_ms)
#define NETWORKS (LOSSES * RTTS * 2 * 2)

enum arrival_kind { ARRIVAL_VIDEO, ARRIVAL_AUDIO, ARRIVAL_REPORT };

struct arrival {
    uint64_t at_ns;
    enum arrival_kind kind;
    uint32_t lsr; // of a sender report
    uint16_t seq;
    struct viewer_packet video;
};

struct message {
    uint64_t at_ns;
    size_t length;
    uint8_t bytes[UP_BYTES];
};

struct network {
    double loss;
    unsigned rtt_ms;
    bool bursts, narrow;
};

// A publisher, its viewer, and what is between the appliance and the viewer.
struct line {
    struct network network;
    struct client publisher, client;
    struct link down, up;
    struct viewer viewer;
    struct arrival flight[FLIGHT];
    unsigned flight_head, flight_tail;
    struct message messages[UP_MAX];
    unsigned message_head, message_tail;
    uint64_t phase_ns; // the publisher's first frame

    uint64_t video_index, audio_index;
    uint32_t frame, since_key;
    uint32_t low, middle; // newest frames of the lower temporal layers
    uint32_t refers_to;
    uint8_t part, parts, layer;
    bool key, key_wanted;

    uint32_t lsr;
    uint64_t lsr_ns, reported_ns;
    uint16_t highest_seq;
    uint64_t media, again, audio_sent, audio_came;
};

// What lines of one kind add up to.
struct figures {
    double still, frames, freezes, freeze_s, seconds, again, media, audio_lost, audio;
};

struct run {
    struct world world;
    struct line *lines;
    unsigned count, pushed;
    uint64_t end_ns;
};

static struct network network_of(unsigned number)
{
    return (struct network){.loss = losses[number % LOSSES],
                            .rtt_ms = rtts_ms[number / LOSSES % RTTS],
                            .bursts = number / LOSSES / RTTS % 2,
                            .narrow = number / LOSSES / RTTS / 2 % 2};
}

// ---- the publisher

static void take_out(struct run *run);

static void push(struct run *run, struct line *line, const uint8_t *wire, size_t size)
{
    world_inject(&run->world, 0, &line->publisher.addr, run->world.config.media4.port, wire, size);
    if (++run->pushed == PUSH_MAX) {
        world_turn(&run->world);
        take_out(run);
        run->pushed = 0;
    }
}

static void publish(struct run *run, struct line *line, uint32_t ssrc, uint64_t index,
                    uint32_t timestamp, const uint8_t *payload, size_t size)
{
    uint8_t wire[1500];
    bool video = ssrc == VIDEO_SSRC;
    struct rtp_header header = {.pt = video ? 96 : 111,
                                .marker = !video || line->part + 1 == line->parts,
                                .seq = (uint16_t)index,
                                .timestamp = timestamp,
                                .ssrc = ssrc};
    rtp_header_write(wire, &header);
    struct seal_job job = {.tx = &line->publisher.tx,
                           .src = payload,
                           .dst = wire,
                           .header_len = RTP_HEADER,
                           .payload_len = (uint16_t)size,
                           .ssrc = ssrc,
                           .index = index};
    protect_seal(run->world.crypto, &job, 1);
    push(run, line, wire, RTP_HEADER + size + protect_tag_len(line->publisher.tx.key.profile));
}

// The next frame: layers 0 2 1 2, each referring to the newest below it.
static void begin_frame(struct line *line)
{
    line->key = line->frame == 0 || line->key_wanted || line->since_key >= KEY_FRAMES;
    line->since_key = line->key ? 0 : line->since_key + 1;
    line->key_wanted = false;
    line->part = 0;
    line->layer = line->since_key % 4 == 0 ? 0 : line->since_key % 4 == 2 ? 1 : 2;
    line->parts = line->key ? 12 : line->layer == 0 ? 4 : line->layer == 1 ? 3 : 2;
    line->refers_to = line->layer == 2 ? line->middle : line->low;
    if (line->layer == 0)
        line->low = line->frame;
    if (line->layer <= 1)
        line->middle = line->frame;
}

// RFC 7741: S or not, then X with I (15 bits), L, T; P bit behind it. The body tells the frame.
static void send_part(struct run *run, struct line *line)
{
    static uint8_t payload[BODY];
    payload[0] = (uint8_t)(0x80 | (line->part == 0 ? 0x10 : 0));
    payload[1] = 0xe0;
    store_be16(payload + 2, (uint16_t)(0x8000 | (line->frame & 0x7fff)));
    payload[4] = (uint8_t)line->low;
    payload[5] = (uint8_t)(line->layer << 6);
    payload[6] = line->key ? 0 : 1;
    store_be32(payload + 8, line->frame);
    store_be32(payload + 12, line->refers_to);
    payload[16] = line->part;
    payload[17] = line->parts;
    payload[18] = line->key;
    publish(run, line, VIDEO_SSRC, ++line->video_index, line->frame * 2970, payload, BODY);
    if (++line->part == line->parts)
        line->frame++;
}

static void send_clocks(struct run *run, struct line *line)
{
    const struct {
        uint32_t ssrc, rate;
    } tracks[] = {{VIDEO_SSRC, 90000}, {AUDIO_SSRC, 48000}};
    uint8_t packet[256];
    size_t length = 0;
    uint64_t now_ns = run->world.now_ns;
    for (unsigned i = 0; i < RTE_DIM(tracks); i++) {
        struct rtcp_sender sender = {
            .ssrc = tracks[i].ssrc,
            .ntp = rtcp_ntp_from_ns(now_ns),
            .rtp = (uint32_t)((now_ns - line->phase_ns) / 1000 * tracks[i].rate / 1000000)};
        length =
            rtcp_write_sr(packet, sizeof(packet) - PROTECT_RTCP_ROOM, length, &sender, NULL, 0);
    }
    protect_rtcp_seal(run->world.crypto, &line->publisher.rtcp_tx, packet, length,
                      ++line->publisher.rtcp_index, &length);
    push(run, line, packet, length);
}

static void publisher_turn(struct run *run, struct line *line)
{
    uint64_t now_ns = run->world.now_ns;
    static const uint8_t opus[80];
    if (now_ns < line->phase_ns)
        return;
    uint64_t age_ns = now_ns - line->phase_ns;
    if (age_ns % REPORT_NS == 0)
        send_clocks(run, line);
    if (age_ns % AUDIO_NS == 0) {
        line->audio_index++;
        publish(run, line, AUDIO_SSRC, line->audio_index, (uint32_t)(line->audio_index * 960), opus,
                sizeof(opus));
    }
    if (line->part == line->parts && age_ns >= line->frame * FRAME_NS)
        begin_frame(line);
    if (line->part < line->parts)
        send_part(run, line);
}

// ---- what the appliance sends

static void note_key_request(struct run *run, struct line *line, const uint8_t *data, size_t length)
{
    uint8_t plain[2048];
    size_t size;
    uint32_t index;
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    line->publisher.rtcp.ssrc = load_be32(data + 4);
    if (protect_rtcp_open(run->world.crypto, &line->publisher.rtcp_rx, &line->publisher.rtcp, data,
                          length, plain, &size, &index))
        return;
    rtcp_begin(&iter, plain, size);
    while (rtcp_next(&iter, &packet) == 1)
        line->key_wanted |= rtcp_is_pli(&packet);
}

static bool read_report(struct run *run, struct line *line, const uint8_t *data, size_t length,
                        struct arrival *arrival)
{
    uint8_t plain[2048];
    size_t size;
    uint32_t index;
    struct rtcp_iter iter;
    struct rtcp_packet packet;
    struct rtcp_sender sender;
    line->client.rtcp.ssrc = load_be32(data + 4);
    if (protect_rtcp_open(run->world.crypto, &line->client.rtcp_rx, &line->client.rtcp, data,
                          length, plain, &size, &index))
        return false;
    arrival->kind = ARRIVAL_REPORT;
    rtcp_begin(&iter, plain, size);
    while (rtcp_next(&iter, &packet) == 1)
        if (rtcp_read_sr(&packet, &sender) && sender.ssrc == line->client.rtp[0].ssrc)
            arrival->lsr = rtcp_ntp_middle(sender.ntp);
    return arrival->lsr != 0;
}

static bool read_media(struct run *run, struct line *line, const uint8_t *data, size_t length,
                       struct arrival *arrival)
{
    uint8_t plain[2048];
    size_t size;
    uint64_t index;
    struct rtp_view view;
    uint32_t ssrc = load_be32(data + 8);
    unsigned which = ssrc == line->client.rtp[0].ssrc   ? 0
                     : ssrc == line->client.rtp[1].ssrc ? 1
                                                        : 2;
    if (protect_open(run->world.crypto, &line->client.rx, &line->client.rtp[which], data, length,
                     plain, &size, &index) ||
        rtp_parse(plain, size, &view))
        return false;
    const uint8_t *payload = plain + view.header;
    arrival->kind = which == 1 ? ARRIVAL_AUDIO : ARRIVAL_VIDEO;
    arrival->seq = view.seq;
    if (which == 2) {
        rtp_rtx_osn(&view, &arrival->seq);
        payload += RTP_RTX_OSN;
    }
    arrival->video = (struct viewer_packet){.frame = load_be32(payload + 8),
                                            .refers_to = load_be32(payload + 12),
                                            .part = payload[16],
                                            .parts = payload[17],
                                            .key = payload[18],
                                            .again = which == 2};
    return true;
}

// A frame to the viewer goes through the link; what arrives is opened at once, for later.
static void take_down(struct run *run, struct line *line, const struct world_frame *frame)
{
    const uint8_t *data = frame->bytes + frame->parsed.payload;
    bool media = frame->parsed.class == CLASS_RTP;
    uint64_t at_ns = link_send(&line->down, run->world.now_ns, frame->length);
    if (media && load_be32(data + 8) == line->client.rtp[1].ssrc)
        line->audio_sent++;
    else if (media && load_be32(data + 8) == line->client.rtp[0].ssrc)
        line->media++;
    else
        line->again += media;
    struct arrival *arrival = &line->flight[line->flight_head % FLIGHT];
    *arrival = (struct arrival){.at_ns = at_ns};
    if (at_ns && (media ? read_media : read_report)(run, line, data, frame->parsed.length, arrival))
        line->flight_head++;
}

static void take_out(struct run *run)
{
    for (unsigned i = 0; i < run->world.out_count; i++) {
        const struct world_frame *frame = &run->world.out[i];
        const uint8_t *ip = frame->parsed.dst.ip;
        unsigned slot = (ip[2] - 1u) * 250 + ip[3] - 1u;
        struct line *line = &run->lines[slot / 2];
        if (slot % 2)
            take_down(run, line, frame);
        else if (frame->parsed.class == CLASS_RTCP)
            note_key_request(run, line, frame->bytes + frame->parsed.payload, frame->parsed.length);
    }
    run->world.out_count = 0;
}

// ---- the viewer

static void say(struct run *run, struct line *line, const uint8_t *packet, size_t length)
{
    uint64_t at_ns = link_send(&line->up, run->world.now_ns, (uint32_t)length);
    struct message *message = &line->messages[line->message_head % UP_MAX];
    if (at_ns == 0 || line->message_head - line->message_tail == UP_MAX)
        return;
    message->at_ns = at_ns;
    message->length = length;
    memcpy(message->bytes, packet, length);
    line->message_head++;
}

static void deliver_messages(struct run *run, struct line *line)
{
    while (line->message_tail != line->message_head) {
        struct message *message = &line->messages[line->message_tail % UP_MAX];
        if (message->at_ns > run->world.now_ns)
            return;
        uint8_t packet[UP_BYTES + PROTECT_RTCP_ROOM];
        size_t length;
        memcpy(packet, message->bytes, message->length);
        protect_rtcp_seal(run->world.crypto, &line->client.rtcp_tx, packet, message->length,
                          ++line->client.rtcp_index, &length);
        world_inject(&run->world, 0, &line->client.addr, run->world.config.media4.port, packet,
                     length);
        line->message_tail++;
        run->pushed++;
    }
}

static void report(struct run *run, struct line *line)
{
    uint8_t packet[UP_BYTES];
    uint64_t now_ns = run->world.now_ns;
    struct rtcp_block block = {.ssrc = line->client.rtp[0].ssrc,
                               .fraction_lost = viewer_report(&line->viewer),
                               .highest_seq = line->highest_seq,
                               .lsr = line->lsr,
                               .dlsr = line->lsr ? rtcp_dlsr_from_ns(now_ns - line->lsr_ns) : 0};
    line->reported_ns = now_ns;
    say(run, line, packet, rtcp_write_rr(packet, sizeof(packet), 0, 1, &block, 1));
}

static void ask(struct run *run, struct line *line)
{
    uint8_t packet[UP_BYTES];
    uint16_t seqs[VIEWER_ASK];
    uint64_t now_ns = run->world.now_ns;
    uint32_t ssrc = line->client.rtp[0].ssrc;
    size_t empty = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0), length = empty;
    unsigned count = viewer_ask(&line->viewer, now_ns, seqs);
    if (count)
        length = rtcp_write_nack(packet, sizeof(packet), length, 1, ssrc, seqs, count);
    if (viewer_wants_key(&line->viewer, now_ns))
        length = rtcp_write_pli(packet, sizeof(packet), length, 1, ssrc);
    if (length > empty)
        say(run, line, packet, length);
}

static void viewer_side(struct run *run, struct line *line)
{
    uint64_t now_ns = run->world.now_ns;
    while (line->flight_tail != line->flight_head &&
           line->flight[line->flight_tail % FLIGHT].at_ns <= now_ns) {
        struct arrival *a = &line->flight[line->flight_tail++ % FLIGHT];
        if (a->kind == ARRIVAL_REPORT) {
            line->lsr = a->lsr;
            line->lsr_ns = now_ns;
        } else if (a->kind == ARRIVAL_AUDIO) {
            line->audio_came++;
        } else {
            uint64_t highest = line->viewer.highest ? line->viewer.highest : SEQ_TOP + a->seq;
            a->video.index = rtp_nearest_seq(highest, a->seq);
            line->highest_seq = (uint16_t)highest;
            viewer_receive(&line->viewer, &a->video, now_ns);
        }
    }
    viewer_turn(&line->viewer, now_ns);
    if (line->viewer.highest == 0)
        return;
    ask(run, line);
    if (now_ns - line->reported_ns >= REPORT_NS)
        report(run, line);
}

// ---- one policy

static void start_lines(struct run *run, uint64_t seed)
{
    struct world *world = &run->world;
    for (unsigned i = 0; i < run->count; i++) {
        struct line *line = &run->lines[i];
        uint64_t id = bench_stream_id(i);
        memset(line, 0, sizeof(*line));
        line->network = network_of(i % NETWORKS);
        world_open_stream(world, id, 0, 0);
        world_join(world, &line->publisher, ROLE_PUBLISH, id, 0, 2 * i, PROFILE_AEAD_AES_128_GCM,
                   true);
        world_join(world, &line->client, ROLE_PLAY, id, 0, 2 * i + 1, PROFILE_AEAD_AES_128_GCM,
                   true);
    }
    for (unsigned i = 0; i < run->count; i++) {
        struct line *line = &run->lines[i];
        const struct network *n = &line->network;
        uint64_t delay_ns = n->rtt_ms * MS / 2;
        line->phase_ns = world->now_ns + (i * 7 % 33 + 1) * MS;
        uint64_t hold_ns = HOLD_NS + n->rtt_ms * MS + (n->narrow ? QUEUE_NS : 0);
        viewer_init(&line->viewer, line->phase_ns + delay_ns + hold_ns, FRAME_NS, 0,
                    (5 + i % 6) * MS);
        link_init(&line->down, 0, n->bursts, delay_ns, seed + 2 * i);
        link_init(&line->up, 0, n->bursts, delay_ns, seed + 2 * i + 1);
    }
}

static void begin_losses(struct run *run)
{
    for (unsigned i = 0; i < run->count; i++) {
        struct line *line = &run->lines[i];
        line->down.loss = line->up.loss = line->network.loss;
        if (line->network.narrow) {
            line->down.bytes_per_ns = NARROW;
            line->down.queue_ns = QUEUE_NS;
        }
        line->media = line->again = line->audio_sent = line->audio_came = 0;
        viewer_restart_figures(&line->viewer);
    }
}

static void pass(struct run *run, unsigned ms)
{
    for (unsigned t = 0; t < ms; t++) {
        run->world.now_ns += MS;
        run->pushed = 0;
        for (unsigned i = 0; i < run->count; i++) {
            publisher_turn(run, &run->lines[i]);
            deliver_messages(run, &run->lines[i]);
        }
        world_turn(&run->world);
        take_out(run);
        for (unsigned i = 0; i < run->count; i++)
            viewer_side(run, &run->lines[i]);
        while (world_heard(&run->world, 0, MSG_STREAM_STATE, NULL, 0))
            ;
    }
}

static void add_up(struct figures *sum, const struct line *line)
{
    const struct viewer *v = &line->viewer;
    sum->still += (double)v->still;
    sum->frames += SECONDS * 1e9 / FRAME_NS;
    sum->freezes += (double)v->freezes;
    sum->freeze_s += (double)v->freeze_ns / 1e9;
    sum->seconds += SECONDS;
    sum->again += (double)line->again;
    sum->media += (double)line->media;
    sum->audio_lost += (double)line->audio_sent - (double)line->audio_came;
    sum->audio += (double)line->audio_sent;
}

static void measure(struct run *run, enum abi_nack_policy policy, struct figures *figures)
{
    static bool once;
    struct abi_config config = {.workers = 1,
                                .max_sessions = 2 * run->count,
                                .max_streams = run->count,
                                .rx_mbufs = 8192,
                                .tx_mbufs = 8192,
                                .cache_mbufs = 16384 + 512 * run->count,
                                .cache_ms = 2000,
                                .nack_policy = policy};
    srandom(1); // the same keys and numbers
    if (once ? world_start_node(&run->world, &config) : world_start(&run->world, &config))
        exit(1);
    once = true;
    start_lines(run, 1);
    pass(run, WARM_UP_MS);
    begin_losses(run);
    pass(run, SECONDS * 1000);
    memset(figures, 0, NETWORKS * sizeof(*figures));
    for (unsigned i = 0; i < run->count; i++) {
        viewer_end(&run->lines[i].viewer, run->world.now_ns);
        add_up(&figures[i % NETWORKS], &run->lines[i]);
        viewer_free(&run->lines[i].viewer);
    }
    if (bench_drop(&run->world, DROP_no_mbuf) || bench_drop(&run->world, DROP_tx_full))
        fprintf(stderr, "bench_frozen: packets were dropped for want of buffers\n");
    world_stop_node(&run->world);
}

// ---- the table

static void print_json(const struct network *n, const char *policy, const struct figures *f)
{
    printf("{\"bench\":\"frozen\",\"policy\":\"%s\",\"loss\":%g,\"bursts\":%s,\"narrow\":%s,"
           "\"rtt_ms\":%u,\"frozen_frames\":%.5f,\"freezes_per_minute\":%.2f,"
           "\"frozen_share\":%.5f,\"resent\":%.4f,\"audio_lost\":%.5f}\n",
           policy, n->loss, n->bursts ? "true" : "false", n->narrow ? "true" : "false", n->rtt_ms,
           f->still / f->frames, f->freezes * 60 / f->seconds, f->freeze_s / f->seconds,
           f->again / f->media, f->audio_lost / f->audio);
}

static void print_row(const struct network *n, const struct figures *always,
                      const struct figures *adaptive)
{
    printf("%-6s  %-6s %5.1f %%   %7.2f %8.2f    %6.2f %8.2f    %6.2f %8.2f    %6.2f %8.2f\n",
           n->narrow ? "narrow" : "wide", n->bursts ? "bursts" : "even", 100 * n->loss,
           100 * always->still / always->frames, 100 * adaptive->still / adaptive->frames,
           always->freezes * 60 / always->seconds, adaptive->freezes * 60 / adaptive->seconds,
           100 * always->again / always->media, 100 * adaptive->again / adaptive->media,
           100 * always->audio_lost / always->audio, 100 * adaptive->audio_lost / adaptive->audio);
}

static struct figures both(const struct figures *a, const struct figures *b)
{
    return (struct figures){.still = a->still + b->still,
                            .frames = a->frames + b->frames,
                            .freezes = a->freezes + b->freezes,
                            .seconds = a->seconds + b->seconds,
                            .again = a->again + b->again,
                            .media = a->media + b->media,
                            .audio_lost = a->audio_lost + b->audio_lost,
                            .audio = a->audio + b->audio};
}

static void print_table(const struct figures *always, const struct figures *adaptive)
{
    printf("                          frozen frames, %%    freezes/minute     resent, %%          "
           "audio lost, %%\n"
           "link    loss              always adaptive    always adaptive    always adaptive    "
           "always adaptive\n");
    double still[2] = {0}, frames[2] = {0};
    for (unsigned i = 0; i < NETWORKS; i++) {
        struct network n = network_of(i);
        still[n.narrow] += always[i].still - adaptive[i].still;
        frames[n.narrow] += always[i].frames;
        if (n.rtt_ms != rtts_ms[0])
            continue;
        struct figures a = both(&always[i], &always[i + LOSSES]);
        struct figures b = both(&adaptive[i], &adaptive[i + LOSSES]);
        print_row(&n, &a, &b);
    }
    printf("frozen frames, always less adaptive: wide %+.2f %%, narrow %+.2f %%\n",
           100 * still[0] / frames[0], 100 * still[1] / frames[1]);
}

int main(int argc, char **argv)
{
    static struct figures always[NETWORKS], adaptive[NETWORKS];
    struct bench_options o = {.sessions = 4 * NETWORKS};
    bench_parse(&o, argc, argv);
    struct run *run = bench_memory(sizeof(*run));
    run->count = o.sessions < NETWORKS ? NETWORKS : o.sessions / NETWORKS * NETWORKS;
    run->lines = bench_memory(run->count * sizeof(*run->lines));
    measure(run, ABI_NACK_ALWAYS, always);
    measure(run, ABI_NACK_ADAPTIVE, adaptive);
    for (unsigned i = 0; i < NETWORKS && o.json; i++) {
        struct network n = network_of(i);
        print_json(&n, "always", &always[i]);
        print_json(&n, "adaptive", &adaptive[i]);
    }
    if (!o.json)
        print_table(always, adaptive);
    free(run->lines);
    free(run);
    eal_stop();
    return 0;
}
