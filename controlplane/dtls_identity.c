// Our side of all DTLS sessions: certificate, SRTP profiles, and what a peer's certificate is held
// against. Runs on the control plane's loop (and in hitless-bees).
#include "dtls_private.h"
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CERTIFICATE_DAYS 3650
#define CIPHERS                                                                                    \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:"   \
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384"

const struct dtls_profile dtls_profiles[DTLS_PROFILES] = {
    {PROFILE_AEAD_AES_128_GCM, "SRTP_AEAD_AES_128_GCM", 16, 12},
    {PROFILE_AES128_CM_SHA1_80, "SRTP_AES128_CM_SHA1_80", 16, 14},
    {PROFILE_AEAD_AES_256_GCM, "SRTP_AEAD_AES_256_GCM", 32, 12},
};

static int set_profiles(SSL_CTX *ctx, const enum srtp_profile *profiles, size_t count)
{
    char list[128] = "";
    size_t used = 0;
    unsigned seen = 0;
    for (size_t i = 0; i < (count > 0 ? count : DTLS_PROFILES); i++) {
        size_t p = count > 0 ? 0 : i;
        while (count > 0 && p < DTLS_PROFILES && dtls_profiles[p].profile != profiles[i])
            p++;
        if (p == DTLS_PROFILES || (seen & 1u << p))
            return -EINVAL;
        seen |= 1u << p;
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ":" : "",
                                 dtls_profiles[p].name);
    }
    return SSL_CTX_set_tlsext_use_srtp(ctx, list) == 0 ? 0 : -EINVAL;
}

static X509 *self_signed(EVP_PKEY *key)
{
    X509 *x = X509_new();
    uint64_t serial;
    if (x == NULL || RAND_bytes((uint8_t *)&serial, sizeof(serial)) != 1)
        goto fail;
    X509_NAME *name = X509_get_subject_name(x);
    if (!X509_set_version(x, X509_VERSION_3) ||
        !ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1 | 1) ||
        !X509_gmtime_adj(X509_getm_notBefore(x), -86400) ||
        !X509_time_adj_ex(X509_getm_notAfter(x), CERTIFICATE_DAYS, 0, NULL) ||
        !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"hitless", -1, -1,
                                    0) ||
        !X509_set_issuer_name(x, name) || !X509_set_pubkey(x, key) ||
        X509_sign(x, key, EVP_sha256()) <= 0)
        goto fail;
    return x;
fail:
    X509_free(x);
    return NULL;
}

static void write_fingerprint(char out[static DTLS_FINGERPRINT_TEXT], const X509 *certificate)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    out[0] = 0;
    X509_digest(certificate, EVP_sha256(), digest, &size);
    OPENSSL_buf2hexstr_ex(out, DTLS_FINGERPRINT_TEXT, NULL, digest, size, ':');
}

int dtls_identity_init(struct dtls_identity *identity, const enum srtp_profile *profiles,
                       size_t count)
{
    *identity = (struct dtls_identity){.mtu = DTLS_MTU};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key != NULL ? self_signed(key) : NULL;
    SSL_CTX *ctx = SSL_CTX_new(DTLS_method());
    int rc = dtls_make_bio();
    if (rc == 0 && (certificate == NULL || ctx == NULL))
        rc = -ENOMEM;
    if (rc == 0)
        rc = set_profiles(ctx, profiles, count);
    if (rc == 0 &&
        (SSL_CTX_set_min_proto_version(ctx, DTLS1_2_VERSION) != 1 ||
         SSL_CTX_set_cipher_list(ctx, CIPHERS) != 1 ||
         SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") != 1 ||
         SSL_CTX_use_certificate(ctx, certificate) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1))
        rc = -ENOMEM;
    if (rc == 0) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_QUERY_MTU |
                                     SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        SSL_CTX_set_cert_verify_callback(ctx, dtls_verify, NULL);
        write_fingerprint(identity->fingerprint, certificate);
        identity->ctx = ctx;
    } else {
        SSL_CTX_free(ctx);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rc;
}

void dtls_identity_free(struct dtls_identity *identity)
{
    SSL_CTX_free(identity->ctx);
    identity->ctx = NULL;
}

int dtls_fingerprint_parse(struct dtls_fingerprint *out, const char *algorithm, const char *digest)
{
    *out = (struct dtls_fingerprint){0};
    size_t size = strcasecmp(algorithm, "sha-256") == 0   ? 32
                  : strcasecmp(algorithm, "sha-384") == 0 ? 48
                  : strcasecmp(algorithm, "sha-512") == 0 ? 64
                                                          : 0;
    if (size == 0)
        return -ENOTSUP;
    if (strlen(digest) != size * 3 - 1)
        return -EINVAL;
    for (size_t i = 0; i < size; i++, digest += 3) {
        if (!isxdigit((unsigned char)digest[0]) || !isxdigit((unsigned char)digest[1]) ||
            (i + 1 < size && digest[2] != ':'))
            return -EINVAL;
        out->digest[i] = (uint8_t)(OPENSSL_hexchar2int((unsigned char)digest[0]) << 4 |
                                   OPENSSL_hexchar2int((unsigned char)digest[1]));
    }
    out->size = (uint8_t)size;
    return 0;
}
