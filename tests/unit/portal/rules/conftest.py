"""An account in memory, and its tables within a transaction: all that rules take."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.provisioning import Provisioned, provision
from wardgate.portal.store import AccountTables, Store, Transaction


@dataclass(frozen=True, slots=True)
class Office:
    """A new account; whatever a test does is in one transaction."""

    made: Provisioned
    transaction: Transaction
    tables: AccountTables
    keys: Keys


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    store = await Store.open(None, Environment.of_this_process())
    async with store.writing() as transaction:
        made = await provision(transaction, name="Acme", slug="acme", admin_email="ada@example.org")
        yield Office(made, transaction, transaction.of(made.account.id), Keys.derive(b"k" * 32))
    await store.close()
