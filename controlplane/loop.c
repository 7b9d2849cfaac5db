// The control plane's loop; see loop.h.
#include "loop.h"
#include "auth.h"
#include "files.h"
#include "http.h"
#include "http_api.h"
#include "operator.h"
#include "replicate.h"
#include "session.h"
#include "whip.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define SIGNALS 4
#define DRAIN_MS 200 // for the dataplane to confirm that every session has ended
#define DRAIN_LOOK_MS 5

struct loop {
    const struct config *config;
    const char *path; // of the configuration, or NULL
    uv_loop_t uv;
    uv_signal_t signals[SIGNALS];
    uv_timer_t watchdog, drain;
    uint64_t drain_end_ms; // of the loop's clock
    int lock;              // held while we run: one control plane for a runtime_dir
    struct channel channel;
    bool channel_open, stopping;
    struct sessions *sessions;
    struct replicate *replicate; // NULL without a partner
    struct api *api;
    struct http_api http_api;
    struct operator_server *socket;
    struct auth *auth;
    struct http *http;
    struct whip *whip;
};

static int make_dirs(const char *path)
{
    char part[128];
    snprintf(part, sizeof(part), "%s", path);
    for (char *p = strchr(part + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return mkdir(part, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

// The runtime folder is ours alone, but that the operator's group may pass through to its socket.
static int open_dir(struct loop *loop, char *why, size_t why_size)
{
    const char *dir = loop->config->runtime_dir;
    const struct group *group =
        *loop->config->operator.group ? getgrnam(loop->config->operator.group) : NULL;
    char lock[160];
    struct stat st;
    int rc = make_dirs(dir);
    if (rc < 0) {
        snprintf(why, why_size, "cannot make %s: %s%s", dir, strerror(-rc),
                 geteuid() != 0 ? "; run as root" : "");
        return rc;
    }
    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
        snprintf(why, why_size, "%s is not a folder of our own", dir);
        return -EPERM;
    }
    // It holds the keys of every session.
    struct statfs fs;
    if (statfs(dir, &fs) < 0 || (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)) {
        snprintf(why, why_size,
                 "%s is not on tmpfs, and keys must not get to a disk: mount one there, or name a "
                 "folder on tmpfs as runtime_dir",
                 dir);
        return -EINVAL;
    }
    if ((group && chown(dir, (uid_t)-1, group->gr_gid) < 0) ||
        chmod(dir, group ? 0710 : 0700) < 0) {
        snprintf(why, why_size, "cannot set the rights of %s: %s", dir, strerror(errno));
        return -errno;
    }
    snprintf(lock, sizeof(lock), "%s/controlplane.lock", dir);
    loop->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (loop->lock < 0 || flock(loop->lock, LOCK_EX | LOCK_NB) < 0) {
        snprintf(why, why_size, "%s: %s", lock,
                 errno == EWOULDBLOCK ? "another control plane runs here" : strerror(errno));
        return -errno;
    }
    return 0;
}

static int open_channel(struct loop *loop, char *why, size_t why_size)
{
    struct abi_config abi;
    bool changed = false;
    config_to_abi(loop->config, &abi);
    int rc =
        channel_create(&loop->channel, loop->config->runtime_dir, &abi, &changed, why, why_size);
    if (rc < 0)
        return rc;
    uint64_t epoch;
    bool ready;
    loop->channel_open = true;
    if (changed && channel_peer(&loop->channel, uv_hrtime(), &epoch, &ready) == PEER_ALIVE)
        log_warning("loop: the running dataplane has another configuration; it takes this one "
                    "when it starts again");
    return 0;
}

static void report(void *opaque, int line, const char *key, const char *reason)
{
    log_warning("%s:%d: %s%s%s", (const char *)opaque, line, key, *key ? ": " : "", reason);
}

// SIGHUP: what may change without a restart. A file with a problem changes nothing.
static void reload(struct loop *loop)
{
    struct config *config;
    struct auth *auth;
    char why[256] = "";
    sd_notify(0, "RELOADING=1");
    if (config_load(loop->path, &config, report, (void *)loop->path) == 0) {
        if (auth_new(&auth, config, why, sizeof(why)) == 0) {
            auth_free(loop->auth);
            loop->auth = auth;
            log_level(config->log);
            log_info("loop: tokens and keys read again");
        } else {
            log_warning("loop: tokens and keys stay as they are: %s", why);
        }
        config_free(config);
    }
    http_reload(loop->http);
    replicate_reload(loop->replicate);
    sd_notify(0, "READY=1");
}

static void stop(struct loop *loop)
{
    if (loop->stopping)
        return;
    loop->stopping = true;
    log_info("loop: stopping");
    sd_notify(0, "STOPPING=1");
    uv_stop(&loop->uv);
}

static void on_drain(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    if (sessions_all_closed(loop->sessions) || uv_now(&loop->uv) >= loop->drain_end_ms)
        stop(loop);
}

// Ends every session, says so to the clients, and then stops.
static void end_sessions(struct loop *loop)
{
    if (loop->stopping || loop->sessions == NULL || uv_is_active((uv_handle_t *)&loop->drain))
        return;
    log_info("loop: ending all sessions");
    sessions_end_all(loop->sessions, END_SHUTDOWN);
    uv_update_time(&loop->uv);
    loop->drain_end_ms = uv_now(&loop->uv) + DRAIN_MS;
    uv_timer_start(&loop->drain, on_drain, 0, DRAIN_LOOK_MS);
}

static void on_signal(uv_signal_t *handle, int number)
{
    if (number == SIGHUP)
        reload(handle->data);
    else if (number == SIGQUIT)
        end_sessions(handle->data);
    else
        stop(handle->data);
}

static void on_watchdog(uv_timer_t *timer)
{
    sd_notify(0, "WATCHDOG=1");
}

static void watch(struct loop *loop)
{
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    uint64_t interval_us = 0;
    for (int i = 0; i < SIGNALS; i++) {
        loop->signals[i].data = loop;
        uv_signal_init(&loop->uv, &loop->signals[i]);
        uv_signal_start(&loop->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&loop->uv, &loop->watchdog);
    uv_timer_init(&loop->uv, &loop->drain);
    loop->drain.data = loop;
    if (sd_watchdog_enabled(0, &interval_us) > 0) {
        uint64_t period = interval_us / 2000; // half of it, in milliseconds
        uv_timer_start(&loop->watchdog, on_watchdog, period, period);
    }
}

static int start_http(struct loop *loop, char *why, size_t why_size)
{
    loop->http_api = (struct http_api){loop->config, &loop->channel, loop->api};
    int rc = http_new(&loop->http, &loop->uv, loop->config, why, why_size);
    if (rc == 0)
        rc = whip_new(&loop->whip, loop->http, loop->sessions, &loop->auth);
    if (rc == 0)
        rc = http_api_add(loop->http, &loop->http_api);
    if (rc == 0)
        rc = files_add(loop->http, loop->config->protection.partner.url);
    return rc;
}

static int start(struct loop *loop, char *why, size_t why_size)
{
    const struct config *config = loop->config;
    int rc = open_dir(loop, why, why_size);
    if (rc == 0)
        rc = open_channel(loop, why, why_size);
    if (rc == 0)
        rc = auth_new(&loop->auth, config, why, why_size);
    if (rc == 0)
        rc = sessions_new(&loop->sessions, &loop->uv, config, &loop->channel, why, why_size);
    if (rc == 0)
        rc = replicate_new(&loop->replicate, &loop->uv, config, loop->sessions, why, why_size);
    if (rc == 0)
        rc = api_new(&loop->api, &loop->channel, loop->sessions, uv_hrtime());
    if (rc == 0)
        api_set_pair(loop->api, &(struct api_pair){.replicate = loop->replicate,
                                                   .peers = replicate_peers,
                                                   .groups = replicate_groups,
                                                   .drain = replicate_drain,
                                                   .failback = replicate_failback,
                                                   .kill_test = config->operator.kill_test});
    if (rc == 0)
        rc = operator_new(&loop->socket, &loop->uv, config->parsed.operator_path,
                          config->operator.group, loop->api, why, why_size);
    if (rc == 0)
        rc = start_http(loop, why, why_size);
    return rc;
}

// Undoes start, also after a half-done one.
static void finish(struct loop *loop)
{
    for (int i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&loop->signals[i], NULL);
    uv_close((uv_handle_t *)&loop->watchdog, NULL);
    uv_close((uv_handle_t *)&loop->drain, NULL);
    replicate_free(loop->replicate); // answers those who wait for it
    http_free(loop->http);
    whip_free(loop->whip);
    operator_free(loop->socket);
    api_free(loop->api);
    sessions_free(loop->sessions);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&loop->uv);
    if (rc < 0)
        log_warning("loop: something still runs: %s", uv_strerror(rc));
    auth_free(loop->auth);
    if (loop->channel_open)
        channel_close(&loop->channel);
    if (loop->lock >= 0)
        close(loop->lock);
}

int loop_run(const struct config *config, const char *path)
{
    struct loop loop = {.config = config, .path = path, .lock = -1};
    char why[512] = "";
    int rc = uv_loop_init(&loop.uv);
    if (rc < 0) {
        log_error("loop: %s", uv_strerror(rc));
        return rc;
    }
    watch(&loop);
    rc = start(&loop, why, sizeof(why));
    if (rc == 0) {
        log_info("loop: node %s ready in %s", config->node, config->runtime_dir);
        sd_notify(0, "READY=1");
        uv_run(&loop.uv, UV_RUN_DEFAULT);
    } else {
        log_error("cannot start: %s", *why ? why : strerror(-rc));
    }
    finish(&loop);
    return rc;
}
