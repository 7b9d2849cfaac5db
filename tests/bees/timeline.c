#include "timeline.h"
#include <stdio.h>
#include <string.h>

#define sum(a, b) ((a) + (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define last(a, b) (b)

static void join(struct timeline_sample *to, const struct timeline_sample *from)
{
    to->at_s = from->at_s;
    to->length_s += from->length_s;
#define X(name, how, help) to->name = how(to->name, from->name);
    TIMELINE_FIELDS(X)
#undef X
}

static void halve(struct timeline *timeline)
{
    for (unsigned i = 0; i < TIMELINE_MAX; i += 2) {
        timeline->sample[i / 2] = timeline->sample[i];
        join(&timeline->sample[i / 2], &timeline->sample[i + 1]);
    }
    timeline->count = TIMELINE_MAX / 2;
    timeline->merge *= 2;
}

void timeline_add(struct timeline *timeline, const struct timeline_sample *sample)
{
    if (timeline->merge == 0)
        timeline->merge = 1;
    if (timeline->open > 0) {
        join(&timeline->sample[timeline->count - 1], sample);
        timeline->open = (timeline->open + 1) % timeline->merge;
        return;
    }
    if (timeline->count == TIMELINE_MAX)
        halve(timeline);
    timeline->sample[timeline->count++] = *sample;
    timeline->open = 1 % timeline->merge;
}

void timeline_extend(struct timeline *timeline, const struct timeline_sample *sample)
{
    if (timeline->count == 0)
        timeline_add(timeline, sample);
    else
        join(&timeline->sample[timeline->count - 1], sample);
}

void timeline_mark(struct timeline *timeline, double at_s, const char *text)
{
    if (timeline->notes == TIMELINE_NOTES)
        return;
    struct timeline_note *note = &timeline->note[timeline->notes++];
    note->at_s = at_s;
    snprintf(note->text, sizeof(note->text), "%s", text);
}
