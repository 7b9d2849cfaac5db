// Walks a configuration file by its schema and finds every problem in it, with its line; see
// config_check.h. libyaml's document tree is bounded by the size of the file, which config.c
// limits.
#include "config_check.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define PATH_MAX_LEN 160

static int rule_of(const struct config_source *source, const char *key)
{
    for (uint32_t i = 0; i < source->count; i++)
        if (strcmp(source->rules[i].path, key) == 0)
            return (int)i;
    return -1;
}

static void report_problem(struct config_source *source, int line, const char *key,
                           const char *reason)
{
    source->problems++;
    source->report(source->opaque, line, key, reason);
}

static void problem_at(struct config_source *source, int line, const char *key, const char *format,
                       ...) LOG_PRINTF(4, 5);
static void problem_at(struct config_source *source, int line, const char *key, const char *format,
                       ...)
{
    char reason[512];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    report_problem(source, line, key, reason);
}

// The line of a key, or of the first one in the nearest section around it that the file holds.
static int line_near(const struct config_source *source, const char *key)
{
    int rule = rule_of(source, key);
    int line = rule < 0 ? 0 : source->lines[rule];
    for (size_t n = strlen(key); line == 0 && n > 0; n--)
        for (uint32_t i = 0; key[n - 1] == '.' && i < source->count; i++)
            if (strncmp(source->rules[i].path, key, n) == 0 && source->lines[i] &&
                (line == 0 || source->lines[i] < line))
                line = source->lines[i];
    return line;
}

void config_problem(struct config_source *source, const char *key, const char *format, ...)
{
    char reason[512];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    report_problem(source, line_near(source, key), key, reason);
}

struct walk {
    struct config_source *source;
    yaml_document_t *document;
};

static int line_of(const yaml_node_t *node)
{
    return (int)node->start_mark.line + 1;
}

static void check_enum(struct walk *walk, const yaml_node_t *node, const char *path,
                       const cyaml_schema_value_t *value, const char *text)
{
    char names[256] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < value->enumeration.count && used < sizeof(names); i++) {
        if (strcmp(value->enumeration.strings[i].str, text) == 0)
            return;
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
                                 value->enumeration.strings[i].str);
    }
    problem_at(walk->source, line_of(node), path, "'%s' is not one of %s", text, names);
}

static void check_scalar(struct walk *walk, const yaml_node_t *node, const char *path,
                         const cyaml_schema_value_t *value, const struct config_rule *rule)
{
    struct config_source *source = walk->source;
    const char *text = (const char *)node->data.scalar.value;
    char why[256] = "";
    int64_t number;
    if (node->data.scalar.length != strlen(text)) {
        problem_at(source, line_of(node), path, "contains a NUL");
        return;
    }
    switch (value->type) {
    case CYAML_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            problem_at(source, line_of(node), path, "'%s' is neither true nor false", text);
        break;
    case CYAML_INT:
    case CYAML_UINT:
        if (!config_parse_integer(text, &number))
            problem_at(source, line_of(node), path, "'%s' is not a whole number", text);
        else if (number < rule->min || number > rule->max)
            problem_at(source, line_of(node), path, "%s is out of range %lld to %lld", text,
                       (long long)rule->min, (long long)rule->max);
        break;
    case CYAML_ENUM:
        check_enum(walk, node, path, value, text);
        break;
    default:
        if (node->data.scalar.length > value->string.max)
            problem_at(source, line_of(node), path, "is longer than %u bytes", value->string.max);
        else if (rule->check && rule->check(text, why, sizeof(why)) < 0)
            problem_at(source, line_of(node), path, "%s%s%s%s", rule->secret ? "" : "'",
                       rule->secret ? "an item" : text, rule->secret ? " " : "' ", why);
    }
}

static void check_sequence(struct walk *walk, const yaml_node_t *node, const char *path,
                           const cyaml_schema_value_t *value, const struct config_rule *rule)
{
    yaml_node_item_t *item = node->data.sequence.items.start;
    size_t count = (size_t)(node->data.sequence.items.top - item);
    if (count > value->sequence.max)
        problem_at(walk->source, line_of(node), path, "has %zu items, at most %u are possible",
                   count, value->sequence.max);
    for (; item < node->data.sequence.items.top; item++) {
        const yaml_node_t *child = yaml_document_get_node(walk->document, *item);
        if (child->type != YAML_SCALAR_NODE)
            problem_at(walk->source, line_of(child), path, "an item is not a plain value");
        else
            check_scalar(walk, child, path, value->sequence.entry, rule);
    }
}

