// The clock inside a video frame: a mark of 16 bytes, the time in ten groups of seven bits, and a
// CRC-32 in five. No byte is zero, so that it needs no emulation prevention in H.264 (7.4.1) and
// survives as it is wherever it stands.
#include "media_parts.h"
#include <string.h>

#define MARK 16
#define TIME 10

// Also the UUID of the SEI message (ITU-T H.264 D.1.6).
static const uint8_t mark[MARK] = {0x68, 0x69, 0x74, 0x6c, 0x65, 0x73, 0x73, 0x2d,
                                   0x62, 0x65, 0x65, 0x73, 0xc1, 0x0c, 0x4b, 0x21};

static uint32_t crc32_of(const uint8_t *data, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

void media_write_clock(uint8_t clock[MEDIA_CLOCK], uint64_t clock_ns)
{
    memcpy(clock, mark, MARK);
    for (unsigned i = 0; i < TIME; i++)
        clock[MARK + i] = 0x80 | (clock_ns >> (7 * i) & 0x7f);
    uint32_t crc = crc32_of(clock + MARK, TIME);
    for (unsigned i = 0; i < MEDIA_CLOCK - MARK - TIME; i++)
        clock[MARK + TIME + i] = 0x80 | (crc >> (7 * i) & 0x7f);
}

static bool read_at(const uint8_t *at, size_t left, uint64_t *clock_ns)
{
    if (left < MEDIA_CLOCK || memcmp(at, mark, MARK) != 0)
        return false;
    uint8_t same[MEDIA_CLOCK];
    uint64_t time = 0;
    for (unsigned i = 0; i < TIME; i++)
        time |= (uint64_t)(at[MARK + i] & 0x7f) << (7 * i);
    media_write_clock(same, time);
    if (memcmp(at, same, MEDIA_CLOCK) != 0)
        return false;
    *clock_ns = time;
    return true;
}

// An SEI NAL unit whose first message is ours: type 5, length 31 (one byte each).
static bool read_nal(const uint8_t *nal, size_t size, uint64_t *clock_ns)
{
    return size > 3 && (nal[0] & 0x1f) == 6 && nal[1] == 5 && nal[2] == MEDIA_CLOCK &&
           read_at(nal + 3, size - 3, clock_ns);
}

static bool read_h264(const uint8_t *payload, size_t size, uint64_t *clock_ns)
{
    if ((payload[0] & 0x1f) != 24) // STAP-A
        return read_nal(payload, size, clock_ns);
    for (size_t at = 1; at + 2 < size;) {
        size_t length = (size_t)payload[at] << 8 | payload[at + 1];
        at += 2;
        if (length > size - at)
            return false;
        if (read_nal(payload + at, length, clock_ns))
            return true;
        at += length;
    }
    return false;
}

// The next OBU element of an AV1 payload, as the aggregation header's W tells.
static bool next_element(const uint8_t *payload, size_t size, size_t *at, unsigned number,
                         size_t *length)
{
    unsigned count = payload[0] >> 4 & 3;
    if (*at >= size || (count > 0 && number >= count))
        return false;
    *length = 0;
    if (count > 0 && number == count - 1) {
        *length = size - *at;
        return true;
    }
    for (unsigned shift = 0; shift < 28 && *at < size; shift += 7) {
        uint8_t byte = payload[(*at)++];
        *length |= (size_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return *length <= size - *at;
    }
    return false;
}

static bool read_av1(const uint8_t *payload, size_t size, uint64_t *clock_ns)
{
    static const uint8_t head[MEDIA_OBU_HEAD] = {MEDIA_OBU_CLOCK};
    size_t at = 1, length;
    for (unsigned i = 0; next_element(payload, size, &at, i, &length); i++) {
        const uint8_t *obu = payload + at;
        at += length;
        if (length > sizeof(head) && memcmp(obu, head, sizeof(head)) == 0 &&
            read_at(obu + sizeof(head), length - sizeof(head), clock_ns))
            return true;
    }
    return false;
}

bool media_read_clock(enum codec codec, const uint8_t *payload, size_t length, uint64_t *clock_ns)
{
    if (length < MEDIA_CLOCK)
        return false;
    switch (codec) {
    case CODEC_VP8:
        return read_at(payload + length - MEDIA_CLOCK, MEDIA_CLOCK, clock_ns);
    case CODEC_H264:
        return read_h264(payload, length, clock_ns);
    case CODEC_AV1:
        return read_av1(payload, length, clock_ns);
    default:
        return false;
    }
}
