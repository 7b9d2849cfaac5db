// The control plane's end of the channel on its loop; dpclient.h has the contract.
//
// Four things wake it: the bell (a message came), the beat timer (every 20 ms: beat, look at the
// peer, look at the rings in case a crashed producer did not ring), the pidfd (the dataplane's
// process ended) and the retry timer (only while sends wait for room).
#include "dpclient.h"
#include "../dataplane/abi/messages.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define TURN_MESSAGES 64 // taken from one lane before the loop does other work
#define QUEUE_MAX 1024   // messages waiting per lane
#define BEAT_MS 20       // ABI_HEARTBEAT_NS
#define RETRY_MS 1
#define HANDLES 4 // closed before the memory goes; process watches own themselves

_Static_assert(BEAT_MS * 1000000ull == ABI_HEARTBEAT_NS, "the timer beats as the ABI says");

struct pending {
    struct pending *next;
    uint8_t bytes[]; // a message, head.length bytes
};

struct queue {
    struct pending *first, **last;
    uint32_t length;
};

// Outlives a client or a pid by the turn that closing takes.
struct process_watch {
    uv_poll_t poll;
    struct dpclient *client; // NULL: nobody listens any more
    uint32_t pid;
    int fd;
};

struct dpclient {
    struct channel *channel;
    const struct dpclient_handlers *handlers;
    void *opaque;
    uv_loop_t *loop;
    uv_poll_t bell;
    uv_timer_t beat, retry;
    uv_idle_t again; // runs while messages are left over from a turn
    struct process_watch *watch;
    uint32_t ended_pid; // its pidfd said so; the channel may show its last beat as fresh still
    enum channel_peer peer;
    uint64_t epoch;
    bool ready, told, me_ready, closing;
    int open_handles;
    uint32_t waiting; // lanes with a queue
    struct dpclient_counts counts;
    struct queue queue[ABI_MAX_LANES];
};

// ---- the way down

static void queue_clear(struct dpclient *client)
{
    for (uint32_t lane = 0; lane < ABI_MAX_LANES; lane++) {
        struct queue *queue = &client->queue[lane];
        while (queue->first != NULL) {
            struct pending *pending = queue->first;
            queue->first = pending->next;
            free(pending);
        }
        *queue = (struct queue){.last = &queue->first};
    }
    client->waiting = 0;
}

// Whether the dataplane that the rest of the program knows is there to read what we send. When
// another has started, sends wait here until look_at_peer throws them away and says so.
static bool can_send(const struct dpclient *client)
{
    return client->ready && channel_peer_epoch(client->channel) == client->epoch;
}

static void queue_flush(struct dpclient *client)
{
    if (!can_send(client))
        return;
    for (uint32_t lane = 0; client->waiting > 0 && lane < client->channel->lanes; lane++) {
        struct queue *queue = &client->queue[lane];
        if (queue->first == NULL)
            continue;
        while (queue->first != NULL &&
               channel_send(client->channel, lane, queue->first->bytes) == 0) {
            struct pending *pending = queue->first;
            queue->first = pending->next;
            queue->length--;
            client->counts.sent++;
            free(pending);
        }
        if (queue->first == NULL) {
            queue->last = &queue->first;
            client->waiting--;
        }
    }
    if (client->waiting == 0)
        uv_timer_stop(&client->retry);
}

static void on_retry(uv_timer_t *timer)
{
    queue_flush(timer->data);
}

static int queue_add(struct dpclient *client, uint32_t lane, const struct msg_head *m)
{
    struct queue *queue = &client->queue[lane];
    if (queue->length >= QUEUE_MAX) {
        client->counts.overflowed++;
        return -ENOBUFS;
    }
    struct pending *pending = malloc(sizeof(*pending) + m->length);
    if (pending == NULL)
        return -ENOMEM;
    pending->next = NULL;
    memcpy(pending->bytes, m, m->length);
    if (queue->first == NULL)
        client->waiting++;
    *queue->last = pending;
    queue->last = &pending->next;
    queue->length++;
    client->counts.queued++;
    if (client->ready && !uv_is_active((uv_handle_t *)&client->retry))
        uv_timer_start(&client->retry, on_retry, RETRY_MS, RETRY_MS);
    return 0;
}

int dpclient_send(struct dpclient *client, uint32_t lane, const void *message)
{
    const struct msg_head *m = message;
    if (m->length < sizeof(*m) || m->length > MSG_MAX)
        return -EMSGSIZE;
    if (lane >= client->channel->lanes)
        return -EINVAL;
    if (!can_send(client) || client->queue[lane].first != NULL)
        return queue_add(client, lane, m);
    int err = channel_send(client->channel, lane, message);
    if (err == -EAGAIN)
        return queue_add(client, lane, m);
    client->counts.sent += err == 0;
    return err;
}

// ---- the way up

// Takes up to TURN_MESSAGES from a lane. Returns whether there may be more.
static bool take_lane(struct dpclient *client, uint32_t lane)
{
    union {
        struct msg_head head;
        uint8_t bytes[MSG_MAX];
    } copy; // what was checked is what is used, whatever the other process does meanwhile
    for (int i = 0; i < TURN_MESSAGES; i++) {
        const struct msg_head *m = channel_peek(client->channel, lane, &client->counts.invalid);
        if (m == NULL)
            return false;
        memcpy(copy.bytes, m, sizeof(copy));
        channel_release(client->channel, lane);
        if (!msg_is_up(copy.head.type) || msg_check(&copy.head) != 0) {
            client->counts.invalid++;
            continue;
        }
        client->counts.received++;
        client->handlers->on_message(client->opaque, lane, &copy.head);
        if (client->closing)
            return false;
    }
    return true;
}

