// HTTP of WHIP and WHEP; see signalling.h.
#include "signalling.h"
#include "net.h"
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REDIRECTS_MAX 5
#define RETRY_AFTER_MAX 3600 // seconds

struct signalling {
    struct signalling_config config;
    CURLM *multi;
    struct transfer *first; // waiting for a place, oldest first
    struct transfer *last;
    struct transfer *running;
    unsigned active, busy;
};

struct transfer {
    struct signalling *signalling;
    struct transfer *next, *previous;
    CURL *easy;
    struct curl_slist *headers;
    bool is_post;
    bool public; // the guard refused the address
    int socket_error;
    signalling_fn done;
    void *opaque;
    char *body;
    size_t size;
    char error[CURL_ERROR_SIZE];
};

int signalling_new(struct signalling **out, const struct signalling_config *config)
{
    struct signalling *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->config = *config;
    s->multi = curl_multi_init();
    if (s->multi == NULL) {
        free(s);
        return -ENOMEM;
    }
    curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)config->concurrency);
    *out = s;
    return 0;
}

static void free_transfer(struct transfer *t)
{
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    free(t->body);
    free(t);
}

void signalling_free(struct signalling *s)
{
    if (s == NULL)
        return;
    while (s->running != NULL) {
        struct transfer *t = s->running;
        s->running = t->next;
        curl_multi_remove_handle(s->multi, t->easy);
        free_transfer(t);
    }
    while (s->first != NULL) {
        struct transfer *t = s->first;
        s->first = t->next;
        free_transfer(t);
    }
    curl_multi_cleanup(s->multi);
    free(s);
}

static size_t on_body(char *data, size_t one, size_t size, void *opaque)
{
    struct transfer *t = opaque;
    if (size > SIGNALLING_BODY_MAX - t->size)
        return 0; // ends the transfer with an error
    char *more = realloc(t->body, t->size + size + 1);
    if (more == NULL)
        return 0;
    t->body = more;
    memcpy(t->body + t->size, data, size);
    t->size += size;
    t->body[t->size] = '\0';
    return size;
}

// curl is about to connect.
static curl_socket_t on_socket(void *opaque, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = opaque;
    struct abi_addr addr;
    net_from_sockaddr(&addr, &address->addr);
    if (!t->signalling->config.anywhere && !net_is_own(&addr)) {
        t->public = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0)
        t->socket_error = errno;
    return fd;
}

static bool set_up(struct transfer *t, const char *url, const char *type, const char *extra)
{
    const struct signalling_config *config = &t->signalling->config;
    char line[4200];
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    snprintf(line, sizeof(line), "Content-Type: %s", type);
    list = *type ? curl_slist_append(list, line) : list;
    snprintf(line, sizeof(line), "Authorization: Bearer %.4096s",
             config->token ? config->token : "");
    list = config->token ? curl_slist_append(list, line) : list;
    list = *extra ? curl_slist_append(list, extra) : list;
    explicit_bzero(line, sizeof(line));
    t->headers = list;
    CURL *e = t->easy;
    return list != NULL && curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PRIVATE, t) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTPHEADER, list) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_NOPROXY, "*") == CURLE_OK && // the guard must see the server
           curl_easy_setopt(e, CURLOPT_USERAGENT, "hitless-bees/" HITLESS_VERSION) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_POSTREDIR,
                            (long)(CURL_REDIR_POST_301 | CURL_REDIR_POST_302)) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)config->timeout_ms) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEDATA, t) == CURLE_OK &&
           (config->ca == NULL || curl_easy_setopt(e, CURLOPT_CAINFO, config->ca) == CURLE_OK) &&
           curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, config->insecure ? 0L : 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, config->insecure ? 0L : 2L) == CURLE_OK;
}

// Lets waiting requests begin while there is room.
static void begin_waiting(struct signalling *s)
{
    while (s->first != NULL && s->active < s->config.concurrency) {
        struct transfer *t = s->first;
        s->first = t->next;
        if (s->first == NULL)
            s->last = NULL;
        t->previous = NULL;
        t->next = s->running;
        if (t->next != NULL)
            t->next->previous = t;
        s->running = t;
        s->active++;
        curl_multi_add_handle(s->multi, t->easy);
    }
}

static struct transfer *new_transfer(struct signalling *s, signalling_fn done, void *opaque)
{
    struct transfer *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return NULL;
    *t = (struct transfer){.signalling = s, .done = done, .opaque = opaque};
    t->easy = curl_easy_init();
    if (t->easy != NULL)
        return t;
    free(t);
    return NULL;
}

static int queue(struct signalling *s, struct transfer *t, bool ok)
{
    if (!ok) {
        free_transfer(t);
        return -ENOMEM;
    }
    if (s->last != NULL)
        s->last->next = t;
    else
        s->first = t;
    s->last = t;
    s->busy++;
    begin_waiting(s);
    return 0;
}

int signalling_post(struct signalling *s, const char *url, const char *sdp, signalling_fn done,
                    void *opaque)
{
    struct transfer *t = new_transfer(s, done, opaque);
    if (t == NULL)
        return -ENOMEM;
    t->is_post = true;
    return queue(s, t,
                 set_up(t, url, "application/sdp", "Accept: application/sdp") &&
                     curl_easy_setopt(t->easy, CURLOPT_COPYPOSTFIELDS, sdp) == CURLE_OK);
}

