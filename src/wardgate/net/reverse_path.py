"""Strict reverse path filters of a client's host (RFC 3704), loosened while they would drop the tunnel's own packets.

The kernel checks an arriving packet by the route that an *unmarked* packet to its source would take. Where a
resource covers the address of a relay, a gateway or the portal (the Internet resource covers all), that route
leads into the tunnel, and a strict filter drops what comes from there. Loose filtering (2) still demands a
route to the source, and wins over a strict `all`.
"""

from pathlib import Path
from typing import Final

from wardgate.net.sysctl import PROC_SYS, InterfaceParameter

_STRICT: Final = 1
_LOOSE: Final = 2
_NOT_AN_INTERFACE: Final = frozenset({"all", "default", "lo"})


class ReversePath(InterfaceParameter):
    """Keeps every interface but the tunnel's from filtering strictly, as long as that is wanted."""

    name = "reverse path filter"
    is_necessary = True

    def __init__(self, interface: str, *, proc_sys: Path = PROC_SYS) -> None:
        super().__init__(proc_sys / "net/ipv4/conf", "rp_filter", _LOOSE)
        self._interface = interface
        self.is_wanted = False

    def chosen(self, found: dict[str, int]) -> tuple[str, ...]:
        return strict_interfaces(found, besides=self._interface)

    def differs(self, found: dict[str, int]) -> tuple[str, ...]:
        if self.is_wanted:
            return ("strict",) if self.chosen(found) else ()
        return ("no longer needed",) if self._before else ()

    async def repair(self, found: dict[str, int]) -> None:
        await (super().repair(found) if self.is_wanted else self.undo())


def strict_interfaces(found: dict[str, int], *, besides: str) -> tuple[str, ...]:
    """Those that filter strictly: the larger of the interface's own value and that of `all` counts."""
    return tuple(
        sorted(
            name
            for name, value in found.items()
            if name not in _NOT_AN_INTERFACE
            and name != besides
            and max(value, found.get("all", 0)) == _STRICT
        )
    )
