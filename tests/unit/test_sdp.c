// The SDP parser, its limits, trickle fragments and the bounded writer; gstsdp is the oracle.
#include "sdp_samples.h"
#include <errno.h>
#include <time.h>

#define HEAD "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\n"
#define AUDIO HEAD "m=audio 9 UDP/TLS/RTP/SAVPF 111\n"
#define UFRAG "a=ice-ufrag:abcd\n"
#define PWD "a=ice-pwd:0123456789012345678901\n"

static const struct refused {
    const char *text;
    int code;
    unsigned line;
    const char *reason; // part of it
} refused[] = {
    {"", -EINVAL, 0, "empty"},
    {"\r\n\r\n", -EINVAL, 2, "empty"},
    {"o=- 1 1 IN IP4 0.0.0.0\nv=0\n", -EINVAL, 1, "begin with v=0"},
    {"m=audio 9 RTP/SAVPF 0\n", -EINVAL, 1, "begin with v=0"},
    {"v=1\n", -EINVAL, 1, "version"},
    {"v=0\n", -EINVAL, 1, "missing"},
    {"v=0\no=-\ns=-\n", -EINVAL, 3, "missing"},
    {HEAD "v=0\n", -EINVAL, 5, "twice"},
    {HEAD "hello\n", -EINVAL, 5, "letter"},
    {HEAD "a\n", -EINVAL, 5, "letter"},
    {HEAD "A=b\n", -EINVAL, 5, "letter"},
    {HEAD "x=b\n", -EINVAL, 5, "does not belong"},
    {AUDIO "t=0 0\n", -EINVAL, 6, "does not belong"},
    {HEAD "a=x\ry\n", -EINVAL, 5, "control"},
    {HEAD "a=x\x7f\n", -EINVAL, 5, "control"},
    {HEAD "m=audio\n", -EINVAL, 5, "lacks media"},
    {HEAD "m=audio 9 RTP/SAVPF\n", -EINVAL, 5, "lacks a format"},
    {HEAD "m=audio 65536 RTP/SAVPF 0\n", -EINVAL, 5, "port"},
    {HEAD "m=audio -1 RTP/SAVPF 0\n", -EINVAL, 5, "port"},
    {HEAD "m=audio 9/x RTP/SAVPF 0\n", -EINVAL, 5, "port"},
    {HEAD "m=audio 9 RTP/SAVPF 128\n", -EINVAL, 5, "payload type"},
    {HEAD "m=audio 9 RTP/SAVPF 0 0\n", -EINVAL, 5, "twice"},
    {HEAD "m=au\"dio 9 RTP/SAVPF 0\n", -EINVAL, 5, "token"},
    {HEAD "m=audio 9 RTP/SA@VPF 0\n", -EINVAL, 5, "token"},
    {AUDIO "a=mid:\n", -EINVAL, 6, "mid is not"},
    {AUDIO "a=mid:a b\n", -EINVAL, 6, "mid is not"},
    {AUDIO "a=mid:0\na=mid:1\n", -EINVAL, 7, "second mid"},
    {AUDIO "a=mid:0\nm=video 9 RTP/SAVPF 96\na=mid:0\n", -EINVAL, 7, "two m-lines"},
    {HEAD "a=ice-ufrag:abc\n", -EINVAL, 5, "ice-ufrag"},
    {HEAD "a=ice-ufrag:ab:cd\n", -EINVAL, 5, "ice-ufrag"},
    {HEAD "a=ice-pwd:012345678901234567890\n", -EINVAL, 5, "ice-pwd"},
    {HEAD "a=setup:both\n", -EINVAL, 5, "setup"},
    {HEAD "a=fingerprint:sha-256\n", -EINVAL, 5, "fingerprint"},
    {HEAD "a=fingerprint:sha-256 AA:BB\n", -EINVAL, 5, "digest"},
    {HEAD "a=fingerprint:sha-256 4E:7F:77:DB:7E:A3:A6:4E:5D:27:EB:39:D2:1B:96:9F:91:C9:58:8B:30:B4:"
          "AA:0F:77:60:5A:F3:86:60:03:FG\n",
     -EINVAL, 5, "digest"},
    {HEAD "a=fingerprint:sha-256 4E:7F:77:DB:7E:A3:A6:4E:5D:27:EB:39:D2:1B:96:9F:91:C9:58:8B:30:B4:"
          "AA:0F:77:60:5A:F3:86:60:03-F3\n",
     -EINVAL, 5, "digest"},
    {HEAD "a=fingerprint:sha-256 4E:7F:77:DB:7E:A3:A6:4E:5D:27:EB:39:D2:1B:96:9F:91:C9:58:8B:30:B4:"
          "AA:0F:77:60:5A:F3:86:60:03:F3:00\n",
     -EINVAL, 5, "digest"},
    {AUDIO "a=rtpmap:111\n", -EINVAL, 6, "rtpmap"},
    {AUDIO "a=rtpmap:111 opus\n", -EINVAL, 6, "rtpmap"},
    {AUDIO "a=rtpmap:111 opus/0\n", -EINVAL, 6, "rtpmap"},
    {AUDIO "a=rtpmap:111 opus/4294967297\n", -EINVAL, 6, "rtpmap"},
    {AUDIO "a=rtpmap:111 opus/48000/0\n", -EINVAL, 6, "channels"},
    {AUDIO "a=rtpmap:1000 opus/48000/2\n", -EINVAL, 6, "payload type"},
    {AUDIO "a=fmtp:x a=b\n", -EINVAL, 6, "payload type"},
    {AUDIO "a=rtcp-fb:111\n", -EINVAL, 6, "rtcp-fb"},
    {AUDIO "a=extmap:0 urn:x\n", -EINVAL, 6, "extmap"},
    {AUDIO "a=extmap:1\n", -EINVAL, 6, "extmap"},
    {AUDIO "a=extmap:1/up urn:x\n", -EINVAL, 6, "direction"},
    {AUDIO "a=ssrc:4294967296 cname:x\n", -EINVAL, 6, "ssrc"},
    {AUDIO "a=ssrc-group:FID 1 x\n", -EINVAL, 6, "ssrc-group"},
    {AUDIO "a=ssrc-group:\n", -EINVAL, 6, "ssrc-group"},
    {AUDIO "a=rid:1\n", -EINVAL, 6, "rid"},
    {AUDIO "a=rid:a.b send\n", -EINVAL, 6, "rid"},
    {AUDIO "a=simulcast:send\n", -EINVAL, 6, "simulcast"},
    {AUDIO "a=simulcast:send ~\n", -EINVAL, 6, "rid"},
    {AUDIO "a=candidate:1 1 udp 1 1.2.3.4 5 typ\n", -EINVAL, 6, "candidate"},
    {AUDIO "a=candidate:1 1 udp 1 1.2.3.4 5 typ guess\n", -EINVAL, 6, "candidate"},
    {AUDIO "a=candidate:1 0 udp 1 1.2.3.4 5 typ host\n", -EINVAL, 6, "candidate"},
    {AUDIO "a=candidate:1 1 udp 1 <b> 5 typ host\n", -EINVAL, 6, "candidate"},
    {AUDIO "a=candidate:1 1 udp 9999999999 1.2.3.4 5 typ host\n", -EINVAL, 6, "candidate"},
};

