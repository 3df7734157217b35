"""A client's session (protocol §3.2, §3.6): its resource list, its requests, its relays, its end.

One request:

    request ─► authorize ─┬─ denied ──────────────────────────► authorization_creation_failed
                          └─ granted ─► gateway chosen ─► OfferGrant ─► gateway … GrantAcknowledged ─┐
                                                     └──► journal … GrantStored ────────────────────┴─► authorization_created

The client is told when both have come in. Fifteen seconds without: `offline`. A newer request for the resource replaces the older.

Deliberately absent: device pools (client to client), whose messages are answered as for a client that knows no pool.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final
from uuid import UUID

from wardgate.model.ids import (
    AccountId,
    ActorId,
    AuthorizationId,
    AuthProviderId,
    ClientId,
    DeviceId,
    GatewayId,
    PolicyId,
    ResourceId,
)
from wardgate.model.resources import DevicePool, InternetResource, Resource
from wardgate.model.versions import moves_sites_in_place, uses_site_names
from wardgate.policy.engine import AccessRequest, Denied, Granted, authorize, connectable_resources
from wardgate.policy.evaluation import Facts
from wardgate.policy.explanation import ExplainedGateway, as_json, explain
from wardgate.policy.selection import NoGateway, OnlineGateway, select_gateway
from wardgate.policy.snapshot import site_of
from wardgate.portal.bus import Address, Presence
from wardgate.portal.channels.connecting import ConnectedClient
from wardgate.portal.channels.directed import (
    CandidatesOfClient,
    CandidatesOfGateway,
    GrantAcknowledged,
    GrantStored,
    Holding,
    OfferGrant,
    Superseded,
    WithdrawGrant,
)
from wardgate.portal.channels.journal import Journal
from wardgate.portal.channels.relay_selection import RelaySelection
from wardgate.portal.channels.session import Session
from wardgate.portal.channels.views import client_interface, flow_logs_setting, ice_credentials, site_view
from wardgate.portal.services import Services
from wardgate.portal.snapshot import AccountView
from wardgate.portal.store.rows import Change, Decision, PolicyAuthorization
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import derive_gateway_psk, derive_ice_credentials, unix_seconds
from wardgate.wire.dialect import Dialect
from wardgate.wire.frames import Framing
from wardgate.wire.ingest_tokens import GRACE_S, IngestClaims, mint_ingest_token
from wardgate.wire.resource_views import client_view, gateway_view
from wardgate.wire.user_agent import announced_version, client_software, device_os, parse_version

ACKNOWLEDGEMENT_S: Final = 15.0  # protocol §8
REEVALUATION_S: Final = 60.0  # protocol §3.6.8
REPEATED_DENIAL_S: Final = 10.0
"""A denial equal to one logged so recently is not logged again: a client repeats its request every 2 s while packets come."""


@dataclass(slots=True)
class _Pending:
    """A granted request on its way; `created` is what the client is told in the end.

    `candidates`: what the gateway signalled meanwhile. A client drops candidates of a gateway that it does not know yet
    (data-plane §1.5), and the gateway signals as soon as it has acknowledged.
    """

    holding: Holding
    created: wire.AuthorizationCreated
    deadline: float
    candidates: list[wire.Message] = field(default_factory=list)
    is_acknowledged: bool = False
    is_stored: bool = False


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The gateway of a grant, as its presence says."""

    presence: Presence
    why: str
    facts: dict[str, Any] = field(repr=False)


