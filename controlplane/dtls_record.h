// Which DTLS records are worth reading: RFC 6347 4.1 and 4.2.2. Pure; any thread.
//
// Records of the handshake's first epoch are not authenticated, and OpenSSL ends a handshake over
// one that makes no sense. RFC 6347 4.1.2.7 would rather have it dropped: anybody who can send from
// the peer's address can write one. Later epochs are left to OpenSSL, which drops what does not
// authenticate. A forgery that makes sense (a whole message, an alert) still does harm.
#ifndef HITLESS_DTLS_RECORD_H
#define HITLESS_DTLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Copies those records of a datagram that may be read to `out`, which has room for `size` bytes.
// `from_client`: the peer is the DTLS client. Returns the bytes kept.
size_t dtls_record_sift(const uint8_t *datagram, size_t size, bool from_client, uint8_t *out);

#endif
