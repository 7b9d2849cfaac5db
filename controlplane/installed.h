// The programs as they are installed now, which an upgrade may have replaced under the running
// ones.
#ifndef HITLESS_INSTALLED_H
#define HITLESS_INSTALLED_H

#include <stddef.h>
#include <stdint.h>

// The channel version that the program file at `path` speaks, read from its mark (ABI_MARK) without
// running it. Or -ENOENT, -EBADMSG (it has no mark) or another negative errno.
int installed_version(const char *path);

// Where the program of this process ("controlplane") or its other half ("dataplane") is installed:
// beside our own, or where the build leaves it. 0, or -ENOENT with the place in `path` all the
// same.
int installed_path(const char *process, char *path, size_t size);

// Whether the installed program of that process can go on with the channel as it is. 0, or -EPROTO
// with one line in `why`.
int installed_check(const char *process, char *why, size_t why_size);

// Whether the installed dataplane can take up the tables of the one that runs, which are `running`
// (channel_peer_tables), as far as the programs tell. 0, or -EPROTO with one line in `why`.
int installed_tables(uint64_t running, char *why, size_t why_size);

// Whether the installed control plane can take up this one's journal. 0, or -EPROTO with one line
// in `why`.
int installed_journal(char *why, size_t why_size);

#endif
