// STUN messages, HMAC-SHA1 and CRC-32; see stun.h. SHA-1 is our own because a MESSAGE-INTEGRITY
// from two saved states is four blocks at most, less than a crypto library's set-up, and must not
// allocate: the worker answers tens of thousands of checks per second beside its media.
#include "stun.h"
#include "bytes.h"
#include <cpuid.h>
#include <errno.h>
#include <immintrin.h>
#include <stdatomic.h>

#define COOKIE UINT32_C(0x2112a442)
#define FINGERPRINT_XOR UINT32_C(0x5354554e)

enum {
    ATTR_MAPPED_ADDRESS = 0x0001,
    ATTR_USERNAME = 0x0006,
    ATTR_INTEGRITY = 0x0008,
    ATTR_ERROR_CODE = 0x0009,
    ATTR_UNKNOWN = 0x000a,
    ATTR_REALM = 0x0014,
    ATTR_NONCE = 0x0015,
    ATTR_INTEGRITY_SHA256 = 0x001c,
    ATTR_XOR_MAPPED_ADDRESS = 0x0020,
    ATTR_PRIORITY = 0x0024,
    ATTR_USE_CANDIDATE = 0x0025,
    ATTR_OPTIONAL = 0x8000, // from here on not knowing is no error
    ATTR_FINGERPRINT = 0x8028,
    ATTR_CONTROLLED = 0x8029,
    ATTR_CONTROLLING = 0x802a,
    ATTR_HEAD = 4,
    SHA1_LEN = 20,
    SHA1_BLOCK = 64,
};

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

static uint32_t crc32(const uint8_t *p, size_t length)
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
static void sha1_portable(uint32_t state[5], const uint8_t *p, size_t blocks)
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

static void sha1_blocks(uint32_t state[5], const uint8_t *p, size_t blocks)
{
    if (have_sha_ni())
        sha1_ni(state, p, blocks);
    else
        sha1_portable(state, p, blocks);
}

