// hitless-controlplane: arguments, the process's own limits and rights, then loop.c.
#include "auth.h"
#include "config.h"
#include "log.h"
#include "loop.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define FILES_WANTED 262144

static const char help[] =
    "Usage: hitless-controlplane [--config FILE]\n"
    "       hitless-controlplane --check FILE\n"
    "\n"
    "The control plane of hitless: WHIP and WHEP, SDP, DTLS and sessions, beside "
    "hitless-dataplane.\n"
    "\n"
    "  --config FILE  the configuration (YAML); without it every key has its default\n"
    "  --check FILE   print each problem of a configuration as FILE:LINE: key: reason\n"
    "                 and exit with 1 if there is any\n"
    "  --version      print the version\n"
    "  --help         print this\n"
    "\n"
    "SIGTERM stops it in order; SIGHUP reads tokens, keys, certificates and the log level again.\n";

// Keys and tokens stay out of core dumps and out of other users' reach.
static void protect_secrets(void)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
#ifndef __SANITIZE_ADDRESS__ // the leak checker must be able to stop us
    prctl(PR_SET_DUMPABLE, 0);
#endif
    umask(077);
}

static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
    setrlimit(RLIMIT_NOFILE, &limit);
}

// "FILE:LINE: key: reason", without what there is not.
static void format_problem(char *out, size_t size, const char *path, int line, const char *key,
                           const char *reason)
{
    char number[16] = "";
    if (line > 0)
        snprintf(number, sizeof(number), ":%d", line);
    snprintf(out, size, "%s%s: %s%s%s", path ? path : "defaults", number, key, *key ? ": " : "",
             reason);
}

static void log_problem(void *opaque, int line, const char *key, const char *reason)
{
    char text[1024];
    format_problem(text, sizeof(text), opaque, line, key, reason);
    log_error("%s", text);
}

static void print_problem(void *opaque, int line, const char *key, const char *reason)
{
    char text[1024];
    format_problem(text, sizeof(text), opaque, line, key, reason);
    puts(text);
}

// Everything that a start would refuse in the file and in the files that it names.
static int check(const char *path)
{
    struct config *config;
    struct auth *auth;
    char why[256] = "";
    if (config_load(path, &config, print_problem, (void *)path) < 0)
        return EXIT_FAILURE;
    int rc = auth_new(&auth, config, why, sizeof(why));
    if (rc < 0)
        print_problem((void *)path, 0, "auth", why);
    else
        auth_free(auth);
    config_free(config);
    if (rc == 0)
        printf("%s: no mistakes\n", path);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run(const char *path)
{
    struct config *config;
    int rc = config_load(path, &config, log_problem, (void *)path);
    if (rc < 0)
        return EXIT_FAILURE;
    log_level(config->log);
    rc = loop_run(config, path);
    config_free(config);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char *argv[])
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check", required_argument, NULL, 'k'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'k':
            return check(optarg);
        case 'v':
            puts("hitless-controlplane " HITLESS_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            fputs(help, stdout);
            return EXIT_SUCCESS;
        default:
            fputs("Try hitless-controlplane --help\n", stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "hitless-controlplane: unexpected argument '%s'\n", argv[optind]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    protect_secrets();
    raise_limits();
    return run(path);
}
