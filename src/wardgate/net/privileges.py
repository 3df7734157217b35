"""What the process may do on this host, and what it may raise."""

import errno
import logging
import os
from pathlib import Path
from typing import Final

from wardgate.net.errors import HostRefused
from wardgate.net.sysctl import PROC_SYS, Sysctl

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


class BufferLimit(Sysctl):
    """A limit on socket buffers that is at least as large as a busy peer needs. Where it is absent or read-only (containers) all goes on."""

    def __init__(self, name: str, least: int, *, proc_sys: Path = PROC_SYS) -> None:
        super().__init__(
            f"net/core/{name}", str(least), suffices=lambda found: int(found) >= least, proc_sys=proc_sys
        )
        self._least = str(least)

    async def read(self) -> str:
        try:
            return await super().read()
        except OSError:
            return self._least

    async def repair(self, found: str) -> None:
        try:
            await super().repair(found)
        except OSError as error:
            log.debug(
                "a socket buffer limit stays as it is", extra={"sysctl": self.name, "error": error.strerror}
            )


def buffer_limits(proc_sys: Path = PROC_SYS) -> tuple[Sysctl, ...]:
    """To be established before the sockets are opened."""
    return tuple(BufferLimit(name, least, proc_sys=proc_sys) for name, least in _BUFFER_LIMITS.items())


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
