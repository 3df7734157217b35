"""The page of people: users and admins, with what they have signed in with and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from wardgate.portal.http.origin import origin_of
from wardgate.portal.installation.account_lifecycle import account_url
from wardgate.portal.limits import USERS
from wardgate.portal.logs.history import history_tab
from wardgate.portal.mail.letters import Welcome
from wardgate.portal.mail.queue import post
from wardgate.portal.outcomes import Forbidden, Invalid, Missing, WrongState
from wardgate.portal.people import rules
from wardgate.portal.people.pages.held import (
    GROUPS_TO_CHOOSE,
    HELD_ROUTES,
    REACH,
    STATUS_FILTER,
    actor_status,
    actors_online,
    back,
    count_groups,
    count_tokens,
    group_ids,
    load_groups,
    load_tokens,
    presence_status,
    status_of,
)
from wardgate.portal.people.tables import ACTORS, Actor, ExternalIdentity
from wardgate.portal.sign_in.provider_names import provider_names
from wardgate.portal.sign_in.second_factor import rules as second_factors
from wardgate.portal.sign_in.second_factor.letters import RESET, tell_of_change
from wardgate.portal.sign_in.tables import PortalSession
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Fact, Moment, Tag, Text
from wardgate.portal.web.choices import Option
from wardgate.portal.web.filters import Choice, Search
from wardgate.portal.web.forms import ChoiceField, Form, SeveralField, TextField, ToggleField
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction, Tab
from wardgate.portal.web.page import Live, PageRoute, Section
from wardgate.portal.web.visit import Visit

SESSIONS_SHOWN: Final = 100
IDENTITIES_SHOWN: Final = 50
ROLES: Final = {"account_user": "User", "account_admin_user": "Admin"}


# What the table shows


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What cells need beside the rows."""

    identities: Mapping[UUID, int]
    online: frozenset[UUID]


async def load_facts(visit: Visit, tables: AccountTables, actors: Sequence[Actor]) -> ActorFacts:
    c = tables.external_identities.c
    ids = [actor.id for actor in actors]
    return ActorFacts(
        await tables.external_identities.count_by(c.actor_id, c.actor_id.in_(ids)),
        actors_online(visit),
    )


def _name(actor: Actor, _facts: ActorFacts) -> Text:
    return Text(actor.name, icon="user-cog" if actor.type == "account_admin_user" else "user")


def _identities(actor: Actor, facts: ActorFacts) -> Text:
    count = facts.identities.get(actor.id, 0)
    return Text(f"{count} {'identity' if count == 1 else 'identities'}")


# What the panel shows


async def load_identities(_visit: Visit, tables: AccountTables, actor: Actor) -> Sequence[ExternalIdentity]:
    c = tables.external_identities.c
    return await tables.external_identities.load_all(
        c.actor_id == actor.id, order_by=[c.issuer, c.id], limit=IDENTITIES_SHOWN
    )


async def count_identities(_visit: Visit, tables: AccountTables, actor: Actor) -> int:
    return await tables.external_identities.count(tables.external_identities.c.actor_id == actor.id)


@dataclass(frozen=True, slots=True)
class SessionView:
    """A browser that is signed in to the portal; `provider` is "" for a link from the command line."""

    row: PortalSession
    provider: str
    is_own: bool

    @property
    def place(self) -> str:
        parts = (self.row.remote_ip_location_city, self.row.remote_ip_location_region)
        return ", ".join(part for part in parts if part)


async def load_sessions(visit: Visit, tables: AccountTables, actor: Actor) -> Sequence[SessionView]:
    c = tables.portal_sessions.c
    rows = await tables.portal_sessions.load_all(
        c.actor_id == actor.id,
        c.expires_at > visit.services.environment.clock.now(),
        order_by=[c.inserted_at.desc(), c.id],
        limit=SESSIONS_SHOWN,
    )
    names = await provider_names(tables)
    return [
        SessionView(
            row,
            "" if row.auth_provider_id is None else names.get(row.auth_provider_id, "a deleted provider"),
            row.id == visit.signed_in.session_id,
        )
        for row in rows
    ]


async def count_sessions(visit: Visit, tables: AccountTables, actor: Actor) -> int:
    c = tables.portal_sessions.c
    now = visit.services.environment.clock.now()
    return await tables.portal_sessions.count(c.actor_id == actor.id, c.expires_at > now)


async def facts_of(_visit: Visit, _tables: AccountTables, actor: Actor) -> Sequence[Fact]:
    return (
        Fact("E-mail", Text(actor.email or "–")),
        Fact("Role", Text(ROLES[actor.type])),
        Fact("Code by e-mail", Text("allowed" if actor.allow_email_otp_sign_in else "not allowed")),
        Fact("Created", Moment(actor.inserted_at)),
        Fact("Changed", Moment(actor.updated_at)),
        Fact("ID", Text(str(actor.id), is_code=True)),
    )


# What can be done


