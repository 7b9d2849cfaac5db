// Bearer tokens and JSON web tokens; see auth.h. Loop thread; files are read only in auth_new.
#include "auth.h"
#include "config_check.h"
#include <errno.h>
#include <jansson.h>
#include <jwt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MAX 8192 // bytes of a bearer token that we look at
#define KEY_FILE_MAX 65536
#define SECRET_MIN 16 // bytes of an HS* secret
#define PATTERN_MAX 66

_Static_assert((int)JWT_HS256 == JWT_ALG_HS256 && (int)JWT_ES512 == JWT_ALG_ES512,
               "config_jwt_algorithm counts like libjwt's jwt_alg_t");

struct token {
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char pattern[PATTERN_MAX];
};

struct role {
    bool open;
    struct token *tokens;
    size_t count;
    jwt_alg_t algorithm; // JWT_ALG_NONE: no JWT
    unsigned char *key;
    size_t key_size;
    char stream_claim[64], role_claim[64];
    const char *name; // what the role claim must hold
    uint32_t leeway_s;
};

struct auth {
    struct role publish, play;
};

bool auth_covers(const char *pattern, const char *stream)
{
    size_t n = strlen(pattern);
    if (n > 0 && pattern[n - 1] == '*')
        return strncmp(pattern, stream, n - 1) == 0;
    return strcmp(pattern, stream) == 0;
}

// Setting up.

static int add_token(struct role *role, const char *text)
{
    size_t length = strcspn(text, " ");
    struct token *tokens = realloc(role->tokens, (role->count + 1) * sizeof(*tokens));
    if (!tokens)
        return -ENOMEM;
    role->tokens = tokens;
    struct token *token = &tokens[role->count++];
    SHA256((const unsigned char *)text, length, token->digest);
    snprintf(token->pattern, sizeof(token->pattern), "%s", text[length] ? text + length + 1 : "*");
    return 0;
}

static int read_tokens(struct role *role, const char *path, char *why, size_t why_size)
{
    FILE *file = fopen(path, "re");
    char line[1200], reason[128];
    int rc = 0, number = 0;
    if (!file) {
        snprintf(why, why_size, "token file %s: %s", path, strerror(errno));
        return -errno;
    }
    while (rc == 0 && fgets(line, sizeof(line), file)) {
        number++;
        line[strcspn(line, "#\r\n")] = '\0';
        for (size_t n = strlen(line); n > 0 && line[n - 1] == ' '; n--)
            line[n - 1] = '\0';
        if (!*line)
            continue;
        rc = config_check_token(line, reason, sizeof(reason));
        if (rc < 0)
            snprintf(why, why_size, "token file %s:%d: %s", path, number, reason);
        else
            rc = add_token(role, line);
    }
    OPENSSL_cleanse(line, sizeof(line));
    fclose(file);
    return rc;
}

static int read_key(struct role *role, const char *path, char *why, size_t why_size)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(why, why_size, "key file %s: %s", path, strerror(errno));
        return -errno;
    }
    role->key = calloc(1, KEY_FILE_MAX + 1);
    if (role->key)
        role->key_size = fread(role->key, 1, KEY_FILE_MAX, file);
    fclose(file);
    return role->key ? 0 : -ENOMEM;
}

// A secret must be long enough, a public key of the kind that the algorithm needs.
static int check_key(struct role *role, const char *path, char *why, size_t why_size)
{
    if (role->algorithm <= JWT_ALG_HS512) {
        while (role->key_size > 0 && strchr("\r\n", role->key[role->key_size - 1]))
            role->key_size--;
        if (role->key_size >= SECRET_MIN)
            return 0;
        snprintf(why, why_size, "key file %s: the secret is shorter than %d bytes", path,
                 SECRET_MIN);
        return -EINVAL;
    }
    BIO *bio = BIO_new_mem_buf(role->key, (int)role->key_size);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    int want = role->algorithm <= JWT_ALG_RS512 ? EVP_PKEY_RSA : EVP_PKEY_EC;
    bool good = key && EVP_PKEY_base_id(key) == want;
    EVP_PKEY_free(key);
    BIO_free(bio);
    if (good)
        return 0;
    snprintf(why, why_size, "key file %s: not a PEM public key for %s", path,
             jwt_alg_str(role->algorithm));
    return -EINVAL;
}

