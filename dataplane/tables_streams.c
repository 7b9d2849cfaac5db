// A worker's streams, and which viewers they have.
#include "tables.h"

int tables_make_track(const struct tables *tables, struct track *track)
{
    track->viewers = NULL;
    track->viewer_count = track->viewer_room = 0;
    // Also where the publisher is elsewhere: it may come back to this worker.
    track->gaps = calloc(GAPS_TRUNK + 1, sizeof(*track->gaps));
    memset(track->maps, 0, sizeof(track->maps));
    int rc = cache_init(&track->ring, tables->store, tables->cache_min, tables->cache_max,
                        tables->cache_span_ns);
    return rc ? rc : !track->gaps ? -ENOMEM : 0;
}

void tables_free_track(struct track *track)
{
    cache_free(&track->ring);
    free(track->viewers);
    free(track->gaps);
    track->viewers = NULL;
    track->gaps = NULL;
}

struct stream *tables_stream(const struct tables *tables, uint64_t id)
{
    uint32_t slot = MSG_SLOT(id);
    if (slot >= tables->max_streams || !tables->streams[slot] || tables->streams[slot]->id != id)
        return NULL;
    return tables->streams[slot];
}

static struct abi_addr trunk_key(uint64_t trunk_id)
{
    struct abi_addr key = {0};
    memcpy(key.ip, &trunk_id, sizeof(trunk_id));
    return key;
}

struct stream *tables_by_trunk(const struct tables *tables, uint64_t trunk_id)
{
    struct abi_addr key = trunk_key(trunk_id);
    uint32_t slot = map_get(&tables->by_trunk, &key);
    return slot == MAP_NONE ? NULL : tables->streams[slot];
}

void tables_name_trunk(struct tables *tables, struct stream *stream, uint64_t trunk_id)
{
    uint32_t slot = (uint32_t)(stream - tables->all_streams);
    struct abi_addr old = trunk_key(stream->trunk_id), key = trunk_key(trunk_id);
    if (stream->trunk_id)
        map_remove(&tables->by_trunk, &old, slot);
    if (trunk_id)
        map_put(&tables->by_trunk, &key, slot);
    stream->trunk_id = trunk_id;
}

int tables_make_twcc(struct stream *stream)
{
    bool wanted = false;
    for (int i = 0; i < stream->tracks; i++)
        wanted |= (stream->track[i].config.feedback & FB_TRANSPORT_CC) &&
                  stream->track[i].config.hdrext[HDREXT_TRANSPORT_CC];
    if (!wanted || stream->twcc)
        return 0;
    stream->twcc = calloc(1, sizeof(*stream->twcc));
    return stream->twcc ? 0 : -ENOMEM;
}

// The viewer's numbers stay with it; if it joins again it goes on behind them, so far that the
// packets from before its time get none of them either.
static void leave_track(struct tables *tables, struct track *track, const struct viewer_ref *viewer)
{
    struct sub *sub = &tables->senders[viewer->session].sub[viewer->track];
    if (sub->map < TRACK_MAPS)
        track->maps[sub->map].users--;
    if (sub_numbered(sub))
        sub_unnumber(sub, track->next_index + sub->delta + INDEX_SPARE);
    tables->sessions[viewer->session].numbers_told = 0;
    sub->keyed = false;
    sub->catching_up = false;
    sub->place = SUB_NONE;
}

static void open_track(struct track *track, const struct msg_track *config)
{
    memset(track, 0, sizeof(*track));
    track->config = *config;
    for (int i = 0; i < config->layers; i++) {
        track->layers[i].media.ssrc = config->layer[i].ssrc;
        track->layers[i].rtx.ssrc = config->layer[i].rtx_ssrc;
    }
}

