"""What the process may do on this host, and what it may raise."""

import errno
import logging
import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from wardgate.net.errors import HostRefused
from wardgate.net.sysctl import PROC_SYS, Sysctl

# Socket buffers: rate × service time of a busy gateway (data-plane §5.7); bytes.
_BUFFER_LIMITS: Final = {"rmem_max": 16 * 1024 * 1024, "wmem_max": 2 * 1024 * 1024}

_DNS_PORT: Final = 53

log = logging.getLogger(__name__)


class Capability(Enum):
    """Of linux/capability.h, those that a peer may need; the value is the bit."""

    CAP_DAC_OVERRIDE = 1
    CAP_NET_BIND_SERVICE = 10
    CAP_NET_ADMIN = 12


def client_needs(
    *, writes: Path | None, first_open_port: Path = PROC_SYS / "net/ipv4/ip_unprivileged_port_start"
) -> tuple[Capability, ...]:
    """What a client needs on this host.

    CAP_NET_ADMIN for the interface, routes and the mark of its sockets; CAP_NET_BIND_SERVICE for its
    resolver's port 53; to write `writes` (resolv.conf) CAP_DAC_OVERRIDE, unless its user may.
    """
    needs = [Capability.CAP_NET_ADMIN]
    try:
        is_open = int(first_open_port.read_text(encoding="ascii")) <= _DNS_PORT
    except (OSError, ValueError):
        is_open = False
    if not is_open:
        needs.append(Capability.CAP_NET_BIND_SERVICE)
    # The original is set aside beside it, hence the directory. A missing directory is for whoever writes to
    # complain of.
    if writes is not None and writes.parent.exists() and not os.access(writes.parent, os.W_OK):
        needs.append(Capability.CAP_DAC_OVERRIDE)
    return tuple(needs)


def require(command: str, needs: Iterable[Capability], *, status: Path = Path("/proc/self/status")) -> None:
    """Check for root or all of the capabilities.

    Raises:
        HostRefused: something is lacking; one sentence names it.
    """
    if os.geteuid() == 0:
        return
    effective = _effective(status)
    needed = [need.name for need in needs]
    lacking = [need.name for need in needs if not effective >> need.value & 1]
    if lacking:
        raise HostRefused(
            f"`{command}` needs root or {_listed(needed)}, and lacks {_listed(lacking)}: run it with sudo, "
            f"or as a service with AmbientCapabilities={' '.join(needed)}"
        )


class BufferLimit(Sysctl):
    """A limit on socket buffers that is at least as large as a busy peer needs.

    Where it is absent or read-only (containers) all goes on.
    """

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
        case errno.EACCES:
            return HostRefused(
                "/dev/net/tun may not be opened by this user: run as root, or allow it (chmod 666 "
                "/dev/net/tun, as distributions do)"
            )
        case errno.EPERM:
            return HostRefused(
                f"the interface {interface} cannot be opened: run as root or with CAP_NET_ADMIN"
            )
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return HostRefused(
                "/dev/net/tun is missing: load the module (modprobe tun), or give the container the device"
            )
        case _:
            return HostRefused(f"the tunnel cannot be opened: {error.strerror or error}")


def _effective(status: Path) -> int:
    for line in status.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
