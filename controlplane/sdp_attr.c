// SDP parser: the table of the a= lines that WebRTC needs, and readers of those that set up the
// transport; sdp_attr_rtp.c has the media's. Any thread.
//
// RFC 8839 (ICE), 8122 and 8842 (DTLS), 9143 (BUNDLE).
#include "sdp_attr.h"
#include <errno.h>
#include <string.h>

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

static int read_mid(struct sdp_section *in, struct sdp_view value)
{
    if (in->media->mid.len)
        return sdp_fail(in->reader, -EINVAL, "second mid in one m-line");
    if (!sdp_is_token(value))
        return sdp_fail(in->reader, -EINVAL, "mid is not a token of 1 to 64 characters");
    in->media->mid = value;
    return 0;
}

static int read_ufrag(struct sdp_section *in, struct sdp_view value)
{
    if (!sdp_is_ufrag(value))
        return sdp_fail(in->reader, -EINVAL, "ice-ufrag is not 4 to 256 ice-chars");
    in->common->ufrag = value;
    return 0;
}

static int read_pwd(struct sdp_section *in, struct sdp_view value)
{
    if (!sdp_is_pwd(value))
        return sdp_fail(in->reader, -EINVAL, "ice-pwd is not 22 to 256 ice-chars");
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

static int read_fingerprint(struct sdp_section *in, struct sdp_view value)
{
    static const struct {
        const char *name;
        uint8_t hash, size;
    } hashes[] = {
        {"sha-256", SDP_SHA256, 32}, {"sha-384", SDP_SHA384, 48}, {"sha-512", SDP_SHA512, 64}};
    struct sdp_view name, hex;
    if (!sdp_split(&value, ' ', &name) || !sdp_split(&value, ' ', &hex) || value.len)
        return sdp_fail(in->reader, -EINVAL, "fingerprint is not a hash name and a digest");
    for (int i = 0; i < 3; i++) {
        if (!sdp_view_is_nocase(name, hashes[i].name))
            continue;
        struct sdp_fingerprint fingerprint = {.hash = hashes[i].hash, .size = hashes[i].size};
        if (!read_digest(hex, fingerprint.digest, fingerprint.size))
            return sdp_fail(in->reader, -EINVAL,
                            "fingerprint's digest is not hex bytes of its hash's length");
        if (in->common->fingerprints < SDP_MAX_FINGERPRINTS)
            in->common->fingerprint[in->common->fingerprints++] = fingerprint;
        return 0;
    }
    in->common->foreign_fingerprint = true;
    return 0;
}

static int read_setup(struct sdp_section *in, struct sdp_view value)
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
    return sdp_fail(in->reader, -EINVAL, "setup is none of actpass, active, passive, holdconn");
}

static int read_group(struct sdp_section *in, struct sdp_view value)
{
    struct sdp_view name;
    if (sdp_split(&value, ' ', &name) && sdp_view_is(name, "BUNDLE") && !in->sdp->bundle.len)
        in->sdp->bundle = value;
    return 0;
}

static int read_candidate(struct sdp_section *in, struct sdp_view value)
{
    if (in->sdp->candidates == SDP_MAX_CANDIDATES)
        return sdp_fail(in->reader, -E2BIG, "more than 512 candidates");
    if (!sdp_is_candidate(value))
        return sdp_fail(in->reader, -EINVAL, "malformed candidate");
    in->sdp->candidates++;
    return 0;
}

enum sdp_direction sdp_direction_of(struct sdp_view view)
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

enum { IN_SESSION = 1, IN_MEDIA = 2, IN_BOTH = 3 };

static const struct attribute {
    const char *name;
    int where;
    int (*read)(struct sdp_section *in, struct sdp_view value);
} attributes[] = {
    {"mid", IN_MEDIA, read_mid},
    {"ice-ufrag", IN_BOTH, read_ufrag},
    {"ice-pwd", IN_BOTH, read_pwd},
    {"fingerprint", IN_BOTH, read_fingerprint},
    {"setup", IN_BOTH, read_setup},
    {"group", IN_SESSION, read_group},
    {"candidate", IN_BOTH, read_candidate},
    {"rtpmap", IN_MEDIA, sdp_read_rtpmap},
    {"fmtp", IN_MEDIA, sdp_read_fmtp},
    {"rtcp-fb", IN_MEDIA, sdp_read_rtcp_fb},
    {"extmap", IN_BOTH, sdp_read_extmap},
    {"ssrc", IN_MEDIA, sdp_read_ssrc},
    {"ssrc-group", IN_MEDIA, sdp_read_ssrc_group},
    {"rid", IN_MEDIA, sdp_read_rid},
    {"simulcast", IN_MEDIA, sdp_read_simulcast},
};

// Attributes that are a name and nothing else.
static void read_flag(struct sdp_section *in, struct sdp_view name)
{
    enum sdp_direction direction = sdp_direction_of(name);
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
    struct sdp_section in = {reader, sdp, media, media ? &media->common : &sdp->common};
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
