"""What a client decides: portal messages, engine events and DNS queries in; commands, messages, answers out
(data-plane §4).

```
 portal ──handle_message──► ┌────────┐ ──apply──► engine
        ◄──Send──────────── │ Client │ ◄──handle_event
 host   ◄──Configure─────── │        │
 DNS    ──handle_query────► │        │ ──Answer──► the asking program
        ──handle_answer───► └────────┘ ──AskUpstream, AskGateway──► a server
```

No I/O and no clock: the process drives it in production, the simulator in tests.

The life of an authorization: the engine reports an intent (a packet without authorization), the portal is
asked, its answer carries the gateway's keys; then the peer is added, its names are announced, the resource is
authorised, and the engine sends what it had buffered. A failed or closed peer loses its authorizations; the
next packet starts over. Device pools, which lead to other clients and let them in here, are `devices`' part.
"""

import logging
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import asdict

from wardgate.client.devices import Devices, denied_addresses
from wardgate.client.names import ClientNames, NameLegacy
from wardgate.client.pool_names import PoolNames
from wardgate.client.pool_table import DevicePool, DeviceTarget, PoolTable
from wardgate.client.queries import Queries, QueryAction
from wardgate.client.resource_table import Entry, ResourceTable
from wardgate.client.resumption import Resumption
from wardgate.connect import log_fields as fields
from wardgate.connect.authorization_requests import AuthorizationRequests
from wardgate.connect.connections import Connections, ConnectionView, PeerEvent, RelayView, Signalling
from wardgate.connect.control_packets import DOMAIN_STATUS
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.filters import engine_filters, filter_text, permits
from wardgate.connect.flow_logging import FlowAction, FlowLogging
from wardgate.connect.log_names import resource_fields
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.programmable import Programmable
from wardgate.dns.plain_query import read_query
from wardgate.dns.recent_answers import RecentAnswers, with_id
from wardgate.dns.stub_resolver import Answered, AskSite, Recurse
from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.model.host_name import ascii_name
from wardgate.model.ids import ClientId, DeviceId, GatewayId, ResourceId, SiteId
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.peer.machine import Configure, Send
from wardgate.peer.status import GrantView, ResourceView, Why
from wardgate.wire import messages as m

OFFLINE_S: Final = 300.0  # a site counts as offline that long (data-plane §4.4)

log = logging.getLogger(__name__)

ClientAction = Send | Configure | QueryAction | FlowAction


