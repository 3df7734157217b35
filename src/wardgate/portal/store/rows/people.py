"""Accounts and who is in them (portal-domain §3.1 to §3.4)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from wardgate.portal.store.rows.base import Row, TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Row):
    """One tenant (§3.1). `key` is the short account code; `ingest_signing_key` is secret."""

    table: ClassVar[str] = "accounts"
    name: str
    legal_name: str
    slug: str
    key: str
    ingest_signing_key: bytes
    features: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    is_disabled: bool = False
    disabled_reason: str | None = None
    scheduled_deletion_at: datetime | None = None
    lock_enabled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor(TenantRow):
    """Who can sign in or hold tokens (§3.2): account_user, account_admin_user, service_account, api_client.

    `password_hash` is argon2 and secret; only the provider of type userpass reads it.
    """

    table: ClassVar[str] = "actors"
    type: str
    name: str
    email: str | None = None
    password_hash: str | None = None
    allow_email_otp_sign_in: bool = False
    preferences: dict[str, Any] = field(default_factory=dict)
    is_disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalIdentity(TenantRow):
    """An actor's record at an identity provider (§3.3), known there by `idp_id`; one an actor and issuer."""

    table: ClassVar[str] = "external_identities"
    actor_id: UUID
    issuer: str
    idp_id: str
    email: str | None = None
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    middle_name: str | None = None
    nickname: str | None = None
    preferred_username: str | None = None
    profile: str | None = None
    picture: str | None = None
    firezone_avatar_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(TenantRow):
    """A set of actors (§3.4). Everyone: `type` managed, no `idp_id`, and no membership rows."""

    table: ClassVar[str] = "groups"
    name: str
    type: str = "static"
    entity_type: str = "group"
    idp_id: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(TenantRow):
    table: ClassVar[str] = "memberships"
    actor_id: UUID
    group_id: UUID
