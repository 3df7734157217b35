"""The page of API clients and their tokens. A token's text is shown once, when it is made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from wardgate.portal.credentials import Issued
from wardgate.portal.logs.history import history_tab
from wardgate.portal.outcomes import Missing, Refused
from wardgate.portal.people.tables import ACTORS, Actor
from wardgate.portal.sign_in import rules
from wardgate.portal.sign_in.tables import API_TOKENS, ApiToken
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Fact, Link, Moment, Status, Text
from wardgate.portal.web.filters import Choice, Search
from wardgate.portal.web.forms import Filled, Form, TextField, messages
from wardgate.portal.web.listing import (
    Column,
    Editing,
    Empty,
    ListPage,
    Panel,
    PanelAction,
    Side,
    Tab,
    errors_of,
)
from wardgate.portal.web.page import Live, PageRoute, Section
from wardgate.portal.web.visit import Visit

TOKENS_SHOWN: Final = 200
TOKENS_COUNTED: Final = 1000
LIFETIME: Final = timedelta(days=365)


# What the table shows


@dataclass(frozen=True, slots=True)
class ApiClientFacts:
    """Of each client: how many tokens it has, and when one was used last."""

    tokens: Counter[UUID]
    last_seen: Mapping[UUID, datetime]


async def load_facts(_visit: Visit, tables: AccountTables, clients: Sequence[Actor]) -> ApiClientFacts:
    t = tables.api_tokens.c
    tokens = await tables.api_tokens.load_all(t.actor_id.in_([one.id for one in clients]))
    last_seen: dict[UUID, datetime] = {}
    for token in tokens:
        if token.last_seen_at is not None:
            last_seen[token.actor_id] = max(
                token.last_seen_at, last_seen.get(token.actor_id, token.last_seen_at)
            )
    return ApiClientFacts(Counter(token.actor_id for token in tokens), last_seen)


def _status(client: Actor) -> Status:
    return Status("Disabled", "neutral") if client.is_disabled else Status("Active", "good")


# What the panel shows


@dataclass(frozen=True, slots=True)
class TokensView:
    """The tab of tokens; `now` tells which have expired."""

    tokens: Sequence[ApiToken]
    now: datetime


async def load_tokens(_visit: Visit, tables: AccountTables, client: Actor) -> TokensView:
    tokens = await tables.api_tokens.load_all(
        API_TOKENS.c.actor_id == client.id,
        order_by=[API_TOKENS.c.inserted_at.desc(), API_TOKENS.c.id],
        limit=TOKENS_SHOWN,
    )
    return TokensView(tokens, tables.now)


async def count_tokens(_visit: Visit, tables: AccountTables, client: Actor) -> int:
    return await tables.api_tokens.count(API_TOKENS.c.actor_id == client.id, at_most=TOKENS_COUNTED)


async def facts_of(_visit: Visit, _tables: AccountTables, client: Actor) -> Sequence[Fact]:
    return (
        Fact("Calls", Link("in the log of API requests", f"/logs/api_requests?actor_id={client.id}")),
        Fact("Changes", Link("in the log of changes", f"/logs/changes?actor_id={client.id}")),
        Fact("Created", Moment(client.inserted_at)),
        Fact("ID", Text(str(client.id), is_code=True)),
    )


async def status_of(_visit: Visit, _tables: AccountTables, client: Actor) -> Status:
    return _status(client)


# What can be done


async def _make(visit: Visit, tables: AccountTables, _: Transaction, given: Mapping[str, Any]) -> Actor:
    return await rules.make_api_client(tables, visit.account, given)


async def _change(
    visit: Visit, tables: AccountTables, _: Transaction, before: Actor, given: Mapping[str, Any]
) -> Actor:
    return await rules.change_api_client(tables, visit.account, before, given)


async def _disable(visit: Visit, tables: AccountTables, _: Transaction, client: Actor) -> str:
    await rules.change_api_client(tables, visit.account, client, {"is_disabled": True})
    return f"API client “{client.name}” is disabled."


async def _enable(visit: Visit, tables: AccountTables, _: Transaction, client: Actor) -> str:
    await rules.change_api_client(tables, visit.account, client, {"is_disabled": False})
    return f"API client “{client.name}” is enabled."


async def _delete(_visit: Visit, tables: AccountTables, _: Transaction, client: Actor) -> str:
    await tables.actors.delete(client.id)
    return f"API client “{client.name}” was deleted."


# Tokens: forms of their own within the panel


_TOKEN_FORM: Final = Form(
    (
        TextField(
            name="name", label="Name", help="Where the token is used.", placeholder="CI", is_required=True
        ),
        TextField(
            name="expires_at",
            label="Expires",
            help="The token is refused from the end of this day on, in UTC.",
            type="date",
            longest=10,
            is_required=True,
        ),
    )
)


async def new_token(visit: Visit) -> Response:
    """Show the form of a token."""
    day = (visit.services.environment.clock.now() + LIFETIME).date().isoformat()
    filled = Filled(_TOKEN_FORM, {"name": (), "expires_at": (day,)})
    return await _show_form(visit, filled)


async def make_token(visit: Visit) -> Response:
    """Make a token and show it, this once."""
    filled = _TOKEN_FORM.submitted(visit.form)
    given, errors = filled.given()
    if not errors:
        given["expires_at"] = f"{given['expires_at']}T23:59:59Z"
        try:
            async with visit.writing() as (tables, transaction):
                client = await rules.load_api_client(tables, visit.id())
                issued = await rules.make_api_token(
                    tables, transaction, visit.account, client, given, keys=visit.services.keys
                )
        except Missing:
            return PAGE.gone(visit)
        except Refused as refused:
            errors = errors_of(refused)
        else:
            return await _show_token(visit, client, issued)
    return await _show_form(visit, filled.refused(errors))


async def _show_form(visit: Visit, filled: Filled) -> Response:
    try:
        async with visit.reading() as tables:
            client = await rules.load_api_client(tables, visit.id())
    except Missing:
        return PAGE.gone(visit)
    values = {
        "row": client,
        "filled": filled,
        "options": {"name": (), "expires_at": ()},
        "messages": messages,
    }
    side = Side(f"New token of {client.name}", "sign_in/new_api_token.html", values)
    return await PAGE.show(visit, side, status=422 if filled.errors else 200)


async def _show_token(visit: Visit, client: Actor, issued: Issued[ApiToken]) -> Response:
    values = {
        "row": client,
        "token": issued.text,
        "name": issued.row.name,
        "url": visit.services.settings.rest_url,
    }
    return await PAGE.show(visit, Side("New token", "sign_in/api_token.html", values, is_wide=True))


async def before_token(visit: Visit) -> Response:
    """Answer to a reload of the page that showed a token: it is not shown again."""
    return visit.go(f"{PAGE.path}/{visit.id()}")


async def delete_token(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        token = await rules.load_api_token(tables, visit.id(), visit.id("token_id"))
        await tables.api_tokens.delete(token.id)
    return visit.go(f"{PAGE.path}/{visit.id()}", toast=f"Token “{token.name}” was deleted.")


_FORM: Final = Form(
    (
        TextField(
            name="name",
            label="Name",
            help="The program that calls the REST API.",
            placeholder="Terraform",
            is_required=True,
        ),
    )
)

PAGE: Final[ListPage[Actor, ApiClientFacts]] = ListPage(
    name="REST API",
    singular="API client",
    path="/settings/api_clients",
    icon="terminal",
    section=Section.SETTINGS,
    about="Programs that call the REST API, and their tokens.",
    live=Live(tables=frozenset({"actors", "api_tokens"})),
    repository=lambda tables: tables.actors,
    only=ACTORS.c.type == rules.API_CLIENT,
    load_facts=load_facts,
    columns=(
        Column(name="name", label="API client", cell=lambda client, _: Text(client.name), sort=ACTORS.c.name),
        Column(
            name="tokens",
            label="Tokens",
            cell=lambda client, facts: Text(str(facts.tokens[client.id])),
            is_secondary=True,
        ),
        Column(
            name="used",
            label="Last used",
            cell=lambda client, facts: Moment(facts.last_seen.get(client.id)),
        ),
        Column(
            name="created",
            label="Created",
            cell=lambda client, _: Moment(client.inserted_at),
            sort=ACTORS.c.inserted_at,
            is_secondary=True,
        ),
        Column(
            name="status",
            label="Status",
            cell=lambda client, _: _status(client),
        ),
    ),
    filters=(
        Search(label="Name", columns=(ACTORS.c.name,)),
        Choice(
            name="status",
            label="Status",
            options={"active": "Active", "disabled": "Disabled"},
            condition_of=lambda _visit, value: ACTORS.c.is_disabled.is_(value == "disabled"),
        ),
    ),
    empty=Empty(
        "No API clients yet",
        "Make one for each program that calls the REST API, so that you can see what it does, and stop it alone.",
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            Tab(
                name="tokens",
                label="Tokens",
                template="sign_in/api_tokens.html",
                load=load_tokens,
                count=count_tokens,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="disable",
                label="Disable API client",
                run=_disable,
                warning="All its tokens are refused until you enable it again.",
                is_offered=lambda _visit, client: not client.is_disabled,
            ),
            PanelAction(
                name="enable",
                label="Enable API client",
                run=_enable,
                warning="Its tokens are accepted again.",
                is_offered=lambda _visit, client: client.is_disabled,
            ),
            PanelAction(
                name="delete",
                label="Delete API client",
                run=_delete,
                warning="Its tokens are deleted too, and refused from the next call on.",
                is_dangerous=True,
                typed=lambda client: client.name,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=lambda _client: _FORM, make=_make, change=_change),
    more=(
        PageRoute("/{id}/tokens/new", new_token),
        PageRoute("/{id}/tokens", before_token),
        PageRoute("/{id}/tokens", make_token, "POST"),
        PageRoute("/{id}/tokens/{token_id}/delete", delete_token, "POST"),
    ),
)
