// Between streams.c and streams_tell.c.
#ifndef HITLESS_STREAMS_PRIVATE_H
#define HITLESS_STREAMS_PRIVATE_H

#include "journal.h"
#include "slots.h"
#include "streams.h"

#define FORWARD_UNKNOWN UINT32_MAX // no mask of workers: ABI_MAX_WORKERS is less than 32

struct streams {
    uint32_t workers;
    uint32_t buckets; // a power of two
    streams_send_fn send;
    void *opaque;
    struct journal *journal; // or NULL
    struct slots *slots;
    struct stream **by_slot;
    LIST_HEAD(all_streams, stream) all;
    uint64_t version;
    bool dirty; // some worker may not know what it should
    struct stream *bucket[];
};

// Puts the stream into the journal, if there is one.
void streams_save(struct streams *streams, const struct stream *stream, enum journal_state state);
void streams_save_as_it_is(struct streams *streams, const struct stream *stream);

#endif
