// The command table and its handlers; commands.h has the contract.
#include "commands.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define SHORTEST_PREFIX 4 // of a session, for kick

static json_t *refusal(const char *why)
{
    return json_pack("{s:s}", "error", why);
}

static json_t *on_status(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_status(api, now_ns);
}

static json_t *on_streams(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_streams(api, now_ns);
}

static json_t *on_sessions(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_sessions(api, argument, now_ns);
}

static json_t *on_workers(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_workers(api, now_ns);
}

static json_t *on_stages(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_stages(api, now_ns);
}

static json_t *on_top(struct api *api, const char *argument, uint64_t now_ns)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "status", api_status(api, now_ns), "load",
                     api_workers(api, now_ns), "cycles", api_stages(api, now_ns), "thrown_away",
                     api_drops(api, now_ns));
}

static json_t *on_ports(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_ports(api, now_ns);
}

static json_t *on_drops(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_drops(api, now_ns);
}

static json_t *on_peers(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_peers(api, now_ns);
}

static json_t *on_groups(struct api *api, const char *argument, uint64_t now_ns)
{
    return api_groups(api, now_ns);
}

static json_t *on_drain_state(struct api *api, const char *argument, uint64_t now_ns)
{
    char why[256] = "";
    json_t *answer = api_drain_state(api, now_ns, why, sizeof(why));
    return answer != NULL ? answer : refusal(why);
}

static json_t *on_drain(struct api *api, const char *argument, uint64_t now_ns)
{
    char why[256] = "";
    return api_drain(api, why, sizeof(why)) == 0 ? on_drain_state(api, NULL, now_ns) : refusal(why);
}

static json_t *on_failback(struct api *api, const char *argument, uint64_t now_ns)
{
    char why[256] = "";
    return api_failback(api, why, sizeof(why)) == 0 ? api_groups(api, now_ns) : refusal(why);
}

static json_t *ended(const char *what, const char *choices, int rc)
{
    switch (rc) {
    case 0:
        return json_pack("{s:s}", "ended", what);
    case -EPERM:
        return refusal("operator.kill_test is not set in the configuration");
    case -ESRCH:
        return refusal("there is no such process now");
    default:
        return refusal(choices);
    }
}

static json_t *on_kill_test(struct api *api, const char *argument, uint64_t now_ns)
{
    return ended(argument, "one of node, dataplane, controlplane and worker",
                 api_kill(api, argument));
}

static json_t *on_restart(struct api *api, const char *argument, uint64_t now_ns)
{
    char why[512] = "";
    int rc = api_restart(api, argument, why, sizeof(why));
    return rc == -EPROTO ? refusal(why) : ended(argument, "one of dataplane and controlplane", rc);
}

static json_t *on_kick(struct api *api, const char *argument, uint64_t now_ns)
{
    if (strlen(argument) < SHORTEST_PREFIX)
        return refusal("a session is named by at least its first 4 characters");
    switch (api_kick(api, argument)) {
    case 0:
        return json_pack("{s:s}", "kicked", argument);
    case -ENOTUNIQ:
        return refusal("more than one session begins like that");
    default:
        return refusal("no such session");
    }
}

static json_t *on_help(struct api *api, const char *argument, uint64_t now_ns)
{
    json_t *list = json_array();
    for (size_t i = 0; i < command_count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s?, s:s}", "command", command_table[i].name,
                                              "argument", command_table[i].argument, "help",
                                              command_table[i].help));
    return json_pack("{s:o}", "commands", list);
}

#define COLUMNS(...)                                                                               \
    (const struct command_column[])                                                                \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

#define GROUP_COLUMNS                                                                              \
    COLUMNS({"group", "GROUP", "text"}, {"home", "HOME", "text"}, {"role", "ROLE", "text"},        \
            {"term", "TERM", "text"}, {"sessions", "SESSIONS", "count"},                           \
            {"unconfirmed", "UNCONFIRMED", "count"}, {"refused", "REFUSED", "count"},              \
            {"syncing", "SYNCING", "bool"}, {"handing", "HANDING OVER", "bool"},                   \
            {"switch_us", "SWITCH", "us"})

