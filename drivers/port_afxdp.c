// A kernel interface through AF_XDP: our steering program takes what is ours, the kernel keeps the
// rest. Main thread only. DPDK's driver attaches the program and makes the sockets; we check
// the interface first, clear away what a crashed instance left, and fill the program's map.
//
// Limits: the device's MTU must fit one page (about 3,500 bytes); veth has one queue for us.
#include "port.h"
#include "xdp/loader.h"
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define VDEV "net_af_xdp0"
#define AFXDP_MTU_MAX 3400

// The bits of /proc/self/status' CapEff, <linux/capability.h>.
#define HAS(caps, bit) (((caps) >> (bit)) & 1)
// SYS_ADMIN and not just BPF, because looking at an attached program by its id takes that.
enum { CAP_NET_ADMIN_BIT = 12, CAP_NET_RAW_BIT = 13, CAP_SYS_ADMIN_BIT = 21 };

static unsigned long long effective_caps(void)
{
    unsigned long long caps = 0;
    char line[256];
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "CapEff: %llx", &caps) == 1)
            break;
    fclose(file);
    return caps;
}

// One ioctl about an interface, on a socket of its own: this is never called in a hurry.
static int ask(const char *name, unsigned long request, struct ifreq *ifr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%.15s", name);
    int error = ioctl(fd, request, ifr) < 0 ? -errno : 0;
    close(fd);
    return error;
}

// How many queue pairs the driver will find, and how many there could be.
static uint32_t queue_pairs(const char *name, uint32_t *most)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq ifr = {.ifr_data = (void *)&channels};
    if (ask(name, SIOCETHTOOL, &ifr) != 0 || channels.max_combined == 0)
        return *most = 1;
    *most = channels.max_combined;
    return channels.combined_count;
}

static int check_queues(const struct abi_config *config, char *why, size_t why_size)
{
    const char *name = config->device;
    uint32_t most, queues = queue_pairs(name, &most);
    if (config->workers <= queues)
        return 0;
    if (config->workers > most)
        return port_fail(
            why, why_size, EINVAL,
            "%s has %u queue pair%s at most, %u workers need one each: lower 'workers'", name, most,
            most == 1 ? "" : "s", config->workers);
    return port_fail(why, why_size, EINVAL,
                     "%s has %u queue pair%s, %u workers need one each: run 'ethtool -L %s "
                     "combined %u'",
                     name, queues, queues == 1 ? "" : "s", config->workers, name, config->workers);
}

static int check_program(const char *name, unsigned ifindex, char *why, size_t why_size)
{
    char program[32];
    uint32_t id;
    int owner = loader_attached(ifindex, program, sizeof(program), &id);
    if (owner < 0)
        return port_fail(why, why_size, owner, "%s: its XDP program cannot be read: %s", name,
                         strerror(-owner));
    if (owner == LOADER_OTHER)
        return port_fail(why, why_size, EBUSY,
                         "%s already runs another XDP program, '%s' (id %u): stop its owner or "
                         "run 'ip link set dev %s xdp off'",
                         name, program, id, name);
    return 0;
}

static int check_interface(const struct abi_config *config, unsigned *ifindex, char *why,
                           size_t why_size)
{
    const char *name = config->device;
    struct ifreq ifr = {0};
    if (strlen(name) >= IFNAMSIZ || (*ifindex = if_nametoindex(name)) == 0)
        return port_fail(why, why_size, ENODEV,
                         "no interface '%s' here: 'ip link' lists them; set the port's 'device'",
                         name);
    int error = ask(name, SIOCGIFFLAGS, &ifr);
    if (error)
        return port_fail(why, why_size, error, "%s: %s", name, strerror(-error));
    if (!(ifr.ifr_flags & IFF_UP))
        return port_fail(why, why_size, ENETDOWN, "%s is down: run 'ip link set %s up'", name,
                         name);
    error = ask(name, SIOCGIFMTU, &ifr);
    if (error == 0 && ifr.ifr_mtu < config->mtu)
        return port_fail(why, why_size, EINVAL,
                         "%s has an MTU of %d, the configuration %u: lower 'mtu' or run 'ip link "
                         "set %s mtu %u'",
                         name, ifr.ifr_mtu, config->mtu, name, config->mtu);
    if (config->mtu > AFXDP_MTU_MAX)
        return port_fail(why, why_size, EINVAL,
                         "an AF_XDP port takes an MTU of %u at most, not %u: lower 'mtu'",
                         AFXDP_MTU_MAX, config->mtu);
    return check_queues(config, why, why_size);
}

