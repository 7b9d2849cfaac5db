// The operator socket; operator.h has the contract.
//
// A client is read from only while no answer is on its way to it, so one that does not read costs
// one answer's memory and, after OPERATOR_IDLE_MS, its connection.
#include "operator.h"
#include "commands.h"
#include "log.h"
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GROUPS_MAX 256 // of a client, looked at
#define SAMPLE_MS 1000
#define NO_GROUP ((gid_t)-1)

struct client {
    uv_pipe_t pipe;
    uv_timer_t idle;
    uv_write_t write;
    struct operator_server *server;
    struct client *next;
    char *answer; // on its way
    int open_handles;
    bool closing;
    size_t size;
    char line[COMMAND_LINE_MAX];
};

struct operator_server {
    uv_loop_t *loop;
    uv_pipe_t pipe;
    uv_timer_t sample;
    struct api *api;
    gid_t group;
    struct client *clients;
    int client_count, open_handles;
    bool closing;
};

static void server_unref(struct operator_server *server)
{
    if (server->closing && server->open_handles == 0 && server->client_count == 0)
        free(server);
}

// ---- clients

static void on_client_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    struct operator_server *server = client->server;
    if (--client->open_handles > 0)
        return;
    struct client **link = &server->clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    server->client_count--;
    free(client->answer);
    free(client);
    server_unref(server);
}

static void client_close(struct client *client)
{
    if (client->closing)
        return;
    client->closing = true;
    uv_close((uv_handle_t *)&client->pipe, on_client_closed);
    uv_close((uv_handle_t *)&client->idle, on_client_closed);
}

static void on_idle(uv_timer_t *timer)
{
    client_close(timer->data);
}

static void next_line(struct client *client);

static void on_written(uv_write_t *write, int status)
{
    struct client *client = write->data;
    free(client->answer);
    client->answer = NULL;
    if (client->closing)
        return;
    if (status != 0)
        client_close(client);
    else
        next_line(client);
}

static void client_answer(struct client *client, const char *line, size_t size)
{
    json_t *answer = command_answer(client->server->api, line, size, uv_hrtime());
    char *text = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    if (text == NULL) {
        client_close(client);
        return;
    }
    size_t length = strlen(text);
    text[length] = '\n'; // in place of the NUL
    client->answer = text;
    uv_buf_t buffer = uv_buf_init(client->answer, (unsigned)(length + 1));
    client->write.data = client;
    if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &buffer, 1, on_written) != 0) {
        free(client->answer);
        client->answer = NULL;
        client_close(client);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct client *client = handle->data;
    *buffer =
        uv_buf_init(client->line + client->size, (unsigned)(sizeof(client->line) - client->size));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct client *client = stream->data;
    if (count < 0) {
        client_close(client);
        return;
    }
    client->size += (size_t)count;
    if (count > 0) {
        uv_read_stop(stream);
        next_line(client);
    }
}

// Answers the next line that has come whole, or waits for more of it.
static void next_line(struct client *client)
{
    uv_timer_start(&client->idle, on_idle, OPERATOR_IDLE_MS, 0);
    char *end = memchr(client->line, '\n', client->size);
    if (end == NULL && client->size < sizeof(client->line)) {
        uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
        return;
    }
    if (end == NULL) { // a line without end cannot be answered line by line
        client_close(client);
        return;
    }
    char line[COMMAND_LINE_MAX];
    size_t size = (size_t)(end - client->line);
    memcpy(line, client->line, size);
    client->size -= size + 1;
    memmove(client->line, end + 1, client->size);
    client_answer(client, line, size);
}

// ---- admission

static bool may_ask(const struct operator_server *server, int fd)
{
    struct ucred who;
    gid_t groups[GROUPS_MAX];
    socklen_t size = sizeof(who);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
        return false;
    if (who.uid == 0 || who.uid == geteuid())
        return true;
    if (server->group == NO_GROUP)
        return false;
    if (who.gid == server->group)
        return true;
    size = sizeof(groups);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
        return false;
    for (size_t i = 0; i < size / sizeof(gid_t); i++)
        if (groups[i] == server->group)
            return true;
    return false;
}

