// Fan-out in memory: sealed packets of publishers in by a ring, sealed packets of all their viewers
// out into a null port, through the whole worker; against the bare cipher library sealing as many
// bytes under 64 keys. Rounds of the two alternate within one run; the first is dropped; medians.
//
// Only the worker's turns are timed, so the generator costs nothing; what it could do alone (the
// time to make one publisher packet) is reported as well.
#define NO_COMPAT_IMB_API_053
#include "../sim/world.h"
#include <getopt.h>
#include <intel-ipsec-mb.h>
#include <rte_cycles.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 21
#define RAW_KEYS 64
#define HEADER 12

static const struct profile {
    const char *name;
    enum srtp_profile id;
} profiles[] = {{"gcm128", PROFILE_AEAD_AES_128_GCM},
                {"cm_sha1", PROFILE_AES128_CM_SHA1_80},
                {"gcm256", PROFILE_AEAD_AES_256_GCM}};

struct options {
    const struct profile *profile;
    unsigned payload, subscribers, streams, burst, round_packets;
    bool json;
};

static struct world world;
static struct client *publishers;
static uint64_t *next_index;
static uint64_t generator_cycles, generator_packets;

static uint64_t stream_id(unsigned n)
{
    return (UINT64_C(1) << 32) | n;
}

static void populate(const struct options *o)
{
    publishers = aligned_alloc(64, o->streams * sizeof(*publishers));
    next_index = calloc(o->streams, sizeof(*next_index));
    struct client *viewer = aligned_alloc(64, sizeof(*viewer));
    uint32_t slot = 0;
    for (unsigned s = 0; s < o->streams; s++) {
        world_open_stream(&world, stream_id(s), 0, 0);
        world_join(&world, &publishers[s], ROLE_PUBLISH, stream_id(s), 0, slot++, o->profile->id,
                   true);
        for (unsigned v = 0; v < o->subscribers / o->streams; v++)
            world_join(&world, viewer, ROLE_PLAY, stream_id(s), 0, slot++, o->profile->id, true);
    }
    free(viewer);
}

// Puts `burst` packets of one stream on the wire.
static void generate(const struct options *o, unsigned s)
{
    uint8_t wire[2048], body[1500] = {1};
    uint64_t start = rte_rdtsc();
    for (unsigned i = 0; i < o->burst; i++) {
        uint64_t index = ++next_index[s];
        // The 10 bytes of VP8 head that world_seal adds belong to the payload.
        size_t size = world_seal(&world, &publishers[s], VIDEO_SSRC, index, index == 1, body,
                                 o->payload - 10, wire);
        world_inject(&world, 0, &publishers[s].addr, world.config.media4.port, wire, size);
    }
    generator_cycles += rte_rdtsc() - start;
    generator_packets += o->burst;
}

static uint64_t sent(void)
{
    return world.workers[0].stats->count[COUNT_rtp_out];
}

// Cycles per packet sealed and sent.
static double our_round(const struct options *o)
{
    uint64_t before = sent(), cycles = 0;
    static unsigned s;
    while (sent() - before < o->round_packets) {
        generate(o, s);
        s = (s + 1) % o->streams;
        uint64_t start = rte_rdtsc();
        worker_turn(&world.workers[0]);
        cycles += rte_rdtsc() - start;
        world.now_ns += 100000;
        world.workers[0].now_ns = world.now_ns;
    }
    return (double)cycles / (double)(sent() - before);
}

struct raw {
    IMB_MGR *mgr;
    struct gcm_key_data *gcm[RAW_KEYS];
    IMB_JOB *jobs;
    uint8_t *src, *dst[RAW_KEYS], iv[RAW_KEYS][16], tag[RAW_KEYS][16];
    _Alignas(16) uint8_t round_keys[RAW_KEYS][16 * 15], dust[16 * 15], pads[RAW_KEYS][2][20];
};

