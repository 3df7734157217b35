"""Sites and the tokens of their gateways (portal-domain §3.7, §3.9)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, Index

from wardgate.model import domain
from wardgate.portal.schema.columns import Editable, Words, one_of, token_secret
from wardgate.portal.schema.declaration import (
    AllConnections,
    InSnapshot,
    Named,
    Reference,
    listing_index,
    tenant_table,
)
from wardgate.portal.schema.rights import MANAGERS, READABLE_BY_ALL
from wardgate.portal.schema.row import TenantRow

MAX_NAME_CHARS: Final = 64
MAX_THRESHOLD: Final = 1000  # ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Site(TenantRow):
    table: ClassVar[str] = "sites"
    name: Annotated[str, Words(1, MAX_NAME_CHARS), Editable()]
    managed_by: Annotated[str, Words(0, 16)] = "account"
    health_threshold: Annotated[int, Editable(1, MAX_THRESHOLD)] = 1


SITES: Final = tenant_table(
    Site,
    one_of("managed_by", "account", "system"),
    CheckConstraint("health_threshold >= 1", name="sites_health_threshold_check"),
    rights=READABLE_BY_ALL,
    heard_by=AllConnections(),
    snapshot=InSnapshot.of(domain.Site),
)
Index(
    "sites_account_id_name_managed_by_index",
    SITES.c.account_id,
    SITES.c.name,
    SITES.c.managed_by,
    unique=True,
)
Index(
    "sites_account_id_system_index",
    SITES.c.account_id,
    unique=True,
    sqlite_where=SITES.c.managed_by == "system",
    postgresql_where=SITES.c.managed_by == "system",
)
listing_index(SITES)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayToken(TenantRow):
    """Exactly one of `site_id` (any number of gateways) and `device_id` (one gateway) is set."""

    table: ClassVar[str] = "gateway_tokens"
    secret_salt: str
    secret_hash: str
    site_id: UUID | None = None
    device_id: UUID | None = None
    rotated_at: datetime | None = None


GATEWAY_TOKENS: Final = tenant_table(
    GatewayToken,
    Reference("site_id", "sites", is_optional=True),
    Reference("device_id", "devices", is_optional=True),
    *token_secret(),
    CheckConstraint("(site_id IS NULL) <> (device_id IS NULL)", name="gateway_tokens_owner_check"),
    rights=MANAGERS,
    heard_by=Named(("id",)),
)
Index("gateway_tokens_account_id_site_id_index", GATEWAY_TOKENS.c.account_id, GATEWAY_TOKENS.c.site_id)
Index("gateway_tokens_account_id_device_id_index", GATEWAY_TOKENS.c.account_id, GATEWAY_TOKENS.c.device_id)
# A gateway of its own token has one that counts, and beside it at most one that was rotated out.
for _state, _condition in (
    ("active", GATEWAY_TOKENS.c.rotated_at.is_(None)),
    ("rotated", GATEWAY_TOKENS.c.rotated_at.is_not(None)),
):
    Index(
        f"gateway_tokens_account_id_device_id_{_state}_index",
        GATEWAY_TOKENS.c.account_id,
        GATEWAY_TOKENS.c.device_id,
        unique=True,
        sqlite_where=_condition,
        postgresql_where=_condition,
    )
