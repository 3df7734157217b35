"""Objects as the REST API represents them (rest-api §8), and the envelopes around them (§3)."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from fastapi import Response
from pydantic import (
    BaseModel,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from wardgate.model.conditions import Operator, Property
from wardgate.portal.access.tables import Policy as PolicyRow
from wardgate.portal.access.tables import Resource as ResourceRow
from wardgate.portal.account_config import AccountConfig, UpstreamDns
from wardgate.portal.devices.tables import Device as DeviceRow
from wardgate.portal.installation.tables import Account as AccountRow
from wardgate.portal.installation.tables import Job as JobRow
from wardgate.portal.installation.tables import RelayToken as RelayTokenRow
from wardgate.portal.people.tables import Actor as ActorRow
from wardgate.portal.people.tables import Group as GroupRow
from wardgate.portal.rest.pages import Page
from wardgate.portal.schema.row import Row
from wardgate.portal.sign_in.tables import ClientToken as ClientTokenRow
from wardgate.portal.sites.tables import Site as SiteRow

T = TypeVar("T")
_RowT = TypeVar("_RowT", bound=Row)


def instant_text(instant: datetime) -> str:
    """ISO 8601, UTC, always with microseconds."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Instant = Annotated[
    datetime,
    PlainSerializer(instant_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _one_of(*words: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(words)})


ActorType = Annotated[str, _one_of("account_user", "account_admin_user", "service_account", "api_client")]
EntityType = Annotated[str, _one_of("group", "org_unit")]
ResourceType = Annotated[
    str, _one_of("dns", "ip", "cidr", "internet", "static_device_pool", "dynamic_device_pool")
]
IpStack = Annotated[str, _one_of("dual", "ipv4_only", "ipv6_only")]
FilterProtocol = Annotated[str, _one_of("tcp", "udp", "icmp")]
ConditionProperty = Annotated[str, _one_of(*(one.value for one in Property))]
ConditionOperator = Annotated[str, _one_of(*(one.value for one in Operator))]
JobState = Annotated[str, _one_of("available", "executing", "completed", "discarded")]
DnsType = Annotated[str, _one_of("system", "secure", "custom")]
DohProvider = Annotated[str, _one_of("google", "opendns", "cloudflare", "quad9")]
ProviderContext = Annotated[str, _one_of("clients_and_portal", "clients_only", "portal_only")]
EmailClaim = Annotated[str, _one_of("email", "upn", "preferred_username")]
EmailVerification = Annotated[str, _one_of("none", "claim", "proof")]
"""Enumerated values of stored objects; the store's constraints enforce them."""


class Data(BaseModel, Generic[T]):
    data: T


class Metadata(BaseModel):
    count: int
    limit: int
    next_page: str | None
    prev_page: str | None


class ListOf(BaseModel, Generic[T]):
    data: list[T]
    metadata: Metadata


ViewFields = dict[str, Any]
"""The fields of an object by name, as its view declares them: ids and instants as such, nested objects as dictionaries."""


def list_response(page: Page[_RowT], fields_of: Callable[[_RowT], ViewFields]) -> Response:
    """Return a response with a page in its envelope.

    It has the same content as `ListOf` the views of the rows, but is encoded without building them: for 100 objects that saves a tenth of
    the call. Headers that a handler sets on the framework's response are not added to it.
    """
    metadata = {
        "count": page.count,
        "limit": page.limit,
        "next_page": page.next_page,
        "prev_page": page.prev_page,
    }
    data = [_with_instants_as_text(fields_of(row)) for row in page.rows]
    body = msgspec.json.encode({"data": data, "metadata": metadata})
    return Response(body, media_type="application/json")


def _with_instants_as_text(fields: ViewFields) -> ViewFields:
    return {
        name: instant_text(value) if isinstance(value, datetime) else value for name, value in fields.items()
    }


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
            scheduled_deletion_at=row.scheduled_deletion_at,
            updated_at=row.updated_at,
        )


