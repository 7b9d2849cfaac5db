// Fan-out: how many packets one worker seals and sends, and how near that is to what is possible
// without it.
#include "fanout.h"
#include <stdio.h>

void fanout_report(const struct bench_crowd *crowd, const struct bench_pair *typical,
                   const char *bare, double loss, double generator)
{
    const struct bench_options *o = crowd->options;
    double hz = (double)rte_get_tsc_hz();
    double pps = hz / typical->ours, raw_pps = hz / typical->bare;
    if (o->json)
        printf("{\"bench\":\"fanout\",\"path\":\"%s\",\"profile\":\"%s\",\"payload\":%u,"
               "\"subscribers\":%u,\"streams\":%u,\"burst\":%u,\"workers\":1,\"pps\":%.0f,"
               "\"cycles_per_packet\":%.1f,\"raw_pps\":%.0f,\"raw_cycles_per_packet\":%.1f,"
               "\"ratio\":%.3f,\"loss\":%.6f,\"generator_pps\":%.0f}\n",
               o->path, o->profile->name, o->payload, o->subscribers, o->streams, o->burst, pps,
               typical->ours, raw_pps, typical->bare, pps / raw_pps, loss,
               hz / generator * crowd->per_stream);
    else
        printf("%-8s %5u B  %6u viewers of %3u streams  burst %2u  %6.2f Mpps  %6.0f cycles  bare "
               "%s %6.2f Mpps  ratio %.2f  loss %.6f\n",
               o->profile->name, o->payload, o->subscribers, o->streams, o->burst, pps / 1e6,
               typical->ours, bare, raw_pps / 1e6, pps / raw_pps, loss);
}

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
