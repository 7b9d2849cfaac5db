// The operator's commands: one table that answers requests and feeds help, completion and the
// columns of hitlessctl's tables.
//
// A request is one JSON object: {"command":"show streams"}, with "columns":true also for the
// columns that a table of the answer has. An answer is one JSON object; {"error":"…"} is a refusal.
// Runs on the control plane's loop; never blocks.
#ifndef HITLESS_COMMANDS_H
#define HITLESS_COMMANDS_H

#include "api.h"
#include <stddef.h>
#include <stdint.h>

#define COMMAND_LINE_MAX 4096 // bytes of a request, its newline included

struct command_column {
    const char *field, *title; // of the answer's rows
    // text, count, nonzero (a count; tables leave rows without it out), rate, bitrate, us, ms, s,
    // percent, permille or bool
    const char *unit;
};

struct command {
    const char *name;     // words with one blank between them
    const char *argument; // its name in help, in [] if it may be missing; NULL: takes none
    const char *help;
    json_t *(*handler)(struct api *api, const char *argument, uint64_t now_ns); // argument: or NULL
    const struct command_column *columns; // ends with a NULL field; NULL: none
};

extern const struct command command_table[];
extern const size_t command_count;

// Answers one request of `size` bytes (untrusted, need not end with NUL or a newline). A new
// reference; NULL when memory ran out.
json_t *command_answer(struct api *api, const char *request, size_t size, uint64_t now_ns);

#endif
