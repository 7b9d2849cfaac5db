#include "bfd.h"
#include "bytes.h"
#include "digest.h"

#define VERSION 1
#define FLAG_POLL 0x20
#define FLAG_FINAL 0x10
#define FLAG_AUTH 0x04
#define FLAG_DEMAND 0x02
#define FLAG_MULTIPOINT 0x01
#define AUTH_METICULOUS_SHA1 5
#define AUTH_LENGTH 28
#define AUTH_DIGEST 32 // offset in the packet

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

// xorshift64*: jitter need not be secret.
static uint32_t next_random(struct bfd *bfd)
{
    bfd->random ^= bfd->random >> 12;
    bfd->random ^= bfd->random << 25;
    bfd->random ^= bfd->random >> 27;
    return (uint32_t)((bfd->random * 0x2545f4914f6cdd1dull) >> 32);
}

void bfd_init(struct bfd *bfd, const struct bfd_config *config, uint64_t seed, uint64_t now_ns)
{
    *bfd = (struct bfd){.config = *config,
                        .state = BFD_DOWN,
                        .remote_state = BFD_DOWN,
                        .remote_min_rx_us = 1,
                        .remote_multiplier = config->multiplier,
                        .random = seed | 1,
                        .next_tx_ns = now_ns};
    bfd->sequence = next_random(bfd);
}

static bool slow(const struct bfd *bfd)
{
    return bfd->state != BFD_UP;
}

static uint32_t desired_tx_us(const struct bfd *bfd)
{
    return slow(bfd) ? larger(bfd->config.min_tx_us, BFD_SLOW_NS / 1000) : bfd->config.min_tx_us;
}

uint64_t bfd_detection_ns(const struct bfd *bfd)
{
    return (uint64_t)bfd->remote_multiplier * larger(bfd->config.min_rx_us, bfd->remote_min_tx_us) *
           1000;
}

static void change(struct bfd *bfd, enum bfd_state state, enum bfd_diag diag, uint64_t now_ns)
{
    if (bfd->state == state)
        return;
    if (bfd->state == BFD_UP)
        bfd->downs++;
    if (state == BFD_UP) {
        bfd->up_since_ns = now_ns;
        bfd->poll = true; // our interval becomes shorter (RFC 5880 6.8.3)
    }
    bfd->state = state;
    bfd->diag = diag;
    bfd->next_tx_ns = now_ns; // tell at once
}

static void hash(const uint8_t *packet, uint8_t digest[SHA1_LEN])
{
    uint32_t state[5];
    digest_sha1_start(state);
    digest_sha1_finish(state, packet, BFD_PACKET_MAX, BFD_PACKET_MAX, digest);
}

