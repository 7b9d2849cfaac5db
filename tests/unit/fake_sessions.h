// Stands in for session.c in tests of what only reads the set: two streams and their sessions, in a
// real channel. Included by one file of a test program.
#ifndef HITLESS_FAKE_SESSIONS_H
#define HITLESS_FAKE_SESSIONS_H

#include "../../controlplane/session.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct session_info fake_session[4000];
static size_t fake_sessions;
static struct stream_info fake_stream[2];
static const char *fake_closed; // token of the last session that was closed
static struct stats_session *fake_session_stats;
static struct stats_stream *fake_stream_stats;

void sessions_each(struct sessions *sessions, void (*visit)(const struct session_info *, void *),
                   void *opaque)
{
    for (size_t i = 0; i < fake_sessions; i++)
        visit(&fake_session[i], opaque);
}

void streams_each(struct sessions *sessions, void (*visit)(const struct stream_info *, void *),
                  void *opaque)
{
    for (size_t i = 0; i < 2; i++)
        visit(&fake_stream[i], opaque);
}

struct session *session_find(struct sessions *sessions, const char *token)
{
    for (size_t i = 0; i < fake_sessions; i++)
        if (strcmp(fake_session[i].token, token) == 0)
            return (struct session *)&fake_session[i];
    return NULL;
}

void session_close(struct session *session, enum session_end why)
{
    fake_closed = ((struct session_info *)session)->token;
}

static uint32_t fake_stall_ms; // of the last hang that was asked for

int sessions_stall_worker(struct sessions *sessions, uint32_t ms)
{
    fake_stall_ms = ms;
    return 0;
}

struct fake_node {
    char dir[64];
    struct channel cp, dp;
};

static void fake_fill(struct fake_node *node)
{
    fake_session_stats = channel_session_stats(&node->dp, 0, 0);
    fake_stream_stats = channel_stream_stats(&node->dp, 0);
    *fake_session_stats = (struct stats_session){
        .id = 1,
        .packets_out = 1000,
        .bytes_out = 1000000,
        .bitrate = 1200000,
        .rtt_us = 12300,
        .loss_permille = 4,
        .nacks = 7,
        .last_heard_ns = 999000000,
        .remote = {.ip = {192, 0, 2, 7}, .port = 50000, .family = 4},
    };
    *fake_stream_stats =
        (struct stats_stream){.id = 1, .packets = 5000, .bytes = 6000000, .keyframes = 9};
    fake_stream[0] = (struct stream_info){.name = "zoo", .viewers = 0};
    fake_stream[1] = (struct stream_info){.name = "demo",
                                          .live = true,
                                          .audio = "opus",
                                          .video = "VP8",
                                          .viewers = 1,
                                          .since_ms = 1000,
                                          .stats = fake_stream_stats};
    fake_session[0] = (struct session_info){.token = "aaaabbbbccccddddeeeeffffgggghhhh",
                                            .stream = "demo",
                                            .client = "192.0.2.7",
                                            .role = ROLE_PLAY,
                                            .phase = PHASE_MEDIA,
                                            .profile = PROFILE_AEAD_AES_128_GCM,
                                            .protection = "active",
                                            .created_ms = 3000,
                                            .stats = fake_session_stats};
    fake_session[1] = (struct session_info){.token = "aaaazzzzccccddddeeeeffffgggghhhh",
                                            .stream = "demo",
                                            .client = "2001:db8::1",
                                            .role = ROLE_PUBLISH,
                                            .phase = PHASE_NEW,
                                            .protection = "none",
                                            .created_ms = 4000};
    fake_sessions = 2;
    fake_closed = NULL;
}

static int fake_setup(struct fake_node *node)
{
    struct abi_config config = {.node = "a", .workers = 2, .max_sessions = 3, .max_streams = 2};
    char why[256];
    bool changed;
    snprintf(node->dir, sizeof(node->dir), "/tmp/hitless-node-XXXXXX");
    if (mkdtemp(node->dir) == NULL ||
        channel_create(&node->cp, node->dir, &config, &changed, why, sizeof(why)) != 0 ||
        channel_open(&node->dp, node->dir, why, sizeof(why)) != 0)
        return -1;
    fake_fill(node);
    return 0;
}

static void fake_teardown(struct fake_node *node)
{
    static const char *const files[] = {"channel", "bell.controlplane", "bell.dataplane"};
    channel_close(&node->cp);
    channel_close(&node->dp);
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", node->dir, files[i]);
        unlink(path);
    }
    rmdir(node->dir);
}

#endif
