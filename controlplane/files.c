// The pages; see files.h. Browsers may keep a file, but ask each time whether it is still the same,
// so that an upgrade never mixes old and new scripts.
#include "files.h"
#include <stdio.h>
#include <string.h>

// No inline script or style, nothing from elsewhere but the partner's word; the camera only for
// ourselves.
#define POLICY                                                                                     \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "        \
    "media-src 'self' blob: mediastream:; connect-src 'self' %.*s; worker-src 'self' blob:; "      \
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "                  \
    "frame-ancestors 'self'"
#define PERMISSIONS                                                                                \
    "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), "                  \
    "fullscreen=(self), geolocation=(), payment=(), usb=()"

static const struct file *find(const char *name)
{
    for (const struct file *file = files; file->name; file++)
        if (strcmp(file->name, name) == 0)
            return file;
    return NULL;
}

// Whether If-None-Match lists the file's tag (RFC 9110 13.1.2; weak comparison).
static bool is_known(const char *list, const char *etag)
{
    return list && (strcmp(list, "*") == 0 || strstr(list, etag));
}

static void set_policy(struct http_request *request, const char *partner_url)
{
    char policy[sizeof(POLICY) + 256];
    const char *host = strstr(partner_url, "://");
    size_t origin = host ? (size_t)(host + 3 - partner_url) + strcspn(host + 3, "/;,") : 0;
    snprintf(policy, sizeof(policy), POLICY, (int)origin, partner_url);
    http_set(request, "Content-Security-Policy", policy);
}

static void serve(struct http_request *request, const char *name, bool isolated,
                  const char *partner_url)
{
    const struct file *file = find(name);
    if (!file) {
        http_refuse(request, 404, "nothing here");
        return;
    }
    http_set(request, "ETag", file->etag);
    http_set(request, "Cache-Control", "no-cache");
    set_policy(request, partner_url);
    http_set(request, "Permissions-Policy", PERMISSIONS);
    // Without HTTPS browsers ignore this one and complain of it.
    char base[512];
    if (isolated && http_base_url(request, base, sizeof(base)) == 0 &&
        strncmp(base, "https://", 8) == 0)
        http_set(request, "Cross-Origin-Opener-Policy", "same-origin");
    if (is_known(http_header(request, "If-None-Match"), file->etag))
        http_reply(request, 304, NULL, NULL, 0);
    else
        http_reply_static(request, 200, file->type, file->data, file->size);
}

// Not isolated: a browser would throw the page's process away and start another first, which costs
// a viewer about 100 ms, and this page holds nothing that an opener's window handle reaches.
static void on_index(struct http_request *request, void *opaque)
{
    serve(request, "index.html", false, opaque);
}

static void on_publish(struct http_request *request, void *opaque)
{
    serve(request, "publish.html", true, opaque);
}

static void on_asset(struct http_request *request, void *opaque)
{
    serve(request, http_param(request), false, opaque);
}

static const struct http_route routes[] = {
    {"GET", "/", on_index, .cors = false},
    {"GET", "/publish", on_publish, .cors = false},
    {"GET", "/assets/{}", on_asset, .cors = false},
};

int files_add(struct http *http, const char *partner_url)
{
    return http_add(http, routes, sizeof(routes) / sizeof(*routes), (void *)partner_url);
}
