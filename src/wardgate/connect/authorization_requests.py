"""When a client asks the portal for a resource (data-plane §4.3).

Packets drive the requests; there is no timer. The first packet asks, and a later one asks again no sooner
than 2 s after the last request. An answer counts only while a request is open.

A client is not told when a grant ends; it finds out when its gateway refuses packets, and then requests a new
grant. A refusal may also come from a firewall behind the gateway while the grant is valid, so these renewals
are rate-limited.
"""

from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

from wardgate.model.ids import GatewayId, ResourceId

REPEAT_AFTER_S: Final = 2.0  # data-plane §4.3
RENEW_AFTER_S: Final = 10.0  # ours

_Target = TypeVar("_Target", bound=Hashable)


class OpenRequests(Generic[_Target]):
    """Open requests by what they are for."""

    def __init__(self) -> None:
        self._open: dict[_Target, None] = {}  # an ordered set
        self._asked_at: dict[_Target, float] = {}
        self._renewed_at: dict[_Target, float] = {}

    def __iter__(self) -> Iterator[_Target]:
        return iter(tuple(self._open))

    def is_open(self, target: _Target) -> bool:
        return target in self._open

    def is_due(self, target: _Target, *, now: float) -> bool:
        """Tell whether a packet for this target justifies a request now."""
        asked_at = self._asked_at.get(target)
        return asked_at is None or now - asked_at >= REPEAT_AFTER_S

    def is_renewal_due(self, target: _Target, *, now: float) -> bool:
        """Tell whether a refusal by the other end justifies a request now, although we believe to hold a grant."""
        renewed_at = self._renewed_at.get(target)
        is_spaced = renewed_at is None or now - renewed_at >= RENEW_AFTER_S
        return is_spaced and self.is_due(target, now=now)

    def handle_asked(self, target: _Target, *, now: float, is_renewal: bool = False) -> None:
        self._open[target] = None
        self._asked_at[target] = now
        if is_renewal:
            self._renewed_at[target] = now

    def close(self, target: _Target) -> None:
        """The request has its answer, or will get none: the next packet asks at once."""
        self._open.pop(target, None)
        self._asked_at.pop(target, None)

    def refuse(self, target: _Target) -> None:
        """The request was refused: packets ask again no sooner than without an answer."""
        self._open.pop(target, None)

    def close_all(self) -> None:
        """The channel was lost or the network changed: open requests will not be answered."""
        self._open.clear()
        self._asked_at.clear()

    def forget(self, target: _Target) -> None:
        """The target does not exist any more."""
        self.close(target)
        self._renewed_at.pop(target, None)


class AuthorizationRequests(OpenRequests[ResourceId]):
    """Open requests by resource, and the gateways to name as already connected."""

    def __init__(self) -> None:
        super().__init__()
        self._last_gateway: dict[ResourceId, GatewayId] = {}
        self._seen: set[GatewayId] = set()

    def handle_granted(self, resource_id: ResourceId, gateway_id: GatewayId) -> None:
        """Close the request and remember who served it; the memory survives network changes."""
        self.close(resource_id)
        self._last_gateway[resource_id] = gateway_id
        self._seen.add(gateway_id)

    def preferred_gateways(self, resource_id: ResourceId, connected: set[GatewayId]) -> tuple[GatewayId, ...]:
        """Gateways to name in a request: the resource's last one, connected ones, any seen before."""

        def order(gateway_id: GatewayId) -> tuple[bool, bool, int]:
            is_last = self._last_gateway.get(resource_id) == gateway_id
            return not is_last, gateway_id not in connected, gateway_id.int

        return tuple(sorted(self._seen | connected, key=order))
