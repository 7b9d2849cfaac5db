// Has ffmpeg (a child process) make the test picture and sound once, and keeps them in a cache
// folder of the user's own; has it repack foreign files.
//
// Runs before the load does, in the main thread; takes a few seconds the first time.
#include "media_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VERSION 1        // of what is made; part of the file names
#define MAKE_SECONDS 180 // for ffmpeg to finish
#define SECONDS "10"     // of a loop; a key frame every 2 s
#define ARGUMENTS_MAX 64

extern char **environ;

static const struct layer {
    const char *size, *bitrate;
} layers[MEDIA_LAYERS] = {{"640x360", "1000k"}, {"320x180", "300k"}, {"160x90", "100k"}};

// How each codec is encoded as a live encoder would: constant bit rate, no look-ahead, no B frames,
// key frames only where they are due.
static const struct recipe {
    enum codec codec;
    const char *name, *extension, *format;
    const char *options[24];
} recipes[] = {
    {CODEC_VP8,
     "vp8",
     "ivf",
     "ivf",
     {"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0",
      "-auto-alt-ref", "0", "-error-resilient", "1", "-threads", "2"}},
    {CODEC_VP9,
     "vp9",
     "ivf",
     "ivf",
     {"-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0",
      "-auto-alt-ref", "0", "-error-resilient", "1", "-row-mt", "1", "-threads", "2"}},
    {CODEC_AV1,
     "av1",
     "ivf",
     "ivf",
     {"-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0",
      "-error-resilience", "1", "-row-mt", "1", "-threads", "2"}},
    {CODEC_H264,
     "h264",
     "h264",
     "h264",
     {"-c:v", "libx264", "-profile:v", "baseline", "-level", "3.1", "-preset", "veryfast", "-tune",
      "zerolatency", "-bf", "0", "-sc_threshold", "0", "-x264-params",
      "sliced-threads=0:repeat-headers=1", "-threads", "2"}},
    {CODEC_OPUS,
     "opus",
     "ogg",
     "ogg",
     {"-c:a", "libopus", "-application", "audio", "-frame_duration", "20", "-ac", "2", "-ar",
      "48000", "-b:a", "48k"}},
};

static const struct recipe *find_recipe(enum codec codec)
{
    for (size_t i = 0; i < sizeof(recipes) / sizeof(recipes[0]); i++)
        if (recipes[i].codec == codec)
            return &recipes[i];
    return NULL;
}

struct arguments {
    const char *at[ARGUMENTS_MAX];
    unsigned count;
};

static void add(struct arguments *arguments, const char *const *list)
{
    for (; *list && arguments->count < ARGUMENTS_MAX - 1; list++)
        arguments->at[arguments->count++] = *list;
}
#define ADD(arguments, ...) add(arguments, (const char *const[]){__VA_ARGS__, NULL})

// The folder, made if need be. Nobody else may write there: the files are read back later.
static int cache_folder(char path[MEDIA_PATH], const char *cache, char error[MEDIA_ERROR])
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    struct stat state;
    int length;
    if (cache)
        length = snprintf(path, MEDIA_PATH, "%s", cache);
    else if (base && base[0] == '/')
        length = snprintf(path, MEDIA_PATH, "%s/hitless-bees", base);
    else if (home && home[0] == '/') {
        length = snprintf(path, MEDIA_PATH, "%s/.cache", home);
        if (length > 0 && length < MEDIA_PATH)
            mkdir(path, 0700); // may be there, or fail: the next one tells
        length = snprintf(path, MEDIA_PATH, "%s/.cache/hitless-bees", home);
    } else
        length = snprintf(path, MEDIA_PATH, "/tmp/hitless-bees-%u", (unsigned)geteuid());
    if (length < 0 || length > MEDIA_PATH / 2)
        return -ENAMETOOLONG;
    int rc = mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
    if (rc == 0 && lstat(path, &state) != 0)
        rc = -errno;
    if (rc == 0 && (!S_ISDIR(state.st_mode) || state.st_uid != geteuid() || state.st_mode & 022))
        rc = -EPERM;
    if (rc < 0)
        snprintf(error, MEDIA_ERROR, "cache folder %.120s: %s", path,
                 rc == -EPERM ? "not a folder that only we may write to" : strerror(-rc));
    return rc;
}

