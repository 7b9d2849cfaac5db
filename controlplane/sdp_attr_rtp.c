// SDP parser: readers of the a= lines about codecs, header extensions and SSRCs. Any thread.
//
// RFC 8285 (extmap), 4585 (rtcp-fb), 5576 (ssrc), 8851 (rid), 8853 (simulcast). A payload type that
// its m-line does not list is ignored.
#include "sdp_attr.h"
#include <errno.h>

static struct sdp_format *find_format(struct sdp_media *media, uint32_t pt)
{
    for (int i = 0; i < media->formats; i++)
        if (media->format[i].pt == pt)
            return &media->format[i];
    return NULL;
}

// Reads the payload type at the start of `value` and leaves the rest. NULL with *rc 0: not listed.
static struct sdp_format *leading_format(struct sdp_section *in, struct sdp_view *value, int *rc)
{
    struct sdp_view piece;
    uint32_t pt;
    *rc = 0;
    if (!sdp_split(value, ' ', &piece) || !sdp_number(piece, 127, &pt)) {
        *rc = sdp_fail(in->reader, -EINVAL, "payload type is not a number from 0 to 127");
        return NULL;
    }
    return find_format(in->media, pt);
}

int sdp_read_rtpmap(struct sdp_section *in, struct sdp_view value)
{
    struct sdp_view map, encoding, clock, channels;
    uint32_t rate, n = 1;
    int rc;
    if (!in->media->rtp)
        return 0;
    struct sdp_format *format = leading_format(in, &value, &rc);
    if (rc)
        return rc;
    if (!sdp_split(&value, ' ', &map) || !sdp_split(&map, '/', &encoding) ||
        !sdp_is_token(encoding) || !sdp_split(&map, '/', &clock) ||
        !sdp_number(clock, 1000000, &rate) || rate == 0)
        return sdp_fail(in->reader, -EINVAL,
                        "rtpmap is not a name and a clock rate of at most 1 MHz");
    if (sdp_split(&map, '/', &channels) && (!sdp_number(channels, 255, &n) || n == 0))
        return sdp_fail(in->reader, -EINVAL, "rtpmap's channels are not a number from 1 to 255");
    if (format) {
        format->encoding = encoding;
        format->clock_rate = rate;
        format->channels = (uint8_t)n;
    }
    return 0;
}

int sdp_read_fmtp(struct sdp_section *in, struct sdp_view value)
{
    int rc;
    if (!in->media->rtp)
        return 0;
    struct sdp_format *format = leading_format(in, &value, &rc);
    if (format && !format->fmtp.len)
        format->fmtp = value;
    return rc;
}

static uint8_t feedback_bit(struct sdp_view type, struct sdp_view parameter)
{
    static const struct {
        const char *type, *parameter;
        uint8_t bit;
    } known[] = {{"nack", "", FB_NACK},
                 {"nack", "pli", FB_PLI},
                 {"ccm", "fir", FB_FIR},
                 {"transport-cc", "", FB_TRANSPORT_CC},
                 {"goog-remb", "", FB_REMB}};
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (sdp_view_is_nocase(type, known[i].type) &&
            sdp_view_is_nocase(parameter, known[i].parameter))
            return known[i].bit;
    return 0;
}

int sdp_read_rtcp_fb(struct sdp_section *in, struct sdp_view value)
{
    struct sdp_view rest = value, first, type, parameter = {0};
    struct sdp_format *format = NULL;
    int rc = 0;
    if (!in->media->rtp)
        return 0;
    bool all = sdp_split(&rest, ' ', &first) && sdp_view_is(first, "*");
    if (all)
        value = rest;
    else
        format = leading_format(in, &value, &rc);
    if (rc)
        return rc;
    if (!sdp_split(&value, ' ', &type))
        return sdp_fail(in->reader, -EINVAL, "rtcp-fb lacks its type");
    sdp_split(&value, ' ', &parameter);
    uint8_t bit = feedback_bit(type, parameter);
    if (format)
        format->feedback |= bit;
    for (int i = 0; all && i < in->media->formats; i++)
        in->media->format[i].feedback |= bit;
    return 0;
}

static bool ext_id_taken(const struct sdp_common *common, uint32_t id)
{
    for (int e = 0; e < HDREXTS; e++)
        if (common->ext_id[e] == id)
            return true;
    return false;
}

