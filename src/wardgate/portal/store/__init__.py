"""What the portal knows: schema, repositories, transactions, change feed."""

from wardgate.portal.store.database import Store
from wardgate.portal.store.errors import AddressesExhausted, Conflict, DanglingReference, StoreError, Unusable
from wardgate.portal.store.feed import Feed
from wardgate.portal.store.repositories import INSTALLATION, AccountTables, Repository, Transaction

__all__ = [
    "INSTALLATION",
    "AccountTables",
    "AddressesExhausted",
    "Conflict",
    "DanglingReference",
    "Feed",
    "Repository",
    "Store",
    "StoreError",
    "Transaction",
    "Unusable",
]
