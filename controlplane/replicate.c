// The connection's life, frames to whom they are for, start and end; see replicate.h.
#include "replicate.h"
#include "log.h"
#include "replicate_private.h"
#include "secret.h"
#include <stdlib.h>
#include <string.h>

// ---- the connection

static void on_hello(void *opaque, struct wire_hello *hello)
{
    const struct replicate *r = opaque;
    hello->workers = r->set->abi->workers;
    hello->boot = r->boot;
    hello->media4 = r->set->abi->media4;
    hello->media6 = r->set->abi->media6;
    groups_hello(r, hello);
}

static void on_up(void *opaque, const struct wire_hello *hello, bool leader)
{
    struct replicate *r = opaque;
    r->leader = leader;
    r->partner_workers = hello->workers;
    r->lent &= hello->boot == r->partner_boot; // else it was stopped, and is back
    r->partner_boot = hello->boot;
    r->up_ms = uv_now(r->loop);
    r->sent = r->acked = r->taken = r->ack_owed = 0;
    groups_up(r, hello);
    keys_begin(r);
}

static void on_down(void *opaque, const char *why)
{
    struct replicate *r = opaque;
    tell_down(r);
    patches_down(r);
    groups_down(r);
}

static void on_synced(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_synced *m = &frame->synced;
    unsigned group = group_index(m->owner);
    bool held = group_held(r, group);
    if (held && !m->all)
        replicate_synchronise(r, group); // the partner has named what only it knew
    else if (!held && m->all)
        import_sweep(r, group);
    r->partner_synced[group] = true;
}

static void on_rekey(struct replicate *r, const union wire_frame *frame)
{
    keys_begin(r);
}

static void on_right(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_right *m = &frame->right;
    struct session *s = session_find(r->set, m->token.text);
    struct msg_right right = m->right;
    if (s == NULL || s->open.group == 0)
        return;
    right.head.type = MSG_RIGHT_PASSED;
    right.head.id = s->id;
    session_send(r->set, 1 + s->worker, &right);
}

static int on_frame(void *opaque, const union wire_frame *frame, char *why, size_t why_size)
{
    static void (*const takers[WIRE_TYPES])(struct replicate *, const union wire_frame *) = {
        [WIRE_KEYS] = keys_frame,
        [WIRE_REKEY] = on_rekey,
        [WIRE_GROUP] = groups_frame,
        [WIRE_STREAM] = import_stream,
        [WIRE_STREAM_GONE] = import_stream_gone,
        [WIRE_SESSION] = import_session,
        [WIRE_REFUSED] = replicate_refused,
        [WIRE_SESSION_GONE] = import_session_gone,
        [WIRE_SYNCED] = on_synced,
        [WIRE_DTLS] = import_dtls,
        [WIRE_DTLS_SEND] = import_dtls_send,
        [WIRE_RIGHT] = on_right,
        [WIRE_PATCH] = patch_frame,
        [WIRE_PATCHED] = patched_frame,
    };
    struct replicate *r = opaque;
    uint16_t type = frame->head.type;
    int rc = 0;
    if (type == WIRE_ACK)
        rc = replicate_acknowledged(r, &frame->ack, why, why_size);
    else if (type < WIRE_TYPES && takers[type] != NULL)
        takers[type](r, frame);
    r->taken += wire_counted(type);
    return rc;
}

static void on_turn(void *opaque)
{
    struct replicate *r = opaque;
    replicate_acknowledge(r);
    if (replink_up(r->link))
        replicate_tell(r);
}

// ---- time, start and end

static void on_tick(uv_timer_t *timer)
{
    struct replicate *r = timer->data;
    uint64_t now = uv_now(r->loop);
    waits_tick(r, now);
    refused_tick(r, now);
    patches_tick(r, now);
    peer_tick(r);
    groups_tick(r, now);
    if (replink_up(r->link))
        replicate_tell(r);
}

static void pass_dtls(struct replicate *r, enum wire_type type, const struct session *s,
                      const uint8_t *data, size_t size)
{
    struct wire_dtls m = {.head = {.type = (uint16_t)type,
                                   .length = (uint32_t)(offsetof(struct wire_dtls, data) + size)},
                          .size = (uint32_t)size};
    if (r == NULL || s->open.group == 0 || size == 0 || size > sizeof(m.data) ||
        !replink_room(r->link))
        return;
    memcpy(m.token.text, s->token, SESSION_TOKEN_LEN);
    memcpy(m.data, data, size);
    replicate_send(r, &m);
}

