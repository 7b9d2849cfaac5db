// Every key that the file may hold: where it goes (libcyaml's schema), its default and its range;
// see config_schema.h. Constant data; a test compares it with configs/hitless.yaml.
#include "config_schema.h"
#include <stdio.h>
#include <string.h>

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

static const cyaml_strval_t protect_names[] = {
    {"off", PROTECT_OFF}, {"async", PROTECT_ASYNC}, {"sync", PROTECT_SYNC}};
static const cyaml_strval_t failback_names[] = {{"manual", FAILBACK_MANUAL},
                                                {"auto", FAILBACK_AUTO}};

// The schema. Every key is optional; members of nested structs are named by their whole path.
// NOLINTBEGIN(bugprone-macro-parentheses): members and designators cannot stand in parentheses
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

// NOLINTEND(bugprone-macro-parentheses)

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
    INT("nice", dataplane.nice),
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
                                                       TEXT("group", operator.group),
                                                       BOOL("kill_test", operator.kill_test), END};
static const cyaml_schema_field_t partner_fields[] = {TEXT("name", protection.partner.name),
                                                      TEXT("address", protection.partner.address),
                                                      TEXT("media4", protection.partner.media4),
                                                      TEXT("media6", protection.partner.media6),
                                                      UINT("workers", protection.partner.workers),
                                                      TEXT("url", protection.partner.url),
                                                      END};
static const cyaml_schema_field_t bfd_fields[] = {
    UINT("interval_ms", protection.bfd.interval_ms),
    UINT("multiplier", protection.bfd.multiplier),
    BOOL("multihop", protection.bfd.multihop),
    TEXT("key", protection.bfd.key),
    BOOL("allow_unauthenticated", protection.bfd.allow_unauthenticated),
    END};
static const cyaml_schema_field_t protection_fields[] = {
    SECTION("partner", partner_fields),
    TEXT("listen", protection.listen),
    TEXT("certificate", protection.certificate),
    TEXT("key", protection.key),
    TEXT("ca", protection.ca),
    NAMED("protect", protection.protect, protect_names),
    BOOL("strict", protection.strict),
    SECTION("bfd", bfd_fields),
    BOOL("takeover_address", protection.takeover_address),
    NAMED("failback", protection.failback, failback_names),
    END};

const cyaml_schema_field_t config_fields[] = {TEXT("node", node),
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
                                              SECTION("protection", protection_fields),
                                              END};
const cyaml_schema_value_t config_schema = {.type = CYAML_MAPPING,
                                            .flags = CYAML_FLAG_POINTER,
                                            .data_size = sizeof(struct config),
                                            .mapping = {.fields = config_fields}};

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
const struct config_rule config_rules[] = {
    {.path = "node", .def = "", .check = config_check_name},
    {.path = "runtime_dir", .def = "/run/hitless", .check = config_check_dir},
    {.path = "log", .def = "info"},
    {.path = "dataplane.workers", .def = "1", .min = 1, .max = ABI_MAX_WORKERS},
    {.path = "dataplane.cores", .def = "", .min = 0, .max = 4095},
    {.path = "dataplane.main_core", .def = "-1", .min = -1, .max = 4095},
    {.path = "dataplane.nice", .def = "-15", .min = -20, .max = 19},
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
    {.path = "operator.kill_test", .def = "false"},
    {.path = "protection.partner.name", .def = "", .check = config_check_name},
    {.path = "protection.partner.address", .def = "", .check = config_check_peer},
    {.path = "protection.partner.media4", .def = "", .check = config_check_peer},
    {.path = "protection.partner.media6", .def = "", .check = config_check_peer},
    {.path = "protection.partner.url", .def = "", .check = config_check_url},
    {.path = "protection.partner.workers", .def = "0", .min = 0, .max = ABI_MAX_WORKERS},
    {.path = "protection.listen", .def = "", .check = config_check_peer},
    {.path = "protection.certificate", .def = "", .check = config_check_file_readable},
    {.path = "protection.key", .def = "", .check = config_check_file_readable},
    {.path = "protection.ca", .def = "", .check = config_check_file_readable},
    {.path = "protection.protect", .def = "sync"},
    {.path = "protection.strict", .def = "false"},
    {.path = "protection.bfd.interval_ms", .def = "10", .min = 10, .max = 10000},
    {.path = "protection.bfd.multiplier", .def = "3", .min = 1, .max = 255},
    {.path = "protection.bfd.multihop", .def = "false"},
    {.path = "protection.bfd.key", .def = "", .check = config_check_bfd_key, .secret = true},
    {.path = "protection.bfd.allow_unauthenticated", .def = "false"},
    {.path = "protection.takeover_address", .def = "true"},
    {.path = "protection.failback", .def = "manual"},
};
// clang-format on
_Static_assert(CYAML_ARRAY_LEN(config_rules) == CONFIG_RULES, "config_schema.h says how many");

const cyaml_schema_field_t *config_find_field(const char *path)
{
    const cyaml_schema_field_t *field = config_fields;
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
        for (size_t i = 0; i < CONFIG_RULES && !def; i++)
            if (strcmp(config_rules[i].path, path) == 0)
                def = config_rules[i].def;
        visit(opaque, path, def);
    }
}

void config_each_key(void (*visit)(void *opaque, const char *key, const char *def), void *opaque)
{
    each_key(config_fields, "", visit, opaque);
}
