// A full ICE agent; see agent.h.
#include "agent.h"
#include "net.h"
#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#define MS 1000000ull
#define PACE_NS (20 * MS)       // between the first checks of two pairs (Ta, RFC 8445 14.2)
#define RTO_NS (250 * MS)       // of a first check, then doubled
#define TRIES_MAX 6             // 250 ms * (2^6 - 1): 16 s
#define NOMINATE_WAIT (60 * MS) // how long a better pair is waited for
#define CONSENT_NS (5000 * MS)  // RFC 7675 5.1, times 0.8 to 1.2
#define MEDIA_NS (500 * MS)     // media that came so lately comes still
#define CONSENT_ANSWER (1000 * MS)
// Peer-reflexive type preference, as a check's PRIORITY says (RFC 8445 7.1.1).
#define CHECK_PRIORITY (110u << 24 | 65535u << 8 | 255u)

int agent_init(struct agent *agent)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t random[AGENT_UFRAG + AGENT_PWD];
    memset(agent, 0, sizeof(*agent));
    if (RAND_bytes(random, sizeof(random)) != 1 ||
        RAND_bytes((uint8_t *)&agent->tiebreaker, sizeof(agent->tiebreaker)) != 1)
        return -EIO;
    for (int i = 0; i < AGENT_UFRAG; i++)
        agent->ufrag[i] = alphabet[random[i] & 63];
    for (int i = 0; i < AGENT_PWD; i++)
        agent->pwd[i] = alphabet[random[AGENT_UFRAG + i] & 63];
    agent->random = agent->tiebreaker | 1;
    stun_key_init(&agent->local, agent->pwd, AGENT_PWD);
    return 0;
}

int agent_remote(struct agent *agent, const char *ufrag, const char *pwd)
{
    int n = snprintf(agent->username, sizeof(agent->username), "%s:%.*s", ufrag, AGENT_UFRAG,
                     agent->ufrag);
    if (n < 0 || (size_t)n >= sizeof(agent->username) || *ufrag == '\0' || *pwd == '\0')
        return -EINVAL;
    stun_key_init(&agent->remote, pwd, strlen(pwd));
    agent->started = true;
    return 0;
}

static struct agent_pair *find(struct agent *agent, const struct abi_addr *remote)
{
    for (unsigned i = 0; i < agent->pairs; i++)
        if (net_same(&agent->pair[i].remote, remote))
            return &agent->pair[i];
    return NULL;
}

void agent_add(struct agent *agent, const struct abi_addr *remote, uint32_t priority,
               uint64_t now_ns)
{
    if (agent->pairs == AGENT_PAIRS || find(agent, remote) != NULL)
        return;
    agent->pair[agent->pairs] = (struct agent_pair){
        .remote = *remote, .priority = priority, .next_ns = now_ns + agent->pairs * PACE_NS};
    agent->pairs++;
}

static uint64_t next_random(struct agent *agent) // xorshift64: for jitter only
{
    agent->random ^= agent->random << 13;
    agent->random ^= agent->random >> 7;
    return agent->random ^= agent->random << 17;
}

// Browsers say it again in every check of the pair in use.
static bool is_selected(const struct agent *agent, const struct agent_pair *pair)
{
    return agent->connected && pair == &agent->pair[agent->selected];
}

static void send_check(struct agent *agent, struct agent_pair *pair, agent_send_fn send,
                       void *opaque)
{
    uint8_t buffer[STUN_USERNAME_MAX + 128];
    struct stun_check check = {
        .username = agent->username,
        .username_length = strlen(agent->username),
        .priority = CHECK_PRIORITY,
        .role = agent->controlled ? STUN_ROLE_CONTROLLED : STUN_ROLE_CONTROLLING,
        .tiebreaker = agent->tiebreaker,
        .use_candidate = !agent->controlled && (pair->nominating || is_selected(agent, pair)),
    };
    memcpy(check.id, pair->id, sizeof(check.id));
    size_t size = stun_write_request(buffer, sizeof(buffer), &check, &agent->remote);
    if (size == 0)
        return;
    agent->checks_sent++;
    send(opaque, &pair->remote, buffer, size);
}

static void begin_check(struct agent *agent, struct agent_pair *pair, bool nominating,
                        uint64_t now_ns, agent_send_fn send, void *opaque)
{
    uint64_t words[2] = {next_random(agent) ^ now_ns, next_random(agent)};
    // An answer is authenticated by its integrity; the id only has to be new.
    memcpy(pair->id, words, sizeof(pair->id));
    pair->pending = true;
    pair->nominating = nominating;
    pair->tries = 1;
    pair->sent_ns = now_ns;
    if (pair->state == PAIR_WAITING)
        pair->state = PAIR_CHECKING;
    pair->next_ns =
        now_ns + (pair->rtt_ns && pair->rtt_ns * 2 > RTO_NS ? pair->rtt_ns * 2 : RTO_NS);
    send_check(agent, pair, send, opaque);
}

