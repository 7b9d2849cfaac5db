// RTP payloads of frames: VP8 (RFC 7741), VP9 (RFC 9628), H.264 (RFC 6184, packetization-mode 1),
// AV1 (AOM's RTP specification), each with the clock where its format has room for it.
//
// Pure; any thread. A payload is put together in a buffer and handed out at once.
#include "media_parts.h"
#include <string.h>

struct cut {
    struct media_packet *packet;
    media_emit_fn emit;
    void *opaque;
    size_t length; // bytes in `buffer`
    uint8_t buffer[MEDIA_PAYLOAD_MAX];
};

static void cut_put(struct cut *cut, const void *data, size_t size)
{
    if (size > 0)
        memcpy(cut->buffer + cut->length, data, size);
    cut->length += size;
}

static void cut_out(struct cut *cut, bool marker)
{
    cut->packet->payload = cut->buffer;
    cut->packet->length = cut->length;
    cut->packet->marker = marker;
    cut->emit(cut->opaque, cut->packet);
    cut->packet->first = false;
    cut->length = 0;
}

// Packets of even size, each behind a descriptor, `tail` at the end of the last one.
static void cut_even(struct cut *cut, const uint8_t *frame, size_t length, const uint8_t *tail,
                     size_t tail_size,
                     size_t (*descriptor)(uint8_t *, const struct media_packet *,
                                          const struct media_state *, bool last),
                     const struct media_state *state)
{
    enum { DESCRIPTOR = 16 };
    size_t room = MEDIA_PAYLOAD_MAX - DESCRIPTOR;
    size_t total = length + tail_size;
    size_t packets = (total + room - 1) / room;
    size_t share = (total + packets - 1) / packets;
    // The tail is never split: the last packet takes it whole.
    for (size_t at = 0;;) {
        size_t left = length - at;
        bool last = left + tail_size <= room;
        size_t take = last ? left : share < left ? share : left;
        cut->length = descriptor(cut->buffer, cut->packet, state, last);
        cut_put(cut, frame + at, take);
        at += take;
        if (last) {
            cut_put(cut, tail, tail_size);
            cut_out(cut, true);
            return;
        }
        cut_out(cut, false);
    }
}

// X S, I L T, 15-bit PictureID, TL0PICIDX, TID 0 (RFC 7741 4.2).
static size_t vp8_descriptor(uint8_t *out, const struct media_packet *packet,
                             const struct media_state *state, bool last)
{
    out[0] = 0x80 | (packet->first ? 0x10 : 0);
    out[1] = 0xe0;
    out[2] = 0x80 | (state->picture_id >> 8 & 0x7f);
    out[3] = (uint8_t)state->picture_id;
    out[4] = state->tl0;
    out[5] = 0;
    return 6;
}

// I P B E V, 15-bit PictureID, the scalability structure's size on key frames (RFC 9628 4.2).
static size_t vp9_descriptor(uint8_t *out, const struct media_packet *packet,
                             const struct media_state *state, bool last)
{
    bool structure = packet->keyframe && packet->first;
    out[0] = 0x80 | (packet->keyframe ? 0 : 0x40) | (packet->first ? 0x08 : 0) | (last ? 0x04 : 0) |
             (structure ? 0x02 : 0);
    out[1] = 0x80 | (state->picture_id >> 8 & 0x7f);
    out[2] = (uint8_t)state->picture_id;
    if (!structure)
        return 3;
    out[3] = 0x10; // one spatial layer, its size follows
    out[4] = (uint8_t)(state->width >> 8);
    out[5] = (uint8_t)state->width;
    out[6] = (uint8_t)(state->height >> 8);
    out[7] = (uint8_t)state->height;
    return 8;
}

static void put16(uint8_t *out, size_t value)
{
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
}

// FU-A (RFC 6184 5.8).
static void h264_fragment(struct cut *cut, const uint8_t *nal, size_t size, bool end)
{
    uint8_t indicator = (nal[0] & 0x60) | 28;
    size_t body = size - 1, room = MEDIA_PAYLOAD_MAX - 2;
    size_t count = (body + room - 1) / room, share = (body + count - 1) / count;
    for (size_t at = 0; at < body;) {
        size_t take = body - at < share ? body - at : share;
        bool last = at + take == body;
        uint8_t head[2] = {indicator, (nal[0] & 0x1f) | (at == 0 ? 0x80 : 0) | (last ? 0x40 : 0)};
        cut_put(cut, head, 2);
        cut_put(cut, nal + 1 + at, take);
        at += take;
        cut_out(cut, end && last);
    }
}

// What is gathered goes out: one unit as it is, several as a STAP-A (RFC 6184 5.7.1).
static void h264_flush(struct cut *cut, unsigned *gathered, bool end)
{
    if (*gathered == 1) {
        memmove(cut->buffer, cut->buffer + 3, cut->length - 3);
        cut->length -= 3;
    }
    if (*gathered > 0)
        cut_out(cut, end);
    *gathered = 0;
}

