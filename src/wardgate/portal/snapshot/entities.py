"""Rows as the policy engine knows them: entities, built from a row of the store or from its JSON image in the change feed.

Ids may be `UUID`s or their text; what is stored but cannot be read is left out with a warning, so that it grants nothing.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from wardgate.model.addresses import parse_ip, parse_network
from wardgate.model.conditions import Condition, parse_stored_condition
from wardgate.model.domain import (
    Actor,
    ActorType,
    ClientDevice,
    Group,
    GroupType,
    Membership,
    Policy,
    PoolMember,
    Site,
    SiteManager,
)
from wardgate.model.filters import Filter, PortRange
from wardgate.model.filters import Protocol as FilterProtocol
from wardgate.model.ids import (
    ActorId,
    ClientId,
    DeviceId,
    GroupId,
    MembershipId,
    PolicyId,
    PoolMemberId,
    ResourceId,
    SiteId,
)
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import (
    CidrResource,
    DnsResource,
    DynamicDevicePool,
    InternetResource,
    IpResource,
    IpStack,
    Resource,
    StaticDevicePool,
)
from wardgate.policy.snapshot import Entity

log = logging.getLogger(__name__)

EVERYONE: Final = "Everyone"


def entity_of(table: str, values: Mapping[str, Any]) -> Entity | None:
    """Build what the policy engine knows of a row or of its JSON image; none: it needs nothing of this table or row."""
    match table:
        case "actors":
            return Actor(
                ActorId(_uuid(values["id"])),
                ActorType(values["type"]),
                values["name"],
                values["email"],
                values["is_disabled"],
            )
        case "groups":
            synced = values["idp_id"] is not None
            return Group(
                GroupId(_uuid(values["id"])),
                values["name"],
                GroupType(values["type"]),
                is_everyone=values["type"] == "managed" and not synced and values["name"] == EVERYONE,
                is_synced=synced,
            )
        case "memberships":
            return Membership(
                MembershipId(_uuid(values["id"])),
                ActorId(_uuid(values["actor_id"])),
                GroupId(_uuid(values["group_id"])),
            )
        case "sites":
            return Site(SiteId(_uuid(values["id"])), values["name"], SiteManager(values["managed_by"]))
        case "policies":
            return _policy_of(values)
        case "resources":
            return resource_of(values)
        case "devices" if values["type"] == "client":
            return ClientDevice(
                ClientId(DeviceId(_uuid(values["id"]))),
                values["name"],
                values["ipv4"],
                values["ipv6"],
                values["hostname"],
            )
        case "static_device_pool_members" | "pool_members":
            return PoolMember(
                PoolMemberId(_uuid(values["id"])),
                ResourceId(_uuid(values["resource_id"])),
                ClientId(DeviceId(_uuid(values["device_id"]))),
            )
        case _:
            return None


def _policy_of(values: Mapping[str, Any]) -> Policy | None:
    """Build a policy; none (and a warning) when a condition is of an unknown property: it then grants nothing."""
    try:
        conditions = tuple(_condition(condition) for condition in values["conditions"])
    except (ValueError, KeyError, TypeError):
        log.warning(
            "a stored policy cannot be read and grants nothing", extra={"policy_id": str(values["id"])}
        )
        return None
    return Policy(
        PolicyId(_uuid(values["id"])),
        None if values["group_id"] is None else GroupId(_uuid(values["group_id"])),
        ResourceId(_uuid(values["resource_id"])),
        conditions,
        values["is_disabled"],
        values["description"],
        values["flow_log_uploads_enabled"],
    )


def resource_of(values: Mapping[str, Any]) -> Resource | None:
    """Build a resource; none (and a warning) when what is stored cannot be read, so that nobody is granted it."""
    id_ = ResourceId(_uuid(values["id"]))
    site_id = None if values["site_id"] is None else SiteId(_uuid(values["site_id"]))
    name, described = values["name"], values["address_description"]
    try:
        filters = tuple(_filter(one) for one in values["filters"])
        match values["type"]:
            case "dns":
                pattern = NamePattern.parse(values["address"])
                return DnsResource(
                    id_, name, site_id, pattern, IpStack(values["ip_stack"]), described, filters
                )
            case "cidr":
                return CidrResource(id_, name, site_id, parse_network(values["address"]), described, filters)
            case "ip":
                return IpResource(id_, name, site_id, parse_ip(values["address"]), described, filters)
            case "internet":
                return InternetResource(id_, name, site_id)
            case "static_device_pool":
                return StaticDevicePool(id_, name, filters)
            case "dynamic_device_pool":
                return DynamicDevicePool(id_, name, NamePattern.parse(values["address"]), filters)
            case _:
                return None
    except (ValueError, KeyError, TypeError):
        log.warning(
            "a stored resource cannot be read and is offered to nobody", extra={"resource_id": str(id_)}
        )
        return None


def _filter(stored: Mapping[str, Any]) -> Filter:
    return Filter(
        FilterProtocol(stored["protocol"]), tuple(PortRange.parse(ports) for ports in stored.get("ports", ()))
    )


def _condition(stored: Mapping[str, Any]) -> Condition:
    return parse_stored_condition(stored["property"], stored["operator"], list(stored["values"]))


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