static int afxdp_check(const struct abi_config *config, char *why, size_t why_size)
{
    unsigned ifindex = 0;
    char object[PATH_MAX];
    unsigned long long caps = effective_caps();
    if (!HAS(caps, CAP_NET_ADMIN_BIT) || !HAS(caps, CAP_NET_RAW_BIT) ||
        !HAS(caps, CAP_SYS_ADMIN_BIT))
        return port_fail(why, why_size, EPERM,
                         "no privilege to open an AF_XDP port: run as root, or with "
                         "CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN and CAP_IPC_LOCK");
    int error = check_interface(config, &ifindex, why, why_size);
    if (error == 0)
        error = check_program(config->device, ifindex, why, why_size);
    if (error)
        return error;
    if (!rte_is_zero_ether_addr((const struct rte_ether_addr *)config->mac))
        return port_fail(why, why_size, ENOTSUP,
                         "an AF_XDP port uses its interface's link address: leave 'mac' out, or "
                         "run 'ip link set %s address ...'",
                         config->device);
    if (loader_find_object(object, sizeof(object)) != 0)
        return port_fail(why, why_size, ENOENT,
                         "the XDP program is not found (%s): build it, or set HITLESS_XDP_OBJECT",
                         object);
    return 0;
}

// How many packets a busy poll may take from the interface. On veth there is no interrupt to save
// and a system call per empty poll to lose: 0 is off. On a NIC "off" would have DPDK's driver
// wait up to a second in poll() when a zero-copy queue asks for a wake-up, so there it is on.
static int busy_budget(const char *name)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq ifr = {.ifr_data = (void *)&info};
    return ask(name, SIOCETHTOOL, &ifr) == 0 && strcmp(info.driver, "veth") == 0 ? 0 : 64;
}

static int afxdp_open(struct port *port, char *why, size_t why_size)
{
    const struct abi_config *config = port->config;
    char object[PATH_MAX], args[PATH_MAX + 256];
    int error = loader_detach(if_nametoindex(config->device)); // a crashed instance's
    if (error)
        return port_fail(why, why_size, error, "%s: a stale XDP program stays attached: %s",
                         config->device, strerror(-error));
    error = loader_find_object(object, sizeof(object));
    if (error)
        return port_fail(why, why_size, error, "the XDP program is not found (%s)", object);
    snprintf(args, sizeof(args), "iface=%s,start_queue=0,queue_count=%u,xdp_prog=%s,busy_budget=%d",
             config->device, port->queues, object, busy_budget(config->device));
    error = rte_eal_hotplug_add("vdev", VDEV, args);
    if (error == 0)
        error = rte_eth_dev_get_port_by_name(VDEV, &port->id);
    if (error)
        return port_fail(why, why_size, error,
                         "%s: the AF_XDP driver does not take it (%s); is librte_net_af_xdp "
                         "installed and the kernel built with AF_XDP?",
                         config->device, strerror(-error));
    return 0;
}

static int afxdp_started(struct port *port, char *why, size_t why_size)
{
    char program[32];
    uint32_t id;
    struct steer_config steer;
    const char *name = port->config->device;
    int owner = loader_attached(if_nametoindex(name), program, sizeof(program), &id);
    if (owner != LOADER_OURS)
        return port_fail(why, why_size, owner < 0 ? -owner : EIO,
                         "%s: our XDP program did not get attached", name);
    loader_config(port->config, &steer);
    int error = loader_configure(id, &steer);
    if (error)
        return port_fail(why, why_size, error, "%s: the XDP program cannot be configured: %s", name,
                         strerror(-error));
    return 0;
}

static void afxdp_close(struct port *port)
{
    unsigned ifindex = if_nametoindex(port->config->device);
    if (port->id != RTE_MAX_ETHPORTS)
        rte_eal_hotplug_remove("vdev", VDEV);
    if (ifindex)
        loader_detach(ifindex);
}

// The driver always says "up, 10 Gbit/s"; the kernel knows.
static void afxdp_link(struct port *port, struct stats_port *stats)
{
    struct ethtool_value carrier = {.cmd = ETHTOOL_GLINK}; // at once; IFF_RUNNING may lag by 1 s
    struct ifreq ifr = {.ifr_data = (void *)&carrier};
    char path[128];
    int speed = 0;
    STATS_SET(stats->link_up,
              ask(port->config->device, SIOCETHTOOL, &ifr) == 0 && carrier.data != 0);
    snprintf(path, sizeof(path), "/sys/class/net/%.15s/speed", port->config->device);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%d", &speed) != 1 || speed < 0)
            speed = 0;
        fclose(file);
    }
    STATS_SET(stats->speed_mbps, (uint32_t)speed);
}

const struct port_ops port_afxdp_ops = {
    .name = "af_xdp",
    .check = afxdp_check,
    .open = afxdp_open,
    .started = afxdp_started,
    .close = afxdp_close,
    .link = afxdp_link,
};
