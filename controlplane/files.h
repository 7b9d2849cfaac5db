// The pages for people: /, /publish and /assets/{file}. Embedded at build time from
// controlplane/web, so that the program needs no path at run time. Loop thread.
#ifndef HITLESS_FILES_H
#define HITLESS_FILES_H

#include "http.h"

// One embedded file; written by scripts/embed. The last one's name is NULL.
struct file {
    const char *name, *type;
    const char *etag; // with quotes
    const unsigned char *data;
    size_t size;
};
extern const struct file files[];

// Adds the routes to `http`. The pages may also talk to the server at `partner_url` ("": none),
// which outlives them. 0 or a negative errno.
int files_add(struct http *http, const char *partner_url);

#endif
