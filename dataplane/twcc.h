// Transport-wide congestion control feedback: what arrived when, told to the sender.
//
// Pure: values and bytes in and out; any thread. draft-holmer-rmcat-transport-wide-cc-extensions-01
// (RTPFB format 15). The receiver's record is bounded: of packets more than TWCC_WINDOW numbers
// behind the highest nothing is said, which a sender takes as unknown. A packet that arrives after
// it was reported lost is reported again with its neighbours, as libwebrtc does.
#ifndef HITLESS_TWCC_H
#define HITLESS_TWCC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TWCC_WINDOW 1024 // sequence numbers, a power of two
#define TWCC_TICK_NS 250000
#define TWCC_REFERENCE_NS 64000000
#define TWCC_WRAP_NS ((INT64_C(1) << 24) * TWCC_REFERENCE_NS) // of the reference time: 12.4 days
#define TWCC_OVERHEAD 20 // bytes of a feedback packet before its chunks

// What one receiver knows of one transport's packets. 8 KiB.
struct twcc_receiver {
    uint64_t arrival[TWCC_WINDOW]; // ns by extended number; 0: not here
    uint64_t next;                 // the next feedback starts here
    uint64_t highest;              // extended number
    bool started;
    uint8_t feedback_count;
};

// Notes a packet (zeroed receiver to begin with). `arrival_ns`: any monotonic clock. Call it only
// for authenticated packets.
void twcc_receive(struct twcc_receiver *receiver, uint16_t seq, uint64_t arrival_ns);

// Whether there is anything that no feedback has told yet.
bool twcc_pending(const struct twcc_receiver *receiver);

// Appends one feedback packet at `length` (a multiple of 4) of a buffer of `size` bytes. Returns
// the new length, or 0 if nothing is pending or there is no room for even one status. One packet
// need not hold everything: call again while twcc_pending.
size_t twcc_write(struct twcc_receiver *receiver, uint8_t *buf, size_t size, size_t length,
                  uint32_t sender_ssrc, uint32_t media_ssrc);

// The sender's side: reads the FCI of a feedback packet (struct rtcp_feedback of rtcp.h).
struct twcc_reader {
    const uint8_t *chunk, *delta;
    uint16_t seq;
    uint16_t left;    // statuses not yet given out
    uint16_t symbols; // of the current chunk, not yet given out
    uint16_t bits;    // the current chunk
    uint8_t feedback_count;
    int64_t time_ns;
};

struct twcc_status {
    uint16_t seq;
    bool received;
    int64_t arrival_ns; // receiver's clock, modulo TWCC_WRAP_NS but for deltas; in TWCC_TICK_NS
};

// Checks the whole of it first, so that reading cannot fail. 0 or -EBADMSG.
int twcc_read_begin(struct twcc_reader *reader, const uint8_t *fci, size_t length);
bool twcc_read_next(struct twcc_reader *reader, struct twcc_status *status);

#endif
