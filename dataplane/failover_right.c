// Whose a viewer's numbers are to say, where two nodes could send: the right to begin them, numbers
// that fell behind their track, and the end of sessions that wait in vain; see failover.h.
#include "failover.h"
#include "ingest.h"

// How often a partner is asked for numbers that are missing: at every second sweep.
#define RIGHT_NS 1900000000
#define LIVE_NS 2000000000 // a track without a packet for that long has nothing to wait for
// Sweeps, of a second each, for which a viewer of a live track waits for its numbers. A partner
// that lives answers within milliseconds, and one whose dataplane or control plane starts anew
// within 2 s; it is asked three times. A client that comes again has its picture within a second,
// so to wait for a node that boots would be worse for it.
#define SILENT_SWEEPS 6
#define VIEWER_SPACES_BITS 4 // spaces that one viewer may get through, 200 days of 1,000 packets/s

// ---- numbers that are not for their track

// Whether numbers are for the space that the track is in here: the viewer's then begin near 0.
static bool are_for(const struct track *track, uint64_t delta)
{
    return ((track->next_index + delta) & INDEX_MASK) >> (INDEX_SPACE_BITS + VIEWER_SPACES_BITS) ==
           0;
}

static struct track *track_of(const struct worker *worker, const struct session *session, int t)
{
    struct stream *stream = tables_stream(&worker->tables, session->stream);
    uint8_t source = session->track[t].source;
    return stream && source < stream->tracks ? &stream->track[source] : NULL;
}

bool failover_fits(const struct worker *worker, const struct session *session, int t,
                   uint64_t delta)
{
    struct track *track = track_of(worker, session, t);
    if (!track || !track->next_index || are_for(track, delta))
        return true;
    track->strays = true;
    return false;
}

void failover_find_strays(struct worker *worker, struct track *track)
{
    bool later = false;
    for (uint32_t v = 0; v < track->viewer_count; v++) {
        const struct viewer_ref *viewer = &track->viewers[v];
        struct sender *sender = &worker->tables.senders[viewer->session];
        struct sub *sub = &sender->sub[viewer->track];
        if (!sender->group || !sub_numbered(sub) || sub->foreign || are_for(track, sub->delta))
            continue;
        if (failover_active(worker, sender->group))
            sub->foreign = true;
        else
            later = true; // its numbers may be on their way
    }
    track->strays = later;
}

// ---- the right to begin
//
// A track that was never fed has no numbers towards its viewers. Begun by two nodes, the same
// numbers would stand for different packets: so one alone has the right to begin (neither `foreign`
// nor numbered), at first the node that accepted the session. Who serves without it asks the
// partner. That answers while it stands by: with the numbers, if there are any, since they mean the
// same bytes wherever they are used; or it leaves the right before it says so. What is said is void
// in any other term of the group than the one that it was asked in.
//
// So two nodes never have the right at once. It is given up before it is offered, and taken only by
// who serves in that term, which one node alone does: the home in even terms, the other in odd ones
// (msg_next_term). Nor is it taken twice, should the offer come twice: in each term once at most,
// by a table that outlives the process; without its table a node does not serve the session again
// under these keys (session_open in control.c), or has it anew from the partner, in a later term.
//
// An offer may be lost: the channel was full, or the term has changed. So each node notes the last
// term in which it took one; of a session that it has from the partner, and may have had before,
// the term in which it came. If that is before the term in which the partner once left the right,
// then it was not taken; nor can it be any more, in a later term. Who left it leaves it again when
// it is asked, and has it again when it serves and asks. tests/sim/right.pml proves this, with
// messages lost, late and doubled, splits, and nodes that lose their memory.
//
// A partner that is gone for good answers nothing, and nobody knows what it has sent: who waits
// then is ended, see failover_silent.

static uint32_t term_of(const struct worker *worker, uint8_t group)
{
    return atomic_load_explicit(&worker->dp->term[group], memory_order_relaxed);
}

static uint32_t max_term(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

void failover_begin_right(const struct worker *worker, struct session *session, bool foreign)
{
    uint8_t group = tables_sender(&worker->tables, session)->group;
    uint32_t term = max_term(worker->told_term[group], term_of(worker, group));
    session->left = 0;
    session->left_term = 0;
    session->taken_term = !foreign ? 0 : term ? term : UINT32_MAX;
}

void failover_pause(const struct worker *worker, const struct session *session)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    bool apart =
        !atomic_load_explicit(&worker->dp->sight_since[sender->group], memory_order_relaxed);
    bool ours = sender->group == 0 || (failover_active(worker, sender->group) && !apart);
    for (int t = 0; t < session->tracks && !ours; t++)
        if (sub_numbered(&sender->sub[t])) // else nobody has sent it
            sender->sub[t].foreign = true;
}

void failover_ask_right(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    struct msg_right message = {
        .head = {.type = MSG_RIGHT_PASS, .length = sizeof(message), .id = session->id},
        .term = term_of(worker, sender->group),
        .left_term = session->left_term,
        .taken_term = session->taken_term};
    for (int t = 0; t < session->tracks; t++)
        message.asked |= (uint8_t)(sender->sub[t].foreign << t);
    message.given = message.asked & session->left;
    if (!message.asked || worker->now_ns - session->right_ns < RIGHT_NS)
        return;
    session->right_ns = worker->now_ns;
    worker_tell(worker, &message);
}

