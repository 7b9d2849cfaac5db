// Negotiation: offers of real clients to tracks and answers; gstsdp reads every answer.
#include "../../controlplane/sdp_codec.h"
#include "sdp_samples.h"
#include <errno.h>

#define ALL SDP_ALL_CODECS
#define ONLY(name) (1u << CODEC_OPUS | 1u << CODEC_##name)

static const struct msg_ice ice = {.ufrag = "Abcd1234", .pwd = "abcdefghijklmnopqrstuvwx"};
static const struct sdp_candidate candidates[] = {
    {.addr = {.ip = {192, 0, 2, 1}, .port = 5000, .family = 4}},
    {.addr = {.ip = {0x20, 1, 0xd, 0xb8, [15] = 1}, .port = 5000, .family = 6}},
};
static const struct sdp_local local = {
    .ice = &ice,
    .fingerprint = {0xAB, [31] = 0x01},
    .id = 77,
    .cname = "demo",
    .candidate = candidates,
    .candidates = 2,
};

// A track in one line: "kind codec pt/rtx fb mid ext layers", layers as rid:ssrc/rtx.
static void describe(const struct msg_track *track, char *text, size_t size)
{
    static const char *const bits[] = {"nack", "pli", "fir", "tcc", "remb"};
    struct sdp_writer out;
    sdp_writer_init(&out, text, size);
    sdp_text(&out, "%s %s %u/%d", track->kind == KIND_AUDIO ? "audio" : "video",
             sdp_codec_name(track->codec), track->pt,
             track->rtx_pt == MSG_NO_PT ? -1 : track->rtx_pt);
    for (int i = 0; i < 5; i++)
        if (track->feedback >> i & 1)
            sdp_text(&out, " %s", bits[i]);
    sdp_text(&out, " mid=%s ext=", track->mid);
    for (int e = 0; e < HDREXTS; e++)
        sdp_text(&out, "%s%u", e ? "," : "", track->hdrext[e]);
    for (int i = 0; i < track->layers; i++)
        sdp_text(&out, " %s:%u/%u", track->layer[i].rid, track->layer[i].ssrc,
                 track->layer[i].rtx_ssrc);
    assert_false(out.full);
}

static void check_track(size_t row, const struct sdp_answer *answer, int t, const char *expected)
{
    char text[512] = "";
    if (t < answer->tracks.count)
        describe(&answer->tracks.track[t], text, sizeof(text));
    if (strcmp(text, expected ? expected : ""))
        fail_msg("row %zu track %d is\n  %s\nexpected\n  %s", row, t, text, expected);
}

static bool has_line(const char *text, const char *line)
{
    size_t len = strlen(line);
    for (const char *at = strstr(text, line); at; at = strstr(at + 1, line))
        if ((at == text || at[-1] == '\n') && at[len] == '\r')
            return true;
    return false;
}

// gstsdp must find in our text what we decided, and not one attribute more or less.
static void check_answer_text(const struct sdp_answer *answer, const struct sdp *offer,
                              const char *text, size_t size)
{
    GstSDPMessage *message;
    struct sdp *ours = parse_good(text, size);
    check_against_gstsdp(text, size, ours);
    gst_sdp_message_new(&message);
    assert_int_equal(gst_sdp_message_parse_buffer((const guint8 *)text, (guint)size, message),
                     GST_SDP_OK);
    assert_int_equal(gst_sdp_message_medias_len(message), offer->medias);
    assert_non_null(gst_sdp_message_get_attribute_val(message, "ice-lite"));
    unsigned attributes = gst_sdp_message_attributes_len(message);
    bool first = true;
    for (guint m = 0; m < offer->medias; m++) {
        const GstSDPMedia *media = gst_sdp_message_get_media(message, m);
        bool taken = answer->media_track[m] != SDP_REJECTED;
        attributes += gst_sdp_media_attributes_len(media);
        assert_int_equal(gst_sdp_media_get_port(media), taken ? 9 : 0);
        assert_true(
            view_equals(offer->media[m].mid, gst_sdp_media_get_attribute_val(media, "mid")));
        assert_true(view_equals(offer->media[m].proto, gst_sdp_media_get_proto(media)));
        if (!taken)
            continue;
        bool idle = answer->media_track[m] == SDP_IDLE;
        const struct msg_track *track =
            idle ? &answer->idle : &answer->tracks.track[answer->media_track[m]];
        assert_int_equal(gst_sdp_media_formats_len(media), track->rtx_pt == MSG_NO_PT ? 1 : 2);
        assert_int_equal(atoi(gst_sdp_media_get_format(media, 0)), track->pt);
        assert_string_equal(gst_sdp_media_get_attribute_val(media, "ice-ufrag"), "Abcd1234");
        assert_string_equal(gst_sdp_media_get_attribute_val(media, "ice-pwd"), ice.pwd);
        assert_string_equal(gst_sdp_media_get_attribute_val(media, "setup"),
                            answer->dtls_client ? "active" : "passive");
        assert_non_null(gst_sdp_media_get_attribute_val(media, idle ? "inactive"
                                                               : answer->role == ROLE_PLAY
                                                                   ? "sendonly"
                                                                   : "recvonly"));
        const char *candidate = gst_sdp_media_get_attribute_val_n(media, "candidate", 1);
        assert_int_equal(!!candidate, first);
        first = false;
        GstCaps *caps = gst_sdp_media_get_caps_from_media(media, track->pt);
        const GstStructure *caps0 = gst_caps_get_structure(caps, 0);
        int clock_rate = 0;
        assert_true(gst_structure_get_int(caps0, "clock-rate", &clock_rate));
        assert_int_equal(clock_rate, track->clock_rate);
        assert_int_equal(strcasecmp(gst_structure_get_string(caps0, "encoding-name"),
                                    sdp_codec_name(track->codec)),
                         0);
        gst_caps_unref(caps);
    }
    unsigned lines = 0;
    for (const char *at = strstr(text, "\r\na="); at; at = strstr(at + 1, "\r\na="))
        lines++;
    assert_int_equal(attributes, lines);
    gst_sdp_message_free(message);
    free(ours);
}

