// RTP headers, extensions, sequence numbers, key frames and reception statistics; see rtp.h.
#include "rtp.h"
#include "bytes.h"
#include <errno.h>

int rtp_parse_header(const uint8_t *packet, size_t length, struct rtp_view *view)
{
    if (length < RTP_HEADER || length > UINT16_MAX || packet[0] >> 6 != 2)
        return -EBADMSG;
    size_t header = RTP_HEADER + (size_t)(packet[0] & 15) * 4;
    *view = (struct rtp_view){
        .packet = packet,
        .length = (uint16_t)length,
        .seq = load_be16(packet + 2),
        .timestamp = load_be32(packet + 4),
        .ssrc = load_be32(packet + 8),
        .pt = packet[1] & 0x7f,
        .marker = packet[1] >> 7,
        .csrc_count = packet[0] & 15,
    };
    if (header > length)
        return -EBADMSG;
    if (packet[0] & 0x10) {
        if (length - header < 4)
            return -EBADMSG;
        size_t bytes = (size_t)load_be16(packet + header + 2) * 4;
        view->ext_profile = load_be16(packet + header);
        header += 4;
        if (bytes > length - header)
            return -EBADMSG;
        view->ext = (uint16_t)header;
        view->ext_length = (uint16_t)bytes;
        header += bytes;
    }
    view->header = (uint16_t)header;
    view->payload_length = (uint16_t)(length - header);
    return 0;
}

int rtp_parse(const uint8_t *packet, size_t length, struct rtp_view *view)
{
    int rc = rtp_parse_header(packet, length, view);
    if (rc != 0 || !(packet[0] & 0x20))
        return rc;
    uint8_t padding = packet[length - 1];
    if (padding == 0 || padding > view->payload_length)
        return -EBADMSG;
    view->padding = padding;
    view->payload_length -= padding;
    return 0;
}

void rtp_ext_begin(struct rtp_ext_iter *iter, const struct rtp_view *view)
{
    iter->at = view->packet + view->ext;
    iter->end = iter->at + view->ext_length;
    iter->profile = view->ext_profile;
}

static bool ext_next_one(struct rtp_ext_iter *iter, struct rtp_ext *ext)
{
    uint8_t head = *iter->at++;
    ext->id = head >> 4;
    ext->length = (head & 15) + 1;
    ext->data = iter->at;
    // RFC 8285 4.2: id 15, and id 0 that claims a length, end the walk.
    if (ext->id == 15 || ext->id == 0 || ext->length > iter->end - iter->at)
        return false;
    iter->at += ext->length;
    return true;
}

static bool ext_next_two(struct rtp_ext_iter *iter, struct rtp_ext *ext)
{
    if (iter->end - iter->at < 2)
        return false;
    ext->id = iter->at[0];
    ext->length = iter->at[1];
    ext->data = iter->at + 2;
    if (ext->length > iter->end - ext->data)
        return false;
    iter->at = ext->data + ext->length;
    return true;
}

bool rtp_ext_next(struct rtp_ext_iter *iter, struct rtp_ext *ext)
{
    bool found = false;

    while (iter->at < iter->end && *iter->at == 0)
        iter->at++;
    if (iter->at == iter->end)
        return false;
    if (iter->profile == RTP_EXT_ONE)
        found = ext_next_one(iter, ext);
    else if ((iter->profile & 0xfff0) == RTP_EXT_TWO)
        found = ext_next_two(iter, ext);
    if (!found)
        iter->at = iter->end;
    return found;
}

bool rtp_ext_find(const struct rtp_view *view, uint8_t id, struct rtp_ext *ext)
{
    struct rtp_ext_iter iter;

    rtp_ext_begin(&iter, view);
    while (rtp_ext_next(&iter, ext))
        if (ext->id == id)
            return true;
    return false;
}

