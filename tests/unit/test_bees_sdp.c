// What the load tester offers, and what it makes of answers: good ones of several servers, and a
// table of bad ones.
#include "../../controlplane/sdp.h"
#include "../bees/answer.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PRINT                                                                                      \
    "7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:"   \
    "19:08"
#define HEAD "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
#define TRANSPORT_AS(setup)                                                                        \
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\na=fingerprint:sha-256 " PRINT         \
    "\r\na=setup:" setup "\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
#define TRANSPORT TRANSPORT_AS("passive")
#define AUDIO                                                                                      \
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n" TRANSPORT   \
    "a=rtpmap:111 opus/48000/2\r\n"
#define VIDEO                                                                                      \
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\n" TRANSPORT \
    "a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n"     \
    "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 "          \
    "rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 11 12\r\na=ssrc:11 cname:x\r\na=ssrc:12 "   \
    "cname:x\r\n"
#define CANDIDATE "a=candidate:1 1 udp 2130706431 10.0.0.1 7000 typ host\r\n"

static struct offer offer;
static struct answer answer;
static char reason[160];

static void make_offer(enum bees_role role, int layers)
{
    offer = (struct offer){.role = (uint8_t)role,
                           .twcc = true,
                           .fingerprint = PRINT,
                           .ufrag = "ourfrag1",
                           .pwd = "ourpassword0123456789abc",
                           .id = 1,
                           .locals = 2,
                           .tracks = 2};
    offer.local[0] = (struct abi_addr){.ip = {10, 0, 0, 2}, .port = 4000, .family = 4};
    offer.local[1] = (struct abi_addr){.ip = {0xfd}, .port = 4000, .family = 6};
    offer.track[0] = (struct offer_track){
        .kind = KIND_AUDIO, .codecs = 1, .codec = {CODEC_OPUS}, .layers = 1, .ssrc = {1}};
    offer.track[1] = (struct offer_track){.kind = KIND_VIDEO,
                                          .codecs = 2,
                                          .codec = {CODEC_VP8, CODEC_H264},
                                          .layers = (uint8_t)layers,
                                          .ssrc = {2, 3, 4},
                                          .rtx_ssrc = {5, 6, 7}};
}

static enum bees_failure read_text(const char *text)
{
    return answer_read(&answer, &offer, text, strlen(text), false, reason);
}

static void check_offer(const char *direction, const char *must[], size_t count)
{
    char text[OFFER_SDP_MAX];
    struct sdp_error error;
    struct sdp *sdp = malloc(sizeof(*sdp));
    int length = offer_write(&offer, text, sizeof(text));
    assert_true(length > 0 && (size_t)length == strlen(text));
    assert_int_equal(sdp_parse(sdp, text, (size_t)length, &error), 0);
    assert_int_equal(sdp->medias, 2);
    assert_int_equal(sdp->candidates, 2);
    assert_non_null(strstr(text, "a=group:BUNDLE 0 1\r\n"));
    for (int m = 0; m < 2; m++) {
        assert_true(sdp->media[m].rtcp_mux);
        assert_int_equal(sdp->media[m].common.fingerprints, 1);
        assert_int_equal(sdp->media[m].common.setup, SDP_ACTPASS);
    }
    assert_non_null(strstr(text, direction));
    for (size_t i = 0; i < count; i++)
        assert_non_null(strstr(text, must[i]));
    for (size_t size = 1; size < (size_t)length; size += 7)
        assert_int_equal(offer_write(&offer, text, size), -ENOSPC);
    free(sdp);
}

static void test_viewers_offer(void **state)
{
    const char *must[] = {"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
                          "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103\r\n", "a=fmtp:97 apt=96\r\n",
                          "a=candidate:2 1 udp 2130706175 fd00:: 4000 typ host\r\n"};
    make_offer(BEES_WHEP, 1);
    check_offer("a=recvonly\r\n", must, 4);
}