// Chooses the pair to nominate (RFC 8445 8.1.1): the best valid one, once no better one may follow
// soon. NULL: not yet.
static struct agent_pair *to_nominate(struct agent *agent, uint64_t now_ns)
{
    struct agent_pair *best = NULL, *hope = NULL;
    for (unsigned i = 0; i < agent->pairs; i++) {
        struct agent_pair *pair = &agent->pair[i];
        if (pair->state == PAIR_VALID && (best == NULL || pair->priority > best->priority))
            best = pair;
        if (pair->state < PAIR_VALID && (hope == NULL || pair->priority > hope->priority))
            hope = pair;
    }
    if (best == NULL || best->nominating)
        return NULL;
    bool wait = hope != NULL && hope->priority > best->priority &&
                now_ns - agent->first_valid_ns < NOMINATE_WAIT;
    return wait ? NULL : best;
}

static uint64_t heard_ns(const struct agent_pair *pair)
{
    return pair->media_ns > pair->answer_ns ? pair->media_ns : pair->answer_ns;
}

// The pair that media comes from, when the selected one is silent. NULL: stay.
static struct agent_pair *to_move_to(struct agent *agent, uint64_t now_ns)
{
    uint64_t silent_ns = now_ns - heard_ns(&agent->pair[agent->selected]);
    if (agent->controlled || silent_ns < AGENT_SILENT_NS)
        return NULL;
    for (unsigned i = 0; i < agent->pairs; i++)
        if (agent->pair[i].state == PAIR_VALID && now_ns - agent->pair[i].media_ns < MEDIA_NS)
            return &agent->pair[i];
    return NULL;
}

// An answered or given-up check of a valid pair is followed by the next consent check.
static void schedule_consent(struct agent *agent, struct agent_pair *pair, uint64_t now_ns)
{
    pair->pending = false;
    pair->nominating = false;
    pair->next_ns = now_ns + CONSENT_NS * 8 / 10 + next_random(agent) % (CONSENT_NS * 4 / 10);
}

static void on_success(struct agent *agent, struct agent_pair *pair, uint64_t now_ns)
{
    if (pair->tries == 1) { // Karn: else it is not known which transmission was answered
        uint64_t rtt = now_ns - pair->sent_ns;
        pair->rtt_ns = pair->rtt_ns ? (pair->rtt_ns * 7 + rtt) / 8 : rtt ? rtt : 1;
    }
    bool nominated = pair->nominating || (agent->controlled && pair->nominated);
    pair->state = PAIR_VALID;
    pair->answer_ns = now_ns;
    if (agent->first_valid_ns == 0)
        agent->first_valid_ns = now_ns;
    schedule_consent(agent, pair, now_ns);
    if (nominated && !agent->connected) {
        agent->connected = true;
        agent->selected = (uint8_t)(pair - agent->pair);
    }
}

static void on_response(struct agent *agent, const struct abi_addr *from,
                        const struct stun_msg *msg, uint64_t now_ns)
{
    struct agent_pair *pair = find(agent, from); // 7.2.5.2.1: the answer comes from where we sent
    if (pair == NULL || !pair->pending || memcmp(pair->id, msg->id, STUN_ID_LEN) != 0 ||
        !stun_check_integrity(msg, &agent->remote))
        return;
    if (msg->type == STUN_BINDING_SUCCESS) {
        on_success(agent, pair, now_ns);
    } else if (msg->error == STUN_ROLE_CONFLICT) {
        agent->controlled = !agent->controlled;
        pair->pending = false;
        pair->next_ns = now_ns;
    } else if (pair->state != PAIR_VALID) {
        pair->pending = false;
        pair->state = PAIR_FAILED;
    }
}

// Settles who controls (RFC 8445 7.3.1.1). False: the request was answered with an error.
static bool settle_role(struct agent *agent, const struct stun_msg *msg)
{
    uint8_t ours = agent->controlled ? STUN_ROLE_CONTROLLED : STUN_ROLE_CONTROLLING;
    if (msg->role != ours)
        return true;
    bool we_win = agent->tiebreaker >= msg->tiebreaker;
    if (we_win != agent->controlled)
        return false;
    agent->controlled = !agent->controlled;
    return true;
}

