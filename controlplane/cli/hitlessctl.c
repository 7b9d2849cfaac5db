// hitlessctl: a thin client of the operator socket. Commands, help, completion and the columns of
// tables all come from the control plane (controlplane/commands.c).
//
// One request per connection, so that an idle prompt holds nothing open over there.
#include "ask.h"
#include "table.h"
#include <editline/readline.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COMMAND_MAX 2000

static bool json_output;

static const char usage[] =
    "Usage: hitlessctl [-s SOCKET] [-j] [COMMAND...]\n"
    "  -s SOCKET  the control plane's socket (default: $HITLESS_SOCKET, else " ASK_SOCKET ")\n"
    "  -j         JSON: one object per line\n"
    "Without a command it reads them from the terminal or standard input. 'hitlessctl help' lists "
    "them.\n";

// ---- commands

// Characters of a line of the terminal; 0: there is none.
static int terminal_width(void)
{
    struct winsize size;
    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

// The last answer to a command, as `ask`. One that is only beginning says when to ask again
// ("ask_again_ms"), and what ("ask", else the same once more), and may say how far it is
// ("progress"). `patient` false: the first answer, whatever it says.
static char *ask_to_the_end(const char *command, bool patient)
{
    char next[COMMAND_MAX], said[256] = "";
    char *line = ask(command, !json_output, false);
    while (line != NULL && patient) {
        json_t *answer = json_loads(line, 0, NULL);
        json_int_t again_ms = json_integer_value(json_object_get(answer, "ask_again_ms"));
        const char *other = json_string_value(json_object_get(answer, "ask"));
        const char *progress = json_string_value(json_object_get(answer, "progress"));
        if (progress != NULL && strcmp(progress, said) != 0)
            fprintf(stderr, "hitlessctl: %s\n", progress);
        snprintf(said, sizeof(said), "%s", progress != NULL ? progress : "");
        snprintf(next, sizeof(next), "%s", other != NULL ? other : command);
        patient = other != NULL;
        json_decref(answer);
        if (again_ms <= 0 || again_ms > 10000 || usleep((useconds_t)again_ms * 1000) != 0)
            break;
        free(line);
        line = ask(next, !json_output, false);
    }
    return line;
}

// Prints an answer to the command.
static int run_once(const char *command, bool patient)
{
    char *line = ask_to_the_end(command, patient);
    if (line == NULL)
        return 1;
    int status = 0;
    json_t *answer = json_loads(line, 0, NULL);
    const char *error = json_string_value(json_object_get(answer, "error"));
    if (!json_is_object(answer))
        status = complain("the control plane answered nonsense");
    else if (error != NULL)
        status = complain("%s", error);
    else if (json_output)
        puts(line);
    else if (table_print(stdout, answer, terminal_width()) != 0)
        puts(line);
    json_decref(answer);
    free(line);
    if (fflush(stdout) != 0)
        status = complain("cannot write: %s", strerror(errno));
    return status;
}

static int run(const char *command)
{
    return run_once(command, true);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    interrupted = signal;
}

// On a terminal once a second until Ctrl-C; elsewhere once.
static int run_top(void)
{
    static const char *const views[] = {"status", "show workers", "show stages", "show drops"};
    bool renew = isatty(STDOUT_FILENO);
    int status = 0;
    struct sigaction ours = {.sa_handler = on_interrupt}, theirs;
    interrupted = 0;
    sigaction(SIGINT, &ours, &theirs);
    do {
        if (renew)
            fputs("\033[H\033[J", stdout);
        for (size_t i = 0; status == 0 && i < sizeof(views) / sizeof(views[0]); i++) {
            if (i > 0)
                putchar('\n');
            status = run_once(views[i], !renew);
        }
    } while (renew && status == 0 && !interrupted && usleep(1000000) == 0 && !interrupted);
    sigaction(SIGINT, &theirs, NULL);
    return status;
}

static bool join(char *out, size_t size, char **words, int count)
{
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < count; i++) {
        int n = snprintf(out + used, size - used, "%s%s", i == 0 ? "" : " ", words[i]);
        if (n < 0 || (size_t)n >= size - used)
            return false;
        used += (size_t)n;
    }
    return true;
}

// ---- completion