async def _make(visit: Visit, tables: AccountTables, _: Transaction, given: Mapping[str, Any]) -> Actor:
    groups = group_ids(given["group_ids"])
    actor = await rules.make_actor(
        tables, visit.account, {k: v for k, v in given.items() if k != "group_ids"}
    )
    try:
        await rules.add_to_groups(tables, actor, groups)
    except Missing:
        raise Invalid({"group_ids": ["A group of these does not exist any more."]}) from None
    return actor


async def _change(
    visit: Visit, tables: AccountTables, _: Transaction, before: Actor, given: Mapping[str, Any]
) -> Actor:
    is_confirmed = given.get(CONFIRM)
    values = {name: value for name, value in given.items() if name != CONFIRM}
    after = await rules.change_actor(tables, visit.account, before, values, by=visit.actor)
    if not is_confirmed and before.address != after.address:
        raise Invalid({CONFIRM: ["Switch this on to change the address."]})
    return after


async def _disable(visit: Visit, tables: AccountTables, _: Transaction, actor: Actor) -> str:
    await rules.change_actor(tables, visit.account, actor, {"is_disabled": True}, by=visit.actor)
    return f"{actor.name} was disabled and is signed out everywhere."


async def _enable(visit: Visit, tables: AccountTables, _: Transaction, actor: Actor) -> str:
    await rules.change_actor(tables, visit.account, actor, {"is_disabled": False}, by=visit.actor)
    return f"{actor.name} was enabled."


async def _delete(visit: Visit, tables: AccountTables, _: Transaction, actor: Actor) -> str:
    await rules.delete_actor(tables, actor, by=visit.actor)
    return f"{actor.name} was deleted."


async def _welcome(visit: Visit, _tables: AccountTables, transaction: Transaction, actor: Actor) -> str:
    services = visit.services
    if services.environment.mailer is None:
        raise WrongState("The portal has no mail server: nothing was sent.")
    assert actor.email is not None
    if services.welcomes.take(actor.id, now=services.environment.clock.monotonic()):
        raise WrongState(f"{actor.name} was written to several times already; wait a while.")
    letter = Welcome(
        visit.account.name, account_url(services.settings, visit.account), actor.name, visit.actor.name
    )
    await post(transaction, services.settings, letter, [actor.email], account_id=visit.account.id)
    return f"A welcome is on its way to {actor.email}."


CONFIRM: Final = "is_address_confirmed"


class _Confirmation(ToggleField):
    """What is said anew each time; nothing of it is stored."""

    def stored(self, _row: object) -> bool:
        return False


_FIELDS: Final = (
    TextField(name="name", label="Name", placeholder="Ada Lovelace", is_required=True),
    TextField(
        name="email",
        label="E-mail",
        type="email",
        placeholder="ada@example.org",
        longest=160,
        is_required=True,
    ),
)
_ROLE: Final = ChoiceField(
    name="type",
    label="Role",
    is_cards=True,
    is_required=True,
    initial="account_user",
    choices=(
        Option("account_user", "User", "Signs in to client apps"),
        Option("account_admin_user", "Admin", "Manages this account, too"),
    ),
)
_EMAIL_CODE: Final = ToggleField(
    name="allow_email_otp_sign_in",
    label="Sign in by a code sent by e-mail",
    help="For whoever has no account at an identity provider.",
)
_NEW_FORM: Final = Form(
    (
        *_FIELDS,
        _ROLE,
        _EMAIL_CODE,
        SeveralField(
            name="group_ids",
            label="Groups",
            help="What this person may use comes of them; everyone is in Everyone.",
            choices=GROUPS_TO_CHOOSE,
        ),
    )
)
_FORM: Final = Form(
    (
        *_FIELDS,
        _Confirmation(
            name=CONFIRM,
            label="Change the e-mail address",
            help="Another address is another identity: all identities, sessions and client tokens of this person"
            " end with the change.",
        ),
        _ROLE,
        _EMAIL_CODE,
    )
)


