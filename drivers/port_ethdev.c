// A VF or NIC that belongs to us alone, bound to vfio-pci and driven by its poll-mode driver. No
// kernel sees its packets. Main thread only. EAL probed the device (--allow); we name it.
#include "port.h"
#include <errno.h>
#include <rte_ethdev.h>
#include <rte_pci.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Kernel drivers under which DPDK can drive a device: the generic ones, and those that share it.
static const char *const usable_drivers[] = {
    "vfio-pci", "uio_pci_generic", "igb_uio", "mlx5_core", "mlx4_core", "mana",
};

// "0000:00:05.0" of "00:05.0" or itself.
static int full_address(const char *device, char *out, size_t size)
{
    struct rte_pci_addr address;
    if (rte_pci_addr_parse(device, &address) != 0)
        return -EINVAL;
    rte_pci_device_name(&address, out, size);
    return 0;
}

static int check_driver(const char *address, char *why, size_t why_size)
{
    char path[128], link[256], *driver = "";
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
    ssize_t n = readlink(path, link, sizeof(link) - 1);
    if (n > 0) {
        link[n] = '\0';
        driver = strrchr(link, '/');
        driver = driver ? driver + 1 : link;
    }
    for (size_t i = 0; i < RTE_DIM(usable_drivers); i++)
        if (strcmp(driver, usable_drivers[i]) == 0)
            return 0;
    return port_fail(why, why_size, ENODEV,
                     "PCI device %s is bound to %s%s%s: run 'modprobe vfio-pci && dpdk-devbind.py "
                     "-b vfio-pci %s'",
                     address, *driver ? "'" : "", *driver ? driver : "no driver",
                     *driver ? "'" : "", address);
}

static int pci_check(const struct abi_config *config, char *why, size_t why_size)
{
    char address[RTE_DEV_NAME_MAX_LEN], path[128];
    if (geteuid() != 0)
        return port_fail(why, why_size, EPERM, "no privilege to open a PCI device: run as root");
    if (full_address(config->device, address, sizeof(address)) != 0)
        return port_fail(why, why_size, EINVAL, "'%s' is not a PCI address such as 0000:00:05.0",
                         config->device);
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
    if (access(path, F_OK) != 0)
        return port_fail(why, why_size, ENODEV,
                         "no PCI device %s here: 'dpdk-devbind.py --status-dev net' lists them",
                         address);
    return check_driver(address, why, why_size);
}

static int pci_open(struct port *port, char *why, size_t why_size)
{
    char address[RTE_DEV_NAME_MAX_LEN];
    int error = full_address(port->config->device, address, sizeof(address));
    if (error == 0)
        error = rte_eth_dev_get_port_by_name(address, &port->id);
    if (error)
        return port_fail(why, why_size, ENODEV,
                         "PCI device %s has no poll-mode driver here, or it did not start; EAL's "
                         "words are above",
                         port->config->device);
    return 0;
}

static void pci_close(struct port *port)
{
    if (port->id != RTE_MAX_ETHPORTS)
        rte_eth_dev_close(port->id);
}

const struct port_ops port_ethdev_ops = {
    .name = "pci",
    .check = pci_check,
    .open = pci_open,
    .close = pci_close,
};
