// The configuration's keys: libcyaml's schema of struct config, and a rule for each leaf of it.
#ifndef HITLESS_CONFIG_SCHEMA_H
#define HITLESS_CONFIG_SCHEMA_H

#include "config_check.h"

#define CONFIG_RULES 81

extern const cyaml_schema_field_t config_fields[]; // top level; ends with a NULL key
extern const cyaml_schema_value_t config_schema;
extern const struct config_rule config_rules[CONFIG_RULES];

// The schema of a leaf by its dotted path, or NULL. All offsets count from struct config's start.
const cyaml_schema_field_t *config_find_field(const char *path);

#endif
