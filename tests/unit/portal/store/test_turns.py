"""A transaction about thousands of rows gives everybody else a turn every few hundred."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from unit.portal.store.conftest import make_account
from unit.portal.store.whole_account import fill_account
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.database import transaction as transaction_module
from wardgate.portal.database.turns import ROWS_A_TURN, STATEMENT_ROWS
from wardgate.portal.devices.tables import Device
from wardgate.portal.environment import Environment, Executor
from wardgate.portal.people import rules
from wardgate.portal.people.tables import Actor, Group
from wardgate.portal.store import AccountTables, Store

pytestmark = pytest.mark.slow

MEMBERS = 1500
"""Of a group: more than seven turns' rows."""


class Turns:
    """Counts what is done between two turns of a task that always wants one."""

    def __init__(self) -> None:
        self.most = 0
        self._this_turn = 0

    def note(self, *arguments: Any) -> None:
        """Note a statement, which may be for many rows (SQLAlchemy's `after_cursor_execute`)."""
        cursor, parameters, is_many = arguments[1], arguments[3], arguments[5]
        rows = len(parameters) if is_many else max(cursor.rowcount, 0)
        self._this_turn += STATEMENT_ROWS + rows
        self.most = max(self.most, self._this_turn)

    async def count_during(self, work: Callable[[], Awaitable[None]]) -> None:
        async def take_turns() -> None:
            while True:
                self._this_turn = 0
                await asyncio.sleep(0)

        event.listen(Engine, "after_cursor_execute", self.note)
        other = asyncio.create_task(take_turns())
        try:
            await work()
        finally:
            other.cancel()
            event.remove(Engine, "after_cursor_execute", self.note)


@pytest.fixture
async def store(environment: Environment) -> Any:
    opened = await Store.open(None, environment)
    yield opened
    await opened.close()


async def test_the_members_of_a_large_group_come_and_go_turn_by_turn(store: Store, account_id: UUID) -> None:
    group, actors = await _group(store, account_id)

    async def set_members(wanted: set[UUID]) -> None:
        async with store.writing() as transaction:
            tables = transaction.of(account_id)
            await rules.check_can_be_members(tables, wanted)
            await rules.set_members(tables, group, await rules.members_of(tables, group), wanted)

    for wanted in (set(actors), set(actors[:10]), set()):
        turns = Turns()
        await turns.count_during(lambda wanted=wanted: set_members(wanted))  # type: ignore[misc]
        assert turns.most > 0
        # A turn ends when the next statement would exceed it; the one that the library adds is not counted there.
        assert turns.most <= 2 * ROWS_A_TURN + 5 * STATEMENT_ROWS, turns.most
        async with store.reading() as transaction:
            members = await rules.members_of(transaction.of(account_id), group)
            assert members.keys() == wanted


async def test_what_takes_all_of_a_large_list_is_done_in_another_thread(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_module, "MANY", 100)
    elsewhere = _Elsewhere(environment.executor)
    store = await Store.open(None, replace(environment, executor=elsewhere))
    account_id = await make_account(store, "acme")
    group, actors = await _group(store, account_id)
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        assert await tables.pass_through(99, threading.get_ident) == threading.get_ident()
        assert await tables.pass_through(100, threading.get_ident) != threading.get_ident()
        elsewhere.runs = 0
        await rules.check_can_be_members(tables, actors)
        await rules.set_members(tables, group, await rules.members_of(tables, group), actors)
        assert elsewhere.runs == 3  # to sort them, to find unknown ones, and who comes
        await rules.set_members(tables, group, await rules.members_of(tables, group), [])
        assert elsewhere.runs == 6  # who is there, who leaves, and their rows
        assert await rules.members_of(tables, group) == {}
    await store.close()