class ActorView(BaseModel):
    id: UUID
    name: str
    type: ActorType
    email: str | None
    allow_email_otp_sign_in: bool
    is_disabled: bool
    last_seen_at: Instant | None
    created_by_directory_id: UUID | None
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: ActorRow) -> "ActorView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: ActorRow) -> ViewFields:
        return {
            "id": row.id,
            "name": row.name,
            "type": row.type,
            "email": row.email,
            "allow_email_otp_sign_in": row.allow_email_otp_sign_in,
            "is_disabled": row.is_disabled,
            "last_seen_at": None,
            "created_by_directory_id": None,
            "inserted_at": row.inserted_at,
            "updated_at": row.updated_at,
        }


class ClientTokenView(BaseModel):
    id: UUID
    actor_id: UUID
    expires_at: Instant
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: ClientTokenRow) -> "ClientTokenView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: ClientTokenRow) -> ViewFields:
        return {
            "id": row.id,
            "actor_id": row.actor_id,
            "expires_at": row.expires_at,
            "inserted_at": row.inserted_at,
            "updated_at": row.updated_at,
        }


class NewClientTokenView(ClientTokenView):
    token: str


class NewTokenView(BaseModel):
    id: UUID
    token: str


class NewRelayTokenView(NewTokenView):
    name: str


class RelayTokenView(BaseModel):
    id: UUID
    name: str
    inserted_at: Instant

    @classmethod
    def of(cls, row: RelayTokenRow) -> "RelayTokenView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: RelayTokenRow) -> ViewFields:
        return {"id": row.id, "name": row.name, "inserted_at": row.inserted_at}


class IpDatabaseView(BaseModel):
    """The operator's IP database: when the one in use was built (null: none is in use), and why the file cannot be used (null: it is)."""

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
    jobs: dict[str, int]
    counters: dict[str, int]


class JobView(BaseModel):
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

    @classmethod
    def fields_of(cls, row: JobRow) -> ViewFields:
        return {name: getattr(row, name) for name in cls.model_fields}


class RelayView(BaseModel):
    """A relay as present: nothing of it is stored."""

    id: UUID
    name: str | None
    ipv4: str | None
    ipv6: str | None
    port: int
    connected_at: str


class DeletedView(BaseModel):
    id: UUID


class DeletedCountView(BaseModel):
    deleted_count: int


class ClientView(BaseModel):
    id: UUID
    firezone_id: str | None
    actor_id: UUID
    name: str
    ipv4: str
    ipv6: str
    online: bool
    device_serial: str | None
    device_uuid: str | None
    identifier_for_vendor: str | None
    firebase_installation_id: str | None
    hostname: str | None
    last_attested_device_serial: str | None = None
    last_attested_device_uuid: str | None = None
    last_attested_mdm_device_id: str | None = None
    last_attested_cert_serial: str | None = None
    last_attested_cert_fingerprint: str | None = None
    last_attested_at: Instant | None = None
    verified_at: Instant | None
    public_key: str | None
    last_seen_at: Instant | None
    last_seen_version: str | None
    last_seen_user_agent: str | None
    last_seen_remote_ip: str | None
    last_seen_remote_ip_location_region: str | None
    last_seen_remote_ip_location_city: str | None
    last_seen_remote_ip_location_lat: float | None
    last_seen_remote_ip_location_lon: float | None
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: DeviceRow, *, online: bool) -> "ClientView":
        return cls(**cls.fields_of(row, online=online))

    @staticmethod
    def fields_of(row: DeviceRow, *, online: bool) -> ViewFields:
        plain = {name: getattr(row, name, None) for name in ClientView.model_fields}
        return plain | {"online": online, "created_at": row.inserted_at}


class GatewayView(BaseModel):
    id: UUID
    name: str
    ipv4: str
    ipv6: str
    online: bool
    public_key: str | None
    gateway_token_id: UUID | None
    rotated_at: Instant | None
    last_seen_at: Instant | None
    last_seen_version: str | None
    last_seen_user_agent: str | None
    last_seen_remote_ip: str | None
    last_seen_remote_ip_location_region: str | None
    last_seen_remote_ip_location_city: str | None
    last_seen_remote_ip_location_lat: float | None
    last_seen_remote_ip_location_lon: float | None

    @classmethod
    def of(cls, row: DeviceRow, *, online: bool, rotated_at: datetime | None, **more: Any) -> "GatewayView":
        return cls(**cls.fields_of(row, online=online, rotated_at=rotated_at), **more)

    @staticmethod
    def fields_of(row: DeviceRow, *, online: bool, rotated_at: datetime | None) -> ViewFields:
        plain = {name: getattr(row, name, None) for name in GatewayView.model_fields}
        return plain | {"online": online, "rotated_at": rotated_at}


