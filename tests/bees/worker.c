// A thread that runs its share of the sessions; see worker.h.
//
// Sessions are served in the order of epoll, then timers. Deadlines stand in one flat array, which
// is scanned at every turn: for thousands of sessions that costs less than keeping a heap in order
// with every packet.
#include "worker.h"
#include "worker_read.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 512
#define LONGEST_WAIT_NS 100000000ull
#define REST_NS 500000ull // pause that lets packets gather when many come
#define BUSY_EVENTS 8     // a turn with so many sockets was a busy one
#define CLOCK_NS 200000000ull
#define SLOTS_FIRST 256

enum order_kind { ORDER_ADD, ORDER_LEAVE };
struct worker_order {
    enum order_kind kind;
    struct session *session; // ADD
    uint32_t number;         // LEAVE
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int take_slot(struct worker *w, struct session *s)
{
    uint32_t slot = 0;
    while (slot < w->used && w->session[slot] != NULL)
        slot++;
    if (slot == w->slots) {
        uint32_t slots = w->slots ? w->slots * 2 : SLOTS_FIRST;
        struct session **sessions = realloc(w->session, slots * sizeof(*sessions));
        if (sessions != NULL)
            w->session = sessions;
        uint64_t *due = realloc(w->due, slots * sizeof(*due));
        if (due != NULL)
            w->due = due;
        if (sessions == NULL || due == NULL)
            return -ENOMEM;
        w->slots = slots;
    }
    if (slot == w->used)
        w->used++;
    w->session[slot] = s;
    w->due[slot] = w->now_ns;
    s->slot = slot;
    s->worker = w;
    w->live++;
    return 0;
}

// The session has ended: off the table and back to whoever began it.
static void release(struct worker *w, struct session *s)
{
    if (w->impair)
        impair_path_drop(w->impair, &s->path);
    close(s->fd);
    s->fd = -1;
    w->session[s->slot] = NULL;
    w->due[s->slot] = UINT64_MAX;
    w->live--;
    while (w->used > 0 && w->session[w->used - 1] == NULL)
        w->used--;
    w->config->ended(w->config->opaque, s);
}

static void on_add(struct worker *w, struct session *s)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = s};
    if (take_slot(w, s) != 0) {
        s->result->failure = BEES_FAILURE_out_of_memory;
        w->config->ended(w->config->opaque, s);
        return;
    }
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, s->fd, &event) != 0) {
        session_end(s, BEES_FAILURE_out_of_memory, w->now_ns);
        return;
    }
    session_step(s, BEES_STEP_post, s->posted_ns);
    session_start(s, w->now_ns);
}

static void on_leave(struct worker *w, uint32_t number)
{
    for (uint32_t i = 0; i < w->used; i++)
        if (w->session[i] != NULL && w->session[i]->result->number == number)
            session_end(w->session[i], BEES_FAILURE_none, w->now_ns);
}

static void read_inbox(struct worker *w)
{
    uint64_t unused;
    if (read(w->wake, &unused, sizeof(unused)) < 0 && errno != EAGAIN)
        return;
    pthread_mutex_lock(&w->lock);
    struct worker_order *orders = w->inbox;
    unsigned count = w->orders;
    w->inbox = NULL;
    w->orders = w->room = 0;
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < count; i++) {
        if (orders[i].kind == ORDER_ADD)
            on_add(w, orders[i].session);
        else
            on_leave(w, orders[i].number);
    }
    free(orders);
}

static void take_held(struct worker *w)
{
    struct impair_packet packet;
    uint8_t data[IMPAIR_PACKET_MAX];
    while (w->impair && impair_take(w->impair, w->now_ns, &packet)) {
        struct session *s =
            (struct session *)((char *)packet.path - offsetof(struct session, path));
        memcpy(data, packet.data, packet.size);
        if (s->phase != SESSION_ENDED)
            session_input(s, &packet.from, data, packet.size, w->now_ns, w->now_ns);
    }
}

// Does what is due and returns when the next is.
static uint64_t run_timers(struct worker *w)
{
    uint64_t next = w->impair ? impair_due(w->impair) : UINT64_MAX;
    for (uint32_t i = 0; i < w->used; i++) {
        if (w->due[i] <= w->now_ns && w->session[i] != NULL) {
            struct session *s = w->session[i];
            w->due[i] = UINT64_MAX;
            uint64_t due = s->phase == SESSION_ENDED ? 0 : session_tick(s, w->now_ns);
            if (s->phase == SESSION_ENDED) {
                release(w, s);
                continue;
            }
            w->due[i] = due < w->due[i] ? due : w->due[i];
        }
        next = w->due[i] < next ? w->due[i] : next;
    }
    return next;
}

// The second number of schedstat: time on the run queue. 0 where the kernel does not tell.
static uint64_t starved_ns(int schedstat)
{
    char text[96] = "";
    unsigned long long ran, waited = 0;
    if (schedstat < 0 || pread(schedstat, text, sizeof(text) - 1, 0) <= 0 ||
        sscanf(text, "%llu %llu", &ran, &waited) != 2)
        return 0;
    return waited;
}

