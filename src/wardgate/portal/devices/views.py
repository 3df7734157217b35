"""Clients, gateways and members of device pools, as the REST API represents them (rest-api §8)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.devices.tables import Device as DeviceRow
from wardgate.portal.rest.views import Instant, RowView, ViewFields


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


class DrainableGatewayView(GatewayView):
    """A gateway as the paths under `/wardgate/` show it.

    `is_draining`: an administrator drains it, since `draining_since`, or it is about to stop and has said so.
    """

    is_draining: bool
    draining_since: Instant | None

    @staticmethod
    def drainable_fields_of(
        row: DeviceRow, *, online: bool, is_stopping: bool, rotated_at: datetime | None
    ) -> ViewFields:
        return GatewayView.fields_of(row, online=online, rotated_at=rotated_at) | {
            "is_draining": row.draining_since is not None or is_stopping,
            "draining_since": row.draining_since,
        }


class PoolMemberView(RowView):
    id: UUID
    name: str
    last_seen_at: Instant | None


class PoolMembersView(BaseModel):
    device_ids: list[UUID]
