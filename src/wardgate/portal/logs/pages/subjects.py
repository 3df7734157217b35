"""Who did it and from where, as every log shows it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from wardgate.portal.people.tables import Actor
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Cell, Fact, Link, Text, coordinates

Subject = Mapping[str, Any]

_PATHS = {"service_account": "/service_accounts", "api_client": "/settings/api_clients"}
_KINDS = {
    "account_admin_user": "administrator",
    "account_user": "person",
    "service_account": "service account",
    "api_client": "API client",
}


def actor_cell(subject: Subject | None) -> Cell:
    """Name whom an entry names; without a subject it was the portal itself."""
    if not subject:
        return Text("System")
    name, id_ = subject.get("actor_name"), subject.get("actor_id")
    note = subject.get("actor_email") or _KINDS.get(subject.get("actor_type") or "", "")
    if id_ is None:
        return Text(name or subject.get("device_name") or "Gateway", note)
    return Link(
        name or "Deleted actor", f"{_PATHS.get(subject.get('actor_type') or '', '/actors')}/{id_}", note
    )


def actor_link(actor: Actor | None) -> Cell:
    if actor is None:
        return Text("Deleted actor")
    return Link(
        actor.name,
        f"{_PATHS.get(actor.type, '/actors')}/{actor.id}",
        actor.email or _KINDS.get(actor.type, ""),
    )


async def actors_of(tables: AccountTables, ids: set[UUID | None]) -> Mapping[UUID | None, Actor]:
    """Return the actors with these ids, as far as they are still there."""
    found = await tables.actors.load_all(tables.actors.c.id.in_(ids - {None}))
    return {one.id: one for one in found}


async def actor_name(tables: AccountTables, id_: UUID) -> str | None:
    actor = await tables.actors.load(id_)
    return None if actor is None else actor.name


def place_of(entry: Mapping[str, Any]) -> str:
    """Say where an address is, from the fields `ip_city` and `ip_region`."""
    return ", ".join(part for part in (entry.get("ip_city"), entry.get("ip_region")) if part)


def source_facts(subject: Subject | None) -> Sequence[Fact]:
    """Say where an entry's author was."""
    if not subject:
        return ()
    ip, place, agent = subject.get("ip"), place_of(subject), subject.get("user_agent")
    lines: tuple[tuple[str, Cell | None], ...] = (
        ("Address", Text(str(ip), is_code=True) if ip else None),
        ("Place", Text(place) if place else None),
        ("Coordinates", coordinates(subject.get("ip_lat"), subject.get("ip_lon"))),
        ("User agent", Text(str(agent)) if agent else None),
    )
    return [Fact(label, cell) for label, cell in lines if cell is not None]


def id_facts(**ids: object) -> Sequence[Fact]:
    """Name the ids that an entry has, those that it lacks left out: `id_facts(**{"Log ID": …})`."""
    return [Fact(label, Text(str(value), is_code=True)) for label, value in ids.items() if value is not None]
