// One run against one server; see run.h. Main thread.
#include "run.h"
#include "media.h"
#include "net.h"
#include "run_sample.h"
#include "signalling.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 1024                // sessions' results allocated at a time
#define HOPELESS 20               // so many failures without a success end a run
#define GRACE_NS 3000000000ull    // for answers that are still to come at the end
#define GOODBYE_NS 15000000000ull // for DELETEs at the end
#define WAIT_MS 20
#define CHURN_LAST_NS 1000000000ull // before the end nobody new joins

struct run;

// What the main thread keeps of a session while it lives.
struct ticket {
    struct run *run;
    struct bees_session *result;
    struct session *session; // NULL once a worker has it
    char *location, *etag;
    uint64_t leave_ns; // churn; UINT64_MAX: stays
    uint32_t place;    // in run->live
    bool with_worker, told;
};

struct run {
    const struct run_environment *environment;
    const struct options *options;
    const struct run_plan *plan;
    struct bees_result *result;
    struct signalling *signalling;
    struct worker_config config;
    struct worker *worker;
    unsigned workers; // started
    uint64_t begin_ns, end_ns;
    uint64_t next_ns; // when the next session begins
    struct bees_session **block;
    uint32_t blocks, begun;
    struct ticket **live;
    uint32_t lives, room, successes;
    bool stopping;
    struct bees_counters settled; // sum of the sessions that are over
    struct sampler sampler;

    pthread_mutex_t lock; // of ended: worker threads add
    struct session **ended;
    uint32_t ends, ends_room;
};

static volatile sig_atomic_t interrupted;

void run_interrupt(void)
{
    interrupted = 1;
}

bool run_interrupted(void)
{
    return interrupted != 0;
}

static uint64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static struct bees_session *result_of(const struct run *run, uint32_t number)
{
    return &run->block[number / BLOCK][number % BLOCK];
}

static struct bees_session *new_result(struct run *run)
{
    if (run->begun % BLOCK == 0) {
        struct bees_session **block = realloc(run->block, (run->blocks + 1) * sizeof(*block));
        if (block == NULL)
            return NULL;
        run->block = block;
        run->block[run->blocks] = calloc(BLOCK, sizeof(**block));
        if (run->block[run->blocks] == NULL)
            return NULL;
        run->blocks++;
    }
    struct bees_session *result = result_of(run, run->begun);
    result->number = run->begun++;
    result->role = (uint8_t)run->options->protocol->role;
    result->stream = result->number % run->options->streams;
    result->begin_ns = monotonic_ns() - run->begin_ns;
    return result;
}

static struct ticket *new_ticket(struct run *run, struct bees_session *result)
{
    if (run->lives == run->room) {
        uint32_t room = run->room ? run->room * 2 : 256;
        struct ticket **live = realloc(run->live, room * sizeof(*live));
        if (live == NULL)
            return NULL;
        run->live = live;
        run->room = room;
    }
    struct ticket *ticket = calloc(1, sizeof(*ticket));
    if (ticket == NULL)
        return NULL;
    *ticket =
        (struct ticket){.run = run, .result = result, .leave_ns = UINT64_MAX, .place = run->lives};
    run->live[run->lives++] = ticket;
    return ticket;
}

// A goodbye was answered, or not.
static void on_deleted(void *opaque, const struct signalling_reply *reply)
{
    struct run *run = opaque;
    run->result->deletes++;
    // A server that has seen the BYE may have forgotten the session already.
    run->result->deletes_failed +=
        reply->failure != BEES_FAILURE_none && reply->failure != BEES_FAILURE_not_found;
}

// The session is over in every respect.
static void settle(struct ticket *ticket)
{
    struct run *run = ticket->run;
    if (ticket->location != NULL &&
        signalling_delete(run->signalling, ticket->location, on_deleted, run) != 0)
        run->result->deletes_failed++;
    sampler_settle(&run->sampler, ticket->result);
    bees_counters_add(&run->settled, &ticket->result->count);
    run->live[ticket->place] = run->live[--run->lives];
    run->live[ticket->place]->place = ticket->place;
    session_free(ticket->session);
    free(ticket->location);
    free(ticket->etag);
    free(ticket);
}

// It came to nothing before a worker got it.
static void fail(struct ticket *ticket, enum bees_failure failure, const char *reason)
{
    struct run *run = ticket->run;
    ticket->result->failure = (uint8_t)failure;
    ticket->result->end_ns = monotonic_ns() - run->begin_ns;
    if (run->options->verbose)
        fprintf(stderr, "session %u: %s%s%s\n", ticket->result->number, bees_failure_help(failure),
                *reason ? ": " : "", reason);
    settle(ticket);
}

