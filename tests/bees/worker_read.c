#include "worker_read.h"
#include "net.h"
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>

#define ARRIVAL_MAX_NS 5000000000ull // longer nothing lies in a socket

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

// Hands a datagram to its session, by way of the bad network if there is one.
static void deliver(struct worker *w, struct session *s, const struct abi_addr *from, uint8_t *data,
                    size_t size, uint64_t arrived_ns)
{
    if (w->impair) {
        enum impair_fate fate = impair_offer(w->impair, &s->path, from, data, size, w->now_ns);
        s->result->count.impaired += fate == IMPAIR_DROP;
        if (fate != IMPAIR_PASS)
            return;
    }
    session_input(s, from, data, size, arrived_ns, w->now_ns);
}

uint64_t worker_arrival(struct worker *w, const struct timespec *stamp)
{
    uint64_t real =
        (uint64_t)stamp->tv_sec * 1000000000ull + (uint64_t)stamp->tv_nsec - w->real_offset;
    if (real > w->now_ns) // while the batch's other sockets were read
        w->now_ns = clock_ns();
    return real <= w->now_ns && w->now_ns - real < ARRIVAL_MAX_NS ? real : w->now_ns;
}

// What the kernel says of a message: the size of the datagrams that it put together, 0 if it is
// one, and when it came; now if it does not say.
static size_t read_control(struct worker *w, struct msghdr *header, uint64_t *arrived_ns)
{
    int size = 0;
    *arrived_ns = w->now_ns;
    if (header->msg_controllen == 0)
        return 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            memcpy(&size, CMSG_DATA(c), sizeof(size));
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
            *arrived_ns = worker_arrival(w, &stamp);
        }
    }
    return size > 0 ? (size_t)size : 0;
}

static void take_message(struct worker *w, struct session *s, unsigned i)
{
    struct worker_batch *b = w->batch;
    struct abi_addr from;
    size_t whole = b->message[i].msg_len;
    uint64_t arrived_ns;
    size_t segment = read_control(w, &b->message[i].msg_hdr, &arrived_ns);
    if (segment == 0)
        segment = whole;
    net_from_sockaddr(&from, (struct sockaddr *)&b->from[i]);
    for (size_t at = 0; at < whole && s->phase != SESSION_ENDED; at += segment)
        deliver(w, s, &from, b->data[i] + at, segment < whole - at ? segment : whole - at,
                arrived_ns);
}

// The kernel has written over what it was told of the room.
static void renew_message(struct worker_batch *b, unsigned i)
{
    b->message[i].msg_hdr.msg_namelen = sizeof(b->from[i]);
    b->message[i].msg_hdr.msg_controllen = sizeof(b->control[i]);
}

void worker_read(struct worker *w, struct session *s)
{
    int count = WORKER_BATCH;
    for (int turn = 0; count == WORKER_BATCH && s->phase != SESSION_ENDED; turn++) {
        if (turn == WORKER_READS) {
            struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = s};
            epoll_ctl(w->epoll, EPOLL_CTL_MOD, s->fd, &event);
            return;
        }
        count = recvmmsg(s->fd, w->batch->message, WORKER_BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < count; i++) {
            take_message(w, s, (unsigned)i);
            renew_message(w->batch, (unsigned)i);
        }
    }
}

void worker_prepare_batch(struct worker_batch *b)
{
    for (unsigned i = 0; i < WORKER_BATCH; i++) {
        b->iov[i] = (struct iovec){.iov_base = b->data[i], .iov_len = WORKER_ROOM};
        b->message[i].msg_hdr = (struct msghdr){.msg_name = &b->from[i],
                                                .msg_iov = &b->iov[i],
                                                .msg_iovlen = 1,
                                                .msg_control = &b->control[i]};
        renew_message(b, i);
    }
}
