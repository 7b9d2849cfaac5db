// SRTP and SRTCP (RFC 3711, RFC 7714): keys, sealing in bulk, opening, replay.
//
// Owns the packet transform and nothing else: sessions, SSRC tables and index counters are the
// caller's. A struct protect belongs to one thread. Keys hold no pointers, so they may live in
// shared memory and outlive the process that made them; a process that inherits them calls
// protect_tx_adopt and friends once before it uses them. They never travel to another machine:
// expanded keys depend on the CPU and the library.
//
// No keystream twice: (key, SSRC, index) must never protect two different packets. Sealing takes
// the index from the caller, who must never use one twice with other bytes; building with
// -DPROTECT_AUDIT makes a repeat abort (protect_audit.c).
//
// Limits: tags of 10 bytes (AES-CM) or 16 (GCM); no MKI; key derivation rate 0; no null cipher.
#ifndef HITLESS_PROTECT_H
#define HITLESS_PROTECT_H

#include "abi/messages.h"
#include "replay.h"
#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTECT_BURST 64     // jobs that are worked on together; more are cut into bursts
#define PROTECT_TAG_ROOM 16  // bytes that must be writable behind an RTP payload, every profile
#define PROTECT_RTCP_ROOM 20 // the same behind an RTCP packet: E bit, index and tag

// Bytes of the authentication tag that a profile puts behind an RTP payload; 0: unknown profile.
static inline unsigned protect_tag_len(unsigned profile)
{
    return profile == PROFILE_AES128_CM_SHA1_80  ? 10
           : profile == PROFILE_AEAD_AES_128_GCM ? 16
           : profile == PROFILE_AEAD_AES_256_GCM ? 16
                                                 : 0;
}

// Bytes of master key and of master salt (RFC 5764 4.1.2, RFC 7714 12); 0: unknown profile.
static inline unsigned protect_master_key_len(unsigned profile)
{
    return profile == PROFILE_AEAD_AES_256_GCM ? 32 : protect_tag_len(profile) ? 16 : 0;
}
static inline unsigned protect_master_salt_len(unsigned profile)
{
    return profile == PROFILE_AES128_CM_SHA1_80 ? 14 : protect_tag_len(profile) ? 12 : 0;
}

// One direction's RTP session keys, expanded. Use through protect_tx and protect_rx.
// Sixteen bytes of head put GCM's table of hash-key powers on a cache line.
struct protect_key {
    _Alignas(ABI_CACHE_LINE) uint8_t salt[14]; // session salt; GCM uses 12
    uint8_t profile;                           // enum srtp_profile; 0: no key
    uint8_t backend;                           // enum abi_crypto that expanded it
    union {
        uint8_t gcm[1008]; // ipsec-mb's struct gcm_key_data; begins with the session key
        struct {
            uint8_t round_keys[11 * 16];  // begins with the session key
            uint8_t inner[20], outer[20]; // SHA-1 states of the HMAC key's two pads
        } cm;
        struct {
            uint8_t cipher[32], auth[20];
            uint32_t slot;  // of the backend's session table
            uint64_t epoch; // of the process that filled the slot
        } device;
    };
};
_Static_assert(sizeof(struct protect_key) == 1024, "per-viewer memory budget");

struct protect_tx { // what one session sends
    struct protect_key key;
};
struct protect_rx { // what one session receives
    struct protect_key key;
};

// One direction's SRTCP session keys, compact; expanded anew for every packet.
struct protect_rtcp_key {
    _Alignas(16) uint8_t salt[14]; // session salt; GCM uses 12
    uint8_t profile;               // enum srtp_profile; 0: no key
    uint8_t pad;
    uint8_t cipher[32], auth[20];
};
struct protect_rtcp_tx {
    struct protect_rtcp_key key;
};
struct protect_rtcp_rx {
    struct protect_rtcp_key key;
};

// What is remembered of one SSRC that a session receives RTP from. All zero but `ssrc` is a new
// source. To continue one whose rollover counter is known, commit (ROC << 16 | SEQ) to
// its window.
struct protect_source {
    uint32_t ssrc;
    uint32_t pad;
    struct replay replay; // its top is ROC << 16 | highest SEQ
};
// The same for RTCP, by the 31-bit index.
struct protect_rtcp_source {
    uint32_t ssrc;
    uint32_t pad;
    struct replay_short replay;
};

