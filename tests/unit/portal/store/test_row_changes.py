"""An entry of the change feed says which row came, changed or went."""

from dataclasses import replace
from uuid import UUID

import pytest

from wardgate.portal.database.row_changes import Deleted, Inserted, RowChange, Updated, row_change
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor, Group
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.store import Store


async def test_a_rows_life_is_three_changes(store: Store, account_id: UUID) -> None:
    async with store.writing() as tx:
        groups = tx.of(account_id).groups
        made = await groups.insert(Group(id=tx.new_id(), account_id=account_id, name="Engineering"))
        renamed = await groups.save(replace(made, name="Operations"))
        await groups.delete(made.id)
    match await _changes(store, account_id):
        case [
            *_,
            Inserted(Group() as first),
            Updated(Group() as before, Group() as after),
            Deleted(Group() as last),
        ]:
            assert (first, before, after, last) == (made, made, renamed, renamed)
        case changes:
            raise AssertionError(changes)


async def test_changes_have_the_numbers_of_their_entries(store: Store, account_id: UUID) -> None:
    async with store.writing() as tx:
        groups = tx.of(account_id).groups
        made = await groups.insert(Group(id=tx.new_id(), account_id=account_id, name="Engineering"))
        await groups.save(replace(made, name="Operations"))
        await groups.delete(made.id)
    changes = await _changes(store, account_id)
    assert [type(change) for change in changes[-3:]] == [Inserted, Updated, Deleted]
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))


async def test_a_change_has_no_secrets_to_read_or_to_print(store: Store, account_id: UUID) -> None:
    async with store.reading() as tx:
        account = await tx.accounts.load(account_id)
    [created, *_] = await _changes(store, account_id)
    assert isinstance(created, Inserted)
    assert isinstance(created.after, Account)
    assert account is not None
    assert created.after.slug == account.slug
    with pytest.raises(AttributeError):
        _ = created.after.ingest_signing_key
    assert account.ingest_signing_key.hex() not in repr(created)
    assert str(account_id) in repr(created)


async def test_what_goes_with_a_row_is_named_by_class_and_id(store: Store, account_id: UUID) -> None:
    async with store.writing() as tx:
        tables = tx.of(account_id)
        actor = await tables.actors.insert(
            Actor(id=tx.new_id(), account_id=account_id, type="service_account", name="robot")
        )
        token = await tables.client_tokens.insert(
            ClientToken(
                id=tx.new_id(),
                account_id=account_id,
                actor_id=actor.id,
                secret_salt="salt",
                secret_hash="hash",
                expires_at=tx.now,
            )
        )
        await tables.actors.delete(actor.id)
    gone = [one for one in await _changes(store, account_id) if isinstance(one, Deleted)]
    assert [(type(one.before), one.before.id) for one in gone] == [(ClientToken, token.id), (Actor, actor.id)]


async def _changes(store: Store, account_id: UUID) -> list[RowChange]:
    async with store.reading() as tx:
        return [row_change(entry) for entry in await tx.changes_after(account_id, 0, 1000)]