static void check_mapping(struct walk *walk, const yaml_node_t *node, const char *path,
                          const cyaml_schema_field_t *fields);

static void check_field(struct walk *walk, const yaml_node_t *node, const char *path, int line,
                        const cyaml_schema_value_t *value)
{
    static const char *kinds[] = {[YAML_SCALAR_NODE] = "a plain value",
                                  [YAML_SEQUENCE_NODE] = "a list",
                                  [YAML_MAPPING_NODE] = "a section"};
    yaml_node_type_t want = value->type == CYAML_MAPPING    ? YAML_MAPPING_NODE
                            : value->type == CYAML_SEQUENCE ? YAML_SEQUENCE_NODE
                                                            : YAML_SCALAR_NODE;
    int rule = rule_of(walk->source, path);
    if (rule >= 0)
        walk->source->lines[rule] = line;
    if (node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0 && node->type != want)
        problem_at(walk->source, line, path, "is empty: give it %s or leave the key out",
                   kinds[want]);
    else if (node->type != want)
        problem_at(walk->source, line, path, "must be %s, not %s", kinds[want], kinds[node->type]);
    else if (want == YAML_MAPPING_NODE)
        check_mapping(walk, node, path, value->mapping.fields);
    else if (want == YAML_SEQUENCE_NODE)
        check_sequence(walk, node, path, value, &walk->source->rules[rule]);
    else
        check_scalar(walk, node, path, value, &walk->source->rules[rule]);
}

static void check_mapping(struct walk *walk, const yaml_node_t *node, const char *path,
                          const cyaml_schema_field_t *fields)
{
    yaml_node_pair_t *pair = node->data.mapping.pairs.start;
    for (; pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
        const char *name = key->type == YAML_SCALAR_NODE ? (char *)key->data.scalar.value : "?";
        char child[PATH_MAX_LEN];
        snprintf(child, sizeof(child), "%s%s%.64s", path, *path ? "." : "", name);
        const cyaml_schema_field_t *field = fields;
        while (field->key && strcmp(field->key, name) != 0)
            field++;
        bool repeated = false;
        for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < pair; p++) {
            const yaml_node_t *other = yaml_document_get_node(walk->document, p->key);
            repeated |= other->type == YAML_SCALAR_NODE &&
                        strcmp((char *)other->data.scalar.value, name) == 0;
        }
        if (!field->key)
            problem_at(walk->source, line_of(key), child, "unknown key");
        else if (repeated)
            problem_at(walk->source, line_of(key), child, "is given twice");
        else
            check_field(walk, value, child, line_of(key), &field->value);
    }
}

void config_check_text(struct config_source *source, const char *text, size_t size,
                       const cyaml_schema_field_t *fields, bool *empty)
{
    yaml_parser_t parser;
    yaml_document_t document;
    *empty = false;
    if (!yaml_parser_initialize(&parser)) {
        config_problem(source, "", "out of memory");
        return;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    if (!yaml_parser_load(&parser, &document)) {
        size_t at = parser.problem_mark.index;
        problem_at(source, (int)parser.problem_mark.line + 1, "", "not YAML: %s%s",
                   parser.problem ? parser.problem : "cannot be parsed",
                   at < size && text[at] == '\t' ? " (a tab; YAML is indented by spaces)" : "");
        yaml_parser_delete(&parser);
        return;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    struct walk walk = {.source = source, .document = &document};
    *empty = !root || (root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0);
    if (root && root->type == YAML_MAPPING_NODE)
        check_mapping(&walk, root, "", fields);
    else if (!*empty)
        problem_at(source, line_of(root), "", "the file is not a list of keys and values");
    yaml_document_delete(&document);
    if (!source->problems && yaml_parser_load(&parser, &document)) {
        root = yaml_document_get_root_node(&document);
        if (root)
            problem_at(source, line_of(root), "", "a second document: a file holds only one");
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
}
