// The sessions of a run, from their POST to their DELETE; see run_private.h. Main thread.
#include "media.h"
#include "net.h"
#include "run_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct bees_session *new_result(struct run *run)
{
    if (run->begun % RUN_BLOCK == 0) {
        struct bees_session **block = realloc(run->block, (run->blocks + 1) * sizeof(*block));
        if (block == NULL)
            return NULL;
        run->block = block;
        run->block[run->blocks] = calloc(RUN_BLOCK, sizeof(**block));
        if (run->block[run->blocks] == NULL)
            return NULL;
        run->blocks++;
    }
    struct bees_session *result = run_session(run, run->begun);
    result->number = run->begun++;
    result->role = (uint8_t)run->options->protocol->role;
    result->stream = result->number % run->options->streams;
    result->begin_ns = run_clock_ns() - run->begin_ns;
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
    ticket->result->end_ns = run_clock_ns() - run->begin_ns;
    if (run->options->verbose)
        fprintf(stderr, "session %u: %s%s%s\n", ticket->result->number, bees_failure_help(failure),
                *reason ? ": " : "", reason);
    settle(ticket);
}

void run_session_ended(void *opaque, struct session *session)
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

void run_collect_ended(struct run *run)
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

static void on_answer(void *opaque, const struct signalling_reply *reply);

static void post(struct ticket *ticket)
{
    char url[BEES_URL_MAX], sdp[OFFER_SDP_MAX];
    struct run *run = ticket->run;
    ticket->session->asked_ns = run_clock_ns();
    if (options_url(run->options, ticket->result->stream, url) != 0 ||
        offer_write(&ticket->session->offer, sdp, sizeof(sdp)) < 0 ||
        signalling_post(run->signalling, url, sdp, on_answer, ticket) != 0)
        fail(ticket, BEES_FAILURE_out_of_memory, "");
}

// Whether it comes again, as a server that refuses it for now may ask (RFC 9110 10.2.3): within the
// time for joining, and spread over a quarter more of the wait, or all who were refused together
// would be back together. For a search of the server's capacity the refusal is the answer.
static bool come_again(struct ticket *ticket, const struct signalling_reply *reply)
{
    struct run *run = ticket->run;
    uint64_t now_ns = run_clock_ns(), wait_ns = reply->retry_after_s * 1000000000ull;
    if (reply->failure == BEES_FAILURE_none || wait_ns == 0 || run->stopping ||
        run->options->command == COMMAND_CAPACITY || ticket->result->refusals == UINT16_MAX ||
        now_ns + wait_ns > ticket->session->begin_ns + run->config.join_ns)
        return false;
    wait_ns += wait_ns / 4 * (ticket->result->number * 2654435761u >> 22) / 1024;
    ticket->again_ns = now_ns + wait_ns;
    ticket->refusal = reply->failure;
    ticket->result->refusals++;
    if (run->refused++ == 0 || ticket->again_ns < run->again_ns)
        run->again_ns = ticket->again_ns;
    return true;
}

void run_post_again(struct run *run, uint64_t now_ns)
{
    if (run->refused == 0 || (now_ns < run->again_ns && !run->stopping))
        return;
    run->again_ns = UINT64_MAX;
    for (uint32_t i = run->lives; i-- > 0;) { // one that fails leaves its place to the last
        struct ticket *ticket = run->live[i];
        if (ticket->again_ns == 0)
            continue;
        if (!run->stopping && now_ns < ticket->again_ns) {
            run->again_ns = run->again_ns < ticket->again_ns ? run->again_ns : ticket->again_ns;
            continue;
        }
        ticket->again_ns = 0;
        run->refused--;
        if (run->stopping)
            fail(ticket, ticket->refusal, "and the run is over");
        else
            post(ticket);
    }
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
    if (come_again(ticket, reply))
        return;
    if (reply->failure != BEES_FAILURE_none || run->stopping) {
        fail(ticket, reply->failure ? reply->failure : BEES_FAILURE_interrupted, reply->reason);
        return;
    }
    session->posted_ns = run_clock_ns();
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

void run_make_offer(const struct run_environment *e, struct offer *offer)
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

void run_begin_session(struct run *run, const struct offer *offer)
{
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
    post(ticket);
}
