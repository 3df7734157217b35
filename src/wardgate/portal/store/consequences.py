"""What follows from a change to one row: the deletion map (portal-domain §2) and the hooks (§8.4).

Both are carried out by the repositories inside the causing transaction, so that everything that goes is recorded as a change
and readers of the feed only send messages.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Final

from wardgate.portal.store.rows import Account, Actor, Device, Policy, Resource, Row


class OnDelete(Enum):
    DELETE = "delete"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Dependant:
    """A column of another table that names the deleted row."""

    table: str
    column: str
    on_delete: OnDelete = OnDelete.DELETE


DEPENDANTS: Final[dict[str, tuple[Dependant, ...]]] = {
    "actors": (
        Dependant("client_tokens", "actor_id"),
        Dependant("api_tokens", "actor_id"),
        Dependant("portal_sessions", "actor_id"),
        Dependant("sign_in_links", "actor_id"),
        Dependant("memberships", "actor_id"),
        Dependant("devices", "actor_id"),
    ),
    "groups": (Dependant("memberships", "group_id"), Dependant("policies", "group_id", OnDelete.CLEAR)),
    "memberships": (Dependant("policy_authorizations", "membership_id"),),
    "sites": (
        Dependant("resources", "site_id"),
        Dependant("gateway_tokens", "site_id"),
        Dependant("devices", "site_id"),
    ),
    "resources": (
        Dependant("policies", "resource_id"),
        Dependant("policy_authorizations", "resource_id"),
        Dependant("static_device_pool_members", "resource_id"),
    ),
    "policies": (Dependant("policy_authorizations", "policy_id"),),
    "devices": (
        Dependant("policy_authorizations", "initiating_device_id"),
        Dependant("policy_authorizations", "receiving_device_id"),
        Dependant("gateway_tokens", "device_id"),
        Dependant("static_device_pool_members", "device_id"),
    ),
    "client_tokens": (
        Dependant("policy_authorizations", "token_id"),
        Dependant("devices", "client_token_id", OnDelete.CLEAR),
    ),
    "gateway_tokens": (Dependant("devices", "gateway_token_id", OnDelete.CLEAR),),
}

ACCOUNT_TABLES_IN_DELETION_ORDER: Final = (
    "policy_authorizations",
    "static_device_pool_members",
    "gateway_tokens",
    "devices",
    "client_tokens",
    "api_tokens",
    "portal_sessions",
    "sign_in_links",
    "memberships",
    "policies",
    "resources",
    "sites",
    "groups",
    "actors",
)

INTERNAL_TABLES: Final = frozenset({"policy_authorizations", "portal_sessions", "sign_in_links"})
"""Changes of these are for readers of the feed, not for the audit log (§10.1)."""

REDACTED: Final = "[redacted]"
SECRET_COLUMNS: Final = frozenset({"ingest_signing_key", "secret_salt", "secret_hash", "psk_base"})

LATEST_SESSION: Final[dict[str, frozenset[str]]] = {
    "devices": frozenset(
        {field.name for field in fields(Device) if field.name.startswith("last_seen_")}
        | {"public_key", "client_token_id", "gateway_token_id"}
    ),
    "api_tokens": frozenset({"last_seen_user_agent", "last_seen_remote_ip", "last_seen_at"}),
}
"""Columns of the latest use; an update of nothing else is neither audited nor broadcast (§3.8, §18.4)."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Delete the rows of `table` whose `column` is this row's id; `None`: all of the account."""

    table: str
    column: str | None


def consequences_of_update(before: Row, after: Row) -> Iterator[Removal]:
    """Yield what an update removes elsewhere in the account (§8.4), in the order to remove it."""
    match before, after:
        case Account(), Account():
            if after.is_disabled and not before.is_disabled:
                yield Removal("policy_authorizations", None)
                yield Removal("client_tokens", None)
        case Actor(), Actor():
            disabled = after.is_disabled and not before.is_disabled
            if disabled:
                yield Removal("client_tokens", "actor_id")
            if disabled or (before.type == "account_admin_user" and after.type != before.type):
                yield Removal("portal_sessions", "actor_id")
                yield Removal("sign_in_links", "actor_id")
        case Policy(), Policy():
            if (after.is_disabled and not before.is_disabled) or _grants(before) != _grants(after):
                yield Removal("policy_authorizations", "policy_id")
        case Resource(), Resource():
            if _place(before) != _place(after):
                yield Removal("policy_authorizations", "resource_id")
        case Device(), Device():
            if before.verified_at is not None and after.verified_at is None:
                yield Removal("policy_authorizations", "initiating_device_id")
        case _:
            return


def _grants(policy: Policy) -> tuple[object, ...]:
    return policy.conditions, policy.group_id, policy.resource_id, policy.flow_log_uploads_enabled


def _place(resource: Resource) -> tuple[object, ...]:
    return resource.site_id, resource.ip_stack, resource.type, resource.address
