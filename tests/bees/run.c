// One run against one server; see run.h. Main thread.
#include "run_private.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define HOPELESS 20               // so many failures without a success end a run
#define GRACE_NS 3000000000ull    // for answers that are still to come at the end
#define GOODBYE_NS 15000000000ull // for DELETEs at the end
#define WAIT_MS 20

static volatile sig_atomic_t interrupted;

void run_interrupt(void)
{
    interrupted = 1;
}

bool run_interrupted(void)
{
    return interrupted != 0;
}

static bool may_begin(const struct run *run)
{
    const struct run_plan *plan = run->plan;
    if (run->stopping || run->begun >= RUN_SESSIONS_MAX)
        return false;
    if (plan->mode != MODE_CHURN)
        return run->begun < plan->sessions;
    // Who would only be joining when the run ends would say nothing.
    bool soon_over = run->end_ns && run_clock_ns() + RUN_CHURN_LAST_S * 1000000000ull > run->end_ns;
    return run->lives < plan->sessions && !soon_over;
}

static void begin_due(struct run *run, const struct offer *offer, uint64_t now_ns)
{
    uint64_t step = (uint64_t)(1e9 / run->plan->rate);
    while (may_begin(run) && (run->plan->mode == MODE_STORM || now_ns >= run->next_ns)) {
        run_begin_session(run, offer);
        run->next_ns += step;
    }
    if (run->next_ns + 1000000000ull < now_ns)
        run->next_ns = now_ns; // what was held up is not made up for in one go
}

static void leave_due(struct run *run, uint64_t now_ns)
{
    for (uint32_t i = 0; run->plan->mode == MODE_CHURN && i < run->lives; i++) {
        struct ticket *ticket = run->live[i];
        uint32_t number = ticket->result->number;
        if (ticket->with_worker && !ticket->told && now_ns >= ticket->leave_ns)
            ticket->told = worker_leave(&run->worker[number % run->workers], number) == 0;
    }
}

static bool all_joined(const struct run *run)
{
    uint32_t open = 0;
    for (unsigned i = 0; i < run->workers; i++)
        open += run->worker[i].open;
    return run->begun >= run->plan->sessions && open >= run->lives;
}

static bool is_over(struct run *run, uint64_t now_ns)
{
    const struct run_plan *plan = run->plan;
    bool churn = plan->mode == MODE_CHURN;
    if (run->end_ns == 0 && plan->duration_s == 0 && all_joined(run))
        run->end_ns = now_ns + (uint64_t)(plan->hold_s * 1e9);
    if (run->end_ns == 0 && now_ns - run->begin_ns > (uint64_t)(plan->limit_s * 1e9))
        return true;
    if (interrupted || run->stopping || (run->end_ns && now_ns >= run->end_ns))
        return true;
    if (!churn && run->begun >= plan->sessions && run->lives == 0)
        return true;
    uint32_t failures = run->begun - run->lives;
    if (run->successes > 0 || failures < HOPELESS)
        return false;
    for (uint32_t i = 0; i < run->lives; i++)
        if (run->live[i]->with_worker)
            return false; // it may connect yet
    fprintf(stderr, "hitless-bees: none of %u sessions connected: giving up\n", failures);
    return true;
}

static void look(struct run *run, uint64_t now_ns, bool last)
{
    if (!last && !sampler_due(&run->sampler, now_ns - run->begin_ns))
        return;
    struct bees_counters sum = run->settled;
    for (uint32_t i = 0; i < run->lives; i++) {
        bees_counters_add(&sum, &run->live[i]->result->count);
        sampler_gap(&run->sampler, run->live[i]->result);
    }
    sampler_look(&run->sampler, run->worker, run->workers, &sum, now_ns - run->begin_ns);
}

static void stop_workers(struct run *run)
{
    for (unsigned i = 0; i < run->workers; i++)
        worker_stop(&run->worker[i]);
    for (unsigned i = 0; i < run->workers; i++)
        worker_join(&run->worker[i]);
    run_collect_ended(run);
}

// Answers that are on their way are waited for a little, so that their sessions can be deleted.
static void finish(struct run *run)
{
    uint64_t until = run_clock_ns() + GRACE_NS;
    run->stopping = true;
    run_post_again(run, run_clock_ns());
    for (bool waiting = true; waiting && run_clock_ns() < until && !interrupted;) {
        waiting = false;
        for (uint32_t i = 0; i < run->lives; i++)
            waiting |= !run->live[i]->with_worker;
        signalling_run(run->signalling, waiting ? WAIT_MS : 0);
    }
    look(run, run_clock_ns(), true);
    stop_workers(run);
    sampler_end(&run->sampler, run->result, run_clock_ns() - run->begin_ns);
    until = run_clock_ns() + GOODBYE_NS;
    while (signalling_busy(run->signalling) > 0 && run_clock_ns() < until)
        signalling_run(run->signalling, WAIT_MS);
    signalling_free(run->signalling); // what has not been answered by now never will be
    run->signalling = NULL;
}

