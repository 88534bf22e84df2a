/* The clock that Python calls time.monotonic(), in seconds. */
#ifndef LUAFCGID2_CLOCK_H
#define LUAFCGID2_CLOCK_H

#include <time.h>

static inline double monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
