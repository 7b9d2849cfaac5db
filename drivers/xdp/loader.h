// The steering program as user space sees it: finding it on an interface, configuring it, reading
// its counters and taking it off. The AF_XDP driver attaches it; a crash leaves it attached, and
// harmless: without a socket everything goes to the kernel.
#ifndef HITLESS_LOADER_H
#define HITLESS_LOADER_H

#include "../../dataplane/abi/abi.h"
#include "steer.h"
#include <stddef.h>
#include <stdint.h>

// Where the program's object file is: $HITLESS_XDP_OBJECT, beside the executable as the build
// leaves it, or where it is installed. Returns 0 or -ENOENT, with the places tried in `path`.
int loader_find_object(char *path, size_t size);

// What is attached to an interface.
enum loader_owner { LOADER_NONE, LOADER_OURS, LOADER_OTHER };
// Puts the attached program's name into `name` and its kernel id into `*id` (0: none). Returns an
// enum loader_owner or a negative errno.
int loader_attached(unsigned ifindex, char *name, size_t size, uint32_t *id);

// Takes our program off. 0 also if there is none; -EBUSY if the one there is not ours.
int loader_detach(unsigned ifindex);

// What the appliance's configuration asks of the steering program.
void loader_config(const struct abi_config *config, struct steer_config *out);

// Writes the configuration of the running program with this id. The program sees the addresses
// only once they are all there. Returns 0 or a negative errno.
int loader_configure(uint32_t id, const struct steer_config *config);

// Sums the counters over all CPUs. Returns 0 or a negative errno.
int loader_counts(uint32_t id, uint64_t counts[STEER_VERDICTS]);

#endif
