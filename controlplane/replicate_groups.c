// Who holds which group: roles and terms, between the two nodes and over restarts; see replicate.h.
//
// A node that starts with a dead dataplane may have been taken over meanwhile: it serves its own
// group only after the partner's word, or REPLICATE_CONTACT_MS without one.
#include "log.h"
#include "replicate_private.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BFD_DIAG_EXPIRED 1 // we heard nothing; else the partner says that it did not hear us
static const char *const group_names[] = {"ours", "the partner's"};

// ---- roles

static void tell_role(struct replicate *r, unsigned group, uint8_t wish)
{
    struct wire_group m = {.head = {.type = WIRE_GROUP, .length = sizeof(m)},
                           .term = r->group[group].term,
                           .owner = group == 0 ? WIRE_MINE : WIRE_YOURS,
                           .role = r->group[group].role,
                           .wish = wish};
    if (replink_up(r->link))
        replicate_send(r, &m);
}

// Takes or leaves a group. `why` is for the log.
static void become(struct replicate *r, unsigned group, uint8_t role, uint32_t term,
                   const char *why)
{
    struct held_group *g = &r->group[group];
    bool changed = g->role != role;
    if (!changed && g->term == term)
        return;
    g->role = role;
    g->term = term;
    g->claim = 0;
    g->handing = false;
    groups_save(r);
    groups_tell_dataplane(r);
    if (!changed)
        return;
    log_info("group of sessions that were %s first: %s, term %u: %s", group_names[group],
             role == GROUP_ACTIVE ? "we serve it" : "we stand by", term, why);
    if (group == 0)
        r->home_ms = role == GROUP_ACTIVE ? uv_now(r->loop) : 0;
    else
        r->lent = false;
    if (role == GROUP_ACTIVE)
        import_taken_over(r, group);
    else
        import_left(r, group);
}

void groups_hello(const struct replicate *r, struct wire_hello *hello)
{
    for (unsigned g = 0; g < 2; g++)
        hello->group[g] = (struct wire_group){
            .owner = (uint8_t)g, .term = r->group[g].term, .role = r->group[g].role};
}

static bool link_up(const struct replicate *r)
{
    return __atomic_load_n(&channel_port_stats(r->set->channel)->link_up, __ATOMIC_RELAXED) != 0;
}

static bool has_dataplane(const struct replicate *r)
{
    bool ready = false;
    return dpclient_peer(r->set->dataplane, NULL, &ready) == PEER_ALIVE && ready;
}

// The partner took a group that we serve because it cannot see us, nor we it: the path between us
// is cut, but not the one over which it told us. While our own link is up both go on, with the same
// bytes, until the path heals: who stops now may be the only one whom some clients reach.
static bool is_cut(const struct replicate *r)
{
    return r->bfd_state == BFD_DOWN && r->bfd_diag == BFD_DIAG_EXPIRED && link_up(r);
}

// What both nodes make of their two views, each for itself.
static void resolve(struct replicate *r, unsigned group, const struct wire_group *theirs)
{
    struct held_group *ours = &r->group[group];
    bool owner = group == 0, mine = ours->role == GROUP_ACTIVE;
    bool its = theirs->role == GROUP_ACTIVE, we_hold;
    uint32_t term = ours->term > theirs->term ? ours->term : theirs->term;
    if (mine && its && theirs->term > ours->term && is_cut(r)) {
        ours->claim = theirs->term;
        return;
    }
    if (mine && its) {
        we_hold = ours->term != theirs->term ? ours->term > theirs->term : owner;
        r->counts.conflicts++;
        if (owner && !we_hold)
            r->robbed_ms = uv_now(r->loop);
    } else if (!mine && !its) {
        we_hold = owner;
    } else {
        we_hold = mine;
    }
    // The term says whose it is. Home gets another one each time: the partner may have served
    // meanwhile without our knowing, so its reserve of numbers is stepped over (failover.h).
    bool home = we_hold == owner;
    if (home || !(term & 1))
        term = msg_next_term(term, home);
    become(r, group, we_hold ? GROUP_ACTIVE : GROUP_STANDBY, term, "agreed with the partner");
}

