// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// The far side of the benchmarks' veth pair: counts every frame and drops it. While `measure` is
// set, it also looks up when the publisher's packet left, by the RTP timestamp of the viewer's
// (both stand in the clear), and counts the difference by microseconds, in all and for the slice of
// the measurement that `measure` names (from 1).
#include <linux/bpf.h>
// The helpers need the types above.
#include "far.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define RTP_AT (14 + 20 + 8) // Ethernet, IPv4 without options, UDP

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, FAR_COUNTS);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, FAR_BUCKETS);
    __type(key, __u32);
    __type(value, __u64);
} latency SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, FAR_SLICES *FAR_FINE);
    __type(key, __u32);
    __type(value, __u64);
} slices SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, FAR_SENT);
    __type(key, __u32);
    __type(value, __u64);
} sent SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} measure SEC(".maps");

static void count(__u32 what)
{
    __u64 *value = bpf_map_lookup_elem(&counts, &what);
    if (value)
        (*value)++;
}

static void measure_latency(const __u8 *rtp, __u32 slice)
{
    __u64 now = bpf_ktime_get_ns();
    __u32 at = bpf_ntohl(*(const __u32 *)(rtp + 4)) % FAR_SENT;
    __u64 *left = bpf_map_lookup_elem(&sent, &at);
    if (!left || !*left)
        return;
    __u64 us = now > *left ? (now - *left) / 1000 : 0;
    __u32 bucket = us < FAR_BUCKETS ? us : FAR_BUCKETS - 1;
    __u64 *value = bpf_map_lookup_elem(&latency, &bucket);
    if (value)
        (*value)++;
    bucket = (slice - 1) * FAR_FINE + (us < FAR_FINE ? us : FAR_FINE - 1);
    value = bpf_map_lookup_elem(&slices, &bucket);
    if (value)
        (*value)++;
}

SEC("xdp")
int hitless_far(struct xdp_md *ctx)
{
    const __u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    __u32 zero = 0, *on = bpf_map_lookup_elem(&measure, &zero);
    if (data + RTP_AT + 12 > end) {
        count(FAR_SHORT);
        return XDP_DROP;
    }
    // RTP, not RTCP (RFC 5761 4).
    __u8 type = data[RTP_AT + 1];
    if ((data[RTP_AT] & 0xc0) != 0x80 || (type >= 192 && type <= 223)) {
        count(FAR_OTHER);
        return XDP_DROP;
    }
    count(FAR_RTP);
    if (on && *on)
        measure_latency(data + RTP_AT, *on);
    return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
