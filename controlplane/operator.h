// The operator socket: a unix stream socket on the control plane's loop that answers hitlessctl and
// scripts. One JSON request per line, one JSON object per line back (commands.h).
//
// Who may ask: root, our own user, and members of the configured group, by the kernel's word
// (SO_PEERCRED, SO_PEERGROUPS). Limits: OPERATOR_CLIENTS at once, COMMAND_LINE_MAX bytes a line,
// OPERATOR_IDLE_MS without progress. Runs on the loop's thread; never blocks.
#ifndef HITLESS_OPERATOR_H
#define HITLESS_OPERATOR_H

#include "api.h"
#include <uv.h>

#define OPERATOR_CLIENTS 32
#define OPERATOR_IDLE_MS 30000

struct operator_server;

// Listens at `path`, mode 0660 and owned by `group` ("": only root's). A socket that nobody listens
// on is replaced; anything else at that path is left alone: -EADDRINUSE or -EEXIST. -ENOENT: no
// such group. `api` outlives the server, which also samples it once a second. Returns 0 or a
// negative errno with a line for a person in `why`.
int operator_new(struct operator_server **out, uv_loop_t *loop, const char *path, const char *group,
                 struct api *api, char *why, size_t why_size);

// Closes the socket, removes its file and drops the clients; the memory goes in the loop's next
// turns. NULL is fine.
void operator_free(struct operator_server *server);

#endif
