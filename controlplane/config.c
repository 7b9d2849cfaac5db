// The configuration: schema, defaults and loading by libcyaml; see config.h. Runs once at start and
// on SIGHUP, on the control plane's only thread; reads files and may block then.
#include "config.h"
#include "config_check.h"
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_FILE_MAX (1 << 20)
#define STRING_MAX 1024

static const cyaml_strval_t level_names[] = {{"error", LEVEL_ERROR},
                                             {"warning", LEVEL_WARNING},
                                             {"info", LEVEL_INFO},
                                             {"debug", LEVEL_DEBUG}};
static const cyaml_strval_t idle_names[] = {{"adaptive", ABI_IDLE_ADAPTIVE},
                                            {"spin", ABI_IDLE_SPIN}};
static const cyaml_strval_t crypto_names[] = {{"ipsec_mb", ABI_CRYPTO_IPSEC_MB},
                                              {"cryptodev", ABI_CRYPTO_CRYPTODEV}};
static const cyaml_strval_t kind_names[] = {{"af_xdp", ABI_PORT_AF_XDP},
                                            {"pci", ABI_PORT_PCI},
                                            {"pcap", ABI_PORT_PCAP},
                                            {"ring", ABI_PORT_RING},
                                            {"null", ABI_PORT_NULL}};
static const cyaml_strval_t own_l3_names[] = {
    {"auto", OWN_L3_AUTO}, {"true", OWN_L3_TRUE}, {"false", OWN_L3_FALSE}};
static const cyaml_strval_t policy_names[] = {{"always", ABI_NACK_ALWAYS},
                                              {"adaptive", ABI_NACK_ADAPTIVE}};
static const cyaml_strval_t codec_names[] = {
    {"opus", CODEC_OPUS}, {"vp8", CODEC_VP8}, {"vp9", CODEC_VP9},   {"h264", CODEC_H264},
    {"h265", CODEC_H265}, {"av1", CODEC_AV1}, {"pcmu", CODEC_PCMU}, {"pcma", CODEC_PCMA}};
static const cyaml_strval_t access_names[] = {
    {"off", ACCESS_OFF}, {"local", ACCESS_LOCAL}, {"all", ACCESS_ALL}};
static const cyaml_strval_t jwt_names[] = {
    {"off", JWT_OFF},     {"HS256", JWT_HS256}, {"HS384", JWT_HS384}, {"HS512", JWT_HS512},
    {"RS256", JWT_RS256}, {"RS384", JWT_RS384}, {"RS512", JWT_RS512}, {"ES256", JWT_ES256},
    {"ES384", JWT_ES384}, {"ES512", JWT_ES512}};

// The schema. Every key is optional; members of nested structs are named by their whole path.
#define OPT CYAML_FLAG_OPTIONAL
#define AT(member) .data_offset = offsetof(struct config, member)
#define SIZE(member) .data_size = sizeof(((struct config *)0)->member)
#define NUMBER(key_, type_, member)                                                                \
    {                                                                                              \
        .key = key_, AT(member), .value = {.type = type_, .flags = OPT, SIZE(member) }             \
    }
#define INT(key, member) NUMBER(key, CYAML_INT, member)
#define UINT(key, member) NUMBER(key, CYAML_UINT, member)
#define BOOL(key, member) NUMBER(key, CYAML_BOOL, member)
#define TEXT(key_, member)                                                                         \
    {                                                                                              \
        .key = key_, AT(member), .value = {                                                        \
            .type = CYAML_STRING,                                                                  \
            .flags = OPT | CYAML_FLAG_POINTER,                                                     \
            .data_size = 1,                                                                        \
            .string = {.min = 0, .max = STRING_MAX}                                                \
        }                                                                                          \
    }
