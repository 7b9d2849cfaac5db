// The control plane's one loop: brings every part up in order, runs until told to stop, and takes
// them down in the opposite order. Nothing on it blocks.
#ifndef HITLESS_LOOP_H
#define HITLESS_LOOP_H

#include "config.h"

// Runs with `config` (owned by the caller, outlives the call) until SIGTERM or SIGINT, after which
// all sessions go on with the dataplane and the next control plane, or until SIGQUIT, which ends
// them first. SIGHUP reads `path` again for tokens, keys, certificates and the log level. Returns 0
// after an orderly stop, or a negative errno after logging why it could not start.
int loop_run(const struct config *config, const char *path);

#endif
