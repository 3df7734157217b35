"""A client's list is made anew only for changes that concern it: no other may alter it, and these must reach it."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from support.random_worlds import random_connection, random_world, uuid
from support.reference_evaluator import Row, World
from wardgate.model.ids import ActorId
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.policy.evaluation import Facts
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.channels.client_context import ClientContext
from wardgate.portal.channels.resource_list import ResourceList
from wardgate.portal.database.row_changes import RowChange, row_change
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.snapshot.accounts import AccountFacts, AccountView
from wardgate.portal.snapshot.audience import Batch, Interest

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CHANGES = 60
DEVICE = {
    "id": "",
    "type": "client",
    "name": "device",
    "ipv4": "100.64.0.9",
    "ipv6": "fd00:2021:1111::9",
    "hostname": None,
}


@pytest.mark.parametrize("seed", range(60))
def test_a_change_that_does_not_concern_a_list_leaves_it_as_it_was(seed: int) -> None:
    rng = random.Random(seed)
    account = _Account(random_world(rng))
    resources, interest = _list_of_a_client(rng, account)
    resources.replace(now=NOW)
    unconcerned = 0
    for _ in range(CHANGES):
        change = account.change(rng)
        is_concerned = resources.concerns(change)
        assert not is_concerned or Batch([change]).part_for(interest, account.view.snapshot) == [change], (
            change
        )
        messages, lost = resources.refresh(now=NOW)
        assert is_concerned or (messages, lost) == ([], {}), change
        unconcerned += not is_concerned
    assert unconcerned > CHANGES / 10


@dataclass
class _Account:
    """A world that changes, and the view of it."""

    world: World
    view: AccountView = field(init=False)

    def __post_init__(self) -> None:
        self.world["devices"] = [
            {**DEVICE, "id": uuid(random.Random(number)), "ipv4": f"100.64.0.{number}"}
            for number in range(1, 5)
        ]
        self.world["static_device_pool_members"] = []
        self.view = AccountView(AccountFacts(UUID(int=0)), Snapshot(), 0)
        self.view.apply(
            [
                self._change(number, table, None, row)
                for number, (table, row) in enumerate(
                    ((table, row) for table, rows in self.world.items() for row in rows), start=1
                )
            ]
        )

    def change(self, rng: random.Random) -> RowChange:
        """Change, delete or insert one row, and let the view know."""
        table = rng.choice([*self.world, "policies", "memberships"])
        rows = self.world[table]
        before: Row | None = rng.choice(rows) if rows and rng.random() < 0.7 else None
        after: Row | None = None
        if before is None or rng.random() < 0.6:
            after = (
                self._another(rng, table, before)
                if before is None
                else {**self._another(rng, table, before), "id": before["id"]}
            )
        self.world[table] = [row for row in rows if row is not before] + ([] if after is None else [after])
        change = self._change(self.view.sequence + 1, table, before, after)
        self.view.apply([change])
        return row_change(change)

    def _another(self, rng: random.Random, table: str, like: Row | None) -> Row:
        """Draw a row of a table that refers to rows of this world."""
        world = self.world
        if table == "memberships":
            return {
                "id": uuid(rng),
                "actor_id": _id(rng, world, "actors"),
                "group_id": _id(rng, world, "groups"),
            }
        if table == "static_device_pool_members":
            return {
                "id": uuid(rng),
                "resource_id": _id(rng, world, "resources"),
                "device_id": _id(rng, world, "devices"),
            }
        if table == "devices":
            return {**(like or DEVICE), "id": uuid(rng), "name": uuid(rng)}
        drawn = random_world(rng)
        while not drawn[table]:
            drawn = random_world(rng)
        row = rng.choice(drawn[table])
        for name, target in (("group_id", "groups"), ("resource_id", "resources"), ("site_id", "sites")):
            if row.get(name) is not None:
                row[name] = _id(rng, world, target)
        return row

    def _change(self, sequence: int, table: str, before: Row | None, after: Row | None) -> Change:
        operation = "insert" if before is None else "delete" if after is None else "update"
        return Change(
            account_id=UUID(int=0),
            sequence=sequence,
            log_id="",
            object=table,
            operation=operation,
            audience="audit",
            before=before,
            after=after,
            subject=None,
            committed_at=NOW,
        )


def _id(rng: random.Random, world: World, table: str) -> str:
    rows = world[table]
    return str(rng.choice(rows)["id"]) if rows else uuid(rng)


def _list_of_a_client(rng: random.Random, account: _Account) -> tuple[ResourceList, Interest]:
    connection = random_connection(rng, account.world, NOW + timedelta(days=1))
    context: Any = SimpleNamespace(
        actor=SimpleNamespace(id=UUID(connection["actor_id"])),
        device=SimpleNamespace(id=UUID(account.world["devices"][0]["id"])),
        view=account.view,
        facts=Facts(
            ip_address(connection["remote_ip"]), connection["region"], None, connection["is_verified"]
        ),
        software=ClientSoftware(Component.HEADLESS, Version(1, 5, 12)),
    )
    interest = Interest.in_(context.actor.id, context.device.id, actor_id=ActorId(context.actor.id))
    return ResourceList(cast("ClientContext", _Follower(context))), interest


class _Follower:
    """What a list needs of its client's context, with the snapshot that the view has now."""

    def __init__(self, known: Any) -> None:
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return self._known.view.snapshot if name == "snapshot" else getattr(self._known, name)
