// Transport-wide congestion control feedback; see twcc.h.
#include "twcc.h"
#include "bytes.h"
#include "rtcp.h"
#include "rtp.h"
#include <errno.h>

enum {
    SYMBOL_LOST = 0,
    SYMBOL_SMALL = 1, // delta of one byte, unsigned
    SYMBOL_LARGE = 2, // delta of two bytes, signed
    FCI_HEAD = 8,
    RUN_MAX = 8191,
    BITS1 = 14, // statuses of a vector chunk with one bit each
    BITS2 = 7,  // with two
};

static uint64_t *slot(struct twcc_receiver *receiver, uint64_t seq)
{
    return &receiver->arrival[seq % TWCC_WINDOW];
}

void twcc_receive(struct twcc_receiver *receiver, uint16_t seq, uint64_t arrival_ns)
{
    if (!receiver->started) {
        receiver->started = true;
        receiver->highest = RTP_SEQ_START(seq);
        receiver->next = receiver->highest;
    }
    uint64_t before = receiver->highest;
    uint64_t number = rtp_unwrap_seq(&receiver->highest, seq);
    uint64_t gap = receiver->highest - before;

    for (uint64_t i = 1; i <= gap && i <= TWCC_WINDOW; i++)
        *slot(receiver, before + i) = 0;
    if (receiver->highest - number >= TWCC_WINDOW)
        return;
    if (receiver->highest - receiver->next >= TWCC_WINDOW && receiver->next <= receiver->highest)
        receiver->next = receiver->highest - TWCC_WINDOW + 1;
    if (*slot(receiver, number) != 0)
        return;
    *slot(receiver, number) = arrival_ns != 0 ? arrival_ns : 1;
    if (number < receiver->next)
        receiver->next = number;
}

bool twcc_pending(const struct twcc_receiver *receiver)
{
    return receiver->started && receiver->next <= receiver->highest;
}

// One feedback packet before it is chunks and deltas.
struct plan {
    uint8_t symbol[TWCC_WINDOW];
    int16_t delta[TWCC_WINDOW]; // of received ones, in order
    size_t statuses, received;
    size_t delta_bytes;
    uint64_t reference; // in TWCC_REFERENCE_NS
};

// A chunk holds at least BITS2 statuses unless it is the last.
static size_t worst_bytes(size_t statuses, size_t delta_bytes)
{
    size_t bytes = TWCC_OVERHEAD + (statuses + BITS2 - 1) / BITS2 * 2 + delta_bytes;
    return (bytes + 3) & ~(size_t)3;
}

// As many statuses as surely fit `room` bytes and have deltas of 16 bits.
static void make_plan(struct plan *plan, struct twcc_receiver *receiver, size_t room)
{
    uint64_t time = 0; // of the last delta, in TWCC_TICK_NS

    plan->statuses = plan->received = plan->delta_bytes = 0;
    plan->reference = 0;
    for (uint64_t seq = receiver->next; seq <= receiver->highest; seq++) {
        uint64_t arrival = *slot(receiver, seq);
        uint8_t symbol = SYMBOL_LOST;
        int64_t delta = 0;
        uint64_t ticks = (arrival + TWCC_TICK_NS / 2) / TWCC_TICK_NS;
        if (arrival != 0) {
            if (plan->received == 0) {
                plan->reference = ticks / (TWCC_REFERENCE_NS / TWCC_TICK_NS);
                time = plan->reference * (TWCC_REFERENCE_NS / TWCC_TICK_NS);
            }
            delta = (int64_t)(ticks - time);
            symbol = delta >= 0 && delta <= UINT8_MAX ? SYMBOL_SMALL : SYMBOL_LARGE;
        }
        // A symbol's number is the length of its delta.
        if (delta < INT16_MIN || delta > INT16_MAX ||
            worst_bytes(plan->statuses + 1, plan->delta_bytes + symbol) > room)
            return;
        if (arrival != 0) {
            plan->delta[plan->received++] = (int16_t)delta;
            plan->delta_bytes += symbol;
            time = ticks;
        }
        plan->symbol[plan->statuses++] = symbol;
    }
}

// The longest chunk for the `left` statuses at `symbol`. Returns how many it holds.
static size_t make_chunk(const uint8_t *symbol, size_t left, uint16_t *chunk)
{
    size_t run = 1, plain = 0;

    while (run < left && run < RUN_MAX && symbol[run] == symbol[0])
        run++;
    while (plain < left && plain < BITS1 && symbol[plain] != SYMBOL_LARGE)
        plain++;
    bool one_bit = plain == BITS1 || plain == left;
    size_t vector = one_bit ? BITS1 : BITS2;
    if (run >= vector || run == left) {
        *chunk = (uint16_t)(symbol[0] << 13 | run);
        return run;
    }
    if (vector > left)
        vector = left;
    *chunk = one_bit ? 0x8000 : 0xc000;
    for (size_t i = 0; i < vector; i++)
        *chunk |= (uint16_t)(one_bit ? symbol[i] << (13 - i) : symbol[i] << (12 - 2 * i));
    return vector;
}

