"""`/wardgate/explain` and `/wardgate/decisions`: why somebody may or may not, now and then."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from fastapi import Path, Query, Response
from sqlalchemy import ColumnElement

from wardgate.model.addresses import parse_ip
from wardgate.model.filters import LAST_PORT, Protocol
from wardgate.model.ids import AuthProviderId
from wardgate.model.regions import REGIONS
from wardgate.policy.explanation import Traffic
from wardgate.portal.access.assumptions import Said
from wardgate.portal.access.explaining import Who, explain_now, explanations_of, find_actor, find_client
from wardgate.portal.access.explanation_views import DecisionView, ExplanationView, OfferView
from wardgate.portal.access.tables import Resource
from wardgate.portal.database.log_reading import Count, LogReader
from wardgate.portal.logs.grant_flows import flows_by
from wardgate.portal.logs.rest import parse_instant
from wardgate.portal.logs.streams import DECISION_LOG
from wardgate.portal.logs.tables import DECISIONS
from wardgate.portal.logs.tables import Decision as LoggedDecision
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.pages import (
    BAD_CURSOR,
    Limit,
    PageCursor,
    Paging,
    decode_cursor,
    encode_cursor,
    load_page,
    parse_limit,
)
from wardgate.portal.rest.parameters import DATE_TIME, IP, UUID_TEXT, Id, parse_id
from wardgate.portal.rest.problems import Problem, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import CountedListOf, CountedMetadata, Data, ListOf, ViewFields, list_response

routes = Routes("explanations", "/wardgate", tag="Wardgate")

NO_DECISION: Final = "No decision on this is recorded up to then."

InstantText = Annotated[str | None, Query(description="RFC 3339", json_schema_extra=DATE_TIME)]
_PORT: Final = {"type": "integer", "minimum": 1, "maximum": LAST_PORT}
IdText = Annotated[str | None, Query(json_schema_extra=UUID_TEXT)]


@routes.get("/explain", required=["resource_id"], may_find_nothing=True)
async def explain_access(
    caller: ForAccount,
    resource_id: IdText = None,
    actor_id: IdText = None,
    client_id: IdText = None,
    at: InstantText = None,
    remote_ip: Annotated[str | None, Query(json_schema_extra=IP)] = None,
    region: Annotated[str | None, Query(description="ISO 3166-1 alpha-2")] = None,
    provider: IdText = None,
    protocol: Annotated[
        str | None, Query(json_schema_extra={"enum": [one.value for one in Protocol]})
    ] = None,
    port: Annotated[str | None, Query(json_schema_extra=_PORT)] = None,
) -> Data[ExplanationView]:
    """Explain whether an actor, or a client, may use a resource now, by the code that decides.

    Inputs that only a connection has (`remote_ip`, `region`, `provider`) are undetermined unless given; a
    client that is connected brings its own, and the country of an address that is given is looked up.
    `inputs` says which was taken, and where it comes from. With `protocol`, and for tcp and udp the
    destination's `port`, the resource's filters are asked too. With `at`, the explanation is looked up: that
    of the newest decision up to then.
    """
    resource = parse_id(resource_id)
    if resource is None or (actor_id is None) == (client_id is None):
        raise _bad("resource_id and one of actor_id and client_id are required.")
    traffic = _traffic(protocol, port)
    if at is not None and traffic is not None:
        raise _bad("at looks up what was answered then; no protocol or port can be assumed with it.")
    if at is not None:
        return Data(data=await _looked_up(caller, resource, actor_id, client_id, parse_instant("at", at)))
    said = _said(remote_ip=remote_ip, region=region, provider=provider)
    who = await _who(caller, actor_id, client_id)
    told = await explain_now(caller.services, caller.reading, who, resource, said=said, traffic=traffic)
    return Data(data=ExplanationView.of(told))


@routes.get("/clients/{id}/resources", response_model=ListOf[OfferView])
async def offers(caller: ForAccount, id: Id, paging: Paging) -> Response:  # noqa: A002
    """List every resource, whether a client is offered it, and if not, why. A client never asks for what it is
    not offered, so no decision explains it.
    """
    async with caller.listing() as tables:
        page = await load_page(tables.resources, paging)
    explained = await explanations_of(caller.services, await _who(caller, None, str(id)))

    def fields_of(row: Resource) -> ViewFields:
        return OfferView.fields_of(row, explained(row.id))

    return list_response(page, fields_of)


@routes.get("/decisions")
async def index(
    caller: ForAccount,
    actor_id: IdText = None,
    client_id: IdText = None,
    resource_id: IdText = None,
    outcome: Annotated[str | None, Query(json_schema_extra={"enum": ["granted", "denied"]})] = None,
    begin: InstantText = None,
    end: InstantText = None,
    limit: Limit = None,
    page_cursor: PageCursor = None,
) -> CountedListOf[DecisionView]:
    """List the answers to access requests, newest first."""
    c = DECISIONS.c
    wanted: list[ColumnElement[bool]] = []
    for name, text in (("actor_id", actor_id), ("device_id", client_id), ("resource_id", resource_id)):
        if text is not None:
            id_ = parse_id(text)
            if id_ is None:
                raise _bad(f"Invalid value {text[:64]!r} for filter of type UUID")
            wanted.append(c[name] == id_)
    if outcome is not None:
        if outcome not in ("granted", "denied"):
            raise _bad(f"Invalid filter value: {outcome[:64]}")
        wanted.append(c.outcome == outcome)
    if begin is not None:
        wanted.append(c.decided_at >= parse_instant("begin", begin))
    if end is not None:
        wanted.append(c.decided_at <= parse_instant("end", end))
    size, cursor = parse_limit(limit), None if page_cursor is None else _decode(page_cursor)
    backwards = cursor is not None and cursor.direction == "before"
    reader = _decisions(caller, *wanted)
    rows = await reader.load(
        limit=size + 1, beyond=None if cursor is None else (cursor.seq,), oldest_first=backwards
    )
    has_more = len(rows) > size
    rows = rows[:size]
    if backwards:
        rows.reverse()
    decisions = [LoggedDecision(**row) for row in rows]
    has_next, has_prev = (True, has_more) if backwards else (has_more, cursor is not None)
    is_all = cursor is None and not has_more
    metadata = CountedMetadata.of(
        Count(len(rows), is_exact=True) if is_all else await reader.count(),
        limit=size,
        next_page=encode_cursor(_Cursor("after", decisions[-1].seq)) if rows and has_next else None,
        prev_page=encode_cursor(_Cursor("before", decisions[0].seq)) if rows and has_prev else None,
        shown=len(rows),
    )
    return CountedListOf(data=[DecisionView.of(one) for one in decisions], metadata=metadata)


@routes.get("/decisions/{log_id}")
async def show(
    caller: ForAccount, log_id: Annotated[str, Path(json_schema_extra={"pattern": "^[0-9a-fA-F]{24}$"})]
) -> Data[DecisionView]:
    found = await _newest_decision(caller, DECISIONS.c.log_id == log_id.lower())
    if found is None:
        raise not_found()
    return Data(data=await _shown(caller, found))


async def _shown(caller: AccountCaller, decision: LoggedDecision) -> DecisionView:
    flows = await flows_by(caller.reading_all, caller.account.id, decision)
    return DecisionView.of(decision, flows=flows)


async def _newest_decision(caller: AccountCaller, *conditions: ColumnElement[bool]) -> LoggedDecision | None:
    rows = await _decisions(caller, *conditions).load(limit=1)
    return LoggedDecision(**rows[0]) if rows else None


def _decisions(caller: AccountCaller, *conditions: ColumnElement[bool]) -> LogReader:
    return LogReader(caller.reading_all, DECISION_LOG, caller.account.id, *conditions)


class _Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    direction: Literal["after", "before"]
    seq: int


def _decode(text: str) -> _Cursor:
    cursor = decode_cursor(text, _Cursor)
    if not 0 <= cursor.seq < 2**63:
        raise _bad(BAD_CURSOR)
    return cursor


async def _looked_up(
    caller: AccountCaller, resource_id: UUID, actor_id: str | None, client_id: str | None, at: datetime
) -> ExplanationView:
    """Return the explanation of the newest decision up to a time; the objects themselves may be gone by now."""
    who = parse_id(client_id if actor_id is None else actor_id)
    if who is None:
        raise not_found()
    c = DECISIONS.c
    by = c.device_id if actor_id is None else c.actor_id
    found = await _newest_decision(caller, by == who, c.resource_id == resource_id, c.decided_at <= at)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, NO_DECISION)
    return (await _shown(caller, found)).explanation


async def _who(caller: AccountCaller, actor_id: str | None, client_id: str | None) -> Who:
    async with caller.reading() as tables:
        if client_id is None:
            return await find_actor(tables, parse_id(actor_id))
        return await find_client(caller.services, tables, parse_id(client_id))


def _traffic(protocol: str | None, port: str | None) -> Traffic | None:
    if protocol is None and port is None:
        return None
    if protocol not in list(Protocol):
        raise _bad("protocol is not one of tcp, udp, icmp")
    if port is not None and not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= LAST_PORT):
        raise _bad("port is not a number from 1 to 65535")
    try:
        return Traffic(Protocol(protocol), None if port is None else int(port))
    except ValueError as error:
        raise _bad(str(error)) from None


def _said(*, remote_ip: str | None, region: str | None, provider: str | None) -> Said:
    try:
        address = None if remote_ip is None else parse_ip(remote_ip)
    except ValueError:
        raise _bad("remote_ip is not an IP address") from None
    if region is not None and region not in REGIONS:
        raise _bad("region is not a country code of ISO 3166-1, such as DE")
    provider_id = None if provider is None else parse_id(provider)
    if provider is not None and provider_id is None:
        raise _bad("provider is not a UUID")
    return Said(address, region, None if provider_id is None else AuthProviderId(provider_id))


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)
