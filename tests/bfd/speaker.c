// Speaks BFD over kernel sockets with dataplane/bfd.c, so that another implementation can be its
// peer: bfd_speaker LOCAL REMOTE SECONDS INTERVAL_US MULTIPLIER. One line on standard output for
// each change of state: "STATE DIAG MS_SINCE_HEARD".
#include "../../dataplane/bfd.h"
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int open_socket(const char *address, uint16_t port)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int ttl = 255, on = 1;
    if (fd < 0 || inet_pton(AF_INET, address, &local.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&local, sizeof(local)) ||
        setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) ||
        setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on))) {
        perror(address);
        exit(1);
    }
    return fd;
}

static ssize_t receive(int fd, uint8_t *packet, size_t size, uint8_t *ttl)
{
    char control[64];
    struct iovec iov = {packet, size};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
    *ttl = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); n > 0 && c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL)
            *ttl = *CMSG_DATA(c);
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int in = open_socket(argv[1], 3784), out = open_socket(argv[1], 49152);
    struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons(3784)};
    inet_pton(AF_INET, argv[2], &remote.sin_addr);
    uint32_t interval = (uint32_t)strtoul(argv[4], NULL, 10);
    struct bfd_config config = {.my_discriminator = 77,
                                .min_tx_us = interval,
                                .min_rx_us = interval,
                                .multiplier = (uint8_t)strtoul(argv[5], NULL, 10),
                                .min_ttl = 255};
    struct bfd bfd;
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t end = clock_ns() + strtoull(argv[3], NULL, 10) * 1000000000;
    bfd_init(&bfd, &config, clock_ns(), clock_ns());
    enum bfd_state told = bfd.state;
    for (uint64_t now; (now = clock_ns()) < end;) {
        uint8_t packet[BFD_PACKET_MAX], ttl;
        ssize_t n;
        while ((n = receive(in, packet, sizeof(packet), &ttl)) > 0)
            bfd_receive(&bfd, packet, (size_t)n, ttl, now);
        bfd_expire(&bfd, now);
        size_t size = bfd_transmit(&bfd, now, packet);
        if (size)
            sendto(out, packet, size, 0, (struct sockaddr *)&remote, sizeof(remote));
        if (bfd.state != told)
            printf("%d %d %.1f\n", bfd.state, bfd.diag, (double)(now - bfd.heard_ns) / 1e6);
        told = bfd.state;
        poll(&(struct pollfd){.fd = in, .events = POLLIN}, 1, 1);
    }
    return 0;
}
