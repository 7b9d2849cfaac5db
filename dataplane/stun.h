// STUN as ICE uses it: parse, authenticate and answer connectivity checks, and make them.
//
// Pure: bytes in, values out; any thread, nothing shared, no allocation. RFC 8489 (and 5389, its
// predecessor on the wire), RFC 8445 section 7; short-term credentials with MESSAGE-INTEGRITY
// (HMAC-SHA1) as browsers use them. MESSAGE-INTEGRITY-SHA256 is let pass and not verified.
#ifndef HITLESS_STUN_H
#define HITLESS_STUN_H

#include "abi/abi.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STUN_HEADER 20
#define STUN_ID_LEN 12
#define STUN_USERNAME_MAX 513 // RFC 5389 15.3
#define STUN_UNKNOWN_MAX 8    // unknown attributes that we name in a 420
#define STUN_SUCCESS_MAX 76   // bytes of a success response: 64 over IPv4, 76 over IPv6

enum stun_type {
    STUN_BINDING_REQUEST = 0x0001,
    STUN_BINDING_INDICATION = 0x0011,
    STUN_BINDING_SUCCESS = 0x0101,
    STUN_BINDING_ERROR = 0x0111,
};

enum stun_error {
    STUN_BAD_REQUEST = 400,
    STUN_UNAUTHENTICATED = 401,
    STUN_UNKNOWN_ATTRIBUTE = 420,
    STUN_ROLE_CONFLICT = 487, // RFC 8445 7.3.1.1
};

enum stun_role { STUN_ROLE_NONE, STUN_ROLE_CONTROLLED, STUN_ROLE_CONTROLLING };

// A message whose format is right. Points into the datagram. Only what stands before
// MESSAGE-INTEGRITY is in here, so that stun_check_integrity vouches for all of it.
struct stun_msg {
    const uint8_t *data;
    uint16_t length;
    uint16_t type;           // enum stun_type, or another
    uint16_t integrity;      // offset of the MESSAGE-INTEGRITY attribute; 0: none
    uint16_t fingerprint;    // offset of the FINGERPRINT attribute; 0: none
    const uint8_t *id;       // transaction id, STUN_ID_LEN bytes
    const uint8_t *username; // NULL: none; not NUL-terminated
    uint16_t username_length;
    uint16_t error; // ERROR-CODE, 300..699; 0: none
    bool has_priority;
    bool use_candidate;
    uint8_t role; // enum stun_role of the sender
    uint8_t unknown_count;
    uint16_t unknown[STUN_UNKNOWN_MAX]; // comprehension-required attributes that we do not know
    uint32_t priority;
    uint64_t tiebreaker;    // with role
    struct abi_addr mapped; // XOR-MAPPED-ADDRESS; family 0: none
};

// Parses one datagram, which must be one message. 0 or -EBADMSG.
int stun_parse(const uint8_t *data, size_t length, struct stun_msg *msg);

// Whether the message has a FINGERPRINT (ICE demands one, RFC 8445 7.1.2) and it is right.
bool stun_check_fingerprint(const struct stun_msg *msg);

// An HMAC-SHA1 key, half computed: SHA-1's state after the key's inner and outer pads. As secret
// as the password itself.
struct stun_key {
    uint32_t inner[5];
    uint32_t outer[5];
};
// `password`: the ICE password of the agent that receives the requests (SASLprep is the caller's).
void stun_key_init(struct stun_key *key, const void *password, size_t length);

// Whether the message has a MESSAGE-INTEGRITY and it is right. Takes the same time either way.
bool stun_check_integrity(const struct stun_msg *msg, const struct stun_key *key);

// USERNAME of a check is "receiver's ufrag:sender's ufrag" (RFC 8445 7.2.2). False without a colon.
bool stun_split_username(const struct stun_msg *msg, const char **receiver, size_t *receiver_length,
                         const char **sender, size_t *sender_length);

// A transaction id that nobody foresees who does not know `secret`: the first bytes of the
// HMAC-SHA1 of what it stands for, at most STUN_ID_ABOUT bytes.
#define STUN_ID_ABOUT 64
#define STUN_ID_SECRET 8
void stun_make_id(const struct stun_key *secret, const void *about, size_t length,
                  uint8_t id[STUN_ID_SECRET]);

// Writers return the message's length, or 0 if it does not fit `size`. MESSAGE-INTEGRITY (unless
// `key` is NULL) and FINGERPRINT come last. Nothing optional is sent: no SOFTWARE, no reason
// phrases.

// Binding success response to transaction `id` from `mapped`.
size_t stun_write_success(uint8_t *buf, size_t size, const uint8_t *id,
                          const struct abi_addr *mapped, const struct stun_key *key);

// Binding error response to `request`; UNKNOWN_ATTRIBUTE lists request->unknown.
size_t stun_write_error(uint8_t *buf, size_t size, const struct stun_msg *request,
                        enum stun_error code, const struct stun_key *key);

struct stun_check {
    uint8_t id[STUN_ID_LEN]; // random
    const char *username;    // NULL: none
    size_t username_length;  // <= STUN_USERNAME_MAX
    uint32_t priority;       // 0: none
    enum stun_role role;     // ours
    uint64_t tiebreaker;
    bool use_candidate;
};
// Binding request: a connectivity check, or a consent or keep-alive check (RFC 7675).
size_t stun_write_request(uint8_t *buf, size_t size, const struct stun_check *check,
                          const struct stun_key *key);

#endif
