#include "tables.h"
#include <rte_mbuf.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>

static uint64_t random64(void)
{
    uint64_t value = 0;
    while (getrandom(&value, sizeof(value), 0) != sizeof(value))
        ;
    return value;
}

static void release_mbuf(void *packet)
{
    rte_pktmbuf_free(packet);
}

int tables_init(struct tables *tables, const struct abi_config *config)
{
    *tables = (struct tables){.max_sessions = config->max_sessions,
                              .max_streams = config->max_streams,
                              .cache_min = 64,
                              .cache_max = config->cache_mbufs,
                              .cache_span_ns = config->cache_ms * UINT64_C(1000000)};
    size_t size = (size_t)config->max_sessions * sizeof(struct session);
    // Keys stay out of core dumps and swap; untouched slots cost no memory.
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -ENOMEM;
    madvise(map, size, MADV_DONTDUMP);
    tables->sessions = map;
    tables->streams = calloc(config->max_streams, sizeof(*tables->streams));
    if (!tables->streams || map_init(&tables->by_ufrag, config->max_sessions, random64()) ||
        map_init(&tables->by_remote, config->max_sessions * SESSION_PATHS, random64())) {
        tables_free(tables);
        return -ENOMEM;
    }
    return 0;
}

void tables_free(struct tables *tables)
{
    for (uint32_t i = 0; tables->streams && i < tables->max_streams; i++)
        if (tables->streams[i])
            tables_close_stream(tables, tables->streams[i]);
    if (tables->sessions) {
        size_t size = (size_t)tables->max_sessions * sizeof(struct session);
        munmap(tables->sessions, size);
    }
    free(tables->streams);
    map_free(&tables->by_ufrag);
    map_free(&tables->by_remote);
    *tables = (struct tables){0};
}

struct session *tables_session(const struct tables *tables, uint64_t id)
{
    uint32_t slot = MSG_SLOT(id);
    if (slot >= tables->max_sessions || tables->sessions[slot].state == SESSION_FREE ||
        tables->sessions[slot].id != id)
        return NULL;
    return &tables->sessions[slot];
}

struct stream *tables_stream(const struct tables *tables, uint64_t id)
{
    uint32_t slot = MSG_SLOT(id);
    if (slot >= tables->max_streams || !tables->streams[slot] || tables->streams[slot]->id != id)
        return NULL;
    return tables->streams[slot];
}

static struct abi_addr ufrag_key(const char *ufrag)
{
    struct abi_addr key = {0};
    memcpy(key.ip, ufrag, MSG_UFRAG_LEN);
    return key;
}

struct session *tables_open_session(struct tables *tables, const struct msg_session_open *open,
                                    uint64_t now_ns, int *error)
{
    uint32_t slot = MSG_SLOT(open->head.id);
    *error = ENOSPC;
    if (slot >= tables->max_sessions)
        return NULL;
    struct session *session = &tables->sessions[slot];
    if (session->state != SESSION_FREE) {
        *error = session->id == open->head.id ? EEXIST : EBUSY;
        return NULL;
    }
    memset(session, 0, sizeof(*session));
    session->id = open->head.id;
    session->role = open->role;
    session->stream = open->stream;
    session->tracks = open->tracks;
    session->heard_ns = session->opened_ns = now_ns;
    memcpy(session->track, open->track, sizeof(session->track));
    for (int i = 0; i < MSG_MAX_TRACKS; i++)
        session->feedback[i].sub = SUB_NONE;
    session->ssrc = (uint32_t)random64();
    session->rtcp_index = 1;
    session->state = SESSION_OPEN;
    tables_set_ice(tables, session, &open->ice);
    tables->session_count++;
    return session;
}

void tables_set_ice(struct tables *tables, struct session *session, const struct msg_ice *ice)
{
    uint32_t slot = tables_slot(tables, session);
    struct abi_addr key = ufrag_key(session->ice.ufrag);
    map_remove(&tables->by_ufrag, &key, slot);
    session->ice = *ice;
    stun_key_init(&session->stun, ice->pwd, MSG_PWD_LEN);
    key = ufrag_key(ice->ufrag);
    map_put(&tables->by_ufrag, &key, slot);
}

void tables_close_session(struct tables *tables, struct protect *protect, struct session *session)
{
    uint32_t slot = tables_slot(tables, session);
    tables_leave(tables, session);
    struct abi_addr key = ufrag_key(session->ice.ufrag);
    map_remove(&tables->by_ufrag, &key, slot);
    for (int i = 0; i < SESSION_PATHS; i++)
        if (session->paths[i].remote.family)
            map_remove(&tables->by_remote, &session->paths[i].remote, slot);
    if (session->state == SESSION_KEYED) {
        protect_tx_clear(protect, &session->tx);
        protect_rtcp_tx_clear(&session->rtcp_tx);
        protect_rtcp_rx_clear(&session->rtcp_rx);
    }
    explicit_bzero(session, sizeof(*session));
    tables->session_count--;
}

