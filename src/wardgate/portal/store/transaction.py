"""Transactions and their store, with what the domains keep in it."""

from functools import cached_property
from uuid import UUID

from wardgate.portal.database.base_store import BaseStore
from wardgate.portal.database.repositories import InstallationRepository
from wardgate.portal.database.transaction import BaseTransaction
from wardgate.portal.installation.repositories import AccountRepository
from wardgate.portal.installation.tables import (
    BANNERS,
    OPERATOR_LINKS,
    OPERATOR_SESSIONS,
    OPERATOR_TOKENS,
    RELAY_TOKENS,
    Banner,
    OperatorLink,
    OperatorSession,
    OperatorToken,
    RelayToken,
)
from wardgate.portal.people.tables import Actor
from wardgate.portal.store.account_tables import AccountTables


class Transaction(BaseTransaction):
    """One open transaction. `of(account_id)` has an account's tables, the attributes what belongs to no account."""

    @cached_property
    def accounts(self) -> AccountRepository:
        return AccountRepository(self)

    @cached_property
    def relay_tokens(self) -> InstallationRepository[RelayToken]:
        return InstallationRepository(self, RELAY_TOKENS)

    @cached_property
    def operator_tokens(self) -> InstallationRepository[OperatorToken]:
        return InstallationRepository(self, OPERATOR_TOKENS)

    @cached_property
    def operator_sessions(self) -> InstallationRepository[OperatorSession]:
        return InstallationRepository(self, OPERATOR_SESSIONS)

    @cached_property
    def operator_links(self) -> InstallationRepository[OperatorLink]:
        return InstallationRepository(self, OPERATOR_LINKS)

    @cached_property
    def banners(self) -> InstallationRepository[Banner]:
        return InstallationRepository(self, BANNERS)

    def of(self, account_id: UUID) -> AccountTables:
        """Return the tables of one account for the system's own work, which may do everything."""
        return AccountTables(self, account_id, None)

    def on_behalf_of(self, actor: Actor) -> AccountTables:
        """Return the tables of an actor's account, for what actors of its type may do (`permissions`).

        Raises:
            NotAllowed: from the verbs, when it may not.
        """
        return AccountTables(self, actor.account_id, actor.type)


class Store(BaseStore[Transaction]):
    """The portal's store."""

    transaction_class = Transaction
