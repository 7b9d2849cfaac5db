// SRTP and SRTCP opening on arbitrary bytes, and sealing then opening of arbitrary RTCP. The first
// byte picks profile, protocol and whether it happens in place.
#include "../../dataplane/protect.h"
#include <stdlib.h>

#define SIZE_MAX_PACKET 2048

static const unsigned profiles[] = {PROFILE_AES128_CM_SHA1_80, PROFILE_AEAD_AES_128_GCM,
                                    PROFILE_AEAD_AES_256_GCM};

static struct protect *engine;
static struct protect_rx rx[3];
static struct protect_rtcp_tx rtcp_tx[3];
static struct protect_rtcp_rx rtcp_rx[3];

static void start(void)
{
    static const uint8_t master[48] = {1, 2, 3};
    if (protect_new(&engine))
        abort();
    for (int i = 0; i < 3; i++)
        if (protect_rx_init(engine, &rx[i], profiles[i], master) ||
            protect_rtcp_tx_init(&rtcp_tx[i], profiles[i], master) ||
            protect_rtcp_rx_init(&rtcp_rx[i], profiles[i], master))
            abort();
}

static uint32_t word_at(const uint8_t *p, size_t size, size_t at)
{
    return size < at + 4 ? 0
                         : (uint32_t)p[at] << 24 | (uint32_t)p[at + 1] << 16 |
                               (uint32_t)p[at + 2] << 8 | p[at + 3];
}

// `in` and `out` are exactly as large as the packet, so that one byte too far is seen.
static void open_bytes(unsigned which, bool rtcp, uint8_t *in, size_t size, uint8_t *out)
{
    struct protect_source source = {.ssrc = word_at(in, size, 8)}, before = source;
    struct protect_rtcp_source rtcp_source = {.ssrc = word_at(in, size, 4)},
                               rtcp_before = rtcp_source;
    size_t out_size;
    uint64_t index;
    uint32_t rtcp_index;
    int rc = rtcp ? protect_rtcp_open(engine, &rtcp_rx[which], &rtcp_source, in, size, out,
                                      &out_size, &rtcp_index)
                  : protect_open(engine, &rx[which], &source, in, size, out, &out_size, &index);
    if (rc && (memcmp(&source, &before, sizeof(source)) ||
               memcmp(&rtcp_source, &rtcp_before, sizeof(rtcp_source))))
        abort();
    if (!rc && out_size >= size)
        abort();
}

static void round_trip(unsigned which, const uint8_t *plain, size_t size)
{
    uint8_t *packet = malloc(size + PROTECT_RTCP_ROOM);
    size_t sealed, opened;
    uint32_t index;
    if (!packet)
        return;
    memcpy(packet, plain, size);
    struct protect_rtcp_source source = {.ssrc = word_at(plain, size, 4)};
    if (!protect_rtcp_seal(engine, &rtcp_tx[which], packet, size, 7, &sealed) &&
        plain[0] >> 6 == 2) {
        if (protect_rtcp_open(engine, &rtcp_rx[which], &source, packet, sealed, packet, &opened,
                              &index) ||
            opened != size || index != 7 || memcmp(packet, plain, size))
            abort();
    }
    free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!engine)
        start();
    if (size < 2 || size > SIZE_MAX_PACKET)
        return 0;
    unsigned which = data[0] % 3;
    bool rtcp = data[0] & 0x40, in_place = data[0] & 0x80;
    data++, size--;
    uint8_t *in = malloc(size), *out = in_place ? in : malloc(size);
    if (in && out) {
        memcpy(in, data, size);
        open_bytes(which, rtcp, in, size, out);
        round_trip(which, data, size);
    }
    if (out != in)
        free(out);
    free(in);
    return 0;
}