class Client:
    """One client process: its resources, its gateways, its names, and its part in device pools."""

    def __init__(
        self,
        engine: Programmable,
        *,
        clock: ClockOffset,
        is_internet_active: bool = False,
        prints_flows: bool = False,
    ) -> None:
        """Take the engine; `prints_flows` writes the records of all flows to the log."""
        self._engine = engine
        self._connections: Connections[DeviceId] = Connections(
            engine,
            send=self._send,
            signalling=Signalling(
                added=lambda peer, candidates: m.NewGatewayIceCandidates(GatewayId(peer), candidates),
                removed=lambda peer, candidates: m.InvalidateNewGatewayIceCandidates(
                    GatewayId(peer), candidates
                ),
                id_field=fields.GATEWAY_ID,
            ),
        )
        self._interface: m.ClientInterface | None = None
        self._resources = ResourceTable(is_internet_active=is_internet_active)
        self._gateways: dict[GatewayId, _Gateway] = {}
        self._requests = AuthorizationRequests()
        self._resumption = Resumption()
        # Since the portal was joined: only then it is known what may be asked for.
        self._is_initialised = False
        self._offline_until: dict[SiteId, float] = {}
        self._pools = PoolTable()
        self._patterns: tuple[object, ...] = ()  # of the names that are ours
        self._refusals: dict[ResourceId, Refusal] = {}
        self._recent = RecentAnswers()
        self._names = ClientNames(
            engine, self._resources, self._pools, recent=self._recent, gateways_of=self._gateways_of
        )
        self._queries = Queries(self._emit, self._recent)
        self._pool_names = PoolNames(
            self._queries, self._pools, send=self._send, is_joined=lambda: self.is_joined
        )
        self._system_resolvers: tuple[IpAddress, ...] = ()
        self._configured: Configure | None = None
        self._actions: deque[ClientAction] = deque()
        self._flows = FlowLogging(
            engine, self._emit, clock=clock, prints=prints_flows, name_of=self._names.name_of
        )
        self._devices = Devices(
            engine, self._connections, self._pools, self._flows, clock=clock, send=self._send
        )

    @property
    def is_joined(self) -> bool:
        """Connected to the portal."""
        return self._connections.is_joined

    def held(self) -> frozenset[tuple[ClientId, ResourceId]]:
        """The pairs of client and pool by which other clients may reach this one."""
        return self._devices.held()

    @property
    def sentinels(self) -> tuple[IpAddress, ...]:
        """Addresses of the resolver, in order of preference; none before the first `init`."""
        return self._queries.sentinels

    # ── the portal ──────────────────────────────────────────────────────────────────────────────────────────

    def handle_joined(self) -> None:
        """The control channel is open."""
        self._connections.handle_joined()

    def handle_portal_lost(self) -> None:
        """Tunnels stay up; open requests will not be answered, the next packet asks again."""
        self._is_initialised = False
        self._connections.handle_portal_lost()
        self._requests.close_all()
        self._resumption.handle_portal_lost()
        self._devices.handle_portal_lost()
        self._pool_names.fail_all_waiting()
        self._queries.fail_all_waiting()

    def handle_message(self, message: m.Message, *, now: float) -> None:
        """Carry out one message of the portal."""
        match message:
            case m.ClientInit(interface=interface, relays=relays, authorizations=authorizations):
                self._flows.handle_init(message.flow_logs)
                self._connections.handle_relays_of_init(relays)
                self._set_interface(interface)
                self._replace_resources(message.resources, now=now)
                self._devices.handle_authorizations(authorizations)
                self._is_initialised = True
                self._resume(now=now)
                self._devices.resume(now=now)
            case m.ConfigChanged(interface=interface):
                self._set_interface(interface)
                self._refresh_routes()
            case m.ResourceCreatedOrUpdated(resource=resource):
                # One that has become a pool, or is none any more, leaves the other table.
                self._end_access_to(
                    self._pools.upsert(resource)
                    if isinstance(resource, DevicePool)
                    else self._pools.remove(resource.id)
                )
                self._end_access(self._resources.upsert(resource), now=now)
                self._refresh_routes()
            case m.ResourceDeleted(resource_id=resource_id):
                self._end_access_to(self._pools.remove(resource_id))
                self._end_access(self._resources.remove(resource_id), now=now)
                self._refresh_routes()
            case m.AuthorizationCreated():
                self._authorize(message, now=now)
            case m.AuthorizationCreationFailed():
                self._handle_failure(message, now=now)
            case m.GatewayIceCandidates(gateway_id=gateway_id, candidates=candidates):
                if gateway_id in self._gateways:
                    self._connections.handle_remote_candidates(gateway_id, candidates)
            case m.InvalidateGatewayIceCandidates(gateway_id=gateway_id, candidates=candidates):
                if gateway_id in self._gateways:
                    self._connections.handle_invalid_candidates(gateway_id, candidates)
            case m.RelaysPresence():
                self._connections.handle_relays_presence(message)
            case _:
                self._handle_device_message(message)

    def _handle_device_message(self, message: m.Message) -> None:
        match message:
            case m.DeviceAccessAuthorized():
                self._devices.handle_authorized(message)
            case m.DeviceAccessDenied():
                self._deny_device(message)
            case m.RejectAccess(client_id=client_id, resource_id=resource_id):
                self._devices.handle_rejected(client_id, resource_id)
            case m.ResourceFiltersUpdated(id=pool_id, filters=filters):
                self._devices.handle_filters(pool_id, filters)
            case m.PeerIceCandidates(client_id=client_id, candidates=candidates):
                if client_id in self._devices:
                    self._connections.handle_remote_candidates(client_id, candidates)
            case m.InvalidatePeerIceCandidates(client_id=client_id, candidates=candidates):
                if client_id in self._devices:
                    self._connections.handle_invalid_candidates(client_id, candidates)
            case m.PeerIceCandidateError(client_id=client_id):
                self._devices.handle_offline(client_id)
            case m.DevicePoolDomainResolved():
                self._end_access_to(self._pool_names.handle_resolved(message))
                self._refresh_routes()
            case m.DevicePoolDomainResolutionFailed():
                self._pool_names.handle_failed(message)
            case _:
                log.debug("message ignored", extra={"message_type": type(message).__name__})

    # ── the engine ──────────────────────────────────────────────────────────────────────────────────────────

    def handle_event(self, event: e.AnyEvent, *, now: float) -> None:
        """React to what the engine reports."""
        match event:
            case e.Intent(resource_id=resource_id, destination=destination, table="device"):
                self._devices.request(_device_target(resource_id, destination), now=now)
            case e.Intent(resource_id=resource_id):
                self._request(_resource_id(resource_id), now=now)
            case e.AccessProhibited(resource_id=resource_id, device_address=address):
                if address is None:
                    self._request(_resource_id(resource_id), now=now, is_renewal=True)
                else:
                    self._devices.request(_device_target(resource_id, address), now=now, is_renewal=True)
            case e.RelayUp() | e.RelayLost() | e.NoRelays():
                self._connections.handle_relay_event(event)
            case e.FlowsReported():
                self._flows.handle_reports(event)
            case _:
                device_id = DeviceId(UUID(event.peer_id))
                if device_id not in self._devices:
                    self._handle_gateway_event(GatewayId(device_id), event, now=now)
                elif not isinstance(event, e.ControlPacket):  # devices have nothing to say about names
                    self._devices.handle_event(ClientId(device_id), event)

    def _handle_gateway_event(
        self, gateway_id: GatewayId, event: PeerEvent | e.ControlPacket | e.GrantExpired, *, now: float
    ) -> None:
        if isinstance(event, e.ControlPacket):
            if event.type == DOMAIN_STATUS:
                self._handle_status(gateway_id, event.payload, now=now)
            return
        if isinstance(event, e.GrantExpired):
            return  # of a device that is forgotten meanwhile
        self._connections.handle_peer_event(gateway_id, event)
        match event:
            case e.HandshakeDone():
                self._handle_established(gateway_id, now=now)
            case e.PeerClosed(by="remote", in_use=True):
                # Another gateway may serve it, or this one is back in a moment.
                resources = self._served_by((event.peer_id,))
                self._forget_gateway(gateway_id)
                self._resumption.want(resources, now=now)
                self._resume(now=now)
            case e.PeerFailed() | e.PeerClosed():
                self._forget_gateway(gateway_id)

    # ── names ───────────────────────────────────────────────────────────────────────────────────────────────

    def answer_again(self, payload: bytes, *, is_udp: bool, now: float) -> bytes | None:
        """The answer to a DNS query that was asked in the same bytes a moment ago. None: ask `handle_query`."""
        found = self._recent.lookup(payload, is_udp=is_udp, now=now)
        if found is None:
            return None
        if found.name is not None:
            self._names.handle_asked(found.name, now=now)
        return with_id(payload, found.body)

    def handle_query(
        self, query_id: int, payload: bytes, *, sentinel: IpAddress, is_udp: bool, now: float
    ) -> None:
        """Take a DNS query that arrived at a sentinel, with a new id; exactly one `Answer` follows."""
        plain = read_query(payload)
        if (
            plain is not None
            and self._names.leaves_to_upstream(plain)
            and self._pools.pool_of_name(plain.name) is None
            and self._queries.forward(
                query_id,
                payload,
                plain,
                sentinel=sentinel,
                is_udp=is_udp,
                carries=self._resources.carries_dns_to,
            )
        ):
            return
        message = self._queries.begin(query_id, payload, sentinel=sentinel, is_udp=is_udp, now=now)
        if message is None or self._pool_names.handle_query(query_id, message, now=now):
            return
        match self._names.resolve(message):
            case Answered(message=answer, name=name):
                if name is not None:
                    self._names.handle_asked(name, now=now)
                self._queries.answer(query_id, answer, name=name)
            case AskSite(resource_id=resource_id):
                self._ask_site(query_id, resource_id, now=now)
            case Recurse():
                self._queries.ask_upstream(query_id, carries=self._resources.carries_dns_to)

    def handle_answer(
        self, query_id: int, payload: bytes | None, *, timed_out: bool = False, now: float
    ) -> None:
        """Finish an `AskUpstream` or `AskGateway`; None if it failed."""
        self._queries.handle_answer(query_id, payload, timed_out=timed_out, now=now)

    def handle_system_resolvers(self, addresses: tuple[IpAddress, ...]) -> None:
        """Take over the resolvers that the host would use without us."""
        self._system_resolvers = addresses
        if self._interface is not None:
            self._set_interface(self._interface)
            self._configure()

    # ── the process ─────────────────────────────────────────────────────────────────────────────────────────

    def handle_reset(self, private_key: str, *, in_use: Collection[str] = (), now: float) -> None:
        """The network changed: reconnect everywhere with this key (standard base64); names stay (§1.11).

        `in_use` are the peers with whom packets were exchanged lately. Access to what they serve is asked for again as
        soon as the portal is there: a program that only receives would wait for ever for a packet to ask for it.
        """
        self._resumption.want(self._served_by(in_use), now=now)
        self._apply(c.ResetNetwork(private_key))
        for gateway_id in list(self._gateways):
            self._forget_gateway(gateway_id)
        self._requests.close_all()
        self._devices.handle_reset(in_use=in_use)
        self._connections.forget_all()
        self._offline_until.clear()
        self._pool_names.forget_all()
        self._queries.fail_all()

    def handle_clock_step(self, clock: ClockOffset) -> None:
        """The wall clock was set: every expiry is now at a different time of the engine's clock."""
        self._devices.handle_clock_step(clock)
        self._flows.handle_clock_step(clock)

    def handle_shutdown(self) -> None:
        """Say goodbye to every peer and release the relays."""
        self._apply(c.Shutdown())

    def bequeath(self, in_use: Collection[str] = ()) -> "ClientLegacy":
        """End without a goodbye, so that gateways keep this client's translations; `in_use` as `handle_reset`."""
        legacy = ClientLegacy(tuple(map(str, self._served_by(in_use))), self._names.bequeath())
        self._apply(c.Shutdown(goodbye=False))
        return legacy

    def inherit(self, legacy: Raw, *, now: float) -> None:
        """Begin with what the process before this one knew; raises ValueError."""
        known = msgspec.json.decode(legacy, type=ClientLegacy)
        self._resumption.want(map(_resource_id, known.resources), now=now)
        self._names.inherit(known.names)

    def handle_timeout(self, *, now: float) -> None:
        self._resume(now=now)
        self._names.handle_timeout(now=now)
        self._pool_names.handle_timeout(now=now)

    def poll_timeout(self) -> float | None:
        resumed_at = self._resumption.poll_timeout() if self._is_initialised else None
        due = (self._names.poll_timeout(), self._pool_names.poll_timeout(), resumed_at)
        return min((one for one in due if one is not None), default=None)

    def poll_action(self) -> ClientAction | None:
        return self._actions.popleft() if self._actions else None

    def status(self, *, now: float) -> tuple["ResourceStatus", ...]:
        """Return the state of each resource: Internet resource first, then by name (data-plane §4.4)."""
        return tuple(self._status_of(entry, now=now) for entry in self._resources.entries())

    def shown_resources(self, *, now: float) -> tuple[ResourceView, ...]:
        """Tell each resource's state for people, in the order of `status`, and then that of device pools."""
        return (
            *(self.show(entry, now=now) for entry in self._resources.entries()),
            *self._devices.shown_pools(),
        )

    def shown_grants(self) -> tuple[GrantView, ...]:
        """Tell which other clients may reach this one."""
        return self._devices.shown_grants()

    def show(self, entry: Entry, *, now: float) -> ResourceView:
        gateways = self._gateways_of(entry.resource.id)
        refusal = self._refusals.get(entry.resource.id)
        return ResourceView(
            id=str(entry.resource.id),
            name=entry.name,
            kind="internet"
            if isinstance(entry.resource, m.ClientInternetResource)
            else "cidr"
            if entry.network
            else "dns",
            address="" if isinstance(entry.resource, m.ClientInternetResource) else entry.resource.address,
            sites=tuple(site.name for site in entry.resource.served_by),
            state=self._status_of(entry, now=now).state,
            gateway_id=str(gateways[0]) if gateways else None,
            refusal=None if refusal is None else refusal.reason,
        )

    def shown_connections(self) -> tuple[ConnectionView, ...]:
        return self._connections.shown()

    def shown_relays(self) -> tuple[RelayView, ...]:
        return self._connections.shown_relays()

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Who answers for names that are no resource's."""
        return self._queries.upstreams

    def why(self, target: IpAddress | str, *, protocol: str, port: int | None, now: float) -> Why:
        """Tell what becomes of a connection, as far as it is known; `ask_access` makes it known.

        Args:
            protocol: `tcp`, `udp` or `icmp`.
            port: None for any.
        """
        name = None if isinstance(target, str) else self._names.name_of(str(target))
        target = target if name is None else name
        device = self._devices.why(target, protocol=protocol, port=port)
        if device is not None:
            return device
        entries = self._resources.matching(target)
        if not entries:
            return Why(outcome="no resource", name=name, is_portal_connected=self.is_joined)
        open_to_it = [entry for entry in entries if permits(_filters_of(entry), protocol, port)]
        entry = (open_to_it or list(entries))[0]
        resource_id = entry.resource.id
        gateways, refusal = self._gateways_of(resource_id), self._refusals.get(resource_id)
        connections = {one.peer_id: one for one in self._connections.shown()}
        return Why(
            outcome="authorized" if gateways else "refused" if refusal else "no answer",
            name=name,
            resource=self.show(entry, now=now),
            others=tuple(one.name for one in entries if one is not entry),
            is_filtered=not open_to_it,
            filters=tuple(map(filter_text, _filters_of(entry))),
            reason=None if gateways or refusal is None else refusal.reason,
            violated=() if gateways or refusal is None else refusal.violated,
            connection=connections.get(str(gateways[0])) if gateways else None,
            is_portal_connected=self.is_joined,
        )

    def ask_access(self, resource_id: str, target: IpAddress | str, *, now: float) -> None:
        """Ask the portal as a packet to `target` would; what it refused before is forgotten."""
        asked = _resource_id(resource_id)
        if asked in self._pools:
            self._devices.ask_again(asked, target, now=now)
            return
        if not self._gateways_of(asked) and self._requests.is_due(asked, now=now):
            self._refusals.pop(asked, None)
        self._request(asked, now=now)

    # ── authorization ───────────────────────────────────────────────────────────────────────────────────────

    def _request(self, resource_id: ResourceId, *, now: float, is_renewal: bool = False) -> None:
        """Ask for access if that is due. `is_renewal`: the gateway refuses what we believe to be granted."""
        is_due = self._requests.is_renewal_due if is_renewal else self._requests.is_due
        if self.is_joined and resource_id in self._resources and is_due(resource_id, now=now):
            self._requests.handle_asked(resource_id, now=now, is_renewal=is_renewal)
            preferred = self._requests.preferred_gateways(resource_id, set(self._gateways))
            self._send(m.RequestAuthorization(resource_id, preferred))

    def _served_by(self, peers: Collection[str]) -> tuple[ResourceId, ...]:
        found = (gateway for gateway_id, gateway in self._gateways.items() if str(gateway_id) in peers)
        return tuple(dict.fromkeys(one for gateway in found for one in sorted(gateway.resource_ids, key=str)))

    def _resume(self, *, now: float) -> None:
        """Ask for what was in use, if that is due."""
        if not self._is_initialised:
            return
        for resource_id in self._resumption.take_due(now=now):
            if resource_id in self._resources:
                self._request(resource_id, now=now)
            else:
                self._resumption.forget(resource_id)

    def _authorize(self, grant: m.AuthorizationCreated, *, now: float) -> None:
        entry = self._resources.get(grant.resource_id)
        if not self._requests.is_open(grant.resource_id) or entry is None:
            log.debug("grant ignored: no request is open", extra={fields.RESOURCE_ID: str(grant.resource_id)})
            return
        peer = c.UpsertPeer(
            id=str(grant.gateway_id),
            public_key=grant.gateway_public_key,
            preshared_key=grant.preshared_key,
            local_ice=c.IceCredentials(**asdict(grant.client_ice_credentials)),
            remote_ice=c.IceCredentials(**asdict(grant.gateway_ice_credentials)),
            role="controlling",
            profile="client",
            ipv4=str(grant.gateway_ipv4),
            ipv6=str(grant.gateway_ipv6),
        )
        known = self._gateways.get(grant.gateway_id)
        if known is not None and known.peer != peer:
            self._forget_gateway(grant.gateway_id)  # it restarted: the engine replaces the connection
        if not self._apply(peer):
            self._requests.close(grant.resource_id)
            self._queries.fail_waiting(grant.resource_id)
            return
        site = entry.site_names(grant.served_by)
        self._connections.open(grant.gateway_id, site)
        self._requests.handle_granted(grant.resource_id, grant.gateway_id)
        self._resumption.forget(grant.resource_id)
        self._refusals.pop(grant.resource_id, None)
        self._leave_other_gateways(grant.resource_id, grant.gateway_id)
        gateway = self._gateways.setdefault(grant.gateway_id, _Gateway(peer, grant.served_by))
        gateway.resource_ids.add(grant.resource_id)
        record_under = self._flows.handle_token(grant.flow_logs_ingest_token)
        self._authorize_addresses(grant.gateway_id, entry, record_under, now=now)
        for query_id in self._queries.take_waiting(grant.resource_id):
            self._ask_gateway(query_id, gateway)
        log.info(
            "access granted",
            extra={**resource_fields(entry.resource), fields.GATEWAY_ID: str(grant.gateway_id), **site},
        )

    def _authorize_addresses(
        self, gateway_id: GatewayId, entry: Entry, record_under: str | None, *, now: float
    ) -> None:
        if entry.rule is not None:
            self._names.handle_granted(gateway_id, entry, record_under=record_under, now=now)
            return
        addresses = ("0.0.0.0/0", "::/0") if entry.network is None else (str(entry.network),)
        self._apply(
            c.Authorize(str(entry.resource.id), str(gateway_id), addresses, record_under=record_under)
        )

    def _handle_failure(self, failure: m.AuthorizationCreationFailed, *, now: float) -> None:
        resource_id, reason = failure.resource_id, failure.reason
        violated = [] if failure.violated_properties is UNSET else sorted(failure.violated_properties)
        entry = self._resources.get(resource_id)
        what = self._pools.log_fields(resource_id) if entry is None else resource_fields(entry.resource)
        log.info("access refused", extra={**what, fields.REASON: reason, fields.VIOLATED: violated})
        self._queries.fail_waiting(resource_id)
        self._resumption.handle_refused(resource_id, reason, now=now)
        if entry is not None:
            self._refusals[resource_id] = Refusal(reason, tuple(violated))
        if reason != "offline" or entry is None:
            # The engine keeps the packets: the next one, at least 2 s later, asks again.
            return
        self._requests.close(resource_id)
        for site_id in entry.site_ids:
            self._offline_until[site_id] = now + OFFLINE_S
        for gateway_id in self._gateways_of(resource_id):
            self._end_all_of(gateway_id)

    def _end_access(self, resource_ids: tuple[ResourceId, ...], *, now: float) -> None:
        """These resources were removed, or changed so much that they need a new grant."""
        for resource_id in resource_ids:
            self._requests.close(resource_id)
            self._refusals.pop(resource_id, None)
            self._queries.fail_waiting(resource_id)
            self._end(resource_id)
        if resource_ids:
            self._queries.forget_answers()
        self._names.handle_timeout(now=now)

    def _replace_resources(self, resources: tuple[m.ClientResource, ...], *, now: float) -> None:
        self._end_access_to(self._pools.replace(one for one in resources if isinstance(one, DevicePool)))
        others = (one for one in resources if not isinstance(one, DevicePool))
        self._end_access(self._resources.replace(others), now=now)
        self._refresh_routes()

    def _end_access_to(self, targets: tuple[DeviceTarget, ...]) -> None:
        """Pools were removed or have changed, and with them whom they lead to."""
        self._devices.end(targets)
        if targets:
            self._queries.forget_answers()

    def _deny_device(self, denial: m.DeviceAccessDenied) -> None:
        self._devices.handle_denied(denial)
        # The name may belong to another device by now: the portal is to be asked again.
        if denial.reason == "forbidden" and self._pools.forget_names_of(denied_addresses(denial)):
            self._refresh_routes()

    def _end_all_of(self, gateway_id: GatewayId) -> None:
        for resource_id in sorted(self._gateways[gateway_id].resource_ids, key=str):
            self._end(resource_id)

    def _end(self, resource_id: ResourceId) -> None:
        self._names.forget_resource(resource_id)
        self._apply(c.Deauthorize(str(resource_id)))
        for gateway in self._gateways.values():
            gateway.resource_ids.discard(resource_id)

    def _leave_other_gateways(self, resource_id: ResourceId, gateway_id: GatewayId) -> None:
        """One gateway serves the resource now; the engine closes connections left without a resource."""
        self._names.forget_resource(resource_id, except_at=gateway_id)
        for other, gateway in self._gateways.items():
            if other != gateway_id:
                gateway.resource_ids.discard(resource_id)

    def _forget_gateway(self, gateway_id: GatewayId) -> None:
        """The connection is gone, and in the engine everything that belonged to it."""
        self._gateways.pop(gateway_id, None)
        self._names.forget_gateway(gateway_id)
        self._connections.forget(gateway_id)

    def _handle_established(self, gateway_id: GatewayId, *, now: float) -> None:
        gateway = self._gateways.get(gateway_id)
        if gateway is not None:
            gateway.is_established = True
            self._offline_until.pop(gateway.site_id, None)
            self._names.handle_established(gateway_id, now=now)

    # ── host settings ───────────────────────────────────────────────────────────────────────────────────────

    def _set_interface(self, interface: m.ClientInterface) -> None:
        self._interface = interface
        self._devices.set_interface(interface)
        self._apply(c.SetAddresses(str(interface.ipv4), str(interface.ipv6)))
        self._queries.set_upstreams(interface, system=self._system_resolvers)

    def _refresh_routes(self) -> None:
        patterns = (self._resources.name_rules(), self._pools.patterns())
        if patterns != self._patterns:  # a name that is ours now may have had an upstream's answer
            self._patterns = patterns
            self._queries.forget_answers()
        self._names.handle_resources()
        self._configure()

    def _configure(self) -> None:
        if self._interface is None:
            return
        wanted = Configure(
            TunConfiguration(
                ipv4=str(self._interface.ipv4),
                ipv6=str(self._interface.ipv6),
                routes=self._resources.networks(),
                sentinels=tuple(map(str, self._queries.sentinels)),
            ),
            _search_domain(self._interface),
        )
        if wanted != self._configured:
            self._configured = wanted
            self._actions.append(wanted)

    # ── names ───────────────────────────────────────────────────────────────────────────────────────────────

    def _handle_status(self, gateway_id: GatewayId, payload: str, *, now: float) -> None:
        doubtful = self._names.handle_status(gateway_id, payload)
        if doubtful is not None:
            self._request(doubtful, now=now, is_renewal=True)

    def _ask_site(self, query_id: int, resource_id: ResourceId, *, now: float) -> None:
        serving = self._gateways_of(resource_id)
        if serving:
            self._ask_gateway(query_id, self._gateways[serving[0]])
        elif self.is_joined:
            self._queries.wait_for(resource_id, query_id)
            self._request(resource_id, now=now)
        else:
            self._queries.fail(query_id)

    def _ask_gateway(self, query_id: int, gateway: "_Gateway") -> None:
        peer = gateway.peer
        self._queries.ask_gateway(query_id, ipv4=parse_ip(peer.ipv4), ipv6=parse_ip(peer.ipv6))

    def _gateways_of(self, resource_id: ResourceId) -> list[GatewayId]:
        """The gateways that currently serve the resource for us."""
        return [one for one, gateway in self._gateways.items() if resource_id in gateway.resource_ids]

    def _status_of(self, entry: Entry, *, now: float) -> "ResourceStatus":
        sites = entry.site_ids
        if any(gateway.is_established and gateway.site_id in sites for gateway in self._gateways.values()):
            state = "online"
        elif sites and all(self._offline_until.get(site_id, now) > now for site_id in sites):
            state = "offline"
        else:
            state = "unknown"
        return ResourceStatus(entry.resource.id, entry.name, state)

    def _apply(self, command: c.AnyCommand) -> bool:
        return try_apply(self._engine, command)

    def _send(self, message: m.Message) -> None:
        self._emit(Send(message))

    def _emit(self, action: ClientAction) -> None:
        self._actions.append(action)


