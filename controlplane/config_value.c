// The configuration's single values: parsing and checking of addresses, names, URLs; see
// config_check.h. Pure, but for the checks that look at files and groups.
#include "config_check.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool config_parse_integer(const char *text, int64_t *value)
{
    const char *digits = *text == '-' ? text + 1 : text;
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || n > 18 || digits[n] || (n > 1 && *digits == '0'))
        return false;
    *value = strtoll(text, NULL, 10);
    return true;
}

int config_parse_address(const char *text, struct abi_addr *addr)
{
    struct abi_addr parsed = {0};
    if (inet_pton(AF_INET, text, parsed.ip) == 1)
        parsed.family = 4;
    else if (inet_pton(AF_INET6, text, parsed.ip) == 1)
        parsed.family = 6;
    else
        return -EINVAL;
    *addr = parsed;
    return 0;
}

int config_parse_prefix(const char *text, int family, struct abi_addr *addr, uint8_t *prefix)
{
    char copy[64];
    int64_t length;
    if (strlen(text) >= sizeof(copy))
        return -EINVAL;
    snprintf(copy, sizeof(copy), "%s", text);
    char *slash = strchr(copy, '/');
    if (!slash)
        return -EINVAL;
    *slash = '\0';
    struct abi_addr parsed;
    if (config_parse_address(copy, &parsed) < 0 || parsed.family != family ||
        !config_parse_integer(slash + 1, &length) || length < 1 ||
        length > (family == 4 ? 32 : 128))
        return -EINVAL;
    bool group = family == 4 ? parsed.ip[0] >= 224 || parsed.ip[0] == 0 : parsed.ip[0] == 0xff;
    if (group || memcmp(parsed.ip, (uint8_t[16]){0}, 16) == 0)
        return -EINVAL;
    *addr = parsed;
    *prefix = (uint8_t)length;
    return 0;
}

int config_parse_endpoint(const char *text, struct abi_addr *addr)
{
    char copy[64];
    int64_t port;
    if (strlen(text) >= sizeof(copy))
        return -EINVAL;
    snprintf(copy, sizeof(copy), "%s", text);
    char *colon = strrchr(copy, ':'), *host = copy;
    if (!colon)
        return -EINVAL;
    *colon = '\0';
    bool bracket = *host == '[';
    if (bracket) {
        if (colon == host || colon[-1] != ']')
            return -EINVAL;
        colon[-1] = '\0';
        host++;
    }
    struct abi_addr parsed;
    if (config_parse_address(host, &parsed) < 0 || (parsed.family == 6) != bracket ||
        !config_parse_integer(colon + 1, &port) || port < 0 || port > 65535)
        return -EINVAL;
    parsed.port = (uint16_t)port;
    *addr = parsed;
    return 0;
}

bool config_fits(const char *text, const char *pattern)
{
    for (; *pattern; pattern++, text++)
        if (*pattern == 'x' ? !isxdigit((unsigned char)*text) : *text != *pattern)
            return false;
    return *text == '\0';
}

int config_parse_mac(const char *text, uint8_t mac[6])
{
    if (!config_fits(text, "xx:xx:xx:xx:xx:xx"))
        return -EINVAL;
    for (size_t i = 0; i < 6; i++)
        mac[i] = (uint8_t)strtoul(text + 3 * i, NULL, 16);
    return 0;
}

static int refuse(char *why, size_t size, const char *reason)
{
    snprintf(why, size, "%s", reason);
    return -EINVAL;
}

int config_check_name(const char *text, char *why, size_t size)
{
    if (strlen(text) >= ABI_NAME_LEN)
        return refuse(why, size, "is longer than 31 characters");
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
            return refuse(why, size, "may hold only letters, digits, '.', '_' and '-'");
    return 0;
}

int config_check_dir(const char *text, char *why, size_t size)
{
    if (*text != '/' || strlen(text) > 80)
        return refuse(why, size, "must be an absolute path of at most 80 characters");
    return 0;
}

