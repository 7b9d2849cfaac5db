// SDP parser: lines, tokens, and the order of session and media sections. Any thread; RFC 8866.
//
// Reads in one pass and keeps views into the input. Lenient where clients in the field are sloppy
// (blank lines, a missing last line end, order of session lines), strict about everything that is
// used later.
#include "sdp_attr.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int sdp_fail(struct sdp_reader *reader, int code, const char *reason)
{
    reader->error->line = reader->line;
    snprintf(reader->error->reason, sizeof(reader->error->reason), "%s", reason);
    return code;
}

int sdp_reader_init(struct sdp_reader *reader, const char *text, size_t size,
                    struct sdp_error *error)
{
    *reader = (struct sdp_reader){.at = text, .end = text + size, .error = error};
    *error = (struct sdp_error){0};
    if (size > SDP_MAX_BYTES)
        return sdp_fail(reader, -E2BIG, "description is larger than 128 KiB");
    return 0;
}

static int check_line(struct sdp_reader *reader, const char *at, size_t len)
{
    if (len > SDP_MAX_LINE)
        return sdp_fail(reader, -E2BIG, "line is longer than 4096 bytes");
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f)
            return sdp_fail(reader, -EINVAL, "line holds a control character");
    if (len < 2 || at[1] != '=' || at[0] < 'a' || at[0] > 'z')
        return sdp_fail(reader, -EINVAL, "line does not begin with a letter and '='");
    return 0;
}

int sdp_read_line(struct sdp_reader *reader, char *type, struct sdp_view *value)
{
    while (reader->at < reader->end) {
        const char *start = reader->at;
        const char *feed = memchr(start, '\n', (size_t)(reader->end - start));
        const char *stop = feed ? feed : reader->end;
        reader->at = feed ? feed + 1 : reader->end;
        reader->line++;
        if (stop > start && stop[-1] == '\r')
            stop--;
        if (stop == start)
            continue;
        int rc = check_line(reader, start, (size_t)(stop - start));
        if (rc)
            return rc;
        *type = start[0];
        *value = (struct sdp_view){start + 2, (uint32_t)(stop - start) - 2};
        return 1;
    }
    return 0;
}

bool sdp_split(struct sdp_view *rest, char separator, struct sdp_view *piece)
{
    while (rest->len && *rest->at == separator) {
        rest->at++;
        rest->len--;
    }
    if (!rest->len)
        return false;
    const char *found = memchr(rest->at, separator, rest->len);
    uint32_t len = found ? (uint32_t)(found - rest->at) : rest->len;
    *piece = (struct sdp_view){rest->at, len};
    rest->at += len;
    rest->len -= len;
    return true;
}

bool sdp_number(struct sdp_view view, uint32_t max, uint32_t *number)
{
    uint64_t sum = 0;
    if (!view.len || view.len > 10)
        return false;
    for (uint32_t i = 0; i < view.len; i++) {
        if (view.at[i] < '0' || view.at[i] > '9')
            return false;
        sum = sum * 10 + (uint64_t)(view.at[i] - '0');
    }
    *number = (uint32_t)sum;
    return sum <= max;
}

bool sdp_is_token(struct sdp_view view)
{
    if (!view.len || view.len > SDP_MAX_TOKEN)
        return false;
    for (uint32_t i = 0; i < view.len; i++)
        if (view.at[i] <= ' ' || view.at[i] > '~' || strchr("\"(),/:;<=>?@[\\]", view.at[i]))
            return false;
    return true;
}

bool sdp_view_is(struct sdp_view view, const char *text)
{
    return view.len == strlen(text) && (!view.len || !memcmp(view.at, text, view.len));
}

bool sdp_view_is_nocase(struct sdp_view view, const char *text)
{
    return view.len == strlen(text) && (!view.len || !strncasecmp(view.at, text, view.len));
}

