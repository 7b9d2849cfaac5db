// Secrets in memory: pages that are never swapped or dumped, random names, comparison in constant
// time. Pure but for the kernel's random source; any thread.
#ifndef HITLESS_SECRET_H
#define HITLESS_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Zeroed pages for keys, left out of core dumps and children, locked in memory as they are touched.
// `*locked` is false if the kernel refused the lock (RLIMIT_MEMLOCK). NULL: out of memory.
void *secret_alloc(size_t size, bool *locked);
void secret_free(void *pages, size_t size); // wipes first; NULL is fine

// Fills `size` bytes from getrandom. 0 or a negative errno.
int secret_random(void *out, size_t size);
// `length` random characters and a NUL. Base32 (RFC 4648, lower case): 5 bits each; ice-char (RFC
// 8839 5.4): 6 bits each. 0 or a negative errno, then `out` is "".
int secret_base32(char *out, size_t length);
int secret_ice(char *out, size_t length);

// Whether two strings of `length` bytes are equal; its time tells nothing about where they differ.
bool secret_equal(const void *a, const void *b, size_t length);

#endif