static void write_and_check(const struct sdp_answer *answer, const struct sdp *offer, char **text)
{
    *text = malloc(SDP_ANSWER_MAX);
    int size = sdp_answer_write(answer, offer, &local, *text, SDP_ANSWER_MAX);
    assert_true(size > 0);
    assert_int_equal(strlen(*text), size);
    check_answer_text(answer, offer, *text, (size_t)size);
}

static void set_ssrcs(struct sdp_answer *answer)
{
    for (int t = 0; t < answer->tracks.count; t++) {
        answer->tracks.track[t].layer[0].ssrc = 1000u + (unsigned)t;
        if (answer->tracks.track[t].rtx_pt != MSG_NO_PT)
            answer->tracks.track[t].layer[0].rtx_ssrc = 2000u + (unsigned)t;
    }
}

#define CHROMIUM_AUDIO_EXT "ext=4,0,0,2,3,1,0,0,0,0,0,0"
static const struct publish_row {
    const char *sample;
    uint32_t codecs;
    const char *track[2];
    bool dtls_client;
    const char *line[6];
} publish_rows[] = {
    {"chromium-whip",
     ALL,
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :AUDIO/0",
      "video VP8 96/97 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,0,6,8 :VIDEO/RTX"},
     false,
     {"a=group:BUNDLE 0 1", "a=setup:passive", "a=rtcp-rsize", "a=recvonly", "a=extmap-allow-mixed",
      "a=fmtp:111 minptime=10;useinbandfec=1"}},
    {"chromium-whip",
     ONLY(H264),
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :AUDIO/0",
      "video H264 108/109 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,0,6,8 :VIDEO/RTX"},
     false,
     {"a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
      "a=fmtp:109 apt=108"}},
    {"chromium-whip",
     ONLY(VP9),
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :AUDIO/0",
      "video VP9 98/99 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,0,6,8 :VIDEO/RTX"},
     false,
     {"a=fmtp:98 profile-id=0"}},
    {"chromium-whip",
     1u << CODEC_PCMA,
     {"audio PCMA 8/-1 mid=0 " CHROMIUM_AUDIO_EXT " :AUDIO/0"},
     false,
     {"a=rtpmap:8 PCMA/8000", "a=group:BUNDLE 0"}},
    {"chromium-whip-av1",
     ALL,
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :AUDIO/0",
      "video AV1 45/46 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,0,6,8 :VIDEO/RTX"},
     false,
     {"a=fmtp:45 level-idx=5;profile=0;tier=0"}},
    {"chromium-whip-simulcast",
     ALL,
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :AUDIO/0",
      "video VP8 96/97 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,12,6,8 h:0/0 m:0/0 l:0/0"},
     false,
     {"a=rid:h recv", "a=rid:m recv", "a=rid:l recv", "a=simulcast:recv h;m;l"}},
    {"chromium-mac-whip-h265",
     ALL,
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :400/0",
      "video H265 49/50 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,0,6,8 :500/501"},
     false,
     {"a=fmtp:49 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST"}},
    {"firefox-whip",
     ALL,
     {"audio opus 109/-1 mid=0 ext=3,0,0,0,0,1,0,0,0,0,0,0 :2764093451/0",
      "video VP8 120/124 nack pli fir tcc mid=1 ext=3,0,0,4,7,0,0,0,0,0,0,0 "
      ":1207841905/3318207410"},
     false,
     {"a=fmtp:109 useinbandfec=1;stereo=1", "a=extmap-allow-mixed"}},
    {"firefox-whip",
     ONLY(H264),
     {"audio opus 109/-1 mid=0 ext=3,0,0,0,0,1,0,0,0,0,0,0 :2764093451/0",
      "video H264 126/127 nack pli fir tcc mid=1 ext=3,0,0,4,7,0,0,0,0,0,0,0 "
      ":1207841905/3318207410"},
     false,
     {"a=fmtp:126 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}},
    {"firefox-whip-simulcast",
     ALL,
     {"audio opus 109/-1 mid=0 ext=3,0,0,0,0,1,0,0,0,0,0,0 :2764093451/0",
      "video VP8 120/124 nack pli fir tcc mid=1 ext=3,8,9,4,7,0,0,0,0,0,0,0 hi:0/0 mid:0/0 "
      "lo:0/0"},
     false,
     {"a=simulcast:recv hi;mid;lo",
      "a=extmap:8/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"}},
    {"safari-whip",
     ALL,
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :400/0",
      "video H264 96/97 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,0,6,8 :500/501"},
     false,
     {"a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"}},
    {"safari-whip",
     ONLY(H265),
     {"audio opus 111/-1 tcc mid=0 " CHROMIUM_AUDIO_EXT " :400/0",
      "video H265 100/101 nack pli fir tcc mid=1 ext=4,10,11,2,3,0,13,5,0,0,6,8 :500/501"},
     false,
     {"a=rtpmap:100 H265/90000"}},
    {"obs-whip",
     ALL,
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,0,0,0,0,0,0,0 :3388068600/0",
      "video H264 96/-1 nack pli remb mid=1 ext=0,0,0,0,0,0,0,0,0,0,0,0 :3388068601/0"},
     false,
     {"a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1", "a=rtcp-fb:96 goog-remb",
      "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", "a=end-of-candidates"}},
    {"obs-whip-simulcast",
     ALL,
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,0,0,0,0,0,0,0 :3388068600/0",
      "video H264 96/-1 nack pli remb mid=1 ext=1,2,0,0,0,0,0,0,0,0,0,0 0:0/0 1:0/0 2:0/0"},
     false,
     {"a=simulcast:recv 0;1;2"}},
    {"ffmpeg-whip",
     ALL,
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,0,0,0,0,0,0,0 :1593830144/0",
      "video H264 106/-1 mid=1 ext=0,0,0,0,0,0,0,0,0,0,0,0 :1593830145/0"},
     true,
     {"a=setup:active", "a=ice-lite"}},
    {"gstreamer-whip",
     ALL,
     {"audio opus 97/-1 mid=audio0 ext=0,0,0,0,0,0,0,0,0,0,0,0 :3399550341/0",
      "video VP8 96/-1 pli fir mid=video1 ext=0,0,0,0,0,0,0,0,0,0,0,0 :106108661/0"},
     false,
     {"a=group:BUNDLE audio0 video1", "a=recvonly"}},
    {"gstreamer-whip-h264",
     ALL,
     {"video H264 96/-1 pli fir mid=video0 ext=0,0,0,0,0,0,0,0,0,0,0,0 :3237422629/0"},
     false,
     {"a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c015"}},
    {"legacy-sim-whip",
     ALL,
     {"video VP8 100/101 nack pli mid=video ext=0,0,0,0,0,0,0,0,0,0,0,0 :33/43 :32/42 :31/41"},
     false,
     {"m=video 9 RTP/SAVPF 100 101"}},
    {"chromium-whip-datachannel",
     ALL,
     {"video VP8 96/97 nack pli fir tcc mid=0 ext=9,10,11,2,4,0,3,5,0,0,6,8 :VIDEO/RTX",
      "audio opus 111/-1 tcc mid=1 ext=9,0,0,2,4,14,0,0,0,0,0,0 :AUDIO/0"},
     false,
     {"a=group:BUNDLE 0 1", "m=video 0 UDP/TLS/RTP/SAVPF 96",
      "m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:2", "a=mid:3"}},
};

