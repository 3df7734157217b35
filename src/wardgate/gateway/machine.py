"""What a gateway decides: portal messages and engine events in; engine commands, portal messages, look-ups
out (data-plane §5).

```
 portal ──handle_message──►┌─────────┐──apply──► engine
        ◄──Send────────────│ Gateway │◄──handle_event
 host   ◄──Configure───────└─────────┘
 names  ◄──Resolve──┘ └──handle_resolved
```

No I/O and no clock: the process drives it in production, the simulator in tests. Grants outlive failed
connections and the loss of the portal; they end with `reject_access`, an `init` without them, their expiry
(the engine watches it) or the client's goodbye.
"""

import logging
from collections import deque
from uuid import UUID

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import asdict, replace

from wardgate.connect import log_fields as fields
from wardgate.connect.connections import Connections, ConnectionView, PeerEvent, RelayView, Signalling
from wardgate.connect.control_packets import (
    ASSIGNED_IPS,
    DOMAIN_STATUS,
    AssignedIps,
    encode_domain_status,
    parse_assigned_ips,
)
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.filters import engine_filters
from wardgate.connect.flow_logging import FlowAction, FlowLogging
from wardgate.connect.log_names import name_of, resource_fields
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.programmable import CommandRefused, Programmable
from wardgate.gateway.grants import Grant, Grants, client_names
from wardgate.gateway.look_ups import LookUp, LookUps, Resolve, proxies_of, translation
from wardgate.model.addresses import EVERYWHERE, TUNNEL_IPV4, TUNNEL_IPV6, IpAddress
from wardgate.model.ids import ClientId, DeviceId, ResourceId
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.peer.machine import Configure, Send
from wardgate.peer.status import GrantView
from wardgate.wire import messages as m

log = logging.getLogger(__name__)

GatewayAction = Send | Configure | Resolve | FlowAction


