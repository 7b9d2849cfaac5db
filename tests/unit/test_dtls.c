// Two sessions of dtls.c talk to each other through arrays, under a virtual clock.
#include "../../controlplane/dtls.h"
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>

// OpenSSL's DTLS timer asks this function; ours stands before libc's.
static uint64_t clock_us = 1000000000ull * 1000000;
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    tv->tv_sec = (time_t)(clock_us / 1000000);
    tv->tv_usec = (suseconds_t)(clock_us % 1000000);
    return 0;
}

#define QUEUE 64
struct datagram {
    size_t size;
    uint8_t data[2048];
};
struct end {
    struct dtls *dtls;
    struct datagram out[QUEUE];
    size_t count; // sent and not yet delivered
    size_t total, largest;
};

static void collect(void *opaque, const uint8_t *data, size_t size)
{
    struct end *e = opaque;
    assert_true(e->count < QUEUE && size <= sizeof(e->out[0].data));
    e->out[e->count].size = size;
    memcpy(e->out[e->count++].data, data, size);
    e->total++;
    if (size > e->largest)
        e->largest = size;
}

struct pair {
    struct dtls_identity client_id, server_id;
    struct end client, server;
};

static void fingerprint_of(struct dtls_fingerprint *out, const struct dtls_identity *id)
{
    assert_int_equal(dtls_fingerprint_parse(out, "sha-256", id->fingerprint), 0);
}

static void pair_sessions(struct pair *p)
{
    struct dtls_fingerprint client, server;
    fingerprint_of(&client, &p->client_id);
    fingerprint_of(&server, &p->server_id);
    assert_int_equal(
        dtls_new(&p->client.dtls, &p->client_id, DTLS_CLIENT, &server, 1, collect, &p->client), 0);
    assert_int_equal(
        dtls_new(&p->server.dtls, &p->server_id, DTLS_SERVER, &client, 1, collect, &p->server), 0);
}

static struct pair *pair_new(const enum srtp_profile *client, size_t clients,
                             const enum srtp_profile *server, size_t servers)
{
    struct pair *p = calloc(1, sizeof(*p));
    assert_int_equal(dtls_identity_init(&p->client_id, client, clients), 0);
    assert_int_equal(dtls_identity_init(&p->server_id, server, servers), 0);
    return p;
}

static void pair_free(struct pair *p)
{
    dtls_free(p->client.dtls);
    dtls_free(p->server.dtls);
    dtls_identity_free(&p->client_id);
    dtls_identity_free(&p->server_id);
    free(p);
}

// Delivers what `from` has sent; `keep` says per datagram (numbered in order of sending over the
// session's life) how many copies arrive. Reversed order when `reverse`.
typedef int (*keep_fn)(size_t number, const struct datagram *datagram, void *opaque);

static void deliver(struct end *from, struct end *to, keep_fn keep, void *opaque, bool reverse)
{
    static struct datagram batch[QUEUE];
    size_t n = from->count, first = from->total - n;
    memcpy(batch, from->out, n * sizeof(batch[0]));
    from->count = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = reverse ? n - 1 - i : i;
        int copies = keep != NULL ? keep(first + at, &batch[at], opaque) : 1;
        while (copies-- > 0)
            dtls_input(to->dtls, batch[at].data, batch[at].size);
    }
}

static bool both_open(const struct pair *p)
{
    return dtls_state(p->client.dtls) == DTLS_OPEN && dtls_state(p->server.dtls) == DTLS_OPEN;
}

// Runs for up to `seconds` of virtual time; ticks when nothing is under way.
static void run(struct pair *p, keep_fn to_server, keep_fn to_client, void *opaque, bool reverse,
                unsigned seconds)
{
    uint64_t end = clock_us + seconds * 1000000ull;
    dtls_start(p->client.dtls);
    while (clock_us < end && !both_open(p)) {
        deliver(&p->client, &p->server, to_server, opaque, reverse);
        deliver(&p->server, &p->client, to_client, opaque, reverse);
        if (p->client.count == 0 && p->server.count == 0) {
            clock_us += 50000;
            dtls_tick(p->client.dtls);
            dtls_tick(p->server.dtls);
        }
    }
    deliver(&p->client, &p->server, to_server, opaque, reverse);
    deliver(&p->server, &p->client, to_client, opaque, reverse);
}