class NewGatewayView(GatewayView):
    token: str


class GroupView(BaseModel):
    id: UUID
    name: str
    email: str | None
    entity_type: EntityType
    directory_id: UUID | None
    idp_id: str | None
    synced_at: Instant | None
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: GroupRow) -> "GroupView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: GroupRow) -> ViewFields:
        return {
            "id": row.id,
            "name": row.name,
            "email": row.email,
            "entity_type": row.entity_type,
            "directory_id": None,
            "idp_id": row.idp_id,
            "synced_at": None,
            "inserted_at": row.inserted_at,
            "updated_at": row.updated_at,
        }


class MemberView(BaseModel):
    id: UUID
    name: str
    type: ActorType

    @staticmethod
    def fields_of(row: ActorRow) -> ViewFields:
        return {"id": row.id, "name": row.name, "type": row.type}


class MembersView(BaseModel):
    actor_ids: list[UUID]


class PoolMemberView(BaseModel):
    id: UUID
    name: str
    last_seen_at: Instant | None

    @staticmethod
    def fields_of(row: DeviceRow) -> ViewFields:
        return {"id": row.id, "name": row.name, "last_seen_at": row.last_seen_at}


class PoolMembersView(BaseModel):
    device_ids: list[UUID]


class SiteView(BaseModel):
    id: UUID
    name: str

    @classmethod
    def of(cls, row: SiteRow) -> "SiteView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: SiteRow) -> ViewFields:
        return {"id": row.id, "name": row.name}


class FilterView(BaseModel):
    protocol: FilterProtocol
    ports: list[str]


class ResourceView(BaseModel):
    """`ip_stack` and `site_id` are left out when null."""

    id: UUID
    name: str
    address: str | None
    address_description: str | None
    type: ResourceType
    filters: list[FilterView]
    ip_stack: IpStack | None = None
    site_id: UUID | None = None

    @model_serializer(mode="wrap")
    def _without_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        return {
            name: value
            for name, value in plain.items()
            if value is not None or name not in _LEFT_OUT_WHEN_NULL
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # Documented by its fields: what the serializer returns is only less of the same.
        plain: Any = {name: value for name, value in core_schema.items() if name != "serialization"}
        return handler(plain)

    @classmethod
    def of(cls, row: ResourceRow) -> "ResourceView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: ResourceRow) -> ViewFields:
        fields: ViewFields = {
            "id": row.id,
            "name": row.name,
            "address": row.address,
            "address_description": row.address_description,
            "type": row.type,
            "filters": [{"protocol": one["protocol"], "ports": one.get("ports", [])} for one in row.filters],
        }
        if row.ip_stack is not None:
            fields["ip_stack"] = row.ip_stack
        if row.site_id is not None:
            fields["site_id"] = row.site_id
        return fields


_LEFT_OUT_WHEN_NULL = frozenset({"ip_stack", "site_id"})


class ConditionView(BaseModel):
    property: ConditionProperty
    operator: ConditionOperator
    values: list[str]


class PolicyView(BaseModel):
    id: UUID
    group_id: UUID | None
    resource_id: UUID
    description: str | None
    flow_log_uploads_enabled: bool
    is_disabled: bool
    conditions: list[ConditionView]

    @classmethod
    def of(cls, row: PolicyRow) -> "PolicyView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: PolicyRow) -> ViewFields:
        return {
            "id": row.id,
            "group_id": row.group_id,
            "resource_id": row.resource_id,
            "description": row.description,
            "flow_log_uploads_enabled": row.flow_log_uploads_enabled,
            "is_disabled": row.is_disabled,
            "conditions": [
                {"property": one["property"], "operator": one["operator"], "values": one["values"]}
                for one in row.conditions
            ],
        }
