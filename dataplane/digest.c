// CRC-32 and SHA-1; see digest.h. Our own because a MESSAGE-INTEGRITY from two saved states is four
// blocks at most, less than a crypto library's set-up, and must not allocate.
#include "digest.h"
#include "bytes.h"
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>
#include <stdbool.h>

// CRC-32 of ISO 3309, eight bytes a step. A table's entry is the sum of those of its index's bits.
#define ENTRY(n, a, b, c, d, e, f, g, h)                                                           \
    (((n)&1 ? a : 0) ^ ((n)&2 ? b : 0) ^ ((n)&4 ? c : 0) ^ ((n)&8 ? d : 0) ^ ((n)&16 ? e : 0) ^    \
     ((n)&32 ? f : 0) ^ ((n)&64 ? g : 0) ^ ((n)&128 ? h : 0))
#define ENTRIES4(n, ...)                                                                           \
    ENTRY(n, __VA_ARGS__), ENTRY(n + 1, __VA_ARGS__), ENTRY(n + 2, __VA_ARGS__),                   \
        ENTRY(n + 3, __VA_ARGS__)
#define ENTRIES16(n, ...)                                                                          \
    ENTRIES4(n, __VA_ARGS__), ENTRIES4(n + 4, __VA_ARGS__), ENTRIES4(n + 8, __VA_ARGS__),          \
        ENTRIES4(n + 12, __VA_ARGS__)
#define ENTRIES64(n, ...)                                                                          \
    ENTRIES16(n, __VA_ARGS__), ENTRIES16(n + 16, __VA_ARGS__), ENTRIES16(n + 32, __VA_ARGS__),     \
        ENTRIES16(n + 48, __VA_ARGS__)
#define SLICE(...)                                                                                 \
    {                                                                                              \
        ENTRIES64(0, __VA_ARGS__), ENTRIES64(64, __VA_ARGS__), ENTRIES64(128, __VA_ARGS__),        \
            ENTRIES64(192, __VA_ARGS__)                                                            \
    }
static const uint32_t crc_table[8][256] = {
    SLICE(0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832, 0x1db71064, 0x3b6e20c8, 0x76dc4190,
          0xedb88320),
    SLICE(0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08, 0x4ac21251, 0x958424a2, 0xf0794f05,
          0x3b83984b),
    SLICE(0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8, 0x1c26a370, 0x384d46e0, 0x709a8dc0,
          0xe1351b80),
    SLICE(0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef, 0x5019579f, 0xa032af3e, 0x9b14583d,
          0xed59b63b),
    SLICE(0x3d6029b0, 0x7ac05360, 0xf580a6c0, 0x30704bc1, 0x60e09782, 0xc1c12f04, 0x58f35849,
          0xb1e6b092),
    SLICE(0xcb5cd3a5, 0x4dc8a10b, 0x9b914216, 0xec53826d, 0x03d6029b, 0x07ac0536, 0x0f580a6c,
          0x1eb014d8),
    SLICE(0xa6770bb4, 0x979f1129, 0xf44f2413, 0x33ef4e67, 0x67de9cce, 0xcfbd399c, 0x440b7579,
          0x8816eaf2),
    SLICE(0xccaa009e, 0x4225077d, 0x844a0efa, 0xd3e51bb5, 0x7cbb312b, 0xf9766256, 0x299dc2ed,
          0x533b85da),
};

uint32_t digest_crc32(const uint8_t *p, size_t length)
{
    uint32_t crc = UINT32_MAX;

    for (; length >= 8; length -= 8, p += 8) {
        uint32_t a, b;
        memcpy(&a, p, 4);
        memcpy(&b, p + 4, 4);
        a ^= crc;
        crc = crc_table[7][a & 255] ^ crc_table[6][a >> 8 & 255] ^ crc_table[5][a >> 16 & 255] ^
              crc_table[4][a >> 24] ^ crc_table[3][b & 255] ^ crc_table[2][b >> 8 & 255] ^
              crc_table[1][b >> 16 & 255] ^ crc_table[0][b >> 24];
    }
    for (; length > 0; length--, p++)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 255];
    return ~crc;
}