static void assert_same_keys(const struct pair *p, enum srtp_profile profile, size_t size)
{
    struct dtls_keys a, b;
    static const uint8_t zero[MSG_KEY_MAX];
    assert_int_equal(dtls_export(p->client.dtls, &a), 0);
    assert_int_equal(dtls_export(p->server.dtls, &b), 0);
    assert_int_equal(a.profile, profile);
    assert_int_equal(b.profile, profile);
    assert_int_equal(a.size, size);
    assert_memory_equal(a.local, b.remote, size);
    assert_memory_equal(a.remote, b.local, size);
    assert_memory_not_equal(a.local, a.remote, size);
    assert_memory_not_equal(a.local, zero, size);
    assert_memory_equal(a.local + size, zero, sizeof(a.local) - size);
    dtls_wipe(&a, sizeof(a));
    assert_memory_equal(a.local, zero, sizeof(zero));
}

static void profiles_and_keys(void **state)
{
    const enum srtp_profile gcm = PROFILE_AEAD_AES_128_GCM, cm = PROFILE_AES128_CM_SHA1_80,
                            gcm256 = PROFILE_AEAD_AES_256_GCM;
    const enum srtp_profile reversed[] = {gcm256, cm, gcm}, chromium[] = {cm, gcm256, gcm};
    const struct {
        const enum srtp_profile *client, *server;
        size_t clients, servers;
        enum srtp_profile want;
        size_t size;
    } rows[] = {
        {NULL, NULL, 0, 0, gcm, 28},
        {&gcm, NULL, 1, 0, gcm, 28},
        {&cm, NULL, 1, 0, cm, 30},
        {&gcm256, NULL, 1, 0, gcm256, 44},
        {reversed, NULL, 3, 0, gcm, 28},
        {chromium, NULL, 3, 0, gcm, 28},
        {NULL, &cm, 0, 1, cm, 30},
        {NULL, reversed, 0, 3, gcm256, 44},
        {chromium, &gcm256, 2, 1, gcm256, 44},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pair *p = pair_new(rows[i].client, rows[i].clients, rows[i].server, rows[i].servers);
        pair_sessions(p);
        struct dtls_keys keys;
        assert_int_equal(dtls_export(p->client.dtls, &keys), -ENOTCONN);
        run(p, NULL, NULL, NULL, false, 1);
        assert_true(both_open(p));
        assert_same_keys(p, rows[i].want, rows[i].size);
        assert_int_equal(dtls_timeout_ms(p->client.dtls), -1);
        assert_int_equal(dtls_timeout_ms(p->server.dtls), -1);
        pair_free(p);
    }
}

// Carries what `ssl` wants to send to our side, as one datagram, and our answers back.
static void plain_exchange(SSL *ssl, struct end *ours)
{
    for (int turn = 0; turn < 8; turn++) {
        uint8_t flight[8192];
        SSL_do_handshake(ssl);
        int n = BIO_read(SSL_get_wbio(ssl), flight, sizeof(flight));
        if (n > 0)
            dtls_input(ours->dtls, flight, (size_t)n);
        for (size_t i = 0; i < ours->count; i++) {
            BIO_write(SSL_get_rbio(ssl), ours->out[i].data, (int)ours->out[i].size);
            SSL_do_handshake(ssl);
        }
        ours->count = 0;
    }
}

static void exported_layout(void **state)
{
    // RFC 5764 4.2, against a plain OpenSSL client's exporter: client key, server key, client salt,
    // server salt.
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    struct dtls_fingerprint client;
    fingerprint_of(&client, &p->client_id);
    dtls_new(&p->server.dtls, &p->server_id, DTLS_SERVER, &client, 1, collect, &p->server);

    SSL_CTX *ctx = SSL_CTX_new(DTLS_client_method());
    SSL_CTX_use_certificate(ctx, SSL_CTX_get0_certificate(p->client_id.ctx));
    SSL_CTX_use_PrivateKey(ctx, SSL_CTX_get0_privatekey(p->client_id.ctx));
    SSL_CTX_set_tlsext_use_srtp(ctx, "SRTP_AES128_CM_SHA1_80");
    SSL *ssl = SSL_new(ctx);
    SSL_set_options(ssl, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(ssl, 1200);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(ssl), -1);
    SSL_set_connect_state(ssl);
    plain_exchange(ssl, &p->server);

    struct dtls_keys keys;
    uint8_t raw[60];
    assert_true(SSL_is_init_finished(ssl));
    assert_int_equal(dtls_export(p->server.dtls, &keys), 0);
    assert_int_equal(
        SSL_export_keying_material(ssl, raw, sizeof(raw), "EXTRACTOR-dtls_srtp", 19, NULL, 0, 0),
        1);
    assert_memory_equal(keys.remote, raw, 16);
    assert_memory_equal(keys.local, raw + 16, 16);
    assert_memory_equal(keys.remote + 16, raw + 32, 14);
    assert_memory_equal(keys.local + 16, raw + 46, 14);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    pair_free(p);
}

