"""The page of service accounts: machines that connect as clients, each with tokens that an administrator makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from wardgate.portal.logs.history import history_tab
from wardgate.portal.outcomes import Refused
from wardgate.portal.people import rules
from wardgate.portal.people.pages.held import (
    GROUPS_TO_CHOOSE,
    HELD_ROUTES,
    REACH,
    STATUS_FILTER,
    actor_status,
    actors_online,
    count_groups,
    count_tokens,
    group_ids,
    load_groups,
    load_tokens,
    presence_status,
    status_of,
)
from wardgate.portal.people.tables import ACTORS, Actor
from wardgate.portal.sign_in.rules import make_service_account_token
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Fact, Moment, Text
from wardgate.portal.web.filters import Search
from wardgate.portal.web.forms import DateField, Filled, Form, SeveralField, TextField, messages
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
from wardgate.portal.web.panel_form import PanelForm
from wardgate.portal.web.visit import Visit

TYPE: Final = "service_account"
TOKEN_LIFETIME: Final = timedelta(days=365)
"""What a form proposes."""


# What the table shows


@dataclass(frozen=True, slots=True)
class ServiceAccountFacts:
    """What cells need beside the rows."""

    tokens: Mapping[UUID, int]
    online: frozenset[UUID]


async def load_facts(visit: Visit, tables: AccountTables, actors: Sequence[Actor]) -> ServiceAccountFacts:
    c = tables.client_tokens.c
    return ServiceAccountFacts(
        await tables.client_tokens.count_by(c.actor_id, c.actor_id.in_([actor.id for actor in actors])),
        actors_online(visit),
    )


def _tokens(actor: Actor, facts: ServiceAccountFacts) -> Text:
    count = facts.tokens.get(actor.id, 0)
    return Text(f"{count} {'token' if count == 1 else 'tokens'}")


# What the panel shows


async def facts_of(_visit: Visit, _tables: AccountTables, actor: Actor) -> Sequence[Fact]:
    return (
        Fact("Created", Moment(actor.inserted_at)),
        Fact("Changed", Moment(actor.updated_at)),
        Fact("ID", Text(str(actor.id), is_code=True)),
    )


# What can be done


_NAME: Final = TextField(
    name="name",
    label="Name",
    help="What runs under it, such as a build server.",
    placeholder="Build server",
    is_required=True,
)
_FORM: Final = Form((_NAME,))


def _expiry(visit: Visit) -> DateField:
    return DateField(
        name="expires_at",
        label="Token expires",
        help="With the end of this day, UTC. Whoever uses the token is disconnected then.",
        is_required=True,
        initial=visit.services.environment.clock.now() + TOKEN_LIFETIME,
    )


def _new_form(visit: Visit) -> Form:
    groups = SeveralField(
        name="group_ids", label="Groups", help="What it may use comes of them.", choices=GROUPS_TO_CHOOSE
    )
    return Form((_NAME, _expiry(visit), groups))


async def _change(
    visit: Visit, tables: AccountTables, _: Transaction, before: Actor, given: Mapping[str, Any]
) -> Actor:
    return await rules.change_actor(tables, visit.account, before, given, by=visit.actor)


async def _disable(visit: Visit, tables: AccountTables, _: Transaction, actor: Actor) -> str:
    await rules.change_actor(tables, visit.account, actor, {"is_disabled": True}, by=visit.actor)
    return f"“{actor.name}” was disabled; its tokens are deleted."


async def _enable(visit: Visit, tables: AccountTables, _: Transaction, actor: Actor) -> str:
    await rules.change_actor(tables, visit.account, actor, {"is_disabled": False}, by=visit.actor)
    return f"“{actor.name}” was enabled; it needs a new token."


async def _delete(visit: Visit, tables: AccountTables, _: Transaction, actor: Actor) -> str:
    await rules.delete_actor(tables, actor, by=visit.actor)
    return f"Service account “{actor.name}” was deleted."


async def new(visit: Visit) -> Response:
    """Answer with the form of a service account and its first token."""
    return await _show_new(visit, _new_form(visit).blank(visit.query()))


async def make(visit: Visit) -> Response:
    """Make a service account with a token, and show the token, this once."""
    filled = _new_form(visit).submitted(visit.form)
    if filled.is_search:
        return await _show_new(visit, filled)
    given, errors = filled.given()
    if not errors:
        try:
            async with visit.writing() as (tables, transaction):
                actor = await rules.make_actor(tables, visit.account, {"type": TYPE, "name": given["name"]})
                await rules.add_to_groups(tables, actor, group_ids(given["group_ids"]))
                token = await _make_token(visit, tables, transaction, actor, given)
        except Refused as refused:
            errors = errors_of(refused)
        else:
            return await _show_token(visit, actor, token)
    return await _show_new(visit, filled.refused(errors))


async def _make_token(
    visit: Visit, tables: AccountTables, transaction: Transaction, actor: Actor, given: Mapping[str, Any]
) -> str:
    until = {"expires_at": given["expires_at"].isoformat()}
    issued = await make_service_account_token(tables, transaction, actor, until, keys=visit.services.keys)
    return issued.text


async def _show_new(visit: Visit, filled: Filled) -> Response:
    async with visit.reading() as tables:
        options = await filled.options(visit, tables)
    values = {"filled": filled, "options": options, "messages": messages}
    status = HTTPStatus.UNPROCESSABLE_ENTITY if filled.errors else HTTPStatus.OK
    return await PAGE.show(visit, Side("New service account", "form.html", values), status=status)


async def _show_token(visit: Visit, actor: Actor, token: str) -> Response:
    values = {
        "row": actor,
        "token": token,
        "api_url": visit.services.settings.socket_url,
        "installer": await visit.frame.installers.show("client"),
    }
    return await PAGE.show(visit, Side(f"Token of {actor.name}", "people/token.html", values))


NEW_TOKEN: Final = PanelForm[Actor, str](
    name="tokens",
    tab="tokens",
    title=lambda actor: f"New token of {actor.name}",
    button="Create token",
    form=lambda visit: Form((_expiry(visit),)),
    run=_make_token,
    answer=_show_token,
)

PAGE: Final[ListPage[Actor, ServiceAccountFacts]] = ListPage(
    name="Service accounts",
    singular="service account",
    path="/service_accounts",
    icon="key-round",
    section=Section.ACTORS,
    about="Machines that connect as clients, without a person who signs in.",
    live=Live(
        tables=frozenset(
            {"actors", "client_tokens", "memberships", "groups", "devices", "policies", "resources"}
        ),
        presence=frozenset({"client"}),
    ),
    repository=lambda tables: tables.actors,
    only=ACTORS.c.type == TYPE,
    load_facts=load_facts,
    columns=(
        Column(
            name="name",
            label="Name",
            cell=lambda actor, _: Text(actor.name, icon="key-round"),
            sort=ACTORS.c.name,
        ),
        Column(name="tokens", label="Tokens", cell=_tokens),
        Column(
            name="clients",
            label="Clients",
            cell=lambda actor, facts: presence_status(actor, facts.online),
            is_secondary=True,
        ),
        Column(name="status", label="Status", cell=lambda actor, _: actor_status(actor)),
        Column(
            name="created",
            label="Created",
            cell=lambda actor, _: Moment(actor.inserted_at),
            sort=ACTORS.c.inserted_at,
            is_secondary=True,
        ),
    ),
    filters=(
        Search(label="Name", columns=(ACTORS.c.name,)),
        STATUS_FILTER,
    ),
    empty=Empty(
        "No service accounts yet",
        "A server or a build job that uses your resources gets a service account, with a token in place of a"
        " sign-in.",
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            Tab(
                name="tokens",
                label="Tokens",
                template="people/tokens.html",
                load=load_tokens,
                count=count_tokens,
            ),
            Tab(
                name="groups",
                label="Groups",
                template="people/groups.html",
                load=load_groups,
                count=count_groups,
            ),
            REACH,
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="disable",
                label="Disable",
                run=_disable,
                warning="Whoever uses it is disconnected at once, and its tokens are deleted.",
                is_offered=lambda _visit, actor: not actor.is_disabled,
            ),
            PanelAction(
                name="enable",
                label="Enable",
                run=_enable,
                warning="It can be given tokens again.",
                is_offered=lambda _visit, actor: actor.is_disabled,
            ),
            PanelAction(
                name="delete",
                label="Delete service account",
                run=_delete,
                warning="All its tokens, devices and memberships are deleted too, for good.",
                is_dangerous=True,
                typed=lambda actor: actor.name,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=lambda _actor: _FORM, change=_change),
    buttons="people/new_service_account.html",
    more=(
        PageRoute("/new", new),
        PageRoute("/new", make, "POST"),
        *HELD_ROUTES,
        *NEW_TOKEN.routes,
    ),
)
