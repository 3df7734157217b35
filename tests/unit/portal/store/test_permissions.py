"""Who may do what: every cell of the matrix of portal-domain §4, and that each verb of each repository asks it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from unit.portal.store.whole_account import WholeAccount, fill_account
from wardgate.portal.database.permissions import PERMISSIONS, rights
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.portal.people.tables import Actor
from wardgate.portal.schema.rights import ALL, READ, Action
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.store import AccountTables, NotAllowed, Store, StoreError, Transaction

pytestmark = pytest.mark.slow

ROLES = ("account_admin_user", "api_client", "account_user", "service_account")
NOBODY = UUID(int=7)
NONE: frozenset[Action] = frozenset()
READ_INSERT = READ | {Action.INSERT}
READ_INSERT_UPDATE = READ_INSERT | {Action.UPDATE}

MATRIX = {
    "actors": (ALL, ALL, NONE, NONE),
    "external_identities": (ALL, ALL, NONE, NONE),
    "client_tokens": (ALL, ALL, NONE, NONE),
    "groups": (ALL, ALL, READ, NONE),
    "memberships": (ALL, ALL, READ, READ),
    "policies": (ALL, ALL, READ, READ),
    "resources": (ALL, ALL, READ, READ),
    "sites": (ALL, ALL, READ, READ),
    "static_device_pool_members": (ALL, ALL, READ, READ),
    "devices": (ALL, ALL, READ_INSERT_UPDATE, READ_INSERT_UPDATE),
    "gateway_tokens": (ALL, ALL, NONE, NONE),
    "api_tokens": (ALL, NONE, NONE, NONE),
    "auth_providers": (ALL, READ, NONE, NONE),
    "email_otp_auth_providers": (ALL, READ, NONE, NONE),
    "userpass_auth_providers": (ALL, READ, NONE, NONE),
    "google_auth_providers": (ALL, READ, NONE, NONE),
    "entra_auth_providers": (ALL, READ, NONE, NONE),
    "okta_auth_providers": (ALL, READ, NONE, NONE),
    "oidc_auth_providers": (ALL, READ, NONE, NONE),
    "portal_sessions": (ALL, NONE, NONE, NONE),
    # Ours: an API client looks at second factors and resets them; it sets none up.
    "totp_authenticators": (ALL, READ | {Action.DELETE}, NONE, NONE),
    "passkeys": (ALL, READ | {Action.DELETE}, NONE, NONE),
    "recovery_codes": (ALL, READ | {Action.DELETE}, NONE, NONE),
    "second_factor_attempts": (ALL, READ | {Action.DELETE}, NONE, NONE),
    "second_factor_tries": (ALL, READ | {Action.DELETE}, NONE, NONE),
    "jobs": (READ, NONE, NONE, NONE),
    "policy_authorizations": (ALL, READ_INSERT, READ_INSERT, READ_INSERT),
    "changes": (READ, READ, NONE, NONE),
    "session_logs": (READ, READ, NONE, NONE),
    "flow_logs": (READ, READ, NONE, NONE),
    "api_request_logs": (READ, READ, NONE, NONE),
    # Ours: the API lets its client change the account's settings, and decisions are read like the other logs.
    "accounts": (ALL, READ | {Action.UPDATE}, READ, READ),
    "decisions": (READ, READ, NONE, NONE),
    # Provisional records of sign-ins are nobody's.
    "pending_identities": (NONE, NONE, NONE, NONE),
    "one_time_passcodes": (NONE, NONE, NONE, NONE),
    "sign_in_links": (NONE, NONE, NONE, NONE),
}


@pytest.mark.parametrize("table", MATRIX)
def test_each_actor_type_has_exactly_the_rights_of_the_matrix(table: str) -> None:
    assert tuple(rights(role, table) for role in ROLES) == MATRIX[table]


def test_no_table_has_rights_that_the_matrix_lacks() -> None:
    assert set(PERMISSIONS) <= set(MATRIX)
    assert all(set(cell) == set(ROLES) for cell in PERMISSIONS.values())


async def test_every_verb_of_every_repository_asks(store: Store, account_id: UUID) -> None:
    """With each right taken in turn, exactly the verbs that need it are refused."""
    async with store.writing() as transaction:
        whole = await fill_account(transaction, account_id)
    for role in ROLES:
        async with store.writing() as transaction:
            actor = replace(whole.actor, type=role)
            found = await _refusals(transaction, transaction.on_behalf_of(actor), whole)
        for table, refused in found.items():
            assert refused == ALL - rights(role, table), (role, table)


async def test_what_follows_from_an_allowed_change_is_not_asked(store: Store, account_id: UUID) -> None:
    """An API client may delete an actor, and with it go API tokens and sessions that it could not touch."""
    async with store.writing() as transaction:
        whole = await fill_account(transaction, account_id)
    async with store.writing() as transaction:
        tables = transaction.on_behalf_of(replace(whole.actor, type="api_client"))
        with pytest.raises(NotAllowed):
            await tables.portal_sessions.count()
        assert await tables.actors.delete(whole.actor.id)
    async with store.reading() as transaction:
        assert await transaction.of(account_id).portal_sessions.count() == 0


async def test_the_accounts_own_row_is_read_and_saved_by_those_who_may(
    store: Store, account_id: UUID
) -> None:
    for role in ROLES:
        actor = Actor(id=account_id, account_id=account_id, type=role, name=role)
        async with store.writing() as transaction:
            tables = transaction.on_behalf_of(actor)
            account = await tables.account()
            assert account is not None
            if Action.UPDATE in rights(role, "accounts"):
                assert (await tables.save_account(replace(account, name=role))).name == role
            else:
                with pytest.raises(NotAllowed):
                    await tables.save_account(replace(account, name=role))
            if Action.READ not in rights(role, "changes"):
                with pytest.raises(NotAllowed):
                    await tables.changes(limit=1)
                with pytest.raises(NotAllowed):
                    await newest_decisions(tables, limit=1)


async def test_an_account_saves_no_other_accounts_row(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        account = await transaction.accounts.load(account_id)
        assert account is not None
        with pytest.raises(ValueError, match="another account"):
            await transaction.of(account_id).save_account(replace(account, id=transaction.new_id()))


async def _refusals(
    transaction: Transaction, tables: AccountTables, whole: WholeAccount
) -> dict[str, frozenset[Action]]:
    """Try the verbs of each repository on what is not there; return which actions were refused.

    Two verbs that need the same right are both refused or both let through.
    """
    found = {}
    for row in whole.rows:
        refused, allowed = set(), set()
        for action, verb in _verbs(tables.by_name(row.table), replace(row, id=NOBODY)):
            (refused if await _is_refused(transaction, verb) else allowed).add(action)
        assert not refused & allowed, row.table
        found[row.table] = frozenset(refused)
    return found


def _verbs(repository: Any, absent: TenantRow) -> list[tuple[Action, Callable[[], Awaitable[object]]]]:
    is_nobody = repository.c.id == NOBODY
    return [
        (Action.READ, lambda: repository.load(NOBODY)),
        (Action.READ, repository.count),
        (Action.READ, lambda: repository.load_column(repository.c.id, is_nobody)),
        (Action.READ, lambda: anext(repository.slices(size=1))),
        (Action.INSERT, lambda: repository.insert(absent)),
        (Action.INSERT, lambda: repository.insert_all([absent])),
        (Action.UPDATE, lambda: repository.save(absent)),
        (Action.DELETE, lambda: repository.delete(NOBODY)),
        (Action.DELETE, lambda: repository.delete_where(is_nobody)),
    ]


async def _is_refused(transaction: Transaction, verb: Callable[[], Awaitable[object]]) -> bool:
    try:
        async with transaction.savepoint():
            await verb()
            raise _UndoneError
    except NotAllowed:
        return True
    except (_UndoneError, StoreError, StopAsyncIteration):
        return False


class _UndoneError(Exception):
    """Undoes what was let through: only whether it was is of interest."""
