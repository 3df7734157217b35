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
from wardgate.portal.people.pages.held import STATUS_FILTER, actor_status, status_of
from wardgate.portal.people.tables import ACTORS, Actor
from wardgate.portal.sign_in import rules
from wardgate.portal.sign_in.tables import API_TOKENS, ApiToken
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Fact, Link, Moment, Text
from wardgate.portal.web.filters import Search
from wardgate.portal.web.forms import DateField, Form, TextField
from wardgate.portal.web.listing import (
    Column,
    Editing,
    Empty,
    ListPage,
    Panel,
    PanelAction,
    Side,
    Tab,
)
from wardgate.portal.web.page import Live, PageRoute, Section
from wardgate.portal.web.panel_form import PanelForm
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


def _token_form(visit: Visit) -> Form:
    return Form(
        (
            TextField(
                name="name", label="Name", help="Where the token is used.", placeholder="CI", is_required=True
            ),
            DateField(
                name="expires_at",
                label="Expires",
                help="The token is refused from the end of this day on, in UTC.",
                is_required=True,
                initial=visit.services.environment.clock.now() + LIFETIME,
            ),
        )
    )


async def _make_token(
    visit: Visit, tables: AccountTables, transaction: Transaction, client: Actor, given: Mapping[str, Any]
) -> Issued[ApiToken]:
    values = {**given, "expires_at": given["expires_at"].isoformat()}
    return await rules.make_api_token(
        tables, transaction, visit.account, client, values, keys=visit.services.keys
    )


async def _show_token(visit: Visit, client: Actor, issued: Issued[ApiToken]) -> Response:
    values = {
        "row": client,
        "token": issued.text,
        "name": issued.row.name,
        "url": visit.services.settings.rest_url,
    }
    return await PAGE.show(visit, Side("New token", "sign_in/api_token.html", values, is_wide=True))


NEW_TOKEN: Final = PanelForm[Actor, Issued[ApiToken]](
    name="tokens",
    tab="tokens",
    title=lambda client: f"New token of {client.name}",
    button="Create token",
    form=_token_form,
    run=_make_token,
    answer=_show_token,
)


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
            cell=lambda client, _: actor_status(client),
        ),
    ),
    filters=(
        Search(label="Name", columns=(ACTORS.c.name,)),
        STATUS_FILTER,
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
                undone_by="enable",
                warning="All its tokens are refused until you enable it again.",
                is_offered=lambda _visit, client: not client.is_disabled,
            ),
            PanelAction(
                name="enable",
                label="Enable API client",
                run=_enable,
                undone_by="disable",
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
        *NEW_TOKEN.routes,
        PageRoute("/{id}/tokens/{token_id}/delete", delete_token, "POST"),
    ),
)
