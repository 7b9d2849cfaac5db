// Watches for an index that protects two different packets; see reuse.h.
#include "reuse.h"
#include <string.h>

enum reuse_verdict reuse_look(const struct reuse *reuse, uint64_t index, uint32_t hash)
{
    if (index >= reuse->next)
        return REUSE_NEW;
    if (reuse->next - index > REUSE_WINDOW)
        return REUSE_TOO_OLD;
    uint32_t seen = reuse->hash[index % REUSE_WINDOW];
    if (seen == 0)
        return REUSE_NEW;
    return seen == (hash ? hash : 1) ? REUSE_SAME : REUSE_OTHER;
}

void reuse_note(struct reuse *reuse, uint64_t index, uint32_t hash)
{
    if (index >= reuse->next) {
        if (index - reuse->next >= REUSE_WINDOW)
            memset(reuse->hash, 0, sizeof(reuse->hash));
        else
            for (uint64_t i = reuse->next; i < index; i++)
                reuse->hash[i % REUSE_WINDOW] = 0;
        reuse->next = index + 1;
    } else if (reuse->next - index > REUSE_WINDOW) {
        return;
    }
    reuse->hash[index % REUSE_WINDOW] = hash ? hash : 1;
}