struct session *tables_by_ufrag(const struct tables *tables, const char *ufrag)
{
    struct abi_addr key = ufrag_key(ufrag);
    uint32_t slot = map_get(&tables->by_ufrag, &key);
    return slot == MAP_NONE ? NULL : &tables->sessions[slot];
}

struct session *tables_by_remote(const struct tables *tables, const struct abi_addr *remote)
{
    uint32_t slot = map_get(&tables->by_remote, remote);
    return slot == MAP_NONE ? NULL : &tables->sessions[slot];
}

uint8_t tables_validate_path(struct tables *tables, struct session *session,
                             const struct abi_addr *remote, uint64_t now_ns)
{
    uint32_t slot = tables_slot(tables, session);
    uint8_t at = SESSION_PATHS;
    for (uint8_t i = 0; i < SESSION_PATHS; i++)
        if (memcmp(&session->paths[i].remote, remote, sizeof(*remote)) == 0)
            at = i;
    if (at == SESSION_PATHS) {
        at = session->path == 0 && session->paths[0].remote.family ? 1 : 0;
        for (uint8_t i = 0; i < SESSION_PATHS; i++)
            if (i != session->path && session->paths[i].heard_ns < session->paths[at].heard_ns)
                at = i;
        if (session->paths[at].remote.family)
            map_remove(&tables->by_remote, &session->paths[at].remote, slot);
    }
    session->paths[at] = (struct session_path){.remote = *remote, .heard_ns = now_ns};
    map_put(&tables->by_remote, remote, slot);
    return at;
}

static int open_track(struct tables *tables, struct track *track, const struct msg_track *config,
                      bool source)
{
    track->config = *config;
    int rc = cache_init(&track->ring, tables->cache_min, tables->cache_max, tables->cache_span_ns,
                        release_mbuf);
    if (rc || !source)
        return rc;
    track->layers = calloc(config->layers, sizeof(*track->layers));
    if (!track->layers)
        return -ENOMEM;
    for (int i = 0; i < config->layers; i++) {
        track->layers[i].media.ssrc = config->layer[i].ssrc;
        track->layers[i].rtx.ssrc = config->layer[i].rtx_ssrc;
    }
    return 0;
}

struct stream *tables_open_stream(struct tables *tables, const struct msg_stream_open *open,
                                  uint32_t worker, int *error)
{
    uint32_t slot = MSG_SLOT(open->head.id);
    *error = ENOSPC;
    if (slot >= tables->max_streams)
        return NULL;
    *error = EEXIST;
    if (tables->streams[slot])
        return NULL;
    *error = ENOMEM;
    struct stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        return NULL;
    stream->id = open->head.id;
    stream->publisher = MAP_NONE;
    stream->source_worker = open->source_worker;
    stream->tracks = open->tracks;
    tables->streams[slot] = stream;
    tables->stream_count++;
    for (int i = 0; i < open->tracks; i++) {
        if (open_track(tables, &stream->track[i], &open->track[i], open->source_worker == worker)) {
            tables_close_stream(tables, stream);
            return NULL;
        }
    }
    // Viewers may have come first: after a restart of the control plane's connection.
    for (uint32_t i = 0; i < tables->max_sessions; i++)
        if (tables->sessions[i].state != SESSION_FREE && tables->sessions[i].stream == stream->id)
            tables_join(tables, &tables->sessions[i]);
    return stream;
}

// No index may be used twice with one key, however often a viewer leaves and joins.
static void save_numbers(struct tables *tables, const struct track *track, const struct sub *sub)
{
    struct session_track *feedback = &tables->sessions[sub->session].feedback[sub->track];
    if (sub->started) {
        feedback->next_index = (track->next_index + sub->delta) & INDEX_MASK;
        feedback->next_rtx_index = sub->rtx_index;
    }
    feedback->sub = SUB_NONE;
}

void tables_update_stream(struct tables *tables, struct stream *stream,
                          const struct msg_stream_open *open)
{
    for (int i = 0; i < stream->tracks && i < open->tracks; i++) {
        struct track *track = &stream->track[i];
        // A plain resend must repeat the very bytes, which the old header extensions are part of.
        cache_clear(&track->ring);
        uint8_t layers = track->config.layers;
        track->config = open->track[i];
        track->clock.ntp = 0;
        track->key_wanted = track->config.kind == KIND_VIDEO;
        if (!track->layers)
            continue;
        if (track->config.layers > layers)
            track->config.layers = layers;
        memset(track->layers, 0, layers * sizeof(*track->layers));
        track->layer = track->next_layer = 0;
        for (int l = 0; l < track->config.layers; l++) {
            track->layers[l].media.ssrc = track->config.layer[l].ssrc;
            track->layers[l].rtx.ssrc = track->config.layer[l].rtx_ssrc;
        }
    }
    memset(stream->rtcp_source, 0, sizeof(stream->rtcp_source));
    if (stream->rx)
        explicit_bzero(stream->rx, sizeof(*stream->rx));
    free(stream->rx);
    stream->rx = NULL;
    free(stream->twcc);
    stream->twcc = NULL;
    stream->publisher = MAP_NONE;
}

