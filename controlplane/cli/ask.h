// One request to the operator socket and its answer.
#ifndef HITLESS_ASK_H
#define HITLESS_ASK_H

#include <stdbool.h>

#define ASK_SOCKET "/run/hitless/operator.sock" // unless ask_at says otherwise

// Where the control plane listens; borrowed.
void ask_at(const char *path);

// Asks for one command. The answer's line, malloc'ed, or NULL after a complaint unless `quiet`.
char *ask(const char *command, bool columns, bool quiet);

// One line on standard error. Returns 1, an exit status.
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