#define NAMED(key_, member, names)                                                                 \
    {                                                                                              \
        .key = key_, AT(member), .value = {                                                        \
            .type = CYAML_ENUM,                                                                    \
            .flags = OPT | CYAML_FLAG_STRICT,                                                      \
            SIZE(member),                                                                          \
            .enumeration = {.strings = names, .count = CYAML_ARRAY_LEN(names)}                     \
        }                                                                                          \
    }
#define LIST(key_, member, entry_, max_)                                                           \
    {                                                                                              \
        .key = key_, AT(member), .count_offset = offsetof(struct config, member##_count),          \
        .count_size = sizeof(uint32_t), .value = {                                                 \
            .type = CYAML_SEQUENCE,                                                                \
            .flags = OPT | CYAML_FLAG_POINTER,                                                     \
            .data_size = sizeof(*((struct config *)0)->member),                                    \
            .sequence = {.entry = entry_, .min = 0, .max = max_}                                   \
        }                                                                                          \
    }
// A section's keys stand at offsets from the whole struct, so the section itself is at 0.
#define SECTION(key_, fields_)                                                                     \
    {                                                                                              \
        .key = key_, .data_offset = 0, .value = {                                                  \
            .type = CYAML_MAPPING,                                                                 \
            .flags = OPT,                                                                          \
            .data_size = sizeof(struct config),                                                    \
            .mapping = {.fields = fields_}                                                         \
        }                                                                                          \
    }
#define END                                                                                        \
    {                                                                                              \
        .key = NULL                                                                                \
    }

static const cyaml_schema_value_t text_entry = {.type = CYAML_STRING,
                                                .flags = CYAML_FLAG_POINTER,
                                                .data_size = 1,
                                                .string = {.min = 0, .max = STRING_MAX}};
static const cyaml_schema_value_t cpu_entry = {.type = CYAML_INT, .data_size = sizeof(int32_t)};
static const cyaml_schema_value_t codec_entry = {
    .type = CYAML_ENUM,
    .flags = CYAML_FLAG_STRICT,
    .data_size = sizeof(enum codec),
    .enumeration = {.strings = codec_names, .count = CYAML_ARRAY_LEN(codec_names)}};

static const cyaml_schema_field_t dataplane_fields[] = {
    UINT("workers", dataplane.workers),
    LIST("cores", dataplane.cores, &cpu_entry, ABI_MAX_WORKERS),
    INT("main_core", dataplane.main_core),
    NAMED("idle", dataplane.idle, idle_names),
    NAMED("crypto", dataplane.crypto, crypto_names),
    BOOL("hugepages", dataplane.hugepages),
    END};
static const cyaml_schema_field_t port_fields[] = {NAMED("kind", port.kind, kind_names),
                                                   TEXT("device", port.device),
                                                   TEXT("mac", port.mac),
                                                   UINT("vlan", port.vlan),
                                                   UINT("mtu", port.mtu),
                                                   NAMED("own_l3", port.own_l3, own_l3_names),
                                                   END};
static const cyaml_schema_field_t media_fields[] = {
    TEXT("ipv4", media.ipv4),
    TEXT("ipv6", media.ipv6),
    UINT("udp_port", media.udp_port),
    TEXT("gateway4", media.gateway4),
    TEXT("gateway6", media.gateway6),
    LIST("announce", media.announce, &text_entry, CONFIG_MAX_ANNOUNCE),
    BOOL("announce_only", media.announce_only),
    END};
static const cyaml_schema_field_t limits_fields[] = {
    UINT("sessions", limits.sessions), UINT("streams", limits.streams),
    UINT("http_connections", limits.http_connections),
    UINT("http_connections_per_ip", limits.http_connections_per_ip), END};
static const cyaml_schema_field_t memory_fields[] = {
    UINT("rx_mbufs", memory.rx_mbufs), UINT("tx_mbufs", memory.tx_mbufs),
    UINT("cache_mbufs", memory.cache_mbufs), UINT("cache_ms", memory.cache_ms), END};
static const cyaml_schema_field_t nack_fields[] = {NAMED("policy", nack.policy, policy_names), END};
static const cyaml_schema_field_t session_fields[] = {
    UINT("timeout_ms", session.timeout_ms), UINT("setup_timeout_ms", session.setup_timeout_ms),
    UINT("stream_linger_ms", session.stream_linger_ms), END};
static const cyaml_schema_field_t http_fields[] = {
    LIST("listen", http.listen, &text_entry, CONFIG_MAX_LISTEN),
    LIST("listen_tls", http.listen_tls, &text_entry, CONFIG_MAX_LISTEN),
    TEXT("certificate", http.certificate),
    TEXT("key", http.key),
    TEXT("external_url", http.external_url),
    LIST("cors_origins", http.cors_origins, &text_entry, 32),
    NAMED("streams", http.streams, access_names),
    NAMED("status", http.status, access_names),
    NAMED("metrics", http.metrics, access_names),
    END};
#define ROLE(name)                                                                                 \
    static const cyaml_schema_field_t name##_jwt_fields[] = {                                      \
        NAMED("algorithm", auth.name.jwt.algorithm, jwt_names),                                    \
        TEXT("key_file", auth.name.jwt.key_file),                                                  \
        TEXT("stream_claim", auth.name.jwt.stream_claim),                                          \
        TEXT("role_claim", auth.name.jwt.role_claim),                                              \
        UINT("leeway_s", auth.name.jwt.leeway_s),                                                  \
        END};                                                                                      \
    static const cyaml_schema_field_t name##_fields[] = {                                          \
        LIST("tokens", auth.name.tokens, &text_entry, 1024),                                       \
        TEXT("token_file", auth.name.token_file), SECTION("jwt", name##_jwt_fields), END};
ROLE(publish)
ROLE(play)
static const cyaml_schema_field_t auth_fields[] = {SECTION("publish", publish_fields),
                                                   SECTION("play", play_fields), END};
static const cyaml_schema_field_t operator_fields[] = {TEXT("socket", operator.socket),
                                                       TEXT("group", operator.group), END};

static const cyaml_schema_field_t top_fields[] = {TEXT("node", node),
                                                  TEXT("runtime_dir", runtime_dir),
                                                  NAMED("log", log, level_names),
                                                  SECTION("dataplane", dataplane_fields),
                                                  SECTION("port", port_fields),
                                                  SECTION("media", media_fields),
                                                  SECTION("limits", limits_fields),
                                                  SECTION("memory", memory_fields),
                                                  SECTION("nack", nack_fields),
                                                  SECTION("session", session_fields),
                                                  LIST("codecs", codecs, &codec_entry, CODECS - 1),
                                                  SECTION("http", http_fields),
                                                  SECTION("auth", auth_fields),
                                                  SECTION("operator", operator_fields),
                                                  END};
static const cyaml_schema_value_t top = {.type = CYAML_MAPPING,
                                         .flags = CYAML_FLAG_POINTER,
                                         .data_size = sizeof(struct config),
                                         .mapping = {.fields = top_fields}};

// clang-format off
#define JWT_RULES(role)                                                                            \
    {.path = "auth." role ".tokens", .def = "", .check = config_check_token, .secret = true},      \
    {.path = "auth." role ".token_file", .def = "", .check = config_check_file_readable},          \
    {.path = "auth." role ".jwt.algorithm", .def = "off"},                                         \
    {.path = "auth." role ".jwt.key_file", .def = "", .check = config_check_file_readable},        \
    {.path = "auth." role ".jwt.stream_claim", .def = "stream"},                                   \
    {.path = "auth." role ".jwt.role_claim", .def = "role"},                                       \
    {.path = "auth." role ".jwt.leeway_s", .def = "30", .min = 0, .max = 600}

// Every leaf of the schema, with its default; a test compares the two lists.
static const struct config_rule rules[] = {
    {.path = "node", .def = "", .check = config_check_name},
    {.path = "runtime_dir", .def = "/run/hitless", .check = config_check_dir},
    {.path = "log", .def = "info"},
    {.path = "dataplane.workers", .def = "1", .min = 1, .max = ABI_MAX_WORKERS},
    {.path = "dataplane.cores", .def = "", .min = 0, .max = 4095},
    {.path = "dataplane.main_core", .def = "-1", .min = -1, .max = 4095},
    {.path = "dataplane.idle", .def = "adaptive"},
    {.path = "dataplane.crypto", .def = "ipsec_mb"},
    {.path = "dataplane.hugepages", .def = "false"},
    {.path = "port.kind", .def = "af_xdp"},
    {.path = "port.device", .def = "hitless1"},
    {.path = "port.mac", .def = "", .check = config_check_mac},
    {.path = "port.vlan", .def = "0", .min = 0, .max = 4094},
    {.path = "port.mtu", .def = "1500", .min = 1280, .max = 9000},
    {.path = "port.own_l3", .def = "auto"},
    {.path = "media.ipv4", .def = "10.77.0.2/24", .check = config_check_ipv4},
    {.path = "media.ipv6", .def = "fd77::2/64", .check = config_check_ipv6},
    {.path = "media.udp_port", .def = "7000", .min = 1024, .max = 65535},
    {.path = "media.gateway4", .def = "", .check = config_check_address},
    {.path = "media.gateway6", .def = "", .check = config_check_address},
    {.path = "media.announce", .def = "", .check = config_check_address},
    {.path = "media.announce_only", .def = "false"},
    {.path = "limits.sessions", .def = "2048", .min = 1, .max = 65536},
    {.path = "limits.streams", .def = "256", .min = 1, .max = 65536},
    {.path = "limits.http_connections", .def = "4096", .min = 16, .max = 100000},
    {.path = "limits.http_connections_per_ip", .def = "2048", .min = 4, .max = 100000},
    {.path = "memory.rx_mbufs", .def = "8192", .min = 1024, .max = 4194304},
    {.path = "memory.tx_mbufs", .def = "16384", .min = 1024, .max = 4194304},
    {.path = "memory.cache_mbufs", .def = "32768", .min = 1024, .max = 16777216},
    {.path = "memory.cache_ms", .def = "2000", .min = 200, .max = 5000},
    {.path = "nack.policy", .def = "always"},
    {.path = "session.timeout_ms", .def = "30000", .min = 2000, .max = 600000},
    {.path = "session.setup_timeout_ms", .def = "15000", .min = 2000, .max = 120000},
    {.path = "session.stream_linger_ms", .def = "30000", .min = 0, .max = 600000},
    {.path = "codecs", .def = "opus, vp8, h264, vp9, av1, h265, pcmu, pcma"},
    {.path = "http.listen", .def = "0.0.0.0:8080, [::]:8080", .check = config_check_endpoint},
    {.path = "http.listen_tls", .def = "0.0.0.0:8443, [::]:8443", .check = config_check_endpoint},
    {.path = "http.certificate", .def = "", .check = config_check_file_readable},
    {.path = "http.key", .def = "", .check = config_check_file_readable},
    {.path = "http.external_url", .def = "", .check = config_check_url},
    {.path = "http.cors_origins", .def = "*", .check = config_check_origin},
    {.path = "http.streams", .def = "all"},
    {.path = "http.status", .def = "local"},
    {.path = "http.metrics", .def = "local"},
    JWT_RULES("publish"),
    JWT_RULES("play"),
    {.path = "operator.socket", .def = "operator.sock"},
    {.path = "operator.group", .def = "", .check = config_check_group},
};
// clang-format on
#define RULES CYAML_ARRAY_LEN(rules)

static const cyaml_config_t cyaml = {.mem_fn = cyaml_mem, .flags = CYAML_CFG_NO_ALIAS};

// Finds the schema of a leaf by its dotted path; the schema's offsets are all from the top.
static const cyaml_schema_field_t *find_field(const char *path)
{
    const cyaml_schema_field_t *field = top_fields;
    while (field->key) {
        size_t n = strlen(field->key);
        if (strncmp(field->key, path, n) == 0 && path[n] == '\0')
            return field;
        if (strncmp(field->key, path, n) == 0 && path[n] == '.') {
            field = field->value.mapping.fields;
            path += n + 1;
        } else {
            field++;
        }
    }
    return NULL;
}

static int64_t value_of(const cyaml_schema_value_t *value, const char *text)
{
    if (value->type == CYAML_BOOL)
        return strcmp(text, "true") == 0;
    if (value->type != CYAML_ENUM)
        return strtoll(text, NULL, 10);
    for (uint32_t i = 0; i < value->enumeration.count; i++)
        if (strcmp(value->enumeration.strings[i].str, text) == 0)
            return value->enumeration.strings[i].val;
    abort(); // a default that its own schema does not know
}

// Stores one value as libcyaml would. Sizes are those of a little-endian machine's integers.
static int store(const cyaml_schema_value_t *value, void *at, const char *text)
{
    if (value->type == CYAML_STRING) {
        char *copy = strdup(text);
        memcpy(at, &copy, sizeof(copy));
        return copy ? 0 : -ENOMEM;
    }
    int64_t number = value_of(value, text);
    memcpy(at, &number, value->data_size);
    return 0;
}

static int store_list(const cyaml_schema_field_t *field, struct config *config, const char *def)
{
    const cyaml_schema_value_t *entry = field->value.sequence.entry;
    size_t size = entry->flags & CYAML_FLAG_POINTER ? sizeof(char *) : entry->data_size;
    uint32_t count = *def != '\0';
    for (const char *p = def; (p = strstr(p, ", ")); p += 2)
        count++;
    if (count == 0)
        return 0;
    char *items = calloc(count, size), *text = strdup(def), *rest = text;
    int rc = items && text ? 0 : -ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        char *next = strstr(rest, ", ");
        if (next)
            *next = '\0';
        rc = store(entry, items + i * size, rest);
        rest = next ? next + 2 : rest;
    }
    free(text);
    memcpy((char *)config + field->data_offset, &items, sizeof(items));
    memcpy((char *)config + field->count_offset, &count, sizeof(count));
    return rc;
}

