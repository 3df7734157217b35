"""IPv6 router advertisements on a host that begins to forward.

With forwarding switched on, an interface whose `accept_ra` is 1 ignores advertisements and loses the default
route that it had from one: a gateway on such a network would cut its host off. With 2 it goes on to accept
them. Interfaces that forwarded before we came are left alone, as are those whose advertisements a daemon
handles (`accept_ra` 0).
"""

from pathlib import Path
from typing import Final

from wardgate.net.sysctl import PROC_SYS, InterfaceParameter

_UNLESS_FORWARDING: Final = 1
_ALWAYS: Final = 2
_NOT_AN_INTERFACE: Final = frozenset({"all", "default", "lo"})


class RouterAdvertisements(InterfaceParameter):
    """To be kept before forwarding is switched on, and undone after it."""

    name = "router advertisements"
    is_necessary = False

    def __init__(self, *, proc_sys: Path = PROC_SYS) -> None:
        super().__init__(proc_sys / "net/ipv6/conf", "accept_ra", _ALWAYS)

    async def read(self) -> dict[str, int]:
        """`accept_ra` of those that do not forward."""
        forwarding = self._values("forwarding")
        return {name: value for name, value in (await super().read()).items() if not forwarding.get(name)}

    def chosen(self, found: dict[str, int]) -> tuple[str, ...]:
        return tuple(
            sorted(
                name
                for name, value in found.items()
                if value == _UNLESS_FORWARDING and name not in _NOT_AN_INTERFACE
            )
        )

    def differs(self, found: dict[str, int]) -> tuple[str, ...]:
        return ("end with forwarding",) if self.chosen(found) else ()
