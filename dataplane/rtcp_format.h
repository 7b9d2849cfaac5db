// Lengths of RTCP packets and their parts, in bytes, for rtcp.c and rtcp_write.c.
#ifndef HITLESS_RTCP_FORMAT_H
#define HITLESS_RTCP_FORMAT_H

enum {
    HEAD = 4,
    SR_LEN = 28,
    RR_LEN = 8,
    BLOCK_LEN = 24,
    FEEDBACK_LEN = 12,
    FIR_LEN = 8,
};

#endif