static void test_refused(void **state)
{
    struct sdp *sdp = malloc(sizeof(*sdp));
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct sdp_error error;
        const struct refused *t = &refused[i];
        int rc = sdp_parse(sdp, t->text, strlen(t->text), &error);
        if (rc != t->code || error.line != t->line || !strstr(error.reason, t->reason))
            fail_msg("row %zu: %d, line %u, %s", i, rc, error.line, error.reason);
    }
    free(sdp);
}

// `head`, then `before`, a number and `after`, for 1 to `count`.
static char *repeat(const char *head, const char *before, const char *after, int count)
{
    size_t room = strlen(head) + (size_t)count * 128 + 1, used = strlen(head);
    char *text = malloc(room);
    memcpy(text, head, used + 1);
    for (int i = 1; i <= count; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%d%s", before, i, after);
    return text;
}

static const struct limit {
    const char *head, *before, *after;
    int most; // lines that are taken; one more is refused
    const char *reason;
} limits[] = {
    {HEAD, "m=audio 9 RTP/SAVPF ", "\n", SDP_MAX_MEDIA, "m-lines"},
    {AUDIO, "a=candidate:1 1 udp ", " 1.2.3.4 5 typ host\n", SDP_MAX_CANDIDATES, "candidates"},
    {AUDIO, "a=ssrc:", " cname:x\n", SDP_MAX_SSRCS, "SSRCs"},
    {AUDIO, "a=ssrc-group:FID ", " 5\n", SDP_MAX_GROUPS, "ssrc-groups"},
    {AUDIO, "a=rid:", " send\n", SDP_MAX_RIDS, "rids"},
    {AUDIO, "a=simulcast:send ", "\n", SDP_MAX_RIDS, "rids"},
    {HEAD "m=audio 9 RTP/SAVPF", " ", "", SDP_MAX_FORMATS, "payload types"},
};

static void test_limits(void **state)
{
    struct sdp *sdp = malloc(sizeof(*sdp));
    struct sdp_error error;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        for (int more = 0; more <= 1; more++) {
            char *text =
                repeat(limits[i].head, limits[i].before, limits[i].after, limits[i].most + more);
            assert_int_equal(sdp_parse(sdp, text, strlen(text), &error), more ? -E2BIG : 0);
            if (more)
                assert_non_null(strstr(error.reason, limits[i].reason));
            free(text);
        }
    }
    free(sdp);
}