static void on_ended(void *opaque, struct session *session)
{
    struct run *run = opaque;
    pthread_mutex_lock(&run->lock);
    if (run->ends == run->ends_room) {
        uint32_t room = run->ends_room ? run->ends_room * 2 : 256;
        struct session **more = realloc(run->ended, room * sizeof(*more));
        if (more != NULL) {
            run->ended = more;
            run->ends_room = room;
        }
    }
    if (run->ends < run->ends_room)
        run->ended[run->ends++] = session;
    pthread_mutex_unlock(&run->lock);
    signalling_wake(run->signalling);
}

static void collect_ended(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    struct session **ended = run->ended;
    uint32_t count = run->ends;
    run->ended = NULL;
    run->ends = run->ends_room = 0;
    pthread_mutex_unlock(&run->lock);
    for (uint32_t i = 0; i < count; i++) {
        struct ticket *ticket = ended[i]->signal;
        const struct bees_session *result = ticket->result;
        ticket->session = ended[i];
        run->successes += result->connected;
        if (result->failure != BEES_FAILURE_none && run->options->verbose)
            fprintf(stderr, "session %u: %s\n", result->number, bees_failure_help(result->failure));
        settle(ticket);
    }
    free(ended);
}

static void on_patched(void *opaque, const struct signalling_reply *reply)
{
    if (reply->failure != BEES_FAILURE_none && ((struct run *)opaque)->options->verbose)
        fprintf(stderr, "PATCH: %s\n", reply->reason);
}

static void send_candidates(struct ticket *ticket)
{
    char fragment[OFFER_SDP_MAX];
    struct run *run = ticket->run;
    if (ticket->location != NULL &&
        offer_write_fragment(&ticket->session->offer, fragment, sizeof(fragment)) > 0)
        signalling_patch(run->signalling, ticket->location, ticket->etag, fragment, on_patched,
                         run);
}

static void on_answer(void *opaque, const struct signalling_reply *reply)
{
    struct ticket *ticket = opaque;
    struct run *run = ticket->run;
    struct session *session = ticket->session;
    char reason[160];
    ticket->result->status = reply->status;
    ticket->result->redirects = reply->redirects;
    if (reply->location != NULL)
        ticket->location = strdup(reply->location);
    if (reply->etag != NULL)
        ticket->etag = strdup(reply->etag);
    if (reply->failure != BEES_FAILURE_none || run->stopping) {
        fail(ticket, reply->failure ? reply->failure : BEES_FAILURE_interrupted, reply->reason);
        return;
    }
    session->posted_ns = monotonic_ns();
    enum bees_failure failure = answer_read(&session->answer, &session->offer, reply->body,
                                            reply->size, run->options->own_server, reason);
    if (failure != BEES_FAILURE_none) {
        fail(ticket, failure, reason);
        return;
    }
    if (run->options->trickle)
        send_candidates(ticket);
    if (run->plan->mode == MODE_CHURN)
        ticket->leave_ns = session->posted_ns + (uint64_t)(run->plan->stay_s * 1e9);
    ticket->session = NULL;
    ticket->with_worker = true;
    if (worker_add(&run->worker[ticket->result->number % run->workers], session) != 0) {
        ticket->with_worker = false;
        ticket->session = session;
        fail(ticket, BEES_FAILURE_out_of_memory, "");
    }
}

// What all sessions of the run offer.
static void make_offer(const struct run_environment *e, struct offer *offer)
{
    const struct options *o = e->options;
    const struct media_info *info = e->media ? media_info(e->media) : NULL;
    *offer = (struct offer){.role = (uint8_t)o->protocol->role,
                            .twcc = !o->no_twcc,
                            .trickle = o->trickle,
                            .fingerprint = e->identity.fingerprint,
                            .locals = (uint8_t)e->locals};
    memcpy(offer->local, e->local, sizeof(offer->local));
    for (int kind = KIND_AUDIO; kind <= KIND_VIDEO; kind++) {
        struct offer_track track = {.kind = (uint8_t)kind, .layers = 1};
        if (kind == KIND_AUDIO ? o->no_audio : o->no_video)
            continue;
        for (int i = 0; info == NULL && i < o->codec_count; i++)
            if (offer_codec(o->codec[i])->kind == kind)
                track.codec[track.codecs++] = o->codec[i];
        if (info != NULL && kind == KIND_AUDIO && info->audio)
            track.codec[track.codecs++] = CODEC_OPUS;
        if (info != NULL && kind == KIND_VIDEO && info->video) {
            track.codec[track.codecs++] = (uint8_t)info->video;
            track.layers = (uint8_t)info->layers;
        }
        if (track.codecs > 0)
            offer->track[offer->tracks++] = track;
    }
}

