// Inside the command line, shared by options.c and options_settle.c.
#ifndef HITLESS_OPTIONS_INSIDE_H
#define HITLESS_OPTIONS_INSIDE_H

#include "options.h"

// Says what is wrong with `name`. Always -EINVAL.
int options_wrong(FILE *err, const char *what, const char *name);

// Reads lists, names and the token, and works out what was not given. 0 or -EINVAL.
int options_settle(struct options *options, FILE *err);

#endif
