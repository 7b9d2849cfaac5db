// What outlives this process: sessions in the journal, and how the next process takes them up; see
// session_set.h and journal.h. Runs on the loop.
//
// A restored session has no DTLS state: what its client still sends of DTLS is ignored, and its end
// reaches the client as RTCP BYE and silence. The dataplane has all of this, too, and does not
// notice; what it has beyond that is found in its statistics and ended.
#include "config.h"
#include "session_set.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AUDIT_MS 1000
#define MISSING_MS 10000 // each session is in the statistics a second after it came

// ---- into the journal

void session_save(struct session *s, const struct msg_session_keys *keys)
{
    struct session_record r = {
        .id = s->id,
        .created_ms = s->created_clock_ms,
        .worker = s->worker,
        .state = JOURNAL_OPEN,
        .phase = (uint8_t)s->phase,
        .open = s->open,
        .keys = keys != NULL ? *keys : *s->keys,
        .numbers = s->numbers,
        .remote = s->remote,
        .local = s->local,
    };
    memcpy(r.mac, s->mac, sizeof(r.mac));
    memcpy(r.token, s->token, sizeof(s->token));
    memcpy(r.etag, s->etag, sizeof(s->etag));
    memcpy(r.client, s->client, sizeof(s->client));
    memcpy(r.stream, s->stream->name, sizeof(s->stream->name));
    journal_put_session(s->set->journal, &r);
    dtls_wipe(&r, sizeof(r));
    replicate_session(s->set->replicate, s);
}

static void save_id(const struct session *s, enum journal_state state)
{
    struct session_record r = {.id = s->id, .worker = s->worker, .state = (uint8_t)state};
    journal_put_session(s->set->journal, &r);
}

void session_save_closing(const struct session *s)
{
    save_id(s, JOURNAL_CLOSING);
}

void session_save_free(const struct session *s)
{
    save_id(s, JOURNAL_FREE);
}

// ---- out of the journal

bool session_rejoin(struct session *s, struct stream *stream)
{
    if (s->role == ROLE_PUBLISH) {
        if (!stream_rejoin(stream, s, s->worker))
            return false;
    } else {
        stream_view(s->set->streams, stream, s->worker);
        LIST_INSERT_HEAD(&stream->viewers, s, viewer);
    }
    s->stream = stream;
    s->open.stream = stream->id;
    return true;
}

// 0; -ENOENT: it cannot go on; or as slots_reserve.
static int restore_session(struct sessions *set, const struct session_record *r)
{
    struct stream *stream = streams_by_id(set->streams, r->open.stream);
    if (r->keys.head.length == 0 || stream == NULL || strcmp(stream->name, r->stream) != 0 ||
        session_find(set, r->token) != NULL)
        return -ENOENT;
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    *s = (struct session){
        .set = set,
        .id = r->id,
        .worker = r->worker,
        .role = (enum session_role)r->open.role,
        .phase = (enum session_phase)r->phase,
        .profile = (enum srtp_profile)r->keys.profile,
        .open = r->open,
        .keys = &r->keys,
        .created_clock_ms = r->created_ms,
        .since_ms = set->now_ms(),
        .numbers = r->numbers,
        .remote = r->remote,
        .local = r->local,
    };
    memcpy(s->mac, r->mac, sizeof(s->mac));
    s->replica.told = r->open.group != 0;
    memcpy(s->token, r->token, sizeof(s->token));
    memcpy(s->etag, r->etag, sizeof(s->etag));
    memcpy(s->client, r->client, sizeof(s->client));
    int rc = slots_reserve(set->slots, r->worker, r->id);
    if (rc == 0 && !session_rejoin(s, stream)) {
        slots_give(set->slots, r->worker, r->id);
        rc = -ENOENT;
    }
    if (rc != 0) {
        free(s);
        return rc;
    }
    session_enter(s);
    return 0;
}

// Returns whether it goes on.
static bool resume_session(struct sessions *set, const struct session_record *r)
{
    if (r->state == JOURNAL_FREE) {
        slots_last(set->slots, r->worker, r->id);
        return false;
    }
    if (r->state == JOURNAL_OPEN && restore_session(set, r) == 0)
        return true;
    session_disown(set, r->worker, r->id);
    return false;
}

static void resume_streams(struct sessions *set)
{
    for (uint32_t slot = 0; slot < set->abi->max_streams; slot++) {
        const struct stream_record *r = journal_stream(set->journal, slot);
        if (r->id == 0 || (stream_record_valid(r) && MSG_SLOT(r->id) == slot &&
                           streams_restore(set->streams, r, set->now_ms()) == 0))
            continue;
        log_warning("journal: the record of stream %u is damaged", slot);
        journal_put_stream(set->journal, &(struct stream_record){.id = 1ull << 32 | slot});
    }
}

