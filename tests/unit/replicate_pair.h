// For tests of replication: certificates made afresh in a folder, and a loop run until something
// holds.
#ifndef HITLESS_TEST_REPLICATE_PAIR_H
#define HITLESS_TEST_REPLICATE_PAIR_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

static char certs[64];

// NAME.pem and NAME.key for `name`, issued by authority `ca` (CA.pem, CA.key; made on first use).
static inline void make_certificate(const char *file, const char *name, const char *ca)
{
    char command[1024];
    snprintf(
        command, sizeof(command),
        "cd %s && exec 2>/dev/null && { [ -f %s.pem ] || openssl req -x509 -newkey ec -pkeyopt "
        "ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=%s -keyout %s.key -out %s.pem; } && "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=%s "
        "-keyout %s.key -out %s.csr && openssl x509 -req -days 2 -in %s.csr -CA %s.pem "
        "-CAkey %s.key -CAcreateserial -out %s.pem",
        certs, ca, ca, ca, ca, name, file, file, file, ca, ca, file);
    assert_int_equal(system(command), 0); // NOLINT(concurrency-mt-unsafe, cert-env33-c)
}

static inline int make_certificates(void **state)
{
    snprintf(certs, sizeof(certs), "/tmp/hitless-test-certs-XXXXXX");
    if (mkdtemp(certs) == NULL)
        return -1;
    make_certificate("a", "a", "ca");
    make_certificate("b", "b", "ca");
    make_certificate("other", "b", "stranger"); // the right name from another authority
    return 0;
}

static inline int remove_certificates(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", certs);
    return system(command); // NOLINT(concurrency-mt-unsafe, cert-env33-c)
}

static inline void on_deadline(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

// Turns the loop until `done(opaque)`; false after `ms`.
static inline bool run_until(uv_loop_t *loop, bool (*done)(void *), void *opaque, uint64_t ms)
{
    static uv_timer_t timer;
    bool late = false;
    uv_timer_init(loop, &timer);
    timer.data = &late;
    uv_timer_start(&timer, on_deadline, ms, 0);
    while (!late && !done(opaque))
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    return !late;
}

#endif