static bool sha1_ok(struct bfd *bfd, const uint8_t *packet)
{
    uint8_t copy[BFD_PACKET_MAX], digest[20], difference = 0;
    uint32_t sequence = load_be32(packet + 28);
    uint32_t ahead = sequence - bfd->remote_sequence;
    if (packet[26] != bfd->config.key_id || packet[25] != AUTH_LENGTH)
        return false;
    // Meticulous: each packet has a number of its own (RFC 5880 6.7.4).
    if (bfd->sequence_known && (ahead == 0 || ahead > 3u * bfd->remote_multiplier))
        return false;
    memcpy(copy, packet, BFD_PACKET_MAX);
    memset(copy + AUTH_DIGEST, 0, sizeof(digest));
    memcpy(copy + AUTH_DIGEST, bfd->config.key, bfd->config.key_length);
    hash(copy, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        difference |= digest[i] ^ packet[AUTH_DIGEST + i];
    if (difference)
        return false;
    bfd->remote_sequence = sequence;
    bfd->sequence_known = true;
    return true;
}

// RFC 5880 6.8.6, the part before anything is changed.
static enum bfd_verdict check(struct bfd *bfd, const uint8_t *packet, size_t size, uint8_t ttl)
{
    if (size < BFD_PACKET || packet[0] >> 5 != VERSION)
        return BFD_MALFORMED;
    bool auth = packet[1] & FLAG_AUTH;
    uint8_t length = packet[3];
    enum bfd_state state = packet[1] >> 6;
    uint32_t mine = load_be32(packet + 8);
    if (length < (auth ? 26 : BFD_PACKET) || length > size || packet[2] == 0 ||
        (packet[1] & FLAG_MULTIPOINT) || load_be32(packet + 4) == 0 ||
        (mine == 0 && state != BFD_DOWN && state != BFD_ADMIN_DOWN))
        return BFD_MALFORMED;
    if (ttl < bfd->config.min_ttl)
        return BFD_WRONG_TTL;
    if (mine && mine != bfd->config.my_discriminator)
        return BFD_WRONG_SESSION;
    if (auth != (bfd->config.key_length != 0))
        return BFD_WRONG_KEY;
    if (auth &&
        (length != BFD_PACKET_MAX || packet[24] != AUTH_METICULOUS_SHA1 || !sha1_ok(bfd, packet)))
        return BFD_WRONG_KEY;
    return BFD_TAKEN;
}

static void advance(struct bfd *bfd, uint64_t now_ns)
{
    if (bfd->state == BFD_ADMIN_DOWN)
        return;
    if (bfd->remote_state == BFD_ADMIN_DOWN) {
        change(bfd, BFD_DOWN, BFD_DIAG_NEIGHBOR_DOWN, now_ns);
    } else if (bfd->state == BFD_DOWN) {
        if (bfd->remote_state == BFD_DOWN)
            change(bfd, BFD_INIT, BFD_DIAG_NONE, now_ns);
        else if (bfd->remote_state == BFD_INIT)
            change(bfd, BFD_UP, BFD_DIAG_NONE, now_ns);
    } else if (bfd->state == BFD_INIT) {
        if (bfd->remote_state == BFD_INIT || bfd->remote_state == BFD_UP)
            change(bfd, BFD_UP, BFD_DIAG_NONE, now_ns);
    } else if (bfd->remote_state == BFD_DOWN) {
        change(bfd, BFD_DOWN, BFD_DIAG_NEIGHBOR_DOWN, now_ns);
    }
}

uint32_t bfd_your_discriminator(const uint8_t *packet, size_t size)
{
    return size < BFD_PACKET ? 0 : load_be32(packet + 8);
}

enum bfd_verdict bfd_receive(struct bfd *bfd, const uint8_t *packet, size_t size, uint8_t ttl,
                             uint64_t now_ns)
{
    enum bfd_verdict verdict = check(bfd, packet, size, ttl);
    if (verdict != BFD_TAKEN)
        return verdict;
    bfd->your_discriminator = load_be32(packet + 4);
    bfd->remote_state = packet[1] >> 6;
    bfd->remote_multiplier = packet[2];
    bfd->remote_min_tx_us = load_be32(packet + 12);
    bfd->remote_min_rx_us = load_be32(packet + 16);
    if (packet[1] & FLAG_FINAL)
        bfd->poll = false;
    if (packet[1] & FLAG_POLL) {
        bfd->final = true;
        bfd->next_tx_ns = now_ns;
    }
    bfd->heard_ns = now_ns;
    advance(bfd, now_ns);
    return BFD_TAKEN;
}

bool bfd_expire(struct bfd *bfd, uint64_t now_ns)
{
    if (bfd->state < BFD_INIT || now_ns - bfd->heard_ns < bfd_detection_ns(bfd))
        return false;
    bfd->your_discriminator = 0;
    bfd->remote_state = BFD_DOWN;
    bfd->remote_min_rx_us = 1;
    bfd->sequence_known = false;
    change(bfd, BFD_DOWN, BFD_DIAG_EXPIRED, now_ns);
    return true;
}

static size_t write_packet(struct bfd *bfd, uint8_t *packet)
{
    bool auth = bfd->config.key_length != 0;
    memset(packet, 0, BFD_PACKET_MAX);
    packet[0] = (uint8_t)(VERSION << 5 | bfd->diag);
    packet[1] = (uint8_t)(bfd->state << 6 | (bfd->final ? FLAG_FINAL : bfd->poll ? FLAG_POLL : 0));
    packet[2] = bfd->config.multiplier;
    packet[3] = auth ? BFD_PACKET_MAX : BFD_PACKET;
    store_be32(packet + 4, bfd->config.my_discriminator);
    store_be32(packet + 8, bfd->your_discriminator);
    store_be32(packet + 12, desired_tx_us(bfd));
    store_be32(packet + 16, bfd->config.min_rx_us);
    if (!auth)
        return BFD_PACKET;
    packet[1] |= FLAG_AUTH;
    packet[24] = AUTH_METICULOUS_SHA1;
    packet[25] = AUTH_LENGTH;
    packet[26] = bfd->config.key_id;
    store_be32(packet + 28, ++bfd->sequence);
    memcpy(packet + AUTH_DIGEST, bfd->config.key, bfd->config.key_length);
    uint8_t digest[20];
    hash(packet, digest);
    memcpy(packet + AUTH_DIGEST, digest, sizeof(digest));
    return BFD_PACKET_MAX;
}

size_t bfd_transmit(struct bfd *bfd, uint64_t now_ns, uint8_t *packet)
{
    // A peer that wants none gets none, but for answers to its polls (RFC 5880 6.8.7).
    if (now_ns < bfd->next_tx_ns || (bfd->remote_min_rx_us == 0 && !bfd->final))
        return 0;
    size_t size = write_packet(bfd, packet);
    bool answer = bfd->final;
    bfd->final = false;
    uint64_t interval = (uint64_t)larger(desired_tx_us(bfd), bfd->remote_min_rx_us) * 1000;
    // 75 % to 100 % of it, at most 90 % when one packet lost is one too many.
    uint32_t most = bfd->config.multiplier == 1 ? 15 : 25;
    interval = interval * (75 + next_random(bfd) % (most + 1)) / 100;
    if (!answer || bfd->next_tx_ns + interval <= now_ns)
        bfd->next_tx_ns = now_ns + interval;
    else
        bfd->next_tx_ns += interval;
    return size;
}

void bfd_admin(struct bfd *bfd, bool down, uint64_t now_ns)
{
    if (down)
        change(bfd, BFD_ADMIN_DOWN, BFD_DIAG_ADMIN_DOWN, now_ns);
    else if (bfd->state == BFD_ADMIN_DOWN)
        change(bfd, BFD_DOWN, BFD_DIAG_NONE, now_ns);
}
