// Test media: what is read from files, what the packets look like, how time runs, and whether
// ffmpeg decodes the frames with the clock inside.
#include "../bees/media.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000000ull
#define SECOND 1000000000ull

static char folder[64], error[MEDIA_ERROR];

// Bytes of a file made by hand.
struct bytes {
    uint8_t at[1 << 20];
    size_t length;
};
static struct bytes file;

static void put(const void *data, size_t size)
{
    assert_true(file.length + size <= sizeof(file.at));
    memcpy(file.at + file.length, data, size);
    file.length += size;
}

static void put_le(uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        file.at[file.length++] = i < 8 ? (uint8_t)(value >> (8 * i)) : 0;
}

static const char *save(const char *name)
{
    static char paths[4][128]; // so many results are valid at a time
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(file.at, 1, file.length, out), file.length);
    fclose(out);
    file.length = 0;
    return path;
}

// An IVF file of VP8 frames: a key frame of 3000 bytes every `gop`, 100 bytes else, 40 ms each.
static const char *ivf(const char *name, unsigned frames, unsigned gop)
{
    put("DKIF\0\0\x20\0VP80", 12);
    put_le(64, 2);
    put_le(48, 2);
    put_le(25, 4);
    put_le(1, 4);
    put_le(frames, 4);
    put_le(0, 4);
    for (unsigned i = 0; i < frames; i++) {
        bool key = i % gop == 0;
        size_t size = key ? 3000 : 100;
        put_le(size, 4);
        put_le(i, 8);
        uint8_t frame[3000] = {key ? 0x10 : 0x11, 0, 0, 0x9d, 0x01, 0x2a, 64, 0, 48, 0};
        frame[20] = (uint8_t)i;
        put(frame, size);
    }
    return save(name);
}

static uint32_t crc_of(const uint8_t *page, size_t size)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= (uint32_t)page[i] << 24;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc << 1 ^ (crc & 0x80000000u ? 0x04c11db7u : 0);
    }
    return crc;
}

// An Ogg page with whole packets.
static void ogg_page(unsigned count, const char *const *packet, const size_t *size)
{
    size_t start = file.length;
    put("OggS\0\0", 6);
    put_le(0, 16 + 4); // granule, serial, number, CRC
    put_le(count, 1);
    for (unsigned i = 0; i < count; i++)
        put_le(size[i], 1);
    for (unsigned i = 0; i < count; i++)
        put(packet[i], size[i]);
    uint32_t crc = crc_of(file.at + start, file.length - start);
    for (unsigned i = 0; i < 4; i++)
        file.at[start + 22 + i] = (uint8_t)(crc >> (8 * i));
}

static const char *ogg(const char *name, unsigned packets)
{
    ogg_page(1, (const char *const[]){"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"},
             (const size_t[]){19});
    ogg_page(1, (const char *const[]){"OpusTags\0\0\0\0\0\0\0\0"}, (const size_t[]){16});
    for (unsigned i = 0; i < packets; i++) // configuration 31: 20 ms CELT
        ogg_page(1, (const char *const[]){"\xfc\xff\xfe"}, (const size_t[]){3});
    return save(name);
}

// What a reader gave.
struct seen {
    struct media_packet packet;
    uint8_t payload[MEDIA_PAYLOAD_MAX];
};
static struct seen seen[20000];
static unsigned count;

static void keep(void *opaque, const struct media_packet *packet)
{
    assert_true(count < sizeof(seen) / sizeof(seen[0]));
    assert_in_range(packet->length, 1, MEDIA_PAYLOAD_MAX);
    seen[count].packet = *packet;
    memcpy(seen[count].payload, packet->payload, packet->length);
    count++;
}

static struct media *open_files(const char *video, const char *audio)
{
    struct media *media = NULL;
    struct media_config config = {.video = video ? CODEC_VP8 : CODEC_NONE,
                                  .audio = audio,
                                  .video_file = {video},
                                  .audio_file = audio};
    assert_int_equal(media_open(&config, &media, error), 0);
    return media;
}

