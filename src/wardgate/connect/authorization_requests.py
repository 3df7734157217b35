"""When a client asks the portal for a resource (data-plane §4.3).

Packets drive the requests; there is no timer. The first packet asks, and a later one asks again no sooner
than 2 s after the last request. An answer counts only while a request is open.

A client is not told when a grant ends; it finds out when its gateway refuses packets, and then requests a new
grant. A refusal may also come from a firewall behind the gateway while the grant is valid, so these renewals
are rate-limited.
"""

from typing import Final

from wardgate.model.ids import GatewayId, ResourceId

REPEAT_AFTER_S: Final = 2.0  # data-plane §4.3
RENEW_AFTER_S: Final = 10.0  # ours


class AuthorizationRequests:
    """Open requests by resource, and the gateways to name as already connected."""

    def __init__(self) -> None:
        self._asked_at: dict[ResourceId, float] = {}
        self._renewed_at: dict[ResourceId, float] = {}
        self._last_gateway: dict[ResourceId, GatewayId] = {}
        self._seen: set[GatewayId] = set()

    def is_open(self, resource_id: ResourceId) -> bool:
        return resource_id in self._asked_at

    def is_due(self, resource_id: ResourceId, *, now: float) -> bool:
        """Tell whether a packet for this resource justifies a request now."""
        asked_at = self._asked_at.get(resource_id)
        return asked_at is None or now - asked_at >= REPEAT_AFTER_S

    def is_renewal_due(self, resource_id: ResourceId, *, now: float) -> bool:
        """Tell whether a gateway's refusal justifies a request now, although we believe to hold a grant."""
        renewed_at = self._renewed_at.get(resource_id)
        is_spaced = renewed_at is None or now - renewed_at >= RENEW_AFTER_S
        return is_spaced and self.is_due(resource_id, now=now)

    def handle_asked(self, resource_id: ResourceId, *, now: float, is_renewal: bool = False) -> None:
        self._asked_at[resource_id] = now
        if is_renewal:
            self._renewed_at[resource_id] = now

    def handle_granted(self, resource_id: ResourceId, gateway_id: GatewayId) -> None:
        """Close the request and remember who served it; the memory survives network changes."""
        self._asked_at.pop(resource_id, None)
        self._last_gateway[resource_id] = gateway_id
        self._seen.add(gateway_id)

    def close(self, resource_id: ResourceId) -> None:
        self._asked_at.pop(resource_id, None)

    def close_all(self) -> None:
        """The channel was lost or the network changed: open requests will not be answered."""
        self._asked_at.clear()

    def preferred_gateways(self, resource_id: ResourceId, connected: set[GatewayId]) -> tuple[GatewayId, ...]:
        """Gateways to name in a request: the resource's last one, connected ones, any seen before."""

        def order(gateway_id: GatewayId) -> tuple[bool, bool, int]:
            is_last = self._last_gateway.get(resource_id) == gateway_id
            return not is_last, gateway_id not in connected, gateway_id.int

        return tuple(sorted(self._seen | connected, key=order))