static void sha1_start(uint32_t state[5])
{
    static const uint32_t initial[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memcpy(state, initial, sizeof(initial));
}

// Ends a hash of `total` bytes, the last `length` of which are still to be hashed.
static void sha1_finish(uint32_t state[5], const uint8_t *p, size_t length, uint64_t total,
                        uint8_t digest[SHA1_LEN])
{
    uint8_t tail[2 * SHA1_BLOCK] = {0};
    size_t whole = length / SHA1_BLOCK;
    size_t rest = length % SHA1_BLOCK;
    size_t blocks = rest + 9 <= SHA1_BLOCK ? 1 : 2;

    sha1_blocks(state, p, whole);
    if (rest > 0)
        memcpy(tail, p + whole * SHA1_BLOCK, rest);
    tail[rest] = 0x80;
    store_be64(tail + blocks * SHA1_BLOCK - 8, total * 8);
    sha1_blocks(state, tail, blocks);
    for (int i = 0; i < 5; i++)
        store_be32(digest + (size_t)i * 4, state[i]);
}

void stun_key_init(struct stun_key *key, const void *password, size_t length)
{
    uint8_t block[SHA1_BLOCK] = {0};

    if (length > SHA1_BLOCK) {
        uint32_t state[5];
        sha1_start(state);
        sha1_finish(state, password, length, length, block);
    } else if (length > 0) {
        memcpy(block, password, length);
    }
    for (size_t i = 0; i < SHA1_BLOCK; i++)
        block[i] ^= 0x36;
    sha1_start(key->inner);
    sha1_blocks(key->inner, block, 1);
    for (size_t i = 0; i < SHA1_BLOCK; i++)
        block[i] ^= 0x36 ^ 0x5c;
    sha1_start(key->outer);
    sha1_blocks(key->outer, block, 1);
    explicit_bzero(block, sizeof(block));
}

// RFC 8489 14.5: over what stands before the attribute at `integrity`, with the header's length
// counting up to the end of that attribute. The message itself is left as it is.
static void message_hmac(const struct stun_key *key, const uint8_t *data, size_t integrity,
                         uint8_t digest[SHA1_LEN])
{
    uint8_t first[SHA1_BLOCK];
    uint32_t state[5];
    size_t head = integrity < SHA1_BLOCK ? integrity : SHA1_BLOCK;

    memcpy(first, data, head);
    store_be16(first + 2, (uint16_t)(integrity + ATTR_HEAD + SHA1_LEN - STUN_HEADER));
    memcpy(state, key->inner, sizeof(state));
    if (head < SHA1_BLOCK) {
        sha1_finish(state, first, head, SHA1_BLOCK + integrity, digest);
    } else {
        sha1_blocks(state, first, 1);
        sha1_finish(state, data + SHA1_BLOCK, integrity - SHA1_BLOCK, SHA1_BLOCK + integrity,
                    digest);
    }
    memcpy(state, key->outer, sizeof(state));
    sha1_finish(state, digest, SHA1_LEN, SHA1_BLOCK + SHA1_LEN, digest);
}

bool stun_check_integrity(const struct stun_msg *msg, const struct stun_key *key)
{
    uint8_t digest[SHA1_LEN], differ = 0;

    if (msg->integrity == 0)
        return false;
    message_hmac(key, msg->data, msg->integrity, digest);
    for (size_t i = 0; i < SHA1_LEN; i++)
        differ |= digest[i] ^ msg->data[msg->integrity + ATTR_HEAD + i];
    return differ == 0;
}

bool stun_check_fingerprint(const struct stun_msg *msg)
{
    return msg->fingerprint != 0 && load_be32(msg->data + msg->fingerprint + ATTR_HEAD) ==
                                        (crc32(msg->data, msg->fingerprint) ^ FINGERPRINT_XOR);
}

// Both ways: XOR is its own inverse.
static void xor_address(uint8_t *out, const uint8_t *in, size_t length,
                        const uint8_t *cookie_and_id)
{
    for (size_t i = 0; i < length; i++)
        out[i] = in[i] ^ cookie_and_id[i];
}

static bool read_mapped(struct stun_msg *msg, const uint8_t *value, size_t length)
{
    bool v4 = length == 8 && value[1] == 1;
    bool v6 = length == 20 && value[1] == 2;

    if (!v4 && !v6)
        return false;
    if (msg->mapped.family != 0)
        return true;
    msg->mapped.family = v4 ? 4 : 6;
    msg->mapped.port = load_be16(value + 2) ^ (COOKIE >> 16);
    xor_address(msg->mapped.ip, value + 4, length - 4, msg->data + 4);
    return true;
}

static bool read_role(struct stun_msg *msg, enum stun_role role, const uint8_t *value,
                      size_t length)
{
    if (length != 8)
        return false;
    if (msg->role == STUN_ROLE_NONE) {
        msg->role = (uint8_t)role;
        msg->tiebreaker = load_be64(value);
    }
    return true;
}

static bool read_error(struct stun_msg *msg, const uint8_t *value, size_t length)
{
    if (length < 4 || (value[2] & 7) < 3 || (value[2] & 7) > 6 || value[3] > 99)
        return false;
    if (msg->error == 0)
        msg->error = (uint16_t)((value[2] & 7) * 100 + value[3]);
    return true;
}

// One attribute before MESSAGE-INTEGRITY. The first of several counts (RFC 8489 section 14).
static bool read_attribute(struct stun_msg *msg, uint16_t type, const uint8_t *value, size_t length)
{
    switch (type) {
    case ATTR_USERNAME:
        if (length > STUN_USERNAME_MAX)
            return false;
        if (msg->username == NULL) {
            msg->username = value;
            msg->username_length = (uint16_t)length;
        }
        return true;
    case ATTR_PRIORITY:
        if (length != 4)
            return false;
        if (!msg->has_priority)
            msg->priority = load_be32(value);
        msg->has_priority = true;
        return true;
    case ATTR_USE_CANDIDATE:
        msg->use_candidate = true;
        return length == 0;
    case ATTR_CONTROLLED:
        return read_role(msg, STUN_ROLE_CONTROLLED, value, length);
    case ATTR_CONTROLLING:
        return read_role(msg, STUN_ROLE_CONTROLLING, value, length);
    case ATTR_XOR_MAPPED_ADDRESS:
        return read_mapped(msg, value, length);
    case ATTR_ERROR_CODE:
        return read_error(msg, value, length);
    case ATTR_MAPPED_ADDRESS:
    case ATTR_UNKNOWN:
    case ATTR_REALM:
    case ATTR_NONCE:
    case ATTR_INTEGRITY_SHA256:
        return true;
    default:
        if (type < ATTR_OPTIONAL && msg->unknown_count < STUN_UNKNOWN_MAX)
            msg->unknown[msg->unknown_count++] = type;
        return true;
    }
}

int stun_parse(const uint8_t *data, size_t length, struct stun_msg *msg)
{
    if (length < STUN_HEADER || length > UINT16_MAX || length % 4 != 0 || data[0] >> 6 != 0 ||
        load_be16(data + 2) != length - STUN_HEADER || load_be32(data + 4) != COOKIE)
        return -EBADMSG;
    *msg = (struct stun_msg){
        .data = data,
        .length = (uint16_t)length,
        .type = load_be16(data),
        .id = data + 8,
    };
    for (size_t at = STUN_HEADER; at < length;) {
        // The rest is a multiple of 4, so a head is there, and the padding of a value that fits.
        uint16_t type = load_be16(data + at);
        size_t value = load_be16(data + at + 2);
        const uint8_t *p = data + at + ATTR_HEAD;

        if (msg->fingerprint != 0 || value > length - at - ATTR_HEAD)
            return -EBADMSG;
        if (type == ATTR_FINGERPRINT) {
            if (value != 4)
                return -EBADMSG;
            msg->fingerprint = (uint16_t)at;
        } else if (msg->integrity == 0 && type == ATTR_INTEGRITY) {
            if (value != SHA1_LEN)
                return -EBADMSG;
            msg->integrity = (uint16_t)at;
        } else if (msg->integrity == 0 && !read_attribute(msg, type, p, value)) {
            return -EBADMSG;
        }
        at += ATTR_HEAD + ((value + 3) & ~(size_t)3);
    }
    return 0;
}

bool stun_split_username(const struct stun_msg *msg, const char **receiver, size_t *receiver_length,
                         const char **sender, size_t *sender_length)
{
    const char *name = (const char *)msg->username;
    const char *colon = name != NULL ? memchr(name, ':', msg->username_length) : NULL;

    if (colon == NULL)
        return false;
    *receiver = name;
    *receiver_length = (size_t)(colon - name);
    *sender = colon + 1;
    *sender_length = msg->username_length - *receiver_length - 1;
    return true;
}

// A message being written; `length` 0 once something did not fit.
struct writer {
    uint8_t *buf;
    size_t size, length;
};

static void begin(struct writer *w, enum stun_type type, const uint8_t *id)
{
    if (w->size < STUN_HEADER)
        return;
    store_be16(w->buf, (uint16_t)type);
    store_be16(w->buf + 2, 0);
    store_be32(w->buf + 4, COOKIE);
    memcpy(w->buf + 8, id, STUN_ID_LEN);
    w->length = STUN_HEADER;
}

// Appends an attribute's head and padding, and returns where its value goes; NULL: no room.
static uint8_t *attribute(struct writer *w, uint16_t type, size_t length)
{
    size_t padded = (length + 3) & ~(size_t)3;

    if (w->length == 0 || w->size - w->length < ATTR_HEAD + padded) {
        w->length = 0;
        return NULL;
    }
    uint8_t *p = w->buf + w->length;
    store_be16(p, type);
    store_be16(p + 2, (uint16_t)length);
    if (padded > length)
        memset(p + ATTR_HEAD + length, 0, padded - length);
    w->length += ATTR_HEAD + padded;
    store_be16(w->buf + 2, (uint16_t)(w->length - STUN_HEADER));
    return p + ATTR_HEAD;
}

static size_t finish(struct writer *w, const struct stun_key *key)
{
    size_t at = w->length;
    uint8_t *p;

    if (key != NULL) {
        p = attribute(w, ATTR_INTEGRITY, SHA1_LEN);
        if (p != NULL)
            message_hmac(key, w->buf, at, p);
    }
    at = w->length;
    p = attribute(w, ATTR_FINGERPRINT, 4);
    if (p != NULL)
        store_be32(p, crc32(w->buf, at) ^ FINGERPRINT_XOR);
    return w->length;
}

size_t stun_write_success(uint8_t *buf, size_t size, const uint8_t *id,
                          const struct abi_addr *mapped, const struct stun_key *key)
{
    struct writer w = {.buf = buf, .size = size};
    size_t ip = mapped->family == 4 ? 4 : 16;

    begin(&w, STUN_BINDING_SUCCESS, id);
    uint8_t *p = attribute(&w, ATTR_XOR_MAPPED_ADDRESS, 4 + ip);
    if (p != NULL) {
        p[0] = 0;
        p[1] = mapped->family == 4 ? 1 : 2;
        store_be16(p + 2, mapped->port ^ (COOKIE >> 16));
        xor_address(p + 4, mapped->ip, ip, buf + 4);
    }
    return finish(&w, key);
}

size_t stun_write_error(uint8_t *buf, size_t size, const struct stun_msg *request,
                        enum stun_error code, const struct stun_key *key)
{
    struct writer w = {.buf = buf, .size = size};

    begin(&w, STUN_BINDING_ERROR, request->id);
    uint8_t *p = attribute(&w, ATTR_ERROR_CODE, 4);
    if (p != NULL)
        store_be32(p, (uint32_t)code / 100 << 8 | (uint32_t)code % 100);
    if (code == STUN_UNKNOWN_ATTRIBUTE) {
        p = attribute(&w, ATTR_UNKNOWN, (size_t)request->unknown_count * 2);
        for (unsigned i = 0; p != NULL && i < request->unknown_count; i++)
            store_be16(p + (size_t)i * 2, request->unknown[i]);
    }
    return finish(&w, key);
}

size_t stun_write_request(uint8_t *buf, size_t size, const struct stun_check *check,
                          const struct stun_key *key)
{
    struct writer w = {.buf = buf, .size = size};
    uint8_t *p;

    if (check->username != NULL && check->username_length > STUN_USERNAME_MAX)
        return 0;
    begin(&w, STUN_BINDING_REQUEST, check->id);
    if (check->username != NULL) {
        p = attribute(&w, ATTR_USERNAME, check->username_length);
        if (p != NULL && check->username_length > 0)
            memcpy(p, check->username, check->username_length);
    }
    if (check->priority != 0) {
        p = attribute(&w, ATTR_PRIORITY, 4);
        if (p != NULL)
            store_be32(p, check->priority);
    }
    if (check->role != STUN_ROLE_NONE) {
        p = attribute(&w, check->role == STUN_ROLE_CONTROLLING ? ATTR_CONTROLLING : ATTR_CONTROLLED,
                      8);
        if (p != NULL)
            store_be64(p, check->tiebreaker);
    }
    if (check->use_candidate)
        attribute(&w, ATTR_USE_CANDIDATE, 0);
    return finish(&w, key);
}