struct stream *tables_open_stream(struct tables *tables, const struct msg_stream_open *open,
                                  int *error)
{
    uint32_t slot = MSG_SLOT(open->head.id);
    *error = ENOSPC;
    if (slot >= tables->max_streams)
        return NULL;
    *error = EEXIST;
    if (tables->streams[slot])
        return NULL;
    *error = ENOMEM;
    struct stream *stream = &tables->all_streams[slot];
    memset(stream, 0, sizeof(*stream));
    stream->publisher = MAP_NONE;
    stream->source_worker = open->source_worker;
    stream->home = open->home;
    stream->tracks = open->tracks;
    tables_name_trunk(tables, stream, open->trunk_id);
    stream->group = open->group;
    stream->peers = open->peers;
    tables->streams[slot] = stream;
    tables->stream_count++;
    for (int i = 0; i < open->tracks; i++) {
        open_track(&stream->track[i], &open->track[i]);
        if (tables_make_track(tables, &stream->track[i])) {
            tables_close_stream(tables, stream);
            return NULL;
        }
    }
    stream->id = open->head.id;
    // Viewers may have come first.
    for (uint32_t i = 0; i < tables->session_end; i++)
        if (tables->sessions[i].state != SESSION_FREE && tables->sessions[i].stream == stream->id)
            tables_join(tables, &tables->sessions[i]);
    return stream;
}

void tables_update_stream(struct tables *tables, struct stream *stream,
                          const struct msg_stream_open *open)
{
    tables_name_trunk(tables, stream, open->trunk_id);
    stream->group = open->group;
    stream->peers = open->peers;
    stream->home = open->home;
    if (stream->source_worker != open->source_worker) {
        stream->source_worker = open->source_worker;
        tables_reset_source(tables, stream);
    }
    for (int i = 0; i < stream->tracks && i < open->tracks; i++) {
        struct track *track = &stream->track[i];
        if (memcmp(&track->config, &open->track[i], sizeof(track->config)) == 0)
            continue;
        track->config = open->track[i];
        tables_reset_source(tables, stream);
    }
}

void tables_reset_source(struct tables *tables, struct stream *stream)
{
    for (int i = 0; i < stream->tracks; i++) {
        struct track *track = &stream->track[i];
        // A plain resend must repeat the very bytes, which the old header extensions are part of.
        cache_clear(&track->ring, track->next_index);
        track->clock.ntp = 0;
        track->key_sent = false;
        track->key_wanted = track->config.kind == KIND_VIDEO;
        track->layer = track->next_layer = 0;
        memset(track->layers, 0, sizeof(track->layers));
        for (int l = 0; l < track->config.layers; l++) {
            track->layers[l].media.ssrc = track->config.layer[l].ssrc;
            track->layers[l].rtx.ssrc = track->config.layer[l].rtx_ssrc;
        }
        memset(track->gaps, 0, (GAPS_TRUNK + 1) * sizeof(*track->gaps));
    }
    memset(stream->rtcp_source, 0, sizeof(stream->rtcp_source));
    memset(stream->retired_source, 0, sizeof(stream->retired_source));
    protect_rx_clear(tables->protect, &stream->rx);
    stream->keyed_by = 0;
    stream->direct_ns = stream->trunk_ns = 0;
    free(stream->twcc);
    stream->twcc = NULL;
}

void tables_close_stream(struct tables *tables, struct stream *stream)
{
    for (int i = 0; i < stream->tracks; i++) {
        struct track *track = &stream->track[i];
        for (uint32_t v = 0; v < track->viewer_count; v++)
            leave_track(tables, track, &track->viewers[v]);
        tables_free_track(track);
    }
    free(stream->twcc);
    tables_name_trunk(tables, stream, 0);
    for (uint32_t i = 0; i < tables->max_streams; i++)
        if (tables->streams[i] == stream)
            tables->streams[i] = NULL;
    protect_rx_clear(tables->protect, &stream->rx);
    explicit_bzero(stream, sizeof(*stream));
    tables->stream_count--;
}