static void raw_init(struct raw *raw, const struct options *o)
{
    raw->mgr = alloc_mb_mgr(0);
    init_mb_mgr_auto(raw->mgr, NULL);
    raw->src = aligned_alloc(64, 2048);
    memset(raw->src, 1, 2048);
    raw->jobs = calloc(RAW_KEYS, sizeof(*raw->jobs));
    for (unsigned k = 0; k < RAW_KEYS; k++) {
        uint8_t key[64];
        for (unsigned i = 0; i < sizeof(key); i++)
            key[i] = (uint8_t)random();
        raw->dst[k] = aligned_alloc(64, 2048);
        raw->gcm[k] = aligned_alloc(64, (sizeof(*raw->gcm[k]) + 63) / 64 * 64);
        if (o->profile->id == PROFILE_AEAD_AES_256_GCM)
            IMB_AES256_GCM_PRE(raw->mgr, key, raw->gcm[k]);
        else
            IMB_AES128_GCM_PRE(raw->mgr, key, raw->gcm[k]);
        IMB_AES_KEYEXP_128(raw->mgr, key, raw->round_keys[k], raw->dust);
        IMB_SHA1_ONE_BLOCK(raw->mgr, key, raw->pads[k][0]);
        IMB_SHA1_ONE_BLOCK(raw->mgr, key, raw->pads[k][1]);
    }
}

static void raw_gcm(struct raw *raw, const struct options *o)
{
    struct gcm_context_data context;
    for (unsigned k = 0; k < RAW_KEYS; k++) {
        if (o->profile->id == PROFILE_AEAD_AES_256_GCM)
            IMB_AES256_GCM_ENC(raw->mgr, raw->gcm[k], &context, raw->dst[k] + HEADER, raw->src,
                               o->payload, raw->iv[k], raw->dst[k], HEADER,
                               raw->dst[k] + HEADER + o->payload, 16);
        else
            IMB_AES128_GCM_ENC(raw->mgr, raw->gcm[k], &context, raw->dst[k] + HEADER, raw->src,
                               o->payload, raw->iv[k], raw->dst[k], HEADER,
                               raw->dst[k] + HEADER + o->payload, 16);
    }
}

static void raw_cm(struct raw *raw, const struct options *o)
{
    for (unsigned k = 0; k < RAW_KEYS; k++)
        raw->jobs[k] = (IMB_JOB){.cipher_direction = IMB_DIR_ENCRYPT,
                                 .chain_order = IMB_ORDER_CIPHER_HASH,
                                 .cipher_mode = IMB_CIPHER_CNTR,
                                 .hash_alg = IMB_AUTH_NULL,
                                 .key_len_in_bytes = 16,
                                 .enc_keys = raw->round_keys[k],
                                 .dec_keys = raw->round_keys[k],
                                 .iv = raw->iv[k],
                                 .iv_len_in_bytes = 16,
                                 .src = raw->src,
                                 .dst = raw->dst[k] + HEADER,
                                 .msg_len_to_cipher_in_bytes = o->payload};
    IMB_SUBMIT_CIPHER_BURST(raw->mgr, raw->jobs, RAW_KEYS, IMB_CIPHER_CNTR, IMB_DIR_ENCRYPT,
                            IMB_KEY_128_BYTES);
    for (unsigned k = 0; k < RAW_KEYS; k++) {
        IMB_JOB *job = &raw->jobs[k];
        *job = (IMB_JOB){.hash_alg = IMB_AUTH_HMAC_SHA_1,
                         .src = raw->dst[k],
                         .msg_len_to_hash_in_bytes = HEADER + o->payload + 4,
                         .auth_tag_output = raw->tag[k],
                         .auth_tag_output_len_in_bytes = 12};
        job->u.HMAC._hashed_auth_key_xor_ipad = raw->pads[k][0];
        job->u.HMAC._hashed_auth_key_xor_opad = raw->pads[k][1];
    }
    IMB_SUBMIT_HASH_BURST(raw->mgr, raw->jobs, RAW_KEYS, IMB_AUTH_HMAC_SHA_1);
}

static double raw_round(struct raw *raw, const struct options *o)
{
    unsigned packets = 0;
    uint64_t start = rte_rdtsc();
    while (packets < o->round_packets) {
        if (o->profile->id == PROFILE_AES128_CM_SHA1_80)
            raw_cm(raw, o);
        else
            raw_gcm(raw, o);
        packets += RAW_KEYS;
    }
    return (double)(rte_rdtsc() - start) / packets;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), compare);
    return values[n / 2];
}

