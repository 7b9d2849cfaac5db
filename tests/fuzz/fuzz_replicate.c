// libFuzzer target: frames of a partner, cut out of a byte stream as the link does, each byte of a
// frame that was accepted touched by what reads it.
#include "../../controlplane/replicate_wire.h"
#include <string.h>

static volatile size_t seen; // what was read must not be optimised away

static void read_frame(const union wire_frame *f)
{
    char why[200];
    if (f->head.type == WIRE_HELLO)
        wire_check_hello(&f->hello, "b", why, sizeof(why));
    else if (f->head.type == WIRE_SESSION)
        seen += strlen(f->session.record.token) + strlen(f->session.record.etag) +
                strlen(f->session.record.client) + strlen(f->session.record.stream);
    else if (f->head.type == WIRE_STREAM)
        for (unsigned t = 0; t < f->stream.record.tracks.count; t++)
            seen += strlen(f->stream.record.tracks.fmtp[t].text);
    else if (f->head.type == WIRE_PATCH)
        seen += strlen(f->patch.token.text) + strlen(f->patch.if_match) +
                (unsigned char)f->patch.text[f->patch.size - 1];
    else if (f->head.type == WIRE_PATCHED)
        seen += strlen(f->patched.etag) + strlen(f->patched.reason) +
                strnlen(f->patched.text, f->patched.size);
    else if (f->head.type == WIRE_REFUSED)
        seen += strlen(f->refused.token.text) + strlen(wire_refusal_text(f->refused.why));
    else if (f->head.type == WIRE_DTLS || f->head.type == WIRE_DTLS_SEND)
        seen += f->dtls.data[f->dtls.size - 1];
    wire_name(f->head.type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        union wire_frame f;
        int length = wire_length(data, size);
        if (length <= 0 || (size_t)length > size)
            return 0;
        memset(&f, 0xa5, sizeof(f));
        memcpy(&f, data, (size_t)length);
        if (wire_check(&f.head) == 0)
            read_frame(&f);
        data += length;
        size -= (size_t)length;
    }
    return 0;
}