// Chromium's SSRCs are random: the row names them by what the offer's lines say.
static void fill_ssrcs(const struct sdp *offer, const char *pattern, char *text, size_t size)
{
    struct sdp_writer out;
    sdp_writer_init(&out, text, size);
    for (const char *at = pattern; at && *at;) {
        uint32_t ssrc = 0;
        size_t skip = 1;
        for (int m = 0; m < offer->medias && !ssrc; m++) {
            const struct sdp_media *media = &offer->media[m];
            bool video = sdp_view_is(media->type, "video");
            if (!video && !strncmp(at, "AUDIO", 5)) {
                ssrc = media->ssrc[0];
                skip = 5;
            } else if (video && !strncmp(at, "VIDEO", 5)) {
                ssrc = media->group[0].ssrc[0];
                skip = 5;
            } else if (video && !strncmp(at, "RTX", 3)) {
                ssrc = media->group[0].ssrc[1];
                skip = 3;
            }
        }
        if (ssrc)
            sdp_text(&out, "%u", ssrc);
        else
            sdp_text(&out, "%c", *at);
        at += skip;
    }
    assert_false(out.full);
}

static void test_publish(void **state)
{
    for (size_t i = 0; i < sizeof(publish_rows) / sizeof(publish_rows[0]); i++) {
        const struct publish_row *t = &publish_rows[i];
        struct sample sample = sample_read(t->sample);
        struct sdp *offer = parse_good(sample.text, sample.size);
        struct sdp_answer answer;
        struct sdp_error error;
        char expected[512], *text;
        if (sdp_answer_publish(offer, t->codecs, &answer, &error))
            fail_msg("row %zu: %s", i, error.reason);
        for (int k = 0; k < 2; k++) {
            fill_ssrcs(offer, t->track[k], expected, sizeof(expected));
            check_track(i, &answer, k, expected);
        }
        assert_int_equal(answer.dtls_client, t->dtls_client);
        assert_int_equal(answer.fingerprints, 1);
        assert_true(answer.remote_ufrag.len >= 4 && answer.remote_pwd.len >= 22);
        write_and_check(&answer, offer, &text);
        for (int k = 0; k < 6 && t->line[k]; k++)
            if (!has_line(text, t->line[k]))
                fail_msg("row %zu: no line %s in\n%s", i, t->line[k], text);
        free(text);
        free(offer);
        free(sample.text);
    }
}