int signalling_patch(struct signalling *s, const char *url, const char *etag, const char *fragment,
                     signalling_fn done, void *opaque)
{
    char match[512] = "";
    struct transfer *t = new_transfer(s, done, opaque);
    if (t == NULL)
        return -ENOMEM;
    if (etag != NULL)
        snprintf(match, sizeof(match), "If-Match: %.480s", etag);
    return queue(s, t,
                 set_up(t, url, "application/trickle-ice-sdpfrag", match) &&
                     curl_easy_setopt(t->easy, CURLOPT_COPYPOSTFIELDS, fragment) == CURLE_OK &&
                     curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, "PATCH") == CURLE_OK);
}

int signalling_delete(struct signalling *s, const char *url, signalling_fn done, void *opaque)
{
    struct transfer *t = new_transfer(s, done, opaque);
    if (t == NULL)
        return -ENOMEM;
    return queue(s, t,
                 set_up(t, url, "", "") &&
                     curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, "DELETE") == CURLE_OK);
}

static enum bees_failure failure_of_code(const struct transfer *t, CURLcode code)
{
    curl_off_t connected = 0;
    if (t->public)
        return BEES_FAILURE_public_address;
    if (t->socket_error == EMFILE || t->socket_error == ENFILE)
        return BEES_FAILURE_fd_limit;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return BEES_FAILURE_server_absent;
    case CURLE_OPERATION_TIMEDOUT:
        curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);
        return connected ? BEES_FAILURE_http_timeout : BEES_FAILURE_server_absent;
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return BEES_FAILURE_redirects;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
        return BEES_FAILURE_tls;
    case CURLE_OUT_OF_MEMORY:
        return BEES_FAILURE_out_of_memory;
    default:
        return BEES_FAILURE_http_broken;
    }
}

static enum bees_failure failure_of_status(long status)
{
    switch (status) {
    case 401:
    case 403:
        return BEES_FAILURE_unauthorized;
    case 404:
    case 405:
    case 409:
    case 410:
        return BEES_FAILURE_not_found;
    case 429:
    case 503:
        return BEES_FAILURE_busy;
    default:
        return status / 100 == 3 ? BEES_FAILURE_redirects : BEES_FAILURE_http_refused;
    }
}

// Location against the URL that answered (RFC 9110 10.2.2). To be freed with curl_free().
static char *resolve(CURL *easy, const char *location)
{
    char *base = NULL, *absolute = NULL;
    CURLU *url = curl_url();
    curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &base);
    if (url == NULL || base == NULL || curl_url_set(url, CURLUPART_URL, base, 0) != CURLUE_OK ||
        curl_url_set(url, CURLUPART_URL, location, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_URL, &absolute, 0) != CURLUE_OK)
        absolute = NULL;
    curl_url_cleanup(url);
    return absolute;
}

static const char *header_of(CURL *easy, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value
                                                                                   : NULL;
}

// When a server that refuses wants to be asked again. Dates are for those with hours to spare.
static uint32_t retry_after(CURL *easy)
{
    const char *value = header_of(easy, "Retry-After");
    char *end;
    unsigned long seconds = value != NULL ? strtoul(value, &end, 10) : 0;
    return seconds > 0 && *end == '\0' && *value != '-' && seconds <= RETRY_AFTER_MAX
               ? (uint32_t)seconds
               : 0;
}

static void finish(struct signalling *s, struct transfer *t, CURLcode code)
{
    long status = 0, redirects = 0;
    char reason[CURL_ERROR_SIZE + 32] = "";
    const char *location = NULL;
    char *absolute = NULL;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_COUNT, &redirects);
    struct signalling_reply reply = {.failure = BEES_FAILURE_none,
                                     .status = (uint16_t)(status > 0 ? status : 0),
                                     .redirects = (uint16_t)redirects,
                                     .body = t->body ? t->body : "",
                                     .size = t->size,
                                     .etag = header_of(t->easy, "ETag")};
    if (code != CURLE_OK) {
        reply.failure = failure_of_code(t, code);
        snprintf(reason, sizeof(reason), "%s", *t->error ? t->error : curl_easy_strerror(code));
    } else if (status / 100 != 2 || (t->is_post && status != 201)) {
        reply.failure = failure_of_status(status);
        reply.retry_after_s = retry_after(t->easy);
        snprintf(reason, sizeof(reason), "HTTP %ld: %.100s", status, reply.body);
    } else if ((location = header_of(t->easy, "Location")) != NULL) {
        absolute = resolve(t->easy, location);
    }
    reason[strcspn(reason, "\r\n")] = '\0';
    reply.location = absolute;
    reply.reason = reason;
    t->done(t->opaque, &reply);
    curl_free(absolute);
}

static void remove_running(struct signalling *s, struct transfer *t)
{
    if (t->previous != NULL)
        t->previous->next = t->next;
    else
        s->running = t->next;
    if (t->next != NULL)
        t->next->previous = t->previous;
    s->active--;
    s->busy--;
}

void signalling_run(struct signalling *s, int wait_ms)
{
    int running, left;
    CURLMsg *message;
    curl_multi_perform(s->multi, &running);
    bool done = false;
    while ((message = curl_multi_info_read(s->multi, &left)) != NULL) {
        struct transfer *t = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
        finish(s, t, code);
        curl_multi_remove_handle(s->multi, t->easy);
        remove_running(s, t);
        free_transfer(t);
        done = true;
    }
    begin_waiting(s);
    if (!done && wait_ms > 0)
        curl_multi_poll(s->multi, NULL, 0, wait_ms, NULL);
}

void signalling_wake(struct signalling *s)
{
    curl_multi_wakeup(s->multi);
}

unsigned signalling_busy(const struct signalling *s)
{
    return s->busy;
}