static void on_request(struct agent *agent, const struct abi_addr *from, const struct stun_msg *msg,
                       uint64_t now_ns, agent_send_fn send, void *opaque)
{
    uint8_t buffer[256];
    const char *receiver, *sender;
    size_t receiver_length, sender_length, size;
    if (!stun_split_username(msg, &receiver, &receiver_length, &sender, &sender_length) ||
        receiver_length != AGENT_UFRAG || memcmp(receiver, agent->ufrag, AGENT_UFRAG) != 0 ||
        !stun_check_integrity(msg, &agent->local))
        return;
    agent->checks_received++;
    if (!settle_role(agent, msg)) {
        size = stun_write_error(buffer, sizeof(buffer), msg, STUN_ROLE_CONFLICT, &agent->local);
        send(opaque, from, buffer, size);
        return;
    }
    size = stun_write_success(buffer, sizeof(buffer), msg->id, from, &agent->local);
    send(opaque, from, buffer, size);
    if (!agent->started)
        return;
    agent_add(agent, from, msg->has_priority ? msg->priority : 0, now_ns);
    struct agent_pair *pair = find(agent, from);
    if (pair == NULL)
        return;
    if ((pair->state == PAIR_WAITING || pair->state == PAIR_FAILED) && !pair->pending) {
        pair->state = PAIR_WAITING; // a triggered check (7.3.1.4)
        pair->next_ns = now_ns;
    }
    pair->nominated |= msg->use_candidate;
    if (agent->controlled && msg->use_candidate && pair->state == PAIR_VALID) {
        agent->connected = true;
        agent->selected = (uint8_t)(pair - agent->pair);
    }
}

void agent_input(struct agent *agent, const struct abi_addr *from, const uint8_t *data, size_t size,
                 uint64_t now_ns, agent_send_fn send, void *opaque)
{
    struct stun_msg msg;
    if (stun_parse(data, size, &msg) != 0 || (msg.fingerprint && !stun_check_fingerprint(&msg)))
        return;
    switch (msg.type) {
    case STUN_BINDING_REQUEST:
        on_request(agent, from, &msg, now_ns, send, opaque);
        break;
    case STUN_BINDING_SUCCESS:
    case STUN_BINDING_ERROR:
        if (agent->started)
            on_response(agent, from, &msg, now_ns);
        break;
    }
}

// A pair whose time has come.
static void tick_pair(struct agent *agent, struct agent_pair *pair, uint64_t now_ns,
                      agent_send_fn send, void *opaque)
{
    if (!pair->pending) {
        begin_check(agent, pair, false, now_ns, send, opaque);
    } else if (pair->state == PAIR_VALID && !pair->nominating) {
        schedule_consent(agent, pair, now_ns - CONSENT_ANSWER); // unanswered (RFC 7675: no repeat)
    } else if (pair->tries < TRIES_MAX) {
        send_check(agent, pair, send, opaque);
        pair->next_ns = now_ns + (RTO_NS << pair->tries++);
    } else {
        pair->pending = false;
        pair->nominating = false;
        pair->state = PAIR_FAILED;
    }
}

uint64_t agent_tick(struct agent *agent, uint64_t now_ns, agent_send_fn send, void *opaque)
{
    uint64_t next = UINT64_MAX;
    if (!agent->started)
        return next;
    for (unsigned i = 0; i < agent->pairs; i++)
        if (agent->pair[i].state != PAIR_FAILED && agent->pair[i].next_ns <= now_ns)
            tick_pair(agent, &agent->pair[i], now_ns, send, opaque);
    if (agent->connected) {
        struct agent_pair *pair = to_move_to(agent, now_ns);
        if (pair != NULL) {
            agent->selected = (uint8_t)(pair - agent->pair);
            begin_check(agent, pair, true, now_ns, send, opaque);
        }
    } else if (!agent->controlled) {
        struct agent_pair *pair = to_nominate(agent, now_ns);
        if (pair != NULL)
            begin_check(agent, pair, true, now_ns, send, opaque);
        else if (agent->first_valid_ns)
            next = now_ns + NOMINATE_WAIT / 4;
    }
    for (unsigned i = 0; i < agent->pairs; i++)
        if (agent->pair[i].state != PAIR_FAILED && agent->pair[i].next_ns < next)
            next = agent->pair[i].next_ns;
    return next;
}

bool agent_dead(const struct agent *agent, uint64_t now_ns)
{
    for (unsigned i = 0; i < agent->pairs; i++) {
        const struct agent_pair *pair = &agent->pair[i];
        if (pair->state == PAIR_VALID ? now_ns < pair->answer_ns + AGENT_CONSENT_NS
                                      : !agent->connected && pair->state != PAIR_FAILED)
            return false;
    }
    return agent->started;
}

const struct abi_addr *agent_path(const struct agent *agent)
{
    return agent->connected ? &agent->pair[agent->selected].remote : NULL;
}

void agent_heard(struct agent *agent, const struct abi_addr *from, uint64_t now_ns)
{
    struct agent_pair *pair = find(agent, from);
    if (pair != NULL)
        pair->media_ns = now_ns;
}

bool agent_knows(const struct agent *agent, const struct abi_addr *from)
{
    for (unsigned i = 0; i < agent->pairs; i++)
        if (agent->pair[i].state == PAIR_VALID && net_same(&agent->pair[i].remote, from))
            return true;
    return false;
}