// One RTP packet to be sealed. The RTP header (CSRCs and extensions included) already stands at
// `dst`, whose last PROTECT_TAG_ROOM bytes behind the payload must be writable whatever the tag's
// length. `src` is shared plaintext, never written; it may be dst + header_len (in place) but must
// not overlap it in any other way.
struct seal_job {
    const struct protect_tx *tx;
    const uint8_t *src; // plaintext payload
    uint8_t *dst;       // RTP header, then room for ciphertext and tag
    uint16_t header_len;
    uint16_t payload_len;
    uint32_t ssrc;  // as in the header
    uint64_t index; // 48 bits: ROC << 16 | SEQ, SEQ as in the header
};

// The IV of AES-CM (RFC 3711 4.1.1): SSRC and 48-bit index under the 14-byte salt, then a 16-bit
// block counter. `salt` is a key's: two readable bytes follow it.
static inline void protect_cm_iv(uint8_t iv[16], const uint8_t *salt, uint32_t ssrc, uint64_t index)
{
    uint64_t head, tail;
    memcpy(&head, salt, sizeof(head));
    memcpy(&tail, salt + 8, sizeof(tail));
    head ^= htobe64(ssrc);
    tail = (tail ^ htobe64(index << 16)) & htobe64(~0xffffull);
    memcpy(iv, &head, sizeof(head));
    memcpy(iv + 8, &tail, sizeof(tail));
}

// The IV of GCM (RFC 7714 8.1, 9.1): two zero octets, SSRC and 48-bit index under the 12-byte salt.
static inline void protect_gcm_iv(uint8_t iv[12], const uint8_t *salt, uint32_t ssrc,
                                  uint64_t index)
{
    uint64_t head;
    uint32_t tail;
    memcpy(&head, salt, sizeof(head));
    memcpy(&tail, salt + 8, sizeof(tail));
    head ^= htobe64((uint64_t)ssrc << 16 | index >> 32);
    tail ^= htobe32((uint32_t)index);
    memcpy(iv, &head, sizeof(head));
    memcpy(iv + 8, &tail, sizeof(tail));
}

// Compares tags without telling where the first difference is.
static inline bool protect_same_tag(const uint8_t *a, const uint8_t *b, unsigned len)
{
    uint8_t differ = 0;
    for (unsigned i = 0; i < len; i++)
        differ |= a[i] ^ b[i];
    return differ == 0;
}

struct protect_ops;

// One thread's crypto engine.
struct protect {
    const struct protect_ops *ops;
    void *state;           // the backend's own
    struct protect *brief; // for keys that are used once, on a short packet; NULL: this one
};

// Makes the calling thread's engine with ipsec-mb's best code for this CPU (ABI_CRYPTO_IPSEC_MB).
// For cryptodev see protect_cryptodev.h. Returns 0, -ENOMEM or -ENOTSUP.
int protect_new(struct protect **out);
void protect_free(struct protect *p);

// Derives session keys from a DTLS-SRTP master key followed by its master salt (RFC 3711 4.3,
// key_derivation_rate 0). `master` holds protect_master_key_len + protect_master_salt_len bytes and
// is only read; temporaries are wiped. Returns 0, -EINVAL for an unknown profile, -ENOMEM.
int protect_tx_init(struct protect *p, struct protect_tx *tx, unsigned profile,
                    const uint8_t *master);
int protect_rx_init(struct protect *p, struct protect_rx *rx, unsigned profile,
                    const uint8_t *master);
int protect_rtcp_tx_init(struct protect_rtcp_tx *tx, unsigned profile, const uint8_t *master);
int protect_rtcp_rx_init(struct protect_rtcp_rx *rx, unsigned profile, const uint8_t *master);