// How far the other may have gone with RTX numbers.
static void take_limit(struct session *session, struct sub *sub, int t, uint64_t limit)
{
    if (limit <= session->rtx_limit[t])
        return;
    session->rtx_limit[t] = sub->rtx_index = limit;
    session->reserved[t] = false;
}

// What this one track is told; `fresh`: it has taken no right in this term. True: it has numbers,
// or may begin some.
static bool take_track(const struct worker *worker, struct session *session, int t,
                       const struct msg_right *message, bool fresh)
{
    struct sub *sub = &tables_sender(&worker->tables, session)->sub[t];
    const struct track *track = track_of(worker, session, t);
    uint8_t bit = (uint8_t)(1u << t);
    if (message->numbered & bit) {
        if (!track || !track->next_index || !are_for(track, message->first[t]))
            return false;
        sub_number(sub, message->first[t]);
        sub->keyed = true;
    } else if (message->left & bit) {
        if (!fresh)
            return false;
        session->taken_term = message->term;
        sub_unnumber(sub, message->first[t]);
        sub->keyed = false;
    } else if (!(message->given & session->left & bit) ||
               message->left_term != session->left_term) {
        return false;
    }
    session->left &= (uint8_t)~bit;
    take_limit(session, sub, t, message->rtx_limit[t]);
    return true;
}

static void take_right(struct worker *worker, struct session *session,
                       const struct msg_right *message)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    bool fresh = session->taken_term == UINT32_MAX || session->taken_term < message->term;
    for (int t = 0; t < session->tracks; t++)
        // Last, should the process end here.
        if (sender->sub[t].foreign && take_track(worker, session, t, message, fresh))
            __atomic_store_n(&sender->sub[t].foreign, false, __ATOMIC_RELEASE);
    tables_want_keyframes(&worker->tables, session);
}

// Whether what one node left in an earlier term has not been taken by the other, nor ever will be.
static bool is_lost(uint32_t left_term, uint32_t taken_term, uint32_t now)
{
    return taken_term < left_term && left_term < now;
}

// What was left in an earlier term to a node that served then is left again, or gone.
static void enter_leaving(struct session *session, const struct msg_right *message)
{
    if (session->left_term == message->term)
        return;
    bool lost = is_lost(session->left_term, message->taken_term, message->term);
    session->left &= lost ? message->asked : 0;
    __atomic_store_n(&session->left_term, message->term, __ATOMIC_RELEASE);
}

static void leave_right(struct worker *worker, struct session *session,
                        const struct msg_right *message)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    struct msg_right answer = {
        .head = {.type = MSG_RIGHT_PASS, .length = sizeof(answer), .id = session->id},
        .term = message->term,
        .left_term = message->left_term};
    bool lost = is_lost(message->left_term, session->taken_term, message->term);
    enter_leaving(session, message);
    for (int t = 0; t < session->tracks; t++) {
        struct sub *sub = &sender->sub[t];
        uint8_t bit = (uint8_t)(1u << t);
        if (!(message->asked & bit))
            continue;
        if (!sub_numbered(sub) && !sub->foreign) {
            sub->foreign = true;
            session->left |= bit;
        }
        answer.first[t] = sub->delta & INDEX_MASK;
        answer.rtx_limit[t] = RTE_MAX(session->rtx_limit[t], session->rtx_asked[t]) & INDEX_MASK;
        if (sub_numbered(sub))
            answer.numbered |= sub->foreign ? 0 : bit;
        else if (session->left & bit)
            answer.left |= bit;
        else if (lost)
            answer.given |= message->given & bit;
    }
    if (answer.left | answer.numbered | answer.given)
        worker_tell(worker, &answer);
}

void failover_right(struct worker *worker, const struct msg_right *message)
{
    struct session *session = tables_session(&worker->tables, message->head.id);
    uint8_t group = session ? tables_sender(&worker->tables, session)->group : 0;
    if (!group || session->role != ROLE_PLAY || message->term != term_of(worker, group))
        return;
    if (failover_active(worker, group))
        take_right(worker, session, message);
    else
        leave_right(worker, session, message);
}

// ---- who waits in vain

// Whether a track that has something to send may not be sent, for want of numbers.
static bool waits(const struct worker *worker, const struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    for (int t = 0; t < session->tracks; t++) {
        const struct track *track = track_of(worker, session, t);
        if (sender->sub[t].foreign && track && track->last_ns &&
            worker->now_ns - track->last_ns < LIVE_NS)
            return true;
    }
    return false;
}

bool failover_silent(const struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    if (!sender->keyed || !failover_active(worker, sender->group) || !waits(worker, session))
        session->silent = 0;
    else if (session->silent < SILENT_SWEEPS)
        session->silent++;
    return session->silent == SILENT_SWEEPS;
}
