// Which track and layer a publisher's SSRC feeds; see ingest_source.h.
#include "ingest_source.h"

bool ingest_find_ssrc(struct stream *stream, uint32_t ssrc, struct place *place)
{
    for (int t = 0; t < stream->tracks; t++) {
        struct track *track = &stream->track[t];
        for (uint8_t l = 0; l < track->config.layers; l++) {
            struct layer *layer = &track->layers[l];
            *place = (struct place){track, layer, l, layer->rtx.ssrc == ssrc};
            if (ssrc && (layer->media.ssrc == ssrc || place->rtx))
                return true;
        }
    }
    return false;
}

static bool ext_text(const struct rtp_view *view, uint8_t id, char *text, size_t size)
{
    struct rtp_ext ext;
    if (!id || !rtp_ext_find(view, id, &ext) || ext.length == 0 || ext.length >= size)
        return false;
    memcpy(text, ext.data, ext.length);
    text[ext.length] = 0;
    return true;
}

bool ingest_learn_ssrc(struct stream *stream, const struct rtp_view *view, struct place *place)
{
    for (int t = 0; t < stream->tracks; t++) {
        struct track *track = &stream->track[t];
        const struct msg_track *config = &track->config;
        char mid[MSG_MID_LEN], rid[MSG_MID_LEN];
        if (ext_text(view, config->hdrext[HDREXT_MID], mid, sizeof(mid)) &&
            strncmp(mid, config->mid, sizeof(mid)) != 0)
            continue;
        bool rtx = config->rtx_pt != MSG_NO_PT && view->pt == config->rtx_pt;
        if (!rtx && view->pt != config->pt)
            continue;
        uint8_t number = 0;
        uint8_t id = config->hdrext[rtx ? HDREXT_REPAIRED_RID : HDREXT_RID];
        if (config->layers > 1) {
            if (!ext_text(view, id, rid, sizeof(rid)))
                return false;
            while (number < config->layers && strncmp(rid, config->layer[number].rid, sizeof(rid)))
                number++;
            if (number == config->layers)
                return false;
        }
        *place = (struct place){track, &track->layers[number], number, rtx};
        return true;
    }
    return false;
}

struct protect_source *ingest_find_retired(struct stream *stream, uint32_t ssrc)
{
    for (int i = 0; i < STREAM_RETIRED; i++)
        if (stream->retired_source[i].ssrc == ssrc &&
            !replay_empty(&stream->retired_source[i].replay))
            return &stream->retired_source[i];
    return NULL;
}

static void retire(struct stream *stream, const struct protect_source *source)
{
    if (!replay_empty(&source->replay))
        stream->retired_source[stream->retired++ % STREAM_RETIRED] = *source;
}

bool ingest_rename_source(struct stream *stream, struct protect_source *source, uint32_t ssrc)
{
    if (!ssrc || source->ssrc == ssrc)
        return false;
    struct protect_source taken = {.ssrc = ssrc}, *known = ingest_find_retired(stream, ssrc);
    if (known) {
        taken = *known;
        *known = (struct protect_source){0};
    }
    retire(stream, source);
    *source = taken;
    return true;
}

void ingest_adopt_source(struct stream *stream, const struct place *place,
                         struct protect_source *source)
{
    struct layer *layer = place->layer;
    struct protect_source taken = *source;
    *source = (struct protect_source){0}; // if it had been retired, it is no more
    retire(stream, place->rtx ? &layer->rtx : &layer->media);
    if (place->rtx) {
        layer->rtx = taken;
        return;
    }
    if (layer->media.ssrc && layer->media.ssrc != taken.ssrc) {
        layer->stats = (struct rtp_rx_stats){0};
        place->track->gaps[place->number] = (struct gaps){0};
        layer->mapped = false;
        layer->sr_ntp = 0;
    }
    layer->media = taken;
}
