// Addresses and sockets; see net.h.
#include "net.h"
#include "../../dataplane/bytes.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FILES_WANTED 262144
#define RECEIVE_BUFFER (512 * 1024) // bytes: 0.25 s of 4 Mbit/s with the kernel's own overhead

static const struct {
    uint8_t ip[4], bits;
} own4[] = {
    {{127, 0, 0, 0}, 8},    {{10, 0, 0, 0}, 8},    {{172, 16, 0, 0}, 12}, {{192, 168, 0, 0}, 16},
    {{169, 254, 0, 0}, 16}, {{100, 64, 0, 0}, 10}, {{198, 18, 0, 0}, 15},
};

static bool is_own4(const uint8_t *ip)
{
    for (size_t i = 0; i < sizeof(own4) / sizeof(own4[0]); i++)
        if ((load_be32(ip) ^ load_be32(own4[i].ip)) >> (32 - own4[i].bits) == 0)
            return true;
    return false;
}

static bool is_own6(const uint8_t *ip)
{
    static const uint8_t loopback[16] = {[15] = 1};
    static const uint8_t benchmark[6] = {0x20, 0x01, 0x00, 0x02, 0x00, 0x00}; // RFC 5180 8
    return memcmp(ip, loopback, 16) == 0 || (ip[0] & 0xfe) == 0xfc ||
           (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) || memcmp(ip, benchmark, 6) == 0;
}

bool net_is_own(const struct abi_addr *addr)
{
    return addr->family == 4 ? is_own4(addr->ip) : addr->family == 6 && is_own6(addr->ip);
}

bool net_same(const struct abi_addr *a, const struct abi_addr *b)
{
    return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
}

void net_from_sockaddr(struct abi_addr *addr, const struct sockaddr *from)
{
    memset(addr, 0, sizeof(*addr));
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        memcpy(addr->ip, &in->sin_addr, 4);
        addr->port = ntohs(in->sin_port);
        addr->family = 4;
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        memcpy(addr->ip, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
        addr->port = ntohs(in6->sin6_port);
        addr->family = mapped ? 4 : 6;
    }
}

socklen_t net_to_sockaddr(struct sockaddr_storage *to, const struct abi_addr *addr, int family)
{
    if (family == AF_INET && addr->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(addr->port)};
        memcpy(&in->sin_addr, addr->ip, 4);
        return sizeof(*in);
    }
    if (family != AF_INET6 || (addr->family != 4 && addr->family != 6))
        return 0;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(addr->port)};
    if (addr->family == 4) {
        in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xff;
        memcpy(in6->sin6_addr.s6_addr + 12, addr->ip, 4);
    } else {
        memcpy(in6->sin6_addr.s6_addr, addr->ip, 16);
    }
    return sizeof(*in6);
}

bool net_parse(struct abi_addr *addr, const char *ip, uint16_t port)
{
    *addr = (struct abi_addr){.port = port};
    if (inet_pton(AF_INET, ip, addr->ip) == 1)
        addr->family = 4;
    else if (inet_pton(AF_INET6, ip, addr->ip) == 1)
        addr->family = 6;
    return addr->family != 0;
}

void net_ip_text(char text[NET_TEXT], const struct abi_addr *addr)
{
    if (!inet_ntop(addr->family == 6 ? AF_INET6 : AF_INET, addr->ip, text, NET_TEXT))
        text[0] = '\0';
}

void net_text(char text[NET_TEXT], const struct abi_addr *addr)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    inet_ntop(addr->family == 6 ? AF_INET6 : AF_INET, addr->ip, ip, sizeof(ip));
    snprintf(text, NET_TEXT, addr->family == 6 ? "[%s]:%u" : "%s:%u", ip, addr->port);
}

static int bind_any(int fd, int family, uint16_t *port)
{
    struct sockaddr_storage any;
    memset(&any, 0, sizeof(any)); // whole: of an initialiser the analyser sees but the first field
    any.ss_family = (sa_family_t)family;
    socklen_t length = sizeof(any);
    int off = 0, on = 1, size = RECEIVE_BUFFER;
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)); // what fails is slower, but right
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
    // Beyond net.core.rmem_max only root may go; without, as far as it goes.
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (bind(fd, (struct sockaddr *)&any,
             family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)) != 0 ||
        getsockname(fd, (struct sockaddr *)&any, &length) != 0)
        return -errno;
    struct abi_addr bound;
    net_from_sockaddr(&bound, (struct sockaddr *)&any);
    *port = bound.port;
    return 0;
}

int net_open(int *family, uint16_t *port)
{
    static const int families[] = {AF_INET6, AF_INET};
    int rc = -EAFNOSUPPORT;
    for (int i = 0; i < 2 && (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL); i++) {
        int fd = socket(families[i], SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            rc = -errno;
            continue;
        }
        rc = bind_any(fd, families[i], port);
        if (rc == 0) {
            *family = families[i];
            return fd;
        }
        close(fd);
    }
    return rc;
}

int net_route(const struct abi_addr *remote, struct abi_addr *local)
{
    struct sockaddr_storage addr, own = {0};
    int family = remote->family == 6 ? AF_INET6 : AF_INET;
    struct abi_addr to = *remote;
    if (to.port == 0)
        to.port = 9; // discard: connecting a UDP socket sends nothing
    socklen_t length = net_to_sockaddr(&addr, &to, family);
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = 0;
    if (connect(fd, (struct sockaddr *)&addr, length) != 0)
        rc = -errno;
    length = sizeof(own);
    if (rc == 0 && getsockname(fd, (struct sockaddr *)&own, &length) != 0)
        rc = -errno;
    close(fd);
    if (rc == 0) {
        net_from_sockaddr(local, (struct sockaddr *)&own);
        local->port = 0;
    }
    return rc;
}

size_t net_raise_files(void)
{
    struct rlimit limit, more = {FILES_WANTED, FILES_WANTED};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    if (limit.rlim_max >= FILES_WANTED)
        more.rlim_max = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &more) == 0) // above rlim_max only root may go
        return (size_t)more.rlim_cur;
    more = (struct rlimit){limit.rlim_max, limit.rlim_max};
    return (size_t)(setrlimit(RLIMIT_NOFILE, &more) == 0 ? more : limit).rlim_cur;
}
