// The partner's sessions and streams as our own: into the tables, the journal and the dataplane,
// where they stand by; see replicate.h.
//
// Nothing is taken from the partner for a group that we hold but what we have never heard of.
#include "dtls.h"
#include "log.h"
#include "replicate_private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// ---- streams

// Where we have what is at worker `home` of the node that accepted it: clients of our own come back
// to where they know us.
static uint32_t our_worker(const struct replicate *r, uint8_t home)
{
    return home % r->set->abi->workers;
}

// Whether the partner may say what stream `name` is: we have none, its own, or one that nobody
// publishes any more and whose viewers can go on with what it offers.
static bool may_be_remote(const struct stream *stream, const struct sdp_tracks *tracks)
{
    return stream == NULL || stream->remote ||
           (stream->publisher == NULL && stream_compatible(stream, tracks));
}

static void follow_state(struct replicate *r, struct stream *stream,
                         const struct stream_record *record)
{
    enum stream_state state = record->live      ? STREAM_LIVE
                              : record->stalled ? STREAM_BYE
                                                : STREAM_IDLE;
    if (stream->live != (state == STREAM_LIVE))
        stream_state(r->set->streams, stream, state, record->since_ms);
}

// The publisher changed what it sends, or viewers wait for another: the stream is made anew, its
// number and its viewers stay.
static int feed_anew(struct replicate *r, const struct stream_record *record, uint8_t group,
                     struct stream **out)
{
    struct streams *streams = r->set->streams;
    uint32_t worker = our_worker(r, record->home);
    struct stream *stream = streams_find(streams, record->name);
    if (stream != NULL && !stream_compatible(stream, &record->tracks))
        session_end_viewers(stream, END_STREAM_GONE);
    stream = streams_find(streams, record->name);
    if (stream != NULL && !stream_compatible(stream, &record->tracks)) {
        stream_remove(streams, stream);
        stream = NULL;
    }
    int rc = stream_publish(streams, record->name, NULL, worker, &record->tracks, &stream);
    if (rc == 0)
        stream_protect(streams, stream, group, true, record->trunk_id);
    *out = stream;
    return rc;
}

static bool same_tracks(const struct sdp_tracks *a, const struct sdp_tracks *b)
{
    return a->count == b->count && memcmp(a->track, b->track, a->count * sizeof(a->track[0])) == 0;
}

void import_stream(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_stream *m = &frame->stream;
    const struct stream_record *record = &m->record;
    unsigned index = group_index(m->owner);
    uint8_t group = (uint8_t)(index + 1);
    struct stream *stream = streams_find(r->set->streams, record->name);
    if (group_held(r, index))
        return;
    if (!may_be_remote(stream, &record->tracks)) {
        r->counts.refused++;
        LOG_OFTEN(LEVEL_WARNING, "partner %s publishes \"%s\", too: its stream is not taken",
                  r->config->protection.partner.name, record->name);
        return;
    }
    bool same = stream != NULL && stream->remote && stream->trunk_id == record->trunk_id &&
                stream->source_worker == our_worker(r, record->home) &&
                same_tracks(&stream->tracks, &record->tracks);
    int rc = 0;
    if (same && stream->group != group) {
        stream_protect(r->set->streams, stream, group, true, record->trunk_id);
    } else if (!same) {
        if (stream != NULL && stream->publisher != NULL)
            import_end(r, stream->publisher);
        rc = feed_anew(r, record, group, &stream);
    }
    if (rc != 0) {
        r->counts.refused++;
        LOG_OFTEN(LEVEL_WARNING, "partner's stream \"%s\" is not taken: %s", record->name,
                  strerror(-rc));
        return;
    }
    stream->seen = true;
    stream_at_home(r->set->streams, stream, record->home);
    follow_state(r, stream, record);
    streams_sync(r->set->streams);
}

void import_drop_stream(struct replicate *r, struct stream *stream)
{
    struct streams *streams = r->set->streams;
    stream_protect(streams, stream, stream->group, false, stream->trunk_id);
    if (stream->publisher == NULL)
        stream_unpublish(streams, stream, r->set->now_ms()); // its viewers wait for a while
    streams_sync(streams);
}

void import_stream_gone(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_stream_gone *m = &frame->stream_gone;
    unsigned index = group_index(m->owner);
    struct stream *stream = streams_find(r->set->streams, m->name);
    if (stream != NULL && stream->remote && stream->group == index + 1 && !group_held(r, index))
        import_drop_stream(r, stream);
}

// ---- sessions

// Ends it here without telling the partner, who knows.
void import_end(struct replicate *r, struct session *s)
{
    s->replica.told = false;
    session_close(s, END_PARTNER);
}

static void follow(struct session *s, const struct session_record *record)
{
    s->phase = (enum session_phase)record->phase;
    memcpy(s->etag, record->etag, sizeof(s->etag));
    msg_numbers_merge(&s->numbers, &record->numbers);
    s->remote = record->remote;
    s->local = record->local;
    memcpy(s->mac, record->mac, sizeof(s->mac));
    s->replica.told = s->replica.seen = s->replica.confirmed = true;
}

// Keys as ours: under our number.
static const struct msg_session_keys *
keys_of(const struct session *s, const struct session_record *record, struct msg_session_keys *out)
{
    if (record->keys.head.length == 0)
        return NULL;
    *out = record->keys;
    out->head.id = s->id;
    return out;
}

