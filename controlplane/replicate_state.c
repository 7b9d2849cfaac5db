// The groups' roles and terms in the file that outlives this process: what a restarted control
// plane goes on from; see replicate.h.
#include "log.h"
#include "replicate_private.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define STATE_MAGIC 0x68746772u // "htgr"
#define STATE_VERSION 2

// RUNTIME_DIR/groups: what a restarted control plane goes on from.
struct group_state {
    uint32_t magic, version;
    uint64_t epoch; // of the dataplane that was told
    uint32_t pid, pad;
    struct {
        uint32_t term, role;
    } group[2];
};

void groups_save(const struct replicate *r)
{
    struct group_state state = {.magic = STATE_MAGIC,
                                .version = STATE_VERSION,
                                .epoch = channel_peer_epoch(r->set->channel),
                                .pid = channel_peer_pid(r->set->channel)};
    char path[sizeof(r->state_path) + 8];
    for (int g = 0; g < 2; g++) {
        state.group[g].term = r->group[g].term;
        state.group[g].role = r->group[g].role;
    }
    snprintf(path, sizeof(path), "%s.new", r->state_path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool good = fd >= 0 && write(fd, &state, sizeof(state)) == sizeof(state);
    if (fd >= 0)
        close(fd);
    if (!good || rename(path, r->state_path) != 0)
        log_warning("cannot keep the groups' state in %s", r->state_path);
}

void groups_load(struct replicate *r)
{
    struct group_state state = {0};
    bool ready;
    r->bfd_state = BFD_UNKNOWN;
    r->group[0] = (struct held_group){.term = 1, .role = GROUP_STANDBY};
    r->group[1] = (struct held_group){.term = 1, .role = GROUP_STANDBY};
    snprintf(r->state_path, sizeof(r->state_path), "%s/groups", r->config->runtime_dir);
    int fd = open(r->state_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool good = fd >= 0 && read(fd, &state, sizeof(state)) == sizeof(state) &&
                state.magic == STATE_MAGIC && state.version == STATE_VERSION;
    if (fd >= 0)
        close(fd);
    // The dataplane that was told lives, and went on so. Another one waits for our word: while
    // there was none, the partner may have taken over.
    uint64_t epoch = 0;
    enum channel_peer peer = channel_peer(r->set->channel, uv_hrtime(), &epoch, &ready);
    bool same = good && (peer == PEER_ALIVE || peer == PEER_STALLED) && epoch == state.epoch &&
                channel_peer_pid(r->set->channel) == state.pid;
    for (int g = 0; good && g < 2; g++) {
        r->group[g].term = state.group[g].term;
        if (same && state.group[g].role == GROUP_ACTIVE)
            r->group[g].role = GROUP_ACTIVE;
    }
    r->contact = same;
}
