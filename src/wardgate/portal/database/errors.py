"""What can go wrong in the store.

StoreError
├── Conflict            a unique index refused the row
├── DanglingReference   a row names another that does not exist in this account
├── Unstorable          a value does not fit its column
├── NotAllowed          the actor's type lacks the right
├── Unusable            the database cannot be opened, read or written: the operator's concern
└── AddressesExhausted  the account has no tunnel address left
"""


class StoreError(Exception):
    """Base of the package."""


class Conflict(StoreError):
    """A unique index refused the row.

    Attributes:
        table: of the row.
        fields: the columns that must be unique together, without the account.
    """

    def __init__(self, table: str, fields: tuple[str, ...]) -> None:
        super().__init__(f"{table}: {', '.join(fields)} already taken")
        self.table = table
        self.fields = fields


class DanglingReference(StoreError):
    """The row names another that is not in this account (any more), or one that still names it would be left behind."""


class Unstorable(StoreError):
    """A value does not fit its column: text too long or ill-formed, a number out of range.

    Attributes:
        table, field: where; empty for a value in a condition.
    """

    def __init__(self, table: str, field: str, reason: str) -> None:
        super().__init__(f"{table}.{field} {reason}" if field else reason)
        self.table = table
        self.field = field


class NotAllowed(StoreError):
    """Actors of this type may not do this (portal-domain §4).

    Attributes:
        role: the type of the actor.
        action: read, insert, update, delete.
        table: what it was to be done to.
    """

    def __init__(self, role: str, action: str, table: str) -> None:
        super().__init__(f"{role}: may not {action} {table}")
        self.role = role
        self.action = action
        self.table = table


class Unusable(StoreError):
    """The database is out of reach, too old, missing, not ours, damaged, locked away or full; the message
    says which.
    """


class AddressesExhausted(StoreError):
    """All 2,097,150 tunnel addresses of a family are taken in this account."""
