// Fuzz target: whatever stands in a slot of the channel, channel_peek and msg_check read no byte
// outside of it, and what passes can be used: counts, lengths and strings are within bounds.
#include "../../dataplane/abi/channel_layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct channel cp, dp;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void map_channel(void)
{
    char dir[] = "/tmp/hitless-fuzz-XXXXXX", path[64], why[256];
    static const char *const files[] = {"channel", "bell.controlplane", "bell.dataplane"};
    struct abi_config config = {.workers = 1, .max_sessions = 1, .max_streams = 1};
    bool changed;
    must(mkdtemp(dir) != NULL);
    must(channel_create(&cp, dir, &config, &changed, why, sizeof(why)) == 0);
    must(channel_open(&dp, dir, why, sizeof(why)) == 0);
    for (size_t i = 0; i < 3; i++) { // the mappings stay
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void use_tracks(const struct msg_track *track, uint8_t tracks)
{
    for (uint8_t i = 0; i < tracks; i++) {
        must(strlen(track[i].mid) < MSG_MID_LEN && track[i].clock_rate > 0);
        for (uint8_t l = 0; l < track[i].layers; l++)
            must(strlen(track[i].layer[l].rid) < MSG_MID_LEN);
    }
}

// Reads what a receiver would, from a copy of exactly `length` bytes so that a sanitizer sees more.
static void use(const struct msg_head *m)
{
    void *copy = malloc(m->length);
    must(copy != NULL);
    memcpy(copy, m, m->length);
    if (msg_check(copy) == 0 && m->type == MSG_SESSION_OPEN) {
        const struct msg_session_open *open = copy;
        use_tracks(open->track, open->tracks);
        must(open->ice.remote_ufrag_len <= MSG_REMOTE_ICE_MAX);
    } else if (msg_check(copy) == 0 && m->type == MSG_STREAM_OPEN) {
        const struct msg_stream_open *open = copy;
        use_tracks(open->track, open->tracks);
    } else if (msg_check(copy) == 0 && (m->type == MSG_DTLS_SEND || m->type == MSG_DTLS_RECEIVED)) {
        const struct msg_dtls *dtls = copy;
        uint8_t datagram[MSG_DATAGRAM_MAX];
        memcpy(datagram, dtls->data, dtls->size);
        must(datagram[0] == dtls->data[0]);
    }
    free(copy);
}

// A session or stream that passes, for the input to damage: chance alone does not get this far.
static void fill_valid(union channel_slot *slot, uint16_t type)
{
    struct msg_session_open *session = (void *)slot;
    struct msg_stream_open *stream = (void *)slot;
    struct msg_track *track = type == MSG_SESSION_OPEN ? session->track : stream->track;
    memset(slot, 0, sizeof(*slot));
    slot->head = (struct msg_head){.type = type, .length = sizeof(*stream), .id = 1};
    stream->tracks = MSG_MAX_TRACKS;
    if (type == MSG_SESSION_OPEN) {
        slot->head.length = sizeof(*session);
        session->stream = 1;
        session->role = ROLE_PUBLISH;
        session->tracks = MSG_MAX_TRACKS;
        memset(&session->ice, 'a', sizeof(session->ice));
        session->ice.remote_ufrag_len = session->ice.remote_pwd_len = MSG_REMOTE_ICE_MAX;
    }
    for (int i = 0; i < MSG_MAX_TRACKS; i++) {
        track[i] = (struct msg_track){
            .kind = KIND_AUDIO, .codec = CODEC_OPUS, .pt = 111, .clock_rate = 48000, .layers = 3};
        memset(track[i].mid, 'm', MSG_MID_LEN - 1); // one byte more and it does not end
        for (int l = 0; l < MSG_MAX_LAYERS; l++)
            memset(track[i].layer[l].rid, 'r', MSG_MID_LEN - 1);
    }
}

// The input: how far the head's index moves (4 bytes), how the slot is filled (1), then the slot's
// bytes, or triples of offset and value that damage a valid message.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (cp.file == NULL)
        map_channel();
    if (size < 5)
        return 0;
    uint32_t advance;
    memcpy(&advance, data, sizeof(advance));
    uint8_t how = data[4];
    data += 5;
    size -= 5;

    struct channel_ring *ring = ring_in(&cp, 1);
    union channel_slot *slot = &ring->slot[atomic_load(&ring->tail) & (CHANNEL_SLOTS - 1)];
    if (how < 64) {
        fill_valid(slot, how & 1 ? MSG_SESSION_OPEN : MSG_STREAM_OPEN);
        for (; size >= 3; size -= 3, data += 3)
            slot->bytes[(data[0] | data[1] << 8) % MSG_MAX] = data[2];
    } else {
        memset(slot, 0xa5, sizeof(*slot));
        memcpy(slot, data, size < sizeof(*slot) ? size : sizeof(*slot));
    }
    atomic_fetch_add(&ring->head, advance % 8 ? advance % 8 : advance);

    uint64_t invalid = 0;
    const struct msg_head *m;
    for (int i = 0; i < 8 && (m = channel_peek(&cp, 1, &invalid)) != NULL; i++) {
        must((const uint8_t *)m >= (const uint8_t *)ring->slot &&
             (const uint8_t *)m + m->length <= (const uint8_t *)(ring->slot + CHANNEL_SLOTS));
        use(m);
        channel_release(&cp, 1);
    }
    while (channel_peek(&cp, 1, &invalid) != NULL)
        channel_release(&cp, 1);
    return 0;
}