static uint8_t *put_chunks(uint8_t *p, const struct plan *plan)
{
    for (size_t i = 0; i < plan->statuses; p += 2) {
        uint16_t chunk;
        i += make_chunk(plan->symbol + i, plan->statuses - i, &chunk);
        store_be16(p, chunk);
    }
    return p;
}

static uint8_t *put_deltas(uint8_t *p, const struct plan *plan)
{
    for (size_t i = 0; i < plan->received; i++) {
        if (plan->delta[i] >= 0 && plan->delta[i] <= UINT8_MAX) {
            *p++ = (uint8_t)plan->delta[i];
        } else {
            store_be16(p, (uint16_t)plan->delta[i]);
            p += 2;
        }
    }
    return p;
}

size_t twcc_write(struct twcc_receiver *receiver, uint8_t *buf, size_t size, size_t length,
                  uint32_t sender_ssrc, uint32_t media_ssrc)
{
    struct plan plan;

    if (!twcc_pending(receiver) || length > size)
        return 0;
    make_plan(&plan, receiver, size - length);
    if (plan.statuses == 0)
        return 0;
    uint8_t *head = buf + length;
    uint8_t *p = put_deltas(put_chunks(head + TWCC_OVERHEAD, &plan), &plan);
    // Zeros without P: what pads to a word is no multiple of four, and strict peers refuse that.
    while ((p - head) % 4 != 0)
        *p++ = 0;
    head[0] = 0x80 | RTPFB_TRANSPORT_CC;
    head[1] = RTCP_RTPFB;
    store_be16(head + 2, (uint16_t)((p - head) / 4 - 1));
    store_be32(head + 4, sender_ssrc);
    store_be32(head + 8, media_ssrc);
    store_be16(head + 12, (uint16_t)receiver->next);
    store_be16(head + 14, (uint16_t)plan.statuses);
    store_be24(head + 16, (uint32_t)plan.reference & 0xffffff);
    head[19] = receiver->feedback_count++;
    receiver->next += plan.statuses;
    return length + (size_t)(p - head);
}

static size_t chunk_capacity(uint16_t chunk)
{
    if (!(chunk & 0x8000))
        return chunk & RUN_MAX;
    return chunk & 0x4000 ? BITS2 : BITS1;
}

// Status `i` of a chunk.
static unsigned chunk_symbol(uint16_t chunk, size_t i)
{
    if (!(chunk & 0x8000))
        return chunk >> 13 & 3;
    return chunk & 0x4000 ? chunk >> (12 - 2 * i) & 3u : chunk >> (13 - i) & 1u;
}

int twcc_read_begin(struct twcc_reader *reader, const uint8_t *fci, size_t length)
{
    if (length < FCI_HEAD)
        return -EBADMSG;
    uint16_t count = load_be16(fci + 2);
    size_t at = FCI_HEAD, deltas = 0;

    for (size_t seen = 0; seen < count; at += 2) {
        if (length - at < 2)
            return -EBADMSG;
        uint16_t chunk = load_be16(fci + at);
        size_t capacity = chunk_capacity(chunk);
        if (capacity == 0)
            return -EBADMSG;
        for (size_t i = 0; i < capacity && seen < count; i++, seen++) {
            unsigned symbol = chunk_symbol(chunk, i);
            if (symbol > SYMBOL_LARGE)
                return -EBADMSG;
            deltas += symbol;
        }
    }
    if (count == 0 || deltas > length - at)
        return -EBADMSG;
    *reader = (struct twcc_reader){
        .chunk = fci + FCI_HEAD,
        .delta = fci + at,
        .seq = load_be16(fci),
        .left = count,
        .feedback_count = fci[7],
        .time_ns = (int64_t)load_be24(fci + 4) * TWCC_REFERENCE_NS,
    };
    return 0;
}

bool twcc_read_next(struct twcc_reader *reader, struct twcc_status *status)
{
    if (reader->left == 0)
        return false;
    if (reader->symbols == 0) {
        reader->bits = load_be16(reader->chunk);
        reader->symbols = (uint16_t)chunk_capacity(reader->bits);
        reader->chunk += 2;
    }
    unsigned symbol = chunk_symbol(reader->bits, chunk_capacity(reader->bits) - reader->symbols);
    if (symbol == SYMBOL_SMALL)
        reader->time_ns += (int64_t)reader->delta[0] * TWCC_TICK_NS;
    else if (symbol == SYMBOL_LARGE)
        reader->time_ns += (int64_t)(int16_t)load_be16(reader->delta) * TWCC_TICK_NS;
    reader->delta += symbol;
    reader->symbols--;
    reader->left--;
    status->seq = reader->seq++;
    status->received = symbol != SYMBOL_LOST;
    status->arrival_ns = reader->time_ns;
    return true;
}