void groups_up(struct replicate *r, const struct wire_hello *hello)
{
    r->contact = true;
    // Whoever is to serve them has to know them.
    if (r->home_ms == 0 && group_held(r, 0))
        import_unprotected(r);
    for (unsigned g = 0; g < 2; g++) {
        resolve(r, g, &hello->group[g == 0 ? WIRE_YOURS : WIRE_MINE]);
        if (group_held(r, g))
            tell_role(r, g, 0); // and should the two have come to different terms, to one
        r->partner_synced[g] = false;
        import_begin(r, g);
        if (!group_held(r, g))
            replicate_synchronise(r, g); // first what only we know; then the holder all
    }
}

void groups_down(struct replicate *r)
{
    for (unsigned g = 0; g < 2; g++) {
        r->group[g].syncing = r->group[g].handing = r->sync_owed[g] = false;
        r->group[g].claim = 0; // HELLO will say it again
    }
    r->robbed_ms = 0;
    r->alone_ms = uv_now(r->loop);
}

// Whether our dataplane has refused a copy: the word of it may have crossed the partner's wish.
static bool lacks_any(const struct replicate *r, unsigned group)
{
    const struct session *s;
    for (s = TAILQ_FIRST(&r->set->open); s != NULL; s = TAILQ_NEXT(s, all))
        if (s->refused && s->open.group == group + 1)
            return true;
    return false;
}

void groups_frame(struct replicate *r, const union wire_frame *frame)
{
    const struct wire_group *m = &frame->group;
    unsigned group = group_index(m->owner);
    struct held_group *g = &r->group[group];
    bool held = group_held(r, group), newer = m->term > g->term;
    if (m->wish == GROUP_ACTIVE && newer && !held) {
        if (!has_dataplane(r) || lacks_any(r, group))
            return; // somebody would be sent nothing: the partner goes on, and asks again
        become(r, group, GROUP_ACTIVE, m->term, "handed over by the partner");
        if (group == 0)
            r->drained = false; // what was drained comes back only when somebody wants it to
        else
            r->lent = true;
        tell_role(r, group, 0);
    } else if (m->wish == GROUP_ACTIVE && held && m->term == g->term) {
        tell_role(r, group, 0); // the same wish again, sent before our word had come
    } else if (m->wish == GROUP_STANDBY && held) {
        replicate_hand_over(r, group);
    } else if (m->role == GROUP_ACTIVE && held && (newer || (m->term == g->term && group == 1))) {
        if (!g->handing && is_cut(r)) {
            g->claim = m->term;
            tell_role(r, group, 0); // it must know that neither has the other's word for numbers
            return;
        }
        if (group == 0 && !g->handing && link_up(r))
            r->robbed_ms = uv_now(r->loop);
        become(r, group, GROUP_STANDBY, m->term, "the partner serves it");
    } else if (m->role == GROUP_ACTIVE && held && m->term < g->term && m->wish == 0) {
        g->claim = g->term;
    } else if (m->role == GROUP_ACTIVE && !held && newer) {
        become(r, group, GROUP_STANDBY, m->term, "the partner serves it");
    }
}

// The partner is asked to send first, and we stop when it says that it does: in between both send,
// the same bytes.
void replicate_hand_over(struct replicate *r, unsigned group)
{
    struct held_group *g = &r->group[group];
    struct wire_group m = {.head = {.type = WIRE_GROUP, .length = sizeof(m)},
                           .term = msg_next_term(g->term, group == 1),
                           .owner = group == 0 ? WIRE_MINE : WIRE_YOURS,
                           .role = GROUP_ACTIVE,
                           .wish = GROUP_ACTIVE};
    g->handing = true;
    // Before it knows all of the group the partner must not hold it: what it then called all would
    // not be. Nor while it cannot see our packets: it would not know where they are numbered.
    if (r->bfd_state != BFD_DOWN && r->bfd_state != BFD_INIT && r->partner_synced[group] &&
        !g->syncing && !r->sync_owed[group] && TAILQ_EMPTY(&r->queue) &&
        replicate_has_all(r, group))
        replicate_send(r, &m);
}