static void test_ivf_is_cut_into_packets(void **state)
{
    struct media *media = open_files(ivf("a.ivf", 10, 5), NULL);
    const struct media_info *info = media_info(media);
    assert_int_equal(info->frames, 10);
    assert_int_equal(info->keyframes, 2);
    assert_int_equal(info->video_ns, 400 * MS);
    assert_int_equal(info->layer[0].width, 64);
    assert_int_equal(info->layer[0].height, 48);
    struct media_reader reader;
    media_start(&reader, media, 5 * SECOND);
    count = 0;
    assert_int_equal(media_due(&reader), 5 * SECOND);
    assert_int_equal(media_next(&reader, 5 * SECOND - 1, 0, keep, NULL), 0);
    assert_int_equal(media_next(&reader, 5 * SECOND, 77, keep, NULL), 1);
    assert_int_equal(count, 3); // 3000 bytes, a clock, descriptors
    size_t bytes = 0;
    uint64_t clock = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct media_packet *packet = &seen[i].packet;
        bytes += packet->length - 6;
        assert_int_equal(packet->first, i == 0);
        assert_int_equal(packet->marker, i == count - 1);
        assert_true(packet->keyframe);
        assert_int_equal(packet->kind, KIND_VIDEO);
        assert_int_equal(seen[i].payload[0], i == 0 ? 0x90 : 0x80);
        assert_int_equal(
            media_read_clock(CODEC_VP8, seen[i].payload, seen[i].packet.length, &clock),
            i == count - 1);
    }
    assert_int_equal(clock, 77);
    assert_int_equal(bytes, 3000 + 31);
    assert_int_equal(media_due(&reader), 5 * SECOND + 40 * MS);
    media_unref(media);
}

static void test_loops_with_continuous_times(void **state)
{
    struct media *media = open_files(ivf("a.ivf", 10, 5), ogg("a.ogg", 30));
    struct media_reader reader;
    assert_int_equal(media_info(media)->audio_ns, 400 * MS); // cut to the picture's length
    media_start(&reader, media, 0);
    count = 0;
    uint32_t video = 0, audio = 0, picture = 0;
    for (uint64_t now = 0; now <= 100 * SECOND; now += 5 * MS) {
        unsigned before = count;
        media_next(&reader, now, now, keep, NULL);
        for (unsigned i = before; i < count; i++) {
            const struct media_packet *packet = &seen[i].packet;
            assert_true(packet->due_ns <= now && now - packet->due_ns < 5 * MS);
            if (packet->kind == KIND_AUDIO) {
                assert_int_equal(packet->timestamp, 960 * audio);
                assert_int_equal(packet->marker, audio == 0);
                assert_int_equal(
                    media_rtp_time(&reader, KIND_AUDIO, packet->due_ns) - packet->timestamp, 0);
                audio++;
            } else {
                assert_int_equal(packet->timestamp, 3600 * video);
                assert_int_equal((seen[i].payload[2] & 0x7f) << 8 | seen[i].payload[3], picture);
                assert_int_equal(seen[i].payload[4], picture & 0xff);
                video += packet->marker;
                picture = video & 0x7fff;
            }
        }
        if (count > 15000)
            count = 0;
    }
    assert_int_equal(video, 2500 + 1);
    assert_int_equal(audio, 5000 + 1);
    media_unref(media);
}

static void test_forced_key_frame(void **state)
{
    struct media *media = open_files(ivf("a.ivf", 100, 50), NULL);
    struct media_reader reader;
    media_start(&reader, media, 0);
    count = 0;
    uint64_t now = 0;
    for (; now < 200 * MS; now += 40 * MS)
        media_next(&reader, now, now, keep, NULL);
    // The first frame was one, so the next waits for 300 ms, and several requests are one.
    media_force_keyframe(&reader);
    media_force_keyframe(&reader);
    for (; now < 1200 * MS; now += 40 * MS)
        media_next(&reader, now, now, keep, NULL);
    uint32_t expect = 0, keyframes = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(seen[i].packet.timestamp, expect);
        if (!seen[i].packet.marker)
            continue;
        keyframes += seen[i].packet.keyframe;
        assert_int_equal(seen[i].packet.keyframe, expect == 0 || expect == 8 * 3600);
        expect += 3600;
    }
    assert_int_equal(keyframes, 2);
    assert_int_equal(expect, 30 * 3600);
    media_unref(media);
}

