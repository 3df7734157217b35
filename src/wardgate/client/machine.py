"""What a client decides: portal messages, engine events and DNS queries in; commands, messages, answers out (data-plane §4).

```
 portal ──handle_message──► ┌────────┐ ──apply──► engine
        ◄──Send──────────── │ Client │ ◄──handle_event
 host   ◄──Configure─────── │        │
 DNS    ──handle_query────► │        │ ──Answer──► the asking program
        ──handle_answer───► └────────┘ ──AskUpstream, AskGateway──► a server
```

No I/O and no clock: the process drives it in production, the simulator in tests.

A resource's life: the engine reports an intent (a packet nobody authorised), the portal is asked, its answer brings the
gateway's keys; then the peer is added, its names are announced, the resource is authorised, and the engine sends what it had
buffered. A failed or closed peer takes its authorizations with it; the next packet starts over.
"""

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import dns.message
import dns.rcode
from msgspec import UNSET
from msgspec.structs import asdict

from wardgate.client.resource_table import Entry, ResourceTable
from wardgate.connect import log_fields as fields
from wardgate.connect.authorization_requests import AuthorizationRequests
from wardgate.connect.connections import CandidateMessages, Connections, PeerEvent
from wardgate.connect.control_packets import (
    ASSIGNED_IPS,
    DOMAIN_STATUS,
    encode_assigned_ips,
    parse_domain_status,
)
from wardgate.connect.log_names import resource_fields
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.programmable import Programmable
from wardgate.dns.answer_cache import AnswerCache
from wardgate.dns.name_states import Announce, Hold, NameKey, NameStates, Release
from wardgate.dns.proxy_addresses import Proxies, ProxyAddresses
from wardgate.dns.stub_resolver import (
    Answered,
    AskSite,
    Malformed,
    Recurse,
    StubResolver,
    answer_to,
    cut_to_udp,
    encode_answer,
    parse_answer,
    parse_query,
)
from wardgate.dns.upstreams import Do53, Sentinels, Upstream, choose_upstreams
from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.model.host_name import ascii_name
from wardgate.model.ids import DeviceId, GatewayId, ResourceId, SiteId
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.peer.machine import Configure, Send
from wardgate.wire import messages as m

MAX_SITE_QUERIES: Final = 128  # waiting per resource for its authorization (data-plane §4.3)
OFFLINE_S: Final = 300.0  # a site counts as offline that long (data-plane §4.4)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a query of the host; None: stay silent, it has asked again by now."""

    query_id: int
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class AskUpstream:
    """Forward a query; answer with `handle_answer`. `in_tunnel`: from our tunnel address, without the firewall mark."""

    query_id: int
    upstream: Upstream
    payload: bytes
    is_udp: bool
    in_tunnel: bool


@dataclass(frozen=True, slots=True)
class AskGateway:
    """Forward a query to the gateway's DNS server, from our tunnel address; answer with `handle_answer`."""

    query_id: int
    server: IpAddress
    payload: bytes
    is_udp: bool


ClientAction = Send | Configure | Answer | AskUpstream | AskGateway


