"""Rows as the policy engine knows them: entities.

Of a row only the columns are read that its table's declaration names (`snapshot`). Where an entity's fields
are columns by the same names, it is converted as a whole. What is stored but cannot be read is left out with
a warning, so that it grants nothing.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from wardgate.model.addresses import parse_ip, parse_network
from wardgate.model.conditions import Condition, parse_stored_condition
from wardgate.model.domain import (
    Actor,
    ClientDevice,
    Group,
    GroupType,
    Membership,
    Policy,
    PoolMember,
    Site,
)
from wardgate.model.filters import Filter, PortRange
from wardgate.model.filters import Protocol as FilterProtocol
from wardgate.model.ids import (
    GroupId,
    PolicyId,
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
from wardgate.portal.access import tables as access
from wardgate.portal.devices import tables as devices
from wardgate.portal.people import tables as people
from wardgate.portal.sites import tables as sites

log = logging.getLogger(__name__)

EVERYONE: Final = "Everyone"

_EntityT = TypeVar("_EntityT")


def entity_of(row: object) -> Entity | None:
    """Build what the policy engine knows of a row; None if it needs nothing of this table or row."""
    match row:
        case people.Actor():
            return _same_fields(row, Actor)
        case people.Group():
            synced = row.idp_id is not None
            return Group(
                GroupId(row.id),
                row.name,
                GroupType(row.type),
                is_everyone=row.type == "managed" and not synced and row.name == EVERYONE,
                is_synced=synced,
            )
        case people.Membership():
            return _same_fields(row, Membership)
        case sites.Site():
            return _same_fields(row, Site)
        case access.Policy():
            return _policy_of(row)
        case access.Resource():
            return resource_of(row)
        case devices.Device() if row.type == "client":
            return _same_fields(row, ClientDevice)
        case devices.StaticDevicePoolMember():
            return _same_fields(row, PoolMember)
        case _:
            return None


def _same_fields(row: object, entity: type[_EntityT]) -> _EntityT:
    """Build an entity whose fields are the columns that have their names."""
    return msgspec.convert(row, entity, from_attributes=True)


def _policy_of(row: access.Policy) -> Policy | None:
    """Build a policy; None, with a warning, if it cannot be read: it then grants nothing."""
    try:
        conditions = tuple(_condition(condition) for condition in row.conditions)
    except (ValueError, KeyError, TypeError):
        log.warning("a stored policy cannot be read and grants nothing", extra={"policy_id": str(row.id)})
        return None
    return Policy(
        PolicyId(row.id),
        None if row.group_id is None else GroupId(row.group_id),
        ResourceId(row.resource_id),
        conditions,
        row.is_disabled,
        row.description,
        row.flow_log_uploads_enabled,
    )


def resource_of(row: access.Resource) -> Resource | None:
    """Build a resource; None, with a warning, if it cannot be read: nobody is then granted it."""
    id_ = ResourceId(row.id)
    site_id = None if row.site_id is None else SiteId(row.site_id)
    name, described = row.name, row.address_description
    try:
        filters = tuple(_filter(one) for one in row.filters)
        match row:
            case access.Resource(type="dns", address=str(address), ip_stack=str(ip_stack)):
                pattern = NamePattern.parse(address)
                return DnsResource(id_, name, site_id, pattern, IpStack(ip_stack), described, filters)
            case access.Resource(type="cidr", address=str(address)):
                return CidrResource(id_, name, site_id, parse_network(address), described, filters)
            case access.Resource(type="ip", address=str(address)):
                return IpResource(id_, name, site_id, parse_ip(address), described, filters)
            case access.Resource(type="internet"):
                return InternetResource(id_, name, site_id)
            case access.Resource(type="static_device_pool"):
                return StaticDevicePool(id_, name, filters)
            case access.Resource(type="dynamic_device_pool", address=str(address)):
                return DynamicDevicePool(id_, name, NamePattern.parse(address), filters)
            case _:
                raise ValueError(row.type)
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
