"""What follows from a change to one row: the deletion map (portal-domain §2) and the hooks (§8.4).

Both are carried out by the repositories inside the causing transaction, so that everything that goes is recorded as a change
and readers of the feed only send messages.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final

from wardgate.portal.store.rows import (
    Account,
    Actor,
    ApiToken,
    AuthProviderDetails,
    Device,
    Policy,
    Resource,
    Row,
    StaticDevicePoolMember,
)


class OnDelete(Enum):
    DELETE = "delete"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Dependant:
    """A column of another table that names the deleted row."""

    table: str
    column: str
    on_delete: OnDelete = OnDelete.DELETE


PROVIDER_TABLES: Final = (
    "email_otp_auth_providers",
    "userpass_auth_providers",
    "google_auth_providers",
    "entra_auth_providers",
    "okta_auth_providers",
    "oidc_auth_providers",
)
IDENTITY_PROVIDER_TABLES: Final = PROVIDER_TABLES[2:]
"""Those whose sign-ins rest on an external identity."""

DEPENDANTS: Final[dict[str, tuple[Dependant, ...]]] = {
    "actors": (
        Dependant("pending_identities", "actor_id"),
        Dependant("one_time_passcodes", "actor_id"),
        Dependant("client_tokens", "actor_id"),
        Dependant("api_tokens", "actor_id"),
        Dependant("portal_sessions", "actor_id"),
        Dependant("sign_in_links", "actor_id"),
        Dependant("memberships", "actor_id"),
        Dependant("devices", "actor_id"),
        Dependant("external_identities", "actor_id"),
    ),
    "auth_providers": (
        Dependant("client_tokens", "auth_provider_id"),
        Dependant("portal_sessions", "auth_provider_id"),
        Dependant("pending_identities", "auth_provider_id"),
        *(Dependant(table, "id") for table in PROVIDER_TABLES),
    ),
    "one_time_passcodes": (Dependant("pending_identities", "one_time_passcode_id"),),
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
    "pending_identities",
    "one_time_passcodes",
    "external_identities",
    *PROVIDER_TABLES,
    "auth_providers",
    "memberships",
    "policies",
    "resources",
    "sites",
    "groups",
    "actors",
)

INTERNAL_TABLES: Final = frozenset(
    {"policy_authorizations", "portal_sessions", "sign_in_links", "pending_identities", "auth_providers"}
)
"""Changes of these are for readers of the feed, not for the audit log (§10.1)."""

REDACTED: Final = "[redacted]"
SECRET_COLUMNS: Final = frozenset(
    {
        "ingest_signing_key",
        "secret_salt",
        "secret_hash",
        "psk_base",
        "password_hash",
        "code_hash",
        "client_secret",
    }
)

LATEST_SESSION: Final[dict[str, frozenset[str]]] = {
    "devices": frozenset(
        {field.name for field in fields(Device) if field.name.startswith("last_seen_")}
        | {"public_key", "client_token_id", "gateway_token_id"}
    ),
    "api_tokens": frozenset(field.name for field in fields(ApiToken) if field.name.startswith("last_seen_")),
}
"""Columns of the latest use; an update of nothing else is neither audited nor broadcast (§3.8, §18 note 4)."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Delete the rows of `table` that have these values; none given: all of the account."""

    table: str
    values: dict[str, Any]


def consequences_of_update(before: Row, after: Row) -> Iterator[Removal]:
    """Yield what an update removes elsewhere in the account (§8.4), in the order to remove it."""
    match before, after:
        case Account(), Account():
            if after.is_disabled and not before.is_disabled:
                yield Removal("policy_authorizations", {})
                yield Removal("client_tokens", {})
        case Actor(), Actor():
            disabled = after.is_disabled and not before.is_disabled
            if disabled:
                yield Removal("client_tokens", {"actor_id": after.id})
            if disabled or (before.type == "account_admin_user" and after.type != before.type):
                yield Removal("portal_sessions", {"actor_id": after.id})
                yield Removal("sign_in_links", {"actor_id": after.id})
            if _address(before) != _address(after):
                yield Removal("external_identities", {"actor_id": after.id})
        case AuthProviderDetails(), AuthProviderDetails():
            if after.is_disabled and not before.is_disabled:
                yield Removal("client_tokens", {"auth_provider_id": after.id})
                yield Removal("portal_sessions", {"auth_provider_id": after.id})
        case Policy(), Policy():
            if (after.is_disabled and not before.is_disabled) or _grants(before) != _grants(after):
                yield Removal("policy_authorizations", {"policy_id": after.id})
        case Resource(), Resource():
            if _place(before) != _place(after):
                yield Removal("policy_authorizations", {"resource_id": after.id})
        case Device(), Device():
            if before.verified_at is not None and after.verified_at is None:
                yield Removal("policy_authorizations", {"initiating_device_id": after.id})
            if before.type == "client" and before.hostname != after.hostname:
                # Only a dynamic pool grants access to a client by its host name.
                yield Removal("policy_authorizations", {"receiving_device_id": after.id})
        case _:
            return


def consequences_of_delete(row: Row) -> Iterator[Removal]:
    """Yield what goes with a row beside what names it (`DEPENDANTS`)."""
    match row:
        case StaticDevicePoolMember():
            yield Removal(
                "policy_authorizations",
                {"resource_id": row.resource_id, "receiving_device_id": row.device_id},
            )
        case _:
            return


ROW_BY_ROW: Final = frozenset({*DEPENDANTS, "static_device_pool_members", "external_identities"})
"""Tables whose rows take others with them; rows of all others are deleted many a statement."""


def _address(actor: Actor) -> str:
    """What an e-mail address means; an edit of nothing else is no change of it (rest-api §8.2)."""
    return (actor.email or "").strip().lower()


def _grants(policy: Policy) -> tuple[object, ...]:
    return policy.conditions, policy.group_id, policy.resource_id, policy.flow_log_uploads_enabled


def _place(resource: Resource) -> tuple[object, ...]:
    return resource.site_id, resource.ip_stack, resource.type, resource.address
