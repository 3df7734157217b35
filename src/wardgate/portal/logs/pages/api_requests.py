"""The log of REST calls."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, or_

from wardgate.portal.logs.pages.log_page import Details, Group, LogColumn, LogPage
from wardgate.portal.logs.pages.subjects import (
    actor_link,
    actor_name,
    actors_of,
    id_facts,
    place_of,
    source_facts,
)
from wardgate.portal.logs.pages.words import size_text
from wardgate.portal.logs.streams import LOGS, Stream, containing, within
from wardgate.portal.logs.tables import API_REQUEST_LOGS, ApiRequest
from wardgate.portal.people.tables import Actor
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Cell, Fact, Instant, Tag, Text
from wardgate.portal.web.filters import Choice, Condition, Of, Period, Search
from wardgate.portal.web.listing import Empty
from wardgate.portal.web.page import Section
from wardgate.portal.web.visit import Visit

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_TONES: Final = {"GET": "neutral", "POST": "good", "PUT": "caution", "PATCH": "caution", "DELETE": "bad"}

Actors = Mapping[UUID | None, Actor]


class _Words(Search):
    """Text in an entry, or its id."""

    def words_condition(self, words: str) -> Condition:
        return or_(containing(Stream.API_REQUEST, words), API_REQUEST_LOGS.c.log_id == words.lower())


def _entry(row: RowMapping) -> ApiRequest:
    return ApiRequest(**row)


async def _load_actors(_visit: Visit, tables: AccountTables, entries: Sequence[ApiRequest]) -> Actors:
    return await actors_of(tables, {one.actor_id for one in entries})


def _method(request: ApiRequest, _actors: Actors) -> Tag:
    return Tag(request.method, _TONES.get(request.method, "neutral"))  # type: ignore[arg-type]


def _who(request: ApiRequest, actors: Actors) -> Cell:
    return actor_link(actors.get(request.actor_id))


async def _token_name(tables: AccountTables, id_: UUID) -> str | None:
    token = await tables.api_tokens.load(id_)
    return None if token is None else token.name


async def _details(visit: Visit, request: ApiRequest) -> Details:
    async with visit.reading() as tables:
        actors = await actors_of(tables, {request.actor_id})
    return Details(
        f"{request.method} {request.path}",
        (
            Group(
                "Details",
                (
                    Fact("Method", _method(request, actors)),
                    Fact("Path", Text(request.path, is_code=True)),
                    Fact("By", _who(request, actors)),
                    Fact("Body", Text(size_text(request.content_length))),
                    Fact("Time", Instant(request.inserted_at, is_exact=True)),
                ),
            ),
            Group("Source", source_facts(asdict(request))),
            Group(
                "Identifiers",
                id_facts(
                    **{
                        "Request ID": request.request_id,
                        "Actor ID": request.actor_id,
                        "Token ID": request.token_id,
                        "Log ID": request.log_id,
                    }
                ),
            ),
        ),
    )


PAGE: Final[LogPage[ApiRequest, Actors]] = LogPage(
    name="API requests",
    path="/logs/api_requests",
    icon="terminal",
    section=Section.AUDIT,
    about="Calls of the REST API, written down before they are carried out.",
    log=LOGS[Stream.API_REQUEST],
    entry_of=_entry,
    window_of=lambda begin, end: within(Stream.API_REQUEST, begin, end),
    load_facts=_load_actors,
    columns=(
        LogColumn(label="Time", cell=lambda one, _: Instant(one.inserted_at)),
        LogColumn(label="Method", cell=_method),
        LogColumn(label="Path", cell=lambda one, _: Text(one.path, is_code=True)),
        LogColumn(label="By", cell=_who),
        LogColumn(
            label="Body",
            cell=lambda one, _: Text(size_text(one.content_length)),
            is_secondary=True,
            is_number=True,
        ),
        LogColumn(label="Address", cell=lambda one, _: Text(one.ip, place_of(asdict(one)), is_code=True)),
        LogColumn(label="Program", cell=lambda one, _: Text(one.user_agent), is_secondary=True),
    ),
    filters=(
        _Words(label="Path, address or log ID", columns=()),
        Choice(
            name="method",
            label="Method",
            options={one: one for one in METHODS},
            condition_of=lambda _visit, value: API_REQUEST_LOGS.c.method == value,
        ),
        Period(name="period", label="Period", column=API_REQUEST_LOGS.c.inserted_at),
        Of(name="actor_id", label="Calls by", column=API_REQUEST_LOGS.c.actor_id, name_of=actor_name),
        Of(
            name="token_id", label="Calls with token", column=API_REQUEST_LOGS.c.token_id, name_of=_token_name
        ),
    ),
    details=_details,
    empty=Empty(
        "No API requests yet",
        "Make an API client, and call the REST API with its token.",
        ("/settings/api_clients", "API clients"),
    ),
)
