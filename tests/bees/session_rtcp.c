// SRTCP that a session receives; see session_rtcp.h.
#include "session_rtcp.h"
#include "../../dataplane/bytes.h"
#include "session.h"
#include "worker.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RTCP_HEAD 8u
#define RTCP_INDEX 4u
#define RTCP_E_BIT 0x80000000u

static struct rtcp_peer *find(const struct session_rtcp *rtcp, uint32_t ssrc)
{
    for (unsigned i = 0; i < rtcp->peers; i++)
        if (rtcp->peer[i]->source.ssrc == ssrc)
            return rtcp->peer[i];
    return NULL;
}

// A sender whose first packet is authentic.
static struct rtcp_peer *add(struct session_rtcp *rtcp, const struct protect_rtcp_source *source)
{
    struct rtcp_peer *peer = rtcp->peers < SESSION_RTCP_PEERS ? calloc(1, sizeof(*peer)) : NULL;
    if (peer == NULL)
        return NULL;
    peer->source = *source;
    return rtcp->peer[rtcp->peers++] = peer;
}

// The packet's own index and 32 bits of its tag: GCM has the tag first, AES-CM the index.
static uint32_t read_trailer(const struct session *s, const uint8_t *data, size_t size,
                             uint32_t *hash)
{
    unsigned tag = protect_tag_len(s->rtcp_rx.key.profile);
    bool tag_last = s->rtcp_rx.key.profile == PROFILE_AES128_CM_SHA1_80;
    memcpy(hash, data + size - tag - (tag_last ? 0 : RTCP_INDEX), sizeof(*hash));
    return load_be32(data + size - RTCP_INDEX - (tag_last ? tag : 0)) & ~RTCP_E_BIT;
}

static void on_repeat(struct session *s, struct rtcp_peer *peer, uint8_t *data, size_t size,
                      uint32_t index, uint32_t hash)
{
    struct protect_rtcp_source alone = {.ssrc = peer->source.ssrc};
    struct bees_counters *count = &s->result->count;
    size_t plain;
    switch (reuse_look(&peer->reuse, index, hash)) {
    case REUSE_SAME:
        return; // the network repeated it
    case REUSE_OTHER:
        if (protect_rtcp_open(s->worker->protect, &s->rtcp_rx, &alone, data, size, data, &plain,
                              &index) == 0)
            count->index_reuse++;
        else
            count->auth_failures++;
        return;
    default:
        count->replays++;
    }
}

size_t session_rtcp_open(struct session *s, uint8_t *data, size_t size)
{
    struct bees_counters *count = &s->result->count;
    if (size < RTCP_HEAD + RTCP_INDEX + protect_tag_len(s->rtcp_rx.key.profile)) {
        count->malformed++;
        return 0;
    }
    uint32_t hash, index = read_trailer(s, data, size, &hash), ssrc = load_be32(data + 4);
    struct protect_rtcp_source fresh = {.ssrc = ssrc};
    struct rtcp_peer *peer = find(&s->rtcp, ssrc);
    size_t plain;
    int rc = protect_rtcp_open(s->worker->protect, &s->rtcp_rx, peer ? &peer->source : &fresh, data,
                               size, data, &plain, &index);
    if (rc == -EALREADY && peer != NULL) {
        on_repeat(s, peer, data, size, index, hash);
        return 0;
    }
    if (rc != 0) {
        count->auth_failures += rc == -EBADMSG;
        count->malformed += rc == -EINVAL;
        return 0;
    }
    if (peer == NULL)
        peer = add(&s->rtcp, &fresh);
    if (peer != NULL)
        reuse_note(&peer->reuse, index, hash);
    count->rtcp_received++;
    return plain;
}

void session_rtcp_free(struct session_rtcp *rtcp)
{
    for (unsigned i = 0; i < rtcp->peers; i++)
        free(rtcp->peer[i]);
    rtcp->peers = 0;
}
