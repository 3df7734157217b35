"""What the process may do on this host, and what it may raise."""

import errno
import logging
import os
from pathlib import Path
from typing import Final

from wardgate.net.errors import HostRefused

_CAP_NET_ADMIN: Final = 12  # linux/capability.h
# Socket buffers: rate × service time of a busy gateway (data-plane §5.7); bytes.
_BUFFER_LIMITS: Final = {"rmem_max": 16 * 1024 * 1024, "wmem_max": 2 * 1024 * 1024}

log = logging.getLogger(__name__)


def require_net_admin(command: str) -> None:
    """Check for root or CAP_NET_ADMIN.

    Raises:
        HostRefused: neither is there.
    """
    if os.geteuid() == 0:
        return
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff" and int(value, 16) >> _CAP_NET_ADMIN & 1:
            return
    raise HostRefused(
        f"`{command}` needs root or the capability CAP_NET_ADMIN: run it with sudo or as a service"
    )


def raise_buffer_limits(core: Path = Path("/proc/sys/net/core")) -> None:
    """Allow large socket buffers; where that is forbidden (containers) it is only noted."""
    for name, wanted in _BUFFER_LIMITS.items():
        path = core / name
        try:
            if int(path.read_text(encoding="ascii")) < wanted:
                path.write_text(str(wanted), encoding="ascii")
        except (OSError, ValueError) as error:
            log.debug(
                "a socket buffer limit stays as it is",
                extra={"sysctl": f"net.core.{name}", "error": str(error)},
            )


def tunnel_refusal(error: OSError, interface: str) -> HostRefused:
    """Turn what opening the TUN device or the sockets met into a line with a cure."""
    match error.errno:
        case errno.EBUSY:
            return HostRefused(
                f"the interface {interface} is in use: stop the other process, or choose another --interface"
            )
        case errno.EPERM | errno.EACCES:
            return HostRefused(
                f"the interface {interface} cannot be opened: run as root or with CAP_NET_ADMIN"
            )
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return HostRefused(
                "/dev/net/tun is missing: load the module (modprobe tun), or give the container the device"
            )
        case _:
            return HostRefused(f"the tunnel cannot be opened: {error.strerror or error}")
