// DTLS-SRTP on OpenSSL 3.0; see dtls.h. Runs on the control plane's loop (and in hitless-bees).
//
// OpenSSL reads and writes through one BIO of our own: a read yields the datagram at hand, once and
// whole, then "try again"; each write is one datagram. Its retransmission clock is gettimeofday.
#include "dtls_private.h"
#include "dtls_record.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT_LABEL "EXTRACTOR-dtls_srtp"

struct dtls {
    SSL *ssl;
    enum dtls_role role;
    enum dtls_state state;
    enum dtls_failure failure;
    const char *error; // static text
    struct dtls_fingerprint peers[DTLS_MAX_FINGERPRINTS];
    size_t peer_count;
    dtls_send_fn send;
    void *opaque;
    const uint8_t *in; // the datagram being read; NULL once taken
    size_t in_size;
};

static BIO_METHOD *bio_method; // made by the first identity, kept for the life of the process

static int bio_read(BIO *bio, char *out, int size)
{
    struct dtls *d = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (d->in == NULL || size <= 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = d->in_size < (size_t)size ? d->in_size : (size_t)size;
    memcpy(out, d->in, n);
    d->in = NULL;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    struct dtls *d = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (size > 0)
        d->send(d->opaque, (const uint8_t *)data, (size_t)size);
    return size;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH; // a datagram is out as soon as it is written
}

int dtls_make_bio(void)
{
    if (bio_method != NULL)
        return 0;
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "hitless datagram");
    if (m == NULL)
        return -ENOMEM;
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_ctrl(m, bio_ctrl);
    bio_method = m;
    return 0;
}

static const EVP_MD *hash_of_size(size_t size)
{
    return size == 64 ? EVP_sha512() : size == 48 ? EVP_sha384() : EVP_sha256();
}

int dtls_verify(X509_STORE_CTX *store, void *unused)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct dtls *d = SSL_get_app_data(ssl);
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    size_t strongest = 0;
    for (size_t i = 0; i < d->peer_count; i++)
        if (d->peers[i].size > strongest)
            strongest = d->peers[i].size;

    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int match = 0;
    if (certificate != NULL && X509_digest(certificate, hash_of_size(strongest), digest, &size))
        for (size_t i = 0; i < d->peer_count; i++)
            if (d->peers[i].size == strongest && size == strongest)
                match |= CRYPTO_memcmp(d->peers[i].digest, digest, size) == 0;
    if (match) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    d->failure = DTLS_FAILURE_FINGERPRINT;
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
    return 0;
}

static unsigned retransmit_us(SSL *ssl, unsigned last_us)
{
    if (last_us == 0)
        return DTLS_FIRST_TIMEOUT_MS * 1000u;
    return last_us * 2 < DTLS_LAST_TIMEOUT_MS * 1000u ? last_us * 2 : DTLS_LAST_TIMEOUT_MS * 1000u;
}

int dtls_new(struct dtls **out, const struct dtls_identity *identity, enum dtls_role role,
             const struct dtls_fingerprint *peers, size_t count, dtls_send_fn send, void *opaque)
{
    *out = NULL;
    if (count == 0 || count > DTLS_MAX_FINGERPRINTS)
        return -EINVAL;
    struct dtls *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    *d = (struct dtls){
        .role = role, .error = "", .peer_count = count, .send = send, .opaque = opaque};
    memcpy(d->peers, peers, count * sizeof(*peers));
    d->ssl = SSL_new(identity->ctx);
    BIO *bio = BIO_new(bio_method);
    if (d->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        dtls_free(d);
        return -ENOMEM;
    }
    BIO_set_data(bio, d);
    BIO_set_init(bio, 1);
    SSL_set_bio(d->ssl, bio, bio);
    SSL_set_app_data(d->ssl, d);
    SSL_set_mtu(d->ssl, identity->mtu);
    DTLS_set_timer_cb(d->ssl, retransmit_us);
    if (role == DTLS_CLIENT)
        SSL_set_connect_state(d->ssl);
    else
        SSL_set_accept_state(d->ssl);
    *out = d;
    return 0;
}

void dtls_free(struct dtls *d)
{
    if (d == NULL)
        return;
    SSL_free(d->ssl);
    ERR_clear_error();
    free(d);
}