// Calls `found` with each possible next word: of the commands that begin with `line`'s whole words,
// or an argument's values.
static void complete(const char *line, void (*found)(const char *word, void *opaque), void *opaque)
{
    const char *blank = strrchr(line, ' ');
    size_t whole = blank == NULL ? 0 : (size_t)(blank - line) + 1, partial = strlen(line) - whole;
    char *text = ask("help", false, true), word[64];
    json_t *help = text == NULL ? NULL : json_loads(text, 0, NULL), *entry;
    size_t i;
    free(text);
    json_array_foreach(json_object_get(help, "commands"), i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "command"));
        if (name == NULL || strncmp(name, line, whole + partial) != 0)
            continue;
        snprintf(word, sizeof(word), "%.*s", (int)strcspn(name + whole, " "), name + whole);
        found(word, opaque);
    }
    json_decref(help);
    if (strncmp(line, "kick ", 5) != 0)
        return;
    text = ask("show sessions", false, true);
    json_t *sessions = text == NULL ? NULL : json_loads(text, 0, NULL);
    free(text);
    json_array_foreach(json_object_get(sessions, "sessions"), i, entry)
    {
        const char *id = json_string_value(json_object_get(entry, "session"));
        if (id != NULL && strncmp(id, line + whole, partial) == 0)
            found(id, opaque);
    }
    json_decref(sessions);
}

struct words {
    char *word[256];
    size_t count;
};

static void keep(const char *word, void *opaque)
{
    struct words *words = opaque;
    for (size_t i = 0; i < words->count; i++)
        if (strcmp(words->word[i], word) == 0)
            return;
    if (words->count + 1 < sizeof(words->word) / sizeof(words->word[0]))
        words->word[words->count++] = strdup(word);
}

// For the shell: one candidate a line. Silent when nobody answers.
static int complete_shell(char **argv, int count)
{
    char line[COMMAND_MAX];
    struct words words = {0};
    if (!join(line, sizeof(line), argv, count))
        return 1;
    complete(line, keep, &words);
    for (size_t i = 0; i < words.count; i++) {
        puts(words.word[i]);
        free(words.word[i]);
    }
    return 0;
}

static struct words candidates;

// readline's generator: called until it returns NULL, which ends and frees nothing of ours.
static char *next_candidate(const char *text, int state)
{
    static size_t next;
    if (state == 0)
        next = 0;
    return next < candidates.count ? candidates.word[next++] : NULL;
}

static char **complete_line(const char *text, int start, int end)
{
    char line[COMMAND_MAX];
    candidates.count = 0;
    rl_attempted_completion_over = 1; // no file names
    snprintf(line, sizeof(line), "%.*s", end, rl_line_buffer);
    complete(line, keep, &candidates);
    return rl_completion_matches(text, next_candidate);
}

// ---- many commands

static int run_line(char *line, bool *end)
{
    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = 0;
    *end = strcmp(line, "quit") == 0 || strcmp(line, "exit") == 0;
    if (*line == 0 || *line == '#' || *end)
        return 0;
    return strcmp(line, "top") == 0 && !json_output ? run_top() : run(line);
}

static int run_input(void)
{
    char *line = NULL;
    size_t room = 0;
    int status = 0;
    bool end = false;
    while (!end && getline(&line, &room, stdin) >= 0)
        status |= run_line(line, &end);
    free(line);
    return status;
}

static int run_prompt(void)
{
    char history[512], *line;
    bool end = false;
    const char *home = getenv("HOME");
    snprintf(history, sizeof(history), "%s/.hitlessctl_history", home != NULL ? home : "");
    rl_readline_name = "hitlessctl";
    rl_attempted_completion_function = complete_line;
    using_history();
    stifle_history(1000);
    if (home != NULL)
        read_history(history);
    while (!end && (line = readline("hitless> ")) != NULL) {
        if (*line != 0)
            add_history(line);
        run_line(line, &end);
        free(line);
    }
    if (!end)
        putchar('\n');
    if (home != NULL)
        write_history(history);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"complete", no_argument, NULL, 'c'},
                                            {0}};
    char command[COMMAND_MAX];
    bool completing = false;
    int option;
    const char *from_environment = getenv("HITLESS_SOCKET");
    if (from_environment != NULL && *from_environment != 0)
        ask_at(from_environment);
    while ((option = getopt_long(argc, argv, "+s:jh", options, NULL)) != -1) {
        if (option == 's') {
            ask_at(optarg);
        } else if (option == 'j') {
            json_output = true;
        } else if (option == 'c') {
            completing = true;
        } else {
            fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    argv += optind;
    argc -= optind;
    if (completing)
        return complete_shell(argv, argc);
    if (argc == 0)
        return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) ? run_prompt() : run_input();
    if (!join(command, sizeof(command), argv, argc))
        return complain("the command is too long");
    return strcmp(command, "top") == 0 && !json_output ? run_top() : run(command);
}
