"""Who is in an account: actors, their external identities, groups (portal-domain §3.2 to §3.4)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, String, func

from wardgate.model import domain
from wardgate.portal.schema.columns import Editable, Words, one_of, profile, secret
from wardgate.portal.schema.declaration import (
    AllConnections,
    InSnapshot,
    Named,
    Reference,
    Removal,
    listing_index,
    names_index,
    tenant_table,
)
from wardgate.portal.schema.rights import ALL, MANAGERS, NONE, READ, READABLE_BY_ALL, rights_of
from wardgate.portal.schema.row import TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor(TenantRow):
    """Who can sign in or hold tokens (§3.2): account_user, account_admin_user, service_account, api_client.

    `password_hash` is argon2 and secret; only the provider of type userpass reads it.
    """

    table: ClassVar[str] = "actors"
    type: Annotated[str, Words(0, 32)]
    name: Annotated[str, Words(1, 255), Editable()]
    email: Annotated[str | None, Words(0, 160)] = None
    password_hash: str | None = None
    allow_email_otp_sign_in: Annotated[bool, Editable()] = False
    preferences: dict[str, Any] = field(default_factory=dict)
    is_disabled: bool = False

    @property
    def address(self) -> str:
        """What the e-mail address means; an edit of nothing else is no change of it (rest-api §8.2)."""
        return (self.email or "").strip().lower()


def _removed_when_an_actor_loses_access(before: Actor, after: Actor) -> Iterator[Removal]:
    disabled = after.is_disabled and not before.is_disabled
    has_other_password = after.password_hash != before.password_hash
    if disabled:
        yield Removal("client_tokens", {"actor_id": after.id})
    if disabled or has_other_password or (before.type == "account_admin_user" and after.type != before.type):
        yield Removal("portal_sessions", {"actor_id": after.id})
        yield Removal("sign_in_links", {"actor_id": after.id})
    if before.address != after.address:
        yield Removal("external_identities", {"actor_id": after.id})


ACTORS: Final = tenant_table(
    Actor,
    secret(Column("password_hash", String(255))),
    one_of("type", "account_user", "account_admin_user", "service_account", "api_client"),
    CheckConstraint(
        "(type IN ('account_user', 'account_admin_user')) = (email IS NOT NULL)",
        name="actors_email_matches_type_check",
    ),
    rights=MANAGERS,
    heard_by=Named(("id",)),
    snapshot=InSnapshot.of(domain.Actor),
    removes_on_update=_removed_when_an_actor_loses_access,
)
Index("actors_account_id_email_index", ACTORS.c.account_id, func.lower(ACTORS.c.email), unique=True)
Index(
    "actors_email_index", func.lower(ACTORS.c.email)
)  # a stranger asks in which accounts an address is known
listing_index(ACTORS)
names_index(ACTORS, ACTORS.c.name, ACTORS.c.email, ACTORS.c.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalIdentity(TenantRow):
    """An actor's record at an identity provider (portal-domain §3.3), known there by `idp_id`; one an actor
    and issuer.
    """

    table: ClassVar[str] = "external_identities"
    actor_id: UUID
    issuer: Annotated[str, Words(1, 2048)]
    idp_id: Annotated[str, Words(1, 255)]
    email: Annotated[str | None, Words(0, 255)] = None
    name: Annotated[str | None, Words(0, 255)] = None
    given_name: str | None = None
    family_name: str | None = None
    middle_name: str | None = None
    nickname: str | None = None
    preferred_username: str | None = None
    profile: str | None = None
    picture: str | None = None
    firezone_avatar_url: Annotated[str | None, Words(0, 2048)] = None


EXTERNAL_IDENTITIES: Final = tenant_table(
    ExternalIdentity,
    Reference("actor_id", "actors"),
    *profile(),
    rights=MANAGERS,
)
Index(
    "external_identities_account_id_idp_id_issuer_index",
    EXTERNAL_IDENTITIES.c.account_id,
    EXTERNAL_IDENTITIES.c.idp_id,
    EXTERNAL_IDENTITIES.c.issuer,
    unique=True,
)
Index(
    "external_identities_account_id_actor_id_issuer_index",
    EXTERNAL_IDENTITIES.c.account_id,
    EXTERNAL_IDENTITIES.c.actor_id,
    EXTERNAL_IDENTITIES.c.issuer,
    unique=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(TenantRow):
    """A set of actors (§3.4). Everyone: `type` managed, no `idp_id`, and no membership rows."""

    table: ClassVar[str] = "groups"
    name: Annotated[str, Words(1, 255), Editable()]
    type: Annotated[str, Words(0, 16)] = "static"
    entity_type: Annotated[str, Words(0, 16)] = "group"
    idp_id: Annotated[str | None, Words(0, 255)] = None
    email: Annotated[str | None, Words(0, 255)] = None


GROUPS: Final = tenant_table(
    Group,
    one_of("type", "static", "managed"),
    one_of("entity_type", "group", "org_unit"),
    rights=rights_of(admin=ALL, api_client=ALL, user=READ, service_account=NONE),
    heard_by=AllConnections(),
    snapshot=InSnapshot(("type", "name", "idp_id")),
)
Index(
    "groups_account_id_name_index",
    GROUPS.c.account_id,
    GROUPS.c.name,
    unique=True,
    sqlite_where=GROUPS.c.idp_id.is_(None),
    postgresql_where=GROUPS.c.idp_id.is_(None),
)
Index("groups_account_id_idp_id_index", GROUPS.c.account_id, GROUPS.c.idp_id, unique=True)
listing_index(GROUPS)
names_index(GROUPS, GROUPS.c.type, GROUPS.c.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(TenantRow):
    table: ClassVar[str] = "memberships"
    actor_id: UUID
    group_id: UUID


MEMBERSHIPS: Final = tenant_table(
    Membership,
    Reference("actor_id", "actors"),
    Reference("group_id", "groups"),
    rights=READABLE_BY_ALL,
    heard_by=Named(("actor_id",)),
    snapshot=InSnapshot.of(domain.Membership, slice=1000),
)
Index(
    "memberships_account_id_actor_id_group_id_index",
    MEMBERSHIPS.c.account_id,
    MEMBERSHIPS.c.actor_id,
    MEMBERSHIPS.c.group_id,
    unique=True,
)
listing_index(MEMBERSHIPS, "group_id")
