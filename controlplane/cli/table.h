// Prints an answer of the operator socket for people: aligned tables with units.
#ifndef HITLESS_TABLE_H
#define HITLESS_TABLE_H

#include <jansson.h>
#include <stdio.h>

#define TABLE_CELL 256 // bytes of one cell, NUL included

// Prints `answer` by its own "columns" (controlplane/commands.h): the rows of its one array as a
// table, or else its fields as a list. A table wider than `limit` characters (0: no limit) goes on
// below, beside its first column again. Returns 0, or -EINVAL when the answer has no columns.
int table_print(FILE *out, const json_t *answer, int limit);

// One value as it stands in a cell, "-" when there is none. Control characters become '?'.
void table_format(const json_t *value, const char *unit, char cell[TABLE_CELL]);

#endif