static void test_line_and_size_limits(void **state)
{
    struct sdp *sdp = malloc(sizeof(*sdp));
    struct sdp_error error;
    size_t head = strlen(HEAD), size = 1 << 20;
    char *text = malloc(size);
    memcpy(text, HEAD, head);
    memset(text + head, 'x', size - head);
    memcpy(text + head, "i=", 2);
    assert_int_equal(sdp_parse(sdp, text, head + SDP_MAX_LINE, &error), 0);
    assert_int_equal(sdp_parse(sdp, text, head + SDP_MAX_LINE + 1, &error), -E2BIG);
    assert_int_equal(error.line, 5);
    for (size_t i = head + 99; i < size; i += 100)
        memcpy(text + i, "\ni=", i + 3 <= size ? 3 : 1);
    assert_int_equal(sdp_parse(sdp, text, SDP_MAX_BYTES + 1, &error), -E2BIG);

    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(sdp_parse(sdp, text, size, &error), -E2BIG);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_int_equal(error.line, 0);
    assert_non_null(strstr(error.reason, "128 KiB"));
    assert_true(after.tv_sec - before.tv_sec <= 1);
    free(text);
    free(sdp);
}

static void test_fields(void **state)
{
    static const char text[] =
        HEAD "a=group:LS x\r\na=group:BUNDLE a b\r\na=group:BUNDLE c\r\n"
             "a=setup:passive\r\na=sendonly\r\na=extmap-allow-mixed\r\n"
             "a=extmap:9 urn:3gpp:video-orientation\r\n"
             "a=fingerprint:SHA-1 AA\r\n" UFRAG PWD "\r\n"
             "m=audio 5004/2 UDP/TLS/RTP/SAVPF 0 96 97 8\r\n"
             "a=rtpmap:96 L16/44100/2\r\na=rtpmap:99 nothing/1\r\n"
             "a=fmtp:96  a=b; C=d;e\r\na=rtcp-fb:* nack\r\na=rtcp-fb:96 NACK PLI\r\n"
             "a=rtcp-fb:97 ccm tmmbr\r\na=rtcp-fb:97 trr-int 100\r\n"
             "a=extmap:3/recvonly urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
             "a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
             "a=extmap:15 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
             "a=extmap:4097 urn:unknown\r\n"
             "a=ssrc:7 cname:x\r\na=ssrc:7 msid:y\r\na=ssrc:0 cname:z\r\na=ssrc:8 cname:x\r\n"
             "a=ssrc-group:FID 7 8\r\na=ssrc-group:FEC-FR 7 9\r\n"
             "m=video 0 UDP/TLS/RTP/SAVPF 100\r\na=bundle-only\r\na=setup:active\r\na=inactive\r\n"
             "a=rid:x recv\r\na=rid:y send pt=100;max-width=1\r\na=simulcast:recv x send y,q;~z\r\n"
             "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000";
    struct sdp *sdp = parse_good(text, sizeof(text) - 1);
    const struct sdp_media *audio = &sdp->media[0], *video = &sdp->media[1];
    assert_int_equal(sdp->medias, 3);
    assert_true(sdp_view_is(sdp->bundle, " a b"));
    assert_int_equal(audio->port, 5004);
    assert_int_equal(audio->common.setup, SDP_PASSIVE);
    assert_int_equal(audio->common.direction, SDP_SENDONLY);
    assert_true(audio->common.extmap_allow_mixed && audio->common.foreign_fingerprint);
    assert_int_equal(audio->common.fingerprints, 0);
    assert_true(sdp_view_is(audio->common.ufrag, "abcd"));
    assert_int_equal(audio->common.ext_id[HDREXT_MID], 3);
    assert_int_equal(audio->common.ext_direction[HDREXT_MID], SDP_RECVONLY);
    assert_int_equal(audio->common.ext_id[HDREXT_RID], 0);
    assert_int_equal(audio->common.ext_id[HDREXT_AUDIO_LEVEL], 0);
    assert_int_equal(audio->common.ext_id[HDREXT_VIDEO_ORIENTATION], 9);
    assert_int_equal(audio->formats, 4);
    assert_true(sdp_view_is(audio->format[0].encoding, "PCMU"));
    assert_true(sdp_view_is(audio->format[3].encoding, "PCMA"));
    assert_true(sdp_view_is(audio->format[1].encoding, "L16"));
    assert_int_equal(audio->format[1].clock_rate, 44100);
    assert_int_equal(audio->format[1].channels, 2);
    assert_int_equal(audio->format[1].feedback, FB_NACK | FB_PLI);
    assert_int_equal(audio->format[2].feedback, FB_NACK);
    assert_int_equal(audio->format[2].encoding.len, 0);
    assert_int_equal(audio->ssrcs, 2);
    assert_int_equal(audio->groups, 1);
    assert_int_equal(audio->group[0].ssrc[1], 8);
    struct sdp_view value;
    assert_true(sdp_fmtp_get(audio->format[1].fmtp, "c", &value) && sdp_view_is(value, "d"));
    assert_true(sdp_fmtp_get(audio->format[1].fmtp, "e", &value) && sdp_view_is(value, ""));
    assert_false(sdp_fmtp_get(audio->format[1].fmtp, "b", &value));
    assert_true(video->bundle_only && video->port == 0);
    assert_int_equal(video->common.setup, SDP_ACTIVE);
    assert_int_equal(video->common.direction, SDP_INACTIVE);
    assert_int_equal(video->rids, 1);
    assert_int_equal(video->simulcast, 2);
    assert_true(sdp_view_is(video->simulcast_rid[0], "y"));
    assert_true(sdp_view_is(video->simulcast_rid[1], "z"));
    assert_false(sdp->media[2].rtp);
    assert_int_equal(sdp->media[2].common.direction, SDP_SENDONLY);
    free(sdp);
}