class ClientSession(Session):
    """One connected client. `held` are its grants from before this connection."""

    def __init__(
        self,
        dialect: Dialect,
        framing: Framing,
        *,
        services: Services,
        journal: Journal,
        connected: ConnectedClient,
        view: AccountView,
        held: list[PolicyAuthorization],
    ) -> None:
        super().__init__(dialect, framing, clock=services.environment.clock, counters=services.counters)
        self._services = services
        self._environment = services.environment
        self._bus = services.environment.bus
        self._journal = journal
        self._view = view
        self._actor = connected.actor
        self._token = connected.token
        self._device = connected.device
        self._public_key = connected.public_key
        self._origin = connected.origin
        self._software = client_software(connected.origin.user_agent)
        self._facts = Facts(
            remote_ip=connected.origin.remote_ip,
            region=connected.origin.region,
            auth_provider_id=(
                None
                if connected.token.auth_provider_id is None
                else AuthProviderId(connected.token.auth_provider_id)
            ),
            is_verified=connected.device.verified_at is not None,
        )
        self._address = Address("client", connected.device.id)
        self._presence: Presence | None = None
        self._unwatch: Callable[[], None] = _nothing
        self._relays = RelaySelection(
            self._bus,
            self._environment.rng,
            public_key=connected.public_key,
            expires_at_unix=unix_seconds(connected.token.expires_at),
            position=connected.origin.position,
        )
        self._shown: dict[ResourceId, wire.ClientResource] = {}
        self._pending: dict[ResourceId, _Pending] = {}
        self._held: dict[ResourceId, Holding] = {ResourceId(row.resource_id): Holding.of(row) for row in held}
        self._reevaluate_at = 0.0
        self._denials: dict[tuple[ResourceId, str], float] = {}

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_join(self, _message: wire.Message) -> None:
        self._bus.send(self._address, Superseded())
        self._presence = Presence(
            address=self._address,
            account_id=self._device.account_id,
            connection_id=self._environment.new_id(),
            token_id=self._token.id,
            group=None,
            facts={
                "name": self._device.name,
                "actor_id": str(self._actor.id),
                "ipv4": self._device.ipv4,
                "ipv6": self._device.ipv6,
                "public_key": self._public_key,
                "version": announced_version(self._origin.user_agent),
                "remote_ip": str(self._origin.remote_ip),
                "connected_at": self._environment.clock.now().isoformat(),
            },
        )
        self._bus.register(self._presence, self.handle_message)
        self._unwatch = self._bus.watch("presence:relay", self._on_relay_presence)
        self._reevaluate_at = self._clock.monotonic() + REEVALUATION_S
        self._shown = self._connectable_views()
        self._push_init()

    def _on_leave(self) -> None:
        self._unwatch()
        if self._presence is not None:
            self._bus.unregister(self._presence)
            self._presence = None
        self._pending.clear()

    def _push_init(self) -> None:
        self._push(
            wire.ClientInit(
                interface=client_interface(self._device, self._view.facts.config),
                resources=tuple(self._shown.values()),
                relays=self._relays.choose(),
                authorizations=(),
                flow_logs=flow_logs_setting(self._services.settings),
            )
        )

    def _on_timeout(self) -> None:
        now = self._clock.monotonic()
        if self._environment.clock.now() >= self._token.expires_at:
            self._stop("token_expired")
            return
        for resource_id in [one for one, pending in self._pending.items() if now >= pending.deadline]:
            self._end_pending(resource_id)
            self._fail(resource_id, "offline")
        if now >= self._reevaluate_at:
            self._reevaluate_at = now + REEVALUATION_S
            self._refresh()
        presence = self._relays.handle_timeout(now=now)
        if presence is not None:
            self._push(presence)

    def _next_timeout(self) -> float | None:
        left_s = (self._token.expires_at - self._environment.clock.now()).total_seconds()
        due = [self._reevaluate_at, self._clock.monotonic() + max(0.0, left_s)]
        due += (pending.deadline for pending in self._pending.values())
        relays_at = self._relays.poll_timeout()
        return min(due) if relays_at is None else min(*due, relays_at)

    def _on_relay_presence(self) -> None:
        self._relays.handle_presence_change(now=self._clock.monotonic())
        self.on_output()

    # ── what the client asks ─────────────────────────────────────────────────────────────────────────────────

    def _on_request(self, message: wire.Message) -> str | None:
        match message:
            case wire.RequestAuthorization():
                asked_at = self._clock.monotonic()
                self._request_authorization(message)
                self._services.metrics.decision_s.observe(self._clock.monotonic() - asked_at)
            case wire.NewGatewayIceCandidates(gateway_id, candidates):
                self._forward((gateway_id,), candidates, is_invalidated=False)
            case wire.InvalidateNewGatewayIceCandidates(gateway_id, candidates):
                self._forward((gateway_id,), candidates, is_invalidated=True)
            case wire.BroadcastToGateways(gateway_ids, candidates):
                self._forward(gateway_ids, candidates, is_invalidated=False)
            case wire.BroadcastInvalidatedToGateways(gateway_ids, candidates):
                self._forward(gateway_ids, candidates, is_invalidated=True)
            case wire.NoRelays():
                self._push(wire.RelaysPresence(disconnected_ids=(), connected=self._relays.choose()))
            case wire.ResolveDevicePoolDomain(resource_id, domain):
                self._push(wire.DevicePoolDomainResolutionFailed(resource_id, domain, "not_found"))
            case wire.InvalidateNewPeerIceCandidates(client_id, _candidates):
                self._push(wire.PeerIceCandidateError(client_id, "offline"))
            case _:
                # Capabilities (we never negotiate iceless), device access and peers' candidates: nothing to do.
                pass
        return None

    def _request_authorization(self, request: wire.RequestAuthorization) -> None:
        now = self._environment.clock.now()
        access = AccessRequest(
            ActorId(self._actor.id),
            request.resource_id,
            self._facts,
            self._token.expires_at,
            self._software,
        )
        decision = authorize(self._view.snapshot, access, now=now)
        resource_id = request.resource_id
        if isinstance(decision, Denied) or resource_id not in self._shown:
            # What the client is not shown stays `not_found`, so that probing reveals nothing (§5.5).
            violated = decision.violated_properties if isinstance(decision, Denied) else ()
            is_forbidden = bool(violated) and resource_id in self._shown
            reason = "forbidden" if is_forbidden else "not_found"
            self._log_denial(access, decision, reason, now=now, gateway=None)
            self._fail(resource_id, reason, tuple(one.value for one in violated) if is_forbidden else ())
            return
        if isinstance(decision.resource, DevicePool):
            self._fail(resource_id, "offline")
            return
        match self._choose_gateway(decision.resource, frozenset(request.connected_gateway_ids)):
            case NoGateway() as none:
                self._log_denial(
                    access, decision, none.value, now=now, gateway=ExplainedGateway(None, none.value)
                )
                self._fail(resource_id, none.value)
            case _Chosen() as chosen:
                self._grant(access, decision, chosen, now=now)

    def _choose_gateway(self, resource: Resource, connected: frozenset[GatewayId]) -> _Chosen | NoGateway:
        members = {
            GatewayId(DeviceId(member.address.id)): member
            for member in self._bus.members("gateway", self._device.account_id, site_of(resource))
        }
        announced = announced_version(self._origin.user_agent)
        choice = select_gateway(
            [
                OnlineGateway(id_, parse_version(member.facts["version"]), member.facts["position"])
                for id_, member in members.items()
            ],
            resource=resource,
            client_version=parse_version(announced),
            client_announced_version=announced is not None,
            client_position=self._origin.position,
            connected=connected,
            rng=self._environment.rng,
        )
        if isinstance(choice, NoGateway):
            return choice
        presence = members[choice.gateway.id]
        return _Chosen(presence, choice.why.value, dict(presence.facts))

    def _grant(self, access: AccessRequest, grant: Granted, chosen: _Chosen, *, now: datetime) -> None:
        row = PolicyAuthorization(
            id=self._environment.new_id(),
            account_id=self._device.account_id,
            policy_id=grant.policy.id,
            resource_id=grant.resource.id,
            initiating_device_id=self._device.id,
            receiving_device_id=chosen.presence.address.id,
            token_id=self._token.id,
            membership_id=grant.membership_id,
            initiator_remote_ip=str(self._origin.remote_ip),
            initiator_user_agent=self._origin.user_agent[:255],
            receiver_remote_ip=chosen.facts["remote_ip"],
            expires_at=grant.expires_at,
        )
        holding = Holding.of(row)
        create, created = self._messages(row, grant, chosen, now=now)
        if create is None or not self._bus.send(
            chosen.presence.address, OfferGrant(row, create, self._address)
        ):
            why = ExplainedGateway(None, "offline")
            self._log_denial(access, grant, "offline", now=now, gateway=why)
            self._fail(holding.resource_id, "offline")
            return
        self._end_pending(holding.resource_id)
        self._pending[holding.resource_id] = _Pending(
            holding, created, self._clock.monotonic() + ACKNOWLEDGEMENT_S
        )
        address, bus = self._address, self._bus
        gateway_address = chosen.presence.address

        def stored(is_stored: bool) -> None:
            if not is_stored:
                bus.send(gateway_address, WithdrawGrant(holding.authorization_id))
            bus.send(address, GrantStored(holding.authorization_id, is_stored))

        self._journal.write_grant(row, stored)
        gateway = ExplainedGateway(str(chosen.presence.address.id), chosen.why)
        explanation = as_json(explain(self._view.snapshot, access, grant, now=now, gateway=gateway))
        self._log_decision("granted", None, grant.resource, explanation, now=now, authorization=row)
        self._services.counters["grants"] += 1

    def _messages(
        self, row: PolicyAuthorization, grant: Granted, chosen: _Chosen, *, now: datetime
    ) -> tuple[wire.CreateAuthorization | None, wire.AuthorizationCreated]:
        client_id = ClientId(DeviceId(self._device.id))
        gateway_id = GatewayId(DeviceId(row.receiving_device_id))
        gateway_key, gateway_psk_base = chosen.facts["public_key"], chosen.facts["psk_base"]
        ice = derive_ice_credentials(
            initiator_id=client_id,
            initiator_key=self._public_key,
            receiver_id=gateway_id,
            receiver_key=gateway_key,
        )
        client_ice, gateway_ice = ice_credentials(ice)
        psk = derive_gateway_psk(
            client_id=client_id,
            client_key=self._public_key,
            client_psk_base=self._device.psk_base,
            gateway_id=gateway_id,
            gateway_key=gateway_key,
            gateway_psk_base=gateway_psk_base,
        )
        site_id = site_of(grant.resource)
        assert site_id is not None  # the engine grants no gateway-backed resource without one
        by_site_name = uses_site_names(self._software)
        created = wire.AuthorizationCreated(
            resource_id=grant.resource.id,
            gateway_id=gateway_id,
            gateway_public_key=gateway_key,
            gateway_ipv4=IPv4Address(chosen.facts["ipv4"]),
            gateway_ipv6=IPv6Address(chosen.facts["ipv6"]),
            **({"site_id": site_id} if by_site_name else {"gateway_group_id": site_id}),
            preshared_key=psk,
            client_ice_credentials=client_ice,
            gateway_ice_credentials=gateway_ice,
            use_iceless=False,
            flow_logs_ingest_token=self._ingest_token(row, grant, "initiator", now=now),
        )
        resource = gateway_view(grant.resource, parse_version(chosen.facts["version"]))
        if resource is None:
            return None, created
        os = device_os(self._origin.user_agent)
        create = wire.CreateAuthorization(
            ref=str(row.id),
            resource=resource,
            client=wire.AuthorizedClient(
                id=client_id,
                public_key=self._public_key,
                preshared_key=psk,
                ipv4=IPv4Address(self._device.ipv4),
                ipv6=IPv6Address(self._device.ipv6),
                version=announced_version(self._origin.user_agent),
                device_os_name=os.name,
                device_os_version=os.version,
                device_serial=self._device.device_serial,
                device_uuid=self._device.device_uuid,
                identifier_for_vendor=self._device.identifier_for_vendor,
                firebase_installation_id=self._device.firebase_installation_id,
            ),
            client_ice_credentials=client_ice,
            gateway_ice_credentials=gateway_ice,
            expires_at=unix_seconds(row.expires_at),
            use_iceless=False,
            subject=self._subject(),
            flow_logs_ingest_token=self._ingest_token(row, grant, "responder", now=now),
        )
        return create, created

    def _subject(self) -> wire.Subject:
        position = self._origin.position
        return wire.Subject(
            actor_id=ActorId(self._actor.id),
            actor_name=self._actor.name,
            actor_email=self._actor.email,
            actor_type=self._actor.type,
            auth_provider_id=(
                None if self._token.auth_provider_id is None else AuthProviderId(self._token.auth_provider_id)
            ),
            ip=str(self._origin.remote_ip),
            ip_region=self._origin.region,
            ip_city=self._origin.city,
            ip_lat=None if position is None else position.lat,
            ip_lon=None if position is None else position.lon,
            user_agent=self._origin.user_agent,
        )

    def _ingest_token(self, row: PolicyAuthorization, grant: Granted, role: Any, *, now: datetime) -> str:
        os = device_os(self._origin.user_agent)
        address = (
            None if isinstance(grant.resource, InternetResource) else getattr(grant.resource, "address", None)
        )
        claims = IngestClaims(
            account_id=AccountId(row.account_id),
            policy_authorization_id=AuthorizationId(row.id),
            policy_id=PolicyId(row.policy_id),
            resource_id=ResourceId(row.resource_id),
            initiator_device_id=DeviceId(row.initiating_device_id),
            responder_device_id=DeviceId(row.receiving_device_id),
            initiator_actor_id=ActorId(self._actor.id),
            resource_name=grant.resource.name,
            initiator_actor_name=self._actor.name,
            iat=unix_seconds(now),
            exp=unix_seconds(row.expires_at) + GRACE_S,
            authorized_at=now.isoformat(),
            authorization_expires_at=row.expires_at.isoformat(),
            uploads_enabled=False,
            role=role,
            resource_address=None if address is None else str(address),
            initiator_actor_email=self._actor.email,
            initiator_client_version=os.client_version,
            initiator_device_os_name=os.name,
            initiator_device_os_version=os.version,
            initiator_device_serial=self._device.device_serial,
            initiator_device_uuid=self._device.device_uuid,
            initiator_device_identifier_for_vendor=self._device.identifier_for_vendor,
            initiator_device_firebase_installation_id=self._device.firebase_installation_id,
        )
        return mint_ingest_token(claims, self._view.facts.ingest_signing_key)

    def _forward(
        self, gateway_ids: tuple[GatewayId, ...], candidates: tuple[str, ...], *, is_invalidated: bool
    ) -> None:
        related = {pending.holding.receiver_id for pending in self._pending.values()}
        related |= {holding.receiver_id for holding in self._held.values()}
        message = CandidatesOfClient(ClientId(DeviceId(self._device.id)), candidates, is_invalidated)
        for gateway_id in gateway_ids:
            if gateway_id in related:
                self._bus.send(Address("gateway", gateway_id), message)
            else:
                self._counters["candidates_unrelated"] += 1

    def _fail(self, resource_id: ResourceId, reason: str, violated: tuple[str, ...] = ()) -> None:
        self._services.counters[f"denials_{reason}"] += 1
        if violated:
            self._push(wire.AuthorizationCreationFailed(resource_id, reason, violated))
        else:
            self._push(wire.AuthorizationCreationFailed(resource_id, reason))

    def _log_denial(
        self,
        access: AccessRequest,
        decision: Granted | Denied,
        reason: str,
        *,
        now: datetime,
        gateway: ExplainedGateway | None,
    ) -> None:
        key, at = (access.resource_id, reason), self._clock.monotonic()
        if at < self._denials.get(key, 0.0):
            return
        self._denials = {one: until for one, until in self._denials.items() if until > at}
        self._denials[key] = at + REPEATED_DENIAL_S
        explanation = as_json(explain(self._view.snapshot, access, decision, now=now, gateway=gateway))
        resource = self._view.snapshot.resources.get(access.resource_id)
        self._log_decision(
            "denied",
            reason,
            resource,
            explanation,
            now=now,
            authorization=None,
            resource_id=access.resource_id,
        )

    def _log_decision(
        self,
        outcome: str,
        reason: str | None,
        resource: Resource | None,
        explanation: dict[str, Any],
        *,
        now: datetime,
        authorization: PolicyAuthorization | None,
        resource_id: UUID | None = None,
    ) -> None:
        id_ = resource.id if resource is not None else resource_id
        assert id_ is not None
        self._journal.write_decision(
            Decision(
                account_id=self._device.account_id,
                log_id=f"d{self._environment.rng.getrandbits(92):023x}",
                outcome=outcome,
                reason=reason,
                actor_id=self._actor.id,
                actor_name=self._actor.name,
                device_id=self._device.id,
                resource_id=id_,
                resource_name=None if resource is None else resource.name,
                policy_id=None if authorization is None else authorization.policy_id,
                gateway_id=None if authorization is None else authorization.receiving_device_id,
                authorization_id=None if authorization is None else authorization.id,
                expires_at=None if authorization is None else authorization.expires_at,
                explanation=explanation,
                decided_at=now,
            )
        )

    # ── what others say ──────────────────────────────────────────────────────────────────────────────────────

    def _on_message(self, message: object) -> None:
        match message:
            case GrantAcknowledged(authorization_id):
                self._advance(authorization_id, is_acknowledged=True)
            case GrantStored(authorization_id, True):
                self._advance(authorization_id, is_stored=True)
            case GrantStored(authorization_id, False):
                pending = self._pending_by(authorization_id)
                if pending is not None:
                    self._end_pending(pending.holding.resource_id)
                    self._fail(pending.holding.resource_id, "not_found")
            case CandidatesOfGateway(gateway_id, candidates, is_invalidated):
                message_type = (
                    wire.InvalidateGatewayIceCandidates if is_invalidated else wire.GatewayIceCandidates
                )
                self._forward_candidates(gateway_id, message_type(gateway_id, candidates))
            case Superseded():
                self._stop("token_expired")
            case _:
                raise TypeError(f"a client session got {type(message).__name__}")

    def _advance(
        self, authorization_id: AuthorizationId, *, is_acknowledged: bool = False, is_stored: bool = False
    ) -> None:
        pending = self._pending_by(authorization_id)
        if pending is None:
            return
        pending.is_acknowledged |= is_acknowledged
        pending.is_stored |= is_stored
        if pending.is_acknowledged and pending.is_stored:
            self._held[pending.holding.resource_id] = pending.holding
            self._push(pending.created)
            self._end_pending(pending.holding.resource_id)

    def _forward_candidates(self, gateway_id: DeviceId, message: wire.Message) -> None:
        """Pass candidates on, behind a grant of the same gateway that the client has not been told yet."""
        for pending in self._pending.values():
            if pending.holding.receiver_id == gateway_id:
                pending.candidates.append(message)
                return
        self._push(message)

    def _end_pending(self, resource_id: ResourceId) -> None:
        """The request is answered, replaced or given up: what waited behind it goes on."""
        pending = self._pending.pop(resource_id, None)
        if pending is not None:
            for message in pending.candidates:
                self._forward_candidates(pending.holding.receiver_id, message)

    def _pending_by(self, authorization_id: AuthorizationId) -> _Pending | None:
        return next(
            (
                pending
                for pending in self._pending.values()
                if pending.holding.authorization_id == authorization_id
            ),
            None,
        )

    def _on_changes(self, changes: list[Change]) -> None:
        reset: set[ResourceId] = set()
        for change in changes:
            match change.object, change.operation:
                case "client_tokens", "delete" if _id(change) == self._token.id:
                    self._stop("token_expired")
                    return
                case "devices", "delete" if _id(change) == self._device.id:
                    self._stop()
                    return
                case "devices", "update" if _id(change) == self._device.id:
                    self._own_device_changed(change)
                case "accounts", "delete":
                    self._stop()
                    return
                case "accounts", "update":
                    self._account_changed(change)
                case "policy_authorizations", "delete":
                    reset |= self._grant_deleted(change)
                case _:
                    pass
        self._refresh(reset)

    def _own_device_changed(self, change: Change) -> None:
        assert change.after is not None
        after = change.after
        moved = (after["ipv4"], after["ipv6"]) != (self._device.ipv4, self._device.ipv6)
        verified_at = None if after["verified_at"] is None else datetime.fromisoformat(after["verified_at"])
        self._device = replace(
            self._device, name=after["name"], ipv4=after["ipv4"], ipv6=after["ipv6"], verified_at=verified_at
        )
        self._facts = replace(self._facts, is_verified=verified_at is not None)
        if moved and self.is_joined:
            self._shown = self._connectable_views()
            self._push_init()

    def _account_changed(self, change: Change) -> None:
        before, after = change.before or {}, change.after or {}
        if before.get("config") != after.get("config"):
            self._push(wire.ConfigChanged(client_interface(self._device, self._view.facts.config)))

    def _grant_deleted(self, change: Change) -> set[ResourceId]:
        """Forget a deleted grant; return the resource if the client must be made to ask for it again (§3.6.10)."""
        assert change.before is not None
        resource_id = ResourceId(UUID(change.before["resource_id"]))
        pending = self._pending.get(resource_id)
        if pending is not None and pending.holding.authorization_id == _id(change):
            self._end_pending(resource_id)
            self._fail(resource_id, "not_found")
        held = self._held.get(resource_id)
        if held is None or held.authorization_id != _id(change):
            return set()
        del self._held[resource_id]
        is_over = held.expires_at_unix <= unix_seconds(self._environment.clock.now())
        return set() if is_over else {resource_id}

    # ── the resource list ────────────────────────────────────────────────────────────────────────────────────

    def _refresh(self, reset: "set[ResourceId] | frozenset[ResourceId]" = frozenset()) -> None:
        """Push what changed in the list: deletions first. `reset` is deleted and created again even if unchanged."""
        if not self.is_joined:
            return
        before, self._shown = self._shown, self._connectable_views()
        for resource_id, resource in before.items():
            after = self._shown.get(resource_id)
            if after is None or self._must_vanish_first(resource_id, resource, after, reset):
                self._push(wire.ResourceDeleted(resource_id))
        for resource_id, after in self._shown.items():
            known = before.get(resource_id)
            if after != known or self._must_vanish_first(resource_id, known, after, reset):
                self._push(wire.ResourceCreatedOrUpdated(after))

    def _must_vanish_first(
        self,
        resource_id: ResourceId,
        before: wire.ClientResource | None,
        after: wire.ClientResource,
        reset: "set[ResourceId] | frozenset[ResourceId]",
    ) -> bool:
        if before is None or isinstance(after, wire.ClientInternetResource):
            # Deleting the internet resource would switch it off for the user (§3.2.1).
            return False
        if resource_id in reset:
            return True
        if moves_sites_in_place(self._software):
            return False
        return getattr(before, "served_by", None) != getattr(after, "served_by", None)

    def _connectable_views(self) -> dict[ResourceId, wire.ClientResource]:
        snapshot = self._view.snapshot
        resources = connectable_resources(
            snapshot, ActorId(self._actor.id), self._facts, self._software, now=self._environment.clock.now()
        )
        views = {}
        for resource_id, resource in resources.items():
            view = client_view(resource, site=site_view(snapshot, resource), software=self._software)
            if view is not None:
                views[resource_id] = view
        return views


def _id(change: Change) -> UUID:
    image = change.after if change.after is not None else change.before
    assert image is not None
    return UUID(image["id"])


def _nothing() -> None:
    """There is no watch yet."""
