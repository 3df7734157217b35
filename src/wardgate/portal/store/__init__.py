"""What the portal knows: schema, repositories, transactions, change feed."""

from wardgate.portal.store.account_tables import AccountTables
from wardgate.portal.store.database import UNAVAILABLE, Store
from wardgate.portal.store.errors import (
    AddressesExhausted,
    Conflict,
    DanglingReference,
    NotAllowed,
    StoreError,
    Unstorable,
    Unusable,
)
from wardgate.portal.store.feed import Feed
from wardgate.portal.store.location import Database, PostgresServer, SqliteFile, parse_database_url
from wardgate.portal.store.repositories import INSTALLATION, Repository
from wardgate.portal.store.transaction import Transaction

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
