"""Reads an account's snapshot from the database, in slices between which other tasks run.

An account of ten thousand actors has nearly a hundred thousand rows, so what is done for each of them counts: only the columns that the
engine needs are read, and of the memberships, which are most of the rows, no entities are made: they go from the columns' text into
the engine's index, each group's number made once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from wardgate.policy.snapshot import Snapshot
from wardgate.portal.snapshot.entities import entity_of
from wardgate.portal.store import AccountTables
from wardgate.portal.store.repositories import Repository


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that is read as entities.

    Attributes:
        columns: what `entity_of` reads beside the id.
        slice: rows taken in before other tasks run, a few milliseconds' work.
    """

    name: str
    columns: tuple[str, ...]
    slice: int


_TABLES: Final = (
    _Table("actors", ("type", "name", "email", "is_disabled"), 500),
    _Table("groups", ("type", "name", "idp_id"), 500),
    _Table("sites", ("name", "managed_by"), 500),
    _Table(
        "resources",
        ("type", "name", "address", "address_description", "ip_stack", "filters", "site_id"),
        200,
    ),
    _Table(
        "policies",
        (
            "group_id",
            "resource_id",
            "conditions",
            "is_disabled",
            "description",
            "flow_log_uploads_enabled",
        ),
        100,
    ),
    _Table("devices", ("type", "name", "ipv4", "ipv6", "hostname"), 500),
    _Table("pool_members", ("resource_id", "device_id"), 500),
)
_SLICE_OF_MEMBERSHIPS: Final = 1000


async def load_snapshot(tables: AccountTables, *, is_disabled: bool) -> Snapshot:
    """Read all that the policy engine knows of an account, as the transaction of `tables` sees it.

    Args:
        tables: of a transaction that reads; it stays open while other tasks run.
        is_disabled: the account.
    """
    snapshot = Snapshot(is_disabled=is_disabled)
    for table in _TABLES:
        snapshot = await _with_table(snapshot, table, getattr(tables, table.name))
    return replace(snapshot, membership_ids=await _membership_ids(tables))


async def _with_table(snapshot: Snapshot, table: _Table, repository: Repository[Any]) -> Snapshot:
    names = ("id", *table.columns)
    async for rows in repository.slices(*table.columns, size=table.slice):
        entities = (entity_of(table.name, dict(zip(names, row, strict=True))) for row in rows)
        snapshot = snapshot.evolve(puts=[entity for entity in entities if entity is not None])
        await asyncio.sleep(0)
    return snapshot


async def _membership_ids(tables: AccountTables) -> Mapping[int, Mapping[int, int]]:
    """Return the engine's index of the memberships: actor → group → membership, all by number."""
    by_actor: dict[int, dict[int, int]] = {}
    by_text: dict[str, dict[int, int]] = {}  # the same, by the actor's id as the database writes it
    groups: dict[str, int] = {}
    async for rows in tables.memberships.slices("actor_id", "group_id", size=_SLICE_OF_MEMBERSHIPS):
        _take_in(rows, by_actor, by_text, groups)
        await asyncio.sleep(0)
    return by_actor


def _take_in(
    rows: Sequence[Sequence[str]],
    by_actor: dict[int, dict[int, int]],
    by_text: dict[str, dict[int, int]],
    groups: dict[str, int],
) -> None:
    for id_, actor, group in rows:
        ids = by_text.get(actor)
        if ids is None:
            ids = by_text[actor] = by_actor[_number(actor)] = {}
        number = groups.get(group)
        if number is None:
            number = groups[group] = _number(group)
        ids[number] = _number(id_)


def _number(text: str) -> int:
    """Return the number of an id (`UUID.int`), with or without hyphens in its text."""
    return int(text.replace("-", ""), 16)
