// What sealing costs on top of the bare cipher library: protect_seal, with the RTP header and the
// index written for every packet, against ipsec-mb called with everything laid out beforehand.
//
// Both sides seal one shared payload into the same packets under 64 different keys (--keys), out of
// place, with a pool's worth of warm packets. Short rounds of the two alternate within one run and
// the first is dropped. Cycles are those of the time-stamp counter.
#define NO_COMPAT_IMB_API_053
#include "../../dataplane/protect.h"
#include <getopt.h>
#include <intel-ipsec-mb.h>
#include <stdio.h>
#include <stdlib.h>
#include <x86intrin.h>

#define ROUNDS 4001 // fewer when many keys make them long
#define ROUNDS_LEAST 101
#define ROUND_PACKETS 256 // at least: short, so that what else runs hits few of them
#define HEADER 12
#define PACKETS 512 // different ones; as many as stay warm in a pool's cache
#define PACKET_ROOM 2304
#define HEADROOM (128 + 14 + 20 + 8) // an mbuf's, then Ethernet, IPv4 and UDP

static const struct profile {
    const char *name;
    unsigned id;
} profiles[] = {
    {"gcm128", PROFILE_AEAD_AES_128_GCM},
    {"cm_sha1", PROFILE_AES128_CM_SHA1_80},
    {"gcm256", PROFILE_AEAD_AES_256_GCM},
};

struct bench {
    unsigned profile, payload, keys;
    uint8_t *src;
    uint8_t **dst; // one packet per key
    // ours
    struct protect *protect;
    struct protect_tx *tx;
    uint64_t index;
    // the bare library's
    IMB_MGR *mgr;
    IMB_JOB *jobs;
    struct gcm_key_data **gcm;
    uint8_t (*iv)[16], (*tag)[16];
};