static struct sdp_tracks stream_of(const char *name, uint32_t codecs)
{
    struct sample sample = sample_read(name);
    struct sdp *offer = parse_good(sample.text, sample.size);
    struct sdp_answer answer;
    struct sdp_error error;
    assert_int_equal(sdp_answer_publish(offer, codecs, &answer, &error), 0);
    free(offer);
    free(sample.text);
    return answer.tracks;
}

static const struct play_row {
    const char *publisher;
    uint32_t codecs; // that the publisher was allowed
    const char *viewer;
    const char *track[2];
    uint8_t source[2];
    const char *line[5];
} play_rows[] = {
    {"chromium-whip",
     ALL,
     "chromium-whep",
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,1,0,0,0,0,0,0 :1000/0",
      "video VP8 96/97 nack pli fir mid=1 ext=0,0,0,0,0,0,13,5,0,0,6,8 :1001/2001"},
     {0, 1},
     {"a=sendonly", "a=msid:demo video1", "a=ssrc-group:FID 1001 2001", "a=ssrc:2001 cname:demo",
      "a=ssrc:1000 msid:demo audio0"}},
    {"chromium-whip-datachannel",
     ALL,
     "chromium-whep",
     {"video VP8 96/97 nack pli fir mid=1 ext=0,0,0,0,0,0,13,5,0,0,6,8 :1000/2000",
      "audio opus 111/-1 mid=0 ext=0,0,0,0,0,1,0,0,0,0,0,0 :1001/0"},
     {0, 1},
     {"a=group:BUNDLE 0 1"}},
    {"chromium-whip-h264",
     ALL,
     "firefox-whep",
     {"audio opus 109/-1 mid=0 ext=0,0,0,0,0,1,0,0,0,0,0,0 :1000/0",
      "video H264 126/127 nack pli fir mid=1 ext=0,0,0,0,0,0,0,6,0,0,0,0 :1001/2001"},
     {0, 1},
     {"a=fmtp:126 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
      "a=extmap:6/sendonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"}},
    {"safari-whip",
     ALL,
     "safari-whep",
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,1,0,0,0,0,0,0 :1000/0",
      "video H264 96/97 nack pli fir mid=1 ext=0,0,0,0,0,0,13,5,0,0,6,8 :1001/2001"},
     {0, 1},
     {"a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"}},
    // Constrained High fits none of Chromium's profiles here: sound only.
    {"safari-whip",
     ALL,
     "chromium-whep",
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,1,0,0,0,0,0,0 :1000/0"},
     {0},
     {"m=video 0 UDP/TLS/RTP/SAVPF 96", "a=group:BUNDLE 0", "a=inactive"}},
    {"chromium-mac-whip-h265",
     ALL,
     "safari-whep",
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,1,0,0,0,0,0,0 :1000/0",
      "video H265 100/101 nack pli fir mid=1 ext=0,0,0,0,0,0,13,5,0,0,6,8 :1001/2001"},
     {0, 1},
     {"a=rtpmap:100 H265/90000"}},
    {"obs-whip",
     ALL,
     "gstreamer-whep",
     {"audio opus 97/-1 mid=audio0 ext=0,0,0,0,0,0,0,0,0,0,0,0 :1000/0"},
     {0},
     {"m=video 0 UDP/TLS/RTP/SAVPF 96"}},
    {"gstreamer-whip",
     ALL,
     "gstreamer-whep",
     {"audio opus 97/-1 mid=audio0 ext=0,0,0,0,0,0,0,0,0,0,0,0 :1000/0",
      "video VP8 96/-1 pli fir mid=video1 ext=0,0,0,0,0,0,0,0,0,0,0,0 :1001/0"},
     {0, 1},
     {"a=ssrc:1001 cname:demo"}},
    // The bundle hangs on the sound that the stream has not.
    {"gstreamer-whip",
     1u << CODEC_VP8,
     "gstreamer-whep",
     {"video VP8 96/-1 pli fir mid=video1 ext=0,0,0,0,0,0,0,0,0,0,0,0 :1000/0"},
     {0},
     {"a=group:BUNDLE audio0 video1", "m=audio 9 UDP/TLS/RTP/SAVPF 97", "a=inactive",
      "a=rtpmap:97 opus/48000/2"}},
    {"chromium-whip-simulcast",
     ONLY(AV1),
     "chromium-whep",
     {"audio opus 111/-1 mid=0 ext=0,0,0,0,0,1,0,0,0,0,0,0 :1000/0",
      "video AV1 45/46 nack pli fir mid=1 ext=0,0,0,0,0,0,13,5,0,0,6,8 :1001/2001"},
     {0, 1},
     {"a=fmtp:45 level-idx=5;profile=0;tier=0"}},
};

