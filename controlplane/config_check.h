// What a configuration file may hold, checked before libcyaml loads it: libcyaml stops at the first
// problem and knows no ranges, an operator wants all of them with their lines.
#ifndef HITLESS_CONFIG_CHECK_H
#define HITLESS_CONFIG_CHECK_H

#include "config.h"
#include <cyaml/cyaml.h>

// One leaf key: its default and what libcyaml's schema cannot say.
struct config_rule {
    const char *path; // dotted
    const char *def;  // as in the file; items of a sequence are separated by ", "
    int64_t min, max; // of an integer, or of each item
    int (*check)(const char *text, char *why, size_t size); // of a string, or of each item
    bool secret; // its value is never repeated in a message
};

// Where the problems go, and which keys the file holds.
struct config_source {
    const struct config_rule *rules;
    int *lines; // per rule: the line that gives it, 0 if the file leaves it out
    uint32_t count;
    config_report report;
    void *opaque;
    uint32_t problems;
};

// config_walk.c
// Reports one problem of `key`, at its line if the file holds it.
void config_problem(struct config_source *source, const char *key, const char *format, ...)
    LOG_PRINTF(3, 4);

// Walks the YAML text by the schema: unknown and repeated keys, wrong types, values out of range.
// Fills source->lines. `*empty` says that the file holds no document at all.
void config_check_text(struct config_source *source, const char *text, size_t size,
                       const cyaml_schema_field_t *fields, bool *empty);

// config_check.c
// Checks between keys, after the values are loaded and parsed.
void config_check_whole(struct config_source *source, const struct config *config);

// config_value.c
// Strict decimal: libcyaml itself would also take octal and hexadecimal.
bool config_parse_integer(const char *text, int64_t *value);
// Whether text is like the pattern, where 'x' stands for one hexadecimal digit.
bool config_fits(const char *text, const char *pattern);
// "ADDRESS/PREFIX" of `family` 4 or 6; a host address. 0 or -EINVAL.
int config_parse_prefix(const char *text, int family, struct abi_addr *addr, uint8_t *prefix);
// "ADDRESS" of either family, no port. 0 or -EINVAL.
int config_parse_address(const char *text, struct abi_addr *addr);
// "ADDRESS:PORT" or "[ADDRESS]:PORT". 0 or -EINVAL.
int config_parse_endpoint(const char *text, struct abi_addr *addr);
int config_parse_mac(const char *text, uint8_t mac[6]);

// Checks for rules; "" passes all of them but node and runtime_dir.
int config_check_name(const char *text, char *why, size_t size);
int config_check_dir(const char *text, char *why, size_t size);
int config_check_ipv4(const char *text, char *why, size_t size);
int config_check_ipv6(const char *text, char *why, size_t size);
int config_check_address(const char *text, char *why, size_t size);
int config_check_endpoint(const char *text, char *why, size_t size);
int config_check_mac(const char *text, char *why, size_t size);
int config_check_file_readable(const char *text, char *why, size_t size);
int config_check_url(const char *text, char *why, size_t size);
int config_check_origin(const char *text, char *why, size_t size);
int config_check_group(const char *text, char *why, size_t size);
int config_check_peer(const char *text, char *why, size_t size);    // an endpoint, or ""
int config_check_bfd_key(const char *text, char *why, size_t size); // at most 20 characters
int config_check_token(const char *text, char *why, size_t size);

#endif
