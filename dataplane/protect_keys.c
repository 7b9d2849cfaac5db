// Session keys of SRTP and SRTCP: derived (RFC 3711 4.3, RFC 6188, RFC 7714 11), taken up from a
// table that outlived its process, wiped. Declared in protect.h.
#include "protect_keys.h"
#include <openssl/evp.h>
#include <string.h>

#define SESSION_KEYS_MAX 32u

// key_derivation_rate 0 labels (RFC 3711 4.3.1); SRTCP's are RTP's plus LABEL_RTCP.
enum { LABEL_CIPHER = 0, LABEL_AUTH = 1, LABEL_SALT = 2, LABEL_RTCP = 3 };

// What both directions of both protocols derive from one master key.
struct session_keys {
    uint8_t cipher[32], auth[20], salt[14];
};

// AES-CM PRF (RFC 3711 4.3.3, RFC 6188 for 256-bit keys): `len` bytes of keystream from
// (label << 48 XOR master salt) << 16.
static int derive_one(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const uint8_t *key,
                      const uint8_t salt[14], uint8_t label, uint8_t *out, unsigned len)
{
    static const uint8_t zero[SESSION_KEYS_MAX];
    uint8_t iv[16] = {0};
    memcpy(iv, salt, 14);
    iv[7] ^= label;
    int done = 0;
    bool ok = EVP_EncryptInit_ex(ctx, cipher, NULL, key, iv) == 1 &&
              EVP_EncryptUpdate(ctx, out, &done, zero, (int)len) == 1 && done == (int)len;
    explicit_bzero(iv, sizeof(iv));
    return ok ? 0 : -ENOMEM;
}

static int derive(struct session_keys *keys, unsigned profile, const uint8_t *master, uint8_t base)
{
    unsigned key_len = protect_master_key_len(profile), salt_len = protect_master_salt_len(profile);
    if (!key_len)
        return -EINVAL;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!ctx)
        return -ENOMEM;
    const EVP_CIPHER *cipher = key_len == 32 ? EVP_aes_256_ctr() : EVP_aes_128_ctr();
    uint8_t salt[14] = {0}; // GCM's 96 bits are padded on the right (RFC 7714 11)
    memcpy(salt, master + key_len, salt_len);
    int rc = derive_one(ctx, cipher, master, salt, base + LABEL_CIPHER, keys->cipher, key_len);
    if (!rc)
        rc = derive_one(ctx, cipher, master, salt, base + LABEL_AUTH, keys->auth,
                        sizeof(keys->auth));
    memset(keys->salt, 0, sizeof(keys->salt));
    if (!rc)
        rc = derive_one(ctx, cipher, master, salt, base + LABEL_SALT, keys->salt, salt_len);
    explicit_bzero(salt, sizeof(salt));
    EVP_CIPHER_CTX_free(ctx); // wipes its key schedule
    return rc;
}

static int key_init(struct protect *p, struct protect_key *key, unsigned profile,
                    const uint8_t *master)
{
    struct session_keys keys;
    int rc = derive(&keys, profile, master, 0);
    if (!rc) {
        memset(key, 0, sizeof(*key));
        memcpy(key->salt, keys.salt, sizeof(key->salt));
        key->profile = (uint8_t)profile;
        key->backend = p->ops->backend;
        rc = p->ops->expand(p, key, keys.cipher, keys.auth);
    }
    explicit_bzero(&keys, sizeof(keys));
    if (rc)
        explicit_bzero(key, sizeof(*key));
    return rc;
}

static int rtcp_key_init(struct protect_rtcp_key *key, unsigned profile, const uint8_t *master)
{
    struct session_keys keys;
    int rc = derive(&keys, profile, master, LABEL_RTCP);
    if (!rc) {
        memset(key, 0, sizeof(*key));
        memcpy(key->salt, keys.salt, sizeof(key->salt));
        memcpy(key->cipher, keys.cipher, protect_master_key_len(profile));
        memcpy(key->auth, keys.auth, sizeof(key->auth));
        key->profile = (uint8_t)profile;
    }
    explicit_bzero(&keys, sizeof(keys));
    return rc;
}

int protect_tx_init(struct protect *p, struct protect_tx *tx, unsigned profile,
                    const uint8_t *master)
{
    return key_init(p, &tx->key, profile, master);
}

int protect_rx_init(struct protect *p, struct protect_rx *rx, unsigned profile,
                    const uint8_t *master)
{
    return key_init(p, &rx->key, profile, master);
}

int protect_rtcp_tx_init(struct protect_rtcp_tx *tx, unsigned profile, const uint8_t *master)
{
    return rtcp_key_init(&tx->key, profile, master);
}

int protect_rtcp_rx_init(struct protect_rtcp_rx *rx, unsigned profile, const uint8_t *master)
{
    return rtcp_key_init(&rx->key, profile, master);
}

static int key_adopt(struct protect *p, struct protect_key *key)
{
    if (!protect_tag_len(key->profile))
        return -EINVAL;
    if (key->backend != p->ops->backend)
        return -ENOTSUP;
    return p->ops->adopt(p, key);
}

int protect_tx_adopt(struct protect *p, struct protect_tx *tx)
{
    return key_adopt(p, &tx->key);
}

int protect_rx_adopt(struct protect *p, struct protect_rx *rx)
{
    return key_adopt(p, &rx->key);
}

void protect_key_clear(struct protect *p, struct protect_key *key)
{
    if (key->profile && key->backend == p->ops->backend)
        p->ops->release(p, key);
    explicit_bzero(key, sizeof(*key));
}

void protect_tx_clear(struct protect *p, struct protect_tx *tx)
{
    protect_key_clear(p, &tx->key);
}

void protect_rx_clear(struct protect *p, struct protect_rx *rx)
{
    protect_key_clear(p, &rx->key);
}

void protect_rtcp_tx_clear(struct protect_rtcp_tx *tx)
{
    explicit_bzero(tx, sizeof(*tx));
}

void protect_rtcp_rx_clear(struct protect_rtcp_rx *rx)
{
    explicit_bzero(rx, sizeof(*rx));
}
