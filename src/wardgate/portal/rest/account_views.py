"""Accounts and banners as the operator sees them."""

from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.installation.tables import Account as AccountRow
from wardgate.portal.installation.tables import Banner as BannerRow
from wardgate.portal.limits import limits_of
from wardgate.portal.rest.views import Instant, ViewFields


class FeaturesView(BaseModel):
    policy_conditions: bool
    internet_resource: bool


class LimitsView(BaseModel):
    """How many there may be, and at what rate; null: no limit, or the installation's own rate."""

    users_count: int | None
    monthly_active_users_count: int | None
    service_accounts_count: int | None
    sites_count: int | None
    account_admin_users_count: int | None
    api_clients_count: int | None
    api_tokens_per_client_count: int | None
    api_refill_rate: int | None
    api_capacity: int | None
    ingestion_refill_rate: int | None
    ingestion_capacity: int | None


class OperatedAccountView(BaseModel):
    """An account, for the operator."""

    id: UUID
    name: str
    legal_name: str
    slug: str
    key: str
    features: FeaturesView
    limits: LimitsView
    is_disabled: bool
    disabled_reason: str | None
    scheduled_deletion_at: Instant | None
    lock_enabled_at: Instant | None
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: AccountRow) -> "OperatedAccountView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: AccountRow) -> ViewFields:
        plain = {name: getattr(row, name) for name in OperatedAccountView.model_fields}
        features = {name: bool(row.features.get(name)) for name in FeaturesView.model_fields}
        return plain | {"features": features, "limits": LimitsView(**limits_of(row)).model_dump()}


class NewAccountView(OperatedAccountView):
    """An account that was just made. The link signs its first admin in, once; link and token are shown once."""

    admin_id: UUID
    sign_in_link: str
    api_token: str


class DeletionView(BaseModel):
    """What is decided about the end of an account."""

    slug: str
    is_disabled: bool
    scheduled_deletion_at: Instant | None

    @classmethod
    def of(cls, row: AccountRow) -> "DeletionView":
        return cls(
            slug=row.slug, is_disabled=row.is_disabled, scheduled_deletion_at=row.scheduled_deletion_at
        )


class BannerView(BaseModel):
    """A message that every page shows."""

    id: UUID
    message: str
    color: str
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: BannerRow) -> "BannerView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: BannerRow) -> ViewFields:
        return {name: getattr(row, name) for name in BannerView.model_fields}
