#include "sdp_layers.h"
#include <string.h>

static uint32_t rtx_ssrc_of(const struct sdp_media *media, const struct msg_track *track,
                            uint32_t ssrc)
{
    for (int i = 0; i < media->groups && track->rtx_pt != MSG_NO_PT; i++) {
        const struct sdp_group *group = &media->group[i];
        if (group->semantics == SDP_GROUP_FID && group->ssrcs == 2 && group->ssrc[0] == ssrc)
            return group->ssrc[1];
    }
    return 0;
}

static void set_layer(const struct sdp_media *media, struct msg_track *track, int layer,
                      uint32_t ssrc)
{
    track->layer[layer].ssrc = ssrc;
    track->layer[layer].rtx_ssrc = rtx_ssrc_of(media, track, ssrc);
}

// Layers that the offer names by SSRC: a SIM group, which lists the smallest first, or one layer.
static void read_ssrc_layers(const struct sdp_media *media, struct msg_track *track)
{
    for (int i = 0; i < media->groups; i++) {
        const struct sdp_group *group = &media->group[i];
        if (group->semantics != SDP_GROUP_SIM || group->ssrcs < 2)
            continue;
        track->layers = 0;
        for (int k = group->ssrcs; k-- > 0 && track->layers < MSG_MAX_LAYERS;)
            set_layer(media, track, track->layers++, group->ssrc[k]);
        return;
    }
    for (int i = 0; i < media->groups; i++) {
        if (media->group[i].semantics == SDP_GROUP_FID && media->group[i].ssrcs == 2) {
            set_layer(media, track, 0, media->group[i].ssrc[0]);
            return;
        }
    }
    if (media->ssrcs)
        set_layer(media, track, 0, media->ssrc[0]);
}

static bool has_rid(const struct sdp_media *media, struct sdp_view rid)
{
    for (int i = 0; i < media->rids; i++)
        if (media->rid[i].len == rid.len && !memcmp(media->rid[i].at, rid.at, rid.len))
            return true;
    return false;
}

// Layers by rid: those of a=simulcast that an a=rid describes, if packets will name theirs.
static bool read_rid_layers(const struct sdp_media *media, struct msg_track *track)
{
    int n = 0;
    if (!track->hdrext[HDREXT_RID])
        return false;
    for (int i = 0; i < media->simulcast && n < MSG_MAX_LAYERS; i++) {
        struct sdp_view rid = media->simulcast_rid[i];
        if (rid.len < sizeof(track->layer[n].rid) && has_rid(media, rid))
            memcpy(track->layer[n++].rid, rid.at, rid.len);
    }
    track->layers = n ? (uint8_t)n : 1;
    return n != 0;
}

void sdp_layers_read(const struct sdp_media *media, struct msg_track *track)
{
    if (!read_rid_layers(media, track))
        read_ssrc_layers(media, track);
}
