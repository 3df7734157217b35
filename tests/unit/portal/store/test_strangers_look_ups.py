"""What a stranger's request looks up costs the same however many rows there are: no table is read through."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from wardgate.portal.database.sqlite_driver import InlineConnection
from wardgate.portal.environment import Environment
from wardgate.portal.sign_in.account_finding import accounts_of_address
from wardgate.portal.sign_in.api_calls import find_api_caller
from wardgate.portal.sign_in.lookup import find_account, find_provider, find_user
from wardgate.portal.sign_in.passcode_attempts import count_attempt
from wardgate.portal.store import Store, Transaction

pytestmark = pytest.mark.slow

_ID: Final = UUID(int=7)

LOOK_UPS: Final[dict[str, Callable[[Transaction], Awaitable[Any]]]] = {
    "accounts of an address": lambda tx: accounts_of_address(tx, "ada@example.org"),
    "an account by its slug": lambda tx: find_account(tx, "acme"),
    "a user by an address": lambda tx: find_user(tx.of(_ID), "ada@example.org"),
    "a provider": lambda tx: find_provider(tx.of(_ID), _ID),
    "an attempt at a code": lambda tx: count_attempt(tx, _ID, _ID, _ID),
    "an API token": lambda tx: find_api_caller(tx, _ID, _ID),
    "a client's token": lambda tx: tx.of(_ID).client_tokens.load(_ID),
    "a gateway's token": lambda tx: tx.of(_ID).gateway_tokens.load(_ID),
    "a sign-in link": lambda tx: tx.of(_ID).sign_in_links.load(_ID),
    "a session": lambda tx: tx.of(_ID).portal_sessions.load(_ID),
    "a relay's token": lambda tx: tx.relay_tokens.load(_ID),
    "an identity": lambda tx: tx.of(_ID).external_identities.find(
        tx.of(_ID).external_identities.c.issuer == "i", tx.of(_ID).external_identities.c.idp_id == "s"
    ),
}


@pytest.mark.parametrize("look_up", LOOK_UPS.values(), ids=list(LOOK_UPS))
async def test_goes_by_an_index(
    look_up: Callable[[Transaction], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that SQLAlchemy runs, and those that go straight to the driver."""
    store = await Store.open(None, Environment.of_this_process())
    statements: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        statements.append((arguments[2], arguments[3]))

    def note_look_up(driver: InlineConnection, statement: str, parameters: Sequence[Any]) -> list[Any]:
        statements.append((statement, tuple(parameters)))
        return by_driver(driver, statement, parameters)

    by_driver = InlineConnection.look_up
    try:
        async with store.writing() as transaction:
            event.listen(Engine, "after_cursor_execute", note)
            monkeypatch.setattr(InlineConnection, "look_up", note_look_up)
            try:
                await look_up(transaction)
            finally:
                event.remove(Engine, "after_cursor_execute", note)
                monkeypatch.undo()
            assert statements
            for statement, parameters in statements:
                plan = await transaction._connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
                told = [row[-1] for row in plan]
                assert told
                assert [one for one in told if one.startswith("SCAN") and "CONSTANT" not in one] == []
    finally:
        await store.close()