static int set_up(struct role *role, const char *name, const struct config_auth_role *config,
                  char *why, size_t why_size)
{
    int rc = 0;
    role->name = name;
    role->algorithm = (jwt_alg_t)config->jwt.algorithm;
    role->leeway_s = config->jwt.leeway_s;
    role->open =
        config->tokens_count == 0 && !*config->token_file && role->algorithm == JWT_ALG_NONE;
    snprintf(role->stream_claim, sizeof(role->stream_claim), "%s", config->jwt.stream_claim);
    snprintf(role->role_claim, sizeof(role->role_claim), "%s", config->jwt.role_claim);
    for (uint32_t i = 0; rc == 0 && i < config->tokens_count; i++)
        rc = add_token(role, config->tokens[i]);
    if (rc == 0 && *config->token_file)
        rc = read_tokens(role, config->token_file, why, why_size);
    if (rc == 0 && role->algorithm != JWT_ALG_NONE)
        rc = read_key(role, config->jwt.key_file, why, why_size);
    if (rc == 0 && role->algorithm != JWT_ALG_NONE)
        rc = check_key(role, config->jwt.key_file, why, why_size);
    return rc;
}

static void tear_down(struct role *role)
{
    if (role->key)
        OPENSSL_cleanse(role->key, KEY_FILE_MAX);
    free(role->key);
    free(role->tokens);
}

int auth_new(struct auth **out, const struct config *config, char *why, size_t why_size)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return -ENOMEM;
    int rc = set_up(&auth->publish, "publish", &config->auth.publish, why, why_size);
    if (rc == 0)
        rc = set_up(&auth->play, "play", &config->auth.play, why, why_size);
    if (rc < 0) {
        auth_free(auth);
        return rc;
    }
    if (auth->publish.open)
        log_warning("auth: nothing configured in auth.publish: anyone may publish");
    *out = auth;
    return 0;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    tear_down(&auth->publish);
    tear_down(&auth->play);
    free(auth);
}

// Checking.

// Looks at every token, whatever it finds, so that the time says nothing.
static enum auth_result check_tokens(const struct role *role, const char *token, const char *stream)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    bool known = false, covered = false;
    SHA256((const unsigned char *)token, strlen(token), digest);
    for (size_t i = 0; i < role->count; i++) {
        bool same = CRYPTO_memcmp(digest, role->tokens[i].digest, sizeof(digest)) == 0;
        known |= same;
        covered |= same && auth_covers(role->tokens[i].pattern, stream);
    }
    return covered ? AUTH_OK : known ? AUTH_SCOPE : AUTH_INVALID;
}

// Whether a claim, a string or an array of strings, has one that `fits` `text`.
static bool claim_has(const json_t *claim, bool (*fits)(const char *, const char *),
                      const char *text)
{
    if (json_is_string(claim))
        return strlen(json_string_value(claim)) == json_string_length(claim) &&
               fits(json_string_value(claim), text);
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)claim, i, item)
    {
        if (json_is_string(item) && strlen(json_string_value(item)) == json_string_length(item) &&
            fits(json_string_value(item), text))
            return true;
    }
    return false;
}

