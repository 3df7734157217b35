"""What belongs to no account, for the operator: relay tokens, relays as present, health of the installation."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel

import wardgate
from wardgate.portal.credentials import issue
from wardgate.portal.rest.caller import ForOperator, OperatorCaller
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.fields import EVERYWHERE, TOKENS, Fields, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import Problem, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import (
    Data,
    DeletedView,
    HealthView,
    IpDatabaseView,
    JobView,
    ListOf,
    NewRelayTokenView,
    RelayTokenView,
    RelayView,
    listed,
)
from wardgate.portal.store import Repository, Transaction
from wardgate.portal.store.job_queue import STATES, JobQueue
from wardgate.portal.store.rows import Job, RelayToken
from wardgate.wire.tokens import TokenKind

routes = Routes("installation", "/wardgate", tag="Wardgate: installation")


class RelayTokenFields(Fields):
    model_config = required("name")
    narrowing = EVERYWHERE | TOKENS
    name: Annotated[str | None, text(shortest=1)] = None


class RelayTokenBody(BaseModel):
    relay_token: RelayTokenFields


@routes.get("/relay_tokens", response_model=ListOf[RelayTokenView])
async def index(caller: ForOperator, paging: Paging) -> Response:
    async with caller.reading() as transaction:
        return listed(await load_page(transaction.relay_tokens, paging), RelayTokenView.shown)


@routes.get("/relay_tokens/{id}", is_versioned=True)
async def show(caller: ForOperator, id: Id) -> Data[RelayTokenView]:  # noqa: A002
    async with caller.reading() as transaction:
        return Data(data=RelayTokenView.of(caller.tagged(await _load(transaction, id))))


@routes.post("/relay_tokens")
async def create(caller: ForOperator, body: RelayTokenBody) -> Data[NewRelayTokenView]:
    edit = Edit(body.relay_token, {"name": None})
    edit.text("name", required=True)
    async with caller.writing() as transaction:
        return Data(data=await _issue(caller, transaction, edit.finish()["name"]))


@routes.post("/relay_tokens/{id}/rotate")
async def rotate(caller: ForOperator, id: Id) -> Data[NewRelayTokenView]:  # noqa: A002
    """Give the relay a new token. The old one is deleted: a relay that still uses it is disconnected, so restart it with the new one."""
    async with caller.writing() as transaction:
        old = await _load(transaction, id)
        await transaction.relay_tokens.delete(old.id)
        return Data(data=await _issue(caller, transaction, old.name))


@routes.delete("/relay_tokens/{id}", is_versioned=True)
async def delete(caller: ForOperator, id: Id) -> Data[DeletedView]:  # noqa: A002
    """Delete a relay token; relays connected with it are disconnected."""
    async with caller.writing() as transaction:
        token = caller.expected(await _load(transaction, id))
        await transaction.relay_tokens.delete(token.id)
        return Data(data=DeletedView(id=token.id))


@routes.get("/relays")
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


@routes.get("/jobs", response_model=ListOf[JobView])
async def jobs(
    caller: ForOperator,
    paging: Paging,
    state: Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})] = None,
) -> Response:
    """List background work, newest first. What is finished is kept for a while."""
    if state is not None and state not in STATES:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid filter value: {state[:64]}")
    async with caller.reading() as transaction:
        rows = Repository(transaction, Job)
        wanted = [] if state is None else [rows.c.state == state]
        return listed(await load_page(rows, paging, *wanted, newest_first=True), JobView.shown)


@routes.get("/health")
async def health(caller: ForOperator) -> Data[HealthView]:
    """Tell how the process that answers is doing; `counters` count since its start."""
    services = caller.services
    bus = services.environment.bus
    geoip = services.geography.database_state
    async with caller.reading() as transaction:
        accounts = await transaction.accounts.load_all()
        job_counts = await JobQueue(transaction).counts()
    return Data(
        data=HealthView(
            version=wardgate.__version__,
            database="available",
            now=services.environment.clock.now(),
            accounts=len(accounts),
            clients_online=sum(len(bus.members("client", account.id)) for account in accounts),
            gateways_online=sum(len(bus.members("gateway", account.id)) for account in accounts),
            relays_online=len(bus.members("relay", None)),
            geoip_database=None
            if geoip is None
            else IpDatabaseView(built_at=geoip.built_at, error=geoip.error),
            mail="off" if services.environment.mailer is None else "smtp",
            jobs=job_counts,
            counters=dict(sorted(services.counters.items())),
        )
    )


async def _issue(caller: OperatorCaller, transaction: Transaction, name: str) -> NewRelayTokenView:
    issued = issue(TokenKind.RELAY, account_id=None, transaction=transaction, keys=caller.services.keys)
    token = await transaction.relay_tokens.insert(
        RelayToken(id=issued.id, name=name, secret_salt=issued.secret_salt, secret_hash=issued.secret_hash)
    )
    return NewRelayTokenView(id=token.id, name=token.name, token=issued.text)


async def _load(transaction: Transaction, id_: UUID | None) -> RelayToken:
    token = None if id_ is None else await transaction.relay_tokens.load(id_)
    if token is None:
        raise not_found()
    return token