static void test_play(void **state)
{
    for (size_t i = 0; i < sizeof(play_rows) / sizeof(play_rows[0]); i++) {
        const struct play_row *t = &play_rows[i];
        struct sdp_tracks stream = stream_of(t->publisher, t->codecs);
        struct sample sample = sample_read(t->viewer);
        struct sdp *offer = parse_good(sample.text, sample.size);
        struct sdp_answer answer;
        struct sdp_error error;
        char *text, buffer[SDP_ANSWER_MAX];
        if (sdp_answer_play(offer, &stream, &answer, &error))
            fail_msg("row %zu: %s", i, error.reason);
        assert_int_equal(sdp_answer_write(&answer, offer, &local, buffer, sizeof(buffer)), -EINVAL);
        set_ssrcs(&answer);
        for (int k = 0; k < 2; k++) {
            check_track(i, &answer, k, t->track[k]);
            if (t->track[k])
                assert_int_equal(answer.tracks.track[k].source, t->source[k]);
        }
        write_and_check(&answer, offer, &text);
        for (int k = 0; k < 5 && t->line[k]; k++)
            if (!has_line(text, t->line[k]))
                fail_msg("row %zu: no line %s in\n%s", i, t->line[k], text);
        free(text);
        free(offer);
        free(sample.text);
    }
}

#define FINGERPRINT                                                                                \
    "a=fingerprint:sha-256 4E:7F:77:DB:7E:A3:A6:4E:5D:27:EB:39:D2:1B:96:9F:91:C9:58:8B:30:B4:"     \
    "AA:0F:77:60:5A:F3:86:60:03:F3\n"
#define SESSION "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\n"
#define BUNDLE "a=group:BUNDLE 0\n"
#define CREDENTIALS "a=ice-ufrag:abcd\na=ice-pwd:0123456789012345678901\n"
#define MEDIA "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\n"
#define OPUS "a=rtpmap:111 opus/48000/2\n"
#define GOOD SESSION BUNDLE CREDENTIALS FINGERPRINT MEDIA

// Offers that a publisher (sendonly) or a viewer (recvonly) may not make; the text lacks only that.
static const struct refused {
    const char *text;
    int code;
    const char *reason;
} refused[] = {
    {GOOD OPUS "a=rtcp-mux\n", 0, ""},
    {SESSION CREDENTIALS FINGERPRINT MEDIA OPUS "a=rtcp-mux\n", 0, ""},
    {SESSION CREDENTIALS FINGERPRINT MEDIA OPUS
     "a=rtcp-mux\nm=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:1\n",
     -ENOTSUP, "BUNDLE"},
    {SESSION FINGERPRINT MEDIA OPUS "a=rtcp-mux\n", -ENOTSUP, "ice-ufrag"},
    {GOOD OPUS, -ENOTSUP, "rtcp-mux"},
    {SESSION BUNDLE FINGERPRINT MEDIA OPUS "a=rtcp-mux\n", -ENOTSUP, "ice-ufrag"},
    {SESSION BUNDLE CREDENTIALS MEDIA OPUS "a=rtcp-mux\n", -ENOTSUP, "no fingerprint"},
    {SESSION BUNDLE CREDENTIALS "a=fingerprint:sha-1 AB\n" MEDIA OPUS "a=rtcp-mux\n", -ENOTSUP,
     "sha-256"},
    {GOOD OPUS "a=rtcp-mux\na=fingerprint:sha-1 AB\n", -ENOTSUP, "sha-256"},
    {GOOD OPUS "a=rtcp-mux\na=setup:holdconn\n", -ENOTSUP, "holdconn"},
    {SESSION "a=ice-lite\n" BUNDLE CREDENTIALS FINGERPRINT MEDIA OPUS "a=rtcp-mux\n", -ENOTSUP,
     "ICE-lite"},
    {GOOD OPUS "a=rtcp-mux\na=inactive\n", -ENOTSUP, "no bundled audio or video"},
    {SESSION BUNDLE CREDENTIALS FINGERPRINT "m=audio 0 UDP/TLS/RTP/SAVPF 111\na=mid:0\n" OPUS
                                            "a=rtcp-mux\n",
     -ENOTSUP, "no bundled audio or video"},
    {SESSION BUNDLE CREDENTIALS FINGERPRINT "m=audio 9 RTP/AVP 111\na=mid:0\n" OPUS "a=rtcp-mux\n",
     -ENOTSUP, "no bundled audio or video"},
    {SESSION "a=group:BUNDLE 0 1\n" CREDENTIALS FINGERPRINT
             "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:0\n",
     -ENOTSUP, "no bundled audio or video"},
    {SESSION "a=group:BUNDLE 0123456789abcdef\n" CREDENTIALS FINGERPRINT
             "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0123456789abcdef\n" OPUS "a=rtcp-mux\n",
     -ENOTSUP, "mid is longer"},
    {GOOD "a=rtpmap:111 speex/16000\na=rtcp-mux\n", -ENOMSG, "no common codec"},
    {GOOD "a=rtpmap:111 opus/48000\na=rtcp-mux\n", -ENOMSG, "no common codec"},
    {GOOD "a=rtcp-mux\n", -ENOMSG, "no common codec"},
    {GOOD "a=rtpmap:111 VP8/90000\na=rtcp-mux\n", -ENOMSG, "no common codec"},
};