static void agrees(const struct sample *sample)
{
    struct sdp *sdp = parse_good(sample->text, sample->size);
    check_against_gstsdp(sample->text, sample->size, sdp);
    free(sdp);
}

static void test_samples_agree_with_gstsdp(void **state)
{
    assert_true(samples_each(agrees) >= 19);
}

// Any prefix is taken or refused with a reason, and reads nothing behind its end.
static void truncate_everywhere(const struct sample *sample)
{
    struct sdp *sdp = malloc(sizeof(*sdp));
    struct sdp_error error;
    for (size_t size = 0; size < sample->size; size++) {
        char *cut = malloc(size ? size : 1);
        memcpy(cut, sample->text, size);
        int rc = sdp_parse(sdp, cut, size, &error);
        assert_true(rc == 0 || (rc == -EINVAL && error.reason[0]));
        if (rc == 0) {
            struct sdp_answer answer;
            rc = sdp_answer_publish(sdp, SDP_ALL_CODECS, &answer, &error);
            assert_true(rc == 0 || error.reason[0]);
        }
        free(cut);
    }
    free(sdp);
}

static void test_truncated(void **state)
{
    samples_each(truncate_everywhere);
}

// Each byte of a sample replaced by others: never more than a refusal.
static void corrupt(const struct sample *sample)
{
    static const char bytes[] = {0, '\n', ' ', ':', '9', (char)0xff};
    struct sdp *sdp = malloc(sizeof(*sdp));
    struct sdp_error error;
    for (size_t at = 0; at < sample->size; at++) {
        char old = sample->text[at];
        sample->text[at] = bytes[at % sizeof(bytes)];
        int rc = sdp_parse(sdp, sample->text, sample->size, &error);
        assert_true(rc == 0 || error.reason[0]);
        sample->text[at] = old;
    }
    free(sdp);
}