static void unknown_profiles(void **state)
{
    const struct {
        enum srtp_profile list[2];
        size_t count;
    } rows[] = {{{2}, 1}, {{PROFILE_NONE}, 1}, {{7, 7}, 2}, {{7, 9}, 2}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dtls_identity id;
        assert_int_equal(dtls_identity_init(&id, rows[i].list, rows[i].count), -EINVAL);
    }
}

static void no_common_profile(void **state)
{
    enum srtp_profile a = PROFILE_AEAD_AES_128_GCM, b = PROFILE_AES128_CM_SHA1_80;
    struct pair *p = pair_new(&a, 1, &b, 1);
    pair_sessions(p);
    run(p, NULL, NULL, NULL, false, 1);
    assert_int_equal(dtls_state(p->server.dtls), DTLS_FAILED);
    assert_int_equal(dtls_failure(p->server.dtls), DTLS_FAILURE_PROFILE);
    assert_int_not_equal(dtls_state(p->client.dtls), DTLS_OPEN);
    struct dtls_keys keys;
    assert_int_equal(dtls_export(p->client.dtls, &keys), -ENOTCONN);
    pair_free(p);
}

struct fault {
    bool client_side; // counts datagrams of this side
    size_t number;
    int copies;
};
static int fault_client(size_t number, const struct datagram *d, void *opaque)
{
    const struct fault *f = opaque;
    return f->client_side && number == f->number ? f->copies : 1;
}
static int fault_server(size_t number, const struct datagram *d, void *opaque)
{
    const struct fault *f = opaque;
    return !f->client_side && number == f->number ? f->copies : 1;
}

static void any_datagram_lost_or_doubled(void **state)
{
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    p->client_id.mtu = p->server_id.mtu = 400; // so that flights have several datagrams
    for (int side = 0; side < 2; side++)
        for (size_t number = 0; number < 8; number++)
            for (int copies = 0; copies <= 2; copies += 2) {
                struct fault f = {side == 0, number, copies};
                p->client = p->server = (struct end){0};
                pair_sessions(p);
                uint64_t start = clock_us;
                run(p, fault_client, fault_server, &f, false, 10);
                assert_true(both_open(p));
                assert_same_keys(p, PROFILE_AEAD_AES_128_GCM, 28);
                assert_true(clock_us - start <= (copies == 0 ? 500000 : 0) + 50000);
                dtls_free(p->client.dtls);
                dtls_free(p->server.dtls);
            }
    p->client.dtls = p->server.dtls = NULL;
    pair_free(p);
}

static int half_lost(size_t number, const struct datagram *d, void *opaque)
{
    uint32_t *seed = opaque;
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 16) % 10 < 3 ? 0 : (*seed >> 20) % 10 < 2 ? 2 : 1;
}

static void heavy_loss(void **state)
{
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t seed = round * 7919;
        struct pair *p = pair_new(NULL, 0, NULL, 0);
        p->client_id.mtu = 500;
        pair_sessions(p);
        run(p, half_lost, half_lost, &seed, round & 1, 60);
        assert_true(both_open(p));
        assert_same_keys(p, PROFILE_AEAD_AES_128_GCM, 28);
        pair_free(p);
    }
}

static void reversed_order(void **state)
{
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    p->client_id.mtu = p->server_id.mtu = 300;
    pair_sessions(p);
    run(p, NULL, NULL, NULL, true, 10);
    assert_true(both_open(p));
    assert_true(p->server.total > 3);
    pair_free(p);
}

static void fragmented_client_hello(void **state)
{
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    // A long ALPN list makes the ClientHello as large as a browser's.
    uint8_t alpn[2000];
    for (size_t i = 0; i < sizeof(alpn); i += 100) {
        memset(alpn + i, 'x', 100);
        alpn[i] = 99;
    }
    assert_int_equal(SSL_CTX_set_alpn_protos(p->client_id.ctx, alpn, sizeof(alpn)), 0);
    pair_sessions(p);
    dtls_start(p->client.dtls);
    assert_true(p->client.count >= 2);
    assert_true(p->client.largest <= DTLS_MTU && p->client.largest > DTLS_MTU - 100);
    run(p, NULL, NULL, NULL, false, 1);
    assert_true(both_open(p));
    assert_true(p->server.largest <= DTLS_MTU);
    pair_free(p);
}

