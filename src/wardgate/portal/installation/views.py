"""Accounts, relays, jobs and health, as the REST API represents them (rest-api §8)."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.account_config import SECOND_FACTOR_FOR, AccountConfig, UpstreamDns
from wardgate.portal.installation.tables import Account as AccountRow
from wardgate.portal.limits import limits_of
from wardgate.portal.rest.views import Instant, NewTokenView, RowView, ViewFields, one_of_words

JobState = Annotated[str, one_of_words("available", "executing", "completed", "discarded")]

DnsType = Annotated[str, one_of_words("system", "secure", "custom")]

DohProvider = Annotated[str, one_of_words("google", "opendns", "cloudflare", "quad9")]

SecondFactorFor = Annotated[str, one_of_words(*SECOND_FACTOR_FOR)]


class Limit(BaseModel):
    used: int
    available: int
    total: int


class AccountView(BaseModel):
    id: UUID
    slug: str
    key: str
    name: str
    legal_name: str
    limits: dict[str, Limit]


class DnsAddressView(BaseModel):
    address: str


class UpstreamDnsView(BaseModel):
    type: DnsType = "system"
    doh_provider: DohProvider = "google"
    addresses: list[DnsAddressView] = []

    @classmethod
    def of(cls, dns: UpstreamDns) -> "UpstreamDnsView":
        addresses = [DnsAddressView(address=address) for address in dns.addresses]
        return cls(type=dns.type, doh_provider=dns.doh_provider, addresses=addresses)


class AccountSettingsView(BaseModel):
    name: str
    legal_name: str
    slug: str
    key: str
    search_domain: str | None
    clients_upstream_dns: UpstreamDnsView
    outdated_gateway_notifications: bool
    second_factor_for: SecondFactorFor
    scheduled_deletion_at: Instant | None
    updated_at: Instant

    @classmethod
    def of(cls, row: AccountRow) -> "AccountSettingsView":
        config = AccountConfig.parse(row.config)
        return cls(
            name=row.name,
            legal_name=row.legal_name,
            slug=row.slug,
            key=row.key,
            search_domain=config.search_domain,
            clients_upstream_dns=UpstreamDnsView.of(config.upstream_dns),
            outdated_gateway_notifications=config.outdated_gateway_letter.is_enabled,
            second_factor_for=config.second_factor_for,
            scheduled_deletion_at=row.scheduled_deletion_at,
            updated_at=row.updated_at,
        )


class NewRelayTokenView(NewTokenView):
    name: str


class RelayTokenView(RowView):
    id: UUID
    name: str
    inserted_at: Instant


class IpDatabaseView(BaseModel):
    """The operator's IP database: when the one in use was built (null: none is in use), and why the file
    cannot be used (null: it is).
    """

    built_at: Instant | None
    error: str | None


class HealthView(BaseModel):
    """The process that answers: what it serves, and what it has counted since its start."""

    version: str
    database: str
    now: Instant
    accounts: int
    clients_online: int
    gateways_online: int
    relays_online: int
    geoip_database: IpDatabaseView | None
    mail: str
    flow_logs: Literal["on", "off", "unreachable"]
    jobs: dict[str, int]
    counters: dict[str, int]


class JobView(RowView):
    """A piece of background work of the installation."""

    id: UUID
    kind: str
    unique_key: str | None
    state: JobState
    attempt: int
    max_attempts: int
    run_at: Instant
    lease_expires_at: Instant | None
    last_error: str | None
    finished_at: Instant | None
    inserted_at: Instant
    updated_at: Instant


class RelayView(BaseModel):
    """A connected relay; nothing of it is stored."""

    id: UUID
    name: str | None
    ipv4: str | None
    ipv6: str | None
    port: int
    version: str | None
    user_agent: str
    connected_at: str


class FeaturesView(BaseModel):
    policy_conditions: bool
    internet_resource: bool


class LimitsView(BaseModel):
    """How many there may be, and at what rate; null means no limit, or the installation's own rate."""

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


class OperatedAccountView(RowView):
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
    def fields_of(cls, row: AccountRow) -> ViewFields:
        features = {name: bool(row.features.get(name)) for name in FeaturesView.model_fields}
        return super().fields_of(row) | {
            "features": features,
            "limits": LimitsView(**limits_of(row)).model_dump(),
        }


class NewAccountView(OperatedAccountView):
    """An account that was just made. The link signs its first admin in, once; link and token are shown once."""

    admin_id: UUID
    sign_in_link: str
    api_token: str


class DeletionView(RowView):
    """Whether and when an account is to be deleted."""

    slug: str
    is_disabled: bool
    scheduled_deletion_at: Instant | None


class BannerView(RowView):
    """A message that every page shows."""

    id: UUID
    message: str
    color: str
    inserted_at: Instant
    updated_at: Instant
