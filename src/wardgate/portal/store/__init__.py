"""What the portal knows: the domains' tables and repositories, over the `database`."""

from wardgate.portal.database.base_store import UNAVAILABLE
from wardgate.portal.database.errors import (
    AddressesExhausted,
    Conflict,
    DanglingReference,
    NotAllowed,
    StoreError,
    Unstorable,
    Unusable,
)
from wardgate.portal.database.feed import Feed
from wardgate.portal.database.location import Database, PostgresServer, SqliteFile, parse_database_url
from wardgate.portal.database.repositories import INSTALLATION, Repository
from wardgate.portal.store.account_tables import AccountTables
from wardgate.portal.store.transaction import Store, Transaction

__all__ = [
    "INSTALLATION",
    "UNAVAILABLE",
    "AccountTables",
    "AddressesExhausted",
    "Conflict",
    "DanglingReference",
    "Database",
    "Feed",
    "NotAllowed",
    "PostgresServer",
    "Repository",
    "SqliteFile",
    "Store",
    "StoreError",
    "Transaction",
    "Unstorable",
    "Unusable",
    "parse_database_url",
]
