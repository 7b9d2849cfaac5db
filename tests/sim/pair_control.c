// The model of the two control planes; see pair.h and controlplane/replicate_groups.c.
#include "../../dataplane/failover.h"
#include "pair_inside.h"
#include <stdlib.h>

static uint32_t publisher_home(const struct pair *pair)
{
    return PUBLISHER_SLOT % pair->workers[0];
}

static uint32_t home_of(const struct pair *pair, uint64_t id)
{
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        if (pair->viewer[v].client.id == id)
            return pair->viewer[v].client.home;
    return publisher_home(pair);
}

void pair_tell(struct pair *pair, int node, const void *message)
{
    const struct msg_head *head = message;
    bool all = head->type == MSG_PEER || head->type == MSG_GROUP || head->type == MSG_STREAM_OPEN ||
               head->type == MSG_STREAM_CLOSE;
    uint32_t worker = home_of(pair, head->id) % pair->workers[node];
    for (uint32_t w = 0; w < pair->workers[node] && pair->alive[node]; w++)
        if (all || w == worker)
            world_tell(&pair->node[node], w, message);
}

bool pair_serves(const struct pair *pair, int node)
{
    return failover_active(&pair->node[node].workers[0], PAIR_GROUP);
}

void pair_tell_group(struct pair *pair, int node)
{
    struct msg_group group = {
        .head = {.type = MSG_GROUP, .length = sizeof(group), .id = PAIR_GROUP},
        .term = pair->control[node].term,
        .role = (uint8_t)pair->control[node].role,
        .takeover = 1,
        .home = node == 0};
    if (!pair->apart)
        group.take4 = pair->node[0].config.media4;
    pair_tell(pair, node, &group);
}

static void adopt(struct pair *pair, int node, unsigned viewer, const struct msg_numbers *numbers)
{
    struct msg_session_adopt m = {.head = {.type = MSG_SESSION_ADOPT, .length = sizeof(m)},
                                  .local = pair->node[0].config.media4,
                                  .mac = {2, 0, 0, 0, 0, CLIENT_MAC_LAST}};
    const struct client *client =
        viewer < PAIR_VIEWERS ? &pair->viewer[viewer].client : &pair->publisher;
    m.head.id = client->id;
    m.remote = client->addr;
    if (numbers)
        m.numbers = *numbers;
    if (pair->deaf[node])
        pair->owed[node][viewer] = m;
    else if (client->id && !pair->lost[node]) // it has joined
        pair_tell(pair, node, &m);
}

void pair_hear(struct pair *pair, int node)
{
    pair->deaf[node] = false;
    for (unsigned v = 0; v <= PAIR_VIEWERS; v++) {
        if (pair->owed[node][v].head.id && !pair->lost[node])
            pair_tell(pair, node, &pair->owed[node][v]);
        pair->owed[node][v].head.id = 0;
    }
}

void pair_copy_session(struct pair *pair, int node, const struct client *client,
                       enum session_role role)
{
    struct client copy =
        pair_client(pair, node, client); // what it received so far is not forgotten
    srandom(pair_seed(pair, MSG_SLOT(client->id)));
    copy.imported = true;
    world_copy(&pair->node[node], &copy, role, STREAM_ID, MSG_SLOT(client->id),
               PROFILE_AEAD_AES_128_GCM, true);
}

// What only the other knows, keys included.
static void import(struct pair *pair, int node)
{
    if (!pair->lost[node] || !pair->publisher.id)
        return;
    pair->lost[node] = false;
    pair_copy_session(pair, node, &pair->publisher, ROLE_PUBLISH);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        pair_copy_session(pair, node, &pair->viewer[v].client, ROLE_PLAY);
    srandom((unsigned)pair->now);
    struct pair_control *c = pair->control;
    memcpy(c[node].numbers, c[OTHER(node)].numbers, sizeof(c[node].numbers));
}