static void test_late_reader_leaves_a_hole(void **state)
{
    struct media *media = open_files(ivf("a.ivf", 10, 5), ogg("a.ogg", 20));
    struct media_reader reader;
    media_start(&reader, media, 0);
    count = 0;
    // Up to a second is caught up with.
    assert_int_equal(media_next(&reader, 1000 * MS, 0, keep, NULL), 26 + 51);
    count = 0;
    assert_int_equal(media_next(&reader, 11020 * MS, 0, keep, NULL), 1);
    assert_int_equal(seen[0].packet.kind, KIND_AUDIO);
    assert_int_equal(seen[0].packet.timestamp, 11020 * 48);
    assert_int_equal(media_next(&reader, 11040 * MS, 0, keep, NULL), 2);
    assert_int_equal(seen[count - 2].packet.timestamp % 3600 + 1, 1 + 0);
    media_unref(media);
}

static void test_layers_stay_together(void **state)
{
    struct media *media = NULL;
    struct media_config config = {.video = CODEC_VP8, .layers = 2};
    config.video_file[0] = ivf("a.ivf", 10, 5);
    config.video_file[1] = ivf("b.ivf", 10, 5);
    assert_int_equal(media_open(&config, &media, error), 0);
    struct media_reader reader;
    media_start(&reader, media, 0);
    count = 0;
    media_next(&reader, 0, 0, keep, NULL);
    assert_int_equal(count, 6);
    assert_int_equal(seen[0].packet.layer, 0);
    assert_int_equal(seen[3].packet.layer, 1);
    assert_true(seen[3].packet.first);
    assert_int_equal(seen[3].packet.timestamp, seen[0].packet.timestamp);
    media_unref(media_ref(media));
    media_unref(media);
    ivf("b.ivf", 10, 4);
    assert_int_equal(media_open(&config, &media, error), -EINVAL);
    assert_non_null(strstr(error, "layer 1"));
}

// Every prefix and a lot of damage: an error text, never a crash.
static void test_broken_files(void **state)
{
    static uint8_t whole[8192];
    srandom(11);
    for (unsigned c = 0; c < 2; c++) {
        bool audio = c == 1;
        FILE *in = fopen(audio ? ogg("c.ogg", 3) : ivf("c.ivf", 3, 2), "r");
        size_t size = fread(whole, 1, sizeof(whole), in);
        fclose(in);
        struct media_config config = {.video = audio ? CODEC_NONE : CODEC_VP8, .audio = audio};
        for (size_t length = 4; length < size; length = length < 200 ? length + 1 : length + 97) {
            struct media *media = NULL;
            put(whole, length);
            const char *path = save("broken");
            config.video_file[0] = config.audio_file = path;
            int rc = media_open(&config, &media, error);
            // A cut between pages or frames leaves a file that is just shorter.
            if (rc == 0)
                media_unref(media);
            else {
                assert_int_equal(rc, -EINVAL);
                assert_non_null(strstr(error, "broken"));
            }
        }
        for (unsigned i = 0; i < 300; i++) {
            struct media *media = NULL;
            put(whole, size);
            for (unsigned n = 0; n < 4; n++)
                file.at[4 + (size_t)random() % (audio ? size - 4 : 60)] = (uint8_t)random();
            config.video_file[0] = config.audio_file = save("broken");
            if (media_open(&config, &media, error) == 0)
                media_unref(media);
            else
                assert_true(!audio || strlen(error) > 0);
        }
    }
    struct media *media = NULL;
    struct media_config config = {.video = CODEC_VP8, .video_file = {"/nonexistent"}};
    assert_int_equal(media_open(&config, &media, error), -ENOENT);
    config.video_file[0] = folder;
    assert_true(media_open(&config, &media, error) < 0);
    config = (struct media_config){.video = CODEC_NONE};
    assert_int_equal(media_open(&config, &media, error), -EINVAL);
    config = (struct media_config){.video = CODEC_H264, .frame_rate = 25, .layers = 4};
    assert_int_equal(media_open(&config, &media, error), -EINVAL);
}

