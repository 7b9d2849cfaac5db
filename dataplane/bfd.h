// Bidirectional Forwarding Detection, asynchronous mode: RFC 5880; 5881 (one hop), 5883 (several).
//
// Pure: bytes and now in, bytes and verdicts out; one thread per session. Limits: no demand mode,
// no echo function (both are answered as RFC 5880 says for a system without them), simple-password
// and SHA-1 authentication of RFC 5880 6.7 only as "meticulous keyed SHA-1".
#ifndef HITLESS_BFD_H
#define HITLESS_BFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BFD_PACKET 24          // bytes without authentication
#define BFD_PACKET_MAX 52      // with keyed SHA-1
#define BFD_SLOW_NS 1000000000 // while a session is not up (RFC 5880 6.8.3)
#define BFD_KEY_MAX 20

enum bfd_state { BFD_ADMIN_DOWN, BFD_DOWN, BFD_INIT, BFD_UP };

// RFC 5880 4.1.
enum bfd_diag {
    BFD_DIAG_NONE,
    BFD_DIAG_EXPIRED = 1,
    BFD_DIAG_NEIGHBOR_DOWN = 3,
    BFD_DIAG_ADMIN_DOWN = 7,
};

struct bfd_config {
    uint32_t my_discriminator; // not 0, unique on this node
    uint32_t min_tx_us;        // what we want to send at, >= 10,000
    uint32_t min_rx_us;        // what we can take
    uint8_t multiplier;        // 1..255
    uint8_t min_ttl;           // accepted from the peer: 255 on one hop (RFC 5881 5)
    uint8_t key_id;
    uint8_t key_length; // 0: no authentication
    uint8_t key[BFD_KEY_MAX];
};

struct bfd {
    struct bfd_config config;
    enum bfd_state state, remote_state;
    enum bfd_diag diag;
    uint32_t your_discriminator;
    uint32_t remote_min_rx_us, remote_min_tx_us;
    uint32_t tx_us; // interval that we advertise now
    uint32_t rx_us;
    uint8_t remote_multiplier;
    bool poll, final; // to be sent
    uint64_t heard_ns, next_tx_ns;
    uint32_t sequence;        // of our authenticated packets
    uint32_t remote_sequence; // of the peer's
    bool sequence_known;
    uint64_t up_since_ns;
    uint32_t downs;  // times that it left Up
    uint64_t random; // for the jitter of RFC 5880 6.8.7
};

// Starts in Down. `seed` for jitter and the first authentication sequence number.
void bfd_init(struct bfd *bfd, const struct bfd_config *config, uint64_t seed, uint64_t now_ns);

// Reasons to discard a packet (RFC 5880 6.8.6).
enum bfd_verdict { BFD_TAKEN, BFD_MALFORMED, BFD_WRONG_TTL, BFD_WRONG_SESSION, BFD_WRONG_KEY };

// Takes a control packet from the peer. Look at bfd->state for a change.
enum bfd_verdict bfd_receive(struct bfd *bfd, const uint8_t *packet, size_t size, uint8_t ttl,
                             uint64_t now_ns);

// The session of a received packet: its Your Discriminator, or 0.
uint32_t bfd_your_discriminator(const uint8_t *packet, size_t size);

// As time goes by: detects expiry. True if the state changed.
bool bfd_expire(struct bfd *bfd, uint64_t now_ns);
// The packet that is due, or 0. `packet` holds BFD_PACKET_MAX bytes.
size_t bfd_transmit(struct bfd *bfd, uint64_t now_ns, uint8_t *packet);

// Time without a packet after which the peer is down, ns (RFC 5880 6.8.4).
uint64_t bfd_detection_ns(const struct bfd *bfd);
// Takes the session down or up again on purpose.
void bfd_admin(struct bfd *bfd, bool down, uint64_t now_ns);

#endif
