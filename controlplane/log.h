// Log lines of the control plane: one event, one line on standard error, safe to print.
//
// Callable from any thread; each line is one write(). Under systemd (JOURNAL_STREAM is set) a line
// begins with the journal's <N> priority, else with a UTC time stamp and the level's name. Control
// characters inside a line become '?', so text from the network cannot forge another line; a line
// is cut at LOG_LINE_MAX. Whoever logs keeps secrets (tokens, keys, ICE passwords) out.
#ifndef HITLESS_LOG_H
#define HITLESS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 1024

enum level { LEVEL_ERROR, LEVEL_WARNING, LEVEL_INFO, LEVEL_DEBUG };

// Says which levels are printed from now on (that one and the graver ones). LEVEL_INFO at first.
void log_level(enum level level);

#define LOG_PRINTF(f, a) __attribute__((format(printf, f, a)))

// One line each; `format` has no newline.
void log_error(const char *format, ...) LOG_PRINTF(1, 2);
void log_warning(const char *format, ...) LOG_PRINTF(1, 2);
void log_info(const char *format, ...) LOG_PRINTF(1, 2);
void log_debug(const char *format, ...) LOG_PRINTF(1, 2);

// How often one place may log: LOG_BURST lines in LOG_WINDOW_MS, then silence until the window
// ends; the first line of the next window says how many were left out.
#define LOG_BURST 5
#define LOG_WINDOW_MS 10000
struct log_limit {
    uint64_t window_ms; // when the window began
    uint32_t lines;     // in this window
    uint32_t suppressed;
};

// Whether a line may be logged at `now_ms`; `*missed` is how many were left out before it.
bool log_limit_take(struct log_limit *limit, uint64_t now_ms, uint32_t *missed);

// Logs at `level` unless `limit` forbids it. For events that the network can trigger at will; each
// place has its own static limit: LOG_OFTEN(LEVEL_WARNING, "bad offer from %s", client).
void log_often(struct log_limit *limit, enum level level, const char *format, ...) LOG_PRINTF(3, 4);
#define LOG_OFTEN(level, ...)                                                                      \
    do {                                                                                           \
        static struct log_limit log_site_limit;                                                    \
        log_often(&log_site_limit, level, __VA_ARGS__);                                            \
    } while (0)

#endif
