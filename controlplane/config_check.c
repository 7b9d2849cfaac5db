// What the keys of a configuration must be to each other; see config_check.h.
#include "config_check.h"
#include "../dataplane/abi/pools.h"
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

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