static void report(const struct options *o, double ours, double bare, uint64_t lost)
{
    double hz = (double)rte_get_tsc_hz();
    double pps = hz / ours, raw_pps = hz / bare;
    double generator =
        hz / ((double)generator_cycles / (double)generator_packets) * (o->subscribers / o->streams);
    if (o->json)
        printf("{\"path\":\"memory\",\"profile\":\"%s\",\"payload\":%u,\"subscribers\":%u,"
               "\"streams\":%u,\"burst\":%u,\"workers\":1,\"pps\":%.0f,\"cycles_per_packet\":%.1f,"
               "\"raw_pps\":%.0f,\"ratio\":%.3f,\"loss\":%.6f,\"generator_pps\":%.0f}\n",
               o->profile->name, o->payload, o->subscribers, o->streams, o->burst, pps, ours,
               raw_pps, pps / raw_pps, (double)lost / (double)sent(), generator);
    else
        printf("%-8s %5u B  %6u viewers of %3u streams  burst %2u  %6.2f Mpps  %6.0f cycles  bare "
               "cipher %6.2f Mpps  ratio %.2f\n",
               o->profile->name, o->payload, o->subscribers, o->streams, o->burst, pps / 1e6, ours,
               raw_pps / 1e6, pps / raw_pps);
}

static void run(const struct options *o)
{
    double ours[ROUNDS], bare[ROUNDS];
    struct raw *raw = aligned_alloc(64, (sizeof(*raw) + 63) / 64 * 64);
    raw_init(raw, o);
    populate(o);
    uint64_t full =
        world.workers[0].stats->drop[DROP_tx_full] + world.workers[0].stats->drop[DROP_no_mbuf];
    for (unsigned i = 0; i <= ROUNDS; i++) {
        double a = our_round(o), b = raw_round(raw, o);
        if (i > 0) {
            ours[i - 1] = a;
            bare[i - 1] = b;
        }
    }
    full = world.workers[0].stats->drop[DROP_tx_full] + world.workers[0].stats->drop[DROP_no_mbuf] -
           full;
    report(o, median(ours, ROUNDS), median(bare, ROUNDS), full);
}

static unsigned number(const char *text, unsigned min, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text && !*end && value >= min && value <= max)
        return (unsigned)value;
    fprintf(stderr, "bench_fanout: %s is not a number from %u to %u\n", text, min, max);
    exit(2);
}

int main(int argc, char **argv)
{
    struct options o = {.profile = &profiles[0],
                        .payload = 1172,
                        .subscribers = 1000,
                        .streams = 1,
                        .burst = 1,
                        .round_packets = 100000};
    static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
                                          {"profile", required_argument, NULL, 'p'},
                                          {"payload", required_argument, NULL, 'l'},
                                          {"subscribers", required_argument, NULL, 's'},
                                          {"streams", required_argument, NULL, 't'},
                                          {"burst", required_argument, NULL, 'b'},
                                          {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'j')
            o.json = true;
        else if (c == 'l')
            o.payload = number(optarg, 20, 1200);
        else if (c == 's')
            o.subscribers = number(optarg, 1, 20000);
        else if (c == 't')
            o.streams = number(optarg, 1, 1000);
        else if (c == 'b')
            o.burst = number(optarg, 1, BURST);
        else if (c == 'p') {
            o.profile = NULL;
            for (unsigned i = 0; i < RTE_DIM(profiles); i++)
                if (strcmp(optarg, profiles[i].name) == 0)
                    o.profile = &profiles[i];
        }
        if (c == '?' || !o.profile) {
            fputs("bench_fanout: bad option; see scripts/bench --help\n", stderr);
            return 2;
        }
    }
    if (world_start(&world, &(struct abi_config){.workers = 2,
                                                 .port_kind = ABI_PORT_NULL,
                                                 .max_sessions = o.subscribers + o.streams,
                                                 .max_streams = o.streams,
                                                 .rx_mbufs = 2048,
                                                 .tx_mbufs = 4096,
                                                 .cache_mbufs = 4096 + 256 * o.streams}))
        return 1;
    run(&o);
    world_stop(&world);
    return 0;
}