static void begin_session(struct run *run, const struct offer *offer)
{
    char url[BEES_URL_MAX], sdp[OFFER_SDP_MAX];
    struct bees_session *result = new_result(run);
    struct ticket *ticket = result ? new_ticket(run, result) : NULL;
    if (ticket == NULL) {
        if (result != NULL)
            result->failure = BEES_FAILURE_out_of_memory;
        run->stopping = true;
        return;
    }
    enum bees_failure failure = session_new(&ticket->session, result, offer);
    if (failure != BEES_FAILURE_none) {
        fail(ticket, failure, "");
        return;
    }
    ticket->session->signal = ticket;
    ticket->session->begin_ns = run->begin_ns + result->begin_ns;
    if (options_url(run->options, result->stream, url) != 0 ||
        offer_write(&ticket->session->offer, sdp, sizeof(sdp)) < 0 ||
        signalling_post(run->signalling, url, sdp, on_answer, ticket) != 0)
        fail(ticket, BEES_FAILURE_out_of_memory, "");
}

static bool may_begin(const struct run *run)
{
    const struct run_plan *plan = run->plan;
    if (run->stopping || run->begun >= RUN_SESSIONS_MAX)
        return false;
    if (plan->mode != MODE_CHURN)
        return run->begun < plan->sessions;
    // Who would only be joining when the run ends would say nothing.
    bool soon_over = run->end_ns && monotonic_ns() + CHURN_LAST_NS > run->end_ns;
    return run->lives < plan->sessions && !soon_over;
}

static void begin_due(struct run *run, const struct offer *offer, uint64_t now_ns)
{
    uint64_t step = (uint64_t)(1e9 / run->plan->rate);
    while (may_begin(run) && (run->plan->mode == MODE_STORM || now_ns >= run->next_ns)) {
        begin_session(run, offer);
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
    for (uint32_t i = 0; i < run->lives; i++)
        bees_counters_add(&sum, &run->live[i]->result->count);
    sampler_look(&run->sampler, run->worker, run->workers, &sum, now_ns - run->begin_ns);
}

static void stop_workers(struct run *run)
{
    for (unsigned i = 0; i < run->workers; i++)
        worker_stop(&run->worker[i]);
    for (unsigned i = 0; i < run->workers; i++)
        worker_join(&run->worker[i]);
    collect_ended(run);
}

// Answers that are on their way are waited for a little, so that their sessions can be deleted.
static void finish(struct run *run)
{
    uint64_t until = monotonic_ns() + GRACE_NS;
    run->stopping = true;
    for (bool waiting = true; waiting && monotonic_ns() < until && !interrupted;) {
        waiting = false;
        for (uint32_t i = 0; i < run->lives; i++)
            waiting |= !run->live[i]->with_worker;
        signalling_run(run->signalling, waiting ? WAIT_MS : 0);
    }
    stop_workers(run);
    look(run, monotonic_ns(), true);
    sampler_end(&run->sampler, run->result, monotonic_ns() - run->begin_ns);
    until = monotonic_ns() + GOODBYE_NS;
    while (signalling_busy(run->signalling) > 0 && monotonic_ns() < until)
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
        struct bees_session *session = result_of(run, i);
        if (session->failure == BEES_FAILURE_none && !session->ended)
            session->failure = BEES_FAILURE_interrupted; // its POST was never answered
        r->connected += session->connected;
        r->failed += session->failure != BEES_FAILURE_none;
        r->failures[session->failure]++;
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
        .ended = on_ended,
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
    make_offer(run->environment, &offer);
    run->next_ns = run->begin_ns;
    while (!is_over(run, now_ns)) {
        begin_due(run, &offer, now_ns);
        leave_due(run, now_ns);
        collect_ended(run);
        look(run, now_ns, false);
        uint64_t wait =
            may_begin(run) && run->next_ns > now_ns ? run->next_ns - now_ns : UINT64_MAX;
        signalling_run(run->signalling,
                       wait < WAIT_MS * 1000000ull ? (int)(wait / 1000000) : WAIT_MS);
        now_ns = monotonic_ns();
    }
}

int run_execute(const struct run_environment *environment, const struct run_plan *plan,
                struct bees_result *result, struct timeline *timeline)
{
    struct run run = {.environment = environment,
                      .options = environment->options,
                      .plan = plan,
                      .result = result,
                      .begin_ns = monotonic_ns()};
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
