"""What belongs to no account, for the operator: relay tokens, relays as present, health of the installation."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import BaseModel

import wardgate
from wardgate.portal.credentials import Issued
from wardgate.portal.installation import rules
from wardgate.portal.installation.job_queue import STATES, JobQueue
from wardgate.portal.installation.tables import JOBS, RelayToken
from wardgate.portal.installation.views import (
    HealthView,
    IpDatabaseView,
    JobView,
    NewRelayTokenView,
    RelayTokenView,
    RelayView,
)
from wardgate.portal.rest.caller import ForOperator
from wardgate.portal.rest.fields import EVERYWHERE, TOKENS, Fields, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import Problem
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, DeletedView, ListOf, list_response
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Repository

routes = Routes("installation", "/wardgate", tag="Wardgate: installation")


class RelayTokenFields(Fields):
    model_config = required("name")
    narrowing = EVERYWHERE | TOKENS
    name: Annotated[str | None, text(shortest=1)] = None


class RelayTokenBody(BaseModel):
    relay_token: RelayTokenFields


@routes.get("/relay_tokens", response_model=ListOf[RelayTokenView])
async def index(caller: ForOperator, paging: Paging) -> Response:
    async with caller.listing() as transaction:
        return list_response(await load_page(transaction.relay_tokens, paging), RelayTokenView.fields_of)


@routes.get("/relay_tokens/{id}", is_versioned=True)
async def show(caller: ForOperator, id: Id) -> Data[RelayTokenView]:  # noqa: A002
    async with caller.reading() as transaction:
        return Data(data=RelayTokenView.of(caller.tagged(await rules.load_relay_token(transaction, id))))


@routes.post("/relay_tokens")
async def create(caller: ForOperator, body: RelayTokenBody) -> Data[NewRelayTokenView]:
    async with caller.writing() as transaction:
        given = body.relay_token.given()
        return _view(await rules.make_relay_token(transaction, given, keys=caller.keys))


@routes.post("/relay_tokens/{id}/rotate")
async def rotate(caller: ForOperator, id: Id) -> Data[NewRelayTokenView]:  # noqa: A002
    """Give the relay a new token.

    The old one is deleted: a relay that still uses it is disconnected, so restart it with the new one.
    """
    async with caller.writing() as transaction:
        before = await rules.load_relay_token(transaction, id)
        return _view(await rules.rotate_relay_token(transaction, before, keys=caller.keys))


@routes.delete("/relay_tokens/{id}", is_versioned=True)
async def delete(caller: ForOperator, id: Id) -> Data[DeletedView]:  # noqa: A002
    """Delete a relay token; relays connected with it are disconnected."""
    async with caller.writing() as transaction:
        token = caller.expected(await rules.load_relay_token(transaction, id))
        await transaction.relay_tokens.delete(token.id)
        return Data(data=DeletedView(id=token.id))


@routes.get("/relays")
async def relays(caller: ForOperator) -> Data[list[RelayView]]:
    """List the relays that are connected now."""
    present = caller.services.environment.bus.members("relay", None)
    return Data(
        data=[
            RelayView(
                id=one.relay_id,
                name=one.name,
                ipv4=None if one.ipv4 is None else str(one.ipv4),
                ipv6=None if one.ipv6 is None else str(one.ipv6),
                port=one.port,
                version=one.version,
                user_agent=one.user_agent,
                connected_at=one.connected_at.isoformat(),
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
    async with caller.listing() as transaction:
        rows = Repository(transaction, JOBS)
        wanted = [] if state is None else [rows.c.state == state]
        return list_response(await load_page(rows, paging, *wanted, newest_first=True), JobView.fields_of)


@routes.get("/health")
async def health(caller: ForOperator) -> Data[HealthView]:
    """Report the state of the process that answers; `counters` count since its start."""
    services = caller.services
    bus = services.environment.bus
    geoip = services.geography.database_state
    async with caller.listing() as transaction:
        accounts = await transaction.accounts.count()
        job_counts = await JobQueue(transaction).counts()
    return Data(
        data=HealthView(
            version=wardgate.__version__,
            database="available",
            now=services.environment.clock.now(),
            accounts=accounts,
            clients_online=bus.count("client"),
            gateways_online=bus.count("gateway"),
            relays_online=bus.count("relay"),
            geoip_database=None
            if geoip is None
            else IpDatabaseView(built_at=geoip.built_at, error=geoip.error),
            mail="off" if services.environment.mailer is None else "smtp",
            flow_logs=_flow_logs(services.settings),
            jobs=job_counts,
            counters=dict(sorted(services.counters.items())),
        )
    )


def _flow_logs(settings: PortalSettings) -> Literal["on", "off", "unreachable"]:
    if settings.flow_log_upload_interval_s == 0:
        return "off"
    return "on" if settings.are_flow_logs_reachable else "unreachable"


def _view(issued: Issued[RelayToken]) -> Data[NewRelayTokenView]:
    return Data(data=NewRelayTokenView(id=issued.id, name=issued.row.name, token=issued.text))
