// HTTP of WHIP and WHEP: POST, trickle PATCH and DELETE on libcurl's multi interface, many at a
// time. RFC 9725, draft-ietf-wish-whep.
//
// One thread. Redirects are followed with method and body kept (5 at most); connections are reused.
// Every address that is connected to passes the guard of net.h first, a redirect's target too.
#ifndef HITLESS_BEES_SIGNALLING_H
#define HITLESS_BEES_SIGNALLING_H

#include "bees.h"
#include <stddef.h>

#define SIGNALLING_BODY_MAX (256 * 1024)

struct signalling_config {
    const char *token;    // bearer; NULL: none
    uint32_t timeout_ms;  // of a request
    uint32_t concurrency; // requests at a time; more wait
    const char *ca;       // PEM file of authorities; NULL: the system's
    bool anywhere;        // public addresses are allowed
    bool insecure;        // any TLS certificate will do
};

// What came of a request. Valid during the callback only.
struct signalling_reply {
    enum bees_failure failure;
    uint16_t status; // 0: none came
    uint16_t redirects;
    const char *body; // NUL-terminated
    size_t size;
    const char *location;   // absolute; NULL: none, or of no use
    const char *etag;       // as it came; NULL: none
    uint32_t retry_after_s; // RFC 9110 10.2.3, of a refusal; 0: none, or a date
    const char *reason;     // a line for the log; "" without a failure
};
typedef void (*signalling_fn)(void *opaque, const struct signalling_reply *reply);

struct signalling;

int signalling_new(struct signalling **signalling, const struct signalling_config *config);
// Drops what is under way, without callbacks.
void signalling_free(struct signalling *signalling);

// Begin a request. Texts are copied. Return 0 or -ENOMEM; else `done` will be called.
int signalling_post(struct signalling *signalling, const char *url, const char *sdp,
                    signalling_fn done, void *opaque);
int signalling_patch(struct signalling *signalling, const char *url, const char *etag,
                     const char *fragment, signalling_fn done, void *opaque);
int signalling_delete(struct signalling *signalling, const char *url, signalling_fn done,
                      void *opaque);

// Goes on with everything; waits up to `wait_ms` when nothing is to be done.
void signalling_run(struct signalling *signalling, int wait_ms);
// Ends a signalling_run that waits; any thread.
void signalling_wake(struct signalling *signalling);
unsigned signalling_busy(const struct signalling *signalling); // requests begun and not done

#endif
