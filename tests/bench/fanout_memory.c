// Fan-out in memory: sealed packets of publishers in by a ring, sealed packets of all their viewers
// out into a null port, through the whole worker; against the bare cipher library sealing as many
// bytes under 64 keys. Rounds of the two alternate within one run; the first is dropped; medians.
//
// Only the worker's turns are timed, so the generator costs nothing; what it could do alone (the
// time to make one publisher's packet) is reported as well. A turn finds --burst packets, of one
// stream after the other: by default one of each stream, 32 at most.
#include "cipher.h"
#include "fanout.h"
#include <rte_cycles.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 41
#define ROUND_PACKETS 40000 // at least
#define ROUND_TURNS 9       // at least
#define TURNS_MAX 4096

static struct world world;
static uint64_t overhead, generator_cycles, generator_packets;

static uint64_t sent(void)
{
    return bench_count(&world, COUNT_rtp_out);
}

// Cycles per packet sealed and sent: the median of the turns.
static double our_round(struct bench_crowd *crowd)
{
    static double turns[TURNS_MAX];
    static unsigned s;
    uint64_t before = sent();
    unsigned n = 0;
    while (n < TURNS_MAX && (n < ROUND_TURNS || sent() - before < ROUND_PACKETS)) {
        uint64_t start = bench_cycles(), had = sent();
        for (unsigned i = 0; i < crowd->options->burst; i++, s = (s + 1) % crowd->options->streams)
            bench_publish(crowd, s, 1);
        generator_cycles += bench_cycles() - start - overhead;
        generator_packets += crowd->options->burst;
        uint64_t took = bench_turn(&world, 0) - overhead;
        turns[n++] = (double)took / (double)(sent() - had);
        world.now_ns += 100000;
    }
    return bench_median(turns, n);
}

static double bare_round(struct cipher *cipher)
{
    static double turns[64];
    for (unsigned i = 0; i < RTE_DIM(turns); i++) {
        uint64_t start = bench_cycles();
        for (unsigned k = 0; k < 8; k++)
            cipher_seal(cipher);
        turns[i] = (double)(bench_cycles() - start - overhead) / (8 * CIPHER_KEYS);
    }
    return bench_median(turns, RTE_DIM(turns));
}

static void run(struct bench_crowd *crowd)
{
    static struct bench_pair pairs[ROUNDS];
    const struct bench_options *o = crowd->options;
    struct cipher *cipher = cipher_new(o->profile->id, o->payload);
    overhead = bench_cycles_overhead();
    for (int i = -1; i < ROUNDS; i++) {
        struct bench_pair *pair = &pairs[i < 0 ? 0 : i];
        pair->ours = our_round(crowd);
        pair->bare = bare_round(cipher);
        pair->ratio = pair->bare / pair->ours;
        if (i < 0 && o->stages)
            bench_stages_start(&world);
    }
    fanout_report(crowd, bench_typical(pairs, ROUNDS), "cipher",
                  (double)(bench_drop(&world, DROP_tx_full) + bench_drop(&world, DROP_no_mbuf)) /
                      (double)sent(),
                  (double)generator_cycles / (double)generator_packets);
    if (o->stages)
        bench_stages_print(&world);
    cipher_free(cipher);
}

void fanout_memory(struct bench_options *o)
{
    struct bench_crowd crowd;
    // The second worker only lends its mailbox: a null port receives nothing.
    bench_crowd_start(&crowd, &world, o,
                      &(struct abi_config){.port_kind = ABI_PORT_NULL, .workers = 2}, false, NULL);
    run(&crowd);
    bench_crowd_free(&crowd);
    world_stop(&world);
}