async def delete_identity(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        actor = await PAGE.load(tables, visit.id())
        identity = await rules.load_identity(tables, actor.id, visit.id("identity_id"))
        await rules.delete_identity(tables, actor, identity, by=visit.actor)
    return back(
        visit, "The identity was deleted, and the sessions that came of it have ended.", tab="identities"
    )


async def revoke_session(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        actor = await PAGE.load(tables, visit.id())
        id_ = visit.id("session_id")
        session = None if id_ is None else await tables.portal_sessions.load(id_)
        if session is None or session.actor_id != actor.id:
            raise Missing
        await tables.portal_sessions.delete(session.id)
    return back(visit, "The session has ended.", tab="sessions")


async def load_second_factors(_visit: Visit, tables: AccountTables, actor: Actor) -> second_factors.Factors:
    return await second_factors.load_factors(tables, actor.id)


async def count_second_factors(_visit: Visit, tables: AccountTables, actor: Actor) -> int:
    return len((await second_factors.load_factors(tables, actor.id)).all)


async def reset_second_factors(visit: Visit) -> Response:
    async with visit.writing() as (tables, transaction):
        actor = await PAGE.load(tables, visit.id())
        if not _is_other(visit, actor):
            raise Forbidden("Your own second factors change on your profile, where you show one first.")
        if await second_factors.reset(tables, actor.id):
            await tell_of_change(
                transaction,
                visit.services.settings,
                visit.account,
                actor,
                [RESET],
                origin=origin_of(visit.request.scope),
                by=visit.actor.name,
            )
    return back(visit, f"{actor.name} has no second factor any more.", tab="second_factors")


def _is_other(visit: Visit, actor: Actor) -> bool:
    return actor.id != visit.actor.id


PAGE: Final[ListPage[Actor, ActorFacts]] = ListPage(
    name="People",
    singular="person",
    path="/actors",
    icon="user",
    section=Section.ACTORS,
    about="Who signs in: users with client apps, admins here as well.",
    live=Live(
        tables=frozenset(
            {
                "actors",
                "external_identities",
                "client_tokens",
                "portal_sessions",
                "totp_authenticators",
                "passkeys",
                "recovery_codes",
                "memberships",
                "groups",
                "devices",
                "policies",
                "resources",
            }
        ),
        presence=frozenset({"client"}),
    ),
    repository=lambda tables: tables.actors,
    only=ACTORS.c.type.in_(USERS),
    load_facts=load_facts,
    columns=(
        Column(name="name", label="Name", cell=_name, sort=ACTORS.c.name),
        Column(
            name="email",
            label="E-mail",
            cell=lambda actor, _: Text(actor.email or "–"),
            sort=ACTORS.c.email,
            is_secondary=True,
        ),
        Column(
            name="role",
            label="Role",
            cell=lambda actor, _: Tag(ROLES[actor.type]),
            is_secondary=True,
        ),
        Column(
            name="clients",
            label="Clients",
            cell=lambda actor, facts: presence_status(actor, facts.online),
            is_secondary=True,
        ),
        Column(name="identities", label="Identities", cell=_identities, is_secondary=True),
        Column(name="status", label="Status", cell=lambda actor, _: actor_status(actor)),
        Column(
            name="changed",
            label="Changed",
            cell=lambda actor, _: Moment(actor.updated_at),
            sort=ACTORS.c.updated_at,
            is_secondary=True,
        ),
    ),
    filters=(
        Search(label="Name or e-mail", columns=(ACTORS.c.name, ACTORS.c.email)),
        STATUS_FILTER,
        Choice(
            name="role",
            label="Role",
            options=ROLES,
            condition_of=lambda _visit, value: ACTORS.c.type == value,
        ),
    ),
    empty=Empty(
        "Nobody yet", "Add the people who shall use your resources, or let them sign in by a provider."
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            Tab(
                name="groups",
                label="Groups",
                template="people/groups.html",
                load=load_groups,
                count=count_groups,
            ),
            REACH,
            Tab(
                name="tokens",
                label="Client sessions",
                template="people/tokens.html",
                load=load_tokens,
                count=count_tokens,
            ),
            Tab(
                name="sessions",
                label="Portal sessions",
                template="people/portal_sessions.html",
                load=load_sessions,
                count=count_sessions,
            ),
            Tab(
                name="identities",
                label="Identities",
                template="people/identities.html",
                load=load_identities,
                count=count_identities,
            ),
            Tab(
                name="second_factors",
                label="Second factors",
                template="people/second_factors.html",
                load=load_second_factors,
                count=count_second_factors,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="welcome",
                label="Send a welcome",
                run=_welcome,
                warning="A letter tells this person where to sign in.",
                is_offered=lambda _visit, actor: not actor.is_disabled,
            ),
            PanelAction(
                name="disable",
                label="Disable",
                run=_disable,
                warning="All sessions end at once, here and in client apps, until the person is enabled and has"
                " signed in again.",
                is_offered=lambda visit, actor: not actor.is_disabled and _is_other(visit, actor),
            ),
            PanelAction(
                name="enable",
                label="Enable",
                run=_enable,
                warning="The person can sign in again.",
                is_offered=lambda _visit, actor: actor.is_disabled,
            ),
            PanelAction(
                name="delete",
                label="Delete person",
                run=_delete,
                warning="All devices, sessions and memberships of this person are deleted too, for good.",
                is_dangerous=True,
                typed=lambda actor: actor.name,
                leaves=True,
                is_offered=_is_other,
            ),
        ),
    ),
    editing=Editing(form=lambda actor: _NEW_FORM if actor is None else _FORM, make=_make, change=_change),
    more=(
        *HELD_ROUTES,
        PageRoute("/{id}/identities/{identity_id}/delete", delete_identity, "POST"),
        PageRoute("/{id}/sessions/{session_id}/revoke", revoke_session, "POST"),
        PageRoute("/{id}/second_factors/reset", reset_second_factors, "POST"),
    ),
)
