// Who may publish and who may play: bearer tokens (RFC 6750) from the configuration, or JSON web
// tokens (RFC 7519) of one pinned algorithm.
//
// Loop thread. Tokens are kept as SHA-256 digests only and compared in constant time.
#ifndef HITLESS_AUTH_H
#define HITLESS_AUTH_H

#include "config.h"
#include <stddef.h>
#include <stdint.h>

struct auth;

enum auth_result {
    AUTH_OK,
    AUTH_MISSING, // 401: no Authorization: Bearer
    AUTH_INVALID, // 401: unknown, malformed, expired, wrong signature or algorithm
    AUTH_SCOPE,   // 403: good, but for another stream or role
};

// Reads token files and keys. Returns 0, or a negative errno with a line in `why`. A role for which
// nothing is configured is open; for publishing that is worth a warning.
int auth_new(struct auth **out, const struct config *config, char *why, size_t why_size);
void auth_free(struct auth *auth);

// Whether the bearer of `authorization` (the header field's value, or NULL) may do `role` on
// `stream` at `now_s` (seconds since the epoch). `*reason` gets a static text when it may not.
enum auth_result auth_check(const struct auth *auth, enum session_role role, const char *stream,
                            const char *authorization, int64_t now_s, const char **reason);

// Whether `pattern` ("*", "prefix*" or a name) covers `stream`.
bool auth_covers(const char *pattern, const char *stream);

#endif