size_t rtp_ext_write(uint8_t *out, size_t size, const struct rtp_ext *list, size_t count)
{
    bool one = true;
    size_t data = 0;

    for (size_t i = 0; i < count; i++) {
        if (list[i].id == 0)
            return 0;
        if (list[i].id > 14 || list[i].length == 0 || list[i].length > 16)
            one = false;
        data += list[i].length;
    }
    size_t used = 4 + data + count * (one ? 1 : 2);
    size_t total = (used + 3) & ~(size_t)3;
    if (count == 0 || total > size || (total - 4) / 4 > UINT16_MAX)
        return 0;
    store_be16(out, one ? RTP_EXT_ONE : RTP_EXT_TWO);
    store_be16(out + 2, (uint16_t)((total - 4) / 4));
    uint8_t *p = out + 4;
    for (size_t i = 0; i < count; i++) {
        if (one) {
            *p++ = (uint8_t)(list[i].id << 4 | (list[i].length - 1));
        } else {
            *p++ = list[i].id;
            *p++ = list[i].length;
        }
        if (list[i].length > 0)
            memcpy(p, list[i].data, list[i].length);
        p += list[i].length;
    }
    memset(p, 0, total - used);
    return total;
}

void rtp_header_write(uint8_t *out, const struct rtp_header *header)
{
    out[0] = (uint8_t)(0x80 | header->padding << 5 | header->extension << 4);
    out[1] = (uint8_t)(header->marker << 7 | (header->pt & 0x7f));
    store_be16(out + 2, header->seq);
    store_be32(out + 4, header->timestamp);
    store_be32(out + 8, header->ssrc);
}

uint64_t rtp_nearest_seq(uint64_t highest, uint16_t seq)
{
    int16_t ahead = (int16_t)(seq - (uint16_t)highest);

    if (ahead < 0 && highest < (uint64_t)-ahead)
        return highest + 0x10000 - (uint64_t)-ahead;
    return highest + (uint64_t)(int64_t)ahead;
}

uint64_t rtp_unwrap_seq(uint64_t *highest, uint16_t seq)
{
    uint64_t extended = rtp_nearest_seq(*highest, seq);
    if (extended > *highest)
        *highest = extended;
    return extended;
}

static bool vp8_keyframe(const uint8_t *p, size_t length)
{
    // RFC 7741 4.2: the S bit with partition 0 starts a frame.
    if (length < 1 || (p[0] & 0x17) != 0x10)
        return false;
    size_t at = 1;
    if (p[0] & 0x80) {
        if (length < 2)
            return false;
        uint8_t x = p[1];
        at = 2;
        if (x & 0x80) {
            if (at >= length)
                return false;
            at += p[at] & 0x80 ? 2 : 1; // 15- or 7-bit picture id
        }
        at += (x & 0x40) != 0; // TL0PICIDX
        at += (x & 0x30) != 0; // TID, KEYIDX
    }
    return at < length && (p[at] & 1) == 0;
}

static bool vp9_keyframe(const uint8_t *p, size_t length)
{
    enum { I = 0x80, P = 0x40, L = 0x20, B = 0x08 };

    if (length < 1 || (p[0] & P) || !(p[0] & B))
        return false;
    if (!(p[0] & L))
        return true;
    size_t at = 1;
    if (p[0] & I) {
        if (at >= length)
            return false;
        at += p[at] & 0x80 ? 2 : 1;
    }
    return at < length && (p[at] & 0x0e) == 0; // spatial layer 0
}

static bool h264_starts(uint8_t type)
{
    return type == 5 || type == 7; // IDR, SPS
}

static bool h264_keyframe(const uint8_t *p, size_t length)
{
    if (length < 1)
        return false;
    uint8_t type = p[0] & 31;
    if (type == 28) // FU-A
        return length >= 2 && (p[1] & 0x80) && h264_starts(p[1] & 31);
    if (type != 24) // STAP-A
        return h264_starts(type);
    for (size_t at = 1; length - at > 2;) {
        size_t nal = load_be16(p + at);
        at += 2;
        if (nal == 0 || nal > length - at)
            return false;
        if (h264_starts(p[at] & 31))
            return true;
        at += nal;
    }
    return false;
}

static bool h265_starts(uint8_t type)
{
    return (type >= 16 && type <= 23) || type == 32 || type == 33; // IRAP, VPS, SPS
}

