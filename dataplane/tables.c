// A worker's sessions: opening, closing, finding them.
#include "tables.h"
#include <sys/random.h>

#define ADDRESS_HELD_NS UINT64_C(10000000000) // after its session was last heard

uint64_t tables_random(void)
{
    uint64_t value = 0;
    while (getrandom(&value, sizeof(value), 0) != sizeof(value))
        ;
    return value;
}

struct session *tables_session(const struct tables *tables, uint64_t id)
{
    uint32_t slot = MSG_SLOT(id);
    if (slot >= tables->max_sessions || tables->sessions[slot].state == SESSION_FREE ||
        tables->sessions[slot].id != id)
        return NULL;
    return &tables->sessions[slot];
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
    session->home = open->home;
    session->heard_ns = session->opened_ns = now_ns;
    memcpy(session->track, open->track, sizeof(session->track));
    session->ssrc = (uint32_t)tables_random();
    for (int i = 0; i < MSG_MAX_TRACKS; i++) {
        const struct msg_track *config = &session->track[i];
        uint64_t random = tables_random();
        // First sequence numbers below 2^15, so that early loss cannot shift the receiver's ROC.
        sender->sub[i] = (struct sub){.delta = INDEX_SPARE + random % (0x8000 - INDEX_SPARE),
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
    if (slot >= tables->session_end)
        tables->session_end = slot + 1;
    return session;
}

void tables_set_ice(struct tables *tables, struct session *session, const struct msg_ice *ice)
{
    uint32_t slot = tables_slot(tables, session);
    struct abi_addr key = ufrag_key(session->ice.ufrag);
    map_remove(&tables->by_ufrag, &key, slot);
    memcpy(session->ice.ufrag, ice->ufrag, MSG_UFRAG_LEN);
    memcpy(session->ice.remote_ufrag, ice->remote_ufrag, sizeof(ice->remote_ufrag));
    session->ice.remote_ufrag_len = ice->remote_ufrag_len;
    stun_key_init(&session->ice.local, ice->pwd, MSG_PWD_LEN);
    stun_key_init(&session->ice.remote, ice->remote_pwd, ice->remote_pwd_len);
    session->wanted = PATH_NONE; // what we asked with the old ones is not answered with the new
    session->asked_ns = 0;
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

static uint8_t find_path(const struct session *session, const struct abi_addr *remote)
{
    for (uint8_t i = 0; i < SESSION_PATHS; i++)
        if (memcmp(&session->paths[i].remote, remote, sizeof(*remote)) == 0)
            return i;
    return PATH_NONE;
}

// Whoever knows a session's credentials can write any source address, so a check alone takes no
// address away from a session that has shown to be there.
static bool is_anothers(const struct tables *tables, const struct session *session,
                        const struct abi_addr *remote, uint64_t now_ns)
{
    const struct session *other = tables_by_remote(tables, remote);
    if (!other || other == session || now_ns - other->heard_ns >= ADDRESS_HELD_NS)
        return false;
    uint8_t path = find_path(other, remote);
    return path != PATH_NONE && other->paths[path].proven_ns;
}

// The path that was silent for longest, or a free one; never the one in use.
static uint8_t oldest_path(const struct session *session)
{
    uint8_t at = session->path == 0 && session->paths[0].remote.family ? 1 : 0;
    for (uint8_t i = 0; i < SESSION_PATHS; i++)
        if (i != session->path && session->paths[i].heard_ns < session->paths[at].heard_ns)
            at = i;
    return at;
}

uint8_t tables_validate_path(struct tables *tables, struct session *session,
                             const struct abi_addr *remote, uint64_t now_ns)
{
    uint32_t slot = tables_slot(tables, session);
    uint8_t at = find_path(session, remote);
    if (at == PATH_NONE) {
        at = oldest_path(session);
        if (session->paths[at].remote.family)
            map_remove(&tables->by_remote, &session->paths[at].remote, slot);
        if (session->wanted == at)
            session->wanted = PATH_NONE;
        session->paths[at] = (struct session_path){.remote = *remote};
    }
    session->paths[at].heard_ns = now_ns;
    if (!is_anothers(tables, session, remote, now_ns))
        map_put(&tables->by_remote, remote, slot);
    return at;
}

uint8_t tables_adopt_path(struct tables *tables, struct session *session,
                          const struct abi_addr *remote, uint64_t now_ns)
{
    uint8_t at = tables_validate_path(tables, session, remote, now_ns);
    session->paths[at].proven_ns = now_ns;
    return at;
}

void tables_prove_path(struct tables *tables, struct session *session, uint8_t path,
                       uint64_t now_ns)
{
    struct session_path *p = &session->paths[path];
    p->heard_ns = p->proven_ns = now_ns;
    map_put(&tables->by_remote, &p->remote, tables_slot(tables, session));
}
