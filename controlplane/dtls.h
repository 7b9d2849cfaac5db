// DTLS-SRTP: one handshake and its keys (RFC 5764, 6347, 8842), on OpenSSL, without sockets or
// loop.
//
// Datagrams go in through dtls_input and come out through a callback, one call each; time comes in
// through dtls_tick. Both roles. The peer's certificate is held against the fingerprints of its SDP
// while the handshake runs (RFC 8122), so no key exists for a peer that is not the one who
// signalled. Not thread-safe: one thread per identity and its sessions. Limits: DTLS 1.2 only, no
// cookie exchange (the caller passes datagrams of validated addresses only), no renegotiation, no
// resumption.
#ifndef HITLESS_DTLS_H
#define HITLESS_DTLS_H

#include "../dataplane/abi/messages.h"
#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#define DTLS_MTU 1200 // UDP payload of our handshake datagrams; larger messages are fragmented
#define DTLS_FINGERPRINT_TEXT 96
#define DTLS_MAX_FINGERPRINTS 4
#define DTLS_FIRST_TIMEOUT_MS 200 // then doubled up to DTLS_LAST_TIMEOUT_MS (RFC 6347 4.2.4.1)
#define DTLS_LAST_TIMEOUT_MS 3000

// Our certificate and what all sessions share. Made at start, then read-only.
struct dtls_identity {
    SSL_CTX *ctx;
    char fingerprint[DTLS_FINGERPRINT_TEXT]; // "AB:CD:…", sha-256
    uint16_t mtu;                            // DTLS_MTU unless changed before the first session
};

// Makes a P-256 key and a self-signed certificate. `profiles` ranks what we offer and choose, best
// first; count 0 stands for AEAD_AES_128_GCM, AES128_CM_SHA1_80, AEAD_AES_256_GCM.
// 0, -EINVAL for an unknown or repeated profile, or -ENOMEM.
int dtls_identity_init(struct dtls_identity *identity, const enum srtp_profile *profiles,
                       size_t count);
void dtls_identity_free(struct dtls_identity *identity);

// One a=fingerprint line: the digest of a certificate.
struct dtls_fingerprint {
    uint8_t size; // 32, 48 or 64: sha-256, sha-384, sha-512
    uint8_t digest[64];
};

// Reads "sha-256" and "ab:CD:…" (RFC 8122 5, either case). 0, -ENOTSUP for another hash function,
// -EINVAL when the digest is not exactly that function's.
int dtls_fingerprint_parse(struct dtls_fingerprint *out, const char *algorithm, const char *digest);

enum dtls_role { DTLS_CLIENT, DTLS_SERVER };
enum dtls_state { DTLS_HANDSHAKE, DTLS_OPEN, DTLS_CLOSED, DTLS_FAILED };
enum dtls_failure {
    DTLS_FAILURE_NONE,
    DTLS_FAILURE_FINGERPRINT, // the certificate is none of the SDP's
    DTLS_FAILURE_PROFILE,     // no SRTP profile in common
    DTLS_FAILURE_ALERT,       // the peer sent a fatal alert
    DTLS_FAILURE_TIMEOUT,     // the last flight was sent 12 times without an answer
    DTLS_FAILURE_PROTOCOL,    // anything else that OpenSSL refuses
};

struct dtls;

// Called for each datagram to send. Must not free the session.
typedef void (*dtls_send_fn)(void *opaque, const uint8_t *data, size_t size);

// Makes a session. `peers` (copied, 1..DTLS_MAX_FINGERPRINTS) are the SDP's; of several hash
// functions only the strongest counts (RFC 8122 5). `identity` outlives it. 0, -EINVAL or -ENOMEM.
int dtls_new(struct dtls **out, const struct dtls_identity *identity, enum dtls_role role,
             const struct dtls_fingerprint *peers, size_t count, dtls_send_fn send, void *opaque);
void dtls_free(struct dtls *dtls); // says nothing to the peer; NULL is allowed

// Sends the first flight of a client; does nothing as a server or when called again.
enum dtls_state dtls_start(struct dtls *dtls);

// Takes one datagram from the peer. What does not parse or authenticate is ignored, see
// dtls_record.h; so is a datagram of more than MSG_DATAGRAM_MAX bytes.
enum dtls_state dtls_input(struct dtls *dtls, const uint8_t *data, size_t size);

// Milliseconds until dtls_tick has something to do, 0 if it is due, -1 if there is nothing.
int dtls_timeout_ms(const struct dtls *dtls);
// Sends the last flight again if its time has come.
enum dtls_state dtls_tick(struct dtls *dtls);

enum dtls_state dtls_state(const struct dtls *dtls);
enum dtls_failure dtls_failure(const struct dtls *dtls);
const char *dtls_error(const struct dtls *dtls); // one line for the log; "" without a failure

// The SRTP keys of an open session, master key then master salt each way (RFC 5764 4.2).
struct dtls_keys {
    enum srtp_profile profile;
    size_t size; // bytes used in each: 30, 28 or 44
    uint8_t local[MSG_KEY_MAX], remote[MSG_KEY_MAX];
};
// 0, or -ENOTCONN before and after DTLS_OPEN. The caller wipes `keys` (dtls_wipe).
int dtls_export(struct dtls *dtls, struct dtls_keys *keys);
void dtls_wipe(void *secret, size_t size);

// Sends close_notify once, if the handshake was done.
void dtls_close(struct dtls *dtls);

#endif