static void retransmission_schedule(void **state)
{
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    pair_sessions(p);
    assert_int_equal(dtls_timeout_ms(p->client.dtls), -1);
    dtls_start(p->client.dtls);
    const int want[] = {200, 400, 800, 1600, 3000, 3000, 3000, 3000, 3000, 3000, 3000, 3000, 3000};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_int_equal(p->client.total, i + 1);
        assert_int_equal(dtls_timeout_ms(p->client.dtls), want[i]);
        clock_us += (uint64_t)want[i] * 1000 - 20000;
        dtls_tick(p->client.dtls);
        assert_int_equal(p->client.total, i + 1);
        clock_us += 20000;
        assert_int_equal(dtls_timeout_ms(p->client.dtls), 0);
        dtls_tick(p->client.dtls);
    }
    assert_int_equal(dtls_state(p->client.dtls), DTLS_FAILED);
    assert_int_equal(dtls_failure(p->client.dtls), DTLS_FAILURE_TIMEOUT);
    assert_int_equal(dtls_timeout_ms(p->client.dtls), -1);
    pair_free(p);
}

static void digest_text(const struct dtls_identity *id, const EVP_MD *md, char *out, size_t size)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    X509_digest(SSL_CTX_get0_certificate(id->ctx), md, digest, &n);
    for (unsigned i = 0; i < n; i++)
        snprintf(out + 3 * i, size - 3 * i, "%02x%s", digest[i], i + 1 < n ? ":" : "");
}

