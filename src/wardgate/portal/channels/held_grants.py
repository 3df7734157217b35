"""What a receiver holds: the grants that a gateway, or a client reached through a device pool, enforces
(portal-domain §7.2).

Only the latest grant of each (client, resource) pair counts. Deleting an older one must not revoke the newer,
hence grants are found by their own id before anything is rejected.
"""

from collections.abc import Iterable, Iterator

from wardgate.model.ids import AuthorizationId, ClientId, DeviceId, ResourceId
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.bus.messages import Holding
from wardgate.wire import messages as wire


class HeldGrants:
    """The latest grant of each pair, found by its pair, its client or its own id."""

    def __init__(self, rows: Iterable[PolicyAuthorization] = ()) -> None:
        """Take in stored grants; if a pair has several, the one that expires last counts."""
        self._by_client: dict[ClientId, dict[ResourceId, Holding]] = {}
        self._by_id: dict[AuthorizationId, Holding] = {}
        for holding in sorted(map(holding_of, rows), key=lambda one: one.expires_at_unix):
            self.put(holding)

    def __iter__(self) -> Iterator[Holding]:
        return iter(self._by_id.values())

    def of_resource(self, resource_id: ResourceId) -> list[Holding]:
        return [one for one in self if one.resource_id == resource_id]

    def has_client(self, client_id: ClientId) -> bool:
        return client_id in self._by_client

    def put(self, holding: Holding) -> None:
        """Add a grant, which replaces the former one of its pair."""
        former = self._by_client.get(holding.client_id, {}).get(holding.resource_id)
        if former is not None:
            self.remove(former)
        self._by_client.setdefault(holding.client_id, {})[holding.resource_id] = holding
        self._by_id[holding.authorization_id] = holding

    def remove(self, holding: Holding) -> None:
        del self._by_id[holding.authorization_id]
        resources = self._by_client[holding.client_id]
        del resources[holding.resource_id]
        if not resources:
            del self._by_client[holding.client_id]

    def prune(self, *, now_unix: int) -> None:
        """Drop grants that have expired: the receiver enforces that by itself."""
        for holding in [one for one in self if one.expires_at_unix <= now_unix]:
            self.remove(holding)

    def revoke(self, authorization_id: AuthorizationId, *, now_unix: int) -> wire.RejectAccess | None:
        """Drop a revoked grant; return the message for the receiver, or None if it no longer enforces the
        grant.
        """
        holding = self._by_id.get(authorization_id)
        if holding is None:
            return None
        self.remove(holding)
        if holding.expires_at_unix <= now_unix:
            return None
        return wire.RejectAccess(holding.client_id, holding.resource_id)

    def views(self) -> tuple[wire.Authorization, ...]:
        """Return the complete list for `init`."""
        return tuple(wire.Authorization(one.client_id, one.resource_id, one.expires_at_unix) for one in self)


def holding_of(row: PolicyAuthorization) -> Holding:
    """Return what sessions remember of a stored grant, or of one that is to be stored."""
    return Holding(
        AuthorizationId(row.id),
        ClientId(DeviceId(row.initiating_device_id)),
        DeviceId(row.receiving_device_id),
        ResourceId(row.resource_id),
        int(row.expires_at.timestamp()),
    )
