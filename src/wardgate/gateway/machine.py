"""What a gateway decides: portal messages and engine events in; engine commands, portal messages, look-ups out (data-plane §5).

```
 portal ──handle_message──►┌─────────┐──apply──► engine
        ◄──Send────────────│ Gateway │◄──handle_event
 host   ◄──Configure───────└─────────┘
 names  ◄──Resolve──┘ └──handle_resolved
```

No I/O and no clock: the process drives it in production, the simulator in tests. Grants outlive failed
connections and the loss of the portal; they end with `reject_access`, an `init` without them, their expiry (the engine watches
it) or the client's goodbye.
"""

import logging
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final
from uuid import UUID

from msgspec.structs import asdict, replace

from wardgate.connect import log_fields as fields
from wardgate.connect.connections import CandidateMessages, Connections, PeerEvent
from wardgate.connect.control_packets import (
    ASSIGNED_IPS,
    DOMAIN_STATUS,
    AssignedIps,
    encode_domain_status,
    parse_assigned_ips,
)
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.filters import engine_filters
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.programmable import CommandRefused, Programmable
from wardgate.model.addresses import (
    EVERYWHERE,
    TUNNEL_IPV4,
    TUNNEL_IPV6,
    IpAddress,
    is_proxy_ip,
    may_be_translated_to,
    parse_ip,
)
from wardgate.model.ids import ClientId, DeviceId, ResourceId
from wardgate.model.name_pattern import NamePattern
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.peer.machine import Configure, Send
from wardgate.wire import messages as m

MAX_LOOKUPS: Final = 1000  # at once; further ones are dropped without a reply (data-plane §5.4)
MAX_LOOKUPS_PER_CLIENT: Final = 100  # ours: of those, so that one client leaves room for nine others
PROXY_IPS_PER_NAME: Final = (4, 8)  # of one family, of both (data-plane §4.8)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resolve:
    """Look a name up, A and AAAA, within 10 s; answer with `handle_resolved`."""

    lookup_id: int
    name: str


GatewayAction = Send | Configure | Resolve


