// Addresses and sockets of hitless-bees: one UDP socket for each session, IPv4 and IPv6 on it
// alike.
//
// A server that answers all its clients from one address and port tells them apart by theirs: each
// session needs a port of its own, and so a socket. SO_REUSEPORT, which spreads one port over
// several sockets, has nothing to spread. Sockets are not connected, because a server may send from
// more than one of its addresses and one that fails over does. UDP_GRO is on: where the interface
// polls apart from the sender, a frame's packets come as one message (2 to 4 packets each), which
// is worth 40 % of the CPU; on a veth pair whose sender's core does the receiving, nothing comes
// together. net_is_own and the conversions are pure.
#ifndef HITLESS_BEES_NET_H
#define HITLESS_BEES_NET_H

#include "../../dataplane/abi/abi.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define NET_TEXT 56 // "[IPv6]:port" and its NUL

// Whether the address can only be on this machine or in a network of one's own: loopback, private
// (RFC 1918, 4193), link-local, shared (RFC 6598) or for benchmarks (RFC 2544, 5180).
bool net_is_own(const struct abi_addr *addr);

bool net_same(const struct abi_addr *a, const struct abi_addr *b);
// IPv4-mapped IPv6 becomes IPv4. Family 0 if it is neither.
void net_from_sockaddr(struct abi_addr *addr, const struct sockaddr *from);
// For a socket of `family` (AF_INET or AF_INET6); returns the length, 0 if it cannot go there.
socklen_t net_to_sockaddr(struct sockaddr_storage *to, const struct abi_addr *addr, int family);
// Reads an IP address without brackets or port. False if it is none.
bool net_parse(struct abi_addr *addr, const char *ip, uint16_t port);
void net_text(char text[NET_TEXT], const struct abi_addr *addr);    // with the port
void net_ip_text(char text[NET_TEXT], const struct abi_addr *addr); // without brackets or port

// Opens a non-blocking UDP socket on a port of the kernel's choice, both families where the machine
// has both. Fills in *family and *port. Returns the descriptor or a negative errno: -EMFILE and
// -ENFILE for the descriptor limit, -EADDRINUSE when ports ran out.
int net_open(int *family, uint16_t *port);

// Our address on the way to `remote`, port 0. Returns 0 or a negative errno.
int net_route(const struct abi_addr *remote, struct abi_addr *local);

// Raises the limit of open files as far as allowed and returns it.
size_t net_raise_files(void);

#endif
