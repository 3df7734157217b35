"""Whether somebody may use a resource now, and why: what the API and the explain page ask, answered by the code that
decides. No HTTP here.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from wardgate.model.ids import ActorId, DeviceId, GatewayId, ResourceId
from wardgate.model.resources import DevicePool
from wardgate.policy.engine import AccessRequest, Decision, Denied, Granted, authorize, is_offered
from wardgate.policy.explanation import ExplainedGateway, Explanation, Traffic, explain, is_open
from wardgate.policy.selection import NoGateway, OnlineGateway, select_gateway
from wardgate.policy.snapshot import Snapshot, site_of
from wardgate.portal.access.assumptions import Assumptions, Client, Said, assume
from wardgate.portal.bus import Address, ClientPresence
from wardgate.portal.devices.rules import load_client
from wardgate.portal.outcomes import Missing
from wardgate.portal.people.rules import load_actor
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.store import AccountTables
from wardgate.wire.user_agent import parse_version

Reading = Callable[[], AbstractAsyncContextManager[AccountTables]]
"""Opens what the caller may read of the account."""

NOTHING_SAID = Said(None, None, None)


@dataclass(frozen=True, slots=True)
class Who:
    """An actor, or one of its clients."""

    actor: Actor
    client: Client | None

    def request(self, resource_id: UUID, assumed: Assumptions) -> AccessRequest:
        return AccessRequest(
            ActorId(self.actor.id),
            ResourceId(resource_id),
            assumed.facts,
            assumed.token_expires_at,
            assumed.software,
        )


async def find_actor(tables: AccountTables, id_: UUID | None) -> Who:
    """Raises Missing."""
    return Who(await load_actor(tables, id_), None)


async def find_client(services: Services, tables: AccountTables, id_: UUID | None) -> Who:
    """Return a client with its owner and its connection. Raises Missing."""
    device = await load_client(tables, id_)
    present = services.environment.bus.find(Address("client", device.id))
    presence = present if isinstance(present, ClientPresence) else None
    token = None if presence is None else await tables.client_tokens.load(presence.token_id)
    return Who(await load_actor(tables, device.actor_id), Client(device, presence, token))


async def explain_now(
    services: Services,
    reading: Reading,
    who: Who,
    resource_id: UUID,
    *,
    said: Said = NOTHING_SAID,
    traffic: Traffic | None = None,
) -> Explanation:
    """Explain whether somebody may use a resource at this moment. Raises Missing if there is no such resource."""
    assumed = assume(services, said, who.client)
    request = who.request(resource_id, assumed)
    now = services.environment.clock.now()
    async with services.accounts.using(who.actor.account_id) as view:
        snapshot = view.snapshot
    if request.resource_id not in snapshot.resources:
        raise Missing
    decision = authorize(snapshot, request, now=now)
    gateway = None
    if isinstance(decision, Granted):
        gateway = await _gateway(services, reading, decision, who, assumed)
    return explain(
        snapshot,
        request,
        decision,
        now=now,
        inputs=assumed.inputs,
        gateway=gateway,
        traffic=traffic,
        offered=_offered(snapshot, request, decision, who.client, now=now),
    )


async def explanations_of(services: Services, who: Who) -> Callable[[UUID], Explanation]:
    """Return what explains a client's access to any resource, all at this moment, without a choice of gateways."""
    assumed = assume(services, NOTHING_SAID, who.client)
    async with services.accounts.using(who.actor.account_id) as view:
        snapshot = view.snapshot
    now = services.environment.clock.now()

    def explained(resource_id: UUID) -> Explanation:
        request = who.request(resource_id, assumed)
        decision = authorize(snapshot, request, now=now)
        offered = _offered(snapshot, request, decision, who.client, now=now)
        return explain(snapshot, request, decision, now=now, offered=offered)

    return explained


def _offered(
    snapshot: Snapshot, request: AccessRequest, decision: Decision, client: Client | None, *, now: datetime
) -> bool | None:
    """Tell whether a client is shown the resource; none: no client was named, or it hangs on what nobody knows."""
    if client is None or request.software is None:
        return None
    if isinstance(decision, Denied) and any(is_open(one) for one in decision.alternatives):
        return None
    return is_offered(snapshot, request, now=now)


async def _gateway(
    services: Services, reading: Reading, grant: Granted, who: Who, assumed: Assumptions
) -> ExplainedGateway | None:
    """Choose among the gateways that are online now as a request of this client would; pools have none."""
    resource = grant.resource
    if isinstance(resource, DevicePool):
        return None
    connected: frozenset[GatewayId] = frozenset()
    environment = services.environment
    if who.client is not None:
        async with reading() as tables:
            c = tables.authorizations.c
            held = await tables.authorizations.load_column(
                c.receiving_device_id,
                c.initiating_device_id == who.client.device.id,
                c.expires_at > environment.clock.now(),
            )
            connected = frozenset(GatewayId(DeviceId(id_)) for id_ in held)
    members = {
        member.gateway_id: member
        for member in environment.bus.members("gateway", who.actor.account_id, site_of(resource))
    }
    choice = select_gateway(
        [
            OnlineGateway(id_, parse_version(member.version), member.position, member.is_draining)
            for id_, member in members.items()
        ],
        resource=resource,
        client_version=parse_version(assumed.version),
        client_announced_version=assumed.version is not None,
        client_position=assumed.position,
        connected=connected,
        rng=environment.rng,
    )
    if isinstance(choice, NoGateway):
        return ExplainedGateway(None, choice.value)
    name = members[choice.gateway.id].name
    return ExplainedGateway(str(choice.gateway.id), choice.why.value, name)