class Gateway:
    """All clients of one gateway process."""

    def __init__(self, engine: Programmable, *, clock: ClockOffset) -> None:
        self._engine = engine
        self._clock = clock
        self._connections: Connections[ClientId] = Connections(
            engine,
            send=self._send,
            messages=CandidateMessages(
                added=lambda client_id, candidates: m.BroadcastIceCandidates((client_id,), candidates),
                removed=lambda client_id, candidates: m.BroadcastInvalidatedIceCandidates(
                    (client_id,), candidates
                ),
            ),
            describe=lambda client_id: {fields.CLIENT_ID: str(client_id)},
        )
        self._clients: dict[ClientId, _Client] = {}
        self._lookups: dict[int, _Lookup] = {}
        self._lookups_of: Counter[ClientId] = Counter()
        self._next_lookup_id = 0
        self._configured: Configure | None = None
        self._actions: deque[GatewayAction] = deque()

    @property
    def is_joined(self) -> bool:
        """Connected to the portal."""
        return self._connections.is_joined

    def held(self) -> frozenset[tuple[ClientId, ResourceId]]:
        """Whose access to what is enforced."""
        return frozenset((client_id, resource_id) for client_id, resource_id, _ in self._all_grants())

    def handle_joined(self) -> None:
        """The control channel is open."""
        self._connections.handle_joined()

    def handle_portal_lost(self) -> None:
        """Everything goes on as it is; candidates wait."""
        self._connections.handle_portal_lost()

    def handle_message(self, message: m.Message) -> None:
        """Carry out one message of the portal."""
        match message:
            case m.GatewayInit():
                self._handle_init(message)
            case m.CreateAuthorization():
                self._authorize(message)
            case m.RejectAccess(client_id=client_id, resource_id=resource_id):
                self._revoke(client_id, resource_id)
            case m.ResourceUpdated(resource=resource):
                self._update_resource(resource)
            case m.RelaysPresence():
                self._connections.handle_relays_presence(message)
            case m.ClientIceCandidates(client_id=client_id, candidates=candidates):
                self._connections.handle_remote_candidates(client_id, candidates)
            case m.InvalidateClientIceCandidates(client_id=client_id, candidates=candidates):
                self._connections.handle_invalid_candidates(client_id, candidates)
            case _:
                log.debug("message ignored", extra={"message_type": type(message).__name__})

    def handle_event(self, event: e.AnyEvent) -> None:
        """Take note of what the engine reports."""
        match event:
            case e.RelayUp() | e.RelayLost() | e.NoRelays():
                self._connections.handle_relay_event(event)
            case e.Intent() | e.AccessProhibited():
                log.debug("event ignored", extra={"event_type": type(event).__name__})
            case _:
                client_id = _client_id(event.peer_id)
                if client_id is None:
                    log.debug("event of no client ignored", extra={"event_type": type(event).__name__})
                else:
                    self._handle_client_event(client_id, event)

    def _handle_client_event(
        self, client_id: ClientId, event: PeerEvent | e.ControlPacket | e.GrantExpired
    ) -> None:
        match event:
            case e.ControlPacket(type=type_, payload=payload):
                if type_ == ASSIGNED_IPS:
                    self._handle_assigned(client_id, payload)
            case e.GrantExpired(peer_id=peer_id, resource_id=resource_id):
                self._forget_grant(client_id, _resource_id(resource_id))
                log.info("access expired", extra={fields.CLIENT_ID: peer_id, fields.RESOURCE_ID: resource_id})
            case _:
                self._connections.handle_peer_event(client_id, event)
                # After a failure the grants stay: a client that kept its state may come back (data-plane §1.12).
                if isinstance(event, e.PeerClosed):
                    self._clients.pop(client_id, None)

    def handle_resolved(self, lookup_id: int, addresses: frozenset[IpAddress] | None) -> None:
        """Finish a `Resolve`. `addresses` may be empty; None means that no server told in time."""
        lookup = self._lookups.pop(lookup_id)
        self._lookups_of[lookup.client_id] -= 1
        if not self._lookups_of[lookup.client_id]:
            del self._lookups_of[lookup.client_id]
        client = self._clients.get(lookup.client_id)
        if client is None or lookup.assigned.resource not in client.grants or addresses is None:
            self._report(lookup.client_id, lookup.assigned, is_active=False)
            return
        translated = self._apply(
            c.Translate(
                peer_id=str(lookup.client_id),
                resource_id=str(lookup.assigned.resource),
                name=lookup.assigned.domain,
                addresses=_translation(lookup.proxies, addresses),
            )
        )
        self._report(lookup.client_id, lookup.assigned, is_active=translated)

    def handle_clock_step(self, clock: ClockOffset) -> None:
        """Somebody set the wall clock: every expiry falls at another moment of the engine's clock now."""
        self._clock = clock
        self._retain({(client_id, resource_id) for client_id, resource_id, _ in self._all_grants()})

    def handle_shutdown(self) -> None:
        """Say goodbye to every client and release the relays."""
        self._apply(c.Shutdown())

    def poll_action(self) -> GatewayAction | None:
        return self._actions.popleft() if self._actions else None

    def _handle_init(self, init: m.GatewayInit) -> None:
        ipv4, ipv6 = str(init.interface.ipv4), str(init.interface.ipv6)
        self._apply(c.SetAddresses(ipv4, ipv6))
        wanted = Configure(TunConfiguration(ipv4, ipv6, routes=frozenset({TUNNEL_IPV4, TUNNEL_IPV6})))
        if wanted != self._configured:
            self._configured = wanted
            self._actions.append(wanted)
        self._connections.handle_relays_of_init(init.relays)
        for authorization in init.authorizations:
            if grant := self._grant(authorization.client_id, authorization.resource_id):
                grant.expires_at = authorization.expires_at
        self._retain({(one.client_id, one.resource_id) for one in init.authorizations})

    def _retain(self, pairs: set[tuple[ClientId, ResourceId]]) -> None:
        kept = tuple(
            c.RetainedGrant(str(client_id), str(resource_id), self._clock.deadline_s(grant.expires_at))
            for client_id, resource_id, grant in self._all_grants()
            if (client_id, resource_id) in pairs
        )
        dropped = [one for one in self._all_grants() if (one[0], one[1]) not in pairs]
        self._apply(c.RetainGrants(kept))
        for client_id, resource_id, _ in dropped:
            self._forget_grant(client_id, resource_id)
            log.info(
                "access revoked while the portal was away",
                extra={fields.CLIENT_ID: str(client_id), fields.RESOURCE_ID: str(resource_id)},
            )

    def _authorize(self, message: m.CreateAuthorization) -> None:
        client, resource = message.client, message.resource
        previous = self._grant(client.id, resource.id)
        try:
            self._engine.apply(
                c.UpsertPeer(
                    id=str(client.id),
                    public_key=client.public_key,
                    preshared_key=client.preshared_key,
                    local_ice=c.IceCredentials(**asdict(message.gateway_ice_credentials)),
                    remote_ice=c.IceCredentials(**asdict(message.client_ice_credentials)),
                    role="controlled",
                    profile="server",
                    ipv4=str(client.ipv4),
                    ipv6=str(client.ipv6),
                )
            )
            self._connections.open(client.id)
            grant = _Grant(resource, message.expires_at)
            self._clients.setdefault(client.id, _Client()).grants[resource.id] = grant
            self._engine.apply(self._grant_command(client.id, grant))
        except CommandRefused as refusal:
            # No acknowledgement: the portal lets the request time out and the client asks again.
            self._forget_grant(client.id, resource.id)
            if previous is not None:
                self._clients.setdefault(client.id, _Client()).grants[resource.id] = previous
            log.warning(
                "access could not be granted",
                extra={
                    fields.CLIENT_ID: str(client.id),
                    fields.RESOURCE_ID: str(resource.id),
                    fields.REASON: str(refusal),
                },
            )
            return
        if isinstance(resource, m.GatewayDnsResource):
            self._rank_again(except_for=(client.id, resource.id))
        self._send(m.AuthorizationAcknowledged(message.ref))
        log.info(
            "access granted", extra={fields.CLIENT_ID: str(client.id), fields.RESOURCE_ID: str(resource.id)}
        )

    def _grant_command(self, client_id: ClientId, grant: "_Grant") -> c.Grant:
        resource = grant.resource
        peer_id, resource_id = str(client_id), str(resource.id)
        deadline_s = self._clock.deadline_s(grant.expires_at)
        match resource:
            case m.GatewayCidrResource(address=address, filters=filters):
                return c.Grant(peer_id, resource_id, "cidr", (address,), engine_filters(filters), deadline_s)
            case m.GatewayDnsResource(address=address, filters=filters):
                rank = self._ranks()[address]
                return c.Grant(peer_id, resource_id, "dns", (), engine_filters(filters), deadline_s, rank)
            case m.GatewayInternetResource():
                return c.Grant(peer_id, resource_id, "internet", tuple(map(str, EVERYWHERE)), (), deadline_s)

    def _ranks(self) -> dict[str, int]:
        """Rank of every DNS pattern in use, the most specific first."""
        patterns = {
            grant.resource.address: grant.pattern
            for _, _, grant in self._all_grants()
            if isinstance(grant.resource, m.GatewayDnsResource)
        }
        # A pattern that cannot be parsed matches nothing and ranks last.
        ordered = sorted(
            patterns.items(),
            key=lambda item: (item[1] is None, item[1].specificity if item[1] else (), item[0]),
        )
        return {address: rank for rank, (address, _) in enumerate(ordered)}

    def _rank_again(self, *, except_for: tuple[ClientId, ResourceId]) -> None:
        ranks = self._ranks()
        for client_id, resource_id, grant in self._all_grants():
            if (
                isinstance(grant.resource, m.GatewayDnsResource)
                and grant.rank != ranks[grant.resource.address]
            ):
                grant.rank = ranks[grant.resource.address]
                if (client_id, resource_id) != except_for:
                    self._apply(self._grant_command(client_id, grant))

    def _revoke(self, client_id: ClientId, resource_id: ResourceId) -> None:
        self._apply(c.Revoke(str(client_id), str(resource_id)))
        self._forget_grant(client_id, resource_id)
        log.info(
            "access revoked", extra={fields.CLIENT_ID: str(client_id), fields.RESOURCE_ID: str(resource_id)}
        )

    def _update_resource(self, resource: m.GatewayResource) -> None:
        holders = [grant for _, resource_id, grant in self._all_grants() if resource_id == resource.id]
        if not holders:
            return
        if any(type(grant.resource) is not type(resource) for grant in holders):
            log.warning(
                "a resource changed its type and was left alone", extra={fields.RESOURCE_ID: str(resource.id)}
            )
            return
        if isinstance(resource, m.GatewayInternetResource):
            return
        for grant in holders:
            # Changed addresses are the portal's to revoke; only filters are taken over (data-plane §5.1).
            grant.resource = replace(grant.resource, filters=resource.filters)
        self._apply(c.UpdateFilters(str(resource.id), engine_filters(resource.filters)))

    def _handle_assigned(self, client_id: ClientId, payload: str) -> None:
        assigned = parse_assigned_ips(payload)
        if assigned is None:
            return
        proxies = _proxies(assigned.proxy_ips)
        grant = self._grant(client_id, assigned.resource)
        if (
            grant is None
            or grant.pattern is None
            or proxies is None
            or not grant.pattern.matches(assigned.domain)
        ):
            self._report(client_id, assigned, is_active=False)
        elif len(self._lookups) < MAX_LOOKUPS and self._lookups_of[client_id] < MAX_LOOKUPS_PER_CLIENT:
            lookup_id = self._next_lookup_id
            self._next_lookup_id += 1
            self._lookups_of[client_id] += 1
            self._lookups[lookup_id] = _Lookup(client_id, assigned, proxies)
            self._actions.append(Resolve(lookup_id, assigned.domain))

    def _report(self, client_id: ClientId, assigned: AssignedIps, *, is_active: bool) -> None:
        payload = encode_domain_status(
            assigned.resource, assigned.domain, "Active" if is_active else "Inactive"
        )
        self._apply(c.SendControlPacket(str(client_id), DOMAIN_STATUS, payload))

    def _grant(self, client_id: ClientId, resource_id: ResourceId) -> "_Grant | None":
        client = self._clients.get(client_id)
        return client.grants.get(resource_id) if client else None

    def _forget_grant(self, client_id: ClientId, resource_id: ResourceId) -> None:
        client = self._clients.get(client_id)
        if client is not None:
            client.grants.pop(resource_id, None)
            if not client.grants:
                del self._clients[client_id]

    def _all_grants(self) -> list[tuple[ClientId, ResourceId, "_Grant"]]:
        return [
            (client_id, resource_id, grant)
            for client_id, client in self._clients.items()
            for resource_id, grant in client.grants.items()
        ]

    def _apply(self, command: c.AnyCommand) -> bool:
        return try_apply(self._engine, command)

    def _send(self, message: m.Message) -> None:
        self._actions.append(Send(message))


