"""What is ours beyond the published API, under one prefix: explain; relay tokens and relays for the operator."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from wardgate.model.addresses import parse_ip
from wardgate.model.ids import ActorId, AuthProviderId, ResourceId
from wardgate.policy.engine import AccessRequest, authorize
from wardgate.policy.evaluation import UNDETERMINED, Facts
from wardgate.policy.explanation import TOKEN_UNDETERMINED, Explanation, as_json, as_text, explain
from wardgate.portal.bus import Address
from wardgate.portal.credentials import issue
from wardgate.portal.rest.caller import AccountCaller, ForAccount, ForOperator
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.endpoints.actors import load_actor
from wardgate.portal.rest.endpoints.clients import load_client
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.problems import Problem, not_found
from wardgate.portal.rest.routing import Id, parse_id
from wardgate.portal.rest.views import (
    Data,
    DeletedView,
    ListOf,
    NewRelayTokenView,
    RelayTokenView,
    RelayView,
    listed,
)
from wardgate.portal.store.rows import Actor, Device, RelayToken
from wardgate.wire.tokens import TokenKind

router = APIRouter(prefix="/wardgate", tags=["Wardgate"])


class RelayTokenFields(BaseModel):
    name: str | None = None


class RelayTokenBody(BaseModel):
    relay_token: RelayTokenFields


@router.get("/explain")
async def explain_access(
    caller: ForAccount,
    resource_id: str | None = None,
    actor_id: str | None = None,
    client_id: str | None = None,
    remote_ip: str | None = None,
    region: str | None = None,
    provider: str | None = None,
) -> Data[dict[str, Any]]:
    """Explain whether an actor, or a client, may use a resource now, by the code that decides.

    Inputs that only a connection has (`remote_ip`, `region`, `provider`) are undetermined unless given; a client that is
    connected brings its own.
    """
    wanted = parse_id(resource_id)
    if wanted is None or (actor_id is None) == (client_id is None):
        raise Problem(HTTPStatus.BAD_REQUEST, "resource_id and one of actor_id and client_id are required.")
    actor, device = await _who(caller, actor_id, client_id)
    facts = _facts(caller, device, remote_ip=remote_ip, region=region, provider=provider)
    request = AccessRequest(ActorId(actor.id), ResourceId(wanted), facts, TOKEN_UNDETERMINED)
    now = caller.services.environment.clock.now()
    async with caller.services.accounts.using(caller.account.id) as view:
        snapshot = view.snapshot
    if request.resource_id not in snapshot.resources:
        raise not_found()
    told = explain(snapshot, request, authorize(snapshot, request, now=now), now=now)
    return Data(data=_shown(told))


@router.get("/relay_tokens")
async def relay_tokens(caller: ForOperator, paging: Paging) -> ListOf[RelayTokenView]:
    async with caller.reading() as transaction:
        return listed(await load_page(transaction.relay_tokens, paging), RelayTokenView.of)


@router.post("/relay_tokens", status_code=HTTPStatus.CREATED)
async def create_relay_token(caller: ForOperator, body: RelayTokenBody) -> Data[NewRelayTokenView]:
    edit = Edit(body.relay_token, {"name": None})
    edit.text("name", required=True)
    values = edit.finish()
    async with caller.writing() as transaction:
        issued = issue(TokenKind.RELAY, account_id=None, transaction=transaction, keys=caller.services.keys)
        await transaction.relay_tokens.insert(
            RelayToken(
                id=issued.id,
                name=values["name"],
                secret_salt=issued.secret_salt,
                secret_hash=issued.secret_hash,
            )
        )
    return Data(data=NewRelayTokenView(id=issued.id, name=values["name"], token=issued.text))


@router.delete("/relay_tokens/{id}")
async def delete_relay_token(caller: ForOperator, id: Id) -> Data[DeletedView]:  # noqa: A002
    """Delete a relay token; relays connected with it are disconnected."""
    async with caller.writing() as transaction:
        if id is None or not await transaction.relay_tokens.delete(id):
            raise not_found()
        return Data(data=DeletedView(id=id))


@router.get("/relays")
async def relays(caller: ForOperator) -> Data[list[RelayView]]:
    """List the relays that are connected now."""
    present = caller.services.environment.bus.members("relay", None)
    return Data(
        data=[
            RelayView(
                id=one.address.id,
                name=one.facts.get("name"),
                ipv4=one.facts.get("ipv4"),
                ipv6=one.facts.get("ipv6"),
                port=one.facts["port"],
                connected_at=one.facts["connected_at"],
            )
            for one in present
        ]
    )


async def _who(
    caller: AccountCaller, actor_id: str | None, client_id: str | None
) -> tuple[Actor, Device | None]:
    async with caller.reading() as tables:
        if client_id is None:
            return await load_actor(tables, parse_id(actor_id)), None
        device = await load_client(tables, parse_id(client_id))
        return await load_actor(tables, device.actor_id), device


def _facts(
    caller: AccountCaller,
    device: Device | None,
    *,
    remote_ip: str | None,
    region: str | None,
    provider: str | None,
) -> Facts:
    present = None if device is None else caller.services.environment.bus.find(Address("client", device.id))
    known_ip = remote_ip if remote_ip is not None or present is None else str(present.facts["remote_ip"])
    try:
        address = UNDETERMINED if known_ip is None else parse_ip(known_ip)
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "remote_ip is not an IP address") from None
    provider_id = None if provider is None else parse_id(provider)
    if provider is not None and provider_id is None:
        raise Problem(HTTPStatus.BAD_REQUEST, "provider is not a UUID")
    return Facts(
        address,
        UNDETERMINED if region is None else region,
        UNDETERMINED if provider_id is None else AuthProviderId(provider_id),
        UNDETERMINED if device is None else device.verified_at is not None,
    )


def _shown(told: Explanation) -> dict[str, Any]:
    return {**as_json(told), "text": as_text(told)}