// FIPS 180-4, 6.1.2.
void digest_sha1_portable(uint32_t state[5], const uint8_t *p, size_t blocks)
{
    for (; blocks > 0; blocks--, p += SHA1_BLOCK) {
        uint32_t w[80];
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

        for (int t = 0; t < 16; t++)
            w[t] = load_be32(p + (size_t)t * 4);
        for (int t = 16; t < 80; t++) {
            uint32_t x = w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16];
            w[t] = x << 1 | x >> 31;
        }
        for (int t = 0; t < 80; t++) {
            uint32_t f = t < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                         : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                         : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                  : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t next = (a << 5 | a >> 27) + f + e + w[t];
            e = d;
            d = c;
            c = b << 30 | b >> 2;
            b = a;
            a = next;
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
    }
}

// Four rounds an instruction; `k` must be a literal.
#define NI_ROUNDS(k)                                                                               \
    for (int g = (k)*5; g < (k)*5 + 5; g++) {                                                      \
        e = g == 0 ? _mm_add_epi32(e, w[0]) : _mm_sha1nexte_epu32(e, w[g]);                        \
        __m128i before = abcd;                                                                     \
        abcd = _mm_sha1rnds4_epu32(abcd, e, k);                                                    \
        e = before;                                                                                \
    }

__attribute__((target("sha,sse4.1"))) static void sha1_ni(uint32_t state[5], const uint8_t *p,
                                                          size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0x1b);
    __m128i e = _mm_set_epi32((int)state[4], 0, 0, 0);

    for (; blocks > 0; blocks--, p += SHA1_BLOCK) {
        __m128i w[20], abcd_start = abcd, e_start = e;

        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(
                _mm_loadu_si128((const __m128i *)(const void *)(p + (size_t)i * 16)), swap);
        for (int i = 4; i < 20; i++)
            w[i] = _mm_sha1msg2_epu32(
                _mm_xor_si128(_mm_sha1msg1_epu32(w[i - 4], w[i - 3]), w[i - 2]), w[i - 1]);
        NI_ROUNDS(0)
        NI_ROUNDS(1)
        NI_ROUNDS(2)
        NI_ROUNDS(3)
        abcd = _mm_add_epi32(abcd, abcd_start);
        e = _mm_sha1nexte_epu32(e, e_start);
    }
    _mm_storeu_si128((__m128i *)(void *)state, _mm_shuffle_epi32(abcd, 0x1b));
    state[4] = (uint32_t)_mm_extract_epi32(e, 3);
}

// CPUID is a trap on a virtual machine, so it is asked once. Racing threads store the same answer.
static bool have_sha_ni(void)
{
    enum { UNKNOWN, NO, YES };
    static atomic_int known = UNKNOWN;
    int answer = atomic_load_explicit(&known, memory_order_relaxed);

    if (answer == UNKNOWN) {
        unsigned a, b, c, d;
        answer = NO;
        if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_1) && (c & bit_SSSE3) &&
            __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA))
            answer = YES;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == YES;
}

void digest_sha1(uint32_t state[5], const uint8_t *p, size_t blocks)
{
    if (have_sha_ni())
        sha1_ni(state, p, blocks);
    else
        digest_sha1_portable(state, p, blocks);
}

void digest_sha1_start(uint32_t state[5])
{
    static const uint32_t initial[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memcpy(state, initial, sizeof(initial));
}

void digest_sha1_finish(uint32_t state[5], const uint8_t *p, size_t length, uint64_t total,
                        uint8_t digest[SHA1_LEN])
{
    uint8_t tail[2 * SHA1_BLOCK] = {0};
    size_t whole = length / SHA1_BLOCK;
    size_t rest = length % SHA1_BLOCK;
    size_t blocks = rest + 9 <= SHA1_BLOCK ? 1 : 2;

    digest_sha1(state, p, whole);
    if (rest > 0)
        memcpy(tail, p + whole * SHA1_BLOCK, rest);
    tail[rest] = 0x80;
    store_be64(tail + blocks * SHA1_BLOCK - 8, total * 8);
    digest_sha1(state, tail, blocks);
    for (int i = 0; i < 5; i++)
        store_be32(digest + (size_t)i * 4, state[i]);
}