class Gateway:
    """All clients of one gateway process."""

    def __init__(
        self,
        engine: Programmable,
        *,
        clock: ClockOffset,
        prints_flows: bool = False,
        counts_flows: bool = False,
    ) -> None:
        """Take what flows are for, whatever the portal wants: `prints_flows` writes each to the log, `counts_flows`
        has the engine know how many are open.
        """
        self._engine = engine
        self._clock = clock
        self._connections: Connections[ClientId] = Connections(
            engine,
            send=self._send,
            signalling=Signalling(
                added=lambda client, candidates: m.BroadcastIceCandidates((client,), candidates),
                removed=lambda client, candidates: m.BroadcastInvalidatedIceCandidates((client,), candidates),
                id_field=fields.CLIENT_ID,
            ),
        )
        self._grants = Grants()
        self._look_ups = LookUps()
        self._configured: Configure | None = None
        self._is_draining = False
        self._actions: deque[GatewayAction] = deque()
        self._flows = FlowLogging(
            engine, self._actions.append, clock=clock, prints=prints_flows, counts=counts_flows
        )

    @property
    def is_joined(self) -> bool:
        """Connected to the portal."""
        return self._connections.is_joined

    def held(self) -> frozenset[tuple[ClientId, ResourceId]]:
        """The pairs of client and resource that have a grant."""
        return frozenset((grant.client_id, grant.resource.id) for grant in self._grants)

    def shown_grants(self) -> tuple[GrantView, ...]:
        """Tell for people who may use what."""
        return tuple(
            GrantView(
                client_id=str(grant.client_id),
                actor=grant.actor,
                resource=name_of(grant.resource),
                address=""
                if isinstance(grant.resource, m.GatewayInternetResource)
                else grant.resource.address,
                expires_at=grant.expires_at,
            )
            for grant in self._grants
        )

    def shown_connections(self) -> tuple[ConnectionView, ...]:
        return self._connections.shown()

    def shown_relays(self) -> tuple[RelayView, ...]:
        return self._connections.shown_relays()

    def handle_joined(self) -> None:
        """The control channel is open."""
        self._connections.handle_joined()
        if self._is_draining:
            self._send(m.Draining())

    def handle_portal_lost(self) -> None:
        """Connections and grants stay; candidates wait."""
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
            case e.FlowsReported():
                self._flows.handle_reports(event)
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
            case e.GrantExpired(resource_id=resource_id):
                self._end("access expired", client_id, _resource_id(resource_id))
            case _:
                self._connections.handle_peer_event(client_id, event)
                # Grants outlive a failure: a client that kept its state may come back (data-plane §1.12).
                if isinstance(event, e.PeerClosed):
                    self._grants.remove_client(client_id)

    def handle_resolved(self, lookup_id: int, addresses: frozenset[IpAddress] | None) -> None:
        """Finish a `Resolve`. `addresses` may be empty; None means that no server answered in time."""
        look_up = self._look_ups.finish(lookup_id)
        client_id, assigned = look_up.client_id, look_up.assigned
        if addresses is None or self._grants.get(client_id, assigned.resource) is None:
            self._report(client_id, assigned, is_active=False)
            return
        is_translated = self._apply(
            c.Translate(
                peer_id=str(client_id),
                resource_id=str(assigned.resource),
                name=assigned.domain,
                addresses=translation(look_up.proxies, addresses),
            )
        )
        self._report(client_id, assigned, is_active=is_translated)

    def handle_clock_step(self, clock: ClockOffset) -> None:
        """The wall clock was set: every expiry is now at a different time of the engine's clock."""
        self._clock = clock
        self._flows.handle_clock_step(clock)
        self._retain(self.held())

    def handle_drain(self) -> None:
        """Want no new grants from now on; those that there are go on."""
        self._is_draining = True
        if self.is_joined:
            self._send(m.Draining())

    def handle_shutdown(self) -> None:
        """Say goodbye to every client and release the relays."""
        self._apply(c.Shutdown())

    def bequeath(self, translated: tuple[c.TranslatedFlow, ...] = ()) -> "GatewayLegacy":
        """End with a goodbye, upon which clients ask for this gateway again; the next goes on with `translated`."""
        self._apply(c.Shutdown())
        return GatewayLegacy(translated)

    def inherit(self, legacy: Raw, *, now: float) -> None:  # noqa: ARG002 - the engine minds the time
        """Begin with what the process before this one knew; raises ValueError."""
        self._apply(c.InheritFlows(msgspec.json.decode(legacy, type=GatewayLegacy).translated))

    def poll_action(self) -> GatewayAction | None:
        return self._actions.popleft() if self._actions else None

    def _handle_init(self, init: m.GatewayInit) -> None:
        ipv4, ipv6 = str(init.interface.ipv4), str(init.interface.ipv6)
        self._apply(c.SetAddresses(ipv4, ipv6))
        self._flows.handle_init(init.flow_logs)
        wanted = Configure(TunConfiguration(ipv4, ipv6, routes=frozenset({TUNNEL_IPV4, TUNNEL_IPV6})))
        if wanted != self._configured:
            self._configured = wanted
            self._actions.append(wanted)
        self._connections.handle_relays_of_init(init.relays)
        for authorization in init.authorizations:
            if grant := self._grants.get(authorization.client_id, authorization.resource_id):
                grant.expires_at = authorization.expires_at
        self._retain(frozenset((one.client_id, one.resource_id) for one in init.authorizations))

    def _retain(self, pairs: frozenset[tuple[ClientId, ResourceId]]) -> None:
        """Keep only these pairs, and give the engine their current deadlines."""
        kept: list[c.RetainedGrant] = []
        dropped: list[Grant] = []
        for grant in self._grants:
            if (grant.client_id, grant.resource.id) in pairs:
                deadline_s = self._clock.deadline_s(grant.expires_at)
                kept.append(c.RetainedGrant(str(grant.client_id), str(grant.resource.id), deadline_s))
            else:
                dropped.append(grant)
        self._apply(c.RetainGrants(tuple(kept)))
        for grant in dropped:
            self._end("access revoked while the portal was away", grant.client_id, grant.resource.id)

    def _authorize(self, message: m.CreateAuthorization) -> None:
        client, resource = message.client, message.resource
        actor = None if message.subject is UNSET else message.subject.actor_name
        who = {fields.CLIENT_ID: str(client.id), **client_names(actor), **resource_fields(resource)}
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
            self._connections.open(client.id, client_names(actor))
            record_under = self._flows.handle_token(message.flow_logs_ingest_token)
            self._give(client.id, resource, message.expires_at, actor=actor, record_under=record_under)
        except CommandRefused as refusal:
            # No acknowledgement: the portal lets the request time out and the client asks again.
            log.warning("access could not be granted", extra={**who, fields.REASON: str(refusal)})
            return
        self._send(m.AuthorizationAcknowledged(message.ref))
        log.info("access granted", extra=who)

    def _give(
        self,
        client_id: ClientId,
        resource: m.GatewayResource,
        expires_at: int | None,
        *,
        actor: str | None,
        record_under: str | None,
    ) -> None:
        """Have the engine enforce a grant.

        Raises:
            CommandRefused: the engine refused; a previous grant stays as it was.
        """
        previous = self._grants.get(client_id, resource.id)
        grant, *moved = self._grants.put(
            client_id, resource, expires_at, actor=actor, record_under=record_under
        )
        try:
            self._engine.apply(self._grant_command(grant))
        except CommandRefused:
            self._grants.remove(client_id, resource.id)
            if previous is not None:
                moved += self._grants.put(
                    client_id,
                    previous.resource,
                    previous.expires_at,
                    actor=previous.actor,
                    record_under=previous.record_under,
                )
            raise
        finally:
            for other in moved:
                self._apply(self._grant_command(other))

    def _grant_command(self, grant: Grant) -> c.Grant:
        resource = grant.resource
        peer_id, resource_id = str(grant.client_id), str(resource.id)
        deadline_s = self._clock.deadline_s(grant.expires_at)
        under = grant.record_under
        match resource:
            case m.GatewayCidrResource(address=address, filters=filters):
                limits = engine_filters(filters)
                return c.Grant(
                    peer_id, resource_id, "cidr", (address,), limits, deadline_s, record_under=under
                )
            case m.GatewayDnsResource(filters=filters):
                limits = engine_filters(filters)
                return c.Grant(
                    peer_id, resource_id, "dns", (), limits, deadline_s, grant.rank, record_under=under
                )
            case m.GatewayInternetResource():
                networks = tuple(map(str, EVERYWHERE))
                return c.Grant(peer_id, resource_id, "internet", networks, (), deadline_s, record_under=under)

    def _revoke(self, client_id: ClientId, resource_id: ResourceId) -> None:
        self._apply(c.Revoke(str(client_id), str(resource_id)))
        self._end("access revoked", client_id, resource_id)

    def _end(self, line: str, client_id: ClientId, resource_id: ResourceId) -> None:
        """Remove a grant that the engine no longer enforces, and log it."""
        grant = self._grants.get(client_id, resource_id)
        self._grants.remove(client_id, resource_id)
        unknown = {fields.CLIENT_ID: str(client_id), fields.RESOURCE_ID: str(resource_id)}
        log.info(line, extra=unknown if grant is None else grant.log_fields)

    def _update_resource(self, resource: m.GatewayResource) -> None:
        holders = self._grants.of_resource(resource.id)
        if not holders:
            return
        if any(type(grant.resource) is not type(resource) for grant in holders):
            log.warning("a resource changed its type and was left alone", extra=resource_fields(resource))
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
        proxies = proxies_of(assigned)
        grant = self._grants.get(client_id, assigned.resource)
        if (
            grant is None
            or grant.pattern is None
            or proxies is None
            or not grant.pattern.matches(assigned.domain)
        ):
            self._report(client_id, assigned, is_active=False)
        elif resolve := self._look_ups.begin(LookUp(client_id, assigned, proxies)):
            self._actions.append(resolve)

    def _report(self, client_id: ClientId, assigned: AssignedIps, *, is_active: bool) -> None:
        payload = encode_domain_status(
            assigned.resource, assigned.domain, "Active" if is_active else "Inactive"
        )
        self._apply(c.SendControlPacket(str(client_id), DOMAIN_STATUS, payload))

    def _apply(self, command: c.AnyCommand) -> bool:
        return try_apply(self._engine, command)

    def _send(self, message: m.Message) -> None:
        self._actions.append(Send(message))


class GatewayLegacy(msgspec.Struct, frozen=True):
    """What the next process is to know: the flows to names, which nothing but this gateway can translate back."""

    translated: tuple[c.TranslatedFlow, ...] = ()


def _client_id(peer_id: str) -> ClientId | None:
    """Return None if the engine no longer knows which peer it was."""
    try:
        return ClientId(DeviceId(UUID(peer_id)))
    except ValueError:
        return None


def _resource_id(text: str) -> ResourceId:
    return ResourceId(UUID(text))
