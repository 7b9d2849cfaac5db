// The layers of a publisher's track: by rid (RFC 8853) or by SSRC (RFC 5576, and the SIM groups
// that preceded rid). Pure, any thread.
#ifndef HITLESS_SDP_LAYERS_H
#define HITLESS_SDP_LAYERS_H

#include "../dataplane/abi/messages.h"
#include "sdp.h"

// Fills in the track's layers as the m-line describes them. The track has its payload types and
// header extensions already.
void sdp_layers_read(const struct sdp_media *media, struct msg_track *track);

#endif
