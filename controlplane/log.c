// Log lines to standard error; see log.h. Any thread. Text from the network is cut and cleaned.
#include "log.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic enum level threshold = LEVEL_INFO;

static const struct {
    const char *name;
    int priority; // syslog's, for the journal
} levels[] = {
    [LEVEL_ERROR] = {"error", 3},
    [LEVEL_WARNING] = {"warning", 4},
    [LEVEL_INFO] = {"info", 6},
    [LEVEL_DEBUG] = {"debug", 7},
};

void log_level(enum level level)
{
    atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

static size_t prefix(char *line, size_t size, enum level level)
{
    if (getenv("JOURNAL_STREAM"))
        return (size_t)snprintf(line, size, "<%d>", levels[level].priority);
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t used = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
    return used + (size_t)snprintf(line + used, size - used, ".%03ldZ %s: ", now.tv_nsec / 1000000,
                                   levels[level].name);
}

static void LOG_PRINTF(2, 0) emit(enum level level, const char *format, va_list args)
{
    if (level > atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    char line[LOG_LINE_MAX];
    size_t used = prefix(line, sizeof(line), level);
    size_t start = used;
    int n = vsnprintf(line + used, sizeof(line) - used, format, args);
    if (n < 0)
        return;
    used += (size_t)n;
    if (used > sizeof(line) - 1)
        used = sizeof(line) - 1;
    for (size_t i = start; i < used; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7f)
            line[i] = '?';
    }
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written; // nowhere left to complain
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        emit(level, format, args);                                                                 \
        va_end(args);                                                                              \
    }
LOG_FUNCTION(log_error, LEVEL_ERROR)
LOG_FUNCTION(log_warning, LEVEL_WARNING)
LOG_FUNCTION(log_info, LEVEL_INFO)
LOG_FUNCTION(log_debug, LEVEL_DEBUG)

bool log_limit_take(struct log_limit *limit, uint64_t now_ms, uint32_t *missed)
{
    *missed = 0;
    if (limit->lines == 0 || now_ms - limit->window_ms >= LOG_WINDOW_MS) {
        *missed = limit->suppressed;
        *limit = (struct log_limit){.window_ms = now_ms, .lines = 1};
        return true;
    }
    if (limit->lines < LOG_BURST) {
        limit->lines++;
        return true;
    }
    limit->suppressed++;
    return false;
}

static void LOG_PRINTF(2, 3) log_at(enum level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit(level, format, args);
    va_end(args);
}

void log_often(struct log_limit *limit, enum level level, const char *format, ...)
{
    if (level > atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint32_t missed;
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (!log_limit_take(limit, now_ms, &missed))
        return;
    char text[LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (missed)
        log_at(level, "%s (and %u like it before, not logged)", text, missed);
    else
        log_at(level, "%s", text);
}
