// Inside of the SDP parser: lines, tokens and attributes. Only sdp*.c includes this.
#ifndef HITLESS_SDP_ATTR_H
#define HITLESS_SDP_ATTR_H

#include "sdp.h"

// Where reading stands. Zero lines read to begin with.
struct sdp_reader {
    const char *at, *end;
    unsigned line; // of the last one read
    struct sdp_error *error;
};

// Checks the size, clears the error and starts at the first line. Returns 0 or -E2BIG.
int sdp_reader_init(struct sdp_reader *reader, const char *text, size_t size,
                    struct sdp_error *error);

// Reads the next line that is not empty: its letter and what follows the '='. Returns 1, 0 at the
// end, or -EINVAL or -E2BIG.
int sdp_read_line(struct sdp_reader *reader, char *type, struct sdp_view *value);

// Notes line and reason; returns `code`.
int sdp_fail(struct sdp_reader *reader, int code, const char *reason);

// Splits what stands before the first `separator` from `rest`; without one, that is all of it.
// False if nothing was left. Empty pieces are skipped.
bool sdp_split(struct sdp_view *rest, char separator, struct sdp_view *piece);

// Decimal digits, and nothing else, that make at most `max`.
bool sdp_number(struct sdp_view view, uint32_t max, uint32_t *number);

// One to SDP_MAX_TOKEN of RFC 8866's token characters.
bool sdp_is_token(struct sdp_view view);
bool sdp_is_ufrag(struct sdp_view view);     // RFC 8839 5.4: 4..256 ice-chars
bool sdp_is_pwd(struct sdp_view view);       // 22..256 ice-chars
bool sdp_is_candidate(struct sdp_view view); // RFC 8839 5.1

// Reads "media port proto fmt..." (RFC 8866 5.14) into a zeroed `media`. Returns 0 or an error.
int sdp_read_media(struct sdp_reader *reader, struct sdp_view value, struct sdp_media *media);

// The section that an attribute stands in.
struct sdp_section {
    struct sdp_reader *reader;
    struct sdp *sdp;
    struct sdp_media *media; // NULL in the session's
    struct sdp_common *common;
};

// Readers of one attribute's value, all in media sections but extmap, which stands in either.
int sdp_read_rtpmap(struct sdp_section *in, struct sdp_view value);
int sdp_read_fmtp(struct sdp_section *in, struct sdp_view value);
int sdp_read_rtcp_fb(struct sdp_section *in, struct sdp_view value);
int sdp_read_extmap(struct sdp_section *in, struct sdp_view value);
int sdp_read_ssrc(struct sdp_section *in, struct sdp_view value);
int sdp_read_ssrc_group(struct sdp_section *in, struct sdp_view value);
int sdp_read_rid(struct sdp_section *in, struct sdp_view value);
int sdp_read_simulcast(struct sdp_section *in, struct sdp_view value);

// SDP_UNSET for what is no direction.
enum sdp_direction sdp_direction_of(struct sdp_view view);

// Reads one a= line of the session (`media` NULL) or of a media section; unknown ones pass. Returns
// 0 or an error.
int sdp_read_attribute(struct sdp_reader *reader, struct sdp_view value, struct sdp *sdp,
                       struct sdp_media *media);

#endif
