"""Which address families the tunnel of this host has; decided once, at its start."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wardgate.model.addresses import IpAddress, IpNetwork

_Of = TypeVar("_Of", str, IpAddress, IpNetwork)


@dataclass(frozen=True, slots=True)
class Families:
    """IPv4 is always there; IPv6 may be compiled out, or switched off by the host's administrator, which is
    respected.
    """

    ipv6: bool = True

    @property
    def versions(self) -> tuple[int, ...]:
        return (4, 6) if self.ipv6 else (4,)

    def has(self, one: str | IpAddress | IpNetwork) -> bool:
        is_ipv6 = ":" in one if isinstance(one, str) else one.version == 6
        return self.ipv6 or not is_ipv6

    def of(self, several: Iterable[_Of]) -> tuple[_Of, ...]:
        """Those whose family is there, in their order."""
        return tuple(one for one in several if self.has(one))


def families_of(interface: str, proc_sys: Path = Path("/proc/sys")) -> Families:
    """Ask the kernel about an interface; new ones inherit `net.ipv6.conf.default.disable_ipv6`."""
    try:
        switched_off = (proc_sys / f"net/ipv6/conf/{interface}/disable_ipv6").read_text(encoding="ascii")
    except OSError:
        return Families(ipv6=False)
    return Families(ipv6=switched_off.strip() == "0")
