// Parser of trickle ICE fragments (RFC 8840 9, RFC 9725 4.3). Any thread.
//
// One transport is bundled, so one ufrag and pwd: sections may repeat them, not contradict them.
#include "sdp_attr.h"
#include <errno.h>
#include <string.h>

// Takes `value` into `field` unless that holds another.
static bool agree(struct sdp_view *field, struct sdp_view value)
{
    if (field->len && (field->len != value.len || memcmp(field->at, value.at, value.len)))
        return false;
    *field = value;
    return true;
}

static int read_candidate(struct sdp_reader *reader, struct sdp_fragment *fragment,
                          struct sdp_view value)
{
    if (fragment->candidates == SDP_MAX_CANDIDATES)
        return sdp_fail(reader, -E2BIG, "more than 512 candidates");
    // A browser's "no more candidates" is an empty string, which some clients send as it is.
    if (value.len && !sdp_is_candidate(value))
        return sdp_fail(reader, -EINVAL, "malformed candidate");
    fragment->candidates += value.len != 0;
    return 0;
}

static int read_attribute(struct sdp_reader *reader, struct sdp_fragment *fragment, int medias,
                          struct sdp_view value)
{
    struct sdp_view name = value, rest = {value.at + value.len, 0};
    const char *colon = memchr(value.at, ':', value.len);
    if (colon) {
        name.len = (uint32_t)(colon - value.at);
        rest = (struct sdp_view){colon + 1, value.len - name.len - 1};
    }
    if (sdp_view_is(name, "end-of-candidates")) {
        fragment->end_of_candidates = true;
    } else if (sdp_view_is(name, "candidate")) {
        return read_candidate(reader, fragment, rest);
    } else if (sdp_view_is(name, "mid")) {
        if (!sdp_is_token(rest))
            return sdp_fail(reader, -EINVAL, "mid is not a token of 1 to 64 characters");
        if (medias == 1)
            fragment->mid = rest;
    } else if (sdp_view_is(name, "ice-ufrag")) {
        if (!sdp_is_ufrag(rest) || !agree(&fragment->ufrag, rest))
            return sdp_fail(reader, -EINVAL, "ice-ufrag is not 4 to 256 ice-chars, or is a second");
    } else if (sdp_view_is(name, "ice-pwd")) {
        if (!sdp_is_pwd(rest) || !agree(&fragment->pwd, rest))
            return sdp_fail(reader, -EINVAL, "ice-pwd is not 22 to 256 ice-chars, or is a second");
    }
    return 0;
}

static int read_media(struct sdp_reader *reader, struct sdp_fragment *fragment, int medias,
                      struct sdp_media *media, struct sdp_view value)
{
    if (medias > SDP_MAX_MEDIA)
        return sdp_fail(reader, -E2BIG, "more than 16 m-lines");
    memset(media, 0, sizeof(*media));
    int rc = sdp_read_media(reader, value, media);
    if (rc == 0 && medias == 1) {
        fragment->type = media->type;
        fragment->proto = media->proto;
        fragment->fmt = media->fmt;
    }
    return rc;
}

int sdp_parse_fragment(struct sdp_fragment *fragment, const char *text, size_t size,
                       struct sdp_error *error)
{
    struct sdp_media media; // only its m-line counts
    struct sdp_reader reader;
    struct sdp_view value;
    int medias = 0;
    char type = 0;
    *fragment = (struct sdp_fragment){0};
    int rc = sdp_reader_init(&reader, text, size, error);
    if (rc)
        return rc;
    while ((rc = sdp_read_line(&reader, &type, &value)) > 0) {
        if (type == 'm')
            rc = read_media(&reader, fragment, ++medias, &media, value);
        else if (type == 'a')
            rc = read_attribute(&reader, fragment, medias, value);
        else
            rc = sdp_fail(&reader, -EINVAL, "a fragment has only m= and a= lines");
        if (rc)
            return rc;
    }
    if (rc == 0 && !fragment->ufrag.len != !fragment->pwd.len)
        return sdp_fail(&reader, -EINVAL, "ice-ufrag and ice-pwd must come together");
    return rc;
}
