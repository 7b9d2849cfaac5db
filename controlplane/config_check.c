// Finds every problem of a configuration file, with its line; see config_check.h. Same thread as
// config.c. libyaml's document tree is bounded by the size of the file, which config.c limits.
#include "config_check.h"
#include "../dataplane/abi/pools.h"
#include <gnutls/gnutls.h>
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
                           const char *format, va_list args)
{
    char reason[512];
    vsnprintf(reason, sizeof(reason), format, args);
    source->problems++;
    source->report(source->opaque, line, key, reason);
}

static void problem_at(struct config_source *source, int line, const char *key, const char *format,
                       ...) LOG_PRINTF(4, 5);
static void problem_at(struct config_source *source, int line, const char *key, const char *format,
                       ...)
{
    va_list args;
    va_start(args, format);
    report_problem(source, line, key, format, args);
    va_end(args);
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
    va_list args;
    va_start(args, format);
    report_problem(source, line_near(source, key), key, format, args);
    va_end(args);
}

// The walk.

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

// Between keys.

static bool on_link(const struct abi_addr *a, const struct abi_addr *b, unsigned prefix)
{
    unsigned bytes = prefix / 8, bits = prefix % 8;
    return memcmp(a->ip, b->ip, bytes) == 0 &&
           (bits == 0 || (a->ip[bytes] ^ b->ip[bytes]) >> (8 - bits) == 0);
}

static void check_gateway(struct config_source *source, const char *key, int family,
                          const struct abi_addr *gateway, const struct abi_addr *media,
                          uint8_t prefix)
{
    if (!gateway->family)
        return;
    bool link_local = family == 6 && gateway->ip[0] == 0xfe && (gateway->ip[1] & 0xc0) == 0x80;
    if (gateway->family != family)
        config_problem(source, key, "is not an IPv%d address", family);
    else if (!media->family)
        config_problem(source, key, "is given, but media.ipv%d is not", family);
    else if (!link_local && !on_link(gateway, media, prefix))
        config_problem(source, key, "is outside the subnet of media.ipv%d", family);
}

static void check_device(struct config_source *source, const struct config *config)
{
    const char *device = config->port.device;
    size_t max = config->port.kind == ABI_PORT_AF_XDP ? 15 : 127;
    if (config->port.kind == ABI_PORT_RING || config->port.kind == ABI_PORT_NULL)
        return;
    if (!*device || strlen(device) > max)
        config_problem(source, "port.device", "must name a device in 1 to %zu characters", max);
    else if (config->port.kind == ABI_PORT_PCI && !config_fits(device, "xxxx:xx:xx.x"))
        config_problem(source, "port.device", "'%s' is not a PCI address such as 0000:01:00.0",
                       device);
}

static void check_jwt(struct config_source *source, const char *role, const struct config_jwt *jwt)
{
    char key[64];
    snprintf(key, sizeof(key), "auth.%s.jwt.key_file", role);
    if (jwt->algorithm != JWT_OFF && !*jwt->key_file)
        config_problem(source, key, "is needed by auth.%s.jwt.algorithm", role);
}

static void check_certificate(struct config_source *source, const struct config *config)
{
    const char *certificate = config->http.certificate, *key = config->http.key;
    if (!*certificate != !*key) {
        config_problem(source, *key ? "http.key" : "http.certificate",
                       "certificate and key go together; only one is given");
        return;
    }
    if (!*certificate)
        return;
    gnutls_certificate_credentials_t credentials;
    if (gnutls_certificate_allocate_credentials(&credentials) < 0)
        return;
    int rc =
        gnutls_certificate_set_x509_key_file(credentials, certificate, key, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        config_problem(source, "http.certificate",
                       "'%s' with key '%s' cannot be used: %s (both must be PEM files)",
                       certificate, key, gnutls_strerror(rc));
    gnutls_certificate_free_credentials(credentials);
}

static void check_partner_media(struct config_source *source, const struct config *config,
                                int family, const struct abi_addr *partner,
                                const struct abi_addr *own, uint8_t prefix)
{
    char key[64];
    snprintf(key, sizeof(key), "protection.partner.media%d", family);
    if (!partner->family)
        return;
    if (partner->family != family)
        config_problem(source, key, "is not an IPv%d address", family);
    else if (own->family && memcmp(partner->ip, own->ip, sizeof(own->ip)) == 0)
        config_problem(source, key, "is our own address");
    else if (config->protection.takeover_address &&
             (!own->family || !on_link(partner, own, prefix)))
        config_problem(source, key,
                       "is outside the subnet of media.ipv%d, so it cannot be taken over: set "
                       "protection.takeover_address to false",
                       family);
}

static void check_protection(struct config_source *source, const struct config *config)
{
    const struct {
        const char *key, *text;
    } needed[] = {{"protection.partner.address", config->protection.partner.address},
                  {"protection.listen", config->protection.listen},
                  {"protection.certificate", config->protection.certificate},
                  {"protection.key", config->protection.key},
                  {"protection.ca", config->protection.ca}};
    // Within a link the TTL of 255 shows that a packet came from there; across routers nothing
    // does.
    if (config->protection.bfd.multihop && !*config->protection.bfd.key &&
        !config->protection.bfd.allow_unauthenticated)
        config_problem(source, "protection.bfd.multihop",
                       "needs protection.bfd.key, or any host could speak for the partner (RFC "
                       "5883 5); protection.bfd.allow_unauthenticated: true does without");
    if (!*config->protection.partner.name)
        return;
    for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++)
        if (!*needed[i].text)
            config_problem(source, needed[i].key, "is needed by protection.partner.name");
    if (strcmp(config->protection.partner.name, config->node) == 0)
        config_problem(source, "protection.partner.name", "is this node itself");
    if (!config->parsed.partner.media4.family && !config->parsed.partner.media6.family)
        config_problem(source, "protection.partner.media4", "neither media4 nor media6 is given");
    if (config->protection.takeover_address && config->port.own_l3 == OWN_L3_FALSE)
        config_problem(source, "protection.takeover_address",
                       "is not possible with port.own_l3 false: the kernel goes on answering for "
                       "its address; set one of the two");
    check_partner_media(source, config, 4, &config->parsed.partner.media4, &config->parsed.media4,
                        config->parsed.prefix4);
    check_partner_media(source, config, 6, &config->parsed.partner.media6, &config->parsed.media6,
                        config->parsed.prefix6);
}

