"""A simulated internet: hosts with one IPv4 address, NAT routers in front of some, latency and loss on each edge.

Addresses follow the model tests of the field: public hosts in 203.0.113.0/24, NAT routers in 198.51.100.0/24, hosts
behind them in 10.0.0.0/8. A datagram is (source, destination, payload) with addresses as "ip:port" text.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Datagram = tuple[str, str, bytes]
Receiver = Callable[[Datagram], None]

NAT_FIRST_PORT: Final = 42_000


class NatKind(enum.Enum):
    """Mapping and filtering behaviour (RFC 4787 §4.1, §5)."""

    OPEN = "open"  # no NAT, no filter
    PORT_RESTRICTED = "port-restricted"  # endpoint-independent mapping, address-and-port-dependent filtering
    ADDRESS_RESTRICTED = "address-restricted"  # endpoint-independent mapping, address-dependent filtering
    FULL_CONE = "full-cone"  # endpoint-independent mapping and filtering
    SYMMETRIC = "symmetric"  # address-and-port-dependent mapping and filtering


@dataclass(eq=False)
class Nat:
    """One router's translation table."""

    kind: NatKind
    public_ip: str
    binding_s: float = 120.0
    _next_port: int = NAT_FIRST_PORT
    _by_inside: dict[tuple[str, str], _Binding] = field(default_factory=dict)
    _by_port: dict[int, _Binding] = field(default_factory=dict)

    def outbound(self, source: str, destination: str, now: float) -> str:
        """The public source address that `destination` will see."""
        key = (source, destination if self.kind is NatKind.SYMMETRIC else "")
        binding = self._by_inside.get(key)
        if binding is None or binding.expires_at <= now:
            if binding is not None:
                del self._by_port[binding.port]
            binding = _Binding(source, self._free_port(source))
            self._by_inside[key] = binding
            self._by_port[binding.port] = binding
        binding.expires_at = now + self.binding_s
        binding.sent_to.add(destination)
        return f"{self.public_ip}:{binding.port}"

    def inbound(self, source: str, destination: str, now: float) -> str | None:
        """The inside address that a datagram to `destination` goes to, or None when the filter drops it."""
        binding = self._by_port.get(int(destination.rpartition(":")[2]))
        if binding is None or binding.expires_at <= now or not self._admits(binding, source):
            return None
        binding.expires_at = now + self.binding_s
        return binding.inside

    def _admits(self, binding: _Binding, source: str) -> bool:
        if self.kind is NatKind.FULL_CONE:
            return True
        if self.kind is NatKind.ADDRESS_RESTRICTED:
            address = source.rpartition(":")[0]
            return any(sent.rpartition(":")[0] == address for sent in binding.sent_to)
        return source in binding.sent_to

    def _free_port(self, source: str) -> int:
        wanted = int(source.rpartition(":")[2])
        if self.kind is not NatKind.SYMMETRIC and wanted not in self._by_port:
            return wanted  # real routers preserve the port when they can
        while self._next_port in self._by_port:
            self._next_port += 1
        self._next_port += 1
        return self._next_port - 1


@dataclass(eq=False)
class _Binding:
    inside: str
    port: int
    expires_at: float = 0.0
    sent_to: set[str] = field(default_factory=set)


@dataclass(eq=False)
class SimHost:
    """A host's cable: its own address, the router before it, and what its edge costs."""

    name: str
    ip: str
    receiver: Receiver
    nat: Nat | None
    latency_s: float
    loss: float
    connected: bool = True


class SimNetwork:
    """Carries datagrams between hosts on the running event loop's time."""

    def __init__(self, rng: random.Random) -> None:
        self.lost = 0  # datagrams, on lossy cables
        self._rng = rng
        self._hosts: dict[str, SimHost] = {}  # by the public address under which others reach it

    def attach(
        self,
        name: str,
        ip: str,
        receiver: Receiver,
        *,
        nat: Nat | None = None,
        latency_s: float = 0.01,
        loss: float = 0.0,
    ) -> SimHost:
        """Plug in a host. With a NAT, others reach it at the router's public address only."""
        host = SimHost(name, ip, receiver, nat, latency_s, loss)
        self._hosts[nat.public_ip if nat is not None else ip] = host
        return host

    def hosts(self) -> list[SimHost]:
        """Everything that is plugged in."""
        return list(self._hosts.values())

    def detach(self, host: SimHost) -> None:
        address = host.nat.public_ip if host.nat is not None else host.ip
        if self._hosts.get(address) is host:  # a successor may have the address already
            del self._hosts[address]
        host.connected = False

    def send(self, host: SimHost, datagram: Datagram) -> None:
        """Send one datagram from a host's cable."""
        source, destination, payload = datagram
        if not host.connected:
            return
        loop = asyncio.get_running_loop()
        if host.nat is not None:
            source = host.nat.outbound(source, destination, loop.time())
        target = self._hosts.get(destination.rpartition(":")[0])
        if target is None:
            return
        if self._rng.random() < host.loss or self._rng.random() < target.loss:
            self.lost += 1
            return
        loop.call_later(
            host.latency_s + target.latency_s, self._arrive, target, (source, destination, payload)
        )

    def _arrive(self, target: SimHost, datagram: Datagram) -> None:
        source, destination, payload = datagram
        if not target.connected:
            return
        if target.nat is not None:
            inside = target.nat.inbound(source, destination, asyncio.get_running_loop().time())
            if inside is None:
                return
            destination = inside
        target.receiver((source, destination, payload))