static void test_corrupted(void **state)
{
    samples_each(corrupt);
}

static const struct fragment_row {
    const char *text;
    int rc;
    unsigned line;
    const char *reason, *ufrag, *mid;
    int candidates;
    bool end;
} fragments[] = {
    // RFC 8840 section 9 and RFC 9725 section 4.3.1, in form.
    {"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
     "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
     "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw "
     "network-id 1\r\n"
     "a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n"
     "a=candidate:3471623853 1 udp 2122194687 2001:db8::2 61766 typ host\r\n"
     "a=end-of-candidates\r\n",
     0, 0, "", "EsAw", "0", 3, true},
    {"a=group:BUNDLE 0 1\nm=video 9 RTP/SAVPF 96\na=mid:v\n" UFRAG PWD
     "m=audio 9 RTP/SAVPF 0\na=mid:w\n" UFRAG PWD,
     0, 0, "", "abcd", "v", 0, false},
    {"", 0, 0, "", "", "", 0, false},
    {"a=candidate:\na=end-of-candidates\n", 0, 0, "", "", "", 0, true},
    {UFRAG, -EINVAL, 1, "together", "", "", 0, false},
    {PWD, -EINVAL, 1, "together", "", "", 0, false},
    {UFRAG PWD "a=ice-ufrag:other\n", -EINVAL, 3, "ice-ufrag", "", "", 0, false},
    {UFRAG "a=ice-pwd:short\n", -EINVAL, 2, "ice-pwd", "", "", 0, false},
    {"v=0\n", -EINVAL, 1, "only m= and a=", "", "", 0, false},
    {"m=audio\n", -EINVAL, 1, "m-line", "", "", 0, false},
    {"a=mid:?\n", -EINVAL, 1, "mid", "", "", 0, false},
    {"a=candidate:1 1 udp x 1.2.3.4 5 typ host\n", -EINVAL, 1, "candidate", "", "", 0, false},
    {"garbage", -EINVAL, 1, "letter", "", "", 0, false},
};