bool sdp_fmtp_get(struct sdp_view fmtp, const char *name, struct sdp_view *value)
{
    struct sdp_view pair;
    while (sdp_split(&fmtp, ';', &pair)) {
        while (pair.len && *pair.at == ' ') {
            pair.at++;
            pair.len--;
        }
        while (pair.len && pair.at[pair.len - 1] == ' ')
            pair.len--;
        const char *equals = pair.len ? memchr(pair.at, '=', pair.len) : NULL;
        uint32_t len = equals ? (uint32_t)(equals - pair.at) : pair.len;
        if (!sdp_view_is_nocase((struct sdp_view){pair.at, len}, name))
            continue;
        *value = equals ? (struct sdp_view){equals + 1, pair.len - len - 1}
                        : (struct sdp_view){pair.at + pair.len, 0};
        return true;
    }
    return false;
}

// "UDP/TLS/RTP/SAVPF", "RTP/AVP" and their like, whose formats are payload types.
static bool is_rtp(struct sdp_view proto)
{
    return (proto.len > 4 && !memcmp(proto.at, "RTP/", 4)) ||
           memmem(proto.at, proto.len, "/RTP/", 5) != NULL;
}

static void static_type(struct sdp_format *format)
{
    if (format->pt == 0)
        format->encoding = (struct sdp_view){"PCMU", 4};
    else if (format->pt == 8)
        format->encoding = (struct sdp_view){"PCMA", 4};
    else
        return;
    format->clock_rate = 8000;
}

static int read_formats(struct sdp_reader *reader, struct sdp_view rest, struct sdp_media *media)
{
    struct sdp_view piece;
    uint32_t pt;
    uint64_t seen[2] = {0};
    while (sdp_split(&rest, ' ', &piece)) {
        if (!sdp_number(piece, 127, &pt))
            return sdp_fail(reader, -EINVAL, "payload type is not a number from 0 to 127");
        if (seen[pt / 64] >> (pt % 64) & 1)
            return sdp_fail(reader, -EINVAL, "payload type stands twice in its m-line");
        if (media->formats == SDP_MAX_FORMATS)
            return sdp_fail(reader, -E2BIG, "more than 64 payload types in one m-line");
        seen[pt / 64] |= 1ull << (pt % 64);
        struct sdp_format *format = &media->format[media->formats++];
        format->pt = (uint8_t)pt;
        format->channels = 1;
        static_type(format);
    }
    return 0;
}

static bool is_proto(struct sdp_view proto)
{
    struct sdp_view part;
    if (proto.len > SDP_MAX_TOKEN)
        return false;
    while (sdp_split(&proto, '/', &part))
        if (!sdp_is_token(part))
            return false;
    return true;
}

int sdp_read_media(struct sdp_reader *reader, struct sdp_view value, struct sdp_media *media)
{
    struct sdp_view port, ports, number;
    uint32_t n, unused;
    media->line = reader->line;
    if (!sdp_split(&value, ' ', &media->type) || !sdp_split(&value, ' ', &port) ||
        !sdp_split(&value, ' ', &media->proto))
        return sdp_fail(reader, -EINVAL, "m-line lacks media, port or protocol");
    struct sdp_view rest = value;
    if (!sdp_split(&rest, ' ', &media->fmt))
        return sdp_fail(reader, -EINVAL, "m-line lacks a format");
    if (!sdp_is_token(media->type) || !is_proto(media->proto) || !sdp_is_token(media->fmt))
        return sdp_fail(reader, -EINVAL, "m-line holds a field that is not a token");
    ports = port;
    if (!sdp_split(&ports, '/', &number) || !sdp_number(number, 65535, &n) ||
        (ports.len && (ports.at++, ports.len--, !sdp_number(ports, 65535, &unused))))
        return sdp_fail(reader, -EINVAL, "port of m-line is not a number from 0 to 65535");
    media->port = (uint16_t)n;
    media->rtp = is_rtp(media->proto);
    return media->rtp ? read_formats(reader, value, media) : 0;
}

