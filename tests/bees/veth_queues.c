// Preloaded into a dataplane on veth: tells the pairs of queues that veth has. The kernel names
// veth's queues RX and TX, while DPDK's AF_XDP driver counts combined ones only and would take one.
#include <dlfcn.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <sys/ioctl.h>

static unsigned fewer(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

int ioctl(int fd, unsigned long request, ...)
{
    int (*next)(int, unsigned long, ...) =
        (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    int rc = next(fd, request, argument);
    if (rc != 0 || request != SIOCETHTOOL)
        return rc;
    struct ethtool_channels *channels = (void *)((struct ifreq *)argument)->ifr_data;
    if (channels->cmd == ETHTOOL_GCHANNELS && channels->max_combined == 0) {
        channels->max_combined = fewer(channels->max_rx, channels->max_tx);
        channels->combined_count = fewer(channels->rx_count, channels->tx_count);
    }
    return rc;
}
