// Answers that wait until the partner has their sessions; see replicate_wait in replicate.h. Loop
// thread.
#include "log.h"
#include "replicate_private.h"
#include <errno.h>

static void end_wait(struct replicate *r, struct wait *wait, bool confirmed)
{
    struct wait copy = *wait;
    wait->session = NULL;
    r->wait_count--;
    r->counts.unconfirmed += !confirmed;
    copy.done(copy.opaque, confirmed || !r->config->protection.strict);
}

void waits_end(struct replicate *r, const struct session *s, bool confirmed)
{
    for (unsigned i = 0; r->wait_count > 0 && i < REPLICATE_WAITS; i++)
        if (r->waits[i].session != NULL && r->waits[i].session == s)
            end_wait(r, &r->waits[i], confirmed);
}

void waits_down(struct replicate *r)
{
    for (unsigned i = 0; i < REPLICATE_WAITS; i++)
        if (r->waits[i].session != NULL)
            end_wait(r, &r->waits[i], false);
}

void waits_tick(struct replicate *r, uint64_t now)
{
    for (unsigned i = 0; r->wait_count > 0 && i < REPLICATE_WAITS; i++)
        if (r->waits[i].session != NULL && now >= r->waits[i].until_ms) {
            LOG_OFTEN(LEVEL_WARNING, "partner %s did not confirm a session within %u ms",
                      r->config->protection.partner.name, REPLICATE_SYNC_MS);
            end_wait(r, &r->waits[i], false);
        }
}

int replicate_wait(struct replicate *r, struct session *s, session_await_fn done, void *opaque)
{
    if (r == NULL || r->config->protection.protect != PROTECT_SYNC)
        return 0;
    int rc = s->open.group == 0 || !replink_up(r->link) ? -ENOTCONN
             : r->wait_count == REPLICATE_WAITS         ? -EAGAIN
                                                        : 0;
    if (rc != 0) {
        r->counts.unconfirmed += s->open.group != 0;
        return r->config->protection.strict ? rc : 0;
    }
    struct wait *wait = r->waits;
    while (wait->session != NULL)
        wait++;
    *wait = (struct wait){.session = s,
                          .until_ms = uv_now(r->loop) + REPLICATE_SYNC_MS,
                          .done = done,
                          .opaque = opaque};
    r->wait_count++;
    return 1;
}