static int fill_defaults(struct config *config, const int *lines)
{
    for (size_t i = 0; i < RULES; i++) {
        if (lines[i])
            continue;
        const cyaml_schema_field_t *field = find_field(rules[i].path);
        void *at = (char *)config + field->data_offset;
        int rc = field->value.type == CYAML_SEQUENCE ? store_list(field, config, rules[i].def)
                                                     : store(&field->value, at, rules[i].def);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int fill_node(struct config *config)
{
    if (*config->node)
        return 0;
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    host[strcspn(host, ".")] = '\0';
    host[ABI_NAME_LEN - 1] = '\0';
    free(config->node);
    config->node = strdup(*host ? host : "node");
    return config->node ? 0 : -ENOMEM;
}

static void parse_listen(struct config *config, char **list, uint32_t count, bool tls)
{
    for (uint32_t i = 0; i < count; i++) {
        struct config_listen *listen = &config->parsed.listen[config->parsed.listen_count++];
        config_parse_endpoint(list[i], &listen->addr);
        listen->tls = tls;
    }
}

// Turns checked text into addresses.
static int derive(struct config *config)
{
    if (fill_node(config) < 0)
        return -ENOMEM;
    if (*config->media.ipv4)
        config_parse_prefix(config->media.ipv4, 4, &config->parsed.media4, &config->parsed.prefix4);
    if (*config->media.ipv6)
        config_parse_prefix(config->media.ipv6, 6, &config->parsed.media6, &config->parsed.prefix6);
    config->parsed.media4.port = config->parsed.media6.port = config->media.udp_port;
    if (*config->media.gateway4)
        config_parse_address(config->media.gateway4, &config->parsed.gateway4);
    if (*config->media.gateway6)
        config_parse_address(config->media.gateway6, &config->parsed.gateway6);
    for (uint32_t i = 0; i < config->media.announce_count; i++)
        config_parse_address(config->media.announce[i], &config->parsed.announce[i]);
    if (*config->port.mac)
        config_parse_mac(config->port.mac, config->parsed.mac);
    parse_listen(config, config->http.listen, config->http.listen_count, false);
    if (*config->http.certificate)
        parse_listen(config, config->http.listen_tls, config->http.listen_tls_count, true);
    for (uint32_t i = 0; i < config->codecs_count; i++)
        config->parsed.codec_mask |= 1u << config->codecs[i];
    bool in_dir = !strchr(config->operator.socket, '/');
    snprintf(config->parsed.operator_path, sizeof(config->parsed.operator_path), "%s%s%s",
             in_dir ? config->runtime_dir : "", in_dir ? "/" : "", config->operator.socket);
    return 0;
}

// Reads a whole regular file. Returns 0 and malloc'ed text, or a negative errno.
static int read_file(const char *path, char **text, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st) < 0)
        rc = -errno;
    else if (!S_ISREG(st.st_mode))
        rc = -EINVAL;
    else if (st.st_size > CONFIG_FILE_MAX)
        rc = -EFBIG;
    *text = rc == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    if (rc == 0 && !*text)
        rc = -ENOMEM;
    *size = 0;
    while (rc == 0 && *size < (size_t)st.st_size) {
        ssize_t n = read(fd, *text + *size, (size_t)st.st_size - *size);
        if (n <= 0)
            break;
        *size += (size_t)n;
    }
    close(fd);
    return rc;
}