static int check_handing(const struct replicate *r, char *why, size_t why_size)
{
    if (r == NULL) {
        snprintf(why, why_size, "no partner is configured");
        return -ENOENT;
    }
    if (!replink_up(r->link)) {
        snprintf(why, why_size, "the partner is not connected: %s", replink_why(r->link));
        return -ENOTCONN;
    }
    return 0;
}

int replicate_drain(struct replicate *r, char *why, size_t why_size)
{
    int rc = check_handing(r, why, why_size);
    if (rc != 0)
        return rc;
    r->drained = true;
    for (unsigned g = 0; g < 2; g++)
        if (group_held(r, g))
            replicate_hand_over(r, g);
    return 0;
}

// Every group goes to where its sessions were first.
int replicate_failback(struct replicate *r, char *why, size_t why_size)
{
    int rc = check_handing(r, why, why_size);
    if (rc != 0)
        return rc;
    r->drained = false;
    if (group_held(r, 1))
        replicate_hand_over(r, 1);
    if (!group_held(r, 0))
        tell_role(r, 0, GROUP_STANDBY); // the holder is asked to give it back
    return 0;
}

// ---- the dataplane's word

void replicate_message(struct replicate *r, const struct msg_head *head)
{
    if (r == NULL)
        return;
    if (head->type == MSG_PEER_STATE && head->id == 1) {
        static const char *const states[] = {"admin down", "down", "init", "up"};
        const struct msg_peer_state *m = (const void *)head;
        if (r->bfd_state == m->state)
            return;
        r->bfd_state = m->state;
        r->bfd_since_ms = uv_now(r->loop);
        r->bfd_diag = m->diag;
        if (m->detect_ns != 0)
            r->detect_ns = m->detect_ns;
        log_info("partner %s: BFD is %s", r->config->protection.partner.name, states[m->state & 3]);
        // Both served a group while the path was cut: begin anew, agree on one, and tell all.
        if (m->state == BFD_UP && (r->group[0].claim || r->group[1].claim))
            replink_drop(r->link, "the path has healed");
    } else if (head->type == MSG_GROUP_STATE && (head->id == 1 || head->id == 2)) {
        const struct msg_group_state *m = (const void *)head;
        unsigned group = (unsigned)head->id - 1;
        if (m->role != GROUP_ACTIVE || m->term <= r->group[group].term)
            return;
        r->group[group].switch_ns = m->switch_ns;
        r->counts.taken_over++;
        become(r, group, GROUP_ACTIVE, m->term, "BFD says that the partner is down");
        tell_role(r, group, 0);
    }
}

// ---- time

// BFD said that we were dead, and we are not: a core was busy, or the link blinked. The way back is
// without loss, so nobody needs to decide it. That our dataplane did die is known only a while
// after the partner knows.
static void ask_back(struct replicate *r, uint64_t now)
{
    uint64_t calm = r->robbed_ms > r->bfd_since_ms ? r->robbed_ms : r->bfd_since_ms;
    if (!r->robbed_ms || r->bfd_state != BFD_UP || now - calm < REPLICATE_CALM_MS ||
        !has_dataplane(r))
        return;
    r->robbed_ms = 0;
    r->counts.false_alarms++;
    if (!group_held(r, 0))
        tell_role(r, 0, GROUP_STANDBY);
}

static void give_back(struct replicate *r, uint64_t now)
{
    bool sound = replink_up(r->link) && now - r->up_ms >= REPLICATE_AUTO_MS &&
                 r->bfd_state == BFD_UP && !r->group[1].syncing && !r->group[1].handing;
    if (r->config->protection.failback == FAILBACK_AUTO && sound && !r->lent && group_held(r, 1))
        replicate_hand_over(r, 1);
}

