// A debugging aid: remembers what every (key, SSRC, index) has protected and finds a repeat with
// other bytes, which would be a keystream used twice. protect.c calls it when built with
// -DPROTECT_AUDIT and then aborts the process on a repeat. One store per process, any thread,
// grows without bound.
#ifndef HITLESS_PROTECT_AUDIT_H
#define HITLESS_PROTECT_AUDIT_H

#include "protect.h"

// Notes that a session key (32 bytes at `cipher`: the key, or its start and what expanding made
// of it) protected `size` sealed bytes at
// `index`. Returns 0, -EEXIST when the same place held other bytes, -ENOMEM.
int protect_audit_note(const uint8_t *cipher, uint32_t ssrc, uint64_t index, const uint8_t *bytes,
                       size_t size);
void protect_audit_reset(void);

// Called behind the sealing of one packet; abort on a repeat.
void protect_audit_rtp(const struct seal_job *job);
void protect_audit_rtcp(const struct protect_rtcp_tx *tx, uint32_t ssrc, uint32_t index,
                        const uint8_t *packet, size_t size);

#endif
