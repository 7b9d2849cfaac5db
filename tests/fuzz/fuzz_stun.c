// Fuzz target: STUN. What parses points into the message, nothing authenticates under a key that it
// was not made with, and our answers to it parse and authenticate.
#include "../../dataplane/stun.h"
#include <stdlib.h>
#include <string.h>

static void must(bool truth)
{
    if (!truth)
        abort();
}

static void check_answer(const uint8_t *answer, size_t length, const struct stun_msg *msg,
                         const struct stun_key *key)
{
    struct stun_msg parsed;

    must(length > 0 && stun_parse(answer, length, &parsed) == 0);
    must(stun_check_integrity(&parsed, key) && stun_check_fingerprint(&parsed));
    must(memcmp(parsed.id, msg->id, STUN_ID_LEN) == 0);
}

static void check_view(const uint8_t *data, size_t size, const struct stun_msg *msg)
{
    const char *receiver, *sender;
    size_t receiver_length, sender_length;

    must(msg->length == size && msg->id == data + 8);
    must(msg->integrity + 24u <= size || msg->integrity == 0);
    must(msg->fingerprint == 0 || msg->fingerprint + 8u == size);
    must(msg->unknown_count <= STUN_UNKNOWN_MAX);
    if (msg->username != NULL)
        must(msg->username >= data && msg->username + msg->username_length <= data + size);
    if (stun_split_username(msg, &receiver, &receiver_length, &sender, &sender_length))
        must(receiver_length + 1 + sender_length == msg->username_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stun_msg msg;
    struct stun_key key, other;
    uint8_t answer[128];

    if (stun_parse(data, size, &msg) != 0)
        return 0;
    check_view(data, size, &msg);
    stun_key_init(&key, "VOkJxbRl1RmTxUk/WvJxBt", 22); // RFC 5769's, as the corpus was made
    stun_key_init(&other, "of nobody", 9);
    bool right = stun_check_integrity(&msg, &key);
    must(!right || msg.integrity != 0);
    must(!stun_check_integrity(&msg, &other));
    stun_check_fingerprint(&msg);

    check_answer(answer,
                 stun_write_error(answer, sizeof(answer), &msg, STUN_UNKNOWN_ATTRIBUTE, &key), &msg,
                 &key);
    const struct abi_addr addr = {.port = msg.type, .family = size & 1 ? 4 : 6};
    check_answer(answer, stun_write_success(answer, sizeof(answer), msg.id, &addr, &key), &msg,
                 &key);
    return 0;
}