void pair_synchronise(struct pair *pair)
{
    int holder = pair->control[0].role == GROUP_ACTIVE ? 0 : 1;
    struct pair_control *from = &pair->control[holder], *to = &pair->control[OTHER(holder)];
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        msg_numbers_merge(&to->numbers[v], &from->numbers[v]);
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        adopt(pair, OTHER(holder), v, &to->numbers[v]);
        adopt(pair, holder, v, &from->numbers[v]); // it is known there
    }
    adopt(pair, OTHER(holder), PAIR_VIEWERS, NULL);
}

bool pair_joined(const struct pair *pair)
{
    return !pair->control_cut && pair->alive[0] && pair->alive[1];
}

static void become(struct pair *pair, int node, enum group_role role, uint32_t term)
{
    struct pair_control *c = &pair->control[node];
    c->role = role;
    c->term = term;
    c->claim = 0;
    pair_tell_group(pair, node);
}

// Of two that serve, the one with the higher term stays; of none, the home begins.
static void agree(struct pair *pair)
{
    struct pair_control *c = pair->control;
    uint32_t term = c[0].term > c[1].term ? c[0].term : c[1].term;
    bool home = c[0].role == c[1].role ? c[0].role == GROUP_STANDBY || c[0].term > c[1].term
                                       : c[0].role == GROUP_ACTIVE;
    if (home || !(term & 1)) // as controlplane/replicate_groups.c
        term = msg_next_term(term, home);
    become(pair, 0, home ? GROUP_ACTIVE : GROUP_STANDBY, term);
    become(pair, 1, home ? GROUP_STANDBY : GROUP_ACTIVE, term);
    import(pair, 0);
    import(pair, 1);
    pair_synchronise(pair);
}

// New numbers of a viewer: the holder waits for the other's word before it uses them.
static void on_numbers(struct pair *pair, int node, const struct msg_session_numbers *m)
{
    struct pair_control *c = &pair->control[node], *other = &pair->control[OTHER(node)];
    unsigned viewer = 0;
    while (viewer < PAIR_VIEWERS && pair->viewer[viewer].client.id != m->head.id)
        viewer++;
    if (viewer == PAIR_VIEWERS)
        return;
    if (msg_numbers_merge(&c->numbers[viewer], &m->numbers))
        adopt(pair, node, viewer, &c->numbers[viewer]);
    if (!pair_joined(pair) || c->role != GROUP_ACTIVE)
        return;
    if (other->role == GROUP_STANDBY) {
        msg_numbers_merge(&other->numbers[viewer], &c->numbers[viewer]);
        adopt(pair, OTHER(node), viewer, &other->numbers[viewer]);
    }
    if (!c->claim)
        adopt(pair, node, viewer, &c->numbers[viewer]);
}

static void on_seized(struct pair *pair, int node, const struct msg_group_state *m)
{
    struct pair_control *c = &pair->control[node], *other = &pair->control[OTHER(node)];
    if (m->term <= c->term)
        return;
    c->term = m->term;
    c->role = GROUP_ACTIVE;
    if (pair_joined(pair) && other->role == GROUP_ACTIVE)
        other->claim = c->claim = m->term;
}

// The path of a session that the other serves is the other's.
static void on_path(struct pair *pair, int node, const struct msg_session_path *m)
{
    if (pair->control[node].role != GROUP_ACTIVE)
        return;
    for (unsigned v = 0; v < PAIR_VIEWERS; v++)
        if (pair->viewer[v].client.id == m->head.id)
            pair->control[node].path[v] = *m;
}

static void pass_right(struct pair *pair, int node, const struct msg_right *m)
{
    struct msg_right passed = *m;
    passed.head.type = MSG_RIGHT_PASSED;
    if (pair_joined(pair) && !pair->lost[OTHER(node)] && (m->asked || !pair->right_lost))
        pair_tell(pair, OTHER(node), &passed);
}