// Two slices make a picture, parameter sets go before every IDR picture, the clock before the
// slices.
static void test_h264_by_hand(void **state)
{
    static const uint8_t sps[] = {0, 0, 0, 1, 0x67, 1, 2, 3}, pps[] = {0, 0, 1, 0x68, 4, 5},
                         aud[] = {0, 0, 1, 9, 0x10}, sei[] = {0, 0, 1, 6, 5, 1, 9, 0x80};
    put(sps, 8);
    put(pps, 6);
    for (unsigned i = 0; i < 4; i++) {
        bool idr = i % 2 == 0;
        put(aud, 5);
        put(sei, 8);
        uint8_t slice[5] = {0, 0, 1, idr ? 0x65 : 0x41, 0x80};
        put(slice, 5);
        for (unsigned n = 0; n < (idr ? 2500u : 50u); n++)
            put_le(0x55, 1);
        slice[4] = 0x40; // not the first slice
        put(slice, 5);
        put("\x66\x66\x66", 4); // the zero belongs to the next start code
    }
    struct media *media = NULL;
    struct media_config config = {.video = CODEC_H264, .video_file = {save("a.h264")}};
    assert_int_equal(media_open(&config, &media, error), 0);
    assert_int_equal(media_info(media)->frames, 4);
    assert_int_equal(media_info(media)->keyframes, 2);
    struct media_reader reader;
    for (unsigned loop = 0; loop < 3; loop++) {
        media_start(&reader, media, 0);
        count = 0;
        if (loop > 0) // the second IDR, whose parameter sets came long before
            media_next(&reader, 40 * MS, 0, keep, NULL);
        count = 0;
        uint64_t clock = 0, at = loop > 0 ? 80 * MS : 0;
        assert_int_equal(media_next(&reader, at, UINT64_MAX, keep, NULL), 1);
        assert_int_equal(count, 5);
        assert_int_equal(seen[0].payload[0], 0x78); // STAP-A with the highest NRI
        assert_int_equal(seen[0].packet.length, 1 + 2 + 4 + 2 + 3 + 2 + 35);
        assert_memory_equal(seen[0].payload + 1, "\0\x04\x67\x01\x02\x03\0\x03\x68\x04\x05", 11);
        assert_true(media_read_clock(CODEC_H264, seen[0].payload, seen[0].packet.length, &clock));
        assert_true(clock == UINT64_MAX);
        for (unsigned i = 1; i < 4; i++) {
            assert_int_equal(seen[i].payload[0], 0x7c);
            assert_int_equal(seen[i].payload[1], i == 1 ? 0x85 : i == 2 ? 0x05 : 0x45);
        }
        assert_int_equal(seen[4].packet.length, 5); // the second slice, as it is
        assert_memory_equal(seen[4].payload, "\x65\x40\x66\x66\x66", 5);
        assert_true(seen[4].packet.marker);
    }
    count = 0;
    media_next(&reader, 120 * MS, 1234567890123456789, keep, NULL);
    assert_int_equal(count, 1); // the clock and two slices in one packet
    uint64_t clock;
    assert_true(media_read_clock(CODEC_H264, seen[0].payload, seen[0].packet.length, &clock));
    assert_true(clock == 1234567890123456789);
    media_unref(media);
}

// A clock is only read whole and unharmed.
static void test_damaged_clocks(void **state)
{
    struct media *media = open_files(ivf("a.ivf", 10, 5), NULL);
    struct media_reader reader;
    uint64_t clock;
    media_start(&reader, media, 0);
    media_next(&reader, 0, 99, keep, NULL);
    count = 0;
    media_next(&reader, 40 * MS, 99, keep, NULL);
    uint8_t *payload = seen[0].payload;
    size_t length = seen[0].packet.length;
    assert_true(media_read_clock(CODEC_VP8, payload, length, &clock));
    for (size_t bit = (length - 31) * 8; bit < length * 8; bit++) {
        payload[bit / 8] ^= 1u << (bit % 8);
        assert_false(media_read_clock(CODEC_VP8, payload, length, &clock));
        payload[bit / 8] ^= 1u << (bit % 8);
    }
    for (size_t cut = 0; cut < length; cut++)
        for (enum codec codec = CODEC_NONE; codec < CODECS; codec++)
            assert_false(media_read_clock(codec, payload, cut, &clock));
    srandom(5);
    uint8_t noise[64];
    for (unsigned i = 0; i < 100000; i++) {
        for (unsigned n = 0; n < sizeof(noise); n++)
            noise[n] = (uint8_t)random();
        noise[0] = i & 1 ? 24 : (uint8_t)(random() & 0x30);
        assert_false(
            media_read_clock(i & 1 ? CODEC_H264 : CODEC_AV1, noise, sizeof(noise), &clock));
    }
    media_unref(media);
}