static void test_refused(void **state)
{
    struct sdp_tracks stream = stream_of("chromium-whip", ALL);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        const struct refused *t = &refused[i];
        struct sdp *offer = parse_good(t->text, strlen(t->text));
        struct sdp_answer answer;
        struct sdp_error error;
        int publish = sdp_answer_publish(offer, ALL, &answer, &error);
        if (publish != t->code || !strstr(error.reason, t->reason))
            fail_msg("row %zu: %d %s", i, publish, error.reason);
        int play = sdp_answer_play(offer, &stream, &answer, &error);
        if (play != t->code || !strstr(error.reason, t->reason))
            fail_msg("row %zu: %d %s", i, play, error.reason);
        free(offer);
    }
}

// One m-line needs no bundle, and the answer may not begin one (RFC 9143 7.3.2).
static void test_unbundled(void **state)
{
    static const char *const offers[] = {
        SESSION CREDENTIALS FINGERPRINT MEDIA OPUS "a=rtcp-mux\n",
        SESSION "m=audio 9 UDP/TLS/RTP/SAVPF 111\n" CREDENTIALS FINGERPRINT OPUS "a=rtcp-mux\n",
    };
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        struct sdp *offer = parse_good(offers[i], strlen(offers[i]));
        struct sdp_answer answer;
        struct sdp_error error;
        char *text;
        if (sdp_answer_publish(offer, ALL, &answer, &error))
            fail_msg("row %zu: %s", i, error.reason);
        assert_true(sdp_view_is(answer.remote_ufrag, "abcd"));
        write_and_check(&answer, offer, &text);
        assert_null(strstr(text, "BUNDLE"));
        assert_int_equal(has_line(text, "a=mid:0"), i == 0);
        assert_int_equal(!!strstr(text, "a=mid"), i == 0);
        free(text);
        free(offer);
    }
}