static int add(struct replicate *r, const struct session_record *record, uint8_t group)
{
    struct sessions *set = r->set;
    struct stream *stream = streams_find(set->streams, record->stream);
    struct msg_session_keys keys = {0};
    if (stream == NULL || !stream_fed(stream))
        return -ENOENT;
    struct session *s = session_adopt(set, (enum session_role)record->open.role,
                                      our_worker(r, record->open.home), record->token);
    if (s == NULL)
        return -ENOSPC;
    uint64_t id = s->open.head.id;
    memcpy(s->client, record->client, sizeof(s->client));
    s->created_clock_ms = record->created_ms;
    s->open = record->open;
    s->open.head.id = id;
    s->open.group = group;
    s->open.imported = 1;
    if (!session_rejoin(s, stream)) {
        session_retire(s);
        session_destroy(s);
        return -EBUSY;
    }
    follow(s, record);
    s->profile = (enum srtp_profile)record->keys.profile;
    session_save(s, keys_of(s, record, &keys));
    dtls_wipe(&keys, sizeof(keys));
    session_owe_open(s);
    s->tell_keys = s->keys->head.length > 0;
    s->tell_adopt = true;
    if (s->tell_keys)
        TAILQ_REMOVE(&set->young, s, young);
    session_tell(s);
    r->counts.imported++;
    return 0;
}

static void change(struct replicate *r, struct session *s, const struct session_record *record,
                   uint8_t group)
{
    bool had_keys = s->keys->head.length > 0;
    struct msg_session_keys keys = {0};
    s->tell_ice |= memcmp(&s->open.ice, &record->open.ice, sizeof(s->open.ice)) != 0;
    s->open.ice = record->open.ice;
    follow(s, record);
    if (s->open.group != group) { // never while it is ours to serve
        s->open.group = group;
        session_owe_open(s);
    }
    session_save(s, had_keys ? NULL : keys_of(s, record, &keys));
    dtls_wipe(&keys, sizeof(keys));
    s->profile = (enum srtp_profile)s->keys->profile;
    if (!had_keys && s->keys->head.length > 0) {
        s->tell_keys = true;
        TAILQ_REMOVE(&r->set->young, s, young);
    }
    s->tell_adopt = true;
    session_tell(s);
    if (s->dtls == NULL)
        return;
    // The handshake is ours. It may be for us to begin, and who serves may not have its keys yet.
    if (record->remote.family != 0)
        session_checked(s);
    if (!s->closed && had_keys && record->keys.head.length == 0) {
        s->replica.told = false;
        replicate_session(r, s);
    }
}

// The partner has the handshake of a session that we serve, and it is done.
static void take_keys(struct session *s, const struct session_record *record)
{
    struct msg_session_keys keys = {0};
    if (s->keys->head.length != 0 || s->dtls != NULL || keys_of(s, record, &keys) == NULL)
        return;
    s->phase = PHASE_DTLS;
    session_keyed(s, &keys);
    dtls_wipe(&keys, sizeof(keys));
}

void import_refuse(struct replicate *r, const char *token, uint64_t count, enum wire_refusal why)
{
    struct wire_refused m = {
        .head = {.type = WIRE_REFUSED, .length = sizeof(m)}, .count = count, .why = (uint8_t)why};
    memcpy(m.token.text, token, SESSION_TOKEN_LEN);
    replicate_send(r, &m); // before the ACK of that frame: it goes at the end of the turn
}

void replicate_copy_refused(struct replicate *r, const struct session *s)
{
    if (r != NULL && replink_up(r->link))
        import_refuse(r, s->token, 0, WIRE_REFUSAL_DATAPLANE);
}

void import_session(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_session *m = &frame->session;
    unsigned index = group_index(m->owner);
    struct session *s = session_find(r->set, m->record.token);
    if (s != NULL && s->replica.refused && !s->replica.waiting) // else there is an answer to come
        replicate_settled(r, s);
    if (s != NULL && replicate_serves(r, s->open.group)) {
        s->replica.told = s->replica.confirmed = true; // the other knows it
        take_keys(s, &m->record);
        return;
    }
    if (s != NULL) {
        change(r, s, &m->record, (uint8_t)(index + 1));
        if (s->refused)
            import_refuse(r, s->token, r->taken + 1, WIRE_REFUSAL_DATAPLANE);
        return;
    }
    int rc = add(r, &m->record, (uint8_t)(index + 1));
    if (rc == 0)
        return;
    enum wire_refusal why = rc == -ENOENT  ? WIRE_REFUSAL_STREAM
                            : rc == -EBUSY ? WIRE_REFUSAL_PUBLISHER
                                           : WIRE_REFUSAL_ROOM;
    r->counts.refused++;
    LOG_OFTEN(LEVEL_WARNING, "a session of partner %s is not protected here: %s",
              r->config->protection.partner.name,
              rc == -ENOENT  ? "its stream is not known"
              : rc == -EBUSY ? "another publishes its stream"
                             : "no worker has room");
    import_refuse(r, m->record.token, r->taken + 1, why);
}

void import_session_gone(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_session_gone *m = &frame->session_gone;
    struct session *s = session_find(r->set, m->token.text);
    if (s == NULL || s->open.group == 0)
        return;
    s->replica.told = false;
    session_close(s, replicate_serves(r, s->open.group) ? END_DELETED : END_PARTNER);
}

void import_dtls(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_dtls *m = &frame->dtls;
    struct session *s = session_find(r->set, m->token.text);
    if (s != NULL)
        session_dtls(s, m->data, m->size);
}

void import_dtls_send(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_dtls *m = &frame->dtls;
    struct session *s = session_find(r->set, m->token.text);
    if (s != NULL && s->dtls == NULL && replicate_serves(r, s->open.group))
        session_dtls_send(s, m->data, m->size);
}
