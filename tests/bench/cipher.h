// The bare cipher library, to compare with: packets of one size sealed from one shared payload
// under CIPHER_KEYS keys, everything laid out beforehand. One thread.
#ifndef HITLESS_BENCH_CIPHER_H
#define HITLESS_BENCH_CIPHER_H

#include "../../dataplane/abi/messages.h"

#define CIPHER_KEYS 64

struct cipher;

// Never NULL: ends the program when it cannot be made.
struct cipher *cipher_new(enum srtp_profile profile, unsigned payload);
void cipher_free(struct cipher *cipher);

// Seals CIPHER_KEYS packets.
void cipher_seal(struct cipher *cipher);

#endif
