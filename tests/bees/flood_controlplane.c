// A partner that floods the replication link: the product's own control plane, whole, with its
// certificate, until SIGUSR1. For FLOOD_S seconds from then on, whenever there is room on the
// connection, it also says frames of every kind, each of them valid: sessions and streams that
// there are and others, roles as they are, refusals, datagrams and requests to be passed on, new
// rounds of keys, wishes to be told everything. When it is hung up on, it comes again. What it
// says of groups and of the partner's own sessions is no lie: a flood takes nothing that it is
// not given. In the second half of the time it says nothing but the smallest ones, to come to as
// many as it can.
//
// Linked with main.c; replicate_tell, which each turn of the connection calls, is wrapped
// (meson.build). Loop thread.
#include "../../controlplane/replicate_conn.h"
#include "../../controlplane/replicate_private.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MADE_UP 512 // sessions, fewer than fill the partner's tables: that has a 503 and a name

void __real_replicate_tell(struct replicate *r); // NOLINT(bugprone-reserved-identifier)
void __wrap_replicate_tell(struct replicate *r); // NOLINT(bugprone-reserved-identifier)

static volatile sig_atomic_t asked;

static struct {
    uint64_t began_ms, end_ms; // 0: it is not on
    uint64_t number;           // of what is made up
    uint64_t frames, connections;
    size_t gathered;
    uint8_t batch[16384];
} flood;

static void on_signal(int signal)
{
    asked = 1;
}

// What is said is gathered: written one by one, frames would cost us more than the partner.
static void push(struct replicate *r)
{
    static const struct wire_head ping = {.type = WIRE_PING, .length = sizeof(ping)};
    int size = (int)flood.gathered;
    flood.gathered = 0;
    if (replink_up(r->link) && size > 0 && SSL_write(r->link->up->ssl, flood.batch, size) > 0)
        replink_send(r->link, &ping); // and what waits before it
}

static void say(struct replicate *r, const void *frame)
{
    const struct wire_head *head = frame;
    if (head->length > sizeof(flood.batch) - flood.gathered)
        push(r);
    memcpy(flood.batch + flood.gathered, frame, head->length);
    flood.gathered += head->length;
    r->sent += wire_counted(head->type); // the partner acknowledges it
    flood.frames++;
}

// The sessions in turn. NULL: there is none.
static const struct session *pick(const struct replicate *r)
{
    static const struct session *last;
    const struct session *s;
    TAILQ_FOREACH(s, &r->set->open, all)
    {
        if (s == last)
            break;
    }
    last = s != NULL ? TAILQ_NEXT(s, all) : NULL;
    last = last != NULL ? last : TAILQ_FIRST(&r->set->open);
    return last;
}

static void make_up(char *text, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i++, number /= 32)
        text[i] = "abcdefghijklmnopqrstuvwxyz234567"[number % 32];
}

// As it stands, or one that there is not, with a name and keys of its own.
static void say_session(struct replicate *r, const struct session *s, bool anew)
{
    struct wire_session *m = &r->frame.session;
    memset(m, 0, sizeof(*m));
    m->head = (struct wire_head){.type = WIRE_SESSION, .length = sizeof(*m)};
    m->owner = WIRE_MINE;
    m->record = *journal_session(r->set->journal, s->worker, MSG_SLOT(s->id));
    if (anew) {
        uint64_t name = flood.number % MADE_UP;
        make_up(m->record.token, SESSION_TOKEN_LEN, name);
        make_up(m->record.open.ice.ufrag, MSG_UFRAG_LEN, name);
        memcpy(m->record.keys.local, &name, sizeof(name));
        memcpy(m->record.keys.remote, &name, sizeof(name));
        m->record.remote.family = 0; // nowhere yet
    } else if (s->open.group != REPLICATE_OWN) {
        m->owner = WIRE_YOURS; // the partner's, as it told us
    }
    say(r, m);
}

static void say_one_stream(struct stream *stream, void *opaque)
{
    struct replicate *r = opaque;
    struct wire_stream *m = &r->frame.stream;
    if (stream->group != REPLICATE_OWN || stream->remote)
        return;
    memset(m, 0, sizeof(*m));
    m->head = (struct wire_head){.type = WIRE_STREAM, .length = sizeof(*m)};
    m->record = *journal_stream(r->set->journal, MSG_SLOT(stream->id));
    say(r, m);
    if (flood.number % 2 == 0) {            // and one that there is not
        m->record.trunk_id += flood.number; // another one under the same name each time
        make_up(m->record.name, 8, flood.number % (MADE_UP / 16));
        m->record.name[8] = 0;
        say(r, m);
    }
}

