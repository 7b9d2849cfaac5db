#include "metrics.h"
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 8
#define IDLE_SECONDS 10

struct metrics {
    struct MHD_Daemon *daemon;
    metrics_fn fn;
    void *opaque;
    uint16_t port;
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              char *text, size_t size, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, mode);
    if (!response) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result handle(void *opaque, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    static char not_found[] = "try /metrics\n";
    struct metrics *metrics = opaque;
    char *text = NULL;
    size_t size = 0;
    if (strcmp(url, "/metrics") != 0 || (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0))
        return answer(connection, MHD_HTTP_NOT_FOUND, "text/plain", not_found,
                      sizeof(not_found) - 1, MHD_RESPMEM_PERSISTENT);
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return MHD_NO;
    metrics->fn(out, metrics->opaque);
    if (fclose(out) != 0) {
        free(text);
        return MHD_NO;
    }
    return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, size,
                  MHD_RESPMEM_MUST_FREE);
}

int metrics_start(struct metrics **metrics, const char *address, uint16_t port, metrics_fn fn,
                  void *opaque)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO;
    const struct sockaddr *where = (struct sockaddr *)&v4;
    if (inet_pton(AF_INET, address ? address : "127.0.0.1", &v4.sin_addr) != 1) {
        if (inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
            return -EADDRNOTAVAIL;
        where = (struct sockaddr *)&v6;
        flags |= MHD_USE_IPv6;
    }
    struct metrics *new = calloc(1, sizeof(*new));
    if (!new)
        return -ENOMEM;
    new->fn = fn;
    new->opaque = opaque;
    errno = 0;
    new->daemon =
        MHD_start_daemon(flags, port, NULL, NULL, handle, new, MHD_OPTION_SOCK_ADDR, where,
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_END);
    if (!new->daemon) {
        int rc = errno ? -errno : -EIO;
        free(new);
        return rc;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(new->daemon, MHD_DAEMON_INFO_BIND_PORT);
    new->port = info ? info->port : port;
    *metrics = new;
    return 0;
}

uint16_t metrics_port(const struct metrics *metrics)
{
    return metrics->port;
}

void metrics_stop(struct metrics *metrics)
{
    if (!metrics)
        return;
    MHD_stop_daemon(metrics->daemon);
    free(metrics);
}

// In the text format, HELP escapes backslash and line feed, a label value the quote too.
static void escaped(FILE *out, const char *text, bool quotes)
{
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\\\", out);
        else if (*text == '\n')
            fputs("\\n", out);
        else if (*text == '"' && quotes)
            fputs("\\\"", out);
        else
            fputc(*text, out);
    }
}

void metrics_family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s ", name);
    escaped(out, help, false);
    fprintf(out, "\n# TYPE %s %s\n", name, type);
}

void metrics_label(FILE *out, const char *value)
{
    escaped(out, value, true);
}
