// Fuzz target: DTLS records. The first byte says whose datagram it is. What is kept are whole
// records of it, in order, and sifting that again keeps all of it; cut off behind any record it
// keeps the same ones.
#include "../../controlplane/dtls_record.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 13

static void must(bool truth)
{
    if (!truth)
        abort();
}

static size_t record_size(const uint8_t *record)
{
    return HEAD + ((size_t)record[11] << 8 | record[12]);
}

// Each record of `kept` stands in `data`, after the one before.
static void check_order(const uint8_t *data, size_t size, const uint8_t *kept, size_t length)
{
    size_t at = 0;
    for (size_t i = 0; i < length; i += record_size(kept + i)) {
        must(length - i >= HEAD && length - i >= record_size(kept + i));
        size_t whole = record_size(kept + i);
        must(kept[i + 1] == 0xfe);
        while (at + whole <= size && memcmp(data + at, kept + i, whole) != 0)
            at += record_size(data + at);
        must(at + whole <= size);
        at += whole;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool from_client = data[0] & 1;
    data++;
    size--;
    // Exactly as large as it is said to need to be, for the sanitizer to see.
    uint8_t *kept = malloc(size + !size), *again = malloc(size + !size);
    must(kept && again);
    size_t length = dtls_record_sift(data, size, from_client, kept);
    must(length <= size);
    check_order(data, size, kept, length);
    must(dtls_record_sift(kept, length, from_client, again) == length);
    must(memcmp(kept, again, length) == 0);
    for (size_t at = 0; size - at >= HEAD && size - at >= record_size(data + at);) {
        at += record_size(data + at);
        size_t part = dtls_record_sift(data, at, from_client, again);
        must(part <= length && memcmp(kept, again, part) == 0);
    }
    free(kept);
    free(again);
    return 0;
}
