"""The tab of live authorizations in a panel: of a client, a policy or a resource."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement

from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS, PolicyAuthorization
from wardgate.portal.people.tables import Actor, Group
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.store import AccountTables
from wardgate.portal.web.listing import Tab
from wardgate.portal.web.visit import Visit

SHOWN_AT_ONCE: Final = 20
COUNTED: Final = 1000
MAX_PAGE: Final = 500
PAGE_PARAMETER: Final = "authorizations"

_RowT = TypeVar("_RowT", bound=TenantRow)


@dataclass(frozen=True, slots=True)
class AuthorizationView:
    """One grant, with the names of what it joins; a name is None if its object has gone meanwhile."""

    id: UUID
    resource_id: UUID
    resource: str | None
    policy_id: UUID
    initiator_id: UUID
    initiator: str | None
    owner: Actor | None
    group: Group | None
    receiver_path: str | None
    receiver: str | None
    granted_at: datetime
    expires_at: datetime
    remote_ip: str


@dataclass(frozen=True, slots=True)
class AuthorizationsView:
    """One page of the tab; `following` says whether there is another."""

    rows: Sequence[AuthorizationView]
    page: int
    has_next: bool


def authorizations_tab(condition_of: Callable[[_RowT], ColumnElement[bool]]) -> Tab[_RowT]:
    """Return a tab with the grants that meet a condition and have not expired, newest first."""

    async def load(visit: Visit, tables: AccountTables, row: _RowT) -> AuthorizationsView:
        page = _page(visit)
        grants = await tables.authorizations.load_all(
            condition_of(row),
            POLICY_AUTHORIZATIONS.c.expires_at > tables.now,
            order_by=[POLICY_AUTHORIZATIONS.c.inserted_at.desc(), POLICY_AUTHORIZATIONS.c.id],
            limit=SHOWN_AT_ONCE + 1,
            offset=(page - 1) * SHOWN_AT_ONCE,
        )
        shown = await _shown(tables, grants[:SHOWN_AT_ONCE])
        return AuthorizationsView(shown, page, len(grants) > SHOWN_AT_ONCE)

    async def count(_visit: Visit, tables: AccountTables, row: _RowT) -> int:
        is_live = POLICY_AUTHORIZATIONS.c.expires_at > tables.now
        return await tables.authorizations.count(condition_of(row), is_live, at_most=COUNTED)

    return Tab(
        name="authorizations",
        label="Authorizations",
        template="access/authorizations.html",
        load=load,
        count=count,
    )


async def _shown(tables: AccountTables, grants: Sequence[PolicyAuthorization]) -> Sequence[AuthorizationView]:
    resources = await _by_id(tables.resources, {one.resource_id for one in grants})
    device_ids = {one.initiating_device_id for one in grants} | {one.receiving_device_id for one in grants}
    devices = await _by_id(tables.devices, device_ids)
    policies = await _by_id(tables.policies, {one.policy_id for one in grants})
    groups = await _by_id(tables.groups, {one.group_id for one in policies.values()} - {None})
    owners = await _by_id(tables.actors, {one.actor_id for one in devices.values()} - {None})
    return [
        AuthorizationView(
            id=one.id,
            resource_id=one.resource_id,
            resource=_name(resources.get(one.resource_id)),
            policy_id=one.policy_id,
            initiator_id=one.initiating_device_id,
            initiator=_name(devices.get(one.initiating_device_id)),
            owner=_named(owners, devices.get(one.initiating_device_id), "actor_id"),
            group=_named(groups, policies.get(one.policy_id), "group_id"),
            receiver_path=_path(devices.get(one.receiving_device_id)),
            receiver=_name(devices.get(one.receiving_device_id)),
            granted_at=one.inserted_at,
            expires_at=one.expires_at,
            remote_ip=one.initiator_remote_ip,
        )
        for one in grants
    ]


async def _by_id(repository: Any, ids: set[UUID]) -> dict[UUID, Any]:
    return {row.id: row for row in await repository.load_all(repository.c.id.in_(ids))}


def _named(rows: Mapping[UUID, Any], row: Any, name: str) -> Any:
    """Return what a row names; None if either has gone meanwhile."""
    return None if row is None else rows.get(getattr(row, name))


def _name(row: Any) -> str | None:
    return None if row is None else row.name


def _path(device: Any) -> str | None:
    if device is None:
        return None
    return f"/clients/{device.id}" if device.type == "client" else f"/sites/{device.site_id}"


def _page(visit: Visit) -> int:
    text = visit.request.query_params.get(PAGE_PARAMETER, "1")
    if not (text.isascii() and text.isdecimal() and len(text) < 5):
        return 1
    return min(max(int(text), 1), MAX_PAGE)