static void check_cores(struct config_source *source, const struct config *config)
{
    uint32_t count = config->dataplane.cores_count;
    const int32_t *cores = config->dataplane.cores;
    if (count && count != config->dataplane.workers)
        config_problem(source, "dataplane.cores", "names %u CPUs for %u workers", count,
                       config->dataplane.workers);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (cores[i] == cores[j] && cores[i] >= 0)
                config_problem(source, "dataplane.cores", "names CPU %d twice", cores[i]);
}

static void check_listen(struct config_source *source, const struct config *config)
{
    const struct config_listen *listen = config->parsed.listen;
    if (config->parsed.listen_count == 0)
        config_problem(source, "http.listen", "no address to listen on");
    for (uint32_t i = 0; i < config->parsed.listen_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (listen[i].addr.port &&
                memcmp(&listen[i].addr, &listen[j].addr, sizeof(listen->addr)) == 0)
                config_problem(source, listen[i].tls ? "http.listen_tls" : "http.listen",
                               "names the same address and port twice%s",
                               listen[i].tls != listen[j].tls ? ", here and in http.listen" : "");
}

// What the dataplane would refuse at its start.
static void check_memory(struct config_source *source, const struct config *config)
{
    const struct abi_config abi = {.port_kind = config->port.kind,
                                   .mtu = config->port.mtu,
                                   .max_streams = config->limits.streams,
                                   .rx_mbufs = config->memory.rx_mbufs,
                                   .tx_mbufs = config->memory.tx_mbufs,
                                   .cache_mbufs = config->memory.cache_mbufs};
    struct pools_short missing;
    char key[32];
    if (pools_check(&abi, &missing))
        return;
    // Of "rx_mbufs and tx_mbufs", at the line of the first.
    snprintf(key, sizeof(key), "memory.%.*s", (int)strcspn(missing.key, " "), missing.key);
    config_problem(source, key, "%s: %u are too few for %s, which take %llu: give %llu",
                   missing.key, missing.given, missing.whose, (unsigned long long)missing.held,
                   (unsigned long long)missing.least);
}

void config_check_whole(struct config_source *source, const struct config *config)
{
    check_cores(source, config);
    check_listen(source, config);
    if (config->media.udp_port + config->dataplane.workers - 1 > 65535)
        config_problem(source, "media.udp_port", "leaves no port for worker %u",
                       config->dataplane.workers - 1);
    if (!config->parsed.media4.family && !config->parsed.media6.family)
        config_problem(source, "media.ipv4", "neither ipv4 nor ipv6 is given");
    if (config->media.announce_only && !config->media.announce_count)
        config_problem(source, "media.announce_only", "is true, but media.announce is empty");
    if (config->codecs_count == 0)
        config_problem(source, "codecs", "no codec is allowed");
    if (strlen(config->operator.socket) > 100 || !*config->operator.socket)
        config_problem(source, "operator.socket", "must be 1 to 100 characters long");
    check_gateway(source, "media.gateway4", 4, &config->parsed.gateway4, &config->parsed.media4,
                  config->parsed.prefix4);
    check_gateway(source, "media.gateway6", 6, &config->parsed.gateway6, &config->parsed.media6,
                  config->parsed.prefix6);
    check_device(source, config);
    check_memory(source, config);
    check_jwt(source, "publish", &config->auth.publish.jwt);
    check_jwt(source, "play", &config->auth.play.jwt);
    check_certificate(source, config);
    check_protection(source, config);
}
