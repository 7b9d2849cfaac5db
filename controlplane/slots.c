// Slot numbers with generations; see slots.h.
#include "slots.h"
#include "../dataplane/abi/messages.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

struct slot {
    uint32_t generation; // of the current or last use
    uint32_t next;       // of the queue of free slots
    bool taken;
};

struct group {
    uint32_t used;
    uint32_t head, tail; // of the queue of free slots; no meaning when all are taken
    struct slot *slot;
};

struct slots {
    uint32_t groups, size;
    struct group group[];
};

int slots_new(struct slots **out, uint32_t groups, uint32_t per_group, uint32_t first_generation)
{
    *out = NULL;
    struct slots *s = calloc(1, sizeof(*s) + groups * sizeof(s->group[0]));
    if (s == NULL)
        return -ENOMEM;
    s->groups = groups;
    s->size = per_group;
    for (uint32_t g = 0; g < groups; g++) {
        struct slot *slot = calloc(per_group, sizeof(*slot));
        if (slot == NULL) {
            slots_free(s);
            return -ENOMEM;
        }
        for (uint32_t i = 0; i < per_group; i++)
            slot[i] = (struct slot){.generation = first_generation - 1, .next = i + 1};
        s->group[g] = (struct group){.tail = per_group - 1, .slot = slot};
    }
    *out = s;
    return 0;
}

void slots_free(struct slots *s)
{
    for (uint32_t g = 0; s != NULL && g < s->groups; g++)
        free(s->group[g].slot);
    free(s);
}

uint64_t slots_take(struct slots *s, uint32_t group)
{
    struct group *g = &s->group[group];
    if (g->used == s->size)
        return 0;
    uint32_t at = g->head;
    struct slot *slot = &g->slot[at];
    g->head = slot->next;
    g->used++;
    slot->taken = true;
    if (++slot->generation == 0) // id 0 means "none"
        slot->generation = 1;
    return (uint64_t)slot->generation << 32 | at;
}

int slots_reserve(struct slots *s, uint32_t group, uint64_t id)
{
    struct group *g = &s->group[group];
    uint32_t at = MSG_SLOT(id), before = g->head;
    if (at >= s->size || MSG_GENERATION(id) == 0)
        return -EINVAL;
    if (g->slot[at].taken)
        return -EBUSY;
    if (at == g->head) {
        g->head = g->slot[at].next;
    } else {
        while (g->slot[before].next != at)
            before = g->slot[before].next;
        g->slot[before].next = g->slot[at].next;
        if (at == g->tail)
            g->tail = before;
    }
    g->slot[at].taken = true;
    g->slot[at].generation = MSG_GENERATION(id);
    g->used++;
    return 0;
}

void slots_give(struct slots *s, uint32_t group, uint64_t id)
{
    struct group *g = &s->group[group];
    uint32_t at = MSG_SLOT(id);
    if (at >= s->size || !g->slot[at].taken || g->slot[at].generation != MSG_GENERATION(id))
        return;
    g->slot[at].taken = false;
    if (g->used == s->size)
        g->head = at;
    else
        g->slot[g->tail].next = at;
    g->tail = at;
    g->used--;
}

void slots_last(struct slots *s, uint32_t group, uint64_t id)
{
    uint32_t at = MSG_SLOT(id);
    if (at < s->size && !s->group[group].slot[at].taken && MSG_GENERATION(id) != 0)
        s->group[group].slot[at].generation = MSG_GENERATION(id);
}

uint32_t slots_used(const struct slots *s, uint32_t group)
{
    return s->group[group].used;
}

uint32_t slots_size(const struct slots *s)
{
    return s->size;
}
