// Names of what a run counts; see bees.h.
#include "bees.h"

static const char *const failure_names[] = {
#define X(name, help) #name,
    BEES_FAILURES(X)
#undef X
};
static const char *const failure_helps[] = {
#define X(name, help) help,
    BEES_FAILURES(X)
#undef X
};
static const char *const step_names[] = {
#define X(name, label) #name,
    BEES_STEPS(X)
#undef X
};
static const char *const distribution_names[] = {
#define X(name, label) #name,
    BEES_DISTRIBUTIONS(X)
#undef X
};
static const char *const distribution_labels[] = {
#define X(name, label) label,
    BEES_DISTRIBUTIONS(X)
#undef X
};

const char *bees_failure_name(enum bees_failure failure)
{
    return failure < BEES_FAILURE_COUNT ? failure_names[failure] : "unknown";
}

const char *bees_failure_help(enum bees_failure failure)
{
    return failure < BEES_FAILURE_COUNT ? failure_helps[failure] : "unknown";
}

const char *bees_step_name(enum bees_step step)
{
    return step < BEES_STEP_COUNT ? step_names[step] : "unknown";
}

const char *bees_distribution_name(enum bees_distribution distribution)
{
    return distribution < BEES_DIST_COUNT ? distribution_names[distribution] : "unknown";
}

const char *bees_distribution_label(enum bees_distribution distribution)
{
    return distribution < BEES_DIST_COUNT ? distribution_labels[distribution] : "unknown";
}

void bees_counters_add(struct bees_counters *sum, const struct bees_counters *from)
{
#define X(name, help) sum->name += __atomic_load_n(&from->name, __ATOMIC_RELAXED);
    BEES_COUNTERS(X)
#undef X
}