static void *must(void *memory)
{
    if (!memory) {
        fputs("bench_crypto: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static void *zeroed(size_t size)
{
    size = (size + 63) & ~(size_t)63;
    return memset(must(aligned_alloc(64, size)), 0, size);
}

static void raw_round(struct bench *b)
{
    if (b->profile == PROFILE_AES128_CM_SHA1_80) {
        for (unsigned i = 0; i < b->keys; i += PROTECT_BURST) {
            unsigned n = b->keys - i < PROTECT_BURST ? b->keys - i : PROTECT_BURST;
            IMB_SUBMIT_CIPHER_BURST_NOCHECK(b->mgr, b->jobs + i, n, IMB_CIPHER_CNTR,
                                            IMB_DIR_ENCRYPT, IMB_KEY_128_BYTES);
            IMB_SUBMIT_HASH_BURST_NOCHECK(b->mgr, b->jobs + i, n, IMB_AUTH_HMAC_SHA_1);
        }
        return;
    }
    struct gcm_context_data context;
    aes_gcm_enc_dec_t encrypt =
        b->profile == PROFILE_AEAD_AES_128_GCM ? b->mgr->gcm128_enc : b->mgr->gcm256_enc;
    for (unsigned i = 0; i < b->keys; i++)
        encrypt(b->gcm[i], &context, b->dst[i] + HEADER, b->src, b->payload, b->iv[i], b->dst[i],
                HEADER, b->dst[i] + HEADER + b->payload, 16);
}

static void write_header(uint8_t *to, uint16_t seq, uint32_t timestamp, uint32_t ssrc)
{
    uint32_t words[3] = {__builtin_bswap32(0x80600000u | seq), __builtin_bswap32(timestamp),
                         __builtin_bswap32(ssrc)};
    memcpy(to, words, sizeof(words));
}

static void our_round(struct bench *b)
{
    struct seal_job jobs[PROTECT_BURST];
    uint64_t index = b->index++;
    for (unsigned i = 0; i < b->keys; i += PROTECT_BURST) {
        unsigned n = b->keys - i < PROTECT_BURST ? b->keys - i : PROTECT_BURST;
        for (unsigned j = 0; j < n; j++) {
            uint8_t *dst = b->dst[i + j];
            write_header(dst, (uint16_t)index, (uint32_t)index * 3000, 0x1000 + i + j);
            jobs[j] = (struct seal_job){.tx = &b->tx[i + j],
                                        .src = b->src,
                                        .dst = dst,
                                        .header_len = HEADER,
                                        .payload_len = (uint16_t)b->payload,
                                        .ssrc = 0x1000 + i + j,
                                        .index = index};
        }
        protect_seal(b->protect, jobs, n);
    }
}

// Cycles per packet over `times` rounds.
static double measure(struct bench *b, unsigned times, unsigned keys, void (*round)(struct bench *))
{
    uint64_t start = __rdtsc();
    for (unsigned i = 0; i < times; i++)
        round(b);
    return (double)(__rdtsc() - start) / times / keys;
}

struct pair {
    double ours, raw;
};

static int by_ratio(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    double left = x->ours * y->raw, right = y->ours * x->raw;
    return left < right ? -1 : left > right;
}

static int by_raw(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return x->raw < y->raw ? -1 : x->raw > y->raw;
}

// The CPU changes its speed with what its neighbours do, and medians of the two sides could be
// taken at different speeds. So: the rounds around the median ratio, and of those the one of median
// cost.
static struct pair typical(struct pair *pairs, unsigned n)
{
    qsort(pairs, n, sizeof(*pairs), by_ratio);
    struct pair *middle = pairs + n * 9 / 20;
    qsort(middle, n / 10, sizeof(*middle), by_raw);
    return middle[n / 20];
}

// Lays out the bare library's keys and jobs from the same session keys that ours expanded.
static void raw_key(struct bench *b, unsigned i)
{
    const struct protect_key *key = &b->tx[i].key;
    b->gcm[i] = zeroed(sizeof(struct gcm_key_data));
    memcpy(b->iv[i], key->salt, 14);
    if (b->profile != PROFILE_AES128_CM_SHA1_80) {
        memcpy(b->gcm[i], key->gcm, sizeof(struct gcm_key_data));
        return;
    }
    IMB_JOB *j = &b->jobs[i];
    j->cipher_mode = IMB_CIPHER_CNTR;
    j->cipher_direction = IMB_DIR_ENCRYPT;
    j->hash_alg = IMB_AUTH_HMAC_SHA_1;
    j->chain_order = IMB_ORDER_CIPHER_HASH;
    j->enc_keys = key->cm.round_keys;
    j->key_len_in_bytes = 16;
    j->src = b->src;
    j->dst = b->dst[i] + HEADER;
    j->msg_len_to_cipher_in_bytes = b->payload;
    j->hash_start_src_offset_in_bytes = (uintptr_t)b->dst[i] - (uintptr_t)b->src;
    j->msg_len_to_hash_in_bytes = HEADER + b->payload + 4;
    j->iv = b->iv[i];
    j->iv_len_in_bytes = 16;
    j->auth_tag_output = b->tag[i];
    j->auth_tag_output_len_in_bytes = 12;
    j->u.HMAC._hashed_auth_key_xor_ipad = key->cm.inner;
    j->u.HMAC._hashed_auth_key_xor_opad = key->cm.outer;
}

static void bench_init(struct bench *b)
{
    if (protect_new(&b->protect) || !(b->mgr = alloc_mb_mgr(0))) {
        fputs("bench_crypto: ipsec-mb does not start on this CPU\n", stderr);
        exit(1);
    }
    init_mb_mgr_auto(b->mgr, NULL);
    b->src = zeroed(b->payload + 64);
    b->dst = zeroed(b->keys * sizeof(*b->dst));
    b->tx = zeroed(b->keys * sizeof(*b->tx));
    b->gcm = zeroed(b->keys * sizeof(*b->gcm));
    b->jobs = zeroed(b->keys * sizeof(*b->jobs));
    b->iv = zeroed(b->keys * sizeof(*b->iv));
    b->tag = zeroed(b->keys * sizeof(*b->tag));
    for (unsigned i = 0; i < b->keys; i++) {
        uint8_t master[48] = {(uint8_t)i, (uint8_t)(i >> 8)};
        b->dst[i] = i < PACKETS ? (uint8_t *)zeroed(PACKET_ROOM) + HEADROOM : b->dst[i % PACKETS];
        if (protect_tx_init(b->protect, &b->tx[i], b->profile, master))
            exit(1);
        raw_key(b, i);
    }
}

static void bench_free(struct bench *b)
{
    for (unsigned i = 0; i < b->keys; i++) {
        if (i < PACKETS)
            free(b->dst[i] - HEADROOM);
        free(b->gcm[i]);
    }
    free(b->src);
    free(b->dst);
    free(b->tx);
    free(b->gcm);
    free(b->jobs);
    free(b->iv);
    free(b->tag);
    free_mb_mgr(b->mgr);
    protect_free(b->protect);
}

static void run(const struct profile *profile, unsigned payload, unsigned keys, bool json)
{
    static struct pair pairs[ROUNDS];
    struct bench b = {.profile = profile->id, .payload = payload, .keys = keys};
    bench_init(&b);
    unsigned times = keys < ROUND_PACKETS ? ROUND_PACKETS / keys : 1;
    unsigned rounds = keys > ROUND_PACKETS ? ROUNDS * ROUND_PACKETS / keys : ROUNDS;
    rounds = rounds < ROUNDS_LEAST ? ROUNDS_LEAST : rounds;
    for (unsigned i = 0; i < rounds; i++) {
        pairs[i].raw = measure(&b, times, keys, raw_round);
        pairs[i].ours = measure(&b, times, keys, our_round);
    }
    bench_free(&b);
    struct pair result = typical(pairs + 1, rounds - 1);
    printf(json ? "{\"bench\":\"crypto\",\"profile\":\"%s\",\"payload\":%u,\"keys\":%u,"
                  "\"cycles_per_packet\":%.1f,\"raw_cycles_per_packet\":%.1f,\"ratio\":%.3f}\n"
                : "%-8s %5u B  %u keys  %7.1f cycles, bare %7.1f, ratio %.3f\n",
           profile->name, payload, keys, result.ours, result.raw, result.ours / result.raw);
    fflush(stdout);
}

static unsigned number(const char *text, unsigned min, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end || value < min || value > max) {
        fprintf(stderr, "bench_crypto: %s is not a number from %u to %u\n", text, min, max);
        exit(2);
    }
    return (unsigned)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"profile", required_argument, NULL, 'p'},
                                            {"payload", required_argument, NULL, 'l'},
                                            {"keys", required_argument, NULL, 'k'},
                                            {0}};
    const char *only = NULL;
    unsigned payloads[] = {172, 1172}, count = 2, keys = 64, ran = 0;
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'j')
            json = true;
        else if (c == 'p')
            only = optarg;
        else if (c == 'k')
            keys = number(optarg, 1, 100000);
        else if (c == 'l')
            payloads[0] = number(optarg, 1, 2000), count = 1;
        else
            return 2;
    }
    for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++)
        for (unsigned j = 0; j < count; j++)
            if (!only || !strcmp(only, profiles[i].name)) {
                run(&profiles[i], payloads[j], keys, json);
                ran++;
            }
    if (!ran)
        fprintf(stderr, "bench_crypto: no profile %s; there are gcm128, cm_sha1, gcm256\n", only);
    return ran ? 0 : 2;
}