static void test_publishers_offer(void **state)
{
    const char *must[] = {"a=ssrc-group:FID 2 5\r\n", "a=ssrc:1 cname:"};
    make_offer(BEES_WHIP, 1);
    check_offer("a=sendonly\r\n", must, 2);
    const char *simulcast[] = {"a=rid:h send\r\n", "a=rid:l send\r\n",
                               "a=simulcast:send h;m;l\r\n"};
    make_offer(BEES_WHIP, 3);
    check_offer("a=sendonly\r\n", simulcast, 3);
}

static void test_trickle(void **state)
{
    char text[OFFER_SDP_MAX];
    struct sdp_error error;
    struct sdp_fragment fragment;
    make_offer(BEES_WHEP, 1);
    offer.trickle = true;
    assert_true(offer_write(&offer, text, sizeof(text)) > 0);
    assert_null(strstr(text, "a=candidate"));
    int length = offer_write_fragment(&offer, text, sizeof(text));
    assert_int_equal(sdp_parse_fragment(&fragment, text, (size_t)length, &error), 0);
    assert_int_equal(fragment.candidates, 2);
    assert_true(fragment.end_of_candidates);
    assert_true(sdp_view_is(fragment.ufrag, "ourfrag1"));
}

static void test_good_answer(void **state)
{
    make_offer(BEES_WHEP, 1);
    assert_int_equal(read_text(HEAD AUDIO CANDIDATE VIDEO), BEES_FAILURE_none);
    assert_string_equal(answer.ufrag, "abcd");
    assert_string_equal(answer.pwd, "0123456789abcdefghijkl");
    assert_true(answer.dtls_client);
    assert_int_equal(answer.fingerprints, 1);
    assert_int_equal(answer.fingerprint[0].digest[31], 8);
    assert_int_equal(answer.candidates, 1);
    assert_int_equal(answer.candidate[0].addr.port, 7000);
    assert_int_equal(answer.candidate[0].priority, 2130706431);
    const struct answer_track *video = &answer.track[1];
    assert_int_equal(video->formats, 1);
    assert_int_equal(video->format[0].codec, CODEC_VP8);
    assert_int_equal(video->format[0].rtx_pt, 97);
    assert_int_equal(video->format[0].feedback, FB_NACK | FB_PLI);
    assert_int_equal(video->twcc, 5);
    assert_int_equal(video->ssrcs, 1);
    assert_int_equal(video->ssrc[0], 11);
    assert_int_equal(video->rtx_ssrc[0], 12);
    assert_int_equal(answer.track[0].format[0].rtx_pt, MSG_NO_PT);
}

// What several servers write, each on top of an answer that is right.
static void test_candidates(void **state)
{
    make_offer(BEES_WHEP, 1);
    assert_int_equal(
        read_text(HEAD AUDIO
                  "a=candidate:1 1 UDP 5 10.0.0.1 7000 typ host generation 0\r\n"
                  "a=candidate:1 1 udp 5 10.0.0.1 7000 typ host\r\n"
                  "a=candidate:2 1 tcp 5 10.0.0.1 7000 typ host tcptype passive\r\n"
                  "a=candidate:3 2 udp 5 10.0.0.1 7001 typ host\r\n"
                  "a=candidate:4 1 udp 9 fd00::1 7000 typ srflx raddr 0.0.0.0 rport 0\r\n"
                  "a=candidate:5 1 udp 5 1b2c3d4e.local 7000 typ host\r\n" VIDEO),
        BEES_FAILURE_none);
    assert_int_equal(answer.candidates, 2);
    assert_int_equal(answer.skipped, 3);
    assert_int_equal(answer.candidate[1].addr.family, 6);
    assert_int_equal(answer.candidate[1].priority, 9);
}

static void test_public_candidates(void **state)
{
    const char *both = HEAD AUDIO CANDIDATE "a=candidate:2 1 udp 9 8.8.8.8 7000 typ host\r\n" VIDEO;
    const char *text = HEAD AUDIO "a=candidate:2 1 udp 9 8.8.8.8 7000 typ host\r\n" VIDEO;
    make_offer(BEES_WHEP, 1);
    assert_int_equal(read_text(text), BEES_FAILURE_public_address);
    assert_int_equal(answer_read(&answer, &offer, text, strlen(text), true, reason),
                     BEES_FAILURE_none);
    assert_int_equal(read_text(both), BEES_FAILURE_none);
    assert_int_equal(answer.candidates, 1); // the public one is left out
}

