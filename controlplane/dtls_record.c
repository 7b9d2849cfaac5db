#include "dtls_record.h"
#include <string.h>

#define RECORD_HEAD 13
#define MESSAGE_HEAD 12
#define MESSAGE_MAX 0x10000 // far beyond any certificate chain that we would look at
#define SEQUENCE_MAX 32     // messages of one handshake, twice over

enum { CHANGE_CIPHER_SPEC = 20, ALERT, HANDSHAKE };
enum { WARNING = 1, FATAL };

// Handshake messages that each side sends before its Finished, which is encrypted.
#define BIT(type) (UINT32_C(1) << (type))
#define CLIENTS (BIT(1) | BIT(11) | BIT(15) | BIT(16))
#define SERVERS                                                                                    \
    (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(22))

static uint32_t load24(const uint8_t *p)
{
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

// A row of whole fragments.
static bool is_handshake(const uint8_t *body, size_t size, bool from_client)
{
    uint32_t types = from_client ? CLIENTS : SERVERS;
    while (size >= MESSAGE_HEAD) {
        uint32_t length = load24(body + 1), at = load24(body + 6), part = load24(body + 9);
        if (body[0] > 31 || !(types & BIT(body[0])) || body[4] != 0 || body[5] > SEQUENCE_MAX ||
            length > MESSAGE_MAX || at + part > length || part > size - MESSAGE_HEAD ||
            (part == 0 && length != 0))
            return false;
        body += MESSAGE_HEAD + part;
        size -= MESSAGE_HEAD + part;
        if (size == 0)
            return true;
    }
    return false;
}

static bool is_sound(uint8_t type, const uint8_t *body, size_t size, bool from_client)
{
    switch (type) {
    case CHANGE_CIPHER_SPEC:
        return size == 1 && body[0] == 1;
    case ALERT:
        return size == 2 && (body[0] == WARNING || body[0] == FATAL);
    case HANDSHAKE:
        return is_handshake(body, size, from_client);
    default:
        return false;
    }
}

size_t dtls_record_sift(const uint8_t *datagram, size_t size, bool from_client, uint8_t *out)
{
    size_t kept = 0;
    while (size >= RECORD_HEAD) {
        size_t body = (size_t)datagram[11] << 8 | datagram[12], whole = RECORD_HEAD + body;
        bool first_epoch = datagram[3] == 0 && datagram[4] == 0;
        if (whole > size)
            break;
        // DTLS 1.0's number stands in a first ClientHello.
        bool dtls = datagram[1] == 0xfe && (datagram[2] == 0xfd || datagram[2] == 0xff);
        if (dtls &&
            (!first_epoch || is_sound(datagram[0], datagram + RECORD_HEAD, body, from_client))) {
            memcpy(out + kept, datagram, whole);
            kept += whole;
        }
        datagram += whole;
        size -= whole;
    }
    return kept;
}
