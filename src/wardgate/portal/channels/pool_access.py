"""Client to client (portal-domain §6.4, protocol §3.6.4): a client's requests for devices of a pool, and what
others are granted to it.

    granted ─► device found, present, fitting ─► OfferDeviceAccess ─► its session pushes ─► GrantAcknowledged ─┐
                                          └────► journal … GrantStored ───────────────────────────────────────┴─► told

The initiator is notified only when the target's session has pushed: otherwise the initiator's candidates
could overtake the grant on the target's socket. A client may ask for several devices of one pool at a time,
so requests are kept apart by device.

Two clients that reach each other have one connection. Its secrets depend on which of them initiates (protocol §4.1),
so a grant in one direction is told with those of the grant that is there in the other one: a second set would make both
ends replace a connection that works, or each keep another one.
"""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec import UNSET

from wardgate.model.domain import ClientDevice
from wardgate.model.ids import AuthorizationId, ClientId, ResourceId
from wardgate.model.resources import DevicePool
from wardgate.model.versions import speaks_c2c_with, understands_client_to_client
from wardgate.policy import pools
from wardgate.policy.engine import AccessRequest, Granted
from wardgate.policy.explanation import ExplainedTarget
from wardgate.policy.pools import NoTarget
from wardgate.portal.access.tables import Resource
from wardgate.portal.bus import Address, ClientPresence
from wardgate.portal.bus.messages import CandidatesOfClient, GrantAcknowledged, Holding, OfferDeviceAccess
from wardgate.portal.channels.asked_grants import AskedGrants
from wardgate.portal.channels.claims import Target
from wardgate.portal.channels.client_context import ACKNOWLEDGEMENT_S, ClientContext
from wardgate.portal.channels.decision_log import DecisionLog
from wardgate.portal.channels.held_grants import HeldGrants, holding_of
from wardgate.portal.channels.offers import authorization_row, offer_to_client
from wardgate.portal.channels.storing import store_grant
from wardgate.wire import messages as wire
from wardgate.wire.resource_views import filter_views
from wardgate.wire.user_agent import client_software


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that policies grant, with the addresses as the client gave them."""

    access: AccessRequest
    grant: Granted
    ipv4: str | None
    ipv6: str | None

    @property
    def address(self) -> str | None:
        return ", ".join(one for one in (self.ipv4, self.ipv6) if one is not None) or None


class PoolAccess:
    """One client's part in device pools, as initiator and as target. `held`: what others are granted to it."""

    def __init__(
        self, context: ClientContext, asked: AskedGrants, decisions: DecisionLog, held: HeldGrants
    ) -> None:
        self._context = context
        self._asked = asked
        self._decisions = decisions
        self._held = held

    # ── as initiator ─────────────────────────────────────────────────────────────────────────────────────────

    def request(
        self, access: AccessRequest, grant: Granted, asked: wire.RequestAuthorization, *, now: datetime
    ) -> None:
        """Carry out a grant of a pool for the device that the request names by address."""
        context, pool = self._context, grant.resource
        assert isinstance(pool, DevicePool)
        request = _Request(access, grant, asked.ipv4 or None, asked.ipv6 or None)
        device = pools.find_target(context.snapshot, pool, ipv4=request.ipv4, ipv6=request.ipv6)
        if isinstance(device, NoTarget) or device.id == context.client_id:
            reason = device if isinstance(device, NoTarget) else NoTarget.FORBIDDEN
            self._deny(request, None, reason.value, now=now)
            return
        present = context.bus.find(Address("client", device.id))
        if not isinstance(present, ClientPresence) or present.account_id != context.device.account_id:
            self._deny(request, device, "offline", now=now)
            return
        if not self._fits(present.user_agent):
            self._deny(request, device, "version_mismatch", now=now)
            return
        self._offer(request, device, present, now=now)

    def resolve(self, resource_id: ResourceId, domain: str, *, is_shown: bool) -> None:
        """Answer which device of a dynamic pool has a host name, whether or not it is online."""
        context = self._context
        pool = context.snapshot.resources.get(resource_id)
        device = (
            pools.find_named(context.snapshot, pool, domain.removesuffix("."))
            if is_shown and isinstance(pool, DevicePool)
            else None
        )
        if device is None:
            context.push(wire.DevicePoolDomainResolutionFailed(resource_id, domain, "not_found"))
        else:
            context.push(
                wire.DevicePoolDomainResolved(
                    resource_id, domain, IPv4Address(device.ipv4), IPv6Address(device.ipv6)
                )
            )

    def forward(self, client_id: ClientId, candidates: tuple[str, ...], *, is_invalidated: bool) -> int:
        """Forward the client's candidates to a client that it has a grant with, in either direction; returns to how
        many.
        """
        context, address = self._context, Address("client", client_id)
        is_related = self._asked.is_related(client_id) or self._held.has_client(client_id)
        if is_related:
            context.bus.send(address, CandidatesOfClient(context.client_id, candidates, is_invalidated))
        else:
            context.services.counters["candidates_unrelated"] += 1
        if is_invalidated and not (is_related and context.bus.find(address) is not None):
            context.push(wire.PeerIceCandidateError(client_id, "offline"))
        return int(is_related)

    def deny_gone(self, device_id: ClientId, *, ipv4: str, ipv6: str) -> None:
        """Push that a device is no longer in any of the client's pools."""
        self._context.push(
            wire.DeviceAccessDenied(ipv4=ipv4, ipv6=ipv6, reason="forbidden", client_id=device_id)
        )

    def _fits(self, user_agent: str) -> bool:
        theirs = client_software(user_agent)
        return understands_client_to_client(theirs) and speaks_c2c_with(
            self._context.software.version, theirs.version
        )

    def _offer(
        self, request: _Request, device: ClientDevice, target: ClientPresence, *, now: datetime
    ) -> None:
        context, access, grant = self._context, request.access, request.grant
        row = authorization_row(context, grant, device.id, target.remote_ip)
        to_target, to_initiator = offer_to_client(
            context, grant, row, target, is_controlling=self._is_controlling(target), now=now
        )
        holding = holding_of(row)
        # Before sending: within one process the acknowledgement may arrive before `send` returns.
        self._asked.expect(
            (grant.resource.id, device.id),
            holding,
            to_initiator,
            lambda reason, _why: self._deny(request, device, _DENIALS.get(reason, reason), now=context.now()),
            deadline=context.monotonic() + ACKNOWLEDGEMENT_S,
        )
        context.bus.send(target.address, OfferDeviceAccess(holding, to_target, context.address))
        asked_for = Target(request.ipv4, request.ipv6, device.hostname)
        store_grant(context, access, grant, row, asked_for)
        told = ExplainedTarget(request.address, str(device.id), device.name)
        self._decisions.granted(access, grant, row, now=now, target=told)

    def _is_controlling(self, target: ClientPresence) -> bool:
        """Tell whether the client initiates its connection with another one, rather than the other with it.

        With grants in both directions it is the lower address, so that either end's next request says the same.
        """
        if not self._held.has_client(target.client_id):
            return True
        if not self._asked.is_related(target.client_id):
            return False
        return IPv4Address(self._context.device.ipv4) < target.ipv4

    def _deny(self, request: _Request, device: ClientDevice | None, reason: str, *, now: datetime) -> None:
        told = ExplainedTarget(
            request.address,
            None if device is None else str(device.id),
            None if device is None else device.name,
            reason,
        )
        self._decisions.denied(request.access, request.grant, reason, now=now, target=told)
        is_missing = reason == NoTarget.MISSING_ADDRESS.value
        self._context.push(
            wire.DeviceAccessDenied(
                ipv4=UNSET if request.ipv4 is None else request.ipv4,
                ipv6=UNSET if request.ipv6 is None else request.ipv6,
                reason=reason,
                client_id=UNSET if device is None else device.id,
                resource_id=request.access.resource_id if is_missing else UNSET,
            )
        )

    # ── as target ────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, offer: OfferDeviceAccess) -> None:
        """Push a grant by which another client reaches this one, and acknowledge it to the initiator."""
        self.hold(offer.holding)
        self._context.push(offer.notice)
        self._context.bus.send(offer.reply_to, GrantAcknowledged(offer.holding.authorization_id))

    def hold(self, holding: Holding) -> None:
        """Add a grant to the client without pushing it: it is pushed elsewhere, at the latest in `init`."""
        self._held.put(holding)

    def revoke(self, authorization_id: AuthorizationId) -> None:
        """Revoke a grant to the client, if it is the latest of its pair and still in force."""
        rejected = self._held.revoke(authorization_id, now_unix=self._context.now_unix())
        if rejected is not None:
            self._context.services.counters["revocations"] += 1
            self._context.push(rejected)

    def handle_resource_change(self, before: Resource, after: Resource) -> None:
        """Push the new filters of a pool through which others reach the client."""
        resource_id = ResourceId(after.id)
        if before.filters != after.filters and self._held.of_resource(resource_id):
            self._push_filters(resource_id)

    def push_filters(self) -> None:
        """Push the filters of the pools through which others reach the client: `init` has none, and they may
        have changed.
        """
        for resource_id in sorted({holding.resource_id for holding in self._held}):
            self._push_filters(resource_id)

    def _push_filters(self, pool_id: ResourceId) -> None:
        pool = self._context.snapshot.resources.get(pool_id)
        if isinstance(pool, DevicePool):
            self._context.push(wire.ResourceFiltersUpdated(pool_id, filter_views(pool.filters)))

    def prune(self) -> None:
        self._held.prune(now_unix=self._context.now_unix())

    def views(self) -> tuple[wire.Authorization, ...]:
        """Return the complete list of grants by which others reach the client."""
        self.prune()
        return self._held.views()


_DENIALS: Final = {"not_found": "forbidden"}
"""The reason for a device where that for a resource is `not_found`, which devices do not have."""
