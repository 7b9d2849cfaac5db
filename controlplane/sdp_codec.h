// Codecs as SDP names them, and which parameters of two ends fit. Pure, any thread.
#ifndef HITLESS_SDP_CODEC_H
#define HITLESS_SDP_CODEC_H

#include "sdp_answer.h"

// The encoding name of an a=rtpmap line.
const char *sdp_codec_name(enum codec codec);
enum media_kind sdp_codec_kind(enum codec codec);

// Whether a payload type may be used beside RTCP on one port: 64..95 read as RTCP (RFC 5761 4).
bool sdp_codec_pt(uint8_t pt);

// The codec that a format names, by name, clock rate and channels; CODEC_NONE for those that we do
// not forward, for payload types that read as RTCP and for H.264 whose profile-level-id is
// malformed.
enum codec sdp_codec_of(const struct sdp_format *format);

// Copies the parameters that an answer repeats, and leaves the rest.
void sdp_codec_fmtp(enum codec codec, struct sdp_view offered, struct sdp_fmtp *fmtp);

enum sdp_fit { SDP_FIT_NONE, SDP_FIT_DECODES, SDP_FIT_SAME };

// Whether a receiver that offers `receiver` decodes a stream of `sender`, both a=fmtp parameters of
// `codec`: H.264 by RFC 6184 8.2.2, VP9 by profile-id, AV1 by profile, H.265 by profile-id.
enum sdp_fit sdp_codec_fit(enum codec codec, struct sdp_view sender, struct sdp_view receiver);

// H.264 in its Baseline profile, not constrained.
bool sdp_codec_is_baseline(enum codec codec, struct sdp_view fmtp);

#endif
