// Retransmission under loss: one stream to many viewers, each of which loses packets by chance,
// asks for them in one request every REQUEST_NS, and asks again after a round trip. What the worker
// sends vanishes in a null port, but is looked at on the way: repeated packets are opened and
// compared with what was asked for.
//
// Events are simulated, but time is what the worker's turns really take: arrivals wait while a turn
// runs, and a request's latency is from its arrival to the end of the turn that answered it.
// Latencies and answers are those at a rate that loads the worker to half; throughput is compared,
// with loss and without in turns, where it is always busy.
#include "bench.h"
#include <inttypes.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_NS 20000000u // between a viewer's requests; libwebrtc's least is 20 ms
#define RTT_NS 40000000u
#define GIVE_UP_NS 1000000000ull
#define WANTED_MAX 1024 // packets that a viewer misses at a time
#define ROUND_NS 400000000ull
#define ROUNDS 7
#define LATENCIES 4000000
#define NOTES (BURST * WANTED_MAX)
#define MEDIA_MAX 400000
#define REPEATS_MAX 65536 // in a turn
#define REPEAT_ROOM 1536
#define HEADERS (14 + 20 + 8)

struct wanted {
    uint16_t seq;
    uint64_t since_ns, asked_ns; // asked_ns 0: not yet
};

struct viewer {
    struct client *client;
    struct wanted wanted[WANTED_MAX];
    unsigned count;
    uint64_t request_ns; // next
};

struct tally {
    uint64_t asked, answered, recovered, given_up, packets, cycles;
};

static struct world world;
static struct bench_crowd crowd;
static struct viewer *viewers;
static double *latencies;
static unsigned latency_count;
static struct tally tally;
static double loss;
static uint64_t overhead;

static bool lost(void)
{
    return loss > 0 && (double)random() < loss * 2147483648.0;
}

static void miss(struct viewer *v, uint16_t seq)
{
    if (v->count < WANTED_MAX)
        v->wanted[v->count++] = (struct wanted){.seq = seq, .since_ns = world.now_ns};
}

static void take_video(struct viewer *v, uint16_t seq)
{
    tally.packets++;
    if (lost())
        miss(v, seq);
}

static void take_rtx(struct viewer *v, const uint8_t *rtp, size_t length)
{
    uint8_t plain[2048];
    size_t size;
    uint64_t index;
    struct rtp_view view;
    uint16_t seq;
    if (lost())
        return;
    if (protect_open(world.crypto, &v->client->rx, &v->client->rtp[2], rtp, length, plain, &size,
                     &index) ||
        rtp_parse(plain, size, &view) || rtp_rtx_osn(&view, &seq)) {
        fputs("bench_nack: a repeated packet cannot be opened\n", stderr);
        exit(1);
    }
    for (unsigned i = 0; i < v->count; i++) {
        if (v->wanted[i].seq != seq)
            continue;
        v->wanted[i] = v->wanted[--v->count];
        tally.recovered++;
        return;
    }
}

// What the port was given in a turn: all that happens on the worker's time is to write it down.
static struct {
    uint32_t ssrc;
    uint16_t seq;
} media[MEDIA_MAX];
static uint8_t (*repeats)[REPEAT_ROOM];
static uint16_t repeat_length[REPEATS_MAX];
static unsigned media_count, repeat_count;

static uint16_t note(uint16_t port, uint16_t queue, struct rte_mbuf *packets[], uint16_t n,
                     void *arg)
{
    for (uint16_t i = 0; i < n; i++) {
        const uint8_t *rtp = rte_pktmbuf_mtod(packets[i], const uint8_t *) + HEADERS;
        unsigned kind = rtp[8]; // first byte of the SSRC, see world_join
        if (rtp[1] >= 192 && rtp[1] <= 223)
            continue;
        if (kind == 1 && media_count < MEDIA_MAX) {
            media[media_count].ssrc = load_be32(rtp + 8);
            media[media_count++].seq = load_be16(rtp + 2);
        } else if (kind == 3 && repeat_count < REPEATS_MAX) {
            uint16_t length = (uint16_t)(rte_pktmbuf_data_len(packets[i]) - HEADERS);
            memcpy(repeats[repeat_count], rtp, length);
            repeat_length[repeat_count++] = length;
        }
    }
    return n;
}

static struct viewer *viewer_of(uint32_t ssrc)
{
    return &viewers[(ssrc & 0xffffff) - 1]; // the publisher has slot 0
}

