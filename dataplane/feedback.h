// RTCP from clients, and what it makes us do: resend, ask for key frames, keep statistics.
// RFC 3550, 4585, 5104, 5506.
#ifndef HITLESS_FEEDBACK_H
#define HITLESS_FEEDBACK_H

#include "worker.h"

// Takes an SRTCP packet from a session's validated address.
void feedback_rtcp(struct worker *worker, struct session *session, const uint8_t *packet,
                   size_t length);

// The same, opened: the client has sent it to the partner, which passes on what it does not serve.
// No more than that: what a partner makes up of it is not to cost the client its own requests.
void feedback_passed(struct worker *worker, struct session *session, const uint8_t *rtcp,
                     size_t size);

// Sends what was asked for again in this turn: key frames and sound first, then what other pictures
// are decoded from, then the rest; so when a budget runs short, it is for what matters least.
void feedback_answer(struct worker *worker);

// Seals `length` bytes of compound RTCP at `packet` (which has PROTECT_RTCP_ROOM bytes more) and
// sends it to the session. 0 or a negative errno.
int feedback_send(struct worker *worker, struct session *session, uint8_t *packet, size_t length);

// Sender reports for each track of a viewer; about once a second.
void feedback_report(struct worker *worker, struct session *session);

// BYE for a viewer's tracks, before its session is forgotten.
void feedback_bye(struct worker *worker, struct session *session);

#endif