static void on_again(uv_idle_t *idle);

static void take_all(struct dpclient *client)
{
    bool more = false;
    channel_disarm(client->channel);
    for (uint32_t lane = 0; lane < client->channel->lanes && !client->closing; lane++)
        more |= take_lane(client, lane);
    if (client->closing)
        return;
    if (more || channel_arm(client->channel))
        uv_idle_start(&client->again, on_again);
    else
        uv_idle_stop(&client->again);
}

static void on_again(uv_idle_t *idle)
{
    take_all(idle->data);
}

static void on_bell(uv_poll_t *poll, int status, int events)
{
    take_all(poll->data);
}

// ---- the peer

static void look_at_peer(struct dpclient *client);

static void on_watch_closed(uv_handle_t *handle)
{
    struct process_watch *watch = handle->data;
    close(watch->fd);
    free(watch);
}

static void watch_stop(struct dpclient *client)
{
    if (client->watch == NULL)
        return;
    client->watch->client = NULL;
    uv_close((uv_handle_t *)&client->watch->poll, on_watch_closed);
    client->watch = NULL;
}

static void on_process_end(uv_poll_t *poll, int status, int events)
{
    struct process_watch *watch = poll->data;
    struct dpclient *client = watch->client;
    if (client == NULL)
        return;
    client->ended_pid = watch->pid;
    uv_poll_stop(poll);
    look_at_peer(client);
}

// Without a pidfd (an old kernel, a sandbox) the beat timer finds the death, within 60 ms.
static void watch_start(struct dpclient *client, uint32_t pid)
{
    watch_stop(client);
    if (pid == 0)
        return;
    struct process_watch *watch = malloc(sizeof(*watch));
    if (watch == NULL)
        return;
    *watch = (struct process_watch){.client = client, .pid = pid};
    watch->fd = pidfd_open((pid_t)pid, 0);
    if (watch->fd < 0 || uv_poll_init(client->loop, &watch->poll, watch->fd) != 0) {
        if (watch->fd >= 0)
            close(watch->fd);
        free(watch);
        return;
    }
    watch->poll.data = watch;
    client->watch = watch;
    uv_poll_start(&watch->poll, UV_READABLE, on_process_end);
}

static void look_at_peer(struct dpclient *client)
{
    uint64_t epoch;
    bool ready;
    enum channel_peer peer = channel_peer(client->channel, uv_hrtime(), &epoch, &ready);
    uint32_t pid = channel_peer_pid(client->channel);
    if (epoch != client->epoch)
        client->ended_pid = 0; // a pid may come again
    if (pid != 0 && pid == client->ended_pid) {
        peer = PEER_DEAD;
        ready = false;
    }
    bool living = peer == PEER_ALIVE || peer == PEER_STALLED;
    if (living && (client->watch == NULL || client->watch->pid != pid || epoch != client->epoch))
        watch_start(client, pid);
    if (client->told && peer == client->peer && epoch == client->epoch && ready == client->ready)
        return;
    if (epoch != client->epoch)
        queue_clear(client);
    client->told = true;
    client->peer = peer;
    client->epoch = epoch;
    client->ready = ready;
    queue_flush(client);
    client->handlers->on_peer(client->opaque, peer, epoch, ready);
}

static void on_beat(uv_timer_t *timer)
{
    struct dpclient *client = timer->data;
    channel_beat(client->channel, uv_hrtime(), client->me_ready);
    look_at_peer(client);
    if (!client->closing)
        take_all(client);
}

enum channel_peer dpclient_peer(const struct dpclient *client, uint64_t *epoch, bool *ready)
{
    if (epoch != NULL)
        *epoch = client->epoch;
    if (ready != NULL)
        *ready = client->ready;
    return client->peer;
}

void dpclient_set_ready(struct dpclient *client, bool ready)
{
    client->me_ready = ready;
    channel_beat(client->channel, uv_hrtime(), ready);
}

const struct dpclient_counts *dpclient_counts(const struct dpclient *client)
{
    return &client->counts;
}

// ---- start and end

int dpclient_new(struct dpclient **out, uv_loop_t *loop, struct channel *channel,
                 const struct dpclient_handlers *handlers, void *opaque)
{
    struct dpclient *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return -ENOMEM;
    client->channel = channel;
    client->handlers = handlers;
    client->opaque = opaque;
    client->loop = loop;
    queue_clear(client);
    int err = uv_poll_init(loop, &client->bell, channel->my_bell);
    if (err != 0) {
        free(client);
        return err;
    }
    uv_timer_init(loop, &client->beat);
    uv_timer_init(loop, &client->retry);
    uv_idle_init(loop, &client->again);
    client->open_handles = HANDLES;
    client->bell.data = client->beat.data = client->retry.data = client->again.data = client;
    uv_poll_start(&client->bell, UV_READABLE, on_bell);
    uv_timer_start(&client->beat, on_beat, 0, BEAT_MS);
    *out = client;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct dpclient *client = handle->data;
    if (--client->open_handles > 0)
        return;
    queue_clear(client);
    free(client);
}

void dpclient_free(struct dpclient *client)
{
    if (client == NULL || client->closing)
        return;
    client->closing = true;
    watch_stop(client);
    uv_close((uv_handle_t *)&client->bell, on_closed);
    uv_close((uv_handle_t *)&client->beat, on_closed);
    uv_close((uv_handle_t *)&client->retry, on_closed);
    uv_close((uv_handle_t *)&client->again, on_closed);
}