static void fingerprints_of_the_peer(void **state)
{
    char good256[200], good384[200], good512[200], bad256[200], bad512[200];
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    digest_text(&p->client_id, EVP_sha256(), good256, sizeof(good256));
    digest_text(&p->client_id, EVP_sha384(), good384, sizeof(good384));
    digest_text(&p->client_id, EVP_sha512(), good512, sizeof(good512));
    digest_text(&p->server_id, EVP_sha256(), bad256, sizeof(bad256));
    digest_text(&p->server_id, EVP_sha512(), bad512, sizeof(bad512));
    const struct {
        const char *text[3][2];
        size_t count;
        bool accepted;
    } rows[] = {
        {{{"sha-256", good256}}, 1, true},
        {{{"SHA-384", good384}}, 1, true},
        {{{"sha-512", good512}}, 1, true},
        {{{"sha-256", bad256}, {"sha-256", good256}}, 2, true},
        {{{"sha-256", bad256}, {"sha-512", good512}}, 2, true}, // the strongest counts
        {{{"sha-256", good256}, {"sha-512", bad512}}, 2, false},
        {{{"sha-256", bad256}}, 1, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dtls_fingerprint peers[3], server;
        for (size_t f = 0; f < rows[i].count; f++)
            assert_int_equal(
                dtls_fingerprint_parse(&peers[f], rows[i].text[f][0], rows[i].text[f][1]), 0);
        fingerprint_of(&server, &p->server_id);
        p->client = p->server = (struct end){0};
        dtls_new(&p->client.dtls, &p->client_id, DTLS_CLIENT, &server, 1, collect, &p->client);
        dtls_new(&p->server.dtls, &p->server_id, DTLS_SERVER, peers, rows[i].count, collect,
                 &p->server);
        run(p, NULL, NULL, NULL, false, 1);
        assert_int_equal(both_open(p), rows[i].accepted);
        if (!rows[i].accepted) {
            struct dtls_keys keys;
            assert_int_equal(dtls_failure(p->server.dtls), DTLS_FAILURE_FINGERPRINT);
            assert_int_equal(dtls_export(p->server.dtls, &keys), -ENOTCONN);
            // The alert says so, and the client keeps nothing either.
            assert_int_equal(dtls_state(p->client.dtls), DTLS_FAILED);
            assert_int_equal(dtls_failure(p->client.dtls), DTLS_FAILURE_ALERT);
            assert_int_equal(dtls_export(p->client.dtls, &keys), -ENOTCONN);
        }
        dtls_free(p->client.dtls);
        dtls_free(p->server.dtls);
    }
    // The client holds the server to its fingerprint too.
    struct dtls_fingerprint wrong;
    fingerprint_of(&wrong, &p->client_id);
    p->client = p->server = (struct end){0};
    dtls_new(&p->client.dtls, &p->client_id, DTLS_CLIENT, &wrong, 1, collect, &p->client);
    dtls_new(&p->server.dtls, &p->server_id, DTLS_SERVER, &wrong, 1, collect, &p->server);
    run(p, NULL, NULL, NULL, false, 1);
    assert_int_equal(dtls_failure(p->client.dtls), DTLS_FAILURE_FINGERPRINT);
    assert_int_equal(dtls_state(p->server.dtls), DTLS_FAILED);
    pair_free(p);
}

static void fingerprint_text(void **state)
{
    char good[96], text[300];
    memset(good, 0, sizeof(good));
    for (int i = 0; i < 32; i++)
        snprintf(good + 3 * i, sizeof(good) - 3 * (size_t)i, "%02X%s", i, i < 31 ? ":" : "");
    struct dtls_fingerprint f;
    assert_int_equal(dtls_fingerprint_parse(&f, "sha-256", good), 0);
    assert_int_equal(f.size, 32);
    assert_int_equal(f.digest[31], 31);
    assert_int_equal(dtls_fingerprint_parse(&f, "sha-1", good), -ENOTSUP);
    assert_int_equal(dtls_fingerprint_parse(&f, "sha-384", good), -EINVAL);
    assert_int_equal(dtls_fingerprint_parse(&f, "sha-256", ""), -EINVAL);
    snprintf(text, sizeof(text), "%s:", good);
    assert_int_equal(dtls_fingerprint_parse(&f, "sha-256", text), -EINVAL);
    for (size_t i = 0; i < strlen(good); i++) { // any wrong character
        snprintf(text, sizeof(text), "%s", good);
        text[i] = text[i] == ':' ? '0' : ':';
        assert_int_equal(dtls_fingerprint_parse(&f, "sha-256", text), -EINVAL);
    }
}

// Gives an identity an RSA key and certificate, as older clients and some servers have. Its first
// certificate stays beside it; the callers see to it that only this one will do.
static void make_rsa(struct dtls_identity *id)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *x = X509_dup(SSL_CTX_get0_certificate(id->ctx));
    assert_true(X509_set_pubkey(x, key) && X509_sign(x, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(id->ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(id->ctx, key), 1);
    digest_text(id, EVP_sha256(), id->fingerprint, sizeof(id->fingerprint));
    X509_free(x);
    EVP_PKEY_free(key);
}

static void rsa_peers(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct pair *p = pair_new(NULL, 0, NULL, 0);
        make_rsa(side ? &p->client_id : &p->server_id);
        if (side)
            SSL_CTX_set1_client_sigalgs_list(p->server_id.ctx, "RSA+SHA256");
        else
            SSL_CTX_set_cipher_list(p->server_id.ctx, "ECDHE-RSA-AES128-GCM-SHA256");
        pair_sessions(p);
        run(p, NULL, NULL, NULL, false, 1);
        assert_true(both_open(p));
        assert_true(p->client.largest <= DTLS_MTU && p->server.largest <= DTLS_MTU);
        pair_free(p);
    }
}

static void closing(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct pair *p = pair_new(NULL, 0, NULL, 0);
        pair_sessions(p);
        run(p, NULL, NULL, NULL, false, 1);
        struct end *a = side ? &p->client : &p->server, *b = side ? &p->server : &p->client;
        size_t before = a->total, answered = b->total;
        dtls_close(a->dtls);
        dtls_close(a->dtls);
        assert_int_equal(a->total, before + 1);
        deliver(a, b, NULL, NULL, false);
        assert_int_equal(dtls_state(b->dtls), DTLS_CLOSED);
        assert_int_equal(b->total, answered + 1); // close_notify comes back
        deliver(b, a, NULL, NULL, false);
        assert_int_equal(dtls_state(a->dtls), DTLS_CLOSED);
        struct dtls_keys keys;
        assert_int_equal(dtls_export(a->dtls, &keys), -ENOTCONN);
        pair_free(p);
    }
}