class _Elsewhere:
    """Counts what is run elsewhere."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.runs = 0

    async def run(self, function: Callable[[], Any]) -> Any:
        self.runs += 1
        return await self._executor.run(function)


async def test_a_transaction_hands_over_what_it_has_appended_in_order(
    store: Store, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended: list[list[int]] = []
    store.on_append(lambda _account_id, changes: appended.append([one.sequence for one in changes]))
    await _group(store, account_id)
    assert [len(one) for one in appended] == [MEMBERS + 1]
    assert appended[0] == list(range(appended[0][0], appended[0][0] + MEMBERS + 1))
    monkeypatch.setattr(transaction_module, "HANDED_OVER", MEMBERS)
    await _group(store, await make_account(store, "other"))
    assert appended[-1] == []  # too many: the database is asked


async def test_many_small_statements_are_turns_too(store: Store, account_id: UUID) -> None:
    async def look(tables: AccountTables) -> None:
        for _ in range(200):
            await tables.groups.load_all(limit=1)

    async def work() -> None:
        async with store.writing() as transaction:
            await look(transaction.of(account_id))

    turns = Turns()
    await turns.count_during(work)
    assert 0 < turns.most <= ROWS_A_TURN + 2 * STATEMENT_ROWS


async def test_nothing_of_a_large_edit_is_stored_when_it_is_given_up_half_way(
    store: Store, account_id: UUID
) -> None:
    group, actors = await _group(store, account_id)

    async def edit() -> None:
        async with store.writing() as transaction:
            await rules.set_members(transaction.of(account_id), group, {}, actors)

    editing = asyncio.create_task(edit())
    for _ in range(4):
        await asyncio.sleep(0)
    assert not editing.done()
    editing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await editing
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        assert await rules.members_of(tables, group) == {}
        assert await transaction.changes(account_id, limit=9, newest_first=True) != []
    await make_account(store, "other")


async def test_what_goes_with_many_rows_goes_with_each(store: Store, account_id: UUID) -> None:
    """Devices by their actors, and of two accounts only one's."""
    other_id = await make_account(store, "other")
    for owner in (account_id, other_id):
        async with store.writing() as transaction:
            tables = transaction.of(owner)
            for number in range(3):
                actor = await tables.actors.insert(_actor(transaction.new_id(), owner, number))
                await tables.devices.insert(
                    Device(
                        id=transaction.new_id(),
                        account_id=owner,
                        type="client",
                        firezone_id=str(number),
                        name="laptop",
                        actor_id=actor.id,
                        psk_base=b"p" * 32,
                    )
                )
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        actors = await tables.actors.load_all()
        await tables.actors.delete_rows(actors[:2])
    async with store.reading() as transaction:
        left = await transaction.of(account_id).devices.load_all()
        assert [one.actor_id for one in left] == [actors[2].id]
        assert await transaction.of(other_id).devices.count() == 3
        changes = await transaction.changes(account_id, limit=4, newest_first=True)
    assert [(one.object, one.operation) for one in changes] == [("actors", "delete")] * 2 + [
        ("devices", "delete")
    ] * 2


async def test_thousands_of_grants_go_with_their_policy_turn_by_turn(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        whole = await fill_account(transaction, account_id)
        grant, tables = whole.of(PolicyAuthorization), transaction.of(account_id)
        await tables.authorizations.insert_all(
            [replace(grant, id=transaction.new_id()) for _ in range(MEMBERS)]
        )
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        other = asyncio.create_task(take_turns())
        assert await tables.policies.delete(grant.policy_id)
        other.cancel()
    assert turns >= MEMBERS // ROWS_A_TURN
    async with store.reading() as transaction:
        assert await transaction.of(account_id).authorizations.count() == 0


async def _group(store: Store, account_id: UUID) -> tuple[Group, list[UUID]]:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        group = await tables.groups.insert(
            Group(id=transaction.new_id(), account_id=account_id, name="Everybody there is")
        )
        actors = await tables.actors.insert_all(
            [_actor(transaction.new_id(), account_id, number) for number in range(MEMBERS)]
        )
    return group, [one.id for one in actors]


def _actor(id_: UUID, account_id: UUID, number: int) -> Actor:
    return Actor(
        id=id_, account_id=account_id, type="account_user", name="Ada", email=f"ada{number}@example.org"
    )