static void sum_up(struct run *run)
{
    struct bees_result *r = run->result;
    r->sessions = run->begun;
    r->session = calloc(run->begun ? run->begun : 1, sizeof(*r->session));
    for (uint32_t i = 0; i < run->begun; i++) {
        struct bees_session *session = run_session(run, i);
        if (session->failure == BEES_FAILURE_none && !session->ended)
            session->failure = BEES_FAILURE_interrupted; // its POST was never answered
        r->connected += session->connected;
        r->failed += session->failure != BEES_FAILURE_none;
        r->failures[session->failure]++;
        r->refusals += session->refusals;
        r->refused_and_retried += session->refusals > 0;
        bees_counters_add(&r->count, &session->count);
        if (r->session != NULL)
            r->session[i] = *session;
    }
    if (r->session == NULL)
        r->sessions = 0;
    for (unsigned w = 0; w < run->workers; w++)
        for (int d = 0; d < BEES_DIST_COUNT; d++)
            hist_merge(&r->hist[d], &run->worker[w].hist[d]);
}

static int start(struct run *run)
{
    const struct options *o = run->options;
    struct signalling_config signalling = {.token = *o->token_text ? o->token_text : NULL,
                                           .timeout_ms = (uint32_t)(o->http_s * 1000),
                                           .concurrency = o->concurrency,
                                           .anywhere = o->own_server,
                                           .ca = o->ca,
                                           .insecure = o->insecure};
    if (run->plan->mode == MODE_STORM && o->sessions > signalling.concurrency)
        signalling.concurrency = o->sessions < 1024 ? o->sessions : 1024;
    run->config = (struct worker_config){
        .identity = &run->environment->identity,
        .media = run->environment->media,
        .impair = o->impair,
        .run_ns = run->begin_ns,
        .join_ns = (uint64_t)(o->join_s * 1e9),
        .stop_gap_ns = (uint64_t)(o->stop_gap_s * 1e9),
        .away_ns = run->plan->mode == MODE_WATCH ? (uint64_t)(o->away_ms * 1e6) : UINT64_MAX,
        .seed = o->seed,
        .headers_only = o->headers_only,
        .anywhere = o->own_server,

        .ended = run_session_ended,
        .opaque = run};
    int rc = signalling_new(&run->signalling, &signalling);
    run->worker = rc == 0 ? calloc(run->environment->workers, sizeof(*run->worker)) : NULL;
    if (rc == 0 && run->worker == NULL)
        rc = -ENOMEM;
    while (rc == 0 && run->workers < run->environment->workers) {
        rc = worker_start(&run->worker[run->workers], run->workers, &run->config);
        run->workers += rc == 0;
    }
    return rc;
}

static void free_run(struct run *run)
{
    for (uint32_t i = 0; i < run->lives; i++) {
        session_free(run->live[i]->session);
        free(run->live[i]->location);
        free(run->live[i]->etag);
        free(run->live[i]);
    }
    for (uint32_t i = 0; i < run->blocks; i++)
        free(run->block[i]);
    free(run->block);
    free(run->live);
    free(run->ended);
    free(run->worker);
    pthread_mutex_destroy(&run->lock);
}

static void work(struct run *run)
{
    struct offer offer;
    uint64_t now_ns = run->begin_ns;
    run_make_offer(run->environment, &offer);
    run->next_ns = run->begin_ns;
    while (!is_over(run, now_ns)) {
        begin_due(run, &offer, now_ns);
        leave_due(run, now_ns);
        run_post_again(run, now_ns);
        run_collect_ended(run);
        look(run, now_ns, false);
        uint64_t wait =
            may_begin(run) && run->next_ns > now_ns ? run->next_ns - now_ns : UINT64_MAX;
        signalling_run(run->signalling,
                       wait < WAIT_MS * 1000000ull ? (int)(wait / 1000000) : WAIT_MS);
        now_ns = run_clock_ns();
    }
}

int run_execute(const struct run_environment *environment, const struct run_plan *plan,
                struct bees_result *result, struct timeline *timeline)
{
    struct run run = {.environment = environment,
                      .options = environment->options,
                      .plan = plan,
                      .result = result,
                      .begin_ns = run_clock_ns()};
    memset(result, 0, sizeof(*result));
    snprintf(result->url, sizeof(result->url), "%s", run.options->url);
    result->protocol = run.options->protocol->name;
    result->mode = run.options->mode_name;
    result->wanted = plan->sessions;
    result->headers_only = run.options->headers_only;
    result->workers = environment->workers;
    run.end_ns = plan->duration_s > 0 ? run.begin_ns + (uint64_t)(plan->duration_s * 1e9) : 0;
    pthread_mutex_init(&run.lock, NULL);
    int rc = sampler_init(&run.sampler, run.options, timeline, plan, environment->workers);
    if (rc == 0)
        rc = start(&run);
    if (rc == 0) {
        work(&run);
        finish(&run);
    } else {
        for (unsigned i = 0; i < run.workers; i++) {
            worker_stop(&run.worker[i]);
            worker_join(&run.worker[i]);
        }
        signalling_free(run.signalling);
        sampler_end(&run.sampler, result, 0);
    }
    result->interrupted = interrupted;
    sum_up(&run);
    free_run(&run);
    return rc;
}

void run_free_result(struct bees_result *result)
{
    free(result->session);
    result->session = NULL;
}
