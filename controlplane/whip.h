// WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) over HTTP: what to call, which status, which
// header fields. What an offer or a fragment means is session.c's business. Loop thread.
//
//   POST /whip/{stream}, /whep/{stream}         a new session: 201, Location, ETag
//   PATCH, DELETE /whip/session/{token}, …      trickle and ICE restart; the end
//   GET /whep/session/{token}                   which node serves it, for the page: JSON
//
// The session's random token is what lets its holder change it; where bearer tokens are
// configured, one that is good for the session's stream and role is needed besides.
#ifndef HITLESS_WHIP_H
#define HITLESS_WHIP_H

#include "auth.h"
#include "http.h"
#include "session.h"

struct whip;

// Adds the routes to `http`. `*auth` may be replaced between requests (SIGHUP), hence the pointer
// to it; everything given outlives the result.
int whip_new(struct whip **out, struct http *http, struct sessions *sessions,
             struct auth *const *auth);
void whip_free(struct whip *whip); // after http_free

// [A-Za-z0-9._-], 1 to STREAM_NAME_MAX characters, not "." or "..".
bool whip_stream_name(const char *name);

#endif