static void look_at_clocks(struct worker *w, uint64_t *next_ns)
{
    if (w->now_ns < *next_ns)
        return;
    *next_ns = w->now_ns + CLOCK_NS;
    w->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    w->starved_ns = starved_ns(w->schedstat);
    w->real_offset = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
}

static void serve(struct worker *w, const struct epoll_event *events, int count)
{
    bool orders = false;
    for (int i = 0; i < count; i++) {
        struct session *s = events[i].data.ptr;
        if (s == NULL)
            orders = true;
        else if (s->phase != SESSION_ENDED)
            worker_read(w, s);
    }
    if (orders) // last: what they add or end is not among these events
        read_inbox(w);
}

// After `stop` nobody adds any more.
static void end_all(struct worker *w)
{
    read_inbox(w);
    for (uint32_t i = 0; i < w->used; i++)
        if (w->session[i] != NULL)
            session_end(w->session[i], BEES_FAILURE_none, w->now_ns);
}

static void *run(void *opaque)
{
    struct worker *w = opaque;
    struct epoll_event events[EVENTS];
    uint64_t next = 0, clocks = 0;
    prctl(PR_SET_TIMERSLACK, 1000);
    w->schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    w->now_ns = clock_ns(CLOCK_MONOTONIC);
    for (;;) {
        bool stop = w->stop;
        uint64_t wait = next > w->now_ns ? next - w->now_ns : 0;
        wait = wait > LONGEST_WAIT_NS ? LONGEST_WAIT_NS : stop ? 0 : wait;
        struct timespec timeout = {.tv_nsec = (long)wait};
        int count = epoll_pwait2(w->epoll, events, EVENTS, &timeout, NULL);
        w->now_ns = clock_ns(CLOCK_MONOTONIC);
        serve(w, events, count);
        take_held(w);
        if (stop)
            end_all(w);
        next = run_timers(w);
        look_at_clocks(w, &clocks);
        if (stop && w->live == 0)
            break;
        if (count >= BUSY_EVENTS && count < EVENTS) {
            struct timespec rest = {.tv_nsec = REST_NS};
            nanosleep(&rest, NULL);
        }
    }
    look_at_clocks(w, &(uint64_t){0});
    if (w->schedstat >= 0)
        close(w->schedstat);
    return NULL;
}

static void free_all(struct worker *w)
{
    if (w->epoll >= 0)
        close(w->epoll);
    if (w->wake >= 0)
        close(w->wake);
    protect_free(w->protect);
    impair_free(w->impair);
    free(w->batch);
    free(w->session);
    free(w->due);
    free(w->inbox);
    pthread_mutex_destroy(&w->lock);
}

int worker_start(struct worker *w, unsigned number, const struct worker_config *config)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    memset(w, 0, sizeof(*w));
    w->config = config;
    w->number = number;
    pthread_mutex_init(&w->lock, NULL);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->batch = aligned_alloc(64, (sizeof(*w->batch) + 63) & ~63ul);
    int rc = w->epoll < 0 || w->wake < 0 ? -EMFILE : w->batch == NULL ? -ENOMEM : 0;
    if (rc == 0 && epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) != 0)
        rc = -errno;
    if (rc == 0)
        rc = protect_new(&w->protect);
    if (rc == 0 && impair_active(&config->impair))
        rc = impair_create(&w->impair, &config->impair);
    if (rc == 0) {
        worker_prepare_batch(w->batch);
        rc = -pthread_create(&w->thread, NULL, run, w);
    }
    if (rc != 0)
        free_all(w);
    return rc;
}

static int order(struct worker *w, struct worker_order order)
{
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    if (w->orders == w->room) {
        unsigned room = w->room ? w->room * 2 : 64;
        struct worker_order *more = realloc(w->inbox, room * sizeof(*more));
        if (more == NULL) {
            rc = -ENOMEM;
        } else {
            w->inbox = more;
            w->room = room;
        }
    }
    if (rc == 0)
        w->inbox[w->orders++] = order;
    pthread_mutex_unlock(&w->lock);
    if (rc == 0)
        eventfd_write(w->wake, 1);
    return rc;
}

int worker_add(struct worker *w, struct session *session)
{
    return order(w, (struct worker_order){.kind = ORDER_ADD, .session = session});
}

int worker_leave(struct worker *w, uint32_t number)
{
    return order(w, (struct worker_order){.kind = ORDER_LEAVE, .number = number});
}

void worker_stop(struct worker *w)
{
    w->stop = true;
    eventfd_write(w->wake, 1);
}

void worker_join(struct worker *w)
{
    pthread_join(w->thread, NULL);
    free_all(w);
}

void worker_gap(struct worker *w, uint64_t gap_ns)
{
    if (gap_ns > atomic_load_explicit(&w->gap_max_ns, memory_order_relaxed))
        atomic_store_explicit(&w->gap_max_ns, gap_ns, memory_order_relaxed);
}
