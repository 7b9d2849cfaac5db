// Folders in memory for tests, of which none outlives its process for long: whoever makes one
// removes what killed processes left.
#ifndef HITLESS_SCRATCH_H
#define HITLESS_SCRATCH_H

#include <stddef.h>

// Makes /dev/shm/hitless-KIND-PID-…, open to us alone, and writes its name. 0 or a negative errno.
int scratch_make(char *dir, size_t size, const char *kind);
// Removes it with what is in it. 0 or a negative errno.
int scratch_remove(const char *dir);

#endif
