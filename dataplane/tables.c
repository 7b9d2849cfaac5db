#include "tables.h"
#include <fcntl.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

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

// The head of the file; sessions, senders and streams follow, each on a page of its own.
struct table_file {
    uint32_t magic;
    uint32_t version;                    // ABI_VERSION
    uint64_t layout;                     // what else must agree, see layout_of
    uint64_t sessions, senders, streams; // offsets
    uint64_t size;
};

#define PAGE 4096u

static uint64_t round_page(uint64_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

// Differs whenever the structures or their numbers do.
static uint64_t layout_of(const struct abi_config *config)
{
    const uint64_t parts[] = {sizeof(struct session),   sizeof(struct sender),
                              sizeof(struct stream),    config->max_sessions,
                              config->max_streams,      config->crypto,
                              sizeof(struct protect_tx)};
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        hash = (hash ^ parts[i]) * 0x100000001b3ull;
    for (const char *p = HITLESS_VERSION; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 0x100000001b3ull;
    return hash;
}

static void plan_file(struct table_file *plan, const struct abi_config *config)
{
    *plan = (struct table_file){.magic = ABI_MAGIC, .version = ABI_VERSION};
    plan->layout = layout_of(config);
    plan->sessions = PAGE;
    plan->senders =
        plan->sessions + round_page((uint64_t)config->max_sessions * sizeof(struct session));
    plan->streams =
        plan->senders + round_page((uint64_t)config->max_sessions * sizeof(struct sender));
    plan->size = plan->streams + round_page((uint64_t)config->max_streams * sizeof(struct stream));
}

// Maps DIR/table.WORKER if it is what `plan` says, else makes it anew; private memory without DIR.
static int map_file(struct tables *tables, const struct table_file *plan, const char *dir,
                    uint32_t worker, bool *found)
{
    int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char path[512];
    *found = false;
    if (dir) {
        flags = MAP_SHARED;
        snprintf(path, sizeof(path), "%s/table.%u", dir, worker);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        struct table_file old = {0};
        struct stat st;
        if (fd < 0 || fstat(fd, &st))
            return -errno;
        *found = pread(fd, &old, sizeof(old), 0) == sizeof(old) &&
                 memcmp(&old, plan, sizeof(old)) == 0 && (uint64_t)st.st_size == plan->size;
        if (!*found && (ftruncate(fd, 0) || ftruncate(fd, (off_t)plan->size))) {
            int error = errno;
            close(fd);
            return -error;
        }
    }
    void *map = mmap(NULL, plan->size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED)
        return -errno;
    // Keys stay out of core dumps; untouched slots cost no memory.
    madvise(map, plan->size, MADV_DONTDUMP);
    tables->file = map;
    tables->file_size = plan->size;
    tables->sessions = (struct session *)((uint8_t *)map + plan->sessions);
    tables->senders = (struct sender *)((uint8_t *)map + plan->senders);
    return 0;
}

static struct stream *stream_at(const struct tables *tables, uint32_t slot)
{
    return (struct stream *)((uint8_t *)tables->file + tables->file->streams) + slot;
}

static int make_track(const struct tables *tables, struct track *track)
{
    track->viewers = NULL;
    track->viewer_count = track->viewer_room = 0;
    // Also where the publisher is elsewhere: it may come back to this worker.
    track->gaps = calloc(GAPS_TRUNK + 1, sizeof(*track->gaps));
    memset(track->maps, 0, sizeof(track->maps));
    int rc = cache_init(&track->ring, tables->cache_min, tables->cache_max, tables->cache_span_ns,
                        release_mbuf);
    return rc ? rc : !track->gaps ? -ENOMEM : 0;
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

static bool adopt_session(struct tables *tables, struct protect *protect, struct session *session)
{
    struct sender *sender = tables_sender(tables, session);
    if (session->state == SESSION_KEYED && session->role == ROLE_PLAY &&
        protect_tx_adopt(protect, &sender->tx))
        return false;
    struct abi_addr key = {0};
    memcpy(key.ip, session->ice.ufrag, MSG_UFRAG_LEN);
    map_put(&tables->by_ufrag, &key, tables_slot(tables, session));
    for (int i = 0; i < SESSION_PATHS; i++)
        if (session->paths[i].remote.family)
            map_put(&tables->by_remote, &session->paths[i].remote, tables_slot(tables, session));
    for (int i = 0; i < MSG_MAX_TRACKS; i++)
        sender->sub[i].place = SUB_NONE;
    session->media_told = session->dead_told = false;
    tables->session_count++;
    return true;
}

static bool adopt_stream(struct tables *tables, struct protect *protect, struct stream *stream)
{
    stream->twcc = NULL;
    stream->state = STREAM_IDLE; // the control plane is told anew
    for (int i = 0; i < stream->tracks; i++) {
        struct track *track = &stream->track[i];
        if (make_track(tables, track))
            return false;
        // What the publisher sent while nobody listened is asked for again.
        for (int l = 0; l < track->config.layers; l++)
            if (!replay_empty(&track->layers[l].media.replay))
                gaps_start(&track->gaps[l], replay_top(&track->layers[l].media.replay));
    }
    return !stream->keyed_by ||
           (protect_rx_adopt(protect, &stream->rx) == 0 && tables_make_twcc(stream) == 0);
}

// Takes over what an earlier process left: all but the packets themselves.
static void adopt(struct tables *tables, struct protect *protect)
{
    for (uint32_t i = 0; i < tables->max_streams; i++) {
        struct stream *stream = stream_at(tables, i);
        if (!stream->id)
            continue;
        tables->streams[i] = stream;
        tables->stream_count++;
        if (!adopt_stream(tables, protect, stream))
            tables_close_stream(tables, stream);
    }
    for (uint32_t i = 0; i < tables->max_sessions; i++) {
        struct session *session = &tables->sessions[i];
        if (session->state == SESSION_FREE)
            continue;
        if (adopt_session(tables, protect, session))
            tables_join(tables, session);
        else
            explicit_bzero(session, sizeof(*session));
    }
}

int tables_init(struct tables *tables, const struct abi_config *config, const char *dir,
                uint32_t worker, struct protect *protect)
{
    *tables = (struct tables){.max_sessions = config->max_sessions,
                              .max_streams = config->max_streams,
                              .cache_min = 64,
                              .cache_max = config->cache_mbufs,
                              .cache_span_ns = config->cache_ms * UINT64_C(1000000)};
    struct table_file plan;
    bool found;
    plan_file(&plan, config);
    int rc = map_file(tables, &plan, dir, worker, &found);
    if (rc)
        return rc;
    tables->streams = calloc(config->max_streams, sizeof(*tables->streams));
    if (!tables->streams || map_init(&tables->by_ufrag, config->max_sessions, random64()) ||
        map_init(&tables->by_remote, config->max_sessions * SESSION_PATHS, random64())) {
        tables_free(tables);
        return -ENOMEM;
    }
    if (found)
        adopt(tables, protect);
    // Last: a file that was not finished is made anew by the next process.
    *tables->file = plan;
    return 0;
}

static void free_track(struct track *track)
{
    if (track->ring.slots)
        cache_free(&track->ring);
    free(track->viewers);
    free(track->gaps);
    track->viewers = NULL;
    track->gaps = NULL;
}

void tables_free(struct tables *tables)
{
    for (uint32_t i = 0; tables->streams && i < tables->max_streams; i++) {
        struct stream *stream = tables->streams[i];
        for (int t = 0; stream && t < stream->tracks; t++)
            free_track(&stream->track[t]);
        if (stream)
            free(stream->twcc);
    }
    if (tables->file)
        munmap(tables->file, tables->file_size);
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
    struct sender *sender = tables_sender(tables, session);
    memset(session, 0, sizeof(*session));
    memset(sender, 0, sizeof(*sender));
    session->id = open->head.id;
    session->role = open->role;
    session->stream = open->stream;
    session->tracks = open->tracks;
    session->heard_ns = session->opened_ns = now_ns;
    memcpy(session->track, open->track, sizeof(session->track));
    session->ssrc = (uint32_t)random64();
    for (int i = 0; i < MSG_MAX_TRACKS; i++) {
        const struct msg_track *config = &session->track[i];
        uint64_t random = random64();
        // First sequence numbers below 2^15, so that early loss cannot shift the receiver's ROC.
        sender->sub[i] = (struct sub){.delta = random & 0x7fff,
                                      .rtx_index = (random >> 16) & 0x7fff,
                                      .ssrc = config->layer[0].ssrc,
                                      .rtx_ssrc = config->layer[0].rtx_ssrc,
                                      .place = SUB_NONE,
                                      .pt = config->pt,
                                      .rtx_pt = config->rtx_pt};
    }
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
        protect_tx_clear(protect, &tables_sender(tables, session)->tx);
        protect_rtcp_tx_clear(&session->rtcp_tx);
        protect_rtcp_rx_clear(&session->rtcp_rx);
    }
    explicit_bzero(tables_sender(tables, session), sizeof(struct sender));
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

// The viewer's numbers stay with it; if it joins again it goes on behind them.
static void leave_track(struct tables *tables, struct track *track, const struct viewer_ref *viewer)
{
    struct sub *sub = &tables->senders[viewer->session].sub[viewer->track];
    if (sub->map < TRACK_MAPS)
        track->maps[sub->map].users--;
    if (sub->numbered)
        sub->delta = (track->next_index + sub->delta) & INDEX_MASK;
    sub->numbered = false;
    sub->keyed = false;
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
    struct stream *stream = stream_at(tables, slot);
    memset(stream, 0, sizeof(*stream));
    stream->publisher = MAP_NONE;
    stream->source_worker = open->source_worker;
    stream->tracks = open->tracks;
    stream->trunk_id = open->trunk_id;
    stream->group = open->group;
    stream->peers = open->peers;
    tables->streams[slot] = stream;
    tables->stream_count++;
    for (int i = 0; i < open->tracks; i++) {
        open_track(&stream->track[i], &open->track[i]);
        if (make_track(tables, &stream->track[i])) {
            tables_close_stream(tables, stream);
            return NULL;
        }
    }
    stream->id = open->head.id;
    // Viewers may have come first.
    for (uint32_t i = 0; i < tables->max_sessions; i++)
        if (tables->sessions[i].state != SESSION_FREE && tables->sessions[i].stream == stream->id)
            tables_join(tables, &tables->sessions[i]);
    return stream;
}

void tables_update_stream(struct stream *stream, const struct msg_stream_open *open)
{
    stream->trunk_id = open->trunk_id;
    stream->group = open->group;
    stream->peers = open->peers;
    if (stream->source_worker != open->source_worker) {
        stream->source_worker = open->source_worker;
        tables_reset_source(stream);
    }
    for (int i = 0; i < stream->tracks && i < open->tracks; i++) {
        struct track *track = &stream->track[i];
        if (memcmp(&track->config, &open->track[i], sizeof(track->config)) == 0)
            continue;
        track->config = open->track[i];
        tables_reset_source(stream);
    }
}

void tables_reset_source(struct stream *stream)
{
    for (int i = 0; i < stream->tracks; i++) {
        struct track *track = &stream->track[i];
        // A plain resend must repeat the very bytes, which the old header extensions are part of.
        cache_clear(&track->ring);
        track->clock.ntp = 0;
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
    explicit_bzero(&stream->rx, sizeof(stream->rx));
    stream->keyed_by = 0;
    free(stream->twcc);
    stream->twcc = NULL;
}

void tables_close_stream(struct tables *tables, struct stream *stream)
{
    for (int i = 0; i < stream->tracks; i++) {
        struct track *track = &stream->track[i];
        for (uint32_t v = 0; v < track->viewer_count; v++)
            leave_track(tables, track, &track->viewers[v]);
        free_track(track);
    }
    free(stream->twcc);
    for (uint32_t i = 0; i < tables->max_streams; i++)
        if (tables->streams[i] == stream)
            tables->streams[i] = NULL;
    explicit_bzero(stream, sizeof(*stream));
    tables->stream_count--;
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
        if (!sub->numbered && track->next_index) {
            sub->delta = (sub->delta - track->next_index) & INDEX_MASK;
            sub->numbered = true;
        }
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
        if (sub && !sub->keyed && track->config.kind == KIND_VIDEO)
            track->key_wanted = true;
    }
}