// Hands out what was sent.
static void collect(void)
{
    if (media_count == MEDIA_MAX || repeat_count == REPEATS_MAX) {
        fputs("bench_nack: a turn sent more than can be noted\n", stderr);
        exit(1);
    }
    for (unsigned i = 0; i < media_count; i++)
        take_video(viewer_of(media[i].ssrc), media[i].seq);
    for (unsigned i = 0; i < repeat_count; i++)
        take_rtx(viewer_of(load_be32(repeats[i] + 8)), repeats[i], repeat_length[i]);
    media_count = repeat_count = 0;
}

// The viewer's request for what it misses now. Returns packets asked for.
static unsigned request(struct viewer *v)
{
    uint16_t seqs[WANTED_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < v->count;) {
        struct wanted *w = &v->wanted[i];
        if (world.now_ns - w->since_ns > GIVE_UP_NS) {
            *w = v->wanted[--v->count];
            tally.given_up++;
            continue;
        }
        if (!w->asked_ns || world.now_ns - w->asked_ns >= RTT_NS) {
            w->asked_ns = world.now_ns;
            seqs[n++] = w->seq;
        }
        i++;
    }
    if (!n)
        return 0;
    uint8_t packet[1400];
    size_t size, length = rtcp_write_rr(packet, sizeof(packet), 0, 1, NULL, 0);
    length = rtcp_write_nack(packet, 1300, length, 1, v->client->rtp[0].ssrc, seqs, n);
    protect_rtcp_seal(world.crypto, &v->client->rtcp_tx, packet, length, ++v->client->rtcp_index,
                      &size);
    world_inject(&world, 0, &v->client->addr, world.config.media4.port, packet, size);
    return n;
}

struct schedule {
    uint64_t publish_ns;
    uint64_t interval_ns; // 0: one packet is always there
    unsigned next;        // viewer whose turn to ask is next; they are spread evenly
};

// Puts what has arrived by now on the wire, 32 frames at most, and notes when the requests for each
// packet came. Returns the number of frames.
static unsigned arrive(struct schedule *s, uint64_t *arrivals, unsigned *notes)
{
    unsigned frames = 0, noted = 0;
    while (frames < BURST && s->publish_ns <= world.now_ns) {
        bench_publish(&crowd, 0, 1);
        s->publish_ns += s->interval_ns;
        frames++;
        if (!s->interval_ns)
            break;
    }
    while (frames < BURST && loss > 0 && viewers[s->next].request_ns <= world.now_ns) {
        struct viewer *v = &viewers[s->next];
        unsigned asked = request(v);
        tally.asked += asked;
        for (unsigned i = 0; i < asked && noted < NOTES; i++)
            arrivals[noted++] = v->request_ns;
        frames += asked > 0;
        v->request_ns += REQUEST_NS;
        s->next = (s->next + 1) % crowd.options->subscribers;
    }
    *notes = noted;
    return frames;
}

static void skip_to_next_event(const struct schedule *s)
{
    uint64_t next = s->publish_ns;
    if (loss > 0 && viewers[s->next].request_ns < next)
        next = viewers[s->next].request_ns;
    if (next > world.now_ns)
        world.now_ns = next;
}

static double ns_per_cycle;

static void simulate(uint64_t interval_ns, uint64_t duration_ns)
{
    static uint64_t arrivals[NOTES];
    struct schedule s = {.publish_ns = world.now_ns, .interval_ns = interval_ns};
    uint64_t end = world.now_ns + duration_ns;
    unsigned n = crowd.options->subscribers;
    for (unsigned v = 0; v < n; v++) {
        viewers[v].request_ns = world.now_ns + (uint64_t)REQUEST_NS * v / n;
        viewers[v].count = 0;
    }
    while (world.now_ns < end) {
        unsigned noted;
        if (arrive(&s, arrivals, &noted) == 0) {
            skip_to_next_event(&s);
            continue;
        }
        uint64_t before = bench_count(&world, COUNT_nack_answered);
        uint64_t cycles = bench_turn(&world, 0) - overhead;
        tally.cycles += cycles;
        tally.answered += bench_count(&world, COUNT_nack_answered) - before;
        world.now_ns += (uint64_t)((double)cycles * ns_per_cycle);
        for (unsigned i = 0; i < noted && interval_ns && latency_count < LATENCIES; i++)
            latencies[latency_count++] = (double)(world.now_ns - arrivals[i]) / 1000;
        collect();
    }
}