// Payload types that read as RTCP on a shared port, which the dataplane would refuse, too.
static void test_rtcp_like_payload_types(void **state)
{
#define VIDEO(list)                                                                                \
    SESSION BUNDLE CREDENTIALS FINGERPRINT "m=video 9 UDP/TLS/RTP/SAVPF " list "\n"                \
                                           "a=mid:0\na=rtcp-mux\n"
    static const struct {
        const char *text;
        int rc;
        uint8_t pt, rtx_pt;
    } rows[] = {
        {VIDEO("72") "a=rtpmap:72 VP8/90000\n", -ENOMSG, 0, 0},
        {VIDEO("72 96") "a=rtpmap:72 VP8/90000\na=rtpmap:96 VP8/90000\n", 0, 96, MSG_NO_PT},
        {VIDEO("96 95 97") "a=rtpmap:96 VP8/90000\na=rtpmap:95 rtx/90000\na=fmtp:95 apt=96\n"
                           "a=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n",
         0, 96, 97},
        {VIDEO("63 64") "a=rtpmap:63 VP8/90000\na=rtpmap:64 rtx/90000\na=fmtp:64 apt=63\n", 0, 63,
         MSG_NO_PT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sdp *offer = parse_good(rows[i].text, strlen(rows[i].text));
        struct sdp_answer answer;
        struct sdp_error error;
        int rc = sdp_answer_publish(offer, ALL, &answer, &error);
        if (rc != rows[i].rc || (rc == 0 && (answer.tracks.track[0].pt != rows[i].pt ||
                                             answer.tracks.track[0].rtx_pt != rows[i].rtx_pt)))
            fail_msg("row %zu: %d, %u/%u", i, rc, answer.tracks.track[0].pt,
                     answer.tracks.track[0].rtx_pt);
        free(offer);
    }
}

static void test_wrong_direction(void **state)
{
    struct sdp_tracks stream = stream_of("chromium-whip", ALL);
    struct sample publisher = sample_read("chromium-whip"), viewer = sample_read("chromium-whep");
    struct sdp *sending = parse_good(publisher.text, publisher.size);
    struct sdp *receiving = parse_good(viewer.text, viewer.size);
    struct sdp_answer answer;
    struct sdp_error error;
    assert_int_equal(sdp_answer_publish(receiving, ALL, &answer, &error), -ENOTSUP);
    assert_int_equal(sdp_answer_play(sending, &stream, &answer, &error), -ENOTSUP);
    assert_int_equal(sdp_answer_publish(sending, 0, &answer, &error), -ENOMSG);
    stream.count = 0;
    assert_int_equal(sdp_answer_play(receiving, &stream, &answer, &error), -ENOTSUP);
    free(sending);
    free(receiving);
    free(publisher.text);
    free(viewer.text);
}

// RFC 8842 5.3 and the transport's place: session, tagged m-line, or another of the bundle.
static const struct transport_row {
    const char *text;
    bool dtls_client;
    const char *ufrag;
    uint8_t hash, fingerprints;
} transport_rows[] = {
    {GOOD OPUS "a=rtcp-mux\na=setup:actpass\n", false, "abcd", SDP_SHA256, 1},
    {GOOD OPUS "a=rtcp-mux\na=setup:active\n", false, "abcd", SDP_SHA256, 1},
    {GOOD OPUS "a=rtcp-mux\na=setup:passive\n", true, "abcd", SDP_SHA256, 1},
    {GOOD OPUS "a=rtcp-mux\n", false, "abcd", SDP_SHA256, 1},
    {SESSION BUNDLE "a=ice-ufrag:wxyz\na=ice-pwd:xxxxxxxxxxxxxxxxxxxxxx\na=setup:passive\n"
                    "a=fingerprint:sha-1 AB\n" MEDIA CREDENTIALS FINGERPRINT FINGERPRINT
                    "a=setup:active\na=rtcp-mux\n" OPUS,
     false, "abcd", SDP_SHA256, 2},
    {SESSION "a=group:BUNDLE 1 0\n" MEDIA OPUS "a=rtcp-mux\n"
             "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:1\na=setup:passive\n" CREDENTIALS FINGERPRINT,
     true, "abcd", SDP_SHA256, 1},
    {SESSION BUNDLE CREDENTIALS
     "a=fingerprint:SHA-384 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:00:01:02:03:04:05:06:"
     "07:08:09:0a:0b:0c:0d:0e:0f:00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f\n" MEDIA OPUS
     "a=rtcp-mux\n",
     false, "abcd", SDP_SHA384, 1},
};

static void test_transport(void **state)
{
    for (size_t i = 0; i < sizeof(transport_rows) / sizeof(transport_rows[0]); i++) {
        const struct transport_row *t = &transport_rows[i];
        struct sdp *offer = parse_good(t->text, strlen(t->text));
        struct sdp_answer answer;
        struct sdp_error error;
        if (sdp_answer_publish(offer, ALL, &answer, &error))
            fail_msg("row %zu: %s", i, error.reason);
        assert_int_equal(answer.dtls_client, t->dtls_client);
        assert_true(sdp_view_is(answer.remote_ufrag, t->ufrag));
        assert_int_equal(answer.fingerprints, t->fingerprints);
        assert_int_equal(answer.fingerprint[0].hash, t->hash);
        assert_int_equal(answer.fingerprint[0].size, t->hash == SDP_SHA384 ? 48 : 32);
        assert_int_equal(answer.fingerprint[0].digest[31], t->hash == SDP_SHA384 ? 0x0f : 0xf3);
        free(offer);
    }
}

static const struct fit_row {
    enum codec codec;
    const char *sender, *receiver;
    enum sdp_fit fit;
} fit_rows[] = {
    {CODEC_VP8, "", "max-fr=60", SDP_FIT_SAME},
    {CODEC_OPUS, "stereo=1", "", SDP_FIT_SAME},
    {CODEC_VP9, "", "profile-id=0", SDP_FIT_SAME},
    {CODEC_VP9, "profile-id=2", "profile-id=0", SDP_FIT_NONE},
    {CODEC_AV1, "level-idx=5;profile=0;tier=0", "", SDP_FIT_SAME},
    {CODEC_AV1, "profile=1", "profile=0", SDP_FIT_NONE},
    {CODEC_H265, "level-id=93", "level-id=180;profile-id=1", SDP_FIT_SAME},
    {CODEC_H265, "profile-id=2", "", SDP_FIT_NONE},
    {CODEC_H264, "", "", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=42e01f", "", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=42c015", "PROFILE-LEVEL-ID=42E01F", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=4d8028", "profile-level-id=42e01f", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=58c01f", "profile-level-id=42e01f", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=42e01f", "profile-level-id=42001f", SDP_FIT_DECODES},
    {CODEC_H264, "profile-level-id=42e01f", "profile-level-id=4d001f", SDP_FIT_DECODES},
    {CODEC_H264, "profile-level-id=42e01f", "profile-level-id=640c1f", SDP_FIT_DECODES},
    {CODEC_H264, "profile-level-id=4d401f", "profile-level-id=64001f", SDP_FIT_DECODES},
    {CODEC_H264, "profile-level-id=640c1f", "profile-level-id=640028", SDP_FIT_DECODES},
    {CODEC_H264, "profile-level-id=42001f", "profile-level-id=42e01f", SDP_FIT_NONE},
    {CODEC_H264, "profile-level-id=64001f", "profile-level-id=640c1f", SDP_FIT_NONE},
    {CODEC_H264, "profile-level-id=64001f", "profile-level-id=42e01f", SDP_FIT_NONE},
    {CODEC_H264, "profile-level-id=58001f", "profile-level-id=58001f", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=f4001f", "profile-level-id=f4001e", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=f4001f", "profile-level-id=64001f", SDP_FIT_NONE},
    {CODEC_H264, "profile-level-id=42e01f", "profile-level-id=f4001f", SDP_FIT_NONE},
    {CODEC_H264, "packetization-mode=1", "packetization-mode=0", SDP_FIT_NONE},
    {CODEC_H264, "packetization-mode=0", "", SDP_FIT_SAME},
    {CODEC_H264, "profile-level-id=42e01", "profile-level-id=42e01", SDP_FIT_NONE},
    {CODEC_H264, "profile-level-id=42e0 1", "profile-level-id=42e0 1", SDP_FIT_NONE},
};

static void test_fit(void **state)
{
    for (size_t i = 0; i < sizeof(fit_rows) / sizeof(fit_rows[0]); i++) {
        const struct fit_row *t = &fit_rows[i];
        struct sdp_view sender = {t->sender, (uint32_t)strlen(t->sender)};
        struct sdp_view receiver = {t->receiver, (uint32_t)strlen(t->receiver)};
        enum sdp_fit fit = sdp_codec_fit(t->codec, sender, receiver);
        if (fit != t->fit)
            fail_msg("row %zu: %d", i, fit);
    }
}

// Parameters that are repeated cannot carry anything but tokens, nor outgrow their room.
static void test_fmtp_is_clean(void **state)
{
    char text[600];
    struct sdp_fmtp fmtp;
    snprintf(text, sizeof(text), "profile-level-id=%0300d;packetization-mode=a\"b; MINPTIME = 3",
             7);
    sdp_codec_fmtp(CODEC_H264, (struct sdp_view){text, (uint32_t)strlen(text)}, &fmtp);
    assert_string_equal(fmtp.text, "");
    const char *opus = "cbr=1; UseInBandFec=1 ;stereo=0";
    sdp_codec_fmtp(CODEC_OPUS, (struct sdp_view){opus, (uint32_t)strlen(opus)}, &fmtp);
    assert_string_equal(fmtp.text, "useinbandfec=1;stereo=0");
}

static void test_write_is_bounded(void **state)
{
    struct sample sample = sample_read("chromium-whip-simulcast");
    struct sdp *offer = parse_good(sample.text, sample.size);
    struct sdp_answer answer;
    struct sdp_error error;
    char *full = malloc(SDP_ANSWER_MAX);
    assert_int_equal(sdp_answer_publish(offer, ALL, &answer, &error), 0);
    int need = sdp_answer_write(&answer, offer, &local, full, SDP_ANSWER_MAX);
    assert_true(need > 0);
    for (int size = 1; size <= need + 1; size++) {
        char *buffer = malloc((size_t)size);
        int rc = sdp_answer_write(&answer, offer, &local, buffer, (size_t)size);
        assert_int_equal(rc, size > need ? need : -ENOSPC);
        assert_true(strlen(buffer) < (size_t)size);
        free(buffer);
    }
    free(full);
    free(offer);
    free(sample.text);
}

// The largest answer that the limits allow fits the room that the header promises.
static void test_answer_max(void **state)
{
    char *text = malloc(SDP_MAX_BYTES), *out = malloc(SDP_ANSWER_MAX);
    struct sdp_writer writer;
    struct sdp_candidate many[16];
    char token[SDP_MAX_TOKEN + 1];
    memset(token, 'x', SDP_MAX_TOKEN);
    token[SDP_MAX_TOKEN] = '\0';
    memset(many, 0xff, sizeof(many));
    for (int i = 0; i < 16; i++)
        many[i].addr.family = 6;
    sdp_writer_init(&writer, text, SDP_MAX_BYTES);
    sdp_text(&writer, GOOD OPUS "a=rtcp-mux\n");
    for (int i = 1; i < SDP_MAX_MEDIA; i++)
        sdp_text(&writer, "m=%s 9 %s %s\na=mid:%02d%.62s\n", token, token, token, i, token);
    struct sdp *offer = parse_good(text, writer.used);
    struct sdp_answer answer;
    struct sdp_error error;
    struct sdp_local crowded = local;
    crowded.candidate = many;
    crowded.candidates = 16;
    assert_int_equal(sdp_answer_publish(offer, ALL, &answer, &error), 0);
    assert_true(sdp_answer_write(&answer, offer, &crowded, out, SDP_ANSWER_MAX) > 0);
    free(offer);
    free(text);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_play),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_wrong_direction),
        cmocka_unit_test(test_transport),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_fmtp_is_clean),
        cmocka_unit_test(test_write_is_bounded),
        cmocka_unit_test(test_answer_max),
        cmocka_unit_test(test_unbundled),
        cmocka_unit_test(test_rtcp_like_payload_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
