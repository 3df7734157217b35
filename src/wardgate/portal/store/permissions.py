"""Who may do what (portal-domain §4): actor type × action × table. Pure data; the repositories ask before every statement.

`Transaction.on_behalf_of` makes repositories for an actor; those of `Transaction.of` are the system's own and are not asked. What
follows from an allowed change elsewhere (deletion map, hooks) is the system's.

A table that is missing here is nobody's: provisional records of sign-ins, one-time links. One right is ours: an API client may change its
account's settings, because the API offers them.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from wardgate.portal.store.errors import NotAllowed


class Action(Enum):
    READ = "read"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


Rights = frozenset[Action]
ALL: Final[Rights] = frozenset(Action)
READ: Final[Rights] = frozenset({Action.READ})
_NONE: Final[Rights] = frozenset()
_CONNECT: Final[Rights] = frozenset({Action.READ, Action.INSERT, Action.UPDATE})
_GRANT: Final[Rights] = frozenset({Action.READ, Action.INSERT})
_SETTINGS: Final[Rights] = frozenset({Action.READ, Action.UPDATE})


def _row(admin: Rights, api_client: Rights, user: Rights, service: Rights) -> Mapping[str, Rights]:
    return {
        "account_admin_user": admin,
        "api_client": api_client,
        "account_user": user,
        "service_account": service,
    }


_PEOPLE: Final = _row(ALL, ALL, _NONE, _NONE)
_ACCESS: Final = _row(ALL, ALL, READ, READ)
_PROVIDERS: Final = _row(ALL, READ, _NONE, _NONE)
_ADMINS: Final = _row(ALL, _NONE, _NONE, _NONE)
_LOGS: Final = _row(READ, READ, _NONE, _NONE)

PERMISSIONS: Final[Mapping[str, Mapping[str, Rights]]] = {
    "accounts": _row(ALL, _SETTINGS, READ, READ),
    "actors": _PEOPLE,
    "external_identities": _PEOPLE,
    "client_tokens": _PEOPLE,
    "groups": _row(ALL, ALL, READ, _NONE),
    "memberships": _ACCESS,
    "policies": _ACCESS,
    "resources": _ACCESS,
    "sites": _ACCESS,
    "static_device_pool_members": _ACCESS,
    # A client makes its own row when it first connects.
    "devices": _row(ALL, ALL, _CONNECT, _CONNECT),
    "gateway_tokens": _PEOPLE,
    "api_tokens": _ADMINS,
    "auth_providers": _PROVIDERS,
    "email_otp_auth_providers": _PROVIDERS,
    "userpass_auth_providers": _PROVIDERS,
    "google_auth_providers": _PROVIDERS,
    "entra_auth_providers": _PROVIDERS,
    "okta_auth_providers": _PROVIDERS,
    "oidc_auth_providers": _PROVIDERS,
    "portal_sessions": _ADMINS,
    "policy_authorizations": _row(ALL, _GRANT, _GRANT, _GRANT),
    "jobs": _row(READ, _NONE, _NONE, _NONE),
    "changes": _LOGS,
    "session_logs": _LOGS,
    "flow_logs": _LOGS,
    "api_request_logs": _LOGS,
    "decisions": _LOGS,
}


def rights(role: str, table: str) -> Rights:
    """Return what actors of a type may do to a table."""
    return PERMISSIONS.get(table, {}).get(role, _NONE)


def require(role: str | None, action: Action, table: str) -> None:
    """Check an action of an actor of the type `role`; the system (none) may do everything.

    Raises:
        NotAllowed: it may not.
    """
    if role is not None and action not in rights(role, table):
        raise NotAllowed(role, action.value, table)
