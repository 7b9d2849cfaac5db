// A track's index spaces: where it begins in one, whether its publisher may go on in it, and what
// becomes of its viewers' numbers when it goes on in another. For ingest.c.
#ifndef HITLESS_INGEST_SPACE_H
#define HITLESS_INGEST_SPACE_H

#include "ingest.h"

// Where a track begins that nobody here has numbered, or nobody knows how far another has.
uint64_t ingest_first_index(void);

// The stream has another publisher: whether its numbers can go on behind the last one's is decided.
void ingest_next_publisher(const struct worker *worker, struct stream *stream);

// A partner in sight that gives nothing for a while has nothing: numbers that were its are ours
// again.
bool ingest_is_alone(const struct worker *worker, const struct stream *stream);

// Whether the publisher's next packet may go on so far. Numbers that are dropped have gone on, too;
// so far behind that no pause makes up for it, the publisher ends: it may come again, with others.
bool ingest_may_advance(const struct worker *worker, struct session *session,
                        const struct stream *stream, struct track *track, uint64_t index);

// Puts a copy into the track's ring, in its space. What the ring does not take is not sent to
// anybody: it is what tells that a packet has been sent before. False: it was freed, and counted.
bool ingest_keep(struct worker *worker, struct track *track, struct rte_mbuf *m);

#endif
