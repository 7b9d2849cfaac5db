// Fuzz target: RTP. Header, extensions (read, written again, read again), key frames, RTX, numbers.
#include "../../dataplane/rtp.h"
#include <stdlib.h>
#include <string.h>

static void must(bool truth)
{
    if (!truth)
        abort();
}

// Extensions found are written again, and come back as they were.
static void rewrite(const struct rtp_view *view)
{
    struct rtp_ext list[64], again;
    struct rtp_ext_iter iter;
    uint8_t out[RTP_HEADER + 4 + 2048];
    struct rtp_view written;
    size_t count = 0, bytes = 0;

    rtp_ext_begin(&iter, view);
    while (count < 64 && rtp_ext_next(&iter, &list[count])) {
        must(list[count].data >= view->packet + view->ext);
        must(list[count].data + list[count].length <= view->packet + view->ext + view->ext_length);
        bytes += list[count++].length;
    }
    size_t length = rtp_ext_write(out + RTP_HEADER, sizeof(out) - RTP_HEADER, list, count);
    must(count == 0 ? length == 0 : length > 0 || bytes > 1900);
    if (length == 0)
        return;
    rtp_header_write(out, &(struct rtp_header){.extension = true});
    must(rtp_parse(out, RTP_HEADER + length, &written) == 0);
    rtp_ext_begin(&iter, &written);
    for (size_t i = 0; i < count; i++) {
        must(rtp_ext_next(&iter, &again));
        must(again.id == list[i].id && again.length == list[i].length);
        must(memcmp(again.data, list[i].data, again.length) == 0);
    }
    must(!rtp_ext_next(&iter, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rtp_rx_stats stats;
    struct rtp_report_fields fields;
    struct rtp_view clear, view;
    uint16_t osn;

    // A payload without a header: the detectors take any bytes.
    for (int codec = CODEC_NONE; codec < CODECS; codec++)
        rtp_is_keyframe((enum codec)codec, data, size);
    if (rtp_parse_header(data, size, &clear) != 0) {
        must(rtp_parse(data, size, &view) != 0);
        return 0;
    }
    must((size_t)clear.header + clear.payload_length == size);
    if (rtp_parse(data, size, &view) != 0)
        return 0;
    must((size_t)view.header + view.payload_length + view.padding == size);
    rewrite(&view);
    for (int codec = CODEC_NONE; codec < CODECS; codec++)
        rtp_is_keyframe((enum codec)codec, data + view.header, view.payload_length);
    rtp_rtx_osn(&view, &osn);
    uint64_t number = rtp_rx_update(&stats, view.seq, view.timestamp, view.ssrc);
    must((uint16_t)number == view.seq);
    rtp_rx_report(&stats, &fields);
    return 0;
}