static bool is_prefix(const char *text, int family)
{
    struct abi_addr addr;
    uint8_t prefix;
    return config_parse_prefix(text, family, &addr, &prefix) >= 0;
}

int config_check_ipv4(const char *text, char *why, size_t size)
{
    if (*text && !is_prefix(text, 4))
        return refuse(why, size, "is not a host's IPv4 address with prefix, such as 192.0.2.1/24");
    return 0;
}

int config_check_ipv6(const char *text, char *why, size_t size)
{
    if (*text && !is_prefix(text, 6))
        return refuse(why, size,
                      "is not a host's IPv6 address with prefix, such as 2001:db8::1/64");
    return 0;
}

int config_check_address(const char *text, char *why, size_t size)
{
    struct abi_addr addr;
    if (*text && config_parse_address(text, &addr) < 0)
        return refuse(why, size, "is not an IP address");
    return 0;
}

int config_check_endpoint(const char *text, char *why, size_t size)
{
    struct abi_addr addr;
    if (config_parse_endpoint(text, &addr) < 0)
        return refuse(why, size, "is not ADDRESS:PORT or [ADDRESS]:PORT");
    return 0;
}

int config_check_peer(const char *text, char *why, size_t size)
{
    return *text ? config_check_endpoint(text, why, size) : 0;
}

int config_check_bfd_key(const char *text, char *why, size_t size)
{
    return strlen(text) > 20 ? refuse(why, size, "is longer than 20 characters") : 0;
}

int config_check_mac(const char *text, char *why, size_t size)
{
    uint8_t mac[6];
    if (*text && (config_parse_mac(text, mac) < 0 || mac[0] & 1))
        return refuse(why, size, "is not a unicast address such as 02:00:00:00:00:01");
    return 0;
}

int config_check_file_readable(const char *text, char *why, size_t size)
{
    if (*text && access(text, R_OK) < 0) {
        snprintf(why, size, "cannot be read: %s", strerror(errno));
        return -errno;
    }
    return 0;
}

int config_check_url(const char *text, char *why, size_t size)
{
    size_t scheme = strncmp(text, "http://", 7) == 0    ? 7
                    : strncmp(text, "https://", 8) == 0 ? 8
                                                        : 0;
    size_t n = strlen(text);
    if (n == 0)
        return 0;
    if (scheme == 0 || n == scheme || text[n - 1] == '/' || n > 255)
        return refuse(why, size, "is not http://HOST or https://HOST without a slash at its end");
    for (const char *p = text; *p; p++)
        if (!isgraph((unsigned char)*p) || strchr("\"<>\\^`{|}?#", *p))
            return refuse(why, size, "holds a character that no such URL has");
    return 0;
}

int config_check_origin(const char *text, char *why, size_t size)
{
    if (strcmp(text, "*") == 0)
        return 0;
    const char *host = strstr(text, "://");
    if (!*text || config_check_url(text, why, size) < 0 || !host || strchr(host + 3, '/'))
        return refuse(why, size, "is neither '*' nor an origin such as https://example.com:8443");
    return 0;
}

int config_check_group(const char *text, char *why, size_t size)
{
    if (*text && !getgrnam(text))
        return refuse(why, size, "is not a group of this machine");
    return 0;
}

int config_check_token(const char *text, char *why, size_t size)
{
    size_t token = strcspn(text, " "), rest = strlen(text + token);
    if (token < 8)
        return refuse(why, size, "is shorter than 8 characters");
    for (const char *p = text; *p; p++)
        if (*p != ' ' && !isgraph((unsigned char)*p))
            return refuse(why, size, "holds a character that no token has");
    if (rest == 1 || rest > 66 || (rest && strchr(text + token + 1, ' ')))
        return refuse(why, size, "is not TOKEN or TOKEN STREAM");
    return 0;
}