const struct command command_table[] = {
    {
        .name = "status",
        .help = "state and load of this node",
        .handler = on_status,
        .columns = COLUMNS(
            {"node", "node", "text"}, {"state", "state", "text"}, {"uptime_s", "up", "s"},
            {"dataplane.state", "dataplane", "text"}, {"dataplane.pid", "dataplane pid", "text"},
            {"controlplane.pid", "control plane pid", "text"},
            {"dataplane.epoch", "dataplane starts", "text"}, {"workers", "workers", "count"},
            {"sessions", "sessions", "count"}, {"publishers", "publishers", "count"},
            {"viewers", "viewers", "count"}, {"max_sessions", "session limit", "count"},
            {"streams_live", "live streams", "count"}, {"rx_packets_rate", "receiving", "rate"},
            {"rx_bitrate", "", "bitrate"}, {"tx_packets_rate", "sending", "rate"},
            {"tx_bitrate", "", "bitrate"}),
    },
    {
        .name = "show streams",
        .help = "what is published, and how many watch it",
        .handler = on_streams,
        .columns = COLUMNS({"name", "STREAM", "text"}, {"live", "LIVE", "bool"},
                           {"live_s", "FOR", "s"}, {"audio", "AUDIO", "text"},
                           {"video", "VIDEO", "text"}, {"viewers", "VIEWERS", "count"},
                           {"bitrate", "RATE", "bitrate"}, {"lost", "LOST", "count"},
                           {"keyframes", "KEYFRAMES", "count"}, {"ring_packets", "RING", "count"}),
    },
    {
        .name = "show sessions",
        .argument = "[STREAM]",
        .help = "publishers and viewers, of all streams or one",
        .handler = on_sessions,
        .columns = COLUMNS({"session", "SESSION", "text"}, {"stream", "STREAM", "text"},
                           {"role", "ROLE", "text"}, {"phase", "PHASE", "text"},
                           {"protection", "PROTECTION", "text"}, {"age_s", "AGE", "s"},
                           {"worker", "W", "text"}, {"remote", "ADDRESS", "text"},
                           {"bitrate", "RATE", "bitrate"}, {"rtt_us", "RTT", "us"},
                           {"loss_permille", "LOSS", "permille"}, {"nacks", "NACKS", "count"},
                           {"resent", "RESENT", "count"}, {"silent_ms", "SILENT", "ms"}),
    },
    {
        .name = "show workers",
        .help = "load and buffers of each worker core",
        .handler = on_workers,
        .columns = COLUMNS(
            {"worker", "WORKER", "text"}, {"state", "STATE", "text"},
            {"sessions", "SESSIONS", "count"}, {"streams", "STREAMS", "count"},
            {"rx_packets_rate", "RX", "rate"}, {"tx_packets_rate", "TX", "rate"},
            {"tx_bitrate", "TX RATE", "bitrate"}, {"idle_percent", "IDLE", "percent"},
            {"cycles_per_packet", "CYC/PKT", "count"}, {"dropped", "DROPPED", "count"},
            {"frames_waiting", "FRAMES WAIT", "count"}, {"media_waiting", "MEDIA WAIT", "count"},
            {"ring_packets", "IN RINGS", "count"}, {"rx_free", "RX FREE", "count"},
            {"tx_free", "TX FREE", "count"}, {"cache_free", "CACHE FREE", "count"}),
    },
    {
        .name = "show stages",
        .help = "cycles per packet of each stage; counted while somebody asks",
        .handler = on_stages,
        .columns = COLUMNS({"stage", "STAGE", "text"}, {"cycles_per_packet", "CYC/PKT", "count"},
                           {"packets_rate", "PACKETS", "rate"},
                           {"share_percent", "SHARE", "percent"}, {"help", "MEANING", "text"}),
    },
    {
        .name = "top",
        .help = "load, stages and drops, renewed every second until Ctrl-C",
        .handler = on_top,
        .columns =
            COLUMNS({"status.state", "state", "text"}, {"status.sessions", "sessions", "count"},
                    {"status.rx_packets_rate", "receiving", "rate"},
                    {"status.tx_packets_rate", "sending", "rate"}),
    },
    {
        .name = "show ports",
        .help = "links and their counters",
        .handler = on_ports,
        .columns = COLUMNS({"device", "DEVICE", "text"}, {"driver", "DRIVER", "text"},
                           {"mac", "MAC", "text"}, {"link_up", "LINK", "bool"},
                           {"rx_packets_rate", "RX", "rate"}, {"rx_bitrate", "RX RATE", "bitrate"},
                           {"tx_packets_rate", "TX", "rate"}, {"tx_bitrate", "TX RATE", "bitrate"},
                           {"rx_missed", "MISSED", "count"}, {"rx_errors", "RX ERR", "count"},
                           {"tx_errors", "TX ERR", "count"}),
    },
    {
        .name = "show drops",
        .help = "packets thrown away, by reason",
        .handler = on_drops,
        .columns = COLUMNS({"name", "REASON", "text"}, {"packets", "PACKETS", "nonzero"},
                           {"packets_rate", "RATE", "rate"}, {"help", "MEANING", "text"}),
    },
    {
        .name = "show peers",
        .help = "processes and nodes that this one watches",
        .handler = on_peers,
        .columns =
            COLUMNS({"peer", "PEER", "text"}, {"kind", "KIND", "text"}, {"state", "STATE", "text"},
                    {"ready", "READY", "bool"}, {"pid", "PID", "text"}, {"epoch", "STARTS", "text"},
                    {"bfd", "BFD", "text"}, {"lag", "LAG", "count"}, {"lag_ms", "LAG AGE", "ms"},
                    {"reason", "REASON", "text"}),
    },
    {
        .name = "show groups",
        .help = "protection groups: which node serves whose sessions",
        .handler = on_groups,
        .columns = GROUP_COLUMNS,
    },
    {
        .name = "show drain",
        .help = "how far a drain is; waits for its end",
        .handler = on_drain_state,
        .columns = GROUP_COLUMNS,
    },
    {
        .name = "kick",
        .argument = "SESSION",
        .help = "end a session, named by the beginning of its id",
        .handler = on_kick,
        .columns = COLUMNS({"kicked", "kicked", "text"}),
    },
    {
        .name = "drain",
        .help = "hand every session to the partner without a loss, and take no new ones; says how "
                "far it is and waits for the end",
        .handler = on_drain,
        .columns = GROUP_COLUMNS,
    },
    {
        .name = "failback",
        .help = "have every session served where it began; ends a drain",
        .handler = on_failback,
        .columns = GROUP_COLUMNS,
    },
    {
        .name = "restart",
        .argument = "PROCESS",
        .help = "end dataplane or controlplane in order, for the supervisor to start it anew",
        .handler = on_restart,
        .columns = COLUMNS({"ended", "ended", "text"}),
    },
    {
        .name = "kill-test",
        .argument = "WHAT",
        .help = "kill node, dataplane or controlplane, or have a worker hang (operator.kill_test)",
        .handler = on_kill_test,
        .columns = COLUMNS({"ended", "killed", "text"}),
    },
    {
        .name = "help",
        .help = "this list",
        .handler = on_help,
        .columns = COLUMNS({"command", "COMMAND", "text"}, {"argument", "ARGUMENT", "text"},
                           {"help", "HELP", "text"}),
    },
};

