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
next packet starts over.
"""

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import asdict

from wardgate.client.names import ClientNames
from wardgate.client.queries import Queries, QueryAction
from wardgate.client.resource_table import Entry, ResourceTable
from wardgate.connect import log_fields as fields
from wardgate.connect.authorization_requests import AuthorizationRequests
from wardgate.connect.connections import CandidateMessages, Connections, PeerEvent
from wardgate.connect.control_packets import DOMAIN_STATUS
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.flow_logging import FlowAction, FlowLogging
from wardgate.connect.log_names import resource_fields
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.programmable import Programmable
from wardgate.dns.recent_answers import RecentAnswers, with_id
from wardgate.dns.stub_resolver import Answered, AskSite, Recurse
from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.model.host_name import ascii_name
from wardgate.model.ids import DeviceId, GatewayId, ResourceId, SiteId
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.peer.machine import Configure, Send
from wardgate.wire import messages as m

OFFLINE_S: Final = 300.0  # a site counts as offline that long (data-plane §4.4)

_NO_CLOCK: Final = ClockOffset(unix_at_zero=0.0)

log = logging.getLogger(__name__)

ClientAction = Send | Configure | QueryAction | FlowAction


class Client:
    """One client process: its resources, its gateways, its names."""

    def __init__(
        self,
        engine: Programmable,
        *,
        is_internet_active: bool = False,
        clock: ClockOffset = _NO_CLOCK,
        prints_flows: bool = False,
    ) -> None:
        """Take the engine; `clock` is needed for flow records, `prints_flows` writes all of them to the log."""
        self._engine = engine
        self._connections: Connections[GatewayId] = Connections(
            engine,
            send=self._send,
            messages=CandidateMessages(
                added=m.NewGatewayIceCandidates, removed=m.InvalidateNewGatewayIceCandidates
            ),
            id_field=fields.GATEWAY_ID,
        )
        self._interface: m.ClientInterface | None = None
        self._resources = ResourceTable(is_internet_active=is_internet_active)
        self._gateways: dict[GatewayId, _Gateway] = {}
        self._requests = AuthorizationRequests()
        self._offline_until: dict[SiteId, float] = {}
        self._recent = RecentAnswers()
        self._names = ClientNames(engine, self._resources, recent=self._recent, gateways_of=self._gateways_of)
        self._queries = Queries(self._emit, self._recent)
        self._system_resolvers: tuple[IpAddress, ...] = ()
        self._configured: Configure | None = None
        self._actions: deque[ClientAction] = deque()
        self._flows = FlowLogging(
            engine, self._emit, clock=clock, prints=prints_flows, name_of=self._names.name_of
        )

    @property
    def is_joined(self) -> bool:
        """Connected to the portal."""
        return self._connections.is_joined

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
        self._connections.handle_portal_lost()
        self._requests.close_all()
        self._queries.fail_all_waiting()

    def handle_message(self, message: m.Message, *, now: float) -> None:
        """Carry out one message of the portal."""
        match message:
            case m.ClientInit(interface=interface, resources=resources, relays=relays, flow_logs=flow_logs):
                self._flows.handle_init(flow_logs)
                self._connections.handle_relays_of_init(relays)
                self._set_interface(interface)
                self._end_access(self._resources.replace(resources), now=now)
                self._refresh_routes()
            case m.ConfigChanged(interface=interface):
                self._set_interface(interface)
                self._refresh_routes()
            case m.ResourceCreatedOrUpdated(resource=resource):
                self._end_access(self._resources.upsert(resource), now=now)
                self._refresh_routes()
            case m.ResourceDeleted(resource_id=resource_id):
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
                log.debug("message ignored", extra={"message_type": type(message).__name__})

    # ── the engine ──────────────────────────────────────────────────────────────────────────────────────────

    def handle_event(self, event: e.AnyEvent, *, now: float) -> None:
        """React to what the engine reports."""
        match event:
            case e.Intent(resource_id=resource_id):
                self._request(_resource_id(resource_id), now=now)
            case e.AccessProhibited(resource_id=resource_id):
                self._request(_resource_id(resource_id), now=now, is_renewal=True)
            case e.RelayUp() | e.RelayLost() | e.NoRelays():
                self._connections.handle_relay_event(event)
            case e.FlowsReported():
                self._flows.handle_reports(event)
            case e.GrantExpired():
                log.debug("event ignored", extra={"event_type": type(event).__name__})
            case _:
                self._handle_gateway_event(_gateway_id(event.peer_id), event, now=now)

    def _handle_gateway_event(
        self, gateway_id: GatewayId, event: PeerEvent | e.ControlPacket, *, now: float
    ) -> None:
        if isinstance(event, e.ControlPacket):
            if event.type == DOMAIN_STATUS:
                self._handle_status(gateway_id, event.payload, now=now)
            return
        self._connections.handle_peer_event(gateway_id, event)
        match event:
            case e.HandshakeDone():
                self._handle_established(gateway_id, now=now)
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
        message = self._queries.begin(query_id, payload, sentinel=sentinel, is_udp=is_udp, now=now)
        if message is None:
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

    def handle_reset(self, private_key: str) -> None:
        """The network changed: reconnect everywhere with this key (standard base64); names stay (§1.11)."""
        self._apply(c.ResetNetwork(private_key))
        for gateway_id in list(self._gateways):
            self._forget_gateway(gateway_id)
        self._requests.close_all()
        self._connections.forget_all()
        self._offline_until.clear()
        self._queries.fail_all()

    def handle_clock_step(self, clock: ClockOffset) -> None:
        """The wall clock was set."""
        self._flows.handle_clock_step(clock)

    def handle_shutdown(self) -> None:
        """Say goodbye to every gateway and release the relays."""
        self._apply(c.Shutdown())

    def handle_timeout(self, *, now: float) -> None:
        self._names.handle_timeout(now=now)

    def poll_timeout(self) -> float | None:
        return self._names.poll_timeout()

    def poll_action(self) -> ClientAction | None:
        return self._actions.popleft() if self._actions else None

    def status(self, *, now: float) -> tuple["ResourceStatus", ...]:
        """Return the state of each resource: Internet resource first, then by name (data-plane §4.4)."""
        return tuple(self._status_of(entry, now=now) for entry in self._resources.entries())

    # ── authorization ───────────────────────────────────────────────────────────────────────────────────────

    def _request(self, resource_id: ResourceId, *, now: float, is_renewal: bool = False) -> None:
        """Ask for access if that is due. `is_renewal`: the gateway refuses what we believe to be granted."""
        is_due = self._requests.is_renewal_due if is_renewal else self._requests.is_due
        if self.is_joined and resource_id in self._resources and is_due(resource_id, now=now):
            self._requests.handle_asked(resource_id, now=now, is_renewal=is_renewal)
            preferred = self._requests.preferred_gateways(resource_id, set(self._gateways))
            self._send(m.RequestAuthorization(resource_id, preferred))

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
        what = {fields.RESOURCE_ID: str(resource_id)} if entry is None else resource_fields(entry.resource)
        log.info("access refused", extra={**what, fields.REASON: reason, fields.VIOLATED: violated})
        self._queries.fail_waiting(resource_id)
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
            self._queries.fail_waiting(resource_id)
            self._end(resource_id)
        if resource_ids:
            self._queries.forget_answers()
        self._names.handle_timeout(now=now)

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
        self._apply(c.SetAddresses(str(interface.ipv4), str(interface.ipv6)))
        self._queries.set_upstreams(interface, system=self._system_resolvers)

    def _refresh_routes(self) -> None:
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


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """`state`: online, offline or unknown."""

    resource_id: ResourceId
    name: str
    state: str


@dataclass(slots=True)
class _Gateway:
    peer: c.UpsertPeer
    site_id: SiteId
    resource_ids: set[ResourceId] = field(default_factory=set)
    is_established: bool = False


def _gateway_id(peer_id: str) -> GatewayId:
    return GatewayId(DeviceId(UUID(peer_id)))


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