// What a media section does not say itself, the session says for it.
static void inherit(struct sdp_common *media, const struct sdp_common *session)
{
    if (!media->ufrag.len && !media->pwd.len) {
        media->ufrag = session->ufrag;
        media->pwd = session->pwd;
    }
    if (media->setup == SDP_SETUP_UNSET)
        media->setup = session->setup;
    if (media->direction == SDP_UNSET)
        media->direction = session->direction ? session->direction : SDP_SENDRECV;
    if (!media->fingerprints && !media->foreign_fingerprint) {
        media->fingerprints = session->fingerprints;
        media->foreign_fingerprint = session->foreign_fingerprint;
        memcpy(media->fingerprint, session->fingerprint, sizeof(media->fingerprint));
    }
    media->extmap_allow_mixed |= session->extmap_allow_mixed;
    for (int e = 0; e < HDREXTS; e++) {
        if (!media->ext_id[e]) {
            media->ext_id[e] = session->ext_id[e];
            media->ext_direction[e] = session->ext_direction[e];
        }
    }
}

static int check_mids(struct sdp_reader *reader, const struct sdp *sdp)
{
    for (int i = 0; i < sdp->medias; i++) {
        struct sdp_view a = sdp->media[i].mid;
        for (int k = 0; k < i && a.len; k++) {
            struct sdp_view b = sdp->media[k].mid;
            if (a.len != b.len || memcmp(a.at, b.at, a.len))
                continue;
            reader->line = sdp->media[i].line;
            return sdp_fail(reader, -EINVAL, "mid stands in two m-lines");
        }
    }
    return 0;
}

static int begin_media(struct sdp_reader *reader, struct sdp *sdp, struct sdp_view value)
{
    if (sdp->medias == SDP_MAX_MEDIA)
        return sdp_fail(reader, -E2BIG, "more than 16 m-lines");
    struct sdp_media *media = &sdp->media[sdp->medias++];
    memset(media, 0, sizeof(*media));
    return sdp_read_media(reader, value, media);
}

static uint32_t letter_bit(char type)
{
    return 1u << (type - 'a');
}

// `seen` has the bit of each type of session line so far.
static int read_section_line(struct sdp_reader *reader, struct sdp *sdp, uint32_t *seen, char type,
                             struct sdp_view value)
{
    struct sdp_media *media = sdp->medias ? &sdp->media[sdp->medias - 1] : NULL;
    if (!*seen && type != 'v')
        return sdp_fail(reader, -EINVAL, "description does not begin with v=0");
    switch (type) {
    case 'm':
        return begin_media(reader, sdp, value);
    case 'a':
        return sdp_read_attribute(reader, value, sdp, media);
    case 'v':
        if (!sdp_view_is(value, "0"))
            return sdp_fail(reader, -EINVAL, "version of SDP is not 0");
        break;
    }
    if (!strchr(media ? "icbk" : "vosiuepcbtrzk", type))
        return sdp_fail(reader, -EINVAL, "line of this type does not belong here");
    if ((*seen & letter_bit(type)) && strchr("vos", type))
        return sdp_fail(reader, -EINVAL, "line of this type stands twice");
    *seen |= letter_bit(type);
    return 0;
}

int sdp_parse(struct sdp *sdp, const char *text, size_t size, struct sdp_error *error)
{
    struct sdp_reader reader;
    struct sdp_view value;
    uint32_t seen = 0;
    char type = 0;
    int rc = sdp_reader_init(&reader, text, size, error);
    if (rc)
        return rc;
    memset(sdp, 0, offsetof(struct sdp, media));
    while ((rc = sdp_read_line(&reader, &type, &value)) > 0) {
        rc = read_section_line(&reader, sdp, &seen, type, value);
        if (rc)
            return rc;
    }
    if (rc)
        return rc;
    if (!seen)
        return sdp_fail(&reader, -EINVAL, "description is empty");
    for (const char *must = "ost"; *must; must++)
        if (!(seen & letter_bit(*must)))
            return sdp_fail(&reader, -EINVAL, "an o=, s= or t= line is missing");
    for (int i = 0; i < sdp->medias; i++)
        inherit(&sdp->media[i].common, &sdp->common);
    return check_mids(&reader, sdp);
}