class ClientLegacy(msgspec.Struct, frozen=True):
    """What the next process is to know: the resources in use, and the names whose addresses programs have."""

    resources: tuple[str, ...] = ()
    names: tuple[NameLegacy, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """`state`: online, offline or unknown."""

    resource_id: ResourceId
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the portal said no when it was asked last."""

    reason: str
    violated: tuple[str, ...]


@dataclass(slots=True)
class _Gateway:
    peer: c.UpsertPeer
    site_id: SiteId
    resource_ids: set[ResourceId] = field(default_factory=set)
    is_established: bool = False


def _device_target(resource_id: str, address: str) -> DeviceTarget:
    return DeviceTarget(_resource_id(resource_id), parse_ip(address))


def _filters_of(entry: Entry) -> tuple[c.Filter, ...]:
    resource = entry.resource
    return () if isinstance(resource, m.ClientInternetResource) else engine_filters(resource.filters)


def _resource_id(text: str) -> ResourceId:
    return ResourceId(UUID(text))


def _search_domain(interface: m.ClientInterface) -> str | None:
    """Return the search domain in the form that resolvers append, or None if it is not a name."""
    try:
        return ascii_name(interface.search_domain) if isinstance(interface.search_domain, str) else None
    except ValueError:
        log.warning(
            "the search domain is not a valid name", extra={fields.REASON: repr(interface.search_domain)}
        )
        return None
