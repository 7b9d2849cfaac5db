// Unit tests of controlplane/auth.c. Tokens are made here with libjwt and OpenSSL, time is given.
#include "../../controlplane/auth.h"
#include "../../controlplane/config_check.h"
#include <jwt.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1700000000
#define SECRET "0123456789abcdef0123456789abcdef"

static struct {
    char dir[64], secret[96], rsa_public[96], ec_public[96], tokens[96];
    char rsa_private[4096], ec_private[4096], rsa_public_pem[4096];
} files;

static void write_file(char *path, size_t size, const char *name, const char *text)
{
    snprintf(path, size, "%s/%s", files.dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void pem_of(EVP_PKEY *key, char *private, char *public)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_true(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
    private[BIO_read(bio, private, 4095)] = '\0';
    assert_true(PEM_write_bio_PUBKEY(bio, key));
    public[BIO_read(bio, public, 4095)] = '\0';
    BIO_free(bio);
    EVP_PKEY_free(key);
}

static int set_up(void **state)
{
    char ec[4096];
    snprintf(files.dir, sizeof(files.dir), "/tmp/hitless-test-auth-XXXXXX");
    if (!mkdtemp(files.dir))
        return -1;
    pem_of(EVP_RSA_gen(2048), files.rsa_private, files.rsa_public_pem);
    pem_of(EVP_EC_gen("P-256"), files.ec_private, ec);
    write_file(files.secret, sizeof(files.secret), "secret", SECRET "\n");
    write_file(files.rsa_public, sizeof(files.rsa_public), "rsa.pem", files.rsa_public_pem);
    write_file(files.ec_public, sizeof(files.ec_public), "ec.pem", ec);
    write_file(files.tokens, sizeof(files.tokens), "tokens",
               "# who\n\nfile-token-1\nfile-token-2 demo* # only these\n");
    return 0;
}

static int tear_down(void **state)
{
    unlink(files.secret);
    unlink(files.rsa_public);
    unlink(files.ec_public);
    unlink(files.tokens);
    return rmdir(files.dir);
}

static void no_report(void *opaque, int line, const char *key, const char *reason)
{
    fail_msg("configuration: %s: %s", key, reason);
}

static struct auth *auth_of(const char *yaml)
{
    char path[] = "/tmp/hitless-test-auth-yaml-XXXXXX", why[256] = "";
    struct config *config;
    struct auth *auth = NULL;
    int fd = mkstemp(path);
    assert_int_equal(write(fd, yaml, strlen(yaml)), (ssize_t)strlen(yaml));
    close(fd);
    assert_int_equal(config_load(path, &config, no_report, NULL), 0);
    unlink(path);
    if (auth_new(&auth, config, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    config_free(config);
    return auth;
}

static struct auth *jwt_auth(const char *algorithm, const char *key_file)
{
    char yaml[512];
    snprintf(yaml, sizeof(yaml),
             "auth:\n  publish:\n    jwt: {algorithm: %s, key_file: %s}\n"
             "  play:\n    jwt: {algorithm: %s, key_file: %s}\n",
             algorithm, key_file, algorithm, key_file);
    return auth_of(yaml);
}

static enum auth_result check(const struct auth *auth, enum session_role role, const char *stream,
                              const char *token)
{
    char header[8192];
    const char *reason;
    snprintf(header, sizeof(header), "Bearer %s", token);
    enum auth_result result = auth_check(auth, role, stream, header, NOW, &reason);
    assert_true((result == AUTH_OK) == (*reason == '\0' || result == AUTH_OK));
    return result;
}

static char *make(jwt_alg_t alg, const char *key, const char *claims)
{
    jwt_t *jwt;
    assert_int_equal(jwt_new(&jwt), 0);
    assert_int_equal(jwt_add_grants_json(jwt, claims), 0);
    assert_int_equal(jwt_set_alg(jwt, alg, (const unsigned char *)key, key ? (int)strlen(key) : 0),
                     0);
    char *text = jwt_encode_str(jwt);
    assert_non_null(text);
    jwt_free(jwt);
    return text;
}

static void test_covers(void **state)
{
    static const struct {
        const char *pattern, *stream;
        bool covers;
    } rows[] = {
        {"*", "demo", true},      {"demo", "demo", true},  {"demo", "demo2", false},
        {"demo*", "demo2", true}, {"demo*", "dem", false}, {"", "demo", false},
        {"*demo", "demo", false}, {"Demo", "demo", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_int_equal(auth_covers(rows[i].pattern, rows[i].stream), rows[i].covers);
}

static void test_nothing_configured_is_open(void **state)
{
    const char *reason;
    struct auth *auth = auth_of("node: a\n");
    assert_int_equal(auth_check(auth, ROLE_PLAY, "x", NULL, NOW, &reason), AUTH_OK);
    assert_int_equal(auth_check(auth, ROLE_PUBLISH, "x", "Bearer y", NOW, &reason), AUTH_OK);
    auth_free(auth);
}

static void test_tokens(void **state)
{
    char yaml[512];
    const char *reason;
    snprintf(yaml, sizeof(yaml),
             "auth:\n  publish:\n    tokens: [publisher1, 'publisher2 cam-*', 'twice-token a',"
             " 'twice-token b']\n    token_file: %s\n",
             files.tokens);
    struct auth *auth = auth_of(yaml);
    static const struct {
        const char *token, *stream;
        enum auth_result result;
    } rows[] = {
        {"publisher1", "demo", AUTH_OK},       {"publisher2", "cam-7", AUTH_OK},
        {"publisher2", "demo", AUTH_SCOPE},    {"publisher", "demo", AUTH_INVALID},
        {"publisher11", "demo", AUTH_INVALID}, {"file-token-1", "demo", AUTH_OK},
        {"file-token-2", "demo9", AUTH_OK},    {"file-token-2", "other", AUTH_SCOPE},
        {"twice-token", "b", AUTH_OK},         {"twice-token", "c", AUTH_SCOPE},
        {"# who", "demo", AUTH_INVALID},       {"publisher2 cam-*", "cam-1", AUTH_INVALID},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_int_equal(check(auth, ROLE_PUBLISH, rows[i].stream, rows[i].token), rows[i].result);
    assert_int_equal(check(auth, ROLE_PLAY, "demo", "whatever"), AUTH_OK);
    static const char *missing[] = {"", "Bearer ", "Basic cHVibGlzaGVyMQ==", "publisher1"};
    for (size_t i = 0; i < sizeof(missing) / sizeof(*missing); i++)
        assert_int_equal(auth_check(auth, ROLE_PUBLISH, "x", missing[i], NOW, &reason),
                         AUTH_MISSING);
    assert_int_equal(auth_check(auth, ROLE_PUBLISH, "x", NULL, NOW, &reason), AUTH_MISSING);
    assert_int_equal(auth_check(auth, ROLE_PUBLISH, "x", "bEARER  publisher1", NOW, &reason),
                     AUTH_OK);
    auth_free(auth);
}

static const struct {
    const char *claims;
    enum session_role role;
    enum auth_result result;
} claim_rows[] = {
    {"{\"stream\":\"demo\",\"role\":\"play\"}", ROLE_PLAY, AUTH_OK},
    {"{\"stream\":\"*\",\"role\":\"play\"}", ROLE_PLAY, AUTH_OK},
    {"{\"stream\":\"de*\",\"role\":[\"publish\",\"play\"]}", ROLE_PUBLISH, AUTH_OK},
    {"{\"stream\":[\"a\",\"demo\"],\"role\":\"play\"}", ROLE_PLAY, AUTH_OK},
    {"{\"stream\":\"demo\",\"role\":\"play\",\"exp\":1700000001}", ROLE_PLAY, AUTH_OK},
    {"{\"stream\":\"demo\",\"role\":\"play\",\"exp\":1699999980}", ROLE_PLAY, AUTH_OK}, // leeway
    {"{\"stream\":\"demo\",\"role\":\"play\",\"nbf\":1700000020}", ROLE_PLAY, AUTH_OK},
    {"{\"stream\":\"demo\",\"role\":\"play\",\"exp\":1699999970}", ROLE_PLAY, AUTH_INVALID},
    {"{\"stream\":\"demo\",\"role\":\"play\",\"nbf\":1700000031}", ROLE_PLAY, AUTH_INVALID},
    {"{\"stream\":\"demo\",\"role\":\"play\",\"exp\":\"1800000000\"}", ROLE_PLAY, AUTH_INVALID},
    {"{\"stream\":\"demo\",\"role\":\"play\",\"exp\":null}", ROLE_PLAY, AUTH_INVALID},
    {"{\"stream\":\"other\",\"role\":\"play\"}", ROLE_PLAY, AUTH_SCOPE},
    {"{\"stream\":\"demo\",\"role\":\"play\"}", ROLE_PUBLISH, AUTH_SCOPE},
    {"{\"stream\":\"demo\"}", ROLE_PLAY, AUTH_SCOPE},
    {"{\"role\":\"play\"}", ROLE_PLAY, AUTH_SCOPE},
    {"{\"stream\":7,\"role\":\"play\"}", ROLE_PLAY, AUTH_SCOPE},
    {"{}", ROLE_PLAY, AUTH_SCOPE},
};

static void test_jwt_claims(void **state)
{
    struct auth *auth = jwt_auth("HS256", files.secret);
    for (size_t i = 0; i < sizeof(claim_rows) / sizeof(*claim_rows); i++) {
        char *token = make(JWT_ALG_HS256, SECRET, claim_rows[i].claims);
        enum auth_result result = check(auth, claim_rows[i].role, "demo", token);
        if (result != claim_rows[i].result)
            fail_msg("%s: %d", claim_rows[i].claims, result);
        free(token);
    }
    auth_free(auth);
}

static const char good[] = "{\"stream\":\"*\",\"role\":\"publish\"}";

static void test_each_algorithm(void **state)
{
    const struct {
        const char *name, *file, *key;
        jwt_alg_t alg;
    } rows[] = {
        {"HS256", files.secret, SECRET, JWT_ALG_HS256},
        {"HS512", files.secret, SECRET, JWT_ALG_HS512},
        {"RS256", files.rsa_public, files.rsa_private, JWT_ALG_RS256},
        {"RS512", files.rsa_public, files.rsa_private, JWT_ALG_RS512},
        {"ES256", files.ec_public, files.ec_private, JWT_ALG_ES256},
    };
    size_t n = sizeof(rows) / sizeof(*rows);
    for (size_t i = 0; i < n; i++) {
        struct auth *auth = jwt_auth(rows[i].name, rows[i].file);
        for (size_t j = 0; j < n; j++) {
            char *token = make(rows[j].alg, rows[j].key, good);
            assert_int_equal(check(auth, ROLE_PUBLISH, "x", token),
                             i == j ? AUTH_OK : AUTH_INVALID);
            free(token);
        }
        auth_free(auth);
    }
}

static void test_confused_algorithms(void **state)
{
    struct auth *rsa = jwt_auth("RS256", files.rsa_public);
    struct auth *hmac = jwt_auth("HS256", files.secret);
    // The public key, which anyone may know, used as an HMAC secret.
    char *token = make(JWT_ALG_HS256, files.rsa_public_pem, good);
    assert_int_equal(check(rsa, ROLE_PUBLISH, "x", token), AUTH_INVALID);
    free(token);
    token = make(JWT_ALG_NONE, NULL, good);
    assert_int_equal(check(rsa, ROLE_PUBLISH, "x", token), AUTH_INVALID);
    assert_int_equal(check(hmac, ROLE_PUBLISH, "x", token), AUTH_INVALID);
    free(token);
    token = make(JWT_ALG_HS256, "another secret of some length", good);
    assert_int_equal(check(hmac, ROLE_PUBLISH, "x", token), AUTH_INVALID);
    free(token);
    auth_free(rsa);
    auth_free(hmac);
}

// RFC 7515 4.1.11: what a header calls critical has to be understood, and we understand nothing.
static void test_critical_headers(void **state)
{
    static const struct {
        const char *headers;
        enum auth_result result;
    } rows[] = {
        {"{}", AUTH_OK},
        {"{\"kid\": \"crit\"}", AUTH_OK},
        {"{\"crit\": [\"b64\"], \"b64\": false}", AUTH_INVALID},
        {"{\"crit\": [\"https://example.com/rules\"]}", AUTH_INVALID},
        {"{\"crit\": []}", AUTH_INVALID},
        {"{\"crit\": null}", AUTH_INVALID},
        {"{\"crit\": \"exp\"}", AUTH_INVALID},
    };
    struct auth *auth = jwt_auth("HS256", files.secret);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        jwt_t *jwt;
        const char *reason;
        char header[1024];
        assert_int_equal(jwt_new(&jwt), 0);
        assert_int_equal(jwt_add_grants_json(jwt, good), 0);
        assert_int_equal(jwt_add_headers_json(jwt, rows[i].headers), 0);
        assert_int_equal(
            jwt_set_alg(jwt, JWT_ALG_HS256, (const unsigned char *)SECRET, (int)strlen(SECRET)), 0);
        char *token = jwt_encode_str(jwt);
        snprintf(header, sizeof(header), "Bearer %s", token);
        if (auth_check(auth, ROLE_PUBLISH, "x", header, NOW, &reason) != rows[i].result)
            fail_msg("%s: %s", rows[i].headers, reason);
        if (rows[i].result != AUTH_OK)
            assert_non_null(strstr(reason, "critical"));
        free(token);
        jwt_free(jwt);
    }
    auth_free(auth);
}

static void test_garbage(void **state)
{
    static const char *rows[] = {
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        "eyJhbGciOiJIUzI1NiJ9..",
        "eyJhbGciOiJIUzI1NiJ9.e30.",
        "eyJhbGciOiJub25lIn0.e30.",
        "e30.e30.e30",
        "eyJhbGciOjF9.e30.AAAA",
        "\x01\x80.\xff.\xfe",
    };
    struct auth *auth = jwt_auth("HS256", files.secret);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_int_equal(check(auth, ROLE_PUBLISH, "x", rows[i]), AUTH_INVALID);
    char *token = make(JWT_ALG_HS256, SECRET, good);
    for (size_t i = 0; token[i]; i++) { // one character changed anywhere
        char copy[1024];
        snprintf(copy, sizeof(copy), "%s", token);
        copy[i] = copy[i] == '.' ? 'A' : '.';
        assert_int_equal(check(auth, ROLE_PUBLISH, "x", copy), AUTH_INVALID);
        copy[i] = '\0'; // cut anywhere
        if (i > 0)
            assert_int_equal(check(auth, ROLE_PUBLISH, "x", copy), AUTH_INVALID);
    }
    static char huge[8000];
    memset(huge, 'A', sizeof(huge) - 1);
    assert_int_equal(check(auth, ROLE_PUBLISH, "x", huge), AUTH_INVALID);
    free(token);
    auth_free(auth);
}

static void test_bad_keys_are_refused(void **state)
{
    const struct {
        enum config_jwt_algorithm algorithm;
        const char *file;
    } rows[] = {
        {JWT_RS256, files.ec_public}, {JWT_ES256, files.rsa_public}, {JWT_RS256, files.secret},
        {JWT_HS256, "/dev/null"},     {JWT_HS256, "/nonexistent"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct config *config;
        struct auth *auth;
        char why[256] = "";
        assert_int_equal(config_load(NULL, &config, no_report, NULL), 0);
        config->auth.play.jwt.algorithm = rows[i].algorithm;
        free(config->auth.play.jwt.key_file);
        config->auth.play.jwt.key_file = strdup(rows[i].file);
        assert_true(auth_new(&auth, config, why, sizeof(why)) < 0);
        assert_true(*why);
        config_free(config);
    }
}

int main(void)
{
    log_level(LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_covers),
        cmocka_unit_test(test_nothing_configured_is_open),
        cmocka_unit_test(test_critical_headers),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_jwt_claims),
        cmocka_unit_test(test_each_algorithm),
        cmocka_unit_test(test_confused_algorithms),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_bad_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
