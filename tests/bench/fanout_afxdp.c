// Fan-out over a veth pair: the publisher's packets come in over the wire, an XDP program counts
// what arrives on the other end. The reference is the port alone, fed with as large packets that
// lie ready in its own buffers, as testpmd would. Rounds of the two alternate; the first is
// dropped.
//
// One thread does everything, the kernel's work on both ends of the pair included. Times are wall
// clock, because the kernel may do its part on behalf of nobody.
#include "fanout.h"
#include "wire.h"
#include <rte_ethdev.h>
#include <stdio.h>

#define ROUNDS 31
#define ROUND_PACKETS 20000 // at least
#define BARE_BURST TX_BATCH

static struct world world;
static struct wire *wire;
static uint64_t generator_cycles, generator_packets;

static void inject(struct world *to, unsigned queue, const uint8_t *frame, size_t length)
{
    if (!wire_send(wire, frame, length))
        fputs("bench: a publisher's frame found no room\n", stderr);
}

// Cycles per packet that arrived.
static double our_round(struct bench_crowd *crowd)
{
    static unsigned s;
    const struct bench_options *o = crowd->options;
    uint64_t before = wire_seen(wire, FAR_RTP), cycles = 0,
             sent = bench_count(&world, COUNT_rtp_out);
    while (bench_count(&world, COUNT_rtp_out) - sent < ROUND_PACKETS) {
        uint64_t start = rte_rdtsc();
        for (unsigned i = 0; i < o->burst; i++, s = (s + 1) % o->streams)
            bench_publish(crowd, s, 1);
        generator_cycles += rte_rdtsc() - start;
        generator_packets += o->burst;
        world.workers[0].now_ns = world.now_ns;
        start = rte_rdtsc();
        worker_turn(&world.workers[0]);
        cycles += rte_rdtsc() - start;
        world.now_ns += 100000;
    }
    return (double)cycles / (double)(wire_settled(wire, FAR_RTP) - before);
}

// The port alone. Its buffers hold whole packets of before.
static double bare_round(uint16_t length)
{
    struct rte_mbuf *burst[BARE_BURST];
    struct rte_mempool *pool = world.workers[0].pools.tx;
    uint64_t before = wire_seen(wire, FAR_RTP), start = rte_rdtsc();
    for (unsigned sent = 0; sent < ROUND_PACKETS; sent += BARE_BURST) {
        if (rte_pktmbuf_alloc_bulk(pool, burst, BARE_BURST))
            continue;
        for (unsigned i = 0; i < BARE_BURST; i++)
            burst[i]->data_len = burst[i]->pkt_len = length;
        uint16_t done = 0;
        for (int tries = 0; tries < 200 && done < BARE_BURST; tries++)
            done += rte_eth_tx_burst(world.dp.port.id, 0, burst + done, BARE_BURST - done);
        rte_pktmbuf_free_bulk(burst + done, BARE_BURST - done);
    }
    uint64_t cycles = rte_rdtsc() - start;
    return (double)cycles / (double)(wire_settled(wire, FAR_RTP) - before);
}

// Fills every buffer of the pool with the same RTP packet, so that the far end counts the port's
// own packets as it counts ours.
static void fill_pool(const struct bench_options *o)
{
    struct rte_mempool *pool = world.workers[0].pools.tx;
    unsigned n = rte_mempool_avail_count(pool);
    struct rte_mbuf **all = bench_memory(n * sizeof(*all));
    unsigned got = 0;
    while (got < n && (all[got] = rte_pktmbuf_alloc(pool)))
        got++;
    for (unsigned i = 0; i < got; i++) {
        uint8_t *at = rte_pktmbuf_mtod(all[i], uint8_t *);
        struct frame_template t;
        struct frame_path path = {.ttl = 64,
                                  .src = world.config.media4,
                                  .dst = {.ip = {10, 9, 1, 1}, .port = 4000, .family = 4}};
        frame_template_init(&t, &path);
        memset(at, 0, t.length + RTP_HEADER + o->payload);
        rtp_header_write(at + t.length, &(struct rtp_header){.pt = 96, .ssrc = 1});
        frame_write(&t, at, RTP_HEADER + o->payload, FRAME_OFFLOAD_NONE);
    }
    rte_pktmbuf_free_bulk(all, got);
    free(all);
}

void fanout_afxdp(struct bench_options *o)
{
    static struct bench_pair pairs[ROUNDS];
    struct bench_crowd crowd;
    struct abi_config config = {
        .port_kind = ABI_PORT_AF_XDP, .device = WIRE_NEAR, .rx_mbufs = 8192, .tx_mbufs = 8192};
    wire = wire_open();
    bench_crowd_start(&crowd, &world, o, &config, false, inject);
    unsigned tag = protect_tag_len(o->profile->id);
    fill_pool(o);
    uint64_t sent = 0, seen = 0;
    for (int i = -1; i < ROUNDS; i++) {
        struct bench_pair *pair = &pairs[i < 0 ? 0 : i];
        uint64_t sent_before = bench_count(&world, COUNT_rtp_out);
        uint64_t seen_before = wire_seen(wire, FAR_RTP);
        pair->ours = our_round(&crowd);
        if (i >= 0) {
            sent += bench_count(&world, COUNT_rtp_out) - sent_before;
            seen += wire_seen(wire, FAR_RTP) - seen_before;
        }
        pair->bare = bare_round((uint16_t)(42 + RTP_HEADER + o->payload + tag));
        pair->ratio = pair->bare / pair->ours;
        if (i < 0 && o->stages)
            bench_stages_start(&world);
    }
    fanout_report(&crowd, bench_typical(pairs, ROUNDS), "port", 1 - (double)seen / (double)sent,
                  (double)generator_cycles / (double)generator_packets);
    if (o->stages)
        bench_stages_print(&world);
    bench_crowd_free(&crowd);
    world_stop(&world);
    wire_close(wire);
}
