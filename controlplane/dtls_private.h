// What dtls.c and dtls_identity.c share.
#ifndef HITLESS_DTLS_PRIVATE_H
#define HITLESS_DTLS_PRIVATE_H

#include "dtls.h"

#define DTLS_PROFILES 3

struct dtls_profile {
    enum srtp_profile profile;
    const char *name; // OpenSSL's
    uint8_t key, salt;
};
extern const struct dtls_profile dtls_profiles[DTLS_PROFILES]; // best first

// Makes the sessions' BIO method, once. 0 or -ENOMEM.
int dtls_make_bio(void);

// Stands in for chain verification: self-signed certificates have no chain. Returning 0 makes
// OpenSSL send an alert and fail the handshake before it derives application keys.
int dtls_verify(X509_STORE_CTX *store, void *unused);

#endif