static void test_simulcast_answer(void **state)
{
    make_offer(BEES_WHIP, 3);
    assert_int_equal(
        read_text(HEAD "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n"
                       "m=video 9 UDP/TLS/RTP/SAVPF 120\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n"
                       "a=recvonly\r\n" TRANSPORT
                       "a=rtpmap:120 VP8/90000\r\na=rid:h recv\r\na=rid:l recv\r\n"
                       "a=simulcast:recv h;l\r\n" CANDIDATE),
        BEES_FAILURE_none);
    assert_int_equal(answer.track[0].formats, 0);
    assert_int_equal(answer.track[1].format[0].pt, 120);
    assert_int_equal(answer.track[1].layers, 2);
    assert_int_equal(answer.track[1].layer[1], 2);
    assert_string_equal(answer.ufrag, "abcd"); // of the m-line in use
}

static void test_dtls_server(void **state)
{
    make_offer(BEES_WHEP, 1);
    assert_int_equal(read_text(HEAD
                               "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\n" TRANSPORT_AS(
                                   "active") "a=rtpmap:111 opus/48000/2\r\n"
                                             "m=video 0 UDP/TLS/RTP/SAVPF 96\r\n" CANDIDATE),
                     BEES_FAILURE_none);
    assert_false(answer.dtls_client);
}

static void test_bad_answers(void **state)
{
    static const struct {
        const char *text;
        enum bees_failure failure;
    } rows[] = {
        {"", BEES_FAILURE_bad_answer},
        {"<html>It works</html>", BEES_FAILURE_bad_answer},
        {HEAD, BEES_FAILURE_bad_answer},
        {HEAD AUDIO CANDIDATE, BEES_FAILURE_bad_answer}, // one m-line is missing
        {HEAD AUDIO VIDEO, BEES_FAILURE_no_candidates},
        {HEAD AUDIO VIDEO "a=candidate:1 1 tcp 5 10.0.0.1 7000 typ host\r\n",
         BEES_FAILURE_no_candidates},
        {HEAD "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"
              "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n" CANDIDATE,
         BEES_FAILURE_no_media_agreed},
        {HEAD "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n"
              "m=video 0 UDP/TLS/RTP/SAVPF 96\r\n" CANDIDATE,
         BEES_FAILURE_bad_answer}, // neither credentials nor certificate
        {HEAD "m=audio 9 UDP/TLS/RTP/SAVPF 77\r\na=sendonly\r\n" TRANSPORT
              "a=rtpmap:77 speex/16000\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n" CANDIDATE,
         BEES_FAILURE_no_media_agreed}, // a codec that was never offered
    };
    make_offer(BEES_WHEP, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(read_text(rows[i].text), rows[i].failure);
}

// Cut off anywhere or with any byte broken, an answer never does harm.
static void test_broken_answers(void **state)
{
    static const char whole[] = HEAD AUDIO CANDIDATE VIDEO;
    char text[sizeof(whole)];
    make_offer(BEES_WHEP, 1);
    for (size_t cut = 0; cut < sizeof(whole); cut++) {
        char *exact = malloc(cut + 1); // so that a sanitizer sees one byte too many
        memcpy(exact, whole, cut);
        answer_read(&answer, &offer, exact, cut, false, reason);
        free(exact);
    }
    for (size_t at = 0; at < sizeof(whole) - 1; at++) {
        for (int value = 0; value < 256; value += 51) {
            memcpy(text, whole, sizeof(text));
            text[at] = (char)value;
            answer_read(&answer, &offer, text, sizeof(text) - 1, false, reason);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_viewers_offer),    cmocka_unit_test(test_publishers_offer),
        cmocka_unit_test(test_trickle),          cmocka_unit_test(test_good_answer),
        cmocka_unit_test(test_candidates),       cmocka_unit_test(test_public_candidates),
        cmocka_unit_test(test_simulcast_answer), cmocka_unit_test(test_dtls_server),
        cmocka_unit_test(test_bad_answers),      cmocka_unit_test(test_broken_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
