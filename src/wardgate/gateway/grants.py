"""Who may use what: the grants that this gateway enforces, by client and by resource."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from wardgate.connect import log_fields as fields
from wardgate.connect.log_names import resource_fields
from wardgate.gateway.name_ranks import NameRanks
from wardgate.model.ids import ClientId, ResourceId
from wardgate.model.name_pattern import NamePattern
from wardgate.wire import messages as m

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Grant:
    """One client's use of one resource; `expires_at` in Unix seconds, None without end."""

    client_id: ClientId
    resource: m.GatewayResource
    expires_at: int | None
    pattern: NamePattern | None  # of a DNS resource, unless it cannot be parsed
    actor: str | None  # name of the client's user, if the portal sent it
    rank: int = 0  # among the client's DNS resources
    record_under: str | None = None  # the policy authorization that its flows are recorded under

    @property
    def log_fields(self) -> dict[str, str]:
        """The client and the resource, by id and name."""
        return {
            fields.CLIENT_ID: str(self.client_id),
            **client_names(self.actor),
            **resource_fields(self.resource),
        }


class Grants:
    """Indexed both ways, so that work for one client or resource never walks the grants of others."""

    def __init__(self) -> None:
        self._clients: dict[ClientId, _PeerGrants] = {}
        self._holders: dict[ResourceId, dict[ClientId, Grant]] = {}

    def __iter__(self) -> Iterator[Grant]:
        for holder in self._clients.values():
            yield from holder.grants.values()

    def get(self, client_id: ClientId, resource_id: ResourceId) -> Grant | None:
        return self._holders.get(resource_id, {}).get(client_id)

    def of_resource(self, resource_id: ResourceId) -> list[Grant]:
        return list(self._holders.get(resource_id, {}).values())

    def put(
        self,
        client_id: ClientId,
        resource: m.GatewayResource,
        expires_at: int | None,
        *,
        actor: str | None = None,
        record_under: str | None = None,
    ) -> list[Grant]:
        """Add or replace a grant; return it, followed by the client's grants whose rank changed with it."""
        self.remove(client_id, resource.id)
        grant = Grant(client_id, resource, expires_at, _pattern(resource), actor, record_under=record_under)
        holder = self._clients.setdefault(client_id, _PeerGrants())
        moved: list[Grant] = []
        if isinstance(resource, m.GatewayDnsResource):
            if holder.ranks.add(resource.address, grant.pattern):
                moved = holder.update_ranks()
            grant.rank = holder.ranks[resource.address]
        holder.grants[resource.id] = grant
        self._holders.setdefault(resource.id, {})[client_id] = grant
        return [grant, *moved]

    def remove(self, client_id: ClientId, resource_id: ResourceId) -> None:
        """Remove a grant if it exists."""
        holder = self._clients.get(client_id)
        grant = None if holder is None else holder.grants.pop(resource_id, None)
        if holder is None or grant is None:
            return
        if isinstance(grant.resource, m.GatewayDnsResource):
            holder.ranks.remove(grant.resource.address, grant.pattern)
        if not holder.grants:
            del self._clients[client_id]
        holders = self._holders[resource_id]
        del holders[client_id]
        if not holders:
            del self._holders[resource_id]

    def remove_client(self, client_id: ClientId) -> None:
        """Remove all grants of a client."""
        holder = self._clients.get(client_id)
        for resource_id in [] if holder is None else list(holder.grants):
            self.remove(client_id, resource_id)


@dataclass(slots=True)
class _PeerGrants:
    grants: dict[ResourceId, Grant] = field(default_factory=dict)
    ranks: NameRanks = field(default_factory=NameRanks)

    def update_ranks(self) -> list[Grant]:
        """Update the ranks of all DNS grants; return these grants."""
        named = [one for one in self.grants.values() if isinstance(one.resource, m.GatewayDnsResource)]
        for grant in named:
            assert isinstance(grant.resource, m.GatewayDnsResource)
            grant.rank = self.ranks[grant.resource.address]
        return named


def client_names(actor: str | None) -> dict[str, str]:
    """Log fields that say whose client it is, in addition to its id."""
    return {} if actor is None else {fields.ACTOR: actor}


def _pattern(resource: m.GatewayResource) -> NamePattern | None:
    if not isinstance(resource, m.GatewayDnsResource):
        return None
    try:
        return NamePattern.parse(resource.address)
    except ValueError:
        log.warning("a resource's name pattern cannot be read", extra=resource_fields(resource))
        return None
