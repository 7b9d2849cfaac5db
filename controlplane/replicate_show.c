// What operators see of the partner and of the groups; see replicate.h.
#include "replicate_private.h"

static const char *state_name(uint32_t bfd_state)
{
    static const char *const names[] = {"admin_down", "down", "init", "up"};
    return bfd_state < BFD_UNKNOWN ? names[bfd_state] : "unknown";
}

json_t *replicate_peers(struct replicate *r)
{
    json_t *list = json_array();
    if (r == NULL)
        return list;
    uint64_t lag = r->sent - r->acked, now = uv_now(r->loop);
    json_array_append_new(
        list,
        json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
            "peer", r->config->protection.partner.name, "kind", "partner", "state",
            replink_up(r->link) ? "connected" : "away", "reason", replink_why(r->link), "bfd",
            state_name(r->bfd_state), "detect_ms", (double)r->detect_ns / 1e6, "lag",
            (json_int_t)lag, "lag_ms", (json_int_t)(lag > 0 ? now - r->unacked_ms : 0),
            "connections", (json_int_t)replink_counts(r->link)->connections, "refused",
            (json_int_t)replink_counts(r->link)->refused, "floods",
            (json_int_t)replink_counts(r->link)->floods, "rests",
            (json_int_t)replink_counts(r->link)->rests, "imported", (json_int_t)r->counts.imported,
            "import_refused", (json_int_t)r->counts.refused, "false_alarms",
            (json_int_t)r->counts.false_alarms, "unconfirmed", (json_int_t)r->counts.unconfirmed));
    return list;
}

json_t *replicate_groups(struct replicate *r)
{
    json_t *list = json_array();
    for (unsigned g = 0; r != NULL && g < 2; g++) {
        json_int_t sessions = 0, unconfirmed = 0, refused = 0;
        struct session *s;
        TAILQ_FOREACH(s, &r->set->open, all)
        {
            if (s->open.group != g + 1)
                continue;
            sessions++;
            refused += s->replica.refused != WIRE_REFUSAL_NONE;
            unconfirmed += group_held(r, g) &&
                           (!s->replica.confirmed || s->replica.queued || s->replica.waiting);
        }
        json_array_append_new(
            list,
            json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:f}", "group",
                      (json_int_t)g + 1, "home",
                      g == 0 ? r->config->node : r->config->protection.partner.name, "role",
                      group_held(r, g) ? "active" : "standby", "term", (json_int_t)r->group[g].term,
                      "sessions", sessions, "unconfirmed", unconfirmed, "refused", refused,
                      "syncing", r->group[g].syncing, "handing", r->group[g].handing, "switch_us",
                      (double)r->group[g].switch_ns / 1e3));
    }
    return list;
}