// Makes a key usable that another engine made: an earlier process's, maybe with another CPU path,
// library or backend version, or another thread's when a session moves. Returns 0, -EINVAL when it
// holds no key, -ENOMEM, or -ENOTSUP when another kind of backend made it. RTCP keys need no
// adopting.
int protect_tx_adopt(struct protect *p, struct protect_tx *tx);
int protect_rx_adopt(struct protect *p, struct protect_rx *rx);

// Wipe a key.
void protect_tx_clear(struct protect *p, struct protect_tx *tx);
void protect_rx_clear(struct protect *p, struct protect_rx *rx);
void protect_rtcp_tx_clear(struct protect_rtcp_tx *tx);
void protect_rtcp_rx_clear(struct protect_rtcp_rx *rx);

// Seals n packets: dst then holds header, ciphertext and tag of protect_tag_len bytes. Keys,
// lengths and profiles may differ from job to job; equal lengths are fastest with AES-CM. Any n.
void protect_seal(struct protect *p, const struct seal_job *jobs, unsigned n);

// Opens one RTP packet of `source->ssrc`: estimates its index (RFC 3711 3.3.1; a new source starts
// with ROC 0), checks replay, authenticates, decrypts, then commits the index. `out` is `in` itself
// or another buffer of `size` bytes, and gets header and payload; *out_size their length. Returns
// 0, -EINVAL (not RTP, too short or another SSRC), -EALREADY (replayed or too old) or -EBADMSG (not
// authentic). After an error `source` is as before and `out` holds nothing of use.
int protect_open(struct protect *p, const struct protect_rx *rx, struct protect_source *source,
                 const uint8_t *in, size_t size, uint8_t *out, size_t *out_size, uint64_t *index);

// Seals a compound RTCP packet of `size` bytes (>= 8) in place; `packet` has PROTECT_RTCP_ROOM
// bytes more. `index` is 31 bits, encryption always on, and must not repeat for this key and SSRC.
// Returns 0 with the new length in *out_size, or -EINVAL.
int protect_rtcp_seal(struct protect *p, const struct protect_rtcp_tx *tx, uint8_t *packet,
                      size_t size, uint32_t index, size_t *out_size);

// Opens an SRTCP packet in place or into `out` (`size` bytes). `source` is of the packet's sender
// SSRC, kept apart from RTP's. An authentic packet without the E bit is accepted unencrypted.
// Returns like protect_open, with the RTCP packet's length and its 31-bit index.
int protect_rtcp_open(struct protect *p, const struct protect_rtcp_rx *rx,
                      struct protect_rtcp_source *source, const uint8_t *in, size_t size,
                      uint8_t *out, size_t *out_size, uint32_t *index);

// What a backend does. Sealing in bulk is its own; everything rarer is built in protect.c from
// three primitives on one packet.
struct protect_ops {
    const char *name;
    uint8_t backend; // enum abi_crypto
    // Expands session keys into `key`, whose profile and salt are set. `auth` is NULL for GCM.
    int (*expand)(struct protect *p, struct protect_key *key, const uint8_t *cipher,
                  const uint8_t *auth);
    // Expands again from what the key holds.
    int (*adopt)(struct protect *p, struct protect_key *key);
    // Gives up what the backend holds for the key; the caller wipes it.
    void (*release)(struct protect *p, struct protect_key *key);
    void (*seal)(struct protect *p, const struct seal_job *jobs, unsigned n);
    void (*free)(struct protect *p);
    // AES-GCM of `len` bytes, in place or not. Encrypting writes the 16-byte tag; decrypting checks
    // it. Returns 0, -EBADMSG or another negative errno.
    int (*gcm)(struct protect *p, const struct protect_key *key, bool encrypt, const uint8_t iv[12],
               const uint8_t *aad, size_t aad_len, const uint8_t *src, uint8_t *dst, size_t len,
               uint8_t tag[16]);
    // AES-CTR of `len` bytes.
    int (*ctr)(struct protect *p, const struct protect_key *key, const uint8_t iv[16],
               const uint8_t *src, uint8_t *dst, size_t len);
    // HMAC-SHA1-80.
    int (*hmac)(struct protect *p, const struct protect_key *key, const uint8_t *data, size_t len,
                uint8_t tag[10]);
};

#endif
