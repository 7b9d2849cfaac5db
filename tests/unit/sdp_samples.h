// Offers of real clients (tests/unit/sdp): Chromium 156 and GStreamer 1.22 wrote theirs, the others
// are written after what those clients are known to send.
#ifndef HITLESS_TEST_SDP_SAMPLES_H
#define HITLESS_TEST_SDP_SAMPLES_H

#include "../../controlplane/sdp_answer.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gst/sdp/gstsdpmessage.h>

struct sample {
    char *text; // of exactly `size` bytes, so that a sanitizer sees a read behind it
    size_t size;
};

static inline struct sample sample_read(const char *name)
{
    struct sample sample = {0};
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.sdp", SDP_SAMPLES, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    sample.size = (size_t)ftell(file);
    rewind(file);
    sample.text = malloc(sample.size);
    assert_int_equal(fread(sample.text, 1, sample.size, file), sample.size);
    fclose(file);
    return sample;
}

// Calls `visit` with each sample there is; returns how many.
static inline int samples_each(void (*visit)(const struct sample *))
{
    DIR *dir = opendir(SDP_SAMPLES);
    struct dirent *entry;
    int count = 0;
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".sdp"))
            continue;
        *dot = '\0';
        struct sample sample = sample_read(entry->d_name);
        visit(&sample);
        free(sample.text);
        count++;
    }
    closedir(dir);
    return count;
}

static inline struct sdp *parse_good(const char *text, size_t size)
{
    struct sdp *sdp = malloc(sizeof(*sdp));
    struct sdp_error error;
    memset(sdp, 0xa5, sizeof(*sdp));
    if (sdp_parse(sdp, text, size, &error))
        fail_msg("line %u: %s", error.line, error.reason);
    return sdp;
}

static inline bool view_equals(struct sdp_view view, const char *text)
{
    return sdp_view_is(view, text ? text : "");
}

// What gstsdp makes of the same text must be what our parser made of it.
static inline void check_against_gstsdp(const char *text, size_t size, const struct sdp *sdp)
{
    GstSDPMessage *message;
    gst_sdp_message_new(&message);
    assert_int_equal(gst_sdp_message_parse_buffer((const guint8 *)text, (guint)size, message),
                     GST_SDP_OK);
    assert_int_equal(gst_sdp_message_medias_len(message), sdp->medias);
    for (guint m = 0; m < sdp->medias; m++) {
        const GstSDPMedia *theirs = gst_sdp_message_get_media(message, m);
        const struct sdp_media *ours = &sdp->media[m];
        assert_true(view_equals(ours->type, gst_sdp_media_get_media(theirs)));
        assert_true(view_equals(ours->proto, gst_sdp_media_get_proto(theirs)));
        assert_int_equal(ours->port, gst_sdp_media_get_port(theirs));
        assert_true(view_equals(ours->mid, gst_sdp_media_get_attribute_val(theirs, "mid")));
        assert_true(view_equals(ours->fmt, gst_sdp_media_get_format(theirs, 0)));
        assert_int_equal(ours->rtcp_mux, !!gst_sdp_media_get_attribute_val(theirs, "rtcp-mux"));
        if (!ours->rtp)
            continue;
        assert_int_equal(ours->formats, gst_sdp_media_formats_len(theirs));
        for (guint f = 0; f < ours->formats; f++)
            assert_int_equal(ours->format[f].pt, atoi(gst_sdp_media_get_format(theirs, f)));
        for (guint a = 0; a < gst_sdp_media_attributes_len(theirs); a++) {
            const GstSDPAttribute *attribute = gst_sdp_media_get_attribute(theirs, a);
            int pt = atoi(attribute->value ? attribute->value : "");
            const char *rest = strchr(attribute->value ? attribute->value : "", ' ');
            for (int f = 0; f < ours->formats && rest; f++) {
                const struct sdp_format *format = &ours->format[f];
                char map[128];
                if (format->pt != pt)
                    continue;
                snprintf(map, sizeof(map), "%.*s/%u", (int)format->encoding.len,
                         format->encoding.at, format->clock_rate);
                if (!strcmp(attribute->key, "rtpmap"))
                    assert_int_equal(strncmp(rest + 1, map, strlen(map)), 0);
                if (!strcmp(attribute->key, "fmtp"))
                    assert_true(view_equals(format->fmtp, rest));
            }
        }
    }
    gst_sdp_message_free(message);
}

#endif
