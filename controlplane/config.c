// The configuration: loading by libcyaml, defaults, what follows from it; see config.h. Runs once
// at start and on SIGHUP, on the control plane's only thread; reads files and may block then.
#include "config.h"
#include "config_check.h"
#include "config_schema.h"
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

static const cyaml_config_t cyaml = {.mem_fn = cyaml_mem, .flags = CYAML_CFG_NO_ALIAS};

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
        char **string = at;
        *string = strdup(text);
        return *string ? 0 : -ENOMEM;
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
    for (size_t i = 0; i < CONFIG_RULES; i++) {
        if (lines[i])
            continue;
        const cyaml_schema_field_t *field = config_find_field(config_rules[i].path);
        void *at = (char *)config + field->data_offset;
        int rc = field->value.type == CYAML_SEQUENCE
                     ? store_list(field, config, config_rules[i].def)
                     : store(&field->value, at, config_rules[i].def);
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

// The partner's own addresses are endpoints; what is left out stays "none".
static void derive_partner(struct config *config)
{
    const struct {
        const char *text;
        struct abi_addr *addr;
    } all[] = {{config->protection.partner.address, &config->parsed.partner.address},
               {config->protection.partner.media4, &config->parsed.partner.media4},
               {config->protection.partner.media6, &config->parsed.partner.media6},
               {config->protection.listen, &config->parsed.partner.listen}};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (*all[i].text)
            config_parse_endpoint(all[i].text, all[i].addr);
    if (config->protection.partner.workers == 0)
        config->protection.partner.workers = config->dataplane.workers;
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
    derive_partner(config);
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
        config_check_text(source, text, size, config_fields, &empty);
    if (source->problems)
        return -EINVAL;
    if (!empty) {
        cyaml_err_t err = cyaml_load_data((const uint8_t *)text, size, &cyaml, &config_schema,
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
    int lines[CONFIG_RULES] = {0};
    struct config_source source = {.rules = config_rules,
                                   .lines = lines,
                                   .count = CONFIG_RULES,
                                   .report = report,
                                   .opaque = opaque};
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
        cyaml_free(&cyaml, &config_schema, config, 0);
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
        .nice = config->dataplane.nice,
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
        .kill_test = config->operator.kill_test,
    };
    abi->bfd = *config->protection.partner.name != 0;
    if (config->port.own_l3 == OWN_L3_AUTO)
        abi->own_l3 = !kernel_holds_address(config);
    else
        abi->own_l3 = config->port.own_l3 == OWN_L3_TRUE;
    // An address that a kernel holds is answered for by that kernel, whoever serves its sessions.
    if (config->protection.takeover_address && abi->bfd && abi->own_l3) {
        abi->take4 = config->parsed.partner.media4;
        abi->take6 = config->parsed.partner.media6;
    }
    snprintf(abi->node, sizeof(abi->node), "%s", config->node);
    snprintf(abi->device, sizeof(abi->device), "%s", config->port.device);
    memcpy(abi->mac, config->parsed.mac, sizeof(abi->mac));
    for (uint32_t w = 0; w < ABI_MAX_WORKERS; w++)
        abi->cores[w] = w < config->dataplane.cores_count ? config->dataplane.cores[w] : -1;
}
