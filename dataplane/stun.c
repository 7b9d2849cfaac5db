// STUN messages and their HMAC-SHA1; see stun.h.
#include "stun.h"
#include "bytes.h"
#include "digest.h"
#include <errno.h>

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
};

void stun_key_init(struct stun_key *key, const void *password, size_t length)
{
    uint8_t block[SHA1_BLOCK] = {0};

    if (length > SHA1_BLOCK) {
        uint32_t state[5];
        digest_sha1_start(state);
        digest_sha1_finish(state, password, length, length, block);
    } else if (length > 0) {
        memcpy(block, password, length);
    }
    for (size_t i = 0; i < SHA1_BLOCK; i++)
        block[i] ^= 0x36;
    digest_sha1_start(key->inner);
    digest_sha1(key->inner, block, 1);
    for (size_t i = 0; i < SHA1_BLOCK; i++)
        block[i] ^= 0x36 ^ 0x5c;
    digest_sha1_start(key->outer);
    digest_sha1(key->outer, block, 1);
    explicit_bzero(block, sizeof(block));
}

static void finish_hmac(const struct stun_key *key, uint8_t digest[SHA1_LEN])
{
    uint32_t state[5];
    memcpy(state, key->outer, sizeof(state));
    digest_sha1_finish(state, digest, SHA1_LEN, SHA1_BLOCK + SHA1_LEN, digest);
}

void stun_make_id(const struct stun_key *secret, const void *about, size_t length,
                  uint8_t id[STUN_ID_SECRET])
{
    uint8_t digest[SHA1_LEN];
    uint32_t state[5];
    memcpy(state, secret->inner, sizeof(state));
    digest_sha1_finish(state, about, length, SHA1_BLOCK + length, digest);
    finish_hmac(secret, digest);
    memcpy(id, digest, STUN_ID_SECRET);
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
        digest_sha1_finish(state, first, head, SHA1_BLOCK + integrity, digest);
    } else {
        digest_sha1(state, first, 1);
        digest_sha1_finish(state, data + SHA1_BLOCK, integrity - SHA1_BLOCK, SHA1_BLOCK + integrity,
                           digest);
    }
    finish_hmac(key, digest);
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
    return msg->fingerprint != 0 &&
           load_be32(msg->data + msg->fingerprint + ATTR_HEAD) ==
               (digest_crc32(msg->data, msg->fingerprint) ^ FINGERPRINT_XOR);
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
        store_be32(p, digest_crc32(w->buf, at) ^ FINGERPRINT_XOR);
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