// Whether a record may be used. A damaged one is wiped, so that no new session inherits its keys.
static bool check_session(struct sessions *set, const struct session_record *r, uint32_t worker,
                          uint32_t slot)
{
    if (session_record_valid(r) && r->worker == worker && MSG_SLOT(r->id) == slot)
        return true;
    log_warning("journal: the record of session %u of worker %u is damaged", slot, worker);
    journal_put_session(set->journal,
                        &(struct session_record){.id = 1ull << 32 | slot, .worker = worker});
    return false;
}

void sessions_resume(struct sessions *set)
{
    unsigned open = 0, lost = 0;
    resume_streams(set);
    for (uint32_t w = 0; w < set->abi->workers; w++)
        for (uint32_t slot = 0; slot < set->abi->max_sessions; slot++) {
            const struct session_record *r = journal_session(set->journal, w, slot);
            bool was_open = r->state == JOURNAL_OPEN;
            if ((r->id == 0 && !was_open) || !check_session(set, r, w, slot))
                continue;
            bool goes_on = resume_session(set, r);
            open += goes_on;
            lost += was_open && !goes_on;
        }
    streams_restored(set->streams);
    if (open + lost > 0)
        log_info("%u sessions of an earlier control plane go on; %u that were not set up yet are "
                 "ended",
                 open, lost);
}

// ---- the dataplane's statistics against what we know

static uint64_t load(const uint64_t *value)
{
    return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static void end_unknown(struct sessions *set, uint32_t worker, uint64_t id)
{
    struct msg_session_close m = {
        .head = {.type = MSG_SESSION_CLOSE, .length = sizeof(m), .id = id}};
    LOG_OFTEN(LEVEL_WARNING, "the dataplane has a session on worker %u that nobody knows: ended",
              worker);
    // Told by the sweep from now on, unless one of ours has the slot.
    if (session_disown(set, worker, id) != 0)
        session_send(set, 1 + worker, &m);
}

// A protected session is due for its end where it is served, and only so long after that began.
static bool is_due(const struct session *s, uint64_t now, uint64_t silence_ns)
{
    return s->open.group == 0 || (replicate_serves(s->set->replicate, s->open.group) &&
                                  (now - s->since_ms) * 1000000 > silence_ns);
}

static void audit_session(struct sessions *set, uint32_t worker, uint32_t slot, uint64_t now)
{
    struct stats_session *stats = channel_session_stats(set->channel, worker, slot);
    struct session *s = set->by_slot[worker * slots_size(set->slots) + slot];
    uint64_t id = stats_holder(&stats->id),
             silence_ns = 2000000ull * set->config->session.timeout_ms;
    if (MSG_GENERATION(id) == 0 || MSG_SLOT(id) != slot)
        return;
    if (s == NULL || s->id != id)
        end_unknown(set, worker, id);
    else if (!s->closed && is_due(s, now, silence_ns) &&
             now * 1000000 > load(&stats->last_heard_ns) + silence_ns)
        session_close(s, END_TIMEOUT);
}

// One that the dataplane has refused, and the word of it was lost: it is asked again. Without keys
// it is young, and ends by its deadlines.
static void ask_for_missing(struct session *s, uint64_t now)
{
    if (s == NULL || s->closed || s->keys->head.length == 0 || s->tell_open ||
        now - s->since_ms < MISSING_MS ||
        stats_holder(&channel_session_stats(s->set->channel, s->worker, MSG_SLOT(s->id))->id) ==
            s->id)
        return;
    s->was_keyed = true;
    s->refused = !replicate_serves(s->set->replicate, s->open.group); // a copy is told whole
    if (!s->refused) {
        session_owe_open(s);
        session_tell(s);
    }
}

// Behind the SESSION_CLOSE of whatever had its slot. Once more refused, it is once more tried.
static void try_again(struct session *s)
{
    if (s == NULL || s->closed || !s->refused)
        return;
    s->refused = false;
    s->foreign = true; // even if it is ours by now: it was refused as a copy
    s->tell_open = s->tell_ice = s->tell_adopt = true;
    s->tell_keys = s->keys->head.length > 0;
    session_tell(s);
}

void sessions_audit(struct sessions *set, uint64_t now)
{
    bool ready = false;
    if (now - set->audit_ms < AUDIT_MS ||
        dpclient_peer(set->dataplane, NULL, &ready) != PEER_ALIVE || !ready)
        return;
    set->audit_ms = now;
    for (uint32_t w = 0; w < set->abi->workers; w++)
        for (uint32_t slot = 0; slot < set->abi->max_sessions; slot++) {
            struct session **at = &set->by_slot[w * slots_size(set->slots) + slot];
            audit_session(set, w, slot, now);
            ask_for_missing(*at, now);
            try_again(*at);
        }
    for (uint32_t slot = 0; set->audit_streams && slot < set->abi->max_streams; slot++) {
        uint64_t id = stats_holder(&channel_stream_stats(set->channel, slot)->id);
        if (MSG_GENERATION(id) != 0 && MSG_SLOT(id) == slot)
            streams_disown(set->streams, id); // -EBUSY: it is ours
    }
    set->audit_streams = false;
}