// BFD replaces a partner that it saw before. One that dies while BFD does not see it, because our
// own link was away, say, is missed by the connection.
static void take_unserved(struct replicate *r, uint64_t now)
{
    if (r->alone_ms == 0 || replink_up(r->link) || now - r->alone_ms < REPLICATE_CONTACT_MS ||
        r->bfd_state == BFD_UP || !link_up(r) || !has_dataplane(r))
        return;
    for (unsigned g = 0; g < 2; g++)
        if (!group_held(r, g))
            become(r, g, GROUP_ACTIVE, msg_next_term(r->group[g].term, g == 0),
                   "the partner is not heard in any way");
}

void groups_tick(struct replicate *r, uint64_t now)
{
    if (!r->contact && now - r->start_ms >= REPLICATE_CONTACT_MS) {
        r->contact = true;
        log_warning("partner %s is not there (%s): serving without it",
                    r->config->protection.partner.name, replink_why(r->link));
        become(r, 0, GROUP_ACTIVE, msg_next_term(r->group[0].term, true), "nobody else does");
    }
    for (unsigned g = 0; g < 2; g++)
        if (r->group[g].claim > r->group[g].term && group_held(r, g) && !link_up(r))
            become(r, g, GROUP_STANDBY, r->group[g].claim, "our link is down");
    for (unsigned g = 0; g < 2; g++)
        if (r->group[g].handing && group_held(r, g) && replink_up(r->link))
            replicate_hand_over(r, g); // what was in the way may be gone
    // Not before every worker knows that the group is ours, or media would stop for a moment.
    if (r->home_ms != 0 && group_held(r, 0) && replink_up(r->link) &&
        now - r->home_ms >= REPLICATE_TICK_MS) {
        r->home_ms = 0;
        import_unprotected(r);
    }
    take_unserved(r, now);
    ask_back(r, now);
    give_back(r, now);
}

// ---- questions

uint8_t replicate_group(const struct replicate *r, enum session_role role)
{
    bool wanted = r != NULL && r->config->protection.protect != PROTECT_OFF && group_held(r, 0);
    bool heard = wanted && (role == ROLE_PUBLISH || replink_up(r->link));
    return heard ? REPLICATE_OWN : 0;
}

bool replicate_serves(const struct replicate *r, uint8_t group)
{
    return r == NULL || (group != REPLICATE_OWN && group != REPLICATE_PARTNER) ||
           group_held(r, group - 1u);
}

bool replicate_elsewhere(const struct replicate *r)
{
    return r->contact && !r->drained && !group_held(r, 0) && replicate_takes_address(r) &&
           replink_up(r->link);
}

const char *replicate_refusal(const struct replicate *r)
{
    if (r == NULL)
        return NULL;
    if (!r->contact)
        return "this node has just started and awaits its partner's word";
    if (r->drained)
        return "this node is being drained";
    if (!group_held(r, 0) && replicate_takes_address(r))
        return "the partner has this node's address now"; // what comes to it goes there
    if (r->config->protection.strict && r->config->protection.protect == PROTECT_SYNC &&
        (!replink_up(r->link) || !group_held(r, 0)))
        return "a session could not be protected now";
    return NULL;
}

unsigned replicate_candidates(const struct replicate *r, uint8_t home, struct abi_addr out[2])
{
    unsigned n = 0;
    if (r == NULL || r->config->protection.protect == PROTECT_OFF)
        return 0;
    if (r->config->parsed.partner.media4.family != 0)
        out[n++] = r->config->parsed.partner.media4;
    if (r->config->parsed.partner.media6.family != 0)
        out[n++] = r->config->parsed.partner.media6;
    for (unsigned i = 0; i < n; i++)
        out[i].port = (uint16_t)(out[i].port + home % r->partner_workers);
    return n;
}
