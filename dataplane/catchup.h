// A viewer's first pictures. What a new viewer of a video track needs is in the stream's ring: the
// last key frame and what came after it. Once a viewer has its keys it is sent the ring from there
// on, in order and SPEED times as fast as it once arrived, until it is level with the others; so
// its first picture waits for no fresh key frame. A packet gets the very index and bytes that it
// would have had if the viewer had been there in time.
//
// Where the ring has no key frame that is young enough, the publisher is asked for one, as soon as
// the session is opened: it comes while the client still checks addresses and shakes hands.
#ifndef HITLESS_CATCHUP_H
#define HITLESS_CATCHUP_H

#include "worker.h"

#define CATCHUP_FRESH_NS 1000000000 // at the opening: asks for a key frame if the last one is older
#define CATCHUP_BACK_NS 2000000000  // a longer way is not worth it
#define CATCHUP_BACK INDEX_SPARE    // packets: see tables.h
#define CATCHUP_SPEED 4

// A viewer's session was opened: sees to it that there is a key frame to begin with.
void catchup_prepare(struct worker *worker, const struct session *session);

// A viewer has its keys: begins with each video track that it has had nothing of, or, where that
// cannot be, asks for a key frame.
void catchup_begin(struct worker *worker, struct session *session);

// Every turn, after the fan-out: sends what is due. Returns the number of packets.
unsigned catchup_turn(struct worker *worker);

#endif