static void test_fragments(void **state)
{
    for (size_t i = 0; i < sizeof(fragments) / sizeof(fragments[0]); i++) {
        const struct fragment_row *t = &fragments[i];
        struct sdp_fragment fragment;
        struct sdp_error error;
        int rc = sdp_parse_fragment(&fragment, t->text, strlen(t->text), &error);
        if (rc != t->rc || error.line != t->line || !strstr(error.reason, t->reason))
            fail_msg("row %zu: %d, line %u, %s", i, rc, error.line, error.reason);
        if (rc)
            continue;
        assert_true(sdp_view_is(fragment.ufrag, t->ufrag));
        assert_true(sdp_view_is(fragment.mid, t->mid));
        assert_int_equal(fragment.candidates, t->candidates);
        assert_int_equal(fragment.end_of_candidates, t->end);
    }
    char *text =
        repeat("", "a=candidate:1 1 udp ", " 1.2.3.4 5 typ host\n", SDP_MAX_CANDIDATES + 1);
    struct sdp_fragment fragment;
    struct sdp_error error;
    assert_int_equal(sdp_parse_fragment(&fragment, text, strlen(text), &error), -E2BIG);
    free(text);
    text = repeat("", "m=audio 9 RTP/SAVPF ", "\n", SDP_MAX_MEDIA + 1);
    assert_int_equal(sdp_parse_fragment(&fragment, text, strlen(text), &error), -E2BIG);
    free(text);
}

static void test_fragment_answer(void **state)
{
    static const char asked[] = "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:aud\n" UFRAG PWD;
    static const char expected[] = "a=ice-lite\r\n"
                                   "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
                                   "a=mid:aud\r\n"
                                   "a=ice-ufrag:12345678\r\n"
                                   "a=ice-pwd:123456789012345678901234\r\n"
                                   "a=candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host\r\n"
                                   "a=candidate:2 1 udp 7 2001:db8::1 4001 typ host\r\n"
                                   "a=end-of-candidates\r\n";
    struct msg_ice ice = {.ufrag = "12345678", .pwd = "123456789012345678901234"};
    struct sdp_candidate candidates[] = {
        {.addr = {.ip = {192, 0, 2, 1}, .port = 4000, .family = 4}},
        {.addr = {.ip = {0x20, 1, 0xd, 0xb8, [15] = 1}, .port = 4001, .family = 6}, .priority = 7},
    };
    struct sdp_local local = {.ice = &ice, .candidate = candidates, .candidates = 2};
    struct sdp_fragment fragment, ours;
    struct sdp_error error;
    char buffer[sizeof(expected)];
    assert_int_equal(sdp_parse_fragment(&fragment, asked, sizeof(asked) - 1, &error), 0);
    assert_int_equal(sdp_write_fragment(&fragment, &local, buffer, sizeof(buffer)),
                     sizeof(expected) - 1);
    assert_string_equal(buffer, expected);
    assert_int_equal(sdp_parse_fragment(&ours, buffer, sizeof(expected) - 1, &error), 0);
    for (size_t size = 1; size < sizeof(expected); size++) {
        char *small = malloc(size);
        assert_int_equal(sdp_write_fragment(&fragment, &local, small, size), -ENOSPC);
        assert_true(strlen(small) < size);
        free(small);
    }
    assert_int_equal(sdp_parse_fragment(&fragment, "", 0, &error), 0);
    char session_level[256];
    assert_true(sdp_write_fragment(&fragment, &local, session_level, sizeof(session_level)) > 0);
    assert_null(strstr(session_level, "m="));
}

static void test_writer(void **state)
{
    char buffer[8];
    struct sdp_writer writer;
    sdp_writer_init(&writer, buffer, sizeof(buffer));
    sdp_line(&writer, "%s", "abcde");
    assert_string_equal(buffer, "abcde\r\n");
    assert_false(writer.full);
    sdp_text(&writer, "%s", "");
    assert_false(writer.full);
    sdp_text(&writer, "%c", 'x');
    assert_true(writer.full);
    assert_string_equal(buffer, "abcde\r\n");
    sdp_writer_init(&writer, buffer, 1);
    sdp_text(&writer, "x");
    assert_true(writer.full && writer.used == 0 && buffer[0] == '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_line_and_size_limits),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_samples_agree_with_gstsdp),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_corrupted),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_fragment_answer),
        cmocka_unit_test(test_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