// The number of the map with a viewer's ids, making it if there is room; TRACK_MAPS: no extensions.
// The ids come from the session alone, which both nodes of a pair know alike, and not from what
// this track or its other viewers happen to be at the moment: two nodes write the same bytes.
static uint8_t take_map(struct track *track, const struct msg_track *viewer)
{
    static const uint8_t none[HDREXTS];
    uint8_t empty = TRACK_MAPS;
    if (memcmp(viewer->hdrext, none, sizeof(none)) == 0)
        return TRACK_MAPS;
    for (uint8_t i = 0; i < TRACK_MAPS; i++) {
        struct hdrext_map *map = &track->maps[i];
        if (map->users && memcmp(map->ids, viewer->hdrext, sizeof(map->ids)) == 0) {
            map->users++;
            return i;
        }
        if (!map->users && empty == TRACK_MAPS)
            empty = i;
    }
    if (empty < TRACK_MAPS) {
        memcpy(track->maps[empty].ids, viewer->hdrext, sizeof(track->maps[empty].ids));
        track->maps[empty].users = 1;
    }
    return empty;
}

static bool add_viewer(struct track *track, uint32_t session, uint32_t number)
{
    if (track->viewer_count == track->viewer_room) {
        uint32_t room = track->viewer_room ? track->viewer_room * 2 : 16;
        struct viewer_ref *viewers = realloc(track->viewers, room * sizeof(*viewers));
        if (!viewers)
            return false;
        track->viewers = viewers;
        track->viewer_room = room;
    }
    track->viewers[track->viewer_count++] = (struct viewer_ref){session, number};
    return true;
}

int tables_join(struct tables *tables, struct session *session)
{
    struct stream *stream = tables_stream(tables, session->stream);
    if (!stream)
        return -ENOENT;
    if (session->role != ROLE_PLAY) {
        stream->publisher = tables_slot(tables, session);
        return 0;
    }
    struct sender *sender = tables_sender(tables, session);
    for (uint8_t i = 0; i < session->tracks; i++) {
        const struct msg_track *config = &session->track[i];
        struct sub *sub = &sender->sub[i];
        if (config->source >= stream->tracks || sub->place != SUB_NONE)
            continue;
        struct track *track = &stream->track[config->source];
        if (!add_viewer(track, tables_slot(tables, session), i))
            return -ENOMEM;
        sub->place = track->viewer_count - 1;
        sub->map = take_map(track, config);
        // From here on the numbers are a pure function of the track's: whoever holds this state
        // writes the same bytes under the same index.
        if (!sub_numbered(sub) && !sub->foreign && track->next_index)
            sub_number(sub, sub->delta - track->next_index);
    }
    return 0;
}

void tables_leave(struct tables *tables, struct session *session)
{
    struct stream *stream = tables_stream(tables, session->stream);
    if (!stream)
        return;
    if (stream->publisher == tables_slot(tables, session))
        stream->publisher = MAP_NONE;
    struct sender *sender = tables_sender(tables, session);
    for (uint8_t i = 0; i < session->tracks; i++) {
        uint32_t place = sender->sub[i].place;
        if (place == SUB_NONE)
            continue;
        struct track *track = &stream->track[session->track[i].source];
        leave_track(tables, track, &track->viewers[place]);
        struct viewer_ref last = track->viewers[--track->viewer_count];
        if (place < track->viewer_count) {
            track->viewers[place] = last;
            tables->senders[last.session].sub[last.track].place = place;
        }
    }
}

struct sub *tables_sub(const struct tables *tables, const struct session *session, uint8_t track)
{
    struct sub *sub = &tables_sender(tables, session)->sub[track];
    return sub->place == SUB_NONE ? NULL : sub;
}

void tables_want_keyframes(struct tables *tables, const struct session *session)
{
    struct stream *stream = tables_stream(tables, session->stream);
    for (uint8_t i = 0; stream && i < session->tracks; i++) {
        const struct sub *sub = tables_sub(tables, session, i);
        struct track *track = &stream->track[session->track[i].source];
        if (sub && !sub->keyed && !sub->catching_up && track->config.kind == KIND_VIDEO)
            track->key_wanted = true;
    }
}
