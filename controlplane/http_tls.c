// The HTTPS certificate; see http_tls.h. There is one for all listeners: libmicrohttpd's callback
// carries no argument, hence the one static. A handshake in progress may hold a chain that has been
// replaced, so replaced ones live on for RETIRED_MS.
#include "http_tls.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define CHAIN_MAX 16
#define RETIRED_MS 60000

struct identity {
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned length;
    gnutls_privkey_t key;
    uint64_t retired_ms;
    struct identity *next;
};

static struct {
    char *certificate, *key;
    struct stat seen[2];
    struct identity *current, *retired;
} tls;

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void identity_free(struct identity *identity)
{
    for (unsigned i = 0; i < identity->length; i++)
        gnutls_pcert_deinit(&identity->chain[i]);
    if (identity->key)
        gnutls_privkey_deinit(identity->key);
    free(identity);
}

// Whether the key is the first certificate's.
static bool belongs(const struct identity *identity)
{
    uint8_t of_chain[64], of_key[64];
    size_t a = sizeof(of_chain), b = sizeof(of_key);
    gnutls_pubkey_t public;
    bool same = false;
    if (gnutls_pubkey_init(&public) < 0)
        return false;
    if (gnutls_pubkey_import_privkey(public, identity->key, 0, 0) == 0 &&
        gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, of_key, &b) == 0 &&
        gnutls_pubkey_get_key_id(identity->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_chain,
                                 &a) == 0)
        same = a == b && memcmp(of_chain, of_key, a) == 0;
    gnutls_pubkey_deinit(public);
    return same;
}

static int load(struct identity *identity, char *why, size_t why_size)
{
    gnutls_datum_t pem = {0};
    unsigned length = CHAIN_MAX;
    int rc = gnutls_pcert_list_import_x509_file(identity->chain, &length, tls.certificate,
                                                GNUTLS_X509_FMT_PEM, NULL, NULL, 0);
    if (rc < 0 || length == 0) {
        snprintf(why, why_size, "certificate %s: %s", tls.certificate, gnutls_strerror(rc));
        return -EINVAL;
    }
    identity->length = length;
    rc = gnutls_load_file(tls.key, &pem);
    if (rc == 0)
        rc = gnutls_privkey_init(&identity->key);
    if (rc == 0)
        rc = gnutls_privkey_import_x509_raw(identity->key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (pem.data) {
        gnutls_memset(pem.data, 0, pem.size);
        gnutls_free(pem.data);
    }
    if (rc < 0) {
        snprintf(why, why_size, "key %s: %s", tls.key, gnutls_strerror(rc));
        return -EINVAL;
    }
    if (!belongs(identity)) {
        snprintf(why, why_size, "key %s is not that of certificate %s", tls.key, tls.certificate);
        return -EINVAL;
    }
    return 0;
}

static void look(struct stat seen[2])
{
    memset(seen, 0, 2 * sizeof(*seen));
    if (stat(tls.certificate, &seen[0]) < 0 || stat(tls.key, &seen[1]) < 0)
        memset(seen, 0, 2 * sizeof(*seen));
}

int http_tls_reload(char *why, size_t why_size)
{
    struct identity *identity = calloc(1, sizeof(*identity));
    if (!identity)
        return -ENOMEM;
    look(tls.seen);
    int rc = load(identity, why, why_size);
    if (rc < 0) {
        identity_free(identity);
        return rc;
    }
    if (tls.current) {
        tls.current->retired_ms = monotonic_ms();
        tls.current->next = tls.retired;
        tls.retired = tls.current;
    }
    tls.current = identity;
    return 0;
}

int http_tls_open(const char *certificate, const char *key, char *why, size_t why_size)
{
    tls.certificate = strdup(certificate);
    tls.key = strdup(key);
    if (!tls.certificate || !tls.key)
        return -ENOMEM;
    return http_tls_reload(why, why_size);
}

bool http_tls_changed(void)
{
    struct stat now[2];
    if (!tls.current)
        return false;
    look(now);
    for (int i = 0; i < 2; i++)
        if (now[i].st_ino != tls.seen[i].st_ino || now[i].st_size != tls.seen[i].st_size ||
            now[i].st_mtim.tv_sec != tls.seen[i].st_mtim.tv_sec ||
            now[i].st_mtim.tv_nsec != tls.seen[i].st_mtim.tv_nsec)
            return true;
    return false;
}

void http_tls_sweep(uint64_t now_ms)
{
    struct identity **at = &tls.retired;
    while (*at) {
        struct identity *identity = *at;
        if (now_ms - identity->retired_ms < RETIRED_MS) {
            at = &identity->next;
            continue;
        }
        *at = identity->next;
        identity_free(identity);
    }
}

void http_tls_close(void)
{
    http_tls_sweep(UINT64_MAX);
    if (tls.current)
        identity_free(tls.current);
    free(tls.certificate);
    free(tls.key);
    memset(&tls, 0, sizeof(tls));
}

int http_tls_retrieve(gnutls_session_t session, const gnutls_datum_t *request, int requests,
                      const gnutls_pk_algorithm_t *algorithms, int count, gnutls_pcert_st **chain,
                      unsigned *length, gnutls_privkey_t *key)
{
    if (!tls.current)
        return -1;
    *chain = tls.current->chain;
    *length = tls.current->length;
    *key = tls.current->key;
    return 0;
}
