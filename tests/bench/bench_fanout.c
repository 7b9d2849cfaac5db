// Fan-out: how many packets one worker seals and sends, and how near that is to what is possible
// without it.
#include "fanout.h"
#include <stdio.h>

int main(int argc, char **argv)
{
    struct bench_options o = {.profile = bench_profile("gcm128"),
                              .path = "memory",
                              .payload = 1172,
                              .subscribers = 1000,
                              .streams = 1,
                              .workers = 1};
    bench_parse(&o, argc, argv);
    // At saturation packets of many streams wait on the wire, so a turn takes a burst of them.
    if (!o.burst)
        o.burst = RTE_MIN(o.streams, (unsigned)BURST);
    if (strcmp(o.path, "memory") == 0 && o.workers > 1) {
        fanout_workers(&o);
    } else if (strcmp(o.path, "memory") == 0) {
        fanout_memory(&o);
    } else if (strcmp(o.path, "af_xdp") == 0) {
        fanout_afxdp(&o);
    } else {
        fprintf(stderr, "bench_fanout: no path %s; there are memory and af_xdp\n", o.path);
        return 2;
    }
    return 0;
}
