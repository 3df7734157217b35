"""What an actor may do to a table (portal-domain §4): actions, and the rights of each type of actor."""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Action(Enum):
    READ = "read"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


Rights = frozenset[Action]
RightsByRole = Mapping[str, Rights]
"""By type of actor; who is missing may do nothing."""

ALL: Final[Rights] = frozenset(Action)
READ: Final[Rights] = frozenset({Action.READ})
NONE: Final[Rights] = frozenset()
READ_INSERT: Final[Rights] = frozenset({Action.READ, Action.INSERT})
READ_INSERT_UPDATE: Final[Rights] = frozenset({Action.READ, Action.INSERT, Action.UPDATE})
READ_UPDATE: Final[Rights] = frozenset({Action.READ, Action.UPDATE})


def rights_of(*, admin: Rights, api_client: Rights, user: Rights, service_account: Rights) -> RightsByRole:
    """Name the rights of every type of actor."""
    return {
        "account_admin_user": admin,
        "api_client": api_client,
        "account_user": user,
        "service_account": service_account,
    }


NOBODYS: Final[RightsByRole] = {}
"""Only the system itself reads and writes it: provisional records of sign-ins, one-time links."""

ADMINS: Final = rights_of(admin=ALL, api_client=NONE, user=NONE, service_account=NONE)
MANAGERS: Final = rights_of(admin=ALL, api_client=ALL, user=NONE, service_account=NONE)
READABLE_BY_ALL: Final = rights_of(admin=ALL, api_client=ALL, user=READ, service_account=READ)
LOG_READERS: Final = rights_of(admin=READ, api_client=READ, user=NONE, service_account=NONE)
