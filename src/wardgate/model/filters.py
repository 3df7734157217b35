"""What traffic a resource admits: protocols and destination ports (portal-domain §3.10).

An empty list of filters admits everything; otherwise a packet must match one. Ports mean nothing for ICMP.
"""

import itertools
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

FIRST_PORT: Final = 1
LAST_PORT: Final = 65535

_RANGE: Final = re.compile(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?")


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Inclusive range, 1 ≤ first ≤ last ≤ 65535; `parse` is the only way in from text."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not FIRST_PORT <= self.first <= self.last <= LAST_PORT:
            raise ValueError(f"{self.first}-{self.last} is no range of ports between 1 and 65535")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `"80"` or `"8000 - 8010"`.

        Raises:
            ValueError: neither form, a port outside 1…65535, or the lower bound above the upper.
        """
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is neither a port nor a range of ports")
        first = int(match[1])
        return cls(first, int(match[2]) if match[2] is not None else first)

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} - {self.last}"

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


@dataclass(frozen=True, slots=True)
class Filter:
    """One protocol; no `ports` = all ports. ICMP takes none; ranges do not overlap."""

    protocol: Protocol
    ports: tuple[PortRange, ...] = ()

    def __post_init__(self) -> None:
        if self.protocol is Protocol.ICMP and self.ports:
            raise ValueError("icmp has no ports")
        ordered = sorted(self.ports)
        for lower, upper in itertools.pairwise(ordered):
            if upper.first <= lower.last:
                raise ValueError(f"port ranges {lower} and {upper} overlap")

    def admits(self, protocol: Protocol, port: int | None = None) -> bool:
        if protocol is not self.protocol:
            return False
        return not self.ports or (port is not None and any(port in ports for ports in self.ports))


def admits(filters: tuple[Filter, ...], protocol: Protocol, port: int | None = None) -> bool:
    """Tell whether a packet passes a resource's filters; `port` is its destination port."""
    return not filters or any(one.admits(protocol, port) for one in filters)