@dataclass(slots=True)
class _Grant:
    resource: m.GatewayResource
    expires_at: int | None  # Unix seconds
    rank: int = -1  # as last given to the engine; -1: never
    pattern: NamePattern | None = field(init=False)

    def __post_init__(self) -> None:
        self.pattern = _pattern(self.resource)


@dataclass(slots=True)
class _Client:
    grants: dict[ResourceId, _Grant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Lookup:
    client_id: ClientId
    assigned: AssignedIps
    proxies: tuple[IpAddress, ...]


def _pattern(resource: m.GatewayResource) -> NamePattern | None:
    if not isinstance(resource, m.GatewayDnsResource):
        return None
    try:
        return NamePattern.parse(resource.address)
    except ValueError:
        log.warning("a resource's name pattern cannot be read", extra={fields.RESOURCE_ID: str(resource.id)})
        return None


def _translation(
    proxies: tuple[IpAddress, ...], real: frozenset[IpAddress]
) -> tuple[tuple[str, str | None], ...]:
    """Proxy addresses ascending get real ones of their family ascending, in turn; None if there are none."""
    pairs: list[tuple[str, str | None]] = []
    for version in (4, 6):
        ours = sorted((address for address in proxies if address.version == version), key=int)
        theirs = sorted(
            (one for one in real if one.version == version and may_be_translated_to(one)), key=int
        )
        pairs += (
            [(str(one), str(other)) for one, other in zip(ours, cycle(theirs), strict=False)]
            if theirs
            else [(str(one), None) for one in ours]
        )
    return tuple(pairs)


def _proxies(texts: tuple[str, ...]) -> tuple[IpAddress, ...] | None:
    """None: not what a client may let stand for a name; the engine judges the same way."""
    try:
        addresses = tuple(parse_ip(text) for text in texts)
    except ValueError:
        return None
    is_complete = len(addresses) in PROXY_IPS_PER_NAME and len(set(addresses)) == len(addresses)
    return addresses if is_complete and all(map(is_proxy_ip, addresses)) else None


def _client_id(peer_id: str) -> ClientId | None:
    """None: the engine cannot say any more who it was."""
    try:
        return ClientId(DeviceId(UUID(peer_id)))
    except ValueError:
        return None


def _resource_id(text: str) -> ResourceId:
    return ResourceId(UUID(text))