// Requests that are still open when time is up are served before the next round.
static struct tally round_of(double share, uint64_t interval_ns)
{
    loss = share;
    tally = (struct tally){0};
    simulate(interval_ns, ROUND_NS);
    return tally;
}

static double per_packet(const struct tally *t)
{
    return (double)t->cycles / (double)t->packets;
}

static void measure(double share, uint64_t interval_ns)
{
    double ratios[ROUNDS];
    struct tally sum = {0};
    double best = 0;
    latency_count = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct tally clean = round_of(0, 0), t = round_of(share, 0);
        ratios[i] = per_packet(&clean) / per_packet(&t);
        best += 1e9 / ns_per_cycle / per_packet(&clean) / ROUNDS;
        t = round_of(share, interval_ns);
        sum.asked += t.asked;
        sum.answered += t.answered;
        sum.recovered += t.recovered;
        sum.given_up += t.given_up;
    }
    qsort(latencies, latency_count, sizeof(*latencies), bench_compare);
    double p99 = bench_quantile(latencies, latency_count, 0.99);
    double p50 = bench_quantile(latencies, latency_count, 0.5);
    double ratio = bench_median(ratios, ROUNDS);
    printf(crowd.options->json
               ? "{\"bench\":\"nack\",\"loss\":%.3f,\"sessions\":%u,\"pps\":%.0f,\"asked\":%" PRIu64
                 ",\"answered\":%" PRIu64 ",\"recovered\":%" PRIu64 ",\"given_up\":%" PRIu64
                 ",\"rtx_p50_us\":%.0f,\"rtx_p99_us\":%.0f,\"throughput_ratio\":%.3f,\"lossless_"
                 "pps\":%.0f}\n"
               : "loss %5.3f  %u sessions of %.0f packets/s  asked %" PRIu64 "  answered %" PRIu64
                 "  recovered %" PRIu64 "  given up %" PRIu64
                 "  p50 %.0f us  p99 %.0f us  throughput %.3f of %.0f/s\n",
           share, crowd.options->subscribers, 1e9 / (double)interval_ns, sum.asked, sum.answered,
           sum.recovered, sum.given_up, p50, p99, ratio, best);
    fflush(stdout);
}

static void start(const struct bench_options *o)
{
    struct abi_config config = {
        .port_kind = ABI_PORT_NULL, .workers = 2, .rx_mbufs = 4096, .cache_mbufs = 16384};
    repeats = bench_memory(REPEATS_MAX * sizeof(*repeats));
    bench_crowd_start(&crowd, &world, o, &config, true, NULL);
    if (!rte_eth_add_tx_callback(world.dp.port.id, 0, note, NULL)) {
        fputs("bench_nack: this DPDK has no callbacks\n", stderr);
        exit(1);
    }
    viewers = bench_memory(o->subscribers * sizeof(*viewers));
    latencies = bench_memory(LATENCIES * sizeof(*latencies));
    for (unsigned v = 0; v < o->subscribers; v++)
        viewers[v].client = &crowd.viewer[v];
    ns_per_cycle = 1e9 / (double)rte_get_tsc_hz();
    overhead = bench_cycles_overhead();
}

int main(int argc, char **argv)
{
    static const double shares[] = {0.01, 0.05, 0.2};
    struct bench_options o = {.profile = bench_profile("gcm128"),
                              .path = "memory",
                              .payload = 1172,
                              .subscribers = 1000,
                              .streams = 1,
                              .workers = 1,
                              .loss = -1};
    bench_parse(&o, argc, argv);
    if (o.sessions)
        o.subscribers = o.sessions;
    start(&o);
    // The rate that loads the worker to half.
    struct tally t = round_of(0, 0);
    uint64_t interval = (uint64_t)(2 * per_packet(&t) * ns_per_cycle * o.subscribers);
    if (o.loss >= 0)
        measure(o.loss, interval);
    for (unsigned i = 0; o.loss < 0 && i < RTE_DIM(shares); i++)
        measure(shares[i], interval);
    if (o.stages) {
        bench_stages_start(&world);
        round_of(o.loss >= 0 ? o.loss : shares[0], 0);
        bench_stages_print(&world);
        for (unsigned i = 0; i < DROPS; i++)
            if (bench_drop(&world, i))
                fprintf(stderr, "drop %u: %" PRIu64 "\n", i, bench_drop(&world, i));
    }
    bench_crowd_free(&crowd);
    world_stop(&world);
    return 0;
}
