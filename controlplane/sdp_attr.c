// SDP parser: the a= lines that WebRTC needs, one reader per attribute in one table. Any thread.
//
// RFC 8839 (ICE), 8122 and 8842 (DTLS), 8285 (extmap), 4585 (rtcp-fb), 5576 (ssrc), 8851 (rid),
// 8853 (simulcast), 9143 (BUNDLE). A payload type that its m-line does not list is ignored.
#include "sdp_attr.h"
#include <errno.h>
#include <string.h>

// The section that an attribute stands in. media is NULL in the session's.
struct section {
    struct sdp_reader *reader;
    struct sdp *sdp;
    struct sdp_media *media;
    struct sdp_common *common;
};

static int fail(struct section *in, const char *reason)
{
    return sdp_fail(in->reader, -EINVAL, reason);
}

static bool is_ice_chars(struct sdp_view view, uint32_t min, uint32_t max)
{
    if (view.len < min || view.len > max)
        return false;
    for (uint32_t i = 0; i < view.len; i++) {
        char c = view.at[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}

bool sdp_is_ufrag(struct sdp_view view)
{
    return is_ice_chars(view, 4, 256);
}

bool sdp_is_pwd(struct sdp_view view)
{
    return is_ice_chars(view, 22, 256);
}

// An IP address, or a name such as mDNS makes up: nobody resolves it, so the form is enough.
static bool is_host(struct sdp_view view)
{
    if (!view.len || view.len > 255)
        return false;
    for (uint32_t i = 0; i < view.len; i++) {
        char c = view.at[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              c == '-' || c == '.' || c == ':' || c == '_' || c == '%'))
            return false;
    }
    return true;
}

bool sdp_is_candidate(struct sdp_view rest)
{
    static const char *const types[] = {"host", "srflx", "prflx", "relay"};
    struct sdp_view field[8];
    uint32_t n;
    for (int i = 0; i < 8; i++)
        if (!sdp_split(&rest, ' ', &field[i]))
            return false;
    if (!is_ice_chars(field[0], 1, 32) || !sdp_number(field[1], 256, &n) || n == 0 ||
        !sdp_is_token(field[2]) || !sdp_number(field[3], INT32_MAX, &n) || !is_host(field[4]) ||
        !sdp_number(field[5], 65535, &n) || !sdp_view_is(field[6], "typ"))
        return false;
    for (int i = 0; i < 4; i++)
        if (sdp_view_is(field[7], types[i]))
            return true;
    return false;
}

static int read_mid(struct section *in, struct sdp_view value)
{
    if (in->media->mid.len)
        return fail(in, "second mid in one m-line");
    if (!sdp_is_token(value))
        return fail(in, "mid is not a token of 1 to 64 characters");
    in->media->mid = value;
    return 0;
}

static int read_ufrag(struct section *in, struct sdp_view value)
{
    if (!sdp_is_ufrag(value))
        return fail(in, "ice-ufrag is not 4 to 256 ice-chars");
    in->common->ufrag = value;
    return 0;
}

static int read_pwd(struct section *in, struct sdp_view value)
{
    if (!sdp_is_pwd(value))
        return fail(in, "ice-pwd is not 22 to 256 ice-chars");
    in->common->pwd = value;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// "AB:CD:..." of exactly `size` bytes.
static bool read_digest(struct sdp_view hex, uint8_t *digest, uint32_t size)
{
    if (hex.len != size * 3 - 1)
        return false;
    for (uint32_t i = 0; i < size; i++) {
        int high = hex_digit(hex.at[i * 3]), low = hex_digit(hex.at[i * 3 + 1]);
        if (high < 0 || low < 0 || (i + 1 < size && hex.at[i * 3 + 2] != ':'))
            return false;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static int read_fingerprint(struct section *in, struct sdp_view value)
{
    static const struct {
        const char *name;
        uint8_t hash, size;
    } hashes[] = {
        {"sha-256", SDP_SHA256, 32}, {"sha-384", SDP_SHA384, 48}, {"sha-512", SDP_SHA512, 64}};
    struct sdp_view name, hex;
    if (!sdp_split(&value, ' ', &name) || !sdp_split(&value, ' ', &hex) || value.len)
        return fail(in, "fingerprint is not a hash name and a digest");
    for (int i = 0; i < 3; i++) {
        if (!sdp_view_is_nocase(name, hashes[i].name))
            continue;
        struct sdp_fingerprint fingerprint = {.hash = hashes[i].hash, .size = hashes[i].size};
        if (!read_digest(hex, fingerprint.digest, fingerprint.size))
            return fail(in, "fingerprint's digest is not hex bytes of its hash's length");
        if (in->common->fingerprints < SDP_MAX_FINGERPRINTS)
            in->common->fingerprint[in->common->fingerprints++] = fingerprint;
        return 0;
    }
    in->common->foreign_fingerprint = true;
    return 0;
}

static int read_setup(struct section *in, struct sdp_view value)
{
    static const char *const names[] = {[SDP_ACTPASS] = "actpass",
                                        [SDP_ACTIVE] = "active",
                                        [SDP_PASSIVE] = "passive",
                                        [SDP_HOLDCONN] = "holdconn"};
    for (int i = SDP_ACTPASS; i <= SDP_HOLDCONN; i++) {
        if (sdp_view_is(value, names[i])) {
            in->common->setup = (uint8_t)i;
            return 0;
        }
    }
    return fail(in, "setup is none of actpass, active, passive, holdconn");
}

static int read_group(struct section *in, struct sdp_view value)
{
    struct sdp_view name;
    if (sdp_split(&value, ' ', &name) && sdp_view_is(name, "BUNDLE") && !in->sdp->bundle.len)
        in->sdp->bundle = value;
    return 0;
}

static int read_candidate(struct section *in, struct sdp_view value)
{
    if (in->sdp->candidates == SDP_MAX_CANDIDATES)
        return sdp_fail(in->reader, -E2BIG, "more than 64 candidates");
    if (!sdp_is_candidate(value))
        return fail(in, "malformed candidate");
    in->sdp->candidates++;
    return 0;
}

static struct sdp_format *find_format(struct sdp_media *media, uint32_t pt)
{
    for (int i = 0; i < media->formats; i++)
        if (media->format[i].pt == pt)
            return &media->format[i];
    return NULL;
}

// Reads the payload type at the start of `value` and leaves the rest. NULL with *rc 0: not listed.
static struct sdp_format *leading_format(struct section *in, struct sdp_view *value, int *rc)
{
    struct sdp_view piece;
    uint32_t pt;
    *rc = 0;
    if (!sdp_split(value, ' ', &piece) || !sdp_number(piece, 127, &pt)) {
        *rc = fail(in, "payload type is not a number from 0 to 127");
        return NULL;
    }
    return find_format(in->media, pt);
}

static int read_rtpmap(struct section *in, struct sdp_view value)
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
        return fail(in, "rtpmap is not a name and a clock rate of at most 1 MHz");
    if (sdp_split(&map, '/', &channels) && (!sdp_number(channels, 255, &n) || n == 0))
        return fail(in, "rtpmap's channels are not a number from 1 to 255");
    if (format) {
        format->encoding = encoding;
        format->clock_rate = rate;
        format->channels = (uint8_t)n;
    }
    return 0;
}

static int read_fmtp(struct section *in, struct sdp_view value)
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

static int read_rtcp_fb(struct section *in, struct sdp_view value)
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
        return fail(in, "rtcp-fb lacks its type");
    sdp_split(&value, ' ', &parameter);
    uint8_t bit = feedback_bit(type, parameter);
    if (format)
        format->feedback |= bit;
    for (int i = 0; all && i < in->media->formats; i++)
        in->media->format[i].feedback |= bit;
    return 0;
}

static enum sdp_direction direction_of(struct sdp_view view)
{
    static const char *const names[] = {[SDP_SENDRECV] = "sendrecv",
                                        [SDP_SENDONLY] = "sendonly",
                                        [SDP_RECVONLY] = "recvonly",
                                        [SDP_INACTIVE] = "inactive"};
    for (int i = SDP_SENDRECV; i <= SDP_INACTIVE; i++)
        if (sdp_view_is(view, names[i]))
            return (enum sdp_direction)i;
    return SDP_UNSET;
}

static bool ext_id_taken(const struct sdp_common *common, uint32_t id)
{
    for (int e = 0; e < HDREXTS; e++)
        if (common->ext_id[e] == id)
            return true;
    return false;
}

// Only the one-byte form's ids (RFC 8285 4.2); of two uses of an id or of a name the first counts.
static int read_extmap(struct section *in, struct sdp_view value)
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
        return fail(in, "extmap is not a number and a URI");
    if (sdp_split(&head, '/', &way) && (direction = direction_of(way)) == SDP_UNSET)
        return fail(in, "extmap's direction is none of RFC 8285's");
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

static int read_ssrc(struct section *in, struct sdp_view value)
{
    struct sdp_media *media = in->media;
    struct sdp_view number;
    uint32_t ssrc;
    if (!sdp_split(&value, ' ', &number) || !sdp_number(number, UINT32_MAX, &ssrc))
        return fail(in, "ssrc is not a number of 32 bits");
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

static int read_ssrc_group(struct section *in, struct sdp_view value)
{
    struct sdp_media *media = in->media;
    struct sdp_group group = {0};
    struct sdp_view piece;
    uint32_t ssrc;
    if (!sdp_split(&value, ' ', &piece))
        return fail(in, "ssrc-group lacks its semantics");
    if (sdp_view_is(piece, "FID"))
        group.semantics = SDP_GROUP_FID;
    else if (sdp_view_is(piece, "SIM"))
        group.semantics = SDP_GROUP_SIM;
    else
        return 0;
    while (sdp_split(&value, ' ', &piece)) {
        if (!sdp_number(piece, UINT32_MAX, &ssrc) || ssrc == 0)
            return fail(in, "ssrc-group holds something that is no SSRC");
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

static int add_rid(struct section *in, struct sdp_view rid, struct sdp_view *list, uint8_t *count)
{
    if (!is_rid(rid))
        return fail(in, "rid is not 1 to 64 letters, digits, '-' or '_'");
    if (*count == SDP_MAX_RIDS)
        return sdp_fail(in->reader, -E2BIG, "more than 8 rids in one m-line");
    list[(*count)++] = rid;
    return 0;
}

static int read_rid(struct section *in, struct sdp_view value)
{
    struct sdp_view rid, direction;
    if (!sdp_split(&value, ' ', &rid) || !sdp_split(&value, ' ', &direction))
        return fail(in, "rid lacks its name or direction");
    if (!sdp_view_is(direction, "send"))
        return 0;
    return add_rid(in, rid, in->media->rid, &in->media->rids);
}

static int read_simulcast(struct section *in, struct sdp_view value)
{
    struct sdp_view direction, list, stream, rid;
    while (sdp_split(&value, ' ', &direction)) {
        if (!sdp_split(&value, ' ', &list))
            return fail(in, "simulcast is not a direction and a list of rids");
        if (!sdp_view_is(direction, "send"))
            continue;
        while (sdp_split(&list, ';', &stream)) {
            if (!sdp_split(&stream, ',', &rid))
                return fail(in, "simulcast lists a stream without a rid");
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

enum { IN_SESSION = 1, IN_MEDIA = 2, IN_BOTH = 3 };

static const struct attribute {
    const char *name;
    int where;
    int (*read)(struct section *in, struct sdp_view value);
} attributes[] = {
    {"mid", IN_MEDIA, read_mid},
    {"ice-ufrag", IN_BOTH, read_ufrag},
    {"ice-pwd", IN_BOTH, read_pwd},
    {"fingerprint", IN_BOTH, read_fingerprint},
    {"setup", IN_BOTH, read_setup},
    {"group", IN_SESSION, read_group},
    {"candidate", IN_BOTH, read_candidate},
    {"rtpmap", IN_MEDIA, read_rtpmap},
    {"fmtp", IN_MEDIA, read_fmtp},
    {"rtcp-fb", IN_MEDIA, read_rtcp_fb},
    {"extmap", IN_BOTH, read_extmap},
    {"ssrc", IN_MEDIA, read_ssrc},
    {"ssrc-group", IN_MEDIA, read_ssrc_group},
    {"rid", IN_MEDIA, read_rid},
    {"simulcast", IN_MEDIA, read_simulcast},
};

// Attributes that are a name and nothing else.
static void read_flag(struct section *in, struct sdp_view name)
{
    enum sdp_direction direction = direction_of(name);
    if (direction != SDP_UNSET)
        in->common->direction = (uint8_t)direction;
    else if (sdp_view_is(name, "extmap-allow-mixed"))
        in->common->extmap_allow_mixed = true;
    else if (sdp_view_is(name, "end-of-candidates"))
        in->common->end_of_candidates = true;
    else if (sdp_view_is(name, "ice-lite"))
        in->sdp->ice_lite = true;
    else if (in->media && sdp_view_is(name, "rtcp-mux"))
        in->media->rtcp_mux = true;
    else if (in->media && sdp_view_is(name, "rtcp-rsize"))
        in->media->rtcp_rsize = true;
    else if (in->media && sdp_view_is(name, "bundle-only"))
        in->media->bundle_only = true;
}

int sdp_read_attribute(struct sdp_reader *reader, struct sdp_view value, struct sdp *sdp,
                       struct sdp_media *media)
{
    struct section in = {reader, sdp, media, media ? &media->common : &sdp->common};
    int here = media ? IN_MEDIA : IN_SESSION;
    const char *colon = memchr(value.at, ':', value.len);
    if (!colon) {
        read_flag(&in, value);
        return 0;
    }
    struct sdp_view name = {value.at, (uint32_t)(colon - value.at)};
    struct sdp_view rest = {colon + 1, value.len - name.len - 1};
    for (unsigned i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
        if ((attributes[i].where & here) && sdp_view_is(name, attributes[i].name))
            return attributes[i].read(&in, rest);
    return 0;
}
