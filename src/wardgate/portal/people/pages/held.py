"""What the pages of actors share: whether one is disabled or online, and what it holds: groups, and tokens with the
devices that use them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from starlette.responses import Response

from wardgate.portal.access.resource_types import TYPE_NAMES
from wardgate.portal.access.tables import Resource
from wardgate.portal.bus import ClientPresence
from wardgate.portal.database.text_search import contains
from wardgate.portal.devices.device_line import DeviceLine
from wardgate.portal.edits import INVALID
from wardgate.portal.limits import USERS
from wardgate.portal.outcomes import Invalid, Missing
from wardgate.portal.people import rules
from wardgate.portal.people.pages.picking import chosen_ids, is_search, pick
from wardgate.portal.people.tables import ACTORS, GROUPS, Actor, Group
from wardgate.portal.sign_in.provider_names import provider_names
from wardgate.portal.sign_in.rules import load_client_token
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Status
from wardgate.portal.web.choices import Lookup, Option
from wardgate.portal.web.filters import Choice, Search
from wardgate.portal.web.listing import ListPage, Side, Tab
from wardgate.portal.web.page import PageRoute
from wardgate.portal.web.visit import Visit

TOKENS_SHOWN: Final = 100
GROUPS_SHOWN: Final = 200
REACHED_SHOWN: Final = 300


def actor_status(actor: Actor) -> Status:
    return Status("Disabled", "caution") if actor.is_disabled else Status("Active", "good")


async def status_of(_visit: Visit, _tables: AccountTables, actor: Actor) -> Status:
    """`actor_status`, as a panel asks for it."""
    return actor_status(actor)


STATUS_FILTER: Final = Choice(
    name="status",
    label="Status",
    options={"active": "Active", "disabled": "Disabled"},
    condition_of=lambda _visit, value: ACTORS.c.is_disabled.is_(value == "disabled"),
)


def actors_online(visit: Visit) -> frozenset[UUID]:
    """Return the actors of whom a client is connected now."""
    members = visit.services.environment.bus.members("client", visit.account.id)
    return frozenset(member.actor_id for member in members)


def presence_status(actor: Actor, online: frozenset[UUID]) -> Status:
    return Status("Online", "good") if actor.id in online else Status("Offline", "neutral")


@dataclass(frozen=True, slots=True)
class TokenView:
    """A client token with the devices that used it last, or use it now.

    Attributes:
        provider: how its owner signed in, "" if an administrator made it.
    """

    row: ClientToken
    devices: Sequence[DeviceLine[ClientPresence]]
    provider: str
    is_expired: bool

    @property
    def is_online(self) -> bool:
        return any(device.presence is not None for device in self.devices)


async def load_tokens(visit: Visit, tables: AccountTables, actor: Actor) -> Sequence[TokenView]:
    """Return the client tokens of an actor, those in use first, then the newest."""
    t, d = tables.client_tokens.c, tables.devices.c
    tokens = await tables.client_tokens.load_all(
        t.actor_id == actor.id, order_by=[t.inserted_at.desc(), t.id], limit=TOKENS_SHOWN
    )
    devices = await tables.devices.load_all(
        d.client_token_id.in_([one.id for one in tokens]), d.type == "client"
    )
    members = visit.services.environment.bus.members("client", visit.account.id)
    online = {one.client_id: one for one in members if one.actor_id == actor.id}
    names = await provider_names(tables)
    shown = []
    for token in tokens:
        own = [
            DeviceLine(device, online.get(device.id))  # type: ignore[call-overload]
            for device in devices
            if device.client_token_id == token.id
        ]
        provider = (
            "" if token.auth_provider_id is None else names.get(token.auth_provider_id, "a deleted provider")
        )
        shown.append(
            TokenView(token, own, provider, token.expires_at <= visit.services.environment.clock.now())
        )
    return sorted(shown, key=lambda one: not one.is_online)


async def count_tokens(_visit: Visit, tables: AccountTables, actor: Actor) -> int:
    return await tables.client_tokens.count(tables.client_tokens.c.actor_id == actor.id)


async def load_groups(_visit: Visit, tables: AccountTables, actor: Actor) -> Sequence[Group]:
    """Return the groups that an actor is in, Everyone first if it is one of them."""
    return await tables.groups.load_all(
        _is_of(tables, actor), order_by=[GROUPS.c.type, func.lower(GROUPS.c.name)], limit=GROUPS_SHOWN
    )


async def count_groups(_visit: Visit, tables: AccountTables, actor: Actor) -> int:
    return await tables.groups.count(_is_of(tables, actor))


def _is_of(tables: AccountTables, actor: Actor) -> ColumnElement[bool]:
    is_member: ColumnElement[bool] = GROUPS.c.id.in_(_group_ids(tables, actor))
    return is_member | (GROUPS.c.type == "managed") if actor.type in USERS else is_member


def _group_ids(tables: AccountTables, actor: Actor) -> Any:
    c = tables.memberships.c
    return select(c.group_id).where(c.account_id == tables.account_id, c.actor_id == actor.id)


@dataclass(frozen=True, slots=True)
class Reached:
    """A resource that an actor may reach, with the groups, policies and numbers of conditions by which it is so."""

    resource: Resource
    ways: Sequence[tuple[str, UUID, int]]

    @property
    def type(self) -> str:
        return TYPE_NAMES[self.resource.type]


async def load_reach(visit: Visit, tables: AccountTables, actor: Actor) -> Sequence[Reached]:
    """Return what the enabled policies of an actor's groups lead to, by name; nothing for a disabled actor."""
    if actor.is_disabled:
        return ()
    groups = {group.id: group.name for group in await load_groups(visit, tables, actor)}
    p, c = tables.policies.c, tables.resources.c
    policies = await tables.policies.load_all(
        p.group_id.in_(groups), p.is_disabled.is_(False), limit=REACHED_SHOWN
    )
    ways: dict[UUID, list[tuple[str, UUID, int]]] = {}
    for policy in policies:
        assert policy.group_id is not None
        way = groups[policy.group_id], policy.id, len(policy.conditions)
        ways.setdefault(policy.resource_id, []).append(way)
    resources = await tables.resources.load_all(c.id.in_(ways), order_by=[func.lower(c.name), c.id])
    return [Reached(one, sorted(ways[one.id])) for one in resources]