// Checks and loads `text` (NULL: nothing given). `source` collects problems and lines.
static int load_text(struct config_source *source, const char *text, size_t size,
                     struct config **out)
{
    struct config *config = NULL;
    bool empty = !text;
    if (text)
        config_check_text(source, text, size, top_fields, &empty);
    if (source->problems)
        return -EINVAL;
    if (!empty) {
        cyaml_err_t err = cyaml_load_data((const uint8_t *)text, size, &cyaml, &top,
                                          (cyaml_data_t **)&config, NULL);
        if (err != CYAML_OK) {
            config_problem(source, "", "%s", cyaml_strerror(err));
            return -EINVAL;
        }
    } else {
        config = calloc(1, sizeof(*config));
    }
    int rc = config ? fill_defaults(config, source->lines) : -ENOMEM;
    if (rc == 0)
        rc = derive(config);
    if (rc == 0)
        config_check_whole(source, config);
    if (rc == 0 && source->problems)
        rc = -EINVAL;
    if (rc < 0) {
        config_free(config);
        return rc;
    }
    *out = config;
    return 0;
}

int config_load(const char *path, struct config **out, config_report report, void *opaque)
{
    int lines[RULES] = {0};
    struct config_source source = {
        .rules = rules, .lines = lines, .count = RULES, .report = report, .opaque = opaque};
    char *text = NULL;
    size_t size = 0;
    if (path) {
        int rc = read_file(path, &text, &size);
        if (rc < 0) {
            config_problem(&source, "", "cannot be read: %s", strerror(-rc));
            return rc;
        }
    }
    int rc = load_text(&source, text, size, out);
    free(text);
    return rc;
}

