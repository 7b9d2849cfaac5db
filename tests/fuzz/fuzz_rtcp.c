// Fuzz target: RTCP, transport-wide feedback included. Every view of every packet of a compound;
// NACK lists and feedback that are written from what was read come back as they were.
#include "../../dataplane/rtcp.h"
#include "../../dataplane/twcc.h"
#include <stdlib.h>
#include <string.h>

static void must(bool truth)
{
    if (!truth)
        abort();
}

static uint32_t touch(const uint8_t *p, size_t length)
{
    uint32_t sum = 0;
    while (length-- > 0)
        sum += *p++;
    return sum;
}

static void read_reports(const struct rtcp_packet *p)
{
    struct rtcp_sender sender;
    struct rtcp_block block;
    uint32_t ssrc;
    uint8_t seq;

    rtcp_read_sr(p, &sender);
    rtcp_read_sender_ssrc(p, &ssrc);
    for (unsigned i = 0; i <= RTCP_BLOCKS_MAX; i++) {
        must(!rtcp_read_block(p, i, &block) || i < p->count);
        rtcp_read_bye(p, i, &ssrc);
        rtcp_read_fir(p, i, &ssrc, &seq);
    }
}

static void read_sdes(const struct rtcp_packet *p)
{
    struct rtcp_sdes_iter iter;
    struct rtcp_sdes_item item;

    if (!rtcp_sdes_begin(&iter, p))
        return;
    while (rtcp_sdes_next(&iter, &item)) {
        must(item.text + item.length <= p->data + p->length);
        touch(item.text, item.length);
    }
}

static void read_nack(const struct rtcp_packet *p)
{
    struct rtcp_nack_iter iter;
    uint16_t list[64], seq;
    uint8_t out[512];
    size_t count = 0;

    if (!rtcp_nack_begin(&iter, p))
        return;
    while (rtcp_nack_next(&iter, &seq))
        if (count < 64 && (count == 0 || (uint16_t)(seq - list[count - 1] - 1) < 0x7fff))
            list[count++] = seq;
    size_t length = rtcp_write_nack(out, sizeof(out), 0, 1, 2, list, count);
    struct rtcp_iter compound;
    struct rtcp_packet again;
    rtcp_begin(&compound, out, length);
    must(rtcp_next(&compound, &again) == 1 && rtcp_nack_begin(&iter, &again));
    for (size_t i = 0; i < count; i++)
        must(rtcp_nack_next(&iter, &seq) && seq == list[i]);
    must(!rtcp_nack_next(&iter, &seq));
}

// What a sender read is noted by a receiver, whose own feedback must be sound.
static void read_twcc(const struct rtcp_feedback *fb)
{
    static struct twcc_receiver receiver;
    struct twcc_reader reader;
    struct twcc_status status;
    uint8_t out[300];

    if (twcc_read_begin(&reader, fb->fci, fb->fci_length) != 0)
        return;
    while (twcc_read_next(&reader, &status))
        if (status.received && status.arrival_ns > 0)
            twcc_receive(&receiver, status.seq, (uint64_t)status.arrival_ns);
    while (twcc_pending(&receiver)) {
        size_t length = twcc_write(&receiver, out, sizeof(out), 0, 1, 2);
        struct rtcp_iter iter;
        struct rtcp_packet packet;
        struct rtcp_feedback own;
        rtcp_begin(&iter, out, length);
        must(rtcp_next(&iter, &packet) == 1 && rtcp_read_feedback(&packet, &own));
        must(twcc_read_begin(&reader, own.fci, own.fci_length) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rtcp_iter iter;
    struct rtcp_packet p;
    struct rtcp_feedback fb;
    struct rtcp_remb remb;
    int rc;

    rtcp_begin(&iter, data, size);
    while ((rc = rtcp_next(&iter, &p)) > 0) {
        must(p.data >= data && p.data + p.length <= data + size && p.length >= 4);
        read_reports(&p);
        read_sdes(&p);
        read_nack(&p);
        rtcp_is_pli(&p);
        if (rtcp_read_remb(&p, &remb))
            touch(remb.ssrcs, (size_t)remb.count * 4);
        if (rtcp_read_feedback(&p, &fb) && p.type == RTCP_RTPFB && fb.format == RTPFB_TRANSPORT_CC)
            read_twcc(&fb);
    }
    must((rtcp_check(data, size) == 0) == (rc == 0 && size > 0));
    return 0;
}