// The session stays, so that what comes after can be seen.
static void on_dead(struct pair *pair, int node, const struct msg_session_dead *m)
{
    for (unsigned v = 0; v < PAIR_VIEWERS; v++) {
        struct pair_viewer *viewer = &pair->viewer[v];
        if (viewer->client.id != m->head.id)
            continue;
        viewer->ended[node]++;
        viewer->ended_ns = pair->now;
        viewer->why = m->reason;
    }
}

static void serve_lane(struct pair *pair, int node, uint32_t lane)
{
    const struct msg_head *head;
    uint64_t invalid = 0;
    struct world *world = &pair->node[node];
    while ((head = channel_peek(&world->control, lane, &invalid))) {
        if (head->type == MSG_RIGHT_PASS)
            pass_right(pair, node, (const struct msg_right *)head);
        else if (head->type == MSG_SESSION_NUMBERS)
            on_numbers(pair, node, (const struct msg_session_numbers *)head);
        else if (head->type == MSG_GROUP_STATE)
            on_seized(pair, node, (const struct msg_group_state *)head);
        else if (head->type == MSG_SESSION_PATH)
            on_path(pair, node, (const struct msg_session_path *)head);
        else if (head->type == MSG_SESSION_DEAD)
            on_dead(pair, node, (const struct msg_session_dead *)head);
        channel_release(&world->control, lane);
    }
}

void pair_serve_control(struct pair *pair, int node)
{
    for (uint32_t w = 0; w < pair->workers[node]; w++)
        serve_lane(pair, node, w + 1);
}

bool pair_sees(const struct pair *pair, int node)
{
    return pair->node[node].workers[0].watches[0].bfd.state == BFD_UP;
}

bool pair_hand_over(struct pair *pair, int to)
{
    struct pair_control *c = pair->control;
    if (!pair_joined(pair) || !pair_sees(pair, OTHER(to)) || c[to].role == GROUP_ACTIVE ||
        c[OTHER(to)].role != GROUP_ACTIVE)
        return false;
    uint32_t term = msg_next_term(c[OTHER(to)].term, to == 0);
    pair_synchronise(pair);
    pair_turn(pair);
    become(pair, to, GROUP_ACTIVE, term); // first the one, then the other: nothing is lost
    pair_turn(pair);
    become(pair, OTHER(to), GROUP_STANDBY, term);
    pair_synchronise(pair);
    pair_turn(pair);
    return true;
}

void pair_introduce(struct pair *pair, int node)
{
    int other = OTHER(node);
    struct msg_peer peer = world_partner(&pair->node[other].config.media4, node, other);
    memcpy(peer.local, &pair->round, sizeof(pair->round));
    memcpy(peer.remote, &pair->round, sizeof(pair->round));
    peer.workers = (uint16_t)pair->workers[other];
    pair_tell(pair, node, &peer);
}

void pair_open_stream(struct pair *pair, int node)
{
    uint32_t home = publisher_home(pair); // it may not have joined yet
    struct msg_stream_open open = {
        .head = {.type = MSG_STREAM_OPEN, .length = sizeof(open), .id = STREAM_ID},
        .source_worker = (uint8_t)(home % pair->workers[node]),
        .tracks = 2,
        .group = PAIR_GROUP,
        .home = (uint8_t)home,
        .peers = 1,
        .trunk_id = PAIR_TRUNK,
        .track = {world_video(VIDEO_SSRC, RTX_SSRC), world_audio(AUDIO_SSRC)}};
    struct msg_stream_forward forward = {
        .head = {.type = MSG_STREAM_FORWARD, .length = sizeof(forward), .id = STREAM_ID},
        .workers = (1u << pair->workers[node]) - 1};
    pair_tell(pair, node, &open);
    pair_tell(pair, node, &forward); // to the source worker
}

void pair_meet(struct pair *pair)
{
    pair->round++;
    for (int n = 0; n < 2; n++)
        pair_introduce(pair, n);
    agree(pair);
}