// Only the one-byte form's ids (RFC 8285 4.2); of two uses of an id or of a name the first counts.
int sdp_read_extmap(struct sdp_section *in, struct sdp_view value)
{
    static const char *const names[] = {
#define X(name, uri) [HDREXT_##name] = uri,
        HDREXT_LIST(X)
#undef X
    };
    struct sdp_view head, uri, number, way;
    enum sdp_direction direction = SDP_UNSET;
    uint32_t id;
    if (!sdp_split(&value, ' ', &head) || !sdp_split(&value, ' ', &uri) ||
        !sdp_split(&head, '/', &number) || !sdp_number(number, 65535, &id) || id == 0)
        return sdp_fail(in->reader, -EINVAL, "extmap is not a number and a URI");
    if (sdp_split(&head, '/', &way) && (direction = sdp_direction_of(way)) == SDP_UNSET)
        return sdp_fail(in->reader, -EINVAL, "extmap's direction is none of RFC 8285's");
    if (id > 14 || ext_id_taken(in->common, id))
        return 0;
    for (int e = 0; e < HDREXTS; e++) {
        if (!in->common->ext_id[e] && sdp_view_is(uri, names[e])) {
            in->common->ext_id[e] = (uint8_t)id;
            in->common->ext_direction[e] = (uint8_t)direction;
        }
    }
    return 0;
}

int sdp_read_ssrc(struct sdp_section *in, struct sdp_view value)
{
    struct sdp_media *media = in->media;
    struct sdp_view number;
    uint32_t ssrc;
    if (!sdp_split(&value, ' ', &number) || !sdp_number(number, UINT32_MAX, &ssrc))
        return sdp_fail(in->reader, -EINVAL, "ssrc is not a number of 32 bits");
    for (int i = 0; i < media->ssrcs; i++)
        if (media->ssrc[i] == ssrc)
            return 0;
    if (ssrc == 0)
        return 0;
    if (media->ssrcs == SDP_MAX_SSRCS)
        return sdp_fail(in->reader, -E2BIG, "more than 32 SSRCs in one m-line");
    media->ssrc[media->ssrcs++] = ssrc;
    return 0;
}

int sdp_read_ssrc_group(struct sdp_section *in, struct sdp_view value)
{
    struct sdp_media *media = in->media;
    struct sdp_group group = {0};
    struct sdp_view piece;
    uint32_t ssrc;
    if (!sdp_split(&value, ' ', &piece))
        return sdp_fail(in->reader, -EINVAL, "ssrc-group lacks its semantics");
    if (sdp_view_is(piece, "FID"))
        group.semantics = SDP_GROUP_FID;
    else if (sdp_view_is(piece, "SIM"))
        group.semantics = SDP_GROUP_SIM;
    else
        return 0;
    while (sdp_split(&value, ' ', &piece)) {
        if (!sdp_number(piece, UINT32_MAX, &ssrc) || ssrc == 0)
            return sdp_fail(in->reader, -EINVAL, "ssrc-group holds something that is no SSRC");
        if (group.ssrcs < 4)
            group.ssrc[group.ssrcs++] = ssrc;
    }
    if (media->groups == SDP_MAX_GROUPS)
        return sdp_fail(in->reader, -E2BIG, "more than 16 ssrc-groups in one m-line");
    media->group[media->groups++] = group;
    return 0;
}

// RFC 8851 10: rid-id is letters, digits, '-' and '_'.
static bool is_rid(struct sdp_view view)
{
    for (uint32_t i = 0; i < view.len; i++) {
        char c = view.at[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              c == '-' || c == '_'))
            return false;
    }
    return view.len && view.len <= SDP_MAX_TOKEN;
}

static int add_rid(struct sdp_section *in, struct sdp_view rid, struct sdp_view *list,
                   uint8_t *count)
{
    if (!is_rid(rid))
        return sdp_fail(in->reader, -EINVAL, "rid is not 1 to 64 letters, digits, '-' or '_'");
    if (*count == SDP_MAX_RIDS)
        return sdp_fail(in->reader, -E2BIG, "more than 8 rids in one m-line");
    list[(*count)++] = rid;
    return 0;
}

int sdp_read_rid(struct sdp_section *in, struct sdp_view value)
{
    struct sdp_view rid, direction;
    if (!sdp_split(&value, ' ', &rid) || !sdp_split(&value, ' ', &direction))
        return sdp_fail(in->reader, -EINVAL, "rid lacks its name or direction");
    if (!sdp_view_is(direction, "send"))
        return 0;
    return add_rid(in, rid, in->media->rid, &in->media->rids);
}

int sdp_read_simulcast(struct sdp_section *in, struct sdp_view value)
{
    struct sdp_view direction, list, stream, rid;
    while (sdp_split(&value, ' ', &direction)) {
        if (!sdp_split(&value, ' ', &list))
            return sdp_fail(in->reader, -EINVAL, "simulcast is not a direction and a list of rids");
        if (!sdp_view_is(direction, "send"))
            continue;
        while (sdp_split(&list, ';', &stream)) {
            if (!sdp_split(&stream, ',', &rid))
                return sdp_fail(in->reader, -EINVAL, "simulcast lists a stream without a rid");
            if (*rid.at == '~') { // starts paused
                rid.at++;
                rid.len--;
            }
            int rc = add_rid(in, rid, in->media->simulcast_rid, &in->media->simulcast);
            if (rc)
                return rc;
        }
    }
    return 0;
}