static int spawn(struct arguments *arguments, pid_t *child, int *errors)
{
    posix_spawn_file_actions_t actions;
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return -errno;
    arguments->at[arguments->count] = NULL;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc == 0) {
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
        rc = posix_spawnp(child, arguments->at[0], &actions, NULL, (char *const *)arguments->at,
                          environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    close(pipes[1]);
    if (rc != 0) {
        close(pipes[0]);
        return rc == ENOENT ? -ENOEXEC : -rc;
    }
    *errors = pipes[0];
    return 0;
}

static int64_t seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

// Keeps the start of what ffmpeg complains about; kills it when it takes too long.
static void listen_to(pid_t child, int errors, char text[MEDIA_ERROR])
{
    int64_t end = seconds_now() + MAKE_SECONDS;
    size_t length = 0;
    char rest[512];
    for (;;) {
        struct pollfd wait = {.fd = errors, .events = POLLIN};
        int ready = poll(&wait, 1, 1000);
        if (ready < 0 && errno != EINTR)
            break;
        if (ready <= 0) {
            if (seconds_now() < end)
                continue;
            kill(child, SIGKILL);
            break;
        }
        ssize_t got = read(errors, rest, sizeof(rest));
        if (got <= 0)
            break;
        for (ssize_t i = 0; i < got && length < MEDIA_ERROR - 1; i++)
            text[length++] = rest[i] >= ' ' && rest[i] < 127 ? rest[i] : ' ';
    }
    text[length] = '\0';
}

static int run(struct arguments *arguments, char error[MEDIA_ERROR])
{
    char text[MEDIA_ERROR];
    pid_t child = -1;
    int errors = -1, status = 0, rc = spawn(arguments, &child, &errors);
    if (rc < 0) {
        snprintf(error, MEDIA_ERROR, "ffmpeg: %s",
                 rc == -ENOEXEC ? "not installed" : strerror(-rc));
        return rc;
    }
    listen_to(child, errors, text);
    close(errors);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    snprintf(error, MEDIA_ERROR, "ffmpeg failed: %.180s", text[0] ? text : "no reason given");
    return -EINVAL;
}

// Runs ffmpeg towards a file of a unique name in the folder of `path`, which takes that name.
static int run_into(struct arguments *arguments, const char *folder, const char *format,
                    char path[MEDIA_PATH], char error[MEDIA_ERROR])
{
    snprintf(path, MEDIA_PATH, "%.2048s/new-XXXXXX", folder);
    int file = mkostemp(path, O_CLOEXEC);
    if (file < 0) {
        int rc = -errno;
        snprintf(error, MEDIA_ERROR, "cache folder %.120s: %s", folder, strerror(-rc));
        return rc;
    }
    close(file);
    ADD(arguments, "-f", format, "-y", path);
    int rc = run(arguments, error);
    if (rc < 0)
        unlink(path);
    return rc;
}

int media_make(char path[MEDIA_PATH], const char *cache, enum codec codec, unsigned layer,
               char error[MEDIA_ERROR])
{
    const struct recipe *recipe = find_recipe(codec);
    char folder[MEDIA_PATH], made[MEDIA_PATH], source[96];
    const char *size = codec == CODEC_OPUS ? "48k" : layers[layer].size;
    const char *bitrate = layers[layer].bitrate;
    int rc = cache_folder(folder, cache, error);
    if (rc < 0)
        return rc;
    snprintf(path, MEDIA_PATH, "%.2048s/test-%d-%s-%s.%s", folder, VERSION, recipe->name, size,
             recipe->extension);
    if (access(path, R_OK) == 0)
        return 0;
    struct arguments arguments = {0};
    ADD(&arguments, "ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", source);
    if (codec == CODEC_OPUS)
        snprintf(source, sizeof(source), "sine=frequency=440:sample_rate=48000:duration=" SECONDS);
    else {
        snprintf(source, sizeof(source), "testsrc2=size=%s:rate=25:duration=" SECONDS, size);
        ADD(&arguments, "-pix_fmt", "yuv420p", "-b:v", bitrate, "-minrate", bitrate, "-maxrate",
            bitrate, "-bufsize", bitrate, "-g", "50", "-keyint_min", "50");
    }
    add(&arguments, recipe->options);
    rc = run_into(&arguments, folder, recipe->format, made, error);
    // Another process may have been as fast: the contents are as good.
    if (rc == 0 && rename(made, path) != 0) {
        rc = -errno;
        snprintf(error, MEDIA_ERROR, "%.150s: %s", path, strerror(-rc));
        unlink(made);
    }
    return rc;
}

int media_convert(char path[MEDIA_PATH], const char *cache, enum codec codec, const char *file,
                  char error[MEDIA_ERROR])
{
    const struct recipe *recipe = find_recipe(codec);
    char folder[MEDIA_PATH], source[MEDIA_PATH];
    int rc = cache_folder(folder, cache, error);
    if (rc < 0)
        return rc;
    // "file:" keeps ffmpeg from taking the name for one of its protocols.
    if ((size_t)snprintf(source, sizeof(source), "file:%s", file) >= sizeof(source))
        return -ENAMETOOLONG;
    struct arguments arguments = {0};
    ADD(&arguments, "ffmpeg", "-v", "error", "-nostdin", "-i", source);
    if (codec == CODEC_OPUS) {
        ADD(&arguments, "-map", "0:a:0", "-vn");
        add(&arguments, recipe->options);
    } else
        ADD(&arguments, "-map", "0:v:0", "-an", "-c:v", "copy");
    return run_into(&arguments, folder, recipe->format, path, error);
}