// Puts frames together again as a receiver would, into what ffmpeg reads.
static void unpack_h264(const uint8_t *payload, size_t length)
{
    if ((payload[0] & 0x1f) == 28) {
        if (payload[1] & 0x80) {
            put("\0\0\0\1", 4);
            put_le((payload[0] & 0xe0) | (payload[1] & 0x1f), 1);
        }
        put(payload + 2, length - 2);
        return;
    }
    bool aggregate = (payload[0] & 0x1f) == 24;
    for (size_t at = aggregate ? 1 : 0; at < length;) {
        size_t size = length;
        if (aggregate) {
            size = (size_t)payload[at] << 8 | payload[at + 1];
            at += 2;
        }
        put("\0\0\0\1", 4);
        put(payload + at, size);
        at += size;
    }
}

static uint8_t obu[1 << 17];
static size_t obu_length;

static void unpack_av1(const uint8_t *payload, size_t length)
{
    assert_int_equal(payload[0] & 0x30, 0); // W
    if (payload[0] & 0x80)
        assert_true(obu_length > 0);
    else
        assert_int_equal(obu_length, 0);
    for (size_t at = 1; at < length;) {
        size_t size = payload[at] & 0x7f;
        if (payload[at++] & 0x80)
            size |= (size_t)payload[at++] << 7;
        assert_true(at + size <= length);
        memcpy(obu + obu_length, payload + at, size);
        obu_length += size;
        at += size;
        if (at == length && payload[0] & 0x40)
            return;
        // Give it its size field back.
        put_le(obu[0] | 2, 1);
        size_t body = obu_length - 1;
        put_le((body & 0x7f) | 0x80, 1);
        put_le((body >> 7 & 0x7f) | 0x80, 1);
        put_le(body >> 14, 1);
        put(obu + 1, body);
        obu_length = 0;
    }
}

static void decode(enum codec codec, const char *path, unsigned frames)
{
    char command[512], line[256] = "";
    snprintf(command, sizeof(command),
             "ffmpeg -v warning -xerror -err_detect explode -nostdin -i %s -f null - 2>&1", path);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    char *complaint = fgets(line, sizeof(line), out);
    assert_int_equal(pclose(out), 0);
    if (complaint)
        fail_msg("codec %d: %s", codec, line);
    snprintf(command, sizeof(command),
             "ffprobe -v error -count_frames -show_entries stream=nb_read_frames -of csv=p=0 %s",
             path);
    out = popen(command, "r");
    assert_non_null(out);
    unsigned got = 0;
    assert_int_equal(fscanf(out, "%u", &got), 1);
    pclose(out);
    assert_int_equal(got, frames);
}

