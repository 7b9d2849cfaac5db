// One request to the operator socket and its answer; see ask.h.
#include "ask.h"
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX (64u << 20)
#define ANSWER_S 10 // to wait for an answer

static const char *socket_path = ASK_SOCKET;

void ask_at(const char *path)
{
    socket_path = path;
}

int complain(const char *format, ...)
{
    va_list args;
    fputs("hitlessctl: ", stderr);
    va_start(args, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is one line above
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return 1;
}

static int dial(bool quiet)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof(address.sun_path)) {
        complain("the socket's path is too long: %s", socket_path);
        return -1;
    }
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        struct timeval patience = {.tv_sec = ANSWER_S};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        return fd;
    }
    if (!quiet)
        complain("cannot reach %s: %s%s", socket_path, strerror(errno),
                 errno == ENOENT || errno == ECONNREFUSED ? "; is the control plane running?"
                 : errno == EACCES ? "; only root and the operators' group may"
                                   : "");
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool send_all(int fd, const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        text += sent;
        size -= (size_t)sent;
    }
    return true;
}

// The answer's line without its newline, malloc'ed; NULL and errno when none came whole.
static char *receive_line(int fd)
{
    size_t size = 0, room = 65536;
    char *line = malloc(room);
    while (line != NULL && size < ANSWER_MAX) {
        if (size + 1 == room) {
            char *larger = realloc(line, room *= 2);
            if (larger == NULL)
                break;
            line = larger;
        }
        ssize_t got = recv(fd, line + size, room - size - 1, 0);
        if (got <= 0) {
            errno = got == 0 ? ECONNRESET : errno;
            break;
        }
        line[size + (size_t)got] = 0;
        char *end = memchr(line + size, '\n', (size_t)got);
        if (end != NULL) {
            *end = 0;
            return line;
        }
        size += (size_t)got;
    }
    free(line);
    return NULL;
}

char *ask(const char *command, bool columns, bool quiet)
{
    json_t *request = json_pack("{s:s, s:b}", "command", command, "columns", columns);
    char *text = json_dumps(request, JSON_COMPACT), *line = NULL;
    json_decref(request);
    if (text == NULL) { // not UTF-8
        if (!quiet)
            complain("the command is not valid text");
        return NULL;
    }
    int fd = dial(quiet);
    if (fd >= 0) {
        if (send_all(fd, text) && send_all(fd, "\n"))
            line = receive_line(fd);
        if (line == NULL && !quiet)
            complain("no answer from %s: %s", socket_path, strerror(errno));
        close(fd);
    }
    free(text);
    return line;
}
