"""Strict reverse path filters of a client's host (RFC 3704), loosened while they would drop the tunnel's own packets.

The kernel checks an arriving packet by the route that an *unmarked* packet to its source would take. Where a resource covers the
address of a relay, a gateway or the portal (the Internet resource covers all), that route leads into the tunnel, and a strict filter
drops what comes from there. Loose filtering (2) still demands a route to the source, and wins over a strict `all`.
"""

import errno
from pathlib import Path
from typing import Final

from wardgate.net.sysctl import PROC_SYS

_STRICT: Final = 1
_LOOSE: Final = 2
_NOT_AN_INTERFACE: Final = frozenset({"all", "default", "lo"})


class ReversePath:
    """Keeps every interface but the tunnel's from filtering strictly, as long as that is wanted."""

    name = "reverse path filter"
    is_necessary = True

    def __init__(self, interface: str, *, proc_sys: Path = PROC_SYS) -> None:
        self._interface = interface
        self._directory = proc_sys / "net/ipv4/conf"
        self._before: dict[str, int] = {}
        self.is_wanted = False

    async def read(self) -> dict[str, int]:
        """The value of each interface, and of `all`."""
        found = {}
        for directory in self._directory.iterdir():
            try:
                found[directory.name] = int((directory / "rp_filter").read_text(encoding="ascii"))
            except FileNotFoundError:
                continue  # gone meanwhile
        return found

    def differs(self, found: dict[str, int]) -> tuple[str, ...]:
        if self.is_wanted:
            return ("strict",) if strict_interfaces(found, besides=self._interface) else ()
        return ("no longer needed",) if self._before else ()

    async def repair(self, found: dict[str, int]) -> None:
        if not self.is_wanted:
            await self.undo()
            return
        for name in strict_interfaces(found, besides=self._interface):
            self._write(name, _LOOSE)
            self._before.setdefault(name, found[name])

    async def undo(self) -> None:
        found = await self.read()
        for name, before in self._before.items():
            if found.get(name) == _LOOSE:
                self._write(name, before)
        self._before.clear()

    def _write(self, name: str, value: int) -> None:
        try:
            (self._directory / name / "rp_filter").write_text(str(value), encoding="ascii")
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENODEV}:  # gone meanwhile
                raise


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
