// The configuration: one YAML file, described key by key in configs/hitless.yaml.
//
// Read once by the control plane at its start (secrets and certificates again on SIGHUP); the
// dataplane gets its part through the channel as struct abi_config. No other thread writes it.
// Strings are never NULL ("" is "not given"). Tokens and keys inside are never printed.
#ifndef HITLESS_CONFIG_H
#define HITLESS_CONFIG_H

#include "../dataplane/abi/abi.h"
#include "../dataplane/abi/messages.h"
#include "log.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_MAX_ANNOUNCE 8
#define CONFIG_MAX_LISTEN 8

// Who may ask for something over HTTP: nobody, clients on this machine, anyone.
enum config_access { ACCESS_OFF, ACCESS_LOCAL, ACCESS_ALL };
enum config_own_l3 { OWN_L3_AUTO, OWN_L3_TRUE, OWN_L3_FALSE };
enum config_jwt_algorithm {
    JWT_OFF,
    JWT_HS256,
    JWT_HS384,
    JWT_HS512,
    JWT_RS256,
    JWT_RS384,
    JWT_RS512,
    JWT_ES256,
    JWT_ES384,
    JWT_ES512
};

struct config_jwt {
    enum config_jwt_algorithm algorithm; // JWT_OFF: no JWT accepted
    char *key_file;                      // shared secret (HS*) or PEM public key
    char *stream_claim;                  // claim that names the stream: exact, "*" or "prefix*"
    char *role_claim;  // claim that must hold "publish" or "play" (string or array of strings)
    uint32_t leeway_s; // clock difference tolerated in exp and nbf
};

// One role's rules. No tokens, no token_file and no jwt.algorithm: open to everyone.
struct config_auth_role {
    char **tokens; // "TOKEN" or "TOKEN STREAM", STREAM as in a claim
    uint32_t tokens_count;
    char *token_file; // the same, one a line, '#' begins a comment
    struct config_jwt jwt;
};

struct config_listen {
    struct abi_addr addr;
    bool tls;
};

// How far a new session's 201 waits for the partner: not at all and no protection, not at all,
// until the partner has it.
enum config_protect { PROTECT_OFF, PROTECT_ASYNC, PROTECT_SYNC };
enum config_failback { FAILBACK_MANUAL, FAILBACK_AUTO };

struct config {
    char *node;        // name of this node, the host's name if the file gives none
    char *runtime_dir; // channel, doorbells, operator socket; root-only, on tmpfs
    enum level log;

    struct {
        uint32_t workers; // 1..ABI_MAX_WORKERS
        int32_t *cores;   // CPU of each worker; empty: not pinned
        uint32_t cores_count;
        int32_t main_core; // -1: not pinned
        int32_t nice;      // of its threads
        enum abi_idle idle;
        enum abi_crypto crypto;
        bool hugepages;
    } dataplane;

    struct {
        enum abi_port_kind kind;
        char *device;
        char *mac; // "": the device's own
        uint16_t vlan, mtu;
        enum config_own_l3 own_l3;
    } port;

    struct {
        char *ipv4, *ipv6; // "ADDRESS/PREFIX" or ""
        uint16_t udp_port; // worker 0's; worker w has udp_port + w
        char *gateway4, *gateway6;
        char **announce; // addresses put into candidates beside ours (1:1 NAT)
        uint32_t announce_count;
        bool announce_only; // leave our own addresses out of candidates
    } media;

    struct {
        uint32_t sessions; // per worker
        uint32_t streams;  // per node
        uint32_t http_connections, http_connections_per_ip;
    } limits;

    struct {
        uint32_t rx_mbufs, tx_mbufs, cache_mbufs; // per worker
        uint32_t cache_ms;
    } memory;

    struct {
        enum abi_nack_policy policy;
    } nack;

    struct {
        uint32_t timeout_ms;       // without a sign of life
        uint32_t setup_timeout_ms; // from POST to finished DTLS
        uint32_t stream_linger_ms; // how long viewers wait for a publisher that went away
    } session;

    enum codec *codecs; // allowed, best first
    uint32_t codecs_count;

    struct {
        char **listen, **listen_tls; // "ADDRESS:PORT", "[ADDRESS]:PORT"
        uint32_t listen_count, listen_tls_count;
        char *certificate, *key; // PEM files; "": no HTTPS
        char *external_url;      // "https://edge.example.com[:PORT][/PREFIX]" or ""
        char **cors_origins;     // "*" or origins
        uint32_t cors_origins_count;
        enum config_access streams, status, metrics;
    } http;

    struct {
        struct config_auth_role publish, play;
    } auth;

    struct {
        char *socket;   // path; in runtime_dir if it has no '/'
        char *group;    // name; "": only root
        bool kill_test; // hitlessctl kill-test may kill our own processes
    } operator;

    // A partner that stands by for our sessions, and we for its.
    struct {
        struct {
            char *name;            // as in its certificate; "": no partner
            char *address;         // "ADDRESS:PORT" of its protection.listen
            char *media4, *media6; // its media.ipv4 and ipv6 with its media.udp_port, or ""
            char *url;             // of its HTTP, as clients reach it, or ""
            uint32_t workers;      // it has; 0: as many as we
        } partner;
        char *listen;                 // "ADDRESS:PORT" or ""
        char *certificate, *key, *ca; // PEM files
        enum config_protect protect;
        bool strict; // 503 rather than a session without protection
        struct {
            uint32_t interval_ms, multiplier;
            bool multihop;              // RFC 5883
            char *key;                  // at most 20 characters; "": no authentication
            bool allow_unauthenticated; // multihop without a key
        } bfd;
        bool takeover_address;
        enum config_failback failback;
    } protection;

    // Derived from the above by config_load; not keys of the file.
    struct {
        struct abi_addr media4, media6; // port is udp_port; family 0: none
        uint8_t prefix4, prefix6;
        struct abi_addr gateway4, gateway6;            // port 0
        struct abi_addr announce[CONFIG_MAX_ANNOUNCE]; // port 0
        uint8_t mac[6];
        struct config_listen listen[2 * CONFIG_MAX_LISTEN];
        uint32_t listen_count;
        uint32_t codec_mask; // bit (1 << enum codec)
        char operator_path[108];
        struct {
            struct abi_addr address, media4, media6; // family 0: none
            struct abi_addr listen;
        } partner;
    } parsed;
};

// Called for each problem found: `line` counts from 1 (0: the file as a whole, or none of the
// key's section is in it), `key` is a dotted
// path such as "http.listen" ("" if none), `reason` a sentence without a full stop.
typedef void (*config_report)(void *opaque, int line, const char *key, const char *reason);

// Reads FILE and fills what it leaves out with defaults; an empty file is all defaults. Returns 0
// and a configuration to be freed with config_free, or a negative errno after reporting every
// problem found. `path` NULL: the defaults alone.
int config_load(const char *path, struct config **out, config_report report, void *opaque);
void config_free(struct config *config);

// The dataplane's part. `abi` is overwritten.
void config_to_abi(const struct config *config, struct abi_config *abi);

// Calls `visit` for each key that the file may hold, as a dotted path, with its default as text.
void config_each_key(void (*visit)(void *opaque, const char *key, const char *def), void *opaque);

#endif
