"""The interface between the machines of client and gateway and their driver, with the actions they share."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from msgspec import Raw, Struct

from wardgate.connect.connections import ConnectionView, RelayView
from wardgate.connect.flow_logging import FlowAction
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send to the portal."""

    message: Message


@dataclass(frozen=True, slots=True)
class Configure:
    """Set up the host, in this order: addresses of the TUN interface, DNS, routes.

    `search_domain` is for clients only, in the form that resolvers append.
    """

    tun: TunConfiguration
    search_domain: str | None = None


_Action = TypeVar("_Action", covariant=True)


class TunnelMachine(Protocol[_Action]):
    """Decides, without I/O; `_Action` is what it requests besides `Send`, `Configure` and `FlowAction`.

    `bequeath` ends its part instead of `handle_shutdown`, and says what the machine of a process that takes over begins
    with by `inherit`.
    """

    @property
    def is_joined(self) -> bool: ...
    def handle_joined(self) -> None: ...
    def handle_portal_lost(self) -> None: ...
    def handle_shutdown(self) -> None: ...
    def bequeath(self) -> Struct: ...
    def inherit(self, legacy: Raw, *, now: float) -> None: ...
    def shown_connections(self) -> tuple[ConnectionView, ...]: ...
    def shown_relays(self) -> tuple[RelayView, ...]: ...
    def poll_action(self) -> Send | Configure | FlowAction | _Action | None: ...
