"""A gateway's session (protocol §3.3): the grants it holds, its relays, candidates, its end."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from wardgate.model.ids import (
    AccountId,
    AuthorizationId,
    ClientId,
    DeviceId,
    GatewayId,
    ResourceId,
    SiteId,
    TokenId,
)
from wardgate.model.resources import Resource
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.access.tables import Resource as ResourceRow
from wardgate.portal.bus import Address, DirectedMessage, GatewayPresence
from wardgate.portal.bus.messages import (
    CandidatesOfClient,
    CandidatesOfGateway,
    GrantAcknowledged,
    GrantQueued,
    OfferGrant,
    Superseded,
    WithdrawGrant,
)
from wardgate.portal.channels.connecting import ConnectedGateway, has_foreign_key
from wardgate.portal.channels.held_grants import HeldGrants
from wardgate.portal.channels.registration import CHECK_S, Registration
from wardgate.portal.channels.relay_selection import RelaySelection
from wardgate.portal.channels.session import Session
from wardgate.portal.channels.views import flow_logs_setting
from wardgate.portal.database.row_changes import Deleted, RowChange, Updated
from wardgate.portal.devices.tables import Device
from wardgate.portal.installation.tables import Account
from wardgate.portal.services import Services
from wardgate.portal.sites.tables import GatewayToken
from wardgate.portal.snapshot.accounts import AccountView
from wardgate.portal.snapshot.entities import resource_of
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import GATEWAY_TURN_EXPIRY_UNIX, unix_seconds
from wardgate.wire.dialect import Dialect
from wardgate.wire.frames import INVALID_REF, UNKNOWN_MESSAGE, Framing
from wardgate.wire.user_agent import announced_version

log = logging.getLogger(__name__)

PRUNE_S: Final = 60.0  # protocol §3.6.8
REF_S: Final = 60.0
"""How long an acknowledgement is accepted; the client gives up after 15 s."""


class GatewaySession(Session):
    """One connected gateway."""

    def __init__(
        self,
        dialect: Dialect,
        framing: Framing,
        *,
        services: Services,
        connected: ConnectedGateway,
        view: AccountView,
    ) -> None:
        super().__init__(dialect, framing, clock=services.environment.clock, counters=services.counters)
        self._services = services
        self._environment = services.environment
        self._bus = services.environment.bus
        self._view = view
        self._token = connected.token
        self._device = connected.device
        self._public_key = connected.public_key
        self._origin = connected.origin
        self._version = announced_version(connected.origin.user_agent)
        self._gateway_id = GatewayId(DeviceId(connected.device.id))
        self._address = Address("gateway", connected.device.id)
        self._registration: Registration[GatewayPresence] | None = None
        self._unsubscribe: Callable[[], None] = _nothing
        self._relays = RelaySelection(
            self._bus,
            self._environment.rng,
            public_key=connected.public_key,
            expires_at_unix=GATEWAY_TURN_EXPIRY_UNIX,
            position=connected.origin.position,
        )
        self._held = HeldGrants(connected.held or ())
        self._offers: dict[str, tuple[AuthorizationId, Address, float]] = {}
        self._prune_at = 0.0
        self._check_at = 0.0

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_join(self, _message: wire.Message) -> None:
        if self._bus.find(self._address) is not None:
            # The first connection wins; this one raced past the check at its upgrade (§1.11).
            self._counters["gateways_already_connected"] += 1
            self._stop("token_expired")
            return
        if has_foreign_key(self._bus, self._device.account_id, self._address, self._public_key):
            # Both upgrades were under way at once.
            self._counters["public_keys_in_use"] += 1
            self._stop()
            return
        self._registration = Registration(self._bus, self._make_presence(), self.handle_message)
        self._check_at = self._clock.monotonic() + CHECK_S
        self._unsubscribe = self._bus.watch("presence:relay", self._on_relay_presence)
        self._prune_at = self._clock.monotonic() + PRUNE_S
        self._push_init()
        self._push_filters()

    def _make_presence(self) -> GatewayPresence:
        device, origin = self._device, self._origin
        return GatewayPresence(
            gateway_id=self._gateway_id,
            account_id=AccountId(device.account_id),
            site_id=None if device.site_id is None else SiteId(device.site_id),
            connection_id=self._environment.new_id(),
            token_id=TokenId(self._token.id),
            name=device.name,
            ipv4=IPv4Address(device.ipv4),
            ipv6=IPv6Address(device.ipv6),
            public_key=self._public_key,
            psk_base=device.psk_base,
            user_agent=origin.user_agent,
            version=self._version,
            remote_ip=origin.remote_ip,
            position=origin.position,
            connected_at=self._environment.clock.now(),
            is_drained=device.draining_since is not None,
        )

    def _on_leave(self) -> None:
        self._unsubscribe()
        if self._registration is not None:
            self._registration.end()
            self._registration = None
        self._offers.clear()

    def _push_init(self) -> None:
        self._prune()
        self._push(
            wire.GatewayInit(
                interface=wire.GatewayInterface(
                    IPv4Address(self._device.ipv4), IPv6Address(self._device.ipv6)
                ),
                config=wire.GatewayConfig(),
                relays=self._relays.choose(),
                account_slug=self._view.facts.slug,
                authorizations=self._held.views(),
                flow_logs=flow_logs_setting(self._services.settings, self._origin.user_agent),
            )
        )

    def _push_filters(self) -> None:
        """Send the filters of the granted resources: `init` has none, and they may have been narrowed while
        it was away.
        """
        for resource_id in sorted({holding.resource_id for holding in self._held}):
            self._push_resource(self._view.snapshot.resources.get(resource_id))

    def _push_resource(self, resource: Resource | None) -> None:
        adapted = None if resource is None else self._view.gateway_views.of(resource, self._version)
        if adapted is not None:
            self._push(wire.ResourceUpdated(adapted))

    def _on_timeout(self) -> None:
        now = self._clock.monotonic()
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            if self._registration is not None and not self._registration.is_current():
                self._stop("token_expired")
                return
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_S
            self._prune()
        presence = self._relays.handle_timeout(now=now)
        if presence is not None:
            self._push(presence)

    def _next_timeout(self) -> float | None:
        relays_at = self._relays.poll_timeout()
        own_at = min(self._prune_at, self._check_at)
        return own_at if relays_at is None else min(own_at, relays_at)

    def _prune(self) -> None:
        """Drop what has expired: the gateway enforces that by itself."""
        now = self._clock.monotonic()
        self._held.prune(now_unix=unix_seconds(self._environment.clock.now()))
        self._offers = {ref: offer for ref, offer in self._offers.items() if offer[2] > now}

    def _on_relay_presence(self) -> None:
        self._relays.handle_presence_change(now=self._clock.monotonic())
        self.on_output()

    # ── what the gateway says ────────────────────────────────────────────────────────────────────────────────

    def _on_request(self, message: wire.Message) -> str | None:
        match message:
            case wire.AuthorizationAcknowledged(ref):
                offer = self._offers.pop(ref, None)
                if offer is None:
                    return INVALID_REF
                authorization_id, reply_to, _until = offer
                self._bus.send(reply_to, GrantAcknowledged(authorization_id))
                return ""
            case wire.BroadcastIceCandidates(client_ids, candidates):
                return self._forward(client_ids, candidates, is_invalidated=False)
            case wire.BroadcastInvalidatedIceCandidates(client_ids, candidates):
                return self._forward(client_ids, candidates, is_invalidated=True)
            case wire.NoRelays():
                presence = self._relays.handle_no_relays(now=self._clock.monotonic())
                if presence is not None:
                    self._push(presence)
            case wire.Draining():
                if self._registration is not None:
                    log.info("a gateway drains", extra={"gateway_id": str(self._gateway_id)})
                    self._registration.update(is_stopping=True)
            case _:
                # Capabilities: iceless is never negotiated.
                pass
        return None

    def _forward(
        self, client_ids: tuple[ClientId, ...], candidates: tuple[str, ...], *, is_invalidated: bool
    ) -> str | None:
        if not self._may_forward(candidates):
            return UNKNOWN_MESSAGE
        message = CandidatesOfGateway(self._gateway_id, candidates, is_invalidated)
        named = dict.fromkeys(client_ids)
        related = [client_id for client_id in named if self._held.has_client(client_id)]
        self._counters["candidates_unrelated"] += len(named) - len(related)
        self._charge_copies(candidates, len(related))
        for client_id in related:
            self._bus.send(Address("client", client_id), message)
        return None

    # ── what others say ──────────────────────────────────────────────────────────────────────────────────────

    def _on_message(self, message: DirectedMessage) -> None:
        match message:
            case OfferGrant(holding, create, reply_to):
                self._held.put(holding)
                self._offers[create.ref] = (
                    holding.authorization_id,
                    reply_to,
                    self._clock.monotonic() + REF_S,
                )
                self._push(create)
                # Before the grant is written down and explained: its client waits for the gateway.
                self.on_urgent_output()
            case GrantQueued(holding):
                self._held.put(holding)
            case WithdrawGrant(authorization_id):
                self._drop(authorization_id)
            case CandidatesOfClient(client_id, candidates, is_invalidated):
                message_type = (
                    wire.InvalidateClientIceCandidates if is_invalidated else wire.ClientIceCandidates
                )
                self._push(message_type(client_id, candidates))
            case Superseded():
                if self._registration is not None and self._registration.is_superseded_by(message):
                    self._stop("token_expired")
            case _:
                raise TypeError(f"a gateway session got {type(message).__name__}")

    def _on_changes(self, changes: Sequence[RowChange]) -> None:
        for change in changes:
            match change:
                case Deleted(GatewayToken(id=self._token.id)):
                    self._stop("token_expired")
                    return
                case Deleted(Device(id=self._device.id)):
                    self._stop()
                    return
                case Updated(_, Device(id=self._device.id) as device):
                    self._own_device_changed(device)
                case Deleted(Account()):
                    self._stop("token_expired")
                    return
                case Updated(Account() as before, Account() as after):
                    if before.slug != after.slug:
                        self._push_init()
                case Deleted(PolicyAuthorization() as grant):
                    self._drop(AuthorizationId(grant.id))
                case Updated(ResourceRow() as before, ResourceRow() as after):
                    self._resource_changed(before, after)
                case _:
                    pass

    def _drop(self, authorization_id: AuthorizationId) -> None:
        rejected = self._held.revoke(authorization_id, now_unix=unix_seconds(self._environment.clock.now()))
        if rejected is not None:
            self._services.counters["revocations"] += 1
            self._push(rejected)

    def _own_device_changed(self, after: Device) -> None:
        moved = (after.ipv4, after.ipv6) != (self._device.ipv4, self._device.ipv6)
        self._device = replace(
            self._device,
            name=after.name,
            ipv4=after.ipv4,
            ipv6=after.ipv6,
            draining_since=after.draining_since,
        )
        if self._registration is not None:
            self._registration.update(
                name=after.name,
                ipv4=IPv4Address(after.ipv4),
                ipv6=IPv6Address(after.ipv6),
                is_drained=after.draining_since is not None,
            )
        if moved:
            self._push_init()

    def _resource_changed(self, before: ResourceRow, after: ResourceRow) -> None:
        if (before.address, before.type, before.ip_stack) != (after.address, after.type, after.ip_stack):
            for holding in self._held.of_resource(ResourceId(after.id)):
                self._held.remove(holding)
                self._push(wire.RejectAccess(holding.client_id, holding.resource_id))
        elif before.filters != after.filters:
            self._push_resource(resource_of(after))


def _nothing() -> None:
    """Not subscribed yet."""
