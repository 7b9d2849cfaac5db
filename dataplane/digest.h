// CRC-32 and SHA-1 in steps, for STUN's FINGERPRINT and MESSAGE-INTEGRITY.
//
// Pure and re-entrant: the state is the caller's, so a hash can resume from a saved one. SHA-1 is
// what RFC 8489 prescribes here; it protects nothing else. FIPS 180-4; ISO 3309.
#ifndef HITLESS_DIGEST_H
#define HITLESS_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { SHA1_LEN = 20, SHA1_BLOCK = 64 };

uint32_t digest_crc32(const uint8_t *p, size_t length);

void digest_sha1_start(uint32_t state[5]);
// Hashes whole blocks, with the CPU's SHA extensions where it has them.
void digest_sha1(uint32_t state[5], const uint8_t *p, size_t blocks);
// The same without them.
void digest_sha1_portable(uint32_t state[5], const uint8_t *p, size_t blocks);
// Ends a hash of `total` bytes, the last `length` of which are still to be hashed.
void digest_sha1_finish(uint32_t state[5], const uint8_t *p, size_t length, uint64_t total,
                        uint8_t digest[SHA1_LEN]);

#endif