static const char *admission(const struct operator_server *server, const struct client *client)
{
    uv_os_fd_t fd;
    if (server->client_count > OPERATOR_CLIENTS)
        return "{\"error\":\"too many operators are connected\"}\n";
    if (uv_fileno((const uv_handle_t *)&client->pipe, &fd) != 0 || !may_ask(server, fd)) {
        LOG_OFTEN(LEVEL_WARNING, "operator socket: a client that is not in its group was refused");
        return "{\"error\":\"only root and the operators' group may ask\"}\n";
    }
    return NULL;
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct operator_server *server = stream->data;
    struct client *client = status == 0 ? calloc(1, sizeof(*client)) : NULL;
    if (client == NULL)
        return;
    client->server = server;
    client->open_handles = 2;
    client->next = server->clients;
    server->clients = client;
    server->client_count++;
    uv_pipe_init(server->loop, &client->pipe, 0);
    uv_timer_init(server->loop, &client->idle);
    client->pipe.data = client->idle.data = client;
    if (uv_accept(stream, (uv_stream_t *)&client->pipe) != 0) {
        client_close(client);
        return;
    }
    const char *refused = admission(server, client);
    if (refused == NULL) {
        next_line(client);
        return;
    }
    uv_buf_t buffer = uv_buf_init((char *)refused, (unsigned)strlen(refused));
    uv_try_write((uv_stream_t *)&client->pipe, &buffer, 1);
    client_close(client);
}

// ---- start and end

#define FAIL(err, ...) (snprintf(why, why_size, __VA_ARGS__), (err))

static int find_group(const char *name, gid_t *group, char *why, size_t why_size)
{
    *group = NO_GROUP;
    if (*name == 0)
        return 0;
    const struct group *entry = getgrnam(name);
    if (entry == NULL)
        return FAIL(-ENOENT, "operator.group: there is no group %s", name);
    *group = entry->gr_gid;
    return 0;
}

// Removes a socket that nobody listens on.
static int clear_path(const char *path, char *why, size_t why_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(path) >= sizeof(address.sun_path))
        return FAIL(-ENAMETOOLONG, "the operator socket's path is too long: %s", path);
    if (lstat(path, &st) != 0)
        return 0; // bind will say what is wrong, if anything is
    if (!S_ISSOCK(st.st_mode))
        return FAIL(-EEXIST, "%s exists and is not a socket", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return FAIL(-errno, "cannot make a socket");
    int err = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
    close(fd);
    if (err != ECONNREFUSED)
        return FAIL(-EADDRINUSE, "another control plane listens on %s", path);
    if (unlink(path) != 0)
        return FAIL(-errno, "cannot remove the old %s", path);
    return 0;
}

// The file comes without any permission and gets them when its group is right.
static int listen_at(struct operator_server *server, const char *path, char *why, size_t why_size)
{
    mode_t mask = umask(0777);
    int err = uv_pipe_bind(&server->pipe, path);
    umask(mask);
    if (err != 0)
        return FAIL(err, "cannot bind %s: %s", path, uv_strerror(err));
    if (server->group != NO_GROUP && lchown(path, (uid_t)-1, server->group) != 0)
        return FAIL(-errno, "cannot give %s to its group", path);
    if (chmod(path, 0660) != 0)
        return FAIL(-errno, "cannot set the mode of %s", path);
    err = uv_listen((uv_stream_t *)&server->pipe, OPERATOR_CLIENTS, on_connection);
    return err == 0 ? 0 : FAIL(err, "cannot listen on %s: %s", path, uv_strerror(err));
}

static void on_sample(uv_timer_t *timer)
{
    const struct operator_server *server = timer->data;
    api_sample(server->api, uv_hrtime());
}

int operator_new(struct operator_server **out, uv_loop_t *loop, const char *path, const char *group,
                 struct api *api, char *why, size_t why_size)
{
    gid_t gid;
    int err = find_group(group, &gid, why, why_size);
    if (err == 0)
        err = clear_path(path, why, why_size);
    if (err != 0)
        return err;
    struct operator_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return FAIL(-ENOMEM, "out of memory");
    server->loop = loop;
    server->api = api;
    server->group = gid;
    uv_pipe_init(loop, &server->pipe, 0);
    uv_timer_init(loop, &server->sample);
    server->open_handles = 2;
    server->pipe.data = server->sample.data = server;
    err = listen_at(server, path, why, why_size);
    if (err != 0) {
        operator_free(server);
        return err;
    }
    uv_timer_start(&server->sample, on_sample, SAMPLE_MS, SAMPLE_MS);
    *out = server;
    return 0;
}

static void on_server_closed(uv_handle_t *handle)
{
    struct operator_server *server = handle->data;
    server->open_handles--;
    server_unref(server);
}

void operator_free(struct operator_server *server)
{
    if (server == NULL || server->closing)
        return;
    server->closing = true;
    for (struct client *client = server->clients; client != NULL; client = client->next)
        client_close(client);
    uv_close((uv_handle_t *)&server->pipe, on_server_closed); // removes the file, too
    uv_close((uv_handle_t *)&server->sample, on_server_closed);
}
