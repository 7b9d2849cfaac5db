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
// same bytes wherever they are used; or it leaves the right, for good, before it says so. What is
// said is void in any other term of the group than the one that it was asked in.
//
// So two nodes never have the right at once. It is given up before it is offered, and taken only by
// who serves in that term, which one node alone does: the home in even terms, the other in odd ones
// (msg_next_term). Nor is it taken twice, should the offer come twice: in one term who has taken it
// keeps it or has numbers; it loses them only by standing by, in a later term, or with its table,
// and then the session is not served again under these keys (session_keys in control.c).
//
// A partner that is gone for good answers nothing, and nobody knows what it has sent: who waits
// then is ended, see failover_silent.

static uint32_t term_of(const struct worker *worker, uint8_t group)
{
    return atomic_load_explicit(&worker->dp->term[group], memory_order_relaxed);
}

void failover_ask_right(struct worker *worker, struct session *session)
{
    const struct sender *sender = tables_sender(&worker->tables, session);
    struct msg_right message = {
        .head = {.type = MSG_RIGHT_PASS, .length = sizeof(message), .id = session->id},
        .term = term_of(worker, sender->group)};
    for (int t = 0; t < session->tracks; t++)
        message.asked |= (uint8_t)(sender->sub[t].foreign << t);
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

static void take_right(struct worker *worker, struct session *session,
                       const struct msg_right *message)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    for (int t = 0; t < session->tracks; t++) {
        struct sub *sub = &sender->sub[t];
        const struct track *track = track_of(worker, session, t);
        bool numbered = message->numbered >> t & 1;
        if (!sub->foreign ||
            !(numbered ? track && track->next_index && are_for(track, message->first[t])
                       : message->left >> t & 1))
            continue;
        take_limit(session, sub, t, message->rtx_limit[t]);
        if (numbered)
            sub_number(sub, message->first[t]);
        else
            sub_unnumber(sub, message->first[t]);
        sub->keyed = numbered;
        // Last, should the process end here: the offer may be repeated.
        __atomic_store_n(&sub->foreign, false, __ATOMIC_RELEASE);
    }
    tables_want_keyframes(&worker->tables, session);
}

static void leave_right(struct worker *worker, struct session *session,
                        const struct msg_right *message)
{
    struct sender *sender = tables_sender(&worker->tables, session);
    struct msg_right answer = {
        .head = {.type = MSG_RIGHT_PASS, .length = sizeof(answer), .id = session->id},
        .term = message->term};
    if (session->left_term != message->term)
        session->left = 0; // to a node that served then: what became of it is not known
    session->left_term = message->term;
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
        if (sub_numbered(sub) && !sub->foreign)
            answer.numbered |= bit;
        else
            answer.left |= session->left & bit;
    }
    if (answer.left | answer.numbered)
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
