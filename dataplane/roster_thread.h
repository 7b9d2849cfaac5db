// Inside the roster: what roster.c, the main core's side, needs of roster_thread.c.
#ifndef HITLESS_ROSTER_THREAD_H
#define HITLESS_ROSTER_THREAD_H

#include "roster.h"
#include <signal.h>
#include <time.h>

#define ROSTER_PARK_SIGNAL SIGUSR1

// Has the signal park a thread whose seat says so. Before the threads begin.
void roster_prepare_parking(void);

static inline void roster_sleep_us(unsigned us)
{
    struct timespec t = {.tv_nsec = (long)us * 1000};
    nanosleep(&t, NULL);
}

#endif
