"""A client's requests for what gateways reach (protocol §3.6.2, §3.6.3).

    granted ─► gateway chosen ─► OfferGrant ─► gateway … GrantAcknowledged ─┐
                           └──► journal … GrantStored ─────────────────────┴─► authorization_created

There is no window in which a live grant has no row: the gateway's round trip and the commit run concurrently,
and the client is notified when both are done.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from wardgate.model.ids import GatewayId
from wardgate.model.resources import Resource
from wardgate.policy.engine import AccessRequest, Granted
from wardgate.policy.explanation import ExplainedGateway
from wardgate.policy.selection import NoGateway, OnlineGateway, select_gateway
from wardgate.policy.snapshot import site_of
from wardgate.portal.bus import Address, GatewayPresence
from wardgate.portal.bus.messages import CandidatesOfClient, OfferGrant
from wardgate.portal.channels.asked_grants import AskedGrants
from wardgate.portal.channels.client_context import ACKNOWLEDGEMENT_S, ClientContext
from wardgate.portal.channels.decision_log import DecisionLog
from wardgate.portal.channels.held_grants import holding_of
from wardgate.portal.channels.offers import authorization_row, offer_to_gateway
from wardgate.portal.channels.storing import store_grant
from wardgate.wire import messages as wire
from wardgate.wire.user_agent import parse_version


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The gateway of a grant, and why it was chosen."""

    presence: GatewayPresence
    why: str


class GatewayAccess:
    """One client's way to gateways."""

    def __init__(self, context: ClientContext, asked: AskedGrants, decisions: DecisionLog) -> None:
        self._context = context
        self._asked = asked
        self._decisions = decisions

    def request(
        self,
        access: AccessRequest,
        grant: Granted,
        connected: Iterable[GatewayId],
        *,
        is_renewal: bool = False,
        now: datetime,
    ) -> None:
        """Carry out a grant.

        Args:
            connected: gateways that the client has a tunnel to.
            is_renewal: they have the grant already, and one of them keeps it even while it drains.
        """
        match self._choose(grant.resource, frozenset(connected), is_renewal=is_renewal):
            case NoGateway() as none:
                self._deny(access, grant, none.reason, none.value, now=now)
            case _Chosen() as chosen:
                self._offer(access, grant, chosen, now=now)

    def forward(
        self, gateway_ids: Iterable[GatewayId], candidates: tuple[str, ...], *, is_invalidated: bool
    ) -> int:
        """Forward the client's candidates to gateways that it has a grant for; returns to how many."""
        message = CandidatesOfClient(self._context.client_id, candidates, is_invalidated)
        named = dict.fromkeys(gateway_ids)
        related = [gateway_id for gateway_id in named if self._asked.is_related(gateway_id)]
        self._context.services.counters["candidates_unrelated"] += len(named) - len(related)
        for gateway_id in related:
            self._context.bus.send(Address("gateway", gateway_id), message)
        return len(related)

    def _choose(
        self, resource: Resource, connected: frozenset[GatewayId], *, is_renewal: bool
    ) -> _Chosen | NoGateway:
        context = self._context
        members = {
            member.gateway_id: member
            for member in context.bus.members("gateway", context.device.account_id, site_of(resource))
        }
        choice = select_gateway(
            [
                OnlineGateway(
                    id_,
                    parse_version(member.version),
                    member.position,
                    is_draining=member.is_draining and not (is_renewal and id_ in connected),
                )
                for id_, member in members.items()
            ],
            resource=resource,
            client_version=context.software.version,
            client_announced_version=context.announced_version is not None,
            client_position=context.origin.position,
            connected=connected,
            rng=context.environment.rng,
        )
        if isinstance(choice, NoGateway):
            return choice
        return _Chosen(members[choice.gateway.id], choice.why.value)

    def _offer(self, access: AccessRequest, grant: Granted, chosen: _Chosen, *, now: datetime) -> None:
        context, gateway = self._context, chosen.presence
        row = authorization_row(context, grant, gateway.gateway_id, gateway.remote_ip)
        create, created = offer_to_gateway(context, grant, row, gateway, now=now)
        if create is None:
            self._deny(access, grant, "offline", "offline", now=now)
            return
        holding = holding_of(row)
        # Before sending: within one process the acknowledgement may arrive before `send` returns.
        self._asked.expect(
            (grant.resource.id, None),
            holding,
            created,
            lambda reason, why: self._deny(access, grant, reason, why, now=context.now()),
            deadline=context.monotonic() + ACKNOWLEDGEMENT_S,
        )
        context.bus.send(gateway.address, OfferGrant(holding, create, context.address))
        store_grant(context, access, grant, row)
        why = ExplainedGateway(str(gateway.gateway_id), chosen.why)
        self._decisions.granted(access, grant, row, now=now, gateway=why)

    def _deny(self, access: AccessRequest, grant: Granted, reason: str, why: str, *, now: datetime) -> None:
        self._decisions.denied(access, grant, reason, now=now, gateway=ExplainedGateway(None, why))
        self._context.push(wire.AuthorizationCreationFailed(access.resource_id, reason))