// 80 frames of what ffmpeg made, a forced key frame among them, through packets and back.
static void made(enum codec codec, unsigned layers)
{
    struct media *media = NULL;
    struct media_config config = {.video = codec, .audio = true, .layers = layers, .cache = folder};
    struct media_reader reader;
    int rc = media_open(&config, &media, error);
    if (rc == -ENOEXEC) {
        skip();
        return;
    }
    if (rc != 0)
        fail_msg("%s", error);
    const struct media_info *info = media_info(media);
    assert_int_equal(info->frames, 250);
    assert_int_equal(info->keyframes, 5);
    assert_in_range(info->layer[0].bitrate, 800000, 1200000);
    assert_in_range(info->audio_bitrate, 20000, 90000);
    assert_int_equal(info->audio_ns, info->video_ns);
    media_start(&reader, media, 0);
    uint64_t clocks = 0;
    unsigned frames = 0, keyframes = 0;
    if (codec != CODEC_H264) {
        put(codec == CODEC_AV1   ? "DKIF\0\0\x20\0AV01"
            : codec == CODEC_VP8 ? "DKIF\0\0\x20\0VP80"
                                 : "DKIF\0\0\x20\0VP90",
            12);
        put_le(640 | 360 << 16, 4);
        put_le(25, 4);
        put_le(1, 4);
        put_le(80, 8);
    }
    for (unsigned n = 0; n < 80; n++) {
        count = 0;
        if (n == 60)
            media_force_keyframe(&reader);
        media_next(&reader, n * 40 * MS, n + 1, keep, NULL);
        size_t head = file.length;
        if (codec != CODEC_H264)
            put_le(0, 12);
        if (codec == CODEC_AV1)
            put("\x12\0", 2); // temporal delimiter
        for (unsigned i = 0; i < count; i++) {
            const struct media_packet *packet = &seen[i].packet;
            const uint8_t *payload = seen[i].payload;
            uint64_t clock;
            if (packet->kind == KIND_AUDIO || packet->layer > 0)
                continue;
            if (media_read_clock(codec, payload, packet->length, &clock)) {
                assert_int_equal(clock, n + 1);
                clocks++;
            }
            frames += packet->marker;
            keyframes += packet->marker && packet->keyframe;
            if (codec == CODEC_H264)
                unpack_h264(payload, packet->length);
            else if (codec == CODEC_AV1)
                unpack_av1(payload, packet->length);
            else {
                size_t skip_bytes = codec == CODEC_VP8 ? 6 : payload[0] & 2 ? 8 : 3;
                put(payload + skip_bytes, packet->length - skip_bytes);
            }
        }
        if (codec != CODEC_H264) {
            uint32_t size = (uint32_t)(file.length - head - 12);
            memcpy(file.at + head, &size, 4);
            file.at[head + 4] = (uint8_t)n;
        }
    }
    assert_int_equal(frames, 80);
    assert_int_equal(keyframes, 3); // 0, 50, 60
    assert_int_equal(clocks, info->clock ? 80 : 0);
    media_unref(media);
    decode(codec, save(codec == CODEC_H264 ? "out.h264" : "out.ivf"), 80);
}

static void test_made_vp8(void **state)
{
    made(CODEC_VP8, 3);
}

static void test_made_h264(void **state)
{
    made(CODEC_H264, 3);
}

static void test_made_vp9(void **state)
{
    made(CODEC_VP9, 1);
}

static void test_made_av1(void **state)
{
    made(CODEC_AV1, 1);
}

// MP4 is repacked; what is no media at all gives ffmpeg's complaint.
static void test_foreign_files(void **state)
{
    char command[512], path[96];
    struct media *media = NULL;
    snprintf(path, sizeof(path), "%s/film.mp4", folder);
    snprintf(command, sizeof(command),
             "ffmpeg -v error -nostdin -i %s/test-1-h264-640x360.h264 -i %s/test-1-opus-48k.ogg "
             "-c:v copy -c:a aac -y %s",
             folder, folder, path);
    if (system(command) != 0) {
        skip();
        return;
    }
    struct media_config config = {.video = CODEC_H264,
                                  .audio = true,
                                  .video_file = {path},
                                  .audio_file = path,
                                  .cache = folder};
    if (media_open(&config, &media, error) != 0)
        fail_msg("%s", error);
    assert_int_equal(media_info(media)->frames, 250);
    assert_int_equal(media_info(media)->audio_ns, 10 * SECOND);
    media_unref(media);
    put("what is this", 12);
    config.video_file[0] = save("nonsense");
    assert_int_equal(media_open(&config, &media, error), -EINVAL);
    assert_non_null(strstr(error, "ffmpeg"));
    chmod(folder, 0777);
    config.video_file[0] = NULL;
    assert_int_equal(media_open(&config, &media, error), -EPERM);
    chmod(folder, 0700);
}

static int setup(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/test-bees-media-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[96];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ivf_is_cut_into_packets),
        cmocka_unit_test(test_loops_with_continuous_times),
        cmocka_unit_test(test_forced_key_frame),
        cmocka_unit_test(test_late_reader_leaves_a_hole),
        cmocka_unit_test(test_layers_stay_together),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_h264_by_hand),
        cmocka_unit_test(test_damaged_clocks),
        cmocka_unit_test(test_made_vp8),
        cmocka_unit_test(test_made_h264),
        cmocka_unit_test(test_made_vp9),
        cmocka_unit_test(test_made_av1),
        cmocka_unit_test(test_foreign_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