static bool h265_keyframe(const uint8_t *p, size_t length)
{
    if (length < 2)
        return false;
    uint8_t type = p[0] >> 1 & 63;
    if (type == 49) // FU
        return length >= 3 && (p[2] & 0x80) && h265_starts(p[2] & 63);
    if (type != 48) // AP
        return h265_starts(type);
    for (size_t at = 2; length - at > 2;) {
        size_t nal = load_be16(p + at);
        at += 2;
        if (nal < 2 || nal > length - at)
            return false;
        if (h265_starts(p[at] >> 1 & 63))
            return true;
        at += nal;
    }
    return false;
}

static bool av1_keyframe(const uint8_t *p, size_t length)
{
    return length >= 2 && (p[0] & 0x88) == 0x08; // N, and not a continued OBU (Z)
}

bool rtp_is_keyframe(enum codec codec, const uint8_t *payload, size_t length)
{
    switch (codec) {
    case CODEC_VP8:
        return vp8_keyframe(payload, length);
    case CODEC_VP9:
        return vp9_keyframe(payload, length);
    case CODEC_H264:
        return h264_keyframe(payload, length);
    case CODEC_H265:
        return h265_keyframe(payload, length);
    case CODEC_AV1:
        return av1_keyframe(payload, length);
    default:
        return true;
    }
}

int rtp_rtx_osn(const struct rtp_view *view, uint16_t *osn)
{
    if (view->payload_length < RTP_RTX_OSN)
        return -EBADMSG;
    *osn = load_be16(view->packet + view->header);
    return 0;
}

void rtp_rtx_write_osn(uint8_t *payload, uint16_t osn)
{
    store_be16(payload, osn);
}

static void update_jitter(struct rtp_rx_stats *stats, uint32_t transit)
{
    int32_t d = (int32_t)(transit - stats->transit);
    uint32_t change = d < 0 ? 0u - (uint32_t)d : (uint32_t)d;

    stats->transit = transit;
    stats->jitter_q4 += change - ((stats->jitter_q4 + 8) >> 4);
}

uint64_t rtp_rx_update(struct rtp_rx_stats *stats, uint16_t seq, uint32_t timestamp,
                       uint32_t arrival)
{
    uint32_t transit = arrival - timestamp;

    if (!stats->started) {
        *stats = (struct rtp_rx_stats){
            .highest = RTP_SEQ_START(seq),
            .base = RTP_SEQ_START(seq),
            .received = 1,
            .transit = transit,
            .started = true,
        };
        return stats->highest;
    }
    uint64_t extended = rtp_unwrap_seq(&stats->highest, seq);
    if (extended < stats->base)
        stats->base = extended;
    stats->received++;
    update_jitter(stats, transit);
    return extended;
}

void rtp_rx_recovered(struct rtp_rx_stats *stats)
{
    stats->received++;
}

void rtp_rx_report(struct rtp_rx_stats *stats, struct rtp_report_fields *fields)
{
    *fields = (struct rtp_report_fields){0};
    if (!stats->started)
        return;
    uint64_t expected = stats->highest - stats->base + 1;
    int64_t lost = (int64_t)(expected - stats->received);
    uint64_t expected_now = expected - stats->expected_prior;
    int64_t lost_now = (int64_t)(expected_now - (stats->received - stats->received_prior));

    stats->expected_prior = expected;
    stats->received_prior = stats->received;
    if (lost_now > 0) // then expected_now is not 0
        fields->fraction_lost = lost_now >= (int64_t)expected_now
                                    ? 255
                                    : (uint8_t)((lost_now << 8) / (int64_t)expected_now);
    fields->cumulative_lost = lost > 0x7fffff    ? 0x7fffff
                              : lost < -0x800000 ? -0x800000
                                                 : (int32_t)lost;
    fields->highest_seq = (uint32_t)(stats->highest - RTP_SEQ_START(0));
    fields->jitter = stats->jitter_q4 >> 4;
}

uint32_t rtp_clock(uint64_t ns, uint32_t rate)
{
    uint64_t seconds = ns / 1000000000, rest = ns % 1000000000;
    return (uint32_t)(seconds * rate + rest * rate / 1000000000);
}