static void say_datagram(struct replicate *r, const struct session *s, enum wire_type type)
{
    struct wire_dtls m = {.head = {.type = (uint16_t)type, .length = sizeof(m)},
                          .size = sizeof(m.data),
                          .data = {22, 254, 253}}; // as a handshake's begins
    memcpy(m.token.text, s->token, SESSION_TOKEN_LEN);
    say(r, &m);
}

static void say_refused(struct replicate *r, const struct session *s)
{
    struct wire_refused m = {.head = {.type = WIRE_REFUSED, .length = sizeof(m)},
                             .why = WIRE_REFUSAL_DATAPLANE};
    memcpy(m.token.text, s->token, SESSION_TOKEN_LEN);
    say(r, &m);
}

static void say_patch(struct replicate *r, const struct session *s)
{
    static const char text[] = "a=ice-ufrag:";
    struct wire_patch m = {.head = {.type = WIRE_PATCH,
                                    .length = offsetof(struct wire_patch, text) + sizeof(text) - 1},
                           .number = 1,
                           .size = sizeof(text) - 1};
    memcpy(m.token.text, s->token, SESSION_TOKEN_LEN);
    memcpy(m.text, text, sizeof(text) - 1);
    say(r, &m);
}

static void say_gone(struct replicate *r)
{
    struct wire_session_gone gone = {.head = {.type = WIRE_SESSION_GONE, .length = sizeof(gone)}};
    make_up(gone.token.text, SESSION_TOKEN_LEN, flood.number * 7 % MADE_UP);
    say(r, &gone);
}

static void say_group(struct replicate *r)
{
    for (unsigned g = 0; g < 2; g++) {
        struct wire_group m = {.head = {.type = WIRE_GROUP, .length = sizeof(m)},
                               .term = r->group[g].term,
                               .owner = g == 0 ? WIRE_MINE : WIRE_YOURS,
                               .role = r->group[g].role};
        say(r, &m);
    }
}

static void say_small(struct replicate *r)
{
    struct wire_head ping = {.type = WIRE_PING, .length = sizeof(ping)};
    struct wire_head rekey = {.type = WIRE_REKEY, .length = sizeof(rekey)};
    struct wire_synced synced = {.head = {.type = WIRE_SYNCED, .length = sizeof(synced)},
                                 .owner = WIRE_YOURS}; // "tell me all of yours"
    struct wire_patched patched = {
        .head = {.type = WIRE_PATCHED, .length = offsetof(struct wire_patched, text)},
        .number = 7,
        .status = 200};
    say(r, &ping);
    say(r, &synced);
    say(r, &patched);
    if (flood.number % 8 == 0)
        say(r, &rekey);
}

static void say_one(struct replicate *r)
{
    const struct session *s = pick(r);
    uint64_t number = flood.number++;
    if (s == NULL) {
        say_small(r);
        return;
    }
    switch (number % 16) {
    case 0 ... 3:
        say_session(r, s, true);
        break;
    case 4 ... 6:
        say_session(r, s, false);
        break;
    case 7:
        streams_visit(r->set->streams, say_one_stream, r);
        break;
    case 8:
        say_group(r);
        break;
    case 9:
        say_refused(r, s);
        break;
    case 10:
        say_datagram(r, s, WIRE_DTLS);
        break;
    case 11:
        say_datagram(r, s, WIRE_DTLS_SEND);
        break;
    case 12:
        say_patch(r, s);
        break;
    case 13:
        say_gone(r);
        break;
    default:
        say_small(r);
    }
}

void __wrap_replicate_tell(struct replicate *r) // NOLINT(bugprone-reserved-identifier)
{
    static bool ready;
    uint64_t now = uv_now(r->loop);
    const struct replink_counts *counts = replink_counts(r->link);
    const char *seconds = getenv("FLOOD_S");
    __real_replicate_tell(r);
    if (!ready)
        ready = signal(SIGUSR1, on_signal) != SIG_ERR;
    if (asked) {
        asked = 0;
        flood.began_ms = now;
        flood.end_ms = now + (seconds != NULL ? strtoull(seconds, NULL, 10) : 5) * 1000;
        flood.frames = 0;
        flood.connections = counts->connections;
    }
    if (flood.began_ms == 0)
        return;
    bool small = flood.end_ms - now < (flood.end_ms - flood.began_ms) / 2;
    while (now < flood.end_ms && replink_up(r->link) && replink_room(r->link)) {
        for (int i = 0; i < 256; i++)
            small ? say_small(r) : say_one(r);
        push(r);
    }
    if (now < flood.end_ms)
        return;
    fprintf(stderr, "flood: %llu frames over %llu connections in %llu ms\n",
            (unsigned long long)flood.frames,
            (unsigned long long)(counts->connections - flood.connections + 1),
            (unsigned long long)(now - flood.began_ms));
    flood.began_ms = 0;
}