const size_t command_count = sizeof(command_table) / sizeof(command_table[0]);

// ---- requests

// One blank between words, none at the ends. Returns the length, or 0 when `out` is too small.
static size_t squeeze(const char *in, char *out, size_t size)
{
    size_t n = 0;
    for (; *in != 0; in++) {
        if (*in == ' ' && (n == 0 || out[n - 1] == ' '))
            continue;
        if (n + 1 >= size)
            return 0;
        out[n++] = *in;
    }
    if (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = 0;
    return n;
}

// The command that `words` begin with and what follows it, NULL if nothing does.
static const struct command *find_command(const char *words, const char **argument)
{
    for (size_t i = 0; i < command_count; i++) {
        size_t length = strlen(command_table[i].name);
        if (strncmp(words, command_table[i].name, length) != 0 ||
            (words[length] != 0 && words[length] != ' '))
            continue;
        *argument = words[length] == ' ' ? words + length + 1 : NULL;
        return &command_table[i];
    }
    return NULL;
}

static json_t *column_list(const struct command_column *column)
{
    json_t *list = json_array();
    for (; column != NULL && column->field != NULL; column++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "field", column->field, "title",
                                              column->title, "unit", column->unit));
    return list;
}

static json_t *answer_command(struct api *api, const char *text, bool columns, uint64_t now_ns)
{
    char words[COMMAND_LINE_MAX];
    const char *argument;
    if (squeeze(text, words, sizeof(words)) == 0)
        return refusal("an empty command; try help");
    const struct command *command = find_command(words, &argument);
    if (command == NULL)
        return refusal("no such command; try help");
    if (argument != NULL && command->argument == NULL)
        return refusal("this command takes no argument");
    if (argument != NULL && strchr(argument, ' ') != NULL)
        return refusal("this command takes one argument");
    if (argument == NULL && command->argument != NULL && command->argument[0] != '[')
        return refusal("this command needs an argument; try help");
    json_t *answer = command->handler(api, argument, now_ns);
    if (columns && json_object_get(answer, "error") == NULL)
        json_object_set_new(answer, "columns", column_list(command->columns));
    return answer;
}

json_t *command_answer(struct api *api, const char *request, size_t size, uint64_t now_ns)
{
    if (size > COMMAND_LINE_MAX)
        return refusal("the request is too long");
    json_t *object = json_loadb(request, size, JSON_REJECT_DUPLICATES, NULL);
    const char *text = json_string_value(json_object_get(object, "command"));
    json_t *answer;
    if (text == NULL)
        answer = refusal("a request is one JSON object with the text \"command\"");
    else
        answer =
            answer_command(api, text, json_is_true(json_object_get(object, "columns")), now_ns);
    json_decref(object);
    return answer;
}