static void garbage(void **state)
{
    static const uint8_t tls_hello[] = {0x16, 3, 1, 0, 0x2f, 1, 0, 0, 0x2b, 3, 3, 1, 2, 3, 4};
    static const uint8_t empty_record[] = {0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t lying[] = {0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xff, 1, 0};
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    pair_sessions(p);
    uint32_t seed = 1;
    for (int round = 0; round < 3; round++) { // before, half-way and when open
        struct end *ends[] = {&p->client, &p->server};
        for (int e = 0; e < 2; e++) {
            enum dtls_state was = dtls_state(ends[e]->dtls);
            size_t sent = ends[e]->total;
            dtls_input(ends[e]->dtls, tls_hello, sizeof(tls_hello));
            dtls_input(ends[e]->dtls, empty_record, sizeof(empty_record));
            dtls_input(ends[e]->dtls, lying, sizeof(lying));
            dtls_input(ends[e]->dtls, tls_hello, 0);
            for (int i = 0; i < 200; i++) {
                uint8_t junk[MSG_DATAGRAM_MAX];
                for (size_t b = 0; b < sizeof(junk); b++)
                    junk[b] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
                dtls_input(ends[e]->dtls, junk, 1 + (seed >> 8) % sizeof(junk));
            }
            assert_int_equal(dtls_state(ends[e]->dtls), was);
            if (ends[e] == &p->server || round > 0)
                assert_int_equal(ends[e]->total, sent); // garbage gets no answer
        }
        if (round == 0) {
            dtls_start(p->client.dtls);
            deliver(&p->client, &p->server, NULL, NULL, false);
        } else if (round == 1) {
            run(p, NULL, NULL, NULL, false, 10);
        }
    }
    assert_true(both_open(p));
    assert_same_keys(p, PROFILE_AEAD_AES_128_GCM, 28);
    pair_free(p);
}

// Records in order on the outside: of the handshake's epoch, with its next sequence numbers, as
// anybody can write them who can send from the peer's address.
static void inject_records(struct end *to, uint32_t *seed)
{
    static const uint8_t types[] = {20, 21, 22, 23, 24, 255};
    for (unsigned i = 0; i < 60; i++) {
        uint8_t record[13 + 64] = {types[i % sizeof(types)], 0xfe, 0xfd};
        record[10] = (uint8_t)(i / sizeof(types)); // sequence number
        record[12] = (uint8_t)(i * 7 % 65);
        for (unsigned b = 0; b < record[12]; b++)
            record[13 + b] = (uint8_t)((*seed = *seed * 1103515245 + 12345) >> 16);
        dtls_input(to->dtls, record, 13u + record[12]);
    }
}

// RFC 6347 4.1.2.7: what cannot be right is dropped, and the handshake goes on.
static void invalid_records_end_no_handshake(void **state)
{
    uint32_t seed = 1;
    struct pair *p = pair_new(NULL, 0, NULL, 0);
    pair_sessions(p);
    dtls_start(p->client.dtls);
    for (int step = 0; step < 20; step++) {
        inject_records(&p->client, &seed);
        inject_records(&p->server, &seed);
        assert_int_not_equal(dtls_state(p->client.dtls), DTLS_FAILED);
        assert_int_not_equal(dtls_state(p->server.dtls), DTLS_FAILED);
        struct end *from = step % 2 ? &p->server : &p->client;
        deliver(from, step % 2 ? &p->client : &p->server, NULL, NULL, false);
    }
    assert_true(both_open(p)); // without a retransmission: the clock stood still
    assert_same_keys(p, PROFILE_AEAD_AES_128_GCM, 28);
    pair_free(p);
}

static int corrupt(size_t number, const struct datagram *d, void *opaque)
{
    ((struct datagram *)(uintptr_t)d)->data[*(size_t *)opaque % d->size] ^= 0x40;
    return 1;
}

static void corrupted_bytes_never_open(void **state)
{
    // A flipped byte anywhere in the client's flights either fails the handshake or is repaired by
    // retransmission; it never yields keys that differ.
    for (size_t at = 0; at < 600; at += 7) {
        struct pair *p = pair_new(NULL, 0, NULL, 0);
        pair_sessions(p);
        run(p, corrupt, NULL, &at, false, 3);
        if (both_open(p))
            assert_same_keys(p, PROFILE_AEAD_AES_128_GCM, 28);
        pair_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiles_and_keys),
        cmocka_unit_test(exported_layout),
        cmocka_unit_test(unknown_profiles),
        cmocka_unit_test(no_common_profile),
        cmocka_unit_test(any_datagram_lost_or_doubled),
        cmocka_unit_test(heavy_loss),
        cmocka_unit_test(reversed_order),
        cmocka_unit_test(fragmented_client_hello),
        cmocka_unit_test(retransmission_schedule),
        cmocka_unit_test(fingerprints_of_the_peer),
        cmocka_unit_test(fingerprint_text),
        cmocka_unit_test(rsa_peers),
        cmocka_unit_test(closing),
        cmocka_unit_test(garbage),
        cmocka_unit_test(invalid_records_end_no_handshake),
        cmocka_unit_test(corrupted_bytes_never_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