void replicate_dtls(struct replicate *r, const struct session *s, const uint8_t *data, size_t size)
{
    pass_dtls(r, WIRE_DTLS, s, data, size);
}

void replicate_dtls_send(struct replicate *r, const struct session *s, const uint8_t *data,
                         size_t size)
{
    pass_dtls(r, WIRE_DTLS_SEND, s, data, size);
}

void replicate_right(struct replicate *r, const struct session *s, const struct msg_right *right)
{
    struct wire_right m = {.head = {.type = WIRE_RIGHT, .length = sizeof(m)}, .right = *right};
    if (r == NULL || s->open.group == 0 || !replink_up(r->link) || !replink_room(r->link))
        return;
    memcpy(m.token.text, s->token, SESSION_TOKEN_LEN);
    replicate_send(r, &m);
}

void replicate_reload(struct replicate *r)
{
    char why[256] = "";
    if (r != NULL && replink_reload(r->link, why, sizeof(why)) != 0)
        log_warning("%s; the old certificate stays in use", why);
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void replicate_free(struct replicate *r)
{
    if (r == NULL)
        return;
    r->set->replicate = NULL;
    waits_down(r);
    patches_down(r);
    replink_free(r->link);
    if (r->tick != NULL)
        uv_close((uv_handle_t *)r->tick, free_handle);
    if (r->soon != NULL)
        uv_close((uv_handle_t *)r->soon, free_handle);
    secret_free(r->keys, 2 * sizeof(r->keys[0]));
    free(r->gone);
    free(r->streams);
    dtls_wipe(&r->frame, sizeof(r->frame));
    free(r);
}

static int make_tables(struct replicate *r)
{
    bool locked;
    r->tick = calloc(1, sizeof(*r->tick));
    r->soon = calloc(1, sizeof(*r->soon));
    if (r->tick != NULL) {
        uv_timer_init(r->loop, r->tick);
        r->tick->data = r;
    }
    if (r->soon != NULL) {
        uv_idle_init(r->loop, r->soon);
        r->soon->data = r;
    }
    r->gone = calloc(REPLICATE_GONE, sizeof(r->gone[0]));
    r->streams = calloc(r->set->abi->max_streams, sizeof(r->streams[0]));
    r->keys = secret_alloc(2 * sizeof(r->keys[0]), &locked);
    if (r->tick == NULL || r->soon == NULL || r->gone == NULL || r->streams == NULL ||
        r->keys == NULL)
        return -ENOMEM;
    return secret_random(&r->boot, sizeof(r->boot));
}

int replicate_new(struct replicate **out, uv_loop_t *loop, const struct config *config,
                  struct sessions *sessions, char *why, size_t why_size)
{
    static const struct replink_handlers handlers = {
        .hello = on_hello, .up = on_up, .frame = on_frame, .turn = on_turn, .down = on_down};
    *out = NULL;
    if (*config->protection.partner.name == 0)
        return 0;
    struct replicate *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    r->config = config;
    r->set = sessions;
    r->loop = loop;
    r->start_ms = uv_now(loop);
    r->partner_workers = config->protection.partner.workers != 0
                             ? config->protection.partner.workers
                             : sessions->abi->workers; // until it says
    TAILQ_INIT(&r->queue);
    TAILQ_INIT(&r->unacked);
    TAILQ_INIT(&r->refused);
    struct replink_config link = {.node = config->node,
                                  .partner = config->protection.partner.name,
                                  .certificate = config->protection.certificate,
                                  .key = config->protection.key,
                                  .ca = config->protection.ca,
                                  .listen = config->parsed.partner.listen,
                                  .address = config->parsed.partner.address};
    int rc = make_tables(r);
    if (rc == 0) {
        groups_load(r);
        rc = replink_new(&r->link, loop, &link, &handlers, r, why, why_size);
    }
    if (rc == 0)
        rc = uv_timer_start(r->tick, on_tick, REPLICATE_TICK_MS, REPLICATE_TICK_MS);
    sessions->replicate = r;
    if (config->protection.takeover_address && !sessions->abi->take4.family &&
        !sessions->abi->take6.family)
        log_warning("the kernel holds our media address (port.own_l3), so neither node can take "
                    "over the other's: only clients that know both go on");
    r->home_ms = group_held(r, 0) ? r->start_ms : 0;
    for (unsigned g = 0; rc == 0 && g < 2; g++)
        if (!group_held(r, g)) // what a predecessor of ours may have held
            import_left(r, g);
    if (rc != 0) {
        replicate_free(r);
        return rc;
    }
    *out = r;
    return 0;
}