class Client:
    """One client process: its resources, its gateways, its names."""

    def __init__(self, engine: Programmable, *, is_internet_active: bool = False) -> None:
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
        self._proxies = ProxyAddresses()
        self._resolver = StubResolver(self._proxies)
        self._names = NameStates()
        self._cache = AnswerCache()
        self._sentinels = Sentinels()
        self._system_resolvers: tuple[IpAddress, ...] = ()
        self._queries: dict[int, _Query] = {}
        self._site_queries: dict[ResourceId, deque[int]] = {}
        self._routes: tuple[c.Route, ...] | None = None
        self._routed: set[str] = set()  # names whose addresses the engine knows
        self._configured: Configure | None = None
        self._actions: deque[ClientAction] = deque()

    @property
    def is_joined(self) -> bool:
        """Connected to the portal."""
        return self._connections.is_joined

    @property
    def sentinels(self) -> tuple[IpAddress, ...]:
        """Addresses of the resolver, in order of preference; none before the first `init`."""
        return tuple(self._sentinels.mapping)

    # ── the portal ───────────────────────────────────────────────────────────────────────────────────────────

    def handle_joined(self) -> None:
        """The control channel is open."""
        self._connections.handle_joined()

    def handle_portal_lost(self) -> None:
        """Tunnels go on; what was asked will not be answered, the next packet asks again."""
        self._connections.handle_portal_lost()
        self._requests.close_all()
        for resource_id in list(self._site_queries):
            self._fail_site_queries(resource_id)

    def handle_message(self, message: m.Message, *, now: float) -> None:
        """Carry out one message of the portal."""
        match message:
            case m.ClientInit(interface=interface, resources=resources, relays=relays):
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

    # ── the engine ───────────────────────────────────────────────────────────────────────────────────────────

    def handle_event(self, event: e.AnyEvent, *, now: float) -> None:
        """React to what the engine reports."""
        match event:
            case e.Intent(resource_id=resource_id):
                self._request(_resource_id(resource_id), now=now)
            case e.AccessProhibited(resource_id=resource_id):
                self._request(_resource_id(resource_id), now=now, is_renewal=True)
            case e.RelayUp() | e.RelayLost() | e.NoRelays():
                self._connections.handle_relay_event(event)
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

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────

    def handle_query(
        self, query_id: int, payload: bytes, *, sentinel: IpAddress, is_udp: bool, now: float
    ) -> None:
        """Take a DNS query that arrived at a sentinel; exactly one `Answer` follows. `query_id`: unused so far."""
        try:
            message = parse_query(payload)
        except Malformed as error:
            log.debug("query dropped", extra={fields.REASON: str(error)})
            self._actions.append(Answer(query_id, None))
            return
        self._queries[query_id] = _Query(message, payload, sentinel, is_udp)
        cached = self._cache.lookup(message, now=now)
        if cached is not None:
            self._answer(query_id, encode_answer(cached, is_udp=is_udp))
            return
        match self._resolver.resolve(message):
            case Answered(message=answer, name=name):
                if name is not None:
                    self._refresh_name(name, now=now)
                self._answer(query_id, encode_answer(answer, is_udp=is_udp))
            case AskSite(resource_id=resource_id):
                self._ask_site(query_id, resource_id, now=now)
            case Recurse():
                self._ask_upstream(query_id)

    def handle_answer(
        self, query_id: int, payload: bytes | None, *, timed_out: bool = False, now: float
    ) -> None:
        """Finish an `AskUpstream` or `AskGateway`; None: it failed."""
        query = self._queries.get(query_id)
        if query is None:
            return
        if payload is None:
            # Over UDP the host has asked again by the time we know.
            self._fail(query_id, silently=timed_out and query.is_udp)
            return
        answer = parse_answer(payload, query.message)
        if answer is None:
            self._fail(query_id)
            return
        self._cache.store(answer, query=query.message, now=now)
        self._answer(query_id, cut_to_udp(payload) if query.is_udp else payload)

    def handle_system_resolvers(self, addresses: tuple[IpAddress, ...]) -> None:
        """The host's own resolvers, as they are without us."""
        self._system_resolvers = addresses
        if self._interface is not None:
            self._set_interface(self._interface)
            self._configure()

    # ── the process ──────────────────────────────────────────────────────────────────────────────────────────

    def handle_reset(self, private_key: str) -> None:
        """The network changed: every connection starts anew, with this key (standard base64); names stay (§1.11)."""
        self._apply(c.ResetNetwork(private_key))
        for gateway_id in list(self._gateways):
            self._forget_gateway(gateway_id)
        self._requests.close_all()
        self._connections.forget_all()
        self._offline_until.clear()
        self._site_queries.clear()
        for query_id in list(self._queries):
            self._fail(query_id)

    def handle_shutdown(self) -> None:
        """Say goodbye to every gateway and release the relays."""
        self._apply(c.Shutdown())

    def handle_timeout(self, *, now: float) -> None:
        self._names.handle_timeout(now=now)
        self._carry_out_names()

    def poll_timeout(self) -> float | None:
        return self._names.poll_timeout()

    def poll_action(self) -> ClientAction | None:
        return self._actions.popleft() if self._actions else None

    def status(self, *, now: float) -> tuple["ResourceStatus", ...]:
        """What a user is shown: Internet resource first, then by name (data-plane §4.4)."""
        return tuple(self._status_of(entry, now=now) for entry in self._resources.entries())

    # ── authorization ────────────────────────────────────────────────────────────────────────────────────────

    def _request(self, resource_id: ResourceId, *, now: float, is_renewal: bool = False) -> None:
        """`is_renewal`: the gateway refuses what we think is granted, because it forgot us or the grant has ended."""
        is_due = self._requests.is_renewal_due if is_renewal else self._requests.is_due
        if self.is_joined and resource_id in self._resources and is_due(resource_id, now=now):
            self._requests.handle_asked(resource_id, now=now, is_renewal=is_renewal)
            preferred = self._requests.preferred_gateways(resource_id, set(self._gateways))
            self._send(m.RequestAuthorization(resource_id, preferred))

    def _authorize(self, grant: m.AuthorizationCreated, *, now: float) -> None:
        entry = self._resources.get(grant.resource_id)
        if not self._requests.is_open(grant.resource_id) or entry is None:
            log.debug("grant ignored: nothing was asked", extra={fields.RESOURCE_ID: str(grant.resource_id)})
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
            self._fail_site_queries(grant.resource_id)
            return
        site = entry.site_names(grant.served_by)
        self._connections.open(grant.gateway_id, site)
        self._requests.handle_granted(grant.resource_id, grant.gateway_id)
        self._leave_other_gateways(grant.resource_id, grant.gateway_id)
        gateway = self._gateways.setdefault(grant.gateway_id, _Gateway(peer, grant.served_by))
        gateway.resource_ids.add(grant.resource_id)
        self._announce_names(grant.gateway_id, entry, now=now)
        self._authorize_addresses(grant.gateway_id, entry)
        for query_id in self._site_queries.pop(grant.resource_id, ()):
            self._ask_gateway(query_id, gateway)
        log.info(
            "access granted",
            extra={
                **resource_fields(entry.resource),
                fields.GATEWAY_ID: str(grant.gateway_id),
                **site,
            },
        )

    def _authorize_addresses(self, gateway_id: GatewayId, entry: Entry) -> None:
        if entry.rule is not None:
            addresses = tuple(
                address
                for name, proxies in self._proxies
                if entry.rule.pattern.matches(name)
                for address in entry.rule.addresses(proxies)
            )
        elif entry.network is not None:
            addresses = (str(entry.network),)
        else:
            addresses = ("0.0.0.0/0", "::/0")
        self._apply(c.Authorize(str(entry.resource.id), str(gateway_id), addresses))

    def _announce_names(self, gateway_id: GatewayId, entry: Entry, *, now: float) -> None:
        if entry.rule is None:
            return
        for name, proxies in self._proxies:
            if entry.rule.pattern.matches(name):
                key = NameKey(gateway_id, name, entry.resource.id)
                self._names.handle_authorized(key, entry.rule.addresses(proxies), now=now)
        self._carry_out_names()

    def _handle_failure(self, failure: m.AuthorizationCreationFailed, *, now: float) -> None:
        resource_id, reason = failure.resource_id, failure.reason
        violated = [] if failure.violated_properties is UNSET else sorted(failure.violated_properties)
        entry = self._resources.get(resource_id)
        what = {fields.RESOURCE_ID: str(resource_id)} if entry is None else resource_fields(entry.resource)
        log.info("access refused", extra={**what, fields.REASON: reason, fields.VIOLATED: violated})
        self._fail_site_queries(resource_id)
        if reason != "offline" or entry is None:
            # The engine keeps the packets: the next one, at least 2 s later, asks again.
            return
        self._requests.close(resource_id)
        for site_id in entry.site_ids:
            self._offline_until[site_id] = now + OFFLINE_S
        for gateway_id in [
            one for one, gateway in self._gateways.items() if resource_id in gateway.resource_ids
        ]:
            self._end_all_of(gateway_id)

    def _end_access(self, resource_ids: tuple[ResourceId, ...], *, now: float) -> None:
        """These resources are gone or not what they were."""
        for resource_id in resource_ids:
            self._requests.close(resource_id)
            self._fail_site_queries(resource_id)
            self._end(resource_id)
        if resource_ids:
            self._cache.clear()
        self._names.handle_timeout(now=now)
        self._carry_out_names()

    def _end_all_of(self, gateway_id: GatewayId) -> None:
        for resource_id in sorted(self._gateways[gateway_id].resource_ids, key=str):
            self._end(resource_id)

    def _end(self, resource_id: ResourceId) -> None:
        self._names.forget_resource(resource_id)
        self._carry_out_names()
        holders = [gateway for gateway in self._gateways.values() if resource_id in gateway.resource_ids]
        self._apply(c.Deauthorize(str(resource_id)))
        for gateway in holders:
            gateway.resource_ids.discard(resource_id)

    def _leave_other_gateways(self, resource_id: ResourceId, gateway_id: GatewayId) -> None:
        """Another gateway serves the resource now; the engine moves it, and closes what that leaves without use."""
        self._names.forget_resource(resource_id, except_at=gateway_id)
        for other, gateway in self._gateways.items():
            if other != gateway_id:
                gateway.resource_ids.discard(resource_id)

    def _forget_gateway(self, gateway_id: GatewayId) -> None:
        """Its connection is gone, and in the engine everything that hung on it."""
        self._gateways.pop(gateway_id, None)
        self._names.forget_gateway(gateway_id)
        self._connections.forget(gateway_id)

    def _handle_established(self, gateway_id: GatewayId, *, now: float) -> None:
        gateway = self._gateways.get(gateway_id)
        if gateway is not None:
            gateway.is_established = True
            self._offline_until.pop(gateway.site_id, None)
            self._names.handle_established(gateway_id, now=now)

    # ── host settings ────────────────────────────────────────────────────────────────────────────────────────

    def _set_interface(self, interface: m.ClientInterface) -> None:
        self._interface = interface
        self._apply(c.SetAddresses(str(interface.ipv4), str(interface.ipv6)))
        legacy = (_host_of(upstream.address) for upstream in interface.upstream_dns)
        upstreams = choose_upstreams(
            do53=[upstream.ip for upstream in interface.upstream_do53] or legacy,
            doh=[upstream.url for upstream in interface.upstream_doh],
            system=self._system_resolvers,
        )
        if set(upstreams) != set(self._sentinels.mapping.values()):
            self._cache.clear()
        self._sentinels.update(upstreams)

    def _refresh_routes(self) -> None:
        self._resolver.set_rules(self._resources.name_rules())
        self._set_routes()
        self._configure()

    def _set_routes(self) -> None:
        routes = self._resources.routes(self._proxies)
        self._routed = {name for name, _ in self._proxies}
        if self._routes is None or set(routes) != set(self._routes):
            self._routes = routes
            self._apply(c.SetRoutes(routes))

    def _route_name(self, name: str, proxies: Proxies) -> None:
        """Route a name's addresses; only its own are matched anew, but the engine takes whole tables."""
        forgotten = self._proxies.forget_surplus()
        if forgotten:
            log.info("names asked for longest ago are forgotten", extra={"names": len(forgotten)})
            for other in forgotten:
                self._names.forget_name(other)
            self._carry_out_names()
            self._routes = None
            self._set_routes()
        elif name not in self._routed:
            self._routed.add(name)
            self._routes = (*(self._routes or ()), *self._resources.routes_of([(name, proxies)]))
            self._apply(c.SetRoutes(self._routes))

    def _configure(self) -> None:
        if self._interface is None:
            return
        wanted = Configure(
            TunConfiguration(
                ipv4=str(self._interface.ipv4),
                ipv6=str(self._interface.ipv6),
                routes=self._resources.networks(),
                sentinels=tuple(map(str, self._sentinels.mapping)),
            ),
            _search_domain(self._interface),
        )
        if wanted != self._configured:
            self._configured = wanted
            self._actions.append(wanted)

    # ── names: the gateway's view ────────────────────────────────────────────────────────────────────────────

    def _refresh_name(self, name: str, *, now: float) -> None:
        """We answered a query for the name: route its addresses and have its gateways resolve it again."""
        self._names.handle_query(name, now=now)
        proxies = self._proxies.of(name)
        if proxies is not None:
            self._route_name(name, proxies)
            for rule in self._resolver.matching(name):
                entry = self._resources.get(rule.resource_id)
                for gateway_id, gateway in self._gateways.items():
                    key = NameKey(gateway_id, name, rule.resource_id)
                    if rule.resource_id in gateway.resource_ids and self._names.state(key) is None and entry:
                        self._names.handle_authorized(key, rule.addresses(proxies), now=now)
                        self._carry_out_names()
                        addresses = rule.addresses(proxies)
                        self._apply(c.Authorize(str(rule.resource_id), str(gateway_id), addresses))
        self._carry_out_names()

    def _carry_out_names(self) -> None:
        while (action := self._names.poll_action()) is not None:
            key = action.key
            peer_id, resource_id = str(key.gateway_id), str(key.resource_id)
            match action:
                case Hold(addresses=addresses):
                    self._apply(c.HoldName(peer_id, resource_id, addresses))
                case Release(addresses=addresses, flush=flush):
                    self._apply(c.ReleaseName(peer_id, resource_id, addresses, flush))
                case Announce(addresses=addresses):
                    payload = encode_assigned_ips(key.resource_id, key.name, addresses)
                    self._apply(c.SendControlPacket(peer_id, ASSIGNED_IPS, payload))

    def _handle_status(self, gateway_id: GatewayId, payload: str, *, now: float) -> None:
        status = parse_domain_status(payload)
        if status is not None:
            key = NameKey(gateway_id, status.domain.lower(), status.resource)
            is_doubtful = self._names.handle_status(key, is_active=status.is_active)
            self._carry_out_names()
            if is_doubtful:
                self._request(status.resource, now=now, is_renewal=True)

    # ── names: queries that others answer ────────────────────────────────────────────────────────────────────

    def _ask_upstream(self, query_id: int) -> None:
        query = self._queries[query_id]
        upstream = self._sentinels.mapping.get(query.sentinel)
        if upstream is None:
            self._fail(query_id)
            return
        in_tunnel = (
            isinstance(upstream, Do53)
            and upstream.is_custom
            and self._resources.carries_dns_to(upstream.address)
        )
        self._actions.append(AskUpstream(query_id, upstream, query.payload, query.is_udp, in_tunnel))

    def _ask_site(self, query_id: int, resource_id: ResourceId, *, now: float) -> None:
        for gateway in self._gateways.values():
            if resource_id in gateway.resource_ids:
                self._ask_gateway(query_id, gateway)
                return
        if not self.is_joined:
            self._fail(query_id)
            return
        waiting = self._site_queries.setdefault(resource_id, deque())
        waiting.append(query_id)
        if len(waiting) > MAX_SITE_QUERIES:
            self._fail(waiting.popleft())
        self._request(resource_id, now=now)

    def _ask_gateway(self, query_id: int, gateway: "_Gateway") -> None:
        query = self._queries[query_id]
        server = parse_ip(gateway.peer.ipv4 if query.sentinel.version == 4 else gateway.peer.ipv6)
        self._actions.append(AskGateway(query_id, server, query.payload, query.is_udp))

    def _fail_site_queries(self, resource_id: ResourceId) -> None:
        for query_id in self._site_queries.pop(resource_id, ()):
            self._fail(query_id)

    def _fail(self, query_id: int, *, silently: bool = False) -> None:
        query = self._queries[query_id]
        failure = answer_to(query.message, rcode=dns.rcode.SERVFAIL)
        self._answer(query_id, None if silently else encode_answer(failure, is_udp=query.is_udp))

    def _answer(self, query_id: int, payload: bytes | None) -> None:
        del self._queries[query_id]
        self._actions.append(Answer(query_id, payload))

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
        self._actions.append(Send(message))


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


@dataclass(frozen=True, slots=True)
class _Query:
    message: dns.message.Message
    payload: bytes
    sentinel: IpAddress
    is_udp: bool


def _gateway_id(peer_id: str) -> GatewayId:
    return GatewayId(DeviceId(UUID(peer_id)))


def _resource_id(text: str) -> ResourceId:
    return ResourceId(UUID(text))


def _search_domain(interface: m.ClientInterface) -> str | None:
    """In the form that resolvers append; what is no name is left out."""
    try:
        return ascii_name(interface.search_domain) if isinstance(interface.search_domain, str) else None
    except ValueError:
        log.warning("the search domain is no name", extra={fields.REASON: repr(interface.search_domain)})
        return None


def _host_of(address: str) -> str:
    """The host of `192.0.2.53:53` or `[2001:db8::53]:53`."""
    return address.rpartition(":")[0].strip("[]")