void config_free(struct config *config)
{
    if (config)
        cyaml_free(&cyaml, &top, config, 0);
}

struct counted {
    const char *path;
    int problems;
};

static void print_problem(void *opaque, int line, const char *key, const char *reason)
{
    struct counted *counted = opaque;
    counted->problems++;
    printf("%s:%d: %s%s%s\n", counted->path, line, key, *key ? ": " : "", reason);
}

int config_check_file(const char *path)
{
    struct counted counted = {.path = path};
    struct config *config = NULL;
    int rc = config_load(path, &config, print_problem, &counted);
    config_free(config);
    return rc < 0 && counted.problems == 0 ? rc : counted.problems;
}

// Whether the kernel has one of our media addresses on the AF_XDP interface, and so answers ARP, ND
// and echo for it. On the embedded veth pair and on a NIC without a kernel nobody does but us.
static bool kernel_holds_address(const struct config *config)
{
    struct ifaddrs *list, *i;
    bool found = false;
    if (config->port.kind != ABI_PORT_AF_XDP || getifaddrs(&list) < 0)
        return false;
    for (i = list; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || strcmp(i->ifa_name, config->port.device) != 0)
            continue;
        const struct sockaddr_in *v4 = (const void *)i->ifa_addr;
        const struct sockaddr_in6 *v6 = (const void *)i->ifa_addr;
        if (v4->sin_family == AF_INET && config->parsed.media4.family)
            found = memcmp(&v4->sin_addr, config->parsed.media4.ip, 4) == 0;
        else if (v6->sin6_family == AF_INET6 && config->parsed.media6.family)
            found = memcmp(&v6->sin6_addr, config->parsed.media6.ip, 16) == 0;
    }
    freeifaddrs(list);
    return found;
}

