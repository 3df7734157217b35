"""Reads an account's snapshot from the database, in slices between which other tasks run.

An account of ten thousand actors has nearly a hundred thousand rows, so what is done for each of them counts:
only the columns that the engine needs are read (`snapshot` in a table's declaration), and of the memberships,
which are most of the rows, no entities are made: they go from the columns' text into the engine's index, each
group's number made once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wardgate.policy.partitioned import PartitionedDraft, PartitionedMap
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.people.tables import MEMBERSHIPS
from wardgate.portal.schema.declaration import InSnapshot, TableDeclaration
from wardgate.portal.snapshot.entities import entity_of
from wardgate.portal.store import AccountTables
from wardgate.portal.tables import TABLES


async def load_snapshot(tables: AccountTables, *, is_disabled: bool) -> Snapshot:
    """Read all that the policy engine knows of an account, as the transaction of `tables` sees it.

    Args:
        tables: of a transaction that reads; it stays open while other tasks run.
        is_disabled: the account.
    """
    snapshot = Snapshot(is_disabled=is_disabled)
    for declaration in TABLES.values():
        part = declaration.snapshot
        if part is not None and declaration is not MEMBERSHIPS:
            snapshot = await _with_table(snapshot, declaration, part, tables)
    return replace(snapshot, membership_ids=await _membership_ids(tables))


async def _with_table(
    snapshot: Snapshot, declaration: TableDeclaration[Any], part: InSnapshot, tables: AccountTables
) -> Snapshot:
    columns = part.columns or declaration.described
    row_of = declaration.rows.partial(("id", *columns))
    async for values in tables.by_name(declaration.name).slices(*columns, size=part.slice):
        entities = (entity_of(row_of(one)) for one in values)
        snapshot = snapshot.evolve(puts=[entity for entity in entities if entity is not None])
        await asyncio.sleep(0)
    return snapshot


async def _membership_ids(tables: AccountTables) -> PartitionedMap[int, Mapping[int, int]]:
    """Return the engine's index of the memberships: actor → group → membership, all by number."""
    assert MEMBERSHIPS.snapshot is not None
    by_actor = PartitionedMap[int, Mapping[int, int]]().draft()
    by_text: dict[str, dict[int, int]] = {}  # the same, by the actor's id as the database writes it
    groups: dict[str, int] = {}
    async for rows in tables.memberships.slices("actor_id", "group_id", size=MEMBERSHIPS.snapshot.slice):
        _take_in(rows, by_actor, by_text, groups)
        await asyncio.sleep(0)
    return by_actor.finish()


def _take_in(
    rows: Sequence[Sequence[str]],
    by_actor: PartitionedDraft[int, Mapping[int, int]],
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
