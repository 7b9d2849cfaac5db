// What a viewer takes on its worker, and what a second of a stream takes in its ring.
//
// Viewers: how much more memory the process occupies (Pss: pages that are mapped twice count once)
// with many than with a tenth of them, in a world that is made for so many; address tables,
// statistics and all. Streams: whole blocks of the rings' store and the ring's slots, against the
// bytes that the publisher sends in that time.
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>

#define INTERVAL_NS MS // between the stream's packets
#define SECONDS 4

static struct world world;

// Bytes of memory that the process occupies.
static uint64_t occupied(void)
{
    char line[128];
    unsigned long kb = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "Pss: %lu kB", &kb) == 1)
            break;
    if (!kb) {
        fputs("bench_memory: /proc/self/smaps_rollup cannot be read\n", stderr);
        exit(1);
    }
    fclose(file);
    return (uint64_t)kb * 1024;
}

static struct bench_crowd crowd;

// A world with a publisher and `viewers`, after its housekeeping has seen all of them.
static void populate(unsigned viewers)
{
    struct client *viewer = bench_memory(sizeof(*viewer));
    world_open_stream(&world, STREAM_ID, 0, 0);
    world_join(&world, crowd.publisher, ROLE_PUBLISH, STREAM_ID, 0, viewers,
               crowd.options->profile->id, true);
    for (unsigned v = 0; v < viewers; v++)
        world_join(&world, viewer, ROLE_PLAY, STREAM_ID, 0, v, crowd.options->profile->id, true);
    free(viewer);
    for (int ms = 0; ms < 1100; ms++) {
        world_pass(&world, 1);
        world.out_count = 0;
    }
}

// Has the stream sent for SECONDS. Returns what its ring takes of memory per second of it.
static double stream_second(void)
{
    const struct cache_store *store = world.workers[0].store;
    const struct cache *ring = &tables_stream(&world.workers[0].tables, STREAM_ID)->track[0].ring;
    for (uint64_t i = 0; i < SECONDS * (1000 * MS / INTERVAL_NS); i++) {
        world.now_ns += INTERVAL_NS;
        bench_publish(&crowd, 0, 1);
        bench_turn(&world, 0);
    }
    // The ring is sized in powers of two; how much time its packets span is what counts.
    double per_second = 1e9 / (double)INTERVAL_NS / ring->used;
    double slots = (double)cache_slots(ring) * sizeof(struct cache_slot);
    return ((double)(store->blocks - store->free) * CACHE_BLOCK + slots) * per_second;
}

int main(int argc, char **argv)
{
    struct bench_options o = {.profile = bench_profile("gcm128"),
                              .path = "memory",
                              .payload = 1172,
                              .sessions = 10000,
                              .streams = 1,
                              .workers = 1};
    bench_parse(&o, argc, argv);
    unsigned few = o.sessions / 10 ? o.sessions / 10 : 1, many = 10 * few;
    struct client publisher;
    uint64_t next_index = 0;
    struct abi_config config = {.port_kind = ABI_PORT_RING,
                                .workers = 1,
                                .max_sessions = few + 1,
                                .rx_mbufs = 2048,
                                .tx_mbufs = 4096,
                                .cache_mbufs = 4096};
    crowd = (struct bench_crowd){
        .world = &world, .options = &o, .publisher = &publisher, .next_index = &next_index};
    if (world_start(&world, &config))
        return 1;
    populate(few);
    uint64_t before = occupied();
    world_stop_node(&world);
    config.max_sessions = many + 1;
    if (world_start_node(&world, &config))
        return 1;
    populate(many);
    crowd.crypto = world.crypto;
    double each = ((double)occupied() - (double)before) / (many - few);
    double second = stream_second(), sent = (o.payload + RTP_HEADER) * (1e9 / INTERVAL_NS);
    printf(o.json ? "{\"bench\":\"memory\",\"sessions\":%u,\"bytes_per_session\":%.0f,"
                    "\"session\":%zu,\"sender\":%zu,\"bytes_per_stream_second\":%.0f,"
                    "\"stream_bytes_per_second\":%.0f,\"ratio\":%.2f}\n"
                  : "%u viewers: %.0f bytes each, of them session %zu and sender %zu; a second in "
                    "the ring %.0f bytes, sent %.0f, ratio %.2f\n",
           many, each, sizeof(struct session), sizeof(struct sender), second, sent, second / sent);
    world_stop(&world);
    return 0;
}