void tables_close_stream(struct tables *tables, struct stream *stream)
{
    for (int i = 0; i < stream->tracks; i++) {
        struct track *track = &stream->track[i];
        for (uint32_t s = 0; s < track->sub_count; s++)
            save_numbers(tables, track, &track->subs[s]);
        if (track->ring.slots)
            cache_free(&track->ring);
        free(track->subs);
        free(track->layers);
    }
    if (stream->rx)
        explicit_bzero(stream->rx, sizeof(*stream->rx));
    free(stream->rx);
    free(stream->twcc);
    tables->streams[MSG_SLOT(stream->id)] = NULL;
    tables->stream_count--;
    free(stream);
}

// The number of the map with these ids, making it if there is room; TRACK_MAPS: none.
static uint8_t take_map(struct track *track, const struct msg_track *viewer)
{
    uint8_t ids[HDREXTS] = {0};
    static const uint8_t forwarded[] = {
        HDREXT_AUDIO_LEVEL,      HDREXT_VIDEO_ORIENTATION,     HDREXT_PLAYOUT_DELAY,
        HDREXT_ABS_CAPTURE_TIME, HDREXT_DEPENDENCY_DESCRIPTOR, HDREXT_VIDEO_CONTENT_TYPE,
        HDREXT_COLOR_SPACE};
    for (size_t i = 0; i < sizeof(forwarded); i++)
        if (track->config.hdrext[forwarded[i]])
            ids[forwarded[i]] = viewer->hdrext[forwarded[i]];
    uint8_t empty = TRACK_MAPS;
    for (uint8_t i = 0; i < TRACK_MAPS; i++) {
        if (track->maps[i].users && memcmp(track->maps[i].ids, ids, sizeof(ids)) == 0) {
            track->maps[i].users++;
            return i;
        }
        if (!track->maps[i].users && empty == TRACK_MAPS)
            empty = i;
    }
    if (empty < TRACK_MAPS) {
        memcpy(track->maps[empty].ids, ids, sizeof(ids));
        track->maps[empty].users = 1;
    }
    return empty;
}

static struct sub *add_sub(struct track *track)
{
    if (track->sub_count == track->sub_room) {
        uint32_t room = track->sub_room ? track->sub_room * 2 : 16;
        struct sub *subs = aligned_alloc(ABI_CACHE_LINE, room * sizeof(*subs));
        if (!subs)
            return NULL;
        if (track->sub_count)
            memcpy(subs, track->subs, track->sub_count * sizeof(*subs));
        free(track->subs);
        track->subs = subs;
        track->sub_room = room;
    }
    struct sub *sub = &track->subs[track->sub_count++];
    memset(sub, 0, sizeof(*sub));
    return sub;
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
    for (uint8_t i = 0; i < session->tracks; i++) {
        const struct msg_track *config = &session->track[i];
        if (config->source >= stream->tracks || session->feedback[i].sub != SUB_NONE)
            continue;
        struct track *track = &stream->track[config->source];
        struct sub *sub = add_sub(track);
        if (!sub)
            return -ENOMEM;
        uint64_t random = random64();
        sub->session = tables_slot(tables, session);
        sub->ssrc = config->layer[0].ssrc;
        sub->rtx_ssrc = config->layer[0].rtx_ssrc;
        sub->pt = config->pt;
        sub->rtx_pt = config->rtx_pt;
        sub->track = i;
        sub->map = take_map(track, config);
        // First sequence numbers below 2^15, so that early loss cannot shift the receiver's ROC.
        struct session_track *feedback = &session->feedback[i];
        sub->delta = feedback->next_index ? feedback->next_index : random & 0x7fff;
        sub->rtx_index = feedback->next_index ? feedback->next_rtx_index : (random >> 16) & 0x7fff;
        feedback->sub = track->sub_count - 1;
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
    for (uint8_t i = 0; i < session->tracks; i++) {
        struct sub *sub = tables_sub(tables, session, i);
        if (!sub)
            continue;
        struct track *track = &stream->track[session->track[i].source];
        if (sub->map < TRACK_MAPS)
            track->maps[sub->map].users--;
        save_numbers(tables, track, sub);
        *sub = track->subs[--track->sub_count];
        if (sub != &track->subs[track->sub_count])
            tables->sessions[sub->session].feedback[sub->track].sub = (uint32_t)(sub - track->subs);
    }
}

void tables_want_keyframes(struct tables *tables, const struct session *session)
{
    struct stream *stream = tables_stream(tables, session->stream);
    for (uint8_t i = 0; stream && i < session->tracks; i++) {
        const struct sub *sub = tables_sub(tables, session, i);
        struct track *track = &stream->track[session->track[i].source];
        if (sub && !sub->keyed && track->config.kind == KIND_VIDEO)
            track->key_wanted = true;
    }
}

struct sub *tables_sub(const struct tables *tables, const struct session *session, uint8_t track)
{
    if (session->feedback[track].sub == SUB_NONE)
        return NULL;
    struct stream *stream = tables_stream(tables, session->stream);
    return stream ? &stream->track[session->track[track].source].subs[session->feedback[track].sub]
                  : NULL;
}