static void h264_nal(struct cut *cut, unsigned *gathered, const uint8_t *nal, size_t size, bool end)
{
    if (size > MEDIA_PAYLOAD_MAX - 3) { // too large even for a STAP-A of one, so for a packet
        h264_flush(cut, gathered, false);
        if (size > MEDIA_PAYLOAD_MAX)
            h264_fragment(cut, nal, size, end);
        else {
            cut_put(cut, nal, size);
            cut_out(cut, end);
        }
        return;
    }
    if (*gathered > 0 && cut->length + 2 + size > MEDIA_PAYLOAD_MAX)
        h264_flush(cut, gathered, false);
    if ((*gathered)++ == 0) {
        cut->buffer[0] = 24;
        cut->length = 1;
    }
    // The aggregate's NRI is the highest of its units'.
    if ((nal[0] & 0x60) > (cut->buffer[0] & 0x60))
        cut->buffer[0] = (nal[0] & 0x60) | 24;
    put16(cut->buffer + cut->length, size);
    cut->length += 2;
    cut_put(cut, nal, size);
    if (end)
        h264_flush(cut, gathered, true);
}

static void h264_frame(struct cut *cut, const uint8_t *frame, size_t length,
                       const struct media_state *state)
{
    uint8_t sei[3 + MEDIA_CLOCK + 1] = {6, 5, MEDIA_CLOCK};
    media_write_clock(sei + 3, state->clock_ns);
    sei[3 + MEDIA_CLOCK] = 0x80;
    unsigned gathered = 0;
    bool clocked = false;
    for (size_t at = 0; at < length;) {
        uint32_t size;
        memcpy(&size, frame + at, 4);
        const uint8_t *nal = frame + at + 4;
        at += 4 + size;
        uint8_t type = nal[0] & 0x1f;
        if (!clocked && type >= 1 && type <= 5) { // the first slice
            h264_nal(cut, &gathered, sei, sizeof(sei), false);
            clocked = true;
        }
        h264_nal(cut, &gathered, nal, size, at == length);
    }
}

// An OBU element, cut where the packet is full: a length in two bytes before each part (W is 0),
// Z and Y in the aggregation header where an OBU goes on.
static void av1_obu(struct cut *cut, const uint8_t *obu, size_t size, bool start)
{
    for (size_t at = 0; at < size;) {
        if (cut->length + 3 >= MEDIA_PAYLOAD_MAX)
            cut_out(cut, false);
        if (cut->length == 0) {
            cut->buffer[0] = (at > 0 ? 0x80 : 0) | (start && at == 0 ? 0x08 : 0);
            cut->length = 1;
        }
        size_t room = MEDIA_PAYLOAD_MAX - cut->length - 2;
        size_t take = size - at < room ? size - at : room;
        uint8_t leb[2] = {0x80 | (take & 0x7f), (uint8_t)(take >> 7)};
        cut_put(cut, leb, 2);
        cut_put(cut, obu + at, take);
        at += take;
        if (at < size) {
            cut->buffer[0] |= 0x40;
            cut_out(cut, false);
        }
    }
}

static void av1_frame(struct cut *cut, const uint8_t *frame, size_t length,
                      const struct media_state *state)
{
    uint8_t clock[MEDIA_OBU_HEAD + MEDIA_CLOCK + 1] = {MEDIA_OBU_CLOCK};
    media_write_clock(clock + MEDIA_OBU_HEAD, state->clock_ns);
    clock[MEDIA_OBU_HEAD + MEDIA_CLOCK] = 0x80; // trailing bits
    bool clocked = false;
    for (size_t at = 0; at < length;) {
        uint32_t size;
        memcpy(&size, frame + at, 4);
        const uint8_t *obu = frame + at + 4;
        if (!clocked && (obu[0] >> 3 & 0xf) != 1) { // behind a sequence header
            av1_obu(cut, clock, sizeof(clock), at == 0 && cut->packet->keyframe);
            clocked = true;
        }
        av1_obu(cut, obu, size, at == 0 && cut->packet->keyframe);
        at += 4 + size;
    }
    cut_out(cut, true);
}

void media_packets(enum codec codec, const uint8_t *frame, size_t length,
                   const struct media_state *state, struct media_packet *packet, media_emit_fn emit,
                   void *opaque)
{
    struct cut cut = {.packet = packet, .emit = emit, .opaque = opaque};
    uint8_t clock[MEDIA_CLOCK];
    packet->first = true;
    switch (codec) {
    case CODEC_VP8:
        media_write_clock(clock, state->clock_ns);
        cut_even(&cut, frame, length, clock, sizeof(clock), vp8_descriptor, state);
        return;
    case CODEC_VP9:
        cut_even(&cut, frame, length, NULL, 0, vp9_descriptor, state);
        return;
    case CODEC_H264:
        h264_frame(&cut, frame, length, state);
        return;
    case CODEC_AV1:
        av1_frame(&cut, frame, length, state);
        return;
    default: // Opus: a packet is a payload (RFC 7587 4.2)
        cut_put(&cut, frame, length);
        cut_out(&cut, packet->marker);
        return;
    }
}