REACH: Final[Tab[Actor]] = Tab(name="reach", label="Access", template="people/reach.html", load=load_reach)


def group_ids(texts: Sequence[str]) -> list[UUID]:
    """Return what was ticked in a form of a new actor. Raises Invalid."""
    try:
        return [UUID(text) for text in texts]
    except ValueError:
        raise Invalid({"group_ids": [INVALID]}) from None


_EDITABLE: Final = (GROUPS.c.type == "static", GROUPS.c.idp_id.is_(None))


async def _groups_as_options(
    _visit: Visit, _tables: AccountTables, groups: Sequence[Group]
) -> Sequence[Option]:
    return [Option(str(group.id), group.name) for group in groups]


GROUPS_TO_CHOOSE: Final = Lookup[Group](
    repository=lambda tables: tables.groups,
    search=Search(label="Group", columns=(GROUPS.c.name,)),
    describe=_groups_as_options,
    order_by=(GROUPS.c.name, GROUPS.c.id),
    only=lambda _visit, _tables: _EDITABLE,
)
"""The groups whose members are decided here, for the form of a new actor."""


async def _choose_groups(visit: Visit) -> Response:
    return await _show_choosing(visit)


async def _join(visit: Visit) -> Response:
    ids = chosen_ids(visit)
    if is_search(visit):
        return await _show_choosing(visit)
    if not ids:
        return await _show_choosing(visit, error="Tick which groups.")
    async with visit.writing() as (tables, _):
        actor = await _page(visit).load(tables, visit.id())
        count = await rules.add_to_groups(tables, actor, ids)
    told = f"{actor.name} was added to {count} {'group' if count == 1 else 'groups'}."
    return back(visit, told, tab="groups")


async def _leave(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        actor = await _page(visit).load(tables, visit.id())
        group = await rules.load_group_with_editable_members(tables, visit.id("group_id"))
        c = tables.memberships.c
        await tables.memberships.delete_where(c.actor_id == actor.id, c.group_id == group.id)
    return back(visit, f"{actor.name} is not in “{group.name}” any more.", tab="groups")


async def _revoke(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        actor = await _page(visit).load(tables, visit.id())
        token = await load_client_token(tables, actor.id, visit.id("token_id"))
        await tables.client_tokens.delete(token.id)
    return back(visit, "The token was revoked; whoever used it is disconnected.", tab="tokens")


HELD_ROUTES: Final = (
    PageRoute("/{id}/groups", _choose_groups),
    PageRoute("/{id}/groups", _join, "POST"),
    PageRoute("/{id}/groups/{group_id}/leave", _leave, "POST"),
    PageRoute("/{id}/tokens/{token_id}/revoke", _revoke, "POST"),
)
"""What both pages answer besides their lists: joining and leaving groups, and the end of a token."""


def back(visit: Visit, toast: str, *, tab: str) -> Response:
    """Answer a form of a panel: show the tab that it was sent from."""
    return visit.go(f"{visit.page.path}/{visit.id()}", toast=toast, tab=tab)


async def _show_choosing(visit: Visit, *, error: str = "") -> Response:
    page = _page(visit)
    async with visit.reading() as tables:
        try:
            actor = await page.load(tables, visit.id())
        except Missing:
            return page.gone(visit)
        find = partial(_find_groups, tables, actor)
        picking = await pick(visit, find=find, name=partial(_named_groups, tables), error=error)
    values = {
        "row": actor,
        "picking": picking,
        "action": f"{page.path}/{actor.id}/groups",
        "back_to": "groups",
        "noun": "groups",
        "about": "Tick the groups; what you have ticked stays while you search for more.",
        "placeholder": "Name of a group",
        "button": "Add to groups",
    }
    side = Side(f"Add {actor.name} to groups", "people/pick.html", values)
    return await page.show(visit, side, status=HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)


def _page(visit: Visit) -> ListPage[Actor, Any]:
    return cast(ListPage[Actor, Any], visit.page)


async def _find_groups(
    tables: AccountTables, actor: Actor, words: str, without: Sequence[UUID], limit: int
) -> Sequence[Option]:
    c = GROUPS.c
    groups = await tables.groups.load_all(
        *_EDITABLE,
        c.id.not_in(_group_ids(tables, actor)),
        c.id.not_in(without),
        *([contains(c.name, words)] if words else []),
        order_by=[func.lower(c.name), c.id],
        limit=limit,
    )
    return [Option(str(group.id), group.name) for group in groups]


async def _named_groups(tables: AccountTables, ids: Sequence[UUID]) -> Sequence[Option]:
    groups = await tables.groups.load_all(*_EDITABLE, GROUPS.c.id.in_(ids), order_by=[GROUPS.c.name])
    return [Option(str(group.id), group.name) for group in groups]