// Turns OpenSSL's error into a state. A call that only wants more input leaves all as it is.
static void settle(struct dtls *d, int result)
{
    int error = SSL_get_error(d->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return;
    if (error == SSL_ERROR_ZERO_RETURN) {
        dtls_close(d); // answers the peer's close_notify
        d->state = DTLS_CLOSED;
        return;
    }
    unsigned long code = ERR_peek_last_error();
    int reason = ERR_GET_REASON(code);
    d->state = DTLS_FAILED;
    if (d->failure == DTLS_FAILURE_FINGERPRINT) {
        d->error = "the peer's certificate does not match the fingerprint in its SDP";
        return;
    }
    d->failure = reason == SSL_R_READ_TIMEOUT_EXPIRED ? DTLS_FAILURE_TIMEOUT
                 : reason > SSL_AD_REASON_OFFSET      ? DTLS_FAILURE_ALERT
                                                      : DTLS_FAILURE_PROTOCOL;
    const char *text = ERR_reason_error_string(code);
    d->error = text != NULL ? text : "the peer broke the protocol";
}

static const SRTP_PROTECTION_PROFILE *agreed(const struct dtls *d)
{
    return SSL_get_selected_srtp_profile(d->ssl);
}

// Goes on as far as the input at hand allows.
static enum dtls_state advance(struct dtls *d)
{
    ERR_clear_error();
    if (d->state == DTLS_HANDSHAKE) {
        int result = SSL_do_handshake(d->ssl);
        if (result == 1 && agreed(d) == NULL) {
            d->failure = DTLS_FAILURE_PROFILE;
            d->error = "no SRTP protection profile in common";
            SSL_shutdown(d->ssl);
            d->state = DTLS_FAILED;
        } else if (result == 1) {
            d->state = DTLS_OPEN;
        } else {
            settle(d, result);
        }
    }
    // After the handshake this answers retransmitted flights, alerts and close_notify. Application
    // data (a data channel's) is read and dropped.
    while (d->state == DTLS_OPEN) {
        uint8_t unused[MSG_DATAGRAM_MAX];
        int result = SSL_read(d->ssl, unused, sizeof(unused));
        if (result > 0)
            continue;
        settle(d, result);
        break;
    }
    d->in = NULL;
    if (d->state == DTLS_OPEN)
        SSL_free_buffers(d->ssl); // 33 KB that an open session hardly ever needs again
    ERR_clear_error();
    return d->state;
}

enum dtls_state dtls_start(struct dtls *d)
{
    if (d->role == DTLS_CLIENT && d->state == DTLS_HANDSHAKE && SSL_in_before(d->ssl))
        return advance(d);
    return d->state;
}

enum dtls_state dtls_input(struct dtls *d, const uint8_t *data, size_t size)
{
    if ((d->state != DTLS_HANDSHAKE && d->state != DTLS_OPEN) || size == 0)
        return d->state;
    uint8_t sound[MSG_DATAGRAM_MAX];
    size_t kept =
        size <= sizeof(sound) ? dtls_record_sift(data, size, d->role == DTLS_SERVER, sound) : 0;
    if (kept == 0)
        return d->state;
    d->in = sound;
    d->in_size = kept;
    return advance(d);
}

int dtls_timeout_ms(const struct dtls *d)
{
    struct timeval left;
    if (d->state != DTLS_HANDSHAKE || DTLSv1_get_timeout(d->ssl, &left) != 1)
        return -1;
    return (int)(left.tv_sec * 1000 + (left.tv_usec + 999) / 1000);
}

enum dtls_state dtls_tick(struct dtls *d)
{
    if (d->state != DTLS_HANDSHAKE)
        return d->state;
    ERR_clear_error();
    int result = (int)DTLSv1_handle_timeout(d->ssl);
    if (result < 0)
        settle(d, result);
    ERR_clear_error();
    return d->state;
}

enum dtls_state dtls_state(const struct dtls *d)
{
    return d->state;
}

enum dtls_failure dtls_failure(const struct dtls *d)
{
    return d->failure;
}

const char *dtls_error(const struct dtls *d)
{
    return d->error;
}

void dtls_wipe(void *secret, size_t size)
{
    OPENSSL_cleanse(secret, size);
}

int dtls_export(struct dtls *d, struct dtls_keys *keys)
{
    memset(keys, 0, sizeof(*keys));
    const SRTP_PROTECTION_PROFILE *profile = d->state == DTLS_OPEN ? agreed(d) : NULL;
    size_t p = 0;
    while (profile != NULL && p < DTLS_PROFILES && dtls_profiles[p].profile != profile->id)
        p++;
    if (profile == NULL || p == DTLS_PROFILES)
        return -ENOTCONN;

    size_t key = dtls_profiles[p].key, salt = dtls_profiles[p].salt;
    uint8_t material[2 * MSG_KEY_MAX]; // both keys, then both salts, the client's first
    if (SSL_export_keying_material(d->ssl, material, 2 * (key + salt), EXPORT_LABEL,
                                   strlen(EXPORT_LABEL), NULL, 0, 0) != 1) {
        ERR_clear_error();
        return -ENOTCONN;
    }
    uint8_t *client = d->role == DTLS_CLIENT ? keys->local : keys->remote;
    uint8_t *server = d->role == DTLS_CLIENT ? keys->remote : keys->local;
    memcpy(client, material, key);
    memcpy(server, material + key, key);
    memcpy(client + key, material + 2 * key, salt);
    memcpy(server + key, material + 2 * key + salt, salt);
    dtls_wipe(material, sizeof(material));
    keys->profile = dtls_profiles[p].profile;
    keys->size = key + salt;
    return 0;
}

void dtls_close(struct dtls *d)
{
    if (d->state != DTLS_OPEN || (SSL_get_shutdown(d->ssl) & SSL_SENT_SHUTDOWN))
        return;
    ERR_clear_error();
    // A read brings the buffers back that advance() gave away; SSL_shutdown takes them for granted.
    uint8_t unused;
    SSL_read(d->ssl, &unused, sizeof(unused));
    SSL_shutdown(d->ssl);
    ERR_clear_error();
}