static bool is_same(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

// Both claims may be absent, but not be something else than a number (RFC 7519 4.1.4, 4.1.5).
static bool in_time(const json_t *claims, int64_t now_s, uint32_t leeway_s, const char **reason)
{
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    double now = (double)now_s, leeway = leeway_s;
    if ((exp && !json_is_number(exp)) || (nbf && !json_is_number(nbf)))
        *reason = "the token's exp or nbf is not a number";
    else if (exp && now >= json_number_value(exp) + leeway)
        *reason = "the token has expired";
    else if (nbf && now < json_number_value(nbf) - leeway)
        *reason = "the token is not valid yet";
    else
        return true;
    return false;
}

static enum auth_result check_claims(const struct role *role, const char *text, const char *stream,
                                     int64_t now_s, const char **reason)
{
    json_t *claims = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    enum auth_result result = AUTH_INVALID;
    if (!claims) {
        *reason = "the token's claims cannot be read";
    } else if (in_time(claims, now_s, role->leeway_s, reason)) {
        result = AUTH_SCOPE;
        if (!claim_has(json_object_get(claims, role->role_claim), is_same, role->name))
            *reason = "the token is not for this role";
        else if (!claim_has(json_object_get(claims, role->stream_claim), auth_covers, stream))
            *reason = "the token is for another stream";
        else
            result = AUTH_OK;
    }
    json_decref(claims);
    return result;
}

// Whether the header has a `crit`, whatever it is: there is no extension of ours that it could
// name, and one that we do not know must not be passed over (RFC 7515 4.1.11).
static bool is_critical(jwt_t *jwt)
{
    char *text = jwt_get_headers_json(jwt, NULL);
    json_t *header = text ? json_loads(text, 0, NULL) : NULL;
    bool critical = !header || json_object_get(header, "crit");
    json_decref(header);
    free(text);
    return critical;
}

// The algorithm is looked at before the key is used: a token that says HS256 must never be checked
// with a public key as its secret (RFC 8725 3.1).
static enum auth_result check_jwt(const struct role *role, const char *token, const char *stream,
                                  int64_t now_s, const char **reason)
{
    jwt_t *jwt = NULL;
    enum auth_result result = AUTH_INVALID;
    *reason = "the token is unknown or malformed";
    if (jwt_decode(&jwt, token, NULL, 0) != 0)
        return AUTH_INVALID;
    const char *alg = jwt_get_header(jwt, "alg"); // jwt_get_alg says "none" before verification
    bool pinned = alg && strcmp(alg, jwt_alg_str(role->algorithm)) == 0;
    bool critical = is_critical(jwt);
    jwt_free(jwt);
    jwt = NULL;
    *reason = "the token's algorithm is not accepted";
    if (!pinned)
        return AUTH_INVALID;
    *reason = "the token's header has critical extensions, none of which is known";
    if (critical)
        return AUTH_INVALID;
    *reason = "the token's signature is wrong";
    if (jwt_decode(&jwt, token, role->key, (int)role->key_size) != 0)
        return AUTH_INVALID;
    if (jwt_get_alg(jwt) == role->algorithm) {
        char *claims = jwt_get_grants_json(jwt, NULL);
        result = check_claims(role, claims, stream, now_s, reason);
        free(claims);
    }
    jwt_free(jwt);
    return result;
}

enum auth_result auth_check(const struct auth *auth, enum session_role which, const char *stream,
                            const char *authorization, int64_t now_s, const char **reason)
{
    const struct role *role = which == ROLE_PUBLISH ? &auth->publish : &auth->play;
    *reason = "";
    if (role->open)
        return AUTH_OK;
    *reason = "a bearer token is needed";
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return AUTH_MISSING;
    const char *token = authorization + 7 + strspn(authorization + 7, " ");
    size_t length = strlen(token);
    if (length == 0)
        return AUTH_MISSING;
    *reason = "the token is unknown or malformed";
    if (length > TOKEN_MAX)
        return AUTH_INVALID;
    enum auth_result result = check_tokens(role, token, stream);
    if (result == AUTH_INVALID && role->algorithm != JWT_ALG_NONE)
        return check_jwt(role, token, stream, now_s, reason);
    if (result == AUTH_SCOPE)
        *reason = "the token is for another stream";
    return result;
}
