// What a run needs before it begins: the server's addresses and ours towards them, a certificate,
// media, workers. See run.h.
#include "media.h"
#include "net.h"
#include "run.h"
#include <curl/curl.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Our address on the way to one of the server's.
static void add_local(struct run_environment *e, const struct abi_addr *remote)
{
    struct abi_addr local;
    if (e->locals == OFFER_LOCALS || net_route(remote, &local) != 0 || local.family == 0)
        return;
    for (unsigned i = 0; i < e->locals; i++)
        if (net_same(&e->local[i], &local))
            return;
    e->local[e->locals++] = local;
}

// A host that is not known or not reachable is not refused here: its sessions will say so.
static int look_up(struct run_environment *e, const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    bool any = false, own = false;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return 0;
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        struct abi_addr remote;
        net_from_sockaddr(&remote, a->ai_addr);
        any = true;
        own |= net_is_own(&remote);
        if (e->options->own_server || net_is_own(&remote))
            add_local(e, &remote);
    }
    freeaddrinfo(list);
    return any && !own && !e->options->own_server ? -EPERM : 0;
}

static int check_server(struct run_environment *e)
{
    char url[BEES_URL_MAX], *host = NULL;
    CURLU *parsed = curl_url();
    int rc = -EINVAL;
    if (parsed != NULL && options_url(e->options, 0, url) == 0 &&
        curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        char bare[256];
        snprintf(bare, sizeof(bare), "%s", host + (*host == '['));
        bare[strcspn(bare, "]")] = '\0';
        rc = look_up(e, bare);
    }
    if (rc == -EINVAL)
        fprintf(stderr, "hitless-bees: not a URL: %s\n", e->options->url);
    if (rc == -EPERM)
        fprintf(stderr,
                "hitless-bees: %s is public. Load only servers of your own: --i-own-this-server\n",
                host);
    curl_free(host);
    curl_url_cleanup(parsed);
    return rc;
}

// IVF says what it holds; everything else is taken for H.264, from MP4 too.
static enum codec codec_of(const char *path)
{
    char head[12] = "";
    FILE *file = fopen(path, "re");
    size_t size = file ? fread(head, 1, sizeof(head), file) : 0;
    if (file != NULL)
        fclose(file);
    if (size < sizeof(head) || memcmp(head, "DKIF", 4) != 0)
        return CODEC_H264;
    return memcmp(head + 8, "VP90", 4) == 0   ? CODEC_VP9
           : memcmp(head + 8, "AV01", 4) == 0 ? CODEC_AV1
                                              : CODEC_VP8;
}

// --video is files, one for each layer, or the name of a codec that ffmpeg makes.
static int make_media(struct run_environment *e)
{
    const struct options *o = e->options;
    char error[MEDIA_ERROR], names[1024] = "", *save = NULL;
    struct media_config config = {.audio = !o->no_audio,
                                  .layers = o->layers,
                                  .audio_file = o->audio,
                                  .frame_rate = o->frame_rate,
                                  .cache = o->cache};
    enum codec made = offer_codec_named(o->video ? o->video : "vp8");
    if (o->protocol->role != BEES_WHIP)
        return 0;
    config.video = o->no_video ? CODEC_NONE : made;
    if (!o->no_video && made == CODEC_NONE) {
        unsigned files = 0;
        snprintf(names, sizeof(names), "%s", o->video);
        for (char *name = strtok_r(names, ",", &save); name && files < MEDIA_LAYERS;
             name = strtok_r(NULL, ",", &save))
            config.video_file[files++] = name;
        config.layers = files > config.layers ? files : config.layers;
        config.video = codec_of(config.video_file[0]);
    }
    int rc = media_open(&config, &e->media, error);
    if (rc != 0)
        fprintf(stderr, "hitless-bees: media: %s\n", error);
    return rc;
}

int run_prepare(struct run_environment *e, const struct options *options)
{
    *e = (struct run_environment){.options = options};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    e->workers = options->threads ? options->threads : cores > 0 ? (unsigned)cores : 1;
    if (e->workers > options->sessions && options->command != COMMAND_CAPACITY)
        e->workers = options->sessions;
    size_t files = net_raise_files();
    if (options->command != COMMAND_CAPACITY && files < options->sessions + 64ul)
        fprintf(stderr, "hitless-bees: only %zu files may be open: some sessions will fail\n",
                files);
    int rc = check_server(e);
    if (rc == 0)
        rc = make_media(e);
    if (rc == 0)
        rc = dtls_identity_init(&e->identity, options->profile, options->profiles);
    if (rc != 0)
        run_release(e);
    return rc;
}

void run_release(struct run_environment *e)
{
    media_unref(e->media);
    dtls_identity_free(&e->identity);
    *e = (struct run_environment){0};
}
