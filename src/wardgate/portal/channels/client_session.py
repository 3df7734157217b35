"""A client's session (protocol §3.2, §3.6): its lifecycle, its requests, and the effect of changes on it.

One request:

    request ─► authorize ─┬─ denied ───────────────────────────────► authorization_creation_failed
                          ├─ granted, reached by gateways ─► gateway_access ─► authorization_created
                          └─ granted, a pool of devices ───► pool_access ────► client_device_access_authorized

The parts are documented in their modules: `resource_list`, `asked_grants`, `decision_log`, `offers`.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from wardgate.model.ids import (
    AccountId,
    ActorId,
    AuthorizationId,
    ClientId,
    GatewayId,
    PolicyId,
    ResourceId,
    TokenId,
)
from wardgate.model.resources import DevicePool, InternetResource
from wardgate.policy import pools
from wardgate.policy.engine import Denied, Granted, authorize
from wardgate.portal.access.tables import Policy, PolicyAuthorization, Resource
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.bus import ClientPresence, DirectedMessage
from wardgate.portal.bus.messages import (
    CandidatesOfClient,
    CandidatesOfGateway,
    GrantAcknowledged,
    GrantQueued,
    GrantStored,
    Holding,
    OfferDeviceAccess,
    Superseded,
    WithdrawGrant,
)
from wardgate.portal.channels.asked_grants import UNSTORED, AskedGrants, Key
from wardgate.portal.channels.client_context import ClientContext
from wardgate.portal.channels.connecting import ConnectedClient, has_foreign_key
from wardgate.portal.channels.decision_log import DecisionLog
from wardgate.portal.channels.gateway_access import GatewayAccess
from wardgate.portal.channels.held_grants import HeldGrants, holding_of
from wardgate.portal.channels.journal import Journal
from wardgate.portal.channels.pool_access import PoolAccess
from wardgate.portal.channels.registration import CHECK_S, Registration, supersede
from wardgate.portal.channels.relay_selection import RelaySelection
from wardgate.portal.channels.resource_list import Lost, ResourceList
from wardgate.portal.channels.session import Session
from wardgate.portal.channels.views import client_interface, flow_logs_setting
from wardgate.portal.database.row_changes import Deleted, RowChange, Updated
from wardgate.portal.devices.tables import Device
from wardgate.portal.http.traced_request import NO_CONTEXT
from wardgate.portal.installation.tables import Account
from wardgate.portal.services import Services
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.snapshot.accounts import AccountView
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import unix_seconds
from wardgate.wire.dialect import Dialect
from wardgate.wire.frames import UNKNOWN_MESSAGE, VERSION_MISMATCH, Framing
from wardgate.wire.user_agent import announced_version

REEVALUATION_S: Final = 60.0  # protocol §3.6.8
NOBODY: Final[Lost] = {}


class ClientSession(Session):
    """One connected client.

    `trace` is the W3C trace context that its upgrade came with (protocol §1.2): spans of its decisions continue it.
    """

    def __init__(
        self,
        dialect: Dialect,
        framing: Framing,
        *,
        services: Services,
        journal: Journal,
        connected: ConnectedClient,
        view: AccountView,
        trace: Mapping[str, str] = NO_CONTEXT,
    ) -> None:
        super().__init__(dialect, framing, clock=services.environment.clock, counters=services.counters)
        self._services = services
        self._trace = trace
        push = _pushing_to(weakref.ref(self))
        self._context = context = ClientContext(
            connected, services=services, journal=journal, view=view, push=push
        )
        held = connected.held or ()
        own = [holding_of(row) for row in held if row.initiating_device_id == connected.device.id]
        self._decisions = DecisionLog(context)
        self._asked = AskedGrants(push, [(self._key(one), one) for one in own])
        self._gateways = GatewayAccess(context, self._asked, self._decisions)
        to_it = HeldGrants(row for row in held if row.receiving_device_id == connected.device.id)
        self._pools = PoolAccess(context, self._asked, self._decisions, to_it)
        self._list = ResourceList(context)
        self._registration: Registration[ClientPresence] | None = None
        self._unsubscribe: Callable[[], None] = _nothing
        self._relays = RelaySelection(
            context.bus,
            context.environment.rng,
            public_key=connected.public_key,
            expires_at_unix=unix_seconds(connected.token.expires_at),
            position=connected.origin.position,
        )
        self._reevaluate_at = 0.0
        self._check_at = 0.0
        self._token_ends_at = 0.0

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_join(self, _message: wire.Message) -> None:
        context = self._context
        if has_foreign_key(context.bus, context.device.account_id, context.address, context.public_key):
            # Both upgrades were under way at once.
            self._counters["public_keys_in_use"] += 1
            self._stop()
            return
        presence = self._make_presence()
        supersede(context.bus, presence)
        self._registration = Registration(context.bus, presence, self.handle_message)
        self._check_at = context.monotonic() + CHECK_S
        self._token_ends_at = self._when_token_ends()
        self._unsubscribe = context.bus.watch("presence:relay", self._on_relay_presence)
        self._reevaluate_at = context.monotonic() + REEVALUATION_S
        self._push_init()
        self._pools.push_filters()

    def _make_presence(self) -> ClientPresence:
        context, origin = self._context, self._context.origin
        return ClientPresence(
            client_id=context.client_id,
            account_id=AccountId(context.device.account_id),
            connection_id=context.environment.new_id(),
            token_id=TokenId(context.token.id),
            actor_id=ActorId(context.actor.id),
            name=context.device.name,
            ipv4=IPv4Address(context.device.ipv4),
            ipv6=IPv6Address(context.device.ipv6),
            public_key=context.public_key,
            psk_base=context.device.psk_base,
            user_agent=origin.user_agent,
            version=announced_version(origin.user_agent),
            remote_ip=origin.remote_ip,
            region=origin.region,
            position=origin.position,
            connected_at=context.now(),
        )

    def _on_leave(self) -> None:
        self._unsubscribe()
        self._unsubscribe = _nothing
        if self._registration is not None:
            self._registration.end()
            self._registration = None
        self._asked.forget_pending()
        self._decisions.close()

    def _push_init(self) -> None:
        context = self._context
        self._push(
            wire.ClientInit(
                interface=client_interface(context.device, context.view.facts.config),
                resources=self._list.replace(now=context.now()),
                relays=self._relays.choose(),
                authorizations=self._pools.views(),
                flow_logs=flow_logs_setting(self._services.settings, context.origin.user_agent),
            )
        )

    def _on_timeout(self) -> None:
        context, now = self._context, self._clock.monotonic()
        if context.now() >= context.token.expires_at:
            self._stop("token_expired")
            return
        # Anew each time, at least once a minute: the wall clock may be set.
        self._token_ends_at = self._when_token_ends()
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            if self._registration is not None and not self._registration.is_current():
                self._stop("token_expired")
                return
        self._asked.handle_timeout(now=now)
        self._decisions.handle_timeout(now=now)
        if now >= self._reevaluate_at:
            self._reevaluate_at = now + REEVALUATION_S
            self._asked.prune(now_unix=context.now_unix())
            self._pools.prune()
            self._refresh(now=context.now())
        presence = self._relays.handle_timeout(now=now)
        if presence is not None:
            self._push(presence)

    def _next_timeout(self) -> float | None:
        due = min(self._reevaluate_at, self._check_at, self._token_ends_at)
        for own in (self._asked.poll_timeout(), self._decisions.poll_timeout(), self._relays.poll_timeout()):
            if own is not None and own < due:
                due = own
        return due

    def _when_token_ends(self) -> float:
        """Return the token's expiry on the monotonic clock, as the clocks are now."""
        left_s = (self._context.token.expires_at - self._context.now()).total_seconds()
        return self._clock.monotonic() + max(0.0, left_s)

    def _on_relay_presence(self) -> None:
        self._relays.handle_presence_change(now=self._clock.monotonic())
        self.on_output()

    # ── what the client asks ─────────────────────────────────────────────────────────────────────────────────

    def _on_request(self, message: wire.Message) -> str | None:
        match message:
            case wire.RequestAuthorization():
                asked_at = self._clock.monotonic()
                self._request_authorization(message)
                took_s = self._clock.monotonic() - asked_at
                self._services.metrics.decision_s.observe(took_s)
                if (record := self._services.spans.record) is not None:
                    record(
                        "decision", took_s, {"wardgate.resource_id": str(message.resource_id)}, self._trace
                    )
            case wire.ResolveDevicePoolDomain(resource_id, domain):
                self._pools.resolve(resource_id, domain, is_shown=resource_id in self._list)
            case wire.NewGatewayIceCandidates(gateway_id, candidates):
                return self._forward((gateway_id,), candidates, is_invalidated=False)
            case wire.InvalidateNewGatewayIceCandidates(gateway_id, candidates):
                return self._forward((gateway_id,), candidates, is_invalidated=True)
            case wire.BroadcastToGateways(gateway_ids, candidates):
                return self._forward(gateway_ids, candidates, is_invalidated=False)
            case wire.BroadcastInvalidatedToGateways(gateway_ids, candidates):
                return self._forward(gateway_ids, candidates, is_invalidated=True)
            case wire.NewPeerIceCandidates(client_id, candidates):
                return self._forward_to_client(client_id, candidates, is_invalidated=False)
            case wire.InvalidateNewPeerIceCandidates(client_id, candidates):
                return self._forward_to_client(client_id, candidates, is_invalidated=True)
            case wire.NoRelays():
                presence = self._relays.handle_no_relays(now=self._clock.monotonic())
                if presence is not None:
                    self._push(presence)
            case wire.LegacyConnection():
                # No gateway that this portal serves would ever answer it.
                return VERSION_MISMATCH
            case _:
                # Capabilities (iceless is never negotiated) and messages that old clients send by accident.
                pass
        return None

    def _request_authorization(self, request: wire.RequestAuthorization) -> None:
        """Decide at the same instant and on the same snapshot as the list of resources (§5.5).

        A resource that is not in the client's list is `not_found`, so that probing reveals nothing. The list
        may be up to a minute old where policies have time windows; then the client gets the current list
        first.
        """
        now, resource_id = self._context.now(), request.resource_id
        access = self._context.access(resource_id)
        decision = authorize(self._context.snapshot, access, now=now)
        was_shown = resource_id in self._list
        if was_shown != isinstance(decision, Granted):
            self._refresh(now=now)
        match decision:
            case Denied():
                violated = decision.violated_properties if was_shown else ()
                reason = "forbidden" if violated else "not_found"
                self._decisions.denied(access, decision, reason, now=now)
                names = {"violated_properties": tuple(one.value for one in violated)} if violated else {}
                self._push(wire.AuthorizationCreationFailed(resource_id, reason, **names))
            case Granted(resource=resource) if isinstance(resource, DevicePool):
                self._pools.request(access, decision, request, now=now)
            case Granted():
                self._gateways.request(access, decision, request.connected_gateway_ids, now=now)

    def _forward(
        self, gateway_ids: Iterable[GatewayId], candidates: tuple[str, ...], *, is_invalidated: bool
    ) -> str | None:
        if not self._may_forward(candidates):
            return UNKNOWN_MESSAGE
        copies = self._gateways.forward(gateway_ids, candidates, is_invalidated=is_invalidated)
        self._charge_copies(candidates, copies)
        return None

    def _forward_to_client(
        self, client_id: ClientId, candidates: tuple[str, ...], *, is_invalidated: bool
    ) -> str | None:
        if not self._may_forward(candidates):
            return UNKNOWN_MESSAGE
        copies = self._pools.forward(client_id, candidates, is_invalidated=is_invalidated)
        self._charge_copies(candidates, copies)
        return None

    # ── what others say ──────────────────────────────────────────────────────────────────────────────────────

    def _on_message(self, message: DirectedMessage) -> None:
        match message:
            case GrantAcknowledged(authorization_id):
                self._asked.acknowledge(authorization_id)
            case GrantStored(authorization_id, True):
                self._asked.confirm_stored(authorization_id)
            case GrantStored(authorization_id, False):
                self._asked.give_up(authorization_id, "not_found", UNSTORED)
            case OfferDeviceAccess():
                self._pools.take(message)
            case GrantQueued(holding):
                self._pools.hold(holding)
            case WithdrawGrant(authorization_id):
                self._pools.revoke(authorization_id)
            case CandidatesOfGateway(gateway_id, candidates, is_invalidated):
                gateways = (
                    wire.InvalidateGatewayIceCandidates if is_invalidated else wire.GatewayIceCandidates
                )
                self._asked.pass_on(gateway_id, gateways(gateway_id, candidates))
            case CandidatesOfClient(client_id, candidates, is_invalidated):
                clients = wire.InvalidatePeerIceCandidates if is_invalidated else wire.PeerIceCandidates
                self._asked.pass_on(client_id, clients(client_id, candidates))
            case Superseded():
                if self._registration is not None and self._registration.is_superseded_by(message):
                    self._stop("token_expired")
            case _:
                raise TypeError(f"a client session got {type(message).__name__}")

    def _on_changes(self, changes: Sequence[RowChange]) -> None:
        now = self._context.now()
        reset: set[ResourceId] = set()
        revoked: list[Holding] = []
        is_concerned = False
        for change in changes:
            is_concerned |= self._list.concerns(change)
            match change:
                case Deleted(ClientToken(id=self._context.token.id)):
                    self._stop("token_expired")
                    return
                case Deleted(Device(id=self._context.device.id)):
                    self._stop()
                    return
                case Updated(_, Device(id=self._context.device.id) as device):
                    self._own_device_changed(device)
                case Deleted(Account()):
                    self._stop("token_expired")
                    return
                case Updated(Account() as before, Account() as after):
                    self._account_changed(before, after)
                case Deleted(PolicyAuthorization() as grant):
                    authorization_id = AuthorizationId(grant.id)
                    self._pools.revoke(authorization_id)
                    holding = self._asked.revoke(authorization_id, now_unix=self._context.now_unix())
                    revoked += [] if holding is None else [holding]
                case Updated(Policy() as before, Policy() as after):
                    reset |= self._policy_replaced(before, after, now)
                case Updated(Resource() as before, Resource() as after):
                    self._pools.handle_resource_change(before, after)
                case _:
                    pass
        gone = self._devices_gone(revoked, changes)
        reset |= {one.resource_id for one in revoked if one.receiver_id not in gone}
        if is_concerned or reset or gone:
            self._refresh(reset, gone, now=now)
        for holding in revoked:
            self._grant_again(holding, now)

    def _own_device_changed(self, after: Device) -> None:
        device = self._context.device
        moved = (after.ipv4, after.ipv6) != (device.ipv4, device.ipv6)
        self._context.replace_device(
            replace(device, name=after.name, ipv4=after.ipv4, ipv6=after.ipv6, verified_at=after.verified_at)
        )
        if self._registration is not None:
            self._registration.update(
                name=after.name, ipv4=IPv4Address(after.ipv4), ipv6=IPv6Address(after.ipv6)
            )
        if moved and self.is_joined:
            self._push_init()

    def _account_changed(self, before: Account, after: Account) -> None:
        interfaces = [
            client_interface(self._context.device, AccountConfig.parse(account.config))
            for account in (before, after)
        ]
        if interfaces[0] != interfaces[1]:
            self._push(wire.ConfigChanged(interfaces[1]))

    def _policy_replaced(self, before: Policy, after: Policy, now: datetime) -> set[ResourceId]:
        """Return the resource that is deleted and created again because peers treat its policy as another one
        (portal-domain §8.5).
        """
        if (before.conditions, before.group_id, before.resource_id) == (
            after.conditions,
            after.group_id,
            after.resource_id,
        ):
            return set()
        resource_id = ResourceId(after.resource_id)
        rests_on_it = self._list.rests_on(PolicyId(after.id), resource_id, now=now)
        return {resource_id} if rests_on_it else set()

    def _devices_gone(self, revoked: list[Holding], changes: Sequence[RowChange]) -> Lost:
        """Return the devices whose grants ended because they have left the pool, with their addresses."""
        snapshot, gone = self._context.snapshot, Lost()
        deleted = {
            change.before.id: change.before
            for change in changes
            if isinstance(change, Deleted) and isinstance(change.before, Device)
        }
        for holding in revoked:
            pool, device_id = snapshot.resources.get(holding.resource_id), ClientId(holding.receiver_id)
            if not isinstance(pool, DevicePool):
                continue
            device = pools.device_of(snapshot, device_id)
            if device is not None and not pools.belongs_to(snapshot, pool, device):
                gone[device_id] = (device.ipv4, device.ipv6)
            elif device_id in deleted:
                gone[device_id] = (deleted[device_id].ipv4, deleted[device_id].ipv6)
        return gone

    def _grant_again(self, holding: Holding, now: datetime) -> None:
        """Renew a revoked grant of the internet resource, if policies still grant it.

        Other resources are deleted and created again, so that the client asks anew (protocol §3.6.10). That
        would switch the internet resource off, so its gateway gets a new grant with the same credentials; the
        client ignores the message about it.
        """
        resource = self._context.snapshot.resources.get(holding.resource_id)
        if self.is_joined and isinstance(resource, InternetResource):
            access = self._context.access(holding.resource_id)
            decision = authorize(self._context.snapshot, access, now=now)
            if isinstance(decision, Granted):
                gateway_id = GatewayId(holding.receiver_id)
                self._gateways.request(access, decision, (gateway_id,), is_renewal=True, now=now)

    def _refresh(
        self,
        reset: AbstractSet[ResourceId] = frozenset(),
        gone: Mapping[ClientId, tuple[str, str]] = NOBODY,
        *,
        now: datetime,
    ) -> None:
        """Push what changed in the list: denials and deletions first."""
        if not self.is_joined:
            return
        messages, lost = self._list.refresh(reset, now=now)
        for device_id, (ipv4, ipv6) in {**gone, **lost}.items():
            if device_id != self._context.client_id and not self._list.leads_to(device_id):
                self._pools.deny_gone(device_id, ipv4=ipv4, ipv6=ipv6)
        for message in messages:
            self._push(message)

    def _key(self, holding: Holding) -> Key:
        """Return the key of a stored grant: in pools, each device has its own."""
        resource = self._context.snapshot.resources.get(holding.resource_id)
        return holding.resource_id, holding.receiver_id if isinstance(resource, DevicePool) else None


def _pushing_to(session: "weakref.ref[ClientSession]") -> Callable[[wire.Message], None]:
    """Return what sends a client of a session that is still there a message.

    The session's parts do not hold it: when a thousand connections end at once, all that they were is freed at once,
    and not by a pass of the collector of garbage, in which nobody is served.
    """

    def push(message: wire.Message) -> None:
        found = session()
        if found is not None:
            found._push(message)  # noqa: SLF001 - a function of this class, in all but its place

    return push


def _nothing() -> None:
    """Not subscribed."""