void config_to_abi(const struct config *config, struct abi_config *abi)
{
    *abi = (struct abi_config){
        .workers = config->dataplane.workers,
        .max_sessions = config->limits.sessions,
        .max_streams = config->limits.streams,
        .idle = config->dataplane.idle,
        .crypto = config->dataplane.crypto,
        .hugepages = config->dataplane.hugepages,
        .main_core = config->dataplane.main_core,
        .port_kind = config->port.kind,
        .vlan = config->port.vlan,
        .mtu = config->port.mtu,
        .media4 = config->parsed.media4,
        .media6 = config->parsed.media6,
        .prefix4 = config->parsed.prefix4,
        .prefix6 = config->parsed.prefix6,
        .gateway4 = config->parsed.gateway4,
        .gateway6 = config->parsed.gateway6,
        .rx_mbufs = config->memory.rx_mbufs,
        .tx_mbufs = config->memory.tx_mbufs,
        .cache_mbufs = config->memory.cache_mbufs,
        .nack_policy = config->nack.policy,
        .cache_ms = config->memory.cache_ms,
        .session_timeout_ms = config->session.timeout_ms,
    };
    if (config->port.own_l3 == OWN_L3_AUTO)
        abi->own_l3 = !kernel_holds_address(config);
    else
        abi->own_l3 = config->port.own_l3 == OWN_L3_TRUE;
    snprintf(abi->node, sizeof(abi->node), "%s", config->node);
    snprintf(abi->device, sizeof(abi->device), "%s", config->port.device);
    memcpy(abi->mac, config->parsed.mac, sizeof(abi->mac));
    for (uint32_t w = 0; w < ABI_MAX_WORKERS; w++)
        abi->cores[w] = w < config->dataplane.cores_count ? config->dataplane.cores[w] : -1;
}

static void each_key(const cyaml_schema_field_t *fields, const char *section,
                     void (*visit)(void *, const char *, const char *), void *opaque)
{
    for (; fields->key; fields++) {
        char path[128];
        snprintf(path, sizeof(path), "%s%s%s", section, *section ? "." : "", fields->key);
        if (fields->value.type == CYAML_MAPPING) {
            each_key(fields->value.mapping.fields, path, visit, opaque);
            continue;
        }
        const char *def = NULL;
        for (size_t i = 0; i < RULES && !def; i++)
            if (strcmp(rules[i].path, path) == 0)
                def = rules[i].def;
        visit(opaque, path, def);
    }
}

void config_each_key(void (*visit)(void *opaque, const char *key, const char *def), void *opaque)
{
    each_key(top_fields, "", visit, opaque);
}
