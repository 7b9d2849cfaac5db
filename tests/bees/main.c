// hitless-bees: loads a WHIP or WHEP server and says what its viewers received. This file: from the
// command line to the exit status.
#include "capacity.h"
#include "options.h"
#include "report.h"
#include "result.h"
#include "run.h"
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static void on_signal(int number)
{
    if (run_interrupted())
        _exit(128 + number); // asked twice
    run_interrupt();
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int write_report(const struct options *options, const struct bees_result *result,
                        const struct timeline *timeline, const struct search *search, time_t began)
{
    char host[128] = "", impair[160];
    if (options->report == NULL)
        return 0;
    gethostname(host, sizeof(host) - 1);
    snprintf(impair, sizeof(impair), "drop %g %%, delay %g ms, jitter %g ms, reorder %g %%",
             options->drop * 100, options->delay_ms, options->jitter_ms, options->reorder * 100);
    struct report_fact facts[] = {{"bad network in front of viewers", impair}};
    struct report report = {.result = result,
                            .timeline = timeline,
                            .search = search,
                            .load_unit = options->by_rate ? "joins per second" : "sessions",
                            .max_loss = capacity_max_loss(options),
                            .max_join_ms = capacity_max_join_ms(options),
                            .command = options->line,
                            .host = host,
                            .began = began,
                            .facts = facts,
                            .fact_count = impair_active(&options->impair) ? 1 : 0};
    int rc = report_write(options->report, &report);
    if (rc != 0)
        fprintf(stderr, "hitless-bees: cannot write %s: %s\n", options->report, strerror(-rc));
    return rc;
}

static struct run_plan plan_of(const struct options *o)
{
    struct run_plan plan = {.mode = o->mode,
                            .sessions = o->sessions,
                            .rate = o->rate,
                            .duration_s = o->duration,
                            .stay_s = o->stay};
    if (o->mode == MODE_RAMP) // the last ones are there for the last tenth
        plan.rate = o->sessions / (o->duration * 0.9);
    return plan;
}

static int run(const struct options *options, struct bees_result *result, struct timeline *timeline,
               struct search *search)
{
    struct run_environment environment;
    time_t began = time(NULL);
    bool searching = options->command == COMMAND_CAPACITY;
    int rc = run_prepare(&environment, options);
    if (rc != 0)
        return rc == -EPERM || rc == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
    rc = run_serve_metrics(options);
    if (rc != 0) {
        fprintf(stderr, "hitless-bees: metrics on port %u: %s\n", options->metrics_port,
                strerror(-rc));
        run_release(&environment);
        return EXIT_USAGE;
    }
    struct run_plan plan = plan_of(options);
    if (searching)
        rc = capacity_search(&environment, search, result, timeline);
    else
        rc = run_execute(&environment, &plan, result, timeline);
    run_stop_metrics();
    if (rc != 0)
        fprintf(stderr, "hitless-bees: cannot run: %s\n", strerror(-rc));
    const struct search *found = searching ? search : NULL;
    if (options->json)
        result_json(result, options, found, stdout);
    else
        result_text(result, options, found, stdout);
    int status = rc != 0 ? EXIT_FAILED : result_status(result, options);
    if (searching && rc == 0 && status == EXIT_FAILED && search->result.best > 0)
        status = EXIT_DONE; // it found what it was to find
    if (write_report(options, result, timeline, found, began) != 0 && status == EXIT_DONE)
        status = EXIT_FAILED;
    run_free_result(result);
    run_release(&environment);
    return status;
}

int main(int argc, char **argv)
{
    static struct options options;
    int rc = options_read(&options, argc, argv, stdout, stderr);
    if (rc != 0)
        return rc > 0 ? EXIT_DONE : EXIT_USAGE;
    struct bees_result *result = calloc(1, sizeof(*result));
    struct timeline *timeline = calloc(1, sizeof(*timeline));
    struct search *search = calloc(1, sizeof(*search));
    int status = EXIT_FAILED;
    if (result != NULL && timeline != NULL && search != NULL &&
        curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        catch_signals();
        status = run(&options, result, timeline, search);
        curl_global_cleanup();
    }
    free(result);
    free(timeline);
    free(search);
    return status;
}
